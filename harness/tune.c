#include "harness/tune.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/bench_work.h"
#include "harness/dispatch.h"
#include "harness/tune_plan.h"
#include "harness/tune_table.h"
#include "runtime/clock.h"
#include "runtime/config.h"

enum { CPU_AHEAD = 6, SEEDS = 4, NEAREST = 2, LEAST = 8 };
static const double speed_of_light = 0.98, worth_it = 0.005; /* shares of a time */

enum phase { WAITING, SEARCHING, STOPPING, CONTEST, CROSSING, DONE };

struct shape { /* a cell's search */
    enum phase phase;
    struct search_space space;
    int *row;   /* space.index */
    int *legal; /* the group's points, by the space's */
    int *of;    /* the space's point, by the group's; -1: not legal here */
    int counts[MAX_TUNABLES];
    struct search *search;
    int budget, patience, since_better;
    double best_ns;
    int winner; /* a group's point; -1: none */
    struct tuning row_of_store;
};

struct tuner {
    const struct tune_options *options;
    struct tune_outcome *out;
    struct shape *shape; /* by cell */
    double start_s;
    double work; /* of the searches that are over: see fixed_work() */
};

static struct shape *shape_of(struct tuner *t, const struct bench *b, const struct cell *c) {
    return &t->shape[c - b->plan.cell];
}

static enum status note_state(struct tuner *t, struct bench *b, const struct cell *c,
                              const char *state) {
    struct shape *s = shape_of(t, b, c);
    snprintf(s->row_of_store.state, sizeof s->row_of_store.state, "%s", state);
    return store_tuning(b->store, b->run, c->group->kernel, &c->problem, c->policy,
                        &s->row_of_store);
}

/* --- a shape's space ----------------------------------------------------------------------------
 */

static int value_index(const struct tunable *tunable, int value) {
    int i = 0;
    while (i < tunable->count - 1 && tunable->values[i] != value) i++;
    return i;
}

static void close_space(struct shape *s) {
    search_close(s->search);
    search_space_free(&s->space);
    free(s->row), free(s->legal), free(s->of);
    s->search = NULL, s->row = s->legal = s->of = NULL;
}

/* As a ceiling only, stream is searched like anything else, and so is what lies between. */
static bool exhausts(const struct tuner *t, const struct cell *c) {
    return t->options->exhaust && !c->is_ceiling && !c->is_cover;
}

static enum status open_space(struct tuner *t, struct bench *b, const struct cell *c) {
    struct shape *s = shape_of(t, b, c);
    const struct group *g = c->group;
    const struct kernel *kernel = g->kernel;
    int dims = kernel->tunable_count;
    s->row = calloc((size_t)g->points * (size_t)dims + 1, sizeof *s->row);
    s->legal = calloc((size_t)g->points + 1, sizeof *s->legal);
    s->of = calloc((size_t)g->points + 1, sizeof *s->of);
    if (!s->row || !s->legal || !s->of) return fail(STATUS_SYSTEM, "out of memory");
    int n = 0;
    for (int i = 0; i < g->points; i++) {
        s->of[i] = -1;
        if (!kernel->legal(&c->problem, &g->point[i], &b->out->device, NULL)) continue;
        for (int d = 0; d < dims; d++)
            s->row[n * dims + d] = value_index(&kernel->tunables[d], g->point[i].value[d]);
        s->legal[n] = i, s->of[i] = n++;
    }
    for (int d = 0; d < dims; d++) s->counts[d] = kernel->tunables[d].count;
    s->space =
        (struct search_space){.dims = dims, .counts = s->counts, .points = n, .index = s->row};
    TRY(search_space_index(&s->space));
    const struct strategy *strategy = exhausts(t, c) ? &strategy_exhaustive : t->options->strategy;
    return search_open(&s->space, strategy, b->options->seed, NULL, &s->search);
}

/* --- searching ----------------------------------------------------------------------------------
 */

