/* completion.c - fastinfer completion: words for bash and zsh, from what each verb's --help says,
 * so that there is no second list of options to keep.
 */
#include <argp.h>
#include <ctype.h>
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "kernels/registry.h"

extern char **environ;

/* An option as a line of --help has it: "  -t, --dtype=TYPE   fp16, bf16 or fp32". */
struct option_line {
    char name[48], value[64], help[256]; /* value "": takes none */
};

static bool read_option(const char *line, struct option_line *out) {
    const char *at = line + strspn(line, " ");
    *out = (struct option_line){0};
    if (at == line || *at != '-') return false;
    if (at[1] != '-') at = strstr(at, "--");
    if (!at) return false;
    size_t length = strcspn(at, "=[ \n");
    snprintf(out->name, sizeof out->name, "%.*s", (int)length, at);
    at += length;
    if (*at == '[' || *at == '=') {
        at += strspn(at, "[=");
        length = strcspn(at, "] \n");
        snprintf(out->value, sizeof out->value, "%.*s", (int)length, at);
        at += length + (at[length] == ']');
    }
    at += strspn(at, " ");
    snprintf(out->help, sizeof out->help, "%.*s", (int)strcspn(at, "\n"), at);
    return out->name[2] != 0;
}

/* --- running a verb's --help -------------------------------------------------------------------
 */

