#!/bin/sh
# test_explain.sh PROGRAM FOLDER - fastinfer explain over a small bench on the CPU device, and over
# the same database made to look like a GPU's. Prints "ok N - NAME" or "not ok N - NAME".
set -u
program=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
mkdir -p "$2" && cd "$2" || exit 2
rm -rf pictures cpu.db* gpu.db* broken.db*
export FASTINFER_CACHE="$PWD/cache"
number=0 failures=0

# verdict NAME STATUS [WHY]
verdict() {
    number=$((number + 1))
    if [ "$2" -eq 0 ]; then
        echo "ok $number - $1"
    else
        failures=$((failures + 1))
        echo "not ok $number - $1${3:+: $3}"
    fi
}
# expect NAME CODE WORDS ARGUMENT...: ends with this code and says these words
expect() {
    name=$1 wanted=$2 words=$3
    shift 3
    "$program" explain "$@" >out 2>err </dev/null
    code=$?
    cat out err >said
    [ "$code" -eq "$wanted" ] && grep -qF -- "$words" said
    verdict "$name" $? "exit $code, not $wanted with '$words': $(tail -n 3 said | tr '\n' ' ')"
}
says() { # NAME WORDS, of the last answer
    grep -qE -- "$2" said
    verdict "$1" $? "no '$2'"
}
sql() { sqlite3 "$1" "$2"; }

"$program" bench rmsnorm --device cpu --quick --no-baseline --db cpu.db >said 2>&1
verdict 'a small bench' $? "$(tail -n 2 said)"

# --- what cannot be explained ----------------------------------------------------------------------
expect 'no kernel' 2 'a kernel was expected' --db cpu.db
expect 'two kernels' 2 'one kernel was expected' rmsnorm rope --db cpu.db
expect 'an unknown kernel' 2 "did you mean 'rmsnorm'" rmsnrom --db cpu.db
expect 'an unknown size' 2 "did you mean 'rows'" rmsnorm --problem row=4 --db cpu.db
expect 'an unknown policy' 2 'cold, hot, weights_cold' rmsnorm --policy cld --db cpu.db
expect 'an unknown dtype' 2 'fp16, bf16, fp32' rmsnorm --dtype fp61 --db cpu.db
expect 'no database' 2 'there is no such database' rmsnorm --db none.db
[ ! -e none.db ]
verdict 'and none is made' $?
echo 'this is text' >broken.db
expect 'a file that is no database' 2 'broken.db' rmsnorm --db broken.db
expect 'a problem that was not measured' 2 \
    '`fastinfer bench rmsnorm --problem rows=5,hidden=64 --db cpu.db`' \
    rmsnorm --problem rows=5,hidden=64 --db cpu.db
says 'and what was instead' 'it was on cpu with fp16 rows=[0-9]+,hidden=[0-9]+ cold,stream'
expect 'a policy that was not measured' 2 '--policy hot,graph' rmsnorm --policy hot,graph --db cpu.db
expect 'a dtype that was not measured' 2 '--dtype fp32' rmsnorm --dtype fp32 --db cpu.db
expect 'a kernel that was not measured' 2 '`fastinfer bench rope --db cpu.db`' rope --db cpu.db
expect 'a device that was not there' 2 'rmsnorm was not measured on nvidia-x' rmsnorm --db cpu.db \
    --device nvidia-x
expect 'a folder that cannot be made' 2 '/proc/nowhere' rmsnorm --db cpu.db --plot /proc/nowhere
[ "$(sql cpu.db 'SELECT COUNT(*) FROM run')" = 1 ]
verdict 'the database is as it was' $?

# --- the CPU device ---------------------------------------------------------------------------------
expect 'an emulation is called one' 0 "an emulation's" rmsnorm --db cpu.db
says 'the points are counted' '^4 points tried, 0 failed'
says 'too few are called too few' 'too few to fit all main effects'
says 'the contenders are there' 'best +runner-up +built-in default'
says 'without hashes the next point runs up' 'no hash'
expect 'by its problem' 0 'fp16 rows=' rmsnorm --db cpu.db --problem \
    "$(sql cpu.db "SELECT problem FROM results WHERE kernel = 'rmsnorm' LIMIT 1")"

