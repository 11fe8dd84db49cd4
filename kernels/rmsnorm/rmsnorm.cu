// rmsnorm - y[r][c] = x[r][c] * rsqrt(mean_c(x[r][c]^2) + eps) * w[c]
//
// x, y: (rows, HIDDEN) element, row-major; w: (HIDDEN) element; all aligned to VECTOR_BYTES.
// Least traffic: x read once, y written once, w once (it stays in L1 and L2).
// Variants: ROWS_PER_BLOCK rows at a time by a block of BLOCK threads, BLOCK / ROWS_PER_BLOCK a
// row; PASSES 1 keeps the row in registers, 2 reads it again (from L1 or L2) after the sum, with
// UNROLL vectors in flight; REDUCE as in row_sum; BLOCKS_PER_SM 0 starts one block for each group
// of rows, n a grid of n blocks a multiprocessor that walks over them; AHEAD 1 loads the next
// rows before reducing these; PREFETCH n has the block's next n rows on their way into L2, which
// keeps more in flight than registers can hold; BULK n has n rows for each of a block's
// ROWS_PER_BLOCK teams of threads on their way into shared memory by bulk copies, from the start
// on, and STORE_HINT 2 lets them leave by bulk copies, too.
#include "kernels/tile.cuh"

typedef element_of<DTYPE> E;
typedef E::type element;

#ifndef CHECK

typedef word_of<VECTOR_BYTES>::type word;

enum {
    V = VECTOR_BYTES / E::BYTES,                // elements of a vector
    THREADS = BLOCK / ROWS_PER_BLOCK,           // of a row
    VECTORS = HIDDEN / V,                       // of a row
    CHUNKS = (VECTORS + THREADS - 1) / THREADS, // vectors a thread has of a row
    RAGGED = VECTORS % THREADS != 0,            // the last chunk is not all threads'
    SHARED_FLOATS = REDUCE == 1 ? BLOCK : 2 * ((BLOCK + 31) / 32),
};

DEVICE float square_sum(word w) {
    float f[V], sum = 0.0f;
    unpack<E>(w, f);
#pragma unroll
    for (int k = 0; k < V; k++) sum += f[k] * f[k];
    return sum;
}

DEVICE word scaled(word x, float r, word w) {
    float f[V], g[V];
    unpack<E>(x, f), unpack<E>(w, g);
#pragma unroll
    for (int k = 0; k < V; k++) f[k] = f[k] * r * g[k];
    word y;
    pack<E>(f, y);
    return y;
}

// This thread's chunks of a row; rows past the end read as zero.
DEVICE void load_row(word *v, const word *row, int t, bool inside) {
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) {
        int n = t + i * THREADS;
        v[i] = word();
        if (inside && (!RAGGED || n < VECTORS)) v[i] = load_word<LOAD_HINT>(row + n);
    }
}

#if BULK

enum { TEAMS = ROWS_PER_BLOCK, TEAM_WARPS = THREADS / 32, ROW_BYTES = HIDDEN * E::BYTES };

DEVICE void team_sync(int team) {
    if (THREADS == 32)
        __syncwarp();
    else if (TEAMS == 1)
        __syncthreads();
    else
        ptx_named_barrier(1 + team, THREADS);
}

// The sum over a team, to all of it. Calls alternate `parity`, so that one barrier is enough; when
// it is back, the whole team has come here.
DEVICE float team_sum(float v, float *shared, int team, int parity) {
#pragma unroll
    for (int x = 16; x > 0; x /= 2) v += __shfl_xor_sync(~0u, v, x);
    if (TEAM_WARPS == 1) return v;
    float *mine = shared + (parity * TEAMS + team) * TEAM_WARPS;
    if (threadIdx.x % 32 == 0) mine[threadIdx.x % THREADS / 32] = v;
    team_sync(team);
    v = 0.0f;
#pragma unroll
    for (int i = 0; i < TEAM_WARPS; i++) v += mine[i];
    return v;
}

