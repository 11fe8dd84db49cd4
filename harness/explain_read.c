#include "harness/explain_read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/show.h"

/* --- which -------------------------------------------------------------------------------------
 */

static enum status take_case(void *context, int columns, const char *const *names,
                             const char *const *v) {
    struct explain_case *out = context;
    (void)columns, (void)names;
    if (out->points) {
        out->others++;
        return STATUS_OK;
    }
    snprintf(out->device, sizeof out->device, "%s", v[0]);
    snprintf(out->slug, sizeof out->slug, "%s", v[1]);
    snprintf(out->kind, sizeof out->kind, "%s", v[2]);
    snprintf(out->dtype, sizeof out->dtype, "%s", v[3]);
    snprintf(out->problem, sizeof out->problem, "%s", v[4]);
    snprintf(out->residency, sizeof out->residency, "%s", v[5]);
    snprintf(out->launch, sizeof out->launch, "%s", v[6]);
    out->points = atoi(v[7]);
    return STATUS_OK;
}

enum status explain_choose(struct store *store, const struct kernel *kernel,
                           const struct explain_wish *wish, struct explain_case *out) {
    const char *params[] = {kernel->name,  wish->device_slug, wish->dtype,
                            wish->problem, wish->residency,   wish->launch};
    for (int i = 0; i < 6; i++)
        if (!params[i]) params[i] = "";
    *out = (struct explain_case){.kernel = kernel};
    return store_query(
        store,
        "SELECT device, device_slug, device_kind, dtype, problem, residency, launch, COUNT(*) "
        "FROM results WHERE kernel = ?1 AND ?2 IN ('', device_slug) AND ?3 IN ('', dtype) AND "
        "?4 IN ('', problem) AND ?5 IN ('', residency) AND ?6 IN ('', launch) "
        "GROUP BY device_slug, dtype, problem, residency, launch ORDER BY device_kind = 'cpu', "
        "COUNT(*) DESC, residency <> 'cold', MAX(read_bytes + write_bytes) DESC, dtype, problem, "
        "launch",
        params, 6, out, take_case);
}

/* --- its points --------------------------------------------------------------------------------
 */

#define OF_CASE                                                                                    \
    "FROM measurement m JOIN run ON run.id = m.run_id JOIN device d ON d.id = run.device_id "      \
    "JOIN problem p ON p.id = m.problem_id JOIN point pt ON pt.id = m.point_id "                   \
    "WHERE d.slug = ?1 AND p.kernel = ?2 AND p.dtype = ?3 AND m.residency = ?4 AND m.launch = ?5 " \
    "AND m.subject <> 'ceiling' "
enum { CASE_PARAMS = 6 };
#define CASE(which)                                                                                \
    {                                                                                              \
        (which)->slug, (which)->kernel->name, (which)->dtype, (which)->residency, (which)->launch, \
            (which)->problem                                                                       \
    }

struct reading {
    const struct kernel *kernel;
    struct explain_sample *samples;
    int count, capacity, strange;
};

static enum status take_sample(void *context, int columns, const char *const *names,
                               const char *const *v) {
    struct reading *r = context;
    struct explain_sample sample = {.status = status_parse(v[1]), .ns = v[2] ? atof(v[2]) : 0};
    (void)columns, (void)names;
    if (sample.status == STATUS_COUNT) sample.status = STATUS_LAUNCH; /* failed, by a new word */
    if (point_parse(r->kernel, v[0], &sample.point) ||
        (sample.status == STATUS_OK && !(sample.ns > 0))) {
        r->strange++;
        return STATUS_OK;
    }
    if (r->count == r->capacity) {
        r->capacity = r->capacity ? 2 * r->capacity : 256;
        struct explain_sample *larger =
            realloc(r->samples, (size_t)r->capacity * sizeof *r->samples);
        if (!larger) return fail(STATUS_SYSTEM, "out of memory while reading points");
        r->samples = larger;
    }
    r->samples[r->count++] = sample;
    return STATUS_OK;
}

/* Scans come before contests here, unlike in the view: all points are then timed in the same way.
 */
enum status explain_samples(struct store *store, const struct explain_case *which,
                            struct explain_sample **out, int *count, int *strange) {
    struct reading reading = {.kernel = which->kernel};
    const char *params[CASE_PARAMS] = CASE(which);
    enum status status = store_query(
        store,
        "SELECT point, status, median_ns FROM (SELECT pt.point, m.status, m.median_ns, "
        "ROW_NUMBER() "
        "OVER (PARTITION BY m.point_id ORDER BY (m.status = 'ok') DESC, m.contest_id IS NOT NULL, "
        "m.id DESC) AS place " OF_CASE "AND p.problem = ?6) WHERE place = 1 ORDER BY point",
        params, CASE_PARAMS, &reading, take_sample);
    if (status) free(reading.samples);
    *out = status ? NULL : reading.samples;
    *count = reading.count, *strange = reading.strange;
    return status;
}

