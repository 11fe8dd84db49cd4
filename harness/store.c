#include "harness/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/store_sql.h"

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

enum status store_begin_transaction(struct store *s) { return execute(s, "BEGIN IMMEDIATE"); }

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
        TRY(store_begin_transaction(s));
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

/* --- statements ---------------------------------------------------------------------------------
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
