/* test_sample.c - choosing tokens: each step against what it must leave, draws against chi-square.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sample.h"

#include <cmocka.h> /* last: its macro fail() hides the function */

enum { DRAWS = 100000, MOST = 16 };
#define PLAIN                                                                                      \
    (struct sample_options) { .temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 42 }

static void good(enum status status) {
    if (status) fail_msg("%s: %s", status_text(status), fail_message());
}

static void says(enum status got, enum status expected, const char *words) {
    if (got != expected || !strstr(fail_message(), words))
        fail_msg("%s '%s', where %s with '%s' was expected", status_text(got), fail_message(),
                 status_text(expected), words);
}

static int32_t once(struct sample_options options, const float *logits, int count) {
    struct sampler *sampler;
    int32_t token;
    good(sampler_open(&options, count, &sampler));
    good(sampler_next(sampler, logits, NULL, 0, &token));
    sampler_close(sampler);
    return token;
}

/* Draws many times and holds the counts against the probabilities: none where 0, and else
 * chi-square under its 99.99% quantile (the seed is fixed: it passes always or never). */
static void draws(struct sample_options options, const float *logits, int count,
                  const int32_t *previous, size_t previous_count, const double *expected) {
    static const double quantile[] = {0, 15.1, 18.4, 21.1, 23.5, 25.7, 27.9, 29.9, 31.8, 33.7};
    struct sampler *sampler;
    int32_t token;
    int seen[MOST] = {0}, degrees = -1;
    double chi = 0, total = 0;
    good(sampler_open(&options, count, &sampler));
    for (int i = 0; i < DRAWS; i++) {
        good(sampler_next(sampler, logits, previous, previous_count, &token));
        assert_in_range(token, 0, count - 1);
        seen[token]++;
    }
    sampler_close(sampler);
    for (int i = 0; i < count; i++) total += expected[i];
    for (int i = 0; i < count; i++) {
        double goal = expected[i] / total * DRAWS;
        if (expected[i] == 0 && seen[i])
            fail_msg("token %d, which cannot be, came %d times", i, seen[i]);
        if (expected[i] == 0) continue;
        chi += (seen[i] - goal) * (seen[i] - goal) / goal;
        degrees++;
    }
    if (chi > quantile[degrees] && degrees) fail_msg("chi-square %g of %d degrees", chi, degrees);
}

/* ln of 0.4, 0.3, 0.15, 0.1, 0.05, not in order of size */
static const float logits[] = {-2.302585f, -0.916291f, -2.995732f, -1.203973f, -1.897120f};

static void greedy_takes_the_first_of_the_largest(void **state) {
    (void)state;
    assert_int_equal(once(SAMPLE_GREEDY, logits, 5), 1);
    assert_int_equal(once(SAMPLE_GREEDY, (float[]){0, 7, 3, 7}, 4), 1);
    assert_int_equal(once(SAMPLE_GREEDY, (float[]){-INFINITY, -INFINITY, -3}, 3), 2);
    struct sample_options top = PLAIN;
    top.top_k = 1;
    assert_int_equal(once(top, logits, 5), 1);
    top.top_k = 0, top.top_p = 1e-9f;
    assert_int_equal(once(top, (float[]){0, 7, 3, 7}, 4), 1); /* the lower id of equals */
}

static void plain_draws_follow_softmax(void **state) {
    (void)state;
    draws(PLAIN, logits, 5, NULL, 0, (double[]){.1, .4, .05, .3, .15});
    draws(PLAIN, (float[]){0, -INFINITY, 0}, 3, NULL, 0, (double[]){1, 0, 1});
}

static void temperature_is_a_power(void **state) {
    struct sample_options o = PLAIN;
    (void)state;
    o.temperature = 0.5f;
    draws(o, logits, 5, NULL, 0, (double[]){.01, .16, .0025, .09, .0225});
    o.temperature = 1e-30f; /* so cold that one is left, and no infinity arises */
    assert_int_equal(once(o, (float[]){1, 3, 2}, 3), 1);
}

static void top_k_keeps_what_equals_its_smallest(void **state) {
    struct sample_options o = PLAIN;
    (void)state;
    o.top_k = 2;
    draws(o, logits, 5, NULL, 0, (double[]){0, .4, 0, .3, 0});
    draws(o, (float[]){1, 2, 1, 1, 0}, 5, NULL, 0, (double[]){1, exp(1), 1, 1, 0});
    o.top_k = 99;
    draws(o, logits, 5, NULL, 0, (double[]){.1, .4, .05, .3, .15});
}

