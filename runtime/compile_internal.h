/* compile_internal.h - what compile.c, compile_cuda.c and compile_cpu.c share. */
#ifndef FASTINFER_COMPILE_INTERNAL_H
#define FASTINFER_COMPILE_INTERNAL_H

#include "runtime/compile.h"

/* One binary to make: a source with its macros. */
struct unit {
    const char *source; /* path, as in struct kernel */
    const char *entry[MAX_STAGES];
    int entries;
    char defines[2048]; /* "-DBLOCK=128 -DVECTOR_BYTES=16 ...", single spaces */
    int threads;        /* of a block, for occupancy; 0 unknown */
    unsigned dynamic_bytes;
    char key[33];
    struct build *build;
};

/* The text of a source the program carries or, where the path is absolute, of a file. The caller
 * frees *out. */
enum status source_read(const char *path, char **out);
/* A folder that holds every source the program carries, for -I; made on first use. */
enum status source_folder(char *out, size_t bytes);
/* Writes `bytes` to `path` through a temporary file and a rename. */
enum status file_write(const char *path, const void *data, size_t bytes);

/* Each compiles one unit whose key is set; fills unit->build except cached and occupancy. */
void cuda_compile_unit(struct unit *unit, int arch, const char *folder);
/* The CPU's compiles all units, of one source, into one shared object. */
enum status cpu_compile_units(struct unit *units, int count, bool counted, const char *folder);
enum status cpu_compiler(const char **command, char *version, size_t bytes);

#endif
