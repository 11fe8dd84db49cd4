/* counters.h - hardware counters of a piece of work, by CUPTI's range profiler.
 *
 * Never during timing: enabling the profiler slows launches down. A worker that counts is one
 * without PyTorch, whose own profiler brings a CUPTI along.
 */
#ifndef FASTINFER_COUNTERS_H
#define FASTINFER_COUNTERS_H

#include "runtime/device.h"

enum { MAX_COUNTERS = 32 };
struct counter {
    char name[96]; /* CUPTI's: "dram__bytes_read.sum" */
    double value;  /* NAN where the chip has no such metric */
};
struct counter_set {
    int count;
    struct counter counter[MAX_COUNTERS];
};

/* "off" (none), "basic", "full", or METRIC,METRIC,... STATUS_ARGUMENT where it is none of these. */
enum status counters_parse(const char *text, struct counter_set *out);

struct counters;
/* Prepares to count `wanted` in the context of the device, a CUDA device. STATUS_MISSING with what
 * to do where CUPTI is absent, too old, or the driver denies counters. */
enum status counters_open(struct device *device, const struct counter_set *wanted,
                          struct counters **out);
/* Runs prepare (outside the range; or NULL) and work (within) as often as the counters need passes
 * and writes the values; *out has the names of `wanted`. */
enum status counters_read(struct counters *counters, void *context,
                          enum status (*prepare)(void *context), enum status (*work)(void *context),
                          struct counter_set *out);
void counters_close(struct counters *counters);

#endif
