/* test_store.c - the database: what goes in comes out, in whole records, whatever happens. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <sqlite3.h>

#include "harness/store.h"
#include "kernels/registry.h"

#include <cmocka.h> /* last: its macro fail() hides the function */

static const struct policy cold = {RESIDENCY_COLD, LAUNCH_STREAM};
static char folder[64];

/* --- helpers ---------------------------------------------------------------------------------- */

/* FOLDER/name; four at a time. */
static const char *path_of(const char *name) {
    static char paths[4][200];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void good(enum status status) {
    if (status) fail_msg("%s: %s", status_text(status), fail_message());
}

static void refused(enum status status, const char *words) {
    assert_int_equal(status, STATUS_STORE);
    if (!strstr(fail_message(), words)) fail_msg("'%s' is not in '%s'", words, fail_message());
}

static sqlite3 *open_raw(const char *path) {
    sqlite3 *db;
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL),
                     SQLITE_OK);
    sqlite3_busy_timeout(db, 30000);
    return db;
}

static void execute(const char *path, const char *sql) {
    sqlite3 *db = open_raw(path);
    char *error = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &error)) fail_msg("%s: %s", sql, error);
    sqlite3_close(db);
}

/* The first column of the first row as text, "-" for NULL, "none" without a row; four at a time. */
static const char *ask(const char *path, const char *sql) {
    static char texts[4][256];
    static int next;
    char *text = texts[next++ % 4];
    sqlite3 *db = open_raw(path);
    sqlite3_stmt *query;
    if (sqlite3_prepare_v2(db, sql, -1, &query, NULL)) fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    int code = sqlite3_step(query);
    const char *value = code == SQLITE_ROW ? (const char *)sqlite3_column_text(query, 0) : NULL;
    snprintf(text, sizeof texts[0], "%s", code == SQLITE_ROW ? value ? value : "-" : "none");
    sqlite3_finalize(query);
    sqlite3_close(db);
    return text;
}
static void says(const char *path, const char *sql, const char *expected) {
    const char *got = ask(path, sql);
    if (strcmp(got, expected) != 0) fail_msg("%s\ngave '%s', not '%s'", sql, got, expected);
}
static void about(const char *path, const char *sql, double expected) {
    const char *got = ask(path, sql);
    if (!(fabs(atof(got) - expected) <= 1e-9 * fabs(expected)))
        fail_msg("%s\ngave %s, not %.12g", sql, got, expected);
}

struct bytes {
    char *data;
    size_t count;
};
static struct bytes read_bytes(const char *path) {
    struct bytes b = {NULL, 0};
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    b.count = (size_t)ftell(file);
    rewind(file);
    b.data = malloc(b.count + 1);
    assert_int_equal(fread(b.data, 1, b.count, file), b.count);
    fclose(file);
    return b;
}
static void write_bytes(const char *path, const void *data, size_t count) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}
/* The file still holds these bytes, and nothing was left beside it; frees them. */
static void unchanged(const char *path, struct bytes before) {
    char beside[220];
    struct bytes after = read_bytes(path);
    assert_int_equal(after.count, before.count);
    assert_memory_equal(after.data, before.data, before.count);
    free(before.data), free(after.data);
    snprintf(beside, sizeof beside, "%s-wal", path);
    assert_int_equal(access(beside, F_OK), -1);
    snprintf(beside, sizeof beside, "%s-journal", path);
    assert_int_equal(access(beside, F_OK), -1);
}

static void refused_and_unchanged(const char *path, const char *words) {
    struct store *store = NULL;
    struct bytes before = read_bytes(path);
    enum status status = store_open(path, &store);
    if (!status) fail_msg("%s was opened; '%s' was expected", path, words);
    refused(status, words);
    assert_null(store);
    assert_non_null(strstr(fail_message(), path));
    unchanged(path, before);
}

static struct environment environment_of(enum device_kind kind) {
    struct environment e = {.compiler = "NVRTC 13.0",
                            .baseline = "torch 2.9",
                            .commit = "abc",
                            .host = "here",
                            .command = "a test",
                            .dirty = true,
                            .seed = 7};
    if (kind == DEVICE_CUDA)
        device_describe_arch(90, &e.device);
    else
        device_describe_cpu(&e.device);
    snprintf(e.device.driver, sizeof e.device.driver, "580.1");
    return e;
}

/* A record of rmsnorm 4096x3072 at a point: 20 samples about `us`. */
static struct record record_of(const char *subject, const char *point, double us) {
    const struct kernel *kernel;
    struct record r = {.launches = 12,
                       .worst = 0.75,
                       .host_ns = 2500,
                       .wall_ns = us * 1e3 + 1000,
                       .telemetry = {1980, 3201, 45, 690500}};
    good(registry_find("rmsnorm", &kernel));
    good(problem_parse(kernel, "rows=4096,hidden=3072", &r.problem));
    snprintf(r.kernel, sizeof r.kernel, "rmsnorm");
    snprintf(r.subject, sizeof r.subject, "%s", subject);
    if (point) {
        r.has_point = true;
        good(point_parse(kernel, point, &r.point));
        r.build = (struct build){.compile_ms = 110,
                                 .registers = 40,
                                 .spill_bytes = 0,
                                 .stack_bytes = 16,
                                 .shared_bytes = 128,
                                 .blocks_per_sm = -1};
        snprintf(r.build.code_hash, sizeof r.build.code_hash, "h-%s", point);
    }
    for (int i = 0; i < 20; i++) r.samples[i] = us * 1e3 + (i - 9.5) * 4;
    r.summary = stats_summarise(r.samples, 20, 1);
    return r;
}

