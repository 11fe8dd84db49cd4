/* test_engine.c - the engine on the CPU device against transformers: logits and greedy tokens of
 * the golden checkpoints (tests/golden/make.py: fp32 transformers on fp16 weights).
 *
 * In fp32 the engine differs by rounding alone; in fp16 and bf16 what is stored between kernels is
 * rounded, too, and every rounding of attention's inputs is felt, for the checkpoints are made
 * sharp. Leaving out a feature is at least 1e-2 away (test_model.c).
 *
 *   FASTINFER_TEST_DEVICE   cuda:0: the same there
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

#include <cmocka.h> /* last: its macro fail() hides the function */

static const double TOLERANCE = 1e-4; /* of fp32, in spreads of a row's logits */
enum { CAPACITY = 192, MAX_VOCAB = 1024, PROMPTS = 4, GREEDY = 40, MAX_SEQUENCES = 3 };
static struct device *device;

struct golden {
    struct model *model;
    json_t *json, *prompts;
};

static void good(enum status status) {
    if (status) fail_msg("%s: %s", status_text(status), fail_message());
}

static struct golden golden_open(const char *family) {
    char path[512];
    json_error_t error;
    struct golden g = {0};
    snprintf(path, sizeof path, FASTINFER_ROOT "/tests/golden/%s", family);
    good(model_load(path, &g.model));
    strcat(path, "/golden.json");
    g.json = json_load_file(path, 0, &error);
    if (!g.json) fail_msg("%s:%d: %s", path, error.line, error.text);
    g.prompts = json_object_get(g.json, "prompts");
    return g;
}

static void golden_close(struct golden *g) {
    json_decref(g->json);
    model_free(g->model);
}

static int64_t ids_of(const struct golden *g, size_t prompt, const char *key, int32_t *out) {
    const json_t *list = json_object_get(json_array_get(g->prompts, prompt), key);
    size_t n = json_array_size(list);
    assert_true(n > 0 && n <= CAPACITY);
    for (size_t i = 0; i < n; i++) out[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return (int64_t)n;
}

/* The largest difference over the spread of the logits. */
static double distance(const float *got, const json_t *want) {
    size_t n = json_array_size(want);
    double most = 0, mean = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        double w = json_number_value(json_array_get(want, i)), g = (double)got[i];
        most = fmax(most, isfinite(g) ? fabs(g - w) : INFINITY);
        mean += w / (double)n, squares += w * w / (double)n;
    }
    return most / sqrt(squares - mean * mean);
}

static struct engine *open_engine(const struct model *model, int batch, enum dtype dtype) {
    struct engine *engine;
    struct engine_options options = {
        .batch = batch, .capacity = CAPACITY, .dtype = dtype, .choice = {.configs = "default"}};
    options.prefill_rows = 48; /* so that the longest prompt takes three passes */
    good(engine_open(device, model, &options, &engine));
    return engine;
}

/* One prompt in one sequence: the logits after it, and, if `greedy`, the 40 tokens that follow. */
static double run_prompt(struct engine *engine, const struct golden *g, size_t prompt,
                         bool greedy) {
    int32_t ids[CAPACITY], want[CAPACITY], got[CAPACITY];
    float logits[MAX_VOCAB];
    int64_t count = ids_of(g, prompt, "tokens", ids);
    good(engine_prompt(engine, 0, ids, count));
    good(engine_logits(engine, 0, logits));
    double far = distance(logits, json_object_get(json_array_get(g->prompts, prompt), "logits"));
    if (!greedy) return far;
    assert_int_equal(ids_of(g, prompt, "greedy", want), GREEDY);
    good(engine_decode(engine, GREEDY - 1));
    assert_int_equal(engine_position(engine, 0), count + GREEDY - 1);
    good(engine_tokens(engine, 0, count, GREEDY, got));
    for (int i = 0; i < GREEDY; i++)
        if (got[i] != want[i])
            fail_msg("prompt %zu: token %d is %d, not %d", prompt, i, got[i], want[i]);
    return far;
}

static void family_agrees(const char *family) {
    struct golden g = golden_open(family);
    struct engine *engine = open_engine(g.model, 1, DTYPE_F32);
    double worst = 0;
    for (size_t p = 0; p < PROMPTS; p++) worst = fmax(worst, run_prompt(engine, &g, p, true));
    if (!(worst <= TOLERANCE)) fail_msg("%s: logits are %.3g spreads off", family, worst);
    print_message("%s: worst difference %.2g spreads\n", family, worst);
    engine_close(engine);
    golden_close(&g);
}

