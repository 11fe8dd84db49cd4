/* config.h - which point runs: configs/<device>.json, else configs/sm_<arch>.json, else the
 * built-in default.
 *
 * {"device": "NVIDIA H200", "slug": "nvidia-h200", "measured": true, "commit": "...",
 *  "date": "...", "entries": [{"kernel": "rmsnorm", "dtype": "fp16", "policy": "cold,stream",
 *  "problem": "rows=4096,hidden=3072", "point": "block=128,...", "median_us": 13.9,
 *  "percent_of_ceiling": 97.1}, ...]}
 *
 * A file is checked whole when it is opened, and one that is wrong anywhere is not used at all:
 *   - "device", "slug", "measured" and "entries" are there; slug is the file's name without .json,
 *     and the slug of the device it is read for (sm_<arch> for a whole architecture);
 *   - each entry has the five texts; dtype, policy, problem and point can be read; the point is
 *     legal for the entry's own problem on this device; no two entries are for the same
 *     (kernel, dtype, problem, policy);
 *   - "accepted", where it is there, is true or false: what whole models' tokens a second said
 *     (fastinfer tps --compare). A point that is not accepted is not used: its entry answers with
 *     the built-in default;
 *   - "median_us", where it is there, is a positive number, and it is not there in a file that says
 *     "measured": false.
 * An entry for a kernel that is not in this program is said aloud and left out, alone: kernels come
 * from folders too, and one file serves programs with and without them. Other keys are free.
 */
#ifndef FASTINFER_CONFIG_H
#define FASTINFER_CONFIG_H

#include "runtime/device.h"

struct config; /* the entries of one file, or none */

struct config_entry {
    const struct kernel *kernel;
    struct problem problem;
    struct policy policy;
    struct point point;
    double median_us; /* 0 where the file has none */
    bool refused;     /* "accepted": false */
    int line;         /* of the file */
};

/* Where kernels are found by name: registry_find of kernels/registry.h, which is a floor above. */
typedef enum status config_find_kernel(const char *name, const struct kernel **out);

/* Finds and reads the file for a device. A bad file is said aloud on stderr as "file:line: what,
 * what was expected" and passed over for the next in the chain; that a file's points were not
 * measured is said, too. Always gives a config. `folder` NULL: $FASTINFER_CONFIGS, else ./configs,
 * else the source tree's. */
enum status config_open(const char *folder, const struct device_info *device,
                        config_find_kernel *find, struct config **out);
/* Reads and checks one file. STATUS_FORMAT with "file:line: ..." where it is bad. */
enum status config_read(const char *path, const struct device_info *device,
                        config_find_kernel *find, struct config **out);
void config_close(struct config *config);

/* "configs/nvidia-h200.json", with " (not measured)" behind it where that is so, or "built-in
 * default". */
const char *config_origin(const struct config *config);
/* Every file that was looked for, in order, and what came of it: "no configs/nvidia-l4.json; no
 * configs/sm_89.json; built-in default". */
const char *config_chain(const struct config *config);
const char *config_path(const struct config *config); /* "" for the built-in default */
bool config_measured(const struct config *config);    /* false for the built-in default */
int config_count(const struct config *config);        /* entries, */
int config_left_out(const struct config *config);     /* and those of unknown kernels */

/* The entry that answers for a problem, and how near it is. */
struct config_match {
    const struct config_entry *entry; /* lives as long as the config */
    double distance;                  /* 0: this very problem */
    bool other_policy;
};

/* Of the entries of that kernel and dtype whose compiled sizes are the problem's: those of its
 * policy if there are any, else of any policy; of these the one nearest in its other sizes, by the
 * sum over them of |ln((size + 1) / (size + 1))|, that is legal here. The first, of equals. fp16
 * and bf16 move the same bytes: where there is none for one, the other's are taken. False: there is
 * none. */
bool config_find(const struct config *config, const struct kernel *kernel,
                 const struct problem *problem, struct policy policy,
                 const struct device_info *device, struct config_match *out);
/* Its point. False: there is none or it was refused, and *out is the built-in default. */
bool config_point(const struct config *config, const struct kernel *kernel,
                  const struct problem *problem, struct policy policy,
                  const struct device_info *device, struct point *out);

/* How far a problem is from another's entry: the sum of |log ratio| over the sizes that are not
 * compiled; INFINITY where a compiled one differs. */
double config_distance(const struct kernel *kernel, const struct problem *a,
                       const struct problem *b);

#endif
