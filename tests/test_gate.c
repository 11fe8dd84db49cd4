/* test_gate.c - the gate's decisions over times with known truth, its refusals, its reports. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "harness/gate_pool.h"
#include "harness/snapshot.h"
#include "harness/snapshot_codes.h"
#include "kernels/registry.h"

#include <cmocka.h>

/* --- times made up ------------------------------------------------------------------------------
 */

static uint64_t state;
static double uniform(void) {
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}
static double normal(void) {
    return sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform());
}

enum shape { NORMAL, OUTLIERS, TWO_MODES, QUANTISED, DRIFTING, SHAPES };
static const char *const shape_names[] = {"normal", "outliers", "two modes", "quantised",
                                          "drifting"};

struct machine {
    enum shape shape;
    double noise;  /* of a sample, relative */
    double slower; /* what b takes, of a */
    int calls;
    double clock; /* drifts */
    double bias;  /* of a whole comparison, either way: what more rounds do not average out */
    bool planted;
};

static double sample(struct machine *m, double ns) {
    switch (m->shape) {
    case OUTLIERS:
        return ns * exp(m->noise * normal()) * (uniform() < 0.05 ? 1.5 : 1);
    case TWO_MODES:
        return ns * exp(m->noise * normal()) * (uniform() < 0.3 ? 1.02 : 1);
    case QUANTISED: /* to 1% of the time, as a clock of 0.5 us would be on 50 us */
        return rint(ns * exp(m->noise * normal()) / (0.01 * 5000)) * (0.01 * 5000);
    case DRIFTING:
        m->clock += 0.0005;
        return ns * exp(m->noise * normal()) * (1 + m->clock);
    default:
        return ns * exp(m->noise * normal());
    }
}

static enum status simulated(void *context, const json_t *a, const json_t *b, int rounds,
                             struct pairing *p) {
    struct machine *m = context;
    (void)a, (void)b;
    m->calls++, m->clock = 0;
    double slower = m->slower * exp(m->bias * (2 * uniform() - 1)) * (m->planted ? 1.03 : 1);
    *p = (struct pairing){.rounds = rounds, .a_ns = 5000, .b_ns = 5000 * m->slower};
    p->resolution = m->shape == QUANTISED ? 0.01 : 0.0001;
    for (int i = 0; i < rounds; i++) {
        double ns[2][4]; /* a b b a a b b a */
        static const int order[8] = {0, 1, 1, 0, 0, 1, 1, 0};
        int n[2] = {0, 0};
        for (int k = 0; k < 8; k++)
            ns[order[k]][n[order[k]]++] = sample(m, order[k] ? 5000 * slower : 5000);
        p->r[i] = log(stats_summarise(ns[1], 4, 0).median / stats_summarise(ns[0], 4, 0).median);
    }
    return STATUS_OK;
}

static json_t *cell(const char *kernel, int rows) {
    char problem[32];
    snprintf(problem, sizeof problem, "rows=%d", rows);
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "kernel", kernel, "dtype", "fp16", "problem",
                     problem, "policy", "cold,stream", "signature", "x");
}

static json_t *code(const char *kernel, int registers, int spill, int blocks, int sectors) {
    return json_pack("{s:s, s:s, s:s, s:s, s:{s:s, s:i, s:i, s:i, s:i, s:i, s:i}, s:{s:i, s:i}}",
                     "kernel", kernel, "dtype", "fp16", "sizes", "hidden=2048", "signature", "x",
                     "sm_75", "point", "block=128", "registers", registers, "spill_bytes", spill,
                     "stack_bytes", spill, "shared_bytes", 64, "instructions", 400, "blocks_per_sm",
                     blocks, "cpu", "barriers", 128, "global_sectors", sectors);
}

static json_t *snapshot(json_t *codes, json_t *cells) {
    return json_pack("{s:i, s:s, s:b, s:s, s:o, s:o}", "format", 1, "commit", "abc", "dirty", 0,
                     "device", "test", "codes", codes, "cells", cells);
}

enum { CELLS = 100 };
static json_t *many_cells(void) {
    json_t *cells = json_array();
    for (int i = 0; i < CELLS; i++) json_array_append_new(cells, cell("rmsnorm", i + 1));
    return snapshot(json_pack("[o]", code("rmsnorm", 40, 0, 8, 384)), cells);
}

