/* report_trust.c - counters, the gate's noise and history, and how all was measured. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/report.h"
#include "runtime/json_text.h"

static enum status counters(struct page *page, const struct exported *e) {
    static const char *const headings[] = {
        "kernel", "problem", "policy", ">bytes moved", ">least bytes", ">moved / least", "source"};
    char caption[700], origin[400];
    report_section(page, e, 3, "counters", "Counters: bytes that memory really moved");
    if (!e->traffic.rows) {
        page_missing(page, "No hardware counter was read here.",
                     "make bench BENCH='--counters basic' && build/release/fastinfer report");
        return STATUS_OK;
    }
    report_origin(&e->traffic, origin, sizeof origin);
    snprintf(caption, sizeof caption,
             "Counted by CUPTI, or, where it says `counted`, by formula: %s. Writes that stay in "
             "the L2 cache move nothing.",
             origin);
    page_table(page, caption, headings, 7);
    for (int i = 0; i < e->traffic.rows; i++) {
        char policy[64];
        snprintf(policy, sizeof policy, "%s,%s", csv_cell(&e->traffic, i, "residency"),
                 csv_cell(&e->traffic, i, "launch"));
        page_row(page, (const char *[]){
                           csv_cell(&e->traffic, i, "kernel"), csv_cell(&e->traffic, i, "problem"),
                           policy, report_number(csv_number(&e->traffic, i, "measured_bytes"), 0),
                           report_number(csv_number(&e->traffic, i, "least_bytes"), 0),
                           report_number(csv_number(&e->traffic, i, "over_least"), 4),
                           csv_cell(&e->traffic, i, "source")});
    }
    page_table_end(page);
    return STATUS_OK;
}

/* One comparison a row: those of one date and commit, which stand together. */
static void gate_table(struct page *page, const struct csv *gate) {
    static const char *const headings[] = {"date",    "commit",  "against", ">same",
                                           ">faster", ">slower", ">unsure", ">new"};
    static const char *const verdicts[] = {"same", "faster", "slower", "unsure", "new"};
    page_table(page, "The gate's verdicts, a comparison a row.", headings, 8);
    for (int i = 0, from = 0; i < gate->rows; i++) {
        double count[5] = {0};
        bool ends = i + 1 == gate->rows ||
                    strcmp(csv_cell(gate, i, "date"), csv_cell(gate, i + 1, "date")) != 0 ||
                    strcmp(csv_cell(gate, i, "commit"), csv_cell(gate, i + 1, "commit")) != 0;
        if (!ends) continue;
        for (int row = from; row <= i; row++)
            for (int v = 0; v < 5; v++)
                count[v] += !strcmp(csv_cell(gate, row, "verdict"), verdicts[v]);
        const char *cells[8] = {csv_cell(gate, i, "date"), csv_cell(gate, i, "commit"),
                                csv_cell(gate, i, "base")};
        for (int v = 0; v < 5; v++) cells[3 + v] = report_number(count[v], 0);
        page_row(page, cells);
        from = i + 1;
    }
    page_table_end(page);
}

static enum status gate(struct page *page, const struct exported *e) {
    report_section(page, e, 3, "gate", "Gate: is a commit slower?");
    const json_t *c = e->calibration;
    if (c)
        page_say(
            page,
            "Calibrated at commit %s, %.10s: two equal trees differ by %.2f%% at the 95th "
            "percentile (%lld comparisons); a slowdown of 3%% was found in %lld of %lld tries.",
            json_text(c, "commit"), json_text(c, "date"),
            100 * json_number_value(json_object_get(c, "noise_95")),
            (long long)json_integer_value(json_object_get(c, "comparisons")),
            (long long)json_integer_value(json_object_get(c, "planted_found")),
            (long long)json_integer_value(json_object_get(c, "planted")));
    else
        page_missing(page, "The gate was not calibrated here.",
                     "build/release/fastinfer calibrate");
    if (!e->gate.rows) {
        page_missing(
            page, "No history over commits is in this export.",
            "build/release/fastinfer gate --base HEAD~1 --history results/<device>/gate.csv");
        return STATUS_OK;
    }
    gate_table(page, &e->gate);
    return report_picture(
        page, e, "gate", &e->gate, "gate", "",
        "Time over the base's, a point a comparison, in the order of the commits; "
        "whiskers are the gate's intervals.");
}

static void method(struct page *page, const struct exported *e) {
    const json_t *run = exported_run(e);
    report_section(page, e, 3, "method", "How it was measured");
    page_say(page,
             "Right before fast: every point's outputs are compared, element by element, with "
             "an fp64 reference under a stated bound before it is timed.");
    page_say(page, "A time is the median over samples of the span between two events around many "
                   "launches, less the span of as many empty kernels. The host's cost of a launch "
                   "never shows. Intervals hold the median with 95%% confidence, by order "
                   "statistics.");
    page_say(page, "Speedups, ceilings and defaults come from contests: all take turns, sample by "
                   "sample, in one run. The ceiling is the best of many variants of a kernel that "
                   "only reads and writes as many bytes.");
    if (run)
        page_say(page,
                 "Run %lld: `fastinfer bench %s`, seed %lld, %.0f s, of which %.0f s measuring; "
                 "%lld measurements.",
                 (long long)json_integer_value(json_object_get(run, "run")),
                 json_text(run, "command"),
                 (long long)json_integer_value(json_object_get(run, "seed")),
                 json_number_value(json_object_get(run, "wall_seconds")),
                 json_number_value(json_object_get(run, "measure_seconds")),
                 (long long)json_integer_value(json_object_get(run, "measurements")));
    page_say(page, "All rules, with their reasons: `docs/measuring.md` of the source tree.");
}

enum status report_trust(struct page *page, const struct exported *e) {
    TRY(counters(page, e));
    TRY(gate(page, e));
    method(page, e);
    return STATUS_OK;
}
