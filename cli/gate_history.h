/* gate_history.h - the gate's verdicts over commits, as a CSV that grows. */
#ifndef FASTINFER_CLI_GATE_HISTORY_H
#define FASTINFER_CLI_GATE_HISTORY_H

#include "harness/gate.h"

/* Appends a row for each of the report's; a file that is not there begins with its header.
 * STATUS_FORMAT where it has another. `device` is a name, "none" without a GPU. */
enum status gate_history_append(const char *path, const struct gate_report *report,
                                const char *device, const char *driver);

#endif
