#include "harness/session.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/nvtx.h"
#include "harness/verify.h"
#include "kernels/registry.h"
#include "runtime/cuda_api.h"
#include "runtime/clock.h"

/* --- opening -----------------------------------------------------------------------------------
 */

static void open_telemetry(struct session *s) {
    const struct nvml_api *nvml = nvml_api();
    const struct cuda_api *cuda = s->device->info.kind == DEVICE_CUDA ? cuda_api() : NULL;
    char id[64];
    nvmlDevice_t device;
    if (!nvml || !cuda || cuda->cuDeviceGetPCIBusId(id, sizeof id, s->device->info.ordinal)) return;
    if (!nvml->nvmlDeviceGetHandleByPciBusId_v2(id, &device)) s->nvml_device = device;
}

struct telemetry session_telemetry(const struct session *s) {
    struct telemetry t = NO_TELEMETRY;
    const struct nvml_api *nvml = nvml_api();
    unsigned value;
    if (!s->nvml_device || !nvml) return t;
    nvmlDevice_t device = s->nvml_device;
    if (nvml->nvmlDeviceGetClockInfo) {
        if (!nvml->nvmlDeviceGetClockInfo(device, NVML_CLOCK_SM, &value)) t.sm_mhz = (int)value;
        if (!nvml->nvmlDeviceGetClockInfo(device, NVML_CLOCK_MEM, &value))
            t.memory_mhz = (int)value;
    }
    if (nvml->nvmlDeviceGetTemperature &&
        !nvml->nvmlDeviceGetTemperature(device, NVML_TEMPERATURE_GPU, &value))
        t.celsius = (int)value;
    unsigned long long reasons;
    if (nvml->nvmlDeviceGetCurrentClocksThrottleReasons &&
        !nvml->nvmlDeviceGetCurrentClocksThrottleReasons(device, &reasons))
        t.throttle = (int)reasons;
    if (nvml->nvmlDeviceGetPowerUsage && !nvml->nvmlDeviceGetPowerUsage(device, &value))
        t.milliwatts = (int)value;
    return t;
}

int session_gpu_processes(int ordinal) {
    const struct nvml_api *nvml = nvml_api();
    const struct cuda_api *cuda = cuda_api();
    struct nvml_process process[32];
    unsigned count = 32;
    char id[64];
    nvmlDevice_t device;
    if (!nvml || !cuda || !nvml->nvmlDeviceGetComputeRunningProcesses_v3 ||
        cuda->cuDeviceGetPCIBusId(id, sizeof id, ordinal) ||
        nvml->nvmlDeviceGetHandleByPciBusId_v2(id, &device) ||
        nvml->nvmlDeviceGetComputeRunningProcesses_v3(device, &count, process))
        return 0;
    return (int)count;
}

enum status session_open(const char *device_id, uint64_t seed, struct session *out) {
    *out = (struct session){.seed = seed};
    if (!strncmp(device_id, "cuda:", 5)) out->others = session_gpu_processes(atoi(device_id + 5));
    TRY(device_open(device_id, NULL, &out->device));
    enum status status = support_open(out->device, &out->support);
    if (status) {
        session_close(out);
        return status;
    }
    open_telemetry(out);
    snprintf(out->baseline_note, sizeof out->baseline_note, "not loaded");
    return STATUS_OK;
}

static void drop_subjects(struct session *s) {
    subject_close(s->timed), subject_close(s->odd);
    s->timed = s->odd = NULL;
}

void session_close(struct session *s) {
    drop_subjects(s);
    if (s->baseline) s->baseline->close();
    support_close(&s->support);
    if (s->device) s->device->ops->close(s->device);
    *s = (struct session){0};
}

