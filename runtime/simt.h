/* simt.h - the device words: one header that NVRTC, nvcc and host C++ compilers take.
 *
 * A kernel includes this and no CUDA header: types, conversions and words that CUDA keeps in its
 * headers are defined here, which also keeps an NVRTC compile short. Under a host compiler the
 * words run on simt_run.h, one coroutine a CUDA thread. Launching is the host's business and no
 * part of this.
 *
 *   ENTRY(name)(params) { ... }                  a kernel; ENTRY_BOUNDS(name, threads) bounds it
 *   DEVICE                                       before a function of a kernel
 *   SHARED(float, partial, [32]);                static shared memory
 *   SHARED_DYNAMIC(float, tile);                 what the launch asked for
 *   SHARED_DYNAMIC_AT(float, tile, 128);         the same, on a multiple of so many bytes
 *   spin_yield();                                each turn of a wait on memory
 *
 * Half and bfloat16 are storage: arithmetic is float, conversions are written.
 */
#ifndef FASTINFER_SIMT_H
#define FASTINFER_SIMT_H

#ifdef __CUDACC__ /* ------------------------------------------------------------------ a GPU */

#ifdef __CUDACC_RTC__
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
typedef unsigned long long uintptr_t;
#else
#include <stdint.h>
#endif

#define DEVICE static __device__ __forceinline__
#define ENTRY(name) extern "C" __global__ void name
#define ENTRY_BOUNDS(name, threads) extern "C" __global__ void __launch_bounds__(threads) name
#define SHARED(type, name, dims) __shared__ type name dims
#define SHARED_DYNAMIC(type, name) SHARED_DYNAMIC_AT(type, name, 16)
#define SHARED_DYNAMIC_AT(type, name, alignment)                                                   \
    extern __shared__ __align__(alignment)                                                         \
    unsigned char simt_bytes[];                                                                    \
    type *name = reinterpret_cast<type *>(simt_bytes)

DEVICE void spin_yield() { __nanosleep(20); }

struct half {
    uint16_t bits;
};
struct bfloat16 {
    uint16_t bits;
};

DEVICE float half_to_float(half h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h.bits));
    return f;
}
DEVICE half float_to_half(float f) {
    half h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h.bits) : "f"(f));
    return h;
}
DEVICE float2 unpack_half2(uint32_t w) {
    float2 f;
    asm("{.reg .f16 lo, hi; mov.b32 {lo, hi}, %2; cvt.f32.f16 %0, lo; cvt.f32.f16 %1, hi;}"
        : "=f"(f.x), "=f"(f.y)
        : "r"(w));
    return f;
}
DEVICE uint32_t pack_half2(float lo, float hi) {
    uint32_t w;
#if __CUDA_ARCH__ >= 800
    asm("cvt.rn.f16x2.f32 %0, %2, %1;" : "=r"(w) : "f"(lo), "f"(hi));
#else
    asm("{.reg .f16 lo, hi; cvt.rn.f16.f32 lo, %1; cvt.rn.f16.f32 hi, %2; mov.b32 %0, {lo, hi};}"
        : "=r"(w)
        : "f"(lo), "f"(hi));
#endif
    return w;
}
DEVICE float bfloat16_to_float(bfloat16 b) { return __uint_as_float((uint32_t)b.bits << 16); }
DEVICE bfloat16 float_to_bfloat16(float f) { /* to nearest even; a NaN stays one */
    uint32_t u = __float_as_uint(f);
    bfloat16 b;
    b.bits = (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16 | 0x40)
                                                        : (u + 0x7fff + (u >> 16 & 1)) >> 16);
    return b;
}
DEVICE float2 unpack_bfloat162(uint32_t w) {
    return make_float2(__uint_as_float(w << 16), __uint_as_float(w & 0xffff0000u));
}
DEVICE uint32_t pack_bfloat162(float lo, float hi) {
#if __CUDA_ARCH__ >= 800
    uint32_t w;
    asm("cvt.rn.bf16x2.f32 %0, %2, %1;" : "=r"(w) : "f"(lo), "f"(hi));
    return w;
#else
    return float_to_bfloat16(lo).bits | (uint32_t)float_to_bfloat16(hi).bits << 16;
#endif
}

