/* tune.c - fastinfer tune: searches, the table at their end, and how far an unfinished one came. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/run_options.h"
#include "cli/tune_audit.h"
#include "harness/config_file.h"
#include "harness/show.h"
#include "harness/tune_plan.h"

enum {
    KEY_STRATEGY = RUN_OPTIONS_LAST + 1,
    KEY_EVALUATIONS,
    KEY_SECONDS,
    KEY_STATUS,
    KEY_PLAN,
    KEY_AUDIT
};
static const struct argp_option options[] = {
    {"strategy", KEY_STRATEGY, "NAME", 0,
     "auto (default), exhaustive, random, genetic, local, annealing", 0},
    {"evaluations", KEY_EVALUATIONS, "N", 0,
     "of a problem, at most (default: a tenth of its space, 24 to 64)", 0},
    {"seconds", KEY_SECONDS, "N", 0,
     "search for no longer, then decide (default: 240, with --exhaust 0: no limit)", 0},
    {"status", KEY_STATUS, NULL, 0, "only show how far the latest search came", 0},
    {"plan", KEY_PLAN, "ARCH", OPTION_ARG_OPTIONAL,
     "only count the work, for the device or an architecture that is not here (sm_90)", 0},
    {"audit", KEY_AUDIT, NULL, 0,
     "only compare what was chosen with the best of the spaces that --exhaust scanned", 0},
    {0}};

struct arguments {
    struct run_options run;
    struct tune_options tune;
    bool status, plan, audit;
    int arch; /* to plan for; 0: the device's */
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->run;
        break;
    case KEY_STRATEGY:
        if (strategy_find(arg, &a->tune.strategy)) argp_error(state, "%s", fail_message());
        break;
    case KEY_EVALUATIONS:
        a->tune.evaluations = (int)cli_number(state, arg, 1, 1 << 20);
        break;
    case KEY_SECONDS:
        a->tune.seconds = (double)cli_number(state, arg, 0, 7 * 86400);
        break;
    case KEY_STATUS:
        a->status = true;
        break;
    case KEY_AUDIT:
        a->audit = true;
        break;
    case KEY_PLAN:
        a->plan = true, a->arch = arg ? cli_arch(state, arg) : 0;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* --- how far it is ------------------------------------------------------------------------------
 */

static enum status print_status(void *context, int columns, const char *const *names,
                                const char *const *v) {
    bool *any = context;
    (void)columns, (void)names;
    if (!*any)
        printf("run %s on %s, %s, %s\n%-16s %-14s %8s %10s %8s %8s %12s\n", v[0], v[1], v[2],
               v[3] ? v[3] : "not ended: still running, or stopped (--resume goes on)", "kernel",
               "policy", "problems", "searching", "decided", "done", "evaluations");
    *any = true;
    printf("%-16s %-14s %8s %10s %8s %8s %12s\n", v[4], v[5], v[6], v[7], v[8], v[9], v[10]);
    return STATUS_OK;
}

static enum status show_status(struct store *store) {
    bool any = false;
    TRY(store_query(
        store,
        "SELECT run.id, d.name, run.started, run.outcome, p.kernel, t.residency || ',' || "
        "t.launch, "
        "COUNT(*), SUM(t.state = 'searching'), SUM(t.state = 'decided'), SUM(t.state = 'done'), "
        "SUM(t.evaluations) FROM tuning t JOIN run ON run.id = t.run_id "
        "JOIN device d ON d.id = run.device_id JOIN problem p ON p.id = t.problem_id "
        "WHERE t.run_id = (SELECT MAX(run_id) FROM tuning) AND t.stopped <> 'between' "
        "GROUP BY p.kernel, t.residency, t.launch ORDER BY MIN(p.id)",
        NULL, 0, &any, print_status));
    if (!any) printf("nothing was tuned into this database yet; fastinfer tune begins\n");
    return STATUS_OK;
}

/* --- how much it will be ------------------------------------------------------------------------
 */

static enum status describe_device(const struct arguments *a, struct device_info *out) {
    const char *id = a->run.bench.device;
    if (a->arch) {
        device_describe_arch(a->arch, out);
        return STATUS_OK;
    }
    if (!strncmp(id, "cuda", 4)) return device_describe_cuda(0, out);
    if (!strcmp(id, "cpu") || device_describe_cuda(0, out)) device_describe_cpu(out);
    return STATUS_OK;
}

static enum status show_plan(const struct arguments *a) {
    struct tune_work work[MAX_KERNELS + 1];
    struct device_info device;
    int rows;
    TRY(describe_device(a, &device));
    TRY(tune_plan_work(&a->run.bench, &a->tune, &device, work, MAX_KERNELS + 1, &rows));
    printf("tuning for %s, at most:\n%-18s %8s %8s %8s %7s %15s %12s %13s\n", device.name, "kernel",
           "problems", "between", "ceilings", "chains", "points", "evaluations", "compilations");
    for (int i = 0; i < rows; i++) {
        const struct tune_work *w = &work[i];
        printf("%-18s %8d %8d %8d %7d %7d-%-7d %12d %13d\n", w->kernel, w->problems, w->between,
               w->ceilings, w->chains, w->smallest, w->largest, w->evaluations, w->compilations);
    }
    return STATUS_OK;
}

/* --- the end ------------------------------------------------------------------------------------
 */

