#include "harness/gate.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/json_text.h"

const char *gate_verdict_text(enum gate_verdict verdict) {
    static const char *const texts[] = {"same", "faster", "slower", "unsure", "new"};
    return texts[verdict];
}

void gate_report_free(struct gate_report *report) {
    free(report->row);
    *report = (struct gate_report){0};
}

struct gate_row *gate_add_row(struct gate_report *report, const char *kernel, const char *dtype,
                              const char *problem, const char *policy) {
    if (report->rows == report->capacity) {
        report->capacity = report->capacity ? 2 * report->capacity : 256;
        report->row = realloc(report->row, (size_t)report->capacity * sizeof *report->row);
        if (!report->row) abort(); /* a few hundred rows */
    }
    struct gate_row *row = &report->row[report->rows++];
    *row = (struct gate_row){.verdict = GATE_SAME};
    snprintf(row->kernel, sizeof row->kernel, "%s", kernel);
    snprintf(row->dtype, sizeof row->dtype, "%s", dtype);
    snprintf(row->problem, sizeof row->problem, "%s", problem);
    snprintf(row->policy, sizeof row->policy, "%s", policy);
    return row;
}

void gate_count(struct gate_report *report) {
    memset(report->count, 0, sizeof report->count);
    for (int i = 0; i < report->rows; i++) report->count[report->row[i].verdict]++;
}

/* The row of a code or a cell of a snapshot. */
static struct gate_row *add_row(struct gate_report *report, const json_t *like, const char *problem,
                                const char *policy) {
    return gate_add_row(report, json_text(like, "kernel"), json_text(like, "dtype"), problem,
                        policy);
}

struct gate_rules gate_rules_for(const char *results, const char *slug) {
    struct gate_rules rules = {.margin = 1.01,
                               .same = 1.02,
                               .alpha = 0.005,
                               .first_rounds = 6,
                               .look_rounds = {24, 24, 48}};
    char path[1024];
    snprintf(path, sizeof path, "%s/%s/calibration.json", results, slug);
    json_t *json = json_load_file(path, 0, NULL);
    double margin = json_number_value(json_object_get(json, "margin"));
    double same = json_number_value(json_object_get(json, "same"));
    if (margin > 1 && same >= margin) {
        rules.margin = margin, rules.same = same;
        snprintf(rules.origin, sizeof rules.origin, "%.240s", path);
    } else {
        snprintf(rules.origin, sizeof rules.origin,
                 "built in; fastinfer calibrate measures this device's own");
    }
    json_decref(json);
    return rules;
}

/* --- what is exact ------------------------------------------------------------------------------
 */

static const json_t *find(const json_t *array, const json_t *like, const char *const *keys,
                          int count) {
    size_t i;
    json_t *one;
    json_array_foreach(array, i, one) {
        bool same = true;
        for (int k = 0; k < count && same; k++)
            same = !strcmp(json_text(one, keys[k]), json_text(like, keys[k]));
        if (same) return one;
    }
    return NULL;
}
static const char *const code_keys[] = {"kernel", "dtype", "sizes"};
static const char *const cell_keys[] = {"kernel", "dtype", "problem", "policy"};

static double number(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : -1;
}

static void say(struct gate_row *row, enum gate_verdict verdict, const char *format, ...) {
    static const int gravity[] = {
        [GATE_SAME] = 0, [GATE_NEW] = 1, [GATE_FASTER] = 2, [GATE_UNSURE] = 3, [GATE_SLOWER] = 4};
    size_t n = strlen(row->reason);
    va_list list;
    if (gravity[verdict] > gravity[row->verdict]) row->verdict = verdict;
    if (n && n + 3 < sizeof row->reason) n += (size_t)sprintf(row->reason + n, "; ");
    va_start(list, format);
    vsnprintf(row->reason + n, sizeof row->reason - n, format, list);
    va_end(list);
}

