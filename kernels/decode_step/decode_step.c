/* decode_step.c - the spec of decode_step.cu: a whole decode step as one kernel. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/rope/rope.h"
#include "kernels/shapes.h"
#include "runtime/random.h"

enum {
    BATCH,
    HIDDEN,
    INTERMEDIATE,
    HEADS,
    KV_HEADS,
    HEAD_DIM,
    QK_NORM,
    QKV_BIAS,
    O_BIAS,
    VOCAB,
    LAYERS,
    CAPACITY
};
enum {
    LOGITS,
    TOKEN,
    POSITION,
    FACTS,
    EMBEDDING,
    WEIGHTS,
    FINAL_NORM,
    HEAD,
    INV_FREQ,
    CACHE_K,
    CACHE_V
};
enum { WARPS, STAGES, COLUMNS, FLIGHT, LOAD_HINT, LEAST_TILES, EARLY };

static const struct size sizes[] = {
    [BATCH] = {"batch", "sequences", true, 1, 1, 16},
    [HIDDEN] = {"hidden", "model width", true, 3072, 8, 65536},
    [INTERMEDIATE] = {"intermediate", "of the MLP", true, 8192, 8, 1 << 20},
    [HEADS] = {"heads", "query heads", true, 24, 1, 1024},
    [KV_HEADS] = {"kv_heads", "key and value heads", true, 8, 1, 1024},
    [HEAD_DIM] = {"head_dim", "elements of a head", true, 128, 64, 256},
    [QK_NORM] = {"qk_norm", "1: q and k are normed a head", true, 0, 0, 1},
    [QKV_BIAS] = {"qkv_bias", "1: q, k and v have a bias", true, 0, 0, 1},
    [O_BIAS] = {"o_bias", "1: the output projection has a bias", true, 0, 0, 1},
    [VOCAB] = {"vocab", "rows of embedding and head", false, 2048, 8, 1 << 20},
    [LAYERS] = {"layers", "of the model", false, 2, 1, 1024},
    [CAPACITY] = {"capacity", "positions of the cache", false, 48, 1, 1 << 24},
};
static const struct real reals[] = {{"eps", "added to the mean of squares", 1e-5}};

/* With the one that copies: up to 4 a quarter of a multiprocessor, which leaves them 128 registers.
 */
static const int warps[] = {4, 7, 11, 15};
static const int stages[] = {2, 3, 4, 6, 8, 10};
static const int columns[] = {64, 1024, 1536, 2048, 3072};
static const int flight[] = {2, 3, 4, 6, 8};
static const int load_hint[] = {0, 1};
static const int least_tiles[] = {1, 4};
static const int early[] = {0, 4, 8};
static const struct tunable tunables[] = {
    [WARPS] = {"warps", "that multiply; one more copies", warps, COUNT(warps), 11},
    [STAGES] = {"stages", "tiles of the ring", stages, COUNT(stages), 8},
    [COLUMNS] = {"columns", "of a tile of 8 rows, at most", columns, COUNT(columns), 1536},
    [FLIGHT] = {"flight", "tiles of a block that are on their way at once, at most", flight,
                COUNT(flight), 3},
    [LOAD_HINT] = {"load_hint", "1: weights are the first that L2 gives up", load_hint,
                   COUNT(load_hint), 1},
    [LEAST_TILES] = {"least_tiles", "of keys and values that a block has before a head is shared",
                     least_tiles, COUNT(least_tiles), 1},
    [EARLY] = {"early",
               "eighths of the blocks that are not waited for before their words are looked at",
               early, COUNT(early), 0},
};

