/* test_simt.c - the device words, the schedules, and the mistakes that the runtime must name. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/simt_run.h"

#include <cmocka.h>

#if defined(__has_feature) /* clang's spelling of gcc's macro */
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

typedef void thunk(void *const *params);
thunk words_thunk, wrong_mask_thunk, wrong_barriers_thunk, early_return_thunk, race_thunk,
    wait_for_flag_thunk, wait_for_ever_thunk, warp_step_thunk, deep_thunk, grid_wide_thunk,
    dynamic_thunk, wait_for_first_thunk, wait_for_last_thunk, mixed_steps_thunk, never_done_thunk,
    tensor_thunk, ring_thunk, wrong_copies_thunk, impatient_thunk, echoes_thunk, wrong_echoes_thunk,
    all_wait_thunk, fetches_thunk, hint_on_shared_thunk, hint_on_own_thunk, much_shared_thunk;
float test_half_to_float(uint16_t bits), test_bfloat16_to_float(uint16_t bits);
uint16_t test_float_to_half(float f), test_float_to_bfloat16(float f);
uint32_t test_pack_half2(float lo, float hi), test_pack_bfloat162(float lo, float hi);
void test_unpack_half2(uint32_t word, float *out), test_unpack_bfloat162(uint32_t word, float *out);

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

static int run_copies(thunk *kernel, unsigned block, unsigned *out, unsigned *in, long long n) {
    void *params[] = {&out, &in, &n};
    struct call call = {kernel, params};
    return simt_run((simt_dim){2, 1, 1}, (simt_dim){block, 1, 1}, 0, 0, body, &call);
}

static void a_ring_of_copies(void **state) {
    enum { ROWS = 37 };
    _Alignas(16) unsigned in[ROWS][32];
    unsigned out[32];
    (void)state;
    for (unsigned i = 0; i < ROWS * 32; i++) in[i / 32][i % 32] = i * i;
    for (int order = 0; order < 3; order++)
        for (unsigned rows = 1; rows <= ROWS; rows += 4) {
            simt_schedule((enum simt_order)order, 7);
            if (run_copies(ring_thunk, 96, out, &in[0][0], rows)) fail_msg("%s", simt_error());
            for (unsigned lane = 0; lane < 32; lane++) {
                unsigned want = 0;
                for (unsigned i = 0; i < rows; i++) want += 3 * in[i][lane];
                assert_int_equal(out[lane], want);
            }
        }
}

static void wrong_copies_are_named(void **state) {
    static const char *const words[] = {
        "0 of 1 arrivals and 128 bytes",
        "never made",
        "multiples of 16",
        "multiples of 16",
        "64 bytes",
        "whole warps",
        "-64 bytes",
        "without a fence",
        "second time",
        "aligned to 8",
        "1048576 bytes expected",
        "multiples of 16",
        "1 of 1 arrivals",
        "on their way",
    };
    enum { WAITS_FOR_HALF = 13 };
    _Alignas(16) unsigned in[64] = {5};
    unsigned out[2];
    (void)state;
    simt_spin_limit(10000);
    for (int order = 0; order < 3; order++)
        for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
            if (i == WAITS_FOR_HALF && order) continue; /* shows where copies are late */
            simt_schedule((enum simt_order)order, 7);
            assert_int_equal(run_copies(wrong_copies_thunk, 1, out, in, (long long)i), -1);
            if (!strstr(simt_error(), words[i])) fail_msg("mistake %zu: %s", i, simt_error());
        }
    for (int order = 0; order < 2; order++) {
        simt_schedule((enum simt_order)order, 7);
        assert_int_equal(run_copies(impatient_thunk, 1, out, in, 0), 0);
        assert_int_equal(out[0], order == SIMT_REVERSE ? 5u : ~0u);
        assert_int_equal(out[1], 5);
    }
    int early = 0; /* shuffled, by chance */
    for (uint64_t seed = 1; seed <= 100; seed++) {
        simt_schedule(SIMT_SHUFFLED, seed * 7919);
        assert_int_equal(run_copies(impatient_thunk, 1, out, in, 0), 0);
        assert_true(out[0] == 5 || out[0] == ~0u);
        early += out[0] == 5;
    }
    assert_in_range(early, 5, 95);
    simt_spin_limit(20000000);
}

