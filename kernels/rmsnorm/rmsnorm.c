/* rmsnorm.c - the spec of rmsnorm.cu: what can be tuned, what is legal, what is right. */
#include "kernels/rmsnorm/rmsnorm.h"

#include <math.h>

#include "kernels/shapes.h"

enum { ROWS = RMSNORM_ROWS, HIDDEN = RMSNORM_HIDDEN };
enum { Y, X, WEIGHT };
enum {
    BLOCK,
    ROWS_PER_BLOCK,
    VECTOR_BYTES,
    REDUCE,
    PASSES,
    UNROLL,
    BLOCKS_PER_SM,
    AHEAD,
    PREFETCH,
    BULK = RMSNORM_BULK,
    LOAD_HINT,
    STORE_HINT
};

const struct size rmsnorm_sizes[RMSNORM_SIZES] = {
    [ROWS] = {"rows", "tokens", false, 4096, 1, INT64_C(1) << 31},
    [HIDDEN] = {"hidden", "model width", true, 3072, 2, 65536},
};
const struct real rmsnorm_reals[1] = {{"eps", "added to the mean of squares", 1e-5}};

static const int rows_per_block[] = {1, 2, 4, 8, 16};
static const int passes[] = {1, 2};
static const int unroll[] = {1, 2, 4};
static const int bulk[] = {0, 1, 2, 4, 8};
const struct tunable rmsnorm_tunables[RMSNORM_TUNABLES] = {
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
    [PREFETCH] = {"prefetch", "next rows of a block on their way into L2", values_012,
                  COUNT(values_012), 0},
    [BULK] = {"bulk", "0: rows in registers; n: rows a team of threads has in shared memory", bulk,
              COUNT(bulk), 0},
    [LOAD_HINT] = {"load_hint", "0 plain, 1 streaming, 2 not kept in L1", values_012,
                   COUNT(values_012), 0},
    [STORE_HINT] = {"store_hint", "0 plain, 1 streaming, 2 out of shared memory", values_012,
                    COUNT(values_012), 0},
};

