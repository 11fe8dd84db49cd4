#!/bin/sh
# test_publish.sh PROGRAM FOLDER - scripts/publish.sh, small and on the CPU device: what it leaves,
# that it goes on where it was cut off. Prints "ok N - NAME" or "not ok N - NAME".
set -u
program=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$2" && cd "$2" || exit 2
scratch=$PWD
rm -rf ./*
number=0 failures=0
verdict() { # NAME STATUS [WHY]
    number=$((number + 1))
    if [ "$2" -eq 0 ]; then
        echo "ok $number - $1"
    else
        failures=$((failures + 1))
        echo "not ok $number - $1${3:+: $3}"
    fi
}
if ! command -v gnuplot >/dev/null; then
    echo 'ok 1 - publish # skip no gnuplot'
    exit 0
fi
export FASTINFER_CACHE="$scratch/cache" FASTINFER_DB="$scratch/all.db" FASTINFER_PUBLISH_DEVICE=cpu \
    FASTINFER_PUBLISH_OUT="$scratch/results" FASTINFER_PUBLISH_MARKS="$scratch/marks" \
    FASTINFER_PUBLISH_PROMPTS='4 8' FASTINFER_PUBLISH_BENCH='--quick --no-baseline rmsnorm' \
    FASTINFER_PUBLISH_TUNE="--configs $scratch --evaluations 8 rmsnorm --problem rows=4,hidden=64" \
    FASTINFER_PUBLISH_TPS='--no-transformers --repeat 2 --generate 4'
cd "$root" || exit 2
# cut off after the bench: the rest of its first run never happens
printf '#!/bin/sh\n[ "$1" = bench ] || exit 9\nexec "%s" "$@"\n' "$program" >"$scratch/cut"
chmod +x "$scratch/cut"
scripts/publish.sh "$scratch/cut" >"$scratch/said" 2>&1
[ $? -eq 9 ] && [ ! -d "$scratch/results/cpu" ]
verdict 'cut off after the bench, nothing is published' $? "$(tail -n 2 "$scratch/said")"
before=$(sqlite3 "$FASTINFER_DB" 'SELECT COUNT(*) FROM measurement')
scripts/publish.sh "$program" >"$scratch/said" 2>&1
verdict 'and it goes on' $? "$(tail -n 3 "$scratch/said")"
after=$(sqlite3 "$FASTINFER_DB" "SELECT COUNT(*) FROM measurement m JOIN run ON run.id = m.run_id WHERE contest_id IS NULL AND run.id = (SELECT run_id FROM measurement LIMIT 1)")
[ "$before" -gt 0 ] && [ "$after" -le "$before" ]
verdict 'without measuring anew' $? "$before, then $after"
for file in bench.csv environment.json tuning.csv tps.csv steps.csv position.csv report/report.html report/report.md; do
    [ -s "$scratch/results/cpu/$file" ]
    verdict "$file" $?
done
grep -q 'nothing wrong' "$scratch/said"
verdict 'the export is checked' $?
python3 tests/check_report.py "$scratch/results/cpu/report/report.html" cpu-tokens,cpu-step,cpu-position \
    cpu-tokens=2 cpu-step=3 cpu-position=2 >"$scratch/dom"
verdict 'the report has its pictures' $? "$(grep '^not ok' "$scratch/dom" | head -n 2)"
runs=$(sqlite3 "$FASTINFER_DB" 'SELECT COUNT(*) FROM throughput')
scripts/publish.sh "$program" >"$scratch/said" 2>&1 && grep -q 'prompt of 8: done before' "$scratch/said" &&
    [ "$(sqlite3 "$FASTINFER_DB" 'SELECT COUNT(*) FROM throughput')" -eq "$runs" ]
verdict 'once more does no model again' $?
exit $((failures > 0))
