/* replay.c - reads measured spaces and scores strategies on them. */
#include "harness/replay.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "harness/stats.h"
#include "runtime/clock.h"
#include "runtime/json_text.h"

/* --- files ------------------------------------------------------------------------------------ */

/* The whole file, unpacked where it is gzipped. The caller frees *out. */
static enum status read_all(const char *path, char **out, size_t *size) {
    enum { CHUNK = 1 << 22 };
    const size_t most = (size_t)1 << 31;
    size_t capacity = 0;
    int got = 0, code = 0;
    *out = NULL, *size = 0;
    errno = 0;
    gzFile file = gzopen(path, "rb");
    if (!file) return fail(STATUS_SYSTEM, "%s: cannot be read: %s", path, strerror(errno));
    enum status status = STATUS_OK;
    do {
        if (capacity - *size < CHUNK) {
            capacity = 2 * capacity + CHUNK;
            char *larger = capacity > most ? NULL : realloc(*out, capacity);
            if (!larger) {
                status = fail(STATUS_SYSTEM, "%s: too large to be read into memory", path);
                break;
            }
            *out = larger;
        }
        got = gzread(file, *out + *size, CHUNK);
        if (got > 0) *size += (size_t)got;
    } while (got > 0);
    const char *why = gzerror(file, &code);
    if (!status && code == Z_ERRNO)
        status = fail(STATUS_SYSTEM, "%s: cannot be read: %s", path, strerror(errno));
    else if (!status && code != Z_OK && code != Z_STREAM_END)
        status = fail(STATUS_FORMAT, "%s: a whole gzip file was expected, but: %s", path, why);
    gzclose(file);
    if (!status) return STATUS_OK;
    free(*out);
    *out = NULL;
    return status;
}

/* "convolution-a4000" of "spaces/convolution-a4000.t4.json.gz". */
static void name_of(const char *path, char *name, size_t bytes) {
    static const char *const endings[] = {".gz", ".json", ".t4"};
    const char *slash = strrchr(path, '/');
    snprintf(name, bytes, "%s", slash ? slash + 1 : path);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t length = strlen(name), ending = strlen(endings[i]);
        if (length > ending && !strcmp(name + length - ending, endings[i]))
            name[length - ending] = 0;
    }
}

/* --- T4 records ------------------------------------------------------------------------------- */

/* Numbers before words, each ascending. */
static int compare_values(const void *a, const void *b) {
    const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
    bool number_x = !json_is_string(x), number_y = !json_is_string(y);
    if (number_x != number_y) return number_x ? -1 : 1;
    if (!number_x) return strcmp(json_string_value(x), json_string_value(y));
    double u = json_is_boolean(x) ? json_is_true(x) : json_number_value(x);
    double v = json_is_boolean(y) ? json_is_true(y) : json_number_value(y);
    return (u > v) - (u < v);
}

struct reader {
    const char *path;
    json_t *results;
    int records, dims;
    const char *name[MAX_DIMS];
    json_t **value[MAX_DIMS]; /* distinct, ascending */
    int counts[MAX_DIMS];
};

static enum status malformed(const struct reader *r, int record, const char *expected) {
    return fail(STATUS_FORMAT, "%s: result %d: %s was expected", r->path, record, expected);
}

static enum status check_configuration(const struct reader *r, int i) {
    const json_t *values = json_object_get(json_array_get(r->results, (size_t)i), "configuration");
    if (!json_is_object(values) || json_object_size(values) != (size_t)r->dims)
        return malformed(r, i, "a 'configuration' with the names that the first one has");
    for (int d = 0; d < r->dims; d++) {
        const json_t *value = json_object_get(values, r->name[d]);
        if (!json_is_string(value) && !json_is_number(value) && !json_is_boolean(value))
            return fail(STATUS_FORMAT,
                        "%s: result %d: a number or a word for '%s' was expected in its "
                        "configuration",
                        r->path, i, r->name[d]);
    }
    return STATUS_OK;
}

