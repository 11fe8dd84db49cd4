/* store_records.c - runs and records: written, and asked whether they are there. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/store_sql.h"
#include "harness/worker.h"
#include "kernels/registry.h"

/* --- inserting ---------------------------------------------------------------------------------
 */

enum status store_begin_run(struct store *s, const struct environment *e, int64_t *run) {
    int64_t device = 0;
    json_t *json = info_to_json(&e->device);
    char *facts = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(json);
    enum status status =
        RUN(s,
            "INSERT INTO device (kind, slug, name, arch, facts) VALUES (?, ?, ?, ?, ?) ON CONFLICT "
            "(slug) DO UPDATE SET name = excluded.name, facts = excluded.facts RETURNING id",
            &device, TEXT(e->device.kind == DEVICE_CUDA ? "cuda" : "cpu"), TEXT(e->device.slug),
            TEXT(e->device.name), INTEGER(e->device.arch), TEXT(facts));
    free(facts);
    if (status) return status;
    return RUN(s,
               "INSERT INTO run (device_id, started, driver, compiler, baseline, commit_id, dirty, "
               "host, command, seed) VALUES (?, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), ?, ?, ?, ?, "
               "?, ?, ?, ?) RETURNING id",
               run, INTEGER(device), TEXT(e->device.driver), TEXT(e->compiler), TEXT(e->baseline),
               TEXT(e->commit), INTEGER(e->dirty), TEXT(e->host), TEXT(e->command),
               INTEGER(e->seed));
}

enum status store_end_run(struct store *s, int64_t run, const struct run_seconds *seconds,
                          const char *how_it_ended) {
    return RUN(s,
               "UPDATE run SET ended = strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), outcome = ?, "
               "wall_seconds = ?, compile_seconds = ?, measure_seconds = ?, isolation_seconds = ? "
               "WHERE id = ?",
               NULL, TEXT(how_it_ended), REAL(seconds->wall), REAL(seconds->compiling),
               REAL(seconds->measuring), REAL(seconds->isolation), INTEGER(run));
}

enum status store_ceilings(struct store *s, int64_t run, const struct ceilings *c) {
    return RUN(s,
               "UPDATE run SET copy_gbps = ?, read_gbps = ?, copy_bytes = ?, launch_ns = ?, "
               "graph_node_ns = ? "
               "WHERE id = ?",
               NULL, REAL(c->copy_gbps), c->read_gbps > 0 ? REAL(c->read_gbps) : NOTHING,
               INTEGER(c->copy_bytes), REAL(c->launch_ns), REAL(c->graph_node_ns), INTEGER(run));
}

enum status store_new_contest(struct store *s, int64_t *contest) {
    return RUN(s, "INSERT INTO contest (id) VALUES (?) RETURNING id", contest, NOTHING);
}

enum status store_problem_id(struct store *s, const struct kernel *kernel,
                             const struct problem *problem, int64_t *out) {
    char text[MAX_TEXT];
    int rows = kernel_size(kernel, "rows");
    struct cost cost = kernel->cost(problem);
    problem_format(kernel, problem, text);
    return RUN(s,
               "INSERT INTO problem (kernel, dtype, problem, rows, read_bytes, write_bytes, flops) "
               "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (kernel, dtype, problem) DO UPDATE SET "
               "read_bytes = excluded.read_bytes, write_bytes = excluded.write_bytes RETURNING id",
               out, TEXT(kernel->name), TEXT(dtype_name(problem->dtype)), TEXT(text),
               rows < 0 ? NOTHING : INTEGER(problem->size[rows]), REAL(cost.read_bytes),
               REAL(cost.write_bytes), REAL(cost.flops));
}

enum status store_point_id(struct store *s, const struct kernel *kernel, const struct point *point,
                           int64_t *out) {
    char text[MAX_TEXT];
    point_format(kernel, point, text);
    return RUN(s,
               "INSERT INTO point (kernel, point) VALUES (?, ?) ON CONFLICT (kernel, point) DO "
               "UPDATE SET kernel = excluded.kernel RETURNING id",
               out, TEXT(kernel->name), TEXT(text));
}

static struct value known(int value) { return value < 0 ? NOTHING : INTEGER(value); }

