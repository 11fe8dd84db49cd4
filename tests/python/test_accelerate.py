"""fastinfer.accelerate on small models of five families: the same logits and greedy tokens, undone
without a trace, and what is not recognised said."""

import copy

import pytest
import torch
import transformers
from torch import nn

import fastinfer
import models

ids = torch.tensor([[1, 17, 44, 90, 5, 61, 33, 8], [1, 99, 3, 3, 28, 70, 110, 52]])


def quiet(model, *arguments, **options):
    return fastinfer.accelerate(model, *arguments, report=False, **options)


def forwards(model):
    return {name: vars(m)["forward"] for name, m in model.named_modules() if "forward" in vars(m)}


def assert_same_greedy(model, plain, fast, length, tolerance):
    """Tokens are equal until the plain model itself is as good as undecided."""
    for row in range(plain.shape[0]):
        for step in range(ids.shape[1], length):
            if plain[row, step] == fast[row, step]:
                continue
            top = model(plain[row:row + 1, :step]).logits[0, -1].float().topk(2).values
            assert top[0] - top[1] <= tolerance, "row %d, step %d" % (row, step)
            break


# --- the five families --------------------------------------------------------------------------


@pytest.mark.parametrize("family", models.FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype,tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 0.03),
                                             (torch.float16, 0.004)])
def test_logits(family, attention, dtype, tolerance, launches):
    model = models.build(family, dtype, attention)
    mask = torch.ones_like(ids)
    mask[1, :3] = 0  # padded on the left
    with torch.inference_mode():
        plain = model(ids, attention_mask=mask).logits.float()
        assert not launches
        done = quiet(model)
        assert not done.left_alone
        fast = model(ids, attention_mask=mask).logits.float()
    layers = model.config.num_hidden_layers
    roped = 2 if family == "SmolLM3" else layers
    normed = 4 * layers if family == "Qwen3" else 2 * layers
    assert {name: launches.count(name) for name in set(launches)} == {
        "rmsnorm": normed + 1 - layers,  # a layer's second norm is part of add_rmsnorm
        "add_rmsnorm": layers, "swiglu": layers, "rope": roped}
    assert (fast - plain).abs().max() <= tolerance * plain.abs().max()
    assert (fast - plain).abs().max() > 0  # something else ran


@pytest.mark.parametrize("family", models.FAMILIES)
@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("dtype,tolerance", [(torch.float32, 1e-4), (torch.bfloat16, 0.3)])
def test_generate(family, cache, dtype, tolerance, launches):
    model = models.build(family, dtype)
    options = dict(max_new_tokens=12, do_sample=False, disable_compile=True,
                   attention_mask=torch.ones_like(ids))
    if cache == "static":
        options["cache_implementation"] = "static"
    with torch.inference_mode():
        plain = model.generate(ids, **options)
        with quiet(model):
            fast = model.generate(ids, **options)
            assert launches.count("swiglu") == 12 * 3
        length = ids.shape[1] + 12
        assert plain.shape == fast.shape == (2, length)
        assert_same_greedy(model, plain, fast, length, tolerance)


@pytest.mark.parametrize("family", ["Llama", "Qwen3"])
def test_compiled(family, launches):
    torch._dynamo.reset()
    model = models.build(family)
    with torch.no_grad():
        plain = model(ids, use_cache=False).logits
        with quiet(model):
            del launches[:]
            fast = torch.compile(model, fullgraph=True)(ids, use_cache=False).logits
            assert launches.count("rope") == 3 and launches.count("add_rmsnorm") == 3
        again = model(ids, use_cache=False).logits
    assert (fast - plain).abs().max() <= 1e-5 * plain.abs().max()
    assert torch.equal(again, plain)


def test_compiled_for_any_length():
    torch._dynamo.reset()
    model = models.build("Llama")
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    with torch.no_grad():
        inputs = [ids, ids[:, :5], ids.repeat(1, 3)]
        plain = [model(i, use_cache=False).logits for i in inputs]
        with quiet(model):
            for i, want in zip(inputs, plain):
                got = compiled(i, use_cache=False).logits
                assert (got - want).abs().max() <= 1e-5 * want.abs().max()


def test_the_table_of_angles_goes_with_them():
    from fastinfer import forwards as module

    model = models.build("Llama")
    with torch.inference_mode(), quiet(model):
        model(ids)
        assert module._angles.cos is not None and module._angles.cos() is None
        assert not module._angles.found


def test_scaled_rope():
    """Llama 3's frequencies: the angles are the model's own, whatever made them."""
    scaling = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=64)
    new = int(transformers.__version__.split(".")[0]) >= 5
    model = models.build("Llama", **({"rope_parameters": dict(scaling, rope_theta=1e4)} if new else
                                     {"rope_scaling": scaling, "rope_theta": 1e4}))
    with torch.inference_mode():
        plain = model(ids.repeat(1, 8)).logits
        with quiet(model):
            assert (model(ids.repeat(1, 8)).logits - plain).abs().max() <= 1e-5 * plain.abs().max()


