/* test_model_config.c - config.json: the public models' texts give the presets, what is wrong is
 * refused with its line and key, and folders whose weights do not fit are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/model.h"

#include <cmocka.h> /* last: its macro fail() hides the function */

static void good(enum status status) {
    if (status) fail_msg("%s: %s", status_text(status), fail_message());
}

static void says(enum status got, enum status expected, const char *words) {
    if (got != expected || !strstr(fail_message(), words))
        fail_msg("%s '%s', where %s with '%s' was expected", status_text(got), fail_message(),
                 status_text(expected), words);
}

static enum status parse(const char *text, struct model_config *out) {
    return model_config_parse(text, strlen(text), "config.json", out);
}

/* The public text of a preset, as JSON that a test may change. */
static json_t *public_json(const char *name) {
    char path[512];
    json_error_t error;
    snprintf(path, sizeof path, FASTINFER_ROOT "/tests/golden/configs/%s.json", name);
    json_t *json = json_load_file(path, 0, &error);
    if (!json) fail_msg("%s:%d: %s", path, error.line, error.text);
    return json;
}

/* Parses it, changed by `change`: an object whose keys replace, and with null beside "-" remove. */
static enum status changed(const char *name, const char *change, struct model_config *out) {
    json_t *json = public_json(name), *more = json_loads(change, 0, NULL), *value;
    const char *key;
    assert_non_null(more);
    json_object_foreach(more, key, value) {
        if (key[0] == '-')
            json_object_del(json, key + 1);
        else
            json_object_set(json, key, value);
    }
    char *text = json_dumps(json, JSON_INDENT(1));
    enum status status = parse(text, out);
    free(text), json_decref(json), json_decref(more);
    return status;
}

static void refused(const char *name, const char *change, const char *words) {
    struct model_config c;
    says(changed(name, change, &c), STATUS_FORMAT, words);
    says(STATUS_FORMAT, STATUS_FORMAT, "config.json:");
}

static struct model_config taken(const char *name, const char *change) {
    struct model_config c;
    good(changed(name, change, &c));
    return c;
}

/* --- good ------------------------------------------------------------------------------------- */

/* All but the numbers' kind: a preset has none of a checkpoint's weights and is fp16, what it would
   be measured in; the published texts are bf16. */
static void same(const char *name, const struct model_config *a, const struct model_config *b) {
#define SAME(field)                                                                                \
    if (a->field != b->field) fail_msg("%s: %s differs", name, #field)
    SAME(architecture);
    SAME(hidden);
    SAME(intermediate);
    SAME(layers);
    SAME(heads);
    SAME(kv_heads);
    SAME(head_dim);
    SAME(vocab);
    SAME(positions);
    SAME(rms_eps);
    SAME(rope_theta);
    SAME(scaling.llama3);
    SAME(scaling.factor);
    SAME(scaling.low);
    SAME(scaling.high);
    SAME(scaling.original);
    SAME(tied);
    SAME(qkv_bias);
    SAME(o_bias);
    SAME(qk_norm);
    SAME(window);
    SAME(bos);
    SAME(eos_count);
    SAME(eos[0]);
#undef SAME
    assert_memory_equal(a->no_rope, b->no_rope, sizeof a->no_rope);
    assert_memory_equal(a->windowed, b->windowed, sizeof a->windowed);
}

static void public_texts_give_the_presets(void **state) {
    static const char *const names[] = {"llama-3.2-3b", "smollm3-3b", "qwen2.5-3b", "qwen3-4b",
                                        "mistral-7b"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct model_config preset, read = taken(names[i], "{}");
        assert_true(model_preset(names[i], &preset));
        same(names[i], &read, &preset);
    }
}

static void sizes_are_the_published_ones(void **state) {
    static const struct {
        const char *name;
        int64_t parameters, kv_bytes_a_position;
    } facts[] = {{"llama-3.2-3b", 3212749824, 114688}, {"llama-3.2-1b", 1235814400, 32768},
                 {"smollm3-3b", 3075098624, 73728},    {"qwen2.5-3b", 3085938688, 36864},
                 {"qwen3-4b", 4022468096, 147456},     {"mistral-7b", 7248023552, 131072}};
    (void)state;
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++) {
        struct model *model;
        good(model_load(facts[i].name, &model));
        const struct model_config *c = &model->config;
        assert_true(!model->layers && !model->files);
        if (model_parameters(c) != facts[i].parameters)
            fail_msg("%s has %lld parameters", facts[i].name, (long long)model_parameters(c));
        int64_t least = model_bytes_a_token(c, 0);
        /* a model with a head of its own reads one row of the embedding instead of all */
        int64_t unread = c->tied ? 0 : (c->vocab - 1) * c->hidden;
        assert_int_equal(least, 2 * (facts[i].parameters - unread));
        assert_int_equal(model_bytes_a_token(c, 1000) - least, 1000 * facts[i].kv_bytes_a_position);
        model_free(model);
    }
    struct model_config c = taken("mistral-7b", "{\"sliding_window\": 100}");
    assert_int_equal(model_bytes_a_token(&c, 5000) - model_bytes_a_token(&c, 0), 99 * 131072);
    assert_int_equal(model_bytes_a_token(&c, 50) - model_bytes_a_token(&c, 0), 50 * 131072);
    assert_true(model_preset("tiny", &c) && !model_preset("huge", &c));
    assert_true(model_parameters(&c) < 1000000);
}

