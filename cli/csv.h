/* csv.h - a CSV file with a header line, whole in memory; fields are found by the column's name. */
#ifndef FASTINFER_CLI_CSV_H
#define FASTINFER_CLI_CSV_H

#include <stdbool.h>

#include "runtime/status.h"

struct csv {
    char path[1024];
    char *text;   /* what names and cells point into */
    char **field; /* columns names, then rows * columns cells */
    int *line;    /* of each row, counted from 1 */
    int columns, rows;
};

/* STATUS_MISSING where there is no such file, STATUS_FORMAT with file:line where a row has another
 * number of fields than the header or a quote is left open. A file of empty lines has no columns.
 * csv_free() in every case. */
enum status csv_read(const char *path, struct csv *out);
void csv_free(struct csv *csv);

/* Is there a column of this name? */
bool csv_has(const struct csv *csv, const char *name);
/* "" where the column is not there, or the row is -1. */
const char *csv_cell(const struct csv *csv, int row, const char *name);
/* NaN where the field is empty, absent or no number. */
double csv_number(const struct csv *csv, int row, const char *name);

#endif
