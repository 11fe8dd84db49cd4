/* show.h - results as tables for people and JSON for programs. */
#ifndef FASTINFER_SHOW_H
#define FASTINFER_SHOW_H

#include <jansson.h>
#include <stdio.h>

#include "harness/store.h"

/* A column's text as JSON: numbers are numbers, but for columns that only may look like one. */
json_t *show_value(const char *column, const char *text);

/* A table a kernel: the best point of every problem and policy among what one run measured on a
 * device, or with run 0 all of them. */
enum status show_tables(struct store *store, const char *device_slug, int64_t run, FILE *out);
/* The same rows, as an array of objects with the columns of view `results`. */
enum status show_json(struct store *store, const char *device_slug, int64_t run, FILE *out);

#endif
