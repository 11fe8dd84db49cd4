#include <string.h>
#include <utf8proc.h>

#include "engine/tokenizer_read.h"
#include "engine/tokenizer_regex.h"
#include "runtime/json_text.h"

/* --- members ---------------------------------------------------------------------------------- */

enum status read_flag(const json_t *json, const char *owner, const char *key, bool *value) {
    const json_t *member = json_object_get(json, key);
    if (!member || json_is_null(member)) return STATUS_OK;
    if (!json_is_boolean(member))
        return fail(STATUS_FORMAT, "%s: %s: true or false was expected", owner, key);
    *value = json_is_true(member);
    return STATUS_OK;
}

enum status read_string(const json_t *json, const char *owner, const char *key, struct text *out) {
    const json_t *member = json_object_get(json, key);
    if (!json_is_string(member))
        return fail(STATUS_FORMAT, "%s: %s: a text was expected", owner, key);
    return text_add(out, json_string_value(member), json_string_length(member));
}

enum status read_pattern(const json_t *json, const char *owner, struct pattern **out) {
    const json_t *pattern = json_object_get(json, "pattern");
    const json_t *regex = json_object_get(pattern, "Regex");
    const json_t *literal = json_is_string(pattern) ? pattern : json_object_get(pattern, "String");
    enum status status;
    if (json_is_string(regex))
        status = pattern_regex(json_string_value(regex), json_string_length(regex), out);
    else if (json_is_string(literal))
        status = pattern_literal(json_string_value(literal), json_string_length(literal), out);
    else
        status =
            fail(STATUS_FORMAT, "pattern: {\"Regex\": text} or {\"String\": text} was expected");
    return status ? fail_context(status, "%s", owner) : STATUS_OK;
}

enum status read_each(const json_t *json, const char *what, const char *key,
                      enum status (*one)(const json_t *step, const char *type, void *context),
                      void *context) {
    const json_t *list = json_object_get(json, key), *step;
    const char *type = json_text(json, "type");
    size_t i;
    if (!json || json_is_null(json)) return STATUS_OK;
    if (!*type) return fail(STATUS_FORMAT, "%s: an object with a type was expected", what);
    if (strcmp(type, "Sequence")) return one(json, type, context);
    if (!json_is_array(list))
        return fail(STATUS_FORMAT, "%s Sequence: a list \"%s\" was expected", what, key);
    json_array_foreach(list, i, step) {
        if (json_is_null(step)) return fail(STATUS_FORMAT, "%s Sequence: null in its list", what);
        TRY(read_each(step, what, key, one, context));
    }
    return STATUS_OK;
}

static enum status unsupported(const char *what, const char *type) {
    return fail(STATUS_FORMAT, "%s '%.60s' is not supported", what, type);
}

static enum status too_many(const char *what) {
    return fail(STATUS_FORMAT, "%s: more than %d of them", what, STEPS);
}

/* --- normalizers ------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    int options;
} forms[] = {
    {"NFC", UTF8PROC_STABLE | UTF8PROC_COMPOSE},
    {"NFD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
    {"NFKC", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
    {"NFKD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT},
};

static enum status read_normalizer(const json_t *json, const char *type, void *context) {
    struct normalizers *all = context;
    if (all->count == STEPS) return too_many("normalizer");
    struct normalizer *step = &all->list[all->count++];
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (!strcmp(type, forms[i].name)) {
            step->kind = NORMALIZE_UNICODE, step->form = forms[i].options;
            return STATUS_OK;
        }
    if (!strcmp(type, "Lowercase")) {
        step->kind = NORMALIZE_LOWERCASE;
        return STATUS_OK;
    }
    if (!strcmp(type, "Strip")) {
        step->kind = NORMALIZE_STRIP, step->left = step->right = true;
        TRY(read_flag(json, "normalizer Strip", "strip_left", &step->left));
        return read_flag(json, "normalizer Strip", "strip_right", &step->right);
    }
    if (!strcmp(type, "Prepend")) {
        step->kind = NORMALIZE_PREPEND;
        return read_string(json, "normalizer Prepend", "prepend", &step->content);
    }
    if (strcmp(type, "Replace")) return unsupported("normalizer", type);
    step->kind = NORMALIZE_REPLACE;
    TRY(read_pattern(json, "normalizer Replace", &step->pattern));
    return read_string(json, "normalizer Replace", "content", &step->content);
}

enum status read_normalizers(const json_t *json, struct normalizers *out) {
    return read_each(json, "normalizer", "normalizers", read_normalizer, out);
}

/* --- pre-tokenizers --------------------------------------------------------------------------- */

