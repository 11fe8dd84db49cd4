"""The kernels on torch tensors: tensors in, tensors out or in place, on the tensors' device and
torch's current stream there.

dtypes float16, bfloat16 and float32; arithmetic is fp32 inside, and each result is rounded once.
Tensors must be dense (contiguous) and their data 16-byte aligned: nothing is copied behind your
back, and what does not fit is a TypeError or ValueError that says what was expected. There is no
backward: where grad mode is on and an argument requires grad, a RuntimeError says so.

Called plainly these go straight to the library. Under torch.compile, and for tensor subclasses,
they are the operators torch.ops.fastinfer.*, which have fake kernels.
"""

import torch

from . import library

__all__ = ["add_rmsnorm", "rmsnorm", "rope", "rope_angles", "swiglu"]

_NAMES = {torch.float16: "float16", torch.bfloat16: "bfloat16", torch.float32: "float32"}
_PLAIN = (torch.Tensor, torch.nn.Parameter)
_kernels = {}
_stream = getattr(torch._C, "_cuda_getCurrentRawStream", None)


def _current_stream(device):
    if device.type != "cuda":
        return 0
    if _stream is not None:
        return _stream(device.index)
    return torch.cuda.current_stream(device).cuda_stream


def _kernel(name, tensor, *sizes):
    """The library's kernel for a tensor's device and dtype; opened on first use."""
    key = (name, tensor.device, tensor.dtype, sizes)
    kernel = _kernels.get(key)
    if kernel is None:
        names, fixed = _COMPILED[name]
        kernel = library.Kernel(str(tensor.device), name, _NAMES[tensor.dtype],
                                dict(zip(names, sizes)), fixed)
        kernel = _kernels.setdefault(key, kernel)
    return kernel


# The compiled sizes of each kernel, in the order of `sizes` above, and what is held fixed: rope
# reads its angles from a table here.
_COMPILED = {
    "rmsnorm": (("hidden",), None),
    "add_rmsnorm": (("hidden",), None),
    "swiglu": (("width", "packed"), None),
    "rope": (("q_heads", "kv_heads", "head_dim", "adjacent"), {"trig": 0}),
}


def _traced(*tensors):
    """Whether a call must go through the dispatcher."""
    if torch.compiler.is_compiling():
        return True
    for tensor in tensors:
        if type(tensor) not in _PLAIN and isinstance(tensor, torch.Tensor):
            return True
    return False


# --- what is refused ----------------------------------------------------------------------------


def _check(op, reference, **tensors):
    """All are dense tensors of the first one's dtype and device, and nobody wants gradients."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise TypeError("%s: %s is a %s; a tensor was expected"
                            % (op, name, type(tensor).__name__))
    first = tensors[reference]
    if first.dtype not in _NAMES:
        raise TypeError("%s: %s is %s; torch.float16, torch.bfloat16 or torch.float32 was expected"
                        % (op, reference, first.dtype))
    if first.device.type not in ("cpu", "cuda"):
        raise ValueError("%s: %s is on %s; a CPU or CUDA tensor was expected"
                         % (op, reference, first.device))
    for name, tensor in tensors.items():
        if tensor.dtype != first.dtype:
            raise TypeError("%s: %s is %s and %s is %s; one dtype was expected"
                            % (op, name, tensor.dtype, reference, first.dtype))
        if tensor.device != first.device:
            raise ValueError("%s: %s is on %s and %s is on %s; one device was expected"
                             % (op, name, tensor.device, reference, first.device))
        if not tensor.is_contiguous():
            raise ValueError("%s: %s has shape %s and strides %s; a contiguous tensor was expected "
                             "(strides %s; .contiguous() makes one)"
                             % (op, name, tuple(tensor.shape), tuple(tensor.stride()),
                                _dense(tensor.shape)))
        if tensor.requires_grad and torch.is_grad_enabled():
            raise RuntimeError("%s: %s requires grad and grad mode is on, and there is no backward "
                               "here; torch.no_grad(), torch.inference_mode() or .detach() was "
                               "expected" % (op, name))


def _dense(shape):
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def _shape(op, name, tensor, expected, why):
    if tuple(tensor.shape) != tuple(expected):
        raise ValueError("%s: %s has shape %s; %s was expected (%s)"
                         % (op, name, tuple(tensor.shape), tuple(expected), why))


def _written(*tensors):
    """Tells autograd that these were written, so that a backward that saved them notices."""
    for tensor in tensors:
        if not tensor.is_inference():
            torch.autograd.graph.increment_version(tensor)


# --- rmsnorm ------------------------------------------------------------------------------------


def _check_norm(op, x, weight, **more):
    _check(op, "x", x=x, weight=weight, **more)
    if x.dim() < 1:
        raise ValueError("%s: x is a scalar; (..., hidden) was expected" % op)
    _shape(op, "weight", weight, x.shape[-1:], "(hidden), hidden being x's last dimension")
    for name, tensor in more.items():
        _shape(op, name, tensor, x.shape, "x's shape")


def _rmsnorm(x, weight, eps, out):
    hidden = x.shape[-1]
    if x.numel():
        _kernel("rmsnorm", x, hidden).launch((out.data_ptr(), x.data_ptr(), weight.data_ptr()),
                                             (x.numel() // hidden,), (eps,),
                                             _current_stream(x.device))
    return out


def rmsnorm(x, weight, eps=1e-6, *, out=None):
    """y = x * rsqrt(mean(x^2) + eps) * weight, the mean over the last dimension.

    x: (..., hidden); weight: (hidden); eps: in the units of x squared. Returns y, like x, or `out`
    where that is given (x itself is allowed).
    """
    if out is None and _traced(x, weight):
        return torch.ops.fastinfer.rmsnorm(x, weight, eps)
    if out is None:
        _check_norm("rmsnorm", x, weight)
        out = torch.empty_like(x)
    else:
        _check_norm("rmsnorm", x, weight, out=out)
        _written(out)
    return _rmsnorm(x, weight, eps, out)
