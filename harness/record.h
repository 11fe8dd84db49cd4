/* record.h - one measurement, as it travels from a worker to the store. */
#ifndef FASTINFER_RECORD_H
#define FASTINFER_RECORD_H

#include <jansson.h>

#include "harness/counters.h"
#include "harness/measure.h"

struct telemetry { /* read after the samples; -1 where unknown */
    int sm_mhz, memory_mhz, celsius, milliwatts;
    int throttle; /* NVML's reasons for a lower clock, a bit mask */
};
#define NO_TELEMETRY                                                                               \
    { -1, -1, -1, -1, -1 }

struct record {
    enum status status;
    char reason[512]; /* why it is not OK */
    char subject[32]; /* "kernel"; of a contest also "ceiling", "hf_eager", ... */
    char kernel[32];  /* of "ceiling": stream */
    struct problem problem;
    bool has_point;
    struct point point;
    struct build build; /* where has_point */
    double worst;       /* |error| / bound of the verification */
    int launches;       /* N a sample */
    double samples[MAX_SAMPLES];
    struct summary summary; /* ns a launch */
    double host_ns, wall_ns;
    struct telemetry telemetry;
    int retaken;                   /* samples taken anew because the clock was down */
    double millijoules;            /* a launch; 0 where not measured */
    double autocorrelation, drift; /* of the samples, see stats.h */
    struct counter_set counters;   /* none where not asked for */
    bool counted;                  /* they are the formula's bytes, not measured */
    double seconds_compiling, seconds_verifying, seconds_measuring;
};

json_t *record_to_json(const struct record *record);
enum status record_from_json(const json_t *json, struct record *out);

#endif
