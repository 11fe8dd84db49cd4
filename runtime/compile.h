/* compile.h - kernel source + point -> binary, in a content-addressed cache on disk.
 *
 * The key is a hash of source and headers, options, compiler and its version, and architecture;
 * two processes may fill the same key at once (files are renamed into place).
 */
#ifndef FASTINFER_COMPILE_H
#define FASTINFER_COMPILE_H

#include "runtime/device.h"

enum { CPU_COUNTED = 1 }; /* code that counts its accesses to memory: simt_trace.h */
struct target {
    enum device_kind kind;
    int arch; /* 75, 80, ... for DEVICE_CUDA; on the CPU 0, or CPU_COUNTED */
};

struct build {
    enum status status; /* OK or COMPILE */
    bool cached;        /* found in the cache */
    double compile_ms;  /* its share of the compilation, also when cached */
    int registers, spill_bytes, stack_bytes, shared_bytes; /* -1 where unknown */
    int instructions;   /* of the machine code, all entries and padding; -1 unknown */
    int blocks_per_sm;  /* occupancy by cuda_occupancy.h or the driver; -1 unknown */
    char code_hash[33]; /* of the machine code alone; "" on the CPU device */
    char path[1024];    /* cubin or shared object */
    char suffix[16];    /* of the entries' names in it */
    char log[2048];     /* the compiler's words when it failed */
};

/* Compiles `count` points of one kernel and problem (its compiled sizes and dtype) that are not in
 * the cache yet, the CPU's in one shared object. A point that fails is a build with its reason;
 * the function itself fails only where no compiler works. */
enum status compile_points(const struct kernel *kernel, const struct problem *problem,
                           const struct point *points, int count, struct target target,
                           struct build *builds);
/* The check kernel (fp64, on the device) of a kernel and problem. */
enum status compile_check(const struct kernel *kernel, const struct problem *problem,
                          struct target target, struct build *build);
/* kernels/support/support.cu: fill, touch, empty, convert, hold. */
enum status compile_support(struct target target, struct build *build);

/* A .cu that stands alone, as it is: without macros, without our headers. `plan` names entries. */
enum status compile_file(const char *path, const struct plan *plan, struct target target,
                         struct build *build);

/* The compiler in use and its version: "NVRTC 13.0 (/usr/.../libnvrtc.so.13)", "g++ 12.2.0". */
enum status compiler_describe(struct target target, char *out, size_t bytes);
/* Is there an NVRTC that suits the driver (or any, without one)? If not, fail_message() names the
 * package to install. */
enum status nvrtc_available(void);

/* Where binaries are kept: $FASTINFER_CACHE, else $XDG_CACHE_HOME/fastinfer, else
 * ~/.cache/fastinfer. Created on first use. */
enum status cache_folder(char *out, size_t bytes);

/* Sources that the program carries, by path from the tree's root. NULL when there is none. */
struct source {
    const char *path, *text;
    size_t bytes;
};
const struct source *source_find(const char *path);
/* A kernel's .cu with what it includes in place, reduced to what a GPU's compiler takes of it: it
 * needs its macros and nothing else. The caller frees *out. */
enum status source_flatten(const char *path, char **out);

#endif
