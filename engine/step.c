/* step.c - a decode step as launches, five a layer. */
#include <math.h>
#include <string.h>

#include "engine/engine_internal.h"

static const struct policy policy = {RESIDENCY_WEIGHTS_COLD, LAUNCH_GRAPH};

struct layer_at { /* what the launches of one layer are made from */
    struct engine *engine;
    const struct step_range *range;
    struct workspace at; /* from the range's first sequence on */
    int64_t layer;
};

static int64_t q_width(const struct model_config *c) { return c->heads * c->head_dim; }
static int64_t kv_width(const struct model_config *c) { return c->kv_heads * c->head_dim; }

static enum status gemv_norm(const struct layer_at *l, struct call *call, int64_t outputs,
                             bool bias) {
    const struct model_config *c = &l->engine->model->config;
    call->kernel = "gemv_norm", call->policy = policy;
    return problem_of(call->kernel, l->engine->dtype, &call->problem,
                      "batch=%d,inputs=%lld,outputs=%lld,bias=%d,eps=%.17g", l->range->count,
                      (long long)c->hidden, (long long)outputs, bias, c->rms_eps);
}

static enum status qkv(const struct layer_at *l, struct program *program) {
    const struct model_config *c = &l->engine->model->config;
    const struct layer_weights *w = &l->engine->weights->layer[l->layer];
    struct call call = {.pointer = {l->at.qkv, l->at.residual, w->input_norm, w->qkv, w->qkv_bias}};
    TRY(gemv_norm(l, &call, q_width(c) + 2 * kv_width(c), w->qkv_bias));
    return program_add(program, &call);
}

static enum status attention(const struct layer_at *l, struct program *program) {
    struct engine *e = l->engine;
    const struct model_config *c = &e->model->config;
    const struct layer_weights *w = &e->weights->layer[l->layer];
    bool rope = !c->no_rope[l->layer];
    int64_t window = c->windowed[l->layer] ? c->window : 0;
    int64_t slot = e->capacity * kv_width(c);
    struct call call = {
        .kernel = "attention_decode",
        .policy = policy,
        .pointer = {l->at.attention, l->at.qkv, w->q_norm, w->k_norm,
                    (int32_t *)e->position + l->range->first, rope ? e->inv_freq : NULL,
                    rows_from(e->cache_k[l->layer], l->range->first, slot, e->dtype),
                    rows_from(e->cache_v[l->layer], l->range->first, slot, e->dtype)}};
    TRY(problem_of(call.kernel, e->dtype, &call.problem,
                   "heads=%lld,kv_heads=%lld,head_dim=%lld,qk_norm=%d,rope=%d,batch=%d,"
                   "capacity=%lld,window=%lld,context=%lld,eps=%.17g",
                   (long long)c->heads, (long long)c->kv_heads, (long long)c->head_dim, c->qk_norm,
                   rope, l->range->count, (long long)e->capacity, (long long)window,
                   (long long)l->range->context, c->rms_eps));
    return program_add(program, &call);
}

static enum status residual(const struct layer_at *l, struct program *program, void *x,
                            int64_t inputs, void *weight, void *bias) {
    struct call call = {
        .kernel = "gemv_residual", .policy = policy, .pointer = {l->at.residual, x, weight, bias}};
    TRY(problem_of(call.kernel, l->engine->dtype, &call.problem,
                   "batch=%d,inputs=%lld,outputs=%lld,bias=%d", l->range->count, (long long)inputs,
                   (long long)l->engine->model->config.hidden, bias != NULL));
    return program_add(program, &call);
}

static enum status gate_up(const struct layer_at *l, struct program *program) {
    const struct model_config *c = &l->engine->model->config;
    const struct layer_weights *w = &l->engine->weights->layer[l->layer];
    struct call call = {.kernel = "gemv_norm_swiglu",
                        .policy = policy,
                        .pointer = {l->at.activation, l->at.residual, w->post_norm, w->gate_up}};
    TRY(problem_of(call.kernel, l->engine->dtype, &call.problem,
                   "batch=%d,inputs=%lld,outputs=%lld,eps=%.17g", l->range->count,
                   (long long)c->hidden, (long long)c->intermediate, c->rms_eps));
    return program_add(program, &call);
}

static enum status embed(const struct layer_at *l, struct program *program) {
    struct engine *e = l->engine;
    const struct model_config *c = &e->model->config;
    struct call call = {
        .kernel = "embed",
        .policy = policy,
        .pointer = {l->at.residual, (int32_t *)e->token + l->range->first, e->weights->embedding}};
    TRY(problem_of(call.kernel, e->dtype, &call.problem, "rows=%d,hidden=%lld,vocab=%lld",
                   l->range->count, (long long)c->hidden, (long long)c->vocab));
    return program_add(program, &call);
}

struct workspace step_rows(const struct engine *e, int first) {
    const struct model_config *c = &e->model->config;
    const struct workspace *w = &e->step;
    return (struct workspace){
        .residual = rows_from(w->residual, first, c->hidden, DTYPE_F32),
        .qkv = rows_from(w->qkv, first, q_width(c) + 2 * kv_width(c), DTYPE_F32),
        .attention = rows_from(w->attention, first, q_width(c), e->dtype),
        .activation = rows_from(w->activation, first, c->intermediate, e->dtype)};
}

enum status step_build(struct engine *e, const struct step_range *range, struct program *program) {
    const struct model_config *c = &e->model->config;
    struct layer_at l = {.engine = e, .range = range, .at = step_rows(e, range->first)};
    TRY(embed(&l, program));
    for (l.layer = 0; l.layer < c->layers; l.layer++) {
        const struct layer_weights *w = &e->weights->layer[l.layer];
        TRY(qkv(&l, program));
        TRY(attention(&l, program));
        TRY(residual(&l, program, l.at.attention, q_width(c), w->o, w->o_bias));
        TRY(gate_up(&l, program));
        TRY(residual(&l, program, l.at.activation, c->intermediate, w->down, NULL));
    }
    return range->silent ? STATUS_OK : step_choose(e, range, l.at.residual, program);
}

enum status step_choose(struct engine *e, const struct step_range *range, void *rows,
                        struct program *program) {
    const struct model_config *c = &e->model->config;
    struct layer_at l = {.engine = e, .range = range};
    void *logits = rows_from(e->logits, range->first, c->vocab, DTYPE_F32);
    struct call head = {.pointer = {logits, rows, e->weights->final_norm, e->weights->head, NULL}};
    TRY(gemv_norm(&l, &head, c->vocab, false));
    TRY(program_add(program, &head));
    return step_sample(e, range, program);
}

enum status step_sample(struct engine *e, const struct step_range *range, struct program *program) {
    const struct model_config *c = &e->model->config;
    void *logits = rows_from(e->logits, range->first, c->vocab, DTYPE_F32);
    struct call choice = {.kernel = "sample",
                          .policy = policy,
                          .pointer = {(int32_t *)e->token + range->first,
                                      (int32_t *)e->position + range->first,
                                      (int32_t *)e->history + range->first * e->capacity, logits,
                                      (int32_t *)e->setting + range->first * SETTING_WORDS}};
    TRY(problem_of(choice.kernel, e->dtype, &choice.problem, "vocab=%lld,batch=%d,capacity=%lld",
                   (long long)c->vocab, range->count, (long long)e->capacity));
    return program_add(program, &choice);
}
