#include "harness/config_file.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/config.h"
#include "runtime/json_text.h"

enum { KERNEL, DTYPE, POLICY, PROBLEM, POINT, NUMBERS };

/* The columns after the first five are numbers, under their own names where they are known. */
static enum status take_entry(void *entries, int columns, const char *const *names,
                              const char *const *v) {
    json_t *entry = json_pack("{s:s, s:s, s:s, s:s, s:s?}", "kernel", v[KERNEL], "dtype", v[DTYPE],
                              "policy", v[POLICY], "problem", v[PROBLEM], "point", v[POINT]);
    for (int i = NUMBERS; i < columns; i++)
        if (v[i]) json_object_set_new(entry, names[i], json_real(atof(v[i])));
    json_array_append_new(entries, entry);
    return STATUS_OK;
}

/* The file's head: the device and the run that its newest entry is from. */
static enum status take_head(void *head, int columns, const char *const *names,
                             const char *const *v) {
    for (int i = 0; i < columns; i++) {
        json_t *value = !strcmp(names[i], "facts") ? json_loads(v[i] ? v[i] : "{}", 0, NULL)
                                                   : json_string(v[i] ? v[i] : "");
        json_object_set_new(head, names[i], value);
    }
    return STATUS_OK;
}

/* Entries of an older file that this database has nothing about: kept, if they were measured. */
static void keep_entries(json_t *entries, const char *path) {
    static const char *const keys[] = {"kernel", "dtype", "policy", "problem"}, *const kept[] = {
                                                                                    "accepted",
                                                                                    "end_to_end"};
    json_t *older = json_load_file(path, 0, NULL), *entry, *mine;
    size_t i, j, fresh = json_array_size(entries);
    bool measured = json_is_true(json_object_get(older, "measured"));
    json_array_foreach(measured ? json_object_get(older, "entries") : NULL, i, entry) {
        bool found = false;
        for (j = 0; j < fresh && !found; j++) {
            mine = json_array_get(entries, j);
            found = true;
            for (size_t k = 0; k < sizeof keys / sizeof *keys && found; k++)
                found = !strcmp(json_text(mine, keys[k]), json_text(entry, keys[k]));
        }
        if (!found) json_array_append(entries, entry);
        if (found && !strcmp(json_text(mine, "point"), json_text(entry, "point")))
            for (size_t k = 0; k < sizeof kept / sizeof *kept; k++)
                if (json_object_get(entry, kept[k]))
                    json_object_set(mine, kept[k], json_object_get(entry, kept[k]));
    }
    json_decref(older);
}

/* Bridges that are needed no more: they were there to keep an older file's away. */
static void drop_pointless(json_t *entries) {
    for (size_t i = json_array_size(entries); i-- > 0;)
        if (!json_is_string(json_object_get(json_array_get(entries, i), "point")))
            json_array_remove(entries, i);
}

static enum status replace_file(const json_t *json, const char *path) {
    char fresh[1300];
    snprintf(fresh, sizeof fresh, "%s.%d", path, (int)getpid());
    if (json_dump_file(json, fresh, JSON_INDENT(1) | JSON_REAL_PRECISION(7)) ||
        rename(fresh, path)) {
        enum status status =
            fail(STATUS_SYSTEM, "%s: could not be written: %s", path, strerror(errno));
        unlink(fresh);
        return status;
    }
    return STATUS_OK;
}

