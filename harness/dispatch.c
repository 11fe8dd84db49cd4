#include "harness/dispatch.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Which shapes and points take part: all, or without one shape and what only it knows of. */
struct part {
    const struct dispatch_times *times;
    int without; /* a shape; -1: none */
};

static bool has_point(const struct part *part, int point) {
    return part->without < 0 || part->times->owner[point] != part->without;
}

static double best_of(const struct part *part, int shape) {
    double best = INFINITY;
    for (int p = 0; p < part->times->points; p++)
        if (has_point(part, p)) best = fmin(best, part->times->ns[shape][p]);
    return best;
}

/* The best of a set of points for each shape. False where a shape is beyond `worst`. */
static bool assign(const struct part *part, const bool *in, struct dispatch *out) {
    const struct dispatch_times *t = part->times;
    bool used[MAX_CANDIDATES] = {false};
    int shapes = 0;
    out->mean = out->worst = 0, out->distinct = 0;
    for (int s = 0; s < t->shapes; s++) {
        if (s == part->without) continue;
        int best = -1;
        for (int p = 0; p < t->points; p++)
            if (in[p] && isfinite(t->ns[s][p]) && (best < 0 || t->ns[s][p] < t->ns[s][best]))
                best = p;
        if (best < 0) return false;
        out->choice[s] = best;
        out->regret[s] = t->ns[s][best] / best_of(part, s) - 1;
        out->mean += out->regret[s], out->worst = fmax(out->worst, out->regret[s]);
        out->distinct += !used[best];
        used[best] = true, shapes++;
    }
    out->mean /= shapes ? shapes : 1;
    return true;
}

/* Adds the point that lowers the mean the most (a shape without a point counts as 10 times its
 * best), then drops what has become needless: close to the best set, and quick. */
static double cost_of(const struct part *part, const bool *in) {
    const struct dispatch_times *t = part->times;
    double sum = 0;
    for (int s = 0; s < t->shapes; s++) {
        if (s == part->without) continue;
        double least = INFINITY, best = best_of(part, s);
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

/* The regret of a shape that nobody tuned for. */
static double leave_out(const struct dispatch_times *t, int shape, double mean, double worst) {
    struct part part = {t, shape}, all = {t, -1};
    struct dispatch rest;
    if (!choose(&part, mean, worst, &rest)) return NAN;
    int order[MAX_SHAPES], n = 0; /* the nearest whose point is legal here */
    for (int s = 0; s < t->shapes; s++)
        if (s != shape) order[n++] = s;
    int nearest = -1;
    for (int i = 0; i < n; i++)
        if (isfinite(t->ns[shape][rest.choice[order[i]]]) &&
            (nearest < 0 || t->far[shape][order[i]] < t->far[shape][nearest]))
            nearest = order[i];
    return nearest < 0 ? NAN : t->ns[shape][rest.choice[nearest]] / best_of(&all, shape) - 1;
}

enum status dispatch_choose(const struct dispatch_times *t, double mean, double worst,
                            struct dispatch *out) {
    struct part all = {t, -1};
    int counted = 0;
    memset(out, 0, sizeof *out);
    for (int s = 0; s < t->shapes; s++)
        if (!isfinite(best_of(&all, s)))
            return fail(STATUS_ARGUMENT, "shape %d of the table has no point that runs", s + 1);
    if (!choose(&all, mean, worst, out))
        return fail(STATUS_ARGUMENT, "no set of points runs every shape of the table");
    for (int s = 0; s < t->shapes; s++) {
        out->left_out[s] = t->shapes < 3 ? NAN : leave_out(t, s, mean, worst);
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
