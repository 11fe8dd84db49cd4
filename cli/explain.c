/* explain.c - fastinfer explain: why a point won, from what the database holds. */
#include <argp.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/explain_plot.h"
#include "harness/explain_read.h"
#include "kernels/registry.h"
#include "runtime/json_text.h"

enum { KEY_PROBLEM = 256, KEY_POLICY, KEY_DEVICE, KEY_DB, KEY_JSON, KEY_PLOT };
static const struct argp_option options[] = {
    {"problem", KEY_PROBLEM, "SIZES", 0,
     "rows=4096,hidden=3072 (default: the problem with the most measured points)", 0},
    {"policy", KEY_POLICY, "POLICY", 0, "cold,stream, hot,graph, ... (default: as above)", 0},
    {"dtype", 't', "TYPE", 0, "fp16, bf16 or fp32 (default: as above)", 0},
    {"device", KEY_DEVICE, "SLUG", 0, "e.g. nvidia-h200 (default: a GPU before the CPU device)", 0},
    {"db", KEY_DB, "FILE", 0, "the database (default results/fastinfer.db)", 0},
    {"json", KEY_JSON, NULL, 0, "print JSON: one object with the same", 0},
    {"plot", KEY_PLOT, "DIR", 0,
     "draw a heat map of the two strongest tunables and the course of the search into DIR", 0},
    {0}};

struct arguments {
    const char *kernel, *problem, *device, *db, *plot;
    bool json, has_dtype, has_policy;
    enum dtype dtype;
    struct policy policy;
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case KEY_PROBLEM:
        a->problem = arg;
        break;
    case KEY_POLICY:
        if (policy_parse(arg, &a->policy)) argp_error(state, "%s", fail_message());
        a->has_policy = true;
        break;
    case 't':
        a->dtype = cli_dtype(state, arg), a->has_dtype = true;
        break;
    case KEY_DEVICE:
        a->device = arg;
        break;
    case KEY_DB:
        a->db = arg;
        break;
    case KEY_JSON:
        a->json = true;
        break;
    case KEY_PLOT:
        if (strchr(arg, '\'')) argp_error(state, "%s: a path without quotes was expected", arg);
        a->plot = arg;
        break;
    case ARGP_KEY_ARG:
        if (a->kernel) argp_error(state, "unexpected '%s'; one kernel was expected", arg);
        a->kernel = arg;
        break;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "a kernel was expected, e.g. rmsnorm");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* What is known when all was read. */
struct answer {
    struct explain_case which;
    struct explanation why;
    struct explain_sample *samples;
    int count, strange;
    struct contenders contenders;
    bool chosen; /* nobody named the problem */
};

/* --- which ------------------------------------------------------------------------------------ */

/* The sentence says what would measure it, and what was measured instead. */
static enum status nothing(struct store *store, const struct arguments *a,
                           const struct kernel *kernel, const char *problem) {
    char command[1600], instead[1024] = "";
    struct explain_case other;
    TRY(explain_choose(store, kernel, &(struct explain_wish){0}, &other));
    if (other.points)
        snprintf(instead, sizeof instead, "; it was on %s with %s %s %s,%s", other.slug,
                 other.dtype, other.problem, other.residency, other.launch);
    bool cpu = a->device && !strcmp(a->device, "cpu");
    snprintf(command, sizeof command, "fastinfer bench %s%s%s%s%s%s%s%s --db %s", kernel->name,
             problem ? " --problem " : "", problem ? problem : "",
             a->has_policy ? " --policy " : "", a->has_policy ? policy_text(a->policy) : "",
             a->has_dtype ? " --dtype " : "", a->has_dtype ? dtype_name(a->dtype) : "",
             cpu ? " --device cpu" : "", a->db);
    return fail(STATUS_ARGUMENT, "%s: %s was not measured%s%s%s%s; `%s` does that%s%s", a->db,
                kernel->name, problem ? " with " : "", problem ? problem : "",
                a->device ? " on " : "", a->device ? a->device : "", command,
                a->device && !cpu ? " on such a GPU" : "", instead);
}

