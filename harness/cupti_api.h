/* cupti_api.h - as much of CUPTI's range profiler (CUDA 12.6 and newer) as the counters need, for
 * dlopen: the program is built without the toolkit. Layouts follow cupti_range_profiler.h,
 * cupti_profiler_host.h and cupti_profiler_target.h of CUDA 13.0; each call's structure begins
 * with its size, the offset just behind its last field. */
#ifndef FASTINFER_CUPTI_API_H
#define FASTINFER_CUPTI_API_H

#include <stddef.h>
#include <stdint.h>

#define CUPTI_SIZE(type, last) (offsetof(struct type, last) + sizeof(((struct type *)0)->last))

enum { CUPTI_USER_RANGE = 2, CUPTI_USER_REPLAY = 3, CUPTI_RANGE_PROFILER = 0 };
enum {
    CUPTI_NOT_COMPATIBLE = 14,
    CUPTI_HARDWARE_BUSY = 26,
    CUPTI_NOT_SUPPORTED = 27,
    CUPTI_VIRTUAL = 33,
    CUPTI_DENIED = 35, /* insufficient privileges */
    CUPTI_LEGACY = 38,
    CUPTI_DENIED_VIRTUAL = 40, /* the same, on a virtual GPU */
    CUPTI_CONFIDENTIAL = 41,
    CUPTI_CMP = 42,
    CUPTI_MIG = 43,
    CUPTI_SLI = 44,
    CUPTI_WSL = 45,
    CUPTI_CHIP_NAME = 46 /* a chip newer than this CUPTI */
};

struct cupti_plain { /* initialise */
    size_t size;
    void *priv;
};
struct cupti_chip {
    size_t size;
    void *priv;
    size_t device;
    const char *name;
};
struct cupti_availability {
    size_t size;
    void *priv;
    void *context;
    size_t bytes;
    uint8_t *image;
};
struct cupti_host_open {
    size_t size;
    void *priv;
    int type;
    const char *chip;
    const uint8_t *availability;
    void *host;
};
struct cupti_host_close {
    size_t size;
    void *priv;
    void *host;
};
struct cupti_add_metrics {
    size_t size;
    void *priv;
    void *host;
    const char **names;
    size_t count;
};
struct cupti_config_size {
    size_t size;
    void *priv;
    void *host;
    size_t bytes;
};
struct cupti_config {
    size_t size;
    void *priv;
    void *host;
    size_t bytes;
    uint8_t *image;
};
struct cupti_evaluate {
    size_t size;
    void *priv;
    void *host;
    const uint8_t *data;
    size_t data_bytes, range;
    const char **names;
    size_t count;
    double *values;
};
struct cupti_enable {
    size_t size;
    void *priv;
    void *context;
    void *profiler;
};
struct cupti_profiler { /* disable, start, pop */
    size_t size;
    void *priv;
    void *profiler;
};
struct cupti_stop {
    size_t size;
    void *priv;
    void *profiler;
    size_t pass, nesting;
    uint8_t all_submitted;
};
struct cupti_push {
    size_t size;
    void *priv;
    void *profiler;
    const char *name;
};
struct cupti_decode {
    size_t size;
    void *priv;
    void *profiler;
    size_t dropped;
};
struct cupti_data_info {
    size_t size;
    void *priv;
    const uint8_t *data;
    size_t data_bytes, ranges;
};
struct cupti_data_size {
    size_t size;
    void *priv;
    void *profiler;
    const char **names;
    size_t count, ranges;
    uint32_t nodes;
    size_t bytes;
};
struct cupti_data {
    size_t size;
    void *priv;
    void *profiler;
    size_t bytes;
    uint8_t *image;
};
struct cupti_set_config {
    size_t size;
    void *priv;
    void *profiler;
    size_t config_bytes;
    const uint8_t *config;
    size_t data_bytes;
    uint8_t *data;
    int range, replay;
    size_t ranges_per_pass;
    uint16_t levels, least_level;
    size_t pass;
    uint16_t target_level;
};

#define CUPTI_LIST(X)                                                                              \
    X(cuptiProfilerInitialize, struct cupti_plain)                                                 \
    X(cuptiDeviceGetChipName, struct cupti_chip)                                                   \
    X(cuptiProfilerGetCounterAvailability, struct cupti_availability)                              \
    X(cuptiProfilerHostInitialize, struct cupti_host_open)                                         \
    X(cuptiProfilerHostDeinitialize, struct cupti_host_close)                                      \
    X(cuptiProfilerHostConfigAddMetrics, struct cupti_add_metrics)                                 \
    X(cuptiProfilerHostGetConfigImageSize, struct cupti_config_size)                               \
    X(cuptiProfilerHostGetConfigImage, struct cupti_config)                                        \
    X(cuptiProfilerHostEvaluateToGpuValues, struct cupti_evaluate)                                 \
    X(cuptiRangeProfilerEnable, struct cupti_enable)                                               \
    X(cuptiRangeProfilerDisable, struct cupti_profiler)                                            \
    X(cuptiRangeProfilerStart, struct cupti_profiler)                                              \
    X(cuptiRangeProfilerStop, struct cupti_stop)                                                   \
    X(cuptiRangeProfilerPushRange, struct cupti_push)                                              \
    X(cuptiRangeProfilerPopRange, struct cupti_profiler)                                           \
    X(cuptiRangeProfilerDecodeData, struct cupti_decode)                                           \
    X(cuptiRangeProfilerGetCounterDataInfo, struct cupti_data_info)                                \
    X(cuptiRangeProfilerGetCounterDataSize, struct cupti_data_size)                                \
    X(cuptiRangeProfilerCounterDataImageInitialize, struct cupti_data)                             \
    X(cuptiRangeProfilerSetConfig, struct cupti_set_config)

struct cupti_api {
#define X(name, params) int (*name)(params *);
    CUPTI_LIST(X)
#undef X
    int (*cuptiGetVersion)(uint32_t *version); /* 130000 for 13.0; below 1000 before it */
    int (*cuptiGetResultString)(int result, const char **text);
};

/* NULL, with the reason in fail_message(), where CUPTI is not there or too old. */
const struct cupti_api *cupti_api(void);

#endif
