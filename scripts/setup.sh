#!/bin/sh
# setup.sh bench|test|torch - installs what is missing, and says so; does nothing when all is there.
#
# Debian and Ubuntu (12; 22.04, 24.04), as root or by sudo without a password. Exit status 2: what
# is missing was not installed, and a line says what to do. What is optional only warns.
# `torch` puts PyTorch into .venv; FASTINFER_TORCH_INDEX, if set, is the package index to take it
# from (pip's own configuration otherwise).
set -u
cd "$(dirname "$0")/.." || exit 1
log=build/setup.log
failed=build/setup-failed # optional packages that could not be installed; asked again after a day

say() { echo "setup: $*"; }
refuse() {
    echo "setup: $*" >&2
    exit 2
}

has_command() { command -v "$1" >/dev/null 2>&1; }
has_header() { [ -f "/usr/include/$1" ] || [ -f "/usr/local/include/$1" ]; }
has_torch() {
    for python in ${FASTINFER_PYTHON:-} .venv/bin/python3 python3; do
        has_command "$python" && "$python" -c 'import importlib.util as u, sys
s = u.find_spec("torch")
sys.exit(not (s and s.origin))' 2>/dev/null && return 0
    done
    return 1
}
has_gpu() { has_command nvidia-smi && nvidia-smi -L 2>/dev/null | grep -q GPU; }

start_log() {
    { mkdir -p build && : >"$log"; } 2>/dev/null || refuse "build/ cannot be written"
}

# --- what is missing: packages by name, and the same in words ---
required='' optional='' words=''
need() { # package, what it is
    required="$required $1"
    words="${words:+$words, }$2"
}
want() { optional="$optional $1"; }

look_for_tools() { # bench|test
    has_command gcc || need gcc "a C compiler (gcc)"
    has_command g++ || need g++ "a C++ compiler (g++)"
    has_command make || need make "make"
    has_command git || need git "git"
    has_command pkg-config || need pkg-config "pkg-config"
    has_header sqlite3.h || need libsqlite3-dev "SQLite's headers"
    has_header jansson.h || need libjansson-dev "Jansson's headers"
    has_header zlib.h || need zlib1g-dev "zlib's header"
    has_header xxhash.h || need libxxhash-dev "xxHash's header"
    has_header pcre2.h || need libpcre2-dev "PCRE2's headers"
    has_header utf8proc.h || need libutf8proc-dev "utf8proc's header"
    if [ "$1" = test ]; then
        has_header cmocka.h || need libcmocka-dev "cmocka's headers"
        has_command sqlite3 || need sqlite3 "the sqlite3 command"
        has_command python3 || need python3 "python3"
        python3 -c 'import ensurepip, venv' 2>/dev/null || want python3-venv # tests/test_spaces.sh
    fi
    has_command gnuplot || want gnuplot-nox
    ls /usr/lib/*/libopenblas.so.0 >/dev/null 2>&1 || want libopenblas0 # prefill on the CPU device
    has_command clang || want clang
    has_command clang-format || want clang-format
    # Debian's torch is for the CPU, and large: only where there is no other and no GPU
    if [ "$1" = bench ] && ! has_header ATen/ATen.h && ! has_torch && ! has_gpu; then
        want libtorch-dev
    fi
}

# --- installing ---
sudo='' installer=''
find_installer() {
    ID='' VERSION_ID=''
    # shellcheck disable=SC1091
    [ -r /etc/os-release ] && . /etc/os-release
    case "$ID" in debian | ubuntu) ;; *) return ;; esac
    has_command apt-get || return
    installer=apt
    [ "$(id -u)" = 0 ] && return
    installer=words
    sudo='sudo '
    if has_command sudo && sudo -n true 2>/dev/null; then installer=apt; fi
}

apt() {
    ${sudo:+sudo -n} env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -o DPkg::Lock::Timeout=120 "$@" >>"$log" 2>&1 </dev/null
}
apt_install() { apt install -y --no-install-recommends "$@"; }
apt_reason() { grep '^E:' "$log" | tail -n 1 | sed 's/^E: *//'; }

updated=''
update_once() {
    [ -n "$updated" ] && return
    updated=1
    start_log
    apt update || say "warning: apt-get update failed ($(apt_reason)); trying what is known"
}

command_for() { # the line to type
    echo "${sudo}apt-get update && ${sudo}apt-get install -y --no-install-recommends$*"
}

install_required() {
    [ -z "$required" ] && return
    case $installer in
    '') refuse "missing: $words; this is neither Debian nor Ubuntu, please install them" ;;
    words) refuse "missing: $words; run: $(command_for "$required")" ;;
    esac
    update_once
    for package in $required; do say "installing $package"; done
    # shellcheck disable=SC2086
    apt_install $required || refuse "apt-get could not install$required: $(apt_reason); log: $log"
}

