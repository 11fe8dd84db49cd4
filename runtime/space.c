/* space.c - the legal points of a problem, and a sample of them that covers every value. */
#include "runtime/device.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/random.h"

enum status space_enumerate(const struct kernel *kernel, const struct problem *problem,
                            const struct device_info *device, struct point **out, int *count) {
    int position[MAX_TUNABLES] = {0}, n = kernel->tunable_count, capacity = 1024;
    *count = 0;
    *out = malloc((size_t)capacity * sizeof **out);
    if (!*out) return fail(STATUS_SYSTEM, "out of memory while listing %s's points", kernel->name);
    for (bool more = true; more;) {
        struct point point = {{0}};
        for (int i = 0; i < n; i++) point.value[i] = kernel->tunables[i].values[position[i]];
        if (kernel->legal(problem, &point, device, NULL)) {
            if (*count == capacity) {
                capacity *= 2;
                struct point *larger = realloc(*out, (size_t)capacity * sizeof **out);
                if (!larger) {
                    free(*out);
                    *out = NULL;
                    return fail(STATUS_SYSTEM, "out of memory while listing %s's points",
                                kernel->name);
                }
                *out = larger;
            }
            (*out)[(*count)++] = point;
        }
        int i = n - 1;
        while (i >= 0 && ++position[i] == kernel->tunables[i].count) position[i--] = 0;
        more = i >= 0;
    }
    return STATUS_OK;
}

static int value_index(const struct tunable *tunable, int value) {
    for (int i = 0; i < tunable->count; i++)
        if (tunable->values[i] == value) return i;
    return 0;
}

/* How many values of all tunables occur in a space. */
static int count_values(const struct kernel *kernel, const struct point *space, int count) {
    int values = 0;
    for (int t = 0; t < kernel->tunable_count; t++)
        for (int v = 0; v < kernel->tunables[t].count; v++)
            for (int i = 0; i < count; i++)
                if (space[i].value[t] == kernel->tunables[t].values[v]) {
                    values++;
                    break;
                }
    return values;
}

enum status space_sample(const struct kernel *kernel, const struct point *space, int space_count,
                         int count, uint64_t seed, struct point **out, int *out_count) {
    enum { MAX_VALUES = 32, LOOK_AHEAD = 96 };
    int used[MAX_TUNABLES][MAX_VALUES] = {{0}};
    if (count > space_count) count = space_count;
    struct point *pool = malloc((size_t)(space_count ? space_count : 1) * sizeof *pool);
    if (!pool) return fail(STATUS_SYSTEM, "out of memory while sampling %s", kernel->name);
    memcpy(pool, space, (size_t)space_count * sizeof *pool);
    for (int i = space_count - 1; i > 0; i--) {
        int j = (int)(random_next(&seed) % (uint64_t)(i + 1));
        struct point swap = pool[i];
        pool[i] = pool[j], pool[j] = swap;
    }
    struct point first = point_default(kernel);
    int unseen = count_values(kernel, pool, space_count);
    for (int k = 0; k < count; k++) {
        int best = k, end = unseen ? space_count : k + LOOK_AHEAD; /* a rare value may be far off */
        double most = -1;
        for (int j = k; j < space_count && j < end; j++) {
            double score = 0;
            for (int t = 0; t < kernel->tunable_count; t++)
                score += 1.0 / (1 + used[t][value_index(&kernel->tunables[t], pool[j].value[t])]);
            if (k == 0) score = point_equal(kernel, &pool[j], &first);
            if (score > most) most = score, best = j;
        }
        struct point swap = pool[k];
        pool[k] = pool[best], pool[best] = swap;
        for (int t = 0; t < kernel->tunable_count; t++)
            unseen -= !used[t][value_index(&kernel->tunables[t], pool[k].value[t])]++;
    }
    *out = pool, *out_count = count;
    return STATUS_OK;
}

enum status space_default(const struct kernel *kernel, const struct problem *problem,
                          const struct device_info *device, struct point *out) {
    struct point *space;
    int count, most = -1;
    const char *why = "no point is legal";
    *out = point_default(kernel);
    if (kernel->legal(problem, out, device, &why)) return STATUS_OK;
    struct point wanted = *out;
    TRY(space_enumerate(kernel, problem, device, &space, &count));
    for (int i = 0; i < count; i++) {
        int shared = 0;
        for (int t = 0; t < kernel->tunable_count; t++)
            shared += space[i].value[t] == wanted.value[t];
        if (shared > most) most = shared, *out = space[i];
    }
    free(space);
    if (count) return STATUS_OK;
    char text[MAX_TEXT];
    problem_format(kernel, problem, text);
    return fail(STATUS_ARGUMENT, "%s has no legal point for %s on %s (%s)", kernel->name, text,
                device->name, why);
}
