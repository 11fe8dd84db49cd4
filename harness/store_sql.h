/* store_sql.h - what the store's own files share: statements with values, and rows' ids. */
#ifndef FASTINFER_STORE_SQL_H
#define FASTINFER_STORE_SQL_H

#include <sqlite3.h>

#include "harness/store.h"

struct store {
    sqlite3 *db;
    char path[1024];
};

struct value { /* of a parameter: text, integer or real; NULL text is SQL's NULL */
    char kind;
    const char *text;
    int64_t integer;
    double real;
};
#define TEXT(x) ((struct value){'t', (x), 0, 0})
#define INTEGER(x) ((struct value){'i', NULL, (int64_t)(x), 0})
#define REAL(x) ((struct value){'r', NULL, 0, (x)})
#define NOTHING ((struct value){'n', NULL, 0, 0})

/* Records SQLite's error, and what can be done about it. */
enum status store_fail(struct store *store, const char *doing);
enum status store_begin_transaction(struct store *store);
/* Ends the transaction that is open: with a COMMIT where all went well. */
enum status store_end_transaction(struct store *store, enum status status);
void store_bind(sqlite3_stmt *statement, const struct value *values, int count);
/* Runs one statement; where it gives a row, its first column goes to *first. */
enum status store_sql(struct store *store, const char *sql, const struct value *values, int count,
                      int64_t *first);
#define RUN(store, sql, first, ...)                                                                \
    store_sql(store, sql, (const struct value[]){__VA_ARGS__},                                     \
              (int)(sizeof((const struct value[]){__VA_ARGS__}) / sizeof(struct value)), first)

/* The row of a problem or point, made where there was none. */
enum status store_problem_id(struct store *store, const struct kernel *kernel,
                             const struct problem *problem, int64_t *out);
enum status store_point_id(struct store *store, const struct kernel *kernel,
                           const struct point *point, int64_t *out);

#endif
