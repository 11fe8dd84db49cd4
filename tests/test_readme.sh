#!/bin/sh
# scripts/readme.py over a made-up tree: what its tables say of tps.csv, what --check refuses.
# usage: test_readme.sh SCRATCH
script=$(realpath "$(dirname "$0")/../scripts/readme.py")
scratch=$(realpath "$1")
[ -d "$scratch" ] || exit 2
cd "$scratch" || exit 2
number=0 failures=0
same() { # NAME GOT WANTED
    number=$((number + 1))
    if [ "$2" = "$3" ]; then
        echo "ok $number - $1"
    else
        failures=$((failures + 1))
        echo "not ok $number - $1"
        echo "# '$2', not '$3'"
    fi
}
row() { grep "^| $1 " README.md; }
check() {
    python3 "$script" --check >said 2>&1
    echo "$? $(tail -1 said)"
}

mkdir -p results/made-up results/cpu
printf 'first\n<!-- summary -->\n<!-- /summary -->\nbefore\n<!-- engine -->\nold\n<!-- /engine -->\nbetween\n<!-- tables -->\n<!-- /tables -->\nafter\n' >README.md
python3 "$script"
same "nothing measured is said, and nothing else is touched" "$(tr '\n' ';' <README.md)" \
    "first;<!-- summary -->;Nothing measured yet.;<!-- /summary -->;before;<!-- engine -->;Nothing measured yet.;<!-- /engine -->;between;<!-- tables -->;Nothing measured yet.;<!-- /tables -->;after;"

head='model,engine,form,prompt,generate,batch,configs,beside,ttft_ms,tokens_per_s,low,high,percent_of_read,hf_tokens_per_s,hf_ratio,dtype,repeats,device,driver,commit,dirty,date'
{
    echo "$head"
    about='made-up GPU,1.2,0123456789ab,0,2026-01-02T03:04'
    echo "m,fastinfer,persistent,32,128,1,g.json,transformers,3.04,500.14,499,501,80.06,25,20.04,fp16,5,$about:00Z"
    echo "m,fastinfer,persistent,32,128,1,g.json,launches,3,510,509,511,81,,,fp16,14,$about:05Z"
    echo "m,fastinfer,launches,32,128,1,g.json,persistent,3,400,399,401,64,,,fp16,14,$about:05Z"
    echo "m,transformers,eager,32,128,1,\"torch 9, eager\",persistent,30,25,24,26,4,,,fp16,5,$about:00Z"
} >results/made-up/tps.csv
{
    echo "$head"
    echo 'tiny,fastinfer,launches,32,128,1,built-in default,,3,7777,7776,7778,,,,fp16,5,CPU,,0123456789ab,0,2026-01-02T03:04:00Z'
} >results/cpu/tps.csv
same "--check asks for a table that is not there" "$(check)" "1 README.md is stale: run make readme"
python3 "$script"
same "and is content once it is" "$(check)" "0 "
same "tokens with their interval, the limit's share, HuggingFace of the same run, the ratio" \
    "$(row 'm | persistent')" "| m | persistent | 1 | 32 + 128 | 5 | 500.1 | 499.0 to 501.0 | 80.1 | 3.0 | 25.0 | 20.0 |"
same "a form without HuggingFace beside it has no ratio" \
    "$(row 'm | launches')" "| m | launches | 1 | 32 + 128 | 14 | 400.0 | 399.0 to 401.0 | 64.0 | 3.0 | - | - |"
same "device, driver, commit, date, HuggingFace's versions" "$(grep -c \
    '^\*\*made-up GPU\*\*, driver 1.2, commit 0123456789ab, 2026-01-02; HuggingFace: torch 9, eager\.$' README.md)" 1
{
    echo 'kernel,problem,rows,residency,status,median_us,gbps,percent_of_ceiling,default_us,baseline_us,speedup,fused_us,device,driver,commit,date'
    echo 'rmsnorm,"rows=4096,hidden=2048",4096,cold,ok,9,3000,95,10,110,12.3,11,made-up GPU,1.2,0123456789ab,2026-01-02'
    echo 'swiglu,"rows=4096,width=8192",4096,cold,ok,9,3000,95,10,110,1.75,,made-up GPU,1.2,0123456789ab,2026-01-02'
} >results/made-up/bench.csv
echo '[{"driver": "1.2", "compiler": "NVRTC", "baseline": "", "copy_gbps": 4000}]' >results/made-up/environment.json
python3 "$script"
same "the first screen: the best of each model, kernels at 4096 rows" "$(grep -cE \
    "m's shapes 500, 80% .* and 20 times HuggingFace|embeddings 12 times as fast .*, swiglu 1.8 times\.$" README.md)" 2
same "an emulation's tokens are not shown" "$(grep -c 7777 README.md)" 0
sed -i 's/,500.14,/,520.14,/' results/made-up/tps.csv
same "another number makes it stale" "$(check)" "1 README.md is stale: run make readme"
python3 "$script"
sed -i 's/| 520.1 |/| 620.1 |/' README.md
same "so does one changed by hand" "$(check)" "1 README.md is stale: run make readme"
sed -i 's/ab,0,2026/ab,1,2026/' results/made-up/tps.csv
python3 "$script"
same "a tree with changes is named" "$(grep -c 'commit 0123456789ab (modified), 2026' README.md)" 1
sed -i '/<!-- engine -->/d' README.md
same "a marker that is gone is named" "$(check)" \
    "1 README.md: <!-- engine --> and <!-- /engine -->, once, were expected"
echo "1..$number"
[ $failures -eq 0 ]
