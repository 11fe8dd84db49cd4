/* attention_decode.c - the spec of attention_decode.cu: what can be tuned, what is legal and right.
 */
#include <math.h>
#include <stdlib.h>

#include "kernels/rope/rope.h"
#include "kernels/shapes.h"
#include "runtime/random.h"

enum { HEADS, KV_HEADS, HEAD_DIM, QK_NORM, ROPE, BATCH, CAPACITY, WINDOW, CONTEXT };
enum { OUT, QKV, Q_NORM, K_NORM, POSITION, INV_FREQ, CACHE_K, CACHE_V };
enum { BLOCK, GROUP, UNROLL, BLOCKS_PER_SM, LEAST, LOAD_HINT };

static const struct size sizes[] = {
    [HEADS] = {"heads", "query heads", true, 24, 1, 1024},
    [KV_HEADS] = {"kv_heads", "key and value heads", true, 8, 1, 1024},
    [HEAD_DIM] = {"head_dim", "elements of a head", true, 128, 8, 256},
    [QK_NORM] = {"qk_norm", "1: q and k are normed a head", true, 0, 0, 1},
    [ROPE] = {"rope", "1: q and k are turned", true, 1, 0, 1},
    [BATCH] = {"batch", "sequences", false, 1, 1, 65535},
    [CAPACITY] = {"capacity", "positions of a sequence in the cache", false, 4096, 1, 1 << 24},
    [WINDOW] = {"window", "positions that are seen; 0: all", false, 0, 0, 1 << 24},
    [CONTEXT] = {"context", "the most positions of a sequence, the new one counted", false, 4096, 1,
                 1 << 24},
};
static const struct real reals[] = {{"eps", "of the norms of q and k", 1e-6}};

static const int block[] = {64, 128, 256, 512};
static const int group[] = {1, 2, 3, 4, 8};
static const int least[] = {16, 64, 256};
static const int unroll[] = {1, 2, 4};
static const int blocks_per_sm[] = {1, 2, 4};
static const struct tunable tunables[] = {
    [BLOCK] = {"block", "threads of a block", block, COUNT(block), 128},
    [GROUP] = {"group", "query heads of a key head that a block takes at once", group, COUNT(group),
               3},
    [UNROLL] = {"unroll", "positions in flight, times those a warp has at once", unroll,
                COUNT(unroll), 2},
    [BLOCKS_PER_SM] = {"blocks_per_sm", "that the positions are split for", blocks_per_sm,
                       COUNT(blocks_per_sm), 1},
    [LEAST] = {"least", "positions of a split, at least", least, COUNT(least), 64},
    [LOAD_HINT] = {"load_hint", "0 plain, 1 streaming", values_bool, COUNT(values_bool), 0},
};

static const struct argument arguments[] = {
    [OUT] = {"out", "(batch, heads * head_dim)", ROLE_OUT, DTYPE_COUNT, FILL_NORMAL, false},
    [QKV] = {"qkv", "(batch, (heads + 2 kv_heads) * head_dim): q, k, v, raw", ROLE_IN, DTYPE_F32,
             FILL_NORMAL, false},
    [Q_NORM] = {"q_norm", "(head_dim), nothing without qk_norm", ROLE_IN, DTYPE_COUNT, FILL_WEIGHT,
                true},
    [K_NORM] = {"k_norm", "(head_dim), nothing without qk_norm", ROLE_IN, DTYPE_COUNT, FILL_WEIGHT,
                true},
    [POSITION] = {"position", "(batch): of the new token", ROLE_IN, DTYPE_I32, FILL_KERNEL, false},
    [INV_FREQ] = {"inv_freq", "(head_dim / 2), nothing without rope", ROLE_IN, DTYPE_F32,
                  FILL_KERNEL, true},
    [CACHE_K] = {"cache_k", "(batch, kv_heads, capacity, head_dim)", ROLE_INOUT, DTYPE_COUNT,
                 FILL_NORMAL, true},
    [CACHE_V] = {"cache_v", "(batch, kv_heads, capacity, head_dim)", ROLE_INOUT, DTYPE_COUNT,
                 FILL_NORMAL, true},
};

#define OF(heads, kv, norm, batch, window, context)                                                \
    { {heads, kv, 128, norm, 1, batch, context, window, context}, {1e-6}, DTYPE_F16 }
