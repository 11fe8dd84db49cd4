/* worker.h - the other end of pool.h: serves requests on file descriptor 3 until it is closed.
 *
 * Requests: {"op": "open", "device", "seed", "baseline"} (no answer of its own),
 * {"op": "describe"}, {"op": "compile", "kernel", "dtype", "problem", "arch", "points"},
 * {"op": "evaluate", "kernel", "dtype", "problem", "policy", "point", "limits"},
 * {"op": "codes", "kernel", "points"} (snapshot_codes.h),
 * {"op": "pair", "a", "b", "rounds", "planted"} (cells of snapshot.h),
 * {"op": "count", "kernel", "dtype", "problem", "policy", "point", "metrics"},
 * {"op": "contest", ..., "points": [[name, point], ...], "baselines"}, {"op": "ceilings"}.
 */
#ifndef FASTINFER_WORKER_H
#define FASTINFER_WORKER_H

#include "harness/record.h"

/* The exit code of the process. */
int worker_main(void);

/* What a pool opens its workers with; the caller frees it. baseline: with PyTorch, once it is
 * needed. */
char *worker_open_request(uint64_t seed, bool baseline);
json_t *limits_to_json(const struct limits *limits);
json_t *info_to_json(const struct device_info *info);
void info_from_json(const json_t *json, struct device_info *out);

#endif
