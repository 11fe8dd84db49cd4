"""accelerate(model): the forwards of a loaded transformers model, replaced in place by forwards on
the kernels; restore(model): undone.

A module is recognised by what it computes, not by its name alone: each class is tried on a few
numbers first, so that a norm with another formula is left alone, and said to be. Only instances
are changed, by an attribute `forward` of their own; classes and modules of transformers stay as
they are, and other models with them.
"""

import inspect
import types
import weakref

import torch
from torch import nn

from . import forwards, library, ops

__all__ = ["Acceleration", "accelerate", "restore"]

KERNELS = ("rmsnorm", "add_rmsnorm", "swiglu", "rope")


class _Unfit(Exception):
    """Why a module is left alone."""


# --- what modules compute -----------------------------------------------------------------------


def _close(got, want):
    """Within a fiftieth of the largest element: formulas, not roundings, are told apart."""
    return (isinstance(got, torch.Tensor) and got.shape == want.shape
            and bool((got.float() - want.float()).abs().max() <= want.float().abs().max() / 50))


def _numbers(*shape, like, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(device=like.device, dtype=like.dtype)


def _own(function):
    """Is it a forward that accelerate put there?"""
    return getattr(getattr(function, "__func__", function), "fastinfer", None) is not None


def _mark(function, kernel):
    function.fastinfer = kernel
    return function


def _weight(module, name="weight"):
    weight = getattr(module, name, None)
    if not isinstance(weight, torch.Tensor):
        raise _Unfit("it has no %s" % name)
    if weight.is_meta:
        raise _Unfit("its weights are not loaded")
    if weight.dtype not in ops.DTYPES:
        raise _Unfit("its weights are %s" % weight.dtype)
    if weight.device.type not in ("cpu", "cuda"):
        raise _Unfit("it is on %s" % weight.device)
    return weight


def _matrix(module):
    """The first of its matrices: its dtype and device."""
    for name, parameter in module.named_parameters():
        if parameter.dim() == 2:
            return _weight(module.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])
    raise _Unfit("it has no plain matrices")


def _norm_forward(module):
    weight, eps = _weight(module), forwards.norm_eps(module)
    if weight.dim() != 1 or not isinstance(eps, float):
        raise _Unfit("it has no eps or its weight is no vector")
    if weight.data_ptr() % 16:  # as safetensors' mapped files have them on the CPU
        raise _Unfit("its weight does not lie at a multiple of 16 bytes")
    original = type(module).forward
    x = _numbers(2, weight.shape[0], like=weight)
    if not _close(original(module, x), forwards.plain_rmsnorm(x, weight, eps)):
        raise _Unfit("it computes something else than x * rsqrt(mean(x^2) + eps) * weight")
    return forwards.norm_forward(original), [("rmsnorm", weight, weight.shape[0])]


def _mlp_forward(module):
    act = getattr(module, "act_fn", None) or getattr(module, "activation_fn", None)
    if not isinstance(act, nn.SiLU) and getattr(act, "__name__", type(act).__name__) not in (
            "SiLUActivation", "silu"):
        raise _Unfit("its activation is %s, not SiLU" % type(act).__name__)
    packed = hasattr(module, "gate_up_proj")
    gate = module.gate_up_proj if packed else module.gate_proj
    weight = _weight(gate)
    if not isinstance(gate, nn.Linear):
        raise _Unfit("its projections are %s" % type(gate).__name__)
    forward = forwards.packed_mlp_forward if packed else forwards.mlp_forward
    x = _numbers(2, gate.in_features, like=weight)
    if not _close(type(module).forward(module, x), forwards.plain_mlp(module, x)):
        raise _Unfit("it computes something else than down(silu(gate(x)) * up(x))")
    width = gate.out_features // 2 if packed else gate.out_features
    return forward, [("swiglu", weight, width, int(packed))]


_rope_forwards = weakref.WeakKeyDictionary()  # by the class's own forward


