#include "harness/t4.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

/* The format's word for why a configuration gave no time. */
static const char *invalidity(const char *status) {
    if (!strcmp(status, "ok")) return "correct";
    if (!strcmp(status, "compile") || !strcmp(status, "timeout")) return status;
    if (!strcmp(status, "incorrect") || !strcmp(status, "nondeterministic")) return "correctness";
    return "runtime";
}

/* "block=128,unroll=2" as {"block": 128, "unroll": 2}. */
static json_t *configuration(const char *point) {
    char copy[1024], *save = NULL;
    json_t *json = json_object();
    snprintf(copy, sizeof copy, "%s", point);
    for (char *pair = strtok_r(copy, ",", &save); pair; pair = strtok_r(NULL, ",", &save)) {
        char *equals = strchr(pair, '=');
        if (!equals) continue;
        *equals = 0;
        json_object_set_new(json, pair, json_integer(atoll(equals + 1)));
    }
    return json;
}

enum { POINT, STATUS, MEDIAN_NS, SAMPLES, COMPILE_MS, CREATED };

static enum status take_point(void *context, int columns, const char *const *names,
                              const char *const *v) {
    bool correct = !strcmp(v[STATUS], "ok");
    json_t *runtimes = json_array(), *samples = json_loads(v[SAMPLES], 0, NULL), *sample;
    size_t i;
    (void)columns, (void)names;
    json_array_foreach(samples, i, sample)
        json_array_append_new(runtimes, json_real(json_number_value(sample) / 1e6));
    json_decref(samples);
    json_array_append_new(
        context,
        json_pack("{s:s, s:o, s:{s:f, s:i, s:i, s:i, s:o}, s:s, s:i, s:[{s:s, s:o, s:s}], s:[s]}",
                  "timestamp", v[CREATED], "configuration", configuration(v[POINT]), "times",
                  "compilation", atof(v[COMPILE_MS]), "framework", 0, "search_algorithm", 0,
                  "validation", 0, "runtimes", runtimes, "invalidity", invalidity(v[STATUS]),
                  "correctness", (int)correct, "measurements", "name", "time", "value",
                  correct ? json_real(atof(v[MEDIAN_NS]) / 1e6) : json_string(v[STATUS]), "unit",
                  "milliseconds", "objectives", "time"));
    return STATUS_OK;
}

static enum status save(const char *path, const json_t *json) {
    char *text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(6));
    gzFile file = text ? gzopen(path, "wb9") : NULL;
    size_t bytes = text ? strlen(text) : 0;
    bool written = file && gzwrite(file, text, (unsigned)bytes) == (int)bytes;
    free(text);
    if (file && gzclose(file) != Z_OK) written = false;
    return written ? STATUS_OK
                   : fail(STATUS_SYSTEM, "%s: could not be written: %s", path, strerror(errno));
}

struct writing {
    struct store *store;
    const char *slug, *folder;
    int files;
};

enum { KERNEL, DTYPE, PROBLEM, RESIDENCY, LAUNCH, DRIVER, COMMIT };

static enum status take_space(void *context, int columns, const char *const *names,
                              const char *const *v) {
    struct writing *w = context;
    const char *params[] = {w->slug, v[KERNEL], v[DTYPE], v[PROBLEM], v[RESIDENCY], v[LAUNCH]};
    char path[1600], name[600];
    json_t *results = json_array();
    (void)columns, (void)names;
    TRY(store_query(w->store,
                    "SELECT point, status, median_ns, samples, compile_ms, created FROM ("
                    "SELECT pt.point, m.status, m.median_ns, m.samples, b.compile_ms, m.created, "
                    "ROW_NUMBER() OVER (PARTITION BY m.point_id ORDER BY m.id DESC) AS age "
                    "FROM measurement m JOIN run ON run.id = m.run_id "
                    "JOIN device d ON d.id = run.device_id JOIN problem p ON p.id = m.problem_id "
                    "JOIN point pt ON pt.id = m.point_id JOIN build b ON b.id = m.build_id "
                    "WHERE m.contest_id IS NULL AND d.slug = ? AND p.kernel = ? AND p.dtype = ? "
                    "AND p.problem = ? AND m.residency = ? AND m.launch = ?) WHERE age = 1 "
                    "ORDER BY point",
                    params, 6, results, take_point));
    json_t *json =
        json_pack("{s:s, s:{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}, s:o}", "schema_version",
                  "1.0.0", "metadata", "timeunit", "milliseconds", "device", w->slug, "kernel",
                  v[KERNEL], "dtype", v[DTYPE], "problem", v[PROBLEM], "policy", v[RESIDENCY],
                  "driver", v[DRIVER], "commit", v[COMMIT], "results", results);
    snprintf(name, sizeof name, "%s-%s-%s-%s-%s", v[KERNEL], v[DTYPE], v[PROBLEM], v[RESIDENCY],
             v[LAUNCH]);
    for (char *c = name; *c; c++)
        if (*c == ',') *c = '-';
    snprintf(path, sizeof path, "%s/%s.t4.json.gz", w->folder, name);
    enum status status = save(path, json);
    json_decref(json);
    w->files += !status;
    return status;
}

enum status t4_write(struct store *store, const char *device_slug, const char *folder, int least,
                     int *files) {
    struct writing w = {store, device_slug, folder, 0};
    char count[16];
    const char *params[] = {device_slug, count};
    snprintf(count, sizeof count, "%d", least);
    if (mkdir(folder, 0777) && errno != EEXIST)
        return fail(STATUS_SYSTEM, "%s: the folder could not be made: %s", folder, strerror(errno));
    enum status status =
        store_query(store,
                    "SELECT p.kernel, p.dtype, p.problem, m.residency, m.launch, MAX(run.driver), "
                    "MAX(run.commit_id) FROM measurement m JOIN run ON run.id = m.run_id "
                    "JOIN device d ON d.id = run.device_id JOIN problem p ON p.id = m.problem_id "
                    "WHERE m.contest_id IS NULL AND m.point_id IS NOT NULL AND d.slug = ? "
                    "GROUP BY m.problem_id, m.residency, m.launch "
                    "HAVING COUNT(DISTINCT m.point_id) >= CAST(? AS INTEGER)",
                    params, 2, &w, take_space);
    *files = w.files;
    return status;
}
