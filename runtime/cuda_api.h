/* cuda_api.h - the few words of the CUDA driver, NVRTC and NVML that are used, opened at run time.
 *
 * Declared here so that the program builds on a machine without the CUDA toolkit and starts on one
 * without a driver. Names, values and signatures are those of the public headers cuda.h, nvrtc.h
 * and nvml.h; versioned symbols (_v2) are the ones those headers map to.
 */
#ifndef FASTINFER_CUDA_API_H
#define FASTINFER_CUDA_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/status.h"

typedef int CUresult, CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;

enum {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_INVALID_PTX = 218,
    CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES = 701,
    CUDA_ERROR_LAUNCH_TIMEOUT = 702,

    CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 1,
    CU_DEVICE_ATTRIBUTE_CLOCK_RATE = 13,
    CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
    CU_DEVICE_ATTRIBUTE_ECC_ENABLED = 32,
    CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE = 36,
    CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH = 37,
    CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE = 38,
    CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR = 39,
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
    CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR = 81,
    CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR = 82,
    CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97,

    CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8,
    CU_STREAM_NON_BLOCKING = 1,
    CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1,
    CU_MEMHOSTALLOC_DEVICEMAP = 2,
};

/* X(result, name, parameters): the driver, libcuda.so.1 */
#define CUDA_LIST(X)                                                                               \
    X(cuInit, (unsigned flags))                                                                    \
    X(cuDriverGetVersion, (int *version))                                                          \
    X(cuGetErrorName, (CUresult error, const char **text))                                         \
    X(cuGetErrorString, (CUresult error, const char **text))                                       \
    X(cuDeviceGetCount, (int *count))                                                              \
    X(cuDeviceGet, (CUdevice * device, int ordinal))                                               \
    X(cuDeviceGetName, (char *name, int bytes, CUdevice device))                                   \
    X(cuDeviceGetAttribute, (int *value, int attribute, CUdevice device))                          \
    X(cuDeviceTotalMem_v2, (size_t * bytes, CUdevice device))                                      \
    X(cuDeviceGetPCIBusId, (char *text, int bytes, CUdevice device))                               \
    X(cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device))                            \
    X(cuDevicePrimaryCtxRelease_v2, (CUdevice device))                                             \
    X(cuCtxGetCurrent, (CUcontext * context))                                                      \
    X(cuCtxSetCurrent, (CUcontext context))                                                        \
    X(cuCtxSynchronize, (void))                                                                    \
    X(cuMemAlloc_v2, (CUdeviceptr * pointer, size_t bytes))                                        \
    X(cuMemFree_v2, (CUdeviceptr pointer))                                                         \
    X(cuMemGetInfo_v2, (size_t * free_bytes, size_t * total_bytes))                                \
    X(cuMemHostAlloc, (void **pointer, size_t bytes, unsigned flags))                              \
    X(cuMemHostGetDevicePointer_v2, (CUdeviceptr * device, void *host, unsigned flags))            \
    X(cuMemFreeHost, (void *pointer))                                                              \
    X(cuMemcpyHtoD_v2, (CUdeviceptr to, const void *from, size_t bytes))                           \
    X(cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void *from, size_t bytes, CUstream stream))     \
    X(cuMemcpyDtoH_v2, (void *to, CUdeviceptr from, size_t bytes))                                 \
    X(cuMemcpyDtoDAsync_v2, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream))     \
    X(cuMemsetD8Async, (CUdeviceptr to, unsigned char byte, size_t bytes, CUstream stream))        \
    X(cuModuleLoadData, (CUmodule * module, const void *image))                                    \
    X(cuModuleUnload, (CUmodule module))                                                           \
    X(cuModuleGetFunction, (CUfunction * function, CUmodule module, const char *name))             \
    X(cuFuncSetAttribute, (CUfunction function, int attribute, int value))                         \
    X(cuOccupancyMaxActiveBlocksPerMultiprocessor,                                                 \
      (int *blocks, CUfunction function, int threads, size_t shared_bytes))                        \
    X(cuLaunchKernel, (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,     \
                       unsigned block_x, unsigned block_y, unsigned block_z,                       \
                       unsigned shared_bytes, CUstream stream, void **params, void **extra))       \
    X(cuLaunchCooperativeKernel,                                                                   \
      (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,   \
       unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void **params)) \
    X(cuStreamCreate, (CUstream * stream, unsigned flags))                                         \
    X(cuStreamDestroy_v2, (CUstream stream))                                                       \
    X(cuStreamSynchronize, (CUstream stream))                                                      \
    X(cuStreamBeginCapture_v2, (CUstream stream, int mode))                                        \
    X(cuStreamEndCapture, (CUstream stream, CUgraph * graph))                                      \
    X(cuGraphInstantiateWithFlags, (CUgraphExec * exec, CUgraph graph, unsigned long long flags))  \
    X(cuGraphLaunch, (CUgraphExec exec, CUstream stream))                                          \
    X(cuGraphUpload, (CUgraphExec exec, CUstream stream))                                          \
    X(cuGraphExecDestroy, (CUgraphExec exec))                                                      \
    X(cuGraphDestroy, (CUgraph graph))                                                             \
    X(cuEventCreate, (CUevent * event, unsigned flags))                                            \
    X(cuEventDestroy_v2, (CUevent event))                                                          \
    X(cuEventRecord, (CUevent event, CUstream stream))                                             \
    X(cuEventSynchronize, (CUevent event))                                                         \
    X(cuEventElapsedTime, (float *ms, CUevent first, CUevent last))