static enum status queue_own(struct shape *s, struct cell *c, const struct point *point) {
    for (int i = 0; i < c->group->points; i++)
        if (point_equal(c->group->kernel, &c->group->point[i], point) && s->of[i] >= 0 &&
            search_take(s->search, s->of[i]))
            return cell_queue(c, i);
    return STATUS_OK;
}

/* What is likely good before anything is known: the default, the configured point, what won on the
 * shapes nearest in the chain, and on the same shape under another width. */
static enum status queue_seeds(struct tuner *t, struct bench *b, struct cell *c) {
    struct shape *s = shape_of(t, b, c);
    TRY(queue_own(s, c, &c->fallback));
    if (c->has_configured) TRY(queue_own(s, c, &c->configured));
    int taken = 0, here = (int)(c - b->plan.cell);
    for (int i = 2 * here - 1; i >= 0 && taken < SEEDS; i--) { /* the chain's first */
        const struct cell *before = &b->plan.cell[i % here];
        int winner = t->shape[i % here].winner;
        if (before->group->kernel != c->group->kernel || winner < 0) continue;
        if (cell_same_chain(before, c) != (i >= here)) continue;
        TRY(queue_own(s, c, &before->group->point[winner]));
        taken++;
    }
    return STATUS_OK;
}

/* A shape between others has what was fastest on those nearest to it, most of it compiled. */
static enum status queue_finalists(struct tuner *t, struct bench *b, struct cell *c) {
    bool used[MAX_SHAPES] = {false};
    TRY(queue_own(shape_of(t, b, c), c, &c->fallback));
    for (int taken = 0; taken < NEAREST; taken++) {
        const struct cell *nearest = NULL;
        double least = INFINITY;
        int chosen = 0;
        for (int i = 0, k = 0; i < b->plan.cells && k < MAX_SHAPES; i++) {
            const struct cell *o = &b->plan.cell[i];
            if (o->is_cover || !cell_same_chain(o, c)) continue;
            double far = config_distance(c->group->kernel, &c->problem, &o->problem);
            if (!used[k] && far < least) least = far, nearest = o, chosen = k;
            k++;
        }
        if (!nearest) return STATUS_OK;
        used[chosen] = true;
        for (int i = 0; i < nearest->best_count; i++)
            TRY(queue_own(shape_of(t, b, c), c, &nearest->best[i]));
    }
    return STATUS_OK;
}

static bool chain_allows(struct tuner *t, struct bench *b, const struct cell *c) {
    for (int i = (int)(c - b->plan.cell) - 1; i >= 0; i--)
        if (cell_same_chain(&b->plan.cell[i], c)) return t->shape[i].phase >= CROSSING;
    return true;
}

/* What a search costs beside its evaluations, counted in those: buffers, and a contest. */
static int fixed_work(const struct cell *c) { return c->is_ceiling ? 2 : c->is_cover ? 4 : 16; }

/* The share of its budget that a search may have, so that the last shapes have theirs, too: the
 * time that is left, at the rate so far, over what is left to search. 1: there is time for all, or
 * no limit, or too little was seen. */
static double share_of_time(const struct tuner *t, const struct bench *b) {
    enum { SEEN = 4 };
    double elapsed = clock_seconds() - t->start_s, left = 0, fixed = 0;
    bool given = t->options->evaluations || t->options->exhaust || t->options->seconds <= 0;
    if (given || t->out->shapes < SEEN) return 1;
    for (int i = 0; i < b->plan.cells; i++) {
        const struct cell *c = &b->plan.cell[i];
        if (t->shape[i].phase != WAITING) continue;
        left += tune_budget(b->options, t->options, c, c->group->points);
        fixed += fixed_work(c);
    }
    double affordable = (t->options->seconds - elapsed) * t->work / elapsed - fixed;
    return affordable < left ? fmax(affordable, 0) / left : 1;
}

