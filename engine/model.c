#include "engine/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_CONFIG_BYTES = 1 << 22 };

/* --- config.json and generation_config.json
 * ------------------------------------------------------- */

static enum status read_text(const char *path, char **text, size_t *bytes) {
    struct stat facts;
    if (stat(path, &facts))
        return fail(STATUS_MISSING,
                    "%s: %m; a HuggingFace model's folder, or the name of a preset, "
                    "was expected",
                    path);
    if (!S_ISREG(facts.st_mode) || facts.st_size > MAX_CONFIG_BYTES)
        return fail(STATUS_FORMAT, "%s: a file of at most %d bytes was expected", path,
                    MAX_CONFIG_BYTES);
    FILE *file = fopen(path, "rbe");
    if (!file) return fail(STATUS_SYSTEM, "%s: %m", path);
    *text = malloc((size_t)facts.st_size + 1);
    *bytes = *text ? fread(*text, 1, (size_t)facts.st_size, file) : 0;
    fclose(file);
    return *text ? STATUS_OK : fail(STATUS_SYSTEM, "out of memory");
}

enum status model_config_read(const char *folder, struct model_config *out) {
    char path[4200], *text = NULL;
    size_t bytes = 0;
    struct model_config config;
    snprintf(path, sizeof path, "%s/config.json", folder);
    TRY(read_text(path, &text, &bytes));
    enum status status = model_config_parse(text, bytes, path, &config);
    free(text);
    TRY(status);
    snprintf(path, sizeof path, "%s/generation_config.json", folder);
    if (!access(path, F_OK)) {
        text = NULL;
        TRY(read_text(path, &text, &bytes));
        status = model_generation_parse(text, bytes, path, &config);
        free(text);
        TRY(status);
    }
    *out = config;
    return STATUS_OK;
}

/* --- weights
 * --------------------------------------------------------------------------------------- */

/* A tensor that a layer has: where it goes, what it is called, its shape; columns 0: a vector. */
struct part {
    struct tensor *to;
    const char *name;
    bool wanted;
    int64_t rows, columns;
};
enum { LAYER_PARTS = 15 };

static enum status read_part(const struct model *m, const struct part *part, const char *prefix) {
    char name[128];
    int64_t shape[2] = {part->rows, part->columns};
    if (!part->wanted) return STATUS_OK;
    snprintf(name, sizeof name, "%s%s", prefix, part->name);
    return safetensors_weight(m->files, name, part->columns ? 2 : 1, shape, part->to);
}

static void list_parts(const struct model_config *c, struct model_layer *l,
                       struct part list[LAYER_PARTS]) {
    int64_t h = c->hidden, f = c->intermediate, d = c->head_dim;
    int64_t q = c->heads * d, kv = c->kv_heads * d;
    const struct part parts[LAYER_PARTS] = {
        {&l->input_norm, "input_layernorm.weight", true, h, 0},
        {&l->post_norm, "post_attention_layernorm.weight", true, h, 0},
        {&l->q, "self_attn.q_proj.weight", true, q, h},
        {&l->k, "self_attn.k_proj.weight", true, kv, h},
        {&l->v, "self_attn.v_proj.weight", true, kv, h},
        {&l->o, "self_attn.o_proj.weight", true, h, q},
        {&l->q_bias, "self_attn.q_proj.bias", c->qkv_bias, q, 0},
        {&l->k_bias, "self_attn.k_proj.bias", c->qkv_bias, kv, 0},
        {&l->v_bias, "self_attn.v_proj.bias", c->qkv_bias, kv, 0},
        {&l->o_bias, "self_attn.o_proj.bias", c->o_bias, h, 0},
        {&l->q_norm, "self_attn.q_norm.weight", c->qk_norm, d, 0},
        {&l->k_norm, "self_attn.k_norm.weight", c->qk_norm, d, 0},
        {&l->gate, "mlp.gate_proj.weight", true, f, h},
        {&l->up, "mlp.up_proj.weight", true, f, h},
        {&l->down, "mlp.down_proj.weight", true, h, f},
    };
    memcpy(list, parts, sizeof parts);
}

static enum status read_layers(struct model *m) {
    const struct model_config *c = &m->config;
    struct part list[LAYER_PARTS];
    char prefix[64];
    for (int64_t i = 0; i < c->layers; i++) {
        snprintf(prefix, sizeof prefix, "model.layers.%lld.", (long long)i);
        list_parts(c, &m->layers[i], list);
        for (int p = 0; p < LAYER_PARTS; p++) TRY(read_part(m, &list[p], prefix));
    }
    return STATUS_OK;
}

