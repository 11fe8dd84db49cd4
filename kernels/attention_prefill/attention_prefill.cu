// attention_prefill - attention of a prompt's new rows over a filled KV cache, causal: row r is
// position start + r and sees the positions max(0, start + r - window + 1) .. start + r (window 0:
// from 0 on). out = softmax(q k^T / sqrt(HEAD_DIM)) v, of key head h / (HEADS / KV_HEADS) for
// query head h.
//
// q: (rows, HEADS, HEAD_DIM) element, normed and turned already; cache_k, cache_v: (KV_HEADS,
// capacity, HEAD_DIM) element, positions 0 .. start + rows - 1 filled, others never looked at;
// out: (rows, HEADS HEAD_DIM) element. All aligned to 16 bytes.
// Least traffic: q, the positions seen of k and v, out, once each. Work: 4 HEAD_DIM a pair of a
// row and a position that it sees.
//
// A block has 16 x FRAGMENTS x WARPS rows of a query head, or, with PACK, rows of all the query
// heads of a key head, one head after the other within a row: then the keys serve them all. It
// walks over the positions that any of them sees, KEYS at a time; a warp keeps its scores, their
// weights and its sums in registers, as tensor cores have them, and sums again what a greater
// score makes less of (FlashAttention-2, Dao 2023). Only tiles that some row sees in part are
// masked; warps pass by tiles that none of theirs see. Weights are rounded to the element for the
// second product. Blocks with the most positions come first.
// Variants: STAGES 1 keeps one tile of keys and one of values, and fetches each while the other is
// in use; 2 keeps two of each. COPY 0 fetches through registers, 1 asynchronously (sm_80).
// Q_REGISTERS 1 keeps the queries in registers. SWIZZLE 0 pads shared rows by 16 bytes, 1 turns
// them about instead. ORDER 0 begins with the last rows of all heads, 1 goes head by head.
// fp32, and bf16 before sm_80, multiply without tensor cores, on the same layout.
#include "kernels/tile.cuh"

typedef element_of<DTYPE> E;
typedef E::type element;

enum { PER_KEY = HEADS / KV_HEADS };

#ifndef CHECK

#if DTYPE == 0 || (DTYPE == 1 && (!defined(__CUDACC__) || __CUDA_ARCH__ >= 800))
#define TENSOR_CORES 1
#else
#define TENSOR_CORES 0
#endif

#define LEAST __int_as_float((int)0xff800000) // minus infinity

// A row of a block's is a row of the prompt and a query head: number row x PACKED + head.
enum {
    PACKED = PACK ? PER_KEY : 1, // query heads of a block
    GROUPS = HEADS / PACKED,
    THREADS = 32 * WARPS,
    WARP_ROWS = 16 * FRAGMENTS,
    BLOCK_ROWS = WARP_ROWS * WARPS,
    VECTOR = 16 / E::BYTES, // elements of a chunk of 16 bytes
    CHUNKS = HEAD_DIM / VECTOR,
    STRIDE = SWIZZLE ? CHUNKS : CHUNKS + 1, // chunks from one shared row to the next
    TILE = KEYS * STRIDE,
    Q_CHUNKS = Q_REGISTERS ? 0 : BLOCK_ROWS * STRIDE, // before the tiles
    STAGED = (KEYS * CHUNKS + THREADS - 1) / THREADS, // chunks of a tile that a thread fetches
    STEPS = HEAD_DIM / 16,
    COLUMNS = HEAD_DIM / 8, // of 8 dimensions
    SPANS = KEYS / 8,       // of 8 positions
    HAND_ROW = KEYS + 1,    // floats of a row of weights, without tensor cores
};

struct block_rows {
    int group, first, count;   // numbers of the block's rows are [first, count)
    int low, high, begin, end; // positions of the rows, low to high; those they see, [begin, end)
    long long cache;           // chunks before the key head's position 0
};
// A thread's sums: fragment f has rows g and g + 8 of 16, columns 8 i + 2 t and the next.
struct softmax_rows {
    float out[FRAGMENTS][COLUMNS][4];
    float greatest[FRAGMENTS][2], weight[FRAGMENTS][2]; // greatest is scaled, for exp2
};
struct queries {
    uint32_t a[Q_REGISTERS ? STEPS : 1][FRAGMENTS][4];
};
struct chunks {
    uint4 v[STAGED];
};

DEVICE int chunk_at(int row, int chunk) {
    return row * STRIDE + (SWIZZLE ? chunk ^ (row & 7) : chunk);
}

