/* sample.c - the spec of sample.cu: what can be tuned, what is legal, what is right. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/shapes.h"
#include "runtime/random.h"

enum { VOCAB, BATCH, CAPACITY };
enum { TOKEN, POSITION, HISTORY, LOGITS, SETTING };
enum { BLOCK, BLOCKS, FUSE, VECTOR_BYTES, UNROLL, BUCKETS };
enum { SETTING_WORDS = 8 };

static const struct size sizes[] = {
    [VOCAB] = {"vocab", "logits of a sequence", false, 128256, 1, 1 << 24},
    [BATCH] = {"batch", "sequences", false, 1, 1, 65535},
    [CAPACITY] = {"capacity", "tokens of a sequence in the history", false, 4096, 1, 1 << 24},
};

static const int block[] = {128, 256, 512, 1024};
static const int blocks[] = {1, 4, 8, 16, 32, 64, 128};
static const int vector_bytes[] = {4, 16};
static const int unroll[] = {1, 2, 4};
static const int buckets[] = {512, 1024, 2048};
static const struct tunable tunables[] = {
    [BLOCK] = {"block", "threads of a block", block, COUNT(block), 256},
    [BLOCKS] = {"blocks", "blocks a sequence", blocks, COUNT(blocks), 64},
    [FUSE] = {"fuse", "0 four launches, 1 three, 2 one with barriers", values_012,
              COUNT(values_012), 1},
    [VECTOR_BYTES] = {"vector_bytes", "bytes a load moves", vector_bytes, COUNT(vector_bytes), 16},
    [UNROLL] = {"unroll", "vectors in flight a thread", unroll, COUNT(unroll), 2},
    [BUCKETS] = {"buckets", "of the range in which thresholds are looked for", buckets,
                 COUNT(buckets), 1024},
};

static const struct argument arguments[] = {
    [TOKEN] = {"token", "(batch)", ROLE_OUT, DTYPE_I32, FILL_KERNEL, false},
    [POSITION] = {"position", "(batch)", ROLE_INOUT, DTYPE_I32, FILL_KERNEL, false},
    [HISTORY] = {"history", "(batch, capacity)", ROLE_INOUT, DTYPE_I32, FILL_KERNEL, false},
    [LOGITS] = {"logits", "(batch, vocab), row-major", ROLE_IN, DTYPE_F32, FILL_KERNEL, false},
    [SETTING] = {"setting", "(batch, 8): temperature, top_k, top_p, min_p, seed, 0, 0", ROLE_IN,
                 DTYPE_I32, FILL_KERNEL, false},
};

#define OF(vocab, batch)                                                                           \
    { {vocab, batch, 4096}, {0}, DTYPE_F16 }
static const struct problem problems[] = {OF(128256, 1), OF(128256, 8), OF(151936, 1),
                                          OF(151936, 8)};

static int64_t elements(const struct problem *p, int index) {
    static const int each[] = {[HISTORY] = CAPACITY, [LOGITS] = VOCAB};
    int64_t batch = p->size[BATCH];
    if (index == SETTING) return batch * SETTING_WORDS;
    return index == TOKEN || index == POSITION ? batch : batch * p->size[each[index]];
}

/* Static shared memory, in bytes: struct room of sample.cu. */
static int room_bytes(int buckets_) { return 8 * buckets_ + 12 * 256 + 8 * 34 + 8; }

/* Blocks that have to be resident at once, for barriers: by threads, by shared memory and by up to
 * 80 registers a thread, which is what compilers take where the block does not allow fewer. */
static bool resident(int64_t wanted, const int *v, const struct device_info *device) {
    int most = device->threads_per_sm / v[BLOCK];
    int by_room = device->shared_per_sm / (room_bytes(v[BUCKETS]) + 1024);
    int by_registers = v[BLOCK] < 1024 ? device->registers_per_sm / (80 * v[BLOCK]) : 1;
    if (by_room < most) most = by_room;
    if (device->registers_per_sm && by_registers < most) most = by_registers;
    return wanted <= (int64_t)device->sms * most;
}

