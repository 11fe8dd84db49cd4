// gemv_norm_swiglu - y = silu(n Wg^T) * (n Wu^T), n = rmsnorm(x, norm), for a few rows of x
//
// x: (BATCH, INPUTS), fp32; norm: (INPUTS), W: (2 outputs, INPUTS), the rows of Wg, then those of
// Wu; y: (BATCH, outputs); elements; row-major, x, norm and W aligned to VECTOR_BYTES.
// Least traffic: W read once; x and norm once a block.
// Variants: as gemv.cuh and gemv_tensor.cuh have them. A row of Wg and its row of Wu are one
// team's, so that the product needs nobody else.
#include "kernels/gemv/gemv_tensor.cuh"

typedef element_of<DTYPE> E;
typedef E::type element;

#ifndef CHECK

GEMV_POINT(1, 1);

struct sink {
    element *y;
    long long outputs;
    // exp(-|gate|) does not overflow, so that the far negative side keeps its gate exp(gate).
    DEVICE void put(const sink &to, int b, int row, float gate, float up) {
        const float e = __expf(-fabsf(gate));
        const float silu = __fdividef(gate < 0.0f ? gate * e : gate, 1.0f + e);
        to.y[b * to.outputs + row] = E::store(silu * up);
    }
};

ENTRY_BOUNDS(gemv_norm_swiglu, GEMV_BOUNDS)
(element *y, const float *x, const element *norm, const element *weight, long long outputs,
 float eps) {
    typedef gemv_of<gemv_point, sink, (STAGING >= GEMV_TENSOR_SHARED)>::type run;
    run::run({weight, outputs * run::WORDS_, (int)outputs}, {x, norm, 0}, eps, {y, outputs});
}

#else // CHECK: the formula in fp64; before, then after each argument

DEVICE double absolute(double v) { return v < 0 ? -v : v; }

ENTRY(check)
(const element *, const float *x, const element *norm, const element *weight, const element *y,
 const float *, const element *, const element *, long long outputs, float eps,
 check_report *report) {
    SHARED(double, scale, [BATCH]);
    const long long step = (long long)gridDim.x * blockDim.x;
    gemv_check_scale<BATCH, INPUTS>(x, eps, scale);
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < BATCH * outputs;
         i += step) {
        const long long b = i / outputs, row = i % outputs;
        const gemv_dot gate =
            gemv_check<element_of<2>, E, INPUTS>(x + b * INPUTS, weight + row * INPUTS, norm);
        const gemv_dot up = gemv_check<element_of<2>, E, INPUTS>(
            x + b * INPUTS, weight + (outputs + row) * INPUTS, norm);
        const double g = gate.sum * scale[b], u = up.sum * scale[b];
        const double part = 1.0 / (1.0 + exp(-g)), slope = part * (1.0 + g * (1.0 - part));
        check_element(report, 0, i, E::load(y[i]), g * part * u,
                      (absolute(slope * u) * gate.magnitude + absolute(g * part) * up.magnitude) *
                              scale[b] +
                          2 * absolute(g * part * u));
    }
}

#endif
