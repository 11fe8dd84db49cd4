// simt_words.cu - kernels that use the words of simt.h one by one, for test_simt.c.
#include "kernels/ptx.cuh"

// out: (13, 32), one row a word, one warp.
ENTRY(words)(unsigned *out) {
    unsigned lane = threadIdx.x, n = 0;
    auto put = [&](unsigned v) { out[32 * n++ + lane] = v; };
    put(__shfl_sync(~0u, lane * 3, 7));
    put(__shfl_sync(~0u, lane * 3, 9, 8));
    put(__shfl_up_sync(~0u, lane, 3));
    put(__shfl_up_sync(~0u, lane, 3, 16));
    put(__shfl_down_sync(~0u, lane, 5));
    put(__shfl_down_sync(~0u, lane, 5, 8));
    put(__shfl_xor_sync(~0u, lane, 21));
    put(__shfl_xor_sync(~0u, lane, 12, 8));
    put(__ballot_sync(~0u, lane % 3 == 0));
    put((unsigned)__any_sync(~0u, lane == 31));
    put((unsigned)__all_sync(~0u, lane < 31));
    unsigned half_mask = lane < 16 ? 0xffffu : 0xffff0000u, sum = lane;
    for (unsigned i = 0; i < (lane < 16 ? 1u : 3u); i++) // halves of a warp, out of step
        sum += __shfl_xor_sync(half_mask, sum, 1u << i);
    put(sum);
    put((unsigned)(__shfl_down_sync(~0u, (unsigned long long)lane << 33, 1) >> 33));
}
SIMT_EXPORT(words)

ENTRY(wrong_mask)(unsigned *) {
    if (threadIdx.x < 16) __syncwarp(threadIdx.x % 2 ? 0xffffu : 0xfffeu);
}
SIMT_EXPORT(wrong_mask)

ENTRY(wrong_barriers)(unsigned *) {
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncwarp(), simt_grid_sync();
}
SIMT_EXPORT(wrong_barriers)

ENTRY(early_return)(unsigned *) {
    if (threadIdx.x == 3) return;
    __syncthreads();
}
SIMT_EXPORT(early_return)

ENTRY(hint_on_shared)(unsigned *out) {
    SHARED(unsigned, word, [32]);
    word[threadIdx.x] = threadIdx.x;
    out[threadIdx.x] = __ldcg(&word[threadIdx.x]);
}
SIMT_EXPORT(hint_on_shared)

ENTRY(hint_on_own)(unsigned *out) {
    unsigned own[2] = {out[0], out[1]};
    __stcg(&own[threadIdx.x % 2], 3u);
    out[threadIdx.x] = own[0];
}
SIMT_EXPORT(hint_on_own)

ENTRY(much_shared)(unsigned *out) {
    SHARED(unsigned, half, [6 << 10]);
    SHARED(unsigned, more, [(6 << 10) + 1]);
    half[threadIdx.x] = 1, more[threadIdx.x] = 2;
    out[threadIdx.x] = half[threadIdx.x] + more[threadIdx.x];
}
SIMT_EXPORT(much_shared)

// Without the barrier a warp may read what another has not written yet.
ENTRY(race)(unsigned *out) {
    SHARED(unsigned, cell, [64]);
    cell[threadIdx.x] = threadIdx.x;
    out[threadIdx.x] = cell[63 - threadIdx.x];
}
SIMT_EXPORT(race)

// Thread 0 waits for the last thread of the grid.
ENTRY(wait_for_flag)(unsigned *flag) {
    if (blockIdx.x == 0 && threadIdx.x == 0)
        while (*(volatile unsigned *)flag == 0) spin_yield();
    if (blockIdx.x == gridDim.x - 1 && threadIdx.x == blockDim.x - 1) *flag = 7;
}
SIMT_EXPORT(wait_for_flag)

ENTRY(wait_for_ever)(unsigned *flag) {
    while (*(volatile unsigned *)flag != 12345) spin_yield();
}
SIMT_EXPORT(wait_for_ever)

// All threads but the first, or the last, wait for that one.
DEVICE void wait_for(unsigned *flag, unsigned thread) {
    if (threadIdx.x == thread) atomicExch(flag, 7);
    while (*(volatile unsigned *)flag != 7) spin_yield();
}
ENTRY(wait_for_first)(unsigned *flag) { wait_for(flag, 0); }
SIMT_EXPORT(wait_for_first)
ENTRY(wait_for_last)(unsigned *flag) { wait_for(flag, blockDim.x - 1); }
SIMT_EXPORT(wait_for_last)

