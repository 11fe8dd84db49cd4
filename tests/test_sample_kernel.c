/* test_sample_kernel.c - kernels/sample on the CPU device against engine/sample.c: the same greedy
 * tokens, the same ids left by the steps, draws by their probabilities (chi-square); and how often
 * the kernel's reference lets a second token pass.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sample.h"
#include "harness/subject.h"
#include "kernels/registry.h"

#include <cmocka.h> /* last: its macro fail() hides the function */

enum { TOKEN, POSITION, HISTORY, LOGITS, SETTING, ARGUMENTS, SETTING_WORDS = 8 };
#define PLAIN                                                                                      \
    (struct sample_options) { .temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 42 }

static struct device *device;
static struct support support;
static const struct kernel *kernel;

static void good(enum status status) {
    if (status) fail_msg("%s: %s", status_text(status), fail_message());
}

/* The kernel with buffers that a test writes and reads: the CPU device's are ordinary memory. */
struct run {
    struct subject *subject;
    struct variant variant;
    int vocab, batch;
    int32_t *token, *position, *setting;
    float *logits;
};

static struct run run_open(int vocab, int batch, const char *point_text) {
    struct run r = {.vocab = vocab, .batch = batch};
    char text[128];
    struct problem problem;
    struct point point;
    snprintf(text, sizeof text, "vocab=%d,batch=%d,capacity=4", vocab, batch);
    good(problem_parse(kernel, text, &problem));
    good(point_parse(kernel, point_text, &point));
    good(subject_open(&support, kernel, &problem, 1, 1, &r.subject));
    good(variant_open(device, kernel, &problem, &point, &r.variant));
    void *const *pointer = r.subject->pointer[0];
    r.token = pointer[TOKEN], r.position = pointer[POSITION], r.setting = pointer[SETTING];
    r.logits = pointer[LOGITS];
    return r;
}

static void run_launch(struct run *r) {
    good(subject_launch(r->subject, &r->variant, 0, 0));
    good(device->ops->synchronize(device));
}

static void run_close(struct run *r) {
    variant_close(device, &r->variant);
    subject_close(r->subject);
}

static void set(struct run *r, int row, const struct sample_options *o) {
    int32_t *words = r->setting + row * SETTING_WORDS;
    memcpy(words, &o->temperature, 4), memcpy(words + 1, &o->top_k, 4);
    memcpy(words + 2, &o->top_p, 4), memcpy(words + 3, &o->min_p, 4);
    memcpy(words + 4, &o->seed, 8);
}

static struct sample_options options_of(const struct run *r, int row) {
    const int32_t *words = r->setting + row * SETTING_WORDS;
    struct sample_options o = {.repetition_penalty = 1};
    memcpy(&o.temperature, words, 4), memcpy(&o.top_k, words + 1, 4);
    memcpy(&o.top_p, words + 2, 4), memcpy(&o.min_p, words + 3, 4);
    memcpy(&o.seed, words + 4, 8);
    return o;
}

/* Rows and settings of all kinds, as verification has them. */
static void awkward(struct run *r, uint64_t seed) {
    kernel->input(&r->subject->problem, LOGITS, 2 * seed + 1, r->logits);
    kernel->input(&r->subject->problem, SETTING, 2 * seed + 1, r->setting);
    kernel->input(&r->subject->problem, POSITION, 2 * seed + 1, r->position);
}

#define MANY_BLOCKS "block=128,blocks=4,fuse=0,vector_bytes=4,unroll=1"
#define ONE_BLOCK "block=128,blocks=1,fuse=2,vector_bytes=4,unroll=1"

static void greedy_is_the_hosts(void **state) {
    enum { ROWS = 64, VOCAB = 1021 };
    struct run r = run_open(VOCAB, ROWS, MANY_BLOCKS);
    struct sample_options greedy = SAMPLE_GREEDY;
    struct sampler *sampler;
    int refused = 0;
    (void)state;
    good(sampler_open(&greedy, VOCAB, &sampler));
    awkward(&r, 5);
    for (int i = 0; i < ROWS; i++) set(&r, i, &greedy);
    run_launch(&r);
    for (int i = 0; i < ROWS; i++) {
        int32_t token = -1;
        if (sampler_next(sampler, r.logits + i * VOCAB, NULL, 0, &token)) refused++;
        assert_int_equal(r.token[i], token);
    }
    assert_in_range(refused, 1, ROWS / 2); /* rows that are none are among them */
    sampler_close(sampler);
    run_close(&r);
}

