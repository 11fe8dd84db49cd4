/* tps.c - fastinfer tps: tokens a second, beside the limit of the memory and beside transformers.
 */
#include "cli/tps.h"

#include <argp.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "harness/bench.h"
#include "runtime/compile.h"
#include "runtime/random.h"

enum {
    KEY_PROMPT = 1024,
    KEY_GENERATE,
    KEY_BATCH,
    KEY_REPEAT,
    KEY_JSON,
    KEY_DB,
    KEY_COMPARE,
    KEY_PROFILE,
    KEY_NO_TRANSFORMERS
};
static const struct argp_option options[] = {
    {"prompt", KEY_PROMPT, "N", 0, "tokens of the prompt (32)", 0},
    {"generate", KEY_GENERATE, "N", 0, "new tokens (128)", 0},
    {"batch", KEY_BATCH, "N", 0, "sequences side by side, 1 to 16 (1)", 0},
    {"repeat", KEY_REPEAT, "N", 0,
     "times each side does it, after one that is thrown away (9; 20 with --compare)", 0},
    {"compare", KEY_COMPARE, "A,B", 0,
     "two configurations, interleaved, each a folder, `tuned` (configs/) or `default`, or two "
     "forms "
     "of a step, launches and persistent: is B accepted, as a whole and kernel by kernel? The "
     "verdict is written into the configuration",
     0},
    {"profile", KEY_PROFILE, NULL, 0, "also where a decode step's time goes", 0},
    {"no-transformers", KEY_NO_TRANSFORMERS, NULL, 0, "without HuggingFace beside it", 0},
    {"db", KEY_DB, "FILE", 0, "the database (results/fastinfer.db)", 0},
    {"json", KEY_JSON, NULL, 0, "results as JSON on standard output", 0},
    {0}};

