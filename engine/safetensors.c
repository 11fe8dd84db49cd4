#include "engine/safetensors.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* the limit of the format's own library */
enum { MAX_HEADER_BYTES = 100000000, MAX_SHARDS = 4096 };

static const struct {
    const char *name;
    enum dtype dtype;
    int bits;
} kinds[] = {
    {"F16", DTYPE_F16, 16},      {"BF16", DTYPE_BF16, 16},    {"F32", DTYPE_F32, 32},
    {"F64", DTYPE_COUNT, 64},    {"I64", DTYPE_COUNT, 64},    {"U64", DTYPE_COUNT, 64},
    {"C64", DTYPE_COUNT, 64},    {"I32", DTYPE_COUNT, 32},    {"U32", DTYPE_COUNT, 32},
    {"I16", DTYPE_COUNT, 16},    {"U16", DTYPE_COUNT, 16},    {"I8", DTYPE_COUNT, 8},
    {"U8", DTYPE_COUNT, 8},      {"BOOL", DTYPE_COUNT, 8},    {"F8_E4M3", DTYPE_COUNT, 8},
    {"F8_E5M2", DTYPE_COUNT, 8}, {"F8_E8M0", DTYPE_COUNT, 8}, {"F6_E2M3", DTYPE_COUNT, 6},
    {"F6_E3M2", DTYPE_COUNT, 6}, {"F4", DTYPE_COUNT, 4},
};

struct shard {
    char *path;
    const unsigned char *file;
    size_t bytes;
    bool mapped;
    json_t *header; /* owns the tensors' names */
};

struct safetensors {
    struct shard *shards;
    int shard_count;
    struct tensor *tensors; /* sorted by name once open */
    size_t count, room;
};

static enum status add(struct safetensors *files, const struct tensor *tensor) {
    if (files->count == files->room) {
        size_t room = files->room ? 2 * files->room : 256;
        struct tensor *more = realloc(files->tensors, room * sizeof *more);
        if (!more) return fail(STATUS_SYSTEM, "out of memory");
        files->tensors = more, files->room = room;
    }
    files->tensors[files->count++] = *tensor;
    return STATUS_OK;
}

/* --- one entry of a header -------------------------------------------------------------------- */

/* The shape, and the number of elements; -1 where the product leaves int64. */
static enum status read_shape(const json_t *json, struct tensor *t, int64_t *elements) {
    size_t i, rank = json_array_size(json);
    json_t *item;
    if (!json_is_array(json) || rank > TENSOR_MAX_RANK)
        return fail(STATUS_FORMAT,
                    "%s: tensor '%s': a \"shape\" of at most %d numbers was expected", t->where,
                    t->name, TENSOR_MAX_RANK);
    t->rank = (int)rank, *elements = 1;
    bool empty = false, huge = false;
    json_array_foreach(json, i, item) {
        t->shape[i] = json_integer_value(item);
        if (!json_is_integer(item) || t->shape[i] < 0)
            return fail(STATUS_FORMAT, "%s: tensor '%s': shape[%zu] is no number from 0 up",
                        t->where, t->name, i);
        empty |= t->shape[i] == 0;
        huge = huge || __builtin_mul_overflow(*elements, t->shape[i], elements);
    }
    if (empty)
        *elements = 0; /* whatever the other factors are */
    else if (huge)
        *elements = -1;
    return STATUS_OK;
}

static enum status read_kind(const json_t *json, struct tensor *t, int *bits) {
    t->kind = json_string_value(json), t->dtype = DTYPE_COUNT, *bits = 0;
    if (!t->kind)
        return fail(STATUS_FORMAT, "%s: tensor '%s': no text \"dtype\" was found", t->where,
                    t->name);
    for (size_t i = 0; i < COUNT_OF(kinds); i++)
        if (!strcmp(kinds[i].name, t->kind)) t->dtype = kinds[i].dtype, *bits = kinds[i].bits;
    return STATUS_OK;
}

