#include "cli/export_check.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/csv.h"
#include "runtime/json_text.h"

/* A stream is a kernel too, known by a sample of its space, so a ceiling can be too low: on few
 * bytes, where a launch is most of the time, far more than on many. */
#define MOST_OF_CEILING 125.0
#define MOST_OF_SMALL_CEILING 200.0
#define SMALL_BYTES (1 << 20)

struct checking {
    const char *path;
    int files, rows, findings;
    double peak_gbps; /* of the memory bus, from environment.json; NaN: unknown */
    double cache_bytes;
    char device[128]; /* of environment.json, else of the first row that names one */
};

static void complain(struct checking *c, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void complain(struct checking *c, int line, const char *format, ...) {
    va_list list;
    if (++c->findings > 20) return;
    fprintf(stderr, "%s:%d: ", c->path, line);
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
}

/* --- what all tables share ---------------------------------------------------------------------
 */

static bool is_date(const char *text) {
    int y, mo, d, h, mi, s, end = 0;
    return sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2dZ%n", &y, &mo, &d, &h, &mi, &s, &end) == 6 &&
           end == 20 && !text[end] && mo >= 1 && mo <= 12 && d >= 1 && d <= 31 && h < 24 && mi < 60;
}

static bool is_commit(const char *text) {
    size_t length = strlen(text);
    return length >= 7 && length <= 40 && strspn(text, "0123456789abcdef") == length;
}

static bool on_cpu(const char *device) { return !strncmp(device, "CPU", 3); }

/* Who, when, with what: a number without them is no measurement. */
static void check_origin(struct checking *c, const struct csv *t, int row) {
    const char *device = csv_cell(t, row, "device"), *date = csv_cell(t, row, "date");
    int line = t->line[row];
    if (!*device) complain(c, line, "no device");
    if (!*c->device) snprintf(c->device, sizeof c->device, "%s", device);
    if (*device && strcmp(device, c->device) != 0)
        complain(c, line, "device '%s', but the others are of '%s'", device, c->device);
    if (!is_date(date)) complain(c, line, "date '%s': 2026-11-23T09:47:05Z was expected", date);
    if (!is_commit(csv_cell(t, row, "commit")))
        complain(c, line, "commit '%s': 7 hexadecimal digits or more were expected",
                 csv_cell(t, row, "commit"));
    if (!on_cpu(device) && !*csv_cell(t, row, "driver"))
        complain(c, line, "a GPU without a driver");
}

/* Where a field is filled it is a number, and above 0 unless `zero`. */
static void check_number(struct checking *c, const struct csv *t, int row, const char *name,
                         bool zero) {
    const char *text = csv_cell(t, row, name);
    double value = csv_number(t, row, name);
    if (*text && (!isfinite(value) || value < 0 || (value == 0 && !zero)))
        complain(c, t->line[row], "%s '%s': a number %s was expected", name, text,
                 zero ? "from 0 up" : "above 0");
}

static void check_interval(struct checking *c, const struct csv *t, int row, const char *low,
                           const char *middle, const char *high) {
    double from = csv_number(t, row, low), at = csv_number(t, row, middle),
           to = csv_number(t, row, high);
    if (from > at || at > to || from > to)
        complain(c, t->line[row], "%s %g, %s %g, %s %g: out of order", low, from, middle, at, high,
                 to);
}

/* A column that follows from others, up to the rounding of an export. */
static void check_derived(struct checking *c, const struct csv *t, int row, const char *name,
                          double expected, double slack) {
    double value = csv_number(t, row, name);
    if (fabs(value - expected) > slack + 0.01 * fabs(expected))
        complain(c, t->line[row], "%s is %g, but the other columns give %g", name, value, expected);
}

static bool check_columns(struct checking *c, const struct csv *t, const char *const *names) {
    bool all = true;
    for (; *names; names++)
        if (!csv_has(t, *names)) complain(c, 1, "there is no column '%s'", *names), all = false;
    if (all && !t->rows) complain(c, 1, "a table without rows");
    return all && t->rows;
}

/* --- bench.csv and points.csv ------------------------------------------------------------------
 */

static void check_rate(struct checking *c, const struct csv *t, int row) {
    double us = csv_number(t, row, "median_us");
    double bytes = csv_number(t, row, "read_bytes") + csv_number(t, row, "write_bytes");
    double gbps = bytes / us / 1e3, ceiling = csv_number(t, row, "ceiling_gbps");
    double share = csv_number(t, row, "percent_of_ceiling");
    double most = bytes < SMALL_BYTES ? MOST_OF_SMALL_CEILING : MOST_OF_CEILING;
    bool cpu = on_cpu(csv_cell(t, row, "device"));
    check_derived(c, t, row, "gbps", gbps, 0.06);
    if (cpu && *csv_cell(t, row, "percent_of_ceiling"))
        complain(c, t->line[row],
                 "a share of a ceiling on the CPU device, whose times are an "
                 "emulation's");
    if (!cpu) check_derived(c, t, row, "percent_of_ceiling", 100 * gbps / ceiling, 2 + 5 / ceiling);
    /* the ceiling is measured under the row's own residency, so this holds for hot caches too */
    if (share > most)
        complain(c, t->line[row], "%.1f%% of the ceiling of %s,%s: over %.0f%% nothing can be",
                 share, csv_cell(t, row, "residency"), csv_cell(t, row, "launch"), most);
    if (!strcmp(csv_cell(t, row, "residency"), "cold") && bytes > 3 * c->cache_bytes &&
        gbps > 1.02 * c->peak_gbps)
        complain(c, t->line[row], "%.0f GB/s from cold caches: the memory bus has %.0f", gbps,
                 c->peak_gbps);
}

static void check_unmeasured(struct checking *c, const struct csv *t, int row) {
    static const char *const times[] = {"median_us", "mad_us",  "low_us",
                                        "high_us",   "gbps",    "speedup",
                                        "wall_us",   "host_us", "percent_of_ceiling"};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        if (*csv_cell(t, row, times[i]))
            complain(c, t->line[row], "status '%s', so it was not measured, but %s is '%s'",
                     csv_cell(t, row, "status"), times[i], csv_cell(t, row, times[i]));
}

static void check_bench_row(struct checking *c, const struct csv *t, int row) {
    static const char *const positive[] = {"median_us", "low_us",   "high_us", "samples",
                                           "launches",  "fused_us", "speedup", "baseline_us"};
    const char *status = csv_cell(t, row, "status");
    check_origin(c, t, row);
    if (status_parse(status) == STATUS_COUNT)
        complain(c, t->line[row], "status '%s' is none that this program has", status);
    if (strcmp(status, "ok") != 0) {
        check_unmeasured(c, t, row);
        return;
    }
    for (size_t i = 0; i < sizeof positive / sizeof *positive; i++)
        check_number(c, t, row, positive[i], false);
    if (!*csv_cell(t, row, "median_us"))
        complain(c, t->line[row], "status 'ok' without a median_us");
    if (csv_number(t, row, "worst_error") > 1)
        complain(c, t->line[row], "worst_error %s: outside its bound, and yet 'ok'",
                 csv_cell(t, row, "worst_error"));
    check_interval(c, t, row, "low_us", "median_us", "high_us");
    check_rate(c, t, row);
    if (on_cpu(csv_cell(t, row, "device")) && *csv_cell(t, row, "speedup"))
        complain(c, t->line[row], "a speedup on the CPU device");
    check_derived(c, t, row, "speedup",
                  csv_number(t, row, "baseline_us") / csv_number(t, row, "median_us"), 0.01);
}

static void check_bench(struct checking *c, const struct csv *t) {
    static const char *const names[] = {"kernel",
                                        "dtype",
                                        "problem",
                                        "residency",
                                        "launch",
                                        "point",
                                        "status",
                                        "median_us",
                                        "low_us",
                                        "high_us",
                                        "samples",
                                        "launches",
                                        "gbps",
                                        "read_bytes",
                                        "ceiling_gbps",
                                        "speedup",
                                        "percent_of_ceiling",
                                        "write_bytes",
                                        "device",
                                        "driver",
                                        "commit",
                                        "dirty",
                                        "date",
                                        "worst_error",
                                        NULL};
    if (!check_columns(c, t, names)) return;
    for (int i = 0; i < t->rows; i++) check_bench_row(c, t, i);
}

/* --- the other tables --------------------------------------------------------------------------
 */

static void check_tuning(struct checking *c, const struct csv *t) {
    static const char *const names[] = {"device",  "kernel", "problem",     "residency",  "launch",
                                        "point",   "space",  "evaluations", "median_us",  "low_us",
                                        "high_us", "margin", "regret",      "margin_low", "driver",
                                        "commit",  "date",   NULL};
    if (!check_columns(c, t, names)) return;
    for (int i = 0; i < t->rows; i++) {
        check_origin(c, t, i);
        check_number(c, t, i, "median_us", false);
        check_number(c, t, i, "regret", true);
        check_interval(c, t, i, "low_us", "median_us", "high_us");
        check_interval(c, t, i, "margin_low", "margin", "margin");
        if (csv_number(t, i, "evaluations") > csv_number(t, i, "space"))
            complain(c, t->line[i], "%s evaluations in a space of %s",
                     csv_cell(t, i, "evaluations"), csv_cell(t, i, "space"));
        if (csv_number(t, i, "percent_of_ceiling") > MOST_OF_SMALL_CEILING)
            complain(c, t->line[i], "%s%% of the ceiling", csv_cell(t, i, "percent_of_ceiling"));
    }
}

static void check_tps(struct checking *c, const struct csv *t) {
    static const char *const names[] = {"model", "prompt", "batch", NULL};
    const char *rate = csv_has(t, "tokens_per_s") ? "tokens_per_s" : "tokens_s";
    const char *low = csv_has(t, "low") ? "low" : "tokens_low";
    const char *high = csv_has(t, "high") ? "high" : "tokens_high";
    if (!check_columns(c, t, names) || !check_columns(c, t, (const char *[]){rate, NULL})) return;
    for (int i = 0; i < t->rows; i++) {
        if (csv_has(t, "device")) check_origin(c, t, i);
        check_number(c, t, i, rate, false);
        check_interval(c, t, i, low, rate, high);
        double limit = csv_number(t, i, "read_gbps") * 1e9 * csv_number(t, i, "batch") /
                       csv_number(t, i, "step_bytes");
        if (csv_number(t, i, rate) > 1.05 * limit)
            complain(c, t->line[i], "%s tokens/s: reading what a step needs allows %.1f",
                     csv_cell(t, i, rate), limit);
        check_derived(c, t, i, "percent_of_read", 100 * csv_number(t, i, rate) / limit, 0.01);
    }
}

static void check_steps(struct checking *c, const struct csv *t) {
    static const char *const names[] = {"model",  "kernel", "problem", "calls", "us",   "bytes",
                                        "device", "driver", "commit",  "dirty", "date", NULL};
    if (!check_columns(c, t, names)) return;
    for (int i = 0; i < t->rows; i++) {
        check_origin(c, t, i);
        check_number(c, t, i, "calls", false);
        check_number(c, t, i, "us", false);
        if (csv_has(t, "gbps"))
            check_derived(c, t, i, "gbps", csv_number(t, i, "bytes") / csv_number(t, i, "us") / 1e3,
                          0.1);
    }
}

static void check_position(struct checking *c, const struct csv *t) {
    static const char *const names[] = {"model",  "engine",  "position", "us",
                                        "low_us", "high_us", "device",   "driver",
                                        "commit", "dirty",   "date",     NULL};
    if (!check_columns(c, t, names)) return;
    for (int i = 0; i < t->rows; i++) {
        check_origin(c, t, i);
        check_interval(c, t, i, "low_us", "us", "high_us");
        double us = csv_number(t, i, "us"), limit = csv_number(t, i, "limit_us");
        if (us < limit / 1.05)
            complain(c, t->line[i], "a step of %g us: reading what it needs takes %g", us, limit);
    }
}

static void check_prompts(struct checking *c, const struct csv *t) {
    static const char *const names[] = {"model",   "prompt",      "part",  "product", "us",
                                        "ttft_ms", "products_ms", "dtype", "device",  "driver",
                                        "commit",  "dirty",       "date",  NULL};
    if (!check_columns(c, t, names)) return;
    for (int i = 0; i < t->rows; i++) {
        check_origin(c, t, i);
        check_number(c, t, i, "us", false);
        check_interval(c, t, i, "ttft_low_ms", "ttft_ms", "ttft_high_ms");
        check_derived(c, t, i, "over_products",
                      csv_number(t, i, "ttft_ms") / csv_number(t, i, "products_ms"), 0.002);
    }
}

static void check_loading(struct checking *c, const struct csv *t) {
    static const char *const names[] = {"model",  "bytes", "seconds", "plain_seconds", "gbps",
                                        "ratio",  "low",   "high",    "device",        "driver",
                                        "commit", "date",  NULL};
    if (!check_columns(c, t, names)) return;
    for (int i = 0; i < t->rows; i++) {
        check_origin(c, t, i);
        check_number(c, t, i, "seconds", false);
        check_number(c, t, i, "plain_seconds", false);
        check_interval(c, t, i, "low", "ratio", "high");
        check_derived(c, t, i, "gbps",
                      csv_number(t, i, "bytes") / csv_number(t, i, "seconds") / 1e9, 0.01);
    }
}

static enum status check_table(struct checking *c,
                               void (*check)(struct checking *, const struct csv *)) {
    struct csv table;
    enum status status = csv_read(c->path, &table);
    if (!status) {
        c->files++;
        check(c, &table);
        c->rows += table.rows;
    }
    csv_free(&table);
    return status;
}

/* --- JSON --------------------------------------------------------------------------------------
 */

static void check_run(struct checking *c, const json_t *run) {
    static const char *const texts[] = {"device", "device_slug", "device_kind", "commit",
                                        "started"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!*json_text(run, texts[i])) complain(c, 1, "a run without '%s'", texts[i]);
    json_t *facts = json_loads(json_text(run, "facts"), 0, NULL);
    double bits = json_number_value(json_object_get(facts, "bus_bits"));
    double khz = json_number_value(json_object_get(facts, "memory_clock_khz"));
    double copy = json_number_value(json_object_get(run, "copy_gbps"));
    bool gpu = !strcmp(json_text(run, "device_kind"), "cuda");
    if (!facts) complain(c, 1, "a run without the device's facts");
    if (bits > 0 && khz > 0) c->peak_gbps = bits / 8 * 2 * khz * 1e3 / 1e9; /* double data rate */
    c->cache_bytes = json_number_value(json_object_get(facts, "l2_bytes"));
    if (gpu && copy > c->peak_gbps)
        complain(c, 1, "a copy at %.0f GB/s: the memory bus has %.0f", copy, c->peak_gbps);
    if (gpu && !*json_text(run, "driver")) complain(c, 1, "a GPU's run without a driver");
    snprintf(c->device, sizeof c->device, "%s", json_text(run, "device"));
    json_decref(facts);
}

/* A configuration made by compiling alone has no times, and who has times names where they are
 * from. */
static void check_config(struct checking *c, const json_t *config) {
    static const char *const times[] = {"median_us",  "low_us", "high_us",
                                        "default_us", "margin", "percent_of_ceiling"};
    const json_t *measured = json_object_get(config, "measured");
    const json_t *entries = json_object_get(config, "entries");
    if (!json_is_boolean(measured)) complain(c, 1, "'measured', true or false, was expected");
    if (!json_is_array(entries)) complain(c, 1, "an array 'entries' was expected");
    for (size_t i = 0; i < json_array_size(entries); i++) {
        const json_t *entry = json_array_get(entries, i);
        c->rows++;
        for (size_t k = 0; k < sizeof times / sizeof *times && json_is_false(measured); k++)
            if (json_object_get(entry, times[k]))
                complain(c, 1, "\"measured\": false, but entry %zu has '%s'", i + 1, times[k]);
    }
    if (json_is_true(measured) &&
        (!*json_text(config, "date") || !is_commit(json_text(config, "commit"))))
        complain(c, 1, "\"measured\": true without a date and a commit");
}

static enum status check_json(struct checking *c) {
    json_error_t error;
    json_t *json = json_load_file(c->path, 0, &error);
    if (!json) return fail(STATUS_FORMAT, "%s:%d: %s", c->path, error.line, error.text);
    c->files++;
    if (json_is_array(json)) {
        if (!json_array_size(json)) complain(c, 1, "no run");
        for (size_t i = 0; i < json_array_size(json); i++) check_run(c, json_array_get(json, i));
        c->rows += (int)json_array_size(json);
    } else if (json_object_get(json, "entries") || json_object_get(json, "measured")) {
        check_config(c, json);
    } else if (!*json_text(json, "device") || !*json_text(json, "commit")) {
        complain(c, 1, "'device' and 'commit' were expected");
    }
    json_decref(json);
    return STATUS_OK;
}

/* --- files and folders -------------------------------------------------------------------------
 */

static enum status check_file(struct checking *c, const char *path, bool *known) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t length = strlen(name);
    c->path = path;
    *known = true;
    if (!strcmp(name, "bench.csv") || !strcmp(name, "points.csv"))
        return check_table(c, check_bench);
    if (!strcmp(name, "tuning.csv")) return check_table(c, check_tuning);
    if (!strcmp(name, "tps.csv")) return check_table(c, check_tps);
    if (!strcmp(name, "steps.csv")) return check_table(c, check_steps);
    if (!strcmp(name, "position.csv")) return check_table(c, check_position);
    if (!strcmp(name, "prompts.csv")) return check_table(c, check_prompts);
    if (!strcmp(name, "loading.csv")) return check_table(c, check_loading);
    if (length > 5 && !strcmp(name + length - 5, ".json")) return check_json(c);
    *known = false;
    return STATUS_OK;
}

