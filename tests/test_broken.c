/* test_broken.c - kernels with a mistake planted in them: each has to be caught, by the right name,
 * under at least one schedule; the same kernel without a mistake passes under all.
 *
 * On the CPU device every run is a process of its own, since some mistakes end it. With
 * FASTINFER_TEST_DEVICE=cuda:0 only those are run that leave a GPU's context alive. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/verify.h"
#include "kernels/registry.h"
#include "runtime/simt_run.h"

#include <cmocka.h> /* last: its macro fail() hides the function */

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

enum { SCHEDULES = 3, CRASHES = STATUS_COUNT, SEED = 20 };
enum gpu { ON_GPU, CPU_ONLY };

static const struct planted { /* in the order of planted.cu */
    const char *name;
    int expected;       /* a status, or CRASHES: the process dies */
    const char *reason; /* a part of the sentence */
    const char *problem;
    enum dtype dtype;
    enum gpu gpu;
    bool sanitized; /* only a sanitizer sees it */
} planted[] = {
    {"correct", STATUS_OK, "", "", DTYPE_F16, ON_GPU, false},
    {"missing barrier", STATUS_INCORRECT, "nan, should be", "", DTYPE_F16, CPU_ONLY, false},
    {"writes behind", STATUS_INCORRECT, "wrote outside y: byte 0 behind", "", DTYPE_F16, ON_GPU,
     false},
    {"reads behind", STATUS_INCORRECT, "y[308] is ", "", DTYPE_F16, ON_GPU, false},
    {"reads far behind", CRASHES, "", "", DTYPE_F16, CPU_ONLY, false},
    {"misaligned", CRASHES, "", "", DTYPE_F16, CPU_ONLY, true},
    {"divergent barrier", STATUS_LAUNCH, "stuck with 96 of 128 threads", "", DTYPE_F16, CPU_ONLY,
     false},
    {"not a number", STATUS_INCORRECT, "y[76] is ", "", DTYPE_F16, ON_GPU, false},
    {"stale output", STATUS_INCORRECT, "y[76] is ", "", DTYPE_F16, ON_GPU, false},
    {"wrong mask", STATUS_LAUNCH, "omits the caller", "", DTYPE_F16, CPU_ONLY, false},
    {"endless spin", STATUS_LAUNCH, "did nothing but spin", "", DTYPE_F16, CPU_ONLY, false},
    {"order of arrival", STATUS_NONDETERMINISTIC, "two runs on the same input differ", "",
     DTYPE_F32, CPU_ONLY, false},
    {"half sum", STATUS_INCORRECT, "y[0] is inf", "rows=1,cols=8192", DTYPE_F16, ON_GPU, false},
    {"does not compile", STATUS_COMPILE, "a_word_that_nobody_declared", "", DTYPE_F16, ON_GPU,
     false},
    {"writes before", STATUS_INCORRECT, "wrote outside y: byte 2 before", "", DTYPE_F16, ON_GPU,
     false},
    {"rounds to zero", STATUS_INCORRECT, "off by ", "", DTYPE_F16, ON_GPU, false},
    {"hidden race", STATUS_INCORRECT, "nan, should be", "", DTYPE_F16, CPU_ONLY, false},
};
enum { PLANTED = sizeof planted / sizeof *planted };

static struct support support;
static const struct kernel *kernel;
static char cache[64];
static bool gpu;

/* Opens, verifies and closes one of them. The sentence goes to `reason`, of 512 bytes. */
static enum status verify(int mistake, char *reason) {
    const struct planted *p = &planted[mistake];
    struct device *device = support.device;
    struct point point = {{mistake}};
    struct problem problem;
    struct subject *subject;
    struct variant variant;
    struct verdict verdict;
    enum status status = problem_parse(kernel, p->problem, &problem);
    problem.dtype = p->dtype;
    if (!status) status = subject_open(&support, kernel, &problem, SEED, 1, &subject);
    if (status) return snprintf(reason, 512, "%s", fail_message()), STATUS_SYSTEM;
    status = variant_open(device, kernel, &problem, &point, &variant);
    if (status) {
        snprintf(reason, 512, "%.500s", fail_message());
    } else {
        status = verify_variant(subject, &variant, &verdict);
        if (status) snprintf(reason, 512, "%s", verdict.reason);
        variant_close(device, &variant);
    }
    subject_close(subject);
    return status;
}