static enum status read_tensor(const struct shard *shard, size_t data, const char *name,
                               const json_t *json, struct tensor *t) {
    const json_t *ends = json_object_get(json, "data_offsets");
    const json_t *first = json_array_get(ends, 0), *last = json_array_get(ends, 1);
    size_t room = shard->bytes - data;
    int64_t elements = 0, bits;
    int width;
    *t = (struct tensor){.name = name, .where = shard->path};
    if (!json_is_object(json) || json_array_size(ends) != 2 || !json_is_integer(first) ||
        !json_is_integer(last))
        return fail(STATUS_FORMAT, "%s: tensor '%s': \"data_offsets\": [first, end] was expected",
                    shard->path, name);
    TRY(read_kind(json_object_get(json, "dtype"), t, &width));
    TRY(read_shape(json_object_get(json, "shape"), t, &elements));
    int64_t from = json_integer_value(first), to = json_integer_value(last);
    if (from < 0 || to < from || (uint64_t)to > room)
        return fail(STATUS_FORMAT,
                    "%s: tensor '%s': bytes %lld to %lld lie outside the file's %zu bytes of data",
                    shard->path, name, (long long)from, (long long)to, room);
    t->bytes = (size_t)(to - from), t->data = shard->file + data + from;
    if (!width) return STATUS_OK; /* a dtype of tomorrow: refused when asked for */
    if (elements < 0 || __builtin_mul_overflow(elements, (int64_t)width, &bits) || bits % 8 ||
        (uint64_t)bits / 8 != t->bytes)
        return fail(STATUS_FORMAT,
                    "%s: tensor '%s': its shape in %s does not make the %zu bytes at its offsets",
                    shard->path, name, t->kind, t->bytes);
    return STATUS_OK;
}

/* --- one file -----------------------------------------------------------------------------------
 */

static int by_place(const void *a, const void *b) {
    const struct tensor *x = a, *y = b;
    const char *p = x->data, *q = y->data;
    if (p != q) return p < q ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* an empty one before its neighbour */
}

/* The tensors must cover the data, each byte once. */
static enum status check_cover(const struct shard *shard, size_t data, struct tensor *tensors,
                               size_t count) {
    const char *at = (const char *)shard->file + data;
    const char *end = (const char *)shard->file + shard->bytes;
    if (count) qsort(tensors, count, sizeof *tensors, by_place);
    for (size_t i = 0; i < count; i++) {
        const char *from = tensors[i].data;
        if (from < at)
            return fail(STATUS_FORMAT, "%s: tensors '%s' and '%s' overlap", shard->path,
                        tensors[i ? i - 1 : 0].name, tensors[i].name);
        if (from > at)
            return fail(STATUS_FORMAT, "%s: %zu bytes before tensor '%s' belong to no tensor",
                        shard->path, (size_t)(from - at), tensors[i].name);
        at = from + tensors[i].bytes;
    }
    if (at != end)
        return fail(STATUS_FORMAT, "%s: the last %zu bytes belong to no tensor", shard->path,
                    (size_t)(end - at));
    return STATUS_OK;
}

static enum status read_length(const struct shard *shard, size_t *length) {
    uint64_t said = 0;
    if (shard->bytes < 8)
        return fail(STATUS_FORMAT,
                    "%s: it has %zu bytes; a safetensors file begins with 8 bytes "
                    "of header length",
                    shard->path, shard->bytes);
    for (int i = 7; i >= 0; i--) said = said << 8 | shard->file[i];
    if (said > MAX_HEADER_BYTES)
        return fail(STATUS_FORMAT, "%s: a header of %llu bytes; at most %d were expected",
                    shard->path, (unsigned long long)said, MAX_HEADER_BYTES);
    if (said > shard->bytes - 8)
        return fail(STATUS_FORMAT,
                    "%s: the file ends in its header: %llu bytes of header were announced, "
                    "%zu are there (an interrupted download?)",
                    shard->path, (unsigned long long)said, shard->bytes - 8);
    *length = (size_t)said;
    return STATUS_OK;
}

static enum status read_header(struct safetensors *files, struct shard *shard) {
    size_t length = 0, before = files->count;
    json_error_t error;
    const char *name;
    json_t *entry;
    TRY(read_length(shard, &length));
    shard->header =
        json_loadb((const char *)shard->file + 8, length, JSON_REJECT_DUPLICATES, &error);
    if (!shard->header)
        return fail(STATUS_FORMAT,
                    "%s: header:%d: %s; a JSON object with each name once was "
                    "expected",
                    shard->path, error.line, error.text);
    if (!json_is_object(shard->header))
        return fail(STATUS_FORMAT, "%s: the header is no JSON object", shard->path);
    json_object_foreach(shard->header, name, entry) {
        struct tensor tensor;
        if (!strcmp(name, "__metadata__")) continue; /* free text */
        TRY(read_tensor(shard, 8 + length, name, entry, &tensor));
        TRY(add(files, &tensor));
    }
    struct tensor *own = files->tensors ? files->tensors + before : NULL;
    return check_cover(shard, 8 + length, own, files->count - before);
}

