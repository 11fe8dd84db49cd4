#include "engine/tokenizer_added.h"

#include <stdlib.h>
#include <string.h>

static int by_text(const void *a, const void *b) {
    const struct added_token *x = *(const struct added_token *const *)a;
    const struct added_token *y = *(const struct added_token *const *)b;
    size_t least = x->searched.size < y->searched.size ? x->searched.size : y->searched.size;
    int order = least ? memcmp(x->searched.data, y->searched.data, least) : 0;
    if (order) return order;
    if (x->searched.size != y->searched.size) return x->searched.size < y->searched.size ? -1 : 1;
    return x < y ? -1 : x > y; /* as in the file; specials were put first */
}

static bool same_text(const struct added_token *a, const struct added_token *b) {
    return a->searched.size == b->searched.size &&
           !memcmp(a->searched.data, b->searched.data, a->searched.size);
}

enum status added_set_new(const struct added_token *list, size_t count, bool normalized,
                          struct added_set *out) {
    size_t kept = 0;
    *out = (struct added_set){.sorted = calloc(count + 1, sizeof *out->sorted)};
    if (!out->sorted) return fail(STATUS_SYSTEM, "out of memory");
    for (size_t i = 0; i < count; i++)
        if (list[i].normalized == normalized) out->sorted[out->count++] = &list[i];
    if (out->count) qsort(out->sorted, out->count, sizeof *out->sorted, by_text);
    for (size_t i = 0; i < out->count; i++)
        if (!kept || !same_text(out->sorted[kept - 1], out->sorted[i]))
            out->sorted[kept++] = out->sorted[i];
    out->count = kept;
    for (size_t i = 0; i < kept; i++)
        out->first[(unsigned char)out->sorted[i]->searched.data[0]] = true;
    return STATUS_OK;
}

void added_set_free(struct added_set *set) {
    free(set->sorted);
    *set = (struct added_set){0};
}

/* The first of sorted[low..high) whose byte at `depth` is at least `byte`; all share what is before
 * it, and have it. */
static size_t at_least(const struct added_set *set, size_t low, size_t high, size_t depth,
                       unsigned byte) {
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if ((unsigned char)set->sorted[middle]->searched.data[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest token that text starts with. */
static const struct added_token *longest(const struct added_set *set, const char *text,
                                         size_t bytes) {
    const struct added_token *best = NULL;
    size_t low = 0, high = set->count;
    for (size_t depth = 0;; depth++) {
        if (low < high && set->sorted[low]->searched.size == depth) best = set->sorted[low++];
        if (low >= high || depth >= bytes) return best;
        unsigned byte = (unsigned char)text[depth];
        low = at_least(set, low, high, depth, byte);
        high = at_least(set, low, high, depth, byte + 1);
    }
}

static enum status add(struct sections *out, size_t start, size_t end, int32_t id) {
    if (out->count == out->room) {
        size_t room = out->room ? out->room * 2 : 16;
        struct section *at = realloc(out->at, room * sizeof *at);
        if (!at) return fail(STATUS_SYSTEM, "out of memory");
        out->at = at, out->room = room;
    }
    out->at[out->count++] = (struct section){start, end, id};
    return STATUS_OK;
}

static bool stands_alone(const char *text, size_t bytes, size_t start, size_t end) {
    uint32_t code;
    size_t before;
    if (start > 0 && utf8_is_word(utf8_before(text, start, &before))) return false;
    if (end == bytes) return true;
    utf8_get(text + end, &code);
    return !utf8_is_word(code);
}

static size_t spaces_before(const char *text, size_t at) {
    size_t start;
    while (at > 0 && utf8_is_space(utf8_before(text, at, &start))) at = start;
    return at;
}

static size_t spaces_after(const char *text, size_t bytes, size_t at) {
    uint32_t code;
    while (at < bytes) {
        size_t length = utf8_get(text + at, &code);
        if (!utf8_is_space(code)) break;
        at += length;
    }
    return at;
}

enum status added_split(const struct added_set *set, const char *text, size_t bytes,
                        struct sections *out) {
    size_t done = 0; /* up to where there are sections; rstrip may take it past the search */
    out->count = 0;
    for (size_t at = 0; set->count && at < bytes;) {
        const struct added_token *token = NULL;
        if (set->first[(unsigned char)text[at]]) token = longest(set, text + at, bytes - at);
        if (!token) {
            at++;
            continue;
        }
        size_t start = at, end = at + token->searched.size;
        at = end;
        if (token->single_word && !stands_alone(text, bytes, start, end)) continue;
        if (token->lstrip) start = spaces_before(text, start);
        if (token->lstrip && start < done) start = done;
        if (token->rstrip) end = spaces_after(text, bytes, end);
        if (done < start) TRY(add(out, done, start, -1));
        TRY(add(out, start, end, token->id));
        done = end;
    }
    return done < bytes ? add(out, done, bytes, -1) : STATUS_OK;
}
