#include "engine/tokenizer_decode.h"

#include <stdlib.h>
#include <string.h>

static enum status pass(struct decoding *d, int stage, const char *token, size_t bytes);

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

/* --- byte level ------------------------------------------------------------------------------- */

/* Gives on all of `held` but a character that is still cut short; at the end that too. */
static enum status give_characters(struct decoding *d, int stage, bool end) {
    struct text *held = &d->at[stage].held, ready = {0};
    size_t at = 0, length;
    while (at < held->size) {
        if (utf8_head(held->data + at, held->size - at, &length) == UTF8_CUT && !end) break;
        at += length;
    }
    if (!at) return STATUS_OK;
    enum status status = text_add_repaired(&ready, held->data, at);
    if (!status) status = pass(d, stage + 1, ready.data, ready.size);
    text_free(&ready);
    held->size -= at;
    memmove(held->data, held->data + at, held->size);
    return status;
}

static enum status byte_level(struct decoding *d, int stage, const char *token, size_t bytes) {
    struct text *held = &d->at[stage].held;
    size_t before = held->size;
    for (size_t at = 0; at < bytes;) {
        uint32_t code;
        at += utf8_get(token + at, &code);
        int byte = byte_level_byte(code);
        if (byte < 0) { /* no token of byte level: as it is written */
            held->size = before;
            TRY(text_add(held, token, bytes));
            break;
        }
        char one = (char)byte;
        TRY(text_add(held, &one, 1));
    }
    return give_characters(d, stage, false);
}

/* --- byte fallback ---------------------------------------------------------------------------- */

static bool fallback_byte(const char *token, size_t bytes, char *byte) {
    char digits[3] = "", *end;
    if (bytes != 6 || memcmp(token, "<0x", 3) || token[5] != '>') return false;
    memcpy(digits, token + 3, 2);
    if (digits[0] == '-' || digits[0] == ' ') return false; /* strtol would take them */
    *byte = (char)strtol(digits, &end, 16);
    return end == digits + 2;
}

/* A run of bytes is one token if it is well-formed, else U+FFFD for each byte. */
static enum status end_run(struct decoding *d, int stage) {
    struct text *held = &d->at[stage].held;
    size_t length, count = held->size;
    bool good = true;
    if (!count) return STATUS_OK;
    for (size_t at = 0; at < count && good; at += length)
        good = utf8_head(held->data + at, count - at, &length) == UTF8_GOOD;
    held->size = 0;
    if (good) return pass(d, stage + 1, held->data, count);
    for (size_t i = 0; i < count; i++) TRY(pass(d, stage + 1, replacement, 3));
    return STATUS_OK;
}

static enum status byte_fallback(struct decoding *d, int stage, const char *token, size_t bytes) {
    char byte;
    if (fallback_byte(token, bytes, &byte)) return text_add(&d->at[stage].held, &byte, 1);
    TRY(end_run(d, stage));
    return pass(d, stage + 1, token, bytes);
}

/* --- the others ------------------------------------------------------------------------------- */

/* Characters at the start of each token, or of the whole text where all is one; those at the end
 * only of each token: fused, there are none (the reader sees to it). */
static enum status strip(struct decoding *d, int stage, const char *token, size_t bytes) {
    const struct decoder *decoder = &d->decoders->list[stage];
    const struct text *c = &decoder->content;
    if (!decoder->fused) d->at[stage].count = 0, d->at[stage].done = false;
    while (!d->at[stage].done && bytes) {
        d->at[stage].done = d->at[stage].count >= (size_t)decoder->start || bytes < c->size ||
                            memcmp(token, c->data, c->size) != 0;
        if (d->at[stage].done) break;
        d->at[stage].count++;
        token += c->size, bytes -= c->size;
    }
    for (int i = 0; i < decoder->stop && bytes >= c->size; i++) {
        if (memcmp(token + bytes - c->size, c->data, c->size)) break;
        bytes -= c->size;
    }
    return pass(d, stage + 1, token, bytes);
}

static enum status replace(struct decoding *d, int stage, const char *token, size_t bytes) {
    const struct decoder *decoder = &d->decoders->list[stage];
    bool drop = decoder->drop_first && d->at[stage].count++ == 0;
    struct text replaced = {0};
    enum status status = pattern_find(decoder->pattern, token, bytes, &d->spans);
    for (size_t i = 0; !status && i < d->spans.count; i++) {
        struct span span = d->spans.at[i];
        if (!span.match)
            status = text_add(&replaced, token + span.start, span.end - span.start);
        else if (!drop)
            status = text_add(&replaced, decoder->content.data, decoder->content.size);
    }
    if (!status) status = pass(d, stage + 1, replaced.data, replaced.size);
    text_free(&replaced);
    return status;
}

/* --- the chain -------------------------------------------------------------------------------- */

static enum status pass(struct decoding *d, int stage, const char *token, size_t bytes) {
    if (stage == d->decoders->count) return text_add(&d->out, token, bytes);
    switch (d->decoders->list[stage].kind) {
    case DECODE_SPACES:
        if (d->at[stage].count++) TRY(pass(d, stage + 1, " ", 1));
        break;
    case DECODE_BYTE_LEVEL:
        return byte_level(d, stage, token, bytes);
    case DECODE_BYTE_FALLBACK:
        return byte_fallback(d, stage, token, bytes);
    case DECODE_STRIP:
        return strip(d, stage, token, bytes);
    case DECODE_REPLACE:
    case DECODE_METASPACE:
        return replace(d, stage, token, bytes);
    case DECODE_FUSE:
        break;
    }
    return pass(d, stage + 1, token, bytes);
}

enum status decoding_token(struct decoding *decoding, const char *token, size_t bytes) {
    return pass(decoding, 0, token, bytes);
}

enum status decoding_end(struct decoding *decoding) {
    for (int i = 0; i < decoding->decoders->count; i++) {
        if (decoding->decoders->list[i].kind == DECODE_BYTE_LEVEL)
            TRY(give_characters(decoding, i, true));
        if (decoding->decoders->list[i].kind == DECODE_BYTE_FALLBACK) TRY(end_run(decoding, i));
    }
    return STATUS_OK;
}

void decoding_free(struct decoding *decoding) {
    for (int i = 0; i < STEPS; i++) text_free(&decoding->at[i].held);
    spans_free(&decoding->spans);
    text_free(&decoding->out);
}

void decoders_free(struct decoders *decoders) {
    for (int i = 0; i < decoders->count; i++) {
        pattern_free(decoders->list[i].pattern);
        text_free(&decoders->list[i].content);
    }
}
