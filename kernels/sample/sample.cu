// sample - the next token of each sequence from its logits, so that decoding needs no host: greedy,
// or temperature, top-k, top-p and min-p in the order and with the ties of engine/sample.h, then
// the draw of sample.cuh, which depends on (seed, position, id) alone
//
// token: (batch) int32; position: (batch) int32, one more after; history: (batch, capacity) int32,
// of which [position + 1] becomes the token where that is an index; logits: (batch, vocab) fp32,
// aligned to VECTOR_BYTES; setting: (batch, 8) words: temperature (0: greedy), top_k (0: off),
// top_p, min_p, seed low, seed high, 0, 0. Settings are taken as engine/sample.h allows them. A row
// with NaN or +inf among its logits, or with nothing but -inf, gives token -1.
// Least traffic: logits read once.
//
// No vocabulary is sorted. Pass 1 finds the largest logit. Pass 2 counts (top-k) or weighs (top-p)
// BUCKETS buckets of width 32 / BUCKETS below it: the bucket that holds the threshold is then
// known. Pass 3 draws among the ids that are certain to stay and lists the doubtful ones: all down
// to the threshold's bucket for top-k, that bucket alone for top-p. At last one block finds the
// exact thresholds in the list, by digits of 8 bits, and draws among what stays. Weights are
// exp(logit - largest) as integers of 2^-40, so that sums depend on no order.
//
// Variants: BLOCKS blocks of BLOCK threads a sequence, each with UNROLL vectors in flight a thread.
// FUSE 0: the passes and the end are four launches; 1: three, the last block to arrive does the
// end; 2: one, cooperative where BLOCKS > 1, with barriers between the passes where not greedy.
#include "kernels/sample/sample.cuh"
#include "kernels/sample/sample_check.cuh"

#ifndef CHECK

typedef word_of<VECTOR_BYTES>::type word;
typedef element_of<2> F;

enum {
    V = VECTOR_BYTES / 4,
    DIGITS = 256,
    WARPS = BLOCK / 32,
    PER_THREAD = (BUCKETS + BLOCK - 1) / BLOCK, // buckets of a thread in a scan
    COUNT_AT = 0,                               // in a sequence's scratch: the list's length
    ARRIVED_AT = 1,
    TOPS_AT = 2, // largest key of each block
    BEST_AT = TOPS_AT + BLOCKS,
    BUCKETS_AT = BEST_AT + BLOCKS,
    LIST_AT = BUCKETS_AT + BUCKETS,
};

struct room {                             // a block's shared memory
    unsigned low[BUCKETS], high[BUCKETS]; // sums of 64 bits, later the list where it is short
    unsigned digit_low[DIGITS], digit_high[DIGITS], digit_count[DIGITS];
    sample_key warp[32], base, before;
    unsigned flag;
};

struct row { // a sequence
    const float *logits;
    sample_key *scratch;
    sample_setting set;
    unsigned long long stream;
    long long vocab;
};
DEVICE bool greedy(const row &r) { return !(r.set.temperature > 0.0f); }
DEVICE bool narrowed(const row &r) { return r.set.top_k > 0 || r.set.top_p < 1.0f; }
DEVICE unsigned *word_at(const row &r, int at) { return (unsigned *)(r.scratch + at); }

// Blocks talk through L2 alone.
DEVICE sample_key shared_key(const row &r, long long at) { return __ldcg(r.scratch + at); }

DEVICE row row_of(const int *position, const float *logits, const int *setting, sample_key *scratch,
                  long long vocab) {
    const long long n = blockIdx.y;
    row r;
    r.logits = logits + n * vocab;
    r.scratch = scratch + n * (LIST_AT + vocab);
    r.set = sample_read(setting + 8 * n);
    r.stream = sample_stream(r.set.seed, position[n]);
    r.vocab = vocab;
    return r;
}

// --- a block together ----------------------------------------------------------------------------

DEVICE sample_key block_max(sample_key key, room &m) {
#pragma unroll
    for (int x = 16; x > 0; x /= 2) key = max(key, __shfl_xor_sync(~0u, key, x));
    __syncthreads();
    if (threadIdx.x % 32 == 0) m.warp[threadIdx.x / 32] = key;
    __syncthreads();
    key = m.warp[0];
#pragma unroll 4
    for (int i = 1; i < WARPS; i++) key = max(key, m.warp[i]);
    return key;
}

