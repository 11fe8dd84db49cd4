/* devices.c - fastinfer devices: what is there, and what it was measured to do. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "harness/store.h"
#include "runtime/compile.h"

enum { KEY_DB = 256, KEY_MEASURE, KEY_NO_MEASURE };
static const struct argp_option options[] = {
    {"db", KEY_DB, "FILE", 0, "where measured ceilings are kept (default results/fastinfer.db)", 0},
    {"measure", KEY_MEASURE, NULL, 0, "measure again, also where a result is kept", 0},
    {"no-measure", KEY_NO_MEASURE, NULL, 0, "only list", 0},
    {0}};

struct arguments {
    const char *db;
    bool measure, no_measure;
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case KEY_DB:
        a->db = arg;
        break;
    case KEY_MEASURE:
        a->measure = true;
        break;
    case KEY_NO_MEASURE:
        a->no_measure = true;
        break;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected '%s'", arg);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static void print_info(const struct device_info *d) {
    char compiler[600];
    struct target target = {d->kind, d->arch};
    printf("%s  %s\n", d->id, d->name);
    if (d->kind == DEVICE_CUDA) {
        printf("  compute      sm_%d, %d SMs of %d threads, %d KiB shared memory a block\n",
               d->arch, d->sms, d->threads_per_sm, d->shared_per_block >> 10);
        printf("  memory       %.1f GiB, L2 %.0f MiB, %d-bit bus, ECC %s\n",
               (double)d->memory_bytes / 0x1p30, (double)d->l2_bytes / 0x1p20, d->bus_bits,
               d->ecc < 0 ? "unknown"
               : d->ecc   ? "on"
                          : "off");
        printf("  clocks       SM up to %d MHz, memory %d MHz\n", d->clock_khz / 1000,
               d->memory_clock_khz / 1000);
        printf("  driver       %s (CUDA %d.%d)\n", d->driver, d->driver_version / 1000,
               d->driver_version % 1000 / 10);
        int others = session_gpu_processes(d->ordinal);
        if (others)
            printf("  warning      %d process%s on this GPU: measurements will be off\n", others,
                   others == 1 ? " is" : "es are");
    } else {
        printf("  emulation    %d cores, %.1f GiB; one coroutine a CUDA thread: right, not fast\n",
               d->sms, (double)d->memory_bytes / 0x1p30);
    }
    if (compiler_describe(target, compiler, sizeof compiler))
        printf("  compiler     none: %s\n", fail_message());
    else
        printf("  compiler     %s\n", compiler);
}

static void print_ceilings(const struct ceilings *c, const char *from) {
    printf("  copy         %.0f GB/s read + written, %.0f MiB (%s)\n", c->copy_gbps,
           (double)c->copy_bytes / 0x1p20, from);
    if (c->read_gbps > 0) printf("  read         %.0f GB/s\n", c->read_gbps);
    if (c->launch_ns > 0)
        printf(
            "  launch       %.2f us an empty kernel back to back, %.2f us as a node of a graph\n",
            c->launch_ns / 1e3, c->graph_node_ns / 1e3);
}

/* Fresh ceilings, kept under a run of their own. */
static enum status measure(const struct device_info *info, struct store *store,
                           struct ceilings *out) {
    struct session session;
    struct environment environment = {.device = *info, .seed = 1};
    struct target target = {info->kind, info->arch};
    int64_t run;
    if (info->kind == DEVICE_CUDA) TRY(nvrtc_available());
    TRY(session_open(info->id, 1, &session));
    enum status status = session_ceilings(&session, out);
    session_close(&session);
    if (status || !store) return status;
    compiler_describe(target, environment.compiler, sizeof environment.compiler);
    snprintf(environment.command, sizeof environment.command, "devices");
    gethostname(environment.host, sizeof environment.host - 1);
    TRY(store_begin_run(store, &environment, &run));
    TRY(store_ceilings(store, run, out));
    return store_end_run(store, run, &(struct run_seconds){0}, "ok");
}

static void show(const struct device_info *info, const struct arguments *a, struct store *store) {
    struct ceilings ceilings;
    print_info(info);
    bool kept = store && store_get_ceilings(store, info->slug, &ceilings);
    if (kept && !a->measure)
        print_ceilings(&ceilings, "measured before; --measure repeats it");
    else if (!a->no_measure && !measure(info, store, &ceilings))
        print_ceilings(&ceilings, "measured now");
    else if (!a->no_measure)
        printf("  not measured %s\n", fail_message());
}

int cli_devices(int argc, char **argv) {
    static const struct argp argp = {options, parse, NULL, "Lists every GPU and the CPU device.",
                                     NULL,    NULL,  NULL};
    struct arguments a = {.db = "results/fastinfer.db"};
    struct store *store = NULL;
    struct device_info info;
    argv[0] = cli_name("devices");
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (store_open(a.db, &store))
        fprintf(stderr, "fastinfer: %s; going on without it\n", fail_message());
    int count = device_cuda_count();
    if (!count) printf("no GPU: %s\n", fail_message());
    for (int i = 0; i < count; i++)
        if (device_describe_cuda(i, &info))
            printf("cuda:%d  %s\n", i, fail_message());
        else
            show(&info, &a, store);
    device_describe_cpu(&info);
    show(&info, &a, store);
    store_close(store);
    return 0;
}
