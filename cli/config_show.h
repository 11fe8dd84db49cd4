/* config_show.h - what fastinfer config says of a device's file and of the point of a problem. */
#ifndef CLI_CONFIG_SHOW_H
#define CLI_CONFIG_SHOW_H

#include <jansson.h>

#include "runtime/config.h"

/* The point that would be launched, and why. */
struct choice {
    const struct kernel *kernel;
    struct problem problem;
    struct policy policy;
    struct point point;
    struct config_match match; /* entry NULL: the built-in default */
};

/* Fails where no point at all is legal. */
enum status choice_make(const struct config *config, const struct device_info *device,
                        const struct kernel *kernel, const struct problem *problem,
                        struct policy policy, struct choice *out);
/* "configs/sm_90.json (not measured):3, ..." in one line, no newline. */
void choice_origin(const struct config *config, const struct choice *choice, char *out,
                   size_t bytes);
void choice_print(const struct config *config, const struct choice *choice);
json_t *choice_json(const struct config *config, const struct choice *choice);

#endif
