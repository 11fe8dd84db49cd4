#!/usr/bin/env python3
"""make.py [FAMILY...] - the golden checkpoints: small random models of every family we read.

Needs torch and transformers (made with those named in each golden.json), no GPU. For each family
it writes, beside this file, <family>/config.json, generation_config.json, model*.safetensors in
fp16, and golden.json: for prompts of 1, 7, 64 and 130 tokens the logits of the last position and
40 greedy tokens (each with its margin, first logit less second), computed by transformers in fp32
from the fp16 weights as saved.

A random model says little unless it is made to: attention is near uniform (so that positions,
windows and heads do not matter) and the residual copies the last token. So norms and biases are
random, the layers' outputs large, q and k scaled until the mean entropy of attention is under half
of a uniform one's, and seeds are tried until the greedy tokens vary and are no near ties.
"""
import json
import math
import pathlib
import shutil
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
LENGTHS = (1, 7, 64, 130)
GREEDY = 40
LEAST_MARGIN = 0.003  # of the first logit over the second, in standard deviations of a row
COMMON = dict(vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
              max_position_embeddings=512, bos_token_id=1, eos_token_id=2, pad_token_id=None)
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0,
              high_freq_factor=4.0, original_max_position_embeddings=48)


def plain(theta):
    return dict(rope_parameters=dict(rope_type="default", rope_theta=theta))


# what each shows: group sizes 3, 1, 3, 4, 2; head_dim 64 and 128; q_dim equal to hidden or not
FAMILIES = {
    "llama": ("Llama", dict(
        hidden_size=48,  # the class wants a multiple of the heads
        num_attention_heads=6, num_key_value_heads=2, head_dim=64, tie_word_embeddings=True,
        rms_norm_eps=1e-5, rope_parameters=LLAMA3)),
    "llama_bias": ("Llama", dict(
        num_attention_heads=1, num_key_value_heads=1, intermediate_size=64, attention_bias=True,
        tie_word_embeddings=False, rms_norm_eps=1e-5, vocab_size=192, **plain(500.0))),
    "smollm3": ("SmolLM3", dict(
        num_hidden_layers=4, intermediate_size=64, num_attention_heads=1, num_key_value_heads=1,
        no_rope_layer_interval=4, tie_word_embeddings=True, rms_norm_eps=1e-6, **plain(5000.0))),
    "qwen2": ("Qwen2", dict(
        num_attention_heads=3, num_key_value_heads=1, head_dim=64, tie_word_embeddings=True,
        rms_norm_eps=1e-6, use_sliding_window=True, sliding_window=20, max_window_layers=1,
        **plain(1000.0))),
    "qwen3": ("Qwen3", dict(
        num_attention_heads=4, num_key_value_heads=1, head_dim=128, intermediate_size=64,
        tie_word_embeddings=True, rms_norm_eps=1e-6, eos_token_id=[2, 3], **plain(1000.0))),
    "mistral": ("Mistral", dict(
        num_attention_heads=2, num_key_value_heads=1, head_dim=64, tie_word_embeddings=False,
        rms_norm_eps=1e-5, sliding_window=24, **plain(1000.0))),
}


def random_model(kind, options, seed, sharpness):
    torch.manual_seed(seed)
    config = getattr(transformers, kind + "Config")(**{**COMMON, **options})
    model = getattr(transformers, kind + "ForCausalLM")(config).float().eval()
    for name, weight in model.named_parameters():
        part = name.split(".")[-2]
        with torch.no_grad():
            if weight.ndim == 1 and "norm" in name:
                weight.uniform_(0.5, 1.5)
                if part in ("q_norm", "k_norm"):
                    weight.mul_(sharpness)
            elif weight.ndim == 1:
                weight.normal_(0, 0.5)
            elif part in ("embed_tokens", "lm_head"):
                weight.normal_(0, 0.3)
            else:
                weight.normal_(0, 1.5 / math.sqrt(weight.shape[1]))
                if part in ("q_proj", "k_proj"):
                    weight.mul_(sharpness)
    return model


def entropy(model, tokens):
    """The mean over layers, heads and rows of attention's entropy over a uniform one's."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        maps = model(torch.tensor([tokens]), output_attentions=True).attentions
    worst = 0
    for p in maps:
        p = p[0, :, 8:].double()
        seen = (p > 0).sum(-1).clamp(min=2)
        worst = max(worst, float((-(p * (p + 1e-300).log()).sum(-1) / seen.log()).mean()))
    return worst


def save(model, folder):
    shutil.rmtree(folder, ignore_errors=True)
    small = "120KB" if folder.name == "mistral" else "1GB"  # one family is in shards
    model.half().save_pretrained(folder, max_shard_size=small)
    for file in folder.iterdir():
        file.chmod(0o644)


def run(folder):
    """golden.json's text, or None where a greedy choice is a near tie or all are alike."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                 attn_implementation="eager").eval()
    model.generation_config.eos_token_id = None
    numbers = torch.Generator().manual_seed(11)
    prompts, seen = [], set()
    for length in LENGTHS:
        tokens = torch.randint(4, model.config.vocab_size, (length,), generator=numbers).tolist()
        row, greedy, margins, last = list(tokens), [], [], None
        for _ in range(GREEDY):
            with torch.no_grad():
                logits = model(torch.tensor([row]), use_cache=False).logits[0, -1]
            last = logits if last is None else last
            top = logits.topk(2).values
            if float(top[0] - top[1]) < LEAST_MARGIN * float(logits.std()):
                return None
            greedy.append(int(logits.argmax()))
            margins.append(float(f"{top[0] - top[1]:.3g}"))
            row.append(greedy[-1])
        seen |= set(greedy)
        prompts.append(dict(tokens=tokens, greedy=greedy, margins=margins,
                            logits=[float(f"{x:.8g}") for x in last.tolist()]))
    if len(seen) < 24:
        return None
    made = f"transformers {transformers.__version__}, torch {torch.__version__}, fp32"
    lines = ",\n".join(json.dumps(p, separators=(",", ":")) for p in prompts)
    return f'{{"made_by": "{made}",\n"prompts": [\n{lines}\n]}}\n'


def make(family):
    kind, options = FAMILIES[family]
    folder = HERE / family
    probe = torch.randint(4, 190, (130,), generator=torch.Generator().manual_seed(5)).tolist()
    for seed in range(1, 200):
        sharpness = 0.6
        while entropy(random_model(kind, options, seed, sharpness), probe) >= 0.45:
            sharpness *= 1.1
        save(random_model(kind, options, seed, sharpness), folder)
        text = run(folder)
        if text:
            (folder / "golden.json").write_text(text)
            stored = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            print(f"{family}: seed {seed}, q and k times {sharpness:.2f}, entropy "
                  f"{entropy(stored, probe):.3f} of uniform", flush=True)
            return
    sys.exit(f"{family}: no seed gave a model whose greedy tokens are safe to compare")


if __name__ == "__main__":
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for wanted in sys.argv[1:] or FAMILIES:
        make(wanted)