static bool holds(const int32_t *ids, int count, int32_t id) {
    for (int i = 0; i < count; i++)
        if (ids[i] == id) return true;
    return false;
}

static void draws_are_of_what_the_host_leaves(void **state) {
    enum { ROWS = 150, VOCAB = 1021, ROUNDS = 4 };
    struct run r = run_open(VOCAB, ROWS, MANY_BLOCKS);
    int32_t *ids = malloc(VOCAB * sizeof *ids);
    double *weights = malloc(VOCAB * sizeof *weights);
    int refused = 0, narrow = 0, several = 0;
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        awkward(&r, 100 + (uint64_t)round);
        run_launch(&r);
        for (int i = 0; i < ROWS; i++) {
            struct sample_options o = options_of(&r, i);
            struct sampler *sampler;
            int count;
            good(sampler_open(&o, VOCAB, &sampler));
            enum status status =
                sampler_survivors(sampler, r.logits + i * VOCAB, NULL, 0, ids, weights, &count);
            sampler_close(sampler);
            refused += status != STATUS_OK;
            if (status) assert_int_equal(r.token[i], -1);
            if (status) continue;
            narrow += count<VOCAB, several += count> 1;
            if (!holds(ids, count, r.token[i]))
                fail_msg("round %d, row %d: token %d is not among the %d that are left", round, i,
                         r.token[i], count);
        }
    }
    assert_true(refused > 10 && narrow > 200 && several > 200);
    free(ids), free(weights);
    run_close(&r);
}

/* The 99.99% quantile of chi-square, by Wilson and Hilferty. */
static double quantile(int degrees) {
    double part = 2 / (9.0 * degrees);
    return degrees * pow(1 - part + 3.719 * sqrt(part), 3);
}

/* Draws once a row; the counts against the host's weights. */
static void fits(struct run *r, const struct sample_options *o, const float *logits) {
    int32_t ids[64];
    double weights[64], total = 0, chi = 0, rare = 0;
    int count, seen[64] = {0}, rarely = 0, degrees = -1;
    struct sampler *sampler;
    good(sampler_open(o, r->vocab, &sampler));
    good(sampler_survivors(sampler, logits, NULL, 0, ids, weights, &count));
    sampler_close(sampler);
    for (int i = 0; i < r->batch; i++)
        memcpy(r->logits + i * r->vocab, logits, (size_t)r->vocab * sizeof *logits);
    run_launch(r);
    for (int i = 0; i < r->batch; i++) {
        assert_in_range(r->token[i], 0, r->vocab - 1);
        if (!holds(ids, count, r->token[i])) fail_msg("token %d cannot be", r->token[i]);
        seen[r->token[i]]++;
    }
    for (int i = 0; i < count; i++) total += weights[i];
    for (int i = 0; i < count; i++) {
        double goal = weights[i] / total * r->batch;
        if (goal < 5) rare += goal, rarely += seen[ids[i]];
        if (goal < 5) continue;
        chi += (seen[ids[i]] - goal) * (seen[ids[i]] - goal) / goal;
        degrees++;
    }
    if (rare >= 5) chi += (rarely - rare) * (rarely - rare) / rare, degrees++;
    if (degrees > 0 && chi > quantile(degrees)) fail_msg("chi-square %g of %d", chi, degrees);
}

static void frequencies_are_probabilities(void **state) {
    enum { DRAWS = 4000, VOCAB = 40 };
    static const struct sample_options cases[] = {
        {.temperature = 1, .top_p = 1, .seed = 1},
        {.temperature = 2, .top_p = 1, .seed = 2},
        {.temperature = 1, .top_k = 7, .top_p = 1, .seed = 3},
        {.temperature = 1, .top_p = 0.8f, .seed = 4},
        {.temperature = 1, .top_p = 1, .min_p = 0.1f, .seed = 5},
        {.temperature = 1.5f, .top_k = 25, .top_p = 0.9f, .min_p = 0.02f, .seed = 6},
    };
    struct run r = run_open(VOCAB, DRAWS, ONE_BLOCK);
    float logits[VOCAB];
    (void)state;
    for (size_t k = 0; k < 2 * sizeof cases / sizeof *cases; k++) {
        struct sample_options o = cases[k / 2];
        o.repetition_penalty = 1;
        for (int i = 0; i < VOCAB; i++) /* each value twice, and so close that few buckets differ */
            logits[i] = (float)(i * 7 % 20) * (k % 2 ? 0.01f : 0.25f) - 1;
        logits[3] = -INFINITY;
        for (int i = 0; i < DRAWS; i++) { /* one seed at many positions, then many seeds at one */
            o.seed = k % 2 ? (uint64_t)i : cases[k / 2].seed;
            r.position[i] = k % 2 ? 77 : i;
            set(&r, i, &o);
        }
        fits(&r, &o, logits);
    }
    run_close(&r);
}

