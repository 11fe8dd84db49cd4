// ptx.cuh - each PTX word that kernels use, beside its model for a host compiler.
//
// Cache hints change where a line is kept, never what is read: their model is a plain access, of
// global memory.
#ifndef KERNELS_PTX_CUH
#define KERNELS_PTX_CUH

#include "runtime/simt.h"

// Reads through the read-only path, leaving nothing in L1. The memory must not be written while
// the kernel runs.
#ifdef __CUDACC__
DEVICE uint4 ptx_load_no_allocate(const uint4 *p) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}
DEVICE uint2 ptx_load_no_allocate(const uint2 *p) {
    uint2 v;
    asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];"
                 : "=r"(v.x), "=r"(v.y)
                 : "l"(p));
    return v;
}
DEVICE unsigned ptx_load_no_allocate(const unsigned *p) {
    unsigned v;
    asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(v) : "l"(p));
    return v;
}
DEVICE unsigned short ptx_load_no_allocate(const unsigned short *p) {
    unsigned short v;
    asm volatile("ld.global.nc.L1::no_allocate.u16 %0, [%1];" : "=h"(v) : "l"(p));
    return v;
}
// Has memory read into L2 without waiting for it.
DEVICE void ptx_prefetch_l2(const void *p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }
#else
DEVICE void ptx_prefetch_l2(const void *) {}
template <class T> DEVICE T ptx_load_no_allocate(const T *p) { return simt_global(p), *p; }
#endif

// --- waiting for others --------------------------------------------------------------------------

#ifdef __CUDACC__
// Barrier `id` (1 to 15) of a block, for `threads` of its threads: whole warps.
DEVICE void ptx_named_barrier(int id, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
// Words that one thread writes and another reads while both run, each whole but in no order.
DEVICE unsigned ptx_load_relaxed(const unsigned *p) {
    unsigned v;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
DEVICE uint2 ptx_load_relaxed(const uint2 *p) { // its 8 bytes as one
    unsigned long long v;
    asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
    return make_uint2((unsigned)v, (unsigned)(v >> 32));
}
DEVICE uint4 ptx_load_relaxed(const uint4 *p) { // four words
    uint4 v;
    asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p)
                 : "memory");
    return v;
}
DEVICE uint4 ptx_load_relaxed_pair(const uint4 *p) { // two words of 8 bytes
    unsigned long long a, b;
    asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];"
                 : "=l"(a), "=l"(b)
                 : "l"(p)
                 : "memory");
    return make_uint4((unsigned)a, (unsigned)(a >> 32), (unsigned)b, (unsigned)(b >> 32));
}
DEVICE void ptx_store_relaxed(unsigned *p, unsigned v) {
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
DEVICE void ptx_store_relaxed(uint2 *p, uint2 v) { // as one
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(p),
                 "l"((unsigned long long)v.y << 32 | v.x)
                 : "memory");
}
DEVICE void ptx_add_relaxed(unsigned *p, unsigned v) {
    asm volatile("red.relaxed.gpu.global.add.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
#else
DEVICE void ptx_named_barrier(int id, int threads) {
    simt_named_sync((unsigned)id, (unsigned)threads);
}
template <class T> DEVICE T ptx_load_relaxed(const T *p) { return simt_global(p), *p; }
DEVICE uint4 ptx_load_relaxed_pair(const uint4 *p) { return simt_global(p), *p; }
DEVICE void ptx_store_relaxed(unsigned *p, unsigned v) { simt_global(p), *p = v; }
DEVICE void ptx_store_relaxed(uint2 *p, uint2 v) { simt_global(p), *p = v; }
DEVICE void ptx_add_relaxed(unsigned *p, unsigned v) { simt_global(p), *p += v; }
#endif

// Bulk copies into shared memory, from sm_90 on, and the barriers there that wait for them (PTX's
// mbarrier). A barrier counts arrivals and bytes; when both are complete its phase is over and the
// next, of the other parity, begins. The first has parity 0.
//
// And bulk copies out of shared memory: who wrote it calls ptx_async_fence(), then a barrier of
// theirs, then one thread stores, commits its stores as a group, and waits for its groups before
// the memory is used again and before it returns. With STREAMING the lines are the first that L2
// evicts.
#if defined(__CUDACC__) && (!defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900)
DEVICE unsigned ptx_shared_address(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }
DEVICE void ptx_barrier_init(uint64_t *barrier, int arrivals) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(ptx_shared_address(barrier)),
                 "r"(arrivals)
                 : "memory");
}
// Once, after all are made, by the thread that made them; then __syncthreads().
DEVICE void ptx_barrier_fence() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
DEVICE void ptx_barrier_arrive(uint64_t *barrier) {
    asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(ptx_shared_address(barrier))
                 : "memory");
}
// Arrives, and has the phase wait for so many bytes more.
DEVICE void ptx_barrier_expect(uint64_t *barrier, unsigned bytes) {
    asm volatile(
        "mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(ptx_shared_address(barrier)),
        "r"(bytes)
        : "memory");
}
// Until the phase of this parity is over.
DEVICE void ptx_barrier_wait(uint64_t *barrier, unsigned parity) {
    asm volatile("{\n\t.reg .pred over;\n\t"
                 "again: mbarrier.try_wait.parity.shared.b64 over, [%0], %1;\n\t"
                 "@!over bra again;\n\t}" ::"r"(ptx_shared_address(barrier)),
                 "r"(parity)
                 : "memory");
}
DEVICE uint64_t ptx_evict_first() {
    uint64_t policy;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}