static void check_slug(struct checking *c, const char *folder, const char *environment) {
    json_t *runs = json_load_file(environment, 0, NULL);
    const char *slug = json_text(json_array_get(runs, 0), "device_slug");
    char *real = realpath(folder, NULL), *slash = real ? strrchr(real, '/') : NULL;
    if (*slug && slash && strcmp(slash + 1, slug) != 0)
        complain(c, 1, "the folder is '%s', but its device's name is '%s'", slash + 1, slug);
    free(real);
    json_decref(runs);
}

static enum status check_folder(struct checking *c, const char *folder) {
    static const char *const names[] = {
        "environment.json", "bench.csv",    "points.csv",  "tuning.csv",  "tps.csv",
        "steps.csv",        "position.csv", "prompts.csv", "loading.csv", "calibration.json"};
    char path[1200];
    bool known;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        c->path = path;
        if (!access(path, F_OK)) {
            TRY(check_file(c, path, &known));
            if (i == 0) check_slug(c, folder, path);
        } else if (i == 0) {
            complain(c, 1, "not there: `fastinfer export` writes one beside every table");
        }
    }
    return STATUS_OK;
}

enum status export_check(const char *path) {
    struct checking c = {.path = path, .peak_gbps = NAN, .cache_bytes = NAN};
    struct stat found;
    bool known = true;
    if (stat(path, &found)) return fail(STATUS_ARGUMENT, "%s: %s", path, strerror(errno));
    TRY(S_ISDIR(found.st_mode) ? check_folder(&c, path) : check_file(&c, path, &known));
    if (!known || !c.files)
        return fail(STATUS_ARGUMENT,
                    "%s: bench.csv, points.csv, tuning.csv, tps.csv, steps.csv, position.csv, "
                    "prompts.csv, loading.csv, environment.json or a file of configs/ was expected",
                    path);
    if (c.findings)
        return fail(STATUS_FORMAT, "%s: %d findings in %d files", path, c.findings, c.files);
    printf("%s: %d files, %d rows, nothing wrong\n", path, c.files, c.rows);
    return STATUS_OK;
}
