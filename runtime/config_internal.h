/* config_internal.h - what config.c and config_read.c share. */
#ifndef FASTINFER_CONFIG_INTERNAL_H
#define FASTINFER_CONFIG_INTERNAL_H

#include "runtime/config.h"

struct config {
    char path[1024], origin[1100], chain[4096];
    bool measured;
    struct config_entry *entries;
    int count, left_out;
};

#endif
