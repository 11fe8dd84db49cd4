/* auto.c - a model of the space chooses the next point: the default.
 *
 * After a few points spread over the space, each next one is the point of those not asked for that
 * promises the most under a Gaussian process of ln(time): the expected improvement on the best,
 * times the chance that it works at all. Now and then it is a neighbour of the best, or a point by
 * chance: the model may be wrong.
 */
#include <stdlib.h>
#include <string.h>

#include "harness/stats.h"
#include "harness/strategy/model.h"

enum {
    START,
    LENGTH,
    LENGTH_SD,
    NOISE,
    ADDITIVE,
    DISTINCT,
    SMOOTH,
    CLIP,
    EXPLORE,
    DOUBT,
    DEPTH,
    RISK,
    RISK_LENGTH,
    REFIT,
    SWEEPS,
    POOL,
    MEMORY,
    PARAMETERS
};
static const struct parameter parameters[PARAMETERS] = {
    [START] = {"start", "points spread over the space before the model is asked", 6, 1, 1000},
    [LENGTH] = {"length", "the prior's length, of a dimension's whole range", 0.7, 0.01, 100},
    [LENGTH_SD] = {"length_sd", "spread of the logarithm of lengths", 1, 0.01, 100},
    [NOISE] = {"noise", "the prior's noise, as a share of the spread", 0.003, 1e-6, 1},
    [ADDITIVE] = {"additive", "share of the spread that is a sum over dimensions", 0.5, 0, 1},
    [DISTINCT] = {"distinct", "share of a sum's parts that only equal values have in common", 0.2,
                  0, 1},
    [SMOOTH] = {"smooth", "0: exp(-r), 1: Matern 3/2, 2: Matern 5/2", 1, 0, 2},
    [CLIP] = {"clip", "slow times are pulled in above this quantile", 0.8, 0.1, 1},
    [EXPLORE] = {"explore", "share of points by chance", 0.02, 0, 1},
    [DOUBT] = {"doubt", "share of points that test the best in each dimension", 0.35, 0, 1},
    [DEPTH] = {"depth", "such tests a dimension at most", 4, 1, 1000},
    [RISK] = {"risk", "power of the chance that a point works", 0.5, 0, 10},
    [RISK_LENGTH] = {"risk_length", "how far a failure reaches, of a whole range", 0.15, 0.01, 10},
    [REFIT] = {"refit", "lengths are learnt anew after so many times as many points", 1.2, 1, 10},
    [SWEEPS] = {"sweeps", "times round the lengths in each learning", 2, 1, 10},
    [POOL] = {"pool", "points that are scored; larger spaces are sampled", 4096, 16, 1e7},
    [MEMORY] = {"memory", "points the model holds at most; then it forgets", 400, 16, 4000},
};

enum { ELITE = 4 }; /* their neighbours are scored also where the space is sampled */

struct automatic {
    struct model *model;
    int *worked, worked_count; /* points, in the order told until the model forgets some */
    int *held, held_count;     /* those that the model holds, in its order */
    double *y, *sorted;        /* of those held */
    double best_y;
    int next_fit, fresh;              /* the first of `worked` that the model has not seen */
    int *pool, pool_count, pool_best; /* the best when the pool was filled */
    bool *pooled;                     /* by point */
    float *mean, *sd;                 /* of the pool */
    float *bad, *good;                /* of the pool: how many failed near by, and worked */
    int *neighbour;
};

static enum status open_auto(struct search *search) {
    const struct search_space *space = search->space;
    const double *p = search->parameter;
    struct automatic *a = search->state = calloc(1, sizeof *a);
    if (!a) return fail(STATUS_SYSTEM, "out of memory for a search");
    size_t points = (size_t)space->points + 1;
    struct model_options options = {p[LENGTH],   p[LENGTH_SD], p[NOISE],
                                    p[ADDITIVE], p[DISTINCT],  (int)p[SMOOTH]};
    a->worked = malloc(points * sizeof *a->worked), a->held = malloc(points * sizeof *a->held);
    a->y = malloc(points * sizeof *a->y), a->sorted = malloc(points * sizeof *a->sorted);
    a->pool = malloc(points * sizeof *a->pool), a->pooled = malloc(points * sizeof *a->pooled);
    a->mean = malloc(points * sizeof *a->mean), a->sd = malloc(points * sizeof *a->sd);
    a->bad = malloc(points * sizeof *a->bad), a->good = malloc(points * sizeof *a->good);
    a->neighbour = malloc((size_t)search_neighbour_limit(space) * sizeof *a->neighbour);
    if (!a->worked || !a->held || !a->y || !a->sorted || !a->pool || !a->pooled || !a->mean ||
        !a->sd || !a->bad || !a->good || !a->neighbour)
        return fail(STATUS_SYSTEM, "out of memory for a search");
    return model_open(space, &options, &a->model);
}

static void close_auto(struct search *search) {
    struct automatic *a = search->state;
    model_close(a->model);
    free(a->worked), free(a->held), free(a->y), free(a->sorted), free(a->pool), free(a->pooled);
    free(a->mean), free(a->sd), free(a->bad), free(a->good), free(a->neighbour), free(a);
}

