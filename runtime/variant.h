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
    void *scratch;     /* plan.scratch_bytes, the variant's own; NULL where that is 0 */
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
/* Enqueues all stages. pointer: kernel->argument_count of them. One at a time: launches of one
 * variant share its scratch. */
enum status variant_launch(struct device *device, const struct variant *variant,
                           const struct kernel *kernel, const struct problem *problem,
                           void *const *pointer);
/* Allocates the scratch that variant->plan asks for: 0 if it has to be, else NaNs. variant_open()
 * has done so; for variants put together by hand. */
enum status variant_scratch(struct device *device, struct variant *variant);

#endif
