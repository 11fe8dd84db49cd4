/* t1.h - a measured space as a tuning problem, in the tuning community's T1 format (schema 1.0.0):
 * the other half of a T4 file, which t4.h writes.
 */
#ifndef FASTINFER_T1_H
#define FASTINFER_T1_H

#include <jansson.h>

#include "runtime/device.h"

struct t1_space {
    const char *name;   /* of the files, without their endings */
    const char *policy; /* "cold,stream" */
    const struct kernel *kernel;
    struct problem problem;
    struct device_info device;  /* what was measured on: grids depend on it */
    const struct point *points; /* legal there, all different */
    int count;
};

/* *out is the caller's; NULL where the format has no words for the kernel: several launches, or
 * entries that differ between points. */
enum status t1_describe(const struct t1_space *space, json_t **out);

#endif
