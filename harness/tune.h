/* tune.h - the fastest point of every kernel, shape and policy, found by searching whole spaces.
 *
 * A bench's scheduler (bench_work.h) does the compiling, verifying, timing and storing; this
 * chooses the points. Shapes that share binaries and policy form a chain: each starts with the
 * default, the configured point and what won on the shapes before it, then searches until its
 * leader is within 2% of its ceiling, or nothing better was found for long, or its budget is used
 * up. The leaders, the default and the ceiling then race in one contest, and the default stays
 * unless it is beaten by more than the interval of the ratio. At the end of a chain every winner is
 * tried on every shape, and the fewest of them that keep the regret low make the table
 * (dispatch.h).
 */
#ifndef FASTINFER_TUNE_H
#define FASTINFER_TUNE_H

#include "harness/bench.h"
#include "harness/strategy/strategy.h"

struct tune_options {
    const struct strategy *strategy;
    int evaluations; /* of a shape, at most; 0: a tenth of the space, between 24 and 64 */
    double seconds;  /* no new point is searched for after so long; 0: no limit */
    bool exhaust;    /* every point, not stopping at the ceiling */
};

struct tune_outcome {
    struct bench_outcome bench;
    int shapes, evaluations, kept_defaults, at_ceiling;
    int points; /* distinct ones in all tables */
    double regret_mean, regret_worst, left_out_mean, left_out_worst; /* over all tables */
};

/* bench: device, kernels, problems, policies, seed, resume, db; baselines are not used. */
enum status tune_run(const struct bench_options *bench, const struct tune_options *options,
                     struct store *store, struct tune_outcome *out);

#endif