enum status explain_order(struct store *store, const struct explain_case *which, void *context,
                          enum status (*row)(void *context, int columns, const char *const *names,
                                             const char *const *values)) {
    const char *params[CASE_PARAMS] = CASE(which);
    return store_query(
        store,
        "SELECT kernel, dtype, problem, residency, launch, status, round(median_ns / 1e3, 4) AS "
        "median_us, device, driver, commit_id AS \"commit\", dirty, created AS date "
        "FROM (SELECT p.kernel, p.dtype, p.problem, m.residency, m.launch, m.status, m.median_ns, "
        "d.name AS device, run.driver, run.commit_id, run.dirty, m.created, m.id, "
        "ROW_NUMBER() OVER (PARTITION BY m.problem_id, m.point_id ORDER BY m.id) AS time, "
        "COUNT(*) OVER (PARTITION BY m.problem_id) AS scans " OF_CASE
        "AND m.contest_id IS NULL) WHERE time = 1 ORDER BY problem <> ?6, scans DESC, problem, id",
        params, CASE_PARAMS, context, row);
}

/* --- its contenders ---------------------------------------------------------------------------
 */

/* Registers, spills and shared memory come from the compiler's log; a compilation that printed none
 * is stored with 0 registers, which no kernel has. */
static const char contender_sql[] =
    "WITH c AS (SELECT *, ROW_NUMBER() OVER (ORDER BY in_latest_contest DESC, in_contest DESC, "
    "median_us) AS place FROM results WHERE status = 'ok' AND device_slug = ?1 AND kernel = ?2 AND "
    "dtype = ?3 AND residency = ?4 AND launch = ?5 AND problem = ?6) "
    "SELECT c.point, c.median_us, c.low_us, c.high_us, c.samples, c.in_contest, "
    "c.in_latest_contest, c.percent_of_ceiling, c.gbps, b.registers, b.spill_bytes, "
    "b.shared_bytes, c.blocks_per_sm, (SELECT i.instructions FROM build i WHERE i.code_hash = "
    "c.code_hash AND c.code_hash <> '' AND i.instructions IS NOT NULL LIMIT 1) AS instructions, "
    "c.code_hash, c.date, c.driver, c.compiler, c.\"commit\", c.dirty FROM c LEFT JOIN build b ON "
    "b.id = (SELECT k.id FROM build k WHERE k.code_hash = c.code_hash AND c.code_hash <> '' AND "
    "k.registers > 0 ORDER BY k.id DESC LIMIT 1) WHERE ";

static enum status take_object(void *context, int columns, const char *const *names,
                               const char *const *values) {
    json_t **out = context;
    *out = json_object();
    for (int i = 0; i < columns; i++)
        json_object_set_new(*out, names[i], show_value(names[i], values[i]));
    return STATUS_OK;
}

static enum status take_counter(void *context, int columns, const char *const *names,
                                const char *const *v) {
    (void)columns, (void)names;
    json_array_append_new(
        context, json_pack("{s:s, s:f, s:s}", "name", v[0], "value", atof(v[1]), "source", v[2]));
    return STATUS_OK;
}

static enum status read_contender(struct store *store, const struct explain_case *which,
                                  const char *where, const char *param, json_t **out) {
    const char *params[CASE_PARAMS + 1] = CASE(which);
    char sql[2400];
    params[CASE_PARAMS] = param;
    snprintf(sql, sizeof sql, "%s%s", contender_sql, where);
    TRY(store_query(store, sql, params, CASE_PARAMS + 1, out, take_object));
    if (!*out) return STATUS_OK;
    json_t *counters = json_array();
    json_object_set_new(*out, "counters", counters);
    params[CASE_PARAMS] = json_string_value(json_object_get(*out, "point"));
    return store_query(store,
                       "SELECT name, value, source FROM counter WHERE measurement_id = (SELECT "
                       "MAX(m.id) " OF_CASE "AND p.problem = ?6 AND pt.point = ?7 AND m.id IN "
                       "(SELECT measurement_id FROM counter)) ORDER BY name",
                       params, CASE_PARAMS + 1, counters, take_counter);
}

static enum status take_text(void *context, int columns, const char *const *names,
                             const char *const *v) {
    (void)columns, (void)names;
    snprintf(context, MAX_TEXT, "%s", v[0]);
    return STATUS_OK;
}

enum status explain_contenders(struct store *store, const struct explain_case *which,
                               struct contenders *out) {
    char builtin[MAX_TEXT];
    const char *params[CASE_PARAMS] = CASE(which);
    struct point point = point_default(which->kernel);
    *out = (struct contenders){0};
    TRY(read_contender(store, which, "place = 1 AND ?7 = ''", "", &out->best));
    if (!out->best) return STATUS_OK;
    const char *code = json_string_value(json_object_get(out->best, "code_hash"));
    TRY(read_contender(store, which,
                       "place > 1 AND (c.code_hash IS NULL OR c.code_hash = '' OR c.code_hash <> "
                       "?7) ORDER BY place LIMIT 1",
                       code ? code : "", &out->runner));
    /* where the kernel's own default is not legal the bench timed the legal point nearest to it */
    point_format(which->kernel, &point, builtin);
    TRY(store_query(store,
                    "SELECT point FROM (SELECT pt.point, m.id " OF_CASE
                    "AND p.problem = ?6 AND m.subject = 'default') ORDER BY id DESC LIMIT 1",
                    params, CASE_PARAMS, builtin, take_text));
    return read_contender(store, which, "c.point = ?7", builtin, &out->builtin);
}

void contenders_free(struct contenders *contenders) {
    json_decref(contenders->best), json_decref(contenders->runner);
    json_decref(contenders->builtin);
    *contenders = (struct contenders){0};
}
