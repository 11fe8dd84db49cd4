// attention_decode - the attention of one new position a sequence over its KV cache.
//
// qkv: (batch, (HEADS + 2 KV_HEADS) HEAD_DIM) fp32, raw: q, then k, then v. q and k are normed a
// head (QK_NORM) and turned by RoPE (ROPE); k and v, rounded to the element, go to `position` of
// the caches, (batch, KV_HEADS, capacity, HEAD_DIM). Then softmax(q k^T / sqrt(HEAD_DIM)) v over
// the positions max(0, position - window + 1) .. position (window 0: from 0 on), of key head h /
// (HEADS / KV_HEADS) for query head h. All pointers aligned to 16 bytes.
//
// Least traffic: the filled positions of k and v once.
//
// A block has a run of the positions of one key head of one sequence, and GROUP of the query heads
// that belong to it: the grid is (splits, KV_HEADS x parts of the group, batch). Its warps take
// positions in turn, UNROLL at a time in flight. The last block of a head to end merges the runs
// and leaves its counter at zero. The block of the last run makes the new key and value and keeps
// them to itself: no other block reads that position.
#include "kernels/attention_decode/attention.cuh"

typedef element_of<DTYPE> E;
typedef E::type element;

enum { PER_KEY = HEADS / KV_HEADS };

#ifndef CHECK

typedef attention_shape<HEAD_DIM> S;
enum {
    OURS = GROUP < PER_KEY ? GROUP : PER_KEY, // query heads of a block
    PARTS = (PER_KEY + OURS - 1) / OURS,      // blocks that share a key head
    WARPS = BLOCK / 32,
    QKV = (HEADS + 2 * KV_HEADS) * HEAD_DIM,
    STAGED = (OURS + 2) * HEAD_DIM,
    RUNS = OURS * S::RUN,
};

struct place {
    int split, head, part, heads, position, low, first, last; // positions [first, last) are cached
    long long sequence, cache;                                // where the cache's position 0 is
    bool own;                                                 // and the new position, too
};
DEVICE place find_place(const int *positions, long long capacity, long long window) {
    place p;
    p.split = blockIdx.x, p.head = blockIdx.y / PARTS, p.part = blockIdx.y % PARTS;
    p.sequence = blockIdx.z, p.position = positions[p.sequence];
    p.heads = min((int)OURS, (int)PER_KEY - p.part * (int)OURS);
    p.low = window && p.position >= window ? (int)(p.position - window + 1) : 0;
    long long old = p.position - p.low;
    p.first = p.low + (int)(old * p.split / gridDim.x);
    p.last = p.low + (int)(old * (p.split + 1) / gridDim.x);
    p.own = p.split == (int)gridDim.x - 1;
    p.cache = (p.sequence * KV_HEADS + p.head) * capacity * HEAD_DIM;
    return p;
}

// The block's query heads to `staged` (OURS, HEAD_DIM), scaled; of the last run the new key and
// value behind them.
DEVICE void stage_heads(const place &p, const float *qkv, const element *q_norm,
                        const element *k_norm, const float *inv_freq, element *cache_k,
                        element *cache_v, float eps, float *staged) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const float scale = 1.44269504f / sqrtf((float)HEAD_DIM);
    float a[S::PAIRS], b[S::PAIRS];
    for (int i = warp; i < OURS + (p.own ? 2 : 0); i += WARPS) {
        const int kind = i < OURS ? 0 : i - OURS + 1; // a query head, the key, the value
        if (kind == 0 && i >= p.heads) continue;
        const float *raw = qkv + p.sequence * QKV;
        raw += kind == 0 ? (p.head * PER_KEY + p.part * OURS + i) * HEAD_DIM
                         : (HEADS + (kind - 1) * KV_HEADS + p.head) * HEAD_DIM;
#pragma unroll
        for (int n = 0; n < S::PAIRS; n++) {
            int d = lane + 32 * n;
            bool in = S::HALF % 32 == 0 || d < S::HALF;
            a[n] = in ? raw[d] : 0.0f, b[n] = in ? raw[d + S::HALF] : 0.0f;
        }
        if (kind < 2)
            make_head<E, HEAD_DIM>(a, b, QK_NORM ? (kind == 0 ? q_norm : k_norm) : nullptr, eps,
                                   ROPE ? inv_freq : nullptr, p.position);
#pragma unroll
        for (int n = 0; n < S::PAIRS; n++)
#pragma unroll
            for (int half_of = 0; half_of < 2; half_of++) {
                int d = lane + 32 * n;
                if (S::HALF % 32 && d >= S::HALF) continue;
                d += half_of * S::HALF;
                float f = half_of ? b[n] : a[n];
                element e = E::store(f);
                staged[i * HEAD_DIM + d] = kind == 0 ? f * scale : E::load(e);
                element *cache = kind == 1 ? cache_k : cache_v;
                if (kind && p.part == 0) cache[p.cache + (long long)p.position * HEAD_DIM + d] = e;
            }
    }
    __syncthreads();
}

