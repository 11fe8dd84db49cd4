// scale2 - y[i] = 2 x[i]: the worked example of a kernel from outside the tree.
//
// x, y: (elements) element, aligned to VECTOR_BYTES; what no whole vector covers is done one by
// one. Least traffic: x read once, y written once.
// A point arrives as macros (BLOCK, VECTOR_BYTES, BLOCKS_PER_SM), the dtype as DTYPE. The words of
// CUDA come from runtime/simt.h, so that the same file runs on the CPU device; tile.cuh has
// vectors, conversions and reductions on top.
#include "kernels/tile.cuh"

typedef element_of<DTYPE> E;
typedef E::type element;

#ifndef CHECK

typedef word_of<VECTOR_BYTES>::type word;

DEVICE word twice(word w) {
    enum { V = VECTOR_BYTES / E::BYTES };
    float f[V];
    unpack<E>(w, f);
#pragma unroll
    for (int k = 0; k < V; k++) f[k] *= 2.0f;
    pack<E>(f, w);
    return w;
}

// The entry's name is the plan's; its parameters are the arguments, then the sizes that are not
// compiled in, then the reals.
ENTRY_BOUNDS(scale2, BLOCK)(element *y, const element *x, long long elements) {
    const long long vectors = elements * E::BYTES / VECTOR_BYTES;
    const long long step = (long long)gridDim.x * BLOCK;
    for (long long i = (long long)blockIdx.x * BLOCK + threadIdx.x; i < vectors; i += step)
        ((word *)y)[i] = twice(((const word *)x)[i]);
    const long long rest = vectors * (VECTOR_BYTES / E::BYTES) + threadIdx.x;
    if (blockIdx.x == 0 && rest < elements) y[rest] = E::store(2.0f * E::load(x[rest]));
}

#else // CHECK: compiled once a problem, to judge on the device what is too large for the host.
      // Each argument as it was before, then each as it is after, then sizes, reals and the report.

ENTRY(check)
(const element *, const element *x, const element *y, const element *, long long elements,
 check_report *report) {
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < elements; i += step) {
        double want = 2.0 * (double)E::load(x[i]);
        check_element(report, 0, i, E::load(y[i]), want, want < 0 ? -want : want);
    }
}

#endif
