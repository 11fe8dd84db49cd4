#!/bin/sh
# test_export_check.sh PROGRAM FOLDER - fastinfer export --check over the results in the tree, over
# what the program exports itself, and over copies with a mistake in each. Prints "ok N - NAME" or
# "not ok N - NAME".
set -u
program=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$2" && cd "$2" || exit 2
rm -rf ./*
export FASTINFER_CACHE="$PWD/cache"
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
check() { # NAME CODE WORDS PATH
    "$program" export --check "$4" >said 2>&1 </dev/null
    code=$?
    [ "$code" -eq "$2" ] && grep -qF -- "$3" said
    verdict "$1" $? "exit $code, not $2 with '$3': $(head -n 2 said | tr '\n' ' ')"
}
fresh() { rm -rf nvidia-h200 && mkdir nvidia-h200 && cp "$root"/results/nvidia-h200/*.csv "$root"/results/nvidia-h200/*.json nvidia-h200/; }
# broken NAME WORDS FILE ROW COLUMN VALUE: one field of the copy is another
broken() {
    fresh
    python3 - "nvidia-h200/$3" "$4" "$5" "$6" <<'EOF'
import csv, sys
path, row, column, value = sys.argv[1:]
rows = list(csv.reader(open(path)))
rows[int(row)][rows[0].index(column)] = value
csv.writer(open(path, "w"), lineterminator="\n").writerows(rows)
EOF
    line=$(($4 + 1))
    "$program" export --check nvidia-h200 >said 2>&1
    code=$?
    [ $code -eq 2 ] && grep -F "nvidia-h200/$3:$line: " said | grep -qF -- "$2"
    verdict "$1" $? "exit $code, not 2 with '$3:$line' and '$2': $(head -n 2 said | tr '\n' ' ')"
}

# --- what is right ---------------------------------------------------------------------------------
for folder in "$root"/results/*/environment.json; do
    check "$(basename "$(dirname "$folder")") in the tree" 0 'nothing wrong' "$(dirname "$folder")"
