/* attention_prefill.c - the spec of attention_prefill.cu: what can be tuned, what is legal and
 * right. */
#include <math.h>
#include <stdlib.h>

#include "kernels/shapes.h"
#include "runtime/random.h"

enum { HEADS, KV_HEADS, HEAD_DIM, ROWS, START, CAPACITY, WINDOW };
enum { OUT, Q, CACHE_K, CACHE_V };
enum { WARPS, FRAGMENTS, KEYS, STAGES, COPY, PACK, Q_REGISTERS, SWIZZLE, ORDER };

static const struct size sizes[] = {
    [HEADS] = {"heads", "query heads", true, 24, 1, 1024},
    [KV_HEADS] = {"kv_heads", "key and value heads", true, 8, 1, 1024},
    [HEAD_DIM] = {"head_dim", "elements of a head", true, 128, 16, 256},
    [ROWS] = {"rows", "new positions", false, 512, 1, 1 << 20},
    [START] = {"start", "the first one's position", false, 0, 0, 1 << 24},
    [CAPACITY] = {"capacity", "positions in the cache", false, 4096, 1, 1 << 24},
    [WINDOW] = {"window", "positions that are seen; 0: all", false, 0, 0, 1 << 24},
};

static const int warps[] = {1, 2, 4, 8};
static const int one_or_two[] = {1, 2};
static const int keys[] = {16, 32, 64, 128};
static const struct tunable tunables[] = {
    [WARPS] = {"warps", "of a block", warps, COUNT(warps), 4},
    [FRAGMENTS] = {"fragments", "of 16 rows a warp has", one_or_two, COUNT(one_or_two), 1},
    [KEYS] = {"keys", "positions of a tile", keys, COUNT(keys), 64},
    [STAGES] = {"stages", "tiles of keys and of values at once", one_or_two, COUNT(one_or_two), 1},
    [COPY] = {"copy", "of tiles: 0 through registers, 1 asynchronous", values_bool,
              COUNT(values_bool), 0},
    [PACK] = {"pack", "a block has: 0 a query head, 1 all that share a key head", values_bool,
              COUNT(values_bool), 1},
    [Q_REGISTERS] = {"q_registers", "queries stay in: 0 shared memory, 1 registers", values_bool,
                     COUNT(values_bool), 1},
    [SWIZZLE] = {"swizzle", "shared rows are: 0 padded, 1 turned about", values_bool,
                 COUNT(values_bool), 1},
    [ORDER] = {"order", "of blocks: 0 the last rows of all heads first, 1 head by head",
               values_bool, COUNT(values_bool), 0},
};

static const struct argument arguments[] = {
    [OUT] = {"out", "(rows, heads * head_dim)", ROLE_OUT, DTYPE_COUNT, FILL_NORMAL, false},
    [Q] = {"q", "(rows, heads, head_dim), normed and turned", ROLE_IN, DTYPE_COUNT, FILL_KERNEL,
           false},
    [CACHE_K] = {"cache_k", "(kv_heads, capacity, head_dim)", ROLE_IN, DTYPE_COUNT, FILL_NORMAL,
                 false},
    [CACHE_V] = {"cache_v", "(kv_heads, capacity, head_dim)", ROLE_IN, DTYPE_COUNT, FILL_NORMAL,
                 false},
};

#define OF(heads, kv, rows, start, window)                                                         \
    { {heads, kv, 128, rows, start, (rows) + (start), window}, {0}, DTYPE_F16 }
static const struct problem problems[] = {
    OF(24, 8, 512, 0, 0),    OF(16, 4, 512, 0, 0),      OF(24, 8, 256, 1792, 0),
    OF(16, 4, 256, 1792, 0), OF(32, 8, 512, 1536, 512),
};

static int64_t elements(const struct problem *p, int index) {
    const int64_t *n = p->size;
    if (index == OUT || index == Q) return n[ROWS] * n[HEADS] * n[HEAD_DIM];
    return n[KV_HEADS] * n[CAPACITY] * n[HEAD_DIM];
}

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* As the source decides: elements that this device's tensor cores do not multiply. */
static bool by_hand(const struct problem *p, const struct device_info *device) {
    return p->dtype == DTYPE_F32 ||
           (p->dtype == DTYPE_BF16 && device->kind == DEVICE_CUDA && device->arch < 80);
}

static int64_t packed(const struct problem *p, const struct point *t) {
    return t->value[PACK] ? p->size[HEADS] / p->size[KV_HEADS] : 1;
}
static int64_t block_rows(const struct point *t) {
    return 16 * t->value[FRAGMENTS] * t->value[WARPS];
}
static int64_t chunks(const struct problem *p) {
    return p->size[HEAD_DIM] * (int64_t)dtype_bytes(p->dtype) / 16;
}

