#include "harness/snapshot_codes.h"

#include <stdio.h>
#include <string.h>

#include "harness/snapshot.h"
#include "kernels/registry.h"
#include "runtime/json_text.h"

enum { ROWS = 4, SMALL_BYTES = 256 << 10, COMPILED_BYTES = 4 << 20, SMS = 2 };
const int snapshot_archs[SNAPSHOT_ARCHS] = {75, 90};

struct taking {
    struct support cpu; /* its code counts what it accesses */
    json_t *codes;
};

/* --- small problems -----------------------------------------------------------------------------
 */

/* Sizes that are halved together, so that they keep fitting one another, and the least of them. */
struct halves {
    const char *name[4];
    int64_t least; /* of the first */
};
static const struct halves given[] =
    {
        {{"outputs"}, 4}, {{"vocab"}, 64}, {{"capacity", "context", "start", "window"}, 128},
        {{"batch"}, 2},   {{"layers"}, 2},
},
                           compiled[] = {
                               {{"hidden"}, 256},
                               {{"intermediate"}, 256},
                               {{"heads", "kv_heads"}, 3},
};

static bool halve(const struct kernel *kernel, struct problem *problem, const struct halves *h,
                  bool is_compiled) {
    for (int k = 0; k < 4 && h->name[k]; k++) {
        int i = kernel_size(kernel, h->name[k]);
        if (!k && (i < 0 || kernel->sizes[i].compiled != is_compiled)) return false;
        if (i >= 0 && (problem->size[i] % 2 || (!k && problem->size[i] / 2 < h->least)))
            return false;
    }
    for (int k = 0; k < 4 && h->name[k]; k++) {
        int i = kernel_size(kernel, h->name[k]);
        if (i >= 0) problem->size[i] /= 2;
    }
    return true;
}

/* Halves one after another until the problem is of at most `bytes`. */
static void shrink(const struct kernel *kernel, struct problem *problem, const struct halves *list,
                   int count, bool is_compiled, double bytes) {
    for (bool going = true; going;) {
        going = false;
        for (int i = 0; i < count && problem_bytes(kernel, problem) > bytes; i++)
            going |= halve(kernel, problem, &list[i], is_compiled);
    }
}

struct problem snapshot_small(const struct kernel *kernel, const struct problem *problem) {
    struct problem small = *problem;
    for (int i = 0; i < kernel->size_count; i++) {
        const char *name = kernel->sizes[i].name;
        if (!strcmp(name, "rows")) small.size[i] = ROWS;
        if (strstr(name, "_bytes") && small.size[i] > SMALL_BYTES / 4)
            small.size[i] = SMALL_BYTES / 4;
    }
    shrink(kernel, &small, given, sizeof given / sizeof *given, false, SMALL_BYTES);
    shrink(kernel, &small, compiled, sizeof compiled / sizeof *compiled, true, COMPILED_BYTES);
    return small;
}

/* --- codes --------------------------------------------------------------------------------------
 */

static enum status code_for(const struct kernel *kernel, const struct problem *problem,
                            const char *point_text, int arch, json_t *code) {
    struct point point;
    struct build build;
    char text[MAX_TEXT], key[16];
    struct target target = {DEVICE_CUDA, arch};
    TRY(point_parse(kernel, point_text, &point));
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

static enum status count_launch(struct support *support, const struct kernel *kernel,
                                const struct problem *small, const struct point *point,
                                struct device_counts *out) {
    struct subject *subject;
    struct variant variant = {0};
    TRY(subject_open(support, kernel, small, 2, 1, &subject));
    enum status status = variant_open(support->device, kernel, small, point, &variant);
    if (!status) status = subject_reset(subject, 0, 0xff);
    device_cpu_count(true);
    if (!status) status = subject_launch(subject, &variant, 0, 0);
    device_cpu_count(false);
    *out = device_cpu_counts();
    variant_close(support->device, &variant);
    subject_close(subject);
    return status;
}

/* The counts of a code whose small problem is the same, or NULL. */
static json_t *counted_before(const json_t *codes, const char *problem) {
    size_t i;
    json_t *code;
    json_array_foreach(codes, i, code) {
        json_t *cpu = json_object_get(code, "cpu");
        if (cpu && !strcmp(json_text(cpu, "problem"), problem)) return cpu;
    }
    return NULL;
}

static enum status count_on_cpu(struct taking *t, const struct kernel *kernel,
                                const struct problem *problem, json_t *code) {
    struct point point;
    struct device_counts c;
    struct problem small = snapshot_small(kernel, problem);
    char text[MAX_TEXT];
    problem_format(kernel, &small, text);
    json_t *known = counted_before(t->codes, text);
    if (known) {
        json_object_set(code, "cpu", known);
        return STATUS_OK;
    }
    if (space_default(kernel, &small, &t->cpu.device->info, &point)) return STATUS_OK;
    TRY(count_launch(&t->cpu, kernel, &small, &point, &c));
    json_object_set_new(code, "cpu",
                        json_pack("{s:s, s:I, s:I, s:I, s:I}", "problem", text, "barriers",
                                  (json_int_t)c.barriers, "exchanges", (json_int_t)c.exchanges,
                                  "global_bytes", (json_int_t)c.global_bytes, "global_sectors",
                                  (json_int_t)c.global_sectors));
    return STATUS_OK;
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

static enum status add_code(struct taking *t, const struct kernel *kernel,
                            const struct problem *problem, const json_t *points) {
    char sizes[MAX_TEXT], signature[33];
    code_key(kernel, problem, sizes);
    if (has_code(t->codes, kernel->name, sizes)) return STATUS_OK;
    snapshot_signature(kernel, signature);
    json_t *code = json_pack("{s:s, s:s, s:s, s:s}", "kernel", kernel->name, "dtype",
                             dtype_name(problem->dtype), "sizes", sizes, "signature", signature);
    json_array_append_new(t->codes, code);
    for (int i = 0; i < SNAPSHOT_ARCHS && !nvrtc_available(); i++) {
        const char *text = json_string_value(json_array_get(points, (size_t)i));
        if (text && snapshot_archs[i] >= kernel->least_arch)
            TRY(code_for(kernel, problem, text, snapshot_archs[i], code));
    }
    return count_on_cpu(t, kernel, problem, code);
}

enum status snapshot_codes(const struct kernel *kernel, const json_t *points, json_t **out) {
    struct taking t = {.codes = json_array()};
    enum status status = device_open_cpu(&t.cpu.device);
    if (!status) {
        t.cpu.device->info.arch = CPU_COUNTED;
        t.cpu.device->info.sms = SMS; /* grids, and so counts, depend on it: not on this machine */
    }
    for (int i = 0; i < kernel->problem_count && !status; i++) {
        struct problem problem = kernel->problems[i];
        problem.dtype = DTYPE_F16;
        status = add_code(&t, kernel, &problem, json_array_get(points, (size_t)i));
    }
    if (t.cpu.device) t.cpu.device->ops->close(t.cpu.device);
    if (status)
        json_decref(t.codes);
    else
        *out = t.codes;
    return status;
}