static const struct problem problems[] = {
    OF(24, 8, 0, 1, 0, 128),  OF(24, 8, 0, 1, 0, 512),  OF(24, 8, 0, 1, 0, 4096),
    OF(16, 4, 0, 1, 0, 128),  OF(16, 4, 0, 1, 0, 512),  OF(16, 4, 0, 1, 0, 4096),
    OF(24, 8, 0, 8, 0, 1024), OF(32, 8, 1, 1, 0, 1024), OF(32, 8, 0, 1, 512, 4096),
};

static int64_t elements(const struct problem *p, int index) {
    const int64_t *n = p->size;
    switch (index) {
    case OUT:
        return n[BATCH] * n[HEADS] * n[HEAD_DIM];
    case QKV:
        return n[BATCH] * (n[HEADS] + 2 * n[KV_HEADS]) * n[HEAD_DIM];
    case Q_NORM:
    case K_NORM:
        return n[QK_NORM] ? n[HEAD_DIM] : 0;
    case POSITION:
        return n[BATCH];
    case INV_FREQ:
        return n[ROPE] ? n[HEAD_DIM] / 2 : 0;
    default:
        return n[BATCH] * n[KV_HEADS] * n[CAPACITY] * n[HEAD_DIM];
    }
}

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* Query heads of a block, and blocks that share a key head. */
static int64_t ours(const struct problem *p, const struct point *t) {
    return smaller(t->value[GROUP], p->size[HEADS] / p->size[KV_HEADS]);
}
static int64_t parts(const struct problem *p, const struct point *t) {
    int64_t a_key = p->size[HEADS] / p->size[KV_HEADS];
    return (a_key + ours(p, t) - 1) / ours(p, t);
}

static bool legal(const struct problem *p, const struct point *t, const struct device_info *device,
                  const char **why) {
    const int64_t *n = p->size, a_key = n[HEADS] / n[KV_HEADS], lanes = n[HEAD_DIM] / 8;
    const int *v = t->value;
    (void)device;
    if (n[HEADS] % n[KV_HEADS]) return refuse(why, "key heads do not divide the query heads");
    if (n[HEAD_DIM] % 8 || lanes > 32) return refuse(why, "head_dim is no multiple of 8 up to 256");
    if (n[CONTEXT] > n[CAPACITY]) return refuse(why, "more positions than the cache has room for");
    if (v[GROUP] > a_key && v[GROUP] > 1) {
        for (int i = 0; i < COUNT(group); i++)
            if (group[i] >= a_key && group[i] < v[GROUP])
                return refuse(why, "more heads at once than a key head has");
    }
    if (v[GROUP] * v[UNROLL] > 16)
        return refuse(why, "heads times positions in flight: no registers for them");
    if (v[BLOCK] / 32 * ours(p, t) * (n[HEAD_DIM] + 2) * 4 + (ours(p, t) + 2) * n[HEAD_DIM] * 4 >
        48 << 10)
        return refuse(why, "over 48 KiB of shared memory");
    return true;
}

static struct plan plan(const struct problem *p, const struct point *t,
                        const struct device_info *device) {
    const int64_t *n = p->size, groups = n[KV_HEADS] * parts(p, t);
    int64_t seen = n[WINDOW] ? smaller(n[WINDOW], n[CONTEXT]) : n[CONTEXT];
    int64_t wanted = (int64_t)device->sms * t->value[BLOCKS_PER_SM] / (groups * n[BATCH]);
    int64_t splits = larger(1, smaller(wanted, seen / t->value[LEAST]));
    int64_t runs = n[BATCH] * groups * splits * ours(p, t) * (n[HEAD_DIM] + 2);
    return (struct plan){
        .stages = 1,
        .stage = {{.entry = "attention_decode",
                   .grid = {(unsigned)splits, (unsigned)groups, (unsigned)n[BATCH]},
                   .block = {(unsigned)t->value[BLOCK], 1, 1}}},
        .scratch_bytes = (size_t)(runs + n[BATCH] * groups) * 4,
        .scratch_zeroed = true};
}

/* As in use every sequence is at its last position. */
static struct cost cost(const struct problem *p) {
    const int64_t *n = p->size;
    int64_t seen = n[WINDOW] ? smaller(n[WINDOW], n[CONTEXT]) : n[CONTEXT];
    double row = (double)(n[BATCH] * n[KV_HEADS] * n[HEAD_DIM]),
           bytes = (double)dtype_bytes(p->dtype);
    double q = (double)(n[BATCH] * n[HEADS] * n[HEAD_DIM]);
    return (struct cost){.read_bytes = 2 * row * (double)(seen - 1) * bytes + 4 * (q + 2 * row),
                         .write_bytes = (2 * row + q) * bytes,
                         .flops = 4 * q * (double)seen};
}

