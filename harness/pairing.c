#include "harness/pairing.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "harness/snapshot.h"
#include "harness/verify.h"
#include "kernels/registry.h"
#include "runtime/json_text.h"

/* Comparisons of a cell come in a row: code that was right on its buffers need not be verified for
 * each. */
enum { KNOWN = 4 };
static char known[KNOWN][MAX_TEXT + 64];
static unsigned next;

static enum status open_and_verify(struct subject *subject, const json_t *cell, const char *which,
                                   struct variant *out) {
    struct device *device = subject->support->device;
    struct verdict verdict;
    char key[sizeof known[0]];
    snprintf(key, sizeof key, "%s %s %s", json_text(cell, "code_hash"), json_text(cell, "problem"),
             json_text(cell, "policy"));
    enum status status = snapshot_variant(cell, device, out);
    for (int i = 0; i < KNOWN && !status; i++)
        if (!strcmp(known[i], key)) return STATUS_OK;
    if (!status) status = verify_variant(subject, out, &verdict);
    if (status) return fail_context(status, "%s", which);
    snprintf(known[next++ % KNOWN], sizeof known[0], "%s", key);
    return STATUS_OK;
}

/* One round: ln(b / a). launches: 0 before the first round. */
static enum status take_round(struct session *s, struct subject *subject, struct policy policy,
                              const json_t *const cell[2], int round, bool planted, int *launches,
                              struct contender c[2]) {
    enum { SAMPLED = 2 };
    static const char *const which[] = {"the base's variant", "this tree's variant"};
    struct variant variant[2];
    struct variant_call call[2] = {{subject, &variant[0]}, {subject, &variant[1]}};
    enum status status = STATUS_OK;
    memset(variant, 0, sizeof variant);
    for (int i = 0; i < 2 && !status; i++) {
        int k = (i + round) % 2;
        c[k] = (struct contender){.subject = subject,
                                  .enqueue = variant_enqueue,
                                  .context = &call[k],
                                  .kernels = 1,
                                  .launches = *launches};
        status = open_and_verify(subject, cell[k], which[k], &variant[k]);
    }
    if (!status) {
        status = measure_pair(policy, &c[0], &c[1], SAMPLED, planted, &s->empties);
        *launches = c[0].launches;
        measure_free(c, 2);
    }
    for (int i = 0; i < 2; i++) variant_close(s->device, &variant[i]);
    return status;
}

static enum status time_pair(struct session *s, struct subject *subject, struct policy policy,
                             const json_t *a, const json_t *b, bool planted, struct pairing *out) {
    const json_t *const cell[2] = {a, b};
    struct contender c[2];
    double ns[2][MAX_ROUNDS];
    int launches = 0;
    for (int i = 0; i < out->rounds; i++) {
        TRY(take_round(s, subject, policy, cell, i, planted, &launches, c));
        for (int k = 0; k < 2; k++) ns[k][i] = c[k].summary.median;
        out->r[i] = log(ns[1][i] / ns[0][i]);
    }
    out->a_ns = stats_summarise(ns[0], out->rounds, 0).median;
    out->b_ns = stats_summarise(ns[1], out->rounds, 0).median;
    out->resolution = c[0].resolution_ns / out->a_ns;
    out->autocorrelation = stats_autocorrelation(ns[0], out->rounds);
    out->drift = stats_drift(ns[0], out->rounds);
    return STATUS_OK;
}

enum status pairing_run(struct session *s, const json_t *a, const json_t *b, int rounds,
                        bool planted, struct pairing *out) {
    const struct kernel *kernel;
    struct problem problem;
    struct policy policy;
    struct subject *subject;
    *out = (struct pairing){.rounds = rounds < MAX_ROUNDS ? rounds : MAX_ROUNDS};
    TRY(registry_find(json_text(b, "kernel"), &kernel));
    TRY(problem_parse(kernel, json_text(b, "problem"), &problem));
    TRY(policy_parse(json_text(b, "policy"), &policy));
    problem.dtype = dtype_parse(json_text(b, "dtype"));
    if (problem.dtype == DTYPE_COUNT) return fail(STATUS_FORMAT, "a cell without a dtype");
    TRY(session_subject(s, kernel, &problem, policy, &subject));
    return time_pair(s, subject, policy, a, b, planted, out);
}

void pairing_extend(struct pairing *p, const struct pairing *more) {
    int had = p->rounds, all = had + more->rounds;
    if (!had) {
        *p = *more;
        return;
    }
    for (int i = 0; i < more->rounds && p->rounds < MAX_ROUNDS; i++) p->r[p->rounds++] = more->r[i];
    p->a_ns = (p->a_ns * had + more->a_ns * more->rounds) / all;
    p->b_ns = (p->b_ns * had + more->b_ns * more->rounds) / all;
    p->resolution = fmax(p->resolution, more->resolution);
    p->autocorrelation = fmax(p->autocorrelation, more->autocorrelation);
    if (fabs(more->drift) > fabs(p->drift)) p->drift = more->drift;
}

json_t *pairing_to_json(const struct pairing *p) {
    json_t *r = json_array();
    for (int i = 0; i < p->rounds; i++) json_array_append_new(r, json_real(p->r[i]));
    return json_pack("{s:o, s:f, s:f, s:f, s:f, s:f}", "r", r, "resolution", p->resolution, "a_ns",
                     p->a_ns, "b_ns", p->b_ns, "autocorrelation", p->autocorrelation, "drift",
                     p->drift);
}

void pairing_from_json(const json_t *json, struct pairing *p) {
    const json_t *r = json_object_get(json, "r");
    *p = (struct pairing){.resolution = json_number_value(json_object_get(json, "resolution")),
                          .a_ns = json_number_value(json_object_get(json, "a_ns")),
                          .b_ns = json_number_value(json_object_get(json, "b_ns")),
                          .autocorrelation =
                              json_number_value(json_object_get(json, "autocorrelation")),
                          .drift = json_number_value(json_object_get(json, "drift"))};
    for (size_t i = 0; i < json_array_size(r) && p->rounds < MAX_ROUNDS; i++)
        p->r[p->rounds++] = json_number_value(json_array_get(r, i));
}
