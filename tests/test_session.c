/* test_session.c - what a session keeps from point to point, on the CPU device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "harness/session.h"
#include "kernels/registry.h"

#include <cmocka.h>

static const struct policy policy = {RESIDENCY_HOT, LAUNCH_STREAM};
static const struct limits limits = {.min_samples = 1, .max_samples = 1, .max_seconds = 1};
static struct session session;
static const struct kernel *kernel;

static int set_up(void **state) {
    (void)state;
    if (registry_find("rmsnorm", &kernel)) return -1;
    return session_open("cpu", 3, &session) ? -1 : 0;
}
static int tear_down(void **state) {
    (void)state;
    session_close(&session);
    return 0;
}

static struct subject *subject_of(int64_t rows) {
    struct subject *out;
    struct problem p = problem_default(kernel);
    p.size[0] = rows, p.size[1] = 64;
    if (session_subject(&session, kernel, &p, policy, &out)) fail_msg("%s", fail_message());
    assert_int_equal(out->problem.size[0], rows);
    return out;
}

static int kept(void) {
    int n = 0;
    for (int i = 0; i < KEPT_SUBJECTS; i++) n += session.kept[i].timed != NULL;
    return n;
}

static void buffers_are_kept_for_several_problems(void **state) {
    (void)state;
    session.keep_bytes = 1 << 30;
    struct subject *first = subject_of(1);
    for (int rows = 2; rows <= KEPT_SUBJECTS; rows++) subject_of(rows);
    assert_ptr_equal(subject_of(1), first);
    assert_int_equal(kept(), KEPT_SUBJECTS);
    subject_of(100); /* takes the place of 2, which was asked for longest ago */
    assert_int_equal(kept(), KEPT_SUBJECTS);
    assert_ptr_equal(subject_of(1), first);
    for (int i = 0; i < KEPT_SUBJECTS; i++)
        assert_int_not_equal(session.kept[i].timed->problem.size[0], 2);
}

static void and_make_room(void **state) {
    (void)state;
    session.keep_bytes = 1 << 30;
    subject_of(1), subject_of(2);
    session.keep_bytes = 0; /* one is always kept */
    subject_of(200);
    assert_int_equal(kept(), 1);
    session.keep_bytes = 3e5; /* 64 KiB each, with guards and an odd one beside it */
    for (int rows = 201; rows < 210; rows++) subject_of(rows);
    assert_in_range(kept(), 2, 4);
}

/* What a point wrote into its inputs is not the next one's fault. */
static void a_point_is_not_blamed_for_another(void **state) {
    struct record r;
    struct problem p = problem_default(kernel);
    struct point point;
    (void)state;
    p.size[0] = 3, p.size[1] = 64;
    assert_int_equal(space_default(kernel, &p, &session.device->info, &point), STATUS_OK);
    assert_int_equal(session_evaluate(&session, kernel, &p, policy, &point, &limits, &r), 0);
    if (r.status) fail_msg("%s", r.reason);
    int input = 0;
    while (kernel->arguments[input].role != ROLE_IN) input++;
    for (int i = 0; i < 2; i++) { /* an input, then a guard */
        const struct subject *timed = session.now->timed;
        memset(i ? timed->arena[0] : timed->pointer[0][input], 0x41, 8);
        assert_int_equal(session_evaluate(&session, kernel, &p, policy, &point, &limits, &r), 0);
        if (r.status) fail_msg("%s", r.reason);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffers_are_kept_for_several_problems),
        cmocka_unit_test(and_make_room),
        cmocka_unit_test(a_point_is_not_blamed_for_another),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