static enum status help_open(const char *verb, pid_t *child, FILE **out) {
    const char *argv[] = {"fastinfer", verb, "--help", NULL};
    posix_spawn_file_actions_t actions;
    int ends[2];
    /* one line an option, however long */
    setenv("ARGP_HELP_FMT", "rmargin=4000", 1);
    if (pipe(ends)) return fail(STATUS_SYSTEM, "no pipe: %s", strerror(errno));
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    int error =
        posix_spawn(child, "/proc/self/exe", &actions, NULL, (char *const *)(void *)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (!error) *out = fdopen(ends[0], "r");
    if (!error && *out) return STATUS_OK;
    close(ends[0]);
    return fail(STATUS_SYSTEM, "fastinfer %s --help could not be run: %s", verb,
                strerror(error ? error : errno));
}

/* Calls `take` for each option of the verb. */
static enum status each_option(const char *verb, void (*take)(const struct option_line *)) {
    char line[4096];
    struct option_line option;
    FILE *help;
    pid_t child;
    int state = 0;
    TRY(help_open(verb, &child, &help));
    while (fgets(line, sizeof line, help))
        if (read_option(line, &option)) take(&option);
    fclose(help);
    while (waitpid(child, &state, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(state) && WEXITSTATUS(state) == 0
               ? STATUS_OK
               : fail(STATUS_SYSTEM, "fastinfer %s --help failed", verb);
}

static bool is_file(const char *value) { return strstr(value, "FILE") || strstr(value, "EXPORT"); }
static bool is_folder(const char *value) { return strstr(value, "DIR"); }
static bool is_choice(const char *value) { /* csv|json */
    return strchr(value, '|') && !strpbrk(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
}

static bool takes_kernels(const char *verb) {
    static const char *const verbs[] = {"bench", "tune", "build", "gate", "config", "explain"};
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (!strcmp(verb, verbs[i])) return true;
    return false;
}

static void print_kernels(void) {
    for (int i = 0; i < registry_count(); i++) printf("%s%s", i ? " " : "", registry_at(i)->name);
}

/* --- bash --------------------------------------------------------------------------------------
 */

static void bash_option(const struct option_line *o) { printf("%s ", o->name); }

static void bash_value(const struct option_line *o) {
    if (is_choice(o->value)) {
        printf("        %s) COMPREPLY=($(compgen -W '", o->name);
        for (const char *c = o->value; *c; c++) putchar(*c == '|' ? ' ' : *c);
        printf("' -- \"$word\")); return ;;\n");
    } else if (is_folder(o->value) || is_file(o->value)) {
        printf("        %s) COMPREPLY=($(compgen %s -- \"$word\")); return ;;\n", o->name,
               is_file(o->value) ? "-f" : "-d");
    } else if (*o->value) {
        printf("        %s) return ;;\n", o->name);
    }
}

static enum status bash(void) {
    printf("# bash completion of fastinfer; eval \"$(fastinfer completion bash)\"\n"
           "_fastinfer() {\n"
           "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} options= "
           "words=\n"
           "    COMPREPLY=()\n"
           "    # --name=value comes as three words\n"
           "    if [ \"$word\" = = ]; then word=; elif [ \"$before\" = = ]; then "
           "before=${COMP_WORDS[COMP_CWORD-2]}; fi\n"
           "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
           "        COMPREPLY=($(compgen -W '");
    for (int i = 0; i < cli_verbs(); i++) printf("%s ", cli_verb(i)->name);
    printf("--help --version' -- \"$word\"))\n        return\n    fi\n"
           "    case ${COMP_WORDS[1]} in\n");
    for (int i = 0; i < cli_verbs(); i++) {
        const char *verb = cli_verb(i)->name;
        printf("    %s)\n        case $before in\n", verb);
        TRY(each_option(verb, bash_value));
        printf("        esac\n        options='");
        TRY(each_option(verb, bash_option));
        printf("'\n");
        if (takes_kernels(verb)) printf("        words='"), print_kernels(), printf("'\n");
        printf("        ;;\n");
    }
    printf("    esac\n"
           "    case $word in\n"
           "    -*) COMPREPLY=($(compgen -W \"$options\" -- \"$word\")) ;;\n"
           "    *) COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
           "        [ -n \"$words\" ] || COMPREPLY=($(compgen -f -- \"$word\")) ;;\n"
           "    esac\n"
           "}\n"
           "complete -o filenames -F _fastinfer fastinfer\n");
    return STATUS_OK;
}

/* --- zsh ---------------------------------------------------------------------------------------
 */

/* Within '...[help]': no quote, bracket or colon. */
static void zsh_text(const char *text) {
    for (; *text; text++)
        if (*text == '\'')
            fputs("'\\''", stdout);
        else if (strchr("[]:\\", *text))
            printf("\\%c", *text);
        else
            putchar(*text);
}

static void zsh_option(const struct option_line *o) {
    printf(" \\\n            '*%s%s[", o->name, *o->value ? "=" : "");
    zsh_text(o->help);
    putchar(']');
    if (*o->value) {
        putchar(':');
        zsh_text(o->value);
        putchar(':');
        if (is_choice(o->value)) {
            putchar('(');
            for (const char *c = o->value; *c; c++) putchar(*c == '|' ? ' ' : *c);
            putchar(')');
        } else if (is_file(o->value)) {
            printf("_files");
        } else if (is_folder(o->value)) {
            printf("_files -/");
        }
    }
    putchar('\'');
}

static enum status zsh(void) {
    printf("#compdef fastinfer\n# zsh completion of fastinfer; a file _fastinfer in $fpath\n"
           "_fastinfer() {\n"
           "    local -a verbs\n    verbs=(\n");
    for (int i = 0; i < cli_verbs(); i++) {
        printf("        '%s:", cli_verb(i)->name);
        zsh_text(cli_verb(i)->help);
        printf("'\n");
    }
    printf("    )\n"
           "    if (( CURRENT == 2 )); then\n"
           "        _describe verb verbs\n"
           "        return\n"
           "    fi\n"
           "    local verb=$words[2]\n"
           "    shift words\n"
           "    (( CURRENT-- ))\n"
           "    case $verb in\n");
    for (int i = 0; i < cli_verbs(); i++) {
        const char *verb = cli_verb(i)->name;
        printf("    %s)\n        _arguments", verb);
        TRY(each_option(verb, zsh_option));
        if (takes_kernels(verb))
            printf(" \\\n            '*:kernel:("), print_kernels(), printf(")'");
        else
            printf(" \\\n            '*:file:_files'");
        printf("\n        ;;\n");
    }
    printf("    esac\n}\n"
           "if [ \"$funcstack[1]\" = _fastinfer ]; then _fastinfer \"$@\"; else compdef _fastinfer "
           "fastinfer; fi\n");
    return STATUS_OK;
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    const char **shell = state->input;
    if (key == ARGP_KEY_ARG && !*shell && (!strcmp(arg, "bash") || !strcmp(arg, "zsh"))) {
        *shell = arg;
        return 0;
    }
    if (key == ARGP_KEY_ARG || key == ARGP_KEY_NO_ARGS)
        argp_error(state, "bash or zsh was expected%s%s", arg ? ", not " : "", arg ? arg : "");
    return ARGP_ERR_UNKNOWN;
}

int cli_completion(int argc, char **argv) {
    static const struct argp argp = {
        NULL,
        parse,
        "bash|zsh",
        "Writes the completion of verbs, options and kernels for a shell.\v"
        "  eval \"$(fastinfer completion bash)\"                    in ~/.bashrc\n"
        "  fastinfer completion zsh > \"${fpath[1]}/_fastinfer\"    once",
        NULL,
        NULL,
        NULL};
    const char *shell = NULL;
    argv[0] = cli_name("completion");
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &shell);
    enum status status = !strcmp(shell, "bash") ? bash() : zsh();
    if (!status && (fflush(stdout) || ferror(stdout)))
        status = fail(STATUS_SYSTEM, "standard output: %s", strerror(errno));
    return status ? cli_error(status) : 0;
}
