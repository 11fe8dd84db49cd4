/* page.h - one report as two files, report.html and report.md, written by the same calls.
 *
 * Texts are plain, but for `code` between backticks. report.html needs no other file: pictures are
 * inlined. report.md points at them in pictures/.
 */
#ifndef FASTINFER_CLI_PAGE_H
#define FASTINFER_CLI_PAGE_H

#include <stdbool.h>
#include <stdio.h>

#include "runtime/status.h"

struct page {
    char folder[1024];
    FILE *html, *md;
    int pictures;
    bool in_section;
    bool numeric[24]; /* of the open table: columns set flush right */
    int columns;
};

/* Makes FOLDER with report.html, report.md and pictures/. page_close() in every case. */
enum status page_open(struct page *page, const char *folder, const char *title);
enum status page_close(struct page *page);

/* A section ends where the next begins. Level 2 is a device, 3 a part of it, 4 a kernel. */
void page_section(struct page *page, const char *id, int level, const char *title);
void page_say(struct page *page, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Data that is not there, and the command that would make it. */
void page_missing(struct page *page, const char *what, const char *command);
/* A list of links to sections. */
void page_link(struct page *page, bool first, bool last, const char *id, const char *title);

/* A heading that begins with '>' is a number's column. */
void page_table(struct page *page, const char *caption, const char *const *headings, int columns);
void page_row(struct page *page, const char *const *cells);
void page_table_end(struct page *page);

/* Inlines the SVG file and moves it to pictures/<name>.svg. `caption` says how to read it. */
enum status page_picture(struct page *page, const char *name, const char *svg, const char *caption);

#endif
