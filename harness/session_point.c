/* session_point.c - one point: compiled, verified, timed; and its work counted. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "harness/nvtx.h"
#include "harness/session_internal.h"
#include "harness/verify.h"
#include "runtime/clock.h"

enum status session_verify(struct session *s, struct subject *timed, const struct variant *variant,
                           struct record *r) {
    struct verdict verdict;
    if (timed == s->now->timed && s->now->odd) {
        struct variant odd = *variant; /* the same code, with a scratch of its own */
        odd.plan =
            s->now->odd->kernel->plan(&s->now->odd->problem, &variant->point, &s->device->info);
        odd.scratch = NULL;
        TRY(variant_scratch(s->device, &odd));
        enum status status = verify_variant(s->now->odd, &odd, &verdict);
        if (odd.scratch) s->device->ops->release(s->device, odd.scratch);
        r->worst = verdict.worst;
        if (status) {
            char problem[MAX_TEXT];
            problem_format(s->now->odd->kernel, &s->now->odd->problem, problem);
            return fail_context(status, "at %.120s", problem);
        }
    }
    enum status status = verify_variant(timed, variant, &verdict);
    r->worst = fmax(r->worst, verdict.worst);
    return status;
}

void session_failed(struct record *r, enum status status) {
    r->status = status;
    snprintf(r->reason, sizeof r->reason, "%.500s", fail_message());
}

void session_take(struct record *r, const struct contender *c) {
    r->retaken = c->retaken;
    r->autocorrelation = stats_autocorrelation(c->samples, c->summary.count);
    r->drift = stats_drift(c->samples, c->summary.count);
    r->launches = c->launches, r->summary = c->summary;
    memcpy(r->samples, c->samples, sizeof r->samples);
    r->host_ns = c->host_ns, r->wall_ns = c->wall_ns;
}

void session_begin_record(struct record *r, const char *subject, const struct kernel *kernel,
                          const struct problem *problem) {
    *r = (struct record){.problem = *problem, .telemetry = NO_TELEMETRY};
    snprintf(r->subject, sizeof r->subject, "%s", subject);
    snprintf(r->kernel, sizeof r->kernel, "%s", kernel->name);
}

enum status session_alive(struct session *s) { return s->device->ops->synchronize(s->device); }

/* A point may write where it should not, and the next one finds it: who is wrong on buffers that
 * others used has another try on new ones. */
static enum status verify_point(struct session *s, const struct variant *variant,
                                struct record *r) {
    bool used = s->now->touched;
    s->now->touched = true;
    enum status status = session_verify(s, s->now->timed, variant, r);
    if (status != STATUS_INCORRECT || !used) return status;
    TRY(session_renew(s));
    s->now->touched = true;
    return session_verify(s, s->now->timed, variant, r);
}

enum status session_evaluate(struct session *s, const struct kernel *kernel,
                             const struct problem *problem, struct policy policy,
                             const struct point *point, const struct limits *limits,
                             struct record *r) {
    struct variant variant = {0};
    session_begin_record(r, "kernel", kernel, problem);
    r->has_point = true, r->point = *point;
    TRY(session_subjects(s, kernel, problem, policy));
    char problem_text[MAX_TEXT], point_text[MAX_TEXT];
    problem_format(kernel, problem, problem_text), point_format(kernel, point, point_text);
    nvtx_push("%s %s %s", kernel->name, problem_text, point_text);
    double start = clock_seconds();
    nvtx_push("compile");
    enum status status = variant_open(s->device, kernel, problem, point, &variant);
    nvtx_pop();
    r->build = variant.build;
    double opened = clock_seconds();
    nvtx_push("verify");
    if (!status) status = verify_point(s, &variant, r);
    nvtx_pop();
    double verified = clock_seconds();
    r->seconds_compiling = opened - start, r->seconds_verifying = verified - opened;
    if (!status) {
        struct variant_call call = {s->now->timed, &variant};
        struct watch watch = {s, session_disturbed};
        struct contender c = {
            .subject = s->now->timed, .enqueue = variant_enqueue, .context = &call, .kernels = 1};
        status = measure_contest(policy, &c, 1, limits, &watch, &s->empties);
        if (!status) session_take(r, &c);
        measure_free(&c, 1);
    }
    nvtx_pop();
    r->seconds_measuring = clock_seconds() - verified;
    r->telemetry = session_telemetry(s);
    if (status) session_failed(r, status);
    variant_close(s->device, &variant);
    return status ? session_alive(s) : STATUS_OK;
}

/* --- counters
 * ------------------------------------------------------------------------------------- */

struct counting {
    struct subject *subject;
    const struct variant *variant;
    struct policy policy;
    int launches;
};

static enum status count_work(void *context) {
    struct counting *c = context;
    for (int i = 0; i < c->launches; i++) {
        int turn = i % c->subject->sets;
        TRY(subject_launch(c->subject, c->variant, c->policy.residency == RESIDENCY_COLD ? turn : 0,
                           c->policy.residency == RESIDENCY_HOT ? 0 : turn));
    }
    return STATUS_OK;
}

/* The same work first: what it leaves to be written back then stands for what the range leaves. A
 * cold problem that fits in the cache has it flushed instead. */
static enum status count_prepare(void *context) {
    struct counting *c = context;
    struct support *support = c->subject->support;
    TRY(subject_restore(c->subject));
    TRY(count_work(context));
    struct cost cost = c->subject->kernel->cost(&c->subject->problem);
    double moved = (cost.read_bytes + cost.write_bytes) * c->launches;
    if (c->policy.residency == RESIDENCY_HOT || moved > 2 * (double)support->device->info.l2_bytes)
        return STATUS_OK;
    TRY(support_flush(support));
    return c->policy.residency == RESIDENCY_WEIGHTS_COLD ? subject_touch(c->subject, 0) : STATUS_OK;
}

enum status session_count(struct session *s, const struct kernel *kernel,
                          const struct problem *problem, struct policy policy,
                          const struct point *point, struct counters *counters,
                          struct counter_set *out) {
    struct variant variant = {0};
    TRY(session_subjects(s, kernel, problem, policy));
    enum status status = variant_open(s->device, kernel, problem, point, &variant);
    struct cost cost = kernel->cost(problem);
    double wanted = 3 * (double)s->device->info.l2_bytes / (cost.read_bytes + cost.write_bytes + 1);
    struct counting counting = {s->now->timed, &variant, policy, 1};
    if (policy.residency != RESIDENCY_HOT)
        counting.launches = wanted < 1                     ? 1
                            : wanted > s->now->timed->sets ? s->now->timed->sets
                                                           : (int)wanted;
    nvtx_push("counters");
    if (!status) status = counters_read(counters, &counting, count_prepare, count_work, out);
    nvtx_pop();
    for (int i = 0; i < out->count && !status; i++) {
        const char *end = strrchr(out->counter[i].name, '.');
        if (end && !strcmp(end, ".sum")) out->counter[i].value /= counting.launches;
    }
    variant_close(s->device, &variant);
    return status ? (session_alive(s) ? STATUS_CRASH : status) : STATUS_OK;
}

void session_counted(const struct kernel *kernel, const struct problem *problem,
                     struct counter_set *out) {
    struct cost cost = kernel->cost(problem);
    *out = (struct counter_set){.count = 2,
                                .counter = {{"dram__bytes_read.sum", cost.read_bytes},
                                            {"dram__bytes_write.sum", cost.write_bytes}}};
}
