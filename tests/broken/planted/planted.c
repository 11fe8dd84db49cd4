/* planted.c - the spec of planted.cu: one kernel whose only tunable is the mistake in it. */
#include <math.h>

#include "kernels/shapes.h"

enum { ROWS, COLS };
enum { Y, X };

static const struct size sizes[] = {
    [ROWS] = {"rows", "rows", false, 5, 1, 1 << 20},
    [COLS] = {"cols", "columns", false, 77, 1, 1 << 20},
};

static const int mistakes[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static const struct tunable tunables[] = {
    {"mistake", "0 none; the others are listed in planted.cu", mistakes, COUNT(mistakes), 0},
};

static const struct argument arguments[] = {
    [Y] = {"y", "(rows, cols), row-major", ROLE_OUT, DTYPE_COUNT, FILL_NORMAL, false},
    [X] = {"x", "(rows, cols), row-major", ROLE_IN, DTYPE_COUNT, FILL_NORMAL, false},
};

static const struct problem problems[] = {{{5, 77}, {0}, DTYPE_F16}};

static int64_t elements(const struct problem *p, int index) {
    (void)index;
    return p->size[ROWS] * p->size[COLS];
}

static bool legal(const struct problem *p, const struct point *t, const struct device_info *device,
                  const char **why) {
    (void)p, (void)t, (void)device, (void)why;
    return true;
}

static struct plan plan(const struct problem *p, const struct point *t,
                        const struct device_info *device) {
    (void)t, (void)device;
    return (struct plan){
        .stages = 1,
        .stage = {
            {.entry = "planted", .grid = {(unsigned)p->size[ROWS], 1, 1}, .block = {128, 1, 1}}}};
}

static struct cost cost(const struct problem *p) {
    double bytes = (double)elements(p, X) * (double)dtype_bytes(p->dtype);
    return (struct cost){bytes, bytes, 3 * (double)elements(p, X)};
}

static int64_t outer(const struct problem *p) { return p->size[ROWS]; }

static void reference(const struct problem *p, const void *const *before, double *const *want,
                      double *const *magnitude, int64_t first, int64_t last) {
    int64_t cols = p->size[COLS];
    for (int64_t r = first; r < last; r++) {
        double sum = 0;
        for (int64_t c = 0; c < cols; c++)
            sum += pow(dtype_load(p->dtype, before[X], r * cols + c), 2);
        for (int64_t c = 0; c < cols; c++) {
            double x = dtype_load(p->dtype, before[X], r * cols + c);
            want[Y][r * cols + c] = x + sum / (double)cols;
            magnitude[Y][r * cols + c] = fabs(x) + sum / (double)cols;
        }
    }
}

const struct kernel kernel_planted = {
    .name = "planted",
    .summary = "y = x + mean(x^2), with a mistake",
    .source = "planted.cu",
    .sizes = sizes,
    .size_count = COUNT(sizes),
    .tunables = tunables,
    .tunable_count = COUNT(tunables),
    .arguments = arguments,
    .argument_count = COUNT(arguments),
    .dtypes = 1u << DTYPE_F16 | 1u << DTYPE_F32,
    .problems = problems,
    .problem_count = COUNT(problems),
    .bound = {256, "a thread adds up to 64 squares (8192 columns), then 128 threads' sums"},
    .elements = elements,
    .legal = legal,
    .plan = plan,
    .cost = cost,
    .reference = reference,
    .outer = outer,
};
