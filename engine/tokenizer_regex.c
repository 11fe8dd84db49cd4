#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/tokenizer_regex.h"

#include <ctype.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct rewrite {
    const char *in;
    size_t at, bytes;
    bool in_class;
    struct text *out;
};

static enum status refuse(const struct rewrite *r, const char *what) {
    return fail(STATUS_FORMAT,
                "the regular expression '%.*s' has %s at character %zu, which is not supported",
                (int)(r->bytes < 300 ? r->bytes : 300), r->in, what, r->at);
}

static enum status put(struct rewrite *r, const char *words) {
    return text_add(r->out, words, strlen(words));
}

static bool follows(const struct rewrite *r, const char *words) {
    size_t length = strlen(words);
    return r->bytes - r->at >= length && !memcmp(r->in + r->at, words, length);
}

/* From 10.40 on, a script's plain name also takes what the script shares with others. */
static bool scripts_extend(void) {
    char version[64] = "";
    int major = 0, minor = 0;
    pcre2_config(PCRE2_CONFIG_VERSION, version);
    return sscanf(version, "%d.%d", &major, &minor) == 2 && (major > 10 || minor >= 40);
}

/* \p{...} and \P{...}: at the letter. */
static enum status property(struct rewrite *r) {
    static const char *const categories =
        " Any C Cc Cf Cn Co Cs L L& Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S "
        "Sc Sk Sm So Z Zl Zp Zs ";
    char letter = r->in[r->at], name[44], padded[48];
    const char *end = memchr(r->in + r->at, '}', r->bytes - r->at);
    if (r->at + 1 >= r->bytes || r->in[r->at + 1] != '{' || !end)
        return refuse(r, "a property without {}");
    const char *start = r->in + r->at + 2;
    bool caret = *start == '^';
    start += caret;
    size_t length = (size_t)(end - start);
    if (length >= sizeof name) return refuse(r, "a property of no known name");
    for (size_t i = 0; i < length; i++) {
        if (!isalnum((unsigned char)start[i]) && !strchr("_&", start[i]))
            return refuse(r, "a property of no known name");
        name[i] = start[i];
    }
    name[length] = 0;
    r->at = (size_t)(end - r->in) + 1;
    snprintf(padded, sizeof padded, " %s ", name);
    bool script = !strstr(categories, padded);
    TRY(put(r, (letter == 'P') != caret ? "\\P{" : "\\p{"));
    if (script && scripts_extend()) TRY(put(r, "sc:"));
    TRY(put(r, name));
    return put(r, "}");
}

/* \x41 and \x{1f600}: at the x. */
static enum status hexadecimal(struct rewrite *r) {
    char out[16];
    char *end;
    bool braces = r->at + 1 < r->bytes && r->in[r->at + 1] == '{';
    char digits[9] = "";
    size_t at = r->at + 1 + braces, count = 0;
    while (at < r->bytes && count < (braces ? 8u : 2u) && isxdigit((unsigned char)r->in[at]))
        digits[count++] = r->in[at++];
    unsigned long code = strtoul(digits, &end, 16);
    if (!count || (braces && (at >= r->bytes || r->in[at] != '}')) || code > 0x10ffff ||
        (!braces && code > 0x7f)) /* a single byte of a longer character */
        return refuse(r, "a code that is no character");
    r->at = at + braces;
    snprintf(out, sizeof out, "\\x{%lx}", code);
    return put(r, out);
}

/* \s, \w and their like: at the letter. */
static enum status shorthand(struct rewrite *r) {
    static const char not_word[] = "[^" REGEX_WORD "]", word[] = "[" REGEX_WORD "]";
    switch (r->in[r->at]) {
    case 's':
        TRY(put(r, r->in_class ? REGEX_SPACE : "[" REGEX_SPACE "]"));
        break;
    case 'S':
        TRY(put(r, r->in_class ? REGEX_NOT_SPACE : "[" REGEX_NOT_SPACE "]"));
        break;
    case 'w':
        TRY(put(r, r->in_class ? REGEX_WORD : word));
        break;
    case 'W':
        if (r->in_class) return refuse(r, "\\W inside a class");
        TRY(put(r, not_word));
        break;
    case 'h': /* a hexadecimal digit here, a horizontal space to PCRE2 */
        TRY(put(r, r->in_class ? "0-9a-fA-F" : "[0-9a-fA-F]"));
        break;
    case 'v': /* one character here, a class to PCRE2 */
        TRY(put(r, "\\x{b}"));
        break;
    }
    r->at++;
    return STATUS_OK;
}

static enum status escape(struct rewrite *r) {
    if (++r->at >= r->bytes) return refuse(r, "a \\ at its end");
    char c = r->in[r->at];
    if (!c || c & 0x80) return refuse(r, "an escape");
    if (strchr("pP", c)) return property(r);
    if (c == 'x') return hexadecimal(r);
    if (strchr("sSwWhv", c)) return shorthand(r);
    if (isalnum((unsigned char)c) && !strchr("dDrntfae", c) && (r->in_class || !strchr("AzZ", c)))
        return refuse(r, "an escape");
    char both[2] = {'\\', c};
    r->at++;
    return text_add(r->out, both, 2);
}

static enum status group(struct rewrite *r) {
    static const char *const openings[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"};
    for (size_t i = 0; i < sizeof openings / sizeof *openings; i++)
        if (follows(r, openings[i])) {
            r->at += strlen(openings[i]);
            return put(r, openings[i]);
        }
    if (r->at == 0 && follows(r, "(?i)")) {
        r->at += 4;
        return put(r, "(?i)");
    }
    if (follows(r, "(?") || follows(r, "(*")) return refuse(r, "a group of an unusual kind");
    r->at++;
    return put(r, "(");
}

/* [: with the ^ that may follow. Sets within sets, and what looks like one to either engine, are
 * out. */
static enum status open_class(struct rewrite *r) {
    r->in_class = true;
    r->at++;
    TRY(put(r, "["));
    if (follows(r, "^")) {
        r->at++;
        TRY(put(r, "^"));
    }
    return follows(r, "]") ? refuse(r, "a class that starts with ]") : STATUS_OK;
}

static enum status one(struct rewrite *r) {
    char c = r->in[r->at];
    if (c == '\\') return escape(r);
    if (r->in_class) {
        if (c == '[') return refuse(r, "a class within a class");
        if (follows(r, "&&")) return refuse(r, "an intersection of classes");
        if (c == ']') r->in_class = false;
    } else {
        if (c == '[') return open_class(r);
        if (c == '(') return group(r);
        if (follows(r, "{,")) return refuse(r, "a repetition without its least number");
        if (follows(r, "}+")) return refuse(r, "a repeated repetition"); /* possessive to PCRE2 */
    }
    r->at++;
    return text_add(r->out, &c, 1);
}

enum status regex_rewrite(const char *regex, size_t bytes, struct text *out) {
    struct rewrite r = {.in = regex, .bytes = bytes, .out = out};
    while (r.at < bytes) TRY(one(&r));
    return STATUS_OK;
}
