#include "harness/bench_work.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/worker.h"
#include "runtime/clock.h"
#include "runtime/json_text.h"

enum { CONTENDERS = 3 };
volatile sig_atomic_t bench_interrupted;

/* --- requests
 * -------------------------------------------------------------------------------------- */

json_t *bench_request(const char *op, const struct kernel *kernel, const struct problem *problem) {
    char text[MAX_TEXT];
    problem_format(kernel, problem, text);
    return json_pack("{s:s, s:s, s:s, s:s}", "op", op, "kernel", kernel->name, "dtype",
                     dtype_name(problem->dtype), "problem", text);
}

json_t *bench_point_json(const struct kernel *kernel, const struct point *point) {
    char text[MAX_TEXT];
    point_format(kernel, point, text);
    return json_string(text);
}

/* A search learns nothing from how far exactly a point lies behind by a quarter; a scan of a whole
 * space is there to tell. */
static struct limits scan_limits(const struct bench *b, const struct cell *c) {
    const double hopeless = 1.25;
    if (b->out->device.kind == DEVICE_CPU) return (struct limits){3, 3, 0.05, 2, false, 0};
    struct limits limits = {10, b->options->quick ? 10 : 16, 0.005, 0.2, false, 0};
    if (b->chooser && !b->options->exhaust && c->best_count)
        limits.hopeless_ns = hopeless * c->best_ns[0];
    return limits;
}
static struct limits contest_limits(const struct bench *b) {
    if (b->out->device.kind == DEVICE_CPU)
        return (struct limits){3, 5, 0.05, 3, b->options->tune, 0};
    return (struct limits){15, b->options->quick ? 25 : 60, 0.005, 0.6, b->options->tune, 0};
}

enum status bench_send(struct bench *b, int worker, json_t *request, struct job job,
                       double seconds) {
    struct job *copy = malloc(sizeof *copy);
    *copy = job;
    copy->prompt = !b->starved[worker];
    return pool_send(&b->pool, worker, request, copy, seconds);
}

/* A point may take ten times what the slowest of its cell took; the first ones have a minute. */
static double time_limit(const struct bench *b, const struct cell *c) {
    double least = b->out->device.kind == DEVICE_CPU ? 10 : 2;
    return c->longest_s > 0 ? fmin(60, fmax(least, 10 * c->longest_s)) : 60;
}

static enum status send_evaluate(struct bench *b, int worker, struct cell *c, int position) {
    const struct point *point = &c->group->point[c->order[position]];
    struct limits limits = scan_limits(b, c);
    json_t *request = bench_request("evaluate", c->group->kernel, &c->problem);
    json_object_set_new(request, "policy", json_string(policy_text(c->policy)));
    json_object_set_new(request, "point", bench_point_json(c->group->kernel, point));
    json_object_set_new(request, "limits", limits_to_json(&limits));
    c->owner = worker, b->current[worker] = c;
    b->out->served[worker]++;
    return bench_send(
        b, worker, request,
        (struct job){.kind = JOB_EVALUATE, .group = c->group, .cell = c, .position = position},
        time_limit(b, c));
}

static void add_contender(json_t *points, const char *name, const struct kernel *kernel,
                          const struct point *point) {
    json_array_append_new(points, json_pack("[s, o]", name, bench_point_json(kernel, point)));
}

static bool is_deadly(const struct group *g, const struct point *point) {
    for (int i = 0; i < g->points; i++)
        if (g->deadly[i] && point_equal(g->kernel, &g->point[i], point)) return true;
    return false;
}