// Half of the warp shuffles while the other half is in a whole-warp instruction.
ENTRY(mixed_steps)(unsigned *) {
    unsigned mine = 0;
    if (threadIdx.x % 2)
        __syncwarp();
    else
        simt_warp(~0u, mine, [](unsigned **) {});
}
SIMT_EXPORT(mixed_steps)

// Waits with a vote at each turn, which no count of idle turns can tell from work.
ENTRY(never_done)(unsigned *flag) {
    while (!__any_sync(~0u, *(volatile unsigned *)flag == 12345)) spin_yield();
}
SIMT_EXPORT(never_done)

// Each lane receives the sum of all lanes' values, in one whole-warp step.
ENTRY(warp_step)(unsigned *out) {
    struct {
        unsigned in, sum;
    } mine = {threadIdx.x * threadIdx.x, 0};
    simt_warp(~0u, mine, [](decltype(mine) **lane) {
        unsigned sum = 0;
        for (int i = 0; i < 32; i++) sum += lane[i]->in;
        for (int i = 0; i < 32; i++) lane[i]->sum = sum + (unsigned)i;
    });
    out[threadIdx.x] = mine.sum;
}
SIMT_EXPORT(warp_step)

static unsigned dig(unsigned depth) {
    volatile unsigned char room[1024];
    room[depth % 1024] = (unsigned char)depth;
    return depth ? dig(depth - 1) + room[depth % 1024] : (__syncwarp(), 0);
}
ENTRY(deep)(unsigned *out) { // needs more than a lane's stack, less than a warp's
    if (threadIdx.x == 20) out[0] = dig(100);
    __syncwarp();
}
SIMT_EXPORT(deep)

// out: (grid * block) each thread's count of threads before it, after a grid-wide barrier.
ENTRY(grid_wide)(unsigned *out) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x, n = gridDim.x * blockDim.x;
    out[i] = i;
    simt_grid_sync();
    unsigned other = out[(i * 7919u + 1) % n];
    simt_grid_sync();
    out[i] = other;
}
SIMT_EXPORT(grid_wide)

ENTRY(dynamic)(unsigned *out) {
    SHARED_DYNAMIC(unsigned, tile);
    out[threadIdx.x] = tile[threadIdx.x]; // poison
    tile[threadIdx.x] = threadIdx.x;
    __syncthreads();
    out[32 + threadIdx.x] = tile[31 - threadIdx.x];
}
SIMT_EXPORT(dynamic)

// Each thread fetches 16 bytes of `in`, the odd ones zeros, and gives on its neighbour's. mistake
// 1: before it waited; 2: nobody waits at all.
ENTRY(fetches)(unsigned *out, const unsigned *in, long long mistake) {
    SHARED(uint4, cell, [32]);
    const unsigned mine = threadIdx.x, other = 31 - threadIdx.x;
    ptx_copy_async(&cell[mine], (const uint4 *)in + mine, mine % 2 == 0);
    if (mistake == 0) ptx_copy_wait();
    __syncwarp();
    const uint4 word = cell[other];
    out[4 * mine] = word.x, out[4 * mine + 1] = word.y;
    out[4 * mine + 2] = word.z, out[4 * mine + 3] = word.w;
    __syncwarp();
    if (mistake == 1) ptx_copy_wait();
}
SIMT_EXPORT(fetches)