static bool legal(const struct problem *p, const struct point *t, const struct device_info *device,
                  const char **why) {
    const int *v = t->value;
    int64_t words = p->size[VOCAB] / (v[VECTOR_BYTES] / 4);
    if (p->size[VOCAB] % (v[VECTOR_BYTES] / 4))
        return refuse(why, "vocab is no multiple of the vector");
    if (v[BLOCKS] > 1 && (int64_t)v[BLOCKS] / 2 * v[BLOCK] >= words)
        return refuse(why, "half of the blocks would have nothing to do");
    if (v[VECTOR_BYTES] == 4 && (v[BUCKETS] != 1024 || v[UNROLL] == 2))
        return refuse(why, "narrow vectors are kept in few forms");
    if (v[BLOCKS] == 1 && v[FUSE] != 2) return refuse(why, "one block a sequence needs one launch");
    if (v[FUSE] == 2 && v[BLOCKS] > 1 && !resident(p->size[BATCH] * v[BLOCKS], v, device))
        return refuse(why, "more blocks than can be resident at once, for barriers");
    return true;
}

static struct plan plan(const struct problem *p, const struct point *t,
                        const struct device_info *device) {
    static const char *const entries[] = {"sample_largest", "sample_buckets", "sample_gather",
                                          "sample_finish"};
    const int *v = t->value;
    unsigned batch = (unsigned)p->size[BATCH];
    int64_t words = 2 + 2 * v[BLOCKS] + v[BUCKETS] + p->size[VOCAB];
    struct plan plan = {.stages = v[FUSE] == 2 ? 1 : 4 - v[FUSE],
                        .scratch_bytes = (size_t)(p->size[BATCH] * words) * 8,
                        .scratch_zeroed = true}; /* for one counter a sequence */
    (void)device;
    for (int i = 0; i < plan.stages; i++)
        plan.stage[i] = (struct stage){.entry = v[FUSE] == 2 ? "sample" : entries[i],
                                       .grid = {i == 3 ? 1 : (unsigned)v[BLOCKS], batch, 1},
                                       .block = {(unsigned)v[BLOCK], 1, 1},
                                       .cooperative = v[FUSE] == 2 && v[BLOCKS] > 1};
    return plan;
}

static struct cost cost(const struct problem *p) {
    double batch = (double)p->size[BATCH];
    return (struct cost){.read_bytes = batch * (4 * (double)p->size[VOCAB] + 4 + 32),
                         .write_bytes = batch * 12};
}

static int64_t outer(const struct problem *p) { return p->size[BATCH]; }

/* --- the reference -----------------------------------------------------------------------------
 *
 * The order of logits is that of fp32 after the temperature: a definition, as in engine/sample.h.
 * Sums, weights and the draw are fp64. fp32 decides otherwise where two draws are closer than
 * DRAW_TOLERANCE, or where top-p's sum or min-p's weight is within sum_tolerance() of its
 * threshold: an id of which that is true may be the token or not. From below's rounding (2^-20
 * under 27) a weight has an error of 1.2e-6 with expf's, plus 2^-40 where it is truncated; a draw
 * adds the same rounding again and two logarithms' (2^-19 under 23): 4e-6. */
#define DRAW_TOLERANCE 1e-5

static double sum_tolerance(int64_t vocab) { return 0x1p-18 + (double)vocab * 0x1p-40; }

struct setting {
    float temperature;
    int32_t top_k;
    float top_p, min_p;
    uint64_t seed;
};

static struct setting setting_read(const int32_t *words) {
    struct setting s;
    memcpy(&s.temperature, words, 4), memcpy(&s.top_k, words + 1, 4);
    memcpy(&s.top_p, words + 2, 4), memcpy(&s.min_p, words + 3, 4);
    memcpy(&s.seed, words + 4, 8);
    return s;
}

struct choice {
    float logit;
    int32_t id;
};

static int by_size(const void *left, const void *right) {
    const struct choice *a = left, *b = right;
    if (a->logit != b->logit) return a->logit < b->logit ? 1 : -1;
    return a->id < b->id ? -1 : 1;
}

/* The finite logits after the temperature, largest first; -1 where the row is no row. */
static int64_t sorted(const float *logits, int64_t vocab, float temperature, struct choice *out) {
    int64_t n = 0;
    for (int64_t i = 0; i < vocab; i++) {
        float scaled = temperature > 0 ? logits[i] / temperature : logits[i];
        if (isnan(logits[i]) || logits[i] == INFINITY) return -1;
        if (logits[i] == -INFINITY) continue;
        if (isinf(scaled)) scaled = copysignf(3.402823466e38f, scaled);
        out[n++] = (struct choice){scaled, (int32_t)i};
    }
    qsort(out, (size_t)n, sizeof *out, by_size);
    return n;
}

/* How many of the first n stay by top-p: those before which less than `goal` lies. */
static int64_t reach(const struct choice *c, int64_t n, double goal) {
    double before = 0;
    int64_t i = 0;
    for (; i < n && (!i || before < goal); i++) before += exp((double)c[i].logit - c[0].logit);
    return i;
}

