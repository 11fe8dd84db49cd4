#include "harness/unmeasured.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/registry.h"

struct candidate {
    struct point point;
    int different, steps;
};

static int value_index(const struct tunable *tunable, int value) {
    int i = 0;
    while (i + 1 < tunable->count && tunable->values[i] != value) i++;
    return i;
}

static int compare(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    int by = x->different - y->different;
    if (!by) by = x->steps - y->steps;
    return by ? by : memcmp(&x->point, &y->point, sizeof x->point); /* any order, always the same */
}

/* All legal points, the nearest to `wanted` first. The caller frees *out. */
static enum status order_space(const struct kernel *kernel, const struct problem *problem,
                               const struct device_info *device, const struct point *wanted,
                               struct candidate **out, int *count) {
    struct point *space;
    TRY(space_enumerate(kernel, problem, device, &space, count));
    *out = calloc((size_t)*count + 1, sizeof **out);
    for (int i = 0; i < *count; i++) {
        struct candidate *c = &(*out)[i];
        c->point = space[i];
        for (int t = 0; t < kernel->tunable_count; t++) {
            const struct tunable *tunable = &kernel->tunables[t];
            c->different += space[i].value[t] != wanted->value[t];
            c->steps += abs(value_index(tunable, space[i].value[t]) -
                            value_index(tunable, wanted->value[t]));
        }
    }
    free(space);
    qsort(*out, (size_t)*count, sizeof **out, compare);
    return STATUS_OK;
}

static bool fits(const struct kernel *kernel, const struct problem *problem,
                 const struct device_info *device, const struct candidate *c,
                 const struct build *b) {
    struct plan plan = kernel->plan(problem, &c->point, device);
    if (b->status || b->spill_bytes || b->blocks_per_sm < 1) return false;
    for (int i = 0; i < plan.stages; i++) {
        const struct stage *s = &plan.stage[i];
        double blocks = (double)s->grid[0] * s->grid[1] * s->grid[2];
        if (s->cooperative && blocks > (double)b->blocks_per_sm * device->sms) return false;
    }
    return true;
}

enum status unmeasured_point(const struct kernel *kernel, const struct problem *problem,
                             const struct device_info *device, struct point *out,
                             struct build *build) {
    struct target target = {DEVICE_CUDA, device->arch};
    struct candidate *candidates;
    struct point wanted;
    int count;
    TRY(space_default(kernel, problem, device, &wanted));
    TRY(order_space(kernel, problem, device, &wanted, &candidates, &count));
    enum status status = STATUS_OK;
    bool found = false;
    for (int i = 0; i < count && !found && !status; i++) {
        status = compile_points(kernel, problem, &candidates[i].point, 1, target, build);
        if (!status && !build->status && build->blocks_per_sm < 0)
            status = fail(STATUS_MISSING,
                          "occupancy is unknown: this program was built without cuda_occupancy.h");
        found = !status && fits(kernel, problem, device, &candidates[i], build);
        *out = candidates[i].point;
    }
    free(candidates);
    if (status || found) return status;
    return fail(STATUS_ARGUMENT, "%s: of %d legal points for %s each spills or cannot be resident",
                kernel->name, count, device->name);
}

static enum status add_entries(const struct kernel *kernel, const struct problem *problem,
                               const struct device_info *device, json_t *entries, int *moved) {
    static const char *const policies[] = {"weights_cold,graph", "cold,stream"};
    struct point point, fallback = point_default(kernel);
    struct build build;
    char problem_text[MAX_TEXT], point_text[MAX_TEXT];
    TRY(unmeasured_point(kernel, problem, device, &point, &build));
    problem_format(kernel, problem, problem_text), point_format(kernel, &point, point_text);
    for (int i = 0; i < 2; i++) {
        *moved += !point_equal(kernel, &point, &fallback);
        json_array_append_new(entries,
                              json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i}", "kernel",
                                        kernel->name, "dtype", dtype_name(problem->dtype), "policy",
                                        policies[i], "problem", problem_text, "point", point_text,
                                        "registers", build.registers, "spill_bytes",
                                        build.spill_bytes, "shared_bytes", build.shared_bytes,
                                        "blocks_per_sm", build.blocks_per_sm));
    }
    return STATUS_OK;
}

enum status unmeasured_file(const struct device_info *device, json_t **out, int *moved) {
    char compiler[600];
    enum status status = STATUS_OK;
    *moved = 0;
    TRY(nvrtc_available());
    json_t *entries = json_array();
    for (int k = 0; k < registry_count() && !status; k++) {
        const struct kernel *kernel = registry_at(k);
        for (int i = 0; i < kernel->problem_count && !status; i++) {
            struct problem problem = kernel->problems[i];
            problem.dtype = DTYPE_F16;
            if (kernel->dtypes >> DTYPE_F16 & 1 && kernel_runs_on(kernel, device))
                status = add_entries(kernel, &problem, device, entries, moved);
        }
    }
    if (!status)
        status = compiler_describe((struct target){DEVICE_CUDA, device->arch}, compiler,
                                   sizeof compiler);
    if (!status) {
        compiler[strcspn(compiler, "(")] = 0; /* the version, not this machine's path */
        size_t n = strlen(compiler);
        if (n && compiler[n - 1] == ' ') compiler[n - 1] = 0;
        *out = json_pack("{s:s, s:s, s:b, s:s, s:O}", "device", device->name, "slug", device->slug,
                         "measured", 0, "compiler", compiler, "entries", entries);
    }
    json_decref(entries);
    return status;
}
