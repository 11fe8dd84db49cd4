/* device_cpu.c - the CPU device: the same kernels, run thread by thread by simt.
 *
 * It is there to be right, and to be everywhere; its times are those of an emulation. One launch
 * runs at a time in a process: all cores are used by running several processes.
 */
#include "runtime/device.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/simt_run.h"
#include "runtime/simt_trace.h"

struct module {
    void *library;
    char suffix[16];
    struct function *functions;
};
struct function {
    void (*thunk)(void *const *params);
    struct function *next;
};
struct graph { /* launches to be made again */
    struct launch *launch;
    int count, capacity;
};
struct cpu_device {
    struct device device; /* first, so that a device is one of these */
    struct graph *recording;
    struct timespec mark[2];
};

static struct cpu_device *self(struct device *device) { return (struct cpu_device *)device; }

static void cpu_close(struct device *device) { free(device); }

static enum status cpu_allocate(struct device *device, size_t bytes, void **out) {
    (void)device;
    *out = aligned_alloc(256, (bytes / 256 + 1) * 256);
    if (!*out)
        return fail(STATUS_MEMORY, "cpu: out of memory: %.2f GiB wanted", (double)bytes / 0x1p30);
    simt_trace_add(*out, bytes);
    return STATUS_OK;
}
static void cpu_release(struct device *device, void *pointer) {
    (void)device;
    simt_trace_remove(pointer);
    free(pointer);
}
static enum status cpu_free_bytes(struct device *device, size_t *out) {
    (void)device;
    FILE *file = fopen("/proc/meminfo", "r");
    char line[128];
    unsigned long long kib = 0;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %llu", &kib) == 1) break;
    if (file) fclose(file);
    *out = (size_t)kib << 10;
    return STATUS_OK;
}
static enum status cpu_copy(struct device *device, void *to, const void *from, size_t bytes) {
    (void)device;
    if (bytes) memcpy(to, from, bytes);
    return STATUS_OK;
}
static enum status cpu_set_bytes(struct device *device, void *to, int byte, size_t bytes) {
    (void)device;
    if (bytes) memset(to, byte, bytes);
    return STATUS_OK;
}

/* Compiled kernels call simt.c back by name. A program offers its names to all; where simt.c is in
 * a library that was loaded for itself, that library has to. */
static void offer_words(void) {
    static bool done;
    Dl_info here;
    if (!done && dladdr((void *)(uintptr_t)&simt_run, &here) && here.dli_fname)
        dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL);
    done = true;
}

static enum status cpu_module_load(struct device *device, const char *path, const char *suffix,
                                   struct module **out) {
    (void)device;
    offer_words();
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) return fail(STATUS_LAUNCH, "%s: %s", path, dlerror());
    *out = calloc(1, sizeof **out);
    (*out)->library = library;
    snprintf((*out)->suffix, sizeof(*out)->suffix, "%s", suffix);
    return STATUS_OK;
}
static void cpu_module_unload(struct device *device, struct module *module) {
    (void)device;
    if (!module) return;
    while (module->functions) {
        struct function *next = module->functions->next;
        free(module->functions);
        module->functions = next;
    }
    dlclose(module->library);
    free(module);
}
static enum status cpu_function_get(struct device *device, struct module *module, const char *entry,
                                    unsigned shared_bytes, struct function **out) {
    (void)device, (void)shared_bytes;
    char name[128];
    snprintf(name, sizeof name, "%s%s_thunk", entry, module->suffix);
    void *symbol = dlsym(module->library, name);
    if (!symbol) return fail(STATUS_LAUNCH, "the shared object has no %s", name);
    *out = calloc(1, sizeof **out);
    memcpy(&(*out)->thunk, &symbol, sizeof symbol);
    (*out)->next = module->functions;
    module->functions = *out;
    return STATUS_OK;
}
static int cpu_occupancy(struct device *device, struct function *function, int threads,
                         unsigned shared_bytes) {
    (void)device, (void)function, (void)threads, (void)shared_bytes;
    return -1;
}

struct call {
    void (*thunk)(void *const *params);
    void *const *params;
};
static void run_thread(void *argument) {
    const struct call *call = argument;
    call->thunk(call->params);
}

static struct device_counts counts;
static bool counting;

void device_cpu_count(bool on) {
    if (on) counts = (struct device_counts){0};
    counting = on;
}
struct device_counts device_cpu_counts(void) {
    return counts;
}

static enum status run(const struct launch *l) {
    void *params[MAX_PARAMS];
    for (int i = 0; i < l->param_count; i++) params[i] = (void *)(uintptr_t)&l->param[i];
    struct call call = {l->function->thunk, params};
    simt_dim grid = {l->grid[0], l->grid[1], l->grid[2]};
    simt_dim block = {l->block[0], l->block[1], l->block[2]};
    if (counting) simt_trace_begin();
    int failed = simt_run(grid, block, l->shared_bytes, l->cooperative, run_thread, &call);
    if (counting) {
        struct simt_traffic traffic = simt_trace_end();
        struct simt_counts did = simt_counts();
        counts.barriers += did.block_barriers + did.grid_barriers;
        counts.exchanges += did.exchanges;
        counts.global_bytes += traffic.bytes, counts.global_sectors += traffic.sectors;
    }
    return failed ? fail(STATUS_LAUNCH, "%s", simt_error()) : STATUS_OK;
}

