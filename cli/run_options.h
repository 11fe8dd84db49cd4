/* run_options.h - the options that bench and tune share, as a child parser of argp. */
#ifndef FASTINFER_CLI_RUN_OPTIONS_H
#define FASTINFER_CLI_RUN_OPTIONS_H

#include <argp.h>

#include "harness/bench.h"

struct run_options {
    struct bench_options bench;
    const char *names[MAX_KERNELS]; /* of kernels, to be found when all folders are known */
    int name_count;
    bool json;
};
extern const struct run_options run_options_default;
/* Its input is a struct run_options. Keys of other parsers have to be above this. */
extern const struct argp run_options_argp;
enum { RUN_OPTIONS_LAST = 511 };

/* The command line for the record, without the folders of this machine. Before argp sees it. */
void run_options_record(struct run_options *options, int argc, char **argv);
/* Finds the kernels; what belongs to one kernel needs one. */
enum status run_options_check(struct run_options *options);

#endif
