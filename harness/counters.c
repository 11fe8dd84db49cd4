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
    if (!text) text = "";
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
        bool known = false;
        for (int i = 0; i < out->count; i++)
            known |= !strncmp(out->counter[i].name, text, n) && !out->counter[i].name[n];
        struct counter *c = &out->counter[out->count];
        if (!known) memcpy(c->name, text, n), c->value = NAN, out->count++;
        text += n;
        if (!*text) break;
        if (!*++text) return fail(STATUS_ARGUMENT, "a metric is missing behind the last comma");
    }
    return out->count ? STATUS_OK : fail(STATUS_ARGUMENT, "no metric was named");
}

/* --- the library
 * ---------------------------------------------------------------------------------- */

struct cupti_search {
    int driver; /* 13000; 0 without a driver */
    struct cupti_api api;
    void *library;
    char refused[512]; /* why those found do not do, the last of them */
};

/* The oldest CUPTI that will do and the one to install, as in the names of NVIDIA's packages. */
static void package(int driver, char *text, size_t bytes) {
    int version = driver > 12060 ? driver : driver ? 12060 : 13000;
    snprintf(text, bytes, "cuda-cupti-%d-%d", version / 1000, version % 1000 / 10);
}

/* CUPTI opens libnvperf_host.so by its bare name, which the loader only knows where it is in one of
 * its own folders; once opened from beside CUPTI, with the flags CUPTI uses, that name finds it. */