static enum status cpu_launch(struct device *device, const struct launch *launch) {
    struct graph *graph = self(device)->recording;
    if (!graph) return run(launch);
    if (graph->count == graph->capacity) {
        graph->capacity = graph->capacity ? 2 * graph->capacity : 16;
        struct launch *larger =
            realloc(graph->launch, (size_t)graph->capacity * sizeof *graph->launch);
        if (!larger) return fail(STATUS_SYSTEM, "out of memory");
        graph->launch = larger;
    }
    graph->launch[graph->count++] = *launch;
    return STATUS_OK;
}
static enum status cpu_synchronize(struct device *device) {
    (void)device;
    return STATUS_OK;
}
static enum status cpu_record_begin(struct device *device) {
    self(device)->recording = calloc(1, sizeof(struct graph));
    return self(device)->recording ? STATUS_OK : fail(STATUS_SYSTEM, "out of memory");
}
static enum status cpu_record_end(struct device *device, struct graph **out) {
    *out = self(device)->recording;
    self(device)->recording = NULL;
    return STATUS_OK;
}
static enum status cpu_graph_launch(struct device *device, struct graph *graph) {
    (void)device;
    for (int i = 0; i < graph->count; i++) TRY(run(&graph->launch[i]));
    return STATUS_OK;
}
static void cpu_graph_free(struct device *device, struct graph *graph) {
    (void)device;
    if (graph) free(graph->launch);
    free(graph);
}
static enum status cpu_mark(struct device *device, int mark) {
    clock_gettime(CLOCK_MONOTONIC, &self(device)->mark[mark]);
    return STATUS_OK;
}
static enum status cpu_elapsed(struct device *device, double *ns) {
    const struct timespec *m = self(device)->mark;
    *ns = (double)(m[1].tv_sec - m[0].tv_sec) * 1e9 + (double)(m[1].tv_nsec - m[0].tv_nsec);
    return STATUS_OK;
}
static enum status cpu_hold(struct device *device) {
    (void)device;
    return STATUS_OK;
}
static void *cpu_stream(struct device *device) {
    (void)device;
    return NULL;
}

static enum status cpu_enter(struct device *device, void *stream, void **visit) {
    (void)device, (void)stream, (void)visit;
    return STATUS_OK;
}
static void cpu_leave(struct device *device, void *visit) { (void)device, (void)visit; }

static const struct device_ops cpu_ops = {
    .close = cpu_close,
    .allocate = cpu_allocate,
    .release = cpu_release,
    .free_bytes = cpu_free_bytes,
    .upload = cpu_copy,
    .host_allocate = cpu_allocate,
    .host_release = cpu_release,
    .upload_begin = cpu_copy,
    .download = cpu_copy,
    .copy = cpu_copy,
    .set_bytes = cpu_set_bytes,
    .module_load = cpu_module_load,
    .module_unload = cpu_module_unload,
    .function_get = cpu_function_get,
    .occupancy = cpu_occupancy,
    .launch = cpu_launch,
    .synchronize = cpu_synchronize,
    .record_begin = cpu_record_begin,
    .record_end = cpu_record_end,
    .graph_launch = cpu_graph_launch,
    .graph_free = cpu_graph_free,
    .mark = cpu_mark,
    .elapsed = cpu_elapsed,
    .clock_resolution_ns = 100,
    .hold = cpu_hold,
    .let_go = cpu_hold,
    .stream = cpu_stream,
    .enter = cpu_enter,
    .leave = cpu_leave,
};

void device_describe_cpu(struct device_info *out) {
    *out = (struct device_info){.kind = DEVICE_CPU,
                                .sms = (int)sysconf(_SC_NPROCESSORS_ONLN),
                                .threads_per_sm = 1024, /* a T4's limits, so that a point that
                                                           runs here can run there */
                                .threads_per_block = 1024,
                                .shared_per_block = 64 << 10,
                                .shared_per_sm = 64 << 10,
                                .l2_bytes = 4 << 20,
                                .ecc = -1};
    out->memory_bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    snprintf(out->id, sizeof out->id, "cpu");
    snprintf(out->slug, sizeof out->slug, "cpu");
    snprintf(out->name, sizeof out->name, "CPU");
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !colon) continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(out->name, sizeof out->name, "CPU (%.80s)", colon + 2);
        break;
    }
    if (file) fclose(file);
}

enum status device_open_cpu(struct device **out) {
    struct cpu_device *cpu = calloc(1, sizeof *cpu);
    if (!cpu) return fail(STATUS_SYSTEM, "out of memory");
    device_describe_cpu(&cpu->device.info);
    cpu->device.ops = &cpu_ops;
    *out = &cpu->device;
    return STATUS_OK;
}

void device_cpu_schedule(int order, uint64_t seed) { simt_schedule((enum simt_order)order, seed); }
