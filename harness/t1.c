/* t1.c - conditions and launch sizes are C functions of ours, which no expression can quote. They
 * are written as data instead: expressions that list what the functions gave. */
#include "harness/t1.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- expressions ------------------------------------------------------------------------------ */

/* "(block, unroll)" or, of a point, "(128, 2)"; of one tunable without brackets. mask: which. */
static void write_tuple(FILE *out, const struct kernel *kernel, unsigned mask,
                        const struct point *point) {
    const char *before = mask & (mask - 1) ? "(" : "";
    for (int t = 0; t < kernel->tunable_count; t++) {
        if (!(mask >> t & 1)) continue;
        if (point)
            fprintf(out, "%s%d", before, point->value[t]);
        else
            fprintf(out, "%s%s", before, kernel->tunables[t].name);
        before = ", ";
    }
    if (mask & (mask - 1)) fputc(')', out);
}

struct keys {
    const struct t1_space *space;
    unsigned mask;
};

static int compare_keys(const void *a, const void *b, void *context) {
    const struct keys *keys = context;
    const struct point *x = &keys->space->points[*(const int *)a];
    const struct point *y = &keys->space->points[*(const int *)b];
    for (int t = 0; t < keys->space->kernel->tunable_count; t++)
        if (keys->mask >> t & 1 && x->value[t] != y->value[t])
            return x->value[t] < y->value[t] ? -1 : 1;
    return 0;
}

/* Do the tunables of a mask determine the value? Leaves `order` sorted by them. */
static bool determines(const struct t1_space *space, unsigned mask, const int64_t *value,
                       int *order) {
    struct keys keys = {space, mask};
    for (int i = 0; i < space->count; i++) order[i] = i;
    qsort_r(order, (size_t)space->count, sizeof *order, compare_keys, &keys);
    for (int i = 1; i < space->count; i++)
        if (!compare_keys(&order[i - 1], &order[i], &keys) &&
            value[order[i - 1]] != value[order[i]])
            return false;
    return true;
}

static bool is_tunable(const struct t1_space *space, int tunable, const int64_t *value) {
    for (int i = 0; i < space->count; i++)
        if (space->points[i].value[tunable] != value[i]) return false;
    return true;
}

/* "{(1, 0): 4096, (2, 0): 2048}[(rows_per_block, blocks_per_sm)]", over as few tunables as going
 * through them once leaves. */
static void write_lookup(FILE *out, const struct t1_space *space, const int64_t *value,
                         int *order) {
    const struct kernel *kernel = space->kernel;
    unsigned mask = (1u << kernel->tunable_count) - 1;
    for (int t = 0; t < kernel->tunable_count; t++)
        if (determines(space, mask & ~(1u << t), value, order)) mask &= ~(1u << t);
    determines(space, mask, value, order);
    struct keys keys = {space, mask};
    fputc('{', out);
    for (int i = 0; i < space->count; i++) {
        if (i && !compare_keys(&order[i - 1], &order[i], &keys)) continue;
        fputs(i ? ", " : "", out);
        write_tuple(out, kernel, mask, &space->points[order[i]]);
        fprintf(out, ": %lld", (long long)value[order[i]]);
    }
    fputs("}[", out);
    write_tuple(out, kernel, mask, NULL);
    fputc(']', out);
}

/* What gives value[i] at point i: a number, a tunable's name, or a table. The caller frees it. */
static char *expression(const struct t1_space *space, const int64_t *value) {
    char *text = NULL;
    size_t bytes;
    int *order = malloc((size_t)space->count * sizeof *order), tunable = 0;
    FILE *out = open_memstream(&text, &bytes);
    while (tunable < space->kernel->tunable_count && !is_tunable(space, tunable, value)) tunable++;
    if (out && order && determines(space, 0, value, order))
        fprintf(out, "%lld", (long long)value[0]);
    else if (out && tunable < space->kernel->tunable_count)
        fputs(space->kernel->tunables[tunable].name, out);
    else if (out && order)
        write_lookup(out, space, value, order);
    if (out) fclose(out);
    free(order);
    return text;
}

/* --- the space -------------------------------------------------------------------------------- */

static json_t *parameters(const struct kernel *kernel) {
    json_t *list = json_array();
    for (int t = 0; t < kernel->tunable_count; t++) {
        const struct tunable *tunable = &kernel->tunables[t];
        char values[MAX_TEXT] = "[";
        for (int i = 0, n = 1; i < tunable->count && n < MAX_TEXT; i++)
            n += snprintf(values + n, (size_t)(MAX_TEXT - n), "%d%s", tunable->values[i],
                          i + 1 < tunable->count ? ", " : "]");
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "Name", tunable->name, "Type",
                                              "int", "Values", values, "Help", tunable->help));
    }
    return list;
}

