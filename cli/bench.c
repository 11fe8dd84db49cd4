/* bench.c - fastinfer bench: options, the run, the table at its end. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "harness/bench.h"
#include "harness/show.h"
#include "kernels/registry.h"

enum {
    KEY_POLICY = 256,
    KEY_PROBLEM,
    KEY_MODEL,
    KEY_POINT,
    KEY_QUICK,
    KEY_EXHAUST,
    KEY_RESUME,
    KEY_RETRY,
    KEY_COUNTERS,
    KEY_ENERGY,
    KEY_DB,
    KEY_JSON,
    KEY_SEED,
    KEY_SAMPLES,
    KEY_CONFIGS,
    KEY_KERNELS,
    KEY_NO_BASELINE,
    KEY_PLOTS
};

static const struct argp_option options[] = {
    {"device", 'd', "ID", 0, "auto (the first GPU, else the CPU), cuda:N, or cpu", 0},
    {"dtype", 't', "TYPE", 0, "fp16 (default), bf16 or fp32", 0},
    {"policy", KEY_POLICY, "R,L", 0,
     "residency (cold, hot, weights_cold) and launch (stream, graph); repeatable. Default: "
     "cold,stream, and hot,graph up to 16 rows",
     0},
    {"problem", KEY_PROBLEM, "SIZES", 0,
     "rows=4096,hidden=3072; repeatable; default: the standard ones", 0},
    {"model", KEY_MODEL, "DIR", 0, "take widths and heads from a HuggingFace config.json", 0},
    {"point", KEY_POINT, "POINT", 0, "only this point: block=128,vector_bytes=16,... (one kernel)",
     0},
    {"samples", KEY_SAMPLES, "N", 0, "points a problem, spread over the space", 0},
    {"quick", KEY_QUICK, NULL, 0, "few points and problems: a look in a minute", 0},
    {"exhaust", KEY_EXHAUST, NULL, 0, "whole spaces, on up to four problems a kernel", 0},
    {"counters", KEY_COUNTERS, "WHICH", 0,
     "hardware counters of each best point: off (default), basic, full, or METRIC,...", 0},
    {"energy", KEY_ENERGY, NULL, 0,
     "millijoules a launch of each contender, by NVML: a second more for each", 0},
    {"retry", KEY_RETRY, NULL, 0, "try again what killed a worker before", 0},
    {"resume", KEY_RESUME, NULL, 0, "skip what the database already holds for the same code", 0},
    {"no-baseline", KEY_NO_BASELINE, NULL, 0, "no PyTorch and no ceilings beside the kernels", 0},
    {"db", KEY_DB, "FILE", 0, "the database (default results/fastinfer.db)", 0},
    {"configs", KEY_CONFIGS, "DIR", 0, "where configured points come from (default configs)", 0},
    {"kernels", KEY_KERNELS, "DIR", 0, "add the kernels of a folder outside the tree", 0},
    {"json", KEY_JSON, NULL, 0, "print the results as JSON instead of tables", 0},
    {"seed", KEY_SEED, "N", 0, "of inputs and samples (default 1)", 0},
    {0}};

struct arguments {
    struct bench_options bench;
    const char *names[MAX_KERNELS];
    int name_count;
    bool json;
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    struct bench_options *o = &a->bench;
    switch (key) {
    case 'd':
        o->device = arg;
        break;
    case 't':
        o->dtype = cli_dtype(state, arg);
        break;
    case KEY_POLICY:
        if (o->policies == MAX_POLICIES) argp_error(state, "at most %d policies", MAX_POLICIES);
        if (policy_parse(arg, &o->policy[o->policies++])) argp_error(state, "%s", fail_message());
        break;
    case KEY_PROBLEM:
        if (o->problems == MAX_PROBLEM_TEXTS)
            argp_error(state, "at most %d problems", MAX_PROBLEM_TEXTS);
        o->problem[o->problems++] = arg;
        break;
    case KEY_MODEL:
        o->model = arg;
        break;
    case KEY_POINT:
        o->point = arg;
        break;
    case KEY_SAMPLES:
        o->samples = (int)cli_number(state, arg, 1, 1 << 20);
        break;
    case KEY_QUICK:
        o->quick = true;
        break;
    case KEY_EXHAUST:
        o->exhaust = true;
        break;
    case KEY_RESUME:
        o->resume = true;
        break;
    case KEY_COUNTERS:
        if (counters_parse(arg, &(struct counter_set){0})) argp_error(state, "%s", fail_message());
        o->counters = arg;
        break;
    case KEY_ENERGY:
        o->energy = true;
        break;
    case KEY_RETRY:
        o->retry = true;
        break;
    case KEY_NO_BASELINE:
        o->baselines = false;
        break;
    case KEY_DB:
        o->db = arg;
        break;
    case KEY_CONFIGS:
        o->configs = arg;
        break;
    case KEY_KERNELS:
        setenv("FASTINFER_KERNELS", arg, 1);
        if (registry_add_folder(arg)) argp_failure(state, 2, 0, "%s", fail_message());
        break;
    case KEY_JSON:
        a->json = true;
        break;
    case KEY_SEED:
        o->seed = (uint64_t)cli_number(state, arg, 0, INT64_MAX);
        break;
    case ARGP_KEY_ARG:
        if (a->name_count == MAX_KERNELS) argp_error(state, "too many kernels");
        a->names[a->name_count++] = arg;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static enum status check(struct arguments *a) {
    struct bench_options *o = &a->bench;
    for (int i = 0; i < a->name_count; i++)
        TRY(registry_find(a->names[i], &o->kernel[o->kernels++]));
    if (o->point && o->kernels != 1)
        return fail(STATUS_ARGUMENT,
                    "--point belongs to one kernel: fastinfer bench KERNEL --point ...");
    if (o->problems && !o->kernels)
        return fail(STATUS_ARGUMENT,
                    "--problem belongs to a kernel: fastinfer bench KERNEL --problem ...");
    if (o->quick && o->exhaust)
        return fail(STATUS_ARGUMENT, "--quick and --exhaust exclude each other");
    return STATUS_OK;
}

static void summarise(const struct arguments *a, const struct bench_outcome *out) {
    fprintf(stderr,
            "\n%d problems under a policy; %d points timed, %d failed; %d different machine codes "
            "or sources compiled\n"
            "%.0f s, of which the device's workers spent %.0f%% %s (%.0f s); compiling took %.0f s "
            "over all cores; isolation in worker processes cost %.1f%%\n",
            out->cells, out->points, out->failed, out->distinct, out->wall_s, 100 * out->busy_share,
            out->device.kind == DEVICE_CPU ? "compiling, verifying and measuring"
                                           : "verifying and measuring",
            out->measure_s, out->compile_s, 100 * out->isolation_share);
    if (out->quarantined)
        fprintf(stderr,
                "%d point%s passed over: a worker died of it before (--retry tries again)\n",
                out->quarantined, out->quarantined == 1 ? " was" : "s were");
    fprintf(stderr, "database: %s (view: results); next: fastinfer export, fastinfer plot\n",
            a->bench.db);
}

int cli_bench(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse,
        "[KERNEL...]",
        "Compiles variants of each kernel, proves each right against fp64, times them beside "
        "PyTorch eager and the device's own ceiling, and stores everything.",
        NULL,
        NULL,
        NULL};
    struct arguments a = {.bench = {.device = "auto",
                                    .baselines = true,
                                    .seed = 1,
                                    .counters = "off",
                                    .db = "results/fastinfer.db"}};
    struct store *store;
    struct bench_outcome outcome;
    for (int i = 1; i < argc; i++) { /* for the record, without the folders of this machine */
        size_t n = strlen(a.bench.command);
        const char *slash = strrchr(argv[i], '/');
        snprintf(a.bench.command + n, sizeof a.bench.command - n, "%s%s", i > 1 ? " " : "",
                 slash ? slash + 1 : argv[i]);
    }
    argv[0] = cli_name("bench");
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    enum status status = check(&a);
    if (status) return cli_error(status);
    status = store_open(a.bench.db, &store);
    if (status) return cli_error(status);
    status = bench_run(&a.bench, store, NULL, &outcome);
    int code = status ? cli_error(status) : 0;
    if (outcome.run && (!status || status == STATUS_INTERRUPTED)) {
        /* what a resumed run found in the database belongs to its tables, too */
        int64_t run = a.bench.resume ? 0 : outcome.run;
        enum status shown = a.json ? show_json(store, outcome.device.slug, run, stdout)
                                   : show_tables(store, outcome.device.slug, run, stdout);
        if (shown) code = cli_error(shown);
        fflush(stdout);
        if (!a.json) summarise(&a, &outcome);
    }
    store_close(store);
    return code;
}
