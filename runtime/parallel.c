#include "runtime/parallel.h"

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

enum { MOST = 16 };
static int limit; /* 0: the cores */

void parallel_limit(int threads) { limit = threads; }

int parallel_cores(void) {
    const char *named = getenv("FASTINFER_CORES");
    long cores = named ? atol(named) : 0;
    if (cores < 1) cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 1 : cores > INT_MAX ? INT_MAX : (int)cores;
}

struct piece {
    void (*part)(void *context, int64_t first, int64_t last);
    void *context;
    int64_t first, last;
};

static void *run_piece(void *argument) {
    struct piece *p = argument;
    p->part(p->context, p->first, p->last);
    return NULL;
}

static int pieces_of(int64_t count, int64_t least) {
    int threads = limit ? limit : parallel_cores();
    if (threads > MOST) threads = MOST;
    if (least < 1) least = 1;
    if (threads > count / least) threads = (int)(count / least);
    return threads < 1 ? 1 : threads;
}

void parallel_for(int64_t count, int64_t least,
                  void (*part)(void *context, int64_t first, int64_t last), void *context) {
    int pieces = pieces_of(count, least), started = 0;
    pthread_t thread[MOST];
    struct piece piece[MOST];
    for (int i = 0; i < pieces; i++)
        piece[i] = (struct piece){part, context, count * i / pieces, count * (i + 1) / pieces};
    for (int i = 1; i < pieces; i++)
        if (pthread_create(&thread[started], NULL, run_piece, &piece[i]))
            run_piece(&piece[i]);
        else
            started++;
    run_piece(&piece[0]);
    for (int i = 0; i < started; i++) pthread_join(thread[i], NULL);
}
