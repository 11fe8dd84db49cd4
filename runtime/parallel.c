#include "runtime/parallel.h"

#include <pthread.h>
#include <unistd.h>

enum { MOST = 16 };
static int limit; /* 0: the cores */

void parallel_limit(int threads) { limit = threads; }

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
    long threads = limit ? limit : sysconf(_SC_NPROCESSORS_ONLN);
    if (threads > MOST) threads = MOST;
    if (least < 1) least = 1;
    if (threads > count / least) threads = (long)(count / least);
    return threads < 1 ? 1 : (int)threads;
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