DEVICE sample_key warp_scan(sample_key value) { // with this lane's own
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
        sample_key below = __shfl_up_sync(~0u, value, d);
        if ((int)threadIdx.x % 32 >= d) value += below;
    }
    return value;
}

// The sum over the threads before this one; *total over all.
DEVICE sample_key block_scan(sample_key value, sample_key *total, room &m) {
    sample_key upto = warp_scan(value), before = upto - value, sum = 0;
    __syncthreads();
    if (threadIdx.x % 32 == 31) m.warp[threadIdx.x / 32] = upto;
    __syncthreads();
    for (int i = 0; i < WARPS; i++) {
        if (i == (int)threadIdx.x / 32) before += sum;
        sum += m.warp[i];
    }
    *total = sum;
    return before;
}

// A sum of 64 bits in two words of shared memory, which have an instruction for it.
DEVICE void add_wide(unsigned *low, unsigned *high, sample_key value) {
    const unsigned part = (unsigned)value, carry = atomicAdd(low, part) + part < part;
    const unsigned rest = (unsigned)(value >> 32) + carry;
    if (rest) atomicAdd(high, rest);
}

// --- between blocks ------------------------------------------------------------------------------

// Is this the sequence's last block to come here, `arrivals` having come since the scratch was 0?
DEVICE bool arrives_last(const row &r, unsigned arrivals, room &m) {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) m.flag = atomicAdd(word_at(r, ARRIVED_AT), 1u) + 1 == arrivals;
    __syncthreads();
    __threadfence();
    return m.flag;
}

DEVICE void wait_for_all(const row &r, unsigned arrivals) {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        atomicAdd(word_at(r, ARRIVED_AT), 1u);
        while (__ldcg(word_at(r, ARRIVED_AT)) < arrivals) spin_yield();
    }
    __syncthreads();
    __threadfence();
}

// --- the steps -----------------------------------------------------------------------------------

// f(logit, id) for each of this block's logits, from AHEAD vectors loaded at a time.
template <int AHEAD, class Function> DEVICE void each_logit(const row &r, Function f) {
    const word *from = (const word *)r.logits;
    const int words = (int)(r.vocab / V);
    for (int first = blockIdx.x * BLOCK * AHEAD; first < words; first += BLOCKS * BLOCK * AHEAD) {
        word w[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            const int n = first + k * BLOCK + threadIdx.x;
            w[k] = n < words ? from[n] : word();
        }
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            const int n = first + k * BLOCK + threadIdx.x;
            float logit[V];
            unpack<F>(w[k], logit);
            if (n >= words) break;
#pragma unroll
            for (int i = 0; i < V; i++) f(logit[i], n * V + i);
        }
    }
}

DEVICE sample_key top_of(const row &r, room &m) {
    sample_key top = 0;
    for (int i = threadIdx.x; i < BLOCKS; i += BLOCK) top = max(top, shared_key(r, TOPS_AT + i));
    return block_max(top, m);
}

// The scaled largest logit: what the others are measured from.
DEVICE float largest_of(const row &r, sample_key top) {
    return sample_scale(sample_key_value(top), r.set.temperature);
}

DEVICE int bucket_of(float below) { return (int)fminf(-below * (BUCKETS / 32.0f), BUCKETS - 1.0f); }

DEVICE sample_key weight_of(float below) { return (sample_key)(expf(below) * 0x1p40f); }

// The least whole sum that reaches top_p of `total`: an id stays while those before it are under.
DEVICE sample_key goal_of(const row &r, sample_key total) {
    return (sample_key)ceil((double)r.set.top_p * (double)total);
}

// An id in the draw; 0 for one that min-p removes or that cannot win: the largest takes part, with
// a key of at least -log(-log(2^-33)) > -3.14, so that e < exp(below + 3.14), and v <= e.
DEVICE sample_key drawn(const row &r, float below, int id) {
    const float weight = expf(below);
    const unsigned h = sample_bits(r.stream, id);
    if (weight < r.set.min_p || (float)h * 0x1p-32f > 23.2f * weight) return 0;
    return sample_key_of(below - logf(sample_exponential(h)), id);
}

