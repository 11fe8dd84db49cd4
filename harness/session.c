#include "harness/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/session_internal.h"
#include "harness/verify.h"
#include "runtime/cuda_api.h"
#include "runtime/clock.h"

/* --- opening -----------------------------------------------------------------------------------
 */

static void open_telemetry(struct session *s) {
    const struct nvml_api *nvml = nvml_api();
    const struct cuda_api *cuda = s->device->info.kind == DEVICE_CUDA ? cuda_api() : NULL;
    char id[64];
    nvmlDevice_t device;
    if (!nvml || !cuda || cuda->cuDeviceGetPCIBusId(id, sizeof id, s->device->info.ordinal)) return;
    if (!nvml->nvmlDeviceGetHandleByPciBusId_v2(id, &device)) s->nvml_device = device;
}

struct telemetry session_telemetry(const struct session *s) {
    struct telemetry t = NO_TELEMETRY;
    const struct nvml_api *nvml = nvml_api();
    unsigned value;
    if (!s->nvml_device || !nvml) return t;
    nvmlDevice_t device = s->nvml_device;
    if (nvml->nvmlDeviceGetClockInfo) {
        if (!nvml->nvmlDeviceGetClockInfo(device, NVML_CLOCK_SM, &value)) t.sm_mhz = (int)value;
        if (!nvml->nvmlDeviceGetClockInfo(device, NVML_CLOCK_MEM, &value))
            t.memory_mhz = (int)value;
    }
    if (nvml->nvmlDeviceGetTemperature &&
        !nvml->nvmlDeviceGetTemperature(device, NVML_TEMPERATURE_GPU, &value))
        t.celsius = (int)value;
    unsigned long long reasons;
    if (nvml->nvmlDeviceGetCurrentClocksThrottleReasons &&
        !nvml->nvmlDeviceGetCurrentClocksThrottleReasons(device, &reasons))
        t.throttle = (int)reasons;
    if (nvml->nvmlDeviceGetPowerUsage && !nvml->nvmlDeviceGetPowerUsage(device, &value))
        t.milliwatts = (int)value;
    return t;
}

int session_gpu_processes(int ordinal) {
    const struct nvml_api *nvml = nvml_api();
    const struct cuda_api *cuda = cuda_api();
    struct nvml_process process[32];
    unsigned count = 32;
    char id[64];
    nvmlDevice_t device;
    if (!nvml || !cuda || !nvml->nvmlDeviceGetComputeRunningProcesses_v3 ||
        cuda->cuDeviceGetPCIBusId(id, sizeof id, ordinal) ||
        nvml->nvmlDeviceGetHandleByPciBusId_v2(id, &device) ||
        nvml->nvmlDeviceGetComputeRunningProcesses_v3(device, &count, process))
        return 0;
    return (int)count;
}

enum status session_open(const char *device_id, uint64_t seed, struct session *out) {
    *out = (struct session){.seed = seed};
    if (!strncmp(device_id, "cuda:", 5)) out->others = session_gpu_processes(atoi(device_id + 5));
    TRY(device_open(device_id, NULL, &out->device));
    enum status status = support_open(out->device, &out->support);
    if (status) {
        session_close(out);
        return status;
    }
    open_telemetry(out);
    /* CPU devices, a process a core, share the host's memory */
    bool own = out->device->info.kind == DEVICE_CUDA;
    out->keep_bytes = own ? (double)out->device->info.memory_bytes / 8 : 0;
    snprintf(out->baseline_note, sizeof out->baseline_note, "not loaded");
    return STATUS_OK;
}

void session_close(struct session *s) {
    for (int i = 0; i < KEPT_SUBJECTS; i++)
        subject_close(s->kept[i].timed), subject_close(s->kept[i].odd);
    if (s->baseline) s->baseline->close();
    support_close(&s->support);
    if (s->device) s->device->ops->close(s->device);
    *s = (struct session){0};
}

/* --- the clock
 *
 * A GPU lowers its clock for heat or power. What counts as low is relative to what this device
 * kept up in this run, not to its nominal clock: a card that cannot hold that would never finish.
 */

