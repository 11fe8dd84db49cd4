/* flatten.c - a kernel's source with all that it includes in place. A few lines of a preprocessor:
 * whole conditionals about what is known here (the compiler is a GPU's, the entry is the kernel and
 * not its check, nothing is included twice) are decided, everything else stays as it was written.
 */
#include "runtime/compile_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_FILES = 64, MAX_DEPTH = 32 };

struct flatten {
    FILE *out;
    char seen[MAX_FILES][1024];
    int files;
    bool blank; /* the last line was */
};

struct condition {
    bool known, live, outer; /* live: this branch is written; outer: the one around it was */
};

struct file {
    const char *path;
    int line, depth;
    struct condition condition[MAX_DEPTH];
};

static enum status flatten_file(struct flatten *f, const char *path);

/* 1 defined, 0 not, -1: who compiles knows. Guards count as not defined: a file is taken once. */
static int known_macro(const char *name) {
    if (!strcmp(name, "__CUDACC__")) return 1;
    bool guard = !strncmp(name, "KERNELS_", 8) || !strncmp(name, "FASTINFER_", 10);
    return guard || !strcmp(name, "CHECK") ? 0 : -1;
}

static bool is_live(const struct file *file) {
    return !file->depth || file->condition[file->depth - 1].live;
}

static enum status wrong(const struct file *file, const char *what) {
    return fail(STATUS_FORMAT, "%s:%d: %s", file->path, file->line, what);
}

/* A conditional directive. *keep: its line is written, as nothing is known of it. */
static enum status branch(struct file *file, const char *word, const char *name, bool *keep) {
    struct condition *c = file->depth ? &file->condition[file->depth - 1] : NULL;
    if (!strncmp(word, "if", 2)) {
        if (file->depth == MAX_DEPTH) return wrong(file, "conditionals are nested too deep");
        int value = strcmp(word, "if") ? known_macro(name) : -1;
        bool outer = is_live(file);
        *keep = outer && value < 0;
        bool live = value < 0 || value == !strcmp(word, "ifdef");
        file->condition[file->depth++] = (struct condition){value >= 0, outer && live, outer};
        return STATUS_OK;
    }
    if (!c) return wrong(file, "there is no #if before it");
    *keep = c->outer && !c->known;
    if (!strcmp(word, "endif"))
        file->depth--;
    else if (c->known && !strcmp(word, "elif"))
        return wrong(file, "#elif cannot be told apart here; #else was expected");
    else if (c->known)
        c->live = c->outer && !c->live;
    return STATUS_OK;
}

/* #include "name": carried by the program, or beside the file that asks for it. */
static enum status include(struct flatten *f, const struct file *file, const char *name) {
    char path[1024], near[1024];
    snprintf(path, sizeof path, "%.*s", (int)strcspn(name, "\""), name);
    if (source_find(path)) return flatten_file(f, path);
    const char *slash = strrchr(file->path, '/');
    snprintf(near, sizeof near, "%.*s/%s", slash ? (int)(slash - file->path) : 1,
             slash ? file->path : ".", path);
    if (!access(near, R_OK)) return flatten_file(f, near);
    return wrong(file, "what it includes was not found");
}

static enum status flatten_line(struct flatten *f, struct file *file, const char *line) {
    char word[16] = "", name[128] = "";
    bool keep = is_live(file);
    const char *at = line + strspn(line, " \t");
    int length = 0;
    if (*at == '#' && sscanf(at + 1, " %15[a-z]%n", word, &length) == 1) {
        const char *rest = at + 1 + length + strspn(at + 1 + length, " \t");
        sscanf(rest, "%127[A-Za-z0-9_]", name);
        if (!strncmp(word, "if", 2) || !strcmp(word, "else") || !strcmp(word, "elif") ||
            !strcmp(word, "endif"))
            TRY(branch(file, word, name, &keep));
        else if (keep && !strcmp(word, "include") && *rest == '"')
            return include(f, file, rest + 1);
        else if (!strcmp(word, "define") && !known_macro(name))
            keep = false;
    }
    bool blank = !line[strspn(line, " \t")];
    if (!keep || (blank && f->blank)) return STATUS_OK;
    f->blank = blank;
    fprintf(f->out, "%s\n", line);
    return STATUS_OK;
}

static enum status flatten_file(struct flatten *f, const char *path) {
    struct file file = {.path = path};
    char *text;
    enum status status = STATUS_OK;
    for (int i = 0; i < f->files; i++)
        if (!strcmp(f->seen[i], path)) return STATUS_OK;
    if (f->files == MAX_FILES) return fail(STATUS_FORMAT, "%s: over %d files", path, MAX_FILES);
    snprintf(f->seen[f->files++], sizeof f->seen[0], "%s", path);
    TRY(source_read(path, &text));
    for (char *line = text, *end; *line && !status; line = end) {
        end = line + strcspn(line, "\n");
        if (*end) *end++ = 0;
        file.line++;
        status = flatten_line(f, &file, line);
    }
    if (!status && file.depth) status = wrong(&file, "an #endif is missing");
    free(text);
    return status;
}

enum status source_flatten(const char *path, char **out) {
    struct flatten f = {.blank = true};
    size_t bytes;
    *out = NULL;
    f.out = open_memstream(out, &bytes);
    if (!f.out) return fail(STATUS_SYSTEM, "out of memory while reading %s", path);
    enum status status = flatten_file(&f, path);
    fclose(f.out);
    if (!status) return STATUS_OK;
    free(*out);
    *out = NULL;
    return status;
}
