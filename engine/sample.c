#include "engine/sample.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/random.h"

struct choice {
    float logit;
    int32_t id;
};
struct sampler {
    struct sample_options options;
    uint64_t state;
    int count;
    struct choice *choices; /* a heap where a step asks for the largest, else by id */
    struct choice *kept;
    uint8_t *seen;
};

enum status sampler_open(const struct sample_options *o, int count, struct sampler **out) {
    *out = NULL;
    if (count < 1) return fail(STATUS_ARGUMENT, "%d logits; at least one was expected", count);
    if (!(o->temperature >= 0) || isinf(o->temperature))
        return fail(STATUS_ARGUMENT, "temperature %g; 0 or more was expected", o->temperature);
    if (o->top_k < 0) return fail(STATUS_ARGUMENT, "top_k %d; 0 or more was expected", o->top_k);
    if (!(o->top_p > 0 && o->top_p <= 1))
        return fail(STATUS_ARGUMENT, "top_p %g; more than 0, at most 1 was expected", o->top_p);
    if (!(o->min_p >= 0 && o->min_p <= 1))
        return fail(STATUS_ARGUMENT, "min_p %g; 0 to 1 was expected", o->min_p);
    if (!(o->repetition_penalty > 0) || isinf(o->repetition_penalty))
        return fail(STATUS_ARGUMENT, "repetition_penalty %g; more than 0 was expected",
                    o->repetition_penalty);
    struct sampler *s = calloc(1, sizeof *s);
    if (!s) return fail(STATUS_SYSTEM, "out of memory");
    *s = (struct sampler){.options = *o, .state = o->seed, .count = count};
    s->choices = malloc((size_t)count * sizeof *s->choices);
    s->kept = malloc((size_t)count * sizeof *s->kept);
    s->seen = calloc((size_t)count, 1);
    if (!s->choices || !s->kept || !s->seen) {
        sampler_close(s);
        return fail(STATUS_SYSTEM, "out of memory");
    }
    *out = s;
    return STATUS_OK;
}

void sampler_close(struct sampler *sampler) {
    if (!sampler) return;
    free(sampler->choices), free(sampler->kept), free(sampler->seen);
    free(sampler);
}

static enum status take_logits(struct sampler *s, const float *logits) {
    bool any = false;
    for (int i = 0; i < s->count; i++) {
        if (isnan(logits[i]) || logits[i] == INFINITY)
            return fail(STATUS_INCORRECT, "the logit of token %d is %s; a number was expected", i,
                        isnan(logits[i]) ? "NaN" : "infinite");
        any |= logits[i] > -INFINITY;
        s->choices[i] = (struct choice){logits[i], i};
    }
    return any ? STATUS_OK
               : fail(STATUS_INCORRECT, "every logit is -inf; one token at least was expected");
}

static void penalize(struct sampler *s, const int32_t *previous, size_t count) {
    float penalty = s->options.repetition_penalty;
    if (penalty == 1) return;
    for (size_t i = 0; i < count; i++) {
        int32_t id = previous[i];
        if (id < 0 || id >= s->count || s->seen[id]) continue;
        float *logit = &s->choices[id].logit;
        *logit = *logit < 0 ? *logit * penalty : *logit / penalty;
        if (*logit > 3.402823466e38f) *logit = 3.402823466e38f; /* a tiny penalty: no infinity */
        s->seen[id] = 1;
    }
    for (size_t i = 0; i < count; i++)
        if (previous[i] >= 0 && previous[i] < s->count) s->seen[previous[i]] = 0;
}

