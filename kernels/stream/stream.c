/* stream.c - the spec of stream.cu: what can be tuned, what is legal, what is right. */
#include <string.h>

#include "kernels/shapes.h"

enum { READ_BYTES, WRITE_BYTES };
enum { DST, SRC, SUM };
enum { BLOCK, VECTOR_BYTES, UNROLL, BLOCKS_PER_SM, LOAD_HINT, STORE_HINT, SPAN, BULK };

static const struct size sizes[] = {
    [READ_BYTES] = {"read_bytes", "bytes read, a multiple of 16", false, 1 << 28, 0,
                    INT64_C(1) << 40},
    [WRITE_BYTES] = {"write_bytes", "bytes written, a multiple of 16", false, 1 << 28, 0,
                     INT64_C(1) << 40},
};

static const int vector_bytes[] = {4, 8, 16};
static const int unroll[] = {1, 2, 4, 8, 16};
static const int bulk[] = {0, 1, 2, 4, 8};
static const struct tunable tunables[] = {
    [BLOCK] = {"block", "threads of a block", values_block, COUNT(values_block), 128},
    [VECTOR_BYTES] = {"vector_bytes", "bytes a load moves", vector_bytes, COUNT(vector_bytes), 16},
    [UNROLL] = {"unroll", "vectors in flight a thread", unroll, COUNT(unroll), 2},
    [BLOCKS_PER_SM] = {"blocks_per_sm", "0: a block a chunk; n: a persistent grid",
                       values_blocks_per_sm, COUNT(values_blocks_per_sm), 8},
    [LOAD_HINT] = {"load_hint", "0 plain, 1 streaming, 2 not kept in L1", values_012,
                   COUNT(values_012), 2},
    [STORE_HINT] = {"store_hint", "0 plain, 1 streaming, 2 out of shared memory", values_012,
                    COUNT(values_012), 1},
    [SPAN] = {"span", "0 strides by the whole grid, 1 takes contiguous chunks", values_bool,
              COUNT(values_bool), 0},
    [BULK] = {"bulk", "0: in registers; n: pieces a warp has in shared memory", bulk, COUNT(bulk),
              0},
};

static const struct argument arguments[] = {
    [DST] = {"dst", "(write_bytes)", ROLE_OUT, DTYPE_U8, FILL_BITS, false},
    [SRC] = {"src", "(read_bytes)", ROLE_IN, DTYPE_U8, FILL_BITS, false},
    [SUM] = {"sum", "(16): takes what is read beyond 2 write_bytes", ROLE_INOUT, DTYPE_U8,
             FILL_BITS, false},
};

enum { KIB = 1 << 10, MIB = 1 << 20 };
#define OF(read, write)                                                                            \
    { {read, write}, {0}, DTYPE_F16 }
static const struct problem problems[] = {
    /* 1:1, 16 KiB to 1 GiB in all, then a copy of 1 GiB */
    OF(8 * KIB, 8 * KIB), OF(512 * KIB, 512 * KIB), OF(3 * MIB, 3 * MIB), OF(8 * MIB, 8 * MIB),
    OF(25 * MIB, 25 * MIB), OF(100 * MIB, 100 * MIB), OF(512 * MIB, 512 * MIB),
    OF(1024 * MIB, 1024 * MIB),
    /* reads alone */
    OF(6 * MIB, 0), OF(50 * MIB, 0), OF(400 * MIB, 0), OF(1024 * MIB, 0),
    /* 2:1 */
    OF(4 * MIB, 2 * MIB), OF(200 * MIB, 100 * MIB), OF(682 * MIB, 341 * MIB)};

static int64_t elements(const struct problem *p, int index) {
    return index == SUM ? 16 : p->size[index == DST ? WRITE_BYTES : READ_BYTES];
}

/* Bytes of shared memory that a block's pieces take. */
static int64_t pieces_bytes(const int *v) {
    return (int64_t)v[BLOCK] * v[UNROLL] * v[VECTOR_BYTES] * v[BULK];
}

static bool bulk_legal(const struct problem *p, const int *v, const struct device_info *device,
                       const char **why) {
    enum { OWN_BYTES = 2048 }; /* barriers, and what the driver keeps of each block */
    int64_t write = p->size[WRITE_BYTES], bytes = pieces_bytes(v);
    int blocks = v[BLOCKS_PER_SM];
    if (device->kind == DEVICE_CUDA && device->arch < 90)
        return refuse(why, "there are bulk copies from sm_90 on");
    if (p->size[READ_BYTES] - write > write / 8)
        return refuse(why, "bulk copies are kept for about as many bytes out as in");
    if (v[VECTOR_BYTES] != 16 || v[SPAN] || v[UNROLL] < 4 || (v[BLOCK] & (v[BLOCK] - 1)) ||
        v[BLOCK] > 512)
        return refuse(why, "bulk copies deal out pieces of 2 to 8 KiB to up to 16 warps");
    if ((v[BULK] == 1) != (blocks == 0) || blocks > 4)
        return refuse(why, "several pieces a warp need a persistent grid of up to 4 blocks");
    if (v[LOAD_HINT] > 1 || (v[STORE_HINT] < 2 && v[LOAD_HINT] != v[STORE_HINT]))
        return refuse(why, "bulk copies stream both ways or neither");
    if (bytes + OWN_BYTES > device->shared_per_block / (blocks ? 1 : 2) ||
        blocks * (bytes + OWN_BYTES) > device->shared_per_sm)
        return refuse(why, "more pieces than shared memory holds");
    if (blocks ? 4 * blocks * bytes < device->shared_per_sm : 16 * bytes < device->shared_per_sm)
        return refuse(why, "fewer pieces than bulk copies are worth");
    return grid_fits(v[BLOCK], blocks, device) ||
           refuse(why, "more threads than a multiprocessor holds");
}

