/* config.c - the chain of files, and the entry that answers for a problem. */
#include "runtime/config_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static void add_link(char *chain, size_t bytes, const char *path, const char *outcome) {
    size_t n = strlen(chain);
    snprintf(chain + n, bytes - n, "%s%s%s", n ? "; " : "", outcome, path);
}

/* Takes the first of the files that is there and good; *refused: one was there and bad. */
static enum status take_first(char files[][900], int count, const struct device_info *device,
                              config_find_kernel *find, bool *refused, struct config **out) {
    char chain[sizeof(*out)->chain] = "";
    *out = NULL;
    for (int i = 0; i < count && !*out; i++) {
        if (access(files[i], F_OK)) {
            add_link(chain, sizeof chain, files[i], "no ");
        } else if (config_read(files[i], device, find, out)) {
            fprintf(stderr, "fastinfer: %s\n", fail_message());
            add_link(chain, sizeof chain, files[i], "refused ");
            *refused = true;
        } else {
            add_link(chain, sizeof chain, (*out)->origin, "");
        }
    }
    if (!*out) {
        *out = calloc(1, sizeof **out);
        if (!*out) return fail(STATUS_SYSTEM, "out of memory");
        snprintf((*out)->origin, sizeof(*out)->origin, "built-in default");
        add_link(chain, sizeof chain, (*out)->origin, "");
    }
    memcpy((*out)->chain, chain, sizeof chain);
    return STATUS_OK;
}

enum status config_open(const char *folder, const struct device_info *device,
                        config_find_kernel *find, struct config **out) {
    char base[700], files[2][900];
    bool refused = false;
    find_folder(folder, base, sizeof base);
    snprintf(files[0], sizeof files[0], "%s/%s.json", base, device->slug);
    snprintf(files[1], sizeof files[1], "%s/sm_%d.json", base, device->arch);
    TRY(take_first(files, device->kind == DEVICE_CUDA ? 2 : 1, device, find, &refused, out));
    if (refused)
        fprintf(stderr, "fastinfer: the file is passed over; for %s this is used: %s\n",
                device->name, (*out)->origin);
    else if ((*out)->count && !(*out)->measured)
        fprintf(stderr, "fastinfer: the points of %s were compiled and not measured\n",
                (*out)->path);
    return STATUS_OK;
}

void config_close(struct config *config) {
    if (config) free(config->entries);
    free(config);
}

const char *config_origin(const struct config *config) { return config->origin; }
const char *config_chain(const struct config *config) { return config->chain; }
const char *config_path(const struct config *config) { return config->path; }
bool config_measured(const struct config *config) { return config->measured; }
int config_count(const struct config *config) { return config->count; }
int config_left_out(const struct config *config) { return config->left_out; }

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

static bool find_of_dtype(const struct config *config, const struct kernel *kernel,
                          const struct problem *problem, struct policy policy, enum dtype dtype,
                          const struct device_info *device, struct config_match *out) {
    *out = (struct config_match){NULL, INFINITY, true};
    for (int i = 0; i < config->count; i++) {
        const struct config_entry *e = &config->entries[i];
        if (strcmp(e->kernel->name, kernel->name) != 0 || e->problem.dtype != dtype) continue;
        bool other = e->policy.residency != policy.residency || e->policy.launch != policy.launch;
        double far = config_distance(kernel, problem, &e->problem);
        bool nearer = other == out->other_policy ? far < out->distance : !other;
        if (nearer && far < INFINITY && kernel->legal(problem, &e->point, device, NULL))
            *out = (struct config_match){e, far, other};
    }
    return out->entry != NULL;
}

bool config_find(const struct config *config, const struct kernel *kernel,
                 const struct problem *problem, struct policy policy,
                 const struct device_info *device, struct config_match *out) {
    if (find_of_dtype(config, kernel, problem, policy, problem->dtype, device, out)) return true;
    if (dtype_bytes(problem->dtype) != 2) return false;
    enum dtype twin = problem->dtype == DTYPE_F16 ? DTYPE_BF16 : DTYPE_F16;
    return find_of_dtype(config, kernel, problem, policy, twin, device, out);
}

bool config_point(const struct config *config, const struct kernel *kernel,
                  const struct problem *problem, struct policy policy,
                  const struct device_info *device, struct point *out) {
    struct config_match match;
    bool found =
        config_find(config, kernel, problem, policy, device, &match) && !match.entry->refused;
    *out = found ? match.entry->point : point_default(kernel);
    return found;
}
