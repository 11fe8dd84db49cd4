/* bench.c - hands work to worker processes and stores what comes back.
 *
 * Compilation runs ahead on every core; a cell's points are timed as soon as its group's binaries
 * are there; when all of a cell's points are in, its best meet the default, the ceiling and the
 * baselines in one interleaved contest.
 */
#include "harness/bench.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/pool.h"
#include "harness/worker.h"
#include "kernels/registry.h"
#include "runtime/compile.h"
#include "runtime/config.h"
#include "runtime/clock.h"
#include "runtime/json_text.h"

#ifndef FASTINFER_COMMIT
#define FASTINFER_COMMIT "unknown"
#define FASTINFER_DIRTY 0
#endif

const char *bench_commit(bool *dirty) {
    *dirty = FASTINFER_DIRTY;
    return FASTINFER_COMMIT;
}

enum { CPU_BATCH = 16, CUDA_BATCH = 3 };
enum job_kind { JOB_COMPILE, JOB_EVALUATE, JOB_CONTEST };

struct job {
    enum job_kind kind;
    struct group *group;
    struct cell *cell;
    int first, count; /* of the group's points, or the point's index in `first` */
    int arch;         /* of a compilation */
    bool prompt;      /* sent as soon as the worker was free: what it waited is isolation's cost */
};

struct bench {
    const struct bench_options *options;
    struct store *store;
    struct bench_outcome *out;
    struct plan_of_bench plan;
    struct pool pool;
    struct progress progress;
    int64_t run;
    int arch; /* of the binaries; 0 for the CPU */
    /* Without a GPU the compiler's facts (registers, spills) are gathered for this one, where
     * NVRTC is there; else 0. */
    int facts_arch;
    int device_workers;
    int total, done;
    int first_cell;            /* all cells before it are finished */
    bool starved[MAX_WORKERS]; /* there was nothing for it to do when it was last free */
    char doing[160], best[160];
};

static volatile sig_atomic_t interrupted;
static void on_interrupt(int signal) {
    (void)signal;
    if (interrupted++) _exit(130); /* a second Ctrl-C does not wait; the database stands it */
}

/* --- requests
 * -------------------------------------------------------------------------------------- */

static json_t *request_for(const char *op, const struct kernel *kernel,
                           const struct problem *problem) {
    char text[MAX_TEXT];
    problem_format(kernel, problem, text);
    return json_pack("{s:s, s:s, s:s, s:s}", "op", op, "kernel", kernel->name, "dtype",
                     dtype_name(problem->dtype), "problem", text);
}

static json_t *point_json(const struct kernel *kernel, const struct point *point) {
    char text[MAX_TEXT];
    point_format(kernel, point, text);
    return json_string(text);
}

static struct limits scan_limits(const struct bench *b) {
    if (b->out->device.kind == DEVICE_CPU) return (struct limits){3, 3, 0.05, 2, false};
    return (struct limits){10, b->options->quick ? 10 : 16, 0.005, 0.2, false};
}
static struct limits contest_limits(const struct bench *b) {
    if (b->out->device.kind == DEVICE_CPU) return (struct limits){3, 5, 0.05, 3, false};
    return (struct limits){15, b->options->quick ? 25 : 60, 0.005, 0.6, false};
}

static enum status send(struct bench *b, int worker, json_t *request, struct job job,
                        double seconds) {
    struct job *copy = malloc(sizeof *copy);
    *copy = job;
    copy->prompt = !b->starved[worker];
    return pool_send(&b->pool, worker, request, copy, seconds);
}

static enum status send_compile(struct bench *b, int worker, struct group *g, int arch) {
    int *sent = arch == b->arch ? &g->sent : &g->facts_sent;
    int batch = arch ? CUDA_BATCH : CPU_BATCH, count = g->points - *sent;
    if (count > batch) count = batch;
    json_t *request = request_for("compile", g->kernel, &g->problem), *points = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(points, point_json(g->kernel, &g->point[*sent + i]));
    json_object_set_new(request, "points", points);
    json_object_set_new(request, "arch", json_integer(arch));
    json_object_set_new(request, "check", json_boolean(*sent == 0 && arch == b->arch));
    struct job job = {
        .kind = JOB_COMPILE, .group = g, .first = *sent, .count = count, .arch = arch};
    *sent += count;
    return send(b, worker, request, job, 300);
}

