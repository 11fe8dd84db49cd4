#!/bin/sh
# fastinfer generate and fastinfer tps on the CPU device: a golden checkpoint's text as transformers
# has it, what is refused, and what becomes of what was measured. Speed is not judged here.
# usage: test_tps.sh PROGRAM SCRATCH
program=$(realpath "$1")
scratch=$(realpath "$2")
[ -d "$scratch" ] || exit 2
root=$(cd "$(dirname "$0")/.." && pwd)
number=0 failures=0
ok() { number=$((number + 1)); echo "ok $number - $1"; }
not_ok() { number=$((number + 1)); failures=$((failures + 1)); echo "not ok $number - $1"; shift; printf '# %s\n' "$@"; }
same() { if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "'$2', not '$3'"; fi; }
ask() { python3 -c "import json; d=json.load(open('$1')); print($2)" 2>&1; }
sql() { sqlite3 "$scratch/tps.db" "$1" 2>&1; }
# refused NAME WORDS ARGUMENT...: one line, these words (a pattern), exit 2
refused() {
    name=$1 words=$2
    shift 2
    "$program" "$@" >"$scratch/out" 2>"$scratch/err" </dev/null
    code=$?
    lines=$(grep -cvE "^Try |^information\.$" "$scratch/err") # argp's pointer to --help is no sentence
    if [ $code -eq 2 ] && [ "$lines" -eq 1 ] && [ ! -s "$scratch/out" ] && grep -qE "$words" "$scratch/err"; then
        ok "$name"
    else
        not_ok "$name" "exit $code, $lines lines, wanted '$words': $(head -c 600 "$scratch/err")"
    fi
}
export FASTINFER_CONFIGS="$scratch/none"
cd "$scratch" || exit 2

# --- generate -------------------------------------------------------------------------------------
# The checkpoint has ids alone, so it gets a tokenizer in which the golden prompt is a text: its ids
# are letters, other bytes have ids as they come, and the rest are added tokens.
cp -r "$root/tests/golden/qwen3" model
python3 - "$root/tests/golden/tokenizers/gpt2.json" <<'PYTHON'
import json, sys
def visible(byte):  # the letters that byte-level vocabularies write bytes with
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return chr(byte) if byte in plain else chr(256 + [b for b in range(256) if b not in plain].index(byte))
golden = json.load(open("model/golden.json"))["prompts"][1]
letters = [c for c in b"abcdefghijklmnopqrstuvwxyz"]
byte_of = {}
for token in golden["tokens"]:
    byte_of.setdefault(token, letters[len(byte_of)])
rest = iter([b for b in range(256) if b not in byte_of.values()])
for token in range(4, 320):
    if token not in byte_of:
        byte = next(rest, None)
        if byte is None:
            break
        byte_of[token] = byte
tokenizer = json.load(open(sys.argv[1]))
tokenizer["model"]["vocab"] = {visible(b): t for t, b in byte_of.items()}
tokenizer["model"]["merges"] = []
tokenizer["normalizer"] = None
tokenizer["pre_tokenizer"]["add_prefix_space"] = False
added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
tokenizer["added_tokens"] = [dict(added, id=t, content=f"[{t}]") for t in range(320) if t not in byte_of]
json.dump(tokenizer, open("model/tokenizer.json", "w"))
open("prompt", "wb").write(bytes(byte_of[t] for t in golden["tokens"]))
open("want.ids", "w").write("".join(f"{t}\n" for t in golden["greedy"][:24]))
text = b"".join(bytes([byte_of[t]]) if t in byte_of else f"[{t}]".encode() for t in golden["greedy"][:24])
open("want.text", "wb").write(text.decode("utf-8", "replace").encode() + b"\n")
PYTHON
generate() { "$program" generate --model model "$@" 2>err; }
generate --device cpu --dtype fp32 --prompt "$(cat prompt)" --max-tokens 24 --ignore-end --ids >ids
same "ids end well" $? 0
if cmp -s ids want.ids; then ok "they are transformers'"; else not_ok "they are transformers'" "$(tr '\n' ' ' <ids)" "$(cat err)"; fi
generate --device cpu --dtype fp32 --max-tokens 24 --ignore-end <prompt >text
if cmp -s text want.text; then ok "so is the text, the prompt from standard input"; else not_ok "so is the text, the prompt from standard input" "$(od -c text | head -5)" "$(cat err)"; fi
generate --dtype fp32 --prompt "$(cat prompt)" --max-tokens 6 --ignore-end --ids --form launches >any
same "without --device" "$?, $(wc -l <any) ids" "0, 6 ids"

