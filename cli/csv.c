#include "cli/csv.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum status read_all(const char *path, char **text) {
    FILE *file = fopen(path, "rb");
    if (!file)
        return fail(errno == ENOENT ? STATUS_MISSING : STATUS_SYSTEM, "%s: %s", path,
                    strerror(errno));
    size_t length = 0, room = 0, got = 1;
    *text = NULL;
    while (got) {
        if (length + 1 >= room) {
            char *larger = realloc(*text, room = 2 * room + 4096);
            if (!larger) {
                fclose(file);
                return fail(STATUS_SYSTEM, "out of memory");
            }
            *text = larger;
        }
        length += got = fread(*text + length, 1, room - length - 1, file);
    }
    bool bad = ferror(file);
    fclose(file);
    (*text)[length] = 0;
    if (bad) return fail(STATUS_SYSTEM, "%s: could not be read", path);
    if (strlen(*text) != length) return fail(STATUS_FORMAT, "%s: a zero byte in a CSV", path);
    return STATUS_OK;
}

/* One field at *at, unquoted in place; *end is what ended it: ',', '\n' or 0. */
static enum status take_field(const char *path, int *line, char **at, char **field, char *end) {
    char *from = *at, *to = *field = *at;
    bool quoted = *from == '"';
    int began = *line;
    if (quoted) from++;
    for (; *from; from++) {
        if (quoted && *from == '"') {
            if (from[1] != '"') {
                quoted = false;
                continue;
            }
            from++;
        } else if (!quoted && (*from == ',' || *from == '\n')) {
            break;
        }
        if (*from == '\n') ++*line;
        if (*from != '\r' || from[1] != '\n') *to++ = *from;
    }
    if (quoted) return fail(STATUS_FORMAT, "%s:%d: a quote is left open", path, began);
    *end = *from;
    if (*from == '\n') ++*line;
    *at = *from ? from + 1 : from;
    *to = 0;
    return STATUS_OK;
}

static enum status add_field(struct csv *csv, int *count, int *room, char *field) {
    if (*count == *room) {
        char **larger = realloc(csv->field, (size_t)(*room = 2 * *room + 64) * sizeof *larger);
        if (!larger) return fail(STATUS_SYSTEM, "out of memory");
        csv->field = larger;
    }
    csv->field[(*count)++] = field;
    return STATUS_OK;
}

static enum status add_row(struct csv *csv, int fields, int line) {
    if (!csv->columns) {
        csv->columns = fields;
        return STATUS_OK;
    }
    if (fields != csv->columns)
        return fail(STATUS_FORMAT, "%s:%d: %d fields, %d were expected, as in the header",
                    csv->path, line, fields, csv->columns);
    int *larger = realloc(csv->line, (size_t)(csv->rows + 1) * sizeof *larger);
    if (!larger) return fail(STATUS_SYSTEM, "out of memory");
    csv->line = larger;
    csv->line[csv->rows++] = line;
    return STATUS_OK;
}

enum status csv_read(const char *path, struct csv *out) {
    *out = (struct csv){0};
    snprintf(out->path, sizeof out->path, "%s", path);
    TRY(read_all(path, &out->text));
    char *at = out->text, end = '\n';
    int line = 1, count = 0, room = 0;
    while (*at) {
        int began = line, fields = 0;
        if (*at == '\n') { /* an empty line is none */
            at++, line++;
            continue;
        }
        do {
            char *field;
            TRY(take_field(path, &line, &at, &field, &end));
            TRY(add_field(out, &count, &room, field));
            fields++;
        } while (end == ',');
        TRY(add_row(out, fields, began));
    }
    return STATUS_OK;
}

void csv_free(struct csv *csv) {
    free(csv->text), free(csv->field), free(csv->line);
    *csv = (struct csv){0};
}

static int column_of(const struct csv *csv, const char *name) {
    for (int i = 0; i < csv->columns; i++)
        if (!strcmp(csv->field[i], name)) return i;
    return -1;
}

bool csv_has(const struct csv *csv, const char *name) { return column_of(csv, name) >= 0; }

const char *csv_cell(const struct csv *csv, int row, const char *name) {
    int column = column_of(csv, name);
    return column < 0 || row < 0 || row >= csv->rows
               ? ""
               : csv->field[(row + 1) * csv->columns + column];
}

double csv_number(const struct csv *csv, int row, const char *name) {
    const char *text = csv_cell(csv, row, name);
    char *end;
    double value = strtod(text, &end);
    return *text && !*end ? value : NAN;
}
