#include "harness/subject.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/fill.h"

static enum status get(struct support *s, const char *entry, struct function **out) {
    return s->device->ops->function_get(s->device, s->module, entry, 0, out);
}

enum status support_open(struct device *device, struct support *out) {
    *out = (struct support){.device = device};
    if (device->info.kind == DEVICE_CPU) return STATUS_OK;
    struct build build;
    TRY(compile_support((struct target){DEVICE_CUDA, device->info.arch}, &build));
    if (build.status) return fail(build.status, "kernels/support/support.cu: %s", build.log);
    TRY(device->ops->module_load(device, build.path, build.suffix, &out->module));
    TRY(get(out, "fill", &out->fill));
    TRY(get(out, "touch", &out->touch));
    TRY(get(out, "empty", &out->empty));
    out->flush_bytes = 2 * (size_t)(device->info.l2_bytes > 0 ? device->info.l2_bytes : 32 << 20);
    TRY(device->ops->allocate(device, out->flush_bytes, &out->flush_buffer));
    TRY(device->ops->set_bytes(device, out->flush_buffer, 0x3c, out->flush_bytes));
    return device->ops->allocate(device, 256, &out->sink);
}

void support_close(struct support *s) {
    if (!s->device) return;
    s->device->ops->release(s->device, s->flush_buffer);
    s->device->ops->release(s->device, s->sink);
    s->device->ops->module_unload(s->device, s->module);
    *s = (struct support){0};
}

static uint64_t bits(const void *pointer) { return (uint64_t)(uintptr_t)pointer; }

enum status support_read(struct support *s, const void *from, size_t bytes) {
    if (s->device->info.kind == DEVICE_CPU) return STATUS_OK;
    struct launch launch = {.function = s->touch,
                            .grid = {4 * (unsigned)s->device->info.sms, 1, 1},
                            .block = {512, 1, 1},
                            .param = {bits(from), bytes / 16, bits(s->sink)},
                            .param_count = 3};
    return s->device->ops->launch(s->device, &launch);
}

enum status support_flush(struct support *s) {
    return support_read(s, s->flush_buffer, s->flush_bytes);
}

/* --- inputs ------------------------------------------------------------------------------------
 */

static enum status fill_argument(struct subject *s, int index) {
    const struct argument *argument = &s->kernel->arguments[index];
    struct device *device = s->support->device;
    enum dtype dtype = argument_dtype(argument, &s->problem);
    /* its parity is the subject's: a kernel's own inputs depend on it, see kernel.h */
    uint64_t seed = 2 * (s->seed / 2 * 1000003 + (uint64_t)index) + s->seed % 2;
    int64_t elements = s->kernel->elements(&s->problem, index);
    void *to = s->pointer[0][index];
    if (!elements) return STATUS_OK;
    if (argument->fill != FILL_KERNEL && device->info.kind == DEVICE_CUDA) {
        struct launch launch = {.function = s->support->fill,
                                .grid = {8 * (unsigned)device->info.sms, 1, 1},
                                .block = {256, 1, 1},
                                .param = {bits(to), (uint64_t)elements,
                                          dtype == DTYPE_U8 ? 0 : (uint64_t)dtype,
                                          (uint64_t)argument->fill, seed},
                                .param_count = 5};
        if (argument->fill == FILL_BITS) launch.param[1] = s->bytes[index] / dtype_bytes(dtype);
        return device->ops->launch(device, &launch);
    }
    void *host = calloc(1, s->bytes[index]);
    if (!host) return fail(STATUS_SYSTEM, "out of memory for %s's inputs", s->kernel->name);
    if (argument->fill == FILL_KERNEL)
        s->kernel->input(&s->problem, index, seed, host);
    else
        fill_host(host, 0, elements, dtype, argument->fill, seed);
    enum status status = device->ops->upload(device, to, host, s->bytes[index]);
    free(host);
    return status;
}

static enum status layout(struct subject *s) {
    size_t offset = GUARD_BYTES;
    for (int i = 0; i < s->kernel->argument_count; i++) {
        enum dtype dtype = argument_dtype(&s->kernel->arguments[i], &s->problem);
        s->bytes[i] = (size_t)s->kernel->elements(&s->problem, i) * dtype_bytes(dtype);
        s->offset[i] = offset;
        offset += (s->bytes[i] + 255) / 256 * 256 + GUARD_BYTES;
    }
    s->set_bytes = offset;
    return STATUS_OK;
}

static enum status allocate_set(struct subject *s, int set) {
    struct device *device = s->support->device;
    TRY(device->ops->allocate(device, s->set_bytes, &s->arena[set]));
    TRY(device->ops->set_bytes(device, s->arena[set], 0xff, s->set_bytes));
    for (int i = 0; i < s->kernel->argument_count; i++)
        s->pointer[set][i] = s->bytes[i] ? (char *)s->arena[set] + s->offset[i] : NULL;
    return STATUS_OK;
}

