/* matmul_internal.h - what matmul.c and matmul_cuda.c share. */
#ifndef FASTINFER_MATMUL_INTERNAL_H
#define FASTINFER_MATMUL_INTERNAL_H

#include "runtime/matmul.h"

struct matmul {
    struct device *device;
    char name[512];
    enum status (*run)(struct matmul *, const struct product *);
    void (*close)(struct matmul *); /* frees it, too */
};

enum status matmul_open_cuda(struct device *device, struct matmul **out);

#endif
