/* show.h - results as tables for people and JSON for programs. */
#ifndef FASTINFER_SHOW_H
#define FASTINFER_SHOW_H

#include <stdio.h>

#include "harness/store.h"

/* A table a kernel: the best point of every problem and policy that the run touched. */
enum status show_tables(struct store *store, int64_t run, FILE *out);
/* The same rows of view `best`, as an array of objects. */
enum status show_json(struct store *store, int64_t run, FILE *out);

#endif
