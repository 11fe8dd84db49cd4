/* report_kernels.c - prefill and decode: a picture and a table a kernel. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/report.h"
#include "runtime/json_text.h"

/* Of the rows of a kernel (NULL: any but the ceiling) under a policy. */
struct choice {
    const char *kernel, *residency, *launch;
};

static bool chosen(const struct csv *bench, int row, const struct choice *c) {
    const char *kernel = csv_cell(bench, row, "kernel");
    return !strcmp(csv_cell(bench, row, "residency"), c->residency) &&
           !strcmp(csv_cell(bench, row, "launch"), c->launch) &&
           (c->kernel ? !strcmp(kernel, c->kernel) : strcmp(kernel, "stream") != 0);
}

static int count_of(const struct csv *bench, const struct choice *c) {
    int count = 0;
    for (int i = 0; i < bench->rows; i++) count += chosen(bench, i, c);
    return count;
}

static bool compared(const struct csv *bench, const struct choice *c) {
    for (int i = 0; i < bench->rows; i++)
        if (chosen(bench, i, c) && !strcmp(csv_cell(bench, i, "baseline"), "hf_eager") &&
            csv_number(bench, i, "speedup") > 0)
            return true;
    return false;
}

/* Whether it can be drawn against rows: the kernels of a decode step have none. */
static bool has_rows(const struct csv *bench, const struct choice *c) {
    for (int i = 0; i < bench->rows; i++)
        if (chosen(bench, i, c) && *csv_cell(bench, i, "rows")) return true;
    return false;
}

/* Half the widest interval over its median, in percent; pictures cannot show it. */
static double widest(const struct csv *bench, const struct choice *c) {
    double most = NAN;
    for (int i = 0; i < bench->rows; i++) {
        double half = (csv_number(bench, i, "high_us") - csv_number(bench, i, "low_us")) / 2;
        double percent = 100 * half / csv_number(bench, i, "median_us");
        if (chosen(bench, i, c) && !(percent <= most) && !isnan(percent)) most = percent;
    }
    return most;
}

static const char *with_interval(const struct csv *bench, const struct choice *c,
                                 const char *words) {
    static char text[1024];
    double most = widest(bench, c);
    int n = snprintf(text, sizeof text, "%s", words);
    if (!isnan(most))
        snprintf(text + n, sizeof text - (size_t)n,
                 " The widest interval of a median here is ±%.2g%% of it.", most);
    return text;
}

static void kernel_table(struct page *page, const struct csv *bench, const struct choice *c,
                         bool rates) {
    static const char *const headings[] = {
        "problem",  "dtype",           ">us",   ">interval, us", ">default us", ">HF eager us",
        ">speedup", ">torch fused us", ">GB/s", ">% of ceiling"};
    char caption[1200], origin[400], shared[300];
    bool *rows = calloc((size_t)bench->rows + 1, sizeof *rows);
    for (int i = 0; i < bench->rows && rows; i++) rows[i] = chosen(bench, i, c);
    report_origin(bench, origin, sizeof origin);
    *shared = 0;
    if (rows) report_shared(bench, rows, shared, sizeof shared);
    free(rows);
    snprintf(caption, sizeof caption, "%s, %s,%s%s%s: %s.", c->kernel, c->residency, c->launch,
             *shared ? ", " : "", shared, origin);
    page_table(page, caption, headings, rates ? 10 : 8);
    for (int i = 0; i < bench->rows; i++) {
        if (!chosen(bench, i, c)) continue;
        double us = csv_number(bench, i, "median_us");
        int decimals = us < 10 ? 3 : us < 100 ? 2 : 1;
        const char *cells[] = {report_problem(bench, i, shared),
                               csv_cell(bench, i, "dtype"),
                               report_number(us, decimals),
                               report_interval(bench, i, "low_us", "high_us", decimals),
                               report_number(csv_number(bench, i, "default_us"), decimals),
                               report_number(csv_number(bench, i, "baseline_us"), 1),
                               report_number(csv_number(bench, i, "speedup"), 2),
                               report_number(csv_number(bench, i, "fused_us"), 2),
                               report_number(csv_number(bench, i, "gbps"), 0),
                               report_number(csv_number(bench, i, "percent_of_ceiling"), 1)};
        page_row(page, cells);
    }
    page_table_end(page);
}

