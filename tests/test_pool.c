/* test_pool.c - worker processes: they die, dawdle and are spoken to badly, and the pool goes on.
 *
 * The workers are the program built beside this test: ../fastinfer from its own folder. */
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
#include <time.h>
#include <unistd.h>

#include "harness/pool.h"
#include "harness/record.h"
#include "harness/worker.h"

#include <cmocka.h> /* last: its macro fail() hides the function */

static char cache[64];

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void good(enum status status) {
    if (status) fail_msg("%s: %s", status_text(status), fail_message());
}

static void start(struct pool *pool, const char *device, int workers) {
    *pool = (struct pool){0};
    pool->open_request = strdup("{\"op\": \"open\", \"seed\": 1, \"baseline\": false}");
    good(pool_add(pool, device, workers));
    assert_int_equal(pool->count, workers);
}

/* Closes the pool; its workers are gone, and were waited for. */
static void finish(struct pool *pool) {
    struct pool copy = *pool;
    pool_close(pool);
    assert_int_equal(pool->count, 0);
    for (int i = 0; i < copy.count; i++) assert_int_equal(kill(copy.worker[i].pid, 0), -1);
}

static json_t *parse(const char *text) {
    json_error_t error;
    json_t *json = json_loads(text, JSON_DECODE_ANY, &error);
    if (!json) fail_msg("%s: %s", text, error.text);
    return json;
}

/* Waits until some worker answers. */
static json_t *answer(struct pool *pool, int *worker, void **job) {
    json_t *reply = NULL;
    double until = now_s() + 120;
    *worker = -1;
    while (*worker < 0 && now_s() < until) good(pool_wait(pool, 0.5, worker, &reply, job));
    if (*worker < 0) fail_msg("no answer within 120 s");
    assert_non_null(reply);
    assert_false(pool->worker[*worker].busy);
    return reply;
}

/* Sends a request to a worker; the caller owns the answer. */
static json_t *ask(struct pool *pool, int worker, const char *request, double seconds) {
    static int token;
    int who;
    void *job;
    good(pool_send(pool, worker, parse(request), &token, seconds));
    assert_true(pool->worker[worker].busy);
    json_t *reply = answer(pool, &who, &job);
    assert_int_equal(who, worker);
    assert_ptr_equal(job, &token);
    return reply;
}

static const char *text_of(const json_t *json, const char *key) {
    const char *text = json_string_value(json_object_get(json, key));
    return text ? text : "";
}
static bool is_ok(const json_t *reply) { return json_is_true(json_object_get(reply, "ok")); }

static void failed(json_t *reply, const char *status, const char *words) {
    assert_true(json_is_false(json_object_get(reply, "ok")));
    assert_string_equal(text_of(reply, "status"), status);
    if (!strstr(text_of(reply, "message"), words))
        fail_msg("'%s' is not in '%s'", words, text_of(reply, "message"));
    json_decref(reply);
}

static void describes(struct pool *pool, int worker) {
    struct device_info info, expected;
    json_t *reply = ask(pool, worker, "{\"op\": \"describe\"}", 60);
    if (!is_ok(reply)) fail_msg("%s", text_of(reply, "message"));
    info_from_json(json_object_get(reply, "device"), &info);
    device_describe_cpu(&expected);
    assert_int_equal(info.kind, DEVICE_CPU);
    assert_string_equal(info.name, expected.name);
    assert_int_equal(info.sms, expected.sms);
    assert_true(info.memory_bytes == expected.memory_bytes);
    assert_true(strlen(text_of(reply, "compiler")) > 2);
    json_decref(reply);
}

/* Some hundred million emulated steps: far longer than any of these tests. */
#define EVALUATE(rows)                                                                             \
    "{\"op\": \"evaluate\", \"kernel\": \"rmsnorm\", \"dtype\": \"fp16\", \"problem\": "           \
    "\"rows=" rows ",hidden=2048\", \"policy\": \"cold,stream\", \"point\": \"block=128\", "       \
    "\"limits\": [3, 3, 0.05, 2]}"
#define SLOW EVALUATE("65536")

/* --- tests ---------------------------------------------------------------------------------- */

static void workers_describe_their_device(void **state) {
    struct pool pool;
    (void)state;
    start(&pool, "cpu", 2);
    assert_int_not_equal(pool.worker[0].pid, pool.worker[1].pid);
    for (int i = 0; i < 2; i++) describes(&pool, i);
    describes(&pool, 0); /* and again, open as it is */
    finish(&pool);
}

