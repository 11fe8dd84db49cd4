/* gemv_family.c - what the four kernels of gemv.cuh share; see gemv.h. */
#include <math.h>

#include "kernels/gemv/gemv.h"
#include "kernels/shapes.h"

const struct size gemv_sizes[GEMV_SIZES] = {
    [GEMV_BATCH] = {"batch", "sequences", true, 1, 1, 16},
    [GEMV_INPUTS] = {"inputs", "width of a row of the matrix", true, 3072, 2, 32768},
    [GEMV_BIAS] = {"bias", "1: with a bias", true, 0, 0, 1},
    [GEMV_OUTPUTS] = {"outputs", "rows of the matrix", false, 3072, 1, 1 << 24},
};
const struct real gemv_reals[1] = {{"eps", "added to the mean of squares", 1e-5}};

static const int block[] = {64, 128, 256, 512};
static const int row_threads[] = {8, 16, 32, 64, 128, 256, 512};
static const int rows[] = {1, 2, 4};
static const int unroll[] = {1, 2, 4};
static const int depth[] = {1, 2, 3, 4};
enum { SHARED_ELEMENTS, SHARED_FLOATS, FROM_L2, REGISTERS, TENSOR_SHARED, TENSOR_L2 };
static const int staging[] = {SHARED_ELEMENTS, SHARED_FLOATS, FROM_L2,
                              REGISTERS,       TENSOR_SHARED, TENSOR_L2};
static const int blocks_per_sm[] = {0, 1, 2, 3, 4, 8};
/* The default has 12 vectors of weights in flight a thread, 16 where rows come in pairs. */
#define TUNABLES(depth_)                                                                           \
    {                                                                                              \
        [GEMV_BLOCK] = {"block", "threads of a block", block, COUNT(block), 256},                  \
        [GEMV_ROW_THREADS] = {"row_threads", "threads that share a row", row_threads,              \
                              COUNT(row_threads), 32},                                             \
        [GEMV_ROWS] = {"rows", "outputs these threads take at once", rows, COUNT(rows), 1},        \
        [GEMV_UNROLL] = {"unroll", "vectors of a row a thread loads in a stage", unroll,           \
                         COUNT(unroll), 4},                                                        \
        [GEMV_DEPTH] = {"depth", "stages in flight", depth, COUNT(depth), depth_},                 \
        [GEMV_STAGING] = {"staging",                                                               \
                          "activations: 0 shared memory, 1 shared memory as floats, 2 L1 and L2, " \
                          "3 registers as floats; on tensor cores: 4 shared memory, 5 L1 and L2",  \
                          staging, COUNT(staging), SHARED_FLOATS},                                 \
        [GEMV_VECTOR_BYTES] = {"vector_bytes", "bytes a load moves", values_vector_bytes,          \
                               COUNT(values_vector_bytes), 16},                                    \
        [GEMV_BLOCKS_PER_SM] = {"blocks_per_sm",                                                   \
                                "0: a block a group of rows; n: a persistent grid", blocks_per_sm, \
                                COUNT(blocks_per_sm), 2},                                          \
        [GEMV_LOAD_HINT] = {                                                                       \
            "load_hint",                                                                           \
            "of weights: 0 plain, 1 streaming, 2 not kept in L1",                                  \
            values_012,                                                                            \
            COUNT(values_012),                                                                     \
            2                                                                                      \
        }                                                                                          \
    }
const struct tunable gemv_tunables[GEMV_TUNABLES] = TUNABLES(3);
const struct tunable gemv_pair_tunables[GEMV_TUNABLES] = TUNABLES(2);

const struct gemv_form gemv_plain = {GEMV_BATCH, GEMV_INPUTS, GEMV_OUTPUTS, false, false};
const struct gemv_form gemv_normed = {GEMV_BATCH, GEMV_INPUTS, GEMV_OUTPUTS, true, false};

struct shape { /* a point and a problem by name */
    int64_t batch, inputs, vectors, chunks;
    bool tensor;
    int element_bytes, vector, lines;
    int block, row_threads, rows, unroll, depth, staging, vector_bytes, blocks_per_sm, load_hint;
};

