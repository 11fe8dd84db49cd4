#include "runtime/variant.h"

#include <string.h>

enum status variant_open(struct device *device, const struct kernel *kernel,
                         const struct problem *problem, const struct point *point,
                         struct variant *out) {
    memset(out, 0, sizeof *out);
    const char *why = "";
    if (!kernel->legal(problem, point, &device->info, &why))
        return fail(STATUS_ARGUMENT, "this point is not legal here: %s", why);
    out->point = *point;
    struct target target = {device->info.kind, device->info.arch};
    TRY(compile_points(kernel, problem, point, 1, target, &out->build));
    if (out->build.status) return fail(out->build.status, "%s", out->build.log);
    out->plan = kernel->plan(problem, point, &device->info);
    TRY(device->ops->module_load(device, out->build.path, out->build.suffix, &out->module));
    for (int i = 0; i < out->plan.stages; i++) {
        const struct stage *stage = &out->plan.stage[i];
        enum status status = device->ops->function_get(device, out->module, stage->entry,
                                                       stage->shared_bytes, &out->function[i]);
        if (status) {
            variant_close(device, out);
            return status;
        }
    }
    enum status scratch = variant_scratch(device, out);
    if (scratch) {
        variant_close(device, out);
        return scratch;
    }
    const struct stage *first = &out->plan.stage[0];
    int threads = (int)(first->block[0] * first->block[1] * first->block[2]);
    out->blocks_per_sm =
        device->ops->occupancy(device, out->function[0], threads, first->shared_bytes);
    if (out->blocks_per_sm < 0) out->blocks_per_sm = out->build.blocks_per_sm;
    out->build.blocks_per_sm = out->blocks_per_sm;
    return STATUS_OK;
}

void variant_close(struct device *device, struct variant *variant) {
    device->ops->module_unload(device, variant->module);
    if (variant->scratch) device->ops->release(device, variant->scratch);
    variant->module = NULL, variant->scratch = NULL;
}

enum status variant_scratch(struct device *device, struct variant *variant) {
    size_t bytes = variant->plan.scratch_bytes;
    if (!bytes) return STATUS_OK;
    TRY(device->ops->allocate(device, bytes, &variant->scratch));
    return device->ops->set_bytes(device, variant->scratch, variant->plan.scratch_zeroed ? 0 : 0xff,
                                  bytes);
}

void launch_append_scalars(struct launch *launch, const struct kernel *kernel,
                           const struct problem *problem) {
    for (int i = 0; i < kernel->size_count; i++)
        if (!kernel->sizes[i].compiled)
            launch->param[launch->param_count++] = (uint64_t)problem->size[i];
    for (int i = 0; i < kernel->real_count; i++) {
        float real = (float)problem->real[i];
        memcpy(&launch->param[launch->param_count++], &real, sizeof real);
    }
}

enum status variant_launch(struct device *device, const struct variant *variant,
                           const struct kernel *kernel, const struct problem *problem,
                           void *const *pointer) {
    struct launch launch = {0};
    for (int i = 0; i < kernel->argument_count; i++)
        launch.param[launch.param_count++] = (uint64_t)(uintptr_t)pointer[i];
    if (variant->scratch)
        launch.param[launch.param_count++] = (uint64_t)(uintptr_t)variant->scratch;
    launch_append_scalars(&launch, kernel, problem);
    for (int i = 0; i < variant->plan.stages; i++) {
        const struct stage *stage = &variant->plan.stage[i];
        launch.function = variant->function[i];
        memcpy(launch.grid, stage->grid, sizeof launch.grid);
        memcpy(launch.block, stage->block, sizeof launch.block);
        launch.shared_bytes = stage->shared_bytes;
        launch.cooperative = stage->cooperative;
        TRY(device->ops->launch(device, &launch));
    }
    return STATUS_OK;
}