/* One condition: the whole configuration is one of these. */
static json_t *conditions(const struct t1_space *space) {
    const struct kernel *kernel = space->kernel;
    unsigned all = (1u << kernel->tunable_count) - 1;
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    if (!out) return NULL;
    write_tuple(out, kernel, all, NULL);
    fputs(" in {", out);
    for (int i = 0; i < space->count; i++) {
        fputs(i ? ", " : "", out);
        write_tuple(out, kernel, all, &space->points[i]);
    }
    fputc('}', out);
    fclose(out);
    json_t *names = json_array();
    for (int t = 0; t < kernel->tunable_count; t++)
        json_array_append_new(names, json_string(kernel->tunables[t].name));
    json_t *list = json_pack("[{s:o, s:s}]", "Parameters", names, "Expression", text);
    free(text);
    return list;
}

/* --- the kernel ------------------------------------------------------------------------------- */

static const char *dtype_word(enum dtype dtype) {
    static const char *const words[] = {"half", "custom", "float", "int32", "uint8"};
    return words[dtype];
}

static json_t *pointer_argument(const struct t1_space *space, int index) {
    static const char *const access[] = {"ReadOnly", "WriteOnly", "ReadWrite"};
    const struct argument *a = &space->kernel->arguments[index];
    enum dtype dtype = argument_dtype(a, &space->problem);
    json_t *json = json_pack(
        "{s:s, s:s, s:i, s:s, s:s, s:I, s:s}", "Name", a->name, "Type", dtype_word(dtype),
        "TypeSize", (int)dtype_bytes(dtype), "MemoryType", "Vector", "AccessType", access[a->role],
        "Size", (json_int_t)space->kernel->elements(&space->problem, index), "Shape", a->shape);
    if (dtype == DTYPE_BF16) json_object_set_new(json, "CustomType", json_string("bfloat16"));
    if (a->role != ROLE_OUT)
        json_object_set_new(json, "FillType",
                            json_string(a->fill == FILL_KERNEL ? "Generator" : "Random"));
    return json;
}

static json_t *scalar_argument(const char *name, const char *type, int bytes, json_t *value) {
    return json_pack("{s:s, s:s, s:i, s:s, s:s, s:s, s:o}", "Name", name, "Type", type, "TypeSize",
                     bytes, "MemoryType", "Scalar", "AccessType", "ReadOnly", "FillType",
                     "Constant", "FillValue", value);
}

/* In the entry's order: pointers, scratch, sizes that are not compiled, reals. */
static json_t *arguments(const struct t1_space *space, const int64_t *scratch_bytes) {
    const struct kernel *kernel = space->kernel;
    json_t *list = json_array();
    bool scratch = false;
    for (int i = 0; i < kernel->argument_count; i++)
        json_array_append_new(list, pointer_argument(space, i));
    for (int i = 0; i < space->count; i++) scratch |= scratch_bytes[i] > 0;
    if (scratch) {
        char *size = expression(space, scratch_bytes);
        json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:s, s:s, s:s}", "Name", "scratch",
                                              "Type", "uint8", "TypeSize", 1, "MemoryType",
                                              "Vector", "AccessType", "ReadWrite", "Size", size));
        free(size);
    }
    for (int i = 0; i < kernel->size_count; i++)
        if (!kernel->sizes[i].compiled)
            json_array_append_new(list, scalar_argument(kernel->sizes[i].name, "int64", 8,
                                                        json_integer(space->problem.size[i])));
    for (int i = 0; i < kernel->real_count; i++)
        json_array_append_new(list, scalar_argument(kernel->reals[i].name, "float", 4,
                                                    json_real(space->problem.real[i])));
    return list;
}

/* As compile.c and compile_cuda.c give them, from the tree's root; a point's macros are apart. */
static json_t *compiler_options(const struct t1_space *space) {
    const struct kernel *kernel = space->kernel;
    json_t *list = json_pack("[s, s]", "-std=c++17", "-I.");
    if (space->device.arch)
        json_array_append_new(list, json_sprintf("--gpu-architecture=sm_%d", space->device.arch));
    json_array_append_new(list, json_sprintf("-DDTYPE=%d", (int)space->problem.dtype));
    for (int i = 0; i < kernel->size_count; i++) {
        char name[64];
        if (!kernel->sizes[i].compiled) continue;
        snprintf(name, sizeof name, "%s", kernel->sizes[i].name);
        for (char *c = name; *c; c++) *c = (char)toupper((unsigned char)*c);
        json_array_append_new(list,
                              json_sprintf("-D%s=%lld", name, (long long)space->problem.size[i]));
    }
    return list;
}

enum { GRID, BLOCK = GRID + 3, SHARED_BYTES = BLOCK + 3, SCRATCH_BYTES, COLUMNS };

