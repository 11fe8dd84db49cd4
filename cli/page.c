#include "cli/page.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/page_style.h"
#include "cli/svg.h"

static void put_html(FILE *out, const char *text) {
    bool code = false;
    for (; *text; text++) switch (*text) {
        case '&':
            fputs("&amp;", out);
            break;
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '`':
            fputs(code ? "</code>" : "<code>", out), code = !code;
            break;
        default:
            fputc(*text, out);
        }
    if (code) fputs("</code>", out);
}

/* In Markdown a bar ends a cell, and '<' begins HTML. */
static void put_markdown(FILE *out, const char *text) {
    bool code = false;
    for (; *text; text++) {
        if (*text == '`') code = !code;
        if (*text == '<' && !code)
            fputs("&lt;", out);
        else
            fprintf(out, *text == '|' || (*text == '_' && !code) ? "\\%c" : "%c", *text);
    }
}

static enum status make_folder(const char *folder) {
    if (mkdir(folder, 0777) && errno != EEXIST)
        return fail(STATUS_SYSTEM, "%s: the folder could not be made: %s", folder, strerror(errno));
    return STATUS_OK;
}

static enum status create(const struct page *page, const char *name, FILE **out) {
    char path[1100];
    snprintf(path, sizeof path, "%s/%s", page->folder, name);
    if (!(*out = fopen(path, "w")))
        return fail(STATUS_SYSTEM, "%s: could not be written: %s", path, strerror(errno));
    return STATUS_OK;
}

enum status page_open(struct page *page, const char *folder, const char *title) {
    char pictures[1100];
    *page = (struct page){0};
    snprintf(page->folder, sizeof page->folder, "%s", folder);
    snprintf(pictures, sizeof pictures, "%s/pictures", folder);
    TRY(make_folder(folder));
    TRY(make_folder(pictures));
    TRY(create(page, "report.html", &page->html));
    TRY(create(page, "report.md", &page->md));
    fputs("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
          page->html);
    put_html(page->html, title);
    fprintf(page->html, "</title>\n<style>%s</style>\n</head>\n<body>\n<h1>", page_style);
    put_html(page->html, title);
    fputs("</h1>\n", page->html);
    fprintf(page->md, "# %s\n\n", title);
    return STATUS_OK;
}

static enum status finish(struct page *page, FILE *file, const char *name) {
    if (!file) return STATUS_OK;
    bool good = !ferror(file);
    good &= fclose(file) == 0;
    return good ? STATUS_OK
                : fail(STATUS_SYSTEM, "%s/%s: could not be written", page->folder, name);
}

enum status page_close(struct page *page) {
    if (page->html) {
        if (page->in_section) fputs("</section>\n", page->html);
        fputs("</body>\n</html>\n", page->html);
    }
    enum status html = finish(page, page->html, "report.html");
    enum status md = finish(page, page->md, "report.md");
    page->html = page->md = NULL;
    return html ? html : md;
}

void page_section(struct page *page, const char *id, int level, const char *title) {
    if (page->in_section) fputs("</section>\n", page->html);
    page->in_section = true;
    fprintf(page->html, "<section id=\"%s\">\n<h%d>", id, level);
    put_html(page->html, title);
    fprintf(page->html, "</h%d>\n", level);
    fprintf(page->md, "<a id=\"%s\"></a>\n%.*s ", id, level, "######");
    put_markdown(page->md, title);
    fputs("\n\n", page->md);
}

void page_say(struct page *page, const char *format, ...) {
    char text[4096];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    fputs("<p>", page->html);
    put_html(page->html, text);
    fputs("</p>\n", page->html);
    put_markdown(page->md, text);
    fputs("\n\n", page->md);
}

void page_missing(struct page *page, const char *what, const char *command) {
    fputs("<p class=\"missing\">", page->html);
    put_html(page->html, what);
    fputs(" <code>", page->html);
    put_html(page->html, command);
    fputs("</code></p>\n", page->html);
    put_markdown(page->md, what);
    fprintf(page->md, " `%s`\n\n", command);
}

void page_link(struct page *page, bool first, bool last, const char *id, const char *title) {
    if (first) fputs("<nav><ul>\n", page->html);
    fprintf(page->html, "<li><a href=\"#%s\">", id);
    put_html(page->html, title);
    fputs("</a></li>\n", page->html);
    fprintf(page->md, "- [%s](#%s)\n", title, id);
    if (last) fputs("</ul></nav>\n", page->html), fputc('\n', page->md);
}

void page_table(struct page *page, const char *caption, const char *const *headings, int columns) {
    page->columns = columns;
    fprintf(page->html, "<div class=\"scroll\"><table%s>\n<caption><span>",
            columns < 3 ? " class=\"facts\"" : "");
    put_html(page->html, caption);
    fputs("</span></caption>\n<thead><tr>", page->html);
    put_markdown(page->md, caption);
    fputs("\n\n|", page->md);
    for (int i = 0; i < columns; i++) {
        const char *name = headings[i] + (page->numeric[i] = *headings[i] == '>');
        fputs(page->numeric[i] ? "<th class=\"n\" scope=\"col\">" : "<th scope=\"col\">",
              page->html);
        put_html(page->html, name);
        fputs("</th>", page->html);
        fputc(' ', page->md);
        put_markdown(page->md, name);
        fputs(" |", page->md);
    }
    fputs("</tr></thead>\n<tbody>\n", page->html);
    fputs("\n|", page->md);
    for (int i = 0; i < columns; i++) fputs(page->numeric[i] ? "--:|" : "---|", page->md);
    fputc('\n', page->md);
}

void page_row(struct page *page, const char *const *cells) {
    fputs("<tr>", page->html);
    fputc('|', page->md);
    for (int i = 0; i < page->columns; i++) {
        fputs(page->numeric[i] ? "<td class=\"n\">" : "<td>", page->html);
        put_html(page->html, cells[i]);
        fputs("</td>", page->html);
        fputc(' ', page->md);
        put_markdown(page->md, cells[i]);
        fputs(" |", page->md);
    }
    fputs("</tr>\n", page->html);
    fputc('\n', page->md);
}

void page_table_end(struct page *page) {
    fputs("</tbody></table></div>\n", page->html);
    fputc('\n', page->md);
}

enum status page_picture(struct page *page, const char *name, const char *svg,
                         const char *caption) {
    char prefix[32], to[1200];
    snprintf(prefix, sizeof prefix, "p%d", ++page->pictures);
    fprintf(page->html, "<figure id=\"picture-%s\"><div class=\"scroll\">", name);
    TRY(svg_inline(page->html, svg, prefix, caption));
    fputs("</div>\n<figcaption>", page->html);
    put_html(page->html, caption);
    fputs("</figcaption></figure>\n", page->html);
    snprintf(to, sizeof to, "%s/pictures/%s.svg", page->folder, name);
    if (rename(svg, to))
        return fail(STATUS_SYSTEM, "%s: could not be written: %s", to, strerror(errno));
    fprintf(page->md, "![%s](pictures/%s.svg)\n\n", name, name);
    put_markdown(page->md, caption);
    fputs("\n\n", page->md);
    return STATUS_OK;
}
