#!/bin/bash
# test_completion.sh PROGRAM FOLDER - what bash would offer, zsh's syntax, the manual pages, and what
# a newcomer sees first. Prints "ok N - NAME" or "not ok N - NAME".
set -u
program=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$2" && cd "$2" || exit 2
number=0 failures=0
verdict() { # NAME STATUS [WHY]
    number=$((number + 1))
    if [ "$2" -eq 0 ]; then echo "ok $number - $1"; else
        failures=$((failures + 1))
        echo "not ok $number - $1${3:+: $3}"
    fi
}
# offers NAME EXPECTED WORD...: completing the last word gives just these, in any order
offers() {
    local name=$1 expected got
    expected=$(tr ' ' '\n' <<<"$2" | sort)
    shift 2
    COMP_WORDS=(fastinfer "$@") COMP_CWORD=$#
    _fastinfer
    got=$(printf '%s\n' "${COMPREPLY[@]}" | sort)
    [ "$got" = "$expected" ]
    verdict "$name" $? "$(tr '\n' ' ' <<<"$got")"
}

"$program" >said && [ "$(grep -c '^  fastinfer ' said)" -eq 5 ]
verdict 'no arguments: five things to do next' $?
for verb in $(sed -n 's/^  fastinfer \([a-z]*\).*/\1/p' said); do
    "$program" "$verb" --help >/dev/null 2>&1
    verdict "$verb is a verb" $?
done

"$program" completion bash >bash.sh
verdict 'completion bash' $?
# shellcheck disable=SC1091
source ./bash.sh
offers 'a verb' 'replay report' re
offers 'an option' '--export' report --exp
offers 'a kernel' 'rmsnorm' bench rmsn
offers 'a choice' 'csv json' export --format = ''
offers 'a choice begun' 'json' export --format j
mkdir -p some/folder && touch some/file.db
offers 'a file' 'some/file.db some/folder' report --db = some/f
offers 'a folder alone' 'some/folder' report --out some/f
offers 'nothing where a number is asked' '' bench --samples = ''
for verb in $("$program" --help | sed -n 's/^  fastinfer \([a-z]*\) .*/\1/p'); do
    offers "all options of $verb" "$(ARGP_HELP_FMT=rmargin=4000 "$program" "$verb" --help |
        grep -E '^ +-' | grep -oE '^ +(-., )?--[a-z0-9-]+' | grep -oE -- '--.*' | tr '\n' ' ' | sed 's/ $//')" "$verb" --
done

"$program" completion zsh >_fastinfer
verdict 'completion zsh' $?
for verb in bench report completion; do
    grep -q "^    $verb)" _fastinfer
    verdict "zsh knows $verb" $?
done
if command -v zsh >/dev/null; then
    zsh -n _fastinfer
    verdict 'zsh reads it' $?
else
    echo "ok $((++number)) - zsh reads it # skip no zsh"
fi
"$program" completion fish >said 2>&1
[ $? -eq 2 ] && grep -q 'bash or zsh was expected, not fish' said
verdict 'another shell' $?
"$program" completion >said 2>&1
[ $? -eq 2 ] && grep -q 'bash or zsh was expected' said
verdict 'no shell' $?
"$program" completion bash >/dev/full 2>said
[ $? -eq 2 ]
verdict 'nowhere to write' $?

if command -v help2man >/dev/null; then
    "$root/scripts/man.sh" "$program" man >said 2>&1
    verdict 'manual pages' $? "$(tail -n 2 said)"
    [ "$(ls man/*.1 | wc -l)" -eq "$(($("$program" --help | grep -c '^  fastinfer ') + 1))" ]
    verdict 'one a verb' $?
    grep -q 'several, side by side' man/fastinfer-report.1
    verdict 'that say what --help says' $?
else
    echo "ok $((++number)) - manual pages # skip no help2man"
fi
exit $((failures > 0))
