/* swiglu.c - the spec of swiglu.cu: what can be tuned, what is legal, what is right. */
#include <math.h>

#include "kernels/shapes.h"

enum { ROWS, WIDTH, PACKED };
enum { Y, GATE, UP };
enum { BLOCK, VECTOR_BYTES, UNROLL, BLOCKS_PER_SM, LOAD_HINT, STORE_HINT, MATH };

static const struct size sizes[] = {
    [ROWS] = {"rows", "tokens", false, 4096, 1, INT64_C(1) << 31},
    [WIDTH] = {"width", "intermediate width", true, 8192, 1, 1 << 20},
    [PACKED] = {"packed", "1: gate and up side by side in each row of one array", true, 0, 0, 1},
};

static const struct tunable tunables[] = {
    [BLOCK] = {"block", "threads of a block", values_block, COUNT(values_block), 256},
    [VECTOR_BYTES] = {"vector_bytes", "bytes a load moves", values_vector_bytes,
                      COUNT(values_vector_bytes), 16},
    [UNROLL] = {"unroll", "vectors of gate and of up in flight a thread", values_1248,
                COUNT(values_1248), 2},
    [BLOCKS_PER_SM] = {"blocks_per_sm", "0: a block a chunk; n: a persistent grid",
                       values_blocks_per_sm, COUNT(values_blocks_per_sm), 0},
    [LOAD_HINT] = {"load_hint", "0 plain, 1 streaming, 2 not kept in L1", values_012,
                   COUNT(values_012), 0},
    [STORE_HINT] = {"store_hint", "0 plain, 1 streaming", values_bool, COUNT(values_bool), 0},
    [MATH] = {"math", "0 hardware exp2 and reciprocal, 1 expf and division", values_bool,
              COUNT(values_bool), 0},
};

static const struct argument arguments[] = {
    [Y] = {"y", "(rows, width), row-major", ROLE_OUT, DTYPE_COUNT, FILL_NORMAL, false},
    [GATE] = {"gate", "(rows, width), or (rows, 2 width) where packed", ROLE_IN, DTYPE_COUNT,
              FILL_NORMAL, false},
    [UP] = {"up", "(rows, width), or nothing where packed", ROLE_IN, DTYPE_COUNT, FILL_NORMAL,
            false},
};

#define ROWS_OF(width)                                                                             \
    {{1, width}, {0}, DTYPE_F16}, {{2, width}, {0}, DTYPE_F16}, {{4, width}, {0}, DTYPE_F16},      \
        {{8, width}, {0}, DTYPE_F16}, {{16, width}, {0}, DTYPE_F16},                               \
        {{64, width}, {0}, DTYPE_F16}, {{512, width}, {0}, DTYPE_F16},                             \
        {{4096, width}, {0}, DTYPE_F16}, {                                                         \
        {16384, width}, {0}, DTYPE_F16                                                             \
    }
static const struct problem problems[] = {
    ROWS_OF(8192), ROWS_OF(11008), {{4096, 8192, 1}, {0}, DTYPE_F16}};

static int64_t elements(const struct problem *p, int index) {
    int64_t n = p->size[ROWS] * p->size[WIDTH];
    if (!p->size[PACKED] || index == Y) return n;
    return index == GATE ? 2 * n : 0;
}

