/* bench_plan.c - which points of which kernels on which problems under which policies. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/bench_work.h"
#include "harness/verify.h"
#include "kernels/registry.h"
#include "runtime/config.h"

enum {
    HOT_ROWS = 16, /* up to this many rows a kernel is about latency, and its data is in L2 */
    CPU_ROWS = 64, /* the emulation is slow */
    CPU_BYTES = 64000000
};

struct builder {
    const struct bench_options *options;
    const struct device_info *device;
    const struct config *config;
    struct plan_of_bench *plan;
    int cell_capacity;
};

static bool same_binaries(const struct group *g, const struct kernel *kernel,
                          const struct problem *problem) {
    return g->kernel == kernel && g->problem.dtype == problem->dtype &&
           problem_same_compiled(kernel, &g->problem, problem);
}

static enum status add_point(struct group *g, const struct point *point) {
    for (int i = 0; i < g->points; i++)
        if (point_equal(g->kernel, &g->point[i], point)) return STATUS_OK;
    if (g->points == g->capacity) {
        int capacity = g->capacity ? 2 * g->capacity : 64;
        struct point *larger = realloc(g->point, (size_t)capacity * sizeof *larger);
        if (!larger) return fail(STATUS_SYSTEM, "out of memory");
        g->point = larger, g->capacity = capacity;
    }
    g->point[g->points++] = *point;
    return STATUS_OK;
}

static bool is_named(const struct bench_options *options, const struct kernel *kernel) {
    for (int i = 0; i < options->kernels; i++)
        if (options->kernel[i] == kernel) return true;
    return false;
}

static int default_samples(const struct builder *b, const struct kernel *kernel) {
    bool cpu = b->device->kind == DEVICE_CPU, stream = !strcmp(kernel->name, "stream");
    /* as a ceiling only, stream need not be exhausted on every problem's bytes */
    if (b->options->tune || (b->options->exhaust && (!stream || is_named(b->options, kernel))))
        return 1 << 20;
    int wanted = b->options->samples, usual = cpu ? (stream ? 6 : 20) : stream ? 16 : 14;
    if (wanted && stream && !is_named(b->options, kernel)) return wanted < 64 ? wanted : 64;
    if (wanted) return wanted;
    return b->options->quick ? (stream ? 2 : 4) : usual;
}

/* The sample of a group: spread, seeded, the same for all of its problems. */
static enum status fill_group(struct builder *b, struct group *g) {
    struct point *space, *sample;
    int count, sampled;
    TRY(space_enumerate(g->kernel, &g->problem, b->device, &space, &count));
    enum status status = space_sample(g->kernel, space, count, default_samples(b, g->kernel),
                                      b->options->seed, &sample, &sampled);
    free(space);
    if (status) return status;
    if (b->options->point && is_named(b->options, g->kernel)) {
        struct point point;
        status = point_parse(g->kernel, b->options->point, &point);
        if (!status) status = add_point(g, &point);
    } else {
        for (int i = 0; i < sampled && !status; i++) status = add_point(g, &sample[i]);
    }
    free(sample);
    return status;
}

static enum status find_group(struct builder *b, const struct kernel *kernel,
                              const struct problem *problem, struct group **out) {
    struct plan_of_bench *plan = b->plan;
    for (int i = 0; i < plan->groups; i++)
        if (same_binaries(*out = plan->group[i], kernel, problem)) return STATUS_OK;
    if (plan->groups == MAX_GROUPS)
        return fail(STATUS_ARGUMENT, "more than %d different compiled sizes in one bench",
                    MAX_GROUPS);
    struct group *g = *out = plan->group[plan->groups++] = calloc(1, sizeof *g);
    *g = (struct group){.kernel = kernel, .problem = *problem};
    return fill_group(b, g);
}

static enum status add_cell(struct builder *b, const struct kernel *kernel,
                            const struct problem *problem, struct policy policy, bool is_ceiling,
                            bool is_cover) {
    struct plan_of_bench *plan = b->plan;
    struct group *group;
    TRY(problem_check(kernel, problem, (double)b->device->memory_bytes));
    for (int i = 0; i < plan->cells; i++) {
        struct cell *c = &plan->cell[i];
        if (c->group->kernel == kernel && problem_equal(&c->problem, problem) &&
            !memcmp(&c->policy, &policy, sizeof policy)) {
            c->is_ceiling &= is_ceiling, c->is_cover &= is_cover;
            return STATUS_OK;
        }
    }
    TRY(find_group(b, kernel, problem, &group));
    if (plan->cells == b->cell_capacity) {
        b->cell_capacity = b->cell_capacity ? 2 * b->cell_capacity : 256;
        plan->cell = realloc(plan->cell, (size_t)b->cell_capacity * sizeof *plan->cell);
    }
    plan->cell[plan->cells++] = (struct cell){.group = group,
                                              .problem = *problem,
                                              .policy = policy,
                                              .is_ceiling = is_ceiling,
                                              .is_cover = is_cover,
                                              .owner = -1};
    return STATUS_OK;
}

