/* report.h - the parts of fastinfer report: what an export holds, and a file a group of sections.
 */
#ifndef FASTINFER_CLI_REPORT_H
#define FASTINFER_CLI_REPORT_H

#include <jansson.h>

#include "cli/csv.h"
#include "cli/page.h"

/* An exported folder. A file that is not there is a table of no columns, or NULL. */
struct exported {
    char folder[1024], slug[128], name[128];
    struct csv bench, tuning, tps, steps, position, traffic, gate, convergence, search, heatmap;
    json_t *environment, *calibration;
};
enum { MAX_EXPORTED = 8, MAX_KERNELS = 32 };

enum status exported_read(const char *folder, struct exported *out);
void exported_free(struct exported *e);
/* The newest run of environment.json; NULL where there is none. */
const json_t *exported_run(const struct exported *e);
/* The kernels of bench.csv but the ceiling's, in their order there. */
int exported_kernels(const struct exported *e, const char *names[MAX_KERNELS]);

/* Begins the section <slug>-<part>. */
void report_section(struct page *page, const struct exported *e, int level, const char *part,
                    const char *title);
/* Draws plots/<script>.gp over a file of the export: the picture <slug>-<name>, its caption ending
 * with device, driver, commit and date of the row. Where the script finds nothing in a good file,
 * says so instead. `settings` are gnuplot's, "kernel='rope'". */
enum status report_picture(struct page *page, const struct exported *e, const char *script,
                           const struct csv *csv, const char *name, const char *settings,
                           const char *caption);
/* "0.713", three digits and more as they are; "-" for NaN. One of several static buffers. */
const char *report_number(double value, int decimals);
/* "9.44 to 9.49", of two columns. */
const char *report_interval(const struct csv *csv, int row, const char *low, const char *high,
                            int decimals);
/* "NVIDIA H200, driver 580, commit abc, 2026-11-23": of the newest row of a table. */
void report_origin(const struct csv *csv, char *out, size_t bytes);

/* What all chosen rows' problems of a table have in common, "head_dim=128,adjacent=0", and a row's
 * problem without it. The shared part is "" where one row is chosen. */
void report_shared(const struct csv *csv, const bool *rows, char *out, size_t bytes);
const char *report_problem(const struct csv *csv, int row, const char *shared);

enum status report_device(struct page *page, const struct exported *e);
enum status report_tokens(struct page *page, const struct exported *e);
enum status report_kernels(struct page *page, const struct exported *e);
enum status report_search(struct page *page, const struct exported *e);
enum status report_trust(struct page *page, const struct exported *e);
void report_compare(struct page *page, const struct exported *e, int count);

#endif
