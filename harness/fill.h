/* fill.h - inputs from a seed: the host's twin of kernels/support/support.cu's `fill`. */
#ifndef FASTINFER_FILL_H
#define FASTINFER_FILL_H

#include "runtime/kernel.h"

/* Writes elements first..last-1 of the array that starts at `out`; each depends on (seed, index)
 * alone. FILL_NORMAL, FILL_WEIGHT and FILL_MATRIX: fp16, bf16 or fp32. FILL_BITS: an element is a
 * byte, whatever the dtype. FILL_KERNEL is kernel.input()'s business and writes nothing here. */
void fill_host(void *out, int64_t first, int64_t last, enum dtype dtype, enum fill fill,
               uint64_t seed);

#endif
