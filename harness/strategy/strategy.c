/* strategy.c - what all strategies share: the table of points, which were asked for, chance. */
#include "harness/strategy/strategy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/random.h"

/* --- the space -------------------------------------------------------------------------------- */

static uint64_t hash_of(const int *coordinates, int dims) {
    uint64_t hash = 0;
    for (int d = 0; d < dims; d++) hash = random_mix(hash + RANDOM_STEP + (uint64_t)coordinates[d]);
    return hash;
}

/* The slot that holds these coordinates, or the empty one where they belong. */
static int slot_of(const struct search_space *space, const int *coordinates) {
    uint64_t mask = (uint64_t)space->slots - 1, at = hash_of(coordinates, space->dims) & mask;
    size_t bytes = (size_t)space->dims * sizeof *coordinates;
    while (space->slot[at] != SEARCH_NONE &&
           memcmp(search_space_row(space, space->slot[at]), coordinates, bytes) != 0)
        at = (at + 1) & mask;
    return (int)at;
}

enum status search_space_index(struct search_space *space) {
    if (space->dims < 0 || space->dims > MAX_DIMS)
        return fail(STATUS_ARGUMENT, "a space of %d dimensions; at most %d were expected",
                    space->dims, MAX_DIMS);
    if (space->points > 1 << 28)
        return fail(STATUS_ARGUMENT, "a space of %d points is too large", space->points);
    space->slots = 16;
    while (space->slots < 2 * space->points) space->slots *= 2;
    space->slot = malloc((size_t)space->slots * sizeof *space->slot);
    if (!space->slot) return fail(STATUS_SYSTEM, "out of memory for %d points", space->points);
    for (int i = 0; i < space->slots; i++) space->slot[i] = SEARCH_NONE;
    for (int p = 0; p < space->points; p++) {
        const int *row = search_space_row(space, p);
        for (int d = 0; d < space->dims; d++)
            if (row[d] < 0 || row[d] >= space->counts[d]) {
                search_space_free(space);
                return fail(STATUS_ARGUMENT,
                            "point %d has value %d in dimension %d; 0 to %d was expected", p,
                            row[d], d, space->counts[d] - 1);
            }
        int at = slot_of(space, row);
        if (space->slot[at] != SEARCH_NONE) {
            int first = space->slot[at];
            search_space_free(space);
            return fail(STATUS_ARGUMENT, "points %d and %d of the space are the same", first, p);
        }
        space->slot[at] = p;
    }
    return STATUS_OK;
}

void search_space_free(struct search_space *space) {
    free(space->slot);
    space->slot = NULL, space->slots = 0;
}

int search_space_find(const struct search_space *space, const int *coordinates) {
    return space->slot[slot_of(space, coordinates)];
}

/* --- the strategies --------------------------------------------------------------------------- */

static const struct strategy *const strategies[] = {
    &strategy_auto,    &strategy_exhaustive, &strategy_random,
    &strategy_genetic, &strategy_local,      &strategy_annealing,
};

int strategy_count(void) { return sizeof strategies / sizeof *strategies; }
const struct strategy *strategy_at(int index) { return strategies[index]; }

enum status strategy_find(const char *name, const struct strategy **out) {
    char names[256];
    int at = 0;
    names[0] = 0;
    for (int i = 0; i < strategy_count(); i++) {
        if (!strcmp(strategies[i]->name, name)) {
            *out = strategies[i];
            return STATUS_OK;
        }
        at += snprintf(names + at, sizeof names - (size_t)at, "%s%s", i ? ", " : "",
                       strategies[i]->name);
    }
    return fail(STATUS_ARGUMENT, "there is no strategy '%s'; one of %s was expected", name, names);
}

void strategy_defaults(const struct strategy *strategy, double *parameters) {
    for (int i = 0; i < strategy->parameter_count; i++)
        parameters[i] = strategy->parameters[i].fallback;
}

enum status strategy_set(const struct strategy *strategy, const char *text, double *parameters) {
    size_t length = strcspn(text, "=");
    for (int i = 0; i < strategy->parameter_count && text[length]; i++) {
        const struct parameter *p = &strategy->parameters[i];
        if (strlen(p->name) != length || strncmp(p->name, text, length) != 0) continue;
        char *end;
        double value = strtod(text + length + 1, &end);
        if (*end || end == text + length + 1 || !(value >= p->min && value <= p->max))
            return fail(STATUS_ARGUMENT, "'%s': a number from %g to %g was expected", text, p->min,
                        p->max);
        parameters[i] = value;
        return STATUS_OK;
    }
    return fail(STATUS_ARGUMENT, "'%s': name=value with a parameter of %s was expected", text,
                strategy->name);
}

/* --- a search --------------------------------------------------------------------------------- */

