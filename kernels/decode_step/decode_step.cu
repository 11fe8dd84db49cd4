// decode_step - a token of each of BATCH sequences through a whole model in one launch: from their
// embeddings to the logits.
//
// A block a multiprocessor, all resident. One warp of each block only copies: it walks through all
// weights that the block will need, layer after layer, and keeps a ring of STAGES tiles in shared
// memory full, without ever waiting for activations. WARPS other warps multiply. So the memory
// stays busy while phases wait for one another; what a phase boundary costs is hidden by what the
// ring holds. Phases of a layer, each done by all blocks:
//
//   qkv         a = rmsnorm(residual); q, k, v = a W^T (+ bias)
//   attention   q, k normed a head and turned; k, v into the caches; softmax(q k^T / sqrt(d)) v
//   out         residual += o W_o^T (+ bias)
//   gate, up    a = rmsnorm(residual); f = silu(a W_gate^T) (a W_up^T)
//   down        residual += f W_down^T
//
// then the head, logits = rmsnorm(residual) W_head^T. A unit of work is 8 rows of a matrix (4 of
// gate and the same 4 of up), which comes in tiles of 8 rows by at most COLUMNS, all as wide as can
// be. A warp multiplies its columns of a tile on tensor cores: 8 rows x 16 columns, with the
// activations of up to 16 sequences, rounded to the element, as the other operand; sums are fp32.
// Units rotate over the blocks, so that none is last in every phase.
//
// What one phase hands to the next are words of 32 bits whose lowest bit says whether they are new:
// floats of 23 bits. A fence would wait for all that the ring has on its way, some 5 us; these need
// none, and a reader takes each word as soon as it is there. A word is written again only when all
// have read it: who writes one has, through what the phases between made of it, had to do with
// everybody who reads it. So between two writes the bit need only change. That holds as long as
// every block has a unit of every matrix: the grid is no larger. Counters say when it is worth
// looking; they prove nothing.
//
// For the same reason nothing is read on a phase's edge that memory has to bring: a norm's weight
// comes through the ring, before the matrix that needs it; angles are computed once; facts are kept
// in registers; what a sum is added to is read before the sum begins.
//
// Attention reads keys and values through the same ring: a block has a run of positions of one
// sequence's key head and all query heads that belong to it; the block with a head's last run
// merges all of them.
//
// Least traffic: all weights and the cache's filled positions once.
#include "kernels/rope/rope.cuh"

typedef element_of<DTYPE> E;
typedef E::type element;

// A layer's weights lie in one run, each on a multiple of 256 bytes: see decode_step.h.
#define DECODE_STEP_ALIGN(elements) (((elements) + 127) / 128 * 128)
enum {
    Q = HEADS * HEAD_DIM,
    KV = KV_HEADS * HEAD_DIM,
    QKV = Q + 2 * KV,
    AT_INPUT_NORM = 0,
    AT_QKV = AT_INPUT_NORM + DECODE_STEP_ALIGN(HIDDEN),
    AT_QKV_BIAS = AT_QKV + DECODE_STEP_ALIGN((long long)QKV * HIDDEN),
    AT_Q_NORM = AT_QKV_BIAS + (QKV_BIAS ? DECODE_STEP_ALIGN(QKV) : 0),
    AT_K_NORM = AT_Q_NORM + (QK_NORM ? DECODE_STEP_ALIGN(HEAD_DIM) : 0),
    AT_O = AT_K_NORM + (QK_NORM ? DECODE_STEP_ALIGN(HEAD_DIM) : 0),
    AT_O_BIAS = AT_O + DECODE_STEP_ALIGN((long long)HIDDEN * Q),
    AT_POST_NORM = AT_O_BIAS + (O_BIAS ? DECODE_STEP_ALIGN(HIDDEN) : 0),
    AT_GATE_UP = AT_POST_NORM + DECODE_STEP_ALIGN(HIDDEN),
    AT_DOWN = AT_GATE_UP + DECODE_STEP_ALIGN(2ll * INTERMEDIATE * HIDDEN),
    LAYER_ELEMENTS = AT_DOWN + DECODE_STEP_ALIGN((long long)HIDDEN * INTERMEDIATE),
};

#ifndef CHECK

enum {
    CONSUMERS = WARPS * 32, // threads; one more warp copies
    ROWS = 8,               // of a unit
    TILE_BYTES = ROWS * COLUMNS * 2,
    GROUP = HEADS / KV_HEADS,                // query heads of a key head
    LANES = HEAD_DIM / 8,                    // that share a position, 16 bytes each
    SLOTS = 32 / LANES,                      // positions that a warp has at once
    POSITIONS = TILE_BYTES / (4 * HEAD_DIM), // of a tile: their keys, then their values
    PAIRS = HEAD_DIM / 64,                   // of a head that a lane turns
    // Units whose sums wait in shared memory.
    HELD = BATCH == 1   ? 16
           : BATCH == 2 ? 8
           : BATCH <= 4 ? 4
                        : 2,
    MATRICES = 4, // of a layer
    WIDE = HIDDEN > Q ? HIDDEN : Q,
    WIDEST = WIDE > INTERMEDIATE ? WIDE : INTERMEDIATE, // elements of the longest activation
    X_BYTES = (BATCH * (WIDEST + (BATCH > 1 ? 56 : 0)) * 2 + 15) / 16 * 16,
    PART_BYTES = HELD * WARPS * BATCH * ROWS * 4,
    WORDS = HIDDEN / 8,                         // of 8 elements, of a row that is normed
    EACH = (WORDS + CONSUMERS - 1) / CONSUMERS, // of them a thread has
    ROOM = WARPS <= 8 ? 6 : 3,                  // for so many in registers
    FITTING = EACH < ROOM ? ROOM / EACH : 1,    // rows
    NORMED = BATCH < FITTING ? BATCH : FITTING, // at once
    RUN = HEAD_DIM + 2, // floats of a head's run: its sums, their greatest score, their weight
    MATRIX_BYTES = X_BYTES + PART_BYTES,
    ATTENTION_BYTES = (GROUP + 2) * HEAD_DIM * 4 + WARPS * GROUP * RUN * 4,
    WORK_BYTES = MATRIX_BYTES > ATTENTION_BYTES ? MATRIX_BYTES : ATTENTION_BYTES,
};

