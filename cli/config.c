/* config.c - fastinfer config: which point would be launched, and where that comes from. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "kernels/registry.h"
#include "runtime/config.h"

enum { KEY_DEVICE = 256, KEY_ARCH, KEY_PROBLEM, KEY_POLICY, KEY_CONFIGS };
static const struct argp_option options[] = {
    {"device", KEY_DEVICE, "ID", 0, "cuda:N or cpu (default: the first GPU, else the CPU)", 0},
    {"arch", KEY_ARCH, "SM", 0, "for an architecture instead: sm_75, sm_90, ...", 0},
    {"dtype", 't', "TYPE", 0, "fp16 (default), bf16 or fp32", 0},
    {"problem", KEY_PROBLEM, "SIZES", 0, "rows=4096,hidden=3072 (default: the kernel's own)", 0},
    {"policy", KEY_POLICY, "POLICY", 0, "cold,stream (default), hot,graph, ...", 0},
    {"configs", KEY_CONFIGS, "DIR", 0, "configurations (default configs)", 0},
    {0}};

struct arguments {
    const char *device, *problem, *configs, *names[64];
    int arch, name_count;
    enum dtype dtype;
    struct policy policy;
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case KEY_DEVICE:
        a->device = arg;
        break;
    case KEY_ARCH:
        a->arch = cli_arch(state, arg);
        break;
    case 't':
        a->dtype = cli_dtype(state, arg);
        break;
    case KEY_PROBLEM:
        a->problem = arg;
        break;
    case KEY_POLICY:
        if (policy_parse(arg, &a->policy)) argp_error(state, "%s", fail_message());
        break;
    case KEY_CONFIGS:
        a->configs = arg;
        break;
    case ARGP_KEY_ARG:
        if (a->name_count < 64) a->names[a->name_count++] = arg;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static enum status describe(const struct arguments *a, struct device_info *info) {
    if (a->arch) {
        device_describe_arch(a->arch, info);
        return STATUS_OK;
    }
    if (a->device && !strncmp(a->device, "cuda:", 5))
        return device_describe_cuda(atoi(a->device + 5), info);
    if (!a->device && device_cuda_count() > 0) return device_describe_cuda(0, info);
    if (a->device && strcmp(a->device, "cpu") != 0)
        return fail(STATUS_ARGUMENT, "device '%s': cuda:N or cpu was expected", a->device);
    device_describe_cpu(info);
    return STATUS_OK;
}

static enum status show(const struct arguments *a, const struct config *config,
                        const struct device_info *info, const struct kernel *kernel) {
    struct problem problem;
    struct point point;
    char problem_text[MAX_TEXT], point_text[MAX_TEXT];
    TRY(problem_parse(kernel, a->problem ? a->problem : "", &problem));
    problem.dtype = a->dtype;
    bool configured = config_point(config, kernel, &problem, a->policy, info, &point);
    problem_format(kernel, &problem, problem_text), point_format(kernel, &point, point_text);
    printf("%s %s %s %s\n  %s\n  from %s%s\n", kernel->name, dtype_name(a->dtype), problem_text,
           policy_text(a->policy), point_text,
           configured ? config_origin(config) : "the built-in default",
           configured ? ", its nearest entry that is legal here"
                      : ": no entry of this kernel and dtype is legal here");
    return STATUS_OK;
}

int cli_config(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse,
        "[KERNEL...]",
        "Shows which point would be launched, and from which file: configs/<device>.json, else "
        "configs/sm_<arch>.json, else the built-in default.",
        NULL,
        NULL,
        NULL};
    struct arguments a = {.policy = {RESIDENCY_COLD, LAUNCH_STREAM}};
    struct device_info info;
    struct config *config = NULL;
    argv[0] = cli_name("config");
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    enum status status = describe(&a, &info);
    if (!status) status = config_open(a.configs, &info, &config);
    if (!status) printf("%s: %s\n", info.name, config_origin(config));
    int count = a.name_count ? a.name_count : registry_count();
    for (int i = 0; i < count && !status; i++) {
        const struct kernel *kernel = registry_at(i);
        if (a.name_count) status = registry_find(a.names[i], &kernel);
        if (!status && (kernel->dtypes >> a.dtype & 1)) status = show(&a, config, &info, kernel);
    }
    if (config) config_close(config);
    return status ? cli_error(status) : 0;
}
