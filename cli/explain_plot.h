/* explain_plot.h - the pictures of `fastinfer explain`. */
#ifndef FASTINFER_CLI_EXPLAIN_PLOT_H
#define FASTINFER_CLI_EXPLAIN_PLOT_H

#include "harness/explain_read.h"

/* Writes FOLDER/heatmap.csv and search.csv and draws both, as SVG and PNG. A picture for which
 * there is too little, or no gnuplot, is a sentence on stderr. */
enum status explain_plot(struct store *store, const struct explain_case *which,
                         const struct explanation *why, const struct explain_sample *samples,
                         int count, const char *folder);

/* Writes the heat map's CSV alone. `newest` are device, driver, commit, dirty and date.
 * STATUS_MISSING where fewer than two tunables have several values. */
enum status explain_plot_cells(const char *path, const struct explain_case *which,
                               const struct explanation *why, const struct explain_sample *samples,
                               int count, const char *const newest[5]);

#endif