static enum status send_contest(struct bench *b, int worker, struct cell *c) {
    const struct kernel *kernel = c->group->kernel;
    struct limits limits = contest_limits(b);
    json_t *request = bench_request("contest", kernel, &c->problem), *points = json_array();
    int most = b->options->quick ? 1 : b->options->tune ? BEST : CONTENDERS;
    int best = c->best_count < most ? c->best_count : most;
    for (int i = 0; i < best; i++)
        if (!point_equal(kernel, &c->best[i], &c->fallback))
            add_contender(points, "kernel", kernel, &c->best[i]);
    if (!is_deadly(c->group, &c->fallback)) add_contender(points, "default", kernel, &c->fallback);
    if (c->has_configured && !is_deadly(c->group, &c->configured) &&
        !point_equal(kernel, &c->configured, &c->fallback)) {
        bool there = false;
        for (int i = 0; i < best; i++) there |= point_equal(kernel, &c->configured, &c->best[i]);
        if (!there) add_contender(points, "configured", kernel, &c->configured);
    }
    for (int i = 0; c->ceiling && i < c->ceiling->best_count && i < 2; i++)
        add_contender(points, "ceiling", c->ceiling->group->kernel, &c->ceiling->best[i]);
    json_object_set_new(request, "points", points);
    json_object_set_new(request, "policy", json_string(policy_text(c->policy)));
    json_object_set_new(request, "baselines", json_boolean(b->options->baselines && !c->alone));
    json_object_set_new(request, "energy", json_boolean(b->options->energy));
    json_object_set_new(request, "limits", limits_to_json(&limits));
    c->contest_sent = true;
    return bench_send(b, worker, request,
                      (struct job){.kind = JOB_CONTEST, .group = c->group, .cell = c}, 120);
}

/* --- what a point's turn is
 * ----------------------------------------------------------------------- */

/* The earlier position of the cell with the same machine code and geometry; -1: there is none. */
static int twin_of(struct bench *b, const struct cell *c, int position) {
    const struct group *g = c->group;
    int index = c->order[position];
    if (!g->build[index].code_hash[0]) return -1;
    struct plan mine = g->kernel->plan(&c->problem, &g->point[index], &b->out->device);
    for (int i = 0; i < position; i++) {
        int other = c->order[i];
        if (strcmp(g->build[other].code_hash, g->build[index].code_hash) != 0) continue;
        struct plan theirs = g->kernel->plan(&c->problem, &g->point[other], &b->out->device);
        if (theirs.stages == mine.stages &&
            !memcmp(theirs.stage[0].grid, mine.stage[0].grid, sizeof mine.stage[0].grid) &&
            !memcmp(theirs.stage[0].block, mine.stage[0].block, sizeof mine.stage[0].block) &&
            theirs.stage[0].shared_bytes == mine.stage[0].shared_bytes)
            return i;
    }
    return -1;
}

static void note_result(struct bench *b, struct cell *c, const struct point *point, double ns) {
    if (!(ns > 0)) return;
    int at = c->best_count;
    while (at > 0 && c->best_ns[at - 1] > ns) at--;
    if (at == BEST) return;
    if (c->best_count < BEST) c->best_count++;
    for (int i = c->best_count - 1; i > at; i--)
        c->best_ns[i] = c->best_ns[i - 1], c->best[i] = c->best[i - 1];
    c->best_ns[at] = ns, c->best[at] = *point;
    struct cost cost = c->group->kernel->cost(&c->problem);
    snprintf(b->best, sizeof b->best, "best %.2f us, %.0f GB/s", c->best_ns[0] / 1e3,
             (cost.read_bytes + cost.write_bytes) / c->best_ns[0]);
}

/* Does the point need no worker: it did not compile, is another's twin, or was done before? Its
 * time is then known, or INFINITY. */
