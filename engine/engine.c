/* engine.c - what an engine owns, and the order in which things are enqueued. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine_internal.h"
#include "kernels/rope/rope.h"

/* --- opening ---------------------------------------------------------------------------------- */

static enum status allocate(struct engine *e, size_t bytes, void **out) {
    if (e->buffers == e->buffer_room) {
        int room = e->buffer_room ? 2 * e->buffer_room : 64;
        void **larger = realloc(e->buffer, (size_t)room * sizeof *larger);
        if (!larger) return fail(STATUS_SYSTEM, "out of memory");
        e->buffer = larger, e->buffer_room = room;
    }
    TRY(e->device->ops->allocate(e->device, bytes, out));
    e->buffer[e->buffers++] = *out;
    return STATUS_OK;
}

static enum status array(struct engine *e, int64_t elements, enum dtype dtype, void **out) {
    size_t bytes = (size_t)elements * dtype_bytes(dtype);
    e->work_bytes += bytes;
    return allocate(e, bytes, out);
}

/* All layers' in one run each, as the persistent step wants them. */
static enum status make_caches(struct engine *e) {
    const struct model_config *c = &e->model->config;
    size_t layer =
        (size_t)(e->batch * c->kv_heads * e->capacity * c->head_dim) * dtype_bytes(e->dtype);
    size_t bytes = layer * (size_t)c->layers;
    void *k, *v;
    e->cache_k = calloc((size_t)c->layers, sizeof *e->cache_k);
    e->cache_v = calloc((size_t)c->layers, sizeof *e->cache_v);
    if (!e->cache_k || !e->cache_v) return fail(STATUS_SYSTEM, "out of memory");
    TRY(allocate(e, bytes, &k));
    TRY(allocate(e, bytes, &v));
    /* never read before it is written, but NaNs in it would be seen */
    TRY(e->device->ops->set_bytes(e->device, k, 0xff, bytes));
    TRY(e->device->ops->set_bytes(e->device, v, 0xff, bytes));
    e->cache_bytes = 2 * bytes;
    for (int64_t i = 0; i < c->layers; i++) {
        e->cache_k[i] = (char *)k + (size_t)i * layer;
        e->cache_v[i] = (char *)v + (size_t)i * layer;
    }
    TRY(array(e, 3 * c->layers, DTYPE_I32, &e->facts));
    return persistent_facts(e, 0);
}

static enum status make_step(struct engine *e) {
    const struct model_config *c = &e->model->config;
    const int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim, b = e->batch;
    TRY(array(e, b * c->hidden, DTYPE_F32, &e->step.residual));
    TRY(array(e, b * (q + 2 * kv), DTYPE_F32, &e->step.qkv));
    TRY(array(e, b * q, e->dtype, &e->step.attention));
    TRY(array(e, b * c->intermediate, e->dtype, &e->step.activation));
    TRY(array(e, b * c->vocab, DTYPE_F32, &e->logits));
    TRY(array(e, b, DTYPE_I32, &e->token));
    TRY(array(e, b, DTYPE_I32, &e->position));
    TRY(array(e, b * e->capacity, DTYPE_I32, &e->history));
    TRY(array(e, b * SETTING_WORDS, DTYPE_I32, &e->setting));
    TRY(e->device->ops->set_bytes(e->device, e->token, 0, (size_t)b * 4));
    TRY(e->device->ops->set_bytes(e->device, e->position, 0, (size_t)b * 4));
    return e->device->ops->set_bytes(e->device, e->setting, 0, (size_t)b * SETTING_WORDS * 4);
}

static enum status make_prefill(struct engine *e) {
    const struct model_config *c = &e->model->config;
    const int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim, r = e->prefill_rows;
    TRY(array(e, r * c->hidden, DTYPE_F32, &e->prefill.residual));
    TRY(array(e, r * c->hidden, e->dtype, &e->prefill.normed));
    TRY(array(e, r * (q + 2 * kv), e->dtype, &e->prefill.qkv));
    TRY(array(e, r * q, e->dtype, &e->prefill.q));
    TRY(array(e, r * q, e->dtype, &e->prefill.attention));
    TRY(array(e, r * 2 * c->intermediate, e->dtype, &e->prefill.gate_up));
    TRY(array(e, r * c->intermediate, e->dtype, &e->prefill.activation));
    return STATUS_OK;
}

