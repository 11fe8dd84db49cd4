/* test_explain.c - effects over made-up spaces whose effects are known. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "harness/explain.h"
#include "runtime/random.h"

#include <cmocka.h>

enum { A, B, C, TUNABLES };
static const int of_a[] = {1, 2, 4}, of_b[] = {0, 1}, of_c[] = {8, 16, 32};
static const struct tunable tunables[TUNABLES] = {
    {"a", "", of_a, 3, 1}, {"b", "", of_b, 2, 0}, {"c", "", of_c, 3, 8}};
static const struct kernel kernel = {
    .name = "made_up", .tunables = tunables, .tunable_count = TUNABLES};

enum { MOST = 18 * 12 };
static struct explain_sample samples[MOST];
static struct explanation why;

/* ln(time) of the values with these indices. */
typedef double law(int a, int b, int c);

/* Every point `times` over, with noise of that spread. */
static int fill(law *ln_ns, int times, double noise) {
    uint64_t seed = 7;
    int n = 0;
    for (int k = 0; k < times; k++)
        for (int i = 0; i < 18; i++) {
            int a = i % 3, b = i / 3 % 2, c = i / 6;
            double uniform = (double)(random_next(&seed) >> 11) * 0x1p-53 - 0.5;
            samples[n++] =
                (struct explain_sample){.point = {{of_a[a], of_b[b], of_c[c]}},
                                        .status = STATUS_OK,
                                        .ns = exp(ln_ns(a, b, c) + noise * sqrt(12) * uniform)};
        }
    return n;
}

static const struct explain_effect *effect_of(int tunable) {
    for (int i = 0; i < why.effects; i++)
        if (why.effect[i].tunable == tunable) return &why.effect[i];
    fail_msg("no effect of tunable %d", tunable);
    return NULL;
}

static void explain(int n) {
    if (explain_space(&kernel, samples, n, &why)) fail_msg("%s", fail_message());
}

static void near(double got, double wanted, double slack) {
    if (!(fabs(got - wanted) <= slack)) fail_msg("%.9g, not %.9g", got, wanted);
}

/* --- effects ---------------------------------------------------------------------------------- */

static double additive(int a, int b, int c) {
    (void)c;
    return log(100) + 0.3 * a + 0.2 * b;
}

static void additive_effects_are_found(void **state) {
    (void)state;
    /* sums of squares over the 18 points: a takes 0, 0.3, 0.6 on 6 points each, b 0, 0.2 on 9 */
    double ss_a = 6 * 2 * 0.09, ss_b = 18 * 0.01, total = ss_a + ss_b;
    explain(fill(additive, 1, 0));
    assert_int_equal(why.points, 18);
    assert_int_equal(why.worked, 18);
    assert_int_equal(why.rank, 1 + 2 + 1 + 2);
    near(samples[why.best].ns, 100, 1e-9);
    assert_int_equal(why.effect[0].tunable, A);
    assert_int_equal(why.effect[1].tunable, B);
    assert_int_equal(why.effect[2].tunable, C);
    near(why.effect[0].alone, (ss_a - 2 * ss_b / (18 - 3)) / total, 1e-9);
    near(why.effect[1].alone, (ss_b - 1 * ss_a / (18 - 2)) / total, 1e-9);
    near(why.effect[2].alone, 0, 0);
    near(why.effect[0].beyond, ss_a / total, 1e-9);
    near(why.effect[1].beyond, ss_b / total, 1e-9);
    near(why.effect[2].beyond, 0, 1e-9);
    near(why.additive, 1, 1e-9);
    near(why.effect[0].worst, exp(0.6), 1e-9);
    near(why.effect[1].worst, exp(0.2), 1e-9);
    near(why.effect[2].worst, 1, 1e-9);
}

static void values_have_their_medians_and_bests(void **state) {
    (void)state;
    explain(fill(additive, 1, 0));
    const struct explain_effect *a = effect_of(A);
    assert_int_equal(a->levels, 3);
    for (int v = 0; v < 3; v++) {
        assert_int_equal(a->level[v].value, of_a[v]);
        assert_int_equal(a->level[v].points, 6);
        assert_int_equal(a->level[v].worked, 6);
        near(a->level[v].best_ns, 100 * exp(0.3 * v), 1e-9);
        near(a->level[v].median_ns, 100 * exp(0.3 * v) * (1 + exp(0.2)) / 2, 1e-9);
    }
}

static double crossed(int a, int b, int c) {
    (void)b;
    return 0.5 * a + ((a == 0) == (c == 0) ? 0 : 0.4);
}

static void the_pair_that_works_together_is_found(void **state) {
    (void)state;
    explain(fill(crossed, 1, 0));
    assert_int_equal(why.pair.a, A);
    assert_int_equal(why.pair.b, C);
    near(why.additive + why.pair.share, 1, 0.1);
    assert_true(why.pair.share > 0.05);
    explain(fill(additive, 1, 0));
    if (why.pair.a >= 0) near(why.pair.share, 0, 1e-9);
}

static double nothing(int a, int b, int c) {
    (void)a, (void)b, (void)c;
    return log(50);
}

static void chance_explains_nothing(void **state) {
    (void)state;
    explain(fill(nothing, 12, 0.1));
    assert_int_equal(why.worked, MOST);
    for (int i = 0; i < TUNABLES; i++) {
        assert_true(why.effect[i].alone < 0.03);
        assert_true(why.effect[i].beyond < 0.03);
    }
    assert_true(why.additive < 0.05);
    assert_true(isnan(why.pair.share) || why.pair.share < 0.05);
}

