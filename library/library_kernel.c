/* library_kernel.c - which variant answers for the sizes of a launch, found once and kept. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/registry.h"
#include "library/library.h"
#include "runtime/compile.h"

enum { SLOTS = 1024, PROBES = 16, FREE_SHARED_BYTES = 48 << 10 };

/* A compiled point, loaded. Its stages' entries are looked up by name, since what a plan launches
 * may depend on the sizes. */
struct variant {
    struct point point;
    struct module *module;
    struct function *function[MAX_STAGES];
    const char *entry[MAX_STAGES];
    unsigned shared_bytes[MAX_STAGES];
    int entries;
    struct variant *next;
};
struct slot { /* the variant that sizes like these take */
    int64_t key[MAX_SIZES];
    struct variant *variant;
};

struct fastinfer_kernel {
    struct fastinfer_device *owner;
    const struct kernel *spec;
    struct problem problem; /* dtype, compiled sizes and the defaults of everything else */
    int fixed[MAX_TUNABLES];
    bool is_fixed[MAX_TUNABLES];
    struct variant *variants;
    struct slot slot[SLOTS];
};

/* As in a decode or prefill step: activations from the launch before, weights from memory. */
static const struct policy in_a_model = {RESIDENCY_WEIGHTS_COLD, LAUNCH_GRAPH};

/* --- opening ------------------------------------------------------------------------------------
 */

static enum status read_fixed(struct fastinfer_kernel *k, const char *text) {
    char copy[MAX_TEXT], *save = NULL;
    struct point point;
    TRY(point_parse(k->spec, text, &point));
    snprintf(copy, sizeof copy, "%s", text);
    for (char *word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        word[strcspn(word, "=")] = 0;
        int t = kernel_tunable(k->spec, word);
        if (t >= 0) k->is_fixed[t] = true, k->fixed[t] = point.value[t];
    }
    return STATUS_OK;
}

static enum status open_kernel(struct fastinfer_device *device, const char *name,
                               enum fastinfer_dtype dtype, const char *sizes, const char *fixed,
                               struct fastinfer_kernel *k) {
    if (!device || !name) return fail(STATUS_ARGUMENT, "a device and a kernel's name are needed");
    TRY(registry_find(name, &k->spec));
    if ((unsigned)dtype > FASTINFER_FP32 || !(k->spec->dtypes & 1u << dtype))
        return fail(STATUS_ARGUMENT, "%s: dtype %d is not one that it is written for", name,
                    (int)dtype);
    TRY(problem_parse(k->spec, sizes ? sizes : "", &k->problem));
    k->problem.dtype = (enum dtype)dtype;
    TRY(problem_check(k->spec, &k->problem, 0));
    if (fixed && *fixed) TRY(read_fixed(k, fixed));
    k->owner = device;
    device->users++;
    return STATUS_OK;
}

enum fastinfer_code fastinfer_kernel_open(struct fastinfer_device *device, const char *name,
                                          enum fastinfer_dtype dtype, const char *sizes,
                                          const char *fixed, struct fastinfer_kernel **out) {
    struct fastinfer_kernel *k = calloc(1, sizeof *k);
    pthread_mutex_lock(&library_lock);
    enum status status = k ? open_kernel(device, name, dtype, sizes, fixed, k)
                           : fail(STATUS_SYSTEM, "out of memory");
    pthread_mutex_unlock(&library_lock);
    if (status)
        free(k);
    else
        *out = k;
    return library_code(status);
}

void fastinfer_kernel_close(struct fastinfer_kernel *k) {
    if (!k) return;
    pthread_mutex_lock(&library_lock);
    struct device *device = k->owner->device;
    void *visit;
    bool entered = !device->ops->enter(device, NULL, &visit);
    while (k->variants) {
        struct variant *next = k->variants->next;
        device->ops->module_unload(device, k->variants->module);
        free(k->variants);
        k->variants = next;
    }
    if (entered) device->ops->leave(device, visit);
    library_device_release(k->owner);
    pthread_mutex_unlock(&library_lock);
    free(k);
}

