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
    struct pairing first, later; /* later: no rounds where the first ones had no doubt */
};

/* Upper 95% bound of a share: exact where nothing was seen (rule of three), Wilson's else. */
static double upper_bound(int seen, int n) {
    if (!n) return 1;
    if (!seen) return fmin(1, -log(0.05) / n);
    double z = 1.645, p = (double)seen / n, d = 1 + z * z / n;
    return fmin(1, (p + z * z / (2 * n) + z * sqrt(p * (1 - p) / n + z * z / (4.0 * n * n))) / d);
}

/* As the gate goes on, but for one thing: that it is slower ends it only where it was planted. */
static bool is_decided(const struct comparison *c, const struct gate_rules *rules) {
    const struct pairing *p = &c->later;
    double alpha = rules->alpha / GATE_LOOKS / (2 * SUSPECTS);
    if (c->planted) return stats_beyond(p->r, p->rounds, rules->margin, 1) < alpha;
    return gate_first(p, rules) == GATE_SAME;
}

static enum status compare_once(const struct gate_timer *timer, const struct gate_rules *rules,
                                const json_t *cell, struct comparison *out) {
    struct pairing more;
    *timer->planted = out->planted;
    enum status status = timer->run(timer->context, cell, cell, rules->first_rounds, &out->first);
    bool decided = !status && gate_first(&out->first, rules) == GATE_SAME;
    for (int look = 0; look < GATE_LOOKS && !decided && !status; look++) {
        status = timer->run(timer->context, cell, cell, rules->look_rounds[look], &more);
        if (status) break;
        pairing_extend(&out->later, &more);
        decided = is_decided(out, rules);
    }
    *timer->planted = false;
    return status;
}

/* How far off identical code came out, after all rounds that it was given. */
static double off(const struct comparison *c) {
    const struct pairing *p = c->later.rounds ? &c->later : &c->first;
    return fabs(stats_ratio(p->r, p->rounds, 0).ratio - 1);
}

static void summarise_noise(const struct comparison *c, int count, struct calibration *out) {
    double *noise = calloc((size_t)count + 1, sizeof *noise);
    int n = 0;
    for (int i = 0; i < count; i++)
        if (!c[i].planted) noise[n++] = off(&c[i]);
    stats_sort(noise, n);
    out->comparisons = n;
    out->noise_median = n ? noise[n / 2] : 0, out->noise_95 = n ? noise[n * 95 / 100] : 0;
    free(noise);
}

/* The gate's verdicts of suspects that were all measured before: look after look. */
static void judge(const struct pairing *const *suspect, int count, const struct gate_rules *rules,
                  enum gate_verdict *verdict) {
    struct pairing *seen = calloc((size_t)count + 1, sizeof *seen);
    for (int i = 0; i < count; i++) verdict[i] = GATE_UNSURE;
    for (int look = 0, rounds = 0; look < GATE_LOOKS; look++) {
        rounds += rules->look_rounds[look];
        for (int i = 0; i < count; i++) {
            seen[i] = *suspect[i];
            if (seen[i].rounds > rounds) seen[i].rounds = rounds;
        }
        if (!gate_look(seen, count, rules, verdict)) break;
    }
    free(seen);
}

/* Whole runs: for each cell one of its own comparisons, all judged together. A cell's comparisons
 * stand together, the planted one last. */
static void simulate(const struct comparison *c, int count, const struct gate_rules *rules,
                     uint64_t seed, struct calibration *out) {
    const struct pairing **suspect = calloc((size_t)out->cells + 1, sizeof *suspect);
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
            if (one->later.rounds && gate_first(&one->first, rules) != GATE_SAME)
                suspect[suspects++] = &one->later;
        }
        judge(suspect, suspects, rules, verdict);
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

/* The rules: a margin of 1%, or of as much more as keeps runs of identical trees from failing. */
static void derive(const struct comparison *c, int count, uint64_t seed, struct gate_rules *rules,
                   struct calibration *out) {
    for (rules->margin = 1.01;; rules->margin += 0.0025) {
        rules->same = fmax(1.02, 2 * rules->margin - 1);
        simulate(c, count, rules, seed, out);
        if (out->failed_bound <= 0.01 || rules->margin > 1.0199) break;
    }
    out->margin = rules->margin, out->same = rules->same;
}

/* A planted slowdown among identical cells: one suspect of a few. */
static void count_found(const struct comparison *c, int count, const struct gate_rules *rules,
                        struct calibration *out) {
    const struct pairing *suspect[SUSPECTS];
    enum gate_verdict verdict[SUSPECTS];
    int others = 1;
    for (int i = 0; i < count && others < SUSPECTS; i++)
        if (!c[i].planted && c[i].later.rounds) suspect[others++] = &c[i].later;
    for (int i = 0; i < count; i++) {
        if (!c[i].planted) continue;
        out->planted++;
        if (!c[i].later.rounds || gate_first(&c[i].first, rules) == GATE_SAME) continue;
        suspect[0] = &c[i].later;
        judge(suspect, others, rules, verdict);
        out->found += verdict[0] == GATE_SLOWER;
    }
    out->found_bound = 1 - upper_bound(out->planted - out->found, out->planted);
}

/* Each cell's own noise, the planted one's ratio last: for whoever wonders which cell it is. */
static json_t *list_cells(const json_t *cells, const struct comparison *c, int count) {
    json_t *list = json_array();
    int cell = 0, suspects = 0;
    double worst = 0;
    for (int i = 0; i < count; i++) {
        if (!c[i].planted) {
            worst = fmax(worst, off(&c[i]));
            suspects += c[i].later.rounds > 0;
            continue;
        }
        const json_t *what = json_array_get(cells, (size_t)cell++);
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:f, s:i, s:f, s:f, s:i}", "kernel",
                            json_text(what, "kernel"), "problem", json_text(what, "problem"),
                            "policy", json_text(what, "policy"), "median_us", c[i].first.a_ns / 1e3,
                            "suspects", suspects, "most_off", worst, "planted_off", off(&c[i]),
                            "planted_rounds", c[i].later.rounds));
        worst = suspects = 0;
    }
    return list;
}

enum status calibrate(const struct gate_timer *timer, const json_t *snapshot, int repeats,
                      double seconds, uint64_t seed, struct calibration *out) {
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
            if (timer->progress)
                timer->progress(timer->context, count, total, json_text(what, "kernel"));
            status = compare_once(timer, &rules, what, &c[count]);
            count++;
        }
    }
    if (!status) {
        summarise_noise(c, count, out);
        derive(c, count, seed, &rules, out);
        count_found(c, count, &rules, out);
        out->by_cell = list_cells(cells, c, count);
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
        "{s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:f, s:f, s:i, s:f, s:f, s:f, s:i, s:i, s:f, s:f, "
        "s:O}",
        "device", json_text(snapshot, "device"), "commit", json_text(snapshot, "commit"), "date",
        date, "cells", c->cells, "comparisons", c->comparisons, "noise_median", c->noise_median,
        "noise_95", c->noise_95, "margin", c->margin, "same", c->same, "runs", c->runs,
        "failed_runs", c->failed, "failed_runs_upper_95", c->failed_bound, "unsure_verdicts",
        c->unsure, "planted", c->planted, "planted_found", c->found, "found_lower_95",
        c->found_bound, "seconds", c->seconds, "by_cell", c->by_cell);
    int failed = json_dump_file(json, path, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    json_decref(json);
    return failed ? fail(STATUS_SYSTEM, "%s: could not be written: %s", path, strerror(errno))
                  : STATUS_OK;
}
