// stream - reads read_bytes, writes write_bytes, and nothing else: the ceiling of every kernel that
// moves as much. In words of any size up to 16 bytes, R of them read and W written:
//   dst[j] = src[j] where j < R, xor src[W + j] where W + j < R, and 0x5a in all bytes past R;
//   sum ^= src[j], j >= 2 W, folded to 16 bytes: what is read beyond two words for each written.
//
// dst: (write_bytes) uint8; src: (read_bytes) uint8; sum: (16) uint8, read and written where
// R > 2 W, and then only by a few atomics a block. All aligned to 16; both sizes multiples of 16.
// Traffic: each byte once, exactly.
// Variants: a thread has UNROLL vectors of VECTOR_BYTES in flight, where nothing ends among them
// without a test between; SPAN 0 strides a thread's vectors by the whole grid, 1 gives each block
// contiguous chunks of BLOCK * UNROLL; BLOCKS_PER_SM 0 starts one block for each BLOCK * UNROLL
// vectors, n a grid of n blocks a multiprocessor that walks over them. BULK n has n pieces of 32 *
// UNROLL vectors a warp on their way into shared memory by bulk copies, from the start on; with
// STORE_HINT 2 they leave by bulk copies, too, and whole ones pass through no register. That is for
// dst's first term; everything else is read as without BULK.
#include "kernels/tile.cuh"

#ifndef CHECK

typedef word_of<VECTOR_BYTES>::type word;

enum { CHUNK = BLOCK * UNROLL, BLOCK_WARPS = BLOCK / 32 };

DEVICE void mix(unsigned &a, unsigned b) { a ^= b; }
DEVICE void mix(uint2 &a, uint2 b) { a.x ^= b.x, a.y ^= b.y; }
DEVICE void mix(uint4 &a, uint4 b) { a.x ^= b.x, a.y ^= b.y, a.z ^= b.z, a.w ^= b.w; }

DEVICE void fill_pattern(unsigned &w) { w = 0x5a5a5a5au; }
DEVICE void fill_pattern(uint2 &w) { w.x = w.y = 0x5a5a5a5au; }
DEVICE void fill_pattern(uint4 &w) { w.x = w.y = w.z = w.w = 0x5a5a5a5au; }

// Where each vector is the mix of TERMS: N of them at a time, so that UNROLL loads are in flight.
template <int TERMS> DEVICE void whole(word *to, const word *from, long long w, long long stride) {
    const int N = TERMS == 2 && UNROLL > 1 ? UNROLL / 2 : UNROLL;
#pragma unroll
    for (int done = 0; done < UNROLL; done += N) {
        word v[N], second[N];
#pragma unroll
        for (int k = 0; k < N; k++) {
            if (TERMS == 0) fill_pattern(v[k]);
            if (TERMS > 0) v[k] = load_word<LOAD_HINT>(from + (done + k) * stride);
            if (TERMS > 1) second[k] = load_word<LOAD_HINT>(from + w + (done + k) * stride);
        }
#pragma unroll
        for (int k = 0; k < N; k++) {
            if (TERMS > 1) mix(v[k], second[k]);
            store_word<STORE_HINT>(to + (done + k) * stride, v[k]);
        }
    }
}

// Where something ends among the vectors i, i + stride, ...: each with its own tests.
DEVICE void ragged(word *dst, const word *src, long long i, long long r, long long w,
                   long long stride) {
    const int N = UNROLL > 1 ? UNROLL / 2 : 1;
#pragma unroll
    for (int done = 0; done < UNROLL; done += N) {
        word v[N], second[N];
#pragma unroll
        for (int k = 0; k < N; k++) {
            long long j = i + (done + k) * stride;
            fill_pattern(v[k]), second[k] = word();
            if (j < w && j < r) v[k] = load_word<LOAD_HINT>(src + j);
            if (j < w && j < r - w) second[k] = load_word<LOAD_HINT>(src + w + j);
        }
#pragma unroll
        for (int k = 0; k < N; k++) {
            long long j = i + (done + k) * stride;
            mix(v[k], second[k]);
            if (j < w) store_word<STORE_HINT>(dst + j, v[k]);
        }
    }
}

// A thread's vectors all lie alike within 16 bytes: to which of the sum's 4 words they belong.
DEVICE void spread(unsigned w, unsigned *s) {
    int at = threadIdx.x % 4;
    s[0] = at == 0 ? w : 0, s[1] = at == 1 ? w : 0, s[2] = at == 2 ? w : 0, s[3] = at == 3 ? w : 0;
}
DEVICE void spread(uint2 w, unsigned *s) {
    bool high = threadIdx.x % 2;
    s[0] = high ? 0 : w.x, s[1] = high ? 0 : w.y, s[2] = high ? w.x : 0, s[3] = high ? w.y : 0;
}
DEVICE void spread(uint4 w, unsigned *s) { s[0] = w.x, s[1] = w.y, s[2] = w.z, s[3] = w.w; }

