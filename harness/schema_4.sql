-- Version 4: tokens a second, and whether a configuration earns its place there.

-- One model, one setting, one engine ('fastinfer', 'transformers eager', ...), some repeats.
CREATE TABLE throughput (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES run(id),
    model TEXT NOT NULL, engine TEXT NOT NULL, configs TEXT NOT NULL, dtype TEXT NOT NULL,
    batch INTEGER NOT NULL, prompt INTEGER NOT NULL, generated INTEGER NOT NULL,
    repeats INTEGER NOT NULL,
    first_ms REAL, first_low_ms REAL, first_high_ms REAL, -- prompts in to first tokens out
    tokens_s REAL NOT NULL, tokens_low REAL, tokens_high REAL, -- of all sequences, decode alone
    step_bytes REAL,         -- the least that a step must read
    read_gbps REAL,          -- the device's measured read limit; NULL: unknown
    token_mj REAL,           -- energy; NULL where no sensor tells
    memory_bytes INTEGER,    -- weights, caches and work
    date TEXT NOT NULL
);

-- Where a step's time goes: calls of one kernel and problem, timed as a graph of their own.
CREATE TABLE step_part (
    throughput_id INTEGER NOT NULL REFERENCES throughput(id),
    kernel TEXT NOT NULL, problem TEXT NOT NULL, point TEXT NOT NULL,
    calls INTEGER NOT NULL,
    us REAL NOT NULL,        -- a call
    bytes REAL NOT NULL      -- the least that a call must move
);

-- Two configurations, interleaved: over 1, the second is faster.
CREATE TABLE acceptance (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES run(id),
    model TEXT NOT NULL, first TEXT NOT NULL, second TEXT NOT NULL,
    kernel TEXT,             -- only this kernel's points differ; NULL: all do
    batch INTEGER NOT NULL, prompt INTEGER NOT NULL, generated INTEGER NOT NULL,
    rounds INTEGER NOT NULL, ratio REAL NOT NULL, low REAL NOT NULL, high REAL NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('accepted', 'refused', 'undecided')),
    date TEXT NOT NULL
);

CREATE VIEW throughputs AS
SELECT d.slug AS device_slug, d.name AS device, t.model, t.engine, t.configs, t.dtype, t.batch,
       t.prompt, t.generated, t.repeats, t.first_ms, t.first_low_ms, t.first_high_ms, t.tokens_s,
       t.tokens_low, t.tokens_high, t.step_bytes,
       t.step_bytes * t.tokens_s / t.batch / 1e9 AS gbps, t.read_gbps,
       CASE WHEN d.kind = 'cuda' AND t.read_gbps > 0
           THEN 100.0 * t.step_bytes * t.tokens_s / t.batch / 1e9 / t.read_gbps END
           AS percent_of_read, t.token_mj, t.memory_bytes, run.driver, run.compiler,
       run.commit_id AS "commit", run.dirty, t.date, t.run_id, t.id
FROM throughput t
JOIN run ON run.id = t.run_id
JOIN device d ON d.id = run.device_id;
