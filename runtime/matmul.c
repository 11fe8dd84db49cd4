/* matmul.c - the CPU device's products: fp32 through CBLAS, other dtypes converted a panel at a
 * time, so that a large weight never stands twice in memory. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/matmul_internal.h"

/* As cblas.h has it; the enumerations are ints: 101 row-major, 111 as it is, 112 transposed. */
typedef void sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha,
                   const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc);

struct cpu_matmul {
    struct matmul matmul; /* first, so that a matmul is one of these */
    sgemm *sgemm;
    float *a, *b, *c; /* converted */
    size_t a_count, b_count, c_count;
};

/* c (m, n) = a (m, k) b (n, k)^T, without a library. */
static void plain_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k,
                        float alpha, const float *a, int lda, const float *b, int ldb, float beta,
                        float *c, int ldc) {
    (void)order, (void)transpose_a, (void)transpose_b;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            float sum = 0;
            for (int t = 0; t < k; t++) sum += a[i * lda + t] * b[j * ldb + t];
            float *to = &c[i * ldc + j];
            *to = alpha * sum + (beta == 0 ? 0 : beta * *to);
        }
}

static enum status room(float **array, size_t *have, int64_t want) {
    if (*have >= (size_t)want) return STATUS_OK;
    free(*array);
    *array = malloc((size_t)want * sizeof **array);
    *have = *array ? (size_t)want : 0;
    return *array ? STATUS_OK : fail(STATUS_SYSTEM, "out of memory for a matrix product");
}

/* What of an array can be used as it is, else a converted copy. */
static enum status as_float(const void *array, enum dtype dtype, int64_t first, int64_t count,
                            float **copy, size_t *have, const float **out) {
    if (dtype == DTYPE_F32) return *out = (const float *)array + first, STATUS_OK;
    TRY(room(copy, have, count));
    for (int64_t i = 0; i < count; i++) (*copy)[i] = (float)dtype_load(dtype, array, first + i);
    *out = *copy;
    return STATUS_OK;
}

enum { PANEL = 256 }; /* rows of b, columns of c */

static enum status cpu_run(struct matmul *matmul, const struct product *p) {
    struct cpu_matmul *s = (struct cpu_matmul *)matmul;
    int m = (int)p->m, k = (int)p->k;
    const float *a, *b;
    TRY(as_float(p->a, p->dtype, 0, p->m * p->k, &s->a, &s->a_count, &a));
    TRY(room(&s->c, &s->c_count, p->m * PANEL));
    for (int64_t first = 0; first < p->n; first += PANEL) {
        int n = (int)(p->n - first < PANEL ? p->n - first : PANEL);
        TRY(as_float(p->b, p->dtype, first * p->k, n * p->k, &s->b, &s->b_count, &b));
        s->sgemm(101, 111, 112, m, n, k, 1, a, k, b, k, 0, s->c, n);
        for (int64_t i = 0; i < p->m; i++)
            for (int64_t j = 0; j < n; j++) {
                int64_t to = i * p->n + first + j;
                double sum = (double)s->c[i * n + j];
                if (p->accumulate) sum += dtype_load(p->out, p->c, to);
                dtype_store(p->out, p->c, to, (float)sum);
            }
    }
    return STATUS_OK;
}

static void cpu_close(struct matmul *matmul) {
    struct cpu_matmul *s = (struct cpu_matmul *)matmul;
    free(s->a), free(s->b), free(s->c);
    free(s);
}

static enum status open_cpu(struct device *device, struct matmul **out) {
    static const char *const libraries[] = {"libopenblas.so.0", "libblas.so.3"};
    struct cpu_matmul *s = calloc(1, sizeof *s);
    if (!s) return fail(STATUS_SYSTEM, "out of memory");
    s->matmul = (struct matmul){.device = device, .run = cpu_run, .close = cpu_close};
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries && !s->sgemm; i++) {
        void *library = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL); /* stays open */
        void *symbol = library ? dlsym(library, "cblas_sgemm") : NULL;
        memcpy(&s->sgemm, &symbol, sizeof symbol);
        snprintf(s->matmul.name, sizeof s->matmul.name, "CBLAS (%s)", libraries[i]);
    }
    if (!s->sgemm) {
        s->sgemm = plain_sgemm;
        snprintf(s->matmul.name, sizeof s->matmul.name, "a plain loop (no libopenblas.so.0)");
    }
    *out = &s->matmul;
    return STATUS_OK;
}

enum status matmul_open(struct device *device, struct matmul **out) {
    const char *wish = getenv("FASTINFER_MATMUL");
    if (wish && !strcmp(wish, "none"))
        return fail(STATUS_MISSING, "FASTINFER_MATMUL is none: no library is looked for");
    return device->info.kind == DEVICE_CPU ? open_cpu(device, out) : matmul_open_cuda(device, out);
}

void matmul_close(struct matmul *matmul) {
    if (matmul) matmul->close(matmul);
}

const char *matmul_name(const struct matmul *matmul) { return matmul->name; }

enum status matmul_run(struct matmul *matmul, const struct product *p) {
    if (p->m < 1 || p->n < 1 || p->k < 1 || p->m > INT32_MAX || p->n > INT32_MAX ||
        p->k > INT32_MAX)
        return fail(STATUS_ARGUMENT, "a product of (%lld, %lld) and (%lld, %lld) cannot be",
                    (long long)p->m, (long long)p->k, (long long)p->n, (long long)p->k);
    return matmul->run(matmul, p);
}
