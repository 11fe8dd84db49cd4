#!/bin/bash
# test.sh - every test this machine can run; ends with "N passed, N failed".
#
# Release build first, then the kernels again under AddressSanitizer and UBSan, then what only has
# to compile: clang, the coverage and debug configurations' flags, formatting. FASTINFER_FAST=1
# leaves the sanitizers out. Logs are in build/test-logs.
set -u
cd "$(dirname "$0")/.." || exit 2
logs=build/test-logs
rm -rf "$logs" && mkdir -p "$logs"
passed=0 failed=0 skipped=0
limit=900 # seconds that a program may take
failures=() # "NAME|LOG" of each part that failed, for the end
started=$SECONDS

# note NAME LOG: counts a finished test program's TAP lines; a program that died counts as failed.
note() {
    local name=$1 log=$2 code=$3 p f s late=
    s=$(grep -ciE '^(not )?ok .*# skip' "$log") # cmocka writes a skipped test as "not ok"
    p=$(grep -viE '# skip' "$log" | grep -cE '^ok ')
    f=$(grep -viE '# skip' "$log" | grep -cE '^not ok ')
    if [ "$code" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
    if [ "$code" -eq 0 ] && [ $((p + f + s)) -eq 0 ]; then f=1; echo "  $name ran no test"; fi
    if [ "$code" -eq 124 ]; then late=", ran past $limit s"; fi # timeout's own code
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    printf '%-34s %4d passed, %d failed%s%s  (%d s)\n' "$name" "$p" "$f" \
        "$([ "$s" -gt 0 ] && echo ", $s skipped")" "$late" $((SECONDS - begun))
    if [ "$f" -gt 0 ]; then
        failures+=("$name$late|$log")
        grep -E -A12 '^not ok |ERROR|FAILED' "$log" | grep -viE '# skip' | head -60
        [ "$code" -gt 1 ] && tail -15 "$log"
        echo "  whole log: $log"
    fi
    grep -iE '^skipped: |# skip' "$log" | sed 's/^/  /' | sort -u | head -12
}

# program NAME COMMAND...: a cmocka program or a script that prints "ok"/"not ok" lines.
program() {
    local name=$1 log
    shift
    log=$logs/$(echo "$name" | tr ' /' '__').log
    begun=$SECONDS
    CMOCKA_MESSAGE_OUTPUT=TAP timeout $limit "$@" >"$log" 2>&1
    note "$name" "$log" $?
}

# check NAME COMMAND...: one test, passed when the command exits 0.
check() {
    local name=$1 log code
    shift
    log=$logs/$(echo "$name" | tr ' /' '__').log
    begun=$SECONDS
    "$@" >"$log" 2>&1
    code=$?
    if [ $code -eq 0 ]; then echo "ok 1 - $name" >>"$log"; else echo "not ok 1 - $name" >>"$log"; head -20 "$log"; fi
    note "$name" "$log" $code
}

# recall: what failed, once more: who sees the end of the output alone sees what it was.
recall() {
    local entry
    for entry in "${failures[@]}"; do
        echo "failed: ${entry%|*}; the end of ${entry##*|}:"
        tail -15 "${entry##*|}" | sed 's/^/    /'
    done
}

skip() { skipped=$((skipped + 1)); printf '%-34s skipped: %s\n' "$1" "$2"; }

jobs=$(nproc)
check "build (gcc, release)" make -s -j"$jobs" build-tests
[ -x build/release/fastinfer ] || { recall; echo "$passed passed, $failed failed"; exit 1; }
scripts/build-torch-baseline.sh build/release/libfastinfer_torch.so

for test in build/release/tests/test_*; do
    [ -x "$test" ] && [ -f "$test" ] || continue
    case $test in *.o | *.d) continue ;; esac
    name=$(basename "$test")
    if [ "$name" = test_baseline ]; then
        if [ -f build/release/libfastinfer_torch.so ]; then
            program "$name" env FASTINFER_TORCH=build/release/libfastinfer_torch.so "$test"
        else
            skip "$name" "no PyTorch for the plugin (make torch adds it)"
        fi
        continue
    fi
    program "$name" "$test"