/* The plan of every point, a column a number; false where the points are not one launch each of
 * the same entry. */
static bool take_plans(const struct t1_space *space, int64_t *column[COLUMNS], const char **entry) {
    for (int i = 0; i < space->count; i++) {
        struct plan plan = space->kernel->plan(&space->problem, &space->points[i], &space->device);
        const struct stage *stage = &plan.stage[0];
        if (!i) *entry = stage->entry;
        if (plan.stages != 1 || stage->cooperative || strcmp(*entry, stage->entry) != 0)
            return false;
        for (int d = 0; d < 3; d++)
            column[GRID + d][i] = stage->grid[d], column[BLOCK + d][i] = stage->block[d];
        column[SHARED_BYTES][i] = stage->shared_bytes;
        column[SCRATCH_BYTES][i] = (int64_t)plan.scratch_bytes;
    }
    return true;
}

static json_t *launch_size(const struct t1_space *space, int64_t *const column[3]) {
    static const char *const axes[] = {"X", "Y", "Z"};
    json_t *json = json_object();
    for (int d = 0; d < 3; d++) {
        char *text = expression(space, column[d]);
        json_object_set_new(json, axes[d], json_string(text ? text : ""));
        free(text);
    }
    return json;
}

static json_t *specification(const struct t1_space *space, const char *entry,
                             int64_t *const column[COLUMNS]) {
    const struct kernel *kernel = space->kernel;
    const char *slash = strrchr(kernel->source, '/');
    json_t *sizes = json_array();
    for (int i = 0; i < kernel->size_count; i++)
        json_array_append_new(sizes, json_integer(space->problem.size[i]));
    json_t *json = json_pack(
        "{s:{s:s}, s:s, s:s, s:s, s:o, s:o, s:s, s:o, s:o, s:o, s:o}", "Device", "Name",
        space->device.name, "Language", "CUDA", "KernelName", entry, "KernelFile",
        kernel->source[0] == '/' && slash ? slash + 1 : kernel->source, "CompilerOptions",
        compiler_options(space), "ProblemSize", sizes, "GlobalSizeType", "CUDA", "GlobalSize",
        launch_size(space, column + GRID), "LocalSize", launch_size(space, column + BLOCK),
        "Arguments", arguments(space, column[SCRATCH_BYTES]), "SimulationInput",
        json_sprintf("%s.t4", space->name));
    int64_t shared = column[SHARED_BYTES][0];
    for (int i = 0; i < space->count; i++)
        if (column[SHARED_BYTES][i] != shared) return json; /* an integer is all there is for it */
    json_object_set_new(json, "SharedMemory", json_integer(shared));
    return json;
}

static json_t *general(const struct t1_space *space) {
    char problem[MAX_TEXT];
    problem_format(space->kernel, &space->problem, problem);
    return json_pack(
        "{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "FormatVersion", 1, "BenchmarkName",
        space->kernel->name, "TimeUnit", "Milliseconds", "OutputFormat", "JSON", "Objective",
        "time", "ObjectiveDirection", "minimize", "Problem", problem, "Policy", space->policy,
        "Description",
        "Which configurations are legal, and how many blocks each launches, are functions in the "
        "kernel's .c file. Here they are tables: Conditions lists the configurations that the T4 "
        "file has results for, and no others; legal ones may be missing, among them those whose "
        "machine code is another's. GlobalSize and LocalSize (blocks of a grid, threads of a "
        "block) hold for every legal configuration on this device. A parameter arrives in the "
        "source as the macro of its name in upper case. The time is the median of a launch's "
        "device time under the policy.");
}

enum status t1_describe(const struct t1_space *space, json_t **out) {
    struct t1_space all = *space; /* a table over few points would find chance dependences */
    struct point *legal;
    const char *entry = "";
    int64_t *column[COLUMNS];
    enum status status = STATUS_OK;
    *out = NULL;
    TRY(space_enumerate(space->kernel, &space->problem, &space->device, &legal, &all.count));
    all.points = legal;
    int64_t *cells = malloc((size_t)(all.count + 1) * COLUMNS * sizeof *cells);
    for (int c = 0; c < COLUMNS && cells; c++) column[c] = cells + (size_t)c * (size_t)all.count;
    if (!cells) {
        status = fail(STATUS_SYSTEM, "%s: out of memory", space->name);
    } else if (all.count && take_plans(&all, column, &entry)) {
        *out =
            json_pack("{s:o, s:{s:o, s:o}, s:o}", "General", general(space), "ConfigurationSpace",
                      "TuningParameters", parameters(space->kernel), "Conditions",
                      conditions(space), "KernelSpecification", specification(&all, entry, column));
        if (!*out) status = fail(STATUS_SYSTEM, "%s: out of memory", space->name);
    }
    free(cells);
    free(legal);
    return status;
}