static bool larger(struct choice a, struct choice b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

static void sink(struct choice *heap, int count, int parent) {
    struct choice moved = heap[parent];
    for (int child; (child = 2 * parent + 1) < count; parent = child) {
        if (child + 1 < count && larger(heap[child + 1], heap[child])) child++;
        if (!larger(heap[child], moved)) break;
        heap[parent] = heap[child];
    }
    heap[parent] = moved;
}

/* The first of top-k and top-p, largest first, into kept; `total` is the sum of exp(logit - max) of
 * what top-k left, which is not known before: so top-k is done before top-p begins. */
static int keep_largest(struct sampler *s) {
    int left = s->count, kept = 0, k = s->options.top_k;
    for (int i = left / 2 - 1; i >= 0; i--) sink(s->choices, left, i);
    float max = s->choices[0].logit;
    double total = 0, sum = 0;
    if (!k || k > s->count) k = s->count;
    if (k == s->count)
        for (int i = 0; i < left; i++) total += exp((double)s->choices[i].logit - max);
    while (left) {
        struct choice next = s->choices[0];
        if (kept >= k && next.logit < s->kept[kept - 1].logit) break; /* what equals it stays */
        if (k == s->count && kept && sum >= s->options.top_p * total) break;
        s->kept[kept++] = next;
        sum += exp((double)next.logit - max);
        s->choices[0] = s->choices[--left];
        if (left) sink(s->choices, left, 0);
    }
    if (k == s->count || s->options.top_p == 1) return kept;
    total = sum, sum = 0;
    for (int i = 0; i < kept; i++) {
        if (i && sum >= s->options.top_p * total) return i;
        sum += exp((double)s->kept[i].logit - max);
    }
    return kept;
}

static double weight_of(struct choice choice, float max) { return exp((double)choice.logit - max); }

/* Min-p: those under it go, and those without any probability; returns how many are left. */
static int drop_unlikely(const struct sampler *s, struct choice *kept, int count) {
    float max = -INFINITY;
    int left = 0;
    for (int i = 0; i < count; i++)
        if (kept[i].logit > max) max = kept[i].logit;
    for (int i = 0; i < count; i++) {
        double weight = weight_of(kept[i], max);
        if (weight > 0 && weight >= s->options.min_p) kept[left++] = kept[i];
    }
    return left;
}

/* One of the kept, by its share of their probability. */
static int32_t draw(struct sampler *s, const struct choice *kept, int count) {
    float max = -INFINITY;
    double total = 0, sum = 0;
    for (int i = 0; i < count; i++)
        if (kept[i].logit > max) max = kept[i].logit;
    for (int i = 0; i < count; i++) total += weight_of(kept[i], max);
    double goal = total * (double)(random_next(&s->state) >> 11) * 0x1p-53;
    for (int i = 0; i < count; i++)
        if ((sum += weight_of(kept[i], max)) > goal) return kept[i].id;
    return kept[count - 1].id; /* rounding put the goal at the very end */
}

/* Temperature; a finite logit stays finite. */
static void scale(struct sampler *s) {
    float most = 3.402823466e38f, temperature = s->options.temperature;
    for (int i = 0; i < s->count && temperature != 1; i++) {
        float *logit = &s->choices[i].logit, scaled = *logit / temperature;
        if (*logit > -INFINITY) *logit = scaled > most ? most : scaled < -most ? -most : scaled;
    }
}

/* All steps but the draw: *kept are the ids that may be drawn, greedy's one. */
static enum status narrow(struct sampler *s, const float *logits, const int32_t *previous,
                          size_t previous_count, const struct choice **kept, int *count) {
    const struct sample_options *o = &s->options;
    TRY(take_logits(s, logits));
    penalize(s, previous, previous_count);
    *kept = s->choices, *count = s->count;
    if (o->temperature == 0) {
        for (int i = 1; i < s->count; i++)
            if (larger(s->choices[i], s->choices[0])) s->choices[0] = s->choices[i];
        *count = 1;
        return STATUS_OK;
    }
    scale(s);
    struct choice *left = s->choices;
    if (o->top_k || o->top_p < 1) {
        left = s->kept;
        *count = keep_largest(s);
    }
    *kept = left, *count = drop_unlikely(s, left, *count);
    return STATUS_OK;
}

enum status sampler_next(struct sampler *sampler, const float *logits, const int32_t *previous,
                         size_t previous_count, int32_t *token) {
    const struct choice *kept;
    int count;
    TRY(narrow(sampler, logits, previous, previous_count, &kept, &count));
    *token = sampler->options.temperature == 0 ? kept[0].id : draw(sampler, kept, count);
    return STATUS_OK;
}

enum status sampler_survivors(struct sampler *sampler, const float *logits, const int32_t *previous,
                              size_t previous_count, int32_t *id, double *weight, int *count) {
    const struct choice *kept;
    float max = -INFINITY;
    TRY(narrow(sampler, logits, previous, previous_count, &kept, count));
    for (int i = 0; i < *count; i++)
        if (kept[i].logit > max) max = kept[i].logit;
    for (int i = 0; i < *count; i++) id[i] = kept[i].id, weight[i] = weight_of(kept[i], max);
    return STATUS_OK;
}
