/* gate_pool.h - times the gate's pairs in a worker process, and calibrates a device's rules. */
#ifndef FASTINFER_GATE_POOL_H
#define FASTINFER_GATE_POOL_H

#include "harness/gate.h"
#include "harness/pool.h"

struct gate_pool {
    struct pool pool;
    bool planted;                                            /* b does 3% more of the same work */
    void (*progress)(int done, int total, const char *what); /* or NULL */
};
/* One worker on `device`. */
enum status gate_pool_open(struct gate_pool *pool, const char *device);
void gate_pool_close(struct gate_pool *pool);
/* A timer over the pool, for gate_compare. */
struct gate_timer gate_pool_timer(struct gate_pool *pool);

/* Compares this tree with an export of the same device (results/<device>/, bench.csv): each stored
 * point is measured anew, and is slower where its interval lies beyond the stored one's by more
 * than `between`, the noise between two runs, twice in a row. */
enum status gate_against_export(struct gate_pool *pool, const char *folder,
                                const struct device_info *device, double between,
                                struct gate_report *out);

/* --- calibration --------------------------------------------------------------------------------
 *
 * A/A comparisons of every cell, many times; what they show becomes margin and same, and whole runs
 * of the gate are simulated from them by drawing a comparison for each cell.
 */
struct calibration {
    int cells, comparisons; /* A against A, with later rounds where the gate would want them */
    double noise_median, noise_95; /* |ratio - 1| after all rounds */
    double margin, same;           /* the rules that follow */
    int runs;                      /* simulated */
    double failed, failed_bound;   /* share with a false slower; its 95% upper bound */
    double unsure;                 /* share of verdicts that stay unsure */
    int planted, found;            /* comparisons with 3% more work, and those called slower */
    double found_bound;            /* 95% lower bound of the share */
    double seconds;
    json_t *by_cell; /* the caller frees it */
};
/* snapshot: of this tree on the device. repeats: comparisons a cell, fewer (but two) where a cell's
 * share of `seconds` is over; 0 is no limit. */
/* The timer must be able to plant. */
enum status calibrate(const struct gate_timer *timer, const json_t *snapshot, int repeats,
                      double seconds, uint64_t seed, struct calibration *out);
enum status calibration_write(const struct calibration *calibration, const json_t *snapshot,
                              const char *path);

#endif
