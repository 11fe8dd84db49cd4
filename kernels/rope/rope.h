/* rope.h - what rope and rope_kv_append share on the host: frequencies, table, rules, reference. */
#ifndef KERNELS_ROPE_H
#define KERNELS_ROPE_H

#include "runtime/device.h"

/* The reals of both kernels, in this order. */
enum { ROPE_THETA, ROPE_FACTOR, ROPE_LOW, ROPE_HIGH, ROPE_ORIGINAL, ROPE_REALS };
extern const struct real rope_reals[ROPE_REALS];

/* inv_freq: (head_dim / 2) fp32, theta^(-2i/head_dim) under llama3 scaling: wavelengths over
 * original/low are `factor` times longer, those under original/high stay, and those between are
 * blended in proportion to original/wavelength, as in HuggingFace's modeling_rope_utils.
 * factor 1: no scaling. */
void rope_inv_freq(const double *real, int64_t head_dim, float *inv_freq);
/* table: (positions, head_dim / 2, 2) fp32, cosine and sine of the angle rounded to fp32. */
void rope_table(const double *real, int64_t head_dim, int64_t positions, float *table);

/* What element d of the head that starts at element `head` of `array` must become. */
struct rope_element {
    enum dtype dtype;
    const void *array;
    int64_t head, d, head_dim;
    bool adjacent;
    const float *inv_freq;
    int32_t position;
};
double rope_reference(const struct rope_element *element, double *magnitude);

/* A point of either kernel, by name. `words` is what a thread holds of one of its heads. */
struct rope_shape {
    int64_t head_dim, adjacent, all_heads;
    int element_bytes, words, block, vector_bytes, heads, trig, blocks_per_sm, load_hint,
        store_hint;
};
bool rope_legal(const struct rope_shape *shape, const struct device_info *device, const char **why);
/* Threads that a row takes. */
int64_t rope_pieces(const struct rope_shape *shape);

#endif
