/* test_library.c - include/fastinfer.h from C: kernels on foreign memory against their own
 * references, points kept and fixed, and what is refused. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/fastinfer.h"

#include <cmocka.h>

enum { HIDDEN = 64, MOST = 200 };

static struct fastinfer_device *device;
static _Alignas(64) float x[MOST * HIDDEN], y[MOST * HIDDEN], weight[HIDDEN];

static int open_device(void **state) {
    (void)state;
    for (int i = 0; i < MOST * HIDDEN; i++) x[i] = sinf((float)i * 0.7f) * (1 + (float)(i % 7));
    for (int i = 0; i < HIDDEN; i++) weight[i] = 1 + cosf((float)i);
    return fastinfer_device_open("cpu", NULL, &device);
}
static int close_device(void **state) {
    (void)state;
    fastinfer_device_close(device);
    return 0;
}

static struct fastinfer_kernel *open_rmsnorm(void) {
    struct fastinfer_kernel *kernel = NULL;
    int code = fastinfer_kernel_open(device, "rmsnorm", FASTINFER_FP32, "hidden=64", NULL, &kernel);
    assert_string_equal(code ? fastinfer_error() : "", "");
    return kernel;
}

static double worst(int64_t rows, double eps) {
    double error = 0;
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0;
        for (int c = 0; c < HIDDEN; c++) sum += (double)x[r * HIDDEN + c] * x[r * HIDDEN + c];
        double scale = 1 / sqrt(sum / HIDDEN + eps);
        for (int c = 0; c < HIDDEN; c++) {
            double want = x[r * HIDDEN + c] * scale * weight[c];
            error = fmax(error, fabs(y[r * HIDDEN + c] - want) / (fabs(want) + 1e-6));
        }
    }
    return error;
}

static void launches_any_rows(void **state) {
    (void)state;
    struct fastinfer_kernel *kernel = open_rmsnorm();
    void *pointers[] = {y, x, weight};
    double reals[] = {0.25};
    for (int64_t rows = 1; rows <= MOST; rows += rows < 40 ? 1 : 37) {
        memset(y, 0xff, sizeof y);
        assert_int_equal(fastinfer_kernel_launch(kernel, pointers, &rows, reals, NULL, 0, NULL),
                         FASTINFER_OK);
        assert_true(worst(rows, 0.25) < 1e-5);
        if (rows < MOST) assert_true(isnan(y[rows * HIDDEN]));
    }
    int64_t rows = 3;
    assert_int_equal(fastinfer_kernel_launch(kernel, pointers, &rows, NULL, NULL, 0, NULL), 0);
    assert_true(worst(rows, 1e-5) < 1e-5); /* the kernel's own eps */
    fastinfer_kernel_close(kernel);
}

static void describes_itself(void **state) {
    (void)state;
    struct fastinfer_kernel *kernel = open_rmsnorm();
    assert_int_equal(fastinfer_kernel_pointers(kernel), 3);
    assert_int_equal(fastinfer_kernel_sizes(kernel), 1);
    assert_int_equal(fastinfer_kernel_reals(kernel), 1);
    assert_string_equal(fastinfer_kernel_pointer_name(kernel, 2), "weight");
    assert_null(fastinfer_kernel_pointer_name(kernel, 3));
    assert_string_equal(fastinfer_kernel_size_name(kernel, 0), "rows");
    assert_null(fastinfer_kernel_size_name(kernel, 1));
    assert_null(fastinfer_kernel_size_name(kernel, -1));
    assert_string_equal(fastinfer_kernel_real_name(kernel, 0), "eps");
    assert_null(fastinfer_kernel_real_name(kernel, 1));
    fastinfer_kernel_close(kernel);
    assert_string_equal(fastinfer_device_points(device), "built-in default");
    assert_non_null(strstr(fastinfer_device_name(device), "CPU"));
}

/* The text of the point that would run. */
static const char *point_of(const char *name, const char *sizes, const char *fixed) {
    static char text[512];
    struct fastinfer_kernel *kernel = NULL;
    int64_t rows[] = {5, 5};
    size_t scratch = 1;
    int code = fastinfer_kernel_open(device, name, FASTINFER_FP16, sizes, fixed, &kernel);
    if (!code) code = fastinfer_kernel_prepare(kernel, rows, text, sizeof text, &scratch);
    if (!code) assert_int_equal(scratch, 0);
    fastinfer_kernel_close(kernel);
    return code ? fastinfer_error() : text;
}