DEVICE void bring(unsigned char *to, const word *row, uint64_t *barrier) {
    ptx_barrier_expect(barrier, ROW_BYTES);
    ptx_bulk_load<LOAD_HINT>(to, row, ROW_BYTES, barrier);
}

// A team's rows are `step` apart; row number k of them comes to place k % BULK.
ENTRY_BOUNDS(rmsnorm, BLOCK)
(element *y_, const element *x_, const element *w_, long long rows, float eps) {
    SHARED_DYNAMIC(unsigned char, all);
    SHARED(uint64_t, barriers, [TEAMS * BULK]);
    SHARED(float, sums, [2 * TEAMS * TEAM_WARPS]);
    const word *x = (const word *)x_, *w = (const word *)w_;
    word *y = (word *)y_;
    const int team = threadIdx.x / THREADS, t = threadIdx.x % THREADS;
    const long long step = (long long)gridDim.x * TEAMS;
    long long row = BLOCKS_PER_SM ? blockIdx.x + (long long)gridDim.x * team
                                  : (long long)blockIdx.x * TEAMS + team;
    unsigned char *places = all + team * BULK * ROW_BYTES;
    uint64_t *full = barriers + team * BULK;

    if (t == 0) {
        for (int i = 0; i < BULK; i++) ptx_barrier_init(full + i, 1);
        ptx_barrier_fence();
        for (int i = 0; i < BULK; i++)
            if (row + i * step < rows)
                bring(places + i * ROW_BYTES, x + (row + i * step) * VECTORS, full + i);
    }
    word scale[CHUNKS];
#pragma unroll
    for (int i = 0; i < CHUNKS; i++)
        if (!RAGGED || t + i * THREADS < VECTORS) scale[i] = w[t + i * THREADS];
    team_sync(team);

    for (int k = 0; row < rows; k++, row += step) {
        unsigned char *place = places + k % BULK * ROW_BYTES;
        word *here = (word *)place, v[CHUNKS];
        float sum = 0.0f;
        ptx_barrier_wait(full + k % BULK, k / BULK & 1);
#pragma unroll
        for (int i = 0; i < CHUNKS; i++) {
            v[i] = word();
            if (!RAGGED || t + i * THREADS < VECTORS) v[i] = here[t + i * THREADS];
            sum += square_sum(v[i]);
        }
        sum = team_sum(sum, sums, team, k & 1);
        if (STORE_HINT < 2 && t == 0 && row + BULK * step < rows)
            bring(place, x + (row + BULK * step) * VECTORS, full + k % BULK);
        float r = rsqrtf(sum / HIDDEN + eps);
#pragma unroll
        for (int i = 0; i < CHUNKS; i++) {
            int n = t + i * THREADS;
            if (RAGGED && n >= VECTORS) continue;
            if (STORE_HINT < 2)
                store_word<STORE_HINT>(y + row * VECTORS + n, scaled(v[i], r, scale[i]));
            else
                here[n] = scaled(v[i], r, scale[i]);
        }
        if (STORE_HINT < 2) continue;
        ptx_async_fence();
        team_sync(team);
        if (t != 0) continue;
        ptx_bulk_store<LOAD_HINT>(y + row * VECTORS, place, ROW_BYTES);
        ptx_bulk_commit();
        if (BULK > 1 && k && row + (BULK - 1) * step < rows) { // the place of the row before
            ptx_bulk_wait<1>();
            bring(places + (k - 1) % BULK * ROW_BYTES, x + (row + (BULK - 1) * step) * VECTORS,
                  full + (k - 1) % BULK);
        }
    }
    if (STORE_HINT == 2 && t == 0) ptx_bulk_wait<0>();
}

#else // registers hold the rows