/* A count without noise: more than `share` more is slower, less is faster. */
static void judge_count(struct gate_row *row, const char *where, const char *what,
                        const json_t *base, const json_t *now, double share) {
    double a = number(base, what), b = number(now, what);
    if (a < 0 || b < 0 || a == b) return;
    if (b > a * (1 + share))
        say(row, GATE_SLOWER, "%s: %s %.0f -> %.0f", where, what, a, b);
    else if (b < a * (1 - share))
        say(row, GATE_FASTER, "%s: %s %.0f -> %.0f", where, what, a, b);
}

static void judge_code(struct gate_row *row, const char *arch, const json_t *base,
                       const json_t *now) {
    static const char *const never_more[] = {"spill_bytes", "stack_bytes"};
    for (int i = 0; i < 2; i++) judge_count(row, arch, never_more[i], base, now, 0);
    double was = number(base, "blocks_per_sm"), is = number(now, "blocks_per_sm");
    double r0 = number(base, "registers"), r1 = number(now, "registers");
    double s0 = number(base, "shared_bytes"), s1 = number(now, "shared_bytes");
    /* a point with another block size has other blocks: not comparable by these */
    bool same_point = !strcmp(json_text(base, "point"), json_text(now, "point"));
    if (same_point && was > 0 && is > 0 && is < was)
        say(row, GATE_SLOWER,
            "%s: blocks/SM %.0f -> %.0f (registers %.0f -> %.0f, shared %.0f -> %.0f B)", arch, was,
            is, r0, r1, s0, s1);
    else if (same_point && (was <= 0 || is <= 0) && (r1 > r0 || s1 > s0))
        say(row, GATE_UNSURE,
            "%s: registers %.0f -> %.0f, shared %.0f -> %.0f B, occupancy unknown", arch, r0, r1,
            s0, s1);
    double n0 = number(base, "instructions"), n1 = number(now, "instructions");
    if (n0 > 0 && n1 > 1.1 * n0)
        say(row, GATE_UNSURE, "%s: instructions %.0f -> %.0f", arch, n0, n1);
}

static enum status compare_code(const json_t *base, const json_t *now, struct gate_report *out) {
    static const char *const counts[] = {"barriers", "exchanges", "global_bytes", "global_sectors"};
    struct gate_row *row = add_row(out, now, json_text(now, "sizes"), "");
    if (strcmp(json_text(base, "signature"), json_text(now, "signature")))
        say(row, GATE_UNSURE, "its arguments or sizes have changed: facts may not be comparable");
    const char *key, *other = "";
    json_t *value;
    int common = 0;
    json_object_foreach((json_t *)(uintptr_t)now, key, value) {
        const json_t *theirs = json_object_get(base, key);
        if (!json_is_object(value) || !json_is_object(theirs)) continue;
        if (strcmp(json_text(theirs, "problem"), json_text(value, "problem"))) {
            other = "counted on another problem in the base: these counts are not compared";
            say(row, GATE_SAME, "CPU device: %s", other);
            continue;
        }
        common++;
        if (!strcmp(key, "cpu"))
            for (int i = 0; i < 4; i++) judge_count(row, "CPU device", counts[i], theirs, value, 0);
        else
            judge_code(row, key, theirs, value);
    }
    if (!common)
        return fail(STATUS_ARGUMENT, "%s %s: the two snapshots have no fact in common%s%s",
                    row->kernel, row->problem, *other ? "; the CPU device " : "", other);
    return STATUS_OK;
}

static enum status compare_codes(const json_t *base, const json_t *now, struct gate_report *out) {
    const json_t *old_codes = json_object_get(base, "codes"),
                 *new_codes = json_object_get(now, "codes");
    size_t i;
    json_t *code;
    json_array_foreach(old_codes, i, code) if (!find(new_codes, code, code_keys, 3)) return fail(
        STATUS_ARGUMENT, "%s %s is in the base and not in this tree: nothing to compare it with",
        json_text(code, "kernel"), json_text(code, "sizes"));
    json_array_foreach(new_codes, i, code) {
        const json_t *theirs = find(old_codes, code, code_keys, 3);
        if (theirs)
            TRY(compare_code(theirs, code, out));
        else
            say(add_row(out, code, json_text(code, "sizes"), ""), GATE_NEW, "not in the base");
    }
    return STATUS_OK;
}

