/* clock.h - the host's monotonic clock. */
#ifndef FASTINFER_CLOCK_H
#define FASTINFER_CLOCK_H

#include <time.h>

/* Seconds since some fixed instant; for differences. */
static inline double clock_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

#endif
