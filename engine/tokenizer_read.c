#include "engine/tokenizer_read.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/json_text.h"

/* --- added tokens ----------------------------------------------------------------------------- */

static enum status check_id(const struct tokenizer *t, const struct added_token *token,
                            json_int_t id) {
    int shown = (int)(token->content.size < 80 ? token->content.size : 80);
    size_t bytes;
    int32_t known = bpe_id(t->bpe, token->content.data, token->content.size);
    if (id < 0 || id >= BPE_MOST_IDS)
        return fail(STATUS_FORMAT, "added token '%.*s': an id from 0 to %d was expected", shown,
                    token->content.data, BPE_MOST_IDS - 1);
    if (known >= 0 && known != id)
        return fail(STATUS_FORMAT, "added token '%.*s' has id %d, but the vocabulary has it as %d",
                    shown, token->content.data, (int)id, known);
    if (known < 0 && bpe_token(t->bpe, (int32_t)id, &bytes))
        return fail(STATUS_FORMAT,
                    "added token '%.*s' has id %d, which the vocabulary gives to another", shown,
                    token->content.data, (int)id);
    return STATUS_OK;
}

static enum status read_added_token(const json_t *json, struct tokenizer *t) {
    struct added_token *token = &t->added[t->added_count++];
    const json_t *id = json_object_get(json, "id");
    TRY(read_string(json, "added token", "content", &token->content));
    if (!token->content.size)
        return fail(STATUS_FORMAT, "added token: content: at least one character was expected");
    if (!json_is_integer(id)) return fail(STATUS_FORMAT, "added token: id: a number was expected");
    TRY(check_id(t, token, json_integer_value(id)));
    token->id = (int32_t)json_integer_value(id);
    TRY(read_flag(json, "added token", "special", &token->special));
    TRY(read_flag(json, "added token", "single_word", &token->single_word));
    TRY(read_flag(json, "added token", "lstrip", &token->lstrip));
    TRY(read_flag(json, "added token", "rstrip", &token->rstrip));
    return read_flag(json, "added token", "normalized", &token->normalized);
}

/* What the token looks like in the text where it is looked for. */
static enum status set_searched(struct tokenizer *t, struct added_token *token) {
    const char *text = token->content.data;
    size_t bytes = token->content.size;
    if (token->normalized) TRY(normalizers_run(&t->normalizers, text, bytes, &text, &bytes));
    if (!bytes)
        return fail(STATUS_FORMAT, "added token '%.*s': nothing is left of it when normalized",
                    (int)(token->content.size < 80 ? token->content.size : 80),
                    token->content.data);
    return text_add(&token->searched, text, bytes);
}

static enum status index_added(struct tokenizer *t) {
    t->size = bpe_size(t->bpe);
    for (size_t i = 0; i < t->added_count; i++)
        if (t->added[i].id >= t->size) t->size = t->added[i].id + 1;
    t->added_by_id = malloc((size_t)t->size * sizeof *t->added_by_id);
    if (!t->added_by_id) return fail(STATUS_SYSTEM, "out of memory");
    memset(t->added_by_id, -1, (size_t)t->size * sizeof *t->added_by_id);
    for (size_t i = 0; i < t->added_count; i++) {
        int32_t *at = &t->added_by_id[t->added[i].id];
        if (*at >= 0) return fail(STATUS_FORMAT, "two added tokens have the id %d", t->added[i].id);
        *at = (int32_t)i;
    }
    return STATUS_OK;
}

static enum status read_added(const json_t *list, struct tokenizer *t) {
    const json_t *json;
    size_t i;
    if (list && !json_is_null(list) && !json_is_array(list))
        return fail(STATUS_FORMAT, "added_tokens: a list was expected");
    t->added = calloc(json_array_size(list) + 1, sizeof *t->added);
    if (!t->added) return fail(STATUS_SYSTEM, "out of memory");
    for (int special = 1; special >= 0; special--)
        json_array_foreach(list, i, json) if (json_is_true(json_object_get(json, "special")) ==
                                              special) TRY(read_added_token(json, t));
    TRY(index_added(t));
    for (i = 0; i < t->added_count; i++) TRY(set_searched(t, &t->added[i]));
    TRY(added_set_new(t->added, t->added_count, false, &t->exact));
    return added_set_new(t->added, t->added_count, true, &t->normalized);
}

/* --- the template ----------------------------------------------------------------------------- */

struct template {
    struct tokenizer *tokenizer;
    bool found;
};

static enum status read_special(const json_t *specials, const char *name, struct tokenizer *t,
                                struct ids *out) {
    const json_t *ids = json_object_get(json_object_get(specials, name), "ids"), *id;
    size_t i;
    if (!json_array_size(ids))
        return fail(STATUS_FORMAT, "TemplateProcessing: no ids of '%.60s' were found", name);
    json_array_foreach(ids, i, id) {
        json_int_t value = json_integer_value(id);
        if (!json_is_integer(id) || value < 0 || value >= t->size)
            return fail(STATUS_FORMAT, "TemplateProcessing: '%.60s' has an id without a token",
                        name);
        TRY(ids_add(out, (int32_t)value));
    }
    return STATUS_OK;
}

static enum status read_template(const json_t *json, struct tokenizer *t) {
    const json_t *pieces = json_object_get(json, "single"), *piece;
    const json_t *specials = json_object_get(json, "special_tokens");
    bool behind = false; /* the text */
    size_t i;
    json_array_foreach(pieces, i, piece) {
        const json_t *special = json_object_get(piece, "SpecialToken");
        const json_t *text = json_object_get(piece, "Sequence");
        if (special) {
            TRY(read_special(specials, json_text(special, "id"), t,
                             behind ? &t->suffix : &t->prefix));
        } else {
            if (behind || strcmp(json_text(text, "id"), "A"))
                return fail(STATUS_FORMAT,
                            "TemplateProcessing: single: the text \"A\", once, was expected");
            behind = true;
        }
    }
    return behind ? STATUS_OK
                  : fail(STATUS_FORMAT, "TemplateProcessing: single: no text \"A\" was found");
}

static enum status read_processor(const json_t *json, const char *type, void *context) {
    struct template *template = context;
    if (!strcmp(type, "ByteLevel")) return STATUS_OK; /* it moves offsets, which we do not keep */
    if (strcmp(type, "TemplateProcessing"))
        return fail(STATUS_FORMAT, "post_processor '%.60s' is not supported", type);
    if (template->found)
        return fail(STATUS_FORMAT, "more than one TemplateProcessing is not supported");
    template->found = true;
    return read_template(json, template->tokenizer);
}

enum status tokenizer_read(const json_t *root, struct tokenizer *out) {
    struct template template = {.tokenizer = out};
    TRY(bpe_read(json_object_get(root, "model"), &out->bpe));
    TRY(read_normalizers(json_object_get(root, "normalizer"), &out->normalizers));
    TRY(read_splitters(json_object_get(root, "pre_tokenizer"), &out->splitters));
    TRY(read_decoders(json_object_get(root, "decoder"), &out->decoders));
    TRY(read_added(json_object_get(root, "added_tokens"), out));
    return read_each(json_object_get(root, "post_processor"), "post_processor", "processors",
                     read_processor, &template);
}
