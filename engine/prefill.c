/* prefill.c - a prompt through the model, some hundred rows at a time: matrix products from a
 * library, our kernels between them. Products add to the fp32 residual themselves. */
#include <stdio.h>

#include "engine/engine_internal.h"

/* Points are those of single launches: rows and start change from prompt to prompt, and a graph is
 * made only of what comes again. */
static const struct policy policy = {RESIDENCY_WEIGHTS_COLD, LAUNCH_STREAM};

struct pass { /* rows [start, start + rows) of a sequence */
    struct engine *engine;
    int sequence;
    int64_t start, rows, layer;
};

static enum status multiply(const struct pass *p, const void *a, const void *b, void *c,
                            const int64_t inputs_outputs[2], bool into_residual) {
    const struct engine *e = p->engine;
    struct product product = {.m = p->rows,
                              .k = inputs_outputs[0],
                              .n = inputs_outputs[1],
                              .dtype = e->dtype,
                              .out = into_residual ? DTYPE_F32 : e->dtype,
                              .accumulate = into_residual,
                              .a = a,
                              .b = b,
                              .c = c};
    return matmul_run(e->matmul, &product);
}

static enum status norm(struct pass *p, void *weight) {
    const struct model_config *c = &p->engine->model->config;
    const struct workspace *w = &p->engine->prefill;
    struct call call = {
        .kernel = "norm_wide", .policy = policy, .pointer = {w->normed, w->residual, weight}};
    TRY(problem_of(call.kernel, p->engine->dtype, &call.problem, "rows=%lld,hidden=%lld,eps=%.17g",
                   (long long)p->rows, (long long)c->hidden, c->rms_eps));
    return shelf_launch(p->engine->shelf, &call);
}

static void *cache_of(const struct pass *p, void **cache) {
    const struct model_config *c = &p->engine->model->config;
    return rows_from(cache[p->layer], p->sequence, c->kv_heads * c->head_dim * p->engine->capacity,
                     p->engine->dtype);
}

static enum status append(struct pass *p) {
    struct engine *e = p->engine;
    const struct model_config *c = &e->model->config;
    const struct layer_weights *w = &e->weights->layer[p->layer];
    bool rope = !c->no_rope[p->layer];
    struct call call = {.kernel = "qkv_append",
                        .policy = policy,
                        .pointer = {e->prefill.q, e->prefill.qkv, w->qkv_bias, w->q_norm, w->k_norm,
                                    rope ? e->inv_freq : NULL, cache_of(p, e->cache_k),
                                    cache_of(p, e->cache_v)}};
    TRY(problem_of(call.kernel, e->dtype, &call.problem,
                   "heads=%lld,kv_heads=%lld,head_dim=%lld,qk_norm=%d,rope=%d,bias=%d,rows=%lld,"
                   "start=%lld,capacity=%lld,eps=%.17g",
                   (long long)c->heads, (long long)c->kv_heads, (long long)c->head_dim, c->qk_norm,
                   rope, w->qkv_bias != NULL, (long long)p->rows, (long long)p->start,
                   (long long)e->capacity, c->rms_eps));
    return shelf_launch(p->engine->shelf, &call);
}

static enum status attend(struct pass *p) {
    struct engine *e = p->engine;
    const struct model_config *c = &e->model->config;
    struct call call = {.kernel = "attention_prefill",
                        .policy = policy,
                        .pointer = {e->prefill.attention, e->prefill.q, cache_of(p, e->cache_k),
                                    cache_of(p, e->cache_v)}};
    TRY(problem_of(call.kernel, e->dtype, &call.problem,
                   "heads=%lld,kv_heads=%lld,head_dim=%lld,rows=%lld,start=%lld,capacity=%lld,"
                   "window=%lld",
                   (long long)c->heads, (long long)c->kv_heads, (long long)c->head_dim,
                   (long long)p->rows, (long long)p->start, (long long)e->capacity,
                   (long long)(c->windowed[p->layer] ? c->window : 0)));
    return shelf_launch(p->engine->shelf, &call);
}

/* A model with a bias on its output projection is rare: it is added row by row, by a product with
 * a row of ones, which is what a library does well. */
