/* kernel.c - problems, points and policies as text; checks that hold for every kernel. */
#include "runtime/kernel.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int edit_distance(const char *a, const char *b) {
    int row[64], m = (int)strlen(b);
    if (m > 62 || strlen(a) > 62) return 99;
    for (int j = 0; j <= m; j++) row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int change = diagonal + (tolower(a[i - 1]) != tolower(b[j - 1]));
            diagonal = row[j];
            int gap = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            row[j] = change < gap ? change : gap;
        }
    }
    return row[m];
}

const char *nearest_name(const char *word, const char *const *names, int count) {
    const char *best = NULL;
    int least = 99;
    for (int i = 0; i < count; i++) {
        int distance = edit_distance(word, names[i]);
        if (!strncmp(word, names[i], strlen(word)) && distance > 1) distance = 1; /* a prefix */
        if (distance < least) least = distance, best = names[i];
    }
    return least <= 1 + (int)strlen(word) / 2 ? best : NULL;
}

int kernel_tunable(const struct kernel *kernel, const char *name) {
    for (int i = 0; i < kernel->tunable_count; i++)
        if (!strcmp(kernel->tunables[i].name, name)) return i;
    return -1;
}

int kernel_size(const struct kernel *kernel, const char *name) {
    for (int i = 0; i < kernel->size_count; i++)
        if (!strcmp(kernel->sizes[i].name, name)) return i;
    return -1;
}

struct problem problem_default(const struct kernel *kernel) {
    struct problem problem = {.dtype = DTYPE_F16};
    for (int i = 0; i < kernel->size_count; i++) problem.size[i] = kernel->sizes[i].fallback;
    for (int i = 0; i < kernel->real_count; i++) problem.real[i] = kernel->reals[i].fallback;
    return problem;
}

struct point point_default(const struct kernel *kernel) {
    struct point point = {{0}};
    for (int i = 0; i < kernel->tunable_count; i++) point.value[i] = kernel->tunables[i].fallback;
    return point;
}

bool problem_same_compiled(const struct kernel *kernel, const struct problem *a,
                           const struct problem *b) {
    for (int i = 0; i < kernel->size_count; i++)
        if (kernel->sizes[i].compiled && a->size[i] != b->size[i]) return false;
    return true;
}

bool problem_equal(const struct problem *a, const struct problem *b) {
    return a->dtype == b->dtype && !memcmp(a->size, b->size, sizeof a->size) &&
           !memcmp(a->real, b->real, sizeof a->real);
}

bool point_equal(const struct kernel *kernel, const struct point *a, const struct point *b) {
    return !memcmp(a->value, b->value, (size_t)kernel->tunable_count * sizeof a->value[0]);
}

void problem_format(const struct kernel *kernel, const struct problem *problem, char *out) {
    size_t n = 0;
    out[0] = 0;
    for (int i = 0; i < kernel->size_count && n < MAX_TEXT; i++)
        n += (size_t)snprintf(out + n, MAX_TEXT - n, "%s%s=%lld", i ? "," : "",
                              kernel->sizes[i].name, (long long)problem->size[i]);
    for (int i = 0; i < kernel->real_count && n < MAX_TEXT; i++)
        if (problem->real[i] != kernel->reals[i].fallback)
            n += (size_t)snprintf(out + n, MAX_TEXT - n, ",%s=%.9g", kernel->reals[i].name,
                                  problem->real[i]);
}

void point_format(const struct kernel *kernel, const struct point *point, char *out) {
    size_t n = 0;
    out[0] = 0;
    for (int i = 0; i < kernel->tunable_count && n < MAX_TEXT; i++)
        n += (size_t)snprintf(out + n, MAX_TEXT - n, "%s%s=%d", i ? "," : "",
                              kernel->tunables[i].name, point->value[i]);
}

