/* test_text.c - what people and files write: problems, points, policies, frames. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/pool.h"
#include "kernels/registry.h"
#include "runtime/device.h"

#include <cmocka.h> /* last: its macro fail() hides the function */

static char folder[64];
static struct device_info h200, t4, cpu;
static const struct policy cold = {RESIDENCY_COLD, LAUNCH_STREAM};

/* --- helpers ---------------------------------------------------------------------------------- */

static void good(enum status status) {
    if (status) fail_msg("%s: %s", status_text(status), fail_message());
}

static void says(enum status got, enum status expected, const char *words) {
    if (got != expected || !strstr(fail_message(), words))
        fail_msg("%s '%s', where %s with '%s' was expected", status_text(got), fail_message(),
                 status_text(expected), words);
}

static const struct kernel *named(const char *name) {
    const struct kernel *kernel = NULL;
    good(registry_find(name, &kernel));
    return kernel;
}

static int64_t size_of(const char *kernel, const char *text, const char *size) {
    struct problem problem;
    good(problem_parse(named(kernel), text, &problem));
    return problem.size[kernel_size(named(kernel), size)];
}

static int value_of(const char *kernel, const char *text, const char *tunable) {
    struct point point;
    good(point_parse(named(kernel), text, &point));
    return point.value[kernel_tunable(named(kernel), tunable)];
}

static void no_problem(const char *kernel, const char *text, enum status status,
                       const char *words) {
    struct problem problem;
    says(problem_parse(named(kernel), text, &problem), status, words);
}
static void no_point(const char *kernel, const char *text, const char *words) {
    struct point point;
    says(point_parse(named(kernel), text, &point), STATUS_ARGUMENT, words);
}