#define GPT2_REGEX                                                                                 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
/* what Rust's \w has and Oniguruma's has not: the joiners */
#define RUST_WORD REGEX_WORD "\\x{200c}\\x{200d}"

static enum status fixed_regex(const char *regex, struct pattern **out) {
    return pattern_regex(regex, strlen(regex), out);
}

static enum status read_byte_level(const json_t *json, struct splitter *step) {
    bool space = true, splits = true;
    step->kind = SPLIT_BYTE_LEVEL, step->behavior = BEHAVIOR_ISOLATED;
    TRY(read_flag(json, "pre_tokenizer ByteLevel", "add_prefix_space", &space));
    TRY(read_flag(json, "pre_tokenizer ByteLevel", "use_regex", &splits));
    step->prepend = space ? PREPEND_ALWAYS : PREPEND_NEVER;
    TRY(text_add(&step->content, " ", 1));
    return splits ? fixed_regex(GPT2_REGEX, &step->pattern) : STATUS_OK;
}

static enum status read_split(const json_t *json, struct splitter *step) {
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    const char *name = json_text(json, "behavior");
    size_t i = 0;
    while (i < 5 && strcmp(name, names[i])) i++;
    if (i == 5)
        return fail(STATUS_FORMAT, "pre_tokenizer Split: behavior '%.40s' is not supported", name);
    step->behavior = (enum behavior)i;
    TRY(read_flag(json, "pre_tokenizer Split", "invert", &step->invert));
    return read_pattern(json, "pre_tokenizer Split", &step->pattern);
}

/* The character and whether it is put in front, alike for the pre-tokenizer and the decoder. */
static enum status read_metaspace(const json_t *json, const char *owner, struct text *character,
                                  enum prepend *prepend) {
    static const char *const names[] = {"never", "first", "always"};
    const char *scheme = json_text(json, "prepend_scheme");
    bool space = true;
    int i = *scheme ? 0 : 2;
    TRY(read_string(json, owner, "replacement", character));
    TRY(read_flag(json, owner, "add_prefix_space", &space));
    uint32_t code;
    if (!character->size || utf8_get(character->data, &code) != character->size)
        return fail(STATUS_FORMAT, "%s: replacement: one character was expected", owner);
    while (i < 3 && *scheme && strcmp(scheme, names[i])) i++;
    if (i == 3)
        return fail(STATUS_FORMAT, "%s: prepend_scheme '%.20s' is not supported", owner, scheme);
    *prepend = space ? (enum prepend)i : PREPEND_NEVER;
    return STATUS_OK;
}

static enum status read_metaspace_splitter(const json_t *json, struct splitter *step) {
    bool splits = true;
    step->kind = SPLIT_METASPACE, step->behavior = BEHAVIOR_MERGED_WITH_NEXT;
    TRY(read_metaspace(json, "pre_tokenizer Metaspace", &step->content, &step->prepend));
    TRY(read_flag(json, "pre_tokenizer Metaspace", "split", &splits));
    step->whole = !splits;
    return pattern_literal(step->content.data, step->content.size, &step->pattern);
}

