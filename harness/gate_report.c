/* gate_report.c - the gate's verdicts for people, JUnit readers, and GitHub. */
#include <errno.h>
#include <string.h>

#include "harness/gate.h"

static void summary(const struct gate_report *r, FILE *out) {
    fprintf(out, "%d slower, %d unsure, %d faster, %d same, %d new", r->count[GATE_SLOWER],
            r->count[GATE_UNSURE], r->count[GATE_FASTER], r->count[GATE_SAME], r->count[GATE_NEW]);
}

static void row_text(const struct gate_row *row, FILE *out) {
    if (row->ratio > 0)
        fprintf(out, "%.3f (%.3f to %.3f), %.2f -> %.2f us%s%s", row->ratio, row->low, row->high,
                row->base_us, row->now_us, row->reason[0] ? "; " : "", row->reason);
    else
        fputs(row->reason[0] ? row->reason : "nothing that costs more", out);
}

void gate_show(const struct gate_report *r, FILE *out) {
    fprintf(out, "gate: %s against %s%s%s\n", r->now, r->base,
            strcmp(r->device, "none") ? " on " : ", without a GPU: exact facts alone",
            strcmp(r->device, "none") ? r->device : "");
    for (int i = 0; i < r->rows; i++) {
        const struct gate_row *row = &r->row[i];
        if (row->verdict == GATE_SAME && (row->ratio > 0 || !row->reason[0])) continue;
        fprintf(out, "%-7s %s %s %s  ", gate_verdict_text(row->verdict), row->kernel, row->problem,
                row->policy[0] ? row->policy : "(exact)");
        row_text(row, out);
        fputc('\n', out);
    }
    summary(r, out);
    fputc('\n', out);
}

/* --- JUnit --------------------------------------------------------------------------------------
 */

static void xml(const char *text, FILE *out) {
    for (; *text; text++) {
        const char *entity = *text == '&'   ? "&amp;"
                             : *text == '<' ? "&lt;"
                             : *text == '>' ? "&gt;"
                             : *text == '"' ? "&quot;"
                                            : NULL;
        if (entity)
            fputs(entity, out);
        else if ((unsigned char)*text >= 32)
            fputc(*text, out);
    }
}

static enum status close_file(FILE *file, const char *path) {
    bool bad = ferror(file) != 0;
    if (fclose(file) || bad)
        return fail(STATUS_SYSTEM, "%s: could not be written: %s", path, strerror(errno));
    return STATUS_OK;
}

enum status gate_write_junit(const struct gate_report *r, const char *path) {
    FILE *out = fopen(path, "w");
    if (!out) return fail(STATUS_SYSTEM, "%s: could not be written: %s", path, strerror(errno));
    fprintf(out,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"fastinfer gate\" "
            "tests=\"%d\" failures=\"%d\" skipped=\"%d\">\n",
            r->rows, r->count[GATE_SLOWER], r->count[GATE_UNSURE] + r->count[GATE_NEW]);
    for (int i = 0; i < r->rows; i++) {
        const struct gate_row *row = &r->row[i];
        fputs("  <testcase classname=\"", out);
        xml(row->kernel, out);
        fputs("\" name=\"", out);
        xml(row->problem, out);
        fprintf(out, " %s\">", row->policy[0] ? row->policy : "exact");
        if (row->verdict == GATE_SLOWER) fputs("<failure message=\"slower\">", out);
        if (row->verdict == GATE_UNSURE || row->verdict == GATE_NEW)
            fprintf(out, "<skipped message=\"%s\"/><system-out>", gate_verdict_text(row->verdict));
        if (row->verdict != GATE_SAME && row->verdict != GATE_FASTER) {
            char text[1024] = "";
            FILE *memory = fmemopen(text, sizeof text - 1, "w");
            if (memory) row_text(row, memory), fclose(memory);
            xml(text, out);
        }
        if (row->verdict == GATE_SLOWER) fputs("</failure>", out);
        if (row->verdict == GATE_UNSURE || row->verdict == GATE_NEW) fputs("</system-out>", out);
        fputs("</testcase>\n", out);
    }
    fputs("</testsuite>\n", out);
    return close_file(out, path);
}

/* --- Markdown and annotations -------------------------------------------------------------------
 */

enum status gate_write_markdown(const struct gate_report *r, const char *path, bool append) {
    FILE *out = fopen(path, append ? "a" : "w");
    if (!out) return fail(STATUS_SYSTEM, "%s: could not be written: %s", path, strerror(errno));
    fprintf(out, "### Kernel gate: %s\n\n`%s` against `%s`, %s: ",
            r->count[GATE_SLOWER]   ? "slower"
            : r->count[GATE_UNSURE] ? "unsure"
                                    : "pass",
            r->now, r->base,
            strcmp(r->device, "none") ? r->device : "no GPU (exact facts, no times)");
    summary(r, out);
    fputs(".\n\n", out);
    int shown = r->rows - r->count[GATE_SAME];
    if (shown)
        fputs("| verdict | kernel | problem | policy | what |\n|---|---|---|---|---|\n", out);
    for (int i = 0; i < r->rows; i++) {
        const struct gate_row *row = &r->row[i];
        if (row->verdict == GATE_SAME) continue;
        fprintf(out, "| **%s** | %s | %s | %s | ", gate_verdict_text(row->verdict), row->kernel,
                row->problem, row->policy[0] ? row->policy : "exact");
        row_text(row, out);
        fputs(" |\n", out);
    }
    return close_file(out, path);
}

void gate_annotate(const struct gate_report *r, FILE *out) {
    for (int i = 0; i < r->rows; i++) {
        const struct gate_row *row = &r->row[i];
        if (row->verdict != GATE_SLOWER && row->verdict != GATE_UNSURE) continue;
        fprintf(out, "::%s file=kernels/%s/%s.cu,title=%s %s::%s: ",
                row->verdict == GATE_SLOWER ? "error" : "warning", row->kernel, row->kernel,
                row->kernel, gate_verdict_text(row->verdict), row->problem);
        row_text(row, out);
        fputc('\n', out);
    }
}
