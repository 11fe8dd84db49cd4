#include "harness/store.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/store_sql.h"
#include "harness/worker.h"
#include "kernels/registry.h"

enum status store_fail(struct store *s, const char *doing) {
    int code = sqlite3_errcode(s->db);
    const char *hint = "";
    if (code == SQLITE_FULL) hint = "; free some space and run again with --resume";
    if (code == SQLITE_BUSY) hint = "; another process holds it: wait for that one";
    if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB)
        hint = "; move the file away (or name another with --db) and run again";
    return fail(STATUS_STORE, "%s: %s: %s%s", s->path, doing, sqlite3_errmsg(s->db), hint);
}

static enum status execute(struct store *s, const char *sql) {
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? STATUS_OK
                                                                   : store_fail(s, "writing");
}

/* Ends the transaction that is open: with a COMMIT where all went well. */
enum status store_end_transaction(struct store *s, enum status status) {
    if (!status) status = execute(s, "COMMIT");
    if (status) sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

/* Step i takes a database from version i to i + 1. */
static const char *const migrations[STORE_VERSION] = {
    "harness/schema.sql", "harness/schema_2.sql", "harness/schema_3.sql", "harness/schema_4.sql",
    "harness/schema_5.sql"};

/* The first column of the first row of a query that needs no parameters. */
static enum status ask(struct store *s, const char *sql, char *out, size_t bytes) {
    sqlite3_stmt *query;
    enum status status = STATUS_OK;
    if (sqlite3_prepare_v2(s->db, sql, -1, &query, NULL) == SQLITE_OK &&
        sqlite3_step(query) == SQLITE_ROW)
        snprintf(out, bytes, "%s", (const char *)sqlite3_column_text(query, 0));
    else
        status = store_fail(s, "opening");
    sqlite3_finalize(query);
    return status;
}

static enum status read_version(struct store *s, int *version) {
    char text[24];
    TRY(ask(s, "PRAGMA user_version", text, sizeof text));
    *version = atoi(text);
    if (*version >= 0 && *version <= STORE_VERSION) return STATUS_OK;
    return fail(STATUS_STORE,
                "%s: was written by a newer FastInfer (schema %d, this one knows %d); update, or "
                "name another file with --db",
                s->path, *version, STORE_VERSION);
}

/* Reads only: what is too new or damaged is refused before anything is written to it. */
static enum status check(struct store *s) {
    int version;
    char verdict[400];
    TRY(read_version(s, &version));
    TRY(ask(s, "PRAGMA quick_check(1)", verdict, sizeof verdict));
    if (!strcmp(verdict, "ok")) return STATUS_OK;
    verdict[strcspn(verdict, "\n")] = 0;
    return fail(STATUS_STORE,
                "%s: the database is damaged (%s); move the file away (or name another with --db) "
                "and run again",
                s->path, verdict);
}

/* Takes the file one version further, where no other process did so in the meantime. */
static enum status migrate_step(struct store *s, bool *done) {
    int version;
    TRY(read_version(s, &version));
    *done = version == STORE_VERSION;
    if (*done) return STATUS_OK;
    const struct source *step = source_find(migrations[version]);
    char *sql = malloc(step->bytes + 128);
    if (!sql) return fail(STATUS_SYSTEM, "out of memory");
    memcpy(sql, step->text, step->bytes);
    snprintf(sql + step->bytes, 128, "\nPRAGMA user_version = %d;", version + 1);
    enum status status = execute(s, sql);
    free(sql);
    return status;
}

static enum status migrate(struct store *s) {
    int version;
    TRY(read_version(s, &version));
    for (bool done = version == STORE_VERSION; !done;) {
        TRY(execute(s, "BEGIN IMMEDIATE"));
        TRY(store_end_transaction(s, migrate_step(s, &done)));
    }
    return STATUS_OK;
}

/* The step into WAL mode does not wait for other processes by itself. */
static enum status set_modes(struct store *s) {
    for (int turn = 0;; turn++) {
        enum status status = execute(s, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; "
                                        "PRAGMA foreign_keys = ON;");
        if (!status || sqlite3_errcode(s->db) != SQLITE_BUSY || turn == 1500) return status;
        sqlite3_sleep(20);
    }
}

static enum status open_file(const char *path, int flags, struct store **out) {
    struct store *s = calloc(1, sizeof *s);
    if (!s) return fail(STATUS_SYSTEM, "out of memory");
    snprintf(s->path, sizeof s->path, "%s", path);
    if (sqlite3_open_v2(path, &s->db, flags, NULL) != SQLITE_OK) {
        enum status status = fail(STATUS_STORE, "%s: the database could not be opened: %s", path,
                                  s->db ? sqlite3_errmsg(s->db) : "out of memory");
        store_close(s);
        return status;
    }
    sqlite3_busy_timeout(s->db, 30000);
    *out = s;
    return STATUS_OK;
}

enum status store_open(const char *path, struct store **out) {
    char folder[1024];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash && slash != folder) {
        *slash = 0;
        if (mkdir(folder, 0777) && errno != EEXIST)
            return fail(STATUS_STORE, "%s: the folder for the database could not be made: %s",
                        folder, strerror(errno));
    }
    TRY(open_file(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, out));
    enum status status = check(*out);
    if (!status) status = set_modes(*out);
    if (!status) status = migrate(*out);
    if (status) {
        store_close(*out);
        *out = NULL;
    }
    return status;
}

