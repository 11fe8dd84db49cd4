/* test_strategy.c - searches of spaces whose best point is known, their score, and T4 files. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "harness/replay.h"

#include <cmocka.h> /* last: its macro fail() hides the function */

static char folder[64];

static void good(enum status status) {
    if (status) fail_msg("%s: %s", status_text(status), fail_message());
}
static void says(enum status got, enum status expected, const char *words) {
    if (got != expected || !strstr(fail_message(), words))
        fail_msg("%s '%s', where %s with '%s' was expected", status_text(got), fail_message(),
                 status_text(expected), words);
}

/* --- a space with holes ----------------------------------------------------------------------- */

/* 6 x 5 x 1 x 4 x 3 points less those that do not exist; a corner fails. The best is at (4, 1, 0,
 * 2, 1). */
static const int sides[] = {6, 5, 1, 4, 3};
enum { DIMS = 5, CELLS = 6 * 5 * 4 * 3 };

static bool exists(const int *x) { return (x[0] + 2 * x[1] + x[3]) % 7 != 3; }
static double time_of(const int *x) {
    if (x[0] * x[1] > 10 || (x[3] == 3 && x[4] == 2)) return SEARCH_FAILED;
    return (1 + 0.1 * (x[0] - 4) * (x[0] - 4) + 0.2 * abs(x[1] - 1)) *
           (1 + 0.3 * abs(x[3] - 2) + 0.15 * (x[4] != 1)) * (1 + 0.01 * ((x[0] + x[1]) % 3));
}

static void make_holes(struct replay_space *out) {
    static int index[CELLS * DIMS];
    static double ms[CELLS];
    int x[DIMS] = {0}, points = 0;
    for (int cell = 0; cell < CELLS; cell++) {
        int rest = cell;
        for (int d = DIMS - 1; d >= 0; d--) x[d] = rest % sides[d], rest /= sides[d];
        if (!exists(x)) continue;
        ms[points] = time_of(x);
        memcpy(index + (size_t)points++ * DIMS, x, sizeof x);
    }
    good(replay_make("holes", DIMS, sides, points, index, ms, out));
}

/* Runs a search to its end and checks that each point comes once; the evaluations to the best. */
static int search_all(const struct replay_space *space, const struct strategy *strategy,
                      uint64_t seed, const double *parameters) {
    struct search *search;
    int n = space->search.points, point, asked = 0, to_best = 0;
    bool *seen = calloc((size_t)n + 1, sizeof *seen);
    good(search_open(&space->search, strategy, seed, parameters, &search));
    while ((point = search_ask(search)) >= 0) {
        if (point >= n || seen[point])
            fail_msg("%s asked for point %d twice or out of range", strategy->name, point);
        seen[point] = true, asked++;
        if (space->ms[point] == space->best) to_best = asked;
        search_tell(search, point, 1e6 * space->ms[point]);
    }
    assert_int_equal(asked, n);
    assert_int_equal(search_ask(search), SEARCH_NONE);
    assert_true(space->ms[search_best(search)] == space->best);
    search_close(search);
    free(seen);
    return to_best;
}

static void every_strategy_finds_the_best_and_repeats_nothing(void **state) {
    (void)state;
    struct replay_space space;
    make_holes(&space);
    assert_true(space.worked < space.search.points);
    for (int i = 0; i < strategy_count(); i++)
        for (uint64_t seed = 0; seed < 3; seed++) {
            int evaluations = search_all(&space, strategy_at(i), seed, NULL);
            assert_in_range(evaluations, 1, space.search.points);
        }
    replay_free(&space);
}

/* As in a space too large to be scored, and a search too long to be remembered. */
static void a_sampled_pool_does_the_same(void **state) {
    (void)state;
    struct replay_space space;
    double parameters[MAX_PARAMETERS];
    make_holes(&space);
    strategy_defaults(&strategy_auto, parameters);
    good(strategy_set(&strategy_auto, "pool=40", parameters));
    good(strategy_set(&strategy_auto, "memory=30", parameters));
    search_all(&space, &strategy_auto, 1, parameters);
    replay_free(&space);
}

