#include "cli/explain_plot.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/export.h"
#include "cli/gnuplot.h"

/* The columns that a picture's heading and caption are made of. */
#define ABOUT "kernel,dtype,problem,residency,launch,device,driver,commit,dirty,date"

static enum status create(const char *folder, const char *name, char *path, size_t bytes,
                          FILE **out) {
    snprintf(path, bytes, "%s/%s.csv", folder, name);
    if (!(*out = fopen(path, "w")))
        return fail(STATUS_SYSTEM, "%s: could not be written: %s", path, strerror(errno));
    return STATUS_OK;
}

static enum status finish(FILE *csv, const char *path, enum status status) {
    bool good = !ferror(csv);
    good &= fclose(csv) == 0;
    if (!status && !good)
        return fail(STATUS_SYSTEM, "%s: could not be written: %s", path, strerror(errno));
    return status;
}

static enum status draw(const char *name, const char *csv, const char *folder) {
    char scripts[1024], script[1100], line[512];
    gnuplot_scripts(scripts, sizeof scripts);
    snprintf(script, sizeof script, "%s/%s.gp", scripts, name);
    int code = gnuplot_run(script, csv, folder, line, sizeof line);
    if (code == -1)
        fprintf(stderr, "fastinfer: no picture: " GNUPLOT_MISSING "\n");
    else if (code == GNUPLOT_NOTHING)
        fprintf(stderr, "fastinfer: no picture: %s\n", line);
    else if (code)
        return fail(STATUS_SYSTEM, "%s failed on %s: %s", script, csv, line);
    else
        fprintf(stderr, "%s/%s.svg, .png\n", folder, name);
    return STATUS_OK;
}

static void about(FILE *csv, const char *const *fields, int count) {
    for (int i = 0; i < count; i++) {
        if (i) fputc(',', csv);
        export_csv_field(csv, fields[i]);
    }
}

/* --- best time so far --------------------------------------------------------------------------
 */

enum { KERNEL, DTYPE, PROBLEM, RESIDENCY, LAUNCH, STATUS, US, DEVICE, DRIVER, COMMIT, DIRTY, DATE };

struct searching {
    FILE *csv;
    char problem[MAX_TEXT], newest[5][128]; /* device, driver, commit, dirty, date of the newest */
    int evaluation;
    double best_us;
};

static enum status take_evaluation(void *context, int columns, const char *const *names,
                                   const char *const *v) {
    struct searching *s = context;
    const char *fields[] = {v[KERNEL], v[DTYPE],  v[PROBLEM], v[RESIDENCY], v[LAUNCH],
                            v[DEVICE], v[DRIVER], v[COMMIT],  v[DIRTY],     v[DATE]};
    (void)columns, (void)names;
    if (strcmp(s->problem, v[PROBLEM]) != 0) s->evaluation = 0, s->best_us = NAN;
    snprintf(s->problem, sizeof s->problem, "%s", v[PROBLEM]);
    if (strcmp(v[DATE], s->newest[4]) > 0)
        for (int i = 0; i < 5; i++)
            snprintf(s->newest[i], sizeof s->newest[i], "%s", v[DEVICE + i] ? v[DEVICE + i] : "");
    bool worked = !strcmp(v[STATUS], "ok") && v[US];
    if (worked && !(s->best_us <= atof(v[US]))) s->best_us = atof(v[US]);
    about(s->csv, fields, 10);
    fprintf(s->csv, ",%d,%s,", ++s->evaluation, worked ? v[US] : "");
    if (!isnan(s->best_us)) fprintf(s->csv, "%.4f", s->best_us);
    fprintf(s->csv, ",%s\n", v[STATUS]); /* last, for gnuplot loses an empty last field */
    return STATUS_OK;
}

/* --- the two strongest tunables ----------------------------------------------------------------
 */

static enum status write_cells(FILE *csv, const struct explain_case *which,
                               const struct explanation *why, const struct explain_sample *samples,
                               int count, const char *const newest[5]) {
    const struct explain_effect *x = &why->effect[0], *y = &why->effect[1];
    const struct tunable *tunables = which->kernel->tunables;
    const char *fields[] = {which->kernel->name, which->dtype, which->problem, which->residency,
                            which->launch,       newest[0],    newest[1],      newest[2],
                            newest[3],           newest[4]};
    for (int i = 0; i < x->levels; i++)
        for (int j = 0; j < y->levels; j++) {
            struct explain_level cell;
            TRY(explain_cell(samples, count, x->tunable, x->level[i].value, y->tunable,
                             y->level[j].value, &cell));
            about(csv, fields, 10);
            fprintf(csv, ",%s,%s,%d,%d,", tunables[x->tunable].name, tunables[y->tunable].name,
                    x->level[i].value, y->level[j].value);
            if (cell.worked)
                fprintf(csv, "%.4f,%.3f", cell.best_ns / 1e3,
                        100 * (cell.best_ns / samples[why->best].ns - 1));
            else
                fputc(',', csv);
            fprintf(csv, ",%d,%d\n", cell.points, cell.points - cell.worked);
        }
    return STATUS_OK;
}

static bool two_vary(const struct explanation *why) {
    return why->best >= 0 && why->effects > 1 && why->effect[0].levels > 1 &&
           why->effect[1].levels > 1;
}

enum status explain_plot_cells(const char *path, const struct explain_case *which,
                               const struct explanation *why, const struct explain_sample *samples,
                               int count, const char *const newest[5]) {
    if (!two_vary(why))
        return fail(STATUS_MISSING, "fewer than two tunables of %s have several values",
                    which->kernel->name);
    FILE *csv = fopen(path, "w");
    if (!csv) return fail(STATUS_SYSTEM, "%s: could not be written: %s", path, strerror(errno));
    fprintf(csv, ABOUT ",x_tunable,y_tunable,x,y,best_us,percent_over_best,points,failed\n");
    return finish(csv, path, write_cells(csv, which, why, samples, count, newest));
}

enum status explain_plot(struct store *store, const struct explain_case *which,
                         const struct explanation *why, const struct explain_sample *samples,
                         int count, const char *folder) {
    struct searching searching = {.best_us = NAN};
    char path[1200];
    if (mkdir(folder, 0777) && errno != EEXIST)
        return fail(STATUS_SYSTEM, "%s: the folder could not be made: %s", folder, strerror(errno));
    TRY(create(folder, "search", path, sizeof path, &searching.csv));
    fprintf(searching.csv, ABOUT ",evaluation,us,best_us,status\n");
    TRY(finish(searching.csv, path, explain_order(store, which, &searching, take_evaluation)));
    TRY(draw("search", path, folder));
    if (!two_vary(why)) {
        fprintf(stderr, "fastinfer: no heat map: fewer than two tunables have several values\n");
        return STATUS_OK;
    }
    const char *newest[5];
    for (int i = 0; i < 5; i++) newest[i] = searching.newest[i];
    snprintf(path, sizeof path, "%s/heatmap.csv", folder);
    TRY(explain_plot_cells(path, which, why, samples, count, newest));
    return draw("heatmap", path, folder);
}
