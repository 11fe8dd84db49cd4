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

if not hasattr(torch.library, "custom_op"):
    raise ImportError("fastinfer.ops needs PyTorch 2.4 or newer; this is %s" % torch.__version__)

__all__ = ["add_rmsnorm", "rmsnorm", "rope", "rope_angles", "swiglu"]

DTYPES = {torch.float16: "float16", torch.bfloat16: "bfloat16", torch.float32: "float32"}
PLAIN = (torch.Tensor, torch.nn.Parameter)
_ALIGNMENT = 16  # bytes: FASTINFER_ALIGNMENT
_kernels = {}
_stream = getattr(torch._C, "_cuda_getCurrentRawStream", None)
_compiling, _tracing = torch.compiler.is_compiling, torch.jit.is_tracing
_modes = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)


def current_stream(index):
    """The raw stream of cuda:index; 0 for the CPU, whose index is -1."""
    if index < 0:
        return 0
    if _stream is not None:
        return _stream(index)
    return torch.cuda.current_stream(index).cuda_stream


def _kernel(name, tensor, *sizes):
    """The library's kernel for a tensor's device and dtype; opened on first use."""
    key = (name, tensor.get_device(), tensor.dtype, sizes)
    kernel = _kernels.get(key)
    if kernel is None:
        names, fixed = _COMPILED[name]
        kernel = library.Kernel(str(tensor.device), name, DTYPES[tensor.dtype],
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


def traced(*tensors):
    """Whether a call must go through the dispatcher."""
    if _compiling() or _tracing() or _modes():
        return True
    for tensor in tensors:
        if type(tensor) not in PLAIN and isinstance(tensor, torch.Tensor):
            return True
    return False


# --- what is refused ----------------------------------------------------------------------------


def _check(op, reference, tensors, direct=True):
    """All are tensors of one floating dtype on one device. direct: a plain call, so also dense,
    aligned, and wanted by no backward; the operators see to these by themselves."""
    first = tensors[reference]
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise TypeError("%s: %s is a %s; a tensor was expected"
                            % (op, name, type(tensor).__name__))
    if first.dtype not in DTYPES:
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
        if direct:
            _check_direct(op, name, tensor)


def _check_direct(op, name, tensor):
    if not tensor.is_contiguous():
        raise ValueError("%s: %s has shape %s and strides %s; a contiguous tensor was expected "
                         "(strides %s; .contiguous() makes one)"
                         % (op, name, tuple(tensor.shape), tuple(tensor.stride()),
                            tuple(torch.empty(tensor.shape, device="meta").stride())))
    if tensor.data_ptr() % _ALIGNMENT:
        raise ValueError("%s: the data of %s is %d bytes past a multiple of %d; none was expected "
                         "(.clone() makes an aligned tensor)"
                         % (op, name, tensor.data_ptr() % _ALIGNMENT, _ALIGNMENT))
    if tensor.requires_grad and torch.is_grad_enabled():
        raise RuntimeError("%s: %s requires grad and grad mode is on, and there is no backward "
                           "here; torch.no_grad(), torch.inference_mode() or .detach() was "
                           "expected" % (op, name))


def _check_shape(op, name, tensor, expected, why):
    if tensor.shape != expected:
        raise ValueError("%s: %s has shape %s; %s was expected (%s)"
                         % (op, name, tuple(tensor.shape), tuple(expected), why))


def _written(tensor):
    """Tells autograd that this was written, so that a backward that saved it notices."""
    if not tensor.is_inference():
        torch.autograd.graph.increment_version(tensor)


# --- what the operators are made of -------------------------------------------------------------


def aligned(tensor):
    """The tensor, or a dense and aligned copy."""
    if tensor.is_contiguous() and tensor.data_ptr() % _ALIGNMENT == 0:
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)


def _in_place(function, *tensors):
    """Runs function on usable forms of tensors that it writes, and brings home what was copied."""
    forms = [aligned(tensor) for tensor in tensors]
    result = function(*forms)
    for tensor, form in zip(tensors, forms):
        if form is not tensor:
            tensor.copy_(form)
    return result