def _same_rope(function, like):
    """Does it turn heads by halves, as a function of (q, k, cos, sin)?"""
    q, k = _numbers(1, 2, 3, 8, like=like), _numbers(1, 1, 3, 8, like=like, seed=2)
    angle = _numbers(1, 3, 4, like=like, seed=3).float()
    angle = torch.cat((angle, angle), -1)
    cos, sin = angle.cos().to(like.dtype), angle.sin().to(like.dtype)
    got = function(q.clone(), k.clone(), cos, sin)
    return all(_close(a, b) for a, b in zip(got, forwards.plain_rope(q, k, cos, sin, 1)))


def _attention_forward(module):
    original = inspect.unwrap(type(module).forward)
    weight = _matrix(module)
    if original not in _rope_forwards:
        turn = original.__globals__["apply_rotary_pos_emb"]
        if not _same_rope(turn, weight):
            raise _Unfit("its rotary embedding turns other pairs")
        # The same code, with one name meaning something else; nameless, since a tracer may look
        # names up in the module that they are called after.
        names = dict(original.__globals__, apply_rotary_pos_emb=forwards.rope_in_place(turn))
        names.pop("__name__", None)
        forward = types.FunctionType(original.__code__, names, original.__name__,
                                     original.__defaults__, original.__closure__)
        forward.__kwdefaults__ = original.__kwdefaults__
        _rope_forwards[original] = forward
    config, dim = getattr(module, "config", None), getattr(module, "head_dim", None)
    heads = [getattr(config, name, None) for name in ("num_attention_heads", "num_key_value_heads")]
    needs = [("rope", weight, *heads, dim, 0)] if dim and all(heads) else []
    return _rope_forwards[original], needs


class _Step(nn.Module):
    """A step of a layer that is tried: scale * x + shift."""

    def __init__(self, scale, shift, attention=False):
        super().__init__()
        self.scale, self.shift, self.attention = scale, shift, attention

    def forward(self, hidden_states, **_):
        y = self.scale * hidden_states + self.shift
        return (y, None) if self.attention else y


def _same_layer(layer):
    """Is its forward x -> a = x + attention(norm1(x)), a + mlp(norm2(a))?"""
    cls = type(layer)
    trial = cls.__new__(cls)
    nn.Module.__init__(trial)
    for name, value in vars(layer).items():
        if not name.startswith("_"):
            setattr(trial, name, value)
    trial.input_layernorm, trial.self_attn = _Step(2, 1), _Step(3, -1, attention=True)
    trial.post_attention_layernorm, trial.mlp = _Step(5, -2), _Step(0.5, 3)
    x = torch.tensor([[[1.0, -2.0, 0.5]]])
    try:
        got = cls.forward(trial, x, attention_mask=None, position_embeddings=(x, x))
    except Exception:
        return False
    a = x + (3 * (2 * x + 1) - 1)
    want = a + (0.5 * (5 * a - 2) + 3)
    return isinstance(got, torch.Tensor) and torch.equal(got, want)


def _layer_forward(layer):
    if not _same_layer(layer):
        raise _Unfit("its layer is put together in another way")
    _, needs = _norm_forward(layer.post_attention_layernorm)
    parameters = list(inspect.signature(type(layer).forward).parameters.values())[2:]
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    forward = forwards.layer_forward(type(layer).forward, defaults)
    return forward, [("add_rmsnorm",) + needs[0][1:]]


# --- which modules are looked at ----------------------------------------------------------------


def _is_norm(module):
    return type(module).__name__.endswith("RMSNorm")


def _is_mlp(module):
    names = ("gate_proj", "up_proj") if hasattr(module, "gate_proj") else ("gate_up_proj",)
    return (type(module).__name__.endswith("MLP")
            and all(isinstance(getattr(module, n, None), nn.Module) for n in names + ("down_proj",)))


def _is_attention(module):
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    return code is not None and "apply_rotary_pos_emb" in code.co_names


def _is_layer(module):
    parts = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")
    return (type(module).__name__.endswith("DecoderLayer")
            and all(isinstance(getattr(module, part, None), nn.Module) for part in parts))


_FINDERS = {"rmsnorm": (_is_norm, _norm_forward), "add_rmsnorm": (_is_layer, _layer_forward),
            "swiglu": (_is_mlp, _mlp_forward), "rope": (_is_attention, _attention_forward)}


