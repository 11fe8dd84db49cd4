// decode_step - a token of each of BATCH sequences through a whole model in one launch: from their
// embeddings to the logits.
//
// A block a multiprocessor, all resident. One warp of each block only copies: it walks through all
// weights that the block will need, layer after layer, and keeps a ring of STAGES tiles in shared
// memory full, without ever waiting for activations. WARPS other warps multiply. So the memory
// stays busy while phases wait for one another; what a phase boundary costs is hidden by what the
// ring holds. Phases of a layer, each done by all blocks:
//
//   qkv         a = rmsnorm(residual); q, k, v = a W^T (+ bias)
//   attention   q, k normed a head and turned; k, v into the caches; softmax(q k^T / sqrt(d)) v
//   out         residual += o W_o^T (+ bias)
//   gate, up    a = rmsnorm(residual); f = silu(a W_gate^T) (a W_up^T)
//   down        residual += f W_down^T
//
// then the head, logits = rmsnorm(residual) W_head^T. A unit of work is 8 rows of a matrix (4 of
// gate and the same 4 of up), which comes in tiles of 8 rows by at most COLUMNS, all as wide as can
// be. A warp multiplies its columns of a tile on tensor cores, with the activations of up to 16
// sequences, rounded to the element; sums are fp32.
// Units rotate over the blocks, so that none is last in every phase.
//
// What one phase hands to the next are words whose lowest bit says whether they are new
// (words.inl). A fence would wait for all that the ring has on its way, some 5 us; these need none,
// and a reader takes each word as soon as it is there.
//
// For the same reason nothing is read on a phase's edge that memory has to bring: angles are
// computed once; facts are kept in registers; what a sum is added to, and the weight of the norm
// that comes next, is read before the sum begins. And nobody waits for a norm: who writes the
// residual hands on its elements as the next product needs them but for a factor, and sums of
// squares, which give the factor while the product is made.
//
// Attention reads keys and values through the same ring: a block has a run of positions of one
// sequence's key head and all query heads that belong to it; the blocks of a head put their runs
// together, each a part of the dimensions.
//
// Least traffic: all weights and the cache's filled positions once.

#include "kernels/rope/rope.cuh"

#ifndef CHECK

#include "kernels/decode_step/model.inl"

#include "kernels/decode_step/copying.inl"
#include "kernels/decode_step/words.inl"

#include "kernels/decode_step/heads.inl"
#include "kernels/decode_step/matrix.inl"

// One matrix of a layer, or the head: what it needs of the phase before, and the product.
DEVICE void do_matrix(step &s, ring &r, int n, int kind, char *work, scales &c) {
    const int layer = n / MATRICES;
    element *x = (element *)work;
    if (kind == OF_QKV) enter_layer(s, layer);
    if (kind == OF_OUT) attend(s, r, layer, (float *)work);
    if (kind == OF_OUT)
        wait_for(s.m->heads, (unsigned)(layer + 1) * BATCH * KV_HEADS, BATCH * KV_HEADS);
    else
        wait_for(s.m->count, (unsigned)n * gridDim.x, n ? gridDim.x : 0);
    if (n == 0)
        stage_embedding(s, x, c);
    else if (is_normed(kind))
        stage_normed(s, kind == OF_GATE_UP, x, c);
    const element *w = layer_of(s, layer);
    float *part = (float *)(work + X_BYTES);
    if (is_normed(kind)) multiply_matrix<OF_NORMED>(s, r, kind, w, layer == 0, x, part, c);
    if (kind == OF_OUT) multiply_matrix<OF_OUT>(s, r, kind, w, layer == 0, x, part, c);
    if (kind == OF_DOWN) multiply_matrix<OF_DOWN>(s, r, kind, w, layer == 0, x, part, c);
    if (threadIdx.x == 0 && kind != OF_HEAD) ptx_add_relaxed(s.m->count, 1);
}

// The last block to end leaves the counters zero for the next launch and counts this one, so that
// the next one's layers have other numbers.
DEVICE void leave(const step &s) {
    meet();
    if (threadIdx.x || atomicAdd(s.m->done, 1u) != gridDim.x - 1) return;
    *s.m->count = 0, *s.m->heads = 0, *s.m->done = 0;
    *s.m->layers_done += (unsigned)s.m->layer_count;
}

