/* store_tuning.c - what searches came to. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "harness/store_sql.h"

static struct value positive(double value) { return value > 0 ? REAL(value) : NOTHING; }

static enum status optional_point(struct store *s, const struct kernel *kernel, bool has,
                                  const struct point *point, struct value *out) {
    int64_t id;
    *out = NOTHING;
    if (!has) return STATUS_OK;
    TRY(store_point_id(s, kernel, point, &id));
    *out = INTEGER(id);
    return STATUS_OK;
}

static enum status write_row(struct store *s, int64_t run, const struct kernel *kernel,
                             const struct problem *problem, struct policy policy,
                             const struct tuning *t) {
    int64_t problem_id;
    struct value winner, launched;
    char residency[32];
    const char *launch = strchr(policy_text(policy), ',') + 1;
    snprintf(residency, sizeof residency, "%s", policy_text(policy));
    *strchr(residency, ',') = 0;
    TRY(store_problem_id(s, kernel, problem, &problem_id));
    TRY(optional_point(s, kernel, t->has_winner, &t->winner, &winner));
    TRY(optional_point(s, kernel, t->has_launched, &t->launched, &launched));
    return RUN(s,
               "INSERT OR REPLACE INTO tuning (run_id, problem_id, residency, launch, state, "
               "strategy, stopped, space, evaluations, winner_id, median_ns, low_ns, high_ns, "
               "default_ns, margin, margin_low, ceiling_ns, launched_id, launched_ns, regret, "
               "left_out, updated) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
               "?, ?, ?, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))",
               NULL, INTEGER(run), INTEGER(problem_id), TEXT(residency), TEXT(launch),
               TEXT(t->state), TEXT(t->strategy), TEXT(t->stopped), INTEGER(t->space),
               INTEGER(t->evaluations), winner, positive(t->median_ns), positive(t->low_ns),
               positive(t->high_ns), positive(t->default_ns), positive(t->margin),
               positive(t->margin_low), positive(t->ceiling_ns), launched, positive(t->launched_ns),
               t->has_launched && t->launched_ns > 0 ? REAL(t->regret) : NOTHING,
               t->has_launched && !isnan(t->left_out) ? REAL(t->left_out) : NOTHING);
}

enum status store_tuning(struct store *s, int64_t run, const struct kernel *kernel,
                         const struct problem *problem, struct policy policy,
                         const struct tuning *t) {
    TRY(store_sql(s, "BEGIN IMMEDIATE", NULL, 0, NULL));
    return store_end_transaction(s, write_row(s, run, kernel, problem, policy, t));
}

enum {
    STRATEGY,
    STOPPED,
    SPACE,
    EVALUATIONS,
    WINNER,
    MEDIAN,
    LOW,
    HIGH,
    FALLBACK,
    MARGIN,
    MARGIN_LOW,
    CEILING
};

static void read_row(sqlite3_stmt *q, const struct kernel *kernel, struct tuning *out,
                     bool *found) {
    *out = (struct tuning){.state = "decided",
                           .space = sqlite3_column_int(q, SPACE),
                           .evaluations = sqlite3_column_int(q, EVALUATIONS),
                           .median_ns = sqlite3_column_double(q, MEDIAN),
                           .low_ns = sqlite3_column_double(q, LOW),
                           .high_ns = sqlite3_column_double(q, HIGH),
                           .default_ns = sqlite3_column_double(q, FALLBACK),
                           .margin = sqlite3_column_double(q, MARGIN),
                           .margin_low = sqlite3_column_double(q, MARGIN_LOW),
                           .ceiling_ns = sqlite3_column_double(q, CEILING)};
    snprintf(out->strategy, sizeof out->strategy, "%s",
             (const char *)sqlite3_column_text(q, STRATEGY));
    snprintf(out->stopped, sizeof out->stopped, "%s",
             (const char *)sqlite3_column_text(q, STOPPED));
    /* a point of an older space is none of this one */
    out->has_winner = *found =
        !point_parse(kernel, (const char *)sqlite3_column_text(q, WINNER), &out->winner);
}

enum status store_get_tuning(struct store *s, const char *device_slug, const struct kernel *kernel,
                             const struct problem *problem, struct policy policy,
                             struct tuning *out, bool *found) {
    sqlite3_stmt *query;
    char text[MAX_TEXT];
    *found = false;
    problem_format(kernel, problem, text);
    if (sqlite3_prepare_v2(
            s->db,
            "SELECT t.strategy, t.stopped, t.space, t.evaluations, w.point, t.median_ns, t.low_ns, "
            "t.high_ns, t.default_ns, t.margin, t.margin_low, t.ceiling_ns FROM tuning t "
            "JOIN run ON run.id = t.run_id JOIN device d ON d.id = run.device_id "
            "JOIN problem p ON p.id = t.problem_id JOIN point w ON w.id = t.winner_id "
            "WHERE d.slug = ? AND p.kernel = ? AND p.dtype = ? AND p.problem = ? AND "
            "t.residency || ',' || t.launch = ? AND t.state IN ('decided', 'done') "
            "ORDER BY t.run_id DESC LIMIT 1",
            -1, &query, NULL) != SQLITE_OK)
        return store_fail(s, "reading");
    const struct value values[] = {TEXT(device_slug), TEXT(kernel->name),
                                   TEXT(dtype_name(problem->dtype)), TEXT(text),
                                   TEXT(policy_text(policy))};
    store_bind(query, values, 5);
    int code = sqlite3_step(query);
    if (code == SQLITE_ROW) read_row(query, kernel, out, found);
    sqlite3_finalize(query);
    return code == SQLITE_ROW || code == SQLITE_DONE ? STATUS_OK : store_fail(s, "reading");
}
