/* bench.c - fastinfer bench: options, the run, the table at its end. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/run_options.h"
#include "harness/bench.h"
#include "harness/show.h"

enum { KEY_POINT = RUN_OPTIONS_LAST + 1, KEY_COUNTERS, KEY_ENERGY, KEY_SAMPLES, KEY_NO_BASELINE };

static const struct argp_option options[] = {
    {"point", KEY_POINT, "POINT", 0, "only this point: block=128,vector_bytes=16,... (one kernel)",
     0},
    {"samples", KEY_SAMPLES, "N", 0, "points a problem, spread over the space", 0},
    {"counters", KEY_COUNTERS, "WHICH", 0,
     "hardware counters of each best point: off (default), basic, full, or METRIC,...", 0},
    {"energy", KEY_ENERGY, NULL, 0,
     "millijoules a launch of each contender, by NVML: a second more for each", 0},
    {"no-baseline", KEY_NO_BASELINE, NULL, 0, "no PyTorch and no ceilings beside the kernels", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct run_options *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = a;
        break;
    case KEY_POINT:
        a->bench.point = arg;
        break;
    case KEY_SAMPLES:
        a->bench.samples = (int)cli_number(state, arg, 1, 1 << 20);
        break;
    case KEY_COUNTERS:
        if (counters_parse(arg, &(struct counter_set){0})) argp_error(state, "%s", fail_message());
        a->bench.counters = arg;
        break;
    case KEY_ENERGY:
        a->bench.energy = true;
        break;
    case KEY_NO_BASELINE:
        a->bench.baselines = false;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static void summarise(const struct run_options *a, const struct bench_outcome *out) {
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
    static const struct argp_child children[] = {{&run_options_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        options,
        parse,
        "[KERNEL...]",
        "Compiles variants of each kernel, proves each right against fp64, times them beside "
        "PyTorch eager and the device's own ceiling, and stores everything. Policies, unless told: "
        "cold,stream for all and hot,graph up to 16 rows.",
        children,
        NULL,
        NULL};
    struct run_options a = run_options_default;
    struct store *store;
    struct bench_outcome outcome;
    run_options_record(&a, argc, argv);
    argv[0] = cli_name("bench");
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    enum status status = run_options_check(&a);
    if (!status && a.bench.point && a.bench.kernels != 1)
        status = fail(STATUS_ARGUMENT,
                      "--point belongs to one kernel: fastinfer bench KERNEL --point ...");
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
