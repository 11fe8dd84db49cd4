/* calibrate.c - how much does a device's clock say of identical code? */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "harness/bench.h"
#include "harness/gate_pool.h"
#include "runtime/clock.h"
#include "runtime/json_text.h"
#include "runtime/random.h"

enum { RUNS = 2000, SUSPECTS = 8 };

struct comparison {
    bool planted;
    struct pairing first, second;
};

/* Upper 95% bound of a share: exact where nothing was seen (rule of three), Wilson's else. */
static double upper_bound(int seen, int n) {
    if (!n) return 1;
    if (!seen) return fmin(1, -log(0.05) / n);
    double z = 1.645, p = (double)seen / n, d = 1 + z * z / n;
    return fmin(1, (p + z * z / (2 * n) + z * sqrt(p * (1 - p) / n + z * z / (4.0 * n * n))) / d);
}

static enum status compare_once(struct gate_pool *g, const struct gate_rules *rules,
                                const json_t *cell, struct comparison *out) {
    struct gate_timer timer = gate_pool_timer(g);
    g->planted = out->planted;
    enum status status = timer.run(g, cell, cell, rules->first_rounds, &out->first);
    if (!status) status = timer.run(g, cell, cell, rules->second_rounds, &out->second);
    g->planted = false;
    return status;
}

/* The noise that A/A shows, and the rules that follow: margin well beyond the largest ratio seen
 * of identical code, same twice as far. */
static void derive(const struct comparison *c, int count, struct gate_rules *rules,
                   struct calibration *out) {
    double *off = malloc(((size_t)count + 1) * sizeof *off);
    int n = 0;
    for (int i = 0; i < count; i++) {
        if (c[i].planted) continue;
        off[n++] = fabs(stats_ratio(c[i].second.r, c[i].second.rounds, 0).ratio - 1);
    }
    stats_sort(off, n);
    out->comparisons = n;
    out->noise_median = n ? off[n / 2] : 0, out->noise_95 = n ? off[n * 95 / 100] : 0;
    double beyond = n ? off[n - 1 - n / 200] : 0; /* all but the half percent furthest off */
    rules->margin = out->margin = 1 + fmin(fmax(0.005, 1.5 * beyond), 0.02);
    rules->same = out->same = 1 + fmin(fmax(0.02, 2 * (out->margin - 1)), 0.04);
    free(off);
}

/* Whole runs: for each cell one of its own comparisons, all judged together. A cell's comparisons
 * stand together, the planted one last. */
static void simulate(const struct comparison *c, int count, const struct gate_rules *rules,
                     uint64_t seed, struct calibration *out) {
    struct pairing *suspect = calloc((size_t)out->cells + 1, sizeof *suspect);
    enum gate_verdict *verdict = calloc((size_t)out->cells + 1, sizeof *verdict);
    int failures = 0;
    long verdicts = 0, unsure = 0;
    for (int run = 0; run < RUNS; run++) {
        int suspects = 0;
        for (int first = 0, last; first < count; first = last + 1) {
            for (last = first; !c[last].planted;) last++;
            if (last == first) continue;
            const struct comparison *one =
                &c[first + (int)(random_next(&seed) % (unsigned)(last - first))];
            verdicts++;
            if (gate_first(&one->first, rules) != GATE_SAME) suspect[suspects++] = one->second;
        }
        gate_second(suspect, suspects, rules, verdict);
        bool failed = false;
        for (int i = 0; i < suspects; i++)
            failed |= verdict[i] == GATE_SLOWER, unsure += verdict[i] == GATE_UNSURE;
        failures += failed;
    }
    out->runs = RUNS;
    out->failed = (double)failures / RUNS, out->failed_bound = upper_bound(failures, RUNS);
    out->unsure = verdicts ? (double)unsure / (double)verdicts : 0;
    free(suspect), free(verdict);
}

/* A planted slowdown among identical cells: it is one suspect of a few. */
static void count_found(const struct comparison *c, int count, const struct gate_rules *rules,
                        struct calibration *out) {
    for (int i = 0; i < count; i++) {
        if (!c[i].planted) continue;
        struct pairing suspects[SUSPECTS]; /* as if a few others, identical ones, were, too */
        enum gate_verdict verdict[SUSPECTS];
        for (int k = 0, from = 0; k < SUSPECTS; from = (from + 1) % count)
            if (!c[from].planted) suspects[k++] = c[from].second;
        suspects[0] = c[i].second;
        out->planted++;
        if (gate_first(&c[i].first, rules) == GATE_SAME) continue;
        gate_second(suspects, SUSPECTS, rules, verdict);
        out->found += verdict[0] == GATE_SLOWER;
    }
    out->found_bound = 1 - upper_bound(out->planted - out->found, out->planted);
}

enum status calibrate(struct gate_pool *g, const json_t *snapshot, int repeats, double seconds,
                      uint64_t seed, struct calibration *out) {
    const json_t *cells = json_object_get(snapshot, "cells");
    int count = 0, total = (int)json_array_size(cells) * (repeats + 1);
    struct gate_rules rules = gate_rules_for("", "");
    struct comparison *c = calloc((size_t)total + 1, sizeof *c);
    if (!c) return fail(STATUS_SYSTEM, "out of memory");
    *out = (struct calibration){.cells = (int)json_array_size(cells)};
    double start = clock_seconds();
    enum status status = out->cells ? STATUS_OK : fail(STATUS_ARGUMENT, "no cell to calibrate on");
    for (int cell = 0; cell < out->cells && !status; cell++) { /* a cell's buffers are kept */
        const json_t *what = json_array_get(cells, (size_t)cell);
        double until = start + seconds * (cell + 1) / out->cells;
        for (int turn = 0; turn <= repeats && !status; turn++) {
            if (turn > 2 && turn < repeats && seconds > 0 && clock_seconds() > until) continue;
            c[count] = (struct comparison){.planted = turn == repeats};
            if (g->progress) g->progress(count, total, json_text(what, "kernel"));
            status = compare_once(g, &rules, what, &c[count]);
            count++;
        }
    }
    if (!status) {
        derive(c, count, &rules, out);
        simulate(c, count, &rules, seed, out);
        count_found(c, count, &rules, out);
        out->seconds = clock_seconds() - start;
    }
    free(c);
    return status;
}

enum status calibration_write(const struct calibration *c, const json_t *snapshot,
                              const char *path) {
    char date[32];
    time_t now = time(NULL);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
    json_t *json = json_pack(
        "{s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:f, s:f, s:i, s:f, s:f, s:f, s:i, s:i, s:f, s:f}",
        "device", json_text(snapshot, "device"), "commit", json_text(snapshot, "commit"), "date",
        date, "cells", c->cells, "comparisons", c->comparisons, "noise_median", c->noise_median,
        "noise_95", c->noise_95, "margin", c->margin, "same", c->same, "runs", c->runs,
        "failed_runs", c->failed, "failed_runs_upper_95", c->failed_bound, "unsure_verdicts",
        c->unsure, "planted", c->planted, "planted_found", c->found, "found_lower_95",
        c->found_bound, "seconds", c->seconds);
    int failed = json_dump_file(json, path, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    json_decref(json);
    return failed ? fail(STATUS_SYSTEM, "%s: could not be written: %s", path, strerror(errno))
                  : STATUS_OK;
}
