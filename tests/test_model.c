/* test_model.c - checkpoints as transformers wrote them (tests/golden/make.py), run in fp64 and
 * compared with transformers' own fp32 logits and greedy tokens; and that a forward pass that
 * leaves out any one feature is told from a right one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model.h"
#include "tests/reference_model.h"

#include <cmocka.h> /* last: its macro fail() hides the function */

/* Largest |difference| over the spread of a row's logits. fp32 rounding over some hundred terms
 * and a few layers is about 1e-5; what leaves out a feature must be 100 times further. */
static const double TOLERANCE = 1e-4, SPOILT = 1e-2;
enum { POSITIONS = 192 };

struct golden {
    const char *family;
    struct model *model;
    json_t *json, *prompts;
};

static void good(enum status status) {
    if (status) fail_msg("%s: %s", status_text(status), fail_message());
}

static struct golden golden_open(const char *family) {
    char path[512];
    json_error_t error;
    struct golden g = {.family = family};
    snprintf(path, sizeof path, FASTINFER_ROOT "/tests/golden/%s", family);
    good(model_load(path, &g.model));
    strcat(path, "/golden.json");
    g.json = json_load_file(path, 0, &error);
    if (!g.json) fail_msg("%s:%d: %s", path, error.line, error.text);
    g.prompts = json_object_get(g.json, "prompts");
    assert_int_equal(json_array_size(g.prompts), 4);
    return g;
}

static void golden_close(struct golden *g) {
    json_decref(g->json);
    model_free(g->model);
}

static int64_t number(const json_t *prompt, const char *key, size_t i) {
    const json_t *item = json_array_get(json_object_get(prompt, key), i);
    assert_true(json_is_integer(item));
    return json_integer_value(item);
}

/* The largest difference over the spread of the logits. */
static double distance(const double *got, const json_t *want) {
    size_t n = json_array_size(want);
    double most = 0, mean = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        double w = json_number_value(json_array_get(want, i));
        most = fmax(most, isfinite(got[i]) ? fabs(got[i] - w) : INFINITY);
        mean += w / (double)n, squares += w * w / (double)n;
    }
    return most / sqrt(squares - mean * mean);
}

/* The logits after a prompt. */
static const double *read_prompt(struct reference *r, const json_t *prompt) {
    const double *logits = NULL;
    size_t n = json_array_size(json_object_get(prompt, "tokens"));
    reference_reset(r);
    for (size_t i = 0; i < n; i++) logits = reference_step(r, number(prompt, "tokens", i));
    assert_non_null(logits);
    return logits;
}

