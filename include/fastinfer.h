/* fastinfer.h - the library: tuned kernels on somebody else's tensors and streams.
 *
 * A device is opened once; a kernel is opened for a dtype and its compiled sizes ("hidden=3072")
 * and then launched for any of its other sizes (rows). Which variant runs is read from configs/,
 * as `fastinfer config` shows; the first launch with sizes that nothing like them was launched
 * with may compile or load one, later ones neither allocate nor wait for the device.
 *
 * Every function that can fail returns FASTINFER_OK or another code, its outputs last;
 * fastinfer_error() then has the sentence. Any thread may call any function; one lock makes them
 * wait for one another, so a first launch that compiles holds up the others.
 */
#ifndef FASTINFER_H
#define FASTINFER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum fastinfer_code {
    FASTINFER_OK,
    FASTINFER_ARGUMENT, /* the caller asked for something that cannot be */
    FASTINFER_SYSTEM,   /* the operating system refused */
    FASTINFER_MEMORY,   /* out of memory, or an illegal or misaligned address */
    FASTINFER_MISSING,  /* a library, compiler or device is not on this machine */
    FASTINFER_COMPILE,  /* the kernel did not compile */
    FASTINFER_LAUNCH,   /* the kernel could not be launched */
    FASTINFER_OTHER     /* anything else */
};

enum fastinfer_dtype { FASTINFER_FP16, FASTINFER_BF16, FASTINFER_FP32 };

enum { FASTINFER_ALIGNMENT = 16 }; /* bytes: of every pointer that a launch is given */

struct fastinfer_device;
struct fastinfer_kernel;

/* The sentence for this thread's last failure: what, where, what was expected. */
const char *fastinfer_error(void);

/* Opens "cpu" or "cuda:N" (in the primary context, which PyTorch shares; the calling thread's
 * current context stays what it is). configs: the folder that configs/<device>.json is looked for
 * in; NULL: $FASTINFER_CONFIGS, else ./configs. A kernel keeps its device open. */
enum fastinfer_code fastinfer_device_open(const char *id, const char *configs,
                                          struct fastinfer_device **out);
void fastinfer_device_close(struct fastinfer_device *device);
/* "NVIDIA H200", and where points come from: "configs/nvidia-h200.json", "built-in default". Both
 * live as long as the device. */
const char *fastinfer_device_name(const struct fastinfer_device *device);
const char *fastinfer_device_points(const struct fastinfer_device *device);

/* Opens a kernel ("rmsnorm") for one dtype. sizes: its compiled sizes, "q_heads=24,kv_heads=8",
 * what is left out takes its default. fixed: tunables that must have these values whatever configs/
 * says, "trig=0"; NULL: none. Nothing is compiled yet. */
enum fastinfer_code fastinfer_kernel_open(struct fastinfer_device *device, const char *name,
                                          enum fastinfer_dtype dtype, const char *sizes,
                                          const char *fixed, struct fastinfer_kernel **out);
void fastinfer_kernel_close(struct fastinfer_kernel *kernel);
/* What a launch takes: pointers, sizes that are not compiled, and real parameters; and their
 * names, NULL past the last. */
int fastinfer_kernel_pointers(const struct fastinfer_kernel *kernel);
int fastinfer_kernel_sizes(const struct fastinfer_kernel *kernel);
int fastinfer_kernel_reals(const struct fastinfer_kernel *kernel);
const char *fastinfer_kernel_pointer_name(const struct fastinfer_kernel *kernel, int index);
const char *fastinfer_kernel_size_name(const struct fastinfer_kernel *kernel, int index);
const char *fastinfer_kernel_real_name(const struct fastinfer_kernel *kernel, int index);

/* Does what a first launch with these sizes would do before it launches, and writes what would
 * run, "block=128,...", into text (room for `bytes`; NULL: not wanted) and the bytes of scratch
 * that the launch must be given (NULL: not wanted). */
enum fastinfer_code fastinfer_kernel_prepare(struct fastinfer_kernel *kernel, const int64_t *sizes,
                                             char *text, size_t bytes, size_t *scratch_bytes);

