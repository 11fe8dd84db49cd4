#include "harness/dispatch.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Which shapes and points take part: all, or without one shape and what only it knows of. */
struct part {
    const struct dispatch_times *times;
    int without; /* a shape; -1: none */
    double best[MAX_SHAPES];
    bool next[MAX_SHAPES][MAX_SHAPES]; /* two shapes with none between them */
};

static bool has_point(const struct part *part, int point) {
    return part->without < 0 || part->times->owner[point] != part->without;
}

static double far(const struct dispatch_times *t, int a, int b) {
    double sum = 0;
    for (int k = 0; k < t->axes; k++) sum += fabs(t->at[a][k] - t->at[b][k]);
    return sum;
}

/* Next to each other: none of the others is in the box that the two span. */
static bool adjacent(const struct part *part, int a, int b) {
    const struct dispatch_times *t = part->times;
    double whole = far(t, a, b);
    if (whole == 0 || a == part->without || b == part->without) return false;
    for (int c = 0; c < t->shapes; c++) {
        if (c == a || c == b || c == part->without) continue;
        double one = far(t, a, c), other = far(t, c, b);
        if (one > 0 && other > 0 && one + other <= whole + 1e-9) return false;
    }
    return true;
}

static struct part part_of(const struct dispatch_times *t, int without) {
    struct part part = {.times = t, .without = without};
    for (int s = 0; s < t->shapes; s++) {
        part.best[s] = INFINITY;
        for (int p = 0; p < t->points; p++)
            if (has_point(&part, p)) part.best[s] = fmin(part.best[s], t->ns[s][p]);
        for (int o = 0; o < t->shapes; o++) part.next[s][o] = adjacent(&part, s, o);
    }
    return part;
}

static void count_points(const struct part *part, struct dispatch *d) {
    bool used[MAX_CANDIDATES] = {false};
    int shapes = 0;
    d->mean = d->worst = 0, d->distinct = 0;
    for (int s = 0; s < part->times->shapes; s++) {
        if (s == part->without) continue;
        d->mean += d->regret[s], d->worst = fmax(d->worst, d->regret[s]), shapes++;
        d->distinct += !used[d->choice[s]];
        used[d->choice[s]] = true;
    }
    d->mean /= shapes ? shapes : 1;
}

/* The best of a set of points for each shape. False where a shape is beyond `worst`. */
static bool assign(const struct part *part, const bool *in, struct dispatch *out) {
    const struct dispatch_times *t = part->times;
    for (int s = 0; s < t->shapes; s++) {
        if (s == part->without) continue;
        int best = -1;
        for (int p = 0; p < t->points; p++)
            if (in[p] && isfinite(t->ns[s][p]) && (best < 0 || t->ns[s][p] < t->ns[s][best]))
                best = p;
        if (best < 0) return false;
        out->choice[s] = best;
        out->regret[s] = t->ns[s][best] / part->best[s] - 1;
    }
    count_points(part, out);
    return true;
}

/* Adds the point that lowers the mean the most (a shape without a point counts as 10 times its
 * best), then drops what has become needless: close to the best set, and quick. */
static double cost_of(const struct part *part, const bool *in) {
    const struct dispatch_times *t = part->times;
    double sum = 0;
    for (int s = 0; s < t->shapes; s++) {
        if (s == part->without) continue;
        double least = INFINITY, best = part->best[s];
        for (int p = 0; p < t->points; p++)
            if (in[p]) least = fmin(least, t->ns[s][p]);
        sum += fmin(least / best - 1, 9);
    }
    return sum;
}

static bool good(const struct part *part, const bool *in, double mean, double worst,
                 struct dispatch *out) {
    return assign(part, in, out) && out->mean <= mean && out->worst <= worst;
}

static bool choose(const struct part *part, double mean, double worst, struct dispatch *out) {
    const struct dispatch_times *t = part->times;
    bool in[MAX_CANDIDATES] = {false};
    for (int k = 0; k < t->points && !good(part, in, mean, worst, out); k++) {
        int best = -1;
        double least = INFINITY;
        for (int p = 0; p < t->points; p++) {
            if (in[p] || !has_point(part, p)) continue;
            in[p] = true;
            double cost = cost_of(part, in);
            in[p] = false;
            if (cost < least) least = cost, best = p;
        }
        if (best < 0) break;
        in[best] = true;
    }
    struct dispatch fewer;
    for (int p = 0; p < t->points; p++) {
        if (!in[p]) continue;
        in[p] = false;
        if (!good(part, in, mean, worst, &fewer)) in[p] = true;
    }
    return assign(part, in, out);
}

/* --- what lies between ---------------------------------------------------------------------- */

static bool has_next(const struct part *part, int shape) {
    bool any = false;
    for (int s = 0; s < part->times->shapes; s++) any |= part->next[shape][s];
    return any;
}

static double regret_of(const struct part *part, int shape, int point) {
    return fmin(part->times->ns[shape][point] / part->best[shape] - 1, 9);
}

