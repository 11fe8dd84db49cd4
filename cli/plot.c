/* plot.c - fastinfer plot: a device's bench.csv, and gnuplot over it. */
#include <argp.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/export.h"
#include "cli/gnuplot.h"

enum { KEY_DB = 256, KEY_OUT, KEY_DEVICE, KEY_SCRIPTS };
static const struct argp_option options[] = {
    {"db", KEY_DB, "FILE", 0, "the database (default results/fastinfer.db)", 0},
    {"out", KEY_OUT, "DIR", 0, "DIR/<device>/ holds the pictures (default results/plots)", 0},
    {"device", KEY_DEVICE, "SLUG", 0, "only this device, e.g. nvidia-h200", 0},
    {"scripts", KEY_SCRIPTS, "DIR", 0, "the gnuplot scripts (default: those of the source tree)",
     0},
    {0}};

struct arguments {
    const char *db, *out, *device;
    char scripts[1024];
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case KEY_DB:
        a->db = arg;
        break;
    case KEY_OUT:
        a->out = arg;
        break;
    case KEY_DEVICE:
        a->device = arg;
        break;
    case KEY_SCRIPTS:
        snprintf(a->scripts, sizeof a->scripts, "%s", arg);
        break;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected '%s'", arg);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static enum status draw(const struct arguments *a, const char *folder) {
    char pattern[1100], csv[1200], line[512];
    glob_t found;
    int drawn = 0;
    snprintf(pattern, sizeof pattern, "%s/*.gp", a->scripts);
    snprintf(csv, sizeof csv, "%s/bench.csv", folder);
    if (glob(pattern, 0, NULL, &found))
        return fail(STATUS_MISSING, "%s: no gnuplot scripts there", a->scripts);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < found.gl_pathc && !status; i++) {
        const char *name = strrchr(found.gl_pathv[i], '/') + 1;
        if (!gnuplot_draws_bench(name)) continue;
        int code = gnuplot_run(found.gl_pathv[i], csv, folder, line, sizeof line);
        if (code == -1) {
            fprintf(stderr, "fastinfer: no pictures: " GNUPLOT_MISSING "\n");
            break;
        }
        if (code == GNUPLOT_NOTHING)
            fprintf(stderr, "fastinfer: no picture of %.*s: %s\n", (int)strcspn(name, "."), name,
                    line);
        else if (code)
            status = fail(STATUS_SYSTEM, "%s failed: %s", found.gl_pathv[i], line);
        else
            drawn++;
    }
    globfree(&found);
    if (!status && drawn) printf("%d pictures, as SVG and PNG, in %s/\n", drawn, folder);
    return status;
}

struct plotting {
    struct store *store;
    const struct arguments *a;
    int devices;
};

static enum status plot_device(void *context, int columns, const char *const *names,
                               const char *const *v) {
    struct plotting *p = context;
    char folder[1100];
    (void)columns, (void)names;
    if (p->a->device && strcmp(p->a->device, v[0]) != 0) return STATUS_OK;
    p->devices++;
    TRY(export_folder(p->a->out, v[0], folder, sizeof folder));
    TRY(export_bench_csv(p->store, v[0], folder));
    return draw(p->a, folder);
}

int cli_plot(int argc, char **argv) {
    static const struct argp argp = {
        options, parse,
        NULL,    "Draws speedup, bandwidth and roofline for each device in the database.",
        NULL,    NULL,
        NULL};
    struct arguments a = {.db = "results/fastinfer.db", .out = "results/plots"};
    struct plotting plotting = {.a = &a};
    argv[0] = cli_name("plot");
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (!a.scripts[0]) gnuplot_scripts(a.scripts, sizeof a.scripts);
    enum status status = store_open_readonly(a.db, &plotting.store);
    if (!status)
        status =
            store_query(plotting.store,
                        "SELECT slug FROM device d WHERE EXISTS (SELECT 1 FROM results r WHERE "
                        "r.device_slug = d.slug AND r.status = 'ok') ORDER BY id",
                        NULL, 0, &plotting, plot_device);
    if (!status && !plotting.devices)
        status = fail(STATUS_ARGUMENT, "%s: nothing measured%s%s yet", a.db, a.device ? " on " : "",
                      a.device ? a.device : "");
    store_close(plotting.store);
    return status ? cli_error(status) : 0;
}