/* Enqueues the kernel and returns. pointers: fastinfer_kernel_pointers() of them, in the device's
 * memory, FASTINFER_ALIGNMENT-aligned, dense and row-major in the shapes that the kernel's source
 * names, NULL where one has no elements. sizes: those not compiled. reals: NULL for the defaults.
 * scratch: NULL where prepare says 0 bytes; not to be shared by launches that may overlap.
 * stream: a CUstream of the device (NULL is CUDA's default stream); ignored on the CPU, where the
 * kernel has run when this returns. */
enum fastinfer_code fastinfer_kernel_launch(struct fastinfer_kernel *kernel, void *const *pointers,
                                            const int64_t *sizes, const double *reals,
                                            void *scratch, size_t scratch_bytes, void *stream);

/* A whole model: prompts in, tokens out. Its launches go to a stream of the device's own, not to
 * the caller's; tokens and logits wait for it. One thread at a time may use an engine. */
struct fastinfer_engine;
enum { FASTINFER_MAX_EOS = 16 };
struct fastinfer_engine_options {
    int batch;           /* sequences side by side, 1 to 16; 0: 1 */
    int dtype;           /* enum fastinfer_dtype; -1: the checkpoint's */
    int64_t capacity;    /* positions of a sequence; 0: 4096, or the model's where that is less */
    const char *configs; /* as in fastinfer_device_open() */
    uint64_t seed;       /* of a preset's random weights */
    int config_only;     /* 1: the folder has config.json alone; weights are random until written */
};
struct fastinfer_weight {
    void *data;            /* device memory, the engine's until it is closed */
    int64_t rows, columns; /* columns 0: a vector */
};
struct fastinfer_engine_facts {
    int batch, dtype;
    int64_t capacity, vocab;
    int eos_count;
    int64_t eos[FASTINFER_MAX_EOS]; /* any of them ends a text; decoding goes on past it */
    int persistent;                 /* 1: one kernel for a step, 0: a graph of launches */
};
struct fastinfer_sampling {
    float temperature; /* 0: greedy, the rest left out */
    int top_k;         /* 0: off */
    float top_p;       /* in (0, 1]; 1: off */
    float min_p;       /* in [0, 1]; 0: off */
    uint64_t seed;
};

/* Opens a HuggingFace folder, or a preset ("llama-3.2-3b") with random weights. options: NULL for
 * the defaults. An engine keeps its device open. */
enum fastinfer_code fastinfer_engine_open(struct fastinfer_device *device, const char *folder,
                                          const struct fastinfer_engine_options *options,
                                          struct fastinfer_engine **out);
void fastinfer_engine_close(struct fastinfer_engine *engine); /* NULL is fine */
void fastinfer_engine_read(const struct fastinfer_engine *engine,
                           struct fastinfer_engine_facts *out);
/* Where a weight lies, in the engine's dtype, by its name in a folder ("model.norm.weight").
 * Reading it is free; whoever writes it does so while no launch of the engine is under way. */
enum fastinfer_code fastinfer_engine_weight(const struct fastinfer_engine *engine, const char *name,
                                            struct fastinfer_weight *out);
/* How a sequence chooses from now on; NULL: greedy, as it does until told. */
enum fastinfer_code fastinfer_engine_sampling(struct fastinfer_engine *engine, int sequence,
                                              const struct fastinfer_sampling *how);
/* Begins a sequence anew with `count` ids and enqueues the choice of the token after them. */
enum fastinfer_code fastinfer_engine_prompt(struct fastinfer_engine *engine, int sequence,
                                            const int32_t *ids, int64_t count);
/* Enqueues so many steps, each a token more for every sequence. */
enum fastinfer_code fastinfer_engine_decode(struct fastinfer_engine *engine, int64_t steps);
/* Waits, then gives ids [first, first + count) of prompt and what followed it. */
enum fastinfer_code fastinfer_engine_tokens(struct fastinfer_engine *engine, int sequence,
                                            int64_t first, int64_t count, int32_t *out);
/* Waits, then gives the logits (vocab) that the last token was chosen from. */
enum fastinfer_code fastinfer_engine_logits(struct fastinfer_engine *engine, int sequence,
                                            float *out);

#ifdef __cplusplus
}
#endif
#endif
