#!/bin/sh
# tps --compare: sides, verdicts, and what becomes of the configuration. Speed is not judged here.
# usage: test_compare.sh PROGRAM SCRATCH
program=$(realpath "$1")
scratch=$(realpath "$2")
[ -d "$scratch" ] || exit 2
number=0 failures=0
ok() { number=$((number + 1)); echo "ok $number - $1"; }
not_ok() { number=$((number + 1)); failures=$((failures + 1)); echo "not ok $number - $1"; shift; printf '# %s\n' "$@"; }
ask() { python3 -c "import json,sys; d=json.load(open('$1')); print($2)" 2>&1; }
same() { if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "'$2', not '$3'"; fi; }
has() { if grep -qE "$2" "$3"; then ok "$1"; else not_ok "$1" "no '$2' in:" "$(tail -5 "$3")"; fi; }

device=$("$program" config --device cpu rmsnorm 2>/dev/null | sed -n '1s/: built-in default.*//p')
mkdir -p "$scratch/configs"
# Points of three kernels of the tiny model's step; two differ from the built-in ones.
python3 - "$scratch/configs/cpu.json" "$device" <<'EOF'
import json, sys
def entry(kernel, problem, point):
    return {"kernel": kernel, "dtype": "fp16", "policy": "weights_cold,graph", "problem": problem, "point": point}
residual = "row_threads=32,unroll=1,depth=2,staging=1,vector_bytes=16,blocks_per_sm=2,load_hint=2"
json.dump({"device": sys.argv[2], "slug": "cpu", "measured": True, "entries": [
    entry("gemv_residual", "batch=1,inputs=384,bias=0,outputs=96", "block=128,rows=1," + residual),
    entry("norm_wide", "rows=1,hidden=96", "block=64,vector_bytes=8"),
    entry("embed", "rows=1,vocab=320,hidden=96", "block=64,vector_bytes=8"),
]}, open(sys.argv[1], "w"), indent=1)
EOF
"$program" config --check "$scratch/configs/cpu.json" --device cpu >"$scratch/check" 2>&1
same "the configuration is good" $? 0
[ -s "$scratch/check" ] && head -3 "$scratch/check" | sed 's/^/# /'
tps="$program tps --model tiny --device cpu --configs $scratch/configs --generate 3 --prompt 4 --no-transformers --db $scratch/tps.db --quiet"

$tps --compare default,"$scratch/configs" --repeat 2 --json >"$scratch/two.json" 2>"$scratch/err"
same "two repeats end" $? 0
same "a side for each kernel that differs" \
    "$(ask "$scratch/two.json" "sorted(str(c['kernel']) for c in d[0]['comparisons'])")" "['None', 'embed', 'gemv_residual']"
same "one round says nothing" \
    "$(ask "$scratch/two.json" "{c['verdict'] for c in d[0]['comparisons']}")" "{'undecided'}"
same "nothing is accepted by it" \
    "$(ask "$scratch/configs/cpu.json" "['accepted' in e for e in d['entries']]")" "[False, False, False]"
same "but what was measured is there" \
    "$(ask "$scratch/configs/cpu.json" "[e['kernel'] for e in d['entries'] if 'end_to_end' in e]")" "['gemv_residual', 'embed']"

# A verdict that any machine gives: emulating the one kernel costs much more than the launches.
$tps --compare launches,persistent --dtype fp16 --repeat 12 >"$scratch/out" 2>"$scratch/err"
same "twelve repeats end" $? 0
has "the one kernel is refused" "refused: .*one kernel is 0\.[0-9]+ times as fast" "$scratch/out"
same "an entry says so" \
    "$(ask "$scratch/configs/cpu.json" "[(e['accepted'], e['end_to_end']['verdict']) for e in d['entries'] if e['kernel'] == 'decode_step']")" "[(False, 'refused')]"
$tps --compare persistent,launches --dtype fp16 --repeat 12 >"$scratch/out" 2>"$scratch/err"
has "the other way round the launches are accepted" "accepted: " "$scratch/out"
same "and the entry still says refused" \
    "$(ask "$scratch/configs/cpu.json" "[e['accepted'] for e in d['entries'] if e['kernel'] == 'decode_step']")" "[False]"
same "the file is still good" "$("$program" config --check "$scratch/configs/cpu.json" --device cpu >/dev/null 2>&1; echo $?)" 0

# What a refused entry does: the built-in point answers.
point() { "$program" config --configs "$scratch/configs" --device cpu --policy weights_cold,graph --problem rows=1,vocab=320,hidden=96 embed 2>&1; }
point >"$scratch/before"
has "an entry that was not refused answers" "block=64,vector_bytes=8" "$scratch/before"
python3 - "$scratch/configs/cpu.json" <<'EOF'
import json, sys
d = json.load(open(sys.argv[1]))
for e in d["entries"]:
    if e["kernel"] == "embed": e["accepted"] = False
json.dump(d, open(sys.argv[1], "w"), indent=1)
EOF
point >"$scratch/after"
has "a refused one does not, and it is said" "refused" "$scratch/after"
if grep -q "^ *block=64,vector_bytes=8" "$scratch/after"; then not_ok "the built-in point answers" "$(cat "$scratch/after")"; else ok "the built-in point answers"; fi
sed -i 's/"accepted": false/"accepted": 3/' "$scratch/configs/cpu.json"
"$program" config --check "$scratch/configs/cpu.json" --device cpu >"$scratch/check" 2>&1
has "a verdict that is none is refused with its line" 'cpu.json:[0-9]+: "accepted" is' "$scratch/check"
$tps --compare one >"$scratch/out" 2>&1
same "one configuration is no comparison" $? 2
echo "1..$number"
[ $failures -eq 0 ]
