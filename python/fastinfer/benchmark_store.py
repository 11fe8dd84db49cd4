"""The program's database (harness/schema*.sql of the source tree): rows of table throughput, and
tps.csv and a picture from them."""

import contextlib
import csv
import os
import re
import shutil
import socket
import sqlite3
import subprocess

from . import __version__
from .benchmark_models import BadInput
from .library import _TREE

SCHEMA = 5
NOW = "strftime('%Y-%m-%dT%H:%M:%SZ', 'now')"

# As `fastinfer export --tables` has them: the newest of each setting, HuggingFace of the same run
# beside it.
CSV = """WITH sides AS (
    SELECT t.*, COALESCE(NULLIF(t.engine, ''), 'fastinfer') AS side,
        replace(t.configs, ', one kernel', '') AS path,
        CASE WHEN t.configs LIKE '%, one kernel' THEN 'persistent'
            WHEN t.engine IN ('', 'fastinfer') THEN 'launches'
            WHEN t.configs LIKE '%eager' THEN 'eager' ELSE '' END AS form
    FROM throughputs t WHERE t.device_slug = ?),
timed AS (
    SELECT *, replace(path, rtrim(path, replace(path, '/', '')), '') AS file FROM sides),
beside AS (
    SELECT t.*, COALESCE((SELECT group_concat(name, ' ') FROM (
        SELECT DISTINCT CASE o.side WHEN 'fastinfer' THEN o.form ELSE o.side END AS name
        FROM timed o WHERE o.run_id = t.run_id AND o.model = t.model AND o.id <> t.id
        ORDER BY name)), '') AS beside
    FROM timed t),
latest AS (
    SELECT *, ROW_NUMBER() OVER (
        PARTITION BY model, dtype, side, form, CASE side WHEN 'transformers' THEN '' ELSE file END,
            batch, prompt, generated, beside ORDER BY id DESC) AS age
    FROM beside),
paired AS (
    SELECT t.*, h.tokens_s AS hf_tokens_s, h.first_ms AS hf_first_ms, a.ratio, a.low AS ratio_low,
        a.high AS ratio_high, a.rounds
    FROM latest t
    LEFT JOIN timed h ON h.run_id = t.run_id AND h.model = t.model AND h.side = 'transformers'
        AND t.side <> h.side AND t.read_gbps IS NOT NULL
    LEFT JOIN acceptance a ON a.run_id = h.run_id AND a.model = t.model AND a.second = t.configs
        AND a.first = 'transformers ' || h.configs
    WHERE t.age = 1)
SELECT model, side AS engine, form, prompt, generated AS generate, batch, file AS configs, beside,
    round(first_ms, 4) AS ttft_ms, round(tokens_s, 3) AS tokens_per_s,
    round(tokens_low, 3) AS low, round(tokens_high, 3) AS high,
    round(first_low_ms, 4) AS ttft_low_ms, round(first_high_ms, 4) AS ttft_high_ms, dtype, repeats,
    CAST(step_bytes AS INTEGER) AS step_bytes, round(gbps, 1) AS gbps,
    round(read_gbps, 1) AS read_gbps, round(percent_of_read, 2) AS percent_of_read,
    round(token_mj, 3) AS token_mj, memory_bytes, round(hf_tokens_s, 3) AS hf_tokens_per_s,
    round(hf_first_ms, 4) AS hf_ttft_ms, round(ratio, 3) AS hf_ratio,
    round(ratio_low, 3) AS hf_ratio_low, round(ratio_high, 3) AS hf_ratio_high,
    rounds AS hf_rounds, compiler, device, driver, "commit", dirty, date
FROM paired ORDER BY model, batch, prompt, generated, side, form, beside, id"""


def _program():
    """The fastinfer program: $FASTINFER_PROGRAM, the checkout's, or PATH's; None: there is none."""
    built = os.path.join(_TREE, "build", "release", "fastinfer")
    return os.environ.get("FASTINFER_PROGRAM") or (
        built if os.path.exists(built) else shutil.which("fastinfer"))


def _create(path):
    program = _program()
    how = "fastinfer devices --no-measure --db %s" % path
    if program is None:
        raise BadInput("%s is not there, and the program that makes it was not found; `make` builds "
                       "it, `%s` makes the file, --no-db does without" % (path, how))
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        made = subprocess.run([program] + how.split()[1:-1] + [path], capture_output=True,
                              text=True)
        why = made.stderr.strip() or "exit %d" % made.returncode
    except OSError as error:
        why = str(error)
    if not os.path.exists(path):
        raise BadInput("%s could not be made with %s: %s" % (path, program, why))


