/* tune_plan.h - how much work a tuning is, before it begins. */
#ifndef FASTINFER_TUNE_PLAN_H
#define FASTINFER_TUNE_PLAN_H

#include "harness/tune.h"

struct tune_work { /* of a kernel, or of all */
    char kernel[32];
    int problems, between, ceilings, chains;
    int smallest, largest; /* legal points of a problem */
    int evaluations;       /* of all problems, at most; the tables' included */
    int compilations;      /* binaries, at most */
};

/* No device is needed: bench_options.device is not opened, `device` describes it. `work` has a row
 * a kernel in the order in which they are tuned, then the sum. count: rows, at most `capacity`. */
enum status tune_plan_work(const struct bench_options *bench, const struct tune_options *options,
                           const struct device_info *device, struct tune_work *work, int capacity,
                           int *count);

/* The most evaluations that a cell's search may take: of a space of so many points. */
int tune_budget(const struct bench_options *bench, const struct tune_options *options,
                const struct cell *cell, int points);

#endif
