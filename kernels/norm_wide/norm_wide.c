/* norm_wide.c - the spec of norm_wide.cu: what can be tuned, what is legal, what is right. */
#include <math.h>

#include "kernels/shapes.h"

enum { ROWS, HIDDEN };
enum { Y, X, WEIGHT };
enum { BLOCK, ROWS_PER_BLOCK, VECTOR_BYTES, REDUCE, PASSES, BLOCKS_PER_SM, LOAD_HINT, STORE_HINT };

static const struct size sizes[] = {
    [ROWS] = {"rows", "tokens", false, 4096, 1, INT64_C(1) << 31},
    [HIDDEN] = {"hidden", "model width", true, 3072, 1, 65536},
};
static const struct real reals[] = {{"eps", "added to the mean of squares", 1e-5}};

static const int rows_per_block[] = {1, 2, 4, 8};
static const int vector_bytes[] = {4, 8, 16};
static const int passes[] = {1, 2};
static const struct tunable tunables[] = {
    [BLOCK] = {"block", "threads of a block", values_block, COUNT(values_block), 256},
    [ROWS_PER_BLOCK] = {"rows_per_block", "rows a block works on at once", rows_per_block,
                        COUNT(rows_per_block), 1},
    [VECTOR_BYTES] = {"vector_bytes", "bytes a load of x moves", vector_bytes, COUNT(vector_bytes),
                      16},
    [REDUCE] = {"reduce", "0 shuffles, 1 shared memory, 2 shuffles then shared memory", values_012,
                COUNT(values_012), 2},
    [PASSES] = {"passes", "1 keeps a row in registers, 2 reads it twice", passes, COUNT(passes), 1},
    [BLOCKS_PER_SM] = {"blocks_per_sm", "0: a block a group of rows; n: a persistent grid",
                       values_blocks_per_sm, COUNT(values_blocks_per_sm), 0},
    [LOAD_HINT] = {"load_hint", "0 plain, 1 streaming, 2 not kept in L1", values_012,
                   COUNT(values_012), 0},
    [STORE_HINT] = {"store_hint", "0 plain, 1 streaming", values_bool, COUNT(values_bool), 0},
};

static const struct argument arguments[] = {
    [Y] = {"y", "(rows, hidden), row-major", ROLE_OUT, DTYPE_COUNT, FILL_NORMAL, false},
    [X] = {"x", "(rows, hidden), row-major", ROLE_IN, DTYPE_F32, FILL_NORMAL, false},
    [WEIGHT] = {"weight", "(hidden)", ROLE_IN, DTYPE_COUNT, FILL_WEIGHT, true},
};

#define ROWS_OF(hidden)                                                                            \
    {{16, hidden}, {1e-5}, DTYPE_F16}, {{128, hidden}, {1e-5}, DTYPE_F16},                         \
        {{512, hidden}, {1e-5}, DTYPE_F16}, {                                                      \
        {4096, hidden}, {1e-5}, DTYPE_F16                                                          \
    }
static const struct problem problems[] = {ROWS_OF(3072), ROWS_OF(2048)};

static int64_t elements(const struct problem *p, int index) {
    return index == WEIGHT ? p->size[HIDDEN] : p->size[ROWS] * p->size[HIDDEN];
}

/* What the vector and the block make of a row. */
static bool row_legal(int64_t hidden, const int *v, const char **why) {
    int vector = v[VECTOR_BYTES] / 4, threads = v[BLOCK] / v[ROWS_PER_BLOCK];
    if (hidden % vector) return refuse(why, "hidden is no multiple of the vector");
    if (v[BLOCK] % v[ROWS_PER_BLOCK] || (threads % 32 && (threads & (threads - 1))))
        return refuse(why, "a row's threads are neither whole warps nor a power of two");
    if (threads < 16) return refuse(why, "fewer than 16 threads a row");
    int64_t vectors = hidden / vector, chunks = (vectors + threads - 1) / threads;
    if (threads > 32 && threads / 2 >= vectors)
        return refuse(why, "half of a row's threads would have nothing to do");
    if (v[REDUCE] && threads <= 32) return refuse(why, "a row within a warp needs no shared sum");
    if (v[PASSES] == 1 && chunks * vector > 32)
        return refuse(why, "a thread's part of the row is over 32 floats: no room in registers");
    return true;
}

