// ptx.cuh - each PTX word that kernels use, beside its model for a host compiler.
//
// Cache hints change where a line is kept, never what is read: their model is a plain access.
#ifndef KERNELS_PTX_CUH
#define KERNELS_PTX_CUH

#include "runtime/simt.h"

// Reads through the read-only path, leaving nothing in L1. The memory must not be written while
// the kernel runs.
#ifdef __CUDACC__
DEVICE uint4 ptx_load_no_allocate(const uint4 *p) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}
DEVICE uint2 ptx_load_no_allocate(const uint2 *p) {
    uint2 v;
    asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];"
                 : "=r"(v.x), "=r"(v.y)
                 : "l"(p));
    return v;
}
DEVICE unsigned ptx_load_no_allocate(const unsigned *p) {
    unsigned v;
    asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(v) : "l"(p));
    return v;
}
DEVICE unsigned short ptx_load_no_allocate(const unsigned short *p) {
    unsigned short v;
    asm volatile("ld.global.nc.L1::no_allocate.u16 %0, [%1];" : "=h"(v) : "l"(p));
    return v;
}
// Has memory read into L2 without waiting for it.
DEVICE void ptx_prefetch_l2(const void *p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }
#else
DEVICE void ptx_prefetch_l2(const void *) {}
template <class T> DEVICE T ptx_load_no_allocate(const T *p) { return *p; }
#endif

#endif