sampled() { generate --device cpu --prompt "$(cat prompt)" --max-tokens 12 --temperature 1.5 --ignore-end --ids --seed "$1"; }
sampled 7 >first && sampled 7 >second && sampled 8 >third
same "a sample has its tokens" "$(wc -l <first)" 12
if cmp -s first second; then ok "a seed repeats"; else not_ok "a seed repeats" "$(tr '\n' ' ' <first)" "$(tr '\n' ' ' <second)"; fi
if cmp -s first third; then not_ok "another seed samples otherwise"; else ok "another seed samples otherwise"; fi
generate --device cpu --dtype fp32 --prompt "$(cat prompt)" --max-tokens 24 --ignore-end --ids --capacity 12 >short
same "a full cache stops" "$?, $(wc -l <short) ids, $(grep -c 'cache is full (--capacity 12)' err)" "0, 6 ids, 1"
if head -6 want.ids | cmp -s - short; then ok "with the same tokens"; else not_ok "with the same tokens" "$(tr '\n' ' ' <short)"; fi

run="generate --device cpu --prompt a"
refused "a prompt longer than the cache" "7 tokens.* 4|4 .*7 tokens" generate --device cpu --model model --capacity 4 --prompt "$(cat prompt)"
refused "an empty prompt" "prompt is empty" generate --device cpu --model model --prompt ""
refused "no model" "model DIR" generate --device cpu --prompt a
refused "no such folder" "nowhere: no such folder.*llama-3.2-3b.*expected" $run --model nowhere
refused "a preset that is nearly one" "did you mean 'llama-3.2-3b'" $run --model llama-3.2-3
refused "a preset has no text" "tiny: a preset.*no tokenizer" $run --model tiny
mkdir empty && refused "an empty folder" "empty.*(tokenizer|config)\.json" $run --model empty
cp -r model broken && head -c 100000 model/model.safetensors >broken/model.safetensors
refused "truncated weights" "broken/model\.safetensors.*(100000|ends|bytes)" $run --model broken
cp model/model.safetensors broken/ && printf '{"architectures": [' >broken/config.json
refused "half a config.json" "broken/config\.json:1" $run --model broken
sed 's/Qwen3ForCausalLM/MambaForCausalLM/' model/config.json >broken/config.json
refused "an architecture that is not built" "broken/config\.json.*Mamba" $run --model broken
cp model/config.json broken/ && head -c 500 model/tokenizer.json >broken/tokenizer.json
refused "half a tokenizer.json" "broken/tokenizer\.json" $run --model broken
refused "a device that is none" "gpu9" $run --model model --device gpu9
refused "a type that is none" "fp7" $run --model model --dtype fp7

# --- tps ------------------------------------------------------------------------------------------
tps="tps --model tiny --device cpu --generate 6 --prompt 5 --no-transformers --db $scratch/tps.db --quiet"
"$program" $tps --repeat 3 --batch 2 --profile >out 2>err
same "tps ends well" "$?" 0
same "a row with what was asked" \
    "$(sql "SELECT model, engine, configs, batch, prompt, generated, repeats, first_ms > 0 AND tokens_low <= tokens_s AND tokens_s <= tokens_high AND tokens_s > 0, throughput.read_gbps IS NULL, outcome FROM throughput JOIN run ON run.id = run_id")" \
    "tiny|fastinfer|built-in default|2|5|6|3|1|1|done"
same "a step's calls are all there" \
    "$(sql "SELECT group_concat(kernel || ' ' || n, ', ') FROM (SELECT kernel, sum(calls) AS n FROM step_part WHERE us > 0 AND bytes > 0 GROUP BY kernel ORDER BY kernel)")" \
    "attention_decode 2, embed 1, gemv_norm 3, gemv_norm_swiglu 2, gemv_residual 4, sample 1"
same "they are shown" "$(grep -cE '^  (attention_decode|embed|gemv_norm|gemv_norm_swiglu|gemv_residual|sample) +[0-9]+ +[0-9.]+' out)" "$(sql 'SELECT count(*) FROM step_part')"
same "beside the step" "$(grep -cE 'the step: [0-9.]+ us; its parts alone: [0-9.]+ us' out)" 1
same "a prompt's parts are there, 4 of them products" \
    "$(sql "SELECT count(*), sum(product), min(us) > 0 FROM prompt_part")" "9|4|1"
