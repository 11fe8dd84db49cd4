#include "engine/tokenizer.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/tokenizer_read.h"

enum { MOST_BYTES = 1 << 29 };

/* --- opening ---------------------------------------------------------------------------------- */

/* The special token that a key of tokenizer_config.json names: a text, or an object with one. */
static int32_t configured(const struct tokenizer *t, const json_t *config, const char *key) {
    const json_t *value = json_object_get(config, key);
    if (json_is_object(value)) value = json_object_get(value, "content");
    return json_is_string(value) ? tokenizer_id(t, json_string_value(value)) : -1;
}

static int32_t first_special(const struct tokenizer *t, const char *const *names) {
    for (; *names; names++) {
        int32_t id = tokenizer_id(t, *names);
        if (id >= 0 && tokenizer_is_special(t, id)) return id;
    }
    return -1;
}

static void find_ends(struct tokenizer *t, const json_t *config) {
    static const char *const begins[] = {"<|begin_of_text|>", "<s>", NULL};
    static const char *const ends[] = {"<|end_of_text|>", "</s>", "<|im_end|>", "<|endoftext|>",
                                       NULL};
    t->bos = config ? configured(t, config, "bos_token") : first_special(t, begins);
    t->eos = config ? configured(t, config, "eos_token") : first_special(t, ends);
}

/* Frees root. */
static enum status open_json(const char *name, json_t *root, const json_error_t *error,
                             const json_t *config, struct tokenizer **out) {
    *out = NULL;
    if (!root) return fail(STATUS_FORMAT, "%s:%d: %s", name, error->line, error->text);
    struct tokenizer *t = calloc(1, sizeof *t);
    enum status status = t ? tokenizer_read(root, t) : fail(STATUS_SYSTEM, "out of memory");
    json_decref(root);
    if (status) {
        tokenizer_close(t);
        return fail_context(status, "%s", name);
    }
    find_ends(t, config);
    *out = t;
    return STATUS_OK;
}

enum status tokenizer_open_text(const char *name, const char *json, size_t bytes,
                                struct tokenizer **out) {
    json_error_t error;
    json_t *root = json_loadb(json, bytes, JSON_ALLOW_NUL, &error);
    return open_json(name, root, &error, NULL, out);
}

/* tokenizer.json and the tokenizer_config.json beside it. */
static enum status find_files(const char *path, char file[PATH_MAX], char config[PATH_MAX]) {
    struct stat info;
    if (stat(path, &info)) return fail(STATUS_SYSTEM, "%s: %s", path, strerror(errno));
    bool folder = S_ISDIR(info.st_mode);
    const char *slash = strrchr(path, '/');
    int length = folder ? (int)strlen(path) : slash ? (int)(slash - path) : 1;
    int n = snprintf(config, PATH_MAX, "%.*s/tokenizer_config.json", length,
                     folder || slash ? path : ".");
    if (n >= PATH_MAX || strlen(path) + 20 >= PATH_MAX)
        return fail(STATUS_ARGUMENT, "%.80s...: the path is too long", path);
    snprintf(file, PATH_MAX, folder ? "%.4000s/tokenizer.json" : "%.4000s", path);
    if (stat(file, &info)) return fail(STATUS_SYSTEM, "%s: %s", file, strerror(errno));
    return STATUS_OK;
}

enum status tokenizer_open(const char *path, struct tokenizer **out) {
    char file[PATH_MAX], beside[PATH_MAX];
    struct stat info;
    json_error_t error;
    json_t *config = NULL;
    *out = NULL;
    TRY(find_files(path, file, beside));
    if (!stat(beside, &info)) {
        config = json_load_file(beside, JSON_ALLOW_NUL, &error);
        if (!config) return fail(STATUS_FORMAT, "%s:%d: %s", beside, error.line, error.text);
    }
    json_t *root = json_load_file(file, JSON_ALLOW_NUL, &error);
    enum status status = open_json(file, root, &error, config, out);
    json_decref(config);
    return status;
}

