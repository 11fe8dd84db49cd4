/* test_stats.c - medians and their intervals against tables, worked samples and many draws. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "harness/stats.h"

/* --- ranks ---------------------------------------------------------------------------------- */

/* Conover, Practical Nonparametric Statistics: two-sided 95% intervals of the median, ranks from
 * 1. From 6 on; the upper rank is n + 1 - lower. */
static const int lower_rank[] = {
    [6] = 1,  [7] = 1,  [8] = 1,  [9] = 2,  [10] = 2, [11] = 2, [12] = 3, [13] = 3, [14] = 3,
    [15] = 4, [16] = 4, [17] = 5, [18] = 5, [19] = 5, [20] = 6, [21] = 6, [22] = 6, [23] = 7,
    [24] = 7, [25] = 8, [26] = 8, [27] = 8, [28] = 9, [29] = 9, [30] = 10};

static void ranks_match_the_table(void **state) {
    (void)state;
    for (int n = 6; n <= 30; n++) {
        int low, high;
        stats_median_ranks(n, &low, &high);
        assert_int_equal(low + 1, lower_rank[n]);
        assert_int_equal(high + 1, n + 1 - lower_rank[n]);
    }
}

static void few_samples_give_the_whole_range(void **state) {
    (void)state;
    for (int n = 1; n <= 5; n++) {
        int low = -1, high = -1;
        stats_median_ranks(n, &low, &high);
        assert_int_equal(low, 0);
        assert_int_equal(high, n - 1);
    }
}

/* P(the interval holds the median) = 1 - 2 P(Binomial(n, 1/2) <= low), by sums of logarithms. */
static double confidence(int n, int low) {
    double tail = 0;
    for (int k = 0; k <= low; k++)
        tail += exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * log(2));
    return 1 - 2 * tail;
}

static void ranks_are_the_narrowest_at_95_percent(void **state) {
    (void)state;
    for (int n = 6; n <= 128; n++) {
        int low, high;
        stats_median_ranks(n, &low, &high);
        assert_true(low < high);
        assert_true(confidence(n, low) >= 0.95 - 1e-9);
        assert_true(confidence(n, low + 1) < 0.95);
    }
}

/* --- worked samples ------------------------------------------------------------------------- */

static void close_to(double a, double b) { assert_true(fabs(a - b) <= 1e-9 * (1 + fabs(b))); }

static void one_to_five_samples(void **state) {
    (void)state;
    const double samples[] = {5, 1, 4, 2, 3};
    const double median[] = {5, 3, 4, 3, 3}, mad[] = {0, 2, 1, 1.5, 1};
    for (int n = 1; n <= 5; n++) {
        struct summary s = stats_summarise(samples, n, 0);
        assert_int_equal(s.count, n);
        close_to(s.median, median[n - 1]);
        close_to(s.mad, mad[n - 1]);
        close_to(s.low, s.min), close_to(s.high, s.max);
        close_to(s.max, 5), close_to(s.min, n == 1 ? 5 : 1);
    }
    assert_int_equal(stats_summarise(samples, 0, 1).count, 0);
}

static void even_and_odd(void **state) {
    (void)state;
    const double samples[] = {10, 30, 20, 60, 50, 40, 90, 80, 70, 100, 110};
    struct summary even = stats_summarise(samples, 10, 0), odd = stats_summarise(samples, 11, 0);
    close_to(even.median, 55), close_to(odd.median, 60);
    close_to(even.low, 20), close_to(even.high, 90); /* ranks 2 and 9 */
    close_to(odd.low, 20), close_to(odd.high, 100);  /* ranks 2 and 10 */
    close_to(even.mad, 25), close_to(odd.mad, 30);
    close_to(even.min, 10), close_to(even.max, 100);
    assert_true(samples[1] == 30); /* the caller's order is kept */
}

static void outliers_move_nothing_but_the_ends(void **state) {
    (void)state;
    double samples[21];
    for (int i = 0; i < 21; i++) samples[i] = 100 + (i * 8) % 21;
    struct summary before = stats_summarise(samples, 21, 0);
    for (int i = 0; i < 21; i++)
        if (samples[i] > 118) samples[i] *= 1e6; /* the two largest */
    struct summary after = stats_summarise(samples, 21, 0);
    close_to(before.median, 110), close_to(after.median, 110);
    close_to(after.mad, before.mad);
    close_to(after.low, before.low), close_to(after.high, before.high);
    close_to(after.max, 120e6);
}

