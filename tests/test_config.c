/* test_config.c - files of configs/: which is taken, what is refused and where it says the mistake
 * is, and which entry answers. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/registry.h"
#include "runtime/config.h"
#include "runtime/device.h"

#include <cmocka.h> /* last: its macro fail() hides the function */

static char folder[64];
static struct device_info h200, t4, cpu;
static const struct policy cold = {RESIDENCY_COLD, LAUNCH_STREAM};

static void good(enum status status) {
    if (status) fail_msg("%s: %s", status_text(status), fail_message());
}

static const struct kernel *named(const char *name) {
    const struct kernel *kernel = NULL;
    good(registry_find(name, &kernel));
    return kernel;
}

static void write_file(const char *name, const char *text) {
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static const char *const names[] = {"nvidia-h200.json", "sm_90.json", "cpu.json",
                                    "sm_0.json",        "sm_75.json", "tesla-t4.json"};
static void remove_files(void) {
    char path[200];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path), rmdir(path);
    }
}

/* What is said on stderr between these two calls. */
static int real_stderr;
static void listen_to_stderr(void) {
    char path[200];
    snprintf(path, sizeof path, "%s/stderr", folder);
    fflush(stderr);
    real_stderr = dup(2);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(real_stderr >= 0 && fd >= 0);
    dup2(fd, 2);
    close(fd);
}
static const char *heard(void) {
    static char text[4096];
    fflush(stderr);
    ssize_t n = pread(2, text, sizeof text - 1, 0);
    text[n < 0 ? 0 : n] = 0;
    dup2(real_stderr, 2);
    close(real_stderr);
    return text;
}

static struct config *opened(const struct device_info *device) {
    struct config *config = NULL;
    good(config_open(folder, device, registry_find, &config));
    assert_non_null(config);
    return config;
}

/* The block of the point that a config gives, -1 where it gives none (and so the default). */
static int block_for(const struct config *config, const char *problem, struct policy policy) {
    struct problem p;
    struct point point, built_in = point_default(named("rmsnorm"));
    good(problem_parse(named("rmsnorm"), problem, &p));
    if (config_point(config, named("rmsnorm"), &p, policy, &h200, &point)) return point.value[0];
    assert_true(point_equal(named("rmsnorm"), &point, &built_in));
    return -1;
}

/* The values that the tests do not care for, written out: built-in defaults change. */
#define PLAIN                                                                                      \
    ",rows_per_block=1,vector_bytes=16,reduce=0,passes=1,unroll=1,blocks_per_sm=0,ahead=0,"        \
    "prefetch=0,"                                                                                  \
    "load_hint=0,store_hint=0"
#define ENTRY(policy, problem, point)                                                              \
    "{\"kernel\": \"rmsnorm\", \"dtype\": \"fp16\", \"policy\": \"" policy                         \
    "\", \"problem\": \"" problem "\", \"point\": \"" point PLAIN "\"}"
#define HEAD(device, slug)                                                                         \
    "{\"device\": \"" device "\", \"slug\": \"" slug "\", \"measured\": true, \"entries\": [\n"
#define H200 HEAD("NVIDIA H200", "nvidia-h200")
#define GOOD ENTRY("cold,stream", "rows=9,hidden=3072", "block=64")
#define END "\n]}\n"

/* sm_90.json, with one entry of 192 threads. */
static void write_fallback(void) {
    write_file("sm_90.json", HEAD("any of them", "sm_90")
                                 ENTRY("cold,stream", "rows=9,hidden=3072", "block=192") END);
}

/* --- which entry ------------------------------------------------------------------------------ */