static int compare_ints(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

/* The median of the clocks seen while measuring; 0 while there are few. */
static int steady_mhz(const struct session *s) {
    int sorted[CLOCKS_SEEN], n = s->clocks_seen < CLOCKS_SEEN ? s->clocks_seen : CLOCKS_SEEN;
    if (n < 8) return 0;
    memcpy(sorted, s->clock_seen, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, compare_ints);
    return sorted[n / 2];
}

/* Looked at every 20 ms at most: reading the clock takes a while, too. */
bool session_disturbed(void *context) {
    enum { INTERVAL_MS = 20, LOW_PERCENT = 97 };
    struct session *s = context;
    double now = clock_seconds();
    if (!s->nvml_device || now - s->clock_read_s < INTERVAL_MS / 1e3) return false;
    s->clock_read_s = now;
    int mhz = session_telemetry(s).sm_mhz, steady = steady_mhz(s);
    if (mhz <= 0) return false;
    s->clock_seen[s->clocks_seen++ % CLOCKS_SEEN] = mhz; /* a lasting change becomes the steady */
    return steady && mhz * 100 < steady * LOW_PERCENT;
}

/* --- buffers -----------------------------------------------------------------------------------
 *
 * Those of a problem are kept from point to point, and beside them those of a few problems more: a
 * tuner leaves one that waits for its binaries, and comes back. What is kept is little beside the
 * device's memory, so that it changes nobody's number of sets.
 */

static void drop(struct subjects *kept) {
    subject_close(kept->timed), subject_close(kept->odd);
    *kept = (struct subjects){0};
}

static double bytes_of(const struct subjects *kept) {
    double bytes = 0;
    if (kept->timed) bytes += (double)kept->timed->set_bytes * kept->timed->sets;
    if (kept->odd) bytes += (double)kept->odd->set_bytes;
    return bytes;
}

static bool serves(const struct subjects *kept, const struct kernel *kernel,
                   const struct problem *problem, enum residency residency) {
    return kept->odd && kept->timed->kernel == kernel && kept->residency == residency &&
           problem_equal(&kept->timed->problem, problem);
}

/* A place for buffers of `wanted` bytes: what was used longest ago makes room. */
static enum status make_room(struct session *s, double wanted, struct subjects **out) {
    size_t available;
    for (;;) {
        struct subjects *oldest = NULL, *empty = NULL;
        double bytes = wanted;
        for (int i = 0; i < KEPT_SUBJECTS; i++) {
            struct subjects *one = &s->kept[i];
            bytes += bytes_of(one);
            if (!one->timed)
                empty = one;
            else if (!oldest || one->used < oldest->used)
                oldest = one;
        }
        TRY(s->device->ops->free_bytes(s->device, &available));
        bool fits = bytes <= s->keep_bytes && 4 * wanted <= (double)available;
        if (!oldest || (empty && fits)) return *out = empty, STATUS_OK;
        drop(oldest);
    }
}

static enum status open_subjects(struct session *s, const struct kernel *kernel,
                                 const struct problem *problem, struct policy policy,
                                 struct subjects *out) {
    int sets = measure_sets(kernel, problem, &s->device->info, policy);
    /* timed on inputs as in use, verified on awkward ones too: the parity of the seed */
    TRY(subject_open(&s->support, kernel, problem, 2 * s->seed, sets, &out->timed));
    out->residency = policy.residency;
    struct problem odd = verify_odd_problem(kernel, problem);
    enum status status = subject_open(&s->support, kernel, &odd, 2 * s->seed + 1, 1, &out->odd);
    if (status) drop(out);
    return status;
}

enum status session_subjects(struct session *s, const struct kernel *kernel,
                             const struct problem *problem, struct policy policy) {
    struct subjects *found = NULL;
    for (int i = 0; i < KEPT_SUBJECTS && !found; i++)
        if (serves(&s->kept[i], kernel, problem, policy.residency)) found = &s->kept[i];
    if (!found) {
        int sets = measure_sets(kernel, problem, &s->device->info, policy);
        s->now = NULL;
        TRY(make_room(s, (sets + 1) * problem_bytes(kernel, problem), &found));
        TRY(open_subjects(s, kernel, problem, policy, found));
    }
    found->used = ++s->turn;
    s->now = found;
    return STATUS_OK;
}

enum status session_renew(struct session *s) {
    struct subjects *kept = s->now;
    const struct kernel *kernel = kept->timed->kernel;
    struct problem problem = kept->timed->problem;
    struct policy policy = {kept->residency, LAUNCH_STREAM};
    int64_t used = kept->used;
    drop(kept);
    s->now = NULL;
    TRY(open_subjects(s, kernel, &problem, policy, kept));
    kept->used = used, s->now = kept;
    return STATUS_OK;
}

enum status session_subject(struct session *s, const struct kernel *kernel,
                            const struct problem *problem, struct policy policy,
                            struct subject **out) {
    TRY(session_subjects(s, kernel, problem, policy));
    *out = s->now->timed;
    return STATUS_OK;
}
