/* export_tables.h - the tables of an export beside bench.csv, as the report and the pictures read
 * them. */
#ifndef FASTINFER_CLI_EXPORT_TABLES_H
#define FASTINFER_CLI_EXPORT_TABLES_H

#include "harness/store.h"

/* Writes FOLDER/<name>.csv of a device for each of tuning (what searches came to), tps (tokens a
 * second), steps (the parts of each model's latest profiled step), position (a step's time at
 * several positions) and traffic (what counters said). A table without rows is not written, and
 * leaves the file that is there. `say`: a line a table on standard output. */
enum status export_tables(struct store *store, const char *device_slug, const char *folder,
                          bool say);

#endif