static void nearest_entries(void **state) {
    (void)state;
    const struct policy hot = {RESIDENCY_HOT, LAUNCH_GRAPH};
    remove_files();
    write_file(
        "nvidia-h200.json", H200
        "{\"kernel\": \"rmsnorm\", \"dtype\": \"fp32\", \"policy\": \"cold,stream\", "
        "\"problem\": \"rows=64,hidden=3072\", \"point\": \"block=1024\"},\n"
        "{\"kernel\": \"swiglu\", \"dtype\": \"fp16\", \"policy\": \"cold,stream\", "
        "\"problem\": \"rows=64\", \"point\": \"block=512\"},\n" ENTRY(
            "cold,stream", "rows=16,hidden=3072",
            "block=64") ",\n" ENTRY("cold,stream", "rows=4096,hidden=3072",
                                    "block=128") ",\n" ENTRY("cold,stream", "rows=4000,hidden=2048",
                                                             "block=256") ",\n" ENTRY("hot,graph",
                                                                                      "rows=1,"
                                                                                      "hidden=3072",
                                                                                      "block=96")
            END);
    struct config *config = opened(&h200);
    assert_non_null(strstr(config_origin(config), "nvidia-h200.json"));
    assert_true(config_measured(config));
    assert_int_equal(config_count(config), 6);
    /* exactly */
    assert_int_equal(block_for(config, "rows=4096,hidden=3072", cold), 128);
    assert_int_equal(block_for(config, "rows=16,hidden=3072", cold), 64);
    assert_int_equal(block_for(config, "rows=4000,hidden=2048", cold), 256);
    /* the nearest rows, by ratio: 16 and 4096 meet at 256 */
    assert_int_equal(block_for(config, "rows=1,hidden=3072", cold), 64);
    assert_int_equal(block_for(config, "rows=250,hidden=3072", cold), 64);
    assert_int_equal(block_for(config, "rows=280,hidden=3072", cold), 128);
    /* never another width */
    assert_int_equal(block_for(config, "rows=4000,hidden=3072", cold), 128);
    assert_int_equal(block_for(config, "rows=4000,hidden=4096", cold), -1);
    /* its own policy first, then any */
    assert_int_equal(block_for(config, "rows=4096,hidden=3072", hot), 96);
    assert_int_equal(block_for(config, "rows=4000,hidden=2048", hot), 256);
    /* and which entry that was */
    struct problem p;
    struct config_match match;
    good(problem_parse(named("rmsnorm"), "rows=7,hidden=2048", &p));
    assert_true(config_find(config, named("rmsnorm"), &p, hot, &h200, &match));
    assert_int_equal(match.entry->line, 6);
    assert_true(match.other_policy);
    assert_true(fabs(match.distance - log(4001. / 8)) < 1e-12);
    config_close(config);
}

/* A point may be legal for its own problem and not for the one asked for: it is passed over. */
static void an_entry_illegal_elsewhere(void **state) {
    (void)state;
    const struct kernel *swiglu = named("swiglu");
    struct problem problem;
    struct config_match match;
    struct device_info small = h200;
    remove_files();
    write_file("nvidia-h200.json",
               H200 "{\"kernel\": \"swiglu\", \"dtype\": \"fp16\", \"policy\": \"cold,stream\", "
                    "\"problem\": \"rows=8\", \"point\": \"block=512,blocks_per_sm=4\"},\n"
                    "{\"kernel\": \"swiglu\", \"dtype\": \"fp16\", \"policy\": \"cold,stream\", "
                    "\"problem\": \"rows=4096\", \"point\": \"block=512,blocks_per_sm=1\"}" END);
    struct config *config = opened(&h200);
    good(problem_parse(swiglu, "rows=8", &problem));
    assert_true(config_find(config, swiglu, &problem, cold, &h200, &match));
    assert_int_equal(match.entry->line, 2);
    small.threads_per_sm = 1024;
    assert_true(config_find(config, swiglu, &problem, cold, &small, &match));
    assert_int_equal(match.entry->line, 3);
    config_close(config);
}

/* --- which file ------------------------------------------------------------------------------- */