static int64_t shared_bytes(const struct problem *p, const struct point *t,
                            const struct device_info *device) {
    int64_t stride = chunks(p) + !t->value[SWIZZLE], queries = block_rows(t) * stride;
    int64_t tiles = (int64_t)2 * t->value[STAGES] * t->value[KEYS] * stride;
    int64_t weights = by_hand(p, device) ? block_rows(t) * (t->value[KEYS] + 1) * 4 : 0;
    return 16 * (t->value[Q_REGISTERS] ? larger(queries, tiles) : queries + tiles) + weights;
}

/* About what a thread holds: sums, scores, queries, what is on its way, the rest. */
static int64_t registers(const struct problem *p, const struct point *t) {
    const int *v = t->value;
    int64_t dim = p->size[HEAD_DIM], threads = 32 * v[WARPS];
    int64_t sums = v[FRAGMENTS] * dim / 2, scores = v[FRAGMENTS] * v[KEYS] / 2;
    int64_t queries = v[Q_REGISTERS] ? v[FRAGMENTS] * dim / 4 : v[FRAGMENTS] * 4;
    int64_t moving = v[COPY] ? 0 : (v[KEYS] * chunks(p) + threads - 1) / threads * 4;
    return sums + scores + queries + moving + 32;
}

static bool legal(const struct problem *p, const struct point *t, const struct device_info *device,
                  const char **why) {
    const int64_t *n = p->size;
    const int *v = t->value;
    if (n[HEADS] % n[KV_HEADS]) return refuse(why, "key heads do not divide the query heads");
    if (n[HEAD_DIM] % 16) return refuse(why, "head_dim is no multiple of 16");
    if (n[START] + n[ROWS] > n[CAPACITY])
        return refuse(why, "more positions than the cache has room for");
    if (v[PACK] && n[HEADS] == n[KV_HEADS])
        return refuse(why, "a key head has one query head: nothing to pack");
    if (v[SWIZZLE] && chunks(p) % 8)
        return refuse(why, "a head is no multiple of 128 bytes: its rows are padded");
    if (v[COPY] && device->kind == DEVICE_CUDA && device->arch < 80)
        return refuse(why, "asynchronous copies are of sm_80");
    if (v[WARPS] == 1 && !by_hand(p, device))
        return refuse(why, "one warp a block is kept for what tensor cores do not multiply");
    if (v[Q_REGISTERS] && by_hand(p, device))
        return refuse(why, "without tensor cores queries are read from shared memory");
    if (shared_bytes(p, t, device) > device->shared_per_block)
        return refuse(why, "more shared memory than a block may have");
    if (registers(p, t) + 64 * by_hand(p, device) > 248)
        return refuse(why, "no registers for what a thread holds");
    return true;
}

static struct plan plan(const struct problem *p, const struct point *t,
                        const struct device_info *device) {
    int64_t pack = packed(p, t);
    int64_t tiles = (p->size[ROWS] * pack + block_rows(t) - 1) / block_rows(t);
    return (struct plan){.stages = 1,
                         .stage = {{.entry = "attention_prefill",
                                    .grid = {(unsigned)(tiles * p->size[HEADS] / pack), 1, 1},
                                    .block = {32 * (unsigned)t->value[WARPS], 1, 1},
                                    .shared_bytes = (unsigned)shared_bytes(p, t, device)}}};
}

static struct cost cost(const struct problem *p) {
    const int64_t *n = p->size;
    double bytes = (double)dtype_bytes(p->dtype), q = (double)elements(p, Q), pairs = 0;
    int64_t before = n[WINDOW] ? smaller(n[WINDOW] - 1, n[START]) : n[START];
    for (int64_t r = 0; r < n[ROWS]; r++)
        pairs += (double)(n[WINDOW] ? smaller(n[WINDOW], n[START] + r + 1) : n[START] + r + 1);
    double kv = 2 * (double)(n[KV_HEADS] * n[HEAD_DIM] * (before + n[ROWS]));
    return (struct cost){.read_bytes = (q + kv) * bytes,
                         .write_bytes = q * bytes,
                         .flops = 4 * pairs * (double)(n[HEADS] * n[HEAD_DIM])};
}

static int64_t outer(const struct problem *p) { return p->size[HEADS]; }

/* --- the reference ---------------------------------------------------------------------------- */

struct head { /* a query head; k and v of the positions [0, seen) as doubles, k by dimension */
    const struct problem *p;
    int64_t seen;
    double *k, *v, *score, *terms;
};

/* Scores of one row with positions [low, high], then their weights; returns the sum of these. */
static double weigh(const struct head *h, const double *q, int64_t low, int64_t high) {
    double greatest = -INFINITY, all = 0, root = sqrt((double)h->p->size[HEAD_DIM]);
    for (int64_t j = low; j <= high; j++) h->score[j] = h->terms[j] = 0;
    for (int64_t d = 0; d < h->p->size[HEAD_DIM]; d++)
        for (int64_t j = low; j <= high; j++) {
            double term = q[d] * h->k[d * h->seen + j] / root;
            h->score[j] += term, h->terms[j] += fabs(term);
        }
    for (int64_t j = low; j <= high; j++) greatest = fmax(greatest, h->score[j]);
    for (int64_t j = low; j <= high; j++) all += h->score[j] = exp(h->score[j] - greatest);
    return all;
}