static struct record ceiling_of(double us) {
    const struct kernel *kernel;
    struct record r = record_of("ceiling", NULL, us);
    good(registry_find("stream", &kernel));
    good(problem_parse(kernel, "read_bytes=25171968,write_bytes=25165824", &r.problem));
    snprintf(r.kernel, sizeof r.kernel, "stream");
    r.has_point = true, r.point = point_default(kernel);
    r.build = (struct build){.registers = 20};
    return r;
}

static void add(struct store *store, int64_t run, int64_t contest, struct record r) {
    good(store_record(store, run, cold, contest, &r));
}

/* A database with one run in it. */
static struct store *fresh(const char *name, enum device_kind kind, int64_t *run) {
    struct store *store;
    struct environment e = environment_of(kind);
    good(store_open(path_of(name), &store));
    good(store_begin_run(store, &e, run));
    return store;
}

/* --- a fresh file --------------------------------------------------------------------------- */

static void fresh_has_version_tables_and_views(void **state) {
    (void)state;
    int64_t run;
    const char *path = path_of("fresh.db");
    store_close(fresh("fresh.db", DEVICE_CUDA, &run));
    about(path, "PRAGMA user_version", STORE_VERSION);
    says(path, "PRAGMA journal_mode", "wal");
    const char *tables[] = {"device", "run", "problem", "point", "build", "contest", "measurement"};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        char sql[200];
        snprintf(sql, sizeof sql, "SELECT type FROM sqlite_master WHERE name = '%s'", tables[i]);
        says(path, sql, "table");
    }
    says(path,
         "SELECT group_concat(name) FROM (SELECT name FROM sqlite_master WHERE type = 'view' "
         "ORDER BY name)",
         "best,latest_contest,prompts,results,throughputs,traffic,tuned");
    says(path, "SELECT COUNT(*) FROM results", "0");
    says(path, "SELECT kind || slug || arch FROM device", "cudanvidia-h20090");
    says(path,
         "SELECT driver || compiler || baseline || commit_id || dirty || host || seed FROM run",
         "580.1NVRTC 13.0torch 2.9abc1here7");
    says(path, "SELECT json_extract(facts, '$.sms') FROM device", "132");
}

static void a_run_ends_and_has_ceilings(void **state) {
    (void)state;
    int64_t run;
    struct store *store = fresh("run.db", DEVICE_CUDA, &run);
    struct ceilings out, c = {.copy_gbps = 4000.5,
                              .read_gbps = 3900,
                              .launch_ns = 2100,
                              .graph_node_ns = 900,
                              .copy_bytes = INT64_C(1) << 30};
    assert_false(store_get_ceilings(store, "nvidia-h200", &out));
    good(store_ceilings(store, run, &c));
    good(store_end_run(store, run, &(struct run_seconds){10, 4, 5, 0.1}, "ok"));
    assert_true(store_get_ceilings(store, "nvidia-h200", &out));
    assert_memory_equal(&out, &c, sizeof c);
    assert_false(store_get_ceilings(store, "cpu", &out));
    store_close(store);
    says(path_of("run.db"), "SELECT outcome || wall_seconds || compile_seconds FROM run",
         "ok10.04.0");
}

/* --- records ---------------------------------------------------------------------------------- */

static void same_record(const struct record *a, const struct record *b) {
    assert_int_equal(a->status, b->status);
    assert_string_equal(a->reason, b->reason);
    assert_string_equal(a->subject, b->subject);
    assert_string_equal(a->kernel, b->kernel);
    assert_memory_equal(&a->problem, &b->problem, sizeof a->problem);
    assert_int_equal(a->has_point, b->has_point);
    assert_memory_equal(&a->point, &b->point, sizeof a->point);
    assert_string_equal(a->build.log, b->build.log);
    assert_string_equal(a->build.code_hash, b->build.code_hash);
    assert_int_equal(a->build.status, b->build.status);
    assert_int_equal(a->build.cached, b->build.cached);
    assert_int_equal(a->build.registers, b->build.registers);
    assert_int_equal(a->build.spill_bytes, b->build.spill_bytes);
    assert_int_equal(a->build.stack_bytes, b->build.stack_bytes);
    assert_int_equal(a->build.shared_bytes, b->build.shared_bytes);
    assert_int_equal(a->build.blocks_per_sm, b->build.blocks_per_sm);
    assert_true(a->build.compile_ms == b->build.compile_ms);
    assert_true(a->worst == b->worst);
    assert_int_equal(a->launches, b->launches);
    assert_memory_equal(a->samples, b->samples, sizeof a->samples);
    assert_memory_equal(&a->summary, &b->summary, sizeof a->summary);
    assert_true(a->host_ns == b->host_ns && a->wall_ns == b->wall_ns);
    assert_memory_equal(&a->telemetry, &b->telemetry, sizeof a->telemetry);
    assert_int_equal(a->build.instructions, b->build.instructions);
    assert_int_equal(a->retaken, b->retaken);
    assert_true(a->millijoules == b->millijoules);
    assert_true(a->autocorrelation == b->autocorrelation && a->drift == b->drift);
    assert_int_equal(a->counted, b->counted);
    assert_int_equal(a->counters.count, b->counters.count);
    for (int i = 0; i < a->counters.count; i++) {
        assert_string_equal(a->counters.counter[i].name, b->counters.counter[i].name);
        assert_true(a->counters.counter[i].value == b->counters.counter[i].value);
    }
    assert_true(a->seconds_compiling == b->seconds_compiling);
    assert_true(a->seconds_verifying == b->seconds_verifying);
    assert_true(a->seconds_measuring == b->seconds_measuring);
}