static bool legal(const struct problem *p, const struct point *t, const struct device_info *device,
                  const char **why) {
    const int *v = t->value;
    if (p->size[READ_BYTES] % 16 || p->size[WRITE_BYTES] % 16)
        return refuse(why, "read_bytes and write_bytes have to be multiples of 16");
    if (!p->size[READ_BYTES] && !p->size[WRITE_BYTES])
        return refuse(why, "nothing to read and nothing to write");
    if (v[BULK]) return bulk_legal(p, v, device, why);
    if (v[STORE_HINT] > 1) return refuse(why, "stores out of shared memory are for bulk copies");
    int bytes = v[UNROLL] * v[VECTOR_BYTES];
    if (v[VECTOR_BYTES] < 16 && (v[LOAD_HINT] || v[STORE_HINT] || v[BLOCKS_PER_SM] > 4))
        return refuse(why, "narrow vectors are kept in their plain form only");
    if (v[VECTOR_BYTES] == 4 && v[SPAN] == 0)
        return refuse(why, "4-byte vectors take contiguous chunks");
    if (v[BLOCK] & (v[BLOCK] - 1) && (v[BLOCKS_PER_SM] || v[SPAN] == 0 || v[STORE_HINT]))
        return refuse(why, "blocks of no power of two are kept in their plain form only");
    if (v[UNROLL] > 4 && bytes * v[BLOCK] > 64 << 10)
        return refuse(why, "over 64 KiB in flight a block: no registers for it");
    if (v[BLOCKS_PER_SM] && bytes * v[BLOCK] * v[BLOCKS_PER_SM] < 8 << 10)
        return refuse(why, "under 8 KiB in flight a multiprocessor: too little for any memory");
    if (!v[BLOCKS_PER_SM] && v[SPAN] == 0 && v[STORE_HINT] != (v[LOAD_HINT] == 1))
        return refuse(why, "one-shot grids that stride stream both ways or neither");
    if (!grid_fits(v[BLOCK], v[BLOCKS_PER_SM], device))
        return refuse(why, "more threads than a multiprocessor holds");
    return true;
}

static struct plan plan(const struct problem *p, const struct point *t,
                        const struct device_info *device) {
    const int *v = t->value;
    int64_t write = p->size[WRITE_BYTES], rest = p->size[READ_BYTES] - 2 * write;
    int64_t vectors = (write > rest ? write : rest) / v[VECTOR_BYTES];
    int64_t chunk = (int64_t)(v[BULK] > 1 ? 32 : v[BLOCK]) * v[UNROLL]; /* dealt out to a block */
    return (struct plan){
        .stages = 1,
        .stage = {
            {.entry = "stream",
             .grid = {grid_blocks((vectors + chunk - 1) / chunk, v[BLOCKS_PER_SM], device), 1, 1},
             .block = {(unsigned)v[BLOCK], 1, 1},
             .shared_bytes = (unsigned)pieces_bytes(v)}}};
}

static struct cost cost(const struct problem *p) {
    return (struct cost){.read_bytes = (double)p->size[READ_BYTES],
                         .write_bytes = (double)p->size[WRITE_BYTES]};
}

/* The 16-byte vectors of dst, then sum. */
static int64_t outer(const struct problem *p) { return p->size[WRITE_BYTES] / 16 + 1; }

static void reference(const struct problem *p, const void *const *before, double *const *want,
                      double *const *magnitude, int64_t first, int64_t last) {
    const uint8_t *src = before[SRC], *given = before[SUM];
    int64_t r = p->size[READ_BYTES], w = p->size[WRITE_BYTES];
    for (int64_t j = 16 * first; j < 16 * last && j < w; j++) {
        uint8_t byte = j < r ? src[j] : 0x5a;
        if (j < r - w) byte ^= src[w + j];
        want[DST][j] = byte;
        magnitude[DST][j] = 0;
    }
    if (16 * last <= w) return;
    uint8_t sum[16];
    memcpy(sum, given, sizeof sum);
    for (int64_t j = 2 * w; j < r; j++) sum[j % 16] ^= src[j];
    for (int i = 0; i < 16; i++) want[SUM][i] = sum[i], magnitude[SUM][i] = 0;
}

const struct kernel kernel_stream = {
    .name = "stream",
    .summary = "reads and writes so many bytes, and nothing else: the ceiling",
    .source = "kernels/stream/stream.cu",
    .sizes = sizes,
    .size_count = COUNT(sizes),
    .tunables = tunables,
    .tunable_count = COUNT(tunables),
    .arguments = arguments,
    .argument_count = COUNT(arguments),
    .dtypes = 1u << DTYPE_F16, /* bytes are bytes: once, where the default dtype is asked for */
    .problems = problems,
    .problem_count = COUNT(problems),
    .bound = {0, "bytes are moved and mixed by exclusive or: exact"},
    .elements = elements,
    .legal = legal,
    .plan = plan,
    .cost = cost,
    .reference = reference,
    .outer = outer,
};
