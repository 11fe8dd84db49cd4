/* model_options.h - the options that generate and tps share, as a child parser of argp, and the
 * engine that comes of them. */
#ifndef FASTINFER_CLI_MODEL_OPTIONS_H
#define FASTINFER_CLI_MODEL_OPTIONS_H

#include <argp.h>
#include <signal.h>

#include "engine/engine.h"

struct model_options {
    const char *model, *device, *configs;
    enum dtype dtype;
    enum step_form form;
    int64_t capacity;
    int batch;
    uint64_t seed; /* of a preset's weights, of sampling and of prompts that are made up */
    bool quiet;    /* no progress of loading */
    bool model_may_be_missing;
};
extern const struct model_options model_options_default;
/* Its input is a struct model_options. Keys of other parsers have to be above this. */
extern const struct argp model_options_argp;
enum { MODEL_OPTIONS_LAST = 767 };

/* auto, launches, persistent. */
bool model_form_parse(const char *text, enum step_form *out);

struct opened {
    struct device *device;
    struct model *model;
    struct engine *engine;
};
/* Is --model a preset's name? What is neither that nor there is an error that says what is near. */
enum status model_options_find(const struct model_options *options, bool *preset);
/* Opens all three; a note about the device goes to standard error. */
enum status model_options_open(const struct model_options *options, struct opened *out);
void model_options_close(struct opened *opened);

/* Set by the first Ctrl-C, from model_options_catch() on; the second ends the program. */
extern volatile sig_atomic_t model_interrupted;
void model_options_catch(void);

#endif
