#include "engine/tokenizer_bpe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "engine/tokenizer_merge.h"
#include "runtime/json_text.h"

enum { CACHE_WORDS = 1 << 14, CACHE_BYTES = 30, CACHE_IDS = 20, BYTES = 256 };

struct token {
    uint32_t start, bytes; /* within strings; bytes 0 and start 0: no token has this id */
};
struct cached {
    uint64_t hash;
    uint8_t bytes, count; /* bytes 0: empty */
    char word[CACHE_BYTES];
    int32_t ids[CACHE_IDS];
};

struct bpe {
    struct text strings;
    struct token *tokens; /* by id */
    int32_t size;
    int32_t *slots; /* ids by hash, -1 where empty */
    size_t slot_mask;
    struct merges *merges;
    int32_t byte_id[BYTES]; /* of <0x00> to <0xFF> */
    bool byte_fallback, ignore_merges, fuse_unk, has_unk;
    int32_t unk; /* -1: named, but not in the vocabulary */
    struct cached *cache;
};

/* --- vocabulary ------------------------------------------------------------------------------- */

int32_t bpe_size(const struct bpe *bpe) { return bpe->size; }

const char *bpe_token(const struct bpe *bpe, int32_t id, size_t *bytes) {
    *bytes = 0;
    if (id < 0 || id >= bpe->size || !bpe->tokens[id].start) return NULL;
    *bytes = bpe->tokens[id].bytes;
    return bpe->strings.data + bpe->tokens[id].start;
}

static int32_t *slot_of(const struct bpe *bpe, const char *token, size_t bytes) {
    size_t at = XXH3_64bits(token, bytes) & bpe->slot_mask;
    for (;; at = (at + 1) & bpe->slot_mask) {
        if (bpe->slots[at] < 0) return &bpe->slots[at];
        const struct token *there = &bpe->tokens[bpe->slots[at]];
        if (there->bytes == bytes && !memcmp(bpe->strings.data + there->start, token, bytes))
            return &bpe->slots[at];
    }
}

int32_t bpe_id(const struct bpe *bpe, const char *token, size_t bytes) {
    return *slot_of(bpe, token, bytes);
}

static enum status add_token(struct bpe *bpe, const char *token, json_int_t id) {
    size_t bytes = strlen(token);
    struct token *there = &bpe->tokens[id];
    if (there->start)
        return fail(STATUS_FORMAT, "model.vocab: '%.80s' and '%.*s' have the same id %d", token,
                    (int)(there->bytes < 80 ? there->bytes : 80), bpe->strings.data + there->start,
                    (int)id);
    if (bpe->strings.size + bytes > UINT32_MAX / 2)
        return fail(STATUS_FORMAT, "model.vocab: more than 2 GiB of tokens");
    *there = (struct token){(uint32_t)bpe->strings.size, (uint32_t)bytes};
    TRY(text_add(&bpe->strings, token, bytes));
    *slot_of(bpe, token, bytes) = (int32_t)id;
    return STATUS_OK;
}

static enum status read_vocabulary(const json_t *model, struct bpe *bpe) {
    json_t *vocabulary = json_object_get(model, "vocab"), *value;
    const char *token;
    size_t slots = 16;
    if (!json_is_object(vocabulary) || !json_object_size(vocabulary))
        return fail(STATUS_FORMAT, "model.vocab: an object of tokens and ids was expected");
    json_object_foreach(vocabulary, token, value) {
        json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < 0 || id >= BPE_MOST_IDS)
            return fail(STATUS_FORMAT, "model.vocab: '%.80s': an id from 0 to %d was expected",
                        token, BPE_MOST_IDS - 1);
        if (id >= bpe->size) bpe->size = (int32_t)id + 1;
    }
    while (slots < 2 * json_object_size(vocabulary)) slots *= 2;
    bpe->slot_mask = slots - 1;
    bpe->tokens = calloc((size_t)bpe->size, sizeof *bpe->tokens);
    bpe->slots = malloc(slots * sizeof *bpe->slots);
    if (!bpe->tokens || !bpe->slots) return fail(STATUS_SYSTEM, "out of memory");
    memset(bpe->slots, -1, slots * sizeof *bpe->slots);
    TRY(text_add(&bpe->strings, "", 1)); /* so that no token starts at 0 */
    json_object_foreach(vocabulary, token, value)
        TRY(add_token(bpe, token, json_integer_value(value)));
    for (int i = 0; i < BYTES; i++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", i);
        bpe->byte_id[i] = bpe_id(bpe, name, 6);
    }
    return STATUS_OK;
}