// Mixes every thread's word into sum. All threads of the block call this.
DEVICE void mix_into_sum(word mine, unsigned *sum) {
    SHARED(unsigned, shared, [4 * BLOCK_WARPS]);
    unsigned s[4];
    spread(mine, s);
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int x = 16; x > 0; x /= 2) s[i] ^= __shfl_xor_sync(~0u, s[i], x);
        if (threadIdx.x % 32 == 0) shared[4 * (threadIdx.x / 32) + i] = s[i];
    }
    __syncthreads();
    if (threadIdx.x >= 4) return;
    unsigned all = 0;
    for (int i = 0; i < BLOCK_WARPS; i++) all ^= shared[4 * i + threadIdx.x];
    atomicXor(sum + threadIdx.x, all);
}

// dst, without bulk copies; r and w in words.
DEVICE void walk(word *dst, const word *src, long long r, long long w) {
    // A block's vectors start at `first`, and at `step` from there the next time round; a thread's
    // are `stride` apart; `reach` is how far behind the first the block's last one ends.
    const long long stride = SPAN ? BLOCK : (long long)gridDim.x * BLOCK;
    const long long start = (long long)blockIdx.x * (SPAN ? CHUNK : BLOCK);
    const long long step = (long long)gridDim.x * CHUNK;
    const long long reach = (UNROLL - 1) * stride + BLOCK;
    const long long paired = r > 2 * w ? w : r - w; // so many have two terms
    const long long copied = r < w ? r : w;         // and so many one or two
    for (long long first = start; first < w; first += step) {
        const long long i = first + threadIdx.x, end = first + reach;
        if (first >= paired && end <= copied)
            whole<1>(dst + i, src + i, w, stride);
        else if (end <= paired)
            whole<2>(dst + i, src + i, w, stride);
        else if (first >= copied && end <= w)
            whole<0>(dst + i, src, w, stride);
        else
            ragged(dst, src, i, r, w, stride);
    }
}

#if BULK

enum { PIECE = 32 * UNROLL, PIECE_BYTES = PIECE * VECTOR_BYTES };

// The piece's part of src, where it has one.
DEVICE void bring(unsigned char *to, const word *src, long long first, long long end,
                  uint64_t *barrier) {
    const long long left = end - first;
    const unsigned bytes = left <= 0 ? 0 : left < PIECE ? (int)left * VECTOR_BYTES : PIECE_BYTES;
    ptx_barrier_expect(barrier, bytes);
    if (bytes) ptx_bulk_load<LOAD_HINT>(to, src + first, bytes, barrier);
}

// Word j of dst, of which `here` came by a copy if j < r.
DEVICE word finished(word here, const word *src, long long j, long long r, long long w) {
    if (j >= r) fill_pattern(here);
    if (j < r - w) mix(here, load_word<LOAD_HINT>(src + w + j));
    return here;
}

// dst by bulk copies. Every warp by itself; its pieces are `step` apart, number k comes to place
// k % BULK.
DEVICE void pass_on(word *dst, const word *src, long long r, long long w) {
    SHARED_DYNAMIC(unsigned char, all);
    SHARED(uint64_t, barriers, [BLOCK_WARPS * BULK]);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const long long step = (long long)gridDim.x * BLOCK_WARPS * PIECE, copied = r < w ? r : w;
    long long first = (blockIdx.x + (long long)gridDim.x * warp) * PIECE;
    unsigned char *places = all + warp * BULK * PIECE_BYTES;
    uint64_t *full = barriers + warp * BULK;
    if (lane == 0) {
        for (int i = 0; i < BULK; i++) ptx_barrier_init(full + i, 1);
        ptx_barrier_fence();
        for (int i = 0; i < BULK; i++)
            if (first + i * step < w)
                bring(places + i * PIECE_BYTES, src, first + i * step, copied, full + i);
    }
    __syncwarp();
    for (int k = 0; first < w; k++, first += step) {
        const int at = k % BULK, before = (k + BULK - 1) % BULK;
        word *here = (word *)(places + at * PIECE_BYTES), v[UNROLL];
        const bool whole = first >= r - w && first + PIECE <= copied;
        ptx_barrier_wait(full + at, k / BULK & 1);
#pragma unroll
        for (int i = 0; i < UNROLL && (STORE_HINT < 2 || !whole); i++) {
            v[i] = here[i * 32 + lane];
            if (!whole && first + i * 32 + lane < w)
                v[i] = finished(v[i], src, first + i * 32 + lane, r, w);
        }
        if (STORE_HINT == 2) {
#pragma unroll
            for (int i = 0; i < UNROLL && !whole; i++) here[i * 32 + lane] = v[i];
            ptx_async_fence();
            __syncwarp();
            if (lane != 0) continue;
            const long long left = w - first;
            ptx_bulk_store<LOAD_HINT>(dst + first, here,
                                      (int)(left < PIECE ? left : PIECE) * VECTOR_BYTES);
            ptx_bulk_commit();
            if (BULK == 1 || !k || first + (BULK - 1) * step >= w) continue;
            ptx_bulk_wait<1>();
            bring(places + before * PIECE_BYTES, src, first + (BULK - 1) * step, copied,
                  full + before);
        } else {
            __syncwarp();
            if (lane == 0 && first + BULK * step < w)
                bring((unsigned char *)here, src, first + BULK * step, copied, full + at);
#pragma unroll
            for (int i = 0; i < UNROLL; i++)
                if (whole || first + i * 32 + lane < w)
                    store_word<STORE_HINT>(dst + first + i * 32 + lane, v[i]);
        }
    }
    if (STORE_HINT == 2 && lane == 0) ptx_bulk_wait<0>();
}

