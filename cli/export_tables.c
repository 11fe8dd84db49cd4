#include "cli/export_tables.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/export.h"

/* Who, when, with what. */
#define ORIGIN "device, driver, \"commit\", dirty, date "

static const char tuning_sql[] = "SELECT * FROM tuned WHERE device_slug = ? "
                                 "ORDER BY kernel, dtype, residency, launch, rows, problem";

/* A device's timed models with the form of a step and the configuration's file apart, as `fastinfer
 * tps` writes them into one text. */
#define TIMED                                                                                      \
    "timed AS (SELECT t.*, COALESCE(NULLIF(t.engine, ''), 'fastinfer') AS side, CASE "             \
    "WHEN t.configs LIKE '%, one kernel' THEN 'persistent' "                                       \
    "WHEN t.engine IN ('', 'fastinfer') THEN 'launches' "                                          \
    "WHEN t.configs LIKE '%eager' THEN 'eager' ELSE '' END AS form, "                              \
    "replace(replace(t.configs, ', one kernel', ''), rtrim(replace(t.configs, ', one kernel', "    \
    "''), replace(replace(t.configs, ', one kernel', ''), '/', '')), '') AS file "                 \
    "FROM throughputs t WHERE t.device_slug = ?)"

/* Of the rows that differ in nothing that was asked for, the one that was measured last. What else
 * its run measured is part of what was asked: a ratio holds within one run alone. */
#define LATEST                                                                                     \
    "beside AS (SELECT t.*, COALESCE((SELECT group_concat(name, ' ') FROM (SELECT DISTINCT CASE "  \
    "o.side WHEN 'fastinfer' THEN o.form ELSE o.side END AS name FROM timed o WHERE o.run_id = "   \
    "t.run_id AND o.model = t.model AND o.id <> t.id ORDER BY name)), '') AS beside FROM timed "   \
    "t), "                                                                                         \
    "latest AS (SELECT *, ROW_NUMBER() OVER (PARTITION BY model, dtype, side, form, CASE side "    \
    "WHEN 'transformers' THEN '' ELSE file END, batch, prompt, generated, beside "                 \
    "ORDER BY id DESC) AS age FROM beside)"

/* HuggingFace in the same run, and how many times as fast we are there; emulation is not compared.
 */
#define PAIRED                                                                                     \
    "paired AS (SELECT t.*, h.tokens_s AS hf_tokens_s, h.first_ms AS hf_first_ms, a.ratio, "       \
    "a.low AS ratio_low, a.high AS ratio_high, a.rounds FROM latest t "                            \
    "LEFT JOIN timed h ON h.run_id = t.run_id AND h.model = t.model AND "                          \
    "h.side = 'transformers' AND t.side <> h.side AND t.read_gbps IS NOT NULL "                    \
    "LEFT JOIN acceptance a ON a.run_id = h.run_id AND a.model = t.model AND "                     \
    "a.first = 'transformers ' || h.configs AND a.second = t.configs WHERE t.age = 1)"

static const char tps_sql[] =
    "WITH " TIMED ", " LATEST ", " PAIRED " SELECT model, side AS engine, form, prompt, "
    "generated AS generate, batch, file AS configs, beside, "
    "round(first_ms, 4) AS ttft_ms, round(tokens_s, 3) AS tokens_per_s, "
    "round(tokens_low, 3) AS low, round(tokens_high, 3) AS high, "
    "round(first_low_ms, 4) AS ttft_low_ms, round(first_high_ms, 4) AS ttft_high_ms, dtype, "
    "repeats, CAST(step_bytes AS INTEGER) AS step_bytes, round(gbps, 1) AS gbps, "
    "round(read_gbps, 1) AS read_gbps, round(percent_of_read, 2) AS percent_of_read, "
    "round(token_mj, 3) AS token_mj, memory_bytes, round(hf_tokens_s, 3) AS hf_tokens_per_s, "
    "round(hf_first_ms, 4) AS hf_ttft_ms, round(ratio, 3) AS hf_ratio, "
    "round(ratio_low, 3) AS hf_ratio_low, round(ratio_high, 3) AS hf_ratio_high, "
    "rounds AS hf_rounds, compiler, " ORIGIN
    "FROM paired ORDER BY model, batch, prompt, generated, side, form, beside, id";

static const char steps_sql[] =
    "WITH " TIMED " SELECT t.model, s.kernel, s.problem, s.point, s.calls, round(s.us, 4) AS us, "
    "CAST(s.bytes AS INTEGER) AS bytes, round(s.bytes / s.us / 1e3, 1) AS gbps, "
    "round(100 * s.calls * s.us / SUM(s.calls * s.us) OVER (PARTITION BY t.id), 2) AS "
    "percent_of_parts, t.form, t.dtype, t.batch, t.prompt, t.generated AS generate, "
    "round(t.tokens_s, 3) AS tokens_per_s, round(t.read_gbps, 1) AS read_gbps, " ORIGIN
    "FROM step_part s JOIN timed t ON t.id = s.throughput_id WHERE "
    "t.id = (SELECT MAX(p.throughput_id) FROM step_part p JOIN timed u ON u.id = "
    "p.throughput_id WHERE u.model = t.model) ORDER BY t.model, s.calls * s.us DESC";

