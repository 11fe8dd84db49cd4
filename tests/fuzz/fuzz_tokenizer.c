/* fuzz_tokenizer.c - any bytes as tokenizer.json: refused with a sentence, or a tokenizer that
 * takes texts to ids of its own and back without harm. */
#include <stdlib.h>
#include <string.h>

#include "engine/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds) {
    if (!holds) abort();
}

static void use(struct tokenizer *tokenizer, const char *text, size_t bytes) {
    int32_t *ids;
    size_t count, length;
    const char *out;
    struct tokenizer_stream *stream;
    if (tokenizer_encode(tokenizer, text, bytes, true, &ids, &count)) return;
    expect(!tokenizer_stream_open(tokenizer, true, &stream));
    for (size_t i = 0; i < count; i++) {
        expect(ids[i] >= 0);
        if (!tokenizer_stream_push(stream, ids[i], &out, &length)) expect(length == 0 || out);
    }
    if (!tokenizer_stream_end(stream, &out, &length)) expect(length == 0 || out);
    tokenizer_stream_close(stream);
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char text[] = "Hello  w\xc3\xb6rld 123\n<|x|>\xff";
    struct tokenizer *tokenizer;
    if (tokenizer_open_text("tokenizer.json", (const char *)data, size, &tokenizer)) {
        expect(*fail_message());
        return 0;
    }
    use(tokenizer, text, sizeof text - 1);
    tokenizer_close(tokenizer);
    return 0;
}