static enum status read_splitter(const json_t *json, const char *type, void *context) {
    struct splitters *all = context;
    if (all->count == STEPS) return too_many("pre_tokenizer");
    struct splitter *step = &all->list[all->count++];
    if (!strcmp(type, "ByteLevel")) return read_byte_level(json, step);
    if (!strcmp(type, "Split")) return read_split(json, step);
    if (!strcmp(type, "Metaspace")) return read_metaspace_splitter(json, step);
    if (!strcmp(type, "Digits")) {
        bool each = false;
        TRY(read_flag(json, "pre_tokenizer Digits", "individual_digits", &each));
        step->behavior = each ? BEHAVIOR_ISOLATED : BEHAVIOR_CONTIGUOUS;
        return fixed_regex("\\p{N}", &step->pattern);
    }
    if (strcmp(type, "Whitespace")) return unsupported("pre_tokenizer", type);
    step->behavior = BEHAVIOR_REMOVED, step->invert = true;
    return fixed_regex("[" RUST_WORD "]+|[^" RUST_WORD "\\s]+", &step->pattern);
}

enum status read_splitters(const json_t *json, struct splitters *out) {
    return read_each(json, "pre_tokenizer", "pretokenizers", read_splitter, out);
}

/* --- decoders --------------------------------------------------------------------------------- */

/* Behind Fuse and ByteLevel all is one token, which a stream has not seen whole: only what can be
 * done as the text comes may follow. */
static bool is_fused(const struct decoders *all) {
    for (int i = 0; i + 1 < all->count; i++)
        if (all->list[i].kind == DECODE_FUSE || all->list[i].kind == DECODE_BYTE_LEVEL) return true;
    return false;
}

static enum status read_strip(const json_t *json, struct decoder *step) {
    const json_t *start = json_object_get(json, "start"), *stop = json_object_get(json, "stop");
    uint32_t code;
    step->kind = DECODE_STRIP;
    TRY(read_string(json, "decoder Strip", "content", &step->content));
    if (!step->content.size || utf8_get(step->content.data, &code) != step->content.size)
        return fail(STATUS_FORMAT, "decoder Strip: content: one character was expected");
    for (int i = 0; i < 2; i++) {
        json_int_t count = json_integer_value(i ? stop : start);
        if (!json_is_integer(i ? stop : start) || count < 0 || count > INT32_MAX)
            return fail(STATUS_FORMAT, "decoder Strip: %s: a count was expected",
                        i ? "stop" : "start");
    }
    step->start = (int)json_integer_value(start), step->stop = (int)json_integer_value(stop);
    if (step->stop && step->fused)
        return fail(STATUS_FORMAT, "decoder Strip with a stop behind Fuse is not supported");
    return STATUS_OK;
}

static enum status read_decoder(const json_t *json, const char *type, void *context) {
    struct decoders *all = context;
    enum prepend prepend;
    if (all->count == STEPS) return too_many("decoder");
    struct decoder *step = &all->list[all->count++];
    step->fused = is_fused(all);
    step->kind = DECODE_FUSE;
    if (!strcmp(type, "Fuse")) return STATUS_OK;
    if (!strcmp(type, "Strip")) return read_strip(json, step);
    if (step->fused)
        return fail(STATUS_FORMAT, "decoder '%.40s' behind Fuse or ByteLevel is not supported",
                    type);
    if (!strcmp(type, "ByteLevel")) {
        step->kind = DECODE_BYTE_LEVEL;
        return STATUS_OK;
    }
    if (!strcmp(type, "ByteFallback")) {
        step->kind = DECODE_BYTE_FALLBACK;
        return STATUS_OK;
    }
    if (!strcmp(type, "Replace")) {
        step->kind = DECODE_REPLACE;
        TRY(read_pattern(json, "decoder Replace", &step->pattern));
        return read_string(json, "decoder Replace", "content", &step->content);
    }
    if (strcmp(type, "Metaspace")) return unsupported("decoder", type);
    step->kind = DECODE_METASPACE;
    TRY(read_metaspace(json, "decoder Metaspace", &step->content, &prepend));
    TRY(pattern_literal(step->content.data, step->content.size, &step->pattern));
    step->drop_first = prepend != PREPEND_NEVER;
    step->content.size = 0;
    return text_add(&step->content, " ", 1);
}

enum status read_decoders(const json_t *json, struct decoders *out) {
    TRY(read_each(json, "decoder", "decoders", read_decoder, out));
    if (!out->count) out->list[out->count++] = (struct decoder){.kind = DECODE_SPACES};
    return STATUS_OK;
}