/* One point, one dimension, no dimension that varies, equal times, almost nothing that works. */
static void awkward_spaces(void **state) {
    (void)state;
    static int line[50], plane[100];
    static double equal[50], rare[50];
    for (int i = 0; i < 50; i++) {
        line[i] = i, plane[2 * i] = i / 25, plane[2 * i + 1] = i % 25;
        equal[i] = 3, rare[i] = i == 37 ? 1e-6 : SEARCH_FAILED;
    }
    const int fifty[] = {50}, two[] = {2, 25}, one[] = {1};
    for (int i = 0; i < strategy_count(); i++) {
        struct replay_space space;
        good(replay_make("one", 1, one, 1, line, equal, &space));
        assert_int_equal(search_all(&space, strategy_at(i), 1, NULL), 1);
        replay_free(&space);
        good(replay_make("equal", 1, fifty, 50, line, equal, &space));
        search_all(&space, strategy_at(i), 1, NULL);
        replay_free(&space);
        good(replay_make("rare", 2, two, 50, plane, rare, &space));
        search_all(&space, strategy_at(i), 1, NULL);
        replay_free(&space);
    }
}

/* Nothing works: the search still goes through all of it. */
static void failures_do_not_stop_a_search(void **state) {
    (void)state;
    struct replay_space space;
    make_holes(&space);
    for (int i = 0; i < strategy_count(); i++) {
        struct search *search;
        int asked = 0, point;
        good(search_open(&space.search, strategy_at(i), 1, NULL, &search));
        for (; (point = search_ask(search)) >= 0; asked++)
            search_tell(search, point, SEARCH_FAILED);
        assert_int_equal(asked, space.search.points);
        assert_int_equal(search_best(search), SEARCH_NONE);
        search_close(search);
    }
    replay_free(&space);
}

static void several_points_may_be_out(void **state) {
    (void)state;
    enum { OUT = 7 };
    struct replay_space space;
    make_holes(&space);
    for (int i = 0; i < strategy_count(); i++) {
        struct search *search;
        int asked = 0, out[OUT], count;
        good(search_open(&space.search, strategy_at(i), 1, NULL, &search));
        do {
            for (count = 0; count < OUT && (out[count] = search_ask(search)) >= 0;) count++;
            asked += count;
            for (int k = count - 1; k >= 0; k--) /* the last one first, and twice */
                for (int twice = 0; twice < 2; twice++)
                    search_tell(search, out[k], 1e6 * space.ms[out[k]]);
        } while (count);
        assert_int_equal(asked, space.search.points);
        assert_int_equal(search->told, space.search.points);
        search_close(search);
    }
    replay_free(&space);
}

/* --- the same seed ---------------------------------------------------------------------------- */

static void questions(const struct replay_space *space, const struct strategy *strategy,
                      uint64_t seed, int count, int *out) {
    struct search *search;
    good(search_open(&space->search, strategy, seed, NULL, &search));
    for (int t = 0; t < count; t++) {
        out[t] = search_ask(search);
        search_tell(search, out[t], 1e6 * space->ms[out[t]]);
    }
    search_close(search);
}

static void a_seed_gives_the_same_search(void **state) {
    (void)state;
    enum { COUNT = 120 };
    int first[COUNT], again[COUNT], other[COUNT];
    struct replay_space space;
    make_holes(&space);
    for (int i = 0; i < strategy_count(); i++) {
        const struct strategy *strategy = strategy_at(i);
        questions(&space, strategy, 7, COUNT, first);
        questions(&space, strategy, 7, COUNT, again);
        questions(&space, strategy, 8, COUNT, other);
        assert_memory_equal(first, again, sizeof first);
        if (strategy != &strategy_exhaustive) assert_memory_not_equal(first, other, sizeof first);
    }
    replay_free(&space);
}

/* --- near a point ----------------------------------------------------------------------------- */

static void neighbours_and_repairs(void **state) {
    (void)state;
    struct replay_space space;
    struct search *search;
    make_holes(&space);
    const struct search_space *s = &space.search;
    good(search_open(s, &strategy_random, 1, NULL, &search));
    int *near = malloc((size_t)search_neighbour_limit(s) * sizeof *near);
    for (int p = 0; p < s->points; p++) {
        assert_int_equal(search_space_find(s, search_space_row(s, p)), p);
        for (int adjacent = 0; adjacent < 2; adjacent++) {
            int count = search_neighbours(search, p, adjacent, near), expected = 0;
            assert_in_range(count, 0, search_neighbour_limit(s));
            for (int q = 0; q < s->points; q++) {
                int differ = 0;
                for (int d = 0; d < DIMS; d++)
                    differ += search_space_row(s, p)[d] != search_space_row(s, q)[d];
                expected += differ == 1;
            }
            if (adjacent)
                assert_true(count <= expected && count <= 2 * DIMS);
            else
                assert_int_equal(count, expected);
        }
    }
    const int hole[] = {3, 0, 0, 0, 0}, outside[] = {9, 9, 9, 9, 9};
    assert_false(exists(hole));
    assert_int_equal(search_space_find(s, hole), SEARCH_NONE);
    assert_int_equal(search_space_find(s, outside), SEARCH_NONE);
    const int *x = search_space_row(s, search_repair(search, hole));
    int differ = 0;
    for (int d = 0; d < DIMS; d++) differ += x[d] != hole[d];
    assert_int_equal(differ, 1);
    search_close(search);
    free(near);
    replay_free(&space);
}

