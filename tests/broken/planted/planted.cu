// planted - y[r][c] = x[r][c] + mean_c(x[r][c]^2), and the same with a mistake planted in it, which
// tests/test_broken.c wants to see caught. A block of 128 threads a row.
//
// x, y: (rows, cols) element, row-major, no alignment but an element's.
#include "kernels/tile.cuh"

#define CORRECT 0
#define MISSING_BARRIER 1
#define WRITES_BEHIND 2
#define READS_BEHIND 3
#define READS_FAR_BEHIND 4
#define MISALIGNED 5
#define DIVERGENT_BARRIER 6
#define NOT_A_NUMBER 7
#define STALE_OUTPUT 8
#define WRONG_MASK 9
#define ENDLESS_SPIN 10
#define ORDER_OF_ARRIVAL 11
#define HALF_SUM 12
#define DOES_NOT_COMPILE 13
#define WRITES_BEFORE 14
#define ROUNDS_TO_ZERO 15
#define HIDDEN_RACE 16

typedef element_of<DTYPE> E;
typedef E::type element;

enum { BLOCK = 128, WARPS = BLOCK / 32 };

DEVICE float square(element v) { return E::load(v) * E::load(v); }

// The part of a row's sum that is this thread's.
DEVICE float own_sum(const element *row, long long cols, bool last_row) {
    float sum = 0.0f;
    long long c = threadIdx.x;
#if MISTAKE == READS_BEHIND // the vector that would have followed the array
    if (last_row) cols += 8;
#elif MISTAKE == READS_FAR_BEHIND // columns taken for bytes, and multiplied once too often
    if (last_row) row += 1ll << 36;
#elif MISTAKE == MISALIGNED       // rows of an odd length do not start at multiples of 16 bytes
    if (c == 0) {
        float f[16 / E::BYTES];
        unpack<E>(*(const uint4 *)row, f);
        for (int k = 1; k < 16 / E::BYTES; k++) sum += f[k] * f[k];
    } else if (c < 16 / E::BYTES) {
        c += BLOCK;
    }
#endif
    for (; c < cols; c += BLOCK) {
        sum += square(row[c]);
#if MISTAKE == HALF_SUM // over 65504 there is no half
        sum = half_to_float(float_to_half(sum));
#endif
    }
    return sum;
}

// The sum over the block, to all threads.
DEVICE float block_sum(float v, float *shared) {
    const int t = threadIdx.x;
#if MISTAKE == ORDER_OF_ARRIVAL // another order of adding rounds otherwise
    if (t == 0) shared[0] = 0.0f;
    __syncthreads();
    atomicAdd(shared, v);
    __syncthreads();
    return shared[0];
#elif MISTAKE == HALF_SUM
    shared[t] = v;
    __syncthreads();
    for (int i = v = 0; i < BLOCK; i++) v = half_to_float(float_to_half(v + shared[i]));
    return v;
#else
#if MISTAKE == WRONG_MASK
    const unsigned mask = 0xffff;
#else
    const unsigned mask = ~0u;
#endif
#pragma unroll
    for (int x = 16; x > 0; x /= 2) v += __shfl_xor_sync(mask, v, x);
    if (t % 32 == 0) shared[t / 32] = v;
#if MISTAKE == ENDLESS_SPIN // nobody ever writes there
    while (*(volatile float *)&shared[BLOCK - 1] != 1.0f) spin_yield();
#elif MISTAKE != MISSING_BARRIER && MISTAKE != HIDDEN_RACE
    __syncthreads();
#endif
    v = 0.0f;
    for (int i = 0; i < WARPS; i++) v += shared[i];
    return v;
#endif
}

DEVICE element rounded(float f) {
#if MISTAKE == ROUNDS_TO_ZERO // loses up to a whole unit in the last place
    element e = E::store(f);
    float back = E::load(e);
    if (f > 0 ? back > f : back < f) e.bits--;
    return e;
#else
    return E::store(f);
#endif
}

ENTRY_BOUNDS(planted, BLOCK)
(element *y, const element *x, long long rows, long long cols) {
    SHARED(float, shared, [BLOCK]);
    const long long row = blockIdx.x;
#if MISTAKE == DIVERGENT_BARRIER // warps without a column leave; the others wait for them
    if (threadIdx.x / 32 * 32 >= cols) return;
#elif MISTAKE == DOES_NOT_COMPILE
    a_word_that_nobody_declared;
#endif
    float mean = block_sum(own_sum(x + row * cols, cols, row == rows - 1), shared) / cols;
#if MISTAKE == NOT_A_NUMBER // 0 / 0, in the last column
    float count = threadIdx.x == (cols - 1) % BLOCK ? 0.0f : 1.0f;
    mean = mean * count / count;
#endif
    long long first = threadIdx.x, end = cols, step = BLOCK;
#if MISTAKE == WRITES_BEHIND
    end++;
#elif MISTAKE == STALE_OUTPUT
    end--;
#elif MISTAKE == WRITES_BEFORE
    if (first == 0) first--;
#elif MISTAKE == HIDDEN_RACE // only the last warp writes: right if it also comes last
    first -= BLOCK - 32, step = 32;
    if (first < 0) return;
#endif
    for (long long c = first; c < end; c += step) {
        long long from = c < 0 ? 0 : c < cols ? c : cols - 1;
        y[row * cols + c] = rounded(E::load(x[row * cols + from]) + mean);
        if (c < 0) c = -BLOCK;
    }
}
