#include "runtime/simt_trace.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/random.h"
#include "runtime/simt_run.h"

enum { SECTOR = 32, MAX_RANGES = 4096 };

static struct {
    bool on;
    struct simt_traffic traffic;
    uint64_t *key; /* a set by open addressing; 0 is no key */
    size_t capacity, used;
    struct {
        uintptr_t first, end;
    } range[MAX_RANGES];
    int ranges;
} t;

void simt_trace_add(const void *start, size_t bytes) {
    if (t.ranges == MAX_RANGES) return;
    t.range[t.ranges].first = (uintptr_t)start;
    t.range[t.ranges++].end = (uintptr_t)start + bytes;
}

void simt_trace_remove(const void *start) {
    for (int i = t.ranges - 1; i >= 0; i--)
        if (t.range[i].first == (uintptr_t)start) {
            t.range[i] = t.range[--t.ranges];
            return;
        }
}

void simt_trace_begin(void) {
    t.traffic = (struct simt_traffic){0};
    t.used = 0;
    if (t.key) memset(t.key, 0, t.capacity * sizeof *t.key);
    t.on = true;
}

struct simt_traffic simt_trace_end(void) {
    t.on = false;
    free(t.key);
    t.key = NULL, t.capacity = t.used = 0;
    return t.traffic;
}

/* True where the key was not in the set. */
static bool insert(uint64_t key) {
    size_t at = (size_t)key & (t.capacity - 1);
    while (t.key[at] && t.key[at] != key) at = (at + 1) & (t.capacity - 1);
    if (t.key[at]) return false;
    t.key[at] = key, t.used++;
    return true;
}

static void grow(void) {
    uint64_t *old = t.key;
    size_t before = t.capacity;
    t.capacity = before ? 2 * before : 1 << 16, t.used = 0;
    t.key = calloc(t.capacity, sizeof *t.key);
    if (!t.key) abort(); /* a few MiB */
    for (size_t i = 0; i < before; i++)
        if (old[i]) insert(old[i]);
    free(old);
}

void simt_trace_touch(const void *address, size_t bytes) {
    if (!t.on || !bytes) return;
    uintptr_t first = (uintptr_t)address;
    int range = 0;
    while (range < t.ranges && (first < t.range[range].first || first >= t.range[range].end))
        range++;
    if (range == t.ranges) return; /* shared memory, or a thread's own */
    t.traffic.bytes += bytes;
    const simt_thread *self = simt_self;
    uint64_t block =
        self->block_idx.x + (uint64_t)simt_grid_dim.x *
                                (self->block_idx.y + (uint64_t)simt_grid_dim.y * self->block_idx.z);
    uint64_t warp = random_mix(block * 32 + self->rank / 32 + 1) + self->waits;
    for (uintptr_t s = first / SECTOR; s <= (first + bytes - 1) / SECTOR; s++) {
        /* an allocation starts at a multiple of a sector: its place in memory does not matter */
        uint64_t key = random_mix(random_mix(warp) + (uint64_t)range * RANDOM_STEP +
                                  (s - t.range[range].first / SECTOR));
        if (2 * t.used >= t.capacity) grow();
        t.traffic.sectors += insert(key ? key : 1);
    }
}
