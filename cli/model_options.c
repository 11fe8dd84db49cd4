#include "cli/model_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

enum {
    KEY_MODEL = 512,
    KEY_DEVICE,
    KEY_CONFIGS,
    KEY_FORM,
    KEY_DTYPE,
    KEY_CAPACITY,
    KEY_SEED,
    KEY_QUIET
};
static const struct argp_option options[] = {
    {"model", KEY_MODEL, "DIR|PRESET", 0,
     "a HuggingFace folder, or a preset's shapes with random weights (llama-3.2-3b, llama-3.2-1b, "
     "smollm3-3b, qwen2.5-3b, qwen3-4b, mistral-7b, tiny)",
     0},
    {"device", KEY_DEVICE, "ID", 0, "cuda:N, cpu, or auto (the default): the first GPU, else cpu",
     0},
    {"configs", KEY_CONFIGS, "DIR|default", 0,
     "where the tuned points are; default: the built-in ones", 0},
    {"form", KEY_FORM, "FORM", 0,
     "of a decode step: launches (a graph of some a layer), persistent (one kernel; fp16 or "
     "bf16, sm_90 on), or auto: as the configuration says",
     0},
    {"dtype", KEY_DTYPE, "TYPE", 0, "fp16, bf16 or fp32; without it the checkpoint's", 0},
    {"capacity", KEY_CAPACITY, "N", 0, "positions that the KV cache has room for", 0},
    {"seed", KEY_SEED, "N", 0, "of sampling, of a preset's weights, of made-up prompts (1)", 0},
    {"quiet", KEY_QUIET, NULL, 0, "no progress", 0},
    {0}};

const struct model_options model_options_default = {
    .device = "auto", .dtype = DTYPE_COUNT, .batch = 1, .seed = 1};

bool model_form_parse(const char *text, enum step_form *out) {
    static const char *const names[] = {"auto", "launches", "persistent"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(text, names[i])) return *out = (enum step_form)i, true;
    return false;
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct model_options *o = state->input;
    switch (key) {
    case KEY_MODEL:
        o->model = arg;
        break;
    case KEY_DEVICE:
        o->device = arg;
        break;
    case KEY_CONFIGS:
        o->configs = arg;
        break;
    case KEY_FORM:
        if (!model_form_parse(arg, &o->form))
            argp_error(state, "--form %s: launches, persistent or auto was expected", arg);
        break;
    case KEY_DTYPE:
        o->dtype = cli_dtype(state, arg);
        break;
    case KEY_CAPACITY:
        o->capacity = cli_number(state, arg, 2, 1 << 24);
        break;
    case KEY_SEED:
        o->seed = (uint64_t)cli_number(state, arg, 0, INT64_MAX);
        break;
    case KEY_QUIET:
        o->quiet = true;
        break;
    case ARGP_KEY_END:
        if (!o->model && !o->model_may_be_missing)
            argp_error(state, "--model DIR or --model PRESET was expected");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}
const struct argp model_options_argp = {options, parse, NULL, NULL, NULL, NULL, NULL};

volatile sig_atomic_t model_interrupted;

static void interrupt(int signal_number) {
    model_interrupted = 1;
    signal(signal_number, SIG_DFL);
}

void model_options_catch(void) { signal(SIGINT, interrupt), signal(SIGTERM, interrupt); }

static bool show(void *context, size_t done, size_t all) {
    const bool *quiet = context;
    static int shown = -1;
    int percent = (int)(100.0 * (double)done / (double)all);
    if (!*quiet && percent != shown && all > 64u << 20) {
        fprintf(stderr, "\rloading %.2f GB: %d%%%s", (double)all * 1e-9, percent,
                done == all ? "\n" : "");
        shown = percent;
    }
    return !model_interrupted;
}

enum status model_options_find(const struct model_options *o, bool *preset) {
    const char *const *names = model_preset_names();
    struct model_config config;
    char list[512] = "";
    int count = 0;
    *preset = model_preset(o->model, &config);
    if (*preset || !access(o->model, F_OK)) return STATUS_OK;
    for (size_t n = 0; names[count]; count++)
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", count ? ", " : "", names[count]);
    const char *near = nearest_name(o->model, names, count);
    if (near)
        return fail(STATUS_ARGUMENT,
                    "--model %s: neither a folder nor a preset; did you mean '%s'?", o->model,
                    near);
    return fail(STATUS_ARGUMENT,
                "--model %s: no such folder; a HuggingFace model's folder or a preset (%s) was "
                "expected",
                o->model, list);
}

enum status model_options_open(const struct model_options *o, struct opened *out) {
    bool preset;
    char note[256];
    bool quiet = o->quiet || !isatty(STDERR_FILENO);
    *out = (struct opened){0};
    TRY(model_options_find(o, &preset));
    TRY(device_open(o->device, note, &out->device));
    if (*note) fprintf(stderr, "fastinfer: %s\n", note);
    enum status status = model_load(o->model, &out->model);
    struct engine_options options = {.batch = o->batch,
                                     .capacity = o->capacity,
                                     .dtype = o->dtype,
                                     .choice = {.configs = o->configs, .form = o->form},
                                     .seed = o->seed,
                                     .progress = show,
                                     .progress_context = &quiet};
    if (!status) status = engine_open(out->device, out->model, &options, &out->engine);
    if (status) model_options_close(out);
    return status;
}

void model_options_close(struct opened *o) {
    engine_close(o->engine);
    model_free(o->model);
    if (o->device) o->device->ops->close(o->device);
    *o = (struct opened){0};
}