// What a block multiplies, in the order in which it does. One loop goes through them all: were each
// written out, the code would not fit the cache of instructions, and fetching it from memory takes
// as long as anything else on a phase's edge.
enum { OF_QKV, OF_OUT, OF_GATE_UP, OF_DOWN, OF_HEAD };

// The tiles that a row of K columns comes in are equally wide, in steps of 64 columns. Rows follow
// one another without gaps, so where a row is one tile, 8 rows are one copy.
#define DECODE_STEP_TILES(k) (((k) + COLUMNS - 1) / COLUMNS)
#define DECODE_STEP_WIDTH(k)                                                                       \
    (((k) + DECODE_STEP_TILES(k) - 1) / DECODE_STEP_TILES(k) + 63) / 64 * 64
// Elements from a sequence's activations to the next one's: 16 bytes 4 apart modulo 8, so that
// lanes of different sequences read different banks.
#define DECODE_STEP_STRIDE(k) (BATCH == 1 ? (k) : (k) + (12 - (k) / 8 % 8) % 8 * 8)
#define LEAST __int_as_float((int)0xff800000) // minus infinity

struct ring {
    char *bytes;
    uint64_t *full, *empty; // a tile has come; all warps have read it
    unsigned stage, turn;
};
DEVICE char *tile_of(const ring &r) { return r.bytes + r.stage * TILE_BYTES; }
DEVICE void next(ring &r) {
    if (++r.stage == STAGES) r.stage = 0, r.turn++;
}

struct matrix {
    int columns, width, stride, units; // stride: from a sequence's activations to the next's
    long long rows, norm; // elements from a layer's beginning, or, of the head, its own
};

// What all threads know, in shared memory: registers are for what is multiplied.
struct model {
    matrix matrices[OF_HEAD + 1];
    const element *embedding, *layers, *final_norm, *head;
    const int *facts; // (layers, 3): turns, window, delay
    const int *token; // (BATCH)
    element *cache_k, *cache_v;
    float *logits;
    unsigned *residual, *qkv, *attention, *product; // words with a bit that says which are new
    uint2 *runs;                                    // floats, each with the layer's number
    unsigned *count, *heads, *done, *launches;      // matrices of blocks; heads; blocks; see leave
    long long vocab, layer_count, capacity;
    float eps;
    int position[BATCH];
    float2 turn[BATCH * (HEAD_DIM / 2)]; // cosines and sines
};

struct step {
    const model *m;
    unsigned offset;   // units of all phases so far, modulo the grid
    int ahead[3];      // facts of the layer that is this lane's among 32
    int turns, window; // of this layer
    unsigned number;   // of this layer, among those of all launches
    unsigned delay;    // of a phase's end, for tests, in 16 ns
};

// All lanes of a warp together.
DEVICE void enter_layer(step &s, int layer) {
    const int lane = threadIdx.x % 32, at = layer % 32;
    if (at == 0)
#pragma unroll
        for (int i = 0; i < 3; i++)
            s.ahead[i] =
                layer + lane < (int)s.m->layer_count ? s.m->facts[3 * (layer + lane) + i] : 0;
    s.turns = __shfl_sync(~0u, s.ahead[0], at), s.window = __shfl_sync(~0u, s.ahead[1], at);
    s.delay = (unsigned)__shfl_sync(~0u, s.ahead[2], at) / 16;
    s.number++;
}

DEVICE const element *layer_of(const step &s, int layer) {
    return s.m->layers + (long long)layer * LAYER_ELEMENTS;
}
DEVICE bool is_normed(int kind) { return kind != OF_OUT && kind != OF_DOWN; }

DEVICE int first_unit(const step &s) {
    return (int)((blockIdx.x + gridDim.x - s.offset) % gridDim.x);
}
DEVICE void pass(step &s, int units) { s.offset = (s.offset + (unsigned)units) % gridDim.x; }

// Which positions of a key head a unit of attention has: tiles [first, last) of those before ours.
struct run_of {
    int sequence, position, head, split, splits, low, old, first, last;
};
// Blocks that share a key head at most.
DEVICE int most_splits() {
    const int most = (int)gridDim.x / (KV_HEADS * BATCH);
    return most > 1 ? most : 1;
}
DEVICE run_of attention_of(const step &s, int sequence) {
    run_of r;
    r.sequence = sequence;
    r.position = s.m->position[sequence];
    r.low = s.window && r.position >= s.window ? r.position - s.window + 1 : 0;
    r.old = r.position - r.low;
    int tiles = (r.old + POSITIONS - 1) / POSITIONS;
    r.splits = min((tiles + LEAST_TILES - 1) / LEAST_TILES, most_splits());
    if (r.splits < 1) r.splits = 1;
    return r;
}
DEVICE int attention_units(const step &s) {
    int units = 0;
#pragma unroll 1
    for (int b = 0; b < BATCH; b++) units += KV_HEADS * attention_of(s, b).splits;
    return units;
}
DEVICE run_of attention_run(const step &s, int unit) {
    run_of r = attention_of(s, 0);
#pragma unroll 1
    for (int b = 1; b < BATCH && unit >= KV_HEADS * r.splits; b++) {
        unit -= KV_HEADS * r.splits;
        r = attention_of(s, b);
    }
    int tiles = (r.old + POSITIONS - 1) / POSITIONS;
    r.head = unit / r.splits, r.split = unit % r.splits;
    r.first = (int)((unsigned)(tiles * r.split) / (unsigned)r.splits);
    r.last = (int)((unsigned)(tiles * (r.split + 1)) / (unsigned)r.splits);
    return r;
}
// A key head's part of the caches.
DEVICE long long cache_of(const step &s, const run_of &a, long long layer) {
    return ((layer * BATCH + a.sequence) * KV_HEADS + a.head) * s.m->capacity * HEAD_DIM;
}

// --- copying -------------------------------------------------------------------------------------