static void llama_agrees(void **state) { (void)state, family_agrees("llama"); }
static void llama_bias_agrees(void **state) { (void)state, family_agrees("llama_bias"); }
static void smollm3_agrees(void **state) { (void)state, family_agrees("smollm3"); }
static void qwen2_agrees(void **state) { (void)state, family_agrees("qwen2"); }
static void qwen3_agrees(void **state) { (void)state, family_agrees("qwen3"); }
static void mistral_agrees(void **state) { (void)state, family_agrees("mistral"); }

/* Three sequences of different lengths side by side give what each gives alone. */
static void batch_agrees(void **state) {
    static const char *const families[] = {"llama", "smollm3", "mistral"};
    (void)state;
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        struct golden g = golden_open(families[f]);
        struct engine *engine = open_engine(g.model, 3, DTYPE_F32);
        int32_t ids[CAPACITY], want[CAPACITY], got[CAPACITY];
        for (int s = 0; s < 3; s++)
            good(engine_prompt(engine, s, ids, ids_of(&g, (size_t)s + 1, "tokens", ids)));
        good(engine_decode(engine, GREEDY - 1));
        for (int s = 0; s < 3; s++) {
            int64_t count = ids_of(&g, (size_t)s + 1, "tokens", ids);
            ids_of(&g, (size_t)s + 1, "greedy", want);
            good(engine_tokens(engine, s, count, GREEDY, got));
            for (int i = 0; i < GREEDY; i++)
                if (got[i] != want[i])
                    fail_msg("%s, sequence %d: token %d is %d, not %d", families[f], s, i, got[i],
                             want[i]);
        }
        engine_close(engine);
        golden_close(&g);
    }
}

/* A prompt that comes again gives the same again, bit for bit: launched, recorded, replayed, and
 * after so many others that its graph was given up. */
static void prompts_come_again(void **state) {
    enum { LENGTHS = 24 };
    static const struct {
        int from, to;
    } turn[] = {{1, 4}, {1, 4}, {1, 4}, {5, LENGTHS}, {1, 4}, {3, 4}};
    struct golden g = golden_open("llama");
    struct engine *engine = open_engine(g.model, 2, DTYPE_F32);
    int64_t vocab = g.model->config.vocab;
    size_t bytes = (size_t)vocab * sizeof(float);
    float *first = calloc(LENGTHS + 1, bytes), *again = malloc(bytes);
    bool seen[LENGTHS + 1] = {false};
    int32_t ids[CAPACITY];
    (void)state;
    assert_true(first && again && ids_of(&g, PROMPTS - 1, "tokens", ids) >= LENGTHS);
    for (size_t t = 0; t < sizeof turn / sizeof *turn; t++)
        for (int n = turn[t].from; n <= turn[t].to; n++) {
            float *kept = first + n * vocab;
            good(engine_prompt(engine, n % 2, ids, n));
            good(engine_logits(engine, n % 2, seen[n] ? again : kept));
            if (seen[n]) assert_memory_equal(kept, again, bytes);
            seen[n] = true;
        }
    assert_memory_not_equal(first + vocab, first + 2 * vocab, bytes);
    free(first), free(again);
    engine_close(engine);
    golden_close(&g);
}

/* What a half can hold: eight thousand times fp32's rounding, felt through sharp attention. Prefill
 * rounds projections, queries and weights of attention to the element, as any half model does. */
static void half_is_near(void **state) {
    static const struct {
        enum dtype dtype;
        double tolerance;
    } types[] = {{DTYPE_F16, 3e-2}, {DTYPE_BF16, 2e-1}};
    static const char *const families[] = {"llama", "smollm3", "qwen2", "qwen3", "mistral"};
    (void)state;
    for (size_t f = 0; f < sizeof families / sizeof *families; f++)
        for (size_t t = 0; t < 2; t++) {
            struct golden g = golden_open(families[f]);
            struct engine *engine = open_engine(g.model, 1, types[t].dtype);
            double worst = 0;
            for (size_t p = 1; p < PROMPTS; p += 2) /* 7 tokens, and 130 in three passes */
                worst = fmax(worst, run_prompt(engine, &g, p, false));
            print_message("%s, %s: worst difference %.2g spreads\n", families[f],
                          dtype_name(types[t].dtype), worst);
            if (!(worst <= types[t].tolerance))
                fail_msg("%s in %s: logits are %.3g spreads off", families[f],
                         dtype_name(types[t].dtype), worst);
            engine_close(engine);
            golden_close(&g);
        }
}

