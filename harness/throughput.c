#include "harness/throughput.h"

#include "harness/store_sql.h"

enum verdict_of_acceptance acceptance_verdict(const struct ratio *r) {
    enum { LEAST_ROUNDS = 6 }; /* fewer have no interval of 95% from order statistics */
    if (r->rounds < LEAST_ROUNDS) return UNDECIDED;
    return r->low > 1 ? ACCEPTED : r->high < 1 ? REFUSED : UNDECIDED;
}

const char *acceptance_text(enum verdict_of_acceptance verdict) {
    static const char *const texts[] = {"accepted", "refused", "undecided"};
    return texts[verdict];
}

static struct value positive(double value) { return value > 0 ? REAL(value) : NOTHING; }
#define NOW_SQL "strftime('%Y-%m-%dT%H:%M:%SZ', 'now')"

static enum status write_rows(struct store *s, int64_t run, const struct throughput *t,
                              const struct step_profile *profile) {
    static const struct step_profile none;
    const struct step_profile *p = profile ? profile : &none;
    int64_t id;
    TRY(RUN(s,
            "INSERT INTO throughput (run_id, model, engine, configs, dtype, batch, prompt, "
            "generated, repeats, first_ms, first_low_ms, first_high_ms, tokens_s, tokens_low, "
            "tokens_high, step_bytes, read_gbps, token_mj, memory_bytes, date) VALUES (?, ?, ?, ?, "
            "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, " NOW_SQL ") RETURNING id",
            &id, INTEGER(run), TEXT(t->model), TEXT(t->engine), TEXT(t->configs), TEXT(t->dtype),
            INTEGER(t->batch), INTEGER(t->prompt), INTEGER(t->generated), INTEGER(t->repeats),
            positive(t->first_ms.median), positive(t->first_ms.low), positive(t->first_ms.high),
            REAL(t->tokens_s.median), REAL(t->tokens_s.low), REAL(t->tokens_s.high),
            positive(t->step_bytes), positive(t->read_gbps), positive(t->token_mj),
            t->memory_bytes ? INTEGER(t->memory_bytes) : NOTHING));
    for (int i = 0; i < p->part_count; i++)
        TRY(RUN(s,
                "INSERT INTO step_part (throughput_id, kernel, problem, point, calls, us, bytes) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                NULL, INTEGER(id), TEXT(p->parts[i].kernel), TEXT(p->parts[i].problem),
                TEXT(p->parts[i].point), INTEGER(p->parts[i].calls), REAL(p->parts[i].us),
                REAL(p->parts[i].bytes)));
    for (int i = 0; i < p->prompt_count; i++)
        TRY(RUN(s, "INSERT INTO prompt_part (throughput_id, part, product, us) VALUES (?, ?, ?, ?)",
                NULL, INTEGER(id), TEXT(p->prompt[i].part), INTEGER(p->prompt[i].product),
                REAL(p->prompt[i].us)));
    return STATUS_OK;
}

enum status store_throughput(struct store *s, int64_t run, const struct throughput *row,
                             const struct step_profile *profile) {
    TRY(store_sql(s, "BEGIN IMMEDIATE", NULL, 0, NULL));
    return store_end_transaction(s, write_rows(s, run, row, profile));
}

enum status store_loading(struct store *s, int64_t run, const struct loading *l) {
    return RUN(s,
               "INSERT INTO loading (run_id, model, bytes, rounds, seconds, plain_seconds, ratio, "
               "low, high, date) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, " NOW_SQL ")",
               NULL, INTEGER(run), TEXT(l->model), INTEGER(l->bytes), INTEGER(l->ratio.rounds),
               REAL(l->seconds), REAL(l->plain_seconds), REAL(l->ratio.ratio), REAL(l->ratio.low),
               REAL(l->ratio.high));
}

enum status store_acceptance(struct store *s, int64_t run, const struct acceptance *a) {
    return RUN(s,
               "INSERT INTO acceptance (run_id, model, first, second, kernel, batch, prompt, "
               "generated, rounds, ratio, low, high, verdict, date) VALUES (?, ?, ?, ?, ?, ?, ?, "
               "?, ?, ?, ?, ?, ?, " NOW_SQL ")",
               NULL, INTEGER(run), TEXT(a->model), TEXT(a->first), TEXT(a->second),
               a->kernel ? TEXT(a->kernel) : NOTHING, INTEGER(a->batch), INTEGER(a->prompt),
               INTEGER(a->generated), INTEGER(a->ratio.rounds), REAL(a->ratio.ratio),
               REAL(a->ratio.low), REAL(a->ratio.high),
               TEXT(acceptance_text(acceptance_verdict(&a->ratio))));
}
