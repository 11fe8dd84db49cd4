/* pairing.h - two binaries of one kernel, problem and policy on the same buffers, interleaved. */
#ifndef FASTINFER_PAIRING_H
#define FASTINFER_PAIRING_H

#include <jansson.h>

#include "harness/session.h"

enum { MAX_ROUNDS = 96 };
struct pairing {
    int rounds;
    double r[MAX_ROUNDS];          /* a round's ln(b / a) of medians, see stats.h */
    double resolution;             /* the clock's step as a share of a sample */
    double a_ns, b_ns;             /* medians over the rounds */
    double autocorrelation, drift; /* of a's medians */
};

/* a, b: cells of snapshots (snapshot.h) with the same kernel, problem and signature; both are
 * verified first. In each round both binaries are loaded anew, in turn one and the other first, and
 * sampled a b b a a b b a: where code lies in memory is worth up to 3% of a small cold kernel
 * (H200), and would else be taken for a difference. planted: see measure_pair. */
enum status pairing_run(struct session *session, const json_t *a, const json_t *b, int rounds,
                        bool planted, struct pairing *out);
/* Adds another run's rounds to a pair's; the medians are then weighted means. */
void pairing_extend(struct pairing *pairing, const struct pairing *more);
json_t *pairing_to_json(const struct pairing *pairing);
void pairing_from_json(const json_t *json, struct pairing *out);

#endif