same "and are shown" "$(grep -cE 'the parts alone [0-9.]+ ms, the products among them [0-9.]+ ms' out)" 1
same "a preset is not loaded" "$(sql "SELECT count(*) FROM loading")" 0
"$program" tps --model model --device cpu --generate 3 --prompt 5 --no-transformers --repeat 2 --profile \
    --db "$scratch/load.db" --quiet >out 2>err
same "loading a folder is compared with reading it" \
    "$? $(grep -cE 'loading [0-9.]+ GB takes .* a plain read of the files' out)" "0 1"
"$program" export --tables --db "$scratch/load.db" --out exported >out 2>err
same "both are exported" \
    "$? $(sed -n 2,10p exported/cpu/prompts.csv | wc -l) $(sed -n 2p exported/cpu/loading.csv | cut -d, -f1,3)" "0 9 model,6"
"$program" export --check exported/cpu/prompts.csv >out 2>err && "$program" export --check exported/cpu/loading.csv >out 2>err
same "and right" "$?" 0
"$program" $tps --repeat 2 --json --profile >json 2>err
same "JSON ends well" "$?" 0
same "it is the row" \
    "$(ask json "'%.6g %s %d' % (d[0]['sides'][0]['tokens_s'], d[0]['sides'][0]['dtype'], len(d[0]['parts']))")" \
    "$(sql "SELECT printf('%.6g', tokens_s) || ' ' || dtype || ' ' || (SELECT count(*) FROM step_part WHERE throughput_id = t.id) FROM throughput t ORDER BY id DESC LIMIT 1")"
"$program" $tps --repeat 4 --compare default,default --json >json 2>err
same "a configuration against itself" "$? $(ask json "[c['verdict'] for c in d[0]['comparisons']]")" "0 ['undecided']"
same "is kept as such" "$(sql "SELECT verdict, first = second, low <= ratio AND ratio <= high FROM acceptance")" "undecided|1|1"
same "the least bytes grow with the prompt" \
    "$("$program" tps --model tiny --device cpu --generate 2 --prompt 40 --repeat 1 --no-transformers --db "$scratch/other.db" --quiet --json 2>err | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["sides"][0]["step_bytes"])')" \
    "$(python3 -c "
