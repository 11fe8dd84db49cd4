/* qkv_append.c - the spec of qkv_append.cu: what can be tuned, what is legal and right. */
#include <math.h>

#include "kernels/rope/rope.h"
#include "kernels/shapes.h"

enum { HEADS, KV_HEADS, HEAD_DIM, QK_NORM, ROPE, BIAS, ROWS, START, CAPACITY };
enum { Q, QKV, BIASES, Q_NORM, K_NORM, INV_FREQ, CACHE_K, CACHE_V };
enum { BLOCK, VECTOR_BYTES, UNROLL, LOAD_HINT, STORE_HINT };

static const struct size sizes[] = {
    [HEADS] = {"heads", "query heads", true, 24, 1, 1024},
    [KV_HEADS] = {"kv_heads", "key and value heads", true, 8, 1, 1024},
    [HEAD_DIM] = {"head_dim", "elements of a head", true, 128, 2, 256},
    [QK_NORM] = {"qk_norm", "1: q and k are normed a head", true, 0, 0, 1},
    [ROPE] = {"rope", "1: q and k are turned", true, 1, 0, 1},
    [BIAS] = {"bias", "1: the projections have a bias", true, 0, 0, 1},
    [ROWS] = {"rows", "new positions", false, 512, 1, 1 << 24},
    [START] = {"start", "the first one's position", false, 0, 0, 1 << 24},
    [CAPACITY] = {"capacity", "positions in the cache", false, 4096, 1, 1 << 24},
};
static const struct real reals[] = {{"eps", "of the norms of q and k", 1e-6}};

static const int block[] = {32, 64, 96, 128, 192, 256, 384, 512};
static const struct tunable tunables[] = {
    [BLOCK] = {"block", "threads of a block", block, COUNT(block), 128},
    [VECTOR_BYTES] = {"vector_bytes", "bytes a load moves", values_vector_bytes,
                      COUNT(values_vector_bytes), 16},
    [UNROLL] = {"unroll", "heads of a row a thread has a part of", values_1248, COUNT(values_1248),
                1},
    [LOAD_HINT] = {"load_hint", "0 plain, 1 streaming", values_bool, COUNT(values_bool), 1},
    [STORE_HINT] = {"store_hint", "0 plain, 1 streaming", values_bool, COUNT(values_bool), 0},
};

static const struct argument arguments[] = {
    [Q] = {"q", "(rows, heads, head_dim)", ROLE_OUT, DTYPE_COUNT, FILL_NORMAL, false},
    [QKV] = {"qkv", "(rows, (heads + 2 kv_heads) * head_dim): q, k, v, raw", ROLE_IN, DTYPE_COUNT,
             FILL_NORMAL, false},
    [BIASES] = {"bias", "((heads + 2 kv_heads) * head_dim), or nothing without", ROLE_IN,
                DTYPE_COUNT, FILL_NORMAL, true},
    [Q_NORM] = {"q_norm", "(head_dim), nothing without qk_norm", ROLE_IN, DTYPE_COUNT, FILL_WEIGHT,
                true},
    [K_NORM] = {"k_norm", "(head_dim), nothing without qk_norm", ROLE_IN, DTYPE_COUNT, FILL_WEIGHT,
                true},
    [INV_FREQ] = {"inv_freq", "(head_dim / 2), nothing without rope", ROLE_IN, DTYPE_F32,
                  FILL_KERNEL, true},
    [CACHE_K] = {"cache_k", "(kv_heads, capacity, head_dim)", ROLE_INOUT, DTYPE_COUNT, FILL_NORMAL,
                 false},
    [CACHE_V] = {"cache_v", "(kv_heads, capacity, head_dim)", ROLE_INOUT, DTYPE_COUNT, FILL_NORMAL,
                 false},
};

#define OF(heads, kv, norm, rows, start)                                                           \
    { {heads, kv, 128, norm, 1, 0, rows, start, (rows) + (start)}, {1e-6}, DTYPE_F16 }
static const struct problem problems[] = {
    OF(24, 8, 0, 512, 0),    OF(16, 4, 0, 512, 0),    OF(24, 8, 0, 64, 0),
    OF(24, 8, 0, 256, 1792), OF(16, 4, 0, 256, 1792), OF(32, 8, 1, 512, 0),
};

static int64_t all_heads(const struct problem *p) { return p->size[HEADS] + 2 * p->size[KV_HEADS]; }

static int64_t elements(const struct problem *p, int index) {
    const int64_t *n = p->size;
    switch (index) {
    case Q:
        return n[ROWS] * n[HEADS] * n[HEAD_DIM];
    case QKV:
        return n[ROWS] * all_heads(p) * n[HEAD_DIM];
    case BIASES:
        return n[BIAS] ? all_heads(p) * n[HEAD_DIM] : 0;
    case Q_NORM:
    case K_NORM:
        return n[QK_NORM] ? n[HEAD_DIM] : 0;
    case INV_FREQ:
        return n[ROPE] ? n[HEAD_DIM] / 2 : 0;
    default:
        return n[KV_HEADS] * n[CAPACITY] * n[HEAD_DIM];
    }
}

static int64_t half_words(const struct problem *p, const struct point *t) {
    return p->size[HEAD_DIM] / 2 * (int64_t)dtype_bytes(p->dtype) / t->value[VECTOR_BYTES];
}
static int64_t lanes(const struct problem *p, const struct point *t) {
    int64_t n = 1;
    while (n < half_words(p, t) && n < 32) n *= 2;
    return n;
}
static int64_t groups(const struct problem *p, const struct point *t) {
    return (all_heads(p) + t->value[UNROLL] - 1) / t->value[UNROLL];
}