static void open_sibling(const char *path) {
    const char *slash = strrchr(path, '/');
    char sibling[1024];
    snprintf(sibling, sizeof sibling, "%.*s/libnvperf_host.so", slash ? (int)(slash - path) : 0,
             path);
    if (slash) dlopen(sibling, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
}

/* Takes the library if it has the range profiler and is not newer than the driver. */
static void consider(struct cupti_search *search, const char *path) {
    void *library = search->library ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL), *symbol;
    struct cupti_api api;
    const char *missing = NULL;
    uint32_t version = 0;
    Dl_info where = {0};
    if (!library) return;
#define X(name, params)                                                                            \
    if (!(symbol = dlsym(library, #name)) && !missing) missing = #name;                            \
    memcpy(&api.name, &symbol, sizeof symbol);
    CUPTI_LIST(X)
    X(cuptiGetResultString, )
    X(cuptiGetVersion, )
#undef X
    if (!missing) api.cuptiGetVersion(&version);
    int major = version >= 100000 ? (int)version / 10000 : 12;
    if (missing || (search->driver && major > search->driver / 1000)) {
        if (missing)
            snprintf(search->refused, sizeof search->refused,
                     "%.200s is too old: it has no %s, which came with CUDA 12.6", path, missing);
        else
            snprintf(search->refused, sizeof search->refused,
                     "%.200s is of CUDA %d and the driver is for CUDA %d.%d", path, major,
                     search->driver / 1000, search->driver % 1000 / 10);
        dlclose(library);
        return;
    }
    if (dladdr(symbol, &where) && where.dli_fname) open_sibling(where.dli_fname);
    search->api = api, search->library = library;
}

/* Newest last in the alphabet, so from the end. */
static void consider_all(struct cupti_search *search, const char *pattern) {
    glob_t found;
    if (!glob(pattern, 0, NULL, &found))
        for (size_t k = found.gl_pathc; k-- > 0;) consider(search, found.gl_pathv[k]);
    globfree(&found);
}

/* Patterns below the folder that a variable of the environment names. */
static void consider_below(struct cupti_search *search, const char *variable, const char *rest) {
    const char *folder = getenv(variable);
    char pattern[1024];
    snprintf(pattern, sizeof pattern, "%s/%s", folder ? folder : "", rest);
    if (folder && *folder) consider_all(search, pattern);
}

static void search_cupti(struct cupti_search *search) {
    static const char *const names[] = {"libcupti.so.13", "libcupti.so.12", "libcupti.so"};
    static const char *const patterns[] = {
        "/usr/local/cuda*/extras/CUPTI/lib64/libcupti.so*",
        "/usr/local/cuda*/lib64/libcupti.so*",
        "/usr/local/cuda*/lib/libcupti.so*",
        "/usr/local/cuda*/targets/*/lib/libcupti.so*",
        "/usr/lib/x86_64-linux-gnu/libcupti.so*",
        ".venv/lib/python3*/site-packages/nvidia/*/lib/libcupti.so*",
        "/usr/local/lib/python3*/*-packages/nvidia/*/lib/libcupti.so*",
        "/usr/lib/python3*/*-packages/nvidia/*/lib/libcupti.so*",
    };
    const char *named = getenv("FASTINFER_CUPTI");
    if (named && *named) {
        consider(search, named);
        return;
    }
    consider_below(search, "CUDA_HOME", "extras/CUPTI/lib64/libcupti.so*");
    consider_below(search, "CUDA_HOME", "lib64/libcupti.so*");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) consider(search, names[i]);
    consider_below(search, "VIRTUAL_ENV", "lib/python3*/site-packages/nvidia/*/lib/libcupti.so*");
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        consider_all(search, patterns[i]);
    consider_below(search, "HOME", ".local/lib/python3*/site-packages/nvidia/*/lib/libcupti.so*");
}

const struct cupti_api *cupti_api(void) {
    static struct cupti_search search;
    static int state; /* 0 not tried, 1 open, -1 failed */
    char wanted[64];
    if (state == 0) {
        const struct cuda_api *cuda = cuda_api();
        if (cuda) cuda->cuDriverGetVersion(&search.driver);
        search_cupti(&search);
        state = search.library ? 1 : -1;
    }
    if (state == 1) return &search.api;
    package(search.driver, wanted, sizeof wanted);
    if (search.refused[0])
        fail(STATUS_MISSING, "no counters: %s; install the package %s", search.refused, wanted);
    else
        fail(STATUS_MISSING,
             "no counters: libcupti was not found; the CUDA toolkit has it: install the package %s "
             "(or python3 -m pip install nvidia-cuda-cupti), or let FASTINFER_CUPTI name it",
             wanted);
    return NULL;
}

static enum status cupti_fail(const struct cupti_api *api, int result, const char *call) {
    const char *text = NULL, *why = NULL;
    if (result == CUPTI_DENIED)
        return fail(STATUS_MISSING,
                    "no counters: the driver keeps them for administrators (ERR_NVGPUCTRPERM); run "
                    "as root (a container: with --cap-add=SYS_ADMIN), or load the nvidia module "
                    "with NVreg_RestrictProfilingToAdminUsers=0");
    if (result == CUPTI_DENIED_VIRTUAL)
        why = "the hypervisor does not allow them; ask its administrator to enable profiling of "
              "this virtual GPU";
    if (result == CUPTI_HARDWARE_BUSY)
        why = "another profiler holds them; stop it (Nsight, DCGM: dcgmi profile --pause) and try "
              "again";
    if (result == CUPTI_NOT_COMPATIBLE)
        why = "this CUPTI and the driver do not suit each other; install the CUPTI of the driver's "
              "CUDA version";
    if (result == CUPTI_CHIP_NAME) why = "this CUPTI does not know the chip; install a newer one";
    if (result == CUPTI_NOT_SUPPORTED || result == CUPTI_VIRTUAL || result == CUPTI_LEGACY ||
        (result >= CUPTI_CONFIDENTIAL && result <= CUPTI_WSL))
        why = "this GPU, or the way it is set up, does not have them; leave them off";
    api->cuptiGetResultString(result, &text);
    if (!text) text = "unknown error";
    return fail(STATUS_MISSING, "no counters: %s%s%s: error %d, %s", why ? why : "",
                why ? ": " : "", call, result, text);
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
    struct cupti_add_metrics add = {
        .size = CUPTI_SIZE(cupti_add_metrics, count), .host = host, .names = names, .count = count};
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
    return c->count
               ? STATUS_OK
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
    if (!a.image) return fail(STATUS_SYSTEM, "out of memory");
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
    if (!c->config) return fail(STATUS_SYSTEM, "out of memory");
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
    return c->data ? STATUS_OK : fail(STATUS_SYSTEM, "out of memory");
}

enum status counters_open(struct device *device, const struct counter_set *wanted,
                          struct counters **out) {
    const struct cupti_api *api;
    const struct cuda_api *cuda;
    CUcontext context = NULL;
    *out = NULL;
    if (!device || device->info.kind != DEVICE_CUDA)
        return fail(STATUS_MISSING, "no counters: only an NVIDIA GPU has them");
    if (!(cuda = cuda_api())) return STATUS_MISSING;
    if (!(api = cupti_api())) return STATUS_MISSING;
    if (cuda->cuCtxGetCurrent(&context) || !context)
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

/* One by one, so that a metric that comes to nothing leaves the others. */
static enum status evaluate(struct counters *c, struct counter_set *out) {
    int result = 0, good = 0;
    for (int i = 0; i < c->count; i++) {
        double value = NAN;
        struct cupti_evaluate evaluate = {.size = CUPTI_SIZE(cupti_evaluate, values),
                                          .host = c->host,
                                          .data = c->data,
                                          .data_bytes = c->data_bytes,
                                          .names = &c->name[i],
                                          .count = 1,
                                          .values = &value};
        int failed = c->api->cuptiProfilerHostEvaluateToGpuValues(&evaluate);
        if (failed)
            result = failed;
        else
            out->counter[c->index[i]].value = value, good++;
    }
    return good ? STATUS_OK : cupti_fail(c->api, result, "cuptiProfilerHostEvaluateToGpuValues");
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
    int push_result = c->api->cuptiRangeProfilerPushRange(&push), pop_result = 0;
    enum status status = STATUS_OK;
    if (!push_result) {
        status = work(context);
        if (!status) status = c->device->ops->synchronize(c->device);
        pop_result = c->api->cuptiRangeProfilerPopRange(&plain);
    }
    int stop_result = c->api->cuptiRangeProfilerStop(&stop); /* whatever happened */
    *done = stop.all_submitted;
    if (status) return status; /* the first failure is the one to tell of */
    if (push_result) return cupti_fail(c->api, push_result, "cuptiRangeProfilerPushRange");
    if (pop_result) return cupti_fail(c->api, pop_result, "cuptiRangeProfilerPopRange");
    if (stop_result) return cupti_fail(c->api, stop_result, "cuptiRangeProfilerStop");
    return STATUS_OK;
}

enum status counters_read(struct counters *c, void *context, enum status (*prepare)(void *context),
                          enum status (*work)(void *context), struct counter_set *out) {
    enum { MOST_PASSES = 200 };
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
                                   .least_level = 1,
                                   .target_level = 1};
    CUPTI(c->api, cuptiRangeProfilerSetConfig, &set);
    bool done = false;
    for (int pass = 0; !done; pass++) {
        if (pass == MOST_PASSES) return fail(STATUS_MISSING, "no counters: the passes do not end");
        TRY(one_pass(c, context, prepare, work, &done));
    }
    struct cupti_decode decode = {.size = CUPTI_SIZE(cupti_decode, dropped),
                                  .profiler = c->profiler};
    CUPTI(c->api, cuptiRangeProfilerDecodeData, &decode);
    struct cupti_data_info info = {
        .size = CUPTI_SIZE(cupti_data_info, ranges), .data = c->data, .data_bytes = c->data_bytes};
    CUPTI(c->api, cuptiRangeProfilerGetCounterDataInfo, &info);
    if (decode.dropped || info.ranges != 1)
        return fail(STATUS_MISSING,
                    "no counters: CUPTI kept %zu ranges and dropped %zu, not 1 and 0", info.ranges,
                    decode.dropped);
    return evaluate(c, out);
}
