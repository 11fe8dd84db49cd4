/* local.c - iterated local search: from a point to a faster neighbour, and from a point without one
 * to a changed copy of the best.
 *
 * A descent starts at the best of a few points by chance, takes neighbours in random order and
 * moves as soon as one is faster. Neighbours differ in one value. Those that do not exist cost
 * nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "harness/strategy/strategy.h"

enum { START, KICK, PATIENCE, RESTART, PARAMETERS };
static const struct parameter parameters[PARAMETERS] = {
    [START] = {"start", "points by chance before the first descent", 8, 1, 1000},
    [KICK] = {"kick", "values changed to leave a point without a faster neighbour", 2, 1, 16},
    [PATIENCE] = {"patience", "neighbours that were no faster before it is left early", 24, 1, 1e6},
    [RESTART] = {"restart", "share of descents that begin at a point by chance", 0.1, 0, 1},
};

struct local {
    int *neighbour; /* of `here`, not looked at yet, in random order */
    int neighbours, here, drawn, tried;
    bool kicked; /* the point a kick led to is out: what it takes is where the descent begins */
};

static enum status open_local(struct search *search) {
    struct local *l = search->state = calloc(1, sizeof *l);
    if (!l) return fail(STATUS_SYSTEM, "out of memory for a search");
    l->here = SEARCH_NONE;
    l->neighbour = malloc((size_t)search_neighbour_limit(search->space) * sizeof *l->neighbour);
    return l->neighbour ? STATUS_OK : fail(STATUS_SYSTEM, "out of memory for a search");
}

static void move_to(struct search *search, int point) {
    struct local *l = search->state;
    l->here = point, l->tried = 0;
    l->neighbours = search_neighbours(search, point, false, l->neighbour);
    for (int i = l->neighbours - 1; i > 0; i--) {
        int j = search_below(search, i + 1), swap = l->neighbour[i];
        l->neighbour[i] = l->neighbour[j], l->neighbour[j] = swap;
    }
}

static int kick(struct search *search) {
    struct local *l = search->state;
    const struct search_space *space = search->space;
    int row[MAX_DIMS];
    l->kicked = true, l->here = SEARCH_NONE;
    if (search_uniform(search) < search->parameter[RESTART]) return SEARCH_NONE;
    memcpy(row, search_space_row(space, search->best), (size_t)space->dims * sizeof *row);
    for (int i = 0; i < (int)search->parameter[KICK] && space->dims; i++) {
        int d = search_below(search, space->dims);
        row[d] = search_below(search, space->counts[d]);
    }
    return search_repair(search, row);
}

static int ask(struct search *search) {
    struct local *l = search->state;
    if (l->drawn++ < (int)search->parameter[START] || search->best < 0) return SEARCH_NONE;
    if (l->here < 0 && !l->kicked) move_to(search, search->best);
    while (l->here >= 0 && l->neighbours && l->tried < (int)search->parameter[PATIENCE]) {
        int point = l->neighbour[--l->neighbours];
        if (!search_is_asked(search, point)) return point;
    }
    return kick(search);
}

static void tell(struct search *search, int point) {
    struct local *l = search->state;
    if (l->here < 0) {
        if (l->kicked && search_worked(search, point)) l->kicked = false, move_to(search, point);
    } else if (search->ns[point] < search->ns[l->here]) {
        move_to(search, point);
    } else {
        l->tried++;
    }
}

static void close_local(struct search *search) {
    struct local *l = search->state;
    free(l->neighbour), free(l);
}

const struct strategy strategy_local = {
    .name = "local",
    .summary = "iterated local search: descents from changed copies of the best",
    .parameters = parameters,
    .parameter_count = PARAMETERS,
    .open = open_local,
    .ask = ask,
    .tell = tell,
    .close = close_local};