static void rope_parameters_say_the_same(void **state) {
    (void)state;
    struct model_config old = taken("llama-3.2-3b", "{}");
    struct model_config new = taken(
        "llama-3.2-3b",
        "{\"-rope_theta\": 0, \"-rope_scaling\": 0, \"-torch_dtype\": 0, \"dtype\": \"bfloat16\","
        "\"rope_parameters\": {\"rope_theta\": 500000.0, \"rope_type\": \"llama3\","
        "\"factor\": 32.0, \"low_freq_factor\": 1, \"high_freq_factor\": 4.0,"
        "\"original_max_position_embeddings\": 8192}}");
    same("rope_parameters", &new, &old);
    new = taken("qwen3-4b", "{\"-rope_theta\":0,\"rope_parameters\":{\"rope_type\":\"default\","
                            "\"rope_theta\":1000000}}");
    old = taken("qwen3-4b", "{}");
    same("rope_parameters", &new, &old);
    new = taken("llama-3.2-3b",
                "{\"-rope_theta\":0,\"rope_scaling\":null}"); /* Llama's first files */
    assert_true(new.rope_theta == 10000 && !new.scaling.llama3);
    new = taken("llama-3.2-3b", "{\"rope_scaling\":{\"type\":\"default\"}}");
    assert_true(!new.scaling.llama3);
}

static void features_are_read(void **state) {
    struct model_config c;
    (void)state;
    c = taken("llama-3.2-3b", "{\"attention_bias\": true}");
    assert_true(c.qkv_bias && c.o_bias);
    c = taken("qwen2.5-3b", "{\"attention_bias\": true}"); /* a key that its class has not */
    assert_true(c.qkv_bias && !c.o_bias);
    c = taken("llama-3.2-3b", "{\"-tie_word_embeddings\": 0, \"-head_dim\": 0}");
    assert_true(!c.tied && c.head_dim == 128);
    c = taken("llama-3.2-3b", "{\"-num_key_value_heads\": 0}");
    assert_int_equal(c.kv_heads, 24);
    c = taken("mistral-7b", "{\"num_key_value_heads\": null}");
    assert_int_equal(c.kv_heads, 32);
    c = taken("smollm3-3b", "{\"no_rope_layers\": null, \"no_rope_layer_interval\": 5}");
    assert_true(!c.no_rope[3] && c.no_rope[4] && c.no_rope[34] && !c.no_rope[35]);
    c = taken("mistral-7b", "{\"sliding_window\": 4096}");
    assert_true(c.window == 4096 && c.windowed[0] && c.windowed[31] && !c.windowed[32]);
    c = taken("qwen2.5-3b", "{\"use_sliding_window\": true, \"max_window_layers\": 30}");
    assert_true(c.window == 32768 && !c.windowed[29] && c.windowed[30] && c.windowed[35]);
    c = taken("qwen2.5-3b", "{\"use_sliding_window\": true}"); /* from layer 36 of 36 on: none */
    assert_int_equal(c.window, 0);
    c = taken("qwen3-4b", "{\"num_hidden_layers\": 2, \"use_sliding_window\": true,"
                          "\"sliding_window\": 7,"
                          "\"layer_types\": [\"sliding_attention\", \"full_attention\"]}");
    assert_true(c.window == 7 && c.windowed[0] && !c.windowed[1]);
    c = taken("smollm3-3b", "{\"use_sliding_window\": true, \"sliding_window\": 9}");
    assert_true(c.windowed[3] && !c.windowed[2]);
    c = taken("llama-3.2-3b", "{\"-torch_dtype\": 0}");
    assert_int_equal(c.dtype, DTYPE_COUNT);
}

