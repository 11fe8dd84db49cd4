/* simt.c - the runtime behind simt.h: a deterministic scheduler of one coroutine per CUDA thread.
 *
 * Everything runs on the calling OS thread, so kernels need no atomics and a run repeats exactly.
 * A thread runs until it waits in a collective; the last to arrive completes the collective for
 * all.
 */
#include "runtime/simt_run.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#ifdef __has_feature /* clang's spelling of gcc's macro */
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define ASAN(...) __VA_ARGS__
enum { STACK_BYTES = 256 << 10 };
#else
#define ASAN(...)
enum { STACK_BYTES = 64 << 10 };
#endif
enum { WARP = 32, PAGE = 4096, MAX_THREADS = 1024, MAX_SHARED = 16, NAMED = 16 };
enum { SHARED_LIMIT = 48 << 10 }; /* a GPU's, of SHARED variables */
/* Stacks a power of two apart would put the busy ends of all lanes in one set of the cache. */
enum { STRIDE = STACK_BYTES + 5 * 64 };
/* Two areas a warp, of the 65530 that Linux gives a process by default. */
enum { MAX_RESIDENT_WARPS = 32000 };
enum { SWITCHES_A_LOOK = 1024 }; /* between two looks at the clock */
/* The lowest word of a stack. A mapping a warp, with one guard page below it, keeps large
 * cooperative grids within the kernel's limit on mappings; within a warp this word tells. */
static const uint64_t CANARY = UINT64_C(0x5afe57ac5afe57ac);

#if defined(__x86_64__) && !defined(SIMT_UCONTEXT)
typedef void *machine; /* a saved stack pointer; the System V callee-saved registers lie above it */
void simt_swap(machine *save, machine *load);
__asm__(".text\n.globl simt_swap\n.type simt_swap, @function\nsimt_swap:\n"
        "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp, (%rdi)\nmov (%rsi), %rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n"
        ".size simt_swap, .-simt_swap\n");
static void machine_init(machine *m, char *stack, size_t bytes, void (*entry)(void)) {
    uintptr_t *top = (uintptr_t *)(stack + bytes) - 2; /* entry finds the stack as after a call */
    memset(top - 6, 0, 8 * sizeof *top);
    top[0] = (uintptr_t)entry;
    *m = top - 6;
}
#else
#include <ucontext.h>
typedef ucontext_t machine;
static void simt_swap(machine *save, machine *load) { swapcontext(save, load); }
static void machine_init(machine *m, char *stack, size_t bytes, void (*entry)(void)) {
    getcontext(m);
    m->uc_stack.ss_sp = stack, m->uc_stack.ss_size = bytes, m->uc_link = NULL;
    makecontext(m, entry, 0);
}
#endif

struct context {
    machine machine;
    char *stack; /* lowest byte; the canary lies there */
    size_t bytes;
    void *fake_stack; /* AddressSanitizer's, while switched out */
};

struct lane {
    simt_thread self; /* first, so that simt_self is the lane too */
    struct context context;
    struct warp *warp;
};

struct warp {
    struct block *block;
    uint32_t live, ready;                /* not yet returned; able to run now */
    uint32_t yielded;                    /* able to run, once all that are ready have had a turn */
    uint32_t in_warp, in_block, in_grid; /* waiting at that kind of collective */
    uint32_t in_named[NAMED];            /* and at a named barrier */
    uint32_t mask[WARP], votes[WARP];    /* per waiting lane: whom it waits for; what they voted */
    uint64_t value[WARP], result[WARP];
    unsigned source[WARP];
    void (*step[WARP])(void **, void *); /* per waiting lane: its collective; NULL: an exchange */
    struct lane lane[WARP];
};

struct block {
    simt_dim index;
    unsigned waiting;
    unsigned named_waiting[NAMED], named_threads[NAMED];
    void *dynamic;
    size_t declared; /* bytes of SHARED variables */
    unsigned sites;
    struct {
        const void *site;
        void *data;
        size_t bytes;
    } shared[MAX_SHARED];
};