/* A point may take ten times what the slowest of its cell took; the first ones have a minute. */
static double time_limit(const struct bench *b, const struct cell *c) {
    double least = b->out->device.kind == DEVICE_CPU ? 10 : 2;
    return c->longest_s > 0 ? fmin(60, fmax(least, 10 * c->longest_s)) : 60;
}

static enum status send_evaluate(struct bench *b, int worker, struct cell *c, int point) {
    struct limits limits = scan_limits(b);
    json_t *request = request_for("evaluate", c->group->kernel, &c->problem);
    json_object_set_new(request, "policy", json_string(policy_text(c->policy)));
    json_object_set_new(request, "point", point_json(c->group->kernel, &c->group->point[point]));
    json_object_set_new(request, "limits", limits_to_json(&limits));
    return send(b, worker, request,
                (struct job){
                    .kind = JOB_EVALUATE, .group = c->group, .cell = c, .first = point, .count = 1},
                time_limit(b, c));
}

static void add_contender(json_t *points, const char *name, const struct kernel *kernel,
                          const struct point *point) {
    json_array_append_new(points, json_pack("[s, o]", name, point_json(kernel, point)));
}

static bool is_deadly(const struct group *g, const struct point *point) {
    for (int i = 0; i < g->points; i++)
        if (g->deadly[i] && point_equal(g->kernel, &g->point[i], point)) return true;
    return false;
}

static enum status send_contest(struct bench *b, int worker, struct cell *c) {
    const struct kernel *kernel = c->group->kernel;
    struct limits limits = contest_limits(b);
    json_t *request = request_for("contest", kernel, &c->problem), *points = json_array();
    int best = b->options->quick ? 1 : c->best_count;
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
    return send(b, worker, request, (struct job){.kind = JOB_CONTEST, .group = c->group, .cell = c},
                120);
}

/* --- what a point's turn is
 * ----------------------------------------------------------------------- */

/* The earlier point of the cell with the same machine code and geometry; -1 if there is none. */
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
            return other;
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

/* Does the point need no worker: it did not compile, is another's twin, or was done before? */
static enum status settled_before(struct bench *b, struct cell *c, int position, bool *out) {
    struct group *g = c->group;
    int index = c->order[position];
    struct record r = {.problem = c->problem, .has_point = true, .point = g->point[index]};
    *out = true;
    r.build = g->build[index];
    snprintf(r.subject, sizeof r.subject, "kernel");
    snprintf(r.kernel, sizeof r.kernel, "%s", g->kernel->name);
    if (r.build.status) {
        r.status = r.build.status;
        snprintf(r.reason, sizeof r.reason, "%.500s", r.build.log);
        b->out->failed++;
        return store_record(b->store, b->run, c->policy, 0, &r);
    }
    if (b->options->resume) {
        bool has;
        double median;
        TRY(store_has(b->store, b->out->device.slug, c->policy, &r, &has, &median));
        if (has) return note_result(b, c, &r.point, median), STATUS_OK;
    }
    if (!b->options->retry) {
        bool deadly;
        TRY(store_is_deadly(b->store, b->out->device.slug, FASTINFER_COMMIT, &r, &deadly));
        if (deadly || g->deadly[index]) {
            g->deadly[index] = true;
            b->out->quarantined++;
            return STATUS_OK;
        }
    }
    *out = twin_of(b, c, position) >= 0;
    return STATUS_OK;
}

static bool group_ready(const struct group *g) { return g->done == g->points; }

/* A resumed cell with nothing new and a contest on record has nothing left to do. */
static enum status skip_contest(struct bench *b, struct cell *c, bool *out) {
    struct record like = {.problem = c->problem};
    *out = false;
    if (!b->options->resume || c->fresh) return STATUS_OK;
    snprintf(like.kernel, sizeof like.kernel, "%s", c->group->kernel->name);
    TRY(store_has_contest(b->store, b->out->device.slug, c->policy, &like, out));
    if (*out) c->finished = true, b->done++;
    return STATUS_OK;
}

static void finish_point(struct bench *b, struct cell *c) {
    c->done++, b->done++;
    if (c->done == c->points && (c->is_ceiling || !c->best_count)) c->finished = true;
}

