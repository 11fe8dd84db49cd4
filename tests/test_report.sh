#!/bin/sh
# test_report.sh PROGRAM FOLDER - fastinfer report over results/nvidia-h200, over several exports,
# over a database of the CPU device, and over what is wrong. Prints "ok N - NAME" or "not ok ...".
set -u
program=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
tests=$(cd "$(dirname "$0")" && pwd)
results=$(cd "$tests/../results/nvidia-h200" && pwd)
mkdir -p "$2" && cd "$2" || exit 2
rm -rf ./*
export FASTINFER_CACHE="$PWD/cache" FASTINFER_ROOT="$tests/.."
number=0 failures=0

verdict() { # NAME STATUS [WHY]
    number=$((number + 1))
    if [ "$2" -eq 0 ]; then
        echo "ok $number - $1"
    else
        failures=$((failures + 1))
        echo "not ok $number - $1${3:+: $3}"
    fi
}
report() { # NAME CODE WORDS ARGUMENT...
    name=$1 wanted=$2 words=$3
    shift 3
    "$program" report "$@" >said 2>&1 </dev/null
    code=$?
    [ "$code" -eq "$wanted" ] && grep -qF -- "$words" said
    verdict "$name" $? "exit $code, not $wanted with '$words': $(tail -n 2 said | tr '\n' ' ')"
}
check() { # NAME FILE SECTIONS PICTURE=COUNT...: the DOM
    name=$1
    shift
    python3 "$tests/check_report.py" "$@" >dom
    verdict "$name" $? "$(grep '^not ok' dom | head -n 3 | tr '\n' ' ')"
}
spoilt() { # NAME WORDS SED-EXPRESSION: the check fails on this change of the report, by this name
    sed "$3" h200/report.html >spoilt.html
    if cmp -s spoilt.html h200/report.html; then
        verdict "$1" 1 'nothing was changed'
        return
    fi
    python3 "$tests/check_report.py" spoilt.html "$sections" >dom
    [ $? -eq 1 ] && grep '^not ok' dom | grep -qF -- "$2"
    verdict "$1" $? "'$2' was expected to fail: $(grep '^not ok' dom | head -n 2 | tr '\n' ' ')"
}
if ! command -v gnuplot >/dev/null; then
    report 'without gnuplot a sentence' 2 'gnuplot is not installed' --export "$results" --out h200
    echo "ok 2 - the rest # skip no gnuplot"
    exit $((failures > 0))
fi

# --- the export in the tree ------------------------------------------------------------------------
parts='device tokens position step prefill decode tuning convergence heatmap counters gate method'
sections=compare
for part in $parts; do sections=$sections,nvidia-h200-$part; done
# as many marks as the export has rows for each picture
counts=$(python3 - "$results/bench.csv" <<'EOF'
import collections, csv, sys
rows = [r for r in csv.DictReader(open(sys.argv[1])) if r["kernel"] != "stream" and r["dtype"] == "fp16"]
cold = [r for r in rows if r["residency"] == "cold"]
print(f"nvidia-h200-roofline={sum(float(r['flops'] or 0) > 0 for r in cold)}")
bars = [r for r in cold if r["rows"] == "4096" and r["baseline"] == "hf_eager"]
print(f"nvidia-h200-speedup-prefill={len(bars)}")
bars = [r for r in rows if r["residency"] == "hot" and r["rows"] == "1" and r["baseline"] == "hf_eager"]
print(f"nvidia-h200-speedup-decode={len(bars)}")
for kernel, count in collections.Counter(r["kernel"] for r in cold if r["rows"]).items():
    print(f"nvidia-h200-bandwidth-{kernel}={count}")
EOF
)
report 'the export in the tree' 0 'report.html' --export "$results" --out h200
# shellcheck disable=SC2086
check 'its DOM' h200/report.html "$sections" $counts nvidia-h200-convergence=300 nvidia-h200-heatmap-1=6
tables=$(grep -c '^|---\|^|--:' h200/report.md)
[ "$tables" -eq "$(grep -c '<table' h200/report.html)" ]
verdict 'the Markdown has as many tables' $? "$tables"
lost=$(grep -o 'pictures/[^)]*' h200/report.md | while read -r file; do [ -s "h200/$file" ] || echo "$file"; done)
[ -z "$lost" ] && grep -q 'pictures/' h200/report.md
verdict 'and its pictures are there' $? "$lost"
! grep 'No picture' h200/report.md >said
verdict 'and none could not be drawn' $? "$(head -n 2 said)"
cp -r h200 again
"$program" report --export "$results" --out again >/dev/null 2>&1
diff -r h200 again >/dev/null
verdict 'the same export gives the same report' $?
diff -q "$results/report/report.md" h200/report.md >said 2>&1 # the SVGs are each gnuplot's own
verdict 'results/nvidia-h200/report/report.md is what it says' $? "$(head -n 2 said) (make report REPORT='--export results/nvidia-h200')"

# --- a check that cannot fail is none --------------------------------------------------------------
spoilt 'a section that is gone' 'section nvidia-h200-tuning' 's/id="nvidia-h200-tuning"/id="x"/'
spoilt 'a picture that is fetched' 'nothing is fetched' 's|</h1>|</h1><img src="https://example.org/x.png">|'
spoilt 'a script' 'nothing is fetched' 's|</h1>|</h1><script>1</script>|'
spoilt 'a style from elsewhere' 'nothing is fetched' 's|<style>|<style>@import "x.css";|'
spoilt 'an empty plot' 'marks' 's/gnuplot_plot_/nothing_/g'
spoilt 'an id twice' 'ids are unique' 's/id="p2-/id="p1-/; s/id='"'"'p2-/id='"'"'p1-/'
spoilt 'a caption without a commit' 'where it is from' 's/commit [0-9a-f]*/commit/g'
spoilt 'nothing but a complaint' 'names its command' 's|<p class="missing">[^<]*<code>[^<]*</code>|<p class="missing">none|'
spoilt 'an element left open' 'is closed' 's|</table>||'