enum status config_file_write(struct store *store, const char *slug, const char *folder,
                              size_t *count) {
    char path[1200];
    const char *params[] = {slug, slug};
    json_t *entries = json_array(), *head = json_object();
    enum status status = store_query(
        store,
        "SELECT kernel, dtype, policy, problem, point, median_us, low_us, high_us, "
        "percent_of_ceiling, default_us, margin, margin_low, regret, left_out FROM ("
        "SELECT kernel, dtype, residency || ',' || launch AS policy, problem, point, rows, "
        "round(median_us, 3) AS median_us, round(low_us, 3) AS low_us, round(high_us, 3) AS "
        "high_us, round(percent_of_ceiling, 2) AS percent_of_ceiling, round(default_us, 3) AS "
        "default_us, round(margin, 4) AS margin, round(margin_low, 4) AS margin_low, "
        "round(regret, 4) AS regret, round(left_out, 4) AS left_out "
        "FROM tuned WHERE device_slug = ?1 UNION ALL "
        "SELECT kernel, dtype, residency || ',' || launch AS policy, problem, point, rows, "
        "round(median_us, 3), round(low_us, 3), round(high_us, 3), round(percent_of_ceiling, 2), "
        "round(default_us, 3), NULL, NULL, NULL, NULL FROM best b WHERE device_slug = ?2 AND NOT "
        "EXISTS (SELECT 1 FROM tuned t WHERE t.device_slug = b.device_slug AND t.kernel = b.kernel "
        "AND t.dtype = b.dtype AND t.problem = b.problem AND t.residency = b.residency AND "
        "t.launch = b.launch) UNION ALL "
        "SELECT p.kernel, p.dtype, t.residency || ',' || t.launch AS policy, p.problem, NULL, "
        "p.rows, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL "
        "FROM tuning t JOIN problem p ON p.id = t.problem_id JOIN run r ON r.id = t.run_id "
        "JOIN device d ON d.id = r.device_id WHERE d.slug = ?1 AND t.stopped = 'between' "
        "AND t.launched_id IS NULL AND NOT EXISTS (SELECT 1 FROM tuning n JOIN run r2 ON r2.id = "
        "n.run_id WHERE r2.device_id = d.id AND n.problem_id = t.problem_id AND n.residency = "
        "t.residency AND n.launch = t.launch AND n.run_id > t.run_id)) ORDER BY kernel, dtype, "
        "policy, rows, problem",
        params, 2, entries, take_entry);
    if (!status)
        status = store_query(
            store,
            "SELECT d.name AS device, d.slug, d.facts, run.driver, run.compiler, run.commit_id AS "
            "\"commit\", run.started AS date FROM run JOIN device d ON d.id = run.device_id WHERE "
            "d.slug = ? AND EXISTS (SELECT 1 FROM measurement m WHERE m.run_id = run.id) ORDER BY "
            "run.id DESC LIMIT 1",
            params, 1, head, take_head);
    snprintf(path, sizeof path, "%s/%s.json", folder, slug);
    if (!status) {
        keep_entries(entries, path);
        drop_pointless(entries);
        json_object_set_new(head, "measured", json_true());
        json_object_set(head, "entries", entries);
        mkdir(folder, 0777);
        status = replace_file(head, path);
    }
    *count = json_array_size(entries);
    json_decref(head), json_decref(entries);
    return status;
}

/* --- verdicts --------------------------------------------------------------------------------- */

static const char policy_of_steps[] = "weights_cold,graph";

/* The file's entry that is nearest to the problem: NULL where there is none of its kernel, dtype,
 * policy and compiled sizes. */
static json_t *nearest(json_t *entries, const struct kernel *kernel,
                       const struct problem *problem) {
    json_t *entry, *best = NULL;
    double least = INFINITY;
    size_t i;
    json_array_foreach(entries, i, entry) {
        struct problem other;
        if (strcmp(json_text(entry, "kernel"), kernel->name) != 0 ||
            strcmp(json_text(entry, "dtype"), dtype_name(problem->dtype)) != 0 ||
            strcmp(json_text(entry, "policy"), policy_of_steps) != 0 ||
            problem_parse(kernel, json_text(entry, "problem"), &other))
            continue;
        double far = config_distance(kernel, problem, &other);
        if (far < least) least = far, best = entry;
    }
    return best;
}

static json_t *new_entry(json_t *entries, const struct kernel *kernel,
                         const struct problem *problem, const struct point *point) {
    char problem_text[MAX_TEXT], point_text[MAX_TEXT];
    problem_format(kernel, problem, problem_text), point_format(kernel, point, point_text);
    json_t *entry = json_pack("{s:s, s:s, s:s, s:s, s:s}", "kernel", kernel->name, "dtype",
                              dtype_name(problem->dtype), "policy", policy_of_steps, "problem",
                              problem_text, "point", point_text);
    json_array_append_new(entries, entry);
    return entry;
}

enum status config_file_judge(const char *path, const struct kernel *kernel,
                              const struct problem *problem, const struct point *point,
                              const struct config_judgement *j) {
    json_error_t error;
    json_t *json = json_load_file(path, 0, &error);
    if (!json) return fail(STATUS_FORMAT, "%s:%d: %s", path, error.line, error.text);
    json_t *entries = json_object_get(json, "entries"), *entry = nearest(entries, kernel, problem);
    if (!entry && !point) return json_decref(json), STATUS_OK;
    if (!entry) entry = new_entry(entries, kernel, problem, point);
    json_object_del(entry, "accepted");
    if (j->verdict != UNDECIDED)
        json_object_set_new(entry, "accepted", json_boolean(j->verdict == ACCEPTED));
    json_object_set_new(entry, "end_to_end",
                        json_pack("{s:s, s:s, s:f, s:f, s:f, s:s}", "model", j->model, "against",
                                  j->against, "ratio", j->ratio.ratio, "low", j->ratio.low, "high",
                                  j->ratio.high, "verdict", acceptance_text(j->verdict)));
    enum status status = replace_file(json, path);
    json_decref(json);
    return status;
}
