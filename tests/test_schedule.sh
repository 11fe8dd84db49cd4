#!/bin/sh
# test_schedule.sh PROGRAM FOLDER - how a tuner's scheduler keeps a GPU and the cores busy, with workers
# that only take their time (stub_worker.py): nothing here needs a GPU. FOLDER is for databases of its
# own. Prints "ok NAME" or "not ok NAME"; exits 1 where something failed.
set -u

if [ $# -ne 2 ]; then
    echo "usage: test_schedule.sh PROGRAM FOLDER" >&2
    exit 2
fi
program=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
FASTINFER_PROGRAM=$(cd "$(dirname "$0")" && pwd)/stub_worker.py
mkdir -p "$2" && cd "$2" || exit 2
export FASTINFER_PROGRAM FASTINFER_CACHE="$PWD/cache" FASTINFER_CONFIGS="$PWD/none" FASTINFER_CORES=16
unset FASTINFER_KERNELS

failed=0
verdict() { # NAME STATUS [WHY]
    if [ "$2" -eq 0 ]; then
        echo "ok $1"
    else
        failed=$((failed + 1))
        echo "not ok $1${3:+: $3}"
    fi
}
count=0
tune() { # [VARIABLE=VALUE...] -- [OPTION...]: $code, ./said, and what the workers did in ./log
    rm -f log
    count=$((count + 1))
    settings=
    while [ "$1" != -- ]; do settings="$settings $1" && shift; done
    shift
    # shellcheck disable=SC2086 # words
    env $settings STUB_BEGUN="$(date +%s.%N)" STUB_LOG=log timeout -k 5 120 "$program" tune "$@" \
        --device cuda:0 --policy weights_cold,graph --db "$count.db" --configs made \
        >said 2>&1 </dev/null
    code=$?
}
of_kernel() { grep -v 'read_bytes=' log | awk -F'\t' -v what="$1" '$2 == what'; } # not the ceilings
lines() { of_kernel "$1" | wc -l; }
last() { tail -n 2 said | tr '\n' ' '; }

# Three problems whose points compile for 0.4 s and are timed in 0.04: ten cores' work for one device.
tune STUB_COMPILE_S=0.4 STUB_POINT_S=0.04 -- decode_step --evaluations 40 --seconds 0
[ "$code" -eq 0 ] && [ "$(lines timed)" -ge 40 ]
verdict 'a kernel that compiles slowly is tuned' $? "exit $code, $(lines timed) points: $(last)"
busy=$(sed -n 's/.*workers spent \([0-9]*\)% verifying.*/\1/p' said)
[ "${busy:-0}" -ge 60 ]
verdict 'and the device seldom waits for it' $? "busy ${busy:-?}%, $(lines timed) points"
[ "$(lines compiled)" -le $(($(lines timed) + 30)) ]
verdict 'few points are compiled in vain' $? "$(lines compiled) compiled, $(lines timed) timed"

# One value of a tunable compiles for 6 s: whoever has it is passed by the others.
tune STUB_COMPILE_S=0.05 STUB_SLOW=passes=2:6 STUB_POINT_S=0.02 -- rmsnorm \
    --problem rows=4096,hidden=2048 --evaluations 40 --seconds 0
slow=$(of_kernel compiled | grep passes=2 | awk -F'\t' 'NR == 1 { print $1 }')
before=$(of_kernel timed | awk -F'\t' -v s="${slow:-0}" '$1 < s' | wc -l)
[ "$code" -eq 0 ] && [ -n "$slow" ] && [ "$before" -ge 15 ]
verdict 'a slow compilation holds up nobody else' $? "exit $code, $before points before ${slow:-none}: $(last)"

# Time for about half of the searches' budgets: each has some of it.
tune STUB_COMPILE_S=0.02 STUB_POINT_S=0.01 -- swiglu --seconds 12
least=$(sqlite3 "$count.db" "SELECT MIN(evaluations) FROM tuning WHERE evaluations > 0")
late=$(sqlite3 "$count.db" "SELECT COUNT(*) FROM tuning WHERE stopped IN ('time', '')")
[ "$code" -eq 0 ] && [ "${least:-0}" -ge 6 ] && [ "${late:-9}" -le 4 ]
verdict 'the last shapes have their share of the time' $? "exit $code, $least evaluations, $late out of time: $(last)"

exit $((failed > 0))
