/* annealing.c - simulated annealing: a walk over neighbours that also takes slower ones, ever less.
 *
 * A neighbour that takes r times as long is moved to with probability exp(-ln(r) / temperature).
 * The temperature falls with every point told; when it is low the walk starts again at the best.
 */
#include <stdlib.h>

#include "harness/strategy/strategy.h"

enum { START, HOT, COLD, COOLING, ADJACENT, PARAMETERS };
static const struct parameter parameters[PARAMETERS] = {
    [START] = {"start", "points by chance before the walk", 8, 1, 1000},
    [HOT] = {"hot", "the first temperature, in ln(time)", 0.3, 1e-6, 100},
    [COLD] = {"cold", "the temperature at which the walk starts again", 0.01, 1e-9, 100},
    [COOLING] = {"cooling", "the temperature's factor a point", 0.95, 0.1, 0.99999},
    [ADJACENT] = {"adjacent", "share of steps to an adjacent value", 0.5, 0, 1},
};

struct annealing {
    int *neighbour;
    int here, drawn;
    double temperature;
};

static enum status open_annealing(struct search *search) {
    struct annealing *a = search->state = calloc(1, sizeof *a);
    if (!a) return fail(STATUS_SYSTEM, "out of memory for a search");
    a->here = SEARCH_NONE, a->temperature = search->parameter[HOT];
    a->neighbour = malloc((size_t)search_neighbour_limit(search->space) * sizeof *a->neighbour);
    return a->neighbour ? STATUS_OK : fail(STATUS_SYSTEM, "out of memory for a search");
}

/* A neighbour of `here` not asked for; SEARCH_NONE when there is none. */
static int step(struct search *search, bool adjacent) {
    struct annealing *a = search->state;
    int count = search_neighbours(search, a->here, adjacent, a->neighbour), fresh = 0;
    for (int i = 0; i < count; i++)
        if (!search_is_asked(search, a->neighbour[i])) a->neighbour[fresh++] = a->neighbour[i];
    return fresh ? a->neighbour[search_below(search, fresh)] : SEARCH_NONE;
}

static int ask(struct search *search) {
    struct annealing *a = search->state;
    if (a->drawn++ < (int)search->parameter[START] || search->best < 0) return SEARCH_NONE;
    if (a->here < 0) a->here = search->best;
    bool adjacent = search_uniform(search) < search->parameter[ADJACENT];
    int point = step(search, adjacent);
    if (point < 0) point = step(search, !adjacent);
    if (point < 0) point = search_repair(search, search_space_row(search->space, a->here));
    return point;
}

static void tell(struct search *search, int point) {
    struct annealing *a = search->state;
    if (a->here < 0) return;
    if (search_worked(search, point)) {
        double slower = log(search->ns[point] / search->ns[a->here]);
        if (search_uniform(search) < exp(-slower / a->temperature)) a->here = point;
    }
    a->temperature *= search->parameter[COOLING];
    if (a->temperature < search->parameter[COLD])
        a->temperature = search->parameter[HOT], a->here = search->best;
}

static void close_annealing(struct search *search) {
    struct annealing *a = search->state;
    free(a->neighbour), free(a);
}

const struct strategy strategy_annealing = {
    .name = "annealing",
    .summary = "a walk over neighbours that takes slower ones ever less",
    .parameters = parameters,
    .parameter_count = PARAMETERS,
    .open = open_annealing,
    .ask = ask,
    .tell = tell,
    .close = close_annealing};