struct table {
    char kernel[32];
};

static const char *or_dash(const char *text) { return text ? text : "-"; }

static enum status print_tuned(void *context, int columns, const char *const *names,
                               const char *const *v) {
    struct table *t = context;
    (void)columns, (void)names;
    if (strcmp(t->kernel, v[0]) != 0) {
        snprintf(t->kernel, sizeof t->kernel, "%s", v[0]);
        printf("\n%s on %s\n%-44s %-18s %8s %7s %7s %7s %7s %-14s %s\n", v[0], v[1], "problem",
               "policy", "us", "% ceil", "x dflt", "regret%", "evals", "stopped", "point");
    }
    printf("%-44s %-18s %8s %7s %7s %7s %7s %-14s %s\n", v[2], v[3], v[4], or_dash(v[5]),
           or_dash(v[6]), or_dash(v[7]), v[8], v[9], v[10]);
    return STATUS_OK;
}

static enum status show_tuned(struct store *store, int64_t run) {
    struct table table = {""};
    char id[24];
    const char *params[] = {id};
    snprintf(id, sizeof id, "%lld", (long long)run);
    return store_query(
        store,
        "SELECT kernel, device, problem, residency || ',' || launch, printf('%.2f', median_us), "
        "CASE WHEN percent_of_ceiling THEN printf('%.1f', percent_of_ceiling) END, "
        "CASE WHEN default_us THEN printf('%.2f', default_us / median_us) END, "
        "CASE WHEN regret IS NOT NULL THEN printf('%.1f', 100 * regret) END, evaluations, stopped, "
        "point FROM tuned "
        "WHERE run_id = CAST(? AS INTEGER) AND stopped <> 'between' "
        "ORDER BY kernel, residency, launch, rows, problem",
        params, 1, &table, print_tuned);
}

static void summarise(const struct tune_outcome *o) {
    fprintf(stderr,
            "\n%d searches, %d evaluations; %d stopped at their ceiling; the default stays on %d\n"
            "tables: %d points in all; regret %.2f%% in the mean, %.1f%% at worst; of a shape left "
            "out %.2f%%, %.1f%%\n"
            "%.0f s, of which the device's workers spent %.0f%% verifying and measuring; compiling "
            "took %.0f s over all cores; isolation cost %.1f%%\n",
            o->shapes, o->evaluations, o->at_ceiling, o->kept_defaults, o->points,
            100 * o->regret_mean, 100 * o->regret_worst, 100 * o->left_out_mean,
            100 * o->left_out_worst, o->bench.wall_s, 100 * o->bench.busy_share, o->bench.compile_s,
            100 * o->bench.isolation_share);
}

static void show_workers(const struct bench_outcome *o) {
    if (!o->served[1]) return;
    fprintf(stderr, "points by worker:");
    for (int i = 0; i < MAX_SERVED && o->served[i]; i++) fprintf(stderr, " %d", o->served[i]);
    fprintf(stderr, "\n");
}

static enum status tune(const struct arguments *a, struct store *store) {
    struct tune_outcome outcome;
    size_t entries;
    const char *folder = a->run.bench.configs ? a->run.bench.configs : "configs";
    TRY(tune_run(&a->run.bench, &a->tune, store, &outcome));
    TRY(config_file_write(store, outcome.bench.device.slug, folder, &entries));
    if (a->run.json)
        TRY(show_json(store, outcome.bench.device.slug, outcome.bench.run, stdout));
    else
        TRY(show_tuned(store, outcome.bench.run));
    fflush(stdout);
    if (a->run.json) return STATUS_OK;
    summarise(&outcome);
    show_workers(&outcome.bench);
    fprintf(stderr, "%s/%s.json: %zu entries; database: %s (view: tuned)\n", folder,
            outcome.bench.device.slug, entries, a->run.bench.db);
    return STATUS_OK;
}

int cli_tune(int argc, char **argv) {
    static const struct argp_child children[] = {{&run_options_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        options,
        parse,
        "[KERNEL...]",
        "Searches each kernel's space for its fastest point, shape by shape, and writes "
        "configs/<device>.json. Policy, unless told: weights_cold,graph, as in a decode step.",
        children,
        NULL,
        NULL};
    struct arguments a = {.run = run_options_default,
                          .tune = {.strategy = &strategy_auto, .seconds = -1}};
    struct store *store;
    run_options_record(&a.run, argc, argv);
    argv[0] = cli_name("tune");
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    enum status status = run_options_check(&a.run);
    if (status) return cli_error(status);
    a.tune.exhaust = a.run.bench.exhaust;
    if (a.tune.seconds < 0) a.tune.seconds = a.tune.exhaust ? 0 : 240;
    if (!a.run.bench.policies)
        a.run.bench.policy[a.run.bench.policies++] =
            (struct policy){RESIDENCY_WEIGHTS_COLD, LAUNCH_GRAPH};
    if (a.plan) {
        status = show_plan(&a);
        return status ? cli_error(status) : 0;
    }
    bool reads = a.status || a.audit;
    status =
        reads ? store_open_readonly(a.run.bench.db, &store) : store_open(a.run.bench.db, &store);
    if (status) return cli_error(status);
    status = a.audit ? tune_audit(store) : a.status ? show_status(store) : tune(&a, store);
    store_close(store);
    return status ? cli_error(status) : 0;
}