DEVICE block_rows find_rows(int rows, int start, long long capacity, int window) {
    const int tiles = gridDim.x / GROUPS;
    const int back = ORDER == 0 ? blockIdx.x / GROUPS : blockIdx.x % tiles;
    block_rows b;
    b.group = ORDER == 0 ? blockIdx.x % GROUPS : blockIdx.x / tiles;
    b.first = (tiles - 1 - back) * BLOCK_ROWS, b.count = rows * PACKED;
    b.low = start + b.first / PACKED;
    b.high = start + min(b.first + BLOCK_ROWS - 1, b.count - 1) / PACKED;
    b.begin = window && b.low >= window ? b.low - window + 1 : 0, b.end = b.high + 1;
    b.cache = b.group * PACKED / PER_KEY * capacity * CHUNKS;
    return b;
}

// --- a tile of keys or values into shared memory -------------------------------------------------

DEVICE void fetch(chunks &c, const uint4 *head, uint4 *tile, int position, int end) {
#pragma unroll
    for (int i = 0; i < STAGED; i++) {
        const int index = threadIdx.x + i * THREADS, row = index / CHUNKS, chunk = index % CHUNKS;
        if (KEYS * CHUNKS % THREADS && index >= KEYS * CHUNKS) break;
        const bool seen = position + row < end; // what is not may hold anything
        const uint4 *from = head + (long long)(seen ? position + row : 0) * CHUNKS + chunk;
        if (COPY)
            ptx_copy_async(tile + chunk_at(row, chunk), from, seen);
        else
            c.v[i] = seen ? *from : uint4();
    }
}
DEVICE void land(const chunks &c, uint4 *tile) {
#pragma unroll
    for (int i = 0; i < STAGED && !COPY; i++) {
        const int index = threadIdx.x + i * THREADS;
        if (KEYS * CHUNKS % THREADS && index >= KEYS * CHUNKS) break;
        tile[chunk_at(index / CHUNKS, index % CHUNKS)] = c.v[i];
    }
}
// What was fetched is there for all, and all are done with what was there before.
DEVICE void settle() {
    if (COPY) ptx_copy_wait();
    __syncthreads();
}

// --- products ------------------------------------------------------------------------------------

#if TENSOR_CORES
DEVICE void multiply(float *d, const uint32_t *a, const uint32_t *b) {
#if DTYPE == 0
    ptx_mma_f16(d, a, b);
#else
    ptx_mma_bf16(d, a, b);
#endif
}
DEVICE void load_queries(uint32_t (*a)[4], const uint4 *q, int step) {
    const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * WARP_ROWS + lane % 16;
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f++)
        ptx_load_tiles(a[f], q + chunk_at(row + 16 * f, 2 * step + lane / 16));
}

DEVICE void make_scores(float (*s)[SPANS][4], const queries &kept, const uint4 *q, const uint4 *k) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        uint32_t loaded[FRAGMENTS][4], b[4];
        if (!Q_REGISTERS) load_queries(loaded, q, step);
#pragma unroll
        for (int n = 0; n < SPANS / 2; n++) {
            ptx_load_tiles(
                b, k + chunk_at(16 * n + lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2));
#pragma unroll
            for (int f = 0; f < FRAGMENTS; f++) {
                const uint32_t *a = Q_REGISTERS ? kept.a[Q_REGISTERS ? step : 0][f] : loaded[f];
                multiply(s[f][2 * n], a, b), multiply(s[f][2 * n + 1], a, b + 2);
            }
        }
    }
}

// The layout of scores is that of the first factor of the next product.
DEVICE void add_values(softmax_rows &m, const float (*s)[SPANS][4], const uint4 *v, float *) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < SPANS / 2; n++) {
        uint32_t p[FRAGMENTS][4], b[4];
#pragma unroll
        for (int f = 0; f < FRAGMENTS; f++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                p[f][i] =
                    E::pack(s[f][2 * n + i / 2][i % 2 * 2], s[f][2 * n + i / 2][i % 2 * 2 + 1]);
#pragma unroll
        for (int d = 0; d < STEPS; d++) {
            ptx_load_tiles_transposed(b, v + chunk_at(16 * n + lane % 16, 2 * d + lane / 16));
#pragma unroll
            for (int f = 0; f < FRAGMENTS; f++) {
                multiply(m.out[f][2 * d], p[f], b);
                multiply(m.out[f][2 * d + 1], p[f], b + 2);
            }
        }
    }
}
#else
// A thread makes the scores whose place in the layout is its own.
DEVICE void make_scores(float (*s)[SPANS][4], const queries &, const uint4 *q, const uint4 *k) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const int row = threadIdx.x / 32 * WARP_ROWS + g;
#pragma unroll 1
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
        float a[FRAGMENTS][2][VECTOR], b[VECTOR];
