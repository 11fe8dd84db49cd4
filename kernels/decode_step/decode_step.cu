// decode_step - a token of each of BATCH sequences through a whole model in one launch: from their
// embeddings to the logits.
//
// A block a multiprocessor, all resident. One warp of each block only copies: it walks through all
// weights that the block will need, layer after layer, and keeps a ring of STAGES tiles in shared
// memory full, without ever waiting for activations. WARPS other warps multiply. So the memory
// stays busy while phases wait for one another; what a phase boundary costs is hidden by what the
// ring holds. Phases of a layer, each done by all blocks, with a counter between one and the next:
//
//   qkv         a = rmsnorm(residual); q, k, v = a W^T (+ bias)
//   attention   q, k normed a head and turned; k, v into the caches; softmax(q k^T / sqrt(d)) v
//   out         residual += o W_o^T (+ bias)
//   gate, up    a = rmsnorm(residual); f = silu(a W_gate^T) (a W_up^T)
//   down        residual += f W_down^T
//
// then the head, logits = rmsnorm(residual) W_head^T. A unit of work is 8 rows of a matrix (4 of
// gate and the same 4 of up), which comes in tiles of 8 rows by COLUMNS. A warp multiplies its
// columns of a tile on tensor cores: 8 rows x 16 columns, with the activations of up to 16
// sequences, rounded to the element, as the other operand; sums are fp32. Units rotate over the
// blocks, so that none is last in every phase.
//
// Attention reads keys and values through the same ring: a block has a run of positions of one
// sequence's key head and all query heads that belong to it; the last block to finish a head merges
// its runs.
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
    CONSUMERS = WARPS * 32,    // threads; one more warp copies
    ROWS = 8,                  // of a unit
    STRIDE = COLUMNS * 2 + 64, // bytes from a tile's row to the next: two rows fall on all banks
    TILE_BYTES = ROWS * STRIDE,
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
    PHASES = 5, // of a layer
    WIDE = HIDDEN > Q ? HIDDEN : Q,
    WIDEST = WIDE > INTERMEDIATE ? WIDE : INTERMEDIATE, // elements of the longest activation
    X_BYTES = (BATCH * (WIDEST + (BATCH > 1 ? 56 : 0)) * 2 + 15) / 16 * 16,
    PART_BYTES = HELD * WARPS * BATCH * ROWS * 4,
    EACH = (HIDDEN + CONSUMERS - 1) / CONSUMERS, // elements of a row that a thread norms
    ROOM = WARPS <= 8 ? 48 : 24,
    FITTING = EACH < ROOM ? ROOM / EACH : 1,    // rows of them in registers
    NORMED = BATCH < FITTING ? BATCH : FITTING, // at once
    RUN = HEAD_DIM + 2, // floats of a head's run: its sums, their greatest score, their weight
    MATRIX_BYTES = X_BYTES + PART_BYTES,
    ATTENTION_BYTES = (GROUP + 2) * HEAD_DIM * 4 + WARPS * GROUP * RUN * 4,
    WORK_BYTES = MATRIX_BYTES > ATTENTION_BYTES ? MATRIX_BYTES : ATTENTION_BYTES,
};

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

struct step {
    const element *embedding, *layers, *final_norm, *head;
    const float *inv_freq;
    const int *facts;             // (layers, 3): turns, window, delay
    const int *token, *positions; // (BATCH)
    element *cache_k, *cache_v, *attention, *product;
    float *logits, *residual, *qkv, *runs;
    unsigned *count, *merged, *done;
    long long vocab, layer_count, capacity;
    float eps;
    int position;    // of the first sequence
    unsigned offset; // units of all phases so far, modulo the grid
};

DEVICE long long first_unit(const step &s) {
    return (blockIdx.x + gridDim.x - s.offset) % gridDim.x;
}
DEVICE void pass(step &s, long long units) {
    s.offset = (unsigned)((s.offset + units) % gridDim.x);
}