static double spreads_between(const float *a, const float *b, int64_t n) {
    double mean = 0, squares = 0, most = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = (double)a[i], y = (double)b[i];
        most = fmax(most, isfinite(y) ? fabs(x - y) : INFINITY);
        mean += x / (double)n, squares += x * x / (double)n;
    }
    return most / sqrt(squares - mean * mean);
}

/* The step that was just done, once more without delays: it must give the very same logits. */
static void same_without_delays(struct engine *engine, const struct engine_state *before,
                                int64_t vocab, int delay_ns) {
    static float slow[MAX_SEQUENCES][MAX_VOCAB], quick[MAX_VOCAB];
    struct engine_state *after;
    struct program *step;
    int batch = engine_facts(engine).batch;
    for (int s = 0; s < batch; s++) good(engine_logits(engine, s, slow[s]));
    good(engine_save(engine, &after));
    good(engine_restore(engine, before));
    good(engine_delay(engine, 0));
    good(engine_step(engine, &step));
    good(program_run(step));
    for (int s = 0; s < batch; s++) {
        good(engine_logits(engine, s, quick));
        assert_memory_equal(slow[s], quick, (size_t)vocab * sizeof *quick);
    }
    good(engine_restore(engine, after));
    good(engine_delay(engine, delay_ns));
    engine_state_free(after);
}

/* One decode step at the same place in both forms, the persistent one with its phases delayed at
 * random: their logits' largest difference, in spreads. The second form's choice stays. */
static double step_in_both(struct engine *engine, int64_t vocab, bool persistent_last,
                           int delay_ns) {
    static const enum step_form form[] = {FORM_LAUNCHES, FORM_PERSISTENT};
    static float first[MAX_SEQUENCES][MAX_VOCAB], second[MAX_VOCAB];
    struct engine_choice choice = {.configs = "default"};
    struct engine_state *state;
    struct program *step;
    double worst = 0;
    int batch = engine_facts(engine).batch;
    choice.form = form[!persistent_last];
    good(engine_choose(engine, &choice));
    good(engine_save(engine, &state));
    good(engine_step(engine, &step));
    good(program_run(step));
    for (int s = 0; s < batch; s++) good(engine_logits(engine, s, first[s]));
    if (!persistent_last) same_without_delays(engine, state, vocab, delay_ns);
    good(engine_restore(engine, state));
    engine_state_free(state);
    choice.form = form[persistent_last];
    good(engine_choose(engine, &choice));
    assert_int_equal(engine_facts(engine).persistent, persistent_last);
    good(engine_decode(engine, 1));
    for (int s = 0; s < batch; s++) {
        good(engine_logits(engine, s, second));
        worst = fmax(worst, spreads_between(first[s], second, vocab));
    }
    return worst;
}

static void needs_sm_90(void) {
    if (device->info.kind != DEVICE_CUDA || device->info.arch >= 90) return;
    print_message("skipped: the persistent step is for sm_90 and newer\n");
    skip();
}

/* Sequences of different lengths at once, in both forms. */
static void persistent_batch_agrees(void **state) {
    needs_sm_90();
    struct golden g = golden_open("mistral"); /* with a window, which only the longer ones fill */
    struct engine *engine = open_engine(g.model, MAX_SEQUENCES, DTYPE_F16);
    int32_t ids[CAPACITY];
    double worst = 0;
    (void)state;
    good(engine_delay(engine, 1000));
    for (int s = 0; s < MAX_SEQUENCES; s++)
        good(engine_prompt(engine, s, ids, ids_of(&g, (size_t)s, "tokens", ids)));
    for (int i = 0; i < 3; i++)
        worst = fmax(worst, step_in_both(engine, g.model->config.vocab, i % 2, 1000));
    print_message("%d sequences, worst difference %.2g spreads\n", MAX_SEQUENCES, worst);
    if (!(worst <= 4e-2)) fail_msg("the forms are %.3g spreads apart", worst);
    engine_close(engine);
    golden_close(&g);
}

/* The whole step in one kernel, with its phases delayed at random: bit for bit what it is without
 * delays, and near the launches. They round at the same places but one: the kernel rounds normed
 * activations to the element, which costs it as much as rounding costs either against fp32 (3e-2
 * spreads in fp16), and the worst of thousands of steps is farther out than that of a few. */
