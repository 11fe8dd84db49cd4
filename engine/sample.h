/* sample.h - the next token from fp32 logits, on the host.
 *
 * The steps and their order are those of transformers' logits processors: repetition penalty,
 * temperature, top-k, top-p, min-p, then a draw. Logits are kept in fp32, sums of probabilities in
 * fp64. Among equal logits the lower id counts as the larger: greedy takes it, and top-p keeps it
 * first; top-k keeps all that equal its smallest, as transformers does. The same options, seed and
 * logits give the same tokens. kernels/sample does the same on a device, without the penalty and
 * with a draw of its own.
 */
#ifndef FASTINFER_SAMPLE_H
#define FASTINFER_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/status.h"

/* A value that is named "off" leaves its step out. */
struct sample_options {
    float temperature;        /* 0: greedy, the steps below left out; 1: off */
    int top_k;                /* 0: off */
    float top_p;              /* in (0, 1]; 1: off */
    float min_p;              /* in [0, 1]; of the largest probability; 0: off */
    float repetition_penalty; /* > 0; 1: off */
    uint64_t seed;
};
#define SAMPLE_GREEDY                                                                              \
    (struct sample_options) { .top_p = 1, .repetition_penalty = 1 }

struct sampler;
/* For vectors of `count` logits. STATUS_ARGUMENT names the option that is out of its range. */
enum status sampler_open(const struct sample_options *options, int count, struct sampler **out);
void sampler_close(struct sampler *sampler);

/* `previous`: the ids so far, prompt included, for the repetition penalty (each counts once; ids
 * that are no index of a logit are passed over). -inf is a token that cannot be; NaN, +inf and
 * nothing but -inf are STATUS_INCORRECT. */
enum status sampler_next(struct sampler *sampler, const float *logits, const int32_t *previous,
                         size_t previous_count, int32_t *token);

/* What sampler_next() would draw from: the ids left by all steps, each with its weight (probability
 * up to a common factor, the largest has 1). id and weight: room for as many as there are logits.
 * Draws nothing. */
enum status sampler_survivors(struct sampler *sampler, const float *logits, const int32_t *previous,
                              size_t previous_count, int32_t *id, double *weight, int *count);

#endif
