/* weights_find.c - where a weight lies on the device, by the name that it has in a folder. What the
 * kernels read as one matrix is several there: each is a block of its rows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/weights.h"

struct place {
    const char *name;
    void *base;
    int64_t before, rows, columns; /* rows of the matrix that come before it; columns 0: a vector */
};

static enum status answer(const struct weights *w, const struct place *place, int count,
                          const char *name, const char *whole, struct weight_view *out) {
    for (int i = 0; i < count; i++) {
        const struct place *p = &place[i];
        if (strcmp(p->name, name) != 0 || !p->base) continue;
        int64_t wide = p->columns ? p->columns : 1;
        out->data = (char *)p->base + (size_t)(p->before * wide) * dtype_bytes(w->dtype);
        out->rows = p->rows, out->columns = p->columns;
        return STATUS_OK;
    }
    return fail(STATUS_ARGUMENT, "the model has no weight '%s'", whole);
}

static enum status find_in_layer(const struct weights *w, const struct model_config *c,
                                 int64_t layer, const char *name, const char *whole,
                                 struct weight_view *out) {
    const struct layer_weights *l = &w->layer[layer];
    int64_t h = c->hidden, f = c->intermediate, d = c->head_dim;
    int64_t q = c->heads * d, kv = c->kv_heads * d;
    const struct place places[] = {
        {"input_layernorm.weight", l->input_norm, 0, h, 0},
        {"post_attention_layernorm.weight", l->post_norm, 0, h, 0},
        {"self_attn.q_proj.weight", l->qkv, 0, q, h},
        {"self_attn.k_proj.weight", l->qkv, q, kv, h},
        {"self_attn.v_proj.weight", l->qkv, q + kv, kv, h},
        {"self_attn.q_proj.bias", l->qkv_bias, 0, q, 0},
        {"self_attn.k_proj.bias", l->qkv_bias, q, kv, 0},
        {"self_attn.v_proj.bias", l->qkv_bias, q + kv, kv, 0},
        {"self_attn.q_norm.weight", l->q_norm, 0, d, 0},
        {"self_attn.k_norm.weight", l->k_norm, 0, d, 0},
        {"self_attn.o_proj.weight", l->o, 0, h, q},
        {"self_attn.o_proj.bias", l->o_bias, 0, h, 0},
        {"mlp.gate_proj.weight", l->gate_up, 0, f, h},
        {"mlp.up_proj.weight", l->gate_up, f, f, h},
        {"mlp.down_proj.weight", l->down, 0, h, f},
    };
    return answer(w, places, sizeof places / sizeof *places, name, whole, out);
}

enum status weights_find(const struct weights *w, const struct model_config *c, const char *name,
                         struct weight_view *out) {
    static const char layers[] = "model.layers.";
    char *end = NULL;
    if (!strncmp(name, layers, sizeof layers - 1)) {
        const char *digits = name + sizeof layers - 1;
        long layer = *digits >= '0' && *digits <= '9' ? strtol(digits, &end, 10) : -1;
        if (layer >= 0 && layer < c->layers && *end == '.')
            return find_in_layer(w, c, layer, end + 1, name, out);
    }
    const struct place ends[] = {
        {"model.embed_tokens.weight", w->embedding, 0, c->vocab, c->hidden},
        {"model.norm.weight", w->final_norm, 0, c->hidden, 0},
        {"lm_head.weight", w->head, 0, c->vocab, c->hidden},
    };
    return answer(w, ends, sizeof ends / sizeof *ends, name, name, out);
}