/* How wrong a point is on a shape and next to it, at worst. */
static double wrong_around(const struct part *part, int shape, int point) {
    double worst = regret_of(part, shape, point);
    for (int s = 0; s < part->times->shapes; s++)
        if (part->next[shape][s]) worst = fmax(worst, regret_of(part, s, point));
    return worst;
}

/* The fastest point at a shape may be the first to fall behind beside it: a few percent that buy a
 * point which holds on both sides are well spent. */
static void settle(const struct part *part, double mean, double worst, struct dispatch *d) {
    const struct dispatch_times *t = part->times;
    struct dispatch settled = *d;
    for (int s = 0; s < t->shapes; s++) {
        if (s == part->without) continue;
        double least = wrong_around(part, s, d->choice[s]);
        for (int p = 0; p < t->points && has_next(part, s); p++) {
            double regret = regret_of(part, s, p);
            if (!has_point(part, p) || regret > worst) continue;
            double wrong = wrong_around(part, s, p);
            if (wrong >= least) continue;
            least = wrong, settled.choice[s] = p, settled.regret[s] = regret;
        }
    }
    count_points(part, &settled);
    if (settled.mean <= mean) *d = settled;
}

static int point_between(const struct part *part, const struct dispatch *d, int a, int b) {
    int best = d->choice[a];
    double least = INFINITY;
    for (int s = 0; s < part->times->shapes; s++) {
        if (s == part->without) continue;
        int p = d->choice[s];
        double wrong = fmax(regret_of(part, a, p), regret_of(part, b, p));
        if (wrong < least) least = wrong, best = p;
    }
    return best;
}

static void make_bridges(const struct part *part, struct dispatch *d) {
    d->bridges = 0;
    for (int a = 0; a < part->times->shapes; a++)
        for (int b = a + 1; b < part->times->shapes && d->bridges < MAX_BRIDGES; b++) {
            bool needed = d->choice[a] != d->choice[b];
            int point = needed ? point_between(part, d, a, b) : d->choice[a];
            if (part->next[a][b])
                d->bridge[d->bridges++] = (struct dispatch_bridge){a, b, point, needed};
        }
}

static bool make_table(const struct part *part, double mean, double worst, struct dispatch *out) {
    if (!choose(part, mean, worst, out)) return false;
    settle(part, mean, worst, out);
    make_bridges(part, out);
    return true;
}

static double far_from_bridge(const struct dispatch_times *t, int shape,
                              const struct dispatch_bridge *b) {
    double sum = 0;
    for (int k = 0; k < t->axes; k++)
        sum += fabs(t->at[shape][k] - (t->at[b->a][k] + t->at[b->b][k]) / 2);
    return sum;
}

/* The point that a lookup finds for a shape which is not in the table: the nearest legal one. */
static int look_up(const struct dispatch_times *t, const struct dispatch *d, int shape) {
    int found = -1;
    double nearest = INFINITY;
    for (int s = 0; s < t->shapes; s++) {
        if (s == shape || !isfinite(t->ns[shape][d->choice[s]])) continue;
        if (far(t, shape, s) < nearest) nearest = far(t, shape, s), found = d->choice[s];
    }
    for (int i = 0; i < d->bridges; i++) {
        const struct dispatch_bridge *b = &d->bridge[i];
        double distance = far_from_bridge(t, shape, b);
        if (distance < nearest && isfinite(t->ns[shape][b->point]))
            nearest = distance, found = b->point;
    }
    return found;
}

/* The regret of a shape that nobody tuned for. */
static double leave_out(const struct part *all, int shape, double mean, double worst) {
    const struct dispatch_times *t = all->times;
    struct part part = part_of(t, shape);
    struct dispatch rest;
    if (!make_table(&part, mean, worst, &rest)) return NAN;
    int found = look_up(t, &rest, shape);
    return found < 0 ? NAN : t->ns[shape][found] / all->best[shape] - 1;
}

enum status dispatch_choose(const struct dispatch_times *t, double mean, double worst,
                            struct dispatch *out) {
    struct part all = part_of(t, -1);
    int counted = 0;
    memset(out, 0, sizeof *out);
    for (int s = 0; s < t->shapes; s++)
        if (!isfinite(all.best[s]))
            return fail(STATUS_ARGUMENT, "shape %d of the table has no point that runs", s + 1);
    if (!make_table(&all, mean, worst, out))
        return fail(STATUS_ARGUMENT, "no set of points runs every shape of the table");
    for (int s = 0; s < t->shapes; s++) {
        out->left_out[s] = t->shapes < 3 ? NAN : leave_out(&all, s, mean, worst);
        if (isnan(out->left_out[s])) continue;
        counted++;
        out->left_out_mean += out->left_out[s];
        out->left_out_worst = fmax(out->left_out_worst, out->left_out[s]);
    }
    if (counted)
        out->left_out_mean /= counted;
    else
        out->left_out_mean = out->left_out_worst = NAN;
    return STATUS_OK;
}
