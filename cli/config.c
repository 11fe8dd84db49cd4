/* config.c - fastinfer config: which point would be launched, and where that comes from; checks and
 * makes files of configs/, and hands a point out to other projects. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/config_show.h"
#include "harness/handout.h"
#include "harness/unmeasured.h"
#include "kernels/registry.h"

enum {
    KEY_DEVICE = 256,
    KEY_ARCH,
    KEY_PROBLEM,
    KEY_POLICY,
    KEY_CONFIGS,
    KEY_POINT,
    KEY_CHECK,
    KEY_JSON,
    KEY_EMIT,
    KEY_OUT,
    KEY_UNMEASURED,
    KEY_KERNELS
};
static const struct argp_option options[] = {
    {"device", KEY_DEVICE, "ID", 0, "cuda:N or cpu (default: the first GPU, else the CPU)", 0},
    {"arch", KEY_ARCH, "SM", 0, "for an architecture instead: sm_75, sm_90, ...", 0},
    {"dtype", 't', "TYPE", 0, "fp16 (default), bf16 or fp32", 0},
    {"problem", KEY_PROBLEM, "SIZES", 0, "rows=4096,hidden=3072 (default: the kernel's own)", 0},
    {"policy", KEY_POLICY, "POLICY", 0, "cold,stream (default), hot,graph, ...", 0},
    {"configs", KEY_CONFIGS, "DIR", 0, "configurations (default configs)", 0},
    {"kernels", KEY_KERNELS, "DIR", 0, "add the kernels of a folder outside the tree", 0},
    {"json", KEY_JSON, NULL, 0, "the same as JSON", 0},
    {"check", KEY_CHECK, "FILE", 0, "check a file of configs/ (exit 2: bad) and do nothing else",
     1},
    {"emit-source", KEY_EMIT, "KERNEL", 0,
     "write KERNEL.cu, KERNEL.h and a cubin that need nothing of this tree: one point, for another "
     "project",
     2},
    {"point", KEY_POINT, "POINT", 0, "of --emit-source (default: the configured one)", 2},
    {"out", KEY_OUT, "DIR", 0, "where files are written (default ., or configs)", 2},
    {"unmeasured", KEY_UNMEASURED, "NAME", 0,
     "write a file for a GPU that is not here, by compiling alone: --unmeasured \"Tesla T4\" "
     "--arch sm_75",
     3},
    {0}};

struct arguments {
    const char *device, *problem, *configs, *names[64];
    const char *check, *emit, *point, *out, *unmeasured;
    int arch, name_count;
    bool json;
    enum dtype dtype;
    struct policy policy;
};

/* An option that would be passed over in silence is a mistake. */
static void check_modes(const struct arguments *a, struct argp_state *state) {
    if (!!a->check + !!a->emit + !!a->unmeasured > 1)
        argp_error(state, "--check, --emit-source and --unmeasured exclude each other");
    if (a->name_count && (a->check || a->emit || a->unmeasured))
        argp_error(state, "unexpected '%s'", a->names[0]);
    if (a->point && !a->emit) argp_error(state, "--point belongs to --emit-source");
    if (a->out && !a->emit && !a->unmeasured)
        argp_error(state, "--out belongs to --emit-source or --unmeasured");
    if (a->json && (a->emit || a->unmeasured))
        argp_error(state, "--json belongs to what is shown or checked");
    if (a->unmeasured && !a->arch)
        argp_error(state, "--unmeasured needs the GPU's architecture: --arch sm_75");
}

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
    case KEY_KERNELS:
        setenv("FASTINFER_KERNELS", arg, 1);
        if (registry_add_folder(arg)) argp_failure(state, 2, 0, "%s", fail_message());
        break;
    case KEY_JSON:
        a->json = true;
        break;
    case KEY_CHECK:
        a->check = arg;
        break;
    case KEY_EMIT:
        a->emit = arg;
        break;
    case KEY_POINT:
        a->point = arg;
        break;
    case KEY_OUT:
        a->out = arg;
        break;
    case KEY_UNMEASURED:
        a->unmeasured = arg;
        break;
    case ARGP_KEY_ARG:
        if (a->name_count == 64) argp_error(state, "too many kernels");
        a->names[a->name_count++] = arg;
        break;
    case ARGP_KEY_END:
        check_modes(a, state);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* --- what would be launched ----------------------------------------------------------------- */

