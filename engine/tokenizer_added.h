/* tokenizer_added.h - added tokens: those that are found in the text before anything else. */
#ifndef FASTINFER_TOKENIZER_ADDED_H
#define FASTINFER_TOKENIZER_ADDED_H

#include "engine/tokenizer_text.h"

struct added_token {
    struct text content;  /* as in the file */
    struct text searched; /* what is looked for: the content, or it normalized */
    int32_t id;
    bool special, single_word, lstrip, rstrip, normalized;
};

/* Some of the tokens, sorted for finding. */
struct added_set {
    const struct added_token **sorted;
    size_t count;
    bool first[256]; /* is there a token that starts with this byte? */
};
/* The tokens of `list` whose `normalized` is this; they must outlive the set. Of two that are
 * looked for by the same text the first counts. */
enum status added_set_new(const struct added_token *list, size_t count, bool normalized,
                          struct added_set *out);
void added_set_free(struct added_set *set);

/* A stretch of text that is one added token, or (id -1) none. */
struct section {
    size_t start, end;
    int32_t id;
};
struct sections {
    struct section *at;
    size_t count, room;
};
/* Cuts well-formed text at its added tokens: the leftmost, of these the longest. single_word,
 * lstrip and rstrip as HuggingFace has them. Sections without a token are never empty. */
enum status added_split(const struct added_set *set, const char *text, size_t bytes,
                        struct sections *out);

#endif
