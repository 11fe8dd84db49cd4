/* matmul_cuda.c - a GPU's products through cuBLASLt, opened at run time. Names, values and
 * signatures are those of the public header cublasLt.h.
 *
 * cuBLASLt is column-major: c (m, n) row-major is its c (n, m), so it is given b transposed, then
 * a. What its heuristic chose for a shape is kept. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cuda_api.h"
#include "runtime/matmul_internal.h"

enum {
    CUDA_R_32F = 0,
    CUDA_R_16F = 2,
    CUDA_R_16BF = 14,
    CUBLAS_COMPUTE_32F = 68,
    CUBLAS_OP_T = 1,
    CUBLASLT_MATMUL_DESC_TRANSA = 3,
    CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES = 1,
    WORKSPACE_BYTES = 64 << 20,
};

struct lt_heuristic {
    uint64_t algo[8];
    size_t workspace_bytes;
    int state;
    float waves;
    int reserved[4];
};

#define LT_LIST(X)                                                                                 \
    X(int, cublasLtCreate, (void **handle))                                                        \
    X(int, cublasLtDestroy, (void *handle))                                                        \
    X(size_t, cublasLtGetVersion, (void))                                                          \
    X(int, cublasLtMatmulDescCreate, (void **desc, int compute, int scale))                        \
    X(int, cublasLtMatmulDescDestroy, (void *desc))                                                \
    X(int, cublasLtMatmulDescSetAttribute,                                                         \
      (void *desc, int attribute, const void *value, size_t bytes))                                \
    X(int, cublasLtMatrixLayoutCreate,                                                             \
      (void **layout, int type, uint64_t rows, uint64_t columns, int64_t leading))                 \
    X(int, cublasLtMatrixLayoutDestroy, (void *layout))                                            \
    X(int, cublasLtMatmulPreferenceCreate, (void **preference))                                    \
    X(int, cublasLtMatmulPreferenceDestroy, (void *preference))                                    \
    X(int, cublasLtMatmulPreferenceSetAttribute,                                                   \
      (void *preference, int attribute, const void *value, size_t bytes))                          \
    X(int, cublasLtMatmulAlgoGetHeuristic,                                                         \
      (void *handle, void *desc, void *a, void *b, void *c, void *d, void *preference, int wanted, \
       struct lt_heuristic *results, int *count))                                                  \
    X(int, cublasLtMatmul,                                                                         \
      (void *handle, void *desc, const void *alpha, const void *a, void *a_layout, const void *b,  \
       void *b_layout, const void *beta, const void *c, void *c_layout, void *d, void *d_layout,   \
       const uint64_t *algo, void *workspace, size_t workspace_bytes, void *stream))

struct lt_api {
#define X(type, name, params) type(*name) params;
    LT_LIST(X)
#undef X
};

struct shape { /* a product as cuBLASLt was asked for it */
    struct product product;
    void *desc, *a, *b, *c;
    struct lt_heuristic heuristic;
    struct shape *next;
};

struct cuda_matmul {
    struct matmul matmul; /* first, so that a matmul is one of these */
    struct lt_api api;
    void *handle, *workspace;
    struct shape *first;
};