static double draw(const struct setting *s, const struct choice *c, float largest,
                   int32_t position) {
    uint64_t stream = random_mix(s->seed + ((uint64_t)(uint32_t)position + 1) * RANDOM_STEP);
    uint64_t h = random_mix(stream + ((uint64_t)c->id + 1) * RANDOM_STEP) >> 32;
    return (double)c->logit - largest - log(-log1p(-((double)h + 0.5) * 0x1p-32));
}

/* The winner among the first n that have a weight of min_p, without one id. */
static int32_t winner(const struct setting *s, const struct choice *c, int64_t n, double min_p,
                      int32_t position, int32_t without, double *value) {
    int32_t best = -1;
    *value = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        double key = draw(s, &c[i], c[0].logit, position);
        bool out = c[i].logit < c[0].logit && exp((double)c[i].logit - c[0].logit) < min_p;
        if (out || c[i].id == without || !(key > *value)) continue;
        best = c[i].id, *value = key;
    }
    return best;
}

/* The token; *other is another that is right as well, or the same. */
static int32_t want_token(const struct setting *s, const struct choice *c, int64_t n, int64_t vocab,
                          int32_t position, int32_t *other) {
    double tolerance = sum_tolerance(vocab), total = 0, best, next;
    if (n <= 0) return *other = -1;
    if (!(s->temperature > 0)) return *other = c[0].id;
    if (s->top_k > 0 && s->top_k < n) {
        int64_t k = s->top_k;
        while (k < n && c[k].logit == c[k - 1].logit) k++;
        n = k;
    }
    int64_t sure = n, maybe = n;
    if (s->top_p < 1) {
        for (int64_t i = 0; i < n; i++) total += exp((double)c[i].logit - c[0].logit);
        sure = reach(c, n, (s->top_p - tolerance) * total);
        maybe = reach(c, n, (s->top_p + tolerance) * total);
    }
    int32_t token = winner(s, c, sure, s->min_p * (1 + tolerance), position, -1, &best);
    int32_t second = winner(s, c, maybe, s->min_p * (1 - tolerance), position, token, &next);
    *other = next > best - DRAW_TOLERANCE ? second : token;
    return token;
}

static void reference(const struct problem *p, const void *const *before, double *const *want,
                      double *const *magnitude, int64_t first, int64_t last) {
    int64_t vocab = p->size[VOCAB], capacity = p->size[CAPACITY];
    struct choice *choices = malloc((size_t)vocab * sizeof *choices);
    for (int64_t b = first; b < last && choices; b++) {
        struct setting s = setting_read((const int32_t *)before[SETTING] + b * SETTING_WORDS);
        int32_t position = ((const int32_t *)before[POSITION])[b], other;
        int64_t n =
            sorted((const float *)before[LOGITS] + b * vocab, vocab, s.temperature, choices);
        int32_t token = want_token(&s, choices, n, vocab, position, &other);
        int64_t next = (int32_t)((uint32_t)position + 1);
        want[TOKEN][b] = token, magnitude[TOKEN][b] = (double)other - token;
        want[POSITION][b] = (double)next, magnitude[POSITION][b] = 0;
        for (int64_t i = 0; i < capacity; i++) {
            want[HISTORY][b * capacity + i] = i == next ? token : NAN;
            magnitude[HISTORY][b * capacity + i] = i == next ? (double)other - token : 0;
        }
    }
    free(choices);
}

/* --- inputs ------------------------------------------------------------------------------------
 */

static double uniform(uint64_t *state) { return (double)(random_next(state) >> 11) * 0x1p-53; }
static double normal(uint64_t *state) {
    return sqrt(-2 * log(1 - uniform(state))) * cos(6.283185307179586 * uniform(state));
}

/* As a model has them: a wide crowd and a few favourites above it. */
static void usual_row(float *row, int64_t vocab, uint64_t *state) {
    for (int64_t i = 0; i < vocab; i++) row[i] = (float)(2.2 * normal(state) - 1);
    for (int k = 0; k < 24; k++)
        row[random_next(state) % (uint64_t)vocab] = (float)(17 - 0.5 * k + normal(state));
}

enum style { USUAL, TIES, MASKED, FLAT, LONE, HUGE_SPREAD, COARSE, NOT_A_NUMBER, NOTHING, STYLES };

