/* simt_run.h - CUDA threads as coroutines on one host thread: the C side of simt.h.
 *
 * State is global: a process runs one launch at a time, from one thread. Use several processes to
 * use several cores.
 */
#ifndef FASTINFER_SIMT_RUN_H
#define FASTINFER_SIMT_RUN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct simt_dim {
    unsigned x, y, z;
} simt_dim;
typedef struct simt_thread {
    simt_dim thread_idx, block_idx;
    unsigned rank;        /* within the block */
    unsigned waits;       /* collectives and barriers that it has come to */
    unsigned fenced;      /* since its last group of bulk copies */
    const void *waits_at; /* the barrier in shared memory at which it waits */
} simt_thread;
enum simt_order { SIMT_FORWARD, SIMT_REVERSE, SIMT_SHUFFLED };

extern simt_thread *simt_self; /* the CUDA thread now running */
extern simt_dim simt_block_dim, simt_grid_dim;

/* Runs body(args) once for each thread of the grid, block after block, or, where cooperative, with
 * all blocks resident at once. Returns 0, or -1 where memory is short or the kernel broke a rule
 * that a GPU would answer with a hang or with garbage; simt_error() then says which. */
int simt_run(simt_dim grid, simt_dim block, size_t dynamic_bytes, int cooperative,
             void (*body)(void *), void *args);
const char *simt_error(void);

/* Which runnable thread goes first after a wait. A result that depends on it shows a data race. */
void simt_schedule(enum simt_order order, uint64_t seed);

/* What the last launch did. Barriers and warp collectives (exchanges) are counted by the thread
 * that arrives; switches are the times that a thread stopped for others, in a wait, a yield or at
 * its end. */
struct simt_counts {
    uint64_t block_barriers, grid_barriers, exchanges, yields, switches;
};
struct simt_counts simt_counts(void);

/* How often in a row threads may only yield before a launch is called stuck (default 20 million;
 * any other wait, and any return, starts the count anew). */
void simt_spin_limit(uint64_t turns);
/* Ends later launches that take longer; 0, the default, is no limit. It is looked at where threads
 * wait or yield: a loop that does neither is not ended. */
void simt_time_limit(double seconds);

/* --- what simt.h is made of ----------------------------------------------------------------- */

void simt_block_sync(void);
void simt_grid_sync(void);
/* Named barrier `id` of a block (1 to 15), for `threads` of its threads: whole warps. */
void simt_named_sync(unsigned id, unsigned threads);
/* Lets every other thread that can run have a turn; each turn of a spin-wait calls it. */
void simt_yield(void);
/* `value` of lane `source` of the warp, when all lanes of `mask` have come here with the same
 * mask. *votes, where not NULL: bit i is whether lane i's value was not 0. */
uint64_t simt_exchange(unsigned mask, uint64_t value, unsigned source, unsigned *votes);
/* A collective of the whole mask: the last lane to come runs f(lanes, context), where lanes[i] is
 * the `mine` of lane i (NULL outside the mask); then all go on. All lanes must bring the same f. */
void simt_collective(unsigned mask, void *mine, void (*f)(void **lanes, void *context),
                     void *context);

/* Barriers in shared memory that count arrivals and bytes (PTX's mbarrier), and copies that make
 * bytes arrive (cp.async.bulk). A phase is over when `count` threads have arrived and all bytes
 * that were expected have come; the next one, of the other parity, then begins.
 *
 * A copy spoils what it will overwrite at once and reads its source as late as it may, when its
 * barrier or group is waited for, one copy after the other and none beyond what the phase waits
 * for. Under the reverse schedule it is all done at once, as early as it may; shuffled, by chance.
 */
void simt_barrier_init(uint64_t *barrier, unsigned count);
void simt_barrier_fence(void); /* the caller's barriers may now be named by copies */
void simt_barrier_arrive(uint64_t *barrier, size_t expected_bytes);
int simt_barrier_passed(uint64_t *barrier, unsigned parity); /* is the phase of this parity over? */
void simt_bulk_load(void *to, const void *from, size_t bytes, uint64_t *barrier);
/* Copies out of shared memory, in groups of a thread. Each group follows a fence. */
void simt_async_fence(void);
void simt_bulk_store(void *to, const void *from, size_t bytes);
void simt_bulk_commit(void);
void simt_bulk_wait(unsigned groups); /* for all of the caller's groups but so many, the latest */
/* A thread's copy of 16 bytes into shared memory, or so many zeros where bytes is 0; and a wait for
 * all of them. */
void simt_copy(void *to, const void *from, size_t bytes);
void simt_copy_wait(void);
/* The end of a block: what is still on its way is a mistake, written to `error` if that is "". */
void simt_async_end(char *error, size_t bytes);
/* At which barrier the running thread waits, and what for; "" where it does not. */
void simt_async_waits(char *out, size_t bytes);
unsigned simt_draw(void); /* the schedule's chance */
void simt_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
enum simt_order simt_order(void);

void *simt_shared(const void *site, size_t bytes); /* 0xff-filled anew for each block */
void *simt_shared_dynamic(void);
void simt_global(const void *p); /* fails the launch where p is shared or the thread's own memory */

#ifdef __cplusplus
}
#endif
#endif
