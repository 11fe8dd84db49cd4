// support - what is needed on the device beside the kernels: inputs and random weights, other
// dtypes, cache states, a launch that does nothing, and one that waits.
//
// fill: element i of an array depends on (seed, i) alone, bit for bit as harness/fill.c has it: all
// arithmetic before the final rounding is exact, so that contraction cannot change it.
#include "kernels/tile.cuh"

// splitmix64 of the i-th of its states.
DEVICE unsigned long long fill_hash(unsigned long long seed, unsigned long long i) {
    unsigned long long z = seed + (i + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

// kind 0: about N(0, 1) times 2^-3 to 2^3; 1: 1 + 0.2 N(0, 1); 4: 0.018 N(0, 1). N is the sum of
// four uniform 16-bit numbers, an integer within 131070 of standard deviation 37837.
DEVICE float fill_value(unsigned long long seed, unsigned long long i, int kind) {
    unsigned long long h = fill_hash(seed, i);
    int n = (int)(h & 65535) + (int)(h >> 16 & 65535) + (int)(h >> 32 & 65535) + (int)(h >> 48) -
            131070;
    if (kind == 1) return (float)((1 << 21) + 11 * n) * (1.0f / (1 << 21));
    if (kind == 4) return (float)n * (1.0f / (1 << 21));
    return (float)(7 * n) * (1.0f / (1 << 18)) * ((float)(1 << (h % 7)) * 0.125f);
}

// dtype: 0 fp16, 1 bf16, 2 fp32. kind: 0, 1, 4 as above; 2 random bytes, `elements` of them,
// whatever the dtype. out: aligned to 8.
ENTRY(fill)
(void *out, long long elements, int dtype, int kind, unsigned long long seed) {
    const long long step = (long long)gridDim.x * blockDim.x;
    const long long first = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (kind == 2) {
        for (long long i = first; i < (elements + 7) / 8; i += step) {
            unsigned long long h = fill_hash(seed, i);
            if (8 * i + 8 <= elements)
                ((unsigned long long *)out)[i] = h;
            else
                for (int b = 0; 8 * i + b < elements; b++)
                    ((unsigned char *)out)[8 * i + b] = (unsigned char)(h >> 8 * b);
        }
        return;
    }
    for (long long i = first; i < elements; i += step) {
        float f = fill_value(seed, i, kind);
        if (dtype == 0) ((half *)out)[i] = float_to_half(f);
        if (dtype == 1) ((bfloat16 *)out)[i] = float_to_bfloat16(f);
        if (dtype == 2) ((float *)out)[i] = f;
    }
}

// Reads p so that L2 holds it, or, twice as much as L2 holds, so that what was there is gone. By
// plain loads: after loads that leave nothing in L1, kernels whose stores stream ran up to 10%
// faster when they followed themselves than when they followed others (H200); after plain ones, and
// after the kernels of a real program, they do not.
ENTRY(touch)(const uint4 *p, long long vectors, unsigned *sink) {
    const long long step = (long long)gridDim.x * blockDim.x;
    unsigned all = 0;
#pragma unroll 8
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < vectors; i += step) {
        uint4 v = p[i];
        all |= v.x ^ v.y ^ v.z ^ v.w;
    }
    // Never in practice, but the compiler cannot know: the loads have to be made.
    if (all == 0x9e3779b9u) *sink = all;
}

// out[i] = in[i] in another dtype (0 fp16, 1 bf16, 2 fp32), to nearest even. *lost gets bit 0 where
// a finite number became an infinite one.
ENTRY(convert)(void *out, const void *in, long long elements, int to, int from, unsigned *lost) {
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < elements; i += step) {
        float f = from == 0   ? half_to_float(((const half *)in)[i])
                  : from == 1 ? bfloat16_to_float(((const bfloat16 *)in)[i])
                              : ((const float *)in)[i];
        float stored = f;
        if (to == 0) {
            ((half *)out)[i] = float_to_half(f);
            stored = half_to_float(float_to_half(f));
        } else if (to == 1) {
            ((bfloat16 *)out)[i] = float_to_bfloat16(f);
            stored = bfloat16_to_float(float_to_bfloat16(f));
        } else {
            ((float *)out)[i] = f;
        }
        if (f - f == 0.0f && stored - stored != 0.0f) *lost = 1;
    }
}

ENTRY(empty)() {}

#ifdef __CUDACC__ // the CPU device has no stream to hold

// Waits until *flag is not 0, but no longer than limit_ns: a stream held for ever cannot be ended.
ENTRY(hold)(volatile unsigned *flag, long long limit_ns) {
    unsigned long long start, now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(start));
    do asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    while (!*flag && (long long)(now - start) < limit_ns);
}

#endif
