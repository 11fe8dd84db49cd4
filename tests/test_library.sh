#!/bin/sh
# test_library.sh LIBRARY - what libfastinfer.so shows and needs, and that the header stands alone.
set -u
library=$1
number=0
try() { # NAME, then a command that must succeed
    name=$1 number=$((number + 1))
    shift
    if said=$("$@" 2>&1); then echo "ok $number - $name"; else echo "not ok $number - $name" && echo "$said"; fi
}
shown() { nm -D --defined-only "$library" | awk '{ print $NF }'; }

only_ours() {
    others=$(shown | grep -vE '^(fastinfer|simt)_')
    [ -z "$others" ] || { echo "these are shown, too: $others"; return 1; }
}
all_of_the_header() {
    for name in $(grep -oE 'fastinfer_[a-z_]+\(' include/fastinfer.h | tr -d '(' | sort -u); do
        shown | grep -qx "$name" || { echo "$name is in the header and not in the library"; return 1; }
    done
}
nothing_hidden() {
    for name in $(shown | grep '^fastinfer_'); do
        grep -q "$name(" include/fastinfer.h || { echo "$name is not in the header"; return 1; }
    done
}
no_cuda() { # opened at run time, so that it loads anywhere
    needs=$(readelf -d "$library" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | grep -iE 'cuda|nvrtc|nvidia|sqlite|pcre|utf8proc')
    [ -z "$needs" ] || { echo "it needs $needs"; return 1; }
}
header() { printf '#include "include/fastinfer.h"\nint main(void) { return FASTINFER_OK; }\n' | "$@" -I. -Wall -Wextra -Werror -fsyntax-only -; }

try "it shows fastinfer_ and the CPU device's words alone" only_ours
try "it shows all that the header promises" all_of_the_header
try "the header promises all that it shows" nothing_hidden
try "it needs no CUDA library to load" no_cuda
try "the header is C17" header cc -std=c17 -x c
try "the header is C++17" header c++ -std=c++17 -x c++

# the Python package, as far as it goes without PyTorch
FASTINFER_LIBRARY=$library PYTHONPATH=python PYTHONDONTWRITEBYTECODE=1 python3 -W error tests/library_from_python.py 2>&1 ||
    echo "not ok - library_from_python.py ended with $?"

# as a guest in a CUDA program, where NVRTC can compile for the T4 that the stub pretends to be
program=$(dirname "$library")/fastinfer
if ! "$program" build rmsnorm --arch sm_75 >/dev/null 2>&1; then
    echo "ok $((number + 1)) - a guest on a GPU # SKIP no NVRTC here to compile with"
    exit 0
fi
scratch=$(mktemp -d)
{
    cc -std=gnu17 -fPIC -I. -DREST -c tests/cuda_stub.c -o "$scratch/rest.o" &&
        cc -std=gnu17 -fPIC -I. -c tests/cuda_stub.c -o "$scratch/stub.o" &&
        cc -shared -Wl,-soname,libcuda.so.1 "$scratch/stub.o" "$scratch/rest.o" -o "$scratch/libcuda.so.1" &&
        cc -std=gnu17 -I. tests/library_guest.c "$library" "$scratch/libcuda.so.1" \
            -Wl,-rpath,"$scratch" -Wl,-rpath,"$(cd "$(dirname "$library")" && pwd)" -o "$scratch/guest" &&
        "$scratch/guest" configs
} >"$scratch/said" 2>&1
guest=$?
grep -v "not measured" "$scratch/said"
rm -rf "$scratch"
[ $guest -eq 0 ] || echo "not ok - the guest ended with $guest"
