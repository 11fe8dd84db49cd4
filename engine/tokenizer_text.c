#include "engine/tokenizer_text.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

enum status text_add(struct text *text, const void *bytes, size_t count) {
    if (text->room - text->size < count) {
        size_t room = text->room * 2 > text->size + count ? text->room * 2 : text->size + count;
        if (room < 64) room = 64;
        char *data = realloc(text->data, room);
        if (!data) return fail(STATUS_SYSTEM, "out of memory");
        text->data = data, text->room = room;
    }
    if (count) memcpy(text->data + text->size, bytes, count);
    text->size += count;
    return STATUS_OK;
}

enum status text_add_repaired(struct text *text, const char *bytes, size_t count) {
    size_t good = 0, length; /* where the well-formed run not yet added starts */
    for (size_t at = 0; at < count; at += length) {
        if (utf8_head(bytes + at, count - at, &length) == UTF8_GOOD) continue;
        TRY(text_add(text, bytes + good, at - good));
        TRY(text_add(text, replacement, 3));
        good = at + length;
    }
    return text_add(text, bytes + good, count - good);
}

void text_free(struct text *text) {
    free(text->data);
    *text = (struct text){0};
}

enum status ids_add(struct ids *ids, int32_t id) {
    if (ids->count == ids->room) {
        size_t room = ids->room ? ids->room * 2 : 64;
        int32_t *at = realloc(ids->at, room * sizeof *at);
        if (!at) return fail(STATUS_SYSTEM, "out of memory");
        ids->at = at, ids->room = room;
    }
    ids->at[ids->count++] = id;
    return STATUS_OK;
}

/* Table 3-7 of the Unicode standard: what may follow a first byte. */
enum utf8 utf8_head(const char *bytes, size_t count, size_t *length) {
    const unsigned char *s = (const unsigned char *)bytes;
    unsigned char low = 0x80, high = 0xbf;
    size_t whole = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    *length = 1;
    if (whole == 1) return UTF8_GOOD;
    if (s[0] < 0xc2 || s[0] > 0xf4) return UTF8_BAD;
    if (s[0] == 0xe0) low = 0xa0;
    if (s[0] == 0xed) high = 0x9f;
    if (s[0] == 0xf0) low = 0x90;
    if (s[0] == 0xf4) high = 0x8f;
    for (; *length < whole && *length < count; ++*length, low = 0x80, high = 0xbf)
        if (s[*length] < low || s[*length] > high) return UTF8_BAD;
    return *length == whole ? UTF8_GOOD : UTF8_CUT;
}

size_t utf8_get(const char *bytes, uint32_t *code) {
    const unsigned char *s = (const unsigned char *)bytes;
    size_t length = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    *code = length == 1 ? s[0] : s[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) *code = *code << 6 | (s[i] & 0x3fu);
    return length;
}

size_t utf8_put(uint32_t code, char out[4]) {
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)code, (utf8proc_uint8_t *)out);
}

bool utf8_is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

bool utf8_is_word(uint32_t c) {
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default: /* the joiners, and the circled and squared letters, which are symbols */
        return c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9) ||
               (c >= 0x1f130 && c <= 0x1f149) || (c >= 0x1f150 && c <= 0x1f169) ||
               (c >= 0x1f170 && c <= 0x1f189);
    }
}

uint32_t utf8_before(const char *text, size_t at, size_t *start) {
    uint32_t code;
    *start = at - 1;
    while (*start > 0 && (text[*start] & 0xc0) == 0x80) --*start;
    utf8_get(text + *start, &code);
    return code;
}
