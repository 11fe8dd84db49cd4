/* dispatch.h - which of a few points runs on which shape.
 *
 * A kernel is tuned on some shapes (rows 1, 2, 4, ...). Each has a fastest point, but often one
 * point does for many: a table with few distinct points is compiled and read faster, and says more.
 * Regret is how much slower than the fastest known point a shape runs: time / best - 1.
 */
#ifndef FASTINFER_DISPATCH_H
#define FASTINFER_DISPATCH_H

#include <stdbool.h>

#include "runtime/status.h"

enum { MAX_SHAPES = 64, MAX_CANDIDATES = 64, MAX_BRIDGES = 256, MAX_AXES = 12 };

struct dispatch_times {
    int shapes, points;
    double ns[MAX_SHAPES][MAX_CANDIDATES]; /* INFINITY: not legal there, or failed */
    /* Where a shape is, as a lookup sees it: the distance is the sum over the axes. */
    int axes;
    double at[MAX_SHAPES][MAX_AXES];
    /* For each point the only shape that it is the winner of; -1: of several. Without that shape
     * nobody would know it. */
    int owner[MAX_CANDIDATES];
};

/* What runs halfway between two shapes that have no other between them. Needed where they run
 * different points. */
struct dispatch_bridge {
    int a, b, point;
    bool needed;
};

struct dispatch {
    int choice[MAX_SHAPES]; /* a point for each shape */
    int distinct;           /* points among them */
    double regret[MAX_SHAPES], mean, worst;
    struct dispatch_bridge bridge[MAX_BRIDGES];
    int bridges;
    /* Each shape left out in turn, the table made without it, and the nearest other shape's or
     * bridge's point taken: what a shape between the tuned ones may expect. NAN with fewer than 3
     * shapes. */
    double left_out[MAX_SHAPES], left_out_mean, left_out_worst;
};

/* The fewest distinct points with which no shape's regret is over `worst` and their mean not over
 * `mean`; among those the least mean. Then each shape takes, of all points with a regret within
 * `worst` on it, the one that is least wrong on the shapes next to it, too, as long as `mean`
 * holds. A bridge has the point of the table that is least wrong on both its ends. STATUS_ARGUMENT
 * where a shape has no point at all. */
enum status dispatch_choose(const struct dispatch_times *times, double mean, double worst,
                            struct dispatch *out);

#endif
