#include "harness/handout.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static enum status put_file(const char *path, const void *data, size_t bytes) {
    FILE *file = fopen(path, "wb");
    size_t written = file ? fwrite(data, 1, bytes, file) : 0;
    if (!file || (fclose(file) | (written != bytes)))
        return fail(STATUS_SYSTEM, "%s: could not be written: %s", path, strerror(errno));
    return STATUS_OK;
}

static void upper(const char *text, char *out, size_t bytes) {
    size_t n = 0;
    for (; text[n] && n + 1 < bytes; n++) out[n] = (char)toupper((unsigned char)text[n]);
    out[n] = 0;
}

static void define(FILE *out, const char *name, long long value, const char *help) {
    char macro[64];
    upper(name, macro, sizeof macro);
    fprintf(out, "#define %s %lld // %s\n", macro, value, help);
}

/* The macros that a build gets as options (runtime/compile.c). */
static void write_defines(const struct handout_request *r, FILE *out) {
    const struct kernel *k = r->kernel;
    define(out, "dtype", r->problem.dtype, "the element: 0 fp16, 1 bf16, 2 fp32");
    fputs("\n// Sizes that are compiled in: another value is another compilation.\n", out);
    for (int i = 0; i < k->size_count; i++)
        if (k->sizes[i].compiled)
            define(out, k->sizes[i].name, (long long)r->problem.size[i], k->sizes[i].help);
    fputs("\n// The point: another value may not be legal, and is another launch.\n", out);
    for (int i = 0; i < k->tunable_count; i++)
        define(out, k->tunables[i].name, r->point.value[i], k->tunables[i].help);
}

static enum status write_source(const struct handout_request *r, const char *path) {
    char *text, *whole = NULL;
    size_t bytes = 0;
    TRY(source_flatten(r->kernel->source, &text));
    FILE *out = open_memstream(&whole, &bytes);
    fprintf(out,
            "// %s.cu - %s\n// Handed out by FastInfer (fastinfer config --emit-source %s); needs "
            "no other file.\n// The point is from: %s.\n// nvcc -c -std=c++17 -arch=sm_%d %s.cu, "
            "or NVRTC with the same. How to launch it: %s.h.\n// SPDX-License-Identifier: MIT\n"
            "// Copyright (c) 2026 The FastInfer authors\n\n",
            r->kernel->name, r->kernel->summary, r->kernel->name, r->origin, r->device->arch,
            r->kernel->name, r->kernel->name);
    write_defines(r, out);
    fputs("\n#ifdef __NVCC__ // not every point uses every helper\n#pragma nv_diag_suppress 177\n"
          "#endif\n\n",
          out);
    fputs(text, out);
    fclose(out);
    enum status status = put_file(path, whole, bytes);
    free(text), free(whole);
    return status;
}

static void write_parameters(const struct handout_request *r, const struct plan *plan, FILE *out) {
    static const char *const roles[] = {"read", "written", "read and written"};
    const struct kernel *k = r->kernel;
    int n = 0;
    fputs(" * Parameters of every entry, in order:\n", out);
    for (int i = 0; i < k->argument_count; i++) {
        const struct argument *a = &k->arguments[i];
        long long count = (long long)k->elements(&r->problem, i);
        fprintf(out, " * %3d  pointer    %-12s %s; %s %s; %lld elements%s\n", n++, a->name,
                roles[a->role], dtype_name(argument_dtype(a, &r->problem)), a->shape, count,
                count ? "" : ": NULL");
    }
    if (plan->scratch_bytes)
        fprintf(out, " * %3d  pointer    %-12s %zu bytes%s\n", n++, "scratch", plan->scratch_bytes,
                plan->scratch_zeroed
                    ? ", all 0 before the first launch, then for launches of this size alone"
                    : "");
    for (int i = 0; i < k->size_count; i++)
        if (!k->sizes[i].compiled)
            fprintf(out, " * %3d  long long  %-12s %s; here %lld\n", n++, k->sizes[i].name,
                    k->sizes[i].help, (long long)r->problem.size[i]);
    for (int i = 0; i < k->real_count; i++)
        fprintf(out, " * %3d  float      %-12s %s; here %.9g\n", n++, k->reals[i].name,
                k->reals[i].help, r->problem.real[i]);
}

static void write_notes(const struct plan *plan, FILE *out) {
    fputs(
        " *\n * Pointers are device memory, aligned to 16 bytes at least (256 is what was tried).\n"
        " * The grid below is for this problem on this device: other sizes need another grid, as\n"
        " * the program that handed this out computes it (--problem).\n",
        out);
    if (plan->stages > 1)
        fputs(" * The stages run one after the other in one stream, with the same parameters.\n",
              out);
    for (int i = 0; i < plan->stages; i++) {
        if (plan->stage[i].cooperative)
            fprintf(out, " * Stage %d is a cooperative launch (cuLaunchCooperativeKernel).\n", i);
        if (plan->stage[i].shared_bytes > 32 << 10) /* with the static it may be over 48 KiB */
            fprintf(out,
                    " * Stage %d needs CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES set to %u "
                    "first.\n",
                    i, plan->stage[i].shared_bytes);
    }
}

