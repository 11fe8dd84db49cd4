#include "harness/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

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
    qsort(sorted, (size_t)n, sizeof *sorted, compare);
    s.median = middle(sorted, n), s.min = sorted[0], s.max = sorted[n - 1];
    int low, high;
    stats_median_ranks(n, &low, &high);
    s.low = sorted[low], s.high = sorted[high];
    if (s.low > s.median - resolution / 2) s.low = s.median - resolution / 2;
    if (s.high < s.median + resolution / 2) s.high = s.median + resolution / 2;
    for (int i = 0; i < n; i++) sorted[i] = fabs(sorted[i] - s.median);
    qsort(sorted, (size_t)n, sizeof *sorted, compare);
    s.mad = middle(sorted, n);
    free(sorted);
    return s;
}

int stats_settled(const struct summary *s, double share, double resolution) {
    double half = (s->high - s->low) / 2;
    return half <= share * s->median || half <= resolution / 2 * 1.0001;
}