static void ids_are_read(void **state) {
    struct model_config c;
    const char *generation = "{\"eos_token_id\": [128001, 128008, 128009], \"do_sample\": true}";
    (void)state;
    c = taken("llama-3.2-3b", "{\"eos_token_id\": [5, 6], \"bos_token_id\": null}");
    assert_true(c.bos == -1 && c.eos_count == 2 && c.eos[1] == 6);
    c = taken("llama-3.2-3b", "{\"eos_token_id\": null, \"-bos_token_id\": 0}");
    assert_true(c.bos == -1 && c.eos_count == 0);
    c = taken("llama-3.2-3b", "{}");
    good(model_generation_parse(generation, strlen(generation), "generation_config.json", &c));
    assert_true(c.bos == 128000 && c.eos_count == 3 && c.eos[2] == 128009);
    generation = "{\"eos_token_id\": 128256}";
    says(model_generation_parse(generation, strlen(generation), "generation_config.json", &c),
         STATUS_FORMAT, "generation_config.json:1: eos_token_id");
    assert_int_equal(c.eos_count, 3); /* as it was */
    refused("llama-3.2-3b", "{\"bos_token_id\": -1}", "bos_token_id");
    refused("llama-3.2-3b", "{\"bos_token_id\": \"<s>\"}", "bos_token_id");
    refused("llama-3.2-3b", "{\"eos_token_id\": []}", "eos_token_id");
    refused("llama-3.2-3b", "{\"eos_token_id\": [1, 2, null]}", "eos_token_id");
    refused("llama-3.2-3b", "{\"eos_token_id\": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}", "1 to 16");
}

/* --- refused ------------------------------------------------------------------------------------
 */

static void numbers_that_cannot_be(void **state) {
    static const char *const counts[] = {
        "hidden_size",         "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "head_dim",          "vocab_size",        "max_position_embeddings"};
    static const char *const wrong[] = {"0", "-1", "1.5", "\"8\"", "true", "9223372036854775807"};
    char change[128];
    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
            snprintf(change, sizeof change, "{\"%s\": %s}", counts[i], wrong[k]);
            refused("qwen3-4b", change, counts[i]);
        }
        snprintf(change, sizeof change, "{\"-%s\": 0}", counts[i]);
        refused("qwen3-4b", change, counts[i]);
    }
    static const char *const reals[] = {"rms_norm_eps", "rope_theta"};
    static const char *const no_reals[] = {"0", "-1e-5", "1e300", "\"1e-5\"", "false"};
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < sizeof no_reals / sizeof *no_reals; k++) {
            snprintf(change, sizeof change, "{\"%s\": %s}", reals[i], no_reals[k]);
            refused("qwen3-4b", change, reals[i]);
        }
    refused("qwen3-4b", "{\"num_key_value_heads\": 7}", "a divisor of num_attention_heads");
    refused("qwen3-4b", "{\"head_dim\": 127}", "head_dim: an even");
    refused("qwen3-4b", "{\"head_dim\": null}", "head_dim: a whole number");
    refused("mistral-7b", "{\"num_attention_heads\": 24}", "a divisor of hidden_size");
    refused("mistral-7b", "{\"-rope_theta\": 0}", "rope_theta");
    refused("smollm3-3b", "{\"-num_key_value_heads\": 0}", "num_key_value_heads");
}

