/* hash.h - a 128-bit content hash for cache keys (XXH3): fast and well spread, not secret. */
#ifndef FASTINFER_HASH_H
#define FASTINFER_HASH_H

#include <stddef.h>

struct hash; /* a running hash */
struct hash *hash_new(void);
void hash_add(struct hash *hash, const void *data, size_t bytes);
void hash_text(struct hash *hash, const char *text); /* with its final 0, as a separator */
void hash_end(struct hash *hash, char out[33]);      /* 32 hex digits; frees the hash */

#endif
