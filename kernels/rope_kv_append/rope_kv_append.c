/* rope_kv_append.c - the spec of rope_kv_append.cu: what can be tuned, what is legal and right. */
#include <math.h>

#include "kernels/rope/rope.h"
#include "kernels/shapes.h"
#include "runtime/random.h"

enum { ROWS, KV_HEADS, HEAD_DIM, ADJACENT, POSITIONS, SEQUENCES, CAPACITY };
enum { K, V, POSITION, SEQUENCE, INV_FREQ, TABLE, CACHE_K, CACHE_V };
enum { BLOCK, VECTOR_BYTES, HEADS, SPLIT, TRIG, BLOCKS_PER_SM, LOAD_HINT, STORE_HINT };

static const struct size sizes[] = {
    [ROWS] = {"rows", "tokens", false, 4096, 1, INT64_C(1) << 31},
    [KV_HEADS] = {"kv_heads", "key and value heads", true, 8, 1, 1024},
    [HEAD_DIM] = {"head_dim", "elements of a head", true, 128, 2, 1024},
    [ADJACENT] = {"adjacent", "0 pairs i with i + head_dim / 2, 1 pairs 2i with 2i + 1", true, 0, 0,
                  1},
    [POSITIONS] = {"positions", "rows of the table; positions are below it", false, 32768, 1,
                   1 << 17},
    [SEQUENCES] = {"sequences", "sequences in the cache", false, 1, 1, 1 << 20},
    [CAPACITY] = {"capacity", "positions of a sequence in the cache", false, 4160, 1, 1 << 24},
};

static const int heads[] = {1, 2, 4, 8};
static const struct tunable tunables[] = {
    [BLOCK] = {"block", "threads of a block", values_block, COUNT(values_block), 128},
    [VECTOR_BYTES] = {"vector_bytes", "bytes a load moves", values_vector_bytes,
                      COUNT(values_vector_bytes), 16},
    [HEADS] = {"heads", "heads of k and of v a thread moves", heads, COUNT(heads), 1},
    [SPLIT] = {"split", "0 k and v together, 1 all of k, then all of v", values_bool,
               COUNT(values_bool), 0},
    [TRIG] = {"trig", "0 table, 1 reduction and polynomial, 2 sinf and cosf", values_012,
              COUNT(values_012), 1},
    [BLOCKS_PER_SM] = {"blocks_per_sm", "0: a thread a piece of work; n: a persistent grid",
                       values_blocks_per_sm, COUNT(values_blocks_per_sm), 0},
    [LOAD_HINT] = {"load_hint", "0 plain, 1 streaming, 2 not kept in L1", values_012,
                   COUNT(values_012), 1},
    [STORE_HINT] = {"store_hint", "0 plain, 1 streaming", values_bool, COUNT(values_bool), 1},
};

static const struct argument arguments[] = {
    [K] = {"k", "(rows, kv_heads, head_dim), row-major", ROLE_IN, DTYPE_COUNT, FILL_NORMAL, false},
    [V] = {"v", "(rows, kv_heads, head_dim), row-major", ROLE_IN, DTYPE_COUNT, FILL_NORMAL, false},
    [POSITION] = {"position", "(rows)", ROLE_IN, DTYPE_I32, FILL_KERNEL, false},
    [SEQUENCE] = {"sequence", "(rows)", ROLE_IN, DTYPE_I32, FILL_KERNEL, false},
    [INV_FREQ] = {"inv_freq", "(head_dim / 2)", ROLE_IN, DTYPE_F32, FILL_KERNEL, true},
    [TABLE] = {"table", "(positions, head_dim / 2, 2): cosine, sine", ROLE_IN, DTYPE_F32,
               FILL_KERNEL, true},
    [CACHE_K] = {"cache_k", "(sequences, kv_heads, capacity, head_dim)", ROLE_INOUT, DTYPE_COUNT,
                 FILL_NORMAL, false},
    [CACHE_V] = {"cache_v", "(sequences, kv_heads, capacity, head_dim)", ROLE_INOUT, DTYPE_COUNT,
                 FILL_NORMAL, false},
};

