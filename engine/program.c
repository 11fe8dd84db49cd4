#include "engine/program.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/registry.h"

struct shelved {
    const struct kernel *kernel;
    struct problem problem;
    struct variant variant;
    bool borrows; /* its code is another's */
    struct shelved *next;
};

struct chosen { /* what a call was answered with, since the last selection */
    const struct kernel *kernel;
    struct problem problem;
    struct policy policy;
    const struct shelved *shelved;
    struct chosen *next;
};

struct opened_config {
    char folder[512]; /* "": found as config_open() does */
    struct config *config;
    struct opened_config *next;
};

struct shelf {
    struct device *device;
    struct opened_config *configs;
    const struct config *config; /* NULL: the built-in points */
    char only[64];               /* the kernel that it is for; "": all */
    bool refused_too;
    struct shelved *first;
    struct chosen *chosen; /* the latest first */
};

static void forget(struct shelf *s) {
    for (struct chosen *c = s->chosen, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    s->chosen = NULL;
}

enum status shelf_open(struct device *device, struct shelf **out) {
    struct shelf *s = calloc(1, sizeof *s);
    if (!s) return fail(STATUS_SYSTEM, "out of memory");
    s->device = device;
    *out = s;
    return STATUS_OK;
}

enum status shelf_select(struct shelf *s, const char *configs, const char *only, bool refused_too) {
    forget(s);
    s->refused_too = refused_too;
    snprintf(s->only, sizeof s->only, "%s", only ? only : "");
    s->config = NULL;
    if (configs && !strcmp(configs, "default")) return STATUS_OK;
    for (const struct opened_config *c = s->configs; c && !s->config; c = c->next)
        if (!strcmp(c->folder, configs ? configs : "")) s->config = c->config;
    if (s->config) return STATUS_OK;
    struct opened_config *opened = calloc(1, sizeof *opened);
    if (!opened) return fail(STATUS_SYSTEM, "out of memory");
    snprintf(opened->folder, sizeof opened->folder, "%s", configs ? configs : "");
    enum status status = config_open(configs, &s->device->info, registry_find, &opened->config);
    if (status) return free(opened), status;
    opened->next = s->configs, s->configs = opened, s->config = opened->config;
    return STATUS_OK;
}

void shelf_close(struct shelf *s) {
    if (!s) return;
    forget(s);
    for (struct shelved *v = s->first, *next; v; v = next) {
        next = v->next;
        if (!v->borrows) variant_close(s->device, &v->variant);
        free(v);
    }
    for (struct opened_config *c = s->configs, *next; c; c = next) {
        next = c->next;
        config_close(c->config);
        free(c);
    }
    free(s);
}

struct device *shelf_device(const struct shelf *s) {
    return s->device;
}
const char *shelf_origin(const struct shelf *s) {
    return s->config ? config_origin(s->config) : "built-in default";
}

const char *shelf_path(const struct shelf *s) { return s->config ? config_path(s->config) : ""; }

bool shelf_find(const struct shelf *s, const struct kernel *kernel, const struct problem *problem,
                struct policy policy, struct config_match *out) {
    bool asked = s->config && (!*s->only || !strcmp(s->only, kernel->name));
    return asked && config_find(s->config, kernel, problem, policy, &s->device->info, out);
}

bool shelf_uses(const struct shelf *s, const struct config_match *match) {
    return s->refused_too || !match->entry->refused;
}

/* Variants of one code differ by their plans alone where there is no scratch: then rows and start
 * may change from call to call and nothing is loaded again. */
static bool borrow(const struct shelf *s, struct shelved *v) {
    const struct kernel *kernel = v->kernel;
    struct plan plan = kernel->plan(&v->problem, &v->variant.point, &s->device->info);
    for (const struct shelved *of = s->first; of && !plan.scratch_bytes; of = of->next) {
        bool same = of->kernel == kernel && of->problem.dtype == v->problem.dtype &&
                    point_equal(kernel, &of->variant.point, &v->variant.point) &&
                    of->variant.plan.stages == plan.stages &&
                    problem_same_compiled(kernel, &of->problem, &v->problem);
        for (int i = 0; i < plan.stages && same; i++)
            same = !strcmp(of->variant.plan.stage[i].entry, plan.stage[i].entry) &&
                   of->variant.plan.stage[i].shared_bytes == plan.stage[i].shared_bytes;
        if (!same) continue;
        v->variant = of->variant, v->variant.plan = plan, v->variant.scratch = NULL;
        return v->borrows = true;
    }
    return false;
}

/* A variant's plan and scratch are for one problem: the whole problem is the key. */
static enum status shelve(struct shelf *s, const struct kernel *kernel,
                          const struct problem *problem, const struct point *point,
                          const struct shelved **out) {
    for (struct shelved *v = s->first; v; v = v->next)
        if (v->kernel == kernel && problem_equal(&v->problem, problem) &&
            point_equal(kernel, &v->variant.point, point))
            return *out = v, STATUS_OK;
    struct shelved *v = calloc(1, sizeof *v);
    if (!v) return fail(STATUS_SYSTEM, "out of memory");
    v->kernel = kernel, v->problem = *problem, v->variant.point = *point;
    enum status status = STATUS_OK;
    if (!kernel->legal(problem, point, &s->device->info, NULL) || !borrow(s, v))
        status = variant_open(s->device, kernel, problem, point, &v->variant);
    if (status) {
        char text[MAX_TEXT];
        problem_format(kernel, problem, text);
        free(v);
        return fail_context(status, "%s, %s", kernel->name, text);
    }
    v->next = s->first;
    *out = s->first = v;
    return STATUS_OK;
}

/* What was chosen before comes first: a prompt asks for the same few things layer after layer. */
static enum status find(struct shelf *s, const struct kernel *kernel, const struct call *call,
                        const struct shelved **out) {
    struct config_match match;
    struct point point;
    for (struct chosen **at = &s->chosen, *c; (c = *at); at = &c->next) {
        if (c->kernel != kernel || !problem_equal(&c->problem, &call->problem) ||
            c->policy.residency != call->policy.residency ||
            c->policy.launch != call->policy.launch)
            continue;
        *at = c->next, c->next = s->chosen, s->chosen = c;
        return *out = c->shelved, STATUS_OK;
    }
    if (shelf_find(s, kernel, &call->problem, call->policy, &match) && shelf_uses(s, &match))
        point = match.entry->point;
    else
        TRY(space_default(kernel, &call->problem, &s->device->info, &point));
    TRY(shelve(s, kernel, &call->problem, &point, out));
    struct chosen *c = malloc(sizeof *c);
    if (!c) return fail(STATUS_SYSTEM, "out of memory");
    *c = (struct chosen){kernel, call->problem, call->policy, *out, s->chosen};
    s->chosen = c;
    return STATUS_OK;
}

enum status shelf_launch(struct shelf *s, const struct call *call) {
    const struct kernel *kernel;
    const struct shelved *v;
    TRY(registry_find(call->kernel, &kernel));
    TRY(find(s, kernel, call, &v));
    return variant_launch(s->device, &v->variant, kernel, &v->problem, call->pointer);
}

enum status problem_of(const char *name, enum dtype dtype, struct problem *out, const char *format,
                       ...) {
    char text[MAX_TEXT];
    const struct kernel *kernel;
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    TRY(registry_find(name, &kernel));
    TRY(problem_parse(kernel, text, out));
    out->dtype = dtype;
    return problem_check(kernel, out, 0);
}

/* --- programs --------------------------------------------------------------------------------- */

struct bound_call {
    const struct shelved *shelved;
    void *pointer[MAX_ARGUMENTS];
};

struct program {
    struct shelf *shelf;
    struct bound_call *call;
    int count, capacity;
    struct graph *graph;
};

enum status program_new(struct shelf *shelf, struct program **out) {
    struct program *p = calloc(1, sizeof *p);
    if (!p) return fail(STATUS_SYSTEM, "out of memory");
    p->shelf = shelf;
    *out = p;
    return STATUS_OK;
}

void program_free(struct program *p) {
    if (!p) return;
    if (p->graph) p->shelf->device->ops->graph_free(p->shelf->device, p->graph);
    free(p->call);
    free(p);
}

enum status program_add(struct program *p, const struct call *call) {
    const struct kernel *kernel;
    TRY(registry_find(call->kernel, &kernel));
    if (p->count == p->capacity) {
        int capacity = p->capacity ? 2 * p->capacity : 64;
        struct bound_call *larger = realloc(p->call, (size_t)capacity * sizeof *larger);
        if (!larger) return fail(STATUS_SYSTEM, "out of memory");
        p->call = larger, p->capacity = capacity;
    }
    struct bound_call *b = &p->call[p->count];
    TRY(find(p->shelf, kernel, call, &b->shelved));
    memcpy(b->pointer, call->pointer, sizeof b->pointer);
    p->count++;
    return STATUS_OK;
}

static enum status run_all(struct program *p) {
    for (int i = 0; i < p->count; i++) {
        const struct shelved *s = p->call[i].shelved;
        TRY(variant_launch(p->shelf->device, &s->variant, s->kernel, &s->problem,
                           p->call[i].pointer));
    }
    return STATUS_OK;
}

enum status program_record(struct program *p) {
    struct device *device = p->shelf->device;
    TRY(device->ops->record_begin(device));
    enum status status = run_all(p), ended = device->ops->record_end(device, &p->graph);
    return status ? status : ended;
}

enum status program_run(struct program *p) {
    struct device *device = p->shelf->device;
    return p->graph ? device->ops->graph_launch(device, p->graph) : run_all(p);
}

enum status program_select(const struct program *p, const struct variant *variant,
                           struct program **out) {
    struct program *alone = NULL;
    TRY(program_new(p->shelf, &alone));
    alone->call = malloc((size_t)p->count * sizeof *alone->call);
    enum status status = alone->call ? STATUS_OK : fail(STATUS_SYSTEM, "out of memory");
    for (int i = 0; i < p->count && !status; i++)
        if (&p->call[i].shelved->variant == variant) alone->call[alone->count++] = p->call[i];
    if (!status) status = program_record(alone);
    if (status)
        program_free(alone);
    else
        *out = alone;
    return status;
}

int program_count(const struct program *p) { return p->count; }

struct program_line program_at(const struct program *p, int index) {
    const struct shelved *s = p->call[index].shelved;
    return (struct program_line){s->kernel, &s->problem, &s->variant};
}
