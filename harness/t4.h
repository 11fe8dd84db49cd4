/* t4.h - measured spaces in the tuning community's formats (schemas 1.0.0), for other tools and for
 * `fastinfer replay`: T4, the results, and beside it T1, the problem (t1.h).
 */
#ifndef FASTINFER_T4_H
#define FASTINFER_T4_H

#include "harness/store.h"

struct t4_counts {
    int spaces, described; /* T4 files, and how many of them have a T1 file */
};

/* Writes <name>.t4.json.gz and <name>.t1.json.gz into `folder` for each kernel, dtype, problem and
 * policy of which the device's scans hold at least `least` points. A point is there as it was
 * measured last; one whose machine code is another's was not measured and is not there, nor are
 * points of tunables that the latest one does not have. There is no T1 file where this program does
 * not know the kernel, or not with these points. The same database gives the same bytes. */
enum status t4_write(struct store *store, const char *device_slug, const char *folder, int least,
                     struct t4_counts *out);

#endif
