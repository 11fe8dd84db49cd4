/* report_gather.h - a database's devices, exported into a folder that lives as long as the report.
 */
#ifndef FASTINFER_CLI_REPORT_GATHER_H
#define FASTINFER_CLI_REPORT_GATHER_H

#include "cli/report.h"

struct gathered {
    char root[64]; /* "" where nothing was made */
    char folder[MAX_EXPORTED][256];
    int folders;
};

/* report_gathered_free() in every case: it removes the folder. */
enum status report_gather(const char *db, struct gathered *out);
void report_gathered_free(struct gathered *gathered);

#endif
