/* model.h - a Gaussian process over a space: what is known of the time of points not tried, from
 * those that were.
 *
 * Points whose values are near each other take like times; how near, in each dimension, is learnt
 * by the likelihood of what was told. For `auto` alone.
 */
#ifndef FASTINFER_STRATEGY_MODEL_H
#define FASTINFER_STRATEGY_MODEL_H

#include "harness/strategy/strategy.h"

struct model_options {
    double length, length_sd; /* of the whole range of a dimension, where there are six: the
                                 prior's centre, and the spread of its logarithm */
    double noise;             /* the prior's centre of the noise, as a share of the spread */
    double additive;          /* share of the spread that is a sum over dimensions */
    double distinct;          /* share of a sum's parts that only equal values have in common */
    int smooth;               /* 0: exp(-r), 1: Matern 3/2, 2: Matern 5/2 */
};
struct model;

enum status model_open(const struct search_space *space, const struct model_options *options,
                       struct model **out);
void model_close(struct model *model); /* NULL is fine */

/* The points to predict, in the order of the predictions. */
enum status model_pool(struct model *model, const int *points, int count);
void model_clear(struct model *model); /* forgets all observations, not the lengths */
/* Another observation of a point. Cheap. */
enum status model_add(struct model *model, int point);
/* Learns the lengths anew from y (one value an observation, mean about 0, spread about 1), `sweeps`
 * times round the parameters, from where they were. */
void model_fit(struct model *model, const double *y, int sweeps);
/* For each of the pool: the mean and the standard deviation of y there. */
void model_predict(struct model *model, const double *y, float *mean, float *sd);
/* The correlation of two points. */
double model_correlation(const struct model *model, int a, int b);

#endif
