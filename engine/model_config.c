/* model_config.c - config.json. Where transformers would fill in a class default for a number that
 * is missing we refuse instead: a default that differs by version is how a model goes quietly
 * wrong. The exceptions are named where they are made. */
#include "engine/model.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What refusals need besides the object: where it was read from. */
struct source {
    const char *label, *text;
    size_t bytes;
    json_t *json;
};

static const struct {
    const char *name;
    bool tied; /* its class's tie_word_embeddings, which writers leave out where it holds */
} architectures[ARCHITECTURE_COUNT] = {
    [ARCHITECTURE_LLAMA] = {"LlamaForCausalLM", false},
    [ARCHITECTURE_SMOLLM3] = {"SmolLM3ForCausalLM", true},
    [ARCHITECTURE_QWEN2] = {"Qwen2ForCausalLM", false},
    [ARCHITECTURE_QWEN3] = {"Qwen3ForCausalLM", false},
    [ARCHITECTURE_MISTRAL] = {"MistralForCausalLM", false},
};

const char *architecture_name(enum architecture architecture) {
    return architecture < ARCHITECTURE_COUNT ? architectures[architecture].name : "unknown";
}

/* --- refusing --------------------------------------------------------------------------------- */

/* The line on which `key` stands first; 1 where it does not. jansson keeps no lines of values. */
static int line_of(const struct source *s, const char *key) {
    size_t length = strlen(key);
    int line = 1;
    for (size_t i = 0; i < s->bytes; i++) {
        if (s->text[i] == '\n') line++;
        if (s->text[i] == '"' && s->bytes - i > length + 1 && s->text[i + length + 1] == '"' &&
            !memcmp(s->text + i + 1, key, length))
            return line;
    }
    return 1;
}

static enum status refuse_key(const struct source *s, const char *key, const char *expected) {
    return fail(STATUS_FORMAT, "%s:%d: %s: %s was expected", s->label, line_of(s, key), key,
                expected);
}

/* --- values ------------------------------------------------------------------------------------
 */

/* NULL where the key is absent or null. */
static const json_t *given(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static enum status read_count(const struct source *s, const json_t *object, const char *key,
                              int64_t most, int64_t *out) {
    const json_t *value = given(object, key);
    int64_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < 1 || n > most)
        return fail(STATUS_FORMAT, "%s:%d: %s: a whole number from 1 to %lld was expected",
                    s->label, line_of(s, key), key, (long long)most);
    *out = n;
    return STATUS_OK;
}

static enum status read_real(const struct source *s, const json_t *object, const char *key,
                             double least, double most, double *out) {
    const json_t *value = given(object, key);
    double x = json_number_value(value);
    if (!json_is_number(value) || !(x >= least && x <= most))
        return fail(STATUS_FORMAT, "%s:%d: %s: a number from %g to %g was expected", s->label,
                    line_of(s, key), key, least, most);
    *out = x;
    return STATUS_OK;
}

static enum status read_flag(const struct source *s, const char *key, bool absent, bool *out) {
    const json_t *value = given(s->json, key);
    *out = value ? json_is_true(value) : absent;
    return value && !json_is_boolean(value) ? refuse_key(s, key, "true or false") : STATUS_OK;
}

/* What we do not compute must not be asked for. */
static enum status read_unsupported(const struct source *s, const char *key) {
    bool asked;
    TRY(read_flag(s, key, false, &asked));
    return asked ? refuse_key(s, key, "false (not supported)") : STATUS_OK;
}

/* --- parts of the file ---------------------------------------------------------------------------
 */

static enum status read_architecture(const struct source *s, struct model_config *c) {
    const json_t *list = given(s->json, "architectures");
    const char *name = json_string_value(json_array_get(list, 0));
    c->architecture = ARCHITECTURE_COUNT;
    for (int i = 0; name && i < ARCHITECTURE_COUNT; i++)
        if (!strcmp(architectures[i].name, name)) c->architecture = (enum architecture)i;
    if (c->architecture == ARCHITECTURE_COUNT || json_array_size(list) != 1)
        return fail(STATUS_FORMAT,
                    "%s:%d: architectures: '%.64s' is not read; one of LlamaForCausalLM, "
                    "SmolLM3ForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, MistralForCausalLM "
                    "was expected",
                    s->label, line_of(s, "architectures"), name ? name : "(none)");
    return STATUS_OK;
}

