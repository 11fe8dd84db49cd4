"""The forwards that accelerate puts in place, and the plain formulas that they stand for.

Each looks at its tensors first: where the kernels do not apply (gradients are wanted, dtypes are
mixed) the original runs. Under torch.compile they are traced as they stand, onto the operators.
"""

import threading
import warnings
import weakref

import torch

from . import ops

# --- plain formulas -----------------------------------------------------------------------------


def norm_eps(module):
    """The eps of an RMSNorm under either of its names; None where there is none."""
    own = vars(module)
    return own["variance_epsilon"] if "variance_epsilon" in own else own.get("eps")


def plain_rmsnorm(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt((wide * wide).mean(-1, keepdim=True) + eps) * weight.float()).to(
        x.dtype)


def plain_mlp(module, x):
    if hasattr(module, "gate_up_proj"):
        gate, up = module.gate_up_proj(x).chunk(2, -1)
    else:
        gate, up = module.gate_proj(x), module.up_proj(x)
    return module.down_proj(torch.nn.functional.silu(gate) * up)


def plain_rope(q, k, cos, sin, unsqueeze_dim):
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)

    def turn(x):
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat((-second, first), -1) * sin

    return turn(q), turn(k)


# --- may the kernels run? -----------------------------------------------------------------------

_warned = False


def _wanted(*tensors):
    """Whether gradients are; a word about it, once."""
    global _warned
    if not torch.is_grad_enabled() or not any(t.requires_grad for t in tensors):
        return False
    if not torch.compiler.is_compiling() and not _warned:
        _warned = True
        warnings.warn("fastinfer: gradients are wanted here, so the original forwards run; the "
                      "kernels are for torch.inference_mode() and torch.no_grad()", stacklevel=3)
    return True


def ready(first, *others):
    """Plain tensors (not sharded or quantised ones) of one dtype that the kernels have, on one
    device that they run on, and no gradients."""
    dtype, index = first.dtype, first.get_device()
    if type(first) not in ops.PLAIN or dtype not in ops.DTYPES:
        return False
    if not (first.is_cuda if index >= 0 else first.is_cpu):
        return False
    for other in others:
        if type(other) not in ops.PLAIN or other.dtype != dtype or other.get_device() != index:
            return False
    return not _wanted(first, *others)


# --- forwards -----------------------------------------------------------------------------------


def norm_forward(original):
    def forward(self, hidden_states):
        weight = self.weight
        if not ready(hidden_states, weight):
            return original(self, hidden_states)
        return ops.fast_rmsnorm(hidden_states, weight, norm_eps(self))

    return forward


def mlp_forward(self, x):
    gate, up = self.gate_proj(x), self.up_proj(x)
    if ready(gate, up):
        return self.down_proj(ops.fast_swiglu(gate, up))
    return self.down_proj(torch.nn.functional.silu(gate) * up)


def packed_mlp_forward(self, hidden_states):
    both = self.gate_up_proj(hidden_states)
    if ready(both):
        return self.down_proj(ops.fast_swiglu(both, None))
    gate, up = both.chunk(2, -1)
    return self.down_proj(torch.nn.functional.silu(gate) * up)


def layer_forward(original, defaults):
    def forward(self, hidden_states, *args, **kwargs):
        norm = self.post_attention_layernorm
        if (args or norm._forward_hooks or norm._forward_pre_hooks
                or not ready(hidden_states, norm.weight)):
            return original(self, hidden_states, *args, **kwargs)
        attended = self.self_attn(hidden_states=self.input_layernorm(hidden_states),
                                  **{**defaults, **kwargs})[0]
        if (ready(attended, hidden_states) and attended.shape == hidden_states.shape
                and attended.is_contiguous() and hidden_states.is_contiguous()):
            # The sum lands in the attention's output, which is nobody else's; the layer's input
            # may be kept by the caller (output_hidden_states).
            normed = ops.fast_add_rmsnorm(hidden_states, attended, norm.weight, norm_eps(norm))
        else:
            attended = hidden_states + attended
            normed = norm(attended)
        return attended + self.mlp(normed)

    return forward


