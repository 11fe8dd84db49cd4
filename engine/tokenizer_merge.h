/* tokenizer_merge.h - the merges of a byte-pair encoding, and a word as they join it. */
#ifndef FASTINFER_TOKENIZER_MERGE_H
#define FASTINFER_TOKENIZER_MERGE_H

#include "engine/tokenizer_text.h"

struct merges;
enum status merges_new(size_t count, struct merges **out); /* room for that many */
void merges_free(struct merges *merges);
/* Ids `left` and `right`, side by side, become `id`. Of a pair put twice the last counts. */
void merges_put(struct merges *merges, int32_t left, int32_t right, int32_t rank, int32_t id);

/* A word: begun, given its symbols one by one, joined until no merge fits. The lowest rank goes
 * first, among equals the leftmost. n symbols take O(n log n) steps. */
void merges_begin(struct merges *merges);
enum status merges_symbol(struct merges *merges, int32_t id);
enum status merges_end(struct merges *merges, struct ids *out);

#endif
