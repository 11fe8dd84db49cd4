/* tps_transformers.c - HuggingFace beside us: a Python process that does a repeat for each line it
 * is sent, and answers with a line of two numbers. */
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/tps.h"

extern char **environ;
#ifndef FASTINFER_ROOT
#define FASTINFER_ROOT "."
#endif

enum { LINE = 512, PATIENCE_S = 900 };

/* A line from the process, without its end; false where it ended or took too long. */
static bool read_line(const struct tps_side *side, char *line) {
    struct pollfd poll_for = {.fd = side->from, .events = POLLIN};
    for (int n = 0; n < LINE - 1; n++) {
        int ready = poll(&poll_for, 1, PATIENCE_S * 1000);
        if (ready < 0 && errno == EINTR) return false;
        if (ready <= 0 || read(side->from, line + n, 1) != 1) return false;
        if (line[n] == '\n') return line[n] = 0, true;
    }
    return false;
}

static enum status start(const char *const argv[], struct tps_side *side) {
    int in[2], out[2];
    posix_spawn_file_actions_t actions;
    if (pipe(in) || pipe(out)) return fail(STATUS_SYSTEM, "pipe: %s", strerror(errno));
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_addclose(&actions, in[1]);
    posix_spawn_file_actions_addclose(&actions, out[0]);
    int error = posix_spawnp(&side->process, argv[0], &actions, NULL,
                             (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]), close(out[1]);
    side->to = in[1], side->from = out[0];
    if (!error) return STATUS_OK;
    side->process = 0;
    close(side->to), close(side->from);
    return fail(STATUS_MISSING, "%s could not be started: %s", argv[0], strerror(error));
}

/* A preset as a config.json: transformers then makes random weights of its own. */
static enum status write_config(const struct model_config *c, char *path) {
    static const char *const types[] = {"llama", "smollm3", "qwen2", "qwen3", "mistral"};
    json_t *rope = json_pack("{s:s, s:f}", "rope_type", c->scaling.llama3 ? "llama3" : "default",
                             "rope_theta", c->rope_theta);
    if (c->scaling.llama3)
        json_object_update_new(
            rope, json_pack("{s:f, s:f, s:f, s:I}", "factor", c->scaling.factor, "low_freq_factor",
                            c->scaling.low, "high_freq_factor", c->scaling.high,
                            "original_max_position_embeddings", (json_int_t)c->scaling.original));
    json_t *no_rope = json_array();
    for (int64_t i = 0; i < c->layers; i++)
        json_array_append_new(no_rope,
                              json_integer(!c->no_rope[i])); /* as it is named there: 1 turns */
    json_t *json = json_pack(
        "{s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:b, s:f, s:o, s:o, s:b}",
        "architectures", architecture_name(c->architecture), "model_type", types[c->architecture],
        "hidden_size", (json_int_t)c->hidden, "intermediate_size", (json_int_t)c->intermediate,
        "num_hidden_layers", (json_int_t)c->layers, "num_attention_heads", (json_int_t)c->heads,
        "num_key_value_heads", (json_int_t)c->kv_heads, "head_dim", (json_int_t)c->head_dim,
        "vocab_size", (json_int_t)c->vocab, "max_position_embeddings", (json_int_t)c->positions,
        "rms_norm_eps", c->rms_eps, "tie_word_embeddings", (int)c->tied, "rope_theta",
        c->rope_theta, "rope_parameters", rope, "no_rope_layers", no_rope, "attention_bias",
        (int)(c->o_bias));
    int file = mkstemp(path), written = -1;
    if (file >= 0 && json) written = json_dumpfd(json, file, JSON_INDENT(1));
    if (file >= 0) close(file);
    json_decref(json);
    return written ? fail(STATUS_SYSTEM, "%s: %s", path, strerror(errno)) : STATUS_OK;
}

/* $FASTINFER_PYTHON, else the environment that `make torch` fills, else the system's. */
static const char *find_python(void) {
    static const char ours[] = FASTINFER_ROOT "/.venv/bin/python3";
    const char *named = getenv("FASTINFER_PYTHON");
    if (named && *named) return named;
    return access(ours, X_OK) ? "python3" : ours;
}

enum status tps_transformers_open(const struct model_options *options,
                                  const struct engine_facts *facts, struct tps_side *side) {
    const char *side_device = strncmp(facts->matmul, "cuBLASLt", 8) ? "cpu" : "cuda";
    const char *python = find_python();
    const char *script = FASTINFER_ROOT "/baselines/transformers_tps.py";
    char batch[16], config[] = "/tmp/fastinfer-config-XXXXXX", line[LINE];
    struct model_config preset;
    if (access(script, R_OK)) return fail(STATUS_MISSING, "%s is not there", script);
    bool made_up = model_preset(options->model, &preset);
    if (made_up) TRY(write_config(&preset, config));
    snprintf(batch, sizeof batch, "%d", facts->batch);
    const char *argv[] = {python,
                          script,
                          made_up ? "--config" : "--model",
                          made_up ? config : options->model,
                          "--dtype",
                          dtype_name(facts->dtype),
                          "--batch",
                          batch,
                          "--device",
                          strcmp(side_device, "cpu") ? "cuda" : "cpu",
                          NULL};
    signal(SIGPIPE, SIG_IGN);
    enum status started = start(argv, side);
    bool answered = !started && read_line(side, line);
    if (made_up) unlink(config);
    TRY(started);
    if (!answered) {
        tps_transformers_close(side);
        return fail(STATUS_MISSING,
                    "%s under %s ended without a word (pip install torch "
                    "transformers?)",
                    script, python);
    }
    if (strncmp(line, "ready ", 6) != 0) {
        tps_transformers_close(side);
        return fail(STATUS_MISSING, "%s: %.400s", python, line);
    }
    snprintf(side->name, sizeof side->name, "transformers");
    snprintf(side->configs, sizeof side->configs, "%.250s", line + 6);
    return STATUS_OK;
}

enum status tps_transformers_repeat(struct tps_side *side, const struct tps_work *work,
                                    double *first_ms, double *tokens_s) {
    char line[LINE];
    FILE *to = fdopen(dup(side->to), "w");
    if (!to) return fail(STATUS_SYSTEM, "fdopen: %s", strerror(errno));
    fprintf(to, "%lld", (long long)work->generate);
    for (int64_t i = 0; i < work->prompt; i++) fprintf(to, " %d", work->ids[i]);
    fputc('\n', to);
    if (fclose(to) || !read_line(side, line))
        return model_interrupted
                   ? fail(STATUS_INTERRUPTED, "stopped")
                   : fail(STATUS_CRASH, "transformers ended, or took over %d s", PATIENCE_S);
    if (sscanf(line, "%lf %lf", first_ms, tokens_s) != 2)
        return fail(STATUS_CRASH, "transformers: %.400s", line);
    return STATUS_OK;
}

void tps_transformers_close(struct tps_side *side) {
    if (!side->process) return;
    close(side->to), close(side->from);
    kill(side->process, SIGTERM);
    while (waitpid(side->process, NULL, 0) < 0 && errno == EINTR) {
    }
    side->process = 0;
}