static enum status build_id(struct store *s, int64_t run, int64_t problem, int64_t point, int arch,
                            const struct build *b, int64_t *out) {
    return RUN(s,
               "INSERT INTO build (run_id, problem_id, point_id, arch, status, cached, compile_ms, "
               "registers, spill_bytes, stack_bytes, shared_bytes, blocks_per_sm, code_hash, log, "
               "instructions) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
               out, INTEGER(run), INTEGER(problem), INTEGER(point), INTEGER(arch),
               TEXT(status_text(b->status)), INTEGER(b->cached), REAL(b->compile_ms),
               known(b->registers), known(b->spill_bytes), known(b->stack_bytes),
               known(b->shared_bytes), known(b->blocks_per_sm), TEXT(b->code_hash), TEXT(b->log),
               known(b->instructions));
}

static char *samples_text(const struct record *r) {
    char *text = malloc((size_t)r->summary.count * 24 + 3);
    size_t n = 0;
    text[n++] = '[';
    for (int i = 0; i < r->summary.count; i++)
        n += (size_t)sprintf(text + n, "%s%.1f", i ? "," : "", r->samples[i]);
    text[n] = ']', text[n + 1] = 0;
    return text;
}

static int run_arch(struct store *s, int64_t run) {
    int64_t arch = 0;
    if (RUN(s, "SELECT arch FROM device JOIN run ON device_id = device.id WHERE run.id = ?", &arch,
            INTEGER(run)))
        return 0;
    return (int)arch;
}

static enum status insert_counters(struct store *s, int64_t measurement, const struct record *r) {
    for (int i = 0; i < r->counters.count; i++) {
        const struct counter *c = &r->counters.counter[i];
        if (isnan(c->value)) continue;
        TRY(RUN(s,
                "INSERT OR REPLACE INTO counter (measurement_id, name, value, source) VALUES (?, "
                "?, ?, ?)",
                NULL, INTEGER(measurement), TEXT(c->name), REAL(c->value),
                TEXT(r->counted ? "counted" : "cupti")));
    }
    return STATUS_OK;
}

static enum status insert_record(struct store *s, int64_t run, struct policy policy,
                                 int64_t contest, const struct record *r) {
    const struct kernel *kernel;
    int64_t problem = 0, point = 0, build = 0;
    char residency[32];
    TRY(registry_find(r->kernel, &kernel));
    TRY(store_problem_id(s, kernel, &r->problem, &problem));
    if (r->has_point) {
        TRY(store_point_id(s, kernel, &r->point, &point));
        TRY(build_id(s, run, problem, point, run_arch(s, run), &r->build, &build));
    }
    snprintf(residency, sizeof residency, "%s", policy_text(policy));
    char *comma = strchr(residency, ',');
    *comma = 0;
    bool timed = r->summary.count > 0;
    char *samples = samples_text(r);
    const struct summary *m = &r->summary;
    enum status status = RUN(
        s,
        "INSERT INTO measurement (run_id, contest_id, problem_id, residency, launch, subject, "
        "point_id, build_id, status, reason, worst_error, launches, sample_count, samples, "
        "median_ns, mad_ns, min_ns, max_ns, low_ns, high_ns, host_ns, wall_ns, sm_mhz, memory_mhz, "
        "celsius, milliwatts, throttle, retaken, millijoules, autocorrelation, drift, created) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
        "?, ?, ?, ?, ?, ?, ?, ?, ?, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))",
        NULL, INTEGER(run), contest ? INTEGER(contest) : NOTHING, INTEGER(problem), TEXT(residency),
        TEXT(comma + 1), TEXT(r->subject), point ? INTEGER(point) : NOTHING,
        build ? INTEGER(build) : NOTHING, TEXT(status_text(r->status)), TEXT(r->reason),
        REAL(r->worst), INTEGER(r->launches), INTEGER(m->count), TEXT(samples),
        timed ? REAL(m->median) : NOTHING, timed ? REAL(m->mad) : NOTHING,
        timed ? REAL(m->min) : NOTHING, timed ? REAL(m->max) : NOTHING,
        timed ? REAL(m->low) : NOTHING, timed ? REAL(m->high) : NOTHING,
        timed ? REAL(r->host_ns) : NOTHING, timed ? REAL(r->wall_ns) : NOTHING,
        known(r->telemetry.sm_mhz), known(r->telemetry.memory_mhz), known(r->telemetry.celsius),
        known(r->telemetry.milliwatts), known(r->telemetry.throttle), INTEGER(r->retaken),
        r->millijoules > 0 ? REAL(r->millijoules) : NOTHING,
        timed ? REAL(r->autocorrelation) : NOTHING, timed ? REAL(r->drift) : NOTHING);
    free(samples);
    if (!status) status = insert_counters(s, sqlite3_last_insert_rowid(s->db), r);
    return status;
}

