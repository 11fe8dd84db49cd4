/* export.c - fastinfer export: what results/ keeps for review, and configs/ from it. */
#include <argp.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/export.h"
#include "cli/export_check.h"
#include "cli/export_tables.h"
#include "harness/config_file.h"
#include "harness/show.h"
#include "harness/t4.h"
#include "runtime/json_text.h"

enum {
    KEY_DB = 256,
    KEY_OUT,
    KEY_FORMAT,
    KEY_CONFIGS,
    KEY_DEVICE,
    KEY_ALL,
    KEY_SPACES,
    KEY_TUNING,
    KEY_CHECK,
    KEY_TABLES
};
static const struct argp_option options[] = {
    {"db", KEY_DB, "FILE", 0, "the database (default results/fastinfer.db)", 0},
    {"out", KEY_OUT, "DIR", 0, "results/<device>/ is made in DIR (default results)", 0},
    {"format", KEY_FORMAT, "csv|json", 0, "default csv", 0},
    {"device", KEY_DEVICE, "SLUG", 0, "only this device, e.g. nvidia-h200", 0},
    {"configs", KEY_CONFIGS, "DIR", 0,
     "also write DIR/<device>.json: the best point of each problem", 0},
    {"all", KEY_ALL, NULL, 0, "also points.csv: every point, not only the best", 0},
    {"tuning", KEY_TUNING, NULL, 0, "only tuning.csv: what searches came to (view tuned)", 0},
    {"tables", KEY_TABLES, NULL, 0,
     "also tuning.csv, tps.csv, steps.csv, position.csv and traffic.csv, where there are any", 0},
    {"check", KEY_CHECK, "FILE|DIR", 0,
     "check an export, results/<device> or a file of it, and do nothing else (exit 2: bad)", 0},
    {"spaces", KEY_SPACES, "N", OPTION_ARG_OPTIONAL,
     "also spaces/: the scans of each problem with N points or more (200), results as "
     "*.t4.json.gz, "
     "what was tuned as *.t1.json.gz (docs/tuning.md)",
     0},
    {0}};

struct arguments {
    const char *db, *out, *format, *configs, *device, *check;
    bool all;
    bool tuning, tables;
    int spaces; /* 0: none */
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case KEY_DB:
        a->db = arg;
        break;
    case KEY_OUT:
        a->out = arg;
        break;
    case KEY_FORMAT:
        if (strcmp(arg, "csv") != 0 && strcmp(arg, "json") != 0)
            argp_error(state, "format '%s' is neither csv nor json", arg);
        a->format = arg;
        break;
    case KEY_DEVICE:
        a->device = arg;
        break;
    case KEY_CONFIGS:
        a->configs = arg;
        break;
    case KEY_TABLES:
        a->tables = true;
        break;
    case KEY_CHECK:
        a->check = arg;
        break;
    case KEY_TUNING:
        a->tuning = true;
        break;
    case KEY_SPACES:
        a->spaces = arg ? (int)cli_number(state, arg, 1, 1 << 20) : 200;
        break;
    case KEY_ALL:
        a->all = true;
        break;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected '%s'", arg);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static bool silent; /* export_silently() */
void export_silently(void) { silent = true; }

/* A row's sink: CSV text, or a JSON array. */
struct sink {
    FILE *csv;
    json_t *json;
    int rows;
};

void export_csv_field(FILE *out, const char *text) {
    if (!text) return;
    if (!strpbrk(text, ",\"\n")) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"') fputc('"', out);
        fputc(*text == '\n' ? ' ' : *text, out);
    }
    fputc('"', out);
}

static enum status take_row(void *context, int columns, const char *const *names,
                            const char *const *values) {
    struct sink *sink = context;
    json_t *row = sink->json ? json_object() : NULL;
    if (sink->csv && !sink->rows)
        for (int i = 0; i < columns; i++) fprintf(sink->csv, "%s%s", i ? "," : "", names[i]);
    if (sink->csv) fputc('\n', sink->csv);
    for (int i = 0; i < columns; i++) {
        if (sink->csv && i) fputc(',', sink->csv);
        if (sink->csv) export_csv_field(sink->csv, values[i]);
        if (row) json_object_set_new(row, names[i], show_value(names[i], values[i]));
    }
    if (row) json_array_append_new(sink->json, row);
    sink->rows++;
    return STATUS_OK;
}