/* Finds something for a worker with a device: a point, or a contest. False: nothing now. */
static enum status feed_device(struct bench *b, int worker, bool *sent) {
    *sent = false;
    while (b->first_cell < b->plan.cells && b->plan.cell[b->first_cell].finished) b->first_cell++;
    for (int i = b->first_cell; i < b->plan.cells; i++) {
        struct cell *c = &b->plan.cell[i];
        if (c->finished || !group_ready(c->group)) continue;
        while (c->sent < c->points) {
            bool settled;
            int position = c->sent++;
            TRY(settled_before(b, c, position, &settled));
            if (settled) {
                finish_point(b, c);
                continue;
            }
            char problem[MAX_TEXT];
            problem_format(c->group->kernel, &c->problem, problem);
            snprintf(b->doing, sizeof b->doing, "%s %.90s %s", c->group->kernel->name, problem,
                     policy_text(c->policy));
            if (c->done == 0) b->best[0] = 0;
            *sent = true;
            return send_evaluate(b, worker, c, c->order[position]);
        }
        if (c->done == c->points && !c->contest_sent && !c->finished &&
            (!c->ceiling || c->ceiling->finished || c->ceiling->done == c->ceiling->points)) {
            bool skip;
            TRY(skip_contest(b, c, &skip));
            if (skip) continue;
            *sent = true;
            return send_contest(b, worker, c);
        }
    }
    return STATUS_OK;
}

static enum status feed_compiler(struct bench *b, int worker, bool *sent) {
    *sent = false;
    for (int i = 0; i < b->plan.groups; i++)
        if (b->plan.group[i]->sent < b->plan.group[i]->points) {
            *sent = true;
            return send_compile(b, worker, b->plan.group[i], b->arch);
        }
    for (int i = 0; b->facts_arch && i < b->plan.groups; i++)
        if (b->plan.group[i]->facts_sent < b->plan.group[i]->points) {
            *sent = true;
            return send_compile(b, worker, b->plan.group[i], b->facts_arch);
        }
    return STATUS_OK;
}

static enum status feed(struct bench *b, int worker) {
    bool sent = false;
    const struct worker *w = &b->pool.worker[worker];
    /* a CPU worker does both; a GPU's own worker leaves compiling to the others */
    if (w->device[0]) TRY(feed_device(b, worker, &sent));
    if (!sent && (!w->device[0] || !b->arch)) TRY(feed_compiler(b, worker, &sent));
    return STATUS_OK;
}

/* --- replies
 * ---------------------------------------------------------------------------------------- */

static void count_seconds(struct bench *b, const struct record *r) {
    b->out->measure_s += r->seconds_measuring + r->seconds_verifying;
}

static enum status take_facts(struct bench *b, const struct job *job, const json_t *records) {
    for (size_t i = 0; i < json_array_size(records); i++) {
        struct record r;
        TRY(record_from_json(json_array_get(records, i), &r));
        if (!r.build.cached) b->out->compile_s += r.build.compile_ms / 1e3;
        TRY(store_build(b->store, b->run, job->arch, &r));
    }
    return STATUS_OK;
}

static enum status take_compiled(struct bench *b, const struct job *job, const json_t *reply) {
    const json_t *records = json_object_get(reply, "records");
    struct group *g = job->group;
    bool ok = json_is_true(json_object_get(reply, "ok"));
    if (job->arch != b->arch) return take_facts(b, job, records);
    if (!ok && status_parse(json_text(reply, "status")) == STATUS_MISSING)
        return fail(STATUS_MISSING, "%s", json_text(reply, "message"));
    for (int i = 0; i < job->count; i++) {
        struct record r = {0};
        struct build *build = &g->build[job->first + i];
        if (ok && !record_from_json(json_array_get(records, (size_t)i), &r)) {
            *build = r.build;
            if (!build->cached) b->out->compile_s += build->compile_ms / 1e3;
        } else {
            build->status = ok ? STATUS_COMPILE : status_parse(json_text(reply, "status"));
            snprintf(build->log, sizeof build->log, "%.2000s", json_text(reply, "message"));
        }
        g->done++;
    }
    return STATUS_OK;
}

