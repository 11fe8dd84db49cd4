#include "harness/pool.h"
#include "runtime/clock.h"
#include "runtime/json_text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static bool write_all(int fd, const void *data, size_t bytes) {
    for (const char *at = data; bytes;) {
        ssize_t n = send(fd, at, bytes, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n, bytes -= (size_t)n;
    }
    return true;
}

static bool read_all(int fd, void *data, size_t bytes) {
    for (char *at = data; bytes;) {
        ssize_t n = read(fd, at, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n, bytes -= (size_t)n;
    }
    return true;
}

enum status frame_write(int fd, const json_t *json) {
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    if (!text) return fail(STATUS_FORMAT, "a message could not be written as JSON");
    uint32_t bytes = (uint32_t)strlen(text);
    bool sent = write_all(fd, &bytes, sizeof bytes) && write_all(fd, text, bytes);
    free(text);
    return sent ? STATUS_OK : fail(STATUS_CRASH, "the other process is gone");
}

enum status frame_read(int fd, json_t **out) {
    enum { MOST = 64 << 20 };
    uint32_t bytes;
    json_error_t error;
    *out = NULL;
    if (!read_all(fd, &bytes, sizeof bytes)) return fail(STATUS_CRASH, "the other process is gone");
    if (bytes > MOST) return fail(STATUS_FORMAT, "a message of %u bytes is too long", bytes);
    char *text = malloc(bytes + 1u);
    if (!text) return fail(STATUS_SYSTEM, "out of memory");
    bool whole = read_all(fd, text, bytes);
    if (whole) *out = json_loadb(text, bytes, 0, &error);
    free(text);
    if (!whole) return fail(STATUS_CRASH, "the other process is gone");
    return *out ? STATUS_OK : fail(STATUS_FORMAT, "a message is no JSON: %s", error.text);
}

static enum status start(struct worker *w) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return fail(STATUS_SYSTEM, "no socketpair for a worker: %s", strerror(errno));
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pair[1], 3); /* the worker finds it there */
    w->errors = memfd_create("stderr", MFD_CLOEXEC);
    if (w->errors >= 0) posix_spawn_file_actions_adddup2(&actions, w->errors, 2);
    const char *argv[] = {"fastinfer", "worker", NULL};
    const char *program = getenv("FASTINFER_PROGRAM"); /* tests run the worker of another program */
    int error = posix_spawn(&w->pid, program ? program : "/proc/self/exe", &actions, NULL,
                            (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(pair[1]);
    if (error) {
        close(pair[0]);
        if (w->errors >= 0) close(w->errors);
        return fail(STATUS_SYSTEM, "a worker could not be started: %s", strerror(error));
    }
    w->fd = pair[0];
    w->busy = w->opened = false;
    return STATUS_OK;
}

/* The end of what the worker wrote to stderr, its last lines on one. */
static void read_errors(const struct worker *w, char *out, size_t bytes) {
    off_t end = w->errors < 0 ? 0 : lseek(w->errors, 0, SEEK_END);
    off_t from = end > (off_t)bytes - 1 ? end - (off_t)bytes + 1 : 0;
    ssize_t n = end > 0 ? pread(w->errors, out, (size_t)(end - from), from) : 0;
    out[n > 0 ? n : 0] = 0;
    for (char *at = out; *at; at++)
        if (*at == '\n') *at = at[1] ? '|' : 0;
}

static void stop(struct worker *w, int signal, int *state) {
    if (signal) kill(w->pid, signal);
    close(w->fd);
    while (waitpid(w->pid, state, 0) < 0 && errno == EINTR) {
    }
    if (w->errors >= 0) close(w->errors);
}

/* Stops one whose work is done; what it had to say is passed on. */
static void dismiss(struct worker *w, int signal) {
    char said[1024];
    int state, errors = w->errors;
    w->errors = -1;
    stop(w, signal, &state);
    w->errors = errors;
    read_errors(w, said, sizeof said);
    if (said[0] && !signal) fprintf(stderr, "%s\n", said);
    if (errors >= 0) close(errors);
}

enum status pool_add(struct pool *pool, const char *device, int count) {
    for (int i = 0; i < count && pool->count < MAX_WORKERS; i++) {
        struct worker *w = &pool->worker[pool->count];
        *w = (struct worker){0};
        snprintf(w->device, sizeof w->device, "%s", device);
        TRY(start(w));
        pool->count++;
    }
    return STATUS_OK;
}

void pool_close(struct pool *pool) {
    for (int i = 0; i < pool->count; i++)
        dismiss(&pool->worker[i], pool->worker[i].busy ? SIGKILL : 0);
    if (pool->standby.pid) dismiss(&pool->standby, SIGKILL);
    free(pool->open_request);
    *pool = (struct pool){0};
}

enum status pool_ask(struct pool *pool, int worker, json_t *request, double seconds,
                     json_t **reply) {
    int who = -1;
    void *job;
    *reply = NULL;
    TRY(pool_send(pool, worker, request, NULL, seconds));
    while (who < 0) TRY(pool_wait(pool, 1, &who, reply, &job));
    if (json_is_true(json_object_get(*reply, "ok"))) return STATUS_OK;
    enum status status = status_parse(json_text(*reply, "status"));
    fail(status, "%s", json_text(*reply, "message"));
    json_decref(*reply);
    *reply = NULL;
    return status;
}

/* A worker with a device opens it before its first request; the answer is read with that one's. */
static enum status open_first(struct pool *pool, struct worker *w) {
    if (w->opened || !w->device[0] || !pool->open_request) return STATUS_OK;
    json_t *request = json_loads(pool->open_request, 0, NULL);
    json_object_set_new(request, "device", json_string(w->device));
    enum status status = frame_write(w->fd, request);
    json_decref(request);
    w->opened = true;
    return status;
}

enum status pool_send(struct pool *pool, int worker, json_t *request, void *job, double seconds) {
    struct worker *w = &pool->worker[worker];
    enum status status = open_first(pool, w);
    if (!status) status = frame_write(w->fd, request);
    json_decref(request);
    w->busy = true, w->job = job;
    w->started_s = clock_seconds();
    w->deadline_s = w->started_s + seconds;
    return status == STATUS_CRASH ? STATUS_OK : status; /* pool_wait will find it dead */
}

static json_t *failure(const char *status, const char *message) {
    return json_pack("{s:b, s:s, s:s}", "ok", 0, "status", status, "message", message);
}

enum status pool_standby(struct pool *pool, const char *device) {
    struct worker *w = &pool->standby;
    *w = (struct worker){0};
    snprintf(w->device, sizeof w->device, "%s", device);
    TRY(start(w));
    enum status status = open_first(pool, w);
    json_t *request = json_pack("{s:s}", "op", "warm"); /* answered by silence */
    if (!status) status = frame_write(w->fd, request);
    json_decref(request);
    return status;
}

/* Another worker in the place of one that is gone: the one standing by, where it is of use. */
static enum status replace(struct pool *pool, struct worker *w) {
    if (!pool->standby.pid || strcmp(pool->standby.device, w->device) != 0) return start(w);
    *w = pool->standby;
    pool->standby.pid = 0;
    return pool_standby(pool, w->device);
}

/* The end of a worker: what it was doing failed, and another takes its place. */
static enum status bury(struct pool *pool, struct worker *w, bool timeout, json_t **reply) {
    char message[800], said[400];
    int state = 0, errors = w->errors;
    w->errors = -1;
    stop(w, timeout ? SIGKILL : 0, &state);
    w->errors = errors;
    read_errors(w, said, sizeof said);
    if (errors >= 0) close(errors);
    if (timeout)
        snprintf(message, sizeof message, "not done within %.3g s; the worker was stopped",
                 w->deadline_s - w->started_s);
    else if (WIFSIGNALED(state))
        snprintf(message, sizeof message, "the worker died of signal %d (%s)", WTERMSIG(state),
                 strsignal(WTERMSIG(state)));
    else
        snprintf(message, sizeof message, "the worker ended with exit code %d", WEXITSTATUS(state));
    size_t n = strlen(message);
    if (said[0]) snprintf(message + n, sizeof message - n, "; it said: %s", said);
    *reply = failure(timeout ? "timeout" : "crash", message);
    return replace(pool, w);
}

enum status pool_wait(struct pool *pool, double seconds, int *worker, json_t **reply, void **job) {
    struct pollfd fds[MAX_WORKERS];
    int index[MAX_WORKERS], count = 0;
    double now = clock_seconds(), until = now + seconds;
    *worker = -1, *reply = NULL;
    for (int i = 0; i < pool->count; i++) {
        if (!pool->worker[i].busy) continue;
        if (pool->worker[i].deadline_s < until) until = pool->worker[i].deadline_s;
        fds[count] = (struct pollfd){.fd = pool->worker[i].fd, .events = POLLIN};
        index[count++] = i;
    }
    if (!count) return STATUS_OK;
    int ready = poll(fds, (nfds_t)count, until > now ? (int)((until - now) * 1e3) + 1 : 0);
    if (ready < 0 && errno != EINTR) return fail(STATUS_SYSTEM, "poll: %s", strerror(errno));
    for (int k = 0; k < count; k++) {
        struct worker *w = &pool->worker[index[k]];
        bool late = clock_seconds() > w->deadline_s;
        if (ready <= 0 ? !late : !fds[k].revents && !late) continue;
        *worker = index[k], *job = w->job;
        w->busy = false;
        if (!fds[k].revents) return bury(pool, w, true, reply);
        enum status status = frame_read(w->fd, reply);
        if (status == STATUS_CRASH) return bury(pool, w, false, reply);
        if (status || !json_is_true(json_object_get(*reply, "last"))) return status;
        dismiss(w, SIGKILL);
        return replace(pool, w);
    }
    return STATUS_OK;
}
