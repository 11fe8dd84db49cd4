/* compile_cuda.c - one unit through NVRTC to a cubin, with the facts that ptxas tells. */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/compile_internal.h"
#include "runtime/cuda_api.h"
#include "runtime/hash.h"
#include "runtime/clock.h"

/* The number in front of `words`, the largest over all entries of the log; 0 if absent. */
static int number_before(const char *log, const char *words) {
    int most = 0;
    for (const char *at = strstr(log, words); at; at = strstr(at + 1, words)) {
        const char *digit = at;
        while (digit > log && digit[-1] == ' ') digit--;
        while (digit > log && digit[-1] >= '0' && digit[-1] <= '9') digit--;
        int value = atoi(digit);
        if (value > most) most = value;
    }
    return most;
}

static void read_facts(const char *log, struct build *build) {
    if (!strstr(log, " registers")) return; /* unknown, not 0 */
    build->registers = number_before(log, " registers");
    build->stack_bytes = number_before(log, " bytes stack frame");
    build->spill_bytes =
        number_before(log, " bytes spill stores") + number_before(log, " bytes spill loads");
    build->shared_bytes = number_before(log, " bytes smem");
}

/* The hash of the machine code and its constants alone: two points with the same one run alike.
 * And its instructions, which are 16 bytes each from sm_70 on. */
static void read_code(const char *image, size_t bytes, struct build *build) {
    enum { INSTRUCTION = 16 };
    struct hash *hash = hash_new();
    size_t text = 0;
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)(const void *)image;
    if (bytes > sizeof *header && !memcmp(header->e_ident, ELFMAG, SELFMAG) &&
        header->e_shoff + (size_t)header->e_shnum * sizeof(Elf64_Shdr) <= bytes) {
        const Elf64_Shdr *section = (const Elf64_Shdr *)(const void *)(image + header->e_shoff);
        const char *names = image + section[header->e_shstrndx].sh_offset;
        for (int i = 0; i < header->e_shnum; i++) {
            const char *name = names + section[i].sh_name;
            if (section[i].sh_type != SHT_PROGBITS ||
                section[i].sh_offset + section[i].sh_size > bytes)
                continue;
            if (strncmp(name, ".text.", 6) && strncmp(name, ".nv.constant", 12) &&
                strncmp(name, ".nv.shared", 10))
                continue;
            if (!strncmp(name, ".text.", 6)) text += section[i].sh_size;
            hash_text(hash, name);
            hash_add(hash, image + section[i].sh_offset, section[i].sh_size);
        }
    } else {
        hash_add(hash, image, bytes);
    }
    hash_end(hash, build->code_hash);
    build->instructions = text ? (int)(text / INSTRUCTION) : -1;
}

/* Splits unit->defines at its spaces behind the fixed options. Returns how many there are. */
static int split_options(char *defines, const char **options, int count, int most) {
    char *save = NULL;
    for (char *word = strtok_r(defines, " ", &save); word && count < most;
         word = strtok_r(NULL, " ", &save))
        options[count++] = word;
    return count;
}

static void keep_log(struct build *build, const char *log) {
    /* the errors are what matters: start at the first */
    const char *error = strstr(log, "error");
    while (error && error > log && error[-1] != '\n') error--;
    snprintf(build->log, sizeof build->log, "%s", error ? error : log);
}

static enum status take_cubin(const struct nvrtc_api *nvrtc, nvrtcProgram program,
                              struct unit *unit, const char *folder) {
    size_t bytes = 0;
    if (nvrtc->nvrtcGetCUBINSize(program, &bytes) || !bytes)
        return fail(STATUS_COMPILE, "NVRTC gave no cubin");
    char *cubin = malloc(bytes);
    nvrtc->nvrtcGetCUBIN(program, cubin);
    read_code(cubin, bytes, unit->build);
    snprintf(unit->build->path, sizeof unit->build->path, "%s/%s.cubin", folder, unit->key);
    enum status status = file_write(unit->build->path, cubin, bytes);
    free(cubin);
    return status;
}

void cuda_compile_unit(struct unit *unit, int arch, const char *folder) {
    const struct nvrtc_api *nvrtc = nvrtc_api();
    struct build *build = unit->build;
    char arch_option[48], include[1100] = "-I", near[1100] = "-I", defines[2048];
    const char *options[64];
    char *text = NULL, *log = NULL;
    size_t log_bytes = 0;
    nvrtcProgram program = NULL;
    double start = clock_seconds();

    build->registers = build->spill_bytes = build->stack_bytes = build->shared_bytes = -1;
    build->instructions = -1;
    build->status = STATUS_COMPILE;
    if (!nvrtc || source_folder(include + 2, sizeof include - 2) ||
        source_read(unit->source, &text)) {
        snprintf(build->log, sizeof build->log, "%s", fail_message());
        return;
    }
    snprintf(arch_option, sizeof arch_option, "--gpu-architecture=sm_%d", arch);
    snprintf(defines, sizeof defines, "%s", unit->defines);
    int count = 0;
    options[count++] = arch_option;
    options[count++] = "-std=c++17";
    options[count++] = "--ptxas-options=-v";
    /* what its own cache on disk has comes without the facts that ptxas would tell */
    if (nvrtc->major >= 13) options[count++] = "--no-cache";
    options[count++] = include;
    const char *slash = strrchr(unit->source, '/');
    if (unit->source[0] == '/' && slash) { /* a kernel from outside finds its own headers */
        snprintf(near, sizeof near, "-I%.*s", (int)(slash - unit->source), unit->source);
        options[count++] = near;
    }
    count = split_options(defines, options, count, 64);
    int result =
        nvrtc->nvrtcCreateProgram(&program, text, slash ? slash + 1 : unit->source, 0, NULL, NULL);
    if (!result) result = nvrtc->nvrtcCompileProgram(program, count, options);
    if (program) nvrtc->nvrtcGetProgramLogSize(program, &log_bytes);
    log = calloc(1, log_bytes + 1);
    if (program && log_bytes) nvrtc->nvrtcGetProgramLog(program, log);
    if (result) {
        keep_log(build, log_bytes > 1 ? log : nvrtc->nvrtcGetErrorString(result));
    } else if (take_cubin(nvrtc, program, unit, folder)) {
        snprintf(build->log, sizeof build->log, "%s", fail_message());
    } else {
        build->status = STATUS_OK;
        read_facts(log, build);
    }
    build->compile_ms = (clock_seconds() - start) * 1e3;
    if (program) nvrtc->nvrtcDestroyProgram(&program);
    free(log);
    free(text);
}
