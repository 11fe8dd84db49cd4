/* gemv.h - what gemv, gemv_residual, gemv_norm and gemv_norm_swiglu share: sizes, tunables, which
 * points are legal, geometry, and the fp64 dot product. See gemv.cuh and
 * gemv_tensor.cuh for what the tunables do.
 */
#ifndef KERNELS_GEMV_H
#define KERNELS_GEMV_H

#include "runtime/device.h"

enum { GEMV_BATCH, GEMV_INPUTS, GEMV_BIAS, GEMV_OUTPUTS, GEMV_SIZES };
extern const struct size gemv_sizes[GEMV_SIZES];
extern const struct real gemv_reals[1]; /* eps */

enum {
    GEMV_BLOCK,
    GEMV_ROW_THREADS,
    GEMV_ROWS,
    GEMV_UNROLL,
    GEMV_DEPTH,
    GEMV_STAGING,
    GEMV_VECTOR_BYTES,
    GEMV_BLOCKS_PER_SM,
    GEMV_LOAD_HINT,
    GEMV_TUNABLES
};
extern const struct tunable gemv_tunables[GEMV_TUNABLES], gemv_pair_tunables[GEMV_TUNABLES];

/* Where a kernel has its sizes, what x is, and rows of W for one output. */
struct gemv_form {
    int batch, inputs, outputs; /* their places among the sizes */
    bool norm;                  /* x is fp32 and normed on the way */
    bool pair;                  /* a gate row and an up row make an output */
};
extern const struct gemv_form gemv_plain, gemv_normed;

bool gemv_legal(const struct gemv_form *form, const struct problem *problem,
                const struct point *point, const struct device_info *device, const char **why);
/* For bound_more: roundings of the points that use tensor cores. */
double gemv_more(const struct gemv_form *form, const struct problem *problem,
                 const struct point *point);
struct plan gemv_plan(const struct gemv_form *form, const char *entry,
                      const struct problem *problem, const struct point *point,
                      const struct device_info *device);

/* x . w in fp64 over `inputs` elements of a row of x and a row of W, and the sum of |terms|;
 * with `norm` not NULL each term times norm[k], too. */
struct gemv_dot {
    double sum, magnitude;
};
struct gemv_dot gemv_dot(const struct problem *problem, int64_t inputs, enum dtype x_dtype,
                         const void *x, int64_t x_row, const void *weight, int64_t weight_row,
                         const void *norm);
/* 1 / sqrt(mean of squares + eps) of a row of fp32. */
double gemv_scale(const void *x, int64_t row, int64_t inputs, double eps);

#endif