/* --- what is known ---------------------------------------------------------------------------- */

static int compare_times(const void *a, const void *b, void *times) {
    const double *ns = times;
    int x = *(const int *)a, y = *(const int *)b;
    return ns[x] != ns[y] ? (ns[x] > ns[y]) - (ns[x] < ns[y]) : (x > y) - (x < y);
}

/* ln(time) to mean 0 and spread 1. How slow a slow point is does not matter, and would bend the
 * model where it does: they are pulled in. */
static void standardise(struct search *search) {
    struct automatic *a = search->state;
    int n = a->held_count;
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++) a->sorted[i] = a->y[i] = log(search->ns[a->held[i]]);
    stats_sort(a->sorted, n);
    double high = a->sorted[(int)(search->parameter[CLIP] * (n - 1))], width = high - a->sorted[0];
    for (int i = 0; i < n; i++) {
        double over = a->y[i] - high;
        if (over > 0 && width > 0) a->y[i] = high + width * 0.5 * tanh(over / width);
        sum += a->y[i], squares += a->y[i] * a->y[i];
    }
    double mean = sum / n, sd = sqrt(fmax(squares / n - mean * mean, 1e-12));
    for (int i = 0; i < n; i++) a->y[i] = (a->y[i] - mean) / sd;
    a->best_y = (a->sorted[0] - mean) / sd;
}

/* Counts a told point among those near each of the pool. */
static void spread_outcome(struct search *search, int point) {
    struct automatic *a = search->state;
    const struct search_space *space = search->space;
    const int *x = search_space_row(space, point);
    double length = search->parameter[RISK_LENGTH];
    float *count = search_worked(search, point) ? a->good : a->bad;
    for (int i = 0; i < a->pool_count; i++) {
        const int *y = search_space_row(space, a->pool[i]);
        double r2 = 0;
        for (int d = 0; d < space->dims; d++) {
            if (space->counts[d] < 2) continue;
            double step = (x[d] - y[d]) / (length * (space->counts[d] - 1));
            r2 += step * step;
        }
        count[i] += (float)exp(-sqrt(r2));
    }
}

/* --- the pool --------------------------------------------------------------------------------- */

static void add_to_pool(struct automatic *a, int point) {
    if (a->pooled[point]) return;
    a->pooled[point] = true;
    a->pool[a->pool_count++] = point;
}

static enum status fill_pool(struct search *search) {
    struct automatic *a = search->state;
    const struct search_space *space = search->space;
    int most = (int)search->parameter[POOL];
    int elites = a->held_count < ELITE ? a->held_count : ELITE;
    a->pool_count = 0, a->pool_best = search->best;
    memset(a->pooled, 0, (size_t)space->points * sizeof *a->pooled);
    if (space->points <= most) {
        for (int p = 0; p < space->points; p++) add_to_pool(a, p);
    } else {
        for (int i = 0; i < a->held_count; i++) {
            if (log(search->ns[a->held[i]]) > a->sorted[elites - 1]) continue;
            int count = search_neighbours(search, a->held[i], false, a->neighbour);
            for (int k = 0; k < count && a->pool_count < most; k++)
                if (!search_is_asked(search, a->neighbour[k])) add_to_pool(a, a->neighbour[k]);
        }
        int enough = most < search->left_count ? most : search->left_count;
        for (int tries = 0; tries < 4 * most && a->pool_count < enough; tries++)
            add_to_pool(a, search_any(search));
    }
    memset(a->good, 0, (size_t)a->pool_count * sizeof *a->good);
    memset(a->bad, 0, (size_t)a->pool_count * sizeof *a->bad);
    for (int p = search->left_count; p < space->points; p++)
        if (!isnan(search->ns[search->left[p]])) spread_outcome(search, search->left[p]);
    return model_pool(a->model, a->pool, a->pool_count);
}

/* --- the next point --------------------------------------------------------------------------- */

/* Of some points by chance, the one farthest from those asked for. */
static int spread_out(struct search *search) {
    enum { TRIES = 64 };
    const struct search_space *space = search->space;
    int best = SEARCH_NONE;
    double most = -1;
    for (int t = 0; t < TRIES; t++) {
        int point = search_any(search);
        const int *x = search_space_row(space, point);
        double nearest = INFINITY;
        for (int p = search->left_count; p < space->points && nearest > most; p++) {
            const int *y = search_space_row(space, search->left[p]);
            double distance = 0;
            for (int d = 0; d < space->dims; d++)
                if (space->counts[d] > 1)
                    distance += fabs((double)(x[d] - y[d])) / (space->counts[d] - 1);
            if (distance < nearest) nearest = distance;
        }
        if (nearest > most) most = nearest, best = point;
    }
    return best;
}

static double expected_improvement(double mean, double sd, double best) {
    double z = (best - mean) / sd;
    return sd * (z * 0.5 * erfc(-z * M_SQRT1_2) + 0.3989422804014327 * exp(-0.5 * z * z));
}