static enum status choose(struct store *store, const struct arguments *a,
                          const struct kernel *kernel, struct explain_case *out) {
    static const char *const residency[] = {"cold", "hot", "weights_cold"};
    struct explain_wish wish = {.device_slug = a->device};
    struct problem problem;
    char text[MAX_TEXT];
    if (a->has_dtype) wish.dtype = dtype_name(a->dtype);
    if (a->has_policy) {
        wish.residency = residency[a->policy.residency];
        wish.launch = a->policy.launch == LAUNCH_GRAPH ? "graph" : "stream";
    }
    if (a->problem) {
        TRY(problem_parse(kernel, a->problem, &problem));
        problem_format(kernel, &problem, text);
        wish.problem = text;
    }
    TRY(explain_choose(store, kernel, &wish, out));
    return out->points ? STATUS_OK : nothing(store, a, kernel, wish.problem);
}

/* --- JSON ------------------------------------------------------------------------------------- */

static json_t *number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static json_t *level_json(const struct explain_level *level, double best_ns) {
    json_t *failed = json_object();
    for (int s = 0; s < STATUS_COUNT; s++)
        if (level->failed[s])
            json_object_set_new(failed, status_text((enum status)s),
                                json_integer(level->failed[s]));
    return json_pack("{s:i, s:i, s:i, s:o, s:o, s:o}", "value", level->value, "points",
                     level->points, "worked", level->worked, "failed", failed, "median_over_best",
                     number(level->median_ns / best_ns), "best_over_best",
                     number(level->best_ns / best_ns));
}

static json_t *effects_json(const struct answer *answer, double best_ns) {
    json_t *effects = json_array();
    for (int i = 0; i < answer->why.effects; i++) {
        const struct explain_effect *effect = &answer->why.effect[i];
        json_t *values = json_array();
        for (int v = 0; v < effect->levels; v++)
            json_array_append_new(values, level_json(&effect->level[v], best_ns));
        json_array_append_new(
            effects, json_pack("{s:s, s:o, s:o, s:o, s:o}", "name",
                               answer->which.kernel->tunables[effect->tunable].name, "alone",
                               number(effect->alone), "beyond_others", number(effect->beyond),
                               "worst_over_best", number(effect->worst), "values", values));
    }
    return effects;
}

static json_t *or_null(json_t *json) { return json ? json_incref(json) : json_null(); }

static json_t *answer_json(const struct answer *answer) {
    const struct explain_case *which = &answer->which;
    const struct explanation *why = &answer->why;
    const struct tunable *tunables = which->kernel->tunables;
    double best_ns = why->best < 0 ? NAN : answer->samples[why->best].ns;
    char policy[40];
    snprintf(policy, sizeof policy, "%s,%s", which->residency, which->launch);
    json_t *pair = why->pair.a < 0
                       ? json_null()
                       : json_pack("{s:[s,s], s:f}", "tunables", tunables[why->pair.a].name,
                                   tunables[why->pair.b].name, "share", why->pair.share);
    return json_pack(
        "{s:s, s:s, s:s, s:b, s:s, s:s, s:s, s:i, s:i, s:i, s:o, s:o, s:o, s:o, s:o, "
        "s:o, s:o}",
        "kernel", which->kernel->name, "device", which->device, "device_slug", which->slug,
        "emulation", !strcmp(which->kind, "cpu"), "dtype", which->dtype, "problem", which->problem,
        "policy", policy, "points", why->points, "worked", why->worked, "left_out", answer->strange,
        "best_scan_us", number(best_ns / 1e3), "main_effects", number(why->additive), "tunables",
        effects_json(answer, best_ns), "interaction", pair, "best",
        or_null(answer->contenders.best), "runner_up", or_null(answer->contenders.runner),
        "default", or_null(answer->contenders.builtin));
}

/* --- for people ------------------------------------------------------------------------------- */

