/* pool.h - worker processes: the program started again as `fastinfer worker`, spoken to in JSON.
 *
 * A frame is a 4-byte length (host order) and that many bytes of JSON, over a socketpair. A worker
 * answers each request with one frame: {"ok": true, ...} or {"ok": false, "status": S,
 * "message": M}; with "last": true it will serve no more (its device's context is broken) and is
 * replaced. A worker that dies takes nothing with it but the request it was working on.
 */
#ifndef FASTINFER_POOL_H
#define FASTINFER_POOL_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "runtime/status.h"

enum { MAX_WORKERS = 64 };

struct worker {
    pid_t pid;
    int fd;
    bool busy, opened;
    double deadline_s; /* of the request it works on, monotonic seconds */
    double started_s;
    int errors;      /* a file without a name that its stderr goes to; what is there is said when
                        it dies */
    void *job;       /* the caller's */
    char device[16]; /* "cuda:0", "cpu", or "" for one that only compiles */
};

struct pool {
    struct worker worker[MAX_WORKERS];
    int count;
    struct worker standby; /* started and opened, to take the place of one that dies; pid 0: none */
    char *open_request;    /* what a worker that has a device is sent first, and again if it dies */
};

/* Adds `count` workers; device "" makes compile-only ones. */
enum status pool_add(struct pool *pool, const char *device, int count);
/* Starts a worker for `device` that waits with its device opened, so that a death costs no start of
 * the driver. A new one takes its place when it is needed. */
enum status pool_standby(struct pool *pool, const char *device);
void pool_close(struct pool *pool);
/* Sends a request (its reference is taken) to an idle worker. */
enum status pool_send(struct pool *pool, int worker, json_t *request, void *job, double seconds);
/* Waits up to `seconds` for an answer. *worker is -1 when none came. A worker that died or went
 * over its time is started anew and *reply tells of it as a failed request ("crash", "timeout").
 * The caller owns *reply. */
enum status pool_wait(struct pool *pool, double seconds, int *worker, json_t **reply, void **job);

/* Sends a request and waits for its answer, while no other worker is busy. A failed request's
 * status and sentence become the function's own, and *reply NULL. */
enum status pool_ask(struct pool *pool, int worker, json_t *request, double seconds,
                     json_t **reply);

/* Frames, for both ends. STATUS_CRASH when the other end is gone. */
enum status frame_write(int fd, const json_t *json);
enum status frame_read(int fd, json_t **out);

#endif
