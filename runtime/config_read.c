/* config_read.c - reads one file of configs/ and checks all of it. What is launched comes from
 * here, so a mistake must be found when the file is opened, not when its entry is first needed. */
#include "runtime/config_internal.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reading {
    const char *path;
    char *text; /* good JSON, ended by 0 */
    const struct device_info *device;
    config_find_kernel *find;
    struct config *config;
};

/* The line of `key` of the outermost object. Where it holds an array, the lines of its first
 * `count` elements go to `lines`. jansson keeps no lines of values. It has taken the text for good
 * JSON before, so that strings, brackets and commas are all there is to look for. */
static int line_of(const char *text, const char *key, int *lines, int count) {
    int line = 1, depth = 0, found = 1, index = 0;
    bool inside = false, waiting = false; /* in the array; its next element is about to begin */
    for (const char *at = text; *at; at++) {
        if (*at == '\n') line++;
        if (isspace((unsigned char)*at)) continue;
        if (waiting && index < count) lines[index++] = line;
        waiting = false;
        if (*at == '"') {
            const char *word = at + 1;
            while (*++at && *at != '"') at += *at == '\\';
            size_t length = (size_t)(at - word);
            bool is_key = depth == 1 && at[1 + strspn(at + 1, " \t\r\n")] == ':' &&
                          length == strlen(key) && !memcmp(word, key, length);
            if (is_key) found = line, inside = true;
        } else if (*at == '[' || *at == '{') {
            waiting = ++depth == 2 && inside;
        } else if (*at == ']' || *at == '}') {
            inside &= --depth > 1;
        } else if (*at == ',') {
            waiting = depth == 2 && inside;
            inside &= depth > 1;
        }
    }
    return found;
}