static bool legal(const struct problem *p, const struct point *t, const struct device_info *device,
                  const char **why) {
    const int64_t *n = p->size, bytes = (int64_t)dtype_bytes(p->dtype);
    const int *v = t->value;
    (void)device;
    if (n[HEAD_DIM] % 2) return refuse(why, "head_dim is odd");
    if (n[START] + n[ROWS] > n[CAPACITY])
        return refuse(why, "more positions than the cache has room for");
    if (v[VECTOR_BYTES] < bytes) return refuse(why, "a vector is shorter than an element");
    if (n[HEAD_DIM] / 2 * bytes % v[VECTOR_BYTES])
        return refuse(why, "half a head is no multiple of the vector");
    if (v[UNROLL] > 1 && v[UNROLL] / 2 >= all_heads(p))
        return refuse(why, "unrolled past the heads of a row");
    int64_t words = (half_words(p, t) + lanes(p, t) - 1) / lanes(p, t);
    if (2 * words * v[UNROLL] * v[VECTOR_BYTES] / 4 > 64)
        return refuse(why, "no registers for so many heads a thread");
    return true;
}

static struct plan plan(const struct problem *p, const struct point *t,
                        const struct device_info *device) {
    int64_t threads = p->size[ROWS] * groups(p, t) * lanes(p, t), block_ = t->value[BLOCK];
    return (struct plan){
        .stages = 1,
        .stage = {{.entry = "qkv_append",
                   .grid = {grid_blocks((threads + block_ - 1) / block_, 0, device), 1, 1},
                   .block = {(unsigned)block_, 1, 1}}}};
}

static struct cost cost(const struct problem *p) {
    double n = (double)elements(p, QKV), bytes = (double)dtype_bytes(p->dtype);
    return (struct cost){.read_bytes = n * bytes, .write_bytes = n * bytes, .flops = 6 * n};
}

static int64_t outer(const struct problem *p) { return p->size[ROWS]; }

/* --- the reference ---------------------------------------------------------------------------- */

/* One head of a row. size[i] is the sum of the |terms| of out[i]. */
static void make(const struct problem *p, const void *const *before, int64_t row, int64_t head,
                 double *out, double *size) {
    const int64_t *n = p->size, dim = n[HEAD_DIM], half = dim / 2;
    bool plain = head >= n[HEADS] + n[KV_HEADS];
    int norm = head < n[HEADS] ? Q_NORM : K_NORM;
    double x[256], sum = 0;
    for (int64_t i = 0; i < dim; i++) {
        x[i] = dtype_load(p->dtype, before[QKV], (row * all_heads(p) + head) * dim + i);
        if (n[BIAS]) x[i] += dtype_load(p->dtype, before[BIASES], head * dim + i);
        sum += x[i] * x[i];
    }
    double scale = 1 / sqrt(sum / (double)dim + (double)(float)p->real[0]);
    for (int64_t i = 0; i < dim; i++) {
        if (n[QK_NORM] && !plain) x[i] *= scale * dtype_load(p->dtype, before[norm], i);
        out[i] = x[i], size[i] = fabs(x[i]);
    }
    const float *inv_freq = before[INV_FREQ];
    for (int64_t i = 0; i < half && n[ROPE] && !plain; i++) {
        double angle = (double)((float)(n[START] + row) * inv_freq[i]), c = cos(angle),
               s = sin(angle);
        out[i] = x[i] * c - x[i + half] * s, out[i + half] = x[i + half] * c + x[i] * s;
        size[i] = fabs(x[i] * c) + fabs(x[i + half] * s);
        size[i + half] = fabs(x[i + half] * c) + fabs(x[i] * s);
    }
}

/* The other places of the caches are NaN already, so not to be touched. */
static void reference(const struct problem *p, const void *const *before, double *const *want,
                      double *const *magnitude, int64_t first, int64_t last) {
    const int64_t *n = p->size, dim = n[HEAD_DIM];
    for (int64_t row = first; row < last; row++)
        for (int64_t head = 0; head < all_heads(p); head++) {
            int64_t kv = head - n[HEADS];
            int argument = kv < 0 ? Q : kv < n[KV_HEADS] ? CACHE_K : CACHE_V;
            int64_t to = (argument == Q ? row * n[HEADS] + head
                                        : kv % n[KV_HEADS] * n[CAPACITY] + n[START] + row) *
                         dim;
            make(p, before, row, head, want[argument] + to, magnitude[argument] + to);
        }
}

static void input(const struct problem *p, int index, uint64_t seed, void *host) {
    static const double theta[ROPE_REALS] = {[ROPE_THETA] = 5e5, [ROPE_FACTOR] = 1};
    (void)seed;
    if (index == INV_FREQ) rope_inv_freq(theta, p->size[HEAD_DIM], host);
}

const struct kernel kernel_qkv_append = {
    .name = "qkv_append",
    .summary = "a prompt's q, k and v: bias, norms, RoPE; k and v into the cache",
    .source = "kernels/qkv_append/qkv_append.cu",
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
    .bound = {24,
              "bias 1; the norm: up to 22 additions of squares, halved by the root, and 4 more; "
              "turning 7 as rope's"},
    .elements = elements,
    .legal = legal,
    .plan = plan,
    .cost = cost,
    .reference = reference,
    .outer = outer,
    .input = input,
};
