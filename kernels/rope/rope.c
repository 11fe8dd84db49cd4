/* rope.c - the spec of rope.cu, and what rope_kv_append takes from it. */
#include "kernels/rope/rope.h"

#include <math.h>
#include <stdlib.h>

#include "kernels/shapes.h"
#include "runtime/parallel.h"
#include "runtime/random.h"

enum { ROWS, Q_HEADS, KV_HEADS, HEAD_DIM, ADJACENT, POSITIONS };
enum { Q, K, POSITION, INV_FREQ, TABLE };
enum { BLOCK, VECTOR_BYTES, HEADS, TRIG, BLOCKS_PER_SM, LOAD_HINT, STORE_HINT };

/* --- shared ------------------------------------------------------------------------------------
 */

const struct real rope_reals[ROPE_REALS] = {
    [ROPE_THETA] = {"theta", "base of the frequencies", 5e5},
    [ROPE_FACTOR] = {"factor", "llama3 scaling of long wavelengths; 1: none", 32},
    [ROPE_LOW] = {"low", "original / low is the wavelength from which all is scaled", 1},
    [ROPE_HIGH] = {"high", "original / high is the wavelength below which nothing is", 4},
    [ROPE_ORIGINAL] = {"original", "positions the model was first trained for", 8192},
};

void rope_inv_freq(const double *real, int64_t head_dim, float *inv_freq) {
    const double pi = 3.14159265358979323846;
    double factor = real[ROPE_FACTOR], low = real[ROPE_LOW], high = real[ROPE_HIGH];
    for (int64_t i = 0; i < head_dim / 2; i++) {
        double frequency = pow(real[ROPE_THETA], -2.0 * (double)i / (double)head_dim);
        double turns = real[ROPE_ORIGINAL] * frequency / (2 * pi); /* original / wavelength */
        if (factor != 1 && turns < low)
            frequency /= factor;
        else if (factor != 1 && turns <= high) {
            double kept = (turns - low) / (high - low);
            frequency *= (1 - kept) / factor + kept;
        }
        inv_freq[i] = (float)frequency;
    }
}

struct table {
    const float *inv_freq;
    float *row; /* (positions, half, 2) */
    int64_t half;
};

static void table_rows(void *context, int64_t first, int64_t last) {
    const struct table *t = context;
    float *to = t->row + first * t->half * 2;
    for (int64_t p = first; p < last; p++)
        for (int64_t i = 0; i < t->half; i++) {
            float angle = (float)p * t->inv_freq[i];
            *to++ = (float)cos((double)angle);
            *to++ = (float)sin((double)angle);
        }
}

void rope_table(const double *real, int64_t head_dim, int64_t positions, float *table) {
    enum { ROWS_WORTH_A_THREAD = 256 };
    int64_t half = head_dim / 2;
    float *inv_freq = malloc((size_t)half * sizeof *inv_freq);
    if (!inv_freq) return;
    rope_inv_freq(real, head_dim, inv_freq);
    struct table t = {inv_freq, table, half};
    parallel_for(positions, ROWS_WORTH_A_THREAD, table_rows, &t);
    free(inv_freq);
}

double rope_reference(const struct rope_element *e, double *magnitude) {
    int64_t half = e->head_dim / 2, pair = e->adjacent ? e->d / 2 : e->d % half;
    bool second = e->adjacent ? e->d % 2 : e->d >= half;
    int64_t apart = e->adjacent ? 1 : half, partner = second ? e->d - apart : e->d + apart;
    float angle = (float)e->position * e->inv_freq[pair];
    double one = dtype_load(e->dtype, e->array, e->head + e->d) * cos((double)angle);
    double two = dtype_load(e->dtype, e->array, e->head + partner) * sin((double)angle);
    *magnitude = fabs(one) + fabs(two);
    return second ? one + two : one - two;
}

/* Pairs of a head that a thread turns. */
static int64_t pairs(const struct rope_shape *s) {
    return s->vector_bytes / s->element_bytes / (s->adjacent ? 2 : 1);
}

int64_t rope_pieces(const struct rope_shape *s) {
    return (s->all_heads + s->heads - 1) / s->heads * (s->head_dim / 2 / pairs(s));
}

