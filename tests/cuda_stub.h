/* cuda_stub.h - what the driver that takes notes has seen. */
#ifndef TESTS_CUDA_STUB_H
#define TESTS_CUDA_STUB_H

#include <stdbool.h>

#include "runtime/cuda_api.h"

#define STUB_GUEST ((CUcontext)(uintptr_t)0xa) /* current when the program begins */
#define STUB_PRIMARY ((CUcontext)(uintptr_t)0xb)
#define STUB_OWN_STREAM ((CUstream)(uintptr_t)0x100)

struct stub {
    CUcontext context;                   /* the current one */
    bool eager;                          /* cuInit saw a wish for eager loading */
    int loads, unloads, waits, launches; /* loads and unloads: in the primary context */
    char entry[64];
    /* the last launch of rmsnorm */
    unsigned grid, block;
    CUstream stream;
    bool in_primary;
    uint64_t param[4]; /* y, x, weight, rows */
    float eps;
    CUresult fail; /* what the next launches answer */
};
extern struct stub stub;

#endif
