/* config.h - which point runs: configs/<device>.json, else configs/sm_<arch>.json, else the
 * built-in default.
 *
 * {"device": "NVIDIA H200", "slug": "nvidia-h200", "measured": true, "commit": "...",
 *  "date": "...", "entries": [{"kernel": "rmsnorm", "dtype": "fp16", "policy": "cold,stream",
 *  "problem": "rows=4096,hidden=3072", "point": "block=128,...", "median_us": 13.9,
 *  "percent_of_ceiling": 97.1}, ...]}
 */
#ifndef FASTINFER_CONFIG_H
#define FASTINFER_CONFIG_H

#include "runtime/device.h"

struct config; /* the entries of one file, or none */

/* Finds and reads the file for a device. A malformed file is said aloud on stderr as
 * "file:line: what, what was expected" and passed over for the next in the chain. Always gives a
 * config; config_origin() says which. `folder` NULL: $FASTINFER_CONFIGS, else ./configs, else the
 * source tree's. */
enum status config_open(const char *folder, const struct device_info *device, struct config **out);
void config_close(struct config *config);
/* "configs/nvidia-h200.json" or "built-in default". */
const char *config_origin(const struct config *config);

/* The point for a problem: of the entries of that kernel, dtype and policy (else of any policy)
 * whose compiled sizes agree, the one nearest in its other sizes (by the sum of |log ratio|) that
 * is legal here. False: there is none, and *out is the built-in default. */
bool config_point(const struct config *config, const struct kernel *kernel,
                  const struct problem *problem, struct policy policy,
                  const struct device_info *device, struct point *out);

/* How far a problem is from another's entry: the sum of |log ratio| over the sizes that are not
 * compiled; INFINITY where a compiled one differs. */
double config_distance(const struct kernel *kernel, const struct problem *a,
                       const struct problem *b);

#endif