#pragma unroll
        for (int f = 0; f < FRAGMENTS; f++)
#pragma unroll
            for (int h = 0; h < 2; h++)
                unpack<E>(q[chunk_at(row + 16 * f + 8 * h, chunk)], a[f][h]);
#pragma unroll
        for (int n = 0; n < SPANS * 2; n++) {
            unpack<E>(k[chunk_at(n / 2 * 8 + 2 * t + n % 2, chunk)], b);
#pragma unroll
            for (int i = 0; i < FRAGMENTS * 2 * VECTOR; i++) {
                const int f = i / (2 * VECTOR), h = i / VECTOR % 2, e = i % VECTOR;
                s[f][n / 2][2 * h + n % 2] += a[f][h][e] * b[e];
            }
        }
    }
}
// The weights go by way of shared memory, (BLOCK_ROWS, HAND_ROW), each warp to its own rows, so
// that the positions are a loop: without it a compiler has far more in flight than there are
// registers.
DEVICE void add_values(softmax_rows &m, const float (*s)[SPANS][4], const uint4 *v, float *weight) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    float *row = weight + (threadIdx.x / 32 * WARP_ROWS + g) * HAND_ROW;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < FRAGMENTS * SPANS * 4; i++) {
        const int f = i / (SPANS * 4), n = i / 4 % SPANS, h = i / 2 % 2;
        row[(16 * f + 8 * h) * HAND_ROW + 8 * n + 2 * t + i % 2] = s[f][n][i % 4];
    }
    __syncwarp();
#pragma unroll 1
    for (int n = 0; n < KEYS; n++) {
        float p[FRAGMENTS * 2];
#pragma unroll
        for (int i = 0; i < FRAGMENTS * 2; i++) p[i] = row[8 * i * HAND_ROW + n];
#pragma unroll
        for (int d = 0; d < COLUMNS; d++) {
            const int at = 8 * d + 2 * t;
            const element *two = (const element *)(v + chunk_at(n, at / VECTOR)) + at % VECTOR;
            const float x = E::load(two[0]), y = E::load(two[1]);
#pragma unroll
            for (int i = 0; i < FRAGMENTS * 2; i++) {
                m.out[i / 2][d][i % 2 * 2] += p[i] * x;
                m.out[i / 2][d][i % 2 * 2 + 1] += p[i] * y;
            }
        }
    }
}
#endif

// --- softmax -------------------------------------------------------------------------------------

// The position of the row that is h x 8 below this thread's first of fragment f.
DEVICE int position_of(const block_rows &b, int start, int f, int h) {
    const int row = threadIdx.x / 32 * WARP_ROWS + 16 * f + 8 * h + threadIdx.x % 32 / 4;
    return start + min(b.first + row, b.count - 1) / PACKED;
}

// Scores of positions that a row does not see become minus infinity.
DEVICE void mask(float (*s)[SPANS][4], const block_rows &b, int start, int window, int first) {
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int position = position_of(b, start, f, h) - first - threadIdx.x % 4 * 2;
            const int least = window ? position - window + 1 : -KEYS;
#pragma unroll
            for (int n = 0; n < SPANS * 2; n++) {
                const int at = n / 2 * 8 + n % 2;
                if (at > position || at < least) s[f][n / 2][2 * h + n % 2] = LEAST;
            }
        }
}

// Scores become weights, and what was summed before is scaled to the same greatest score.
DEVICE void weigh(float (*s)[SPANS][4], softmax_rows &m) {
    const float scale = 1.44269504f / sqrtf((float)HEAD_DIM);
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float most = s[f][0][2 * h];
#pragma unroll
            for (int n = 0; n < SPANS * 2; n++) most = fmaxf(most, s[f][n / 2][2 * h + n % 2]);
            most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
            most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
            most = fmaxf(m.greatest[f][h], most * scale);
            const float base = most == LEAST ? 0.0f : most; // nothing seen yet
            const float fade = ptx_exp2(m.greatest[f][h] - base);
            float weight = 0.0f;
#pragma unroll
            for (int n = 0; n < SPANS * 2; n++) {
                float &one = s[f][n / 2][2 * h + n % 2];
                one = ptx_exp2(fmaf(one, scale, -base)), weight += one;
            }
            m.greatest[f][h] = most, m.weight[f][h] = m.weight[f][h] * fade + weight;
#pragma unroll
            for (int d = 0; d < COLUMNS; d++)
                m.out[f][d][2 * h] *= fade, m.out[f][d][2 * h + 1] *= fade;
        }
}

