#!/usr/bin/env python3
"""Tokens a second of transformers' own eager decoding, a repeat for each line on standard input.

    transformers_tps.py (--model DIR | --config FILE) --dtype fp16 --batch 1 --device cuda

Says "ready <versions>" when the model is loaded (with --config: random weights of those shapes), or
one line why it cannot. Then, for each line "<new tokens> <id> <id> ...", one greedy generation of
exactly so many tokens, and the line "<ms to the first token> <tokens a second after it>". All
sequences of a batch have the same prompt. Eager attention, dynamic cache: what a script gets that
asks for nothing.
"""
import argparse
import sys
import time


def main():
    parser = argparse.ArgumentParser()
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model")
    source.add_argument("--config")
    parser.add_argument("--dtype", default="fp16", choices=("fp16", "bf16", "fp32"))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    try:
        import torch
        import transformers
    except ImportError as missing:
        print(f"{missing} (pip install torch transformers)", flush=True)
        return 0
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[options.dtype]
    torch.set_grad_enabled(False)
    model = load(options, dtype, torch, transformers)
    print(f"ready transformers {transformers.__version__}, torch {torch.__version__}, eager",
          flush=True)
    for line in sys.stdin:
        words = [int(word) for word in line.split()]
        first_ms, tokens_s = repeat(model, words[0], words[1:], options, torch)
        print(f"{first_ms:.6f} {tokens_s:.6f}", flush=True)
    return 0


def load(options, dtype, torch, transformers):
    if options.model:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            options.model, dtype=dtype, attn_implementation="eager")
        return model.to(options.device).eval()
    import json
    with open(options.config) as file:
        fields = json.load(file)
    config = getattr(transformers, fields["architectures"][0].replace("ForCausalLM", "Config"))
    config = config(**fields)
    config._attn_implementation = "eager"
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(options.device):
            model = transformers.AutoModelForCausalLM.from_config(config)
    finally:
        torch.set_default_dtype(before)
    return model.eval()


def repeat(model, new, ids, options, torch):
    """Times the first token by a clock started before the prompt, the rest from token to token."""
    wait = torch.cuda.synchronize if options.device.startswith("cuda") else (lambda: None)
    marks = []

    class Watch:
        def put(self, value):
            if marks or getattr(self, "prompt_seen", False):
                if len(marks) == 0 or len(marks) == new - 1:
                    wait()
                marks.append(time.perf_counter())
            self.prompt_seen = True

        def end(self):
            pass

    prompt = torch.tensor([ids] * options.batch, device=options.device)
    limits = dict(max_new_tokens=new, min_new_tokens=new, do_sample=False, use_cache=True,
                  pad_token_id=0)
    wait()
    start = time.perf_counter()
    if options.batch == 1:
        model.generate(prompt, attention_mask=torch.ones_like(prompt), streamer=Watch(), **limits)
        wait()
        end = time.perf_counter()
        return 1e3 * (marks[0] - start), (new - 1) / (end - marks[0])
    model.generate(prompt, attention_mask=torch.ones_like(prompt),
                   **{**limits, "max_new_tokens": 1, "min_new_tokens": 1})
    wait()
    first = time.perf_counter() - start
    start = time.perf_counter()
    model.generate(prompt, attention_mask=torch.ones_like(prompt), **limits)
    wait()
    rest = time.perf_counter() - start - first
    return 1e3 * first, options.batch * (new - 1) / rest


if __name__ == "__main__":
    sys.exit(main())