// Which positions of a key head a unit of attention has: tiles [first, last) of those before ours.
struct run_of {
    int sequence, position, head, split, splits, low, old, first, last;
};
// Blocks that share a key head at most.
DEVICE int most_splits() {
    const int most = (int)gridDim.x / (KV_HEADS * BATCH);
    return most > 1 ? most : 1;
}
DEVICE run_of attention_of(const step &s, int window, int sequence) {
    run_of r;
    r.sequence = sequence;
    r.position = BATCH == 1 ? s.position : s.positions[sequence];
    r.low = window && r.position >= window ? r.position - window + 1 : 0;
    r.old = r.position - r.low;
    r.splits = min((r.old + POSITIONS - 1) / POSITIONS, most_splits());
    if (r.splits < 1) r.splits = 1;
    return r;
}
DEVICE int attention_units(const step &s, int window) {
    int units = 0;
    for (int b = 0; b < BATCH; b++) units += KV_HEADS * attention_of(s, window, b).splits;
    return units;
}
DEVICE run_of attention_run(const step &s, int window, int unit) {
    run_of r = attention_of(s, window, 0);
    for (int b = 1; b < BATCH && unit >= KV_HEADS * r.splits; b++) {
        unit -= KV_HEADS * r.splits;
        r = attention_of(s, window, b);
    }
    int tiles = (r.old + POSITIONS - 1) / POSITIONS;
    r.head = unit / r.splits, r.split = unit % r.splits;
    r.first = (int)((long long)tiles * r.split / r.splits);
    r.last = (int)((long long)tiles * (r.split + 1) / r.splits);
    return r;
}
// A key head of a sequence, among all of a layer.
DEVICE long long head_of(const run_of &a, long long layer) {
    return (layer * BATCH + a.sequence) * KV_HEADS + a.head;
}

// --- copying -------------------------------------------------------------------------------------

// All lanes see the room before any fills it: one that looked two phases late would wait for ever.
DEVICE void wait_for_room(ring &r) {
    if (r.turn) ptx_barrier_wait(&r.empty[r.stage], (r.turn - 1) & 1);
    __syncwarp();
}

// Row i of unit u of a matrix: 8 in a row, or, of gate and up, 4 and 4.
template <int PAIRED> DEVICE long long row_of(long long unit, int i) {
    if (!PAIRED) return unit * ROWS + i;
    return unit * (ROWS / 2) + (i < ROWS / 2 ? i : INTERMEDIATE + i - ROWS / 2);
}

template <int K, int PAIRED>
DEVICE void copy_matrix(step &s, ring &r, const element *w, long long units) {
    int lane = threadIdx.x % 32;
    for (long long u = first_unit(s); u < units; u += gridDim.x)
        for (int c = 0; c < K; c += COLUMNS) {
            unsigned bytes = (unsigned)min(COLUMNS, K - c) * 2;
            wait_for_room(r);
            if (lane == 0) ptx_barrier_expect(&r.full[r.stage], ROWS * bytes);
            if (lane < ROWS)
                ptx_bulk_load<LOAD_HINT>(tile_of(r) + lane * STRIDE,
                                         w + row_of<PAIRED>(u, lane) * K + c, bytes,
                                         &r.full[r.stage]);
            next(r);
        }
    pass(s, units);
}

DEVICE void copy_cache(const step &s, ring &r, long long layer) {
    int lane = threadIdx.x % 32, window = s.facts[3 * layer + 1];
    int units = attention_units(s, window);
    for (int u = (int)blockIdx.x; u < units; u += (int)gridDim.x) {
        run_of a = attention_run(s, window, u);
        long long row = (head_of(a, layer) * s.capacity + a.low) * HEAD_DIM;
        for (int tile = a.first; tile < a.last; tile++) {
            unsigned bytes = (unsigned)min(POSITIONS, a.old - tile * POSITIONS) * HEAD_DIM * 2;
            long long at = row + (long long)tile * POSITIONS * HEAD_DIM;
            wait_for_room(r);
            if (lane == 0) {
                ptx_barrier_expect(&r.full[r.stage], 2 * bytes);
                ptx_bulk_load(tile_of(r), s.cache_k + at, bytes, &r.full[r.stage]);
                ptx_bulk_load(tile_of(r) + POSITIONS * HEAD_DIM * 2, s.cache_v + at, bytes,
                              &r.full[r.stage]);
            }
            next(r);
        }
    }
}

// A norm's weight is needed the moment its phase begins.
DEVICE void prefetch_norm(const element *norm) {
    for (int i = threadIdx.x % 32; i < HIDDEN / 64; i += 32) ptx_prefetch_l2(norm + 64 * i);
}

