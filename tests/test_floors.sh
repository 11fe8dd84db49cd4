#!/bin/sh
# test_floors.sh [ROOT] - the floors of docs/architecture.md: who may include what of ours. Prints
# file:line of every #include "..." that breaks the rule and exits 1; tries itself on wrong trees.
set -u

# What a folder's files may include, as an extended regular expression.
allowed() {
    case $1 in
    runtime) echo '^runtime/' ;;
    kernels) echo '^(runtime|kernels)/' ;;
    engine) echo '^(runtime|kernels|engine)/' ;;
    library) echo '^((runtime|kernels|engine|library)/|include/fastinfer\.h$)' ;;
    include) echo '^$' ;; # what the public sees stands alone
    python) echo '^include/fastinfer\.h$' ;;
    harness) echo '^((runtime|kernels|harness)/|baselines/baseline\.h$)' ;;
    baselines) echo '^(runtime|baselines)/' ;;
    cli) echo '^(runtime|kernels|engine|harness|baselines|cli)/' ;;
    esac
}

# Prints what breaks the rule under $1; status 1 where something does.
check() {
    wrong=$(
        cd "$1" || exit
        for floor in include runtime kernels engine library harness baselines cli python; do
            [ -d "$floor" ] || continue
            grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "$floor" \
                --include='*.c' --include='*.h' --include='*.cu' --include='*.cuh' --include='*.inl' \
                --include='*.cpp' |
                while IFS= read -r line; do
                    included=${line#*\"} included=${included%%\"*}
                    echo "$included" | grep -vE '(^|/)\.\.?(/|$)' |
                        grep -qE "$(allowed "$floor")" ||
                        echo "$(echo "$line" | cut -d: -f1,2): $floor may not include $included"
                done
        done
    )
    [ -z "$wrong" ] && return 0
    echo "$wrong"
    return 1
}

# A tree in which $1 includes "$2": must be refused ($3 = 1) or taken ($3 = 0).
try() {
    tree=$(mktemp -d)
    mkdir -p "$tree/$(dirname "$1")"
    printf '/* a file */\n#include <stdio.h>\n#include "%s"\n' "$2" >"$tree/$1"
    said=$(check "$tree")
    got=$?
    rm -rf "$tree"
    if [ "$got" -ne "$3" ]; then
        echo "self-test: $1 with \"$2\" gave $got, not $3"
        failed=1
    elif [ "$3" -eq 1 ] && [ "${said#"$1":3: }" = "$said" ]; then
        echo "self-test: '$said' does not name $1:3"
        failed=1
    fi
}

failed=0
try runtime/a.c kernels/registry.h 1
try runtime/a.h harness/stats.h 1
try runtime/a.c a_local.h 1
try kernels/op/op.cu harness/stats.h 1
try kernels/op/op.c cli/cli.h 1
try kernels/op/op.cuh ../../harness/stats.h 1
try harness/a.c cli/cli.h 1
try harness/a.c engine/model.h 1
try harness/a.c baselines/other.h 1
try library/a.c harness/store.h 1
try library/a.c engine/model.h 0
try include/fastinfer.h runtime/status.h 1
try python/a.c runtime/device.h 1
try engine/a.c harness/store.h 1
try engine/a.h cli/cli.h 1
try baselines/torch.cpp harness/store.h 1
try baselines/torch.cpp kernels/registry.h 1
try cli/a.c tests/helper.h 1
try runtime/a.c runtime/status.h 0
try kernels/op/op.cu kernels/tile.cuh 0
try kernels/op/op.c runtime/kernel.h 0
try engine/a.c kernels/registry.h 0
try harness/a.c baselines/baseline.h 0
try library/a.c include/fastinfer.h 0
try python/a.c include/fastinfer.h 0
try baselines/torch.cpp baselines/baseline.h 0
try cli/a.c harness/store.h 0

root=${1:-$(dirname "$0")/..}
for floor in include runtime kernels engine library harness baselines cli python; do
    [ -d "$root/$floor" ] && continue
    echo "$root has no $floor/"
    failed=1
done
check "$root" || failed=1
[ $failed -eq 0 ] && echo "floors: every include goes down"
exit $failed
