/* simt_trace.h - counts a kernel's accesses to global memory on the CPU device.
 *
 * Code compiled for it (target CPU_COUNTED, see compile.h) calls a function before each load and
 * store: the compiler's own instrumentation for race detection, answered by simt_hooks.h.
 */
#ifndef FASTINFER_SIMT_TRACE_H
#define FASTINFER_SIMT_TRACE_H

#include <stddef.h>
#include <stdint.h>

/* bytes: asked for by all threads. sectors: different 32-byte sectors touched by a warp between
 * two waits of its threads, added up: what coalescing leaves of the bytes. Both are exact and the
 * same run after run, on every machine and schedule. */
struct simt_traffic {
    uint64_t bytes, sectors;
};

void simt_trace_begin(void);
struct simt_traffic simt_trace_end(void);
/* What counts as global memory. A range is forgotten by its start. */
void simt_trace_add(const void *start, size_t bytes);
void simt_trace_remove(const void *start);
/* A load or store by the running thread; simt_hooks.h calls it. */
void simt_trace_touch(const void *address, size_t bytes);

#endif
