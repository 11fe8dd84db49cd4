#include "harness/snapshot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/bench.h"
#include "kernels/registry.h"
#include "runtime/config.h"
#include "runtime/hash.h"
#include "runtime/json_text.h"

enum { FORMAT = 1, SMALL_ROWS = 4, SMALL_BYTES = 64 << 10 };
static const int archs[] = {75, 90};

void snapshot_signature(const struct kernel *kernel, char out[33]) {
    struct hash *hash = hash_new();
    for (int i = 0; i < kernel->argument_count; i++) {
        const struct argument *a = &kernel->arguments[i];
        int traits[4] = {a->role, a->dtype, a->fill, a->weight};
        hash_text(hash, a->name), hash_text(hash, a->shape);
        hash_add(hash, traits, sizeof traits);
    }
    for (int i = 0; i < kernel->size_count; i++) {
        hash_text(hash, kernel->sizes[i].name);
        hash_text(hash, kernel->sizes[i].compiled ? "compiled" : "given");
    }
    for (int i = 0; i < kernel->real_count; i++) hash_text(hash, kernel->reals[i].name);
    hash_end(hash, out);
}

/* --- codes: what is exact without a GPU ---------------------------------------------------------
 */

/* A relative of the problem that the emulation counts in a moment: what is compiled stays. */
static struct problem small_problem(const struct kernel *kernel, const struct problem *problem) {
    struct problem small = *problem;
    for (int i = 0; i < kernel->size_count; i++) {
        const char *name = kernel->sizes[i].name;
        if (!strcmp(name, "rows")) small.size[i] = SMALL_ROWS;
        if (strstr(name, "_bytes") && small.size[i] > SMALL_BYTES) small.size[i] = SMALL_BYTES;
        while ((!strcmp(name, "outputs") || !strcmp(name, "vocab")) && !kernel->sizes[i].compiled &&
               small.size[i] % 16 == 0 && problem_bytes(kernel, &small) > 4 * SMALL_BYTES)
            small.size[i] /= 2;
    }
    return small;
}

static enum status code_for(const struct kernel *kernel, const struct problem *problem,
                            const struct config *config, int arch, json_t *code) {
    struct device_info info;
    struct point point;
    struct build build;
    char text[MAX_TEXT], key[16];
    struct target target = {DEVICE_CUDA, arch};
    struct policy policy = {RESIDENCY_COLD, LAUNCH_STREAM};
    device_describe_arch(arch, &info);
    config_point(config, kernel, problem, policy, &info, &point);
    TRY(compile_points(kernel, problem, &point, 1, target, &build));
    point_format(kernel, &point, text);
    if (build.status)
        return fail(STATUS_COMPILE, "%s %s does not compile for sm_%d: %.300s", kernel->name, text,
                    arch, build.log);
    snprintf(key, sizeof key, "sm_%d", arch);
    json_object_set_new(code, key,
                        json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i}", "point", text, "registers",
                                  build.registers, "spill_bytes", build.spill_bytes, "stack_bytes",
                                  build.stack_bytes, "shared_bytes", build.shared_bytes,
                                  "instructions", build.instructions, "blocks_per_sm",
                                  build.blocks_per_sm));
    return STATUS_OK;
}

static enum status count_on_cpu(struct support *support, const struct kernel *kernel,
                                const struct problem *problem, json_t *code) {
    struct point point = point_default(kernel);
    struct problem small = small_problem(kernel, problem);
    struct subject *subject;
    struct variant variant = {0};
    if (!kernel->legal(&small, &point, &support->device->info, NULL)) return STATUS_OK;
    TRY(subject_open(support, kernel, &small, 2, 1, &subject));
    enum status status = variant_open(support->device, kernel, &small, &point, &variant);
    if (!status) status = subject_reset(subject, 0, 0xff);
    device_cpu_count(true);
    if (!status) status = subject_launch(subject, &variant, 0, 0);
    device_cpu_count(false);
    struct device_counts c = device_cpu_counts();
    if (!status)
        json_object_set_new(code, "cpu",
                            json_pack("{s:I, s:I, s:I, s:I}", "barriers", (json_int_t)c.barriers,
                                      "exchanges", (json_int_t)c.exchanges, "global_bytes",
                                      (json_int_t)c.global_bytes, "global_sectors",
                                      (json_int_t)c.global_sectors));
    variant_close(support->device, &variant);
    subject_close(subject);
    return status;
}

/* The compiled part of a problem as text; problems with the same one have the same code. */
static void code_key(const struct kernel *kernel, const struct problem *problem, char *out) {
    int n = 0;
    out[0] = 0;
    for (int i = 0; i < kernel->size_count; i++)
        if (kernel->sizes[i].compiled)
            n += snprintf(out + n, MAX_TEXT - (size_t)n, "%s%s=%lld", n ? "," : "",
                          kernel->sizes[i].name, (long long)problem->size[i]);
}

