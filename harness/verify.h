/* verify.h - is a variant right? Every element against an fp64 reference, before any timing. */
#ifndef FASTINFER_VERIFY_H
#define FASTINFER_VERIFY_H

#include "harness/subject.h"

struct verdict {
    double worst;     /* the largest |error| / bound; right is <= 1 */
    int64_t elements; /* how many were compared */
    char reason[384]; /* the first wrong element, where one is */
};

/* Runs the variant once on poisoned outputs and compares every element of every output with the
 * reference: on the host up to HOST_ELEMENTS outputs of HOST_BYTES of buffers, else by the kernel's
 * own `check` entry on the device. On the host's path a second run over another poison must give
 * the same bits (the odd relative of a large problem always takes it). STATUS_OK, or INCORRECT,
 * NONDETERMINISTIC, LAUNCH, ... with the sentence in fail_message() and verdict->reason. */
enum { HOST_ELEMENTS = 1 << 18, HOST_BYTES = 16 << 20 };
enum status verify_variant(struct subject *subject, const struct variant *variant,
                           struct verdict *verdict);

/* |error| <= relative |reference| + absolute magnitude + floors x the dtype's floor. */
struct allowance {
    double relative, absolute, floors;
};
/* The host's part alone: compares what set 0 holds now. For baselines, too, whose intermediates
 * may underflow in their dtype and are then multiplied: they are given more floors. */
enum status verify_host(struct subject *subject, struct allowance allowance,
                        struct verdict *verdict);

/* The device's part alone, by the kernel's `check` entry, on any kind of device; adds to *verdict.
 * bound: as kernel_bound().
 */
enum status verify_device(struct subject *subject, double bound, struct verdict *verdict);

/* A small relative of a problem with odd sizes where they may be odd, for tails and guards. */
struct problem verify_odd_problem(const struct kernel *kernel, const struct problem *problem);

#endif
