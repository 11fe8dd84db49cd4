/* registry.c - the list of kernels, and kernels from folders outside the tree. */
#include "kernels/registry.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/compile.h"
#include "runtime/hash.h"

extern char **environ;

#ifndef FASTINFER_ROOT
#define FASTINFER_ROOT "."
#endif
#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

#define KERNEL_LIST(X)                                                                             \
    X(rmsnorm)                                                                                     \
    X(add_rmsnorm)                                                                                 \
    X(swiglu)                                                                                      \
    X(rope)                                                                                        \
    X(rope_kv_append)                                                                              \
    X(stream)                                                                                      \
    X(embed)                                                                                       \
    X(norm_wide)                                                                                   \
    X(gemv)                                                                                        \
    X(gemv_residual)                                                                               \
    X(gemv_norm)                                                                                   \
    X(gemv_norm_swiglu)                                                                            \
    X(attention_decode)                                                                            \
    X(qkv_append)                                                                                  \
    X(attention_prefill)                                                                           \
    X(sample)                                                                                      \
    X(decode_step)

#define X(name) extern const struct kernel kernel_##name;
KERNEL_LIST(X)
#undef X

static const struct kernel *const ours[] = {
#define X(name) &kernel_##name,
    KERNEL_LIST(X)
#undef X
};

enum { MAX_KERNELS = 64 };
static const struct kernel *kernels[MAX_KERNELS];
static int kernel_count;

int registry_count(void) {
    if (!kernel_count) {
        memcpy(kernels, ours, sizeof ours);
        kernel_count = COUNT(ours);
    }
    return kernel_count;
}

const struct kernel *registry_at(int index) {
    return index >= 0 && index < registry_count() ? kernels[index] : NULL;
}

enum status registry_find(const char *name, const struct kernel **out) {
    const char *names[MAX_KERNELS];
    char list[MAX_TEXT] = "";
    size_t n = 0;
    for (int i = 0; i < registry_count(); i++) {
        names[i] = kernels[i]->name;
        if (!strcmp(names[i], name)) return *out = kernels[i], STATUS_OK;
        if (n < sizeof list)
            n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", names[i]);
    }
    const char *near = nearest_name(name, names, kernel_count);
    if (near)
        return fail(STATUS_ARGUMENT, "there is no kernel '%s'; did you mean '%s'?", name, near);
    return fail(STATUS_ARGUMENT, "there is no kernel '%s'; there are: %s", name, list);
}

/* --- from outside ------------------------------------------------------------------------------
 */

static const char *root(void) {
    const char *own = getenv("FASTINFER_ROOT");
    return own && *own ? own : FASTINFER_ROOT;
}

static enum status hash_file(struct hash *hash, const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) return fail(STATUS_SYSTEM, "%s could not be read: %s", path, strerror(errno));
    char buffer[4096];
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, file)) > 0;) hash_add(hash, buffer, n);
    bool broken = ferror(file);
    fclose(file);
    return broken ? fail(STATUS_SYSTEM, "%s could not be read to its end", path) : STATUS_OK;
}

/* An operation of a folder: DIR/<op>/<op>.c and what is made of it. */
struct outside {
    char folder[1024], op[64]; /* folder: DIR/<op>, absolute */
    char spec[1200], source[1200], object[1200];
};

/* Names the object after all that goes into it, so that a change is compiled and nothing else. */
static enum status name_object(struct outside *o) {
    static const char *const headers[] = {"runtime/kernel.h", "runtime/device.h",
                                          "kernels/shapes.h"};
    char cache[900], path[4096], key[33];
    TRY(cache_folder(cache, sizeof cache));
    struct hash *hash = hash_new();
    enum status status = hash_file(hash, o->spec);
    DIR *folder = opendir(o->folder);
    for (struct dirent *e; folder && !status && (e = readdir(folder));) {
        size_t n = strlen(e->d_name);
        if (n < 3 || strcmp(e->d_name + n - 2, ".h")) continue;
        snprintf(path, sizeof path, "%s/%s", o->folder, e->d_name);
        hash_text(hash, e->d_name);
        status = hash_file(hash, path);
    }
    if (folder) closedir(folder);
    for (int i = 0; i < COUNT(headers) && !status; i++) {
        snprintf(path, sizeof path, "%s/%s", root(), headers[i]);
        status = hash_file(hash, path);
        if (status)
            fail_context(status, "a kernel from outside needs the tree's headers (FASTINFER_ROOT)");
    }
    hash_end(hash, key);
    snprintf(o->object, sizeof o->object, "%s/spec-%s-%s.so", cache, o->op, key);
    return status;
}

static void read_errors(const char *path, char *out, size_t bytes) {
    FILE *file = fopen(path, "r");
    size_t n = file ? fread(out, 1, bytes - 1, file) : 0;
    out[n] = 0;
    if (file) fclose(file);
}

