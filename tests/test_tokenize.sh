#!/bin/sh
# test_tokenize.sh PROGRAM - fastinfer tokenize, on the small tokenizers of tests/golden. Prints
# "ok NAME" or "not ok NAME" and exits 1 where something failed.
set -u
program=$1
golden=$(dirname "$0")/golden/tokenizers
failed=0

verdict() { # NAME STATUS [WHY]
    if [ "$2" -eq 0 ]; then echo "ok $1"; else failed=1 && echo "not ok $1${3:+: $3}"; fi
}
# expect NAME CODE TEXT ARGUMENT...: ends with this code and says exactly, or where it fails also, this
expect() {
    name=$1 wanted=$2 text=$3
    shift 3
    said=$("$program" tokenize "$@" 2>&1)
    code=$?
    if [ "$wanted" -eq 0 ]; then [ "$said" = "$text" ]; else echo "$said" | grep -qF -- "$text"; fi
    [ $? -eq 0 ] && [ "$code" -eq "$wanted" ]
    verdict "$name" $? "exit $code, not $wanted: '$said'"
}

model=$golden/llama3.json
ids=$("$program" tokenize --model "$model" --ids 'Hello there')
expect 'ids come back as text' 0 '<|begin_of_text|>Hello there' --model "$model" --decode "$ids"
expect 'special tokens left out' 0 'Hello there' --model "$model" --decode --no-special "$ids"
expect 'no template' 0 "${ids#* }" --model "$model" --ids --no-special 'Hello there'
piped=$(printf 'Hello there' | "$program" tokenize --model "$model" --ids)
[ "$piped" = "$ids" ]
verdict 'standard input' $? "'$piped', not '$ids'"
lines=$("$program" tokenize --model "$model" 'Hello there' | wc -l)
[ "$lines" -eq "$(echo "$ids" | wc -w)" ]
verdict 'a line a token' $? "$lines lines for '$ids'"
"$program" tokenize --model "$model" 'a' | grep -q '^[0-9]*	<|begin_of_text|>$'
verdict 'a line is id and content' $?
expect 'no model' 2 '--model' text
expect 'a model that is not there' 2 '/nonexistent: No such file' --model /nonexistent text
expect 'a folder without a tokenizer' 2 'tokenizer.json: No such file' --model / text
expect 'no JSON' 2 "$0:1:" --model "$0" text
expect 'an id that is not there' 2 'no token has the id 999999' --model "$model" --decode 999999
expect 'no id' 2 "'x': ids in decimal" --model "$model" --decode '1 x'
exit $failed
