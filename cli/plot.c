/* plot.c - fastinfer plot: a device's bench.csv, and gnuplot over it. */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/export.h"

extern char **environ;

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

static void find_scripts(struct arguments *a) {
    const char *root = getenv("FASTINFER_ROOT");
    if (a->scripts[0]) return;
    if (root && *root)
        snprintf(a->scripts, sizeof a->scripts, "%s/plots", root);
    else if (!access("plots/style.gp", R_OK))
        snprintf(a->scripts, sizeof a->scripts, "plots");
    else
        snprintf(a->scripts, sizeof a->scripts, "%s/plots", FASTINFER_ROOT);
}

/* gnuplot's exit code, with the first line it printed; -1 where it could not be started. */
static int run_gnuplot(const char *script, const char *csv, const char *out, char *line,
                       size_t bytes) {
    char set[2400], log[] = "/tmp/fastinfer-plot-XXXXXX";
    int state = -1, fd = mkstemp(log);
    pid_t child;
    posix_spawn_file_actions_t actions;
    snprintf(set, sizeof set, "csv='%s'; out='%s'", csv, out);
    const char *argv[] = {"gnuplot", "-e", set, script, NULL};
    posix_spawn_file_actions_init(&actions);
    if (fd >= 0) {
        posix_spawn_file_actions_adddup2(&actions, fd, 1);
        posix_spawn_file_actions_adddup2(&actions, fd, 2);
    }
    int error =
        posix_spawnp(&child, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    while (!error && waitpid(child, &state, 0) < 0 && errno == EINTR) {
    }
    line[0] = 0;
    FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (file) {
        rewind(file);
        while (!line[0] && fgets(line, (int)bytes, file)) line[strcspn(line, "\n")] = 0;
        fclose(file);
    }
    unlink(log);
    return error ? -1 : WIFEXITED(state) ? WEXITSTATUS(state) : 128;
}

enum { NOTHING_TO_DRAW = 3 }; /* the scripts' exit code for a good file without their data */

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
        if (!strcmp(name, "style.gp") || !strcmp(name, "convergence.gp")) continue;
        int code = run_gnuplot(found.gl_pathv[i], csv, folder, line, sizeof line);
        if (code == -1) {
            fprintf(stderr, "fastinfer: no pictures: gnuplot is not installed "
                            "(apt-get install gnuplot-nox)\n");
            break;
        }
        if (code == NOTHING_TO_DRAW)
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
    find_scripts(&a);
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
