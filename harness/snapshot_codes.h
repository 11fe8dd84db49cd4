/* snapshot_codes.h - the facts of a kernel that are exact without a GPU: what snapshots compare.
 *
 * A code is {"kernel", "dtype", "sizes", "signature", "sm_75", "sm_90", "cpu"}: a kernel with its
 * compiled sizes, what NVRTC makes of the points (absent without NVRTC), and
 * {"problem", "barriers", "exchanges", "global_bytes", "global_sectors"} of the built-in default on
 * the CPU device (absent where no point is legal there). The counts are the same on every machine.
 */
#ifndef FASTINFER_SNAPSHOT_CODES_H
#define FASTINFER_SNAPSHOT_CODES_H

#include <jansson.h>

#include "runtime/kernel.h"

enum { SNAPSHOT_ARCHS = 2 };
extern const int snapshot_archs[SNAPSHOT_ARCHS]; /* 75, 90 */

/* The codes of a kernel's standard problems in fp16, one for each value of the compiled sizes.
 * points: for each standard problem an array with the point for each of snapshot_archs, as text.
 * *out is the caller's. Fails where a point does not compile. */
enum status snapshot_codes(const struct kernel *kernel, const json_t *points, json_t **out);

/* A relative of `problem` that the emulation counts in about a second: few rows and outputs and
 * short contexts; what is compiled stays, but for whole models' widths. */
struct problem snapshot_small(const struct kernel *kernel, const struct problem *problem);

#endif