static enum status take_evaluated(struct bench *b, const struct job *job, const json_t *reply) {
    struct cell *c = job->cell;
    struct record r = {0};
    const json_t *record = json_array_get(json_object_get(reply, "records"), 0);
    if (record) {
        TRY(record_from_json(record, &r));
    } else { /* the worker died, ran over its time, or had no memory for the problem */
        r = (struct record){.status = status_parse(json_text(reply, "status")),
                            .problem = c->problem,
                            .has_point = true,
                            .point = c->group->point[job->first],
                            .build = c->group->build[job->first],
                            .telemetry = NO_TELEMETRY};
        snprintf(r.reason, sizeof r.reason, "%.500s", json_text(reply, "message"));
        snprintf(r.subject, sizeof r.subject, "kernel");
        snprintf(r.kernel, sizeof r.kernel, "%s", c->group->kernel->name);
    }
    TRY(store_record(b->store, b->run, c->policy, 0, &r));
    b->out->points++, c->fresh++;
    c->group->deadly[job->first] |= r.status == STATUS_CRASH || r.status == STATUS_TIMEOUT;
    if (!r.status)
        c->longest_s =
            fmax(c->longest_s, r.seconds_compiling + r.seconds_verifying + r.seconds_measuring);
    if (r.status)
        b->out->failed++;
    else
        note_result(b, c, &r.point, r.summary.median);
    count_seconds(b, &r);
    finish_point(b, c);
    return STATUS_OK;
}

static enum status take_contest(struct bench *b, const struct job *job, const json_t *reply) {
    const json_t *records = json_object_get(reply, "records");
    struct cell *c = job->cell;
    int64_t contest;
    if (!json_array_size(records)) {
        char problem[MAX_TEXT];
        problem_format(c->group->kernel, &c->problem, problem);
        progress_clear(&b->progress);
        fprintf(stderr, "fastinfer: %s %.120s %s: the contest was lost%s: %s\n",
                c->group->kernel->name, problem, policy_text(c->policy),
                b->options->baselines && !c->alone ? " and is held again without PyTorch" : "",
                json_text(reply, "message"));
        b->out->failed++;
        if (b->options->baselines && !c->alone) {
            c->alone = true, c->contest_sent = false;
            return STATUS_OK;
        }
    }
    c->finished = true;
    b->done++;
    if (!json_array_size(records)) return STATUS_OK;
    TRY(store_new_contest(b->store, &contest));
    for (size_t i = 0; i < json_array_size(records); i++) {
        struct record r;
        TRY(record_from_json(json_array_get(records, i), &r));
        TRY(store_record(b->store, b->run, c->policy, contest, &r));
        count_seconds(b, &r);
    }
    return STATUS_OK;
}

static enum status take(struct bench *b, const struct job *job, const json_t *reply) {
    if (job->prompt && job->kind != JOB_COMPILE)
        b->out->isolation_s += json_number_value(json_object_get(reply, "waited_s"));
    if (job->kind == JOB_COMPILE) return take_compiled(b, job, reply);
    if (job->kind == JOB_EVALUATE) return take_evaluated(b, job, reply);
    return take_contest(b, job, reply);
}

/* --- the run
 * ------------------------------------------------------------------------------------------ */

static int busy_workers(const struct bench *b) {
    int busy = 0;
    for (int i = 0; i < b->pool.count; i++) busy += b->pool.worker[i].busy;
    return busy;
}

static enum status work(struct bench *b) {
    for (;;) {
        for (int i = 0; i < b->pool.count && !interrupted; i++)
            if (!b->pool.worker[i].busy) {
                TRY(feed(b, i));
                b->starved[i] = !b->pool.worker[i].busy;
            }
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
    }
}

/* Asks a worker one thing, while all are idle. */
static enum status ask_json(struct bench *b, int worker, json_t *request, json_t **reply) {
    return pool_ask(&b->pool, worker, request, 120, reply);
}

static enum status ask(struct bench *b, int worker, const char *op, json_t **reply) {
    return ask_json(b, worker, json_pack("{s:s}", "op", op), reply);
}

static enum status start_workers(struct bench *b, const char *device) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    b->pool.open_request = worker_open_request(b->options->seed, b->options->baselines);
    b->device_workers = strcmp(device, "cpu") != 0 || cores < 1 ? 1 : (int)cores;
    if (!strcmp(device, "cpu")) return pool_add(&b->pool, device, b->device_workers);
    TRY(pool_add(&b->pool, device, 1));
    int compilers = (int)cores - 1; /* the measuring process keeps a core to itself */
    return pool_add(&b->pool, "", compilers < 1 ? 1 : compilers > 24 ? 24 : compilers);
}