DEVICE void find_largest(const row &r, room &m) {
    sample_key top = 0;
    each_logit<UNROLL>(r, [&](float logit, int id) { top = max(top, sample_key_raw(logit, id)); });
    top = block_max(top, m);
    if (threadIdx.x == 0)
        r.scratch[TOPS_AT + blockIdx.x] = top, r.scratch[BEST_AT + blockIdx.x] = 0;
    if (blockIdx.x == 0 && threadIdx.x == 0) *word_at(r, COUNT_AT) = 0;
    for (int i = blockIdx.x * BLOCK + threadIdx.x; i < BUCKETS; i += BLOCKS * BLOCK)
        r.scratch[BUCKETS_AT + i] = 0;
}

DEVICE void fill_buckets(const row &r, room &m) {
    const sample_key top = top_of(r, m);
    if (greedy(r) || !narrowed(r) || !sample_key_good(top)) return;
    const float largest = largest_of(r, top);
    for (int i = threadIdx.x; i < BUCKETS; i += BLOCK) m.low[i] = m.high[i] = 0;
    __syncthreads();
    each_logit<UNROLL>(r, [&](float logit, int) {
        const float scaled = sample_scale(logit, r.set.temperature);
        if (scaled < -3.402823466e38f) return;
        const float below = scaled - largest;
        const int bucket = bucket_of(below);
        add_wide(&m.low[bucket], &m.high[bucket], r.set.top_k > 0 ? 1 : weight_of(below));
    });
    __syncthreads();
    for (int i = threadIdx.x; i < BUCKETS; i += BLOCK) {
        const sample_key sum = (sample_key)m.high[i] << 32 | m.low[i];
        if (sum) atomicAdd(r.scratch + BUCKETS_AT + i, sum);
    }
}

// The bucket that holds the last id to stay; *goal is what is still to be reached in it.
DEVICE int last_bucket(const row &r, sample_key *goal, room &m) {
    sample_key sums[PER_THREAD], mine = 0, total;
    const int first = threadIdx.x * PER_THREAD;
#pragma unroll
    for (int i = 0; i < PER_THREAD; i++) {
        sums[i] = first + i < BUCKETS ? shared_key(r, BUCKETS_AT + first + i) : 0;
        mine += sums[i];
    }
    sample_key before = block_scan(mine, &total, m);
    const sample_key target = r.set.top_k > 0 ? (sample_key)r.set.top_k : goal_of(r, total);
    if (threadIdx.x == 0) m.flag = BUCKETS - 1, m.before = 0; // everything, where it is not reached
    __syncthreads();
#pragma unroll
    for (int i = 0; i < PER_THREAD; i++) {
        if (before < target && before + sums[i] >= target)
            m.flag = first + i, m.before = target - before;
        before += sums[i];
    }
    __syncthreads();
    const int bucket = m.flag;
    *goal = m.before;
    __syncthreads();
    return bucket;
}

DEVICE void gather(const row &r, room &m) {
    const sample_key top = top_of(r, m);
    if (greedy(r) || !sample_key_good(top)) return;
    const float largest = largest_of(r, top);
    sample_key goal, best = 0;
    const int last = narrowed(r) ? last_bucket(r, &goal, m) : (int)BUCKETS;
    const int listed = r.set.top_k > 0 ? 0 : last; // the first bucket that goes into the list
    each_logit<1>(r, [&](float logit, int id) {
        const float scaled = sample_scale(logit, r.set.temperature);
        const float below = scaled - largest;
        const int bucket = bucket_of(below);
        if (scaled < -3.402823466e38f || bucket > last) return;
        if (bucket < listed)
            best = max(best, drawn(r, below, id));
        else
            r.scratch[LIST_AT + atomicAdd(word_at(r, COUNT_AT), 1u)] = sample_key_of(scaled, id);
    });
    best = block_max(best, m);
    if (threadIdx.x == 0) r.scratch[BEST_AT + blockIdx.x] = best;
}

// --- the end: one block and the list -------------------------------------------------------------

