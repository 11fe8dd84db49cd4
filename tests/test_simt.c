/* test_simt.c - the device words, the schedules, and the mistakes that the runtime must name. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/kernel.h"
#include "runtime/simt_run.h"

#include <cmocka.h> /* last: it makes a macro of fail() */

typedef void thunk(void *const *params);
thunk words_thunk, wrong_mask_thunk, wrong_barriers_thunk, early_return_thunk, race_thunk,
    wait_for_flag_thunk, wait_for_ever_thunk, warp_step_thunk, deep_thunk, grid_wide_thunk,
    dynamic_thunk;
float test_half_to_float(uint16_t bits), test_bfloat16_to_float(uint16_t bits);
uint16_t test_float_to_half(float f), test_float_to_bfloat16(float f);
uint32_t test_pack_half2(float lo, float hi);

struct call {
    thunk *kernel;
    void **params;
};
static void body(void *argument) {
    struct call *call = argument;
    call->kernel(call->params);
}
static int run(thunk *kernel, unsigned grid, unsigned block, size_t dynamic, int cooperative,
               unsigned *out) {
    void *params[] = {&out};
    struct call call = {kernel, params};
    return simt_run((simt_dim){grid, 1, 1}, (simt_dim){block, 1, 1}, dynamic, cooperative, body,
                    &call);
}

static void words_by_their_definition(void **state) {
    (void)state;
    for (int order = 0; order < 3; order++)
        for (uint64_t seed = 1; seed < (order == 2 ? 100 : 2); seed++) {
            unsigned got[13][32];
            simt_schedule((enum simt_order)order, seed * 7919);
            assert_int_equal(run(words_thunk, 1, 32, 0, 0, &got[0][0]), 0);
            for (unsigned l = 0; l < 32; l++) {
                unsigned want[13] = {21,
                                     (l / 8 * 8 + 1) * 3,
                                     l < 3 ? l : l - 3,
                                     l % 16 < 3 ? l : l - 3,
                                     l + 5 < 32 ? l + 5 : l,
                                     l % 8 + 5 < 8 ? l + 5 : l,
                                     l ^ 21,
                                     (l ^ 12) / 8 <= l / 8 ? l ^ 12 : l,
                                     0x49249249,
                                     1,
                                     0,
                                     0,
                                     l < 31 ? l + 1 : l};
                want[11] = l < 16 ? l + (l ^ 1) : 0;
                for (unsigned i = l / 8 * 8; l >= 16 && i < l / 8 * 8 + 8; i++) want[11] += i;
                for (int n = 0; n < 13; n++) assert_int_equal(got[n][l], want[n]);
            }
        }
}

/* Each mistake is an error under every schedule, and the next launch works. */
static void mistakes_are_named(void **state) {
    const struct {
        thunk *kernel;
        unsigned block;
        const char *words;
    } mistakes[] = {{wrong_mask_thunk, 32, "mask"},
                    {wrong_barriers_thunk, 64, "stuck"},
                    {early_return_thunk, 64, "stuck"},
                    {wait_for_ever_thunk, 32, "spin"}};
    unsigned out[64] = {0};
    (void)state;
    simt_spin_limit(10000);
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++)
        for (int order = 0; order < 3; order++) {
            simt_schedule((enum simt_order)order, 5);
            assert_int_equal(run(mistakes[i].kernel, 1, mistakes[i].block, 0, 0, out), -1);
            assert_non_null(strstr(simt_error(), mistakes[i].words));
            assert_int_equal(run(warp_step_thunk, 1, 32, 0, 0, out), 0);
        }
    simt_spin_limit(20000000);
}

static void schedules_show_a_race(void **state) {
    unsigned wrong = 0;
    (void)state;
    for (int order = 0; order < 3; order++) {
        unsigned out[64];
        simt_schedule((enum simt_order)order, 3);
        assert_int_equal(run(race_thunk, 1, 64, 0, 0, out), 0);
        for (unsigned i = 0; i < 64; i++) wrong += out[i] != 63 - i;
    }
    assert_true(wrong > 0);
}

static void a_spin_wait_ends(void **state) {
    (void)state;
    for (int order = 0; order < 3; order++) {
        unsigned flag = 0;
        simt_schedule((enum simt_order)order, 11);
        assert_int_equal(run(wait_for_flag_thunk, 4, 64, 0, 1, &flag), 0);
        assert_int_equal(flag, 7);
    }
}

static void a_whole_warp_steps_at_once(void **state) {
    (void)state;
    for (int order = 0; order < 3; order++) {
        unsigned out[32];
        simt_schedule((enum simt_order)order, 17);
        assert_int_equal(run(warp_step_thunk, 1, 32, 0, 0, out), 0);
        for (unsigned i = 0; i < 32; i++) assert_int_equal(out[i], 10416 + i);
    }
}

