/* tokenizer_decode.h - the decoder of a tokenizer.json: from tokens back to text, token by token.
 */
#ifndef FASTINFER_TOKENIZER_DECODE_H
#define FASTINFER_TOKENIZER_DECODE_H

#include "engine/tokenizer_steps.h"

enum decoder_kind {
    DECODE_SPACES, /* no decoder in the file: tokens with spaces between */
    DECODE_BYTE_LEVEL,
    DECODE_BYTE_FALLBACK,
    DECODE_FUSE,
    DECODE_STRIP,
    DECODE_REPLACE,
    DECODE_METASPACE
};
struct decoder {
    enum decoder_kind kind;
    struct pattern *pattern; /* REPLACE: by `content`; METASPACE: its character */
    struct text content;     /* REPLACE; STRIP: its character; METASPACE: a space */
    int start, stop;         /* STRIP: at most so many characters */
    bool drop_first;         /* METASPACE: its character in the first token is nothing */
    bool fused;              /* STRIP: all that came before is one token */
};
struct decoders {
    struct decoder list[STEPS];
    int count;
};
void decoders_free(struct decoders *decoders);

/* What a decoder remembers between tokens. */
struct decoding {
    const struct decoders *decoders;
    struct {
        size_t count;     /* tokens seen; STRIP: characters dropped */
        bool done;        /* STRIP: no more to drop */
        struct text held; /* bytes that more tokens may complete */
    } at[STEPS];
    struct spans spans;
    struct text out; /* text that is certain; whoever takes it empties it */
};
enum status decoding_token(struct decoding *decoding, const char *token, size_t bytes);
enum status decoding_end(struct decoding *decoding); /* gives what is held back */
void decoding_free(struct decoding *decoding);

#endif