static int64_t greatest(const double *logits, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

/* --- right ------------------------------------------------------------------------------------ */

static void family_agrees(const char *family, size_t layers) {
    static const size_t lengths[] = {1, 7, 64, 130};
    struct golden g = golden_open(family);
    struct reference *r = reference_new(g.model, POSITIONS);
    double worst = 0;
    assert_int_equal(g.model->config.layers, layers);
    good(model_check_values(g.model));
    for (size_t p = 0; p < 4; p++) {
        const json_t *prompt = json_array_get(g.prompts, p);
        assert_int_equal(json_array_size(json_object_get(prompt, "tokens")), lengths[p]);
        const json_t *want = json_object_get(prompt, "logits");
        assert_int_equal(json_array_size(want), g.model->config.vocab);
        assert_int_equal(json_array_size(json_object_get(prompt, "greedy")), 40);
        const double *logits = read_prompt(r, prompt);
        double far = distance(logits, want);
        worst = fmax(worst, far);
        if (!(far <= TOLERANCE))
            fail_msg("%s, %zu tokens: logits are %.3g spreads off", family, lengths[p], far);
        for (size_t i = 0; i < 40; i++) {
            int64_t token = greatest(logits, g.model->config.vocab);
            if (token != number(prompt, "greedy", i))
                fail_msg("%s, %zu tokens: greedy token %zu is %lld, not %lld", family, lengths[p],
                         i, (long long)token, (long long)number(prompt, "greedy", i));
            logits = reference_step(r, token);
        }
    }
    print_message("%s: worst difference %.2g spreads\n", family, worst);
    reference_free(r);
    golden_close(&g);
}

static void llama_agrees(void **state) { (void)state, family_agrees("llama", 2); }
static void llama_bias_agrees(void **state) { (void)state, family_agrees("llama_bias", 2); }
static void smollm3_agrees(void **state) { (void)state, family_agrees("smollm3", 4); }
static void qwen2_agrees(void **state) { (void)state, family_agrees("qwen2", 2); }
static void qwen3_agrees(void **state) { (void)state, family_agrees("qwen3", 2); }
static void mistral_agrees(void **state) { (void)state, family_agrees("mistral", 2); }

static void configs_are_as_asked_for(void **state) {
    (void)state;
    struct golden g = golden_open("llama");
    assert_true(g.model->config.scaling.llama3 && g.model->config.scaling.original == 48);
    assert_int_equal(g.model->config.heads / g.model->config.kv_heads, 3);
    assert_ptr_equal(g.model->head.data, g.model->embedding.data);
    golden_close(&g);
    g = golden_open("smollm3");
    assert_true(!g.model->config.no_rope[2] && g.model->config.no_rope[3]);
    golden_close(&g);
    g = golden_open("qwen2");
    assert_true(g.model->config.window == 20 && !g.model->config.windowed[0]);
    assert_true(g.model->config.windowed[1] && g.model->config.qkv_bias);
    golden_close(&g);
    g = golden_open("qwen3");
    assert_int_equal(g.model->config.head_dim * g.model->config.heads, 512); /* hidden is 64 */
    assert_true(g.model->config.eos_count == 2 && g.model->config.eos[1] == 3);
    golden_close(&g);
    g = golden_open("mistral"); /* in shards */
    assert_string_not_equal(g.model->embedding.where, g.model->layers[1].down.where);
    assert_true(g.model->config.windowed[0] && g.model->config.window == 24);
    golden_close(&g);
}

/* --- spoilt ----------------------------------------------------------------------------------- */

enum feature { SCALING, NO_ROPE, QK_NORM, QKV_BIAS, O_BIAS, WINDOW, GROUPS, THETA, TIED };

static void spoil(struct golden *g, struct reference *r, enum feature feature) {
    struct model_config *c = &g->model->config;
    switch (feature) {
    case SCALING:
        c->scaling = (struct rope_scaling){0};
        break;
    case NO_ROPE:
        memset(c->no_rope, 0, sizeof c->no_rope);
        break;
    case QK_NORM:
        c->qk_norm = false;
        break;
    case QKV_BIAS:
        c->qkv_bias = false;
        break;
    case O_BIAS:
        c->o_bias = false;
        break;
    case WINDOW:
        memset(c->windowed, 0, sizeof c->windowed);
        break;
    case GROUPS:
        reference_spoil_groups(r);
        break;
    case THETA:
        c->rope_theta *= 1.5;
        break;
    case TIED:
        g->model->head = g->model->embedding;
        break;
    }
}

/* The longest prompt alone must show it: there every feature has something to do. */
static void missed(const char *family, enum feature feature, const char *name) {
    struct golden g = golden_open(family);
    struct reference *r = reference_new(g.model, POSITIONS);
    const json_t *prompt = json_array_get(g.prompts, 3);
    spoil(&g, r, feature);
    double far = distance(read_prompt(r, prompt), json_object_get(prompt, "logits"));
    if (!(far >= SPOILT))
        fail_msg("%s without %s is only %.3g spreads off: the golden does not show it", family,
                 name, far);
    print_message("%s without %s: %.2g spreads\n", family, name, far);
    reference_free(r);
    golden_close(&g);
}

static void each_feature_is_seen(void **state) {
    (void)state;
    missed("llama", SCALING, "llama3 scaling");
    missed("llama", GROUPS, "the groups' order");
    missed("llama_bias", QKV_BIAS, "the bias of q, k and v");
    missed("llama_bias", O_BIAS, "the bias of o");
    missed("llama_bias", TIED, "a head of its own");
    missed("smollm3", NO_ROPE, "layers that do not rotate");
    missed("qwen2", QKV_BIAS, "bias");
    missed("qwen2", WINDOW, "the window");
    missed("qwen3", QK_NORM, "the norms of q and k");
    missed("mistral", WINDOW, "the window");
    missed("mistral", TIED, "a head of its own");
    for (int i = 0; i < 5; i++) {
        static const char *const all[] = {"llama", "smollm3", "qwen2", "qwen3", "mistral"};
        missed(all[i], THETA, "the right theta");
    }
}

/* A window off by one is the likeliest mistake of all. */
static void the_window_is_exact(void **state) {
    (void)state;
    static const char *const families[] = {"qwen2", "mistral"};
    for (int i = 0; i < 2; i++)
        for (int off = -1; off <= 1; off += 2) {
            struct golden g = golden_open(families[i]);
            struct reference *r = reference_new(g.model, POSITIONS);
            g.model->config.window += off;
            double most = 0;
            for (size_t p = 2; p < 4; p++) {
                const json_t *prompt = json_array_get(g.prompts, p);
                most =
                    fmax(most, distance(read_prompt(r, prompt), json_object_get(prompt, "logits")));
            }
            if (most < 10 * TOLERANCE)
                fail_msg("%s: a window %+d is only %.3g spreads off", families[i], off, most);
            reference_free(r);
            golden_close(&g);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_agrees),
        cmocka_unit_test(llama_bias_agrees),
        cmocka_unit_test(smollm3_agrees),
        cmocka_unit_test(qwen2_agrees),
        cmocka_unit_test(qwen3_agrees),
        cmocka_unit_test(mistral_agrees),
        cmocka_unit_test(configs_are_as_asked_for),
        cmocka_unit_test(each_feature_is_seen),
        cmocka_unit_test(the_window_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
