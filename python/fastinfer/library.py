"""The C library behind the package: include/fastinfer.h through ctypes.

Every call releases the GIL; a failure is a FastInferError with the library's own sentence.
"""

import ctypes
import os
import threading

try:
    from . import _dispatch  # a compiled launch; a checkout has none, and ctypes does
except ImportError:
    _dispatch = None

__all__ = ["Device", "FastInferError", "Kernel", "library_path"]

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_TREE = os.path.dirname(os.path.dirname(_FOLDER))  # where the package is used from a checkout
DTYPES = {"float16": 0, "bfloat16": 1, "float32": 2}  # enum fastinfer_dtype
_CODES = ("ok", "argument", "system", "memory", "missing", "compile", "launch", "other")


class FastInferError(RuntimeError):
    """What the library refused, in its own words. `code` is one of "argument", "system", "memory",
    "missing", "compile", "launch" and "other"."""

    def __init__(self, code, sentence):
        super().__init__(sentence)
        self.code = _CODES[code] if 0 <= code < len(_CODES) else "other"


def library_path():
    """The libfastinfer.so in use: $FASTINFER_LIBRARY, else the package's own, else the build's of
    the checkout that the package lies in."""
    own = os.environ.get("FASTINFER_LIBRARY")
    places = [own] if own else [
        os.path.join(_FOLDER, "libfastinfer.so"),
        os.path.join(_TREE, "build", "release", "libfastinfer.so"),
    ]
    for place in places:
        if os.path.exists(place):
            return place
    raise FastInferError(
        4, "no libfastinfer.so: %s was expected (`pip install .` or `make library` builds it)"
        % " or ".join(places))


def _configs():
    """The folder with configs/<device>.json; None: the library's own choice."""
    if os.environ.get("FASTINFER_CONFIGS"):
        return None
    for place in (os.path.join(_FOLDER, "configs"), os.path.join(_TREE, "configs")):
        if os.path.isdir(place):
            return place.encode()
    return None


_P = ctypes.c_void_p
_library = None
_lock = threading.Lock()


def _declare(lib, name, result, *arguments):
    function = getattr(lib, "fastinfer_" + name)
    function.restype, function.argtypes = result, arguments


def library():
    global _library
    if _library is None:
        with _lock:
            if _library is None:
                lib = ctypes.CDLL(library_path())
                text, integer = ctypes.c_char_p, ctypes.c_int
                _declare(lib, "error", text)
                _declare(lib, "device_open", integer, text, text, ctypes.POINTER(_P))
                _declare(lib, "device_name", text, _P)
                _declare(lib, "device_points", text, _P)
                _declare(lib, "kernel_open", integer, _P, text, integer, text, text,
                         ctypes.POINTER(_P))
                for count in ("pointers", "sizes", "reals"):
                    _declare(lib, "kernel_" + count, integer, _P)
                _declare(lib, "kernel_prepare", integer, _P, _P, text, ctypes.c_size_t,
                         ctypes.POINTER(ctypes.c_size_t))
                _declare(lib, "kernel_launch", integer, _P, _P, _P, _P, _P, ctypes.c_size_t, _P)
                _library = lib
    return _library


def check(code):
    if code:
        raise FastInferError(code, library().fastinfer_error().decode())


class Device:
    """A device of the library, "cpu" or "cuda:N". Stays open until the process ends."""

    _open = {}

    def __init__(self, handle):
        self.handle = handle
        self.name = library().fastinfer_device_name(handle).decode()
        self.points = library().fastinfer_device_points(handle).decode()

    @classmethod
    def get(cls, name):
        device = cls._open.get(name)
        if device is None:
            handle = _P()
            check(library().fastinfer_device_open(name.encode(), _configs(), ctypes.byref(handle)))
            device = cls._open.setdefault(name, cls(handle))
        return device


class Kernel:
    """One kernel for one dtype and its compiled sizes, which launches for any of its other sizes.

    sizes: {"hidden": 3072}; fixed: {"trig": 0}, tunables held whatever configs/ says.
    """

    def __init__(self, device, name, dtype, sizes, fixed=None):
        def text(values):
            return ",".join("%s=%d" % item for item in (values or {}).items()).encode()

        lib = library()
        handle = _P()
        check(lib.fastinfer_kernel_open(Device.get(device).handle, name.encode(), DTYPES[dtype],
                                        text(sizes), text(fixed), ctypes.byref(handle)))
        self.name, self.handle = name, handle
        self.pointers = _P * lib.fastinfer_kernel_pointers(handle)
        self.sizes = ctypes.c_int64 * lib.fastinfer_kernel_sizes(handle)
        self.reals = ctypes.c_double * lib.fastinfer_kernel_reals(handle)
        self.counts = (self.pointers._length_, self.sizes._length_, self.reals._length_)
        self._launch = lib.fastinfer_kernel_launch
        self._addresses = (ctypes.cast(self._launch, _P).value, handle.value)

    def prepare(self, sizes):
        """Compiles and loads what would run; its point, "block=128,...", and bytes of scratch."""
        point, scratch = ctypes.create_string_buffer(512), ctypes.c_size_t()
        check(library().fastinfer_kernel_prepare(self.handle, self.sizes(*sizes), point, 512,
                                                 ctypes.byref(scratch)))
        return point.value.decode(), scratch.value

    def launch(self, tensors, sizes, reals, stream):
        """Enqueues on a raw CUstream (0: the default one). tensors: or addresses, or None. reals: ()
        for the defaults. Kernels that want scratch are refused with the library's sentence: none of
        the package's does."""
        if (len(tensors), len(sizes), len(reals) or self.counts[2]) != self.counts:
            raise TypeError("%s: %d tensors, %d sizes and %d reals were expected"
                            % ((self.name,) + self.counts))
        if _dispatch is not None:
            code = _dispatch.launch(*self._addresses, sizes, reals, stream, tensors)
        else:
            pointers = [t.data_ptr() if hasattr(t, "data_ptr") else t for t in tensors]
            code = self._launch(self.handle, self.pointers(*pointers), self.sizes(*sizes),
                                self.reals(*reals) if reals else None, None, 0, stream)
        if code:
            check(code)