DEVICE void copy_all(step &s, ring &r) {
    for (long long i = 0; i < s.layer_count; i++) {
        const element *w = s.layers + i * LAYER_ELEMENTS;
        prefetch_norm(w + AT_INPUT_NORM), prefetch_norm(w + AT_POST_NORM);
        copy_matrix<HIDDEN, 0>(s, r, w + AT_QKV, QKV / ROWS);
        copy_cache(s, r, i);
        copy_matrix<Q, 0>(s, r, w + AT_O, HIDDEN / ROWS);
        copy_matrix<HIDDEN, 1>(s, r, w + AT_GATE_UP, 2 * INTERMEDIATE / ROWS);
        copy_matrix<INTERMEDIATE, 0>(s, r, w + AT_DOWN, HIDDEN / ROWS);
    }
    prefetch_norm(s.final_norm);
    copy_matrix<HIDDEN, 0>(s, r, s.head, s.vocab / ROWS);
}

// --- multiplying ---------------------------------------------------------------------------------

DEVICE void meet() { ptx_named_barrier(1, CONSUMERS); }

// Waits until all blocks have done a phase; what they wrote is then to be read past L1.
DEVICE void wait_for(const unsigned *count) {
    if (threadIdx.x == 0)
        while (ptx_load_acquire(count) < gridDim.x) spin_yield();
    meet();
}
// Ends a phase of a layer; where a test asks for delays, each warp comes at a time of its own.
DEVICE void signal(const step &s, long long layer, int phase) {
    const unsigned most = (unsigned)s.facts[3 * layer + 2] / 16;
    if (most) {
        unsigned h = (blockIdx.x * 31 + threadIdx.x / 32) * 2654435761u;
        h = (h ^ (unsigned)(s.position * 401 + layer * PHASES + phase)) * 2246822519u;
        for (unsigned left = (h ^ h >> 15) % most; left; left--) __nanosleep(16);
    }
    meet();
    if (threadIdx.x == 0) ptx_add_release(s.count + layer * PHASES + phase, 1);
}

// x: (BATCH, HIDDEN) elements in shared memory = rmsnorm(residual) * norm, of each sequence.
DEVICE void stage_normed(const step &s, bool first_layer, const element *norm, element *x,
                         float *sums) {
    const int STRIDE_ = DECODE_STEP_STRIDE(HIDDEN);
#pragma unroll 1
    for (int from = 0; from < BATCH; from += NORMED) {
        float v[NORMED][EACH], sum[NORMED];
#pragma unroll
        for (int n = 0; n < NORMED; n++) {
            const int b = from + n < BATCH ? from + n : BATCH - 1;
            const element *row = s.embedding;
            if (first_layer) row += (long long)s.token[b] * HIDDEN;
            sum[n] = 0.0f;
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                int c = threadIdx.x + i * CONSUMERS;
                v[n][i] = 0.0f;
                if (c < HIDDEN)
                    v[n][i] = first_layer ? E::load(row[c]) : __ldcg(s.residual + b * HIDDEN + c);
                sum[n] += v[n][i] * v[n][i];
            }
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
            float scale = rsqrtf(all / HIDDEN + s.eps);
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                int c = threadIdx.x + i * CONSUMERS;
                if (c < HIDDEN && from + n < BATCH)
                    x[(from + n) * STRIDE_ + c] = E::store(v[n][i] * scale * E::load(norm[c]));
            }
        }
        meet();
    }
}

template <int N> DEVICE void stage_plain(const element *from, element *x) {
    const uint4 *words = (const uint4 *)from;
    for (int i = threadIdx.x; i < BATCH * (N / 8); i += CONSUMERS)
        ((uint4 *)x)[i / (N / 8) * (DECODE_STEP_STRIDE(N) / 8) + i % (N / 8)] = __ldcg(words + i);
    meet();
}

// x: columns of a sequence, y: of the one eight further on.
DEVICE void multiply_words(float *d, uint32_t x0, uint32_t x1, uint32_t y0, uint32_t y1,
                           uint32_t w0, uint32_t w1) {
    uint32_t a[4] = {x0, y0, x1, y1}, b[2] = {w0, w1};
    ptx_mma<DTYPE>(d, a, b);
}

