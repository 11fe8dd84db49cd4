/* build.c - fastinfer build: compile for an architecture, with or without such a GPU, and show
 * what the compiler made of each point. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "kernels/registry.h"
#include "runtime/compile.h"

enum { KEY_ARCH = 256, KEY_PROBLEM, KEY_POINT, KEY_SAMPLES, KEY_SEED, KEY_KERNELS };
static const struct argp_option options[] = {
    {"arch", KEY_ARCH, "SM", 0, "sm_75 (default), sm_80, sm_86, sm_89, sm_90, ...", 0},
    {"dtype", 't', "TYPE", 0, "fp16 (default), bf16 or fp32", 0},
    {"problem", KEY_PROBLEM, "SIZES", 0, "rows=4096,hidden=3072 (default: the kernel's own)", 0},
    {"point", KEY_POINT, "POINT", 0, "one point instead of the default and a sample", 0},
    {"samples", KEY_SAMPLES, "N", 0, "points a kernel beside the default (default 0)", 0},
    {"seed", KEY_SEED, "N", 0, "of the sample (default 1)", 0},
    {"kernels", KEY_KERNELS, "DIR", 0, "add the kernels of a folder outside the tree", 0},
    {0}};

struct arguments {
    int arch, samples;
    uint64_t seed;
    enum dtype dtype;
    const char *problem, *point, *names[64];
    int name_count, failed, spilling;
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case KEY_ARCH:
        a->arch = cli_arch(state, arg);
        break;
    case 't':
        a->dtype = cli_dtype(state, arg);
        break;
    case KEY_PROBLEM:
        a->problem = arg;
        break;
    case KEY_POINT:
        a->point = arg;
        break;
    case KEY_SAMPLES:
        a->samples = (int)cli_number(state, arg, 0, 1 << 20);
        break;
    case KEY_SEED:
        a->seed = (uint64_t)cli_number(state, arg, 0, INT64_MAX);
        break;
    case KEY_KERNELS:
        setenv("FASTINFER_KERNELS", arg, 1);
        if (registry_add_folder(arg)) argp_failure(state, 2, 0, "%s", fail_message());
        break;
    case ARGP_KEY_ARG:
        if (a->name_count < 64) a->names[a->name_count++] = arg;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static enum status choose_points(const struct arguments *a, const struct kernel *kernel,
                                 const struct problem *problem, const struct device_info *info,
                                 struct point **out, int *count) {
    struct point *space;
    int total;
    if (a->point) {
        const char *why = NULL;
        *out = malloc(sizeof **out), *count = 1;
        TRY(point_parse(kernel, a->point, *out));
        if (kernel->legal(problem, *out, info, &why)) return STATUS_OK;
        return fail(STATUS_ARGUMENT, "%s: %s is not legal here: %s", kernel->name, a->point, why);
    }
    TRY(space_enumerate(kernel, problem, info, &space, &total));
    enum status status = space_sample(kernel, space, total, 1 + a->samples, a->seed, out, count);
    printf("%s: %d legal points for %s\n", kernel->name, total, info->name);
    free(space);
    return status;
}

static enum status build_kernel(struct arguments *a, const struct kernel *kernel) {
    struct device_info info;
    struct problem problem;
    struct point *points = NULL;
    int count = 0;
    device_describe_arch(a->arch, &info);
    TRY(problem_parse(kernel, a->problem ? a->problem : "", &problem));
    problem.dtype = a->dtype;
    if (!(kernel->dtypes >> a->dtype & 1))
        return a->name_count
                   ? fail(STATUS_ARGUMENT, "%s has no %s form", kernel->name, dtype_name(a->dtype))
                   : STATUS_OK;
    enum status status = choose_points(a, kernel, &problem, &info, &points, &count);
    struct build *builds = calloc((size_t)count + 1, sizeof *builds);
    if (!status)
        status = compile_points(kernel, &problem, points, count,
                                (struct target){DEVICE_CUDA, a->arch}, builds);
    for (int i = 0; i < count && !status; i++) {
        const struct build *b = &builds[i];
        char text[MAX_TEXT];
        point_format(kernel, &points[i], text);
        a->failed += b->status != STATUS_OK;
        a->spilling += b->spill_bytes > 0;
        if (b->status)
            printf("  %s\n    does not compile: %s\n", text, b->log);
        else
            printf("  %3d registers %4d B spilled %5d B shared  %2d blocks/SM  %6.0f ms%s  %s\n",
                   b->registers, b->spill_bytes, b->shared_bytes, b->blocks_per_sm, b->compile_ms,
                   b->cached ? " (cached)" : "", text);
    }
    free(points), free(builds);
    return status;
}

int cli_build(int argc, char **argv) {
    static const struct argp argp = {options,
                                     parse,
                                     "[KERNEL...]",
                                     "Compiles points for an architecture; no GPU is needed.\v"
                                     "Exits 1 where a point does not compile.",
                                     NULL,
                                     NULL,
                                     NULL};
    struct arguments a = {.arch = 75, .seed = 1};
    argv[0] = cli_name("build");
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    enum status status = nvrtc_available();
    int count = a.name_count ? a.name_count : registry_count();
    for (int i = 0; i < count && !status; i++) {
        const struct kernel *kernel = registry_at(i);
        if (a.name_count) status = registry_find(a.names[i], &kernel);
        if (!status) status = build_kernel(&a, kernel);
    }
    if (status) return cli_error(status);
    return a.failed ? 1 : 0;
}
