"""What fastinfer.benchmark sets side by side: a model by transformers, the same with the kernels
injected, and the library's engine; how they are timed, and whether they say the same."""

import math
import os
import time

import torch

from .engine import Engine
from .inject import accelerate
from .library import Device


class Side:
    """One way of generating. times: a (first token ms, tokens a second) each repeat; tokens: what
    it said, a list a repeat."""

    def __init__(self, engine, configs):
        self.engine, self.configs = engine, configs
        self.times, self.tokens, self.counts = [], [], None
        self.difference = None

    def generate(self, ids, new):
        """(new tokens, ms to the first, tokens a second after it); waits for the device."""
        raise NotImplementedError

    def repeat(self, ids, new):
        tokens, first_ms, tokens_s = self.generate(ids, new)
        self.times.append((first_ms, tokens_s))
        self.tokens.append(tokens)

    def close(self):
        pass


class _Watch:
    """A streamer that notes when the first token had come: generate() hands it the prompt before,
    and each token by way of the CPU, so that nothing need be waited for."""

    def __init__(self):
        self.calls, self.first = 0, None

    def put(self, _):
        self.calls += 1
        if self.calls == 2:
            self.first = time.perf_counter()

    def end(self):
        pass


class Transformers(Side):
    """generate() of the model as it stands."""

    def __init__(self, model, attention):
        import transformers

        super().__init__("transformers", "transformers %s, torch %s, %s" % (
            transformers.__version__, torch.__version__, attention))
        self.model = model

    def generate(self, ids, new):
        wait = torch.cuda.synchronize if ids.is_cuda else (lambda: None)
        watch = _Watch()
        wait()
        start = time.perf_counter()
        out = self.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new,
                                  do_sample=False, use_cache=True, pad_token_id=0, streamer=watch)
        wait()
        return _answer(out, ids, start, watch.first, new)


class Injected(Transformers):
    """The same model with fastinfer.accelerate, undone after each text."""

    def __init__(self, model, attention):
        super().__init__(model, attention)
        with accelerate(model, report=False) as done:
            self.replaced, self.left_alone = done.replaced, done.left_alone
            points = ", ".join(done.points.values()) or "nothing replaced"
        self.engine, self.configs = "fastinfer accelerate", "injected, " + points

    def generate(self, ids, new):
        with accelerate(self.model, report=False):
            return super().generate(ids, new)


class _TimedEngine(Engine):
    """Notes when the first token had been read; with no ends to look for, the others are read
    together when all are there."""

    def _tokens(self, *which):
        tokens = super()._tokens(*which)
        self.first = self.first or time.perf_counter()
        return tokens


class Library(Side):
    """fastinfer.Engine on the folder that the model was saved to, or read from."""

    def __init__(self, folder, device, dtype, capacity):
        super().__init__("fastinfer", "")
        self.opened = _TimedEngine.from_pretrained(folder, device=device, dtype=dtype,
                                                   capacity=capacity)
        self.points = Device.get("cuda:0" if device == "cuda" else device).points
        self.configs = self.points

    def generate(self, ids, new):
        if ids.is_cuda:
            torch.cuda.synchronize()
        self.opened.first = None
        start = time.perf_counter()
        out = self.opened.generate(ids, max_new_tokens=new, eos_token_id=[])
        answer = _answer(out, ids, start, self.opened.first, new)
        # as `fastinfer tps` names it; the first step has settled which form it is
        self.configs = self.points + (", one kernel" if self.opened.persistent else "")
        return answer

    def close(self):
        self.opened.close()


def _answer(out, ids, start, first, new):
    end = time.perf_counter()
    tokens = out[0, ids.shape[1]:].tolist()
    return tokens, 1e3 * (first - start), (new - 1) / (end - first)


def measure(sides, ids, new, repeats, say):
    """Each side `repeats` times after one text that is thrown away, in turns: A B C, then C B A, so
    that a clock that drifts favours none."""
    for side in sides:
        say("%s: warming up" % side.engine)
        side.generate(ids, new)
    for turn in range(repeats):
        say("repeat %d of %d" % (turn + 1, repeats))
        for side in sides if turn % 2 == 0 else reversed(sides):
            side.repeat(ids, new)


# --- medians, as harness/stats.c has them -------------------------------------------------------


def median(values):
    """(median, low, high): the order statistics that hold it with 95% confidence or more; the whole
    range under six values."""
    ordered, n = sorted(values), len(values)
    below, rank = 0.0, 0
    for k in range(n // 2):
        below += math.comb(n, k) * 0.5 ** n
        if below > 0.025:
            break
        rank = k + 1
    cut = max(rank - 1, 0)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return middle, ordered[cut], ordered[n - 1 - cut]


def ratio(side, base):
    """(ratio, low, high) of tokens a second, from the ratios within each repeat."""
    logs = [math.log(a[1] / b[1]) for a, b in zip(side.times, base.times)]
    return tuple(math.exp(value) for value in median(logs))


# --- the same tokens? ---------------------------------------------------------------------------


class Difference:
    """Where a side's text first leaves eager's. verdict: "near tie" (in a wider dtype, fp32 for the
    halves, the other token is no further from the best than twice eager's error there), "wrong", or
    "not judged" where the wider model does not fit."""

    def __init__(self, position, eager, other):
        self.position, self.eager, self.other = position, eager, other
        self.wide = self.behind = self.error = None
        self.verdict = "not judged"

    def __str__(self):
        text = "token %d is %d, eager's %d: %s" % (self.position, self.other, self.eager,
                                                   self.verdict)
        if self.wide:
            text += " (%.3g behind the best in %s, eager's error %.3g)" % (self.behind, self.wide,
                                                                           self.error)
        return text


def compare(sides):
    """Sets each side's difference: the first token, over all repeats, that is not what eager said in
    its first repeat; None where there is none. Eager too may differ from itself."""
    right = sides[0].tokens[0]
    for side in sides:
        for tokens in side.tokens:
            at = next((i for i, pair in enumerate(zip(right, tokens)) if pair[0] != pair[1]), None)
            if at is not None and (side.difference is None or at < side.difference.position):
                side.difference = Difference(at, right[at], tokens[at])


def _fits(model, bytes_each):
    more = bytes_each * sum(p.numel() for p in model.parameters())
    device = next(model.parameters()).device
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0] > more
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") > more


@torch.inference_mode()
def judge(sides, model, ids):
    """Says of each difference whether a wider dtype knows better. The model is left in it, of use to
    nobody else."""
    differences = [side.difference for side in sides if side.difference]
    wide = torch.float64 if model.dtype == torch.float32 else torch.float32
    if not differences or not _fits(model, wide.itemsize):
        return
    prefix = {d.position: torch.cat((ids, ids.new_tensor([sides[0].tokens[0][:d.position]])), 1)
              for d in differences}
    eager = {at: model(row).logits[0, -1].double() for at, row in prefix.items()}
    model.to(wide)
    for d in differences:
        row = model(prefix[d.position]).logits[0, -1].double()
        d.wide = {torch.float32: "fp32", torch.float64: "fp64"}[wide]
        d.error = (row - eager[d.position]).abs().max().item()
        d.behind = (row.max() - row[d.other]).item()
        d.verdict = "near tie" if d.behind <= 2 * d.error else "wrong"
