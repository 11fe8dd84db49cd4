/* subject.h - a kernel and a problem on a device: buffers between guards, inputs, launches.
 *
 * Buffers come in `sets` so that launch after launch can find its data cold. Every buffer lies
 * between two guard zones of GUARD_BYTES, filled with 0xff (NaN to a kernel that reads them).
 */
#ifndef FASTINFER_SUBJECT_H
#define FASTINFER_SUBJECT_H

#include "runtime/variant.h"

enum { GUARD_BYTES = 4096, MAX_SETS = 256 };

/* What serves every measurement on a device: the functions of support.cu and a buffer to flush
 * the caches with. On the CPU device only `device` is used. */
struct support {
    struct device *device;
    struct module *module;
    struct function *fill, *touch, *empty;
    void *flush_buffer, *sink;
    size_t flush_bytes; /* twice the L2 cache */
};
enum status support_open(struct device *device, struct support *out);
void support_close(struct support *support);
/* Reads flush_bytes through the caches, so that what was there is gone and nothing is dirty. */
enum status support_flush(struct support *support);
/* Reads `bytes` of device memory with the same kernel; nothing on the CPU device. */
enum status support_read(struct support *support, const void *from, size_t bytes);

struct subject {
    struct support *support;
    const struct kernel *kernel;
    struct problem problem;
    uint64_t seed;
    int sets;
    void *arena[MAX_SETS];                  /* one allocation a set */
    void *pointer[MAX_SETS][MAX_ARGUMENTS]; /* into it; NULL for an empty argument */
    void *pristine[MAX_ARGUMENTS];          /* in-place arguments as given, on the device */
    size_t bytes[MAX_ARGUMENTS], offset[MAX_ARGUMENTS], set_bytes;
    /* verify.c's, once for all points: what set 0 should become, and the kernel's own check. */
    void *reference, *checker;
    void (*reference_free)(void *reference);
    void (*checker_free)(struct subject *subject);
};

/* Allocates `sets` sets (fewer where memory is short, at least one) and fills the inputs: element
 * values depend on `seed` and the argument alone. */
enum status subject_open(struct support *support, const struct kernel *kernel,
                         const struct problem *problem, uint64_t seed, int sets,
                         struct subject **out);
void subject_close(struct subject *subject);
/* Poisons the outputs of a set with `poison` and gives in-place arguments their inputs again. */
enum status subject_reset(struct subject *subject, int set, int poison);
/* Only the in-place arguments, for all sets: between samples. */
enum status subject_restore(struct subject *subject);
/* Are the guards of a set whole? STATUS_INCORRECT names the argument and the first byte. */
enum status subject_check_guards(struct subject *subject, int set);

/* Enqueues the variant once: activations of one set, weights of another. */
enum status subject_launch(struct subject *subject, const struct variant *variant, int set,
                           int weight_set);
/* Reads the activations of a set into the cache. */
enum status subject_touch(struct subject *subject, int set);

#endif