static const struct argument arguments[] = {
    [LOGITS] = {"logits", "(batch, vocab)", ROLE_OUT, DTYPE_F32, FILL_NORMAL, false},
    [TOKEN] = {"token", "(batch)", ROLE_IN, DTYPE_I32, FILL_KERNEL, false},
    [POSITION] = {"position", "(batch)", ROLE_IN, DTYPE_I32, FILL_KERNEL, false},
    [FACTS] =
        {"facts",
         "(layers, 3): 1 where q and k are turned; the window, 0: none; the longest delay at a "
         "phase's end in ns, for tests",
         ROLE_IN, DTYPE_I32, FILL_KERNEL, false},
    [EMBEDDING] = {"embedding", "(vocab, hidden)", ROLE_IN, DTYPE_COUNT, FILL_NORMAL, true},
    [WEIGHTS] = {"weights", "(layers, a layer's weights): see layout_of()", ROLE_IN, DTYPE_COUNT,
                 FILL_KERNEL, true},
    [FINAL_NORM] = {"final_norm", "(hidden)", ROLE_IN, DTYPE_COUNT, FILL_WEIGHT, true},
    [HEAD] = {"head", "(vocab, hidden)", ROLE_IN, DTYPE_COUNT, FILL_MATRIX, true},
    [INV_FREQ] = {"inv_freq", "(head_dim / 2)", ROLE_IN, DTYPE_F32, FILL_KERNEL, true},
    [CACHE_K] = {"cache_k", "(layers, batch, kv_heads, capacity, head_dim)", ROLE_INOUT,
                 DTYPE_COUNT, FILL_NORMAL, false},
    [CACHE_V] = {"cache_v", "(layers, batch, kv_heads, capacity, head_dim)", ROLE_INOUT,
                 DTYPE_COUNT, FILL_NORMAL, false},
};

static const struct problem problems[] = {
    {{1, 3072, 8192, 24, 8, 128, 0, 0, 0, 2048, 2, 48}, {1e-5}, DTYPE_F16},
    {{1, 2048, 11008, 16, 4, 128, 0, 0, 0, 2048, 2, 96}, {1e-6}, DTYPE_F16},
    {{8, 3072, 8192, 24, 8, 128, 0, 0, 0, 2048, 2, 48}, {1e-5}, DTYPE_F16},
};

static int64_t padded(int64_t elements) { return (elements + 127) / 128 * 128; }

/* Where a layer's weights lie, in elements from its beginning. */
struct layout {
    int64_t input_norm, qkv, qkv_bias, q_norm, k_norm, o, o_bias, post_norm, gate_up, down, end;
};
static struct layout layout_of(const struct problem *p) {
    const int64_t *n = p->size, q = n[HEADS] * n[HEAD_DIM], all = q + 2 * n[KV_HEADS] * n[HEAD_DIM];
    struct layout l = {0};
    l.qkv = padded(n[HIDDEN]);
    l.qkv_bias = l.qkv + padded(all * n[HIDDEN]);
    l.q_norm = l.qkv_bias + (n[QKV_BIAS] ? padded(all) : 0);
    l.k_norm = l.q_norm + (n[QK_NORM] ? padded(n[HEAD_DIM]) : 0);
    l.o = l.k_norm + (n[QK_NORM] ? padded(n[HEAD_DIM]) : 0);
    l.o_bias = l.o + padded(n[HIDDEN] * q);
    l.post_norm = l.o_bias + (n[O_BIAS] ? padded(n[HIDDEN]) : 0);
    l.gate_up = l.post_norm + padded(n[HIDDEN]);
    l.down = l.gate_up + padded(2 * n[INTERMEDIATE] * n[HIDDEN]);
    l.end = l.down + padded(n[HIDDEN] * n[INTERMEDIATE]);
    return l;
}

static int64_t elements(const struct problem *p, int index) {
    const int64_t *n = p->size;
    switch (index) {
    case LOGITS:
        return n[BATCH] * n[VOCAB];
    case TOKEN:
    case POSITION:
        return n[BATCH];
    case FACTS:
        return 3 * n[LAYERS];
    case EMBEDDING:
    case HEAD:
        return n[VOCAB] * n[HIDDEN];
    case WEIGHTS:
        return n[LAYERS] * layout_of(p).end;
    case FINAL_NORM:
        return n[HIDDEN];
    case INV_FREQ:
        return n[HEAD_DIM] / 2;
    default:
        return n[LAYERS] * n[BATCH] * n[KV_HEADS] * n[CAPACITY] * n[HEAD_DIM];
    }
}

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Of k columns, how many activations of a sequence a block stages at once: see model.inl. */
static int64_t piece(int64_t k, int64_t batch, int64_t columns) {
    int64_t limit = columns == 64 ? 2 << 10 : 80 << 10, tiles = (k + columns - 1) / columns;
    int64_t pieces = least((k * batch * 2 + limit - 1) / limit, tiles);
    int64_t width = ((k + tiles - 1) / tiles + 63) / 64 * 64;
    return least((tiles + pieces - 1) / pieces * width, k);
}

