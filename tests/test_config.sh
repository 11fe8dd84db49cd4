#!/bin/sh
# Configurations as people meet them: what is shown, checked, handed out and written by compiling
# alone; and that a changed point in a file changes what is launched.
# usage: test_config.sh PROGRAM SCRATCH
program=$(realpath "$1")
scratch=$(realpath "$2")
[ -d "$scratch" ] || exit 2
export FASTINFER_CACHE="$scratch/cache"
unset FASTINFER_CONFIGS FASTINFER_KERNELS
number=0 failures=0
ok() { number=$((number + 1)); echo "ok $number - $1"; }
not_ok() { number=$((number + 1)); failures=$((failures + 1)); echo "not ok $number - $1"; shift; printf '# %s\n' "$@"; }
skip() { number=$((number + 1)); echo "ok $number - # SKIP $1"; }
verdict() { # NAME COMMAND...: passed when the command is
    name=$1
    shift
    if "$@" >"$scratch/verdict" 2>&1; then ok "$name"; else not_ok "$name" "$(tail -5 "$scratch/verdict")"; fi
}
# expect CODE PATTERN NAME COMMAND...
expect() {
    code=$1 pattern=$2 name=$3
    shift 3
    "$@" >"$scratch/out" 2>&1 </dev/null
    got=$?
    if [ $got -eq "$code" ] && { [ -z "$pattern" ] || grep -qE -e "$pattern" "$scratch/out"; }; then
        ok "$name"
    else
        not_ok "$name" "exit $got, expected $code with '$pattern'" "$(tail -5 "$scratch/out")"
    fi
}
config() { "$program" config "$@"; }
json() { # FILE EXPRESSION: what Python says of d, the file's JSON
    python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); sys.exit(0 if eval(sys.argv[2]) else str(d)[:500])' "$1" "$2"
}

# --- what is shown ---------------------------------------------------------------------------------
mkdir -p "$scratch/empty" "$scratch/one"
plain=rows_per_block=1,vector_bytes=16,reduce=0,passes=1,unroll=1,blocks_per_sm=0,ahead=0,prefetch=0,bulk=0,load_hint=0,store_hint=0
# write FILE DEVICE SLUG MEASURED BLOCK MORE
write() {
    printf '{"device": "%s", "slug": "%s", "measured": %s, "entries": [\n{"kernel": "rmsnorm", "dtype": "fp16", "policy": "cold,stream", "problem": "rows=8,hidden=2048",\n "point": "block=%s,%s"%s}]}\n' \
        "$2" "$3" "$4" "$5" "$plain" "$6" >"$1"
}
expect 0 "no $scratch/empty/nvidia-l4.json; no $scratch/empty/sm_89.json; built-in default" \
    "the whole chain is said" config rmsnorm --arch sm_89 --configs "$scratch/empty"
write "$scratch/one/sm_89.json" "NVIDIA L4" sm_89 true 64 ', "median_us": 2.5'
expect 0 "no $scratch/one/nvidia-l4.json; $scratch/one/sm_89.json$" "and what was found in it" \
    config rmsnorm --arch sm_89 --problem rows=17,hidden=2048 --configs "$scratch/one"
cp "$scratch/out" "$scratch/said"
expect 0 'from .*/sm_89.json, line 2: rows=8,hidden=2048 cold,stream, a factor of 2 away; measured there: 2.5 us' \
    "the entry's own problem, its distance and its time" cat "$scratch/said"
expect 0 'this very problem, another policy; measured there' "another policy is said" \
    config rmsnorm --arch sm_89 --problem rows=8,hidden=2048 --policy hot,graph --configs "$scratch/one"
expect 0 '' "the same as JSON" sh -c "'$program' config rmsnorm --json --arch sm_89 --problem rows=17,hidden=2048 --configs '$scratch/one' >'$scratch/shown.json'"
verdict "with all of it" json "$scratch/shown.json" \
    'd["measured"] and d["file"].endswith("sm_89.json") and "no " in d["chain"] and d["kernels"][0]["entry"]["line"] == 2 and d["kernels"][0]["entry"]["median_us"] == 2.5 and abs(d["kernels"][0]["entry"]["distance"] - 0.693147) < 1e-5 and d["kernels"][0]["point"].startswith("block=64,")'
