#include "harness/explain.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/stats.h"

/* --- values ----------------------------------------------------------------------------------- */

enum status explain_cell(const struct explain_sample *samples, int count, int a, int va, int b,
                         int vb, struct explain_level *out) {
    double *ns = malloc((size_t)(count ? count : 1) * sizeof *ns);
    if (!ns) return fail(STATUS_SYSTEM, "out of memory while explaining %d points", count);
    *out = (struct explain_level){.value = va, .median_ns = NAN, .best_ns = NAN};
    for (int i = 0; i < count; i++) {
        const struct explain_sample *s = &samples[i];
        if (s->point.value[a] != va || (b >= 0 && s->point.value[b] != vb)) continue;
        out->points++;
        if (s->status == STATUS_OK)
            ns[out->worked++] = s->ns;
        else
            out->failed[s->status]++;
    }
    if (out->worked) {
        struct summary summary = stats_summarise(ns, out->worked, 0);
        out->median_ns = summary.median, out->best_ns = summary.min;
    }
    free(ns);
    return STATUS_OK;
}

/* --- fits ---------------------------------------------------------------------------------------
 *
 * A model is a sum of terms, each a number for each value of a tunable or for each pair of values.
 * What least squares explains of y is read off the elimination of its normal equations; columns
 * that others already span have no pivot and are passed over, so an unbalanced or impossible
 * combination needs no care, and the pivots count what was fitted.
 */

struct data {
    const struct kernel *kernel;
    int n;
    int *level; /* [n][tunables]: index of the value */
    double *y;  /* ln(time), mean 0 */
    double total;
};

struct model { /* terms: tunables one by one, then perhaps a pair */
    unsigned tunables;
    int a, b; /* -1: no pair */
};

struct fit {
    double explained; /* sum of squares */
    int rank;
};

static int columns_of(const struct data *d, const struct model *model) {
    int columns = 0;
    for (int t = 0; t < d->kernel->tunable_count; t++)
        if (model->tunables >> t & 1) columns += d->kernel->tunables[t].count;
    if (model->a >= 0)
        columns += d->kernel->tunables[model->a].count * d->kernel->tunables[model->b].count;
    return columns;
}

/* The columns that are 1 for point i. */
static int ones_of(const struct data *d, const struct model *model, int i, int *column) {
    const struct tunable *tunables = d->kernel->tunables;
    const int *level = &d->level[i * d->kernel->tunable_count];
    int count = 0, first = 0;
    for (int t = 0; t < d->kernel->tunable_count; t++)
        if (model->tunables >> t & 1)
            column[count++] = first + level[t], first += tunables[t].count;
    if (model->a >= 0)
        column[count++] = first + level[model->a] * tunables[model->b].count + level[model->b];
    return count;
}

/* Of the upper triangle of [X'X X'y], `width` = columns + 1 wide. */
static struct fit eliminate(double *m, int columns) {
    struct fit fit = {0};
    int width = columns + 1;
    double *whole = &m[(size_t)columns * (size_t)width]; /* a spare row: the diagonal as it was */
    for (int i = 0; i < columns; i++) whole[i] = m[(size_t)i * (size_t)width + (size_t)i];
    for (int i = 0; i < columns; i++) {
        double *pivot = &m[(size_t)i * (size_t)width];
        if (!(pivot[i] > 1e-9 * whole[i])) continue;
        fit.explained += pivot[columns] * pivot[columns] / pivot[i];
        fit.rank++;
        for (int j = i + 1; j < columns; j++) {
            double factor = pivot[j] / pivot[i], *row = &m[(size_t)j * (size_t)width];
            if (factor != 0)
                for (int k = j; k < width; k++) row[k] -= factor * pivot[k];
        }
    }
    return fit;
}

static enum status fit_model(const struct data *d, struct model model, struct fit *out) {
    int columns = columns_of(d, &model), one[MAX_TUNABLES + 1];
    size_t width = (size_t)columns + 1;
    double *m = calloc(width * width, sizeof *m);
    if (!m) return fail(STATUS_SYSTEM, "out of memory while explaining %d points", d->n);
    for (int i = 0; i < d->n; i++) {
        int ones = ones_of(d, &model, i, one);
        for (int j = 0; j < ones; j++) {
            double *row = &m[(size_t)one[j] * width];
            row[columns] += d->y[i];
            for (int k = j; k < ones; k++) row[one[k]]++;
        }
    }
    *out = eliminate(m, columns);
    free(m);
    return STATUS_OK;
}

/* Epsilon squared of what `large` explains beyond `small`, which it contains. */
static double share(const struct data *d, const struct fit *large, const struct fit *small) {
    int left = d->n - large->rank;
    if (left < 1 || !(d->total > 0)) return NAN;
    double chance = (large->rank - small->rank) * (d->total - large->explained) / left;
    double beyond = (large->explained - small->explained - chance) / d->total;
    return beyond > 0 ? beyond : 0;
}

static enum status find_pair(const struct data *d, unsigned all, const struct fit *additive,
                             struct explain_pair *out) {
    *out = (struct explain_pair){-1, -1, NAN};
    for (int a = 0; a < d->kernel->tunable_count; a++)
        for (int b = a + 1; b < d->kernel->tunable_count; b++) {
            struct fit fit;
            if (!(all >> a & 1) || !(all >> b & 1)) continue;
            TRY(fit_model(d, (struct model){all, a, b}, &fit));
            double beyond = share(d, &fit, additive);
            if (fit.rank > additive->rank && beyond > (out->a < 0 ? 0 : out->share))
                *out = (struct explain_pair){a, b, beyond};
        }
    return STATUS_OK;
}