/* As the enumerations in model.inl have it. */
static int64_t shared_bytes(const struct problem *p, const struct point *t) {
    const int64_t *n = p->size, warp_count = t->value[WARPS], group = n[HEADS] / n[KV_HEADS];
    int64_t columns = t->value[COLUMNS], tile = 8 * columns * 2, batch = n[BATCH];
    int64_t plain =
        most(piece(n[HEADS] * n[HEAD_DIM], batch, columns), piece(n[INTERMEDIATE], batch, columns));
    int64_t widest = most(n[HIDDEN], plain);
    int64_t held = batch == 1 ? 12 : batch == 2 ? 8 : batch <= 4 ? 6 : batch <= 8 ? 4 : 2;
    int64_t matrix = (batch * (widest + (batch > 1 ? 56 : 0)) * 2 + 15) / 16 * 16 +
                     2 * held * warp_count * batch * 8 * 4;
    int64_t attention = (group + 2) * n[HEAD_DIM] * 4 + warp_count * group * (n[HEAD_DIM] + 2) * 4;
    return t->value[STAGES] * tile + most(matrix, attention);
}

static bool legal(const struct problem *p, const struct point *t, const struct device_info *device,
                  const char **why) {
    const int64_t *n = p->size;
    if (device->kind == DEVICE_CUDA && device->arch < 90)
        return refuse(why, "bulk copies into shared memory are of sm_90");
    if (p->dtype == DTYPE_F32) return refuse(why, "tensor cores multiply 16-bit elements here");
    if (n[HIDDEN] % 8 || n[INTERMEDIATE] % 8 || n[VOCAB] % 8)
        return refuse(why, "hidden, intermediate and vocab are not all multiples of 8");
    if (n[HEAD_DIM] % 64 || n[HEADS] % n[KV_HEADS])
        return refuse(why, "head_dim is no multiple of 64, or key heads do not divide the heads");
    if (n[HEADS] / n[KV_HEADS] > 8)
        return refuse(why, "over 8 query heads a key head: no registers for them");
    if (t->value[COLUMNS] == 64 && device->kind == DEVICE_CUDA)
        return refuse(why, "tiles of 64 columns are for tests");
    if (t->value[FLIGHT] > t->value[STAGES])
        return refuse(why, "more tiles on their way than the ring has");
    int64_t flying = t->value[FLIGHT] * 8 * t->value[COLUMNS] * 2;
    if (device->kind == DEVICE_CUDA &&
        (flying < 32 << 10 || (flying > 128 << 10 && t->value[FLIGHT] < t->value[STAGES])))
        return refuse(why, "too little on its way, or about as much as without a limit");
    int64_t ring = t->value[STAGES] * 8 * t->value[COLUMNS] * 2;
    if (device->kind == DEVICE_CUDA && (ring < 32 << 10 || t->value[STAGES] < 4))
        return refuse(why, "the ring is too small to keep the memory busy");
    int64_t fixed = 2048 + n[BATCH] * n[HEAD_DIM] * 4; /* barriers, sums of squares; angles */
    int64_t shared = shared_bytes(p, t) + fixed;
    if (device->kind == DEVICE_CUDA && shared > device->shared_per_block)
        return refuse(why, "more shared memory than a block may have");
    return true;
}

/* Each block has a unit of every matrix: words.inl says why. The CPU device gets more blocks than
 * it has cores, so that heads are split among several there too. */