static enum status save(const char *path, struct sink *sink) {
    bool good = true;
    if (sink->csv) {
        fputc('\n', sink->csv);
        good = !ferror(sink->csv);
        good &= fclose(sink->csv) == 0;
    } else {
        good = !json_dump_file(sink->json, path, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    }
    json_decref(sink->json);
    if (!good) return fail(STATUS_SYSTEM, "%s: could not be written: %s", path, strerror(errno));
    return STATUS_OK;
}

static enum status write_rows(struct store *store, const char *format, const char *folder,
                              const char *name, const char *sql, const char *slug, int *rows) {
    char path[1200];
    struct sink sink = {0};
    snprintf(path, sizeof path, "%s/%s.%s", folder, name, format);
    if (!strcmp(format, "json"))
        sink.json = json_array();
    else if (!(sink.csv = fopen(path, "w")))
        return fail(STATUS_SYSTEM, "%s: could not be written: %s", path, strerror(errno));
    const char *params[] = {slug};
    enum status status = store_query(store, sql, params, 1, &sink, take_row);
    enum status saved = save(path, &sink);
    *rows = sink.rows;
    return status ? status : saved;
}

/* A file that is there is not replaced by an empty one: a database may hold only one kind of run.
 */
static enum status write_query(struct store *store, const char *format, const char *folder,
                               const char *name, const char *sql, const char *slug) {
    char part[64], made[1200], path[1200];
    int rows;
    snprintf(part, sizeof part, "%s.part", name);
    snprintf(made, sizeof made, "%s/%s.%s", folder, part, format);
    snprintf(path, sizeof path, "%s/%s.%s", folder, name, format);
    enum status status = write_rows(store, format, folder, part, sql, slug, &rows);
    if (status) return unlink(made), status;
    if (!rows && !access(path, F_OK)) return unlink(made), STATUS_OK;
    if (rename(made, path))
        return fail(STATUS_SYSTEM, "%s: could not be written: %s", path, strerror(errno));
    if (!silent) printf("%s: %d rows\n", path, rows);
    return STATUS_OK;
}

enum status export_csv(struct store *store, const char *device_slug, const char *folder,
                       const char *name, const char *sql, int *rows) {
    return write_rows(store, "csv", folder, name, sql, device_slug, rows);
}

/* Rounded to what the clock can tell (NULL stays NULL); ceilings' own problems are left out. */
static const char columns_sql[] =
    "SELECT kernel, dtype, problem, rows, residency, launch, point, status, "
    "round(median_us, 3) AS median_us, round(mad_us, 3) AS mad_us, "
    "round(low_us, 3) AS low_us, round(high_us, 3) AS high_us, samples, launches, "
    "round(gbps, 1) AS gbps, round(ceiling_gbps, 1) AS ceiling_gbps, "
    "round(percent_of_ceiling, 2) AS percent_of_ceiling, baseline, "
    "round(baseline_us, 3) AS baseline_us, round(speedup, 3) AS speedup, "
    "round(fused_us, 3) AS fused_us, round(default_us, 3) AS default_us, "
    "round(host_us, 2) AS host_us, round(wall_us, 2) AS wall_us, "
    "round(baseline_wall_us, 2) AS baseline_wall_us, "
    "round(speedup_with_launch, 3) AS speedup_with_launch, "
    "CAST(read_bytes AS INTEGER) AS read_bytes, CAST(write_bytes AS INTEGER) AS write_bytes, "
    "CAST(flops AS INTEGER) AS flops, round(worst_error, 4) AS worst_error, registers, "
    "spill_bytes, shared_bytes, blocks_per_sm, sm_mhz, memory_mhz, celsius, watts, device, driver, "
    "\"commit\", dirty, date FROM ";

static enum status write_best(struct store *store, const char *format, const char *slug,
                              const char *folder) {
    char sql[4096];
    snprintf(sql, sizeof sql,
             "%sbest WHERE device_slug = ? AND (kernel <> 'stream' OR in_contest) ORDER BY kernel, "
             "dtype, residency, launch, rows, read_bytes, problem",
             columns_sql);
    return write_query(store, format, folder, "bench", sql, slug);
}

enum status export_folder(const char *out, const char *device_slug, char *folder, size_t bytes) {
    snprintf(folder, bytes, "%s/%s", out, device_slug);
    mkdir(out, 0777);
    if (mkdir(folder, 0777) && errno != EEXIST)
        return fail(STATUS_SYSTEM, "%s: the folder could not be made: %s", folder, strerror(errno));
    return STATUS_OK;
}

enum status export_bench_csv(struct store *store, const char *device_slug, const char *folder) {
    return write_best(store, "csv", device_slug, folder);
}

static enum status write_environment(struct store *store, const char *folder, const char *slug) {
    return write_query(
        store, "json", folder, "environment",
        "SELECT run.id AS run, d.name AS device, d.slug AS device_slug, d.kind AS device_kind, "
        "d.arch, d.facts, driver, compiler, baseline, commit_id AS \"commit\", dirty, "
        "started, ended, outcome, command, seed, wall_seconds, compile_seconds, measure_seconds, "
        "isolation_seconds, "
        "copy_gbps, read_gbps, copy_bytes, launch_ns, graph_node_ns, sqlite_version() AS sqlite, "
        "(SELECT COUNT(*) FROM measurement m WHERE m.run_id = run.id) AS measurements "
        "FROM run JOIN device d ON d.id = device_id WHERE d.slug = ? AND EXISTS (SELECT 1 FROM "
        "measurement m WHERE m.run_id = run.id) ORDER BY run.id",
        slug);
}

enum status export_environment(struct store *store, const char *device_slug, const char *folder) {
    return write_environment(store, folder, device_slug);
}

struct exporting {
    struct store *store;
    const struct arguments *a;
    int devices;
};

static enum status export_device(void *context, int columns, const char *const *names,
                                 const char *const *v) {
    struct exporting *e = context;
    char folder[1100], sql[4096];
    (void)columns, (void)names;
    if (e->a->device && strcmp(e->a->device, v[0]) != 0) return STATUS_OK;
    e->devices++;
    TRY(export_folder(e->a->out, v[0], folder, sizeof folder));
    if (e->a->tuning)
        return write_query(e->store, e->a->format, folder, "tuning",
                           "SELECT * FROM tuned WHERE device_slug = ? AND stopped <> 'between' "
                           "ORDER BY kernel, dtype, "
                           "residency, launch, rows, problem",
                           v[0]);
    if (e->a->all) {
        snprintf(sql, sizeof sql,
                 "%sresults WHERE device_slug = ? ORDER BY kernel, dtype, residency, launch, rows, "
                 "read_bytes, problem, median_us",
                 columns_sql);
        TRY(write_query(e->store, e->a->format, folder, "points", sql, v[0]));
    }
    TRY(write_best(e->store, e->a->format, v[0], folder));
    TRY(write_environment(e->store, folder, v[0]));
    if (e->a->tables) TRY(export_tables(e->store, v[0], folder, true));
    if (e->a->spaces) {
        struct t4_counts counts;
        snprintf(sql, sizeof sql, "%.1000s/spaces", folder);
        TRY(t4_write(e->store, v[0], sql, e->a->spaces, &counts));
        printf("%s: %d spaces, %d with a T1 file\n", sql, counts.spaces, counts.described);
    }
    size_t entries;
    if (!e->a->configs) return STATUS_OK;
    TRY(config_file_write(e->store, v[0], e->a->configs, &entries));
    printf("%s/%s.json: %zu entries\n", e->a->configs, v[0], entries);
    return STATUS_OK;
}

int cli_export(int argc, char **argv) {
    static const struct argp argp = {options,
                                     parse,
                                     NULL,
                                     "Writes <device>/bench.csv and environment.json from the "
                                     "database.",
                                     NULL,
                                     NULL,
                                     NULL};
    struct arguments a = {.db = "results/fastinfer.db", .out = "results", .format = "csv"};
    struct exporting exporting = {.a = &a};
    argv[0] = cli_name("export");
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    enum status status = a.check ? export_check(a.check) : STATUS_OK;
    if (a.check) return status ? cli_error(status) : 0;
    status = store_open_readonly(a.db, &exporting.store);
    if (!status)
        status = store_query(
            exporting.store,
            "SELECT slug FROM device d WHERE EXISTS (SELECT 1 FROM measurement m "
            "JOIN run ON run.id = m.run_id WHERE run.device_id = d.id) OR EXISTS (SELECT 1 FROM "
            "throughputs t WHERE t.device_slug = d.slug) ORDER BY id",
            NULL, 0, &exporting, export_device);
    if (!status && !exporting.devices)
        status = fail(STATUS_ARGUMENT, "%s: nothing measured%s%s yet", a.db, a.device ? " on " : "",
                      a.device ? a.device : "");
    store_close(exporting.store);
    return status ? cli_error(status) : 0;
}
