/* decode_step.h - what the spec of decode_step and its reference share: sizes, arguments, and where
 * a layer's weights lie. */
#ifndef KERNELS_DECODE_STEP_H
#define KERNELS_DECODE_STEP_H

#include "runtime/kernel.h"

enum decode_step_size {
    BATCH,
    HIDDEN,
    INTERMEDIATE,
    HEADS,
    KV_HEADS,
    HEAD_DIM,
    QK_NORM,
    QKV_BIAS,
    O_BIAS,
    VOCAB,
    LAYERS,
    CAPACITY
};
enum decode_step_argument {
    LOGITS,
    TOKEN,
    POSITION,
    FACTS,
    EMBEDDING,
    WEIGHTS,
    FINAL_NORM,
    HEAD,
    INV_FREQ,
    CACHE_K,
    CACHE_V
};

/* In elements from the beginning of a layer; `end` is a layer's length. What a model lacks has no
 * elements. */
struct decode_step_layout {
    int64_t input_norm, qkv, qkv_bias, q_norm, k_norm, o, o_bias, post_norm, gate_up, down, end;
};
struct decode_step_layout decode_step_layout(const struct problem *problem);

/* As struct kernel has them. */
int64_t decode_step_elements(const struct problem *problem, int index);
void decode_step_reference(const struct problem *problem, const void *const *before,
                           double *const *want, double *const *magnitude, int64_t first,
                           int64_t last);
int64_t decode_step_outer(const struct problem *problem);
void decode_step_input(const struct problem *problem, int index, uint64_t seed, void *host);

#endif