static int64_t grid_of(const struct problem *p, const struct device_info *device) {
    const int64_t *n = p->size, grid = device->kind == DEVICE_CPU ? 6 : device->sms;
    int64_t units = least(least(n[HIDDEN], n[VOCAB]), 2 * n[INTERMEDIATE]);
    units = least(units, (n[HEADS] + 2 * n[KV_HEADS]) * n[HEAD_DIM]) / 8;
    return least(grid, units);
}

static struct plan plan(const struct problem *p, const struct point *t,
                        const struct device_info *device) {
    const int64_t *n = p->size, q = n[HEADS] * n[HEAD_DIM];
    int64_t grid = grid_of(p, device), kv = n[KV_HEADS] * n[HEAD_DIM];
    int64_t splits = least(most(grid / (n[KV_HEADS] * n[BATCH]), 1), 32);
    int64_t runs = n[BATCH] * n[HEADS] * splits * (n[HEAD_DIM] + 2);
    int64_t words =
        n[BATCH] * (n[HIDDEN] + q + 2 * kv) + n[BATCH] * (q + n[INTERMEDIATE]) / 2 + 2 * runs + 4;
    return (struct plan){.stages = 1,
                         .stage = {{.entry = "decode_step",
                                    .grid = {(unsigned)grid, 1, 1},
                                    .block = {(unsigned)t->value[WARPS] * 32 + 32, 1, 1},
                                    .shared_bytes = (unsigned)shared_bytes(p, t),
                                    .cooperative = true}},
                         .scratch_bytes = (size_t)words * 4,
                         .scratch_zeroed = true};
}

static struct cost cost(const struct problem *p) {
    const int64_t *n = p->size;
    double bytes = (double)dtype_bytes(p->dtype), layers = (double)n[LAYERS];
    double kv = (double)(n[KV_HEADS] * n[HEAD_DIM]), q = (double)(n[HEADS] * n[HEAD_DIM]);
    double matrices = layers * (double)n[HIDDEN] * (2 * q + 2 * kv + 3 * (double)n[INTERMEDIATE]) +
                      (double)(n[VOCAB] * n[HIDDEN]);
    double batch = (double)n[BATCH];
    double norms = (double)n[HIDDEN] * (2 * layers + 1 + batch); /* and the embedding's rows */
    double cached =
        batch * layers * 2 * kv * (double)(n[CAPACITY] - 1); /* as in use: the last position */
    return (struct cost){.read_bytes = bytes * (matrices + norms + cached),
                         .write_bytes = batch * (bytes * layers * 2 * kv + 4 * (double)n[VOCAB]),
                         .flops = 2 * batch * matrices + 4 * cached};
}

/* --- the reference: a forward pass of one position in fp64 ------------------------------------ */

struct forward {
    const struct problem *p;
    const void *const *before;
    double *const *want, *const *magnitude;
    double *x, *a, *b, *c; /* each long enough for any activation */
    int64_t sequence, position;
};

static double weight(const struct forward *f, int64_t at) {
    return dtype_load(f->p->dtype, f->before[WEIGHTS], at);
}

static void norm(const struct forward *f, const double *x, int argument, int64_t at, double *out) {
    int64_t n = f->p->size[HIDDEN];
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    double scale = 1 / sqrt(sum / (double)n + (double)(float)f->p->real[0]);
    for (int64_t i = 0; i < n; i++)
        out[i] = x[i] * scale * dtype_load(f->p->dtype, f->before[argument], at + i);
}

static double dot(const struct forward *f, int argument, int64_t at, const double *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += dtype_load(f->p->dtype, f->before[argument], at + i) * x[i];
    return sum;
}

static void head_in_place(const struct forward *f, double *head, int64_t norm_at, bool turns) {
    int64_t d = f->p->size[HEAD_DIM];
    const float *inv_freq = f->before[INV_FREQ];
    double sum = 0;
    for (int64_t i = 0; i < d; i++) sum += head[i] * head[i];
    double scale = 1 / sqrt(sum / (double)d + (double)(float)f->p->real[0]);
    for (int64_t i = 0; i < d && f->p->size[QK_NORM]; i++)
        head[i] *= scale * weight(f, norm_at + i);
    for (int64_t i = 0; i < d / 2 && turns; i++) {
        double angle = (double)((float)f->position * inv_freq[i]), x = head[i], y = head[i + d / 2];
        head[i] = x * cos(angle) - y * sin(angle),
        head[i + d / 2] = y * cos(angle) + x * sin(angle);
    }
}

