// model.inl - what all of decode_step's parts know: sizes, how a layer's weights lie, what is to be
// multiplied, and which positions a block sees.
typedef element_of<DTYPE> E;
typedef E::type element;

// A layer's weights lie in one run, each on a multiple of 256 bytes: as
// decode_step_layout() has it.
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

enum {
    CONSUMERS = WARPS * 32, // threads; one more warp copies
    ROWS = 8,               // of a unit
    TILE_BYTES = ROWS * COLUMNS * 2,
    GROUP = HEADS / KV_HEADS,                // query heads of a key head
    LANES = HEAD_DIM / 8,                    // that share a position, 16 bytes each
    SLOTS = 32 / LANES,                      // positions that a warp has at once
    POSITIONS = TILE_BYTES / (4 * HEAD_DIM), // of a tile: their keys, then their values
    PAIRS = HEAD_DIM / 64,                   // of a head that a lane turns
    MATRICES = 4,                            // of a layer
    RUN = HEAD_DIM + 2, // floats of a head's run: its sums, their greatest score, their weight
    MOST_SPLITS = 32,   // of a key head: a lane has each when they are put together
};

// The tiles that a row of K columns comes in are equally wide, in steps of 64 columns. Rows follow
// one another without gaps, so where a row is one tile, 8 rows are one copy.
#define DECODE_STEP_TILES(k) (((k) + COLUMNS - 1) / COLUMNS)
#define DECODE_STEP_WIDTH(k)                                                                       \
    ((((k) + DECODE_STEP_TILES(k) - 1) / DECODE_STEP_TILES(k) + 63) / 64 * 64)
// Activations that are not normed are staged in pieces of whole tiles, so that those of many
// sequences leave the ring its room.
#define DECODE_STEP_LEAST(a, b) ((a) < (b) ? (a) : (b))
#define DECODE_STEP_PIECES(k)                                                                      \
    DECODE_STEP_LEAST(((k)*BATCH * 2 + X_MOST - 1) / X_MOST, DECODE_STEP_TILES(k))
#define DECODE_STEP_PIECE(k)                                                                       \
    DECODE_STEP_LEAST((DECODE_STEP_TILES(k) + DECODE_STEP_PIECES(k) - 1) / DECODE_STEP_PIECES(k) * \
                          DECODE_STEP_WIDTH(k),                                                    \
                      k)
// Elements from a sequence's activations to the next one's: whole chunks of 64 columns, which lie
// in the order in which lanes take them.
#define DECODE_STEP_STRIDE(k) (((k) + 63) / 64 * 64)
#define LEAST __int_as_float((int)0xff800000) // minus infinity

// What a block keeps beside the ring: activations; of each warp, sequence and row what it has of
// the sums, and the next norm's weights, of two groups of HELD units in turn; or attention's heads
// and runs.
enum {
    X_MOST = COLUMNS == 64 ? 2 << 10 : 80 << 10, // bytes; tiles of 64 columns are for tests
    HELD = BATCH == 1   ? 12
           : BATCH == 2 ? 8
           : BATCH <= 4 ? 6
           : BATCH <= 8 ? 4
                        : 2,
    PIECE_Q = DECODE_STEP_PIECE(Q),
    PIECE_DOWN = DECODE_STEP_PIECE(INTERMEDIATE),
    PIECE_PLAIN = PIECE_Q > PIECE_DOWN ? PIECE_Q : PIECE_DOWN,
    WIDEST = HIDDEN > PIECE_PLAIN ? HIDDEN : PIECE_PLAIN,
    X_BYTES = BATCH * (WIDEST + 56) * 2,
    PART = HELD * WARPS * BATCH * ROWS, // floats
    MATRIX_BYTES = X_BYTES + 2 * PART * 4 + 2 * HELD * ROWS * 2,
    ATTENTION_BYTES = (GROUP + 2) * HEAD_DIM * 4 + WARPS * GROUP * RUN * 4,
    WORK_BYTES = MATRIX_BYTES > ATTENTION_BYTES ? MATRIX_BYTES : ATTENTION_BYTES,
};

// What a block multiplies, in the order in which it does: one loop goes through them all, for code
// that is written out more often than need be has to be fetched like anything else.
enum { OF_QKV, OF_OUT, OF_GATE_UP, OF_DOWN, OF_HEAD, OF_NORMED };

struct ring {
    char *bytes;
    uint64_t *full, *empty; // a tile has come; all warps have read it
    unsigned stage, turn;
    unsigned last_stage, last_turn, on_the_way; // of who copies: the oldest tile that it waits for
};
DEVICE char *tile_of(const ring &r) { return r.bytes + r.stage * TILE_BYTES; }
DEVICE void next(ring &r) {
    if (++r.stage == STAGES) r.stage = 0, r.turn++;
}

struct matrix {
    int columns, width, tiles, pieces, units;
    long long rows; // elements from a layer's beginning, or, of the head, its own
};

// What all threads know, in shared memory: registers are for what is multiplied.
struct model {
    matrix matrices[OF_HEAD + 1];
    const element *embedding, *layers, *last, *final_norm, *head; // last: the last layer
    const int *facts; // (layers, 3): turns, window, delay
    const int *token; // (BATCH)
    element *cache_k, *cache_v;
    float *logits;
    unsigned *residual, *qkv;   // (BATCH, HIDDEN) and (BATCH, QKV) words: see words.inl
    uint2 *attention, *product; // (BATCH, Q / 4) and (BATCH, INTERMEDIATE / 4) quads
    uint2 *handed;              // (BATCH, HIDDEN / 4) quads: see stage_normed
    unsigned *squares;          // (BATCH, HIDDEN / 8) words
    uint2 *runs;                // floats, each with the layer's number
    unsigned *count, *heads, *done, *layers_done; // matrices of blocks; heads; blocks; see leave
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
    return most < 1 ? 1 : min(most, (int)MOST_SPLITS);
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