static const struct size *open_size(const struct fastinfer_kernel *k, int index) {
    for (int i = 0; i < k->spec->size_count; i++)
        if (!k->spec->sizes[i].compiled && !index--) return &k->spec->sizes[i];
    return NULL;
}
int fastinfer_kernel_pointers(const struct fastinfer_kernel *k) { return k->spec->argument_count; }
int fastinfer_kernel_sizes(const struct fastinfer_kernel *k) {
    int count = 0;
    while (open_size(k, count)) count++;
    return count;
}
int fastinfer_kernel_reals(const struct fastinfer_kernel *k) { return k->spec->real_count; }
const char *fastinfer_kernel_pointer_name(const struct fastinfer_kernel *k, int index) {
    return index >= 0 && index < k->spec->argument_count ? k->spec->arguments[index].name : NULL;
}
const char *fastinfer_kernel_size_name(const struct fastinfer_kernel *k, int index) {
    const struct size *size = index < 0 ? NULL : open_size(k, index);
    return size ? size->name : NULL;
}
const char *fastinfer_kernel_real_name(const struct fastinfer_kernel *k, int index) {
    return index >= 0 && index < k->spec->real_count ? k->spec->reals[index].name : NULL;
}

/* --- which variant ------------------------------------------------------------------------------
 */

static bool fix(const struct fastinfer_kernel *k, const struct problem *problem,
                struct point *point) {
    for (int t = 0; t < k->spec->tunable_count; t++)
        if (k->is_fixed[t]) point->value[t] = k->fixed[t];
    return k->spec->legal(problem, point, &k->owner->device->info, NULL);
}

/* As space_default, among the points with the fixed values. */
static enum status nearest_fixed(const struct fastinfer_kernel *k, const struct problem *problem,
                                 struct point *out) {
    struct point *space, wanted = point_default(k->spec);
    int count, best = -1;
    TRY(space_enumerate(k->spec, problem, &k->owner->device->info, &space, &count));
    for (int i = 0; i < count; i++) {
        int shared = 0;
        for (int t = 0; t < k->spec->tunable_count && shared >= 0; t++) {
            bool same = space[i].value[t] == wanted.value[t];
            if (k->is_fixed[t] && space[i].value[t] != k->fixed[t])
                shared = -1;
            else
                shared += same;
        }
        if (shared > best) best = shared, *out = space[i];
    }
    free(space);
    if (best >= 0) return STATUS_OK;
    char text[MAX_TEXT];
    problem_format(k->spec, problem, text);
    return fail(STATUS_ARGUMENT, "%s: no variant with the fixed values can run %s", k->spec->name,
                text);
}

/* What `fastinfer config` shows, with the fixed values put in. */
static enum status choose_point(const struct fastinfer_kernel *k, const struct problem *problem,
                                struct point *out) {
    const struct device_info *info = &k->owner->device->info;
    if (!config_point(k->owner->config, k->spec, problem, in_a_model, info, out))
        TRY(space_default(k->spec, problem, info, out));
    return fix(k, problem, out) ? STATUS_OK : nearest_fixed(k, problem, out);
}

/* The variant's function for a stage of a plan; NULL where it has none, or none allowed so much
 * shared memory. */
static struct function *function_for(const struct variant *v, const struct stage *stage) {
    for (int i = 0; i < v->entries; i++)
        if (!strcmp(v->entry[i], stage->entry) &&
            (stage->shared_bytes <= v->shared_bytes[i] || stage->shared_bytes <= FREE_SHARED_BYTES))
            return v->function[i];
    return NULL;
}

static bool covers(const struct variant *v, const struct plan *plan) {
    for (int i = 0; i < plan->stages; i++)
        if (!function_for(v, &plan->stage[i])) return false;
    return true;
}

static enum status load_variant(struct fastinfer_kernel *k, const struct problem *problem,
                                const struct plan *plan, struct variant *v) {
    struct device *device = k->owner->device;
    struct build build;
    TRY(compile_points(k->spec, problem, &v->point, 1,
                       (struct target){device->info.kind, device->info.arch}, &build));
    if (build.status) return fail(build.status, "%s: %s", k->spec->name, build.log);
    TRY(device->ops->module_load(device, build.path, build.suffix, &v->module));
    for (int i = 0; i < plan->stages; i++) {
        const struct stage *stage = &plan->stage[i];
        TRY(device->ops->function_get(device, v->module, stage->entry, stage->shared_bytes,
                                      &v->function[i]));
        v->entry[i] = stage->entry, v->shared_bytes[i] = stage->shared_bytes;
        v->entries++;
    }
    return STATUS_OK;
}

