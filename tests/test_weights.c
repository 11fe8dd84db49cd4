/* test_weights.c - where weights lie on a device, by their names in a folder: each tensor of the
 * golden checkpoints is found and holds the file's numbers, though the device has q, k and v as one
 * matrix, and gate and up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/weights.h"

#include <cmocka.h> /* last: its macro fail() hides the function */

static struct device *device;

static void good(enum status status) {
    if (status) fail_msg("%s: %s", status_text(status), fail_message());
}

static void open_golden(const char *family, enum status (*load)(const char *, struct model **),
                        struct model **model, struct weights **weights) {
    char path[512];
    snprintf(path, sizeof path, FASTINFER_ROOT "/tests/golden/%s", family);
    good(load(path, model));
    enum dtype dtype = (*model)->layers ? (*model)->embedding.dtype : DTYPE_F16;
    struct weights_source source = {.model = *model, .dtype = dtype, .seed = 1};
    good(weights_load(device, &source, weights));
}

static void each_tensor_is_found(void **state) {
    static const char *const families[] = {"llama", "llama_bias", "smollm3",
                                           "qwen2", "qwen3",      "mistral"};
    (void)state;
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        struct model *model;
        struct weights *weights;
        open_golden(families[f], model_load, &model, &weights);
        int count = safetensors_count(model->files);
        assert_true(count >= 20);
        for (int i = 0; i < count; i++) {
            const struct tensor *t = safetensors_at(model->files, i);
            struct weight_view view;
            good(weights_find(weights, &model->config, t->name, &view));
            assert_int_equal(view.rows, t->shape[0]);
            assert_int_equal(view.columns, t->rank == 2 ? t->shape[1] : 0);
            void *copy = malloc(t->bytes);
            assert_non_null(copy);
            good(device->ops->download(device, copy, view.data, t->bytes));
            if (memcmp(copy, t->data, t->bytes)) fail_msg("%s: %s differs", families[f], t->name);
            free(copy);
        }
        weights_free(weights);
        model_free(model);
    }
}

static void other_names_are_refused(void **state) {
    static const char *const names[] = {"",
                                        "model",
                                        "model.layers.",
                                        "model.layers.0",
                                        "model.layers.0.",
                                        "model.layers.-1.mlp.up_proj.weight",
                                        "model.layers. 0.mlp.up_proj.weight",
                                        "model.layers.999.mlp.up_proj.weight",
                                        "model.layers.0.mlp.up_proj.weights",
                                        "model.layers.0.mlp.up_proj",
                                        "model.layers.0.self_attn.q_norm.weight",
                                        "model.layers.0.self_attn.q_proj.bias"};
    struct model *model;
    struct weights *weights;
    (void)state;
    open_golden("llama", model_load, &model, &weights);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct weight_view view;
        assert_int_equal(weights_find(weights, &model->config, names[i], &view), STATUS_ARGUMENT);
        assert_non_null(strstr(fail_message(), names[i]));
    }
    weights_free(weights);
    model_free(model);
}

/* A config alone has the same places, and numbers in them that are not the file's. */
static void config_alone_has_places(void **state) {
    struct model *model;
    struct weights *weights;
    struct weight_view view, head;
    unsigned short first[64];
    (void)state;
    open_golden("qwen3", model_load_config, &model, &weights);
    assert_true(!model->layers && !model->files);
    good(weights_find(weights, &model->config, "model.layers.1.self_attn.k_norm.weight", &view));
    assert_int_equal(view.rows, model->config.head_dim);
    assert_int_equal(view.columns, 0);
    good(weights_find(weights, &model->config, "model.embed_tokens.weight", &view));
    good(weights_find(weights, &model->config, "lm_head.weight", &head));
    assert_int_equal(view.data == head.data, model->config.tied);
    good(device->ops->download(device, first, view.data, sizeof first));
    assert_int_not_equal(first[0] | first[1] | first[2] | first[3], 0);
    weights_free(weights);
    model_free(model);
    assert_int_equal(model_load_config("no/such/folder", &model), STATUS_MISSING);
    assert_null(model);
}

int main(void) {
    const char *id = getenv("FASTINFER_TEST_DEVICE");
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_tensor_is_found),
                                       cmocka_unit_test(other_names_are_refused),
                                       cmocka_unit_test(config_alone_has_places)};
    if (device_open(id ? id : "cpu", NULL, &device)) return puts(fail_message()), 2;
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    device->ops->close(device);
    return failures;
}