static struct shape shape_of(const struct gemv_form *form, const struct problem *p,
                             const struct point *t) {
    const int *v = t->value;
    bool tensor = v[GEMV_STAGING] >= TENSOR_SHARED; /* `rows` are then tiles of 8 */
    struct shape s = {.tensor = tensor,
                      .batch = p->size[form->batch],
                      .inputs = p->size[form->inputs],
                      .element_bytes = (int)dtype_bytes(p->dtype),
                      .lines = v[GEMV_ROWS] * (form->pair ? 2 : 1),
                      .block = v[GEMV_BLOCK],
                      .row_threads = v[GEMV_ROW_THREADS],
                      .rows = v[GEMV_ROWS],
                      .unroll = v[GEMV_UNROLL],
                      .depth = v[GEMV_DEPTH],
                      .staging = v[GEMV_STAGING],
                      .vector_bytes = v[GEMV_VECTOR_BYTES],
                      .blocks_per_sm = v[GEMV_BLOCKS_PER_SM],
                      .load_hint = v[GEMV_LOAD_HINT]};
    s.vector = s.vector_bytes / s.element_bytes;
    if (!s.vector) return s; /* refused first of all */
    s.vectors = s.inputs / s.vector;
    s.chunks = (s.vectors + s.row_threads - 1) / s.row_threads;
    if (tensor) s.chunks = (s.vectors + s.row_threads / 8 - 1) / (s.row_threads / 8);
    return s;
}

/* What the activations take of shared memory. */
static int64_t staged_bytes(const struct shape *s) {
    if (s->staging == TENSOR_SHARED)
        return s->batch * (s->vectors + (12 - s->vectors % 8) % 8) * 16;
    int64_t elements = s->batch * s->inputs;
    return s->staging == SHARED_ELEMENTS ? elements * s->element_bytes
           : s->staging == SHARED_FLOATS ? elements * 4
                                         : 0;
}

/* What is declared in gemv.cuh, from above: sums of all turns, squares, scales. */
static int64_t fixed_bytes(const struct shape *s) {
    if (s->tensor) {
        int64_t sums = s->row_threads > 32 ? s->block / 32 * s->lines * (s->batch > 8 ? 4 : 2) : 0;
        return 4 * (2 * sums * 32 + s->block / 32 * 16 + 16);
    }
    int64_t set =
        (int64_t)s->lines * s->batch * s->block / (s->row_threads < 32 ? s->row_threads : 32);
    int64_t sets = s->row_threads <= 32 ? 1 : set * 8 <= 2048 ? 16 : set * 2 <= 2048 ? 4 : 2;
    return 4 * (sets * set + s->block / 32 * 16 + 16);
}

/* May tensor cores do it? */
static bool tensor_possible(const struct gemv_form *form, const struct problem *p,
                            const struct device_info *device, const char **why) {
    int64_t batch = p->size[form->batch];
    if (p->dtype == DTYPE_F32) return refuse(why, "tensor cores take 16-bit elements here");
    if (p->dtype == DTYPE_BF16 && device->kind == DEVICE_CUDA && device->arch < 80)
        return refuse(why, "tensor cores take bf16 from sm_80 on");
    if (batch < 2) return refuse(why, "one sequence is not worth a tensor core");
    if (p->size[form->inputs] % 8) return refuse(why, "inputs is no multiple of 8");
    return true;
}

static bool tensor_legal(const struct gemv_form *form, const struct shape *s, const char **why) {
    if (s->vector_bytes != 16 || s->load_hint != 2)
        return refuse(why, "tensor cores are kept for whole vectors that stay out of L1");
    if (s->row_threads < 32 || s->row_threads > s->block)
        return refuse(why, "a tile of rows is for whole warps of a block");
    if (s->row_threads / 8 > s->vectors)
        return refuse(why, "a warp of a tile would have nothing to do");
    if (form->norm && s->staging == TENSOR_L2)
        return refuse(why, "what is normed is staged in shared memory");
    if (s->unroll > s->chunks && s->unroll > 1)
        return refuse(why, "unrolled past the end of the row");
    if (s->lines > 4 || s->unroll * s->depth * s->lines > 12)
        return refuse(why, "over 12 vectors in flight a thread: no registers for them");
    if (s->unroll * s->depth * s->lines < 4 && s->chunks >= 8)
        return refuse(why, "under 64 bytes in flight a thread keep no memory busy");
    if (s->block < 128 || s->blocks_per_sm > 4 || s->blocks_per_sm * s->block > 1024 ||
        (s->blocks_per_sm && s->depth == 1))
        return refuse(why, "tensor cores are kept for larger blocks, few and deep");
    return true;
}