/* --- merges ----------------------------------------------------------------------------------- */

/* The two halves of a merge as written: "a b", or ["a", "b"]. */
static bool halves(const json_t *merge, const char *half[2], size_t bytes[2]) {
    const char *text = json_string_value(merge);
    if (!text) {
        for (size_t i = 0; i < 2; i++) {
            half[i] = json_string_value(json_array_get(merge, i));
            if (!half[i]) return false;
            bytes[i] = strlen(half[i]);
        }
        return json_array_size(merge) == 2;
    }
    const char *space = strchr(text, ' ');
    if (!space || strchr(space + 1, ' ')) return false;
    half[0] = text, bytes[0] = (size_t)(space - text);
    half[1] = space + 1, bytes[1] = strlen(space + 1);
    return true;
}

static enum status read_merge(struct bpe *bpe, const json_t *merge, size_t index, int32_t rank) {
    const char *half[2];
    size_t bytes[2];
    struct text joined = {0};
    int32_t ids[3];
    if (!halves(merge, half, bytes))
        return fail(STATUS_FORMAT, "model.merges[%zu]: two tokens were expected", index);
    for (int i = 0; i < 2; i++) ids[i] = bpe_id(bpe, half[i], bytes[i]);
    enum status status = text_add(&joined, half[0], bytes[0]);
    if (!status) status = text_add(&joined, half[1], bytes[1]);
    ids[2] = status || !joined.size ? -1 : bpe_id(bpe, joined.data, joined.size);
    text_free(&joined);
    TRY(status);
    if (ids[0] < 0 || ids[1] < 0 || ids[2] < 0)
        return fail(STATUS_FORMAT,
                    "model.merges[%zu]: '%.*s' and '%.*s': %s is not in the vocabulary", index,
                    (int)(bytes[0] < 80 ? bytes[0] : 80), half[0],
                    (int)(bytes[1] < 80 ? bytes[1] : 80), half[1],
                    ids[0] < 0   ? "the first"
                    : ids[1] < 0 ? "the second"
                                 : "what they make");
    merges_put(bpe->merges, ids[0], ids[1], rank, ids[2]);
    return STATUS_OK;
}

static enum status read_merges(const json_t *model, struct bpe *bpe) {
    const json_t *merges = json_object_get(model, "merges"), *merge;
    size_t i;
    int32_t rank = 0;
    if (!json_is_array(merges) || json_array_size(merges) > BPE_MOST_IDS)
        return fail(STATUS_FORMAT, "model.merges: a list of pairs was expected");
    TRY(merges_new(json_array_size(merges), &bpe->merges));
    json_array_foreach(merges, i, merge) {
        const char *text = json_string_value(merge);
        if (text && !strncmp(text, "#version", 8)) continue; /* the first line of a merges.txt */
        TRY(read_merge(bpe, merge, i, rank++));
    }
    return STATUS_OK;
}

/* --- the rest of the model -------------------------------------------------------------------- */

static enum status model_flag(const json_t *model, const char *key, bool *out) {
    const json_t *value = json_object_get(model, key);
    *out = json_is_true(value);
    return !value || json_is_null(value) || json_is_boolean(value)
               ? STATUS_OK
               : fail(STATUS_FORMAT, "model.%s: true or false was expected", key);
}

