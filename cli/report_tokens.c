/* report_tokens.c - whole models: tokens a second, latency against position, a step's parts. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/report.h"

/* The first of two names of a column that is there. */
static const char *either(const struct csv *csv, const char *a, const char *b) {
    return csv_has(csv, a) ? a : b;
}

static void tokens_row(struct page *page, const struct csv *tps, int i) {
    char engine[128], lengths[64];
    const char *form = csv_cell(tps, i, "form");
    snprintf(engine, sizeof engine, "%.60s%s%.60s", csv_cell(tps, i, "engine"), *form ? " " : "",
             form);
    snprintf(lengths, sizeof lengths, "%.30s + %.30s", csv_cell(tps, i, "prompt"),
             csv_cell(tps, i, either(tps, "generate", "generated")));
    page_row(page,
             (const char *[]){
                 csv_cell(tps, i, "model"), engine, csv_cell(tps, i, "batch"), lengths,
                 report_number(csv_number(tps, i, either(tps, "tokens_per_s", "tokens_s")), 1),
                 report_interval(tps, i, either(tps, "low", "tokens_low"),
                                 either(tps, "high", "tokens_high"), 1),
                 report_number(csv_number(tps, i, either(tps, "ttft_ms", "first_ms")), 2),
                 report_number(csv_number(tps, i, "percent_of_read"), 1),
                 report_number(csv_number(tps, i, "hf_ratio"), 2), csv_cell(tps, i, "beside"),
                 csv_cell(tps, i, "configs")});
}

static enum status tokens(struct page *page, const struct exported *e) {
    const struct csv *tps = &e->tps;
    static const char *const headings[] = {"model",
                                           "engine",
                                           ">batch",
                                           ">prompt + new",
                                           ">tokens/s",
                                           ">interval",
                                           ">first token, ms",
                                           ">% of the read limit",
                                           ">times HuggingFace eager",
                                           "in one run with",
                                           "configuration"};
    char caption[512], origin[400];
    report_section(page, e, 3, "tokens", "Tokens a second, end to end");
    if (!tps->rows) {
        page_missing(page, "No model was timed here.",
                     "make tps && build/release/fastinfer export --tables");
        return STATUS_OK;
    }
    TRY(report_picture(page, e, "tps", tps, "tokens", "",
                       "Tokens a second of each sequence, decode alone; whiskers are 95% "
                       "intervals, with under six repeats the least and the most. The line is what "
                       "reading the weights and the cache once a step "
                       "allows at the measured read rate."));
    report_origin(tps, origin, sizeof origin);
    snprintf(caption, sizeof caption, "Every setting that was timed: %s.", origin);
    page_table(page, caption, headings, 11);
    for (int i = 0; i < tps->rows; i++) tokens_row(page, tps, i);
    page_table_end(page);
    return STATUS_OK;
}

static enum status position(struct page *page, const struct exported *e) {
    report_section(page, e, 3, "position", "Latency against position");
    if (!e->position.rows) {
        page_missing(page, "A step's time against the length of the cache was not measured here.",
                     "for n in 32 512 2048; do build/release/fastinfer tps --prompt $n; done; "
                     "build/release/fastinfer export --tables");
        return STATUS_OK;
    }
    return report_picture(page, e, "position", &e->position, "position", "",
                          "The time of one decode step against the position it is at; whiskers are "
                          "95% intervals, with under six repeats the least and the most; the "
                          "dashed line is what reading the weights and the "
                          "cache takes at the measured read rate.");
}

/* One a model, in the order of the file. */
static enum status step_pictures(struct page *page, const struct exported *e) {
    const struct csv *steps = &e->steps;
    int pictures = 0;
    for (int i = 0; i < steps->rows; i++) {
        const char *model = csv_cell(steps, i, "model");
        char settings[200], name[64];
        bool seen = strchr(model, '\'') != NULL; /* no name that gnuplot could be told */
        for (int k = 0; k < i && !seen; k++) seen = !strcmp(csv_cell(steps, k, "model"), model);
        if (seen) continue;
        snprintf(settings, sizeof settings, "model='%.150s'", model);
        snprintf(name, sizeof name, pictures ? "step-%d" : "step", pictures + 1);
        pictures++;
        TRY(report_picture(page, e, "step", steps, name, settings,
                           "Each kernel's share of one decode step: calls times the time of one, "
                           "each timed as a graph of its own."));
    }
    return STATUS_OK;
}

static enum status step(struct page *page, const struct exported *e) {
    static const char *const headings[] = {"model",        "kernel", ">calls",
                                           ">us together", ">GB/s",  "problem"};
    char caption[512], origin[400];
    const struct csv *steps = &e->steps;
    report_section(page, e, 3, "step", "Where a decode step's time goes");
    if (!steps->rows) {
        page_missing(
            page, "The parts of a decode step were not timed here.",
            "build/release/fastinfer tps --profile && build/release/fastinfer export --tables");
        return STATUS_OK;
    }
    TRY(step_pictures(page, e));
    report_origin(steps, origin, sizeof origin);
    snprintf(caption, sizeof caption, "Every part, as timed: %s.", origin);
    page_table(page, caption, headings, 6);
    for (int i = 0; i < steps->rows; i++) {
        double calls = csv_number(steps, i, "calls"), us = csv_number(steps, i, "us");
        page_row(page, (const char *[]){csv_cell(steps, i, "model"), csv_cell(steps, i, "kernel"),
                                        csv_cell(steps, i, "calls"), report_number(calls * us, 2),
                                        report_number(csv_number(steps, i, "bytes") / us / 1e3, 0),
                                        csv_cell(steps, i, "problem")});
    }
    page_table_end(page);
    return STATUS_OK;
}

enum status report_tokens(struct page *page, const struct exported *e) {
    TRY(tokens(page, e));
    TRY(position(page, e));
    return step(page, e);
}