static enum status make_ones(struct engine *e) {
    if (!e->model->config.o_bias) return STATUS_OK;
    TRY(array(e, e->prefill_rows, e->dtype, &e->ones));
    char *host = malloc((size_t)e->prefill_rows * 4);
    if (!host) return fail(STATUS_SYSTEM, "out of memory");
    for (int64_t i = 0; i < e->prefill_rows; i++) dtype_store(e->dtype, host, i, 1);
    enum status status = e->device->ops->upload(e->device, e->ones, host,
                                                (size_t)e->prefill_rows * dtype_bytes(e->dtype));
    free(host);
    return status;
}

static enum status make_frequencies(struct engine *e) {
    const struct model_config *c = &e->model->config;
    const struct rope_scaling *s = &c->scaling;
    double real[ROPE_REALS] = {[ROPE_THETA] = c->rope_theta, [ROPE_FACTOR] = 1};
    if (s->llama3)
        real[ROPE_FACTOR] = s->factor, real[ROPE_LOW] = s->low, real[ROPE_HIGH] = s->high,
        real[ROPE_ORIGINAL] = (double)s->original;
    float *host = malloc((size_t)c->head_dim * sizeof *host);
    if (!host) return fail(STATUS_SYSTEM, "out of memory");
    rope_inv_freq(real, c->head_dim, host);
    enum status status = array(e, c->head_dim / 2, DTYPE_F32, &e->inv_freq);
    if (!status)
        status = e->device->ops->upload(e->device, e->inv_freq, host, (size_t)c->head_dim / 2 * 4);
    free(host);
    return status;
}

static enum status take_options(struct engine *e, const struct engine_options *o) {
    const struct model_config *c = &e->model->config;
    e->batch = o->batch ? o->batch : 1;
    if (e->batch < 1 || e->batch > MAX_BATCH)
        return fail(STATUS_ARGUMENT, "a batch of %d: 1 to %d was expected", e->batch, MAX_BATCH);
    e->capacity = o->capacity;
    if (!e->capacity) e->capacity = c->positions < 4096 ? c->positions : 4096;
    if (e->capacity < 2 || e->capacity > c->positions)
        return fail(STATUS_ARGUMENT, "room for %lld positions: 2 to %lld was expected, %s",
                    (long long)e->capacity, (long long)c->positions,
                    "which is what the model was made for (max_position_embeddings)");
    e->prefill_rows = o->prefill_rows ? o->prefill_rows : 512;
    if (e->prefill_rows > e->capacity) e->prefill_rows = e->capacity;
    e->dtype = o->dtype != DTYPE_COUNT ? o->dtype : c->dtype != DTYPE_COUNT ? c->dtype : DTYPE_F16;
    bool no_bf16 = e->device->info.kind == DEVICE_CUDA && e->device->info.arch < 80;
    if (e->dtype == DTYPE_BF16 && no_bf16) {
        if (o->dtype == DTYPE_BF16)
            return fail(STATUS_ARGUMENT, "%s has no bf16; fp16 or fp32 was expected",
                        e->device->info.name);
        e->dtype = DTYPE_F16;
    }
    return STATUS_OK;
}

/* Without it a prompt goes through position by position: slow, and said. */
static enum status open_matmul(struct engine *e) {
    enum status status = matmul_open(e->device, &e->matmul);
    if (status != STATUS_MISSING) return status;
    fprintf(stderr, "fastinfer: prompts will take long: %s\n", fail_message());
    return STATUS_OK;
}