def test_two_batches_take_turns():
    """The angles kept from one forward are not used for another's positions."""
    model = models.build("Llama")
    with torch.no_grad():
        inputs = [dict(input_ids=ids, position_ids=torch.arange(8)[None] + shift)
                  for shift in (0, 40)]
        plain = [model(**i).logits for i in inputs]
        with quiet(model):
            for _ in range(2):
                for i, want in zip(inputs, plain):
                    assert (model(**i).logits - want).abs().max() <= 1e-5 * want.abs().max()


def test_hidden_states_are_not_written_over():
    model = models.build("Llama")
    with torch.inference_mode():
        plain = model(ids, output_hidden_states=True).hidden_states
        with quiet(model):
            fast = model(ids, output_hidden_states=True).hidden_states
    for a, b in zip(plain, fast):
        assert (a - b).abs().max() <= 1e-5 * a.abs().max()


# --- doing and undoing --------------------------------------------------------------------------


def test_restore_leaves_no_trace():
    model = models.build("Llama")
    with torch.inference_mode():
        plain = model(ids).logits
        quiet(model)
        assert forwards(model)
        assert fastinfer.restore(model) == 3 * 5 + 1
        assert not forwards(model)
        assert torch.equal(model(ids).logits, plain)
    assert fastinfer.restore(model) == 0


def test_twice_is_once():
    model = models.build("Llama")
    first = quiet(model)
    before = forwards(model)
    second = quiet(model)
    assert not second.replaced and second.already == first.replaced
    assert forwards(model) == before
    second.restore()  # what it did not do it does not undo
    assert forwards(model) == before
    first.restore()
    assert not forwards(model)


def test_with_undoes_even_after_an_exception():
    model = models.build("Llama")
    quiet(model, "swiglu")
    outer = forwards(model)
    with pytest.raises(KeyError):
        with quiet(model) as done:
            assert done.already == {("swiglu", "LlamaMLP"): 3}
            raise KeyError
    assert forwards(model) == outer


def test_kernels_are_chosen(launches):
    model = models.build("Llama")
    with torch.inference_mode(), quiet(model, kernels=("rope", "rmsnorm")):
        model(ids)
    assert set(launches) == {"rope", "rmsnorm"}
    with pytest.raises(ValueError, match="no kernel 'softmax'; rmsnorm, add_rmsnorm, swiglu, rope"):
        fastinfer.accelerate(model, kernels=("softmax",))


def test_other_models_of_the_family_are_not_touched(launches):
    one, other = models.build("Llama"), models.build("Llama")
    quiet(one)
    del launches[:]
    with torch.inference_mode():
        other(ids)
        assert not launches
        clone = copy.deepcopy(one)
        assert forwards(clone)["model.norm"].__self__ is clone.model.norm
        assert torch.equal(clone(ids).logits, one(ids).logits)


def test_report(capsys):
    fastinfer.accelerate(models.build("Qwen3"))
    said = capsys.readouterr().out
    assert "fastinfer: Qwen3ForCausalLM\n" in said and "  rmsnorm: 13 x Qwen3RMSNorm\n" in said
    assert "points on CPU" in said and "left alone" not in said


# --- gradients ----------------------------------------------------------------------------------


def test_training_runs_the_original(launches):
    from fastinfer import forwards as module

    model = models.build("Llama")
    model(ids, labels=ids).loss.backward()
    plain = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    quiet(model)
    del launches[:]
    module._warned = False
    with pytest.warns(UserWarning, match="gradients are wanted"):
        model(ids, labels=ids).loss.backward()
    assert not launches
    for name, p in model.named_parameters():
        assert torch.equal(p.grad, plain[name]), name


# --- what is left alone -------------------------------------------------------------------------


def reasons(done):
    return {(kernel, cls): why for kernel, cls, why in done.left_alone}


def test_gemma_is_recognised_in_part():
    """Its norm is x * (1 + weight) and its activation GELU; its rope is the usual."""
    model = models.build("Gemma", head_dim=16)
    done = quiet(model)
    assert set(done.replaced) == {("rope", "GemmaAttention")}
    why = reasons(done)
    assert "something else" in why[("rmsnorm", "GemmaRMSNorm")]
    assert "not SiLU" in why[("swiglu", "GemmaMLP")]
    assert ("add_rmsnorm", "GemmaDecoderLayer") in why
    assert "left alone: it computes something else" in str(done)
    with torch.inference_mode():
        fast = model(ids).logits
        fastinfer.restore(model)
        assert (fast - model(ids).logits).abs().max() <= 1e-5 * fast.abs().max()


def test_layers_put_together_otherwise_are_left_alone():
    """OLMo 2 norms behind its attention; its layers have no input_layernorm at all."""
    model = models.build("Olmo2")
    with torch.inference_mode():
        plain = model(ids).logits
        done = quiet(model)
        assert not any(kernel == "add_rmsnorm" for kernel, _ in done.replaced)
        assert (model(ids).logits - plain).abs().max() <= 1e-5 * plain.abs().max()