/* --- what is timed ------------------------------------------------------------------------------
 */

enum gate_verdict gate_first(const struct pairing *p, const struct gate_rules *rules) {
    struct ratio ratio = stats_ratio(p->r, p->rounds, p->resolution);
    return ratio.low >= 1 / rules->same && ratio.high <= rules->same ? GATE_SAME : GATE_UNSURE;
}

int gate_look(const struct pairing *p, int count, const struct gate_rules *rules,
              enum gate_verdict *verdict) {
    /* two-sided: each suspect is tested both ways */
    double *tail = calloc((size_t)count * 2 + 1, sizeof *tail);
    if (!tail) abort();
    for (int i = 0; i < count; i++) {
        tail[2 * i] = stats_beyond(p[i].r, p[i].rounds, rules->margin, 1);
        tail[2 * i + 1] = stats_beyond(p[i].r, p[i].rounds, rules->margin, 0);
    }
    stats_holm(tail, 2 * count);
    int unsure = 0;
    double alpha = rules->alpha / GATE_LOOKS;
    for (int i = 0; i < count; i++) {
        if (verdict[i] != GATE_UNSURE) continue;
        verdict[i] = tail[2 * i] < alpha       ? GATE_SLOWER
                     : tail[2 * i + 1] < alpha ? GATE_FASTER
                                               : gate_first(&p[i], rules);
        unsure += verdict[i] == GATE_UNSURE;
    }
    free(tail);
    return unsure;
}

struct timing { /* a cell of both trees */
    const json_t *base, *now;
    int row;
};

static void note(struct gate_row *row, const struct pairing *p, enum gate_verdict verdict) {
    struct ratio ratio = stats_ratio(p->r, p->rounds, p->resolution);
    row->verdict = verdict;
    row->ratio = ratio.ratio, row->low = ratio.low, row->high = ratio.high;
    row->base_us = p->a_ns / 1e3, row->now_us = p->b_ns / 1e3;
    row->reason[0] = 0;
    if (fabs(p->drift) > 0.01) say(row, verdict, "drifted by %+.1f%%", 100 * p->drift);
    if (p->autocorrelation > 0.5)
        say(row, verdict, "samples are correlated (%.2f)", p->autocorrelation);
}

static enum status time_cells(const struct timing *cell, int count, const struct gate_rules *rules,
                              const struct gate_timer *timer, struct gate_report *out) {
    struct pairing *second = calloc((size_t)count + 1, sizeof *second), one;
    enum gate_verdict *verdict = calloc((size_t)count + 1, sizeof *verdict);
    int *suspect = calloc((size_t)count + 1, sizeof *suspect), suspects = 0;
    enum status status =
        second && verdict && suspect ? STATUS_OK : fail(STATUS_SYSTEM, "out of memory");
    for (int i = 0; i < count && !status; i++) {
        struct gate_row *row = &out->row[cell[i].row];
        if (timer->progress) timer->progress(timer->context, i, count, row->kernel);
        status = timer->run(timer->context, cell[i].base, cell[i].now, rules->first_rounds, &one);
        if (status) break;
        note(row, &one, gate_first(&one, rules));
        if (row->verdict != GATE_SAME) suspect[suspects++] = i;
    }
    for (int i = 0; i < suspects; i++) verdict[i] = GATE_UNSURE;
    for (int look = 0, unsure = suspects; look < GATE_LOOKS && unsure && !status; look++) {
        for (int i = 0; i < suspects && !status; i++) {
            const struct timing *c = &cell[suspect[i]];
            if (verdict[i] != GATE_UNSURE) continue;
            if (timer->progress) timer->progress(timer->context, i, suspects, "suspects again");
            status = timer->run(timer->context, c->base, c->now, rules->look_rounds[look], &one);
            if (!status) pairing_extend(&second[i], &one);
        }
        if (!status) unsure = gate_look(second, suspects, rules, verdict);
    }
    for (int i = 0; i < suspects && !status; i++)
        note(&out->row[cell[suspect[i]].row], &second[i], verdict[i]);
    free(second), free(verdict), free(suspect);
    return status;
}