struct arguments {
    struct model_options model;
    struct tps_work work;
    const char *db;
    char command[512], compare[512];
    bool json, profile, no_transformers;
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->model;
        break;
    case KEY_PROMPT:
        a->work.prompt = cli_number(state, arg, 1, 1 << 24);
        break;
    case KEY_GENERATE:
        a->work.generate = cli_number(state, arg, 2, 1 << 24);
        break;
    case KEY_BATCH:
        a->work.batch = a->model.batch = (int)cli_number(state, arg, 1, 16);
        break;
    case KEY_REPEAT:
        a->work.repeats = cli_number(state, arg, 1, TPS_MAX_REPEATS);
        break;
    case KEY_COMPARE:
        if (!strchr(arg, ',') || strchr(arg, ',') != strrchr(arg, ','))
            argp_error(state, "--compare %s: two configurations, A,B, were expected", arg);
        snprintf(a->compare, sizeof a->compare, "%s", arg);
        break;
    case KEY_PROFILE:
        a->profile = true;
        break;
    case KEY_NO_TRANSFORMERS:
        a->no_transformers = true;
        break;
    case KEY_DB:
        a->db = arg;
        break;
    case KEY_JSON:
        a->json = true;
        break;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected '%s'", arg);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* --- sides ------------------------------------------------------------------------------------ */

struct tps {
    const struct arguments *a;
    struct store *store;
    int64_t run;
    struct tps_side *side;
    int sides, ours; /* all, and those that are our engine's */
    double read_gbps;
    struct tps_profile *profile; /* NULL: not asked for */
    json_t *json;
};

static enum status add_sides(struct tps *t) {
    const struct arguments *a = t->a;
    struct tps_side *first = &t->side[0];
    struct model_options options = a->model;
    if (!options.capacity) options.capacity = a->work.prompt + a->work.generate;
    TRY(model_options_open(&options, &first->opened));
    t->sides = t->ours = 1;
    first->alone = !*a->compare;
    first->choice = (struct engine_choice){.configs = options.configs, .form = options.form};
    if (*a->compare)
        TRY(tps_compare_sides(a->compare, &a->work, t->side, &t->ours));
    else
        TRY(tps_choose(first));
    t->sides = t->ours;
    if (a->no_transformers) return STATUS_OK;
    struct engine_facts facts = engine_facts(first->opened.engine);
    enum status status = tps_transformers_open(&a->model, &facts, &t->side[t->sides]);
    if (status == STATUS_MISSING)
        fprintf(stderr, "fastinfer: without HuggingFace: %s\n", fail_message());
    else if (!status)
        t->sides++;
    return status == STATUS_MISSING ? STATUS_OK : status;
}

/* A B C, then C B A, so that a drift of the clock is nobody's alone. */
static enum status measure(struct tps *t) {
    struct progress progress;
    progress_start(&progress);
    progress.quiet = t->a->model.quiet;
    int64_t rounds = t->a->work.repeats;
    for (int64_t round = -1; round < rounds && !model_interrupted; round++)
        for (int i = 0; i < t->sides && !model_interrupted; i++) {
            struct tps_side *side = &t->side[round % 2 ? i : t->sides - 1 - i];
            progress_show(&progress, round < 0 ? "warming up" : side->name,
                          (int)(round < 0 ? 0 : round), (int)rounds, "", false);
            TRY(tps_repeat(side, &t->a->work, round >= 0));
        }
    progress_clear(&progress);
    return model_interrupted ? fail(STATUS_INTERRUPTED, "stopped; nothing was stored") : STATUS_OK;
}

/* --- what came of it -------------------------------------------------------------------------- */

/* The least a step reads, half-way through what was generated. */
static double step_bytes(const struct tps *t) {
    struct model_config c = t->side[0].opened.model->config;
    const struct tps_work *w = &t->a->work;
    int64_t position = w->prompt + w->generate / 2;
    c.dtype = engine_facts(t->side[0].opened.engine).dtype;
    int64_t weights = model_bytes_a_token(&c, 0);
    return (double)weights +
           (double)w->batch * (double)(model_bytes_a_token(&c, position) - weights);
}

/* A preset, or a folder's own name: where it lies is nobody's business. */
static const char *model_name(const struct tps *t) {
    const char *model = t->a->model.model, *slash = strrchr(model, '/');
    return slash && slash[1] ? slash + 1 : model;
}

static struct throughput row_of(const struct tps *t, struct tps_side *side) {
    const struct tps_work *w = &t->a->work;
    struct engine_facts facts = engine_facts(t->side[0].opened.engine);
    return (struct throughput){
        .model = model_name(t),
        .engine = side->name,
        .configs = side->configs,
        .dtype = dtype_name(facts.dtype),
        .batch = w->batch,
        .prompt = w->prompt,
        .generated = w->generate,
        .repeats = side->done,
        .first_ms = stats_summarise(side->first_ms, side->done, 0),
        .tokens_s = stats_summarise(side->tokens_s, side->done, 0),
        .step_bytes = step_bytes(t),
        .read_gbps = t->read_gbps,
        .token_mj = side->token_mj,
        .memory_bytes = side->opened.engine
                            ? (int64_t)(facts.weight_bytes + facts.cache_bytes + facts.work_bytes)
                            : 0};
}

static void print_row(const struct throughput *r) {
    double gbps = r->tokens_s.median / (double)r->batch * r->step_bytes * 1e-9;
    printf("  %-18s %8.2f tok/s  [%.2f, %.2f]  first token %.1f ms  %7.1f GB/s", r->engine,
           r->tokens_s.median, r->tokens_s.low, r->tokens_s.high, r->first_ms.median, gbps);
    if (r->read_gbps > 0) printf("  %.1f%% of %.0f", 100 * gbps / r->read_gbps, r->read_gbps);
    if (r->token_mj > 0) printf("  %.0f mJ a token", r->token_mj);
    printf("  (%s)\n", r->configs);
}

static json_t *row_json(const struct throughput *r) {
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, "
                     "s:f, s:f, s:I}",
                     "model", r->model, "engine", r->engine, "configs", r->configs, "dtype",
                     r->dtype, "batch", (json_int_t)r->batch, "prompt", (json_int_t)r->prompt,
                     "generated", (json_int_t)r->generated, "repeats", (json_int_t)r->repeats,
                     "first_ms", r->first_ms.median, "first_low_ms", r->first_ms.low,
                     "first_high_ms", r->first_ms.high, "tokens_s", r->tokens_s.median,
                     "tokens_low", r->tokens_s.low, "tokens_high", r->tokens_s.high, "step_bytes",
                     r->step_bytes, "read_gbps", r->read_gbps, "token_mj", r->token_mj,
                     "memory_bytes", (json_int_t)r->memory_bytes);
}

