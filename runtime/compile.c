/* compile.c - cache keys, the cache on disk, and who compiles what. */
#include "runtime/compile_internal.h"

#include <ctype.h>
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/cuda_api.h"
#include "runtime/hash.h"

#if defined(__has_include)
#if __has_include(<cuda_occupancy.h>)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#include <cuda_occupancy.h>
#pragma GCC diagnostic pop
#define HAVE_OCCUPANCY 1
#endif
#endif

extern const struct source program_sources[]; /* generated; ends with a NULL path */

const struct source *source_find(const char *path) {
    for (const struct source *s = program_sources; s->path; s++)
        if (!strcmp(s->path, path)) return s;
    return NULL;
}

static enum status make_folders(const char *path) {
    char copy[1024];
    snprintf(copy, sizeof copy, "%s", path);
    for (char *slash = copy + 1; *slash; slash++) {
        if (*slash != '/') continue;
        *slash = 0;
        if (mkdir(copy, 0777) && errno != EEXIST)
            return fail(STATUS_SYSTEM, "%s: the folder could not be made: %s", copy,
                        strerror(errno));
        *slash = '/';
    }
    if (mkdir(copy, 0777) && errno != EEXIST)
        return fail(STATUS_SYSTEM, "%s: the folder could not be made: %s", copy, strerror(errno));
    return STATUS_OK;
}

enum status cache_folder(char *out, size_t bytes) {
    const char *own = getenv("FASTINFER_CACHE"), *xdg = getenv("XDG_CACHE_HOME"),
               *home = getenv("HOME");
    if (own && *own)
        snprintf(out, bytes, "%s", own);
    else if (xdg && *xdg)
        snprintf(out, bytes, "%s/fastinfer", xdg);
    else
        snprintf(out, bytes, "%s/.cache/fastinfer", home && *home ? home : "/tmp");
    return make_folders(out);
}

enum status file_write(const char *path, const void *data, size_t bytes) {
    char temporary[1100];
    snprintf(temporary, sizeof temporary, "%s.%ld.tmp", path, (long)getpid());
    FILE *file = fopen(temporary, "wb");
    size_t written = file ? fwrite(data, 1, bytes, file) : 0;
    if (!file || (fclose(file) | (written != bytes)) || rename(temporary, path)) {
        int error = errno;
        unlink(temporary);
        return fail(STATUS_SYSTEM, "%s: could not be written: %s", path, strerror(error));
    }
    return STATUS_OK;
}

enum status source_read(const char *path, char **out) {
    const struct source *carried = source_find(path);
    if (carried) {
        *out = malloc(carried->bytes + 1);
        memcpy(*out, carried->text, carried->bytes);
        (*out)[carried->bytes] = 0;
        return STATUS_OK;
    }
    FILE *file = fopen(path, "rb");
    if (!file) return fail(STATUS_SYSTEM, "%s: %s", path, strerror(errno));
    size_t capacity = 1 << 20, n;
    *out = malloc(capacity);
    n = fread(*out, 1, capacity - 1, file);
    (*out)[n] = 0;
    fclose(file);
    return STATUS_OK;
}

/* A hash of every header carried: they are few, and a change in one changes most kernels. */
static const char *headers_hash(void) {
    static char text[33];
    if (text[0]) return text;
    struct hash *hash = hash_new();
    for (const struct source *s = program_sources; s->path; s++) {
        const char *dot = strrchr(s->path, '.');
        if (!strcmp(dot, ".cu")) continue;
        hash_text(hash, s->path);
        hash_add(hash, s->text, s->bytes);
    }
    hash_end(hash, text);
    return text;
}

enum status source_folder(char *out, size_t bytes) {
    static char made[1024];
    if (!made[0]) {
        char folder[800], path[1024], key[33];
        TRY(cache_folder(folder, sizeof folder));
        struct hash *hash = hash_new();
        for (const struct source *s = program_sources; s->path; s++)
            hash_text(hash, s->path), hash_add(hash, s->text, s->bytes);
        hash_end(hash, key);
        snprintf(path, sizeof path, "%s/source-%.16s", folder, key);
        char mark[1100];
        snprintf(mark, sizeof mark, "%s/complete", path);
        if (access(mark, F_OK)) {
            for (const struct source *s = program_sources; s->path; s++) {
                char file[1200], parent[1200];
                snprintf(file, sizeof file, "%s/%s", path, s->path);
                snprintf(parent, sizeof parent, "%s", file);
                *strrchr(parent, '/') = 0;
                TRY(make_folders(parent));
                TRY(file_write(file, s->text, s->bytes));
            }
            TRY(file_write(mark, "", 0));
        }
        snprintf(made, sizeof made, "%s", path);
    }
    snprintf(out, bytes, "%s", made);
    return STATUS_OK;
}

/* --- units
 * ---------------------------------------------------------------------------------------- */

static void define(struct unit *unit, const char *name, long long value) {
    size_t n = strlen(unit->defines);
    n += (size_t)snprintf(unit->defines + n, sizeof unit->defines - n, "%s-D", n ? " " : "");
    for (; *name && n + 32 < sizeof unit->defines; name++)
        unit->defines[n++] = (char)toupper((unsigned char)*name);
    snprintf(unit->defines + n, sizeof unit->defines - n, "=%lld", value);
}

