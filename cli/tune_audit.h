/* tune_audit.h - how far what a search chose is from the best of its whole space. */
#ifndef FASTINFER_TUNE_AUDIT_H
#define FASTINFER_TUNE_AUDIT_H

#include "harness/store.h"

/* Near enough: so much slower than the best at most, or so much of the ceiling at least. */
#define AUDIT_OVER 0.01
#define AUDIT_CEILING 0.98

/* Prints a line for each problem and policy that a search decided and an exhaustive one scanned,
 * the latest of each, and the share that is near enough. Reads only. */
enum status tune_audit(struct store *store);

#endif