# --- rmsnorm ------------------------------------------------------------------------------------


def _check_norm(op, tensors, direct=True):
    _check(op, "x", tensors, direct)
    x = tensors["x"]
    if x.dim() < 1:
        raise ValueError("%s: x is a scalar; (..., hidden) was expected" % op)
    for name, tensor in tensors.items():
        if name == "weight":
            _check_shape(op, name, tensor, x.shape[-1:], "(hidden), hidden being x's last dimension")
        else:
            _check_shape(op, name, tensor, x.shape, "x's shape")


def _rmsnorm(x, weight, eps, out):
    hidden = x.shape[-1]
    if x.numel():
        _kernel("rmsnorm", x, hidden).launch(
            (out, x, weight), (x.numel() // hidden,), (eps,), current_stream(x.get_device()))
    return out


def rmsnorm(x, weight, eps=1e-6, *, out=None):
    """y = x * rsqrt(mean(x^2) + eps) * weight, the mean over the last dimension.

    x: (..., hidden); weight: (hidden); eps: in the units of x squared. Returns y, like x, or `out`
    where that is given.
    """
    if out is None:
        if traced(x, weight):
            return torch.ops.fastinfer.rmsnorm(x, weight, eps)
        _check_norm("rmsnorm", {"x": x, "weight": weight})
        return _rmsnorm(x, weight, eps, torch.empty_like(x))
    _check_norm("rmsnorm", {"x": x, "weight": weight, "out": out})
    if out.data_ptr() == x.data_ptr() and out.numel():
        raise ValueError("rmsnorm: out is x; memory of its own was expected")
    _written(out)
    return _rmsnorm(x, weight, eps, out)


@torch.library.custom_op("fastinfer::rmsnorm", mutates_args=(),
                         schema="(Tensor x, Tensor weight, float eps) -> Tensor")
def _rmsnorm_op(x, weight, eps):
    _check_norm("rmsnorm", {"x": x, "weight": weight}, direct=False)
    return _rmsnorm(aligned(x), aligned(weight), eps, _empty(x))


@_rmsnorm_op.register_fake
def _(x, weight, eps):
    return _empty(x)


def _empty(x):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


# --- add_rmsnorm --------------------------------------------------------------------------------


def _add_rmsnorm(x, residual, weight, eps, out):
    hidden = x.shape[-1]
    if x.numel():
        _kernel("add_rmsnorm", x, hidden).launch(
            (out, residual, x, weight), (x.numel() // hidden,), (eps,), current_stream(x.get_device()))
    return out


def add_rmsnorm(x, residual, weight, eps=1e-6):
    """residual += x, in place, and returns rmsnorm of the sum (of the sum before it was rounded).

    x, residual: (..., hidden); weight: (hidden); eps: in the units of x squared. Returns y, like x.
    """
    if traced(x, residual, weight):
        return torch.ops.fastinfer.add_rmsnorm_(x, residual, weight, eps)
    _check_norm("add_rmsnorm", {"x": x, "residual": residual, "weight": weight})
    if x.data_ptr() == residual.data_ptr() and x.numel():
        raise ValueError("add_rmsnorm: residual is x; memory of its own was expected")
    y = _add_rmsnorm(x, residual, weight, eps, torch.empty_like(x))
    _written(residual)
    return y


@torch.library.custom_op(
    "fastinfer::add_rmsnorm_", mutates_args=("residual",),
    schema="(Tensor x, Tensor(a!) residual, Tensor weight, float eps) -> Tensor")
def _add_rmsnorm_op(x, residual, weight, eps):
    _check_norm("add_rmsnorm", {"x": x, "residual": residual, "weight": weight}, direct=False)
    return _in_place(lambda r: _add_rmsnorm(aligned(x), r, aligned(weight), eps, _empty(x)),
                     residual)


@_add_rmsnorm_op.register_fake
def _(x, residual, weight, eps):
    return _empty(x)


# --- swiglu -------------------------------------------------------------------------------------


def _check_swiglu(tensors, direct=True):
    """The shape of the result."""
    _check("swiglu", "gate", tensors, direct)
    gate = tensors["gate"]
    if gate.dim() < 1:
        raise ValueError("swiglu: gate is a scalar; (..., width) was expected")
    width = gate.shape[-1]
    if "up" in tensors:
        _check_shape("swiglu", "up", tensors["up"], gate.shape, "gate's shape")
    elif width % 2:
        raise ValueError("swiglu: gate has a last dimension of %d; gate and up side by side were "
                         "expected, an even number" % width)
    else:
        width //= 2
    shape = gate.shape[:-1] + (width,)
    if "out" in tensors:
        _check_shape("swiglu", "out", tensors["out"], shape, "the result's shape")
    return shape


def _swiglu(gate, up, out):
    width = out.shape[-1]
    if out.numel():
        _kernel("swiglu", gate, width, int(up is None)).launch(
            (out, gate, up), (out.numel() // width,), (), current_stream(gate.get_device()))
    return out


def swiglu(gate, up=None, *, out=None):
    """y = silu(gate) * up.

    gate, up: (..., width); or gate alone, (..., 2 width), with gate's half first in each row.
    Returns y, (..., width), or `out` where that is given.
    """
    if out is None and traced(gate, up):
        return torch.ops.fastinfer.swiglu(gate, up)
    tensors = {"gate": gate}
    if up is not None:
        tensors["up"] = up
    if out is not None:
        tensors["out"] = out
    shape = _check_swiglu(tensors)
    if out is None:
        out = torch.empty(shape, dtype=gate.dtype, device=gate.device)
    else:
        _written(out)
    return _swiglu(gate, up, out)


@torch.library.custom_op("fastinfer::swiglu", mutates_args=(),
                         schema="(Tensor gate, Tensor? up) -> Tensor")
def _swiglu_op(gate, up):
    tensors = {"gate": gate} if up is None else {"gate": gate, "up": up}
    shape = _check_swiglu(tensors, direct=False)
    return _swiglu(aligned(gate), None if up is None else aligned(up),
                   torch.empty(shape, dtype=gate.dtype, device=gate.device))


@_swiglu_op.register_fake
def _(gate, up):
    width = gate.shape[-1] if up is not None else gate.shape[-1] // 2
    return gate.new_empty(tuple(gate.shape[:-1]) + (width,))


# --- for forwards that have looked at their tensors already -------------------------------------


def fast_rmsnorm(x, weight, eps):
    if traced(x, weight):
        return torch.ops.fastinfer.rmsnorm(x, weight, eps)
    x = aligned(x)
    return _rmsnorm(x, weight, eps, torch.empty_like(x))


def fast_add_rmsnorm(x, residual, weight, eps):
    """x and residual are dense."""
    if traced(x, residual, weight) or (x.data_ptr() | residual.data_ptr()) % _ALIGNMENT:
        return torch.ops.fastinfer.add_rmsnorm_(x, residual, weight, eps)
    return _add_rmsnorm(x, residual, weight, eps, torch.empty_like(x))


def fast_swiglu(gate, up):
    if traced(gate, up):
        return torch.ops.fastinfer.swiglu(gate, up)
    gate = aligned(gate)
    if up is None:
        return _swiglu(gate, None, gate.new_empty(gate.shape[:-1] + (gate.shape[-1] // 2,)))
    return _swiglu(gate, aligned(up), torch.empty_like(gate))


def prepare(name, like, *sizes):
    """Compiles and loads what one row takes; FastInferError where it cannot run."""
    kernel = _kernel(name, like, *sizes)
    return kernel.prepare([1] * kernel.sizes._length_)[0]


# --- rope ---------------------------------------------------------------------------------------


def rope_angles(cos, sin, lead, head_dim, adjacent=False):
    """What rope's kernel reads in place of cos and sin: a table, (rows of cos, head_dim / 2, 2) in
    fp32, and the row of it for each of q's rows, int32.

    lead: q's dimensions before (heads, head_dim); cos's, before its last, must broadcast to them.
    The same for all layers that share cos and sin.
    """
    half = head_dim // 2
    if cos.shape[-1] == head_dim:  # each angle twice, as transformers hands them out
        cos, sin = (t[..., ::2] if adjacent else t[..., :half] for t in (cos, sin))
    table = torch.stack((cos, sin), -1).float().reshape(-1, half, 2).contiguous()
    row = torch.arange(table.shape[0], dtype=torch.int32, device=cos.device)
    row = row.reshape(cos.shape[:-1]).expand(lead).reshape(-1).contiguous()
    return table, row


def _check_rope(q, k, cos, sin):
    if q.dim() < 3 or k.dim() != q.dim() or k.shape[:-2] != q.shape[:-2]:
        raise ValueError("rope: q has shape %s and k %s; (..., heads, head_dim) with the same "
                         "leading dimensions was expected" % (tuple(q.shape), tuple(k.shape)))
    if k.shape[-1] != q.shape[-1] or q.shape[-1] % 2:
        raise ValueError("rope: heads of q have %d elements and of k %d; one even number was "
                         "expected" % (q.shape[-1], k.shape[-1]))
    for name, tensor in (("cos", cos), ("sin", sin)):
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
            raise TypeError("rope: %s is %s; a floating-point tensor was expected"
                            % (name, getattr(tensor, "dtype", type(tensor).__name__)))
        if tensor.device != q.device:
            raise ValueError("rope: %s is on %s and q is on %s; one device was expected"
                             % (name, tensor.device, q.device))
        lead, want = tensor.shape[:-1], q.shape[:-2]
        fits = len(lead) == len(want) and all(a in (1, b) for a, b in zip(lead, want))
        if not fits or tensor.shape[-1] not in (q.shape[-1], q.shape[-1] // 2):
            raise ValueError(
                "rope: %s has shape %s; %s was expected, with head_dim or head_dim / 2 last and 1 "
                "wherever it is the same for all" % (name, tuple(tensor.shape),
                                                     tuple(want) + (q.shape[-1],)))
    _check_shape("rope", "sin", sin, cos.shape, "cos's shape")


def rope(q, k, cos, sin, *, adjacent=False):
    """Turns q and k by their positions' angles, in place, and returns them.

    q: (..., q_heads, head_dim); k: (..., kv_heads, head_dim); cos, sin: (..., head_dim) with each
    angle twice, or (..., head_dim / 2), any floating dtype, 1 wherever it is the same for all.
    Element i of a head is turned with i + head_dim / 2 (transformers), or, where adjacent, element
    2i with 2i + 1.
    """
    tracing = traced(q, k, cos, sin)
    if not tracing:
        _check("rope", "q", {"q": q, "k": k})
    _check_rope(q, k, cos, sin)
    table, row = rope_angles(cos, sin, q.shape[:-2], q.shape[-1], adjacent)
    if tracing:
        torch.ops.fastinfer.rope_(q, k, table, row, adjacent)
    else:
        rope_by_angles(q, k, table, row, adjacent)
        _written(q)
        _written(k)
    return q, k


def rope_by_angles(q, k, table, row, adjacent):
    """rope with what rope_angles made, and no questions asked."""
    if q.numel() or k.numel():
        kernel = _kernel("rope", q, q.shape[-2], k.shape[-2], q.shape[-1], int(adjacent))
        kernel.launch((q, k, row, None, table), (row.shape[0], table.shape[0]), (), current_stream(q.get_device()))


@torch.library.custom_op(
    "fastinfer::rope_", mutates_args=("q", "k"),
    schema="(Tensor(a!) q, Tensor(b!) k, Tensor table, Tensor row, bool adjacent) -> ()")
def _rope_op(q, k, table, row, adjacent):
    _check("rope", "q", {"q": q, "k": k}, direct=False)
    table, row = aligned(table), aligned(row)
    _in_place(lambda a, b: rope_by_angles(a, b, table, row, adjacent), q, k)


@_rope_op.register_fake
def _(q, k, table, row, adjacent):
    return None
