/* bench.c - a run: workers are started, the device described and its ceilings measured, a plan made
 * and worked through (bench_work.c), counters read, the end written down.
 */
#include "harness/bench.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/bench_work.h"
#include "harness/worker.h"
#include "kernels/registry.h"
#include "runtime/clock.h"
#include "runtime/compile.h"
#include "runtime/config.h"
#include "runtime/json_text.h"
#include "runtime/parallel.h"

#ifndef FASTINFER_COMMIT
#define FASTINFER_COMMIT "unknown"
#define FASTINFER_DIRTY 0
#endif

const char *bench_commit(bool *dirty) {
    *dirty = FASTINFER_DIRTY;
    return FASTINFER_COMMIT;
}

static void on_interrupt(int signal) {
    (void)signal;
    if (bench_interrupted++) _exit(130); /* a second Ctrl-C does not wait; the database stands it */
}

static enum status ask(struct bench *b, int worker, const char *op, json_t **reply) {
    return bench_ask(b, worker, json_pack("{s:s}", "op", op), reply);
}

static enum status start_workers(struct bench *b, const char *device) {
    int cores = parallel_cores();
    b->pool.open_request = worker_open_request(b->options->seed, b->options->baselines);
    if (!strcmp(device, "cpu")) {
        b->device_workers = cores;
        return pool_add(&b->pool, device, b->device_workers);
    }
    bool all = !strcmp(device, "cuda:all");
    b->device_workers = all ? device_cuda_count() : 1;
    for (int i = 0; i < b->device_workers; i++) {
        char one[24];
        snprintf(one, sizeof one, "cuda:%d", i);
        TRY(pool_add(&b->pool, all ? one : device, 1));
    }
    int compilers = cores - b->device_workers; /* a measuring process keeps its core */
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

/* The GPUs of cuda:all are one device of the database: they have to be of one kind. */
static enum status compare_gpus(struct bench *b) {
    for (int i = 1; i < b->device_workers && b->arch; i++) {
        struct device_info info;
        json_t *reply;
        TRY(ask(b, i, "describe", &reply));
        info_from_json(json_object_get(reply, "device"), &info);
        json_decref(reply);
        if (strcmp(info.slug, b->out->device.slug) != 0)
            return fail(STATUS_ARGUMENT,
                        "cuda:all: cuda:0 is a %s and cuda:%d a %s; GPUs of one kind were "
                        "expected, tune them one by one",
                        b->out->device.name, i, info.name);
    }
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
        json_t *request = bench_request("count", c->group->kernel, &c->problem);
        json_object_set_new(request, "policy", json_string(policy_text(c->policy)));
        json_object_set_new(request, "point", bench_point_json(c->group->kernel, &c->best[0]));
        json_object_set_new(request, "metrics", json_string(b->options->counters));
        enum status status = bench_ask(b, worker, request, &reply);
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
    if (!strcmp(b->options->counters, "off") || bench_interrupted) return STATUS_OK;
    int worker = b->pool.count;
    TRY(pool_add(&b->pool, device, 1));
    for (int i = 0; i < b->plan.cells && !bench_interrupted; i++) {
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
    TRY(compare_gpus(b));
    TRY(measure_device(b));
    TRY(store_any_deadly(b->store, e->device.slug, &b->any_deadly));
    TRY(config_open(b->options->configs, &e->device, registry_find, &config));
    enum status status = bench_plan(b->options, &e->device, config, &b->plan);
    config_close(config);
    if (status) return status;
    count_plan(b);
    snprintf(b->doing, sizeof b->doing, "compiling");
    if (b->arch) TRY(pool_standby(&b->pool, e->device.id));
    progress_start(&b->progress);
    if (b->chooser) TRY(b->chooser->begin(b->chooser->context, b));
    TRY(bench_work(b));
    if (b->chooser) TRY(b->chooser->end(b->chooser->context, b));
    return count_best(b, e->device.id);
}

/* "auto" is decided here, so that workers are told a device and a line can say why. */
static enum status choose_device(struct bench *b, char device[16]) {
    const char *wanted = b->options->device;
    if (!strcmp(wanted, "cuda:all") && device_cuda_count() <= 0)
        return fail(STATUS_MISSING, "cuda:all: %s", fail_message());
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
                      const struct chooser *chooser, struct bench_outcome *out) {
    struct bench b = {.options = options, .store = store, .out = out, .chooser = chooser};
    struct environment environment = {0};
    struct sigaction action = {.sa_handler = on_interrupt}, before;
    char device[16];
    double start = clock_seconds();
    *out = (struct bench_outcome){0};
    bench_interrupted = 0;
    sigaction(SIGINT, &action, &before);
    b.taken = calloc(MAX_TAKEN, sizeof *b.taken);
    enum status status = b.taken ? choose_device(&b, device) : fail(STATUS_SYSTEM, "out of memory");
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
    out->interrupted = bench_interrupted != 0;
    count_distinct(&b);
    if (b.run) {
        char reason[2048];
        struct run_seconds seconds = {out->wall_s, out->compile_s, out->measure_s,
                                      out->isolation_s};
        snprintf(reason, sizeof reason, "%s", fail_message());
        enum status ended = store_end_run(store, b.run, &seconds,
                                          status              ? reason
                                          : bench_interrupted ? "interrupted"
                                                              : "ok");
        if (!status) status = ended;
    }
    for (int i = 0; i < b.pool.count; i++) /* where an error ended the run: what was under way */
        if (b.pool.worker[i].busy) free(b.pool.worker[i].job);
    pool_close(&b.pool);
    bench_plan_free(&b.plan);
    free(b.taken);
    sigaction(SIGINT, &before, NULL);
    if (!status && bench_interrupted)
        return fail(STATUS_INTERRUPTED, "stopped; what was measured is kept, --resume goes on");
    return status;
}