expect 0 '' "JSON of the default" sh -c "'$program' config rmsnorm --json --arch sm_89 --configs '$scratch/empty' >'$scratch/shown.json'"
verdict "has no file and no entry" json "$scratch/shown.json" \
    'd["file"] is None and not d["measured"] and d["kernels"][0]["from"] == "default" and "entry" not in d["kernels"][0]'
write "$scratch/one/sm_89.json" "NVIDIA L4" sm_89 false 64
expect 0 'this very problem; not measured$' "a point that nobody measured says so" \
    config rmsnorm --arch sm_89 --problem rows=8,hidden=2048 --configs "$scratch/one"
expect 0 'from the built-in default: .*sm_89.json has no entry' "no entry for another width" \
    config rmsnorm --arch sm_89 --problem rows=8,hidden=3072 --configs "$scratch/one"

# --- what is checked -------------------------------------------------------------------------------
for file in configs/*.json; do
    expect 0 "^$file: good for .* entries, (not )?measured$" "$file is good" config --check "$file"
done
expect 0 'for Tesla T4: .* not measured' "nobody measured a T4" config --check configs/tesla-t4.json
# bad NAME PATTERN SED-SCRIPT: a good file with one mistake, and the words that it must be met with
bad() {
    write "$scratch/sm_89.json" "NVIDIA L4" sm_89 true 64 ', "median_us": 2.5'
    cp "$scratch/sm_89.json" "$scratch/before.json"
    sed -i "$3" "$scratch/sm_89.json"
    if cmp -s "$scratch/sm_89.json" "$scratch/before.json"; then not_ok "$1" "nothing was planted"; fi
    expect 2 "sm_89.json:$2" "refused: $1" config --check "$scratch/sm_89.json"
}
write "$scratch/sm_89.json" "NVIDIA L4" sm_89 true 64
expect 0 'good for NVIDIA L4: 1 entries, measured' "a file without a mistake" config --check "$scratch/sm_89.json"
bad "truncated" '[23]: .*JSON .*expected' '$d'
bad "no JSON" '1: .*JSON .*expected' '1s/{/</'
bad "no entries" '1: no array "entries"' '1s/"entries"/"entry"/'
bad "another device" '1: "slug" is sm_86: .*"sm_89" was expected' '1s/sm_89/sm_86/'
bad "an unknown tunable" "2: rmsnorm has no tunable 'blok'; did you mean 'block'" 's/block=/blok=/'
bad "an unknown size" "2: rmsnorm has no size 'row'; did you mean 'rows'" 's/rows=/row=/'
bad "a value that is none" '2: rmsnorm: block=65 is not one of' 's/block=64/block=65/'
bad "an illegal point" '2: rmsnorm: point .* is not legal for rows=8,hidden=6144 on NVIDIA L4: .*legal point was expected' 's/hidden=2048/hidden=6144/'
bad "a wrong dtype" "2: dtype 'fp8' is none of" 's/fp16/fp8/'
bad "a wrong policy" "2: policy 'warm,stream'" 's/cold,stream/warm,stream/'
bad "a missing key" '2: no text "policy"' 's/"policy"/"police"/'
bad "a duplicate entry" '4: rmsnorm fp16 .* is in line 2 already' '2{h};3{s/]}$/,/;G;s/$/"point": ""}]}/}'
expect 2 '"good": false' "as JSON" config --json --check "$scratch/sm_89.json"
bad "a time nobody took" '2: a time is here and "measured" is false' '1s/true/false/'
write "$scratch/sm_89.json" "NVIDIA L4" sm_89 true 64
sed -i '2s/rmsnorm/rmsnrm/' "$scratch/sm_89.json"
expect 0 "sm_89.json:2: .*'rmsnorm'.*left out" "an unknown kernel costs its entry alone" \
    config --check "$scratch/sm_89.json"
expect 2 'could not be read' "no such file" config --check "$scratch/sm_90.json"
cp "$scratch/sm_89.json" "$scratch/mine.json"
expect 2 "'mine' is no device" "a name that is no device's" config --check "$scratch/mine.json"
printf '{' >"$scratch/one/sm_89.json"
expect 0 'looked for: .*refused .*/one/sm_89.json; built-in default' "what was refused is in the chain" \
    config rmsnorm --arch sm_89 --configs "$scratch/one"
