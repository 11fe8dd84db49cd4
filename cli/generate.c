/* generate.c - fastinfer generate: text in, text out, as it comes. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/model_options.h"
#include "engine/chat.h"

enum {
    KEY_PROMPT = 1024,
    KEY_CHAT,
    KEY_SYSTEM,
    KEY_TOKENS,
    KEY_TEMPERATURE,
    KEY_TOP_K,
    KEY_TOP_P,
    KEY_MIN_P,
    KEY_IDS,
    KEY_IGNORE_END,
};
static const struct argp_option options[] = {
    {"prompt", KEY_PROMPT, "TEXT", 0, "without it: standard input", 0},
    {"chat", KEY_CHAT, NULL, 0, "the prompt is a user's message, in the model's own layout", 0},
    {"system", KEY_SYSTEM, "TEXT", 0, "the system's message before it (with --chat)", 0},
    {"max-tokens", KEY_TOKENS, "N", 0, "at most so many new tokens (256)", 0},
    {"temperature", KEY_TEMPERATURE, "T", 0, "0 (the default): always the likeliest token", 0},
    {"top-k", KEY_TOP_K, "K", 0, "only the K likeliest; 0: off", 0},
    {"top-p", KEY_TOP_P, "P", 0, "only the likeliest that together have P; 1: off", 0},
    {"min-p", KEY_MIN_P, "P", 0, "only what has P times the likeliest's probability; 0: off", 0},
    {"ids", KEY_IDS, NULL, 0, "print ids, a line each, instead of text", 0},
    {"ignore-end", KEY_IGNORE_END, NULL, 0, "go on after a token that ends the text", 0},
    {0}};

struct arguments {
    struct model_options model; /* first: the child parser's input */
    const char *prompt, *system;
    int64_t max_tokens;
    struct sample_options sample;
    bool chat, ids, ignore_end;
};

static float real(struct argp_state *state, const char *text, double least, double most) {
    char *end;
    double value = strtod(text, &end);
    if (*end || end == text || !(value >= least && value <= most))
        argp_error(state, "'%s': a number from %g to %g was expected", text, least, most);
    return (float)value;
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->model;
        break;
    case KEY_PROMPT:
        a->prompt = arg;
        break;
    case KEY_CHAT:
        a->chat = true;
        break;
    case KEY_SYSTEM:
        a->system = arg;
        break;
    case KEY_TOKENS:
        a->max_tokens = cli_number(state, arg, 1, 1 << 24);
        break;
    case KEY_TEMPERATURE:
        a->sample.temperature = real(state, arg, 0, 1000);
        break;
    case KEY_TOP_K:
        a->sample.top_k = (int)cli_number(state, arg, 0, 1 << 24);
        break;
    case KEY_TOP_P:
        a->sample.top_p = real(state, arg, 1e-6, 1);
        break;
    case KEY_MIN_P:
        a->sample.min_p = real(state, arg, 0, 1);
        break;
    case KEY_IDS:
        a->ids = true;
        break;
    case KEY_IGNORE_END:
        a->ignore_end = true;
        break;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s': a prompt follows --prompt", arg);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    if (key == KEY_SYSTEM && !a->chat) a->chat = true;
    return 0;
}

static enum status read_all(FILE *file, char **text) {
    char part[1 << 14];
    size_t size = 0, got;
    FILE *out = open_memstream(text, &size);
    if (!out) return fail(STATUS_SYSTEM, "out of memory");
    while ((got = fread(part, 1, sizeof part, file)) > 0) fwrite(part, 1, got, out);
    if (fclose(out)) return fail(STATUS_SYSTEM, "out of memory");
    if (ferror(file)) return fail(STATUS_SYSTEM, "standard input: %s", strerror(errno));
    return STATUS_OK;
}

static enum status encode(const struct arguments *a, struct tokenizer *tokenizer, int32_t **ids,
                          size_t *count) {
    char *own = NULL;
    if (!a->prompt) TRY(read_all(stdin, &own));
    const char *text = own ? own : a->prompt;
    enum status status;
    if (a->chat) {
        struct chat_message messages[2] = {{"system", a->system}, {"user", text}};
        size_t first = a->system ? 0 : 1;
        enum chat_layout layout;
        status = chat_find(tokenizer, &layout);
        if (!status)
            status = chat_encode(tokenizer, layout, messages + first, 2 - first, ids, count);
    } else {
        status = tokenizer_encode(tokenizer, text, strlen(text), true, ids, count);
    }
    free(own);
    return status;
}

/* --- the loop --------------------------------------------------------------------------------- */

