/* kernel.h - the contract in the middle: what a kernel says of itself, once, so that compiling,
 * verifying, measuring, tuning, drawing and the engine need to know nothing else about it.
 *
 * A kernel is two files, kernels/<op>/<op>.cu (device source, variants by macro) and
 * kernels/<op>/<op>.c (a `const struct kernel`), and one line in kernels/registry.c.
 */
#ifndef FASTINFER_KERNEL_H
#define FASTINFER_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/status.h"

enum {
    MAX_TUNABLES = 16,
    MAX_SIZES = 12,
    MAX_REALS = 8,
    MAX_ARGUMENTS = 12,
    MAX_STAGES = 4,
    MAX_TEXT = 512, /* a problem or point written out, with its final 0 */
};

enum dtype { DTYPE_F16, DTYPE_BF16, DTYPE_F32, DTYPE_I32, DTYPE_U8, DTYPE_COUNT };

/* A knob of the device source: becomes the macro NAME (upper case) when a point is compiled. */
struct tunable {
    const char *name, *help;
    const int *values; /* ascending; a point holds one of these values, not an index */
    int count;
    int fallback; /* the built-in default */
};

struct point {
    int value[MAX_TUNABLES]; /* the values themselves, in tunable order */
};

/* A dimension of the problem. A compiled one becomes the macro NAME (upper case) and costs a
 * compilation for each value; the others arrive at the entry as 64-bit integers. */
struct size {
    const char *name, *help;
    bool compiled;
    int64_t fallback, min, max;
};

/* A real parameter (an epsilon, a theta): a float at the entry. */
struct real {
    const char *name, *help;
    double fallback;
};

struct problem {
    int64_t size[MAX_SIZES]; /* in the order of kernel.sizes */
    double real[MAX_REALS];  /* in the order of kernel.reals */
    enum dtype dtype;
};

/* Which of the caches hold what when a launch begins, and how it is launched. Part of every key. */
enum residency {
    RESIDENCY_COLD,        /* nothing: caches were flushed by reading */
    RESIDENCY_HOT,         /* everything that fits: the same buffers launch after launch */
    RESIDENCY_WEIGHTS_COLD /* activations in L2, weights in DRAM, as in a decode step */
};
enum launch_kind { LAUNCH_STREAM, LAUNCH_GRAPH };
struct policy {
    enum residency residency;
    enum launch_kind launch;
};

/* The least that must happen. The ceiling is a tuned stream of the same bytes in the same mix. */
struct cost {
    double read_bytes, write_bytes, flops;
};

enum role { ROLE_IN, ROLE_OUT, ROLE_INOUT };
enum fill {
    FILL_NORMAL, /* about N(0,1) with magnitudes spread over 2^-3..2^3 */
    FILL_WEIGHT, /* 1 + 0.2 N(0,1): a norm's weight */
    FILL_BITS,   /* random bits, any pattern */
    FILL_KERNEL, /* kernel.input() writes it */
    FILL_MATRIX  /* 0.018 N(0,1): a weight matrix, as models begin with */
};

/* A buffer at the entry, in order: pointers first, then scratch if any, then the sizes that are
 * not compiled, then the reals. */
struct argument {
    const char *name, *shape; /* "(rows, hidden), row-major" */
    enum role role;
    enum dtype dtype; /* DTYPE_COUNT: the problem's own */
    enum fill fill;
    bool weight; /* a parameter of the model, as against an activation: weights_cold flushes it */
};

struct stage { /* one launch */
    const char *entry;
    unsigned grid[3], block[3];
    unsigned shared_bytes; /* dynamic */
    bool cooperative;
};
struct plan {
    struct stage stage[MAX_STAGES];
    int stages;
    size_t scratch_bytes;
    bool scratch_zeroed; /* before the first launch of a problem; from then on only its launches use
                            it */
};

/* |error| <= u_out |reference| + c u32 magnitude + floor, where magnitude is the sum of the
 * absolute values of the terms that make the result, u_out the unit roundoff of the output's
 * dtype, u32 = 2^-24, and floor half the smallest subnormal of the output's dtype. Integers are
 * exact: right is the reference, or, where fp32 cannot decide between two values, reference +
 * magnitude, the other one. */
struct bound {
    double c;
    const char *reason;
};

struct device_info;

struct kernel {
    const char *name, *summary;
    const char *source; /* path of the .cu from the tree's root, or an absolute path */
    const struct size *sizes;
    int size_count;
    const struct real *reals;
    int real_count;
    const struct tunable *tunables;
    int tunable_count;
    const struct argument *arguments;
    int argument_count;
    unsigned dtypes;                /* bit i: enum dtype i is supported */
    const struct problem *problems; /* the standard problems, dtype left at 0 */
    int problem_count;
    struct bound bound;
    int least_arch;  /* the oldest GPU that it runs on, 90 for sm_90; 0: any */
    bool host_check; /* its source has no `check`: problems of any size are compared on the host */