static bool has_code(const json_t *codes, const char *kernel, const char *sizes) {
    size_t i;
    json_t *code;
    json_array_foreach(codes, i, code) if (!strcmp(json_text(code, "kernel"), kernel) &&
                                           !strcmp(json_text(code, "sizes"), sizes)) return true;
    return false;
}

static enum status add_code(const struct kernel *kernel, const struct problem *problem,
                            const struct config *const *configs, struct support *cpu,
                            json_t *codes) {
    char sizes[MAX_TEXT], signature[33];
    code_key(kernel, problem, sizes);
    if (has_code(codes, kernel->name, sizes)) return STATUS_OK;
    snapshot_signature(kernel, signature);
    json_t *code = json_pack("{s:s, s:s, s:s, s:s}", "kernel", kernel->name, "dtype",
                             dtype_name(problem->dtype), "sizes", sizes, "signature", signature);
    json_array_append_new(codes, code);
    for (size_t i = 0; i < sizeof archs / sizeof *archs && !nvrtc_available(); i++)
        if (archs[i] >= kernel->least_arch)
            TRY(code_for(kernel, problem, configs[i], archs[i], code));
    return count_on_cpu(cpu, kernel, problem, code);
}

/* --- cells: what is timed -----------------------------------------------------------------------
 */

static enum status add_cell(const struct kernel *kernel, const struct problem *problem,
                            struct policy policy, const struct config *config,
                            const struct device_info *info, json_t *cells) {
    struct point point;
    struct build build;
    char problem_text[MAX_TEXT], point_text[MAX_TEXT], signature[33];
    config_point(config, kernel, problem, policy, info, &point);
    if (!kernel->legal(problem, &point, info, NULL)) return STATUS_OK;
    TRY(compile_points(kernel, problem, &point, 1, (struct target){info->kind, info->arch},
                       &build));
    problem_format(kernel, problem, problem_text), point_format(kernel, &point, point_text);
    if (build.status)
        return fail(STATUS_COMPILE, "%s %s does not compile: %.300s", kernel->name, point_text,
                    build.log);
    struct plan plan = kernel->plan(problem, &point, info);
    json_t *stages = json_array();
    for (int i = 0; i < plan.stages; i++) {
        const struct stage *s = &plan.stage[i];
        json_array_append_new(stages,
                              json_pack("{s:s, s:[I,I,I], s:[I,I,I], s:i, s:b}", "entry", s->entry,
                                        "grid", (json_int_t)s->grid[0], (json_int_t)s->grid[1],
                                        (json_int_t)s->grid[2], "block", (json_int_t)s->block[0],
                                        (json_int_t)s->block[1], (json_int_t)s->block[2], "shared",
                                        (int)s->shared_bytes, "cooperative", (int)s->cooperative));
    }
    snapshot_signature(kernel, signature);
    json_array_append_new(
        cells, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:b, s:o}", "kernel",
                         kernel->name, "dtype", dtype_name(problem->dtype), "problem", problem_text,
                         "policy", policy_text(policy), "point", point_text, "signature", signature,
                         "image", build.path, "suffix", build.suffix, "code_hash", build.code_hash,
                         "scratch", (json_int_t)plan.scratch_bytes, "zeroed",
                         (int)plan.scratch_zeroed, "stages", stages));
    return STATUS_OK;
}

static bool is_timed(int64_t rows, bool quick) {
    if (!rows) return true;
    return quick ? rows == 16 || rows == 4096
                 : rows == 1 || rows == 16 || rows == 512 || rows == 4096;
}

static enum status add_cells(const struct snapshot_options *o, const struct kernel *kernel,
                             const struct problem *problem, const struct config *config,
                             const struct device_info *info, json_t *cells) {
    int index = kernel_size(kernel, "rows");
    int64_t rows = index < 0 ? 0 : problem->size[index];
    if (!is_timed(rows, o->quick) || problem_bytes(kernel, problem) > 512e6) return STATUS_OK;
    TRY(add_cell(kernel, problem, (struct policy){RESIDENCY_COLD, LAUNCH_STREAM}, config, info,
                 cells));
    if (!rows || rows > 16) return STATUS_OK;
    return add_cell(kernel, problem, (struct policy){RESIDENCY_HOT, LAUNCH_GRAPH}, config, info,
                    cells);
}

/* --- all of it ----------------------------------------------------------------------------------
 */

struct taking {
    const struct snapshot_options *options;
    struct config *code_config[2], *cell_config;
    struct support cpu; /* its code counts what it accesses */
    struct device_info info;
    bool timed;
    json_t *codes, *cells;
};

static bool is_wanted(const struct snapshot_options *o, const struct kernel *kernel) {
    for (int i = 0; i < o->kernels; i++)
        if (o->kernel[i] == kernel) return true;
    return !o->kernels;
}

