/* report_search.c - what tuning came to, how searches converge, what the tunables do. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/report.h"
#include "cli/report_space.h"

struct summary {
    int searches, at_ceiling, kept;
    double evaluations, margin, worst_regret, regret;
    int regrets;
};

/* Geometric where ratios are averaged. */
static struct summary summarise(const struct csv *t, const char *kernel) {
    struct summary s = {0};
    double logs = 0;
    for (int i = 0; i < t->rows; i++) {
        if (strcmp(csv_cell(t, i, "kernel"), kernel) != 0) continue;
        double evaluations = csv_number(t, i, "evaluations"), regret = csv_number(t, i, "regret");
        double margin = csv_number(t, i, "margin");
        if (!(evaluations > 0)) continue; /* rows between searched ones */
        s.searches++;
        s.evaluations += evaluations;
        s.at_ceiling += !strcmp(csv_cell(t, i, "stopped"), "at the ceiling");
        s.kept += !(margin > 1);
        if (margin > 0) logs += log(margin);
        if (isnan(regret)) continue;
        s.regrets++;
        s.regret += regret;
        if (regret > s.worst_regret) s.worst_regret = regret;
    }
    s.margin = s.searches ? exp(logs / s.searches) : NAN;
    return s;
}

static void tuning_row(struct page *page, const struct csv *tuning, const char *kernel) {
    struct summary s = summarise(tuning, kernel);
    if (!s.searches) return;
    page_row(page, (const char *[]){kernel, report_number(s.searches, 0),
                                    report_number(s.evaluations / s.searches, 0),
                                    report_number(s.at_ceiling, 0), report_number(s.kept, 0),
                                    report_number(s.margin, 3),
                                    s.regrets ? report_number(100 * s.regret / s.regrets, 2) : "-",
                                    s.regrets ? report_number(100 * s.worst_regret, 2) : "-"});
}

static void tuning(struct page *page, const struct exported *e) {
    static const char *const headings[] = {
        "kernel",          ">searches",         ">points a search",        ">ended at the ceiling",
        ">default stayed", ">default / winner", ">regret of the table, %", ">worst, %"};
    char caption[700], origin[400];
    const char *kernels[MAX_KERNELS];
    int count = 0;
    report_section(page, e, 3, "tuning", "Tuning");
    if (!e->tuning.rows) {
        page_missing(page, "No search was run here.",
                     "make tune && build/release/fastinfer export --tuning");
        return;
    }
    for (int i = 0; i < e->tuning.rows; i++) {
        const char *kernel = csv_cell(&e->tuning, i, "kernel");
        int k = 0;
        while (k < count && strcmp(kernels[k], kernel) != 0) k++;
        if (k == count && count < MAX_KERNELS && strcmp(kernel, "stream") != 0)
            kernels[count++] = kernel;
    }
    report_origin(&e->tuning, origin, sizeof origin);
    snprintf(caption, sizeof caption,
             "What the searches came to: %s. default / winner is a geometric mean over problems; "
             "regret is the time over the best known that the launch table costs.",
             origin);
    page_table(page, caption, headings, 8);
    for (int i = 0; i < count; i++) tuning_row(page, &e->tuning, kernels[i]);
    page_table_end(page);
}

/* The curves have no dates: the spaces that they are from do, as long as they are in the export. */
static enum status curves(struct page *page, const struct exported *e,
                          const struct report_spaces *spaces) {
    char origin[300] = "", caption[700], settings[400];
    if (spaces->count) TRY(report_space_origin(spaces->path[0], origin, sizeof origin));
    snprintf(caption, sizeof caption,
             "Search strategies on spaces of this device in which every point was measured: the "
             "mean best so far, over the best point. By `fastinfer replay`, without a device. "
             "Spaces: %s",
             *origin ? origin : "not in this export");
    snprintf(settings, sizeof settings, "caption='%s'", origin);
    return report_picture(page, e, "convergence", &e->convergence, "convergence", settings,
                          caption);
}

static enum status convergence(struct page *page, const struct exported *e,
                               const struct report_spaces *spaces) {
    char command[2400];
    report_section(page, e, 4, "convergence", "How searches converge");
    if (e->search.rows)
        TRY(report_picture(page, e, "search", &e->search, "search", "",
                           "The best time so far against points measured, in a search on this "
                           "device."));
    if (e->convergence.rows) return curves(page, e, spaces);
    snprintf(command, sizeof command,
             "build/release/fastinfer replay --strategy all --plot results/%s "
             "results/%s/spaces/*.t4.json.gz",
             e->slug, e->slug);
    if (!e->search.rows)
        page_missing(page, "No search's course is in this export.",
                     spaces->count ? command : "build/release/fastinfer explain KERNEL --plot DIR");
    return STATUS_OK;
}

/* From the space, drawn there and then; `fastinfer explain --plot` puts one into the export. */
static enum status drawn_heatmap(struct page *page, const struct exported *e,
                                 const struct report_spaces *spaces, int *drawn) {
    char csv[1200], name[40];
    for (int i = 0; i < spaces->count && *drawn < 4; i++) {
        struct csv table = {0};
        snprintf(csv, sizeof csv, "%s/pictures/heatmap.csv", page->folder);
        enum status status = report_space_heatmap(spaces->path[i], csv);
        if (status == STATUS_MISSING) continue;
        if (!status) status = csv_read(csv, &table);
        snprintf(name, sizeof name, "heatmap-%d", ++*drawn);
        if (!status)
            status = report_picture(page, e, "heatmap", &table, name, "",
                                    "The best time with each pair of values of the two tunables "
                                    "that explain most, in percent over the best; dark is fast.");
        csv_free(&table);
        remove(csv);
        TRY(status);
    }
    return STATUS_OK;
}

static enum status heatmap(struct page *page, const struct exported *e,
                           const struct report_spaces *spaces) {
    int drawn = 0;
    report_section(page, e, 4, "heatmap", "What the tunables do");
    if (e->heatmap.rows)
        return report_picture(page, e, "heatmap", &e->heatmap, "heatmap", "",
                              "The best time with each pair of values of the two tunables that "
                              "explain most, in percent over the best; dark is fast.");
    TRY(drawn_heatmap(page, e, spaces, &drawn));
    if (!drawn)
        page_missing(page, "No space that was measured whole is in this export.",
                     "build/release/fastinfer export --spaces");
    return STATUS_OK;
}

enum status report_search(struct page *page, const struct exported *e) {
    struct report_spaces spaces;
    tuning(page, e);
    enum status status = report_spaces(e, &spaces);
    if (!status) status = convergence(page, e, &spaces);
    if (!status) status = heatmap(page, e, &spaces);
    report_spaces_free(&spaces);
    return status;
}
