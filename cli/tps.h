/* tps.h - what the files of `fastinfer tps` share. */
#ifndef FASTINFER_CLI_TPS_H
#define FASTINFER_CLI_TPS_H

#include "cli/model_options.h"
#include "harness/throughput.h"

enum { TPS_MAX_REPEATS = 1000, TPS_MAX_SIDES = 4, TPS_MAX_PARTS = 64 };

struct tps_work { /* what every side does, the same each time */
    int64_t prompt, generate, repeats;
    int batch;
    int32_t *ids; /* (prompt), of every sequence */
};

/* Who decodes: our engine under a configuration, or a process that runs transformers. */
struct tps_side {
    char name[64], configs[256];
    struct opened opened; /* engine NULL: the other process */
    int process, to, from;
    double first_ms[TPS_MAX_REPEATS], tokens_s[TPS_MAX_REPEATS];
    double token_mj; /* 0: unknown */
    int done;
};

/* One repeat; `keep` false: a warm-up that is thrown away. */
enum status tps_repeat(struct tps_side *side, const struct tps_work *work, bool keep);

/* Starts baselines/transformers_tps.py on the same weights; STATUS_MISSING says why it cannot. */
enum status tps_transformers_open(const struct model_options *options,
                                  const struct engine_facts *facts, struct tps_side *side);
enum status tps_transformers_repeat(struct tps_side *side, const struct tps_work *work,
                                    double *first_ms, double *tokens_s);
void tps_transformers_close(struct tps_side *side);

/* Times the calls of each kernel and problem of a decode step as graphs of their own, and the
 * whole step (*step_us). The engine's sequences go on as if nothing had been. */
enum status tps_profile(struct engine *engine, struct device *device, struct step_part *parts,
                        int *part_count, double *step_us);

#endif
