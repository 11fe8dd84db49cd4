/* weights.h - a model's weights on a device, in the layout that the kernels read. */
#ifndef FASTINFER_WEIGHTS_H
#define FASTINFER_WEIGHTS_H

#include "engine/model.h"
#include "runtime/device.h"

/* Device pointers, all in weights.dtype; NULL where the model has no such thing. With
 * q = heads * head_dim, kv = kv_heads * head_dim: */
struct layer_weights {
    void *input_norm, *post_norm; /* (hidden) */
    void *qkv, *qkv_bias;         /* (q + 2 kv, hidden), (q + 2 kv): q's rows, then k's, then v's */
    void *q_norm, *k_norm;        /* (head_dim) */
    void *o, *o_bias;             /* (hidden, q), (hidden) */
    void *gate_up;                /* (2 * intermediate, hidden): gate's rows, then up's */
    void *down;                   /* (hidden, intermediate) */
};

struct weights {
    struct device *device;
    enum dtype dtype;
    void *arena; /* the one allocation */
    size_t bytes;
    struct layer_weights *layer;
    void *embedding, *final_norm, *head; /* (vocab, hidden), (hidden), (vocab, hidden) */
};

/* Copies the weights to the device, as `dtype`: fp16, bf16 or fp32; a weight that fp16 cannot hold
 * is STATUS_FORMAT with its name. A preset's are made on the device, random: norms 1 + 0.2 N(0,1),
 * all else 0.018 N(0,1), from `seed`. STATUS_MEMORY says how much is needed where that is not free.
 * progress may be NULL; it is told bytes done and all, and stops the load by returning false
 * (STATUS_INTERRUPTED). */
typedef bool weights_progress(void *context, size_t done, size_t all);
struct weights_source {
    const struct model *model;
    enum dtype dtype;
    uint64_t seed;
    weights_progress *progress;
    void *context;
};
enum status weights_load(struct device *device, const struct weights_source *source,
                         struct weights **out);
void weights_free(struct weights *weights); /* NULL is fine */

/* A weight by its name in a folder ("model.layers.0.self_attn.k_proj.weight"), on the device, rows
 * one behind another, in weights.dtype; columns 0: a vector. A tied head is the embedding.
 * STATUS_ARGUMENT: the model has none of that name. */
struct weight_view {
    void *data;
    int64_t rows, columns;
};
enum status weights_find(const struct weights *weights, const struct model_config *config,
                         const char *name, struct weight_view *out);

#endif
