/* shapes.h - what the specs share: the values of common tunables, geometry, and standard rows. */
#ifndef KERNELS_SHAPES_H
#define KERNELS_SHAPES_H

#include "runtime/device.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

extern const int values_block[10];        /* 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024 */
extern const int values_vector_bytes[4];  /* 2, 4, 8, 16 */
extern const int values_blocks_per_sm[6]; /* 0, 1, 2, 4, 8, 16 */
extern const int values_bool[2];          /* 0, 1 */
extern const int values_1248[4];          /* 1, 2, 4, 8 */
extern const int values_012[3];           /* 0, 1, 2 */

enum { DTYPES_FLOAT = 1u << DTYPE_F16 | 1u << DTYPE_BF16 | 1u << DTYPE_F32 };

/* Says why a point is not legal, where the caller asked, and returns false. */
static inline bool refuse(const char **why, const char *reason) {
    if (why) *why = reason;
    return false;
}

/* Blocks of a grid over `work` units: all at once where blocks_per_sm is 0, else that many a
 * multiprocessor, at most `work`. */
unsigned grid_blocks(int64_t work, int blocks_per_sm, const struct device_info *device);

/* May a grid of blocks_per_sm blocks of `block` threads be resident at once? 0 always. */
bool grid_fits(int block, int blocks_per_sm, const struct device_info *device);

#endif