static enum status map_file(struct shard *shard) {
    struct stat facts;
    int file = open(shard->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) return fail(STATUS_MISSING, "%s: %m; a weight file was expected", shard->path);
    if (fstat(file, &facts) || !S_ISREG(facts.st_mode) || facts.st_size < 8) {
        close(file);
        return fail(STATUS_FORMAT, "%s: a safetensors file of at least 8 bytes was expected",
                    shard->path);
    }
    void *at = mmap(NULL, (size_t)facts.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    close(file);
    if (at == MAP_FAILED) return fail(STATUS_SYSTEM, "%s: mmap: %m", shard->path);
    shard->file = at, shard->bytes = (size_t)facts.st_size, shard->mapped = true;
    return STATUS_OK;
}

/* NULL, with a sentence, where memory ran out. */
static struct shard *new_shard(struct safetensors *files, const char *path) {
    struct shard *more = realloc(files->shards, (size_t)(files->shard_count + 1) * sizeof *more);
    char *copy = strdup(path);
    if (more) files->shards = more;
    if (!more || !copy) {
        free(copy);
        fail(STATUS_SYSTEM, "out of memory");
        return NULL;
    }
    more[files->shard_count] = (struct shard){.path = copy};
    return &more[files->shard_count++];
}

static enum status open_file(struct safetensors *files, const char *path) {
    struct shard *shard = new_shard(files, path);
    if (!shard) return STATUS_SYSTEM;
    TRY(map_file(shard));
    return read_header(files, shard);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct tensor *)a)->name, ((const struct tensor *)b)->name);
}

static enum status sort_names(struct safetensors *files) {
    if (files->count) qsort(files->tensors, files->count, sizeof *files->tensors, by_name);
    for (size_t i = 1; i < files->count; i++)
        if (!by_name(&files->tensors[i - 1], &files->tensors[i]))
            return fail(STATUS_FORMAT, "tensor '%s' is in both %s and %s; one was expected",
                        files->tensors[i].name, files->tensors[i - 1].where,
                        files->tensors[i].where);
    return STATUS_OK;
}

/* --- many files ---------------------------------------------------------------------------------
 */

/* A shard lies in the folder itself: no path leads out of it. */
static bool plain_name(const char *name) {
    size_t length = strlen(name);
    const char *tail = ".safetensors";
    return length > strlen(tail) && !strchr(name, '/') && name[0] != '.' &&
           !strcmp(name + length - strlen(tail), tail);
}

static enum status open_shards(struct safetensors *files, const char *folder, const char *index,
                               json_t *map) {
    const char *name;
    json_t *value;
    json_t *seen = json_object(); /* shard's name -> true */
    enum status status = seen ? STATUS_OK : fail(STATUS_SYSTEM, "out of memory");
    if (!json_is_object(map) || !json_object_size(map))
        status = fail(STATUS_FORMAT, "%s: an object \"weight_map\" was expected", index);
    json_object_foreach(map, name, value) {
        const char *file = json_string_value(value);
        char path[4400];
        if (status) break;
        if (!file || !plain_name(file)) {
            status = fail(STATUS_FORMAT,
                          "%s: tensor '%s' is said to lie in '%s'; the name of a .safetensors file "
                          "in the same folder was expected",
                          index, name, file ? file : "(no text)");
        } else if (!json_object_get(seen, file)) {
            snprintf(path, sizeof path, "%s/%s", folder, file);
            if (files->shard_count >= MAX_SHARDS)
                status = fail(STATUS_FORMAT, "%s: more than %d files", index, MAX_SHARDS);
            else if (json_object_set_new(seen, file, json_true()))
                status = fail(STATUS_SYSTEM, "out of memory");
            else if ((status = open_file(files, path)))
                fail_context(status, "%s", index);
        }
    }
    json_decref(seen);
    return status;
}

/* Each name of the index must be in the file that the index names. */
static enum status check_index(const struct safetensors *files, const char *index, json_t *map) {
    const char *name;
    json_t *value;
    json_object_foreach(map, name, value) {
        const struct tensor *tensor = safetensors_find(files, name);
        const char *slash = tensor ? strrchr(tensor->where, '/') : NULL;
        if (!slash || strcmp(slash + 1, json_string_value(value)) != 0)
            return fail(STATUS_FORMAT, "%s: tensor '%s' is not in %s", index, name,
                        json_string_value(value));
    }
    return STATUS_OK;
}

static enum status open_folder(struct safetensors *files, const char *folder) {
    char path[4200];
    json_error_t error;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    if (!access(path, F_OK)) {
        TRY(open_file(files, path));
        return sort_names(files);
    }
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
    if (access(path, F_OK))
        return fail(STATUS_MISSING,
                    "%s: neither model.safetensors nor model.safetensors.index.json was found",
                    folder);
    json_t *index = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (!index)
        return fail(STATUS_FORMAT, "%s:%d: %s; an index of shards was expected", path, error.line,
                    error.text);
    json_t *map = json_object_get(index, "weight_map");
    enum status status = open_shards(files, folder, path, map);
    if (!status) status = sort_names(files);
    if (!status) status = check_index(files, path, map);
    json_decref(index);
    return status;
}