// bytes, to and from: multiples of 16. The barrier has to expect the bytes.
template <int STREAMING = 0>
DEVICE void ptx_bulk_load(void *to, const void *from, unsigned bytes, uint64_t *barrier) {
    if (STREAMING)
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
                     ".L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(ptx_shared_address(to)),
                     "l"(from), "r"(bytes), "r"(ptx_shared_address(barrier)), "l"(ptx_evict_first())
                     : "memory");
    else
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                     "[%0], [%1], %2, [%3];" ::"r"(ptx_shared_address(to)),
                     "l"(from), "r"(bytes), "r"(ptx_shared_address(barrier))
                     : "memory");
}
// What this thread wrote to shared memory is there for bulk copies.
DEVICE void ptx_async_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
template <int STREAMING = 0>
DEVICE void ptx_bulk_store(void *to, const void *from, unsigned bytes) {
    if (STREAMING)
        asm volatile("cp.async.bulk.global.shared::cta.bulk_group.L2::cache_hint [%0], [%1], %2, "
                     "%3;" ::"l"(to),
                     "r"(ptx_shared_address(from)), "r"(bytes), "l"(ptx_evict_first())
                     : "memory");
    else
        asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to),
                     "r"(ptx_shared_address(from)), "r"(bytes)
                     : "memory");
}
DEVICE void ptx_bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Until all of this thread's groups but the GROUPS latest have been read from shared memory.
template <int GROUPS> DEVICE void ptx_bulk_wait() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(GROUPS) : "memory");
}
#elif !defined(__CUDACC__)
DEVICE void ptx_barrier_init(uint64_t *barrier, int arrivals) {
    simt_barrier_init(barrier, (unsigned)arrivals);
}
DEVICE void ptx_barrier_fence() { simt_barrier_fence(); }
DEVICE void ptx_barrier_arrive(uint64_t *barrier) { simt_barrier_arrive(barrier, 0); }
DEVICE void ptx_barrier_expect(uint64_t *barrier, unsigned bytes) {
    simt_barrier_arrive(barrier, bytes);
}
DEVICE void ptx_barrier_wait(uint64_t *barrier, unsigned parity) {
    while (!simt_barrier_passed(barrier, parity)) spin_yield();
}
template <int STREAMING = 0>
DEVICE void ptx_bulk_load(void *to, const void *from, unsigned bytes, uint64_t *barrier) {
    simt_bulk_load(to, from, bytes, barrier);
}
DEVICE void ptx_async_fence() { simt_async_fence(); }
template <int STREAMING = 0>
DEVICE void ptx_bulk_store(void *to, const void *from, unsigned bytes) {
    simt_bulk_store(to, from, bytes);
}
DEVICE void ptx_bulk_commit() { simt_bulk_commit(); }
template <int GROUPS> DEVICE void ptx_bulk_wait() { simt_bulk_wait(GROUPS); }
#endif

// Copies of 16 bytes into shared memory, from sm_80 on, that the thread does not wait for until it
// waits for all of its own; zeros where not `there`.
#if defined(__CUDACC__) && __CUDA_ARCH__ >= 800
DEVICE void ptx_copy_async(void *to, const void *from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                     (unsigned)__cvta_generic_to_shared(to)),
                 "l"(from), "r"(there ? 16 : 0)
                 : "memory");
}
DEVICE void ptx_copy_wait() { asm volatile("cp.async.wait_all;" ::: "memory"); }
#elif defined(__CUDACC__)
DEVICE void ptx_copy_async(void *, const void *, bool) {} // nothing legal comes here
DEVICE void ptx_copy_wait() {}
#else
DEVICE void ptx_copy_async(void *to, const void *from, bool there) {
    simt_copy(to, from, there ? 16 : 0);
}
DEVICE void ptx_copy_wait() { simt_copy_wait(); }
#endif

// 2^x within 2 u32 of itself; subnormal results are 0.
#ifdef __CUDACC__
DEVICE float ptx_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
#else
DEVICE float ptx_exp2(float x) { return exp2f(x); }
#endif