/* As it travels: to JSON, to text, and back. */
static void round_trip(const struct record *r, struct record *out) {
    json_t *json = record_to_json(r);
    assert_non_null(json);
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    json = json_loads(text, 0, NULL);
    free(text);
    good(record_from_json(json, out));
    json_decref(json);
}

static void json_round_trip(void **state) {
    (void)state;
    struct record out, r = record_of("kernel", "block=128,unroll=1", 12.3456789);
    r.build.cached = true, r.build.compile_ms = 1 / 3.0;
    r.seconds_compiling = 0.1, r.seconds_verifying = 0.2, r.seconds_measuring = 0.3;
    r.problem.real[0] = 1e-6;
    r.problem.dtype = DTYPE_BF16;
    r.samples[3] = 12345.678901234567;
    r.build.instructions = 384, r.retaken = 2, r.millijoules = 1.5;
    r.autocorrelation = 0.25, r.drift = -0.01, r.telemetry.throttle = 4;
    r.counters.count = 1, r.counters.counter[0].value = 67108864.5;
    snprintf(r.counters.counter[0].name, 96, "dram__bytes_read.sum");
    round_trip(&r, &out);
    same_record(&r, &out);
    r = record_of("hf_eager", NULL, 100);
    round_trip(&r, &out);
    same_record(&r, &out);
}

static void json_round_trip_of_a_failure(void **state) {
    (void)state;
    struct record out, r = record_of("kernel", "block=64", 1);
    r.summary = (struct summary){0};
    memset(r.samples, 0, sizeof r.samples);
    r.status = STATUS_INCORRECT, r.worst = INFINITY;
    r.telemetry = (struct telemetry)NO_TELEMETRY;
    snprintf(r.reason, sizeof r.reason, "y[3] is 1, \"2\" was expected\n");
    r.build.status = STATUS_COMPILE;
    snprintf(r.build.log, sizeof r.build.log, "error: \xe2\x80\x98x\xe2\x80");
    round_trip(&r, &out);
    assert_true(out.worst >= 1e300);
    assert_string_equal(out.build.log, "error: ???x??"); /* plain, since it was cut */
    r.worst = out.worst;
    memcpy(r.build.log, out.build.log, sizeof r.build.log);
    same_record(&r, &out);
    r.worst = NAN;
    round_trip(&r, &out);
    assert_true(out.worst >= 1e300);
}

static void json_of_something_else_is_refused(void **state) {
    (void)state;
    const char *texts[] = {
        "{}",
        "[]",
        "{\"status\": \"fine\"}",
        "{\"status\": 1}",
        "{\"status\": \"ok\", \"kernel\": \"nothing\"}",
        "{\"status\": \"ok\", \"kernel\": \"rmsnorm\", \"problem\": \"rows=x\"}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct record out;
        json_t *json = json_loads(texts[i], 0, NULL);
        assert_int_not_equal(record_from_json(json, &out), STATUS_OK);
        assert_true(strlen(fail_message()) > 10);
        json_decref(json);
    }
}

/* --- the views ----------------------------------------------------------------------------------
 */

static const double rms_bytes = 2.0 * (2 * 4096 + 1) * 3072;
#define POINT_IS(text) "point LIKE '" text ",%'"

/* Two points scanned, then a contest in which the slower one wins; one wrong point. */
static void fill_views(struct store *store, int64_t run) {
    int64_t contest;
    add(store, run, 0, record_of("kernel", "block=128", 15));
    add(store, run, 0, record_of("kernel", "block=256", 16));
    add(store, run, 0, record_of("kernel", "block=64", 14)); /* never in a contest */
    struct record wrong = record_of("kernel", "block=32", 1);
    wrong.status = STATUS_INCORRECT, wrong.worst = 17;
    snprintf(wrong.reason, sizeof wrong.reason, "y[5] is off");
    wrong.summary = (struct summary){0};
    add(store, run, 0, wrong);
    good(store_new_contest(store, &contest));
    add(store, run, contest, record_of("kernel", "block=128", 18));
    add(store, run, contest, record_of("default", "block=256", 16));
    add(store, run, contest, ceiling_of(13));
    add(store, run, contest, ceiling_of(12));
    add(store, run, contest, record_of("hf_eager", NULL, 160));
    add(store, run, contest, record_of("torch_fused", NULL, 24));
}

