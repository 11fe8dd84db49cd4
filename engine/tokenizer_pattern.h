/* tokenizer_pattern.h - the regular expressions and literals of a tokenizer.json, found in text.
 *
 * HuggingFace's tokenizers search with Oniguruma; here PCRE2 does. A pattern is rewritten where the
 * two read the same words differently (white space, word characters, scripts), and refused where
 * they cannot be made to agree (nested classes, modes other than (?i), back-references, ...).
 */
#ifndef FASTINFER_TOKENIZER_PATTERN_H
#define FASTINFER_TOKENIZER_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/status.h"

struct pattern;
enum status pattern_regex(const char *regex, size_t bytes, struct pattern **out);
enum status pattern_literal(const char *literal, size_t bytes, struct pattern **out);
void pattern_free(struct pattern *pattern);

struct span {
    size_t start, end;
    bool match;
};
struct spans {
    struct span *at;
    size_t count, room;
};
void spans_free(struct spans *spans);

/* Cuts well-formed text into matches and what is between them, in order and without gaps; an empty
 * match is a span too. STATUS_FORMAT where the regular expression takes too many steps. */
enum status pattern_find(const struct pattern *pattern, const char *text, size_t bytes,
                         struct spans *out);

/* What HuggingFace calls the behaviour of a delimiter. */
enum behavior {
    BEHAVIOR_REMOVED,
    BEHAVIOR_ISOLATED,
    BEHAVIOR_MERGED_WITH_PREVIOUS,
    BEHAVIOR_MERGED_WITH_NEXT,
    BEHAVIOR_CONTIGUOUS
};
/* Turns what pattern_find() found into the pieces that are kept, in place; `invert` swaps matches
 * and the rest first. Empty pieces are dropped. */
void spans_apply(struct spans *spans, enum behavior behavior, bool invert);

#endif
