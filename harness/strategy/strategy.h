/* strategy.h - searching a space for its fastest point: ask for a point, tell its time.
 *
 * A space is abstract: points are rows of value indices, one a dimension, and only points that
 * exist are listed. Nothing here knows what a point means, how it is timed or how long the search
 * may go on. A point is asked for once; one that failed is told as failed and teaches the search as
 * well.
 *
 *     search_open(&space, strategy, seed, NULL, &search);
 *     while ((point = search_ask(search)) >= 0) search_tell(search, point, time(point));
 *     search_close(search);
 *
 * Several points may be out at once, and be told in any order. The same seed, space and answers
 * give the same questions.
 */
#ifndef FASTINFER_STRATEGY_H
#define FASTINFER_STRATEGY_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/status.h"

enum { SEARCH_NONE = -1, MAX_DIMS = 64, MAX_PARAMETERS = 24 };
#define SEARCH_FAILED                                                                              \
    INFINITY /* the time of a point that could not be compiled, verified, timed                    \
              */

/* --- the space -------------------------------------------------------------------------------- */
struct search_space {
    int dims;
    const int *counts; /* values a dimension */
    int points;
    const int
        *index; /* points x dims: value indices, ascending in the value where it is a number */
    int *slot;  /* by search_space_index(): a hash table of points */
    int slots;
};

/* Makes the table that search_space_find() needs. Refuses a row that is out of range or twice. */
enum status search_space_index(struct search_space *space);
void search_space_free(struct search_space *space); /* the table only */
int search_space_find(const struct search_space *space,
                      const int *coordinates); /* or SEARCH_NONE */
static inline const int *search_space_row(const struct search_space *space, int point) {
    return space->index + (int64_t)point * space->dims;
}

/* --- a search --------------------------------------------------------------------------------- */
struct search;
struct parameter { /* what tuning by replay may change */
    const char *name, *help;
    double fallback, min, max;
};
struct strategy {
    const char *name, *summary;
    const struct parameter *parameters;
    int parameter_count;
    enum status (*open)(struct search *search); /* may be NULL, as may tell and close */
    /* A point not asked for yet, or SEARCH_NONE: any such point will do. */
    int (*ask)(struct search *search);
    void (*tell)(struct search *search, int point);
    void (*close)(struct search *search);
};
extern const struct strategy strategy_exhaustive, strategy_random, strategy_genetic, strategy_local,
    strategy_annealing, strategy_auto;

int strategy_count(void);
const struct strategy *strategy_at(int index);
enum status strategy_find(const char *name, const struct strategy **out);

/* Overrides of parameters, "name=value". */
enum status strategy_set(const struct strategy *strategy, const char *text, double *parameters);
void strategy_defaults(const struct strategy *strategy, double *parameters);

/* `parameters` has strategy->parameter_count values; NULL: the defaults. The space must be indexed
 * and outlive the search. */
enum status search_open(const struct search_space *space, const struct strategy *strategy,
                        uint64_t seed, const double *parameters, struct search **out);
int search_ask(struct search *search); /* SEARCH_NONE once every point was asked for */
/* The caller's own idea: counts as asked for, and is told like any other. False: it was before. */
bool search_take(struct search *search, int point);
void search_tell(struct search *search, int point, double ns);
int search_best(const struct search *search); /* of those told; SEARCH_NONE when none worked */
void search_close(struct search *search);     /* NULL is fine */

/* --- for strategies --------------------------------------------------------------------------- */
struct search {
    const struct search_space *space;
    const struct strategy *strategy;
    uint64_t random;
    double parameter[MAX_PARAMETERS];
    /* All points: those not asked for, in any order, then those asked for, the last one first; and
     * where among them a point is. */
    int *left, *place, left_count;
    int *out, out_count; /* asked for, not told yet */
    double *ns;          /* by point: its time, SEARCH_FAILED, or NAN where it was not told */
    int told, worked, best;
    void *state;
};

static inline bool search_is_asked(const struct search *search, int point) {
    return search->place[point] >= search->left_count;
}
static inline bool search_worked(const struct search *search, int point) {
    return isfinite(search->ns[point]);
}
uint64_t search_draw(struct search *search);
double search_uniform(struct search *search);       /* in [0, 1) */
int search_below(struct search *search, int count); /* 0 .. count - 1 */
int search_any(struct search *search);              /* any point not asked for, or SEARCH_NONE */

/* The point not asked for that is nearest to coordinates which need not exist: the most equal
 * values first, then the least steps. SEARCH_NONE when all were asked for. */
int search_repair(struct search *search, const int *coordinates);
/* The points that differ from `point` in one dimension: all of them, or with `adjacent` only the
 * next one that exists either way. Writes at most search_neighbour_limit() of them. */
int search_neighbours(const struct search *search, int point, bool adjacent, int *out);
int search_neighbour_limit(const struct search_space *space);

#endif
