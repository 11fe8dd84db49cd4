/* report.c - fastinfer report: everything that was measured, as one page. */
#include "cli/report.h"

#include <argp.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/report_gather.h"

enum { KEY_DB = 256, KEY_EXPORT, KEY_OUT };
static const struct argp_option options[] = {
    {"db", KEY_DB, "FILE", 0, "the database (default results/fastinfer.db)", 0},
    {"export", KEY_EXPORT, "DIR", 0,
     "an exported folder instead, results/<device>; several, side by side, compare devices", 0},
    {"out", KEY_OUT, "DIR", 0,
     "report.html, report.md and pictures/ are made here (default: DIR/report of one --export, "
     "else results/report)",
     0},
    {0}};

struct arguments {
    const char *db, *out, *folder[MAX_EXPORTED];
    int folders;
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case KEY_DB:
        a->db = arg;
        break;
    case KEY_OUT:
        a->out = arg;
        break;
    case KEY_EXPORT:
    case ARGP_KEY_ARG: /* --export A B: the shell expands results/<*> to several words */
        if (key == ARGP_KEY_ARG && !a->folders) argp_error(state, "unexpected '%s'", arg);
        if (a->folders == MAX_EXPORTED)
            argp_error(state, "at most %d folders were expected", MAX_EXPORTED);
        if (strchr(arg, '\'')) argp_error(state, "%s: a path without quotes was expected", arg);
        a->folder[a->folders++] = arg;
        break;
    case ARGP_KEY_END:
        if (a->folders && a->db) argp_error(state, "--db or --export was expected, not both");
        if (a->out && strchr(a->out, '\''))
            argp_error(state, "%s: a path without quotes was expected", a->out);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static enum status write_device(struct page *page, const struct exported *e) {
    TRY(report_device(page, e));
    TRY(report_tokens(page, e));
    TRY(report_kernels(page, e));
    TRY(report_search(page, e));
    return report_trust(page, e);
}

static enum status write_report(const char *out, const struct exported *e, int count) {
    char title[256];
    struct page page;
    snprintf(title, sizeof title, "FastInfer on %s%s", e[0].name, count > 1 ? " and others" : "");
    enum status status = page_open(&page, out, title);
    if (!status) {
        page_say(&page,
                 "Fused kernels for small language models: what each costs here, against what the "
                 "memory allows and against PyTorch eager. Every figure names its device, driver, "
                 "commit and date; intervals hold the median with 95%% confidence. What was not "
                 "measured says so, with the command that measures it.");
        if (count > 1) report_compare(&page, e, count);
    }
    for (int i = 0; i < count && !status; i++) status = write_device(&page, &e[i]);
    if (!status && count == 1) report_compare(&page, e, count);
    enum status closed = page_close(&page);
    if (!status && !closed) printf("%s/report.html, report.md: %d pictures\n", out, page.pictures);
    return status ? status : closed;
}

static enum status read_all(struct arguments *a, struct gathered *gathered, struct exported *e,
                            int *count) {
    if (!a->folders) {
        TRY(report_gather(a->db ? a->db : "results/fastinfer.db", gathered));
        for (int i = 0; i < gathered->folders; i++) a->folder[a->folders++] = gathered->folder[i];
    }
    for (int i = 0; i < a->folders; i++) {
        TRY(exported_read(a->folder[i], &e[i]));
        *count = i + 1;
        int same = 0; /* two exports of one device: the sections' ids have to differ */
        for (int k = 0; k < i; k++) same += !strcmp(e[k].slug, e[i].slug);
        size_t length = strlen(e[i].slug), name = strlen(e[i].name);
        if (same) snprintf(e[i].slug + length, sizeof e[i].slug - length, "-%d", i + 1);
        if (same) snprintf(e[i].name + name, sizeof e[i].name - name, " (%d)", i + 1);
    }
    return STATUS_OK;
}

int cli_report(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse,
        NULL,
        "Writes what was measured as one self-contained page, report.html, and as report.md.\v"
        "  fastinfer report                                   from the database\n"
        "  fastinfer report --export results/nvidia-h200      from what was exported\n"
        "  fastinfer report --export results/A --export results/B --out both",
        NULL,
        NULL,
        NULL};
    struct arguments a = {0};
    struct gathered gathered = {0};
    char out[1100];
    int count = 0;
    argv[0] = cli_name("report");
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    struct exported *e = calloc(MAX_EXPORTED, sizeof *e);
    bool from_exports = a.folders > 0;
    enum status status =
        e ? read_all(&a, &gathered, e, &count) : fail(STATUS_SYSTEM, "out of memory");
    if (a.out)
        snprintf(out, sizeof out, "%s", a.out);
    else if (from_exports && count == 1)
        snprintf(out, sizeof out, "%s/report", e[0].folder);
    else
        snprintf(out, sizeof out, "results/report");
    if (!status) status = write_report(out, e, count);
    for (int i = 0; i < count; i++) exported_free(&e[i]);
    free(e);
    report_gathered_free(&gathered);
    return status ? cli_error(status) : 0;
}
