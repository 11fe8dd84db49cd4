// rope_kv_append - turns k by its rows' positions and writes k and v into a static cache:
// cache_k[sequence[r]][h][position[r]] = turned(k[r][h]), cache_v[...] = v[r][h].
//
// k, v: (rows, KV_HEADS, HEAD_DIM) element; position, sequence: (rows) int32, no (sequence,
// position) twice, position < capacity and < positions; inv_freq: (HEAD_DIM / 2) fp32; table:
// (positions, HEAD_DIM / 2, 2) fp32, cosine and sine; cache_k, cache_v: (sequences, KV_HEADS,
// capacity, HEAD_DIM) element, whose other places stay as they are. k, v and the caches aligned to
// VECTOR_BYTES, table to 16. Turning is defined in rope.cuh.
// Least traffic: k and v read once, written once, 8 bytes a row of positions and sequences.
// Variants: a thread moves the same pairs of HEADS heads of k and of v, loaded before the position
// is known; SPLIT 1 has a second row of the grid for v, which starts when k is done, so that half
// as many places are written at a time; TRIG 0 reads the table, 1 computes by a three-step
// reduction, 2 by sinf and cosf; BLOCKS_PER_SM 0 starts a thread for each piece of work, n a grid
// of n blocks a multiprocessor that walks over them.
#include "kernels/rope/rope.cuh"

typedef element_of<DTYPE> E;
typedef E::type element;

enum { HALF = HEAD_DIM / 2 };

#ifndef CHECK

typedef word_of<VECTOR_BYTES>::type word;

enum {
    V = VECTOR_BYTES / E::BYTES,             // elements of a vector
    PAIRS = ADJACENT ? V / 2 : V,            // a thread's pairs of a head
    PARTS = HALF / PAIRS,                    // threads of a head
    WORDS = HEAD_DIM / V,                    // of a head
    PARTNER = HALF / V,                      // from a word to its pairs' second elements
    GROUPS = (KV_HEADS + HEADS - 1) / HEADS, // heads g, g + GROUPS, ... are a thread's
    PIECES = GROUPS * PARTS,                 // of a row: the threads it takes
    RAGGED = GROUPS * HEADS != KV_HEADS,     // some groups are a head short
};

ENTRY_BOUNDS(rope_kv_append, BLOCK)
(const element *k_, const element *v_, const int *position, const int *sequence,
 const float *inv_freq, const float *table, element *cache_k_, element *cache_v_, long long rows,
 long long positions, long long sequences, long long capacity, float, float, float, float, float) {
    const bool copies = SPLIT && blockIdx.y; // this block moves v alone, in k's stead
    const word *k = (const word *)(copies ? v_ : k_), *v = (const word *)v_;
    word *cache_k = (word *)(copies ? cache_v_ : cache_k_), *cache_v = (word *)cache_v_;
    const long long pieces = rows * PIECES, step = (long long)gridDim.x * BLOCK;
    for (long long first = (long long)blockIdx.x * BLOCK; first < pieces; first += step) {
        if (first + threadIdx.x >= pieces) break;
        // Wide division once a block; within it 32 bits are enough.
        const long long first_row = first / PIECES;
        const unsigned offset = (unsigned)(first - first_row * PIECES) + threadIdx.x;
        const unsigned piece = offset % PIECES, part = piece % PARTS, group = piece / PARTS;
        const long long row = first_row + offset / PIECES;

        word a[HEADS], b[HEADS], va[HEADS], vb[HEADS];
#pragma unroll
        for (int j = 0; j < HEADS; j++) {
            int head = group + j * GROUPS;
            a[j] = b[j] = va[j] = vb[j] = word();
            if (RAGGED && head >= KV_HEADS) continue;
            const long long from = (row * KV_HEADS + head) * WORDS + part;
            a[j] = load_word<LOAD_HINT>(k + from);
            if (!SPLIT) va[j] = load_word<LOAD_HINT>(v + from);
            if (ADJACENT) continue;
            b[j] = load_word<LOAD_HINT>(k + from + PARTNER);
            if (!SPLIT) vb[j] = load_word<LOAD_HINT>(v + from + PARTNER);
        }
        const int place = position[row];
        const long long cache = sequence[row] * (KV_HEADS * capacity) + place;
        float c[PAIRS], s[PAIRS];
        if (!copies) rope_angles<PAIRS, HALF, TRIG>(c, s, inv_freq, table, place, part * PAIRS);
#pragma unroll
        for (int j = 0; j < HEADS; j++) {
            int head = group + j * GROUPS;
            if (RAGGED && head >= KV_HEADS) continue;
            const long long to = (cache + head * capacity) * WORDS + part;
            if (!copies) rope_turn<E, V, ADJACENT>(a[j], b[j], c, s);
            store_word<STORE_HINT>(cache_k + to, a[j]);
            if (!SPLIT) store_word<STORE_HINT>(cache_v + to, va[j]);
            if (ADJACENT) continue;
            store_word<STORE_HINT>(cache_k + to + PARTNER, b[j]);
            if (!SPLIT) store_word<STORE_HINT>(cache_v + to + PARTNER, vb[j]);
        }
    }
}

#else // CHECK: a block for each place of the cache looks for the row that belongs there

ENTRY(check)
(const element *k, const element *v, const int *position, const int *sequence,
 const float *inv_freq, const float *, const element *cache_k, const element *cache_v,
 const element *, const element *, const int *, const int *, const float *, const float *,
 const element *cache_k_after, const element *cache_v_after, long long rows, long long positions,
 long long sequences, long long capacity, float, float, float, float, float, check_report *report) {
    SHARED(long long, found, [1]);
    for (long long place = blockIdx.x; place < sequences * capacity; place += gridDim.x) {
        const long long s = place / capacity, p = place - s * capacity;
        __syncthreads();
        if (threadIdx.x == 0) found[0] = -1;
        __syncthreads();
        for (long long r = threadIdx.x; r < rows; r += blockDim.x)
            if (sequence[r] == s && position[r] == p) found[0] = r;
        __syncthreads();
        const long long row = found[0];
        for (int i = threadIdx.x; i < KV_HEADS * HEAD_DIM; i += blockDim.x) {
            int head = i / HEAD_DIM, d = i % HEAD_DIM;
            long long at = ((s * KV_HEADS + head) * capacity + p) * HEAD_DIM + d;
            long long from = (row * KV_HEADS + head) * HEAD_DIM;
            double want_k = E::load(cache_k[at]), want_v = E::load(cache_v[at]), magnitude = 0;
            if (row >= 0) {
                want_k =
                    rope_want<E, HEAD_DIM, ADJACENT>(k + from, d, inv_freq, (int)p, &magnitude);
                want_v = E::load(v[from + d]);
            }
            check_element(report, 6, at, E::load(cache_k_after[at]), want_k, magnitude);
            check_element(report, 7, at, E::load(cache_v_after[at]), want_v, 0);
        }
    }
}

#endif