static enum status describe(struct bench *b, struct environment *e) {
    json_t *reply;
    TRY(ask(b, 0, "describe", &reply));
    info_from_json(json_object_get(reply, "device"), &e->device);
    snprintf(e->compiler, sizeof e->compiler, "%.590s", json_text(reply, "compiler"));
    snprintf(e->baseline, sizeof e->baseline, "%.90s", json_text(reply, "baseline"));
    const char *note = json_text(reply, "baseline_note");
    size_t n = strlen(b->out->note);
    if (*note && b->options->baselines)
        snprintf(b->out->note + n, sizeof b->out->note - n, "%s%.200s", n ? "\n" : "", note);
    int others = (int)json_integer_value(json_object_get(reply, "others"));
    n = strlen(b->out->note);
    if (others)
        snprintf(b->out->note + n, sizeof b->out->note - n,
                 "%swarning: %d other process%s this GPU; measurements will be off", n ? "\n" : "",
                 others, others == 1 ? " uses" : "es use");
    json_decref(reply);
    snprintf(e->commit, sizeof e->commit, "%s", FASTINFER_COMMIT);
    e->dirty = FASTINFER_DIRTY, e->seed = b->options->seed;
    snprintf(e->command, sizeof e->command, "%s", b->options->command);
    gethostname(e->host, sizeof e->host - 1);
    b->out->device = e->device;
    b->arch = e->device.arch;
    if (!b->arch && !nvrtc_available()) b->facts_arch = 75; /* the T4's: the portable path */
    return STATUS_OK;
}

static enum status measure_device(struct bench *b) {
    json_t *reply;
    TRY(ask(b, 0, "ceilings", &reply));
    struct ceilings c = {
        .copy_gbps = json_number_value(json_object_get(reply, "copy_gbps")),
        .read_gbps = json_number_value(json_object_get(reply, "read_gbps")),
        .copy_bytes = (int64_t)json_integer_value(json_object_get(reply, "copy_bytes")),
        .launch_ns = json_number_value(json_object_get(reply, "launch_ns")),
        .graph_node_ns = json_number_value(json_object_get(reply, "graph_node_ns"))};
    json_decref(reply);
    return store_ceilings(b->store, b->run, &c);
}

static void count_plan(struct bench *b) {
    for (int i = 0; i < b->plan.cells; i++)
        b->total += b->plan.cell[i].points + !b->plan.cell[i].is_ceiling;
    b->out->cells = b->plan.cells;
}

static void count_distinct(struct bench *b) {
    for (int i = 0; i < b->plan.groups; i++) {
        const struct group *g = b->plan.group[i];
        for (int k = 0; k < g->points; k++) {
            bool first = true;
            for (int j = 0; j < k && first; j++)
                first = !g->build[k].code_hash[0] ||
                        strcmp(g->build[j].code_hash, g->build[k].code_hash) != 0;
            b->out->distinct += first;
        }
    }
}

/* --- counters -----------------------------------------------------------------------------------
 *
 * When all is timed: the best point of each problem, in a worker of its own.
 */

static struct record counted_by_formula(const struct cell *c) {
    struct record r = {.problem = c->problem,
                       .has_point = true,
                       .point = c->best[0],
                       .counted = true,
                       .telemetry = NO_TELEMETRY};
    snprintf(r.kernel, sizeof r.kernel, "%s", c->group->kernel->name);
    session_counted(c->group->kernel, &c->problem, &r.counters);
    return r;
}

static enum status count_cell(struct bench *b, int worker, const struct cell *c, bool *denied) {
    struct record r = counted_by_formula(c);
    json_t *reply = NULL;
    if (!*denied) {
        json_t *request = request_for("count", c->group->kernel, &c->problem);
        json_object_set_new(request, "policy", json_string(policy_text(c->policy)));
        json_object_set_new(request, "point", point_json(c->group->kernel, &c->best[0]));
        json_object_set_new(request, "metrics", json_string(b->options->counters));
        enum status status = ask_json(b, worker, request, &reply);
        if (status) { /* of this cell alone, or of the driver: */
            *denied =
                status == STATUS_MISSING; /* then said once, and the formula's bytes stand in */
            progress_clear(&b->progress);
            fprintf(stderr, "fastinfer: %s\n", fail_message());
        }
    }
    const json_t *record = json_array_get(json_object_get(reply, "records"), 0);
    enum status status = record ? record_from_json(record, &r) : STATUS_OK;
    json_decref(reply);
    return status ? status : store_counters(b->store, b->run, c->policy, &r);
}