static void awkward_row(float *row, int64_t vocab, uint64_t *state) {
    enum style style = (enum style)(random_next(state) % (STYLES + 5)); /* the last two seldom */
    usual_row(row, vocab, state);
    if (style >= STYLES) style = (enum style)(style - STYLES);
    int64_t spot = (int64_t)(random_next(state) % (uint64_t)vocab);
    for (int64_t i = 0; i < vocab; i++) {
        if (style == TIES) row[i] = roundf(4 * row[i]) / 4;
        if (style == MASKED && random_next(state) % 64) row[i] = -INFINITY;
        if (style == FLAT) row[i] = random_next(state) % 16 ? 1.5f : 1.25f;
        if (style == LONE && i != spot) row[i] = -INFINITY;
        if (style == HUGE_SPREAD) row[i] *= 1e37f;
        if (style == COARSE) row[i] = 8 * roundf(row[i] / 8);
        if (style == NOTHING) row[i] = -INFINITY;
    }
    if (style == NOT_A_NUMBER) row[spot] = random_next(state) % 2 ? NAN : INFINITY;
    if (style == MASKED) row[spot] = 3;
}

/* Each step alone, some, all: what options allow, at their ends too. */
static struct setting awkward_setting(uint64_t *state) {
    static const float temperatures[] = {1, 0.7f, 0.1f, 1.5f, 3, 1e-30f, 0, 40};
    static const int32_t ks[] = {1, 2, 20, 50, 1000, INT32_MAX};
    static const float ps[] = {0.9f, 0.95f, 0.5f, 0.999f, 1e-9f, 0.3f};
    static const float mins[] = {0.05f, 0.3f, 1, 1e-4f};
    struct setting s = {1, 0, 1, 0, random_next(state)};
    uint64_t pick = random_next(state);
    s.temperature = temperatures[random_next(state) % COUNT(temperatures)];
    if (pick & 1) s.top_k = ks[random_next(state) % COUNT(ks)];
    if (pick & 2) s.top_p = ps[random_next(state) % COUNT(ps)];
    if (pick & 12 && pick & 16) s.min_p = mins[random_next(state) % COUNT(mins)];
    return s;
}

static void write_setting(const struct setting *s, int32_t *words) {
    memset(words, 0, SETTING_WORDS * 4);
    memcpy(words, &s->temperature, 4), memcpy(words + 1, &s->top_k, 4);
    memcpy(words + 2, &s->top_p, 4), memcpy(words + 3, &s->min_p, 4);
    memcpy(words + 4, &s->seed, 8);
}

/* An even seed: greedy over a model's logits. An odd one: rows of all styles, settings of all
 * kinds, positions about both ends of the history. */
static void input(const struct problem *p, int index, uint64_t seed, void *host) {
    uint64_t state = seed;
    int64_t vocab = p->size[VOCAB], capacity = p->size[CAPACITY];
    struct setting greedy = {0, 0, 1, 0, 0};
    for (int64_t i = 0; index == HISTORY && i < p->size[BATCH] * capacity; i++)
        ((int32_t *)host)[i] = (int32_t)random_next(&state);
    for (int64_t b = 0; b < p->size[BATCH]; b++) {
        if (index == LOGITS)
            (seed % 2 ? awkward_row : usual_row)((float *)host + b * vocab, vocab, &state);
        if (index == SETTING) {
            struct setting s = seed % 2 ? awkward_setting(&state) : greedy;
            write_setting(&s, (int32_t *)host + b * SETTING_WORDS);
        }
        if (index == POSITION) {
            uint64_t from = random_next(&state) % (uint64_t)capacity, end = random_next(&state) % 4;
            if (seed % 2 && end < 3) from = end == 2 ? UINT32_MAX : (uint64_t)capacity - end;
            ((int32_t *)host)[b] = (int32_t)from;
        }
    }
}

const struct kernel kernel_sample = {
    .name = "sample",
    .summary =
        "the next tokens from logits: greedy, or temperature, top-k, top-p, min-p and a draw",
    .source = "kernels/sample/sample.cu",
    .sizes = sizes,
    .size_count = COUNT(sizes),
    .tunables = tunables,
    .tunable_count = COUNT(tunables),
    .arguments = arguments,
    .argument_count = COUNT(arguments),
    .dtypes = 1u << DTYPE_F16, /* logits are fp32: once, where the default dtype is asked for */
    .problems = problems,
    .problem_count = COUNT(problems),
    .bound = {0, "a token is right or wrong; where fp32 cannot tell two draws apart, or whether an "
                 "id stays (see sample.c), the other token is right as well"},
    .elements = elements,
    .legal = legal,
    .plan = plan,
    .cost = cost,
    .reference = reference,
    .outer = outer,
    .input = input,
};