static void the_chain(void **state) {
    (void)state;
    remove_files();
    struct config *config = opened(&h200);
    assert_string_equal(config_origin(config), "built-in default");
    assert_string_equal(config_path(config), "");
    assert_int_equal(block_for(config, "rows=1,hidden=3072", cold), -1);
    char wanted[300];
    snprintf(wanted, sizeof wanted, "no %s/nvidia-h200.json; no %s/sm_90.json; built-in default",
             folder, folder);
    assert_string_equal(config_chain(config), wanted);
    config_close(config);
    write_fallback();
    config = opened(&h200);
    snprintf(wanted, sizeof wanted, "no %s/nvidia-h200.json; %s/sm_90.json", folder, folder);
    assert_string_equal(config_chain(config), wanted);
    assert_int_equal(block_for(config, "rows=1,hidden=3072", cold), 192);
    config_close(config);
    write_file("sm_0.json", HEAD("x", "sm_0") END);
    config = opened(&cpu); /* the CPU has no architecture */
    assert_string_equal(config_origin(config), "built-in default");
    config_close(config);
    write_file("cpu.json", HEAD("CPU (whatever it is called)", "cpu") GOOD END);
    config = opened(&cpu);
    assert_int_equal(config_count(config), 1);
    config_close(config);
    config = NULL;
    good(config_open("/nonexistent", &h200, registry_find, &config));
    assert_string_equal(config_origin(config), "built-in default");
    config_close(config);
}

static void not_measured(void **state) {
    (void)state;
    remove_files();
    write_file("tesla-t4.json", "{\"device\": \"Tesla T4\", \"slug\": \"tesla-t4\", \"measured\": "
                                "false, \"entries\": [" GOOD "]}");
    listen_to_stderr();
    struct config *config = opened(&t4);
    const char *said = heard();
    assert_non_null(strstr(said, "tesla-t4.json were compiled and not measured"));
    assert_non_null(strstr(config_origin(config), "tesla-t4.json (not measured)"));
    assert_false(config_measured(config));
    config_close(config);
}

static void slugs(void **state) {
    (void)state;
    const char *const cases[][2] = {{"Tesla T4", "tesla-t4"},
                                    {"NVIDIA H200", "nvidia-h200"},
                                    {"NVIDIA A100-SXM4-40GB", "nvidia-a100-sxm4-40gb"},
                                    {"  (odd)  name! ", "odd-name"},
                                    {"", ""}};
    char slug[96], tiny[4];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        device_slug(cases[i][0], slug, sizeof slug);
        assert_string_equal(slug, cases[i][1]);
    }
    device_slug("Tesla T4", tiny, sizeof tiny);
    assert_string_equal(tiny, "tes");
    /* what stands for an architecture is named as the card names itself */
    const int archs[] = {75, 80, 86, 89, 90, 100, 120};
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
        struct device_info info;
        device_describe_arch(archs[i], &info);
        device_slug(info.name, slug, sizeof slug);
        assert_string_equal(slug, info.slug);
    }
}

/* --- what is refused -------------------------------------------------------------------------- */

#define ENTRY_OF(kernel, dtype, policy, problem, point)                                            \
    H200 GOOD ",\n{\"kernel\": " kernel ", \"dtype\": " dtype ", \"policy\": " policy              \
              ", \"problem\": " problem ", \"point\": " point "}" END
#define RMS "\"rmsnorm\""
#define F16 "\"fp16\""
#define COLD "\"cold,stream\""
#define ROWS "\"rows=1,hidden=3072\""
#define B64 "\"block=64\""