// All lanes see the room before any fills it: one that looked two phases late would wait for ever.
DEVICE void wait_for_room(ring &r) {
    if (r.turn) ptx_barrier_wait(&r.empty[r.stage], (r.turn - 1) & 1);
    __syncwarp();
}

// Row i of unit u of a matrix: 8 in a row, or, of gate and up, 4 and 4.
DEVICE long long row_of(int kind, int unit, int i) {
    if (kind != OF_GATE_UP) return (long long)unit * ROWS + i;
    return (long long)unit * (ROWS / 2) + (i < ROWS / 2 ? i : INTERMEDIATE + i - ROWS / 2);
}

DEVICE void copy_matrix(step &s, ring &r, int kind, const element *rows) {
    const int lane = threadIdx.x % 32;
    const int columns = s.m->matrices[kind].columns, width = s.m->matrices[kind].width;
    const int units = s.m->matrices[kind].units;
    const int copies = width != columns ? (int)ROWS : kind == OF_GATE_UP ? 2 : 1;
    const int row = lane * (ROWS / copies);
#pragma unroll 1
    for (int u = first_unit(s); u < units; u += (int)gridDim.x)
#pragma unroll 1
        for (int c = 0; c < columns; c += width) {
            unsigned bytes = (unsigned)min(width, columns - c) * 2;
            wait_for_room(r);
            if (lane == 0) ptx_barrier_expect(&r.full[r.stage], ROWS * bytes);
            if (lane < copies)
                ptx_bulk_load<LOAD_HINT>(tile_of(r) + row * (width * 2),
                                         rows + row_of(kind, u, row) * columns + c,
                                         bytes * (unsigned)(ROWS / copies), &r.full[r.stage]);
            next(r);
        }
    pass(s, units);
}

// A row of HIDDEN elements, in as many tiles as it takes.
DEVICE void copy_norm(ring &r, const element *norm) {
#pragma unroll 1
    for (int at = 0; at < HIDDEN; at += TILE_BYTES / 2) {
        unsigned bytes = (unsigned)min(TILE_BYTES / 2, HIDDEN - at) * 2;
        wait_for_room(r);
        if (threadIdx.x % 32 == 0) {
            ptx_barrier_expect(&r.full[r.stage], bytes);
            ptx_bulk_load(tile_of(r), norm + at, bytes, &r.full[r.stage]);
        }
        next(r);
    }
}

DEVICE void copy_cache(const step &s, ring &r, long long layer) {
    int lane = threadIdx.x % 32, units = attention_units(s);
#pragma unroll 1
    for (int u = (int)blockIdx.x; u < units; u += (int)gridDim.x) {
        run_of a = attention_run(s, u);
        long long row = cache_of(s, a, layer) + (long long)a.low * HEAD_DIM;
#pragma unroll 1
        for (int tile = a.first; tile < a.last; tile++) {
            unsigned bytes = (unsigned)min((int)POSITIONS, a.old - tile * POSITIONS) * HEAD_DIM * 2;
            long long at = row + (long long)tile * POSITIONS * HEAD_DIM;
            wait_for_room(r);
            if (lane == 0) {
                ptx_barrier_expect(&r.full[r.stage], 2 * bytes);
                ptx_bulk_load(tile_of(r), s.m->cache_k + at, bytes, &r.full[r.stage]);
                ptx_bulk_load(tile_of(r) + POSITIONS * HEAD_DIM * 2, s.m->cache_v + at, bytes,
                              &r.full[r.stage]);
            }
            next(r);
        }
    }
}

DEVICE void copy_all(step &s, ring &r) {
    const int count = (int)s.m->layer_count * MATRICES + 1;
#pragma unroll 1
    for (int n = 0; n < count; n++) {
        const int layer = n / MATRICES, kind = n < count - 1 ? n % MATRICES : (int)OF_HEAD;
        const matrix &m = s.m->matrices[kind];
        const element *rows = layer_of(s, layer) + m.rows, *norm = layer_of(s, layer) + m.norm;
        if (kind == OF_HEAD) rows = s.m->head, norm = s.m->final_norm;
        if (kind == OF_QKV) enter_layer(s, layer);
        if (is_normed(kind)) copy_norm(r, norm);
        if (kind == OF_OUT) copy_cache(s, r, layer);
        copy_matrix(s, r, kind, rows);
    }
}

// --- multiplying ---------------------------------------------------------------------------------

DEVICE void meet() { ptx_named_barrier(1, CONSUMERS); }

// Where a test asks for delays: each warp comes at a time of its own.
DEVICE void dawdle(const step &s, int place) {
    if (!s.delay) return;
    unsigned h = (blockIdx.x * 31 + threadIdx.x / 32) * 2654435761u;
    h = (h ^ (unsigned)(s.m->position[0] * 401 + s.number * 16 + place)) * 2246822519u;
    for (unsigned left = (h ^ h >> 15) % s.delay; left; left--) __nanosleep(16);
}

// Until a counter says that it is worth looking.
DEVICE void wait_for(const unsigned *count, unsigned enough) {
    if (threadIdx.x == 0)
        while ((int)(ptx_load_relaxed(count) - enough) < 0) spin_yield();
    meet();
}