/* The same in a process of its own, under a schedule; its death is CRASHES. */
static int verify_apart(int mistake, int schedule, char *reason) {
    int pipes[2], state = 0, result = STATUS_SYSTEM;
    char message[sizeof result + 512];
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        static const int ends[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS};
        for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) signal(ends[i], SIG_DFL);
        if (planted[mistake].expected == CRASHES) fclose(stderr); /* it would only alarm */
        alarm(60);
        memset(message, 0, sizeof message);
        simt_spin_limit(20000);
        device_cpu_schedule(schedule, SEED);
        result = verify(mistake, message + sizeof result);
        memcpy(message, &result, sizeof result);
        _exit(write(pipes[1], message, sizeof message) != sizeof message);
    }
    close(pipes[1]);
    ssize_t bytes = read(pipes[0], message, sizeof message);
    close(pipes[0]);
    waitpid(child, &state, 0);
    if (bytes != sizeof message) {
        snprintf(reason, 512, "died, state %d", state);
        return CRASHES;
    }
    memcpy(&result, message, sizeof result);
    memcpy(reason, message + sizeof result, 512);
    return result;
}

static const char *words(int result) {
    return result == CRASHES ? "the end of the process" : status_text((enum status)result);
}

static void must(const struct planted *p, int result, const char *reason) {
    if (result != p->expected || !strstr(reason, p->reason))
        fail_msg("%s: %s (%s), not %s with '%s'", p->name, words(result), reason,
                 words(p->expected), p->reason);
}

static void is_caught(void **state) {
    const struct planted *p = *state;
    int mistake = (int)(p - planted), caught = 0, blind = p->sanitized && !SANITIZED;
    char reason[512] = "";
    if (gpu) {
        if (p->gpu == CPU_ONLY) skip();
        must(p, (int)verify(mistake, reason), reason);
        return;
    }
    for (int schedule = 0; schedule < SCHEDULES; schedule++) {
        int result = verify_apart(mistake, schedule, reason);
        if (blind && result == STATUS_OK) continue;
        if (result == STATUS_OK && p->expected != STATUS_OK) continue; /* hidden by this schedule */
        must(p, result, reason);
        caught++;
    }
    if (!caught && !blind) fail_msg("%s: not caught under any schedule", p->name);
    if (p->expected == STATUS_OK) assert_int_equal(caught, SCHEDULES);
    if (!strcmp(p->name, "hidden race")) assert_in_range(caught, 1, SCHEDULES - 1);
}

/* All in one batch: the one that does not compile takes no other with it. */
static void one_bad_point_spoils_no_batch(void **state) {
    static struct build builds[PLANTED];
    struct point points[PLANTED] = {{{0}}};
    struct target target = {support.device->info.kind, support.device->info.arch};
    struct problem problem = problem_default(kernel);
    (void)state;
    for (int i = 0; i < PLANTED; i++) points[i].value[0] = i;
    enum status status = compile_points(kernel, &problem, points, PLANTED, target, builds);
    if (status) fail_msg("%s", fail_message());
    for (int i = 0; i < PLANTED; i++) {
        enum status expected = planted[i].expected == STATUS_COMPILE ? STATUS_COMPILE : STATUS_OK;
        if (builds[i].status != expected)
            fail_msg("%s: %s: %s", planted[i].name, status_text(builds[i].status), builds[i].log);
    }
}

static int set_up(void **state) {
    const char *id = getenv("FASTINFER_TEST_DEVICE"), *root = getenv("FASTINFER_ROOT");
    char folder[1024];
    struct device *device;
    (void)state;
    snprintf(folder, sizeof folder, "%s/tests/broken", root ? root : FASTINFER_ROOT);
    snprintf(cache, sizeof cache, "/tmp/fastinfer-broken-XXXXXX"); /* so that all are compiled */
    if (!mkdtemp(cache) || setenv("FASTINFER_CACHE", cache, 1)) return -1;
    if (device_open(id && *id ? id : "cpu", NULL, &device) || support_open(device, &support) ||
        registry_add_folder(folder) || registry_find("planted", &kernel)) {
        print_error("%s\n", fail_message());
        return -1;
    }
    gpu = device->info.kind == DEVICE_CUDA;
    if (kernel->tunables[0].count != PLANTED) {
        print_error("planted.c knows %d mistakes, this test %d\n", kernel->tunables[0].count,
                    PLANTED);
        return -1;
    }
    return 0;
}

static int tear_down(void **state) {
    char command[100];
    struct device *device = support.device;
    (void)state;
    support_close(&support);
    if (device) device->ops->close(device);
    snprintf(command, sizeof command, "rm -rf '%s'", cache);
    return system(command);
}

int main(void) {
    struct CMUnitTest tests[PLANTED + 1] = {cmocka_unit_test(one_bad_point_spoils_no_batch)};
    for (int i = 0; i < PLANTED; i++)
        tests[i + 1] = (struct CMUnitTest){planted[i].name, is_caught, NULL, NULL,
                                           (void *)(uintptr_t)&planted[i]};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
