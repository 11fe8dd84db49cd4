#!/bin/sh
# test_tune.sh PROGRAM FOLDER - a whole tuning on the CPU device: what it writes is what the engine
# launches, and what was compiled once is not compiled again. FOLDER is for databases, caches and
# configurations of its own. Prints "ok NAME" or "not ok NAME"; exits 1 where something failed.
set -u

if [ $# -ne 2 ]; then
    echo "usage: test_tune.sh PROGRAM FOLDER" >&2
    exit 2
fi
program=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
mkdir -p "$2" && cd "$2" || exit 2
export FASTINFER_CACHE="$PWD/cache" FASTINFER_CONFIGS="$PWD/none"
unset FASTINFER_KERNELS FASTINFER_CXX FASTINFER_PROGRAM

failed=0
verdict() { # NAME STATUS [WHY]
    if [ "$2" -eq 0 ]; then
        echo "ok $1"
    else
        failed=$((failed + 1))
        echo "not ok $1${3:+: $3}"
    fi
}
run() { # $code, and what was said in ./said
    timeout -k 5 600 "$program" "$@" >said 2>&1 </dev/null
    code=$?
}
last() { tail -n 2 said | tr '\n' ' '; }
sql() { sqlite3 -cmd '.timeout 30000' "$1" "$2"; }
binaries() { find "$1" -name '*.so' -printf '%f\n' | sort; }

# --- the work, counted ------------------------------------------------------------------------------
run tune --plan=sm_90
grep -qE '^all +[0-9]+ ' said && grep -qE '^attention_decode ' said
verdict 'tune --plan counts the work for a GPU that is not here' $? "$(last)"
awk '$1 == "attention_decode" || $1 == "norm_wide" {if ($3 > $2) ok++} END {exit ok != 2}' said
verdict 'and what lies between, contexts and sizes near the L2 cache among it' $? "$(grep -E '^(atten|norm_w)' said)"
run tune --plan=volta
[ "$code" -eq 2 ] && grep -q 'sm_75 was expected' said
verdict 'and says what an architecture is called' $? "exit $code: $(last)"

# --- every kernel --------------------------------------------------------------------------------
run tune --device cpu --quick --db whole.db --configs whole
[ "$code" -eq 0 ] && [ "$(sql whole.db "SELECT COUNT(*) FROM tuning WHERE state <> 'done'")" = 0 ]
verdict 'tune --quick decides every problem of every kernel' $? "exit $code: $(last)"
kernels=$(sql whole.db "SELECT COUNT(DISTINCT kernel) FROM tuned WHERE kernel <> 'stream'")
[ "$kernels" -ge 12 ]
verdict 'of the engine, too' $? "$kernels kernels"
run config --check whole/cpu.json
[ "$code" -eq 0 ]
verdict 'and writes a file that is sound' $? "$(last)"
if [ "$(nproc)" -gt 1 ]; then
    run tune rmsnorm swiglu rope --device cpu --quick --db spread.db --configs spread
    # shellcheck disable=SC2046 # words
    set -- $(sed -n 's/^points by worker: //p' said)
    [ $# -ge 2 ] && [ "$1" -gt 0 ] && [ "$2" -gt 0 ]
    verdict 'problems are spread over the workers of a device' $? "points by worker: $*"
else
    echo "skip problems are spread over the workers of a device: one core"
fi

# --- the cache -----------------------------------------------------------------------------------
# By chance the points do not depend on times: a second search asks for the same ones.
again() { # DATABASE
    run tune rmsnorm --device cpu --quick --strategy random --db "$1" --configs "${1%.db}"
}
fresh="SELECT COUNT(*) FROM build WHERE NOT cached"
points="SELECT COUNT(*) FROM measurement WHERE status = 'ok'"
export FASTINFER_CACHE="$PWD/twice"
again first.db
before=$(find twice -type f | sort | md5sum)
[ "$code" -eq 0 ] && [ "$(sql first.db "$fresh")" -gt 0 ]
verdict 'a first search compiles' $? "$(last)"
again second.db
[ "$code" -eq 0 ] && [ "$(sql second.db "$points")" -gt 8 ] && [ "$(sql second.db "$fresh")" = 0 ]
verdict 'a second one compiles nothing' $? "$(sql second.db "$fresh") compiled: $(last)"
[ "$(find twice -type f | sort | md5sum)" = "$before" ]
verdict 'and leaves the cache as it was' $?
measured=$(sql second.db "$points")
run tune rmsnorm --device cpu --quick --resume --db second.db --configs second
[ "$code" -eq 0 ] && [ "$(sql second.db "$points")" = "$measured" ] && [ "$(sql second.db "$fresh")" = 0 ]
verdict 'resumed it measures and compiles nothing' $? "$(last)"

# --- how far from the optimum ----------------------------------------------------------------------
# A space that was scanned whole, and times put into it: the default's 100 us, all others' 110.
kernels=$(cd "$(dirname "$program")/../.." && pwd)/tests/outside
run tune scale2 --kernels "$kernels" --problem elements=640 --device cpu --quick --evaluations 3 \
    --db audit.db --configs audit
run tune --audit --db audit.db
[ "$code" -eq 0 ] && grep -q 'both searched and exhausted' said
verdict 'without a whole space there is nothing to compare with' $? "$(last)"
run tune scale2 --kernels "$kernels" --problem elements=640 --device cpu --exhaust --db audit.db \
    --configs audit
exhausted="run_id = (SELECT MAX(run_id) FROM tuning)"
chosen="(SELECT COALESCE(launched_id, winner_id) FROM tuning t JOIN problem p ON p.id = t.problem_id
    WHERE kernel = 'scale2' AND t.strategy = 'auto')"
audit() { # TIME OF_CEILING: of the chosen point in the whole space, the best's being 100 us
    sql audit.db "UPDATE measurement SET median_ns = 110000 WHERE $exhausted;
        UPDATE measurement SET median_ns = 100000 WHERE id = (SELECT m.id FROM measurement m JOIN
            problem p ON p.id = m.problem_id WHERE $exhausted AND kernel = 'scale2' AND contest_id
            IS NULL AND status = 'ok' AND point_id <> $chosen LIMIT 1);
        UPDATE measurement SET median_ns = $1 WHERE $exhausted AND point_id = $chosen;
        UPDATE tuning SET ceiling_ns = $2 * COALESCE(launched_ns, median_ns) WHERE strategy = 'auto'"
    run tune --audit --db audit.db
}
audit 101000 0.5
grep -qE ' 100\.000 +101\.000 +1\.00% +50\.0 yes' said && grep -q '^1 of 1 within' said
verdict 'a point within 1% of the best is near enough' $? "$(last)"
audit 101100 0.5
grep -qE ' 1\.10% +50\.0 no' said && grep -q '^0 of 1 within' said
verdict 'one beyond is not' $? "$(last)"
audit 105000 0.985
grep -qE ' 5\.00% +98\.5 yes' said && grep -q '5.00% in the mean, 5.00% at worst' said
verdict 'unless it is within 2% of its ceiling' $? "$(last)"

# --- the engine launches what was tuned -----------------------------------------------------------
problem='batch=1,inputs=384,bias=0,outputs=96' # of the preset "tiny"
run tune gemv_residual --problem "$problem" --device cpu --quick --db engine.db --configs engine
[ "$code" -eq 0 ]
verdict 'a shape of a model is tuned' $? "$(last)"
tps() { # CONFIGS CACHE
    FASTINFER_CACHE="$PWD/$2"
    run tps --model tiny --device cpu --dtype fp16 --configs "$1" --generate 2 --prompt 4 --repeat 1 \
        --no-transformers --db tps.db
    binaries "$2" >"$2.list"
}
tps engine launched
[ "$code" -eq 0 ] && grep -q 'engine/cpu.json' said
verdict 'tps loads the file' $? "$(last)"
mkdir -p other
python3 - <<'PY' # another point of the search that was right
import json, sqlite3
config = json.load(open("engine/cpu.json"))
entry, = [e for e in config["entries"] if e["kernel"] == "gemv_residual"]
others = sqlite3.connect("engine.db").execute(
    "SELECT DISTINCT point FROM results WHERE kernel = 'gemv_residual' AND status = 'ok' AND "
    "point <> ? ORDER BY point", (entry["point"],)).fetchall()
entry["point"] = others[0][0]
json.dump(config, open("other/cpu.json", "w"))
PY
verdict 'the search found more than one point' $?
tps other changed
[ "$code" -eq 0 ] && grep -q 'other/cpu.json' said
verdict 'tps loads the changed file' $? "$(last)"
gone=$(comm -23 launched.list changed.list | wc -l) new=$(comm -13 launched.list changed.list | wc -l)
[ "$gone" -eq 1 ] && [ "$new" -eq 1 ]
verdict 'one changed point changes one binary' $? "$gone gone, $new new"
tps engine repeated
cmp -s launched.list repeated.list
verdict 'and nothing else does' $?

[ "$failed" -eq 0 ]
