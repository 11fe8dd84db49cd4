/* nvtx.h - named ranges for profilers (Nsight, or whatever NVTX_INJECTION64_PATH names). Free where
 * nobody listens; nothing at all where NVTX's header was not there at build time. */
#ifndef FASTINFER_NVTX_H
#define FASTINFER_NVTX_H

void nvtx_push(const char *format, ...) __attribute__((format(printf, 1, 2)));
void nvtx_pop(void);

#endif