static void top_p_keeps_the_least_that_reaches_it(void **state) {
    struct sample_options o = PLAIN;
    (void)state;
    o.top_p = 0.69f; /* 0.4 + 0.3 */
    draws(o, logits, 5, NULL, 0, (double[]){0, .4, 0, .3, 0});
    o.top_p = 0.71f;
    draws(o, logits, 5, NULL, 0, (double[]){0, .4, 0, .3, .15});
    o.top_k = 3, o.top_p = 0.5f; /* of 0.85: 0.4 is 0.47 of it, so two are needed */
    draws(o, logits, 5, NULL, 0, (double[]){0, .4, 0, .3, 0});
    o.top_p = 0.46f; /* without top-k it would take two */
    draws(o, logits, 5, NULL, 0, (double[]){0, 1, 0, 0, 0});
}

static void min_p_is_of_the_largest(void **state) {
    struct sample_options o = PLAIN;
    (void)state;
    o.min_p = 0.3f; /* 0.12 */
    draws(o, logits, 5, NULL, 0, (double[]){0, .4, 0, .3, .15});
    o.temperature = 0.5f; /* after it: 0.16 * 0.3 = 0.048 */
    draws(o, logits, 5, NULL, 0, (double[]){0, .16, 0, .09, 0});
    o.min_p = 1;
    draws(o, logits, 5, NULL, 0, (double[]){0, 1, 0, 0, 0});
}

static void repetition_moves_both_signs(void **state) {
    static const int32_t previous[] = {0, 2, 0, 0, -1, 99};
    struct sample_options o = PLAIN;
    (void)state;
    o.repetition_penalty = 2;
    draws(o, (float[]){2, 1, -1, 0}, 4, previous, 6, /* once each, however often seen */
          (double[]){exp(1), exp(1), exp(-2), 1});
    o.temperature = 0; /* greedy sees the penalty too */
    struct sampler *sampler;
    int32_t token;
    good(sampler_open(&o, 2, &sampler));
    good(sampler_next(sampler, (float[]){3, 2}, previous, 1, &token));
    assert_int_equal(token, 1);
    good(sampler_next(sampler, (float[]){3, 2}, NULL, 0, &token)); /* and forgets it */
    assert_int_equal(token, 0);
    sampler_close(sampler);
}

static void seeds_repeat(void **state) {
    struct sample_options o = PLAIN;
    struct sampler *a, *b, *c;
    int32_t x, y, z;
    int differ = 0;
    (void)state;
    good(sampler_open(&o, 5, &a));
    good(sampler_open(&o, 5, &b));
    o.seed = 43;
    good(sampler_open(&o, 5, &c));
    for (int i = 0; i < 200; i++) {
        good(sampler_next(a, logits, NULL, 0, &x));
        good(sampler_next(b, logits, NULL, 0, &y));
        good(sampler_next(c, logits, NULL, 0, &z));
        assert_int_equal(x, y);
        differ += x != z;
    }
    assert_true(differ > 50);
    sampler_close(a), sampler_close(b), sampler_close(c);
}

static void bad_logits_are_refused(void **state) {
    struct sample_options o = PLAIN;
    struct sampler *sampler;
    int32_t token;
    (void)state;
    good(sampler_open(&o, 2, &sampler));
    says(sampler_next(sampler, (float[]){0, NAN}, NULL, 0, &token), STATUS_INCORRECT,
         "token 1 is NaN");
    says(sampler_next(sampler, (float[]){INFINITY, 0}, NULL, 0, &token), STATUS_INCORRECT,
         "token 0 is infinite");
    says(sampler_next(sampler, (float[]){-INFINITY, -INFINITY}, NULL, 0, &token), STATUS_INCORRECT,
         "every logit");
    sampler_close(sampler);
}

static void bad_options_are_refused(void **state) {
    static const struct {
        struct sample_options options;
        const char *words;
    } cases[] = {{{-1, 0, 1, 0, 1, 0}, "temperature -1"}, {{NAN, 0, 1, 0, 1, 0}, "temperature nan"},
                 {{1, -1, 1, 0, 1, 0}, "top_k -1"},       {{1, 0, 0, 0, 1, 0}, "top_p 0"},
                 {{1, 0, 1.5f, 0, 1, 0}, "top_p 1.5"},    {{1, 0, 1, 2, 1, 0}, "min_p 2"},
                 {{1, 0, 1, 0, 0, 0}, "penalty 0"}};
    struct sampler *sampler;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        says(sampler_open(&cases[i].options, 5, &sampler), STATUS_ARGUMENT, cases[i].words);
        assert_null(sampler);
    }
    says(sampler_open(&cases[0].options, 0, &sampler), STATUS_ARGUMENT, "0 logits");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_first_of_the_largest),
        cmocka_unit_test(plain_draws_follow_softmax),
        cmocka_unit_test(temperature_is_a_power),
        cmocka_unit_test(top_k_keeps_what_equals_its_smallest),
        cmocka_unit_test(top_p_keeps_the_least_that_reaches_it),
        cmocka_unit_test(min_p_is_of_the_largest),
        cmocka_unit_test(repetition_moves_both_signs),
        cmocka_unit_test(seeds_repeat),
        cmocka_unit_test(bad_logits_are_refused),
        cmocka_unit_test(bad_options_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