old_libtorch() { # Ubuntu 22.04 has 1.8, too old for the plugin
    candidate=$(LC_ALL=C apt-cache policy libtorch-dev 2>/dev/null | sed -n 's/^ *Candidate: //p')
    case "$candidate" in '' | '(none)') return 0 ;; esac
    ! dpkg --compare-versions "$candidate" ge 1.13
}

install_optional() {
    [ "${ID:-} ${VERSION_ID:-}" = "ubuntu 22.04" ] && optional=$(
        for package in $optional; do [ "$package" = libtorch-dev ] || printf ' %s' "$package"; done
    )
    [ -z "$optional" ] && return
    if [ "$installer" != apt ]; then
        say "warning: going on without$optional${installer:+; to add: $(command_for "$optional")}"
        return
    fi
    [ "$(cat "$failed" 2>/dev/null)" = "$optional" ] &&
        [ -n "$(find "$failed" -mmin -1440 2>/dev/null)" ] && return
    update_once
    lost=''
    for package in $optional; do
        [ "$package" = libtorch-dev ] && old_libtorch && continue
        say "installing $package"
        apt_install "$package" && continue
        say "warning: going on without $package: $(apt_reason)"
        lost="$lost $package"
    done
    if [ -n "$lost" ]; then echo "$lost" >"$failed"; else rm -f "$failed"; fi
}

# --- PyTorch into .venv ---
install_torch() {
    if .venv/bin/python3 -c 'import torch' 2>/dev/null; then
        say "PyTorch is in .venv already"
        return
    fi
    has_command g++ || need g++ "a C++ compiler (g++)"
    has_command python3 || need python3 "python3"
    python3 -c 'import ensurepip, venv' 2>/dev/null || need python3-venv "python3's venv"
    if [ -n "$required" ]; then find_installer; fi
    install_required
    start_log
    [ -x .venv/bin/pip ] || python3 -m venv .venv >>"$log" 2>&1 ||
        refuse "python3 -m venv .venv failed; log: $log"

    torch=torch
    if has_gpu; then
        # wheels from 2.11 on are for CUDA 13, which a CUDA 12 driver cannot run
        driver=$(nvidia-smi | sed -n 's/.*CUDA Version: *\([0-9]*\).*/\1/p')
        [ "${driver:-13}" -ge 13 ] || torch='torch<2.11'
        say "installing $torch for the GPU into .venv (about 5 GB)"
    elif [ -n "${FASTINFER_TORCH_INDEX:-}" ]; then
        say "installing torch into .venv, from FASTINFER_TORCH_INDEX"
    else
        say "installing torch into .venv; no GPU here: FASTINFER_TORCH_INDEX set to PyTorch's" \
            "index of CPU wheels gives a far smaller one"
    fi
    # shellcheck disable=SC2086
    .venv/bin/pip install --quiet --disable-pip-version-check \
        ${FASTINFER_TORCH_INDEX:+--index-url "$FASTINFER_TORCH_INDEX"} "$torch" \
        >>"$log" 2>&1 </dev/null ||
        refuse "pip could not install $torch: $(grep -m 1 ERROR "$log"); log: $log"
    .venv/bin/python3 -c 'import torch; print("setup: PyTorch", torch.__version__, "is in .venv")' \
        2>>"$log" || refuse "PyTorch was installed into .venv but cannot be imported; log: $log"
}

case "${1:-}" in
bench | test)
    look_for_tools "$1"
    [ -z "$required$optional" ] && exit 0
    find_installer
    install_required
    install_optional
    ;;
torch) install_torch ;;
*)
    echo "usage: scripts/setup.sh bench|test|torch" >&2
    exit 2
    ;;
esac
exit 0