static void what_is_unknown(void **state) {
    (void)state;
    refused("qwen3-4b", "{\"architectures\": [\"GPT2LMHeadModel\"]}",
            "'GPT2LMHeadModel' is not read; one of LlamaForCausalLM");
    refused("qwen3-4b", "{\"-architectures\": 0}", "architectures: '(none)'");
    refused("qwen3-4b", "{\"architectures\": []}", "architectures");
    refused("qwen3-4b", "{\"hidden_act\": \"gelu\"}", "hidden_act: silu was expected");
    refused("qwen3-4b", "{\"-hidden_act\": 0}", "hidden_act");
    refused("qwen3-4b", "{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4}}",
            "rope_type: 'yarn' is not supported");
    refused("qwen3-4b", "{\"rope_scaling\": {\"type\": \"linear\"}}", "'linear'");
    refused("qwen3-4b", "{\"rope_scaling\": {\"rope_type\": 3}}", "rope_type");
    refused("qwen3-4b", "{\"rope_scaling\": \"llama3\"}", "rope_scaling: an object");
    refused("qwen3-4b", "{\"rope_scaling\": {\"rope_type\": \"llama3\"}}", "factor: a number");
    refused("llama-3.2-3b",
            "{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4,"
            "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 8192}}",
            "high_freq_factor: more than low_freq_factor");
    refused("llama-3.2-3b", "{\"rope_parameters\": {\"rope_type\": \"default\"}}", "rope_scaling");
    refused("qwen3-4b", "{\"rope_parameters\": {\"rope_theta\": 7}}",
            "the same outside and inside");
    refused(
        "llama-3.2-3b",
        "{\"-rope_theta\": 0, \"-rope_scaling\": 0, \"rope_parameters\": {\"full_attention\": {}}}",
        "rope_theta: a number, here or in rope_parameters");
    refused("qwen3-4b", "{\"partial_rotary_factor\": 0.5}", "partial_rotary_factor");
    refused("qwen3-4b", "{\"quantization_config\": {}}", "not quantized");
    refused("llama-3.2-3b", "{\"mlp_bias\": true}", "mlp_bias: false");
    refused("llama-3.2-3b", "{\"attention_bias\": 1}", "attention_bias: true or false");
    refused("llama-3.2-3b", "{\"torch_dtype\": \"int8\"}", "torch_dtype: float16");
    refused("mistral-7b", "{\"-sliding_window\": 0}", "sliding_window: a number of positions or");
    refused("mistral-7b", "{\"sliding_window\": 0}", "sliding_window");
    refused("qwen2.5-3b", "{\"use_sliding_window\": true, \"-max_window_layers\": 0}",
            "max_window_layers");
    refused("qwen2.5-3b", "{\"use_sliding_window\": true, \"layer_types\": [\"full_attention\"]}",
            "layer_types");
    refused("smollm3-3b", "{\"no_rope_layers\": [1, 0]}", "no_rope_layers: a 0 or 1 for each");
    refused("smollm3-3b", "{\"-no_rope_layers\": 0, \"-no_rope_layer_interval\": 0}",
            "no_rope_layer_interval");
}

static void lines_are_named(void **state) {
    struct model_config c;
    (void)state;
    says(parse("{\n\"architectures\": [\"LlamaForCausalLM\"],\n\n  \"hidden_size\": 0}", &c),
         STATUS_FORMAT, "config.json:4: hidden_size: a whole number from 1 to 131072");
    says(parse("{\n\n  \"a\" 1}", &c), STATUS_FORMAT, "config.json:3: ");
    says(parse("[]", &c), STATUS_FORMAT, "config.json:1: a JSON object");
    says(parse("", &c), STATUS_FORMAT, "config.json:1: ");
    says(parse("{\"a\": 1, \"a\": 2}", &c), STATUS_FORMAT, "duplicate");
}