static enum status begin_search(struct tuner *t, struct bench *b, struct cell *c) {
    struct shape *s = shape_of(t, b, c);
    TRY(open_space(t, b, c));
    int points = s->space.points;
    int budget = tune_budget(b->options, t->options, c, points);
    s->budget = (int)(budget * share_of_time(t, b));
    if (s->budget < LEAST) s->budget = budget < LEAST ? budget : LEAST;
    s->patience = exhausts(t, c) ? points : s->budget * 3 / 8 < 16 ? 16 : s->budget * 3 / 8;
    s->phase = SEARCHING;
    s->row_of_store.space = points;
    b->total += s->budget;
    TRY(c->is_cover ? queue_finalists(t, b, c) : queue_seeds(t, b, c));
    return note_state(t, b, c, "searching");
}

static bool time_is_over(const struct tuner *t) {
    return t->options->seconds > 0 && clock_seconds() - t->start_s > t->options->seconds;
}

/* Why the search is over, or NULL. */
static const char *reason_to_stop(struct tuner *t, const struct bench *b, const struct cell *c) {
    const struct shape *s = shape_of(t, b, c);
    const struct cell *ceiling = c->ceiling;
    if (!s->search->left_count && !s->search->out_count) return "exhausted";
    if (exhausts(t, c)) return NULL;
    if (ceiling && ceiling->scanned && ceiling->best_count &&
        s->best_ns * speed_of_light <= ceiling->best_ns[0])
        return "at the ceiling";
    if (s->search->told >= s->budget) return "budget";
    if (s->since_better >= s->patience) return "settled";
    return time_is_over(t) && s->search->worked ? "time" : NULL;
}

static enum status finish(struct tuner *t, struct bench *b, struct cell *c) {
    shape_of(t, b, c)->phase = DONE;
    c->open = false, c->finished = true;
    return note_state(t, b, c, "done");
}

static void set_winner(struct shape *s, const struct cell *c, int point, double ns) {
    s->winner = point;
    s->row_of_store.has_winner = true, s->row_of_store.winner = c->group->point[point];
    s->row_of_store.median_ns = ns;
}

static enum status end_search(struct tuner *t, struct bench *b, struct cell *c) {
    struct shape *s = shape_of(t, b, c);
    s->row_of_store.evaluations = s->search->told;
    b->total += s->search->told - s->budget;
    t->out->evaluations += s->search->told, t->out->shapes++;
    t->work += s->search->told + fixed_work(c);
    t->out->at_ceiling += !strcmp(s->row_of_store.stopped, "at the ceiling");
    int best = search_best(s->search);
    if (best >= 0) set_winner(s, c, s->legal[best], s->best_ns);
    close_space(s);
    c->scanned = true;
    if (c->is_ceiling) return finish(t, b, c);
    s->phase = c->best_count && !c->is_cover ? CONTEST : CROSSING;
    c->contest_sent = c->is_cover; /* its scan says enough */
    return c->is_cover ? note_state(t, b, c, "decided") : STATUS_OK;
}

/* Asks for the next points: one that can be timed at once, or some to be compiled. The CPU device
 * compiles several in one file, so that it asks for some together. */
static enum status ask(struct tuner *t, struct bench *b, struct cell *c) {
    struct shape *s = shape_of(t, b, c);
    int ahead = b->arch ? bench_ahead(b, c) : CPU_AHEAD;
    while (c->points - c->sent < ahead && s->search->told + s->search->out_count < s->budget) {
        int point = search_ask(s->search);
        if (point == SEARCH_NONE) break;
        TRY(cell_queue(c, s->legal[point]));
        if (c->group->compiled[s->legal[point]]) break;
    }
    return STATUS_OK;
}

/* Every winner of the chain, on this shape, too. */
static enum status queue_winners(struct tuner *t, struct bench *b, struct cell *c) {
    for (int i = 0; i < b->plan.cells; i++) {
        const struct cell *other = &b->plan.cell[i];
        int winner = t->shape[i].winner;
        if (winner < 0 || !cell_same_chain(other, c) || cell_position(c, winner) >= 0) continue;
        if (c->group->kernel->legal(&c->problem, &c->group->point[winner], &b->out->device, NULL))
            TRY(cell_queue(c, winner));
    }
    return STATUS_OK;
}

