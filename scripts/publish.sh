#!/bin/sh
# publish.sh PROGRAM - measures all that results/<device>/ holds, and writes it: bench, tune, tokens a
# second, export, report, check.
#
# Cut off, it goes on where it was: bench and tune take what the database holds for this code, and a
# model's run that is done has left a mark in build/publish. FASTINFER_PUBLISH_DEVICE=cpu is for
# tests, FASTINFER_PUBLISH_BENCH, _TUNE and _TPS are options to these verbs, FASTINFER_PUBLISH_OUT is
# another folder than results, FASTINFER_DB another database.
set -eu
program=$1
db=${FASTINFER_DB:-results/fastinfer.db}
out=${FASTINFER_PUBLISH_OUT:-results}
device=${FASTINFER_PUBLISH_DEVICE:-cuda:0}
prompts=${FASTINFER_PUBLISH_PROMPTS:-32 512 2048}
marks=${FASTINFER_PUBLISH_MARKS:-build/publish}/$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
mkdir -p "$marks" "$out"
say() { echo "publish: $*"; }

if [ -n "$(git status --porcelain --untracked-files=no 2>/dev/null)" ]; then
    say "the tree has changes: what is measured is marked as modified, and a review will ask for it again"
fi
# shellcheck disable=SC2086 # options are words
{
    say "1 of 5, bench"
    "$program" bench --device "$device" --db "$db" --resume ${FASTINFER_PUBLISH_BENCH:-}
    say "2 of 5, tune"
    "$program" tune --device "$device" --db "$db" --resume ${FASTINFER_PUBLISH_TUNE:-}
    say "3 of 5, tokens a second"
    profile=--profile # of the shortest prompt
    for prompt in $prompts; do
        if [ -e "$marks/tps-$prompt" ]; then
            say "prompt of $prompt: done before"
        else
            "$program" tps --device "$device" --db "$db" --prompt "$prompt" $profile ${FASTINFER_PUBLISH_TPS:-}
            : >"$marks/tps-$prompt"
        fi
        profile=
    done
}
say "4 of 5, export"
"$program" export --db "$db" --out "$out" --tables --spaces >"$marks/export" || { cat "$marks/export"; exit 2; }
cat "$marks/export"
say "5 of 5, report and check"
# the devices that were exported just now; others in OUT are not this machine's to judge
sed -n 's|/bench\.csv: .*||p' "$marks/export" | while read -r folder; do
    spaces=$(ls "$folder"/spaces/*.t4.json.gz 2>/dev/null || true)
    if [ -n "$spaces" ]; then
        # shellcheck disable=SC2086 # names without blanks: the program made them
        "$program" replay --strategy all --repeats 20 --plot "$folder" $spaces >/dev/null
        rm -f "$folder"/convergence.svg "$folder"/convergence.png # the report has them
    fi
    "$program" report --export "$folder"
    "$program" export --check "$folder"
    say "$folder is ready; docs/contributing-results.md says how to send it"
done