# --- replacing ----------------------------------------------------------------------------------


class Acceleration:
    """What a call of accelerate did. As a context manager it undoes that at its end.

    replaced, already, left_alone: {(kernel, class name): count}, left_alone's with the reason as a
    third part of the key.
    """

    def __init__(self, model):
        self.model = type(model).__name__
        self.replaced, self.already, self.left_alone = {}, {}, {}
        self.points = {}
        self._modules = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.restore()

    def restore(self):
        """Undoes what this call did, and nothing that others did before or after it."""
        for module, forward in self._modules:
            if vars(module).get("forward") is forward:
                del module.forward
        self._modules = []

    def __str__(self):
        lines = ["fastinfer: %s" % self.model]
        lines += ["  %s: %d x %s" % (kernel, count, cls)
                  for (kernel, cls), count in self.replaced.items()]
        lines += ["  %s: %d x %s, replaced before" % (kernel, count, cls)
                  for (kernel, cls), count in self.already.items()]
        lines += ["  %s: %d x %s left alone: %s" % (kernel, count, cls, why)
                  for (kernel, cls, why), count in self.left_alone.items()]
        if len(lines) == 1:
            lines.append("  nothing in it was recognised; it is left as it was")
        lines += ["  points on %s: %s" % item for item in self.points.items()]
        return "\n".join(lines)


def _available(needs, known, acceleration):
    """Can the kernels run? Compiles them for one row, so that a missing compiler shows here."""
    for name, weight, *sizes in needs:
        key = (name, weight.device, weight.dtype, *sizes)
        if key not in known:
            try:
                device = library.Device.get(str(weight.device))
                acceleration.points[device.name] = device.points
                ops.prepare(name, weight, *sizes)
                known[key] = None
            except library.FastInferError as error:
                known[key] = str(error)
        if known[key]:
            raise _Unfit(known[key])


def _count(table, *key):
    table[key] = table.get(key, 0) + 1


def _replace(module, kernel, build, acceleration, known):
    cls = type(module)
    own = vars(module).get("forward")
    if own is not None:
        if _own(own):
            return _count(acceleration.already, kernel, cls.__name__)
        return _count(acceleration.left_alone, kernel, cls.__name__,
                      "its forward was replaced by someone else")
    try:
        forward, needs = build(module)
        _available(needs, known, acceleration)
    except _Unfit as why:
        return _count(acceleration.left_alone, kernel, cls.__name__, str(why))
    module.forward = types.MethodType(_mark(forward, kernel), module)
    acceleration._modules.append((module, module.forward))
    return _count(acceleration.replaced, kernel, cls.__name__)


def accelerate(model, kernels=KERNELS, report=True):
    """Replaces what is recognised in a loaded model by forwards on the kernels, in place.

    model: a transformers model, or any module that holds such layers. kernels: of "rmsnorm",
    "add_rmsnorm" (the residual sum and the norm behind it, in one), "swiglu" and "rope". report:
    prints what was replaced and what was left alone, and why. Returns an Acceleration, which can
    stand in a `with`; restore(model) undoes any number of calls, and a second call changes nothing.

    Where gradients are wanted (grad mode on, and an input or weight that requires grad) the
    original formulas run, and a warning says so once. rope and add_rmsnorm write into the fresh
    outputs of q_proj, k_proj (or their norms) and o_proj: hooks that keep these see them changed.
    """
    kernels = (kernels,) if isinstance(kernels, str) else tuple(kernels)
    for name in kernels:
        if name not in _FINDERS:
            raise ValueError("accelerate: there is no kernel %r; %s were expected"
                             % (name, ", ".join(KERNELS)))
    acceleration, known = Acceleration(model), {}
    with torch.no_grad():
        for module in list(model.modules()):
            for name in KERNELS:
                finder, build = _FINDERS[name]
                if name in kernels and finder(module):
                    _replace(module, name, build, acceleration, known)
    if report:
        print(acceleration)
    return acceleration


def restore(model):
    """Gives every module of the model its own forward again. Returns how many had another."""
    count = 0
    for module in model.modules():
        if _own(vars(module).get("forward")):
            del module.forward
            count += 1
    return count
