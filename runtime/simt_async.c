/* simt_async.c - barriers that count bytes, the bulk copies that feed them or leave shared memory,
 * and copies that threads wait for themselves.
 *
 * Under the forward schedule a copy is made as late as it may, under the reverse one at once, and
 * under the shuffled one by chance either, copies of a barrier in any order.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/simt_run.h"
#include "runtime/simt_trace.h"

/* A barrier's 64 bits are ours to lay out; memory that nobody made a barrier of has another mark.
 */
struct barrier {
    uint32_t pending : 11, count : 11, parity : 1, mark : 9;
    int32_t bytes; /* expected and not here yet; below 0 where they came first */
};
enum { MARK = 0xa5, MOST_BYTES = (1 << 20) - 1, POISON = 0xff };
_Static_assert(sizeof(struct barrier) == 8, "a barrier is a 64-bit word");

struct copy { /* a load has a barrier; a store an owner; a group that was empty has no bytes */
    void *to;
    const void *from;
    size_t bytes;
    uint64_t *barrier;
    const simt_thread *owner;
    uint64_t group; /* 0 until it is committed */
};
struct made { /* a barrier that the copies cannot see yet: there was no fence */
    const uint64_t *barrier;
    const simt_thread *by;
};
static struct {
    struct copy *copy; /* on their way, in the order of issue */
    struct made *made;
    size_t copies, copy_room, mades, made_room;
    uint64_t groups;
} a;

/* Room for one element more. */
static void *grown(void *array, size_t used, size_t *room, size_t bytes) {
    if (used < *room) return array;
    size_t more = *room ? 2 * *room : 64;
    void *larger = realloc(array, more * bytes);
    if (!larger) simt_fail("out of memory for copies");
    *room = more;
    return larger;
}

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
    struct barrier b = {.pending = count & 0x7ff, .count = count & 0x7ff, .mark = MARK}, before;
    if ((uintptr_t)barrier % 8)
        simt_fail("a barrier at %p is not aligned to 8 bytes", (void *)barrier);
    if (!count || count > 1024)
        simt_fail("a barrier for %u arrivals; 1 to 1024 was expected", count);
    memcpy(&before, barrier, sizeof before);
    if (before.mark == MARK && before.count && before.count <= 1024)
        simt_fail("the barrier at %p is made a second time", (void *)barrier);
    memcpy(barrier, &b, sizeof b);
    a.made = grown(a.made, a.mades, &a.made_room, sizeof *a.made);
    a.made[a.mades++] = (struct made){barrier, simt_self};
}

void simt_barrier_fence(void) {
    size_t kept = 0;
    for (size_t i = 0; i < a.mades; i++)
        if (a.made[i].by != simt_self) a.made[kept++] = a.made[i];
    a.mades = kept;
    simt_async_fence();
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
    if (copy.bytes) memcpy(copy.to, copy.from, copy.bytes);
    if (!copy.barrier) return;
    struct barrier b = load(copy.barrier);
    b.bytes -= (int32_t)copy.bytes;
    store(copy.barrier, b);
}

static struct copy take(size_t i) {
    struct copy copy = a.copy[i];
    memmove(&a.copy[i], &a.copy[i + 1], (--a.copies - i) * sizeof *a.copy);
    return copy;
}

/* Makes one copy that the barrier waits for; false where there is none. */
static bool deliver_one(const uint64_t *barrier) {
    size_t count = 0, wanted = 0;
    for (size_t i = 0; i < a.copies; i++) count += a.copy[i].barrier == barrier;
    if (count && simt_order() == SIMT_SHUFFLED) wanted = simt_draw() % count;
    for (size_t i = 0; i < a.copies && count; i++)
        if (a.copy[i].barrier == barrier && !wanted--) return deliver(take(i)), true;
    return false;
}

/* Bytes come when the last thread has arrived, and no more of them than the phase waits for. */
int simt_barrier_passed(uint64_t *barrier, unsigned parity) {
    struct barrier b = load(barrier);
    bool later = simt_order() == SIMT_SHUFFLED && simt_draw() % 2;
    while (b.parity == (parity & 1) && b.pending == 0 && !later && deliver_one(barrier))
        b = load(barrier);
    int passed = b.parity != (parity & 1);
    simt_self->waits_at = passed ? NULL : barrier;
    return passed;
}

