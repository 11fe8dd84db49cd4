/* bench.h - the main job: plan what to measure, have it compiled, verified and timed by worker
 * processes, store every record, and let the best of each problem meet the baselines.
 */
#ifndef FASTINFER_BENCH_H
#define FASTINFER_BENCH_H

#include "harness/store.h"

enum { MAX_KERNELS = 64, MAX_POLICIES = 6, MAX_PROBLEM_TEXTS = 64 };

struct bench_options {
    const char *device; /* "auto", "cpu", "cuda:N" */
    const struct kernel *kernel[MAX_KERNELS];
    int kernels; /* 0: all */
    enum dtype dtype;
    struct policy policy[MAX_POLICIES];
    int policies; /* 0: cold,stream for all and hot,graph for up to 16 rows */
    const char *problem[MAX_PROBLEM_TEXTS];
    int problems;         /* 0: the standard ones */
    const char *model;    /* a HuggingFace folder whose config.json gives the problems, or NULL */
    const char *counters; /* "off", or what counters_parse() takes, of each problem's best point */
    const char *point;    /* only this point, or NULL */
    const char *configs;  /* folder, or NULL */
    bool quick, exhaust, resume, baselines;
    bool energy; /* measured in contests, too */
    bool retry;  /* also what killed a worker before */
    bool tune;   /* a chooser searches the whole spaces, see tune.h */
    int samples; /* points a problem; 0: the default for the device */
    const char *db;
    uint64_t seed;
    char command[512];
};

enum { MAX_SERVED = 64 };
struct bench_outcome {
    int64_t run;
    struct device_info device;
    char note[512];                      /* what the user should know first, "" else */
    int quarantined;                     /* points passed over: they killed a worker before */
    int cells, points, distinct, failed; /* distinct: machine codes among the points */
    double wall_s, compile_s;            /* compiling, added up over all cores */
    double measure_s;       /* verifying and measuring, added up over the device's workers */
    double isolation_s;     /* the device's workers waited for the parent though there was work */
    double busy_share;      /* of the wall time of the device's workers, in what they are for */
    double isolation_share; /* of the same */
    int served[MAX_SERVED]; /* points that each of the device's workers timed */
    bool interrupted;
};

/* Runs a bench into a database. STATUS_INTERRUPTED after Ctrl-C, with all that was measured kept.
 */
struct chooser; /* bench_work.h; NULL: a sample of each space, spread and seeded */
enum status bench_run(const struct bench_options *options, struct store *store,
                      const struct chooser *chooser, struct bench_outcome *out);

/* The commit that the program was built from, and whether the tree had other changes then. */
const char *bench_commit(bool *dirty);

/* --- the plan (bench_plan.c) ---------------------------------------------------------------- */

enum { BEST = 5 };

struct group { /* what compiles to the same binaries: kernel, compiled sizes, dtype */
    const struct kernel *kernel;
    struct problem problem; /* one of its problems */
    struct point *point;
    struct build *build; /* of each point, once it is compiled */
    int points, capacity;
    int *wanted, wanted_count;  /* points to be compiled, in that order */
    bool *is_wanted, *compiled; /* each point */
    int sent, done;             /* of the wanted ones: with the compilers, and back */
    double compile_s;           /* that those which are back took, 0 for what was in the cache */
    bool *deadly;               /* each point: it killed a worker */
    int facts_sent;             /* of the wanted ones, for facts_arch, see bench_work.h */
};

struct cell { /* one kernel, problem and policy */
    struct group *group;
    struct problem problem;
    struct policy policy;
    bool is_cover;   /* a shape between the standard ones, for a tuner's tables */
    bool is_ceiling; /* only there to be the ceiling of others: no contest of its own */
    int *order;      /* indices into the group's points, as they are queued */
    double *ns;      /* by position in the order: NAN before it is known, INFINITY: it failed */
    int points, capacity, sent, done;
    int owner;    /* the worker that was last sent a point of it; -1: none */
    bool open;    /* a chooser may queue more */
    bool scanned; /* its points are in: the contest may begin */
    struct point best[BEST];
    double best_ns[BEST];
    int best_count;
    struct point fallback, configured;
    bool has_configured, contest_sent, finished;
    bool alone; /* its contest goes without baselines: with them it killed the worker */
    double longest_s, shortest_s; /* that a point which ran took, with its verification */
    double starved_s;             /* since when no point that waits has its binary; 0: one has */
    int fresh;                    /* points measured now, not found in the database */
    struct cell *ceiling;         /* the stream cell of the same bytes; NULL for stream itself */
};

enum { MAX_GROUPS = 512 };
struct plan_of_bench {
    struct group *group[MAX_GROUPS];
    int groups;
    struct cell *cell;
    int cells;
};

struct config;
enum status bench_plan(const struct bench_options *options, const struct device_info *device,
                       const struct config *config, struct plan_of_bench *out);
void bench_plan_free(struct plan_of_bench *plan);

/* --- progress (progress.c) -------------------------------------------------------------------- */

struct progress {
    double start_s, shown_s;
    bool terminal, quiet;
};
void progress_start(struct progress *progress);
/* One line: rewritten in place on a terminal, a plain line every few seconds elsewhere. */
void progress_show(struct progress *progress, const char *doing, int done, int total,
                   const char *best, bool force);
void progress_clear(struct progress *progress);

#endif