// --- tensor cores -------------------------------------------------------------------------------
//
// A warp multiplies 16-bit tiles with fp32 sums. Who holds what, with g = lane / 4, t = lane % 4
// (PTX ISA, "Matrix Fragments for mma.m16n8k16"):
//   a (16 rows, 16 k): a[0] row g, k 2t and 2t + 1; a[1] row g + 8; a[2], a[3] the same at k + 8
//   b (16 k, 8 columns): b[0] k 2t and 2t + 1, column g; b[1] the same at k + 8
//   d (16 rows, 8 columns): d[0], d[1] row g, columns 2t and 2t + 1; d[2], d[3] row g + 8
// The whole warp calls them together. The model adds exact products in fp32, k by k; a GPU's order
// and rounding of these sums are its own.
#ifdef __CUDACC__
// d += a b in fp16; sm_75 takes two steps of 8 k each.
DEVICE void ptx_mma_f16(float *d, const uint32_t *a, const uint32_t *b) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, "
                 "{%6}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b[0]));
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, "
                 "{%6}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[2]), "r"(a[3]), "r"(b[1]));
#endif
}
#if __CUDA_ARCH__ >= 800
// d += a b in bf16.
DEVICE void ptx_mma_bf16(float *d, const uint32_t *a, const uint32_t *b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif
// d += a b in fp16 (KIND 0) or, from sm_80 on, bf16 (1).
template <int KIND> DEVICE void ptx_mma(float *d, const uint32_t *a, const uint32_t *b) {
#if __CUDA_ARCH__ >= 800
    if (KIND == 1) return ptx_mma_bf16(d, a, b);
#endif
    ptx_mma_f16(d, a, b);
}
// Four tiles of 8 x 8 16-bit elements from shared memory. Lane l brings the address of row l % 8 of
// tile l / 8, aligned to 16 bytes; r[i] is then row g of tile i, columns 2t and 2t + 1.
DEVICE void ptx_load_tiles(uint32_t *r, const void *row) {
    unsigned address = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}
// The same, each tile transposed: r[i] is column g, rows 2t and 2t + 1.
DEVICE void ptx_load_tiles_transposed(uint32_t *r, const void *row) {
    unsigned address = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}
#else
struct ptx_fragments {
    float *d;
    const uint32_t *a, *b;
};
// `load` makes a float of 16 bits.
template <class F> DEVICE void ptx_mma_model(ptx_fragments mine, F load) {
    simt_warp(~0u, mine, [load](ptx_fragments **lane) {
        float a[16][16], b[16][8];
        for (int l = 0; l < 32; l++)
            for (int half = 0; half < 2; half++) {
                int g = l / 4, t = l % 4;
                for (int i = 0; i < 4; i++)
                    a[g + i % 2 * 8][2 * t + half + i / 2 * 8] =
                        load((uint16_t)(lane[l]->a[i] >> 16 * half));
                for (int i = 0; i < 2; i++)
                    b[2 * t + half + i * 8][g] = load((uint16_t)(lane[l]->b[i] >> 16 * half));
            }
        for (int l = 0; l < 32; l++)
            for (int i = 0; i < 4; i++)
                for (int k = 0; k < 16; k++)
                    lane[l]->d[i] += a[l / 4 + i / 2 * 8][k] * b[k][2 * (l % 4) + i % 2];
    });
}
DEVICE void ptx_mma_f16(float *d, const uint32_t *a, const uint32_t *b) {
    ptx_mma_model({d, a, b}, [](uint16_t bits) { return half_to_float({bits}); });
}
DEVICE void ptx_mma_bf16(float *d, const uint32_t *a, const uint32_t *b) {
    ptx_mma_model({d, a, b}, [](uint16_t bits) { return bfloat16_to_float({bits}); });
}

template <int KIND> DEVICE void ptx_mma(float *d, const uint32_t *a, const uint32_t *b) {
    KIND == 1 ? ptx_mma_bf16(d, a, b) : ptx_mma_f16(d, a, b);
}

struct ptx_tile_rows {
    const void *row;
    uint32_t *r;
};
DEVICE void ptx_load_tiles(uint32_t *r, const void *row) {
    ptx_tile_rows mine = {row, r};
    simt_warp(~0u, mine, [](ptx_tile_rows **lane) {
        for (int l = 0; l < 32; l++)
            for (int i = 0; i < 4; i++)
                memcpy(&lane[l]->r[i], (const uint32_t *)lane[8 * i + l / 4]->row + l % 4, 4);
    });
}
DEVICE void ptx_load_tiles_transposed(uint32_t *r, const void *row) {
    ptx_tile_rows mine = {row, r};
    simt_warp(~0u, mine, [](ptx_tile_rows **lane) {
        for (int l = 0; l < 32; l++)
            for (int i = 0; i < 4; i++) {
                uint16_t two[2];
                for (int h = 0; h < 2; h++)
                    two[h] = ((const uint16_t *)lane[8 * i + 2 * (l % 4) + h]->row)[l / 4];
                memcpy(&lane[l]->r[i], two, 4);
            }
    });
}
#endif

#endif
