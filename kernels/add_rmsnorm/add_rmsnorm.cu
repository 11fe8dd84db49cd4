// add_rmsnorm - h = x + residual; residual := h; y[r][c] = h[r][c] * rsqrt(mean_c(h^2) + eps) *
// w[c]
//
// x, residual, y: (rows, HIDDEN) element, row-major; w: (HIDDEN) element; all aligned to
// VECTOR_BYTES; residual is read and written in place. h stays a float: y is made from the sum
// before it is rounded to be stored, which is closer to the formula than normalising the rounded
// residual, as an eager graph of two ops has to.
// Least traffic: x and residual read once, residual and y written once, w once (it stays in cache).
// Variants: as in rmsnorm. PASSES 1 keeps h in registers, as floats (as many registers as the two
// words it came from, half as many in fp32) and stores the residual before the sum is known, so
// that half of the writing overlaps the reduction; 2 reads both again after the sum.
#include "kernels/tile.cuh"

typedef element_of<DTYPE> E;
typedef E::type element;

#ifndef CHECK

typedef word_of<VECTOR_BYTES>::type word;

enum {
    V = VECTOR_BYTES / E::BYTES,                // elements of a vector
    THREADS = BLOCK / ROWS_PER_BLOCK,           // of a row
    VECTORS = HIDDEN / V,                       // of a row
    CHUNKS = (VECTORS + THREADS - 1) / THREADS, // vectors a thread has of a row
    RAGGED = VECTORS % THREADS != 0,            // the last chunk is not all threads'
    SHARED_FLOATS = REDUCE == 1 ? BLOCK : 2 * ((BLOCK + 31) / 32),
    RESIDUAL_HINT = LOAD_HINT == 2 ? 0 : LOAD_HINT, // it is written: not through the read-only path
};

// h = a + b, and the sum of its squares.
DEVICE float add(word a, word b, float *h) {
    float f[V], sum = 0.0f;
    unpack<E>(a, f), unpack<E>(b, h);
#pragma unroll
    for (int k = 0; k < V; k++) {
        h[k] += f[k];
        sum += h[k] * h[k];
    }
    return sum;
}

DEVICE word packed(const float *h) {
    word w;
    pack<E>(h, w);
    return w;
}

DEVICE word scaled(const float *h, float r, word w) {
    float f[V];
    unpack<E>(w, f);
#pragma unroll
    for (int k = 0; k < V; k++) f[k] = h[k] * r * f[k];
    return packed(f);
}

// This thread's chunks of a row; rows past the end read as zero.
template <int HINT> DEVICE void load_row(word *v, const word *row, int t, bool inside) {
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) {
        int n = t + i * THREADS;
        v[i] = word();
        if (inside && (!RAGGED || n < VECTORS)) v[i] = load_word<HINT>(row + n);
    }
}

