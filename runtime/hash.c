#include "runtime/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

struct hash {
    XXH3_state_t *state;
};

struct hash *hash_new(void) {
    struct hash *hash = malloc(sizeof *hash);
    hash->state = XXH3_createState();
    XXH3_128bits_reset(hash->state);
    return hash;
}
void hash_add(struct hash *hash, const void *data, size_t bytes) {
    XXH3_128bits_update(hash->state, data, bytes);
}
void hash_text(struct hash *hash, const char *text) { hash_add(hash, text, strlen(text) + 1); }
void hash_end(struct hash *hash, char out[33]) {
    XXH128_hash_t digest = XXH3_128bits_digest(hash->state);
    snprintf(out, 33, "%016llx%016llx", (unsigned long long)digest.high64,
             (unsigned long long)digest.low64);
    XXH3_freeState(hash->state);
    free(hash);
}