static enum status open_all(struct engine *e, const struct engine_options *o) {
    TRY(take_options(e, o));
    struct weights_source source = {.model = e->model,
                                    .dtype = e->dtype,
                                    .seed = o->seed,
                                    .progress = o->progress,
                                    .context = o->progress_context};
    e->staging = malloc((size_t)e->capacity * sizeof *e->staging);
    if (!e->staging) return fail(STATUS_SYSTEM, "out of memory");
    TRY(shelf_open(e->device, &e->shelf));
    TRY(weights_load(e->device, &source, &e->weights));
    TRY(open_matmul(e));
    TRY(make_step(e));
    TRY(make_prefill(e));
    TRY(make_ones(e));
    TRY(make_frequencies(e));
    TRY(make_caches(e));
    return engine_choose(e, &o->choice);
}

enum status engine_open(struct device *device, const struct model *model,
                        const struct engine_options *options, struct engine **out) {
    struct engine *e = calloc(1, sizeof *e);
    if (!e) return fail(STATUS_SYSTEM, "out of memory");
    e->device = device, e->model = model;
    enum status status = open_all(e, options);
    if (status == STATUS_MEMORY && e->weights)
        fail_context(status,
                     "beside %.2f GB of weights there is no room for %lld positions of %d "
                     "sequence(s) (%.2f GB)",
                     (double)e->weights->bytes * 1e-9, (long long)e->capacity, e->batch,
                     (double)(2 * e->batch * model->config.layers * model->config.kv_heads *
                              e->capacity * model->config.head_dim) *
                         (double)dtype_bytes(e->dtype) * 1e-9);
    if (status)
        engine_close(e);
    else
        *out = e;
    return status;
}

static void drop_programs(struct engine *e) {
    for (int i = 0; i < MAX_BUCKETS; i++) program_free(e->decode[i]), e->decode[i] = NULL;
    for (int i = 0; i < MAX_BATCH; i++) program_free(e->choose[i]), e->choose[i] = NULL;
    prefill_forget(e);
}

void engine_close(struct engine *e) {
    if (!e) return;
    drop_programs(e);
    for (int i = 0; i < e->buffers; i++) e->device->ops->release(e->device, e->buffer[i]);
    matmul_close(e->matmul);
    shelf_close(e->shelf);
    weights_free(e->weights);
    free(e->buffer), free(e->cache_k), free(e->cache_v), free(e->staging);
    free(e);
}

enum status engine_weight(const struct engine *e, const char *name, struct weight_view *out) {
    return weights_find(e->weights, &e->model->config, name, out);
}

struct engine_facts engine_facts(const struct engine *e) {
    return (struct engine_facts){.batch = e->batch,
                                 .capacity = e->capacity,
                                 .dtype = e->dtype,
                                 .weight_bytes = e->weights->bytes,
                                 .cache_bytes = e->cache_bytes,
                                 .work_bytes = e->work_bytes,
                                 .configs = shelf_origin(e->shelf),
                                 .config_path = shelf_path(e->shelf),
                                 .persistent = e->persistent,
                                 .matmul = e->matmul ? matmul_name(e->matmul) : "none"};
}

enum status engine_choose(struct engine *e, const struct engine_choice *choice) {
    TRY(shelf_select(e->shelf, choice->configs, choice->only, choice->refused_too));
    TRY(e->device->ops->synchronize(e->device)); /* programs may be running */
    drop_programs(e);
    e->form = choice->form;
    return persistent_decide(e, choice->form, &e->persistent);
}

enum status engine_delay(struct engine *e, int most_ns) { return persistent_facts(e, most_ns); }

/* --- working ---------------------------------------------------------------------------------- */

static enum status check_sequence(const struct engine *e, int sequence) {
    if (sequence >= 0 && sequence < e->batch) return STATUS_OK;
    return fail(STATUS_ARGUMENT, "sequence %d: 0 to %d was expected", sequence, e->batch - 1);
}

static enum status check_prompt(const struct engine *e, const int32_t *ids, int64_t count) {
    int64_t vocab = e->model->config.vocab;
    if (count < 1) return fail(STATUS_ARGUMENT, "a prompt of at least one token was expected");
    if (count > e->capacity)
        return fail(STATUS_ARGUMENT, "a prompt of %lld tokens: there is room for %lld positions",
                    (long long)count, (long long)e->capacity);
    for (int64_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= vocab)
            return fail(STATUS_ARGUMENT,
                        "token %lld of the prompt is %d; the vocabulary has 0 to %lld",
                        (long long)i, ids[i], (long long)vocab - 1);
    return STATUS_OK;
}

