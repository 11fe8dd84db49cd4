/* config_file.h - writes configs/<device>.json from a database; runtime/config.h reads it. */
#ifndef FASTINFER_CONFIG_FILE_H
#define FASTINFER_CONFIG_FILE_H

#include "harness/store.h"
#include "harness/throughput.h"

/* An entry for each kernel, dtype, policy and problem: what a search came to (view tuned), else a
 * bench's best (view best). Entries of an older file that the database has nothing about are kept.
 * What tokens
 * a second said of a point stays with it as long as the point does. The file is replaced at once
 * or not at all. */
enum status config_file_write(struct store *store, const char *device_slug, const char *folder,
                              size_t *entries);

/* What whole models said of a point (fastinfer tps --compare). */
struct config_judgement {
    const char *model, *against;
    struct ratio ratio; /* of tokens a second, the point's over `against`'s */
    enum verdict_of_acceptance verdict;
};
/* Writes it at the entry that answers for the problem in the file, as "accepted": true or false (no
 * such key where it is undecided) and "end_to_end"; where there is no entry for the kernel's
 * compiled sizes one is made with the point, or, without a point, nothing is done. The file is
 * replaced at once or not at all. */
enum status config_file_judge(const char *path, const struct kernel *kernel,
                              const struct problem *problem, const struct point *point,
                              const struct config_judgement *judgement);

#endif