simt_thread *simt_self;
simt_dim simt_block_dim, simt_grid_dim;

static struct {
    struct warp **warp; /* the resident warps, block by block; kept from run to run */
    size_t warps, pool;
    struct block *block;
    size_t threads, waiting; /* resident threads; those at the grid barrier */
    size_t dynamic_bytes;
    void (*body)(void *);
    void *args;
    struct context host;
    size_t current; /* index of the running warp */
    enum simt_order order;
    uint64_t seed, spins, spin_limit;
    int yielded;                 /* some lane has */
    double time_limit, deadline; /* s */
    struct simt_counts counts;
    char error[256];
} g = {.seed = 1, .spin_limit = 20000000};

const char *simt_error(void) { return g.error; }
struct simt_counts simt_counts(void) {
    return g.counts;
}
void simt_spin_limit(uint64_t turns) { g.spin_limit = turns; }
void simt_time_limit(double seconds) { g.time_limit = seconds; }
void simt_schedule(enum simt_order order, uint64_t seed) { g.order = order, g.seed = seed | 1; }
enum simt_order simt_order(void) { return g.order; }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#define draw simt_draw
unsigned simt_draw(void) { /* xorshift64 */
    g.seed ^= g.seed << 13, g.seed ^= g.seed >> 7, g.seed ^= g.seed << 17;
    return (unsigned)(g.seed >> 32);
}

static struct lane *running(void) { return (struct lane *)simt_self; }
static unsigned lane_of(const struct lane *lane) { return lane->self.rank % WARP; }

static void switch_context(struct context *from, struct context *to) {
    ASAN(__sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->bytes));
    simt_swap(&from->machine, &to->machine);
    ASAN(__sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL));
}

/* Ends the launch from within a thread; does not return to it. */
#define fail simt_fail
void simt_fail(const char *format, ...) {
    simt_dim b = simt_self->block_idx;
    int n = snprintf(g.error, sizeof g.error, "block (%u,%u,%u) thread %u: ", b.x, b.y, b.z,
                     simt_self->rank);
    va_list list;
    va_start(list, format);
    vsnprintf(g.error + n, sizeof g.error - (size_t)n, format, list);
    va_end(list);
    switch_context(&running()->context, &g.host); /* for good: simt_run drops every coroutine */
}

static uint32_t in_any_named(const struct warp *w) {
    uint32_t all = 0;
    for (int i = 0; i < NAMED; i++) all |= w->in_named[i];
    return all;
}

/* Nobody can run: either all is done, or the waiting threads wait for ones that never come. */
static void report_stuck(void) {
    size_t live = 0;
    struct warp *stuck = NULL;
    for (size_t i = 0; i < g.warps; i++) {
        live += (size_t)__builtin_popcount(g.warp[i]->live);
        if (g.warp[i]->live && (!stuck || g.warp[i]->in_warp)) stuck = g.warp[i];
    }
    if (!live) return;
    simt_dim b = stuck->block->index;
    snprintf(
        g.error, sizeof g.error,
        "block (%u,%u,%u): stuck with %zu of %zu threads not returned; in the warp of thread %u, "
        "lanes %08x wait in a warp collective, %08x at __syncthreads, %08x at named barriers, %08x "
        "at grid sync",
        b.x, b.y, b.z, live, g.threads, stuck->lane[0].self.rank, stuck->in_warp, stuck->in_block,
        in_any_named(stuck), stuck->in_grid);
}

/* The lane that the schedule lets run next, of those able to, looked for from warp n on. */
static struct lane *pick(size_t n) {
    size_t last = g.warps - 1;
    if (g.order == SIMT_SHUFFLED && (!g.warp[n]->ready || draw() % 64 == 0))
        n = draw() % g.warps; /* mostly in bursts: an even mix would hide warps that run ahead */
    for (size_t tries = 0; tries <= last; tries++) {
        uint32_t ready = g.warp[n]->ready;
        if (ready) {
            unsigned turn = g.order == SIMT_SHUFFLED ? draw() % WARP : 0; /* start from this lane */
            uint32_t turned = ready >> turn | ready << (WARP - turn) % WARP;
            int bit = g.order == SIMT_REVERSE ? 31 - __builtin_clz(turned) : __builtin_ctz(turned);
            g.current = n;
            return &g.warp[n]->lane[((unsigned)bit + turn) % WARP];
        }
        n = g.order == SIMT_REVERSE ? (n ? n - 1 : last) : (n < last ? n + 1 : 0);
    }
    return NULL;
}

