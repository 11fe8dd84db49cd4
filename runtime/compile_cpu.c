/* compile_cpu.c - many points of one kernel through the host's C++ compiler into one shared object.
 *
 * The kernel's source is included once for each point, in a namespace of its own and with the
 * point's macros; the headers it includes come first, once, outside of them. (Alone a point costs
 * the compiler 0.3 s, among thirty 0.05 s.)
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/compile_internal.h"
#include "runtime/hash.h"
#include "runtime/clock.h"

extern char **environ;

#ifndef FASTINFER_CXX
#define FASTINFER_CXX "c++"
#endif
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

#ifdef __SANITIZE_ADDRESS__
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif
enum { BATCH = 32 };

static const char *compiler_name(void) {
    const char *own = getenv("FASTINFER_CXX");
    return own && *own ? own : FASTINFER_CXX;
}

static bool has_f16c(void) {
    static int known = -1;
    if (known < 0) {
        known = 0;
        FILE *file = fopen("/proc/cpuinfo", "r");
        char line[8192];
        while (file && !known && fgets(line, sizeof line, file))
            if (!strncmp(line, "flags", 5)) known = strstr(line, " f16c") != NULL;
        if (file) fclose(file);
    }
    return known;
}

enum status cpu_compiler(const char **command, char *version, size_t bytes) {
    static char known[300];
    *command = compiler_name();
    if (!known[0]) {
        char line[400];
        snprintf(line, sizeof line, "%s --version 2>/dev/null", *command);
        FILE *pipe = popen(line, "r");
        char first[256] = "";
        if (pipe && fgets(first, sizeof first, pipe)) first[strcspn(first, "\n")] = 0;
        if (pipe) pclose(pipe);
        if (!first[0])
            return fail(STATUS_MISSING,
                        "no host C++ compiler: '%s --version' does not run; install g++ or clang++ "
                        "(the CPU device compiles kernels with it), or set FASTINFER_CXX",
                        *command);
        snprintf(known, sizeof known, "%s%s%s", first, has_f16c() ? ", f16c" : "",
                 SANITIZED ? ", sanitizers" : "");
    }
    snprintf(version, bytes, "%s", known);
    return STATUS_OK;
}

/* The #include lines of a kernel's source, which must stand outside the points' namespaces; but not
 * those of its own parts, *.inl, which know the point's macros. */
static void hoist_includes(const char *text, FILE *out) {
    for (const char *line = text; line && *line; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        int length = (int)strcspn(line, "\n");
        bool part = length > 5 && !strncmp(line + length - 5, ".inl\"", 5);
        if (!strncmp(line, "#include", 8) && !part) fprintf(out, "%.*s\n", length, line);
    }
}