static double rounded(enum dtype dtype, double value) {
    char element[8];
    dtype_store(dtype, element, 0, (float)value);
    return dtype_load(dtype, element, 0);
}

/* Writes one head's key or value where it belongs; the cache's bound is the element's rounding. */
static void keep(const struct forward *f, int argument, int64_t at, double *head) {
    int64_t d = f->p->size[HEAD_DIM];
    for (int64_t i = 0; i < d; i++) {
        f->want[argument][at + i] = head[i], f->magnitude[argument][at + i] = fabs(head[i]) + 1;
        head[i] = rounded(f->p->dtype, head[i]);
    }
}

/* One query head over the cache and our own key and value. */
static void attend(const struct forward *f, const double *q, const double *k, const double *v,
                   int64_t cache, int64_t low, double *out) {
    int64_t d = f->p->size[HEAD_DIM], n = f->position - low + 1;
    double *score = malloc((size_t)n * sizeof *score), greatest = -INFINITY, all = 0;
    for (int64_t j = 0; j < n; j++) {
        double sum = 0;
        for (int64_t i = 0; i < d; i++)
            sum += q[i] * (j == n - 1 ? k[i]
                                      : dtype_load(f->p->dtype, f->before[CACHE_K],
                                                   cache + (low + j) * d + i));
        score[j] = sum / sqrt((double)d), greatest = fmax(greatest, score[j]);
    }
    for (int64_t i = 0; i < d; i++) out[i] = 0;
    for (int64_t j = 0; j < n; j++) {
        double p = exp(score[j] - greatest);
        all += p;
        for (int64_t i = 0; i < d; i++)
            out[i] += p * (j == n - 1 ? v[i]
                                      : dtype_load(f->p->dtype, f->before[CACHE_V],
                                                   cache + (low + j) * d + i));
    }
    for (int64_t i = 0; i < d; i++) out[i] /= all;
    free(score);
}

static void attention(const struct forward *f, int64_t layer, int64_t base, struct layout l) {
    const int64_t *n = f->p->size, d = n[HEAD_DIM], q = n[HEADS] * d, kv = n[KV_HEADS] * d;
    const int32_t *facts = (const int32_t *)f->before[FACTS] + 3 * layer;
    int64_t low = facts[1] && f->position >= facts[1] ? f->position - facts[1] + 1 : 0;
    for (int64_t h = 0; h < n[HEADS]; h++)
        head_in_place(f, f->b + h * d, base + l.q_norm, facts[0]);
    for (int64_t h = 0; h < n[KV_HEADS]; h++) {
        int64_t cache = ((layer * n[BATCH] + f->sequence) * n[KV_HEADS] + h) * n[CAPACITY] * d;
        double *k = f->b + q + h * d, *v = f->b + q + kv + h * d;
        head_in_place(f, k, base + l.k_norm, facts[0]);
        keep(f, CACHE_K, cache + f->position * d, k);
        keep(f, CACHE_V, cache + f->position * d, v);
        for (int64_t g = h * n[HEADS] / n[KV_HEADS]; g < (h + 1) * n[HEADS] / n[KV_HEADS]; g++)
            attend(f, f->b + g * d, k, v, cache, low, f->a + g * d);
    }
}