// This warp's columns of a tile. The k of a product is whatever both operands take in the same
// order: a lane's 16 bytes are k 2t, 2t + 1, 2t + 8, 2t + 9 of two products.
template <int STRIDE_>
DEVICE void multiply_tile(const char *tile, const element *x, int columns, float (*d)[4]) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
#pragma unroll 4
    for (int j = warp; j < (COLUMNS + 31) / 32; j += WARPS) {
        int c = 32 * j + 8 * t;
        if (32 * j >= columns) break;
        uint4 w = {0, 0, 0, 0}, v = {0, 0, 0, 0}, u = {0, 0, 0, 0};
        if (c < columns) {
            w = *(const uint4 *)(tile + g * STRIDE + 2 * c);
            if (g < BATCH) v = *(const uint4 *)(x + g * STRIDE_ + c);
            if (BATCH > 8 && g + 8 < BATCH) u = *(const uint4 *)(x + (g + 8) * STRIDE_ + c);
        }
        multiply_words(d[0], v.x, v.y, u.x, u.y, w.x, w.y);
        multiply_words(d[1], v.z, v.w, u.z, u.w, w.z, w.w);
    }
}

// All units of this block; finish(unit, row of the unit, sequence, sum), or, of gate and up,
// finish(unit, row, sequence, gate, up).
template <int K, int PAIRED, class F> DEVICE void
multiply_matrix(step &s, ring &r, const element *x, float *part, long long units, F finish) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int OUT = PAIRED ? ROWS / 2 : ROWS;
    int held = 0;
    long long first = first_unit(s);
    for (long long u = first; u < units; u += gridDim.x) {
        float d[2][4] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
        for (int c = 0; c < K; c += COLUMNS) {
            ptx_barrier_wait(&r.full[r.stage], r.turn & 1);
            multiply_tile<DECODE_STEP_STRIDE(K)>(tile_of(r), x + c, min(COLUMNS, K - c), d);
            __syncwarp();
            if (lane == 0) ptx_barrier_arrive(&r.empty[r.stage]);
            next(r);
        }
#pragma unroll
        for (int i = 0; i < (BATCH > 8 ? 4 : 2); i++) {
            const int b = lane / 4 + i / 2 * 8;
            if (b < BATCH)
                part[((held * WARPS + warp) * BATCH + b) * ROWS + lane % 4 * 2 + i % 2] =
                    d[0][i] + d[1][i];
        }
        if (++held < HELD && u + gridDim.x < units) continue;
        meet();
        for (int i = threadIdx.x; i < held * OUT * BATCH; i += CONSUMERS) {
            const int h = i / (OUT * BATCH), b = i / OUT % BATCH;
            float sum[2] = {0.0f, 0.0f};
            for (int n = 0; n <= PAIRED; n++)
#pragma unroll
                for (int w = 0; w < WARPS; w++)
                    sum[n] += part[((h * WARPS + w) * BATCH + b) * ROWS + i % OUT + n * OUT];
            finish(first + (long long)h * gridDim.x, i % OUT, b, sum[0], sum[1]);
        }
        meet();
        first = u + gridDim.x, held = 0;
    }
    pass(s, units);
}

// --- attention -----------------------------------------------------------------------------------

// One head, raw fp32, normed and turned by one warp; a lane has pairs lane and lane + 32 (PAIRS of
// them), first elements in a, partners in b.
DEVICE void make_head(const step &s, const float *raw, const element *norm, int position,
                      bool turns, float *a, float *b) {
    int lane = threadIdx.x % 32;
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        a[i] = __ldcg(raw + lane + 32 * i), b[i] = __ldcg(raw + lane + 32 * i + HEAD_DIM / 2);
        sum += a[i] * a[i] + b[i] * b[i];
    }
    if (QK_NORM && norm) {
#pragma unroll
        for (int i = 16; i; i /= 2) sum += __shfl_xor_sync(~0u, sum, i);
        float scale = rsqrtf(sum / HEAD_DIM + s.eps);
#pragma unroll
        for (int i = 0; i < PAIRS; i++) {
            a[i] *= scale * E::load(norm[lane + 32 * i]);
            b[i] *= scale * E::load(norm[lane + 32 * i + HEAD_DIM / 2]);
        }
    }
    if (!turns) return;
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        float2 turn = rope_reduced((float)position * s.inv_freq[lane + 32 * i]);
        float x = a[i], y = b[i];
        a[i] = x * turn.x - y * turn.y, b[i] = y * turn.x + x * turn.y;
    }
}