static void a_point_is_evaluated(void **state) {
    struct pool pool;
    struct record record;
    (void)state;
    start(&pool, "cpu", 1);
    json_t *reply = ask(&pool, 0, EVALUATE("2"), 120);
    if (!is_ok(reply)) fail_msg("%s", text_of(reply, "message"));
    good(record_from_json(json_array_get(json_object_get(reply, "records"), 0), &record));
    json_decref(reply);
    assert_int_equal(record.status, STATUS_OK);
    assert_int_equal(record.summary.count, 3);
    assert_true(record.summary.median > 0 && record.worst <= 1);
    finish(&pool);
}

static void answers_come_as_they_are_ready(void **state) {
    struct pool pool;
    int slow_job, fast_job, who;
    void *job;
    (void)state;
    start(&pool, "cpu", 2);
    good(pool_send(&pool, 0, parse(SLOW), &slow_job, 300));
    good(pool_send(&pool, 1, parse("{\"op\": \"describe\"}"), &fast_job, 60));
    json_decref(answer(&pool, &who, &job));
    assert_int_equal(who, 1);
    assert_ptr_equal(job, &fast_job);
    assert_true(pool.worker[0].busy);
    double before = now_s();
    finish(&pool); /* with a busy worker: stopped, not waited for */
    assert_true(now_s() - before < 5);
}

static void nothing_busy_means_nothing_to_wait_for(void **state) {
    struct pool pool;
    int who = 7;
    json_t *reply;
    void *job;
    (void)state;
    start(&pool, "cpu", 1);
    double before = now_s();
    good(pool_wait(&pool, 20, &who, &reply, &job));
    assert_int_equal(who, -1);
    assert_null(reply);
    assert_true(now_s() - before < 5);
    finish(&pool);
}

static void a_killed_worker_is_a_crash(void **state) {
    struct pool pool;
    int job, who;
    void *back;
    (void)state;
    start(&pool, "cpu", 2);
    describes(&pool, 1);
    pid_t old = pool.worker[0].pid;
    good(pool_send(&pool, 0, parse(SLOW), &job, 300));
    usleep(300000);
    assert_int_equal(kill(old, SIGKILL), 0);
    double before = now_s();
    json_t *reply = answer(&pool, &who, &back);
    assert_true(now_s() - before < 5);
    assert_int_equal(who, 0);
    assert_ptr_equal(back, &job);
    failed(reply, "crash", "signal 9 (Killed)");
    assert_int_not_equal(pool.worker[0].pid, old);
    assert_int_equal(kill(old, 0), -1); /* and was waited for */
    describes(&pool, 0);
    describes(&pool, 1);
    finish(&pool);
}

static void a_worker_killed_while_idle_is_found_out(void **state) {
    struct pool pool;
    (void)state;
    start(&pool, "cpu", 1);
    describes(&pool, 0);
    kill(pool.worker[0].pid, SIGTERM);
    usleep(100000);
    failed(ask(&pool, 0, "{\"op\": \"describe\"}", 60), "crash", "signal 15");
    describes(&pool, 0);
    finish(&pool);
}

static void beyond_its_deadline_is_a_timeout(void **state) {
    struct pool pool;
    (void)state;
    start(&pool, "cpu", 2);
    describes(&pool, 0);
    pid_t old = pool.worker[0].pid;
    double before = now_s();
    json_t *reply = ask(&pool, 0, SLOW, 0.05);
    double took = now_s() - before;
    assert_true(took >= 0.05 && took < 5);
    failed(reply, "timeout", "0.05 s");
    assert_int_equal(kill(old, 0), -1);
    describes(&pool, 0);
    describes(&pool, 1);
    finish(&pool);
}

