/* gate.c - fastinfer gate: is this tree slower than that one? For CI. */
#include <argp.h>
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/gate_history.h"
#include "harness/gate_pool.h"
#include "harness/snapshot.h"
#include "kernels/registry.h"

extern char **environ;

enum {
    KEY_AGAINST = 256,
    KEY_BASE,
    KEY_EMIT,
    KEY_DEVICE,
    KEY_EXACT,
    KEY_QUICK,
    KEY_JUNIT,
    KEY_MARKDOWN,
    KEY_ANNOTATE,
    KEY_UNSURE,
    KEY_CONFIGS,
    KEY_RESULTS,
    KEY_BETWEEN,
    KEY_KEEP,
    KEY_HISTORY
};
static const struct argp_option options[] = {
    {"base", KEY_BASE, "REF", 0, "compare with this commit or branch, built in a worktree", 0},
    {"against", KEY_AGAINST, "EXPORT", 0,
     "compare with a snapshot (FILE.json), or on a GPU with results/<device>", 0},
    {"emit", KEY_EMIT, "FILE", 0, "write this tree's snapshot and compare nothing", 0},
    {"device", KEY_DEVICE, "ID", 0, "cuda:N, or none (default: the first GPU, else none)", 0},
    {"exact", KEY_EXACT, NULL, 0, "only what has no noise, also where there is a GPU", 0},
    {"quick", KEY_QUICK, NULL, 0, "fewer problems are timed", 0},
    {"junit", KEY_JUNIT, "FILE", 0, "write JUnit XML", 0},
    {"markdown", KEY_MARKDOWN, "FILE", 0, "write a summary (default: $GITHUB_STEP_SUMMARY)", 0},
    {"history", KEY_HISTORY, "FILE", 0,
     "append the verdicts to this CSV, e.g. results/<device>/gate.csv", 0},
    {"annotate", KEY_ANNOTATE, NULL, 0, "print GitHub annotations (default in GitHub Actions)", 0},
    {"unsure", KEY_UNSURE, "CODE", 0, "exit code where a verdict is unsure (default 3)", 0},
    {"configs", KEY_CONFIGS, "DIR", 0, "configurations (default configs)", 0},
    {"results", KEY_RESULTS, "DIR", 0, "where calibrations are kept (default results)", 0},
    {"between", KEY_BETWEEN, "RATIO", 0, "noise between two runs, against an export (default 1.05)",
     0},
    {"keep", KEY_KEEP, NULL, 0, "keep the base's worktree in build/gate", 0},
    {0}};

struct arguments {
    const char *against, *base, *emit, *device, *junit, *markdown, *results, *history;
    struct snapshot_options snapshot;
    bool exact, annotate, keep;
    int unsure;
    double between;
    char *names[64];
};