DEVICE void see_positions(const place &p, const element *cache_k, const element *cache_v,
                          const float (*q)[8], softmax_state<OURS> &m) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int slot = lane / S::LANES, at = lane % S::LANES;
    const element *k = cache_k + p.cache + at * 8, *v = cache_v + p.cache + at * 8;
    for (int base = p.first + warp * S::SLOTS * UNROLL; base < p.last;
         base += WARPS * S::SLOTS * UNROLL) {
        float keys[UNROLL][8], values[UNROLL][8];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            long long row = base + u * S::SLOTS + slot;
            bool in = row < p.last && (S::FILLED == S::LANES || at < S::FILLED);
#pragma unroll
            for (int i = 0; i < 8; i++) keys[u][i] = values[u][i] = 0.0f;
            if (in) {
                load_eight<E, LOAD_HINT>(k + row * HEAD_DIM, keys[u]);
                load_eight<E, LOAD_HINT>(v + row * HEAD_DIM, values[u]);
            }
        }
#pragma unroll
        for (int u = 0; u < UNROLL; u++)
            softmax_see<OURS, S::LANES>(m, q, keys[u], values[u],
                                        base + u * S::SLOTS + slot < p.last);
    }
}

DEVICE void write_out(element *out, const place &p, int g, int d, float value) {
    out[(p.sequence * HEADS + p.head * PER_KEY + p.part * OURS + g) * HEAD_DIM + d] =
        E::store(value);
}

// scratch: runs (batch, KV_HEADS x PARTS, splits, OURS, RUN) fp32, then a counter for
// each (batch, KV_HEADS x PARTS).
ENTRY_BOUNDS(attention_decode, BLOCK)
(element *out, const float *qkv, const element *q_norm, const element *k_norm, const int *position,
 const float *inv_freq, element *cache_k, element *cache_v, float *scratch, long long,
 long long capacity, long long window, long long, float eps) {
    SHARED(float, staged, [STAGED]);
    SHARED(float, runs, [WARPS * RUNS]);
    SHARED(unsigned, last, [1]);
    const place p = find_place(position, capacity, window);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, at = lane % S::LANES;
    stage_heads(p, qkv, q_norm, k_norm, inv_freq, cache_k, cache_v, eps, staged);
    softmax_state<OURS> m;
    float q[OURS][8];
    softmax_begin(m);
#pragma unroll
    for (int g = 0; g < OURS; g++)
#pragma unroll
        for (int i = 0; i < 8; i++)
            q[g][i] = at < S::FILLED && g < p.heads ? staged[g * HEAD_DIM + at * 8 + i] : 0.0f;
    see_positions(p, cache_k, cache_v, q, m);
    if (p.own && warp == 0) {
        float k[8], v[8];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            k[i] = at < S::FILLED ? staged[OURS * HEAD_DIM + at * 8 + i] : 0.0f;
            v[i] = at < S::FILLED ? staged[(OURS + 1) * HEAD_DIM + at * 8 + i] : 0.0f;
        }
        softmax_see<OURS, S::LANES>(m, q, k, v, lane < S::LANES);
    }
    softmax_join<OURS, S::LANES>(m);
    softmax_store<OURS, HEAD_DIM>(m, runs + warp * RUNS);
    __syncthreads();
    const long long group = blockIdx.z * gridDim.y + blockIdx.y;
    float *all_runs = scratch + group * gridDim.x * RUNS, most, all;
    for (int i = threadIdx.x; i < p.heads * HEAD_DIM; i += BLOCK) {
        int g = i / HEAD_DIM, d = i % HEAD_DIM;
        float sum = merge_runs<HEAD_DIM, false>(runs + g * S::RUN, WARPS, RUNS, d, &most, &all);
        if (gridDim.x == 1) {
            write_out(out, p, g, d, sum / all);
            continue;
        }
        float *to = all_runs + p.split * RUNS + g * S::RUN;
        to[d] = sum;
        if (d == 0) to[HEAD_DIM] = most, to[HEAD_DIM + 1] = all;
    }
    if (gridDim.x == 1) return;
    unsigned *counter =
        (unsigned *)(scratch + (long long)gridDim.x * gridDim.y * gridDim.z * RUNS) + group;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last[0] = atomicAdd(counter, 1u) == gridDim.x - 1;
    __syncthreads();
    if (!last[0]) return;
    __threadfence();
    for (int i = threadIdx.x; i < p.heads * HEAD_DIM; i += BLOCK) {
        int g = i / HEAD_DIM, d = i % HEAD_DIM;
        float sum =
            merge_runs<HEAD_DIM, true>(all_runs + g * S::RUN, (int)gridDim.x, RUNS, d, &most, &all);
        write_out(out, p, g, d, sum / all);
    }
    if (threadIdx.x == 0) *counter = 0;
}