static void copies_leave_shared_memory(void **state) {
    enum { ROWS = 9 };
    static const char *const words[] = {NULL, "without a fence", NULL, "on their way"};
    _Alignas(16) unsigned in[ROWS][32], out[ROWS][32];
    int spoiled = 0;
    (void)state;
    for (unsigned i = 0; i < ROWS * 32; i++) in[i / 32][i % 32] = i * i;
    for (int order = 0; order < 3; order++)
        for (uint64_t seed = 1; seed <= 20; seed++) {
            simt_schedule((enum simt_order)order, seed * 7919);
            if (run_copies(echoes_thunk, 32, out[0], in[0], ROWS)) fail_msg("%s", simt_error());
            for (unsigned i = 0; i < ROWS * 32; i++)
                assert_int_equal(out[i / 32][i % 32], i * i + 1);
            simt_schedule((enum simt_order)order, seed * 7919);
            if (run_copies(wrong_echoes_thunk, 32, out[0], in[0], 2)) continue;
            for (unsigned i = 0; i < ROWS * 32; i++) spoiled += out[i / 32][i % 32] != i * i + 1;
        }
    assert_true(spoiled > 0);
    for (int mistake = 1; mistake <= 3; mistake += 2) { /* named where copies are late */
        simt_schedule(SIMT_FORWARD, 1);
        assert_int_equal(run_copies(wrong_echoes_thunk, 32, out[0], in[0], mistake), -1);
        if (!strstr(simt_error(), words[mistake])) fail_msg("%d: %s", mistake, simt_error());
    }
}

static void threads_fetch(void **state) {
    _Alignas(16) unsigned in[128], out[128];
    (void)state;
    for (unsigned i = 0; i < 128; i++) in[i] = i * i + 1;
    for (int order = 0; order < 3; order++) {
        simt_schedule((enum simt_order)order, 7);
        if (run_copies(fetches_thunk, 32, out, in, 0)) fail_msg("%s", simt_error());
        for (unsigned i = 0; i < 128; i++) {
            unsigned thread = 31 - i / 4;
            assert_int_equal(out[i], thread % 2 ? 0 : in[4 * thread + i % 4]);
        }
    }
    simt_schedule(SIMT_FORWARD, 1); /* copies are late */
    assert_int_equal(run_copies(fetches_thunk, 32, out, in, 1), 0);
    for (unsigned i = 0; i < 128; i++) assert_int_equal(out[i], ~0u);
    assert_int_equal(run_copies(fetches_thunk, 32, out, in, 2), -1);
    assert_non_null(strstr(simt_error(), "32 copies on their way"));
}

/* A block that waits for good says where, under every schedule. */
static void a_block_that_waits_is_named(void **state) {
    unsigned out[64];
    (void)state;
    simt_spin_limit(10000);
    for (int order = 0; order < 3; order++) {
        simt_schedule((enum simt_order)order, 7);
        assert_int_equal(run(all_wait_thunk, 1, 64, 0, 0, out), -1);
        if (!strstr(simt_error(), "2 of 3 arrivals and 0 bytes")) fail_msg("%s", simt_error());
    }
    simt_spin_limit(20000000);
}

/* Numbers whose products and sums are exact, so that any order of adding gives the same. */
static void tensor_cores_multiply(void **state) {
    uint16_t a[16][16], b[16][8];
    float c[16][8];
    (void)state;
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++) {
            a[i][k] = test_float_to_half((float)((7 * i + 3 * k + i * k) % 31 - 15));
            b[k][i % 8] = test_float_to_half((float)((5 * k + 11 * (i % 8)) % 29 - 14) * 0.25f);
        }
    for (int order = 0; order < 3; order++) {
        void *pointers[] = {c, a, b}, *params[] = {&pointers[0], &pointers[1], &pointers[2]};
        struct call call = {tensor_thunk, params};
        simt_schedule((enum simt_order)order, 3);
        assert_int_equal(simt_run((simt_dim){1, 1, 1}, (simt_dim){32, 1, 1}, 0, 0, body, &call), 0);
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 8; j++) {
                float want = 0;
                for (int k = 0; k < 16; k++)
                    want += test_half_to_float(a[i][k]) * test_half_to_float(b[k][j]);
                if (c[i][j] != want)
                    fail_msg("(%d, %d) is %g, not %g", i, j, (double)c[i][j], (double)want);
            }
    }
}

