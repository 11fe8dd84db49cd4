/* replay.c - fastinfer replay: how good are the search strategies, on spaces measured before? */
#include <argp.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/gnuplot.h"
#include "harness/replay.h"

enum { MAX_SETTINGS = 64, MAX_CHOSEN = 32 };
enum { KEY_STRATEGY = 256, KEY_REPEATS, KEY_SEED, KEY_BUDGET, KEY_JSON, KEY_PLOT, KEY_SET };
static const struct argp_option options[] = {
    {"strategy", KEY_STRATEGY, "NAME", 0,
     "auto (default), exhaustive, random, genetic, local, annealing; a list by commas; or all", 0},
    {"repeats", KEY_REPEATS, "N", 0, "searches a space and strategy (default 50)", 0},
    {"seed", KEY_SEED, "N", 0, "of the first search (default 1)", 0},
    {"budget", KEY_BUDGET, "EVALS", 0,
     "evaluations a search (default: when random search is 5% of the way from best to median)", 0},
    {"json", KEY_JSON, NULL, 0, "print JSON: an array with an object a space and strategy", 0},
    {"plot", KEY_PLOT, "DIR", 0, "draw how the searches converge into DIR, with gnuplot", 0},
    {"set", KEY_SET, "NAME=VALUE", OPTION_HIDDEN, "a parameter of the one strategy", 0},
    {0}};

struct arguments {
    const struct strategy *chosen[MAX_CHOSEN];
    int chosen_count, repeats, budget, settings, files;
    uint64_t seed;
    bool json;
    const char *plot, *setting[MAX_SETTINGS];
    char **file;
};

static void choose(struct arguments *a, const char *text, struct argp_state *state) {
    a->chosen_count = 0;
    if (!strcmp(text, "all"))
        for (int i = 0; i < strategy_count(); i++) a->chosen[a->chosen_count++] = strategy_at(i);
    while (a->chosen_count == 0 || *text == ',') {
        char name[64];
        text += *text == ',';
        size_t length = strcspn(text, ",");
        snprintf(name, sizeof name, "%.*s", (int)length, text);
        if (a->chosen_count == MAX_CHOSEN) argp_error(state, "too many strategies");
        if (strategy_find(name, &a->chosen[a->chosen_count++]))
            argp_error(state, "%s", fail_message());
        text += length;
    }
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case KEY_STRATEGY:
        choose(a, arg, state);
        break;
    case KEY_REPEATS:
        a->repeats = (int)cli_number(state, arg, 1, 1000000);
        break;
    case KEY_SEED:
        a->seed = (uint64_t)cli_number(state, arg, 0, 1LL << 62);
        break;
    case KEY_BUDGET:
        a->budget = (int)cli_number(state, arg, 1, 1 << 28);
        break;
    case KEY_JSON:
        a->json = true;
        break;
    case KEY_PLOT:
        if (strchr(arg, '\'')) argp_error(state, "%s: a path without quotes was expected", arg);
        a->plot = arg;
        break;
    case KEY_SET:
        if (a->settings == MAX_SETTINGS) argp_error(state, "too many settings");
        a->setting[a->settings++] = arg;
        break;
    case ARGP_KEY_ARGS:
        a->file = state->argv + state->next, a->files = state->argc - state->next;
        break;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "a file in T4 format was expected, FILE.t4.json or FILE.t4.json.gz");
        break;
    case ARGP_KEY_END:
        if (a->settings && a->chosen_count != 1)
            argp_error(state, "--set is for one strategy at a time");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* --- the picture ------------------------------------------------------------------------------ */

static void write_curve(FILE *csv, const struct replay_space *space, const char *strategy,
                        const struct replay_result *result) {
    for (int t = 0; t < result->budget; t++)
        fprintf(csv, "%s,%s,%d,%.9g,%.9g,%.9g,%.9g\n", space->name, strategy, t + 1,
                result->mean[t], result->random[t], space->best, space->median);
}

static enum status open_curves(const char *folder, char *path, size_t bytes, FILE **out) {
    snprintf(path, bytes, "%s/convergence.csv", folder);
    if (mkdir(folder, 0777) && errno != EEXIST)
        return fail(STATUS_SYSTEM, "%s: the folder could not be made: %s", folder, strerror(errno));
    *out = fopen(path, "w");
    if (!*out) return fail(STATUS_SYSTEM, "%s: could not be written: %s", path, strerror(errno));
    fprintf(*out, "space,strategy,evaluation,mean_ms,random_ms,best_ms,median_ms\n");
    return STATUS_OK;
}

