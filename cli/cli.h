/* cli.h - the verbs of the program. Each returns the exit code: 0 done, 1 a verdict against, 2 an
 * error (already printed), 130 interrupted. */
#ifndef FASTINFER_CLI_H
#define FASTINFER_CLI_H

#include "runtime/kernel.h"

#define FASTINFER_VERSION "0.1.0"

int cli_devices(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_tune(int argc, char **argv);
int cli_export(int argc, char **argv);
int cli_report(int argc, char **argv);
int cli_plot(int argc, char **argv);
int cli_build(int argc, char **argv);
int cli_gate(int argc, char **argv);
int cli_calibrate(int argc, char **argv);
int cli_explain(int argc, char **argv);
int cli_replay(int argc, char **argv);
int cli_config(int argc, char **argv);
int cli_generate(int argc, char **argv);
int cli_tps(int argc, char **argv);
int cli_tokenize(int argc, char **argv);
int cli_completion(int argc, char **argv);

/* The table of verbs, in the order in which --help shows them. */
struct verb {
    const char *name, *help;
    int (*run)(int argc, char **argv);
};
int cli_verbs(void);
const struct verb *cli_verb(int index);

struct argp_state;
/* A whole number from least to most; else the usage error that argp_error() makes of it. */
long long cli_number(struct argp_state *state, const char *text, long long least, long long most);
/* "sm_75" or "75", and "fp16": else a usage error. */
int cli_arch(struct argp_state *state, const char *text);
enum dtype cli_dtype(struct argp_state *state, const char *text);
/* Prints "fastinfer: " and the recorded sentence, and gives the exit code of the status. */
int cli_error(enum status status);
/* "BENCH": an argp name such that usage reads "fastinfer bench ...". */
char *cli_name(const char *verb);

#endif