static enum status bandwidth(struct page *page, const struct exported *e, const struct choice *c) {
    char settings[160], name[80];
    const json_t *run = exported_run(e), *copy = json_object_get(run, "copy_gbps");
    int n = snprintf(settings, sizeof settings, "kernel='%.60s'", c->kernel);
    if (json_number_value(copy) > 0)
        snprintf(settings + n, sizeof settings - (size_t)n, "; copy=%.6g", json_number_value(copy));
    snprintf(name, sizeof name, "bandwidth-%.60s", c->kernel);
    return report_picture(
        page, e, "bandwidth", &e->bench, name, settings,
        with_interval(
            &e->bench, c,
            "Least bytes a second against rows, a line a shape. Grey dashes: the ceiling, "
            "a tuned stream of as many bytes timed in the same run; dots: the "
            "device-to-device copy."));
}

static enum status prefill_kernel(struct page *page, const struct exported *e, const char *kernel) {
    struct choice c = {kernel, "cold", "stream"};
    char part[80];
    if (!count_of(&e->bench, &c)) return STATUS_OK;
    snprintf(part, sizeof part, "prefill-%.60s", kernel);
    report_section(page, e, 4, part, kernel);
    if (has_rows(&e->bench, &c)) TRY(bandwidth(page, e, &c));
    kernel_table(page, &e->bench, &c, true);
    return STATUS_OK;
}

static enum status prefill(struct page *page, const struct exported *e) {
    const char *kernels[MAX_KERNELS];
    const struct choice all = {NULL, "cold", "stream"};
    report_section(page, e, 3, "prefill", "Prefill: many rows, caches cold");
    if (!count_of(&e->bench, &all)) {
        page_missing(page, "No kernel was timed with cold caches here.",
                     "make bench && build/release/fastinfer export");
        return STATUS_OK;
    }
    if (compared(&e->bench, &all))
        TRY(report_picture(
            page, e, "speedup", &e->bench, "speedup-prefill", "",
            with_interval(&e->bench, &all,
                          "Device time of HuggingFace's formula in PyTorch eager over the best "
                          "point's; the host's launches, which eager pays too, are left out.")));
    else
        page_missing(page, "No kernel was compared with PyTorch eager here.",
                     "make torch && make bench && build/release/fastinfer export");
    TRY(report_picture(
        page, e, "roofline", &e->bench, "roofline", "",
        "Every problem's best point under the roof that memory sets: the line is the "
        "best stream, and small problems lie under it because a launch cannot fill "
        "the device."));
    int count = exported_kernels(e, kernels);
    for (int i = 0; i < count; i++) TRY(prefill_kernel(page, e, kernels[i]));
    return STATUS_OK;
}

/* Decode is whatever runs as a node of a graph: with the weights cold where that was benched. */
static struct choice decode_policy(const struct csv *bench) {
    const struct choice cold = {NULL, "weights_cold", "graph"}, hot = {NULL, "hot", "graph"};
    return count_of(bench, &cold) ? cold : hot;
}

static enum status decode(struct page *page, const struct exported *e) {
    const char *kernels[MAX_KERNELS];
    struct choice c = decode_policy(&e->bench);
    char settings[128];
    report_section(page, e, 3, "decode", "Decode: one row a sequence, nodes of a graph");
    if (!count_of(&e->bench, &c)) {
        page_missing(page, "No kernel was timed as a node of a graph here.",
                     "make bench && build/release/fastinfer export");
        return STATUS_OK;
    }
    page_say(page, "Times are what a kernel adds to an empty node of the graph. PyTorch eager is "
                   "timed on the device alone, launch by launch.");
    snprintf(settings, sizeof settings, "policy='%s,%s'; rows=1", c.residency, c.launch);
    if (compared(&e->bench, &c))
        TRY(report_picture(
            page, e, "speedup", &e->bench, "speedup-decode", settings,
            with_interval(&e->bench, &c, "The same ratio for one row, as a decode step has it.")));
    int count = exported_kernels(e, kernels);
    for (int i = 0; i < count; i++) {
        char part[80];
        c.kernel = kernels[i];
        if (!count_of(&e->bench, &c)) continue;
        snprintf(part, sizeof part, "decode-%.60s", kernels[i]);
        report_section(page, e, 4, part, kernels[i]);
        kernel_table(page, &e->bench, &c, false);
    }
    return STATUS_OK;
}

enum status report_kernels(struct page *page, const struct exported *e) {
    TRY(prefill(page, e));
    return decode(page, e);
}
