/* handout.h - one point of a kernel as files for someone else's project: its source with nothing of
 * ours to include, how to launch it, and its machine code. */
#ifndef HARNESS_HANDOUT_H
#define HARNESS_HANDOUT_H

#include "runtime/compile.h"

struct handout_request {
    const struct kernel *kernel;
    struct problem problem;
    struct point point;
    const char *origin; /* where the point comes from, in words */
    const struct device_info *device;
    const char *folder;
};

struct handout {
    char source[1200], header[1200];
    char cubin[1200];   /* "" where there is no NVRTC: */
    char missing[1024]; /* then why, else "" */
    struct build build; /* what NVRTC made of `source` */
    bool same_code;     /* its machine code is that of the point as it is measured */
};

/* Writes <kernel>.cu, <kernel>.h and <kernel>.sm_XX.cubin; older ones are replaced. */
enum status handout_write(const struct handout_request *request, struct handout *out);

#endif
