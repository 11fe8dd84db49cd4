// gemv_residual - residual += x W^T + bias, for a few rows of x; the residual is fp32
//
// x: (BATCH, INPUTS), W: (outputs, INPUTS), bias: (outputs) or, with BIAS 0, nothing; elements;
// residual: (BATCH, outputs), fp32; row-major, x and W aligned to VECTOR_BYTES.
// Least traffic: W read once; x once a block, the residual read and written.
// Variants: as gemv.cuh and gemv_tensor.cuh have them.
#include "kernels/gemv/gemv_tensor.cuh"

typedef element_of<DTYPE> E;
typedef E::type element;

#ifndef CHECK

GEMV_POINT(0, 0);

struct sink {
    float *residual;
    const element *bias;
    long long outputs;
    DEVICE void put(const sink &to, int b, int row, float sum, float) {
        if (BIAS) sum += E::load(to.bias[row]);
        to.residual[b * to.outputs + row] += sum;
    }
};

ENTRY_BOUNDS(gemv_residual, GEMV_BOUNDS)
(float *residual, const element *x, const element *weight, const element *bias, long long outputs) {
    typedef gemv_of<gemv_point, sink, (STAGING >= GEMV_TENSOR_SHARED)>::type run;
    run::run({weight, 0, (int)outputs}, {x, 0, 0}, 0.0f, {residual, bias, outputs});
}

#else // CHECK: the formula in fp64; before, then after each argument

ENTRY(check)
(const float *before, const element *x, const element *weight, const element *bias,
 const float *after, const element *, const element *, const element *, long long outputs,
 check_report *report) {
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < BATCH * outputs;
         i += step) {
        const long long b = i / outputs, row = i % outputs;
        const gemv_dot dot =
            gemv_check<E, E, INPUTS>(x + b * INPUTS, weight + row * INPUTS, (const element *)0);
        const double own = before[i], added = BIAS ? (double)E::load(bias[row]) : 0.0;
        check_single(report, 0, i, after[i], own + dot.sum + added,
                     (own < 0 ? -own : own) + dot.magnitude + (added < 0 ? -added : added));
    }
}

#endif
