#!/bin/sh
# test_spaces.sh PROGRAM SCRATCH - exported spaces (T4) and what was tuned (T1): the same bytes from
# the same database, read by `fastinfer replay`, and by Kernel Tuner's own tools against the schemas
# that they ship. Those come from PyPI into build/spaces-tools once; without them, or offline, their
# part is skipped. Prints "ok N - NAME" lines; exits 1 where something failed.
set -u
program=$(realpath "$1")
tests=$(cd "$(dirname "$0")" && pwd)
tools=$(dirname "$tests")/build/spaces-tools
cd "$2" || exit 2
export FASTINFER_CACHE="$PWD/cache" FASTINFER_CONFIGS="$PWD/none"
unset FASTINFER_KERNELS
kernel_tuner=1.5.0 methodology=1.1.0

number=0 failures=0
# verdict NAME STATUS [WHY]
verdict() {
    number=$((number + 1))
    if [ "$2" -eq 0 ]; then echo "ok $number - $1"; else
        failures=$((failures + 1))
        echo "not ok $number - $1"
        echo "# ${3:-}"
    fi
}
# expect NAME CODE WORDS ARGUMENT...: the program ends with this code and says these words
expect() {
    name=$1 wanted=$2 words=$3
    shift 3
    timeout -k 5 120 "$program" "$@" >said 2>&1 </dev/null
    code=$?
    [ "$code" -eq "$wanted" ] && grep -qF -- "$words" said
    verdict "$name" $? "exit $code, not $wanted with '$words': $(tail -n 3 said | tr '\n' ' ')"
}
sql() { sqlite3 "$@"; }

# --- the files --------------------------------------------------------------------------------------
bench() { expect "$1" 0 '' bench --device cpu --no-baseline --db "$2" --seed 3 "$3" --problem "$4" \
    --policy "$5" --samples 30; }