static uint64_t seed = 99;
static uint64_t draw(void) {
    uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* --- problems --------------------------------------------------------------------------------- */

static void good_problems(void **state) {
    (void)state;
    assert_int_equal(size_of("rmsnorm", "", "rows"), 4096);
    assert_int_equal(size_of("rmsnorm", "", "hidden"), 3072);
    assert_int_equal(size_of("rmsnorm", "rows=7", "rows"), 7);
    assert_int_equal(size_of("rmsnorm", "rows=7", "hidden"), 3072);
    assert_int_equal(size_of("rmsnorm", "hidden=2048, rows=8", "rows"), 8);
    assert_int_equal(size_of("rmsnorm", "rows=1,rows=9", "rows"), 9); /* the last one counts */
    assert_int_equal(size_of("rmsnorm", "rows=2147483648", "rows"), INT64_C(1) << 31);
    struct problem problem;
    good(problem_parse(named("rmsnorm"), "eps=1e-6,rows=2", &problem));
    assert_true(problem.real[0] == 1e-6);
    assert_int_equal(problem.dtype, DTYPE_F16);
}

static void suffixes(void **state) {
    (void)state;
    assert_int_equal(size_of("rmsnorm", "rows=16k", "rows"), 16384);
    assert_int_equal(size_of("rmsnorm", "rows=2Ki", "rows"), 2048);
    assert_int_equal(size_of("stream", "read_bytes=1GiB", "read_bytes"), INT64_C(1) << 30);
    assert_int_equal(size_of("stream", "read_bytes=3M,write_bytes=1T", "read_bytes"), 3 << 20);
    assert_int_equal(size_of("stream", "read_bytes=3M,write_bytes=1T", "write_bytes"), INT64_C(1)
                                                                                           << 40);
    const char *bad[] = {"rows=",
                         "rows=x",
                         "rows=1.5",
                         "rows=1e3",
                         "rows=16kk",
                         "rows=16kB",
                         "rows=16q",
                         "rows=0x10",
                         "rows=4 k",
                         "rows=--4",
                         "rows=k",
                         "rows=99999999999999999999",
                         "rows=9999999999999999T"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct problem problem;
        if (problem_parse(named("rmsnorm"), bad[i], &problem) != STATUS_ARGUMENT)
            fail_msg("%s was taken as %lld", bad[i], (long long)problem.size[0]);
    }
    no_problem("rmsnorm", "rows=x", STATUS_ARGUMENT, "a whole number was expected");
}

static void bad_problems(void **state) {
    (void)state;
    no_problem("rmsnorm", "row=4", STATUS_ARGUMENT, "did you mean 'rows'?");
    no_problem("rmsnorm", "hiden=4", STATUS_ARGUMENT, "did you mean 'hidden'?");
    no_problem("rmsnorm", "epsilon=4", STATUS_ARGUMENT, "did you mean 'eps'?");
    no_problem("rmsnorm", "xyzzy=4", STATUS_ARGUMENT, "it has: rows, hidden, eps");
    no_problem("rmsnorm", "rows", STATUS_ARGUMENT, "not name=value");
    no_problem("rmsnorm", "rows=0", STATUS_ARGUMENT, "rows=0 is outside 1 to 2147483648");
    no_problem("rmsnorm", "rows=-5", STATUS_ARGUMENT, "rows=-5 is outside");
    no_problem("rmsnorm", "rows=1000000000000000", STATUS_ARGUMENT, "outside");
    no_problem("rmsnorm", "hidden=65537", STATUS_ARGUMENT, "hidden=65537 is outside 2 to 65536");
    no_problem("rmsnorm", "eps=tiny", STATUS_ARGUMENT, "a number was expected");
    no_problem("rmsnorm", "eps=nan", STATUS_ARGUMENT, "a number was expected");
    no_problem("rmsnorm", "eps=inf", STATUS_ARGUMENT, "a number was expected");
    no_problem("rmsnorm", "eps=", STATUS_ARGUMENT, "a number was expected");
    char text[2000];
    memset(text, 'r', sizeof text);
    text[1999] = 0;
    no_problem("rmsnorm", text, STATUS_ARGUMENT, "longer than");
    assert_true(strlen(fail_message()) < 200);
    text[MAX_TEXT - 1] = 0, text[100] = '=';
    no_problem("rmsnorm", text, STATUS_ARGUMENT, "rmsnorm has no size");
}

static void problems_and_memory(void **state) {
    (void)state;
    struct problem problem;
    const struct kernel *kernel = named("rmsnorm");
    good(problem_parse(kernel, "rows=4096,hidden=4096", &problem));
    double bytes = 2 * (2 * 4096.0 * 4096 + 4096);
    assert_true(problem_bytes(kernel, &problem) == bytes);
    good(problem_check(kernel, &problem, bytes));
    says(problem_check(kernel, &problem, bytes - 1), STATUS_MEMORY, "GiB of device memory");
    problem.dtype = DTYPE_F32;
    assert_true(problem_bytes(kernel, &problem) == 2 * bytes);
}

/* Every standard problem is within its own ranges and survives being written out. */
static void problems_round_trip(void **state) {
    (void)state;
    for (int k = 0; k < registry_count(); k++) {
        const struct kernel *kernel = registry_at(k);
        for (int i = 0; i < kernel->problem_count; i++) {
            char text[MAX_TEXT];
            struct problem back, problem = kernel->problems[i];
            if (kernel->real_count) problem.real[0] = 0.123456789 * (i + 1);
            problem_format(kernel, &problem, text);
            good(problem_parse(kernel, text, &back));
            assert_memory_equal(problem.size, back.size, sizeof back.size);
            for (int r = 0; r < kernel->real_count; r++) {
                double error = back.real[r] / problem.real[r] - 1;
                assert_true(problem.real[r] == back.real[r] || (error < 1e-8 && error > -1e-8));
            }
        }
    }
}

/* --- points -------------------------------------------------------------------------------------
 */

static void good_points(void **state) {
    (void)state;
    struct point built_in = point_default(named("rmsnorm"));
    assert_int_equal(value_of("rmsnorm", "", "block"), built_in.value[0]);
    assert_int_equal(value_of("rmsnorm", "block=1k", "block"), 1024);
    assert_int_equal(value_of("rmsnorm", "unroll=4,block=96", "block"), 96);
    assert_int_equal(value_of("rmsnorm", "unroll=4,block=96", "unroll"), 4);
    assert_int_equal(value_of("rmsnorm", "unroll=4,block=96", "vector_bytes"),
                     built_in.value[kernel_tunable(named("rmsnorm"), "vector_bytes")]);
}

static void bad_points(void **state) {
    (void)state;
    no_point("rmsnorm", "blok=128", "did you mean 'block'?");
    no_point("rmsnorm", "vector=128", "did you mean 'vector_bytes'?");
    no_point("rmsnorm", "qqq=1", "it has: block, rows_per_block, vector_bytes");
    no_point("rmsnorm", "block=100", "block=100 is not one of 32, 64, 96, 128, 192, 256, 384, 512");
    no_point("rmsnorm", "block=-32", "is not one of");
    no_point("rmsnorm", "block=", "is not one of");
    no_point("rmsnorm", "block=4294967328", "is not one of"); /* 2^32 + 32 */
    no_point("rmsnorm", "block", "not name=value");
    char text[1000];
    memset(text, ',', sizeof text);
    text[999] = 0;
    no_point("rmsnorm", text, "longer than");
}

static void points_round_trip(void **state) {
    (void)state;
    for (int k = 0; k < registry_count(); k++) {
        const struct kernel *kernel = registry_at(k);
        for (int i = 0; i < 500; i++) {
            char text[MAX_TEXT];
            struct point back, point = {{0}};
            for (int t = 0; t < kernel->tunable_count; t++)
                point.value[t] =
                    kernel->tunables[t].values[draw() % (unsigned)kernel->tunables[t].count];
            point_format(kernel, &point, text);
            assert_true(strlen(text) < MAX_TEXT - 1);
            good(point_parse(kernel, text, &back));
            assert_memory_equal(&point, &back, sizeof point);
            assert_true(point_equal(kernel, &point, &back));
            int t = (int)(draw() % (unsigned)kernel->tunable_count);
            back.value[t]++;
            assert_false(point_equal(kernel, &point, &back));
        }
    }
}

/* --- policies, dtypes, statuses, names -----------------------------------------------------------
 */

static void policies(void **state) {
    (void)state;
    struct policy policy;
    for (int r = 0; r < 3; r++)
        for (int l = 0; l < 2; l++) {
            struct policy wanted = {(enum residency)r, (enum launch_kind)l};
            good(policy_parse(policy_text(wanted), &policy));
            assert_memory_equal(&policy, &wanted, sizeof policy);
        }
    good(policy_parse("", &policy));
    assert_memory_equal(&policy, &cold, sizeof policy);
    good(policy_parse("graph", &policy));
    assert_int_equal(policy.residency, RESIDENCY_COLD);
    assert_int_equal(policy.launch, LAUNCH_GRAPH);
    good(policy_parse("graph+hot", &policy));
    assert_int_equal(policy.residency, RESIDENCY_HOT);
    says(policy_parse("cld,stream", &policy), STATUS_ARGUMENT,
         "'cld' is neither a residency (cold");
    says(policy_parse("cold,strem", &policy), STATUS_ARGUMENT, "launch (stream, graph)");
    says(policy_parse("COLD", &policy), STATUS_ARGUMENT, "cold");
    says(policy_parse("cold,stream                                                      ,nonsense",
                      &policy),
         STATUS_ARGUMENT, "policy");
    char text[1000];
    memset(text, 'c', sizeof text);
    text[999] = 0;
    says(policy_parse(text, &policy), STATUS_ARGUMENT, "policy");
}

static void dtypes(void **state) {
    (void)state;
    for (int i = 0; i < DTYPE_COUNT; i++)
        assert_int_equal(dtype_parse(dtype_name((enum dtype)i)), i);
    assert_int_equal(dtype_parse("fp61"), DTYPE_COUNT);
    assert_int_equal(dtype_parse(""), DTYPE_COUNT);
    assert_int_equal(dtype_parse("fp16 "), DTYPE_COUNT);
    assert_string_equal(dtype_name(DTYPE_F16), "fp16");
    assert_int_equal(dtype_bytes(DTYPE_BF16), 2);
}

static void statuses(void **state) {
    (void)state;
    for (int i = 0; i < STATUS_COUNT; i++) {
        assert_int_equal(status_parse(status_text((enum status)i)), i);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(status_text((enum status)i), status_text((enum status)j));
    }
    assert_string_equal(status_text(STATUS_OK), "ok");
    assert_int_equal(status_parse("fine"), STATUS_COUNT);
    assert_int_equal(status_parse(""), STATUS_COUNT);
    assert_string_equal(status_text(STATUS_COUNT), "unknown");
}

static void nearest(void **state) {
    (void)state;
    const char *const names[] = {"rmsnorm", "add_rmsnorm", "swiglu", "rope", "rope_kv_append"};
    const struct {
        const char *word, *near;
    } cases[] = {{"rmsnrom", "rmsnorm"}, {"RMSNORM", "rmsnorm"},        {"swigul", "swiglu"},
                 {"rop", "rope"},        {"rope_kv", "rope_kv_append"}, {"add", "add_rmsnorm"},
                 {"ropes", "rope"},      {"addrmsnorm", "add_rmsnorm"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *near = nearest_name(cases[i].word, names, 5);
        assert_non_null(near);
        assert_string_equal(near, cases[i].near);
    }
    assert_null(nearest_name("zzzzzz", names, 5));
    assert_null(nearest_name("rope", names, 0));
    char text[300];
    memset(text, 'r', sizeof text);
    text[299] = 0;
    assert_null(nearest_name(text, names, 5));
    const struct kernel *kernel;
    says(registry_find("rmsnrm", &kernel), STATUS_ARGUMENT, "did you mean 'rmsnorm'?");
    says(registry_find("zzzzzzzz", &kernel), STATUS_ARGUMENT, "there are: rmsnorm, add_rmsnorm");
}

/* --- the space -------------------------------------------------------------------------------- */

static int find(const struct kernel *kernel, const struct point *points, int count,
                const struct point *wanted) {
    for (int i = 0; i < count; i++)
        if (point_equal(kernel, &points[i], wanted)) return i;
    return -1;
}

/* Each value of each tunable that is legal somewhere is among the first `count` points. */
static void spread(const struct kernel *kernel, const struct point *space, int space_count,
                   const struct point *sample, int count) {
    for (int t = 0; t < kernel->tunable_count; t++)
        for (int v = 0; v < kernel->tunables[t].count; v++) {
            int value = kernel->tunables[t].values[v];
            bool legal = false, there = false;
            for (int i = 0; i < space_count; i++) legal |= space[i].value[t] == value;
            for (int i = 0; i < count; i++) there |= sample[i].value[t] == value;
            if (legal && !there)
                fail_msg("%s: no %s=%d among the first %d of %d", kernel->name,
                         kernel->tunables[t].name, value, count, space_count);
        }
}

static void sample_of(const struct kernel *kernel, const struct device_info *device) {
    struct problem problem = problem_default(kernel);
    struct point *space, *sample, *again, *other, fallback, built_in = point_default(kernel);
    int count, sampled, repeated, others;
    if (!kernel_runs_on(kernel, device)) return;
    good(space_enumerate(kernel, &problem, device, &space, &count));
    assert_true(count >= 100 && count <= 20000);
    for (int i = 0; i < count; i += 7)
        assert_true(kernel->legal(&problem, &space[i], device, NULL));
    good(space_default(kernel, &problem, device, &fallback));
    good(space_sample(kernel, space, count, 40, 1, &sample, &sampled));
    good(space_sample(kernel, space, count, 40, 1, &again, &repeated));
    good(space_sample(kernel, space, count, 40, 2, &other, &others));
    assert_int_equal(sampled, 40);
    assert_int_equal(repeated, 40);
    assert_memory_equal(sample, again, sizeof *sample * 40);
    assert_memory_not_equal(sample, other, sizeof *sample * 40);
    if (kernel->legal(&problem, &built_in, device, NULL)) {
        assert_true(point_equal(kernel, &sample[0], &built_in));
        assert_true(point_equal(kernel, &fallback, &built_in));
    }
    for (int i = 0; i < 40; i++) {
        assert_true(find(kernel, space, count, &sample[i]) >= 0);
        assert_int_equal(find(kernel, sample, 40, &sample[i]), i);
    }
    spread(kernel, space, count, sample, 40);
    spread(kernel, space, count, other, 40);
    free(space), free(sample), free(again), free(other);
}

static void samples(void **state) {
    (void)state;
    for (int k = 0; k < registry_count(); k++) {
        sample_of(registry_at(k), &h200);
        sample_of(registry_at(k), &t4);
        sample_of(registry_at(k), &cpu);
    }
}

static void samples_of_everything_and_nothing(void **state) {
    (void)state;
    const struct kernel *kernel = named("swiglu");
    struct problem problem = problem_default(kernel);
    struct point *space, *sample;
    int count, sampled;
    good(space_enumerate(kernel, &problem, &h200, &space, &count));
    good(space_sample(kernel, space, count, 1 << 30, 3, &sample, &sampled));
    assert_int_equal(sampled, count);
    for (int i = 0; i < count; i++) assert_true(find(kernel, sample, count, &space[i]) >= 0);
    free(sample);
    good(space_sample(kernel, space, 0, 10, 3, &sample, &sampled));
    assert_int_equal(sampled, 0);
    free(sample), free(space);
}

static void every_default_is_legal(void **state) {
    (void)state;
    const struct device_info *devices[] = {&h200, &t4, &cpu};
    for (int k = 0; k < registry_count(); k++)
        for (int i = 0; i < registry_at(k)->problem_count; i++)
            for (int d = 0; d < 3; d++) {
                const struct kernel *kernel = registry_at(k);
                struct point point;
                if (!kernel_runs_on(kernel, devices[d])) continue;
                good(space_default(kernel, &kernel->problems[i], devices[d], &point));
                assert_true(kernel->legal(&kernel->problems[i], &point, devices[d], NULL));
            }
}

static int shared_values(const struct kernel *kernel, const struct point *a,
                         const struct point *b) {
    int same = 0;
    for (int t = 0; t < kernel->tunable_count; t++) same += a->value[t] == b->value[t];
    return same;
}

/* Where the built-in default is not legal: the legal point that shares most values with it. */
static void nearest_default(const char *name, const char *text) {
    const struct kernel *kernel = named(name);
    struct problem problem;
    struct point point, *space, built_in = point_default(kernel);
    int count, most = 0;
    good(problem_parse(kernel, text, &problem));
    if (kernel->legal(&problem, &built_in, &h200, NULL))
        fail_msg("%s %s: the built-in default is legal", name, text);
    good(space_default(kernel, &problem, &h200, &point));
    assert_true(kernel->legal(&problem, &point, &h200, NULL));
    good(space_enumerate(kernel, &problem, &h200, &space, &count));
    for (int i = 0; i < count; i++)
        if (shared_values(kernel, &space[i], &built_in) > most)
            most = shared_values(kernel, &space[i], &built_in);
    free(space);
    assert_int_equal(shared_values(kernel, &point, &built_in), most);
}

static void a_default_that_is_not_legal(void **state) {
    (void)state;
    const struct kernel *kernel = named("rmsnorm");
    struct problem problem;
    struct point point = point_default(kernel);
    const char *why = NULL;
    /* a row of 18 elements: 16-byte vectors do not fit */
    good(problem_parse(kernel, "rows=3,hidden=18", &problem));
    assert_false(kernel->legal(&problem, &point, &h200, &why));
    assert_string_equal(why, "hidden is no multiple of the vector");
    nearest_default("rmsnorm", "rows=3,hidden=18");
    nearest_default("rmsnorm", "rows=3,hidden=3076");
    nearest_default("add_rmsnorm", "rows=3,hidden=65530");
    nearest_default("swiglu", "rows=3,width=8190,packed=1");
    /* none at all */
    good(problem_parse(named("stream"), "read_bytes=8,write_bytes=8", &problem));
    says(space_default(named("stream"), &problem, &h200, &point), STATUS_ARGUMENT,
         "multiples of 16");
}

/* --- frames
 * --------------------------------------------------------------------------------------- */

static void frames(void **state) {
    (void)state;
    int pair[2];
    json_t *back,
        *json = json_pack("{s:s, s:[i,f,b,n]}", "text", "a \"b\"\n\xc3\xa9", "list", 1, 0.1, 1);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    for (int i = 0; i < 3; i++) good(frame_write(pair[0], json));
    for (int i = 0; i < 3; i++) {
        good(frame_read(pair[1], &back));
        assert_true(json_equal(json, back));
        json_decref(back);
    }
    json_decref(json);
    assert_int_equal(frame_write(pair[0], NULL), STATUS_FORMAT);
    close(pair[0]);
    assert_int_equal(frame_read(pair[1], &back), STATUS_CRASH);
    assert_null(back);
    json = json_object();
    assert_int_equal(frame_write(pair[1], json), STATUS_CRASH); /* and no SIGPIPE */
    json_decref(json);
    close(pair[1]);
}

/* Larger than any socket's buffer: both ends have to go on until all is through. */
static void a_large_frame(void **state) {
    (void)state;
    enum { BYTES = 8 << 20 };
    int pair[2];
    char *text = malloc(BYTES + 1);
    memset(text, 'x', BYTES), text[BYTES] = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    json_t *back, *json = json_pack("[s]", text);
    free(text);
    pid_t child = fork();
    if (!child) _exit(frame_write(pair[0], json) ? 1 : 0);
    close(pair[0]);
    good(frame_read(pair[1], &back));
    assert_true(json_equal(json, back));
    json_decref(back), json_decref(json), close(pair[1]);
    int how;
    waitpid(child, &how, 0);
    assert_int_equal(how, 0);
}

static enum status read_of(const void *data, size_t bytes) {
    int pair[2];
    json_t *json;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(write(pair[0], data, bytes), bytes);
    close(pair[0]);
    enum status status = frame_read(pair[1], &json);
    close(pair[1]);
    if (status) assert_null(json);
    json_decref(json);
    return status;
}

static void broken_frames(void **state) {
    (void)state;
    struct {
        uint32_t bytes;
        char text[16];
    } frame = {2, "{}{}"};
    assert_int_equal(read_of(&frame, 6), STATUS_OK);
    assert_int_equal(read_of(&frame, 5), STATUS_CRASH); /* truncated: in the text, in the length */
    assert_int_equal(read_of(&frame, 4), STATUS_CRASH);
    assert_int_equal(read_of(&frame, 3), STATUS_CRASH);
    frame.bytes = 4;
    says(read_of(&frame, 8), STATUS_FORMAT, "no JSON");
    frame.bytes = 0;
    says(read_of(&frame, 4), STATUS_FORMAT, "no JSON");
    frame.bytes = (64u << 20) + 1;
    says(read_of(&frame, 20), STATUS_FORMAT, "too long");
    frame.bytes = UINT32_MAX;
    says(read_of(&frame, 20), STATUS_FORMAT, "4294967295");
}

/* ---------------------------------------------------------------------------------------------- */

static int set_up(void **state) {
    (void)state;
    device_describe_arch(90, &h200);
    device_describe_arch(75, &t4);
    device_describe_cpu(&cpu);
    snprintf(folder, sizeof folder, "/tmp/fastinfer-text-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state) {
    char command[100];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_problems),
        cmocka_unit_test(suffixes),
        cmocka_unit_test(bad_problems),
        cmocka_unit_test(problems_and_memory),
        cmocka_unit_test(problems_round_trip),
        cmocka_unit_test(good_points),
        cmocka_unit_test(bad_points),
        cmocka_unit_test(points_round_trip),
        cmocka_unit_test(policies),
        cmocka_unit_test(dtypes),
        cmocka_unit_test(statuses),
        cmocka_unit_test(nearest),
        cmocka_unit_test(samples),
        cmocka_unit_test(samples_of_everything_and_nothing),
        cmocka_unit_test(every_default_is_legal),
        cmocka_unit_test(a_default_that_is_not_legal),
        cmocka_unit_test(frames),
        cmocka_unit_test(a_large_frame),
        cmocka_unit_test(broken_frames),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
