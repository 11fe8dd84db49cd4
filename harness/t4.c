/* t4.c - the keys are those that Kernel Tuner writes and autotuning_methodology reads, which differ
 * from the schema in one: the schema allows times.compilation_time, both use times.compilation. */
#include "harness/t4.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include "harness/t1.h"
#include "harness/worker.h"
#include "kernels/registry.h"

/* --- a record --------------------------------------------------------------------------------- */

/* The format's word for why a configuration gave no time. */
static const char *invalidity(const char *status) {
    if (!strcmp(status, "ok")) return "correct";
    if (!strcmp(status, "compile") || !strcmp(status, "timeout")) return status;
    if (!strcmp(status, "incorrect") || !strcmp(status, "nondeterministic")) return "correctness";
    return "runtime";
}

/* What stands for the time of a configuration that has none: Kernel Tuner's words, the only ones
 * that the community's readers take for a failure. */
static const char *no_time(const char *status) {
    return strcmp(status, "compile") ? "RuntimeFailedConfig" : "CompilationFailedConfig";
}

/* "block=128,unroll=2" as {"block": 128, "unroll": 2}. */
static json_t *configuration(const char *point) {
    char copy[MAX_TEXT], *save = NULL;
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

static bool same_names(const json_t *a, json_t *b) {
    const char *name;
    json_t *value;
    if (json_object_size(a) != json_object_size(b)) return false;
    json_object_foreach(b, name, value) if (!json_object_get(a, name)) return false;
    return true;
}

/* --- a space ---------------------------------------------------------------------------------- */

enum { KERNEL, DTYPE, PROBLEM, RESIDENCY, LAUNCH, LATEST, DRIVER, COMPILER, COMMIT, RUNS, FACTS };

struct space {
    const char *const *row; /* of the query over spaces */
    json_t *results, *latest;
    const struct kernel *kernel; /* NULL: points that this program does not know */
    struct problem problem;
    struct device_info device;
    struct point *points; /* of results, where kernel */
    int count, capacity;
};

/* Takes a point's text for the T1 file, or gives that file up. */
static enum status add_point(struct space *s, const char *text) {
    char again[MAX_TEXT];
    if (s->count == s->capacity) {
        s->capacity = s->capacity ? 2 * s->capacity : 256;
        struct point *larger = realloc(s->points, (size_t)s->capacity * sizeof *larger);
        if (!larger) return fail(STATUS_SYSTEM, "out of memory for %d points", s->capacity);
        s->points = larger;
    }
    struct point *point = &s->points[s->count++];
    bool known = s->kernel && !point_parse(s->kernel, text, point);
    if (known) point_format(s->kernel, point, again); /* tells what the text left out */
    if (!known || strcmp(text, again) != 0 ||
        !s->kernel->legal(&s->problem, point, &s->device, NULL))
        s->kernel = NULL;
    return STATUS_OK;
}

enum { POINT, STATUS, MEDIAN_NS, SAMPLES, COMPILE_MS, CREATED };

static enum status take_point(void *context, int columns, const char *const *names,
                              const char *const *v) {
    struct space *s = context;
    bool correct = !strcmp(v[STATUS], "ok");
    json_t *point = configuration(v[POINT]), *sample;
    size_t i;
    (void)columns, (void)names;
    if (!same_names(s->latest, point)) {
        json_decref(point);
        return STATUS_OK;
    }
    json_t *runtimes = json_array(), *samples = json_loads(v[SAMPLES], 0, NULL);
    json_array_foreach(samples, i, sample)
        json_array_append_new(runtimes, json_real(json_number_value(sample) / 1e6));
    json_decref(samples);
    json_t *record =
        json_pack("{s:s, s:o, s:{s:f, s:i, s:i, s:i, s:o}, s:s, s:i, s:[{s:s, s:o, s:s}], s:[s]}",
                  "timestamp", v[CREATED], "configuration", point, "times", "compilation",
                  atof(v[COMPILE_MS]), "framework", 0, "search_algorithm", 0, "validation", 0,
                  "runtimes", runtimes, "invalidity", invalidity(v[STATUS]), "correctness",
                  (int)correct, "measurements", "name", "time", "value",
                  correct ? json_real(atof(v[MEDIAN_NS]) / 1e6) : json_string(no_time(v[STATUS])),
                  "unit", "milliseconds", "objectives", "time");
    if (!record || json_array_append_new(s->results, record))
        return fail(STATUS_SYSTEM, "out of memory for results");
    return add_point(s, v[POINT]);
}

/* The kernel and problem as this program knows them, for the T1 file. */
static void find_kernel(struct space *s, const json_t *facts) {
    info_from_json(facts, &s->device);
    if (registry_find(s->row[KERNEL], &s->kernel) ||
        problem_parse(s->kernel, s->row[PROBLEM], &s->problem))
        s->kernel = NULL;
    s->problem.dtype = dtype_parse(s->row[DTYPE]);
    if (s->problem.dtype > DTYPE_F32) s->kernel = NULL;
}

static enum status load_space(struct store *store, const char *slug, struct space *s) {
    const char *const *v = s->row;
    const char *params[] = {slug, v[KERNEL], v[DTYPE], v[PROBLEM], v[RESIDENCY], v[LAUNCH]};
    return store_query(
        store,
        "SELECT point, status, median_ns, samples, compile_ms, created FROM ("
        "SELECT pt.point, m.status, m.median_ns, m.samples, "
        "COALESCE(b.compile_ms, 0) AS compile_ms, m.created, "
        "ROW_NUMBER() OVER (PARTITION BY m.point_id ORDER BY m.id DESC) AS age "
        "FROM measurement m JOIN run ON run.id = m.run_id "
        "JOIN device d ON d.id = run.device_id JOIN problem p ON p.id = m.problem_id "
        "JOIN point pt ON pt.id = m.point_id LEFT JOIN build b ON b.id = m.build_id "
        "WHERE m.contest_id IS NULL AND d.slug = ? AND p.kernel = ? AND p.dtype = ? "
        "AND p.problem = ? AND m.residency = ? AND m.launch = ?) WHERE age = 1 "
        "ORDER BY status <> 'ok', point", /* autotuning_methodology 1.1 wants a time first */
        params, 6, s, take_point);
}

/* --- files ------------------------------------------------------------------------------------ */

/* zlib's gzopen() leaves name and time out of the header: the same text is the same file. */
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

static enum status save_results(const struct space *s, const char *slug, const char *policy,
                                json_t *facts, const char *path) {
    const char *const *v = s->row;
    json_t *json =
        json_pack("{s:s, s:{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:{s:[O]}}, s:O}",
                  "schema_version", "1.0.0", "metadata", "timeunit", "milliseconds", "device", slug,
                  "kernel", v[KERNEL], "dtype", v[DTYPE], "problem", v[PROBLEM], "policy", policy,
                  "driver", v[DRIVER], "compiler", v[COMPILER], "commit", v[COMMIT], "runs",
                  atoi(v[RUNS]), "hardware", "hardware_description", facts, "results", s->results);
    if (!json) return fail(STATUS_SYSTEM, "%s: out of memory", path);
    enum status status = save(path, json);
    json_decref(json);
    return status;
}

static enum status save_problem(const struct space *s, const char *name, const char *policy,
                                const char *path, bool *out) {
    struct t1_space space = {name, policy, s->kernel, s->problem, s->device, s->points, s->count};
    json_t *json = NULL;
    *out = false;
    if (s->kernel) TRY(t1_describe(&space, &json));
    if (!json) {
        if (remove(path) && errno != ENOENT) /* an older export's would not be of these points */
            return fail(STATUS_SYSTEM, "%s: could not be removed: %s", path, strerror(errno));
        return STATUS_OK;
    }
    enum status status = save(path, json);
    json_decref(json);
    *out = !status;
    return status;
}

struct writing {
    struct store *store;
    const char *slug, *folder;
    size_t least;
    struct t4_counts counts;
};

static enum status save_space(struct writing *w, const struct space *s, json_t *facts) {
    const char *const *v = s->row;
    char path[1800], name[700], policy[64];
    bool described;
    snprintf(policy, sizeof policy, "%s,%s", v[RESIDENCY], v[LAUNCH]);
    snprintf(name, sizeof name, "%s-%s-%s-%s-%s", v[KERNEL], v[DTYPE], v[PROBLEM], v[RESIDENCY],
             v[LAUNCH]);
    for (char *c = name; *c; c++)
        if (*c == ',') *c = '-';
    snprintf(path, sizeof path, "%s/%s.t4.json.gz", w->folder, name);
    TRY(save_results(s, w->slug, policy, facts, path));
    snprintf(path, sizeof path, "%s/%s.t1.json.gz", w->folder, name);
    TRY(save_problem(s, name, policy, path, &described));
    w->counts.spaces++, w->counts.described += described;
    return STATUS_OK;
}

static enum status take_space(void *context, int columns, const char *const *names,
                              const char *const *v) {
    struct writing *w = context;
    struct space space = {.row = v, .results = json_array(), .latest = configuration(v[LATEST])};
    json_t *facts = json_loads(v[FACTS], 0, NULL);
    (void)columns, (void)names;
    if (!facts) facts = json_object();
    find_kernel(&space, facts);
    enum status status = load_space(w->store, w->slug, &space);
    if (!status && json_array_size(space.results) >= w->least)
        status = save_space(w, &space, facts);
    free(space.points);
    json_decref(space.results), json_decref(space.latest), json_decref(facts);
    return status;
}

enum status t4_write(struct store *store, const char *device_slug, const char *folder, int least,
                     struct t4_counts *out) {
    struct writing w = {store, device_slug, folder, (size_t)least, {0, 0}};
    char count[16];
    const char *params[] = {device_slug, count};
    snprintf(count, sizeof count, "%d", least);
    if (mkdir(folder, 0777) && errno != EEXIST)
        return fail(STATUS_SYSTEM, "%s: the folder could not be made: %s", folder, strerror(errno));
    /* with one MAX(), SQLite takes the bare columns from the row that has it: the latest */
    enum status status = store_query(
        store,
        "SELECT p.kernel, p.dtype, p.problem, m.residency, m.launch, pt.point, run.driver, "
        "run.compiler, run.commit_id, COUNT(DISTINCT run.id), d.facts, MAX(m.id) "
        "FROM measurement m JOIN run ON run.id = m.run_id "
        "JOIN device d ON d.id = run.device_id JOIN problem p ON p.id = m.problem_id "
        "JOIN point pt ON pt.id = m.point_id WHERE m.contest_id IS NULL AND d.slug = ? "
        "GROUP BY m.problem_id, m.residency, m.launch "
        "HAVING COUNT(DISTINCT m.point_id) >= CAST(? AS INTEGER) "
        "ORDER BY p.kernel, p.dtype, p.problem, m.residency, m.launch",
        params, 2, &w, take_space);
    *out = w.counts;
    return status;
}
