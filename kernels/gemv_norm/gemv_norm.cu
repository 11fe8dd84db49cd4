// gemv_norm - y = rmsnorm(x, norm) W^T + bias, for a few rows of x: a layer's q, k and v, a head's
// logits
//
// x: (BATCH, INPUTS), fp32; norm: (INPUTS), W: (outputs, INPUTS), bias: (outputs) or, with BIAS 0,
// nothing; elements; y: (BATCH, outputs), fp32; row-major, x, norm and W aligned to VECTOR_BYTES.
// Least traffic: W read once; x and norm once a block.
// Variants: as gemv.cuh and gemv_tensor.cuh have them. No block needs another: each finds the mean
// of squares itself.
#include "kernels/gemv/gemv_tensor.cuh"

typedef element_of<DTYPE> E;
typedef E::type element;

#ifndef CHECK

GEMV_POINT(1, 0);

struct sink {
    float *y;
    const element *bias;
    long long outputs;
    DEVICE void put(const sink &to, int b, int row, float sum, float) {
        if (BIAS) sum += E::load(to.bias[row]);
        to.y[b * to.outputs + row] = sum;
    }
};

ENTRY_BOUNDS(gemv_norm, GEMV_BOUNDS)
(float *y, const float *x, const element *norm, const element *weight, const element *bias,
 long long outputs, float eps) {
    typedef gemv_of<gemv_point, sink, (STAGING >= GEMV_TENSOR_SHARED)>::type run;
    run::run({weight, 0, (int)outputs}, {x, norm, 0}, eps, {y, bias, outputs});
}

#else // CHECK: the formula in fp64; before, then after each argument

ENTRY(check)
(const float *, const float *x, const element *norm, const element *weight, const element *bias,
 const float *y, const float *, const element *, const element *, const element *,
 long long outputs, float eps, check_report *report) {
    SHARED(double, scale, [BATCH]);
    const long long step = (long long)gridDim.x * blockDim.x;
    gemv_check_scale<BATCH, INPUTS>(x, eps, scale);
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < BATCH * outputs;
         i += step) {
        const long long b = i / outputs, row = i % outputs;
        const gemv_dot dot =
            gemv_check<element_of<2>, E, INPUTS>(x + b * INPUTS, weight + row * INPUTS, norm);
        const double added = BIAS ? (double)E::load(bias[row]) : 0.0;
        check_single(report, 0, i, y[i], dot.sum * scale[b] + added,
                     dot.magnitude * scale[b] + (added < 0 ? -added : added));
    }
}

#endif
