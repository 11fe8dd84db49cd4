#include "harness/measure.h"
#include "harness/nvtx.h"
#include "runtime/clock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COLD_SETS = 64, EMPTY_SAMPLES = 21 };

/* What a launch touches of the buffers that rotate: no more than it has to move. A table that most
 * points never read must not count, or buffers come round again while they are still cached. */
static double touched_bytes(const struct kernel *kernel, const struct problem *problem,
                            enum residency residency) {
    if (!kernel->cost) return INFINITY; /* a probe of the device: its buffers are its own affair */
    struct cost cost = kernel->cost(problem);
    double bytes = 0;
    if (residency == RESIDENCY_COLD) return fmax(cost.read_bytes + cost.write_bytes, 1);
    for (int i = 0; i < kernel->argument_count; i++)
        if (kernel->arguments[i].weight)
            bytes += (double)kernel->elements(problem, i) *
                     (double)dtype_bytes(argument_dtype(&kernel->arguments[i], problem));
    return fmax(fmin(bytes, cost.read_bytes), 1);
}

int measure_sets(const struct kernel *kernel, const struct problem *problem,
                 const struct device_info *device, struct policy policy) {
    if (device->kind == DEVICE_CPU || policy.residency == RESIDENCY_HOT) return 1;
    double touched = touched_bytes(kernel, problem, policy.residency);
    double sets = ceil(3 * (double)device->l2_bytes / touched);
    return sets < 2 ? 2 : sets > COLD_SETS ? COLD_SETS : (int)sets;
}

enum status variant_enqueue(void *context, int set, int weight_set) {
    const struct variant_call *call = context;
    return subject_launch(call->subject, call->variant, set, weight_set);
}

/* Launch counts come in steps, so that few counts of empty kernels need measuring. */
static int round_launches(double wanted, int most) {
    static const int steps[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256};
    int n = 1;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (steps[i] <= most && (n < wanted)) n = steps[i];
    return n;
}

static bool as_graph(const struct contender *c, struct policy policy) {
    return policy.launch == LAUNCH_GRAPH && !c->no_graph;
}

static enum status enqueue_launches(struct contender *c, struct policy policy, int launches) {
    const struct subject *s = c->subject;
    for (int i = 0; i < launches; i++) {
        int turn = i % s->sets;
        int set = policy.residency == RESIDENCY_COLD ? turn : 0;
        int weights = policy.residency == RESIDENCY_HOT ? 0 : turn;
        TRY(c->enqueue(c->context, set, weights));
    }
    return STATUS_OK;
}

/* One span: everything enqueued behind a hold, then let go. */
static enum status span(struct contender *c, struct policy policy, double *ns) {
    struct subject *s = c->subject;
    struct device *device = s->support->device;
    const struct device_ops *ops = device->ops;
    TRY(subject_restore(s));
    TRY(ops->hold(device));
    enum status status = STATUS_OK;
    if (policy.residency != RESIDENCY_HOT) status = support_flush(s->support);
    if (!status && policy.residency == RESIDENCY_WEIGHTS_COLD) status = subject_touch(s, 0);
    if (!status) status = ops->mark(device, 0);
    if (!status)
        status = c->graph ? ops->graph_launch(device, c->graph)
                          : enqueue_launches(c, policy, c->launches);
    if (!status) status = ops->mark(device, 1);
    TRY(ops->let_go(device));
    if (status) return status;
    return ops->elapsed(device, ns);
}

struct empty_call {
    struct support *support;
};
static enum status enqueue_empty(void *context, int set, int weight_set) {
    struct support *support = ((struct empty_call *)context)->support;
    struct launch launch = {.function = support->empty, .grid = {1, 1, 1}, .block = {32, 1, 1}};
    (void)set, (void)weight_set;
    return support->device->ops->launch(support->device, &launch);
}

static enum status make_graph(struct contender *c, struct policy policy) {
    struct device *device = c->subject->support->device;
    TRY(device->ops->record_begin(device));
    enum status status = enqueue_launches(c, policy, c->launches);
    enum status ended = device->ops->record_end(device, &c->graph);
    return status ? status : ended;
}

enum status measure_empty(struct support *support, enum launch_kind kind, int launches,
                          struct empties *empties, double *ns) {
    double *known = &empties->ns[kind][launches];
    if (support->device->info.kind == DEVICE_CPU) return *ns = 0, STATUS_OK;
    if (!*known) {
        struct empty_call call = {support};
        static const struct kernel nothing = {.name = "empty"};
        struct subject s = {.support = support, .kernel = &nothing, .sets = 1};
        struct contender c = {
            .subject = &s, .enqueue = enqueue_empty, .context = &call, .launches = launches};
        struct policy policy = {RESIDENCY_HOT, kind};
        double samples[EMPTY_SAMPLES];
        if (kind == LAUNCH_GRAPH) TRY(make_graph(&c, policy));
        for (int i = -3; i < EMPTY_SAMPLES; i++) {
            double one;
            TRY(span(&c, policy, &one));
            if (i >= 0) samples[i] = one;
        }
        support->device->ops->graph_free(support->device, c.graph);
        *known = stats_summarise(samples, EMPTY_SAMPLES, 0).median;
    }
    *ns = *known;
    return STATUS_OK;
}

