/* config_file.h - writes configs/<device>.json from a database; runtime/config.h reads it. */
#ifndef FASTINFER_CONFIG_FILE_H
#define FASTINFER_CONFIG_FILE_H

#include "harness/store.h"

/* An entry for each kernel, dtype, policy and problem: what a search came to (view tuned), else a
 * bench's best (view best). Entries of an older file that the database has nothing about are kept.
 * The file is replaced at once or not at all. */
enum status config_file_write(struct store *store, const char *device_slug, const char *folder,
                              size_t *entries);

#endif