done
for file in "$root"/configs/*.json; do
    check "$(basename "$file") in the tree" 0 'nothing wrong' "$file"
done
"$program" bench rmsnorm --device cpu --quick --no-baseline --db cpu.db >said 2>&1 &&
    "$program" export --db cpu.db --out . --all >>said 2>&1
verdict 'a small bench, exported' $? "$(tail -n 2 said)"
check 'is right' 0 '3 files' cpu
fresh
check 'a file alone' 0 '1 files' nvidia-h200/bench.csv

# --- what is wrong ---------------------------------------------------------------------------------
broken 'a time that is no number' "median_us 'fast'" bench.csv 3 median_us fast
broken 'a time of 0' "above 0 was expected" bench.csv 3 median_us 0
broken 'a time below its interval' 'out of order' bench.csv 5 low_us 9999
broken 'a rate that is not bytes over time' 'gbps is 9000' bench.csv 7 gbps 9000
broken 'a speedup that was made up' 'speedup is 99' bench.csv 7 speedup 99
broken 'a result outside its bound' 'outside its bound' bench.csv 7 worst_error 1.5
broken 'an unknown status' "status 'fine'" bench.csv 7 status fine
broken 'what was not measured has no time' "so it was not measured, but median_us" bench.csv 7 status incorrect
broken 'a row of another device' 'but the others are of' bench.csv 9 device 'Tesla T4'
broken 'no commit' "commit ''" bench.csv 9 commit ''
broken 'a date in words' "date 'today'" bench.csv 9 date today
broken 'no driver' 'a GPU without a driver' bench.csv 9 driver ''
broken 'a search of more than there is' 'evaluations in a space of 10' tuning.csv 2 space 10
broken 'a margin under its own bound' 'out of order' tuning.csv 2 margin_low 9

# faster than the ceiling of its residency, and than the bus: a whole row, consistent in itself
faster() { # FACTOR ROW
    fresh
    python3 - nvidia-h200/bench.csv "$1" "$2" <<'EOF'
import csv, sys
rows = list(csv.DictReader(open(sys.argv[1])))
large = [r for r in rows if r["residency"] == "cold" and r["rows"] == "16384"]
r, factor = large[int(sys.argv[3])], float(sys.argv[2])
for name in ("median_us", "low_us", "high_us"):
    r[name] = float(r[name]) / factor
for name in ("gbps", "percent_of_ceiling", "speedup"):
    r[name] = float(r[name]) * factor
if factor < 1.25:
    r["ceiling_gbps"], r["percent_of_ceiling"] = float(r["gbps"]), 100
out = csv.DictWriter(open(sys.argv[1], "w"), rows[0], lineterminator="\n")
out.writeheader()
out.writerows(rows)
EOF
}
faster 1.5 0
check 'faster than its ceiling' 2 'of the ceiling of cold,stream' nvidia-h200
faster 1.24 0
check 'faster than the bus, with a ceiling to match' 2 'GB/s from cold caches: the memory bus has' nvidia-h200
fresh && sed -i '1s/,percent_of_ceiling,/,percent,/' nvidia-h200/bench.csv
check 'a column that is gone' 2 "bench.csv:1: there is no column 'percent_of_ceiling'" nvidia-h200
fresh && sed -i '2,$d' nvidia-h200/bench.csv
check 'a table without rows' 2 'without rows' nvidia-h200
fresh && echo 'rope,fp16' >>nvidia-h200/bench.csv
check 'a row cut short' 2 "bench.csv:$(wc -l <nvidia-h200/bench.csv): 2 fields" nvidia-h200
fresh && rm nvidia-h200/environment.json
check 'no environment' 2 'environment.json:1: not there' nvidia-h200
fresh && sed -i 's/"copy_gbps": [0-9.]*/"copy_gbps": 9287/' nvidia-h200/environment.json
check 'a copy faster than the bus' 2 'a copy at 9287 GB/s' nvidia-h200
fresh && rm -rf tesla-t4 && mv nvidia-h200 tesla-t4
check 'a folder with the name of another' 2 "the folder is 'tesla-t4'" tesla-t4
sed '0,/"spill_bytes": 0,/s//"spill_bytes": 0, "median_us": 1.0,/' "$root/configs/tesla-t4.json" >timed.json
check 'unmeasured stays unmeasured' 2 "\"measured\": false, but entry 1 has 'median_us'" timed.json
printf 'model,prompt,batch,tokens_per_s,low,high,step_bytes,read_gbps\nm,32,1,%s,%s,%s,6.4e9,4500\n' 500 499 501 >tps.csv
check 'tokens a second' 0 'nothing wrong' tps.csv
sed -i 's/,500,499,501/,900,899,901/' tps.csv
check 'more tokens than can be read' 2 'tokens/s: reading what a step needs allows 703.1' tps.csv
about='made-up GPU,1.2,0123456789ab,0,2026-01-02T03:04:05Z'
who='device,driver,commit,dirty,date'
printf "model,kernel,problem,calls,us,bytes,gbps,$who\nm,gemv,n=1,2,10,40000000,%s,$about\n" 4000 >steps.csv
check "a step's parts" 0 'nothing wrong' steps.csv
sed -i 's/,4000,/,4900,/' steps.csv
check 'a rate that its time does not give' 2 'steps.csv:2: gbps is 4900, but the other columns give 4000' steps.csv
printf "model,engine,position,us,low_us,high_us,limit_us,$who\nm,fastinfer,96,%s,99,101,80,$about\n" 100 >position.csv
check 'a step at a position' 0 'nothing wrong' position.csv
sed -i 's/,96,100,99,101,80/,96,70,69,71,80/' position.csv
check 'a step faster than it can be read' 2 'a step of 70 us: reading what it needs takes 80' position.csv
printf "model,prompt,part,product,us,ttft_ms,products_ms,over_products,dtype,$who\nm,512,down,1,4000,12,10,%s,fp16,$about\n" 1.2 >prompts.csv
check "a prompt's parts" 0 'nothing wrong' prompts.csv
sed -i 's/,12,10,1.2,/,12,10,1.1,/' prompts.csv
check 'a ratio that its times do not give' 2 'prompts.csv:2: over_products is 1.1, but the other columns give 1.2' prompts.csv
printf "model,bytes,seconds,plain_seconds,gbps,ratio,low,high,$who\nm,6000000000,2,1.5,%s,1.33,1.3,1.4,$about\n" 3 >loading.csv
check 'loading' 0 'nothing wrong' loading.csv
sed -i 's/,1.33,1.3,/,1.2,1.3,/' loading.csv
check 'a ratio outside its interval' 2 'loading.csv:2: ' loading.csv
fresh && cp steps.csv nvidia-h200/
check 'and in a folder' 2 'steps.csv:2: gbps is 4900' nvidia-h200
printf 'model,prompt,batch,tokens_per_s,low,high,step_bytes,read_gbps,percent_of_read\nm,32,1,500,499,501,6.4e9,4500,%s\n' 81 >tps.csv
check 'a share of the limit that the rest does not give' 2 'percent_of_read is 81, but the other columns give 71' tps.csv
check 'nothing there' 2 'No such file' none
echo x >notes.txt
check 'another kind of file' 2 'was expected' notes.txt

exit $((failures > 0))
