#include "cli/gate_history.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "cli/export.h"

#define HEADER                                                                                     \
    "date,base,commit,dirty,device,driver,kernel,dtype,problem,policy,verdict,ratio,low,high,"     \
    "base_us,now_us\n"

static enum status look(const char *path, bool *begun) {
    char line[512] = "";
    FILE *file = fopen(path, "r");
    *begun = file && fgets(line, sizeof line, file);
    if (file) fclose(file);
    if (*begun && strcmp(line, HEADER) != 0)
        return fail(STATUS_FORMAT, "%s:1: the gate's own header was expected: %s", path, HEADER);
    return STATUS_OK;
}

/* "0123abc (changed)" is a commit and whether the tree had changed. */
static void write_row(FILE *out, const struct gate_report *r, const struct gate_row *row,
                      const char *date, const char *device, const char *driver) {
    fprintf(out, "%s,%.*s,%.*s,%d,", date, (int)strcspn(r->base, " "), r->base,
            (int)strcspn(r->now, " "), r->now, strchr(r->now, ' ') != NULL);
    const char *texts[] = {device,
                           driver,
                           row->kernel,
                           row->dtype,
                           row->problem,
                           row->policy[0] ? row->policy : "exact",
                           gate_verdict_text(row->verdict)};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        export_csv_field(out, texts[i]);
        fputc(',', out);
    }
    if (row->ratio > 0)
        fprintf(out, "%.4f,%.4f,%.4f,%.4f,%.4f\n", row->ratio, row->low, row->high, row->base_us,
                row->now_us);
    else
        fputs(",,,,\n", out); /* exact facts have no time */
}

enum status gate_history_append(const char *path, const struct gate_report *report,
                                const char *device, const char *driver) {
    bool begun;
    char date[32]; /* one of all rows: it tells one comparison from the next */
    time_t now = time(NULL);
    struct tm utc;
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    TRY(look(path, &begun));
    FILE *out = fopen(path, "a");
    if (!out) return fail(STATUS_SYSTEM, "%s: could not be written: %s", path, strerror(errno));
    if (!begun) fputs(HEADER, out);
    for (int i = 0; i < report->rows; i++)
        write_row(out, report, &report->row[i], date, device, driver);
    bool good = !ferror(out);
    good &= fclose(out) == 0;
    return good ? STATUS_OK : fail(STATUS_SYSTEM, "%s: could not be written", path);
}
