#include <string.h>

#include "engine/tokenizer_steps.h"

enum status steps_too_much(const char *what, size_t bytes) {
    return fail(STATUS_FORMAT, "tokenizer.json: %s: its steps make over %zu bytes of %zu", what,
                STEPS_MOST(bytes), bytes);
}

static bool is_printable(uint32_t c) {
    return (c >= '!' && c <= '~') || (c >= 0xa1 && c <= 0xac) || (c >= 0xae && c <= 0xff);
}

/* The bytes without a printable character of their own, counted from 256 on: 0-32, 127-160, 173. */
uint32_t byte_level_char(unsigned char byte) {
    if (is_printable(byte)) return byte;
    return 256u + (byte <= 32 ? byte : byte <= 160 ? 33u + byte - 127 : 67u);
}

int byte_level_byte(uint32_t code) {
    if (code < 256) return is_printable(code) ? (int)code : -1;
    if (code <= 256 + 32) return (int)code - 256;
    if (code <= 256 + 66) return (int)code - 256 - 33 + 127;
    return code == 256 + 67 ? 173 : -1;
}

static enum status spell_bytes(const char *piece, size_t bytes, struct text *out) {
    char spelt[512];
    size_t size = 0;
    out->size = 0;
    for (size_t i = 0; i < bytes; i++) {
        size += utf8_put(byte_level_char((unsigned char)piece[i]), spelt + size);
        if (size + 4 < sizeof spelt && i + 1 < bytes) continue;
        TRY(text_add(out, spelt, size));
        size = 0;
    }
    return STATUS_OK;
}

static bool starts_with(const char *text, size_t bytes, const struct text *start) {
    return bytes >= start->size && !memcmp(text, start->data, start->size);
}

/* The text that the splitter cuts: with its prefix and, for Metaspace, its character for spaces. */
static enum status change(struct splitter *s, bool first, const char **text, size_t *bytes) {
    const char *from = *text, *end = *text + *bytes;
    bool may = s->prepend == PREPEND_ALWAYS || (s->prepend == PREPEND_FIRST && first);
    bool space = s->kind == SPLIT_METASPACE && *from == ' ';
    bool prepend = may && !space && !starts_with(from, *bytes, &s->content);
    if (s->kind == SPLIT_PATTERN || (s->kind == SPLIT_BYTE_LEVEL && !prepend)) return STATUS_OK;
    s->changed.size = 0;
    if (prepend) TRY(text_add(&s->changed, s->content.data, s->content.size));
    while (from < end) {
        const char *at =
            s->kind == SPLIT_METASPACE ? memchr(from, ' ', (size_t)(end - from)) : NULL;
        TRY(text_add(&s->changed, from, (size_t)((at ? at : end) - from)));
        if (at) TRY(text_add(&s->changed, s->content.data, s->content.size));
        from = at ? at + 1 : end;
    }
    *text = s->changed.data, *bytes = s->changed.size;
    return STATUS_OK;
}

/* Cuts text at list[stage] and gives each piece to the next stage; after the last, to the sink. */
static enum status run_stage(struct splitters *all, int stage, const char *text, size_t bytes,
                             bool first, const struct word_sink *sink) {
    if (!bytes) return STATUS_OK;
    if (bytes > all->left) return steps_too_much("pre_tokenizer", all->bytes);
    all->left -= bytes;
    if (stage == all->count) return sink->word(sink->context, text, bytes);
    struct splitter *s = &all->list[stage];
    TRY(change(s, first, &text, &bytes));
    if (!s->pattern || s->whole) {
        if (s->kind == SPLIT_BYTE_LEVEL) {
            TRY(spell_bytes(text, bytes, &s->bytes));
            text = s->bytes.data, bytes = s->bytes.size;
        }
        return run_stage(all, stage + 1, text, bytes, first, sink);
    }
    TRY(pattern_find(s->pattern, text, bytes, &s->spans));
    spans_apply(&s->spans, s->behavior, s->invert);
    for (size_t i = 0; i < s->spans.count; i++) {
        struct span span = s->spans.at[i];
        const char *piece = text + span.start;
        size_t length = span.end - span.start;
        if (s->kind == SPLIT_BYTE_LEVEL) {
            TRY(spell_bytes(piece, length, &s->bytes));
            piece = s->bytes.data, length = s->bytes.size;
        }
        TRY(run_stage(all, stage + 1, piece, length, first && span.start == 0, sink));
    }
    return STATUS_OK;
}

enum status splitters_run(struct splitters *splitters, const char *text, size_t bytes, bool first,
                          struct word_sink sink) {
    splitters->left = STEPS_MOST(bytes), splitters->bytes = bytes;
    return run_stage(splitters, 0, text, bytes, first, &sink);
}

void splitters_free(struct splitters *splitters) {
    for (int i = 0; i < splitters->count; i++) {
        struct splitter *s = &splitters->list[i];
        pattern_free(s->pattern);
        text_free(&s->content), text_free(&s->changed), text_free(&s->bytes);
        spans_free(&s->spans);
    }
}
