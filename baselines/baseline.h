/* baseline.h - the C ABI between the harness and a plugin that runs someone else's kernels.
 *
 * A plugin is a shared object that exports the function `fastinfer_baseline`, which returns one of
 * these. It is loaded at run time; nothing of it is linked. Every function returns 0, or -1 with a
 * sentence in error(). Calls come from one thread.
 */
#ifndef FASTINFER_BASELINE_H
#define FASTINFER_BASELINE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { BASELINE_VERSION = 1, BASELINE_TENSORS = 12, BASELINE_SIZES = 12 };

/* A buffer of the harness, in the order of the kernel's arguments; the plugin makes no copy. */
struct baseline_tensor {
    void *data;        /* device memory of the harness (host memory on the CPU device) */
    const char *dtype; /* "fp16", "bf16", "fp32", "int32", "uint8" */
    int64_t elements;
};

struct baseline_call {
    const char *kernel;  /* "rmsnorm" */
    const char *formula; /* one of formulas(kernel) */
    const char *dtype;   /* the problem's */
    int size_count;
    const char *size_name[BASELINE_SIZES]; /* "rows", "hidden", ... */
    int64_t size[BASELINE_SIZES];
    int real_count;
    const char *real_name[BASELINE_SIZES]; /* "eps" */
    double real[BASELINE_SIZES];
    int tensor_count;
    struct baseline_tensor tensor[BASELINE_TENSORS];
};

struct baseline {
    int version; /* BASELINE_VERSION */
    /* "PyTorch 2.11.0", for the record. */
    const char *(*describe)(void);
    /* device: ordinal of the CUDA device whose primary context is current, or -1 for the CPU;
     * stream: the CUstream everything shall be enqueued on. */
    int (*open)(int device, void *stream);
    void (*close)(void);
    /* The formulas the plugin has for a kernel, NULL-terminated: the first is the eager reference
     * ("hf_eager"), later ones are fused ops ("torch_fused") where this version has them. */
    const char *const *(*formulas)(const char *kernel);
    /* Wraps the buffers; *handle is then good for run() until release(). All tensors stay owned
     * by the harness. Results go where the kernel's own would: into the out and in-place buffers,
     * where `copy_back` was asked for at run(), else they are left in the framework's memory (as a
     * framework's user would have them). */
    int (*prepare)(const struct baseline_call *call, void **handle);
    /* Enqueues one evaluation, without waiting for it. copy_back: for checking, not for timing. */
    int (*run)(void *handle, int copy_back);
    void (*release)(void *handle);
    /* How far the formula may be from the fp64 reference: |error| <= relative |reference| +
     * absolute magnitude (the sum of |terms|), and the reason in words. */
    int (*bound)(const char *kernel, const char *formula, const char *dtype, double *relative,
                 double *absolute, const char **reason);
    const char *(*error)(void);
};

typedef const struct baseline *(*baseline_entry)(void); /* symbol "fastinfer_baseline" */

#ifdef __cplusplus
}
#endif
#endif