# --- as on a GPU ------------------------------------------------------------------------------------
# Scans of 24 points: block 64 takes 2, 128 takes 1, 256 takes 3 us; reduce=2 a tenth more; 6 fail.
# The two fastest share their machine code; only another build with that code knows its registers.
cp cpu.db gpu.db
sql gpu.db "
DELETE FROM measurement; DELETE FROM build; DELETE FROM point;
UPDATE device SET kind = 'cuda', slug = 'a-gpu', name = 'A GPU', arch = 90;
WITH RECURSIVE b(block) AS (VALUES (64), (128), (256)), r(reduce) AS (VALUES (0), (2)),
     s(store) AS (VALUES (0), (1)), l(hint) AS (VALUES (0), (1))
INSERT INTO point (kernel, point) SELECT 'rmsnorm', 'block=' || block || ',rows_per_block=1,' ||
    'vector_bytes=16,reduce=' || reduce || ',passes=1,unroll=1,blocks_per_sm=0,ahead=0,prefetch=0,bulk=0,' ||
    'load_hint=' || hint || ',store_hint=' || store FROM b, r, s, l;
INSERT INTO point (kernel, point) VALUES ('rmsnorm', 'block=64,gone=1');
INSERT INTO build (id, run_id, problem_id, point_id, arch, status, cached, compile_ms, registers,
    spill_bytes, shared_bytes, blocks_per_sm, code_hash, log, instructions)
SELECT id, 1, (SELECT MIN(id) FROM problem WHERE kernel = 'rmsnorm'), id, 90, 'ok', 0, 1,
    CASE WHEN point LIKE '%block=128%load_hint=1,store_hint=1' THEN 0 ELSE 40 END,
    0, 32, 7, CASE WHEN point LIKE '%block=128%reduce=0%' THEN 'same' ELSE 'code' || id END, '', 200
    FROM point;
INSERT INTO measurement (run_id, problem_id, residency, launch, subject, point_id, build_id, status,
    reason, worst_error, launches, sample_count, samples, median_ns, low_ns, high_ns, created)
SELECT 1, (SELECT MIN(id) FROM problem WHERE kernel = 'rmsnorm'), 'cold', 'stream', 'kernel', id, id,
    CASE WHEN point LIKE '%block=256%load_hint=1%' THEN 'incorrect' ELSE 'ok' END, '', 0, 1, 10, '[]',
    t, t * 0.99, t * 1.01, '2026-01-01T00:00:00Z' FROM (SELECT id, point,
    CASE WHEN point LIKE 'block=64,%' THEN 2000 WHEN point LIKE 'block=128,%' THEN 1000 ELSE 3000 END
    * CASE WHEN point LIKE '%reduce=2%' THEN 1.1 ELSE 1 END
    * CASE WHEN point LIKE '%load_hint=1,store_hint=1' THEN 0.999 ELSE 1 END AS t FROM point);
INSERT INTO counter SELECT id, 'dram__bytes_read.sum', 12345, 'counted' FROM measurement WHERE
    point_id = (SELECT id FROM point WHERE point LIKE 'block=128,%reduce=0%load_hint=1,store_hint=1');
