/* replay.h - a search strategy against a space in which every point was measured before.
 *
 * Spaces are files of the tuning community's T4 format: JSON, plain or gzipped. Looking a time up
 * takes no time, so a strategy can be run often enough to say how good it is, without a device.
 */
#ifndef FASTINFER_REPLAY_H
#define FASTINFER_REPLAY_H

#include "harness/strategy/strategy.h"

struct replay_space {
    char name[128]; /* the file's, without folder and ending */
    struct search_space search;
    double *ms; /* by point; SEARCH_FAILED where it was not correct */
    int worked;
    double best, median, worst; /* of those that worked, ms */
    int cutoff;                 /* evaluations at which random search's expected best comes within
                                   5% of the way from the best to the median */
};

enum status replay_load(const char *path, struct replay_space *out);
/* A space from memory, for tests; copies everything. Fails where no point worked. */
enum status replay_make(const char *name, int dims, const int *counts, int points, const int *index,
                        const double *ms, struct replay_space *out);
void replay_free(struct replay_space *space);

/* random[t - 1]: the mean best of t = 1 .. count points drawn without replacement. While none of
 * them worked, the best counts as the worst that does. Exact, not simulated. */
enum status replay_random(const struct replay_space *space, int count, double *random);

struct replay_options {
    const struct strategy *strategy;
    const double *parameters; /* NULL: the defaults */
    int repeats, budget;      /* budget 0: the space's cutoff */
    uint64_t seed;
};
struct replay_result {
    int budget;
    double p, p_error; /* the score, and its standard error over the repeats */
    double within_1,
        within_5;   /* share of repeats whose last best is so many percent over the best */
    double seconds; /* the strategy's own, an evaluation */
    double *mean;   /* [budget]: the mean best so far, ms */
    double *random; /* [budget] */
};
enum status replay_run(const struct replay_space *space, const struct replay_options *options,
                       struct replay_result *out);
void replay_result_free(struct replay_result *result);

#endif