DEVICE unsigned mark(float f, unsigned bit) { return (__float_as_uint(f) & ~1u) | bit; }
DEVICE float value(unsigned word) { return __uint_as_float(word & ~1u); } // whatever the bit
DEVICE bool is_new(uint4 v, unsigned bit) {
    return !(((v.x ^ bit) | (v.y ^ bit) | (v.z ^ bit) | (v.w ^ bit)) & 1);
}
DEVICE float await(const unsigned *p, unsigned bit) {
    unsigned v = ptx_load_relaxed(p);
    while ((v ^ bit) & 1) spin_yield(), v = ptx_load_relaxed(p);
    return value(v);
}
// COUNT times 8 words, those numbered `at`, at + CONSUMERS, ... below `end`, asked for all at once
// until all are new.
template <int COUNT>
DEVICE void await_eights(const unsigned *from, int at, int end, unsigned bit, float (*f)[8]) {
    const uint4 *words = (const uint4 *)from;
    uint4 v[2 * COUNT];
    for (bool all = false; !all;) {
#pragma unroll
        for (int i = 0; i < 2 * COUNT; i++) {
            v[i] = make_uint4(bit, bit, bit, bit);
            if (at + i / 2 * CONSUMERS < end)
                v[i] = ptx_load_relaxed(words + 2 * (at + i / 2 * CONSUMERS) + i % 2);
        }
        all = true;
#pragma unroll
        for (int i = 0; i < 2 * COUNT; i++) all = all && is_new(v[i], bit);
        if (!all) spin_yield();
    }
#pragma unroll
    for (int i = 0; i < 2 * COUNT; i++) {
        float *to = f[i / 2] + i % 2 * 4;
        to[0] = value(v[i].x), to[1] = value(v[i].y);
        to[2] = value(v[i].z), to[3] = value(v[i].w);
    }
}

// This thread's words of a norm's weight, from the ring.
DEVICE void take_norm(ring &r, uint4 (&norm)[EACH]) {
#pragma unroll 1
    for (int from = 0; from < WORDS; from += TILE_BYTES / 16) {
        ptx_barrier_wait(&r.full[r.stage], r.turn & 1);
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            int at = (int)threadIdx.x + i * CONSUMERS;
            if (at >= from && at < from + TILE_BYTES / 16 && at < WORDS)
                norm[i] = ((const uint4 *)tile_of(r))[at - from];
        }
        __syncwarp();
        if (threadIdx.x % 32 == 0) ptx_barrier_arrive(&r.empty[r.stage]);
        next(r);
    }
}

// x: (BATCH, HIDDEN) elements in shared memory = rmsnorm(residual) * norm, of each sequence; of the
// first layer the residual is the token's embedding.
DEVICE void stage_normed(const step &s, bool first_layer, unsigned bit, const uint4 (&norm)[EACH],
                         element *x, float *sums) {
    const int STRIDE_ = DECODE_STEP_STRIDE(HIDDEN);
    dawdle(s, 0);
#pragma unroll 1
    for (int from = 0; from < BATCH; from += NORMED) {
        float v[NORMED][EACH][8], sum[NORMED];
#pragma unroll
        for (int n = 0; n < NORMED; n++) {
            const int b = from + n < BATCH ? from + n : BATCH - 1;
            if (!first_layer) {
                await_eights<EACH>(s.m->residual + b * HIDDEN, threadIdx.x, WORDS, bit, v[n]);
            } else {
                const uint4 *row =
                    (const uint4 *)(s.m->embedding + (long long)s.m->token[b] * HIDDEN);
#pragma unroll
                for (int i = 0; i < EACH; i++)
                    if ((int)threadIdx.x + i * CONSUMERS < WORDS)
                        unpack<E>(row[threadIdx.x + i * CONSUMERS], v[n][i]);
            }
            sum[n] = 0.0f;
#pragma unroll
            for (int i = 0; i < EACH; i++)
#pragma unroll
                for (int k = 0; k < 8; k++)
                    if ((int)threadIdx.x + i * CONSUMERS < WORDS) sum[n] += v[n][i][k] * v[n][i][k];
        }
#pragma unroll
        for (int n = 0; n < NORMED; n++) {
#pragma unroll
            for (int lane = 16; lane; lane /= 2) sum[n] += __shfl_xor_sync(~0u, sum[n], lane);
            if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32 * NORMED + n] = sum[n];
        }
        meet();
#pragma unroll
        for (int n = 0; n < NORMED; n++) {
            float all = 0.0f;
#pragma unroll
            for (int i = 0; i < WARPS; i++) all += sums[i * NORMED + n];
            float scale = rsqrtf(all / HIDDEN + s.m->eps);
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                int at = (int)threadIdx.x + i * CONSUMERS;
                if (at >= WORDS || from + n >= BATCH) continue;
                float weight[8];
                uint4 word;
                unpack<E>(norm[i], weight);
#pragma unroll
                for (int k = 0; k < 8; k++) v[n][i][k] *= scale * weight[k];
                pack<E>(v[n][i], word);
                ((uint4 *)(x + (from + n) * STRIDE_))[at] = word;
            }
        }
        meet();
    }
}

// x: (BATCH, columns) elements in shared memory, of what a phase left.
DEVICE void stage_plain(const step &s, const unsigned *from, unsigned bit, const matrix &m,
                        element *x) {
    enum { AT_ONCE = 3 };
    const int words = m.columns / 8, stride = m.stride;
    dawdle(s, 1);
#pragma unroll 1
    for (int b = 0; b < BATCH; b++)
#pragma unroll 1
        for (int at = (int)threadIdx.x; at < words; at += AT_ONCE * CONSUMERS) {
            float v[AT_ONCE][8];
            await_eights<AT_ONCE>(from + b * words * 8, at, words, bit, v);
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++) {
                uint4 word;
                pack<E>(v[i], word);
                if (at + i * CONSUMERS < words)
                    ((uint4 *)(x + b * stride))[at + i * CONSUMERS] = word;
            }
        }
    meet();
}

// x: columns of a sequence, y: of the one eight further on.
DEVICE void multiply_words(float *d, uint32_t x0, uint32_t x1, uint32_t y0, uint32_t y1,
                           uint32_t w0, uint32_t w1) {
    uint32_t a[4] = {x0, y0, x1, y1}, b[2] = {w0, w1};
    ptx_mma<DTYPE>(d, a, b);
}