ENTRY_BOUNDS(rmsnorm, BLOCK)
(element *y_, const element *x_, const element *w_, long long rows, float eps) {
    SHARED(float, shared, [SHARED_FLOATS]);
    const word *x = (const word *)x_, *w = (const word *)w_;
    word *y = (word *)y_;
    const int t = threadIdx.x % THREADS;
    const long long step = (long long)gridDim.x * ROWS_PER_BLOCK;
    long long base = (long long)blockIdx.x * ROWS_PER_BLOCK; // the same for the whole block
    long long row = base + threadIdx.x / THREADS;
    int parity = 0;

#if PASSES == 1
    word v[CHUNKS], scale[CHUNKS];
    load_row(v, x + row * VECTORS, t, row < rows);
    for (int k = 1; k < PREFETCH; k++)
        if (row + k * step < rows) prefetch<THREADS, VECTORS>(x + (row + k * step) * VECTORS, t);
#pragma unroll
    for (int i = 0; i < CHUNKS; i++)
        if (!RAGGED || t + i * THREADS < VECTORS) scale[i] = w[t + i * THREADS];
    for (; base < rows; base += step, row += step, parity ^= 1) {
        float sum = 0.0f;
        if (PREFETCH && row + PREFETCH * step < rows)
            prefetch<THREADS, VECTORS>(x + (row + PREFETCH * step) * VECTORS, t);
#pragma unroll
        for (int i = 0; i < CHUNKS; i++) sum += square_sum(v[i]);
#if AHEAD
        word next[CHUNKS];
        load_row(next, x + (row + step) * VECTORS, t, row + step < rows);
#endif
        sum = row_sum<THREADS, BLOCK, REDUCE>(sum, shared, parity);
        float r = rsqrtf(sum / HIDDEN + eps);
        if (row < rows) {
#pragma unroll
            for (int i = 0; i < CHUNKS; i++) {
                int n = t + i * THREADS;
                if (!RAGGED || n < VECTORS)
                    store_word<STORE_HINT>(y + row * VECTORS + n, scaled(v[i], r, scale[i]));
            }
        }
#if AHEAD
#pragma unroll
        for (int i = 0; i < CHUNKS; i++) v[i] = next[i];
#else
        if (BLOCKS_PER_SM) load_row(v, x + (row + step) * VECTORS, t, row + step < rows);
#endif
    }
#else
    for (; base < rows; base += step, row += step, parity ^= 1) {
        const word *from = x + row * VECTORS;
        float sum = 0.0f;
        if (row < rows) {
#pragma unroll UNROLL
            for (int n = t; n < VECTORS; n += THREADS)
                sum += square_sum(load_word<LOAD_HINT>(from + n));
        }
        sum = row_sum<THREADS, BLOCK, REDUCE>(sum, shared, parity);
        float r = rsqrtf(sum / HIDDEN + eps);
        if (row < rows) {
#pragma unroll UNROLL
            for (int n = t; n < VECTORS; n += THREADS)
                store_word<STORE_HINT>(y + row * VECTORS + n,
                                       scaled(load_word<LOAD_HINT>(from + n), r, w[n]));
        }
    }
#endif
}

#endif

#else // CHECK: the formula in fp64, a block of 256 threads a row; before, then after each argument

ENTRY(check)
(const element *, const element *x, const element *w, const element *y, const element *,
 const element *, long long rows, float eps, check_report *report) {
    SHARED(double, shared, [256]);
    for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
        double sum = 0;
        for (int c = threadIdx.x; c < HIDDEN; c += blockDim.x) {
            double v = E::load(x[row * HIDDEN + c]);
            sum += v * v;
        }
        __syncthreads();
        shared[threadIdx.x] = sum;
        __syncthreads();
        sum = 0;
        for (unsigned i = 0; i < blockDim.x; i++) sum += shared[i];
        double r = 1.0 / sqrt(sum / HIDDEN + (double)eps);
        for (int c = threadIdx.x; c < HIDDEN; c += blockDim.x) {
            double want = (double)E::load(x[row * HIDDEN + c]) * r * (double)E::load(w[c]);
            check_element(report, 0, row * HIDDEN + c, E::load(y[row * HIDDEN + c]), want,
                          want < 0 ? -want : want);
        }
    }
}

#endif
