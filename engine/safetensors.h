/* safetensors.h - weight files: tensors by name in *.safetensors, mapped, never copied.
 *
 * The format (github.com/huggingface/safetensors): 8 bytes little-endian length of a JSON header,
 * the header, then data. The header maps names to {"dtype", "shape", "data_offsets": [first, end]};
 * offsets count from the end of the header and together cover the data without hole or overlap.
 * A model in several files has model.safetensors.index.json, whose "weight_map" maps names to
 * files.
 *
 * Nothing in a file is trusted: what breaks these rules is refused with STATUS_FORMAT and a
 * sentence that names the file. A file must not be made shorter while it is open. */
#ifndef FASTINFER_SAFETENSORS_H
#define FASTINFER_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/kernel.h"

enum { TENSOR_MAX_RANK = 8 };

struct tensor {
    const char *name;  /* lives as long as the file is open */
    const char *where; /* the file it lies in */
    const char *kind;  /* the dtype as written: "F16", "I64", ... */
    enum dtype dtype;  /* fp16, bf16 or fp32; DTYPE_COUNT: another, no weight */
    int rank;
    int64_t shape[TENSOR_MAX_RANK];
    const void *data; /* into the mapping, row-major; NULL: no such tensor in this model */
    size_t bytes;
};

struct safetensors;

/* `path`: a .safetensors file, or a folder with model.safetensors or an index and its shards. */
enum status safetensors_open(const char *path, struct safetensors **out);
/* One file that lies in memory, which the caller keeps; `label` stands for its path. */
enum status safetensors_open_memory(const void *file, size_t bytes, const char *label,
                                    struct safetensors **out);
void safetensors_close(struct safetensors *files); /* NULL is fine */

int safetensors_files(const struct safetensors *files);
const char *safetensors_path(const struct safetensors *files, int index);

int safetensors_count(const struct safetensors *files);
const struct tensor *safetensors_at(const struct safetensors *files, int index); /* by name */
const struct tensor *safetensors_find(const struct safetensors *files, const char *name); /* NULL */

/* A weight: a tensor that is there, is fp16, bf16 or fp32, has this shape, is not empty and is
 * aligned to its elements; else STATUS_FORMAT. */
enum status safetensors_weight(const struct safetensors *files, const char *name, int rank,
                               const int64_t *shape, struct tensor *out);

#endif