#else // CHECK: in fp64, a block of 256 threads a head of a sequence

DEVICE double raw_head(const float *raw, const element *norm, bool turns, const float *inv_freq,
                       int position, double scale, int d) {
    double x = (double)raw[d] * scale * (norm ? (double)E::load(norm[d]) : 1.0);
    if (!turns) return x;
    const int HALF = HEAD_DIM / 2, partner = d < HALF ? d + HALF : d - HALF;
    double y = (double)raw[partner] * scale * (norm ? (double)E::load(norm[partner]) : 1.0);
    double angle = (double)((float)position * inv_freq[d % HALF]);
    return d < HALF ? x * cos(angle) - y * sin(angle) : x * cos(angle) + y * sin(angle);
}
DEVICE double norm_scale(const float *raw, bool normed, float eps) {
    double sum = 0;
    for (int d = 0; normed && d < HEAD_DIM; d++) sum += (double)raw[d] * (double)raw[d];
    return normed ? 1.0 / sqrt(sum / HEAD_DIM + (double)eps) : 1.0;
}
DEVICE double plus(double x) { return x < 0 ? -x : x; }

ENTRY(check)
(const element *, const float *qkv, const element *q_norm, const element *k_norm,
 const int *position, const float *inv_freq, const element *cache_k, const element *cache_v,
 const element *out, const float *, const element *, const element *, const int *, const float *,
 const element *after_k, const element *after_v, long long batch, long long capacity,
 long long window, long long, float eps, check_report *report) {
    SHARED(double, q, [HEAD_DIM]);
    SHARED(double, k, [HEAD_DIM]);
    SHARED(double, v, [HEAD_DIM]);
    SHARED(double, weight, [256]);
    SHARED(double, terms, [256]);
    const int t = threadIdx.x;
    for (long long unit = blockIdx.x; unit < batch * HEADS; unit += gridDim.x) {
        const long long b = unit / HEADS, head = unit % HEADS, key = head / PER_KEY;
        const int at = position[b], low = window && at >= window ? (int)(at - window + 1) : 0;
        const float *row = qkv + b * (HEADS + 2 * KV_HEADS) * HEAD_DIM;
        const float *raw_q = row + head * HEAD_DIM, *raw_k = row + (HEADS + key) * HEAD_DIM;
        const float *raw_v = row + (HEADS + KV_HEADS + key) * HEAD_DIM;
        const long long cache = (b * KV_HEADS + key) * capacity * HEAD_DIM;
        const long long own = cache + (long long)at * HEAD_DIM;
        const double sq = norm_scale(raw_q, QK_NORM, eps), sk = norm_scale(raw_k, QK_NORM, eps);
        __syncthreads();
        for (int d = t; d < HEAD_DIM; d += 256) {
            q[d] = raw_head(raw_q, QK_NORM ? q_norm : nullptr, ROPE, inv_freq, at, sq, d);
            double exact = raw_head(raw_k, QK_NORM ? k_norm : nullptr, ROPE, inv_freq, at, sk, d);
            k[d] = E::load(E::store((float)exact)), v[d] = E::load(E::store(raw_v[d]));
            if (head % PER_KEY) continue;
            int pair = d < HEAD_DIM / 2 ? d + HEAD_DIM / 2 : d - HEAD_DIM / 2;
            double other = ROPE ? plus((double)raw_k[pair] * sk *
                                       (QK_NORM ? (double)E::load(k_norm[pair]) : 1.0))
                                : 0.0;
            check_element(
                report, 6, own + d, E::load(after_k[own + d]), exact,
                plus(exact) +
                    plus((double)raw_k[d] * sk * (QK_NORM ? (double)E::load(k_norm[d]) : 1.0)) +
                    other);
            check_element(report, 7, own + d, E::load(after_v[own + d]), (double)raw_v[d],
                          plus((double)raw_v[d]));
        }
        __syncthreads();
        if (head % PER_KEY == 0)
            for (long long i = cache + t; i < cache + capacity * HEAD_DIM; i += 256) {
                if (i >= own && i < own + HEAD_DIM) continue;
                check_element(report, 6, i, E::load(after_k[i]), E::load(cache_k[i]), 0.0);
                check_element(report, 7, i, E::load(after_v[i]), E::load(cache_v[i]), 0.0);
            }
        // every thread takes the same way through all positions, 256 at a time
        double greatest = -1e300, all = 0, sum = 0, size = 0, flip = 0;
        for (int d = 0; d < HEAD_DIM; d++)
            if (plus(q[d] * k[d]) > flip) flip = plus(q[d] * k[d]);
        flip /= sqrt((double)HEAD_DIM);
        for (int pass = 0; pass < 3; pass++) { // the greatest score, the sum, what errors move it
            for (int first = low; first <= at; first += 256) {
                int j = first + t;
                double score = -1e300, abs_terms = 0;
                if (j <= at) {
                    score = 0;
                    for (int d = 0; d < HEAD_DIM; d++) {
                        double key_d =
                            j == at ? k[d]
                                    : (double)E::load(cache_k[cache + (long long)j * HEAD_DIM + d]);
                        score += q[d] * key_d, abs_terms += plus(q[d] * key_d);
                    }
                    score /= sqrt((double)HEAD_DIM), abs_terms /= sqrt((double)HEAD_DIM);
                }
                __syncthreads();
                weight[t] = pass ? (j <= at ? exp(score - greatest) : 0.0) : score;
                terms[t] = abs_terms;
                __syncthreads();
                for (int i = 0; i < 256 && first + i <= at; i++) {
                    if (!pass && weight[i] > greatest) greatest = weight[i];
                    if (pass == 1) all += weight[i];
                    if (!pass || t >= HEAD_DIM) continue;
                    double value =
                        first + i == at
                            ? v[t]
                            : (double)E::load(
                                  cache_v[cache + (long long)(first + i) * HEAD_DIM + t]);
                    if (pass == 1) sum += weight[i] * value, size += weight[i] * plus(value);
                    if (pass == 2) size += weight[i] / all * terms[i] * plus(value - sum);
                    if (pass == 2 && first + i == at)
                        size += 4 * 2 * report->roundoff / (report->c * 0x1p-24) * weight[i] / all *
                                flip * plus(value - sum);
                }
            }
            if (pass == 1) sum /= all, size /= all;
        }
        if (t < HEAD_DIM) {
            long long i = unit * HEAD_DIM + t;
            check_element(report, 0, i, E::load(out[i]), sum, size);
        }
    }
}

#endif