static enum status read_dimensions(struct reader *r) {
    json_t *first = json_object_get(json_array_get(r->results, 0), "configuration");
    if (!json_is_object(first) || !json_object_size(first) || json_object_size(first) > MAX_DIMS)
        return malformed(r, 0, "a 'configuration' of 1 to 64 names");
    for (void *at = json_object_iter(first); at; at = json_object_iter_next(first, at))
        r->name[r->dims++] = json_object_iter_key(at);
    for (int i = 0; i < r->records; i++) TRY(check_configuration(r, i));
    for (int d = 0; d < r->dims; d++) {
        json_t **value = r->value[d] = malloc((size_t)r->records * sizeof *value);
        if (!value) return fail(STATUS_SYSTEM, "%s: out of memory", r->path);
        for (int i = 0; i < r->records; i++)
            value[i] = json_object_get(
                json_object_get(json_array_get(r->results, (size_t)i), "configuration"),
                r->name[d]);
        qsort(value, (size_t)r->records, sizeof *value, compare_values);
        for (int i = 0; i < r->records; i++)
            if (!i || compare_values(&value[r->counts[d] - 1], &value[i]) != 0)
                value[r->counts[d]++] = value[i];
    }
    return STATUS_OK;
}

static void read_row(const struct reader *r, int i, int *row) {
    const json_t *values = json_object_get(json_array_get(r->results, (size_t)i), "configuration");
    for (int d = 0; d < r->dims; d++) {
        json_t *value = json_object_get(values, r->name[d]);
        json_t **found =
            bsearch(&value, r->value[d], (size_t)r->counts[d], sizeof value, compare_values);
        row[d] = (int)(found - r->value[d]);
    }
}

/* The measurement called "time", else the mean of the runtimes; nothing where it was not correct.
 */
static enum status read_time(const struct reader *r, int i, double *ms) {
    const json_t *record = json_array_get(r->results, (size_t)i), *each;
    const json_t *invalidity = json_object_get(record, "invalidity");
    size_t k;
    *ms = SEARCH_FAILED;
    if (!json_is_string(invalidity)) return malformed(r, i, "a word for 'invalidity'");
    if (strcmp(json_string_value(invalidity), "correct") != 0) return STATUS_OK;
    json_array_foreach(json_object_get(record, "measurements"), k, each) {
        if (strcmp(json_text(each, "name"), "time") != 0) continue;
        const json_t *value = json_object_get(each, "value");
        if (json_is_string(value)) return STATUS_OK; /* a word for what went wrong */
        if (!json_is_number(value) || !(json_number_value(value) > 0))
            return malformed(r, i, "a positive 'value' of the measurement 'time'");
        *ms = json_number_value(value);
        return STATUS_OK;
    }
    const json_t *runtimes = json_object_get(json_object_get(record, "times"), "runtimes");
    double sum = 0;
    json_array_foreach(runtimes, k, each) {
        if (!json_is_number(each) || !(json_number_value(each) > 0))
            return malformed(r, i, "positive numbers for 'runtimes'");
        sum += json_number_value(each);
    }
    if (!json_array_size(runtimes))
        return malformed(r, i, "a measurement 'time' or 'times' with 'runtimes'");
    *ms = sum / (double)json_array_size(runtimes);
    return STATUS_OK;
}

struct rows {
    const int *index;
    int dims;
};
static int compare_rows(const void *a, const void *b, void *context) {
    const struct rows *rows = context;
    int i = *(const int *)a, j = *(const int *)b;
    const int *x = rows->index + (size_t)i * (size_t)rows->dims;
    const int *y = rows->index + (size_t)j * (size_t)rows->dims;
    for (int d = 0; d < rows->dims; d++)
        if (x[d] != y[d]) return x[d] < y[d] ? -1 : 1;
    return (i > j) - (i < j);
}

/* A configuration that was recorded twice counts once, as it was recorded first. Returns how many
 * are left, in the order of the file. */
static int drop_repeats(const struct reader *r, int *index, double *ms, int *order, bool *again) {
    struct rows rows = {index, r->dims};
    size_t dims = (size_t)r->dims;
    int left = 0;
    for (int i = 0; i < r->records; i++) order[i] = i;
    qsort_r(order, (size_t)r->records, sizeof *order, compare_rows, &rows);
    for (int k = 1; k < r->records; k++)
        again[order[k]] = !memcmp(index + (size_t)order[k] * dims,
                                  index + (size_t)order[k - 1] * dims, dims * sizeof *index);
    for (int i = 0; i < r->records; i++) {
        if (again[i]) continue;
        memmove(index + (size_t)left * dims, index + (size_t)i * dims, dims * sizeof *index);
        ms[left++] = ms[i];
    }
    return left;
}

