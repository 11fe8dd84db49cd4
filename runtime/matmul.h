/* matmul.h - matrix products on a device: cuBLASLt on a GPU, CBLAS on the CPU device, each opened
 * at run time. Without CBLAS (libopenblas.so.0, libblas.so.3) the CPU device takes a loop of ours.
 * FASTINFER_MATMUL=none: nobody multiplies, as where the library is missing. */
#ifndef FASTINFER_MATMUL_H
#define FASTINFER_MATMUL_H

#include "runtime/device.h"

struct matmul;
/* STATUS_MISSING names the library and the package where a GPU has no cuBLASLt. */
enum status matmul_open(struct device *device, struct matmul **out);
void matmul_close(struct matmul *matmul);             /* NULL is fine */
const char *matmul_name(const struct matmul *matmul); /* "cuBLASLt 13.1 (path)", "OpenBLAS ..." */

/* c = a b^T, or c += a b^T: a (m, k), b (n, k), c (m, n), all row-major without gaps, a and b in
 * `dtype` (fp16, bf16, fp32), c in `out`: the same, or fp32. Sums are fp32. */
struct product {
    int64_t m, n, k;
    enum dtype dtype, out;
    bool accumulate;
    const void *a, *b; /* of the device, as c aligned to 256 bytes */
    void *c;
};
/* Enqueues on the device's stream; on the CPU device it is done on return. */
enum status matmul_run(struct matmul *matmul, const struct product *product);

#endif
