/* gnuplot.h - runs a script of plots/ over a CSV. */
#ifndef FASTINFER_GNUPLOT_H
#define FASTINFER_GNUPLOT_H

#include <stdbool.h>
#include <stddef.h>

#define GNUPLOT_MISSING "gnuplot is not installed (apt-get install gnuplot-nox)"
enum { GNUPLOT_NOTHING = 3 }; /* the scripts' exit code for a good file without their data */

/* The folder of the scripts: $FASTINFER_ROOT's, else that of the working directory, else the source
 * tree's. */
void gnuplot_scripts(char *out, size_t bytes);
/* Does this script draw a bench.csv? The others are parts of scripts, or draw another verb's CSV.
 */
bool gnuplot_draws_bench(const char *name);
/* gnuplot's exit code, with the first line it printed; -1 where it could not be started. */
int gnuplot_run(const char *script, const char *csv, const char *out, char *line, size_t bytes);
/* The same with variables of the script set: "forms='svg'; kernel='rmsnorm'". */
int gnuplot_run_with(const char *script, const char *csv, const char *out, const char *settings,
                     char *line, size_t bytes);

#endif
