// gemv - y = x W^T + bias, for a few rows of x
//
// x: (BATCH, INPUTS), W: (outputs, INPUTS), y: (BATCH, outputs), bias: (outputs) or, with BIAS 0,
// nothing; all elements, row-major, x and W aligned to VECTOR_BYTES.
// Least traffic: W read once; x once a block.
// Variants: as gemv.cuh and gemv_tensor.cuh have them.
#include "kernels/gemv/gemv_tensor.cuh"

typedef element_of<DTYPE> E;
typedef E::type element;

#ifndef CHECK

GEMV_POINT(0, 0);

struct sink {
    element *y;
    const element *bias;
    long long outputs;
    DEVICE void put(const sink &to, int b, int row, float sum, float) {
        if (BIAS) sum += E::load(to.bias[row]);
        to.y[b * to.outputs + row] = E::store(sum);
    }
};

ENTRY_BOUNDS(gemv, GEMV_BOUNDS)
(element *y, const element *x, const element *weight, const element *bias, long long outputs) {
    typedef gemv_of<gemv_point, sink, (STAGING >= GEMV_TENSOR_SHARED)>::type run;
    run::run({weight, 0, (int)outputs}, {x, 0, 0}, 0.0f, {y, bias, outputs});
}

#else // CHECK: the formula in fp64; before, then after each argument

ENTRY(check)
(const element *, const element *x, const element *weight, const element *bias, const element *y,
 const element *, const element *, const element *, long long outputs, check_report *report) {
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < BATCH * outputs;
         i += step) {
        const long long b = i / outputs, row = i % outputs;
        const gemv_dot dot =
            gemv_check<E, E, INPUTS>(x + b * INPUTS, weight + row * INPUTS, (const element *)0);
        const double added = BIAS ? (double)E::load(bias[row]) : 0.0;
        check_element(report, 0, i, E::load(y[i]), dot.sum + added,
                      dot.magnitude + (added < 0 ? -added : added));
    }
}

#endif
