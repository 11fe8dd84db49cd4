/* scale2.c - how to add a kernel, in two files: this one says what there is to know about it,
 * scale2.cu beside it does the work.
 *
 *   fastinfer bench scale2 --kernels tests/outside
 *
 * takes every DIR/<op>/<op>.c, compiles it with the host's C compiler and looks for
 * `const struct kernel kernel_<op>`. In the tree the same two files lie in kernels/<op>/ and
 * kernels/registry.c has one more line. Nothing else has to know: compiling, verifying, timing,
 * tuning and drawing read all they need from here. The fields are explained in runtime/kernel.h.
 */
#include <math.h>

#include "kernels/shapes.h" /* COUNT, refuse, grid_blocks, and the values of common tunables */

/* Names for what is otherwise a number, each in the order of its table below. */
enum { ELEMENTS };
enum { Y, X };
enum { BLOCK, VECTOR_BYTES, BLOCKS_PER_SM };

/* The dimensions of the problem: name, help, compiled in or not, default, least, most. One that is
 * compiled in becomes a macro in the .cu; this one arrives at the entry as a 64-bit integer. */
static const struct size sizes[] = {
    [ELEMENTS] = {"elements", "how many numbers", false, 1 << 24, 1, INT64_C(1) << 34},
};

/* The knobs: name, help, values, how many, built-in default. Each becomes a macro in the .cu. */
static const struct tunable tunables[] = {
    [BLOCK] = {"block", "threads of a block", values_block, COUNT(values_block), 256},
    [VECTOR_BYTES] = {"vector_bytes", "bytes a load moves", values_vector_bytes,
                      COUNT(values_vector_bytes), 16},
    [BLOCKS_PER_SM] = {"blocks_per_sm", "0: a thread a vector; n: a persistent grid",
                       values_blocks_per_sm, COUNT(values_blocks_per_sm), 0},
};

/* The buffers, in the order of the entry's parameters. DTYPE_COUNT: the problem's own dtype. */
static const struct argument arguments[] = {
    [Y] = {"y", "(elements)", ROLE_OUT, DTYPE_COUNT, FILL_NORMAL, false},
    [X] = {"x", "(elements)", ROLE_IN, DTYPE_COUNT, FILL_NORMAL, false},
};

/* What is measured when nobody asks for anything else. */
static const struct problem problems[] = {{{1 << 16}, {0}, DTYPE_F16}, {{1 << 24}, {0}, DTYPE_F16}};

static int64_t elements(const struct problem *p, int index) {
    (void)index; /* both buffers are as long */
    return p->size[ELEMENTS];
}

/* Which points make sense: keeps the space small, and says why a point is not in it. */
static bool legal(const struct problem *p, const struct point *t, const struct device_info *device,
                  const char **why) {
    if (t->value[VECTOR_BYTES] < (int)dtype_bytes(p->dtype))
        return refuse(why, "a vector is shorter than an element");
    if (!grid_fits(t->value[BLOCK], t->value[BLOCKS_PER_SM], device))
        return refuse(why, "more threads than a multiprocessor holds");
    return true;
}

/* How a point is launched. There is always a block 0, even where no whole vector is left. */
static struct plan plan(const struct problem *p, const struct point *t,
                        const struct device_info *device) {
    int64_t vector = t->value[VECTOR_BYTES] / (int)dtype_bytes(p->dtype);
    int64_t blocks = (p->size[ELEMENTS] / vector + t->value[BLOCK] - 1) / t->value[BLOCK];
    return (struct plan){
        .stages = 1,
        .stage = {{.entry = "scale2",
                   .grid = {grid_blocks(blocks, t->value[BLOCKS_PER_SM], device), 1, 1},
                   .block = {(unsigned)t->value[BLOCK], 1, 1}}}};
}

/* The least that must happen, for GB/s and the ceiling. */
static struct cost cost(const struct problem *p) {
    double bytes = (double)p->size[ELEMENTS] * (double)dtype_bytes(p->dtype);
    return (struct cost){bytes, bytes, (double)p->size[ELEMENTS]};
}

/* What is right, in fp64: want[i] and the sum of the absolute values of the terms behind it. The
 * harness splits first..last of `outer` over its threads. */
static int64_t outer(const struct problem *p) { return p->size[ELEMENTS]; }

static void reference(const struct problem *p, const void *const *before, double *const *want,
                      double *const *magnitude, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++) {
        want[Y][i] = 2 * dtype_load(p->dtype, before[X], i);
        magnitude[Y][i] = fabs(want[Y][i]);
    }
}

const struct kernel kernel_scale2 = {
    .name = "scale2",
    .summary = "y = 2 x",
    .source = "scale2.cu", /* from outside: the .cu beside this file, whatever is written here */
    .sizes = sizes,
    .size_count = COUNT(sizes),
    .tunables = tunables,
    .tunable_count = COUNT(tunables),
    .arguments = arguments,
    .argument_count = COUNT(arguments),
    .dtypes = DTYPES_FLOAT,
    .problems = problems,
    .problem_count = COUNT(problems),
    .bound = {0, "doubling is exact, short of overflow"},
    .elements = elements,
    .legal = legal,
    .plan = plan,
    .cost = cost,
    .reference = reference,
    .outer = outer,
};