void tokenizer_close(struct tokenizer *t) {
    if (!t) return;
    for (size_t i = 0; i < t->added_count; i++) {
        text_free(&t->added[i].content);
        text_free(&t->added[i].searched);
    }
    free(t->added), free(t->added_by_id);
    added_set_free(&t->exact), added_set_free(&t->normalized);
    bpe_free(t->bpe);
    normalizers_free(&t->normalizers);
    splitters_free(&t->splitters);
    decoders_free(&t->decoders);
    free(t->prefix.at), free(t->suffix.at);
    text_free(&t->repaired);
    free(t->sections.at), free(t->inner.at);
    free(t);
}

/* --- encoding --------------------------------------------------------------------------------- */

struct encoding {
    struct tokenizer *tokenizer;
    struct ids *out;
};

static enum status add_word(void *context, const char *word, size_t bytes) {
    struct encoding *encoding = context;
    return bpe_word(encoding->tokenizer->bpe, word, bytes, encoding->out);
}

/* A stretch without exact added tokens: normalized, and cut at the tokens found only then. */
static enum status encode_section(struct tokenizer *t, const char *text, size_t bytes, bool first,
                                  struct ids *out) {
    struct encoding encoding = {t, out};
    struct word_sink sink = {add_word, &encoding};
    TRY(normalizers_run(&t->normalizers, text, bytes, &text, &bytes));
    TRY(added_split(&t->normalized, text, bytes, &t->inner));
    for (size_t i = 0; i < t->inner.count; i++) {
        struct section s = t->inner.at[i];
        if (s.id >= 0)
            TRY(ids_add(out, s.id));
        else
            TRY(splitters_run(&t->splitters, text + s.start, s.end - s.start, first && s.start == 0,
                              sink));
    }
    return STATUS_OK;
}

static enum status encode(struct tokenizer *t, const char *text, size_t bytes, bool add_special,
                          struct ids *out) {
    t->repaired.size = 0;
    TRY(text_add_repaired(&t->repaired, text, bytes));
    text = t->repaired.data, bytes = t->repaired.size;
    for (size_t i = 0; add_special && i < t->prefix.count; i++) TRY(ids_add(out, t->prefix.at[i]));
    TRY(added_split(&t->exact, text, bytes, &t->sections));
    for (size_t i = 0; i < t->sections.count; i++) {
        struct section s = t->sections.at[i];
        if (s.id >= 0)
            TRY(ids_add(out, s.id));
        else
            TRY(encode_section(t, text + s.start, s.end - s.start, s.start == 0, out));
    }
    for (size_t i = 0; add_special && i < t->suffix.count; i++) TRY(ids_add(out, t->suffix.at[i]));
    return STATUS_OK;
}

enum status tokenizer_encode(struct tokenizer *tokenizer, const char *text, size_t bytes,
                             bool add_special, int32_t **ids, size_t *count) {
    struct ids out = {0};
    *ids = NULL, *count = 0;
    if (bytes > MOST_BYTES)
        return fail(STATUS_ARGUMENT, "a text of %zu bytes; at most %d were expected", bytes,
                    MOST_BYTES);
    enum status status = encode(tokenizer, text, bytes, add_special, &out);
    if (status) {
        free(out.at);
        return status;
    }
    *ids = out.at, *count = out.count;
    return STATUS_OK;
}

/* --- decoding --------------------------------------------------------------------------------- */

struct tokenizer_stream {
    struct tokenizer *tokenizer;
    bool skip_special;
    struct decoding decoding;
};

enum status tokenizer_stream_open(struct tokenizer *tokenizer, bool skip_special,
                                  struct tokenizer_stream **out) {
    *out = calloc(1, sizeof **out);
    if (!*out) return fail(STATUS_SYSTEM, "out of memory");
    (*out)->tokenizer = tokenizer, (*out)->skip_special = skip_special;
    (*out)->decoding.decoders = &tokenizer->decoders;
    return STATUS_OK;
}

