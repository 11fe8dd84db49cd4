/* gemv_norm_swiglu.c - the spec of gemv_norm_swiglu.cu; what can be tuned and what is legal is in
 * gemv.h. */
#include <math.h>

#include "kernels/gemv/gemv.h"
#include "kernels/shapes.h"

enum { BATCH, INPUTS, OUTPUTS };
enum { Y, X, NORM, WEIGHT };

static const struct size sizes[] = {
    [BATCH] = {"batch", "sequences", true, 1, 1, 16},
    [INPUTS] = {"inputs", "width of a row of the matrix", true, 3072, 2, 32768},
    [OUTPUTS] = {"outputs", "gate rows of the matrix, and up rows", false, 8192, 1, 1 << 24},
};
static const struct gemv_form form = {BATCH, INPUTS, OUTPUTS, true, true};

static const struct argument arguments[] = {
    [Y] = {"y", "(batch, outputs), row-major", ROLE_OUT, DTYPE_COUNT, FILL_NORMAL, false},
    [X] = {"x", "(batch, inputs), row-major", ROLE_IN, DTYPE_F32, FILL_NORMAL, false},
    [NORM] = {"norm", "(inputs)", ROLE_IN, DTYPE_COUNT, FILL_WEIGHT, true},
    [WEIGHT] = {"weight", "(2 outputs, inputs): all gate rows, then all up rows", ROLE_IN,
                DTYPE_COUNT, FILL_MATRIX, true},
};

static const struct problem problems[] = {
    {{1, 3072, 8192}, {1e-5}, DTYPE_F16},
    {{1, 2048, 11008}, {1e-5}, DTYPE_F16},
    {{8, 3072, 8192}, {1e-5}, DTYPE_F16},
};

static int64_t elements(const struct problem *p, int index) {
    const int64_t *n = p->size;
    switch (index) {
    case Y:
        return n[BATCH] * n[OUTPUTS];
    case X:
        return n[BATCH] * n[INPUTS];
    case NORM:
        return n[INPUTS];
    default:
        return 2 * n[OUTPUTS] * n[INPUTS];
    }
}

static bool legal(const struct problem *p, const struct point *t, const struct device_info *device,
                  const char **why) {
    return gemv_legal(&form, p, t, device, why);
}

static struct plan plan(const struct problem *p, const struct point *t,
                        const struct device_info *device) {
    return gemv_plan(&form, "gemv_norm_swiglu", p, t, device);
}

static double more(const struct problem *p, const struct point *t) {
    return gemv_more(&form, p, t);
}

static struct cost cost(const struct problem *p) {
    double bytes = (double)dtype_bytes(p->dtype),
           macs = (double)p->size[BATCH] * (double)elements(p, WEIGHT);
    return (struct cost){.read_bytes =
                             ((double)elements(p, WEIGHT) + (double)elements(p, NORM)) * bytes +
                             4 * (double)elements(p, X),
                         .write_bytes = (double)elements(p, Y) * bytes,
                         .flops = 2 * macs};
}

static int64_t outer(const struct problem *p) { return p->size[OUTPUTS]; }

static void reference(const struct problem *p, const void *const *before, double *const *want,
                      double *const *magnitude, int64_t first, int64_t last) {
    int64_t outputs = p->size[OUTPUTS], inputs = p->size[INPUTS];
    for (int64_t b = 0; b < p->size[BATCH]; b++) {
        double scale = gemv_scale(before[X], b, inputs, p->real[0]);
        for (int64_t row = first; row < last; row++) {
            int64_t i = b * outputs + row;
            struct gemv_dot gate =
                gemv_dot(p, inputs, DTYPE_F32, before[X], b, before[WEIGHT], row, before[NORM]);
            struct gemv_dot up = gemv_dot(p, inputs, DTYPE_F32, before[X], b, before[WEIGHT],
                                          outputs + row, before[NORM]);
            double g = gate.sum * scale, u = up.sum * scale, part = 1 / (1 + exp(-g));
            double slope = part * (1 + g * (1 - part)); /* of silu, which errors of g go through */
            want[Y][i] = g * part * u;
            magnitude[Y][i] =
                (fabs(slope * u) * gate.magnitude + fabs(g * part) * up.magnitude) * scale +
                2 * fabs(want[Y][i]);
        }
    }
}

const struct kernel kernel_gemv_norm_swiglu = {
    .name = "gemv_norm_swiglu",
    .summary = "y = silu(n Wg^T) * (n Wu^T), n = rmsnorm(x, norm)",
    .source = "kernels/gemv_norm_swiglu/gemv_norm_swiglu.cu",
    .sizes = sizes,
    .size_count = COUNT(sizes),
    .reals = gemv_reals,
    .real_count = COUNT(gemv_reals),
    .tunables = gemv_pair_tunables,
    .tunable_count = GEMV_TUNABLES,
    .arguments = arguments,
    .argument_count = COUNT(arguments),
    .dtypes = DTYPES_FLOAT,
    .problems = problems,
    .problem_count = COUNT(problems),
    .bound = {160, "gate and up as in gemv_norm, each through its derivative; the hardware's exp "
                   "is off by 2 + "
                   "1.16 |gate| ulp, within the magnitude's 2 |y| up to |gate| = 88"},
    .elements = elements,
    .legal = legal,
    .plan = plan,
    .cost = cost,
    .reference = reference,
    .outer = outer,
    .bound_more = more,
};
