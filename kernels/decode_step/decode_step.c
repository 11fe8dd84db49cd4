/* decode_step.c - the spec of decode_step.cu: a whole decode step as one kernel. */
#include "kernels/decode_step/decode_step.h"
#include "kernels/shapes.h"

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

/* With the one that copies: 2 or 3 a quarter of a multiprocessor, which leaves them 255 or 168
 * registers. */
static const int warps[] = {4, 7, 8, 11};
static const int stages[] = {2, 3, 4, 6, 8, 10};
static const int columns[] = {64, 1024, 1536, 2048, 3072};
static const int flight[] = {2, 3, 4, 6, 8};
static const int load_hint[] = {0, 1};
static const int least_tiles[] = {1, 4};
static const int early[] = {0, 4, 8};
static const struct tunable tunables[] = {
    [WARPS] = {"warps", "that multiply; one more copies", warps, COUNT(warps), 8},
    [STAGES] = {"stages", "tiles of the ring", stages, COUNT(stages), 8},
    [COLUMNS] = {"columns", "of a tile of 8 rows, at most", columns, COUNT(columns), 1536},
    [FLIGHT] = {"flight", "tiles of a block that are on their way at once, at most", flight,
                COUNT(flight), 3},
    [LOAD_HINT] = {"load_hint", "1: weights are the first that L2 gives up", load_hint,
                   COUNT(load_hint), 1},
    [LEAST_TILES] = {"least_tiles", "of keys and values that a block has before a head is shared",
                     least_tiles, COUNT(least_tiles), 4},
    [EARLY] = {"early",
               "eighths of the blocks that are not waited for before their words are looked at",
               early, COUNT(early), 4},
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
    [WEIGHTS] = {"weights", "(layers, a layer's weights): see decode_step.h", ROLE_IN, DTYPE_COUNT,
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

int64_t decode_step_elements(const struct problem *p, int index) {
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
        return n[LAYERS] * decode_step_layout(p).end;
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
    int64_t matrix =
        batch * (widest + 56) * 2 + 2 * held * warp_count * batch * 8 * 4 + 2 * held * 8 * 2;
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
    if (n[HEAD_DIM] % 64 || (n[HEAD_DIM] & (n[HEAD_DIM] - 1)) || n[HEADS] % n[KV_HEADS])
        return refuse(why, "head_dim is not 64, 128 or 256, or key heads do not divide the heads");
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
    int64_t fixed = 2048 + n[BATCH] * n[HEAD_DIM] * 4; /* barriers, scales; angles */
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
    int64_t words = n[BATCH] * (n[HIDDEN] + q + 2 * kv) +
                    n[BATCH] * (q + n[INTERMEDIATE] + n[HIDDEN]) / 2 + 2 * runs +
                    n[BATCH] * n[HIDDEN] / 8 + 4;
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
    .elements = decode_step_elements,
    .legal = legal,
    .plan = plan,
    .cost = cost,
    .reference = decode_step_reference,
    .outer = decode_step_outer,
    .input = decode_step_input,
};