// The query heads of a key head into q (GROUP, HEAD_DIM), scaled for exp2; of the last run also our
// own key and value, rounded as the cache has them, into k and v and the cache.
DEVICE void stage_heads(const step &s, const run_of &a, long long layer, float *q) {
    const element *w = s.layers + layer * LAYER_ELEMENTS;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, turns = s.facts[3 * layer];
    const float score = 1.44269504f / sqrtf((float)HEAD_DIM);
    const bool own = a.split == a.splits - 1;
    float *k = q + GROUP * HEAD_DIM, *v = k + HEAD_DIM, x[PAIRS], y[PAIRS];
    long long at = (head_of(a, layer) * s.capacity + a.position) * HEAD_DIM;
    for (int i = warp; i < GROUP + (own ? 2 : 0); i += WARPS) {
        int kind = i < GROUP ? 0 : i - GROUP + 1; // a query head, the key, the value
        long long raw =
            kind == 0 ? (a.head * GROUP + i) * HEAD_DIM : Q + (kind - 1) * KV + a.head * HEAD_DIM;
        make_head(s, s.qkv + (long long)a.sequence * QKV + raw,
                  kind == 0   ? w + AT_Q_NORM
                  : kind == 1 ? w + AT_K_NORM
                              : nullptr,
                  a.position, turns && kind < 2, x, y);
#pragma unroll
        for (int p = 0; p < PAIRS; p++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int d = lane + 32 * p + half * (HEAD_DIM / 2);
                float f = half ? y[p] : x[p];
                element e = E::store(f);
                if (kind == 0) q[i * HEAD_DIM + d] = f * score;
                if (kind == 1) k[d] = E::load(e), s.cache_k[at + d] = e;
                if (kind == 2) v[d] = E::load(e), s.cache_v[at + d] = e;
            }
    }
    meet();
}

struct softmax { // of the positions that LANES lanes have seen: a lane has 8 of the dimensions
    float greatest[GROUP], weight[GROUP], sum[GROUP][8];
};

// One position more; where not `valid`, none. A position's lanes call it together.
DEVICE void see(softmax &m, const float (*q)[8], const float *k, const float *v, bool valid) {
#pragma unroll
    for (int g = 0; g < GROUP; g++) {
        float score = 0.0f;
#pragma unroll
        for (int i = 0; i < 8; i++) score += q[g][i] * k[i];
#pragma unroll
        for (int lane = LANES / 2; lane; lane /= 2) score += __shfl_xor_sync(~0u, score, lane);
        if (!valid) continue;
        float greatest = fmaxf(m.greatest[g], score);
        float fade = exp2f(m.greatest[g] - greatest), p = exp2f(score - greatest);
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
        float mine = greatest == m.greatest[g] ? 1.0f : exp2f(m.greatest[g] - greatest);
        m.greatest[g] = greatest;
        m.weight[g] *= mine, m.weight[g] += __shfl_xor_sync(~0u, m.weight[g], lane);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            m.sum[g][i] *= mine;
            m.sum[g][i] += __shfl_xor_sync(~0u, m.sum[g][i], lane);
        }
    }
}

