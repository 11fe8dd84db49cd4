/* tokenizer.h - text to ids and back, by a HuggingFace tokenizer.json.
 *
 * Token for token what HuggingFace's `tokenizers` gives, for BPE models with the parts below;
 * tests/compare_tokenizers.py compares the two. A part that is not in the list is refused when the
 * file is opened, by its name.
 *
 *   normalizers     NFC NFD NFKC NFKD Prepend Replace Lowercase Strip, Sequence
 *   pre-tokenizers  ByteLevel Split Digits Metaspace Whitespace, Sequence
 *   model           BPE with byte_fallback, ignore_merges, unk_token, fuse_unk
 *   post-processors TemplateProcessing (of one text) ByteLevel, Sequence
 *   decoders        ByteLevel ByteFallback Fuse Strip Replace Metaspace, Sequence
 *
 * Known differences: (?i) folds one character to one (Oniguruma also takes "ss" for a sharp s);
 * characters assigned in a newer Unicode than one side's tables (PCRE2's and
 * utf8proc's here) may be classed differently, and Metaspace's "first" is the first piece of the
 * text also where Strip took spaces before it. "truncation" and "padding" are left to the caller.
 *
 * A tokenizer is for one thread at a time: it keeps scratch memory and remembers words.
 */
#ifndef FASTINFER_TOKENIZER_H
#define FASTINFER_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/status.h"

struct tokenizer;

/* `path` is a tokenizer.json or the folder that holds one; from a tokenizer_config.json beside it
 * bos_token and eos_token are read. STATUS_SYSTEM: cannot be read; STATUS_FORMAT: malformed, or
 * has a part that is not supported. */
enum status tokenizer_open(const char *path, struct tokenizer **out);
/* The same from a tokenizer.json in memory; `name` stands for it in messages. */
enum status tokenizer_open_text(const char *name, const char *json, size_t bytes,
                                struct tokenizer **out);
void tokenizer_close(struct tokenizer *tokenizer); /* NULL does nothing */

/* The ids of at most 2^29 bytes of text; *ids is the caller's to free, NULL where *count is 0.
 * Bytes that are not UTF-8 are read as Python's decode("utf-8", "replace") reads them. Special
 * tokens written in the text become their ids. add_special: with what the file's template puts
 * around a text (<|begin_of_text|>, <s>, ...). */
enum status tokenizer_encode(struct tokenizer *tokenizer, const char *text, size_t bytes,
                             bool add_special, int32_t **ids, size_t *count);

/* The text of ids, well-formed UTF-8 with a final 0 that *bytes does not count; the caller frees
 * it. Ids without a token are nothing, as are special tokens where skip_special. */
enum status tokenizer_decode(struct tokenizer *tokenizer, const int32_t *ids, size_t count,
                             bool skip_special, char **text, size_t *bytes);

/* Decoding id by id: the pieces put together are what tokenizer_decode() gives. What cannot be
 * told yet is held back: a character cut short, and at byte fallback a run of byte tokens, which
 * is only known to be good at its end. The text lives until the next call for this stream; it has
 * no final 0. */
struct tokenizer_stream;
enum status tokenizer_stream_open(struct tokenizer *tokenizer, bool skip_special,
                                  struct tokenizer_stream **out);
enum status tokenizer_stream_push(struct tokenizer_stream *stream, int32_t id, const char **text,
                                  size_t *bytes);
enum status tokenizer_stream_end(struct tokenizer_stream *stream, const char **text, size_t *bytes);
void tokenizer_stream_close(struct tokenizer_stream *stream); /* before its tokenizer */

/* One more than the highest id. A model's logits may be more (padding). */
int32_t tokenizer_size(const struct tokenizer *tokenizer);
/* The id of a token by its content as in the file; -1: there is none. */
int32_t tokenizer_id(const struct tokenizer *tokenizer, const char *content);
/* The content as in the file ("\u0120the" for " the" at byte level), without a final 0; NULL where
 * no token has the id. */
const char *tokenizer_content(const struct tokenizer *tokenizer, int32_t id, size_t *bytes);
bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id);

/* The begin and the end of a text, -1 where there is none: as tokenizer_config.json says; without
 * that file by the usual names (<|begin_of_text|>, <s>; <|end_of_text|>, </s>, <|im_end|>,
 * <|endoftext|>), the first that is a special token. */
int32_t tokenizer_bos(const struct tokenizer *tokenizer);
int32_t tokenizer_eos(const struct tokenizer *tokenizer);
/* Generation is over at this id: eos, or a special token that ends a turn or a text
 * (<|eot_id|>, <|eom_id|>, <|im_end|>, <|end_of_text|>, <|endoftext|>, </s>). */
bool tokenizer_is_end(const struct tokenizer *tokenizer, int32_t id);

#endif
