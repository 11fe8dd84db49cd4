/* bench_work.h - a plan's cells, worked through by worker processes: what bench and tune share.
 *
 * Compilation runs ahead on every core; a cell's points are timed as soon as their binaries are
 * there; when all of a cell's points are in, its best meet the default, the ceiling and the
 * baselines in one interleaved contest. Which points those are is the plan's business (bench), or a
 * chooser's who adds points as results come in (tune).
 */
#ifndef FASTINFER_BENCH_WORK_H
#define FASTINFER_BENCH_WORK_H

#include <signal.h>

#include "harness/bench.h"
#include "harness/pool.h"

enum job_kind { JOB_COMPILE, JOB_EVALUATE, JOB_CONTEST };
struct job {
    enum job_kind kind;
    struct group *group;
    struct cell *cell;
    int first, count; /* of a compilation: in the group's list of wanted points */
    int position;     /* of an evaluation: in the cell's order */
    int arch;         /* of a compilation */
    bool prompt;      /* sent as soon as the worker was free: what it waited is isolation's cost */
};

enum { MAX_TAKEN = MAX_CONTEST + MAX_BASELINES };
struct bench;

/* Whoever chooses points while they are measured. */
struct chooser {
    void *context;
    /* The plan is made: opens cells. And: all is done, or interrupted; the plan is still there. */
    enum status (*begin)(void *context, struct bench *bench);
    enum status (*end)(void *context, struct bench *bench);
    /* Fewer than bench_ahead() points wait in an open cell: may queue more (cell_queue), or close
     * it. */
    enum status (*more)(void *context, struct bench *bench, struct cell *cell);
    /* A position of the cell's order has its time; INFINITY where the point failed. */
    enum status (*told)(void *context, struct bench *bench, struct cell *cell, int position);
    /* The contest's records, and none where it was lost. */
    enum status (*contested)(void *context, struct bench *bench, struct cell *cell,
                             const struct record *records, int count);
};

struct bench {
    const struct bench_options *options;
    struct store *store;
    struct bench_outcome *out;
    const struct chooser *chooser; /* NULL: the plan has all points */
    struct plan_of_bench plan;
    struct pool pool;
    struct progress progress;
    int64_t run;
    int arch; /* of the binaries; 0 for the CPU */
    /* Without a GPU the compiler's facts (registers, spills) are gathered for this one, where
     * NVRTC is there; else 0. */
    int facts_arch;
    int device_workers;
    bool any_deadly; /* the database knows of points that killed a worker */
    int total, done;
    int first_cell;                    /* all cells before it are finished */
    bool starved[MAX_WORKERS];         /* there was nothing for it to do when it was last free */
    struct cell *current[MAX_WORKERS]; /* which it was last sent a point of */
    struct record *taken;              /* of the last reply, to be stored: MAX_TAKEN */
    int taken_count;
    struct job taken_job;
    char doing[160], best[160];
};

/* Set by Ctrl-C: what is under way is finished, nothing new is sent. */
extern volatile sig_atomic_t bench_interrupted;

/* Until nothing is left, or interrupted. */
enum status bench_work(struct bench *bench);
/* Asks a worker one thing, while all are idle. */
enum status bench_ask(struct bench *bench, int worker, json_t *request, json_t **reply);
/* {"op": ..., "kernel": ..., "dtype": ..., "problem": ...} */
json_t *bench_request(const char *op, const struct kernel *kernel, const struct problem *problem);
json_t *bench_point_json(const struct kernel *kernel, const struct point *point);

enum status bench_send(struct bench *bench, int worker, json_t *request, struct job job,
                       double seconds);

/* --- bench_compile.c ---------------------------------------------------------------------------
 */

/* Queues one of the group's points for a cell, and for compilation where it was not. */
enum status cell_queue(struct cell *cell, int point);
/* Do two cells share binaries and policy, so that a point is one for both? */
bool cell_same_chain(const struct cell *a, const struct cell *b);
/* The position of a point in the cell's order; -1 where it was not queued. */
int cell_position(const struct cell *cell, int point);
/* Takes back what is queued for a cell and was not sent, from the compilers, too. */
void bench_forget(struct bench *bench, struct cell *cell);
/* How many points a chooser should have waiting, so that compiling them, on all cores, keeps up
 * with timing them. On the CPU device, whose cores do both: one. */
int bench_ahead(const struct bench *bench, const struct cell *cell);
/* Sends an idle worker what there is to compile. *sent false: nothing. */
enum status bench_feed_compiler(struct bench *bench, int worker, bool *sent);
enum status bench_take_compiled(struct bench *bench, const struct job *job, const json_t *reply);

#endif
