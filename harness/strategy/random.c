/* random.c - points by chance, without repeats: what the others must beat. */
#include "harness/strategy/strategy.h"

const struct strategy strategy_random = {
    .name = "random", .summary = "points by chance", .ask = search_any};