static int64_t outer(const struct problem *p) { return p->size[BATCH] * p->size[KV_HEADS]; }

/* --- the reference ---------------------------------------------------------------------------- */

struct one { /* sequence and key head, with its new key and value as the cache has them */
    const struct problem *p;
    const void *const *before;
    int64_t sequence, key, position, low, cache;
    double *k, *v;
};

static double rounded(enum dtype dtype, double value) {
    char element[8];
    dtype_store(dtype, element, 0, (float)value);
    return dtype_load(dtype, element, 0);
}

/* A raw head normed and turned; size[i] is the sum of the |terms| of out[i]. */
static void make(const struct one *o, int64_t raw, int norm, double *out, double *size) {
    const int64_t dim = o->p->size[HEAD_DIM], half_dim = dim / 2;
    const float *qkv = (const float *)o->before[QKV] + raw, *inv_freq = o->before[INV_FREQ];
    double sum = 0, x[256];
    for (int64_t i = 0; i < dim; i++) sum += (double)qkv[i] * (double)qkv[i];
    double scale = 1 / sqrt(sum / (double)dim + (double)(float)o->p->real[0]);
    for (int64_t i = 0; i < dim; i++) {
        x[i] = (double)qkv[i];
        if (o->p->size[QK_NORM]) x[i] *= scale * dtype_load(o->p->dtype, o->before[norm], i);
        out[i] = x[i], size[i] = 2 * fabs(x[i]);
    }
    for (int64_t i = 0; i < half_dim && o->p->size[ROPE]; i++) {
        double angle = (double)((float)o->position * inv_freq[i]), c = cos(angle), s = sin(angle);
        out[i] = x[i] * c - x[i + half_dim] * s, out[i + half_dim] = x[i + half_dim] * c + x[i] * s;
        double all = fabs(x[i]) + fabs(x[i + half_dim]);
        size[i] = all + fabs(out[i]), size[i + half_dim] = all + fabs(out[i + half_dim]);
    }
}

static double cached(const struct one *o, int argument, int64_t j, int64_t d) {
    if (j == o->position) return argument == CACHE_K ? o->k[d] : o->v[d];
    return dtype_load(o->p->dtype, o->before[argument], o->cache + j * o->p->size[HEAD_DIM] + d);
}

/* A sum of p v, p a softmax: an error e of a score moves it by p e (v - sum). The new key is
 * rounded to the element before it is used, and a rounding may fall to the other side: of at most
 * FLIPS elements, each felt as the largest term of the score. */
enum { FLIPS = 4 };
static void attend(const struct one *o, int64_t head, double *want, double *magnitude) {
    const int64_t *n = o->p->size, dim = n[HEAD_DIM], seen = o->position - o->low + 1;
    double q[256], size[256], greatest = -INFINITY, all = 0, flip = 0;
    double *score = malloc((size_t)seen * sizeof *score),
           *terms = malloc((size_t)seen * sizeof *terms);
    int64_t raw = (o->sequence * (n[HEADS] + 2 * n[KV_HEADS]) + head) * dim;
    make(o, raw, Q_NORM, q, size);
    for (int64_t j = 0; j < seen; j++) {
        score[j] = terms[j] = 0;
        for (int64_t d = 0; d < dim; d++) {
            double term = q[d] * cached(o, CACHE_K, o->low + j, d) / sqrt((double)dim);
            score[j] += term, terms[j] += fabs(term);
        }
        greatest = fmax(greatest, score[j]);
    }
    for (int64_t j = 0; j < seen; j++) {
        score[j] = exp(score[j] - greatest);
        all += score[j];
    }
    extern const struct kernel kernel_attention_decode;
    double roundings = dtype_roundoff(o->p->dtype) / (kernel_attention_decode.bound.c * 0x1p-24);
    for (int64_t d = 0; d < dim; d++)
        flip = fmax(flip, fabs(q[d] * cached(o, CACHE_K, o->position, d)) / sqrt((double)dim));
    for (int64_t d = 0; d < dim; d++) {
        double sum = 0, size_of = 0;
        for (int64_t j = 0; j < seen; j++) {
            double value = cached(o, CACHE_V, o->low + j, d);
            sum += score[j] / all * value, size_of += score[j] / all * fabs(value);
        }
        for (int64_t j = 0; j < seen; j++)
            size_of += score[j] / all * terms[j] * fabs(cached(o, CACHE_V, o->low + j, d) - sum);
        int64_t at = (o->sequence * n[HEADS] + head) * dim + d;
        want[at] = sum;
        magnitude[at] =
            size_of + FLIPS * 2 * roundings * score[seen - 1] / all * flip * fabs(o->v[d] - sum);
    }
    free(score), free(terms);
}

