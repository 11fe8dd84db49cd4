/* tps_profile.c - where the time goes: of a step, of a prompt, of loading a folder. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/tps.h"

enum { PASSES = 20, WARM = 3 };

static enum status time_program(struct device *device, struct program *program, double *us) {
    double ns, each[PASSES];
    for (int i = -WARM; i < PASSES; i++) {
        TRY(device->ops->mark(device, 0));
        TRY(program_run(program));
        TRY(device->ops->mark(device, 1));
        TRY(device->ops->synchronize(device));
        TRY(device->ops->elapsed(device, &ns));
        if (i >= 0) each[i] = ns * 1e-3;
    }
    *us = stats_summarise(each, PASSES, 0).median;
    return STATUS_OK;
}

static bool same_part(const struct program_line *a, const struct program_line *b) {
    return a->variant == b->variant;
}

static enum status time_part(struct device *device, struct program *step, int first,
                             struct step_part *part) {
    struct program_line line = program_at(step, first);
    struct cost cost = line.kernel->cost(line.problem);
    struct program *alone;
    snprintf(part->kernel, sizeof part->kernel, "%s", line.kernel->name);
    problem_format(line.kernel, line.problem, part->problem);
    point_format(line.kernel, &line.variant->point, part->point);
    part->bytes = cost.read_bytes + cost.write_bytes, part->calls = 0;
    for (int i = first; i < program_count(step); i++) {
        struct program_line other = program_at(step, i);
        part->calls += same_part(&line, &other);
    }
    TRY(program_select(step, line.variant, &alone));
    enum status status = time_program(device, alone, &part->us);
    program_free(alone);
    part->us /= (double)part->calls;
    return status;
}

static enum status profile_step(struct engine *engine, struct device *device,
                                struct tps_profile *out) {
    struct program *step;
    struct engine_state *state;
    TRY(engine_step(engine, &step));
    TRY(engine_save(engine, &state));
    enum status status = STATUS_OK;
    for (int i = 0; i < program_count(step) && !status && out->parts < TPS_MAX_PARTS; i++) {
        struct program_line line = program_at(step, i);
        bool seen = false;
        for (int j = 0; j < i && !seen; j++) {
            struct program_line other = program_at(step, j);
            seen = same_part(&line, &other);
        }
        if (!seen) status = time_part(device, step, i, &out->part[out->parts++]);
        if (!status) status = engine_restore(engine, state);
    }
    /* the choice moves positions on: each pass of the whole step begins where it was */
    double each[PASSES], ns;
    for (int i = -WARM; i < PASSES && !status; i++) {
        status = engine_restore(engine, state);
        if (!status) status = device->ops->mark(device, 0);
        if (!status) status = program_run(step);
        if (!status) status = device->ops->mark(device, 1);
        if (!status) status = device->ops->synchronize(device);
        if (!status) status = device->ops->elapsed(device, &ns);
        if (!status && i >= 0) each[i] = ns * 1e-3;
    }
    if (!status) out->step_us = stats_summarise(each, PASSES, 0).median;
    enum status restored = engine_restore(engine, state);
    engine_state_free(state);
    return status ? status : restored;
}

/* --- a prompt --------------------------------------------------------------------------------- */

static enum status profile_prompt(struct engine *engine, struct device *device, int64_t count,
                                  struct tps_profile *out) {
    const struct device_ops *ops = device->ops;
    struct prompt_part part;
    double ns, each[PASSES];
    while (out->prompts < TPS_MAX_PARTS && engine_prompt_part(engine, out->prompts, &part)) {
        for (int i = -WARM; i < PASSES; i++) {
            TRY(ops->synchronize(device));
            if (i >= 0) TRY(ops->hold(device)); /* what the host takes to enqueue is not its time */
            enum status status = ops->mark(device, 0);
            if (!status) status = engine_prompt_run(engine, out->prompts, count);
            if (!status) status = ops->mark(device, 1);
            enum status let_go = i >= 0 ? ops->let_go(device) : STATUS_OK;
            TRY(status);
            TRY(let_go);
            TRY(ops->synchronize(device));
            TRY(ops->elapsed(device, &ns));
            if (i >= 0) each[i] = ns * 1e-3;
        }
        out->prompt[out->prompts++] =
            (struct prompt_row){part.name, part.product, stats_summarise(each, PASSES, 0).median};
    }
    return STATUS_OK;
}

