// qkv_append - what a prompt's projections become: q, k and v of each row get their bias (BIAS), q
// and k are normed a head (QK_NORM) and turned half-split at the row's position (ROPE); q goes to
// q, k and v to positions start .. start + rows - 1 of a static cache.
//
// qkv: (rows, (HEADS + 2 KV_HEADS) HEAD_DIM) element: q, then k, then v; bias: one row of it;
// q_norm, k_norm: (HEAD_DIM) element; inv_freq: (HEAD_DIM / 2) fp32; q: (rows, HEADS, HEAD_DIM)
// element; cache_k, cache_v: (KV_HEADS, capacity, HEAD_DIM) element, whose other places stay as
// they are. Aligned to VECTOR_BYTES. Turning is defined in rope.cuh; arithmetic is float, with one
// rounding at the end.
// Least traffic: qkv once, as much written.
// Variants: LANES threads, few enough for each to have whole vectors, share a head; a thread takes
// UNROLL heads of a row, all loaded before the first is worked on, with the angles made once.
#include "kernels/rope/rope.cuh"

typedef element_of<DTYPE> E;
typedef E::type element;

enum { HALF = HEAD_DIM / 2, ALL = HEADS + 2 * KV_HEADS };

#ifndef CHECK

typedef word_of<VECTOR_BYTES>::type word;

enum {
    V = VECTOR_BYTES / E::BYTES, // elements of a vector
    HALF_WORDS = HALF / V,
    HEAD_WORDS = HEAD_DIM / V,
    LANES = HALF_WORDS <= 1    ? 1
            : HALF_WORDS <= 2  ? 2
            : HALF_WORDS <= 4  ? 4
            : HALF_WORDS <= 8  ? 8
            : HALF_WORDS <= 16 ? 16
                               : 32,          // threads of a head
    WORDS = (HALF_WORDS + LANES - 1) / LANES, // vectors a thread has of each half
    GROUPS = (ALL + UNROLL - 1) / UNROLL,     // heads g, g + GROUPS, ... are a thread's
    PIECES = GROUPS * LANES,                  // threads of a row
};

struct pairs { // a thread's of one head: vector i of the halves
    float a[WORDS][V], b[WORDS][V];
};

DEVICE bool present(int i, int lane) {
    return HALF_WORDS % LANES == 0 || lane + i * LANES < HALF_WORDS;
}

DEVICE void add_bias(pairs &p, const word *bias, int lane) {
    float f[V], g[V];
#pragma unroll
    for (int i = 0; i < WORDS; i++) {
        if (!present(i, lane)) continue;
        unpack<E>(bias[lane + i * LANES], f), unpack<E>(bias[lane + i * LANES + HALF_WORDS], g);
#pragma unroll
        for (int e = 0; e < V; e++) p.a[i][e] += f[e], p.b[i][e] += g[e];
    }
}

// Every lane of the warp calls it; what is absent is zero.
DEVICE void norm_head(pairs &p, const word *weight, float eps, int lane) {
    float sum = 0.0f, f[V], g[V];
#pragma unroll
    for (int i = 0; i < WORDS; i++)
#pragma unroll
        for (int e = 0; e < V; e++) sum += p.a[i][e] * p.a[i][e] + p.b[i][e] * p.b[i][e];
#pragma unroll
    for (int x = LANES / 2; x; x /= 2) sum += __shfl_xor_sync(~0u, sum, x);
    const float scale = rsqrtf(sum / HEAD_DIM + eps);
#pragma unroll
    for (int i = 0; i < WORDS; i++) {
        if (!present(i, lane)) continue;
        unpack<E>(weight[lane + i * LANES], f), unpack<E>(weight[lane + i * LANES + HALF_WORDS], g);
#pragma unroll
        for (int e = 0; e < V; e++) p.a[i][e] *= scale * f[e], p.b[i][e] *= scale * g[e];
    }
}

DEVICE void turn_head(pairs &p, const pairs &angle) { // a cosines, b sines
#pragma unroll
    for (int i = 0; i < WORDS; i++)
#pragma unroll
        for (int e = 0; e < V; e++) {
            float x = p.a[i][e], y = p.b[i][e], c = angle.a[i][e], s = angle.b[i][e];
            p.a[i][e] = x * c - y * s, p.b[i][e] = y * c + x * s;
        }
}

