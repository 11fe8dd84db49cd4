-- The database of FastInfer, version 1 (PRAGMA user_version). Times are nanoseconds a launch unless
-- a column says otherwise; rates are 1e9 bytes a second over the least bytes of the problem.

CREATE TABLE device (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('cuda', 'cpu')),
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    arch INTEGER NOT NULL,
    facts TEXT NOT NULL                 -- JSON: sms, l2_bytes, clocks, ...
);

CREATE TABLE run (                      -- one invocation, with the environment it ran in
    id INTEGER PRIMARY KEY,
    device_id INTEGER NOT NULL REFERENCES device(id),
    started TEXT NOT NULL,              -- ISO 8601, UTC
    ended TEXT, outcome TEXT,
    driver TEXT NOT NULL, compiler TEXT NOT NULL, baseline TEXT NOT NULL,
    commit_id TEXT NOT NULL, dirty INTEGER NOT NULL, host TEXT NOT NULL,
    command TEXT NOT NULL, seed INTEGER NOT NULL,
    wall_seconds REAL, compile_seconds REAL, measure_seconds REAL,
    copy_gbps REAL, read_gbps REAL, copy_bytes INTEGER, launch_ns REAL, graph_node_ns REAL
);

CREATE TABLE problem (
    id INTEGER PRIMARY KEY,
    kernel TEXT NOT NULL, dtype TEXT NOT NULL,
    problem TEXT NOT NULL,              -- 'rows=4096,hidden=3072'
    rows INTEGER,                       -- the size of that name, where there is one
    read_bytes REAL NOT NULL, write_bytes REAL NOT NULL, flops REAL NOT NULL,
    UNIQUE (kernel, dtype, problem)
);

CREATE TABLE point (
    id INTEGER PRIMARY KEY,
    kernel TEXT NOT NULL,
    point TEXT NOT NULL,                -- 'block=256,vector_bytes=16,...'
    UNIQUE (kernel, point)
);

CREATE TABLE build (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES run(id),
    problem_id INTEGER NOT NULL REFERENCES problem(id),
    point_id INTEGER NOT NULL REFERENCES point(id),
    arch INTEGER NOT NULL,              -- 90 for sm_90, 0 for the CPU device
    status TEXT NOT NULL, cached INTEGER NOT NULL, compile_ms REAL NOT NULL,
    registers INTEGER, spill_bytes INTEGER, stack_bytes INTEGER, shared_bytes INTEGER,
    blocks_per_sm INTEGER,              -- resident at once; NULL where unknown
    code_hash TEXT NOT NULL,            -- of the machine code alone
    log TEXT NOT NULL
);
CREATE INDEX build_by_point ON build (problem_id, point_id, arch);

CREATE TABLE contest (id INTEGER PRIMARY KEY); -- measurements interleaved sample by sample

CREATE TABLE measurement (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES run(id),
    contest_id INTEGER REFERENCES contest(id), -- NULL: a scan of one point
    problem_id INTEGER NOT NULL REFERENCES problem(id),
    residency TEXT NOT NULL, launch TEXT NOT NULL,
    subject TEXT NOT NULL,              -- 'kernel', 'default', 'configured', 'ceiling', 'hf_eager', ...
    point_id INTEGER REFERENCES point(id),
    build_id INTEGER REFERENCES build(id),
    status TEXT NOT NULL, reason TEXT NOT NULL,
    worst_error REAL NOT NULL,          -- |error| / bound; right is <= 1
    launches INTEGER NOT NULL,          -- a sample
    sample_count INTEGER NOT NULL, samples TEXT NOT NULL, -- JSON, in the order taken
    median_ns REAL, mad_ns REAL, min_ns REAL, max_ns REAL, low_ns REAL, high_ns REAL,
    host_ns REAL, wall_ns REAL,
    sm_mhz INTEGER, memory_mhz INTEGER, celsius INTEGER, milliwatts INTEGER,
    created TEXT NOT NULL
);
CREATE INDEX measurement_by_problem ON measurement (problem_id, residency, launch, subject);
CREATE INDEX measurement_by_contest ON measurement (contest_id);

-- The latest contest of each problem and policy on each device.
CREATE VIEW latest_contest AS
SELECT run.device_id, m.problem_id, m.residency, m.launch, MAX(m.contest_id) AS contest_id
FROM measurement m JOIN run ON run.id = m.run_id
WHERE m.contest_id IS NOT NULL AND m.subject <> 'ceiling'
GROUP BY run.device_id, m.problem_id, m.residency, m.launch;