expect 2 'exclude each other' "two things at once" config --check a --emit-source rmsnorm
expect 2 'belongs to --emit-source' "a point for nothing" config --point block=64
expect 2 'needs the GPU.s architecture' "an unmeasured device of no architecture" config --unmeasured "Tesla T4"

# --- a changed point changes what is launched --------------------------------------------------------
device=$(config --json --device cpu rmsnorm 2>/dev/null | python3 -c 'import json, sys; print(json.load(sys.stdin)["slug"])')
mkdir -p "$scratch/cpu"
# points BLOCK: what a small bench measures under a configured point of so many threads
points() {
    write "$scratch/cpu/$device.json" "some CPU" "$device" "$2" "$1"
    rm -f "$scratch"/bench.db*
    "$program" bench rmsnorm --device cpu --no-baseline --problem rows=8,hidden=2048 --samples 1 \
        --configs "$scratch/cpu" --db "$scratch/bench.db" >"$scratch/bench.out" 2>&1 || return 1
    python3 -c 'import sqlite3, sys
for row in sqlite3.connect(sys.argv[1]).execute("SELECT DISTINCT point FROM results ORDER BY point"): print(*row)' "$scratch/bench.db"
}
points 64 true >"$scratch/points.64"
points 256 true >"$scratch/points.256"
verdict "bench runs the configured point" grep -qx "block=64,$plain" "$scratch/points.64"
verdict "and another one when the file says another" grep -qx "block=256,$plain" "$scratch/points.256"
expect 1 '' "and then no more the first" grep -qx "block=64,$plain" "$scratch/points.256"
points 64 false >"$scratch/points.64"
verdict "bench says of a point that it was not measured" \
    grep -q "$device.json were compiled and not measured" "$scratch/bench.out"

# an export keeps what is measured, and nothing else
"$program" export --db "$scratch/bench.db" --out "$scratch/results" --configs "$scratch/cpu" >"$scratch/out" 2>&1
sed 's/rows=8,/rows=31,/; s/"median_us": [0-9.]*/"median_us": 77/' "$scratch/cpu/$device.json" >"$scratch/kept.json"
cp "$scratch/kept.json" "$scratch/cpu/$device.json"
"$program" export --db "$scratch/bench.db" --out "$scratch/results" --configs "$scratch/cpu" >"$scratch/out" 2>&1
expect 0 'rows=31,' "an export keeps measured entries" cat "$scratch/cpu/$device.json"
write "$scratch/cpu/$device.json" "some CPU" "$device" false 64
sed -i 's/rows=8,/rows=31,/' "$scratch/cpu/$device.json"
"$program" export --db "$scratch/bench.db" --out "$scratch/results" --configs "$scratch/cpu" >"$scratch/out" 2>&1
expect 1 '' "and none that were not" grep -q 'rows=31,' "$scratch/cpu/$device.json"
expect 0 'measured$' "what it writes is good" config --check "$scratch/cpu/$device.json"