/* The chance that the i-th of the pool works. */
static double chance(const struct search *search, int i) {
    const struct automatic *a = search->state;
    double prior = (search->worked + 1.) / (search->told + 1.);
    return (a->good[i] + prior * 0.5) / (a->good[i] + a->bad[i] + 0.5);
}

/* The most promising of the pool. */
static int most_promising(struct search *search) {
    struct automatic *a = search->state;
    double most = -1;
    int choice = SEARCH_NONE;
    for (int i = 0; i < a->pool_count; i++) {
        int point = a->pool[i];
        if (search_is_asked(search, point)) continue;
        double score = expected_improvement(a->mean[i], a->sd[i], a->best_y);
        score *= pow(chance(search, i), search->parameter[RISK]);
        for (int k = 0; k < search->out_count; k++)
            score *= 1 - model_correlation(a->model, point, search->out[k]);
        if (score > most) most = score, choice = point;
    }
    return choice;
}

/* The dimension in which two points differ, where it is one only; else -1. */
static int only_difference(const struct search_space *space, int a, int b) {
    const int *x = search_space_row(space, a), *y = search_space_row(space, b);
    int differs = -1;
    for (int d = 0; d < space->dims; d++) {
        if (x[d] == y[d]) continue;
        if (differs >= 0) return -1;
        differs = d;
    }
    return differs;
}

/* A neighbour of the best, in the dimension in which the fewest were asked for: what the model is
 * sure of may be wrong. Each dimension comes `depth` times at most, then the model goes on. */
static int doubt(struct search *search) {
    struct automatic *a = search->state;
    const struct search_space *space = search->space;
    int tried[MAX_DIMS] = {0}, choice = SEARCH_NONE, fewest = (int)search->parameter[DEPTH];
    double most = -1;
    for (int p = search->left_count; p < space->points; p++) {
        int d = only_difference(space, search->left[p], search->best);
        if (d >= 0) tried[d]++;
    }
    for (int i = 0; i < a->pool_count; i++) {
        if (search_is_asked(search, a->pool[i])) continue;
        int d = only_difference(space, a->pool[i], search->best);
        if (d < 0 || tried[d] > fewest || tried[d] >= (int)search->parameter[DEPTH]) continue;
        double score = exp(-a->mean[i]) * pow(chance(search, i), search->parameter[RISK]);
        if (tried[d] == fewest && score <= most) continue;
        fewest = tried[d], most = score, choice = a->pool[i];
    }
    return choice;
}

/* Beyond its memory the model holds the fastest points, and as many of the others by chance. */
static enum status forget(struct search *search) {
    struct automatic *a = search->state;
    int half = (int)(search->parameter[MEMORY] * 0.35), n = a->worked_count;
    qsort_r(a->worked, (size_t)n, sizeof *a->worked, compare_times, search->ns);
    for (int i = half; i < 2 * half; i++) {
        int j = i + search_below(search, n - i), swap = a->worked[i];
        a->worked[i] = a->worked[j], a->worked[j] = swap;
    }
    model_clear(a->model);
    a->held_count = 0, a->next_fit = 0;
    for (int i = 0; i < 2 * half; i++) {
        a->held[a->held_count++] = a->worked[i];
        TRY(model_add(a->model, a->worked[i]));
    }
    a->fresh = n;
    return STATUS_OK;
}

/* Takes in what was told since, learns and fills the pool anew where it is time to. */
static enum status update(struct search *search) {
    struct automatic *a = search->state;
    const double *p = search->parameter;
    bool sampled = search->space->points > (int)p[POOL];
    bool refill = !a->pool_count || (sampled && a->pool_best != search->best);
    for (; a->fresh < a->worked_count; a->fresh++) {
        a->held[a->held_count++] = a->worked[a->fresh];
        TRY(model_add(a->model, a->worked[a->fresh]));
    }
    if (a->held_count > (int)p[MEMORY]) TRY(forget(search));
    standardise(search);
    if (a->held_count >= a->next_fit) {
        model_fit(a->model, a->y, (int)p[SWEEPS]);
        a->next_fit = (int)(p[REFIT] * a->held_count) + 1;
        refill |= sampled;
    }
    return refill ? fill_pool(search) : STATUS_OK;
}

static int ask(struct search *search) {
    struct automatic *a = search->state;
    const double *p = search->parameter;
    int asked = search->space->points - search->left_count;
    if (asked < (int)p[START] || a->worked_count < 2) return spread_out(search);
    if (search_uniform(search) < p[EXPLORE] || update(search)) return SEARCH_NONE;
    model_predict(a->model, a->y, a->mean, a->sd);
    int point = SEARCH_NONE;
    if (search_uniform(search) < p[DOUBT]) point = doubt(search);
    return point < 0 ? most_promising(search) : point;
}

static void tell(struct search *search, int point) {
    struct automatic *a = search->state;
    if (search_worked(search, point)) a->worked[a->worked_count++] = point;
    spread_outcome(search, point);
}

const struct strategy strategy_auto = {.name = "auto",
                                       .summary = "a model of the space chooses the next point",
                                       .parameters = parameters,
                                       .parameter_count = PARAMETERS,
                                       .open = open_auto,
                                       .ask = ask,
                                       .tell = tell,
                                       .close = close_auto};
