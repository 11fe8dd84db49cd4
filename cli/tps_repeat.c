/* tps_repeat.c - one repeat of a side. */
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
