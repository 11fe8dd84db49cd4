#include "tests/reference_model.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct reference {
    const struct model *model;
    const struct model_config *config;
    int64_t position, positions;
    bool wrong_groups;
    double *x, *a, *q, *out, *gate, *up, *scores, *logits;
    double *keys, *values; /* (layers, positions, kv_heads, head_dim) */
};

static double *doubles(int64_t n) {
    double *x = calloc((size_t)n, sizeof *x);
    assert(x);
    return x;
}

struct reference *reference_new(const struct model *model, int64_t positions) {
    const struct model_config *c = &model->config;
    struct reference *r = calloc(1, sizeof *r);
    int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    assert(r);
    r->model = model, r->config = c, r->positions = positions;
    r->x = doubles(c->hidden), r->a = doubles(c->hidden), r->q = doubles(q), r->out = doubles(q);
    r->gate = doubles(c->intermediate), r->up = doubles(c->intermediate);
    r->scores = doubles(positions), r->logits = doubles(c->vocab);
    r->keys = doubles(c->layers * positions * kv), r->values = doubles(c->layers * positions * kv);
    return r;
}

void reference_free(struct reference *r) {
    free(r->x), free(r->a), free(r->q), free(r->out), free(r->gate), free(r->up);
    free(r->scores), free(r->logits), free(r->keys), free(r->values), free(r);
}

void reference_spoil_groups(struct reference *r) { r->wrong_groups = true; }
void reference_reset(struct reference *r) { r->position = 0; }

static double at(const struct tensor *t, int64_t i) { return dtype_load(t->dtype, t->data, i); }

/* y (rows) = W (rows, columns) x, + bias where there is one; added to y where `add`. */
static void linear(const struct tensor *w, const struct tensor *bias, const double *x, double *y,
                   bool add) {
    for (int64_t row = 0; row < w->shape[0]; row++) {
        double sum = bias ? at(bias, row) : 0;
        for (int64_t i = 0; i < w->shape[1]; i++) sum += at(w, row * w->shape[1] + i) * x[i];
        y[row] = add ? y[row] + sum : sum;
    }
}

static void rmsnorm(const struct tensor *weight, double eps, int64_t n, const double *x,
                    double *y) {
    double squares = 0;
    for (int64_t i = 0; i < n; i++) squares += x[i] * x[i];
    double scale = 1 / sqrt(squares / (double)n + eps);
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * scale * at(weight, i);
}

/* Radians a position of pair `pair`. */
static double frequency(const struct model_config *c, int64_t pair) {
    const struct rope_scaling *s = &c->scaling;
    double f = pow(c->rope_theta, -2.0 * (double)pair / (double)c->head_dim);
    double turns = (double)s->original * f / (2 * acos(-1)); /* in the original context */
    if (!s->llama3 || turns > s->high) return f;
    if (turns < s->low) return f / s->factor;
    double smooth = (turns - s->low) / (s->high - s->low);
    return smooth * f + (1 - smooth) * f / s->factor;
}

static void rotate(const struct model_config *c, int64_t position, double *head) {
    int64_t half = c->head_dim / 2;
    for (int64_t i = 0; i < half; i++) {
        double angle = (double)position * frequency(c, i), low = head[i], high = head[i + half];
        head[i] = low * cos(angle) - high * sin(angle);
        head[i + half] = high * cos(angle) + low * sin(angle);
    }
}

/* What happens to each head of q or k before attention. */
static void prepare(const struct model_config *c, int64_t layer, const struct tensor *norm,
                    int64_t heads, int64_t position, double *x) {
    for (int64_t h = 0; h < heads; h++) {
        double *head = x + h * c->head_dim;
        if (c->qk_norm) rmsnorm(norm, c->rms_eps, c->head_dim, head, head);
        if (!c->no_rope[layer]) rotate(c, position, head);
    }
}

/* One query head over keys and values of stride `stride`, positions first..last. */
static void attend(struct reference *r, const double *q, const double *keys, const double *values,
                   int64_t first, double *out) {
    int64_t d = r->config->head_dim, stride = r->config->kv_heads * d;
    double most = -INFINITY, sum = 0;
    for (int64_t j = first; j <= r->position; j++) {
        double score = 0;
        for (int64_t i = 0; i < d; i++) score += q[i] * keys[j * stride + i];
        r->scores[j] = score / sqrt((double)d);
        most = fmax(most, r->scores[j]);
    }
    for (int64_t j = first; j <= r->position; j++) sum += r->scores[j] = exp(r->scores[j] - most);
    for (int64_t i = 0; i < d; i++) {
        out[i] = 0;
        for (int64_t j = first; j <= r->position; j++)
            out[i] += r->scores[j] / sum * values[j * stride + i];
    }
}

static void attention(struct reference *r, int64_t layer) {
    const struct model_config *c = r->config;
    const struct model_layer *l = &r->model->layers[layer];
    int64_t kv = c->kv_heads * c->head_dim, group = c->heads / c->kv_heads, first = 0;
    double *keys = r->keys + layer * r->positions * kv;
    double *values = r->values + layer * r->positions * kv;
    double *k = keys + r->position * kv;
    linear(&l->q, c->qkv_bias ? &l->q_bias : NULL, r->a, r->q, false);
    linear(&l->k, c->qkv_bias ? &l->k_bias : NULL, r->a, k, false);
    linear(&l->v, c->qkv_bias ? &l->v_bias : NULL, r->a, values + r->position * kv, false);
    prepare(c, layer, &l->q_norm, c->heads, r->position, r->q);
    prepare(c, layer, &l->k_norm, c->kv_heads, r->position, k);
    if (c->windowed[layer] && r->position >= c->window) first = r->position - c->window + 1;
    for (int64_t h = 0; h < c->heads; h++) {
        int64_t from = (r->wrong_groups ? h % c->kv_heads : h / group) * c->head_dim;
        attend(r, r->q + h * c->head_dim, keys + from, values + from, first,
               r->out + h * c->head_dim);
    }
    linear(&l->o, c->o_bias ? &l->o_bias : NULL, r->out, r->x, true);
}

static void mlp(struct reference *r, const struct model_layer *l) {
    linear(&l->gate, NULL, r->a, r->gate, false);
    linear(&l->up, NULL, r->a, r->up, false);
    for (int64_t i = 0; i < r->config->intermediate; i++)
        r->up[i] *= r->gate[i] / (1 + exp(-r->gate[i]));
    linear(&l->down, NULL, r->up, r->x, true);
}

const double *reference_step(struct reference *r, int64_t token) {
    const struct model_config *c = r->config;
    assert(r->position < r->positions && token >= 0 && token < c->vocab);
    for (int64_t i = 0; i < c->hidden; i++)
        r->x[i] = at(&r->model->embedding, token * c->hidden + i);
    for (int64_t layer = 0; layer < c->layers; layer++) {
        const struct model_layer *l = &r->model->layers[layer];
        rmsnorm(&l->input_norm, c->rms_eps, c->hidden, r->x, r->a);
        attention(r, layer);
        rmsnorm(&l->post_norm, c->rms_eps, c->hidden, r->x, r->a);
        mlp(r, l);
    }
    rmsnorm(&r->model->final_norm, c->rms_eps, c->hidden, r->x, r->a);
    linear(&r->model->head, NULL, r->a, r->logits, false);
    r->position++;
    return r->logits;
}