ENTRY_BOUNDS(qkv_append, BLOCK)
(element *q, const element *qkv, const element *bias, const element *q_norm, const element *k_norm,
 const float *inv_freq, element *cache_k, element *cache_v, long long rows, long long start,
 long long capacity, float eps) {
    // Wide division once a block; within it 32 bits are enough.
    const long long first = (long long)blockIdx.x * BLOCK, first_row = first / PIECES;
    const unsigned offset = (unsigned)(first - first_row * PIECES) + threadIdx.x;
    const unsigned piece = offset % PIECES;
    const int lane = piece % LANES, group = piece / LANES;
    const long long row = first_row + offset / PIECES;
    const bool in = row < rows; // the others only take part in shuffles

    word a[UNROLL][WORDS], b[UNROLL][WORDS];
#pragma unroll
    for (int j = 0; j < UNROLL; j++)
#pragma unroll
        for (int i = 0; i < WORDS; i++) {
            const int head = group + j * GROUPS;
            a[j][i] = b[j][i] = word();
            if (!in || head >= ALL || !present(i, lane)) continue;
            const word *from =
                (const word *)qkv + (row * ALL + head) * HEAD_WORDS + lane + i * LANES;
            a[j][i] = load_word<LOAD_HINT>(from);
            b[j][i] = load_word<LOAD_HINT>(from + HALF_WORDS);
        }
    pairs angle;
#pragma unroll
    for (int i = 0; i < WORDS; i++)
        if (ROPE && present(i, lane))
            rope_angles<V, HALF, 1>(angle.a[i], angle.b[i], inv_freq, nullptr, (int)(start + row),
                                    (lane + i * LANES) * V);
#pragma unroll
    for (int j = 0; j < UNROLL; j++) {
        const int head = group + j * GROUPS;
        const bool is_q = head < HEADS, is_v = head >= HEADS + KV_HEADS;
        pairs p;
#pragma unroll
        for (int i = 0; i < WORDS; i++) unpack<E>(a[j][i], p.a[i]), unpack<E>(b[j][i], p.b[i]);
        if (BIAS && head < ALL) add_bias(p, (const word *)bias + head * HEAD_WORDS, lane);
        pairs raw = p;
        if (QK_NORM) norm_head(p, (const word *)(is_q ? q_norm : k_norm), eps, lane);
        if (ROPE) turn_head(p, angle);
        if (!in || head >= ALL) continue;
        if (is_v) p = raw;
        const int kv = is_v ? head - HEADS - KV_HEADS : head - HEADS;
        word *to =
            is_q ? (word *)q + (row * HEADS + head) * HEAD_WORDS
                 : (word *)(is_v ? cache_v : cache_k) + (kv * capacity + start + row) * HEAD_WORDS;
#pragma unroll
        for (int i = 0; i < WORDS; i++) {
            if (!present(i, lane)) continue;
            word w;
            pack<E>(p.a[i], w);
            store_word<STORE_HINT>(to + lane + i * LANES, w);
            pack<E>(p.b[i], w);
            store_word<STORE_HINT>(to + lane + i * LANES + HALF_WORDS, w);
        }
    }
}

#else // CHECK: a block a head of a row, then the places that no row goes to

DEVICE double plus(double x) { return x < 0 ? -x : x; }

// Element d of a head with its bias.
DEVICE double biased(const element *raw, const element *bias, int d) {
    return (double)E::load(raw[d]) + (BIAS ? (double)E::load(bias[d]) : 0.0);
}

DEVICE void check_rest(check_report *report, int argument, const element *before,
                       const element *after, long long rows, long long start, long long capacity) {
    const long long all = KV_HEADS * capacity * HEAD_DIM;
    for (long long i = blockIdx.x * 256ll + threadIdx.x; i < all; i += gridDim.x * 256ll) {
        const long long position = i / HEAD_DIM % capacity;
        if (position >= start && position < start + rows) continue;
        check_element(report, argument, i, E::load(after[i]), E::load(before[i]), 0.0);
    }
}

ENTRY(check)
(const element *, const element *qkv, const element *bias, const element *q_norm,
 const element *k_norm, const float *inv_freq, const element *cache_k, const element *cache_v,
 const element *q, const element *, const element *, const element *, const element *,
 const float *, const element *after_k, const element *after_v, long long rows, long long start,
 long long capacity, float eps, check_report *report) {
    for (long long unit = blockIdx.x; unit < rows * ALL; unit += gridDim.x) {
        const long long row = unit / ALL, head = unit % ALL;
        const bool is_q = head < HEADS, is_v = head >= HEADS + KV_HEADS;
        const element *raw = qkv + unit * HEAD_DIM, *own = bias + (BIAS ? head * HEAD_DIM : 0);
        double sum = 0, scale = 1;
        for (int d = 0; d < HEAD_DIM && QK_NORM && !is_v; d++)
            sum += biased(raw, own, d) * biased(raw, own, d);
        if (QK_NORM && !is_v) scale = 1 / sqrt(sum / HEAD_DIM + (double)eps);
        const element *norm = is_q ? q_norm : k_norm, *after = is_q ? q : is_v ? after_v : after_k;
        const long long kv = is_v ? head - HEADS - KV_HEADS : head - HEADS;
        const long long to = (is_q ? row * HEADS + head : kv * capacity + start + row) * HEAD_DIM;
        for (int d = threadIdx.x; d < HEAD_DIM; d += 256) {
            const int other = d < HALF ? d + HALF : d - HALF;
            double x = biased(raw, own, d), y = biased(raw, own, other), size = plus(x);
            if (QK_NORM && !is_v)
                x *= scale * (double)E::load(norm[d]), y *= scale * (double)E::load(norm[other]);
            double want = x;
            if (!is_v) size = plus(x);
            if (ROPE && !is_v) {
                double angle = (double)((float)(start + row) * inv_freq[d % HALF]);
                double one = x * cos(angle), two = y * sin(angle);
                want = d < HALF ? one - two : one + two, size = plus(one) + plus(two);
            }
            check_element(report,
                          is_q   ? 0
                          : is_v ? 7
                                 : 6,
                          to + d, E::load(after[to + d]), want, size);
        }
    }
    check_rest(report, 6, cache_k, after_k, rows, start, capacity);
    check_rest(report, 7, cache_v, after_v, rows, start, capacity);
}

#endif
