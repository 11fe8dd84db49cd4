/* explain_read.h - from the database: which problem to explain, its points, its contenders. */
#ifndef FASTINFER_EXPLAIN_READ_H
#define FASTINFER_EXPLAIN_READ_H

#include <jansson.h>

#include "harness/explain.h"
#include "harness/store.h"

struct explain_wish { /* NULL: any */
    const char *device_slug, *dtype, *problem, *residency, *launch;
};

/* What was chosen: one kernel, dtype, problem and policy on one device. */
struct explain_case {
    const struct kernel *kernel;
    char device[96], slug[96], kind[8], dtype[8], problem[MAX_TEXT], residency[16], launch[16];
    int points, others; /* others: how many more cases the wish would have allowed */
};

/* The case with the most points tried; a GPU's before an emulation's, then cold caches, then the
 * most bytes. out->points is 0 where nothing was measured. */
enum status explain_choose(struct store *store, const struct kernel *kernel,
                           const struct explain_wish *wish, struct explain_case *out);

/* The points tried, each once: its latest scan, or where it has none its latest contest. `strange`
 * counts points with names or values that the kernel no longer has; they are left out. The caller
 * frees *out. */
enum status explain_samples(struct store *store, const struct explain_case *which,
                            struct explain_sample **out, int *count, int *strange);

struct contenders {  /* rows of view `results` and more as objects; NULL where there is none */
    json_t *best;    /* of the latest contest, else of the scans, as in view `best` */
    json_t *runner;  /* the next that has other machine code */
    json_t *builtin; /* the built-in default, where it was timed */
};
/* Beside the columns of `results`: instructions, and counters, an array of {name, value, source}.
 * Registers, spills and shared memory are those of any build with this machine code that knows
 * them, else null. The caller frees with contenders_free(). */
enum status explain_contenders(struct store *store, const struct explain_case *which,
                               struct contenders *out);
void contenders_free(struct contenders *contenders);

/* Every problem of the case's kernel, dtype, device and policy, in the order in which its points
 * were first scanned; the chosen problem first, then those with the most points. A row:
 * kernel, dtype, problem, residency, launch, status, median_us, device, driver, commit, dirty,
 * date. */
enum status explain_order(struct store *store, const struct explain_case *which, void *context,
                          enum status (*row)(void *context, int columns, const char *const *names,
                                             const char *const *values));

#endif