"
verdict 'a made-up database' $?
expect 'a GPU is no emulation' 0 'A GPU' rmsnorm --db gpu.db
! grep -q emulation said
verdict 'and nothing is said of one' $?
says 'failures by status' '^ +256 +8 .*4 failed: 4 incorrect'
says 'a value beside the best' '^ +64 +8 +2\.[0-9]+ +2\.000'
says 'points of an older kernel are left out, and said' '^1 more have tunables'
says 'a counter with its source' '12345 counted'
says 'how far apart' 'runner-up takes 10\.[0-9]+% longer; their intervals are apart'
expect 'as JSON' 0 '"kernel"' rmsnorm --db gpu.db --json
python3 - out <<'PYTHON' >said 2>&1
import json, sys
a = json.load(open(sys.argv[1]))
assert (a["points"], a["worked"], a["left_out"]) == (24, 20, 1), a
assert not a["emulation"] and a["device"] == "A GPU" and a["policy"] == "cold,stream"
t = a["tunables"]
assert len(t) == 12 and t[0]["name"] == "block" and t[0]["alone"] > 0.9, t[0]
assert abs(t[0]["worst_over_best"] - 3 / 0.999) < 1e-6, t[0]
block = {v["value"]: v for v in t[0]["values"]}
assert block[256]["failed"] == {"incorrect": 4} and block[256]["worked"] == 4, block
reduce = next(x for x in t if x["name"] == "reduce")
assert reduce["alone"] < 0.1 and reduce["beyond_others"] > 0.001 and len(reduce["values"]) == 2
assert next(x for x in t if x["name"] == "ahead")["alone"] is None
assert a["main_effects"] > 0.99, a["main_effects"]
best, runner, builtin = a["best"], a["runner_up"], a["default"]
assert best["code_hash"] == "same" and best["registers"] == 40, best
assert best["instructions"] == 200 and best["shared_bytes"] == 32 and best["blocks_per_sm"] == 7
assert best["counters"] == [{"name": "dram__bytes_read.sum", "value": 12345.0, "source": "counted"}]
assert runner["code_hash"] != "same" and "block=128" in runner["point"] and not runner["counters"]
assert abs(runner["median_us"] / best["median_us"] - 1.1) < 1e-6 and "reduce=2" in runner["point"]
# this one alone has the code that no build knows the registers of
assert runner["registers"] is None and builtin["registers"] == 40, (runner, builtin)
assert "block=128" in builtin["point"] and "reduce=0" in builtin["point"]
PYTHON
verdict 'all of it' $? "$(tail -n 1 said)"
sql gpu.db "UPDATE measurement SET status = 'crash'"
expect 'where all failed' 0 'None of them worked' rmsnorm --db gpu.db
expect 'as JSON too' 0 '"best": null' rmsnorm --db gpu.db --json

# --- pictures -----------------------------------------------------------------------------------------
sql gpu.db "UPDATE measurement SET status = CASE WHEN id % 7 THEN 'ok' ELSE 'timeout' END"
"$program" explain rmsnorm --db gpu.db --plot pictures >out 2>said
verdict 'CSVs for the pictures' $? "$(tail -n 1 said)"
python3 - <<'PYTHON' >said 2>&1
import csv
cells = list(csv.DictReader(open("pictures/heatmap.csv", newline="")))
assert {(c["x"], c["y"]) for c in cells} == {(x, y) for x in ("64", "128", "256")
                                           for y in {c["y"] for c in cells}}, cells
assert sum(int(c["points"]) for c in cells) == 24
assert min(float(c["percent_over_best"]) for c in cells if c["percent_over_best"]) == 0
assert sum(int(c["failed"]) for c in cells) == 3
rows = list(csv.DictReader(open("pictures/search.csv", newline="")))
assert [int(r["evaluation"]) for r in rows] == list(range(1, 26)), rows
best = [float(r["best_us"]) for r in rows]
assert best == sorted(best, reverse=True) and best[-1] == min(float(r["us"]) for r in rows if r["us"])
assert all((r["us"] == "") == (r["status"] != "ok") for r in rows)
PYTHON
verdict 'with every cell, and the best so far' $? "$(tail -n 1 said)"
if command -v gnuplot >/dev/null; then
    [ -s pictures/heatmap.png ] && [ -s pictures/search.png ] && grep -q '</svg>' pictures/heatmap.svg &&
        grep -q '</svg>' pictures/search.svg
    verdict 'four pictures' $?
    grep -q 'A GPU, .*2026-01-01' pictures/heatmap.svg && grep -q 'A GPU, .*2026-01-01' pictures/search.svg
    verdict 'device and date in their captions' $?
    "$program" explain rmsnorm --db cpu.db --plot pictures >out 2>said &&
        grep -q 'emulation times' pictures/heatmap.svg && grep -q 'emulation times' pictures/search.svg
    verdict 'an emulation is called one there too' $? "$(tail -n 1 said)"
else
    echo "ok $((number + 1)) - pictures # SKIP gnuplot is not installed"
fi
[ $failures -eq 0 ]
