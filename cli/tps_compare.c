/* tps_compare.c - configurations against each other, end to end: which earn their place? */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/tps.h"
#include "harness/config_file.h"

/* --- sides ------------------------------------------------------------------------------------ */

static void take_name(struct tps_side *side, const char *name, size_t length) {
    char text[512];
    snprintf(text, sizeof text, "%.*s", (int)length, name);
    if (model_form_parse(text, &side->choice.form)) return;
    if (!strcmp(text, "tuned")) {
        side->choice.configs = NULL;
        return;
    }
    snprintf(side->folder, sizeof side->folder, "%s", text);
    side->choice.configs = side->folder;
}

/* Steps of two sides, call by call. */
struct steps {
    struct program_line a[TPS_MAX_PARTS], b[TPS_MAX_PARTS];
    int a_count, b_count;
};

static int take_lines(const struct program *step, struct program_line *out) {
    int count = 0;
    for (int i = 0; i < program_count(step); i++) {
        struct program_line line = program_at(step, i);
        bool seen = false;
        for (int j = 0; j < count && !seen; j++) seen = out[j].variant == line.variant;
        if (!seen && count < TPS_MAX_PARTS) out[count++] = line;
    }
    return count;
}

static enum status lines_of(struct tps_side *side, struct program_line *out, int *count) {
    struct program *step;
    TRY(tps_choose(side));
    TRY(engine_step(side->opened.engine, &step));
    *count = take_lines(step, out); /* variants outlive the program: the shelf keeps them */
    return STATUS_OK;
}

static bool differs(const struct steps *s, const struct program_line *b) {
    for (int i = 0; i < s->a_count; i++) {
        const struct program_line *a = &s->a[i];
        if (a->kernel == b->kernel && problem_equal(a->problem, b->problem))
            return !point_equal(a->kernel, &a->variant->point, &b->variant->point);
    }
    return false;
}

/* A side for each kernel in whose points B's step differs from A's, if there are several. */
static void add_kernels(const struct steps *s, struct tps_side *side, int *sides) {
    const char *name[TPS_MAX_PARTS];
    int count = 0;
    for (int i = 0; i < s->b_count; i++) {
        bool seen = !differs(s, &s->b[i]);
        for (int j = 0; j < count && !seen; j++) seen = !strcmp(name[j], s->b[i].kernel->name);
        if (!seen) name[count++] = s->b[i].kernel->name;
    }
    if (count == 1) snprintf(side[1].only, sizeof side[1].only, "%s", name[0]);
    for (int i = 0; i < count && count > 1 && *sides < TPS_MAX_SIDES - 1; i++) {
        struct tps_side *one = &side[(*sides)++];
        *one = side[1];
        if (one->choice.configs) one->choice.configs = one->folder;
        snprintf(one->only, sizeof one->only, "%s", name[i]);
        one->choice.only = one->only;
    }
}

enum status tps_compare_sides(const char *compare, const struct tps_work *work,
                              struct tps_side *side, int *sides) {
    const char *comma = strchr(compare, ',');
    struct steps steps;
    side[0].choice.refused_too = true;
    side[1] = side[0];
    take_name(&side[0], compare, (size_t)(comma - compare));
    take_name(&side[1], comma + 1, strlen(comma + 1));
    *sides = 2;
    for (int i = 0; i < 2; i++) {
        snprintf(side[i].name, sizeof side[i].name, "fastinfer");
        TRY(tps_choose(&side[i]));
        TRY(engine_prepare(side[i].opened.engine, work->prompt + work->generate));
    }
    TRY(lines_of(&side[0], steps.a, &steps.a_count));
    TRY(lines_of(&side[1], steps.b, &steps.b_count));
    if (side[0].choice.form == side[1].choice.form) add_kernels(&steps, side, sides);
    for (int i = 2; i < *sides; i++) TRY(tps_choose(&side[i]));
    return STATUS_OK;
}

/* --- what came of it -------------------------------------------------------------------------- */

/* Rounds pair off in twos, A B B A: their drift cancels. */
struct ratio tps_ratio(const struct tps_side *a, const struct tps_side *b) {
    double log_ratio[TPS_MAX_REPEATS];
    int rounds = a->done / 2;
    for (int i = 0; i < rounds; i++)
        log_ratio[i] = log(b->tokens_s[2 * i] * b->tokens_s[2 * i + 1] /
                           (a->tokens_s[2 * i] * a->tokens_s[2 * i + 1])) /
                       2;
    return stats_ratio(log_ratio, rounds, 0);
}

/* What the file is told: each problem of the step for the kernel that is judged. */
static enum status judge(const struct tps_comparison *c, struct tps_side *side,
                         const struct acceptance *row, const char *path) {
    struct program_line line[TPS_MAX_PARTS];
    struct config_judgement judged = {
        .model = c->model, .against = c->side[0].configs, .ratio = row->ratio};
    int count, written = 0;
    judged.verdict = acceptance_verdict(&row->ratio);
    bool forms = c->side[0].persistent != c->side[1].persistent;
    if (forms && c->side[0].persistent) { /* the entry speaks of the one kernel */
        judged.ratio = (struct ratio){row->ratio.rounds, 1 / row->ratio.ratio, 1 / row->ratio.high,
                                      1 / row->ratio.low};
        judged.verdict = acceptance_verdict(&judged.ratio);
        judged.against = row->second, side = &c->side[0];
    }
    TRY(lines_of(side, line, &count));
    for (int i = 0; i < count; i++) {
        const char *name = line[i].kernel->name;
        if (strcmp(name, forms ? "decode_step" : side->only) != 0) continue;
        TRY(config_file_judge(path, line[i].kernel, line[i].problem,
                              forms ? &line[i].variant->point : NULL, &judged));
        written++;
    }
    if (written && !c->quiet) printf("    written into %s\n", path);
    return STATUS_OK;
}

static enum status report_one(const struct tps_comparison *c, struct tps_side *b) {
    const struct tps_side *a = &c->side[0];
    struct acceptance row = {.model = c->model,
                             .first = a->configs,
                             .second = b->configs,
                             .kernel = *b->only ? b->only : NULL,
                             .batch = c->work->batch,
                             .prompt = c->work->prompt,
                             .generated = c->work->generate,
                             .ratio = tps_ratio(a, b)};
    bool forms = a->persistent != c->side[1].persistent;
    if (forms) row.kernel = "decode_step";
    const char *verdict = acceptance_text(acceptance_verdict(&row.ratio));
    json_array_append_new(c->rows,
                          json_pack("{s:s, s:s, s:s?, s:f, s:f, s:f, s:i, s:s}", "first", row.first,
                                    "second", row.second, "kernel", row.kernel, "ratio",
                                    row.ratio.ratio, "low", row.ratio.low, "high", row.ratio.high,
                                    "rounds", row.ratio.rounds, "verdict", verdict));
    if (!c->quiet)
        printf("  %s: %s is %.4f times as fast as %s [%.4f, %.4f]\n", verdict, row.second,
               row.ratio.ratio, row.first, row.ratio.low, row.ratio.high);
    TRY(store_acceptance(c->store, c->run, &row));
    const char *path = *b->config_path ? b->config_path : a->config_path;
    bool one = forms || (*b->only && !*a->config_path);
    if (!one) return STATUS_OK;
    if (*path) return judge(c, b, &row, path);
    if (!c->quiet) puts("    there is no file of this device to write it into: make tune makes it");
    return STATUS_OK;
}

enum status tps_compare_report(const struct tps_comparison *c) {
    for (int i = 1; i < c->sides; i++) TRY(report_one(c, &c->side[i]));
    return STATUS_OK;
}