/* --- what callers see ---------------------------------------------------------------------------
 */

enum status safetensors_open(const char *path, struct safetensors **out) {
    struct stat facts;
    *out = NULL;
    if (strlen(path) > 4095) return fail(STATUS_ARGUMENT, "a path of over 4095 bytes");
    if (stat(path, &facts))
        return fail(STATUS_MISSING, "%s: %m; a model's folder or a .safetensors file was expected",
                    path);
    struct safetensors *files = calloc(1, sizeof *files);
    if (!files) return fail(STATUS_SYSTEM, "out of memory");
    enum status status;
    if (S_ISDIR(facts.st_mode))
        status = open_folder(files, path);
    else if (!(status = open_file(files, path)))
        status = sort_names(files);
    if (status)
        safetensors_close(files);
    else
        *out = files;
    return status;
}

enum status safetensors_open_memory(const void *file, size_t bytes, const char *label,
                                    struct safetensors **out) {
    *out = NULL;
    struct safetensors *files = calloc(1, sizeof *files);
    if (!files) return fail(STATUS_SYSTEM, "out of memory");
    enum status status = STATUS_SYSTEM;
    struct shard *shard = new_shard(files, label);
    if (shard) {
        shard->file = file, shard->bytes = bytes;
        status = read_header(files, shard);
    }
    if (!status) status = sort_names(files);
    if (status)
        safetensors_close(files);
    else
        *out = files;
    return status;
}

void safetensors_close(struct safetensors *files) {
    if (!files) return;
    for (int i = 0; i < files->shard_count; i++) {
        struct shard *shard = &files->shards[i];
        if (shard->mapped) munmap((void *)(uintptr_t)shard->file, shard->bytes);
        json_decref(shard->header);
        free(shard->path);
    }
    free(files->shards), free(files->tensors), free(files);
}

int safetensors_files(const struct safetensors *files) { return files->shard_count; }
const char *safetensors_path(const struct safetensors *files, int index) {
    return files->shards[index].path;
}

int safetensors_count(const struct safetensors *files) { return (int)files->count; }
const struct tensor *safetensors_at(const struct safetensors *files, int index) {
    return &files->tensors[index];
}

const struct tensor *safetensors_find(const struct safetensors *files, const char *name) {
    struct tensor key = {.name = name};
    if (!files->count) return NULL;
    return bsearch(&key, files->tensors, files->count, sizeof key, by_name);
}

static void shape_text(int rank, const int64_t *shape, char *out, size_t bytes) {
    size_t at = (size_t)snprintf(out, bytes, "(");
    for (int i = 0; i < rank && at < bytes; i++)
        at += (size_t)snprintf(out + at, bytes - at, "%s%lld", i ? ", " : "", (long long)shape[i]);
    if (at < bytes) snprintf(out + at, bytes - at, ")");
}

enum status safetensors_weight(const struct safetensors *files, const char *name, int rank,
                               const int64_t *shape, struct tensor *out) {
    char has[200], wants[200];
    const struct tensor *t = safetensors_find(files, name);
    shape_text(rank, shape, wants, sizeof wants);
    if (!t)
        return fail(STATUS_FORMAT, "%s: there is no tensor '%s'; one of shape %s was expected",
                    files->shard_count ? files->shards[0].path : "(no file)", name, wants);
    if (t->dtype == DTYPE_COUNT)
        return fail(STATUS_FORMAT, "%s: tensor '%s' is %.32s; F16, BF16 or F32 was expected",
                    t->where, name, t->kind);
    shape_text(t->rank, t->shape, has, sizeof has);
    if (t->rank != rank || (rank && memcmp(t->shape, shape, (size_t)rank * sizeof *shape) != 0))
        return fail(STATUS_FORMAT, "%s: tensor '%s' has shape %s; %s was expected", t->where, name,
                    has, wants);
    if (!t->bytes) return fail(STATUS_FORMAT, "%s: tensor '%s' is empty", t->where, name);
    if ((uintptr_t)t->data % dtype_bytes(t->dtype))
        return fail(STATUS_FORMAT,
                    "%s: tensor '%s' is not aligned to its %zu-byte elements; save the file anew "
                    "with a current safetensors library",
                    t->where, name, dtype_bytes(t->dtype));
    *out = *t;
    return STATUS_OK;
}