/* What calibrating finds on machines whose noise is known. */
static void calibration_knows_the_machine(void **unused) {
    (void)unused;
    static const struct {
        double noise, bias;
        bool fine; /* 3% are found, and the margin need not grow */
    } known[] = {{0.006, 0, true}, {0.03, 0, true}, {0.02, 0.005, true}, {0.01, 0.04, false}};
    for (int i = 0; i < 4; i++) {
        struct machine m = {.noise = known[i].noise, .slower = 1, .bias = known[i].bias};
        struct gate_timer timer = {&m, simulated, NULL, &m.planted};
        struct calibration c;
        json_t *json = many_cells();
        assert_int_equal(calibrate(&timer, json, 10, 0, 1, &c), STATUS_OK);
        json_decref(json);
        assert_int_equal(json_array_size(c.by_cell), CELLS);
        json_decref(c.by_cell);
        assert_int_equal(c.comparisons, 10 * CELLS);
        assert_int_equal(c.planted, CELLS);
        if (known[i].fine) {
            assert_true(c.margin < 1.0101 && c.same < 1.0201);
            assert_true(c.failed_bound <= 0.01 && c.unsure <= 0.05);
            assert_true(c.found >= 95);
        } else {
            assert_true(c.margin > 1.0149 && c.noise_95 > 0.015);
        }
    }
}

/* Identical code: of 40 whole runs of 100 comparisons none may fail, whatever the noise is like. */
static void identical_code_passes(void **unused) {
    (void)unused;
    struct gate_rules rules = gate_rules_for("", "");
    for (int shape = 0; shape < SHAPES; shape++) {
        int failed = 0, unsure = 0;
        for (int run = 0; run < 40; run++) {
            struct machine m = {.shape = (enum shape)shape, .noise = 0.006, .slower = 1};
            struct gate_timer timer = {&m, simulated, NULL, NULL};
            struct gate_report report;
            json_t *json = many_cells();
            assert_int_equal(gate_compare(json, json, &rules, &timer, &report), STATUS_OK);
            failed += report.count[GATE_SLOWER] > 0;
            unsure += report.count[GATE_UNSURE];
            gate_report_free(&report);
            json_decref(json);
        }
        if (failed || unsure > 40 * CELLS / 20)
            print_error("%s: %d of 40 runs failed, %d unsure\n", shape_names[shape], failed,
                        unsure);
        assert_int_equal(failed, 0);
        assert_true(unsure <= 40 * CELLS / 20);
    }
}

/* 3% more: found, in at least 95 of 100. */
static void slowdowns_are_found(void **unused) {
    (void)unused;
    struct gate_rules rules = gate_rules_for("", "");
    for (int shape = 0; shape < SHAPES; shape++) {
        if (shape == QUANTISED) continue; /* a clock of 1% cannot tell 3% from 2% for sure */
        struct machine m = {.shape = (enum shape)shape, .noise = 0.006, .slower = 1.03};
        struct gate_timer timer = {&m, simulated, NULL, NULL};
        struct gate_report report;
        json_t *json = many_cells();
        assert_int_equal(gate_compare(json, json, &rules, &timer, &report), STATUS_OK);
        if (report.count[GATE_SLOWER] < 95)
            print_error("%s: %d of 100 found\n", shape_names[shape], report.count[GATE_SLOWER]);
        assert_true(report.count[GATE_SLOWER] >= 95);
        assert_int_equal(gate_exit_code(&report, 3), 1);
        gate_report_free(&report);
        json_decref(json);
    }
}

static void speedups_pass(void **unused) {
    (void)unused;
    struct gate_rules rules = gate_rules_for("", "");
    struct machine m = {.noise = 0.004, .slower = 0.95};
    struct gate_timer timer = {&m, simulated, NULL, NULL};
    struct gate_report report;
    json_t *json = many_cells();
    assert_int_equal(gate_compare(json, json, &rules, &timer, &report), STATUS_OK);
    assert_true(report.count[GATE_FASTER] >= 95);
    assert_int_equal(gate_exit_code(&report, 3), report.count[GATE_UNSURE] ? 3 : 0);
    gate_report_free(&report);
    json_decref(json);
}

/* --- what is exact ------------------------------------------------------------------------------
 */