static enum status fill_all(struct subject *s) {
    struct device *device = s->support->device;
    for (int i = 0; i < s->kernel->argument_count; i++) {
        const struct argument *argument = &s->kernel->arguments[i];
        if (argument->role == ROLE_OUT || !s->bytes[i]) continue;
        TRY(fill_argument(s, i));
        if (argument->role == ROLE_INOUT) {
            TRY(device->ops->allocate(device, s->bytes[i], &s->pristine[i]));
            TRY(device->ops->copy(device, s->pristine[i], s->pointer[0][i], s->bytes[i]));
        }
    }
    for (int set = 1; set < s->sets; set++)
        TRY(device->ops->copy(device, s->arena[set], s->arena[0], s->set_bytes));
    return device->ops->synchronize(device);
}

enum status subject_open(struct support *support, const struct kernel *kernel,
                         const struct problem *problem, uint64_t seed, int sets,
                         struct subject **out) {
    struct device *device = support->device;
    size_t available = 0;
    TRY(device->ops->free_bytes(device, &available));
    TRY(problem_check(kernel, problem, (double)available));
    struct subject *s = calloc(1, sizeof *s);
    if (!s) return fail(STATUS_SYSTEM, "out of memory");
    *s = (struct subject){
        .support = support, .kernel = kernel, .problem = *problem, .seed = seed, .sets = 1};
    enum status status = layout(s);
    size_t affordable = available / 2 / s->set_bytes; /* leave room for the baseline's own */
    if (sets > MAX_SETS) sets = MAX_SETS;
    if ((size_t)sets > affordable) sets = affordable ? (int)affordable : 1;
    s->sets = sets;
    for (int i = 0; i < sets && !status; i++) status = allocate_set(s, i);
    if (!status) status = fill_all(s);
    if (status) {
        subject_close(s);
        return status;
    }
    *out = s;
    return STATUS_OK;
}

void subject_close(struct subject *s) {
    if (!s) return;
    struct device *device = s->support->device;
    for (int i = 0; i < s->sets; i++)
        if (s->arena[i]) device->ops->release(device, s->arena[i]);
    for (int i = 0; i < MAX_ARGUMENTS; i++)
        if (s->pristine[i]) device->ops->release(device, s->pristine[i]);
    if (s->reference) s->reference_free(s->reference);
    if (s->checker) s->checker_free(s);
    free(s);
}

static enum status restore_set(struct subject *s, int set) {
    struct device *device = s->support->device;
    for (int i = 0; i < s->kernel->argument_count; i++)
        if (s->pristine[i])
            TRY(device->ops->copy(device, s->pointer[set][i], s->pristine[i], s->bytes[i]));
    return STATUS_OK;
}

enum status subject_restore(struct subject *s) {
    for (int set = 0; set < s->sets; set++) TRY(restore_set(s, set));
    return STATUS_OK;
}

enum status subject_reset(struct subject *s, int set, int poison) {
    struct device *device = s->support->device;
    for (int i = 0; i < s->kernel->argument_count; i++)
        if (s->kernel->arguments[i].role == ROLE_OUT && s->bytes[i])
            TRY(device->ops->set_bytes(device, s->pointer[set][i], poison, s->bytes[i]));
    return restore_set(s, set);
}

enum status subject_check_guards(struct subject *s, int set) {
    struct device *device = s->support->device;
    unsigned char zone[GUARD_BYTES + 256];
    for (int i = 0; i <= s->kernel->argument_count; i++) {
        /* the zone before argument i, which starts where argument i - 1 ends */
        size_t start = i ? s->offset[i - 1] + s->bytes[i - 1] : 0;
        size_t end = i < s->kernel->argument_count ? s->offset[i] : s->set_bytes;
        TRY(device->ops->download(device, zone, (char *)s->arena[set] + start, end - start));
        for (size_t k = 0; k < end - start; k++) {
            if (zone[k] == 0xff) continue;
            bool after = i && k < (end - start) / 2;
            int which = after || i == s->kernel->argument_count ? i - 1 : i;
            return fail(STATUS_INCORRECT, "wrote outside %s: byte %zu %s it",
                        s->kernel->arguments[which].name, after ? k : end - start - k,
                        after ? "behind" : "before");
        }
    }
    return STATUS_OK;
}

/* --- variants ----------------------------------------------------------------------------------
 */

enum status subject_launch(struct subject *s, const struct variant *variant, int set,
                           int weight_set) {
    void *pointer[MAX_ARGUMENTS];
    for (int i = 0; i < s->kernel->argument_count; i++)
        pointer[i] = s->pointer[s->kernel->arguments[i].weight ? weight_set : set][i];
    return variant_launch(s->support->device, variant, s->kernel, &s->problem, pointer);
}

enum status subject_touch(struct subject *s, int set) {
    if (s->support->device->info.kind == DEVICE_CPU) return STATUS_OK;
    for (int i = 0; i < s->kernel->argument_count; i++)
        if (!s->kernel->arguments[i].weight && s->bytes[i])
            TRY(support_read(s->support, s->pointer[set][i], s->bytes[i]));
    return STATUS_OK;
}
