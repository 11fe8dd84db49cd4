"""fastinfer.Engine on the CPU device: the tokens that transformers computes from the golden
checkpoints."""

import json
import os

import pytest
import torch

import fastinfer

GOLDEN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "golden")
FAMILIES = ("llama", "smollm3", "qwen2", "qwen3", "mistral")


def folder(family):
    return os.path.join(GOLDEN, family)


def prompts(family):
    with open(os.path.join(folder(family), "golden.json")) as file:
        return json.load(file)["prompts"]


def open_cpu(family, **options):
    options = dict(dict(device="cpu", dtype=torch.float32, capacity=192), **options)
    return fastinfer.Engine.from_pretrained(folder(family), **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_are_transformers(family):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder(family), dtype=torch.float32)
    ids = torch.tensor([prompts(family)[1]["tokens"][-12:]])
    with torch.inference_mode():
        theirs = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8,
                                do_sample=False, pad_token_id=0)
    with open_cpu(family) as engine:
        assert engine.generate(ids, max_new_tokens=8, pad_token_id=0).tolist() == theirs.tolist()
        assert engine.persistent is False  # a graph of launches, the CPU device's form


def test_rows_padding_ends_and_streamer():
    a, b = prompts("llama")[0]["tokens"], prompts("llama")[1]["tokens"][:6]
    ids = torch.tensor([[0] * (6 - len(a)) + a, b])
    mask = torch.tensor([[0] * (6 - len(a)) + [1] * len(a), [1] * 6])

    class Heard(list):
        def put(self, value):
            self.append(value.flatten().tolist())

        def end(self):
            self.append("end")

    with open_cpu("llama", batch=2) as engine:
        both = engine.generate(ids, attention_mask=mask, max_new_tokens=6, eos_token_id=[])
        heard = Heard()
        one = engine.generate(torch.tensor([a]), max_new_tokens=6, eos_token_id=[],
                              streamer=heard)
        assert both[0, 6:].tolist() == one[0, len(a):].tolist()
        assert both[0, 6:].tolist() == prompts("llama")[0]["greedy"][:6]
        assert heard == [a] + [[t] for t in one[0, len(a):].tolist()] + ["end"]
        end = both[1, 6].item()
        cut = engine.generate(torch.tensor([b]), max_new_tokens=6, eos_token_id=end)
        assert cut[0, 6:].tolist() == [end]


def test_sampling_follows_its_seed():
    ids = torch.tensor([prompts("llama")[1]["tokens"][:4]])
    how = dict(max_new_tokens=12, eos_token_id=[], do_sample=True, temperature=3.0, top_k=0)
    with open_cpu("llama") as engine:
        runs = [engine.generate(ids, seed=seed, **how).tolist() for seed in (1, 1, 2)]
        assert runs[0] == runs[1] != runs[2]
        greedy = engine.generate(ids, max_new_tokens=12, eos_token_id=[])
        assert engine.generate(ids, seed=3, **dict(how, top_k=1)).tolist() == greedy.tolist()


def test_what_is_refused():
    with pytest.raises(fastinfer.FastInferError, match="no/such"):
        fastinfer.Engine.from_pretrained("no/such/folder", device="cpu")
    with pytest.raises(TypeError, match="a folder, a preset's name or a model"):
        fastinfer.Engine.from_pretrained(torch.nn.Linear(2, 2))
    with open_cpu("llama", capacity=16) as engine:
        with pytest.raises(ValueError, match="do not fit into 16"):
            engine.generate(torch.tensor([[1, 2]]), max_new_tokens=16)
        with pytest.raises(fastinfer.FastInferError, match="is 999"):
            engine.generate(torch.tensor([[999]]), max_new_tokens=1)
        with pytest.raises(ValueError, match="padding on the left"):
            engine.generate(torch.tensor([[1, 2]]), attention_mask=torch.tensor([[1, 0]]))
    with pytest.raises(ValueError, match="closed"):
        engine.generate(torch.tensor([[1]]))


# --- a model that is live in PyTorch --------------------------------------------------------------


def live_model(family, dtype=torch.float32):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder(family), dtype=dtype).eval()


def greedy(model, ids):
    with torch.inference_mode():
        return model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8,
                              do_sample=False, eos_token_id=None, pad_token_id=0).tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_live_model_shares_its_weights(family):
    model = live_model(family)
    ids = torch.tensor([prompts(family)[1]["tokens"][-12:]])
    before = {name: (p.data_ptr(), p.detach().clone()) for name, p in model.named_parameters()}
    plain = greedy(model, ids)
    with fastinfer.Engine.from_pretrained(model, capacity=192) as engine:
        assert engine.generate(ids, max_new_tokens=8, eos_token_id=[]).tolist() == plain
        for name, p in model.named_parameters():  # moved, and the same
            assert p.data_ptr() != before[name][0] and torch.equal(p, before[name][1])
        assert greedy(model, ids) == plain
        inside = {p.data_ptr() for p in model.parameters()}
    for name, p in model.named_parameters():
        assert p.data_ptr() not in inside and torch.equal(p, before[name][1])
    assert greedy(model, ids) == plain


def test_what_pytorch_writes_the_engine_reads():
    model = live_model("llama")
    ids = torch.tensor([prompts("llama")[1]["tokens"][-12:]])
    with fastinfer.Engine.from_pretrained(model, capacity=64) as engine:
        first = engine.generate(ids, max_new_tokens=8, eos_token_id=[]).tolist()
        with torch.no_grad():
            for layer in model.model.layers:
                layer.self_attn.v_proj.weight.neg_()
        second = engine.generate(ids, max_new_tokens=8, eos_token_id=[]).tolist()
        assert first != second == greedy(model, ids)


def test_live_models_that_do_not_fit_stay_as_they_are():
    model = live_model("qwen3")
    before = [p.data_ptr() for p in model.parameters()]
    model.model.norm.extra = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(fastinfer.FastInferError, match="no weight 'model.norm.extra'"):
        fastinfer.Engine.from_pretrained(model, capacity=64)
    del model.model.norm.extra
    assert [p.data_ptr() for p in model.parameters()] == before
    model.lm_head.half()
    with pytest.raises(TypeError, match="one device and one dtype"):
        fastinfer.Engine.from_pretrained(model, capacity=64)
    with pytest.raises(TypeError, match="dtype"):  # the model's, and not to be chosen
        fastinfer.Engine.from_pretrained(live_model("llama"), dtype=torch.float16)