static void persistent_agrees(void **state) {
    static const char *const families[] = {"llama", "llama_bias", "smollm3",
                                           "qwen2", "qwen3",      "mistral"};
    static const double tolerance[] = {[DTYPE_F16] = 1e-1, [DTYPE_BF16] = 8e-1};
    needs_sm_90();
    const char *asked = getenv("FASTINFER_TEST_STEPS");
    int steps = asked ? atoi(asked) : 4;
    (void)state;
    for (size_t f = 0; f < sizeof families / sizeof *families; f++)
        for (enum dtype t = DTYPE_F16; t <= (f ? DTYPE_F16 : DTYPE_BF16); t++) {
            struct golden g = golden_open(families[f]);
            struct engine *engine = open_engine(g.model, 1, t);
            int32_t ids[CAPACITY];
            double worst = 0;
            int64_t longest = CAPACITY;
            good(engine_delay(engine, 2000));
            for (int i = 0; i < steps; i++) {
                if (longest == CAPACITY) { /* from the shortest prompt to the cache's end */
                    size_t prompt = steps > 100 ? 0 : 2;
                    longest = ids_of(&g, prompt, "tokens", ids);
                    good(engine_prompt(engine, 0, ids, longest));
                }
                worst = fmax(worst, step_in_both(engine, g.model->config.vocab, i % 2, 2000));
                longest++;
            }
            print_message("%s, %s: %d steps in both forms, worst difference %.2g spreads\n",
                          families[f], dtype_name(t), steps, worst);
            if (!(worst <= tolerance[t]))
                fail_msg("%s in %s: the forms are %.3g spreads apart", families[f], dtype_name(t),
                         worst);
            engine_close(engine);
            golden_close(&g);
        }
}

/* Six sequences at once, which tensor cores multiply, against each alone. */
static void many_agree_with_one(void **state) {
    enum { MANY = 6, STEPS = 3 };
    static const enum dtype types[] = {DTYPE_F16, DTYPE_BF16};
    static const double tolerance[] = {4e-2, 4e-1};
    static float alone[PROMPTS][MAX_VOCAB], together[MAX_VOCAB];
    (void)state;
    for (int t = 0; t < 2; t++) {
        struct golden g = golden_open("smollm3");
        int32_t ids[CAPACITY], got[PROMPTS][STEPS], too[STEPS];
        double worst = 0;
        struct engine *one = open_engine(g.model, 1, types[t]);
        for (int p = 0; p < 2; p++) {
            int64_t count = ids_of(&g, (size_t)p, "tokens", ids);
            good(engine_prompt(one, 0, ids, count));
            good(engine_decode(one, STEPS - 1));
            good(engine_logits(one, 0, alone[p]));
            good(engine_tokens(one, 0, count, STEPS, got[p]));
        }
        engine_close(one);
        struct engine *many = open_engine(g.model, MANY, types[t]);
        for (int s = 0; s < MANY; s++)
            good(engine_prompt(many, s, ids, ids_of(&g, (size_t)s % 2, "tokens", ids)));
        good(engine_decode(many, STEPS - 1));
        for (int s = 0; s < MANY; s++) {
            int64_t count = ids_of(&g, (size_t)s % 2, "tokens", ids), vocab = g.model->config.vocab;
            double most = 0, squares = 0;
            good(engine_logits(many, s, together));
            good(engine_tokens(many, s, count, STEPS, too));
            assert_memory_equal(too, got[s % 2], sizeof too - sizeof *too); /* the same context */
            for (int64_t i = 0; i < vocab; i++) {
                double a = (double)alone[s % 2][i];
                most = fmax(most, fabs(a - (double)together[i])), squares += a * a / (double)vocab;
            }
            worst = fmax(worst, most / sqrt(squares));
        }
        print_message("%s: six at once differ by %.2g spreads\n", dtype_name(types[t]), worst);
        if (!(worst <= tolerance[t])) fail_msg("%.3g spreads", worst);
        engine_close(many);
        golden_close(&g);
    }
}

/* Without a library for matrix products prompts go through as decode steps. */
static void without_products_too(void **state) {
    (void)state;
    struct golden g = golden_open("smollm3");
    setenv("FASTINFER_MATMUL", "none", 1);
    struct engine *engine = open_engine(g.model, 2, DTYPE_F32);
    unsetenv("FASTINFER_MATMUL");
    assert_string_equal(engine_facts(engine).matmul, "none");
    double far = run_prompt(engine, &g, 1, true);
    if (!(far <= TOLERANCE)) fail_msg("logits are %.3g spreads off", far);
    engine_close(engine);
    golden_close(&g);
}