static int64_t rows_of(const struct kernel *kernel, const struct problem *problem) {
    int rows = kernel_size(kernel, "rows");
    return rows < 0 ? 0 : problem->size[rows];
}

/* --- problems ------------------------------------------------------------------------------------
 */

struct chosen {
    const struct kernel *kernel;
    struct problem problem;
    bool is_cover;
};
struct choice {
    struct chosen *item;
    int count, capacity;
};

static void choose(struct choice *list, const struct kernel *kernel, const struct problem *problem,
                   bool is_cover) {
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 256;
        list->item = realloc(list->item, (size_t)list->capacity * sizeof *list->item);
    }
    list->item[list->count++] = (struct chosen){kernel, *problem, is_cover};
}

/* The CPU device's share of the standard problems: one width, few rows; the emulation is slow. */
static bool is_representative(const struct kernel *kernel, const struct problem *problem,
                              bool quick) {
    int64_t rows = rows_of(kernel, problem);
    if (!problem_same_compiled(kernel, problem, &kernel->problems[0])) return false;
    if (!rows && strcmp(kernel->name, "stream") != 0) return problem_bytes(kernel, problem) < 4e6;
    if (!strcmp(kernel->name, "stream"))
        return problem->size[0] + problem->size[1] <= (quick ? 64 << 10 : 1 << 20);
    return quick ? rows == 4 : rows == 1 || rows == 16 || rows == 64;
}

static void choose_standard(struct builder *b, const struct kernel *kernel, struct choice *list) {
    bool cpu = b->device->kind == DEVICE_CPU, quick = b->options->quick;
    int taken = 0;
    for (int i = 0; i < kernel->problem_count; i++) {
        struct problem problem = kernel->problems[i];
        problem.dtype = b->options->dtype;
        int64_t rows = rows_of(kernel, &problem);
        if (cpu && !is_representative(kernel, &problem, quick)) continue;
        if (!cpu && quick && rows != 4096 && rows != 1 && rows) continue;
        if (b->options->exhaust && !cpu) { /* four a kernel: two widths at the large ends */
            if (taken == 4 || (rows && rows != 1 && rows != 4096)) continue;
        }
        taken++;
        choose(list, kernel, &problem, false);
    }
    if (!taken && kernel->problem_count) { /* none is representative: the first, small here */
        struct problem problem =
            cpu ? verify_odd_problem(kernel, &kernel->problems[0]) : kernel->problems[0];
        problem.dtype = b->options->dtype;
        /* a whole model's step stays large; the emulation would take minutes a point */
        bool large = cpu && problem_bytes(kernel, &problem) > CPU_BYTES;
        if (!large || is_named(b->options, kernel)) choose(list, kernel, &problem, false);
    }
}

/* Shapes between the standard ones: on these a tuner begins with what is fast beside them, and has
 * few evaluations. They make sense where two problems differ in nothing but how long they are. */
static bool is_alike(const struct kernel *kernel, const struct problem *one,
                     const struct problem *other) {
    static const char *const kind[] = {"start", "batch", "window"};
    for (size_t k = 0; k < sizeof kind / sizeof *kind; k++) {
        int i = kernel_size(kernel, kind[k]);
        if (i >= 0 && one->size[i] != other->size[i]) return false;
    }
    return problem_same_compiled(kernel, one, other);
}

/* Where a problem's bytes come near the L2 cache's, what is fastest changes within a factor of
 * two. */
static bool is_near_cache(const struct builder *b, const struct kernel *kernel,
                          const struct problem *problem) {
    double share = problem_bytes(kernel, problem) / (double)b->device->l2_bytes;
    return b->device->kind != DEVICE_CPU && share > 0.4 && share < 1.6;
}

