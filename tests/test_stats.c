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

/* --- comparisons ----------------------------------------------------------------------------- */

static void sign_tails_match_the_binomial(void **state) {
    (void)state;
    /* worked by hand: 1 of 2^n outcomes, n + 1 of them, all */
    assert_true(fabs(stats_sign_tail(10, 10) - 1 / 1024.0) < 1e-12);
    assert_true(fabs(stats_sign_tail(10, 9) - 11 / 1024.0) < 1e-12);
    assert_true(fabs(stats_sign_tail(10, 0) - 1) < 1e-12);
    assert_true(fabs(stats_sign_tail(24, 24) - pow(0.5, 24)) < 1e-15);
    assert_true(stats_sign_tail(5, 6) == 0);
}

static void beyond_counts_rounds_past_the_margin(void **state) {
    (void)state;
    double r[] = {0.03, 0.02, 0.005, 0.04, -0.03};
    assert_true(fabs(stats_beyond(r, 5, 1.01, 1) - stats_sign_tail(5, 3)) < 1e-12);
    assert_true(fabs(stats_beyond(r, 5, 1.01, 0) - stats_sign_tail(5, 1)) < 1e-12);
}

static void holm_matches_a_worked_example(void **state) {
    (void)state;
    /* smallest times 4, next times 3, ...; never falling, never over 1 */
    double p[] = {0.01, 0.04, 0.03, 0.005}, want[] = {0.03, 0.06, 0.06, 0.02};
    double high[] = {0.9, 0.8};
    stats_holm(p, 4);
    for (int i = 0; i < 4; i++) assert_true(fabs(p[i] - want[i]) < 1e-12);
    stats_holm(high, 2);
    assert_true(high[0] == 1 && high[1] == 1);
    stats_holm(high, 0);
}

static void ratios_are_no_narrower_than_the_clock(void **state) {
    (void)state;
    double r[20];
    for (int i = 0; i < 20; i++) r[i] = log(1.03);
    struct ratio ratio = stats_ratio(r, 20, 0.01);
    assert_true(fabs(ratio.ratio - 1.03) < 1e-12);
    assert_true(ratio.high / ratio.low >= exp(0.0099));
    assert_true(ratio.low < 1.03 && ratio.high > 1.03);
}

static void correlation_and_drift_are_seen(void **state) {
    (void)state;
    double steady[60], drifting[60], alternating[60];
    unsigned seed = 7;
    for (int i = 0; i < 60; i++) {
        double noise = (double)(rand_r(&seed) % 1000) / 1000 - 0.5;
        steady[i] = 100 + noise, drifting[i] = 100 + 0.1 * i + noise;
        alternating[i] = 100 + (i % 2 ? 1 : -1);
    }
    assert_true(fabs(stats_autocorrelation(steady, 60)) < 0.3);
    assert_true(stats_autocorrelation(drifting, 60) > 0.8);
    assert_true(stats_autocorrelation(alternating, 60) < -0.9);
    assert_true(stats_autocorrelation(steady, 3) == 0);
    assert_true(stats_drift(steady, 60) == 0);
    assert_true(fabs(stats_drift(drifting, 60) - 0.04 / 1.03) < 0.005);
    for (int i = 0; i < 30; i++) { /* falling */
        double swap = drifting[i];
        drifting[i] = drifting[59 - i], drifting[59 - i] = swap;
    }
    assert_true(stats_drift(drifting, 60) < -0.03);
    assert_true(stats_drift(drifting, 12) == 0); /* too few to say */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sign_tails_match_the_binomial),
        cmocka_unit_test(beyond_counts_rounds_past_the_margin),
        cmocka_unit_test(holm_matches_a_worked_example),
        cmocka_unit_test(ratios_are_no_narrower_than_the_clock),
        cmocka_unit_test(correlation_and_drift_are_seen),
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