// A warp copies `rows` rows of 32 words through a ring of two, another adds them up: out (32).
ENTRY(ring)(unsigned *out, const unsigned *in, long long rows) {
    SHARED(uint4, shared, [2 * 8]);
    SHARED(uint64_t, barrier, [4]);
    uint64_t *full = barrier, *empty = barrier + 2;
    unsigned lane = threadIdx.x % 32, sum = 0;
    if (threadIdx.x == 0) {
        for (int i = 0; i < 2; i++) ptx_barrier_init(full + i, 1), ptx_barrier_init(empty + i, 2);
        ptx_barrier_fence();
    }
    __syncthreads();
    for (long long i = 0; i < rows; i++) {
        unsigned *row = (unsigned *)shared + i % 2 * 32, turn = (unsigned)(i / 2);
        if (threadIdx.x == 64) {
            if (turn) ptx_barrier_wait(empty + i % 2, (turn - 1) & 1);
            ptx_barrier_expect(full + i % 2, 128);
            ptx_bulk_load(row, in + 32 * i, 64, full + i % 2);
            ptx_bulk_load(row + 16, in + 32 * i + 16, 64, full + i % 2);
        }
        if (threadIdx.x >= 64) continue;
        ptx_barrier_wait(full + i % 2, turn & 1);
        sum += row[lane] * (threadIdx.x / 32 + 1);
        __syncwarp();
        if (lane == 0) ptx_barrier_arrive(empty + i % 2);
    }
    if (threadIdx.x >= 64) return;
    SHARED(unsigned, sums, [64]);
    sums[threadIdx.x] = sum;
    ptx_named_barrier(1, 64);
    if (threadIdx.x < 32) out[lane] = sums[lane] + sums[lane + 32];
}
SIMT_EXPORT(ring)

// Mistakes, by number, in the order of test_simt.c.
ENTRY(wrong_copies)(unsigned *out, const unsigned *in, long long mistake) {
    SHARED(uint4, shared, [8]);
    SHARED(uint64_t, barrier, [2]);
    if (mistake != 1) ptx_barrier_init(barrier, 1);
    if (mistake == 8) ptx_barrier_init(barrier, 1);
    if (mistake == 9) ptx_barrier_init((uint64_t *)((char *)barrier + 4), 1);
    if (mistake != 7) ptx_barrier_fence();
    if (mistake == 0) ptx_barrier_expect(barrier, 128), ptx_barrier_wait(barrier, 0);
    if (mistake == 1) ptx_barrier_wait(barrier, 0);
    if (mistake == 2) ptx_bulk_load(shared, in, 24, barrier);
    if (mistake == 3) ptx_bulk_load(shared, in + 1, 32, barrier);
    if (mistake == 4) ptx_barrier_expect(barrier, 128), ptx_bulk_load(shared, in, 64, barrier);
    if (mistake == 5) ptx_named_barrier(1, 48);
    if (mistake == 6) ptx_barrier_expect(barrier, 64), ptx_bulk_load(shared, in, 128, barrier);
    if (mistake == 7) ptx_barrier_expect(barrier, 64), ptx_bulk_load(shared, in, 64, barrier);
    if (mistake == 10) ptx_barrier_expect(barrier, 1 << 20);
    if (mistake == 11) ptx_bulk_load((char *)shared + 8, in, 32, barrier);
    if (mistake == 12) { // waits before it has seen to it that anything comes
        ptx_barrier_wait(barrier, 0);
        ptx_barrier_expect(barrier, 64), ptx_bulk_load(shared, in, 64, barrier);
    }
    if (mistake == 4 || mistake == 6) ptx_barrier_wait(barrier, 0);
    if (mistake == 13) { // expects one of two
        ptx_barrier_expect(barrier, 64);
        ptx_bulk_load(shared, in, 64, barrier), ptx_bulk_load(shared + 4, in, 64, barrier);
        ptx_barrier_wait(barrier, 0);
    }
    out[0] = ((unsigned *)shared)[0];
}
SIMT_EXPORT(wrong_copies)

// Reads what a copy will bring without waiting for it: never what it brings, but for a copy that
// came at once.
ENTRY(impatient)(unsigned *out, const unsigned *in, long long) {
    SHARED(uint4, shared, [8]);
    SHARED(uint64_t, barrier, [1]);
    ptx_barrier_init(barrier, 1);
    ptx_barrier_fence();
    ptx_barrier_expect(barrier, 128);
    ptx_bulk_load(shared, in, 128, barrier);
    out[0] = ((unsigned *)shared)[0];
    ptx_barrier_wait(barrier, 0);
    out[1] = ((unsigned *)shared)[0];
}
SIMT_EXPORT(impatient)

