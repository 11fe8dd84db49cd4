"""library_from_python.py - the package's part that needs no PyTorch: the library through ctypes, on
buffers that only have a data_ptr. Run by test_library.sh with PYTHONPATH=python."""

import ctypes

import fastinfer
from fastinfer import FastInferError, library

number = 0


def check(what, so):
    global number
    number += 1
    print("%sok %d - from Python: %s" % ("" if so else "not ", number, what))


class Buffer:
    def __init__(self, values):
        self.memory = (ctypes.c_float * (len(values) + 4))()
        self.address = (ctypes.addressof(self.memory) + 15) // 16 * 16
        self.values = (ctypes.c_float * len(values)).from_address(self.address)
        self.values[:] = values

    def data_ptr(self):
        return self.address


x, weight, y = Buffer([3.0] * 64 + [-1.0] * 64), Buffer([2.0] * 64), Buffer([0.0] * 128)
kernel = library.Kernel("cpu", "rmsnorm", "float32", {"hidden": 64})
kernel.launch((y, x, weight), (2,), (0.0,), 0)
check("a norm of two rows", list(y.values) == [2.0] * 64 + [-2.0] * 64)
check("its point has a name", kernel.prepare((2,))[0].startswith("block="))
try:
    library.Kernel("cpu", "rmsnorn", "float32", {})
    check("an unknown kernel is refused", False)
except FastInferError as error:
    check("an unknown kernel is refused", error.code == "argument" and "did you mean" in str(error))
try:
    import torch  # noqa: F401
except ImportError:
    try:
        fastinfer.ops
        check("PyTorch is asked for", False)
    except ImportError as error:
        check("PyTorch is asked for", "pip install torch" in str(error))
