/* report_data.c - reading an exported folder, and what all sections share. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/gnuplot.h"
#include "cli/report.h"
#include "runtime/json_text.h"
#include "runtime/kernel.h"

static enum status read_table(const char *folder, const char *name, struct csv *out) {
    char path[1100];
    snprintf(path, sizeof path, "%s/%s.csv", folder, name);
    if (!access(path, F_OK)) return csv_read(path, out);
    *out = (struct csv){0};
    return STATUS_OK;
}

static enum status read_json(const char *folder, const char *name, json_t **out) {
    char path[1100];
    json_error_t error;
    snprintf(path, sizeof path, "%s/%s.json", folder, name);
    *out = NULL;
    if (access(path, F_OK)) return STATUS_OK;
    if (!(*out = json_load_file(path, 0, &error)))
        return fail(STATUS_FORMAT, "%s:%d: %s", path, error.line, error.text);
    return STATUS_OK;
}

static enum status read_files(const char *folder, struct exported *e) {
    const struct {
        const char *name;
        struct csv *table;
    } tables[] = {{"bench", &e->bench},       {"tuning", &e->tuning},
                  {"tps", &e->tps},           {"steps", &e->steps},
                  {"position", &e->position}, {"traffic", &e->traffic},
                  {"gate", &e->gate},         {"convergence", &e->convergence},
                  {"search", &e->search},     {"heatmap", &e->heatmap}};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        TRY(read_table(folder, tables[i].name, tables[i].table));
    TRY(read_json(folder, "environment", &e->environment));
    return read_json(folder, "calibration", &e->calibration);
}

enum status exported_read(const char *folder, struct exported *e) {
    struct stat found;
    *e = (struct exported){0};
    snprintf(e->folder, sizeof e->folder, "%s", folder);
    size_t length = strlen(e->folder);
    while (length > 1 && e->folder[length - 1] == '/') e->folder[--length] = 0;
    if (stat(folder, &found) || !S_ISDIR(found.st_mode))
        return fail(STATUS_ARGUMENT, "%s: an exported folder, results/<device>, was expected",
                    folder);
    enum status status = read_files(e->folder, e);
    if (!status && !e->bench.rows && !e->tps.rows && !e->tuning.rows)
        status =
            fail(STATUS_ARGUMENT,
                 "%s: nothing measured in it; bench.csv, tuning.csv or tps.csv was expected, as "
                 "`fastinfer export` writes them",
                 folder);
    if (status) {
        exported_free(e);
        return status;
    }
    const json_t *run = exported_run(e);
    const char *slash = strrchr(e->folder, '/'), *slug = json_text(run, "device_slug");
    const char *name = json_text(run, "device");
    snprintf(e->slug, sizeof e->slug, "%.100s", *slug ? slug : slash ? slash + 1 : e->folder);
    if (!*name) name = e->bench.rows ? csv_cell(&e->bench, 0, "device") : "";
    snprintf(e->name, sizeof e->name, "%.100s", *name ? name : e->slug);
    return STATUS_OK;
}

void exported_free(struct exported *e) {
    struct csv *tables[] = {&e->bench,   &e->tuning, &e->tps,         &e->steps,  &e->position,
                            &e->traffic, &e->gate,   &e->convergence, &e->search, &e->heatmap};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) csv_free(tables[i]);
    json_decref(e->environment);
    json_decref(e->calibration);
    e->environment = e->calibration = NULL;
}

const json_t *exported_run(const struct exported *e) {
    size_t runs = json_array_size(e->environment);
    return runs ? json_array_get(e->environment, runs - 1) : NULL;
}

int exported_kernels(const struct exported *e, const char *names[MAX_KERNELS]) {
    int count = 0;
    for (int i = 0; i < e->bench.rows; i++) {
        const char *kernel = csv_cell(&e->bench, i, "kernel");
        int seen = 0;
        while (seen < count && strcmp(names[seen], kernel) != 0) seen++;
        if (seen == count && count < MAX_KERNELS && strcmp(kernel, "stream") != 0)
            names[count++] = kernel;
    }
    return count;
}

void report_section(struct page *page, const struct exported *e, int level, const char *part,
                    const char *title) {
    char id[256];
    snprintf(id, sizeof id, "%s-%s", e->slug, part);
    page_section(page, id, level, title);
}

const char *report_number(double value, int decimals) {
    static char text[32][32];
    static int next;
    char *out = text[next = (next + 1) % 32];
    if (isnan(value)) return "-";
    snprintf(out, sizeof *text, "%.*f", decimals, value);
    return out;
}

const char *report_interval(const struct csv *csv, int row, const char *low, const char *high,
                            int decimals) {
    static char text[8][64];
    static int next;
    char *out = text[next = (next + 1) % 8];
    double from = csv_number(csv, row, low), to = csv_number(csv, row, high);
    if (isnan(from) || isnan(to)) return "-";
    snprintf(out, sizeof *text, "%s to %s", report_number(from, decimals),
             report_number(to, decimals));
    return out;
}

void report_origin(const struct csv *csv, char *out, size_t bytes) {
    int newest = 0, others = 0;
    for (int i = 1; i < csv->rows; i++)
        if (strcmp(csv_cell(csv, i, "date"), csv_cell(csv, newest, "date")) > 0) newest = i;
    for (int i = 0; i < csv->rows; i++)
        others |= strcmp(csv_cell(csv, i, "commit"), csv_cell(csv, newest, "commit")) != 0;
    const char *driver = csv_cell(csv, newest, "driver"), *commit = csv_cell(csv, newest, "commit");
    snprintf(out, bytes, "%s%s%s%s%.12s%s%s, %.10s", csv_cell(csv, newest, "device"),
             *driver ? ", driver " : "", driver, *commit ? ", commit " : "", commit,
             strcmp(csv_cell(csv, newest, "dirty"), "1") != 0 ? "" : " (modified)",
             others ? " and others" : "", csv_cell(csv, newest, "date"));
}

/* In a folder of its own beside the pictures: scripts name their output as themselves. */
static enum status draw(struct page *page, const char *script, const char *csv,
                        const char *settings, char svg[1400], char line[512], int *code) {
    char scripts[1024], path[1200], folder[1100], all[1024];
    gnuplot_scripts(scripts, sizeof scripts);
    snprintf(path, sizeof path, "%s/%s.gp", scripts, script);
    snprintf(folder, sizeof folder, "%.1000s/pictures", page->folder);
    snprintf(all, sizeof all, "forms='svg'; %s", settings);
    *code = gnuplot_run_with(path, csv, folder, all, line, 512);
    if (*code == -1) return fail(STATUS_MISSING, "a report needs pictures: " GNUPLOT_MISSING);
    if (*code && *code != GNUPLOT_NOTHING)
        return fail(STATUS_SYSTEM, "%s failed on %s: %s", path, csv, line);
    snprintf(svg, 1400, "%s/%s.svg", folder, script);
    return STATUS_OK;
}