// This warp's columns of a tile, 64 at a time. The k of a product is whatever both operands take in
// the same order: a lane's 16 bytes are k 2t, 2t + 1, 2t + 8, 2t + 9 of two products. Rows lie a
// multiple of 128 bytes apart, so lanes of odd rows read the other half of the 64 columns first:
// then no two of 8 lanes share a bank.
DEVICE void multiply_tile(const char *tile, int width, const element *x, int stride, int columns,
                          float (&d)[4][4]) {
    const bool RAGGED = HIDDEN % 64 || Q % 64 || INTERMEDIATE % 64;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const int odd = g % 2;
    const char *row = tile + g * (width * 2) + 16 * t;
    const uint4 none = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < (COLUMNS / 64 + WARPS - 1) / WARPS; i++) {
        const int j = warp + i * WARPS;
        if (64 * j >= columns) break;
        uint4 w[2], v[2], u[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int from = 64 * j + 32 * (h ^ odd), c = 64 * j + 32 * h + 8 * t;
            w[h] = none, v[h] = none, u[h] = none;
            if (!RAGGED || from + 8 * t < columns) w[h] = *(const uint4 *)(row + 2 * from);
            if (RAGGED && c >= columns) continue;
            if (g < BATCH) v[h] = *(const uint4 *)(x + g * stride + c);
            if (BATCH > 8 && g + 8 < BATCH) u[h] = *(const uint4 *)(x + (g + 8) * stride + c);
        }
        const uint4 first = odd ? w[1] : w[0], second = odd ? w[0] : w[1];
        multiply_words(d[0], v[0].x, v[0].y, u[0].x, u[0].y, first.x, first.y);
        multiply_words(d[1], v[0].z, v[0].w, u[0].z, u[0].w, first.z, first.w);
        multiply_words(d[2], v[1].x, v[1].y, u[1].x, u[1].y, second.x, second.y);
        multiply_words(d[3], v[1].z, v[1].w, u[1].z, u[1].w, second.z, second.w);
    }
}

// What a row's sum is added to.
DEVICE float base_of(const step &s, int kind, const element *w, bool first_layer, int row, int b) {
    if (kind == OF_QKV) return QKV_BIAS ? E::load(w[AT_QKV_BIAS + row]) : 0.0f;
    if (kind == OF_DOWN) return await(s.m->residual + b * HIDDEN + row, 1);
    if (kind != OF_OUT) return 0.0f;
    float bias = O_BIAS ? E::load(w[AT_O_BIAS + row]) : 0.0f;
    if (first_layer) return bias + E::load(s.m->embedding[(long long)s.m->token[b] * HIDDEN + row]);
    return bias + await(s.m->residual + b * HIDDEN + row, 0);
}
// Where it goes, with the bit that makes it new: of the residual 1 and 0 in turn, of what is
// written once a layer that of the layer's number.
DEVICE void put_row(const step &s, int kind, int row, int b, float sum, float up) {
    const model &m = *s.m;
    unsigned bit = s.number & 1, *to = m.qkv + b * QKV + row;
    if (kind == OF_HEAD) {
        m.logits[b * m.vocab + row] = sum;
        return;
    }
    if (kind == OF_GATE_UP) {
        to = m.product + b * INTERMEDIATE + row;
        sum = sum / (1.0f + __expf(-sum)) * up;
    } else if (kind != OF_QKV) {
        to = m.residual + b * HIDDEN + row;
        bit = kind == OF_OUT;
    }
    ptx_store_relaxed(to, mark(sum, bit));
}

// What the warps have of a row of a unit, of one sequence.
DEVICE float sum_warps(const float *part) {
    float sum = 0.0f;
#pragma unroll
    for (int w = 0; w < WARPS; w++) sum += part[w * BATCH * ROWS];
    return sum;
}

// All units of this block; w: the layer's weights.
DEVICE void multiply_matrix(step &s, ring &r, int kind, const element *w, bool first_layer,
                            const element *x, float *part) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, t = (int)threadIdx.x;
    const int shift = kind == OF_GATE_UP ? 2 : 3, rows = 1 << shift; // of a unit, that go out
    const int columns = s.m->matrices[kind].columns, width = s.m->matrices[kind].width;
    const int stride = s.m->matrices[kind].stride, units = s.m->matrices[kind].units;
#pragma unroll 1
    for (int first = first_unit(s); first < units;) {
        float early = 0.0f; // of this thread's first row: asked for before it is needed
        const int own = first + (t >> shift) / BATCH * (int)gridDim.x;
        if (own < units && t < HELD * rows * BATCH)
            early =
                base_of(s, kind, w, first_layer, (own << shift) + t % rows, (t >> shift) % BATCH);
        int held = 0;
#pragma unroll 1
        for (int u = first; u < units && held < HELD; u += (int)gridDim.x, held++) {
            float d[4][4] = {{0, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}};
#pragma unroll 1
            for (int c = 0; c < columns; c += width) {
                ptx_barrier_wait(&r.full[r.stage], r.turn & 1);
                multiply_tile(tile_of(r), width, x + c, stride, min(width, columns - c), d);
                __syncwarp();
                if (lane == 0) ptx_barrier_arrive(&r.empty[r.stage]);
                next(r);
            }
#pragma unroll
            for (int i = 0; i < (BATCH > 8 ? 4 : 2); i++) {
                const int b = lane / 4 + i / 2 * 8;
                if (b < BATCH)
                    part[((held * WARPS + warp) * BATCH + b) * ROWS + lane % 4 * 2 + i % 2] =
                        (d[0][i] + d[1][i]) + (d[2][i] + d[3][i]);
            }
        }
        meet();
        dawdle(s, 2);
#pragma unroll 1
        for (int i = t; i < held * rows * BATCH; i += CONSUMERS) {
            const int h = (i >> shift) / BATCH, b = (i >> shift) % BATCH;
            const int row = ((first + h * (int)gridDim.x) << shift) + i % rows;
            const float *sums = part + (h * WARPS * BATCH + b) * ROWS + i % rows;
            float sum = sum_warps(sums), up = kind == OF_GATE_UP ? sum_warps(sums + rows) : 0.0f;
            sum += i == t ? early : base_of(s, kind, w, first_layer, row, b);
            put_row(s, kind, row, b, sum, up);
        }
        first += held * (int)gridDim.x;
        if (first < units) meet();
    }
    pass(s, units);
}

// --- attention -----------------------------------------------------------------------------------