/* On its way, or made at once. */
static void send(struct copy copy) {
    memset(copy.to, POISON, copy.bytes);
    if (simt_order() == SIMT_REVERSE || (simt_order() == SIMT_SHUFFLED && simt_draw() % 4 == 0)) {
        deliver(copy);
        return;
    }
    a.copy = grown(a.copy, a.copies, &a.copy_room, sizeof *a.copy);
    a.copy[a.copies++] = copy;
}

static void check_copy(const void *to, const void *from, size_t bytes) {
    if (!bytes || bytes % 16 || (uintptr_t)to % 16 || (uintptr_t)from % 16)
        simt_fail("a copy of %zu bytes from %p to %p; all multiples of 16 were expected", bytes,
                  from, to);
}

void simt_bulk_load(void *to, const void *from, size_t bytes, uint64_t *barrier) {
    check_copy(to, from, bytes);
    (void)load(barrier);
    for (size_t i = 0; i < a.mades; i++)
        if (a.made[i].barrier == barrier)
            simt_fail("a bulk copy for a barrier without a fence since it was made");
    simt_trace_touch(from, bytes);
    send((struct copy){to, from, bytes, barrier, NULL, 0});
}

void simt_async_fence(void) { simt_self->fenced = 1; }

void simt_bulk_store(void *to, const void *from, size_t bytes) {
    check_copy(to, from, bytes);
    if (!simt_self->fenced)
        simt_fail("a bulk copy out of shared memory without a fence since this thread's last");
    simt_trace_touch(to, bytes);
    send((struct copy){to, from, bytes, NULL, simt_self, 0});
}

void simt_bulk_commit(void) {
    a.groups++;
    for (size_t i = 0; i < a.copies; i++)
        if (a.copy[i].owner == simt_self && !a.copy[i].group) a.copy[i].group = a.groups;
    a.copy = grown(a.copy, a.copies, &a.copy_room, sizeof *a.copy);
    a.copy[a.copies++] = (struct copy){.owner = simt_self, .group = a.groups};
    simt_self->fenced = 0;
}

void simt_bulk_wait(unsigned groups) {
    uint64_t newest = 0; /* of the groups that are waited for */
    for (size_t i = a.copies, seen = 0; i-- > 0 && !newest;)
        if (a.copy[i].owner == simt_self && !a.copy[i].bytes && seen++ == groups)
            newest = a.copy[i].group;
    for (size_t i = 0; i < a.copies;)
        if (a.copy[i].owner == simt_self && a.copy[i].group && a.copy[i].group <= newest)
            deliver(take(i));
        else
            i++;
}

void simt_copy(void *to, const void *from, size_t bytes) {
    static const char zeros[16];
    if (!bytes) from = zeros, bytes = sizeof zeros;
    check_copy(to, from == zeros ? to : from, bytes);
    if (from != zeros) simt_trace_touch(from, bytes);
    send((struct copy){to, from, bytes, NULL, simt_self, 0});
}

void simt_copy_wait(void) {
    for (size_t i = 0; i < a.copies;)
        if (a.copy[i].owner == simt_self && !a.copy[i].group)
            deliver(take(i));
        else
            i++;
}

void simt_async_waits(char *out, size_t bytes) {
    struct barrier b;
    out[0] = 0;
    if (!simt_self->waits_at) return;
    memcpy(&b, simt_self->waits_at, sizeof b);
    snprintf(out, bytes, "; it waits at a barrier for %u of %u arrivals and %d bytes", b.pending,
             b.count, b.bytes);
}

void simt_async_end(char *error, size_t bytes) {
    size_t lost = 0;
    for (size_t i = 0; i < a.copies; i++) lost += a.copy[i].bytes != 0;
    if (lost && !error[0])
        snprintf(error, bytes, "a block ended with %zu copies on their way: nobody waited", lost);
    a.copies = a.mades = 0;
}