static void reference(const struct problem *p, const void *const *before, double *const *want,
                      double *const *magnitude, int64_t first, int64_t last) {
    const int64_t *n = p->size, dim = n[HEAD_DIM], a_key = n[HEADS] / n[KV_HEADS];
    for (int64_t unit = first; unit < last; unit++) {
        double k[256], v[256], size[256];
        struct one o = {.p = p,
                        .before = before,
                        .sequence = unit / n[KV_HEADS],
                        .key = unit % n[KV_HEADS],
                        .k = k,
                        .v = v};
        o.position = ((const int32_t *)before[POSITION])[o.sequence];
        o.low = n[WINDOW] && o.position >= n[WINDOW] ? o.position - n[WINDOW] + 1 : 0;
        o.cache = unit * n[CAPACITY] * dim;
        for (int64_t i = o.cache; i < o.cache + n[CAPACITY] * dim; i++)
            want[CACHE_K][i] = want[CACHE_V][i] = NAN, magnitude[CACHE_K][i] = 0,
            magnitude[CACHE_V][i] = 0;
        int64_t row = o.sequence * (n[HEADS] + 2 * n[KV_HEADS]);
        make(&o, (row + n[HEADS] + o.key) * dim, K_NORM, k, size);
        for (int64_t d = 0; d < dim; d++) {
            int64_t at = o.cache + o.position * dim + d;
            v[d] = (double)((
                const float *)before[QKV])[(row + n[HEADS] + n[KV_HEADS] + o.key) * dim + d];
            want[CACHE_K][at] = k[d], magnitude[CACHE_K][at] = size[d];
            want[CACHE_V][at] = v[d], magnitude[CACHE_V][at] = fabs(v[d]);
            k[d] = rounded(p->dtype, k[d]), v[d] = rounded(p->dtype, v[d]);
        }
        for (int64_t g = 0; g < a_key; g++)
            attend(&o, o.key * a_key + g, want[OUT], magnitude[OUT]);
    }
}

static void input(const struct problem *p, int index, uint64_t seed, void *host) {
    static const double theta[ROPE_REALS] = {[ROPE_THETA] = 5e5, [ROPE_FACTOR] = 1};
    uint64_t state = seed;
    if (index == INV_FREQ) rope_inv_freq(theta, p->size[HEAD_DIM], host);
    for (int64_t i = 0; index == POSITION && i < p->size[BATCH]; i++) {
        uint64_t r = random_next(&state), most = (uint64_t)p->size[CONTEXT];
        ((int32_t *)host)[i] = (int32_t)(seed % 2 == 0 || r % 5 == 1 ? most - 1
                                         : r % 5 == 0                ? 0
                                                                     : r / 5 % most);
    }
}

const struct kernel kernel_attention_decode = {
    .name = "attention_decode",
    .summary = "attention of one new position over its KV cache, with the norms, RoPE and append",
    .source = "kernels/attention_decode/attention_decode.cu",
    .sizes = sizes,
    .size_count = COUNT(sizes),
    .reals = reals,
    .real_count = COUNT(reals),
    .tunables = tunables,
    .tunable_count = COUNT(tunables),
    .arguments = arguments,
    .argument_count = COUNT(arguments),
    .dtypes = DTYPES_FLOAT,
    .problems = problems,
    .problem_count = COUNT(problems),
    .bound = {64,
              "a score adds 8 products a lane and up to 5 lanes' sums, of q and k that were "
              "normed (half a head's squares) and turned (12 u32); an error of a score is one of "
              "its weight; weights and values are added position by position a warp, each step "
              "within 3 u32 of all so far, faded since; the new key's rounding may fall to the "
              "other side, which the magnitude counts"},
    .elements = elements,
    .legal = legal,
    .plan = plan,
    .cost = cost,
    .reference = reference,
    .outer = outer,
    .input = input,
};