# --- all pictures, on made-up numbers; two exports beside one another ------------------------------
mkdir full && cp "$results"/*.csv "$results"/*.json full/ && cp -r "$results/spaces" full/
about='made-up GPU,1.2,0123456789ab,0,2026-01-02T03:04:05Z'
{
    echo 'model,engine,prompt,generate,batch,configs,ttft_ms,tokens_per_s,low,high,step_bytes,read_gbps,device,driver,commit,dirty,date'
    for engine in 'transformers eager,' 'transformers injected,' 'fastinfer,default' 'fastinfer,tuned'; do
        n=$((${n:-0} + 100))
        echo "m,${engine%,*},32,128,1,${engine#*,},9.5,$n,$((n - 5)),$((n + 5)),6.0e9,4000,$about"
    done
} >full/tps.csv
{
    echo 'model,kernel,problem,calls,us,bytes,device,driver,commit,dirty,date'
    printf 'm,%s,"rows=1,n=%d",28,%s,1000,'"$about"'\n' gemv 1 9.5 gemv 2 3.5 rope 3 0.5
} >full/steps.csv
{
    echo 'model,engine,position,us,low_us,high_us,device,driver,commit,dirty,date'
    printf "m,fastinfer,%d,%d,%d,%d,$about\n" 32 100 99 101 512 110 109 111 2048 150 149 152
} >full/position.csv
{
    echo 'date,base,commit,dirty,device,driver,kernel,dtype,problem,policy,verdict,ratio,low,high,base_us,now_us'
    printf '2026-01-0%d,a,%s,0,made-up GPU,1.2,rope,fp16,"rows=1,q_heads=2","hot,graph",%s,%s,%s,%s,1,1\n' \
        1 abc1234 same 1.001 0.99 1.01 2 def5678 slower 1.06 1.05 1.07 2 def5678 same 1 0.99 1.01
} >full/gate.csv
{
    echo 'device_slug,kernel,dtype,problem,residency,launch,point,measured_bytes,least_bytes,over_least,source,device,driver,commit,dirty,date'
    echo 'x,rope,fp16,"rows=1,q_heads=2",cold,stream,block=64,1000,999,1.001,cupti,'"$about"
} >full/traffic.csv
report 'two exports' 0 'report.html' --export full --export "$results" --out both
check 'their DOM' both/report.html \
    compare,nvidia-h200-step,nvidia-h200-2-device,nvidia-h200-2-prefill \
    nvidia-h200-tokens=8 nvidia-h200-step=2 nvidia-h200-position=3 nvidia-h200-gate=3 nvidia-h200-2-roofline=100
grep -q 'rows=16,hidden=2048' both/report.md && grep -q 'NVIDIA H200 (2): us' both/report.md
verdict 'are compared' $?
grep -qF '| m | fastinfer | 1 | 32 + 128 | 400.0 | 395.0 to 405.0 | 9.50 | - | - |  | tuned |' both/report.md
verdict 'a table of another program, without forms, is shown' $? "$(grep '^| m | fastinfer' both/report.md | head -n 2)"
# as `fastinfer export` writes it: forms, HuggingFace of the same run, several sequences, the limit
{
    echo 'model,engine,form,prompt,generate,batch,configs,beside,ttft_ms,tokens_per_s,low,high,step_bytes,read_gbps,percent_of_read,hf_ratio,device,driver,commit,dirty,date'
    echo "m,fastinfer,persistent,32,128,1,gpu.json,transformers,3,500,499,501,6.0e9,4000,75,20,$about"
    echo "m,transformers,eager,32,128,1,\"torch 9, eager\",persistent,30,25,24,26,6.0e9,4000,4,,$about"
    echo "m,fastinfer,persistent,32,128,8,gpu.json,,9,2400,2390,2410,6.0e9,4000,45,,$about"
} >full/tps.csv
{
    echo 'model,engine,position,us,low_us,high_us,limit_us,device,driver,commit,dirty,date'
    printf "m,fastinfer,%d,%d,%d,%d,%d,$about\n" 32 100 99 101 80 512 110 109 111 81 2048 150 149 152 85
} >full/position.csv
report 'forms and limits' 0 'report.html' --export full --out forms
grep -qF '| m | fastinfer persistent | 1 | 32 + 128 | 500.0 | 499.0 to 501.0 | 3.00 | 75.0 | 20.00 | transformers | gpu.json |' forms/report.md
verdict 'tokens by form, beside HuggingFace of the same run' $? "$(grep '^| m | fastinfer' forms/report.md | head -n 2)"
grep -q '8 x 300' forms/pictures/*tokens.svg
verdict 'several sequences are drawn as the share of one' $?
grep -q 'transformers eager' forms/pictures/*tokens.svg && ! grep -q 'torch 9' forms/pictures/*tokens.svg
verdict "HuggingFace's versions are in the table, not on the picture" $?
grep -q 'the read limit' forms/pictures/*position.svg && ! grep -q 'the read limit' both/pictures/nvidia-h200-position.svg
verdict 'positions stand beside the read limit, where it is known' $?
grep -q 'cupti' both/report.md && grep -q 'by formula: made-up GPU, driver 1.2, commit 0123456789ab' both/report.md
verdict 'counters say whose they are' $?
for kind in tps step:steps position gate convergence; do
    script=${kind%:*} table=${kind#*:}
    gnuplot -e "csv='full/$table.csv'; out='by-hand'" "$tests/../plots/$script.gp" >said 2>&1 &&
        [ -s "by-hand/$script.svg" ] && [ -s "by-hand/$script.png" ]
    verdict "$script.gp by hand" $? "$(head -n 1 said)"
done

# --- a database ------------------------------------------------------------------------------------
"$program" bench rmsnorm --device cpu --quick --no-baseline --db cpu.db >said 2>&1
verdict 'a small bench' $? "$(tail -n 2 said)"
report 'a database' 0 'report.html' --db cpu.db --out cpu
check 'its DOM' cpu/report.html cpu-device,cpu-prefill,cpu-method cpu-bandwidth-rmsnorm=3
grep -q "are an emulation's" cpu/report.md
verdict 'a CPU is no GPU' $?
grep -q 'Speedup over' cpu/report.html
[ $? -eq 1 ]
verdict 'and has no speedups' $?

# --- what is wrong ---------------------------------------------------------------------------------
report 'no database' 2 'there is no such database' --db none.db --out x
report 'no export' 2 'an exported folder' --export none --out x
mkdir empty
report 'an empty folder' 2 'nothing measured in it' --export empty --out x
report 'both' 2 'not both' --export full --db cpu.db
report 'a quote in a path' 2 'without quotes' --export "a'b"
report 'a stray word' 2 "unexpected 'x'" x
cp -r full broken && echo 'rope,fp16' >>broken/bench.csv
lines=$(wc -l <broken/bench.csv)
report 'a row cut short' 2 "bench.csv:$lines: 2 fields" --export broken --out x
printf 'kernel,"open\n' >broken/bench.csv
report 'a quote left open' 2 'bench.csv:1: a quote is left open' --export broken --out x
cp full/bench.csv broken/bench.csv && echo '[{' >broken/environment.json
report 'broken JSON' 2 'environment.json:' --export broken --out x
cp full/environment.json broken/ && sed '1s/median_us/median/' full/bench.csv >broken/bench.csv
report 'a column that is gone' 2 'has no column median_us' --export broken --out x
touch file
report 'nowhere to write' 2 'file' --export full --out file

exit $((failures > 0))