static void results_and_best(void **state) {
    (void)state;
    int64_t run;
    const char *path = path_of("views.db");
    struct store *store = fresh("views.db", DEVICE_CUDA, &run);
    fill_views(store, run);
    store_close(store);
    says(path, "SELECT COUNT(*) FROM results", "4");
    says(path, "SELECT COUNT(*) FROM best", "1");
    /* of a contest the contest's value, and the contest's winner before any scan */
    about(path, "SELECT median_us FROM results WHERE " POINT_IS("block=128"), 18);
    says(path, "SELECT in_contest FROM results WHERE " POINT_IS("block=64"), "0");
    says(path, "SELECT substr(point, 1, 10) FROM best", "block=256,");
    about(path, "SELECT median_us FROM best", 16);
    about(path, "SELECT mad_us FROM best", 0.020);
    about(path, "SELECT min_us FROM best", 16 - 0.038);
    says(path, "SELECT samples || ',' || launches FROM best", "20,12");
    about(path, "SELECT low_us FROM best", 16 - 0.018);
    about(path, "SELECT read_bytes + write_bytes FROM best", rms_bytes);
    about(path, "SELECT gbps FROM best", rms_bytes / 16e3);
    about(path, "SELECT ceiling_gbps FROM best", rms_bytes / 12e3);
    about(path, "SELECT percent_of_ceiling FROM best", 75);
    says(path, "SELECT baseline FROM best", "hf_eager");
    about(path, "SELECT baseline_us FROM best", 160);
    about(path, "SELECT speedup FROM best", 10);
    about(path, "SELECT speedup_with_launch FROM best", 161.0 / 17);
    about(path, "SELECT fused_us FROM best", 24);
    about(path, "SELECT default_us FROM best", 16);
    about(path, "SELECT watts FROM best", 690.5);
    says(path, "SELECT kernel || dtype || problem || rows || residency || launch FROM best",
         "rmsnormfp16rows=4096,hidden=30724096coldstream");
    says(path, "SELECT registers || ',' || ifnull(blocks_per_sm, 'unknown') FROM best",
         "40,unknown");
    says(path, "SELECT code_hash FROM best", "h-block=256");
    /* a scan beside a contest on its problem has that contest's baseline and ceiling */
    about(path, "SELECT speedup FROM results WHERE " POINT_IS("block=64"), 160.0 / 14);
    /* every sample is kept, in order */
    about(path, "SELECT json_extract(samples, '$[0]') FROM measurement WHERE id = 1", 15e3 - 38);
    says(path, "SELECT json_array_length(samples) FROM measurement WHERE id = 1", "20");
}

static void failures_are_shown_and_never_best(void **state) {
    (void)state;
    int64_t run;
    const char *path = path_of("failed.db");
    struct store *store = fresh("failed.db", DEVICE_CUDA, &run);
    fill_views(store, run);
    says(path, "SELECT status || reason FROM results WHERE " POINT_IS("block=32"),
         "incorrecty[5] is off");
    about(path, "SELECT worst_error FROM results WHERE " POINT_IS("block=32"), 17);
    says(path, "SELECT median_us FROM results WHERE " POINT_IS("block=32"), "-");
    says(path, "SELECT COUNT(*) FROM best WHERE status <> 'ok'", "0");
    /* however fast it claims to be */
    struct record r = record_of("kernel", "block=512", 0.001);
    r.status = STATUS_NONDETERMINISTIC;
    add(store, run, 0, r);
    says(path, "SELECT substr(point, 1, 10) FROM best", "block=256,");
    /* also where nothing else is known */
    r.problem.size[0] = 1;
    add(store, run, 0, r);
    says(path, "SELECT COUNT(*) FROM results WHERE rows = 1", "1");
    says(path, "SELECT COUNT(*) FROM best WHERE rows = 1", "0");
    store_close(store);
}

static void a_later_contest_replaces_the_earlier(void **state) {
    (void)state;
    int64_t run, contest;
    const char *path = path_of("later.db");
    struct store *store = fresh("later.db", DEVICE_CUDA, &run);
    fill_views(store, run);
    good(store_new_contest(store, &contest));
    add(store, run, contest, record_of("kernel", "block=128", 10));
    add(store, run, contest, record_of("default", "block=256", 11));
    add(store, run, contest, ceiling_of(9));
    add(store, run, contest, record_of("hf_eager", NULL, 100));
    says(path, "SELECT substr(point, 1, 10) FROM best", "block=128,");
    about(path, "SELECT speedup FROM best", 10);
    about(path, "SELECT percent_of_ceiling FROM best", 90);
    about(path, "SELECT default_us FROM best", 11);
    /* another policy is another row, without the first one's ceiling */
    struct record hot = record_of("kernel", "block=128", 3);
    good(store_record(store, run, (struct policy){RESIDENCY_HOT, LAUNCH_GRAPH}, 0, &hot));
    says(path, "SELECT COUNT(*) FROM best", "2");
    says(path, "SELECT speedup FROM best WHERE residency = 'hot' AND launch = 'graph'", "-");
    store_close(store);
}

static void cpu_and_cuda_never_share_a_row(void **state) {
    (void)state;
    int64_t gpu_run, cpu_run;
    const char *path = path_of("kinds.db");
    struct environment cpu = environment_of(DEVICE_CPU);
    struct store *store = fresh("kinds.db", DEVICE_CUDA, &gpu_run);
    good(store_begin_run(store, &cpu, &cpu_run));
    fill_views(store, gpu_run);
    /* on the CPU a scan of the same points only, faster than any GPU */
    add(store, cpu_run, 0, record_of("kernel", "block=256", 1));
    says(path, "SELECT COUNT(*) FROM best", "2");
    says(path, "SELECT COUNT(*) FROM results WHERE device_kind = 'cpu'", "1");
    about(path, "SELECT median_us FROM best WHERE device_kind = 'cuda'", 16);
    about(path, "SELECT percent_of_ceiling FROM best WHERE device_kind = 'cuda'", 75);
    says(path,
         "SELECT ifnull(baseline_us, 'no') || ifnull(ceiling_gbps, 'no') FROM best WHERE "
         "device_kind = 'cpu'",
         "nono");
    /* with a contest of its own it has a baseline, and no ratios: they would be an emulation's */
    fill_views(store, cpu_run);
    about(path, "SELECT baseline_us FROM best WHERE device_kind = 'cpu'", 160);
    says(path,
         "SELECT ifnull(speedup, 'no') || ifnull(percent_of_ceiling, 'no') FROM best WHERE "
         "device_kind = 'cpu'",
         "nono");
    says(path, "SELECT COUNT(*) FROM results GROUP BY device_kind", "4");
    store_close(store);
}