static void quantised_samples_keep_a_width(void **state) {
    (void)state;
    double samples[128];
    for (int i = 0; i < 128; i++) samples[i] = 1024;
    for (int n = 1; n <= 128; n++) {
        struct summary s = stats_summarise(samples, n, 32);
        close_to(s.high - s.low, 32);
        close_to(s.median, 1024), close_to(s.mad, 0);
    }
    /* mostly one step of the clock, sometimes the next */
    for (int i = 0; i < 128; i += 9) samples[i] += 32;
    for (int n = 1; n <= 128; n++) {
        struct summary s = stats_summarise(samples, n, 32);
        assert_true(s.high - s.low >= 32 - 1e-9);
        assert_true(s.low <= s.median - 16 + 1e-9 && s.high >= s.median + 16 - 1e-9);
    }
}

static void settled(void **state) {
    (void)state;
    struct summary s = {.count = 20, .median = 1000, .low = 996, .high = 1004};
    assert_true(stats_settled(&s, 0.005, 0));  /* half of 8 is 0.4% */
    assert_false(stats_settled(&s, 0.003, 0)); /* 0.4% is more than 0.3% */
    assert_false(stats_settled(&s, 0.003, 4)); /* and wider than the clock's step */
    assert_true(stats_settled(&s, 0.0001, 8)); /* as narrow as the clock allows */
    double equal[12];
    for (int i = 0; i < 12; i++) equal[i] = 512;
    struct summary q = stats_summarise(equal, 12, 64);
    assert_true(stats_settled(&q, 0.005, 64));
    assert_false(stats_settled(&q, 0.005, 32));
}

/* --- many draws ----------------------------------------------------------------------------- */

static uint64_t seed;
static double uniform(void) { /* splitmix64, in (0, 1) */
    uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return ((double)((z ^ z >> 31) >> 11) + 0.5) * 0x1p-53;
}
static double normal(void) {
    return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}
static double lognormal(void) { return exp(normal()); }
static double bimodal(void) { return normal() + (uniform() < 0.5 ? -3 : 3); }

static void coverage(const char *name, double (*draw)(void), double median) {
    enum { DRAWS = 20000 };
    const int sizes[] = {6, 10, 15, 25, 40, 60};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        int n = sizes[k], held = 0, low, high;
        double samples[64];
        seed = 1234 + k;
        for (int i = 0; i < DRAWS; i++) {
            for (int j = 0; j < n; j++) samples[j] = draw();
            struct summary s = stats_summarise(samples, n, 0);
            held += s.low <= median && median <= s.high;
        }
        stats_median_ranks(n, &low, &high);
        double share = (double)held / DRAWS, expected = confidence(n, low);
        double error = sqrt(expected * (1 - expected) / DRAWS);
        if (share < 0.945 || fabs(share - expected) > 5 * error)
            fail_msg("%s, n=%d: %.4f of the intervals hold the median; %.4f was expected", name, n,
                     share, expected);
    }
}
static void coverage_normal(void **state) { (void)state, coverage("normal", normal, 0); }
static void coverage_lognormal(void **state) { (void)state, coverage("lognormal", lognormal, 1); }
static void coverage_bimodal(void **state) { (void)state, coverage("bimodal", bimodal, 0); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_match_the_table),
        cmocka_unit_test(few_samples_give_the_whole_range),
        cmocka_unit_test(ranks_are_the_narrowest_at_95_percent),
        cmocka_unit_test(one_to_five_samples),
        cmocka_unit_test(even_and_odd),
        cmocka_unit_test(outliers_move_nothing_but_the_ends),
        cmocka_unit_test(quantised_samples_keep_a_width),
        cmocka_unit_test(settled),
        cmocka_unit_test(coverage_normal),
        cmocka_unit_test(coverage_lognormal),
        cmocka_unit_test(coverage_bimodal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
