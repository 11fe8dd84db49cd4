/* add_rmsnorm.c - the spec of add_rmsnorm.cu: what can be tuned, what is legal, what is right. */
#include <math.h>

#include "kernels/rmsnorm/rmsnorm.h"
#include "kernels/shapes.h"

enum { ROWS = RMSNORM_ROWS, HIDDEN = RMSNORM_HIDDEN };
enum { Y, RESIDUAL, X, WEIGHT };

static const struct argument arguments[] = {
    [Y] = {"y", "(rows, hidden), row-major", ROLE_OUT, DTYPE_COUNT, FILL_NORMAL, false},
    [RESIDUAL] = {"residual", "(rows, hidden), row-major", ROLE_INOUT, DTYPE_COUNT, FILL_NORMAL,
                  false},
    [X] = {"x", "(rows, hidden), row-major", ROLE_IN, DTYPE_COUNT, FILL_NORMAL, false},
    [WEIGHT] = {"weight", "(hidden)", ROLE_IN, DTYPE_COUNT, FILL_WEIGHT, true},
};

static int64_t elements(const struct problem *p, int index) {
    return index == WEIGHT ? p->size[HIDDEN] : p->size[ROWS] * p->size[HIDDEN];
}

static bool legal(const struct problem *p, const struct point *t, const struct device_info *device,
                  const char **why) {
    if (t->value[RMSNORM_BULK]) return refuse(why, "only rmsnorm takes its rows by bulk copies");
    return rmsnorm_legal(p, t, device, why);
}

static struct plan plan(const struct problem *p, const struct point *t,
                        const struct device_info *device) {
    return rmsnorm_plan("add_rmsnorm", p, t, device);
}

static struct cost cost(const struct problem *p) {
    double n = (double)p->size[ROWS] * (double)p->size[HIDDEN];
    double bytes = (double)dtype_bytes(p->dtype);
    return (struct cost){.read_bytes = (2 * n + (double)p->size[HIDDEN]) * bytes,
                         .write_bytes = 2 * n * bytes,
                         .flops = 5 * n};
}

static void reference(const struct problem *p, const void *const *before, double *const *want,
                      double *const *magnitude, int64_t first, int64_t last) {
    int64_t hidden = p->size[HIDDEN];
    for (int64_t r = first; r < last; r++) {
        double sum = 0;
        for (int64_t c = 0; c < hidden; c++) {
            int64_t i = r * hidden + c;
            double a = dtype_load(p->dtype, before[X], i);
            double b = dtype_load(p->dtype, before[RESIDUAL], i);
            want[RESIDUAL][i] = a + b;
            magnitude[RESIDUAL][i] = fabs(a) + fabs(b);
            sum += (a + b) * (a + b);
        }
        double scale = 1 / sqrt(sum / (double)hidden + (double)(float)p->real[0]);
        for (int64_t c = 0; c < hidden; c++) {
            int64_t i = r * hidden + c;
            double w = dtype_load(p->dtype, before[WEIGHT], c) * scale;
            want[Y][i] = want[RESIDUAL][i] * w;
            magnitude[Y][i] = magnitude[RESIDUAL][i] * fabs(w);
        }
    }
}

const struct kernel kernel_add_rmsnorm = {
    .name = "add_rmsnorm",
    .summary = "residual += x; y = residual * rsqrt(mean(residual^2) + eps) * weight",
    .source = "kernels/add_rmsnorm/add_rmsnorm.cu",
    .sizes = rmsnorm_sizes,
    .size_count = RMSNORM_SIZES,
    .reals = rmsnorm_reals,
    .real_count = COUNT(rmsnorm_reals),
    .tunables = rmsnorm_tunables,
    .tunable_count = RMSNORM_TUNABLES,
    .arguments = arguments,
    .argument_count = COUNT(arguments),
    .dtypes = DTYPES_FLOAT,
    .problems = rmsnorm_problems,
    .problem_count = RMSNORM_PROBLEMS,
    .bound = {160, "as rmsnorm (up to hidden/16 squares added in a row, halved by the root); the "
                   "sum x + residual rounds once, by 1 u32 of its terms"},
    .elements = elements,
    .legal = legal,
    .plan = plan,
    .cost = cost,
    .reference = reference,
    .outer = rmsnorm_outer,
};
