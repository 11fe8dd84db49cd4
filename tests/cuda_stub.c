/* cuda_stub.c - a libcuda.so.1 for machines without a GPU: one Tesla T4 that takes notes and runs
 * nothing. Compiled twice: with REST for what needs no answer. */
#include "tests/cuda_stub.h"

#include <stdlib.h>
#include <string.h>

#ifdef REST

#define X(name, params)                                                                            \
    __attribute__((weak)) CUresult name params;                                                    \
    __attribute__((weak)) CUresult name params { return CUDA_SUCCESS; }
CUDA_LIST(X)
#undef X

#else

#define X(name, params) CUresult name params;
CUDA_LIST(X)
#undef X

struct stub stub = {.context = STUB_GUEST};

CUresult cuInit(unsigned flags) {
    (void)flags;
    stub.eager = getenv("CUDA_MODULE_LOADING") != NULL;
    return CUDA_SUCCESS;
}
CUresult cuDriverGetVersion(int *version) {
    *version = 13000;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetCount(int *count) {
    *count = 1;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char *name, int bytes, CUdevice device) {
    (void)device;
    strncpy(name, "Tesla T4", (size_t)bytes);
    return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
    (void)device;
    *bytes = (size_t)15 << 30;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
    (void)device;
    *value = attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR               ? 7
             : attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR             ? 5
             : attribute == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT                 ? 40
             : attribute == CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR     ? 65536
             : attribute == CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN    ? 65536
             : attribute == CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR ? 65536
                                                                                     : 1024;
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    (void)device;
    *context = STUB_PRIMARY;
    return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext *context) {
    *context = stub.context;
    return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext context) {
    stub.context = context;
    return CUDA_SUCCESS;
}
CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
    (void)flags;
    *stream = STUB_OWN_STREAM;
    return CUDA_SUCCESS;
}
CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    *module = (CUmodule)(uintptr_t)0x300;
    stub.loads += !memcmp(image, "\177ELF", 4) && stub.context == STUB_PRIMARY;
    return CUDA_SUCCESS;
}
CUresult cuModuleUnload(CUmodule module) {
    (void)module;
    stub.unloads += stub.context == STUB_PRIMARY;
    return CUDA_SUCCESS;
}
CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    (void)module;
    strncpy(stub.entry, name, sizeof stub.entry - 1);
    *function = (CUfunction)(uintptr_t)0x400;
    return CUDA_SUCCESS;
}
CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes) {
    (void)bytes;
    *pointer = 0x1000;
    stub.waits++;
    return CUDA_SUCCESS;
}
CUresult cuStreamSynchronize(CUstream stream) {
    (void)stream;
    stub.waits++;
    return CUDA_SUCCESS;
}
CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                        unsigned by, unsigned bz, unsigned shared_bytes, CUstream stream,
                        void **params, void **extra) {
    (void)function, (void)gy, (void)gz, (void)by, (void)bz, (void)shared_bytes, (void)extra;
    stub.launches++;
    stub.grid = gx, stub.block = bx, stub.stream = stream;
    stub.in_primary = stub.context == STUB_PRIMARY;
    for (int i = 0; i < 4; i++) memcpy(&stub.param[i], params[i], sizeof stub.param[i]);
    memcpy(&stub.eps, params[4], sizeof stub.eps);
    return stub.fail;
}

#endif
