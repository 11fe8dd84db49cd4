#include "harness/show.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* As the view `best`, among what one run measured (all runs for run 0). */
static const char best_of_run[] =
    "WITH b AS (SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY kernel, dtype, problem, "
    "residency, launch ORDER BY in_latest_contest DESC, in_contest DESC, median_us) AS place FROM "
    "results WHERE status = 'ok' AND device_slug = ?2 AND (run_id = CAST(?1 AS INTEGER) OR ?1 = "
    "'0')) WHERE place = 1) ";

static enum status query_best(struct store *store, const char *device_slug, int64_t run,
                              const char *select, void *context,
                              enum status (*row)(void *context, int columns,
                                                 const char *const *names,
                                                 const char *const *values)) {
    char id[24], sql[2048];
    snprintf(id, sizeof id, "%" PRId64, run);
    snprintf(sql, sizeof sql, "%s%s", best_of_run, select);
    const char *params[] = {id, device_slug};
    return store_query(store, sql, params, 2, context, row);
}

struct table {
    FILE *out;
    char kernel[32];
};

static const char *or_dash(const char *text) { return text ? text : "-"; }

static void number(const char *text, int digits, char *out, size_t bytes) {
    if (text)
        snprintf(out, bytes, "%.*f", digits, atof(text));
    else
        snprintf(out, bytes, "-");
}

static enum status print_row(void *context, int columns, const char *const *names,
                             const char *const *v) {
    struct table *t = context;
    char us[24], gbps[24], percent[24], eager[24], speedup[24], fused[24];
    (void)columns, (void)names;
    if (strcmp(t->kernel, v[0]) != 0) {
        snprintf(t->kernel, sizeof t->kernel, "%s", v[0]);
        fprintf(t->out, "\n%s on %s%s\n", v[0], v[10],
                strcmp(v[11], "cpu") ? "" : "  (emulation times: they say nothing of a GPU)");
        fprintf(t->out, "%-44s %-12s %9s %7s %6s %9s %8s %9s  %s\n", "problem", "policy", "us",
                "GB/s", "% ceil", "eager us", "speedup", "fused us", "best point");
    }
    number(v[4], 2, us, sizeof us), number(v[5], 0, gbps, sizeof gbps);
    number(v[6], 1, percent, sizeof percent), number(v[7], 1, eager, sizeof eager);
    number(v[8], 2, speedup, sizeof speedup), number(v[9], 1, fused, sizeof fused);
    fprintf(t->out, "%-44s %-12s %9s %7s %6s %9s %8s %9s  %s\n", or_dash(v[1]), v[2], us, gbps,
            percent, eager, speedup, fused, v[3]);
    return STATUS_OK;
}

enum status show_tables(struct store *store, const char *device_slug, int64_t run, FILE *out) {
    struct table table = {.out = out};
    /* problems that are only the ceilings of others have no contest of their own */
    return query_best(
        store, device_slug, run,
        "SELECT kernel, problem, residency || ',' || launch, point, median_us, gbps, "
        "percent_of_ceiling, baseline_us, speedup, fused_us, device, device_kind FROM b WHERE "
        "kernel <> 'stream' OR in_contest ORDER BY (SELECT MIN(id) FROM problem p WHERE p.kernel = "
        "b.kernel), residency, rows, read_bytes, problem",
        &table, print_row);
}

struct array {
    json_t *rows;
};

json_t *show_value(const char *column, const char *text) {
    static const char *const words[] = {"commit",    "driver",  "compiler", "baseline", "torch",
                                        "code_hash", "command", "point",    "problem"};
    char *end;
    if (!text) return json_null();
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(column, words[i])) return json_string(text);
    double real = strtod(text, &end);
    if (!*text || *end) return json_string(text);
    return strpbrk(text, ".eE") ? json_real(real) : json_integer((json_int_t)atoll(text));
}

static enum status append_row(void *context, int columns, const char *const *names,
                              const char *const *values) {
    json_t *row = json_object();
    for (int i = 0; i < columns; i++)
        json_object_set_new(row, names[i], show_value(names[i], values[i]));
    json_array_append_new(((struct array *)context)->rows, row);
    return STATUS_OK;
}

enum status show_json(struct store *store, const char *device_slug, int64_t run, FILE *out) {
    struct array array = {json_array()};
    enum status status =
        query_best(store, device_slug, run, "SELECT * FROM b ORDER BY kernel, residency, problem",
                   &array, append_row);
    if (!status) {
        json_dumpf(array.rows, out, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
        fputc('\n', out);
    }
    json_decref(array.rows);
    return status;
}
