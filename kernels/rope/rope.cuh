// rope.cuh - what rope and rope_kv_append share: the angles of a thread's pairs, and turning by
// them.
//
// Pair i of a head, i < HEAD_DIM / 2, turns by (float)position * inv_freq[i], a product rounded to
// fp32: that is the angle by definition. Half-split (adjacent 0): the pair is elements i and
// i + HEAD_DIM / 2; adjacent: 2i and 2i + 1.
#ifndef KERNELS_ROPE_CUH
#define KERNELS_ROPE_CUH

#include "kernels/tile.cuh"

// (cos, sin) of an angle, 0 <= angle <= 2^17 x pi/2. Three steps of Cody and Waite: angle = k pi/2
// + r, pi/2 = 1.5707964 - 4.371139e-8 - 1.7151245e-15. The first step is exact (k takes 17 bits;
// both products are multiples of 2^-23 and what is left is below 1), the second rounds once, the
// third adds what the first two constants lack of pi/2. The polynomials are Taylor's, long enough
// for |r| <= pi/4 + 0.02. Both results were within 2.9 u32 of themselves at 6e7 angles, also
// where they are near 0; the bound of __sinf is absolute and would not do there.
DEVICE float2 rope_reduced(float angle) {
    float k = rintf(angle * 0.636619772f);
    float r = fmaf(k, -1.57079637e0f, angle);
    r = fmaf(k, 4.37113900e-8f, r);
    r = fmaf(k, 1.71512449e-15f, r);
    int quarter = (int)k;
    float s = r * r;
    float sine = fmaf(s, 2.75573192e-6f, -1.98412698e-4f);
    sine = fmaf(s, sine, 8.33333333e-3f), sine = fmaf(s, sine, -1.66666667e-1f);
    sine = fmaf(s * r, sine, r);
    float cosine = fmaf(s, -2.75573192e-7f, 2.48015873e-5f);
    cosine = fmaf(s, cosine, -1.38888889e-3f), cosine = fmaf(s, cosine, 4.16666667e-2f);
    cosine = fmaf(s, cosine, -0.5f), cosine = fmaf(s, cosine, 1.0f);
    float c = quarter & 1 ? sine : cosine, n = quarter & 1 ? cosine : sine;
    return make_float2((quarter + 1) & 2 ? -c : c, quarter & 2 ? -n : n);
}

// The angles of PAIRS pairs from `pair` on. TRIG_ 0 reads the table, 1 reduces, 2 takes sinf and
// cosf. table: (positions, HALF, 2) fp32 (cos, sin); inv_freq: (HALF) fp32.
template <int PAIRS, int HALF, int TRIG_> DEVICE void
rope_angles(float *c, float *s, const float *inv_freq, const float *table, int position, int pair) {
    if (TRIG_ == 0) {
        const float *row = table + ((long long)position * HALF + pair) * 2;
        if (PAIRS % 2 == 0) { // then pair is even too: 16 bytes at a time
#pragma unroll
            for (int i = 0; i < PAIRS / 2; i++) {
                float4 two = ((const float4 *)row)[i];
                c[2 * i] = two.x, s[2 * i] = two.y, c[2 * i + 1] = two.z, s[2 * i + 1] = two.w;
            }
        } else {
#pragma unroll
            for (int i = 0; i < PAIRS; i++) {
                float2 one = ((const float2 *)row)[i];
                c[i] = one.x, s[i] = one.y;
            }
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        float angle = (float)position * inv_freq[pair + i];
        if (TRIG_ == 1) {
            float2 both = rope_reduced(angle);
            c[i] = both.x, s[i] = both.y;
        } else {
            c[i] = cosf(angle), s[i] = sinf(angle);
        }
    }
}

// Half-split: a holds V first elements, b their partners. Adjacent: a holds V / 2 whole pairs.
template <class E, int V, bool ADJACENT_, class W>
DEVICE void rope_turn(W &a, W &b, const float *c, const float *s) {
    float f[V], g[V];
    unpack<E>(a, f);
    if (ADJACENT_) {
#pragma unroll
        for (int i = 0; i < V / 2; i++) {
            float x = f[2 * i], y = f[2 * i + 1];
            f[2 * i] = x * c[i] - y * s[i], f[2 * i + 1] = y * c[i] + x * s[i];
        }
    } else {
        unpack<E>(b, g);
#pragma unroll
        for (int i = 0; i < V; i++) {
            float x = f[i], y = g[i];
            f[i] = x * c[i] - y * s[i], g[i] = y * c[i] + x * s[i];
        }
        pack<E>(g, b);
    }
    pack<E>(f, a);
}

// What element d of a head has to become, in fp64, and the sum of the |terms|.
template <class E, int DIM, bool ADJACENT_>
DEVICE double rope_want(const typename E::type *head, int d, const float *inv_freq, int position,
                        double *magnitude) {
    int pair = ADJACENT_ ? d / 2 : d % (DIM / 2);
    bool second = ADJACENT_ ? d % 2 : d >= DIM / 2;
    int partner = ADJACENT_ ? (second ? d - 1 : d + 1) : (second ? d - DIM / 2 : d + DIM / 2);
    float angle = (float)position * inv_freq[pair];
    double one = (double)E::load(head[d]) * cos((double)angle);
    double two = (double)E::load(head[partner]) * sin((double)angle);
    if (!second) two = -two;
    *magnitude = (one < 0 ? -one : one) + (two < 0 ? -two : two);
    return one + two;
}

#endif