static void has(struct store *store, const char *slug, struct policy policy, struct record like,
                bool expected, double ns) {
    bool found;
    double median;
    good(store_has(store, slug, policy, &like, &found, &median));
    assert_int_equal(found, expected);
    assert_true(fabs(median - ns) < 1e-6);
}

static void has_what_was_scanned(void **state) {
    (void)state;
    int64_t run, contest;
    struct store *store = fresh("has.db", DEVICE_CUDA, &run);
    struct record r = record_of("kernel", "block=128", 15), other = r;
    has(store, "nvidia-h200", cold, r, false, 0);
    good(store_new_contest(store, &contest));
    add(store, run, contest, r);
    has(store, "nvidia-h200", cold, r, false, 0); /* a contest is no scan */
    add(store, run, 0, r);
    has(store, "nvidia-h200", cold, r, true, 15e3);
    has(store, "cpu", cold, r, false, 0);
    has(store, "nvidia-h200", (struct policy){RESIDENCY_HOT, LAUNCH_STREAM}, r, false, 0);
    other.problem.dtype = DTYPE_F32, has(store, "nvidia-h200", cold, other, false, 0);
    other = r, other.problem.size[0]++, has(store, "nvidia-h200", cold, other, false, 0);
    other = r, other.point.value[0] = 256, has(store, "nvidia-h200", cold, other, false, 0);
    other = r, strcpy(other.build.code_hash, "new"),
    has(store, "nvidia-h200", cold, other, false, 0);
    r.status = STATUS_CRASH;
    add(store, run, 0, r);
    has(store, "nvidia-h200", cold, r, true, 0); /* failed: not to be tried again */
    store_close(store);
}

static void deadly(struct store *store, const char *commit, struct record r, bool expected) {
    bool found;
    good(store_is_deadly(store, "nvidia-h200", commit, &r, &found));
    assert_int_equal(found, expected);
}

/* What killed a worker is known again, by its machine code, until it went well. */
static void deadly_points_are_known(void **state) {
    (void)state;
    int64_t run;
    struct store *store = fresh("deadly.db", DEVICE_CUDA, &run);
    struct record r = record_of("kernel", "block=128", 15), other = r;
    add(store, run, 0, r);
    deadly(store, "abc1", r, false);
    r.status = STATUS_CRASH;
    add(store, run, 0, r);
    deadly(store, "abc1", r, true);
    deadly(store, "another", r, true); /* the code is the same */
    strcpy(other.build.code_hash, "new"), deadly(store, "abc1", other, false);
    other = r, other.point.value[0] = 256, deadly(store, "abc1", other, false);
    other = r, other.problem.size[0]++, deadly(store, "abc1", other, false);
    r.status = STATUS_INCORRECT; /* wrong, and it killed nobody */
    add(store, run, 0, r);
    deadly(store, "abc1", r, false);
    r.status = STATUS_TIMEOUT;
    add(store, run, 0, r);
    deadly(store, "abc1", r, true);
    /* without a hash of the code, another commit may be other code */
    r.build.code_hash[0] = 0;
    add(store, run, 0, r);
    deadly(store, "another", r, false);
    store_close(store);
}

/* --- files that are not ours ------------------------------------------------------------------ */

static void newer_versions_are_refused(void **state) {
    (void)state;
    int64_t run;
    store_close(fresh("newer.db", DEVICE_CUDA, &run));
    execute(path_of("newer.db"), "PRAGMA user_version = 99");
    refused_and_unchanged(path_of("newer.db"), "newer");
    assert_non_null(strstr(fail_message(), "--db"));
    assert_non_null(strstr(fail_message(), "99"));
    about(path_of("newer.db"), "PRAGMA user_version", 99);
    /* one that is not in WAL mode stays so */
    execute(path_of("newer2.db"), "CREATE TABLE t (x); PRAGMA user_version = 99");
    refused_and_unchanged(path_of("newer2.db"), "newer");
    struct store *store = NULL;
    refused(store_open_readonly(path_of("newer.db"), &store), "newer");
    assert_null(store);
}

static void text_is_refused(void **state) {
    (void)state;
    char text[5000];
    memset(text, 'x', sizeof text);
    write_bytes(path_of("text.db"), text, sizeof text);
    refused_and_unchanged(path_of("text.db"), "not a database");
    assert_non_null(strstr(fail_message(), "--db"));
    write_bytes(path_of("short.db"), "hello\n", 6);
    refused_and_unchanged(path_of("short.db"), "not a database");
}

static void make_large(const char *name) {
    int64_t run;
    struct store *store = fresh(name, DEVICE_CUDA, &run);
    for (int i = 0; i < 100; i++) add(store, run, 0, record_of("kernel", "block=128", 10 + i));
    store_close(store);
}