static bool resolve_all(void *library, struct lt_api *api) {
    bool whole = true;
    void *symbol;
#define X(type, name, params)                                                                      \
    symbol = dlsym(library, #name);                                                                \
    memcpy(&api->name, &symbol, sizeof symbol);                                                    \
    whole &= symbol != NULL;
    LT_LIST(X)
#undef X
    return whole;
}

static bool try_library(void *context, const char *path) {
    struct cuda_matmul *s = context;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* stays open */
    if (!library) return false;
    if (!resolve_all(library, &s->api)) return false;
    size_t version = s->api.cublasLtGetVersion();
    snprintf(s->matmul.name, sizeof s->matmul.name, "cuBLASLt %zu.%zu (%.400s)", version / 10000,
             version / 100 % 100, path);
    return true;
}

/* By its name, of the driver's major version first; then wherever CUDA's libraries are put. */
static bool find_library(struct cuda_matmul *s) {
    const char *named = getenv("FASTINFER_CUBLASLT");
    const struct cuda_api *cuda = cuda_api();
    int driver = 13000;
    char name[64];
    if (named && *named) return try_library(s, named);
    if (cuda) cuda->cuDriverGetVersion(&driver);
    for (int major = driver / 1000; major >= 11; major--) {
        snprintf(name, sizeof name, "libcublasLt.so.%d", major);
        if (try_library(s, name) || cuda_libraries(name, try_library, s)) return true;
    }
    return false;
}

static enum status refused(int code, const char *what) {
    return fail(STATUS_LAUNCH, "cuBLASLt: %s gave error %d", what, code);
}
#define LT(call)                                                                                   \
    do {                                                                                           \
        int code_ = s->api.call;                                                                   \
        if (code_) return refused(code_, #call);                                                   \
    } while (0)

static int data_type(enum dtype dtype) {
    return dtype == DTYPE_F16 ? CUDA_R_16F : dtype == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static enum status describe(struct cuda_matmul *s, struct shape *shape) {
    const struct product *p = &shape->product;
    int transpose = CUBLAS_OP_T, count = 0;
    size_t workspace = WORKSPACE_BYTES;
    uint64_t m = (uint64_t)p->m, n = (uint64_t)p->n, k = (uint64_t)p->k;
    void *preference;
    LT(cublasLtMatmulDescCreate(&shape->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    LT(cublasLtMatmulDescSetAttribute(shape->desc, CUBLASLT_MATMUL_DESC_TRANSA, &transpose,
                                      sizeof transpose));
    LT(cublasLtMatrixLayoutCreate(&shape->b, data_type(p->dtype), k, n, p->k));
    LT(cublasLtMatrixLayoutCreate(&shape->a, data_type(p->dtype), k, m, p->k));
    LT(cublasLtMatrixLayoutCreate(&shape->c, data_type(p->out), n, m, p->n));
    LT(cublasLtMatmulPreferenceCreate(&preference));
    int code = s->api.cublasLtMatmulPreferenceSetAttribute(
        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
    if (!code)
        code = s->api.cublasLtMatmulAlgoGetHeuristic(s->handle, shape->desc, shape->b, shape->a,
                                                     shape->c, shape->c, preference, 1,
                                                     &shape->heuristic, &count);
    s->api.cublasLtMatmulPreferenceDestroy(preference);
    if (!code && count) return STATUS_OK;
    return fail(STATUS_LAUNCH, "cuBLASLt has no algorithm for (%lld, %lld) x (%lld, %lld)^T (%d)",
                (long long)p->m, (long long)p->k, (long long)p->n, (long long)p->k, code);
}

static void forget(struct cuda_matmul *s, struct shape *shape) {
    if (shape->desc) s->api.cublasLtMatmulDescDestroy(shape->desc);
    void *layouts[] = {shape->a, shape->b, shape->c};
    for (int i = 0; i < 3; i++)
        if (layouts[i]) s->api.cublasLtMatrixLayoutDestroy(layouts[i]);
    free(shape);
}

static enum status find_shape(struct cuda_matmul *s, const struct product *p, struct shape **out) {
    for (struct shape *at = s->first; at; at = at->next)
        if (at->product.m == p->m && at->product.n == p->n && at->product.k == p->k &&
            at->product.dtype == p->dtype && at->product.out == p->out)
            return *out = at, STATUS_OK;
    struct shape *shape = calloc(1, sizeof *shape);
    if (!shape) return fail(STATUS_SYSTEM, "out of memory");
    shape->product = *p;
    enum status status = describe(s, shape);
    if (status) {
        forget(s, shape);
        return status;
    }
    shape->next = s->first;
    *out = s->first = shape;
    return STATUS_OK;
}

static enum status cuda_run(struct matmul *matmul, const struct product *p) {
    struct cuda_matmul *s = (struct cuda_matmul *)matmul;
    struct shape *shape = NULL;
    float one = 1, beta = p->accumulate ? 1 : 0;
    TRY(find_shape(s, p, &shape));
    LT(cublasLtMatmul(s->handle, shape->desc, &one, p->b, shape->b, p->a, shape->a, &beta, p->c,
                      shape->c, p->c, shape->c, shape->heuristic.algo, s->workspace,
                      WORKSPACE_BYTES, matmul->device->ops->stream(matmul->device)));
    return STATUS_OK;
}

static void cuda_close(struct matmul *matmul) {
    struct cuda_matmul *s = (struct cuda_matmul *)matmul;
    for (struct shape *at = s->first, *next; at; at = next) {
        next = at->next;
        forget(s, at);
    }
    if (s->workspace) matmul->device->ops->release(matmul->device, s->workspace);
    if (s->handle) s->api.cublasLtDestroy(s->handle);
    free(s);
}

static enum status start(struct cuda_matmul *s) {
    struct device *device = s->matmul.device;
    if (!find_library(s))
        return fail(STATUS_MISSING,
                    "libcublasLt was not found; Debian and Ubuntu: libcublas from NVIDIA's "
                    "repository, or pip install nvidia-cublas; or name it in FASTINFER_CUBLASLT");
    LT(cublasLtCreate(&s->handle));
    return device->ops->allocate(device, WORKSPACE_BYTES, &s->workspace);
}

enum status matmul_open_cuda(struct device *device, struct matmul **out) {
    struct cuda_matmul *s = calloc(1, sizeof *s);
    if (!s) return fail(STATUS_SYSTEM, "out of memory");
    s->matmul = (struct matmul){.device = device, .run = cuda_run, .close = cuda_close};
    enum status status = start(s);
    if (status)
        cuda_close(&s->matmul);
    else
        *out = &s->matmul;
    return status;
}
