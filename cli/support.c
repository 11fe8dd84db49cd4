/* support.c - what several verbs need: which device an option means, and a line of progress. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "runtime/device.h"

bool cli_is_gpu(const char *id) { return !strncmp(id, "cuda:", 5); }

enum status cli_describe_device(const char *id, int arch, struct device_info *out) {
    int ordinal = 0, end = 0;
    if (arch) {
        device_describe_arch(arch, out);
        return STATUS_OK;
    }
    if (!id || !strcmp(id, "auto")) id = device_cuda_count() > 0 ? "cuda:0" : "cpu";
    if (!strcmp(id, "cpu")) {
        device_describe_cpu(out);
        return STATUS_OK;
    }
    bool known = sscanf(id, "cuda:%d%n", &ordinal, &end) == 1 && !id[end];
    if (!known && strcmp(id, "cuda:all") != 0)
        return fail(STATUS_ARGUMENT, "device '%s': cuda:N or cpu was expected", id);
    return device_describe_cuda(ordinal, out);
}

void cli_progress(const char *verb, int done, int total, const char *what) {
    static int shown = -1;
    int step = total ? 10 * done / total : done / 20;
    bool terminal = isatty(2);
    char of[24] = "";
    if (!terminal && step == shown) return;
    shown = step;
    if (total) snprintf(of, sizeof of, " of %d", total);
    fprintf(stderr, "%s%s: %d%s, %.40s%s", terminal ? "\r\033[K" : "", verb, done, of, what,
            terminal ? "" : "\n");
}

void cli_progress_clear(void) {
    if (isatty(2)) fprintf(stderr, "\r\033[K");
}