/* --- loading ---------------------------------------------------------------------------------- */

enum { ROUNDS = 6, PIECE_BYTES = 16 << 20 };

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* One file as it is to `to`, a piece at a time through `pinned`. */
static enum status read_file(struct device *device, const char *path, void *pinned, char *to,
                             int64_t *bytes) {
    enum status status = STATUS_OK;
    ssize_t n = 0;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return fail(STATUS_SYSTEM, "%s: %s", path, strerror(errno));
    for (*bytes = 0; !status && (n = read(file, pinned, PIECE_BYTES)) > 0; *bytes += n)
        status = device->ops->upload(device, to + *bytes, pinned, (size_t)n);
    if (!status && n < 0) status = fail(STATUS_SYSTEM, "%s: %s", path, strerror(errno));
    close(file);
    return status;
}

static enum status files_bytes(const struct safetensors *files, int64_t *bytes) {
    struct stat facts;
    *bytes = 0;
    for (int i = 0; i < safetensors_files(files); i++) {
        const char *path = safetensors_path(files, i);
        if (stat(path, &facts)) return fail(STATUS_SYSTEM, "%s: %s", path, strerror(errno));
        *bytes += (int64_t)facts.st_size;
    }
    return STATUS_OK;
}

static enum status read_plainly(const struct opened *opened, int64_t bytes, double *seconds) {
    const struct device_ops *ops = opened->device->ops;
    const struct safetensors *files = opened->model->files;
    void *pinned = NULL, *to = NULL;
    double start = now_s();
    int64_t done = 0, n = 0;
    enum status status = ops->host_allocate(opened->device, PIECE_BYTES, &pinned);
    if (!status) status = ops->allocate(opened->device, (size_t)bytes, &to);
    for (int i = 0; !status && i < safetensors_files(files); i++, done += n)
        status =
            read_file(opened->device, safetensors_path(files, i), pinned, (char *)to + done, &n);
    if (!status) status = ops->synchronize(opened->device);
    *seconds = now_s() - start;
    if (to) ops->release(opened->device, to);
    if (pinned) ops->host_release(opened->device, pinned);
    return status;
}

static enum status load_once(const struct opened *opened, double *seconds) {
    struct engine_facts facts = engine_facts(opened->engine);
    struct weights_source source = {.model = opened->model, .dtype = facts.dtype};
    struct weights *weights;
    double start = now_s();
    TRY(weights_load(opened->device, &source, &weights));
    *seconds = now_s() - start;
    weights_free(weights);
    return STATUS_OK;
}

/* Files in the page cache, a second copy of the weights beside the engine's. */
static enum status profile_loading(const struct opened *opened, struct loading *out) {
    double ours[ROUNDS], plain[ROUNDS], log_ratio[ROUNDS], unused;
    TRY(files_bytes(opened->model->files, &out->bytes));
    TRY(read_plainly(opened, out->bytes, &unused));
    for (int i = 0; i < ROUNDS; i++) {
        if (i % 2) TRY(load_once(opened, &ours[i]));
        TRY(read_plainly(opened, out->bytes, &plain[i]));
        if (i % 2 == 0) TRY(load_once(opened, &ours[i]));
        log_ratio[i] = log(ours[i] / plain[i]);
    }
    out->ratio = stats_ratio(log_ratio, ROUNDS, 0);
    out->seconds = stats_summarise(ours, ROUNDS, 0).median;
    out->plain_seconds = stats_summarise(plain, ROUNDS, 0).median;
    return STATUS_OK;
}

/* --- all of it -------------------------------------------------------------------------------- */

