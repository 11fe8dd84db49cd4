/* stats.h - medians and honest intervals. */
#ifndef FASTINFER_STATS_H
#define FASTINFER_STATS_H

struct summary {
    int count;
    double median, mad; /* mad: median absolute deviation from the median */
    double min, max;
    double low, high; /* of the median, at least 95% confidence, no narrower than the clock */
};

/* Summarises n samples. `resolution` is the clock's, in the samples' own unit (divided by the
 * launches a sample holds): quantised samples may all be equal, and their median is then still
 * only known to that step. With fewer than 6 samples the interval is their whole range. */
struct summary stats_summarise(const double *samples, int n, double resolution);

/* The ranks (from 0) of the order statistics that enclose the median with at least 95%
 * confidence, by the binomial distribution. n >= 6, else 0 and n - 1. */
void stats_median_ranks(int n, int *low, int *high);

/* Is the median known well enough: is half its interval under `share` of it, or as narrow as the
 * clock allows? */
int stats_settled(const struct summary *summary, double share, double resolution);

#endif
