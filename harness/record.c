#include "harness/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/registry.h"
#include "runtime/json_text.h"

static double number_of(const json_t *json, const char *key) {
    return json_number_value(json_object_get(json, key));
}

/* JSON takes UTF-8 only; a compiler's words cut off in the middle may not be that. */
static json_t *plain_text(const char *text) {
    char copy[2100];
    size_t n = 0;
    for (; text[n] && n + 1 < sizeof copy; n++)
        copy[n] = (unsigned char)text[n] < 128 ? text[n] : '?';
    copy[n] = 0;
    return json_string(copy);
}

static json_t *build_to_json(const struct build *b) {
    return json_pack("{s:s, s:b, s:f, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:o}", "status",
                     status_text(b->status), "cached", (int)b->cached, "ms", b->compile_ms,
                     "instructions", b->instructions, "registers", b->registers, "spill",
                     b->spill_bytes, "stack", b->stack_bytes, "shared", b->shared_bytes, "blocks",
                     b->blocks_per_sm, "hash", b->code_hash, "log", plain_text(b->log));
}

static void build_from_json(const json_t *json, struct build *b) {
    *b = (struct build){.status = status_parse(json_text(json, "status")),
                        .cached = json_is_true(json_object_get(json, "cached")),
                        .compile_ms = number_of(json, "ms"),
                        .registers = (int)number_of(json, "registers"),
                        .spill_bytes = (int)number_of(json, "spill"),
                        .stack_bytes = (int)number_of(json, "stack"),
                        .shared_bytes = (int)number_of(json, "shared"),
                        .instructions = (int)number_of(json, "instructions"),
                        .blocks_per_sm = (int)number_of(json, "blocks")};
    snprintf(b->code_hash, sizeof b->code_hash, "%.32s", json_text(json, "hash"));
    snprintf(b->log, sizeof b->log, "%.2000s", json_text(json, "log"));
}

static json_t *counters_to_json(const struct counter_set *set) {
    json_t *values = json_object();
    for (int i = 0; i < set->count; i++) /* NaN, a metric the chip lacks, is left out */
        json_object_set_new(values, set->counter[i].name, json_real(set->counter[i].value));
    return values;
}

static void counters_from_json(const json_t *json, struct counter_set *out) {
    const char *name;
    json_t *value;
    *out = (struct counter_set){0};
    json_object_foreach((json_t *)(uintptr_t)json, name, value) {
        if (out->count == MAX_COUNTERS || !json_is_number(value)) continue;
        struct counter *c = &out->counter[out->count++];
        snprintf(c->name, sizeof c->name, "%s", name);
        c->value = json_number_value(value);
    }
}

json_t *record_to_json(const struct record *r) {
    const struct kernel *kernel = NULL;
    char problem[MAX_TEXT] = "", point[MAX_TEXT] = "";
    if (!registry_find(r->kernel, &kernel)) {
        problem_format(kernel, &r->problem, problem);
        if (r->has_point) point_format(kernel, &r->point, point);
    }
    json_t *samples = json_array();
    for (int i = 0; i < r->summary.count; i++)
        json_array_append_new(samples, json_real(r->samples[i]));
    json_t *json = json_pack(
        "{s:s, s:o, s:s, s:s, s:s, s:s, s:s, s:f, s:i, s:o, s:[f,f,f,f,f,f], s:f, s:f, "
        "s:[i,i,i,i,i], s:[f,f,f], s:i, s:f, s:f, s:f, s:b, s:o}",
        "status", status_text(r->status), "reason", plain_text(r->reason), "subject", r->subject,
        "kernel", r->kernel, "dtype", dtype_name(r->problem.dtype), "problem", problem, "point",
        point, "worst", r->worst < 1e300 ? r->worst : 1e300, "launches", r->launches, "samples",
        samples, "summary", r->summary.median, r->summary.mad, r->summary.min, r->summary.max,
        r->summary.low, r->summary.high, "host_ns", r->host_ns, "wall_ns", r->wall_ns, "telemetry",
        r->telemetry.sm_mhz, r->telemetry.memory_mhz, r->telemetry.celsius, r->telemetry.milliwatts,
        r->telemetry.throttle, "seconds", r->seconds_compiling, r->seconds_verifying,
        r->seconds_measuring, "retaken", r->retaken, "millijoules", r->millijoules,
        "autocorrelation", r->autocorrelation, "drift", r->drift, "counted", (int)r->counted,
        "counters", counters_to_json(&r->counters));
    if (json && r->has_point) json_object_set_new(json, "build", build_to_json(&r->build));
    return json;
}

enum status record_from_json(const json_t *json, struct record *out) {
    const struct kernel *kernel;
    *out = (struct record){.status = status_parse(json_text(json, "status"))};
    if (out->status == STATUS_COUNT)
        return fail(STATUS_FORMAT, "a worker's record has no known status");
    snprintf(out->reason, sizeof out->reason, "%.500s", json_text(json, "reason"));
    snprintf(out->subject, sizeof out->subject, "%.31s", json_text(json, "subject"));
    snprintf(out->kernel, sizeof out->kernel, "%.31s", json_text(json, "kernel"));
    TRY(registry_find(out->kernel, &kernel));
    TRY(problem_parse(kernel, json_text(json, "problem"), &out->problem));
    out->problem.dtype = dtype_parse(json_text(json, "dtype"));
    if (*json_text(json, "point")) {
        TRY(point_parse(kernel, json_text(json, "point"), &out->point));
        out->has_point = true;
        build_from_json(json_object_get(json, "build"), &out->build);
    }
    out->worst = number_of(json, "worst");
    out->launches = (int)number_of(json, "launches");
    const json_t *samples = json_object_get(json, "samples");
    for (size_t i = 0; i < json_array_size(samples) && i < MAX_SAMPLES; i++)
        out->samples[out->summary.count++] = json_number_value(json_array_get(samples, i));
    const json_t *summary = json_object_get(json, "summary");
    double *fields[] = {&out->summary.median, &out->summary.mad, &out->summary.min,
                        &out->summary.max,    &out->summary.low, &out->summary.high};
    for (size_t i = 0; i < 6; i++) *fields[i] = json_number_value(json_array_get(summary, i));
    out->host_ns = number_of(json, "host_ns");
    out->wall_ns = number_of(json, "wall_ns");
    const json_t *telemetry = json_object_get(json, "telemetry");
    int *readings[] = {&out->telemetry.sm_mhz, &out->telemetry.memory_mhz, &out->telemetry.celsius,
                       &out->telemetry.milliwatts, &out->telemetry.throttle};
    for (size_t i = 0; i < 5; i++)
        *readings[i] = (int)json_number_value(json_array_get(telemetry, i));
    const json_t *seconds = json_object_get(json, "seconds");
    out->seconds_compiling = json_number_value(json_array_get(seconds, 0));
    out->seconds_verifying = json_number_value(json_array_get(seconds, 1));
    out->seconds_measuring = json_number_value(json_array_get(seconds, 2));
    out->retaken = (int)number_of(json, "retaken");
    out->millijoules = number_of(json, "millijoules");
    out->autocorrelation = number_of(json, "autocorrelation");
    out->drift = number_of(json, "drift");
    out->counted = json_is_true(json_object_get(json, "counted"));
    counters_from_json(json_object_get(json, "counters"), &out->counters);
    return STATUS_OK;
}