/* Warms up, then finds how many launches make a span long enough. */
static enum status prepare(struct contender *c, struct policy policy, struct empties *empties) {
    struct subject *s = c->subject;
    struct device *device = s->support->device;
    int known = c->launches;
    if (!known) c->launches = 1;
    if (device->info.kind == DEVICE_CPU) return STATUS_OK;
    TRY(subject_restore(s));
    for (int i = 0; i < 2; i++) TRY(enqueue_launches(c, policy, 1));
    TRY(device->ops->synchronize(device));
    if (known) {
        if (as_graph(c, policy)) TRY(make_graph(c, policy));
        double ns;
        return span(c, policy, &ns);
    }
    int trial = 8 / (c->kernels > 8 ? 8 : c->kernels ? c->kernels : 1);
    double ns = 0, empty;
    c->launches = trial = round_launches(trial, 8);
    TRY(span(c, policy, &ns)); /* also warms a framework's allocator for that many */
    TRY(span(c, policy, &ns));
    TRY(measure_empty(s->support, LAUNCH_STREAM, trial, empties, &empty));
    double each = fmax((ns - empty) / trial, 100);
    int most = MAX_LAUNCHES / (c->kernels > 1 ? c->kernels : 1);
    /* tiny problems cannot rotate through more than the cache holds: no buffer twice in a span */
    double footprint = touched_bytes(s->kernel, &s->problem, policy.residency) * s->sets;
    if (policy.residency != RESIDENCY_HOT && footprint < 2 * (double)device->info.l2_bytes &&
        most > s->sets)
        most = s->sets;
    c->launches = round_launches(SPAN_NS / each, most < 1 ? 1 : most);
    if (as_graph(c, policy)) TRY(make_graph(c, policy));
    return span(c, policy, &ns);
}

static enum status take_sample(struct contender *c, struct policy policy, struct empties *empties) {
    double ns, empty;
    enum launch_kind kind = as_graph(c, policy) ? LAUNCH_GRAPH : LAUNCH_STREAM;
    TRY(measure_empty(c->subject->support, kind, c->launches, empties, &empty));
    TRY(span(c, policy, &ns));
    double each = (ns - empty) / c->launches;
    c->samples[c->summary.count++] = each > 0 ? each : 0;
    return STATUS_OK;
}

/* What a caller pays: the host's time to enqueue, and the time from call to call. */
static enum status measure_host(struct contender *c, struct policy policy) {
    enum { CALLS = 32 };
    struct subject *s = c->subject;
    struct device *device = s->support->device;
    if (device->info.kind == DEVICE_CPU) return STATUS_OK;
    TRY(subject_restore(s));
    TRY(device->ops->synchronize(device));
    int calls = c->graph ? 4 : CALLS;
    double start = clock_seconds();
    for (int i = 0; i < calls; i++)
        TRY(c->graph ? device->ops->graph_launch(device, c->graph)
                     : enqueue_launches(c, policy, 1));
    double enqueued = clock_seconds();
    TRY(device->ops->synchronize(device));
    double done = clock_seconds();
    int launches = calls * (c->graph ? c->launches : 1);
    c->host_ns = (enqueued - start) * 1e9 / launches;
    c->wall_ns = (done - start) * 1e9 / launches;
    return STATUS_OK;
}

enum { RETAKES = 10 };

/* One sample of each that is still in it, in alternating order; taken anew where the device was
 * disturbed meanwhile. */
static enum status take_round(struct policy policy, struct contender *contenders, int count,
                              int round, const struct watch *watch, struct empties *empties) {
    for (int turn = 0;; turn++) {
        for (int i = 0; i < count; i++) {
            struct contender *c = &contenders[round % 2 ? count - 1 - i : i];
            if (c->beaten) continue;
            TRY(take_sample(c, policy, empties));
            c->retaken += turn > 0;
        }
        if (!watch || !watch->disturbed(watch->context) || turn == RETAKES) return STATUS_OK;
        for (int i = 0; i < count; i++)
            if (!contenders[i].beaten) contenders[i].summary.count--;
        struct timespec pause = {0, 50000000}; /* for the clock to come back */
        nanosleep(&pause, NULL);
    }
}

/* Drops whose interval lies above that of the leader, the one with the lowest upper end. */
static void drop_beaten(struct contender *contenders, int count) {
    double least = INFINITY;
    for (int i = 0; i < count; i++)
        if (!contenders[i].beaten) least = fmin(least, contenders[i].summary.high);
    for (int i = 0; i < count; i++) contenders[i].beaten |= contenders[i].summary.low > least;
}