static enum status settled_before(struct bench *b, struct cell *c, int position, bool *out) {
    struct group *g = c->group;
    int index = c->order[position];
    struct record r = {.problem = c->problem, .has_point = true, .point = g->point[index]};
    *out = true, c->ns[position] = INFINITY;
    r.build = g->build[index];
    snprintf(r.subject, sizeof r.subject, "kernel");
    snprintf(r.kernel, sizeof r.kernel, "%s", g->kernel->name);
    if (r.build.status) {
        r.status = r.build.status;
        snprintf(r.reason, sizeof r.reason, "%.500s", r.build.log);
        b->out->failed++;
        return store_record(b->store, b->run, c->policy, 0, &r);
    }
    if (b->chooser && (r.build.spill_bytes > 0 || r.build.blocks_per_sm == 0)) {
        r.status = STATUS_LAUNCH; /* a tuner does not time what cannot be good */
        snprintf(r.reason, sizeof r.reason,
                 r.build.spill_bytes > 0 ? "spills %d bytes to local memory: not timed"
                                         : "no block of it fits a multiprocessor: not timed",
                 r.build.spill_bytes);
        b->out->failed++;
        return store_record(b->store, b->run, c->policy, 0, &r);
    }
    if (b->options->resume) {
        bool has;
        double median;
        TRY(store_has(b->store, b->out->device.slug, c->policy, &r, &has, &median));
        if (has && median > 0) c->ns[position] = median;
        if (has) return note_result(b, c, &r.point, median), STATUS_OK;
    }
    if (!b->options->retry) {
        bool deadly = false, dirty;
        if (b->any_deadly)
            TRY(store_is_deadly(b->store, b->out->device.slug, bench_commit(&dirty), &r, &deadly));
        if (deadly || g->deadly[index]) {
            g->deadly[index] = true;
            b->out->quarantined++;
            return STATUS_OK;
        }
    }
    int twin = twin_of(b, c, position);
    if (twin >= 0) c->ns[position] = c->ns[twin];
    /* one that is still being timed tells a chooser nothing */
    *out = twin >= 0 && (!b->chooser || !isnan(c->ns[twin]));
    if (!*out) c->ns[position] = NAN;
    return STATUS_OK;
}

/* Brings a point that has its binary to the front of those that were not sent; false: none has. A
 * chooser's points need not wait for one another. A plan's wait for all of their group: which of
 * them are twins must not hang on what was compiled first. */
static bool bring_ready(const struct bench *b, struct cell *c) {
    const struct group *g = c->group;
    if (!b->chooser) return c->sent < c->points && g->done == g->wanted_count;
    for (int i = c->sent; i < c->points; i++) {
        int point = c->order[i];
        if (!g->compiled[point]) continue;
        memmove(&c->order[c->sent + 1], &c->order[c->sent],
                (size_t)(i - c->sent) * sizeof *c->order);
        c->order[c->sent] = point;
        c->starved_s = 0;
        return true;
    }
    if (c->starved_s <= 0 && c->sent < c->points) c->starved_s = clock_seconds();
    return false;
}

/* A resumed cell with nothing new and a contest on record has nothing left to do. */
static enum status skip_contest(struct bench *b, struct cell *c, bool *out) {
    struct record like = {.problem = c->problem};
    *out = false;
    if (!b->options->resume || c->fresh || b->chooser) return STATUS_OK;
    snprintf(like.kernel, sizeof like.kernel, "%s", c->group->kernel->name);
    TRY(store_has_contest(b->store, b->out->device.slug, c->policy, &like, out));
    if (*out) c->finished = true, b->done++;
    return STATUS_OK;
}

static enum status finish_point(struct bench *b, struct cell *c, int position) {
    c->done++, b->done++;
    if (b->chooser) return b->chooser->told(b->chooser->context, b, c, position);
    c->scanned = c->done == c->points;
    if (c->scanned && (c->is_ceiling || !c->best_count)) c->finished = true;
    return STATUS_OK;
}

