/* model.c - a Gaussian process, by Cholesky's factors. */
#include "harness/strategy/model.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 32 }; /* a multiple of every vector's width */

struct model {
    const struct search_space *space;
    struct model_options options;
    double log_length[MAX_DIMS], log_noise;
    double spread;           /* of y, the variance */
    double *table[MAX_DIMS]; /* by steps apart: the squared scaled distance, then its shape */
    int *used, used_count;   /* dimensions with more than one value */

    int *observed, n, capacity;
    double *factor;         /* n x capacity, lower */
    double *scratch, *work; /* the same, for trying lengths */

    int *pool, pool_count, blocks;
    float *row;  /* blocks x capacity x BLOCK: the factor's rows over the pool */
    float *left; /* the spread that is left, of 1 */
    int rows;
};

/* --- correlation ------------------------------------------------------------------------------ */

static double shape(int smooth, double r2) {
    if (smooth == 0) return exp(-sqrt(r2));
    if (smooth == 1) {
        double r = sqrt(3 * r2);
        return (1 + r) * exp(-r);
    }
    double r = sqrt(5 * r2);
    return (1 + r + r * r / 3) * exp(-r);
}

static void fill_table(struct model *m, int d) {
    int count = m->space->counts[d];
    double length = exp(m->log_length[d]);
    for (int steps = 0; steps < count; steps++) {
        double x = (double)steps / (count - 1) / length;
        m->table[d][steps] = x * x;
        m->table[d][count + steps] = shape(m->options.smooth, x * x);
        if (steps) m->table[d][count + steps] *= 1 - m->options.distinct;
    }
}

static double correlation(const struct model *m, const int *a, const int *b) {
    double r2 = 0, sum = 0;
    for (int i = 0; i < m->used_count; i++) {
        int d = m->used[i];
        const double *at = m->table[d] + abs(a[d] - b[d]);
        r2 += at[0], sum += at[m->space->counts[d]];
    }
    double whole = shape(m->options.smooth, r2);
    return (1 - m->options.additive) * whole + m->options.additive * sum / m->used_count;
}

double model_correlation(const struct model *m, int a, int b) {
    return correlation(m, search_space_row(m->space, a), search_space_row(m->space, b));
}

static double between(const struct model *m, int i, int j) {
    return model_correlation(m, m->observed[i], m->observed[j]);
}

/* --- algebra ---------------------------------------------------------------------------------- */

/* Row i of Cholesky's factor, given those before; at[j] holds the correlations and becomes it. */
static void factor_row(double *factor, int stride, int i, double *at) {
    for (int j = 0; j < i; j++) {
        const double *other = factor + (size_t)j * (size_t)stride;
        double sum = at[j];
        for (int k = 0; k < j; k++) sum -= at[k] * other[k];
        at[j] = sum / other[j];
    }
    double left = at[i];
    for (int k = 0; k < i; k++) left -= at[k] * at[k];
    at[i] = sqrt(left > 1e-9 ? left : 1e-9);
}

static void factor_all(struct model *m, double *factor) {
    double noise = exp(m->log_noise);
    for (int i = 0; i < m->n; i++) {
        double *row = factor + (size_t)i * (size_t)m->capacity;
        for (int j = 0; j <= i; j++) row[j] = between(m, i, j) + (i == j ? noise : 0);
        factor_row(factor, m->capacity, i, row);
    }
}

/* z = factor^-1 y; returns its square. */
static double whiten(const struct model *m, const double *factor, const double *y, double *z) {
    double square = 0;
    for (int i = 0; i < m->n; i++) {
        const double *row = factor + (size_t)i * (size_t)m->capacity;
        double sum = y[i];
        for (int k = 0; k < i; k++) sum -= row[k] * z[k];
        z[i] = sum / row[i];
        square += z[i] * z[i];
    }
    return square;
}

