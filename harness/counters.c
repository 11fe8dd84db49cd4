#include "harness/counters.h"

#include <ctype.h>
#include <dlfcn.h>
#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/cupti_api.h"
#include "runtime/cuda_api.h"

/* --- names
 * ---------------------------------------------------------------------------------------- */

#define BASIC                                                                                      \
    "dram__bytes_read.sum,dram__bytes_write.sum,"                                                  \
    "dram__throughput.avg.pct_of_peak_sustained_elapsed,lts__t_sector_hit_rate.pct,"               \
    "l1tex__t_sector_hit_rate.pct,sm__warps_active.avg.pct_of_peak_sustained_active"
#define FULL                                                                                       \
    BASIC ",l1tex__average_t_sectors_per_request_pipe_lsu_mem_global_op_ld.ratio,"                 \
          "l1tex__average_t_sectors_per_request_pipe_lsu_mem_global_op_st.ratio,"                  \
          "smsp__issue_active.avg.pct_of_peak_sustained_active,"                                   \
          "smsp__sass_average_data_bytes_per_sector_mem_global_op_ld.pct,"                         \
          "lts__t_sectors_op_read.sum,lts__t_sectors_op_write.sum"

enum status counters_parse(const char *text, struct counter_set *out) {
    *out = (struct counter_set){0};
    if (!strcmp(text, "off")) return STATUS_OK;
    if (!strcmp(text, "basic")) text = BASIC;
    if (!strcmp(text, "full")) text = FULL;
    while (*text) {
        size_t n = strcspn(text, ",");
        bool metric = n > 4 && n < sizeof out->counter[0].name && strstr(text, "__") &&
                      strstr(text, "__") < text + n;
        for (size_t i = 0; i < n; i++)
            metric &= isalnum((unsigned char)text[i]) || text[i] == '_' || text[i] == '.';
        if (!metric)
            return fail(STATUS_ARGUMENT,
                        "'%.*s' is no metric; off, basic, full, or names such as "
                        "dram__bytes_read.sum with commas between were expected",
                        (int)n, text);
        if (out->count == MAX_COUNTERS)
            return fail(STATUS_ARGUMENT, "more than %d metrics", MAX_COUNTERS);
        struct counter *c = &out->counter[out->count++];
        memcpy(c->name, text, n);
        c->value = NAN;
        text += n + (text[n] == ',');
    }
    return out->count ? STATUS_OK : fail(STATUS_ARGUMENT, "no metric was named");
}

/* --- the library
 * ---------------------------------------------------------------------------------- */

static void *open_library(void) {
    static const char *const patterns[] = {
        "/usr/local/cuda/extras/CUPTI/lib64/libcupti.so*",
        "/usr/local/cuda/lib64/libcupti.so*",
        "/usr/local/cuda/lib/libcupti.so*",
        "/usr/local/cuda*/targets/*/lib/libcupti.so*",
        "/usr/local/cuda*/extras/CUPTI/lib64/libcupti.so*",
        "/usr/lib/x86_64-linux-gnu/libcupti.so*",
        "/usr/local/lib/python3*/*-packages/nvidia/*/lib/libcupti.so.*",
        "/usr/lib/python3*/*-packages/nvidia/*/lib/libcupti.so.*",
    };
    const char *named = getenv("FASTINFER_CUPTI");
    if (named && *named) return dlopen(named, RTLD_NOW | RTLD_LOCAL);
    void *library = dlopen("libcupti.so.13", RTLD_NOW | RTLD_LOCAL);
    if (!library) library = dlopen("libcupti.so", RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns && !library; i++) {
        glob_t found;
        if (!glob(patterns[i], 0, NULL, &found))
            for (size_t k = 0; k < found.gl_pathc && !library; k++)
                library = dlopen(found.gl_pathv[k], RTLD_NOW | RTLD_LOCAL);
        globfree(&found);
    }
    return library;
}