def open_database(path):
    """A connection to the program's database, which the program is asked to make where it is not
    there. Another schema is refused."""
    if not os.path.exists(path):
        _create(path)
    db = None
    try:
        db = sqlite3.connect(path, timeout=30, isolation_level=None)
        version = db.execute("PRAGMA user_version").fetchone()[0]
        db.execute("PRAGMA foreign_keys = ON")
    except sqlite3.DatabaseError as error:
        if db:
            db.close()
        raise BadInput("%s: %s; the database of the fastinfer program was expected"
                       % (path, error)) from None
    if version == SCHEMA:
        return db
    db.close()
    raise BadInput("%s: has schema %d, %d was expected (%s); or name another file with --db"
                   % (path, version, SCHEMA, "this package is older than the file"
                      if version > SCHEMA else "`fastinfer devices --no-measure --db FILE` brings "
                      "an older one up to date"))


def _asked(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _commit():
    git = ("git", "-C", _TREE)
    if os.path.exists(os.path.join(_TREE, ".git")):
        commit = _asked(*git, "rev-parse", "--short=12", "HEAD")
        if commit:
            return commit, int(bool(_asked(*git, "status", "--porcelain", "-uno")))
    return "v" + __version__, 0


def slug_of(name):
    """As runtime/device.c makes it: "nvidia-h200"."""
    return re.sub("[^0-9a-z]+", "-", name.lower()).strip("-")


class Record:
    """One invocation's run in the database. arch: 90 for sm_90, 0 for the CPU device."""

    def __init__(self, db, kind, name, arch, command, baseline, seed):
        self.db = db
        self.slug = "cpu" if kind == "cpu" else slug_of(name)
        driver = "" if kind == "cpu" else _asked(
            "nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split("\n")[0]
        with self._transaction():
            self.device = db.execute(
                "INSERT INTO device (kind, slug, name, arch, facts) VALUES (?, ?, ?, ?, '{}') ON "
                "CONFLICT (slug) DO UPDATE SET name = excluded.name RETURNING id",
                (kind, self.slug, name, arch)).fetchone()[0]
            self.run = db.execute(
                "INSERT INTO run (device_id, started, driver, compiler, baseline, commit_id, dirty, "
                "host, command, seed) VALUES (?, " + NOW + ", ?, '', ?, ?, ?, ?, ?, ?) RETURNING id",
                (self.device, driver, baseline, *_commit(), socket.gethostname(), command,
                 seed)).fetchone()[0]
        found = db.execute("SELECT read_gbps FROM run WHERE device_id = ? AND read_gbps > 0 "
                           "ORDER BY id DESC LIMIT 1", (self.device,)).fetchone()
        self.read_gbps = found[0] if found else None  # as the program measured it, at some time

    @contextlib.contextmanager
    def _transaction(self):
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    def add(self, rows, ratios):
        """rows: dicts of throughput's columns; ratios: dicts of acceptance's. All, or none."""
        with self._transaction():
            for row in rows:
                self._insert("throughput", dict(row, read_gbps=self.read_gbps))
            for row in ratios:
                self._insert("acceptance", row)

    def _insert(self, table, row):
        row = dict(row, run_id=self.run)
        self.db.execute("INSERT INTO %s (%s, date) VALUES (%s, %s)" % (
            table, ", ".join(row), ", ".join("?" * len(row)), NOW), tuple(row.values()))

    def end(self, outcome, seconds):
        self.db.execute("UPDATE run SET ended = " + NOW + ", outcome = ?, wall_seconds = ? WHERE "
                        "id = ?", (outcome, seconds, self.run))

    def write_csv(self, folder):
        """FOLDER/<device>/tps.csv, all that the database has of the device; its path."""
        cursor = self.db.execute(CSV, (self.slug,))
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row)) for row in cursor]
        for row in rows:  # a configuration goes by its file's name
            row["configs"] = row["configs"].rpartition("/")[2]
        path = os.path.join(folder, self.slug, "tps.csv")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".part", "w", newline="") as file:
            writer = csv.DictWriter(file, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(path + ".part", path)
        return path


def draw(path):
    """tps.csv as a picture beside it, in plots/; its path, or None where gnuplot or the script is
    missing or nothing came of it."""
    script = os.path.join(_TREE, "plots", "tps.gp")
    gnuplot = shutil.which("gnuplot")
    if gnuplot is None or not os.path.exists(script) or "'" in path:
        return None
    out = os.path.join(os.path.dirname(path), "plots")
    os.makedirs(out, exist_ok=True)
    done = subprocess.run([gnuplot, "-e", "csv='%s'; out='%s'; forms='svg'" % (path, out), script],
                          capture_output=True, text=True)
    picture = os.path.join(out, "tps.svg")
    return picture if done.returncode == 0 and os.path.exists(picture) else None
