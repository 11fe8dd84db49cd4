/* store.h - everything measured, in one SQLite file.
 *
 * WAL with synchronous=FULL: what was stored survives kill -9 at any instant, and power loss.
 * Two processes take turns (a busy timeout of 30 s). The schema's version is user_version; an
 * older file is migrated when opened, a newer one refused. docs/database.md has the tables; the
 * view `results` is the one to query.
 */
#ifndef FASTINFER_STORE_H
#define FASTINFER_STORE_H

#include "harness/record.h"
#include "harness/session.h"

enum { STORE_VERSION = 5 };

struct store;

struct environment { /* of one run */
    struct device_info device;
    char compiler[600], baseline[96], commit[64], host[128], command[512];
    bool dirty;
    uint64_t seed;
};

/* Opens or makes a database. A file that is no database, is corrupt or too new, or a folder that
 * cannot be written: STATUS_STORE with the reason and what to do; the file is left as it is. */
enum status store_open(const char *path, struct store **out);
/* For reading only; it must exist. */
enum status store_open_readonly(const char *path, struct store **out);
void store_close(struct store *store);

enum status store_begin_run(struct store *store, const struct environment *environment,
                            int64_t *run);
struct run_seconds {
    double wall, compiling, measuring; /* the last two added up over cores and workers */
    double isolation; /* the device's workers waited for the parent though there was work */
};
enum status store_end_run(struct store *store, int64_t run, const struct run_seconds *seconds,
                          const char *how_it_ended);
enum status store_ceilings(struct store *store, int64_t run, const struct ceilings *ceilings);
/* Adds a record. contest: 0 for a scan, else a number from store_new_contest(). */
enum status store_record(struct store *store, int64_t run, struct policy policy, int64_t contest,
                         const struct record *record);
enum status store_new_contest(struct store *store, int64_t *contest);
/* Adds a record's counters to the run's latest measurement of its point under that policy. */
enum status store_counters(struct store *store, int64_t run, struct policy policy,
                           const struct record *record);
/* The facts of a compilation for an architecture that is not the device's (sm_75 on a machine
 * without a GPU). */
enum status store_build(struct store *store, int64_t run, int arch, const struct record *record);

/* Is there an OK or failed scan of this point, with this machine code, on this device? */
enum status store_has(struct store *store, const char *device_slug, struct policy policy,
                      const struct record *like, bool *out, double *median_ns);

/* Did this point, with this machine code, kill a worker the last time it was tried on this problem
 * on this device, under any policy? Where code has no hash (the CPU device) `commit` has to be the
 * same, and its tree unchanged. */
enum status store_is_deadly(struct store *store, const char *device_slug, const char *commit,
                            const struct record *like, bool *out);

/* Is there any such point on the device? Mostly there is none, and asking for each costs. */
enum status store_any_deadly(struct store *store, const char *device_slug, bool *out);

/* Has the problem had its contest under this policy on this device? */
enum status store_has_contest(struct store *store, const char *device_slug, struct policy policy,
                              const struct record *like, bool *out);

/* The last committed ceilings of a device, for `devices`. False when there are none. */
bool store_get_ceilings(struct store *store, const char *device_slug, struct ceilings *out);

/* --- searches ----------------------------------------------------------------------------------
 */
struct tuning { /* a row of the table; see schema_3.sql */
    char state[12], strategy[16], stopped[24];
    int space, evaluations;
    bool has_winner, has_launched;
    struct point winner, launched;
    double median_ns, low_ns, high_ns, default_ns, margin, margin_low, ceiling_ns; /* 0: unknown */
    double launched_ns, regret, left_out; /* left_out: NAN where there are too few shapes */
};
/* Writes a run's row of a problem and policy, over the one that was there. */
enum status store_tuning(struct store *store, int64_t run, const struct kernel *kernel,
                         const struct problem *problem, struct policy policy,
                         const struct tuning *tuning);
/* The latest row of the device that has a decided winner. */
enum status store_get_tuning(struct store *store, const char *device_slug,
                             const struct kernel *kernel, const struct problem *problem,
                             struct policy policy, struct tuning *out, bool *found);

/* Runs a query and calls `row` for each row; columns as text, NULL where SQL has NULL. A status
 * other than OK from `row` ends the query. */
enum status store_query(struct store *store, const char *sql, const char *const *params,
                        int param_count, void *context,
                        enum status (*row)(void *context, int columns, const char *const *names,
                                           const char *const *values));

#endif