/* out = sum of p v, p = weights / all. An error e of a score moves it by p e (v - out), and weights
 * are rounded to the element, the least of them to a multiple of its smallest number. */
static void sum_values(const struct head *h, int64_t low, int64_t high, double all, double *want,
                       double *magnitude) {
    extern const struct kernel kernel_attention_prefill;
    const int64_t dim = h->p->size[HEAD_DIM];
    double unit = kernel_attention_prefill.bound.c * 0x1p-24, felt = 0;
    double relative = 1 + dtype_roundoff(h->p->dtype) / unit;
    double absolute = dtype_floor(h->p->dtype) / unit;
    for (int64_t d = 0; d < dim; d++) want[d] = magnitude[d] = 0;
    for (int64_t j = low; j <= high; j++) {
        double p = h->score[j], each = p * (relative + h->terms[j]) + absolute;
        felt += p * h->terms[j];
        for (int64_t d = 0; d < dim; d++) {
            double value = h->v[j * dim + d];
            want[d] += p * value, magnitude[d] += each * fabs(value);
        }
    }
    for (int64_t d = 0; d < dim; d++) {
        want[d] /= all;
        magnitude[d] = (magnitude[d] + felt * fabs(want[d])) / all;
    }
}

static void attend(const struct head *h, int64_t head, const void *const *before, double *want,
                   double *magnitude) {
    const int64_t *n = h->p->size, dim = n[HEAD_DIM], key = head / (n[HEADS] / n[KV_HEADS]);
    double q[256];
    for (int64_t j = 0; j < h->seen; j++)
        for (int64_t d = 0; d < dim; d++) {
            int64_t at = (key * n[CAPACITY] + j) * dim + d;
            h->k[d * h->seen + j] = dtype_load(h->p->dtype, before[CACHE_K], at);
            h->v[j * dim + d] = dtype_load(h->p->dtype, before[CACHE_V], at);
        }
    for (int64_t r = 0; r < n[ROWS]; r++) {
        int64_t high = n[START] + r, at = (r * n[HEADS] + head) * dim;
        int64_t low = n[WINDOW] && high >= n[WINDOW] ? high - n[WINDOW] + 1 : 0;
        for (int64_t d = 0; d < dim; d++) q[d] = dtype_load(h->p->dtype, before[Q], at + d);
        double all = weigh(h, q, low, high);
        sum_values(h, low, high, all, want + at, magnitude + at);
    }
}

static void reference(const struct problem *p, const void *const *before, double *const *want,
                      double *const *magnitude, int64_t first, int64_t last) {
    int64_t seen = p->size[START] + p->size[ROWS], dim = p->size[HEAD_DIM];
    double *all = malloc((size_t)(2 * seen * dim + 2 * seen) * sizeof *all);
    if (!all) return; /* nothing is right, then */
    struct head h = {
        p, seen, all, all + seen * dim, all + 2 * seen * dim, all + 2 * seen * dim + seen};
    for (int64_t head = first; head < last; head++)
        attend(&h, head, before, want[OUT], magnitude[OUT]);
    free(all);
}

/* Scores of all kinds: some rows' spread over many positions, others' nearly one position's own. */
static void input(const struct problem *p, int index, uint64_t seed, void *host) {
    int64_t dim = p->size[HEAD_DIM], count = index == Q ? elements(p, Q) / dim : 0;
    uint64_t state = seed;
    for (int64_t i = 0; i < count; i++) {
        double scale = ldexp(1, (int)(i % 5) - 4);
        for (int64_t d = 0; d < dim; d++) {
            double sum = -6; /* of twelve numbers in [0, 1): about normal */
            for (int k = 0; k < 4; k++)
                for (uint64_t r = random_next(&state), n = 0; n < 3; n++, r >>= 21)
                    sum += (double)(r & 0x1fffff) * 0x1p-21;
            dtype_store(p->dtype, host, i * dim + d, (float)(sum * scale));
        }
    }
}

const struct kernel kernel_attention_prefill = {
    .name = "attention_prefill",
    .summary = "causal attention of a prompt's rows over the KV cache",
    .source = "kernels/attention_prefill/attention_prefill.cu",
    .sizes = sizes,
    .size_count = COUNT(sizes),
    .tunables = tunables,
    .tunable_count = COUNT(tunables),
    .arguments = arguments,
    .argument_count = COUNT(arguments),
    .dtypes = DTYPES_FLOAT,
    .problems = problems,
    .problem_count = COUNT(problems),
    .bound = {300,
              "a score adds up to 256 products one after the other, an error of it is one of its "
              "weight; scale, exponential and division 10; sums over positions are scaled once a "
              "tile; weights are rounded to the element, which the magnitude counts"},
    .elements = elements,
    .legal = legal,
    .plan = plan,
    .cost = cost,
    .reference = reference,
    .outer = outer,
    .input = input,
};
