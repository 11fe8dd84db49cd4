/* add_rmsnorm.c - the spec of add_rmsnorm.cu: what can be tuned, what is legal, what is right. */
#include <math.h>

#include "kernels/rmsnorm/rmsnorm.h"
#include "kernels/shapes.h"

enum { ROWS, HIDDEN };
enum { Y, RESIDUAL, X, WEIGHT };
enum {
    BLOCK,
    ROWS_PER_BLOCK,
    VECTOR_BYTES,
    REDUCE,
    PASSES,
    UNROLL,
    BLOCKS_PER_SM,
    AHEAD,
    LOAD_HINT,
    STORE_HINT
};

static const struct size sizes[] = {
    [ROWS] = {"rows", "tokens", false, 4096, 1, INT64_C(1) << 31},
    [HIDDEN] = {"hidden", "model width", true, 3072, 2, 65536},
};
static const struct real reals[] = {{"eps", "added to the mean of squares", 1e-5}};

static const int rows_per_block[] = {1, 2, 4, 8};
static const int passes[] = {1, 2};
static const int unroll[] = {1, 2, 4};
static const struct tunable tunables[] = {
    [BLOCK] = {"block", "threads of a block", values_block, COUNT(values_block), 128},
    [ROWS_PER_BLOCK] = {"rows_per_block", "rows a block works on at once", rows_per_block,
                        COUNT(rows_per_block), 1},
    [VECTOR_BYTES] = {"vector_bytes", "bytes a load moves", values_vector_bytes,
                      COUNT(values_vector_bytes), 16},
    [REDUCE] = {"reduce", "0 shuffles, 1 shared memory, 2 shuffles then shared memory", values_012,
                COUNT(values_012), 0},
    [PASSES] = {"passes", "1 keeps a row in registers, 2 reads it twice", passes, COUNT(passes), 1},
    [UNROLL] = {"unroll", "vectors in flight, in two passes", unroll, COUNT(unroll), 1},
    [BLOCKS_PER_SM] = {"blocks_per_sm", "0: a block a group of rows; n: a persistent grid",
                       values_blocks_per_sm, COUNT(values_blocks_per_sm), 0},
    [AHEAD] = {"ahead", "1 loads the next rows before reducing these", values_bool,
               COUNT(values_bool), 0},
    [LOAD_HINT] = {"load_hint", "0 plain, 1 streaming, 2 x not kept in L1", values_012,
                   COUNT(values_012), 0},
    [STORE_HINT] = {"store_hint", "0 plain, 1 streaming", values_bool, COUNT(values_bool), 0},
};

static const struct argument arguments[] = {
    [Y] = {"y", "(rows, hidden), row-major", ROLE_OUT, DTYPE_COUNT, FILL_NORMAL, false},
    [RESIDUAL] = {"residual", "(rows, hidden), row-major", ROLE_INOUT, DTYPE_COUNT, FILL_NORMAL,
                  false},
    [X] = {"x", "(rows, hidden), row-major", ROLE_IN, DTYPE_COUNT, FILL_NORMAL, false},
    [WEIGHT] = {"weight", "(hidden)", ROLE_IN, DTYPE_COUNT, FILL_WEIGHT, true},
};

#define ROWS_OF(hidden)                                                                            \
    {{1, hidden}, {1e-5}, DTYPE_F16}, {{2, hidden}, {1e-5}, DTYPE_F16},                            \
        {{4, hidden}, {1e-5}, DTYPE_F16}, {{8, hidden}, {1e-5}, DTYPE_F16},                        \
        {{16, hidden}, {1e-5}, DTYPE_F16}, {{64, hidden}, {1e-5}, DTYPE_F16},                      \
        {{512, hidden}, {1e-5}, DTYPE_F16}, {{4096, hidden}, {1e-5}, DTYPE_F16}, {                 \
        {16384, hidden}, {1e-5}, DTYPE_F16                                                         \
    }
static const struct problem problems[] = {ROWS_OF(2048), ROWS_OF(3072), ROWS_OF(4096)};

static int64_t elements(const struct problem *p, int index) {
    return index == WEIGHT ? p->size[HIDDEN] : p->size[ROWS] * p->size[HIDDEN];
}

static bool legal(const struct problem *p, const struct point *t, const struct device_info *device,
                  const char **why) {
    const int *v = t->value;
    struct rmsnorm_row row = {.hidden = p->size[HIDDEN],
                              .element_bytes = (int)dtype_bytes(p->dtype),
                              .block = v[BLOCK],
                              .rows_per_block = v[ROWS_PER_BLOCK],
                              .vector_bytes = v[VECTOR_BYTES],
                              .reduce = v[REDUCE],
                              .passes = v[PASSES],
                              .unroll = v[UNROLL],
                              .blocks_per_sm = v[BLOCKS_PER_SM],
                              .ahead = v[AHEAD],
                              .load_hint = v[LOAD_HINT],
                              .store_hint = v[STORE_HINT]};
    return rmsnorm_row_legal(&row, device, why);
}

static struct plan plan(const struct problem *p, const struct point *t,
                        const struct device_info *device) {
    const int *v = t->value;
    int64_t groups = (p->size[ROWS] + v[ROWS_PER_BLOCK] - 1) / v[ROWS_PER_BLOCK];
    return (struct plan){.stages = 1,
                         .stage = {{.entry = "add_rmsnorm",
                                    .grid = {grid_blocks(groups, v[BLOCKS_PER_SM], device), 1, 1},
                                    .block = {(unsigned)v[BLOCK], 1, 1}}}};
}

static struct cost cost(const struct problem *p) {
    double n = (double)p->size[ROWS] * (double)p->size[HIDDEN];
    double bytes = (double)dtype_bytes(p->dtype);
    return (struct cost){.read_bytes = (2 * n + (double)p->size[HIDDEN]) * bytes,
                         .write_bytes = 2 * n * bytes,
                         .flops = 5 * n};
}

static int64_t outer(const struct problem *p) { return p->size[ROWS]; }

static void reference(const struct problem *p, const void *const *before, double *const *want,
                      double *const *magnitude, int64_t first, int64_t last) {
    int64_t hidden = p->size[HIDDEN];
    for (int64_t r = first; r < last; r++) {
        double sum = 0;
        for (int64_t c = 0; c < hidden; c++) {
            int64_t i = r * hidden + c;
            double a = dtype_load(p->dtype, before[X], i);
            double b = dtype_load(p->dtype, before[RESIDUAL], i);
            want[RESIDUAL][i] = a + b;
            magnitude[RESIDUAL][i] = fabs(a) + fabs(b);
            sum += (a + b) * (a + b);
        }
        double scale = 1 / sqrt(sum / (double)hidden + (double)(float)p->real[0]);
        for (int64_t c = 0; c < hidden; c++) {
            int64_t i = r * hidden + c;
            double w = dtype_load(p->dtype, before[WEIGHT], c) * scale;
            want[Y][i] = want[RESIDUAL][i] * w;
            magnitude[Y][i] = magnitude[RESIDUAL][i] * fabs(w);
        }
    }
}

const struct kernel kernel_add_rmsnorm = {
    .name = "add_rmsnorm",
    .summary = "residual += x; y = residual * rsqrt(mean(residual^2) + eps) * weight",
    .source = "kernels/add_rmsnorm/add_rmsnorm.cu",
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
    .bound = {160, "as rmsnorm (up to hidden/16 squares added in a row, halved by the root); the "
                   "sum x + residual rounds once, by 1 u32 of its terms"},
    .elements = elements,
    .legal = legal,
    .plan = plan,
    .cost = cost,
    .reference = reference,
    .outer = outer,
};
