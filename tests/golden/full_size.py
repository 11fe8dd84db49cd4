#!/usr/bin/env python3
"""full_size.py PROGRAM [--models llama-3.2-3b smollm3-3b] [--device cuda:0] [--small]

The engine at full size against transformers: needs torch, transformers, a GPU that holds a model
in fp32, and disk for one in fp16. For each model random weights are saved as a HuggingFace folder,
32 random ids are continued greedily by transformers in fp32, and the logits after each of the 256
new ids are compared: fp32 transformers is what is right, fp16 transformers shows what fp16 costs.

Passes where, in each form of the engine's step,
  - the engine's error (largest over positions, and root mean square) is no larger than fp16
    transformers' own;
  - the engine's first choice is fp32's wherever fp32's margin exceeds twice the engine's error there;
  - at least 200 of the 256 positions have such a margin.

--db FILE: `fastinfer tps --profile` of each folder as well.
--small: the same code over a model of two layers and a CPU, to see that the script works.
Prints "ok" and "not ok" lines and a JSON object a model and form; exits 1 where one is not ok.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, SmolLM3Config

PROMPT = 32
MODELS = {
    "llama-3.2-3b": (LlamaConfig, dict(
        hidden_size=3072, intermediate_size=8192, num_hidden_layers=28, num_attention_heads=24,
        num_key_value_heads=8, head_dim=128, vocab_size=128256, tie_word_embeddings=True,
        rms_norm_eps=1e-5, max_position_embeddings=131072,
        rope_parameters=dict(rope_type="llama3", rope_theta=500000.0, factor=32.0,
                             low_freq_factor=1.0, high_freq_factor=4.0,
                             original_max_position_embeddings=8192))),
    "smollm3-3b": (SmolLM3Config, dict(
        hidden_size=2048, intermediate_size=11008, num_hidden_layers=36, num_attention_heads=16,
        num_key_value_heads=4, vocab_size=128256, tie_word_embeddings=True, rms_norm_eps=1e-6,
        max_position_embeddings=65536, no_rope_layer_interval=4,
        rope_parameters=dict(rope_type="default", rope_theta=5000000.0))),
}
SMALL = dict(hidden_size=256, intermediate_size=320, num_hidden_layers=4, num_attention_heads=4,
             num_key_value_heads=2, head_dim=64, vocab_size=512)


def make(name, small, device):
    """A model whose attention is far from even and whose activations keep their size."""
    kind, numbers = MODELS[name]
    numbers = {**numbers, **(SMALL if small else {})}
    config = kind(**numbers, bos_token_id=1, eos_token_id=2, pad_token_id=None)
    torch.manual_seed(1)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float16)
    for key, p in model.named_parameters():
        if p.dim() == 1:
            p.data.normal_(1.0, 0.2)
        elif "embed" in key or "lm_head" in key:
            p.data.normal_(0.0, 0.5)
        else:
            sharp = 1.5 if "q_proj" in key or "k_proj" in key else 1.0
            p.data.normal_(0.0, sharp / p.shape[1] ** 0.5)
    return model.eval()


@torch.inference_mode()
def rows_of(model, ids):
    return model(ids).logits[0, PROMPT - 1:].float().cpu().numpy()


def engine_rows(program, folder, ids, form, device, scratch):
    (scratch / "ids").write_text(" ".join(str(i) for i in ids))
    command = [program, "logits", "--model", str(folder), "--ids", str(scratch / "ids"), "--dtype",
               "fp16", "--device", device, "--prefill", str(PROMPT), "--form", form, "--out",
               str(scratch / "logits"), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return numpy.fromfile(scratch / "logits", dtype=numpy.float32).reshape(len(ids) - PROMPT + 1, -1)


def errors(rows, right):
    """The largest difference at each position, in standard deviations of its row."""
    return numpy.abs(rows - right).max(axis=1) / right.std(axis=1)


def judge(name, form, right, half, ours, least):
    spread = right.std(axis=1)
    top = numpy.sort(right, axis=1)[:, -2:]
    margin = (top[:, 1] - top[:, 0]) / spread
    mine, theirs = errors(ours, right), errors(half, right)
    clear = margin > 2 * mine
    same = ours.argmax(axis=1) == right.argmax(axis=1)
    rms = [float((e ** 2).mean() ** 0.5) for e in (mine, theirs)]
    result = dict(model=name, form=form, positions=len(right), error=float(mine.max()),
                  half_error=float(theirs.max()), rms=rms[0], half_rms=rms[1],
                  clear=int(clear.sum()), clear_same=int((clear & same).sum()))
    checks = {
        "error no larger than fp16 transformers'": mine.max() <= theirs.max() and rms[0] <= rms[1],
        "clear choices are fp32's": bool((same | ~clear).all()),
        f"at least {least} of {len(right)} are clear": clear.sum() >= least,
    }
    print(json.dumps(result))
    for what, good in checks.items():
        print(f"{'ok' if good else 'not ok'} - {name}, {form}: {what}")
    return all(checks.values())


def profile(program, folder, device, db):
    """Where a prompt's time goes, and loading beside a plain read of the files."""
    subprocess.run([program, "tps", "--model", str(folder), "--dtype", "fp16", "--device", device,
                    "--profile", "--no-transformers", "--prompt", "512", "--generate", "32",
                    "--repeat", "7", "--db", db, "--quiet"], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("program")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--new", type=int, default=256, help="positions that are compared")
    parser.add_argument("--db", help="also `tps --profile` of each folder, into this database")
    parser.add_argument("--forms", nargs="+", default=["launches", "persistent"])
    a = parser.parse_args()
    device = "cpu" if a.small else a.device
    good = True
    for name in a.models:
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            model = make(name, a.small, device)
            model.save_pretrained(scratch / f"{name}-saved")
            ids = torch.randint(3, 500, (1, PROMPT), device=device,
                                generator=torch.Generator(device).manual_seed(2))
            model = model.float()
            ids = model.generate(ids, max_new_tokens=a.new, min_new_tokens=a.new, do_sample=False)
            right = rows_of(model, ids)[:-1]
            half = rows_of(model.half(), ids)[:-1]
            del model
            if device != "cpu":
                torch.cuda.empty_cache()
            for form in a.forms:
                ours = engine_rows(a.program, scratch / f"{name}-saved", ids[0].tolist(), form, device,
                                   scratch)[:-1]
                good &= judge(name, form, right, half, ours, a.new * 200 // 256)
            if a.db:
                profile(a.program, scratch / f"{name}-saved", device, a.db)
    sys.exit(not good)


if __name__ == "__main__":
    main()
