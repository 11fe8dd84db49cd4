#!/bin/bash
# test-gpu.sh BUILD - every kernel on cuda:0: verified against fp64, planted mistakes caught, the
# engine against transformers, and a sample under compute-sanitizer. Ends with "N passed, N failed".
set -u
B=${1:-build/release}
passed=0 failed=0
scratch=$(mktemp -d)
if ! "$B/fastinfer" devices --no-measure --db "$scratch/devices.db" | grep -q '^cuda:0'; then
    "$B/fastinfer" devices --no-measure --db "$scratch/devices.db" | head -1
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
export FASTINFER_TEST_DEVICE=cuda:0 FASTINFER_ROOT=$PWD
: "${FASTINFER_TEST_SECONDS:=540}" # for each program
run() {
    local name=$1 log p f
    shift
    log=$(mktemp)
    CMOCKA_MESSAGE_OUTPUT=TAP timeout "$FASTINFER_TEST_SECONDS" "$@" >"$log" 2>&1
    local code=$?
    p=$(grep -viE '# skip' "$log" | grep -cE '^ok ') # cmocka writes a skipped test as "not ok"
    f=$(grep -viE '# skip' "$log" | grep -cE '^not ok ')
    if [ $code -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
    passed=$((passed + p)) failed=$((failed + f))
    echo "$name: $p passed, $f failed"
    grep -vE '^ok ' "$log" | grep -E 'points|space|fp16|skip' | head -20
    [ "$f" -gt 0 ] && grep -vE '^ok |# skip' "$log" | tail -30
    rm -f "$log"
}
run kernels "$B/tests/test_kernels"
run "planted mistakes" "$B/tests/test_broken"
run fill "$B/tests/test_fill"
run sampling "$B/tests/test_sample_kernel"
run engine env FASTINFER_TEST_STEPS=1500 "$B/tests/test_engine" # in both forms, 10,500 in all
if python3 -c 'import torch, transformers; assert torch.cuda.is_available()' 2>/dev/null; then
    run "engine at full size" python3 tests/golden/full_size.py "$B/fastinfer"
else
    echo "engine at full size: skipped, python3 has no PyTorch with CUDA and transformers"
fi
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        run "compute-sanitizer $tool" env FASTINFER_TEST_POINTS=4 FASTINFER_TEST_SMALL=1 \
            compute-sanitizer --tool $tool --error-exitcode 9 "$B/tests/test_kernels"
    done
else
    echo "compute-sanitizer: skipped, not installed"
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
