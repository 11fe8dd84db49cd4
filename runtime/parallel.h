/* parallel.h - one loop on several cores, for what the host has to work out: inputs, references. */
#ifndef FASTINFER_PARALLEL_H
#define FASTINFER_PARALLEL_H

#include <stdint.h>

/* Calls `part` for all indices 0 .. count - 1 (it does first .. last - 1), cut into
 * one piece a core of `least` indices or more (16 cores at most), and comes back when all is done.
 * Which piece an index is in depends on the machine, so a result must not: each index writes its
 * own. A thread that cannot be started costs time only. */
void parallel_for(int64_t count, int64_t least,
                  void (*part)(void *context, int64_t first, int64_t last), void *context);

/* Cores to work on: $FASTINFER_CORES where that is a number over 0, else those of the machine. */
int parallel_cores(void);

/* How many threads parallel_for() may use from now on, for tests; 0: as many as there are cores. */
void parallel_limit(int threads);

#endif