/* Each mistake is an error under every schedule, and the next launch works. */
static void mistakes_are_named(void **state) {
    const struct {
        thunk *kernel;
        unsigned block;
        const char *words;
    } mistakes[] = {
        {wrong_mask_thunk, 32, "mask"},
        {wrong_barriers_thunk, 64, "stuck"},
        {mixed_steps_thunk, 32, "another kind"},
        {early_return_thunk, 64, "stuck"},
        {wait_for_ever_thunk, 32, "spin"},
        {hint_on_shared_thunk, 32, "shared memory"},
        {much_shared_thunk, 32, "49156 bytes"},
#if !defined(__SANITIZE_ADDRESS__) /* which keeps a thread's variables elsewhere */
        {hint_on_own_thunk, 32, "own variables"},
#endif
    };
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

/* All threads but one spin, and the one is first or last: nobody starves under any schedule. */
static void spinning_threads_starve_nobody(void **state) {
    thunk *kernels[] = {wait_for_first_thunk, wait_for_last_thunk};
    (void)state;
    simt_spin_limit(100000);
    for (int order = 0; order < 3; order++)
        for (unsigned block = 32; block <= 1024; block *= 2)
            for (int k = 0; k < 2; k++) {
                unsigned flag = 0;
                simt_schedule((enum simt_order)order, 13);
                assert_int_equal(run(kernels[k], 1, block, 0, 0, &flag), 0);
                assert_true(simt_counts().yields <= 8 * block);
            }
    simt_spin_limit(20000000);
}

static void a_time_limit_ends_a_launch(void **state) {
    unsigned out[32] = {0};
    (void)state;
    simt_time_limit(0.02);
    for (int order = 0; order < 3; order++) {
        simt_schedule((enum simt_order)order, 19);
        assert_int_equal(run(never_done_thunk, 1, 32, 0, 0, out), -1);
        assert_non_null(strstr(simt_error(), "limit of 0.02 s"));
        assert_int_equal(run(warp_step_thunk, 1, 32, 0, 0, out), 0);
    }
    simt_time_limit(0);
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
    const unsigned shapes[][2] = {{132, 256}, {33, 1024}, {5, 96}, {132, 1024}};
    size_t count = 4;
    (void)state;
#if defined(__SANITIZE_ADDRESS__)
    count = 3; /* its shadow of the last would take seconds */
#endif
    for (size_t s = 0; s < count; s++) {
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
    /* products that overflow, and more warps than can be resident */
    const simt_dim one = {1, 1, 1}, warp = {32, 1, 1};
    const simt_dim wraps = {1u << 31, 1u << 31, 4}, vast = {1u << 31, 1, 1}, wide = {40000, 1, 1};
    assert_int_equal(simt_run(one, wraps, 0, 0, body, NULL), -1);
    assert_int_equal(simt_run(wraps, warp, 0, 0, body, NULL), -1);
    assert_int_equal(simt_run(vast, warp, 0, 1, body, NULL), -1);
    assert_int_equal(simt_run(wide, warp, 0, 1, body, NULL), -1);
    assert_non_null(strstr(simt_error(), "resident"));
#if !defined(__SANITIZE_ADDRESS__) /* whose malloc ends the program rather than return NULL */
    /* shared memory that nobody has */
    assert_int_equal(run(warp_step_thunk, 1, 32, SIZE_MAX / 4, 0, out), -1);
    assert_non_null(strstr(simt_error(), "memory"));
#endif
    assert_int_equal(run(warp_step_thunk, 1, 32, 0, 0, out), 0);
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
    assert_int_equal(simt_counts().switches, 64); /* once in the step, once at the end */
    assert_int_equal(run(grid_wide_thunk, 2, 32, 0, 1, out), 0);
    assert_int_equal(simt_counts().grid_barriers, 128);
}

/* The conversions anew, by value and in double, for formats of 1 + exponent + fraction bits. */
struct format {
    int fraction, bias, top; /* fraction bits; exponent bias; the exponent field of infinity */
};
static const struct format HALF = {10, 15, 31}, BRAIN = {7, 127, 255};

static double decoded(struct format f, uint16_t bits) {
    int exponent = (bits & 0x7fff) >> f.fraction, fraction = bits & ((1 << f.fraction) - 1);
    double sign = bits & 0x8000 ? -1 : 1;
    if (exponent == f.top) return fraction ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexp(fraction, 1 - f.bias - f.fraction);
    return sign * ldexp((1 << f.fraction) + fraction, exponent - f.bias - f.fraction);
}

static uint16_t encoded(struct format f, double x) { /* x is no NaN */
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    int exponent = 0;
    if (isinf(x)) return (uint16_t)(sign | f.top << f.fraction);
    if (x == 0) return sign;
    frexp(x, &exponent);
    if (exponent < 2 - f.bias) exponent = 2 - f.bias; /* frexp's are one above the field's */
    /* in steps of the last place; nearbyint rounds to nearest even, and a carry moves up by itself
     */
    int steps = (int)nearbyint(ldexp(fabs(x), f.fraction + 1 - exponent));
    int field = ((exponent - 2 + f.bias) << f.fraction) + steps;
    if (field > f.top << f.fraction) field = f.top << f.fraction;
    return (uint16_t)(sign | field);
}

static float from_word(uint32_t word) {
    float f;
    memcpy(&f, &word, sizeof f);
    return f;
}

static void check_rounding(float f) {
    uint16_t half = test_float_to_half(f), brain = test_float_to_bfloat16(f);
    uint32_t halves = test_pack_half2(f, 1), brains = test_pack_bfloat162(f, 1);
    if (isnan(f)) {
        if (!isnan(decoded(HALF, half)) || !isnan(decoded(BRAIN, brain)) ||
            !isnan(decoded(HALF, (uint16_t)halves)) || !isnan(decoded(BRAIN, (uint16_t)brains)))
            fail_msg("a NaN became a number");
        return;
    }
    if (half != encoded(HALF, f) || halves != (half | 0x3c000000u))
        fail_msg("half of %a: %04x and %08x, want %04x", f, half, halves, encoded(HALF, f));
    if (brain != encoded(BRAIN, f) || brains != (brain | 0x3f800000u))
        fail_msg("bfloat16 of %a: %04x and %08x, want %04x", f, brain, brains, encoded(BRAIN, f));
}

/* The float nearest to x and its neighbours, of both signs. */
static void check_around(double x) {
    float f = (float)x;
    uint32_t word;
    memcpy(&word, &f, sizeof word);
    for (int step = -1; step <= 1; step++) {
        check_rounding(from_word(word + (uint32_t)step));
        check_rounding(-from_word(word + (uint32_t)step));
    }
}

static void check_number(double want, float got, float unpacked) {
    if (isnan(want)
            ? !isnan(got) || !isnan(unpacked)
            : want != (double)got || want != (double)unpacked || !signbit(want) != !signbit(got))
        fail_msg("want %a, got %a and %a", want, got, unpacked);
}

static void conversions_to_float_are_exact(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        uint16_t b = (uint16_t)bits;
        float out[2];
        test_unpack_half2(bits << 16 | (bits ^ 0x8000), out);
        check_number(decoded(HALF, b), test_half_to_float(b), out[1]);
        check_number(decoded(HALF, b ^ 0x8000), test_half_to_float(b ^ 0x8000), out[0]);
        test_unpack_bfloat162(bits << 16 | (bits ^ 0x8000), out);
        check_number(decoded(BRAIN, b), test_bfloat16_to_float(b), out[1]);
        check_number(decoded(BRAIN, b ^ 0x8000), test_bfloat16_to_float(b ^ 0x8000), out[0]);
    }
}

static void conversions_from_float_round_to_nearest_even(void **state) {
    const struct format formats[] = {HALF, BRAIN};
    (void)state;
    /* around every number of either format and every midpoint between two, up to overflow */
    for (int k = 0; k < 2; k++)
        for (int bits = 1; bits < formats[k].top << formats[k].fraction; bits++) {
            double below = decoded(formats[k], (uint16_t)(bits - 1));
            double x = decoded(formats[k], (uint16_t)bits);
            check_around(x), check_around((below + x) / 2);
        }
    check_around(65520); /* from here on a half is infinite */
    check_around(0x1.ffp127);
    const uint32_t ends[] = {0, 1, 0x7f7fffff, 0x7f800000, 0x7f800001, 0x7fc00000, 0x7fffffff};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        check_rounding(from_word(ends[i])), check_rounding(from_word(ends[i] | 0x80000000u));
    uint64_t seed = 12345;
    for (int i = 0; i < 1000000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        check_rounding(from_word((uint32_t)(seed >> 32)));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_by_their_definition),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(a_ring_of_copies),
        cmocka_unit_test(wrong_copies_are_named),
        cmocka_unit_test(copies_leave_shared_memory),
        cmocka_unit_test(threads_fetch),
        cmocka_unit_test(a_block_that_waits_is_named),
        cmocka_unit_test(tensor_cores_multiply),
        cmocka_unit_test(schedules_show_a_race),
        cmocka_unit_test(a_spin_wait_ends),
        cmocka_unit_test(spinning_threads_starve_nobody),
        cmocka_unit_test(a_time_limit_ends_a_launch),
        cmocka_unit_test(a_whole_warp_steps_at_once),
        cmocka_unit_test(an_overrun_stack_is_named),
        cmocka_unit_test(large_cooperative_grids_fit),
        cmocka_unit_test(absurd_launches_are_refused),
        cmocka_unit_test(dynamic_memory_is_poisoned),
        cmocka_unit_test(counts_are_kept),
        cmocka_unit_test(conversions_to_float_are_exact),
        cmocka_unit_test(conversions_from_float_round_to_nearest_even),
    };
    return cmocka_run_group_tests_name("simt", tests, NULL, NULL);
}