static bool all_settled(const struct contender *contenders, int count, double share) {
    for (int i = 0; i < count; i++)
        if (!contenders[i].beaten &&
            !stats_settled(&contenders[i].summary, share, contenders[i].resolution_ns))
            return false;
    return true;
}

/* Are the first samples so far off that more of them would only tell how far? */
static bool is_hopeless(const struct contender *c, const struct limits *limits) {
    enum { FIRST = 4 };
    return limits->hopeless_ns > 0 && c->summary.count >= FIRST &&
           c->summary.min > limits->hopeless_ns;
}

enum status measure_contest(struct policy policy, struct contender *contenders, int count,
                            const struct limits *limits, const struct watch *watch,
                            struct empties *empties) {
    const struct device *device = contenders[0].subject->support->device;
    for (int i = 0; i < count; i++) {
        contenders[i].summary = (struct summary){0};
        contenders[i].retaken = 0, contenders[i].beaten = false;
        nvtx_push("warm-up");
        enum status status = prepare(&contenders[i], policy, empties);
        nvtx_pop();
        if (status) return status;
        contenders[i].resolution_ns = device->ops->clock_resolution_ns / contenders[i].launches;
    }
    int most = limits->max_samples < MAX_SAMPLES ? limits->max_samples : MAX_SAMPLES;
    double start = clock_seconds();
    for (int round = 0; round < most; round++) {
        nvtx_push("measure");
        enum status status = take_round(policy, contenders, count, round, watch, empties);
        nvtx_pop();
        if (status) return status;
        for (int i = 0; i < count; i++) {
            struct contender *c = &contenders[i];
            if (!c->beaten)
                c->summary = stats_summarise(c->samples, c->summary.count, c->resolution_ns);
        }
        if (count == 1 && is_hopeless(contenders, limits)) break;
        if (round + 1 < limits->min_samples) continue;
        if (limits->race) drop_beaten(contenders, count);
        if (all_settled(contenders, count, limits->share)) break;
        if (clock_seconds() - start > limits->max_seconds) break;
    }
    for (int i = 0; i < count; i++) TRY(measure_host(&contenders[i], policy));
    return STATUS_OK;
}

/* Gives a prepared contender another number of launches. */
static enum status set_launches(struct contender *c, struct policy policy, int launches) {
    double ns;
    if (c->launches == launches) return STATUS_OK;
    c->subject->support->device->ops->graph_free(c->subject->support->device, c->graph);
    c->graph = NULL, c->launches = launches;
    if (as_graph(c, policy)) TRY(make_graph(c, policy));
    return span(c, policy, &ns);
}

enum status measure_pair(struct policy policy, struct contender *a, struct contender *b, int rounds,
                         bool planted, struct empties *empties) {
    struct contender *const order[4] = {a, b, b, a};
    const struct device *device = a->subject->support->device;
    a->summary = b->summary = (struct summary){0};
    TRY(prepare(a, policy, empties));
    TRY(prepare(b, policy, empties));
    int launches = a->launches < b->launches ? a->launches : b->launches;
    if (planted) launches = PLANTED_LAUNCHES;
    TRY(set_launches(a, policy, launches));
    TRY(set_launches(b, policy, launches + planted));
    double share = (double)(launches + planted) / launches; /* of b's time, were it a's launches */
    a->resolution_ns = b->resolution_ns = device->ops->clock_resolution_ns / launches;
    for (int i = 0; i < 4 * rounds && i < 2 * MAX_SAMPLES; i++) {
        struct contender *c = order[i % 4];
        TRY(take_sample(c, policy, empties));
        double *ns = &c->samples[c->summary.count - 1];
        if (c == b) *ns *= share;
        *ns = fmax(*ns, c->resolution_ns); /* below the clock's step a time says nothing */
    }
    a->summary = stats_summarise(a->samples, a->summary.count, a->resolution_ns);
    b->summary = stats_summarise(b->samples, b->summary.count, b->resolution_ns);
    return STATUS_OK;
}

enum status measure_repeat(struct policy policy, struct contender *c, double seconds,
                           int64_t *launches) {
    struct device *device = c->subject->support->device;
    double until = clock_seconds() + seconds;
    *launches = 0;
    do {
        TRY(c->graph ? device->ops->graph_launch(device, c->graph)
                     : enqueue_launches(c, policy, c->launches));
        TRY(device->ops->synchronize(device));
        *launches += c->launches;
    } while (clock_seconds() < until);
    return STATUS_OK;
}

void measure_free(struct contender *contenders, int count) {
    for (int i = 0; i < count; i++) {
        struct device *device = contenders[i].subject->support->device;
        device->ops->graph_free(device, contenders[i].graph);
        contenders[i].graph = NULL;
    }
}