static void unit_of_problem(struct unit *unit, const struct kernel *kernel,
                            const struct problem *problem) {
    unit->source = kernel->source;
    define(unit, "DTYPE", problem->dtype);
    for (int i = 0; i < kernel->size_count; i++)
        if (kernel->sizes[i].compiled) define(unit, kernel->sizes[i].name, problem->size[i]);
}

static void unit_of_plan(struct unit *unit, const struct plan *plan) {
    const struct stage *first = &plan->stage[0];
    for (int i = 0; i < plan->stages; i++) unit->entry[unit->entries++] = plan->stage[i].entry;
    unit->threads = (int)(first->block[0] * first->block[1] * first->block[2]);
    unit->dynamic_bytes = first->shared_bytes;
}

/* A kernel from outside finds headers beside it: they belong to its key. */
static void hash_neighbours(struct hash *hash, const char *source) {
    char pattern[1100];
    const char *slash = strrchr(source, '/');
    if (source[0] != '/' || !slash) return;
    static const char *const endings[] = {"*.cuh", "*.h", "*.inl"};
    for (size_t e = 0; e < sizeof endings / sizeof *endings; e++) {
        glob_t found;
        snprintf(pattern, sizeof pattern, "%.*s/%s", (int)(slash - source), source, endings[e]);
        if (!glob(pattern, 0, NULL, &found))
            for (size_t i = 0; i < found.gl_pathc; i++) {
                char *text;
                if (source_read(found.gl_pathv[i], &text)) continue;
                hash_text(hash, text);
                free(text);
            }
        globfree(&found);
    }
}

static enum status set_key(struct unit *unit, struct target target) {
    char compiler[600], *text;
    TRY(compiler_describe(target, compiler, sizeof compiler));
    TRY(source_read(unit->source, &text));
    struct hash *hash = hash_new();
    hash_text(hash, "2"); /* of this file's format and options: raise it when they change */
    hash_text(hash, compiler);
    hash_add(hash, &target.arch, sizeof target.arch);
    hash_text(hash, headers_hash());
    hash_text(hash, text);
    hash_neighbours(hash, unit->source);
    hash_text(hash, unit->defines);
    for (int i = 0; i < unit->entries; i++) hash_text(hash, unit->entry[i]);
    hash_end(hash, unit->key);
    free(text);
    return STATUS_OK;
}

static int blocks_per_sm(const struct unit *unit, int arch) {
    const struct build *b = unit->build;
    if (b->status || b->registers < 0 || !unit->threads) return -1;
#ifdef HAVE_OCCUPANCY
    struct device_info info;
    device_describe_arch(arch, &info);
    cudaOccDeviceProp prop = {.computeMajor = arch / 10,
                              .computeMinor = arch % 10,
                              .maxThreadsPerBlock = 1024,
                              .maxThreadsPerMultiprocessor = info.threads_per_sm,
                              .regsPerBlock = 65536,
                              .regsPerMultiprocessor = 65536,
                              .warpSize = 32,
                              .sharedMemPerBlock = 48 << 10,
                              .sharedMemPerMultiprocessor = (size_t)info.shared_per_sm,
                              .numSms = info.sms,
                              .sharedMemPerBlockOptin = (size_t)info.shared_per_block,
                              .reservedSharedMemPerBlock = arch >= 80 ? 1024 : 0};
    cudaOccFuncAttributes function = {.maxThreadsPerBlock = 1024,
                                      .numRegs = b->registers,
                                      .sharedSizeBytes = (size_t)b->shared_bytes,
                                      .partitionedGCConfig = PARTITIONED_GC_OFF,
                                      .shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN,
                                      .maxDynamicSharedSizeBytes = unit->dynamic_bytes,
                                      .numBlockBarriers = 1};
    cudaOccDeviceState state = {.cacheConfig = CACHE_PREFER_NONE, .carveoutConfig = -1};
    cudaOccResult result;
    if (!cudaOccMaxActiveBlocksPerMultiprocessor(&result, &prop, &function, &state, unit->threads,
                                                 unit->dynamic_bytes))
        return result.activeBlocksPerMultiprocessor;
#else
    (void)arch;
#endif
    return -1;
}