/* Walks "name=value,name=value"; calls `set` for each pair. */
static enum status each_pair(const char *text, void *context,
                             enum status (*set)(void *context, const char *name,
                                                const char *value)) {
    char copy[MAX_TEXT];
    if (strlen(text) >= sizeof copy)
        return fail(STATUS_ARGUMENT, "'%.40s...' is longer than %d characters", text, MAX_TEXT);
    snprintf(copy, sizeof copy, "%s", text);
    char *save = NULL;
    for (char *pair = strtok_r(copy, ", ", &save); pair; pair = strtok_r(NULL, ", ", &save)) {
        char *equals = strchr(pair, '=');
        if (!equals) return fail(STATUS_ARGUMENT, "'%s' in '%s' is not name=value", pair, text);
        *equals = 0;
        TRY(set(context, pair, equals + 1));
    }
    return STATUS_OK;
}

/* "4096", "16k", "1GiB": a whole number with an optional binary suffix. */
static bool parse_integer(const char *text, int64_t *out) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text) return false;
    int shift = 0;
    if (*end) {
        const char *suffixes = "kmgt", *found = strchr(suffixes, tolower(*end));
        if (!found) return false;
        shift = 10 * (int)(found - suffixes + 1);
        if (strcmp(end + 1, "") && strcmp(end + 1, "i") && strcmp(end + 1, "iB")) return false;
    }
    if (value > INT64_MAX >> shift || value < 0) return *out = value, !shift;
    *out = value << shift;
    return true;
}

struct parse {
    const struct kernel *kernel;
    struct problem *problem;
    struct point *point;
};

static enum status unknown_name(const struct kernel *kernel, const char *what, const char *name,
                                const char *const *names, int count) {
    const char *near = nearest_name(name, names, count);
    if (near)
        return fail(STATUS_ARGUMENT, "%s has no %s '%s'; did you mean '%s'?", kernel->name, what,
                    name, near);
    char list[MAX_TEXT] = "";
    for (int i = 0, n = 0; i < count && n < MAX_TEXT - 1; i++)
        n += snprintf(list + n, (size_t)(MAX_TEXT - n), "%s%s", i ? ", " : "", names[i]);
    return fail(STATUS_ARGUMENT, "%s has no %s '%s'; it has: %s", kernel->name, what, name, list);
}

static enum status set_problem(void *context, const char *name, const char *value) {
    struct parse *parse = context;
    const struct kernel *kernel = parse->kernel;
    int size = kernel_size(kernel, name);
    if (size >= 0) {
        if (!parse_integer(value, &parse->problem->size[size]))
            return fail(STATUS_ARGUMENT, "%s=%s: a whole number was expected", name, value);
        return STATUS_OK;
    }
    for (int i = 0; i < kernel->real_count; i++)
        if (!strcmp(kernel->reals[i].name, name)) {
            char *end;
            parse->problem->real[i] = strtod(value, &end);
            if (*end || end == value || !isfinite(parse->problem->real[i]))
                return fail(STATUS_ARGUMENT, "%s=%s: a number was expected", name, value);
            return STATUS_OK;
        }
    const char *names[MAX_SIZES + MAX_REALS];
    int count = 0;
    for (int i = 0; i < kernel->size_count; i++) names[count++] = kernel->sizes[i].name;
    for (int i = 0; i < kernel->real_count; i++) names[count++] = kernel->reals[i].name;
    return unknown_name(kernel, "size", name, names, count);
}

static enum status set_point(void *context, const char *name, const char *value) {
    struct parse *parse = context;
    const struct kernel *kernel = parse->kernel;
    int tunable = kernel_tunable(kernel, name);
    if (tunable < 0) {
        const char *names[MAX_TUNABLES];
        for (int i = 0; i < kernel->tunable_count; i++) names[i] = kernel->tunables[i].name;
        return unknown_name(kernel, "tunable", name, names, kernel->tunable_count);
    }
    int64_t number;
    const struct tunable *t = &kernel->tunables[tunable];
    if (parse_integer(value, &number))
        for (int i = 0; i < t->count; i++)
            if (t->values[i] == number) {
                parse->point->value[tunable] = (int)number;
                return STATUS_OK;
            }
    char list[MAX_TEXT] = "";
    for (int i = 0, n = 0; i < t->count && n < MAX_TEXT - 1; i++)
        n += snprintf(list + n, (size_t)(MAX_TEXT - n), "%s%d", i ? ", " : "", t->values[i]);
    return fail(STATUS_ARGUMENT, "%s: %s=%s is not one of %s", kernel->name, name, value, list);
}

