/* weights.c - one allocation, filled piece by piece in the order of the layers. */
#include "engine/weights.h"

#include <stdlib.h>
#include <string.h>

#include "engine/uploader.h"
#include "runtime/compile.h"

enum { ALIGNMENT = 256, MAX_PIECES = 14 * MODEL_MAX_LAYERS + 4, CHUNK_BYTES = 32 << 20 };

struct piece {
    void **to;                   /* where its pointer goes; NULL: right behind the one before */
    const struct tensor *tensor; /* NULL in a preset */
    int64_t elements;
    enum fill fill; /* in a preset */
    size_t offset;
};

struct loading {
    struct weights *weights;
    const struct weights_source *source;
    struct piece *piece;
    int pieces;
    struct module *support;
    struct function *fill, *convert;
    struct uploader *uploader; /* NULL for a preset */
    void *staging, *lost;      /* what is to be converted, and the flag of numbers out of range */
    size_t done;
};

static void add(struct loading *l, void **to, const struct tensor *tensor, int64_t elements,
                enum fill fill) {
    size_t bytes = (size_t)elements * dtype_bytes(l->source->dtype);
    if (to) l->weights->bytes = (l->weights->bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    l->piece[l->pieces++] = (struct piece){to, tensor, elements, fill, l->weights->bytes};
    l->weights->bytes += bytes;
}

static void add_layer(struct loading *l, int64_t i) {
    const struct model_config *c = &l->source->model->config;
    static const struct model_layer none;
    const struct model_layer *t = l->source->model->layers ? &l->source->model->layers[i] : &none;
    struct layer_weights *w = &l->weights->layer[i];
    int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    add(l, &w->input_norm, &t->input_norm, c->hidden, FILL_WEIGHT);
    add(l, &w->qkv, &t->q, q * c->hidden, FILL_MATRIX);
    add(l, NULL, &t->k, kv * c->hidden, FILL_MATRIX);
    add(l, NULL, &t->v, kv * c->hidden, FILL_MATRIX);
    if (c->qkv_bias) {
        add(l, &w->qkv_bias, &t->q_bias, q, FILL_MATRIX);
        add(l, NULL, &t->k_bias, kv, FILL_MATRIX);
        add(l, NULL, &t->v_bias, kv, FILL_MATRIX);
    }
    if (c->qk_norm) {
        add(l, &w->q_norm, &t->q_norm, c->head_dim, FILL_WEIGHT);
        add(l, &w->k_norm, &t->k_norm, c->head_dim, FILL_WEIGHT);
    }
    add(l, &w->o, &t->o, c->hidden * q, FILL_MATRIX);
    if (c->o_bias) add(l, &w->o_bias, &t->o_bias, c->hidden, FILL_MATRIX);
    add(l, &w->post_norm, &t->post_norm, c->hidden, FILL_WEIGHT);
    add(l, &w->gate_up, &t->gate, c->intermediate * c->hidden, FILL_MATRIX);
    add(l, NULL, &t->up, c->intermediate * c->hidden, FILL_MATRIX);
    add(l, &w->down, &t->down, c->hidden * c->intermediate, FILL_MATRIX);
}

static void add_all(struct loading *l) {
    const struct model *m = l->source->model;
    struct weights *w = l->weights;
    add(l, &w->embedding, &m->embedding, m->config.vocab * m->config.hidden, FILL_MATRIX);
    for (int64_t i = 0; i < m->config.layers; i++) add_layer(l, i);
    add(l, &w->final_norm, &m->final_norm, m->config.hidden, FILL_WEIGHT);
    if (!m->config.tied)
        add(l, &w->head, &m->head, m->config.vocab * m->config.hidden, FILL_MATRIX);
}

static uint64_t bits(const void *pointer) { return (uint64_t)(uintptr_t)pointer; }

static enum status launch(struct device *device, struct launch *launch) {
    launch->grid[0] = 8 * (unsigned)device->info.sms, launch->grid[1] = launch->grid[2] = 1;
    launch->block[0] = 256, launch->block[1] = launch->block[2] = 1;
    return device->ops->launch(device, launch);
}

static enum status load_support(struct loading *l) {
    struct device *device = l->weights->device;
    struct build build;
    TRY(compile_support((struct target){device->info.kind, device->info.arch}, &build));
    if (build.status) return fail(build.status, "kernels/support/support.cu: %s", build.log);
    TRY(device->ops->module_load(device, build.path, build.suffix, &l->support));
    TRY(device->ops->function_get(device, l->support, "fill", 0, &l->fill));
    TRY(device->ops->function_get(device, l->support, "convert", 0, &l->convert));
    TRY(device->ops->allocate(device, CHUNK_BYTES, &l->staging));
    TRY(device->ops->allocate(device, ALIGNMENT, &l->lost));
    return device->ops->set_bytes(device, l->lost, 0, ALIGNMENT);
}

static bool go_on(struct loading *l, size_t bytes) {
    l->done += bytes;
    return !l->source->progress ||
           l->source->progress(l->source->context, l->done, l->weights->bytes);
}

/* Copies as it is, or through the staging buffer and `convert`, a chunk at a time. */
static enum status load_tensor(struct loading *l, const struct piece *p, char *to) {
    struct device *device = l->weights->device;
    const struct tensor *t = p->tensor;
    size_t from_bytes = dtype_bytes(t->dtype), to_bytes = dtype_bytes(l->weights->dtype);
    bool same = t->dtype == l->weights->dtype;
    int64_t step = CHUNK_BYTES / (int64_t)(from_bytes > to_bytes ? from_bytes : to_bytes);
    for (int64_t first = 0; first < p->elements; first += step) {
        int64_t n = p->elements - first < step ? p->elements - first : step;
        const char *from = (const char *)t->data + (size_t)first * from_bytes;
        char *at = to + (size_t)first * to_bytes;
        TRY(uploader_put(l->uploader, same ? at : l->staging, from, (size_t)n * from_bytes));
        struct launch convert = {.function = l->convert,
                                 .param = {bits(at), bits(l->staging), (uint64_t)n,
                                           (uint64_t)l->weights->dtype, (uint64_t)t->dtype,
                                           bits(l->lost)},
                                 .param_count = 6};
        if (!same) TRY(launch(device, &convert));
        if (!go_on(l, (size_t)n * to_bytes)) return fail(STATUS_INTERRUPTED, "stopped loading");
    }
    unsigned lost = 0;
    if (!same) TRY(device->ops->download(device, &lost, l->lost, sizeof lost));
    if (lost)
        return fail(STATUS_FORMAT, "%s: '%s' holds numbers that %s cannot; take bf16 or fp32",
                    t->where, t->name, dtype_name(l->weights->dtype));
    return STATUS_OK;
}

static enum status make_random(struct loading *l, const struct piece *p, char *to, uint64_t seed) {
    struct device *device = l->weights->device;
    struct launch fill = {.function = l->fill,
                          .param = {bits(to), (uint64_t)p->elements, (uint64_t)l->weights->dtype,
                                    (uint64_t)p->fill, seed},
                          .param_count = 5};
    TRY(launch(device, &fill));
    return go_on(l, (size_t)p->elements * dtype_bytes(l->weights->dtype))
               ? STATUS_OK
               : fail(STATUS_INTERRUPTED, "stopped making weights");
}

static enum status allocate(struct weights *w) {
    size_t free_bytes;
    enum status status = w->device->ops->allocate(w->device, w->bytes, &w->arena);
    if (!status) return STATUS_OK;
    if (w->device->ops->free_bytes(w->device, &free_bytes)) return status;
    return fail(STATUS_MEMORY, "the weights need %.2f GB of device memory as %s; %.2f GB are free",
                (double)w->bytes * 1e-9, dtype_name(w->dtype), (double)free_bytes * 1e-9);
}

static enum status load(struct loading *l) {
    struct weights *w = l->weights;
    add_all(l);
    TRY(allocate(w));
    TRY(load_support(l));
    if (l->source->model->layers) TRY(uploader_open(w->device, &l->uploader));
    for (int i = 0; i < l->pieces; i++) {
        const struct piece *p = &l->piece[i];
        char *to = (char *)w->arena + p->offset;
        if (p->to) *p->to = to;
        if (l->source->model->layers)
            TRY(load_tensor(l, p, to));
        else
            TRY(make_random(l, p, to, l->source->seed + (uint64_t)i));
    }
    if (!w->head) w->head = w->embedding;
    return w->device->ops->synchronize(w->device);
}

enum status weights_load(struct device *device, const struct weights_source *source,
                         struct weights **out) {
    struct weights *w = calloc(1, sizeof *w);
    struct loading l = {.weights = w, .source = source};
    l.piece = malloc(MAX_PIECES * sizeof *l.piece);
    if (w) w->layer = calloc((size_t)source->model->config.layers, sizeof *w->layer);
    enum status status = STATUS_OK;
    if (!w || !l.piece || !w->layer) {
        status = fail(STATUS_SYSTEM, "out of memory");
    } else {
        w->device = device, w->dtype = source->dtype;
        status = load(&l);
    }
    uploader_close(l.uploader);
    free(l.piece);
    if (l.staging) device->ops->release(device, l.staging);
    if (l.lost) device->ops->release(device, l.lost);
    if (l.support) device->ops->module_unload(device, l.support);
    if (status)
        weights_free(w);
    else
        *out = w;
    return status;
}

void weights_free(struct weights *w) {
    if (!w) return;
    if (w->arena) w->device->ops->release(w->device, w->arena);
    free(w->layer);
    free(w);
}