static void refused(enum status got, enum status want, const char *words) {
    assert_int_equal(got, want);
    if (!strstr(fail_message(), words)) fail_msg("'%s' lacks '%s'", fail_message(), words);
}

static void nonsense_is_refused(void **state) {
    (void)state;
    struct golden g = golden_open("llama");
    struct engine *engine = open_engine(g.model, 2, DTYPE_F32), *none;
    int32_t ids[CAPACITY + 1] = {0}, wrong[] = {1, 320};
    refused(engine_prompt(engine, 0, ids, 0), STATUS_ARGUMENT, "at least one token");
    refused(engine_prompt(engine, 0, ids, CAPACITY + 1), STATUS_ARGUMENT, "193 tokens");
    refused(engine_prompt(engine, 2, ids, 1), STATUS_ARGUMENT, "0 to 1");
    refused(engine_prompt(engine, 0, wrong, 2), STATUS_ARGUMENT, "is 320");
    good(engine_prompt(engine, 0, ids, CAPACITY - 1));
    refused(engine_decode(engine, 2), STATUS_ARGUMENT, "room for 1 of 192");
    good(engine_decode(engine, 1));
    refused(engine_decode(engine, 1), STATUS_ARGUMENT, "room for 0 of 192");
    good(engine_tokens(engine, 0, 0, CAPACITY + 1, ids)); /* the last is only pending */
    refused(engine_tokens(engine, 0, 0, CAPACITY + 2, ids), STATUS_ARGUMENT, "there are 193");
    struct engine_choice one_kernel = {.configs = "default", .form = FORM_PERSISTENT};
    refused(engine_choose(engine, &one_kernel), STATUS_ARGUMENT, "fp16 and bf16, not fp32");
    engine_close(engine);
    struct engine_options options = {.batch = 17, .dtype = DTYPE_COUNT};
    refused(engine_open(device, g.model, &options, &none), STATUS_ARGUMENT, "1 to 16");
    options = (struct engine_options){.capacity = 513, .dtype = DTYPE_COUNT};
    refused(engine_open(device, g.model, &options, &none), STATUS_ARGUMENT, "2 to 512");
    golden_close(&g);
}

/* A weight that is NaN is named, once its tokens come out. */
static void nan_weights_are_named(void **state) {
    (void)state;
    struct golden g = golden_open("llama");
    struct tensor *down = &g.model->layers[1].down;
    uint16_t *copy = malloc(down->bytes);
    assert_non_null(copy);
    memcpy(copy, down->data, down->bytes);
    copy[5] = 0x7e00;
    down->data = copy;
    struct engine *engine = open_engine(g.model, 1, DTYPE_F16);
    int32_t ids[] = {3, 4, 5};
    good(engine_prompt(engine, 0, ids, 3));
    refused(engine_tokens(engine, 0, 3, 1, ids), STATUS_FORMAT, "layers.1.mlp.down_proj.weight");
    engine_close(engine);
    golden_close(&g);
    free(copy);
}

/* A preset runs without a file, and the same seed gives the same tokens. */
static void presets_run(void **state) {
    struct model *model;
    int32_t first[8], again[8], prompt[] = {1, 2, 3};
    (void)state;
    good(model_load("tiny", &model));
    for (int run = 0; run < 2; run++) {
        struct engine *engine = open_engine(model, 1, DTYPE_COUNT);
        good(engine_prompt(engine, 0, prompt, 3));
        good(engine_decode(engine, 7));
        good(engine_tokens(engine, 0, 3, 8, run ? again : first));
        engine_close(engine);
    }
    assert_memory_equal(first, again, sizeof first);
    model_free(model);
}

int main(void) {
    const char *id = getenv("FASTINFER_TEST_DEVICE");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_agrees),          cmocka_unit_test(llama_bias_agrees),
        cmocka_unit_test(smollm3_agrees),        cmocka_unit_test(qwen2_agrees),
        cmocka_unit_test(qwen3_agrees),          cmocka_unit_test(mistral_agrees),
        cmocka_unit_test(without_products_too),  cmocka_unit_test(batch_agrees),
        cmocka_unit_test(prompts_come_again),    cmocka_unit_test(half_is_near),
        cmocka_unit_test(persistent_agrees),     cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(nan_weights_are_named), cmocka_unit_test(presets_run),
        cmocka_unit_test(many_agree_with_one),   cmocka_unit_test(persistent_batch_agrees)};
    if (device_open(id ? id : "cpu", NULL, &device)) return puts(fail_message()), 2;
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    device->ops->close(device);
    return failures;
}
