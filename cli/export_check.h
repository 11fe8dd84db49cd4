/* export_check.h - is an exported file or folder what it claims to be? For reviews of results that
 * others measured. */
#ifndef FASTINFER_CLI_EXPORT_CHECK_H
#define FASTINFER_CLI_EXPORT_CHECK_H

#include "runtime/status.h"

/* `path` is a folder results/<device>, or one of its files, or a file of configs/. Prints a line
 * FILE:LINE: what is wrong, for each finding (20 at most), and what was checked. STATUS_FORMAT
 * where anything was found, STATUS_ARGUMENT where nothing in it is known. */
enum status export_check(const char *path);

#endif
