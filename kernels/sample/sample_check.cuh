// sample_check.cuh - the token of a sequence in fp64, by a block of 256 threads, for `check`.
//
// Thresholds by bisection of the keys' range. Where fp32 may decide either way the other token is
// found too; the tolerances are those of sample.c, which says why.
#ifndef KERNELS_SAMPLE_CHECK_CUH
#define KERNELS_SAMPLE_CHECK_CUH

#include "kernels/sample/sample.cuh"

struct sample_judge {
    const float *logits;
    long long vocab;
    sample_setting set;
    float largest;  // after the temperature
    double *shared; // 256
};

// The sum or the largest of f(id) over the vocabulary, to all threads.
template <class Function> DEVICE double sample_over(const sample_judge &j, bool sums, Function f) {
    double mine = sums ? 0 : -1e300;
    for (int id = threadIdx.x; id < j.vocab; id += blockDim.x) {
        const double v = f(id);
        mine = sums ? mine + v : v > mine ? v : mine;
    }
    __syncthreads();
    j.shared[threadIdx.x] = mine;
    __syncthreads();
    mine = j.shared[0];
    for (unsigned i = 1; i < blockDim.x; i++)
        mine = sums ? mine + j.shared[i] : j.shared[i] > mine ? j.shared[i] : mine;
    return mine;
}

DEVICE float sample_scaled(const sample_judge &j, int id) {
    return sample_scale(j.logits[id], j.set.temperature);
}
DEVICE double sample_below(const sample_judge &j, int id) {
    return (double)sample_scaled(j, id) - (double)j.largest;
}
DEVICE sample_key sample_scaled_key(const sample_judge &j, int id) {
    return sample_key_of(sample_scaled(j, id), id);
}

// The key of the k-th largest, without its id.
DEVICE sample_key sample_kth(const sample_judge &j) {
    sample_key low = sample_order(-3.402823466e38f), high = 0xffffffffu;
    while (j.set.top_k > 0 && low < high) { // the largest order that k reach
        const sample_key middle = low + (high - low + 1) / 2;
        const double count = sample_over(j, true, [&](int id) {
            return sample_order(sample_scaled(j, id)) >= middle ? 1.0 : 0.0;
        });
        if (count >= (double)j.set.top_k)
            low = middle;
        else
            high = middle - 1;
    }
    return low << SAMPLE_ID_BITS;
}

// The least key from `floor` on before which less than `goal` lies.
DEVICE sample_key sample_reach(const sample_judge &j, sample_key floor, double goal) {
    sample_key low = floor, high = (sample_key)1 << 56;
    while (low < high) {
        const sample_key middle = low + (high - low) / 2;
        const double before = sample_over(j, true, [&](int id) {
            return sample_scaled_key(j, id) > middle ? exp(sample_below(j, id)) : 0.0;
        });
        if (before < goal)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

// The draw's winner among the keys from `floor` on, without `without`, and its value.
DEVICE int sample_winner(const sample_judge &j, unsigned long long stream, sample_key floor,
                         double min_p, int without, double *value) {
    const auto draw = [&](int id) {
        const double below = sample_below(j, id);
        const bool out =
            id == without || sample_scaled_key(j, id) < floor || (below < 0 && exp(below) < min_p);
        const double v = ((double)sample_bits(stream, id) + 0.5) * 0x1p-32;
        return out ? -1e300 : below - log(-log1p(-v));
    };
    const double best = *value = sample_over(j, false, draw);
    return -(int)sample_over(j, false, [&](int id) { return draw(id) == best ? -id : -1e300; });
}

// The token; *other is another that is right as well, or the same.
DEVICE int sample_want(sample_judge j, int position, int *other) {
    const double bad = sample_over(j, true, [&](int id) {
        return j.logits[id] == j.logits[id] && j.logits[id] <= 3.402823466e38f ? 0.0 : 1.0;
    });
    double largest = sample_over(j, false, [&](int id) { return (double)j.logits[id]; });
    if (bad > 0 || largest <= -1e300) return *other = -1;
    if (!(j.set.temperature > 0.0f))
        return *other = -(int)sample_over(j, false, [&](int id) {
            return (double)j.logits[id] == largest ? -id : -1e300;
        });
    j.largest = sample_scale((float)largest, j.set.temperature);
    const double tolerance = 0x1p-18 + (double)j.vocab * 0x1p-40;
    sample_key floor = sample_kth(j), sure = floor, maybe = floor;
    if (j.set.top_p < 1.0f) {
        const double total = sample_over(j, true, [&](int id) {
            return sample_scaled_key(j, id) >= floor ? exp(sample_below(j, id)) : 0.0;
        });
        sure = sample_reach(j, floor, ((double)j.set.top_p - tolerance) * total);
        maybe = sample_reach(j, floor, ((double)j.set.top_p + tolerance) * total);
    }
    const unsigned long long stream = sample_stream(j.set.seed, position);
    double best, next;
    const int token = sample_winner(j, stream, sure, j.set.min_p * (1 + tolerance), -1, &best);
    const int second = sample_winner(j, stream, maybe, j.set.min_p * (1 - tolerance), token, &next);
    *other = next > best - 1e-5 ? second : token;
    return token;
}

DEVICE void sample_check_either(check_report *report, int argument, long long index, int got,
                                int want, int other) {
    check_within(report, argument, index, got, got == other ? other : want, other - want, 0);
}

#endif
