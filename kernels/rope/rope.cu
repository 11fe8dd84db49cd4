// rope - rotary position embedding of q and k, in place: every pair (a, b) of every head becomes
// (a cos t - b sin t, b cos t + a sin t), t = position[row] * inv_freq[pair], rounded to fp32.
//
// q: (rows, Q_HEADS, HEAD_DIM) element; k: (rows, KV_HEADS, HEAD_DIM) element; position: (rows)
// int32, any values below `positions`, in any order; inv_freq: (HEAD_DIM / 2) fp32; table:
// (positions, HEAD_DIM / 2, 2) fp32, cosine and sine. q and k aligned to VECTOR_BYTES, table to 16.
// ADJACENT 0 pairs element i with i + HEAD_DIM / 2 (HuggingFace), 1 pairs 2i with 2i + 1.
// Least traffic: q and k read and written once, 4 bytes a row of positions.
// Variants: a thread turns the same pairs of HEADS heads by the same angles, all of them loaded
// before the position is known; heads of q and k are one index space, and neighbouring threads
// take neighbouring heads. TRIG 0 reads the table, 1 computes by a three-step reduction, 2 by sinf
// and cosf. BLOCKS_PER_SM 0 starts a thread for each piece of work, n a grid of n blocks a
// multiprocessor that walks over them.
#include "kernels/rope/rope.cuh"

typedef element_of<DTYPE> E;
typedef E::type element;

enum { HALF = HEAD_DIM / 2, ALL_HEADS = Q_HEADS + KV_HEADS };

#ifndef CHECK

typedef word_of<VECTOR_BYTES>::type word;

enum {
    V = VECTOR_BYTES / E::BYTES,              // elements of a vector
    PAIRS = ADJACENT ? V / 2 : V,             // a thread's pairs of a head
    PARTS = HALF / PAIRS,                     // threads of a head
    WORDS = HEAD_DIM / V,                     // of a head
    PARTNER = HALF / V,                       // from a word to its pairs' second elements
    GROUPS = (ALL_HEADS + HEADS - 1) / HEADS, // heads g, g + GROUPS, ... are a thread's
    PIECES = GROUPS * PARTS,                  // of a row: the threads it takes
    RAGGED = GROUPS * HEADS != ALL_HEADS,     // some groups are a head short
};

ENTRY_BOUNDS(rope, BLOCK)
(element *q_, element *k_, const int *position, const float *inv_freq, const float *table,
 long long rows, long long positions, float, float, float, float, float) {
    word *q = (word *)q_, *k = (word *)k_;
    const long long pieces = rows * PIECES, step = (long long)gridDim.x * BLOCK;
    for (long long first = (long long)blockIdx.x * BLOCK; first < pieces; first += step) {
        if (first + threadIdx.x >= pieces) break;
        // Wide division once a block; within it 32 bits are enough.
        const long long first_row = first / PIECES;
        const unsigned offset = (unsigned)(first - first_row * PIECES) + threadIdx.x;
        const unsigned piece = offset % PIECES, part = piece % PARTS, group = piece / PARTS;
        const long long row = first_row + offset / PIECES;

        word a[HEADS], b[HEADS], *at[HEADS];
#pragma unroll
        for (int j = 0; j < HEADS; j++) {
            int head = group + j * GROUPS;
            at[j] = head < Q_HEADS ? q + (row * Q_HEADS + head) * WORDS + part
                                   : k + (row * KV_HEADS + head - Q_HEADS) * WORDS + part;
            a[j] = b[j] = word();
            if (RAGGED && head >= ALL_HEADS) continue;
            a[j] = load_word<LOAD_HINT>(at[j]);
            if (!ADJACENT) b[j] = load_word<LOAD_HINT>(at[j] + PARTNER);
        }
        float c[PAIRS], s[PAIRS];
        rope_angles<PAIRS, HALF, TRIG>(c, s, inv_freq, table, position[row], part * PAIRS);
#pragma unroll
        for (int j = 0; j < HEADS; j++) {
            if (RAGGED && (int)group + j * GROUPS >= ALL_HEADS) continue;
            rope_turn<E, V, ADJACENT>(a[j], b[j], c, s);
            store_word<STORE_HINT>(at[j], a[j]);
            if (!ADJACENT) store_word<STORE_HINT>(at[j] + PARTNER, b[j]);
        }
    }
}

#else // CHECK: the formula in fp64; before, then after each argument

ENTRY(check)
(const element *q, const element *k, const int *position, const float *inv_freq, const float *,
 const element *q_after, const element *k_after, const int *, const float *, const float *,
 long long rows, long long positions, float, float, float, float, float, check_report *report) {
    const long long row_elements = (long long)ALL_HEADS * HEAD_DIM;
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < rows * row_elements;
         i += step) {
        long long row = i / row_elements;
        int in_row = (int)(i - row * row_elements), head = in_row / HEAD_DIM, d = in_row % HEAD_DIM;
        bool key = head >= Q_HEADS;
        long long at =
            key ? (row * KV_HEADS + head - Q_HEADS) * HEAD_DIM : (row * Q_HEADS + head) * HEAD_DIM;
        double magnitude, want = rope_want<E, HEAD_DIM, ADJACENT>((key ? k : q) + at, d, inv_freq,
                                                                  position[row], &magnitude);
        check_element(report, key, at + d, E::load((key ? k_after : q_after)[at + d]), want,
                      magnitude);
    }
}

#endif
