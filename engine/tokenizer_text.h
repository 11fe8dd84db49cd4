/* tokenizer_text.h - growing byte strings and id lists, and UTF-8. */
#ifndef FASTINFER_TOKENIZER_TEXT_H
#define FASTINFER_TOKENIZER_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/status.h"

/* Zeroed, it is empty; no final 0 is kept. Growing is STATUS_SYSTEM where memory is short. */
struct text {
    char *data;
    size_t size, room;
};
enum status text_add(struct text *text, const void *bytes, size_t count);
/* Adds the bytes as Python's decode("utf-8", "replace") reads them: U+FFFD for each maximal part
 * of an ill-formed character, so that what is added is well-formed. */
enum status text_add_repaired(struct text *text, const char *bytes, size_t count);
void text_free(struct text *text);

struct ids {
    int32_t *at;
    size_t count, room;
};
enum status ids_add(struct ids *ids, int32_t id);

enum utf8 { UTF8_GOOD, UTF8_BAD, UTF8_CUT };
/* What the `count` > 0 bytes begin with, and its length in *length: a character, a maximal part of
 * none (one U+FFFD), or the beginning of one that more bytes could complete. */
enum utf8 utf8_head(const char *bytes, size_t count, size_t *length);
/* The length and code of the character at `bytes`, which must be well-formed. */
size_t utf8_get(const char *bytes, uint32_t *code);
size_t utf8_put(uint32_t code, char out[4]);
/* The property White_Space. */
bool utf8_is_space(uint32_t code);
/* What \w matches: alphabetic, marks, decimal digits, connectors, joiners. */
bool utf8_is_word(uint32_t code);
/* The character before text[at], at > 0, in well-formed text. */
uint32_t utf8_before(const char *text, size_t at, size_t *start);

#endif