/* Nothing to time: what runs is bit for bit the same. */
static bool same_code(const json_t *a, const json_t *b) {
    return *json_text(a, "code_hash") &&
           !strcmp(json_text(a, "code_hash"), json_text(b, "code_hash")) &&
           json_equal(json_object_get(a, "stages"), json_object_get(b, "stages")) &&
           json_equal(json_object_get(a, "scratch"), json_object_get(b, "scratch"));
}

static enum status compare_cells(const json_t *base, const json_t *now,
                                 const struct gate_rules *rules, const struct gate_timer *timer,
                                 struct gate_report *out) {
    const json_t *old_cells = json_object_get(base, "cells"),
                 *new_cells = json_object_get(now, "cells");
    struct timing *timing = calloc(json_array_size(new_cells) + 1, sizeof *timing);
    int count = 0, same = 0;
    size_t i;
    json_t *cell;
    json_array_foreach(new_cells, i, cell) {
        const json_t *theirs = find(old_cells, cell, cell_keys, 4);
        struct gate_row *row =
            add_row(out, cell, json_text(cell, "problem"), json_text(cell, "policy"));
        if (!theirs)
            say(row, GATE_NEW, "not in the base");
        else if (strcmp(json_text(theirs, "signature"), json_text(cell, "signature")))
            say(row, GATE_UNSURE, "its arguments or sizes have changed: cannot run side by side");
        else if (same_code(theirs, cell))
            say(row, GATE_SAME, "the same machine code, launched alike"), same++;
        else
            timing[count++] = (struct timing){theirs, cell, out->rows - 1};
    }
    enum status status =
        count ? time_cells(timing, count, rules, timer, out)
        : same
            ? STATUS_OK
            : fail(STATUS_ARGUMENT, "the two trees have no kernel, problem and policy in common");
    free(timing);
    return status;
}

enum status gate_compare(const json_t *base, const json_t *now, const struct gate_rules *rules,
                         const struct gate_timer *timer, struct gate_report *out) {
    *out = (struct gate_report){0};
    snprintf(out->base, sizeof out->base, "%.60s%s", json_text(base, "commit"),
             json_is_true(json_object_get(base, "dirty")) ? " (changed)" : "");
    snprintf(out->now, sizeof out->now, "%.60s%s", json_text(now, "commit"),
             json_is_true(json_object_get(now, "dirty")) ? " (changed)" : "");
    snprintf(out->device, sizeof out->device, "%.90s", json_text(now, "device"));
    if (timer && strcmp(json_text(base, "device"), json_text(now, "device")))
        return fail(STATUS_ARGUMENT, "the base's snapshot is of device '%s', this one of '%s'",
                    json_text(base, "device"), json_text(now, "device"));
    if (!json_array_size(json_object_get(now, "codes")) ||
        !json_array_size(json_object_get(base, "codes")))
        return fail(STATUS_ARGUMENT, "nothing to compare: a snapshot has no kernel");
    TRY(compare_codes(base, now, out));
    bool any = false;
    for (int i = 0; i < out->rows; i++) any |= out->row[i].verdict != GATE_NEW;
    if (!any) return fail(STATUS_ARGUMENT, "the two trees have no kernel in common");
    if (timer) TRY(compare_cells(base, now, rules, timer, out));
    gate_count(out);
    return STATUS_OK;
}

int gate_exit_code(const struct gate_report *report, int unsure_code) {
    if (report->count[GATE_SLOWER]) return 1;
    return report->count[GATE_UNSURE] ? unsure_code : 0;
}