#define LLAMA3                                                                                     \
    { 5e5, 32, 1, 4, 8192 }
#define OF(rows, kv, adjacent)                                                                     \
    { {rows, kv, 128, adjacent, 32768, 1, ((rows) + 127) / 64 * 64}, LLAMA3, DTYPE_F16 }
#define ROWS_OF(kv)                                                                                \
    OF(1, kv, 0), OF(2, kv, 0), OF(4, kv, 0), OF(8, kv, 0), OF(16, kv, 0), OF(64, kv, 0),          \
        OF(512, kv, 0), OF(4096, kv, 0), OF(16384, kv, 0)
static const struct problem problems[] = {ROWS_OF(8), ROWS_OF(4), OF(4096, 8, 1)};

static int64_t elements(const struct problem *p, int index) {
    const int64_t *n = p->size, head_elements = n[KV_HEADS] * n[HEAD_DIM];
    switch (index) {
    case K:
    case V:
        return n[ROWS] * head_elements;
    case POSITION:
    case SEQUENCE:
        return n[ROWS];
    case INV_FREQ:
        return n[HEAD_DIM] / 2;
    case TABLE:
        return n[POSITIONS] * (n[HEAD_DIM] / 2) * 2;
    default:
        return n[SEQUENCES] * n[CAPACITY] * head_elements;
    }
}

/* Positions that rows may take: in the cache and in the table. */
static int64_t places(const struct problem *p) {
    int64_t capacity = p->size[CAPACITY], positions = p->size[POSITIONS];
    return capacity < positions ? capacity : positions;
}

static struct rope_shape shape(const struct problem *p, const struct point *t) {
    const int *v = t->value;
    return (struct rope_shape){.head_dim = p->size[HEAD_DIM],
                               .adjacent = p->size[ADJACENT],
                               .all_heads = p->size[KV_HEADS],
                               .element_bytes = (int)dtype_bytes(p->dtype),
                               .words = p->size[ADJACENT] ? 2 : 4,
                               .block = v[BLOCK],
                               .vector_bytes = v[VECTOR_BYTES],
                               .heads = v[HEADS],
                               .trig = v[TRIG],
                               .blocks_per_sm = v[BLOCKS_PER_SM],
                               .load_hint = v[LOAD_HINT],
                               .store_hint = v[STORE_HINT]};
}

static bool legal(const struct problem *p, const struct point *t, const struct device_info *device,
                  const char **why) {
    struct rope_shape s = shape(p, t);
    if ((p->size[ROWS] + p->size[SEQUENCES] - 1) / p->size[SEQUENCES] > places(p))
        return refuse(why, "a sequence has more rows than positions (capacity, positions)");
    if (s.load_hint == 2 && (s.vector_bytes < 16 || s.blocks_per_sm))
        return refuse(why, "the read-only path is kept for whole vectors, one-shot");
    if (!rope_legal(&s, device, why)) return false;
    if (t->value[SPLIT] &&
        (s.blocks_per_sm || s.vector_bytes < 8 || s.load_hint != s.store_hint || !s.trig))
        return refuse(why, "k before v is kept one-shot, with wide vectors and computed angles");
    return true;
}

static struct plan plan(const struct problem *p, const struct point *t,
                        const struct device_info *device) {
    struct rope_shape s = shape(p, t);
    int64_t blocks = (p->size[ROWS] * rope_pieces(&s) + s.block - 1) / s.block;
    return (struct plan){.stages = 1,
                         .stage = {{.entry = "rope_kv_append",
                                    .grid = {grid_blocks(blocks, s.blocks_per_sm, device),
                                             t->value[SPLIT] ? 2 : 1, 1},
                                    .block = {(unsigned)s.block, 1, 1}}}};
}

static struct cost cost(const struct problem *p) {
    double n = 2 * (double)elements(p, K), bytes = (double)dtype_bytes(p->dtype);
    return (struct cost){.read_bytes = n * bytes + 8 * (double)p->size[ROWS],
                         .write_bytes = n * bytes,
                         .flops = 1.5 * n};
}

