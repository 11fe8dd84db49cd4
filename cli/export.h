/* export.h - what other verbs use of the export. */
#ifndef FASTINFER_CLI_EXPORT_H
#define FASTINFER_CLI_EXPORT_H

#include <stdio.h>

#include "harness/store.h"

/* Writes FOLDER/bench.csv: the best point of every problem and policy of a device. */
enum status export_bench_csv(struct store *store, const char *device_slug, const char *folder);

/* Writes FOLDER/NAME.FORMAT (csv or json): what `sql` gives for the device, its one parameter. */
enum status export_query(struct store *store, const char *format, const char *folder,
                         const char *name, const char *sql, const char *device_slug);

/* Writes FOLDER/tps and FOLDER/step_parts: tokens a second, and where the profiled steps' time
 * went, the latest of each setting. Nothing where the device has none; *rows says how many. */
enum status export_tps(struct store *store, const char *format, const char *device_slug,
                       const char *folder, int64_t *rows);

/* A field of a CSV, quoted where it has to be; NULL is an empty one. */
void export_csv_field(FILE *out, const char *text);

/* Makes OUT/<device>/ and gives its name. */
enum status export_folder(const char *out, const char *device_slug, char *folder, size_t bytes);

#endif
