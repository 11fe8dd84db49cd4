/* main.c - finds the verb. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "harness/worker.h"
#include "kernels/registry.h"
#include "runtime/kernel.h"

static const struct verb verbs[] = {
    {"devices", "list GPUs and the CPU device, with what they were measured to do", cli_devices},
    {"bench", "compile, verify and time kernels against PyTorch eager", cli_bench},
    {"tune", "search for the fastest points and write configs/<device>.json", cli_tune},
    {"build", "compile points for an architecture and show registers, spills, occupancy",
     cli_build},
    {"gate", "fail where kernels got slower than another commit's", cli_gate},
    {"calibrate", "measure this GPU's noise, for the gate", cli_calibrate},
    {"config", "which point would be launched, and why; check a file, hand a point out",
     cli_config},
    {"explain", "why a point won: what each tunable does, the best beside the runner-up",
     cli_explain},
    {"replay", "score search strategies on spaces measured before", cli_replay},
    {"export", "write results as CSV or JSON for review", cli_export},
    {"generate", "text in, text out, with a model on this machine", cli_generate},
    {"tps", "measure a model's tokens a second", cli_tps},
    {"tokenize", "ids and tokens of a text, by a model's tokenizer.json", cli_tokenize},
    {"report", "everything that was measured, as one page", cli_report},
    {"plot", "draw speedup, bandwidth and roofline with gnuplot", cli_plot},
    {"completion", "verbs, options and kernels, completed by bash or zsh", cli_completion},
};
enum { VERBS = sizeof verbs / sizeof *verbs };

int cli_verbs(void) { return VERBS; }
const struct verb *cli_verb(int index) { return &verbs[index]; }

int cli_error(enum status status) {
    fprintf(stderr, "fastinfer: %s\n", fail_message());
    return status == STATUS_INTERRUPTED ? 130 : status ? 2 : 0;
}

char *cli_name(const char *verb) {
    static char name[64];
    snprintf(name, sizeof name, "fastinfer %s", verb);
    return name;
}

long long cli_number(struct argp_state *state, const char *text, long long least, long long most) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (*end || end == text || errno || value < least || value > most)
        argp_error(state, "'%s': a whole number from %lld to %lld was expected", text, least, most);
    return value;
}

int cli_arch(struct argp_state *state, const char *text) {
    char *end;
    long arch = strtol(text + (strncmp(text, "sm_", 3) ? 0 : 3), &end, 10);
    if (*end || arch < 50 || arch > 999)
        argp_error(state, "'%s' is no architecture; sm_75 was expected", text);
    return (int)arch;
}

enum dtype cli_dtype(struct argp_state *state, const char *text) {
    enum dtype dtype = dtype_parse(text);
    if (dtype > DTYPE_F32) argp_error(state, "dtype '%s' is none of fp16, bf16, fp32", text);
    return dtype;
}

static void usage(FILE *out) {
    fprintf(out,
            "fastinfer %s: find, prove and keep the fastest fused CUDA kernels on this GPU\n\n",
            FASTINFER_VERSION);
    for (int i = 0; i < VERBS; i++)
        fprintf(out, "  fastinfer %-10s %s\n", verbs[i].name, verbs[i].help);
    fprintf(out, "\nTry `fastinfer bench`, or `fastinfer VERB --help`.\n");
}

/* What a newcomer can do next; the whole list is --help's. */
static void next_steps(void) {
    static const char *const steps[][2] = {
        {"fastinfer devices", "what is here to measure"},
        {"fastinfer bench", "time every kernel against PyTorch eager and the memory's ceiling"},
        {"fastinfer tune", "search for faster points and write configs/<device>.json"},
        {"fastinfer tps", "tokens a second of a whole model"},
        {"fastinfer report", "all of it as one page, results/report/report.html"},
    };
    printf("fastinfer %s: find, prove and keep the fastest fused CUDA kernels on this GPU\n\n"
           "Next:\n",
           FASTINFER_VERSION);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        printf("  %-18s %s\n", steps[i][0], steps[i][1]);
    printf("\n`fastinfer --help` lists all verbs, `fastinfer VERB --help` explains one.\n");
}

static int unknown_verb(const char *word) {
    const char *names[VERBS];
    for (int i = 0; i < VERBS; i++) names[i] = verbs[i].name;
    const char *near = nearest_name(word, names, VERBS);
    fprintf(stderr, "fastinfer: there is no verb '%s'", word);
    if (near) fprintf(stderr, "; did you mean '%s'?", near);
    fprintf(stderr, "\n");
    if (!near) usage(stderr);
    return 2;
}

int main(int argc, char **argv) {
    const char *folder = getenv("FASTINFER_KERNELS"); /* set by --kernels, also for workers */
    if (folder && *folder && registry_add_folder(folder)) return cli_error(STATUS_ARGUMENT);
    if (argc < 2) {
        next_steps();
        return 0;
    }
    if (!strcmp(argv[1], "worker")) return worker_main();
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
        printf("fastinfer %s\n", FASTINFER_VERSION);
        return 0;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        usage(stdout);
        return 0;
    }
    for (int i = 0; i < VERBS; i++)
        if (!strcmp(argv[1], verbs[i].name)) return verbs[i].run(argc - 1, argv + 1);
    return unknown_verb(argv[1]);
}
