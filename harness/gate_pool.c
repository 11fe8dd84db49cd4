#include "harness/gate_pool.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/bench.h"
#include "harness/worker.h"
#include "kernels/registry.h"
#include "runtime/json_text.h"

enum { PAIR_SECONDS = 60 };

enum status gate_pool_open(struct gate_pool *g, const char *device) {
    *g = (struct gate_pool){0};
    g->pool.open_request = worker_open_request(1, false);
    return pool_add(&g->pool, device, 1);
}

void gate_pool_close(struct gate_pool *g) { pool_close(&g->pool); }

static enum status run_pair(void *context, const json_t *a, const json_t *b, int rounds,
                            struct pairing *out) {
    struct gate_pool *g = context;
    json_t *reply;
    json_t *request =
        json_pack("{s:s, s:O, s:O, s:i, s:b}", "op", "pair", "a", (json_t *)(uintptr_t)a, "b",
                  (json_t *)(uintptr_t)b, "rounds", rounds, "planted", (int)g->planted);
    enum status status = pool_ask(&g->pool, 0, request, PAIR_SECONDS, &reply);
    if (status)
        return fail_context(status, "%s %.100s %s", json_text(b, "kernel"), json_text(b, "problem"),
                            json_text(b, "policy"));
    pairing_from_json(json_object_get(reply, "pairing"), out);
    json_decref(reply);
    return STATUS_OK;
}

static void show_progress(void *context, int done, int total, const char *what) {
    struct gate_pool *g = context;
    if (g->progress) g->progress(done, total, what);
}

struct gate_timer gate_pool_timer(struct gate_pool *g) {
    return (struct gate_timer){g, run_pair, show_progress, &g->planted};
}

/* --- against an export
 * -------------------------------------------------------------------------- */

enum {
    COLUMN_KERNEL,
    DTYPE,
    PROBLEM,
    RESIDENCY,
    LAUNCH,
    POINT,
    MEDIAN,
    LOW,
    HIGH,
    DEVICE,
    COMMIT,
    COLUMNS
};
static const char *const column_names[COLUMNS] = {"kernel",  "dtype",  "problem",   "residency",
                                                  "launch",  "point",  "median_us", "low_us",
                                                  "high_us", "device", "commit"};

/* Splits a line of CSV in place; fields may stand in quotes. Returns how many there are. */
static int split(char *line, char **field, int most) {
    int n = 0;
    line[strcspn(line, "\r\n")] = 0;
    for (char *at = line; n < most;) {
        char *to = at;
        field[n++] = at;
        bool quoted = *at == '"';
        if (quoted) at++;
        while (*at && (quoted || *at != ',')) {
            if (quoted && *at == '"') {
                if (at[1] != '"') break;
                at++;
            }
            *to++ = *at++;
        }
        if (quoted && *at == '"') at++;
        char end = *at;
        *to = 0;
        if (!end) break;
        at++;
    }
    return n;
}

struct stored { /* a row of an export */
    char *field[COLUMNS];
};

static enum status find_columns(char *header, const char *path, int column[COLUMNS]) {
    char *field[64];
    int n = split(header, field, 64);
    for (int c = 0; c < COLUMNS; c++) {
        column[c] = -1;
        for (int i = 0; i < n; i++)
            if (!strcmp(field[i], column_names[c])) column[c] = i;
        if (column[c] < 0)
            return fail(STATUS_FORMAT,
                        "%s: no column '%s'; it is no export of this version (fastinfer export "
                        "writes one)",
                        path, column_names[c]);
    }
    return STATUS_OK;
}

enum { POLICY_TEXT = 64 };
static void policy_of(const struct stored *s, char out[POLICY_TEXT]) {
    snprintf(out, POLICY_TEXT, "%.30s,%.30s", s->field[RESIDENCY], s->field[LAUNCH]);
}

static enum status evaluate(struct gate_pool *g, const struct stored *s, double *median,
                            double *low, double *high) {
    json_t *reply;
    char policy[POLICY_TEXT];
    struct limits limits = {15, 40, 0.005, 0.3, false, 0};
    policy_of(s, policy);
    json_t *request =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:o}", "op", "evaluate", "kernel",
                  s->field[COLUMN_KERNEL], "dtype", s->field[DTYPE], "problem", s->field[PROBLEM],
                  "policy", policy, "point", s->field[POINT], "limits", limits_to_json(&limits));
    struct record r;
    TRY(pool_ask(&g->pool, 0, request, PAIR_SECONDS, &reply));
    enum status status = record_from_json(json_array_get(json_object_get(reply, "records"), 0), &r);
    json_decref(reply);
    if (!status && r.status) status = fail(r.status, "%s", r.reason);
    *median = r.summary.median / 1e3, *low = r.summary.low / 1e3, *high = r.summary.high / 1e3;
    return status;
}

