// sample.cuh - what the sampling kernel and its check share: the order of logits as integers, the
// steps on one logit, and the draw.
//
// The draw of (seed, position, id) is a splitmix64 of a splitmix64: with step 0x9e3779b97f4a7c15
// and mix its finaliser, stream = mix(seed + (position + 1) step), h = the upper 32 bits of
// mix(stream + (id + 1) step), v = (h + 1/2) 2^-32, e = -log(1 - v), which is exponentially
// distributed. The token is the id with the largest (logit - largest logit) - log(e): Gumbel's
// maximum, each id with its softmax probability among those that take part.
#ifndef KERNELS_SAMPLE_CUH
#define KERNELS_SAMPLE_CUH

#include "kernels/tile.cuh"

// Logits as integers in their order, the id in the low bits so that the lower id is the larger.
typedef unsigned long long sample_key;
enum { SAMPLE_ID_BITS = 24, SAMPLE_ID_MASK = (1 << SAMPLE_ID_BITS) - 1 };

struct sample_setting {
    float temperature, top_p, min_p;
    int top_k;
    unsigned long long seed;
};

DEVICE sample_setting sample_read(const int *words) {
    sample_setting s;
    s.temperature = __int_as_float(words[0]);
    s.top_k = words[1];
    s.top_p = __int_as_float(words[2]);
    s.min_p = __int_as_float(words[3]);
    s.seed = (unsigned)words[4] | (unsigned long long)(unsigned)words[5] << 32;
    return s;
}

DEVICE unsigned sample_order(float f) {
    const unsigned u = __float_as_uint(f);
    return u >> 31 ? ~u : u | 0x80000000u;
}
DEVICE float sample_value(unsigned order) {
    return __uint_as_float(order >> 31 ? order & 0x7fffffffu : ~order);
}
DEVICE sample_key sample_key_of(float f, int id) {
    return (sample_key)sample_order(f) << SAMPLE_ID_BITS | (SAMPLE_ID_MASK - id);
}
// A logit as it comes: NaN above everything, -0 as 0.
DEVICE sample_key sample_key_raw(float logit, int id) {
    return logit == logit ? sample_key_of(logit + 0.0f, id) : ~(sample_key)0;
}
DEVICE float sample_key_value(sample_key key) {
    return sample_value((unsigned)(key >> SAMPLE_ID_BITS));
}
DEVICE int sample_key_id(sample_key key) { return SAMPLE_ID_MASK - (int)(key & SAMPLE_ID_MASK); }
// Does the largest key of a row name a token? Not where a logit is NaN or +inf, or all are -inf.
DEVICE bool sample_key_good(sample_key top) {
    return top >> SAMPLE_ID_BITS < 0xff800000u && top >> SAMPLE_ID_BITS > 0x007fffffu;
}

// The temperature step. A finite logit stays finite, -inf stays -inf.
DEVICE float sample_scale(float logit, float temperature) {
    const float largest = 3.402823466e38f;
    if (logit < -largest) return logit;
    return fminf(fmaxf(logit / temperature, -largest), largest) + 0.0f;
}

DEVICE unsigned long long sample_mix(unsigned long long z) {
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}
DEVICE unsigned long long sample_stream(unsigned long long seed, int position) {
    return sample_mix(seed + ((unsigned)position + 1ull) * 0x9e3779b97f4a7c15ull);
}
DEVICE unsigned sample_bits(unsigned long long stream, int id) {
    return (unsigned)(sample_mix(stream + ((unsigned)id + 1ull) * 0x9e3779b97f4a7c15ull) >> 32);
}
// e above. Either logarithm keeps its relative precision where e is near 0 and where v is near 1.
DEVICE float sample_exponential(unsigned h) {
    if (h < 0x80000000u) return -log1pf(-((float)h + 0.5f) * 0x1p-32f);
    return -logf(((float)~h + 0.5f) * 0x1p-32f);
}

#endif
