// tile.cuh - what the kernels share: elements by dtype, vectors of 2 to 16 bytes, reductions over
// the threads of a row, and the fp64 check of a result.
//
// A point arrives as macros: DTYPE (0 fp16, 1 bf16, 2 fp32), BLOCK, VECTOR_BYTES, LOAD_HINT, ...
// Arithmetic is float; an element is only storage.
#ifndef KERNELS_TILE_CUH
#define KERNELS_TILE_CUH

#include "kernels/ptx.cuh"

template <int N> struct int_tag {}; // picks an overload by a number

// --- elements ------------------------------------------------------------------------------------

template <int DTYPE_> struct element_of;
template <> struct element_of<0> {
    typedef half type;
    static const int BYTES = 2;
    DEVICE float load(half v) { return half_to_float(v); }
    DEVICE half store(float f) { return float_to_half(f); }
    DEVICE float2 unpack(uint32_t w) { return unpack_half2(w); }
    DEVICE uint32_t pack(float a, float b) { return pack_half2(a, b); }
};
template <> struct element_of<1> {
    typedef bfloat16 type;
    static const int BYTES = 2;
    DEVICE float load(bfloat16 v) { return bfloat16_to_float(v); }
    DEVICE bfloat16 store(float f) { return float_to_bfloat16(f); }
    DEVICE float2 unpack(uint32_t w) { return unpack_bfloat162(w); }
    DEVICE uint32_t pack(float a, float b) { return pack_bfloat162(a, b); }
};
template <> struct element_of<2> {
    typedef float type;
    static const int BYTES = 4;
    DEVICE float load(float v) { return v; }
    DEVICE float store(float f) { return f; }
};

// --- vectors: the word that one instruction moves
// --------------------------------------------------

template <int BYTES> struct word_of;
template <> struct word_of<2> { typedef unsigned short type; };
template <> struct word_of<4> { typedef unsigned type; };
template <> struct word_of<8> { typedef uint2 type; };
template <> struct word_of<16> { typedef uint4 type; };

// N floats of one word, and back. E is an element_of<>.
template <class E> DEVICE void unpack(unsigned short w, float *f) {
    typename E::type e;
    e.bits = w;
    f[0] = E::load(e);
}
template <class E> DEVICE void unpack_word(unsigned w, float *f, int_tag<2>) {
    float2 pair = E::unpack(w);
    f[0] = pair.x, f[1] = pair.y;
}
template <class E> DEVICE void unpack_word(unsigned w, float *f, int_tag<4>) {
    f[0] = __uint_as_float(w);
}
template <class E> DEVICE void unpack(unsigned w, float *f) {
    unpack_word<E>(w, f, int_tag<E::BYTES>());
}
template <class E> DEVICE void unpack(uint2 w, float *f) {
    unpack<E>(w.x, f), unpack<E>(w.y, f + 4 / E::BYTES);
}
template <class E> DEVICE void unpack(uint4 w, float *f) {
    unpack<E>(w.x, f), unpack<E>(w.y, f + 4 / E::BYTES);
    unpack<E>(w.z, f + 8 / E::BYTES), unpack<E>(w.w, f + 12 / E::BYTES);
}
template <class E> DEVICE void pack(const float *f, unsigned short &w) { w = E::store(f[0]).bits; }
template <class E> DEVICE unsigned pack_word(const float *f, int_tag<2>) {
    return E::pack(f[0], f[1]);
}
template <class E> DEVICE unsigned pack_word(const float *f, int_tag<4>) {
    return __float_as_uint(f[0]);
}
template <class E> DEVICE void pack(const float *f, unsigned &w) {
    w = pack_word<E>(f, int_tag<E::BYTES>());
}
template <class E> DEVICE void pack(const float *f, uint2 &w) {
    pack<E>(f, w.x), pack<E>(f + 4 / E::BYTES, w.y);
}
template <class E> DEVICE void pack(const float *f, uint4 &w) {
    pack<E>(f, w.x), pack<E>(f + 4 / E::BYTES, w.y);
    pack<E>(f + 8 / E::BYTES, w.z), pack<E>(f + 12 / E::BYTES, w.w);
}

// HINT 0: plain. 1: streaming, first to be evicted. 2: read-only path, nothing left in L1.
// Memory that the kernel also writes must not be read with hint 2.
template <int HINT, class W> DEVICE W load_word(const W *p) {
    if (HINT == 1) return __ldcs(p);
    if (HINT == 2) return ptx_load_no_allocate(p);
    return *p;
}
// HINT 0: plain. 1: streaming.
template <int HINT, class W> DEVICE void store_word(W *p, W v) {
    if (HINT == 1)
        __stcs(p, v);
    else
        *p = v;
}