static enum status upload_words(struct engine *e, void *to, int64_t at, const void *from,
                                int64_t count) {
    return e->device->ops->upload(e->device, (int32_t *)to + at, from, (size_t)count * 4);
}

static enum status choose(struct engine *e, int sequence, void *row) {
    struct step_range range = {.first = sequence, .count = 1};
    program_free(e->choose[sequence]);
    e->choose[sequence] = NULL;
    TRY(program_new(e->shelf, &e->choose[sequence]));
    TRY(step_choose(e, &range, row, e->choose[sequence]));
    return program_run(e->choose[sequence]);
}

enum status engine_prompt(struct engine *e, int sequence, const int32_t *ids, int64_t count) {
    void *last = NULL;
    TRY(check_sequence(e, sequence));
    TRY(check_prompt(e, ids, count));
    int32_t position = (int32_t)count - 1; /* the choice adds one */
    TRY(upload_words(e, e->history, sequence * e->capacity, ids, count));
    /* before the rows are enqueued: an upload waits for the device; steps end there anyhow */
    TRY(upload_words(e, e->position, sequence, &position, 1));
    if (e->matmul)
        TRY(prefill_run(e, sequence, count, &last));
    else
        TRY(prefill_by_steps(e, sequence, ids, count, &last));
    TRY(choose(e, sequence, last));
    e->filled[sequence] = count;
    return STATUS_OK;
}

enum status engine_sampling(struct engine *e, int sequence, const struct sample_options *o) {
    uint32_t words[SETTING_WORDS] = {0};
    TRY(check_sequence(e, sequence));
    if (o->repetition_penalty != 1 && o->repetition_penalty != 0)
        return fail(STATUS_ARGUMENT, "a repetition penalty is not done on the device");
    memcpy(&words[0], &o->temperature, 4), memcpy(&words[1], &o->top_k, 4);
    memcpy(&words[2], &o->top_p, 4), memcpy(&words[3], &o->min_p, 4);
    words[4] = (uint32_t)o->seed, words[5] = (uint32_t)(o->seed >> 32);
    return upload_words(e, e->setting, sequence * SETTING_WORDS, words, SETTING_WORDS);
}

enum status engine_force(struct engine *e, int sequence, int32_t id) {
    int64_t vocab = e->model->config.vocab;
    TRY(check_sequence(e, sequence));
    int64_t at = e->filled[sequence];
    if (id < 0 || id >= vocab)
        return fail(STATUS_ARGUMENT, "token %d: the vocabulary has 0 to %lld", id,
                    (long long)vocab - 1);
    TRY(upload_words(e, e->token, sequence, &id, 1));
    if (at >= e->capacity) return STATUS_OK; /* its place in the history */
    return upload_words(e, e->history, sequence * e->capacity + at, &id, 1);
}

/* The program for contexts of up to `context` positions: the bucket's end, or the capacity. */
static enum status program_for(struct engine *e, int64_t context, struct program **out) {
    int bucket = 0;
    int64_t end = FIRST_BUCKET;
    while (end < context && !e->persistent) end *= 2, bucket++;
    if (end > e->capacity) end = e->capacity;
    *out = e->decode[bucket];
    if (*out) return STATUS_OK;
    struct step_range range = {.count = e->batch, .context = end};
    struct program *program;
    TRY(program_new(e->shelf, &program));
    enum status status =
        e->persistent ? persistent_build(e, program) : step_build(e, &range, program);
    if (!status && e->persistent) status = step_sample(e, &range, program);
    if (!status) status = program_record(program);
    if (status && e->persistent && e->form == FORM_AUTO) {
        fprintf(stderr, "fastinfer: a step in one kernel cannot be had, launches are used: %s\n",
                fail_message());
        program_free(program);
        e->persistent = false;
        return program_for(e, context, out);
    }
    if (status)
        program_free(program);
    else
        *out = e->decode[bucket] = program;
    return status;
}