/* The lane to run next. Lanes that yielded are let back when nobody else can run, all at once, so
 * that between two turns of a spin-wait everyone whom it may wait for has a turn. */
static struct lane *next_lane(void) {
    struct lane *next = pick(g.current);
    if (next || !g.yielded) return next;
    for (size_t i = 0; i < g.warps; i++)
        g.warp[i]->ready |= g.warp[i]->yielded, g.warp[i]->yielded = 0;
    g.yielded = 0;
    return pick(g.current);
}

static void run_next(void) {
    struct context *from = &running()->context;
    uint64_t canary;
    memcpy(&canary, from->stack, sizeof canary);
    /* the frame tells of one that is too deep now, the canary of one that was */
    if (canary != CANARY || (char *)__builtin_frame_address(0) < from->stack)
        fail("overran its stack of %d bytes", STACK_BYTES);
    if (++g.counts.switches % SWITCHES_A_LOOK == 0 && g.time_limit > 0 && now() > g.deadline)
        fail("took longer than the limit of %g s", g.time_limit);
    struct lane *next = next_lane();
    if (!next)
        report_stuck();
    else
        simt_self = &next->self;
    if (!next || &next->context != from) switch_context(from, next ? &next->context : &g.host);
}

static void reschedule(void) {
    g.spins = 0;
    run_next();
}

void simt_yield(void) {
    struct warp *w = running()->warp;
    uint32_t me = 1u << lane_of(running());
    g.counts.yields++;
    if (++g.spins > g.spin_limit) {
        char where[100];
        simt_async_waits(where, sizeof where);
        fail("stuck: for %llu turns every thread able to run did nothing but spin%s",
             (unsigned long long)g.spin_limit, where);
    }
    /* shuffled, a thread may be early now and then; it alone, or spinning would breed spinning */
    if (g.order != SIMT_SHUFFLED || draw() % 8) w->ready &= ~me, w->yielded |= me, g.yielded = 1;
    run_next();
}

static void lane_main(void) {
    ASAN(const void *stack; size_t bytes; __sanitizer_finish_switch_fiber(NULL, &stack, &bytes);
         if (!g.host.stack) g.host.stack = (char *)(uintptr_t)stack, g.host.bytes = bytes;)
    for (;;) { /* one turn a block: coroutines outlive blocks and runs */
        g.body(g.args);
        struct lane *me = running();
        me->warp->live &= ~(1u << lane_of(me));
        me->warp->ready &= ~(1u << lane_of(me));
        reschedule();
    }
}

/* Checks a lane's mask and enters it among those that wait, for an exchange (step NULL) or another
 * collective. True when all of the mask are here. */
static int arrive(struct lane *me, unsigned mask, void (*step)(void **, void *)) {
    struct warp *w = me->warp;
    unsigned lane = lane_of(me);
    g.counts.exchanges++, me->self.waits++;
    if (!(mask >> lane & 1)) fail("mask %08x omits the caller", mask);
    if (mask & ~w->live)
        fail("mask %08x names lanes %08x, which have returned or never were", mask,
             mask & ~w->live);
    w->mask[lane] = mask, w->step[lane] = step;
    w->in_warp |= 1u << lane;
    w->ready &= ~(1u << lane);
    if ((w->in_warp & mask) != mask) return 0;
    for (unsigned i = 0; i < WARP; i++) {
        if (!(mask >> i & 1)) continue;
        if (w->mask[i] != mask) fail("mask %08x meets mask %08x", mask, w->mask[i]);
        if (w->step[i] != step) fail("lane %u of the mask waits in another kind of collective", i);
    }
    w->in_warp &= ~mask, w->ready |= mask;
    return 1;
}