static const char *percent(double share, char out[16]) {
    if (isnan(share))
        snprintf(out, 16, "-");
    else
        snprintf(out, 16, "%.1f%%", 100 * share);
    return out;
}
static const char *ratio(double value, char out[16]) {
    if (isnan(value))
        snprintf(out, 16, "-");
    else
        snprintf(out, 16, "%.3f", value);
    return out;
}

static void print_level(const struct explain_level *level, double best_ns) {
    char median[16], best[16];
    int failed = level->points - level->worked;
    printf("  %14d %7d %8s %8s", level->value, level->points,
           ratio(level->median_ns / best_ns, median), ratio(level->best_ns / best_ns, best));
    if (failed) printf("  %d failed", failed);
    for (int s = 0, first = 1; s < STATUS_COUNT; s++)
        if (level->failed[s])
            printf("%s%d %s", first ? ": " : ", ", level->failed[s], status_text((enum status)s)),
                first = 0;
    printf("\n");
}

static void print_effects(const struct answer *answer, double best_ns) {
    const struct explanation *why = &answer->why;
    const struct tunable *tunables = answer->which.kernel->tunables;
    char alone[16], beyond[16], worst[16];
    printf("\nMain effects, over %d points that worked; times over the best scan's.\n"
           "  alone   share of the variance of ln(time) that a tunable's values explain by "
           "themselves\n"
           "  beyond  share that all tunables' main effects lose without it: what no other "
           "explains\n"
           "          (both less what chance would give: epsilon squared)\n"
           "  worst   best time with its worst value over the best time\n",
           why->worked);
    for (int i = 0; i < why->effects; i++) {
        const struct explain_effect *effect = &why->effect[i];
        if (effect->levels < 2) continue;
        printf("\n%-16s alone %s, beyond %s, worst %s   %s\n", tunables[effect->tunable].name,
               percent(effect->alone, alone), percent(effect->beyond, beyond),
               ratio(effect->worst, worst), tunables[effect->tunable].help);
        printf("  %14s %7s %8s %8s\n", "value", "points", "median", "best");
        for (int v = 0; v < effect->levels; v++) print_level(&effect->level[v], best_ns);
    }
    for (int i = 0, first = 1; i < why->effects; i++) {
        const struct explain_effect *effect = &why->effect[i];
        if (effect->levels != 1) continue;
        printf("%s%s=%d", first ? "\nOne value only: " : ", ", tunables[effect->tunable].name,
               effect->level[0].value);
        first = 0;
        if (i == why->effects - 1) printf("\n");
    }
}

static void print_pair(const struct answer *answer) {
    const struct explanation *why = &answer->why;
    const struct tunable *tunables = answer->which.kernel->tunables;
    char share[16];
    if (isnan(why->additive))
        printf(
            "\n%d points that worked are too few to fit all main effects at once: what is said of "
            "one tunable may\nbe another's, and of interactions nothing is known.\n",
            why->worked);
    else
        printf("\nAll main effects together explain %s.\n", percent(why->additive, share));
    if (why->pair.a >= 0)
        printf("The strongest interaction is %s with %s: %s beyond main effects.\n",
               tunables[why->pair.a].name, tunables[why->pair.b].name,
               percent(why->pair.share, share));
    else if (!isnan(why->additive))
        printf("No pair of tunables explains more than chance would beyond main effects.\n");
    if (why->worked < 3 * why->rank && !isnan(why->additive))
        printf("Few points (%d, for %d numbers): shares are rough.\n", why->worked, why->rank);
    printf("Not every combination is legal or was tried: a value seen with other neighbours shares "
           "their times.\n");
}

/* --- side by side ----------------------------------------------------------------------------- */

enum { SIDES = 3 };

static void cell(const json_t *side, const char *column, char out[32]) {
    const json_t *value = json_object_get(side, column);
    snprintf(out, 32, "-");
    if (json_is_integer(value)) snprintf(out, 32, "%lld", (long long)json_integer_value(value));
    if (json_is_real(value)) snprintf(out, 32, "%.3f", json_real_value(value));
    if (json_string_length(value)) snprintf(out, 32, "%.12s", json_string_value(value));
}

