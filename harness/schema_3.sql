-- Version 3: what a run's worker processes cost it.

ALTER TABLE run ADD COLUMN isolation_seconds REAL; -- the device's workers waited though there was work