DEVICE void see_tiles(const run_of &a, ring &r, const float (*q)[8], softmax &m) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int tile = a.first; tile < a.last; tile++) {
        int rows = min(POSITIONS, a.old - tile * POSITIONS);
        ptx_barrier_wait(&r.full[r.stage], r.turn & 1);
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

// A hint makes a load one from global memory: only what other blocks wrote is read with one.
template <bool THEIRS> DEVICE float load_run(const float *p) { return THEIRS ? __ldcg(p) : *p; }

// Runs of a head, each (sums, greatest, weight) `stride` floats from the next, as one: element d.
template <bool THEIRS>
DEVICE float merge_runs(const float *run, int runs, long long stride, int d, float *greatest,
                        float *weight) {
    float most = LEAST, all = 0.0f, sum = 0.0f;
    for (int i = 0; i < runs; i++)
        most = fmaxf(most, load_run<THEIRS>(run + i * stride + HEAD_DIM));
    for (int i = 0; i < runs; i++) {
        const float *at = run + i * stride;
        float part = load_run<THEIRS>(at + HEAD_DIM);
        float scale = part == LEAST ? 0.0f : exp2f(part - most);
        all += scale * load_run<THEIRS>(at + HEAD_DIM + 1), sum += scale * load_run<THEIRS>(at + d);
    }
    *greatest = most, *weight = all;
    return sum;
}

// What this block has seen of a head group: alone the result, else a run, which the last block to
// come merges with the others'.
DEVICE void finish_run(const step &s, const run_of &a, long long layer, const float *own_runs,
                       unsigned *last_flag) {
    const long long heads = (long long)a.sequence * KV_HEADS + a.head;
    float *runs = s.runs + heads * most_splits() * GROUP * RUN, most, all;
    element *out = s.attention + heads * GROUP * HEAD_DIM;
    for (int i = threadIdx.x; i < GROUP * HEAD_DIM; i += CONSUMERS) {
        int g = i / HEAD_DIM, d = i % HEAD_DIM;
        float sum = merge_runs<false>(own_runs + g * RUN, WARPS, GROUP * RUN, d, &most, &all);
        if (a.splits == 1) {
            out[i] = E::store(sum / all);
            continue;
        }
        float *to = runs + (a.split * GROUP + g) * RUN;
        to[d] = sum;
        if (d == 0) to[HEAD_DIM] = most, to[HEAD_DIM + 1] = all;
    }
    if (a.splits == 1) return;
    meet();
    if (threadIdx.x == 0) {
        __threadfence();
        *last_flag = atomicAdd(s.merged + head_of(a, layer), 1u) == (unsigned)a.splits - 1;
        __threadfence();
    }
    meet();
    if (!*last_flag) return;
    for (int i = threadIdx.x; i < GROUP * HEAD_DIM; i += CONSUMERS) {
        int g = i / HEAD_DIM, d = i % HEAD_DIM;
        float sum = merge_runs<true>(runs + g * RUN, a.splits, GROUP * RUN, d, &most, &all);
        out[i] = E::store(sum / all);
    }
}

DEVICE void attend(const step &s, ring &r, long long layer, float *work, unsigned *last_flag) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, window = s.facts[3 * layer + 1];
    const int units = attention_units(s, window);
    float *staged = work, *own_runs = work + (GROUP + 2) * HEAD_DIM;
    for (int u = (int)blockIdx.x; u < units; u += (int)gridDim.x) {
        run_of a = attention_run(s, window, u);
        softmax m;
        float q[GROUP][8];
        stage_heads(s, a, layer, staged);
#pragma unroll
        for (int g = 0; g < GROUP; g++) {
            m.greatest[g] = LEAST, m.weight[g] = 0.0f;
#pragma unroll
            for (int i = 0; i < 8; i++)
                q[g][i] = staged[g * HEAD_DIM + lane % LANES * 8 + i], m.sum[g][i] = 0.0f;
        }
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
        finish_run(s, a, layer, own_runs, last_flag);
        meet();
    }
}

// --- a step --------------------------------------------------------------------------------------

DEVICE void do_layer(step &s, ring &r, long long layer, char *work, float *sums,
                     unsigned *last_flag) {
    const element *w = s.layers + layer * LAYER_ELEMENTS;
    element *x = (element *)work;
    float *part = (float *)(work + X_BYTES), *residual = s.residual;
    unsigned *count = s.count + layer * PHASES;
    if (layer) wait_for(count - 1);
    stage_normed(s, layer == 0, w + AT_INPUT_NORM, x, sums);
    multiply_matrix<HIDDEN, 0>(s, r, x, part, QKV / ROWS,
                               [&](long long unit, int row, int b, float sum, float) {
                                   long long i = unit * ROWS + row;
                                   if (QKV_BIAS) sum += E::load(w[AT_QKV_BIAS + i]);
                                   __stcg(s.qkv + (long long)b * QKV + i, sum);
                               });
    signal(s, layer, 0);
    wait_for(count);
    attend(s, r, layer, (float *)work, last_flag);
    signal(s, layer, 1);
    wait_for(count + 1);
    stage_plain<Q>(s.attention, x);
    multiply_matrix<Q, 0>(
        s, r, x, part, HIDDEN / ROWS, [&](long long unit, int row, int b, float sum, float) {
            long long i = unit * ROWS + row, at = (long long)b * HIDDEN + i;
            float base = layer ? __ldcg(residual + at)
                               : E::load(s.embedding[(long long)s.token[b] * HIDDEN + i]);
            if (O_BIAS) sum += E::load(w[AT_O_BIAS + i]);
            __stcg(residual + at, base + sum);
        });
    signal(s, layer, 2);
    wait_for(count + 2);
    stage_normed(s, false, w + AT_POST_NORM, x, sums);
    multiply_matrix<HIDDEN, 1>(
        s, r, x, part, 2 * INTERMEDIATE / ROWS,
        [&](long long unit, int row, int b, float gate, float up) {
            float silu = gate / (1.0f + __expf(-gate));
            s.product[(long long)b * INTERMEDIATE + unit * (ROWS / 2) + row] = E::store(silu * up);
        });
    signal(s, layer, 3);
    wait_for(count + 3);
    stage_plain<INTERMEDIATE>(s.product, x);
    multiply_matrix<INTERMEDIATE, 0>(s, r, x, part, HIDDEN / ROWS,
                                     [&](long long unit, int row, int b, float sum, float) {
                                         long long i = (long long)b * HIDDEN + unit * ROWS + row;
                                         __stcg(residual + i, __ldcg(residual + i) + sum);
                                     });
    signal(s, layer, 4);
}

