/* gemv.c - the spec of gemv.cu; what can be tuned and what is legal is in gemv.h. */
#include <math.h>

#include "kernels/gemv/gemv.h"
#include "kernels/shapes.h"

enum { Y, X, WEIGHT, BIAS };
static const struct argument arguments[] = {
    [Y] = {"y", "(batch, outputs), row-major", ROLE_OUT, DTYPE_COUNT, FILL_NORMAL, false},
    [X] = {"x", "(batch, inputs), row-major", ROLE_IN, DTYPE_COUNT, FILL_NORMAL, false},
    [WEIGHT] = {"weight", "(outputs, inputs), row-major", ROLE_IN, DTYPE_COUNT, FILL_MATRIX, true},
    [BIAS] = {"bias", "(outputs), or nothing without", ROLE_IN, DTYPE_COUNT, FILL_MATRIX, true},
};

static const struct problem problems[] = {
    {{1, 3072, 0, 3072}, {0}, DTYPE_F16}, {{1, 8192, 0, 3072}, {0}, DTYPE_F16},
    {{1, 2048, 0, 2048}, {0}, DTYPE_F16}, {{1, 11008, 0, 2048}, {0}, DTYPE_F16},
    {{8, 3072, 0, 3072}, {0}, DTYPE_F16}, {{8, 8192, 0, 3072}, {0}, DTYPE_F16},
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
    default:
        return n[GEMV_BIAS] ? n[GEMV_OUTPUTS] : 0;
    }
}

static bool legal(const struct problem *p, const struct point *t, const struct device_info *device,
                  const char **why) {
    return gemv_legal(&gemv_plain, p, t, device, why);
}

static struct plan plan(const struct problem *p, const struct point *t,
                        const struct device_info *device) {
    return gemv_plan(&gemv_plain, "gemv", p, t, device);
}

static double more(const struct problem *p, const struct point *t) {
    return gemv_more(&gemv_plain, p, t);
}

static struct cost cost(const struct problem *p) {
    double bytes = (double)dtype_bytes(p->dtype),
           macs = (double)p->size[GEMV_BATCH] * (double)elements(p, WEIGHT);
    return (struct cost){.read_bytes = ((double)elements(p, WEIGHT) + (double)elements(p, X) +
                                        (double)elements(p, BIAS)) *
                                       bytes,
                         .write_bytes = (double)elements(p, Y) * bytes,
                         .flops = 2 * macs};
}

static int64_t outer(const struct problem *p) { return p->size[GEMV_OUTPUTS]; }

static void reference(const struct problem *p, const void *const *before, double *const *want,
                      double *const *magnitude, int64_t first, int64_t last) {
    int64_t outputs = p->size[GEMV_OUTPUTS];
    for (int64_t b = 0; b < p->size[GEMV_BATCH]; b++)
        for (int64_t row = first; row < last; row++) {
            int64_t i = b * outputs + row;
            struct gemv_dot dot = gemv_dot(p, p->size[GEMV_INPUTS], p->dtype, before[X], b,
                                           before[WEIGHT], row, NULL);
            double bias = p->size[GEMV_BIAS] ? dtype_load(p->dtype, before[BIAS], row) : 0;
            want[Y][i] = dot.sum + bias;
            magnitude[Y][i] = dot.magnitude + fabs(bias);
        }
}

const struct kernel kernel_gemv = {
    .name = "gemv",
    .summary = "y = x W^T + bias",
    .source = "kernels/gemv/gemv.cu",
    .sizes = gemv_sizes,
    .size_count = GEMV_SIZES,
    .tunables = gemv_tunables,
    .tunable_count = GEMV_TUNABLES,
    .arguments = arguments,
    .argument_count = COUNT(arguments),
    .dtypes = DTYPES_FLOAT,
    .problems = problems,
    .problem_count = COUNT(problems),
    .bound =
        {100,
         "a thread adds a vector's 8 products, then up to 64 vectors, a warp in 5 steps, up to 16 "
         "warps one after the other, then the bias: 94 roundings of a term at most"},
    .elements = elements,
    .legal = legal,
    .plan = plan,
    .cost = cost,
    .reference = reference,
    .outer = outer,
    .bound_more = more,
};