struct cuda_api {
#define X(name, params) CUresult(*name) params;
    CUDA_LIST(X)
#undef X
};

/* The driver's functions, opened and initialised once; NULL with the reason in fail_message(). */
const struct cuda_api *cuda_api(void);
/* Turns a failed call into a status with CUDA's own name and words for it. */
enum status cuda_fail(CUresult result, const char *call);

typedef struct nvrtc_program *nvrtcProgram;
#define NVRTC_LIST(X)                                                                              \
    X(int, nvrtcVersion, (int *major, int *minor))                                                 \
    X(int, nvrtcCreateProgram,                                                                     \
      (nvrtcProgram * program, const char *source, const char *name, int header_count,             \
       const char *const *headers, const char *const *header_names))                               \
    X(int, nvrtcDestroyProgram, (nvrtcProgram * program))                                          \
    X(int, nvrtcCompileProgram, (nvrtcProgram program, int count, const char *const *options))     \
    X(int, nvrtcGetCUBINSize, (nvrtcProgram program, size_t * bytes))                              \
    X(int, nvrtcGetCUBIN, (nvrtcProgram program, char *cubin))                                     \
    X(int, nvrtcGetProgramLogSize, (nvrtcProgram program, size_t * bytes))                         \
    X(int, nvrtcGetProgramLog, (nvrtcProgram program, char *log))                                  \
    X(const char *, nvrtcGetErrorString, (int result))

struct nvrtc_api {
#define X(type, name, params) type(*name) params;
    NVRTC_LIST(X)
#undef X
    int major, minor;
    char path[512];
};

/* The newest NVRTC found that suits the driver (any, without a driver); NULL with the reason and
 * the package to install in fail_message(). $FASTINFER_NVRTC names one to use instead. */
const struct nvrtc_api *nvrtc_api(void);
/* Calls visit with each file of that name (a glob pattern) where toolkits, distributions and
 * PyPI's wheels put CUDA's libraries, until it returns true: true, then. */
bool cuda_libraries(const char *file, bool (*visit)(void *context, const char *path),
                    void *context);

typedef struct nvmlDevice_st *nvmlDevice_t;
struct nvml_process {
    unsigned pid;
    unsigned long long used_bytes;
    unsigned gpu_instance, compute_instance;
};
enum { NVML_CLOCK_SM = 1, NVML_CLOCK_MEM = 2, NVML_TEMPERATURE_GPU = 0 };
#define NVML_LIST(X)                                                                               \
    X(nvmlInit_v2, (void))                                                                         \
    X(nvmlSystemGetDriverVersion, (char *text, unsigned bytes))                                    \
    X(nvmlDeviceGetHandleByPciBusId_v2, (const char *id, nvmlDevice_t *device))                    \
    X(nvmlDeviceGetClockInfo, (nvmlDevice_t device, int kind, unsigned *mhz))                      \
    X(nvmlDeviceGetMaxClockInfo, (nvmlDevice_t device, int kind, unsigned *mhz))                   \
    X(nvmlDeviceGetTemperature, (nvmlDevice_t device, int sensor, unsigned *celsius))              \
    X(nvmlDeviceGetPowerUsage, (nvmlDevice_t device, unsigned *milliwatts))                        \
    X(nvmlDeviceGetCurrentClocksThrottleReasons,                                                   \
      (nvmlDevice_t device, unsigned long long *reasons))                                          \
    X(nvmlDeviceGetTotalEnergyConsumption, (nvmlDevice_t device, unsigned long long *millijoules)) \
    X(nvmlDeviceGetComputeRunningProcesses_v3,                                                     \
      (nvmlDevice_t device, unsigned *count, struct nvml_process *processes))

struct nvml_api {
#define X(name, params) int(*name) params;
    NVML_LIST(X)
#undef X
};
/* NULL where libnvidia-ml.so.1 is not there. Entries an old library lacks are NULL. */
const struct nvml_api *nvml_api(void);

#endif