static bool team_legal(const struct shape *s, const char **why) {
    if (s->row_threads > s->block) return refuse(why, "a block has fewer threads than a row");
    if (s->row_threads > 8 && s->row_threads / 2 >= s->vectors)
        return refuse(why, "half of a row's threads would have nothing to do");
    if (s->chunks > 64)
        return refuse(why, "a thread would add up over 64 vectors: the bound is for no more");
    return true;
}

static bool stage_legal(const struct shape *s, const char **why) {
    int64_t words = s->staging == REGISTERS ? s->chunks : s->unroll;
    int64_t stages = (s->chunks + words - 1) / words;
    if (s->staging == REGISTERS && s->unroll != 1)
        return refuse(why, "with activations in registers a stage is a whole row");
    if (s->staging == REGISTERS && s->chunks * s->vector * s->batch > 48)
        return refuse(why, "over 48 activations a thread: no registers for them");
    if (s->unroll > s->chunks && s->unroll > 1)
        return refuse(why, "unrolled past the end of the row");
    if (!s->blocks_per_sm && s->depth > stages && s->depth > 1)
        return refuse(why, "more stages in flight than a block has");
    if (s->lines * s->batch > 32)
        return refuse(why, "over 32 sums a thread: no registers for them");
    return true;
}

/* About the registers of a thread: vectors in flight, sums, the floats of a vector of each row and
 * of the activations (of all sequences where they come from L2: compilers load them at once), the
 * rest. */
static int64_t registers(const struct shape *s) {
    if (s->tensor) return s->lines * (s->unroll * s->depth * 4 + 8) + 48;
    int64_t words = s->staging == REGISTERS ? s->chunks : s->unroll;
    int64_t many = s->staging == REGISTERS ? s->chunks * s->batch
                   : s->staging == FROM_L2 ? s->batch
                                           : 1;
    int64_t kept = many * s->vector;
    return s->lines * (words * s->depth * s->vector_bytes / 4 + s->vector + s->batch) + kept + 32;
}

static bool resident(const struct shape *s, const struct device_info *device, const char **why) {
    int64_t bytes = staged_bytes(s) + fixed_bytes(s);
    int blocks = s->blocks_per_sm ? s->blocks_per_sm : 1;
    if (fixed_bytes(s) > 48 << 10)
        return refuse(why, "the sums of a block's warps take over 48 KB of static shared memory");
    if (bytes > device->shared_per_block)
        return refuse(why, "a block has no shared memory for the activations");
    if (device->shared_per_sm && blocks * (bytes + 1024) > device->shared_per_sm && blocks > 1)
        return refuse(why, "a multiprocessor has no shared memory for so many blocks");
    if (!grid_fits(s->block, s->blocks_per_sm, device))
        return refuse(why, "more threads than a multiprocessor holds");
    int64_t each = 65536 / (s->block * blocks) & ~7;
    if (registers(s) > (each < 248 ? each : 248))
        return refuse(why, "no registers for what is in flight");
    return true;
}

/* Points that differ little from others, or never win: in few forms, or not at all. */
static bool kept(const struct shape *s, const char **why) {
    int64_t words = s->staging == REGISTERS ? s->chunks : s->unroll;
    if (s->vector_bytes < 16)
        return (s->rows == 1 && !s->load_hint && !s->blocks_per_sm &&
                (s->block == 128 || s->row_threads == 512) && s->depth <= 2 && s->unroll <= 2) ||
               refuse(why, "narrow vectors are kept in their plain form only");
    if (s->batch >= 4 && s->lines == 1)
        return refuse(why, "activations of many sequences are read for several rows at once");
    if (s->batch == 1 && s->lines * words * s->depth < 4 && s->chunks >= 4)
        return refuse(why, "under 64 bytes in flight a thread keep no memory busy");
    if (s->load_hint != 2 && (s->staging != SHARED_FLOATS || s->depth != 2 || s->block != 256 ||
                              s->rows > 2 || (s->blocks_per_sm != 0 && s->blocks_per_sm != 2)))
        return refuse(why, "loads that stay in L1 are kept in few forms");
    if (s->row_threads < 32 && (s->blocks_per_sm || s->block > 256 || s->staging == REGISTERS))
        return refuse(why, "part of a warp a row is kept for blocks that end with their rows");
    if (s->staging == SHARED_ELEMENTS && (s->row_threads < 32 || s->block < 128))
        return refuse(why, "activations as elements are kept for whole warps and larger blocks");
    if (s->staging == FROM_L2 && (s->blocks_per_sm > 2 || s->depth > 2))
        return refuse(why, "activations from L2 are kept for few blocks and stages");
    if (s->staging != REGISTERS && s->unroll == 1 && s->chunks >= 4 &&
        (s->depth < 4 || s->lines == 1))
        return refuse(why, "a vector a stage is kept for several rows and deep");
    if (s->depth == 3 && s->staging != REGISTERS && s->unroll < 4)
        return refuse(why, "three stages in flight are kept for long ones");
    return true;
}

