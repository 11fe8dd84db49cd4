#include "cli/gnuplot.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

void gnuplot_scripts(char *out, size_t bytes) {
    const char *root = getenv("FASTINFER_ROOT");
    if (root && *root)
        snprintf(out, bytes, "%s/plots", root);
    else if (!access("plots/style.gp", R_OK))
        snprintf(out, bytes, "plots");
    else
        snprintf(out, bytes, "%s/plots", FASTINFER_ROOT);
}

bool gnuplot_draws_bench(const char *name) {
    static const char *const bench[] = {"bandwidth.gp", "roofline.gp", "speedup.gp"};
    for (size_t i = 0; i < sizeof bench / sizeof *bench; i++)
        if (!strcmp(name, bench[i])) return true;
    return false;
}

int gnuplot_run(const char *script, const char *csv, const char *out, char *line, size_t bytes) {
    return gnuplot_run_with(script, csv, out, "", line, bytes);
}

int gnuplot_run_with(const char *script, const char *csv, const char *out, const char *settings,
                     char *line, size_t bytes) {
    char set[4096], log[] = "/tmp/fastinfer-plot-XXXXXX";
    int state = -1, fd = mkstemp(log);
    pid_t child;
    posix_spawn_file_actions_t actions;
    snprintf(set, sizeof set, "csv='%s'; out='%s'; %s", csv, out, settings);
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
