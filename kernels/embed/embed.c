/* embed.c - the spec of embed.cu: what can be tuned, what is legal, what is right. */
#include "kernels/shapes.h"
#include "runtime/random.h"

enum { ROWS, VOCAB, HIDDEN };
enum { RESIDUAL, TOKEN, TABLE };
enum { BLOCK, VECTOR_BYTES, UNROLL, BLOCKS_PER_SM, LOAD_HINT, STORE_HINT };

static const struct size sizes[] = {
    [ROWS] = {"rows", "tokens", false, 512, 1, INT64_C(1) << 31},
    [VOCAB] = {"vocab", "rows of the table", false, 16384, 1, INT32_MAX},
    [HIDDEN] = {"hidden", "model width", true, 3072, 1, 65536},
};

static const int unroll[] = {1, 2, 4};
static const int blocks_per_sm[] = {0, 1, 2, 4, 8};
static const struct tunable tunables[] = {
    [BLOCK] = {"block", "threads of a block", values_block, COUNT(values_block), 128},
    [VECTOR_BYTES] = {"vector_bytes", "bytes a load moves", values_vector_bytes,
                      COUNT(values_vector_bytes), 16},
    [UNROLL] = {"unroll", "vectors in flight a thread", unroll, COUNT(unroll), 1},
    [BLOCKS_PER_SM] = {"blocks_per_sm", "0: a block a chunk; n: a persistent grid", blocks_per_sm,
                       COUNT(blocks_per_sm), 0},
    [LOAD_HINT] = {"load_hint", "0 plain, 1 streaming, 2 not kept in L1", values_012,
                   COUNT(values_012), 0},
    [STORE_HINT] = {"store_hint", "0 plain, 1 streaming", values_bool, COUNT(values_bool), 0},
};

static const struct argument arguments[] = {
    [RESIDUAL] = {"residual", "(rows, hidden), row-major", ROLE_OUT, DTYPE_F32, FILL_NORMAL, false},
    [TOKEN] = {"token", "(rows)", ROLE_IN, DTYPE_I32, FILL_KERNEL, false},
    [TABLE] = {"table", "(vocab, hidden), row-major", ROLE_IN, DTYPE_COUNT, FILL_NORMAL, true},
};

/* A table over 60 MB, which no L2 holds: more rows of it would only take longer to fill. */
#define ROWS_OF(hidden)                                                                            \
    {{1, 16384, hidden}, {0}, DTYPE_F16}, {{8, 16384, hidden}, {0}, DTYPE_F16}, {                  \
        {512, 16384, hidden}, {0}, DTYPE_F16                                                       \
    }
static const struct problem problems[] = {ROWS_OF(3072), ROWS_OF(2048)};

static int64_t elements(const struct problem *p, int index) {
    const int64_t *n = p->size;
    return index == TOKEN ? n[ROWS] : n[index == TABLE ? VOCAB : ROWS] * n[HIDDEN];
}

static bool legal(const struct problem *p, const struct point *t, const struct device_info *device,
                  const char **why) {
    const int *v = t->value;
    int bytes = (int)dtype_bytes(p->dtype);
    if (v[VECTOR_BYTES] < bytes) return refuse(why, "a vector is shorter than an element");
    if (p->size[HIDDEN] % (v[VECTOR_BYTES] / bytes))
        return refuse(why, "hidden is no multiple of the vector");
    if (v[VECTOR_BYTES] < 8 && (v[BLOCKS_PER_SM] || v[LOAD_HINT] || v[STORE_HINT]))
        return refuse(why, "narrow vectors are kept in their plain form only");
    if (v[BLOCK] & (v[BLOCK] - 1) && (v[BLOCKS_PER_SM] || v[LOAD_HINT]))
        return refuse(why, "blocks of no power of two are kept in their plain form only");
    if (!grid_fits(v[BLOCK], v[BLOCKS_PER_SM], device))
        return refuse(why, "more threads than a multiprocessor holds");
    return true;
}

static struct plan plan(const struct problem *p, const struct point *t,
                        const struct device_info *device) {
    const int *v = t->value, vector = v[VECTOR_BYTES] / (int)dtype_bytes(p->dtype);
    int64_t chunk = (int64_t)v[BLOCK] * v[UNROLL];
    int64_t chunks = (p->size[ROWS] * (p->size[HIDDEN] / vector) + chunk - 1) / chunk;
    return (struct plan){.stages = 1,
                         .stage = {{.entry = "embed",
                                    .grid = {grid_blocks(chunks, v[BLOCKS_PER_SM], device), 1, 1},
                                    .block = {(unsigned)v[BLOCK], 1, 1}}}};
}

static struct cost cost(const struct problem *p) {
    double n = (double)elements(p, RESIDUAL);
    return (struct cost){.read_bytes =
                             n * (double)dtype_bytes(p->dtype) + 4 * (double)p->size[ROWS],
                         .write_bytes = 4 * n};
}

static int64_t outer(const struct problem *p) { return p->size[ROWS]; }

static void reference(const struct problem *p, const void *const *before, double *const *want,
                      double *const *magnitude, int64_t first, int64_t last) {
    const int32_t *token = before[TOKEN];
    int64_t hidden = p->size[HIDDEN];
    for (int64_t i = first * hidden; i < last * hidden; i++) {
        int64_t id = token[i / hidden];
        bool inside = id >= 0 && id < p->size[VOCAB];
        want[RESIDUAL][i] =
            inside ? dtype_load(p->dtype, before[TABLE], id * hidden + i % hidden) : 0;
        magnitude[RESIDUAL][i] = 0;
    }
}

/* Tokens from anywhere in the table; an odd seed has some beyond either end of it, too. */
static void input(const struct problem *p, int index, uint64_t seed, void *host) {
    int32_t *token = host;
    uint64_t state = seed;
    int64_t vocab = p->size[VOCAB];
    if (index != TOKEN) return;
    for (int64_t r = 0; r < p->size[ROWS]; r++) {
        uint64_t h = random_next(&state);
        token[r] = (int32_t)(h >> 8) & INT32_MAX;
        if (seed % 2 && h % 8 == 0)
            token[r] = h % 16 ? (int32_t)vocab : h % 32 ? INT32_MIN : -1;
        else
            token[r] = (int32_t)(token[r] % vocab);
    }
}

const struct kernel kernel_embed = {
    .name = "embed",
    .summary = "residual = table[token], in fp32",
    .source = "kernels/embed/embed.cu",
    .sizes = sizes,
    .size_count = COUNT(sizes),
    .tunables = tunables,
    .tunable_count = COUNT(tunables),
    .arguments = arguments,
    .argument_count = COUNT(arguments),
    .dtypes = DTYPES_FLOAT,
    .problems = problems,
    .problem_count = COUNT(problems),
    .bound = {0, "a float holds every element of the table: exact"},
    .elements = elements,
    .legal = legal,
    .plan = plan,
    .cost = cost,
    .reference = reference,
    .outer = outer,
    .input = input,
};
