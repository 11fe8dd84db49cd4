#!/bin/sh
# man.sh PROGRAM FOLDER - a manual page of the program and one a verb, from --help, by help2man
set -eu
program=$1 folder=$2
command -v help2man >/dev/null || { echo "help2man is not installed (apt-get install help2man)" >&2; exit 2; }
version=$("$program" --version | cut -d' ' -f2)
mkdir -p "$folder"
page() { # FILE NAME HELP-COMMAND
    help2man --no-info --no-discard-stderr --version-string="$version" --name="$2" \
        --output="$folder/$1.1" "$3"
}
ln -sf "$(realpath "$program")" "$folder/fastinfer" # pages call the program as the reader will
PATH=$(realpath "$folder"):$PATH
export PATH
page fastinfer 'find, prove and keep the fastest fused CUDA kernels' fastinfer
"$program" --help | sed -n 's/^  fastinfer \([a-z]*\)  *\(.*\)/\1 \2/p' | while read -r verb what; do
    page "fastinfer-$verb" "$what" "fastinfer $verb"
done
rm -f "$folder/fastinfer"
echo "$(ls "$folder"/*.1 | wc -l) pages in $folder/"