// One head of qkv, normed and turned by one warp; a lane has pairs lane and lane + 32 (PAIRS of
// them), first elements in a, partners in b.
DEVICE void make_head(const step &s, const unsigned *raw, const element *norm, const float2 *turn,
                      float *a, float *b) {
    int lane = threadIdx.x % 32;
    float sum = 0.0f, weight[PAIRS][2];
    for (bool all = false; !all;) {
        unsigned old = 0;
#pragma unroll
        for (int i = 0; i < PAIRS; i++) {
            const unsigned one = ptx_load_relaxed(raw + lane + 32 * i);
            const unsigned two = ptx_load_relaxed(raw + lane + 32 * i + HEAD_DIM / 2);
            a[i] = value(one), b[i] = value(two);
            old |= (one ^ s.number) | (two ^ s.number);
        }
        all = !(old & 1);
        if (!all) spin_yield();
    }
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        const int d = lane + 32 * i;
        sum += a[i] * a[i] + b[i] * b[i];
        if (QK_NORM && norm)
            weight[i][0] = E::load(norm[d]), weight[i][1] = E::load(norm[d + HEAD_DIM / 2]);
    }
    __syncwarp();
    if (QK_NORM && norm) {
#pragma unroll
        for (int i = 16; i; i /= 2) sum += __shfl_xor_sync(~0u, sum, i);
        float scale = rsqrtf(sum / HEAD_DIM + s.m->eps);
#pragma unroll
        for (int i = 0; i < PAIRS; i++) a[i] *= scale * weight[i][0], b[i] *= scale * weight[i][1];
    }
    if (!turn) return;
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        float2 by = turn[lane + 32 * i];
        float x = a[i], y = b[i];
        a[i] = x * by.x - y * by.y, b[i] = y * by.x + x * by.y;
    }
}

// The query heads of a key head into q (GROUP, HEAD_DIM), scaled for exp2; of the last run also our
// own key and value, rounded as the cache has them, into k and v and the cache.
DEVICE void stage_heads(const step &s, const run_of &a, long long layer, float *q) {
    const element *w = s.m->layers + layer * LAYER_ELEMENTS;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const float score = 1.44269504f / sqrtf((float)HEAD_DIM);
    const bool own = a.split == a.splits - 1;
    const float2 *turn = s.turns ? s.m->turn + a.sequence * (HEAD_DIM / 2) : nullptr;
    float *k = q + GROUP * HEAD_DIM, *v = k + HEAD_DIM, x[PAIRS], y[PAIRS];
    long long at = cache_of(s, a, layer) + (long long)a.position * HEAD_DIM;
#pragma unroll 1
    for (int i = warp; i < GROUP + (own ? 2 : 0); i += WARPS) {
        int kind = i < GROUP ? 0 : i - GROUP + 1; // a query head, the key, the value
        long long raw =
            kind == 0 ? (a.head * GROUP + i) * HEAD_DIM : Q + (kind - 1) * KV + a.head * HEAD_DIM;
        make_head(s, s.m->qkv + (long long)a.sequence * QKV + raw,
                  kind == 0   ? w + AT_Q_NORM
                  : kind == 1 ? w + AT_K_NORM
                              : nullptr,
                  kind < 2 ? turn : nullptr, x, y);
#pragma unroll
        for (int p = 0; p < PAIRS; p++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int d = lane + 32 * p + half * (HEAD_DIM / 2);
                float f = half ? y[p] : x[p];
                element e = E::store(f);
                if (kind == 0) q[i * HEAD_DIM + d] = f * score;
                if (kind == 1) k[d] = E::load(e), s.m->cache_k[at + d] = e;
                if (kind == 2) v[d] = E::load(e), s.m->cache_v[at + d] = e;
            }
    }
    meet();
}

struct softmax { // of the positions that LANES lanes have seen: a lane has 8 of the dimensions
    float greatest[GROUP], weight[GROUP], sum[GROUP][8];
};

// One position more; where not `valid`, none. A position's lanes call it together; q: this lane's 8
// dimensions of the first query head, in shared memory.
DEVICE void see(softmax &m, const float *q, const float *k, const float *v, bool valid) {
#pragma unroll
    for (int g = 0; g < GROUP; g++) {
        const float4 one = *(const float4 *)(q + g * HEAD_DIM);
        const float4 two = *(const float4 *)(q + g * HEAD_DIM + 4);
        float score = one.x * k[0] + one.y * k[1] + one.z * k[2] + one.w * k[3];
        score += two.x * k[4] + two.y * k[5] + two.z * k[6] + two.w * k[7];
#pragma unroll
        for (int lane = LANES / 2; lane; lane /= 2) score += __shfl_xor_sync(~0u, score, lane);
        if (!valid) continue;
        float greatest = fmaxf(m.greatest[g], score);
        float fade = ptx_exp2(m.greatest[g] - greatest), p = ptx_exp2(score - greatest);
        m.greatest[g] = greatest, m.weight[g] = m.weight[g] * fade + p;
#pragma unroll
        for (int i = 0; i < 8; i++) m.sum[g][i] = m.sum[g][i] * fade + p * v[i];
    }
}

DEVICE void join(softmax &m, int lane) { // with the lane that has the same dimensions elsewhere
#pragma unroll
    for (int g = 0; g < GROUP; g++) {
        float other = __shfl_xor_sync(~0u, m.greatest[g], lane);
        float greatest = fmaxf(m.greatest[g], other);
        float mine = greatest == m.greatest[g] ? 1.0f : ptx_exp2(m.greatest[g] - greatest);
        m.greatest[g] = greatest;
        m.weight[g] *= mine, m.weight[g] += __shfl_xor_sync(~0u, m.weight[g], lane);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            m.sum[g][i] *= mine;
            m.sum[g][i] += __shfl_xor_sync(~0u, m.sum[g][i], lane);
        }
    }
}

