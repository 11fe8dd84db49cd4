/* test_kernels.c - every kernel of the registry against fp64, point by point.
 *
 * On the CPU device: small and awkward problems, a seeded sample of each one's points with the
 * default among them, under the forward, the reverse and a shuffled schedule; the work is shared
 * among processes, since one runs one launch at a time. Beside that: the `check` entries, what
 * NVRTC makes of the points, the sizes of the spaces, a kernel from outside the tree.
 *
 * Of a shape's points the first CHUNK, which hold every value of every tunable, run on all of its
 * problems, the others on one each in turn.
 *
 *   FASTINFER_TEST_POINTS   points of a kernel's first shape in fp16 (60), of its other shapes and
 *                           of the other dtypes a quarter of it; different ones in all at least
 *                           5/3 of it (100), or all that there are; fewer than 25: a
 *                           look under a sanitizer, at one problem's space and for sm_75
 *   FASTINFER_TEST_SEED     of samples, inputs and shuffles
 *   FASTINFER_TEST_DEVICE   cuda:0: the same there in one process, and problems of 4096 rows
 *   FASTINFER_TEST_SMALL    1: without those
 *   FASTINFER_TEST_KERNEL   only this kernel
 */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness/verify.h"
#include "kernels/registry.h"

#include <cmocka.h> /* last: its macro fail() hides the function */

enum {
    POINTS = 60, /* by default */
    CHUNK = 25,  /* points of a job: one call of the compiler */
    LARGE_POINTS = 12,
    CUDA_POINTS = 12, /* a kernel, for sm_75 */
    SCHEDULES = 3,
    MAX_JOBS = 4096,
    MAX_WORKERS = 64,
    MAX_SHOWN = 20, /* failures a job shows */
};

