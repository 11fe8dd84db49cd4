"""Tokens a second: transformers, the same with the kernels injected, and the library's engine.

    python -m fastinfer.benchmark --models llama-3.2-3b smollm3-3b

Each model is loaded in fp16, from --weights or with random weights of its shapes, and continues one
prompt greedily: the three in turns, repeat by repeat. What they say is compared before any of it is
called fast. docs/python.md of the source tree has the rest.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
import time

import torch

from . import benchmark_counts, benchmark_models, benchmark_sides, benchmark_store
from .benchmark_models import BadInput
from .library import Device, FastInferError

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
LEAST_REPEATS = 6  # fewer have no interval of 95% from order statistics


def _options(arguments):
    parser = argparse.ArgumentParser(prog="python -m fastinfer.benchmark",
                                     description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--models", nargs="+", metavar="NAME",
        help="of %s, or folders' names in --weights (the first two of 3b; tiny on the CPU)"
        % ", ".join(benchmark_models.PRESETS))
    add("--weights", metavar="DIR", help="a HuggingFace folder, or one that holds a folder a model; "
        "without it weights are random")
    add("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    add("--dtype", default="fp16", choices=DTYPES)
    add("--attention", default="eager", choices=("eager", "sdpa"), help="transformers' (eager)")
    add("--prompt", type=int, default=32, metavar="N", help="tokens of the prompt (32)")
    add("--generate", type=int, default=128, metavar="N", help="new tokens (128)")
    add("--repeat", type=int, default=9, metavar="N", help="times each does it (9)")
    add("--db", default="results/fastinfer.db", metavar="FILE")
    add("--no-db", action="store_true", help="store nothing, draw nothing")
    add("--no-counts", action="store_true", help="without counting launches a token")
    add("--json", action="store_true", help="results as JSON on standard output")
    options = parser.parse_args(arguments)
    for name, least in (("prompt", 1), ("generate", 2), ("repeat", 1)):
        if getattr(options, name) < least:
            raise BadInput("--%s is %d; %d or more was expected"
                           % (name, getattr(options, name), least))
    if options.device == "cuda":
        options.device = "cuda:0"
    _check_device(options.device)
    if not options.models:
        options.models = ["tiny"] if options.device == "cpu" else ["llama-3.2-3b", "smollm3-3b"]
    return options


def _check_device(name):
    kind, _, number = name.partition(":")
    if name == "cpu":
        return
    if kind != "cuda" or not number.isdigit():
        raise BadInput("--device %s: cpu or cuda:N was expected" % name)
    if int(number) >= torch.cuda.device_count():
        raise BadInput("--device %s: PyTorch sees %d GPUs" % (name, torch.cuda.device_count()))


def _say(options):
    shown = sys.stderr.isatty()
    return lambda text: print("\r\033[K%s" % text, end="", file=sys.stderr, flush=True) \
        if shown else None


# --- one model ----------------------------------------------------------------------------------


def _sides(name, folder, options, scratch, say):
    """(model, [transformers, injected, engine])."""
    dtype, capacity = DTYPES[options.dtype], options.prompt + options.generate
    say("%s: loading" % name)
    if folder is None:
        model = benchmark_models.make(name, dtype, options.device, options.attention)
        folder = scratch
        model.save_pretrained(folder)
    else:
        model = benchmark_models.load(folder, dtype, options.device, options.attention)
    return model, [benchmark_sides.Transformers(model, options.attention),
                   benchmark_sides.Injected(model, options.attention),
                   benchmark_sides.Library(folder, options.device, dtype,
                                           max(capacity, options.prompt + benchmark_counts.LONG))]


def _prompt(model, options):
    vocab = model.config.vocab_size
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(3, vocab, (1, options.prompt), generator=generator)
    return ids.to(options.device)


def run_model(name, folder, options, say):
    """The model's result, a dict: its settings and a dict a side."""
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        model, sides = _sides(name, folder, options, scratch, say)
        try:
            ids = _prompt(model, options)
            benchmark_sides.measure(sides, ids, options.generate, options.repeat, say)
            if not options.no_counts:
                for side in sides:
                    say("%s: counting" % side.engine)
                    side.counts = benchmark_counts.a_token(side, ids)
        finally:
            sides[-1].close()
        bytes_a_step = benchmark_models.step_bytes(model, options.prompt + options.generate // 2)
        benchmark_sides.compare(sides)
        benchmark_sides.judge(sides, model, ids)
    say("")
    return dict(model=name, weights=folder or "random", dtype=options.dtype, batch=1,
                prompt=options.prompt, generated=options.generate, repeats=options.repeat,
                step_bytes=bytes_a_step, left_alone=[" ".join(key) for key in sides[1].left_alone],
                sides=[_result(side, sides[0]) for side in sides])


def _result(side, base):
    first = benchmark_sides.median([t[0] for t in side.times])
    tokens = benchmark_sides.median([t[1] for t in side.times])
    result = dict(engine=side.engine, configs=side.configs, tokens_s=tokens[0],
                  tokens_low=tokens[1], tokens_high=tokens[2], first_ms=first[0],
                  first_low_ms=first[1], first_high_ms=first[2], a_token=side.counts,
                  difference=None)
    if side is not base:
        result.update(zip(("ratio", "ratio_low", "ratio_high"),
                          benchmark_sides.ratio(side, base)))
    if side.difference:
        result["difference"] = dict(vars(side.difference), text=str(side.difference))
    return result


def is_wrong(side):
    return side["difference"] is not None and side["difference"]["verdict"] == "wrong"


# --- what came of it ----------------------------------------------------------------------------


def print_result(result, device):
    print("%s (%s weights), %s, %d prompt tokens, %d new, %d repeats, %s"
          % (result["model"], result["weights"], result["dtype"], result["prompt"],
             result["generated"], result["repeats"], device))
    counts = [side["a_token"] for side in result["sides"] if side["a_token"]]
    names = list(counts[0]) if counts else []
    print("  %-22s %9s %-20s %8s %-16s %10s%s  %s" % (
        "", "tok/s", "", "of eager", "", "first ms",
        "".join("%11s" % name for name in names), "tokens"))
    for side in result["sides"]:
        of = side.get("ratio") and "%7.2fx %-16s" % (
            side["ratio"], "[%.2f, %.2f]" % (side["ratio_low"], side["ratio_high"]))
        numbers = "".join("%11.1f" % side["a_token"][name] if side["a_token"] else "%11s" % "-"
                          for name in names)
        said = "as eager's" if side["difference"] is None else side["difference"]["text"]
        print("  %-22s %9.2f %-20s %s %10.1f%s  %s" % (
            side["engine"], side["tokens_s"],
            "[%.2f, %.2f]" % (side["tokens_low"], side["tokens_high"]), of or " " * 25,
            side["first_ms"], numbers, said))
    for side in result["sides"]:
        print("  %s: %s" % (side["engine"], side["configs"]))
    if names:
        print("  %s are those of a decode step" % ", ".join(names))
    for line in result["left_alone"]:
        print("  left alone: %s" % line)


def _store(record, result):
    """The sides that said the right thing; a wrong text's speed is nobody's result."""
    shared = {key: result[key] for key in
              ("model", "dtype", "batch", "prompt", "generated", "repeats", "step_bytes")}
    kept = [side for side in result["sides"] if not is_wrong(side)]
    names = ("engine", "configs", "tokens_s", "tokens_low", "tokens_high", "first_ms",
             "first_low_ms", "first_high_ms")
    rows = [dict(shared, **{name: side[name] for name in names}) for side in kept]
    base = result["sides"][0]
    ratios = []
    for side in kept:
        if "ratio" not in side:
            continue
        verdict = "undecided"
        if result["repeats"] >= LEAST_REPEATS and not side["ratio_low"] <= 1 <= side["ratio_high"]:
            verdict = "accepted" if side["ratio"] > 1 else "refused"
        ratios.append(dict(
            model=result["model"], first="transformers " + base["configs"], second=side["configs"],
            batch=1, prompt=result["prompt"], generated=result["generated"],
            rounds=result["repeats"], ratio=side["ratio"], low=side["ratio_low"],
            high=side["ratio_high"], verdict=verdict))
    record.add(rows, ratios)


def _begin(options, arguments, device):
    if options.no_db:
        return None
    db = benchmark_store.open_database(options.db)
    cuda = options.device != "cpu"
    arch = 0
    if cuda:
        major, minor = torch.cuda.get_device_capability(options.device)
        arch = 10 * major + minor
    command = shlex.join(["python", "-m", "fastinfer.benchmark"] + arguments)
    return benchmark_store.Record(db, "cuda" if cuda else "cpu", device, arch, command,
                                  "torch " + torch.__version__, 1)


def _finish(options, record, outcome, seconds):
    record.end(outcome, seconds)
    if outcome != "done":
        return
    path = record.write_csv(os.path.dirname(options.db) or ".")
    picture = benchmark_store.draw(path)
    if not options.json:
        print("stored in %s; %s" % (options.db, path) + (", " + picture if picture else ""))


def _quiet():
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def run(arguments):
    options = _options(arguments)
    folders = [benchmark_models.find_weights(name, options.weights, len(options.models) > 1)
               for name in options.models]
    device = Device.get(options.device).name
    _quiet()
    record, start, results = _begin(options, arguments, device), time.monotonic(), []
    outcome = "failed"
    try:
        for name, folder in zip(options.models, folders):
            results.append(run_model(name, folder, options, _say(options)))
            if record:
                _store(record, results[-1])
            if not options.json:
                print_result(results[-1], device)
        outcome = "done"
    finally:
        if record:
            _finish(options, record, outcome, time.monotonic() - start)
    if options.json:
        print(json.dumps(dict(device=device, results=results), indent=1))
    elif options.device == "cpu":
        print("the CPU device emulates a GPU: the library's times there say nothing of a GPU's")
    return int(any(is_wrong(side) for result in results for side in result["sides"]))


def main(arguments=None):
    """Exit codes: 0 done, 1 a side's tokens are wrong, 2 bad input, 130 interrupted."""
    try:
        return run(list(sys.argv[1:] if arguments is None else arguments))
    except (BadInput, FastInferError) as error:
        print("fastinfer.benchmark: %s" % error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
