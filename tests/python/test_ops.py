"""fastinfer.ops against the formulas in fp64: values, strides, shapes and what is refused."""

import ctypes

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastinfer import FastInferError, library, ops

DTYPES = [torch.float16, torch.bfloat16, torch.float32]
ROUNDOFF = {torch.float16: 2**-11, torch.bfloat16: 2**-8, torch.float32: 2**-24}
FLOOR = {torch.float16: 2**-25, torch.bfloat16: 2**-134, torch.float32: 2**-150}


def rand(*shape, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def assert_close(got, want, magnitude=None, c=32):
    """One rounding to the output's dtype, and c of fp32 arithmetic."""
    magnitude = want.abs() if magnitude is None else magnitude
    bound = ROUNDOFF[got.dtype] * want.abs() + c * 2**-24 * magnitude + FLOOR[got.dtype]
    assert got.shape == want.shape
    worst = ((got.double() - want).abs() / bound).max()
    assert worst <= 1, "error is %.3g times its bound" % worst


def norm(x, weight, eps):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def turned(x, cos, sin, adjacent):
    """x: (..., heads, head_dim); cos, sin: (..., head_dim / 2), fp64. And the sum of |terms|."""
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    half = x.shape[-1] // 2
    a, b = (x[..., ::2], x[..., 1::2]) if adjacent else (x[..., :half], x[..., half:])

    def join(one, two):
        return torch.stack((one, two), -1).flatten(-2) if adjacent else torch.cat((one, two), -1)

    return (join(a * cos - b * sin, b * cos + a * sin),
            join((a * cos).abs() + (b * sin).abs(), (b * cos).abs() + (a * sin).abs()))


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(64,), (1, 64), (7, 96), (2, 3, 130), (5, 2050), (0, 64)])
def test_rmsnorm(dtype, shape):
    x, weight = rand(*shape, dtype=dtype), rand(shape[-1], dtype=dtype, seed=1)
    before = x.clone()
    y = ops.rmsnorm(x, weight, 1e-5)
    assert y.dtype == dtype and torch.equal(x, before)
    if x.numel():
        assert_close(y, norm(x.double(), weight.double(), 1e-5), c=shape[-1] / 16 + 16)
    out = torch.full_like(x, 7)
    assert ops.rmsnorm(x, weight, 1e-5, out=out) is out and torch.equal(out, y)


def test_rmsnorm_uses_its_eps():
    x, weight = torch.full((1, 64), 1e-3), torch.ones(64)
    assert_close(ops.rmsnorm(x, weight, 1e-2), norm(x.double(), weight.double(), 1e-2))
    assert_close(ops.rmsnorm(x, weight), norm(x.double(), weight.double(), 1e-6))


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 70), half=st.integers(1, 60), dtype=st.sampled_from(DTYPES),
       scale=st.sampled_from([1e-2, 1.0, 30.0]))
def test_rmsnorm_of_any_shape(rows, half, dtype, scale):
    x = (rand(rows, 2 * half, dtype=torch.float64) * scale).to(dtype)
    weight = rand(2 * half, dtype=dtype, seed=2)
    assert_close(ops.rmsnorm(x, weight), norm(x.double(), weight.double(), 1e-6), c=64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(64,), (7, 96), (2, 3, 130)])
def test_add_rmsnorm(dtype, shape):
    x, residual = rand(*shape, dtype=dtype), rand(*shape, dtype=dtype, seed=1)
    weight, before = rand(shape[-1], dtype=dtype, seed=2), x.clone()
    total, terms = x.double() + residual.double(), x.double().abs() + residual.double().abs()
    y = ops.add_rmsnorm(x, residual, weight, 1e-5)
    assert torch.equal(x, before)
    assert_close(residual, total)
    scale = torch.rsqrt((total * total).mean(-1, keepdim=True) + 1e-5) * weight.double()
    assert_close(y, total * scale, (terms * scale).abs())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(40,), (1, 96), (7, 33), (2, 3, 64)])
