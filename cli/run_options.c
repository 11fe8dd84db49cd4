#include "cli/run_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "kernels/registry.h"

enum {
    KEY_POLICY = 256,
    KEY_PROBLEM,
    KEY_MODEL,
    KEY_QUICK,
    KEY_EXHAUST,
    KEY_RESUME,
    KEY_RETRY,
    KEY_DB,
    KEY_JSON,
    KEY_SEED,
    KEY_CONFIGS,
    KEY_KERNELS
};

static const struct argp_option options[] = {
    {"device", 'd', "ID", 0, "auto (the first GPU, else the CPU), cuda:N, cuda:all, or cpu", 0},
    {"dtype", 't', "TYPE", 0, "fp16 (default), bf16 or fp32", 0},
    {"policy", KEY_POLICY, "R,L", 0,
     "residency (cold, hot, weights_cold) and launch (stream, graph); repeatable", 0},
    {"problem", KEY_PROBLEM, "SIZES", 0,
     "rows=4096,hidden=3072; repeatable; default: the standard ones", 0},
    {"model", KEY_MODEL, "DIR", 0, "take widths and heads from a HuggingFace config.json", 0},
    {"quick", KEY_QUICK, NULL, 0, "few points and problems: a look in a minute", 0},
    {"exhaust", KEY_EXHAUST, NULL, 0, "whole spaces, on up to four problems a kernel", 0},
    {"retry", KEY_RETRY, NULL, 0, "try again what killed a worker before", 0},
    {"resume", KEY_RESUME, NULL, 0, "skip what the database already holds for the same code", 0},
    {"db", KEY_DB, "FILE", 0, "the database (default results/fastinfer.db)", 0},
    {"configs", KEY_CONFIGS, "DIR", 0, "configurations (default configs)", 0},
    {"kernels", KEY_KERNELS, "DIR", 0, "add the kernels of a folder outside the tree", 0},
    {"json", KEY_JSON, NULL, 0, "print the results as JSON instead of tables", 0},
    {"seed", KEY_SEED, "N", 0, "of inputs, samples and searches (default 1)", 0},
    {0}};

const struct run_options run_options_default = {.bench = {.device = "auto",
                                                          .baselines = true,
                                                          .seed = 1,
                                                          .counters = "off",
                                                          .db = "results/fastinfer.db"}};

static void add_text(struct argp_state *state, const char **list, int *count, int most,
                     const char *what, const char *text) {
    if (*count == most) argp_error(state, "at most %d %s", most, what);
    list[(*count)++] = text;
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct run_options *a = state->input;
    struct bench_options *o = &a->bench;
    switch (key) {
    case 'd':
        o->device = arg;
        break;
    case 't':
        o->dtype = cli_dtype(state, arg);
        break;
    case KEY_POLICY:
        if (o->policies == MAX_POLICIES) argp_error(state, "at most %d policies", MAX_POLICIES);
        if (policy_parse(arg, &o->policy[o->policies++])) argp_error(state, "%s", fail_message());
        break;
    case KEY_PROBLEM:
        add_text(state, o->problem, &o->problems, MAX_PROBLEM_TEXTS, "problems", arg);
        break;
    case KEY_MODEL:
        o->model = arg;
        break;
    case KEY_QUICK:
        o->quick = true;
        break;
    case KEY_EXHAUST:
        o->exhaust = true;
        break;
    case KEY_RESUME:
        o->resume = true;
        break;
    case KEY_RETRY:
        o->retry = true;
        break;
    case KEY_DB:
        o->db = arg;
        break;
    case KEY_CONFIGS:
        o->configs = arg;
        break;
    case KEY_KERNELS:
        setenv("FASTINFER_KERNELS", arg, 1);
        if (registry_add_folder(arg)) argp_failure(state, 2, 0, "%s", fail_message());
        break;
    case KEY_JSON:
        a->json = true;
        break;
    case KEY_SEED:
        o->seed = (uint64_t)cli_number(state, arg, 0, INT64_MAX);
        break;
    case ARGP_KEY_ARG:
        add_text(state, a->names, &a->name_count, MAX_KERNELS, "kernels", arg);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}
const struct argp run_options_argp = {options, parse, NULL, NULL, NULL, NULL, NULL};

void run_options_record(struct run_options *a, int argc, char **argv) {
    char *command = a->bench.command;
    size_t bytes = sizeof a->bench.command;
    for (int i = 1; i < argc; i++) {
        size_t n = strlen(command);
        const char *slash = strrchr(argv[i], '/');
        snprintf(command + n, bytes - n, "%s%s", i > 1 ? " " : "", slash ? slash + 1 : argv[i]);
    }
}

enum status run_options_check(struct run_options *a) {
    struct bench_options *o = &a->bench;
    for (int i = 0; i < a->name_count; i++)
        TRY(registry_find(a->names[i], &o->kernel[o->kernels++]));
    if (o->problems && !o->kernels)
        return fail(STATUS_ARGUMENT,
                    "--problem belongs to a kernel: fastinfer bench KERNEL --problem ...");
    if (o->quick && o->exhaust)
        return fail(STATUS_ARGUMENT, "--quick and --exhaust exclude each other");
    return STATUS_OK;
}