void session_load_baseline(struct session *s) {
    const char *named = getenv("FASTINFER_TORCH");
    char path[1024] = "";
    if (named && *named) {
        snprintf(path, sizeof path, "%s", named);
    } else {
        ssize_t n = readlink("/proc/self/exe", path, sizeof path - 32);
        char *slash = n > 0 ? (path[n] = 0, strrchr(path, '/')) : NULL;
        if (slash) snprintf(slash + 1, 32, "libfastinfer_torch.so");
    }
    if (access(path, R_OK)) {
        snprintf(s->baseline_note, sizeof s->baseline_note,
                 "no PyTorch baseline: `make torch` adds one");
        return;
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *symbol = library ? dlsym(library, "fastinfer_baseline") : NULL;
    if (!symbol) {
        snprintf(s->baseline_note, sizeof s->baseline_note, "no PyTorch baseline: %.200s",
                 dlerror());
        return;
    }
    baseline_entry entry;
    memcpy(&entry, &symbol, sizeof entry);
    const struct baseline *baseline = entry();
    int cuda = s->device->info.kind == DEVICE_CUDA;
    if (baseline->version != BASELINE_VERSION)
        snprintf(s->baseline_note, sizeof s->baseline_note,
                 "no PyTorch baseline: the plugin is of version %d, %d was expected",
                 baseline->version, BASELINE_VERSION);
    else if (baseline->open(cuda ? s->device->info.ordinal : -1, s->device->ops->stream(s->device)))
        snprintf(s->baseline_note, sizeof s->baseline_note, "no PyTorch baseline: %.200s",
                 baseline->error());
    else {
        s->baseline = baseline;
        snprintf(s->baseline_name, sizeof s->baseline_name, "%.90s", baseline->describe());
        s->baseline_note[0] = 0;
    }
}

/* --- the clock
 *
 * A GPU lowers its clock for heat or power. What counts as low is relative to what this device
 * kept up in this run, not to its nominal clock: a card that cannot hold that would never finish.
 */

static int compare_ints(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

/* The median of the clocks seen while measuring; 0 while there are few. */
static int steady_mhz(const struct session *s) {
    int sorted[CLOCKS_SEEN], n = s->clocks_seen < CLOCKS_SEEN ? s->clocks_seen : CLOCKS_SEEN;
    if (n < 8) return 0;
    memcpy(sorted, s->clock_seen, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, compare_ints);
    return sorted[n / 2];
}

/* Looked at every 20 ms at most: reading the clock takes a while, too. */
static bool disturbed(void *context) {
    enum { INTERVAL_MS = 20, LOW_PERCENT = 97 };
    struct session *s = context;
    double now = clock_seconds();
    if (!s->nvml_device || now - s->clock_read_s < INTERVAL_MS / 1e3) return false;
    s->clock_read_s = now;
    int mhz = session_telemetry(s).sm_mhz, steady = steady_mhz(s);
    if (mhz <= 0) return false;
    s->clock_seen[s->clocks_seen++ % CLOCKS_SEEN] = mhz; /* a lasting change becomes the steady */
    return steady && mhz * 100 < steady * LOW_PERCENT;
}

/* Millijoules a launch, by NVML's counter over a second of launches, which its sensor (updated
 * every 20 to 100 ms) can tell; 0 where there is none. */
static enum status measure_energy(struct session *s, struct policy policy, struct contender *c,
                                  double *millijoules) {
    const struct nvml_api *nvml = nvml_api();
    unsigned long long before, after;
    int64_t launches;
    *millijoules = 0;
    if (!s->nvml_device || !nvml || !nvml->nvmlDeviceGetTotalEnergyConsumption) return STATUS_OK;
    if (nvml->nvmlDeviceGetTotalEnergyConsumption(s->nvml_device, &before)) return STATUS_OK;
    TRY(measure_repeat(policy, c, 1, &launches));
    if (nvml->nvmlDeviceGetTotalEnergyConsumption(s->nvml_device, &after)) return STATUS_OK;
    *millijoules = (double)(after - before) / (double)launches;
    return STATUS_OK;
}

/* --- evaluating
 * ------------------------------------------------------------------------------------ */

static bool same_problem(const struct subject *subject, const struct kernel *kernel,
                         const struct problem *problem) {
    return subject && subject->kernel == kernel && problem_equal(&subject->problem, problem);
}

/* Buffers are kept from point to point of the same problem and residency. */
static enum status ensure_subjects(struct session *s, const struct kernel *kernel,
                                   const struct problem *problem, struct policy policy) {
    if (same_problem(s->timed, kernel, problem) && s->timed_residency == policy.residency)
        return STATUS_OK;
    drop_subjects(s);
    int sets = measure_sets(kernel, problem, &s->device->info, policy);
    /* timed on inputs as in use, verified on awkward ones too: the parity of the seed */
    TRY(subject_open(&s->support, kernel, problem, 2 * s->seed, sets, &s->timed));
    s->timed_residency = policy.residency;
    struct problem odd = verify_odd_problem(kernel, problem);
    return subject_open(&s->support, kernel, &odd, 2 * s->seed + 1, 1, &s->odd);
}

enum status session_subject(struct session *s, const struct kernel *kernel,
                            const struct problem *problem, struct policy policy,
                            struct subject **out) {
    TRY(ensure_subjects(s, kernel, problem, policy));
    *out = s->timed;
    return STATUS_OK;
}

/* A variant on the odd problem first, then on the one that will be timed. */
static enum status verify_both(struct session *s, struct subject *timed,
                               const struct variant *variant, struct record *r) {
    struct verdict verdict;
    if (timed == s->timed && s->odd) {
        struct variant odd = *variant; /* the same code, with a scratch of its own */
        odd.plan = s->odd->kernel->plan(&s->odd->problem, &variant->point, &s->device->info);
        odd.scratch = NULL;
        TRY(variant_scratch(s->device, &odd));
        enum status status = verify_variant(s->odd, &odd, &verdict);
        if (odd.scratch) s->device->ops->release(s->device, odd.scratch);
        r->worst = verdict.worst;
        if (status) {
            char problem[MAX_TEXT];
            problem_format(s->odd->kernel, &s->odd->problem, problem);
            return fail_context(status, "at %.120s", problem);
        }
    }
    enum status status = verify_variant(timed, variant, &verdict);
    r->worst = fmax(r->worst, verdict.worst);
    return status;
}

static void keep_failure(struct record *r, enum status status) {
    r->status = status;
    snprintf(r->reason, sizeof r->reason, "%.500s", fail_message());
}

static void take_contender(struct record *r, const struct contender *c) {
    r->retaken = c->retaken;
    r->autocorrelation = stats_autocorrelation(c->samples, c->summary.count);
    r->drift = stats_drift(c->samples, c->summary.count);
    r->launches = c->launches, r->summary = c->summary;
    memcpy(r->samples, c->samples, sizeof r->samples);
    r->host_ns = c->host_ns, r->wall_ns = c->wall_ns;
}

static void begin_record(struct record *r, const char *subject, const struct kernel *kernel,
                         const struct problem *problem) {
    *r = (struct record){.problem = *problem, .telemetry = NO_TELEMETRY};
    snprintf(r->subject, sizeof r->subject, "%s", subject);
    snprintf(r->kernel, sizeof r->kernel, "%s", kernel->name);
}

/* Is the device still usable after a failure of a point? An illegal address is not survived. */
static enum status still_alive(struct session *s) { return s->device->ops->synchronize(s->device); }

enum status session_evaluate(struct session *s, const struct kernel *kernel,
                             const struct problem *problem, struct policy policy,
                             const struct point *point, const struct limits *limits,
                             struct record *r) {
    struct variant variant = {0};
    begin_record(r, "kernel", kernel, problem);
    r->has_point = true, r->point = *point;
    TRY(ensure_subjects(s, kernel, problem, policy));
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
    if (!status) status = verify_both(s, s->timed, &variant, r);
    nvtx_pop();
    double verified = clock_seconds();
    r->seconds_compiling = opened - start, r->seconds_verifying = verified - opened;
    if (!status) {
        struct variant_call call = {s->timed, &variant};
        struct watch watch = {s, disturbed};
        struct contender c = {
            .subject = s->timed, .enqueue = variant_enqueue, .context = &call, .kernels = 1};
        status = measure_contest(policy, &c, 1, limits, &watch, &s->empties);
        if (!status) take_contender(r, &c);
        measure_free(&c, 1);
    }
    nvtx_pop();
    r->seconds_measuring = clock_seconds() - verified;
    r->telemetry = session_telemetry(s);
    if (status) keep_failure(r, status);
    variant_close(s->device, &variant);
    return status ? still_alive(s) : STATUS_OK;
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
    TRY(ensure_subjects(s, kernel, problem, policy));
    enum status status = variant_open(s->device, kernel, problem, point, &variant);
    struct cost cost = kernel->cost(problem);
    double wanted = 3 * (double)s->device->info.l2_bytes / (cost.read_bytes + cost.write_bytes + 1);
    struct counting counting = {s->timed, &variant, policy, 1};
    if (policy.residency != RESIDENCY_HOT)
        counting.launches = wanted < 1 ? 1 : wanted > s->timed->sets ? s->timed->sets : (int)wanted;
    nvtx_push("counters");
    if (!status) status = counters_read(counters, &counting, count_prepare, count_work, out);
    nvtx_pop();
    for (int i = 0; i < out->count && !status; i++) {
        const char *end = strrchr(out->counter[i].name, '.');
        if (end && !strcmp(end, ".sum")) out->counter[i].value /= counting.launches;
    }
    variant_close(s->device, &variant);
    return status ? (still_alive(s) ? STATUS_CRASH : status) : STATUS_OK;
}

void session_counted(const struct kernel *kernel, const struct problem *problem,
                     struct counter_set *out) {
    struct cost cost = kernel->cost(problem);
    *out = (struct counter_set){.count = 2,
                                .counter = {{"dram__bytes_read.sum", cost.read_bytes},
                                            {"dram__bytes_write.sum", cost.write_bytes}}};
}

/* --- contests
 * ------------------------------------------------------------------------------------- */

struct problem session_stream_problem(const struct kernel *kernel, const struct problem *problem) {
    const struct kernel *stream;
    struct problem out = {0};
    if (registry_find("stream", &stream)) return out;
    struct cost cost = kernel->cost(problem);
    out = problem_default(stream);
    out.size[kernel_size(stream, "read_bytes")] = (int64_t)(cost.read_bytes + 8) / 16 * 16;
    out.size[kernel_size(stream, "write_bytes")] = (int64_t)(cost.write_bytes + 8) / 16 * 16;
    out.dtype = DTYPE_F16;
    return out;
}

struct baseline_context { /* a formula of the baseline as a contender */
    const struct baseline *baseline;
    void *handle[MAX_SETS];
    int sets;
};
static enum status enqueue_baseline(void *context, int set, int weight_set) {
    struct baseline_context *b = context;
    (void)weight_set; /* tensors are bound together; eager is only timed cold or hot as a whole */
    if (b->baseline->run(b->handle[set % b->sets], 0))
        return fail(STATUS_LAUNCH, "PyTorch: %s", b->baseline->error());
    return STATUS_OK;
}

static void release_baseline(struct baseline_context *b) {
    for (int i = 0; i < b->sets; i++) b->baseline->release(b->handle[i]);
    b->sets = 0;
}

static enum status prepare_baseline(struct session *s, const char *formula,
                                    struct baseline_context *b) {
    struct subject *subject = s->timed;
    const struct kernel *kernel = subject->kernel;
    struct baseline_call call = {.kernel = kernel->name,
                                 .formula = formula,
                                 .dtype = dtype_name(subject->problem.dtype),
                                 .size_count = kernel->size_count,
                                 .real_count = kernel->real_count,
                                 .tensor_count = kernel->argument_count};
    for (int i = 0; i < kernel->size_count; i++)
        call.size_name[i] = kernel->sizes[i].name, call.size[i] = subject->problem.size[i];
    for (int i = 0; i < kernel->real_count; i++)
        call.real_name[i] = kernel->reals[i].name, call.real[i] = subject->problem.real[i];
    *b = (struct baseline_context){.baseline = s->baseline};
    for (int set = 0; set < subject->sets; set++) {
        for (int i = 0; i < kernel->argument_count; i++)
            call.tensor[i] = (struct baseline_tensor){
                subject->pointer[set][i],
                dtype_name(argument_dtype(&kernel->arguments[i], &subject->problem)),
                kernel->elements(&subject->problem, i)};
        if (s->baseline->prepare(&call, &b->handle[set])) {
            enum status status = fail(STATUS_MISSING, "PyTorch: %s", s->baseline->error());
            release_baseline(b);
            return status;
        }
        b->sets++;
    }
    return STATUS_OK;
}

/* The baseline's own result, under its own stated bound; large ones are checked on an odd
 * problem's size only where the host can. */
static enum status verify_baseline(struct session *s, const char *formula,
                                   struct baseline_context *b, struct record *r) {
    double relative, absolute;
    const char *reason;
    struct verdict verdict;
    struct device *device = s->device;
    TRY(subject_reset(s->timed, 0, 0xff));
    if (b->baseline->run(b->handle[0], 1))
        return fail(STATUS_LAUNCH, "PyTorch: %s", b->baseline->error());
    TRY(device->ops->synchronize(device));
    TRY(subject_check_guards(s->timed, 0));
    if (problem_bytes(s->timed->kernel, &s->timed->problem) > 64 << 20) return STATUS_OK;
    if (b->baseline->bound(s->timed->kernel->name, formula, dtype_name(s->timed->problem.dtype),
                           &relative, &absolute, &reason))
        return fail(STATUS_MISSING, "PyTorch: %s", b->baseline->error());
    enum status status =
        verify_host(s->timed, (struct allowance){relative, absolute, 64}, &verdict);
    r->worst = verdict.worst;
    return status;
}

struct arena { /* what a contest holds while it runs */
    struct variant variant[MAX_CONTEST];
    struct variant_call call[MAX_CONTEST];
    struct baseline_context *baseline[MAX_BASELINES];
    struct contender contender[MAX_CONTEST + MAX_BASELINES];
    int record_of[MAX_CONTEST + MAX_BASELINES];
    int count;
    struct subject *stream;
};

static enum status add_point(struct session *s, const struct contest *contest, int i,
                             struct arena *a, struct record *r, int record) {
    bool ceiling = !strcmp(contest->name[i], "ceiling");
    const struct kernel *kernel = contest->kernel;
    struct problem problem = contest->problem;
    if (ceiling) {
        problem = session_stream_problem(kernel, &contest->problem);
        TRY(registry_find("stream", &kernel));
    }
    begin_record(r, contest->name[i], kernel, &problem);
    r->has_point = true, r->point = contest->point[i];
    if (ceiling && !a->stream) {
        int sets = measure_sets(kernel, &problem, &s->device->info, contest->policy);
        TRY(subject_open(&s->support, kernel, &problem, s->seed, sets, &a->stream));
    }
    struct subject *subject = ceiling ? a->stream : s->timed;
    double start = clock_seconds();
    enum status status = variant_open(s->device, kernel, &problem, &r->point, &a->variant[i]);
    r->build = a->variant[i].build;
    if (!status) status = verify_both(s, subject, &a->variant[i], r);
    r->seconds_verifying = clock_seconds() - start;
    if (status) {
        keep_failure(r, status);
        return still_alive(s);
    }
    a->call[i] = (struct variant_call){subject, &a->variant[i]};
    a->record_of[a->count] = record;
    a->contender[a->count++] = (struct contender){
        .subject = subject, .enqueue = variant_enqueue, .context = &a->call[i], .kernels = 1};
    return STATUS_OK;
}

static enum status add_baseline(struct session *s, const struct contest *contest, int i,
                                const char *formula, struct arena *a, struct record *r,
                                int record) {
    begin_record(r, formula, contest->kernel, &contest->problem);
    a->baseline[i] = calloc(1, sizeof *a->baseline[i]);
    enum status status = prepare_baseline(s, formula, a->baseline[i]);
    if (!status) status = verify_baseline(s, formula, a->baseline[i], r);
    if (status) {
        keep_failure(r, status);
        return still_alive(s);
    }
    a->record_of[a->count] = record;
    a->contender[a->count++] = (struct contender){.subject = s->timed,
                                                  .enqueue = enqueue_baseline,
                                                  .context = a->baseline[i],
                                                  .kernels = 16,
                                                  .no_graph = true};
    return STATUS_OK;
}

static enum status fill_arena(struct session *s, const struct contest *contest, struct arena *a,
                              struct record *records, int *record_count) {
    for (int i = 0; i < contest->count; i++, ++*record_count)
        TRY(add_point(s, contest, i, a, &records[*record_count], *record_count));
    if (!contest->baselines || !s->baseline) return STATUS_OK;
    const char *const *formulas = s->baseline->formulas(contest->kernel->name);
    for (int i = 0; formulas && formulas[i] && i < MAX_BASELINES; i++, ++*record_count)
        TRY(add_baseline(s, contest, i, formulas[i], a, &records[*record_count], *record_count));
    return STATUS_OK;
}

enum status session_contest(struct session *s, const struct contest *contest,
                            struct record *records, int *record_count) {
    *record_count = 0;
    TRY(ensure_subjects(s, contest->kernel, &contest->problem, contest->policy));
    struct arena *a = calloc(1, sizeof *a);
    if (!a) return fail(STATUS_SYSTEM, "out of memory");
    enum status status = fill_arena(s, contest, a, records, record_count);
    struct watch watch = {s, disturbed};
    double start = clock_seconds();
    if (!status && a->count)
        status = measure_contest(contest->policy, a->contender, a->count, &contest->limits, &watch,
                                 &s->empties);
    for (int i = 0; i < a->count && !status; i++) {
        struct record *r = &records[a->record_of[i]];
        take_contender(r, &a->contender[i]);
        r->telemetry = session_telemetry(s);
        r->seconds_measuring = (clock_seconds() - start) / a->count;
        if (contest->energy)
            status = measure_energy(s, contest->policy, &a->contender[i], &r->millijoules);
    }
    measure_free(a->contender, a->count);
    for (int i = 0; i < contest->count; i++) variant_close(s->device, &a->variant[i]);
    for (int i = 0; i < MAX_BASELINES; i++) {
        if (a->baseline[i]) release_baseline(a->baseline[i]);
        free(a->baseline[i]);
    }
    subject_close(a->stream);
    free(a);
    return status;
}

/* --- the device's own ceilings -----------------------------------------------------------------
 */

struct copy_call {
    struct session *session;
    void *from, *to;
    size_t bytes;
};
static enum status enqueue_copy(void *context, int set, int weight_set) {
    struct copy_call *c = context;
    struct device *device = c->session->device;
    (void)set, (void)weight_set;
    return device->ops->copy(device, c->to, c->from, c->bytes);
}
static enum status enqueue_read(void *context, int set, int weight_set) {
    struct copy_call *c = context;
    (void)set, (void)weight_set;
    return support_read(&c->session->support, c->from, c->bytes);
}

static enum status measure_memory(struct session *s, struct copy_call *call, struct ceilings *out) {
    static const struct kernel nothing = {.name = "copy"};
    struct subject subject = {.support = &s->support, .kernel = &nothing, .sets = 1};
    struct contender c[] = {{.subject = &subject, .enqueue = enqueue_copy, .context = call},
                            {.subject = &subject, .enqueue = enqueue_read, .context = call}};
    struct limits limits = {10, 30, 0.005, 1.0, false};
    bool cpu = s->device->info.kind == DEVICE_CPU;
    TRY(measure_contest((struct policy){RESIDENCY_COLD, LAUNCH_STREAM}, c, cpu ? 1 : 2, &limits,
                        NULL, &s->empties));
    out->copy_bytes = (int64_t)call->bytes;
    out->copy_gbps = 2 * (double)call->bytes / c[0].summary.median;
    if (!cpu) out->read_gbps = (double)call->bytes / c[1].summary.median;
    return STATUS_OK;
}

/* One empty kernel more, in a row of them. */
static enum status measure_launch(struct session *s, enum launch_kind kind, double *ns) {
    double one, many;
    TRY(measure_empty(&s->support, kind, 1, &s->empties, &one));
    TRY(measure_empty(&s->support, kind, 128, &s->empties, &many));
    *ns = (many - one) / 127;
    return STATUS_OK;
}

enum status session_ceilings(struct session *s, struct ceilings *out) {
    struct device *device = s->device;
    size_t available;
    *out = (struct ceilings){0};
    TRY(device->ops->free_bytes(device, &available));
    struct copy_call call = {.session = s};
    call.bytes = device->info.kind == DEVICE_CPU ? 64 << 20 : 1 << 30;
    while (call.bytes > available / 4 && call.bytes > 1 << 20) call.bytes /= 2;
    enum status status = device->ops->allocate(device, call.bytes, &call.from);
    if (!status) status = device->ops->allocate(device, call.bytes, &call.to);
    if (!status) status = device->ops->set_bytes(device, call.from, 0x3c, call.bytes);
    if (!status) status = measure_memory(s, &call, out);
    if (call.from) device->ops->release(device, call.from);
    if (call.to) device->ops->release(device, call.to);
    if (!status) status = measure_launch(s, LAUNCH_STREAM, &out->launch_ns);
    if (!status) status = measure_launch(s, LAUNCH_GRAPH, &out->graph_node_ns);
    return status;
}
