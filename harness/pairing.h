/* pairing.h - two binaries of one kernel, problem and policy on the same buffers, interleaved. */
#ifndef FASTINFER_PAIRING_H
#define FASTINFER_PAIRING_H

#include <jansson.h>

#include "harness/session.h"

struct pairing {
    int rounds;
    double r[MAX_ROUNDS];  /* a round's ln(b / a), see stats.h */
    double resolution;     /* the clock's step as a share of a sample */
    double a_ns, b_ns;     /* medians */
    double autocorrelation, drift; /* of a's samples */
};

/* a, b: cells of snapshots (snapshot.h) with the same kernel, problem and signature; both are
 * verified first. planted: see measure_pair. */
enum status pairing_run(struct session *session, const json_t *a, const json_t *b, int rounds,
                        bool planted, struct pairing *out);
json_t *pairing_to_json(const struct pairing *pairing);
void pairing_from_json(const json_t *json, struct pairing *out);

#endif
