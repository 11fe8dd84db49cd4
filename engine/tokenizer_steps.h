/* tokenizer_steps.h - what is done to text on its way to words: normalizers, then pre-tokenizers.
 * Sequences of a tokenizer.json are one flat list here. */
#ifndef FASTINFER_TOKENIZER_STEPS_H
#define FASTINFER_TOKENIZER_STEPS_H

#include "engine/tokenizer_pattern.h"
#include "engine/tokenizer_text.h"

enum { STEPS = 16 }; /* of one kind, at most */

/* Steps that each make more of a text, one behind another, could make of a few bytes what fills the
 * memory: a kind's steps may hand on so much, all in all. */
#define STEPS_MOST(bytes) ((size_t)(STEPS * 8) * (bytes) + 65536)
enum status steps_too_much(const char *what, size_t bytes);

enum normalizer_kind {
    NORMALIZE_UNICODE,
    NORMALIZE_PREPEND,
    NORMALIZE_REPLACE,
    NORMALIZE_LOWERCASE,
    NORMALIZE_STRIP
};
struct normalizer {
    enum normalizer_kind kind;
    int form;                /* UNICODE: utf8proc's options */
    struct pattern *pattern; /* REPLACE: by `content` */
    struct text content;     /* REPLACE, PREPEND */
    bool left, right;        /* STRIP */
};
struct normalizers {
    struct normalizer list[STEPS];
    int count;
    struct text buffers[2];
    struct spans spans;
};
/* *out and *out_bytes: the normalized text, good until the next call; it may be `text` itself.
 * Well-formed text stays well-formed. */
enum status normalizers_run(struct normalizers *normalizers, const char *text, size_t bytes,
                            const char **out, size_t *out_bytes);
void normalizers_free(struct normalizers *normalizers);

enum prepend { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS };
enum splitter_kind { SPLIT_PATTERN, SPLIT_BYTE_LEVEL, SPLIT_METASPACE };
struct splitter {
    enum splitter_kind kind;
    struct pattern *pattern; /* PATTERN; BYTE_LEVEL where it splits; METASPACE: its character */
    enum behavior behavior;
    bool invert;
    enum prepend prepend; /* METASPACE its character, BYTE_LEVEL a space */
    bool whole;           /* METASPACE: does not split */
    struct text content;  /* METASPACE: its character */
    struct spans spans;
    struct text changed, bytes; /* the text before, and each piece after, the split */
};
struct splitters {
    struct splitter list[STEPS];
    int count;
    size_t left, bytes; /* of what may be handed on, of the text being cut */
};
/* Calls word(context, ...) for each word of the text, in order. `first`: the text is the very
 * beginning of the input. */
struct word_sink {
    enum status (*word)(void *context, const char *word, size_t bytes);
    void *context;
};
enum status splitters_run(struct splitters *splitters, const char *text, size_t bytes, bool first,
                          struct word_sink sink);
void splitters_free(struct splitters *splitters);

/* The printable character that stands for a byte at byte level (GPT-2), and back; -1: none. */
uint32_t byte_level_char(unsigned char byte);
int byte_level_byte(uint32_t code);

#endif
