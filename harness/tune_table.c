#include "harness/tune_table.h"

#include <math.h>
#include <stdlib.h>

#include "harness/dispatch.h"

static const double mean_regret = 0.01, worst_regret = 0.03;

struct chain {
    int cell[MAX_SHAPES], cells;
    int point[MAX_CANDIDATES]; /* of the group */
};

static void add_candidate(struct chain *chain, struct dispatch_times *t, int point, int shape) {
    int p = 0;
    while (p < t->points && chain->point[p] != point) p++;
    if (p == MAX_CANDIDATES) return;
    t->owner[p] = p == t->points ? shape : -1;
    if (p == t->points) chain->point[t->points++] = point;
}

static void fill_times(const struct bench *b, const int *winner, struct chain *chain,
                       struct dispatch_times *t) {
    t->shapes = chain->cells, t->points = 0;
    t->axes = b->plan.cell[chain->cell[0]].group->kernel->size_count;
    for (int s = 0; s < chain->cells; s++)
        if (winner[chain->cell[s]] >= 0) add_candidate(chain, t, winner[chain->cell[s]], s);
    for (int s = 0; s < chain->cells; s++) {
        const struct cell *c = &b->plan.cell[chain->cell[s]];
        for (int p = 0; p < t->points; p++) {
            int at = cell_position(c, chain->point[p]);
            t->ns[s][p] = at < 0 || isnan(c->ns[at]) ? INFINITY : c->ns[at];
        }
        for (int i = 0; i < c->group->kernel->size_count; i++)
            t->at[s][i] = log((double)c->problem.size[i] + 1); /* as config_distance() */
    }
}

/* The problem halfway between two others of a chain, as config_distance() sees it. False: there is
 * none, or not one on which the point runs. */
static bool problem_between(const struct bench *b, const struct cell *one, const struct cell *other,
                            const struct point *point, struct problem *out) {
    const struct kernel *kernel = one->group->kernel;
    *out = one->problem;
    for (int i = 0; i < kernel->size_count; i++)
        out->size[i] = llround(
            sqrt(((double)one->problem.size[i] + 1) * ((double)other->problem.size[i] + 1)) - 1);
    return !problem_equal(out, &one->problem) && !problem_equal(out, &other->problem) &&
           !problem_check(kernel, out, (double)b->out->device.memory_bytes) &&
           kernel->legal(out, point, &b->out->device, NULL);
}

/* Bridges are rows without a time. A pair that needs none has a row without a point, which takes an
 * older one's place. */
static enum status store_bridges(struct bench *b, const struct chain *chain,
                                 const struct dispatch *d, struct tune_tables *out) {
    for (int i = 0; i < d->bridges; i++) {
        const struct dispatch_bridge *bridge = &d->bridge[i];
        const struct cell *one = &b->plan.cell[chain->cell[bridge->a]];
        const struct cell *other = &b->plan.cell[chain->cell[bridge->b]];
        struct tuning row = {.state = "done", .stopped = "between", .left_out = NAN};
        struct problem problem;
        row.launched = one->group->point[chain->point[bridge->point]];
        row.has_launched = bridge->needed;
        if (!problem_between(b, one, other, &row.launched, &problem)) continue;
        TRY(store_tuning(b->store, b->run, one->group->kernel, &problem, one->policy, &row));
        out->bridges += bridge->needed;
    }
    return STATUS_OK;
}

static enum status make_table(struct bench *b, const int *winner, struct tuning *row,
                              struct chain *chain, struct tune_tables *out, int counted[2]) {
    struct dispatch_times *t = calloc(1, sizeof *t);
    struct dispatch d;
    if (!t) return fail(STATUS_SYSTEM, "out of memory");
    fill_times(b, winner, chain, t);
    enum status status = t->points ? dispatch_choose(t, mean_regret, worst_regret, &d) : STATUS_OK;
    bool made = t->points && !status;
    for (int s = 0; s < chain->cells && made; s++) {
        const struct cell *c = &b->plan.cell[chain->cell[s]];
        struct tuning *r = &row[chain->cell[s]];
        r->has_launched = true, r->launched = c->group->point[chain->point[d.choice[s]]];
        r->launched_ns = t->ns[s][d.choice[s]];
        /* the winner's own time is its contest's, better known than its scan */
        if (r->has_winner && point_equal(c->group->kernel, &r->winner, &r->launched))
            r->launched_ns = r->median_ns;
        r->regret = d.regret[s], r->left_out = d.left_out[s];
        out->regret_mean += d.regret[s], counted[0]++;
        out->regret_worst = fmax(out->regret_worst, d.regret[s]);
        if (isnan(d.left_out[s])) continue;
        out->left_out_mean += d.left_out[s], counted[1]++;
        out->left_out_worst = fmax(out->left_out_worst, d.left_out[s]);
    }
    out->tables += made, out->points += made ? d.distinct : 0;
    free(t);
    if (made) return store_bridges(b, chain, &d, out);
    return STATUS_OK; /* a chain without a point that runs everywhere keeps each shape's winner */
}

static enum status store_rows(struct bench *b, const struct tuning *row,
                              const struct chain *chain) {
    for (int s = 0; s < chain->cells; s++) {
        const struct cell *c = &b->plan.cell[chain->cell[s]];
        TRY(store_tuning(b->store, b->run, c->group->kernel, &c->problem, c->policy,
                         &row[chain->cell[s]]));
    }
    return STATUS_OK;
}

enum status tune_make_tables(struct bench *b, const int *winner, struct tuning *row,
                             struct tune_tables *out) {
    int counted[2] = {0, 0};
    bool *done = calloc((size_t)b->plan.cells + 1, sizeof *done);
    enum status status = done ? STATUS_OK : fail(STATUS_SYSTEM, "out of memory");
    *out = (struct tune_tables){0};
    for (int i = 0; i < b->plan.cells && !status; i++) {
        struct chain chain = {.cells = 0};
        const struct cell *first = &b->plan.cell[i];
        if (done[i] || first->is_ceiling) continue;
        for (int k = i; k < b->plan.cells && chain.cells < MAX_SHAPES; k++) {
            const struct cell *c = &b->plan.cell[k];
            if (done[k] || c->is_ceiling || !cell_same_chain(c, first)) continue;
            chain.cell[chain.cells++] = k, done[k] = true;
        }
        status = make_table(b, winner, row, &chain, out, counted);
        if (!status) status = store_rows(b, row, &chain);
    }
    free(done);
    if (counted[0]) out->regret_mean /= counted[0];
    if (counted[1]) out->left_out_mean /= counted[1];
    return status;
}
