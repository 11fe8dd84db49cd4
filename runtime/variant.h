/* variant.h - a point of a kernel, compiled, loaded and launched. */
#ifndef FASTINFER_VARIANT_H
#define FASTINFER_VARIANT_H

#include "runtime/compile.h"
#include "runtime/device.h"

struct variant {
    struct point point;
    struct build build;
    struct plan plan;
    struct module *module;
    struct function *function[MAX_STAGES];
    int blocks_per_sm; /* from the driver where there is one, else the build's */
};

/* STATUS_ARGUMENT where the point is not legal for the problem here; COMPILE with the compiler's
 * words. Nothing is open after a failure. */
enum status variant_open(struct device *device, const struct kernel *kernel,
                         const struct problem *problem, const struct point *point,
                         struct variant *out);
void variant_close(struct device *device, struct variant *variant);

/* Appends to a launch what follows the pointers at every entry: the sizes that are not compiled,
 * then the reals. */
void launch_append_scalars(struct launch *launch, const struct kernel *kernel,
                           const struct problem *problem);
/* Enqueues all stages. pointer: kernel->argument_count of them; scratch: plan.scratch_bytes bytes
 * or NULL where that is 0, set to 0 here if the plan asks for it. */
enum status variant_launch(struct device *device, const struct variant *variant,
                           const struct kernel *kernel, const struct problem *problem,
                           void *const *pointer, void *scratch);

#endif
