/* export.h - what other verbs use of the export. */
#ifndef FASTINFER_CLI_EXPORT_H
#define FASTINFER_CLI_EXPORT_H

#include <stdio.h>

#include "harness/store.h"

/* Writes FOLDER/bench.csv: the best point of every problem and policy of a device. */
enum status export_bench_csv(struct store *store, const char *device_slug, const char *folder);

/* From now on no file that is written is named on standard output. */
void export_silently(void);

/* FOLDER/environment.json: the device's runs. */
enum status export_environment(struct store *store, const char *device_slug, const char *folder);

/* FOLDER/<name>.csv from a query whose one parameter is the device; says nothing of it. */
enum status export_csv(struct store *store, const char *device_slug, const char *folder,
                       const char *name, const char *sql, int *rows);

/* A field of a CSV, quoted where it has to be; NULL is an empty one. */
void export_csv_field(FILE *out, const char *text);

/* Makes OUT/<device>/ and gives its name. */
enum status export_folder(const char *out, const char *device_slug, char *folder, size_t bytes);

#endif