/* The places of the cache: (sequence, position). */
static int64_t outer(const struct problem *p) { return p->size[SEQUENCES] * p->size[CAPACITY]; }

static int64_t row_of(const struct problem *p, const void *const *before, int64_t sequence,
                      int64_t position) {
    const int32_t *positions = before[POSITION], *sequences = before[SEQUENCE];
    for (int64_t r = 0; r < p->size[ROWS]; r++)
        if (positions[r] == position && sequences[r] == sequence) return r;
    return -1;
}

static void reference(const struct problem *p, const void *const *before, double *const *want,
                      double *const *magnitude, int64_t first, int64_t last) {
    int64_t capacity = p->size[CAPACITY], kv_heads = p->size[KV_HEADS];
    struct rope_element e = {.dtype = p->dtype,
                             .array = before[K],
                             .head_dim = p->size[HEAD_DIM],
                             .adjacent = p->size[ADJACENT],
                             .inv_freq = before[INV_FREQ]};
    for (int64_t place = first; place < last; place++) {
        int64_t sequence = place / capacity, position = place % capacity;
        int64_t row = row_of(p, before, sequence, position);
        e.position = (int32_t)position;
        for (int64_t h = 0; h < kv_heads; h++) {
            int64_t to = ((sequence * kv_heads + h) * capacity + position) * e.head_dim;
            e.head = (row * kv_heads + h) * e.head_dim;
            for (e.d = 0; e.d < e.head_dim; e.d++) {
                want[CACHE_K][to + e.d] = want[CACHE_V][to + e.d] = NAN;
                magnitude[CACHE_K][to + e.d] = magnitude[CACHE_V][to + e.d] = 0;
                if (row < 0) continue;
                want[CACHE_K][to + e.d] = rope_reference(&e, &magnitude[CACHE_K][to + e.d]);
                want[CACHE_V][to + e.d] = dtype_load(p->dtype, before[V], e.head + e.d);
            }
        }
    }
}

static uint64_t divisor(uint64_t a, uint64_t b) { return b ? divisor(b, a % b) : a; }

/* Row r belongs to sequence (r + a) mod sequences, and is the r / sequences-th there, so that no
 * place comes twice whatever the two arguments' seeds. Positions of a sequence are consecutive from
 * a random start for an even seed, scattered by a random stride for an odd one. */
static void input(const struct problem *p, int index, uint64_t seed, void *host) {
    if (index == INV_FREQ) rope_inv_freq(p->real, p->size[HEAD_DIM], host);
    if (index == TABLE) rope_table(p->real, p->size[HEAD_DIM], p->size[POSITIONS], host);
    if (index != POSITION && index != SEQUENCE) return;
    uint64_t sequences = (uint64_t)p->size[SEQUENCES], n = (uint64_t)places(p), state = seed;
    uint64_t start = random_next(&state), stride = 1;
    if (seed % 2) do
            stride = 1 + random_next(&state) % n;
        while (divisor(stride, n) != 1);
    for (uint64_t r = 0; r < (uint64_t)p->size[ROWS]; r++)
        ((int32_t *)host)[r] =
            (int32_t)(index == SEQUENCE ? (start + r) % sequences
                                        : (start % n + r / sequences * stride) % n);
}

const struct kernel kernel_rope_kv_append = {
    .name = "rope_kv_append",
    .summary = "k turned by its positions, k and v written into a static cache",
    .source = "kernels/rope_kv_append/rope_kv_append.cu",
    .sizes = sizes,
    .size_count = COUNT(sizes),
    .reals = rope_reals,
    .real_count = ROPE_REALS,
    .tunables = tunables,
    .tunable_count = COUNT(tunables),
    .arguments = arguments,
    .argument_count = COUNT(arguments),
    .dtypes = DTYPES_FLOAT,
    .problems = problems,
    .problem_count = COUNT(problems),
    .bound = {8, "as rope: sine and cosine within 4 u32, two products and a sum 3; v is copied"},
    .elements = elements,
    .legal = legal,
    .plan = plan,
    .cost = cost,
    .reference = reference,
    .outer = outer,
    .input = input,
};
