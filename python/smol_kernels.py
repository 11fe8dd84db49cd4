"""The names that FastInfer's first version had for its kernels, on fastinfer.ops.

rmsnorm(x, weight, eps) returns y; swiglu(gate, up, out) writes out; rope(x, cos, sin) turns x, of
shape (batch, heads, sequence, head_dim), in place, cos and sin being of that shape.
"""

from fastinfer import ops as _ops

__all__ = ["rmsnorm", "rope", "swiglu"]


def rmsnorm(x, weight, eps):
    return _ops.rmsnorm(x.contiguous(), weight, float(eps))


def swiglu(gate, up, out):
    _ops.swiglu(gate, up, out=out)


def rope(x, cos, sin):
    # A kernel for q and k together: here each head is a row of its own, and k one that nobody reads.
    if x.shape != cos.shape or x.shape != sin.shape:
        raise ValueError("rope: x has shape %s, cos %s and sin %s; one shape was expected"
                         % tuple(tuple(t.shape) for t in (x, cos, sin)))
    rows = x.view(-1, 1, x.shape[-1])
    width = (rows.shape[0], x.shape[-1])
    _ops.rope(rows, rows.clone(), cos.reshape(width), sin.reshape(width))