static enum status read_options(const json_t *model, struct bpe *bpe) {
    static const char *const refused[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const json_t *dropout = json_object_get(model, "dropout");
    const json_t *unk = json_object_get(model, "unk_token");
    for (int i = 0; i < 2; i++)
        if (*json_text(model, refused[i]))
            return fail(STATUS_FORMAT, "model.%s '%.40s' is not supported", refused[i],
                        json_text(model, refused[i]));
    if (dropout && json_number_value(dropout) != 0)
        return fail(STATUS_FORMAT, "model.dropout is not supported: encoding would be random");
    TRY(model_flag(model, "byte_fallback", &bpe->byte_fallback));
    TRY(model_flag(model, "ignore_merges", &bpe->ignore_merges));
    TRY(model_flag(model, "fuse_unk", &bpe->fuse_unk));
    bpe->has_unk = json_is_string(unk);
    if (bpe->has_unk) bpe->unk = bpe_id(bpe, json_string_value(unk), json_string_length(unk));
    return STATUS_OK;
}

enum status bpe_read(const json_t *model, struct bpe **out) {
    const char *type = json_text(model, "type");
    *out = NULL;
    if (!json_is_object(model)) return fail(STATUS_FORMAT, "no object \"model\" was found");
    if (*type && strcmp(type, "BPE")) /* files of old have no type */
        return fail(STATUS_FORMAT, "model '%.40s' is not supported; BPE was expected", type);
    struct bpe *bpe = calloc(1, sizeof *bpe);
    if (!bpe) return fail(STATUS_SYSTEM, "out of memory");
    bpe->cache = calloc(CACHE_WORDS, sizeof *bpe->cache);
    enum status status = bpe->cache ? STATUS_OK : fail(STATUS_SYSTEM, "out of memory");
    if (!status) status = read_vocabulary(model, bpe);
    if (!status) status = read_merges(model, bpe);
    if (!status) status = read_options(model, bpe);
    if (status)
        bpe_free(bpe);
    else
        *out = bpe;
    return status;
}

void bpe_free(struct bpe *bpe) {
    if (!bpe) return;
    text_free(&bpe->strings);
    merges_free(bpe->merges);
    free(bpe->tokens), free(bpe->slots), free(bpe->cache);
    free(bpe);
}

/* --- words ------------------------------------------------------------------------------------ */

static bool has_bytes(const struct bpe *bpe, const char *s, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (bpe->byte_id[(unsigned char)s[i]] < 0) return false;
    return bpe->byte_fallback;
}

/* A pending unk_token is put before the next known character, but behind bytes of a fallback: so
 * HuggingFace has it. */
static enum status first_symbols(struct bpe *bpe, const char *word, size_t bytes) {
    bool pending = false;
    for (size_t at = 0, length; at < bytes; at += length) {
        uint32_t code;
        length = utf8_get(word + at, &code);
        int32_t id = bpe_id(bpe, word + at, length);
        if (id >= 0) {
            if (pending) TRY(merges_symbol(bpe->merges, bpe->unk));
            pending = false;
            TRY(merges_symbol(bpe->merges, id));
        } else if (has_bytes(bpe, word + at, length)) {
            for (size_t i = 0; i < length; i++)
                TRY(merges_symbol(bpe->merges, bpe->byte_id[(unsigned char)word[at + i]]));
        } else if (bpe->has_unk) {
            if (bpe->unk < 0)
                return fail(STATUS_FORMAT, "unk_token is needed, but not in the vocabulary");
            if (pending && !bpe->fuse_unk) TRY(merges_symbol(bpe->merges, bpe->unk));
            pending = true;
        }
    }
    return pending ? merges_symbol(bpe->merges, bpe->unk) : STATUS_OK;
}

static enum status split_word(struct bpe *bpe, const char *word, size_t bytes, struct ids *out) {
    merges_begin(bpe->merges);
    TRY(first_symbols(bpe, word, bytes));
    return merges_end(bpe->merges, out);
}

enum status bpe_word(struct bpe *bpe, const char *word, size_t bytes, struct ids *out) {
    if (bpe->ignore_merges) {
        int32_t id = bpe_id(bpe, word, bytes);
        if (id >= 0) return ids_add(out, id);
    }
    if (bytes > CACHE_BYTES || !bytes) return split_word(bpe, word, bytes, out);
    uint64_t hash = XXH3_64bits(word, bytes);
    struct cached *cached = &bpe->cache[hash % CACHE_WORDS];
    if (cached->hash == hash && cached->bytes == bytes && !memcmp(cached->word, word, bytes)) {
        for (int i = 0; i < cached->count; i++) TRY(ids_add(out, cached->ids[i]));
        return STATUS_OK;
    }
    size_t before = out->count;
    TRY(split_word(bpe, word, bytes, out));
    size_t count = out->count - before;
    if (count > CACHE_IDS) return STATUS_OK;
    *cached = (struct cached){.hash = hash, .bytes = (uint8_t)bytes, .count = (uint8_t)count};
    memcpy(cached->word, word, bytes);
    if (count) memcpy(cached->ids, out->at + before, count * sizeof *out->at);
    return STATUS_OK;
}
