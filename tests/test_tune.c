/* test_tune.c - tables of points, what a search leaves in the database, and coming back to it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/config_file.h"
#include "harness/dispatch.h"
#include "harness/store.h"
#include "harness/tune_plan.h"
#include "kernels/registry.h"
#include "runtime/config.h"

#include <cmocka.h>

/* --- tables -------------------------------------------------------------------------------------
 */

static struct dispatch_times *times_of(int shapes, int points, const double *ns) {
    struct dispatch_times *t = calloc(1, sizeof *t);
    t->shapes = shapes, t->points = points, t->axes = 1;
    for (int s = 0; s < shapes; s++) {
        for (int p = 0; p < points; p++) t->ns[s][p] = ns[s * points + p];
        t->at[s][0] = s;
    }
    for (int p = 0; p < points; p++) t->owner[p] = -1;
    return t;
}

static void one_point_is_enough(void **state) {
    (void)state;
    /* each shape has its own best, but point 1 is within 2% everywhere */
    static const double ns[] = {100, 101, 150, 204, 200, 240, 330, 303, 300};
    struct dispatch_times *t = times_of(3, 3, ns);
    struct dispatch d;
    assert_int_equal(dispatch_choose(t, 0.02, 0.03, &d), STATUS_OK);
    assert_int_equal(d.distinct, 1);
    for (int s = 0; s < 3; s++) assert_int_equal(d.choice[s], 1);
    assert_true(fabs(d.regret[0] - 0.01) < 1e-12 && d.regret[1] == 0);
    assert_true(fabs(d.mean - 0.02 / 3) < 1e-12 && fabs(d.worst - 0.01) < 1e-12);
    /* with tighter limits it is not */
    assert_int_equal(dispatch_choose(t, 0.001, 0.001, &d), STATUS_OK);
    assert_true(d.distinct == 3 && d.mean == 0);
    assert_int_equal(d.choice[0], 0);
    free(t);
}

static void what_is_not_legal_is_not_chosen(void **state) {
    (void)state;
    static const double ns[] = {100, INFINITY, 100, 110, INFINITY, 90};
    struct dispatch_times *t = times_of(3, 2, ns);
    struct dispatch d;
    assert_int_equal(dispatch_choose(t, 0.01, 0.03, &d), STATUS_OK);
    assert_int_equal(d.distinct, 2);
    assert_true(d.choice[0] == 0 && d.choice[1] == 0 && d.choice[2] == 1);
    t->ns[2][1] = INFINITY;
    assert_int_equal(dispatch_choose(t, 0.01, 0.03, &d), STATUS_ARGUMENT);
    free(t);
}

/* Without a shape nobody knows of the point that only it found. */
static void a_shape_left_out(void **state) {
    (void)state;
    static const double ns[] = {100, 200, 125, 100, 100, 300};
    struct dispatch_times *t = times_of(3, 2, ns);
    struct dispatch d;
    t->owner[1] = 1;
    assert_int_equal(dispatch_choose(t, 0.01, 0.03, &d), STATUS_OK);
    assert_int_equal(d.distinct, 2);
    assert_true(fabs(d.left_out[1] - 0.25) < 1e-12);
    /* the ends: their neighbour is shape 1, whose point is slow there */
    assert_true(fabs(d.left_out[0] - 1.0) < 1e-12 && fabs(d.left_out[2] - 2.0) < 1e-12);
    assert_true(fabs(d.left_out_worst - 2.0) < 1e-12);
    t->shapes = 2;
    assert_int_equal(dispatch_choose(t, 0.01, 0.03, &d), STATUS_OK);
    assert_true(isnan(d.left_out_mean));
    free(t);
}

/* Shape 1 is fastest with a point that is bad on both sides of it, 2% slower with one that is not.
 */
static void a_shape_takes_what_holds_beside_it(void **state) {
    (void)state;
    static const double ns[] = {100, 140, 102, 100, 100, 130};
    struct dispatch_times *t = times_of(3, 2, ns);
    struct dispatch d;
    assert_int_equal(dispatch_choose(t, 0.01, 0.03, &d), STATUS_OK);
    assert_true(d.choice[0] == 0 && d.choice[1] == 0 && d.choice[2] == 0);
    assert_true(d.distinct == 1 && d.bridges == 2);
    assert_true(!d.bridge[0].needed && !d.bridge[1].needed);
    assert_true(fabs(d.regret[1] - 0.02) < 1e-12 && fabs(d.mean - 0.02 / 3) < 1e-12);
    /* not where the mean would be over its limit */
    assert_int_equal(dispatch_choose(t, 0.005, 0.03, &d), STATUS_OK);
    assert_true(d.choice[1] == 1 && d.worst == 0);
    /* nor where the shape itself would lose more than it may */
    t->ns[1][0] = 104;
    assert_int_equal(dispatch_choose(t, 0.02, 0.03, &d), STATUS_OK);
    assert_true(d.choice[1] == 1);
    free(t);
}