static bool legal(const struct problem *p, const struct point *t, const struct device_info *device,
                  const char **why) {
    const int *v = t->value;
    int element = (int)dtype_bytes(p->dtype), bytes = v[VECTOR_BYTES];
    if (bytes < element) return refuse(why, "a vector is shorter than an element");
    if (p->size[PACKED] && p->size[WIDTH] % (bytes / element))
        return refuse(why, "packed, and width is no multiple of the vector");
    if (bytes < 8 && (v[BLOCKS_PER_SM] || v[LOAD_HINT] || v[STORE_HINT] || v[MATH]))
        return refuse(why, "narrow vectors are kept in their plain form only");
    if (bytes == 8 && (v[LOAD_HINT] == 2 || v[LOAD_HINT] != v[STORE_HINT] || v[MATH]))
        return refuse(why, "8-byte vectors stream both ways or neither, with the fast formula");
    if (v[UNROLL] * bytes > 32 && v[BLOCK] * v[UNROLL] * bytes > 32768)
        return refuse(why, "over 32 KiB of each input in flight a block: no registers for it");
    if (v[BLOCK] & (v[BLOCK] - 1) && v[BLOCKS_PER_SM])
        return refuse(why, "persistent grids have blocks of a power of two");
    if (v[BLOCKS_PER_SM] && v[BLOCK] * v[BLOCKS_PER_SM] < 256)
        return refuse(why, "too few threads a multiprocessor to keep the memory busy");
    if (v[MATH] && (v[LOAD_HINT] != v[STORE_HINT] || v[LOAD_HINT] == 2 || v[BLOCKS_PER_SM] > 2))
        return refuse(why, "the slower formula is kept in its plain forms only");
    if (!grid_fits(v[BLOCK], v[BLOCKS_PER_SM], device))
        return refuse(why, "more threads than a multiprocessor holds");
    return true;
}

static struct plan plan(const struct problem *p, const struct point *t,
                        const struct device_info *device) {
    const int *v = t->value;
    int64_t vectors =
        p->size[ROWS] * p->size[WIDTH] / (v[VECTOR_BYTES] / (int)dtype_bytes(p->dtype));
    int64_t chunk = (int64_t)v[BLOCK] * v[UNROLL];
    return (struct plan){
        .stages = 1,
        .stage = {
            {.entry = "swiglu",
             .grid = {grid_blocks((vectors + chunk - 1) / chunk, v[BLOCKS_PER_SM], device), 1, 1},
             .block = {(unsigned)v[BLOCK], 1, 1}}}};
}

static struct cost cost(const struct problem *p) {
    double n = (double)p->size[ROWS] * (double)p->size[WIDTH];
    double bytes = (double)dtype_bytes(p->dtype);
    return (struct cost){.read_bytes = 2 * n * bytes, .write_bytes = n * bytes, .flops = 5 * n};
}

static int64_t outer(const struct problem *p) { return p->size[ROWS]; }

static void reference(const struct problem *p, const void *const *before, double *const *want,
                      double *const *magnitude, int64_t first, int64_t last) {
    int64_t width = p->size[WIDTH];
    for (int64_t r = first; r < last; r++)
        for (int64_t c = 0; c < width; c++) {
            int64_t i = r * width + c, packed = 2 * r * width + c;
            double g = dtype_load(p->dtype, before[GATE], p->size[PACKED] ? packed : i);
            double u = p->size[PACKED] ? dtype_load(p->dtype, before[GATE], packed + width)
                                       : dtype_load(p->dtype, before[UP], i);
            want[Y][i] = g / (1 + exp(-g)) * u;
            magnitude[Y][i] = fabs(want[Y][i]);
        }
}

const struct kernel kernel_swiglu = {
    .name = "swiglu",
    .summary = "y = silu(gate) * up",
    .source = "kernels/swiglu/swiglu.cu",
    .sizes = sizes,
    .size_count = COUNT(sizes),
    .tunables = tunables,
    .tunable_count = COUNT(tunables),
    .arguments = arguments,
    .argument_count = COUNT(arguments),
    .dtypes = DTYPES_FLOAT,
    .problems = problems,
    .problem_count = COUNT(problems),
    .bound = {224, "the hardware's exp(-|g|) is off by 2 + 1.16 |g| ulp (CUDA C Programming Guide, "
                   "intrinsics), 104 ulp = 208 u32 at |g| = 88, past which silu vanishes; sum, "
                   "quotient and products add 8 u32"},
    .elements = elements,
    .legal = legal,
    .plan = plan,
    .cost = cost,
    .reference = reference,
    .outer = outer,
};
