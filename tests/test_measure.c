/* test_measure.c - when a measurement goes on and when it stops, on the CPU device: work that only
 * waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "harness/session.h"
#include "kernels/registry.h"

#include <cmocka.h>

static enum status wait_ms(void *context, int set, int weight_set) {
    double ms = *(double *)context;
    struct timespec t = {0, (long)(ms * 1e6)};
    (void)set, (void)weight_set;
    nanosleep(&t, NULL);
    return STATUS_OK;
}

static struct subject *any_subject(struct session *session) {
    const struct kernel *kernel;
    struct problem problem;
    struct subject *subject;
    assert_int_equal(registry_find("rmsnorm", &kernel), STATUS_OK);
    assert_int_equal(problem_parse(kernel, "rows=1,hidden=256", &problem), STATUS_OK);
    assert_int_equal(session_open("cpu", 1, session), STATUS_OK);
    struct policy policy = {RESIDENCY_HOT, LAUNCH_STREAM};
    assert_int_equal(session_subject(session, kernel, &problem, policy, &subject), STATUS_OK);
    return subject;
}

static void a_race_drops_the_slow(void **unused) {
    (void)unused;
    struct session session;
    struct subject *subject = any_subject(&session);
    double ms[3] = {1, 1, 8};
    struct contender c[3];
    for (int i = 0; i < 3; i++)
        c[i] = (struct contender){.subject = subject, .enqueue = wait_ms, .context = &ms[i]};
    struct limits limits = {8, 30, 1e-6, 30, true, 0};
    struct policy policy = {RESIDENCY_HOT, LAUNCH_STREAM};
    assert_int_equal(measure_contest(policy, c, 3, &limits, NULL, &session.empties), STATUS_OK);
    assert_true(c[2].beaten);
    assert_int_equal(c[2].summary.count, 8); /* as soon as an interval can tell */
    assert_true(!c[0].beaten || !c[1].beaten);
    assert_true(c[0].summary.count == 30 || c[1].summary.count == 30);
    assert_true(c[2].summary.median > 5e6);
    session_close(&session);
}

static int disturbances;
static bool disturbed_thrice(void *context) {
    (void)context;
    return disturbances++ < 3;
}
static bool always_disturbed(void *context) {
    (void)context;
    return true;
}

static void disturbed_samples_are_taken_anew(void **unused) {
    (void)unused;
    struct session session;
    struct subject *subject = any_subject(&session);
    double ms = 0.2;
    struct contender c = {.subject = subject, .enqueue = wait_ms, .context = &ms};
    struct limits limits = {6, 6, 0, 30, false, 0};
    struct policy policy = {RESIDENCY_HOT, LAUNCH_STREAM};
    struct watch thrice = {NULL, disturbed_thrice}, always = {NULL, always_disturbed};
    disturbances = 0;
    assert_int_equal(measure_contest(policy, &c, 1, &limits, &thrice, &session.empties), STATUS_OK);
    assert_int_equal(c.summary.count, 6);
    assert_int_equal(c.retaken, 3);
    limits.min_samples = limits.max_samples = 1; /* and it ends where it never stops */
    assert_int_equal(measure_contest(policy, &c, 1, &limits, &always, &session.empties), STATUS_OK);
    assert_int_equal(c.summary.count, 1);
    assert_int_equal(c.retaken, 10);
    session_close(&session);
}

/* Four samples say that a point is far off; one that is not so far has all of its own. */
static void the_hopeless_stop_early(void **unused) {
    (void)unused;
    struct session session;
    struct subject *subject = any_subject(&session);
    double ms = 4;
    struct contender c = {.subject = subject, .enqueue = wait_ms, .context = &ms};
    struct limits limits = {10, 10, 0, 30, false, 2e6};
    struct policy policy = {RESIDENCY_HOT, LAUNCH_STREAM};
    assert_int_equal(measure_contest(policy, &c, 1, &limits, NULL, &session.empties), STATUS_OK);
    assert_int_equal(c.summary.count, 4);
    assert_true(c.summary.median > 3e6 && c.summary.low <= c.summary.median);
    limits.hopeless_ns = 1e9;
    assert_int_equal(measure_contest(policy, &c, 1, &limits, NULL, &session.empties), STATUS_OK);
    assert_int_equal(c.summary.count, 10);
    limits.hopeless_ns = 0; /* nothing to compare with */
    assert_int_equal(measure_contest(policy, &c, 1, &limits, NULL, &session.empties), STATUS_OK);
    assert_int_equal(c.summary.count, 10);
    session_close(&session);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_race_drops_the_slow),
        cmocka_unit_test(disturbed_samples_are_taken_anew),
        cmocka_unit_test(the_hopeless_stop_early),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
