/* decode_step_reference.c - what decode_step should give, in fp64, and the inputs it is given. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/decode_step/decode_step.h"
#include "kernels/rope/rope.h"
#include "kernels/shapes.h"
#include "runtime/parallel.h"
#include "runtime/random.h"

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t padded(int64_t elements) { return (elements + 127) / 128 * 128; }

struct decode_step_layout decode_step_layout(const struct problem *p) {
    const int64_t *n = p->size, q = n[HEADS] * n[HEAD_DIM], all = q + 2 * n[KV_HEADS] * n[HEAD_DIM];
    struct decode_step_layout l = {0};
    l.qkv = padded(n[HIDDEN]);
    l.qkv_bias = l.qkv + padded(all * n[HIDDEN]);
    l.q_norm = l.qkv_bias + (n[QKV_BIAS] ? padded(all) : 0);
    l.k_norm = l.q_norm + (n[QK_NORM] ? padded(n[HEAD_DIM]) : 0);
    l.o = l.k_norm + (n[QK_NORM] ? padded(n[HEAD_DIM]) : 0);
    l.o_bias = l.o + padded(n[HIDDEN] * q);
    l.post_norm = l.o_bias + (n[O_BIAS] ? padded(n[HIDDEN]) : 0);
    l.gate_up = l.post_norm + padded(n[HIDDEN]);
    l.down = l.gate_up + padded(2 * n[INTERMEDIATE] * n[HIDDEN]);
    l.end = l.down + padded(n[HIDDEN] * n[INTERMEDIATE]);
    return l;
}

/* --- the reference: a forward pass of one position in fp64 ------------------------------------
 *
 * Layers depend on one another, so that this is one piece of work; within it the rows of a matrix,
 * each for all sequences, and the heads are spread over the cores.
 */

struct forward {
    const struct problem *p;
    const void *const *before;
    double *const *want, *const *magnitude;
    int64_t wide;            /* room for any activation of a sequence */
    double *x, *a, *b, *c;   /* (batch, wide) */
    const int32_t *position; /* (batch) */
    struct decode_step_layout layout;
    int64_t layer;
};

static double weight(const struct forward *f, int64_t at) {
    return dtype_load(f->p->dtype, f->before[WEIGHTS], at);
}

static void norm(const struct forward *f, int argument, int64_t at) {
    int64_t n = f->p->size[HIDDEN];
    for (int64_t s = 0; s < f->p->size[BATCH]; s++) {
        const double *x = f->x + s * f->wide;
        double sum = 0;
        for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
        double scale = 1 / sqrt(sum / (double)n + (double)(float)f->p->real[0]);
        for (int64_t i = 0; i < n; i++)
            f->a[s * f->wide + i] =
                x[i] * scale * dtype_load(f->p->dtype, f->before[argument], at + i);
    }
}

/* A matrix times the activations of all sequences, a row each; `size`, where it is asked for, takes
 * the sum of the terms' sizes. */
struct product {
    const struct forward *f;
    int argument;
    int64_t at, inputs;
    const double *in;
    double *out, *size;
    int64_t pitch; /* of out and size: from sequence to sequence */
};