static enum status choose(const struct arguments *a, const struct config *config,
                          const struct device_info *info, const struct kernel *kernel,
                          struct choice *out) {
    struct problem problem;
    if (!(kernel->dtypes >> a->dtype & 1))
        return fail(STATUS_ARGUMENT, "%s has no %s form", kernel->name, dtype_name(a->dtype));
    TRY(problem_parse(kernel, a->problem ? a->problem : "", &problem));
    problem.dtype = a->dtype;
    return choice_make(config, info, kernel, &problem, a->policy, out);
}

static enum status show_kernels(const struct arguments *a, const struct config *config,
                                const struct device_info *info, json_t *list) {
    int count = a->name_count ? a->name_count : registry_count();
    for (int i = 0; i < count; i++) {
        struct choice choice;
        const struct kernel *kernel = registry_at(i);
        if (a->name_count) TRY(registry_find(a->names[i], &kernel));
        if (!a->name_count && !(kernel->dtypes >> a->dtype & 1)) continue;
        TRY(choose(a, config, info, kernel, &choice));
        if (list)
            json_array_append_new(list, choice_json(config, &choice));
        else
            choice_print(config, &choice);
    }
    return STATUS_OK;
}

static enum status show(const struct arguments *a, const struct device_info *info) {
    struct config *config;
    TRY(config_open(a->configs, info, registry_find, &config));
    json_t *list = a->json ? json_array() : NULL;
    if (!list)
        printf("%s: %s\n  looked for: %s\n", info->name, config_origin(config),
               config_chain(config));
    enum status status = show_kernels(a, config, info, list);
    if (list && !status) {
        const char *path = config_path(config);
        json_t *json = json_pack("{s:s, s:s, s:s?, s:b, s:s, s:i, s:O}", "device", info->name,
                                 "slug", info->slug, "file", *path ? path : NULL, "measured",
                                 (int)config_measured(config), "chain", config_chain(config),
                                 "entries", config_count(config), "kernels", list);
        json_dumpf(json, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(7));
        putchar('\n');
        json_decref(json);
    }
    json_decref(list);
    config_close(config);
    return status;
}

/* --- check ----------------------------------------------------------------------------------- */

/* The device that a file is for: the one asked for, else the one that its name says. */
static enum status device_of_file(const struct arguments *a, struct device_info *info) {
    static const int archs[] = {75, 80, 86, 89, 90, 100, 120};
    char stem[128];
    const char *slash = strrchr(a->check, '/'), *name = slash ? slash + 1 : a->check;
    snprintf(stem, sizeof stem, "%s", name);
    char *dot = strstr(stem, ".json");
    if (dot) *dot = 0;
    if (a->arch || a->device) return cli_describe_device(a->device, a->arch, info);
    if (!strncmp(stem, "sm_", 3) && atoi(stem + 3) >= 50) {
        device_describe_arch(atoi(stem + 3), info);
        return STATUS_OK;
    }
    device_describe_cpu(info);
    if (!strcmp(stem, info->slug)) return STATUS_OK;
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
        device_describe_arch(archs[i], info);
        if (!strcmp(stem, info->slug)) return STATUS_OK;
    }
    for (int i = 0; i < device_cuda_count(); i++)
        if (!device_describe_cuda(i, info) && !strcmp(stem, info->slug)) return STATUS_OK;
    return fail(STATUS_ARGUMENT,
                "%s: '%s' is no device that is known here; its --device or --arch was expected",
                a->check, stem);
}

static enum status check_file(const struct arguments *a) {
    struct device_info info;
    struct config *config;
    TRY(device_of_file(a, &info));
    enum status status = config_read(a->check, &info, registry_find, &config);
    if (a->json) {
        json_t *json =
            status
                ? json_pack("{s:s, s:b, s:s}", "file", a->check, "good", 0, "reason",
                            fail_message())
                : json_pack("{s:s, s:b, s:s, s:b, s:i, s:i}", "file", a->check, "good", 1, "device",
                            info.name, "measured", (int)config_measured(config), "entries",
                            config_count(config), "left_out", config_left_out(config));
        json_dumpf(json, stdout, JSON_INDENT(1));
        putchar('\n');
        json_decref(json);
    }
    TRY(status);
    if (!a->json)
        printf("%s: good for %s: %d entries, %s%s\n", a->check, info.name, config_count(config),
               config_measured(config) ? "measured" : "not measured",
               config_left_out(config) ? "; some are for kernels that are not here" : "");
    config_close(config);
    return STATUS_OK;
}

