#include "harness/worker.h"
#include "harness/pairing.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/pool.h"
#include "harness/session.h"
#include "harness/snapshot_codes.h"
#include "kernels/registry.h"
#include "runtime/cuda_api.h"
#include "runtime/clock.h"
#include "runtime/json_text.h"

enum { CHANNEL = 3 };

struct state {
    struct session session;
    bool open;
    enum status open_status;
    char open_message[512], device[16];
    bool wants_baseline, loaded_baseline;
    uint64_t seed;
    struct counters *counters; /* for `metrics`, once they were asked for */
    char metrics[2048];
};

char *worker_open_request(uint64_t seed, bool baseline) {
    json_t *open = json_pack("{s:s, s:I, s:b}", "op", "open", "seed", (json_int_t)seed, "baseline",
                             (int)baseline);
    char *text = json_dumps(open, JSON_COMPACT);
    json_decref(open);
    return text;
}

json_t *limits_to_json(const struct limits *l) {
    return json_pack("[i, i, f, f, b, f]", l->min_samples, l->max_samples, l->share, l->max_seconds,
                     (int)l->race, l->hopeless_ns);
}

static struct limits limits_from_json(const json_t *json) {
    return (struct limits){(int)json_integer_value(json_array_get(json, 0)),
                           (int)json_integer_value(json_array_get(json, 1)),
                           json_number_value(json_array_get(json, 2)),
                           json_number_value(json_array_get(json, 3)),
                           json_is_true(json_array_get(json, 4)),
                           json_number_value(json_array_get(json, 5))};
}

#define INFO_NUMBERS(X)                                                                            \
    X(ordinal)                                                                                     \
    X(arch)                                                                                        \
    X(sms)                                                                                         \
    X(threads_per_sm)                                                                              \
    X(threads_per_block)                                                                           \
    X(registers_per_sm)                                                                            \
    X(shared_per_block)                                                                            \
    X(shared_per_sm)                                                                               \
    X(l2_bytes)                                                                                    \
    X(memory_bytes)                                                                                \
    X(clock_khz)                                                                                   \
    X(memory_clock_khz)                                                                            \
    X(bus_bits)                                                                                    \
    X(ecc)                                                                                         \
    X(driver_version)

json_t *info_to_json(const struct device_info *info) {
    json_t *json =
        json_pack("{s:s, s:s, s:s, s:s, s:s}", "kind", info->kind == DEVICE_CUDA ? "cuda" : "cpu",
                  "id", info->id, "name", info->name, "slug", info->slug, "driver", info->driver);
#define X(field) json_object_set_new(json, #field, json_integer((json_int_t)info->field));
    INFO_NUMBERS(X)
#undef X
    return json;
}

