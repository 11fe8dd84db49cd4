// embed - residual[r] = table[token[r]], in fp32: the first thing of a forward pass
//
// residual: (rows, HIDDEN) fp32; token: (rows) int32; table: (vocab, HIDDEN) element; table aligned
// to VECTOR_BYTES, residual to 16. A token that is no row of the table (sample's -1, say) gives
// zeros, so that nothing outside is read.
// Least traffic: rows of the table read once, residual written once, 4 bytes a token.
// Variants: a thread converts a vector of VECTOR_BYTES; a block of BLOCK threads takes chunks of
// BLOCK * UNROLL of them and loads UNROLL before it stores the first; BLOCKS_PER_SM 0 starts one
// block for each chunk, n a grid of n blocks a multiprocessor that walks over them.
#include "kernels/tile.cuh"

typedef element_of<DTYPE> E;
typedef E::type element;

#ifndef CHECK

typedef word_of<VECTOR_BYTES>::type word;

enum {
    V = VECTOR_BYTES / E::BYTES,    // elements of a vector
    VECTORS = HIDDEN / V,           // of a row
    CHUNK = BLOCK * UNROLL,         // vectors a block takes at a time
    OUT_BYTES = V < 4 ? 4 * V : 16, // of a store
    OUTS = 4 * V / OUT_BYTES,       // stores a vector takes
};
typedef word_of<OUT_BYTES>::type out_word;

DEVICE void put(out_word *to, word w) {
    float f[V];
    unpack<E>(w, f);
#pragma unroll
    for (int k = 0; k < OUTS; k++) {
        out_word out;
        pack<element_of<2>>(f + k * (OUT_BYTES / 4), out);
        store_word<STORE_HINT>(to + k, out);
    }
}

ENTRY_BOUNDS(embed, BLOCK)
(float *residual, const int *token, const element *table_, long long rows, long long vocab) {
    const word *table = (const word *)table_;
    out_word *out = (out_word *)residual;
    const long long vectors = rows * VECTORS;
    for (long long first = (long long)blockIdx.x * CHUNK; first < vectors;
         first += (long long)gridDim.x * CHUNK) {
        // Wide division once a chunk; within it 32 bits are enough.
        const long long row = first / VECTORS;
        const unsigned column = (unsigned)(first - row * VECTORS);
        word w[UNROLL];
#pragma unroll
        for (int k = 0; k < UNROLL; k++) {
            const unsigned n = threadIdx.x + k * BLOCK, c = column + n;
            w[k] = word();
            if (first + n >= vectors) continue;
            const int id = token[row + c / VECTORS];
            if (id >= 0 && id < vocab)
                w[k] = load_word<LOAD_HINT>(table + (long long)id * VECTORS + c % VECTORS);
        }
#pragma unroll
        for (int k = 0; k < UNROLL; k++) {
            const unsigned n = threadIdx.x + k * BLOCK;
            if (first + n < vectors) put(out + (first + n) * OUTS, w[k]);
        }
    }
}

#else // CHECK: before, then after each argument

ENTRY(check)
(const float *, const int *token, const element *table, const float *residual, const int *,
 const element *, long long rows, long long vocab, check_report *report) {
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < rows * HIDDEN;
         i += step) {
        const int id = token[i / HIDDEN];
        const bool inside = id >= 0 && id < vocab;
        const double want = inside ? E::load(table[(long long)id * HIDDEN + i % HIDDEN]) : 0.0f;
        check_single(report, 0, i, residual[i], want, 0);
    }
}

#endif