DEVICE void write_out(element *out, const block_rows &b, const softmax_rows &m) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float all = m.weight[f][h];
            all += __shfl_xor_sync(~0u, all, 1);
            all += __shfl_xor_sync(~0u, all, 2);
            const int row = b.first + threadIdx.x / 32 * WARP_ROWS + 16 * f + 8 * h + lane / 4;
            if (row >= b.count) continue;
            const float part = 1.0f / all;
            element *to =
                out +
                ((long long)(row / PACKED) * HEADS + b.group * PACKED + row % PACKED) * HEAD_DIM +
                lane % 4 * 2;
#pragma unroll
            for (int d = 0; d < COLUMNS; d++) {
                const float two[2] = {m.out[f][d][2 * h] * part, m.out[f][d][2 * h + 1] * part};
                word_of<2 * E::BYTES>::type word;
                pack<E>(two, word);
                *(word_of<2 * E::BYTES>::type *)(to + 8 * d) = word;
            }
        }
}

// --- the kernel ----------------------------------------------------------------------------------

DEVICE void stage_queries(uint4 *to, const uint4 *q, const block_rows &b) {
    for (int i = threadIdx.x; i < BLOCK_ROWS * CHUNKS; i += THREADS) {
        const int row = i / CHUNKS, chunk = i % CHUNKS, number = b.first + row;
        const long long head = (long long)(number / PACKED) * HEADS + b.group * PACKED;
        to[chunk_at(row, chunk)] =
            number < b.count ? q[(head + number % PACKED) * CHUNKS + chunk] : uint4();
    }
    __syncthreads();
}

DEVICE void begin(softmax_rows &m) {
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f++) {
#pragma unroll
        for (int h = 0; h < 2; h++) m.greatest[f][h] = LEAST, m.weight[f][h] = 0.0f;
#pragma unroll
        for (int d = 0; d < COLUMNS * 4; d++) m.out[f][d / 4][d % 4] = 0.0f;
    }
}

ENTRY_BOUNDS(attention_prefill, THREADS)
(element *out, const element *q, const element *cache_k, const element *cache_v, long long rows,
 long long start_, long long capacity, long long window_) {
    SHARED_DYNAMIC(uint4, shared);
    const int start = (int)start_, window = (int)window_;
    const block_rows b = find_rows((int)rows, start, capacity, window);
    const uint4 *k = (const uint4 *)cache_k + b.cache, *v = (const uint4 *)cache_v + b.cache;
    uint4 *tiles = shared + Q_CHUNKS;
    float *by_hand = (float *)(tiles + 2 * STAGES * TILE);
    queries kept;
    chunks moving;
    softmax_rows m;
    begin(m);
    stage_queries(shared, (const uint4 *)q, b);
#if TENSOR_CORES
#pragma unroll
    for (int step = 0; step < STEPS && Q_REGISTERS; step++)
        load_queries(kept.a[Q_REGISTERS ? step : 0], shared, step);
    if (Q_REGISTERS) __syncthreads(); // the tiles come to the same place
#endif
    const int first_tile = b.begin / KEYS, end_tile = (b.end + KEYS - 1) / KEYS;
    // Positions of this warp's rows.
    const int number = b.first + (int)threadIdx.x / 32 * WARP_ROWS;
    const int low = start + min(number, b.count - 1) / PACKED;
    const int high = start + min(number + WARP_ROWS - 1, b.count - 1) / PACKED;

    fetch(moving, k, tiles, first_tile * KEYS, b.end);
    land(moving, tiles);
    if (STAGES == 2) {
        fetch(moving, v, tiles + TILE, first_tile * KEYS, b.end);
        land(moving, tiles + TILE);
    }
    for (int tile = first_tile; tile < end_tile; tile++) {
        const int at = tile * KEYS, turn = STAGES == 2 ? (tile - first_tile) % 2 : 0;
        uint4 *keys = tiles + turn * 2 * TILE, *values = keys + TILE;
        uint4 *next_keys = STAGES == 2 ? tiles + (1 - turn) * 2 * TILE : keys;
        const bool more = tile + 1 < end_tile;
        const bool seen =
            number < b.count && at <= high && (!window || at + KEYS > low - window + 1);
        float s[FRAGMENTS][SPANS][4] = {};

        settle();
        if (STAGES == 1)
            fetch(moving, v, values, at, b.end);
        else if (more)
            fetch(moving, k, next_keys, at + KEYS, b.end);
        if (seen) make_scores(s, kept, shared, keys);
        if (STAGES == 1) {
            land(moving, values);
            settle();
        } else if (more) {
            land(moving, next_keys);
        }
        if (more) {
            if (STAGES == 1)
                fetch(moving, k, keys, at + KEYS, b.end);
            else
                fetch(moving, v, next_keys + TILE, at + KEYS, b.end);
        }
        if (seen) {
            if (at + KEYS - 1 > low || (window && at <= high - window))
                mask(s, b, start, window, at);
            weigh(s, m);
            add_values(m, s, values, by_hand);
        }
        if (more) land(moving, STAGES == 1 ? keys : next_keys + TILE);
    }
    write_out(out, b, m);
}