/* The logarithm of the posterior density of the lengths and the noise, up to a constant. */
static double evidence(struct model *m, const double *y) {
    double value = 0;
    factor_all(m, m->scratch);
    double square = whiten(m, m->scratch, y, m->work);
    for (int i = 0; i < m->n; i++)
        value -= log(m->scratch[(size_t)i * (size_t)m->capacity + (size_t)i]);
    /* the spread is integrated out, with a weak prior at 1 */
    value -= 0.5 * (m->n + 4) * log((square + 4) / (m->n + 4));
    for (int i = 0; i < m->used_count; i++) {
        double off = (m->log_length[m->used[i]] - log(m->options.length)) / m->options.length_sd;
        value -= 0.5 * off * off;
    }
    double off = (m->log_noise - log(m->options.noise)) / 1.5;
    return value - 0.5 * off * off;
}

static float *block_of(const struct model *m, int block) {
    return m->row + (size_t)block * (size_t)m->capacity * BLOCK;
}

/* One row over the pool, from the rows before. A block's rows lie one behind the other. */
static void pool_row(struct model *m, int i) {
    const double *factor = m->factor + (size_t)i * (size_t)m->capacity;
    const int *a = search_space_row(m->space, m->observed[i]);
    float by[m->capacity], scale = (float)(1 / factor[i]);
    for (int k = 0; k < i; k++) by[k] = (float)factor[k];
    for (int b = 0; b < m->blocks; b++) {
        const float *other = block_of(m, b);
        float sum[BLOCK], *row = block_of(m, b) + (size_t)i * BLOCK;
        for (int q = 0; q < BLOCK; q++) {
            int p = b * BLOCK + q < m->pool_count ? b * BLOCK + q : 0;
            sum[q] = (float)correlation(m, a, search_space_row(m->space, m->pool[p]));
        }
        for (int k = 0; k < i; k++, other += BLOCK)
            for (int q = 0; q < BLOCK; q++) sum[q] -= by[k] * other[q];
        float *left = m->left + (size_t)b * BLOCK;
        for (int q = 0; q < BLOCK; q++) {
            row[q] = sum[q] * scale;
            left[q] -= row[q] * row[q];
        }
    }
}

/* --- from outside ----------------------------------------------------------------------------- */

enum status model_open(const struct search_space *space, const struct model_options *options,
                       struct model **out) {
    struct model *m = *out = calloc(1, sizeof *m);
    if (!m) return fail(STATUS_SYSTEM, "out of memory for a model");
    m->space = space, m->options = *options, m->spread = 1, m->log_noise = log(options->noise);
    int used = 0;
    for (int d = 0; d < space->dims; d++) used += space->counts[d] > 1;
    m->options.length *= sqrt((used ? used : 1) / 6.0); /* distances grow with the dimensions */
    m->used = malloc((size_t)(space->dims + 1) * sizeof *m->used);
    bool good = m->used;
    for (int d = 0; d < space->dims && good; d++) {
        if (space->counts[d] < 2) continue;
        m->used[m->used_count++] = d;
        m->log_length[d] = log(m->options.length);
        good = (m->table[d] = malloc(2 * (size_t)space->counts[d] * sizeof *m->table[d])) != NULL;
        if (good) fill_table(m, d);
    }
    if (good) return STATUS_OK;
    model_close(m);
    *out = NULL;
    return fail(STATUS_SYSTEM, "out of memory for a model");
}

void model_close(struct model *m) {
    if (!m) return;
    for (int d = 0; d < MAX_DIMS; d++) free(m->table[d]);
    free(m->used), free(m->observed), free(m->factor), free(m->scratch), free(m->work);
    free(m->pool), free(m->row), free(m->left), free(m);
}

/* Room for the rows over the pool, which are then to be filled again. */
static enum status make_rows(struct model *m) {
    free(m->row), free(m->left);
    size_t floats = (size_t)m->blocks * BLOCK;
    m->row = malloc(floats * (size_t)m->capacity * sizeof *m->row + 1);
    m->left = malloc(floats * sizeof *m->left + 1);
    m->rows = 0;
    if (m->row && m->left) return STATUS_OK;
    return fail(STATUS_SYSTEM, "out of memory for a model over %d points", m->pool_count);
}

