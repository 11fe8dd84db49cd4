#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "engine/tokenizer_steps.h"

static enum status unicode_form(const char *text, size_t bytes, int form, struct text *out) {
    utf8proc_uint8_t *result = NULL;
    size_t at = 0;
    while (at < bytes && !(text[at] & 0x80)) at++;
    if (at == bytes) return text_add(out, text, bytes); /* ASCII is every form of itself */
    utf8proc_ssize_t size = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes,
                                         &result, (utf8proc_option_t)form);
    if (size < 0) return fail(STATUS_SYSTEM, "Unicode normalization: %s", utf8proc_errmsg(size));
    enum status status = text_add(out, result, (size_t)size);
    free(result);
    return status;
}

static enum status replace(struct normalizers *n, const struct normalizer *step, const char *text,
                           size_t bytes, struct text *out) {
    TRY(pattern_find(step->pattern, text, bytes, &n->spans));
    for (size_t i = 0; i < n->spans.count; i++) {
        struct span span = n->spans.at[i];
        if (span.match)
            TRY(text_add(out, step->content.data, step->content.size));
        else
            TRY(text_add(out, text + span.start, span.end - span.start));
    }
    return STATUS_OK;
}

static enum status lowercase(const char *text, size_t bytes, struct text *out) {
    for (size_t at = 0; at < bytes;) {
        uint32_t code;
        char small[4];
        at += utf8_get(text + at, &code);
        size_t length = utf8_put((uint32_t)utf8proc_tolower((utf8proc_int32_t)code), small);
        if (code == 0x130) /* I with a dot: the one letter whose small form is two characters */
            TRY(text_add(out, "i\xcc\x87", 3));
        else
            TRY(text_add(out, small, length));
    }
    return STATUS_OK;
}

static enum status strip(const struct normalizer *step, const char *text, size_t bytes,
                         struct text *out) {
    size_t start = 0, end = bytes, before;
    uint32_t code;
    while (step->left && start < end) {
        size_t length = utf8_get(text + start, &code);
        if (!utf8_is_space(code)) break;
        start += length;
    }
    while (step->right && start < end && utf8_is_space(utf8_before(text, end, &before)))
        end = before;
    return text_add(out, text + start, end - start);
}

static enum status run_step(struct normalizers *n, const struct normalizer *step, const char *text,
                            size_t bytes, struct text *out) {
    switch (step->kind) {
    case NORMALIZE_UNICODE:
        return unicode_form(text, bytes, step->form, out);
    case NORMALIZE_PREPEND:
        if (bytes) TRY(text_add(out, step->content.data, step->content.size));
        return text_add(out, text, bytes);
    case NORMALIZE_REPLACE:
        return replace(n, step, text, bytes, out);
    case NORMALIZE_LOWERCASE:
        return lowercase(text, bytes, out);
    case NORMALIZE_STRIP:
        return strip(step, text, bytes, out);
    }
    return STATUS_OK;
}

enum status normalizers_run(struct normalizers *normalizers, const char *text, size_t bytes,
                            const char **out, size_t *out_bytes) {
    const size_t given = bytes, most = STEPS_MOST(given);
    for (int i = 0; i < normalizers->count; i++) {
        struct text *buffer = &normalizers->buffers[i % 2];
        buffer->size = 0;
        TRY(text_add(buffer, "", 1)); /* so that there is a buffer, and the text behind this 0 */
        TRY(run_step(normalizers, &normalizers->list[i], text, bytes, buffer));
        text = buffer->data + 1, bytes = buffer->size - 1;
        if (bytes > most) return steps_too_much("normalizer", given);
    }
    *out = text, *out_bytes = bytes;
    return STATUS_OK;
}

void normalizers_free(struct normalizers *normalizers) {
    for (int i = 0; i < normalizers->count; i++) {
        pattern_free(normalizers->list[i].pattern);
        text_free(&normalizers->list[i].content);
    }
    for (int i = 0; i < 2; i++) text_free(&normalizers->buffers[i]);
    spans_free(&normalizers->spans);
}
