/* test_parallel.c - what the host works out on several cores is the same on any number of them.
 *
 *   FASTINFER_TEST_LARGE    1: also a decode step at its real size, timed; 3 GB of memory
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "harness/verify.h"
#include "kernels/registry.h"
#include "runtime/clock.h"
#include "runtime/parallel.h"

#include <cmocka.h>

/* --- the loop ----------------------------------------------------------------------------------
 */

enum { INDICES = 1000 };
struct visits {
    int count[INDICES], calls; /* calls: only exact on one thread */
    int64_t smallest;
};

static void visit(void *context, int64_t first, int64_t last) {
    struct visits *v = context;
    for (int64_t i = first; i < last; i++) v->count[i]++;
    __atomic_fetch_add(&v->calls, 1, __ATOMIC_RELAXED);
    for (int64_t seen = __atomic_load_n(&v->smallest, __ATOMIC_RELAXED); last - first < seen;)
        if (__atomic_compare_exchange_n(&v->smallest, &seen, last - first, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED))
            break;
}

static void each_index_comes_once(void **state) {
    static const int threads[] = {1, 2, 3, 16, 1000}, counts[] = {0, 1, 15, 16, 17, INDICES};
    (void)state;
    for (size_t t = 0; t < sizeof threads / sizeof *threads; t++)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            struct visits v = {.smallest = INDICES};
            parallel_limit(threads[t]);
            parallel_for(counts[c], 1, visit, &v);
            for (int i = 0; i < INDICES; i++) assert_int_equal(v.count[i], i < counts[c]);
        }
    parallel_limit(0);
}

static void little_work_has_few_threads(void **state) {
    struct visits v = {.smallest = INDICES};
    (void)state;
    parallel_limit(8);
    parallel_for(INDICES, 300, visit, &v);
    assert_int_equal(v.calls, 3);
    assert_true(v.smallest >= 300);
    v = (struct visits){.smallest = INDICES};
    parallel_for(10, 300, visit, &v);
    assert_int_equal(v.calls, 1);
    parallel_limit(0);
}

/* --- inputs and references ---------------------------------------------------------------------
 */

struct worked { /* a problem's inputs, and what should come of them */
    void *before[MAX_ARGUMENTS];
    double *want[MAX_ARGUMENTS], *magnitude[MAX_ARGUMENTS];
};

static uint64_t seed_of(int argument) { return 2 * (uint64_t)argument + 77; }

static void work_out(const struct kernel *kernel, const struct problem *p, int threads,
                     struct worked *w) {
    *w = (struct worked){0};
    parallel_limit(threads);
    for (int i = 0; i < kernel->argument_count; i++) {
        const struct argument *a = &kernel->arguments[i];
        int64_t n = kernel->elements(p, i);
        w->before[i] = calloc((size_t)n + 1, 8);
        w->want[i] = calloc((size_t)n + 1, sizeof(double));
        w->magnitude[i] = calloc((size_t)n + 1, sizeof(double));
        for (int64_t k = 0; k < n && a->fill != FILL_KERNEL; k++)
            dtype_store(argument_dtype(a, p), w->before[i], k, (float)(k % 17 - 8) / 8);
        if (a->fill == FILL_KERNEL && n) kernel->input(p, i, seed_of(i), w->before[i]);
    }
    kernel->reference(p, (const void *const *)w->before, w->want, w->magnitude, 0,
                      kernel->outer(p));
    parallel_limit(0);
}

static void free_worked(struct worked *w) {
    for (int i = 0; i < MAX_ARGUMENTS; i++)
        free(w->before[i]), free(w->want[i]), free(w->magnitude[i]);
}

static void threads_change_nothing(void **state) {
    static const char *const cases[][2] = {
        {"decode_step",
         "batch=3,hidden=256,intermediate=520,heads=4,kv_heads=2,head_dim=64,qk_norm=1,qkv_bias=1,"
         "o_bias=1,vocab=1000,layers=2,capacity=70"},
        {"decode_step", "batch=1,hidden=512,intermediate=1024,heads=8,kv_heads=2,head_dim=64,"
                        "vocab=2048,layers=2,capacity=9"},
        {"rope", "rows=9,q_heads=2,kv_heads=1,head_dim=128,positions=4096"},
        {"rope_kv_append", "rows=9,kv_heads=2,head_dim=128,positions=4096,sequences=1,capacity=32"},
    };
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const struct kernel *kernel;
        struct problem p;
        struct worked one, many;
        if (registry_find(cases[c][0], &kernel) || problem_parse(kernel, cases[c][1], &p))
            fail_msg("%s", fail_message());
        p.dtype = DTYPE_F16;
        work_out(kernel, &p, 1, &one);
        for (int threads = 2; threads <= 7; threads += 5) {
            work_out(kernel, &p, threads, &many);
            for (int i = 0; i < kernel->argument_count; i++) {
                size_t n = (size_t)kernel->elements(&p, i) * sizeof(double);
                assert_memory_equal(one.before[i], many.before[i], n);
                assert_memory_equal(one.want[i], many.want[i], n);
                assert_memory_equal(one.magnitude[i], many.magnitude[i], n);
            }
            free_worked(&many);
        }
        free_worked(&one);
    }
}