static enum gate_verdict exact(json_t *was, json_t *is, char *reason) {
    struct gate_report report;
    json_t *base = snapshot(json_pack("[o]", was), json_array()),
           *now = snapshot(json_pack("[o]", is), json_array());
    assert_int_equal(gate_compare(base, now, NULL, NULL, &report), STATUS_OK);
    enum gate_verdict verdict = report.row[0].verdict;
    if (reason) strcpy(reason, report.row[0].reason);
    gate_report_free(&report);
    json_decref(base), json_decref(now);
    return verdict;
}

static void exact_facts_decide(void **unused) {
    (void)unused;
    char reason[384];
    assert_int_equal(exact(code("k", 40, 0, 8, 384), code("k", 40, 0, 8, 384), NULL), GATE_SAME);
    assert_int_equal(exact(code("k", 40, 0, 8, 384), code("k", 40, 8, 8, 384), reason),
                     GATE_SLOWER);
    assert_non_null(strstr(reason, "spill_bytes 0 -> 8"));
    assert_int_equal(exact(code("k", 40, 0, 8, 384), code("k", 40, 0, 8, 385), reason),
                     GATE_SLOWER);
    assert_non_null(strstr(reason, "global_sectors 384 -> 385"));
    assert_int_equal(exact(code("k", 40, 0, 8, 384), code("k", 70, 0, 7, 384), NULL), GATE_SLOWER);
    /* more registers that cost no occupancy cost nothing */
    assert_int_equal(exact(code("k", 40, 0, 8, 384), code("k", 48, 0, 8, 384), NULL), GATE_SAME);
    assert_int_equal(exact(code("k", 40, 0, -1, 384), code("k", 48, 0, -1, 384), NULL),
                     GATE_UNSURE);
    assert_int_equal(exact(code("k", 40, 8, 8, 384), code("k", 40, 0, 8, 300), NULL), GATE_FASTER);
}

/* Counts of another problem say nothing about this tree; what else is in common is compared. */
static void counts_of_other_problems(void **unused) {
    (void)unused;
    char reason[384];
    struct gate_report report;
    json_t *was = code("k", 40, 0, 8, 384), *is = code("k", 40, 0, 8, 999);
    json_object_set_new(json_object_get(is, "cpu"), "problem", json_string("rows=4"));
    assert_int_equal(exact(json_deep_copy(was), json_deep_copy(is), reason), GATE_SAME);
    assert_non_null(strstr(reason, "not compared"));
    assert_int_equal(exact(json_deep_copy(was), code("k", 40, 8, 8, 384), NULL), GATE_SLOWER);
    json_object_set_new(json_object_get(was, "cpu"), "problem", json_string("rows=4"));
    assert_int_equal(exact(json_deep_copy(was), json_deep_copy(is), reason), GATE_SLOWER);
    json_object_set_new(json_object_get(was, "cpu"), "problem", json_string("rows=5"));
    json_object_del(was, "sm_75");
    json_t *base = snapshot(json_pack("[o]", was), json_array()),
           *now = snapshot(json_pack("[o]", is), json_array());
    assert_int_equal(gate_compare(base, now, NULL, NULL, &report), STATUS_ARGUMENT);
    assert_non_null(strstr(fail_message(), "counted on another problem"));
    gate_report_free(&report);
    json_decref(base), json_decref(now);
}

/* Every standard problem has a small relative that is quick to emulate and that some point runs. */
static void small_problems_are_small(void **unused) {
    (void)unused;
    struct device_info info;
    device_describe_cpu(&info);
    for (int k = 0; k < registry_count(); k++) {
        const struct kernel *kernel = registry_at(k);
        for (int i = 0; i < kernel->problem_count; i++) {
            struct problem problem = kernel->problems[i];
            problem.dtype = DTYPE_F16;
            struct problem small = snapshot_small(kernel, &problem);
            struct point point;
            char text[MAX_TEXT];
            problem_format(kernel, &small, text);
            if (space_default(kernel, &small, &info, &point)) fail_msg("%s %s", kernel->name, text);
            struct cost cost = kernel->cost(&small);
            if (cost.read_bytes + cost.write_bytes > 6e6 || cost.flops > 60e6 ||
                problem_check(kernel, &small, 32e6))
                fail_msg("%s %s: %g bytes, %g operations", kernel->name, text,
                         cost.read_bytes + cost.write_bytes, cost.flops);
        }
    }
}

