#!/bin/sh
# The gate as CI calls it: identical trees pass, planted slowdowns fail, nothing is passed silently.
# usage: test_gate.sh PROGRAM SCRATCH
program=$(realpath "$1")
scratch=$(realpath "$2")
[ -d "$scratch" ] || exit 2
number=0 failures=0
ok() { number=$((number + 1)); echo "ok $number - $1"; }
not_ok() { number=$((number + 1)); failures=$((failures + 1)); echo "not ok $number - $1"; shift; printf '# %s\n' "$@"; }
# expect CODE PATTERN NAME COMMAND...
expect() {
    code=$1 pattern=$2 name=$3
    shift 3
    "$@" >"$scratch/out" 2>&1
    got=$?
    if [ $got -eq "$code" ] && { [ -z "$pattern" ] || grep -qE "$pattern" "$scratch/out"; }; then
        ok "$name"
    else
        not_ok "$name" "exit $got, expected $code with '$pattern'" "$(tail -5 "$scratch/out")"
    fi
}

base=$scratch/base.json
expect 0 '' "a snapshot of this tree" "$program" gate --device none --emit "$base"
expect 0 '0 slower, 0 unsure' "an identical tree passes" "$program" gate --device none --against "$base"
some="rmsnorm swiglu gemv attention_prefill sample" # a family each: all of them take 2 s a time
"$program" gate --device none --emit "$scratch/some.json" $some 2>/dev/null
passes=0
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    "$program" gate --device none --against "$scratch/some.json" $some >"$scratch/out" 2>&1 && passes=$((passes + 1))
done
if [ $passes -eq 20 ]; then ok "identical kernels pass 20 times of 20 ($some)"; else
    not_ok "identical kernels pass 20 times of 20 ($some)" "$passes passed"; fi

# A kernel from a folder, and copies of it that cost more.
mkdir -p "$scratch/plain" && cp -r tests/outside/scale2 "$scratch/plain/"
expect 0 '' "a snapshot of a kernel from outside" env FASTINFER_KERNELS="$scratch/plain" \
    "$program" gate --device none --emit "$scratch/scale2.json" scale2
expect 0 '0 slower' "unchanged, it passes" env FASTINFER_KERNELS="$scratch/plain" \
    "$program" gate --device none --against "$scratch/scale2.json" scale2
plant() { # NAME SED-SCRIPT
    mkdir -p "$scratch/$1" && cp -r tests/outside/scale2 "$scratch/$1/"
    sed -i "$2" "$scratch/$1/scale2/scale2.cu"
    if cmp -s "$scratch/$1/scale2/scale2.cu" tests/outside/scale2/scale2.cu; then
        not_ok "planting $1" "the kernel has changed: nothing was planted"
    fi
}
plant extra_pass '/((word \*)y)\[i\]/a \    for (long long i = (long long)blockIdx.x * BLOCK + threadIdx.x; i < vectors; i += step) ((volatile unsigned *)y)[i] = ((volatile unsigned *)y)[i];'
expect 1 'slower +scale2.*global_bytes' "an extra pass fails it" \
    env FASTINFER_KERNELS="$scratch/extra_pass" "$program" gate --device none \
    --against "$scratch/scale2.json" --junit "$scratch/junit.xml" --markdown "$scratch/summary.md" \
    --annotate scale2
cp "$scratch/out" "$scratch/said"
expect 0 '::error file=kernels/scale2' "an annotation says so" cat "$scratch/said"
expect 0 'failures="[1-9]' "JUnit says so" cat "$scratch/junit.xml"
expect 0 'Kernel gate: slower' "the summary says so" cat "$scratch/summary.md"

plant barrier '/((word \*)y)\[i\]/a \    __syncthreads();'
expect 1 'slower +scale2.*barriers 0 ->' "an extra barrier fails it" \
    env FASTINFER_KERNELS="$scratch/barrier" "$program" gate --device none --against "$scratch/scale2.json" scale2
if grep -q sm_75 "$scratch/scale2.json"; then
    plant spill '/const long long step/a \    volatile float pad[64]; pad[threadIdx.x % 64] = 1.0f; if (pad[(threadIdx.x + 7) % 64] == 2.0f) return;'
    expect 1 'slower +scale2.*sm_75: stack_bytes 0 ->' "local memory fails it" \
        env FASTINFER_KERNELS="$scratch/spill" "$program" gate --device none --against "$scratch/scale2.json" scale2
else
    number=$((number + 1))
    echo "ok $number - # SKIP local memory: no NVRTC here"
fi

expect 2 'no kernel in common|not in this tree' "another kernel's snapshot is refused" \
    "$program" gate --device none --against "$scratch/scale2.json" rmsnorm
expect 2 'expected' "a damaged snapshot is refused" sh -c "head -c 300 '$base' > '$scratch/half.json'; '$program' gate --device none --against '$scratch/half.json'"
expect 2 'No such file' "a missing snapshot is refused" "$program" gate --device none --against "$scratch/none.json"
expect 2 'GPU' "a GPU's export is refused without one" "$program" gate --device none --against results/nvidia-h200
expect 2 'one of --base' "nothing to compare with" "$program" gate
expect 2 'no commit' "an unknown commit" "$program" gate --device none --base no-such-ref
expect 2 'did you mean' "an unknown kernel" "$program" gate --device none --against "$base" rmsnrm
expect 2 'could not be written' "an unwritable report" \
    "$program" gate --device none --against "$scratch/some.json" --junit /nonexistent/j.xml $some
history=$scratch/gate.csv
rm -f "$history"
expect 0 '' "a history begins" "$program" gate --device none --against "$scratch/some.json" --history "$history" $some
rows=$(grep -c ',none,' "$history")
expect 0 '' "and goes on" "$program" gate --device none --against "$scratch/some.json" --history "$history" $some
if [ "$rows" -gt 5 ] && [ "$(grep -c ',none,' "$history")" -eq $((2 * rows)) ] && [ "$(grep -c '^date,' "$history")" -eq 1 ]; then
    ok "with one header and as many rows again"
else
    not_ok "with one header and as many rows again" "$rows rows" "$(head -3 "$history")"
fi
echo 'a,b' >"$scratch/other.csv"
expect 2 "the gate's own header was expected" "another file is left alone" \
    "$program" gate --device none --against "$scratch/some.json" --history "$scratch/other.csv" $some
expect 2 'cuda:N or none' "an odd device" "$program" gate --device tpu --against "$base"
if [ -z "$(git status --porcelain 2>/dev/null | head -1)" ] && git rev-parse -q --verify HEAD >/dev/null 2>&1 &&
    git cat-file -e HEAD:cli/gate.c 2>/dev/null; then
    expect 0 '0 slower' "this commit against itself, built in a worktree" \
        "$program" gate --device none --base HEAD rmsnorm rope
else
    number=$((number + 1))
    echo "ok $number - # SKIP a base in a worktree: no clean git checkout here"
fi
echo "1..$number"
[ $failures -eq 0 ]