static enum gate_verdict judge(const struct stored *s, double between, double low, double high) {
    if (low > atof(s->field[HIGH]) * between) return GATE_SLOWER;
    if (high * between < atof(s->field[LOW])) return GATE_FASTER;
    return GATE_SAME;
}

static enum status compare_row(struct gate_pool *g, const struct stored *s, double between,
                               struct gate_report *out) {
    double median = 0, low = 0, high = 0;
    char policy[POLICY_TEXT];
    policy_of(s, policy);
    struct gate_row *row =
        gate_add_row(out, s->field[COLUMN_KERNEL], s->field[DTYPE], s->field[PROBLEM], policy);
    row->base_us = atof(s->field[MEDIAN]);
    for (int turn = 0; turn < 2; turn++) { /* a verdict has to be found twice */
        enum status status = evaluate(g, s, &median, &low, &high);
        if (status) {
            row->verdict = GATE_SLOWER;
            snprintf(row->reason, sizeof row->reason, "does not run any more (%s): %.300s",
                     status_text(status), fail_message());
            return STATUS_OK;
        }
        enum gate_verdict verdict = judge(s, between, low, high);
        row->verdict = turn && verdict != row->verdict ? GATE_UNSURE : verdict;
        if (row->verdict == GATE_SAME) break;
    }
    row->now_us = median, row->ratio = median / row->base_us;
    row->low = low / atof(s->field[HIGH]), row->high = high / atof(s->field[LOW]);
    return STATUS_OK;
}

/* A row whose kernel is gone ends the comparison. */
static enum status take_line(struct gate_pool *g, char *line, const int column[COLUMNS],
                             const char *path, const struct device_info *device, double between,
                             struct gate_report *out) {
    char *field[64];
    struct stored s;
    const struct kernel *kernel;
    int n = split(line, field, 64);
    for (int c = 0; c < COLUMNS; c++) {
        if (column[c] >= n)
            return fail(STATUS_FORMAT, "%s: a row with %d columns; the file is damaged", path, n);
        s.field[c] = field[column[c]];
    }
    if (strcmp(s.field[DEVICE], device->name))
        return fail(STATUS_ARGUMENT, "%s is of '%s'; this device is '%s'", path, s.field[DEVICE],
                    device->name);
    snprintf(out->base, sizeof out->base, "%.60s", s.field[COMMIT]);
    if (atof(s.field[MEDIAN]) <= 0 || atof(s.field[LOW]) <= 0 || atof(s.field[HIGH]) <= 0)
        return fail(STATUS_FORMAT, "%s: %s %s has no time", path, s.field[COLUMN_KERNEL],
                    s.field[PROBLEM]);
    TRY(registry_find(s.field[COLUMN_KERNEL], &kernel));
    return compare_row(g, &s, between, out);
}

enum status gate_against_export(struct gate_pool *g, const char *folder,
                                const struct device_info *device, double between,
                                struct gate_report *out) {
    char path[1100], *line = NULL;
    size_t capacity = 0;
    int column[COLUMNS], lines = 0;
    bool dirty;
    *out = (struct gate_report){0};
    snprintf(path, sizeof path, "%s/bench.csv", folder);
    FILE *file = fopen(path, "r");
    if (!file)
        return fail(STATUS_ARGUMENT, "%s: %s; a folder that fastinfer export wrote was expected",
                    path, strerror(errno));
    snprintf(out->device, sizeof out->device, "%s", device->slug);
    snprintf(out->now, sizeof out->now, "%.60s", bench_commit(&dirty));
    enum status status = STATUS_OK;
    while (!status && getline(&line, &capacity, file) > 0) {
        if (g->progress) g->progress(lines, 0, "against the export");
        status = lines++ ? take_line(g, line, column, path, device, between, out)
                         : find_columns(line, path, column);
    }
    free(line);
    fclose(file);
    if (!status && !out->rows) status = fail(STATUS_ARGUMENT, "%s: no row to compare", path);
    gate_count(out);
    return status;
}