static struct problem stretched(const struct kernel *kernel, const struct problem *problem,
                                int axis, int64_t length) {
    struct problem out = *problem;
    int capacity = kernel_size(kernel, "capacity");
    out.size[axis] = length;
    if (capacity >= 0 && problem->size[capacity] == problem->size[axis])
        out.size[capacity] = length;
    return out;
}

/* Below problem `index`, down to the next shorter one of its kind. */
static void choose_below(const struct builder *b, const struct kernel *kernel, int axis, int index,
                         struct choice *list) {
    enum { ANYWHERE = 6 }; /* the first lengths; the others only near the cache */
    static const int64_t lengths[] = {32,  128, 256, 1024, 2048, 8192, 48,   96,
                                      192, 384, 768, 1536, 3072, 6144, 12288};
    struct problem longest = kernel->problems[index];
    int64_t most = longest.size[axis], next = 0;
    longest.dtype = b->options->dtype;
    for (int k = 0; k < kernel->problem_count; k++) {
        int64_t length = kernel->problems[k].size[axis];
        if (is_alike(kernel, &kernel->problems[k], &longest) && length < most && length > next)
            next = length;
    }
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        struct problem problem = stretched(kernel, &longest, axis, lengths[k]);
        if (lengths[k] <= next || lengths[k] >= most) continue;
        if (k < ANYWHERE || is_near_cache(b, kernel, &problem))
            choose(list, kernel, &problem, true);
    }
}

static void choose_covers(struct builder *b, const struct kernel *kernel, struct choice *list) {
    int axis = kernel_size(kernel, "rows");
    bool cpu = b->device->kind == DEVICE_CPU;
    if (axis < 0) axis = kernel_size(kernel, "context");
    for (int i = 0; i < kernel->problem_count && axis >= 0; i++) {
        const struct problem *problem = &kernel->problems[i];
        if (cpu && (problem->size[axis] > CPU_ROWS || !is_representative(kernel, problem, false)))
            continue;
        choose_below(b, kernel, axis, i, list);
    }
}

/* The problems of a model: its widths and heads from config.json, over the standard rows. */
static enum status choose_model(struct builder *b, const struct kernel *kernel,
                                struct choice *list) {
    char path[1024];
    json_error_t error;
    snprintf(path, sizeof path, "%s/config.json", b->options->model);
    json_t *json = json_load_file(path, 0, &error);
    if (!json && error.line < 0)
        return fail(STATUS_FORMAT, "%s; a HuggingFace model's folder was expected", error.text);
    if (!json)
        return fail(STATUS_FORMAT, "%s:%d: %s; a HuggingFace config.json was expected", path,
                    error.line, error.text);
    int64_t hidden = json_integer_value(json_object_get(json, "hidden_size"));
    int64_t heads = json_integer_value(json_object_get(json, "num_attention_heads"));
    int64_t kv = json_integer_value(json_object_get(json, "num_key_value_heads"));
    int64_t head_dim = json_integer_value(json_object_get(json, "head_dim"));
    int64_t width = json_integer_value(json_object_get(json, "intermediate_size"));
    if (!kv) kv = heads;
    if (!head_dim && heads) head_dim = hidden / heads;
    double eps = json_number_value(json_object_get(json, "rms_norm_eps"));
    double theta = json_number_value(json_object_get(json, "rope_theta"));
    json_t *scaling = json_object_get(json, "rope_scaling");
    if (!theta)
        theta = json_number_value(
            json_object_get(json_object_get(json, "rope_parameters"), "rope_theta"));
    double factor = json_number_value(json_object_get(scaling, "factor"));
    json_decref(json);
    if (!hidden || !heads || !width)
        return fail(STATUS_FORMAT,
                    "%s: hidden_size, num_attention_heads and intermediate_size were expected",
                    path);
    const struct {
        const char *name;
        int64_t value;
    } sizes[] = {{"hidden", hidden}, {"width", width},       {"q_heads", heads},
                 {"kv_heads", kv},   {"head_dim", head_dim}, {"heads", heads}};
    const struct {
        const char *name;
        double value;
    } reals[] = {{"eps", eps}, {"theta", theta}, {"factor", factor ? factor : 1}};
    bool concerned = false; /* has the kernel a size that models differ in? */
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        concerned |= kernel_size(kernel, sizes[k].name) >= 0;
    if (!concerned) {
        choose_standard(b, kernel, list);
        return STATUS_OK;
    }
    for (int i = 0; i < kernel->problem_count; i++) {
        struct problem problem = kernel->problems[i];
        problem.dtype = b->options->dtype;
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            int index = kernel_size(kernel, sizes[k].name);
            if (index >= 0) problem.size[index] = sizes[k].value;
        }
        for (int r = 0; r < kernel->real_count; r++)
            for (size_t k = 0; k < sizeof reals / sizeof *reals; k++)
                if (!strcmp(kernel->reals[r].name, reals[k].name) && reals[k].value > 0)
                    problem.real[r] = reals[k].value;
        if (b->device->kind == DEVICE_CPU && rows_of(kernel, &problem) > CPU_ROWS) continue;
        choose(list, kernel, &problem, false);
    }
    return STATUS_OK;
}