static bool legal(const struct problem *p, const struct point *t, const struct device_info *device,
                  const char **why) {
    const int *v = t->value;
    if (!row_legal(p->size[HIDDEN], v, why)) return false;
    if (v[VECTOR_BYTES] < 16 && (v[BLOCKS_PER_SM] || v[LOAD_HINT] || v[STORE_HINT]))
        return refuse(why, "narrow vectors are kept in their plain form only");
    if (v[PASSES] == 2 && (v[LOAD_HINT] || v[BLOCKS_PER_SM] > 1))
        return refuse(why, "a row read twice must stay in the cache, and small grids are left out");
    if (v[REDUCE] == 1 && (v[BLOCKS_PER_SM] || v[LOAD_HINT]))
        return refuse(why, "the slowest sum is kept in its plain form only");
    if (!grid_fits(v[BLOCK], v[BLOCKS_PER_SM], device))
        return refuse(why, "more threads than a multiprocessor holds");
    return true;
}

static struct plan plan(const struct problem *p, const struct point *t,
                        const struct device_info *device) {
    const int *v = t->value;
    int64_t groups = (p->size[ROWS] + v[ROWS_PER_BLOCK] - 1) / v[ROWS_PER_BLOCK];
    return (struct plan){.stages = 1,
                         .stage = {{.entry = "norm_wide",
                                    .grid = {grid_blocks(groups, v[BLOCKS_PER_SM], device), 1, 1},
                                    .block = {(unsigned)v[BLOCK], 1, 1}}}};
}

static struct cost cost(const struct problem *p) {
    double n = (double)elements(p, Y), bytes = (double)dtype_bytes(p->dtype);
    return (struct cost){.read_bytes = 4 * n + (double)p->size[HIDDEN] * bytes,
                         .write_bytes = n * bytes,
                         .flops = 4 * n};
}

static int64_t outer(const struct problem *p) { return p->size[ROWS]; }

static void reference(const struct problem *p, const void *const *before, double *const *want,
                      double *const *magnitude, int64_t first, int64_t last) {
    int64_t hidden = p->size[HIDDEN];
    const float *x = before[X];
    for (int64_t r = first; r < last; r++) {
        const float *row = x + r * hidden;
        double sum = 0;
        for (int64_t c = 0; c < hidden; c++) sum += (double)row[c] * row[c];
        double scale = 1 / sqrt(sum / (double)hidden + (double)(float)p->real[0]);
        for (int64_t c = 0; c < hidden; c++) {
            int64_t i = r * hidden + c;
            want[Y][i] = row[c] * scale * dtype_load(p->dtype, before[WEIGHT], c);
            magnitude[Y][i] = fabs(want[Y][i]);
        }
    }
}

const struct kernel kernel_norm_wide = {
    .name = "norm_wide",
    .summary = "y = x * rsqrt(mean(x^2) + eps) * weight, x in fp32",
    .source = "kernels/norm_wide/norm_wide.cu",
    .sizes = sizes,
    .size_count = COUNT(sizes),
    .reals = reals,
    .real_count = COUNT(reals),
    .tunables = tunables,
    .tunable_count = COUNT(tunables),
    .arguments = arguments,
    .argument_count = COUNT(arguments),
    .dtypes = DTYPES_FLOAT,
    .problems = problems,
    .problem_count = COUNT(problems),
    .bound = {160, "as rmsnorm: a thread adds up to hidden/16 squares in a row (relative error "
                   "hidden/16 u32, halved by the root), rsqrt and two products add a few u32"},
    .elements = elements,
    .legal = legal,
    .plan = plan,
    .cost = cost,
    .reference = reference,
    .outer = outer,
};