static void write_macros(const char *prefix, const struct plan *plan, FILE *out) {
    fprintf(out, "#define %s_SCRATCH_BYTES %zu\n#define %s_SCRATCH_ZEROED %d\n", prefix,
            plan->scratch_bytes, prefix, plan->scratch_zeroed);
    fprintf(out, "#define %s_STAGES %d\n", prefix, plan->stages);
    for (int i = 0; i < plan->stages; i++) {
        const struct stage *s = &plan->stage[i];
        fprintf(out, "#define %s_%d_ENTRY \"%s\"\n", prefix, i, s->entry);
        for (int d = 0; d < 3; d++)
            fprintf(out, "#define %s_%d_GRID_%c %uu\n", prefix, i, "XYZ"[d], s -> grid[d]);
        for (int d = 0; d < 3; d++)
            fprintf(out, "#define %s_%d_BLOCK_%c %uu\n", prefix, i, "XYZ"[d], s -> block[d]);
        fprintf(out, "#define %s_%d_SHARED_BYTES %uu\n#define %s_%d_COOPERATIVE %d\n", prefix, i,
                s->shared_bytes, prefix, i, s->cooperative);
    }
}

static enum status write_header(const struct handout_request *r, const struct plan *plan,
                                const char *path) {
    char prefix[64], problem[MAX_TEXT], point[MAX_TEXT], *whole = NULL;
    size_t bytes = 0;
    upper(r->kernel->name, prefix, sizeof prefix);
    problem_format(r->kernel, &r->problem, problem), point_format(r->kernel, &r->point, point);
    FILE *out = open_memstream(&whole, &bytes);
    fprintf(out,
            "/* %s.h - how to launch what is in %s.cu: %s\n *\n * Problem: %s, %s\n * Point: %s\n"
            " * from: %s\n * Device: %s (sm_%d, %d multiprocessors)\n *\n",
            r->kernel->name, r->kernel->name, r->kernel->summary, problem,
            dtype_name(r->problem.dtype), point, r->origin, r->device->name, r->device->arch,
            r->device->sms);
    write_parameters(r, plan, out);
    write_notes(plan, out);
    fprintf(out,
            " *\n * SPDX-License-Identifier: MIT\n * Copyright (c) 2026 The FastInfer authors\n"
            " */\n");
    fprintf(out, "#ifndef %s_LAUNCH_H\n#define %s_LAUNCH_H\n\n", prefix, prefix);
    write_macros(prefix, plan, out);
    fputs("\n#endif\n", out);
    fclose(out);
    enum status status = put_file(path, whole, bytes);
    free(whole);
    return status;
}

/* What was handed out must be what was measured: its machine code is compared with the build of the
 * point as the bench makes it. */
static enum status write_cubin(const struct handout_request *r, const struct plan *plan,
                               struct handout *out) {
    struct target target = {DEVICE_CUDA, r->device->arch};
    struct build build;
    char *image = NULL;
    size_t bytes = 0;
    if (nvrtc_available()) {
        snprintf(out->missing, sizeof out->missing, "%.1000s", fail_message());
        return STATUS_OK;
    }
    TRY(compile_points(r->kernel, &r->problem, &r->point, 1, target, &build));
    TRY(compile_file(out->source, plan, target, &out->build));
    if (out->build.status)
        return fail(STATUS_COMPILE, "%s does not compile: %s", out->source, out->build.log);
    out->same_code = !build.status && !strcmp(build.code_hash, out->build.code_hash);
    FILE *from = fopen(out->build.path, "rb");
    if (!from || fseek(from, 0, SEEK_END) || !(image = malloc((size_t)ftell(from) + 1))) {
        if (from) fclose(from);
        return fail(STATUS_SYSTEM, "%s: could not be read", out->build.path);
    }
    size_t length = (size_t)ftell(from);
    rewind(from);
    bytes = fread(image, 1, length, from);
    fclose(from);
    snprintf(out->cubin, sizeof out->cubin, "%s/%s.sm_%d.cubin", r->folder, r->kernel->name,
             r->device->arch);
    enum status status = put_file(out->cubin, image, bytes);
    free(image);
    return status;
}

enum status handout_write(const struct handout_request *r, struct handout *out) {
    struct plan plan = r->kernel->plan(&r->problem, &r->point, r->device);
    *out = (struct handout){0};
    if (mkdir(r->folder, 0777) && errno != EEXIST)
        return fail(STATUS_SYSTEM, "%s: the folder could not be made: %s", r->folder,
                    strerror(errno));
    snprintf(out->source, sizeof out->source, "%s/%s.cu", r->folder, r->kernel->name);
    snprintf(out->header, sizeof out->header, "%s/%s.h", r->folder, r->kernel->name);
    TRY(write_source(r, out->source));
    TRY(write_header(r, &plan, out->header));
    return write_cubin(r, &plan, out);
}
