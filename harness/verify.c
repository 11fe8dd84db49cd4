#include "harness/verify.h"

#include "runtime/parallel.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Kept in step with check_report of kernels/tile.cuh. */
struct check_report {
    unsigned long long wrong, first, worst, focus;
    double got, want, magnitude;
    double roundoff, c, floor;
};

/* --- on the host -------------------------------------------------------------------------------
 */

struct host_copy {
    void *before[MAX_ARGUMENTS], *after[MAX_ARGUMENTS];
    double *want[MAX_ARGUMENTS], *magnitude[MAX_ARGUMENTS];
};

static void host_copy_free(struct host_copy *copy) {
    for (int i = 0; i < MAX_ARGUMENTS; i++)
        free(copy->before[i]), free(copy->after[i]), free(copy->want[i]), free(copy->magnitude[i]);
}

static enum status host_copy_take(struct subject *s, struct host_copy *copy) {
    struct device *device = s->support->device;
    *copy = (struct host_copy){0};
    for (int i = 0; i < s->kernel->argument_count; i++) {
        const struct argument *argument = &s->kernel->arguments[i];
        size_t n = (size_t)s->kernel->elements(&s->problem, i);
        if (!n) continue;
        if (argument->role != ROLE_OUT) {
            copy->before[i] = malloc(s->bytes[i]);
            const void *from = s->pristine[i] ? s->pristine[i] : s->pointer[0][i];
            TRY(device->ops->download(device, copy->before[i], from, s->bytes[i]));
        }
        if (argument->role != ROLE_IN) {
            copy->want[i] = malloc(n * sizeof(double));
            copy->magnitude[i] = malloc(n * sizeof(double));
            if (!copy->want[i] || !copy->magnitude[i])
                return fail(STATUS_SYSTEM, "out of memory for the reference of %s",
                            s->kernel->name);
            for (size_t k = 0; k < n; k++) copy->want[i][k] = NAN, copy->magnitude[i][k] = 0;
        }
    }
    return STATUS_OK;
}

static enum status host_copy_after(struct subject *s, struct host_copy *copy) {
    struct device *device = s->support->device;
    for (int i = 0; i < s->kernel->argument_count; i++) {
        if (s->kernel->arguments[i].role == ROLE_IN || !s->bytes[i]) continue;
        if (!copy->after[i]) copy->after[i] = malloc(s->bytes[i]);
        if (!copy->after[i])
            return fail(STATUS_SYSTEM, "out of memory for the results of %s", s->kernel->name);
        TRY(device->ops->download(device, copy->after[i], s->pointer[0][i], s->bytes[i]));
    }
    return STATUS_OK;
}

struct share {
    const struct subject *subject;
    struct host_copy *copy;
};
static void reference_share(void *context, int64_t first, int64_t last) {
    const struct share *share = context;
    const struct subject *s = share->subject;
    s->kernel->reference(&s->problem, (const void *const *)share->copy->before, share->copy->want,
                         share->copy->magnitude, first, last);
}

/* The reference on all cores, where there is enough of it. */
static void run_reference(struct subject *s, struct host_copy *copy) {
    struct share share = {s, copy};
    int64_t outer = s->kernel->outer(&s->problem);
    bool small = problem_bytes(s->kernel, &s->problem) < 1 << 18;
    parallel_for(outer, small ? outer : 1, reference_share, &share);
}

/* |error| over its bound: right is up to 1. want NaN: not to be touched, `before` it is to stay. */
static double ratio_of(enum dtype dtype, struct allowance a, double got, double want,
                       double magnitude, double before) {
    if (got == want) return 0;
    if (isnan(want)) return got == before || (isnan(got) && isnan(before)) ? 0 : INFINITY;
    if (dtype == DTYPE_U8 || dtype == DTYPE_I32) /* exact, or the other right value */
        return got == want + magnitude ? 0 : INFINITY;
    double error = fabs(got - want);
    double bound = a.relative * fabs(want) + a.absolute * magnitude + a.floors;
    double ratio = error == 0 ? 0 : bound > 0 ? error / bound : INFINITY;
    return isnan(ratio) ? INFINITY : ratio;
}

static void say_wrong(const struct argument *argument, struct allowance a, int64_t index,
                      double got, double want, double magnitude, double before,
                      struct verdict *verdict) {
    bool exact = argument->dtype == DTYPE_U8 || argument->dtype == DTYPE_I32;
    double bound = exact ? 0 : a.relative * fabs(want) + a.absolute * magnitude + a.floors;
    double error = isnan(want) ? INFINITY : fabs(got - want);
    snprintf(verdict->reason, sizeof verdict->reason,
             "%s[%lld] is %.9g, should be %.9g (off by %.3g, allowed %.3g)", argument->name,
             (long long)index, got, isnan(want) ? before : want, error, bound);
}

