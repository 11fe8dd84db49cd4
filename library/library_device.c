/* library_device.c - opening a device without moving what the caller's process has set: its current
 * CUDA context and its environment. */
#include <stdlib.h>
#include <string.h>

#include "kernels/registry.h"
#include "library/library.h"
#include "runtime/cuda_api.h"

pthread_mutex_t library_lock = PTHREAD_MUTEX_INITIALIZER;

_Static_assert((int)FASTINFER_FP16 == DTYPE_F16 && (int)FASTINFER_BF16 == DTYPE_BF16 &&
                   (int)FASTINFER_FP32 == DTYPE_F32,
               "the public dtypes are the first of ours");
_Static_assert((int)FASTINFER_LAUNCH == STATUS_LAUNCH, "the public codes are the first of ours");

enum fastinfer_code library_code(enum status status) {
    return status <= STATUS_LAUNCH ? (enum fastinfer_code)status : FASTINFER_OTHER;
}

const char *fastinfer_error(void) { return fail_message(); }

/* device_open_cuda makes its context current and asks for eager loading of modules, as a bench
 * must. Here the process is somebody else's: the driver is started before it can read that wish,
 * and both are put back. */
static enum status open_visiting(const char *id, struct device **out) {
    const struct cuda_api *api = strncmp(id, "cuda", 4) ? NULL : cuda_api();
    CUcontext before = NULL;
    bool own = getenv("CUDA_MODULE_LOADING") != NULL;
    if (api) api->cuCtxGetCurrent(&before);
    enum status status = device_open(id, NULL, out);
    if (api) api->cuCtxSetCurrent(before);
    if (!own) unsetenv("CUDA_MODULE_LOADING");
    return status;
}

static void close_visiting(struct device *device) {
    const struct cuda_api *api = device->info.kind == DEVICE_CUDA ? cuda_api() : NULL;
    void *visit;
    CUcontext before = NULL;
    if (api) api->cuCtxGetCurrent(&before);
    if (!device->ops->enter(device, NULL, &visit)) device->ops->close(device);
    if (api) api->cuCtxSetCurrent(before);
}

static enum status open_device(const char *id, const char *configs, struct fastinfer_device **out) {
    if (!id || !out) return fail(STATUS_ARGUMENT, "a device's id and a place for it were expected");
    struct fastinfer_device *opened = calloc(1, sizeof *opened);
    if (!opened) return fail(STATUS_SYSTEM, "out of memory");
    enum status status = open_visiting(id, &opened->device);
    if (!status)
        status = config_open(configs, &opened->device->info, registry_find, &opened->config);
    opened->users = 1;
    if (status)
        library_device_release(opened);
    else
        *out = opened;
    return status;
}

enum fastinfer_code fastinfer_device_open(const char *id, const char *configs,
                                          struct fastinfer_device **out) {
    pthread_mutex_lock(&library_lock);
    enum status status = open_device(id, configs, out);
    pthread_mutex_unlock(&library_lock);
    return library_code(status);
}

void library_device_release(struct fastinfer_device *device) {
    if (!device || --device->users > 0) return;
    config_close(device->config);
    if (device->device) close_visiting(device->device);
    free(device);
}

void fastinfer_device_close(struct fastinfer_device *device) {
    pthread_mutex_lock(&library_lock);
    library_device_release(device);
    pthread_mutex_unlock(&library_lock);
}

const char *fastinfer_device_name(const struct fastinfer_device *device) {
    return device->device->info.name;
}

const char *fastinfer_device_points(const struct fastinfer_device *device) {
    return config_origin(device->config);
}