/* The same rows at other points, in another order, with ids behind that cannot be. */
static void a_draw_depends_on_seed_position_and_id_alone(void **state) {
    enum { ROWS = 60, VOCAB = 600, WIDE = 1028 };
    static const char *const points[] = {ONE_BLOCK, MANY_BLOCKS,
                                         "block=128,blocks=4,fuse=1,vector_bytes=16,unroll=1"};
    struct run r = run_open(VOCAB, ROWS, ONE_BLOCK);
    int moved = 0, compared = 0;
    (void)state;
    awkward(&r, 7);
    run_launch(&r);
    for (int k = 0; k < 3; k++) {
        struct run other = run_open(WIDE, ROWS, points[k]);
        awkward(&r, 7); /* positions have moved on */
        for (int i = 0; i < ROWS; i++) {
            int from = ROWS - 1 - i;
            float *row = other.logits + i * WIDE;
            for (int c = 0; c < WIDE; c++)
                row[c] = c < VOCAB ? r.logits[from * VOCAB + c] : -INFINITY;
            memcpy(other.setting + i * SETTING_WORDS, r.setting + from * SETTING_WORDS, 32);
            other.position[i] = r.position[from];
        }
        run_launch(&other);
        for (int i = 0; i < ROWS; i++) assert_int_equal(other.token[i], r.token[ROWS - 1 - i]);
        run_close(&other);
    }
    int32_t before[ROWS];
    memcpy(before, r.token, sizeof before);
    for (int i = 0; i < ROWS; i++) r.position[i] += 1000;
    run_launch(&r);
    for (int i = 0; i < ROWS; i++) compared++, moved += before[i] != r.token[i];
    assert_true(moved > compared / 5);
    run_close(&r);
}

/* One launch with barriers between its blocks, which has to leave its counter as it found it. */
static void barriers_give_the_same_tokens(void **state) {
    enum { ROWS = 40, VOCAB = 1021 };
    struct run all = run_open(VOCAB, ROWS, ONE_BLOCK);
    struct run one =
        run_open(VOCAB, 1, "block=128,blocks=4,fuse=2,vector_bytes=4,unroll=1,buckets=1024");
    int32_t before[ROWS];
    (void)state;
    assert_true(one.variant.plan.stage[0].cooperative);
    awkward(&all, 11);
    memcpy(before, all.position, sizeof before);
    run_launch(&all);
    for (int i = 0; i < ROWS; i++) {
        memcpy(one.logits, all.logits + i * VOCAB, VOCAB * sizeof *one.logits);
        memcpy(one.setting, all.setting + i * SETTING_WORDS, 32);
        one.position[0] = before[i];
        device_cpu_schedule(i % 3, (uint64_t)i);
        run_launch(&one);
        assert_int_equal(one.token[0], all.token[i]);
    }
    device_cpu_schedule(0, 0);
    run_close(&one), run_close(&all);
}

/* Rows of the reference: its token and the second that it lets pass. */
static int ambiguous(const struct run *r, double *want, double *magnitude) {
    const void *before[ARGUMENTS] = {NULL, r->position, r->subject->pointer[0][HISTORY], r->logits,
                                     r->setting};
    size_t history = (size_t)r->batch * 4;
    double *position[2] = {calloc((size_t)r->batch, 8), calloc((size_t)r->batch, 8)};
    double *tokens[2] = {calloc(history, 8), calloc(history, 8)};
    double *wants[ARGUMENTS] = {want, position[0], tokens[0]};
    double *magnitudes[ARGUMENTS] = {magnitude, position[1], tokens[1]};
    int count = 0;
    kernel->reference(&r->subject->problem, before, wants, magnitudes, 0, r->batch);
    for (int i = 0; i < r->batch; i++) count += magnitude[i] != 0;
    for (int i = 0; i < 2; i++) free(position[i]), free(tokens[i]);
    return count;
}

