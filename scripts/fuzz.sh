#!/bin/sh
# fuzz.sh NAME SECONDS - runs build/fuzz/NAME from the seeds in tests/fuzz/corpus/NAME; what it
# finds on the way stays in build/fuzz/found-NAME, an input that breaks it in build/fuzz/broken-NAME-*.
set -u
cd "$(dirname "$0")/.." || exit 2
name=$1 seconds=$2
found=build/fuzz/found-$name log=build/fuzz/$name.log
mkdir -p "$found"
words=''
[ -f "tests/fuzz/$name.dict" ] && words="-dict=tests/fuzz/$name.dict"
# shellcheck disable=SC2086
if "build/fuzz/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -close_fd_mask=2 \
    -artifact_prefix="build/fuzz/broken-$name-" $words "$found" "tests/fuzz/corpus/$name" >"$log" 2>&1; then
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "fuzz $name: $runs inputs in $seconds s, none broke it"
else
    echo "fuzz $name: broken; log: $log"
    tail -n 30 "$log"
    exit 1
fi
