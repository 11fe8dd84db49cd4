#include "cli/report_space.h"

#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "cli/explain_plot.h"
#include "runtime/json_text.h"

enum status report_spaces(const struct exported *e, struct report_spaces *out) {
    char pattern[1100];
    glob_t found;
    *out = (struct report_spaces){0};
    snprintf(pattern, sizeof pattern, "%s/spaces/*.t4.json.gz", e->folder);
    if (glob(pattern, 0, NULL, &found)) return STATUS_OK;
    out->path = calloc(found.gl_pathc, sizeof *out->path);
    enum status status = out->path ? STATUS_OK : fail(STATUS_SYSTEM, "out of memory");
    for (size_t i = 0; !status && i < found.gl_pathc; i++)
        if (!(out->path[out->count++] = strdup(found.gl_pathv[i])))
            status = fail(STATUS_SYSTEM, "out of memory");
    globfree(&found);
    return status;
}

void report_spaces_free(struct report_spaces *spaces) {
    for (int i = 0; i < spaces->count; i++) free(spaces->path[i]);
    free(spaces->path);
    *spaces = (struct report_spaces){0};
}

static size_t unpack(void *buffer, size_t bytes, void *context) {
    int got = gzread(context, buffer, (unsigned)bytes);
    return got < 0 ? (size_t)-1 : (size_t)got;
}

static enum status load(const char *path, json_t **out) {
    json_error_t error;
    gzFile file = gzopen(path, "rb");
    if (!file) return fail(STATUS_SYSTEM, "%s: %s", path, strerror(errno));
    *out = json_load_callback(unpack, file, 0, &error);
    gzclose(file);
    if (!*out) return fail(STATUS_FORMAT, "%s:%d: %s", path, error.line, error.text);
    if (!json_is_array(json_object_get(*out, "results"))) {
        json_decref(*out);
        return fail(STATUS_FORMAT, "%s: an array `results` was expected", path);
    }
    return STATUS_OK;
}

/* Timestamps have one form, so they have an order as strings. */
static const char *newest(const json_t *t4) {
    const char *last = "";
    size_t i;
    json_t *result;
    json_array_foreach(json_object_get(t4, "results"), i, result) {
        const char *when = json_text(result, "timestamp");
        if (strcmp(when, last) > 0) last = when;
    }
    return last;
}

static const char *device_of(const json_t *metadata) {
    const json_t *hardware = json_object_get(metadata, "hardware");
    const char *name =
        json_text(json_array_get(json_object_get(hardware, "hardware_description"), 0), "name");
    return *name ? name : json_text(metadata, "device");
}

enum status report_space_origin(const char *path, char *out, size_t bytes) {
    json_t *t4;
    TRY(load(path, &t4));
    const json_t *about = json_object_get(t4, "metadata");
    snprintf(out, bytes, "%s, driver %s, commit %.12s, %.10s", device_of(about),
             json_text(about, "driver"), json_text(about, "commit"), newest(t4));
    json_decref(t4);
    return STATUS_OK;
}

/* --- the heat map ----------------------------------------------------------------------------- */

/* The space's own tunables and values: the program's kernel may have others by now. */
struct space {
    struct kernel kernel;
    struct tunable tunable[MAX_TUNABLES];
    int value[MAX_TUNABLES][EXPLAIN_LEVELS];
    struct explain_sample *sample;
    int samples;
};

static enum status add_value(struct space *s, int t, int value) {
    int *values = s->value[t], at = 0;
    while (at < s->tunable[t].count && values[at] < value) at++;
    if (at < s->tunable[t].count && values[at] == value) return STATUS_OK;
    if (s->tunable[t].count == EXPLAIN_LEVELS)
        return fail(STATUS_MISSING, "%s has more than %d values", s->tunable[t].name,
                    EXPLAIN_LEVELS);
    memmove(values + at + 1, values + at, (size_t)(s->tunable[t].count++ - at) * sizeof *values);
    values[at] = value;
    return STATUS_OK;
}

static enum status name_tunables(struct space *s, const json_t *results) {
    json_t *first = json_object_get(json_array_get(results, 0), "configuration"), *value;
    const char *name;
    json_object_foreach(first, name, value) {
        int t = s->kernel.tunable_count++;
        if (t == MAX_TUNABLES) return fail(STATUS_MISSING, "over %d tunables", MAX_TUNABLES);
        s->tunable[t] = (struct tunable){.name = name, .values = s->value[t]};
    }
    s->kernel.tunables = s->tunable;
    return STATUS_OK;
}

static enum status take_sample(struct space *s, const json_t *result, struct explain_sample *out) {
    const json_t *configuration = json_object_get(result, "configuration");
    const json_t *time = json_array_get(json_object_get(result, "measurements"), 0);
    bool correct = !strcmp(json_text(result, "invalidity"), "correct");
    *out = (struct explain_sample){.status = correct ? STATUS_OK : STATUS_LAUNCH};
    if (correct) out->ns = 1e6 * json_number_value(json_object_get(time, "value"));
    for (int t = 0; t < s->kernel.tunable_count; t++) {
        const json_t *value = json_object_get(configuration, s->tunable[t].name);
        if (!json_is_integer(value))
            return fail(STATUS_MISSING, "%s is no whole number", s->tunable[t].name);
        out->point.value[t] = (int)json_integer_value(value);
        TRY(add_value(s, t, out->point.value[t]));
    }
    return STATUS_OK;
}

static enum status take_samples(struct space *s, const json_t *t4) {
    const json_t *results = json_object_get(t4, "results");
    json_t *result;
    size_t i;
    TRY(name_tunables(s, results));
    s->sample = calloc(json_array_size(results) + 1, sizeof *s->sample);
    if (!s->sample) return fail(STATUS_SYSTEM, "out of memory");
    json_array_foreach(results, i, result) TRY(take_sample(s, result, &s->sample[s->samples++]));
    return STATUS_OK;
}

static enum status explain_t4(struct space *s, struct explanation *why, const json_t *t4,
                              const char *csv) {
    const json_t *about = json_object_get(t4, "metadata");
    const char *policy = json_text(about, "policy");
    int comma = (int)strcspn(policy, ",");
    struct explain_case which = {.kernel = &s->kernel};
    s->kernel.name = json_text(about, "kernel");
    snprintf(which.dtype, sizeof which.dtype, "%s", json_text(about, "dtype"));
    snprintf(which.problem, sizeof which.problem, "%s", json_text(about, "problem"));
    snprintf(which.residency, sizeof which.residency, "%.*s", comma, policy);
    snprintf(which.launch, sizeof which.launch, "%s", policy[comma] ? policy + comma + 1 : "");
    TRY(take_samples(s, t4));
    TRY(explain_space(&s->kernel, s->sample, s->samples, why));
    const char *origin[5] = {device_of(about), json_text(about, "driver"),
                             json_text(about, "commit"), "0", newest(t4)};
    return explain_plot_cells(csv, &which, why, s->sample, s->samples, origin);
}

enum status report_space_heatmap(const char *path, const char *csv) {
    json_t *t4;
    TRY(load(path, &t4));
    struct space *s = calloc(1, sizeof *s);
    struct explanation *why = calloc(1, sizeof *why);
    enum status status =
        s && why ? explain_t4(s, why, t4, csv) : fail(STATUS_SYSTEM, "out of memory");
    if (s) free(s->sample);
    free(s);
    free(why);
    json_decref(t4);
    return status;
}