static const struct bad {
    const char *text, *words;
} bad_files[] = {
    /* not JSON, or not all of it */
    {"", ":1: "},
    {"{\"entries\": [", ":1: "},
    {"{\"entries\": [\n{\"kernel\": \"rmsnorm\",\n oops}]}", ":3: "},
    {H200 GOOD, ":2: "}, /* truncated */
    {H200 GOOD END "more", ":4: end of file expected"},
    {"{\n\"entries\": [],\n\"entries\": []}", ":3: duplicate object key"},
    /* the head */
    {"[]", ":1: an array is here; an object"},
    {"{\"device\": \"NVIDIA H200\"}", ":1: no array \"entries\" was found, nothing"},
    {"{\n\"device\": \"NVIDIA H200\",\n\"entries\": 3}", ":3: no array \"entries\" was found"},
    {"{\n\"device\": \"NVIDIA H200\",\n\"slug\": \"nvidia-l4\", \"measured\": true,\n"
     "\"entries\": []}",
     ":3: \"slug\" is nvidia-l4: the file is for another device; \"nvidia-h200\" was expected"},
    {"{\n\"device\": \"NVIDIA L4\",\n\"slug\": \"nvidia-h200\", \"measured\": true,\n"
     "\"entries\": []}",
     ":2: \"device\" is NVIDIA L4: another device than \"nvidia-h200\""},
    {"{\"device\": \"NVIDIA H200\", \"measured\": true, \"entries\": []}", ":1: \"slug\" is miss"},
    {"{\"slug\": \"nvidia-h200\", \"measured\": true, \"entries\": []}", ":1: \"device\" is miss"},
    {"{\"device\": \"NVIDIA H200\", \"slug\": \"nvidia-h200\", \"entries\": []}",
     ":1: \"measured\" is nothing; true or false was expected"},
    {"{\"device\": \"NVIDIA H200\", \"slug\": \"nvidia-h200\",\n\"measured\": 1, \"entries\": []}",
     ":2: \"measured\" is a whole number"},
    /* an entry: the second, which begins in line 3 */
    {H200 GOOD ",\n3" END, ":3: a whole number is here; an entry"},
    {H200 GOOD ",\n{}" END, ":3: no text \"kernel\" was found, nothing"},
    {ENTRY_OF("4", F16, COLD, ROWS, B64), ":3: no text \"kernel\" was found, a whole number"},
    {H200 GOOD ",\n{\"kernel\": \"rmsnorm\", \"dtype\": \"fp16\", \"policy\": \"hot\", "
               "\"problem\": \"rows=1\"}" END,
     ":3: no text \"point\" was found, nothing"},
    {ENTRY_OF(RMS, "\"fp17\"", COLD, ROWS, B64), ":3: dtype 'fp17' is none of fp16, bf16, fp32"},
    {ENTRY_OF(RMS, "\"int32\"", COLD, ROWS, B64), ":3: dtype 'int32' is none of"},
    {ENTRY_OF(RMS, F16, "\"warm,stream\"", ROWS, B64), ":3: policy 'warm,stream': 'warm' is"},
    {ENTRY_OF(RMS, F16, "\"\"", ROWS, B64), ":3: policy is empty"},
    {ENTRY_OF(RMS, F16, COLD, "\"rws=1\"", B64), ":3: rmsnorm has no size 'rws'; did you mean"},
    {ENTRY_OF(RMS, F16, COLD, "\"rows=0\"", B64), ":3: rmsnorm: rows=0 is outside 1 to"},
    {ENTRY_OF(RMS, F16, COLD, "\"rows\"", B64), ":3: 'rows' in 'rows' is not name=value"},
    {ENTRY_OF(RMS, F16, COLD, ROWS, "\"blok=64\""), ":3: rmsnorm has no tunable 'blok'; did you"},
    {ENTRY_OF(RMS, F16, COLD, ROWS, "\"block=65\""), ":3: rmsnorm: block=65 is not one of 32, 64"},
    {ENTRY_OF(RMS, F16, COLD, ROWS, "\"block=32" PLAIN "\""), /* 96 elements a thread */
     ":3: rmsnorm: point block=32,"},
    {ENTRY_OF(RMS, F16, COLD, "\"rows=9,hidden=3072\"", B64),
     ":3: rmsnorm fp16 rows=9,hidden=3072 cold,stream is in line 2 already"},
    {H200 "{\"kernel\": \"rmsnorm\", \"dtype\": \"fp16\", \"policy\": \"hot\", \"problem\": "
          "\"rows=1\", \"point\": \"\", \"median_us\": \"fast\"}" END,
     ":2: \"median_us\" is a text"},
    {H200 "{\"kernel\": \"rmsnorm\", \"dtype\": \"fp16\", \"policy\": \"hot\", \"problem\": "
          "\"rows=1\", \"point\": \"\", \"median_us\": -1.5}" END,
     ":2: \"median_us\" is a number not over 0"},
    {"{\"device\": \"NVIDIA H200\", \"slug\": \"nvidia-h200\", \"measured\": false, \"entries\": "
     "[\n"
     "{\"kernel\": \"rmsnorm\", \"dtype\": \"fp16\", \"policy\": \"hot\", \"problem\": \"rows=1\", "
     "\"point\": \"\", \"median_us\": 3}]}",
     ":2: a time is here and \"measured\" is false"},
};