static void holds_what_is_fixed(void **state) {
    (void)state;
    const char *heads = "q_heads=4,kv_heads=2,head_dim=16";
    assert_non_null(strstr(point_of("rope", heads, NULL), "trig=1"));
    assert_non_null(strstr(point_of("rope", heads, "trig=0"), "trig=0"));
    assert_non_null(strstr(point_of("rope", heads, "trig=2,heads=1"), "trig=2"));
    /* the default's vectors do not divide this row: others are found */
    assert_non_null(strstr(point_of("rmsnorm", "hidden=130", NULL), "block=128,"));
    assert_null(strstr(point_of("rmsnorm", "hidden=130", NULL), "vector_bytes=16"));
    assert_non_null(strstr(point_of("rmsnorm", "hidden=130", "vector_bytes=4"), "vector_bytes=4"));
    assert_non_null(strstr(point_of("rmsnorm", "hidden=130", "vector_bytes=16"), "no variant"));
    assert_non_null(strstr(point_of("rmsnorm", "hidden=130", "vectorbytes=16"), "vector_bytes"));
}

static void expect(enum fastinfer_code want, enum fastinfer_code got, const char *words) {
    assert_int_equal(got, want);
    if (!strstr(fastinfer_error(), words)) fail_msg("'%s' lacks '%s'", fastinfer_error(), words);
}

static void refuses(void **state) {
    (void)state;
    struct fastinfer_device *other;
    struct fastinfer_kernel *kernel;
    expect(FASTINFER_ARGUMENT, fastinfer_device_open("tpu", NULL, &other), "cpu, cuda:N");
    expect(FASTINFER_ARGUMENT, fastinfer_device_open(NULL, NULL, &other), "id");
    expect(FASTINFER_ARGUMENT,
           fastinfer_kernel_open(device, "rmsnrom", FASTINFER_FP16, "", NULL, &kernel),
           "did you mean 'rmsnorm'");
    expect(FASTINFER_ARGUMENT,
           fastinfer_kernel_open(device, "rmsnorm", FASTINFER_FP16, "hiden=64", NULL, &kernel),
           "hidden");
    expect(FASTINFER_ARGUMENT,
           fastinfer_kernel_open(device, "rmsnorm", (enum fastinfer_dtype)3, "", NULL, &kernel),
           "dtype 3");
    expect(FASTINFER_ARGUMENT,
           fastinfer_kernel_open(device, "rmsnorm", FASTINFER_FP16, "hidden=1", NULL, &kernel),
           "2 to 65536");
    kernel = open_rmsnorm();
    int64_t rows = 0, one = 1;
    void *pointers[] = {y, x, weight}, *crooked[] = {y, (char *)x + 4, weight};
    expect(FASTINFER_ARGUMENT,
           fastinfer_kernel_launch(kernel, pointers, &rows, NULL, NULL, 0, NULL),
           "rows is 0; 1 to");
    expect(FASTINFER_ARGUMENT, fastinfer_kernel_launch(kernel, crooked, &one, NULL, NULL, 0, NULL),
           "a multiple of 16 was expected");
    expect(FASTINFER_ARGUMENT, fastinfer_kernel_prepare(kernel, &rows, NULL, 0, NULL), "rows is 0");
    fastinfer_kernel_close(kernel);
    fastinfer_kernel_close(NULL);
    fastinfer_device_close(NULL);
}

static void outlives_its_opener(void **state) {
    (void)state;
    struct fastinfer_device *own;
    struct fastinfer_kernel *kernel;
    int64_t rows = 2;
    void *pointers[] = {y, x, weight};
    assert_int_equal(fastinfer_device_open("cpu", NULL, &own), 0);
    assert_int_equal(
        fastinfer_kernel_open(own, "rmsnorm", FASTINFER_FP32, "hidden=64", NULL, &kernel), 0);
    fastinfer_device_close(own);
    memset(y, 0xff, sizeof y);
    assert_int_equal(fastinfer_kernel_launch(kernel, pointers, &rows, NULL, NULL, 0, NULL), 0);
    assert_true(worst(rows, 1e-5) < 1e-5);
    fastinfer_kernel_close(kernel);
}

static void *work(void *argument) {
    struct fastinfer_kernel *kernel = argument;
    _Alignas(64) static _Thread_local float out[8 * HIDDEN];
    void *pointers[] = {out, x, weight};
    for (int64_t i = 0; i < 200; i++) {
        int64_t rows = 1 + i % 8;
        if (fastinfer_kernel_launch(kernel, pointers, &rows, NULL, NULL, 0, NULL) ||
            memcmp(out, y, (size_t)rows * HIDDEN * sizeof *out) != 0)
            return "wrong";
    }
    return NULL;
}

static void takes_turns(void **state) {
    (void)state;
    struct fastinfer_kernel *kernel = open_rmsnorm();
    int64_t rows = 8;
    void *pointers[] = {y, x, weight}, *said;
    assert_int_equal(fastinfer_kernel_launch(kernel, pointers, &rows, NULL, NULL, 0, NULL), 0);
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&thread[i], NULL, work, kernel), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], &said);
        assert_null(said);
    }
    fastinfer_kernel_close(kernel);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(launches_any_rows),   cmocka_unit_test(describes_itself),
        cmocka_unit_test(holds_what_is_fixed), cmocka_unit_test(refuses),
        cmocka_unit_test(outlives_its_opener), cmocka_unit_test(takes_turns),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