static void an_overrun_stack_is_named(void **state) {
    unsigned out[32] = {0};
    (void)state;
#if defined(__SANITIZE_ADDRESS__)
    skip(); /* AddressSanitizer's stacks are larger, and it reports an overrun itself */
#endif
    simt_schedule(SIMT_FORWARD, 1);
    assert_int_equal(run(deep_thunk, 1, 32, 0, 0, out), -1);
    assert_non_null(strstr(simt_error(), "stack"));
    assert_int_equal(run(warp_step_thunk, 1, 32, 0, 0, out), 0);
}

static void large_cooperative_grids_fit(void **state) {
    const unsigned shapes[][2] = {{132, 256}, {33, 1024}, {5, 96}};
    (void)state;
    for (size_t s = 0; s < 3; s++) {
        unsigned n = shapes[s][0] * shapes[s][1], *out = calloc(n, sizeof *out);
        simt_schedule(s == 2 ? SIMT_SHUFFLED : SIMT_REVERSE, 9);
        assert_int_equal(run(grid_wide_thunk, shapes[s][0], shapes[s][1], 0, 1, out), 0);
        for (unsigned i = 0; i < n; i++) assert_int_equal(out[i], (i * 7919u + 1) % n);
        free(out);
    }
}

static void absurd_launches_are_refused(void **state) {
    unsigned out[64];
    (void)state;
    assert_int_equal(run(warp_step_thunk, 0, 32, 0, 0, out), -1);
    assert_int_equal(run(warp_step_thunk, 1, 0, 0, 0, out), -1);
    assert_int_equal(run(warp_step_thunk, 1, 1056, 0, 0, out), -1);
    assert_non_null(strstr(simt_error(), "1056"));
}

static void dynamic_memory_is_poisoned(void **state) {
    unsigned out[64];
    (void)state;
    assert_int_equal(run(dynamic_thunk, 1, 32, 128, 0, out), 0);
    for (unsigned i = 0; i < 32; i++) {
        assert_int_equal(out[i], 0xffffffffu);
        assert_int_equal(out[32 + i], 31 - i);
    }
}

static void counts_are_kept(void **state) {
    unsigned out[64];
    (void)state;
    assert_int_equal(run(dynamic_thunk, 3, 32, 128, 0, out), 0);
    assert_int_equal(simt_counts().block_barriers, 96);
    assert_int_equal(simt_counts().exchanges, 0);
    assert_int_equal(run(warp_step_thunk, 1, 32, 0, 0, out), 0);
    assert_int_equal(simt_counts().exchanges, 32);
}

/* Against dtype.c, which was written apart from simt.h's conversions. */
static void check_rounding(float f) {
    uint16_t half, brain;
    dtype_store(DTYPE_F16, &half, 0, f);
    dtype_store(DTYPE_BF16, &brain, 0, f);
    if (isnan(f)) {
        assert_true(isnan(test_half_to_float(test_float_to_half(f))));
        assert_true(isnan(test_bfloat16_to_float(test_float_to_bfloat16(f))));
        return;
    }
    assert_int_equal(test_float_to_half(f), half);
    assert_int_equal(test_float_to_bfloat16(f), brain);
    assert_int_equal(test_pack_half2(f, 1.0f), half | 0x3c000000u);
}

static void conversions_agree_with_the_host(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        uint16_t b = (uint16_t)bits;
        double half = dtype_load(DTYPE_F16, &b, 0), brain = dtype_load(DTYPE_BF16, &b, 0);
        if (isnan(half))
            assert_true(isnan(test_half_to_float(b)));
        else
            assert_true(test_half_to_float(b) == (float)half);
        if (isnan(brain))
            assert_true(isnan(test_bfloat16_to_float(b)));
        else
            assert_true(test_bfloat16_to_float(b) == (float)brain);
        /* every half, and the floats on both sides of the midpoint above it */
        uint32_t word = bits << 13 << 3 >> 3;
        for (int step = -1; step <= 1; step++) {
            float f = (float)half;
            memcpy(&word, &f, 4);
            word += 0x1000u + (uint32_t)step;
            memcpy(&f, &word, 4);
            check_rounding(f);
        }
    }
    uint64_t seed = 12345;
    for (int i = 0; i < 1000000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint32_t word = (uint32_t)(seed >> 32);
        float f;
        memcpy(&f, &word, 4);
        check_rounding(f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_by_their_definition),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(schedules_show_a_race),
        cmocka_unit_test(a_spin_wait_ends),
        cmocka_unit_test(a_whole_warp_steps_at_once),
        cmocka_unit_test(an_overrun_stack_is_named),
        cmocka_unit_test(large_cooperative_grids_fit),
        cmocka_unit_test(absurd_launches_are_refused),
        cmocka_unit_test(dynamic_memory_is_poisoned),
        cmocka_unit_test(counts_are_kept),
        cmocka_unit_test(conversions_agree_with_the_host),
    };
    return cmocka_run_group_tests_name("simt", tests, NULL, NULL);
}