bench 'a scan' db rmsnorm rows=4,hidden=64 cold,stream
bench 'one of a kernel with two grid axes' db rope_kv_append rows=4,kv_heads=2,positions=64,capacity=8 hot,graph
# how points fail; the first by name among them
fail_row() { sql db "UPDATE measurement SET status = '$1', median_ns = NULL, samples = '[]' WHERE id
    = (SELECT m.id FROM measurement m JOIN point ON point.id = point_id WHERE kernel = 'rmsnorm'
    AND status = 'ok' ORDER BY point LIMIT 1)"; }
for status in compile timeout incorrect crash launch nondeterministic; do fail_row $status; done
# one whose worker died left no build
sql db "UPDATE measurement SET build_id = NULL WHERE status = 'crash'"
sql db 'PRAGMA wal_checkpoint(TRUNCATE)' >/dev/null

expect 'export' 0 '2 spaces, 2 with a T1 file' export --db db --out first --spaces=10
folder=first/cpu/spaces
space=$(ls $folder/rmsnorm-*.t4.json.gz)
expect 'replay reads what the CPU device measured' 0 'rmsnorm-fp16-rows=4-hidden=64-cold-stream' \
    replay $folder/*.t4.json.gz --strategy random,auto --repeats 3
expect 'no space of fewer points' 0 '0 spaces, 0 with' export --db db --out few --spaces=1000

# The same rows under other numbers and without indices: other plans, the same bytes.
cp db other
sql other 'DROP INDEX measurement_by_problem; DROP INDEX measurement_by_contest;
    DROP INDEX build_by_point; UPDATE point SET id = -id; UPDATE measurement SET point_id = -point_id;
    UPDATE build SET point_id = -point_id; VACUUM; ANALYZE' >/dev/null
sleep 1.1 # a time in a header would be another
expect 'export again' 0 '2 spaces, 2 with' export --db other --out second --spaces=10
diff -r $folder second/cpu/spaces >said
verdict 'the same database gives the same bytes' $? "$(cat said)"
python3 - $folder/*.gz <<'PYTHON' >said 2>&1
import sys
for path in sys.argv[1:]:
    head = open(path, "rb").read(10)
    assert head[:3] == b"\x1f\x8b\x08" and head[3] == 0 and head[4:8] == bytes(4), (path, head)
PYTHON
verdict 'gzip headers hold no time and no name' $? "$(tail -1 said)"

# Points of a set of tunables older than the last measured are left out; where all are, the kernel
# is another.
cp db mixed
sql mixed "UPDATE point SET point = replace(point, ',prefetch=0', '') WHERE id IN (SELECT point.id
    FROM point JOIN measurement m ON point_id = point.id WHERE kernel = 'rmsnorm'
    AND point LIKE '%prefetch=0%' GROUP BY point.id ORDER BY MAX(m.id) LIMIT 3)" # the first measured
points() { gunzip -c "$1" | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["results"]))'; }
expect 'export of two sets of tunables' 0 '2 spaces, 2 with' export --db mixed --out first-mixed --spaces=10
expect 'replay reads it' 0 'rmsnorm' replay first-mixed/cpu/spaces/rmsnorm-*.t4.json.gz --repeats 1
all=$(points "$space") left=$(points first-mixed/cpu/spaces/rmsnorm-*.t4.json.gz)
[ "$left" -eq $((all - 3)) ]
verdict 'points without a tunable are left out' $? "$left of $all are left, not all but 3"
sql mixed "UPDATE point SET point = replace(replace(point, ',prefetch=0', ''), ',prefetch=1', '')
    || ',gone=' || id WHERE kernel = 'rmsnorm'"
expect 'another kernel has no T1 file' 0 '2 spaces, 1 with' export --db mixed --out first-mixed --spaces=10
! ls first-mixed/cpu/spaces/rmsnorm-*.t1.json.gz >/dev/null 2>&1
verdict 'and an older one of it is removed' $?

# Of every kind of kernel. sample has points of several launches, which T1 cannot describe.
few() { expect "a scan of $1" 0 '' bench --device cpu --no-baseline --db kinds --seed 3 "$1" \
    --problem "$2" --policy weights_cold,graph --samples 12; }
few swiglu rows=4,width=256
few rope rows=4,q_heads=4,kv_heads=2,head_dim=64,positions=64
few gemv batch=1,inputs=96,outputs=64
few attention_decode heads=4,kv_heads=2,head_dim=64,rope=1,batch=1,capacity=32,context=32
few sample vocab=320,batch=1,capacity=8
expect 'export of them' 0 '5 spaces, 4 with a T1 file' export --db kinds --out kinds-out --spaces=4
for kernel in swiglu rope gemv attention_decode sample; do
    expect "replay reads $kernel" 0 "$kernel-fp16" replay kinds-out/cpu/spaces/$kernel-*.t4.json.gz \
        --strategy random --repeats 2
done

# What is published: read, and small.
published=$(dirname "$tests")/results
for file in "$published"/*/spaces/*.t4.json.gz; do
    expect "replay reads $(basename "$file")" 0 'random' replay "$file" --strategy random --repeats 1
done
kib=$(cat "$published"/*/spaces/* | wc -c | awk '{ print int($1 / 1024) }')
[ "$kib" -lt 4096 ]
verdict 'published spaces are under 4 MiB' $? "$kib KiB"

# --- Kernel Tuner's tools ----------------------------------------------------------------------------
# --no-deps: what only tuning or drawing needs (pymoo, scikit-learn, ...) is half a GiB more
pip() { "$tools/bin/pip" install --quiet --disable-pip-version-check --retries 1 --timeout 15 "$@"; }
install_tools() {
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo 'Python 3.10 is needed'; return 1; }
    rm -rf "$tools"
    { python3 -m venv "$tools" &&
        pip 'numpy>=2' scipy matplotlib python-constraint2 jsonschema xmltodict packaging &&
        pip --no-deps kernel_tuner==$kernel_tuner autotuning_methodology==$methodology; } >said 2>&1 ||
        { { grep -m 1 '^ERROR' said || tail -1 said; } | cut -c 1-120; return 1; }
    echo $kernel_tuner $methodology >"$tools/complete"
}
if [ "$(cat "$tools/complete" 2>/dev/null)" != "$kernel_tuner $methodology" ] && ! why=$(install_tools); then
    echo "ok $((number + 1)) - Kernel Tuner's tools read them # skip not to be had: $why"
else
    sql -json db "SELECT p.kernel, COUNT(*) AS points, SUM(m.status = 'ok') AS correct,
        MIN(m.median_ns) AS best_ns, SUM(COALESCE(b.compile_ms, 0)) AS compile_ms
        FROM measurement m JOIN problem p ON p.id = m.problem_id LEFT JOIN build b ON b.id = m.build_id
        WHERE m.contest_id IS NULL GROUP BY p.kernel" >expected.json
    MPLBACKEND=Agg "$tools/bin/python3" "$tests/check_spaces.py" $folder expected.json $number \
        "$published"/*/spaces/*.t4.json.gz >checked 2>errors
    code=$?
    cat checked
    [ $code -eq 0 ] || { failures=$((failures + 1)); tail -5 errors; }
    grep -q '^ok' checked || { failures=$((failures + 1)); echo "not ok $((number + 1)) - check_spaces.py checked nothing"; }
fi
[ $failures -eq 0 ]
