/* exhaustive.c - every point, in the space's order. */
#include <stdlib.h>

#include "harness/strategy/strategy.h"

static enum status open_exhaustive(struct search *search) {
    search->state = calloc(1, sizeof(int)); /* the first point that may not have been asked for */
    return search->state ? STATUS_OK : fail(STATUS_SYSTEM, "out of memory for a search");
}

static int ask(struct search *search) {
    int *next = search->state;
    return (*next)++;
}

static void close_exhaustive(struct search *search) { free(search->state); }

const struct strategy strategy_exhaustive = {.name = "exhaustive",
                                             .summary = "every point, in order",
                                             .open = open_exhaustive,
                                             .ask = ask,
                                             .close = close_exhaustive};
