/* tune_table.h - the tables of points that a tuner's chains come to. */
#ifndef FASTINFER_TUNE_TABLE_H
#define FASTINFER_TUNE_TABLE_H

#include "harness/bench_work.h"

struct tune_tables {
    int tables, points, bridges;      /* points: distinct ones in a table, added up */
    double regret_mean, regret_worst; /* over all shapes of all tables */
    double left_out_mean, left_out_worst;
};

/* Shapes that share binaries and policy make a table: of all their winners the fewest points that
 * keep the mean regret within 1% and the worst within 3%. winner: a point of the group for each
 * cell, -1: none. row: what is known of each cell; the tables' part of it is filled in and stored,
 * and a row 'between' for what runs halfway between two shapes. Cells that are only ceilings have a
 * table of their own winners. */
enum status tune_make_tables(struct bench *bench, const int *winner, struct tuning *row,
                             struct tune_tables *out);

#endif
