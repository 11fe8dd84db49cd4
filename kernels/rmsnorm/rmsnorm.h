/* rmsnorm.h - the rules that rmsnorm and add_rmsnorm share. */
#ifndef KERNELS_RMSNORM_H
#define KERNELS_RMSNORM_H

#include "runtime/device.h"

/* A point of either kernel, by name. */
struct rmsnorm_row {
    int64_t hidden;
    int element_bytes, block, rows_per_block, vector_bytes, reduce, passes, unroll, blocks_per_sm,
        ahead, load_hint, store_hint;
};
bool rmsnorm_row_legal(const struct rmsnorm_row *row, const struct device_info *device,
                       const char **why);

#endif