static enum status read_sizes(const struct source *s, struct model_config *c) {
    const json_t *json = s->json;
    TRY(read_count(s, json, "hidden_size", 1 << 17, &c->hidden));
    TRY(read_count(s, json, "intermediate_size", 1 << 20, &c->intermediate));
    TRY(read_count(s, json, "num_hidden_layers", MODEL_MAX_LAYERS, &c->layers));
    TRY(read_count(s, json, "num_attention_heads", 1024, &c->heads));
    TRY(read_count(s, json, "vocab_size", 1 << 24, &c->vocab));
    TRY(read_count(s, json, "max_position_embeddings", 1 << 28, &c->positions));
    TRY(read_real(s, json, "rms_norm_eps", 1e-12, 0.1, &c->rms_eps));
    /* Llama's class, and null in any, mean as many as there are heads: files from before GQA */
    if (given(json, "num_key_value_heads") ||
        (c->architecture != ARCHITECTURE_LLAMA && !json_object_get(json, "num_key_value_heads")))
        TRY(read_count(s, json, "num_key_value_heads", 1024, &c->kv_heads));
    else
        c->kv_heads = c->heads;
    if (c->heads % c->kv_heads)
        return refuse_key(s, "num_key_value_heads", "a divisor of num_attention_heads");
    /* Qwen3's class alone does not take hidden / heads where nothing is said */
    if (given(json, "head_dim") || c->architecture == ARCHITECTURE_QWEN3)
        TRY(read_count(s, json, "head_dim", 1024, &c->head_dim));
    else if (c->hidden % c->heads)
        return refuse_key(s, "num_attention_heads", "a divisor of hidden_size, or a head_dim,");
    else
        c->head_dim = c->hidden / c->heads;
    if (c->head_dim % 2 || c->head_dim > 1024)
        return refuse_key(s, given(json, "head_dim") ? "head_dim" : "num_attention_heads",
                          "an even head_dim of at most 1024");
    return STATUS_OK;
}

static enum status read_scaling(const struct source *s, const json_t *rope,
                                struct model_config *c) {
    const json_t *type = given(rope, "rope_type");
    if (!type) type = given(rope, "type"); /* before transformers 4.43 */
    const char *name = type ? json_string_value(type) : "default";
    if (name && !strcmp(name, "default")) return STATUS_OK;
    if (!name || strcmp(name, "llama3") != 0)
        return fail(STATUS_FORMAT,
                    "%s:%d: rope_type: '%.32s' is not supported; default or llama3 "
                    "was expected",
                    s->label, line_of(s, "rope_type"), name ? name : "(no text)");
    c->scaling.llama3 = true;
    TRY(read_real(s, rope, "factor", 1, 1e6, &c->scaling.factor));
    TRY(read_real(s, rope, "low_freq_factor", 1e-3, 1e6, &c->scaling.low));
    TRY(read_real(s, rope, "high_freq_factor", 1e-3, 1e6, &c->scaling.high));
    TRY(read_count(s, rope, "original_max_position_embeddings", 1 << 28, &c->scaling.original));
    if (c->scaling.high <= c->scaling.low)
        return refuse_key(s, "high_freq_factor", "more than low_freq_factor");
    return STATUS_OK;
}

/* rope_parameters (transformers 5: theta inside), or rope_scaling and rope_theta. */
static enum status read_rope(const struct source *s, struct model_config *c) {
    const char *key = given(s->json, "rope_parameters") ? "rope_parameters" : "rope_scaling";
    const json_t *rope = given(s->json, key), *outer = given(s->json, "rope_theta");
    const json_t *inner = given(rope, "rope_theta");
    double partial = 1, theta = 0;
    if (rope && !json_is_object(rope)) return refuse_key(s, key, "an object or null");
    if (!strcmp(key, "rope_parameters") && given(s->json, "rope_scaling") &&
        !json_equal(rope, given(s->json, "rope_scaling")))
        return refuse_key(s, "rope_scaling", "the same as rope_parameters, or only one of them,");
    if (inner) TRY(read_real(s, rope, "rope_theta", 1, 1e12, &c->rope_theta));
    if (outer) TRY(read_real(s, s->json, "rope_theta", 1, 1e12, &theta));
    if (inner && outer && theta != c->rope_theta)
        return refuse_key(s, "rope_theta", "the same outside and inside of rope_parameters");
    if (outer) c->rope_theta = theta;
    if (!inner && !outer) { /* Llama's files from before the key: its class's value never changed */
        if (c->architecture != ARCHITECTURE_LLAMA || !strcmp(key, "rope_parameters"))
            return refuse_key(s, "rope_theta", "a number, here or in rope_parameters,");
        c->rope_theta = 10000;
    }
    const json_t *places[] = {s->json, rope};
    for (int i = 0; i < 2; i++)
        if (given(places[i], "partial_rotary_factor"))
            TRY(read_real(s, places[i], "partial_rotary_factor", 1, 1, &partial));
    return read_scaling(s, rope, c);
}