static void refusals(void **unused) {
    (void)unused;
    struct gate_report report;
    struct gate_rules rules = gate_rules_for("", "");
    struct machine m = {.noise = 0.004, .slower = 1};
    struct gate_timer timer = {&m, simulated, NULL, NULL};
    json_t *one =
        snapshot(json_pack("[o]", code("a", 40, 0, 8, 1)), json_pack("[o]", cell("a", 1)));
    json_t *other =
        snapshot(json_pack("[o]", code("b", 40, 0, 8, 1)), json_pack("[o]", cell("b", 1)));
    json_t *both = snapshot(json_pack("[o, o]", code("a", 40, 0, 8, 1), code("b", 40, 0, 8, 1)),
                            json_pack("[o]", cell("a", 1)));
    json_t *empty = snapshot(json_array(), json_array());
    json_t *far = json_deep_copy(one);
    json_object_set_new(far, "device", json_string("elsewhere"));

    assert_int_equal(gate_compare(both, one, NULL, NULL, &report), STATUS_ARGUMENT); /* b is gone */
    assert_non_null(strstr(fail_message(), "not in this tree"));
    gate_report_free(&report);
    assert_int_equal(gate_compare(empty, one, NULL, NULL, &report), STATUS_ARGUMENT);
    gate_report_free(&report);
    assert_int_equal(gate_compare(one, other, NULL, NULL, &report), STATUS_ARGUMENT);
    gate_report_free(&report);
    assert_int_equal(gate_compare(far, one, &rules, &timer, &report), STATUS_ARGUMENT);
    assert_non_null(strstr(fail_message(), "elsewhere"));
    gate_report_free(&report);
    /* a new kernel is said, and not judged */
    assert_int_equal(gate_compare(one, both, NULL, NULL, &report), STATUS_OK);
    assert_int_equal(report.count[GATE_NEW], 1);
    assert_int_equal(gate_exit_code(&report, 3), 0);
    gate_report_free(&report);
    json_decref(one), json_decref(other), json_decref(both), json_decref(empty), json_decref(far);

    char path[] = "/tmp/fastinfer-gate-XXXXXX";
    int fd = mkstemp(path);
    json_t *read;
    assert_int_equal(write(fd, "{\"format\": 7", 12), 12);
    assert_int_equal(snapshot_read(path, &read), STATUS_FORMAT);
    assert_int_equal(write(fd, "}", 1), 1);
    close(fd);
    assert_int_equal(snapshot_read(path, &read), STATUS_FORMAT);
    assert_non_null(strstr(fail_message(), "format 7"));
    unlink(path);
}

static void reports(void **unused) {
    (void)unused;
    struct gate_report report;
    char path[] = "/tmp/fastinfer-gate-XXXXXX", text[4096] = "";
    close(mkstemp(path));
    json_t *base = snapshot(json_pack("[o]", code("a<&\">", 40, 0, 8, 1)), json_array());
    json_t *now = snapshot(json_pack("[o]", code("a<&\">", 40, 8, 8, 2)), json_array());
    assert_int_equal(gate_compare(base, now, NULL, NULL, &report), STATUS_OK);
    assert_int_equal(gate_write_junit(&report, path), STATUS_OK);
    FILE *file = fopen(path, "r");
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    assert_non_null(strstr(text, "failures=\"1\""));
    assert_non_null(strstr(text, "a&lt;&amp;&quot;&gt;"));
    assert_non_null(strstr(text, "global_sectors 1 -&gt; 2"));
    assert_int_equal(gate_write_markdown(&report, path, false), STATUS_OK);
    memset(text, 0, sizeof text);
    file = fopen(path, "r");
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    assert_non_null(strstr(text, "### Kernel gate: slower"));
    memset(text, 0, sizeof text);
    file = fmemopen(text, sizeof text - 1, "w");
    gate_annotate(&report, file);
    fclose(file);
    assert_int_equal(strncmp(text, "::error file=kernels/", 21), 0);
    assert_int_equal(gate_write_junit(&report, "/nonexistent/x.xml"), STATUS_SYSTEM);
    gate_report_free(&report);
    json_decref(base), json_decref(now);
    unlink(path);
}

/* --- a real pair --------------------------------------------------------------------------------
 */

