/* logits.c - fastinfer logits: what a model says after each token of a given text. */
#include <argp.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/model_options.h"

enum { KEY_IDS = 1024, KEY_PREFILL, KEY_OUT };
static const struct argp_option options[] = {
    {"ids", KEY_IDS, "FILE", 0, "token ids, apart by anything but digits; -: standard input", 0},
    {"prefill", KEY_PREFILL, "N", 0,
     "of them in one pass, the others one by one as decode steps (all but one)", 0},
    {"out", KEY_OUT, "FILE", 0,
     "the logits after the first N ids, N + 1 ids and so on: rows of vocab fp32 numbers", 0},
    {0}};

struct arguments {
    struct model_options model; /* first: the child parser's input */
    const char *ids, *out;
    int64_t prefill;
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->model;
        break;
    case KEY_IDS:
        a->ids = arg;
        break;
    case KEY_PREFILL:
        a->prefill = cli_number(state, arg, 1, 1 << 24);
        break;
    case KEY_OUT:
        a->out = arg;
        break;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected '%s'", arg);
        break;
    case ARGP_KEY_END:
        if (!a->ids) argp_error(state, "--ids FILE was expected");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static enum status read_ids(const char *path, int32_t **out, int64_t *count) {
    FILE *file = strcmp(path, "-") ? fopen(path, "r") : stdin;
    int64_t room = 0, n = 0, id = -1;
    int32_t *ids = NULL;
    if (!file) return fail(STATUS_SYSTEM, "%s: %s", path, strerror(errno));
    enum status status = STATUS_OK;
    for (int c = getc(file); !status; c = getc(file)) {
        if (c != EOF && isdigit(c)) {
            id = (id < 0 ? 0 : id) * 10 + (c - '0');
            if (id > INT32_MAX) status = fail(STATUS_FORMAT, "%s: id %lld...", path, (long long)id);
            continue;
        }
        if (id >= 0 && n == room) {
            room = room ? 2 * room : 1024;
            int32_t *larger = realloc(ids, (size_t)room * sizeof *ids);
            if (!larger) status = fail(STATUS_SYSTEM, "out of memory");
            if (larger) ids = larger;
        }
        if (id >= 0 && !status) ids[n++] = (int32_t)id;
        id = -1;
        if (c == EOF) break;
    }
    if (file != stdin) fclose(file);
    if (!status && !n) status = fail(STATUS_FORMAT, "%s: no token ids were found", path);
    if (status) free(ids);
    if (!status) *out = ids, *count = n;
    return status;
}

struct scoring {
    const struct arguments *a;
    struct opened o;
    int32_t *ids;
    int64_t count;
    float *row;
    FILE *out;
    double loss; /* sum of -ln p of each next id */
    int64_t scored, top_right;
};

/* The row after `seen` ids: written, and the next id's probability taken from it. */
static enum status take_row(struct scoring *s, int64_t seen) {
    int64_t vocab = s->o.model->config.vocab, best = 0;
    double sum = 0;
    TRY(engine_logits(s->o.engine, 0, s->row));
    if (s->out && fwrite(s->row, sizeof *s->row, (size_t)vocab, s->out) != (size_t)vocab)
        return fail(STATUS_SYSTEM, "%s: %s", s->a->out, strerror(errno));
    if (seen == s->count) return STATUS_OK;
    for (int64_t i = 1; i < vocab; i++)
        if (s->row[i] > s->row[best]) best = i;
    for (int64_t i = 0; i < vocab; i++) sum += exp((double)s->row[i] - (double)s->row[best]);
    s->loss += log(sum) - ((double)s->row[s->ids[seen]] - (double)s->row[best]);
    s->top_right += best == s->ids[seen];
    s->scored++;
    return STATUS_OK;
}

static enum status score(struct scoring *s) {
    int64_t prefill = s->a->prefill ? s->a->prefill : s->count > 1 ? s->count - 1 : 1;
    if (prefill > s->count)
        return fail(STATUS_ARGUMENT, "--prefill %lld: there are %lld ids", (long long)prefill,
                    (long long)s->count);
    struct model_options options = s->a->model;
    if (!options.capacity) options.capacity = s->count < 2 ? 2 : s->count;
    TRY(model_options_open(&options, &s->o));
    int64_t vocab = s->o.model->config.vocab;
    for (int64_t i = 0; i < s->count; i++)
        if (s->ids[i] >= vocab)
            return fail(STATUS_ARGUMENT, "%s: id %lld is %d; the vocabulary has 0 to %lld",
                        s->a->ids, (long long)i, s->ids[i], (long long)vocab - 1);
    s->row = malloc((size_t)vocab * sizeof *s->row);
    if (!s->row) return fail(STATUS_SYSTEM, "out of memory");
    if (s->a->out && !(s->out = fopen(s->a->out, "wb")))
        return fail(STATUS_SYSTEM, "%s: %s", s->a->out, strerror(errno));
    TRY(engine_prompt(s->o.engine, 0, s->ids, prefill));
    TRY(take_row(s, prefill));
    for (int64_t i = prefill; i < s->count; i++) {
        if (model_interrupted) return fail(STATUS_INTERRUPTED, "stopped");
        TRY(engine_force(s->o.engine, 0, s->ids[i]));
        TRY(engine_decode(s->o.engine, 1));
        TRY(take_row(s, i + 1));
    }
    return STATUS_OK;
}

int cli_logits(int argc, char **argv) {
    static const struct argp_child children[] = {{&model_options_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        options,
        parse,
        NULL,
        "What a model says after each token of a given text: logits to a file, and how likely the "
        "text was. For comparing engines, and for perplexity.",
        children,
        NULL,
        NULL};
    struct arguments a = {.model = model_options_default};
    struct scoring s = {.a = &a};
    argv[0] = cli_name("logits");
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    model_options_catch();
    enum status status = read_ids(a.ids, &s.ids, &s.count);
    if (!status) status = score(&s);
    if (s.out && fclose(s.out) && !status)
        status = fail(STATUS_SYSTEM, "%s: %s", a.out, strerror(errno));
    if (!status && s.scored)
        printf("%lld ids after the first %lld: loss %.6f, perplexity %.4f, %.2f%% were the "
               "likeliest\n",
               (long long)s.scored, (long long)(s.count - s.scored), s.loss / (double)s.scored,
               exp(s.loss / (double)s.scored), 100 * (double)s.top_right / (double)s.scored);
    model_options_close(&s.o);
    free(s.ids), free(s.row);
    return status ? cli_error(status) : 0;
}
