#include "cli/export_tables.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/export.h"

/* Our engine has no name of its own where it is alone; a configuration is named by its file. */
#define ENGINE "COALESCE(NULLIF(engine, ''), 'fastinfer') AS engine, "
#define CONFIGS "replace(configs, rtrim(configs, replace(configs, '/', '')), '') AS configs, "
#define ORIGIN "device, driver, \"commit\", dirty, date "

static const char tuning_sql[] = "SELECT * FROM tuned WHERE device_slug = ? "
                                 "ORDER BY kernel, dtype, residency, launch, rows, problem";

/* HuggingFace in the same run, and how many times as fast we are there; emulation is not compared.
 */
#define BESIDE(value)                                                                              \
    "(SELECT " value " FROM throughputs h LEFT JOIN acceptance a ON a.run_id = h.run_id AND "      \
    "a.first = 'transformers ' || h.configs AND a.second = t.configs WHERE h.run_id = t.run_id "   \
    "AND h.engine = 'transformers' AND t.engine <> h.engine AND t.read_gbps IS NOT NULL)"

static const char tps_sql[] =
    "SELECT model, " ENGINE "prompt, generated AS generate, batch, " CONFIGS
    "round(first_ms, 4) AS ttft_ms, round(tokens_s, 3) AS tokens_per_s, "
    "round(tokens_low, 3) AS low, round(tokens_high, 3) AS high, "
    "round(first_low_ms, 4) AS ttft_low_ms, round(first_high_ms, 4) AS ttft_high_ms, dtype, "
    "repeats, CAST(step_bytes AS INTEGER) AS step_bytes, round(gbps, 1) AS gbps, "
    "round(read_gbps, 1) AS read_gbps, round(percent_of_read, 2) AS percent_of_read, "
    "round(token_mj, 3) AS token_mj, memory_bytes, " BESIDE(
        "round(h.tokens_s, 3)") " AS "
                                "hf_tokens_per_"
                                "s, " BESIDE(
                                    "r"
                                    "o"
                                    "u"
                                    "n"
                                    "d"
                                    "("
                                    "a"
                                    "."
                                    "r"
                                    "a"
                                    "t"
                                    "i"
                                    "o"
                                    ","
                                    " "
                                    "3"
                                    ")") " AS hf_ratio, " BESIDE("round(a.low, 3)") " AS "
                                                                                    "hf_ratio_low,"
                                                                                    " " BESIDE(
                                                                                        "rou"
                                                                                        "nd("
                                                                                        "a."
                                                                                        "hig"
                                                                                        "h, "
                                                                                        "3)") " AS "
                                                                                              "hf_"
                                                                                              "rati"
                                                                                              "o_"
                                                                                              "high"
                                                                                              ","
                                                                                              " " ORIGIN
                                                                                              "FROM"
                                                                                              " thr"
                                                                                              "ough"
                                                                                              "puts"
                                                                                              " t "
                                                                                              "WHER"
                                                                                              "E "
                                                                                              "devi"
                                                                                              "ce_"
                                                                                              "slug"
                                                                                              " = "
                                                                                              "? "
                                                                                              "ORDE"
                                                                                              "R "
                                                                                              "BY "
                                                                                              "mode"
                                                                                              "l, "
                                                                                              "batc"
                                                                                              "h, "
                                                                                              "prom"
                                                                                              "pt, "
                                                                                              "id";

static const char steps_sql[] =
    "SELECT t.model, s.kernel, s.problem, s.point, s.calls, round(s.us, 4) AS us, "
    "CAST(s.bytes AS INTEGER) AS bytes, t.device, t.driver, t.\"commit\", t.dirty, t.date "
    "FROM step_part s JOIN throughputs t ON t.id = s.throughput_id WHERE t.device_slug = ? AND "
    "t.id = (SELECT MAX(p.throughput_id) FROM step_part p JOIN throughputs u ON u.id = "
    "p.throughput_id WHERE u.device_slug = t.device_slug AND u.model = t.model) "
    "ORDER BY t.model, s.calls * s.us DESC";

/* The mean step of a run lies in the middle of what it generated. */
static const char position_sql[] =
    "SELECT model, engine || CASE WHEN configs = '' THEN '' ELSE ', ' || configs END AS engine, "
    "prompt + generated / 2 AS position, round(1e6 / tokens_s, 2) AS us, "
    "round(1e6 / tokens_high, 2) AS low_us, round(1e6 / tokens_low, 2) AS high_us, " ORIGIN
    "FROM (SELECT *, COUNT(*) OVER (PARTITION BY model, engine, configs) AS several FROM ("
    "SELECT model, " ENGINE CONFIGS "prompt, generated, tokens_s, tokens_low, tokens_high, " ORIGIN
    ", ROW_NUMBER() OVER (PARTITION BY model, engine, configs, prompt ORDER BY id DESC) AS rank "
    "FROM throughputs WHERE device_slug = ? AND batch = 1) WHERE rank = 1) WHERE several > 1 "
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
    static const char *const tables[][2] = {{"tuning", tuning_sql},
                                            {"tps", tps_sql},
                                            {"steps", steps_sql},
                                            {"position", position_sql},
                                            {"traffic", traffic_sql}};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        TRY(write_table(store, device_slug, folder, tables[i][0], tables[i][1], say));
    return STATUS_OK;
}
