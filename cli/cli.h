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
int cli_logits(int argc, char **argv);
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
/* Does --device mean a GPU, cuda:N? */
bool cli_is_gpu(const char *id);
/* What --device means, without opening it: "cuda:N", "cpu", or NULL or "auto" for the first GPU,
 * else the CPU device. With an architecture that one, which need not be here. STATUS_ARGUMENT for
 * another word. */
struct device_info;
enum status cli_describe_device(const char *id, int arch, struct device_info *out);
/* "VERB: 3 of 20, WHAT" on stderr: in place on a terminal, else a line for each tenth. A total of 0
 * is one that is not known. */
void cli_progress(const char *verb, int done, int total, const char *what);
void cli_progress_clear(void);
/* Prints "fastinfer: " and the recorded sentence, and gives the exit code of the status. */
int cli_error(enum status status);
/* "BENCH": an argp name such that usage reads "fastinfer bench ...". */
char *cli_name(const char *verb);

#endif
