/* test_fill.c - inputs: what fill_host() promises, and that support.cu's `fill` is its twin.
 *
 * FASTINFER_TEST_DEVICE=cuda:0 runs the twin there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/fill.h"
#include "runtime/compile.h"
#include "runtime/device.h"

#include <cmocka.h> /* last: its macro fail() hides the function */

enum { MANY = 1 << 20, SEED = 41 };
static const enum dtype floats[] = {DTYPE_F16, DTYPE_BF16, DTYPE_F32};
enum { FLOATS = 3 };

static void *block(size_t bytes) {
    void *memory = malloc(bytes ? bytes : 1);
    assert_non_null(memory);
    return memory;
}

static float *filled(int64_t n, enum fill fill, uint64_t seed) {
    float *x = block((size_t)n * sizeof *x);
    fill_host(x, 0, n, DTYPE_F32, fill, seed);
    return x;
}

static void near(const char *what, double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance))
        fail_msg("%s is %.6g, not within %.3g of %.6g", what, got, tolerance, want);
}

/* --- the host's ------------------------------------------------------------------------------ */

/* n is the sum of four uniform 16-bit numbers less its mean: variance 4 (2^32 - 1) / 12. */
static const double N_VARIANCE = (4294967296.0 - 1) / 3;

static void normal_has_its_moments(void **state) {
    double mean = 0, square = 0, next = 0, scales = 0, tolerance = 6 / sqrt(MANY);
    int64_t small = 0, large = 0;
    (void)state;
    float *x = filled(MANY, FILL_NORMAL, SEED);
    for (int i = 0; i < MANY; i++) {
        mean += (double)x[i] / MANY, square += (double)x[i] * (double)x[i] / MANY;
        if (i) next += (double)x[i] * (double)x[i - 1] / MANY;
        small += fabsf(x[i])<0.125f, large += fabsf(x[i])> 4;
        assert_true(fabsf(x[i]) <= 28); /* 7 * 131070 / 2^18 * 8 */
    }
    for (int k = -3; k <= 3; k++) scales += pow(4, k) / 7;
    double variance = pow(7.0 / (1 << 18), 2) * N_VARIANCE * scales;
    near("the mean", mean, 0, tolerance * sqrt(variance));
    near("the variance", square / variance, 1, 0.02);
    near("what an element tells of the next", next / variance, 0, tolerance);
    assert_true(small > MANY / 6 && large > MANY / 10); /* magnitudes are spread */
    free(x);
}

static void weights_lie_about_one(void **state) {
    double mean = 0, square = 0;
    (void)state;
    float *x = filled(MANY, FILL_WEIGHT, SEED);
    for (int i = 0; i < MANY; i++) mean += (double)x[i] / MANY;
    for (int i = 0; i < MANY; i++) square += pow((double)x[i] - mean, 2) / MANY;
    double spread = 11 * sqrt(N_VARIANCE) / (1 << 21);
    near("the mean", mean, 1, 6 * spread / sqrt(MANY));
    near("the spread", sqrt(square), spread, 0.01 * spread);
    near("the spread", spread, 0.2, 0.005); /* as kernel.h says */
    free(x);
}

static void bytes_are_uniform(void **state) {
    int64_t count[256] = {0};
    double chi = 0, expected = MANY / 256.0;
    (void)state;
    uint8_t *x = block(MANY);
    fill_host(x, 0, MANY, DTYPE_U8, FILL_BITS, SEED);
    for (int i = 0; i < MANY; i++) count[x[i]]++;
    for (int i = 0; i < 256; i++) chi += pow((double)count[i] - expected, 2) / expected;
    near("chi squared of 255 degrees", chi, 255, 6 * sqrt(2 * 255.0));
    free(x);
}

/* The generator is splitmix64: the first numbers of seed 0 in its author's program. */
static void bits_are_splitmix64(void **state) {
    const uint64_t want[2] = {UINT64_C(0xe220a8397b1dcdaf), UINT64_C(0x6e789e6aa1b965f4)};
    uint64_t got[2];
    (void)state;
    fill_host(got, 0, sizeof got, DTYPE_U8, FILL_BITS, 0);
    assert_memory_equal(got, want, sizeof got);
}

static void seeds_are_unrelated(void **state) {
    (void)state;
    for (uint64_t apart = 1; apart <= 3; apart++) {
        float *a = filled(MANY, FILL_NORMAL, SEED), *b = filled(MANY, FILL_NORMAL, SEED + apart);
        double product = 0, square = 0;
        int64_t same = 0;
        for (int i = 0; i < MANY; i++) {
            product += (double)a[i] * (double)b[i], square += (double)a[i] * (double)a[i];
            same += a[i] == b[i];
        }
        near("what a seed tells of the next", product / square, 0, 6 / sqrt(MANY));
        assert_true(same < MANY / 1000);
        free(a), free(b);
    }
}

/* Each dtype holds the fp32 value, rounded; none is NaN or infinite. */
static void dtypes_hold_the_same_values(void **state) {
    (void)state;
    for (int k = 0; k < 2 * FLOATS; k++) {
        enum dtype dtype = floats[k / 2];
        enum fill fill = k % 2 ? FILL_WEIGHT : FILL_NORMAL;
        float *exact = filled(MANY / 8, fill, SEED);
        char *x = block(MANY / 8 * dtype_bytes(dtype));
        fill_host(x, 0, MANY / 8, dtype, fill, SEED);
        for (int i = 0; i < MANY / 8; i++) {
            double got = dtype_load(dtype, x, i), want = (double)exact[i];
            if (!(fabs(got - want) <= dtype_roundoff(dtype) * fabs(want) + dtype_floor(dtype)))
                fail_msg("%s [%d] is %.9g for %.9g", dtype_name(dtype), i, got, want);
        }
        free(exact), free(x);
    }
}