static enum status add_bias(struct pass *p, const void *bias) {
    const struct engine *e = p->engine;
    const int64_t shape[] = {1, e->model->config.hidden};
    return multiply(p, e->ones, bias, e->prefill.residual, shape, true);
}

static enum status swiglu(struct pass *p) {
    const struct engine *e = p->engine;
    struct call call = {.kernel = "swiglu",
                        .policy = policy,
                        .pointer = {e->prefill.activation, e->prefill.gate_up, NULL}};
    TRY(problem_of(call.kernel, e->dtype, &call.problem, "rows=%lld,width=%lld,packed=1",
                   (long long)p->rows, (long long)e->model->config.intermediate));
    return shelf_launch(p->engine->shelf, &call);
}

static const struct layer_weights *weights_of(const struct pass *p) {
    return &p->engine->weights->layer[p->layer];
}
static enum status norm_input(struct pass *p) { return norm(p, weights_of(p)->input_norm); }
static enum status norm_post(struct pass *p) { return norm(p, weights_of(p)->post_norm); }
static enum status make_qkv(struct pass *p) {
    const struct model_config *c = &p->engine->model->config;
    const int64_t shape[] = {c->hidden, (c->heads + 2 * c->kv_heads) * c->head_dim};
    const struct workspace *at = &p->engine->prefill;
    return multiply(p, at->normed, weights_of(p)->qkv, at->qkv, shape, false);
}
static enum status project(struct pass *p) {
    const struct model_config *c = &p->engine->model->config;
    const int64_t shape[] = {c->heads * c->head_dim, c->hidden};
    const struct workspace *at = &p->engine->prefill;
    TRY(multiply(p, at->attention, weights_of(p)->o, at->residual, shape, true));
    return weights_of(p)->o_bias ? add_bias(p, weights_of(p)->o_bias) : STATUS_OK;
}
static enum status make_gate_up(struct pass *p) {
    const struct model_config *c = &p->engine->model->config;
    const int64_t shape[] = {c->hidden, 2 * c->intermediate};
    const struct workspace *at = &p->engine->prefill;
    return multiply(p, at->normed, weights_of(p)->gate_up, at->gate_up, shape, false);
}
static enum status go_down(struct pass *p) {
    const struct model_config *c = &p->engine->model->config;
    const int64_t shape[] = {c->intermediate, c->hidden};
    const struct workspace *at = &p->engine->prefill;
    return multiply(p, at->activation, weights_of(p)->down, at->residual, shape, true);
}

/* What a layer is made of. */
static const struct {
    struct prompt_part part;
    enum status (*run)(struct pass *);
} parts[] = {{{"norm_wide, of the input", false}, norm_input},
             {{"product, to q, k and v", true}, make_qkv},
             {{"qkv_append", false}, append},
             {{"attention_prefill", false}, attend},
             {{"product, of attention", true}, project},
             {{"norm_wide, before the MLP", false}, norm_post},
             {{"product, to gate and up", true}, make_gate_up},
             {{"swiglu", false}, swiglu},
             {{"product, down", true}, go_down}};
enum { PARTS = sizeof parts / sizeof *parts };

static enum status layer(struct pass *p) {
    for (int i = 0; i < PARTS; i++) TRY(parts[i].run(p));
    return STATUS_OK;
}

bool engine_prompt_part(const struct engine *e, int index, struct prompt_part *out) {
    if (!e->matmul || index < 0 || index >= PARTS) return false;
    *out = parts[index].part;
    return true;
}

enum status engine_prompt_run(struct engine *e, int index, int64_t count) {
    struct pass p = {.engine = e};
    for (; p.start < count; p.start += p.rows) {
        p.rows = count - p.start < e->prefill_rows ? count - p.start : e->prefill_rows;
        for (p.layer = 0; p.layer < e->model->config.layers; p.layer++) TRY(parts[index].run(&p));
    }
    return STATUS_OK;
}

static enum status embed(struct pass *p) {
    struct engine *e = p->engine;
    const struct model_config *c = &e->model->config;
    int32_t *ids = (int32_t *)e->history + p->sequence * e->capacity + p->start;
    struct call call = {.kernel = "embed",
                        .policy = policy,
                        .pointer = {e->prefill.residual, ids, e->weights->embedding}};
    TRY(problem_of(call.kernel, e->dtype, &call.problem, "rows=%lld,hidden=%lld,vocab=%lld",
                   (long long)p->rows, (long long)c->hidden, (long long)c->vocab));
    return shelf_launch(p->engine->shelf, &call);
}

