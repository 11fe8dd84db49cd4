/* reference_model.h - a language model's forward pass in fp64, as plain as it can be written: what
 * engine/model.h's comment says, position by position. Slow; for tests. */
#ifndef FASTINFER_REFERENCE_MODEL_H
#define FASTINFER_REFERENCE_MODEL_H

#include "engine/model.h"

struct reference;

/* Every number is read from model->config at each step, so that a test may spoil one. Holds
 * `positions` positions of KV cache; asserts that there is memory. */
struct reference *reference_new(const struct model *model, int64_t positions);
void reference_free(struct reference *reference);

/* Query head h reads key head h % kv_heads instead of h / group: a mistake to be caught. */
void reference_spoil_groups(struct reference *reference);

/* Appends a token and gives the logits (vocab) of its position; they live until the next step. */
const double *reference_step(struct reference *reference, int64_t token);
void reference_reset(struct reference *reference); /* to position 0 */

#endif
