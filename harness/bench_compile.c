/* bench_compile.c - what is queued for a cell, and how it is compiled ahead of being timed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/bench_work.h"
#include "runtime/clock.h"
#include "runtime/json_text.h"

enum { CPU_BATCH = 16, CUDA_BATCH = 3, AHEAD = 6, LEAST_AHEAD = 4 };

/* --- what is queued ----------------------------------------------------------------------------
 */

int cell_position(const struct cell *c, int point) {
    for (int i = 0; i < c->points; i++)
        if (c->order[i] == point) return i;
    return -1;
}

bool cell_same_chain(const struct cell *a, const struct cell *b) {
    return a->group == b->group && !memcmp(&a->policy, &b->policy, sizeof a->policy);
}

enum status cell_queue(struct cell *c, int point) {
    struct group *g = c->group;
    if (c->points == c->capacity) {
        int capacity = c->capacity ? 2 * c->capacity : 32;
        int *order = realloc(c->order, (size_t)capacity * sizeof *order);
        if (order) c->order = order;
        double *ns = realloc(c->ns, (size_t)capacity * sizeof *ns);
        if (ns) c->ns = ns;
        if (!order || !ns) return fail(STATUS_SYSTEM, "out of memory");
        c->capacity = capacity;
    }
    c->ns[c->points] = NAN;
    c->order[c->points++] = point;
    if (!g->is_wanted[point]) g->wanted[g->wanted_count++] = point;
    g->is_wanted[point] = true;
    return STATUS_OK;
}

static bool is_queued(const struct bench *b, const struct group *g, int point) {
    for (int i = 0; i < b->plan.cells; i++)
        if (b->plan.cell[i].group == g && cell_position(&b->plan.cell[i], point) >= 0) return true;
    return false;
}

void bench_forget(struct bench *b, struct cell *c) {
    struct group *g = c->group;
    int kept = g->sent > g->facts_sent ? g->sent : g->facts_sent;
    c->points = c->sent;
    for (int i = kept; i < g->wanted_count; i++) {
        int point = g->wanted[i];
        g->is_wanted[point] = is_queued(b, g, point);
        if (g->is_wanted[point]) g->wanted[kept++] = point;
    }
    g->wanted_count = kept;
}

/* --- compiling ---------------------------------------------------------------------------------
 */

static int compilers_of(const struct bench *b, bool idle) {
    int count = 0;
    for (int i = 0; i < b->pool.count; i++)
        count += !b->pool.worker[i].device[0] && !(idle && b->pool.worker[i].busy);
    return count;
}

/* As many as are timed while one compiles. Where the device waits for a cell's points for longer
 * than most take to compile, those that do are slow ones, and others are asked for beside them. */
int bench_ahead(const struct bench *b, const struct cell *c) {
    const struct group *g = c->group;
    int most = compilers_of(b, false);
    if (!b->arch || most < 1) return 1;
    if (most < LEAST_AHEAD) most = LEAST_AHEAD;
    if (!g->done) return most < AHEAD ? most : AHEAD;
    double compile_s = g->compile_s / g->done, wanted = AHEAD;
    if (c->shortest_s > 0) wanted = fmax(2 + compile_s / c->shortest_s, LEAST_AHEAD);
    if (c->starved_s > 0)
        wanted += LEAST_AHEAD * floor((clock_seconds() - c->starved_s) / fmax(2 * compile_s, 0.1));
    return (int)fmin(wanted, most);
}

/* A GPU's points are compiled one by one, several a message only where no core is free for them;
 * the host compiler takes many in one file. */
static int batch_of(const struct bench *b, int arch, int waiting) {
    int most = arch ? CUDA_BATCH : CPU_BATCH, idle = compilers_of(b, true);
    int share = arch && idle > 0 ? (waiting + idle - 1) / idle : waiting;
    return share > most ? most : share;
}

static enum status send_compile(struct bench *b, int worker, struct group *g, int arch) {
    int *sent = arch == b->arch ? &g->sent : &g->facts_sent;
    int waiting = g->wanted_count - *sent, count = batch_of(b, arch, waiting);
    json_t *request = bench_request("compile", g->kernel, &g->problem), *points = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(points, bench_point_json(g->kernel, &g->point[g->wanted[*sent + i]]));
    json_object_set_new(request, "points", points);
    json_object_set_new(request, "arch", json_integer(arch));
    json_object_set_new(request, "check", json_boolean(*sent == 0 && arch == b->arch));
    struct job job = {
        .kind = JOB_COMPILE, .group = g, .first = *sent, .count = count, .arch = arch};
    *sent += count;
    return bench_send(b, worker, request, job, 300);
}

enum status bench_feed_compiler(struct bench *b, int worker, bool *sent) {
    *sent = false;
    for (int i = 0; i < b->plan.groups; i++)
        if (b->plan.group[i]->sent < b->plan.group[i]->wanted_count) {
            *sent = true;
            return send_compile(b, worker, b->plan.group[i], b->arch);
        }
    for (int i = 0; b->facts_arch && i < b->plan.groups; i++)
        if (b->plan.group[i]->facts_sent < b->plan.group[i]->wanted_count) {
            *sent = true;
            return send_compile(b, worker, b->plan.group[i], b->facts_arch);
        }
    return STATUS_OK;
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

enum status bench_take_compiled(struct bench *b, const struct job *job, const json_t *reply) {
    const json_t *records = json_object_get(reply, "records");
    struct group *g = job->group;
    bool ok = json_is_true(json_object_get(reply, "ok"));
    if (job->arch != b->arch) return take_facts(b, job, records);
    if (!ok && status_parse(json_text(reply, "status")) == STATUS_MISSING)
        return fail(STATUS_MISSING, "%s", json_text(reply, "message"));
    for (int i = 0; i < job->count; i++) {
        struct record r = {0};
        int index = g->wanted[job->first + i];
        struct build *build = &g->build[index];
        if (ok && !record_from_json(json_array_get(records, (size_t)i), &r)) {
            *build = r.build;
            if (!build->cached) b->out->compile_s += build->compile_ms / 1e3;
        } else {
            build->status = ok ? STATUS_COMPILE : status_parse(json_text(reply, "status"));
            snprintf(build->log, sizeof build->log, "%.2000s", json_text(reply, "message"));
        }
        g->compiled[index] = true;
        g->compile_s += build->cached ? 0 : build->compile_ms / 1e3;
        g->done++;
    }
    return STATUS_OK;
}
