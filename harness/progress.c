#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "harness/bench.h"
#include "runtime/clock.h"

void progress_start(struct progress *p) {
    p->start_s = clock_seconds(), p->shown_s = 0;
    p->terminal = isatty(2) != 0;
}

static void format_time(double s, char *out, size_t bytes) {
    if (s >= 3600)
        snprintf(out, bytes, "%d h %02d min", (int)s / 3600, (int)s / 60 % 60);
    else if (s >= 60)
        snprintf(out, bytes, "%d min %02d s", (int)s / 60, (int)s % 60);
    else
        snprintf(out, bytes, "%d s", (int)s);
}

void progress_show(struct progress *p, const char *doing, int done, int total, const char *best,
                   bool force) {
    double now = clock_seconds(), elapsed = now - p->start_s;
    if (p->quiet || (!force && now - p->shown_s < (p->terminal ? 0.2 : 5.0))) return;
    p->shown_s = now;
    char left[48] = "", time[40];
    if (done > 0 && total > done && elapsed > 2) {
        format_time(elapsed * (total - done) / done, time, sizeof time);
        snprintf(left, sizeof left, ", about %s left", time);
    }
    char line[400];
    snprintf(line, sizeof line, "[%d/%d] %s%s%s%s", done, total, doing, *best ? ", " : "", best,
             left);
    if (p->terminal)
        fprintf(stderr, "\r\033[K%.*s", 160, line);
    else
        fprintf(stderr, "%s\n", line);
    fflush(stderr);
}

void progress_clear(struct progress *p) {
    if (p->terminal && !p->quiet) fprintf(stderr, "\r\033[K");
}
