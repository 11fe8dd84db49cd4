/* model.h - a language model as HuggingFace's folders hold it: config.json and weight files.
 *
 * Read: LlamaForCausalLM, SmolLM3ForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM,
 * MistralForCausalLM. Every number comes from config.json; what is unknown, impossible or not
 * supported is refused with STATUS_FORMAT and "file:line: key: what was expected".
 *
 * One layer, x the residual of one position:
 *     a = rmsnorm(x) * input_norm;  q, k, v = a W^T (+ bias);  q, k = rmsnorm a head (Qwen3)
 *     q, k rotated in half-split pairs unless no_rope[layer];  o = softmax(q k^T / sqrt(head_dim))
 *     x += o W_o^T (+ bias);  a = rmsnorm(x) * post_norm
 *     x += (silu(a W_gate^T) * a W_up^T) W_down^T
 *
 * Query head h attends to key head h / (heads / kv_heads), to positions j <= i, and in a layer with
 * a window only to j > i - window. */
#ifndef FASTINFER_MODEL_H
#define FASTINFER_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/safetensors.h"

enum architecture {
    ARCHITECTURE_LLAMA,
    ARCHITECTURE_SMOLLM3,
    ARCHITECTURE_QWEN2,
    ARCHITECTURE_QWEN3,
    ARCHITECTURE_MISTRAL,
    ARCHITECTURE_COUNT
};
enum { MODEL_MAX_LAYERS = 256, MODEL_MAX_EOS = 16 };

/* "llama3": with w = 2 pi / f the wavelength of a frequency f, f is divided by `factor` where
 * w > original / low; kept where w < original / high; else mixed, s f + (1 - s) f / factor with
 * s = (original / w - low) / (high - low). */
struct rope_scaling {
    bool llama3; /* false: frequencies as they are, and the rest is 0 */
    double factor, low, high;
    int64_t original; /* positions the model was first trained on */
};

struct model_config {
    enum architecture architecture;
    int64_t hidden, intermediate, layers, heads, kv_heads, head_dim, vocab;
    int64_t positions; /* max_position_embeddings */
    double rms_eps, rope_theta;
    struct rope_scaling scaling;
    bool tied; /* the head is the embedding */
    bool qkv_bias, o_bias, qk_norm;
    int64_t window; /* of layers with windowed[]; 0 where no layer has one */
    bool no_rope[MODEL_MAX_LAYERS], windowed[MODEL_MAX_LAYERS];
    int64_t bos;                /* -1: none */
    int64_t eos[MODEL_MAX_EOS]; /* any of them ends a text */
    int eos_count;
    enum dtype dtype; /* as the weights were saved; DTYPE_COUNT: config.json does not say */
};

/* Matrices are (outputs, inputs), norms and biases vectors; data NULL where a model has none. */
struct model_layer {
    struct tensor input_norm, post_norm;  /* (hidden) */
    struct tensor q, k, v;                /* (heads or kv_heads * head_dim, hidden) */
    struct tensor q_bias, k_bias, v_bias; /* (heads or kv_heads * head_dim) */
    struct tensor q_norm, k_norm;         /* (head_dim), the same for each head */
    struct tensor o, o_bias;              /* (hidden, heads * head_dim), (hidden) */
    struct tensor gate, up, down;         /* (intermediate, hidden) twice, (hidden, intermediate) */
};

struct model {
    struct model_config config;
    struct tensor embedding, final_norm, head; /* (vocab, hidden), (hidden), (vocab, hidden) */
    struct model_layer *layers;                /* config.layers of them; NULL: a preset */
    struct safetensors *files;                 /* NULL: a preset */
};

const char *architecture_name(enum architecture architecture); /* "LlamaForCausalLM", ... */

/* A preset's name ("llama-3.2-3b"; see model_presets.c) gives its config without weights, anything
 * else is a folder ("./tiny" for one with a preset's name), in which each weight that the
 * architecture needs was found, with its shape. */
enum status model_load(const char *folder, struct model **out);
/* The folder's config alone, as a preset's: its weights will be random. */
enum status model_load_config(const char *folder, struct model **out);
void model_free(struct model *model); /* NULL is fine */

/* config.json as text; `label` is its path in sentences. generation, a generation_config.json, may
 * be NULL; the ids in it win. */
enum status model_config_parse(const char *text, size_t bytes, const char *label,
                               struct model_config *out);
enum status model_generation_parse(const char *text, size_t bytes, const char *label,
                                   struct model_config *config);
/* folder/config.json, and folder/generation_config.json where there is one. */
enum status model_config_read(const char *folder, struct model_config *out);

/* False where there is no preset of that name. */
bool model_preset(const char *name, struct model_config *out);
const char *const *model_preset_names(void); /* NULL ends them */

/* Reads all weights; STATUS_FORMAT names the first that is NaN or infinite. */
enum status model_check_values(const struct model *model);

/* Parameters, an embedding that is also the head counted once. */
int64_t model_parameters(const struct model_config *config);

/* Bytes that decoding one token must read, with `position` positions in the KV cache before it:
 *   b * (layers * (hidden * (q + 2 kv) + [q + 2 kv] + [2 head_dim] + q * hidden + [hidden]
 *                  + 3 * hidden * intermediate + 2 * hidden)
 *        + hidden + vocab * hidden + (tied ? 0 : hidden))
 *   + b * sum over layers of 2 * kv * min(position, windowed ? window - 1 : position)
 * with q = heads * head_dim, kv = kv_heads * head_dim, b the bytes of config.dtype (2 where it is
 * not said) and [] what a model may lack. Of the embedding one row is read, which a tied head
 * reads anyway. Activations, which stay in caches, and what is written are left out. */
int64_t model_bytes_a_token(const struct model_config *config, int64_t position);

#endif
