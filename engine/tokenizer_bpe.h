/* tokenizer_bpe.h - byte-pair encoding: the vocabulary, the merges, and the ids of a word. */
#ifndef FASTINFER_TOKENIZER_BPE_H
#define FASTINFER_TOKENIZER_BPE_H

#include <jansson.h>

#include "engine/tokenizer_text.h"

enum { BPE_MOST_IDS = 1 << 24 }; /* ids are below it */

struct bpe;
/* Reads "model" of a tokenizer.json. Takes merges as "a b" and as ["a", "b"], byte_fallback,
 * ignore_merges, unk_token and fuse_unk; refuses, by name, what else changes ids. */
enum status bpe_read(const json_t *model, struct bpe **out);
void bpe_free(struct bpe *bpe);

int32_t bpe_size(const struct bpe *bpe);                                /* the highest id and one */
int32_t bpe_id(const struct bpe *bpe, const char *token, size_t bytes); /* -1: none */
/* The token as in the file, without a final 0; NULL where no token has the id. */
const char *bpe_token(const struct bpe *bpe, int32_t id, size_t *bytes);

/* Adds the ids of a word: well-formed UTF-8, at most 2^30 bytes. Merges by rank, then from the
 * left. Characters without a token are bytes (byte_fallback), else unk_token, else dropped. Not for
 * two threads at once: short words are remembered. */
enum status bpe_word(struct bpe *bpe, const char *word, size_t bytes, struct ids *out);

#endif
