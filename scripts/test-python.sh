#!/bin/bash
# test-python.sh [PYTEST OPTION...] - installs the Python package into build/python-tools, a virtual
# environment with PyTorch, transformers and pytest, and runs tests/python on what was installed.
#
# FASTINFER_PYTHON names a Python to make it from, whose PyTorch and transformers are used where it
# has them (python3 otherwise); FASTINFER_TORCH_INDEX, if set, is the package index for PyTorch.
set -u
cd "$(dirname "$0")/.." || exit 2
tools=build/python-tools
python=${FASTINFER_PYTHON:-python3}

refuse() {
    echo "test-python: $*" >&2
    exit 2
}
has() { "$tools/bin/python" -c "import importlib.util, sys; sys.exit(any(not importlib.util.find_spec(n) for n in sys.argv[1:]))" "$@"; }
install() { "$tools/bin/pip" install -q --disable-pip-version-check "$@" || refuse "pip could not install $*"; }

if [ ! -x "$tools/bin/pip" ]; then
    "$python" -m venv --clear "$tools" || refuse "$python -m venv $tools failed; python3-venv is needed"
    "$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' \
        >"$("$tools/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/lender.pth"
fi
has torch || install torch ${FASTINFER_TORCH_INDEX:+--index-url "$FASTINFER_TORCH_INDEX"}
has transformers || install 'transformers>=4.56'
has pytest hypothesis || install pytest hypothesis
install --no-deps --force-reinstall .
exec env FASTINFER_TEST_INSTALLED=1 "$tools/bin/python" -m pytest -q -p no:cacheprovider "$@" tests/python