    /* Elements of argument `index`; 0 is allowed (the pointer is then NULL). */
    int64_t (*elements)(const struct problem *problem, int index);
    /* May this point run this problem on this device? With *why not NULL a refusal says why. */
    bool (*legal)(const struct problem *problem, const struct point *point,
                  const struct device_info *device, const char **why);
    struct plan (*plan)(const struct problem *problem, const struct point *point,
                        const struct device_info *device);
    struct cost (*cost)(const struct problem *problem);
    /* fp64, on the host. before[i]: argument i as it was given; for each output argument,
     * want[i] and magnitude[i] are arrays of elements(i) doubles to be written. An element that
     * the kernel must not touch has want = NaN. `first`/`last` bound the outermost index that
     * this call shall do, so that threads can share the work; see `outer`. */
    void (*reference)(const struct problem *problem, const void *const *before, double *const *want,
                      double *const *magnitude, int64_t first, int64_t last);
    int64_t (*outer)(const struct problem *problem);
    /* What a point is allowed beyond bound.c, where it rounds otherwise than most: NULL for none.
     */
    double (*bound_more)(const struct problem *problem, const struct point *point);
    /* Writes argument `index` with fill FILL_KERNEL into host memory. An even seed asks for
     * values as in use (what is timed: the positions of a prompt, say), an odd one for whatever
     * is legal, the more awkward the better (what is also verified). */
    void (*input)(const struct problem *problem, int index, uint64_t seed, void *host);
};

/* --- dtypes ------------------------------------------------------------------------------- */
size_t dtype_bytes(enum dtype dtype);
const char *dtype_name(enum dtype dtype); /* "fp16", "bf16", "fp32", "int32", "uint8" */
enum dtype dtype_parse(const char *text); /* DTYPE_COUNT when unknown */
double dtype_roundoff(enum dtype dtype);  /* u: half the distance from 1 to the next number */
double dtype_floor(enum dtype dtype);     /* half the smallest subnormal */
double dtype_load(enum dtype dtype, const void *array, int64_t index);
void dtype_store(enum dtype dtype, void *array, int64_t index, float value); /* to nearest even */
/* The same for `count` elements from `index` on; the array is aligned to its elements. */
void dtype_load_row(enum dtype dtype, const void *array, int64_t index, int64_t count, double *out);
void dtype_store_row(enum dtype dtype, void *array, int64_t index, int64_t count,
                     const float *value);
static inline enum dtype argument_dtype(const struct argument *a, const struct problem *p) {
    return a->dtype == DTYPE_COUNT ? p->dtype : a->dtype;
}

/* --- problems and points as text ------------------------------------------------------------ */
/* "rows=4096,hidden=3072"; reals only where they differ from the default. */
void problem_format(const struct kernel *kernel, const struct problem *problem, char *out);
void point_format(const struct kernel *kernel, const struct point *point, char *out);
/* What the text leaves out takes its default. An unknown name is answered with the nearest. */
enum status problem_parse(const struct kernel *kernel, const char *text, struct problem *out);
enum status point_parse(const struct kernel *kernel, const char *text, struct point *out);
struct problem problem_default(const struct kernel *kernel);
struct point point_default(const struct kernel *kernel);
int kernel_tunable(const struct kernel *kernel, const char *name); /* index, or -1 */
int kernel_size(const struct kernel *kernel, const char *name);    /* index, or -1 */

/* Checks a problem against sizes' ranges and that its buffers fit in `memory_bytes` (0: any). */
enum status problem_check(const struct kernel *kernel, const struct problem *problem,
                          double memory_bytes);
/* bound.c and what this point is allowed beyond it. */
double kernel_bound(const struct kernel *kernel, const struct problem *problem,
                    const struct point *point);
double problem_bytes(const struct kernel *kernel, const struct problem *problem);

const char *policy_text(struct policy policy); /* "cold,stream" */
enum status policy_parse(const char *text, struct policy *out);

/* --- the space -------------------------------------------------------------------------------- */
/* All legal points of a problem on a device, in lexicographic order. The caller frees *out. */
enum status space_enumerate(const struct kernel *kernel, const struct problem *problem,
                            const struct device_info *device, struct point **out, int *count);
/* `count` points spread over `space`: the default first (if legal there), then a seeded shuffle
 * in which every value of every tunable appears as early as possible. The caller frees *out. */
enum status space_sample(const struct kernel *kernel, const struct point *space, int space_count,
                         int count, uint64_t seed, struct point **out, int *out_count);
/* The built-in default for a problem: the kernel's, or where that is not legal the legal point
 * that shares the most values with it. STATUS_ARGUMENT when no point is legal. */
enum status space_default(const struct kernel *kernel, const struct problem *problem,
                          const struct device_info *device, struct point *out);
bool problem_equal(const struct problem *a, const struct problem *b);
/* Are the sizes that are compiled the same? Of one dtype, such problems have a point's code in
 * common. */
bool problem_same_compiled(const struct kernel *kernel, const struct problem *a,
                           const struct problem *b);
bool point_equal(const struct kernel *kernel, const struct point *a, const struct point *b);

/* The nearest of `names` to `word` by edit distance, for "did you mean"; NULL if none is near. */
const char *nearest_name(const char *word, const char *const *names, int count);

#endif
