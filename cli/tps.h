/* tps.h - what the files of `fastinfer tps` share. */
#ifndef FASTINFER_CLI_TPS_H
#define FASTINFER_CLI_TPS_H

#include <jansson.h>

#include "cli/model_options.h"
#include "harness/throughput.h"

enum { TPS_MAX_REPEATS = 1000, TPS_MAX_SIDES = 16, TPS_MAX_PARTS = 64 };

struct tps_work { /* what every side does, the same each time */
    int64_t prompt, generate, repeats;
    int batch;
    int32_t *ids; /* (prompt), of every sequence */
};

/* Who decodes: our engine under a configuration, or a process that runs transformers. */
struct tps_side {
    char name[64], configs[256], config_path[512];
    char folder[512], only[64];  /* what `choice` points at */
    struct engine_choice choice; /* how this side decodes */
    bool persistent;             /* what came of it */
    bool alone;                  /* no other side uses the engine */
    struct opened opened;        /* engine NULL: the other process. All of ours share one */
    int process, to, from;
    double first_ms[TPS_MAX_REPEATS], tokens_s[TPS_MAX_REPEATS];
    double token_mj; /* 0: unknown */
    int done;
};

/* Has the engine decode as this side does, from here on. */
enum status tps_choose(struct tps_side *side);

/* Sides that --compare A,B asks for, each a folder of configurations, `tuned`, `default` (the
 * built-in points), or a form of the step: `launches`, `persistent`. The first two are A and B. If
 * their steps differ in more than one kernel's points there is one more for each such kernel: A,
 * but with B's points of that kernel. side[0] has the engine. */
enum status tps_compare_sides(const char *compare, const struct tps_work *work,
                              struct tps_side *side, int *sides);
/* How many times as fast B decodes as A, from the rounds that both did. */
struct ratio tps_ratio(const struct tps_side *a, const struct tps_side *b);
/* B against A, or one more side against A: stored, shown, and, where A has the built-in points and
 * B a file's or where they are forms, written into the file as each entry's "accepted". `rows`
 * takes an object for each. */
struct tps_comparison {
    const char *compare, *model;
    const struct tps_work *work;
    struct tps_side *side;
    int sides;
    struct store *store;
    int64_t run;
    bool quiet;
    json_t *rows;
};
enum status tps_compare_report(const struct tps_comparison *comparison);

/* One repeat; `keep` false: a warm-up that is thrown away. */
enum status tps_repeat(struct tps_side *side, const struct tps_work *work, bool keep);

/* Starts baselines/transformers_tps.py on the same weights; STATUS_MISSING says why it cannot. */
enum status tps_transformers_open(const struct model_options *options,
                                  const struct engine_facts *facts, struct tps_side *side);
enum status tps_transformers_repeat(struct tps_side *side, const struct tps_work *work,
                                    double *first_ms, double *tokens_s);
void tps_transformers_close(struct tps_side *side);

/* Where the time goes: the calls of each kernel and problem of a decode step as graphs of their
 * own, and the whole step; the parts of a prompt of work->prompt ids, alone; for a folder its
 * loading against a plain read of its files, interleaved. Sequences must be begun anew afterwards.
 */
struct tps_profile {
    struct step_part part[TPS_MAX_PARTS];
    struct prompt_row prompt[TPS_MAX_PARTS];
    int parts, prompts;
    double step_us;
    struct loading loading; /* rounds 0: not measured */
};
enum status tps_profile(const struct opened *opened, const struct tps_work *work,
                        struct tps_profile *out);
/* first_ms: what the whole prompt took to its first token. */
void tps_profile_report(const struct tps_profile *profile, double first_ms, bool quiet,
                        json_t *json);

#endif