/* SmolLM3: a list with 1 for layers that rotate, or every n-th layer that does not. */
static enum status read_no_rope(const struct source *s, struct model_config *c) {
    const json_t *list = given(s->json, "no_rope_layers");
    int64_t interval;
    if (c->architecture != ARCHITECTURE_SMOLLM3) return STATUS_OK;
    if (!list) {
        TRY(read_count(s, s->json, "no_rope_layer_interval", 1 << 20, &interval));
        for (int64_t i = 0; i < c->layers; i++) c->no_rope[i] = (i + 1) % interval == 0;
        return STATUS_OK;
    }
    for (int64_t i = 0; i < c->layers; i++) {
        const json_t *item = json_array_get(list, (size_t)i);
        int64_t rotates = json_integer_value(item);
        if (!json_is_integer(item) || rotates < 0 || rotates > 1 ||
            json_array_size(list) != (size_t)c->layers)
            return refuse_key(s, "no_rope_layers", "a 0 or 1 for each of num_hidden_layers");
        c->no_rope[i] = !rotates;
    }
    return STATUS_OK;
}

static enum status read_layer_types(const struct source *s, const json_t *list,
                                    struct model_config *c) {
    for (int64_t i = 0; i < c->layers; i++) {
        const char *type = json_string_value(json_array_get(list, (size_t)i));
        bool sliding = type && !strcmp(type, "sliding_attention");
        if (json_array_size(list) != (size_t)c->layers || !type ||
            (!sliding && strcmp(type, "full_attention") != 0))
            return refuse_key(s, "layer_types",
                              "full_attention or sliding_attention for each layer");
        c->windowed[i] = sliding;
    }
    return STATUS_OK;
}

/* Mistral's holds for all layers; the others' only where use_sliding_window says so, in the layers
 * of layer_types, else in Qwen's from max_window_layers on and in SmolLM3's that do not rotate. */
static enum status read_window(const struct source *s, struct model_config *c) {
    const json_t *types = given(s->json, "layer_types");
    bool used = c->architecture == ARCHITECTURE_MISTRAL;
    int64_t from = 0;
    if (c->architecture == ARCHITECTURE_LLAMA) return STATUS_OK;
    if (!used) TRY(read_flag(s, "use_sliding_window", false, &used));
    if (!used) return STATUS_OK;
    if (!json_object_get(s->json, "sliding_window"))
        return refuse_key(s, "sliding_window", "a number of positions or null");
    if (!given(s->json, "sliding_window")) return STATUS_OK;
    TRY(read_count(s, s->json, "sliding_window", 1 << 28, &c->window));
    if (types && c->architecture != ARCHITECTURE_MISTRAL) {
        TRY(read_layer_types(s, types, c));
    } else {
        bool smollm3 = c->architecture == ARCHITECTURE_SMOLLM3;
        bool qwen = !smollm3 && c->architecture != ARCHITECTURE_MISTRAL;
        if (qwen && !json_is_integer(given(s->json, "max_window_layers")))
            return refuse_key(s, "max_window_layers", "a number of layers, or layer_types,");
        if (qwen) from = json_integer_value(given(s->json, "max_window_layers"));
        for (int64_t i = 0; i < c->layers; i++)
            c->windowed[i] = smollm3 ? c->no_rope[i] : i >= from;
    }
    bool any = false;
    for (int64_t i = 0; i < c->layers; i++) any |= c->windowed[i];
    if (!any) c->window = 0;
    return STATUS_OK;
}