static enum status report_sides(struct tps *t) {
    struct tps_profile *p = t->profile;
    struct step_profile parts, *profile = p ? &parts : NULL;
    if (p) parts = (struct step_profile){p->part, p->prompt, p->parts, p->prompts};
    json_t *rows = json_array();
    json_object_set_new(t->json, "sides", rows);
    if (!t->a->json)
        printf("%s, %lld prompt tokens, %lld new, batch %d, %s\n", t->a->model.model,
               (long long)t->a->work.prompt, (long long)t->a->work.generate, t->a->work.batch,
               t->side[0].opened.device->info.name);
    for (int i = 0; i < t->sides; i++) {
        struct throughput row = row_of(t, &t->side[i]);
        TRY(store_throughput(t->store, t->run, &row, i ? NULL : profile));
        json_array_append_new(rows, row_json(&row));
        if (!t->a->json) print_row(&row);
    }
    return STATUS_OK;
}

/* Each of our sides against HuggingFace, where it ran: `first` is then "transformers ...". */
static enum status report_transformers(struct tps *t) {
    char first[400];
    for (int i = t->ours; i < t->sides; i++)
        for (int j = 0; j < t->ours; j++) {
            const struct tps_side *theirs = &t->side[i], *our = &t->side[j];
            struct acceptance row = {.model = model_name(t),
                                     .first = first,
                                     .second = our->configs,
                                     .batch = t->a->work.batch,
                                     .prompt = t->a->work.prompt,
                                     .generated = t->a->work.generate,
                                     .ratio = tps_ratio(theirs, our)};
            snprintf(first, sizeof first, "%s %s", theirs->name, theirs->configs);
            if (row.ratio.rounds) TRY(store_acceptance(t->store, t->run, &row));
        }
    return STATUS_OK;
}

static enum status report_comparison(struct tps *t) {
    if (!*t->a->compare) return STATUS_OK;
    json_t *rows = json_array();
    json_object_set_new(t->json, "comparisons", rows);
    return tps_compare_report(&(struct tps_comparison){.compare = t->a->compare,
                                                       .model = model_name(t),
                                                       .work = &t->a->work,
                                                       .side = t->side,
                                                       .sides = t->ours,
                                                       .store = t->store,
                                                       .run = t->run,
                                                       .quiet = t->a->json,
                                                       .rows = rows});
}

static enum status report_profile(struct tps *t) {
    struct throughput row = row_of(t, &t->side[0]);
    tps_profile_report(t->profile, row.first_ms.median, t->a->json, t->json);
    t->profile->loading.model = model_name(t);
    if (!t->profile->loading.ratio.rounds) return STATUS_OK;
    return store_loading(t->store, t->run, &t->profile->loading);
}