enum status store_open_readonly(const char *path, struct store **out) {
    if (access(path, F_OK))
        return fail(STATUS_STORE, "%s: there is no such database; `fastinfer bench` makes one",
                    path);
    TRY(open_file(path, SQLITE_OPEN_READWRITE, out));
    enum status status = check(*out);
    if (!status) status = migrate(*out);
    if (status) {
        store_close(*out);
        *out = NULL;
    }
    return status;
}

void store_close(struct store *s) {
    if (!s) return;
    sqlite3_close(s->db);
    free(s);
}

/* --- inserting ----------------------------------------------------------------------------------
 */

void store_bind(sqlite3_stmt *statement, const struct value *values, int count) {
    for (int i = 0; i < count; i++) {
        const struct value *v = &values[i];
        if (v->kind == 't' && v->text)
            sqlite3_bind_text(statement, i + 1, v->text, -1, SQLITE_TRANSIENT);
        else if (v->kind == 'i')
            sqlite3_bind_int64(statement, i + 1, v->integer);
        else if (v->kind == 'r')
            sqlite3_bind_double(statement, i + 1, v->real);
        else
            sqlite3_bind_null(statement, i + 1);
    }
}

enum status store_sql(struct store *s, const char *sql, const struct value *values, int count,
                      int64_t *first) {
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(s->db, sql, -1, &statement, NULL) != SQLITE_OK)
        return store_fail(s, "preparing");
    store_bind(statement, values, count);
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW && first) *first = sqlite3_column_int64(statement, 0);
    if (code == SQLITE_ROW) code = SQLITE_DONE;
    enum status status = code == SQLITE_DONE ? STATUS_OK : store_fail(s, "writing");
    sqlite3_finalize(statement);
    return status;
}
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
    TRY(execute(s, "BEGIN IMMEDIATE"));
    return store_end_transaction(s, add_counters(s, run, policy, r));
}

/* One record is one transaction. */
enum status store_record(struct store *s, int64_t run, struct policy policy, int64_t contest,
                         const struct record *r) {
    TRY(execute(s, "BEGIN IMMEDIATE"));
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
    TRY(execute(s, "BEGIN IMMEDIATE"));
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

enum status store_query(struct store *s, const char *sql, const char *const *params,
                        int param_count, void *context,
                        enum status (*row)(void *context, int columns, const char *const *names,
                                           const char *const *values)) {
    enum { MOST = 64 };
    sqlite3_stmt *query;
    const char *names[MOST], *values[MOST];
    if (sqlite3_prepare_v2(s->db, sql, -1, &query, NULL) != SQLITE_OK)
        return store_fail(s, "reading");
    for (int i = 0; i < param_count; i++)
        sqlite3_bind_text(query, i + 1, params[i], -1, SQLITE_TRANSIENT);
    enum status status = STATUS_OK;
    int code = SQLITE_DONE, columns = sqlite3_column_count(query);
    if (columns > MOST) columns = MOST;
    while (!status && (code = sqlite3_step(query)) == SQLITE_ROW) {
        for (int i = 0; i < columns; i++) {
            names[i] = sqlite3_column_name(query, i);
            values[i] = (const char *)sqlite3_column_text(query, i);
        }
        status = row(context, columns, names, values);
    }
    if (!status && code != SQLITE_DONE && code != SQLITE_ROW) status = store_fail(s, "reading");
    sqlite3_finalize(query);
    return status;
}
