#include "kernels/shapes.h"

const int values_block[10] = {32, 64, 96, 128, 192, 256, 384, 512, 768, 1024};
const int values_vector_bytes[4] = {2, 4, 8, 16};
const int values_blocks_per_sm[6] = {0, 1, 2, 4, 8, 16};
const int values_bool[2] = {0, 1};
const int values_1248[4] = {1, 2, 4, 8};
const int values_012[3] = {0, 1, 2};

unsigned grid_blocks(int64_t work, int blocks_per_sm, const struct device_info *device) {
    int64_t blocks = work, most = (int64_t)device->sms * blocks_per_sm;
    if (blocks_per_sm && blocks > most) blocks = most;
    return (unsigned)(blocks < 1 ? 1 : blocks > INT32_MAX ? INT32_MAX : blocks);
}

bool grid_fits(int block, int blocks_per_sm, const struct device_info *device) {
    return block * blocks_per_sm <= device->threads_per_sm;
}