/* --- folders ------------------------------------------------------------------------------------
 */

/* A copy of a golden model, run through `spoil` (a shell command in its folder). */
static void spoilt_folder(const char *family, const char *spoil, enum status status,
                          const char *words) {
    struct model *model = NULL;
    char folder[] = "/tmp/fastinfer-model-XXXXXX", command[1024];
    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof command, "cp %s/tests/golden/%s/* %s/ && cd %s && %s", FASTINFER_ROOT,
             family, folder, folder, spoil);
    assert_int_equal(system(command), 0);
    enum status got = model_load(folder, &model);
    if (!got) got = model_check_values(model);
    model_free(model);
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
    if (status)
        says(got, status, words);
    else
        good(got);
}

static void folders_that_do_not_fit(void **state) {
    struct model *model;
    (void)state;
    spoilt_folder("llama", "true", STATUS_OK, "");
    spoilt_folder("mistral", "rm generation_config.json", STATUS_OK, "");
    spoilt_folder("llama", "rm model.safetensors", STATUS_MISSING, "neither model.safetensors");
    spoilt_folder("llama", "rm config.json", STATUS_MISSING, "or the name of a preset");
    spoilt_folder("llama", "sed -i 's/\"vocab_size\": 320/\"vocab_size\": 321/' config.json",
                  STATUS_FORMAT, "embed_tokens.weight' has shape (320, 48); (321, 48)");
    spoilt_folder("llama",
                  "sed -i 's/\"num_hidden_layers\": 2/\"num_hidden_layers\": 3/' config.json",
                  STATUS_FORMAT, "no tensor 'model.layers.2.input_layernorm.weight'");
    spoilt_folder("llama",
                  "sed -i 's/bias\": false/bias\": true/; s/mlp_bias\": true/mlp_bias\": "
                  "false/' config.json",
                  STATUS_FORMAT, "no tensor 'model.layers.0.self_attn.q_proj.bias'");
    spoilt_folder("llama", "sed -i 's/embeddings\": true/embeddings\": false/' config.json",
                  STATUS_FORMAT, "no tensor 'lm_head.weight'");
    spoilt_folder("qwen3", "sed -i 's/\"head_dim\": 128/\"head_dim\": 64/' config.json",
                  STATUS_FORMAT, "was expected");
    spoilt_folder("mistral", "rm model-00002-of-*.safetensors", STATUS_MISSING, "model-00002");
    spoilt_folder("llama", "truncate -s -2 model.safetensors", STATUS_FORMAT, "lie outside");
    spoilt_folder("llama", "printf '{\"eos_token_id\": 999}' >generation_config.json",
                  STATUS_FORMAT, "generation_config.json:1: eos_token_id");
    says(model_load("./tiny", &model), STATUS_MISSING, "./tiny/config.json");
}

/* 0x7e00 and 0x7c00 over the last element of a file: a NaN, an infinity. */
static void wild_values_are_found(void **state) {
    (void)state;
#define LAST(bytes) "truncate -s -2 model.safetensors && printf '" bytes "' >>model.safetensors"
    spoilt_folder("llama", LAST("\\000\\176"), STATUS_FORMAT, "is nan");
    spoilt_folder("llama", LAST("\\000\\374"), STATUS_FORMAT, "is -inf; finite weights");
    spoilt_folder("llama", LAST("\\377\\173"), STATUS_OK, ""); /* 65504 */
#undef LAST
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(public_texts_give_the_presets),
        cmocka_unit_test(sizes_are_the_published_ones),
        cmocka_unit_test(rope_parameters_say_the_same),
        cmocka_unit_test(features_are_read),
        cmocka_unit_test(ids_are_read),
        cmocka_unit_test(numbers_that_cannot_be),
        cmocka_unit_test(what_is_unknown),
        cmocka_unit_test(lines_are_named),
        cmocka_unit_test(folders_that_do_not_fit),
        cmocka_unit_test(wild_values_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