// f(key) for each of the list's keys; all threads come back from it together.
template <class Function> DEVICE void each_listed(const row &r, int count, room &m, Function f) {
#pragma unroll 1
    for (int i = threadIdx.x; i < count; i += BLOCK)
        f(count <= BUCKETS ? (sample_key)m.high[i] << 32 | m.low[i] : shared_key(r, LIST_AT + i));
    __syncthreads();
}

// Of the digits, from the largest down, the one in which the sum reaches `goal`; the first warp
// leaves it in m.flag and the sum before it in m.before. m.flag is DIGITS where none does.
DEVICE void find_digit(sample_key goal, room &m) {
    if (threadIdx.x < 32) {
        const int most = DIGITS - 1 - 8 * threadIdx.x;
        sample_key sum = 0;
        for (int i = 0; i < 8; i++)
            sum += (sample_key)m.digit_high[most - i] << 32 | m.digit_low[most - i];
        sample_key before = warp_scan(sum) - sum;
        if (threadIdx.x == 0) m.flag = DIGITS;
        __syncwarp();
        for (int i = 0; i < 8; i++) {
            sum = (sample_key)m.digit_high[most - i] << 32 | m.digit_low[most - i];
            if (before < goal && before + sum >= goal) m.flag = most - i, m.before = before;
            before += sum;
        }
    }
    __syncthreads();
}

// The least key to stay of those from `floor` on: keys stay, from the largest down, while the sum
// of those before is under `goal`. Counts keys without their ids (equals stay together) where
// `by_count`, else weighs them.
DEVICE sample_key select(const row &r, int count, float largest, sample_key floor, bool by_count,
                         sample_key goal, room &m) {
    const int drop = by_count ? SAMPLE_ID_BITS : 0;
    sample_key most = 0, least = 0;
    each_listed(r, count, m, [&](sample_key key) {
        if (key >= floor) most = max(most, key >> drop), least = max(least, ~(key >> drop));
    });
    most = block_max(most, m), least = ~block_max(least, m);
    while (most > least) {
        const unsigned upper = (unsigned)((most - least) >> 32);
        const int bits = upper ? 64 - __clz(upper) : 32 - __clz((unsigned)(most - least));
        const int shift = bits > 8 ? bits - 8 : 0;
        for (int i = threadIdx.x; i < DIGITS; i += BLOCK)
            m.digit_low[i] = m.digit_high[i] = m.digit_count[i] = 0;
        __syncthreads();
        each_listed(r, count, m, [&](sample_key key) {
            const sample_key value = key >> drop;
            if (key < floor || value < least || value > most) return;
            const int digit = (int)((value - least) >> shift);
            atomicAdd(&m.digit_count[digit], 1u);
            add_wide(&m.digit_low[digit], &m.digit_high[digit],
                     by_count ? 1 : weight_of(sample_key_value(key) - largest));
        });
        find_digit(goal, m);
        const int digit = m.flag;
        if (digit == DIGITS) break; // all stay
        goal -= m.before;
        const bool alone = m.digit_count[digit] == 1;
        least += (sample_key)digit << shift;
        most = min(most, least + ((sample_key)1 << shift) - 1);
        __syncthreads();
        if (alone) break;
    }
    return least << drop;
}

DEVICE sample_key draw_listed(const row &r, sample_key top, room &m) {
    const int count = (int)__ldcg(word_at(r, COUNT_AT));
    const float largest = largest_of(r, top);
    sample_key floor = 0, goal, sum = 0, best = 0;
    if (r.set.top_k <= 0) last_bucket(r, &goal, m);
    for (int i = threadIdx.x; i < count && count <= BUCKETS; i += BLOCK) {
        const sample_key key = shared_key(r, LIST_AT + i);
        m.low[i] = (unsigned)key, m.high[i] = (unsigned)(key >> 32);
    }
    __syncthreads();
    if (r.set.top_k > 0) {
        if (count > r.set.top_k) floor = select(r, count, largest, 0, true, r.set.top_k, m);
        each_listed(r, count, m, [&](sample_key key) {
            if (key >= floor) sum += weight_of(sample_key_value(key) - largest);
        });
        block_scan(sum, &sum, m);
        goal = goal_of(r, sum);
    }
    if (r.set.top_p < 1.0f) floor = select(r, count, largest, floor, false, goal, m);
    each_listed(r, count, m, [&](sample_key key) {
        if (key >= floor)
            best = max(best, drawn(r, sample_key_value(key) - largest, sample_key_id(key)));
    });
    return best;
}

