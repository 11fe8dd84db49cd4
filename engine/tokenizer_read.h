/* tokenizer_read.h - the parts of a tokenizer, and how they are read from a tokenizer.json. */
#ifndef FASTINFER_TOKENIZER_READ_H
#define FASTINFER_TOKENIZER_READ_H

#include <jansson.h>

#include "engine/tokenizer_added.h"
#include "engine/tokenizer_bpe.h"
#include "engine/tokenizer_decode.h"
#include "engine/tokenizer_steps.h"

struct tokenizer {
    struct bpe *bpe;
    struct added_token *added; /* special ones first */
    size_t added_count;
    struct added_set exact, normalized; /* found before, and after, normalizing */
    int32_t *added_by_id;               /* index into added, -1; `size` of them */
    int32_t size, bos, eos;
    struct normalizers normalizers;
    struct splitters splitters;
    struct ids prefix, suffix; /* of the template */
    struct decoders decoders;
    struct text repaired;
    struct sections sections, inner; /* of the text; of one of its sections, normalized */
};

/* Fills a zeroed tokenizer from the root of a tokenizer.json, all but bos and eos. */
enum status tokenizer_read(const json_t *root, struct tokenizer *out);

/* Its parts; NULL or null in the file are none. Failures name the component. */
enum status read_normalizers(const json_t *json, struct normalizers *out);
enum status read_splitters(const json_t *json, struct splitters *out);
enum status read_decoders(const json_t *json, struct decoders *out);

/* Members of a component, of which `owner` is the name in messages. A missing flag keeps what it
 * has; a missing text is refused. A pattern is a text, {"String": ...} or {"Regex": ...}. */
enum status read_flag(const json_t *json, const char *owner, const char *key, bool *value);
enum status read_string(const json_t *json, const char *owner, const char *key, struct text *out);
enum status read_pattern(const json_t *json, const char *owner, struct pattern **out);

/* Calls one(step, context) for a component, or for each of a Sequence, which lists them under
 * `key`; `what` is the kind of component in messages. */
enum status read_each(const json_t *json, const char *what, const char *key,
                      enum status (*one)(const json_t *step, const char *type, void *context),
                      void *context);

#endif
