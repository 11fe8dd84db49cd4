/* stats.h - medians and honest intervals. */
#ifndef FASTINFER_STATS_H
#define FASTINFER_STATS_H

/* Ascending, in place. */
void stats_sort(double *values, int n);

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

/* --- comparisons --------------------------------------------------------------------------------
 *
 * Two contenders A and B measured in rounds A B B A give a difference a round that a steady drift
 * of the clock cancels out of: r = (ln b1 + ln b2 - ln a1 - ln a2) / 2.
 */
struct ratio {
    int rounds;
    double ratio;     /* exp(median r): over 1, B is slower */
    double low, high; /* at least 95% confidence, no narrower than the clock allows */
};

/* `resolution` is the clock's step over the time of one sample. */
struct ratio stats_ratio(const double *r, int n, double resolution);

/* The probability of k or more of n fair coins: the exact sign test, which asks nothing of the
 * distribution. */
double stats_sign_tail(int n, int k);
/* p of "B takes at most `margin` times as long as A" (slower = 1), or of "at least 1 / margin
 * times" (slower = 0): small where the rounds speak against it. */
double stats_beyond(const double *r, int n, double margin, int slower);
/* Holm's correction, in place: adjusted p of n tests, such that calling those below alpha is
 * wrong about any of them with at most that probability. */
void stats_holm(double *p, int n);

/* Correlation of each sample with the next, 0 under 4 samples. Near 1, samples repeat each other
 * and intervals are too narrow. */
double stats_autocorrelation(const double *samples, int n);
/* By how much the last third's median is over the first third's, as a share of the median, where
 * that is more than chance would give (a sign test of each sample against the other third's
 * median, 1%); else 0. */
double stats_drift(const double *samples, int n);

#endif
