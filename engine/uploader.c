/* uploader.c - two halves of pinned memory in turn: one is filled while the other is on its way. */
#include "engine/uploader.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HALF_BYTES = 16 << 20, MAX_THREADS = 8, PAGE = 4096 };

struct uploader {
    struct device *device;
    char *half[2];
    int turn;
    const char *from; /* what is to be copied into half[turn], in `count` parts: ours is 0 */
    size_t bytes;
    pthread_t threads[MAX_THREADS];
    int count;
    pthread_mutex_t lock;
    pthread_cond_t begin, end;
    unsigned round; /* of copying */
    int left;       /* of the others' parts */
    bool over;
};

/* In whole pages. */
static void copy_part(struct uploader *u, int index) {
    size_t pages = (u->bytes + PAGE - 1) / PAGE, n = (size_t)u->count, i = (size_t)index;
    size_t first = pages * i / n * PAGE, last = pages * (i + 1) / n * PAGE;
    if (last > u->bytes) last = u->bytes;
    if (first < last) memcpy(u->half[u->turn] + first, u->from + first, last - first);
}

struct helper {
    struct uploader *uploader;
    int index;
};

static void *help(void *argument) {
    struct helper helper = *(struct helper *)argument;
    struct uploader *u = helper.uploader;
    unsigned seen = 0;
    free(argument);
    pthread_mutex_lock(&u->lock);
    for (;;) {
        while (u->round == seen && !u->over) pthread_cond_wait(&u->begin, &u->lock);
        if (u->over) break;
        seen = u->round;
        pthread_mutex_unlock(&u->lock);
        copy_part(u, helper.index);
        pthread_mutex_lock(&u->lock);
        if (!--u->left) pthread_cond_signal(&u->end);
    }
    pthread_mutex_unlock(&u->lock);
    return NULL;
}

/* All parts of u->bytes at u->from. */
static void copy_all(struct uploader *u) {
    pthread_mutex_lock(&u->lock);
    u->round++, u->left = u->count - 1;
    pthread_cond_broadcast(&u->begin);
    pthread_mutex_unlock(&u->lock);
    copy_part(u, 0);
    pthread_mutex_lock(&u->lock);
    while (u->left) pthread_cond_wait(&u->end, &u->lock);
    pthread_mutex_unlock(&u->lock);
}

/* A thread that cannot be had is done without. */
static enum status start(struct uploader *u) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    for (int i = 0; i < 2; i++) {
        void *half;
        TRY(u->device->ops->host_allocate(u->device, HALF_BYTES, &half));
        u->half[i] = half;
    }
    for (u->count = 1; u->count < cores && u->count < MAX_THREADS; u->count++) {
        struct helper *helper = malloc(sizeof *helper);
        if (helper) *helper = (struct helper){u, u->count};
        if (!helper || pthread_create(&u->threads[u->count], NULL, help, helper))
            return free(helper), STATUS_OK;
    }
    return STATUS_OK;
}

enum status uploader_open(struct device *device, struct uploader **out) {
    struct uploader *u = calloc(1, sizeof *u);
    if (!u) return fail(STATUS_SYSTEM, "out of memory");
    u->device = device;
    pthread_mutex_init(&u->lock, NULL);
    pthread_cond_init(&u->begin, NULL), pthread_cond_init(&u->end, NULL);
    enum status status = start(u);
    if (status)
        uploader_close(u);
    else
        *out = u;
    return status;
}

void uploader_close(struct uploader *u) {
    if (!u) return;
    u->device->ops->synchronize(u->device);
    pthread_mutex_lock(&u->lock);
    u->over = true;
    pthread_cond_broadcast(&u->begin);
    pthread_mutex_unlock(&u->lock);
    for (int i = 1; i < u->count; i++) pthread_join(u->threads[i], NULL);
    pthread_cond_destroy(&u->begin), pthread_cond_destroy(&u->end);
    pthread_mutex_destroy(&u->lock);
    for (int i = 0; i < 2; i++)
        if (u->half[i]) u->device->ops->host_release(u->device, u->half[i]);
    free(u);
}

enum status uploader_put(struct uploader *u, void *to, const void *from, size_t bytes) {
    for (size_t done = 0; done < bytes; done += u->bytes) {
        u->from = (const char *)from + done;
        u->bytes = bytes - done < HALF_BYTES ? bytes - done : HALF_BYTES;
        copy_all(u);
        TRY(u->device->ops->synchronize(u->device)); /* the other half has gone */
        TRY(u->device->ops->upload_begin(u->device, (char *)to + done, u->half[u->turn], u->bytes));
        u->turn ^= 1;
    }
    return STATUS_OK;
}