/* One that is there, or a new one. */
static enum status variant_for(struct fastinfer_kernel *k, const struct problem *problem,
                               const struct point *point, struct variant **out) {
    struct device *device = k->owner->device;
    struct plan plan = k->spec->plan(problem, point, &device->info);
    for (struct variant *v = k->variants; v; v = v->next)
        if (point_equal(k->spec, &v->point, point) && covers(v, &plan)) {
            *out = v;
            return STATUS_OK;
        }
    struct variant *v = calloc(1, sizeof *v);
    if (!v) return fail(STATUS_SYSTEM, "out of memory");
    v->point = *point;
    enum status status = load_variant(k, problem, &plan, v);
    if (status) {
        device->ops->module_unload(device, v->module);
        free(v);
        return status;
    }
    v->next = k->variants;
    k->variants = *out = v;
    return STATUS_OK;
}

/* Sizes share a slot up to their four highest bits: exact up to 15, then eight steps an octave,
 * which is finer than any table of points. */
static int64_t bucket(int64_t size) {
    int shift = 0;
    while (size >> shift > 15) shift++;
    return size >> shift << shift;
}

static struct slot *slot_for(struct fastinfer_kernel *k, const struct problem *problem,
                             int64_t *key) {
    uint64_t hash = 0;
    for (int i = 0; i < k->spec->size_count; i++) {
        key[i] = k->spec->sizes[i].compiled ? problem->size[i] : bucket(problem->size[i]);
        hash = (hash ^ (uint64_t)key[i]) * UINT64_C(0x9e3779b97f4a7c15);
    }
    for (unsigned i = 0; i < PROBES; i++) {
        struct slot *slot = &k->slot[((hash >> 40) + i) % SLOTS];
        if (!slot->variant || !memcmp(slot->key, key, sizeof slot->key)) return slot;
    }
    return NULL; /* full around here: found anew each time */
}

static enum status find_variant(struct fastinfer_kernel *k, const struct problem *problem,
                                struct plan *plan, struct variant **out) {
    const struct device_info *info = &k->owner->device->info;
    int64_t key[MAX_SIZES] = {0};
    struct slot *slot = slot_for(k, problem, key);
    if (slot && slot->variant && k->spec->legal(problem, &slot->variant->point, info, NULL)) {
        *plan = k->spec->plan(problem, &slot->variant->point, info);
        *out = slot->variant;
        if (covers(slot->variant, plan)) return STATUS_OK;
    }
    struct point point;
    TRY(choose_point(k, problem, &point));
    TRY(variant_for(k, problem, &point, out));
    *plan = k->spec->plan(problem, &(*out)->point, info);
    if (slot && !slot->variant) {
        memcpy(slot->key, key, sizeof key);
        slot->variant = *out;
    }
    return STATUS_OK;
}

/* --- launching ----------------------------------------------------------------------------------
 */

static enum status take_sizes(const struct fastinfer_kernel *k, const int64_t *sizes,
                              struct problem *out) {
    *out = k->problem;
    for (int i = 0, given = 0; i < k->spec->size_count; i++) {
        const struct size *size = &k->spec->sizes[i];
        if (size->compiled) continue;
        out->size[i] = sizes[given++];
        if (out->size[i] < size->min || out->size[i] > size->max)
            return fail(STATUS_ARGUMENT, "%s: %s is %lld; %lld to %lld was expected", k->spec->name,
                        size->name, (long long)out->size[i], (long long)size->min,
                        (long long)size->max);
    }
    return STATUS_OK;
}

static enum status prepare(struct fastinfer_kernel *k, const int64_t *sizes, char *text,
                           size_t bytes, size_t *scratch_bytes) {
    struct problem problem;
    struct variant *variant;
    struct plan plan;
    char point[MAX_TEXT];
    struct device *device = k->owner->device;
    void *visit;
    TRY(take_sizes(k, sizes, &problem));
    TRY(device->ops->enter(device, NULL, &visit));
    enum status status = find_variant(k, &problem, &plan, &variant);
    device->ops->leave(device, visit);
    if (status) return status;
    point_format(k->spec, &variant->point, point);
    if (text) snprintf(text, bytes, "%s", point);
    if (scratch_bytes) *scratch_bytes = plan.scratch_bytes;
    return STATUS_OK;
}