static enum status choose_problems(struct builder *b, const struct kernel *kernel,
                                   struct choice *list) {
    const struct bench_options *o = b->options;
    if (!(kernel->dtypes >> o->dtype & 1))
        return o->kernels
                   ? fail(STATUS_ARGUMENT, "%s has no %s form", kernel->name, dtype_name(o->dtype))
                   : STATUS_OK;
    /* a tuner needs stream as others' ceiling only, unless it is named */
    if (o->tune && !o->kernels && !strcmp(kernel->name, "stream")) return STATUS_OK;
    if (o->model) return choose_model(b, kernel, list);
    for (int i = 0; i < o->problems; i++) {
        struct problem problem;
        TRY(problem_parse(kernel, o->problem[i], &problem));
        problem.dtype = o->dtype;
        choose(list, kernel, &problem, false);
    }
    if (!o->problems) choose_standard(b, kernel, list);
    if (!o->problems && o->tune && !o->quick) choose_covers(b, kernel, list);
    return STATUS_OK;
}

/* --- cells
 * ---------------------------------------------------------------------------------------- */

static int policies_for(const struct builder *b, const struct chosen *item,
                        struct policy policies[MAX_POLICIES]) {
    const struct bench_options *o = b->options;
    for (int i = 0; i < o->policies; i++) policies[i] = o->policy[i];
    if (o->policies) return o->policies;
    int count = 0;
    int64_t rows = rows_of(item->kernel, &item->problem);
    policies[count++] = (struct policy){RESIDENCY_COLD, LAUNCH_STREAM};
    if (b->device->kind == DEVICE_CUDA && rows && rows <= HOT_ROWS && !o->exhaust)
        policies[count++] = (struct policy){RESIDENCY_HOT, LAUNCH_GRAPH};
    return count;
}

/* Adds the problem's default and configured points to its group. */
static enum status fill_cell(struct builder *b, struct cell *c) {
    struct group *g = c->group;
    TRY(space_default(g->kernel, &c->problem, b->device, &c->fallback));
    if (!b->options->point || !is_named(b->options, g->kernel)) {
        c->has_configured =
            config_point(b->config, g->kernel, &c->problem, c->policy, b->device, &c->configured);
        TRY(add_point(g, &c->fallback));
        if (c->has_configured) TRY(add_point(g, &c->configured));
    }
    return STATUS_OK;
}

/* All points of the group that are legal for this problem: the sample, and the defaults and
 * configured points of every problem of the group, which have a good chance here, too. A tuner
 * queues what it wants itself. */
static enum status order_points(struct builder *b, struct cell *c) {
    struct group *g = c->group;
    const char *why = NULL;
    bool any = false;
    for (int i = 0; i < g->points; i++) {
        if (!g->kernel->legal(&c->problem, &g->point[i], b->device, &why)) continue;
        any = true;
        if (!b->options->tune) TRY(cell_queue(c, i));
    }
    if (any) return STATUS_OK;
    char text[MAX_TEXT];
    problem_format(g->kernel, &c->problem, text);
    return fail(STATUS_ARGUMENT, "%s: no point to measure for %s: %s", g->kernel->name, text,
                why ? why : "none is legal");
}

static void link_ceilings(struct plan_of_bench *plan) {
    for (int i = 0; i < plan->cells; i++) {
        struct cell *c = &plan->cell[i];
        if (!strcmp(c->group->kernel->name, "stream")) continue;
        struct problem stream = session_stream_problem(c->group->kernel, &c->problem);
        for (int k = 0; k < plan->cells && !c->ceiling; k++)
            if (!strcmp(plan->cell[k].group->kernel->name, "stream") &&
                problem_equal(&plan->cell[k].problem, &stream) &&
                !memcmp(&plan->cell[k].policy, &c->policy, sizeof c->policy))
                c->ceiling = &plan->cell[k];
    }
}