DEVICE void see_tiles(const run_of &a, ring &r, const float *q, softmax &m) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll 1
    for (int tile = a.first; tile < a.last; tile++) {
        int rows = min(POSITIONS, a.old - tile * POSITIONS);
        ptx_barrier_wait(&r.full[r.stage], r.turn & 1);
#pragma unroll 1
        for (int base = warp * SLOTS; base < rows; base += WARPS * SLOTS) {
            int row = base + lane / LANES;
            bool valid = row < rows;
            float k[8] = {0}, v[8] = {0};
            if (valid) {
                const uint4 *at = (const uint4 *)tile_of(r) + row * LANES + lane % LANES;
                unpack<E>(at[0], k), unpack<E>(at[POSITIONS * LANES], v);
            }
            see(m, q, k, v, valid);
        }
        __syncwarp();
        if (lane == 0) ptx_barrier_arrive(&r.empty[r.stage]);
        next(r);
    }
}

// One element of a head's run: the sum of its weighted values, the run's greatest score and weight.
struct part_of {
    float sum, greatest, weight;
};
DEVICE part_of join_parts(part_of a, part_of b) {
    float most = fmaxf(a.greatest, b.greatest);
    float left = a.greatest == LEAST ? 0.0f : ptx_exp2(a.greatest - most);
    float right = b.greatest == LEAST ? 0.0f : ptx_exp2(b.greatest - most);
    return {a.sum * left + b.sum * right, most, a.weight * left + b.weight * right};
}
// What the warps of a block have of element d.
DEVICE part_of join_warps(const float *run, int d) {
    float most = LEAST, all = 0.0f, sum = 0.0f;
#pragma unroll
    for (int i = 0; i < WARPS; i++) most = fmaxf(most, run[i * GROUP * RUN + HEAD_DIM]);
#pragma unroll
    for (int i = 0; i < WARPS; i++) {
        const float *at = run + i * GROUP * RUN;
        float scale = at[HEAD_DIM] == LEAST ? 0.0f : ptx_exp2(at[HEAD_DIM] - most);
        all += scale * at[HEAD_DIM + 1], sum += scale * at[d];
    }
    return {sum, most, all};
}

// A run's words in memory, each with the layer's number beside it.
DEVICE void put_part(const step &s, uint2 *run, int d, part_of part) {
    ptx_store_relaxed(run + d, make_uint2(__float_as_uint(part.sum), s.number));
    if (d) return;
    ptx_store_relaxed(run + HEAD_DIM, make_uint2(__float_as_uint(part.greatest), s.number));
    ptx_store_relaxed(run + HEAD_DIM + 1, make_uint2(__float_as_uint(part.weight), s.number));
}
// The runs that other blocks have, 4 asked for at once, joined to `part` in their order.
DEVICE part_of take_parts(const step &s, const uint2 *runs, int count, int d, part_of part) {
#pragma unroll 1
    for (int from = 0; from < count; from += 4) {
        uint2 v[4][3];
        for (bool all = false; !all;) {
            all = true;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const uint2 *run = runs + (long long)min(from + i, count - 1) * GROUP * RUN;
                v[i][0] = ptx_load_relaxed(run + d), v[i][1] = ptx_load_relaxed(run + HEAD_DIM);
                v[i][2] = ptx_load_relaxed(run + HEAD_DIM + 1);
                all = all && v[i][0].y == s.number && v[i][1].y == s.number;
                all = all && v[i][2].y == s.number;
            }
            if (!all) spin_yield();
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (from + i < count)
                part = join_parts(part, {__uint_as_float(v[i][0].x), __uint_as_float(v[i][1].x),
                                         __uint_as_float(v[i][2].x)});
    }
    return part;
}

// What this block has seen of a head group; the block with the last run puts all runs together.
DEVICE void finish_run(const step &s, const run_of &a, const float *own_runs) {
    const long long head = (long long)a.sequence * KV_HEADS + a.head;
    uint2 *runs = s.m->runs + head * most_splits() * GROUP * RUN;
    unsigned *out = s.m->attention + head * GROUP * HEAD_DIM;
    dawdle(s, 3);
#pragma unroll 1
    for (int i = threadIdx.x; i < GROUP * HEAD_DIM; i += CONSUMERS) {
        const int g = i / HEAD_DIM, d = i % HEAD_DIM;
        part_of part = join_warps(own_runs + g * RUN, d);
        if (a.split < a.splits - 1) {
            put_part(s, runs + (a.split * GROUP + g) * RUN, d, part);
            continue;
        }
        part = take_parts(s, runs + g * RUN, a.splits - 1, d, part);
        ptx_store_relaxed(out + i, mark(part.sum / part.weight, s.number & 1));
    }
    if (threadIdx.x == 0 && a.split == a.splits - 1) ptx_add_relaxed(s.m->heads, 1);
}

DEVICE void attend(const step &s, ring &r, long long layer, float *work) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, units = attention_units(s);
    float *staged = work, *own_runs = work + (GROUP + 2) * HEAD_DIM;
    if ((int)blockIdx.x < units) wait_for(s.m->count, ((unsigned)layer * MATRICES + 1) * gridDim.x);
#pragma unroll 1
    for (int u = (int)blockIdx.x; u < units; u += (int)gridDim.x) {
        run_of a = attention_run(s, u);
        softmax m;
        stage_heads(s, a, layer, staged);
#pragma unroll
        for (int g = 0; g < GROUP; g++) {
            m.greatest[g] = LEAST, m.weight[g] = 0.0f;
#pragma unroll
            for (int i = 0; i < 8; i++) m.sum[g][i] = 0.0f;
        }
        const float *q = staged + lane % LANES * 8;
        see_tiles(a, r, q, m);
        if (warp == 0 && a.split == a.splits - 1) {
            const float *k = staged + GROUP * HEAD_DIM + lane % LANES * 8;
            see(m, q, k, k + HEAD_DIM, lane < LANES);
        }
        for (int other = LANES; other < 32; other *= 2) join(m, other);
        if (lane < LANES)
#pragma unroll
            for (int g = 0; g < GROUP; g++) {
                float *to = own_runs + (warp * GROUP + g) * RUN;
#pragma unroll
                for (int i = 0; i < 8; i++) to[lane * 8 + i] = m.sum[g][i];
                if (lane == 0) to[HEAD_DIM] = m.greatest[g], to[HEAD_DIM + 1] = m.weight[g];
            }
        meet();
        finish_run(s, a, own_runs);
        if (u + (int)gridDim.x < units) meet();
    }
}