static enum status add_counters(struct store *s, int64_t run, struct policy policy,
                                const struct record *r) {
    const struct kernel *kernel;
    char problem[MAX_TEXT], point[MAX_TEXT];
    int64_t measurement = 0;
    TRY(registry_find(r->kernel, &kernel));
    problem_format(kernel, &r->problem, problem), point_format(kernel, &r->point, point);
    TRY(RUN(s,
            "SELECT COALESCE(MAX(m.id), 0) FROM measurement m JOIN problem p ON p.id = "
            "m.problem_id JOIN point pt ON pt.id = m.point_id WHERE m.run_id = ? AND p.kernel = ? "
            "AND p.dtype = ? AND p.problem = ? AND pt.point = ? AND m.residency || ',' || m.launch "
            "= ? AND m.status = 'ok'",
            &measurement, INTEGER(run), TEXT(kernel->name), TEXT(dtype_name(r->problem.dtype)),
            TEXT(problem), TEXT(point), TEXT(policy_text(policy))));
    return measurement ? insert_counters(s, measurement, r) : STATUS_OK;
}

enum status store_counters(struct store *s, int64_t run, struct policy policy,
                           const struct record *r) {
    TRY(store_begin_transaction(s));
    return store_end_transaction(s, add_counters(s, run, policy, r));
}

/* One record is one transaction. */
enum status store_record(struct store *s, int64_t run, struct policy policy, int64_t contest,
                         const struct record *r) {
    TRY(store_begin_transaction(s));
    return store_end_transaction(s, insert_record(s, run, policy, contest, r));
}

static enum status insert_build(struct store *s, int64_t run, int arch, const struct record *r) {
    const struct kernel *kernel;
    int64_t problem = 0, point = 0, build = 0;
    TRY(registry_find(r->kernel, &kernel));
    TRY(store_problem_id(s, kernel, &r->problem, &problem));
    TRY(store_point_id(s, kernel, &r->point, &point));
    return build_id(s, run, problem, point, arch, &r->build, &build);
}

enum status store_build(struct store *s, int64_t run, int arch, const struct record *r) {
    TRY(store_begin_transaction(s));
    return store_end_transaction(s, insert_build(s, run, arch, r));
}

enum status store_has(struct store *s, const char *device_slug, struct policy policy,
                      const struct record *like, bool *out, double *median_ns) {
    const struct kernel *kernel;
    char problem[MAX_TEXT], point[MAX_TEXT];
    sqlite3_stmt *query;
    *out = false, *median_ns = 0;
    TRY(registry_find(like->kernel, &kernel));
    problem_format(kernel, &like->problem, problem);
    point_format(kernel, &like->point, point);
    const char *sql =
        "SELECT m.status, m.median_ns FROM measurement m JOIN run ON run.id = m.run_id JOIN device "
        "d ON d.id = run.device_id JOIN problem p ON p.id = m.problem_id JOIN point pt ON pt.id = "
        "m.point_id JOIN build b ON b.id = m.build_id WHERE d.slug = ? AND p.kernel = ? AND "
        "p.dtype = ? AND p.problem = ? AND pt.point = ? AND m.residency || ',' || m.launch = ? AND "
        "m.contest_id IS NULL AND (b.code_hash = ? OR ? = '') ORDER BY m.id DESC LIMIT 1";
    if (sqlite3_prepare_v2(s->db, sql, -1, &query, NULL) != SQLITE_OK)
        return store_fail(s, "reading");
    const struct value values[] = {TEXT(device_slug),
                                   TEXT(kernel->name),
                                   TEXT(dtype_name(like->problem.dtype)),
                                   TEXT(problem),
                                   TEXT(point),
                                   TEXT(policy_text(policy)),
                                   TEXT(like->build.code_hash),
                                   TEXT(like->build.code_hash)};
    store_bind(query, values, 8);
    if (sqlite3_step(query) == SQLITE_ROW) {
        *out = true;
        if (!strcmp((const char *)sqlite3_column_text(query, 0), "ok"))
            *median_ns = sqlite3_column_double(query, 1);
    }
    sqlite3_finalize(query);
    return STATUS_OK;
}