/* Behind a number jansson passes over it, and what counts lines would end there. */
static void a_byte_0_is_refused(void **state) {
    static const char text[] = "{\"device\": \"NVIDIA H200\", \"slug\": \"nvidia-h200\",\n"
                               "\"measured\": true, \"more\": 1\0, \"entries\": []}";
    char path[600];
    struct config *config = NULL;
    (void)state;
    snprintf(path, sizeof path, "%s/nvidia-h200.json", folder);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, sizeof text - 1, file), sizeof text - 1);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(config_read(path, &h200, registry_find, &config), STATUS_FORMAT);
    assert_null(config);
    if (!strstr(fail_message(), "nvidia-h200.json:2: a byte 0 is here"))
        fail_msg("'%s'", fail_message());
    remove_files();
}

/* Each is said with its line, and the next in the chain is used. */
static void bad_files_are_refused(void **state) {
    (void)state;
    remove_files();
    write_fallback();
    for (size_t i = 0; i < sizeof bad_files / sizeof *bad_files; i++) {
        char wanted[600];
        snprintf(wanted, sizeof wanted, "%s/nvidia-h200.json%s", folder, bad_files[i].words);
        write_file("nvidia-h200.json", bad_files[i].text);
        listen_to_stderr();
        struct config *config = opened(&h200);
        const char *said = heard();
        if (!strstr(said, wanted)) fail_msg("'%s' is not in '%s'", wanted, said);
        if (!strstr(said, "passed over; for NVIDIA H200 this is used: ") ||
            !strstr(said, "sm_90.json\n"))
            fail_msg("'%s' does not say what is used", said);
        assert_non_null(strstr(config_chain(config), "refused "));
        assert_non_null(strstr(config_origin(config), "sm_90.json"));
        assert_int_equal(block_for(config, "rows=1,hidden=3072", cold), 192);
        config_close(config);
        config = NULL;
        snprintf(wanted, sizeof wanted, "%s/nvidia-h200.json", folder);
        assert_int_equal(config_read(wanted, &h200, registry_find, &config), STATUS_FORMAT);
        assert_null(config);
    }
    /* and the same text without its mistake is good */
    write_file("nvidia-h200.json", ENTRY_OF(RMS, F16, COLD, ROWS, "\"block=64" PLAIN "\""));
    struct config *config = opened(&h200);
    assert_int_equal(config_count(config), 2);
    config_close(config);
}

static void bad_after_bad(void **state) {
    (void)state;
    remove_files();
    write_file("nvidia-h200.json", "{");
    write_file("sm_90.json", HEAD("x", "sm_89") GOOD END);
    listen_to_stderr();
    struct config *config = opened(&h200);
    const char *said = heard();
    assert_non_null(strstr(said, "nvidia-h200.json:1: "));
    assert_non_null(strstr(said, "sm_90.json:1: \"slug\" is sm_89"));
    assert_non_null(strstr(said, "this is used: built-in default"));
    assert_int_equal(config_count(config), 0);
    config_close(config);
    remove_files();
    char path[200];
    snprintf(path, sizeof path, "%s/nvidia-h200.json", folder);
    assert_int_equal(mkdir(path, 0700), 0); /* no file at all */
    listen_to_stderr();
    config = opened(&h200);
    assert_non_null(strstr(heard(), "nvidia-h200.json:1: could not be read"));
    config_close(config);
    remove_files();
}

