/* gemv_norm.c - the spec of gemv_norm.cu; what can be tuned and what is legal is in gemv.h. */
#include <math.h>

#include "kernels/gemv/gemv.h"
#include "kernels/shapes.h"

enum { Y, X, NORM, WEIGHT, BIAS };
static const struct argument arguments[] = {
    [Y] = {"y", "(batch, outputs), row-major", ROLE_OUT, DTYPE_F32, FILL_NORMAL, false},
    [X] = {"x", "(batch, inputs), row-major", ROLE_IN, DTYPE_F32, FILL_NORMAL, false},
    [NORM] = {"norm", "(inputs)", ROLE_IN, DTYPE_COUNT, FILL_WEIGHT, true},
    [WEIGHT] = {"weight", "(outputs, inputs), row-major", ROLE_IN, DTYPE_COUNT, FILL_MATRIX, true},
    [BIAS] = {"bias", "(outputs), or nothing without", ROLE_IN, DTYPE_COUNT, FILL_MATRIX, true},
};

static const struct problem problems[] = {
    {{1, 3072, 0, 5120}, {1e-5}, DTYPE_F16}, {{1, 3072, 0, 128256}, {1e-5}, DTYPE_F16},
    {{1, 2048, 0, 3072}, {1e-5}, DTYPE_F16}, {{1, 2048, 0, 128256}, {1e-5}, DTYPE_F16},
    {{8, 3072, 0, 5120}, {1e-5}, DTYPE_F16}, {{8, 3072, 0, 128256}, {1e-5}, DTYPE_F16},
};

static int64_t elements(const struct problem *p, int index) {
    const int64_t *n = p->size;
    switch (index) {
    case Y:
        return n[GEMV_BATCH] * n[GEMV_OUTPUTS];
    case X:
        return n[GEMV_BATCH] * n[GEMV_INPUTS];
    case WEIGHT:
        return n[GEMV_OUTPUTS] * n[GEMV_INPUTS];
    case NORM:
        return n[GEMV_INPUTS];
    default:
        return n[GEMV_BIAS] ? n[GEMV_OUTPUTS] : 0;
    }
}

static bool legal(const struct problem *p, const struct point *t, const struct device_info *device,
                  const char **why) {
    return gemv_legal(&gemv_normed, p, t, device, why);
}

static struct plan plan(const struct problem *p, const struct point *t,
                        const struct device_info *device) {
    return gemv_plan(&gemv_normed, "gemv_norm", p, t, device);
}

static double more(const struct problem *p, const struct point *t) {
    return gemv_more(&gemv_normed, p, t);
}

static struct cost cost(const struct problem *p) {
    double bytes = (double)dtype_bytes(p->dtype),
           macs = (double)p->size[GEMV_BATCH] * (double)elements(p, WEIGHT);
    return (struct cost){.read_bytes = ((double)elements(p, WEIGHT) + (double)elements(p, NORM) +
                                        (double)elements(p, BIAS)) *
                                           bytes +
                                       4 * (double)elements(p, X),
                         .write_bytes = 4 * (double)elements(p, Y),
                         .flops = 2 * macs};
}

static int64_t outer(const struct problem *p) { return p->size[GEMV_OUTPUTS]; }

static void reference(const struct problem *p, const void *const *before, double *const *want,
                      double *const *magnitude, int64_t first, int64_t last) {
    int64_t outputs = p->size[GEMV_OUTPUTS], inputs = p->size[GEMV_INPUTS];
    for (int64_t b = 0; b < p->size[GEMV_BATCH]; b++) {
        double scale = gemv_scale(before[X], b, inputs, p->real[0]);
        for (int64_t row = first; row < last; row++) {
            int64_t i = b * outputs + row;
            struct gemv_dot dot =
                gemv_dot(p, inputs, DTYPE_F32, before[X], b, before[WEIGHT], row, before[NORM]);
            double bias = p->size[GEMV_BIAS] ? dtype_load(p->dtype, before[BIAS], row) : 0;
            want[Y][i] = dot.sum * scale + bias;
            magnitude[Y][i] = dot.magnitude * scale + fabs(bias);
        }
    }
}

const struct kernel kernel_gemv_norm = {
    .name = "gemv_norm",
    .summary = "y = rmsnorm(x, norm) W^T + bias, in fp32",
    .source = "kernels/gemv_norm/gemv_norm.cu",
    .sizes = gemv_sizes,
    .size_count = GEMV_SIZES,
    .reals = gemv_reals,
    .real_count = COUNT(gemv_reals),
    .tunables = gemv_tunables,
    .tunable_count = GEMV_TUNABLES,
    .arguments = arguments,
    .argument_count = COUNT(arguments),
    .dtypes = DTYPES_FLOAT,
    .problems = problems,
    .problem_count = COUNT(problems),
    .bound = {160, "94 roundings of a term as in gemv, one of x norm; the sum of squares is as "
                   "long, halved by "
                   "the root; mean, rsqrt and the product with it add a few"},
    .elements = elements,
    .legal = legal,
    .plan = plan,
    .cost = cost,
    .reference = reference,
    .outer = outer,
    .bound_more = more,
};