done
check "floors" sh tests/test_floors.sh
program "tokenize" sh tests/test_tokenize.sh build/release/fastinfer
scratch=$(mktemp -d)
program "command line" sh tests/test_cli.sh build/release/fastinfer "$scratch"
rm -rf "$scratch"
scratch=$(mktemp -d)
program "gate" sh tests/test_gate.sh build/release/fastinfer "$scratch"
rm -rf "$scratch"
scratch=$(mktemp -d)
program "configurations" sh tests/test_config.sh build/release/fastinfer "$scratch"
rm -rf "$scratch"
scratch=$(mktemp -d)
program "comparing end to end" sh tests/test_compare.sh build/release/fastinfer "$scratch"
rm -rf "$scratch"
scratch=$(mktemp -d)
program "generate and tps" sh tests/test_tps.sh build/release/fastinfer "$scratch"
rm -rf "$scratch"
scratch=$(mktemp -d)
program "explain" sh tests/test_explain.sh build/release/fastinfer "$scratch"
rm -rf "$scratch"
scratch=$(mktemp -d)
program "report" sh tests/test_report.sh build/release/fastinfer "$scratch"
rm -rf "$scratch"
scratch=$(mktemp -d)
program "checked exports" sh tests/test_export_check.sh build/release/fastinfer "$scratch"
rm -rf "$scratch"
scratch=$(mktemp -d)
program "completion" bash tests/test_completion.sh build/release/fastinfer "$scratch"
rm -rf "$scratch"
scratch=$(mktemp -d)
program "publish" sh tests/test_publish.sh build/release/fastinfer "$scratch"
rm -rf "$scratch"
scratch=$(mktemp -d)
program "tuning" sh tests/test_tune.sh build/release/fastinfer "$scratch"
rm -rf "$scratch"
scratch=$(mktemp -d)
program "scheduling" sh tests/test_schedule.sh build/release/fastinfer "$scratch"
rm -rf "$scratch"
scratch=$(mktemp -d)
program "nvtx" sh tests/test_nvtx.sh build/release/fastinfer "$scratch"
rm -rf "$scratch"
scratch=$(mktemp -d)
program "exported spaces" sh tests/test_spaces.sh build/release/fastinfer "$scratch"
rm -rf "$scratch"
token_tools=build/token-tools # the reference for the tokenizer, from PyPI
if [ -d "$token_tools" ] || timeout 120 python3 -m pip install -q --no-deps --target "$token_tools" tokenizers >"$logs/token-tools.log" 2>&1; then
    program "tokenizer against HuggingFace's" env PYTHONPATH="$token_tools" python3 tests/compare_tokenizers.py build/release/fastinfer
else
    rm -rf "$token_tools"
    skip "tokenizer against HuggingFace's" "the PyPI package tokenizers could not be installed: $(tail -1 "$logs/token-tools.log")"
fi
program "shared library" sh tests/test_library.sh build/release/libfastinfer.so
if [ -n "${FASTINFER_TEST_PYTHON:-}" ] || [ -d build/python-tools ]; then
    program "Python package" env FASTINFER_TAP=1 scripts/test-python.sh
else
    skip "Python package" "PyTorch and transformers are large: make test-python installs and tests, as does FASTINFER_TEST_PYTHON=1"
fi
scratch=$(mktemp -d)
program "README's tables" sh tests/test_readme.sh "$scratch"
rm -rf "$scratch"
check "README is what results/ say" python3 scripts/readme.py --check
check "links of README and docs" python3 scripts/check-links.py

if [ -z "${FASTINFER_FAST:-}" ]; then
    check "build (gcc, sanitize)" make -s -j"$jobs" config=sanitize build-tests
    export ASAN_OPTIONS=detect_stack_use_after_return=1:detect_leaks=0
    for name in test_simt test_kernels test_broken test_parallel test_session test_fill test_text test_config test_stats test_explain test_model test_safetensors test_weights test_model_config test_tokenizer test_sample test_sample_kernel test_library; do
        [ -x "build/sanitize/tests/$name" ] || continue
        program "sanitize $name" env FASTINFER_TEST_POINTS=2 "build/sanitize/tests/$name"
    done
    unset ASAN_OPTIONS
fi
if command -v clang >/dev/null && command -v clang++ >/dev/null; then
    check "build (clang)" make -s -j"$jobs" CC=clang CXX=clang++ config=debug B=build/clang build/clang/fastinfer
    if [ -x build/clang/fastinfer ]; then
        check "bench on clang's CPU device" build/clang/fastinfer bench rmsnorm rope swiglu gemv sample --quick --device cpu \
            --no-baseline --db build/clang/test.db
    fi
    check "fuzzers, a few s each" make -s fuzz FUZZ_SECONDS="${FUZZ_SECONDS:-3}"
else
    skip "build (clang)" "clang is not installed"
    skip "fuzzers" "clang is not installed"
fi
cupti=$(ls -d /usr/local/cuda*/include/cupti_range_profiler.h 2>/dev/null | tail -1)
if [ -n "$cupti" ]; then
    check "CUPTI's layouts" g++ -std=c++17 -I. -I"$(dirname "$cupti")" -fsyntax-only tests/cupti_layout.cpp
else
    skip "CUPTI's layouts" "no CUPTI headers here"
fi
if clang-format --version 2>/dev/null | grep -q 'version 14'; then
    check "format" make -s check-format
else
    skip "format" "needs clang-format 14"
fi
if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then
    echo "a GPU is here: make test-gpu runs the kernels on it"
else
    skip "kernels on a GPU" "no GPU (make test-gpu where there is one)"
fi

recall
echo "$skipped skipped; $((SECONDS - started)) s"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