#else // CHECK: in fp64, a block of 256 threads a head of a row

DEVICE double plus(double x) { return x < 0 ? -x : x; }

// The same number to all threads: the greatest of v, or the sum.
template <bool SUM> DEVICE double of_all(double v, double *shared) {
    __syncthreads();
    shared[threadIdx.x] = v;
    for (int n = 128; n; n /= 2) {
        __syncthreads();
        if ((int)threadIdx.x >= n) continue;
        double a = shared[threadIdx.x], b = shared[threadIdx.x + n];
        shared[threadIdx.x] = SUM ? a + b : a > b ? a : b;
    }
    __syncthreads();
    return shared[0];
}

// q k / sqrt(HEAD_DIM), and the sum of the |terms|.
DEVICE double score(const element *q, const element *k, double *terms) {
    double sum = 0, size = 0;
    for (int d = 0; d < HEAD_DIM; d++) {
        double term = (double)E::load(q[d]) * (double)E::load(k[d]);
        sum += term, size += plus(term);
    }
    *terms = size / sqrt((double)HEAD_DIM);
    return sum / sqrt((double)HEAD_DIM);
}

ENTRY(check)
(const element *, const element *q, const element *cache_k, const element *cache_v,
 const element *out, const element *, const element *, const element *, long long rows,
 long long start, long long capacity, long long window, check_report *report) {
    SHARED(double, weight, [256]);
    SHARED(double, terms, [256]);
    SHARED(double, scratch, [256]);
    const int t = threadIdx.x;
    for (long long unit = blockIdx.x; unit < rows * HEADS; unit += gridDim.x) {
        const long long position = start + unit / HEADS, head = unit % HEADS / PER_KEY * capacity;
        const long long low = window && position >= window ? position - window + 1 : 0;
        const element *k = cache_k + head * HEAD_DIM, *v = cache_v + head * HEAD_DIM;
        double greatest = -1e300, unused;
        for (long long j = low + t; j <= position; j += 256) {
            double one = score(q + unit * HEAD_DIM, k + j * HEAD_DIM, &unused);
            if (one > greatest) greatest = one;
        }
        greatest = of_all<false>(greatest, scratch);
        double all = 0, felt = 0, sum = 0, size = 0, moved = 0, lost = 0;
        for (long long first = low; first <= position; first += 256) {
            double p = 0, size_of = 0;
            if (first + t <= position)
                p = exp(score(q + unit * HEAD_DIM, k + (first + t) * HEAD_DIM, &size_of) -
                        greatest);
            all += p, felt += p * size_of;
            __syncthreads();
            weight[t] = p, terms[t] = size_of;
            __syncthreads();
            for (int i = 0; i < 256 && first + i <= position && t < HEAD_DIM; i++) {
                double value = E::load(v[(first + i) * HEAD_DIM + t]);
                sum += weight[i] * value, size += weight[i] * plus(value);
                moved += weight[i] * terms[i] * plus(value), lost += plus(value);
            }
        }
        all = of_all<true>(all, scratch), felt = of_all<true>(felt, scratch);
        if (t >= HEAD_DIM) continue;
        sum /= all;
        // Of the weights' roundings: relative ones, and those of the least of them.
        double unit_of = report->c * 0x1p-24, rounded = size * (1 + report->roundoff / unit_of);
        double magnitude = rounded + moved + felt * plus(sum) + lost * report->floor / unit_of;
        check_element(report, 0, unit * HEAD_DIM + t, E::load(out[unit * HEAD_DIM + t]), sum,
                      magnitude / all);
    }
}

#endif
