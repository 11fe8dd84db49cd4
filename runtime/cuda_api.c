/* cuda_api.c - finds and opens libcuda, libnvrtc and libnvidia-ml. */
#include "runtime/cuda_api.h"

#include <dlfcn.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* dlsym's void * into a function pointer, without a cast that ISO C has no meaning for. */
static int resolve(void *library, const char *name, void *function_pointer) {
    void *symbol = dlsym(library, name);
    memcpy(function_pointer, &symbol, sizeof symbol);
    return symbol != NULL;
}

const struct cuda_api *cuda_api(void) {
    static struct cuda_api api;
    static int state; /* 0 not tried, 1 open, -1 failed */
    static char reason[512];
    if (state == 0) {
        state = -1;
        void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
        const char *missing = NULL;
        if (!library) {
            snprintf(reason, sizeof reason, "no NVIDIA driver: %.200s", dlerror());
        } else {
#define X(name, params)                                                                            \
    if (!resolve(library, #name, &api.name)) missing = #name;
            CUDA_LIST(X)
#undef X
            CUresult result;
            if (missing)
                snprintf(reason, sizeof reason, "the NVIDIA driver is too old: it has no %s",
                         missing);
            else if ((result = api.cuInit(0)) != CUDA_SUCCESS)
                snprintf(reason, sizeof reason,
                         "the NVIDIA driver does not start: cuInit gave error %d%s", result,
                         result == 100 ? " (no CUDA device)" : "");
            else
                state = 1;
        }
    }
    if (state == 1) return &api;
    fail(STATUS_MISSING, "%s", reason);
    return NULL;
}

enum status cuda_fail(CUresult result, const char *call) {
    const struct cuda_api *api = cuda_api();
    const char *name = "unknown error", *text = "";
    if (api) api->cuGetErrorName(result, &name), api->cuGetErrorString(result, &text);
    enum status status = result == CUDA_ERROR_OUT_OF_MEMORY ? STATUS_MEMORY
                         : result == 700 || result == 714 || result == 715 || result == 716 ||
                                 result == 717 || result == 718
                             ? STATUS_MEMORY /* illegal or misaligned address, and their kin */
                         : result == CUDA_ERROR_LAUNCH_TIMEOUT ? STATUS_TIMEOUT
                                                               : STATUS_LAUNCH;
    return fail(status, "%s: %s (%s)", call, name, text);
}

/* --- NVRTC -------------------------------------------------------------------------------------
 */

struct nvrtc_search {
    int driver; /* 13000; 0 without a driver */
    struct nvrtc_api best;
    void *library;
    char seen[256]; /* versions found that do not suit */
};

/* A cubin runs on a driver of its own major version, or a newer one. */
static int suits(const struct nvrtc_search *search, int major) {
    return !search->driver || major <= search->driver / 1000;
}

static void consider(struct nvrtc_search *search, const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    struct nvrtc_api api;
    int whole = 1;
    if (!library) return;
#define X(type, name, params) whole &= resolve(library, #name, &api.name);
    NVRTC_LIST(X)
#undef X
    if (!whole || api.nvrtcVersion(&api.major, &api.minor)) {
        dlclose(library);
        return;
    }
    snprintf(api.path, sizeof api.path, "%s", path);
    int version = api.major * 100 + api.minor;
    int best = search->library ? search->best.major * 100 + search->best.minor : 0;
    if (!suits(search, api.major)) {
        size_t n = strlen(search->seen);
        snprintf(search->seen + n, sizeof search->seen - n, "%s%d.%d", n ? ", " : "", api.major,
                 api.minor);
        dlclose(library);
    } else if (version > best) {
        if (search->library) dlclose(search->library);
        search->best = api, search->library = library;
    } else {
        dlclose(library);
    }
}

bool cuda_libraries(const char *file, bool (*visit)(void *, const char *), void *context) {
    static const char *const folders[] = {
        "/usr/local/cuda*/lib64",
        "/usr/local/cuda*/targets/*/lib",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/cuda*/lib64",
        ".venv/lib/python3*/site-packages/nvidia/*/lib",
        "/usr/local/lib/python3*/*-packages/nvidia/*/lib",
        "/usr/lib/python3*/*-packages/nvidia/*/lib",
        "/opt/*/lib/python3*/site-packages/nvidia/*/lib",
    };
    enum { FOLDERS = sizeof folders / sizeof *folders };
    const char *home = getenv("HOME"), *venv = getenv("VIRTUAL_ENV");
    char pattern[800];
    bool enough = false;
    for (int i = 0; i < FOLDERS + 2 && !enough; i++) {
        if (i < FOLDERS)
            snprintf(pattern, sizeof pattern, "%s/%s", folders[i], file);
        else
            snprintf(pattern, sizeof pattern, "%s%s/lib/python3*/site-packages/nvidia/*/lib/%s",
                     i == FOLDERS ? home ? home : ""
                     : venv       ? venv
                                  : "",
                     i == FOLDERS ? "/.local" : "", file);
        glob_t found;
        if (!glob(pattern, 0, NULL, &found))
            for (size_t k = 0; k < found.gl_pathc && !enough; k++)
                enough = visit(context, found.gl_pathv[k]);
        globfree(&found);
    }
    return enough;
}

static bool consider_each(void *search, const char *path) { return consider(search, path), false; }

static void search_nvrtc(struct nvrtc_search *search) {
    const char *named = getenv("FASTINFER_NVRTC");
    if (named && *named) {
        consider(search, named);
        return;
    }
    static const char *const names[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2",
                                        "libnvrtc.so"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) consider(search, names[i]);
    cuda_libraries("libnvrtc.so.[0-9]*", consider_each, search);
}

const struct nvrtc_api *nvrtc_api(void) {
    static struct nvrtc_search search;
    static int state;
    if (state == 0) {
        const struct cuda_api *cuda = cuda_api();
        if (cuda) cuda->cuDriverGetVersion(&search.driver);
        search_nvrtc(&search);
        state = search.library ? 1 : -1;
    }
    if (state == 1) return &search.best;
    int major = search.driver ? search.driver / 1000 : 13;
    if (search.seen[0])
        fail(STATUS_MISSING,
             "the driver is for CUDA %d.%d and the NVRTC found is %s, whose binaries it cannot "
             "load; install one that suits: python3 -m pip install nvidia-cuda-nvrtc%s",
             search.driver / 1000, search.driver % 1000 / 10, search.seen,
             major >= 13   ? ""
             : major == 12 ? "-cu12"
                           : "-cu11");
    else
        fail(
            STATUS_MISSING,
            "no NVRTC (libnvrtc.so) found; install it: python3 -m pip install nvidia-cuda-nvrtc%s, "
            "or the CUDA toolkit; $FASTINFER_NVRTC may name one",
            major >= 13   ? ""
            : major == 12 ? "-cu12"
                          : "-cu11");
    return NULL;
}

const struct nvml_api *nvml_api(void) {
    static struct nvml_api api;
    static int state;
    if (state == 0) {
        void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
        state = -1;
        if (library) {
#define X(name, params) resolve(library, #name, &api.name);
            NVML_LIST(X)
#undef X
            if (api.nvmlInit_v2 && api.nvmlDeviceGetHandleByPciBusId_v2 && !api.nvmlInit_v2())
                state = 1;
        }
    }
    return state == 1 ? &api : NULL;
}