// out (rows, 32) = in + 1, by copies into and out of two places of 32 words, by one warp.
// mistake 1: no fence; 2: the place is used again before it was read; 3: nobody waits at the end.
DEVICE void echo(unsigned *out, const unsigned *in, long long rows, int mistake) {
    SHARED(uint4, shared, [2 * 8]);
    SHARED(uint64_t, barrier, [2]);
    const unsigned lane = threadIdx.x;
    if (lane == 0) {
        for (int i = 0; i < 2; i++) ptx_barrier_init(barrier + i, 1);
        ptx_barrier_fence();
    }
    __syncwarp();
    for (long long i = 0; i < rows; i++) {
        unsigned *row = (unsigned *)shared + i % 2 * 32;
        if (lane == 0) {
            if (mistake != 2) ptx_bulk_wait<1>();
            ptx_barrier_expect(barrier + i % 2, 128);
            ptx_bulk_load<1>(row, in + 32 * i, 128, barrier + i % 2);
        }
        ptx_barrier_wait(barrier + i % 2, i / 2 & 1);
        row[lane] += 1;
        if (mistake != 1) ptx_async_fence();
        __syncwarp();
        if (lane == 0) ptx_bulk_store<1>(out + 32 * i, row, 128), ptx_bulk_commit();
    }
    if (lane == 0 && mistake != 3) ptx_bulk_wait<0>();
}
ENTRY(echoes)(unsigned *out, const unsigned *in, long long rows) { echo(out, in, rows, 0); }
SIMT_EXPORT(echoes)
ENTRY(wrong_echoes)(unsigned *out, const unsigned *in, long long m) { echo(out, in, 9, (int)m); }
SIMT_EXPORT(wrong_echoes)

// Waits, all of a block, for what nobody brings: half at a named barrier, half at one in memory.
ENTRY(all_wait)(unsigned *) {
    SHARED(uint64_t, barrier, [1]);
    if (threadIdx.x == 0) ptx_barrier_init(barrier, 3), ptx_barrier_fence();
    __syncthreads();
    if (threadIdx.x < 32) ptx_named_barrier(2, 64);
    if (threadIdx.x == 32) ptx_barrier_arrive(barrier);
    ptx_barrier_wait(barrier, 0);
}
SIMT_EXPORT(all_wait)

// c (16, 8) fp32 = a (16, 16) b (16, 8), halves, by one warp; b read as it is and, stored the other
// way around, without transposing: both have to be the same.
ENTRY(tensor)(float *c, const uint16_t *a, const uint16_t *b) {
    SHARED(uint4, shared, [16 * 3 + 16 + 8 * 3]); // rows of a and of b^T have gaps
    uint16_t *sa = (uint16_t *)shared, *sb = sa + 16 * 24, *turned = sb + 16 * 8;
    unsigned lane = threadIdx.x, tile = lane / 8, row = lane % 8;
    for (unsigned i = lane; i < 256; i += 32) sa[i / 16 * 24 + i % 16] = a[i];
    for (unsigned i = lane; i < 128; i += 32) sb[i] = b[i], turned[i % 8 * 24 + i / 8] = b[i];
    __syncwarp();
    uint32_t fa[4], fb[4], ft[4];
    ptx_load_tiles(fa, sa + (row + tile % 2 * 8) * 24 + tile / 2 * 8);
    ptx_load_tiles_transposed(fb, sb + (row + tile % 2 * 8) * 8);
    ptx_load_tiles(ft, turned + row * 24 + tile % 2 * 8);
    float d[4] = {0, 0, 0, 0}, e[4] = {0, 0, 0, 0};
    ptx_mma_f16(d, fa, fb);
    ptx_mma_f16(e, fa, ft);
    for (unsigned i = 0; i < 4; i++)
        c[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = d[i] == e[i] ? d[i] : -1e30f;
}
SIMT_EXPORT(tensor)

extern "C" float test_half_to_float(uint16_t bits) { return half_to_float({bits}); }
extern "C" uint16_t test_float_to_half(float f) { return float_to_half(f).bits; }
extern "C" float test_bfloat16_to_float(uint16_t bits) { return bfloat16_to_float({bits}); }
extern "C" uint16_t test_float_to_bfloat16(float f) { return float_to_bfloat16(f).bits; }
extern "C" uint32_t test_pack_half2(float lo, float hi) { return pack_half2(lo, hi); }
extern "C" uint32_t test_pack_bfloat162(float lo, float hi) { return pack_bfloat162(lo, hi); }
extern "C" void test_unpack_half2(uint32_t word, float *out) {
    float2 f = unpack_half2(word);
    out[0] = f.x, out[1] = f.y;
}
extern "C" void test_unpack_bfloat162(uint32_t word, float *out) {
    float2 f = unpack_bfloat162(word);
    out[0] = f.x, out[1] = f.y;
}