static void print_row(json_t *const *side, const char *name, const char *column) {
    char text[32];
    printf("  %-24s", name);
    for (int i = 0; i < SIDES; i++) cell(side[i], column, text), printf(" %18s", text);
    printf("\n");
}

static void print_times(json_t *const *side) {
    char text[40];
    printf("  %-24s", "95% interval");
    for (int i = 0; i < SIDES; i++) {
        snprintf(text, sizeof text, "-");
        if (side[i])
            snprintf(text, sizeof text, "%.3f..%.3f",
                     json_number_value(json_object_get(side[i], "low_us")),
                     json_number_value(json_object_get(side[i], "high_us")));
        printf(" %18s", text);
    }
    printf("\n  %-24s", "timed");
    for (int i = 0; i < SIDES; i++)
        printf(" %18s", !side[i] ? "-"
                        : json_integer_value(json_object_get(side[i], "in_latest_contest"))
                            ? "in the contest"
                        : json_integer_value(json_object_get(side[i], "in_contest"))
                            ? "older contest"
                            : "alone");
    printf("\n");
}

static const json_t *counter_of(const json_t *side, const char *name) {
    const json_t *counter;
    size_t i;
    json_array_foreach(json_object_get(side, "counters"), i,
                       counter) if (!strcmp(json_text(counter, "name"), name)) return counter;
    return NULL;
}

/* Every counter that any side has; its source is marked, for 'counted' is a formula. */
static void print_counters(json_t *const *side) {
    for (int i = 0; i < SIDES; i++) {
        const json_t *counter;
        size_t k;
        json_array_foreach(json_object_get(side[i], "counters"), k, counter) {
            const char *name = json_text(counter, "name");
            bool seen = false;
            for (int j = 0; j < i; j++) seen |= counter_of(side[j], name) != NULL;
            if (seen) continue;
            printf("  %s\n  %-24s", name, "");
            for (int j = 0; j < SIDES; j++) {
                const json_t *mine = counter_of(side[j], name);
                char text[64] = "-";
                if (mine)
                    snprintf(text, sizeof text, "%.5g %s",
                             json_number_value(json_object_get(mine, "value")),
                             json_text(mine, "source"));
                printf(" %18s", text);
            }
            printf("\n");
        }
    }
}

static void print_points(const struct kernel *kernel, json_t *const *side) {
    struct point point[SIDES];
    bool known[SIDES];
    for (int i = 0; i < SIDES; i++)
        known[i] = side[i] && !point_parse(kernel, json_text(side[i], "point"), &point[i]);
    char same[MAX_TEXT] = "";
    for (int t = 0; t < kernel->tunable_count; t++) {
        bool differs = false;
        for (int i = 1; i < SIDES; i++)
            differs |= known[0] && known[i] && point[i].value[t] != point[0].value[t];
        if (!differs && known[0]) {
            size_t n = strlen(same);
            snprintf(same + n, sizeof same - n, "%s%s=%d", n ? "," : "", kernel->tunables[t].name,
                     point[0].value[t]);
            continue;
        }
        printf("  %-24s", kernel->tunables[t].name);
        for (int i = 0; i < SIDES; i++) {
            char text[16] = "-";
            if (known[i]) snprintf(text, sizeof text, "%d", point[i].value[t]);
            printf(" %18s", text);
        }
        printf("\n");
    }
    if (*same) printf("  the same in all: %s\n", same);
}

/* How sure the win is, from the intervals. */
static void print_verdict(const json_t *best, const json_t *runner) {
    if (!runner) {
        printf("No other machine code worked: there is no runner-up.\n");
        return;
    }
    double b = json_number_value(json_object_get(best, "median_us"));
    double r = json_number_value(json_object_get(runner, "median_us"));
    bool apart = json_number_value(json_object_get(best, "high_us")) <
                 json_number_value(json_object_get(runner, "low_us"));
    bool beside = json_integer_value(json_object_get(best, "in_latest_contest")) &&
                  json_integer_value(json_object_get(runner, "in_latest_contest"));
    printf("The runner-up takes %.2f%% %s; their intervals %s%s.\n", 100 * fabs(r / b - 1),
           r < b ? "less, timed another way" : "longer",
           apart ? "are apart" : "overlap: this does not tell them apart",
           beside ? "" : ", and they were not timed side by side");
}