static void garbage_is_answered(void **state) {
    struct pool pool;
    const char *requests[] = {
        "{}",
        "[]",
        "[1, \"op\", {}]",
        "{\"op\": 3}",
        "{\"op\": \"dance\"}",
        "{\"op\": \"evaluate\"}",
        "{\"op\": \"evaluate\", \"kernel\": \"rmsnrm\", \"dtype\": \"fp16\", \"problem\": \"\"}",
        "{\"op\": \"evaluate\", \"kernel\": \"rmsnorm\", \"dtype\": \"fp61\", \"problem\": \"\"}",
        "{\"op\": \"evaluate\", \"kernel\": \"rmsnorm\", \"dtype\": \"fp16\", \"problem\": "
        "\"rows=0\"}",
        "{\"op\": \"evaluate\", \"kernel\": \"rmsnorm\", \"dtype\": \"fp16\", \"problem\": \"\", "
        "\"policy\": \"luke,warm\"}",
        "{\"op\": \"evaluate\", \"kernel\": \"rmsnorm\", \"dtype\": \"fp16\", \"problem\": \"\", "
        "\"policy\": \"cold\", \"point\": \"block=31\"}",
        "{\"op\": \"compile\", \"kernel\": \"rmsnorm\", \"dtype\": \"fp16\", \"problem\": \"\", "
        "\"points\": [1, null]}",
        "{\"op\": \"contest\", \"kernel\": \"rmsnorm\", \"dtype\": \"fp16\", \"problem\": \"\", "
        "\"policy\": \"cold\", \"points\": [3]}",
        "{\"op\": \"contest\", \"kernel\": \"rmsnorm\", \"dtype\": \"fp16\", \"problem\": \"\", "
        "\"policy\": \"cold\", \"points\": [[\"kernel\", 5]]}",
    };
    (void)state;
    start(&pool, "cpu", 1);
    describes(&pool, 0);
    pid_t first = pool.worker[0].pid;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        json_t *reply = ask(&pool, 0, requests[i], 60);
        if (is_ok(reply) || !strcmp(text_of(reply, "status"), "crash") ||
            strlen(text_of(reply, "message")) < 5)
            fail_msg("%s: %s: %s", requests[i], text_of(reply, "status"),
                     text_of(reply, "message"));
        json_decref(reply);
    }
    assert_int_equal(pool.worker[0].pid, first);
    describes(&pool, 0);
    finish(&pool);
}

/* What is no frame at all ends the worker; another takes its place. */
static void broken_frames_end_the_worker_alone(void **state) {
    struct pool pool;
    (void)state;
    static const char no_json[] = "\x05\0\0\0hello", endless[] = "\xff\xff\xff\xff";
    const struct {
        const char *data;
        size_t bytes;
    } frames[] = {{no_json, 9}, {endless, 4}};
    start(&pool, "cpu", 1);
    for (int i = 0; i < 2; i++) {
        describes(&pool, 0);
        assert_int_equal(send(pool.worker[0].fd, frames[i].data, frames[i].bytes, 0),
                         frames[i].bytes);
        failed(ask(&pool, 0, "{\"op\": \"describe\"}", 60), "crash", "exit code");
    }
    describes(&pool, 0);
    finish(&pool);
}

static void a_device_that_is_not_there(void **state) {
    struct pool pool;
    (void)state;
    start(&pool, "abacus", 1);
    failed(ask(&pool, 0, "{\"op\": \"describe\"}", 60), "argument", "abacus");
    finish(&pool);
}

static void a_program_that_is_not_there(void **state) {
    struct pool pool = {0};
    char own[1100];
    (void)state;
    snprintf(own, sizeof own, "%s", getenv("FASTINFER_PROGRAM"));
    setenv("FASTINFER_PROGRAM", "/nonexistent", 1);
    enum status status = pool_add(&pool, "cpu", 1);
    setenv("FASTINFER_PROGRAM", own, 1);
    assert_int_equal(status, STATUS_SYSTEM);
    assert_non_null(strstr(fail_message(), "could not be started"));
    assert_int_equal(pool.count, 0);
    finish(&pool);
}

/* A pool whose workers are a shell script. */
static void start_script(struct pool *pool, const char *script, char own[1100]) {
    char path[100];
    snprintf(path, sizeof path, "/tmp/fastinfer-worker-%ld.sh", (long)getpid());
    FILE *file = fopen(path, "w");
    fprintf(file, "#!/bin/sh\n%s\n", script);
    fclose(file);
    chmod(path, 0755);
    snprintf(own, 1100, "%s", getenv("FASTINFER_PROGRAM"));
    setenv("FASTINFER_PROGRAM", path, 1);
    *pool = (struct pool){0};
    good(pool_add(pool, "cpu", 1));
}