/* Of each model and length of prompt the profile that was taken last. */
static const char prompts_sql[] =
    "SELECT model, prompt, part, product, round(us, 3) AS us, "
    "round(us / ttft_ms / 10, 2) AS percent_of_ttft, ttft_ms, ttft_low_ms, ttft_high_ms, "
    "round(products_ms, 4) AS products_ms, round(ttft_ms / products_ms, 3) AS over_products, "
    "dtype, compiler, " ORIGIN
    "FROM (SELECT s.model, s.prompt, p.part, p.product, p.us, round(s.first_ms, 4) AS ttft_ms, "
    "round(s.first_low_ms, 4) AS ttft_low_ms, round(s.first_high_ms, 4) AS ttft_high_ms, "
    "s.products_ms, s.dtype, s.compiler, s.device, s.driver, s.\"commit\", s.dirty, s.date, "
    "s.id = MAX(s.id) OVER (PARTITION BY s.model, s.dtype, s.prompt) AS newest "
    "FROM prompt_part p JOIN prompts s ON s.id = p.throughput_id WHERE s.device_slug = ?) "
    "WHERE newest ORDER BY model, dtype, prompt, us DESC, part";

static const char loading_sql[] =
    "SELECT model, bytes, rounds, round(seconds, 7) AS seconds, round(bytes / seconds / 1e9, 3) AS "
    "gbps, round(plain_seconds, 7) AS plain_seconds, round(ratio, 4) AS ratio, round(low, 4) AS "
    "low, round(high, 4) AS high, compiler, " ORIGIN
    "FROM (SELECT l.*, run.compiler, run.driver, run.commit_id AS \"commit\", run.dirty, "
    "d.name AS device, ROW_NUMBER() OVER (PARTITION BY l.model ORDER BY l.id DESC) AS age "
    "FROM loading l JOIN run ON run.id = l.run_id JOIN device d ON d.id = run.device_id "
    "WHERE d.slug = ?) WHERE age = 1 ORDER BY model";

/* The mean step of a run lies in the middle of what it generated. */
static const char position_sql[] =
    "WITH " TIMED " SELECT model, side || CASE form WHEN '' THEN '' ELSE ' ' || form END || "
    "CASE file WHEN '' THEN '' ELSE ', ' || file END AS engine, "
    "prompt + generated / 2 AS position, round(1e6 / tokens_s, 2) AS us, "
    "round(1e6 / tokens_high, 2) AS low_us, round(1e6 / tokens_low, 2) AS high_us, "
    "round(step_bytes / read_gbps / 1e3, 2) AS limit_us, "
    "round(percent_of_read, 2) AS percent_of_read, form, dtype, prompt, generated AS generate, "
    "repeats, " ORIGIN
    "FROM (SELECT *, COUNT(*) OVER (PARTITION BY model, dtype, side, form, file) AS several FROM ("
    "SELECT *, ROW_NUMBER() OVER (PARTITION BY model, dtype, side, form, file, prompt ORDER BY id "
    "DESC) AS age FROM timed WHERE batch = 1) WHERE age = 1) WHERE several > 1 "
    "ORDER BY model, engine, position";

/* View traffic, the latest of each problem and policy, with who measured it. */
static const char traffic_sql[] =
    "SELECT kernel, dtype, problem, residency, launch, point, CAST(measured AS INTEGER) AS "
    "measured_bytes, CAST(least AS INTEGER) AS least_bytes, round(measured / least, 5) AS "
    "over_least, source, " ORIGIN
    "FROM (SELECT p.kernel, p.dtype, p.problem, m.residency, m.launch, pt.point, "
    "SUM(c.value) AS measured, p.read_bytes + p.write_bytes AS least, MIN(c.source) AS source, "
    "d.name AS device, run.driver, run.commit_id AS \"commit\", run.dirty, m.created AS date, "
    "ROW_NUMBER() OVER (PARTITION BY m.problem_id, m.residency, m.launch ORDER BY m.id DESC) AS "
    "rank FROM counter c JOIN measurement m ON m.id = c.measurement_id JOIN run ON run.id = "
    "m.run_id JOIN device d ON d.id = run.device_id JOIN problem p ON p.id = m.problem_id "
    "JOIN point pt ON pt.id = m.point_id WHERE d.slug = ? AND c.name IN "
    "('dram__bytes_read.sum', 'dram__bytes_write.sum') GROUP BY c.measurement_id) WHERE rank = 1 "
    "ORDER BY kernel, dtype, residency, launch, problem";

static enum status write_table(struct store *store, const char *slug, const char *folder,
                               const char *name, const char *sql, bool say) {
    char path[1200], made[1200], part[64];
    int rows;
    snprintf(part, sizeof part, "%s.part", name); /* an empty table takes no file's place */
    snprintf(made, sizeof made, "%s/%s.csv", folder, part);
    snprintf(path, sizeof path, "%s/%s.csv", folder, name);
    enum status status = export_csv(store, slug, folder, part, sql, &rows);
    if (!status && rows && rename(made, path))
        status = fail(STATUS_SYSTEM, "%s: could not be written", path);
    if (status || !rows) unlink(made);
    if (!status && rows && say) printf("%s: %d rows\n", path, rows);
    return status;
}

enum status export_tables(struct store *store, const char *device_slug, const char *folder,
                          bool say) {
    static const char *const tables[][2] = {{"tuning", tuning_sql},   {"tps", tps_sql},
                                            {"steps", steps_sql},     {"position", position_sql},
                                            {"prompts", prompts_sql}, {"loading", loading_sql},
                                            {"traffic", traffic_sql}};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        TRY(write_table(store, device_slug, folder, tables[i][0], tables[i][1], say));
    return STATUS_OK;
}