# --- what needs NVRTC --------------------------------------------------------------------------------
"$program" build rmsnorm >"$scratch/out" 2>&1 || {
    skip "handing out, compiling alone: no NVRTC here ($(tail -1 "$scratch/out" | cut -c1-80))"
    expect 0 'no cubin was written' "without NVRTC the source and the header are written" \
        config --emit-source rmsnorm --arch sm_75 --out "$scratch/handed"
    verdict "both" test -s "$scratch/handed/rmsnorm.cu" -a -s "$scratch/handed/rmsnorm.h"
    echo "1..$number"
    exit $((failures > 0))
}
mkdir -p "$scratch/t4"
# hash BLOCK: of the machine code that is launched for this block in a T4's file
hash() {
    write "$scratch/t4/tesla-t4.json" "Tesla T4" tesla-t4 false "$1"
    config --emit-source rmsnorm --arch sm_75 --problem rows=8,hidden=2048 --configs "$scratch/t4" \
        --out "$scratch/handed" 2>/dev/null | sed -n 's/.*machine code \([0-9a-f]*\),.*/\1/p'
}
first=$(hash 64)
verdict "the same file, the same machine code" test "$(hash 64)" = "$first" -a -n "$first"
verdict "another point, another machine code" test "$(hash 256)" != "$first"
# gate BLOCK: the facts of sm_75 that the gate compares
gate() {
    write "$scratch/t4/tesla-t4.json" "Tesla T4" tesla-t4 false "$1"
    "$program" gate --device none --configs "$scratch/t4" --emit "$scratch/gate.$1" rmsnorm >"$scratch/out" 2>&1
}
gate 64 && gate 256
verdict "the gate compiles what the file says" json "$scratch/gate.64" \
    '[c["sm_75"]["point"].split(",")[0] for c in d["codes"] if c["sizes"] == "hidden=2048"] == ["block=64"]'
verdict "and what it says then" json "$scratch/gate.256" \
    '[c["sm_75"]["point"].split(",")[0] for c in d["codes"] if c["sizes"] == "hidden=2048"] == ["block=256"]'

nvcc=$(command -v nvcc || ls /usr/local/cuda*/bin/nvcc 2>/dev/null | head -1)
mkdir -p "$scratch/elsewhere"
for arch in sm_75 sm_90; do
    kernels='rmsnorm add_rmsnorm swiglu rope rope_kv_append stream'
    [ $arch = sm_75 ] || kernels="$kernels decode_step"
    for kernel in $kernels; do
        # its machine code is that of the build of the same point: the program fails where it is not
        expect 0 "$kernel.$arch.cubin: .*as it is benched" "$kernel is handed out for $arch" \
            config --emit-source $kernel --arch $arch --out "$scratch/elsewhere"
        expect 1 '' "which includes nothing of ours" grep -n '#include "' "$scratch/elsewhere/$kernel.cu"
        verdict "its cubin is one for a GPU" sh -c "head -c 4 '$scratch/elsewhere/$kernel.$arch.cubin' | grep -q ELF"
        verdict "its header is C" sh -c "cd '$scratch/elsewhere' && printf '#include \"$kernel.h\"\nint x = $(echo $kernel | tr a-z A-Z)_STAGES;\n' | ${CC:-cc} -std=c99 -Wall -Wextra -Werror -pedantic -I. -x c -c - -o header.o"
        [ -n "$nvcc" ] || continue
        verdict "nvcc takes it" sh -c "cd '$scratch/elsewhere' && '$nvcc' -c -Werror all-warnings -std=c++17 -arch=$arch $kernel.cu -o $kernel.o"
    done
done
[ -n "$nvcc" ] || skip "nvcc on what is handed out: there is none here"
expect 0 'as it is benched' "in another dtype, with a point of one's own" config --emit-source swiglu --dtype bf16 \
    --problem rows=7,width=2048,packed=1 --point block=64,vector_bytes=16,unroll=4 --arch sm_80 --out "$scratch/elsewhere"
