// swiglu - y = silu(gate) * up, silu(g) = g / (1 + exp(-g))
//
// PACKED 0: gate, up, y: (rows, WIDTH) element, contiguous: one flat array each, whose last
// elements are done one by one where a vector does not divide it. PACKED 1: gate: (rows, 2 WIDTH),
// each row its gate and then its up; up is not there; WIDTH a multiple of the vector. All aligned
// to VECTOR_BYTES.
// Least traffic: gate and up read once, y written once.
// Variants: a block of BLOCK threads takes chunks of BLOCK * UNROLL vectors; a thread loads its
// UNROLL vectors of gate and of up before it uses the first. BLOCKS_PER_SM 0 starts one block for
// each chunk, n a grid of n blocks a multiprocessor that walks over them. MATH 0 takes the
// hardware's exp2 and reciprocal, 1 expf and a true division.
enum { COLUMNS = WIDTH };
#include "kernels/tile.cuh"

typedef element_of<DTYPE> E;
typedef E::type element;

#ifndef CHECK

typedef word_of<VECTOR_BYTES>::type word;

enum {
    V = VECTOR_BYTES / E::BYTES, // elements of a vector
    VECTORS = COLUMNS / V,       // of a row, where packed
    CHUNK = BLOCK * UNROLL,      // vectors a block takes at a time
};

// exp(-|g|) does not overflow, so that the far negative side keeps its g exp(g).
DEVICE float silu(float g) {
#if MATH == 0
    float e = __expf(-fabsf(g));
    return __fdividef(g < 0.0f ? g * e : g, 1.0f + e);
#else
    float e = expf(-fabsf(g));
    return (g < 0.0f ? g * e : g) / (1.0f + e);
#endif
}

DEVICE word gated(word gate, word up) {
    float g[V], u[V];
    unpack<E>(gate, g), unpack<E>(up, u);
#pragma unroll
    for (int k = 0; k < V; k++) g[k] = silu(g[k]) * u[k];
    word y;
    pack<E>(g, y);
    return y;
}

ENTRY_BOUNDS(swiglu, BLOCK)
(element *y_, const element *gate_, const element *up_, long long rows) {
    const word *gate = (const word *)gate_, *up = (const word *)up_;
    word *y = (word *)y_;
    const long long vectors = rows * COLUMNS / V;
    for (long long first = (long long)blockIdx.x * CHUNK; first < vectors;
         first += (long long)gridDim.x * CHUNK) {
        word g[UNROLL], u[UNROLL];
        const int count = vectors - first < CHUNK ? (int)(vectors - first) : (int)CHUNK;
#if PACKED
        // Wide division once a chunk; within it 32 bits are enough.
        const long long row = first / VECTORS;
        const unsigned column = (unsigned)(first - row * VECTORS);
        const word *base = gate + row * (2 * VECTORS);
#endif
#pragma unroll
        for (int k = 0; k < UNROLL; k++) {
            int n = threadIdx.x + k * BLOCK;
            g[k] = u[k] = word();
            if (n >= count) continue;
#if PACKED
            unsigned c = column + n; // vectors past the start of the chunk's first row
            const word *from = base + c + c / VECTORS * VECTORS;
            g[k] = load_word<LOAD_HINT>(from);
            u[k] = load_word<LOAD_HINT>(from + VECTORS);
#else
            g[k] = load_word<LOAD_HINT>(gate + first + n);
            u[k] = load_word<LOAD_HINT>(up + first + n);
#endif
        }
#pragma unroll
        for (int k = 0; k < UNROLL; k++) {
            int n = threadIdx.x + k * BLOCK;
            if (n < count) store_word<STORE_HINT>(y + first + n, gated(g[k], u[k]));
        }
    }
#if !PACKED
    // Fewer than V elements are left over; block 0 is there whatever the size.
    const long long rest = vectors * V + threadIdx.x;
    if (blockIdx.x == 0 && rest < rows * COLUMNS)
        y_[rest] = E::store(silu(E::load(gate_[rest])) * E::load(up_[rest]));
#endif
}

#else // CHECK: the formula in fp64; before, then after each argument

ENTRY(check)
(const element *, const element *gate, const element *up, const element *y, const element *,
 const element *, long long rows, check_report *report) {
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < rows * COLUMNS;
         i += step) {
        long long at = PACKED ? i + i / COLUMNS * COLUMNS : i;
        double g = E::load(gate[at]), u = E::load(PACKED ? gate[at + COLUMNS] : up[i]);
        double want = g / (1.0 + exp(-g)) * u;
        check_element(report, 0, i, E::load(y[i]), want, want < 0 ? -want : want);
    }
}

#endif
