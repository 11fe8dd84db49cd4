// rmsnorm - y[r][c] = x[r][c] * rsqrt(mean_c(x[r][c]^2) + eps) * w[c]
//
// x, y: (rows, HIDDEN) element, row-major; w: (HIDDEN) element; all aligned to VECTOR_BYTES.
// Least traffic: x read once, y written once, w once (it stays in L1 and L2).
// Variants: ROWS_PER_BLOCK rows at a time by a block of BLOCK threads, BLOCK / ROWS_PER_BLOCK a
// row; PASSES 1 keeps the row in registers, 2 reads it again (from L1 or L2) after the sum, with
// UNROLL vectors in flight; REDUCE as in row_sum; BLOCKS_PER_SM 0 starts one block for each group
// of rows, n a grid of n blocks a multiprocessor that walks over them; AHEAD 1 loads the next
// rows before reducing these; PREFETCH n has the block's next n rows on their way into L2, which
// keeps more in flight than registers can hold.
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
};

DEVICE float square_sum(word w) {
    float f[V], sum = 0.0f;
    unpack<E>(w, f);
#pragma unroll
    for (int k = 0; k < V; k++) sum += f[k] * f[k];
    return sum;
}

DEVICE word scaled(word x, float r, word w) {
    float f[V], g[V];
    unpack<E>(x, f), unpack<E>(w, g);
#pragma unroll
    for (int k = 0; k < V; k++) f[k] = f[k] * r * g[k];
    word y;
    pack<E>(f, y);
    return y;
}

// This thread's chunks of a row; rows past the end read as zero.
DEVICE void load_row(word *v, const word *row, int t, bool inside) {
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) {
        int n = t + i * THREADS;
        v[i] = word();
        if (inside && (!RAGGED || n < VECTORS)) v[i] = load_word<LOAD_HINT>(row + n);
    }
}

ENTRY_BOUNDS(rmsnorm, BLOCK)
(element *y_, const element *x_, const element *w_, long long rows, float eps) {
    SHARED(float, shared, [SHARED_FLOATS]);
    const word *x = (const word *)x_, *w = (const word *)w_;
    word *y = (word *)y_;
    const int t = threadIdx.x % THREADS;
    const long long step = (long long)gridDim.x * ROWS_PER_BLOCK;
    long long base = (long long)blockIdx.x * ROWS_PER_BLOCK; // the same for the whole block
    long long row = base + threadIdx.x / THREADS;
    int parity = 0;

#if PASSES == 1
    word v[CHUNKS], scale[CHUNKS];
    load_row(v, x + row * VECTORS, t, row < rows);
    for (int k = 1; k < PREFETCH; k++)
        if (row + k * step < rows) prefetch<THREADS, VECTORS>(x + (row + k * step) * VECTORS, t);
#pragma unroll
    for (int i = 0; i < CHUNKS; i++)
        if (!RAGGED || t + i * THREADS < VECTORS) scale[i] = w[t + i * THREADS];
    for (; base < rows; base += step, row += step, parity ^= 1) {
        float sum = 0.0f;
        if (PREFETCH && row + PREFETCH * step < rows)
            prefetch<THREADS, VECTORS>(x + (row + PREFETCH * step) * VECTORS, t);
#pragma unroll
        for (int i = 0; i < CHUNKS; i++) sum += square_sum(v[i]);
#if AHEAD
        word next[CHUNKS];
        load_row(next, x + (row + step) * VECTORS, t, row + step < rows);
#endif
        sum = row_sum<THREADS, BLOCK, REDUCE>(sum, shared, parity);
        float r = rsqrtf(sum / HIDDEN + eps);
        if (row < rows) {
#pragma unroll
            for (int i = 0; i < CHUNKS; i++) {
                int n = t + i * THREADS;
                if (!RAGGED || n < VECTORS)
                    store_word<STORE_HINT>(y + row * VECTORS + n, scaled(v[i], r, scale[i]));
            }
        }
#if AHEAD
#pragma unroll
        for (int i = 0; i < CHUNKS; i++) v[i] = next[i];
#else
        if (BLOCKS_PER_SM) load_row(v, x + (row + step) * VECTORS, t, row + step < rows);
#endif
    }
#else
    for (; base < rows; base += step, row += step, parity ^= 1) {
        const word *from = x + row * VECTORS;
        float sum = 0.0f;
        if (row < rows) {
#pragma unroll UNROLL
            for (int n = t; n < VECTORS; n += THREADS)
                sum += square_sum(load_word<LOAD_HINT>(from + n));
        }
        sum = row_sum<THREADS, BLOCK, REDUCE>(sum, shared, parity);
        float r = rsqrtf(sum / HIDDEN + eps);
        if (row < rows) {
#pragma unroll UNROLL
            for (int n = t; n < VECTORS; n += THREADS)
                store_word<STORE_HINT>(y + row * VECTORS + n,
                                       scaled(load_word<LOAD_HINT>(from + n), r, w[n]));
        }
    }
#endif
}

#else // CHECK: the formula in fp64, a block of 256 threads a row; before, then after each argument

ENTRY(check)
(const element *, const element *x, const element *w, const element *y, const element *,
 const element *, long long rows, float eps, check_report *report) {
    SHARED(double, shared, [256]);
    for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
        double sum = 0;
        for (int c = threadIdx.x; c < HIDDEN; c += blockDim.x) {
            double v = E::load(x[row * HIDDEN + c]);
            sum += v * v;
        }
        __syncthreads();
        shared[threadIdx.x] = sum;
        __syncthreads();
        sum = 0;
        for (unsigned i = 0; i < blockDim.x; i++) sum += shared[i];
        double r = 1.0 / sqrt(sum / HIDDEN + (double)eps);
        for (int c = threadIdx.x; c < HIDDEN; c += blockDim.x) {
            double want = (double)E::load(x[row * HIDDEN + c]) * r * (double)E::load(w[c]);
            check_element(report, 0, row * HIDDEN + c, E::load(y[row * HIDDEN + c]), want,
                          want < 0 ? -want : want);
        }
    }
}

#endif