static void print_contenders(const struct answer *answer) {
    static const char *const rows[][2] = {
        {"registers a thread", "registers"}, {"spilled, bytes", "spill_bytes"},
        {"shared, bytes", "shared_bytes"},   {"blocks resident an SM", "blocks_per_sm"},
        {"instructions", "instructions"},    {"machine code", "code_hash"}};
    json_t *side[SIDES] = {answer->contenders.best, answer->contenders.runner,
                           answer->contenders.builtin};
    if (!side[0]) {
        printf("\nNone of them worked: there is no best point.\n");
        return;
    }
    printf("\n  %-24s %18s %18s %18s\n", "", "best", "runner-up", "built-in default");
    print_row(side, "median, us", "median_us");
    print_times(side);
    print_row(side, "% of ceiling", "percent_of_ceiling");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) print_row(side, rows[i][0], rows[i][1]);
    print_counters(side);
    print_points(answer->which.kernel, side);
    if (!json_is_string(json_object_get(side[0], "code_hash")) || !*json_text(side[0], "code_hash"))
        printf("Machine code has no hash here, so the runner-up is the next point.\n");
    print_verdict(side[0], side[1]);
}

static void print_answer(const struct answer *answer) {
    const struct explain_case *which = &answer->which;
    const struct explanation *why = &answer->why;
    double best_ns = why->best < 0 ? NAN : answer->samples[why->best].ns;
    printf("%s %s %s %s,%s on %s\n", which->kernel->name, which->dtype, which->problem,
           which->residency, which->launch, which->device);
    if (!strcmp(which->kind, "cpu"))
        printf("These times are an emulation's: they say nothing of a GPU.\n");
    if (answer->chosen && which->others)
        printf(
            "Of %d measured this one has the most points; --problem and --policy name another.\n",
            which->others + 1);
    printf("%d points tried, %d failed", why->points, why->points - why->worked);
    if (why->best >= 0) printf("; the best scan took %.4g us", best_ns / 1e3);
    printf(".\n");
    if (answer->strange)
        printf("%d more have tunables or values that %s no longer has; they are left out.\n",
               answer->strange, which->kernel->name);
    print_effects(answer, best_ns);
    print_pair(answer);
    print_contenders(answer);
}

/* --- the verb --------------------------------------------------------------------------------- */

static enum status explain(struct store *store, const struct arguments *a,
                           const struct kernel *kernel, struct answer *answer) {
    TRY(choose(store, a, kernel, &answer->which));
    answer->chosen = !a->problem;
    TRY(explain_samples(store, &answer->which, &answer->samples, &answer->count, &answer->strange));
    TRY(explain_space(kernel, answer->samples, answer->count, &answer->why));
    TRY(explain_contenders(store, &answer->which, &answer->contenders));
    if (a->json) {
        json_t *json = answer_json(answer);
        json_dumpf(json, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
        printf("\n");
        json_decref(json);
    } else {
        print_answer(answer);
    }
    return a->plot ? explain_plot(store, &answer->which, &answer->why, answer->samples,
                                  answer->count, a->plot)
                   : STATUS_OK;
}

int cli_explain(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse,
        "KERNEL",
        "Says why a point won, from the database: what each tunable does to the time, which two "
        "work together most, and the best point beside the runner-up and the built-in default.",
        NULL,
        NULL,
        NULL};
    struct arguments a = {.db = "results/fastinfer.db"};
    const struct kernel *kernel;
    struct store *store = NULL;
    static struct answer answer;
    argv[0] = cli_name("explain");
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    enum status status = registry_find(a.kernel, &kernel);
    if (!status) status = store_open_readonly(a.db, &store);
    if (!status) status = explain(store, &a, kernel, &answer);
    contenders_free(&answer.contenders);
    free(answer.samples);
    store_close(store);
    return status ? cli_error(status) : 0;
}
