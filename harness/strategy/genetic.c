/* genetic.c - a population of the fastest points seen; children mix two of them and mutate.
 *
 * Steady state: each child that is told takes the place of the slowest if it is faster. A child
 * that does not exist, or was asked for before, becomes the nearest point that does and was not.
 */
#include <stdlib.h>

#include "harness/strategy/strategy.h"

enum { POPULATION, TOURNAMENT, CROSSOVER, MUTATION, STEP, PARAMETERS };
static const struct parameter parameters[PARAMETERS] = {
    [POPULATION] = {"population", "points kept; as many random ones come first", 12, 2, 1000},
    [TOURNAMENT] = {"tournament", "a parent is the fastest of so many", 2, 1, 100},
    [CROSSOVER] = {"crossover", "share of children with two parents", 0.8, 0, 1},
    [MUTATION] = {"mutation", "values changed a child, on average", 1.0, 0, 10},
    [STEP] = {"step", "share of changed values that go to an adjacent one", 0.5, 0, 1},
};

struct genetic {
    int *member; /* ascending in time */
    int members, limit, started;
};

static enum status open_genetic(struct search *search) {
    struct genetic *g = search->state = calloc(1, sizeof *g);
    if (!g) return fail(STATUS_SYSTEM, "out of memory for a population");
    g->limit = (int)search->parameter[POPULATION];
    g->member = malloc((size_t)g->limit * sizeof *g->member);
    return g->member ? STATUS_OK : fail(STATUS_SYSTEM, "out of memory for a population");
}

static const int *parent(struct search *search) {
    const struct genetic *g = search->state;
    int best = g->members; /* members are sorted: the lowest index wins */
    for (int i = 0; i < (int)search->parameter[TOURNAMENT]; i++) {
        int drawn = search_below(search, g->members);
        if (drawn < best) best = drawn;
    }
    return search_space_row(search->space, g->member[best]);
}

static int changed(struct search *search, int value, int count) {
    if (search_uniform(search) < search->parameter[STEP]) {
        int next = value + (search_below(search, 2) ? 1 : -1);
        return next < 0 ? 1 : next >= count ? count - 2 : next;
    }
    int other = search_below(search, count - 1);
    return other + (other >= value);
}

static int ask(struct search *search) {
    struct genetic *g = search->state;
    const struct search_space *space = search->space;
    int child[MAX_DIMS], free_dims = 0;
    if (g->started < g->limit || g->members < 2) {
        g->started++;
        return SEARCH_NONE;
    }
    const int *first = parent(search), *second = parent(search);
    bool mix = search_uniform(search) < search->parameter[CROSSOVER];
    for (int d = 0; d < space->dims; d++) {
        child[d] = mix && search_below(search, 2) ? second[d] : first[d];
        free_dims += space->counts[d] > 1;
    }
    for (int d = 0; d < space->dims; d++)
        if (space->counts[d] > 1 &&
            search_uniform(search) * free_dims < search->parameter[MUTATION])
            child[d] = changed(search, child[d], space->counts[d]);
    return search_repair(search, child);
}

static void tell(struct search *search, int point) {
    struct genetic *g = search->state;
    if (!search_worked(search, point)) return;
    if (g->members == g->limit) {
        if (search->ns[point] >= search->ns[g->member[g->members - 1]]) return;
        g->members--;
    }
    int at = g->members++;
    for (; at > 0 && search->ns[g->member[at - 1]] > search->ns[point]; at--)
        g->member[at] = g->member[at - 1];
    g->member[at] = point;
}

static void close_genetic(struct search *search) {
    struct genetic *g = search->state;
    free(g->member), free(g);
}

const struct strategy strategy_genetic = {.name = "genetic",
                                          .summary = "children of the fastest points seen",
                                          .parameters = parameters,
                                          .parameter_count = PARAMETERS,
                                          .open = open_genetic,
                                          .ask = ask,
                                          .tell = tell,
                                          .close = close_genetic};