/* Grids that stay: of so many threads that memory is busy, and not of too many blocks. */
static bool grid_kept(const struct shape *s, const char **why) {
    if (s->blocks_per_sm && s->block * s->blocks_per_sm < 256)
        return refuse(why, "too few threads a multiprocessor to keep the memory busy");
    if (s->blocks_per_sm && s->depth == 1)
        return refuse(why, "a grid that stays has the next rows in flight");
    if ((s->blocks_per_sm == 3 && s->block != 256) || (s->blocks_per_sm == 8 && s->block != 64) ||
        s->blocks_per_sm * s->block > 1024)
        return refuse(why, "grids that stay are kept up to 1024 threads a multiprocessor");
    return true;
}

bool gemv_legal(const struct gemv_form *form, const struct problem *p, const struct point *t,
                const struct device_info *device, const char **why) {
    struct shape s = shape_of(form, p, t);
    if (!s.vector) return refuse(why, "a vector is shorter than an element");
    if (s.inputs % s.vector) return refuse(why, "inputs is no multiple of the vector");
    bool possible = tensor_possible(form, p, device, s.tensor ? why : NULL);
    if (s.tensor) return possible && tensor_legal(form, &s, why) && resident(&s, device, why);
    int64_t room = s.batch * (s.inputs * 2 + 64) + (16 << 10); /* as elements, and the sums */
    if (possible && s.batch > 4 && (!form->norm || room <= device->shared_per_block))
        return refuse(why, "so many sequences are for tensor cores");
    if (form->norm && s.staging == SHARED_ELEMENTS)
        return refuse(why, "what is normed is staged as floats");
    if (p->dtype == DTYPE_F32 && s.staging == SHARED_ELEMENTS)
        return refuse(why, "fp32 is staged as floats either way");
    return team_legal(&s, why) && stage_legal(&s, why) && kept(&s, why) && grid_kept(&s, why) &&
           resident(&s, device, why);
}

struct plan gemv_plan(const struct gemv_form *form, const char *entry, const struct problem *p,
                      const struct point *t, const struct device_info *device) {
    struct shape s = shape_of(form, p, t);
    int64_t height = s.block / s.row_threads * s.rows * (s.tensor ? 8 : 1);
    int64_t groups = (p->size[form->outputs] + height - 1) / height;
    return (struct plan){.stages = 1,
                         .stage = {{.entry = entry,
                                    .grid = {grid_blocks(groups, s.blocks_per_sm, device), 1, 1},
                                    .block = {(unsigned)s.block, 1, 1},
                                    .shared_bytes = (unsigned)staged_bytes(&s)}}};
}

/* A tensor core adds 16 products to a sum with an error of a few of the sum's last bits: 4 are
 * allowed each time, of as many times as a thread has words, and the steps of putting warps
 * together. What is normed was rounded to the element before. */
double gemv_more(const struct gemv_form *form, const struct problem *p, const struct point *t) {
    struct shape s = shape_of(form, p, t);
    if (!s.tensor) return 0;
    return 4.0 * (double)s.chunks + (form->norm ? dtype_roundoff(p->dtype) * 0x1p24 : 0);
}

struct gemv_dot gemv_dot(const struct problem *p, int64_t inputs, enum dtype x_dtype, const void *x,
                         int64_t x_row, const void *weight, int64_t weight_row, const void *norm) {
    struct gemv_dot dot = {0, 0};
    for (int64_t k = 0; k < inputs; k++) {
        double term = dtype_load(x_dtype, x, x_row * inputs + k) *
                      dtype_load(p->dtype, weight, weight_row * inputs + k);
        if (norm) term *= dtype_load(p->dtype, norm, k);
        dot.sum += term, dot.magnitude += fabs(term);
    }
    return dot;
}

double gemv_scale(const void *x, int64_t row, int64_t inputs, double eps) {
    double sum = 0;
    for (int64_t k = 0; k < inputs; k++) {
        double v = dtype_load(DTYPE_F32, x, row * inputs + k);
        sum += v * v;
    }
    return 1 / sqrt(sum / (double)inputs + (double)(float)eps);
}