// The last block to end leaves all counters zero for the next launch.
DEVICE void leave(const step &s, unsigned *last_flag) {
    meet();
    if (threadIdx.x == 0) {
        __threadfence();
        *last_flag = atomicAdd(s.done, 1u) == gridDim.x - 1;
    }
    meet();
    if (!*last_flag) return;
    for (long long i = threadIdx.x; i < s.layer_count * PHASES; i += CONSUMERS) s.count[i] = 0;
    for (long long i = threadIdx.x; i < s.layer_count * BATCH * KV_HEADS; i += CONSUMERS)
        s.merged[i] = 0;
    if (threadIdx.x == 0) *s.done = 0;
}

// Scratch: residual (BATCH, HIDDEN), qkv (BATCH, QKV), runs (BATCH, KV_HEADS, most_splits(), GROUP,
// RUN, filled up to a multiple of 4) fp32; attention (BATCH, Q), product (BATCH, INTERMEDIATE)
// elements, in words of 4 bytes; then the counters.
ENTRY_BOUNDS(decode_step, WARPS * 32 + 32)
(float *logits, const int *token, const int *position, const int *facts, const element *embedding,
 const element *layers, const element *final_norm, const element *head, const float *inv_freq,
 element *cache_k, element *cache_v, float *scratch, long long vocab, long long layer_count,
 long long capacity, float eps) {
    SHARED_DYNAMIC(uint4, shared);
    SHARED(uint64_t, barriers, [2 * STAGES]);
    SHARED(float, sums, [WARPS * NORMED]);
    SHARED(unsigned, last_flag, [1]);
    step s;
    s.embedding = embedding, s.token = token, s.positions = position, s.layers = layers;
    s.final_norm = final_norm, s.head = head, s.inv_freq = inv_freq, s.facts = facts;
    s.cache_k = cache_k, s.cache_v = cache_v, s.logits = logits;
    s.residual = scratch, s.qkv = s.residual + BATCH * HIDDEN;
    s.runs = s.qkv + BATCH * QKV;
    long long runs = (long long)BATCH * KV_HEADS * most_splits() * GROUP * RUN;
    s.attention = (element *)(s.runs + (runs + 3) / 4 * 4);
    s.product = s.attention + BATCH * Q;
    s.count = (unsigned *)(s.product + BATCH * INTERMEDIATE);
    s.merged = s.count + layer_count * PHASES, s.done = s.merged + layer_count * BATCH * KV_HEADS;
    s.vocab = vocab, s.layer_count = layer_count, s.capacity = capacity, s.eps = eps;
    s.position = *position, s.offset = 0;
    ring r = {(char *)shared, barriers, barriers + STAGES, 0, 0};
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            ptx_barrier_init(&r.full[i], 1);
            ptx_barrier_init(&r.empty[i], WARPS);
        }
        ptx_barrier_fence();
    }
    __syncthreads();
    if (threadIdx.x >= CONSUMERS) {
        copy_all(s, r);
        return;
    }
    char *work = (char *)shared + STAGES * TILE_BYTES;
    for (long long i = 0; i < layer_count; i++) do_layer(s, r, i, work, sums, last_flag);
    wait_for(s.count + layer_count * PHASES - 1);
    stage_normed(s, false, final_norm, (element *)work, sums);
    multiply_matrix<HIDDEN, 0>(s, r, (element *)work, (float *)(work + X_BYTES), vocab / ROWS,
                               [&](long long unit, int row, int b, float sum, float) {
                                   logits[b * vocab + unit * ROWS + row] = sum;
                               });
    leave(s, last_flag);
}

#endif