static enum status begin(struct tps *t) {
    const struct device_info *info = &t->side[0].opened.device->info;
    struct environment e = {.device = *info, .seed = t->a->model.seed};
    struct ceilings c;
    struct target target = {info->kind, info->arch};
    TRY(store_open(t->a->db, &t->store));
    compiler_describe(target, e.compiler, sizeof e.compiler);
    snprintf(e.commit, sizeof e.commit, "%s", bench_commit(&e.dirty));
    snprintf(e.command, sizeof e.command, "%s", t->a->command);
    gethostname(e.host, sizeof e.host - 1);
    TRY(store_begin_run(t->store, &e, &t->run));
    if (info->kind == DEVICE_CPU) return STATUS_OK; /* its reads are no limit worth a name */
    struct session session;
    TRY(session_open(info->id, t->a->model.seed, &session));
    enum status status = session_ceilings(&session, &c);
    session_close(&session);
    if (!status) t->read_gbps = c.read_gbps;
    return status ? status : store_ceilings(t->store, t->run, &c);
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static enum status work(struct tps *t) {
    double start = now_s();
    TRY(add_sides(t));
    TRY(begin(t));
    enum status status = measure(t);
    if (!status && t->a->profile) status = tps_choose(&t->side[0]);
    if (!status && t->a->profile) status = tps_profile(&t->side[0].opened, &t->a->work, t->profile);
    if (!status) status = report_sides(t);
    if (!status) status = report_transformers(t);
    if (!status) status = report_comparison(t);
    if (!status && t->a->profile) status = report_profile(t);
    struct run_seconds seconds = {.wall = now_s() - start};
    enum status ended = store_end_run(t->store, t->run, &seconds,
                                      status == STATUS_INTERRUPTED ? "interrupted"
                                      : status                     ? "failed"
                                                                   : "done");
    return status ? status : ended;
}

/* Every model has so many tokens, and their embeddings are as good as others'. */
static int32_t made_up(uint64_t *state) { return (int32_t)(3 + random_next(state) % 150); }

static enum status one_model(struct arguments *a, json_t *all) {
    struct tps t = {.a = a, .json = json_object()};
    t.side = calloc(TPS_MAX_SIDES, sizeof *t.side);
    if (a->profile) t.profile = calloc(1, sizeof *t.profile);
    enum status status =
        t.side && (t.profile || !a->profile) ? work(&t) : fail(STATUS_SYSTEM, "out of memory");
    for (int i = t.ours; i < t.sides; i++) tps_transformers_close(&t.side[i]);
    model_options_close(&t.side[0].opened); /* the others' is the same */
    store_close(t.store);
    json_array_append_new(all, t.json);
    free(t.side);
    free(t.profile);
    return status;
}

/* Without --model: what fits the kind of device. */
static enum status all_models(struct arguments *a, json_t *all) {
    static const char *const on_gpu[] = {"llama-3.2-3b", "smollm3-3b"}, *const on_cpu[] = {"tiny"};
    struct device *device;
    if (a->model.model) return one_model(a, all);
    TRY(device_open(a->model.device, NULL, &device));
    bool cpu = device->info.kind == DEVICE_CPU;
    device->ops->close(device);
    for (size_t i = 0; i < (cpu ? sizeof on_cpu : sizeof on_gpu) / sizeof *on_cpu; i++) {
        a->model.model = cpu ? on_cpu[i] : on_gpu[i];
        TRY(one_model(a, all));
    }
    return STATUS_OK;
}

int cli_tps(int argc, char **argv) {
    static const struct argp_child children[] = {{&model_options_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        options,
        parse,
        NULL,
        "Measures the tokens a second that a model gives on this machine. Without --model: "
        "llama-3.2-3b and smollm3-3b on a GPU, tiny on the CPU device.",
        children,
        NULL,
        NULL};
    struct arguments a = {.model = model_options_default, .db = "results/fastinfer.db"};
    a.model.model_may_be_missing = true;
    a.work = (struct tps_work){.prompt = 32, .generate = 128, .batch = 1};
    size_t n = 0;
    for (int i = 0; i < argc && n < sizeof a.command; i++)
        n += (size_t)snprintf(a.command + n, sizeof a.command - n, "%s%s", i ? " " : "", argv[i]);
    argv[0] = cli_name("tps");
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    model_options_catch();
    if (!a.work.repeats) a.work.repeats = *a.compare ? 20 : 9;
    json_t *all = json_array();
    a.work.ids = malloc((size_t)a.work.prompt * sizeof *a.work.ids);
    enum status status = a.work.ids && all ? STATUS_OK : fail(STATUS_SYSTEM, "out of memory");
    uint64_t state = a.model.seed;
    for (int64_t i = 0; !status && i < a.work.prompt; i++) a.work.ids[i] = made_up(&state);
    if (!status) status = all_models(&a, all);
    if (!status && a.json) json_dumpf(all, stdout, JSON_INDENT(1)), putchar('\n');
    if (!status && (fflush(stdout) || ferror(stdout)))
        status = fail(STATUS_SYSTEM, "standard output: %s", strerror(errno));
    json_decref(all);
    free(a.work.ids);
    return status ? cli_error(status) : 0;
}
