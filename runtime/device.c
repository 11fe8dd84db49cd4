/* device.c - opening a device by its id, and the facts of architectures. */
#include "runtime/device.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum status device_open(const char *id, char *note, struct device **out) {
    if (note) note[0] = 0;
    if (!strcmp(id, "cpu")) return device_open_cpu(out);
    if (!strcmp(id, "auto")) {
        if (device_cuda_count() > 0) return device_open_cuda(0, out);
        if (note)
            snprintf(note, 256, "no GPU in use (%.180s): running on the CPU device",
                     fail_message());
        return device_open_cpu(out);
    }
    if (!strncmp(id, "cuda", 4)) {
        char *end = NULL;
        long ordinal = id[4] == ':' ? strtol(id + 5, &end, 10) : 0;
        if (!id[4] || (end && !*end && end != id + 5)) return device_open_cuda((int)ordinal, out);
    }
    return fail(STATUS_ARGUMENT, "device '%s' is none of auto, cpu, cuda:N", id);
}

void device_slug(const char *name, char *slug, size_t bytes) {
    size_t n = 0;
    for (; *name && n + 1 < bytes; name++)
        if (isalnum((unsigned char)*name))
            slug[n++] = (char)tolower((unsigned char)*name);
        else if (n && slug[n - 1] != '-')
            slug[n++] = '-';
    while (n && slug[n - 1] == '-') n--;
    slug[n] = 0;
}

/* Limits by compute capability (CUDA programming guide, table of technical specifications), and
 * the multiprocessors of the card that stands for the architecture here. */
void device_describe_arch(int arch, struct device_info *out) {
    static const struct {
        int arch, threads_per_sm, shared_block_kib, shared_sm_kib, sms;
        int64_t l2_bytes;
        const char *name, *slug;
    } facts[] = {
        {75, 1024, 64, 64, 40, 4 << 20, "Tesla T4", "tesla-t4"},
        {80, 2048, 163, 164, 108, 40 << 20, "NVIDIA A100", "nvidia-a100"},
        {86, 1536, 99, 100, 82, 6 << 20, "NVIDIA GeForce RTX 3090", "nvidia-geforce-rtx-3090"},
        {89, 1536, 99, 100, 58, 48 << 20, "NVIDIA L4", "nvidia-l4"},
        {90, 2048, 227, 228, 132, 60 << 20, "NVIDIA H200", "nvidia-h200"},
        {100, 2048, 227, 228, 148, 126 << 20, "NVIDIA B200", "nvidia-b200"},
        {120, 1536, 99, 100, 170, 96 << 20, "NVIDIA GeForce RTX 5090", "nvidia-geforce-rtx-5090"},
    };
    size_t i = 0;
    while (i + 1 < sizeof facts / sizeof *facts && facts[i + 1].arch <= arch) i++;
    *out = (struct device_info){.kind = DEVICE_CUDA,
                                .arch = arch,
                                .sms = facts[i].sms,
                                .threads_per_sm = facts[i].threads_per_sm,
                                .threads_per_block = 1024,
                                .registers_per_sm = 65536,
                                .shared_per_block = facts[i].shared_block_kib << 10,
                                .shared_per_sm = facts[i].shared_sm_kib << 10,
                                .l2_bytes = facts[i].l2_bytes,
                                .ecc = -1};
    snprintf(out->id, sizeof out->id, "sm_%d", arch);
    snprintf(out->name, sizeof out->name, "%s", facts[i].name);
    snprintf(out->slug, sizeof out->slug, "%s", facts[i].slug);
}