static enum status read_weights(struct model *m, const char *folder) {
    const struct model_config *c = &m->config;
    const struct part ends[] = {
        {&m->embedding, "model.embed_tokens.weight", true, c->vocab, c->hidden},
        {&m->final_norm, "model.norm.weight", true, c->hidden, 0},
        {&m->head, "lm_head.weight", !c->tied, c->vocab, c->hidden},
    };
    TRY(safetensors_open(folder, &m->files));
    m->layers = calloc((size_t)c->layers, sizeof *m->layers);
    if (!m->layers) return fail(STATUS_SYSTEM, "out of memory");
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) TRY(read_part(m, &ends[i], ""));
    if (c->tied) m->head = m->embedding; /* a head that the file holds as well is not used */
    return read_layers(m);
}

enum status model_load(const char *folder, struct model **out) {
    enum status status = STATUS_OK;
    *out = NULL;
    if (strlen(folder) > 4000) return fail(STATUS_ARGUMENT, "a path of over 4000 bytes");
    struct model *m = calloc(1, sizeof *m);
    if (!m) return fail(STATUS_SYSTEM, "out of memory");
    if (!model_preset(folder, &m->config)) {
        status = model_config_read(folder, &m->config);
        if (!status) status = read_weights(m, folder);
    }
    if (status)
        model_free(m);
    else
        *out = m;
    return status;
}

enum status model_load_config(const char *folder, struct model **out) {
    *out = NULL;
    if (strlen(folder) > 4000) return fail(STATUS_ARGUMENT, "a path of over 4000 bytes");
    struct model *m = calloc(1, sizeof *m);
    if (!m) return fail(STATUS_SYSTEM, "out of memory");
    enum status status = model_config_read(folder, &m->config);
    if (status)
        model_free(m);
    else
        *out = m;
    return status;
}

void model_free(struct model *m) {
    if (!m) return;
    safetensors_close(m->files);
    free(m->layers), free(m);
}

/* --- values
 * ---------------------------------------------------------------------------------------- */

/* The index of the first element whose exponent is all ones, or -1. By bits: a 3B model is read
 * at memory speed. */
static int64_t first_wild(const struct tensor *t) {
    int64_t n = (int64_t)(t->bytes / dtype_bytes(t->dtype));
    if (t->dtype == DTYPE_F32) {
        const uint32_t *x = t->data;
        for (int64_t i = 0; i < n; i++)
            if ((x[i] & 0x7f800000) == 0x7f800000) return i;
        return -1;
    }
    const uint16_t *x = t->data, mask = t->dtype == DTYPE_F16 ? 0x7c00 : 0x7f80;
    for (int64_t i = 0; i < n; i++)
        if ((x[i] & mask) == mask) return i;
    return -1;
}

static enum status check_tensor(const struct tensor *t) {
    int64_t at = t->data ? first_wild(t) : -1;
    if (at < 0) return STATUS_OK;
    return fail(STATUS_FORMAT, "%s: tensor '%s': element %lld is %g; finite weights were expected",
                t->where, t->name, (long long)at, dtype_load(t->dtype, t->data, at));
}

enum status model_check_values(const struct model *m) {
    struct part list[LAYER_PARTS];
    TRY(check_tensor(&m->embedding));
    for (int64_t i = 0; m->layers && i < m->config.layers; i++) {
        list_parts(&m->config, &m->layers[i], list);
        for (int p = 0; p < LAYER_PARTS; p++) TRY(check_tensor(list[p].to));
    }
    TRY(check_tensor(&m->final_norm));
    return check_tensor(&m->head);
}

/* --- sizes
 * ----------------------------------------------------------------------------------------- */

static int64_t layer_parameters(const struct model_config *c) {
    struct model_layer layer;
    struct part list[LAYER_PARTS];
    int64_t sum = 0;
    list_parts(c, &layer, list);
    for (int p = 0; p < LAYER_PARTS; p++)
        if (list[p].wanted) sum += list[p].rows * (list[p].columns ? list[p].columns : 1);
    return sum;
}

int64_t model_parameters(const struct model_config *c) {
    return c->layers * layer_parameters(c) + c->hidden + (c->tied ? 1 : 2) * c->vocab * c->hidden;
}

int64_t model_bytes_a_token(const struct model_config *c, int64_t position) {
    int64_t element = c->dtype == DTYPE_COUNT ? 2 : (int64_t)dtype_bytes(c->dtype);
    int64_t weights = c->layers * layer_parameters(c) + c->hidden + c->vocab * c->hidden;
    int64_t kv = 0;
    if (!c->tied) weights += c->hidden;
    for (int64_t i = 0; i < c->layers; i++)
        kv += 2 * c->kv_heads * c->head_dim *
              (c->windowed[i] && position > c->window - 1 ? c->window - 1 : position);
    return element * (weights + kv);
}