/* One output; a.floors in units of its own from here on. */
static void judge_argument(struct subject *s, const struct host_copy *copy, int index,
                           struct allowance a, struct verdict *verdict) {
    enum { ROW = 512 };
    const struct argument *argument = &s->kernel->arguments[index];
    enum dtype dtype = argument_dtype(argument, &s->problem);
    const double *want = copy->want[index], *magnitude = copy->magnitude[index];
    double got[ROW], before[ROW];
    int64_t all = s->kernel->elements(&s->problem, index);
    a.floors *= dtype_floor(dtype);
    if (argument->dtype != DTYPE_COUNT) a.relative = dtype_roundoff(dtype); /* not the problem's */
    for (int i = 0; i < ROW; i++) before[i] = NAN;
    for (int64_t first = 0; first < all; first += ROW) {
        int64_t n = all - first < ROW ? all - first : ROW;
        dtype_load_row(dtype, copy->after[index], first, n, got);
        if (copy->before[index]) dtype_load_row(dtype, copy->before[index], first, n, before);
        for (int64_t i = 0; i < n; i++) {
            int64_t k = first + i;
            double ratio = ratio_of(dtype, a, got[i], want[k], magnitude[k], before[i]);
            if (ratio > verdict->worst) verdict->worst = ratio;
            if (ratio > 1 && !verdict->reason[0])
                say_wrong(argument, a, k, got[i], want[k], magnitude[k], before[i], verdict);
        }
    }
    verdict->elements += all;
}

static enum status judge(struct subject *s, const struct host_copy *copy,
                         struct allowance allowance, struct verdict *verdict) {
    for (int i = 0; i < s->kernel->argument_count; i++)
        if (copy->after[i]) judge_argument(s, copy, i, allowance, verdict);
    return verdict->reason[0] ? fail(STATUS_INCORRECT, "%s", verdict->reason) : STATUS_OK;
}

static void reference_free(void *reference) {
    host_copy_free(reference);
    free(reference);
}

static int64_t outputs_of(const struct subject *s) {
    int64_t outputs = 0;
    for (int i = 0; i < s->kernel->argument_count; i++)
        if (s->kernel->arguments[i].role != ROLE_IN) outputs += s->kernel->elements(&s->problem, i);
    return outputs;
}

/* What a problem should give is worked out once for all points of a subject, whose inputs stay. */
static enum status keep_reference(struct subject *s) {
    struct host_copy *kept = calloc(1, sizeof *kept);
    if (!kept) return fail(STATUS_SYSTEM, "out of memory for the reference of %s", s->kernel->name);
    enum status status = host_copy_take(s, kept);
    if (status) return reference_free(kept), status;
    run_reference(s, kept);
    for (int i = 0; i < s->kernel->argument_count; i++)
        if (s->kernel->arguments[i].role == ROLE_IN) free(kept->before[i]), kept->before[i] = NULL;
    s->reference = kept, s->reference_free = reference_free;
    return STATUS_OK;
}

enum status verify_host(struct subject *s, struct allowance allowance, struct verdict *verdict) {
    struct host_copy copy = {0}, *used = &copy;
    *verdict = (struct verdict){0};
    enum status status = STATUS_OK;
    if (s->kernel->host_check || outputs_of(s) <= HOST_ELEMENTS) {
        if (!s->reference) TRY(keep_reference(s));
        used = s->reference;
    } else { /* a baseline's: once, and too large to lie about */
        status = host_copy_take(s, &copy);
        if (!status) run_reference(s, &copy);
    }
    if (!status) status = host_copy_after(s, used);
    if (!status) status = judge(s, used, allowance, verdict);
    host_copy_free(&copy);
    return status;
}

/* Runs again over another poison: the same input must give the same bits. */
static enum status check_repeat(struct subject *s, const struct variant *variant) {
    struct device *device = s->support->device;
    for (int i = 0; i < s->kernel->argument_count; i++) {
        if (s->kernel->arguments[i].role == ROLE_IN || !s->bytes[i]) continue;
        char *first = malloc(s->bytes[i]), *second = malloc(s->bytes[i]);
        enum status status = device->ops->download(device, first, s->pointer[0][i], s->bytes[i]);
        if (!status) status = subject_reset(s, 0, 0x7f);
        if (!status) status = subject_launch(s, variant, 0, 0);
        if (!status) status = device->ops->download(device, second, s->pointer[0][i], s->bytes[i]);
        int differ = !status && memcmp(first, second, s->bytes[i]) != 0;
        free(first), free(second);
        if (status) return status;
        if (differ)
            return fail(STATUS_NONDETERMINISTIC, "two runs on the same input differ in %s",
                        s->kernel->arguments[i].name);
    }
    return STATUS_OK;
}

/* --- on the device ------------------------------------------------------------------------------
 */

struct checker { /* the kernel's check entry and its report: as long as the subject */
    struct module *module;
    struct function *function;
    void *report;
};

