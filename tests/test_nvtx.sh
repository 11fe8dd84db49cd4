#!/bin/sh
# NVTX ranges as a listener sees them: balanced, with the names of the steps and of each point.
# usage: test_nvtx.sh PROGRAM SCRATCH
program=$1
scratch=$2
number=0 failures=0
ok() { number=$((number + 1)); echo "ok $number - $1"; }
not_ok() { number=$((number + 1)); failures=$((failures + 1)); echo "not ok $number - $1"; }
is() { if eval "$2"; then ok "$1"; else not_ok "$1"; fi; }

header=$(ls /usr/local/cuda*/include/nvtx3/nvToolsExt.h /usr/include/nvtx3/nvToolsExt.h 2>/dev/null | tail -1)
if [ -z "$header" ]; then
    echo "ok 1 - # SKIP NVTX: its header is not here, so the program has no ranges"
    echo "1..1"
    exit 0
fi
gcc -shared -fPIC -I"$(dirname "$(dirname "$header")")" tests/nvtx_stub.c -o "$scratch/stub.so" || exit 1
NVTX_INJECTION64_PATH=$scratch/stub.so NVTX_STUB_OUT=$scratch/ranges "$program" bench swiglu --quick \
    --device cpu --no-baseline --db "$scratch/n.db" >/dev/null 2>&1
counts=$(awk '/^pushed/ {pushed += $2; popped += $4} END {print pushed + 0, popped + 0}' "$scratch/ranges" 2>/dev/null)
is "ranges arrive, as many ended as begun ($counts)" '[ "${counts% *}" -gt 10 ] && [ "${counts% *}" = "${counts#* }" ]'
for name in compile verify warm-up measure; do
    is "a range '$name'" "grep -qx '$name' '$scratch/ranges'"
done
points=$(sqlite3 "$scratch/n.db" "SELECT COUNT(*) FROM measurement WHERE contest_id IS NULL")
named=$(grep -c '^swiglu rows=.* block=' "$scratch/ranges")
is "a range for each point, by its name ($named of $points)" '[ "$named" -eq "$points" ] && [ "$points" -gt 0 ]'
echo "1..$number"
[ $failures -eq 0 ]
