/* report_space.h - what the report takes from an export's measured spaces
 * (spaces/<name>.t4.json.gz).
 */
#ifndef FASTINFER_CLI_REPORT_SPACE_H
#define FASTINFER_CLI_REPORT_SPACE_H

#include "cli/report.h"

/* The folder's spaces, sorted by name; free with report_spaces_free(). */
struct report_spaces {
    char **path;
    int count;
};
enum status report_spaces(const struct exported *e, struct report_spaces *out);
void report_spaces_free(struct report_spaces *spaces);

/* "nvidia-h200, driver ..., commit ..., 2026-11-23": where and when a space was measured. */
enum status report_space_origin(const char *path, char *out, size_t bytes);

/* Writes CSV, as `fastinfer explain --plot` does, of the best time with each pair of values of the
 * two tunables that explain most by themselves. STATUS_MISSING where fewer than two vary, or a
 * value is no whole number. */
enum status report_space_heatmap(const char *path, const char *csv);

#endif