layer = 96 + 96 * (6 + 2 + 2) * 64 + 6 * 64 * 96 + 96 + 3 * 96 * 160
print(2.0 * (2 * layer + 96 + 320 * 96 + 2 * 2 * 2 * 64 * 41))")"
refused "tps: a preset that is nearly one" "did you mean 'smollm3-3b'" tps --model smollm-3b --device cpu --db "$scratch/none.db"
refused "tps: more positions than the model has" "512" $tps --prompt 600
mkdir configs && echo '{"device": "x", "slug": "cpu", "measured": true, "entries": [{"kernel": 3}]}' >configs/cpu.json
"$program" $tps --repeat 1 --configs configs >out 2>err
same "a configuration that is wrong is named and left" "$? $(grep -c 'configs/cpu\.json:1' err) $(grep -c 'built-in default' out)" "0 1 1"
printf '#!/bin/sh\necho No transformers in this one\n' >python && chmod +x python
hf="tps --model tiny --device cpu --generate 2 --prompt 2 --repeat 2 --quiet --db $scratch/hf.db"
FASTINFER_PYTHON=$scratch/python "$program" $hf >out 2>err
same "without HuggingFace a line says why" "$? $(grep -c "without HuggingFace: $scratch/python: No transformers" err)" "0 1"
FASTINFER_PYTHON=$scratch/nothing "$program" $hf >out 2>err
same "or that there is no such Python" "$? $(grep -c "without HuggingFace: .*/nothing" err)" "0 1"
printf '#!/bin/sh\necho ready made up\nwhile read -r line; do echo 2.5 1e6; done\n' >python
FASTINFER_PYTHON=$scratch/python "$program" $hf >out 2>err
same "one that answers is measured beside us" "$? $(sqlite3 hf.db "SELECT engine, configs, tokens_s, (SELECT count(*) FROM acceptance WHERE first = 'transformers made up' AND second = 'built-in default' AND ratio < 1) FROM throughput WHERE engine = 'transformers'")" "0 transformers|made up|1000000.0|1"
[ -e none.db ] && not_ok "what was refused leaves no database" || ok "what was refused leaves no database"
# --- export ---------------------------------------------------------------------------------------
# As if on a GPU, HuggingFace in the same run as one setting of two.
cp tps.db gpu.db
sqlite3 gpu.db "UPDATE device SET kind = 'cuda', slug = 'made-up', name = 'Made up'; DELETE FROM acceptance; UPDATE throughput SET read_gbps = 4000;
INSERT INTO throughput (run_id, model, engine, configs, dtype, batch, prompt, generated, repeats, tokens_s, step_bytes, read_gbps, date)
SELECT run_id, model, 'transformers', 'eager', dtype, batch, prompt, generated, repeats, 8, step_bytes, 4000, date FROM throughput WHERE batch = 2;
INSERT INTO acceptance (run_id, model, first, second, batch, prompt, generated, rounds, ratio, low, high, verdict, date)
SELECT run_id, model, 'transformers eager', configs, batch, prompt, generated, 4, 2.5, 2.25, 2.75, 'accepted', date FROM throughput WHERE batch = 2 AND engine = 'fastinfer';"
beside() { python3 -c "
import csv
for r in csv.DictReader(open('exported/$1/tps.csv', newline='')):
    print(r['engine'], r['batch'], r['hf_tokens_per_s'], r['hf_ratio'], r['hf_ratio_low'], r['hf_ratio_high'], r['percent_of_read'] != '')" 2>&1 | sort -u | tr '\n' ';'; }
"$program" export --tables --db gpu.db --out exported >out 2>err
same "HuggingFace of the same run stands beside ours" "$? $(beside made-up)" \
    "0 fastinfer 1     True;fastinfer 2 8.0 2.5 2.25 2.75 True;transformers 2     True;"
"$program" export --tables --db tps.db --out exported >out 2>err
same "emulation is compared with nothing" "$? $(beside cpu)" "0 fastinfer 1     False;fastinfer 2     False;"
# What was measured again replaces what it was before; other forms and other runs' company stay.
cp gpu.db twice.db
sqlite3 twice.db "UPDATE throughput SET configs = '/x/made-up.json, one kernel' WHERE id = 1;
INSERT INTO throughput (run_id, model, engine, configs, dtype, batch, prompt, generated, repeats, tokens_s, step_bytes, read_gbps, date)
SELECT run_id + 1000, model, engine, 'other/made-up.json, one kernel', dtype, batch, prompt, generated, 3, 12345.5, step_bytes, 4000, date FROM throughput WHERE id = 1;
INSERT INTO run (id, device_id, started, driver, compiler, baseline, commit_id, dirty, host, command, seed)
SELECT id + 1000, device_id, started, driver, compiler, baseline, commit_id, dirty, host, command, seed FROM run WHERE id = (SELECT run_id FROM throughput WHERE id = 1);
INSERT INTO throughput (run_id, model, engine, configs, dtype, batch, prompt, generated, repeats, tokens_s, step_bytes, read_gbps, date)
SELECT run_id + 1000, model, 'transformers', 'eager', dtype, batch, prompt, generated, 3, 8, step_bytes, 4000, date FROM throughput WHERE id = 1;"
"$program" export --tables --db twice.db --out exported >out 2>err
cat >keys.py <<'EOF2'
import csv
for r in csv.DictReader(open('exported/made-up/tps.csv', newline='')):
    if r['form'] == 'persistent':
        print(r['configs'], r['tokens_per_s'], r['beside'])
EOF2
same "a newer run of the same replaces the older" "$? $(python3 keys.py 2>&1 | tr '\n' ';')" "0 made-up.json 12345.5 transformers;"
same "a step's parts say whose they are, and their share" "$(python3 -c "
import csv
rows = list(csv.DictReader(open('exported/made-up/steps.csv', newline='')))
print(round(sum(float(r['percent_of_parts']) for r in rows)), {r['batch'] for r in rows} <= {'1', '2'})")" "100 True"
printf 'kept\n' >exported/made-up/bench.csv
"$program" export --tables --db twice.db --out exported >out 2>err
same "a database without a bench leaves bench.csv" "$? $(cat exported/made-up/bench.csv) $(ls exported/made-up | grep -c part)" "0 kept 0"
same "the database is sound" "$(sql 'PRAGMA integrity_check')" ok
echo "1..$number"
[ $failures -eq 0 ]