static void truncated_is_refused(void **state) {
    (void)state;
    make_large("whole.db");
    struct bytes whole = read_bytes(path_of("whole.db"));
    const size_t lengths[] = {10, 99, 100, 4095, 4096, 8192, whole.count / 2, whole.count - 4096};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char name[32];
        snprintf(name, sizeof name, "cut%zu.db", lengths[i]);
        write_bytes(path_of(name), whole.data, lengths[i]);
        refused_and_unchanged(path_of(name), "--db");
    }
    free(whole.data);
}

static void corrupt_is_refused(void **state) {
    (void)state;
    make_large("sound.db");
    struct bytes sound = read_bytes(path_of("sound.db"));
    int pages = (int)(sound.count / 4096);
    for (int page = 0; page<pages; page += pages> 16 ? pages / 16 : 1) {
        char name[32];
        snprintf(name, sizeof name, "corrupt%d.db", page);
        char *copy = malloc(sound.count);
        memcpy(copy, sound.data, sound.count);
        /* beside the header, that would make it no database at all */
        memset(copy + (size_t)page * 4096 + (page ? 0 : 100), 0xa5, page ? 4096 : 3996);
        write_bytes(path_of(name), copy, sound.count);
        free(copy);
        refused_and_unchanged(path_of(name), "--db");
    }
    free(sound.data);
}

static void folders_that_cannot_be_written(void **state) {
    (void)state;
    struct store *store = NULL;
    char path[300];
    write_bytes(path_of("file"), "x", 1);
    refused(store_open(path_of("file/x.db"), &store), "file");
    refused(store_open("/proc/nowhere/x.db", &store), "folder");
    refused(store_open(path_of("no/such/x.db"), &store), "folder");
    refused(store_open(folder, &store), "unable to open");
    refused(store_open_readonly(path_of("none.db"), &store), "fastinfer bench");
    assert_int_equal(access(path_of("none.db"), F_OK), -1);
    assert_null(store);
    /* a folder, and a file, without the right to write: as somebody else where we are root */
    int64_t run;
    store_close(fresh("mine.db", DEVICE_CUDA, &run));
    assert_int_equal(chmod(path_of("mine.db"), 0444), 0);
    assert_int_equal(chmod(folder, 0555), 0);
    bool root = geteuid() == 0;
    if (root) assert_int_equal(seteuid(65534), 0);
    snprintf(path, sizeof path, "%s", path_of("new.db"));
    enum status none = store_open(path, &store);
    assert_null(store);
    assert_non_null(strstr(fail_message(), path));
    enum status readonly = store_open(path_of("mine.db"), &store);
    if (root) assert_int_equal(seteuid(0), 0);
    assert_int_equal(chmod(folder, 0755), 0);
    assert_int_equal(none, STATUS_STORE);
    assert_int_equal(readonly, STATUS_STORE);
    assert_null(store);
    assert_int_equal(access(path, F_OK), -1);
}

static void a_folder_is_made(void **state) {
    (void)state;
    struct store *store;
    good(store_open(path_of("made/x.db"), &store));
    store_close(store);
    assert_int_equal(access(path_of("made/x.db"), R_OK), 0);
}

/* --- migration ----------------------------------------------------------------------------------
 */

static void an_empty_file_is_migrated(void **state) {
    (void)state;
    struct store *store;
    write_bytes(path_of("empty.db"), "", 0);
    good(store_open(path_of("empty.db"), &store));
    store_close(store);
    about(path_of("empty.db"), "PRAGMA user_version", STORE_VERSION);
    says(path_of("empty.db"), "SELECT COUNT(*) FROM results", "0");
    /* and once more: nothing to do */
    good(store_open(path_of("empty.db"), &store));
    store_close(store);
    good(store_open_readonly(path_of("empty.db"), &store));
    store_close(store);
}

/* A file of version 1 with a measurement in it: everything is still there, and the new columns. */
static void an_old_file_is_migrated(void **state) {
    (void)state;
    struct store *store;
    int64_t run;
    const char *path = path_of("old.db");
    execute(path, source_find("harness/schema.sql")->text);
    execute(
        path,
        "INSERT INTO device VALUES (1, 'cuda', 'nvidia-h200', 'NVIDIA H200', 90, '{}');"
        "INSERT INTO run (id, device_id, started, driver, compiler, baseline, commit_id, dirty, "
        "host, command, seed) VALUES (1, 1, '', '', '', '', 'abc', 0, '', '', 1);"
        "INSERT INTO problem VALUES (1, 'rmsnorm', 'fp16', 'rows=1,hidden=2048', 1, 2, 2, 1);"
        "INSERT INTO point VALUES (1, 'rmsnorm', 'block=128');"
        "INSERT INTO measurement (run_id, problem_id, residency, launch, subject, point_id, "
        "status, reason, worst_error, launches, sample_count, samples, median_ns, created) "
        "VALUES (1, 1, 'cold', 'stream', 'kernel', 1, 'ok', '', 0, 1, 1, '[7]', 7, '');"
        "PRAGMA user_version = 1");
    good(store_open(path, &store));
    struct environment e = environment_of(DEVICE_CUDA);
    good(store_begin_run(store, &e, &run));
    add(store, run, 0, record_of("kernel", "block=128", 10));
    store_close(store);
    about(path, "PRAGMA user_version", STORE_VERSION);
    says(path, "SELECT median_us || ' ' || status FROM results WHERE run_id = 1", "0.007 ok");
    says(path, "SELECT group_concat(retaken) FROM measurement", "0,0");
    says(path, "SELECT COUNT(*) FROM traffic", "0");
    says(path, "PRAGMA integrity_check", "ok");
}

