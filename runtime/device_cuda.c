/* device_cuda.c - cuda:N through the driver API, in the primary context so that PyTorch shares it.
 */
#include "runtime/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/compile.h"
#include "runtime/cuda_api.h"

struct cuda_device {
    struct device device; /* first, so that a device is one of these */
    const struct cuda_api *api;
    CUdevice handle;
    CUcontext context;
    CUstream stream; /* where launches go: `own`, but for guests */
    CUstream own;
    CUevent mark[2];
    unsigned *flag; /* host memory the holding kernel watches */
    CUdeviceptr flag_device;
    struct module *support;
    struct function *hold;
};
struct module {
    CUmodule handle;
    struct function *functions; /* a list, freed with the module */
};
struct function {
    CUfunction handle;
    struct function *next;
};
struct graph {
    CUgraphExec exec;
};

#define CUDA(call)                                                                                 \
    do {                                                                                           \
        CUresult result_ = api->call;                                                              \
        if (result_ != CUDA_SUCCESS) return cuda_fail(result_, #call);                             \
    } while (0)

static struct cuda_device *self(struct device *device) { return (struct cuda_device *)device; }

int device_cuda_count(void) {
    const struct cuda_api *api = cuda_api();
    int count = 0;
    if (api && api->cuDeviceGetCount(&count) == CUDA_SUCCESS && !count)
        fail(STATUS_MISSING, "the NVIDIA driver sees no GPU");
    return count;
}

static int attribute(const struct cuda_api *api, CUdevice device, int which) {
    int value = -1;
    api->cuDeviceGetAttribute(&value, which, device);
    return value;
}

enum status device_describe_cuda(int ordinal, struct device_info *out) {
    const struct cuda_api *api = cuda_api();
    if (!api) return STATUS_MISSING;
    int count = device_cuda_count();
    if (ordinal < 0 || ordinal >= count)
        return fail(STATUS_MISSING, "there is no cuda:%d; this machine has %d GPU%s", ordinal,
                    count, count == 1 ? "" : "s");
    CUdevice device;
    size_t memory = 0;
    CUDA(cuDeviceGet(&device, ordinal));
    CUDA(cuDeviceTotalMem_v2(&memory, device));
    *out = (struct device_info){.kind = DEVICE_CUDA, .ordinal = ordinal};
    CUDA(cuDeviceGetName(out->name, sizeof out->name, device));
    device_slug(out->name, out->slug, sizeof out->slug);
    snprintf(out->id, sizeof out->id, "cuda:%d", ordinal);
#define GET(name) attribute(api, device, CU_DEVICE_ATTRIBUTE_##name)
    out->arch = GET(COMPUTE_CAPABILITY_MAJOR) * 10 + GET(COMPUTE_CAPABILITY_MINOR);
    out->sms = GET(MULTIPROCESSOR_COUNT);
    out->threads_per_sm = GET(MAX_THREADS_PER_MULTIPROCESSOR);
    out->threads_per_block = GET(MAX_THREADS_PER_BLOCK);
    out->registers_per_sm = GET(MAX_REGISTERS_PER_MULTIPROCESSOR);
    out->shared_per_block = GET(MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
    out->shared_per_sm = GET(MAX_SHARED_MEMORY_PER_MULTIPROCESSOR);
    out->l2_bytes = GET(L2_CACHE_SIZE);
    out->memory_bytes = (int64_t)memory;
    out->clock_khz = GET(CLOCK_RATE);
    out->memory_clock_khz = GET(MEMORY_CLOCK_RATE);
    out->bus_bits = GET(GLOBAL_MEMORY_BUS_WIDTH);
    out->ecc = GET(ECC_ENABLED);
#undef GET
    CUDA(cuDriverGetVersion(&out->driver_version));
    const struct nvml_api *nvml = nvml_api();
    if (!nvml || !nvml->nvmlSystemGetDriverVersion ||
        nvml->nvmlSystemGetDriverVersion(out->driver, sizeof out->driver))
        snprintf(out->driver, sizeof out->driver, "CUDA %d.%d", out->driver_version / 1000,
                 out->driver_version % 1000 / 10);
    return STATUS_OK;
}

static void cuda_module_unload(struct device *device, struct module *module) {
    if (!module) return;
    self(device)->api->cuModuleUnload(module->handle);
    while (module->functions) {
        struct function *next = module->functions->next;
        free(module->functions);
        module->functions = next;
    }
    free(module);
}

static void cuda_close(struct device *device) {
    struct cuda_device *cuda = self(device);
    const struct cuda_api *api = cuda->api;
    cuda_module_unload(device, cuda->support);
    for (int i = 0; i < 2; i++)
        if (cuda->mark[i]) api->cuEventDestroy_v2(cuda->mark[i]);
    if (cuda->flag) api->cuMemFreeHost(cuda->flag);
    if (cuda->own) api->cuStreamDestroy_v2(cuda->own);
    api->cuDevicePrimaryCtxRelease_v2(cuda->handle);
    free(cuda);
}

static enum status cuda_allocate(struct device *device, size_t bytes, void **out) {
    const struct cuda_api *api = self(device)->api;
    CUdeviceptr pointer = 0;
    CUresult result = api->cuMemAlloc_v2(&pointer, bytes ? bytes : 1);
    if (result == CUDA_ERROR_OUT_OF_MEMORY) {
        size_t available = 0, total = 0;
        api->cuMemGetInfo_v2(&available, &total);
        return fail(STATUS_MEMORY,
                    "%s: out of device memory: %.2f GiB wanted, %.2f of %.2f GiB free",
                    device->info.id, (double)bytes / 0x1p30, (double)available / 0x1p30,
                    (double)total / 0x1p30);
    }
    if (result != CUDA_SUCCESS) return cuda_fail(result, "cuMemAlloc");
    *out = (void *)(uintptr_t)pointer;
    return STATUS_OK;
}
static CUdeviceptr address(const void *pointer) { return (CUdeviceptr)(uintptr_t)pointer; }
static void cuda_release(struct device *device, void *pointer) {
    if (pointer) self(device)->api->cuMemFree_v2(address(pointer));
}
static enum status cuda_free_bytes(struct device *device, size_t *out) {
    const struct cuda_api *api = self(device)->api;
    size_t total;
    CUDA(cuMemGetInfo_v2(out, &total));
    return STATUS_OK;
}
static enum status cuda_synchronize(struct device *device) {
    const struct cuda_api *api = self(device)->api;
    CUDA(cuStreamSynchronize(self(device)->stream));
    return STATUS_OK;
}
static enum status cuda_upload(struct device *device, void *to, const void *from, size_t bytes) {
    const struct cuda_api *api = self(device)->api;
    TRY(cuda_synchronize(device));
    if (bytes) CUDA(cuMemcpyHtoD_v2(address(to), from, bytes));
    return STATUS_OK;
}
static enum status cuda_host_allocate(struct device *device, size_t bytes, void **out) {
    const struct cuda_api *api = self(device)->api;
    CUDA(cuMemHostAlloc(out, bytes, 0));
    return STATUS_OK;
}
static void cuda_host_release(struct device *device, void *pointer) {
    if (pointer) self(device)->api->cuMemFreeHost(pointer);
}
static enum status cuda_upload_begin(struct device *device, void *to, const void *from,
                                     size_t bytes) {
    const struct cuda_api *api = self(device)->api;
    if (bytes) CUDA(cuMemcpyHtoDAsync_v2(address(to), from, bytes, self(device)->stream));
    return STATUS_OK;
}
static enum status cuda_download(struct device *device, void *to, const void *from, size_t bytes) {
    const struct cuda_api *api = self(device)->api;
    TRY(cuda_synchronize(device));
    if (bytes) CUDA(cuMemcpyDtoH_v2(to, address(from), bytes));
    return STATUS_OK;
}
static enum status cuda_copy(struct device *device, void *to, const void *from, size_t bytes) {
    const struct cuda_api *api = self(device)->api;
    if (bytes) CUDA(cuMemcpyDtoDAsync_v2(address(to), address(from), bytes, self(device)->stream));
    return STATUS_OK;
}
static enum status cuda_set_bytes(struct device *device, void *to, int byte, size_t bytes) {
    const struct cuda_api *api = self(device)->api;
    if (bytes) CUDA(cuMemsetD8Async(address(to), (unsigned char)byte, bytes, self(device)->stream));
    return STATUS_OK;
}

static enum status read_file(const char *path, char **out) {
    FILE *file = fopen(path, "rb");
    long bytes = 0;
    *out = NULL;
    if (file && !fseek(file, 0, SEEK_END) && (bytes = ftell(file)) > 0) {
        rewind(file);
        *out = malloc((size_t)bytes);
        if (*out && fread(*out, 1, (size_t)bytes, file) != (size_t)bytes) {
            free(*out);
            *out = NULL;
        }
    }
    if (file) fclose(file);
    return *out ? STATUS_OK : fail(STATUS_SYSTEM, "%s: could not be read", path);
}

static enum status cuda_module_load(struct device *device, const char *path, const char *suffix,
                                    struct module **out) {
    const struct cuda_api *api = self(device)->api;
    (void)suffix; /* a cubin holds one point; its entries carry their plain names */
    char *image;
    CUmodule handle;
    TRY(read_file(path, &image));
    CUresult result = api->cuModuleLoadData(&handle, image);
    free(image);
    if (result != CUDA_SUCCESS) return cuda_fail(result, "cuModuleLoadData");
    *out = calloc(1, sizeof **out);
    (*out)->handle = handle;
    return STATUS_OK;
}

static enum status cuda_function_get(struct device *device, struct module *module,
                                     const char *entry, unsigned shared_bytes,
                                     struct function **out) {
    const struct cuda_api *api = self(device)->api;
    CUfunction handle;
    CUDA(cuModuleGetFunction(&handle, module->handle, entry));
    if (shared_bytes) /* with what the kernel declares it may be over the usual 48 KiB */
        CUDA(cuFuncSetAttribute(handle, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                (int)shared_bytes));
    *out = calloc(1, sizeof **out);
    **out = (struct function){handle, module->functions};
    module->functions = *out;
    return STATUS_OK;
}

static int cuda_occupancy(struct device *device, struct function *function, int threads,
                          unsigned shared_bytes) {
    int blocks = -1;
    self(device)->api->cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function->handle,
                                                                   threads, shared_bytes);
    return blocks;
}

static enum status cuda_launch(struct device *device, const struct launch *l) {
    const struct cuda_api *api = self(device)->api;
    void *params[MAX_PARAMS];
    for (int i = 0; i < l->param_count; i++) params[i] = (void *)(uintptr_t)&l->param[i];
    if (l->cooperative)
        CUDA(cuLaunchCooperativeKernel(l->function->handle, l->grid[0], l->grid[1], l->grid[2],
                                       l->block[0], l->block[1], l->block[2], l->shared_bytes,
                                       self(device)->stream, params));
    else
        CUDA(cuLaunchKernel(l->function->handle, l->grid[0], l->grid[1], l->grid[2], l->block[0],
                            l->block[1], l->block[2], l->shared_bytes, self(device)->stream, params,
                            NULL));
    return STATUS_OK;
}

static enum status cuda_record_begin(struct device *device) {
    const struct cuda_api *api = self(device)->api;
    CUDA(cuStreamBeginCapture_v2(self(device)->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    return STATUS_OK;
}
static enum status cuda_record_end(struct device *device, struct graph **out) {
    const struct cuda_api *api = self(device)->api;
    CUgraph graph;
    CUgraphExec exec;
    CUDA(cuStreamEndCapture(self(device)->stream, &graph));
    CUresult result = api->cuGraphInstantiateWithFlags(&exec, graph, 0);
    api->cuGraphDestroy(graph);
    if (result != CUDA_SUCCESS) return cuda_fail(result, "cuGraphInstantiate");
    api->cuGraphUpload(exec, self(device)->stream);
    *out = calloc(1, sizeof **out);
    (*out)->exec = exec;
    return STATUS_OK;
}
static enum status cuda_graph_launch(struct device *device, struct graph *graph) {
    const struct cuda_api *api = self(device)->api;
    CUDA(cuGraphLaunch(graph->exec, self(device)->stream));
    return STATUS_OK;
}
static void cuda_graph_free(struct device *device, struct graph *graph) {
    if (!graph) return;
    self(device)->api->cuGraphExecDestroy(graph->exec);
    free(graph);
}

static enum status cuda_mark(struct device *device, int mark) {
    const struct cuda_api *api = self(device)->api;
    CUDA(cuEventRecord(self(device)->mark[mark], self(device)->stream));
    return STATUS_OK;
}
static enum status cuda_elapsed(struct device *device, double *ns) {
    const struct cuda_api *api = self(device)->api;
    float ms;
    CUDA(cuEventSynchronize(self(device)->mark[1]));
    CUDA(cuEventElapsedTime(&ms, self(device)->mark[0], self(device)->mark[1]));
    *ns = (double)ms * 1e6;
    return STATUS_OK;
}

/* Loaded on first use: the module must be on the device before anything waits behind it. */
static enum status load_hold(struct device *device) {
    struct cuda_device *cuda = self(device);
    const struct cuda_api *api = cuda->api;
    if (cuda->hold) return STATUS_OK;
    struct build build;
    TRY(compile_support((struct target){DEVICE_CUDA, device->info.arch}, &build));
    if (build.status) return fail(build.status, "support.cu: %s", build.log);
    TRY(cuda_module_load(device, build.path, "", &cuda->support));
    void *flag;
    CUDA(cuMemHostAlloc(&flag, 64, CU_MEMHOSTALLOC_DEVICEMAP));
    cuda->flag = flag;
    CUDA(cuMemHostGetDevicePointer_v2(&cuda->flag_device, flag, 0));
    return cuda_function_get(device, cuda->support, "hold", 0, &cuda->hold);
}

static enum status cuda_hold(struct device *device) {
    struct cuda_device *cuda = self(device);
    TRY(load_hold(device));
    __atomic_store_n(cuda->flag, 0, __ATOMIC_SEQ_CST);
    struct launch launch = {.function = cuda->hold,
                            .grid = {1, 1, 1},
                            .block = {1, 1, 1},
                            .param = {cuda->flag_device, 2000000000u},
                            .param_count = 2};
    return cuda_launch(device, &launch);
}
static enum status cuda_let_go(struct device *device) {
    __atomic_store_n(self(device)->flag, 1, __ATOMIC_SEQ_CST);
    return STATUS_OK;
}
static void *cuda_stream(struct device *device) { return self(device)->stream; }

static enum status cuda_enter(struct device *device, void *stream, void **visit) {
    const struct cuda_api *api = self(device)->api;
    CUcontext before;
    CUDA(cuCtxGetCurrent(&before));
    if (before != self(device)->context) CUDA(cuCtxSetCurrent(self(device)->context));
    self(device)->stream = stream;
    *visit = before;
    return STATUS_OK;
}
static void cuda_leave(struct device *device, void *visit) {
    self(device)->stream = self(device)->own;
    if (visit != self(device)->context) self(device)->api->cuCtxSetCurrent(visit);
}

static const struct device_ops cuda_ops = {
    .close = cuda_close,
    .allocate = cuda_allocate,
    .release = cuda_release,
    .free_bytes = cuda_free_bytes,
    .upload = cuda_upload,
    .host_allocate = cuda_host_allocate,
    .host_release = cuda_host_release,
    .upload_begin = cuda_upload_begin,
    .download = cuda_download,
    .copy = cuda_copy,
    .set_bytes = cuda_set_bytes,
    .module_load = cuda_module_load,
    .module_unload = cuda_module_unload,
    .function_get = cuda_function_get,
    .occupancy = cuda_occupancy,
    .launch = cuda_launch,
    .synchronize = cuda_synchronize,
    .record_begin = cuda_record_begin,
    .record_end = cuda_record_end,
    .graph_launch = cuda_graph_launch,
    .graph_free = cuda_graph_free,
    .mark = cuda_mark,
    .elapsed = cuda_elapsed,
    .clock_resolution_ns = 500, /* cuEventElapsedTime: "a resolution of around 0.5 microseconds" */
    .hold = cuda_hold,
    .let_go = cuda_let_go,
    .stream = cuda_stream,
    .enter = cuda_enter,
    .leave = cuda_leave,
};

static enum status open_on(struct cuda_device *cuda, int ordinal) {
    const struct cuda_api *api = cuda->api;
    CUDA(cuDeviceGet(&cuda->handle, ordinal));
    CUDA(cuDevicePrimaryCtxRetain(&cuda->context, cuda->handle));
    CUDA(cuCtxSetCurrent(cuda->context));
    CUDA(cuStreamCreate(&cuda->own, CU_STREAM_NON_BLOCKING));
    cuda->stream = cuda->own;
    for (int i = 0; i < 2; i++) CUDA(cuEventCreate(&cuda->mark[i], 0));
    return STATUS_OK;
}

enum status device_open_cuda(int ordinal, struct device **out) {
    struct device_info info;
    /* A module must be loaded when it is asked for, not at its first launch behind a held stream.
     * The driver reads this once. */
    setenv("CUDA_MODULE_LOADING", "EAGER", 0);
    TRY(device_describe_cuda(ordinal, &info));
    struct cuda_device *cuda = calloc(1, sizeof *cuda);
    if (!cuda) return fail(STATUS_SYSTEM, "out of memory");
    cuda->device = (struct device){info, &cuda_ops};
    cuda->api = cuda_api();
    enum status status = open_on(cuda, ordinal);
    if (status) {
        free(cuda);
        return status;
    }
    *out = &cuda->device;
    return STATUS_OK;
}