/* Says how long the host is at work before the first point of a problem can be judged. */
static void a_real_step_in_time(void **state) {
    const char *large = getenv("FASTINFER_TEST_LARGE");
    const struct kernel *kernel;
    (void)state;
    if (!large || *large != '1') return skip();
    assert_int_equal(registry_find("decode_step", &kernel), STATUS_OK);
    for (int i = 0; i < kernel->problem_count; i++) {
        const struct problem *p = &kernel->problems[i];
        struct subject *subject;
        struct support support;
        struct device *device;
        struct verdict verdict;
        assert_int_equal(device_open("cpu", NULL, &device), STATUS_OK);
        assert_int_equal(support_open(device, &support), STATUS_OK);
        double start = clock_seconds();
        assert_int_equal(subject_open(&support, kernel, p, 3, 1, &subject), STATUS_OK);
        double opened = clock_seconds();
        /* nothing ran: all is wrong, and all was worked out */
        assert_int_equal(verify_host(subject, (struct allowance){0}, &verdict), STATUS_INCORRECT);
        double judged = clock_seconds();
        assert_int_equal(verify_host(subject, (struct allowance){0}, &verdict), STATUS_INCORRECT);
        double again = clock_seconds();
        print_message(
            "batch %d, hidden %d: buffers and inputs %.2f s, reference %.2f s, then a point "
            "%.3f s, on %d cores\n",
            (int)p->size[0], (int)p->size[1], opened - start, judged - opened, again - judged,
            parallel_cores());
        subject_close(subject);
        support_close(&support);
        device->ops->close(device);
    }
}

/* --- elements ----------------------------------------------------------------------------------
 */

/* Of all halves and the places between two of them, ties included: to nearest, then even. */
static void halves_are_rounded_to_nearest_even(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 0x7bff; bits++) {
        uint16_t low = (uint16_t)bits, high = (uint16_t)(bits + 1), got;
        float a = (float)dtype_load(DTYPE_F16, &low, 0), b = (float)dtype_load(DTYPE_F16, &high, 0);
        float middle = (a + b) / 2;
        const struct {
            float value;
            uint16_t want;
        } tests[] = {{a, low},
                     {nextafterf(middle, a), low},
                     {middle, low % 2 ? high : low},
                     {nextafterf(middle, b), high}};
        for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
            for (int sign = 0; sign < 2; sign++) {
                dtype_store(DTYPE_F16, &got, 0, sign ? -tests[i].value : tests[i].value);
                assert_int_equal(got, tests[i].want | sign << 15);
            }
    }
    static const struct {
        float value;
        uint16_t want;
    } ends[] = {{65504, 0x7bff},  {65519.996f, 0x7bff}, {65520, 0x7c00},  {3e38f, 0x7c00},
                {-65520, 0xfc00}, {INFINITY, 0x7c00},   {1e-45f, 0x0000}, {-1e-45f, 0x8000}};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        uint16_t got;
        dtype_store(DTYPE_F16, &got, 0, ends[i].value);
        assert_int_equal(got, ends[i].want);
    }
}

static void rows_are_their_elements(void **state) {
    enum { N = 50, FROM = 3 };
    (void)state;
    for (enum dtype dtype = DTYPE_F16; dtype <= DTYPE_F32; dtype++) {
        uint32_t row[N + FROM] = {0}, each[N + FROM] = {0};
        float value[N];
        double loaded[N];
        for (int i = 0; i < N; i++) value[i] = ldexpf((float)(i * 7919 % 101) - 50, i - 40);
        dtype_store_row(dtype, row, FROM, N, value);
        for (int i = 0; i < N; i++) dtype_store(dtype, each, FROM + i, value[i]);
        assert_memory_equal(row, each, sizeof row);
        dtype_load_row(dtype, row, FROM, N, loaded);
        for (int i = 0; i < N; i++) assert_true(loaded[i] == dtype_load(dtype, each, FROM + i));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_index_comes_once),
        cmocka_unit_test(little_work_has_few_threads),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(a_real_step_in_time),
        cmocka_unit_test(halves_are_rounded_to_nearest_even),
        cmocka_unit_test(rows_are_their_elements),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