static void layer_forward(const struct forward *f, int64_t layer) {
    const int64_t *n = f->p->size, d = n[HEAD_DIM], q = n[HEADS] * d;
    int64_t all = q + 2 * n[KV_HEADS] * d, inner = n[INTERMEDIATE];
    struct layout l = layout_of(f->p);
    int64_t base = layer * l.end;
    norm(f, f->x, WEIGHTS, base + l.input_norm, f->a);
    for (int64_t i = 0; i < all; i++)
        f->b[i] = dot(f, WEIGHTS, base + l.qkv + i * n[HIDDEN], f->a, n[HIDDEN]) +
                  (n[QKV_BIAS] ? weight(f, base + l.qkv_bias + i) : 0);
    attention(f, layer, base, l);
    for (int64_t i = 0; i < n[HIDDEN]; i++)
        f->x[i] += dot(f, WEIGHTS, base + l.o + i * q, f->a, q) +
                   (n[O_BIAS] ? weight(f, base + l.o_bias + i) : 0);
    norm(f, f->x, WEIGHTS, base + l.post_norm, f->a);
    for (int64_t i = 0; i < inner; i++) {
        double gate = dot(f, WEIGHTS, base + l.gate_up + i * n[HIDDEN], f->a, n[HIDDEN]);
        double up = dot(f, WEIGHTS, base + l.gate_up + (inner + i) * n[HIDDEN], f->a, n[HIDDEN]);
        f->c[i] = gate / (1 + exp(-gate)) * up;
    }
    for (int64_t i = 0; i < n[HIDDEN]; i++)
        f->x[i] += dot(f, WEIGHTS, base + l.down + i * inner, f->c, inner);
}

static int64_t outer(const struct problem *p) { return p->size[BATCH]; }

/* What no sequence writes is not to be touched: a cache's other positions. */
static void keep_off(const struct problem *p, double *const *want, double *const *magnitude,
                     int64_t sequence) {
    const int64_t *n = p->size, part = n[KV_HEADS] * n[CAPACITY] * n[HEAD_DIM];
    for (int argument = CACHE_K; argument <= CACHE_V; argument++)
        for (int64_t layer = 0; layer < n[LAYERS]; layer++)
            for (int64_t i = 0; i < part; i++) {
                int64_t at = (layer * n[BATCH] + sequence) * part + i;
                want[argument][at] = NAN, magnitude[argument][at] = 0;
            }
}

static void one_sequence(struct forward *f) {
    const struct problem *p = f->p;
    const int64_t *n = p->size;
    keep_off(p, f->want, f->magnitude, f->sequence);
    int64_t token = ((const int32_t *)f->before[TOKEN])[f->sequence];
    for (int64_t i = 0; i < n[HIDDEN]; i++)
        f->x[i] = dtype_load(p->dtype, f->before[EMBEDDING], token * n[HIDDEN] + i);
    for (int64_t layer = 0; layer < n[LAYERS]; layer++) layer_forward(f, layer);
    norm(f, f->x, FINAL_NORM, 0, f->a);
    for (int64_t row = 0; row < n[VOCAB]; row++) {
        double sum = 0, size = 0;
        for (int64_t i = 0; i < n[HIDDEN]; i++) {
            double term = f->a[i] * dtype_load(p->dtype, f->before[HEAD], row * n[HIDDEN] + i);
            sum += term, size += fabs(term);
        }
        int64_t at = f->sequence * n[VOCAB] + row;
        f->want[LOGITS][at] = sum, f->magnitude[LOGITS][at] = size;
    }
}

static void reference(const struct problem *p, const void *const *before, double *const *want,
                      double *const *magnitude, int64_t first, int64_t last) {
    const int64_t *n = p->size;
    int64_t wide =
        most(most(n[HIDDEN], n[INTERMEDIATE]), (n[HEADS] + 2 * n[KV_HEADS]) * n[HEAD_DIM]);
    for (int64_t b = first; b < last; b++) {
        double *room = calloc((size_t)(4 * wide), sizeof *room);
        struct forward f = {.p = p,
                            .before = before,
                            .want = want,
                            .magnitude = magnitude,
                            .x = room,
                            .a = room + wide,
                            .b = room + 2 * wide,
                            .c = room + 3 * wide,
                            .sequence = b,
                            .position = ((const int32_t *)before[POSITION])[b]};
        one_sequence(&f);
        free(room);
    }
}

/* --- inputs ----------------------------------------------------------------------------------- */