# --- rope ---------------------------------------------------------------------------------------


class _Angles(threading.local):
    """The table of the cos and sin that came last: a model makes them once for all its layers. It
    goes when they go. (Changes of them in place are seen by their version, which tensors made in
    inference mode lack; models make new ones.)"""

    cos = sin = key = None
    found = ()

    def get(self, cos, sin, lead, head_dim):
        if cos.is_cuda and torch.cuda.is_current_stream_capturing():
            return ops.rope_angles(cos, sin, lead, head_dim)  # a graph must hold its own
        # what one stream made is not handed to another, which would have to wait for it
        key = (lead, head_dim, _version(cos), _version(sin), ops.current_stream(cos.get_device()))
        if self.cos is None or self.cos() is not cos or self.sin() is not sin or self.key != key:
            self.found = found = list(ops.rope_angles(cos, sin, lead, head_dim))
            self.cos = weakref.ref(cos, lambda _: found.clear())
            self.sin, self.key = weakref.ref(sin), key
        return self.found


def _version(tensor):
    return 0 if tensor.is_inference() else tensor._version


_angles = _Angles()


def _dense(x):
    """(batch, heads, sequence, head_dim) as (batch, sequence, heads, head_dim), in place where it
    lies so, else a copy."""
    return x.transpose(1, 2).contiguous()


def _turn(q, k, cos, sin):
    """q, k: (batch, sequence, heads, head_dim), dense."""
    lead, head_dim = tuple(q.shape[:-2]), q.shape[-1]
    if ops.traced(q, k, cos, sin):
        table, row = ops.rope_angles(cos, sin, lead, head_dim)
        torch.ops.fastinfer.rope_(q, k, table, row, False)
        return q, k
    table, row = _angles.get(cos, sin, lead, head_dim)
    q, k = ops.aligned(q), ops.aligned(k)
    ops.rope_by_angles(q, k, table, row, False)
    return q, k


def rope_fits(q, k, cos, sin, unsqueeze_dim):
    """q, k: (batch, heads, sequence, head_dim), or with heads and sequence the other way round
    where unsqueeze_dim is 2; cos, sin: (batch or 1, sequence, head_dim)."""
    if unsqueeze_dim not in (1, 2) or q.dim() != 4 or k.dim() != 4 or cos.dim() != 3:
        return False
    sequence = 2 if unsqueeze_dim == 1 else 1
    return (cos.shape == sin.shape and cos.shape[2] == q.shape[3] == k.shape[3]
            and q.shape[3] % 2 == 0
            and cos.shape[1] == q.shape[sequence] == k.shape[sequence]
            and q.shape[0] == k.shape[0] and cos.shape[0] in (1, q.shape[0])
            and cos.device == q.device and ready(q, k))


def rope_in_place(original):
    """apply_rotary_pos_emb of a transformers model, which writes into q and k."""

    def apply(q, k, cos, sin, position_ids=None, unsqueeze_dim=1):
        if isinstance(position_ids, int):  # fifth by position where there are no position_ids
            position_ids, unsqueeze_dim = None, position_ids
        if not rope_fits(q, k, cos, sin, unsqueeze_dim):
            return original(q, k, cos, sin, unsqueeze_dim=unsqueeze_dim)
        if unsqueeze_dim == 2:
            return _turn(q.contiguous(), k.contiguous(), cos, sin)
        q, k = _turn(_dense(q), _dense(k), cos, sin)
        return q.transpose(1, 2), k.transpose(1, 2)

    return apply


def _plain(q, k, cos, sin, unsqueeze_dim=1):
    return plain_rope(q, k, cos, sin, unsqueeze_dim)


_apply = rope_in_place(_plain)


def rope_apart(q, k, cos, sin, position_ids=None, unsqueeze_dim=1):
    """The same, which leaves q and k as they are."""
    if ready(q, k):
        q, k = q.clone(), k.clone()
    return _apply(q, k, cos, sin, position_ids, unsqueeze_dim)