bool rope_legal(const struct rope_shape *s, const struct device_info *device, const char **why) {
    if (s->head_dim % 2) return refuse(why, "head_dim is odd");
    if (s->vector_bytes < s->element_bytes)
        return refuse(why, "a vector is shorter than an element");
    if (!pairs(s)) return refuse(why, "a vector is shorter than an adjacent pair");
    if (s->head_dim / 2 % pairs(s))
        return refuse(why, "half of head_dim is no multiple of a thread's pairs");
    if (s->heads > 1 && s->heads / 2 >= s->all_heads)
        return refuse(why, "half of a thread's heads would not be there");
    int64_t bytes = (int64_t)s->heads * s->words * s->vector_bytes; /* a thread's, in registers */
    if (bytes > 256 || bytes * s->block > 128 << 10)
        return refuse(why, "over 256 bytes in flight a thread or 128 KiB a block: no registers");
    if (s->vector_bytes < 8 && (s->blocks_per_sm || s->load_hint || s->store_hint || s->trig == 2))
        return refuse(why, "narrow vectors are kept in their plain form only");
    if (s->trig == 2 && (s->blocks_per_sm || s->load_hint != s->store_hint))
        return refuse(why, "sinf and cosf are kept in their plain forms only");
    if (s->block & (s->block - 1) && (s->blocks_per_sm || s->load_hint != s->store_hint))
        return refuse(why, "blocks of no power of two are kept in their plain forms only");
    if (s->blocks_per_sm && s->block * s->blocks_per_sm < 256)
        return refuse(why, "too few threads a multiprocessor to keep the memory busy");
    if (s->vector_bytes == 8 && s->load_hint != s->store_hint)
        return refuse(why, "8-byte vectors stream both ways or neither");
    if (!grid_fits(s->block, s->blocks_per_sm, device))
        return refuse(why, "more threads than a multiprocessor holds");
    return true;
}

/* --- rope --------------------------------------------------------------------------------------
 */

static const struct size sizes[] = {
    [ROWS] = {"rows", "tokens", false, 4096, 1, INT64_C(1) << 31},
    [Q_HEADS] = {"q_heads", "query heads", true, 24, 1, 1024},
    [KV_HEADS] = {"kv_heads", "key heads", true, 8, 1, 1024},
    [HEAD_DIM] = {"head_dim", "elements of a head", true, 128, 2, 1024},
    [ADJACENT] = {"adjacent", "0 pairs i with i + head_dim / 2, 1 pairs 2i with 2i + 1", true, 0, 0,
                  1},
    [POSITIONS] = {"positions", "rows of the table; positions are below it", false, 32768, 1,
                   1 << 17},
};

static const int heads[] = {1, 2, 4, 8, 16};
static const struct tunable tunables[] = {
    [BLOCK] = {"block", "threads of a block", values_block, COUNT(values_block), 192},
    [VECTOR_BYTES] = {"vector_bytes", "bytes a load moves", values_vector_bytes,
                      COUNT(values_vector_bytes), 16},
    [HEADS] = {"heads", "heads a thread turns by the same angles", heads, COUNT(heads), 1},
    [TRIG] = {"trig", "0 table, 1 reduction and polynomial, 2 sinf and cosf", values_012,
              COUNT(values_012), 1},
    [BLOCKS_PER_SM] = {"blocks_per_sm", "0: a thread a piece of work; n: a persistent grid",
                       values_blocks_per_sm, COUNT(values_blocks_per_sm), 0},
    [LOAD_HINT] = {"load_hint", "0 plain, 1 streaming", values_bool, COUNT(values_bool), 1},
    [STORE_HINT] = {"store_hint", "0 plain, 1 streaming", values_bool, COUNT(values_bool), 1},
};

static const struct argument arguments[] = {
    [Q] = {"q", "(rows, q_heads, head_dim), row-major", ROLE_INOUT, DTYPE_COUNT, FILL_NORMAL,
           false},
    [K] = {"k", "(rows, kv_heads, head_dim), row-major", ROLE_INOUT, DTYPE_COUNT, FILL_NORMAL,
           false},
    [POSITION] = {"position", "(rows)", ROLE_IN, DTYPE_I32, FILL_KERNEL, false},
    [INV_FREQ] = {"inv_freq", "(head_dim / 2)", ROLE_IN, DTYPE_F32, FILL_KERNEL, true},
    [TABLE] = {"table", "(positions, head_dim / 2, 2): cosine, sine", ROLE_IN, DTYPE_F32,
               FILL_KERNEL, true},
};

#define LLAMA3                                                                                     \
    { 5e5, 32, 1, 4, 8192 }
#define OF(rows, q, kv, adjacent)                                                                  \
    { {rows, q, kv, 128, adjacent, 32768}, LLAMA3, DTYPE_F16 }
#define ROWS_OF(q, kv)                                                                             \
    OF(1, q, kv, 0), OF(2, q, kv, 0), OF(4, q, kv, 0), OF(8, q, kv, 0), OF(16, q, kv, 0),          \
        OF(64, q, kv, 0), OF(512, q, kv, 0), OF(4096, q, kv, 0), OF(16384, q, kv, 0)
