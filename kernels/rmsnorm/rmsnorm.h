/* rmsnorm.h - what rmsnorm and add_rmsnorm share: the same rows, tunables and rules. */
#ifndef KERNELS_RMSNORM_H
#define KERNELS_RMSNORM_H

#include "runtime/device.h"

enum { RMSNORM_ROWS, RMSNORM_HIDDEN, RMSNORM_SIZES };
enum { RMSNORM_BULK = 9, RMSNORM_TUNABLES = 12, RMSNORM_PROBLEMS = 27 };
extern const struct size rmsnorm_sizes[RMSNORM_SIZES];
extern const struct real rmsnorm_reals[1]; /* eps */
extern const struct tunable rmsnorm_tunables[RMSNORM_TUNABLES];
extern const struct problem rmsnorm_problems[RMSNORM_PROBLEMS];

bool rmsnorm_legal(const struct problem *problem, const struct point *point,
                   const struct device_info *device, const char **why);
/* One launch of `entry`: a block, or a persistent grid, over groups of rows. */
struct plan rmsnorm_plan(const char *entry, const struct problem *problem,
                         const struct point *point, const struct device_info *device);
int64_t rmsnorm_outer(const struct problem *problem);

#endif
