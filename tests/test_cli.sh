#!/bin/sh
# test_cli.sh PROGRAM FOLDER - the program as people meet it, on the CPU device. FOLDER is for
# databases, a compile cache and outputs of its own. Prints "ok NAME", "not ok NAME" or "skip NAME"
# and ends with "N passed, N failed"; exits 1 where something failed.
set -u

if [ $# -ne 2 ]; then
    echo "usage: test_cli.sh PROGRAM FOLDER" >&2
    exit 2
fi
program=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
mkdir -p "$2" && cd "$2" || exit 2
rm -rf cache exported ./*.db ./*.db-*
export FASTINFER_CACHE="$PWD/cache" FASTINFER_CONFIGS="$PWD/none"
unset FASTINFER_KERNELS FASTINFER_CXX FASTINFER_PROGRAM

passed=0 failed=0

# verdict NAME STATUS [WHY]
verdict() {
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok $1"
    else
        failed=$((failed + 1))
        echo "not ok $1${3:+: $3}"
    fi
}
skip() { echo "skip $1: $2"; }

# run ARGUMENT...: $code, and what was said in ./out, ./err and both in ./said
run() {
    timeout -k 5 120 "$program" "$@" >out 2>err </dev/null
    code=$?
    cat out err >said
}

# expect NAME CODE WORDS ARGUMENT...: ends with this code and says these words (a fixed string)
expect() {
    name=$1 wanted=$2 words=$3
    shift 3
    run "$@"
    [ "$code" -eq "$wanted" ] && grep -qF -- "$words" said
    verdict "$name" $? "exit $code, not $wanted with '$words': $(tail -n 3 said | tr '\n' ' ')"
}

sql() { sqlite3 -cmd '.timeout 30000' "$1" "$2"; }
# says NAME DATABASE SQL EXPECTED
says() {
    got=$(sql "$2" "$3")
    [ "$got" = "$4" ]
    verdict "$1" $? "'$got', not '$4'"
}
is_sound() { says "$1" "$2" 'PRAGMA integrity_check' ok; }

bench() { # NAME CODE WORDS ARGUMENT...
    name=$1 wanted=$2 words=$3
    shift 3
    expect "$name" "$wanted" "$words" bench --device cpu --no-baseline --db refused.db "$@"
}

# --- usage and names -------------------------------------------------------------------------------
expect 'no arguments: usage' 0 'fastinfer bench'
expect '--version' 0 'fastinfer ' --version
expect 'help' 0 'fastinfer VERB --help' help
for verb in devices bench build export plot gate calibrate replay explain config; do
    [ "$verb" = plot ] && ! "$program" plot --help </dev/null 2>&1 | grep -q Usage &&
        skip "$verb --help" 'not in this program yet' && continue
    expect "$verb --help" 0 "Usage: fastinfer $verb" "$verb" --help
    expect "$verb --nonsense" 2 nonsense "$verb" --nonsense
done
expect 'unknown verb' 2 "did you mean 'bench'" bnech
expect 'unknown verb, far off' 2 'fastinfer devices' xyzzyx
expect 'unknown kernel' 2 "did you mean 'rmsnorm'" bench rmsnrom --device cpu --db refused.db
expect 'unknown kernel in build' 2 "did you mean 'swiglu'" build swigul
bench 'unknown size' 2 "did you mean 'rows'" rmsnorm --problem row=4
bench 'unknown tunable' 2 "did you mean 'block'" rmsnorm --point blok=128
bench 'value that is none' 2 'is not one of 32, 64, 96' rmsnorm --point block=100
bench 'unknown dtype' 2 'fp16, bf16, fp32' rmsnorm --dtype fp61
bench 'unknown residency' 2 'cold, hot, weights_cold' --policy cld,stream
bench 'unknown launch' 2 'stream, graph' --policy cold,steam
expect 'unknown device' 2 'auto, cpu, cuda:N' bench --device cpuu --db refused.db
expect 'device without a number' 2 'cuda:N' bench --device cuda: --db refused.db
if [ -e /dev/nvidia0 ]; then
    skip 'no such GPU' 'this machine has GPUs'
else
    expect 'no such GPU' 2 'NVIDIA driver' bench --device cuda:7 --db refused.db
fi
bench '--point without a kernel' 2 'bench KERNEL --point' --point block=128
bench '--problem without a kernel' 2 'bench KERNEL --problem' --problem rows=4
bench '--quick with --exhaust' 2 'exclude each other' --quick --exhaust
bench 'no model' 2 '/nonexistent/config.json' rmsnorm --model /nonexistent
bench 'no folder of kernels' 2 '/nonexistent' --kernels /nonexistent
bench 'samples that are no number' 2 'whole number' --samples some
bench 'samples out of range' 2 'whole number' --samples 3000000000
bench 'negative seed' 2 'whole number' --seed -1
bench 'seed out of range' 2 'whole number' --seed 99999999999999999999
bench 'a dtype that a kernel has not' 2 'stream has no bf16 form' stream --dtype bf16
expect 'unknown format' 2 'csv' export --db refused.db --format xml

# --- problems and points ---------------------------------------------------------------------------
bench 'rows=0' 2 'rows=0 is outside 1 to' rmsnorm --problem rows=0
bench 'rows=-5' 2 'rows=-5 is outside 1 to' rmsnorm --problem rows=-5
bench 'rows=10^15' 2 'rows=1000000000000000 is outside' rmsnorm --problem rows=1000000000000000
bench 'more than the memory' 2 'GiB of device memory' rmsnorm --problem rows=2147483648,hidden=65536
bench 'a point that is not legal' 2 'would have nothing to do' \
    rmsnorm --problem rows=2,hidden=2048 --point block=1024
says 'nothing refused was recorded' refused.db 'SELECT COUNT(*) FROM measurement' 0
expect 'an odd width' 0 'rows=2,hidden=3' bench --device cpu --no-baseline --db odd.db \
    rmsnorm --problem rows=2,hidden=3
says 'an odd width: all are right' odd.db \
    "SELECT COUNT(*) > 1 AND MIN(status) = 'ok' AND MAX(status) = 'ok' FROM results" 1

# --- databases -------------------------------------------------------------------------------------
expect 'unwritable database' 2 '/proc/nowhere' bench --device cpu --db /proc/nowhere/x.db
mkdir -p folder.db
expect 'a folder as database' 2 'could not be opened' bench --device cpu --db folder.db
rmdir folder.db
yes 'this is text' | head -n 500 >text.db
cp text.db text.before
expect 'text as database' 2 'not a database' bench --device cpu --db text.db
expect 'text as database, exported' 2 'not a database' export --db text.db --out exported
cmp -s text.db text.before
verdict 'text is left as it was' $?
cp odd.db newer.db
sql newer.db 'PRAGMA user_version = 77' >/dev/null
cp newer.db newer.before
expect 'newer database' 2 'newer FastInfer (schema 77' bench --device cpu --db newer.db
cmp -s newer.db newer.before
verdict 'the newer one is left as it was' $?
head -c 20000 odd.db >cut.db
cp cut.db cut.before
expect 'truncated database' 2 'move the file away' bench --device cpu --db cut.db
cmp -s cut.db cut.before
verdict 'the truncated one is left as it was' $?
expect 'no database to export' 2 'fastinfer bench' export --db none.db --out exported
[ ! -e none.db ]
verdict 'and none is made' $?

# --- tools that are missing ------------------------------------------------------------------------
export FASTINFER_CXX=/nonexistent FASTINFER_CACHE="$PWD/cache2"
expect 'no compiler' 2 'no host C++ compiler' bench --device cpu --no-baseline --quick --db nocxx.db
unset FASTINFER_CXX
export FASTINFER_CACHE="$PWD/cache"
rm -rf cache2
says 'no compiler: no records' nocxx.db 'SELECT COUNT(*) FROM measurement' 0
run build rmsnorm --arch sm_75
if [ "$code" -eq 2 ] && grep -qi nvrtc err; then
    skip 'build for sm_75' "$(cat err)"
else
    grep -qE '[0-9]+ registers +[0-9]+ B spilled' out && [ "$code" -eq 0 ]
    verdict 'build for sm_75' $? "exit $code: $(tail -n 2 said)"
    expect 'build of a point that is not legal' 2 'not legal' build rmsnorm \
        --problem hidden=2048 --point block=1024
fi
expect 'build for no architecture' 2 'no architecture' build --arch 75x
expect 'build with negative samples' 2 'whole number' build --samples -5

# --- a bench, and what becomes of it ---------------------------------------------------------------
expect 'devices' 0 'cpu' devices --db devices.db
grep -qE '^cpu ' out && grep -q 'cores' out && grep -qi 'compiler' out
verdict 'devices shows the cpu, its cores and its compiler' $?

expect 'a bench' 0 'rope_kv_append' bench --device cpu --quick --no-baseline --db full.db --seed 7 \
    rmsnorm add_rmsnorm swiglu rope rope_kv_append stream
says 'six kernels' full.db 'SELECT COUNT(DISTINCT kernel) FROM results' 6
says 'all are ok' full.db "SELECT COUNT(*) FROM results WHERE status <> 'ok'" 0
says 'all are within their bounds, and timed' full.db \
    'SELECT COUNT(*) FROM results WHERE worst_error > 1 OR samples < 1 OR median_us IS NULL' 0
says 'several points a kernel' full.db \
    'SELECT MIN(n) > 1 FROM (SELECT COUNT(*) AS n FROM results GROUP BY kernel)' 1
says 'a best one each' full.db 'SELECT COUNT(DISTINCT kernel) FROM best' 6
says 'the run ended well' full.db "SELECT outcome || seed FROM run" ok7
says 'emulation times have no ratios' full.db \
    'SELECT COUNT(*) FROM results WHERE speedup IS NOT NULL OR percent_of_ceiling IS NOT NULL' 0
is_sound 'the database is sound' full.db
[ ! -e full.db-wal ]
verdict 'and closed' $?

expect 'export as csv' 0 'bench.csv' export --db full.db --out exported
expect 'export of spaces' 0 'spaces: ' export --db full.db --out exported --spaces=4
space=$(ls exported/cpu/spaces/rmsnorm-*.t4.json.gz 2>/dev/null | head -1)
expect 'our own space replayed' 0 'rmsnorm-' replay "$space" --strategy random,auto --repeats 2 --budget 4
expect 'no such space' 2 'No such file' replay none.t4.json
expect 'no such strategy' 2 'one of auto' replay "$space" --strategy autos
expect 'calibrating without a GPU' 2 'GPU' calibrate
expect 'calibrating an emulation' 2 'emulation' calibrate --device cpu
mkdir -p configured
printf '{"device": "x", "slug": "sm_90", "measured": false, "entries": [{"kernel": "rmsnorm", "dtype": "fp16", "policy": "cold,stream", "problem": "rows=4,hidden=2048", "point": "block=64"}]}' >configured/sm_90.json
expect 'a configured point' 0 'block=64,' config rmsnorm --arch sm_90 --problem rows=9,hidden=2048 --configs configured
expect 'and that it is not measured' 0 'sm_90.json (not measured)' config rmsnorm --arch sm_90 --problem rows=9,hidden=2048 --configs configured
expect 'another width has the default' 0 'from the built-in default' config rmsnorm --arch sm_90 --problem hidden=3072 --configs configured
expect 'a config for an unknown kernel' 2 'did you mean' config rmsnrm
printf '{"entries": [' >configured/sm_90.json
expect 'a damaged config is said and passed over' 0 'passed over' config rmsnorm --arch sm_90 --configs configured
expect 'unknown counters' 2 'dram__bytes_read.sum' bench --counters some
expect 'export as json' 0 'bench.json' export --db full.db --out exported --format json
python3 - <<'PYTHON' >said 2>&1
import csv, json
wanted = ["kernel", "dtype", "problem", "rows", "residency", "launch", "point", "status",
          "median_us", "mad_us", "samples", "gbps", "ceiling_gbps", "percent_of_ceiling",
          "baseline", "baseline_us", "speedup", "worst_error", "device", "commit", "date"]
rows = list(csv.DictReader(open("exported/cpu/bench.csv", newline="")))
objects = json.load(open("exported/cpu/bench.json"))
environment = json.load(open("exported/cpu/environment.json"))
assert {r["kernel"] for r in rows} == {"rmsnorm", "add_rmsnorm", "swiglu", "rope",
                                       "rope_kv_append", "stream"}, rows
assert len(rows) == len(objects)
for row, item in zip(rows, objects):
    assert None not in row and not [c for c in wanted if c not in row], row
    assert list(row) == list(item), (list(row), list(item))
    assert row["kernel"] == item["kernel"] and row["point"] == item["point"]
    assert float(row["median_us"]) > 0 and float(row["gbps"]) > 0 and int(row["samples"]) > 0
    assert row["speedup"] == "" and item["speedup"] is None
assert environment and environment[0]["device_kind"] == "cpu" and environment[0]["seed"] == 7
PYTHON
verdict 'both parse, with every column' $? "$(tail -n 1 said)"

all='SELECT COUNT(*) FROM measurement'
before=$(sql full.db "$all")
shown='SELECT COUNT(*) FROM results'
rows=$(sql full.db "$shown")
expect 'resume' 0 ' 0 points timed' bench --device cpu --quick --no-baseline --db full.db --seed 7 \
    --resume rmsnorm add_rmsnorm swiglu rope rope_kv_append stream
says 'resume measures nothing again' full.db "$all" "$before"
says 'and shows as many' full.db "$shown" "$rows"

points="SELECT kernel, problem, point FROM results ORDER BY 1, 2, 3"
small='bench --device cpu --quick --no-baseline rmsnorm swiglu'
# shellcheck disable=SC2086 # words
run $small --db same.db --seed 7 --json
[ "$code" -eq 0 ] && python3 -c 'import json
rows = json.load(open("out"))
assert {r["kernel"] for r in rows} == {"rmsnorm", "swiglu"}, rows
assert all(r["status"] == "ok" and r["median_us"] > 0 for r in rows)' 2>said
verdict '--json parses' $? "$(tail -n 1 said)"
[ "$(sql same.db "$points")" = "$(sql full.db "$points" | grep -E '^(rmsnorm|swiglu)\|')" ]
verdict 'the same seed gives the same points' $?
# shellcheck disable=SC2086 # words
run $small --db other.db --seed 8
[ "$(sql same.db "$points")" != "$(sql other.db "$points")" ]
verdict 'another seed gives others' $?

# --- stopped on the way ----------------------------------------------------------------------------
# scans: what one point alone was measured to do; contests repeat the best of them side by side
count='SELECT COUNT(*) FROM measurement WHERE contest_id IS NULL'
work='bench --device cpu --no-baseline --samples 12 rmsnorm swiglu'

# children PID: its processes and theirs
children() {
    for child in $(ps -o pid= --ppid "$1"); do
        echo "$child"
        children "$child"
    done
}

# start DATABASE: $work in a group of its own as $pid, until it has stored something
start() {
    # shellcheck disable=SC2086 # words
    setsid "$program" $work --db "$1" >out 2>err </dev/null &
    pid=$!
    turns=0
    while [ "$(sqlite3 "$1" "$count" 2>/dev/null || echo 0)" -lt 2 ]; do
        sleep 0.05
        turns=$((turns + 1))
        if [ $turns -gt 1200 ] || ! kill -0 $pid 2>/dev/null; then return 1; fi
    done
}

# gone SECONDS PID...: none of them runs any more
gone() {
    turns=$(($1 * 20))
    shift
    for one in "$@"; do
        while kill -0 "$one" 2>/dev/null; do
            if [ $turns -le 0 ]; then return 1; fi
            sleep 0.05
            turns=$((turns - 1))
        done
    done
}

# interrupt NAME DATABASE TARGET: TARGET is 'process' or, as a terminal does, 'group'
interrupt() {
    start "$2"
    verdict "$1: it works" $?
    workers=$(children $pid)
    if [ "$3" = group ]; then kill -INT -$pid; else kill -INT $pid; fi
    (sleep 20 && kill -9 $pid) 2>/dev/null &
    guard=$!
    from=$(date +%s)
    wait $pid
    code=$?
    took=$(($(date +%s) - from))
    kill $guard 2>/dev/null
    [ $code -eq 130 ] && [ $took -le 10 ]
    verdict "$1: ends in time with 130" $? "exit $code after $took s: $(tail -n 2 err)"
    grep -q -- --resume err
    verdict "$1: says how to go on" $? "$(tail -n 2 err)"
    # shellcheck disable=SC2086 # words
    gone 1 $workers
    verdict "$1: no process is left" $?
    is_sound "$1: the database is sound" "$2"
    says "$1: the run says so" "$2" 'SELECT outcome FROM run' interrupted
    says "$1: no worker took it for itself" "$2" \
        "SELECT COUNT(*) FROM measurement WHERE status <> 'ok'" 0
}

interrupt 'interrupted' stopped.db process
kept=$(sql stopped.db "$count")
# shellcheck disable=SC2086 # words
expect 'resumed' 0 'swiglu' $work --db stopped.db --resume
# shellcheck disable=SC2086 # words
expect 'measured at one go' 0 'swiglu' $work --db whole.db
says 'resumed: each point once, and all of them' stopped.db "$count" "$(sql whole.db "$count")"
[ "$(sql stopped.db "$points")" = "$(sql whole.db "$points")" ] &&
    [ "$kept" -lt "$(sql whole.db "$count")" ]
verdict 'resumed: the same points' $? "$kept were kept"
interrupt 'Ctrl-C' terminal.db group

start killed.db
verdict 'killed: it worked' $?
workers=$(children $pid)
reported=$(sql killed.db "$count")
kill -9 $pid
wait $pid 2>/dev/null
[ -n "$workers" ]
verdict 'killed: it had workers' $?
# shellcheck disable=SC2086 # words
gone 3 $workers
verdict 'killed: no worker is left' $?
is_sound 'killed: the database is sound' killed.db
[ "$(sql killed.db "$count")" -ge "$reported" ]
verdict 'killed: nothing is lost' $?
# shellcheck disable=SC2086 # words
expect 'killed: resumed' 0 'swiglu' $work --db killed.db --resume
says 'killed: all points are there' killed.db "$shown" "$(sql whole.db "$shown")"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