/* --- files for others ------------------------------------------------------------------------- */

static enum status emit(const struct arguments *a, const struct device_info *info) {
    struct choice choice;
    struct config *config;
    struct handout out;
    const struct kernel *kernel;
    char origin[2048] = "the command line (--point)";
    const char *why = "no reason was given";
    if (info->kind != DEVICE_CUDA)
        return fail(STATUS_ARGUMENT, "--emit-source is for a GPU; --arch sm_75 was expected");
    TRY(registry_find(a->emit, &kernel));
    TRY(config_open(a->configs, info, registry_find, &config));
    enum status status = choose(a, config, info, kernel, &choice);
    if (!status && a->point) status = point_parse(kernel, a->point, &choice.point);
    if (!status && !a->point) choice_origin(config, &choice, origin, sizeof origin);
    config_close(config);
    if (!status && !kernel->legal(&choice.problem, &choice.point, info, &why))
        status = fail(STATUS_ARGUMENT, "%s: %s is not legal here: %s", kernel->name,
                      a->point ? a->point : "the default", why);
    struct handout_request request = {.kernel = kernel,
                                      .problem = choice.problem,
                                      .point = choice.point,
                                      .origin = origin,
                                      .device = info,
                                      .folder = a->out ? a->out : "."};
    if (!status) status = handout_write(&request, &out);
    if (status) return status;
    printf("%s\n%s\n", out.source, out.header);
    if (!out.cubin[0]) {
        fprintf(stderr, "fastinfer: no cubin was written: %s\n", out.missing);
        return STATUS_OK;
    }
    printf("%s: %d instructions, %d registers, %d B spilled; machine code %s, %s\n", out.cubin,
           out.build.instructions, out.build.registers, out.build.spill_bytes, out.build.code_hash,
           out.same_code ? "as it is benched" : "not as it is benched");
    return out.same_code ? STATUS_OK
                         : fail(STATUS_COMPILE,
                                "%s: its machine code is not that of the build of "
                                "the same point here, which was expected",
                                out.source);
}

static enum status write_unmeasured(const struct arguments *a) {
    struct device_info info;
    struct config *config;
    json_t *json;
    char path[1200];
    int moved;
    const char *folder = a->out ? a->out : "configs";
    device_describe_arch(a->arch, &info);
    snprintf(info.name, sizeof info.name, "%s", a->unmeasured);
    device_slug(info.name, info.slug, sizeof info.slug);
    snprintf(path, sizeof path, "%s/%s.json", folder, info.slug);
    json_t *older = json_load_file(path, 0, NULL);
    bool keep = !access(path, F_OK) && !json_is_false(json_object_get(older, "measured"));
    json_decref(older);
    if (keep)
        return fail(STATUS_ARGUMENT,
                    "%s is there and does not say \"measured\": false; another --out was expected",
                    path);
    TRY(unmeasured_file(&info, &json, &moved));
    mkdir(folder, 0777);
    int failed = json_dump_file(json, path, JSON_INDENT(1));
    json_decref(json);
    if (failed) return fail(STATUS_SYSTEM, "%s: could not be written: %s", path, strerror(errno));
    TRY(config_read(path, &info, registry_find, &config));
    printf("%s: %d entries, not measured; %d with another point than the default\n", path,
           config_count(config), moved);
    config_close(config);
    return STATUS_OK;
}

static enum status run(const struct arguments *a) {
    struct device_info info;
    if (a->check) return check_file(a);
    if (a->unmeasured) return write_unmeasured(a);
    TRY(cli_describe_device(a->device, a->arch, &info));
    return a->emit ? emit(a, &info) : show(a, &info);
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
    argv[0] = cli_name("config");
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    enum status status = run(&a);
    return status ? cli_error(status) : 0;
}
