/* calibrate.c - fastinfer calibrate: what this device's clock says of identical code. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "harness/gate_pool.h"
#include "harness/snapshot.h"
#include "kernels/registry.h"

enum { KEY_DEVICE = 256, KEY_REPEATS, KEY_SECONDS, KEY_QUICK, KEY_OUT, KEY_CONFIGS, KEY_SEED };
static const struct argp_option options[] = {
    {"device", KEY_DEVICE, "ID", 0, "cuda:N (default cuda:0)", 0},
    {"repeats", KEY_REPEATS, "N", 0, "comparisons a cell (default: 1000 in all)", 0},
    {"seconds", KEY_SECONDS, "N", 0, "stop repeating after about so long (default: no limit)", 0},
    {"quick", KEY_QUICK, NULL, 0, "fewer problems", 0},
    {"out", KEY_OUT, "DIR", 0, "DIR/<device>/calibration.json (default results)", 0},
    {"configs", KEY_CONFIGS, "DIR", 0, "configurations (default configs)", 0},
    {"seed", KEY_SEED, "N", 0, "of the simulated runs (default 1)", 0},
    {0}};

struct arguments {
    struct snapshot_options snapshot;
    const char *out;
    int repeats;
    double seconds;
    uint64_t seed;
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case KEY_DEVICE:
        a->snapshot.device = arg;
        break;
    case KEY_REPEATS:
        a->repeats = (int)cli_number(state, arg, 1, 10000);
        break;
    case KEY_SECONDS:
        a->seconds = (double)cli_number(state, arg, 1, 86400);
        break;
    case KEY_QUICK:
        a->snapshot.quick = true;
        break;
    case KEY_OUT:
        a->out = arg;
        break;
    case KEY_CONFIGS:
        a->snapshot.configs = arg;
        break;
    case KEY_SEED:
        a->seed = (uint64_t)cli_number(state, arg, 0, INT64_MAX);
        break;
    case ARGP_KEY_ARG:
        if (a->snapshot.kernels == 64) argp_error(state, "too many kernels");
        if (registry_find(arg, &a->snapshot.kernel[a->snapshot.kernels++]))
            argp_failure(state, 2, 0, "%s", fail_message());
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static void show_progress(int done, int total, const char *what) {
    cli_progress("calibrating", done, total, what);
}

static enum status calibrate_into(const struct arguments *a, const json_t *snapshot) {
    struct gate_pool pool;
    struct calibration c;
    char path[1024];
    int cells = (int)json_array_size(json_object_get(snapshot, "cells"));
    int repeats = a->repeats ? a->repeats : cells ? (999 + cells) / cells : 1;
    TRY(gate_pool_open(&pool, a->snapshot.device));
    pool.progress = show_progress;
    struct gate_timer timer = gate_pool_timer(&pool);
    enum status status = calibrate(&timer, snapshot, repeats, a->seconds, a->seed, &c);
    gate_pool_close(&pool);
    cli_progress_clear();
    if (status) return status;
    printf("%d cells, %d comparisons of identical code in %.0f s: off by %.2f%% in the middle, "
           "%.2f%% at the 95th of 100\n",
           c.cells, c.comparisons, c.seconds, 100 * c.noise_median, 100 * c.noise_95);
    printf("rules: slower is beyond %.2f%%, the same is within %.2f%%\n", 100 * (c.margin - 1),
           100 * (c.same - 1));
    printf("%d simulated runs: %.2f%% fail (at most %.2f%%, 95%% confidence); %.2f%% of verdicts "
           "stay unsure\n",
           c.runs, 100 * c.failed, 100 * c.failed_bound, 100 * c.unsure);
    printf("3%% more work: %d of %d found (at least %.1f%%, 95%% confidence)\n", c.found, c.planted,
           100 * c.found_bound);
    snprintf(path, sizeof path, "%s/%s", a->out,
             json_string_value(json_object_get(snapshot, "device")));
    mkdir(a->out, 0777), mkdir(path, 0777);
    strncat(path, "/calibration.json", sizeof path - strlen(path) - 1);
    status = calibration_write(&c, snapshot, path);
    json_decref(c.by_cell);
    if (status) return status;
    printf("%s\n", path);
    return STATUS_OK;
}

int cli_calibrate(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse,
        "[KERNEL...]",
        "Compares identical code with itself, over and over, and derives from what it sees how far "
        "off a kernel has to be before `fastinfer gate` calls it slower.",
        NULL,
        NULL,
        NULL};
    struct arguments a = {
        .out = "results", .seed = 1, .snapshot = {.device = "cuda:0", .configs = "configs"}};
    json_t *snapshot = NULL;
    argv[0] = cli_name("calibrate");
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    enum status status = STATUS_OK;
    if (!cli_is_gpu(a.snapshot.device))
        status = fail(STATUS_ARGUMENT,
                      "device '%s': times of the CPU device are an emulation's and "
                      "cannot be calibrated; cuda:N was expected",
                      a.snapshot.device);
    else if (device_cuda_count() <= 0)
        status = fail(STATUS_MISSING, "no GPU to calibrate: %s", fail_message());
    if (!status) status = snapshot_take(&a.snapshot, &snapshot);
    if (!status) status = calibrate_into(&a, snapshot);
    json_decref(snapshot);
    return status ? cli_error(status) : 0;
}