DEVICE matrix matrix_of(int columns, int pieces, long long units, long long rows) {
    const int tiles = DECODE_STEP_TILES(columns), width = DECODE_STEP_WIDTH(columns);
    return {columns, width, tiles, pieces, (int)units, rows};
}
DEVICE void describe(model &m) {
    m.matrices[OF_QKV] = matrix_of(HIDDEN, 1, QKV / ROWS, AT_QKV);
    m.matrices[OF_OUT] = matrix_of(Q, of_kind<OF_OUT>::PIECES, HIDDEN / ROWS, AT_O);
    m.matrices[OF_GATE_UP] = matrix_of(HIDDEN, 1, 2 * INTERMEDIATE / ROWS, AT_GATE_UP);
    m.matrices[OF_DOWN] = matrix_of(INTERMEDIATE, of_kind<OF_DOWN>::PIECES, HIDDEN / ROWS, AT_DOWN);
    m.matrices[OF_HEAD] = matrix_of(HIDDEN, 1, m.vocab / ROWS, 0);
}

// Positions and angles, which all layers share; by the whole block, before its warps part.
DEVICE void find_angles(const int *positions, const float *inv_freq, model &m) {
    if (threadIdx.x < BATCH) m.position[threadIdx.x] = positions[threadIdx.x];
    for (int i = threadIdx.x; i < BATCH * (HEAD_DIM / 2); i += CONSUMERS + 32)
        m.turn[i] =
            rope_reduced((float)positions[i / (HEAD_DIM / 2)] * inv_freq[i % (HEAD_DIM / 2)]);
}

// Scratch, zero before the first launch: words residual (BATCH, HIDDEN), qkv (BATCH, QKV); quads
// attention (BATCH, Q / 4), product (BATCH, INTERMEDIATE / 4), handed (BATCH, HIDDEN / 4); 8 bytes
// each of runs (BATCH, KV_HEADS, most_splits(), GROUP, RUN); words squares (BATCH, HIDDEN / 8);
// then the counters.
//
// A block has a multiprocessor to itself; unless told, the compiler keeps registers for a second.
#define DECODE_STEP_BOUNDS WARPS * 32 + 32, 1
ENTRY_BOUNDS(decode_step, DECODE_STEP_BOUNDS)
(float *logits, const int *token, const int *position, const int *facts, const element *embedding,
 const element *layers, const element *final_norm, const element *head, const float *inv_freq,
 element *cache_k, element *cache_v, unsigned *scratch, long long vocab, long long layer_count,
 long long capacity, float eps) {
    // The ring's tiles on multiples of 128 bytes: elsewhere bulk copies are slower, a step by 15%.
    SHARED_DYNAMIC_AT(uint4, shared, 128);
    SHARED(uint64_t, barriers, [2 * STAGES]);
    SHARED(scales, shared_scales, [1]);
    SHARED(model, shared_model, [1]);
    model &m = shared_model[0];
    ring r = {(char *)shared, barriers, barriers + STAGES, 0, 0, 0, 0, 0};
    if (threadIdx.x == 0) {
        m.embedding = embedding, m.layers = layers, m.final_norm = final_norm, m.head = head;
        m.facts = facts, m.token = token, m.cache_k = cache_k, m.cache_v = cache_v;
        m.vocab = vocab, m.layer_count = layer_count,
        m.last = layers + (layer_count - 1) * LAYER_ELEMENTS;
        m.capacity = capacity, m.eps = eps;
        m.logits = logits;
        describe(m);
        m.residual = scratch, m.qkv = m.residual + BATCH * HIDDEN;
        m.attention = (uint2 *)(m.qkv + BATCH * QKV), m.product = m.attention + BATCH * Q / 4;
        m.handed = m.product + BATCH * INTERMEDIATE / 4;
        m.runs = m.handed + BATCH * HIDDEN / 4;
        m.squares =
            (unsigned *)(m.runs + (long long)BATCH * KV_HEADS * most_splits() * GROUP * RUN);
        m.count = m.squares + BATCH * SQUARES;
        m.heads = m.count + 1, m.done = m.count + 2, m.layers_done = m.count + 3;
        for (int i = 0; i < STAGES; i++) {
            ptx_barrier_init(&r.full[i], 1);
            ptx_barrier_init(&r.empty[i], WARPS);
        }
        ptx_barrier_fence();
    }
    find_angles(position, inv_freq, m);
    __syncthreads();
    step s;
    s.m = &m, s.offset = 0, s.number = *m.layers_done;
    if (threadIdx.x >= CONSUMERS) {
        copy_all(s, r);
        return;
    }
    char *work = (char *)shared + STAGES * TILE_BYTES;
    const int count = (int)layer_count * MATRICES + 1;
#pragma unroll 1
    for (int n = 0; n < count; n++)
        do_matrix(s, r, n, n < count - 1 ? n % MATRICES : (int)OF_HEAD, work, shared_scales[0]);
    leave(s);
}

#endif
