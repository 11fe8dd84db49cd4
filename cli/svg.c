#include "cli/svg.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static enum status read_file(const char *path, char **out) {
    FILE *file = fopen(path, "rb");
    char *text = NULL;
    size_t room = 0;
    if (!file) return fail(STATUS_SYSTEM, "%s: %s", path, strerror(errno));
    ssize_t length = getdelim(&text, &room, 0, file);
    fclose(file);
    if (length <= 0) {
        free(text);
        return fail(STATUS_FORMAT, "%s: an SVG was expected, the file is empty", path);
    }
    *out = text;
    return STATUS_OK;
}

/* The colours of plots/look.gp, as 0xRRGGBB, and what the page calls them. */
static const struct {
    unsigned rgb;
    const char *name;
} colours[] = {
    {0x202020, "ink"},   {0x404040, "soft"},   {0x000000, "black"},  {0xDDDDDD, "grid"},
    {0xB8B8B8, "faint"}, {0x808080, "grey"},   {0x0072B2, "blue"},   {0xD55E00, "vermilion"},
    {0x009E73, "green"}, {0xCC79A7, "purple"}, {0xE69F00, "orange"}, {0x56B4E9, "sky"},
    {0x003F63, "navy"},
};

static void put_colour(FILE *out, unsigned rgb) {
    for (size_t i = 0; i < sizeof colours / sizeof *colours; i++)
        if (colours[i].rgb == rgb) {
            fprintf(out, "var(--plot-%s,#%06X)", colours[i].name, rgb);
            return;
        }
    fprintf(out, "#%06X", rgb);
}

/* A value of an attribute, in its quotes. */
static void put_value(FILE *out, const char *name, size_t name_length, const char *value,
                      size_t length, const char *prefix) {
    unsigned r, g, b;
    char text[64];
    bool is_id = name_length == 2 && !strncmp(name, "id", 2);
    bool is_link = name_length >= 4 && !strncmp(name + name_length - 4, "href", 4);
    snprintf(text, sizeof text, "%.*s", length < 60 ? (int)length : 60, value);
    if (is_id)
        fprintf(out, "%s-%.*s", prefix, (int)length, value);
    else if (is_link && *value == '#')
        fprintf(out, "#%s-%.*s", prefix, (int)length - 1, value + 1);
    else if (!strncmp(value, "url(#", 5))
        fprintf(out, "url(#%s-%.*s", prefix, (int)length - 5, value + 5);
    else if (!strcmp(text,
                     "#FFFFFF")) /* what gnuplot rubs out; white as a colour is rgb(255,...) */
        fputs("var(--paper,#FFFFFF)", out);
    else if (sscanf(text, "rgb(%u,%u,%u)", &r, &g, &b) == 3 && r < 256 && g < 256 && b < 256)
        put_colour(out, r << 16 | g << 8 | b);
    else if (sscanf(text, "#%2x%2x%2x", &r, &g, &b) == 3 && length == 7)
        put_colour(out, r << 16 | g << 8 | b);
    else if (!strcmp(text, "black"))
        put_colour(out, 0);
    else
        fwrite(value, 1, length, out);
}

/* A tag from '<' to '>', its attributes rewritten. */
static const char *put_tag(FILE *out, const char *at, const char *prefix) {
    while (*at && *at != '>') {
        const char *name = at;
        while (*at && *at != '>' && *at != '=' && *at != ' ' && *at != '\n' && *at != '\t') at++;
        fwrite(name, 1, (size_t)(at - name), out);
        size_t name_length = (size_t)(at - name);
        const char *equals = at + strspn(at, " "); /* gnuplot writes fill = 'rgb(...)' too */
        const char *quote = *equals == '=' ? equals + 1 + strspn(equals + 1, " ") : "";
        if (name_length && (*quote == '"' || *quote == '\'')) {
            const char *value = quote + 1, *end = strchr(value, *quote);
            if (!end) break;
            fprintf(out, "=%c", *quote);
            put_value(out, name, name_length, value, (size_t)(end - value), prefix);
            fputc(*quote, out);
            at = end + 1;
        } else if (*at && *at != '>') {
            fputc(*at == '\t' ? ' ' : *at, out);
            at++;
        }
    }
    if (*at) fputc(*at++, out);
    return at;
}

static bool begins(const char *at, const char *word) { return !strncmp(at, word, strlen(word)); }

static const char *skip_past(const char *at, const char *word) {
    const char *end = strstr(at, word);
    return end ? end + strlen(word) : at + strlen(at);
}

static void put_body(FILE *out, const char *at, const char *prefix) {
    bool ground = true;
    while (*at) {
        if (begins(at, "<title>Gnuplot")) {
            at = skip_past(at, "</title>");
        } else if (begins(at, "<desc>")) {
            at = skip_past(at, "</desc>");
        } else if (begins(at, "<filter")) { /* boxes behind text: none has one */
            at = skip_past(at, "</filter>");
        } else if (ground && begins(at, "<rect x=\"0\" y=\"0\"")) {
            at = skip_past(at, "/>"), ground = false;
        } else if (*at == '<') {
            at = put_tag(out, at, prefix);
        } else {
            if (*at != '\t') fputc(*at, out);
            at++;
        }
    }
}

enum status svg_inline(FILE *out, const char *path, const char *prefix, const char *label) {
    char *text = NULL;
    TRY(read_file(path, &text));
    const char *svg = strstr(text, "<svg"), *box = svg ? strstr(svg, "viewBox=\"") : NULL;
    const char *body = svg ? strchr(svg, '>') : NULL;
    if (!body || !box || box > body || !strstr(body, "</svg>")) {
        free(text);
        return fail(STATUS_FORMAT, "%s: a whole SVG with a viewBox was expected", path);
    }
    box += strlen("viewBox=\"");
    fprintf(out, "<svg viewBox=\"%.*s\" role=\"img\" aria-label=\"", (int)strcspn(box, "\""), box);
    for (; *label; label++)
        fputs(*label == '"' || *label == '<' || *label == '&' ? " " : (char[]){*label, 0}, out);
    fputs("\">", out);
    put_body(out, body + 1, prefix);
    free(text);
    return STATUS_OK;
}