def test_swiglu(dtype, shape):
    gate, up = rand(*shape, dtype=dtype) * 4, rand(*shape, dtype=dtype, seed=1)
    want = torch.nn.functional.silu(gate.double()) * up.double()
    assert_close(ops.swiglu(gate, up), want)
    out = torch.empty_like(gate)
    assert ops.swiglu(gate, up, out=out) is out
    assert_close(out, want)
    assert_close(ops.swiglu(torch.cat((gate, up), -1)), want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("adjacent", [False, True])
@pytest.mark.parametrize("lead", [(5,), (2, 3)])
@pytest.mark.parametrize("heads", [(4, 2), (1, 1), (3, 5)])
def test_rope(dtype, adjacent, lead, heads):
    q, k = (rand(*lead, n, 16, dtype=dtype, seed=n) for n in heads)
    angle = rand(*lead, 8, dtype=torch.float64, seed=3) * 20
    cos, sin = angle.cos().to(dtype), angle.sin().to(dtype)
    wants = [turned(x.double(), cos.double(), sin.double(), adjacent) for x in (q, k)]
    a, b = ops.rope(q, k, cos, sin, adjacent=adjacent)
    assert a is q and b is k
    for got, (want, magnitude) in zip((q, k), wants):
        assert_close(got, want, magnitude)


@pytest.mark.parametrize("adjacent", [False, True])
def test_rope_takes_each_angle_twice_and_one_for_all(adjacent):
    angle = rand(1, 6, 4, dtype=torch.float32)
    cos, sin = angle.cos(), angle.sin()

    def twice(t):
        return t.repeat_interleave(2, -1) if adjacent else torch.cat((t, t), -1)

    q, k = rand(3, 6, 2, 8, dtype=torch.float32), rand(3, 6, 1, 8, dtype=torch.float32)
    q2, k2 = q.clone(), k.clone()
    wide = (3, 6, 4)
    ops.rope(q, k, cos.expand(wide), sin.expand(wide), adjacent=adjacent)
    ops.rope(q2, k2, twice(cos), twice(sin), adjacent=adjacent)
    assert torch.equal(q, q2) and torch.equal(k, k2)
    assert not torch.equal(q[0], q[1])


# --- what is refused ----------------------------------------------------------------------------


def refuses(kind, words, call):
    with pytest.raises(kind, match=words):
        call()


def test_refusals_of_rmsnorm():
    x, w = torch.randn(4, 64), torch.randn(64)
    refuses(TypeError, "x is a list; a tensor was expected", lambda: ops.rmsnorm([1.0], w))
    refuses(TypeError, "torch.float64; torch.float16, .* was expected",
            lambda: ops.rmsnorm(x.double(), w.double()))
    refuses(TypeError, "weight is torch.float16 and x is torch.float32",
            lambda: ops.rmsnorm(x, w.half()))
    refuses(ValueError, r"weight has shape \(63,\); \(64,\) was expected",
            lambda: ops.rmsnorm(x, w[:63]))
    refuses(ValueError, r"strides \(1, 4\); a contiguous tensor was expected \(strides \(64, 1\)",
            lambda: ops.rmsnorm(torch.randn(64, 4).T, w))
    refuses(ValueError, "4 bytes past a multiple of 16",
            lambda: ops.rmsnorm(torch.randn(65)[1:], w))
    refuses(ValueError, "on meta; a CPU or CUDA tensor",
            lambda: ops.rmsnorm(x.to("meta"), w.to("meta")))
    refuses(ValueError, "weight is on meta and x is on cpu", lambda: ops.rmsnorm(x, w.to("meta")))
    refuses(ValueError, "out has shape", lambda: ops.rmsnorm(x, w, out=torch.empty(4, 63)))
    refuses(ValueError, "out is x", lambda: ops.rmsnorm(x, w, out=x))
    refuses(RuntimeError, "requires grad and grad mode is on",
            lambda: ops.rmsnorm(x, w.requires_grad_()))
    with torch.no_grad():
        ops.rmsnorm(x, w)
    refuses(FastInferError, "hidden=1 is outside 2 to 65536",
            lambda: ops.rmsnorm(torch.ones(2, 1), torch.ones(1)))


def test_refusals_of_the_others():
    a, b = torch.randn(4, 6), torch.randn(4, 5)
    refuses(ValueError, "up has shape", lambda: ops.swiglu(a, b))
    refuses(ValueError, "an even number", lambda: ops.swiglu(b))
    refuses(ValueError, "residual has shape", lambda: ops.add_rmsnorm(a, b, torch.ones(6)))
    refuses(ValueError, "residual is x", lambda: ops.add_rmsnorm(a, a, torch.ones(6)))
    q, k = torch.randn(3, 2, 8), torch.randn(3, 1, 8)
    cos = torch.ones(3, 8)
    refuses(ValueError, "the same leading", lambda: ops.rope(q, k[:2], cos, cos))
    refuses(ValueError, "one even number", lambda: ops.rope(q, k[..., :4].contiguous(), cos, cos))
    refuses(ValueError, r"cos has shape \(2, 8\)", lambda: ops.rope(q, k, cos[:2], cos))
    refuses(ValueError, r"sin has shape \(3, 4\)", lambda: ops.rope(q, k, cos, cos[:, :4]))
    refuses(TypeError, "cos is torch.int64", lambda: ops.rope(q, k, cos.long(), cos))


def test_in_place_is_noticed_by_autograd():
    r = torch.randn(2, 64)
    leaf = torch.ones(2, 64, requires_grad=True)
    loss = (leaf * r).sum()  # saves r
    ops.add_rmsnorm(torch.randn(2, 64), r, torch.ones(64))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# --- the operators ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_opcheck(dtype):
    x, r, w = rand(3, 64, dtype=dtype), rand(3, 64, dtype=dtype, seed=1), rand(64, dtype=dtype)
    check = torch.library.opcheck
    check(torch.ops.fastinfer.rmsnorm.default, (x, w, 1e-5))
    check(torch.ops.fastinfer.add_rmsnorm_.default, (x, r, w, 1e-5))
    check(torch.ops.fastinfer.swiglu.default, (x, r))
    check(torch.ops.fastinfer.swiglu.default, (x, None))
    q, k = rand(5, 4, 16, dtype=dtype), rand(5, 2, 16, dtype=dtype)
    cos = torch.ones(5, 8)
    table, row = ops.rope_angles(cos, cos, (5,), 16)
    check(torch.ops.fastinfer.rope_.default, (q, k, table, row, False))


def test_operators_take_strides_and_offsets():
    w = torch.randn(64)
    for x in (torch.randn(64, 6).T, torch.randn(6 * 64 + 1)[1:].view(6, 64)):
        assert torch.equal(torch.ops.fastinfer.rmsnorm(x, w, 1e-6),
                           ops.rmsnorm(x.contiguous().clone(), w))
        residual = torch.empty(64, 6).t().copy_(x)
        want = residual.clone(memory_format=torch.contiguous_format)
        y = torch.ops.fastinfer.add_rmsnorm_(x, residual, w, 1e-6)
        assert torch.equal(y, ops.add_rmsnorm(x.clone(memory_format=torch.contiguous_format),
                                              want, w))
        assert residual.stride() == (1, 6) and torch.equal(residual, want)


def test_operators_have_no_backward():
    x = torch.randn(2, 64, requires_grad=True)
    y = torch.ops.fastinfer.rmsnorm(x, torch.ones(64), 1e-6)
    with pytest.raises(RuntimeError, match="no autograd formula|not.*registered"):
        y.sum().backward()


def test_fake_tensors_and_tracing():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        x, w = torch.empty(3, 64), torch.empty(64)
        assert ops.rmsnorm(x, w).shape == (3, 64)
        assert ops.swiglu(x).shape == (3, 32)
    x, w = torch.randn(3, 64), torch.randn(64)
    traced = torch.jit.trace(lambda a: ops.rmsnorm(a, w), (x,))
    other = torch.randn(3, 64)
    assert torch.equal(traced(other), ops.rmsnorm(other, w))


def test_compiled_functions():
    x, r, w = torch.randn(3, 64), torch.randn(3, 64), torch.randn(64)
    q, k, cos = torch.randn(3, 4, 16), torch.randn(3, 2, 16), torch.randn(3, 8)

    def all_of_them(x, r, q, k):
        r, q, k = r + 1, q * 2, k * 2
        y = ops.add_rmsnorm(x, r, w)
        ops.rope(q, k, cos, cos)
        return ops.rmsnorm(y, w) + ops.swiglu(y, r), q, k

    for got, want in zip(torch.compile(all_of_them, fullgraph=True)(x, r, q, k),
                         all_of_them(x, r, q, k)):
        torch.testing.assert_close(got, want)


# --- the library --------------------------------------------------------------------------------


def test_points_are_kept_and_named():
    kernel = library.Kernel("cpu", "rope", "float32", {"q_heads": 2, "kv_heads": 1,
                                                       "head_dim": 16}, {"trig": 0})
    point, scratch = kernel.prepare((5, 5))
    assert "trig=0" in point and scratch == 0
    free = library.Kernel("cpu", "rope", "float32", {"q_heads": 2, "kv_heads": 1, "head_dim": 16})
    assert "trig=1" in free.prepare((5, 5))[0]


def test_refusals_of_the_library():
    def open_(*arguments):
        return lambda: library.Kernel(*arguments)

    refuses(FastInferError, "did you mean 'rmsnorm'", open_("cpu", "rmsnrom", "float16", {}))
    refuses(FastInferError, "none of auto, cpu, cuda:N", open_("tpu", "rmsnorm", "float16", {}))
    refuses(FastInferError, "hiden", open_("cpu", "rmsnorm", "float16", {"hiden": 64}))
    kernel = library.Kernel("cpu", "rmsnorm", "float16", {"hidden": 64})
    refuses(FastInferError, "rows is 0; 1 to", lambda: kernel.prepare((0,)))
    with pytest.raises(FastInferError) as caught:
        kernel.launch((16, 8, 32), (1,), (), 0)
    assert caught.value.code == "argument" and "x lies at 0x8" in str(caught.value)


@pytest.mark.parametrize("compiled", [True, False])
def test_both_ways_to_launch(compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(library, "_dispatch", None)
    elif library._dispatch is None:
        pytest.skip("the package was not installed, or built without Python's headers")
    x, w = torch.randn(3, 64), torch.randn(64)
    kernel = library.Kernel("cpu", "rmsnorm", "float32", {"hidden": 64})
    tensors = (torch.empty_like(x), x, w)
    kernel.launch(tensors, (3,), (0.5,), 0)
    assert_close(tensors[0], norm(x.double(), w.double(), 0.5))
    kernel.launch(tuple(t.data_ptr() for t in tensors), (3,), (), 0)
    assert_close(tensors[0], norm(x.double(), w.double(), 1e-5))
    gate = torch.randn(3, 80)
    assert_close(ops.swiglu(gate), torch.nn.functional.silu(gate.double()[:, :40])
                 * gate.double()[:, 40:])
    for arguments in (((x, w), (3,), (0.5,)), ((x, x, w), (), (0.5,)), ((x, x, w), (3,), (1., 1.))):
        refuses(TypeError, "3 tensors, 1 sizes and 1 reals were", lambda: kernel.launch(*arguments, 0))
    with pytest.raises((TypeError, AttributeError, OverflowError, ctypes.ArgumentError)):
        kernel.launch((x, "y", w), (3,), (0.5,), 0)
    with pytest.raises((TypeError, OverflowError, ctypes.ArgumentError)):
        kernel.launch((x, x, w), ("3",), (0.5,), 0)


def test_threads():
    import threading

    x, w = torch.randn(4, 256), torch.randn(256)
    want, wrong = ops.rmsnorm(x, w), []

    def work():
        for _ in range(50):
            if not torch.equal(ops.rmsnorm(x, w), want):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
