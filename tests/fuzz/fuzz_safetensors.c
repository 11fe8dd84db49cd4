/* fuzz_safetensors.c - any bytes as a weight file: refused with a sentence, or every byte of every
 * tensor may be read and the tensors are what the header's rules say. */
#include <stdlib.h>
#include <string.h>

#include "engine/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint8_t sink; /* so that the reads stay */

static void expect(bool holds) {
    if (!holds) abort();
}

static void look_at(const struct safetensors *files, const struct tensor *t, const uint8_t *data,
                    size_t size) {
    struct tensor weight;
    uint8_t sum = 0;
    const uint8_t *at = t->data;
    expect(at >= data && t->bytes <= size && at + t->bytes <= data + size);
    expect(safetensors_find(files, t->name) == t);
    for (size_t i = 0; i < t->bytes; i++) sum ^= at[i];
    sink = sum;
    if (safetensors_weight(files, t->name, t->rank, t->shape, &weight)) {
        expect(fail_message()[0]);
        return;
    }
    size_t elements = 1;
    for (int i = 0; i < weight.rank; i++) elements *= (size_t)weight.shape[i];
    expect(elements * dtype_bytes(weight.dtype) == weight.bytes);
    dtype_load(weight.dtype, weight.data, (int64_t)elements - 1);
}

static void try(const uint8_t *data, size_t size) {
    struct safetensors *files;
    if (safetensors_open_memory(data, size, "fuzz.file", &files)) {
        expect(!files && !strncmp(fail_message(), "fuzz.file: ", 11));
        return;
    }
    for (int i = 0; i < safetensors_count(files); i++)
        look_at(files, safetensors_at(files, i), data, size);
    safetensors_close(files);
}

/* As it is, and with the header's length set to end behind the last brace: chance seldom changes
 * a header and its length together. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    try(data, size);
    const uint8_t *brace = size > 8 ? memrchr(data + 8, '}', size - 8) : NULL;
    if (!brace) return 0;
    uint8_t *copy = malloc(size);
    expect(copy != NULL);
    memcpy(copy, data, size);
    uint64_t length = (uint64_t)(brace + 1 - data - 8);
    for (int i = 0; i < 8; i++) copy[i] = (uint8_t)(length >> 8 * i);
    try(copy, size);
    free(copy);
    return 0;
}