static enum status count_best(struct bench *b, const char *device) {
    bool denied = false;
    if (!strcmp(b->options->counters, "off") || interrupted) return STATUS_OK;
    int worker = b->pool.count;
    TRY(pool_add(&b->pool, device, 1));
    for (int i = 0; i < b->plan.cells && !interrupted; i++) {
        const struct cell *c = &b->plan.cell[i];
        if (!c->best_count || c->is_ceiling) continue;
        progress_show(&b->progress, "counters", i, b->plan.cells, "", false);
        TRY(count_cell(b, worker, c, &denied));
    }
    return STATUS_OK;
}

static enum status run_planned(struct bench *b, const struct environment *e) {
    struct config *config;
    TRY(store_begin_run(b->store, e, &b->run));
    b->out->run = b->run;
    TRY(measure_device(b));
    TRY(config_open(b->options->configs, &e->device, registry_find, &config));
    enum status status = bench_plan(b->options, &e->device, config, &b->plan);
    config_close(config);
    if (status) return status;
    count_plan(b);
    snprintf(b->doing, sizeof b->doing, "compiling");
    if (b->arch) TRY(pool_standby(&b->pool, e->device.id));
    progress_start(&b->progress);
    TRY(work(b));
    return count_best(b, e->device.id);
}

/* "auto" is decided here, so that workers are told a device and a line can say why. */
static enum status choose_device(struct bench *b, char device[16]) {
    const char *wanted = b->options->device;
    if (strcmp(wanted, "auto") != 0) {
        snprintf(device, 16, "%.15s", wanted);
    } else if (device_cuda_count() > 0) {
        snprintf(device, 16, "cuda:0");
    } else {
        snprintf(device, 16, "cpu");
        snprintf(b->out->note, sizeof b->out->note,
                 "no GPU (%.200s): running on the CPU device; its times are an emulation's",
                 fail_message());
    }
    return STATUS_OK;
}

enum status bench_run(const struct bench_options *options, struct store *store,
                      struct bench_outcome *out) {
    struct bench b = {.options = options, .store = store, .out = out};
    struct environment environment = {0};
    struct sigaction action = {.sa_handler = on_interrupt}, before;
    char device[16];
    double start = clock_seconds();
    *out = (struct bench_outcome){0};
    interrupted = 0;
    sigaction(SIGINT, &action, &before);
    enum status status = choose_device(&b, device);
    if (!status) status = start_workers(&b, device);
    if (!status) status = describe(&b, &environment);
    if (!status) {
        if (out->note[0]) fprintf(stderr, "fastinfer: %s\n", out->note);
        fprintf(stderr, "fastinfer: %s, %s%s%s; seed %llu\n", environment.device.name,
                environment.compiler, environment.baseline[0] ? "; " : "", environment.baseline,
                (unsigned long long)options->seed);
        status = run_planned(&b, &environment);
    }
    progress_clear(&b.progress);
    out->wall_s = clock_seconds() - start;
    if (b.device_workers) {
        double workers_s = out->wall_s * b.device_workers;
        out->busy_share = (out->measure_s + (b.arch ? 0 : out->compile_s)) / workers_s;
        out->isolation_share = out->isolation_s / workers_s;
    }
    out->interrupted = interrupted != 0;
    count_distinct(&b);
    if (b.run) {
        char reason[2048];
        struct run_seconds seconds = {out->wall_s, out->compile_s, out->measure_s,
                                      out->isolation_s};
        snprintf(reason, sizeof reason, "%s", fail_message());
        enum status ended = store_end_run(store, b.run, &seconds,
                                          status        ? reason
                                          : interrupted ? "interrupted"
                                                        : "ok");
        if (!status) status = ended;
    }
    for (int i = 0; i < b.pool.count; i++) /* where an error ended the run: what was under way */
        if (b.pool.worker[i].busy) free(b.pool.worker[i].job);
    pool_close(&b.pool);
    bench_plan_free(&b.plan);
    sigaction(SIGINT, &before, NULL);
    if (!status && interrupted)
        return fail(STATUS_INTERRUPTED, "stopped; what was measured is kept, --resume goes on");
    return status;
}