static const struct argument arguments[] = {
    [Y] = {"y", "(rows, hidden), row-major", ROLE_OUT, DTYPE_COUNT, FILL_NORMAL, false},
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
const struct problem rmsnorm_problems[RMSNORM_PROBLEMS] = {ROWS_OF(2048), ROWS_OF(3072),
                                                           ROWS_OF(4096)};

static int64_t elements(const struct problem *p, int index) {
    return index == WEIGHT ? p->size[HIDDEN] : p->size[ROWS] * p->size[HIDDEN];
}

struct row { /* a point by name */
    int64_t hidden;
    int element_bytes, block, rows_per_block, vector_bytes, reduce, passes, unroll, blocks_per_sm,
        ahead, prefetch, bulk, load_hint, store_hint;
};

/* A row's threads form a team, and a team has `bulk` rows in shared memory. Teams of more than a
 * warp have a named barrier each, of which there are 15. */
static bool bulk_legal(const struct row *row, const struct device_info *device, const char **why) {
    enum { OWN_BYTES = 2048 }; /* barriers, sums, and what the driver keeps of each block */
    int64_t row_bytes = row->hidden * row->element_bytes, vectors = row_bytes / 16;
    int64_t bytes = row->rows_per_block * row->bulk * row_bytes;
    int threads = row->block / row->rows_per_block, blocks = row->blocks_per_sm;
    if (device->kind == DEVICE_CUDA && device->arch < 90)
        return refuse(why, "there are bulk copies from sm_90 on");
    if (row->vector_bytes != 16 || row->passes != 1 || row->ahead || row->prefetch)
        return refuse(why, "bulk copies bring rows of whole vectors, once and early");
    if ((row->bulk == 1) != (blocks == 0) || blocks > 4)
        return refuse(why,
                      "several rows a team need a persistent grid of up to 4 blocks, one none");
    if (threads % 32 || (vectors % 32 ? threads & (threads - 1) : vectors % threads))
        return refuse(why, "teams are whole warps with equal parts of a row, where that can be");
    if (threads > 32 && (row->reduce != 2 || row->rows_per_block > 8))
        return refuse(why, "teams of several warps: up to 8, who add up in shared memory");
    /* from what NVRTC makes of them; 64 Ki registers a multiprocessor on all that have bulk copies
     */
    int64_t registers = 32 + 2 * row->hidden / threads;
    if (registers * row->block * (blocks ? blocks : 1) > 65536)
        return refuse(why, "more threads with parts of a row than registers hold at once");
    if (row->load_hint > 1 || (row->store_hint < 2 && row->load_hint != row->store_hint))
        return refuse(why, "bulk copies stream both ways or neither");
    if (bytes + OWN_BYTES > device->shared_per_block / (blocks ? 1 : 2) ||
        blocks * (bytes + OWN_BYTES) > device->shared_per_sm)
        return refuse(why, "more rows than shared memory holds");
    if (blocks ? 4 * blocks * bytes < device->shared_per_sm : 16 * bytes < device->shared_per_sm)
        return refuse(why, "fewer rows than bulk copies are worth");
    return true;
}

static bool row_legal(const struct row *row, const struct device_info *device, const char **why) {
    int threads = row->block / row->rows_per_block;
    if (row->vector_bytes < row->element_bytes)
        return refuse(why, "a vector is shorter than an element");
    int vector = row->vector_bytes / row->element_bytes;
    if (row->hidden % vector) return refuse(why, "hidden is no multiple of the vector");
    if (row->block % row->rows_per_block || (threads % 32 && (threads & (threads - 1))))
        return refuse(why, "a row's threads are neither whole warps nor a power of two");
    if (threads < 16) return refuse(why, "fewer than 16 threads a row");
    int64_t vectors = row->hidden / vector, chunks = (vectors + threads - 1) / threads;
    if (threads > 32 && threads / 2 >= vectors)
        return refuse(why, "half of a row's threads would have nothing to do");
    if (row->reduce && threads <= 32) return refuse(why, "a row within a warp needs no shared sum");
    if (row->passes == 1 && chunks * vector > 64)
        return refuse(why, "a thread's part of the row is over 64 elements: no room in registers");
    if (row->passes == 1 && row->unroll != 1) return refuse(why, "one pass unrolls by itself");
    if (row->passes == 2 && row->unroll > chunks && row->unroll > 1)
        return refuse(why, "unrolled past the end of the row");
    if (row->vector_bytes < 8 &&
        (row->blocks_per_sm || row->load_hint || row->store_hint || row->rows_per_block > 2))
        return refuse(why, "narrow vectors are kept in their plain form only");
    if (row->vector_bytes == 8 && (row->blocks_per_sm > 2 || row->load_hint || row->ahead ||
                                   row->reduce == 1 || row->rows_per_block > 4))
        return refuse(why, "8-byte vectors are kept without hints, small grids and loading ahead");
    if (threads > 512 && (row->blocks_per_sm || row->vector_bytes < 16))
        return refuse(why, "over 512 threads a row: kept one-shot, with whole vectors");
    if (row->ahead && (!row->blocks_per_sm || row->passes != 1 || chunks * vector > 32))
        return refuse(why, "loading ahead needs a persistent grid and registers to spare");
    if (row->prefetch &&
        (row->passes != 1 || row->vector_bytes < 16 || row->blocks_per_sm < 4 ||
         (row->reduce != 2 && threads > 32) || (row->load_hint == 1) != row->store_hint ||
         row->load_hint == 2 || row->ahead || row->blocks_per_sm > 8 || row->rows_per_block > 2 ||
         row->block > 256 || row->block < 64 || (row->block & (row->block - 1))))
        return refuse(why, "prefetching is kept for small persistent grids, in few forms");
    if (row->load_hint == 2 && row->ahead && row->element_bytes > 2)
        return refuse(why, "fp32 takes the read-only path without loading ahead");
    if (row->load_hint && row->passes == 2)
        return refuse(why, "a row read twice must stay in the cache");
    if ((row->reduce == 1 || row->passes == 2) &&
        (row->load_hint || row->ahead || row->blocks_per_sm > 1))
        return refuse(why, "slower reductions and two passes are kept in their plain form only");
    if (row->passes == 2 && (row->reduce == 1 || (row->unroll > 1 && row->vector_bytes < 16)))
        return refuse(why, "two passes are kept without the slowest sums and narrow unrolling");
    if (row->bulk && !bulk_legal(row, device, why)) return false;
    if (!row->bulk && (row->rows_per_block > 8 || row->store_hint > 1))
        return refuse(why, "16 rows a block, and stores out of shared memory, are for bulk copies");
    if (!row->bulk && row->store_hint && row->load_hint != 1)
        return refuse(why, "stores stream where loads do");
    if (row->blocks_per_sm && row->block * row->blocks_per_sm < 256)
        return refuse(why, "under 256 threads a multiprocessor: too few for any memory");
    if (!grid_fits(row->block, row->blocks_per_sm, device))
        return refuse(why, "more threads than a multiprocessor holds");
    return true;
}

bool rmsnorm_legal(const struct problem *p, const struct point *t, const struct device_info *device,
                   const char **why) {
    const int *v = t->value;
    struct row row = {.hidden = p->size[HIDDEN],
                      .element_bytes = (int)dtype_bytes(p->dtype),
                      .block = v[BLOCK],
                      .rows_per_block = v[ROWS_PER_BLOCK],
                      .vector_bytes = v[VECTOR_BYTES],
                      .reduce = v[REDUCE],
                      .passes = v[PASSES],
                      .unroll = v[UNROLL],
                      .blocks_per_sm = v[BLOCKS_PER_SM],
                      .ahead = v[AHEAD],
                      .prefetch = v[PREFETCH],
                      .bulk = v[BULK],
                      .load_hint = v[LOAD_HINT],
                      .store_hint = v[STORE_HINT]};
    return row_legal(&row, device, why);
}

struct plan rmsnorm_plan(const char *entry, const struct problem *p, const struct point *t,
                         const struct device_info *device) {
    const int *v = t->value;
    int64_t groups = (p->size[ROWS] + v[ROWS_PER_BLOCK] - 1) / v[ROWS_PER_BLOCK];
    int64_t row_bytes = p->size[HIDDEN] * (int64_t)dtype_bytes(p->dtype);
    if (v[BULK] > 1) groups = p->size[ROWS]; /* whole rows are dealt out to blocks, then to teams */
    return (struct plan){
        .stages = 1,
        .stage = {{.entry = entry,
                   .grid = {grid_blocks(groups, v[BLOCKS_PER_SM], device), 1, 1},
                   .block = {(unsigned)v[BLOCK], 1, 1},
                   .shared_bytes = (unsigned)(v[ROWS_PER_BLOCK] * v[BULK] * row_bytes)}}};
}

static struct plan plan(const struct problem *p, const struct point *t,
                        const struct device_info *device) {
    return rmsnorm_plan("rmsnorm", p, t, device);
}

static struct cost cost(const struct problem *p) {
    double n = (double)p->size[ROWS] * (double)p->size[HIDDEN];
    double bytes = (double)dtype_bytes(p->dtype);
    return (struct cost){.read_bytes = (n + (double)p->size[HIDDEN]) * bytes,
                         .write_bytes = n * bytes,
                         .flops = 4 * n};
}

int64_t rmsnorm_outer(const struct problem *p) { return p->size[ROWS]; }

static void reference(const struct problem *p, const void *const *before, double *const *want,
                      double *const *magnitude, int64_t first, int64_t last) {
    int64_t hidden = p->size[HIDDEN];
    for (int64_t r = first; r < last; r++) {
        double sum = 0;
        for (int64_t c = 0; c < hidden; c++) {
            double x = dtype_load(p->dtype, before[X], r * hidden + c);
            sum += x * x;
        }
        double scale = 1 / sqrt(sum / (double)hidden + (double)(float)p->real[0]);
        for (int64_t c = 0; c < hidden; c++) {
            int64_t i = r * hidden + c;
            want[Y][i] = dtype_load(p->dtype, before[X], i) * scale *
                         dtype_load(p->dtype, before[WEIGHT], c);
            magnitude[Y][i] = fabs(want[Y][i]);
        }
    }
}

const struct kernel kernel_rmsnorm = {
    .name = "rmsnorm",
    .summary = "y = x * rsqrt(mean(x^2) + eps) * weight",
    .source = "kernels/rmsnorm/rmsnorm.cu",
    .sizes = rmsnorm_sizes,
    .size_count = RMSNORM_SIZES,
    .reals = rmsnorm_reals,
    .real_count = COUNT(rmsnorm_reals),
    .tunables = rmsnorm_tunables,
    .tunable_count = RMSNORM_TUNABLES,
    .arguments = arguments,
    .argument_count = COUNT(arguments),
    .dtypes = DTYPES_FLOAT,
    .problems = rmsnorm_problems,
    .problem_count = RMSNORM_PROBLEMS,
    .bound = {160, "a thread adds up to hidden/16 squares in a row (relative error hidden/16 u32, "
                   "halved by the root) and rsqrt and two products add a few u32"},
    .elements = elements,
    .legal = rmsnorm_legal,
    .plan = plan,
    .cost = cost,
    .reference = reference,
    .outer = rmsnorm_outer,
};
