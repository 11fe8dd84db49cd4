// norm_wide - y[r][c] = x[r][c] * rsqrt(mean_c(x[r][c]^2) + eps) * w[c], from an fp32 residual
// stream: the norms of a prefill
//
// x: (rows, HIDDEN) fp32, row-major; w: (HIDDEN) element; y: (rows, HIDDEN) element. A vector is
// VECTOR_BYTES of x and as many elements of w and y; each array aligned to its own vectors.
// Least traffic: x read once, y written once, w once (it stays in L1 and L2).
// Variants: as in rmsnorm. ROWS_PER_BLOCK rows at a time by a block of BLOCK threads; PASSES 1
// keeps the row in registers, 2 reads it again after the sum; REDUCE as in row_sum; BLOCKS_PER_SM 0
// starts one block for each group of rows, n a grid of n blocks a multiprocessor that walks over
// them.
#include "kernels/tile.cuh"

typedef element_of<DTYPE> E;
typedef E::type element;

#ifndef CHECK

enum {
    V = VECTOR_BYTES / 4,                       // elements of a vector
    THREADS = BLOCK / ROWS_PER_BLOCK,           // of a row
    VECTORS = HIDDEN / V,                       // of a row
    CHUNKS = (VECTORS + THREADS - 1) / THREADS, // vectors a thread has of a row
    RAGGED = VECTORS % THREADS != 0,            // the last chunk is not all threads'
    SHARED_FLOATS = REDUCE == 1 ? BLOCK : 2 * ((BLOCK + 31) / 32),
};
typedef word_of<VECTOR_BYTES>::type wide;
typedef word_of<V * E::BYTES>::type narrow;

DEVICE float square_sum(wide w) {
    float f[V], sum = 0.0f;
    unpack<element_of<2>>(w, f);
#pragma unroll
    for (int k = 0; k < V; k++) sum += f[k] * f[k];
    return sum;
}

DEVICE narrow scaled(wide x, float r, narrow w) {
    float f[V], g[V];
    unpack<element_of<2>>(x, f), unpack<E>(w, g);
#pragma unroll
    for (int k = 0; k < V; k++) f[k] = f[k] * r * g[k];
    narrow y;
    pack<E>(f, y);
    return y;
}

ENTRY_BOUNDS(norm_wide, BLOCK)
(element *y_, const float *x_, const element *w_, long long rows, float eps) {
    SHARED(float, shared, [SHARED_FLOATS]);
    const wide *x = (const wide *)x_;
    const narrow *w = (const narrow *)w_;
    narrow *y = (narrow *)y_;
    const int t = threadIdx.x % THREADS;
    const long long step = (long long)gridDim.x * ROWS_PER_BLOCK;
    int parity = 0;
    for (long long base = (long long)blockIdx.x * ROWS_PER_BLOCK; base < rows; base += step) {
        const long long row = base + threadIdx.x / THREADS;
        const wide *from = x + row * VECTORS;
        const bool inside = row < rows;
        float sum = 0.0f;
#if PASSES == 1
        wide v[CHUNKS];
        narrow scale[CHUNKS];
#pragma unroll
        for (int i = 0; i < CHUNKS; i++) {
            const int n = t + i * THREADS;
            v[i] = wide(), scale[i] = narrow();
            if (!inside || (RAGGED && n >= VECTORS)) continue;
            v[i] = load_word<LOAD_HINT>(from + n);
            scale[i] = w[n];
        }
#pragma unroll
        for (int i = 0; i < CHUNKS; i++) sum += square_sum(v[i]);
#else
        if (inside) {
#pragma unroll 4
            for (int n = t; n < VECTORS; n += THREADS)
                sum += square_sum(load_word<LOAD_HINT>(from + n));
        }
#endif
        sum = row_sum<THREADS, BLOCK, REDUCE>(sum, shared, parity);
        parity ^= 1;
        const float r = rsqrtf(sum / HIDDEN + eps);
        if (!inside) continue;
#if PASSES == 1
#pragma unroll
        for (int i = 0; i < CHUNKS; i++) {
            const int n = t + i * THREADS;
            if (!RAGGED || n < VECTORS)
                store_word<STORE_HINT>(y + row * VECTORS + n, scaled(v[i], r, scale[i]));
        }
#else
#pragma unroll 4
        for (int n = t; n < VECTORS; n += THREADS)
            store_word<STORE_HINT>(y + row * VECTORS + n,
                                   scaled(load_word<LOAD_HINT>(from + n), r, w[n]));
#endif
    }
}

#else // CHECK: the formula in fp64, a block of 256 threads a row; before, then after each argument

ENTRY(check)
(const element *, const float *x, const element *w, const element *y, const float *,
 const element *, long long rows, float eps, check_report *report) {
    SHARED(double, shared, [256]);
    for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
        double sum = 0;
        for (int c = threadIdx.x; c < HIDDEN; c += blockDim.x) {
            const double v = x[row * HIDDEN + c];
            sum += v * v;
        }
        __syncthreads();
        shared[threadIdx.x] = sum;
        __syncthreads();
        sum = 0;
        for (unsigned i = 0; i < blockDim.x; i++) sum += shared[i];
        const double r = 1.0 / sqrt(sum / HIDDEN + (double)eps);
        for (int c = threadIdx.x; c < HIDDEN; c += blockDim.x) {
            const double want = (double)x[row * HIDDEN + c] * r * (double)E::load(w[c]);
            check_element(report, 0, row * HIDDEN + c, E::load(y[row * HIDDEN + c]), want,
                          want < 0 ? -want : want);
        }
    }
}

#endif