uint64_t simt_exchange(unsigned mask, uint64_t value, unsigned source, unsigned *votes) {
    struct lane *me = running();
    struct warp *w = me->warp;
    unsigned lane = lane_of(me);
    w->value[lane] = value, w->source[lane] = source;
    if (arrive(me, mask, NULL)) {
        uint32_t ballot = 0;
        for (unsigned i = 0; i < WARP; i++)
            if (mask >> i & 1) ballot |= (uint32_t)(w->value[i] != 0) << i;
        for (unsigned i = 0; i < WARP; i++) {
            if (!(mask >> i & 1)) continue;
            unsigned from = w->source[i] % WARP; /* a lane outside the mask gives all ones: NaN */
            w->result[i] = mask >> from & 1 ? w->value[from] : ~UINT64_C(0);
            w->votes[i] = ballot;
        }
    }
    reschedule();
    if (votes) *votes = w->votes[lane];
    return w->result[lane];
}

void simt_collective(unsigned mask, void *mine, void (*f)(void **lanes, void *context),
                     void *context) {
    struct lane *me = running();
    struct warp *w = me->warp;
    w->value[lane_of(me)] = (uint64_t)(uintptr_t)mine;
    if (arrive(me, mask, f)) {
        void *lanes[WARP];
        for (unsigned i = 0; i < WARP; i++)
            lanes[i] = mask >> i & 1 ? (void *)(uintptr_t)w->value[i] : NULL;
        f(lanes, context);
    }
    reschedule();
}

void simt_block_sync(void) {
    struct lane *me = running();
    struct block *b = me->warp->block;
    g.counts.block_barriers++, me->self.waits++;
    me->warp->in_block |= 1u << lane_of(me);
    me->warp->ready &= ~(1u << lane_of(me));
    if (++b->waiting == simt_block_dim.x * simt_block_dim.y * simt_block_dim.z) {
        b->waiting = 0;
        for (size_t i = 0; i < g.warps; i++)
            if (g.warp[i]->block == b)
                g.warp[i]->ready |= g.warp[i]->in_block, g.warp[i]->in_block = 0;
    }
    reschedule();
}

void simt_named_sync(unsigned id, unsigned threads) {
    struct lane *me = running();
    struct block *b = me->warp->block;
    unsigned all = simt_block_dim.x * simt_block_dim.y * simt_block_dim.z;
    if (id < 1 || id >= NAMED) fail("named barrier %u; 1 to %d was expected", id, NAMED - 1);
    if (!threads || threads % WARP || threads > (all + WARP - 1) / WARP * WARP)
        fail("named barrier %u for %u threads of %u; whole warps were expected", id, threads, all);
    if (b->named_waiting[id] && b->named_threads[id] != threads)
        fail("named barrier %u for %u threads meets one for %u", id, threads, b->named_threads[id]);
    g.counts.block_barriers++, me->self.waits++;
    b->named_threads[id] = threads;
    me->warp->in_named[id] |= 1u << lane_of(me);
    me->warp->ready &= ~(1u << lane_of(me));
    if (++b->named_waiting[id] == threads) {
        b->named_waiting[id] = 0;
        for (size_t i = 0; i < g.warps; i++)
            if (g.warp[i]->block == b)
                g.warp[i]->ready |= g.warp[i]->in_named[id], g.warp[i]->in_named[id] = 0;
    }
    reschedule();
}

void simt_grid_sync(void) {
    struct lane *me = running();
    g.counts.grid_barriers++, me->self.waits++;
    me->warp->in_grid |= 1u << lane_of(me);
    me->warp->ready &= ~(1u << lane_of(me));
    if (++g.waiting == g.threads) {
        g.waiting = 0;
        for (size_t i = 0; i < g.warps; i++)
            g.warp[i]->ready |= g.warp[i]->in_grid, g.warp[i]->in_grid = 0;
    }
    reschedule();
}

