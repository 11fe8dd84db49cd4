/* model_presets.c - the shapes of well-known models, from their public config.json, for work that
 * needs sizes and no weights. `tiny` is ours: every GEMV tail, two layers. */
#include "engine/model.h"

#include <string.h>

static const char *const names[] = {"llama-3.2-3b", "llama-3.2-1b", "smollm3-3b", "qwen2.5-3b",
                                    "qwen3-4b",     "mistral-7b",   "tiny",       NULL};

/* clang-format off */
static const struct model_config presets[] = {
    {.architecture = ARCHITECTURE_LLAMA, .hidden = 3072, .intermediate = 8192, .layers = 28,
     .heads = 24, .kv_heads = 8, .head_dim = 128, .vocab = 128256, .positions = 131072,
     .rms_eps = 1e-5, .rope_theta = 500000, .scaling = {true, 32, 1, 4, 8192}, .tied = true,
     .bos = 128000, .eos = {128001}, .eos_count = 1, .dtype = DTYPE_F16},
    {.architecture = ARCHITECTURE_LLAMA, .hidden = 2048, .intermediate = 8192, .layers = 16,
     .heads = 32, .kv_heads = 8, .head_dim = 64, .vocab = 128256, .positions = 131072,
     .rms_eps = 1e-5, .rope_theta = 500000, .scaling = {true, 32, 1, 4, 8192}, .tied = true,
     .bos = 128000, .eos = {128001}, .eos_count = 1, .dtype = DTYPE_F16},
    {.architecture = ARCHITECTURE_SMOLLM3, .hidden = 2048, .intermediate = 11008, .layers = 36,
     .heads = 16, .kv_heads = 4, .head_dim = 128, .vocab = 128256, .positions = 65536,
     .rms_eps = 1e-6, .rope_theta = 5000000, .tied = true,
     .bos = 128000, .eos = {128012}, .eos_count = 1, .dtype = DTYPE_F16},
    {.architecture = ARCHITECTURE_QWEN2, .hidden = 2048, .intermediate = 11008, .layers = 36,
     .heads = 16, .kv_heads = 2, .head_dim = 128, .vocab = 151936, .positions = 32768,
     .rms_eps = 1e-6, .rope_theta = 1000000, .tied = true, .qkv_bias = true,
     .bos = 151643, .eos = {151643}, .eos_count = 1, .dtype = DTYPE_F16},
    {.architecture = ARCHITECTURE_QWEN3, .hidden = 2560, .intermediate = 9728, .layers = 36,
     .heads = 32, .kv_heads = 8, .head_dim = 128, .vocab = 151936, .positions = 40960,
     .rms_eps = 1e-6, .rope_theta = 1000000, .tied = true, .qk_norm = true,
     .bos = 151643, .eos = {151645}, .eos_count = 1, .dtype = DTYPE_F16},
    {.architecture = ARCHITECTURE_MISTRAL, .hidden = 4096, .intermediate = 14336, .layers = 32,
     .heads = 32, .kv_heads = 8, .head_dim = 128, .vocab = 32768, .positions = 32768,
     .rms_eps = 1e-5, .rope_theta = 1000000,
     .bos = 1, .eos = {2}, .eos_count = 1, .dtype = DTYPE_F16},
    {.architecture = ARCHITECTURE_LLAMA, .hidden = 96, .intermediate = 160, .layers = 2,
     .heads = 6, .kv_heads = 2, .head_dim = 64, .vocab = 320, .positions = 512,
     .rms_eps = 1e-5, .rope_theta = 10000, .tied = true,
     .bos = 1, .eos = {2}, .eos_count = 1, .dtype = DTYPE_F16},
};
/* clang-format on */

bool model_preset(const char *name, struct model_config *out) {
    for (int i = 0; names[i]; i++) {
        if (strcmp(name, names[i]) != 0) continue;
        *out = presets[i];
        if (out->architecture == ARCHITECTURE_SMOLLM3) /* every fourth layer has no positions */
            for (int64_t layer = 3; layer < out->layers; layer += 4) out->no_rope[layer] = true;
        return true;
    }
    return false;
}

const char *const *model_preset_names(void) { return names; }