/* Between shapes that run different points runs what is least wrong on both, a third one's too;
 * without shape 2 it is what a lookup finds there. */
static void bridges(void **state) {
    (void)state;
    /* points: A for shapes 0 and 1, B for 3 and 4, C for shape 5 and not bad on 1 and 3 */
    static const double ns[] = {100, 300, 160, 100, 200, 104, 109, 130, 100,
                                160, 100, 105, 200, 100, 120, 300, 150, 100};
    struct dispatch_times *t = times_of(6, 3, ns);
    struct dispatch d;
    t->owner[0] = -1, t->owner[1] = -1, t->owner[2] = -1;
    assert_int_equal(dispatch_choose(t, 0.01, 0.03, &d), STATUS_OK);
    assert_true(d.choice[1] == 0 && d.choice[2] == 2 && d.choice[3] == 1 && d.choice[5] == 2);
    static const struct dispatch_bridge expected[] = {
        {0, 1, 0, false}, {1, 2, 2, true}, {2, 3, 2, true}, {3, 4, 1, false}, {4, 5, 2, true}};
    assert_int_equal(d.bridges, 5);
    for (int i = 0; i < 5; i++) {
        assert_true(d.bridge[i].a == expected[i].a && d.bridge[i].b == expected[i].b);
        assert_true(d.bridge[i].point == expected[i].point);
        assert_true(d.bridge[i].needed == expected[i].needed);
    }
    /* its neighbours' own points would cost it 9% and 30% */
    assert_true(d.left_out[2] == 0);
    /* where C does not run on shape 2, the nearest shape's point does: the lower, of equals */
    t->ns[2][2] = INFINITY;
    assert_int_equal(dispatch_choose(t, 0.01, 0.03, &d), STATUS_OK);
    assert_true(fabs(d.left_out[2] - 0) < 1e-12 && d.choice[2] == 0);
    free(t);
}

