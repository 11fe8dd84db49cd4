#include "engine/tokenizer_merge.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/random.h"

struct merge {
    uint64_t pair; /* left << 32 | right; EMPTY in a free slot */
    int32_t rank, id;
};
struct symbol {
    int32_t id, before, after; /* neighbours, -1 where none; id -1: merged away */
};
struct candidate { /* symbols[at] and the one after it could become `id` */
    int32_t rank, at, id;
};
#define EMPTY UINT64_MAX

struct merges {
    struct merge *slots;
    size_t mask;
    struct symbol *symbols;
    size_t count, room;
    struct candidate *heap;
    size_t heap_count, heap_room;
};

enum status merges_new(size_t count, struct merges **out) {
    size_t slots = 16;
    while (slots < 2 * count) slots *= 2;
    *out = calloc(1, sizeof **out);
    if (!*out) return fail(STATUS_SYSTEM, "out of memory");
    (*out)->mask = slots - 1;
    (*out)->slots = malloc(slots * sizeof *(*out)->slots);
    if (!(*out)->slots) return fail(STATUS_SYSTEM, "out of memory");
    memset((*out)->slots, -1, slots * sizeof *(*out)->slots);
    return STATUS_OK;
}

void merges_free(struct merges *merges) {
    if (!merges) return;
    free(merges->slots), free(merges->symbols), free(merges->heap);
    free(merges);
}

static struct merge *find(const struct merges *merges, int32_t left, int32_t right) {
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t at = random_mix(pair) & merges->mask;
    while (merges->slots[at].pair != pair && merges->slots[at].pair != EMPTY)
        at = (at + 1) & merges->mask;
    return &merges->slots[at];
}

void merges_put(struct merges *merges, int32_t left, int32_t right, int32_t rank, int32_t id) {
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    *find(merges, left, right) = (struct merge){pair, rank, id};
}

void merges_begin(struct merges *merges) { merges->count = merges->heap_count = 0; }

enum status merges_symbol(struct merges *merges, int32_t id) {
    if (merges->count == merges->room) {
        size_t room = merges->room ? merges->room * 2 : 64;
        struct symbol *symbols = realloc(merges->symbols, room * sizeof *symbols);
        if (!symbols) return fail(STATUS_SYSTEM, "out of memory");
        merges->symbols = symbols, merges->room = room;
    }
    int32_t at = (int32_t)merges->count++;
    merges->symbols[at] = (struct symbol){id, at - 1, at + 1};
    return STATUS_OK;
}

/* --- candidates, the lowest rank first, then the leftmost ------------------------------------- */

static bool sooner(const struct candidate *a, const struct candidate *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

/* Offers symbols[at] and its next, if there is such a merge. */
static enum status offer(struct merges *merges, int32_t at) {
    const struct symbol *symbol = &merges->symbols[at];
    const struct merge *merge = find(merges, symbol->id, merges->symbols[symbol->after].id);
    if (merge->pair == EMPTY) return STATUS_OK;
    if (merges->heap_count == merges->heap_room) {
        size_t room = merges->heap_room ? merges->heap_room * 2 : 64;
        struct candidate *heap = realloc(merges->heap, room * sizeof *heap);
        if (!heap) return fail(STATUS_SYSTEM, "out of memory");
        merges->heap = heap, merges->heap_room = room;
    }
    struct candidate new = {merge->rank, at, merge->id};
    size_t child = merges->heap_count++;
    for (; child && sooner(&new, &merges->heap[(child - 1) / 2]); child = (child - 1) / 2)
        merges->heap[child] = merges->heap[(child - 1) / 2];
    merges->heap[child] = new;
    return STATUS_OK;
}

static struct candidate take(struct merges *merges) {
    struct candidate *heap = merges->heap, first = heap[0];
    struct candidate last = heap[--merges->heap_count];
    size_t count = merges->heap_count, parent = 0, child;
    while ((child = 2 * parent + 1) < count) {
        if (child + 1 < count && sooner(&heap[child + 1], &heap[child])) child++;
        if (!sooner(&heap[child], &last)) break;
        heap[parent] = heap[child];
        parent = child;
    }
    if (count) heap[parent] = last;
    return first;
}

/* Joins where the candidate still stands: its two symbols may have become others since. As in
 * HuggingFace's, it stands where the two now there would become the same token, by any merge. */
static enum status join(struct merges *merges, struct candidate candidate) {
    struct symbol *left = &merges->symbols[candidate.at];
    if (left->id < 0 || left->after < 0) return STATUS_OK;
    struct symbol *right = &merges->symbols[left->after];
    const struct merge *merge = find(merges, left->id, right->id);
    if (merge->pair == EMPTY || merge->id != candidate.id) return STATUS_OK;
    left->id = candidate.id;
    left->after = right->after;
    right->id = -1;
    if (left->after >= 0) merges->symbols[left->after].before = candidate.at;
    if (left->before >= 0) TRY(offer(merges, left->before));
    return left->after >= 0 ? offer(merges, candidate.at) : STATUS_OK;
}

enum status merges_end(struct merges *merges, struct ids *out) {
    if (!merges->count) return STATUS_OK;
    merges->symbols[merges->count - 1].after = -1;
    for (size_t i = 0; i + 1 < merges->count; i++) TRY(offer(merges, (int32_t)i));
    while (merges->heap_count) TRY(join(merges, take(merges)));
    for (int32_t at = 0; at >= 0; at = merges->symbols[at].after)
        TRY(ids_add(out, merges->symbols[at].id));
    return STATUS_OK;
}
