/* export_tps.c - tokens a second for results/: what `fastinfer tps` measured. */
#include <stdlib.h>

#include "cli/export.h"

/* The latest row of each setting. What HuggingFace did is of the same run, or left empty; on the
 * CPU device it always is, for a ratio of emulation times says nothing. */
static const char tps_sql[] =
    "WITH latest AS (SELECT MAX(id) AS id FROM throughputs GROUP BY device_slug, model, engine, "
    "configs, dtype, batch, prompt, generated) "
    "SELECT t.model, t.engine, t.configs, t.dtype, t.batch, t.prompt, t.generated, t.repeats, "
    "round(t.first_ms, 3) AS first_ms, round(t.first_low_ms, 3) AS first_low_ms, "
    "round(t.first_high_ms, 3) AS first_high_ms, round(t.tokens_s, 2) AS tokens_s, "
    "round(t.tokens_low, 2) AS tokens_low, round(t.tokens_high, 2) AS tokens_high, "
    "CAST(t.step_bytes / t.batch AS INTEGER) AS token_bytes, round(t.gbps, 3) AS gbps, "
    "round(t.read_gbps, 1) AS read_gbps, round(t.percent_of_read, 2) AS percent_of_read, "
    "round(t.token_mj, 1) AS token_mj, t.memory_bytes, round(h.tokens_s, 2) AS hf_tokens_s, "
    "round(a.ratio, 3) AS hf_ratio, round(a.low, 3) AS hf_ratio_low, "
    "round(a.high, 3) AS hf_ratio_high, t.device, t.driver, t.compiler, t.\"commit\", t.dirty, "
    "t.date FROM throughputs t JOIN latest USING (id) JOIN device d ON d.slug = t.device_slug "
    "LEFT JOIN throughputs h ON d.kind = 'cuda' AND h.run_id = t.run_id AND h.engine = "
    "'transformers' AND t.engine <> h.engine AND h.model = t.model AND h.batch = t.batch AND "
    "h.prompt = t.prompt AND h.generated = t.generated "
    "LEFT JOIN acceptance a ON a.run_id = h.run_id AND a.model = t.model AND a.first = "
    "'transformers ' || h.configs AND a.second = t.configs "
    "WHERE t.device_slug = ? ORDER BY t.model, t.dtype, t.batch, t.prompt, t.generated, t.engine, "
    "t.configs";

static const char parts_sql[] =
    "WITH profiled AS (SELECT MAX(t.id) AS id FROM throughputs t WHERE EXISTS (SELECT 1 FROM "
    "step_part p WHERE p.throughput_id = t.id) GROUP BY device_slug, model, engine, configs, "
    "dtype, batch, prompt, generated) "
    "SELECT t.model, t.configs, t.dtype, t.batch, t.prompt, t.generated, p.kernel, p.problem, "
    "p.point, p.calls, round(p.us, 3) AS us, round(p.us * p.calls, 3) AS step_us, "
    "CAST(p.bytes AS INTEGER) AS bytes, round(p.bytes / p.us / 1e3, 3) AS gbps, "
    "round(t.read_gbps, 1) AS read_gbps, t.device, t.driver, t.\"commit\", t.dirty, t.date "
    "FROM step_part p JOIN profiled ON profiled.id = p.throughput_id JOIN throughputs t ON "
    "t.id = p.throughput_id WHERE t.device_slug = ? ORDER BY t.model, t.dtype, t.batch, "
    "t.prompt, t.generated, t.configs, p.rowid";

static enum status count(void *context, int columns, const char *const *names,
                         const char *const *values) {
    (void)columns, (void)names;
    int64_t *counts = context;
    counts[0] = atoll(values[0]), counts[1] = atoll(values[1]);
    return STATUS_OK;
}

enum status export_tps(struct store *store, const char *format, const char *slug,
                       const char *folder, int64_t *rows) {
    int64_t counts[2] = {0};
    TRY(store_query(store,
                    "SELECT COUNT(*), COALESCE(SUM(EXISTS (SELECT 1 FROM step_part p WHERE "
                    "p.throughput_id = t.id)), 0) FROM throughputs t WHERE device_slug = ?",
                    &slug, 1, counts, count));
    *rows = counts[0];
    if (counts[0]) TRY(export_query(store, format, folder, "tps", tps_sql, slug));
    if (counts[1]) TRY(export_query(store, format, folder, "step_parts", parts_sql, slug));
    return STATUS_OK;
}
