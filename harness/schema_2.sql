-- Version 2: what trust needs beside a time.

ALTER TABLE build ADD COLUMN instructions INTEGER;      -- of the machine code, padding included
ALTER TABLE measurement ADD COLUMN throttle INTEGER;    -- NVML's reasons after the samples, a bit mask
ALTER TABLE measurement ADD COLUMN retaken INTEGER NOT NULL DEFAULT 0; -- samples taken anew: the clock was down
ALTER TABLE measurement ADD COLUMN millijoules REAL;    -- a launch; NULL where not measured
ALTER TABLE measurement ADD COLUMN autocorrelation REAL; -- of neighbouring samples
ALTER TABLE measurement ADD COLUMN drift REAL;          -- last third over first, where beyond chance

-- Hardware counters of a point, or, with source 'counted', the formula's bytes where the counters
-- were not to be had.
CREATE TABLE counter (
    measurement_id INTEGER NOT NULL REFERENCES measurement(id),
    name TEXT NOT NULL,                 -- CUPTI's, 'dram__bytes_read.sum'
    value REAL NOT NULL,
    source TEXT NOT NULL CHECK (source IN ('cupti', 'counted')),
    PRIMARY KEY (measurement_id, name)
);

-- Bytes that came from and went to memory over the least that the operation must move.
CREATE VIEW traffic AS
SELECT d.slug AS device_slug, p.kernel, p.dtype, p.problem, m.residency, m.launch, pt.point,
       SUM(c.value) AS measured_bytes, p.read_bytes + p.write_bytes AS least_bytes,
       SUM(c.value) / (p.read_bytes + p.write_bytes) AS over_least, MIN(c.source) AS source
FROM counter c
JOIN measurement m ON m.id = c.measurement_id
JOIN run ON run.id = m.run_id
JOIN device d ON d.id = run.device_id
JOIN problem p ON p.id = m.problem_id
JOIN point pt ON pt.id = m.point_id
WHERE c.name IN ('dram__bytes_read.sum', 'dram__bytes_write.sum')
GROUP BY c.measurement_id;
