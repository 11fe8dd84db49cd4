/* tps_repeat.c - one repeat of a side, and where a step's time goes. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/tps.h"
#include "runtime/cuda_api.h"

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* NVML's counter in millijoules; 0 where there is none. */
static double energy_mj(const struct device *device) {
    const struct nvml_api *nvml = device->info.kind == DEVICE_CUDA ? nvml_api() : NULL;
    unsigned long long millijoules;
    const struct cuda_api *cuda = nvml ? cuda_api() : NULL;
    nvmlDevice_t handle;
    char id[64];
    if (!cuda || !nvml->nvmlDeviceGetTotalEnergyConsumption) return 0;
    if (cuda->cuDeviceGetPCIBusId(id, sizeof id, device->info.ordinal)) return 0;
    if (nvml->nvmlDeviceGetHandleByPciBusId_v2(id, &handle)) return 0;
    if (nvml->nvmlDeviceGetTotalEnergyConsumption(handle, &millijoules)) return 0;
    return (double)millijoules;
}

enum status tps_choose(struct tps_side *side) {
    TRY(engine_choose(side->opened.engine, &side->choice));
    struct engine_facts facts = engine_facts(side->opened.engine);
    side->persistent = facts.persistent;
    snprintf(side->name, sizeof side->name, "fastinfer");
    snprintf(side->configs, sizeof side->configs, "%.150s%s%s%s", facts.configs,
             side->choice.only ? ", only " : "", side->choice.only ? side->only : "",
             side->persistent ? ", one kernel" : "");
    snprintf(side->config_path, sizeof side->config_path, "%s", facts.config_path);
    return STATUS_OK;
}

static enum status our_repeat(struct tps_side *side, const struct tps_work *w, double *first_ms,
                              double *tokens_s) {
    enum { SENSOR_S = 1 }; /* shorter spans say nothing: the counter moves every 20 to 100 ms */
    struct engine *engine = side->opened.engine;
    struct device *device = side->opened.device;
    const struct device_ops *ops = device->ops;
    int32_t token;
    if (!side->alone) TRY(tps_choose(side));
    TRY(engine_prepare(engine, w->prompt + w->generate));
    double ns, start = now_s();
    for (int s = 0; s < w->batch; s++) TRY(engine_prompt(engine, s, w->ids, w->prompt));
    for (int s = 0; s < w->batch; s++) TRY(engine_tokens(engine, s, w->prompt, 1, &token));
    *first_ms = 1e3 * (now_s() - start);
    double before = energy_mj(device), began = now_s();
    TRY(ops->mark(device, 0));
    TRY(engine_decode(engine, w->generate - 1));
    TRY(ops->mark(device, 1));
    TRY(ops->synchronize(device));
    TRY(ops->elapsed(device, &ns));
    double tokens = (double)(w->generate - 1) * (double)w->batch, after = energy_mj(device);
    *tokens_s = tokens / (ns * 1e-9);
    if (now_s() - began > SENSOR_S && after > before) side->token_mj = (after - before) / tokens;
    return STATUS_OK;
}

enum status tps_repeat(struct tps_side *side, const struct tps_work *work, bool keep) {
    double first_ms, tokens_s;
    if (side->opened.engine)
        TRY(our_repeat(side, work, &first_ms, &tokens_s));
    else
        TRY(tps_transformers_repeat(side, work, &first_ms, &tokens_s));
    if (!keep) return STATUS_OK;
    side->first_ms[side->done] = first_ms, side->tokens_s[side->done++] = tokens_s;
    return STATUS_OK;
}

/* --- the profile ------------------------------------------------------------------------------ */

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

enum status tps_profile(struct engine *engine, struct device *device, struct step_part *parts,
                        int *part_count, double *step_us) {
    struct program *step;
    struct engine_state *state;
    *part_count = 0;
    TRY(engine_step(engine, &step));
    TRY(engine_save(engine, &state));
    enum status status = STATUS_OK;
    for (int i = 0; i < program_count(step) && !status && *part_count < TPS_MAX_PARTS; i++) {
        struct program_line line = program_at(step, i);
        bool seen = false;
        for (int j = 0; j < i && !seen; j++) {
            struct program_line other = program_at(step, j);
            seen = same_part(&line, &other);
        }
        if (!seen) status = time_part(device, step, i, &parts[(*part_count)++]);
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
    if (!status) *step_us = stats_summarise(each, PASSES, 0).median;
    enum status restored = engine_restore(engine, state);
    engine_state_free(state);
    return status ? status : restored;
}
