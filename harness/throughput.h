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
                             const struct step_part *parts, int part_count);
enum status store_acceptance(struct store *store, int64_t run, const struct acceptance *row);

#endif
