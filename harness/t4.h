/* t4.h - measured spaces in the tuning community's T4 format (schema 1.0.0), for other tools and
 * for `fastinfer replay`. */
#ifndef FASTINFER_T4_H
#define FASTINFER_T4_H

#include "harness/store.h"

/* Writes a gzipped file into `folder` for each kernel, dtype, problem and policy of which the
 * device's scans hold at least `least` points; *files: how many. A point is there as it was
 * measured last; one whose machine code is another's was not measured and is not there. */
enum status t4_write(struct store *store, const char *device_slug, const char *folder, int least,
                     int *files);

#endif
