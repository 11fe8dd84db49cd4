/* fuzz_model_config.c - any bytes as config.json: refused with a sentence, or a config whose
 * numbers can be used without another look. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds) {
    if (!holds) abort();
}

static void use(const struct model_config *c) {
    expect(c->architecture < ARCHITECTURE_COUNT && c->hidden > 0 && c->intermediate > 0);
    expect(c->layers > 0 && c->layers <= MODEL_MAX_LAYERS && c->vocab > 0 && c->positions > 0);
    expect(c->kv_heads > 0 && c->heads % c->kv_heads == 0 && c->head_dim > 0);
    expect(c->head_dim % 2 == 0 && c->rms_eps > 0 && isfinite(c->rms_eps));
    expect(c->rope_theta >= 1 && isfinite(c->rope_theta));
    expect(!c->scaling.llama3 || (c->scaling.high > c->scaling.low && c->scaling.original > 0));
    expect(c->bos < c->vocab && c->eos_count >= 0 && c->eos_count <= MODEL_MAX_EOS);
    for (int i = 0; i < c->eos_count; i++) expect(c->eos[i] >= 0 && c->eos[i] < c->vocab);
    for (int64_t i = 0; i < c->layers; i++) expect(!c->windowed[i] || c->window > 0);
    expect(model_parameters(c) > 0);
    expect(model_bytes_a_token(c, 0) > 0);
    expect(model_bytes_a_token(c, c->positions) >= model_bytes_a_token(c, 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct model_config config;
    const char *text = (const char *)data;
    if (model_config_parse(text, size, "config.json", &config))
        expect(!strncmp(fail_message(), "config.json:", 12));
    else
        use(&config);
    expect(model_preset("tiny", &config));
    if (model_generation_parse(text, size, "generation_config.json", &config))
        expect(!strncmp(fail_message(), "generation_config.json:", 23));
    use(&config);
    return 0;
}