/* On a plane: corners of a square are beside two others, not beside the one across. */
static void shapes_on_two_axes(void **state) {
    (void)state;
    static const double ns[] = {100, 300, 300, 300, 300, 100, 300, 300,
                                300, 300, 100, 300, 300, 300, 300, 100};
    struct dispatch_times *t = times_of(4, 4, ns);
    struct dispatch d;
    t->axes = 2;
    for (int s = 0; s < 4; s++) t->at[s][0] = s & 1, t->at[s][1] = s >> 1;
    assert_int_equal(dispatch_choose(t, 0.01, 0.03, &d), STATUS_OK);
    assert_int_equal(d.bridges, 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(__builtin_popcount((unsigned)(d.bridge[i].a ^ d.bridge[i].b)), 1);
    free(t);
}

/* Against every subset: the greedy choice is not larger than the best by more than a point. */
static void few_points_are_chosen(void **state) {
    (void)state;
    srand(7);
    int larger = 0;
    for (int trial = 0; trial < 200; trial++) {
        double ns[8 * 6];
        for (int i = 0; i < 48; i++) ns[i] = 100 * (1 + 0.08 * (rand() % 1000) / 1000.0);
        struct dispatch_times *t = times_of(8, 6, ns);
        struct dispatch d;
        t->axes = 0; /* none is beside another */
        assert_int_equal(dispatch_choose(t, 0.01, 0.03, &d), STATUS_OK);
        assert_true(d.mean <= 0.01 && d.worst <= 0.03);
        int least = 6;
        for (int set = 1; set < 64; set++) {
            double mean = 0, worst = 0;
            for (int s = 0; s < 8; s++) {
                double best = INFINITY, in = INFINITY;
                for (int p = 0; p < 6; p++) {
                    best = fmin(best, t->ns[s][p]);
                    if (set >> p & 1) in = fmin(in, t->ns[s][p]);
                }
                mean += (in / best - 1) / 8, worst = fmax(worst, in / best - 1);
            }
            int size = __builtin_popcount((unsigned)set);
            if (mean <= 0.01 && worst <= 0.03 && size < least) least = size;
        }
        assert_true(d.distinct <= least + 1);
        larger += d.distinct > least;
        free(t);
    }
    assert_true(larger <= 40);
}

static char folder[] = "/tmp/fastinfer-tune-XXXXXX", database[64];

static struct bench_options options_of(void) {
    struct bench_options o = {.device = "cpu",
                              .seed = 3,
                              .counters = "off",
                              .quick = true,
                              .db = database,
                              .policies = 1,
                              .configs = folder,
                              .kernels = 1,
                              .problems = 2,
                              .problem = {"rows=2,hidden=256", "rows=4,hidden=256"}};
    o.policy[0] = (struct policy){RESIDENCY_WEIGHTS_COLD, LAUNCH_GRAPH};
    assert_int_equal(registry_find("rmsnorm", &o.kernel[0]), STATUS_OK);
    return o;
}

/* --- the work, counted without a device ---------------------------------------------------------
 */

/* What a decode step launches comes before longer shapes, of all kernels; each ceiling before the
 * first cell that it is the ceiling of. */
static void decode_problems_first(void **state) {
    (void)state;
    struct bench_options o = {.device = "cuda:0", .tune = true, .counters = "off", .policies = 1};
    struct device_info device;
    struct plan_of_bench plan;
    struct config *config;
    bool longer = false;
    int decode = 0;
    o.policy[0] = (struct policy){RESIDENCY_WEIGHTS_COLD, LAUNCH_GRAPH};
    device_describe_arch(90, &device);
    assert_int_equal(config_open(folder, &device, registry_find, &config), STATUS_OK);
    if (bench_plan(&o, &device, config, &plan)) fail_msg("%s", fail_message());
    for (int i = 0; i < plan.cells; i++) {
        const struct cell *c = &plan.cell[i];
        int rows = kernel_size(c->group->kernel, "rows");
        if (c->ceiling) assert_true(c->ceiling < c);
        if (c->is_ceiling) continue;
        longer |= rows >= 0 && c->problem.size[rows] > 16;
        decode += !longer;
        assert_false(longer && (rows < 0 || c->problem.size[rows] <= 16));
    }
    assert_true(longer && decode > 60);
    bench_plan_free(&plan);
    config_close(config);
}

static void work_is_counted(void **state) {
    (void)state;
    struct bench_options o = options_of();
    struct tune_options tune = {.strategy = &strategy_auto};
    struct tune_work work[8];
    struct device_info device;
    int rows;
    device_describe_arch(90, &device);
    o.quick = false;
    assert_int_equal(tune_plan_work(&o, &tune, &device, work, 8, &rows), STATUS_OK);
    assert_int_equal(rows, 3);
    assert_string_equal(work[0].kernel, "stream");
    assert_string_equal(work[1].kernel, "rmsnorm");
    assert_true(work[0].ceilings == 2 && work[1].problems == 2 && work[1].chains == 1);
    /* two searches of a tenth, and what won elsewhere on each */
    int tenth = work[1].largest / 10;
    assert_true(tenth > 24 && tenth < 64);
    assert_int_equal(work[1].evaluations, 2 * (tenth + 6));
    assert_int_equal(work[1].compilations, 2 * tenth);
    assert_int_equal(work[2].evaluations, work[0].evaluations + work[1].evaluations);
    tune.evaluations = 10;
    assert_int_equal(tune_plan_work(&o, &tune, &device, work, 8, &rows), STATUS_OK);
    assert_int_equal(work[1].evaluations, 2 * (10 + 6));
    tune.evaluations = 0, tune.exhaust = true;
    assert_int_equal(tune_plan_work(&o, &tune, &device, work, 8, &rows), STATUS_OK);
    assert_true(work[1].compilations >= work[1].largest && work[0].evaluations == 2 * 24);
}

/* --- a whole search, on the CPU device ----------------------------------------------------------
 */

static enum status first_text(void *context, int columns, const char *const *names,
                              const char *const *v) {
    (void)columns, (void)names;
    snprintf(context, 1024, "%s", v[0] ? v[0] : "NULL");
    return STATUS_OK;
}
static const char *ask(struct store *store, const char *sql) {
    static char text[1024];
    text[0] = 0;
    assert_int_equal(store_query(store, sql, NULL, 0, text, first_text), STATUS_OK);
    return text;
}

static void a_search_ends_in_a_table(void **state) {
    (void)state;
    struct bench_options o = options_of();
    struct tune_options tune = {.strategy = &strategy_auto, .evaluations = 12};
    struct tune_outcome first, again;
    struct store *store;
    assert_int_equal(store_open(database, &store), STATUS_OK);
    if (tune_run(&o, &tune, store, &first)) fail_msg("%s", fail_message());
    assert_int_equal(atoi(ask(store, "SELECT COUNT(*) FROM tuning WHERE state = 'done' AND "
                                     "stopped <> 'between'")),
                     first.bench.cells);
    assert_int_equal(atoi(ask(store, "SELECT COUNT(*) FROM tuned WHERE kernel = 'rmsnorm' AND "
                                     "stopped <> 'between'")),
                     2);
    /* what was told is what was paid for: evaluations, twins and failures included */
    assert_true(first.evaluations <= 12 * first.bench.cells && first.evaluations >= 24);
    /* the default takes part everywhere, and a winner that is not the default beat it */
    assert_string_equal(ask(store,
                            "SELECT COUNT(*) FROM tuned WHERE kernel = 'rmsnorm' AND stopped <> "
                            "'between' AND NOT (default_us > 0 AND margin >= 1)"),
                        "0");
    assert_string_equal(
        ask(store, "SELECT COUNT(*) FROM tuned WHERE margin <> 1 AND margin_low <= 1"), "0");
    assert_true(first.regret_worst <= 0.03 + 1e-9);
    /* every launched point was measured right on its own problem */
    assert_string_equal(
        ask(store,
            "SELECT COUNT(*) FROM tuned t WHERE kernel = 'rmsnorm' AND stopped <> 'between' AND "
            "NOT EXISTS (SELECT 1 FROM results r WHERE r.kernel = t.kernel AND r.problem = "
            "t.problem AND "
            "r.point = t.point AND r.status = 'ok')"),
        "0");
    /* resumed, nothing is measured again, and the same points win */
    char before[1024];
    snprintf(before, sizeof before, "%s",
             ask(store,
                 "SELECT group_concat(winner) FROM (SELECT winner FROM tuned ORDER BY kernel, "
                 "problem)"));
    o.resume = true;
    if (tune_run(&o, &tune, store, &again)) fail_msg("%s", fail_message());
    assert_int_equal(again.bench.points, 0);
    assert_int_equal(again.evaluations, 0);
    assert_string_equal(before, ask(store, "SELECT group_concat(winner) FROM (SELECT winner FROM "
                                           "tuned ORDER BY kernel, problem)"));
    store_close(store);
}

/* A shape between the standard ones is searched when those are decided, from what is fast on them,
 * and without a contest. */
static void shapes_between(void **state) {
    (void)state;
    struct bench_options o = options_of();
    struct tune_options tune = {.strategy = &strategy_auto, .evaluations = 6};
    struct tune_outcome out;
    struct store *store;
    o.quick = false, o.problems = 0;
    assert_int_equal(store_open(database, &store), STATUS_OK);
    if (tune_run(&o, &tune, store, &out)) fail_msg("%s", fail_message());
    assert_string_equal(ask(store, "SELECT group_concat(rows || ':' || evaluations || ':' || "
                                   "(default_us > 0)) FROM (SELECT * FROM tuned WHERE kernel = "
                                   "'rmsnorm' AND rows IN (16, 32, 64) AND stopped <> 'between' "
                                   "ORDER BY rows)"),
                        "16:6:1,64:6:1"); /* the one between has no time of the default's */
    assert_string_equal(ask(store, "SELECT evaluations || ' ' || (winner_us > 0) FROM tuned WHERE "
                                   "kernel = 'rmsnorm' AND rows = 32"),
                        "6 1");
    static const char of[] = "SELECT %s FROM measurement m JOIN problem p ON p.id = m.problem_id "
                             "WHERE p.kernel = 'rmsnorm' AND p.problem LIKE 'rows=%d,hidden=2048'";
    char sql[256];
    snprintf(sql, sizeof sql, of, "COUNT(contest_id)", 32);
    assert_string_equal(ask(store, sql), "0");
    snprintf(sql, sizeof sql, of, "MIN(m.id)", 32);
    int64_t first = atoll(ask(store, sql));
    for (int rows = 16; rows <= 64; rows += 48) {
        snprintf(sql, sizeof sql, of, "MAX(CASE WHEN contest_id THEN m.id END)", rows);
        assert_true(atoll(ask(store, sql)) < first);
    }
    store_close(store);
}

/* A bridge is an entry without a time; when it is needed no more, it leaves the file, too. */
static void bridges_in_the_file(void **state) {
    (void)state;
    struct bench_options o = options_of();
    const struct kernel *kernel = o.kernel[0];
    struct tuning row = {.state = "done", .stopped = "between", .left_out = NAN};
    struct problem problem;
    struct store *store;
    struct config *config;
    struct config_match match;
    struct point point;
    struct device_info device;
    char path[96];
    size_t entries, later;
    assert_int_equal(store_open(database, &store), STATUS_OK);
    int64_t run = atoll(ask(store, "SELECT MAX(id) FROM run"));
    snprintf(path, sizeof path, "%s/cpu.json", folder);
    assert_int_equal(problem_parse(kernel, "rows=57,hidden=256", &problem), STATUS_OK);
    device_describe_cpu(&device);
    assert_int_equal(space_default(kernel, &problem, &device, &point), STATUS_OK);
    row.has_launched = true, row.launched = point;
    assert_int_equal(store_tuning(store, run, kernel, &problem, o.policy[0], &row), STATUS_OK);
    assert_int_equal(config_file_write(store, "cpu", folder, &entries), STATUS_OK);
    assert_int_equal(config_read(path, &device, registry_find, &config), STATUS_OK);
    assert_int_equal(config_count(config), entries);
    problem.size[0] = 60;
    assert_true(config_find(config, kernel, &problem, o.policy[0], &device, &match));
    assert_int_equal(match.entry->problem.size[0], 57);
    config_close(config);
    row.has_launched = false;
    assert_int_equal(store_tuning(store, run, kernel, &problem, o.policy[0], &row), STATUS_OK);
    problem.size[0] = 57;
    assert_int_equal(store_tuning(store, run, kernel, &problem, o.policy[0], &row), STATUS_OK);
    assert_int_equal(config_file_write(store, "cpu", folder, &later), STATUS_OK);
    assert_int_equal(later, entries - 1);
    store_close(store);
}

/* Points that cannot be good are passed over with a record, and those that fail teach, not stop. */
static void whole_spaces(void **state) {
    (void)state;
    char path[96];
    const char *root = getenv("FASTINFER_ROOT");
    snprintf(path, sizeof path, "%s/tests/outside", root ? root : FASTINFER_ROOT);
    setenv("FASTINFER_KERNELS", path, 1);
    assert_int_equal(registry_add_folder(path), STATUS_OK);
    struct bench_options o = options_of();
    struct tune_options tune = {.strategy = &strategy_random, .exhaust = true};
    struct tune_outcome out;
    struct store *store;
    assert_int_equal(registry_find("scale2", &o.kernel[0]), STATUS_OK);
    o.problems = 1, o.problem[0] = "elements=640";
    assert_int_equal(store_open(database, &store), STATUS_OK);
    if (tune_run(&o, &tune, store, &out)) fail_msg("%s", fail_message());
    assert_string_equal(ask(store, "SELECT strategy || ' ' || stopped || ' ' || (evaluations = "
                                   "space) FROM tuned WHERE kernel = 'scale2'"),
                        "exhaustive exhausted 1");
    store_close(store);
    unsetenv("FASTINFER_KERNELS");
}

static int set_up(void **state) {
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(database, sizeof database, "%s/tune.db", folder);
    char program[512];
    const char *own = getenv("FASTINFER_PROGRAM");
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (own || n < 0) return 0;
    program[n] = 0; /* build/release/tests/test_tune: the program is beside the folder */
    *strrchr(program, '/') = 0, *strrchr(program, '/') = 0;
    strncat(program, "/fastinfer", sizeof program - strlen(program) - 1);
    return setenv("FASTINFER_PROGRAM", program, 1);
}

static int tear_down(void **state) {
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_point_is_enough),
        cmocka_unit_test(what_is_not_legal_is_not_chosen),
        cmocka_unit_test(a_shape_left_out),
        cmocka_unit_test(a_shape_takes_what_holds_beside_it),
        cmocka_unit_test(bridges),
        cmocka_unit_test(shapes_on_two_axes),
        cmocka_unit_test(few_points_are_chosen),
        cmocka_unit_test(decode_problems_first),
        cmocka_unit_test(work_is_counted),
        cmocka_unit_test(a_search_ends_in_a_table),
        cmocka_unit_test(shapes_between),
        cmocka_unit_test(bridges_in_the_file),
        cmocka_unit_test(whole_spaces),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