#else /* --------------------------------------------------------------------- a host compiler */

#include <math.h>
#include <string.h>
#include <time.h>

#include <utility>

#include "runtime/simt_run.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

#define SIMT_PASTE_(a, b) a##b
#define SIMT_PASTE(a, b) SIMT_PASTE_(a, b)
/* Many points of a kernel share a file: SIMT_SUFFIX, set for each, keeps their names apart. */
#ifndef SIMT_SUFFIX
#define SIMT_SUFFIX
#endif
#define DEVICE [[maybe_unused]] static inline
#define ENTRY(name) [[maybe_unused]] static void name
#define ENTRY_BOUNDS(name, threads) [[maybe_unused]] static void name
/* After an entry: <name><suffix>_thunk(params) calls it with *params[i] for its arguments. */
#define SIMT_EXPORT(name)                                                                          \
    extern "C" void SIMT_PASTE(SIMT_PASTE(name, SIMT_SUFFIX), _thunk)(void *const *params) {       \
        simt_call(name, params);                                                                   \
    }

#define threadIdx (simt_self->thread_idx)
#define blockIdx (simt_self->block_idx)
#define blockDim simt_block_dim
#define gridDim simt_grid_dim
#define warpSize 32

#define SHARED(type, name, dims)                                                                   \
    typedef type name##_type dims;                                                                 \
    static const char name##_site = 0;                                                             \
    name##_type &name = *static_cast<name##_type *>(simt_shared(&name##_site, sizeof(name##_type)))
#define SHARED_DYNAMIC(type, name) type *name = static_cast<type *>(simt_shared_dynamic())
#define SHARED_DYNAMIC_AT(type, name, alignment) SHARED_DYNAMIC(type, name)