static void wrong_spaces_are_refused(void **state) {
    (void)state;
    const int counts[] = {2, 2}, twice[] = {0, 1, 0, 1}, far[] = {0, 1, 0, 2};
    struct search_space space = {2, counts, 2, twice, NULL, 0};
    says(search_space_index(&space), STATUS_ARGUMENT, "points 0 and 1 of the space are the same");
    space.index = far;
    says(search_space_index(&space), STATUS_ARGUMENT, "0 to 1 was expected");
    space.dims = MAX_DIMS + 1;
    says(search_space_index(&space), STATUS_ARGUMENT, "at most 64");
}

static void names_and_parameters(void **state) {
    (void)state;
    const struct strategy *strategy;
    double parameters[MAX_PARAMETERS];
    good(strategy_find("genetic", &strategy));
    assert_ptr_equal(strategy, &strategy_genetic);
    says(strategy_find("genetics", &strategy), STATUS_ARGUMENT, "annealing was expected");
    strategy_defaults(strategy, parameters);
    good(strategy_set(strategy, "population=30", parameters));
    assert_true(parameters[0] == 30);
    says(strategy_set(strategy, "population=0", parameters), STATUS_ARGUMENT, "from 2 to 1000");
    says(strategy_set(strategy, "population=9x", parameters), STATUS_ARGUMENT, "from 2 to 1000");
    says(strategy_set(strategy, "populus=9", parameters), STATUS_ARGUMENT, "parameter of genetic");
    says(strategy_set(strategy, "population", parameters), STATUS_ARGUMENT, "name=value");
    for (int i = 0; i < strategy_count(); i++) {
        const struct strategy *s = strategy_at(i);
        assert_in_range(s->parameter_count, 0, MAX_PARAMETERS);
        for (int k = 0; k < s->parameter_count; k++)
            assert_true(s->parameters[k].min <= s->parameters[k].fallback &&
                        s->parameters[k].fallback <= s->parameters[k].max);
    }
}

/* --- the score -------------------------------------------------------------------------------- */

/* Every choice of t of seven points, two of which fail. */
static void random_search_is_exact(void **state) {
    (void)state;
    enum { N = 7 };
    const int counts[] = {N}, index[N] = {0, 1, 2, 3, 4, 5, 6};
    const double ms[N] = {4, SEARCH_FAILED, 2, 9, SEARCH_FAILED, 2.5, 3};
    struct replay_space space;
    double random[N];
    good(replay_make("seven", 1, counts, N, index, ms, &space));
    assert_true(space.best == 2 && space.median == 3 && space.worst == 9);
    good(replay_random(&space, N, random));
    for (int t = 1; t <= N; t++) {
        double sum = 0;
        int choices = 0;
        for (unsigned set = 0; set < 1u << N; set++) {
            double best = 9;
            if (__builtin_popcount(set) != t) continue;
            for (int p = 0; p < N; p++)
                if (set >> p & 1 && ms[p] < best) best = ms[p];
            sum += best, choices++;
        }
        assert_true(fabs(random[t - 1] - sum / choices) < 1e-12);
        assert_true((random[t - 1] <= 2.05) == (t >= space.cutoff));
    }
    replay_free(&space);
}

static struct replay_result run(const struct replay_space *space, const struct strategy *strategy,
                                int repeats) {
    struct replay_options options = {.strategy = strategy, .repeats = repeats, .seed = 5};
    struct replay_result result;
    good(replay_run(space, &options, &result));
    return result;
}

static const struct replay_space *known;
static int ask_oracle(struct search *search) {
    int best = search->left[0];
    for (int i = 1; i < search->left_count; i++)
        if (known->ms[search->left[i]] < known->ms[best]) best = search->left[i];
    return best;
}
static const struct strategy oracle = {.name = "oracle", .ask = ask_oracle};