/* Are the chain's shapes decided, with those between them or without? */
static bool chain_decided(struct tuner *t, const struct bench *b, const struct cell *c,
                          bool with_covers) {
    for (int i = 0; i < b->plan.cells; i++)
        if (cell_same_chain(&b->plan.cell[i], c) && t->shape[i].phase < CROSSING &&
            (with_covers || !b->plan.cell[i].is_cover))
            return false;
    return true;
}

static enum status cross(struct tuner *t, struct bench *b, struct cell *c) {
    struct shape *s = shape_of(t, b, c);
    if (!chain_decided(t, b, c, true)) return STATUS_OK;
    if (s->phase != DONE) {
        int before = c->points;
        TRY(queue_winners(t, b, c));
        if (c->points > before) return STATUS_OK;
    }
    return c->done == c->points ? finish(t, b, c) : STATUS_OK;
}

/* --- what the scheduler calls -------------------------------------------------------------------
 */

static enum status more(void *context, struct bench *b, struct cell *c) {
    struct tuner *t = context;
    struct shape *s = shape_of(t, b, c);
    if (s->phase == WAITING) {
        bool ready = c->is_cover ? chain_decided(t, b, c, false) : chain_allows(t, b, c);
        if (!ready) return STATUS_OK;
        if (!c->is_cover || !time_is_over(t)) return begin_search(t, b, c);
        s->phase = CROSSING; /* no time for a search of its own: what won elsewhere */
    }
    if (s->phase == SEARCHING) return ask(t, b, c);
    return s->phase == CROSSING ? cross(t, b, c) : STATUS_OK;
}

static enum status told(void *context, struct bench *b, struct cell *c, int position) {
    struct tuner *t = context;
    struct shape *s = shape_of(t, b, c);
    double ns = c->ns[position];
    if (s->phase != SEARCHING && s->phase != STOPPING) return STATUS_OK;
    search_tell(s->search, s->of[c->order[position]], ns);
    s->since_better++;
    if (ns < s->best_ns * (1 - worth_it)) s->since_better = 0;
    s->best_ns = fmin(s->best_ns, ns);
    const char *why = s->phase == SEARCHING ? reason_to_stop(t, b, c) : NULL;
    if (why) {
        snprintf(s->row_of_store.stopped, sizeof s->row_of_store.stopped, "%s", why);
        s->phase = STOPPING;
        bench_forget(b, c);
    }
    return s->phase == STOPPING && c->done == c->points ? end_search(t, b, c) : STATUS_OK;
}

/* The fastest of a contest, or its default unless that was beaten beyond doubt. */
static void judge(struct tuner *t, struct shape *s, const struct cell *c,
                  const struct record *records, int count) {
    const struct record *best = NULL, *fallback = NULL;
    struct tuning *row = &s->row_of_store;
    double r[MAX_SAMPLES];
    for (int i = 0; i < count; i++) {
        const struct record *one = &records[i];
        if (one->status) continue;
        if (!strcmp(one->subject, "ceiling")) {
            if (!row->ceiling_ns || one->summary.median < row->ceiling_ns)
                row->ceiling_ns = one->summary.median;
            continue;
        }
        if (!strcmp(one->subject, "default")) fallback = one;
        if (!best || one->summary.median < best->summary.median) best = one;
    }
    if (!best) return;
    row->margin = row->margin_low = 1;
    if (fallback && fallback != best) {
        int n = fallback->summary.count < best->summary.count ? fallback->summary.count
                                                              : best->summary.count;
        for (int i = 0; i < n; i++) r[i] = log(fallback->samples[i] / best->samples[i]);
        struct ratio ratio = stats_ratio(r, n, 0);
        if (ratio.low > 1)
            row->margin = ratio.ratio, row->margin_low = ratio.low;
        else
            best = fallback;
    }
    if (fallback) row->default_ns = fallback->summary.median;
    t->out->kept_defaults += best == fallback;
    row->low_ns = best->summary.low, row->high_ns = best->summary.high;
    for (int i = 0; i < c->group->points; i++)
        if (point_equal(c->group->kernel, &c->group->point[i], &best->point))
            set_winner(s, c, i, best->summary.median);
}

