/* library_engine.c - the engine for others: a folder in, tokens out, on a stream of its own. */
#include <stdlib.h>

#include "engine/engine.h"
#include "library/library.h"

struct fastinfer_engine {
    struct fastinfer_device *owner;
    struct model *model;
    struct engine *engine;
};

/* The engine records graphs, which CUDA's default stream does not allow: it stays on the device's
 * own stream, and only the context is a guest's. */
static enum status enter(struct fastinfer_device *owner, void **visit) {
    struct device *device = owner->device;
    pthread_mutex_lock(&library_lock);
    return device->ops->enter(device, device->ops->stream ? device->ops->stream(device) : NULL,
                              visit);
}

static enum fastinfer_code leave(struct fastinfer_device *owner, enum status entered, void *visit,
                                 enum status status) {
    if (!entered) owner->device->ops->leave(owner->device, visit);
    pthread_mutex_unlock(&library_lock);
    return library_code(entered ? entered : status);
}

static enum status open_engine(struct fastinfer_engine *e, const char *folder,
                               const struct fastinfer_engine_options *o) {
    struct engine_options options = {.dtype = DTYPE_COUNT};
    if (o) {
        if (o->dtype > (int)FASTINFER_FP32)
            return fail(STATUS_ARGUMENT, "dtype %d: 0 to 2 was expected, or -1", o->dtype);
        options.batch = o->batch;
        options.capacity = o->capacity;
        options.dtype = o->dtype < 0 ? DTYPE_COUNT : (enum dtype)o->dtype;
        options.choice.configs = o->configs;
        options.seed = o->seed;
    }
    TRY((o && o->config_only ? model_load_config : model_load)(folder, &e->model));
    return engine_open(e->owner->device, e->model, &options, &e->engine);
}

static void free_engine(struct fastinfer_engine *e) {
    engine_close(e->engine);
    model_free(e->model);
    free(e);
}

enum fastinfer_code fastinfer_engine_open(struct fastinfer_device *device, const char *folder,
                                          const struct fastinfer_engine_options *options,
                                          struct fastinfer_engine **out) {
    void *visit = NULL;
    if (!device || !folder || !out)
        return library_code(fail(STATUS_ARGUMENT, "a device, a model and a place were expected"));
    struct fastinfer_engine *e = calloc(1, sizeof *e);
    if (!e) return library_code(fail(STATUS_SYSTEM, "out of memory"));
    e->owner = device;
    enum status entered = enter(device, &visit);
    enum status status = entered ? entered : open_engine(e, folder, options);
    if (status) {
        free_engine(e);
    } else {
        device->users++;
        *out = e;
    }
    return leave(device, entered, visit, status);
}

void fastinfer_engine_close(struct fastinfer_engine *e) {
    if (!e) return;
    struct fastinfer_device *owner = e->owner;
    void *visit = NULL;
    enum status entered = enter(owner, &visit);
    free_engine(e);
    leave(owner, entered, visit, STATUS_OK);
    fastinfer_device_close(owner);
}

void fastinfer_engine_read(const struct fastinfer_engine *e, struct fastinfer_engine_facts *out) {
    struct engine_facts facts = engine_facts(e->engine);
    const struct model_config *c = &e->model->config;
    *out = (struct fastinfer_engine_facts){.batch = facts.batch,
                                           .dtype = (int)facts.dtype,
                                           .capacity = facts.capacity,
                                           .vocab = c->vocab,
                                           .eos_count = c->eos_count,
                                           .persistent = facts.persistent};
    for (int i = 0; i < c->eos_count && i < FASTINFER_MAX_EOS; i++) out->eos[i] = c->eos[i];
}
enum fastinfer_code fastinfer_engine_weight(const struct fastinfer_engine *e, const char *name,
                                            struct fastinfer_weight *out) {
    struct weight_view view;
    enum status status = engine_weight(e->engine, name, &view);
    if (!status) *out = (struct fastinfer_weight){view.data, view.rows, view.columns};
    return library_code(status);
}

_Static_assert((int)FASTINFER_MAX_EOS == (int)MODEL_MAX_EOS,
               "each id that ends a text has a place");

enum fastinfer_code fastinfer_engine_prompt(struct fastinfer_engine *e, int sequence,
                                            const int32_t *ids, int64_t count) {
    void *visit = NULL;
    enum status entered = enter(e->owner, &visit);
    enum status status = entered ? entered : engine_prompt(e->engine, sequence, ids, count);
    return leave(e->owner, entered, visit, status);
}

enum fastinfer_code fastinfer_engine_sampling(struct fastinfer_engine *e, int sequence,
                                              const struct fastinfer_sampling *how) {
    struct sample_options options = SAMPLE_GREEDY;
    if (how) {
        options.temperature = how->temperature, options.top_k = how->top_k;
        options.top_p = how->top_p, options.min_p = how->min_p, options.seed = how->seed;
    }
    void *visit = NULL;
    enum status entered = enter(e->owner, &visit);
    enum status status = entered ? entered : engine_sampling(e->engine, sequence, &options);
    return leave(e->owner, entered, visit, status);
}

enum fastinfer_code fastinfer_engine_decode(struct fastinfer_engine *e, int64_t steps) {
    void *visit = NULL;
    enum status entered = enter(e->owner, &visit);
    enum status status = entered ? entered : engine_decode(e->engine, steps);
    return leave(e->owner, entered, visit, status);
}

enum fastinfer_code fastinfer_engine_tokens(struct fastinfer_engine *e, int sequence, int64_t first,
                                            int64_t count, int32_t *out) {
    void *visit = NULL;
    enum status entered = enter(e->owner, &visit);
    enum status status = entered ? entered : engine_tokens(e->engine, sequence, first, count, out);
    return leave(e->owner, entered, visit, status);
}

enum fastinfer_code fastinfer_engine_logits(struct fastinfer_engine *e, int sequence, float *out) {
    void *visit = NULL;
    enum status entered = enter(e->owner, &visit);
    enum status status = entered ? entered : engine_logits(e->engine, sequence, out);
    return leave(e->owner, entered, visit, status);
}
