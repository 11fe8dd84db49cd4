#include "harness/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void stats_sort(double *values, int n) { qsort(values, (size_t)n, sizeof *values, compare); }

static double middle(const double *sorted, int n) {
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

void stats_median_ranks(int n, int *low, int *high) {
    /* the largest r with P(Binomial(n, 1/2) <= r - 1) <= 2.5%: then [r-1, n-r] holds the median */
    double below = 0, term = pow(0.5, n);
    int r = 0;
    for (int k = 0; k < n / 2; k++) {
        below += term;
        if (below > 0.025) break;
        r = k + 1;
        term *= (double)(n - k) / (k + 1);
    }
    *low = r > 0 ? r - 1 : 0;
    *high = n - 1 - *low;
}

struct summary stats_summarise(const double *samples, int n, double resolution) {
    struct summary s = {.count = n};
    if (n < 1) return s;
    double *sorted = malloc((size_t)n * sizeof *sorted);
    memcpy(sorted, samples, (size_t)n * sizeof *sorted);
    stats_sort(sorted, n);
    s.median = middle(sorted, n), s.min = sorted[0], s.max = sorted[n - 1];
    int low, high;
    stats_median_ranks(n, &low, &high);
    s.low = sorted[low], s.high = sorted[high];
    if (s.low > s.median - resolution / 2) s.low = s.median - resolution / 2;
    if (s.high < s.median + resolution / 2) s.high = s.median + resolution / 2;
    for (int i = 0; i < n; i++) sorted[i] = fabs(sorted[i] - s.median);
    stats_sort(sorted, n);
    s.mad = middle(sorted, n);
    free(sorted);
    return s;
}

int stats_settled(const struct summary *s, double share, double resolution) {
    double half = (s->high - s->low) / 2;
    return half <= share * s->median || half <= resolution / 2 * 1.0001;
}

/* --- comparisons
 * ------------------------------------------------------------------------------- */

struct ratio stats_ratio(const double *r, int n, double resolution) {
    struct summary s = stats_summarise(r, n, resolution);
    return (struct ratio){n, exp(s.median), exp(s.low), exp(s.high)};
}

double stats_sign_tail(int n, int k) {
    double sum = 0;
    for (int i = k > 0 ? k : 0; i <= n; i++)
        sum += exp(lgamma(n + 1.0) - lgamma(i + 1.0) - lgamma(n - i + 1.0) - n * log(2));
    return sum > 1 ? 1 : sum;
}

double stats_beyond(const double *r, int n, double margin, int slower) {
    int beyond = 0;
    for (int i = 0; i < n; i++) beyond += slower ? r[i] > log(margin) : r[i] < -log(margin);
    return stats_sign_tail(n, beyond);
}

void stats_holm(double *p, int n) {
    int *order = malloc((size_t)n * sizeof *order + 1);
    for (int i = 0; i < n; i++) {
        int at = i; /* insertion: n is a few hundred at most */
        for (; at > 0 && p[order[at - 1]] > p[i]; at--) order[at] = order[at - 1];
        order[at] = i;
    }
    double most = 0;
    for (int i = 0; i < n; i++) {
        double adjusted = p[order[i]] * (n - i);
        if (adjusted > most) most = adjusted;
        p[order[i]] = most > 1 ? 1 : most;
    }
    free(order);
}

double stats_autocorrelation(const double *samples, int n) {
    double mean = 0, square = 0, product = 0;
    if (n < 4) return 0;
    for (int i = 0; i < n; i++) mean += samples[i] / n;
    for (int i = 0; i < n; i++) square += (samples[i] - mean) * (samples[i] - mean);
    for (int i = 0; i + 1 < n; i++) product += (samples[i] - mean) * (samples[i + 1] - mean);
    return square > 0 ? product / square : 0;
}

double stats_drift(const double *samples, int n) {
    int third = n / 3, above = 0;
    if (third < 5) return 0;
    struct summary first = stats_summarise(samples, third, 0);
    struct summary last = stats_summarise(samples + n - third, third, 0);
    double all = stats_summarise(samples, n, 0).median;
    for (int i = 0; i < third; i++) above += samples[n - third + i] > first.median;
    int same_way = last.median > first.median ? above : third - above;
    if (all <= 0 || 2 * stats_sign_tail(third, same_way) > 0.01) return 0;
    return (last.median - first.median) / all;
}