static enum status checker_run(struct subject *s, struct checker *c, struct check_report *report) {
    struct device *device = s->support->device;
    struct launch launch = {.function = c->function,
                            .grid = {16 * (unsigned)device->info.sms, 1, 1},
                            .block = {256, 1, 1}};
    int count = s->kernel->argument_count;
    for (int i = 0; i < count; i++)
        launch.param[launch.param_count++] =
            (uint64_t)(uintptr_t)(s->pristine[i] ? s->pristine[i] : s->pointer[0][i]);
    for (int i = 0; i < count; i++)
        launch.param[launch.param_count++] = (uint64_t)(uintptr_t)s->pointer[0][i];
    launch_append_scalars(&launch, s->kernel, &s->problem);
    launch.param[launch.param_count++] = (uint64_t)(uintptr_t)c->report;
    TRY(device->ops->upload(device, c->report, report, sizeof *report));
    TRY(device->ops->launch(device, &launch));
    return device->ops->download(device, report, c->report, sizeof *report);
}

static enum status device_judge(struct subject *s, double bound, struct checker *c,
                                struct verdict *verdict) {
    struct check_report report = {.first = ~0ull,
                                  .focus = ~0ull,
                                  .roundoff = dtype_roundoff(s->problem.dtype),
                                  .c = bound,
                                  .floor = dtype_floor(s->problem.dtype)};
    TRY(checker_run(s, c, &report));
    memcpy(&verdict->worst, &report.worst, sizeof report.worst);
    verdict->elements += outputs_of(s);
    if (!report.wrong) return STATUS_OK;
    unsigned long long wrong = report.wrong;
    report.focus = report.first;
    TRY(checker_run(s, c, &report));
    snprintf(verdict->reason, sizeof verdict->reason,
             "%s[%llu] is %.9g, should be %.9g (%llu elements wrong)",
             s->kernel->arguments[report.focus >> 56].name, report.focus & ((1ull << 56) - 1),
             report.got, report.want, wrong);
    return fail(STATUS_INCORRECT, "%s", verdict->reason);
}

static void checker_free(struct subject *s) {
    struct checker *c = s->checker;
    struct device *device = s->support->device;
    if (c->report) device->ops->release(device, c->report);
    device->ops->module_unload(device, c->module);
    free(c);
    s->checker = NULL;
}

static enum status checker_open(struct subject *s, struct checker *c) {
    struct device *device = s->support->device;
    struct build build;
    struct target target = {device->info.kind, device->info.arch};
    TRY(compile_check(s->kernel, &s->problem, target, &build));
    if (build.status) return fail(build.status, "the check of %s: %s", s->kernel->name, build.log);
    TRY(device->ops->module_load(device, build.path, build.suffix, &c->module));
    TRY(device->ops->function_get(device, c->module, "check", 0, &c->function));
    return device->ops->allocate(device, sizeof(struct check_report), &c->report);
}

enum status verify_device(struct subject *s, double bound, struct verdict *verdict) {
    if (!s->checker) {
        struct checker *c = calloc(1, sizeof *c);
        if (!c) return fail(STATUS_SYSTEM, "out of memory for the check of %s", s->kernel->name);
        s->checker = c, s->checker_free = checker_free;
        enum status status = checker_open(s, c);
        if (status) return checker_free(s), status;
    }
    return device_judge(s, bound, s->checker, verdict);
}

/* --- both
 * ----------------------------------------------------------------------------------------- */

enum status verify_variant(struct subject *s, const struct variant *variant,
                           struct verdict *verdict) {
    struct device *device = s->support->device;
    *verdict = (struct verdict){0};
    TRY(subject_reset(s, 0, 0xff));
    enum status status = subject_launch(s, variant, 0, 0);
    if (!status) status = device->ops->synchronize(device);
    if (!status) status = subject_check_guards(s, 0);
    if (!status) {
        double bound = kernel_bound(s->kernel, &s->problem, &variant->point);
        bool many = outputs_of(s) > HOST_ELEMENTS ||
                    problem_bytes(s->kernel, &s->problem) > (double)HOST_BYTES;
        if (many && device->info.kind == DEVICE_CUDA && !s->kernel->host_check) {
            status = verify_device(s, bound, verdict);
        } else {
            struct allowance allowance = {dtype_roundoff(s->problem.dtype), bound * 0x1p-24, 1};
            status = verify_host(s, allowance, verdict);
            if (!status) status = check_repeat(s, variant);
        }
    }
    if (status && !verdict->reason[0])
        snprintf(verdict->reason, sizeof verdict->reason, "%.380s", fail_message());
    return status;
}

struct problem verify_odd_problem(const struct kernel *kernel, const struct problem *problem) {
    struct problem odd = *problem;
    for (int i = 0; i < kernel->size_count; i++) {
        const struct size *size = &kernel->sizes[i];
        const char *bytes = strstr(size->name, "_bytes");
        if (size->compiled) continue;
        bool rows = !strcmp(size->name, "rows") || !strcmp(size->name, "outputs");
        if (rows && odd.size[i] > 37) odd.size[i] = 37;
        if (bytes && odd.size[i] > 16 * 12345) /* keeps the mix of reads and writes */
            odd.size[i] = odd.size[i] >= problem->size[!i] ? 16 * 12345 : 16 * 5000;
    }
    return odd;
}