typedef simt_dim uint3;
struct dim3 : simt_dim {
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : simt_dim{x_, y_, z_} {}
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
DEVICE float2 make_float2(float x, float y) { return {x, y}; }
DEVICE float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
DEVICE int2 make_int2(int x, int y) { return {x, y}; }
DEVICE int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
DEVICE uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
DEVICE uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

template <class To, class From> DEVICE To simt_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "a bit copy keeps the size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
DEVICE unsigned __float_as_uint(float f) { return simt_bits<unsigned>(f); }
DEVICE float __uint_as_float(unsigned u) { return simt_bits<float>(u); }
DEVICE int __float_as_int(float f) { return simt_bits<int>(f); }
DEVICE float __int_as_float(int i) { return simt_bits<float>(i); }

struct half {
    uint16_t bits;
};
struct bfloat16 {
    uint16_t bits;
};
#if defined(__FLT16_MAX__) && defined(__F16C__) /* an instruction; else a library call */
DEVICE float half_to_float(half h) { return (float)simt_bits<_Float16>(h.bits); }
DEVICE half float_to_half(float f) { return {simt_bits<uint16_t>((_Float16)f)}; }
#else
DEVICE float half_to_float(half h) {
    uint32_t magnitude = (uint32_t)(h.bits & 0x7fff) << 13;
    uint32_t scaled = __float_as_uint(__uint_as_float(magnitude) * 0x1p112f);
    if (magnitude >= 0x7c00u << 13) scaled |= 0xffu << 23;
    return __uint_as_float(scaled | (uint32_t)(h.bits & 0x8000) << 16);
}
DEVICE half float_to_half(float f) {
    uint32_t u = __float_as_uint(f), sign = u >> 16 & 0x8000;
    u &= 0x7fffffff;
    if (u >= 0x47800000) return {(uint16_t)(sign | (u > 0x7f800000 ? 0x7fff : 0x7c00))};
    if (u < 0x38800000) /* subnormal: let the float adder round at the right bit */
        return {(uint16_t)(sign | (__float_as_uint(__uint_as_float(u) + 0.5f) - 0x3f000000))};
    return {(uint16_t)(sign | (u + 0xc8000fff + (u >> 13 & 1)) >> 13)};
}
#endif
DEVICE float2 unpack_half2(uint32_t w) {
    return {half_to_float({(uint16_t)w}), half_to_float({(uint16_t)(w >> 16)})};
}
DEVICE uint32_t pack_half2(float lo, float hi) {
    return float_to_half(lo).bits | (uint32_t)float_to_half(hi).bits << 16;
}
DEVICE float bfloat16_to_float(bfloat16 b) { return __uint_as_float((uint32_t)b.bits << 16); }
DEVICE bfloat16 float_to_bfloat16(float f) {
    uint32_t u = __float_as_uint(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return {(uint16_t)(u >> 16 | 0x40)};
    return {(uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16)};
}
DEVICE float2 unpack_bfloat162(uint32_t w) {
    return {__uint_as_float(w << 16), __uint_as_float(w & 0xffff0000u)};
}
DEVICE uint32_t pack_bfloat162(float lo, float hi) {
    return float_to_bfloat16(lo).bits | (uint32_t)float_to_bfloat16(hi).bits << 16;
}

/* T, but not deduced from this argument: it converts to what the pointer says, as in CUDA. */
template <class T> struct simt_same_ { typedef T type; };
template <class T> using simt_same = typename simt_same_<T>::type;

/* Memory: a hint changes where a line is kept, never what is read; but it makes an access one of
 * global memory, which shared memory and a thread's own variables refuse on a GPU. */
template <class T> DEVICE T __ldg(const T *p) { return simt_global(p), *p; }
template <class T> DEVICE T __ldcg(const T *p) { return simt_global(p), *p; }
template <class T> DEVICE T __ldcs(const T *p) { return simt_global(p), *p; }
template <class T> DEVICE T __ldlu(const T *p) { return simt_global(p), *p; }
template <class T> DEVICE T __ldcv(const T *p) { return simt_global(p), *p; }
template <class T> DEVICE void __stcg(T *p, simt_same<T> v) { simt_global(p), *p = v; }
template <class T> DEVICE void __stcs(T *p, simt_same<T> v) { simt_global(p), *p = v; }
template <class T> DEVICE void __stwt(T *p, simt_same<T> v) { simt_global(p), *p = v; }
DEVICE void __threadfence() {}
DEVICE void __threadfence_block() {}

/* All threads share one host thread, so a plain read-modify-write is atomic. */
#define SIMT_ATOMIC(name, update)                                                                  \
    template <class T> DEVICE T name(T *p, simt_same<T> v) {                                       \
        static_assert(sizeof(T) == 4 || sizeof(T) == 8, "words of 4 or 8 bytes");                  \
        T old = *p;                                                                                \
        *p = update;                                                                               \
        return old;                                                                                \
    }
SIMT_ATOMIC(atomicAdd, old + v)
SIMT_ATOMIC(atomicMax, v > old ? v : old)
SIMT_ATOMIC(atomicMin, v < old ? v : old)
SIMT_ATOMIC(atomicXor, old ^ v)
SIMT_ATOMIC(atomicOr, old | v)
SIMT_ATOMIC(atomicAnd, old &v)
SIMT_ATOMIC(atomicExch, v)
#undef SIMT_ATOMIC
template <class T> DEVICE T atomicCAS(T *p, simt_same<T> expected, simt_same<T> v) {
    T old = *p;
    if (old == expected) *p = v;
    return old;
}

/* Fast approximations: the host's exact functions stand for them. Macros where glibc owns names. */
#define __expf(x) expf(x)
#define __logf(x) logf(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __sincosf(x, s, c) (*(s) = sinf(x), *(c) = cosf(x))
#define rsqrtf(x) (1.0f / sqrtf(x))
DEVICE float __fdividef(float x, float y) { return x / y; }
DEVICE float __frcp_rn(float x) { return 1.0f / x; }
DEVICE float __fsqrt_rn(float x) { return sqrtf(x); }
DEVICE float __fmul_rn(float a, float b) {
    volatile float product = a * b; /* never contracted */
    return product;
}
DEVICE float __fadd_rn(float a, float b) {
    volatile float sum = a + b;
    return sum;
}
#define SIMT_MIN_MAX(T)                                                                            \
    DEVICE T min(T a, T b) { return a < b ? a : b; }                                               \
    DEVICE T max(T a, T b) { return a > b ? a : b; }
SIMT_MIN_MAX(int)
SIMT_MIN_MAX(unsigned)
SIMT_MIN_MAX(long)
SIMT_MIN_MAX(unsigned long)
SIMT_MIN_MAX(long long)
SIMT_MIN_MAX(unsigned long long)
#undef SIMT_MIN_MAX
DEVICE float min(float a, float b) { return fminf(a, b); }
DEVICE float max(float a, float b) { return fmaxf(a, b); }
DEVICE int __popc(unsigned v) { return __builtin_popcount(v); }
DEVICE int __ffs(int v) { return __builtin_ffs(v); }
DEVICE int __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }
DEVICE unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }

DEVICE long long clock64() { /* cycles at 1 GHz, so to speak */
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000000000 + t.tv_nsec;
}

DEVICE void spin_yield() { simt_yield(); }
DEVICE void __nanosleep(unsigned) { simt_yield(); }
DEVICE void __syncthreads() { simt_block_sync(); }
DEVICE unsigned simt_lane() { return simt_self->rank % 32; }
DEVICE unsigned __ballot_sync(unsigned mask, int predicate) {
    unsigned votes;
    simt_exchange(mask, predicate != 0, simt_lane(), &votes);
    return votes;
}
DEVICE int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
DEVICE int __all_sync(unsigned mask, int p) { return __ballot_sync(mask, p) == mask; }
DEVICE void __syncwarp(unsigned mask = ~0u) { __ballot_sync(mask, 0); }

template <class T> DEVICE T simt_shuffle(unsigned mask, T v, unsigned source) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    uint64_t word = 0;
    memcpy(&word, &v, sizeof v);
    word = simt_exchange(mask, word, source, nullptr);
    memcpy(&v, &word, sizeof v);
    return v;
}
template <class T> DEVICE T __shfl_sync(unsigned mask, T v, unsigned from, unsigned width = 32) {
    return simt_shuffle(mask, v, (simt_lane() & ~(width - 1)) | (from & (width - 1)));
}
template <class T> DEVICE T __shfl_up_sync(unsigned mask, T v, unsigned d, unsigned width = 32) {
    unsigned lane = simt_lane();
    return simt_shuffle(mask, v, lane % width >= d ? lane - d : lane);
}
template <class T> DEVICE T __shfl_down_sync(unsigned mask, T v, unsigned d, unsigned width = 32) {
    unsigned lane = simt_lane();
    return simt_shuffle(mask, v, lane % width + d < width ? lane + d : lane);
}
template <class T> DEVICE T __shfl_xor_sync(unsigned mask, T v, unsigned x, unsigned width = 32) {
    unsigned lane = simt_lane(), from = lane ^ x;
    return simt_shuffle(mask, v, from / width <= lane / width ? from : lane);
}

/* The model of a whole-warp instruction: f(T *lane[32]) runs once, when all of `mask` are there. */
template <class T, class F> DEVICE void simt_warp(unsigned mask, T &mine, F f) {
    simt_collective(
        mask, &mine,
        [](void **lanes, void *context) {
            T *typed[32];
            for (int i = 0; i < 32; i++) typed[i] = static_cast<T *>(lanes[i]);
            (*static_cast<F *>(context))(typed);
        },
        &f);
}

template <class... A, size_t... I> DEVICE void
simt_call_(void (*kernel)(A...), [[maybe_unused]] void *const *params, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_cv_t<A> *>(params[I])...);
}
template <class... A> DEVICE void simt_call(void (*kernel)(A...), void *const *params) {
    simt_call_(kernel, params, std::index_sequence_for<A...>());
}

#endif /* __CUDACC__ */
#endif /* FASTINFER_SIMT_H */