void *simt_shared(const void *site, size_t bytes) {
    struct block *b = running()->warp->block;
    unsigned i = 0;
    while (i < b->sites && b->shared[i].site != site) i++;
    if (i == b->sites) {
        void *data = i < MAX_SHARED ? malloc(bytes) : NULL;
        if (i == MAX_SHARED) fail("more than %d SHARED variables", MAX_SHARED);
        if ((b->declared += bytes) > SHARED_LIMIT)
            fail("%zu bytes of SHARED variables; a GPU has %d for them", b->declared, SHARED_LIMIT);
        if (!data) fail("out of memory for %zu bytes of shared memory", bytes);
        b->shared[b->sites++].site = site, b->shared[i].bytes = bytes;
        b->shared[i].data = memset(data, 0xff, bytes);
    }
    return b->shared[i].data;
}

void *simt_shared_dynamic(void) { return running()->warp->block->dynamic; }

static bool lies_in(const void *p, const void *from, size_t bytes) {
    return (uintptr_t)p - (uintptr_t)from < bytes;
}

void simt_global(const void *p) {
    const struct lane *me = running();
    const struct block *b = me->warp->block;
    bool shared = lies_in(p, b->dynamic, g.dynamic_bytes);
    for (unsigned i = 0; i < b->sites; i++)
        shared |= lies_in(p, b->shared[i].data, b->shared[i].bytes);
    if (shared) fail("an access of global memory is given an address of shared memory");
    if (lies_in(p, me->context.stack, me->context.bytes))
        fail("an access of global memory is given an address of the thread's own variables");
}

static void init_lane(struct lane *lane) {
    struct context *c = &lane->context;
    memcpy(c->stack, &CANARY, sizeof CANARY);
    machine_init(&c->machine, c->stack, c->bytes, lane_main);
}

/* NULL where memory or mappings are short. */
static struct warp *new_warp(void) {
    struct warp *w = calloc(1, sizeof *w);
    size_t bytes = PAGE + (size_t)WARP * STRIDE;
    char *stacks = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!w || stacks == MAP_FAILED || mprotect(stacks, PAGE, PROT_NONE)) {
        if (stacks != MAP_FAILED) munmap(stacks, bytes);
        free(w);
        return NULL;
    }
    for (size_t i = 0; i < WARP; i++) {
        w->lane[i].warp = w;
        w->lane[i].context.stack = stacks + PAGE + i * STRIDE;
        w->lane[i].context.bytes = STACK_BYTES;
        init_lane(&w->lane[i]);
    }
    return w;
}

static void drop_coroutines(void) { /* after a failure they hold half-run kernels */
    for (size_t n = 0; n < g.pool; n++)
        for (unsigned i = 0; i < WARP; i++) {
            ASAN(struct context *c = &g.warp[n]->lane[i].context;
                 ASAN_UNPOISON_MEMORY_REGION(c->stack, c->bytes); c->fake_stack = NULL;)
            init_lane(&g.warp[n]->lane[i]);
        }
}

static void arm_block(struct block *b, struct warp **warp, simt_dim index, unsigned threads) {
    b->index = index, b->waiting = 0;
    memset(b->named_waiting, 0, sizeof b->named_waiting);
    for (unsigned i = 0; i < b->sites; i++) memset(b->shared[i].data, 0xff, b->shared[i].bytes);
    for (unsigned rank = 0; rank < threads; rank++) {
        struct warp *w = warp[rank / WARP];
        unsigned x = simt_block_dim.x, y = simt_block_dim.y;
        if (rank % WARP == 0) {
            w->block = b, w->live = w->yielded = 0;
            w->in_warp = w->in_block = w->in_grid = 0;
            memset(w->in_named, 0, sizeof w->in_named);
        }
        w->lane[rank % WARP].self =
            (simt_thread){{rank % x, rank / x % y, rank / x / y}, index, rank, 0, 0, NULL};
        w->ready = w->live |= 1u << rank % WARP;
    }
}

