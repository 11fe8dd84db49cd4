/* svg.h - gnuplot's SVG as a part of an HTML page. */
#ifndef FASTINFER_CLI_SVG_H
#define FASTINFER_CLI_SVG_H

#include <stdio.h>

#include "runtime/status.h"

/* Copies the <svg> element of the file: ids and what refers to them get the prefix (several
 * pictures share a page), the neutral and the shared colours become var(--plot-...) with themselves
 * as a fallback (the page's dark look sets others), the white ground goes, `label` is its text for
 * who does not see it. */
enum status svg_inline(FILE *out, const char *path, const char *prefix, const char *label);

#endif