static void finish_script(struct pool *pool, const char *own) {
    pool_close(pool);
    unlink(getenv("FASTINFER_PROGRAM"));
    setenv("FASTINFER_PROGRAM", own, 1);
}

static void last_words_are_kept(void **state) {
    struct pool pool;
    char own[1100];
    (void)state;
    start_script(
        &pool, "head -c 4 <&3 >/dev/null; echo 'first line' >&2; echo 'oh dear' >&2; exit 7", own);
    failed(ask(&pool, 0, "{\"op\": \"describe\"}", 20), "crash",
           "exit code 7; it said: first line|oh dear");
    finish_script(&pool, own);
}

/* "last": the worker is replaced before it is given anything else. */
static void a_worker_may_say_it_is_the_last(void **state) {
    struct pool pool;
    char own[1100];
    (void)state;
    start_script(
        &pool,
        "head -c 4 <&3 >/dev/null\n"
        "printf '\\065\\000\\000\\000{\"ok\":false,\"status\":\"memory\",\"message\":\"x\","
        "\"last\":1}' >&3; cat <&3 >/dev/null", /* until the channel is closed */
        own);
    pid_t before = pool.worker[0].pid;
    json_t *reply = ask(&pool, 0, "{\"op\": \"describe\"}", 20);
    assert_string_equal(text_of(reply, "status"), "memory");
    json_decref(reply);
    assert_int_equal(pool.worker[0].pid, before); /* 1 is not true: it lives */
    finish_script(&pool, own);

    start_script(
        &pool,
        "head -c 4 <&3 >/dev/null\n"
        "printf '\\070\\000\\000\\000{\"ok\":false,\"status\":\"memory\",\"message\":\"x\","
        "\"last\":true}' >&3; cat <&3 >/dev/null",
        own);
    before = pool.worker[0].pid;
    reply = ask(&pool, 0, "{\"op\": \"describe\"}", 20);
    assert_string_equal(text_of(reply, "status"), "memory");
    json_decref(reply);
    assert_int_not_equal(pool.worker[0].pid, before);
    assert_int_equal(kill(before, 0), -1);
    finish_script(&pool, own);
}

/* One that stands by takes the place of one that died, and another stands by. */
static void a_standby_takes_over(void **state) {
    struct pool pool;
    (void)state;
    start(&pool, "cpu", 1);
    good(pool_standby(&pool, "cpu"));
    pid_t standby = pool.standby.pid;
    assert_int_not_equal(standby, pool.worker[0].pid);
    failed(ask(&pool, 0, SLOW, 0.3), "timeout", "0.3 s");
    assert_int_equal(pool.worker[0].pid, standby);
    assert_int_not_equal(pool.standby.pid, standby);
    describes(&pool, 0);
    pid_t next = pool.standby.pid;
    finish(&pool);
    assert_int_equal(kill(next, 0), -1);
}

static int set_up(void **state) {
    char own[1000], program[1100];
    (void)state;
    ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
    if (n <= 0) return -1;
    own[n] = 0;
    *strrchr(own, '/') = 0;
    snprintf(program, sizeof program, "%s/../fastinfer", own);
    if (access(program, X_OK)) {
        print_error("%s is not built\n", program);
        return -1;
    }
    snprintf(cache, sizeof cache, "/tmp/fastinfer-pool-XXXXXX");
    if (!mkdtemp(cache)) return -1;
    return setenv("FASTINFER_PROGRAM", program, 1) | setenv("FASTINFER_CACHE", cache, 1);
}

static int tear_down(void **state) {
    char command[100];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", cache);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(workers_describe_their_device),
        cmocka_unit_test(a_point_is_evaluated),
        cmocka_unit_test(answers_come_as_they_are_ready),
        cmocka_unit_test(nothing_busy_means_nothing_to_wait_for),
        cmocka_unit_test(a_killed_worker_is_a_crash),
        cmocka_unit_test(a_worker_killed_while_idle_is_found_out),
        cmocka_unit_test(beyond_its_deadline_is_a_timeout),
        cmocka_unit_test(garbage_is_answered),
        cmocka_unit_test(broken_frames_end_the_worker_alone),
        cmocka_unit_test(a_device_that_is_not_there),
        cmocka_unit_test(last_words_are_kept),
        cmocka_unit_test(a_worker_may_say_it_is_the_last),
        cmocka_unit_test(a_standby_takes_over),
        cmocka_unit_test(a_program_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