/* A build's facts in the cache: lines of "name value", `log` last. */
static enum status store_facts(const struct unit *unit, const char *folder) {
    const struct build *b = unit->build;
    char path[1100], text[4096];
    const char *file = strrchr(b->path, '/');
    snprintf(path, sizeof path, "%s/%s.txt", folder, unit->key);
    int n = snprintf(
        text, sizeof text,
        "status %s\nms %.3f\nregisters %d\nspill %d\nstack %d\nshared %d\ninstructions %d\n"
        "hash %s\nfile %s\nsuffix %s\nlog %s\n",
        status_text(b->status), b->compile_ms, b->registers, b->spill_bytes, b->stack_bytes,
        b->shared_bytes, b->instructions, b->code_hash[0] ? b->code_hash : "-",
        file ? file + 1 : "-", b->suffix[0] ? b->suffix : "-", b->log);
    return file_write(path, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

static bool load_facts(struct unit *unit, const char *folder) {
    struct build *b = unit->build;
    char path[1024], status[32], file[256];
    snprintf(path, sizeof path, "%s/%s.txt", folder, unit->key);
    FILE *facts = fopen(path, "rb");
    if (!facts) return false;
    memset(b, 0, sizeof *b);
    int got = fscanf(
        facts,
        "status %31s ms %lf registers %d spill %d stack %d shared %d instructions %d hash %32s "
        "file %255s suffix %15s log ",
        status, &b->compile_ms, &b->registers, &b->spill_bytes, &b->stack_bytes, &b->shared_bytes,
        &b->instructions, b->code_hash, file, b->suffix);
    size_t n = got == 10 ? fread(b->log, 1, sizeof b->log - 1, facts) : 0;
    while (n && b->log[n - 1] == '\n') b->log[--n] = 0;
    fclose(facts);
    b->status = status_parse(status);
    if (got != 10 || b->status >= STATUS_COUNT) return false;
    if (!strcmp(b->code_hash, "-")) b->code_hash[0] = 0;
    if (!strcmp(b->suffix, "-")) b->suffix[0] = 0;
    snprintf(b->path, sizeof b->path, "%s/%s", folder, file);
    b->cached = true;
    return b->status || !access(b->path, R_OK);
}

static enum status compile_units(struct unit *units, int count, struct target target) {
    char folder[800];
    TRY(cache_folder(folder, sizeof folder));
    struct unit *missing = calloc((size_t)count, sizeof *missing);
    int missing_count = 0;
    enum status status = STATUS_OK;
    for (int i = 0; i < count && !status; i++) {
        status = set_key(&units[i], target);
        if (!status && !load_facts(&units[i], folder)) {
            memset(units[i].build, 0, sizeof *units[i].build);
            missing[missing_count++] = units[i];
        }
    }
    if (!status && missing_count) {
        if (target.kind == DEVICE_CPU)
            status = cpu_compile_units(missing, missing_count, target.arch == CPU_COUNTED, folder);
        else
            for (int i = 0; i < missing_count; i++)
                cuda_compile_unit(&missing[i], target.arch, folder);
        for (int i = 0; i < missing_count && !status; i++)
            status = store_facts(&missing[i], folder);
    }
    for (int i = 0; i < count && !status; i++)
        units[i].build->blocks_per_sm =
            target.kind == DEVICE_CUDA ? blocks_per_sm(&units[i], target.arch) : -1;
    free(missing);
    return status;
}

enum status compile_points(const struct kernel *kernel, const struct problem *problem,
                           const struct point *points, int count, struct target target,
                           struct build *builds) {
    struct unit *units = calloc((size_t)count, sizeof *units);
    struct device_info info;
    if (!units) return fail(STATUS_SYSTEM, "out of memory");
    if (target.kind == DEVICE_CUDA)
        device_describe_arch(target.arch, &info);
    else
        device_describe_cpu(&info);
    for (int i = 0; i < count; i++) {
        struct plan plan = kernel->plan(problem, &points[i], &info);
        units[i].build = &builds[i];
        unit_of_problem(&units[i], kernel, problem);
        for (int t = 0; t < kernel->tunable_count; t++)
            define(&units[i], kernel->tunables[t].name, points[i].value[t]);
        unit_of_plan(&units[i], &plan);
    }
    enum status status = compile_units(units, count, target);
    free(units);
    return status;
}

enum status compile_file(const char *path, const struct plan *plan, struct target target,
                         struct build *build) {
    struct unit unit = {.source = path, .build = build};
    unit_of_plan(&unit, plan);
    return compile_units(&unit, 1, target);
}

enum status compile_check(const struct kernel *kernel, const struct problem *problem,
                          struct target target, struct build *build) {
    struct unit unit = {.entry = {"check"}, .entries = 1, .threads = 256, .build = build};
    unit_of_problem(&unit, kernel, problem);
    define(&unit, "CHECK", 1);
    return compile_units(&unit, 1, target);
}

enum status compile_support(struct target target, struct build *build) {
    struct unit unit = {.source = "kernels/support/support.cu",
                        .entry = {"fill", "touch", "empty", "convert"},
                        .entries = 4,
                        .threads = 256,
                        .build = build};
    snprintf(unit.defines, sizeof unit.defines, "-DDTYPE=0");
    return compile_units(&unit, 1, target);
}

enum status compiler_describe(struct target target, char *out, size_t bytes) {
    if (target.kind == DEVICE_CPU) {
        const char *command;
        return cpu_compiler(&command, out, bytes);
    }
    const struct nvrtc_api *nvrtc = nvrtc_api();
    if (!nvrtc) return STATUS_MISSING;
    snprintf(out, bytes, "NVRTC %d.%d (%s)", nvrtc->major, nvrtc->minor, nvrtc->path);
    return STATUS_OK;
}

enum status nvrtc_available(void) { return nvrtc_api() ? STATUS_OK : STATUS_MISSING; }