static void a_second_token_is_right_in_no_more_than_one_of_1000(void **state) {
    enum { ROWS = 500, ROUNDS = 10 };
    struct run r = run_open(1021, ROWS, ONE_BLOCK);
    double want[ROWS], magnitude[ROWS];
    int count = 0;
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        awkward(&r, 1000 + (uint64_t)round);
        count += ambiguous(&r, want, magnitude);
    }
    print_message("%d of %d tokens with a second right one\n", count, ROWS * ROUNDS);
    assert_in_range(count, 0, ROWS * ROUNDS / 1000);
    run_close(&r);
}

/* Of two equals with top-p 0.5 the second stays or goes by the last bit of a sum: where it would be
 * drawn both are right, where not only the first is. */
static void a_second_token_is_right_on_a_threshold(void **state) {
    enum { ROWS = 64 };
    struct run r = run_open(4, ROWS, ONE_BLOCK);
    struct sample_options o = PLAIN;
    double want[ROWS], magnitude[ROWS];
    (void)state;
    for (int pass = 0; pass < 2; pass++) {
        o.top_p = pass ? 0.49f : 0.5f;
        for (int i = 0; i < ROWS; i++) {
            memcpy(r.logits + 4 * i, (float[]){-INFINITY, 2, 2, -INFINITY}, 16);
            r.position[i] = i;
            set(&r, i, &o);
        }
        int count = ambiguous(&r, want, magnitude);
        if (pass) assert_int_equal(count, 0);
        if (!pass) assert_in_range(count, ROWS / 4, 3 * ROWS / 4);
        for (int i = 0; i < ROWS; i++) assert_true(want[i] == 1 && magnitude[i] * !pass >= 0);
        for (int i = 0; i < ROWS; i++) assert_true(magnitude[i] == 0 || magnitude[i] == 1);
        run_launch(&r);
        for (int i = 0; i < ROWS; i++) assert_int_equal(r.token[i], 1);
    }
    run_close(&r);
}

static void rows_that_are_none_give_minus_one(void **state) {
    static const float rows[][4] = {{0, NAN, 1, 2},
                                    {-INFINITY, -INFINITY, -INFINITY, -INFINITY},
                                    {0, INFINITY, 1, 2},
                                    {-INFINITY, -INFINITY, -3e38f, -INFINITY},
                                    {-NAN, 0, 0, 0}};
    static const int32_t tokens[] = {-1, -1, -1, 2, -1};
    enum { ROWS = 5 };
    struct run r = run_open(4, ROWS, ONE_BLOCK);
    struct sample_options o = PLAIN;
    (void)state;
    for (int pass = 0; pass < 4; pass++) {
        int32_t *history = r.subject->pointer[0][HISTORY];
        o = PLAIN;
        if (pass == 0) o.temperature = 0;
        if (pass == 2) o.top_k = 2, o.temperature = 1e-3f;
        if (pass == 3) o.top_p = 0.5f;
        for (int i = 0; i < ROWS; i++) r.position[i] = pass, set(&r, i, &o);
        memcpy(r.logits, rows, sizeof rows);
        memset(history, 0x11, ROWS * 4 * sizeof *history);
        run_launch(&r);
        for (int i = 0; i < ROWS; i++) {
            assert_int_equal(r.token[i], tokens[i]);
            assert_int_equal(r.position[i], pass + 1);
            for (int c = 0; c < 4; c++)
                assert_int_equal(history[4 * i + c], c == pass + 1 ? tokens[i] : 0x11111111);
        }
    }
    run_close(&r);
}

static int set_up(void **state) {
    (void)state;
    good(device_open("cpu", NULL, &device));
    good(support_open(device, &support));
    good(registry_find("sample", &kernel));
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    support_close(&support);
    device->ops->close(device);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_is_the_hosts),
        cmocka_unit_test(draws_are_of_what_the_host_leaves),
        cmocka_unit_test(frequencies_are_probabilities),
        cmocka_unit_test(a_draw_depends_on_seed_position_and_id_alone),
        cmocka_unit_test(barriers_give_the_same_tokens),
        cmocka_unit_test(a_second_token_is_right_in_no_more_than_one_of_1000),
        cmocka_unit_test(a_second_token_is_right_on_a_threshold),
        cmocka_unit_test(rows_that_are_none_give_minus_one),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
