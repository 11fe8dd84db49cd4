-- Version 5: what a prompt takes beside its matrix products, and how loading a model compares with
-- reading its files.

-- A part of a prompt's way through the model, alone, of all layers.
CREATE TABLE prompt_part (
    throughput_id INTEGER NOT NULL REFERENCES throughput(id),
    part TEXT NOT NULL,
    product INTEGER NOT NULL, -- 1: of matrices, by a library
    us REAL NOT NULL
);

-- A folder's weights to the device, and its files read as they are into device memory, interleaved.
CREATE TABLE loading (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES run(id),
    model TEXT NOT NULL, bytes INTEGER NOT NULL, -- of the files
    rounds INTEGER NOT NULL,
    seconds REAL NOT NULL, plain_seconds REAL NOT NULL,       -- medians
    ratio REAL NOT NULL, low REAL NOT NULL, high REAL NOT NULL, -- over 1: loading takes longer
    date TEXT NOT NULL
);

CREATE VIEW prompts AS
SELECT t.device_slug, t.device, t.model, t.configs, t.dtype, t.prompt, t.first_ms, t.first_low_ms,
       t.first_high_ms, SUM(CASE WHEN p.product THEN p.us END) / 1000 AS products_ms,
       SUM(p.us) / 1000 AS parts_ms,
       t.first_ms * 1000 / SUM(CASE WHEN p.product THEN p.us END) AS over_products,
       t.driver, t.compiler, t."commit", t.dirty, t.date, t.run_id, t.id
FROM throughputs t JOIN prompt_part p ON p.throughput_id = t.id
WHERE t.batch = 1
GROUP BY t.id;