static void a_failing_migration_leaves_the_version(void **state) {
    (void)state;
    struct store *store = NULL;
    const char *path = path_of("conflict.db");
    execute(path, "CREATE TABLE point (mine); INSERT INTO point VALUES (42)");
    refused(store_open(path, &store), "point");
    assert_null(store);
    about(path, "PRAGMA user_version", 0);
    says(path, "SELECT group_concat(name) FROM sqlite_master", "point");
    says(path, "SELECT mine FROM point", "42");
    says(path, "PRAGMA integrity_check", "ok");
}

/* --- several processes ------------------------------------------------------------------------ */

/* In a child: opens the database and adds `count` records (-1: for ever), a byte down `fd` each. */
static void write_records(const char *path, int count, int fd) {
    struct store *store;
    int64_t run;
    struct environment e = environment_of(DEVICE_CUDA);
    struct record r = record_of("kernel", "block=128", 10);
    if (store_open(path, &store) || store_begin_run(store, &e, &run)) goto failed;
    for (int i = 0; count < 0 || i < count; i++) {
        r.problem.size[0] = 1 + i % 50;
        if (store_record(store, run, cold, 0, &r)) goto failed;
        if (fd >= 0 && write(fd, "+", 1) != 1) goto failed;
    }
    store_close(store);
    _exit(0);
failed:
    fprintf(stderr, "%s\n", fail_message());
    _exit(1);
}

static void ended_well(pid_t child) {
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
}

struct counts {
    long torn, measured;
};
static enum status take_counts(void *context, int columns, const char *const *names,
                               const char *const *values) {
    struct counts *counts = context;
    (void)columns, (void)names;
    counts->torn = atol(values[0]), counts->measured = atol(values[1]);
    return STATUS_OK;
}

/* A record is a build and a measurement: whoever looks must see as many of one as of the other. */
static void a_reader_sees_whole_records(void **state) {
    (void)state;
    const char *path = path_of("reader.db");
    struct store *store, *reader;
    long seen = 0, changes = 0, looks = 0;
    good(store_open(path, &store));
    store_close(store);
    pid_t child = fork();
    if (!child) write_records(path, 300, -1);
    good(store_open_readonly(path, &reader));
    for (; seen < 300 && looks < 1000000; looks++) {
        struct counts counts;
        good(
            store_query(reader,
                        "SELECT (SELECT COUNT(*) FROM build) - (SELECT COUNT(*) FROM measurement), "
                        "(SELECT COUNT(*) FROM measurement)",
                        NULL, 0, &counts, take_counts));
        assert_int_equal(counts.torn, 0);
        assert_true(counts.measured >= seen);
        changes += counts.measured > seen;
        seen = counts.measured;
    }
    store_close(reader);
    ended_well(child);
    assert_int_equal(seen, 300);
    assert_true(changes > 3); /* it did look while the other wrote */
}

static void two_writers_take_turns(void **state) {
    (void)state;
    const char *path = path_of("turns.db");
    pid_t child[2];
    for (int i = 0; i < 2; i++) {
        child[i] = fork();
        if (!child[i]) write_records(path, 100, -1);
    }
    ended_well(child[0]), ended_well(child[1]);
    says(path, "SELECT COUNT(*) FROM measurement", "200");
    says(path, "SELECT COUNT(*) FROM run", "2");
    says(path, "SELECT COUNT(*) FROM device", "1");
    says(path, "PRAGMA integrity_check", "ok");
}

/* Four processes find no database and all make it. */
static void many_make_one_file(void **state) {
    (void)state;
    for (int round = 0; round < 10; round++) {
        char name[32], byte;
        int gate[2];
        pid_t child[4];
        snprintf(name, sizeof name, "many%d.db", round);
        assert_int_equal(pipe(gate), 0);
        for (int i = 0; i < 4; i++) {
            child[i] = fork();
            if (child[i]) continue;
            close(gate[1]);
            if (read(gate[0], &byte, 1) < 0) _exit(2); /* all start when the pipe is closed */
            write_records(path_of(name), 2, -1);
        }
        close(gate[0]), close(gate[1]);
        for (int i = 0; i < 4; i++) ended_well(child[i]);
        says(path_of(name), "SELECT COUNT(*) FROM measurement", "8");
    }
}

static void pause_ms(double ms) {
    struct timespec t = {0, (long)(ms * 1e6)};
    nanosleep(&t, NULL);
}

static void killed_writers_lose_nothing(void **state) {
    (void)state;
    const char *path = path_of("killed.db");
    long reported = 0;
    unsigned seed = 42;
    for (int i = 0; i < 200; i++) {
        int fd[2], how;
        char bytes[4096];
        assert_int_equal(pipe(fd), 0);
        pid_t child = fork();
        if (!child) write_records(path, -1, fd[1]);
        close(fd[1]);
        /* the first byte: it is at work; then any instant of several records */
        ssize_t n = read(fd[0], bytes, 1);
        assert_int_equal(n, 1);
        pause_ms((double)(rand_r(&seed) % 30000) / 1000);
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFSIGNALED(how));
        for (; n > 0; n = read(fd[0], bytes, sizeof bytes)) reported += n;
        close(fd[0]);
        says(path, "PRAGMA integrity_check", "ok");
        long stored = atol(ask(path, "SELECT COUNT(*) FROM measurement"));
        assert_true(stored >= reported && stored <= reported + i + 1);
        says(path, "SELECT (SELECT COUNT(*) FROM build) - (SELECT COUNT(*) FROM measurement)", "0");
    }
    assert_true(reported > 400);
}

