/* explain_plot.h - the pictures of `fastinfer explain`. */
#ifndef FASTINFER_CLI_EXPLAIN_PLOT_H
#define FASTINFER_CLI_EXPLAIN_PLOT_H

#include "harness/explain_read.h"

/* Writes FOLDER/heatmap.csv and search.csv and draws both, as SVG and PNG. A picture for which
 * there is too little, or no gnuplot, is a sentence on stderr. */
enum status explain_plot(struct store *store, const struct explain_case *which,
                         const struct explanation *why, const struct explain_sample *samples,
                         int count, const char *folder);

#endif