static enum status enqueue(struct pass *p) {
    TRY(embed(p));
    for (p->layer = 0; p->layer < p->engine->model->config.layers; p->layer++) TRY(layer(p));
    return STATUS_OK;
}

/* --- as a graph ------------------------------------------------------------------------------- */

static void forget(struct engine *e, struct prompt_graph *g) {
    if (g->graph) e->device->ops->graph_free(e->device, g->graph);
    *g = (struct prompt_graph){0};
}

void prefill_forget(struct engine *e) {
    for (int i = 0; i < PROMPT_GRAPHS; i++) forget(e, &e->prompt[i]);
}

/* The one of these rows; where they are new NULL, and the place of the one that was used longest
 * ago is theirs. */
static enum status find_graph(struct pass *p, struct prompt_graph **out) {
    struct engine *e = p->engine;
    struct prompt_graph *oldest = e->prompt;
    e->prompts++;
    *out = NULL;
    for (int i = 0; i < PROMPT_GRAPHS; i++) {
        struct prompt_graph *g = &e->prompt[i];
        if (g->rows == p->rows && g->start == p->start && g->sequence == p->sequence) {
            g->used = e->prompts;
            return *out = g, STATUS_OK;
        }
        if (g->used < oldest->used) oldest = g;
    }
    if (oldest->graph) TRY(e->device->ops->synchronize(e->device)); /* it may be running */
    forget(e, oldest);
    oldest->sequence = p->sequence, oldest->start = p->start, oldest->rows = p->rows;
    oldest->used = e->prompts;
    return STATUS_OK;
}

static enum status record(struct pass *p, struct graph **out) {
    struct device *device = p->engine->device;
    TRY(device->ops->record_begin(device));
    enum status status = enqueue(p), ended = device->ops->record_end(device, out);
    return status ? status : ended;
}

/* At first plainly, so that everything is compiled and loaded; when they come again, recorded. The
 * CPU device's library multiplies at once and cannot be recorded. */
static enum status run_rows(struct pass *p) {
    struct engine *e = p->engine;
    struct prompt_graph *g = NULL;
    bool records = e->device->info.kind == DEVICE_CUDA && !e->no_prompt_graphs;
    if (records) TRY(find_graph(p, &g));
    if (!g) return enqueue(p);
    if (!g->graph && record(p, &g->graph)) {
        fprintf(stderr, "fastinfer: a prompt cannot be recorded as a graph, it is launched: %s\n",
                fail_message());
        TRY(e->device->ops->synchronize(e->device)); /* earlier ones may be running */
        prefill_forget(e);
        e->no_prompt_graphs = true;
        return enqueue(p);
    }
    return e->device->ops->graph_launch(e->device, g->graph);
}

enum status prefill_run(struct engine *e, int sequence, int64_t count, void **last) {
    struct pass p = {.engine = e, .sequence = sequence};
    for (; p.start < count; p.start += p.rows) {
        p.rows = count - p.start < e->prefill_rows ? count - p.start : e->prefill_rows;
        TRY(run_rows(&p));
        *last = rows_from(e->prefill.residual, p.rows - 1, e->model->config.hidden, DTYPE_F32);
    }
    return STATUS_OK;
}

enum status prefill_by_steps(struct engine *e, int sequence, const int32_t *ids, int64_t count,
                             void **last) {
    struct step_range range = {sequence, 1, count, true};
    struct program *program;
    const struct device_ops *ops = e->device->ops;
    TRY(program_new(e->shelf, &program));
    enum status status = step_build(e, &range, program);
    if (!status) status = program_record(program);
    for (int32_t i = 0; i < count && !status; i++) {
        status = ops->upload(e->device, (int32_t *)e->token + sequence, &ids[i], 4);
        if (!status) status = ops->upload(e->device, (int32_t *)e->position + sequence, &i, 4);
        if (!status) status = program_run(program);
    }
    if (!status) status = ops->synchronize(e->device);
    program_free(program);
    *last = step_rows(e, sequence).residual;
    return status;
}
