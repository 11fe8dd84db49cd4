/* simt_async.c - barriers that count bytes, and the copies that feed them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/simt_run.h"

/* A barrier's 64 bits are ours to lay out; memory that nobody made a barrier of has another mark.
 */
struct barrier {
    uint32_t pending : 11, count : 11, parity : 1, mark : 9;
    int32_t bytes; /* expected and not here yet; below 0 where they came first */
};
enum { MARK = 0xa5, MOST_BYTES = (1 << 20) - 1 };
_Static_assert(sizeof(struct barrier) == 8, "a barrier is a 64-bit word");

struct copy {
    void *to;
    const void *from;
    size_t bytes;
    uint64_t *barrier;
};
static struct copy *pending;
static size_t pending_count, pending_room;

static struct barrier load(const uint64_t *at) {
    struct barrier b;
    if ((uintptr_t)at % 8) simt_fail("a barrier at %p is not aligned to 8 bytes", (const void *)at);
    memcpy(&b, at, sizeof b);
    if (b.mark != MARK) simt_fail("no barrier at %p: it was never made", (const void *)at);
    return b;
}

/* Ends the phase where nothing more is to come. */
static void store(uint64_t *at, struct barrier b) {
    if (b.bytes > MOST_BYTES || b.bytes < -MOST_BYTES)
        simt_fail("a barrier waits for %d bytes; it counts up to %d", b.bytes, MOST_BYTES);
    if (!b.pending && !b.bytes) b.parity ^= 1u, b.pending = b.count;
    memcpy(at, &b, sizeof b);
}

void simt_barrier_init(uint64_t *barrier, unsigned count) {
    if (!count || count > 1024)
        simt_fail("a barrier for %u arrivals; 1 to 1024 was expected", count);
    struct barrier b = {.pending = count & 0x7ff, .count = count & 0x7ff, .mark = MARK};
    memcpy(barrier, &b, sizeof b);
}

void simt_barrier_arrive(uint64_t *barrier, size_t expected_bytes) {
    struct barrier b = load(barrier);
    if (!b.pending) simt_fail("one thread too many arrives at a barrier for %u", b.count);
    if (expected_bytes > MOST_BYTES)
        simt_fail("%zu bytes expected at once; up to %d can be", expected_bytes, MOST_BYTES);
    b.bytes += (int32_t)expected_bytes, b.pending = (b.pending - 1) & 0x7ff;
    store(barrier, b);
}

static void deliver(struct copy copy) {
    memcpy(copy.to, copy.from, copy.bytes);
    struct barrier b = load(copy.barrier);
    b.bytes -= (int32_t)copy.bytes;
    store(copy.barrier, b);
}

int simt_barrier_passed(uint64_t *barrier, unsigned parity) {
    for (size_t i = 0; i < pending_count;) {
        if (pending[i].barrier != barrier) {
            i++;
            continue;
        }
        struct copy copy = pending[i];
        memmove(&pending[i], &pending[i + 1], (--pending_count - i) * sizeof *pending);
        deliver(copy);
    }
    return load(barrier).parity != (parity & 1);
}

void simt_bulk_load(void *to, const void *from, size_t bytes, uint64_t *barrier) {
    if (!bytes || bytes % 16 || (uintptr_t)to % 16 || (uintptr_t)from % 16)
        simt_fail("a bulk copy of %zu bytes from %p to %p; all multiples of 16 were expected",
                  bytes, from, to);
    (void)load(barrier);
    struct copy copy = {to, from, bytes, barrier};
    memset(to, 0xff, bytes);
    if (simt_order() == SIMT_REVERSE) {
        deliver(copy);
        return;
    }
    if (pending_count == pending_room) {
        size_t room = pending_room ? 2 * pending_room : 64;
        struct copy *larger = realloc(pending, room * sizeof *larger);
        if (!larger) simt_fail("out of memory for a bulk copy");
        pending = larger, pending_room = room;
    }
    pending[pending_count++] = copy;
}

void simt_async_end(char *error, size_t bytes) {
    if (pending_count && !error[0])
        snprintf(error, bytes, "the kernel ended with %zu bulk copies on their way: nobody waited",
                 pending_count);
    pending_count = 0;
}