/* Kernels come from folders, too: an entry for one that is not here costs itself alone. */
static void an_unknown_kernel(void **state) {
    (void)state;
    remove_files();
    write_file("nvidia-h200.json", ENTRY_OF("\"rmsnrm\"", F16, COLD, ROWS, "\"any=1\""));
    listen_to_stderr();
    struct config *config = opened(&h200);
    const char *said = heard();
    if (!strstr(said, "nvidia-h200.json:3: ") || !strstr(said, "'rmsnorm'") ||
        !strstr(said, "the entry is left out"))
        fail_msg("'%s'", said);
    assert_int_equal(config_count(config), 1);
    assert_int_equal(config_left_out(config), 1);
    assert_int_equal(block_for(config, "rows=1,hidden=3072", cold), 64);
    config_close(config);
}

/* Lines are found by a scan of our own: brackets, quotes and commas in texts, entries in one line
 * and keys of the same name elsewhere must not lead it astray. */
static void lines(void **state) {
    (void)state;
    remove_files();
    write_file(
        "nvidia-h200.json",
        "{\"device\": \"NVIDIA H200\", \"note\": \"entries\", \"odd\": {\"entries\": [1,\n2, "
        "{\"slug\": 3}]},\n\"words\": \"]} \\\" , [{\\\\\", \"slug\": \"nvidia-h200\",\n"
        "\"list\": [[1, 2], [],\n{}], \"measured\": true, \"entries\"\n:\n[" ENTRY(
            "hot", "rows=1,hidden=3072",
            "block=64") ", " ENTRY("hot", "rows=2,hidden=3072",
                                   "block=64") "\n,\n\n{\"tags\": [\"a, \\\"]\", "
                                               "{\"x\": [1,2]}], \"kernel\": \"rmsnorm\"}]}");
    listen_to_stderr();
    struct config *config = opened(&h200);
    const char *said = heard();
    if (!strstr(said, "nvidia-h200.json:10: no text \"dtype\"")) fail_msg("'%s'", said);
    config_close(config);
}

/* The files of this tree. */
static void our_own_files(void **state) {
    (void)state;
    struct config *config;
    good(config_read("configs/nvidia-h200.json", &h200, registry_find, &config));
    assert_true(config_measured(config) && config_count(config) > 300);
    assert_int_equal(config_left_out(config), 0);
    config_close(config);
    good(config_read("configs/tesla-t4.json", &t4, registry_find, &config));
    assert_false(config_measured(config)); /* nobody timed anything on one */
    const struct policy policies[] = {{RESIDENCY_WEIGHTS_COLD, LAUNCH_GRAPH}, cold};
    int problems = 0;
    for (int k = 0; k < registry_count(); k++)
        for (int i = 0; i < registry_at(k)->problem_count; i++)
            for (int p = 0; p < 2 && kernel_runs_on(registry_at(k), &t4); p++, problems++) {
                struct config_match match;
                struct problem problem = registry_at(k)->problems[i];
                assert_true(
                    config_find(config, registry_at(k), &problem, policies[p], &t4, &match));
                assert_true(match.distance == 0 && !match.other_policy);
                assert_true(match.entry->median_us == 0);
            }
    assert_int_equal(config_count(config), problems);
    config_close(config);
}

/* ---------------------------------------------------------------------------------------------- */

static int set_up(void **state) {
    (void)state;
    device_describe_arch(90, &h200);
    device_describe_arch(75, &t4);
    device_describe_cpu(&cpu);
    snprintf(folder, sizeof folder, "/tmp/fastinfer-config-XXXXXX");
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
        cmocka_unit_test(nearest_entries),
        cmocka_unit_test(an_entry_illegal_elsewhere),
        cmocka_unit_test(the_chain),
        cmocka_unit_test(not_measured),
        cmocka_unit_test(slugs),
        cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(a_byte_0_is_refused),
        cmocka_unit_test(bad_after_bad),
        cmocka_unit_test(an_unknown_kernel),
        cmocka_unit_test(lines),
        cmocka_unit_test(our_own_files),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
