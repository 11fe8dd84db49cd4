/* test_gemv.c - what the gemv family promises beside right results (those are test_kernels'): a
 * legal point for every width and batch, the bound's count of roundings, grids that are resident
 * as asked for, and references that agree with sums done by hand.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "kernels/gemv/gemv.h"
#include "kernels/registry.h"
#include "runtime/compile.h"

#include <cmocka.h>

static const char *const names[] = {"gemv", "gemv_residual", "gemv_norm", "gemv_norm_swiglu"};
enum { KERNELS = sizeof names / sizeof *names };

static const struct kernel *named(const char *name) {
    const struct kernel *kernel = NULL;
    if (registry_find(name, &kernel)) fail_msg("%s", fail_message());
    return kernel;
}

static struct device_info machine(int arch) {
    struct device_info info;
    if (arch)
        device_describe_arch(arch, &info);
    else
        device_describe_cpu(&info);
    return info;
}

static void every_width_has_a_legal_point(void **state) {
    static const int archs[] = {75, 90, 0}, batches[] = {1, 2, 3, 5, 8, 16};
    static const int64_t widths[] = {2, 7, 576, 1001, 3072, 11008, 32767, 32768};
    (void)state;
    for (int k = 0; k < KERNELS; k++)
        for (int a = 0; a < 3; a++)
            for (int b = 0; b < 6; b++)
                for (int w = 0; w < 8; w++)
                    for (int dtype = DTYPE_F16; dtype <= DTYPE_F32; dtype++) {
                        const struct kernel *kernel = named(names[k]);
                        struct device_info info = machine(archs[a]);
                        struct problem problem = problem_default(kernel);
                        struct point point;
                        problem.size[GEMV_BATCH] = batches[b],
                        problem.size[GEMV_INPUTS] = widths[w];
                        problem.dtype = (enum dtype)dtype;
                        if (space_default(kernel, &problem, &info, &point))
                            fail_msg("%s", fail_message());
                    }
}

/* Roundings of a term on its longest way into a sum: gemv.cuh's order of adding. */
static int roundings(const struct problem *problem, const struct point *point) {
    if (point->value[GEMV_STAGING] > 3) return 0; /* tensor cores have a bound of their own */
    int vector = point->value[GEMV_VECTOR_BYTES] / (int)dtype_bytes(problem->dtype);
    int threads = point->value[GEMV_ROW_THREADS], lanes = threads < 32 ? threads : 32;
    int64_t vectors = problem->size[GEMV_INPUTS] / vector;
    int steps = 0;
    while (1 << steps < lanes) steps++;
    return vector + (int)((vectors + threads - 1) / threads) + steps + threads / lanes;
}

static void bounds_count_all_roundings(void **state) {
    static const int64_t widths[] = {1001, 8192, 16384, 32767, 32768};
    (void)state;
    for (int k = 0; k < KERNELS; k++)
        for (int w = 0; w < 5; w++) {
            const struct kernel *kernel = named(names[k]);
            struct device_info info = machine(90);
            struct problem problem = problem_default(kernel);
            struct point *space;
            int count, most = 0;
            problem.size[GEMV_INPUTS] = widths[w];
            if (space_enumerate(kernel, &problem, &info, &space, &count))
                fail_msg("%s", fail_message());
            for (int i = 0; i < count; i++) {
                int n = roundings(&problem, &space[i]);
                if (n > most) most = n;
            }
            free(space);
            assert_true(count > 0);
            /* bias and residual; with a norm x norm, half of as many for the squares, and a few */
            double all = k < 2 ? most + 2 : most + 2 + most / 2.0 + 8;
            if (all > kernel->bound.c)
                fail_msg("%s: %d roundings for inputs=%lld", names[k], most, (long long)widths[w]);
        }
}

/* --- what compilers make of it ------------------------------------------------------------- */

static void check_build(const struct kernel *kernel, const struct problem *problem,
                        const struct point *point, int arch) {
    struct target target = {DEVICE_CUDA, arch};
    struct device_info info = machine(arch);
    struct build build = {0};
    char text[MAX_TEXT], values[MAX_TEXT];
    problem_format(kernel, problem, text), point_format(kernel, point, values);
    if (compile_points(kernel, problem, point, 1, target, &build) || build.status)
        fail_msg("%s %s %s: %s", kernel->name, text, values, build.log);
    struct plan plan = kernel->plan(problem, point, &info);
    int64_t shared = (int64_t)plan.stage[0].shared_bytes + build.shared_bytes;
    if (shared > info.shared_per_block)
        fail_msg("%s %s %s: %lld bytes of shared memory on sm_%d", kernel->name, text, values,
                 (long long)shared, arch);
    int wanted = point->value[GEMV_BLOCKS_PER_SM] ? point->value[GEMV_BLOCKS_PER_SM] : 1;
    if (build.blocks_per_sm >= 0 && build.blocks_per_sm < wanted)
        fail_msg("%s %s %s: %d blocks are resident on sm_%d", kernel->name, text, values,
                 build.blocks_per_sm, arch);
}

