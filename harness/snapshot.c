#include "harness/snapshot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/bench.h"
#include "harness/pool.h"
#include "harness/snapshot_codes.h"
#include "kernels/registry.h"
#include "runtime/config.h"
#include "runtime/hash.h"
#include "runtime/json_text.h"

enum { FORMAT = 1, KERNEL_SECONDS = 600 };

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
    const struct kernel *kernel[MAX_KERNELS];
    json_t *codes_of[MAX_KERNELS]; /* by kernel */
    int kernels;
    struct config *code_config[SNAPSHOT_ARCHS], *config;
    struct device_info info;
    bool timed;
    json_t *codes, *cells;
};

static void choose_kernels(struct taking *t) {
    const struct snapshot_options *o = t->options;
    for (int i = 0; i < registry_count() && t->kernels < MAX_KERNELS; i++) {
        const struct kernel *kernel = registry_at(i);
        bool wanted = !o->kernels;
        for (int k = 0; k < o->kernels; k++) wanted |= o->kernel[k] == kernel;
        if (wanted && kernel->dtypes & 1u << DTYPE_F16) t->kernel[t->kernels++] = kernel;
    }
}

static enum status open_configs(struct taking *t) {
    struct device_info info;
    for (int i = 0; i < SNAPSHOT_ARCHS; i++) {
        device_describe_arch(snapshot_archs[i], &info);
        TRY(config_open(t->options->configs, &info, registry_find, &t->code_config[i]));
    }
    if (!t->timed) return STATUS_OK;
    TRY(device_describe_cuda(atoi(t->options->device + 5), &t->info));
    return config_open(t->options->configs, &t->info, registry_find, &t->config);
}

/* What snapshot_codes() asks for. */
static json_t *points_of(const struct taking *t, const struct kernel *kernel) {
    struct policy policy = {RESIDENCY_COLD, LAUNCH_STREAM};
    json_t *points = json_array();
    for (int i = 0; i < kernel->problem_count; i++) {
        struct problem problem = kernel->problems[i];
        problem.dtype = DTYPE_F16;
        json_t *by_arch = json_array();
        for (int a = 0; a < SNAPSHOT_ARCHS; a++) {
            struct device_info info;
            struct point point;
            char text[MAX_TEXT];
            device_describe_arch(snapshot_archs[a], &info);
            config_point(t->code_config[a], kernel, &problem, policy, &info, &point);
            point_format(kernel, &point, text);
            json_array_append_new(by_arch, json_string(text));
        }
        json_array_append_new(points, by_arch);
    }
    return points;
}

static enum status take_reply(struct taking *t, json_t *reply, json_t **codes) {
    enum status status = STATUS_OK;
    if (json_is_true(json_object_get(reply, "ok"))) {
        *codes = json_incref(json_object_get(reply, "codes"));
    } else {
        status = fail_context(
            fail(status_parse(json_text(reply, "status")), "%s", json_text(reply, "message")), "%s",
            t->kernel[codes - t->codes_of]->name);
    }
    json_decref(reply);
    return status;
}

/* A kernel a request to workers that only compile and count. The later ones of the registry are
 * the larger ones: they go first, so that none is left for the end. */
static enum status share_codes(struct taking *t, struct pool *pool) {
    int next = t->kernels - 1, busy = 0;
    enum status status = STATUS_OK;
    while (!status && (next >= 0 || busy)) {
        for (int w = 0; w < pool->count && next >= 0 && !status; w++) {
            if (pool->worker[w].busy) continue;
            json_t *ask = json_pack("{s:s, s:s, s:o}", "op", "codes", "kernel",
                                    t->kernel[next]->name, "points", points_of(t, t->kernel[next]));
            status = pool_send(pool, w, ask, &t->codes_of[next--], KERNEL_SECONDS);
            busy++;
        }
        int worker = -1;
        json_t *reply;
        void *job;
        if (!status) status = pool_wait(pool, 1, &worker, &reply, &job);
        if (status || worker < 0) continue;
        status = take_reply(t, reply, job);
        busy--;
    }
    return status;
}

static enum status take_codes(struct taking *t) {
    enum status status = STATUS_OK;
    struct pool pool = {0};
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (t->kernels > 1) {
        status = pool_add(&pool, "", (int)(cores < t->kernels ? cores : t->kernels));
        if (!status) status = share_codes(t, &pool);
        pool_close(&pool);
    } else if (t->kernels) {
        json_t *points = points_of(t, t->kernel[0]);
        status = snapshot_codes(t->kernel[0], points, &t->codes_of[0]);
        json_decref(points);
    }
    for (int i = 0; i < t->kernels; i++) {
        if (!status) json_array_extend(t->codes, t->codes_of[i]);
        json_decref(t->codes_of[i]);
    }
    return status;
}

static enum status take_cells(struct taking *t) {
    for (int k = 0; k < t->kernels; k++)
        for (int i = 0; i < t->kernel[k]->problem_count; i++) {
            struct problem problem = t->kernel[k]->problems[i];
            problem.dtype = DTYPE_F16;
            TRY(add_cells(t->options, t->kernel[k], &problem, t->config, &t->info, t->cells));
        }
    return STATUS_OK;
}

enum status snapshot_take(const struct snapshot_options *options, json_t **out) {
    struct taking t = {.options = options,
                       .timed = !strncmp(options->device, "cuda:", 5),
                       .codes = json_array(),
                       .cells = json_array()};
    bool dirty;
    const char *commit = bench_commit(&dirty);
    choose_kernels(&t);
    enum status status = open_configs(&t);
    if (!status) status = take_codes(&t);
    if (!status && t.timed) status = take_cells(&t);
    for (int i = 0; i < SNAPSHOT_ARCHS; i++) config_close(t.code_config[i]);
    config_close(t.config);
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
