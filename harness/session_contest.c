/* session_contest.c - points, ceilings and PyTorch's formulas against one another. */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/session_internal.h"
#include "harness/verify.h"
#include "kernels/registry.h"
#include "runtime/clock.h"
#include "runtime/cuda_api.h"

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

/* --- baselines ---------------------------------------------------------------------------------
 */

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
    struct subject *subject = s->now->timed;
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
    TRY(subject_reset(s->now->timed, 0, 0xff));
    if (b->baseline->run(b->handle[0], 1))
        return fail(STATUS_LAUNCH, "PyTorch: %s", b->baseline->error());
    TRY(device->ops->synchronize(device));
    TRY(subject_check_guards(s->now->timed, 0));
    if (problem_bytes(s->now->timed->kernel, &s->now->timed->problem) > 64 << 20) return STATUS_OK;
    if (b->baseline->bound(s->now->timed->kernel->name, formula,
                           dtype_name(s->now->timed->problem.dtype), &relative, &absolute, &reason))
        return fail(STATUS_MISSING, "PyTorch: %s", b->baseline->error());
    enum status status =
        verify_host(s->now->timed, (struct allowance){relative, absolute, 64}, &verdict);
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
    session_begin_record(r, contest->name[i], kernel, &problem);
    r->has_point = true, r->point = contest->point[i];
    if (ceiling && !a->stream) {
        int sets = measure_sets(kernel, &problem, &s->device->info, contest->policy);
        TRY(subject_open(&s->support, kernel, &problem, s->seed, sets, &a->stream));
    }
    struct subject *subject = ceiling ? a->stream : s->now->timed;
    double start = clock_seconds();
    enum status status = variant_open(s->device, kernel, &problem, &r->point, &a->variant[i]);
    r->build = a->variant[i].build;
    if (!status) status = session_verify(s, subject, &a->variant[i], r);
    r->seconds_verifying = clock_seconds() - start;
    if (status) {
        session_failed(r, status);
        return session_alive(s);
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
    session_begin_record(r, formula, contest->kernel, &contest->problem);
    a->baseline[i] = calloc(1, sizeof *a->baseline[i]);
    enum status status = prepare_baseline(s, formula, a->baseline[i]);
    if (!status) status = verify_baseline(s, formula, a->baseline[i], r);
    if (status) {
        session_failed(r, status);
        return session_alive(s);
    }
    a->record_of[a->count] = record;
    a->contender[a->count++] = (struct contender){.subject = s->now->timed,
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
    TRY(session_subjects(s, contest->kernel, &contest->problem, contest->policy));
    struct arena *a = calloc(1, sizeof *a);
    if (!a) return fail(STATUS_SYSTEM, "out of memory");
    enum status status = fill_arena(s, contest, a, records, record_count);
    struct watch watch = {s, session_disturbed};
    double start = clock_seconds();
    if (!status && a->count)
        status = measure_contest(contest->policy, a->contender, a->count, &contest->limits, &watch,
                                 &s->empties);
    for (int i = 0; i < a->count && !status; i++) {
        struct record *r = &records[a->record_of[i]];
        session_take(r, &a->contender[i]);
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
