/* report_device.c - the device and what it was measured to do; several beside one another. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/report.h"
#include "runtime/json_text.h"

static double number_of(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static void contents(struct page *page, const struct exported *e) {
    static const char *const parts[][2] = {{"tokens", "Tokens a second"},
                                           {"position", "Latency against position"},
                                           {"step", "A decode step"},
                                           {"prefill", "Prefill"},
                                           {"decode", "Decode"},
                                           {"tuning", "Tuning"},
                                           {"counters", "Counters"},
                                           {"gate", "Gate"},
                                           {"method", "How it was measured"}};
    enum { PARTS = sizeof parts / sizeof *parts };
    char id[256];
    for (int i = 0; i < PARTS; i++) {
        snprintf(id, sizeof id, "%s-%s", e->slug, parts[i][0]);
        page_link(page, i == 0, i == PARTS - 1, id, parts[i][1]);
    }
}

static void fact(struct page *page, const char *name, double value, int decimals,
                 const char *unit) {
    char text[64];
    if (isnan(value)) return;
    snprintf(text, sizeof text, "%s%s%s", report_number(value, decimals), *unit ? " " : "", unit);
    page_row(page, (const char *[]){name, text});
}

static void word(struct page *page, const char *name, const char *value) {
    if (*value) page_row(page, (const char *[]){name, value});
}

/* The best stream of bench.csv: of its own rows, and of those beside the kernels. */
static double best_stream(const struct csv *bench) {
    double best = NAN;
    for (int i = 0; i < bench->rows; i++) {
        if (strcmp(csv_cell(bench, i, "residency"), "cold") != 0) continue;
        bool own = !strcmp(csv_cell(bench, i, "kernel"), "stream");
        double gbps = csv_number(bench, i, own ? "gbps" : "ceiling_gbps");
        if (!isnan(gbps) && !(gbps <= best)) best = gbps;
    }
    return best;
}

static void facts_table(struct page *page, const struct exported *e, const json_t *run) {
    const char *text = json_text(run, "facts");
    json_t *facts = json_loads(text, 0, NULL);
    char origin[64];
    page_table(page, "The device, and what it was measured to do.",
               (const char *[]){"what", "value"}, 2);
    word(page, "device", e->name);
    fact(page, "architecture, sm", number_of(run, "arch"), 0, "");
    fact(page, "multiprocessors", number_of(facts, "sms"), 0, "");
    fact(page, "memory", number_of(facts, "memory_bytes") / (1 << 30), 1, "GiB");
    fact(page, "L2 cache", number_of(facts, "l2_bytes") / (1 << 20), 1, "MiB");
    fact(page, "memory bus", number_of(facts, "bus_bits"), 0, "bits");
    fact(page, "measured: device-to-device copy", number_of(run, "copy_gbps"), 0, "GB/s");
    fact(page, "measured: read", number_of(run, "read_gbps"), 0, "GB/s");
    fact(page, "measured: the best stream, caches cold", best_stream(&e->bench), 0, "GB/s");
    fact(page, "measured: an empty launch", number_of(run, "launch_ns") / 1e3, 2, "us");
    fact(page, "measured: an empty node of a graph", number_of(run, "graph_node_ns") / 1e3, 2,
         "us");
    word(page, "driver", json_text(run, "driver"));
    word(page, "compiler", json_text(run, "compiler"));
    word(page, "baseline", json_text(run, "baseline"));
    snprintf(origin, sizeof origin, "%.12s%s", json_text(run, "commit"),
             number_of(run, "dirty") > 0 ? " (modified)" : "");
    word(page, "commit", origin);
    snprintf(origin, sizeof origin, "%.10s", json_text(run, "started"));
    word(page, "date", origin);
    page_table_end(page);
    json_decref(facts);
}

enum status report_device(struct page *page, const struct exported *e) {
    const json_t *run = exported_run(e);
    report_section(page, e, 2, "device", e->name);
    contents(page, e);
    if (!run) {
        page_missing(page, "What this device was measured to do is not in this export.",
                     "make bench && build/release/fastinfer export");
        return STATUS_OK;
    }
    if (!strcmp(json_text(run, "device_kind"), "cpu"))
        page_say(page,
                 "The CPU device runs the kernels' sources thread by thread: its times are an "
                 "emulation's and say nothing about a GPU.");
    facts_table(page, e, run);
    return STATUS_OK;
}

/* --- several devices ------------------------------------------------------------------------- */

static int same_problem(const struct csv *in, const struct csv *of, int row) {
    static const char *const key[] = {"kernel", "dtype", "problem", "residency", "launch"};
    for (int i = 0; i < in->rows; i++) {
        size_t k = 0;
        while (k < 5 && !strcmp(csv_cell(in, i, key[k]), csv_cell(of, row, key[k]))) k++;
        if (k == 5) return i;
    }
    return -1;
}

static void compare_row(struct page *page, const struct exported *e, int count, int row) {
    const char *cells[3 + 2 * MAX_EXPORTED];
    char policy[64];
    int n = 0;
    snprintf(policy, sizeof policy, "%s,%s", csv_cell(&e->bench, row, "residency"),
             csv_cell(&e->bench, row, "launch"));
    cells[n++] = csv_cell(&e->bench, row, "kernel");
    cells[n++] = csv_cell(&e->bench, row, "problem");
    cells[n++] = policy;
    for (int i = 0; i < count; i++) {
        const struct csv *bench = &e[i].bench;
        int at = same_problem(bench, &e->bench, row);
        cells[n++] = report_number(csv_number(bench, at, "median_us"), 2);
        cells[n++] = report_number(csv_number(bench, at, "percent_of_ceiling"), 1);
    }
    page_row(page, cells);
}

void report_compare(struct page *page, const struct exported *e, int count) {
    static char names[2 * MAX_EXPORTED][160];
    const char *headings[3 + 2 * MAX_EXPORTED] = {"kernel", "problem", "policy"};
    page_section(page, "compare", 2, "Devices side by side");
    if (count < 2) {
        page_missing(page, "One device is shown. Several exports are compared by",
                     "fastinfer report --export results/A --export results/B");
        return;
    }
    for (int i = 0; i < count; i++) {
        snprintf(names[2 * i], sizeof *names, ">%s: us", e[i].name);
        snprintf(names[2 * i + 1], sizeof *names, ">%s: %% of ceiling", e[i].name);
        headings[3 + 2 * i] = names[2 * i];
        headings[4 + 2 * i] = names[2 * i + 1];
    }
    page_table(page,
               "The best point of each problem that all of them measured. Percentages compare "
               "across devices; times of different drivers and dates are each device's own.",
               headings, 3 + 2 * count);
    for (int row = 0; row < e->bench.rows; row++) {
        int in_all = strcmp(csv_cell(&e->bench, row, "kernel"), "stream") != 0;
        for (int i = 1; i < count && in_all; i++)
            in_all = same_problem(&e[i].bench, &e->bench, row) >= 0;
        if (in_all) compare_row(page, e, count, row);
    }
    page_table_end(page);
}