/* A tuner may run out of time: what a decode step launches comes first, of all kernels. */
static bool is_later(const struct builder *b, const struct chosen *item) {
    return b->options->tune && rows_of(item->kernel, &item->problem) > HOT_ROWS;
}

/* Ceilings come before what they are the ceiling of: a contest needs the best stream of its bytes.
 */
static enum status add_item(struct builder *b, const struct chosen *item,
                            const struct kernel *stream, bool ceilings) {
    struct policy policies[MAX_POLICIES];
    int count = policies_for(b, item, policies);
    bool has_ceiling =
        item->kernel != stream && !item->is_cover && (b->options->baselines || b->options->tune);
    for (int k = 0; k < count; k++) {
        if (!ceilings) {
            TRY(add_cell(b, item->kernel, &item->problem, policies[k], false, item->is_cover));
        } else if (has_ceiling) {
            struct problem bytes = session_stream_problem(item->kernel, &item->problem);
            TRY(add_cell(b, stream, &bytes, policies[k], true, false));
        }
    }
    return STATUS_OK;
}

static enum status add_cells(struct builder *b, const struct choice *list) {
    const struct kernel *stream = NULL;
    enum { PASSES = 2 };
    TRY(registry_find("stream", &stream));
    for (int i = 0; i < list->count; i++)
        TRY(problem_check(list->item[i].kernel, &list->item[i].problem,
                          (double)b->device->memory_bytes));
    for (int k = 0; k < 2 * PASSES; k++) {
        bool later = k / PASSES, ceilings = k % PASSES == 0;
        for (int i = 0; i < list->count; i++)
            if (is_later(b, &list->item[i]) == later)
                TRY(add_item(b, &list->item[i], stream, ceilings));
    }
    return STATUS_OK;
}

/* Cells and their points stay where they are from here on. */
static enum status finish_plan(struct builder *b) {
    struct plan_of_bench *plan = b->plan;
    for (int i = 0; i < plan->cells; i++) TRY(fill_cell(b, &plan->cell[i]));
    for (int i = 0; i < plan->groups; i++) {
        struct group *g = plan->group[i];
        g->build = calloc((size_t)g->points + 1, sizeof *g->build);
        g->deadly = calloc((size_t)g->points + 1, sizeof *g->deadly);
        g->wanted = calloc((size_t)g->points + 1, sizeof *g->wanted);
        g->is_wanted = calloc((size_t)g->points + 1, sizeof *g->is_wanted);
        g->compiled = calloc((size_t)g->points + 1, sizeof *g->compiled);
        if (!g->build || !g->deadly || !g->wanted || !g->is_wanted || !g->compiled)
            return fail(STATUS_SYSTEM, "out of memory");
    }
    for (int i = 0; i < plan->cells; i++) TRY(order_points(b, &plan->cell[i]));
    link_ceilings(plan);
    return STATUS_OK;
}

enum status bench_plan(const struct bench_options *options, const struct device_info *device,
                       const struct config *config, struct plan_of_bench *out) {
    struct builder b = {options, device, config, out, 0};
    struct choice list = {0};
    enum status status = STATUS_OK;
    *out = (struct plan_of_bench){0};
    int count = options->kernels ? options->kernels : registry_count();
    for (int i = 0; i < count && !status; i++) {
        const struct kernel *kernel = options->kernels ? options->kernel[i] : registry_at(i);
        if (kernel_runs_on(kernel, device))
            status = choose_problems(&b, kernel, &list);
        else if (options->kernels)
            status = fail(STATUS_ARGUMENT, "%s runs on sm_%d and newer; %s is sm_%d", kernel->name,
                          kernel->least_arch, device->name, device->arch);
    }
    if (!status) status = add_cells(&b, &list);
    if (!status) status = finish_plan(&b);
    free(list.item);
    return status;
}

void bench_plan_free(struct plan_of_bench *plan) {
    for (int i = 0; i < plan->cells; i++) free(plan->cell[i].order), free(plan->cell[i].ns);
    for (int i = 0; i < plan->groups; i++) {
        free(plan->group[i]->point);
        free(plan->group[i]->build), free(plan->group[i]->deadly);
        free(plan->group[i]->wanted), free(plan->group[i]->is_wanted);
        free(plan->group[i]->compiled);
        free(plan->group[i]);
    }
    free(plan->cell);
    *plan = (struct plan_of_bench){0};
}