enum status engine_prepare(struct engine *e, int64_t end) {
    struct program *program;
    if (end > e->capacity) end = e->capacity;
    for (int64_t context = 1; context < end; context *= 2) TRY(program_for(e, context, &program));
    return program_for(e, end, &program);
}

static int64_t longest(const struct engine *e) {
    int64_t most = 0;
    for (int i = 0; i < e->batch; i++) most = e->filled[i] > most ? e->filled[i] : most;
    return most;
}

enum status engine_decode(struct engine *e, int64_t steps) {
    struct program *program;
    if (longest(e) + steps > e->capacity)
        return fail(STATUS_ARGUMENT, "%lld more tokens: there is room for %lld of %lld positions",
                    (long long)steps, (long long)(e->capacity - longest(e)),
                    (long long)e->capacity);
    for (int64_t i = 0; i < steps; i++) {
        TRY(program_for(e, longest(e) + 1, &program));
        TRY(program_run(program));
        for (int s = 0; s < e->batch; s++) e->filled[s]++;
    }
    return STATUS_OK;
}

enum status engine_step(struct engine *e, struct program **out) {
    int64_t context = longest(e) + 1;
    return program_for(e, context < e->capacity ? context : e->capacity, out);
}

struct engine_state {
    int32_t token[MAX_BATCH], position[MAX_BATCH];
};

enum status engine_save(struct engine *e, struct engine_state **out) {
    size_t bytes = (size_t)e->batch * 4;
    struct engine_state *state = calloc(1, sizeof *state);
    if (!state) return fail(STATUS_SYSTEM, "out of memory");
    enum status status = e->device->ops->download(e->device, state->token, e->token, bytes);
    if (!status) status = e->device->ops->download(e->device, state->position, e->position, bytes);
    if (status)
        free(state);
    else
        *out = state;
    return status;
}

enum status engine_restore(struct engine *e, const struct engine_state *state) {
    TRY(upload_words(e, e->token, 0, state->token, e->batch));
    return upload_words(e, e->position, 0, state->position, e->batch);
}

void engine_state_free(struct engine_state *state) { free(state); }

int64_t engine_position(const struct engine *e, int sequence) { return e->filled[sequence]; }

/* --- results ---------------------------------------------------------------------------------- */

static enum status who_is_nan(const struct engine *e) {
    if (e->model->layers) TRY(model_check_values(e->model));
    return fail(STATUS_INCORRECT, "the logits are NaN, though no weight is: a value outgrew %s",
                dtype_name(e->dtype));
}

enum status engine_tokens(struct engine *e, int sequence, int64_t first, int64_t count,
                          int32_t *out) {
    TRY(check_sequence(e, sequence));
    int64_t last = e->filled[sequence]; /* the pending token's place in the history */
    if (first < 0 || count < 0 || first + count > last + 1)
        return fail(STATUS_ARGUMENT, "tokens %lld to %lld: there are %lld", (long long)first,
                    (long long)(first + count - 1), (long long)last + 1);
    int64_t in_history = first + count > e->capacity ? e->capacity - first : count;
    if (in_history > 0)
        TRY(e->device->ops->download(e->device, out,
                                     (int32_t *)e->history + sequence * e->capacity + first,
                                     (size_t)in_history * 4));
    if (in_history < count) /* the one after the last position: only as the pending token */
        TRY(e->device->ops->download(e->device, out + count - 1, (int32_t *)e->token + sequence,
                                     4));
    for (int64_t i = 0; i < count; i++)
        if (out[i] < 0) return who_is_nan(e);
    return STATUS_OK;
}

enum status engine_logits(struct engine *e, int sequence, float *out) {
    int64_t vocab = e->model->config.vocab;
    TRY(check_sequence(e, sequence));
    return e->device->ops->download(e->device, out, (float *)e->logits + sequence * vocab,
                                    (size_t)vocab * 4);
}
