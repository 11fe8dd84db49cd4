#include "harness/tune_plan.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/bench_work.h"
#include "kernels/registry.h"
#include "runtime/config.h"

enum {
    CEILING = 24, /* few: all sizes share one space, and each begins with what won before */
    BETWEEN = 20, /* half of it what its neighbours found */
    LEAST = 24,
    MOST = 64,
    QUICK = 8,
    WINNERS = 6 /* distinct ones in a chain; each is tried on every shape */
};

int tune_budget(const struct bench_options *bench, const struct tune_options *options,
                const struct cell *cell, int points) {
    int tenth = points / 10, budget = tenth < LEAST ? LEAST : tenth > MOST ? MOST : tenth;
    if (cell->is_ceiling) budget = CEILING;
    if (cell->is_cover) budget = BETWEEN;
    if (bench->quick) budget = QUICK;
    if (options->evaluations) budget = options->evaluations;
    if (options->exhaust && !cell->is_ceiling && !cell->is_cover) budget = points;
    return budget < points ? budget : points;
}

static int legal_points(const struct cell *c, const struct device_info *device) {
    int legal = 0;
    for (int i = 0; i < c->group->points; i++)
        legal += c->group->kernel->legal(&c->problem, &c->group->point[i], device, NULL);
    return legal;
}

static struct tune_work *work_of(struct tune_work *work, int capacity, int *count,
                                 const char *kernel) {
    for (int i = 0; i < *count; i++)
        if (!strcmp(work[i].kernel, kernel)) return &work[i];
    if (*count == capacity) return NULL;
    struct tune_work *w = &work[(*count)++];
    *w = (struct tune_work){.smallest = INT_MAX};
    snprintf(w->kernel, sizeof w->kernel, "%s", kernel);
    return w;
}

static bool begins_chain(const struct plan_of_bench *plan, int cell) {
    for (int i = 0; i < cell; i++)
        if (cell_same_chain(&plan->cell[i], &plan->cell[cell])) return false;
    return true;
}

static void add_cell_work(const struct plan_of_bench *plan, int cell, int points, int budget,
                          struct tune_work *w) {
    const struct cell *c = &plan->cell[cell];
    w->ceilings += c->is_ceiling, w->between += c->is_cover;
    w->problems += !c->is_ceiling && !c->is_cover;
    w->chains += begins_chain(plan, cell);
    if (points < w->smallest) w->smallest = points;
    if (points > w->largest) w->largest = points;
    w->evaluations += budget;
    if (!c->is_ceiling) w->evaluations += WINNERS < points - budget ? WINNERS : points - budget;
}

/* Shapes of a group share their binaries. */
static void add_compilations(const struct plan_of_bench *plan, const int *budget,
                             struct tune_work *work, int capacity, int *count) {
    for (int g = 0; g < plan->groups; g++) {
        const struct group *group = plan->group[g];
        int wanted = 0;
        for (int i = 0; i < plan->cells; i++)
            if (plan->cell[i].group == group) wanted += budget[i];
        struct tune_work *w = work_of(work, capacity, count, group->kernel->name);
        if (w) w->compilations += wanted < group->points ? wanted : group->points;
    }
}

static void sum_up(struct tune_work *work, int capacity, int *count) {
    struct tune_work *all = work_of(work, capacity, count, "all");
    for (int i = 0; all && &work[i] != all; i++) {
        const struct tune_work *w = &work[i];
        all->problems += w->problems, all->between += w->between, all->ceilings += w->ceilings;
        all->chains += w->chains, all->evaluations += w->evaluations;
        all->compilations += w->compilations;
        if (w->smallest < all->smallest) all->smallest = w->smallest;
        if (w->largest > all->largest) all->largest = w->largest;
    }
}

enum status tune_plan_work(const struct bench_options *bench, const struct tune_options *options,
                           const struct device_info *device, struct tune_work *work, int capacity,
                           int *count) {
    struct bench_options own = *bench;
    struct plan_of_bench plan;
    struct config *config;
    own.tune = true, own.baselines = false;
    *count = 0;
    TRY(config_open(bench->configs, device, registry_find, &config));
    enum status status = bench_plan(&own, device, config, &plan);
    int *budget = status ? NULL : calloc((size_t)plan.cells + 1, sizeof *budget);
    if (!status && !budget) status = fail(STATUS_SYSTEM, "out of memory");
    for (int i = 0; i < plan.cells && !status; i++) {
        int points = legal_points(&plan.cell[i], device);
        budget[i] = tune_budget(&own, options, &plan.cell[i], points);
        struct tune_work *w = work_of(work, capacity, count, plan.cell[i].group->kernel->name);
        if (w) add_cell_work(&plan, i, points, budget[i], w);
    }
    if (!status) add_compilations(&plan, budget, work, capacity, count);
    if (!status) sum_up(work, capacity, count);
    free(budget);
    bench_plan_free(&plan);
    config_close(config);
    return status;
}