static enum status open_all(struct taking *t) {
    const struct snapshot_options *o = t->options;
    struct device *cpu;
    struct device_info info;
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
        device_describe_arch(archs[i], &info);
        TRY(config_open(o->configs, &info, registry_find, &t->code_config[i]));
    }
    TRY(device_open_cpu(&cpu));
    cpu->info.arch = CPU_COUNTED;
    t->cpu.device = cpu;
    t->timed = !strncmp(o->device, "cuda:", 5);
    if (!t->timed) return STATUS_OK;
    TRY(device_describe_cuda(atoi(o->device + 5), &t->info));
    return config_open(o->configs, &t->info, registry_find, &t->cell_config);
}

static enum status take_kernel(struct taking *t, const struct kernel *kernel) {
    const struct config *const configs[2] = {t->code_config[0], t->code_config[1]};
    if (!(kernel->dtypes & 1u << DTYPE_F16)) return STATUS_OK;
    for (int i = 0; i < kernel->problem_count; i++) {
        struct problem problem = kernel->problems[i];
        problem.dtype = DTYPE_F16;
        TRY(add_code(kernel, &problem, configs, &t->cpu, t->codes));
        if (t->timed)
            TRY(add_cells(t->options, kernel, &problem, t->cell_config, &t->info, t->cells));
    }
    return STATUS_OK;
}

enum status snapshot_take(const struct snapshot_options *options, json_t **out) {
    struct taking t = {.options = options, .codes = json_array(), .cells = json_array()};
    bool dirty;
    const char *commit = bench_commit(&dirty);
    enum status status = open_all(&t);
    for (int i = 0; i < registry_count() && !status; i++)
        if (is_wanted(options, registry_at(i))) status = take_kernel(&t, registry_at(i));
    if (t.cpu.device) t.cpu.device->ops->close(t.cpu.device);
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) config_close(t.code_config[i]);
    config_close(t.cell_config);
    if (!status)
        *out = json_pack("{s:i, s:s, s:b, s:s, s:O, s:O}", "format", FORMAT, "commit", commit,
                         "dirty", (int)dirty, "device", t.timed ? t.info.slug : "none", "codes",
                         t.codes, "cells", t.cells);
    json_decref(t.codes), json_decref(t.cells);
    return status;
}

enum status snapshot_read(const char *path, json_t **out) {
    json_error_t error;
    json_t *json = *out = json_load_file(path, 0, &error);
    if (!json)
        return fail(STATUS_FORMAT, "%s:%d: %s; a snapshot (fastinfer gate --emit) was expected",
                    path, error.line, error.text);
    json_int_t format = json_integer_value(json_object_get(json, "format"));
    if (format == FORMAT && json_is_array(json_object_get(json, "codes")) &&
        json_is_array(json_object_get(json, "cells")))
        return STATUS_OK;
    json_decref(json);
    *out = NULL;
    return fail(STATUS_FORMAT,
                "%s: a snapshot of format %d with codes and cells was expected, format %d is here",
                path, FORMAT, (int)format);
}

static void read_dims(const json_t *json, const char *key, unsigned out[3]) {
    const json_t *array = json_object_get(json, key);
    for (size_t i = 0; i < 3; i++) out[i] = (unsigned)json_integer_value(json_array_get(array, i));
}

enum status snapshot_variant(const json_t *cell, struct device *device, struct variant *v) {
    const json_t *stages = json_object_get(cell, "stages");
    *v = (struct variant){.blocks_per_sm = -1};
    v->plan.stages = (int)json_array_size(stages);
    if (v->plan.stages < 1 || v->plan.stages > MAX_STAGES)
        return fail(STATUS_FORMAT, "a snapshot's cell has %d stages", v->plan.stages);
    v->plan.scratch_bytes = (size_t)json_integer_value(json_object_get(cell, "scratch"));
    v->plan.scratch_zeroed = json_is_true(json_object_get(cell, "zeroed"));
    TRY(device->ops->module_load(device, json_text(cell, "image"), json_text(cell, "suffix"),
                                 &v->module));
    for (int i = 0; i < v->plan.stages; i++) {
        const json_t *from = json_array_get(stages, (size_t)i);
        struct stage *s = &v->plan.stage[i];
        s->entry = json_text(from, "entry"); /* lives as long as the cell */
        read_dims(from, "grid", s->grid), read_dims(from, "block", s->block);
        s->shared_bytes = (unsigned)json_integer_value(json_object_get(from, "shared"));
        s->cooperative = json_is_true(json_object_get(from, "cooperative"));
        TRY(device->ops->function_get(device, v->module, s->entry, s->shared_bytes,
                                      &v->function[i]));
    }
    return variant_scratch(device, v);
}