void info_from_json(const json_t *json, struct device_info *out) {
    *out = (struct device_info){.kind = strcmp(json_text(json, "kind"), "cuda") ? DEVICE_CPU
                                                                                : DEVICE_CUDA};
    snprintf(out->id, sizeof out->id, "%.15s", json_text(json, "id"));
    snprintf(out->name, sizeof out->name, "%.95s", json_text(json, "name"));
    snprintf(out->slug, sizeof out->slug, "%.95s", json_text(json, "slug"));
    snprintf(out->driver, sizeof out->driver, "%.63s", json_text(json, "driver"));
#define X(field)                                                                                   \
    out->field = (__typeof__(out->field))json_integer_value(json_object_get(json, #field));
    INFO_NUMBERS(X)
#undef X
}

/* What most requests share. */
static enum status parse_problem(const json_t *request, const struct kernel **kernel,
                                 struct problem *problem) {
    TRY(registry_find(json_text(request, "kernel"), kernel));
    TRY(problem_parse(*kernel, json_text(request, "problem"), problem));
    problem->dtype = dtype_parse(json_text(request, "dtype"));
    return problem->dtype == DTYPE_COUNT ? fail(STATUS_ARGUMENT, "unknown dtype") : STATUS_OK;
}

static enum status point_at(const struct kernel *kernel, const json_t *array, size_t index,
                            struct point *point) {
    const char *text = json_string_value(json_array_get(array, index));
    if (!text) return fail(STATUS_ARGUMENT, "%s: a point is not text", kernel->name);
    return point_parse(kernel, text, point);
}

static enum status ensure_open(struct state *w, bool baseline) {
    if (!w->open) {
        TRY(session_open(w->device, w->seed, &w->session));
        w->open = true;
    }
    if (baseline && w->wants_baseline && !w->loaded_baseline) {
        session_load_baseline(&w->session);
        w->loaded_baseline = true;
    }
    return STATUS_OK;
}

static enum status serve_open(struct state *w, const json_t *request) {
    snprintf(w->device, sizeof w->device, "%.15s", json_text(request, "device"));
    w->seed = (uint64_t)json_integer_value(json_object_get(request, "seed"));
    w->wants_baseline = json_is_true(json_object_get(request, "baseline"));
    return STATUS_OK;
}

static enum status serve_describe(struct state *w, json_t *reply) {
    TRY(ensure_open(w, true));
    const struct device_info *info = &w->session.device->info;
    char compiler[600] = "";
    struct target target = {info->kind, info->arch};
    if (compiler_describe(target, compiler, sizeof compiler))
        snprintf(compiler, sizeof compiler, "none");
    json_object_set_new(reply, "device", info_to_json(info));
    json_object_set_new(reply, "compiler", json_string(compiler));
    json_object_set_new(reply, "baseline", json_string(w->session.baseline_name));
    json_object_set_new(reply, "baseline_note", json_string(w->session.baseline_note));
    json_object_set_new(reply, "others", json_integer(w->session.others));
    return STATUS_OK;
}

static enum status serve_compile(const json_t *request, json_t *reply) {
    const struct kernel *kernel;
    struct problem problem;
    const json_t *points = json_object_get(request, "points");
    int count = (int)json_array_size(points);
    TRY(parse_problem(request, &kernel, &problem));
    int arch = (int)json_integer_value(json_object_get(request, "arch"));
    struct target target = {arch ? DEVICE_CUDA : DEVICE_CPU, arch};
    struct point *point = calloc((size_t)count + 1, sizeof *point);
    struct build *build = calloc((size_t)count + 1, sizeof *build);
    enum status status = point && build ? STATUS_OK : fail(STATUS_SYSTEM, "out of memory");
    for (int i = 0; i < count && !status; i++)
        status = point_at(kernel, points, (size_t)i, &point[i]);
    if (!status) status = compile_points(kernel, &problem, point, count, target, build);
    /* the device's own reference is part of what a problem needs compiled */
    if (!status && arch && !kernel->host_check && json_is_true(json_object_get(request, "check"))) {
        struct build check;
        status = compile_check(kernel, &problem, target, &check);
    }
    json_t *records = json_array();
    for (int i = 0; i < count && !status; i++) {
        struct record r = {.status = build[i].status,
                           .problem = problem,
                           .has_point = true,
                           .point = point[i],
                           .build = build[i]};
        snprintf(r.subject, sizeof r.subject, "kernel");
        snprintf(r.kernel, sizeof r.kernel, "%s", kernel->name);
        json_array_append_new(records, record_to_json(&r));
    }
    json_object_set_new(reply, "records", records);
    free(point), free(build);
    return status;
}

static enum status serve_evaluate(struct state *w, const json_t *request, json_t *reply) {
    const struct kernel *kernel;
    struct problem problem;
    struct point point;
    struct policy policy;
    struct record record;
    TRY(ensure_open(w, false));
    TRY(parse_problem(request, &kernel, &problem));
    TRY(policy_parse(json_text(request, "policy"), &policy));
    TRY(point_parse(kernel, json_text(request, "point"), &point));
    struct limits limits = limits_from_json(json_object_get(request, "limits"));
    enum status status =
        session_evaluate(&w->session, kernel, &problem, policy, &point, &limits, &record);
    if (!status || record.status)
        json_object_set_new(reply, "records", json_pack("[o]", record_to_json(&record)));
    return status;
}

static enum status parse_contest(const json_t *request, struct contest *contest) {
    const json_t *points = json_object_get(request, "points");
    const struct kernel *stream;
    TRY(parse_problem(request, &contest->kernel, &contest->problem));
    TRY(policy_parse(json_text(request, "policy"), &contest->policy));
    TRY(registry_find("stream", &stream));
    for (size_t i = 0; i < json_array_size(points) && i < MAX_CONTEST; i++) {
        const json_t *pair = json_array_get(points, i);
        const char *name = json_string_value(json_array_get(pair, 0));
        if (!name) return fail(STATUS_ARGUMENT, "point %zu of a contest has no name", i + 1);
        snprintf(contest->name[i], sizeof contest->name[i], "%s", name);
        TRY(point_at(strcmp(name, "ceiling") ? contest->kernel : stream, pair, 1,
                     &contest->point[i]));
        contest->count++;
    }
    contest->baselines = json_is_true(json_object_get(request, "baselines"));
    contest->energy = json_is_true(json_object_get(request, "energy"));
    contest->limits = limits_from_json(json_object_get(request, "limits"));
    return STATUS_OK;
}

static enum status serve_contest(struct state *w, const json_t *request, json_t *reply) {
    struct contest contest = {0};
    static struct record records[MAX_CONTEST + MAX_BASELINES];
    int count = 0;
    TRY(ensure_open(w, true));
    TRY(parse_contest(request, &contest));
    enum status status = session_contest(&w->session, &contest, records, &count);
    json_t *array = json_array();
    for (int i = 0; i < count; i++) json_array_append_new(array, record_to_json(&records[i]));
    json_object_set_new(reply, "records", array);
    return status;
}

static enum status serve_pair(struct state *w, const json_t *request, json_t *reply) {
    static struct pairing pairing;
    TRY(ensure_open(w, false));
    TRY(pairing_run(&w->session, json_object_get(request, "a"), json_object_get(request, "b"),
                    (int)json_integer_value(json_object_get(request, "rounds")),
                    json_is_true(json_object_get(request, "planted")), &pairing));
    json_object_set_new(reply, "pairing", pairing_to_json(&pairing));
    return STATUS_OK;
}

/* The counters stay open for the metrics asked for last. */
static enum status serve_count(struct state *w, const json_t *request, json_t *reply) {
    const struct kernel *kernel;
    struct record r = {.has_point = true, .telemetry = NO_TELEMETRY};
    struct policy policy;
    struct counter_set wanted;
    const char *metrics = json_text(request, "metrics");
    TRY(ensure_open(w, false));
    TRY(parse_problem(request, &kernel, &r.problem));
    TRY(policy_parse(json_text(request, "policy"), &policy));
    TRY(point_parse(kernel, json_text(request, "point"), &r.point));
    if (!w->counters || strcmp(w->metrics, metrics) != 0) {
        counters_close(w->counters);
        w->counters = NULL;
        TRY(counters_parse(metrics, &wanted));
        TRY(counters_open(w->session.device, &wanted, &w->counters));
        snprintf(w->metrics, sizeof w->metrics, "%s", metrics);
    }
    snprintf(r.subject, sizeof r.subject, "kernel");
    snprintf(r.kernel, sizeof r.kernel, "%s", kernel->name);
    TRY(session_count(&w->session, kernel, &r.problem, policy, &r.point, w->counters, &r.counters));
    json_object_set_new(reply, "records", json_pack("[o]", record_to_json(&r)));
    return STATUS_OK;
}

static enum status serve_codes(const json_t *request, json_t *reply) {
    const struct kernel *kernel;
    json_t *codes;
    TRY(registry_find(json_text(request, "kernel"), &kernel));
    TRY(snapshot_codes(kernel, json_object_get(request, "points"), &codes));
    json_object_set_new(reply, "codes", codes);
    return STATUS_OK;
}

static enum status serve_ceilings(struct state *w, json_t *reply) {
    struct ceilings c;
    TRY(ensure_open(w, false));
    TRY(session_ceilings(&w->session, &c));
    json_object_update_new(reply, json_pack("{s:f, s:f, s:I, s:f, s:f}", "copy_gbps", c.copy_gbps,
                                            "read_gbps", c.read_gbps, "copy_bytes",
                                            (json_int_t)c.copy_bytes, "launch_ns", c.launch_ns,
                                            "graph_node_ns", c.graph_node_ns));
    return STATUS_OK;
}

static enum status serve(struct state *w, const json_t *request, json_t *reply) {
    const char *op = json_text(request, "op");
    if (!strcmp(op, "open")) return serve_open(w, request);
    if (!strcmp(op, "warm")) return ensure_open(w, false);
    if (!strcmp(op, "describe")) return serve_describe(w, reply);
    if (!strcmp(op, "compile")) return serve_compile(request, reply);
    if (!strcmp(op, "evaluate")) return serve_evaluate(w, request, reply);
    if (!strcmp(op, "contest")) return serve_contest(w, request, reply);
    if (!strcmp(op, "count")) return serve_count(w, request, reply);
    if (!strcmp(op, "codes")) return serve_codes(request, reply);
    if (!strcmp(op, "pair")) return serve_pair(w, request, reply);
    if (!strcmp(op, "ceilings")) return serve_ceilings(w, reply);
    return fail(STATUS_ARGUMENT, "a worker has no '%s'", op);
}

int worker_main(void) {
    struct state w = {0};
    json_t *request;
    signal(SIGINT, SIG_IGN); /* the parent finishes the point, then closes the channel */
    for (double idle = clock_seconds(); !frame_read(CHANNEL, &request); idle = clock_seconds()) {
        json_t *reply = json_pack("{s:f}", "waited_s", clock_seconds() - idle);
        enum status status = serve(&w, request, reply);
        const char *op = json_text(request, "op");
        bool silent = !strcmp(op, "open") || !strcmp(op, "warm");
        json_decref(request);
        json_object_set_new(reply, "ok", json_boolean(!status));
        if (status) {
            json_object_set_new(reply, "status", json_string(status_text(status)));
            json_object_set_new(reply, "message", json_string(fail_message()));
        }
        /* A broken context cannot be mended in its process. Saying so has another take its place
         * before it is sent anything: what comes next is not to blame. */
        bool broken = w.open && status && w.session.device->ops->synchronize(w.session.device);
        if (broken) json_object_set_new(reply, "last", json_true());
        enum status sent = silent ? STATUS_OK : frame_write(CHANNEL, reply);
        json_decref(reply);
        if (sent || broken) _Exit(broken ? 3 : 0);
    }
    counters_close(w.counters);
    if (w.open) session_close(&w.session);
    return 0;
}