static enum status compile_spec(const struct outside *o) {
    const char *own = getenv("CC"), *compiler = own && *own ? own : "cc";
    char include[1100], near[1100], temporary[1300], log[1310], errors[1200];
    snprintf(include, sizeof include, "-I%s", root());
    snprintf(near, sizeof near, "-I%s", o->folder);
    snprintf(temporary, sizeof temporary, "%s.%ld.tmp", o->object, (long)getpid());
    snprintf(log, sizeof log, "%s.log", temporary);
    const char *argv[] = {compiler, "-shared", "-fPIC", "-O1",     "-std=c17", "-D_GNU_SOURCE",
                          include,  near,      "-o",    temporary, o->spec,    NULL};
    posix_spawn_file_actions_t actions;
    pid_t child;
    int state = -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 2, log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    int error =
        posix_spawnp(&child, compiler, &actions, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error)
        return fail(STATUS_MISSING, "%s: the C compiler '%s' could not be started: %s", o->spec,
                    compiler, strerror(error));
    while (waitpid(child, &state, 0) < 0 && errno == EINTR) {
    }
    read_errors(log, errors, sizeof errors);
    unlink(log);
    if (state) {
        unlink(temporary);
        return fail(STATUS_COMPILE, "%s does not compile:\n%s", o->spec, errors);
    }
    if (rename(temporary, o->object))
        return fail(STATUS_SYSTEM, "%s could not be written: %s", o->object, strerror(errno));
    return STATUS_OK;
}

static enum status add_kernel(const struct kernel *kernel) {
    for (int i = 0; i < registry_count(); i++)
        if (!strcmp(kernels[i]->name, kernel->name)) return kernels[i] = kernel, STATUS_OK;
    if (kernel_count == MAX_KERNELS)
        return fail(STATUS_ARGUMENT, "there are already %d kernels; no room for '%s'", MAX_KERNELS,
                    kernel->name);
    kernels[kernel_count++] = kernel;
    return STATUS_OK;
}

/* The library and the copy stay until the program ends, as our own kernels do. */
static enum status load_spec(const struct outside *o) {
    char symbol[96];
    snprintf(symbol, sizeof symbol, "kernel_%s", o->op);
    void *library = dlopen(o->object, RTLD_NOW | RTLD_LOCAL);
    if (!library) return fail(STATUS_MISSING, "%s could not be loaded: %s", o->spec, dlerror());
    const struct kernel *theirs = dlsym(library, symbol);
    if (!theirs) {
        dlclose(library);
        return fail(STATUS_FORMAT, "%s: no 'const struct kernel %s' in it", o->spec, symbol);
    }
    struct kernel *copy = malloc(sizeof *copy);
    char *source = strdup(o->source);
    if (!copy || !source) {
        free(copy), free(source), dlclose(library);
        return fail(STATUS_SYSTEM, "out of memory while loading %s", o->spec);
    }
    *copy = *theirs;
    copy->source = source;
    return add_kernel(copy);
}

static enum status add_operation(const char *folder, const char *op) {
    struct outside o;
    size_t length = strlen(folder) + strlen(op);
    if (length >= sizeof o.folder - 1 || strlen(op) >= sizeof o.op)
        return fail(STATUS_ARGUMENT, "%s/%.80s: the name is too long", folder, op);
    snprintf(o.folder, sizeof o.folder, "%s/%s", folder, op);
    snprintf(o.op, sizeof o.op, "%s", op);
    snprintf(o.spec, sizeof o.spec, "%s/%s.c", o.folder, op);
    snprintf(o.source, sizeof o.source, "%s/%s.cu", o.folder, op);
    if (access(o.source, R_OK))
        return fail(STATUS_ARGUMENT, "%s has no %s.cu beside its %s.c", o.folder, op, op);
    TRY(name_object(&o));
    if (access(o.object, R_OK)) TRY(compile_spec(&o));
    return load_spec(&o);
}

static int is_operation(const char *folder, const char *op) {
    char spec[4096];
    if (op[0] == '.') return 0;
    int n = snprintf(spec, sizeof spec, "%s/%s/%s.c", folder, op, op);
    return n < (int)sizeof spec && !access(spec, F_OK);
}

enum status registry_add_folder(const char *folder) {
    char *path = realpath(folder, NULL);
    if (!path) return fail(STATUS_ARGUMENT, "--kernels %s: %s", folder, strerror(errno));
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, NULL, alphasort), found = 0;
    enum status status = STATUS_OK;
    if (count < 0) status = fail(STATUS_ARGUMENT, "--kernels %s: %s", folder, strerror(errno));
    for (int i = 0; i < count; i++) {
        if (!status && is_operation(path, entries[i]->d_name)) {
            found++;
            status = add_operation(path, entries[i]->d_name);
        }
        free(entries[i]);
    }
    free(entries);
    free(path);
    if (!status && !found)
        return fail(STATUS_ARGUMENT,
                    "--kernels %s holds no kernel: DIR/<op>/<op>.c beside DIR/<op>/<op>.cu was "
                    "expected",
                    folder);
    return status;
}