/* Two binaries side by side, verified and timed, on the device that is everywhere. */
static void a_pair_runs(void **unused) {
    (void)unused;
    const struct kernel *kernel;
    struct problem problem;
    struct point point;
    struct build build;
    struct session session;
    static struct pairing p;
    assert_int_equal(registry_find("rmsnorm", &kernel), STATUS_OK);
    assert_int_equal(problem_parse(kernel, "rows=4,hidden=256", &problem), STATUS_OK);
    point = point_default(kernel);
    assert_int_equal(
        compile_points(kernel, &problem, &point, 1, (struct target){DEVICE_CPU, 0}, &build),
        STATUS_OK);
    assert_int_equal(session_open("cpu", 1, &session), STATUS_OK);
    struct plan plan = kernel->plan(&problem, &point, &session.device->info);
    const struct stage *s = &plan.stage[0];
    json_t *a = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:b, s:[{s:s, s:[i,i,i], s:[i,i,i], s:i, s:b}]}",
        "kernel", "rmsnorm", "dtype", "fp16", "problem", "rows=4,hidden=256", "policy",
        "hot,stream", "image", build.path, "suffix", build.suffix, "code_hash", "a", "scratch", 0,
        "zeroed", 0, "stages", "entry", s->entry, "grid", (int)s->grid[0], 1, 1, "block",
        (int)s->block[0], 1, 1, "shared", (int)s->shared_bytes, "cooperative", 0);
    json_t *b = json_deep_copy(a);
    assert_int_equal(pairing_run(&session, a, b, 6, false, &p), STATUS_OK);
    assert_int_equal(p.rounds, 6);
    for (int i = 0; i < 6; i++) assert_true(isfinite(p.r[i]));
    assert_true(p.a_ns > 0 && p.b_ns > 0);
    json_t *json = pairing_to_json(&p);
    static struct pairing again;
    pairing_from_json(json, &again);
    assert_int_equal(again.rounds, 6);
    assert_true(again.r[3] == p.r[3]);
    json_decref(json);

    /* one that launches too few blocks leaves rows unwritten, and is never timed */
    json_t *stage = json_array_get(json_object_get(b, "stages"), 0);
    json_object_set_new(stage, "grid", json_pack("[i,i,i]", 1, 1, 1));
    json_object_set_new(b, "code_hash", json_string("b"));
    assert_int_equal(pairing_run(&session, a, b, 6, false, &p), STATUS_INCORRECT);
    json_object_set_new(b, "image", json_string("/nonexistent.so"));
    assert_int_not_equal(pairing_run(&session, a, b, 6, false, &p), STATUS_OK);
    json_decref(a), json_decref(b);
    session_close(&session);
}

/* The emulation's counts: what the formula says, the same every time. */
static void counts_are_exact(void **unused) {
    (void)unused;
    struct snapshot_options options = {.device = "none"};
    json_t *first, *second;
    const struct kernel *kernel;
    assert_int_equal(registry_find("swiglu", &kernel), STATUS_OK);
    options.kernel[options.kernels++] = kernel;
    assert_int_equal(snapshot_take(&options, &first), STATUS_OK);
    assert_int_equal(snapshot_take(&options, &second), STATUS_OK);
    assert_true(json_equal(first, second));
    const json_t *cpu = json_object_get(json_array_get(json_object_get(first, "codes"), 0), "cpu");
    struct problem problem = kernel->problems[0];
    problem.size[kernel_size(kernel, "rows")] = 4, problem.dtype = DTYPE_F16;
    struct cost cost = kernel->cost(&problem);
    assert_true((double)json_integer_value(json_object_get(cpu, "global_bytes")) ==
                cost.read_bytes + cost.write_bytes);
    assert_true((double)json_integer_value(json_object_get(cpu, "global_sectors")) ==
                (cost.read_bytes + cost.write_bytes) / 32);
    json_decref(first), json_decref(second);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(identical_code_passes),
        cmocka_unit_test(calibration_knows_the_machine),
        cmocka_unit_test(slowdowns_are_found),
        cmocka_unit_test(speedups_pass),
        cmocka_unit_test(exact_facts_decide),
        cmocka_unit_test(counts_of_other_problems),
        cmocka_unit_test(small_problems_are_small),
        cmocka_unit_test(refusals),
        cmocka_unit_test(reports),
        cmocka_unit_test(a_pair_runs),
        cmocka_unit_test(counts_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
