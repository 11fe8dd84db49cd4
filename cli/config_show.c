#include "cli/config_show.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum status choice_make(const struct config *config, const struct device_info *device,
                        const struct kernel *kernel, const struct problem *problem,
                        struct policy policy, struct choice *out) {
    *out = (struct choice){.kernel = kernel, .problem = *problem, .policy = policy};
    if (!config_find(config, kernel, problem, policy, device, &out->match) ||
        out->match.entry->refused)
        return space_default(kernel, problem, device, &out->point);
    out->point = out->match.entry->point;
    return STATUS_OK;
}

static const char *time_text(const struct config *config, const struct config_entry *entry,
                             char *out, size_t bytes) {
    if (!config_measured(config))
        snprintf(out, bytes, "not measured");
    else if (entry->median_us > 0)
        snprintf(out, bytes, "measured there: %.4g us", entry->median_us);
    else
        snprintf(out, bytes, "measured");
    return out;
}

void choice_origin(const struct config *config, const struct choice *choice, char *out,
                   size_t bytes) {
    const struct config_entry *e = choice->match.entry;
    char problem[MAX_TEXT], far[64] = "this very problem", time[64];
    if (!e) {
        snprintf(out, bytes,
                 config_count(config) ? "the built-in default: %s has no entry of this kernel, "
                                        "dtype and compiled sizes that is legal here"
                                      : "the built-in default: %s",
                 config_count(config) ? config_path(config) : "there is no file");
        return;
    }
    if (e->refused) {
        snprintf(out, bytes,
                 "the built-in default: the entry of %s, line %d, was refused end to end",
                 config_origin(config), e->line);
        return;
    }
    problem_format(choice->kernel, &e->problem, problem);
    if (choice->match.distance > 0)
        snprintf(far, sizeof far, "a factor of %.3g away", exp(choice->match.distance));
    snprintf(out, bytes, "%s, line %d: %s %s, %s%s; %s", config_origin(config), e->line, problem,
             policy_text(e->policy), far, choice->match.other_policy ? ", another policy" : "",
             time_text(config, e, time, sizeof time));
}

void choice_print(const struct config *config, const struct choice *choice) {
    char problem[MAX_TEXT], point[MAX_TEXT], origin[2048];
    problem_format(choice->kernel, &choice->problem, problem);
    point_format(choice->kernel, &choice->point, point);
    choice_origin(config, choice, origin, sizeof origin);
    printf("%s %s %s %s\n  %s\n  from %s\n", choice->kernel->name,
           dtype_name(choice->problem.dtype), problem, policy_text(choice->policy), point, origin);
}

json_t *choice_json(const struct config *config, const struct choice *choice) {
    const struct config_entry *e = choice->match.entry;
    char problem[MAX_TEXT], point[MAX_TEXT];
    problem_format(choice->kernel, &choice->problem, problem);
    point_format(choice->kernel, &choice->point, point);
    json_t *json = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "kernel", choice->kernel->name,
                             "dtype", dtype_name(choice->problem.dtype), "problem", problem,
                             "policy", policy_text(choice->policy), "point", point, "from",
                             e && !e->refused ? "entry" : "default");
    if (!e) return json;
    problem_format(choice->kernel, &e->problem, problem);
    json_t *entry =
        json_pack("{s:i, s:s, s:s, s:f, s:b, s:b, s:b}", "line", e->line, "problem", problem,
                  "policy", policy_text(e->policy), "distance", choice->match.distance,
                  "other_policy", (int)choice->match.other_policy, "measured",
                  (int)config_measured(config), "refused", (int)e->refused);
    if (e->median_us > 0) json_object_set_new(entry, "median_us", json_real(e->median_us));
    json_object_set_new(json, "entry", entry);
    return json;
}