static enum status fill_space(const struct reader *r, struct replay_space *out) {
    size_t records = (size_t)r->records, dims = (size_t)r->dims;
    int *index = malloc(records * dims * sizeof *index), *order = malloc(records * sizeof *order);
    double *ms = malloc(records * sizeof *ms);
    bool *again = calloc(records, sizeof *again);
    char name[128];
    enum status status = STATUS_OK;
    if (!index || !order || !ms || !again)
        status = fail(STATUS_SYSTEM, "%s: out of memory", r->path);
    for (int i = 0; i < r->records && !status; i++) {
        read_row(r, i, index + (size_t)i * dims);
        status = read_time(r, i, &ms[i]);
    }
    name_of(r->path, name, sizeof name);
    if (!status) {
        int points = drop_repeats(r, index, ms, order, again);
        status = replay_make(name, r->dims, r->counts, points, index, ms, out);
        if (status) fail_context(status, "%s", r->path);
    }
    free(index), free(order), free(ms), free(again);
    return status;
}

enum status replay_load(const char *path, struct replay_space *out) {
    struct reader r = {.path = path};
    json_error_t error;
    char *text;
    size_t size;
    *out = (struct replay_space){0};
    TRY(read_all(path, &text, &size));
    json_t *root = json_loadb(text, size, 0, &error);
    free(text);
    if (!root)
        return fail(STATUS_FORMAT, "%s:%d: a space in T4 format (JSON) was expected, but: %s", path,
                    error.line, error.text);
    r.results = json_object_get(root, "results");
    enum status status = STATUS_OK;
    if (!json_is_array(r.results) || !json_array_size(r.results))
        status = fail(STATUS_FORMAT, "%s: a T4 object with 'results' was expected", path);
    r.records = (int)json_array_size(r.results);
    if (!status) status = read_dimensions(&r);
    if (!status) status = fill_space(&r, out);
    for (int d = 0; d < MAX_DIMS; d++) free(r.value[d]);
    json_decref(root);
    return status;
}

/* --- spaces ----------------------------------------------------------------------------------- */

/* The times that worked, ascending, and how many they are. The caller frees *out. */
static enum status sorted_times(const struct replay_space *space, double **out, int *count) {
    *out = malloc((size_t)space->search.points * sizeof **out), *count = 0;
    if (!*out) return fail(STATUS_SYSTEM, "%s: out of memory", space->name);
    for (int p = 0; p < space->search.points; p++)
        if (isfinite(space->ms[p])) (*out)[(*count)++] = space->ms[p];
    stats_sort(*out, *count);
    return STATUS_OK;
}

/* The mean best of t points drawn from `points`, of which `worked` have the times ms, ascending.
 * beyond: the probability that none of the k fastest is drawn, C(points - k, t) / C(points, t). */
static double mean_best(const double *ms, int worked, int points, int t) {
    double mean = 0, beyond = 1;
    for (int k = 0; k < worked && beyond > 0; k++) {
        double next = points - k - t > 0 ? beyond * (points - k - t) / (points - k) : 0;
        mean += (beyond - next) * ms[k];
        beyond = next;
    }
    return mean + beyond * ms[worked - 1];
}

static enum status summarise(struct replay_space *space) {
    double *ms;
    int n;
    TRY(sorted_times(space, &ms, &n));
    space->worked = n;
    if (!n) {
        free(ms);
        return fail(STATUS_FORMAT, "a space was expected in which some configuration is correct");
    }
    space->best = ms[0], space->worst = ms[n - 1];
    space->median = (ms[(n - 1) / 2] + ms[n / 2]) / 2;
    double target = space->best + 0.05 * (space->median - space->best);
    int low = 1, high = space->search.points; /* after all points the best is known */
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (mean_best(ms, n, space->search.points, middle) <= target)
            high = middle;
        else
            low = middle + 1;
    }
    space->cutoff = low;
    free(ms);
    return STATUS_OK;
}