/* Any cutting into ranges gives the same bits, and nothing outside a range is touched. */
static void ranges_fit_together(void **state) {
    enum { N = 1001 };
    static const int64_t cuts[] = {0, 1, 2, 7, 8, 9, 100, 333, 1000, N};
    const struct {
        enum dtype dtype;
        enum fill fill;
    } kinds[] = {{DTYPE_F16, FILL_NORMAL}, {DTYPE_BF16, FILL_WEIGHT}, {DTYPE_F32, FILL_NORMAL},
                 {DTYPE_F32, FILL_WEIGHT}, {DTYPE_U8, FILL_BITS},     {DTYPE_U8, FILL_KERNEL}};
    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        size_t size = dtype_bytes(kinds[k].dtype), bytes = N * size;
        char *whole = block(bytes), *again = block(bytes), *part = block(bytes);
        memset(whole, 0x11, bytes), memset(again, 0x11, bytes), memset(part, 0x11, bytes);
        fill_host(whole, 0, N, kinds[k].dtype, kinds[k].fill, SEED);
        fill_host(again, 0, N, kinds[k].dtype, kinds[k].fill, SEED);
        assert_memory_equal(whole, again, bytes);
        for (int c = 8; c >= 0; c--) { /* from behind: no range leans on what came before */
            fill_host(part, cuts[c], cuts[c + 1], kinds[k].dtype, kinds[k].fill, SEED);
            size_t untouched = (size_t)cuts[c] * size;
            for (size_t i = 0; i < untouched; i++) assert_int_equal(part[i], 0x11);
            assert_memory_equal(part + untouched, whole + untouched, bytes - untouched);
        }
        if (kinds[k].fill == FILL_KERNEL) assert_int_equal(whole[N / 2], 0x11);
        free(whole), free(again), free(part);
    }
}

/* --- the device's ---------------------------------------------------------------------------- */

static struct device *device;
static struct module *module;
static struct function *fill_entry;

static void good(enum status status) {
    if (status) fail_msg("%s: %s", status_text(status), fail_message());
}

/* Fills n elements on the device and on the host, guards of 64 bytes included, and compares. */
static void twins(int64_t n, enum dtype dtype, enum fill fill, unsigned blocks) {
    enum { GUARD = 64 };
    size_t bytes = (size_t)n * dtype_bytes(dtype), all = bytes + 2 * GUARD;
    char *host = block(all), *got = block(all), text[96];
    void *memory;
    memset(host, 0xee, all);
    fill_host(host + GUARD, 0, n, dtype, fill, SEED + (uint64_t)n);
    good(device->ops->allocate(device, all, &memory));
    good(device->ops->set_bytes(device, memory, 0xee, all));
    struct launch launch = {.function = fill_entry,
                            .grid = {blocks, 1, 1},
                            .block = {256, 1, 1},
                            .param = {(uint64_t)(uintptr_t)memory + GUARD, (uint64_t)n,
                                      dtype == DTYPE_U8 ? 0 : (uint64_t)dtype, (uint64_t)fill,
                                      SEED + (uint64_t)n},
                            .param_count = 5};
    good(device->ops->launch(device, &launch));
    good(device->ops->synchronize(device));
    good(device->ops->download(device, got, memory, all));
    device->ops->release(device, memory);
    for (size_t i = 0; i < all; i++) {
        if (got[i] == host[i]) continue;
        snprintf(text, sizeof text, "byte %zd of %zu", (ssize_t)i - GUARD, bytes);
        fail_msg("%s, fill %d, %u blocks: %s differs", dtype_name(dtype), fill, blocks, text);
    }
    free(host), free(got);
}

static void device_fills_as_the_host(void **state) {
    static const int64_t counts[] = {1, 2, 7, 8, 9, 255, 1001, 70001};
    (void)state;
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        for (int f = 0; f < FLOATS; f++) {
            twins(counts[k], floats[f], FILL_NORMAL, 1 + (unsigned)k % 3);
            twins(counts[k], floats[f], FILL_WEIGHT, 3);
            twins(counts[k], floats[f], FILL_MATRIX, 5);
        }
        twins(counts[k], DTYPE_U8, FILL_BITS, 1 + (unsigned)k % 3);
    }
}

static int set_up(void **state) {
    const char *id = getenv("FASTINFER_TEST_DEVICE");
    struct build build = {0};
    (void)state;
    enum status status = device_open(id && *id ? id : "cpu", NULL, &device);
    if (!status)
        status = compile_support((struct target){device->info.kind, device->info.arch}, &build);
    if (!status && build.status) status = build.status, print_error("%s\n", build.log);
    if (!status) status = device->ops->module_load(device, build.path, build.suffix, &module);
    if (!status) status = device->ops->function_get(device, module, "fill", 0, &fill_entry);
    if (status) print_error("%s\n", fail_message());
    return (int)status;
}

static int tear_down(void **state) {
    (void)state;
    if (device) device->ops->module_unload(device, module), device->ops->close(device);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normal_has_its_moments), cmocka_unit_test(weights_lie_about_one),
        cmocka_unit_test(bytes_are_uniform),      cmocka_unit_test(bits_are_splitmix64),
        cmocka_unit_test(seeds_are_unrelated),    cmocka_unit_test(dtypes_hold_the_same_values),
        cmocka_unit_test(ranges_fit_together),    cmocka_unit_test(device_fills_as_the_host),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
