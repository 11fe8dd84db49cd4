#include "runtime/config.h"
#include "runtime/json_text.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct config {
    char origin[1024];
    json_t *entries; /* NULL: the built-in defaults */
};

static void find_folder(const char *folder, char *out, size_t bytes) {
    const char *own = getenv("FASTINFER_CONFIGS"), *root = getenv("FASTINFER_ROOT");
    if (folder)
        snprintf(out, bytes, "%s", folder);
    else if (own && *own)
        snprintf(out, bytes, "%s", own);
    else if (!access("configs", R_OK) || !root)
        snprintf(out, bytes, "configs");
    else
        snprintf(out, bytes, "%s/configs", root);
}

/* True where the file exists and is good. */
static bool read_file(const char *path, struct config *config) {
    json_error_t error;
    if (access(path, F_OK)) return false;
    json_t *json = json_load_file(path, 0, &error);
    json_t *entries = json_object_get(json, "entries");
    if (!json)
        fprintf(stderr, "fastinfer: %s:%d: %s; the file is passed over\n", path, error.line,
                error.text);
    else if (!json_is_array(entries))
        fprintf(stderr,
                "fastinfer: %s:1: no array \"entries\" was found; the file is passed over\n", path);
    else {
        config->entries = json_incref(entries);
        snprintf(config->origin, sizeof config->origin, "%s%s", path,
                 json_is_false(json_object_get(json, "measured")) ? " (not measured)" : "");
    }
    json_decref(json);
    return config->entries != NULL;
}

enum status config_open(const char *folder, const struct device_info *device, struct config **out) {
    char base[700], path[900];
    *out = calloc(1, sizeof **out);
    if (!*out) return fail(STATUS_SYSTEM, "out of memory");
    snprintf((*out)->origin, sizeof(*out)->origin, "built-in default");
    find_folder(folder, base, sizeof base);
    snprintf(path, sizeof path, "%s/%s.json", base, device->slug);
    if (read_file(path, *out)) return STATUS_OK;
    snprintf(path, sizeof path, "%s/sm_%d.json", base, device->arch);
    if (device->kind == DEVICE_CUDA) read_file(path, *out);
    return STATUS_OK;
}

void config_close(struct config *config) {
    if (config) json_decref(config->entries);
    free(config);
}

const char *config_origin(const struct config *config) { return config->origin; }

double config_distance(const struct kernel *kernel, const struct problem *a,
                       const struct problem *b) {
    double sum = 0;
    for (int i = 0; i < kernel->size_count; i++) {
        if (a->size[i] == b->size[i]) continue;
        if (kernel->sizes[i].compiled) return INFINITY;
        sum += fabs(log((double)a->size[i] + 1) - log((double)b->size[i] + 1));
    }
    return sum;
}

static enum status parse_entry(const struct kernel *kernel, const json_t *entry,
                               struct problem *problem, struct point *point) {
    const char *texts[2], *const keys[2] = {"problem", "point"};
    for (int i = 0; i < 2; i++)
        if (!(texts[i] = json_string_value(json_object_get(entry, keys[i]))))
            return fail(STATUS_FORMAT, "no text \"%s\" was found", keys[i]);
    TRY(problem_parse(kernel, texts[0], problem));
    return point_parse(kernel, texts[1], point);
}

bool config_point(const struct config *config, const struct kernel *kernel,
                  const struct problem *problem, struct policy policy,
                  const struct device_info *device, struct point *out) {
    size_t i;
    json_t *entry;
    double least = INFINITY;
    *out = point_default(kernel);
    json_array_foreach(config->entries, i, entry) {
        struct problem theirs = {0};
        struct point point = {{0}};
        if (strcmp(json_text(entry, "kernel"), kernel->name) ||
            strcmp(json_text(entry, "dtype"), dtype_name(problem->dtype)))
            continue;
        if (parse_entry(kernel, entry, &theirs, &point)) {
            fprintf(stderr, "fastinfer: %s: entry %zu: %s; the entry is passed over\n",
                    config->origin, i + 1, fail_message());
            continue;
        }
        double far = config_distance(kernel, problem, &theirs);
        if (strcmp(json_text(entry, "policy"), policy_text(policy))) far += 100;
        if (far < least && kernel->legal(problem, &point, device, NULL)) least = far, *out = point;
    }
    return least < INFINITY;
}