struct talk {
    const struct arguments *a;
    struct opened o;
    struct tokenizer *tokenizer;
    struct tokenizer_stream *stream;
    int64_t prompt, made; /* tokens */
    bool over;
};

static bool ends(const struct talk *t, int32_t id) {
    const struct model_config *c = &t->o.model->config;
    if (t->a->ignore_end) return false;
    for (int i = 0; i < c->eos_count; i++)
        if (c->eos[i] == id) return true;
    return tokenizer_is_end(t->tokenizer, id);
}

static enum status say(struct talk *t, int32_t id) {
    const char *text;
    size_t bytes;
    t->made++;
    if (ends(t, id)) return t->over = true, STATUS_OK;
    if (t->a->ids) return printf("%d\n", id), STATUS_OK;
    TRY(tokenizer_stream_push(t->stream, id, &text, &bytes));
    fwrite(text, 1, bytes, stdout);
    return STATUS_OK;
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Steps are enqueued some at a time, so that the device does not wait for us, but no more than 50
 * ms of them, so that the reader does not either. */
static enum status talk(struct talk *t) {
    enum { MOST = 32 };
    struct engine *engine = t->o.engine;
    int32_t ids[MOST];
    int64_t room = engine_facts(engine).capacity - t->prompt + 1, steps = 1;
    int64_t wanted = t->a->max_tokens < room ? t->a->max_tokens : room;
    TRY(engine_tokens(engine, 0, t->prompt, 1, ids));
    TRY(say(t, ids[0]));
    while (!t->over && t->made < wanted && !model_interrupted) {
        fflush(stdout);
        double start = now_s();
        if (steps > wanted - t->made) steps = wanted - t->made;
        TRY(engine_decode(engine, steps));
        TRY(engine_tokens(engine, 0, t->prompt + t->made, steps, ids));
        for (int64_t i = 0; i < steps && !t->over; i++) TRY(say(t, ids[i]));
        double fit = 0.05 * (double)steps / (now_s() - start);
        steps = fit > MOST ? MOST : fit < 1 ? 1 : (int64_t)fit;
    }
    if (!t->over && wanted == room && t->made == wanted && wanted < t->a->max_tokens)
        fprintf(stderr, "\nfastinfer: the KV cache is full (--capacity %lld)",
                (long long)engine_facts(engine).capacity);
    return STATUS_OK;
}

static enum status run(struct talk *t) {
    const struct arguments *a = t->a;
    const char *text;
    size_t bytes, count;
    int32_t *ids = NULL;
    bool preset;
    TRY(model_options_find(&a->model, &preset));
    if (preset)
        return fail(STATUS_ARGUMENT,
                    "--model %s: a preset has random weights and no tokenizer; a HuggingFace "
                    "model's folder was expected",
                    a->model.model);
    TRY(tokenizer_open(a->model.model, &t->tokenizer));
    TRY(tokenizer_stream_open(t->tokenizer, true, &t->stream));
    TRY(model_options_open(&a->model, &t->o));
    TRY(engine_sampling(t->o.engine, 0, &a->sample));
    TRY(encode(a, t->tokenizer, &ids, &count));
    t->prompt = (int64_t)count;
    enum status status = count ? engine_prompt(t->o.engine, 0, ids, t->prompt)
                               : fail(STATUS_ARGUMENT, "the prompt is empty");
    free(ids);
    if (!status) status = talk(t);
    if (!status && !a->ids) {
        TRY(tokenizer_stream_end(t->stream, &text, &bytes));
        fwrite(text, 1, bytes, stdout);
        putchar('\n');
    }
    if (!status && (fflush(stdout) || ferror(stdout)))
        status = fail(STATUS_SYSTEM, "standard output: %s", strerror(errno));
    return status;
}

int cli_generate(int argc, char **argv) {
    static const struct argp_child children[] = {{&model_options_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        options,  parse,
        NULL,     "Goes on with a text, or answers a message, with a model on this machine.",
        children, NULL,
        NULL};
    struct arguments a = {.model = model_options_default, .max_tokens = 256};
    a.sample = SAMPLE_GREEDY;
    argv[0] = cli_name("generate");
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    a.sample.seed = a.model.seed;
    model_options_catch();
    struct talk t = {.a = &a};
    enum status status = run(&t);
    tokenizer_stream_close(t.stream);
    tokenizer_close(t.tokenizer);
    model_options_close(&t.o);
    if (!status && model_interrupted) status = fail(STATUS_INTERRUPTED, "stopped");
    return status ? cli_error(status) : 0;
}