-- One row a device, kernel, problem, dtype, policy and point: its latest measurement, from a
-- contest where it took part in one, else from its scan; beside it the eager baseline and the
-- ceiling that ran interleaved with it, or else those of the latest contest on the same problem.
CREATE VIEW results AS
WITH ranked AS (
    SELECT m.*, run.device_id, ROW_NUMBER() OVER (
        PARTITION BY run.device_id, m.problem_id, m.residency, m.launch, m.point_id
        ORDER BY (m.status = 'ok') DESC, m.contest_id IS NULL, m.id DESC) AS rank
    FROM measurement m JOIN run ON run.id = m.run_id
    WHERE m.point_id IS NOT NULL AND m.subject <> 'ceiling'
),
-- a contest's ceiling is the fastest of the stream points in it
beside AS (
    SELECT m.contest_id,
           MIN(CASE WHEN m.subject = 'ceiling' THEN m.median_ns END) AS ceiling_ns,
           MIN(CASE WHEN m.subject = 'hf_eager' THEN m.median_ns END) AS eager_ns,
           MIN(CASE WHEN m.subject = 'hf_eager' THEN m.wall_ns END) AS eager_wall_ns,
           MIN(CASE WHEN m.subject = 'torch_fused' THEN m.median_ns END) AS fused_ns,
           MIN(CASE WHEN m.subject = 'torch_copy' THEN m.median_ns END) AS copy_ns,
           MIN(CASE WHEN m.subject = 'default' THEN m.median_ns END) AS default_ns
    FROM measurement m WHERE m.contest_id IS NOT NULL AND m.status = 'ok' GROUP BY m.contest_id
)
SELECT d.name AS device, d.kind AS device_kind, d.slug AS device_slug,
       p.kernel, p.dtype, p.problem, p.rows, r.residency, r.launch, pt.point,
       r.status, r.reason, r.contest_id IS NOT NULL AS in_contest,
       r.contest_id IS NOT NULL AND r.contest_id = lc.contest_id AS in_latest_contest,
       r.median_ns / 1e3 AS median_us, r.mad_ns / 1e3 AS mad_us, r.min_ns / 1e3 AS min_us,
       r.low_ns / 1e3 AS low_us, r.high_ns / 1e3 AS high_us, r.sample_count AS samples, r.launches,
       r.host_ns / 1e3 AS host_us, r.wall_ns / 1e3 AS wall_us,
       p.read_bytes, p.write_bytes, p.flops,
       (p.read_bytes + p.write_bytes) / r.median_ns AS gbps,
       CASE WHEN p.kernel <> 'stream' THEN (p.read_bytes + p.write_bytes) / b.ceiling_ns END
           AS ceiling_gbps,
       -- ratios of emulation times say nothing: the CPU device has none
       CASE WHEN p.kernel <> 'stream' AND d.kind = 'cuda' THEN 100.0 * b.ceiling_ns / r.median_ns
           END AS percent_of_ceiling,
       CASE WHEN b.eager_ns IS NOT NULL THEN 'hf_eager' WHEN b.copy_ns IS NOT NULL
            THEN 'torch_copy' END AS baseline,
       COALESCE(b.eager_ns, b.copy_ns) / 1e3 AS baseline_us, b.eager_wall_ns / 1e3 AS baseline_wall_us,
       CASE WHEN d.kind = 'cuda' THEN COALESCE(b.eager_ns, b.copy_ns) / r.median_ns END AS speedup,
       CASE WHEN d.kind = 'cuda' THEN b.eager_wall_ns / r.wall_ns END AS speedup_with_launch,
       b.fused_ns / 1e3 AS fused_us, b.default_ns / 1e3 AS default_us,
       r.worst_error, bd.registers, bd.spill_bytes, bd.shared_bytes, bd.blocks_per_sm, bd.code_hash,
       r.sm_mhz, r.memory_mhz, r.celsius, r.milliwatts / 1e3 AS watts,
       run.driver, run.compiler, run.baseline AS torch, run.commit_id AS "commit", run.dirty,
       r.created AS date, r.run_id
FROM ranked r
JOIN run ON run.id = r.run_id
JOIN device d ON d.id = r.device_id
JOIN problem p ON p.id = r.problem_id
JOIN point pt ON pt.id = r.point_id
LEFT JOIN build bd ON bd.id = r.build_id
LEFT JOIN latest_contest lc ON lc.device_id = r.device_id AND lc.problem_id = r.problem_id
    AND lc.residency = r.residency AND lc.launch = r.launch
LEFT JOIN beside b ON b.contest_id = COALESCE(r.contest_id, lc.contest_id)
WHERE r.rank = 1;

-- The best point of every problem and policy: of the latest contest's, else of the scans.
CREATE VIEW best AS
SELECT * FROM (
    SELECT *, ROW_NUMBER() OVER (
        PARTITION BY device_slug, kernel, dtype, problem, residency, launch
        ORDER BY in_latest_contest DESC, in_contest DESC, median_us) AS place
    FROM results WHERE status = 'ok')
WHERE place = 1;