/* Four sums side by side, always the same terms in each. */
static double dot(const double *row, const double *x, int64_t n) {
    double sum[4] = {0};
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int k = 0; k < 4; k++) sum[k] += row[i + k] * x[i + k];
    for (; i < n; i++) sum[0] += row[i] * x[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

static double dot_of_sizes(const double *row, const double *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += fabs(row[i] * x[i]);
    return sum;
}

static void product_rows(void *context, int64_t first, int64_t last) {
    const struct product *m = context;
    const struct problem *p = m->f->p;
    double *row = malloc((size_t)m->inputs * sizeof *row);
    for (int64_t r = first; r < last; r++) {
        dtype_load_row(p->dtype, m->f->before[m->argument], m->at + r * m->inputs, m->inputs, row);
        for (int64_t s = 0; s < p->size[BATCH]; s++) {
            const double *x = m->in + s * m->f->wide;
            m->out[s * m->pitch + r] = dot(row, x, m->inputs);
            if (m->size) m->size[s * m->pitch + r] = dot_of_sizes(row, x, m->inputs);
        }
    }
    free(row);
}

/* Few terms are not worth a thread. */
static void multiply(struct product m, int64_t rows) {
    enum { TERMS = 1 << 16 };
    parallel_for(rows, TERMS / (m.inputs * m.f->p->size[BATCH]), product_rows, &m);
}

/* out: (batch, wide). */
static void layer_product(const struct forward *f, int64_t at, int64_t rows, int64_t inputs,
                          const double *in, double *out) {
    multiply(
        (struct product){f, WEIGHTS, f->layer * f->layout.end + at, inputs, in, out, NULL, f->wide},
        rows);
}

static void head_in_place(const struct forward *f, double *head, int64_t position, int64_t norm_at,
                          bool turns) {
    int64_t d = f->p->size[HEAD_DIM];
    const float *inv_freq = f->before[INV_FREQ];
    double sum = 0;
    for (int64_t i = 0; i < d; i++) sum += head[i] * head[i];
    double scale = 1 / sqrt(sum / (double)d + (double)(float)f->p->real[0]);
    for (int64_t i = 0; i < d && f->p->size[QK_NORM]; i++)
        head[i] *= scale * weight(f, norm_at + i);
    for (int64_t i = 0; i < d / 2 && turns; i++) {
        double angle = (double)((float)position * inv_freq[i]), x = head[i], y = head[i + d / 2];
        head[i] = x * cos(angle) - y * sin(angle),
        head[i + d / 2] = y * cos(angle) + x * sin(angle);
    }
}

static double rounded(enum dtype dtype, double value) {
    char element[8];
    dtype_store(dtype, element, 0, (float)value);
    return dtype_load(dtype, element, 0);
}

/* Writes one head's key or value where it belongs; the cache's bound is the element's rounding. */
static void keep(const struct forward *f, int argument, int64_t at, double *head) {
    int64_t d = f->p->size[HEAD_DIM];
    for (int64_t i = 0; i < d; i++) {
        f->want[argument][at + i] = head[i], f->magnitude[argument][at + i] = fabs(head[i]) + 1;
        head[i] = rounded(f->p->dtype, head[i]);
    }
}

/* One query head over positions low .. last of the cache; the last is our own key and value. */
static void attend(const struct forward *f, const double *q, const double *k, const double *v,
                   int64_t cache, int64_t low, int64_t last, double *out) {
    int64_t d = f->p->size[HEAD_DIM], n = last - low + 1;
    double *score = malloc((size_t)n * sizeof *score), greatest = -INFINITY, all = 0;
    for (int64_t j = 0; j < n; j++) {
        double sum = 0;
        for (int64_t i = 0; i < d; i++)
            sum += q[i] * (j == n - 1 ? k[i]
                                      : dtype_load(f->p->dtype, f->before[CACHE_K],
                                                   cache + (low + j) * d + i));
        score[j] = sum / sqrt((double)d), greatest = fmax(greatest, score[j]);
    }
    for (int64_t i = 0; i < d; i++) out[i] = 0;
    for (int64_t j = 0; j < n; j++) {
        double p = exp(score[j] - greatest);
        all += p;
        for (int64_t i = 0; i < d; i++)
            out[i] += p * (j == n - 1 ? v[i]
                                      : dtype_load(f->p->dtype, f->before[CACHE_V],
                                                   cache + (low + j) * d + i));
    }
    for (int64_t i = 0; i < d; i++) out[i] /= all;
    free(score);
}

/* From the projected b to a; an index is a key head of a sequence, with the queries that read it.
 */
static void attention_heads(void *context, int64_t first, int64_t last) {
    const struct forward *f = context;
    const int64_t *n = f->p->size, d = n[HEAD_DIM], q = n[HEADS] * d, kv = n[KV_HEADS] * d;
    const int64_t base = f->layer * f->layout.end, group = n[HEADS] / n[KV_HEADS];
    const int32_t *facts = (const int32_t *)f->before[FACTS] + 3 * f->layer;
    for (int64_t index = first; index < last; index++) {
        int64_t s = index / n[KV_HEADS], h = index % n[KV_HEADS], position = f->position[s];
        int64_t low = facts[1] && position >= facts[1] ? position - facts[1] + 1 : 0;
        int64_t cache = ((f->layer * n[BATCH] + s) * n[KV_HEADS] + h) * n[CAPACITY] * d;
        double *b = f->b + s * f->wide, *k = b + q + h * d, *v = b + q + kv + h * d;
        head_in_place(f, k, position, base + f->layout.k_norm, facts[0]);
        keep(f, CACHE_K, cache + position * d, k);
        keep(f, CACHE_V, cache + position * d, v);
        for (int64_t g = h * group; g < (h + 1) * group; g++) {
            head_in_place(f, b + g * d, position, base + f->layout.q_norm, facts[0]);
            attend(f, b + g * d, k, v, cache, low, position, f->a + s * f->wide + g * d);
        }
    }
}

static void layer_forward(struct forward *f) {
    const int64_t *n = f->p->size, q = n[HEADS] * n[HEAD_DIM];
    int64_t all = q + 2 * n[KV_HEADS] * n[HEAD_DIM], inner = n[INTERMEDIATE];
    struct decode_step_layout l = f->layout;
    int64_t base = f->layer * l.end;
    norm(f, WEIGHTS, base + l.input_norm);
    layer_product(f, l.qkv, all, n[HIDDEN], f->a, f->b);
    for (int64_t i = 0; i < n[BATCH] * all && n[QKV_BIAS]; i++)
        f->b[i / all * f->wide + i % all] += weight(f, base + l.qkv_bias + i % all);
    parallel_for(n[BATCH] * n[KV_HEADS], 1, attention_heads, f);
    layer_product(f, l.o, n[HIDDEN], q, f->a, f->b);
    for (int64_t s = 0; s < n[BATCH]; s++)
        for (int64_t i = 0; i < n[HIDDEN]; i++)
            f->x[s * f->wide + i] +=
                f->b[s * f->wide + i] + (n[O_BIAS] ? weight(f, base + l.o_bias + i) : 0);
    norm(f, WEIGHTS, base + l.post_norm);
    layer_product(f, l.gate_up, inner, n[HIDDEN], f->a, f->b);
    layer_product(f, l.gate_up + inner * n[HIDDEN], inner, n[HIDDEN], f->a, f->c);
    for (int64_t s = 0; s < n[BATCH]; s++)
        for (int64_t i = s * f->wide; i < s * f->wide + inner; i++)
            f->c[i] *= f->b[i] / (1 + exp(-f->b[i]));
    layer_product(f, l.down, n[HIDDEN], inner, f->c, f->b);
    for (int64_t s = 0; s < n[BATCH]; s++)
        for (int64_t i = s * f->wide; i < s * f->wide + n[HIDDEN]; i++) f->x[i] += f->b[i];
}

int64_t decode_step_outer(const struct problem *p) {
    (void)p;
    return 1;
}

/* What no sequence writes is not to be touched: a cache's other positions. */
static void keep_off(const struct problem *p, double *const *want, double *const *magnitude) {
    for (int argument = CACHE_K; argument <= CACHE_V; argument++)
        for (int64_t i = decode_step_elements(p, argument) - 1; i >= 0; i--)
            want[argument][i] = NAN, magnitude[argument][i] = 0;
}

static void forward(struct forward *f) {
    const struct problem *p = f->p;
    const int64_t *n = p->size;
    const int32_t *token = f->before[TOKEN];
    keep_off(p, f->want, f->magnitude);
    for (int64_t s = 0; s < n[BATCH]; s++)
        dtype_load_row(p->dtype, f->before[EMBEDDING], token[s] * n[HIDDEN], n[HIDDEN],
                       f->x + s * f->wide);
    for (f->layer = 0; f->layer < n[LAYERS]; f->layer++) layer_forward(f);
    norm(f, FINAL_NORM, 0);
    multiply((struct product){f, HEAD, 0, n[HIDDEN], f->a, f->want[LOGITS], f->magnitude[LOGITS],
                              n[VOCAB]},
             n[VOCAB]);
}

void decode_step_reference(const struct problem *p, const void *const *before, double *const *want,
                           double *const *magnitude, int64_t first, int64_t last) {
    const int64_t *n = p->size;
    int64_t wide =
        most(most(n[HIDDEN], n[INTERMEDIATE]), (n[HEADS] + 2 * n[KV_HEADS]) * n[HEAD_DIM]);
    int64_t all = n[BATCH] * wide;
    if (first == last) return;
    double *room = calloc((size_t)(4 * all), sizeof *room);
    struct forward f = {.p = p,
                        .before = before,
                        .want = want,
                        .magnitude = magnitude,
                        .wide = wide,
                        .x = room,
                        .a = room + all,
                        .b = room + 2 * all,
                        .c = room + 3 * all,
                        .position = before[POSITION],
                        .layout = decode_step_layout(p)};
    forward(&f);
    free(room);
}

/* --- inputs ----------------------------------------------------------------------------------- */

/* A stretch of weights that are made alike: mean + deviation times a number of deviation 1. */
enum { STRETCHES = 9 };
struct stretch {
    int64_t first, last; /* elements of a layer */
    float mean, deviation;
};

/* Norms about 1; q's and k's matrices such that attention is far from even; the rest so that an
 * activation keeps its size. */
static void stretches_of(const struct problem *p, struct stretch out[STRETCHES]) {
    struct decode_step_layout l = decode_step_layout(p);
    const int64_t *n = p->size, q = n[HEADS] * n[HEAD_DIM];
    float hidden = 1.0f / sqrtf((float)n[HIDDEN]), heads = 1.0f / sqrtf((float)q);
    const struct stretch all[STRETCHES] = {
        {0, l.qkv, 1, 0.2f},
        {l.qkv, l.qkv_bias, 0, hidden},
        {l.qkv_bias, l.q_norm, 0, 0.3f},
        {l.q_norm, l.o, 1, 0.2f},
        {l.o, l.o_bias, 0, heads},
        {l.o_bias, l.post_norm, 0, 0.3f},
        {l.post_norm, l.gate_up, 1, 0.2f},
        {l.gate_up, l.down, 0, hidden},
        {l.down, l.end, 0, 1.0f / sqrtf((float)n[INTERMEDIATE])}};
    memcpy(out, all, sizeof all);
}

/* The n-th weight is made of the n-th number alone, whoever makes it. */
struct filling {
    const struct problem *p;
    uint64_t seed;
    void *host;
    struct stretch stretch;
    int64_t base; /* of the layer */
};

static void fill_part(void *context, int64_t first, int64_t last) {
    enum { BLOCK = 512 };
    const struct filling *f = context;
    float block[BLOCK], mean = f->stretch.mean, deviation = f->stretch.deviation;
    for (int64_t at = f->base + f->stretch.first + first; first < last;) {
        int64_t n = least(last - first, BLOCK);
        uint64_t state = f->seed + (uint64_t)at * RANDOM_STEP;
        for (int64_t i = 0; i < n; i++) { /* of deviation 1, from four 16-bit numbers */
            uint64_t h = random_next(&state);
            int sum =
                (int)(h & 65535) + (int)(h >> 16 & 65535) + (int)(h >> 32 & 65535) + (int)(h >> 48);
            block[i] = mean + deviation * ((float)(sum - 131070) / 37837.0f);
        }
        dtype_store_row(f->p->dtype, f->host, at, n, block);
        at += n, first += n;
    }
}

static void fill_weights(const struct problem *p, uint64_t seed, void *host) {
    struct stretch stretch[STRETCHES];
    stretches_of(p, stretch);
    struct filling f = {p, seed, host, {0}, 0};
    for (int64_t layer = 0; layer < p->size[LAYERS]; layer++)
        for (int i = 0; i < STRETCHES; i++) {
            f.stretch = stretch[i], f.base = layer * decode_step_layout(p).end;
            parallel_for(stretch[i].last - stretch[i].first, 1 << 16, fill_part, &f);
        }
}

void decode_step_input(const struct problem *p, int index, uint64_t seed, void *host) {
    static const double theta[ROPE_REALS] = {[ROPE_THETA] = 5e5, [ROPE_FACTOR] = 1};
    const int64_t *n = p->size;
    uint64_t state = seed;
    int32_t *words = host;
    if (index == WEIGHTS) fill_weights(p, seed, host);
    if (index == INV_FREQ) rope_inv_freq(theta, n[HEAD_DIM], host);
    for (int64_t i = 0; index == TOKEN && i < n[BATCH]; i++)
        words[i] = (int32_t)(random_next(&state) % (uint64_t)n[VOCAB]);
    for (int64_t i = 0; index == POSITION && i < n[BATCH]; i++) /* in use: full; else anywhere */
        words[i] = (int32_t)(seed % 2 ? random_next(&state) % (uint64_t)n[CAPACITY]
                                      : (uint64_t)n[CAPACITY] - 1);
    for (int64_t i = 0; index == FACTS && i < n[LAYERS]; i++) {
        uint64_t r = random_next(&state);
        bool odd = seed % 2; /* else as in use */
        words[3 * i] = !(odd && r % 3 == 0);
        words[3 * i + 1] = odd && r % 2 ? (int32_t)(1 + r / 8 % (uint64_t)n[CAPACITY]) : 0;
        words[3 * i + 2] = odd && r % 5 == 0 ? 500 : 0;
    }
}