static enum status refuse(const struct reading *r, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static enum status refuse(const struct reading *r, int line, const char *format, ...) {
    char sentence[1800];
    va_list list;
    va_start(list, format);
    vsnprintf(sentence, sizeof sentence, format, list);
    va_end(list);
    return fail(STATUS_FORMAT, "%s:%d: %s", r->path, line < 1 ? 1 : line, sentence);
}

static enum status load(struct reading *r, json_t **out) {
    enum { MOST_MIB = 16, MOST = MOST_MIB << 20 };
    json_error_t error;
    FILE *file = fopen(r->path, "rb");
    if (!file) return refuse(r, 1, "could not be read: %s", strerror(errno));
    r->text = calloc(1, MOST + 1);
    size_t bytes = r->text ? fread(r->text, 1, MOST + 1, file) : 0;
    bool broken = ferror(file);
    fclose(file);
    if (!r->text || broken) return refuse(r, 1, "could not be read: %s", strerror(errno));
    if (bytes > MOST)
        return refuse(r, 1, "is over %d MiB; a text of configs/ was expected", MOST_MIB);
    if (strlen(r->text) < bytes) { /* behind a number jansson passes over it */
        int line = 1;
        for (const char *at = r->text; *at; at++) line += *at == '\n';
        return refuse(r, line,
                      "a byte 0 is here; JSON as `fastinfer export --configs` writes it was "
                      "expected");
    }
    *out = json_loadb(r->text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (*out) return STATUS_OK;
    return refuse(r, error.line, "%s; JSON as `fastinfer export --configs` writes it was expected",
                  error.text);
}

static const char *type_text(const json_t *value) {
    static const char *const texts[] = {"an object", "an array", "a text", "a whole number",
                                        "a number",  "true",     "false",  "null"};
    return value ? texts[json_typeof(value)] : "nothing";
}

/* All but the entries. A file sm_75.json is for a whole architecture, any other for a device. */
static enum status check_head(const struct reading *r, const json_t *json) {
    const char *slash = strrchr(r->path, '/'), *name = slash ? slash + 1 : r->path;
    bool whole = !strncmp(name, "sm_", 3);
    char arch[16], slug[96];
    if (!json_is_object(json))
        return refuse(r, 1, "%s is here; an object with \"entries\" was expected", type_text(json));
    const json_t *entries = json_object_get(json, "entries");
    if (!json_is_array(entries))
        return refuse(r, line_of(r->text, "entries", NULL, 0),
                      "no array \"entries\" was found, %s in its place", type_text(entries));
    const char *theirs = json_string_value(json_object_get(json, "slug")),
               *device = json_string_value(json_object_get(json, "device"));
    const json_t *measured = json_object_get(json, "measured");
    snprintf(arch, sizeof arch, "sm_%d", r->device->arch);
    const char *ours = whole ? arch : r->device->slug;
    if (!theirs || strcmp(theirs, ours) != 0)
        return refuse(r, line_of(r->text, "slug", NULL, 0),
                      "\"slug\" is %s%s: the file is for another device; \"%s\" was expected",
                      theirs ? "" : "missing", theirs ? theirs : "", ours);
    if (!device) return refuse(r, 1, "\"device\" is missing; the device's name was expected");
    device_slug(device, slug, sizeof slug);
    if (!whole && r->device->kind == DEVICE_CUDA && strcmp(slug, ours) != 0)
        return refuse(r, line_of(r->text, "device", NULL, 0),
                      "\"device\" is %s: another device than \"%s\", the file's; its own name was "
                      "expected",
                      device, ours);
    if (!json_is_boolean(measured))
        return refuse(r, line_of(r->text, "measured", NULL, 0),
                      "\"measured\" is %s; true or false was expected", type_text(measured));
    r->config->measured = json_is_true(measured);
    return STATUS_OK;
}

static enum status check_time(const struct reading *r, int line, const json_t *json, double *out) {
    const json_t *time = json_object_get(json, "median_us");
    *out = json_number_value(time);
    if (!time) return STATUS_OK;
    if (*out <= 0)
        return refuse(r, line, "\"median_us\" is %s%s; a time over 0 was expected", type_text(time),
                      json_is_number(time) ? " not over 0" : "");
    if (r->config->measured) return STATUS_OK;
    return refuse(r, line, "a time is here and \"measured\" is false; one of the two was expected");
}

/* Reads the entry's words. *out->kernel stays NULL where this program has no such kernel. */
static enum status read_entry(const struct reading *r, int line, const json_t *json,
                              struct config_entry *out) {
    static const char *const keys[] = {"kernel", "dtype", "policy", "problem", "point"};
    const char *text[5], *why = "no reason was given";
    if (!json_is_object(json))
        return refuse(r, line, "%s is here; an entry was expected", type_text(json));
    for (int i = 0; i < 5; i++)
        if (!(text[i] = json_string_value(json_object_get(json, keys[i]))))
            return refuse(r, line, "no text \"%s\" was found, %s in its place", keys[i],
                          type_text(json_object_get(json, keys[i])));
    enum dtype dtype = dtype_parse(text[1]);
    *out = (struct config_entry){.line = line};
    if (dtype > DTYPE_F32)
        return refuse(r, line, "dtype '%s' is none of fp16, bf16, fp32", text[1]);
    if (!*text[2] || policy_parse(text[2], &out->policy))
        return refuse(r, line, "%s",
                      *text[2] ? fail_message() : "policy is empty; cold,stream was expected");
    if (r->find(text[0], &out->kernel)) {
        fprintf(stderr, "fastinfer: %s:%d: %s; the entry is left out\n", r->path, line,
                fail_message());
        out->kernel = NULL;
        return STATUS_OK;
    }
    if (!(out->kernel->dtypes >> dtype & 1))
        return refuse(r, line, "dtype %s: %s has no such form", text[1], text[0]);
    if (problem_parse(out->kernel, text[3], &out->problem) ||
        point_parse(out->kernel, text[4], &out->point))
        return refuse(r, line, "%s", fail_message());
    out->problem.dtype = dtype;
    if (!out->kernel->legal(&out->problem, &out->point, r->device, &why))
        return refuse(r, line,
                      "%s: point %s is not legal for %s on %s: %s; a legal point was "
                      "expected",
                      text[0], text[4], text[3], r->device->name, why);
    const json_t *accepted = json_object_get(json, "accepted");
    if (accepted && !json_is_boolean(accepted))
        return refuse(r, line, "\"accepted\" is %s; true or false was expected",
                      type_text(accepted));
    out->refused = json_is_false(accepted);
    return check_time(r, line, json, &out->median_us);
}

static enum status check_duplicate(const struct reading *r, const struct config_entry *e) {
    for (int i = 0; i < r->config->count; i++) {
        const struct config_entry *other = &r->config->entries[i];
        char text[MAX_TEXT];
        if (other->kernel != e->kernel || !problem_equal(&other->problem, &e->problem) ||
            other->policy.residency != e->policy.residency ||
            other->policy.launch != e->policy.launch)
            continue;
        problem_format(e->kernel, &e->problem, text);
        return refuse(r, e->line, "%s %s %s %s is in line %d already; one entry was expected",
                      e->kernel->name, dtype_name(e->problem.dtype), text, policy_text(e->policy),
                      other->line);
    }
    return STATUS_OK;
}

static enum status read_entries(const struct reading *r, const json_t *entries) {
    struct config *config = r->config;
    size_t count = json_array_size(entries);
    enum status status = STATUS_OK;
    int *lines = calloc(count + 1, sizeof *lines);
    config->entries = calloc(count + 1, sizeof *config->entries);
    if (!config->entries || !lines)
        status = fail(STATUS_SYSTEM, "out of memory while reading %s", r->path);
    else
        line_of(r->text, "entries", lines, (int)count);
    for (size_t i = 0; i < count && !status; i++) {
        struct config_entry *entry = &config->entries[config->count];
        status = read_entry(r, lines[i], json_array_get(entries, i), entry);
        bool known = !status && entry->kernel;
        if (known) status = check_duplicate(r, entry);
        if (known) config->count++;
        if (!status && !known) config->left_out++;
    }
    free(lines);
    return status;
}

enum status config_read(const char *path, const struct device_info *device,
                        config_find_kernel *find, struct config **out) {
    struct reading r = {.path = path, .device = device, .find = find};
    json_t *json = NULL;
    *out = NULL;
    r.config = calloc(1, sizeof *r.config);
    if (!r.config) return fail(STATUS_SYSTEM, "out of memory while reading %s", path);
    enum status status = load(&r, &json);
    if (!status) status = check_head(&r, json);
    if (!status) status = read_entries(&r, json_object_get(json, "entries"));
    json_decref(json), free(r.text);
    if (status) {
        config_close(r.config);
        return status;
    }
    snprintf(r.config->path, sizeof r.config->path, "%s", path);
    snprintf(r.config->origin, sizeof r.config->origin, "%s%s", path,
             r.config->measured ? "" : " (not measured)");
    *out = r.config;
    return STATUS_OK;
}