/* Room for the resident blocks: -1 with an error where there is not enough. */
static int make_room(size_t resident, size_t warps, size_t dynamic_bytes) {
    struct warp **larger =
        realloc(g.warp, (g.warps > g.pool ? g.warps : g.pool) * sizeof(struct warp *));
    if (larger) g.warp = larger;
    g.block = larger ? calloc(resident, sizeof *g.block) : NULL;
    int short_of = !g.block;
    while (!short_of && g.pool < g.warps) {
        struct warp *w = new_warp();
        if (w)
            g.warp[g.pool++] = w;
        else
            short_of = 1;
    }
    for (size_t i = 0; i < resident && !short_of && dynamic_bytes; i++)
        short_of = !(g.block[i].dynamic = malloc(dynamic_bytes));
    if (short_of)
        snprintf(g.error, sizeof g.error,
                 "out of memory or mappings for %zu resident blocks of %zu warps", resident, warps);
    return short_of ? -1 : 0;
}

/* CUDA's limits, each dimension before any product, which then cannot overflow. */
static int dims_are_legal(simt_dim grid, simt_dim block) {
    if (!grid.x || !grid.y || !grid.z || !block.x || !block.y || !block.z) return 0;
    if (grid.x > INT32_MAX || grid.y > 65535 || grid.z > 65535) return 0;
    if (block.x > MAX_THREADS || block.y > MAX_THREADS || block.z > 64) return 0;
    return block.x * block.y * block.z <= MAX_THREADS;
}

int simt_run(simt_dim grid, simt_dim block, size_t dynamic_bytes, int cooperative,
             void (*body)(void *), void *args) {
    g.error[0] = 0;
    g.counts = (struct simt_counts){0};
    if (!dims_are_legal(grid, block)) {
        snprintf(g.error, sizeof g.error,
                 "a launch of (%u,%u,%u) blocks of (%u,%u,%u) threads; a block has 1 to %d", grid.x,
                 grid.y, grid.z, block.x, block.y, block.z, MAX_THREADS);
        return -1;
    }
    size_t blocks = (size_t)grid.x * grid.y * grid.z, resident = cooperative ? blocks : 1;
    size_t threads = (size_t)block.x * block.y * block.z, warps = (threads + WARP - 1) / WARP;
    if (resident > MAX_RESIDENT_WARPS / warps) {
        snprintf(g.error, sizeof g.error,
                 "a cooperative launch of %zu blocks of %zu warps; %d warps can be resident",
                 blocks, warps, MAX_RESIDENT_WARPS);
        return -1;
    }
    g.warps = resident * warps, g.threads = resident * threads;
    g.waiting = 0, g.spins = 0, g.yielded = 0;
    g.deadline = now() + g.time_limit;
    g.body = body, g.args = args, simt_grid_dim = grid, simt_block_dim = block;
    g.dynamic_bytes = dynamic_bytes;
    make_room(resident, warps, dynamic_bytes);

    for (size_t first = 0; first < blocks && !g.error[0]; first += resident) {
        for (size_t i = 0; i < resident; i++) {
            size_t n = first + i;
            if (dynamic_bytes) memset(g.block[i].dynamic, 0xff, dynamic_bytes);
            simt_dim index = {(unsigned)(n % grid.x), (unsigned)(n / grid.x % grid.y),
                              (unsigned)(n / grid.x / grid.y)};
            arm_block(&g.block[i], g.warp + i * warps, index, (unsigned)threads);
        }
        struct lane *start = pick(g.order == SIMT_REVERSE ? g.warps - 1 : 0);
        simt_self = &start->self;
        switch_context(&g.host, &start->context);
        simt_async_end(g.error, sizeof g.error);
    }
    if (g.error[0]) drop_coroutines();
    for (size_t i = 0; g.block && i < resident; i++) {
        for (unsigned k = 0; k < g.block[i].sites; k++) free(g.block[i].shared[k].data);
        free(g.block[i].dynamic);
    }
    free(g.block);
    g.block = NULL;
    return g.error[0] ? -1 : 0;
}
