/* fill.c - as support.cu has it, bit for bit: whoever changes one changes both. */
#include "harness/fill.h"
#include "runtime/random.h"

static uint64_t hash(uint64_t seed, uint64_t i) { /* splitmix64 of the i-th of its states */
    return random_mix(seed + (i + 1) * RANDOM_STEP);
}

/* Every step before dtype_store() is exact: the device may contract what it likes. */
static float value(uint64_t h, enum fill fill) {
    int n = (int)(h & 65535) + (int)(h >> 16 & 65535) + (int)(h >> 32 & 65535) + (int)(h >> 48) -
            131070;
    if (fill == FILL_WEIGHT) return (float)((1 << 21) + 11 * n) * (1.0f / (1 << 21));
    if (fill == FILL_MATRIX) return (float)n * (1.0f / (1 << 21));
    return (float)(7 * n) * (1.0f / (1 << 18)) * ((float)(1 << (h % 7)) * 0.125f);
}

void fill_host(void *out, int64_t first, int64_t last, enum dtype dtype, enum fill fill,
               uint64_t seed) {
    for (int64_t i = first; i < last; i++) {
        if (fill == FILL_BITS)
            ((uint8_t *)out)[i] = (uint8_t)(hash(seed, (uint64_t)i / 8) >> i % 8 * 8);
        else if (fill != FILL_KERNEL)
            dtype_store(dtype, out, i, value(hash(seed, (uint64_t)i), fill));
    }
}
