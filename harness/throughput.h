/* throughput.h - tokens a second in the database: what `fastinfer tps` measured. The engine is not
 * the harness's business: these are its numbers alone. */
#ifndef FASTINFER_THROUGHPUT_H
#define FASTINFER_THROUGHPUT_H

#include "harness/stats.h"
#include "harness/store.h"

struct throughput { /* a row of the table; see schema_4.sql */
    const char *model, *engine, *configs, *dtype;
    int64_t batch, prompt, generated, repeats;
    struct summary first_ms, tokens_s;
    double step_bytes, read_gbps, token_mj; /* 0: unknown */
    int64_t memory_bytes;
};
struct step_part {
    char kernel[64], problem[MAX_TEXT], point[MAX_TEXT];
    int64_t calls;
    double us, bytes; /* a call */
};
struct prompt_row { /* a part of a prompt's way through all layers */
    const char *part;
    bool product;
    double us;
};
struct step_profile { /* where the time goes; NULL to store_throughput(): not asked */
    const struct step_part *parts;
    const struct prompt_row *prompt;
    int part_count, prompt_count;
};
struct loading { /* a folder's weights to the device against a plain read of its files */
    const char *model;
    int64_t bytes;
    double seconds, plain_seconds;
    struct ratio ratio; /* over 1: loading takes longer */
};
struct acceptance {
    const char *model, *first, *second, *kernel; /* kernel NULL: all of them */
    int64_t batch, prompt, generated;
    struct ratio ratio; /* over 1: the second is faster */
};
enum verdict_of_acceptance { ACCEPTED, REFUSED, UNDECIDED };
/* Does the ratio's interval exclude 1, and on which side? Under 6 rounds it is not said. */
enum verdict_of_acceptance acceptance_verdict(const struct ratio *ratio);
const char *acceptance_text(enum verdict_of_acceptance verdict);

enum status store_throughput(struct store *store, int64_t run, const struct throughput *row,
                             const struct step_profile *profile);
enum status store_loading(struct store *store, int64_t run, const struct loading *row);
enum status store_acceptance(struct store *store, int64_t run, const struct acceptance *row);

#endif