static void equal_times_have_no_shares(void **state) {
    (void)state;
    explain(fill(nothing, 1, 0));
    for (int i = 0; i < TUNABLES; i++) assert_true(isnan(why.effect[i].alone));
    assert_true(isnan(why.additive));
    assert_int_equal(why.pair.a, -1);
    near(effect_of(A)->worst, 1, 1e-12);
}

/* --- holes and failures ------------------------------------------------------------------------
 */

static double only_a(int a, int b, int c) {
    (void)b, (void)c;
    return 0.3 * a;
}

/* b = 1 was only tried where a is slow: alone it looks guilty, beyond a it explains nothing. */
static void a_hole_does_not_accuse_a_bystander(void **state) {
    (void)state;
    int n = fill(only_a, 12, 0.01), kept = 0;
    for (int i = 0; i < n; i++)
        if (samples[i].point.value[B] == 0 || samples[i].point.value[A] == 4)
            samples[kept++] = samples[i];
    assert_int_equal(kept, MOST / 2 + MOST / 6);
    explain(kept);
    assert_int_equal(why.effect[0].tunable, A);
    assert_true(effect_of(B)->alone > 0.2);
    assert_true(effect_of(B)->beyond < 0.01);
    assert_true(effect_of(A)->beyond > 0.3);
    near(effect_of(B)->worst, exp(0.6), 0.1);
}

static void failures_are_counted_and_left_out(void **state) {
    (void)state;
    int n = fill(additive, 1, 0);
    for (int i = 0; i < n; i++) {
        if (samples[i].point.value[A] == 1) samples[i].status = STATUS_INCORRECT, samples[i].ns = 1;
        if (samples[i].point.value[C] == 32) samples[i].status = STATUS_TIMEOUT, samples[i].ns = 0;
    }
    explain(n);
    assert_int_equal(why.points, 18);
    assert_int_equal(why.worked, 8);
    near(samples[why.best].ns, 100 * exp(0.3), 1e-9);
    const struct explain_level *first = &effect_of(A)->level[0];
    assert_int_equal(first->points, 6);
    assert_int_equal(first->worked, 0);
    assert_int_equal(first->failed[STATUS_INCORRECT], 4);
    assert_int_equal(first->failed[STATUS_TIMEOUT], 2);
    assert_int_equal(first->failed[STATUS_OK], 0);
    assert_true(isnan(first->best_ns) && isnan(first->median_ns));
    near(effect_of(A)->worst, exp(0.3), 1e-9);
    near(effect_of(A)->beyond + effect_of(B)->beyond, 1, 1e-9);
}

static void cells_are_pairs_of_values(void **state) {
    (void)state;
    struct explain_level cell;
    int n = fill(additive, 1, 0);
    samples[0].status = STATUS_CRASH; /* a = 1, b = 0, c = 8 */
    assert_int_equal(explain_cell(samples, n, A, 1, B, 0, &cell), STATUS_OK);
    assert_int_equal(cell.points, 3);
    assert_int_equal(cell.worked, 2);
    assert_int_equal(cell.failed[STATUS_CRASH], 1);
    near(cell.best_ns, 100, 1e-9);
    assert_int_equal(explain_cell(samples, n, A, 3, B, 0, &cell), STATUS_OK);
    assert_int_equal(cell.points, 0);
    assert_true(isnan(cell.best_ns));
}

static void few_points_say_little(void **state) {
    (void)state;
    fill(additive, 1, 0);
    explain(0);
    assert_int_equal(why.best, -1);
    assert_int_equal(why.effect[0].levels, 0);
    explain(1);
    assert_int_equal(why.best, 0);
    assert_true(isnan(why.effect[0].alone) && isnan(why.additive));
    explain(3); /* a differs, each value once */
    assert_int_equal(why.best, 0);
    assert_true(isnan(effect_of(A)->alone));
    near(effect_of(A)->worst, exp(0.6), 1e-9);
    for (int i = 0; i < 18; i++) samples[i].status = STATUS_COMPILE;
    explain(18);
    assert_int_equal(why.worked, 0);
    assert_int_equal(why.best, -1);
    assert_int_equal(effect_of(B)->level[1].failed[STATUS_COMPILE], 9);
    assert_true(isnan(effect_of(B)->worst));
}

static void too_many_values_are_refused(void **state) {
    (void)state;
    int values[EXPLAIN_LEVELS + 1];
    for (int i = 0; i <= EXPLAIN_LEVELS; i++) values[i] = i;
    const struct tunable many = {"many", "", values, EXPLAIN_LEVELS + 1, 0};
    const struct kernel wide = {.name = "wide", .tunables = &many, .tunable_count = 1};
    struct explain_sample one = {.status = STATUS_OK, .ns = 1};
    assert_int_equal(explain_space(&wide, &one, 1, &why), STATUS_ARGUMENT);
    assert_non_null(strstr(fail_message(), "many has 33 values"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(additive_effects_are_found),
        cmocka_unit_test(values_have_their_medians_and_bests),
        cmocka_unit_test(the_pair_that_works_together_is_found),
        cmocka_unit_test(chance_explains_nothing),
        cmocka_unit_test(equal_times_have_no_shares),
        cmocka_unit_test(a_hole_does_not_accuse_a_bystander),
        cmocka_unit_test(failures_are_counted_and_left_out),
        cmocka_unit_test(cells_are_pairs_of_values),
        cmocka_unit_test(few_points_say_little),
        cmocka_unit_test(too_many_values_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