static enum status grow(struct model *m) {
    int capacity = m->capacity ? 2 * m->capacity : 64;
    size_t cells = (size_t)capacity * (size_t)capacity;
    double *factor = malloc(cells * sizeof *factor), *scratch = malloc(cells * sizeof *scratch);
    double *work = malloc((size_t)capacity * sizeof *work);
    int *observed = malloc((size_t)capacity * sizeof *observed);
    if (!factor || !scratch || !work || !observed) {
        free(factor), free(scratch), free(work), free(observed);
        return fail(STATUS_SYSTEM, "out of memory for a model of %d points", capacity);
    }
    for (int i = 0; i < m->n; i++) {
        memcpy(factor + (size_t)i * (size_t)capacity, m->factor + (size_t)i * (size_t)m->capacity,
               (size_t)m->capacity * sizeof *factor);
        observed[i] = m->observed[i];
    }
    free(m->factor), free(m->scratch), free(m->work), free(m->observed);
    m->factor = factor, m->scratch = scratch, m->work = work, m->observed = observed;
    m->capacity = capacity;
    return make_rows(m);
}

enum status model_pool(struct model *m, const int *points, int count) {
    int *pool = malloc((size_t)(count + 1) * sizeof *pool);
    if (!pool) return fail(STATUS_SYSTEM, "out of memory for a model over %d points", count);
    memcpy(pool, points, (size_t)count * sizeof *pool);
    free(m->pool);
    m->pool = pool, m->pool_count = count, m->blocks = (count + BLOCK - 1) / BLOCK;
    return make_rows(m);
}

enum status model_add(struct model *m, int point) {
    if (m->n == m->capacity) TRY(grow(m));
    m->observed[m->n] = point;
    double *row = m->factor + (size_t)m->n * (size_t)m->capacity;
    for (int j = 0; j <= m->n; j++) row[j] = between(m, m->n, j);
    row[m->n] += exp(m->log_noise);
    factor_row(m->factor, m->capacity, m->n, row);
    m->n++;
    return STATUS_OK;
}

void model_clear(struct model *m) { m->n = m->rows = 0; }

static bool try_value(struct model *m, const double *y, double *what, int d, double by,
                      double *best) {
    double before = *what;
    *what += by;
    if (d >= 0) fill_table(m, d);
    double value = evidence(m, y);
    if (value > *best) {
        *best = value;
        return true;
    }
    *what = before;
    if (d >= 0) fill_table(m, d);
    return false;
}

void model_fit(struct model *m, const double *y, int sweeps) {
    const double step = log(1.5);
    if (m->n > 1) {
        double best = evidence(m, y);
        for (int sweep = 0; sweep < sweeps; sweep++)
            for (int i = -1; i < m->used_count; i++) {
                int d = i < 0 ? -1 : m->used[i];
                double *what = d < 0 ? &m->log_noise : &m->log_length[d];
                double by = d < 0 ? 2 * step : step;
                if (try_value(m, y, what, d, by, &best))
                    try_value(m, y, what, d, by, &best);
                else if (try_value(m, y, what, d, -by, &best))
                    try_value(m, y, what, d, -by, &best);
            }
        factor_all(m, m->factor);
    }
    m->rows = 0;
}

void model_predict(struct model *m, const double *y, float *mean, float *sd) {
    if (!m->rows)
        for (int p = 0; p < m->blocks * BLOCK; p++) m->left[p] = 1;
    for (; m->rows < m->n; m->rows++) pool_row(m, m->rows);
    double square = m->n ? whiten(m, m->factor, y, m->work) : 0;
    m->spread = (square + 4) / (m->n + 4);
    for (int b = 0; b < m->blocks; b++) {
        float sum[BLOCK] = {0};
        const float *row = block_of(m, b), *left = m->left + (size_t)b * BLOCK;
        for (int i = 0; i < m->n; i++, row += BLOCK) {
            float z = (float)m->work[i];
            for (int q = 0; q < BLOCK; q++) sum[q] += z * row[q];
        }
        for (int q = 0; q < BLOCK && b * BLOCK + q < m->pool_count; q++) {
            mean[b * BLOCK + q] = sum[q];
            sd[b * BLOCK + q] = (float)sqrt(m->spread * (left[q] > 1e-6f ? left[q] : 1e-6f));
        }
    }
}
