/* device.h - a machine that runs kernels: cuda:N through the driver API, cpu through simt.
 *
 * Every call is on the calling thread; a device belongs to one process. Pointers handed out are
 * device pointers: on the CPU device they are ordinary memory.
 */
#ifndef FASTINFER_DEVICE_H
#define FASTINFER_DEVICE_H

#include "runtime/kernel.h"

enum device_kind { DEVICE_CPU, DEVICE_CUDA };

struct device_info {
    enum device_kind kind;
    int ordinal;   /* N of cuda:N */
    char id[16];   /* "cpu", "cuda:0" */
    char name[96]; /* "NVIDIA H200" */
    char slug[96]; /* "nvidia-h200": file names */
    int arch;      /* 90 for sm_90; 0 on the CPU device */
    int sms;       /* multiprocessors; cores on the CPU device */
    int threads_per_sm, threads_per_block;
    int registers_per_sm;
    int shared_per_block; /* bytes a block may have after opting in */
    int shared_per_sm;
    int64_t l2_bytes, memory_bytes;
    int clock_khz, memory_clock_khz, bus_bits;
    int ecc;            /* 1 on, 0 off, -1 unknown */
    int driver_version; /* 13000 for CUDA 13.0; 0 on the CPU device */
    char driver[64];    /* kernel driver, "580.159.03" */
};

enum { MAX_PARAMS = 48 };

struct module;   /* loaded code */
struct function; /* an entry of a module; lives as long as it */
struct graph;    /* a recorded sequence of launches */

struct launch {
    struct function *function;
    unsigned grid[3], block[3];
    unsigned shared_bytes;
    bool cooperative;
    uint64_t param[MAX_PARAMS]; /* each in the low bytes of its slot */
    int param_count;
};

struct device {
    struct device_info info;
    const struct device_ops *ops;
};

struct device_ops {
    void (*close)(struct device *);
    enum status (*allocate)(struct device *, size_t bytes, void **out); /* 256-byte aligned */
    void (*release)(struct device *, void *pointer);
    enum status (*free_bytes)(struct device *, size_t *out);
    enum status (*upload)(struct device *, void *to, const void *from, size_t bytes);
    /* Memory of the host that the device copies from by itself: pinned on a GPU. upload_begin()
     * enqueues such a copy; until the stream has done it `from` is not to be written. */
    enum status (*host_allocate)(struct device *, size_t bytes, void **out);
    void (*host_release)(struct device *, void *pointer);
    enum status (*upload_begin)(struct device *, void *to, const void *from, size_t bytes);
    enum status (*download)(struct device *, void *to, const void *from, size_t bytes);
    enum status (*copy)(struct device *, void *to, const void *from, size_t bytes);
    enum status (*set_bytes)(struct device *, void *to, int byte, size_t bytes);
    enum status (*module_load)(struct device *, const char *path, const char *suffix,
                               struct module **out);
    void (*module_unload)(struct device *, struct module *);
    enum status (*function_get)(struct device *, struct module *, const char *entry,
                                unsigned shared_bytes, struct function **out);
    /* Resident blocks a multiprocessor; -1 where unknown. */
    int (*occupancy)(struct device *, struct function *, int threads, unsigned shared_bytes);
    enum status (*launch)(struct device *, const struct launch *);
    enum status (*synchronize)(struct device *);
    enum status (*record_begin)(struct device *);
    enum status (*record_end)(struct device *, struct graph **out);
    enum status (*graph_launch)(struct device *, struct graph *);
    void (*graph_free)(struct device *, struct graph *);
    /* Two marks in the stream and the time between them. Marks 0 and 1. */
    enum status (*mark)(struct device *, int mark);
    enum status (*elapsed)(struct device *, double *ns);
    double clock_resolution_ns;
    /* Holds the stream until let go (or 2 s), so that what is enqueued runs without gaps. */
    enum status (*hold)(struct device *);
    enum status (*let_go)(struct device *);
    void *(*stream)(struct device *); /* CUstream, for baselines; NULL on the CPU */
    /* For guests in another's process: from enter to leave the calling thread is in the device's
     * context and launches go to `stream`, a CUstream (NULL: CUDA's default stream); leave puts
     * both back. *visit is for leave. They do not nest. */
    enum status (*enter)(struct device *, void *stream, void **visit);
    void (*leave)(struct device *, void *visit);
};

/* Is the device new enough for the kernel? */
static inline bool kernel_runs_on(const struct kernel *kernel, const struct device_info *device) {
    return device->kind == DEVICE_CPU || device->arch >= kernel->least_arch;
}

/* Opens "cpu", "cuda:N" or "auto" (the first GPU, else the CPU; *note then says so in one line,
 * else it is ""). note: 256 bytes, or NULL. */
enum status device_open(const char *id, char *note, struct device **out);
enum status device_open_cpu(struct device **out);
enum status device_open_cuda(int ordinal, struct device **out);
/* How many CUDA devices there are; a missing driver is 0 with the reason in fail_message(). */
int device_cuda_count(void);
/* Fills facts of a device without opening a context on it. */
enum status device_describe_cuda(int ordinal, struct device_info *out);
void device_describe_cpu(struct device_info *out);

/* "Tesla T4" -> "tesla-t4": letters and digits, all else a hyphen between them. */
void device_slug(const char *name, char *slug, size_t bytes);

/* The facts of an architecture for compiling without such a device: arch 75 gives a Tesla T4's
 * limits, others their usual ones. */
void device_describe_arch(int arch, struct device_info *out);

/* What launches on the CPU device did since the last call, for code compiled as CPU_COUNTED:
 * threads arriving at barriers and warp collectives, bytes and sectors as in simt_trace.h. */
struct device_counts {
    uint64_t barriers, exchanges, global_bytes, global_sectors;
};
void device_cpu_count(bool on);
struct device_counts device_cpu_counts(void);

/* The next launch schedule of the CPU device: 0 forward, 1 reverse, 2 shuffled with `seed`. */
void device_cpu_schedule(int order, uint64_t seed);

#endif