#endif

ENTRY_BOUNDS(stream, BLOCK)
(unsigned char *dst_, const unsigned char *src_, unsigned char *sum, long long read_bytes,
 long long write_bytes) {
    word *dst = (word *)dst_;
    const word *src = (const word *)src_;
    const long long r = read_bytes / VECTOR_BYTES, w = write_bytes / VECTOR_BYTES;
#if BULK
    pass_on(dst, src, r, w);
#else
    walk(dst, src, r, w);
#endif

    const long long stride = SPAN ? BLOCK : (long long)gridDim.x * BLOCK;
    const long long start = (long long)blockIdx.x * (SPAN ? CHUNK : BLOCK);
    const long long step = (long long)gridDim.x * CHUNK;
    const long long reach = (UNROLL - 1) * stride + BLOCK;
    const long long rest = r - 2 * w; // read, and nothing written
    if (start >= rest) return;        // the whole block
    src += 2 * w;
    word mine = word();
    for (long long first = start; first < rest; first += step) {
        const long long i = first + threadIdx.x;
        word v[UNROLL];
        if (first + reach <= rest) {
#pragma unroll
            for (int k = 0; k < UNROLL; k++) v[k] = load_word<LOAD_HINT>(src + i + k * stride);
        } else {
#pragma unroll
            for (int k = 0; k < UNROLL; k++) {
                v[k] = word();
                if (i + k * stride < rest) v[k] = load_word<LOAD_HINT>(src + i + k * stride);
            }
        }
#pragma unroll
        for (int k = 0; k < UNROLL; k++) mix(mine, v[k]);
    }
    mix_into_sum(mine, (unsigned *)sum);
}

#else // CHECK: before, then after each argument; the sum is block 0's to make

DEVICE unsigned check_word(const unsigned *src, long long j, long long r, long long w) {
    unsigned want = j < r ? src[j] : 0x5a5a5a5au;
    return j < r - w ? want ^ src[w + j] : want;
}

DEVICE void check_bytes(check_report *report, int argument, long long word, unsigned got,
                        unsigned want) {
    const bool focused = report->focus >> 2 == ((unsigned long long)argument << 54 | word);
    if (got == want && !focused) return;
    for (int b = 0; b < 4; b++)
        check_element(report, argument, 4 * word + b, got >> 8 * b & 255, want >> 8 * b & 255, 0);
}

ENTRY(check)
(const unsigned char *, const unsigned char *src_, const unsigned char *sum_,
 const unsigned char *dst_, const unsigned char *, const unsigned char *sum_after_,
 long long read_bytes, long long write_bytes, check_report *report) {
    SHARED(unsigned, shared, [256]);
    const unsigned *src = (const unsigned *)src_, *dst = (const unsigned *)dst_;
    const unsigned *sum = (const unsigned *)sum_, *sum_after = (const unsigned *)sum_after_;
    const long long r = read_bytes / 4, w = write_bytes / 4;
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long j = (long long)blockIdx.x * blockDim.x + threadIdx.x; j < w; j += step)
        check_bytes(report, 0, j, dst[j], check_word(src, j, r, w));
    if (blockIdx.x) return;
    const uint4 *rest = (const uint4 *)(src + 2 * w);
    uint4 all = make_uint4(0, 0, 0, 0);
#pragma unroll 8
    for (long long j = threadIdx.x; j < (r - 2 * w) / 4; j += blockDim.x) {
        uint4 v = rest[j];
        all.x ^= v.x, all.y ^= v.y, all.z ^= v.z, all.w ^= v.w;
    }
    for (int i = 0; i < 4; i++) {
        __syncthreads();
        shared[threadIdx.x] = i == 0 ? all.x : i == 1 ? all.y : i == 2 ? all.z : all.w;
        __syncthreads();
        unsigned want = sum[i];
        for (unsigned t = 0; t < blockDim.x; t++) want ^= shared[t];
        if (threadIdx.x == 0) check_bytes(report, 2, i, sum_after[i], want);
    }
}

#endif