static void random_scores_nothing_and_an_oracle_one(void **state) {
    (void)state;
    struct replay_space space;
    make_holes(&space);
    known = &space;
    struct replay_result result = run(&space, &oracle, 3);
    assert_true(fabs(result.p - 1) < 1e-9);
    assert_true(result.within_1 > 1 - 1e-9 && result.within_5 > 1 - 1e-9);
    assert_int_equal(result.budget, space.cutoff);
    replay_result_free(&result);
    result = run(&space, &strategy_random, 1000);
    assert_true(result.p_error > 0 && result.p_error < 0.1);
    if (fabs(result.p) > 3 * result.p_error)
        fail_msg("random search scores %g +- %g", result.p, result.p_error);
    replay_result_free(&result);
    replay_free(&space);
}

static void auto_is_far_better_than_chance(void **state) {
    (void)state;
    struct replay_space space;
    make_holes(&space);
    struct replay_result result = run(&space, &strategy_auto, 20);
    if (result.p < 0.4) fail_msg("auto scores %g +- %g", result.p, result.p_error);
    replay_result_free(&result);
    replay_free(&space);
}

static void a_budget_ends_at_the_space(void **state) {
    (void)state;
    struct replay_space space;
    make_holes(&space);
    struct replay_options options = {.strategy = &strategy_genetic, .repeats = 2, .budget = 100000};
    struct replay_result result;
    good(replay_run(&space, &options, &result));
    assert_int_equal(result.budget, space.search.points);
    assert_true(result.within_1 > 1 - 1e-9 && isfinite(result.p));
    assert_true(result.mean[result.budget - 1] == space.best);
    replay_result_free(&result);
    replay_free(&space);
}

/* --- T4 files --------------------------------------------------------------------------------- */

static char path[128];
static const char *write_file(const char *name, const char *text) {
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    return path;
}

#define RECORD(configuration, rest) "{\"configuration\": {" configuration "}, " rest "}"
#define RIGHT(ms)                                                                                  \
    "\"invalidity\": \"correct\", \"measurements\": [{\"name\": \"energy\", \"value\": 1}, "       \
    "{\"name\": \"time\", \"value\": " ms "}]"
#define WRONG                                                                                      \
    "\"invalidity\": \"runtime\", \"measurements\": [{\"name\": \"time\", \"value\": \"x\"}]"
#define SPACE(records) "{\"metadata\": {}, \"results\": [" records "]}"

static const char whole[] = SPACE(
    RECORD("\"x\": 16, \"how\": \"b\", \"on\": true", RIGHT("2.5")) "," //
    RECORD("\"x\": 2, \"how\": \"a\", \"on\": false", WRONG) ","        //
    RECORD("\"on\": true, \"x\": 16, \"how\": \"a\"", RIGHT("2")) ","   //
    RECORD("\"x\": 4, \"how\": \"a\", \"on\": false", "\"invalidity\": \"correct\", \"times\": "
                                                      "{\"runtimes\": [1, 2, 6]}") "," //
    RECORD("\"x\": 16, \"how\": \"b\", \"on\": true", RIGHT("7")));

static void check_whole(const char *file) {
    struct replay_space space;
    good(replay_load(file, &space));
    assert_string_equal(space.name, "a-space");
    assert_int_equal(space.search.points, 4); /* the fifth was there before */
    assert_int_equal(space.worked, 3);
    assert_int_equal(space.search.dims, 3);
    int values = 0;
    for (int d = 0; d < 3; d++) values += space.search.counts[d];
    assert_int_equal(values, 3 + 2 + 2);
    assert_true(space.best == 2 && space.median == 2.5 && space.worst == 3);
    assert_true(space.ms[0] == 2.5 && isinf(space.ms[1]) && space.ms[3] == 3);
    for (int d = 0; d < 3; d++) /* 2 < 4 < 16 whatever the order in the file */
        if (space.search.counts[d] == 3) {
            assert_int_equal(search_space_row(&space.search, 0)[d], 2);
            assert_int_equal(search_space_row(&space.search, 1)[d], 0);
            assert_int_equal(search_space_row(&space.search, 3)[d], 1);
        }
    replay_free(&space);
}

static void files_plain_and_packed(void **state) {
    (void)state;
    check_whole(write_file("a-space.t4.json", whole));
    snprintf(path, sizeof path, "%s/a-space.t4.json.gz", folder);
    gzFile file = gzopen(path, "wb");
    assert_int_equal(gzwrite(file, whole, sizeof whole - 1), (int)sizeof whole - 1);
    gzclose(file);
    check_whole(path);
}