enum status replay_make(const char *name, int dims, const int *counts, int points, const int *index,
                        const double *ms, struct replay_space *out) {
    size_t cells = (size_t)points * (size_t)dims;
    *out = (struct replay_space){0};
    snprintf(out->name, sizeof out->name, "%s", name);
    int *own_counts = malloc((size_t)(dims + 1) * sizeof *own_counts);
    int *own_index = malloc((cells + 1) * sizeof *own_index);
    out->ms = malloc((size_t)(points + 1) * sizeof *out->ms);
    out->search = (struct search_space){dims, own_counts, points, own_index, NULL, 0};
    enum status status = STATUS_OK;
    if (!own_counts || !own_index || !out->ms)
        status = fail(STATUS_SYSTEM, "out of memory for %d points", points);
    if (!status) {
        memcpy(own_counts, counts, (size_t)dims * sizeof *counts);
        memcpy(own_index, index, cells * sizeof *index);
        memcpy(out->ms, ms, (size_t)points * sizeof *ms);
        status = search_space_index(&out->search);
    }
    if (!status) status = summarise(out);
    if (status) replay_free(out);
    return status;
}

void replay_free(struct replay_space *space) {
    search_space_free(&space->search);
    free((int *)(uintptr_t)space->search.counts), free((int *)(uintptr_t)space->search.index);
    free(space->ms);
    *space = (struct replay_space){0};
}

enum status replay_random(const struct replay_space *space, int count, double *random) {
    double *ms;
    int n;
    TRY(sorted_times(space, &ms, &n));
    for (int t = 1; t <= count; t++) random[t - 1] = mean_best(ms, n, space->search.points, t);
    free(ms);
    return STATUS_OK;
}

/* --- runs ------------------------------------------------------------------------------------- */

/* One repeat; best[t - 1] is the best of t evaluations. */
static enum status run_once(const struct replay_space *space, const struct replay_options *options,
                            uint64_t seed, int budget, double *best) {
    struct search *search;
    double least = space->worst;
    TRY(search_open(&space->search, options->strategy, seed, options->parameters, &search));
    for (int t = 0; t < budget; t++) {
        int point = search_ask(search);
        if (point >= 0) {
            search_tell(search, point, 1e6 * space->ms[point]);
            if (space->ms[point] < least) least = space->ms[point];
        }
        best[t] = least;
    }
    search_close(search);
    return STATUS_OK;
}

/* Evaluations at which random search has all but surely found the best say nothing. */
static double score(const struct replay_space *space, const double *random, const double *best,
                    int budget) {
    double sum = 0;
    int counted = 0;
    for (int t = 0; t < budget; t++) {
        double lead = random[t] - space->best;
        if (lead <= 1e-9 * space->best) continue;
        sum += (random[t] - best[t]) / lead;
        counted++;
    }
    return counted ? sum / counted : 0;
}

enum status replay_run(const struct replay_space *space, const struct replay_options *options,
                       struct replay_result *out) {
    int budget = options->budget ? options->budget : space->cutoff, repeats = options->repeats;
    if (budget > space->search.points) budget = space->search.points;
    *out = (struct replay_result){.budget = budget};
    double *best = malloc((size_t)budget * sizeof *best), squares = 0, start = clock_seconds();
    out->mean = calloc((size_t)budget, sizeof *out->mean);
    out->random = calloc((size_t)budget, sizeof *out->random);
    enum status status = STATUS_OK;
    if (!best || !out->mean || !out->random) status = fail(STATUS_SYSTEM, "out of memory");
    if (!status) status = replay_random(space, budget, out->random);
    for (int r = 0; r < repeats && !status; r++) {
        uint64_t seed = options->seed * UINT64_C(1000003) + (uint64_t)r;
        status = run_once(space, options, seed, budget, best);
        if (status) break;
        double p = score(space, out->random, best, budget), last = best[budget - 1] / space->best;
        out->p += p / repeats, squares += p * p / repeats;
        out->within_1 += (last <= 1.01) / (double)repeats;
        out->within_5 += (last <= 1.05) / (double)repeats;
        for (int t = 0; t < budget; t++) out->mean[t] += best[t] / repeats;
    }
    double variance = fmax(0, squares - out->p * out->p);
    out->p_error = repeats > 1 ? sqrt(variance / (repeats - 1)) : 0;
    out->seconds = (clock_seconds() - start) / ((double)repeats * budget);
    free(best);
    if (status) replay_result_free(out);
    return status;
}

void replay_result_free(struct replay_result *result) {
    free(result->mean), free(result->random);
    *result = (struct replay_result){0};
}