static const char *load(struct cupti_api *api) {
    void *library = open_library(), *symbol;
    if (!library) return "libcupti";
#define X(name, params)                                                                            \
    if (!(symbol = dlsym(library, #name))) return #name;                                           \
    memcpy(&api->name, &symbol, sizeof symbol);
    CUPTI_LIST(X)
#undef X
    if ((symbol = dlsym(library, "cuptiGetResultString")))
        memcpy(&api->cuptiGetResultString, &symbol, sizeof symbol);
    return NULL;
}

const struct cupti_api *cupti_api(void) {
    static struct cupti_api api;
    static const char *missing;
    static bool tried;
    if (!tried) missing = load(&api);
    tried = true;
    if (!missing) return &api;
    if (!strcmp(missing, "libcupti"))
        fail(STATUS_MISSING,
             "no counters: libcupti was not found; the CUDA toolkit has it (package "
             "cuda-cupti-13-0, or python3 -m pip install nvidia-cuda-cupti), or FASTINFER_CUPTI "
             "names it");
    else
        fail(STATUS_MISSING,
             "no counters: the CUPTI found has no %s; one of CUDA 12.6 or newer is needed",
             missing);
    return NULL;
}

static enum status cupti_fail(const struct cupti_api *api, int result, const char *call) {
    const char *text = NULL;
    if (result == CUPTI_DENIED || result == CUPTI_DENIED_VIRTUAL)
        return fail(STATUS_MISSING,
                    "no counters: the driver keeps them for administrators (ERR_NVGPUCTRPERM); run "
                    "as root, or load the nvidia module with NVreg_RestrictProfilingToAdminUsers=0");
    if (result == CUPTI_VIRTUAL)
        return fail(STATUS_MISSING, "no counters: this virtual GPU does not have them");
    if (api->cuptiGetResultString) api->cuptiGetResultString(result, &text);
    return fail(STATUS_MISSING, "no counters: %s: error %d%s%s", call, result, text ? ", " : "",
                text ? text : "");
}
#define CUPTI(api, name, params)                                                                   \
    do {                                                                                           \
        int result_ = (api)->name(params);                                                         \
        if (result_) return cupti_fail(api, result_, #name);                                       \
    } while (0)

/* --- counting
 * ------------------------------------------------------------------------------------- */

struct counters {
    const struct cupti_api *api;
    struct device *device;
    struct counter_set wanted;
    const char *name[MAX_COUNTERS]; /* of those the chip has */
    int index[MAX_COUNTERS], count; /* and where they stand in `wanted` */
    char chip[64];
    void *host, *profiler;
    uint8_t *availability, *config, *data;
    size_t config_bytes, data_bytes;
};

static enum status open_host(struct counters *c, void **host) {
    struct cupti_host_open open = {.size = CUPTI_SIZE(cupti_host_open, host),
                                   .type = CUPTI_RANGE_PROFILER,
                                   .chip = c->chip,
                                   .availability = c->availability};
    CUPTI(c->api, cuptiProfilerHostInitialize, &open);
    *host = open.host;
    return STATUS_OK;
}

static void close_host(struct counters *c, void *host) {
    struct cupti_host_close close = {.size = CUPTI_SIZE(cupti_host_close, host), .host = host};
    if (host) c->api->cuptiProfilerHostDeinitialize(&close);
}

static int add_metrics(struct counters *c, void *host, const char **names, size_t count) {
    struct cupti_add_metrics add = {.size = CUPTI_SIZE(cupti_add_metrics, count),
                                    .host = host,
                                    .names = names,
                                    .count = count};
    return c->api->cuptiProfilerHostConfigAddMetrics(&add);
}

/* Which of the wanted metrics does the chip have? Each is tried alone: one unknown name would
 * spoil the others. */
static enum status choose_metrics(struct counters *c) {
    for (int i = 0; i < c->wanted.count; i++) {
        const char *name = c->wanted.counter[i].name;
        void *host = NULL;
        TRY(open_host(c, &host));
        int unknown = add_metrics(c, host, &name, 1);
        close_host(c, host);
        if (unknown) continue;
        c->index[c->count] = i;
        c->name[c->count++] = name;
    }
    return c->count ? STATUS_OK
                    : fail(STATUS_ARGUMENT, "no counters: %s has none of the metrics named", c->chip);
}

static enum status describe_chip(struct counters *c, void *context) {
    struct cupti_plain plain = {.size = CUPTI_SIZE(cupti_plain, priv)};
    CUPTI(c->api, cuptiProfilerInitialize, &plain);
    struct cupti_chip chip = {.size = CUPTI_SIZE(cupti_chip, name),
                              .device = (size_t)c->device->info.ordinal};
    CUPTI(c->api, cuptiDeviceGetChipName, &chip);
    snprintf(c->chip, sizeof c->chip, "%s", chip.name);
    struct cupti_availability a = {.size = CUPTI_SIZE(cupti_availability, image),
                                   .context = context};
    CUPTI(c->api, cuptiProfilerGetCounterAvailability, &a);
    a.image = c->availability = calloc(1, a.bytes + 1);
    CUPTI(c->api, cuptiProfilerGetCounterAvailability, &a);
    return STATUS_OK;
}

static enum status configure(struct counters *c, void *context) {
    int refused = add_metrics(c, c->host, c->name, (size_t)c->count);
    if (refused) return cupti_fail(c->api, refused, "cuptiProfilerHostConfigAddMetrics");
    struct cupti_config_size size = {.size = CUPTI_SIZE(cupti_config_size, bytes), .host = c->host};
    CUPTI(c->api, cuptiProfilerHostGetConfigImageSize, &size);
    c->config_bytes = size.bytes;
    c->config = calloc(1, size.bytes + 1);
    struct cupti_config config = {.size = CUPTI_SIZE(cupti_config, image),
                                  .host = c->host,
                                  .bytes = size.bytes,
                                  .image = c->config};
    CUPTI(c->api, cuptiProfilerHostGetConfigImage, &config);
    struct cupti_enable enable = {.size = CUPTI_SIZE(cupti_enable, profiler), .context = context};
    CUPTI(c->api, cuptiRangeProfilerEnable, &enable);
    c->profiler = enable.profiler;
    struct cupti_data_size data = {.size = CUPTI_SIZE(cupti_data_size, bytes),
                                   .profiler = c->profiler,
                                   .names = c->name,
                                   .count = (size_t)c->count,
                                   .ranges = 1,
                                   .nodes = 1};
    CUPTI(c->api, cuptiRangeProfilerGetCounterDataSize, &data);
    c->data_bytes = data.bytes;
    c->data = calloc(1, data.bytes + 1);
    return STATUS_OK;
}

enum status counters_open(struct device *device, const struct counter_set *wanted,
                          struct counters **out) {
    const struct cupti_api *api;
    const struct cuda_api *cuda = cuda_api();
    CUcontext context = NULL;
    *out = NULL;
    if (device->info.kind != DEVICE_CUDA)
        return fail(STATUS_MISSING, "no counters: the CPU device has none");
    if (!(api = cupti_api())) return STATUS_MISSING;
    if (!cuda || cuda->cuCtxGetCurrent(&context) || !context)
        return fail(STATUS_MISSING, "no counters: no CUDA context");
    struct counters *c = calloc(1, sizeof *c);
    if (!c) return fail(STATUS_SYSTEM, "out of memory");
    c->api = api, c->device = device, c->wanted = *wanted;
    enum status status = describe_chip(c, context);
    if (!status) status = choose_metrics(c);
    if (!status) status = open_host(c, &c->host);
    if (!status) status = configure(c, context);
    if (status) {
        counters_close(c);
        return status;
    }
    *out = c;
    return STATUS_OK;
}

void counters_close(struct counters *c) {
    if (!c) return;
    struct cupti_profiler disable = {.size = CUPTI_SIZE(cupti_profiler, profiler),
                                     .profiler = c->profiler};
    if (c->profiler) c->api->cuptiRangeProfilerDisable(&disable);
    close_host(c, c->host);
    free(c->availability), free(c->config), free(c->data);
    free(c);
}

static enum status one_pass(struct counters *c, void *context, enum status (*prepare)(void *),
                            enum status (*work)(void *), bool *done) {
    struct cupti_profiler plain = {.size = CUPTI_SIZE(cupti_profiler, profiler),
                                   .profiler = c->profiler};
    struct cupti_push push = {
        .size = CUPTI_SIZE(cupti_push, name), .profiler = c->profiler, .name = "work"};
    struct cupti_stop stop = {.size = CUPTI_SIZE(cupti_stop, all_submitted),
                              .profiler = c->profiler};
    if (prepare) TRY(prepare(context));
    TRY(c->device->ops->synchronize(c->device));
    CUPTI(c->api, cuptiRangeProfilerStart, &plain);
    CUPTI(c->api, cuptiRangeProfilerPushRange, &push);
    enum status status = work(context);
    if (!status) status = c->device->ops->synchronize(c->device);
    CUPTI(c->api, cuptiRangeProfilerPopRange, &plain);
    CUPTI(c->api, cuptiRangeProfilerStop, &stop);
    *done = stop.all_submitted;
    return status;
}

enum status counters_read(struct counters *c, void *context, enum status (*prepare)(void *context),
                          enum status (*work)(void *context), struct counter_set *out) {
    enum { MOST_PASSES = 200 };
    double values[MAX_COUNTERS];
    *out = c->wanted;
    for (int i = 0; i < out->count; i++) out->counter[i].value = NAN;
    struct cupti_data data = {.size = CUPTI_SIZE(cupti_data, image),
                              .profiler = c->profiler,
                              .bytes = c->data_bytes,
                              .image = c->data};
    CUPTI(c->api, cuptiRangeProfilerCounterDataImageInitialize, &data);
    struct cupti_set_config set = {.size = CUPTI_SIZE(cupti_set_config, target_level),
                                   .profiler = c->profiler,
                                   .config_bytes = c->config_bytes,
                                   .config = c->config,
                                   .data_bytes = c->data_bytes,
                                   .data = c->data,
                                   .range = CUPTI_USER_RANGE,
                                   .replay = CUPTI_USER_REPLAY,
                                   .ranges_per_pass = 1,
                                   .levels = 1,
                                   .least_level = 1};
    CUPTI(c->api, cuptiRangeProfilerSetConfig, &set);
    bool done = false;
    for (int pass = 0; !done; pass++) {
        if (pass == MOST_PASSES) return fail(STATUS_MISSING, "no counters: the passes do not end");
        TRY(one_pass(c, context, prepare, work, &done));
    }
    struct cupti_decode decode = {.size = CUPTI_SIZE(cupti_decode, dropped),
                                  .profiler = c->profiler};
    CUPTI(c->api, cuptiRangeProfilerDecodeData, &decode);
    struct cupti_evaluate evaluate = {.size = CUPTI_SIZE(cupti_evaluate, values),
                                      .host = c->host,
                                      .data = c->data,
                                      .data_bytes = c->data_bytes,
                                      .names = c->name,
                                      .count = (size_t)c->count,
                                      .values = values};
    CUPTI(c->api, cuptiProfilerHostEvaluateToGpuValues, &evaluate);
    for (int i = 0; i < c->count; i++) out->counter[c->index[i]].value = values[i];
    return STATUS_OK;
}