/* Problems with the same compiled sizes: what they have in common, and the rest. */
struct shape {
    const char *kernel, *compiled, *rest[16];
};
#define GEMV "outputs=1", "outputs=37", "outputs=530"
#define ROWS "rows=1", "rows=3", "rows=37"
static const struct shape shapes[] = {
    {"rmsnorm", "hidden=264", {ROWS}}, /* 33 vectors of 16 bytes */
    {"rmsnorm", "hidden=1000", {ROWS}},
    {"rmsnorm", "hidden=2048", {"rows=1", "rows=9"}},
    {"add_rmsnorm", "hidden=264", {ROWS}},
    {"add_rmsnorm", "hidden=1000", {ROWS}},
    {"add_rmsnorm", "hidden=2048", {"rows=1", "rows=9"}},
    {"swiglu", "width=1001,packed=0", {ROWS}}, /* no vector divides it */
    {"swiglu", "width=1000,packed=1", {ROWS}},
    {"swiglu", "width=96,packed=1", {ROWS, "rows=1000"}},
    {"rope", "q_heads=3,kv_heads=1,head_dim=64,adjacent=0,positions=4096", {ROWS}},
    {"rope", "q_heads=3,kv_heads=2,head_dim=128,adjacent=1,positions=4096", {ROWS}},
    {"rope", "q_heads=3,kv_heads=2,head_dim=128,adjacent=0,positions=4096", {ROWS}},
    {"rope", "q_heads=3,kv_heads=1,head_dim=64,adjacent=1,positions=4096", {ROWS}},
    {"rope_kv_append",
     "kv_heads=3,head_dim=128,adjacent=0,positions=4096",
     {"rows=150,sequences=1,capacity=151", "rows=1,sequences=1,capacity=1",
      "rows=3,sequences=3,capacity=5", "rows=37,sequences=3,capacity=13",
      "rows=37,sequences=3,capacity=40"}},
    {"rope_kv_append",
     "kv_heads=3,head_dim=64,adjacent=1,positions=4096",
     {"rows=1,sequences=3,capacity=2", "rows=3,sequences=1,capacity=4096",
      "rows=37,sequences=3,capacity=14"}},
    {"stream",
     "",
     {"read_bytes=19760,write_bytes=19760", "read_bytes=39520,write_bytes=19760",
      "read_bytes=47952,write_bytes=15984", "read_bytes=30000,write_bytes=0",
      "read_bytes=0,write_bytes=30000", "read_bytes=5328,write_bytes=15984",
      "read_bytes=16,write_bytes=16", "read_bytes=16,write_bytes=0", "read_bytes=0,write_bytes=16",
      "read_bytes=112,write_bytes=80", "read_bytes=262160,write_bytes=131088",
      "read_bytes=200016,write_bytes=16"}},
    {"embed", "hidden=264", {"rows=1,vocab=1", "rows=3,vocab=7", "rows=37,vocab=50"}},
    {"embed", "hidden=1001", {"rows=1,vocab=3", "rows=37,vocab=50"}}, /* no vector divides it */
    {"norm_wide", "hidden=264", {ROWS}},
    {"norm_wide", "hidden=1001", {ROWS}},
    {"norm_wide", "hidden=2048", {"rows=1", "rows=9"}},
    {"sample", /* settings of all kinds with an odd seed: the first, third and fifth problem */
     "",
     {"vocab=4100,batch=1,capacity=9", "vocab=4100,batch=2,capacity=9",
      "vocab=1100,batch=7,capacity=3", "vocab=1,batch=2,capacity=4",
      "vocab=37,batch=6,capacity=4"}},
    {"sample",
     "",
     {"vocab=1021,batch=1,capacity=9", "vocab=1021,batch=1,capacity=1",
      "vocab=1021,batch=5,capacity=2"}},
    {"attention_decode",
     "heads=3,kv_heads=1,head_dim=64,qk_norm=0,rope=1",
     {"batch=3,capacity=70,window=0,context=70", "batch=2,capacity=300,window=37,context=260",
      "batch=1,capacity=1,window=0,context=1"}},
    {"attention_decode",
     "heads=4,kv_heads=2,head_dim=128,qk_norm=1,rope=0",
     {"batch=2,capacity=90,window=0,context=88", "batch=1,capacity=600,window=0,context=600"}},
    {"attention_decode",
     "heads=7,kv_heads=1,head_dim=80,qk_norm=1,rope=1",
     {"batch=2,capacity=90,window=0,context=88"}},
    {"qkv_append",
     "heads=3,kv_heads=1,head_dim=64,qk_norm=1,rope=1,bias=1",
     {"rows=1,start=0,capacity=1", "rows=37,start=5,capacity=50"}},
    {"qkv_append",
     "heads=4,kv_heads=2,head_dim=128,qk_norm=0,rope=1,bias=0",
     {"rows=37,start=300,capacity=340", "rows=5,start=0,capacity=5"}},
    {"qkv_append",
     "heads=7,kv_heads=1,head_dim=80,qk_norm=1,rope=0,bias=1",
     {"rows=9,start=1,capacity=10"}},
    {"attention_prefill",
     "heads=3,kv_heads=1,head_dim=64",
     {"rows=37,start=0,capacity=37,window=0", "rows=1,start=70,capacity=80,window=0",
      "rows=150,start=33,capacity=190,window=40"}},
    {"attention_prefill",
     "heads=4,kv_heads=2,head_dim=128",
     {"rows=70,start=100,capacity=200,window=0", "rows=1,start=0,capacity=1,window=0"}},
    {"attention_prefill",
     "heads=2,kv_heads=2,head_dim=80",
     {"rows=40,start=3,capacity=50,window=1", "rows=9,start=200,capacity=210,window=300"}},
    {"decode_step",
     "hidden=64,intermediate=96,heads=3,kv_heads=1,head_dim=64",
     {"vocab=80,layers=2,capacity=5", "vocab=8,layers=1,capacity=70"}},
    {"decode_step",
     "hidden=136,intermediate=72,heads=4,kv_heads=2,head_dim=128,qk_norm=1,qkv_bias=1,"
     "o_bias=1",
     {"vocab=96,layers=2,capacity=33"}},
    {"decode_step",
     "batch=3,hidden=72,intermediate=104,heads=3,kv_heads=1,head_dim=64,qkv_bias=1",
     {"vocab=24,layers=2,capacity=70"}},
    {"decode_step",
     "batch=10,hidden=64,intermediate=264,heads=2,kv_heads=2,head_dim=64",
     {"vocab=32,layers=1,capacity=40"}},
    {"decode_step", /* tiles of which the last is narrower, in whole chunks of 64 columns */
     "hidden=576,intermediate=1088,heads=2,kv_heads=1,head_dim=64",
     {"vocab=8,layers=1,capacity=9"}},
    {"gemv", "batch=1,inputs=264,bias=0", {GEMV}},
    {"gemv", "batch=3,inputs=1001,bias=1", {"outputs=3", "outputs=37"}}, /* no vector divides it */
    {"gemv", "batch=1,inputs=3072,bias=1", {"outputs=1", "outputs=130"}},
    {"gemv", "batch=16,inputs=11008,bias=0", {"outputs=5"}}, /* no shared memory holds it */
    {"gemv_residual", "batch=1,inputs=264,bias=1", {GEMV}},
    {"gemv_residual", "batch=5,inputs=1000,bias=0", {GEMV}},
    {"gemv_residual", "batch=1,inputs=11008,bias=0", {"outputs=19"}},
    {"gemv_norm", "batch=1,inputs=264,bias=1", {GEMV}},
    {"gemv_norm", "batch=3,inputs=1001,bias=0", {"outputs=3", "outputs=37"}},
    {"gemv_norm", "batch=1,inputs=2048,bias=0", {"outputs=1", "outputs=130"}},
    {"gemv_norm", "batch=16,inputs=1000,bias=1", {"outputs=37"}},
    {"gemv_norm_swiglu", "batch=1,inputs=264", {GEMV}},
    {"gemv_norm_swiglu", "batch=3,inputs=1001", {"outputs=3", "outputs=37"}},
    {"gemv_norm_swiglu", "batch=1,inputs=2048", {"outputs=1", "outputs=130"}},
    {"gemv_norm_swiglu", "batch=16,inputs=1000", {"outputs=37"}},
    {"scale2", "", {"elements=1", "elements=7", "elements=1001", "elements=65536"}}, /* outside */
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* Of a GPU alone: activations in four pieces there, which tiles of 64 columns show on the CPU
 * device. */
static const struct shape on_gpu[] = {
    {"decode_step",
     "batch=16,hidden=1024,intermediate=8192,heads=8,kv_heads=2,head_dim=128",
     {"vocab=64,layers=3,capacity=40"}}};

static struct {
    struct device *device;
    struct support support;
    struct target target;
    bool gpu, small;
    uint64_t seed;
    int points;
    double bound; /* of the point whose check entry is compared */
} t;

static int at_most(int most, int n) { return n < most ? n : most; }
static int at_least(int least, int n) { return n > least ? n : least; }

static double now_s(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* --- jobs, shared among processes ------------------------------------------------------------ */

static struct { /* in memory that the processes share */
    atomic_int next, failures;
    atomic_long runs;
    char doing[MAX_WORKERS][1600];
} * shared;
static char *doing; /* of this process: what failures are reported with */
static int shown;

static void report(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void report(const char *format, ...) {
    char words[1000], line[3000];
    va_list list;
    atomic_fetch_add(&shared->failures, 1);
    if (shown++ >= MAX_SHOWN) return;
    va_start(list, format);
    vsnprintf(words, sizeof words, format, list);
    va_end(list);
    int n = snprintf(line, sizeof line, "FAILED %s: %s%s\n", doing, words,
                     shown == MAX_SHOWN ? " (and maybe others)" : "");
    if (write(2, line, (size_t)at_most(sizeof line - 1, n)) < 0) return;
}

static void work(void (*job)(int), int count, int worker) {
    doing = shared->doing[worker];
    for (int i; (i = atomic_fetch_add(&shared->next, 1)) < count;) {
        shown = 0, doing[0] = 0;
        job(i);
    }
}

extern void __gcov_dump(void) __attribute__((weak)); /* config=coverage: _exit() forgets it */

static pid_t start_worker(void (*job)(int), int count, int worker) {
    static const int ends[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS};
    pid_t child = fork();
    if (child) return child;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) signal(ends[i], SIG_DFL);
    if (t.gpu)
        alarm(240); /* NVRTC beside a copied CUDA context: never seen to hang, but who knows */
    work(job, count, worker);
    if (__gcov_dump) __gcov_dump();
    _exit(0);
}

/* job(0) to job(count - 1): in as many processes as there are cores, or, `here`, in this one.
 * Returns how many things went wrong; a job calls report() and nothing of cmocka's. */
static int run_jobs(void (*job)(int), int count, bool here) {
    pid_t child[MAX_WORKERS];
    int workers = at_most(at_most(MAX_WORKERS, count), (int)sysconf(_SC_NPROCESSORS_ONLN));
    atomic_store(&shared->next, 0), atomic_store(&shared->failures, 0);
    atomic_store(&shared->runs, 0);
    fflush(stdout), fflush(stderr);
    if (here) work(job, count, 0);
    for (int i = 0; i < workers && !here; i++) {
        shared->doing[i][0] = 0;
        child[i] = start_worker(job, count, i);
    }
    for (int i = 0; i < workers && !here; i++) {
        int state = 0;
        if (child[i] > 0) waitpid(child[i], &state, 0);
        if (child[i] > 0 && !state) continue;
        doing = shared->doing[i], shown = 0;
        report("the process died (signal %d, exit code %d)", WTERMSIG(state), WEXITSTATUS(state));
    }
    return atomic_load(&shared->failures);
}

/* --- points ---------------------------------------------------------------------------------- */

static struct job {
    const struct kernel *kernel;
    const struct shape *shape;
    enum dtype dtype;
    bool first; /* of its shape: every point on every problem */
    int count;
    struct point point[CHUNK];
} jobs[MAX_JOBS];
static int job_count;

/* What is said of a kernel at the end. */
static struct summary {
    int largest, tested, problems, distinct;
    unsigned dtypes;
    struct point seen[MAX_JOBS];
} summary;

static bool to_problem(const struct kernel *kernel, const struct shape *shape, int i,
                       enum dtype dtype, struct problem *out) {
    char text[MAX_TEXT];
    const char *rest = shape->rest[i] ? shape->rest[i] : "";
    snprintf(text, sizeof text, "%s%s%s", shape->compiled, *shape->compiled && *rest ? "," : "",
             rest);
    if (problem_parse(kernel, text, out)) return false;
    out->dtype = dtype;
    return true;
}

static int rests(const struct shape *shape) {
    int n = 0;
    while (n < (int)(sizeof shape->rest / sizeof *shape->rest) && shape->rest[n]) n++;
    return at_least(1, n);
}

static void describe(const struct kernel *kernel, const struct problem *problem,
                     const struct point *point, int schedule, uint64_t seed) {
    char text[MAX_TEXT], values[MAX_TEXT] = "";
    problem_format(kernel, problem, text);
    if (point) point_format(kernel, point, values);
    snprintf(doing, sizeof shared->doing[0], "%s %s %s %s, schedule %d, seed %llu", kernel->name,
             dtype_name(problem->dtype), text, values, schedule, (unsigned long long)seed);
}

static int64_t outputs(const struct subject *s) {
    int64_t n = 0;
    for (int i = 0; i < s->kernel->argument_count; i++)
        if (s->kernel->arguments[i].role != ROLE_IN) n += s->kernel->elements(&s->problem, i);
    return n;
}

static void verify_point(struct subject *s, const struct point *point) {
    struct variant variant;
    struct verdict verdict;
    describe(s->kernel, &s->problem, point, 0, s->seed);
    if (variant_open(t.device, s->kernel, &s->problem, point, &variant)) {
        report("%s", fail_message());
        return;
    }
    for (int schedule = 0; schedule < (t.gpu ? 1 : SCHEDULES); schedule++) {
        describe(s->kernel, &s->problem, point, schedule, s->seed);
        device_cpu_schedule(schedule, s->seed);
        enum status status = verify_variant(s, &variant, &verdict);
        if (status)
            report("%s: %s", status_text(status), verdict.reason);
        else if (!(verdict.worst <= 1) || verdict.elements != outputs(s))
            report("passed with %.3g of its bound and %lld elements of %lld", verdict.worst,
                   (long long)verdict.elements, (long long)outputs(s));
        atomic_fetch_add(&shared->runs, 1);
    }
    variant_close(t.device, &variant);
}

/* All points of a job at once, so that verify_point() finds them in the cache. */
static void compile_job(int index) {
    const struct job *job = &jobs[index];
    struct build builds[CHUNK];
    struct problem problem;
    if (!to_problem(job->kernel, job->shape, 0, job->dtype, &problem)) return;
    describe(job->kernel, &problem, &job->point[0], 0, 0);
    if (compile_points(job->kernel, &problem, job->point, job->count, t.target, builds))
        report("compiling: %s", fail_message());
}

/* Does point k of a job run on problem i of its shape? On the one whose turn it is, a whole model's
 * step on the last, its shallowest, or, where it is not legal there, on all. */
static bool is_wanted(const struct job *job, int k, int i) {
    int count = rests(job->shape), turn = job->kernel->host_check ? count - 1 : k % count;
    struct problem problem;
    if (job->first || i == turn) return true;
    return to_problem(job->kernel, job->shape, turn, job->dtype, &problem) &&
           !job->kernel->legal(&problem, &job->point[k], &t.device->info, NULL);
}

static void verify_job(int index) {
    const struct job *job = &jobs[index];
    compile_job(index);
    for (int i = 0; i < rests(job->shape); i++) {
        struct problem problem;
        struct subject *subject;
        uint64_t seed = t.seed + (uint64_t)i; /* both parities: rope's positions depend on it */
        snprintf(doing, sizeof shared->doing[0], "%s %s", job->kernel->name, job->shape->compiled);
        if (!to_problem(job->kernel, job->shape, i, job->dtype, &problem) ||
            subject_open(&t.support, job->kernel, &problem, seed, 1, &subject)) {
            report("%s", fail_message());
            continue;
        }
        for (int k = 0; k < job->count; k++)
            if (is_wanted(job, k, i) &&
                job->kernel->legal(&problem, &job->point[k], &t.device->info, NULL))
                verify_point(subject, &job->point[k]);
        subject_close(subject);
    }
}

static bool holds(const struct kernel *kernel, const struct point *points, int count,
                  const struct point *point) {
    for (int i = 0; i < count; i++)
        if (point_equal(kernel, &points[i], point)) return true;
    return false;
}

/* Every value that a tunable has in a space is among the first CHUNK points of its sample. */
static void assert_values_covered(const struct kernel *kernel, const struct point *space,
                                  int space_count, const struct point *sample) {
    for (int v = 0; v < kernel->tunable_count; v++)
        for (int i = 0; i < space_count; i++) {
            int k = 0;
            while (k < CHUNK && sample[k].value[v] != space[i].value[v]) k++;
            if (k == CHUNK)
                fail_msg("%s: no point of the first %d has %s=%d", kernel->name, CHUNK,
                         kernel->tunables[v].name, space[i].value[v]);
        }
}

/* `count` sampled points of a shape, its default always among them, in jobs of CHUNK. */
static void add_jobs(const struct kernel *kernel, const struct shape *shape, enum dtype dtype,
                     int count) {
    struct problem problem;
    struct point *space = NULL, *sample = NULL, first;
    int space_count = 0, sample_count = 0;
    if (!to_problem(kernel, shape, 0, dtype, &problem) ||
        space_enumerate(kernel, &problem, &t.device->info, &space, &space_count) ||
        space_default(kernel, &problem, &t.device->info, &first) ||
        space_sample(kernel, space, space_count, count, t.seed + (uint64_t)job_count, &sample,
                     &sample_count))
        fail_msg("%s: %s", kernel->name, fail_message());
    if (!holds(kernel, sample, sample_count, &first)) sample[sample_count - 1] = first;
    if (sample_count >= CHUNK) assert_values_covered(kernel, space, space_count, sample);
    for (int i = 0; i < sample_count; i++) {
        if (i % CHUNK == 0) {
            assert_true(job_count < MAX_JOBS);
            jobs[job_count++] = (struct job){
                .kernel = kernel, .shape = shape, .dtype = dtype, .first = t.gpu || i == 0};
        }
        struct job *job = &jobs[job_count - 1];
        job->point[job->count++] = sample[i];
        if (summary.distinct < MAX_JOBS &&
            !holds(kernel, summary.seen, summary.distinct, &sample[i]))
            summary.seen[summary.distinct++] = sample[i];
    }
    summary.largest = at_least(summary.largest, space_count);
    summary.tested += sample_count, summary.problems += rests(shape);
    summary.dtypes |= 1u << dtype;
    free(space), free(sample);
}

/* fp16 everywhere, the other dtypes on a kernel's first two shapes. After the first shape a quarter
 * of the points; of a whole model's step, which takes its time, an eighth, also in bf16. */
static void add_shape(const struct kernel *kernel, const struct shape *shape, int number,
                      int points) {
    if (number && !t.gpu)
        points = at_least(at_most(8, points), points / (kernel->host_check ? 8 : 4));
    for (int dtype = 0; dtype < DTYPE_COUNT; dtype++)
        if (kernel->dtypes >> dtype & 1 && (dtype == DTYPE_F16 || number < 2))
            add_jobs(kernel, shape, (enum dtype)dtype,
                     dtype == DTYPE_F16
                         ? points
                         : at_least(at_most(4, points), points / (kernel->host_check ? 8 : 4)));
}

/* Different points of a kernel that are wanted, over all its shapes and dtypes. */
static int wanted(void) {
    return at_most(summary.largest, t.points < CHUNK ? t.points : (5 * t.points + 2) / 3);
}

static void add_kernel(const struct kernel *kernel) {
    static struct shape own = {"", "", {NULL}}, large = {"", "", {NULL}};
    static char text[MAX_TEXT];
    int number = 0;
    job_count = 0, summary = (struct summary){0};
    for (int i = 0; i < SHAPES; i++)
        if (!strcmp(shapes[i].kernel, kernel->name))
            add_shape(kernel, &shapes[i], number++, t.points);
    for (size_t i = 0; i < sizeof on_gpu / sizeof *on_gpu && t.gpu && !t.small; i++)
        if (!strcmp(on_gpu[i].kernel, kernel->name))
            add_shape(kernel, &on_gpu[i], 2, at_most(LARGE_POINTS, t.points));
    if (!number) { /* nobody wrote problems for it: what bench would verify its first one with */
        struct problem odd = verify_odd_problem(kernel, &kernel->problems[0]);
        problem_format(kernel, &odd, text);
        own.compiled = text;
        add_shape(kernel, &own, 0, t.points);
    }
    for (int i = 0; i < 8 && summary.distinct < wanted(); i++) /* each with a seed of its own */
        add_jobs(kernel, jobs[0].shape, DTYPE_F16,
                 at_most(CHUNK, wanted() - summary.distinct + 1 + wanted() / 16)); /* the default */
    if (t.gpu && !t.small) { /* its defaults, 4096 rows: judged by the check entry */
        struct problem problem = problem_default(kernel);
        if (problem_bytes(kernel, &problem) > (double)HOST_ELEMENTS)
            add_shape(kernel, &large, 0, at_most(LARGE_POINTS, t.points));
    }
}

/* Verifies every job of a kernel; prints what was done. */
static bool left_out(const struct kernel *kernel) {
    const char *only = getenv("FASTINFER_TEST_KERNEL");
    return only && *only && strcmp(only, kernel->name) != 0;
}

static void verify_kernel(const struct kernel *kernel) {
    if (left_out(kernel)) return;
    double start = now_s();
    add_kernel(kernel);
    if (t.gpu) run_jobs(compile_job, job_count, false); /* NVRTC alone: no context is touched */
    int failures = run_jobs(verify_job, job_count, t.gpu);
    long runs = atomic_load(&shared->runs);
    printf("%s: %d points in the largest space, %d tested (%d different), %d problems,",
           kernel->name, summary.largest, summary.tested, summary.distinct, summary.problems);
    for (int i = 0; i < DTYPE_COUNT; i++)
        if (summary.dtypes >> i & 1) printf(" %s", dtype_name((enum dtype)i));
    printf(", %ld verifications, seed %llu, %.1f s\n", runs, (unsigned long long)t.seed,
           now_s() - start);
    if (failures) fail_msg("%s: %d failures", kernel->name, failures);
    assert_true(summary.distinct >= wanted());
    assert_true(runs >= summary.tested);
}

static void points_are_right(void **state) { verify_kernel(*state); }

/* --- check entries --------------------------------------------------------------------------- */

static enum status judge_on_host(struct subject *s, struct verdict *verdict) {
    struct allowance allowance = {dtype_roundoff(s->problem.dtype), t.bound * 0x1p-24, 1};
    return verify_host(s, allowance, verdict);
}

/* A value just beyond any bound of element `index`, terms that cancel to a 16th of their sum of
 * absolute values included, or with `index` an end of the array NaN. */
static void spoil(const struct subject *s, int argument, void *array, int64_t index, int64_t n) {
    enum dtype dtype = argument_dtype(&s->kernel->arguments[argument], &s->problem);
    double value = dtype_load(dtype, array, index);
    double beyond = 4 * dtype_roundoff(dtype) + 64 * t.bound * 0x1p-24;
    if (dtype == DTYPE_U8)
        ((uint8_t *)array)[index] ^= 1;
    else if (dtype == DTYPE_I32)
        ((int32_t *)array)[index] ^= 0x40000000;
    else if (index == 0 || index == n - 1)
        dtype_store(dtype, array, index, NAN);
    else
        dtype_store(dtype, array, index, (float)(value * (1 + beyond)));
}

/* Of the elements of an output: the largest, where the bound is tightest against the value. */
static int64_t largest(enum dtype dtype, const void *array, int64_t n) {
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++)
        if (fabs(dtype_load(dtype, array, i)) > fabs(dtype_load(dtype, array, at))) at = i;
    return at;
}

/* Spoils one element of the output held by set 0: both judges must name it. Then puts it back. */
static void both_catch(struct subject *s, int argument, const void *right, int64_t index) {
    struct verdict host = {0}, device = {0};
    char name[64];
    int64_t n = s->kernel->elements(&s->problem, argument);
    void *wrong = malloc(s->bytes[argument]);
    memcpy(wrong, right, s->bytes[argument]);
    spoil(s, argument, wrong, index, n);
    t.device->ops->upload(t.device, s->pointer[0][argument], wrong, s->bytes[argument]);
    snprintf(name, sizeof name, "%s[%lld] is ", s->kernel->arguments[argument].name,
             (long long)index);
    enum status by_host = judge_on_host(s, &host), by_device = verify_device(s, t.bound, &device);
    if (by_host != STATUS_INCORRECT || strncmp(host.reason, name, strlen(name)))
        report("%sspoiled; the host: %s, %s", name, status_text(by_host), host.reason);
    if (by_device != STATUS_INCORRECT || strncmp(device.reason, name, strlen(name)))
        report("%sspoiled; the check entry: %s, %s", name, status_text(by_device), device.reason);
    if (!(host.worst > 1 && device.worst > 1))
        report("%sspoiled, and yet %g and %g of the bound", name, host.worst, device.worst);
    t.device->ops->upload(t.device, s->pointer[0][argument], right, s->bytes[argument]);
    free(wrong);
}

static void compare_judges(struct subject *s) {
    struct verdict host = {0}, device = {0};
    enum status by_host = judge_on_host(s, &host), by_device = verify_device(s, t.bound, &device);
    if (by_host) report("the host: %s", host.reason);
    if (by_device) report("the check entry: %s %s", device.reason, fail_message());
    if (host.elements != device.elements || fabs(host.worst - device.worst) > 1e-6)
        report("the host: %lld elements, %.9g of the bound; the check entry: %lld, %.9g",
               (long long)host.elements, host.worst, (long long)device.elements, device.worst);
    for (int i = 0; i < s->kernel->argument_count; i++) {
        int64_t n = s->kernel->elements(&s->problem, i);
        if (s->kernel->arguments[i].role == ROLE_IN || !n) continue;
        enum dtype dtype = argument_dtype(&s->kernel->arguments[i], &s->problem);
        void *right = malloc(s->bytes[i]);
        t.device->ops->download(t.device, right, s->pointer[0][i], s->bytes[i]);
        const int64_t spots[] = {0, n - 1, largest(dtype, right, n)};
        for (int k = 0; k < 3; k++) both_catch(s, i, right, spots[k]);
        free(right);
    }
}

/* The last problem of a shape: the default's output, as it is and spoiled, before both judges. */
static void check_job(int index) {
    const struct job *job = &jobs[index];
    struct problem problem;
    struct point point;
    struct subject *subject;
    struct variant variant;
    struct verdict verdict;
    snprintf(doing, sizeof shared->doing[0], "%s %s", job->kernel->name, job->shape->compiled);
    if (!to_problem(job->kernel, job->shape, rests(job->shape) - 1, job->dtype, &problem) ||
        space_default(job->kernel, &problem, &t.device->info, &point) ||
        subject_open(&t.support, job->kernel, &problem, t.seed, 1, &subject)) {
        report("%s", fail_message());
        return;
    }
    describe(job->kernel, &problem, &point, 0, t.seed);
    t.bound = kernel_bound(job->kernel, &problem, &point);
    if (variant_open(t.device, job->kernel, &problem, &point, &variant)) {
        report("%s", fail_message());
    } else {
        if (verify_variant(subject, &variant, &verdict))
            report("%s", verdict.reason);
        else
            compare_judges(subject);
        variant_close(t.device, &variant);
    }
    subject_close(subject);
}

static void check_kernel(const struct kernel *kernel) {
    int number = 0;
    if (kernel->host_check || left_out(kernel)) return;
    job_count = 0;
    for (int i = 0; i < SHAPES; i++) {
        if (strcmp(shapes[i].kernel, kernel->name)) continue;
        for (int dtype = 0; dtype < DTYPE_COUNT; dtype++)
            if (kernel->dtypes >> dtype & 1 && (dtype == DTYPE_F16 || !number))
                jobs[job_count++] =
                    (struct job){.kernel = kernel, .shape = &shapes[i], .dtype = (enum dtype)dtype};
        number++;
    }
    int failures = run_jobs(check_job, job_count, t.gpu);
    if (failures) fail_msg("%s: %d failures", kernel->name, failures);
    assert_true(number > 0); /* a kernel of ours has to be in `shapes` */
}

static void check_entries_agree_with_the_host(void **state) {
    (void)state;
    for (int i = 0; i < registry_count(); i++) check_kernel(registry_at(i));
}

/* --- NVRTC ----------------------------------------------------------------------------------- */

static struct cuda_job {
    const struct kernel *kernel; /* NULL: support.cu */
    struct problem problem;
    struct point point;
    int arch;
    enum { DEFAULT, SAMPLED, CHECK } what;
} cuda_jobs[MAX_JOBS];
static int cuda_job_count;

static void cuda_job_run(int index) {
    const struct cuda_job *job = &cuda_jobs[index];
    struct target target = {DEVICE_CUDA, job->arch};
    struct build build = {0};
    enum status status;
    if (job->kernel)
        describe(job->kernel, &job->problem, &job->point, 0, t.seed);
    else
        snprintf(doing, sizeof shared->doing[0], "support.cu");
    if (!job->kernel)
        status = compile_support(target, &build);
    else if (job->what == CHECK)
        status = compile_check(job->kernel, &job->problem, target, &build);
    else
        status = compile_points(job->kernel, &job->problem, &job->point, 1, target, &build);
    if (status || build.status)
        report("sm_%d: %s", job->arch, status ? fail_message() : build.log);
    else if (job->what == DEFAULT && (build.spill_bytes != 0 || build.registers <= 0))
        report("sm_%d: %d registers, %d bytes spilled", job->arch, build.registers,
               build.spill_bytes);
}

static void add_cuda_default(const struct kernel *kernel, const struct problem *problem, int arch) {
    struct device_info info;
    struct cuda_job *job = &cuda_jobs[cuda_job_count++];
    device_describe_arch(arch, &info);
    *job = (struct cuda_job){kernel, *problem, {{0}}, arch, DEFAULT};
    if (space_default(kernel, problem, &info, &job->point)) fail_msg("%s", fail_message());
}

static bool same_compiled(const struct kernel *kernel, const struct problem *a,
                          const struct problem *b) {
    for (int i = 0; i < kernel->size_count; i++)
        if (kernel->sizes[i].compiled && a->size[i] != b->size[i]) return false;
    return true;
}

/* Defaults of all shapes among the standard problems in fp16, of the first in every dtype. No
 * source tells sm_86 and sm_89 from sm_80: there the first shape is enough. */
static void add_cuda_defaults(const struct kernel *kernel, int arch) {
    int problems = arch == 86 || arch == 89 || t.points < CHUNK ? 1 : kernel->problem_count;
    if (arch < kernel->least_arch || left_out(kernel)) return;
    for (int i = 0; i < problems; i++) {
        bool again = false;
        for (int k = 0; k < i && !again; k++)
            again = same_compiled(kernel, &kernel->problems[i], &kernel->problems[k]);
        for (int dtype = 0; dtype < DTYPE_COUNT && !again; dtype++) {
            struct problem problem = kernel->problems[i];
            problem.dtype = (enum dtype)dtype;
            if (kernel->dtypes >> dtype & 1 && (dtype == DTYPE_F16 || !i))
                add_cuda_default(kernel, &problem, arch);
        }
    }
}

static void add_cuda_sample(const struct kernel *kernel) {
    if (left_out(kernel)) return;
    struct device_info info;
    struct point *space, *sample;
    int count;
    int arch = kernel->least_arch > 75 ? kernel->least_arch : 75;
    device_describe_arch(arch, &info);
    if (space_enumerate(kernel, &kernel->problems[0], &info, &space, &count) ||
        space_sample(kernel, space, count, at_most(CUDA_POINTS, t.points), t.seed, &sample, &count))
        fail_msg("%s", fail_message());
    for (int i = 0; i < count; i++)
        cuda_jobs[cuda_job_count++] =
            (struct cuda_job){kernel, kernel->problems[0], sample[i], arch, SAMPLED};
    if (!kernel->host_check)
        cuda_jobs[cuda_job_count++] =
            (struct cuda_job){kernel, kernel->problems[0], sample[0], arch, CHECK};
    free(space), free(sample);
}

static void points_compile_for_gpus(void **state) {
    static const int archs[] = {75, 80, 86, 89, 90};
    (void)state;
    if (nvrtc_available()) {
        printf("skipped: compiling for GPUs: %s\n", fail_message());
        skip();
    }
    double start = now_s();
    cuda_job_count = 0;
    for (size_t a = 0; a < (t.points < CHUNK ? 1 : sizeof archs / sizeof *archs); a++) {
        for (int i = 0; i < registry_count(); i++) add_cuda_defaults(registry_at(i), archs[a]);
        cuda_jobs[cuda_job_count++] = (struct cuda_job){.arch = archs[a], .what = SAMPLED};
    }
    for (int i = 0; i < registry_count(); i++) add_cuda_sample(registry_at(i));
    int failures = run_jobs(cuda_job_run, cuda_job_count, false);
    printf("NVRTC: %d compilations for sm_75, 80, 86, 89, 90, %.1f s\n", cuda_job_count,
           now_s() - start);
    if (failures) fail_msg("%d failures", failures);
}

/* --- spaces ---------------------------------------------------------------------------------- */

static void space_is_of_a_good_size(const struct kernel *kernel, const struct problem *problem,
                                    const struct device_info *info) {
    struct point *space, first;
    char text[MAX_TEXT];
    int count;
    problem_format(kernel, problem, text);
    if (space_enumerate(kernel, problem, info, &space, &count) ||
        space_default(kernel, problem, info, &first)) {
        report("%s: %s", text, fail_message());
        return;
    }
    /* fp32 is there to compare with; by hand on an old GPU little of it is worth a try */
    int least = problem->dtype == DTYPE_F32 ? 40 : 100;
    if (count < least || count > 2000) report("%d points on sm_%d at %s", count, info->arch, text);
    if (!holds(kernel, space, count, &first))
        report("the default is not legal on sm_%d at %s", info->arch, text);
    for (int i = 1; i < count; i++) /* in order, so none is there twice */
        if (!memcmp(&space[i - 1], &space[i], sizeof *space))
            report("a point is there twice on sm_%d at %s", info->arch, text);
    free(space);
}

/* Every standard problem in every dtype that it is tuned in. */
static void spaces_of_kernel(const struct kernel *kernel, const struct device_info *info) {
    struct point first = point_default(kernel);
    if (!kernel_runs_on(kernel, info) || left_out(kernel)) return;
    if (!kernel->legal(&kernel->problems[0], &first, info, NULL))
        report("the default is not legal on sm_%d", info->arch);
    int problems = t.points < CHUNK ? 1 : kernel->problem_count; /* few: under a sanitizer */
    for (int i = 0; i < problems; i++)
        for (int d = 0; d < DTYPE_COUNT; d++) {
            struct problem problem = kernel->problems[i];
            problem.dtype = (enum dtype)d;
            if (kernel->dtypes >> d & 1) space_is_of_a_good_size(kernel, &problem, info);
        }
}

static struct device_info space_devices[2]; /* of sm_90 and sm_75 */

static void spaces_job(int index) {
    const struct kernel *kernel = registry_at(index / 2);
    snprintf(doing, sizeof shared->doing[0], "%s's spaces", kernel->name);
    spaces_of_kernel(kernel, &space_devices[index % 2]);
}

static void spaces_have_100_to_2000_points(void **state) {
    (void)state;
    device_describe_arch(90, &space_devices[0]);
    device_describe_arch(75, &space_devices[1]);
    int failures = run_jobs(spaces_job, 2 * registry_count(), false);
    if (failures) fail_msg("%d failures", failures);
}

/* --- from outside ---------------------------------------------------------------------------- */

static void a_kernel_from_outside(void **state) {
    const struct kernel *kernel, *again;
    const char *root = getenv("FASTINFER_ROOT");
    char folder[1024];
    int before = registry_count();
    (void)state;
    snprintf(folder, sizeof folder, "%s/tests/outside", root ? root : FASTINFER_ROOT);
    assert_int_equal(registry_find("scale2", &kernel), STATUS_ARGUMENT);
    if (registry_add_folder(folder)) fail_msg("%s", fail_message());
    assert_int_equal(registry_count(), before + 1);
    if (registry_find("scale2", &kernel)) fail_msg("%s", fail_message());
    assert_string_equal(registry_at(before)->name, "scale2");
    verify_kernel(kernel);
    check_kernel(kernel);
    if (registry_add_folder(folder)) fail_msg("%s", fail_message()); /* takes the first's place */
    assert_int_equal(registry_count(), before + 1);
    assert_int_equal(registry_find("scale2", &again), STATUS_OK);
    assert_int_equal(registry_add_folder("/nonexistent"), STATUS_ARGUMENT);
    assert_non_null(strstr(fail_message(), "/nonexistent"));
}

/* --- all ------------------------------------------------------------------------------------- */

static int set_up(void **state) {
    const char *id = getenv("FASTINFER_TEST_DEVICE"), *points = getenv("FASTINFER_TEST_POINTS");
    const char *seed = getenv("FASTINFER_TEST_SEED"), *small = getenv("FASTINFER_TEST_SMALL");
    (void)state;
    t.points = at_least(1, points && *points ? atoi(points) : POINTS);
    t.seed = seed && *seed ? strtoull(seed, NULL, 0) : 20240601;
    t.small = small && *small && *small != '0';
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return -1;
    if (device_open(id && *id ? id : "cpu", NULL, &t.device) ||
        support_open(t.device, &t.support)) {
        print_error("%s\n", fail_message());
        return -1;
    }
    t.gpu = t.device->info.kind == DEVICE_CUDA;
    t.target = (struct target){t.device->info.kind, t.device->info.arch};
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    support_close(&t.support);
    if (t.device) t.device->ops->close(t.device);
    return 0;
}

int main(void) {
    int kernels = registry_count(), n = 0;
    struct CMUnitTest tests[64 + 4] = {0};
    setvbuf(stdout, NULL, _IOLBF, 0);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(spaces_have_100_to_2000_points);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(check_entries_agree_with_the_host);
    for (int i = 0; i < kernels; i++)
        tests[n++] = (struct CMUnitTest){registry_at(i)->name, points_are_right, NULL, NULL,
                                         (void *)(uintptr_t)registry_at(i)};
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(points_compile_for_gpus);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(a_kernel_from_outside);
    return _cmocka_run_group_tests("kernels", tests, (size_t)n, set_up, tear_down);
}