ENTRY_BOUNDS(add_rmsnorm, BLOCK)
(element *y_, element *residual_, const element *x_, const element *w_, long long rows, float eps) {
    SHARED(float, shared, [SHARED_FLOATS]);
    const word *x = (const word *)x_, *w = (const word *)w_;
    word *y = (word *)y_, *residual = (word *)residual_;
    const int t = threadIdx.x % THREADS;
    const long long step = (long long)gridDim.x * ROWS_PER_BLOCK;
    long long base = (long long)blockIdx.x * ROWS_PER_BLOCK; // the same for the whole block
    long long row = base + threadIdx.x / THREADS;
    int parity = 0;

#if PASSES == 1
    word a[CHUNKS], b[CHUNKS], scale[CHUNKS];
    load_row<LOAD_HINT>(a, x + row * VECTORS, t, row < rows);
    load_row<RESIDUAL_HINT>(b, residual + row * VECTORS, t, row < rows);
    for (int k = 1; k < PREFETCH; k++)
        if (row + k * step < rows) {
            prefetch<THREADS, VECTORS>(x + (row + k * step) * VECTORS, t);
            prefetch<THREADS, VECTORS>(residual + (row + k * step) * VECTORS, t);
        }
#pragma unroll
    for (int i = 0; i < CHUNKS; i++)
        if (!RAGGED || t + i * THREADS < VECTORS) scale[i] = w[t + i * THREADS];
    for (; base < rows; base += step, row += step, parity ^= 1) {
        float h[CHUNKS][V], sum = 0.0f;
        if (PREFETCH && row + PREFETCH * step < rows) {
            prefetch<THREADS, VECTORS>(x + (row + PREFETCH * step) * VECTORS, t);
            prefetch<THREADS, VECTORS>(residual + (row + PREFETCH * step) * VECTORS, t);
        }
#pragma unroll
        for (int i = 0; i < CHUNKS; i++) sum += add(a[i], b[i], h[i]);
#if AHEAD
        load_row<LOAD_HINT>(a, x + (row + step) * VECTORS, t, row + step < rows);
        load_row<RESIDUAL_HINT>(b, residual + (row + step) * VECTORS, t, row + step < rows);
#endif
        if (row < rows) {
#pragma unroll
            for (int i = 0; i < CHUNKS; i++) {
                int n = t + i * THREADS;
                if (!RAGGED || n < VECTORS)
                    store_word<STORE_HINT>(residual + row * VECTORS + n, packed(h[i]));
            }
        }
        sum = row_sum<THREADS, BLOCK, REDUCE>(sum, shared, parity);
        float r = rsqrtf(sum / HIDDEN + eps);
        if (row < rows) {
#pragma unroll
            for (int i = 0; i < CHUNKS; i++) {
                int n = t + i * THREADS;
                if (!RAGGED || n < VECTORS)
                    store_word<STORE_HINT>(y + row * VECTORS + n, scaled(h[i], r, scale[i]));
            }
        }
#if !AHEAD
        if (BLOCKS_PER_SM) {
            load_row<LOAD_HINT>(a, x + (row + step) * VECTORS, t, row + step < rows);
            load_row<RESIDUAL_HINT>(b, residual + (row + step) * VECTORS, t, row + step < rows);
        }
#endif
    }
#else
    for (; base < rows; base += step, row += step, parity ^= 1) {
        const word *from = x + row * VECTORS;
        word *through = residual + row * VECTORS;
        float h[V], sum = 0.0f;
        if (row < rows) {
#pragma unroll UNROLL
            for (int n = t; n < VECTORS; n += THREADS)
                sum +=
                    add(load_word<LOAD_HINT>(from + n), load_word<RESIDUAL_HINT>(through + n), h);
        }
        sum = row_sum<THREADS, BLOCK, REDUCE>(sum, shared, parity);
        float r = rsqrtf(sum / HIDDEN + eps);
        if (row < rows) {
#pragma unroll UNROLL
            for (int n = t; n < VECTORS; n += THREADS) {
                add(load_word<LOAD_HINT>(from + n), load_word<RESIDUAL_HINT>(through + n), h);
                store_word<STORE_HINT>(through + n, packed(h));
                store_word<STORE_HINT>(y + row * VECTORS + n, scaled(h, r, w[n]));
            }
        }
    }
#endif
}

#else // CHECK: the formula in fp64, a block of 256 threads a row; before, then after each argument

DEVICE double magnitude_of(double a, double b) { return (a < 0 ? -a : a) + (b < 0 ? -b : b); }

ENTRY(check)
(const element *, const element *residual, const element *x, const element *w, const element *y,
 const element *residual_after, const element *, const element *, long long rows, float eps,
 check_report *report) {
    SHARED(double, shared, [256]);
    for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
        double sum = 0;
        for (int c = threadIdx.x; c < HIDDEN; c += blockDim.x) {
            long long i = row * HIDDEN + c;
            double h = (double)E::load(x[i]) + (double)E::load(residual[i]);
            sum += h * h;
        }
        __syncthreads();
        shared[threadIdx.x] = sum;
        __syncthreads();
        sum = 0;
        for (unsigned i = 0; i < blockDim.x; i++) sum += shared[i];
        double r = 1.0 / sqrt(sum / HIDDEN + (double)eps);
        for (int c = threadIdx.x; c < HIDDEN; c += blockDim.x) {
            long long i = row * HIDDEN + c;
            double a = E::load(x[i]), b = E::load(residual[i]), scale = r * (double)E::load(w[c]);
            double terms = magnitude_of(a, b);
            check_element(report, 0, i, E::load(y[i]), (a + b) * scale,
                          terms * (scale < 0 ? -scale : scale));
            check_element(report, 1, i, E::load(residual_after[i]), a + b, terms);
        }
    }
}

#endif