static enum status fit_all(const struct data *d, unsigned all, struct explanation *out) {
    const struct fit constant = {0, 1};
    struct fit additive, fit;
    TRY(fit_model(d, (struct model){all, -1, -1}, &additive));
    out->additive = share(d, &additive, &constant);
    out->rank = additive.rank;
    for (int i = 0; i < out->effects; i++) {
        struct explain_effect *effect = &out->effect[i];
        unsigned only = 1u << effect->tunable;
        effect->alone = effect->beyond = NAN;
        if (!(all & only)) continue;
        TRY(fit_model(d, (struct model){only, -1, -1}, &fit));
        effect->alone = share(d, &fit, &constant);
        fit = constant; /* without any other tunable */
        if (all & ~only) TRY(fit_model(d, (struct model){all & ~only, -1, -1}, &fit));
        effect->beyond = share(d, &additive, &fit);
    }
    return find_pair(d, all, &additive, &out->pair);
}

/* --- a space ---------------------------------------------------------------------------------- */

static int level_of(const struct tunable *tunable, int value) {
    int i = 0;
    while (i < tunable->count - 1 && tunable->values[i] != value) i++;
    return i;
}

static void fill_data(struct data *d, const struct explain_sample *samples, int count) {
    double sum = 0;
    for (int i = 0; i < count; i++) {
        if (samples[i].status != STATUS_OK) continue;
        for (int t = 0; t < d->kernel->tunable_count; t++)
            d->level[d->n * d->kernel->tunable_count + t] =
                level_of(&d->kernel->tunables[t], samples[i].point.value[t]);
        d->y[d->n] = log(samples[i].ns);
        sum += d->y[d->n++];
    }
    for (int i = 0; i < d->n; i++) {
        d->y[i] -= sum / d->n;
        d->total += d->y[i] * d->y[i];
    }
    if (d->total < 1e-20 * d->n) d->total = 0; /* equal times, but for rounding */
}

static enum status count_values(const struct kernel *kernel, const struct explain_sample *samples,
                                int count, struct explanation *out) {
    for (int t = 0; t < kernel->tunable_count; t++) {
        const struct tunable *tunable = &kernel->tunables[t];
        struct explain_effect *effect = &out->effect[out->effects++];
        effect->tunable = t, effect->worst = NAN;
        if (tunable->count > EXPLAIN_LEVELS)
            return fail(STATUS_ARGUMENT, "%s: %s has %d values; at most %d were expected",
                        kernel->name, tunable->name, tunable->count, EXPLAIN_LEVELS);
        for (int v = 0; v < tunable->count; v++) {
            struct explain_level *level = &effect->level[effect->levels];
            TRY(explain_cell(samples, count, t, tunable->values[v], -1, 0, level));
            effect->levels += level->points > 0;
            if (!level->worked || out->best < 0) continue;
            double loss = level->best_ns / samples[out->best].ns;
            if (!(effect->worst >= loss)) effect->worst = loss;
        }
    }
    return STATUS_OK;
}

/* Values of which some worked: with fewer than two there is nothing to compare. */
static bool varies(const struct explain_effect *effect) {
    int worked = 0;
    for (int v = 0; v < effect->levels; v++) worked += effect->level[v].worked > 0;
    return worked > 1;
}

static int stronger_first(const void *left, const void *right) {
    const struct explain_effect *a = left, *b = right;
    double x = isnan(a->alone) ? -1 : a->alone, y = isnan(b->alone) ? -1 : b->alone;
    if (x != y) return x < y ? 1 : -1;
    x = isnan(a->worst) ? 0 : a->worst, y = isnan(b->worst) ? 0 : b->worst;
    if (x != y) return x < y ? 1 : -1;
    return a->tunable - b->tunable;
}

enum status explain_space(const struct kernel *kernel, const struct explain_sample *samples,
                          int count, struct explanation *out) {
    struct data d = {.kernel = kernel};
    unsigned all = 0;
    *out = (struct explanation){.points = count, .best = -1, .additive = NAN};
    for (int i = 0; i < count; i++) {
        if (samples[i].status != STATUS_OK) continue;
        out->worked++;
        if (out->best < 0 || samples[i].ns < samples[out->best].ns) out->best = i;
    }
    TRY(count_values(kernel, samples, count, out));
    for (int i = 0; i < out->effects; i++)
        all |= (unsigned)varies(&out->effect[i]) << out->effect[i].tunable;
    d.level = calloc((size_t)(out->worked * kernel->tunable_count + 1), sizeof *d.level);
    d.y = calloc((size_t)out->worked + 1, sizeof *d.y);
    enum status status = STATUS_OK;
    if (d.level && d.y) {
        fill_data(&d, samples, count);
        status = fit_all(&d, all, out);
    } else {
        status = fail(STATUS_SYSTEM, "out of memory while explaining %d points", count);
    }
    free(d.level), free(d.y);
    if (!status) qsort(out->effect, (size_t)out->effects, sizeof *out->effect, stronger_first);
    return status;
}
