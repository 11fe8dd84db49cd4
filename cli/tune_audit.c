/* tune_audit.c - how far what a search chose is from the best of its whole space. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/tune_audit.h"

/* Both times are from the scan of the whole space, so that nothing but the point differs. The
 * chosen point may have been passed over there because its machine code was timed already: then the
 * slowest point of that code stands for it. */
static const char audit_sql[] =
    "WITH whole AS (SELECT r.device_id, t.problem_id, t.residency, t.launch, MAX(t.run_id) AS "
    "run_id "
    "FROM tuning t JOIN run r ON r.id = t.run_id WHERE t.strategy = 'exhaustive' AND t.stopped = "
    "'exhausted' AND t.state IN ('decided', 'done') GROUP BY 1, 2, 3, 4), "
    "chosen AS (SELECT r.device_id, t.*, COALESCE(t.launched_id, t.winner_id) AS point_id, "
    "MAX(t.run_id) FROM tuning t JOIN run r ON r.id = t.run_id WHERE t.strategy <> 'exhaustive' "
    "AND "
    "t.stopped <> 'between' AND t.state = 'done' AND COALESCE(t.launched_id, t.winner_id) IS NOT "
    "NULL GROUP BY r.device_id, t.problem_id, t.residency, t.launch), "
    "scan AS (SELECT w.device_id, m.problem_id, m.residency, m.launch, m.point_id, m.median_ns, "
    "b.code_hash FROM whole w JOIN measurement m ON m.run_id = w.run_id AND m.problem_id = "
    "w.problem_id AND m.residency = w.residency AND m.launch = w.launch LEFT JOIN build b ON b.id "
    "= "
    "m.build_id WHERE m.contest_id IS NULL AND m.status = 'ok'), "
    "audit AS (SELECT d.name AS device, p.kernel, p.problem, p.rows, c.residency || ',' || "
    "c.launch "
    "AS policy, c.strategy, c.evaluations, COUNT(*) AS points, MIN(s.median_ns) AS best, "
    "COALESCE(MAX(CASE WHEN s.point_id = c.point_id THEN s.median_ns END), "
    "MAX(CASE WHEN s.code_hash <> '' AND s.code_hash IN (SELECT code_hash FROM build b2 WHERE "
    "b2.problem_id = c.problem_id AND b2.point_id = c.point_id) THEN s.median_ns END)) AS ours, "
    "c.ceiling_ns / COALESCE(c.launched_ns, c.median_ns) AS of_ceiling "
    "FROM chosen c JOIN scan s ON s.device_id = c.device_id AND s.problem_id = c.problem_id AND "
    "s.residency = c.residency AND s.launch = c.launch JOIN problem p ON p.id = c.problem_id "
    "JOIN device d ON d.id = c.device_id GROUP BY c.device_id, c.problem_id, c.residency, "
    "c.launch) "
    "SELECT device, kernel, problem, policy, strategy, evaluations, points, best / 1e3, ours / "
    "1e3, "
    "ours / best - 1, of_ceiling FROM audit ORDER BY device, kernel, rows, problem";

enum { DEVICE, KERNEL, PROBLEM, POLICY, STRATEGY, EVALUATIONS, POINTS, BEST, OURS, OVER, CEILING };

struct audit {
    int problems, near, unknown;
    double sum, worst;
};

static enum status take_row(void *context, int columns, const char *const *names,
                            const char *const *v) {
    struct audit *a = context;
    (void)columns, (void)names;
    if (!a->problems)
        printf("on %s, by scans of whole spaces\n%-16s %-44s %-18s %6s %7s %10s %10s %7s %7s %s\n",
               v[DEVICE], "kernel", "problem", "policy", "evals", "points", "best us", "chosen us",
               "over", "% ceil", "near");
    a->problems++;
    double over = v[OVER] ? atof(v[OVER]) : 0, ceiling = v[CEILING] ? atof(v[CEILING]) : 0;
    bool near = (v[OVER] && over <= AUDIT_OVER) || ceiling >= AUDIT_CEILING;
    a->unknown += !v[OVER], a->near += near;
    a->sum += over, a->worst = over > a->worst ? over : a->worst;
    printf("%-16s %-44s %-18s %6s %7s %10.3f", v[KERNEL], v[PROBLEM], v[POLICY], v[EVALUATIONS],
           v[POINTS], atof(v[BEST]));
    if (v[OVER])
        printf(" %10.3f %6.2f%%", atof(v[OURS]), 100 * over);
    else
        printf(" %10s %7s", "-", "-"); /* chosen, and not in the space that was scanned */
    if (v[CEILING])
        printf(" %7.1f", 100 * ceiling);
    else
        printf(" %7s", "-");
    printf(" %s\n", near ? "yes" : "no");
    return STATUS_OK;
}

enum status tune_audit(struct store *store) {
    struct audit a = {0};
    TRY(store_query(store, audit_sql, NULL, 0, &a, take_row));
    if (!a.problems) {
        printf(
            "no problem of this database was both searched and exhausted; fastinfer tune --exhaust "
            "KERNEL --problem SIZES takes every point\n");
        return STATUS_OK;
    }
    int known = a.problems - a.unknown;
    printf(
        "%d of %d within %.0f%% of the best point or %.0f%% of the ceiling (%.1f%%); over the best "
        "%.2f%% in the mean, %.2f%% at worst\n",
        a.near, a.problems, 100 * AUDIT_OVER, 100 * (1 - AUDIT_CEILING),
        100.0 * a.near / a.problems, known ? 100 * a.sum / known : 0, 100 * a.worst);
    return STATUS_OK;
}