enum status tps_profile(const struct opened *opened, const struct tps_work *work,
                        struct tps_profile *out) {
    out->parts = out->prompts = 0;
    TRY(profile_step(opened->engine, opened->device, out));
    TRY(profile_prompt(opened->engine, opened->device, work->prompt, out));
    if (!opened->model->files) return STATUS_OK;
    enum status status = profile_loading(opened, &out->loading);
    if (status != STATUS_MEMORY) return status;
    fprintf(stderr, "fastinfer: loading is not compared with reading: %s\n", fail_message());
    out->loading.ratio.rounds = 0;
    return STATUS_OK;
}

static void report_step(const struct tps_profile *p, bool quiet, json_t *json) {
    double sum = 0;
    json_t *parts = json_array();
    for (int i = 0; i < p->parts; i++) sum += p->part[i].us * (double)p->part[i].calls;
    if (!quiet)
        printf("\n  %-18s %5s %9s %10s %8s %7s  problem\n", "kernel", "calls", "us each", "bytes",
               "GB/s", "share");
    for (int i = 0; i < p->parts; i++) {
        const struct step_part *part = &p->part[i];
        double share = part->us * (double)part->calls / p->step_us;
        json_array_append_new(parts, json_pack("{s:s, s:s, s:s, s:I, s:f, s:f, s:f}", "kernel",
                                               part->kernel, "problem", part->problem, "point",
                                               part->point, "calls", (json_int_t)part->calls, "us",
                                               part->us, "bytes", part->bytes, "share", share));
        if (!quiet)
            printf("  %-18s %5lld %9.2f %10.0f %8.1f %6.1f%%  %.60s\n", part->kernel,
                   (long long)part->calls, part->us, part->bytes, part->bytes / part->us * 1e-3,
                   100 * share, part->problem);
    }
    if (!quiet)
        printf("  the step: %.2f us; its parts alone: %.2f us, %+.2f us\n", p->step_us, sum,
               sum - p->step_us);
    json_object_set_new(json, "parts", parts);
    json_object_set_new(json, "step_us", json_real(p->step_us));
}

static void report_prompt(const struct tps_profile *p, double first_ms, bool quiet, json_t *json) {
    double all = 0, products = 0;
    json_t *parts = json_array();
    for (int i = 0; i < p->prompts; i++) {
        const struct prompt_row *part = &p->prompt[i];
        all += part->us * 1e-3, products += part->product ? part->us * 1e-3 : 0;
        json_array_append_new(parts, json_pack("{s:s, s:b, s:f}", "part", part->part, "product",
                                               part->product, "us", part->us));
    }
    json_object_set_new(json, "prompt", parts);
    if (quiet || !p->prompts) return;
    printf("\n  %-28s %9s %7s\n", "a prompt, all layers", "us", "share");
    for (int i = 0; i < p->prompts; i++)
        printf("  %-28s %9.1f %6.1f%%\n", p->prompt[i].part, p->prompt[i].us,
               1e-1 * p->prompt[i].us / first_ms);
    printf("  first token after %.2f ms; the parts alone %.2f ms, the products among them %.2f ms: "
           "%.2f times these\n",
           first_ms, all, products, first_ms / products);
}

void tps_profile_report(const struct tps_profile *p, double first_ms, bool quiet, json_t *json) {
    const struct loading *l = &p->loading;
    report_step(p, quiet, json);
    report_prompt(p, first_ms, quiet, json);
    if (!l->ratio.rounds) return;
    json_object_set_new(json, "loading",
                        json_pack("{s:I, s:f, s:f, s:f, s:f, s:f}", "bytes", (json_int_t)l->bytes,
                                  "seconds", l->seconds, "plain_seconds", l->plain_seconds, "ratio",
                                  l->ratio.ratio, "low", l->ratio.low, "high", l->ratio.high));
    if (!quiet)
        printf("  loading %.2f GB takes %.3f s, %.2f GB/s; a plain read of the files %.3f s: %.3f "
               "times [%.3f, %.3f]\n",
               (double)l->bytes * 1e-9, l->seconds, (double)l->bytes * 1e-9 / l->seconds,
               l->plain_seconds, l->ratio.ratio, l->ratio.low, l->ratio.high);
}
