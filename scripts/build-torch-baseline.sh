#!/bin/sh
# build-torch-baseline.sh OUT.so - builds baselines/torch_eager.cpp against the torch there is.
#
# Looked for in this order: $FASTINFER_PYTHON's torch, or else .venv's, or else python3's; then
# Debian's libtorch-dev. Without any, or when it does not compile, OUT.so is not made, a line says
# so, and the exit status is still 0: the bench goes on without a baseline. OUT.so.stamp remembers
# what OUT.so was made from, and a call that would change nothing does nothing.
set -u
cd "$(dirname "$0")/.." || exit 1
out=${1:?usage: build-torch-baseline.sh OUT.so}
stamp=$out.stamp log=$out.log
cxx=${CXX:-g++}
source=baselines/torch_eager.cpp

skip() {
    rm -f "$out" "$stamp"
    echo "PyTorch baseline skipped: $*"
    exit 0
}

# Sets dir, version and cuda from torch's own files; importing it would take seconds.
find_in_python() {
    found=$("$1" - 2>/dev/null <<'PYTHON'
import importlib.util, os
spec = importlib.util.find_spec("torch")
facts = {}
folder = os.path.dirname(spec.origin)
exec(open(os.path.join(folder, "version.py")).read(), facts)
print(folder, facts["__version__"], facts.get("cuda") or "none", sep="\n")
PYTHON
    ) || return 1
    { read -r dir && read -r version && read -r cuda; } <<FOUND
$found
FOUND
    [ -f "$dir/include/ATen/ATen.h" ] && [ -d "$dir/lib" ]
}

find_torch() {
    if [ -n "${FASTINFER_PYTHON:-}" ]; then
        pythons=$FASTINFER_PYTHON
    else
        pythons=".venv/bin/python3 python3"
    fi
    for python in $pythons; do
        command -v "$python" >/dev/null 2>&1 || continue
        find_in_python "$python" || continue
        include=$dir/include lib=$dir/lib
        return 0
    done
    header=/usr/include/torch/csrc/api/include/torch/version.h
    [ -f "$header" ] || return 1
    python='' dir='' lib='' cuda=none include=/usr/include
    version=$(sed -n 's/^#define TORCH_VERSION_\(MAJOR\|MINOR\|PATCH\) *//p' "$header" |
        paste -sd .)
}

# The folder of a cuda_runtime_api.h that compiles and is of the CUDA major that torch has.
find_cuda_headers() {
    major=${cuda%%.*}
    for candidate in "${CUDA_HOME:-}/include" "${CUDA_PATH:-}/include" \
        "$dir/../nvidia/cu$major/include" "$dir/../nvidia/cuda_runtime/include" \
        "/usr/local/cuda-$cuda/include" /usr/local/cuda/include "/usr/local/cuda-$major/include" \
        "/opt/cuda/include" /usr/local/include; do
        [ -f "$candidate/cuda_runtime_api.h" ] || continue
        found=$(echo '#include <cuda_runtime_api.h>' |
            "$cxx" -x c++ -E -dM -isystem "$candidate" - 2>/dev/null |
            sed -n 's/^#define CUDART_VERSION *//p')
        [ $((${found:-0} / 1000)) = "$major" ] && echo "$candidate" && return 0
    done
    return 1
}

command -v "$cxx" >/dev/null 2>&1 || skip "no C++ compiler ($cxx); make torch adds one"
# shellcheck disable=SC2016
find_torch || skip 'no torch found; `make torch` adds it'
wanted="$version $cuda $dir $("$cxx" -dumpfullversion -dumpversion) ${CUDA_HOME:-} ${CUDA_PATH:-} \
$(cat "$source" baselines/baseline.h "$0" | cksum)"
[ -f "$out" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0
[ -f "$include/ATen/ops/silu.h" ] || skip "torch $version is too old, 1.13 or newer is needed"

mkdir -p "$(dirname "$out")" || exit 1
set -- -std=c++17 -O1 -fPIC -fvisibility=hidden -Wall -Wextra -I. -shared
if [ -n "$dir" ]; then
    abi=$("$python" -c 'import torch; print(int(torch._C._GLIBCXX_USE_CXX11_ABI))' 2>"$log") ||
        skip "$python cannot import torch $version; see $log"
    set -- "$@" -isystem "$include" "-D_GLIBCXX_USE_CXX11_ABI=$abi" "-L$lib" "-Wl,-rpath,$lib" \
        -Wl,--disable-new-dtags # so that the path holds for what torch itself needs, too
fi
libraries="-ltorch -ltorch_cpu -lc10"
flavour="for the CPU"
if [ "$cuda" != none ]; then
    if headers=$(find_cuda_headers); then
        set -- "$@" -DBASELINE_CUDA=1
        # never by -isystem what the compiler searches anyway: it would upset its own headers
        [ "$headers" = /usr/local/include ] || set -- "$@" -isystem "$headers"
        libraries="$libraries -ltorch_cuda -lc10_cuda"
        flavour="for CUDA $cuda"
    else
        flavour="for the CPU only: no cuda_runtime_api.h of CUDA ${cuda%%.*} found, set CUDA_HOME"
    fi
fi

echo "PyTorch baseline: building against torch $version, $flavour"
# shellcheck disable=SC2086
if ! "$cxx" "$@" -o "$out.new" "$source" -Wl,-z,nodelete -Wl,--no-as-needed $libraries \
    >"$log" 2>&1; then
    rm -f "$out.new"
    reason=$(grep -m 1 -E 'error:|cannot find' "$log" | sed 's/.*error: //' | cut -c 1-120)
    skip "it does not compile against torch $version (${reason:-see the log}); log: $log"
fi
mv "$out.new" "$out" && printf '%s\n' "$wanted" >"$stamp"