/* Sends the cell's next point, if there is one that needs a worker. */
static enum status feed_point(struct bench *b, int worker, struct cell *c, bool *sent) {
    for (;;) {
        if (c->open && c->points - c->sent < bench_ahead(b, c))
            TRY(b->chooser->more(b->chooser->context, b, c));
        if (!bring_ready(b, c)) return STATUS_OK;
        bool settled;
        int position = c->sent++;
        TRY(settled_before(b, c, position, &settled));
        if (settled) {
            TRY(finish_point(b, c, position));
            continue;
        }
        char problem[MAX_TEXT];
        problem_format(c->group->kernel, &c->problem, problem);
        snprintf(b->doing, sizeof b->doing, "%s %.90s %s", c->group->kernel->name, problem,
                 policy_text(c->policy));
        if (c->done == 0) b->best[0] = 0;
        *sent = true;
        return send_evaluate(b, worker, c, position);
    }
}

static enum status feed_cell(struct bench *b, int worker, struct cell *c, bool *sent) {
    /* times that are compared come from one device */
    bool one_device = b->chooser || b->arch;
    if (c->finished || (one_device && c->owner >= 0 && c->owner != worker)) return STATUS_OK;
    TRY(feed_point(b, worker, c, sent));
    if (*sent || !c->scanned || c->contest_sent || c->finished || c->is_ceiling ||
        (c->ceiling && !c->ceiling->scanned))
        return STATUS_OK;
    bool skip;
    TRY(skip_contest(b, c, &skip));
    if (skip) return STATUS_OK;
    *sent = true;
    return send_contest(b, worker, c);
}

/* Finds something for a worker with a device: a point, or a contest. *sent false: nothing now. */
static enum status feed_device(struct bench *b, int worker, bool *sent) {
    *sent = false;
    while (b->first_cell < b->plan.cells && b->plan.cell[b->first_cell].finished) b->first_cell++;
    /* changing the problem costs new buffers: a chooser's cell is left when it has to wait */
    if (b->chooser && b->current[worker]) TRY(feed_cell(b, worker, b->current[worker], sent));
    for (int i = b->first_cell; i < b->plan.cells && !*sent; i++)
        TRY(feed_cell(b, worker, &b->plan.cell[i], sent));
    return STATUS_OK;
}

static enum status feed(struct bench *b, int worker) {
    bool sent = false;
    const struct worker *w = &b->pool.worker[worker];
    /* a CPU worker does both; a GPU's own worker leaves compiling to the others */
    if (w->device[0]) TRY(feed_device(b, worker, &sent));
    if (!sent && (!w->device[0] || !b->arch)) TRY(bench_feed_compiler(b, worker, &sent));
    return STATUS_OK;
}

/* --- replies
 * ---------------------------------------------------------------------------------------- */

static void count_seconds(struct bench *b, const struct record *r) {
    b->out->measure_s += r->seconds_measuring + r->seconds_verifying;
}

static enum status take_evaluated(struct bench *b, const struct job *job, const json_t *reply) {
    struct cell *c = job->cell;
    int index = c->order[job->position];
    struct record *r = &b->taken[0];
    const json_t *record = json_array_get(json_object_get(reply, "records"), 0);
    if (record) {
        TRY(record_from_json(record, r));
    } else { /* the worker died, ran over its time, or had no memory for the problem */
        *r = (struct record){.status = status_parse(json_text(reply, "status")),
                             .problem = c->problem,
                             .has_point = true,
                             .point = c->group->point[index],
                             .build = c->group->build[index],
                             .telemetry = NO_TELEMETRY};
        snprintf(r->reason, sizeof r->reason, "%.500s", json_text(reply, "message"));
        snprintf(r->subject, sizeof r->subject, "kernel");
        snprintf(r->kernel, sizeof r->kernel, "%s", c->group->kernel->name);
    }
    b->taken_count = 1;
    b->out->points++, c->fresh++;
    c->group->deadly[index] |= r->status == STATUS_CRASH || r->status == STATUS_TIMEOUT;
    double took_s = r->seconds_compiling + r->seconds_verifying + r->seconds_measuring;
    if (!r->status) {
        c->longest_s = fmax(c->longest_s, took_s);
        c->shortest_s = c->shortest_s > 0 ? fmin(c->shortest_s, took_s) : took_s;
    }
    if (r->status)
        b->out->failed++;
    else
        note_result(b, c, &r->point, r->summary.median);
    c->ns[job->position] = r->status ? INFINITY : r->summary.median;
    count_seconds(b, r);
    return finish_point(b, c, job->position);
}

