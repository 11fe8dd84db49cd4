/* random.h - splitmix64: a generator that needs no seeding and jumps anywhere, and a good mixer.
 * kernels/support/support.cu has it too, for the device. */
#ifndef FASTINFER_RANDOM_H
#define FASTINFER_RANDOM_H

#include <stdint.h>

#define RANDOM_STEP UINT64_C(0x9e3779b97f4a7c15)

/* One to one, every bit of z in every bit of the result. */
static inline uint64_t random_mix(uint64_t z) {
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static inline uint64_t random_next(uint64_t *state) { return random_mix(*state += RANDOM_STEP); }

#endif