static enum status draw(const char *csv, const char *folder) {
    char scripts[1024], script[1100], line[512];
    gnuplot_scripts(scripts, sizeof scripts);
    snprintf(script, sizeof script, "%s/convergence.gp", scripts);
    int code = gnuplot_run(script, csv, folder, line, sizeof line);
    if (code == -1)
        fprintf(stderr, "fastinfer: no picture: " GNUPLOT_MISSING "\n");
    else if (code)
        return fail(STATUS_SYSTEM, "%s failed on %s: %s", script, csv, line);
    else
        fprintf(stderr, "%s/convergence.svg, .png\n", folder);
    return STATUS_OK;
}

/* --- the table -------------------------------------------------------------------------------- */

struct replaying {
    const struct arguments *a;
    double parameters[MAX_PARAMETERS];
    double p[MAX_CHOSEN], within_1[MAX_CHOSEN], within_5[MAX_CHOSEN]; /* sums over the spaces */
    json_t *rows;
    FILE *curves;
    int widest, rows_printed;
};

static enum status replay_one(struct replaying *r, const struct replay_space *space, int which) {
    const struct arguments *a = r->a;
    const struct strategy *strategy = a->chosen[which];
    struct replay_options options = {strategy, a->settings ? r->parameters : NULL, a->repeats,
                                     a->budget, a->seed};
    struct replay_result result;
    TRY(replay_run(space, &options, &result));
    r->p[which] += result.p;
    r->within_1[which] += result.within_1, r->within_5[which] += result.within_5;
    if (a->json)
        json_array_append_new(r->rows, json_pack("{s:s, s:s, s:f, s:f, s:f, s:i}", "space",
                                                 space->name, "strategy", strategy->name, "p",
                                                 result.p, "within_1", result.within_1, "within_5",
                                                 result.within_5, "budget", result.budget));
    else if (!r->rows_printed++)
        printf("%-*s  %-10s  %6s +- %-5s  %9s  %9s  %6s  %9s\n", r->widest, "space", "strategy",
               "P", "error", "within 1%", "within 5%", "budget", "ms a step");
    if (!a->json)
        printf("%-*s  %-10s  %6.3f +- %.3f  %8.0f%%  %8.0f%%  %6d  %9.3f\n", r->widest, space->name,
               strategy->name, result.p, result.p_error, 100 * result.within_1,
               100 * result.within_5, result.budget, 1e3 * result.seconds);
    fflush(stdout);
    if (r->curves) write_curve(r->curves, space, strategy->name, &result);
    replay_result_free(&result);
    return STATUS_OK;
}

static enum status replay_file(struct replaying *r, const char *path) {
    struct replay_space space;
    TRY(replay_load(path, &space));
    enum status status = STATUS_OK;
    for (int i = 0; i < r->a->chosen_count && !status; i++) status = replay_one(r, &space, i);
    replay_free(&space);
    return status;
}

static enum status replay_all(struct replaying *r) {
    const struct arguments *a = r->a;
    strategy_defaults(a->chosen[0], r->parameters);
    for (int i = 0; i < a->settings; i++)
        TRY(strategy_set(a->chosen[0], a->setting[i], r->parameters));
    for (int i = 0; i < a->files; i++) {
        const char *slash = strrchr(a->file[i], '/');
        int length = (int)strcspn(slash ? slash + 1 : a->file[i], ".");
        if (length > r->widest) r->widest = length;
    }
    for (int i = 0; i < a->files; i++) TRY(replay_file(r, a->file[i]));
    for (int i = 0; i < a->chosen_count && !a->json && a->files > 1; i++)
        printf("%-*s  %-10s  %6.3f %8s  %8.0f%%  %8.0f%%\n", r->widest, "mean", a->chosen[i]->name,
               r->p[i] / a->files, "", 100 * r->within_1[i] / a->files,
               100 * r->within_5[i] / a->files);
    return STATUS_OK;
}

int cli_replay(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse,
        "FILE...",
        "Runs search strategies on spaces in which every point was measured before (T4 format, "
        "plain or gzipped) and scores them: P is the share of the way from random search to the "
        "best point that a strategy gains, averaged over the budget; 0 is random, 1 is knowing.",
        NULL,
        NULL,
        NULL};
    struct arguments a = {.repeats = 50, .seed = 1, .chosen = {&strategy_auto}, .chosen_count = 1};
    struct replaying r = {.a = &a, .widest = 5};
    char csv[1100];
    argv[0] = cli_name("replay");
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    enum status status = a.plot ? open_curves(a.plot, csv, sizeof csv, &r.curves) : STATUS_OK;
    if (a.json) r.rows = json_array();
    if (!status) status = replay_all(&r);
    if (r.curves && fclose(r.curves) && !status)
        status = fail(STATUS_SYSTEM, "%s: could not be written: %s", csv, strerror(errno));
    if (!status && a.json) {
        json_dumpf(r.rows, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
        printf("\n");
    }
    json_decref(r.rows);
    if (!status && a.plot) status = draw(csv, a.plot);
    return status ? cli_error(status) : 0;
}