enum status store_is_deadly(struct store *s, const char *device_slug, const char *commit,
                            const struct record *like, bool *out) {
    const struct kernel *kernel;
    char problem[MAX_TEXT], point[MAX_TEXT];
    int64_t deadly = 0;
    TRY(registry_find(like->kernel, &kernel));
    problem_format(kernel, &like->problem, problem);
    point_format(kernel, &like->point, point);
    TRY(RUN(s,
            "SELECT COALESCE((SELECT m.status IN ('crash', 'timeout') FROM measurement m "
            "JOIN run ON run.id = m.run_id JOIN device d ON d.id = run.device_id "
            "JOIN problem p ON p.id = m.problem_id JOIN point pt ON pt.id = m.point_id "
            "JOIN build b ON b.id = m.build_id WHERE d.slug = ? AND p.kernel = ? AND p.dtype = ? "
            "AND p.problem = ? AND pt.point = ? AND m.contest_id IS NULL AND b.code_hash = ? AND "
            "(b.code_hash <> '' OR (run.commit_id = ? AND NOT run.dirty)) "
            "ORDER BY m.id DESC LIMIT 1), 0)",
            &deadly, TEXT(device_slug), TEXT(kernel->name), TEXT(dtype_name(like->problem.dtype)),
            TEXT(problem), TEXT(point), TEXT(like->build.code_hash), TEXT(commit)));
    *out = deadly != 0;
    return STATUS_OK;
}

enum status store_any_deadly(struct store *s, const char *device_slug, bool *out) {
    int64_t found = 0;
    TRY(RUN(
        s,
        "SELECT EXISTS (SELECT 1 FROM measurement m JOIN run ON run.id = m.run_id JOIN device d "
        "ON d.id = run.device_id WHERE m.status IN ('crash', 'timeout') AND d.slug = ?)",
        &found, TEXT(device_slug)));
    *out = found != 0;
    return STATUS_OK;
}

enum status store_has_contest(struct store *s, const char *device_slug, struct policy policy,
                              const struct record *like, bool *out) {
    const struct kernel *kernel;
    char problem[MAX_TEXT];
    int64_t found = 0;
    TRY(registry_find(like->kernel, &kernel));
    problem_format(kernel, &like->problem, problem);
    TRY(RUN(s,
            "SELECT COUNT(*) FROM latest_contest c JOIN device d ON d.id = c.device_id JOIN "
            "problem p ON p.id = c.problem_id WHERE d.slug = ? AND p.kernel = ? AND p.dtype = ? "
            "AND p.problem = ? AND c.residency || ',' || c.launch = ?",
            &found, TEXT(device_slug), TEXT(kernel->name), TEXT(dtype_name(like->problem.dtype)),
            TEXT(problem), TEXT(policy_text(policy))));
    *out = found > 0;
    return STATUS_OK;
}

bool store_get_ceilings(struct store *s, const char *device_slug, struct ceilings *out) {
    sqlite3_stmt *query;
    bool found = false;
    if (sqlite3_prepare_v2(
            s->db,
            "SELECT copy_gbps, copy_bytes, launch_ns, graph_node_ns, read_gbps FROM run JOIN "
            "device ON device.id = device_id WHERE slug = ? AND copy_gbps IS NOT "
            "NULL ORDER BY run.id DESC LIMIT 1",
            -1, &query, NULL) != SQLITE_OK)
        return false;
    sqlite3_bind_text(query, 1, device_slug, -1, SQLITE_TRANSIENT);
    if (sqlite3_step(query) == SQLITE_ROW) {
        *out = (struct ceilings){.copy_gbps = sqlite3_column_double(query, 0),
                                 .copy_bytes = sqlite3_column_int64(query, 1),
                                 .launch_ns = sqlite3_column_double(query, 2),
                                 .graph_node_ns = sqlite3_column_double(query, 3),
                                 .read_gbps = sqlite3_column_double(query, 4)};
        found = true;
    }
    sqlite3_finalize(query);
    return found;
}