static void write_point(const struct unit *unit, int number, FILE *out) {
    char defines[2048], *save = NULL;
    fprintf(out, "#define SIMT_SUFFIX _%d\n", number);
    snprintf(defines, sizeof defines, "%s", unit->defines);
    for (char *word = strtok_r(defines, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        char *equals = strchr(word, '=');
        fprintf(out, "#define %.*s %s\n", (int)(equals - word - 2), word + 2, equals + 1);
    }
    fprintf(out, "namespace point_%d {\n#include \"%s\"\n", number, unit->source);
    for (int i = 0; i < unit->entries; i++) fprintf(out, "SIMT_EXPORT(%s)\n", unit->entry[i]);
    fprintf(out, "}\n#undef SIMT_SUFFIX\n");
    snprintf(defines, sizeof defines, "%s", unit->defines);
    for (char *word = strtok_r(defines, " ", &save); word; word = strtok_r(NULL, " ", &save))
        fprintf(out, "#undef %.*s\n", (int)(strchr(word, '=') - word - 2), word + 2);
}

static enum status run_compiler(const char *const *argv, const char *log) {
    posix_spawn_file_actions_t actions;
    pid_t child;
    int state = -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 2, log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    int error =
        posix_spawnp(&child, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error) return fail(STATUS_MISSING, "%s could not be started: %s", argv[0], strerror(error));
    while (waitpid(child, &state, 0) < 0 && errno == EINTR) {
    }
    return state ? STATUS_COMPILE : STATUS_OK;
}

static void read_log(const char *path, char *out, size_t bytes) {
    FILE *file = fopen(path, "r");
    size_t n = 0;
    char line[1024];
    out[0] = 0;
    while (file && fgets(line, sizeof line, file)) { /* errors first: skip what leads up to them */
        if (!n && !strstr(line, "error")) continue;
        n += (size_t)snprintf(out + n, bytes - n, "%s", line);
        if (n >= bytes) break;
    }
    if (file) fclose(file);
}

static enum status compile_batch(struct unit *units, int count, bool counted, const char *folder) {
    char source[1000], object[1000], log[1000], headers[1024], include[1040], *text;
    const char *command;
    char version[300];
    TRY(cpu_compiler(&command, version, sizeof version));
    TRY(source_folder(headers, sizeof headers));
    TRY(source_read(units[0].source, &text));
    struct hash *hash = hash_new();
    for (int i = 0; i < count; i++) hash_text(hash, units[i].key);
    char name[33];
    hash_end(hash, name);
    snprintf(source, sizeof source, "%s/%s.%ld.cpp", folder, name, (long)getpid());
    snprintf(log, sizeof log, "%s/%s.%ld.log", folder, name, (long)getpid());
    snprintf(object, sizeof object, "%s/%s.so", folder, name);
    char temporary[1100], part[1110];
    snprintf(temporary, sizeof temporary, "%s.%ld.tmp", object, (long)getpid());
    FILE *out = fopen(source, "w");
    if (!out) {
        free(text);
        return fail(STATUS_SYSTEM, "%s: could not be written: %s", source, strerror(errno));
    }
    fprintf(out, "#include \"runtime/simt.h\"\n");
    if (counted) fprintf(out, "#include \"runtime/simt_hooks.h\"\n");
    hoist_includes(text, out);
    for (int i = 0; i < count; i++) write_point(&units[i], i, out);
    free(text);
    fclose(out);
    snprintf(include, sizeof include, "-I%s", headers);
    const char *argv[32] = {command,   "-std=c++17", "-O1",  "-w", "-fPIC",
                            "-shared", include,      source, "-o", temporary};
    int n = 10;
    char near[1040];
    if (units[0].source[0] == '/') {
        snprintf(near, sizeof near, "-I%.*s",
                 (int)(strrchr(units[0].source, '/') - units[0].source), units[0].source);
        argv[n++] = near;
    }
    if (has_f16c()) argv[n++] = "-mf16c";
    if (counted) {
        argv[n++] = "-fsanitize=thread"; /* for its calls at accesses alone, see simt_trace.h */
        argv[n++] = "-c";
    } else if (SANITIZED) {
        argv[n++] = "-g";
        argv[n++] = "-fsanitize=address,undefined";
        argv[n++] = "-fno-sanitize-recover=undefined";
    }
    double start = clock_seconds();
    enum status status = run_compiler(argv, log);
    if (!status && counted) { /* linked without the sanitizer's own library */
        snprintf(part, sizeof part, "%s.o", temporary);
        const char *link[] = {command, "-shared", "-o", temporary, part, NULL};
        if (rename(temporary, part))
            status = fail(STATUS_SYSTEM, "%s: could not be written: %s", part, strerror(errno));
        if (!status) status = run_compiler(link, log);
        unlink(part);
    }
    double ms = (clock_seconds() - start) * 1e3;
    if (!status && rename(temporary, object))
        status = fail(STATUS_SYSTEM, "%s: could not be written: %s", object, strerror(errno));
    for (int i = 0; i < count && (!status || count == 1); i++) {
        struct build *build = units[i].build;
        build->status = status;
        build->compile_ms = ms / count;
        build->registers = build->spill_bytes = build->stack_bytes = build->shared_bytes = -1;
        build->instructions = -1;
        snprintf(build->path, sizeof build->path, "%s", object);
        snprintf(build->suffix, sizeof build->suffix, "_%d", i);
        if (status == STATUS_COMPILE) read_log(log, build->log, sizeof build->log);
    }
    unlink(source), unlink(log), unlink(temporary);
    return status == STATUS_COMPILE && count == 1 ? STATUS_OK : status;
}

/* Halves a batch that does not compile until the points at fault stand alone. */
static enum status compile_or_halve(struct unit *units, int count, bool counted,
                                    const char *folder) {
    enum status status = compile_batch(units, count, counted, folder);
    if (status != STATUS_COMPILE) return status;
    TRY(compile_or_halve(units, count / 2, counted, folder));
    return compile_or_halve(units + count / 2, count - count / 2, counted, folder);
}

enum status cpu_compile_units(struct unit *units, int count, bool counted, const char *folder) {
    for (int first = 0; first < count; first += BATCH)
        TRY(compile_or_halve(units + first, count - first < BATCH ? count - first : BATCH, counted,
                             folder));
    return STATUS_OK;
}