enum fastinfer_code fastinfer_kernel_prepare(struct fastinfer_kernel *k, const int64_t *sizes,
                                             char *text, size_t bytes, size_t *scratch_bytes) {
    pthread_mutex_lock(&library_lock);
    enum status status = prepare(k, sizes, text, bytes, scratch_bytes);
    pthread_mutex_unlock(&library_lock);
    return library_code(status);
}

static enum status add_pointers(const struct fastinfer_kernel *k, void *const *pointers,
                                struct launch *launch) {
    for (int i = 0; i < k->spec->argument_count; i++) {
        uintptr_t address = (uintptr_t)pointers[i];
        if (address % FASTINFER_ALIGNMENT)
            return fail(STATUS_ARGUMENT, "%s: %s lies at %#llx; a multiple of %d was expected",
                        k->spec->name, k->spec->arguments[i].name, (unsigned long long)address,
                        FASTINFER_ALIGNMENT);
        launch->param[launch->param_count++] = address;
    }
    return STATUS_OK;
}

static void add_scalars(const struct fastinfer_kernel *k, const struct problem *problem,
                        const double *reals, struct launch *launch) {
    for (int i = 0; i < k->spec->size_count; i++)
        if (!k->spec->sizes[i].compiled)
            launch->param[launch->param_count++] = (uint64_t)problem->size[i];
    for (int i = 0; i < k->spec->real_count; i++) {
        float real = (float)(reals ? reals[i] : problem->real[i]);
        memcpy(&launch->param[launch->param_count++], &real, sizeof real);
    }
}

static enum status launch_stages(struct device *device, const struct variant *variant,
                                 const struct plan *plan, void *scratch, struct launch *launch) {
    if (plan->scratch_zeroed) TRY(device->ops->set_bytes(device, scratch, 0, plan->scratch_bytes));
    for (int i = 0; i < plan->stages; i++) {
        const struct stage *stage = &plan->stage[i];
        launch->function = function_for(variant, stage);
        memcpy(launch->grid, stage->grid, sizeof launch->grid);
        memcpy(launch->block, stage->block, sizeof launch->block);
        launch->shared_bytes = stage->shared_bytes;
        launch->cooperative = stage->cooperative;
        TRY(device->ops->launch(device, launch));
    }
    return STATUS_OK;
}

static enum status launch(struct fastinfer_kernel *k, void *const *pointers, const int64_t *sizes,
                          const double *reals, void *scratch, size_t scratch_bytes, void *stream) {
    struct device *device = k->owner->device;
    struct launch launch = {0};
    struct problem problem;
    struct variant *variant;
    struct plan plan;
    void *visit;
    TRY(take_sizes(k, sizes, &problem));
    TRY(add_pointers(k, pointers, &launch));
    TRY(device->ops->enter(device, stream, &visit));
    enum status status = find_variant(k, &problem, &plan, &variant);
    if (!status && plan.scratch_bytes) {
        if (!scratch || scratch_bytes < plan.scratch_bytes)
            status = fail(STATUS_ARGUMENT, "%s: %zu bytes of scratch were given; %zu are needed",
                          k->spec->name, scratch ? scratch_bytes : 0, plan.scratch_bytes);
        launch.param[launch.param_count++] = (uintptr_t)scratch;
    }
    add_scalars(k, &problem, reals, &launch);
    if (!status) status = launch_stages(device, variant, &plan, scratch, &launch);
    device->ops->leave(device, visit);
    return status;
}

enum fastinfer_code fastinfer_kernel_launch(struct fastinfer_kernel *k, void *const *pointers,
                                            const int64_t *sizes, const double *reals,
                                            void *scratch, size_t scratch_bytes, void *stream) {
    pthread_mutex_lock(&library_lock);
    enum status status = launch(k, pointers, sizes, reals, scratch, scratch_bytes, stream);
    pthread_mutex_unlock(&library_lock);
    return library_code(status);
}
