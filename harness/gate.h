/* gate.h - is this tree slower than that one? Verdicts that hold for a whole run.
 *
 * Timed: every cell (kernel, problem, policy) whose machine code or launch differs is compared in
 * interleaved rounds, see pairing.h. Cells whose interval does not lie within `same` are suspects:
 * they are measured again and judged on the new rounds alone by an exact sign test against
 * `margin`, corrected for the number of suspects (Holm). What is unsure gets more rounds: three
 * looks, each at a third of alpha. Exact: facts of machine code and counts of the CPU
 * device have no noise; any increase that costs something is a verdict.
 */
#ifndef FASTINFER_GATE_H
#define FASTINFER_GATE_H

#include <jansson.h>
#include <stdio.h>

#include "harness/pairing.h"

enum gate_verdict { GATE_SAME, GATE_FASTER, GATE_SLOWER, GATE_UNSURE, GATE_NEW };
const char *gate_verdict_text(enum gate_verdict verdict);

struct gate_row {
    char kernel[32], dtype[8], problem[MAX_TEXT];
    char policy[24]; /* "" for an exact row */
    enum gate_verdict verdict;
    double ratio, low, high; /* of times; 0 for an exact row */
    double base_us, now_us;
    char reason[384];
};

struct gate_report {
    char base[96], now[96], device[96];
    struct gate_row *row;
    int rows, capacity;
    int count[5]; /* by verdict */
};
void gate_report_free(struct gate_report *report);
/* A new row, GATE_SAME until judged; it moves when the next is added. */
struct gate_row *gate_add_row(struct gate_report *report, const char *kernel, const char *dtype,
                              const char *problem, const char *policy);
/* Fills `count` from the rows. */
void gate_count(struct gate_report *report);

enum { GATE_LOOKS = 3 };
struct gate_rules {
    double margin; /* a slowdown is one beyond this ratio */
    double same;   /* an interval within 1 / same .. same is the same */
    double alpha;  /* the chance that a run of identical trees has any false verdict */
    int first_rounds;
    int look_rounds[GATE_LOOKS]; /* added to a suspect at each look */
    char origin[256];            /* where they come from */
};
/* Built-in rules, or those of results/<slug>/calibration.json where that is there. */
struct gate_rules gate_rules_for(const char *results, const char *slug);

/* How pairs are timed: in a worker, or by a simulation in tests. */
struct gate_timer {
    void *context;
    enum status (*run)(void *context, const json_t *a, const json_t *b, int rounds,
                       struct pairing *out);
    void (*progress)(void *context, int done, int total, const char *what); /* or NULL */
    bool *planted; /* set while b shall do 3% more of the same work; NULL where it cannot */
};

/* Compares two snapshots. STATUS_ARGUMENT where there is nothing in common, a kernel of the base is
 * gone, the devices differ, or a signature has changed: never a silent pass. timer: NULL compares
 * what is exact alone. */
enum status gate_compare(const json_t *base, const json_t *now, const struct gate_rules *rules,
                         const struct gate_timer *timer, struct gate_report *out);

/* One judgement of the first rounds: the same, or unsure. */
enum gate_verdict gate_first(const struct pairing *pairing, const struct gate_rules *rules);
/* A look at all suspects' later rounds: decides those of `verdict` that are unsure, where it can.
 * Each look has its share of alpha. Returns how many are still unsure. */
int gate_look(const struct pairing *suspects, int count, const struct gate_rules *rules,
              enum gate_verdict *verdict);

/* 0 pass, 1 slower, 3 unsure (or `unsure_code`). */
int gate_exit_code(const struct gate_report *report, int unsure_code);
void gate_show(const struct gate_report *report, FILE *out);
enum status gate_write_junit(const struct gate_report *report, const char *path);
enum status gate_write_markdown(const struct gate_report *report, const char *path, bool append);
/* GitHub's workflow commands: one line a row that is slower or unsure. */
void gate_annotate(const struct gate_report *report, FILE *out);

#endif
