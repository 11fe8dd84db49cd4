/* tokenize.c - fastinfer tokenize: what a model's tokenizer makes of a text, and back. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "engine/tokenizer.h"

enum { KEY_MODEL = 256, KEY_IDS, KEY_NO_SPECIAL, KEY_DECODE };
static const struct argp_option options[] = {
    {"model", KEY_MODEL, "PATH", 0, "a tokenizer.json, or the folder that holds one", 0},
    {"ids", KEY_IDS, NULL, 0, "only the ids, on one line", 0},
    {"no-special", KEY_NO_SPECIAL, NULL, 0,
     "without what the template adds; decoding: without special tokens", 0},
    {"decode", KEY_DECODE, NULL, 0, "TEXT is ids, in decimal; each line of standard input is", 0},
    {"null", '0', NULL, 0,
     "each text ends with a NUL: many on standard input, ids of each on a line; and back", 0},
    {0}};

struct arguments {
    const char *model, *text;
    bool ids, no_special, decode, null;
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case KEY_MODEL:
        a->model = arg;
        break;
    case KEY_IDS:
        a->ids = true;
        break;
    case KEY_NO_SPECIAL:
        a->no_special = true;
        break;
    case KEY_DECODE:
        a->decode = true;
        break;
    case '0':
        a->null = true;
        break;
    case ARGP_KEY_ARG:
        if (a->text) argp_error(state, "one TEXT was expected; quote it");
        a->text = arg;
        break;
    case ARGP_KEY_END:
        if (!a->model) argp_error(state, "--model DIR or --model tokenizer.json was expected");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* The content of a token, with control characters as \xx. */
static void print_token(const struct tokenizer *tokenizer, int32_t id) {
    size_t bytes;
    const char *content = tokenizer_content(tokenizer, id, &bytes);
    printf("%d\t", id);
    for (size_t i = 0; content && i < bytes; i++)
        if ((unsigned char)content[i] < ' ')
            printf("\\x%02x", (unsigned)content[i]);
        else
            putchar(content[i]);
    putchar('\n');
}

static enum status encode(struct tokenizer *tokenizer, const struct arguments *a, const char *text,
                          size_t bytes) {
    int32_t *ids;
    size_t count;
    TRY(tokenizer_encode(tokenizer, text, bytes, !a->no_special, &ids, &count));
    for (size_t i = 0; i < count; i++)
        if (a->ids || a->null)
            printf(i ? " %d" : "%d", ids[i]);
        else
            print_token(tokenizer, ids[i]);
    if (a->ids || a->null) putchar('\n');
    free(ids);
    return STATUS_OK;
}

static enum status read_ids(const struct tokenizer *tokenizer, const char *text, int32_t *ids,
                            size_t *count) {
    size_t bytes;
    for (*count = 0;; ++*count) {
        char *end;
        text += strspn(text, " ,\t\r\n[]");
        if (!*text) return STATUS_OK;
        errno = 0;
        long id = strtol(text, &end, 10);
        if (end == text || errno)
            return fail(STATUS_ARGUMENT, "'%.40s': ids in decimal were expected", text);
        if (id < 0 || id >= tokenizer_size(tokenizer) ||
            !tokenizer_content(tokenizer, (int32_t)id, &bytes))
            return fail(STATUS_ARGUMENT, "no token has the id %ld; ids go from 0 to %d", id,
                        tokenizer_size(tokenizer) - 1);
        ids[*count] = (int32_t)id;
        text = end;
    }
}

static enum status decode(struct tokenizer *tokenizer, const struct arguments *a, const char *text,
                          size_t bytes) {
    size_t count;
    char *out = NULL;
    int32_t *ids = malloc((bytes / 2 + 1) * sizeof *ids); /* an id takes a digit and a space */
    if (!ids) return fail(STATUS_SYSTEM, "out of memory");
    enum status status = read_ids(tokenizer, text, ids, &count);
    if (!status) status = tokenizer_decode(tokenizer, ids, count, a->no_special, &out, &bytes);
    if (!status) {
        fwrite(out, 1, bytes, stdout);
        putchar(a->null ? 0 : '\n');
    }
    free(ids), free(out);
    return status;
}

static enum status from_stdin(struct tokenizer *tokenizer, const struct arguments *a) {
    char *text = NULL;
    size_t room = 0;
    ssize_t bytes;
    enum status status = STATUS_OK;
    int end = a->decode ? '\n' : a->null ? 0 : EOF;
    if (end == EOF) {
        char part[1 << 16];
        size_t size = 0, got;
        FILE *out = open_memstream(&text, &size);
        if (!out) return fail(STATUS_SYSTEM, "out of memory");
        while ((got = fread(part, 1, sizeof part, stdin)) > 0) fwrite(part, 1, got, out);
        if (fclose(out)) return fail(STATUS_SYSTEM, "out of memory");
        status = encode(tokenizer, a, text, size);
    }
    while (end != EOF && !status && (bytes = getdelim(&text, &room, end, stdin)) > 0) {
        if (text[bytes - 1] == (char)end) text[--bytes] = 0;
        status = (a->decode ? decode : encode)(tokenizer, a, text, (size_t)bytes);
    }
    free(text);
    return status;
}

int cli_tokenize(int argc, char **argv) {
    static const struct argp argp = {
        options,  parse,
        "[TEXT]", "Ids and tokens of TEXT, or of standard input, by a HuggingFace tokenizer.json.",
        NULL,     NULL,
        NULL};
    struct arguments a = {0};
    struct tokenizer *tokenizer = NULL;
    argv[0] = cli_name("tokenize");
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    enum status status = tokenizer_open(a.model, &tokenizer);
    if (!status && !a.text)
        status = from_stdin(tokenizer, &a);
    else if (!status)
        status = (a.decode ? decode : encode)(tokenizer, &a, a.text, strlen(a.text));
    tokenizer_close(tokenizer);
    if (!status && (fflush(stdout) || ferror(stdout)))
        status = fail(STATUS_SYSTEM, "standard output: %s", strerror(errno));
    return status ? cli_error(status) : 0;
}
