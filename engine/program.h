/* program.h - launches in a row, each with its point from configs/ and its buffers bound. */
#ifndef FASTINFER_PROGRAM_H
#define FASTINFER_PROGRAM_H

#include "runtime/config.h"
#include "runtime/variant.h"

/* The variants of a device, each opened once and shared by all who ask. */
struct shelf;
enum status shelf_open(struct device *device, struct shelf **out);
/* Where points come from, from now on. configs: a folder; NULL: as config_open() finds it;
 * "default": the built-in points alone. only: a kernel's name, and all others have their built-in
 * points; NULL: none is left out. Entries that were refused end to end answer with the built-in
 * point, unless refused_too. Programs keep what they have. */
enum status shelf_select(struct shelf *shelf, const char *configs, const char *only,
                         bool refused_too);
/* The entry that answers for a problem, refused or not; false: the built-in default does. */
bool shelf_find(const struct shelf *shelf, const struct kernel *kernel,
                const struct problem *problem, struct policy policy, struct config_match *out);
bool shelf_uses(const struct shelf *shelf, const struct config_match *match);
void shelf_close(struct shelf *shelf); /* NULL is fine; closes its variants */
struct device *shelf_device(const struct shelf *shelf);
const char *shelf_origin(const struct shelf *shelf); /* as config_origin(), */
const char *shelf_path(const struct shelf *shelf);   /* config_path() */

/* A launch of a kernel by name. pointer: its arguments, in order. */
struct call {
    const char *kernel;
    struct problem problem; /* of problem_of() */
    struct policy policy;
    void *pointer[MAX_ARGUMENTS];
};
/* A problem from its text: "hidden=3072,batch=1". The kernel's name is checked, too. */
enum status problem_of(const char *kernel, enum dtype dtype, struct problem *out,
                       const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Enqueues one call, on its own. */
enum status shelf_launch(struct shelf *shelf, const struct call *call);

struct program;
enum status program_new(struct shelf *shelf, struct program **out);
void program_free(struct program *program); /* NULL is fine */
/* Compiles or finds the point that the configuration has for the call. */
enum status program_add(struct program *program, const struct call *call);
/* Records the launches as a graph, which program_run() then launches. */
enum status program_record(struct program *program);
enum status program_run(struct program *program); /* enqueues */

/* What a program does, call by call. */
struct program_line {
    const struct kernel *kernel;
    const struct problem *problem;
    const struct variant *variant;
};
int program_count(const struct program *program);
struct program_line program_at(const struct program *program, int index);
/* A program of those calls alone that launch this variant, recorded: for timing them. */
enum status program_select(const struct program *program, const struct variant *variant,
                           struct program **out);

#endif