/* Where an option that is kept as it is goes; NULL for the others. */
static const char **kept(struct arguments *a, int key) {
    switch (key) {
    case KEY_AGAINST:
        return &a->against;
    case KEY_BASE:
        return &a->base;
    case KEY_EMIT:
        return &a->emit;
    case KEY_DEVICE:
        return &a->device;
    case KEY_HISTORY:
        return &a->history;
    case KEY_JUNIT:
        return &a->junit;
    case KEY_MARKDOWN:
        return &a->markdown;
    case KEY_CONFIGS:
        return &a->snapshot.configs;
    case KEY_RESULTS:
        return &a->results;
    default:
        return NULL;
    }
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    const char **text = kept(a, key);
    char *end;
    if (text) {
        *text = arg;
        return 0;
    }
    switch (key) {
    case KEY_EXACT:
        a->exact = true;
        break;
    case KEY_QUICK:
        a->snapshot.quick = true;
        break;
    case KEY_ANNOTATE:
        a->annotate = true;
        break;
    case KEY_UNSURE:
        a->unsure = (int)cli_number(state, arg, 0, 125);
        break;
    case KEY_BETWEEN:
        a->between = strtod(arg, &end);
        if (*end || a->between < 1 || a->between > 2)
            argp_error(state, "'%s': a ratio from 1 to 2 was expected", arg);
        break;
    case KEY_KEEP:
        a->keep = true;
        break;
    case ARGP_KEY_ARG:
        if (a->snapshot.kernels == 64) argp_error(state, "too many kernels");
        if (registry_find(arg, &a->snapshot.kernel[a->snapshot.kernels]))
            argp_failure(state, 2, 0, "%s", fail_message());
        a->names[a->snapshot.kernels++] = arg;
        break;
    case ARGP_KEY_END:
        if (!!a->against + !!a->base + !!a->emit != 1)
            argp_error(state, "one of --base, --against and --emit was expected");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static void show_progress(int done, int total, const char *what) {
    cli_progress("gate", done, total, what);
}

/* --- the base -----------------------------------------------------------------------------------
 */

/* Runs a program; what it prints goes to stderr, or, where out is not NULL, its first line there.
 */
static enum status run(const char *const *argv, char *out, size_t bytes) {
    posix_spawn_file_actions_t actions;
    int pipe_fd[2] = {-1, -1}, state = -1;
    pid_t child;
    if (out && pipe(pipe_fd)) return fail(STATUS_SYSTEM, "no pipe: %s", strerror(errno));
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out ? pipe_fd[1] : 2, 1);
    if (out) posix_spawn_file_actions_addclose(&actions, pipe_fd[0]);
    int error =
        posix_spawnp(&child, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (out) close(pipe_fd[1]);
    if (error) {
        if (out) close(pipe_fd[0]);
        return fail(STATUS_MISSING, "%s could not be started: %s", argv[0], strerror(error));
    }
    if (out) {
        ssize_t n = read(pipe_fd[0], out, bytes - 1);
        out[n > 0 ? n : 0] = 0;
        out[strcspn(out, "\n")] = 0;
        close(pipe_fd[0]);
    }
    while (waitpid(child, &state, 0) < 0 && errno == EINTR) {
    }
    if (!state) return STATUS_OK;
    return fail(STATUS_SYSTEM, "'%s %s ...' failed%s", argv[0], argv[1] ? argv[1] : "",
                WIFEXITED(state) ? "" : " (killed)");
}

static enum status build_base(const char *tree) {
    char jobs[16];
    snprintf(jobs, sizeof jobs, "-j%ld", sysconf(_SC_NPROCESSORS_ONLN));
    const char *const argv[] = {"make", "-s", "-C", tree, jobs, "build/release/fastinfer", NULL};
    fprintf(stderr, "gate: building the base\n");
    return run(argv, NULL, 0);
}

static enum status emit_base(const struct arguments *a, const char *tree, const char *device,
                             const char *file) {
    char program[1100], configs[1100];
    const char *argv[80];
    int n = 0;
    snprintf(program, sizeof program, "%s/build/release/fastinfer", tree);
    snprintf(configs, sizeof configs, "%s/configs", tree);
    argv[n++] = program, argv[n++] = "gate", argv[n++] = "--emit", argv[n++] = file;
    argv[n++] = "--device", argv[n++] = device, argv[n++] = "--configs", argv[n++] = configs;
    if (a->snapshot.quick) argv[n++] = "--quick";
    for (int i = 0; i < a->snapshot.kernels; i++) argv[n++] = a->names[i];
    argv[n] = NULL;
    if (!run(argv, NULL, 0)) return STATUS_OK;
    return fail(STATUS_ARGUMENT,
                "the base's program gave no snapshot (its own words are above); a base from before "
                "the gate, or without one of these kernels, cannot be compared");
}

static enum status snapshot_of_base(const struct arguments *a, const char *device, json_t **out) {
    char sha[64], spec[300], here[512], tree[700], file[800];
    snprintf(spec, sizeof spec, "%.250s^{commit}", a->base);
    const char *const parse_ref[] = {"git", "rev-parse", "--verify", "--quiet", spec, NULL};
    if (run(parse_ref, sha, sizeof sha) || !sha[0])
        return fail(STATUS_ARGUMENT, "git knows no commit '%s' here (a shallow clone? fetch it)",
                    a->base);
    if (!getcwd(here, sizeof here)) return fail(STATUS_SYSTEM, "getcwd: %s", strerror(errno));
    snprintf(tree, sizeof tree, "%s/build/gate/%.12s", here, sha);
    snprintf(file, sizeof file, "%s.json", tree);
    const char *const prune[] = {"git", "worktree", "prune", NULL};
    const char *const add[] = {"git", "worktree", "add", "--detach", "--force", tree, sha, NULL};
    const char *const removing[] = {"git", "worktree", "remove", "--force", tree, NULL};
    TRY(run(prune, NULL, 0));
    if (access(tree, F_OK)) TRY(run(add, NULL, 0));
    enum status status = build_base(tree);
    if (!status) status = emit_base(a, tree, device, file);
    if (!status) status = snapshot_read(file, out);
    unlink(file);
    if (!a->keep) {
        char reason[1024];
        snprintf(reason, sizeof reason, "%s", fail_message());
        enum status removed = run(removing, NULL, 0);
        if (status) fail(status, "%s", reason);
        if (!status && removed) {
            json_decref(*out);
            return removed;
        }
    }
    return status;
}

/* --- the comparison -----------------------------------------------------------------------------
 */

static enum status compare_export(const struct arguments *a, const char *device,
                                  struct gate_report *report) {
    struct device_info info;
    struct gate_pool pool = {0};
    if (!cli_is_gpu(device))
        return fail(STATUS_ARGUMENT,
                    "%s holds times of a GPU and there is none to compare them with; without one, "
                    "--base, or --against a snapshot (FILE.json)",
                    a->against);
    TRY(cli_describe_device(device, 0, &info));
    enum status status = gate_pool_open(&pool, device);
    pool.progress = show_progress;
    if (!status) status = gate_against_export(&pool, a->against, &info, a->between, report);
    gate_pool_close(&pool);
    return status;
}

static enum status compare_snapshots(const struct arguments *a, const char *device, json_t *base,
                                     struct gate_report *report) {
    struct gate_pool pool = {0};
    json_t *now = NULL;
    enum status status = snapshot_take(&a->snapshot, &now);
    bool timed = cli_is_gpu(device) && !a->exact;
    if (!status && timed) {
        struct device_info info;
        status = cli_describe_device(device, 0, &info);
        struct gate_rules rules = gate_rules_for(a->results, info.slug);
        if (!status) status = gate_pool_open(&pool, device);
        pool.progress = show_progress;
        struct gate_timer timer = gate_pool_timer(&pool);
        fprintf(stderr, "gate: margin %.2f%%, same %.2f%% (%s)\n", 100 * (rules.margin - 1),
                100 * (rules.same - 1), rules.origin);
        if (!status) status = gate_compare(base, now, &rules, &timer, report);
        gate_pool_close(&pool);
    } else if (!status) {
        status = gate_compare(base, now, NULL, NULL, report);
    }
    json_decref(now);
    return status;
}

static enum status compare(const struct arguments *a, const char *device,
                           struct gate_report *report) {
    struct stat file;
    json_t *base = NULL;
    if (a->against && stat(a->against, &file))
        return fail(STATUS_ARGUMENT, "%s: %s", a->against, strerror(errno));
    if (a->against && S_ISDIR(file.st_mode)) return compare_export(a, device, report);
    TRY(a->against ? snapshot_read(a->against, &base) : snapshot_of_base(a, device, &base));
    enum status status = compare_snapshots(a, device, base, report);
    json_decref(base);
    return status;
}

static enum status emit(const struct arguments *a) {
    json_t *json;
    TRY(snapshot_take(&a->snapshot, &json));
    int failed = json_dump_file(json, a->emit, JSON_INDENT(1));
    json_decref(json);
    if (failed)
        return fail(STATUS_SYSTEM, "%s: could not be written: %s", a->emit, strerror(errno));
    return STATUS_OK;
}

static enum status append_history(const struct arguments *a, const char *device,
                                  const struct gate_report *report) {
    struct device_info info = {.name = "none"};
    if (!strncmp(device, "cuda:", 5)) TRY(device_describe_cuda(atoi(device + 5), &info));
    return gate_history_append(a->history, report, info.name, info.driver);
}

static enum status write_reports(const struct arguments *a, const struct gate_report *report) {
    const char *summary = a->markdown ? a->markdown : getenv("GITHUB_STEP_SUMMARY");
    const char *actions = getenv("GITHUB_ACTIONS");
    gate_show(report, stdout);
    if (a->annotate || (actions && !strcmp(actions, "true"))) gate_annotate(report, stdout);
    if (a->junit) TRY(gate_write_junit(report, a->junit));
    if (summary && *summary) TRY(gate_write_markdown(report, summary, !a->markdown));
    return STATUS_OK;
}

int cli_gate(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse,
        "[KERNEL...]",
        "Fails where a kernel got slower than it was.\v"
        "On a GPU both trees' binaries are timed interleaved; everywhere, what has no noise is "
        "compared: registers, spills, shared memory and instructions for sm_75 and sm_90, and the "
        "CPU device's counts of barriers, shuffles and global traffic. Exits 0 pass, 1 slower, "
        "3 unsure, 2 error.",
        NULL,
        NULL,
        NULL};
    struct arguments a = {
        .unsure = 3, .results = "results", .between = 1.05, .snapshot = {.configs = "configs"}};
    argv[0] = cli_name("gate");
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    const char *device = a.device ? a.device : device_cuda_count() > 0 ? "cuda:0" : "none";
    if (!strcmp(device, "cpu")) device = "none";
    if (strcmp(device, "none") && !cli_is_gpu(device)) {
        fail(STATUS_ARGUMENT, "device '%s': cuda:N or none was expected", device);
        return cli_error(STATUS_ARGUMENT);
    }
    a.snapshot.device = device;
    struct gate_report report = {0};
    enum status status = a.emit ? emit(&a) : compare(&a, device, &report);
    cli_progress_clear();
    if (!status && !a.emit) status = write_reports(&a, &report);
    if (!status && !a.emit && a.history) status = append_history(&a, device, &report);
    int code = status ? cli_error(status) : a.emit ? 0 : gate_exit_code(&report, a.unsure);
    gate_report_free(&report);
    return code;
}
