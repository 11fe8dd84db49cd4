// attention.cuh - what the kernels of attention share: heads made ready, a softmax that sees one
// position after another, and runs of positions merged.
//
// A position's key or value of DIM elements is held by LANES lanes of a warp, 8 elements each; a
// warp has 32 / LANES positions at once.
#ifndef KERNELS_ATTENTION_CUH
#define KERNELS_ATTENTION_CUH

#include "kernels/rope/rope.cuh"

#define ATTENTION_LEAST __int_as_float((int)0xff800000) // minus infinity

template <int DIM> struct attention_shape {
    static const int HALF = DIM / 2;
    static const int PAIRS = (HALF + 31) / 32; // that a lane turns
    static const int FILLED = DIM / 8;         // lanes that hold something of a position
    static const int LANES = FILLED <= 1    ? 1
                             : FILLED <= 2  ? 2
                             : FILLED <= 4  ? 4
                             : FILLED <= 8  ? 8
                             : FILLED <= 16 ? 16
                                            : 32;
    static const int SLOTS = 32 / LANES;
    static const int RUN = DIM + 2; // floats of a run: its sums, their greatest score, their weight
};

// 8 elements from memory aligned to 16 bytes.
template <class E, int HINT> DEVICE void load_eight(const typename E::type *from, float *f) {
    const uint4 *words = (const uint4 *)from;
    unpack<E>(load_word<HINT>(words), f);
    if (E::BYTES == 4) unpack<E>(load_word<HINT>(words + 1), f + 4);
}

// One head in a warp's registers: pair lane + 32 i is a[i] and b[i]. Normed where `norm` is not
// NULL, turned half-split by `position` where inv_freq is not NULL.
template <class E, int DIM> DEVICE void make_head(float *a, float *b, const typename E::type *norm,
                                                  float eps, const float *inv_freq, int position) {
    typedef attention_shape<DIM> S;
    const int lane = threadIdx.x % 32;
    if (norm) {
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < S::PAIRS; i++)
            if (S::HALF % 32 == 0 || lane + 32 * i < S::HALF) sum += a[i] * a[i] + b[i] * b[i];
#pragma unroll
        for (int i = 16; i; i /= 2) sum += __shfl_xor_sync(~0u, sum, i);
        float scale = rsqrtf(sum / DIM + eps);
#pragma unroll
        for (int i = 0; i < S::PAIRS; i++) {
            int d = lane + 32 * i;
            if (S::HALF % 32 && d >= S::HALF) continue;
            a[i] *= scale * E::load(norm[d]), b[i] *= scale * E::load(norm[d + S::HALF]);
        }
    }
    if (!inv_freq) return;
#pragma unroll
    for (int i = 0; i < S::PAIRS; i++) {
        int d = lane + 32 * i;
        if (S::HALF % 32 && d >= S::HALF) continue;
        float2 turn = rope_reduced((float)position * inv_freq[d]);
        float x = a[i], y = b[i];
        a[i] = x * turn.x - y * turn.y, b[i] = y * turn.x + x * turn.y;
    }
}

// HEADS query heads over the positions that LANES lanes have seen; a lane has 8 of the dimensions.
template <int HEADS_> struct softmax_state {
    float greatest[HEADS_], weight[HEADS_], sum[HEADS_][8];
};
template <int HEADS_> DEVICE void softmax_begin(softmax_state<HEADS_> &m) {
#pragma unroll
    for (int g = 0; g < HEADS_; g++) {
        m.greatest[g] = ATTENTION_LEAST, m.weight[g] = 0.0f;
#pragma unroll
        for (int i = 0; i < 8; i++) m.sum[g][i] = 0.0f;
    }
}

// One position more, or none where not `valid`; q is scaled by log2(e) / sqrt(DIM). The whole warp
// calls it together.
template <int HEADS_, int LANES_> DEVICE void softmax_see(softmax_state<HEADS_> &m,
                                                          const float (*q)[8], const float *k,
                                                          const float *v, bool valid) {
#pragma unroll
    for (int g = 0; g < HEADS_; g++) {
        float score = 0.0f;
#pragma unroll
        for (int i = 0; i < 8; i++) score += q[g][i] * k[i];
#pragma unroll
        for (int lane = LANES_ / 2; lane; lane /= 2) score += __shfl_xor_sync(~0u, score, lane);
        if (!valid) continue;
        float greatest = fmaxf(m.greatest[g], score);
        float fade = exp2f(m.greatest[g] - greatest), p = exp2f(score - greatest);
        m.greatest[g] = greatest, m.weight[g] = m.weight[g] * fade + p;
#pragma unroll
        for (int i = 0; i < 8; i++) m.sum[g][i] = m.sum[g][i] * fade + p * v[i];
    }
}

// A warp's slots as one, in all of them.
template <int HEADS_, int LANES_> DEVICE void softmax_join(softmax_state<HEADS_> &m) {
#pragma unroll
    for (int lane = LANES_; lane < 32; lane *= 2)
#pragma unroll
        for (int g = 0; g < HEADS_; g++) {
            float other = __shfl_xor_sync(~0u, m.greatest[g], lane);
            float greatest = fmaxf(m.greatest[g], other);
            float mine = greatest == m.greatest[g] ? 1.0f : exp2f(m.greatest[g] - greatest);
            m.greatest[g] = greatest, m.weight[g] *= mine;
            m.weight[g] += __shfl_xor_sync(~0u, m.weight[g], lane);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                m.sum[g][i] *= mine;
                m.sum[g][i] += __shfl_xor_sync(~0u, m.sum[g][i], lane);
            }
        }
}

// A warp's runs, one a head, to runs (HEADS, DIM + 2).
template <int HEADS_, int DIM>
DEVICE void softmax_store(const softmax_state<HEADS_> &m, float *runs) {
    typedef attention_shape<DIM> S;
    const int lane = threadIdx.x % 32;
    if (lane >= S::FILLED) return;
#pragma unroll
    for (int g = 0; g < HEADS_; g++) {
        float *to = runs + g * S::RUN;
#pragma unroll
        for (int i = 0; i < 8; i++) to[lane * 8 + i] = m.sum[g][i];
        if (lane == 0) to[DIM] = m.greatest[g], to[DIM + 1] = m.weight[g];
    }
}

// What other blocks wrote is read from L2 (`THEIRS`), what lies in shared memory plainly: a load
// with a cache hint is a load from global memory.
template <bool THEIRS> DEVICE float load_run(const float *p) { return THEIRS ? __ldcg(p) : *p; }

// `count` runs, `stride` floats apart, as one: returns the sum of dimension d.
template <int DIM, bool THEIRS> DEVICE float
merge_runs(const float *run, int count, long long stride, int d, float *greatest, float *weight) {
    float most = ATTENTION_LEAST, all = 0.0f, sum = 0.0f;
    for (int i = 0; i < count; i++) most = fmaxf(most, load_run<THEIRS>(run + i * stride + DIM));
    for (int i = 0; i < count; i++) {
        const float *at = run + i * stride;
        float part = load_run<THEIRS>(at + DIM);
        float scale = part == ATTENTION_LEAST ? 0.0f : exp2f(part - most);
        all += scale * load_run<THEIRS>(at + DIM + 1), sum += scale * load_run<THEIRS>(at + d);
    }
    *greatest = most, *weight = all;
    return sum;
}

#endif