static float normal(uint64_t *state) { /* of deviation 1, from four 16-bit numbers */
    uint64_t h = random_next(state);
    int sum = (int)(h & 65535) + (int)(h >> 16 & 65535) + (int)(h >> 32 & 65535) + (int)(h >> 48);
    return (float)(sum - 131070) / 37837.0f;
}

/* Norms about 1; q's and k's matrices such that attention is far from even; the rest so that an
 * activation keeps its size. */
static void fill_weights(const struct problem *p, uint64_t seed, void *host) {
    struct layout l = layout_of(p);
    const int64_t *n = p->size, q = n[HEADS] * n[HEAD_DIM];
    uint64_t state = seed;
    for (int64_t layer = 0; layer < n[LAYERS]; layer++)
        for (int64_t i = 0; i < l.end; i++) {
            bool is_norm =
                i < l.qkv || (i >= l.q_norm && i < l.o) || (i >= l.post_norm && i < l.gate_up);
            int64_t inputs = i < l.qkv_bias ? n[HIDDEN]
                             : i < l.o_bias ? q
                             : i < l.down   ? n[HIDDEN]
                                            : n[INTERMEDIATE];
            bool is_bias = (i >= l.qkv_bias && i < l.q_norm) || (i >= l.o_bias && i < l.post_norm);
            float x = normal(&state), scale = 1.0f / sqrtf((float)inputs);
            dtype_store(p->dtype, host, layer * l.end + i,
                        is_norm   ? 1 + 0.2f * x
                        : is_bias ? 0.3f * x
                                  : scale * x);
        }
}

static void input(const struct problem *p, int index, uint64_t seed, void *host) {
    static const double theta[ROPE_REALS] = {[ROPE_THETA] = 5e5, [ROPE_FACTOR] = 1};
    const int64_t *n = p->size;
    uint64_t state = seed;
    int32_t *words = host;
    if (index == WEIGHTS) fill_weights(p, seed, host);
    if (index == INV_FREQ) rope_inv_freq(theta, n[HEAD_DIM], host);
    for (int64_t i = 0; index == TOKEN && i < n[BATCH]; i++)
        words[i] = (int32_t)(random_next(&state) % (uint64_t)n[VOCAB]);
    for (int64_t i = 0; index == POSITION && i < n[BATCH]; i++) /* in use: full; else anywhere */
        words[i] = (int32_t)(seed % 2 ? random_next(&state) % (uint64_t)n[CAPACITY]
                                      : (uint64_t)n[CAPACITY] - 1);
    for (int64_t i = 0; index == FACTS && i < n[LAYERS]; i++) {
        uint64_t r = random_next(&state);
        bool odd = seed % 2; /* else as in use */
        words[3 * i] = !(odd && r % 3 == 0);
        words[3 * i + 1] = odd && r % 2 ? (int32_t)(1 + r / 8 % (uint64_t)n[CAPACITY]) : 0;
        words[3 * i + 2] = odd && r % 5 == 0 ? 500 : 0;
    }
}

const struct kernel kernel_decode_step = {
    .name = "decode_step",
    .summary = "a token of each sequence through a whole model, from its embedding to the logits",
    .source = "kernels/decode_step/decode_step.cu",
    .sizes = sizes,
    .size_count = COUNT(sizes),
    .reals = reals,
    .real_count = COUNT(reals),
    .tunables = tunables,
    .tunable_count = COUNT(tunables),
    .arguments = arguments,
    .argument_count = COUNT(arguments),
    .dtypes = 1u << DTYPE_F16 | 1u << DTYPE_BF16,
    .problems = problems,
    .problem_count = COUNT(problems),
    .bound = {65536 * 4, "activations are rounded to the element before each of a layer's four "
                         "products (2^13 u32 in bf16), which a softmax and later layers enlarge: "
                         "32 times that, of the terms of the last product"},
    .least_arch = 90,
    .host_check = true,
    .elements = elements,
    .legal = legal,
    .plan = plan,
    .cost = cost,
    .reference = reference,
    .outer = outer,
    .input = input,
};