def test_phi3_is_recognised_in_part(launches):
    """Gate and up in one projection, q, k and v in another; dropout in its residuals."""
    model = models.build("Phi3")
    with torch.inference_mode():
        plain = model(ids).logits
        done = quiet(model)
        fast = model(ids).logits
    assert set(done.replaced) == {("rope", "Phi3Attention"), ("swiglu", "Phi3MLP"),
                                  ("rmsnorm", "Phi3RMSNorm")}
    assert {n: launches.count(n) for n in set(launches)} == {"rmsnorm": 7, "swiglu": 3, "rope": 3}
    assert (fast - plain).abs().max() <= 1e-5 * plain.abs().max()


def test_pairs_turned_otherwise_are_left_alone():
    """Cohere turns neighbours; its norms are LayerNorms."""
    model = models.build("Cohere")
    with torch.inference_mode():
        plain = model(ids).logits
        done = quiet(model)
        assert reasons(done) == {
            ("rope", "CohereAttention"): "its rotary embedding turns other pairs"}
        assert (model(ids).logits - plain).abs().max() <= 1e-5 * plain.abs().max()


class ScaledDecoderLayer(transformers.models.llama.modeling_llama.LlamaDecoderLayer):
    def forward(self, hidden_states, **kwargs):
        return 0.5 * super().forward(hidden_states, **kwargs)


def test_a_layer_with_another_residual_is_left_alone():
    model = models.build("Llama")
    for layer in model.model.layers:
        layer.__class__ = ScaledDecoderLayer
    why = reasons(quiet(model))
    assert why[("add_rmsnorm", "ScaledDecoderLayer")] == "its layer is put together in another way"


def test_forwards_of_others_are_left_alone():
    model = models.build("Llama")
    own = lambda x: x  # noqa: E731
    model.model.norm.forward = own
    done = quiet(model)
    assert "replaced by someone else" in reasons(done)[("rmsnorm", "LlamaRMSNorm")]
    fastinfer.restore(model)
    assert model.model.norm.forward is own


def test_weights_that_lie_askew_are_left_alone():
    model = models.build("Llama")
    ids = torch.tensor([[1, 17, 44, 90]])
    norm = model.model.norm
    norm.weight.data = torch.cat((norm.weight.data[:1], norm.weight.data))[1:]
    assert norm.weight.data_ptr() % 16
    with torch.no_grad():
        plain = model(ids).logits
        with fastinfer.accelerate(model, report=False) as done:
            fast = model(ids).logits
    assert reasons(done) == {
        ("rmsnorm", "LlamaRMSNorm"): "its weight does not lie at a multiple of 16 bytes"}
    assert done.replaced["rmsnorm", "LlamaRMSNorm"] == 6
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)


def test_what_holds_nothing_says_so():
    assert "nothing in it was recognised" in str(quiet(nn.Sequential(nn.Linear(4, 4))))
    why = reasons(quiet(models.build("Llama").to("meta")))
    assert why[("swiglu", "LlamaMLP")] == "its weights are not loaded"
    why = reasons(quiet(models.build("Llama", torch.float64)))
    assert why[("rmsnorm", "LlamaRMSNorm")] == "its weights are torch.float64"


def test_a_kernel_that_cannot_run_is_left_alone(monkeypatch):
    from fastinfer import library, ops

    def no_compiler(name, like, *sizes):
        if name == "swiglu":
            raise library.FastInferError(4, "no host C++ compiler")
        return "block=32"

    monkeypatch.setattr(ops, "prepare", no_compiler)
    done = quiet(models.build("Llama"))
    assert reasons(done) == {("swiglu", "LlamaMLP"): "no host C++ compiler"}


def test_hooks_on_a_norm_still_run():
    model, seen = models.build("Llama"), []
    model.model.layers[1].post_attention_layernorm.register_forward_hook(
        lambda *_: seen.append(1))
    with torch.inference_mode(), quiet(model):
        model(ids)
    assert seen == [1]


def test_tensors_of_another_kind_run_the_original(launches):
    class Sharded(torch.Tensor):
        pass

    model = models.build("Llama")
    quiet(model, "rmsnorm")
    del launches[:]
    with torch.no_grad():
        got = model.model.norm(torch.randn(2, 64).as_subclass(Sharded))
    assert isinstance(got, Sharded) and not launches


def test_mixed_dtypes_run_the_original(launches):
    """Norm weights in fp32 above fp16 activations: transformers gives fp32, and so it stays."""
    model = models.build("Llama", torch.float16)
    norm = model.model.norm.float()
    x = torch.randn(2, 64).half()
    with torch.inference_mode():
        plain = norm(x)
        quiet(model, "rmsnorm")
        del launches[:]
        assert torch.equal(norm(x), plain) and plain.dtype == torch.float32
    assert not launches