enum status search_open(const struct search_space *space, const struct strategy *strategy,
                        uint64_t seed, const double *parameters, struct search **out) {
    struct search *s = *out = calloc(1, sizeof *s);
    size_t points = (size_t)(space->points > 0 ? space->points : 1);
    if (!s) return fail(STATUS_SYSTEM, "out of memory for a search");
    *s = (struct search){.space = space, .strategy = strategy, .random = seed};
    s->best = SEARCH_NONE, s->left_count = space->points;
    s->left = malloc(points * sizeof *s->left), s->place = malloc(points * sizeof *s->place);
    s->ns = malloc(points * sizeof *s->ns), s->out = malloc(points * sizeof *s->out);
    enum status status = STATUS_OK;
    if (!s->left || !s->place || !s->ns || !s->out)
        status = fail(STATUS_SYSTEM, "out of memory for a search of %d points", space->points);
    for (int p = 0; p < space->points && !status; p++) s->left[p] = s->place[p] = p, s->ns[p] = NAN;
    strategy_defaults(strategy, s->parameter);
    for (int i = 0; parameters && i < strategy->parameter_count; i++)
        s->parameter[i] = parameters[i];
    if (!status && strategy->open) status = strategy->open(s);
    if (!status) return STATUS_OK;
    search_close(s);
    *out = NULL;
    return status;
}

void search_close(struct search *search) {
    if (!search) return;
    if (search->state && search->strategy->close) search->strategy->close(search);
    free(search->left), free(search->place), free(search->ns), free(search->out);
    free(search);
}

bool search_take(struct search *search, int point) {
    if (search_is_asked(search, point)) return false;
    int last = search->left[--search->left_count];
    search->left[search->place[point]] = last, search->left[search->left_count] = point;
    search->place[last] = search->place[point], search->place[point] = search->left_count;
    search->out[search->out_count++] = point;
    return true;
}

int search_ask(struct search *search) {
    if (!search->left_count) return SEARCH_NONE;
    int point = search->strategy->ask(search);
    if (point < 0 || search_is_asked(search, point)) point = search_any(search);
    search_take(search, point);
    return point;
}

void search_tell(struct search *search, int point, double ns) {
    int at = 0;
    while (at < search->out_count && search->out[at] != point) at++;
    if (at == search->out_count) return; /* never asked for, or told already */
    search->out[at] = search->out[--search->out_count];
    if (!(ns > 0)) ns = SEARCH_FAILED;
    search->ns[point] = ns;
    search->told++;
    search->worked += isfinite(ns);
    if (isfinite(ns) && (search->best < 0 || ns < search->ns[search->best])) search->best = point;
    if (search->strategy->tell) search->strategy->tell(search, point);
}

int search_best(const struct search *search) { return search->best; }

/* --- chance ----------------------------------------------------------------------------------- */

uint64_t search_draw(struct search *search) { return random_next(&search->random); }
double search_uniform(struct search *search) {
    return (double)(search_draw(search) >> 11) * 0x1p-53;
}
int search_below(struct search *search, int count) {
    return (int)(search_draw(search) % (uint64_t)count);
}
int search_any(struct search *search) {
    if (!search->left_count) return SEARCH_NONE;
    return search->left[search_below(search, search->left_count)];
}

/* --- near a point ----------------------------------------------------------------------------- */

int search_repair(struct search *search, const int *coordinates) {
    const struct search_space *space = search->space;
    int exact = search_space_find(space, coordinates), best = SEARCH_NONE, ties = 0;
    double least = INFINITY;
    if (exact >= 0 && !search_is_asked(search, exact)) return exact;
    for (int i = 0; i < search->left_count; i++) {
        const int *row = search_space_row(space, search->left[i]);
        double distance = 0;
        for (int d = 0; d < space->dims && distance <= least; d++)
            if (row[d] != coordinates[d])
                distance += 1 + (double)abs(row[d] - coordinates[d]) / space->counts[d];
        if (distance > least) continue;
        ties = distance < least ? 1 : ties + 1;
        if (ties == 1 || !search_below(search, ties)) best = search->left[i];
        least = distance;
    }
    return best;
}

int search_neighbour_limit(const struct search_space *space) {
    int limit = 1;
    for (int d = 0; d < space->dims; d++) limit += space->counts[d];
    return limit;
}

int search_neighbours(const struct search *search, int point, bool adjacent, int *out) {
    const struct search_space *space = search->space;
    int row[MAX_DIMS], count = 0;
    memcpy(row, search_space_row(space, point), (size_t)space->dims * sizeof *row);
    for (int d = 0; d < space->dims; d++) {
        int here = row[d];
        for (int way = -1; way <= 1; way += 2)
            for (row[d] = here + way; row[d] >= 0 && row[d] < space->counts[d]; row[d] += way) {
                int found = search_space_find(space, row);
                if (found < 0) continue;
                out[count++] = found;
                if (adjacent) break;
            }
        row[d] = here;
    }
    return count;
}
