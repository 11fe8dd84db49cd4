-- Version 3: what a run's worker processes cost it.

ALTER TABLE run ADD COLUMN isolation_seconds REAL; -- the device's workers waited though there was work

-- What a search for the fastest point came to, or has come to so far: one row a run, problem and
-- policy.
CREATE TABLE tuning (
    run_id INTEGER NOT NULL REFERENCES run(id),
    problem_id INTEGER NOT NULL REFERENCES problem(id),
    residency TEXT NOT NULL, launch TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'searching', 'decided', 'done')),
    strategy TEXT NOT NULL, stopped TEXT NOT NULL, -- why: 'at the ceiling', 'settled', 'budget', ...
    space INTEGER NOT NULL, evaluations INTEGER NOT NULL,
    winner_id INTEGER REFERENCES point(id),
    median_ns REAL, low_ns REAL, high_ns REAL,    -- of the winner, in its contest
    default_ns REAL, margin REAL, margin_low REAL, -- the default's time over the winner's
    ceiling_ns REAL,
    launched_id INTEGER REFERENCES point(id),     -- what the table of all shapes has here
    launched_ns REAL,
    regret REAL, left_out REAL,                   -- time over the best known, less 1; see dispatch.h
    updated TEXT NOT NULL,
    PRIMARY KEY (run_id, problem_id, residency, launch)
);

-- The latest finished search of each problem and policy on each device.
CREATE VIEW tuned AS
SELECT d.slug AS device_slug, d.name AS device, p.kernel, p.dtype, p.problem, p.rows, t.residency,
       t.launch, COALESCE(l.point, w.point) AS point, w.point AS winner, t.strategy, t.stopped,
       t.space, t.evaluations, t.median_ns / 1e3 AS winner_us,
       COALESCE(t.launched_ns, t.median_ns) / 1e3 AS median_us,
       CASE WHEN t.launched_id = t.winner_id THEN t.low_ns / 1e3 END AS low_us,
       CASE WHEN t.launched_id = t.winner_id THEN t.high_ns / 1e3 END AS high_us,
       t.default_ns / 1e3 AS default_us, t.margin, t.margin_low,
       CASE WHEN d.kind = 'cuda' THEN 100.0 * t.ceiling_ns / COALESCE(t.launched_ns, t.median_ns)
           END AS percent_of_ceiling,
       t.regret, t.left_out, run.driver, run.compiler, run.commit_id AS "commit", run.dirty,
       t.updated AS date, t.run_id
FROM tuning t
JOIN run ON run.id = t.run_id
JOIN device d ON d.id = run.device_id
JOIN problem p ON p.id = t.problem_id
LEFT JOIN point w ON w.id = t.winner_id
LEFT JOIN point l ON l.id = t.launched_id
WHERE t.state = 'done' AND COALESCE(l.id, w.id) IS NOT NULL AND t.run_id = (
    SELECT MAX(t2.run_id) FROM tuning t2 JOIN run r2 ON r2.id = t2.run_id
    WHERE t2.problem_id = t.problem_id AND t2.residency = t.residency AND t2.launch = t.launch
      AND t2.state = 'done' AND r2.device_id = run.device_id);