/* --- no space -----------------------------------------------------------------------------------
 */

/* Adds records until one fails, and looks at what is left. */
static void fill_up(const char *path, void (*make_room)(void)) {
    struct store *store;
    int64_t run;
    struct environment e = environment_of(DEVICE_CUDA);
    struct record r = record_of("kernel", "block=128", 10);
    enum status status = STATUS_OK;
    int stored = 0;
    char count[24];
    memset(r.build.log, 'x', sizeof r.build.log - 1);
    good(store_open(path, &store));
    good(store_begin_run(store, &e, &run));
    while (!status && stored < 5000)
        if (!(status = store_record(store, run, cold, 0, &r))) stored++;
    assert_true(stored > 5 && stored < 5000);
    refused(status, "full");
    assert_non_null(strstr(fail_message(), "free some space"));
    assert_non_null(strstr(fail_message(), path));
    make_room();
    good(store_record(store, run, cold, 0, &r)); /* and it goes on */
    store_close(store);
    snprintf(count, sizeof count, "%d", stored + 1);
    says(path, "SELECT COUNT(*) FROM measurement", count);
    says(path, "PRAGMA integrity_check", "ok");
}

static char ballast[200];
static void drop_ballast(void) { unlink(ballast); }

static void full_file_system(void **state) {
    (void)state;
    char mounted[100], path[200], block[65536] = {1};
    snprintf(mounted, sizeof mounted, "%s", path_of("small"));
    mkdir(mounted, 0755);
    if (mount("tmpfs", mounted, "tmpfs", 0, "size=1m")) {
        print_message("skipped: no small tmpfs can be mounted here: %s\n", strerror(errno));
        skip();
    }
    snprintf(ballast, sizeof ballast, "%s/ballast", mounted);
    snprintf(path, sizeof path, "%s/x.db", mounted);
    FILE *file = fopen(ballast, "w");
    for (int i = 0; i < 4; i++) fwrite(block, 1, sizeof block, file);
    fclose(file);
    fill_up(path, drop_ballast);
    assert_int_equal(umount(mounted), 0);
}

/* The same everywhere: SQLite's own write call is told that there is no space. */
static long room_bytes;
static ssize_t limited_pwrite(int fd, const void *data, size_t bytes, off_t at) {
    if ((room_bytes -= (long)bytes) >= 0) return pwrite(fd, data, bytes, at);
    errno = ENOSPC;
    return -1;
}
static void unlimited(void) { room_bytes = 1L << 40; }

static void writes_without_space(void **state) {
    (void)state;
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    room_bytes = 600000;
    assert_int_equal(vfs->xSetSystemCall(vfs, "pwrite64", (sqlite3_syscall_ptr)limited_pwrite) &
                         vfs->xSetSystemCall(vfs, "pwrite", (sqlite3_syscall_ptr)limited_pwrite),
                     SQLITE_OK);
    fill_up(path_of("full.db"), unlimited);
    vfs->xSetSystemCall(vfs, "pwrite64", NULL), vfs->xSetSystemCall(vfs, "pwrite", NULL);
}

/* ---------------------------------------------------------------------------------------------- */

static int set_up(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/fastinfer-store-XXXXXX");
    return mkdtemp(folder) && !chmod(folder, 0755) ? 0 : -1;
}

static int tear_down(void **state) {
    char command[100];
    (void)state;
    umount(path_of("small")); /* where its test failed half-way */
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fresh_has_version_tables_and_views),
        cmocka_unit_test(a_run_ends_and_has_ceilings),
        cmocka_unit_test(json_round_trip),
        cmocka_unit_test(json_round_trip_of_a_failure),
        cmocka_unit_test(json_of_something_else_is_refused),
        cmocka_unit_test(results_and_best),
        cmocka_unit_test(failures_are_shown_and_never_best),
        cmocka_unit_test(a_later_contest_replaces_the_earlier),
        cmocka_unit_test(cpu_and_cuda_never_share_a_row),
        cmocka_unit_test(has_what_was_scanned),
        cmocka_unit_test(deadly_points_are_known),
        cmocka_unit_test(newer_versions_are_refused),
        cmocka_unit_test(text_is_refused),
        cmocka_unit_test(truncated_is_refused),
        cmocka_unit_test(corrupt_is_refused),
        cmocka_unit_test(folders_that_cannot_be_written),
        cmocka_unit_test(a_folder_is_made),
        cmocka_unit_test(an_empty_file_is_migrated),
        cmocka_unit_test(an_old_file_is_migrated),
        cmocka_unit_test(a_failing_migration_leaves_the_version),
        cmocka_unit_test(a_reader_sees_whole_records),
        cmocka_unit_test(two_writers_take_turns),
        cmocka_unit_test(many_make_one_file),
        cmocka_unit_test(killed_writers_lose_nothing),
        cmocka_unit_test(full_file_system),
        cmocka_unit_test(writes_without_space),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
