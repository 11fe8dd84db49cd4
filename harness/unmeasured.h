/* unmeasured.h - a file of configs/ for a GPU that nobody has timed anything on: what compiling
 * alone can say. It holds no times, and says "measured": false. */
#ifndef HARNESS_UNMEASURED_H
#define HARNESS_UNMEASURED_H

#include <jansson.h>

#include "runtime/compile.h"

/* The legal point nearest to the built-in default (fewest other values, then fewest steps in their
 * lists) that compiles for the device without spilling and of which blocks can be resident: one on
 * a multiprocessor, or all of a cooperative grid. STATUS_ARGUMENT where there is none. */
enum status unmeasured_point(const struct kernel *kernel, const struct problem *problem,
                             const struct device_info *device, struct point *out,
                             struct build *build);
/* The whole file: every kernel, its standard problems, fp16, weights_cold,graph and cold,stream.
 * *moved: entries whose point is not the default. The caller drops *out. */
enum status unmeasured_file(const struct device_info *device, json_t **out, int *moved);

#endif