DEVICE void finish(const row &r, int *tokens, int *position, int *history, long long capacity,
                   room &m) {
    const long long n = blockIdx.y;
    const sample_key top = top_of(r, m);
    int token = -1;
    if (sample_key_good(top)) {
        sample_key best = top;
        if (!greedy(r)) {
            best = 0;
            for (int i = threadIdx.x; i < BLOCKS; i += BLOCK)
                best = max(best, shared_key(r, BEST_AT + i));
            if (narrowed(r)) best = max(best, draw_listed(r, top, m));
            best = block_max(best, m);
        }
        token = sample_key_id(best);
    }
    if (threadIdx.x) return;
    const int next = (int)((unsigned)position[n] + 1u);
    tokens[n] = token;
    position[n] = next;
    if (next >= 0 && next < capacity) history[n * capacity + next] = token;
    *word_at(r, ARRIVED_AT) = 0;
}

#define SAMPLE_PARAMETERS                                                                          \
    (int *token, int *position, int *history, const float *logits, const int *setting,             \
     sample_key *scratch, long long vocab, long long, long long capacity)
#define SAMPLE_BEGIN                                                                               \
    SHARED(room, rooms, [1]);                                                                      \
    room &m = rooms[0];                                                                            \
    const row r = row_of(position, logits, setting, scratch, vocab);

#if FUSE == 2
ENTRY_BOUNDS(sample, BLOCK) SAMPLE_PARAMETERS {
    SAMPLE_BEGIN
    find_largest(r, m);
    if (!greedy(r)) {
        wait_for_all(r, BLOCKS);
        fill_buckets(r, m);
        wait_for_all(r, 2 * BLOCKS);
        gather(r, m);
    }
    if (arrives_last(r, greedy(r) ? BLOCKS : 3 * BLOCKS, m))
        finish(r, token, position, history, capacity, m);
}
#else
ENTRY_BOUNDS(sample_largest, BLOCK) SAMPLE_PARAMETERS {
    SAMPLE_BEGIN
    find_largest(r, m);
}
ENTRY_BOUNDS(sample_buckets, BLOCK) SAMPLE_PARAMETERS {
    SAMPLE_BEGIN
    fill_buckets(r, m);
}
ENTRY_BOUNDS(sample_gather, BLOCK) SAMPLE_PARAMETERS {
    SAMPLE_BEGIN
    gather(r, m);
    if (FUSE == 1 && arrives_last(r, BLOCKS, m)) finish(r, token, position, history, capacity, m);
}
#if FUSE == 0
ENTRY_BOUNDS(sample_finish, BLOCK) SAMPLE_PARAMETERS {
    SAMPLE_BEGIN
    finish(r, token, position, history, capacity, m);
}
#endif
#endif

#else // CHECK: a block of 256 threads a sequence; before, then after each argument

ENTRY(check)
(const int *, const int *position, const int *history, const float *logits, const int *setting,
 const int *token_after, const int *position_after, const int *history_after, const float *,
 const int *, long long vocab, long long batch, long long capacity, check_report *report) {
    SHARED(double, shared, [256]);
    for (long long n = blockIdx.x; n < batch; n += gridDim.x) {
        sample_judge judge = {logits + n * vocab, vocab, sample_read(setting + 8 * n), 0.0f,
                              shared};
        const long long next = (int)((unsigned)position[n] + 1u);
        int other;
        const int token = sample_want(judge, position[n], &other);
        if (threadIdx.x == 0) {
            sample_check_either(report, 0, n, token_after[n], token, other);
            sample_check_either(report, 1, n, position_after[n], (int)next, (int)next);
        }
        for (long long i = threadIdx.x; i < capacity; i += blockDim.x) {
            const long long at = n * capacity + i;
            sample_check_either(report, 2, at, history_after[at], i == next ? token : history[at],
                                i == next ? other : history[at]);
        }
    }
}

#endif
