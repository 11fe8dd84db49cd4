/* snapshot.h - what a tree would launch, and what its compilers make of it: the unit that the gate
 * compares. Written by `fastinfer gate --emit FILE`, of this tree or of an older one.
 *
 * {"format": 1, "commit", "device" (a slug, or "none"), "codes": [...], "cells": [...]}
 * A code is a kernel with its compiled sizes: its machine code's facts for each architecture and
 * the CPU device's counts on a small problem. A cell is a kernel, problem and policy to be timed,
 * with the binary and the launches; there are cells only where there is a GPU.
 */
#ifndef FASTINFER_SNAPSHOT_H
#define FASTINFER_SNAPSHOT_H

#include <jansson.h>

#include "harness/subject.h"

struct snapshot_options {
    const char *device;  /* "none", "cpu" (as none), or "cuda:N" */
    const char *configs; /* folder, or NULL */
    const struct kernel *kernel[64];
    int kernels; /* 0: all */
    bool quick;  /* fewer cells */
};

/* The snapshot of this program. *out is the caller's. Fails where a point does not compile. */
enum status snapshot_take(const struct snapshot_options *options, json_t **out);
/* Reads one and checks its format: STATUS_FORMAT with file and reason. */
enum status snapshot_read(const char *path, json_t **out);

/* A cell's launches: opened from its JSON on a device, for problem and point of `kernel`. The
 * binary may be another tree's: the signature has been compared. */
enum status snapshot_variant(const json_t *cell, struct device *device, struct variant *out);
/* What has to agree for two trees' binaries to take the same arguments. */
void snapshot_signature(const struct kernel *kernel, char out[33]);

#endif
