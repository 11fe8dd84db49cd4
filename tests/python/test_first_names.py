"""The two modules of FastInfer's first version."""

import torch
import transformers.models.llama.modeling_llama as modeling_llama

import models

ids = torch.tensor([[1, 17, 44, 90, 5, 61, 33, 8]])


def test_injection_by_hand(monkeypatch, launches):
    import smol_kernels
    from testing_llama_and_smol import FastRMS, fast_mlp, fast_rope_embedding

    assert smol_kernels.rmsnorm
    model = models.build("Llama")
    with torch.no_grad():
        plain = model(ids).logits
        for layer in model.model.layers:
            layer.input_layernorm = FastRMS(layer.input_layernorm)
            layer.post_attention_layernorm = FastRMS(layer.post_attention_layernorm)
            layer.mlp.forward = fast_mlp.__get__(layer.mlp, modeling_llama.LlamaMLP)
        model.model.norm = FastRMS(model.model.norm)
        monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", fast_rope_embedding)
        fast = model(ids).logits
    assert {n: launches.count(n) for n in set(launches)} == {"rmsnorm": 7, "swiglu": 3, "rope": 3}
    assert (fast - plain).abs().max() <= 1e-5 * plain.abs().max()


def test_rope_leaves_its_arguments_alone():
    from testing_llama_and_smol import fast_rope_embedding

    # as a model has them: heads behind the sequence in memory, where a kernel could write in place
    q, k = torch.randn(2, 7, 4, 16).transpose(1, 2), torch.randn(2, 7, 2, 16).transpose(1, 2)
    angle = torch.randn(1, 7, 8)
    cos, sin = torch.cat((angle, angle), -1).cos(), torch.cat((angle, angle), -1).sin()
    want = modeling_llama.apply_rotary_pos_emb(q, k, cos, sin)
    before = q.clone(), k.clone()
    for got in (fast_rope_embedding(q, k, cos, sin), fast_rope_embedding(q, k, cos, sin, None, 1)):
        assert torch.equal(q, before[0]) and torch.equal(k, before[1])
        for a, b in zip(got, want):
            torch.testing.assert_close(a, b)
    q, k = q.transpose(1, 2), k.transpose(1, 2)
    for a, b in zip(fast_rope_embedding(q, k, cos, sin, unsqueeze_dim=2), want):
        torch.testing.assert_close(a.transpose(1, 2), b)
    assert torch.equal(q.transpose(1, 2), before[0]) and torch.equal(k.transpose(1, 2), before[1])


def test_smol_kernels():
    import smol_kernels

    x, w = torch.randn(2, 3, 64), torch.randn(64)
    torch.testing.assert_close(smol_kernels.rmsnorm(x, w, 1e-5),
                               torch.nn.functional.rms_norm(x, (64,), w, 1e-5))
    gate, up = torch.randn(3, 40), torch.randn(3, 40)
    out = torch.empty_like(gate)
    smol_kernels.swiglu(gate, up, out)
    torch.testing.assert_close(out, torch.nn.functional.silu(gate) * up)
    x = torch.randn(2, 4, 7, 16)
    angle = torch.randn(1, 1, 7, 8).repeat(2, 4, 1, 2)
    want, _ = modeling_llama.apply_rotary_pos_emb(x, x, angle[:, 0].cos(), angle[:, 0].sin())
    smol_kernels.rope(x, angle.cos(), angle.sin())
    torch.testing.assert_close(x, want)