void tokenizer_stream_close(struct tokenizer_stream *stream) {
    if (stream) decoding_free(&stream->decoding);
    free(stream);
}

/* Adds to decoding.out. */
static enum status push(struct tokenizer_stream *stream, int32_t id) {
    size_t bytes;
    const char *content = tokenizer_content(stream->tokenizer, id, &bytes);
    if (!content) return STATUS_OK;
    if (stream->skip_special && tokenizer_is_special(stream->tokenizer, id)) return STATUS_OK;
    return decoding_token(&stream->decoding, content, bytes);
}

enum status tokenizer_stream_push(struct tokenizer_stream *stream, int32_t id, const char **text,
                                  size_t *bytes) {
    stream->decoding.out.size = 0;
    TRY(push(stream, id));
    *text = stream->decoding.out.data, *bytes = stream->decoding.out.size;
    return STATUS_OK;
}

enum status tokenizer_stream_end(struct tokenizer_stream *stream, const char **text,
                                 size_t *bytes) {
    stream->decoding.out.size = 0;
    TRY(decoding_end(&stream->decoding));
    *text = stream->decoding.out.data, *bytes = stream->decoding.out.size;
    return STATUS_OK;
}

enum status tokenizer_decode(struct tokenizer *tokenizer, const int32_t *ids, size_t count,
                             bool skip_special, char **text, size_t *bytes) {
    struct tokenizer_stream *stream;
    enum status status = STATUS_OK;
    *text = NULL, *bytes = 0;
    TRY(tokenizer_stream_open(tokenizer, skip_special, &stream));
    for (size_t i = 0; i < count && !status; i++) status = push(stream, ids[i]);
    if (!status) status = decoding_end(&stream->decoding);
    struct text *out = &stream->decoding.out;
    if (!status) status = text_add(out, "", 1);
    if (!status) {
        *text = out->data, *bytes = out->size - 1;
        *out = (struct text){0};
    }
    tokenizer_stream_close(stream);
    return status;
}

/* --- questions -------------------------------------------------------------------------------- */

int32_t tokenizer_size(const struct tokenizer *tokenizer) { return tokenizer->size; }

int32_t tokenizer_id(const struct tokenizer *tokenizer, const char *content) {
    size_t bytes = strlen(content);
    for (size_t i = 0; i < tokenizer->added_count; i++) {
        const struct text *added = &tokenizer->added[i].content;
        if (added->size == bytes && !memcmp(added->data, content, bytes))
            return tokenizer->added[i].id;
    }
    return bpe_id(tokenizer->bpe, content, bytes);
}

static const struct added_token *added_of(const struct tokenizer *t, int32_t id) {
    return id < 0 || id >= t->size || t->added_by_id[id] < 0 ? NULL : &t->added[t->added_by_id[id]];
}

const char *tokenizer_content(const struct tokenizer *tokenizer, int32_t id, size_t *bytes) {
    const struct added_token *added = added_of(tokenizer, id);
    if (!added) return bpe_token(tokenizer->bpe, id, bytes);
    *bytes = added->content.size;
    return added->content.data;
}

bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id) {
    const struct added_token *added = added_of(tokenizer, id);
    return added && added->special;
}

int32_t tokenizer_bos(const struct tokenizer *tokenizer) { return tokenizer->bos; }
int32_t tokenizer_eos(const struct tokenizer *tokenizer) { return tokenizer->eos; }

bool tokenizer_is_end(const struct tokenizer *tokenizer, int32_t id) {
    static const char *const names[] = {"<|eot_id|>",      "<|eom_id|>",    "<|im_end|>",
                                        "<|end_of_text|>", "<|endoftext|>", "</s>"};
    if (id < 0 || id == tokenizer->eos) return id >= 0;
    if (!tokenizer_is_special(tokenizer, id)) return false;
    size_t bytes;
    const char *content = tokenizer_content(tokenizer, id, &bytes);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == bytes && !memcmp(content, names[i], bytes)) return true;
    return false;
}
