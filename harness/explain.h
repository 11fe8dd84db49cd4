/* explain.h - what the time of a space's points hangs on: the effect of each tunable, and the pair
 * that works together most.
 *
 * Shares are of the variance of ln(time) over the points that worked, and are epsilon squared: what
 * a fit explains, less what as many values would explain by chance, never under 0. NAN where there
 * are too few points to say.
 */
#ifndef FASTINFER_EXPLAIN_H
#define FASTINFER_EXPLAIN_H

#include "runtime/kernel.h"

enum { EXPLAIN_LEVELS = 32 };

struct explain_sample { /* a point that was tried */
    struct point point;
    enum status status;
    double ns; /* where the status is STATUS_OK */
};

struct explain_level { /* points with one value, or with one value each of two tunables */
    int value;
    int points, worked, failed[STATUS_COUNT]; /* points: with those that failed */
    double median_ns, best_ns;                /* NAN where none worked */
};

struct explain_effect {
    int tunable; /* index in the kernel */
    int levels;  /* values that were tried */
    struct explain_level level[EXPLAIN_LEVELS];
    double alone;  /* share that this tunable's values explain by themselves */
    double beyond; /* share that all tunables' main effects lose without this one */
    double worst;  /* the best time with the worst value over the best time; NAN: none worked */
};

struct explain_pair {
    int a, b;     /* tunables; -1 where there are too few points to say */
    double share; /* what their pairs of values explain beyond all main effects */
};

struct explanation {
    int points, worked, best; /* best: index of the fastest sample, -1 where none worked */
    int rank;                 /* numbers that all main effects take to write down */
    double additive;          /* share that all main effects explain together */
    int effects;              /* one a tunable: the strongest alone first */
    struct explain_effect effect[MAX_TUNABLES];
    struct explain_pair pair;
};

/* STATUS_ARGUMENT where a tunable has more than EXPLAIN_LEVELS values. */
enum status explain_space(const struct kernel *kernel, const struct explain_sample *samples,
                          int count, struct explanation *out);

/* The points with value va of tunable a and vb of tunable b; b = -1: of a alone. */
enum status explain_cell(const struct explain_sample *samples, int count, int a, int va, int b,
                         int vb, struct explain_level *out);

#endif