static enum status read_features(const struct source *s, struct model_config *c) {
    const json_t *activation = given(s->json, "hidden_act");
    const char *name = json_string_value(activation);
    bool bias = false, llama_like = c->architecture == ARCHITECTURE_LLAMA ||
                                    c->architecture == ARCHITECTURE_SMOLLM3 ||
                                    c->architecture == ARCHITECTURE_QWEN3;
    if (!name || strcmp(name, "silu") != 0) return refuse_key(s, "hidden_act", "silu");
    TRY(read_unsupported(s, "mlp_bias"));
    if (given(s->json, "quantization_config"))
        return refuse_key(s, "quantization_config", "a model that is not quantized");
    if (llama_like) TRY(read_flag(s, "attention_bias", false, &bias));
    c->qkv_bias = bias || c->architecture == ARCHITECTURE_QWEN2;
    c->o_bias = bias;
    c->qk_norm = c->architecture == ARCHITECTURE_QWEN3;
    return read_flag(s, "tie_word_embeddings", architectures[c->architecture].tied, &c->tied);
}

static enum status read_dtype(const struct source *s, struct model_config *c) {
    const char *key = given(s->json, "dtype") ? "dtype" : "torch_dtype";
    const json_t *value = given(s->json, key);
    const char *name = json_string_value(value);
    static const char *const names[] = {
        [DTYPE_F16] = "float16", [DTYPE_BF16] = "bfloat16", [DTYPE_F32] = "float32"};
    c->dtype = DTYPE_COUNT;
    for (int i = 0; name && i <= DTYPE_F32; i++)
        if (!strcmp(name, names[i])) c->dtype = (enum dtype)i;
    if (value && c->dtype == DTYPE_COUNT) return refuse_key(s, key, "float16, bfloat16 or float32");
    return STATUS_OK;
}

/* --- ids -----------------------------------------------------------------------------------------
 */

static enum status read_id(const struct source *s, const char *key, const json_t *value,
                           int64_t vocab, int64_t *out) {
    int64_t id = json_integer_value(value);
    if (!json_is_integer(value) || id < 0 || id >= vocab)
        return refuse_key(s, key, "ids from 0 to below vocab_size");
    *out = id;
    return STATUS_OK;
}

/* Absent keys change nothing; null means none. */
static enum status read_ids(const struct source *s, struct model_config *c) {
    const json_t *bos = json_object_get(s->json, "bos_token_id");
    const json_t *eos = json_object_get(s->json, "eos_token_id");
    if (bos) c->bos = -1;
    if (bos && !json_is_null(bos)) TRY(read_id(s, "bos_token_id", bos, c->vocab, &c->bos));
    if (!eos) return STATUS_OK;
    c->eos_count = 0;
    memset(c->eos, 0, sizeof c->eos);
    if (json_is_null(eos)) return STATUS_OK;
    size_t count = json_is_array(eos) ? json_array_size(eos) : 1;
    if (count < 1 || count > MODEL_MAX_EOS)
        return refuse_key(s, "eos_token_id", "an id, or a list of 1 to 16,");
    for (size_t i = 0; i < count; i++)
        TRY(read_id(s, "eos_token_id", json_is_array(eos) ? json_array_get(eos, i) : eos, c->vocab,
                    &c->eos[i]));
    c->eos_count = (int)count;
    return STATUS_OK;
}

/* --- whole files
 * ----------------------------------------------------------------------------------- */

static enum status load(const char *text, size_t bytes, const char *label, struct source *s) {
    json_error_t error;
    *s = (struct source){label, text, bytes,
                         json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error)};
    if (!s->json)
        return fail(STATUS_FORMAT, "%s:%d: %s; a JSON object was expected", label, error.line,
                    error.text);
    if (json_is_object(s->json)) return STATUS_OK;
    json_decref(s->json);
    return fail(STATUS_FORMAT, "%s:1: a JSON object was expected", label);
}

static enum status read_all(const struct source *s, struct model_config *c) {
    TRY(read_architecture(s, c));
    TRY(read_sizes(s, c));
    TRY(read_rope(s, c));
    TRY(read_no_rope(s, c));
    TRY(read_window(s, c));
    TRY(read_features(s, c));
    TRY(read_dtype(s, c));
    return read_ids(s, c);
}

enum status model_config_parse(const char *text, size_t bytes, const char *label,
                               struct model_config *out) {
    struct source source;
    struct model_config config = {.bos = -1};
    TRY(load(text, bytes, label, &source));
    enum status status = read_all(&source, &config);
    json_decref(source.json);
    if (!status) *out = config;
    return status;
}

enum status model_generation_parse(const char *text, size_t bytes, const char *label,
                                   struct model_config *config) {
    struct source source;
    struct model_config changed = *config;
    TRY(load(text, bytes, label, &source));
    enum status status = read_ids(&source, &changed);
    json_decref(source.json);
    if (!status) *config = changed;
    return status;
}