static const struct problem problems[] = {ROWS_OF(24, 8), ROWS_OF(16, 4), ROWS_OF(32, 8),
                                          OF(4096, 24, 8, 1)};

static int64_t elements(const struct problem *p, int index) {
    const int64_t *n = p->size;
    switch (index) {
    case Q:
        return n[ROWS] * n[Q_HEADS] * n[HEAD_DIM];
    case K:
        return n[ROWS] * n[KV_HEADS] * n[HEAD_DIM];
    case POSITION:
        return n[ROWS];
    case INV_FREQ:
        return n[HEAD_DIM] / 2;
    default:
        return n[POSITIONS] * (n[HEAD_DIM] / 2) * 2;
    }
}

static struct rope_shape shape(const struct problem *p, const struct point *t) {
    const int *v = t->value;
    return (struct rope_shape){.head_dim = p->size[HEAD_DIM],
                               .adjacent = p->size[ADJACENT],
                               .all_heads = p->size[Q_HEADS] + p->size[KV_HEADS],
                               .element_bytes = (int)dtype_bytes(p->dtype),
                               .words = p->size[ADJACENT] ? 1 : 2,
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
    return rope_legal(&s, device, why);
}

static struct plan plan(const struct problem *p, const struct point *t,
                        const struct device_info *device) {
    struct rope_shape s = shape(p, t);
    int64_t blocks = (p->size[ROWS] * rope_pieces(&s) + s.block - 1) / s.block;
    return (struct plan){.stages = 1,
                         .stage = {{.entry = "rope",
                                    .grid = {grid_blocks(blocks, s.blocks_per_sm, device), 1, 1},
                                    .block = {(unsigned)s.block, 1, 1}}}};
}

static struct cost cost(const struct problem *p) {
    double n = (double)(elements(p, Q) + elements(p, K)), bytes = (double)dtype_bytes(p->dtype);
    return (struct cost){.read_bytes = n * bytes + 4 * (double)p->size[ROWS],
                         .write_bytes = n * bytes,
                         .flops = 3 * n};
}

static int64_t outer(const struct problem *p) { return p->size[ROWS]; }

static void reference(const struct problem *p, const void *const *before, double *const *want,
                      double *const *magnitude, int64_t first, int64_t last) {
    struct rope_element e = {.dtype = p->dtype,
                             .head_dim = p->size[HEAD_DIM],
                             .adjacent = p->size[ADJACENT],
                             .inv_freq = before[INV_FREQ]};
    const int32_t *position = before[POSITION];
    for (int which = Q; which <= K; which++) {
        int64_t row_heads = p->size[which == Q ? Q_HEADS : KV_HEADS];
        e.array = before[which];
        for (int64_t h = first * row_heads; h < last * row_heads; h++) {
            e.position = position[h / row_heads];
            e.head = h * e.head_dim;
            for (e.d = 0; e.d < e.head_dim; e.d++)
                want[which][e.head + e.d] = rope_reference(&e, &magnitude[which][e.head + e.d]);
        }
    }
}

/* Even seeds: consecutive positions from a random start, as in a prompt; odd ones: any. */
static void input(const struct problem *p, int index, uint64_t seed, void *host) {
    if (index == INV_FREQ) rope_inv_freq(p->real, p->size[HEAD_DIM], host);
    if (index == TABLE) rope_table(p->real, p->size[HEAD_DIM], p->size[POSITIONS], host);
    if (index != POSITION) return;
    uint64_t positions = (uint64_t)p->size[POSITIONS], state = seed;
    uint64_t start = random_next(&state) % positions;
    for (int64_t r = 0; r < p->size[ROWS]; r++)
        ((int32_t *)host)[r] = (int32_t)(seed % 2 ? random_next(&state) % positions
                                                  : (start + (uint64_t)r) % positions);
}

const struct kernel kernel_rope = {
    .name = "rope",
    .summary = "q and k turned by their positions, in place",
    .source = "kernels/rope/rope.cu",
    .sizes = sizes,
    .size_count = COUNT(sizes),
    .reals = rope_reals,
    .real_count = COUNT(rope_reals),
    .tunables = tunables,
    .tunable_count = COUNT(tunables),
    .arguments = arguments,
    .argument_count = COUNT(arguments),
    .dtypes = DTYPES_FLOAT,
    .problems = problems,
    .problem_count = COUNT(problems),
    .bound = {8, "the angle's product is fp32 by definition; its sine and cosine are off by 1 u32 "
                 "(table), 3 (three-step reduction and polynomial, seen at 6e7 angles to 2e5) or 4 "
                 "(sinf, cosf: 2 ulp); two products and a sum add 3"},
    .elements = elements,
    .legal = legal,
    .plan = plan,
    .cost = cost,
    .reference = reference,
    .outer = outer,
    .input = input,
};