static enum status contested(void *context, struct bench *b, struct cell *c,
                             const struct record *records, int count) {
    struct tuner *t = context;
    struct shape *s = shape_of(t, b, c);
    judge(t, s, c, records, count);
    s->phase = CROSSING;
    return note_state(t, b, c, "decided");
}

/* What an interrupted run had decided stays so. */
static enum status recall(struct tuner *t, struct bench *b, struct cell *c) {
    struct shape *s = shape_of(t, b, c);
    struct tuning row;
    bool found = false;
    TRY(store_get_tuning(b->store, b->out->device.slug, c->group->kernel, &c->problem, c->policy,
                         &row, &found));
    for (int i = 0; i < c->group->points && found; i++)
        if (point_equal(c->group->kernel, &c->group->point[i], &row.winner)) s->winner = i;
    if (s->winner < 0) return STATUS_OK;
    s->row_of_store = row;
    s->best_ns = row.median_ns;
    /* a ceiling's cell is what others are compared with */
    c->best_count = 1, c->best[0] = row.winner, c->best_ns[0] = row.median_ns;
    c->scanned = c->contest_sent = true;
    s->phase = CROSSING;
    if (c->is_ceiling) return finish(t, b, c);
    TRY(cell_queue(c, s->winner));
    return note_state(t, b, c, "decided");
}

static enum status begin(void *context, struct bench *b) {
    struct tuner *t = context;
    t->shape = calloc((size_t)b->plan.cells + 1, sizeof *t->shape);
    if (!t->shape) return fail(STATUS_SYSTEM, "out of memory");
    t->start_s = clock_seconds();
    for (int i = 0; i < b->plan.cells; i++) {
        struct cell *c = &b->plan.cell[i];
        struct shape *s = &t->shape[i];
        *s = (struct shape){.winner = -1, .best_ns = INFINITY};
        snprintf(s->row_of_store.strategy, sizeof s->row_of_store.strategy, "%s",
                 exhausts(t, c) ? "exhaustive" : t->options->strategy->name);
        c->open = true;
        if (b->options->resume) TRY(recall(t, b, c));
        if (s->phase == WAITING) TRY(note_state(t, b, c, "waiting"));
    }
    return STATUS_OK;
}

static enum status end(void *context, struct bench *b) {
    struct tuner *t = context;
    if (bench_interrupted) return STATUS_OK;
    struct tune_tables tables;
    int *winner = calloc((size_t)b->plan.cells + 1, sizeof *winner);
    if (!winner) return fail(STATUS_SYSTEM, "out of memory");
    for (int i = 0; i < b->plan.cells; i++) winner[i] = t->shape[i].winner;
    struct tuning *row = calloc((size_t)b->plan.cells + 1, sizeof *row);
    for (int i = 0; i < b->plan.cells && row; i++) row[i] = t->shape[i].row_of_store;
    enum status status =
        row ? tune_make_tables(b, winner, row, &tables) : fail(STATUS_SYSTEM, "out of memory");
    free(winner), free(row);
    if (status) return status;
    t->out->points = tables.points;
    t->out->regret_mean = tables.regret_mean, t->out->regret_worst = tables.regret_worst;
    t->out->left_out_mean = tables.left_out_mean, t->out->left_out_worst = tables.left_out_worst;
    return STATUS_OK;
}

enum status tune_run(const struct bench_options *bench, const struct tune_options *options,
                     struct store *store, struct tune_outcome *out) {
    struct tuner t = {.options = options, .out = out};
    struct chooser chooser = {&t, begin, end, more, told, contested};
    struct bench_options own = *bench;
    *out = (struct tune_outcome){0};
    own.tune = true, own.baselines = false;
    enum status status = bench_run(&own, store, &chooser, &out->bench);
    for (int i = 0; t.shape && i < out->bench.cells; i++) close_space(&t.shape[i]);
    free(t.shape);
    return status;
}
