#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/tokenizer_pattern.h"

#include <pcre2.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/tokenizer_regex.h"

struct pattern {
    char *literal; /* or a regular expression: */
    size_t literal_bytes;
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

static enum status compile(const char *regex, size_t bytes, struct pattern *pattern) {
    int error;
    PCRE2_SIZE where;
    PCRE2_UCHAR words[160];
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return fail(STATUS_SYSTEM, "out of memory");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(context, 100);
    pattern->code = pcre2_compile((PCRE2_SPTR)regex, bytes,
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                                  &error, &where, context);
    pcre2_compile_context_free(context);
    if (!pattern->code) {
        pcre2_get_error_message(error, words, sizeof words);
        return fail(STATUS_FORMAT, "the regular expression '%.*s' is not taken by PCRE2: %s",
                    (int)(bytes < 300 ? bytes : 300), regex, (char *)words);
    }
    pattern->match = pcre2_match_data_create_from_pattern(pattern->code, NULL);
    pattern->context = pcre2_match_context_create(NULL);
    if (!pattern->match || !pattern->context) return fail(STATUS_SYSTEM, "out of memory");
    /* machine code where PCRE2 can make it, on a stack that a long run of spaces does not fill */
    if (!pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE)) {
        pattern->stack = pcre2_jit_stack_create(32 << 10, 64 << 20, NULL);
        if (pattern->stack) pcre2_jit_stack_assign(pattern->context, NULL, pattern->stack);
    }
    return STATUS_OK;
}

enum status pattern_regex(const char *regex, size_t bytes, struct pattern **out) {
    struct text rewritten = {0};
    *out = calloc(1, sizeof **out);
    if (!*out) return fail(STATUS_SYSTEM, "out of memory");
    enum status status = regex_rewrite(regex, bytes, &rewritten);
    if (!status) status = compile(rewritten.data ? rewritten.data : "", rewritten.size, *out);
    text_free(&rewritten);
    if (status) {
        pattern_free(*out);
        *out = NULL;
    }
    return status;
}

enum status pattern_literal(const char *literal, size_t bytes, struct pattern **out) {
    *out = NULL;
    if (!bytes) return fail(STATUS_FORMAT, "an empty pattern; at least one character was expected");
    *out = calloc(1, sizeof **out);
    char *copy = malloc(bytes);
    if (!*out || !copy) {
        free(*out), free(copy);
        *out = NULL;
        return fail(STATUS_SYSTEM, "out of memory");
    }
    memcpy(copy, literal, bytes);
    (*out)->literal = copy, (*out)->literal_bytes = bytes;
    return STATUS_OK;
}

void pattern_free(struct pattern *pattern) {
    if (!pattern) return;
    free(pattern->literal);
    pcre2_code_free(pattern->code);
    pcre2_match_data_free(pattern->match);
    pcre2_match_context_free(pattern->context);
    if (pattern->stack) pcre2_jit_stack_free(pattern->stack);
    free(pattern);
}

void spans_free(struct spans *spans) {
    free(spans->at);
    *spans = (struct spans){0};
}

static enum status spans_add(struct spans *spans, size_t start, size_t end, bool match) {
    if (spans->count == spans->room) {
        size_t room = spans->room ? spans->room * 2 : 32;
        struct span *at = realloc(spans->at, room * sizeof *at);
        if (!at) return fail(STATUS_SYSTEM, "out of memory");
        spans->at = at, spans->room = room;
    }
    spans->at[spans->count++] = (struct span){start, end, match};
    return STATUS_OK;
}

/* The next match from `from` on; *found false where there is none. */
static enum status next(const struct pattern *pattern, const char *text, size_t bytes, size_t from,
                        bool *found, struct span *out) {
    *found = false;
    if (pattern->literal) {
        const char *at =
            memmem(text + from, bytes - from, pattern->literal, pattern->literal_bytes);
        *found = at != NULL;
        if (at) out->start = (size_t)(at - text), out->end = out->start + pattern->literal_bytes;
        return STATUS_OK;
    }
    int got = pcre2_match(pattern->code, (PCRE2_SPTR)text, bytes, from, PCRE2_NO_UTF_CHECK,
                          pattern->match, pattern->context);
    if (got == PCRE2_ERROR_NOMATCH) return STATUS_OK;
    if (got < 0) {
        PCRE2_UCHAR words[120];
        pcre2_get_error_message(got, words, sizeof words);
        return fail(STATUS_FORMAT, "a regular expression of the tokenizer gave up at byte %zu: %s",
                    from, (char *)words);
    }
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(pattern->match);
    *found = true;
    out->start = at[0] < from ? from : at[0], out->end = at[1] < out->start ? out->start : at[1];
    return STATUS_OK;
}

enum status pattern_find(const struct pattern *pattern, const char *text, size_t bytes,
                         struct spans *out) {
    size_t covered = 0, from = 0, last = SIZE_MAX; /* `last`: where the last match ended */
    struct span span;
    bool found;
    out->count = 0;
    if (pattern->context) /* backtracking over a long run of spaces counts each */
        pcre2_set_match_limit(pattern->context,
                              bytes < 1 << 26 ? 10000000 + 50 * (uint32_t)bytes : UINT32_MAX);
    while (from <= bytes) {
        TRY(next(pattern, text, bytes, from, &found, &span));
        if (!found) break;
        if (span.start == span.end && span.end == last) { /* empty, right behind a match: passed */
            from = span.end + 1;
            while (from < bytes && (text[from] & 0xc0) == 0x80) from++;
            continue;
        }
        if (covered != span.start) TRY(spans_add(out, covered, span.start, false));
        TRY(spans_add(out, span.start, span.end, true));
        covered = from = last = span.end;
    }
    return covered != bytes ? spans_add(out, covered, bytes, false) : STATUS_OK;
}

/* A match joins the piece before it, unless that one has a match already. */
static size_t merge_previous(struct span *at, size_t count) {
    bool previous = false;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        struct span span = at[i];
        if (span.match && !previous && kept)
            at[kept - 1].end = span.end;
        else
            at[kept++] = span;
        previous = span.match;
    }
    return kept;
}

static size_t merge_next(struct span *at, size_t count) {
    bool previous = false;
    size_t first = count;
    for (size_t i = count; i-- > 0;) {
        struct span span = at[i];
        if (span.match && !previous && first < count)
            at[first].start = span.start;
        else
            at[--first] = span;
        previous = span.match;
    }
    memmove(at, at + first, (count - first) * sizeof *at);
    return count - first;
}

static size_t merge_equal(struct span *at, size_t count) {
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (kept && at[kept - 1].match == at[i].match)
            at[kept - 1].end = at[i].end;
        else
            at[kept++] = at[i];
    return kept;
}

void spans_apply(struct spans *spans, enum behavior behavior, bool invert) {
    struct span *at = spans->at;
    size_t count = spans->count, kept = 0;
    for (size_t i = 0; i < count; i++) at[i].match ^= invert;
    if (behavior == BEHAVIOR_MERGED_WITH_PREVIOUS) count = merge_previous(at, count);
    if (behavior == BEHAVIOR_MERGED_WITH_NEXT && count) count = merge_next(at, count);
    if (behavior == BEHAVIOR_CONTIGUOUS) count = merge_equal(at, count);
    for (size_t i = 0; i < count; i++)
        if (at[i].start < at[i].end && !(behavior == BEHAVIOR_REMOVED && at[i].match))
            at[kept++] = at[i];
    spans->count = kept;
}