verdict "whose macros are on top" sh -c "grep -q '^#define DTYPE 1 ' '$scratch/elsewhere/swiglu.cu' && grep -q '^#define UNROLL 4 ' '$scratch/elsewhere/swiglu.cu' && grep -q '^#define PACKED 1 ' '$scratch/elsewhere/swiglu.cu'"
verdict "with its launch beside it" sh -c "grep -q '^#define SWIGLU_0_GRID_X 7u' '$scratch/elsewhere/swiglu.h' && grep -q '^#define SWIGLU_0_BLOCK_X 64u' '$scratch/elsewhere/swiglu.h'"
expect 2 'not legal here' "a point that is not legal" \
    config --emit-source rmsnorm --arch sm_75 --point block=32,blocks_per_sm=16,vector_bytes=2 --out "$scratch/elsewhere"
expect 2 'did you mean' "a kernel that is none" config --emit-source rmsnrm --arch sm_75 --out "$scratch/elsewhere"
expect 2 'is for a GPU' "the CPU device" config --emit-source rmsnorm --device cpu --out "$scratch/elsewhere"
expect 2 'could not be' "a folder that cannot be" config --emit-source rmsnorm --arch sm_75 --out /nonexistent/a
expect 0 'as it is benched' "a kernel from outside" config --kernels tests/outside --emit-source scale2 --arch sm_75 --out "$scratch/elsewhere"

# A kernel whose default spills: all of its 100 values are alive at once, of a block of 1024 threads.
mkdir -p "$scratch/outside" && cp -r tests/outside/scale2 "$scratch/outside/"
sed -i 's/COUNT(values_block), 256}/COUNT(values_block), 1024}/' "$scratch/outside/scale2/scale2.c"
sed -i '/const long long step = (long long)gridDim.x \* BLOCK;/a \    float kept[100];\n#pragma unroll\n    for (int k = 0; k < 100; k++) kept[k] = ((const volatile float *)x)[threadIdx.x + k * BLOCK];\n#pragma unroll\n    for (int k = 99; k >= 0; k--) ((volatile float *)y)[threadIdx.x + k * BLOCK] = kept[k];' \
    "$scratch/outside/scale2/scale2.cu"
expect 0 '[1-9][0-9]* B spilled.* block=1024,' "a default that spills" \
    "$program" build scale2 --kernels "$scratch/outside" --arch sm_75
own=$("$program" config --unmeasured "Tesla T4" --arch sm_75 --out "$scratch/own" 2>&1 | sed -n 's/.*not measured; \([0-9]*\) with another.*/\1/p')
expect 0 "not measured; $((own + 4)) with another point" "a file by compiling alone" \
    config --kernels "$scratch/outside" --unmeasured "Tesla T4" --arch sm_75 --out "$scratch/unmeasured"
verdict "takes the nearest point that does not spill" json "$scratch/unmeasured/tesla-t4.json" \
    '{e["point"] for e in d["entries"] if e["kernel"] == "scale2"} == {"block=512,vector_bytes=16,blocks_per_sm=0"}'
verdict "and says what compiling says, and no time" json "$scratch/unmeasured/tesla-t4.json" \
    'not d["measured"] and d["slug"] == "tesla-t4" and all(e["spill_bytes"] == 0 and e["registers"] > 0 and e["blocks_per_sm"] > 0 and e["shared_bytes"] >= 0 and not any(k.endswith("_us") for k in e) for e in d["entries"])'
expect 0 '' "the tree's own, anew" config --unmeasured "Tesla T4" --arch sm_75 --out "$scratch/unmeasured"
if grep -qF "$(grep '"compiler"' "$scratch/unmeasured/tesla-t4.json")" configs/tesla-t4.json; then
    verdict "configs/tesla-t4.json is what this tree gives (else: make unmeasured)" \
        cmp "$scratch/unmeasured/tesla-t4.json" configs/tesla-t4.json
else
    skip "configs/tesla-t4.json was made with another NVRTC"
fi
cp configs/nvidia-h200.json "$scratch/unmeasured/"
expect 2 'does not say "measured": false' "a measured file is not overwritten" \
    config --unmeasured "NVIDIA H200" --arch sm_90 --out "$scratch/unmeasured"
echo "1..$number"
[ $failures -eq 0 ]