// --- a step --------------------------------------------------------------------------------------

// One matrix of a layer, or the head: what it needs of the phase before, and the product.
DEVICE void do_matrix(step &s, ring &r, int n, int kind, char *work, float *sums) {
    const int layer = n / MATRICES;
    element *x = (element *)work;
    uint4 norm[EACH];
    if (kind == OF_QKV) enter_layer(s, layer);
    if (kind == OF_OUT) attend(s, r, layer, (float *)work);
    if (is_normed(kind)) take_norm(r, norm);
    wait_for(kind == OF_OUT ? s.m->heads : s.m->count,
             kind == OF_OUT ? (unsigned)(layer + 1) * BATCH * KV_HEADS : (unsigned)n * gridDim.x);
    if (is_normed(kind))
        stage_normed(s, n == 0, kind == OF_GATE_UP, norm, x, sums);
    else
        stage_plain(s, kind == OF_OUT ? s.m->attention : s.m->product, s.number & 1,
                    s.m->matrices[kind], x);
    multiply_matrix(s, r, kind, layer_of(s, layer), layer == 0, x, (float *)(work + X_BYTES));
    if (threadIdx.x == 0 && kind != OF_HEAD) ptx_add_relaxed(s.m->count, 1);
}

// The last block to end leaves the counters zero for the next launch and counts this one, so that
// the next one's layers have other numbers.
DEVICE void leave(const step &s) {
    meet();
    if (threadIdx.x || atomicAdd(s.m->done, 1u) != gridDim.x - 1) return;
    *s.m->count = 0, *s.m->heads = 0, *s.m->done = 0;
    *s.m->launches += 1;
}

DEVICE matrix matrix_of(int columns, int width, long long units, long long rows, long long norm) {
    return {columns, width, DECODE_STEP_STRIDE(columns), (int)units, rows, norm};
}
DEVICE void describe(model &m) {
    const int wide = DECODE_STEP_WIDTH(HIDDEN), down = DECODE_STEP_WIDTH(INTERMEDIATE);
    m.matrices[OF_QKV] = matrix_of(HIDDEN, wide, QKV / ROWS, AT_QKV, AT_INPUT_NORM);
    m.matrices[OF_OUT] = matrix_of(Q, DECODE_STEP_WIDTH(Q), HIDDEN / ROWS, AT_O, 0);
    m.matrices[OF_GATE_UP] =
        matrix_of(HIDDEN, wide, 2 * INTERMEDIATE / ROWS, AT_GATE_UP, AT_POST_NORM);
    m.matrices[OF_DOWN] = matrix_of(INTERMEDIATE, down, HIDDEN / ROWS, AT_DOWN, 0);
    m.matrices[OF_HEAD] = matrix_of(HIDDEN, wide, m.vocab / ROWS, 0, 0);
}

// Positions and angles, which all layers share; by the whole block, before its warps part.
DEVICE void find_angles(const int *positions, const float *inv_freq, model &m) {
    if (threadIdx.x < BATCH) m.position[threadIdx.x] = positions[threadIdx.x];
    for (int i = threadIdx.x; i < BATCH * (HEAD_DIM / 2); i += CONSUMERS + 32)
        m.turn[i] =
            rope_reduced((float)positions[i / (HEAD_DIM / 2)] * inv_freq[i % (HEAD_DIM / 2)]);
}

// Scratch, zero before the first launch, in words of 4 bytes: residual (BATCH, HIDDEN), qkv (BATCH,
// QKV), attention (BATCH, Q), product (BATCH, INTERMEDIATE); of two words each runs (BATCH,
// KV_HEADS, most_splits(), GROUP, RUN); then the counters.
ENTRY_BOUNDS(decode_step, WARPS * 32 + 32)
(float *logits, const int *token, const int *position, const int *facts, const element *embedding,
 const element *layers, const element *final_norm, const element *head, const float *inv_freq,
 element *cache_k, element *cache_v, unsigned *scratch, long long vocab, long long layer_count,
 long long capacity, float eps) {
    SHARED_DYNAMIC(uint4, shared);
    SHARED(uint64_t, barriers, [2 * STAGES]);
    SHARED(float, sums, [WARPS * NORMED]);
    SHARED(model, shared_model, [1]);
    model &m = shared_model[0];
    ring r = {(char *)shared, barriers, barriers + STAGES, 0, 0};
    if (threadIdx.x == 0) {
        m.embedding = embedding, m.layers = layers, m.final_norm = final_norm, m.head = head;
        m.facts = facts, m.token = token, m.cache_k = cache_k, m.cache_v = cache_v;
        m.vocab = vocab, m.layer_count = layer_count, m.capacity = capacity, m.eps = eps;
        m.logits = logits;
        describe(m);
        m.residual = scratch, m.qkv = m.residual + BATCH * HIDDEN;
        m.attention = m.qkv + BATCH * QKV, m.product = m.attention + BATCH * Q;
        m.runs = (uint2 *)(m.product + BATCH * INTERMEDIATE);
        m.count = (unsigned *)(m.runs + (long long)BATCH * KV_HEADS * most_splits() * GROUP * RUN);
        m.heads = m.count + 1, m.done = m.count + 2, m.launches = m.count + 3;
        for (int i = 0; i < STAGES; i++) {
            ptx_barrier_init(&r.full[i], 1);
            ptx_barrier_init(&r.empty[i], WARPS);
        }
        ptx_barrier_fence();
    }
    find_angles(position, inv_freq, m);
    __syncthreads();
    step s;
    s.m = &m, s.offset = 0, s.number = *m.launches * (unsigned)layer_count;
    if (threadIdx.x >= CONSUMERS) {
        copy_all(s, r);
        return;
    }
    char *work = (char *)shared + STAGES * TILE_BYTES;
    const int count = (int)layer_count * MATRICES + 1;
#pragma unroll 1
    for (int n = 0; n < count; n++)
        do_matrix(s, r, n, n < count - 1 ? n % MATRICES : (int)OF_HEAD, work, sums);
    leave(s);
}

#endif