// Has WORDS words from `from` on read into L2, thread t of THREADS asking for its sectors of 32
// bytes.
template <int THREADS, int WORDS, class W> DEVICE void prefetch(const W *from, int t) {
    const char *at = (const char *)from;
#pragma unroll
    for (int byte = 32 * t; byte < WORDS * (int)sizeof(W); byte += 32 * THREADS)
        ptx_prefetch_l2(at + byte);
}

// --- reductions
// --------------------------------------------------------------------------------------

// The sum of v over the THREADS threads of this thread's row, to all of them. Thread t of a row is
// threadIdx.x % THREADS. REDUCE 0: shuffles within warps, then shuffles over the warps' sums;
// 1: a tree in shared memory; 2: shuffles within warps, then every thread adds the warps' sums.
// `shared` holds BLOCK floats for REDUCE 1, 2 x BLOCK / 32 else (two sets, by `parity`, so that
// one barrier a call is enough when calls alternate it). All threads of the block call this.
template <int THREADS, int BLOCK_, int REDUCE_>
DEVICE float row_sum(float v, float *shared, int parity) {
    int t = threadIdx.x % THREADS, row = threadIdx.x / THREADS;
    if (REDUCE_ == 1) {
        float *mine = shared + row * THREADS;
        __syncthreads();
        mine[t] = v;
        __syncthreads();
        for (int n = THREADS; n > 1;) {
            int half_up = (n + 1) / 2;
            if (t < n / 2) mine[t] += mine[t + half_up];
            __syncthreads();
            n = half_up;
        }
        return mine[0];
    }
    const int LANES_ = THREADS < 32 ? THREADS : 32, WARPS_ = THREADS / LANES_;
#pragma unroll
    for (int x = LANES_ / 2; x > 0; x /= 2) v += __shfl_xor_sync(~0u, v, x);
    if (WARPS_ == 1) return v;
    float *mine = shared + parity * (BLOCK_ / 32) + row * WARPS_;
    if (t % 32 == 0) mine[t / 32] = v;
    __syncthreads();
    if (REDUCE_ == 2) {
        v = 0.0f;
#pragma unroll
        for (int i = 0; i < WARPS_; i++) v += mine[i];
        return v;
    }
    v = t % 32 < WARPS_ ? mine[t % 32] : 0.0f;
#pragma unroll
    for (int x = 16; x > 0; x /= 2) v += __shfl_xor_sync(~0u, v, x);
    return v;
}

// --- the fp64 check
// ------------------------------------------------------------------------------------

// What a check entry reports. Kept in step with struct check_report of harness/verify.c.
struct check_report {
    unsigned long long wrong; // elements outside their bound
    unsigned long long first; // the least (argument << 56 | index) of them; ~0 when none
    unsigned long long worst; // the largest |error| / bound, as the bits of a double
    unsigned long long focus; // the element whose values are wanted, or ~0
    double got, want, magnitude;
    double roundoff, c, floor; // the bound's parts, given
};

DEVICE double check_bits(unsigned long long bits) {
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

// Judges one element of an output: right is what is no further than `bound` from `want`.
DEVICE void check_within(check_report *r, int argument, long long index, double got, double want,
                         double magnitude, double bound) {
    unsigned long long id = (unsigned long long)argument << 56 | (unsigned long long)index;
    double error = got > want ? got - want : want - got; // inf - inf and NaN stay NaN
    if (got == want) error = 0;
    if (!(error <= bound)) {
        atomicAdd(&r->wrong, 1ull);
        atomicMin(&r->first, id);
    }
    double ratio = bound > 0 ? error / bound : (error > 0 ? 1e300 : 0);
    if (!(ratio <= 1e300)) ratio = 1e300;
    unsigned long long bits;
    memcpy(&bits, &ratio, sizeof bits);
    if (bits > r->worst) atomicMax(&r->worst, bits);
    if (id == r->focus) r->got = got, r->want = want, r->magnitude = magnitude;
}

// Of an output in the problem's dtype: |got - want| <= roundoff |want| + c 2^-24 magnitude + floor.
DEVICE void check_element(check_report *r, int argument, long long index, double got, double want,
                          double magnitude) {
    double bound = r->roundoff * (want < 0 ? -want : want) + r->c * 0x1p-24 * magnitude + r->floor;
    check_within(r, argument, index, got, want, magnitude, bound);
}

// Of an output that is fp32 whatever the problem's dtype.
DEVICE void check_single(check_report *r, int argument, long long index, double got, double want,
                         double magnitude) {
    double bound = 0x1p-24 * (want < 0 ? -want : want) + r->c * 0x1p-24 * magnitude + 0x1p-126;
    check_within(r, argument, index, got, want, magnitude, bound);
}

#endif