enum status problem_parse(const struct kernel *kernel, const char *text, struct problem *out) {
    *out = problem_default(kernel);
    struct parse parse = {.kernel = kernel, .problem = out};
    TRY(each_pair(text, &parse, set_problem));
    return problem_check(kernel, out, 0);
}

enum status point_parse(const struct kernel *kernel, const char *text, struct point *out) {
    *out = point_default(kernel);
    struct parse parse = {.kernel = kernel, .point = out};
    return each_pair(text, &parse, set_point);
}

double kernel_bound(const struct kernel *kernel, const struct problem *problem,
                    const struct point *point) {
    return kernel->bound.c + (kernel->bound_more ? kernel->bound_more(problem, point) : 0);
}

double problem_bytes(const struct kernel *kernel, const struct problem *problem) {
    double bytes = 0;
    for (int i = 0; i < kernel->argument_count; i++)
        bytes += (double)kernel->elements(problem, i) *
                 (double)dtype_bytes(argument_dtype(&kernel->arguments[i], problem));
    return bytes;
}

enum status problem_check(const struct kernel *kernel, const struct problem *problem,
                          double memory_bytes) {
    for (int i = 0; i < kernel->size_count; i++) {
        const struct size *size = &kernel->sizes[i];
        if (problem->size[i] < size->min || problem->size[i] > size->max)
            return fail(STATUS_ARGUMENT, "%s: %s=%lld is outside %lld to %lld (%s)", kernel->name,
                        size->name, (long long)problem->size[i], (long long)size->min,
                        (long long)size->max, size->help);
    }
    double bytes = problem_bytes(kernel, problem);
    if (bytes > 0x1p50 || (memory_bytes > 0 && bytes > memory_bytes)) {
        char text[MAX_TEXT];
        problem_format(kernel, problem, text);
        return fail(STATUS_MEMORY, "%s %s needs %.1f GiB of device memory; there are %.1f GiB",
                    kernel->name, text, bytes / 0x1p30,
                    (memory_bytes > 0 ? memory_bytes : 0x1p50) / 0x1p30);
    }
    return STATUS_OK;
}

static const char *const residency_names[] = {"cold", "hot", "weights_cold"};
static const char *const launch_names[] = {"stream", "graph"};

const char *policy_text(struct policy policy) {
    static const char *const texts[3][2] = {{"cold,stream", "cold,graph"},
                                            {"hot,stream", "hot,graph"},
                                            {"weights_cold,stream", "weights_cold,graph"}};
    return texts[policy.residency][policy.launch];
}

enum status policy_parse(const char *text, struct policy *out) {
    char copy[64], *save = NULL;
    *out = (struct policy){RESIDENCY_COLD, LAUNCH_STREAM};
    if ((size_t)snprintf(copy, sizeof copy, "%s", text) >= sizeof copy)
        return fail(STATUS_ARGUMENT, "policy '%.40s...' is longer than %zu characters", text,
                    sizeof copy - 1);
    for (char *word = strtok_r(copy, ",+ ", &save); word; word = strtok_r(NULL, ",+ ", &save)) {
        bool found = false;
        for (int i = 0; i < 3; i++)
            if (!strcmp(word, residency_names[i])) out->residency = (enum residency)i, found = true;
        for (int i = 0; i < 2; i++)
            if (!strcmp(word, launch_names[i])) out->launch = (enum launch_kind)i, found = true;
        if (!found)
            return fail(STATUS_ARGUMENT,
                        "policy '%s': '%s' is neither a residency (cold, hot, weights_cold) nor a "
                        "launch (stream, graph)",
                        text, word);
    }
    return STATUS_OK;
}