enum status report_picture(struct page *page, const struct exported *e, const char *script,
                           const struct csv *csv, const char *name, const char *settings,
                           const char *caption) {
    char svg[1400], line[512], id[256], words[2048], origin[400];
    int code;
    TRY(draw(page, script, csv->path, settings, svg, line, &code));
    if (code == GNUPLOT_NOTHING) {
        page_say(page, "No picture: %s.", line);
        return STATUS_OK;
    }
    snprintf(id, sizeof id, "%s-%s", e->slug, name);
    report_origin(csv, origin, sizeof origin);
    snprintf(words, sizeof words, "%s%s%s.", caption, csv_has(csv, "date") ? " " : "",
             csv_has(csv, "date") ? origin : "");
    return page_picture(page, id, svg, words);
}

/* Is `part`, of so many bytes, one of the parts between commas? */
static bool has_part(const char *list, const char *part, size_t bytes) {
    while (*list) {
        size_t length = strcspn(list, ",");
        if (length == bytes && !strncmp(list, part, bytes)) return true;
        list += length + (list[length] == ',');
    }
    return false;
}

static void add_part(char *out, size_t bytes, const char *part, size_t length) {
    size_t at = strlen(out);
    snprintf(out + at, bytes - at, "%s%.*s", at ? "," : "", (int)length, part);
}

void report_shared(const struct csv *csv, const bool *rows, char *out, size_t bytes) {
    int first = -1, count = 0;
    for (int i = 0; i < csv->rows; i++)
        if (rows[i]) first = count++ ? first : i;
    *out = 0;
    if (count < 2) return;
    for (const char *part = csv_cell(csv, first, "problem"); *part;) {
        size_t length = strcspn(part, ",");
        bool all = true;
        for (int i = 0; i < csv->rows; i++)
            all &= !rows[i] || has_part(csv_cell(csv, i, "problem"), part, length);
        if (all) add_part(out, bytes, part, length);
        part += length + (part[length] == ',');
    }
}

const char *report_problem(const struct csv *csv, int row, const char *shared) {
    static char text[MAX_TEXT];
    *text = 0;
    for (const char *part = csv_cell(csv, row, "problem"); *part;) {
        size_t length = strcspn(part, ",");
        if (!has_part(shared, part, length)) add_part(text, sizeof text, part, length);
        part += length + (part[length] == ',');
    }
    return text;
}
