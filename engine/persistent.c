/* persistent.c - a decode step as one kernel, decode_step, and the choice after it. */
#include <stdlib.h>
#include <string.h>

#include "engine/engine_internal.h"
#include "kernels/registry.h"

static const struct policy policy = {RESIDENCY_WEIGHTS_COLD, LAUNCH_GRAPH};

static enum status problem_of_step(const struct engine *e, struct problem *out) {
    const struct model_config *c = &e->model->config;
    return problem_of(
        "decode_step", e->dtype, out,
        "batch=%d,hidden=%lld,intermediate=%lld,heads=%lld,kv_heads=%lld,head_dim=%lld,"
        "qk_norm=%d,qkv_bias=%d,o_bias=%d,vocab=%lld,layers=%lld,capacity=%lld,"
        "eps=%.17g",
        e->batch, (long long)c->hidden, (long long)c->intermediate, (long long)c->heads,
        (long long)c->kv_heads, (long long)c->head_dim, c->qk_norm, c->qkv_bias, c->o_bias,
        (long long)c->vocab, (long long)c->layers, (long long)e->capacity, c->rms_eps);
}

/* Can it be had at all? Else the thread's sentence says why. */
static enum status possible(const struct engine *e, struct problem *problem) {
    const struct kernel *kernel;
    struct point point;
    TRY(problem_of_step(e, problem));
    TRY(registry_find("decode_step", &kernel));
    if (!(kernel->dtypes >> e->dtype & 1))
        return fail(STATUS_ARGUMENT, "the persistent step is for fp16 and bf16, not %s",
                    dtype_name(e->dtype));
    return space_default(kernel, problem, &e->device->info, &point);
}

enum status persistent_decide(const struct engine *e, enum step_form form, bool *out) {
    struct problem problem;
    const struct kernel *kernel;
    struct config_match match;
    *out = false;
    if (form == FORM_LAUNCHES) return STATUS_OK;
    enum status status = possible(e, &problem);
    if (form == FORM_PERSISTENT) return *out = !status, status;
    if (status) return STATUS_OK;
    TRY(registry_find("decode_step", &kernel));
    if (shelf_find(e->shelf, kernel, &problem, policy, &match))
        *out = shelf_uses(e->shelf, &match);
    else
        *out = e->device->info.kind == DEVICE_CUDA;
    return STATUS_OK;
}

enum status persistent_build(struct engine *e, struct program *program) {
    const struct weights *w = e->weights;
    struct call call = {.kernel = "decode_step",
                        .policy = policy,
                        .pointer = {e->logits, e->token, e->position, e->facts, w->embedding,
                                    w->layer[0].input_norm, w->final_norm, w->head, e->inv_freq,
                                    e->cache_k[0], e->cache_v[0]}};
    TRY(problem_of_step(e, &call.problem));
    return program_add(program, &call);
}

enum status persistent_facts(struct engine *e, int delay_ns) {
    const struct model_config *c = &e->model->config;
    int32_t *host = calloc((size_t)c->layers * 3, sizeof *host);
    if (!host) return fail(STATUS_SYSTEM, "out of memory");
    for (int64_t i = 0; i < c->layers; i++) {
        host[3 * i] = !c->no_rope[i];
        host[3 * i + 1] = c->windowed[i] ? (int32_t)c->window : 0;
        host[3 * i + 2] = delay_ns;
    }
    enum status status =
        e->device->ops->upload(e->device, e->facts, host, (size_t)c->layers * 3 * 4);
    free(host);
    return status;
}