static void say_lost(struct bench *b, const struct cell *c, bool again, const char *why) {
    char problem[MAX_TEXT];
    problem_format(c->group->kernel, &c->problem, problem);
    progress_clear(&b->progress);
    fprintf(stderr, "fastinfer: %s %.120s %s: the contest was lost%s: %s\n", c->group->kernel->name,
            problem, policy_text(c->policy), again ? " and is held again without PyTorch" : "",
            why);
}

static enum status take_contest(struct bench *b, const struct job *job, const json_t *reply) {
    const json_t *records = json_object_get(reply, "records");
    struct cell *c = job->cell;
    int count = (int)json_array_size(records);
    if (!count) {
        bool again = b->options->baselines && !c->alone;
        say_lost(b, c, again, json_text(reply, "message"));
        b->out->failed++;
        if (again) {
            c->alone = true, c->contest_sent = false;
            return STATUS_OK;
        }
    }
    b->done++;
    for (int i = 0; i < count && i < MAX_TAKEN; i++) {
        TRY(record_from_json(json_array_get(records, (size_t)i), &b->taken[i]));
        count_seconds(b, &b->taken[i]);
        b->taken_count++;
    }
    if (b->chooser)
        return b->chooser->contested(b->chooser->context, b, c, b->taken, b->taken_count);
    c->finished = true;
    return STATUS_OK;
}

/* What the last reply brought goes into the database, while the worker is at work again. */
static enum status store_taken(struct bench *b) {
    const struct cell *c = b->taken_job.cell;
    int64_t contest = 0;
    if (b->taken_count && b->taken_job.kind == JOB_CONTEST)
        TRY(store_new_contest(b->store, &contest));
    for (int i = 0; i < b->taken_count; i++)
        TRY(store_record(b->store, b->run, c->policy, contest, &b->taken[i]));
    return STATUS_OK;
}

static enum status take(struct bench *b, const struct job *job, const json_t *reply) {
    b->taken_job = *job, b->taken_count = 0;
    if (job->kind == JOB_COMPILE) return bench_take_compiled(b, job, reply);
    if (job->prompt) b->out->isolation_s += json_number_value(json_object_get(reply, "waited_s"));
    if (job->kind == JOB_EVALUATE) return take_evaluated(b, job, reply);
    return take_contest(b, job, reply);
}

/* --- the loop
 * ----------------------------------------------------------------------------------------- */

static int busy_workers(const struct bench *b) {
    int busy = 0;
    for (int i = 0; i < b->pool.count; i++) busy += b->pool.worker[i].busy;
    return busy;
}

static enum status feed_idle(struct bench *b, int worker) {
    if (bench_interrupted || b->pool.worker[worker].busy) return STATUS_OK;
    TRY(feed(b, worker));
    b->starved[worker] = !b->pool.worker[worker].busy;
    return STATUS_OK;
}

enum status bench_work(struct bench *b) {
    for (;;) {
        for (int i = 0; i < b->pool.count; i++) TRY(feed_idle(b, i));
        if (!busy_workers(b)) return STATUS_OK;
        progress_show(&b->progress, b->doing, b->done, b->total, b->best, false);
        int worker;
        json_t *reply;
        void *job;
        TRY(pool_wait(&b->pool, 0.5, &worker, &reply, &job));
        if (worker < 0) continue;
        enum status status = take(b, job, reply);
        json_decref(reply);
        free(job);
        TRY(status);
        status = feed_idle(b, worker);
        enum status stored = store_taken(b);
        TRY(status ? status : stored);
    }
}

enum status bench_ask(struct bench *b, int worker, json_t *request, json_t **reply) {
    return pool_ask(&b->pool, worker, request, 120, reply);
}