static void grids_are_resident(void **state) {
    static const struct {
        const char *kernel, *problem;
    } cases[] = {{"gemv_residual", "batch=1,inputs=8192,outputs=3072"},
                 {"gemv_residual", "batch=1,inputs=11008,outputs=2048"},
                 {"gemv", "batch=8,inputs=3072,outputs=3072"},
                 {"gemv_norm", "batch=1,inputs=3072,outputs=5120"},
                 {"gemv_norm", "batch=3,inputs=4096,outputs=5120"},
                 {"gemv_norm_swiglu", "batch=1,inputs=3072,outputs=8192"},
                 {"gemv_norm_swiglu", "batch=2,inputs=4096,outputs=8192"}};
    (void)state;
    if (nvrtc_available()) {
        print_message("skipped: compiling for GPUs: %s\n", fail_message());
        skip();
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int arch = 75; arch <= 90; arch += 15) {
            const struct kernel *kernel = named(cases[i].kernel);
            struct device_info info = machine(arch);
            struct problem problem;
            struct point *space, *sample;
            int count, taken = 0;
            if (problem_parse(kernel, cases[i].problem, &problem) ||
                space_enumerate(kernel, &problem, &info, &space, &count) ||
                space_sample(kernel, space, count, 4, 7 + i, &sample, &taken))
                fail_msg("%s", fail_message());
            for (int k = 0; k < taken; k++) check_build(kernel, &problem, &sample[k], arch);
            free(space), free(sample);
        }
}

/* --- by hand --------------------------------------------------------------------------------- */

static double by_hand(const char *name, const char *text, const void *const *before) {
    const struct kernel *kernel = named(name);
    struct problem problem;
    double want[2] = {NAN, NAN}, magnitude[2] = {0};
    double *wants[MAX_ARGUMENTS] = {want}, *magnitudes[MAX_ARGUMENTS] = {magnitude};
    if (problem_parse(kernel, text, &problem)) fail_msg("%s", fail_message());
    problem.dtype = DTYPE_F32, problem.real[0] = 0;
    kernel->reference(&problem, before, wants, magnitudes, 0, kernel->outer(&problem));
    assert_true(magnitude[1] >= fabs(want[1]));
    return want[1];
}

static void near(double a, double b) {
    if (!(fabs(a - b) < 1e-12)) fail_msg("%.17g, not %.17g", a, b);
}

static void references_agree_with_sums_by_hand(void **state) {
    /* two outputs each, the second one looked at; sqrt((9 + 16) / 2) is the mean square's root */
    static const float x[] = {3, 4}, weight[] = {9, 9, 2, -1}, bias[] = {9, 0.5f};
    static const float residual[] = {9, 10}, norm[] = {1, 2};
    static const float pairs[] = {9, 9, 1, 0, 9, 9, 0, 1}; /* gate rows, up rows */
    const double rms = sqrt(12.5);
    const void *plain[] = {residual, x, weight, bias};
    const void *normed[] = {NULL, x, norm, weight, bias}, *paired[] = {NULL, x, norm, pairs};
    (void)state;
    near(by_hand("gemv", "inputs=2,bias=1,outputs=2", plain), 2.5);
    near(by_hand("gemv", "inputs=2,outputs=2", plain), 2);
    near(by_hand("gemv_residual", "inputs=2,bias=1,outputs=2", plain), 12.5);
    near(by_hand("gemv_norm", "inputs=2,bias=1,outputs=2", normed), (6 - 8) / rms + 0.5);
    double gate = 3 / rms, up = 8 / rms;
    near(by_hand("gemv_norm_swiglu", "inputs=2,outputs=2", paired), gate / (1 + exp(-gate)) * up);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_width_has_a_legal_point),
                                       cmocka_unit_test(bounds_count_all_roundings),
                                       cmocka_unit_test(grids_are_resident),
                                       cmocka_unit_test(references_agree_with_sums_by_hand)};
    return cmocka_run_group_tests_name("gemv", tests, NULL, NULL);
}