static void malformed_files(void **state) {
    (void)state;
    static const struct {
        const char *text, *words;
    } bad[] = {
        {"", "T4 format (JSON) was expected"},
        {"{\"results\": [", "T4 format (JSON) was expected"},
        {"[1, 2]", "a T4 object with 'results' was expected"},
        {"{\"results\": []}", "a T4 object with 'results' was expected"},
        {"{\"results\": {}}", "a T4 object with 'results' was expected"},
        {SPACE("3"), "result 0: a 'configuration' of 1 to 64 names was expected"},
        {SPACE(RECORD("", RIGHT("1"))), "result 0: a 'configuration' of 1 to 64 names"},
        {SPACE(RECORD("\"x\": 1", RIGHT("1")) "," RECORD("\"y\": 1", RIGHT("1"))),
         "result 1: a number or a word for 'x' was expected"},
        {SPACE(RECORD("\"x\": 1", RIGHT("1")) "," RECORD("\"x\": 1, \"y\": 1", RIGHT("1"))),
         "result 1: a 'configuration' with the names that the first one has was expected"},
        {SPACE(RECORD("\"x\": [1]", RIGHT("1"))), "a number or a word for 'x' was expected"},
        {SPACE(RECORD("\"x\": 1", "\"invalidity\": 0")), "a word for 'invalidity' was expected"},
        {SPACE(RECORD("\"x\": 1", RIGHT("-1"))), "a positive 'value'"},
        {SPACE(RECORD("\"x\": 1", RIGHT("null"))), "a positive 'value'"},
        {SPACE(RECORD("\"x\": 1", "\"invalidity\": \"correct\"")),
         "a measurement 'time' or 'times' with 'runtimes' was expected"},
        {SPACE(RECORD("\"x\": 1", "\"invalidity\": \"correct\", \"times\": {\"runtimes\": [0]}")),
         "positive numbers for 'runtimes' was expected"},
        {SPACE(RECORD("\"x\": 1", WRONG)), "some configuration is correct"},
    };
    struct replay_space space;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *file = write_file("bad.t4.json", bad[i].text);
        says(replay_load(file, &space), STATUS_FORMAT, bad[i].words);
        says(STATUS_FORMAT, STATUS_FORMAT, file);
    }
    says(replay_load("/nowhere/at-all.t4.json", &space), STATUS_SYSTEM, "/nowhere/at-all.t4.json");
    says(replay_load(folder, &space), STATUS_SYSTEM, folder);
}

/* Cut at any length, a file is refused by name. */
static void truncated_files(void **state) {
    (void)state;
    char packed[4096], part[4096];
    struct replay_space space;
    for (size_t length = 0; length + 1 < sizeof whole - 1; length += 7) {
        memcpy(part, whole, length), part[length] = 0;
        says(replay_load(write_file("cut.t4.json", part), &space), STATUS_FORMAT, "cut.t4.json");
    }
    snprintf(path, sizeof path, "%s/whole.gz", folder);
    gzFile file = gzopen(path, "wb");
    gzwrite(file, whole, sizeof whole - 1);
    gzclose(file);
    FILE *in = fopen(path, "rb");
    size_t size = fread(packed, 1, sizeof packed, in);
    fclose(in);
    snprintf(path, sizeof path, "%s/cut.t4.json.gz", folder);
    for (size_t length = 1; length < size; length++) {
        FILE *out = fopen(path, "wb");
        fwrite(packed, 1, length, out);
        fclose(out);
        says(replay_load(path, &space), STATUS_FORMAT, "cut.t4.json.gz");
    }
}

static int set_up(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/fastinfer-test-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}
static int tear_down(void **state) {
    (void)state;
    static const char *const names[] = {"a-space.t4.json", "a-space.t4.json.gz", "bad.t4.json",
                                        "cut.t4.json",     "cut.t4.json.gz",     "whole.gz"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_strategy_finds_the_best_and_repeats_nothing),
        cmocka_unit_test(a_sampled_pool_does_the_same),
        cmocka_unit_test(awkward_spaces),
        cmocka_unit_test(failures_do_not_stop_a_search),
        cmocka_unit_test(several_points_may_be_out),
        cmocka_unit_test(a_seed_gives_the_same_search),
        cmocka_unit_test(neighbours_and_repairs),
        cmocka_unit_test(wrong_spaces_are_refused),
        cmocka_unit_test(names_and_parameters),
        cmocka_unit_test(random_search_is_exact),
        cmocka_unit_test(random_scores_nothing_and_an_oracle_one),
        cmocka_unit_test(auto_is_far_better_than_chance),
        cmocka_unit_test(a_budget_ends_at_the_space),
        cmocka_unit_test(files_plain_and_packed),
        cmocka_unit_test(malformed_files),
        cmocka_unit_test(truncated_files),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
