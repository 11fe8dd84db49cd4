/* fuzz_configs.c - any bytes as configs/nvidia-h200.json: refused with the file's name and a line,
 * or a configuration whose every answer is legal on the device. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/registry.h"
#include "runtime/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds) {
    if (!holds) abort();
}

/* The file, in a folder of this process's own. */
static const char *write_file(const uint8_t *data, size_t size) {
    static char folder[] = "/tmp/fastinfer-fuzz-XXXXXX", path[64];
    if (!*path) {
        expect(mkdtemp(folder) != NULL);
        snprintf(path, sizeof path, "%s/nvidia-h200.json", folder);
    }
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    expect(file >= 0 && write(file, data, size) == (ssize_t)size);
    close(file);
    return path;
}

static void use(const struct config *config, const struct device_info *device) {
    static const struct policy policy = {RESIDENCY_WEIGHTS_COLD, LAUNCH_GRAPH};
    for (int k = 0; k < registry_count(); k++) {
        const struct kernel *kernel = registry_at(k);
        struct problem problem = problem_default(kernel);
        struct config_match match;
        struct point point;
        if (!config_find(config, kernel, &problem, policy, device, &match)) continue;
        expect(match.distance >= 0 && match.entry->line > 0);
        expect(kernel->legal(&problem, &match.entry->point, device, NULL));
        bool used = config_point(config, kernel, &problem, policy, device, &point);
        expect(used == !match.entry->refused);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct device_info device;
    struct config *config;
    device_describe_arch(90, &device);
    const char *path = write_file(data, size);
    if (config_read(path, &device, registry_find, &config)) {
        expect(!strncmp(fail_message(), path, strlen(path)));
        return 0;
    }
    use(config, &device);
    config_close(config);
    return 0;
}
