"""The whole model in the library: generate() without PyTorch's modules.

    engine = fastinfer.Engine.from_pretrained("path/to/SmolLM3-3B", device="cuda:0")
    ids = engine.generate(input_ids, max_new_tokens=64)
"""

import ctypes
import os
import tempfile

import torch

from . import live
from .library import DTYPES, Device, _P, check, library

__all__ = ["Engine"]

_CHECK_EVERY = 16  # steps enqueued between two looks at the tokens, where nobody waits for each


class _Options(ctypes.Structure):
    _fields_ = [("batch", ctypes.c_int), ("dtype", ctypes.c_int), ("capacity", ctypes.c_int64),
                ("configs", ctypes.c_char_p), ("seed", ctypes.c_uint64),
                ("config_only", ctypes.c_int)]


class _Facts(ctypes.Structure):
    _fields_ = [("batch", ctypes.c_int), ("dtype", ctypes.c_int), ("capacity", ctypes.c_int64),
                ("vocab", ctypes.c_int64), ("eos_count", ctypes.c_int),
                ("eos", ctypes.c_int64 * 16), ("persistent", ctypes.c_int)]


class _Sampling(ctypes.Structure):
    _fields_ = [("temperature", ctypes.c_float), ("top_k", ctypes.c_int),
                ("top_p", ctypes.c_float), ("min_p", ctypes.c_float), ("seed", ctypes.c_uint64)]


def _function(name, *arguments):
    function = getattr(library(), "fastinfer_engine_" + name)
    function.argtypes = arguments
    return function


class Engine:
    """A model in the library's memory. Use from_pretrained; close(), or `with`, frees it."""

    def __init__(self, folder, device="cuda:0", dtype=None, batch=1, capacity=0, seed=0,
                 config_only=False):
        self._handle = self._sharing = None
        from .library import _configs

        options = _Options(batch, -1 if dtype is None else DTYPES[str(dtype).split(".")[-1]],
                           capacity, _configs(), seed, config_only)
        handle = _P()
        check(_function("open", _P, ctypes.c_char_p, ctypes.POINTER(_Options), ctypes.POINTER(_P))(
            Device.get("cuda:0" if device == "cuda" else str(device)).handle,
            os.fspath(folder).encode(), options, ctypes.byref(handle)))
        self._handle = handle
        facts = self._facts()
        self.batch, self.capacity, self.vocab_size = facts.batch, facts.capacity, facts.vocab
        self.eos_token_id = list(facts.eos[:facts.eos_count])

    def _facts(self):
        facts = _Facts()
        read = _function("read", _P, ctypes.POINTER(_Facts))
        read.restype = None
        read(self._handle, facts)
        return facts

    @property
    def persistent(self):
        """Whether one kernel does a whole step; a graph of launches does it otherwise."""
        return bool(self._facts().persistent)

    @classmethod
    def from_pretrained(cls, folder, **options):
        """folder: a HuggingFace folder on this machine, or a preset's name ("llama-3.2-3b"), whose
        weights are random, or a model that transformers has loaded. Options: device, dtype (None:
        the checkpoint's), batch (sequences side by side, up to 16), capacity (positions of each),
        seed (of random weights).

        A loaded model's weights move into the engine's memory and its parameters become views of
        it, so that both see what is written to them; close() gives them memory of their own again.
        While it moves both are there at once. device and dtype are the model's."""
        if isinstance(folder, (str, os.PathLike)):
            return cls(folder, **options)
        return cls._from_live(folder, **options)

    @classmethod
    def _from_live(cls, model, batch=1, capacity=0):
        device, dtype = live.facts_of(model)
        with tempfile.TemporaryDirectory() as folder:
            live.write_config(model, folder)
            engine = cls(folder, device=str(device), dtype=dtype, batch=batch, capacity=capacity,
                         config_only=True)
        try:
            engine._sharing = live.Sharing(model, engine._handle)
        except BaseException:
            engine.close()
            raise
        return engine

    def close(self):
        if self._handle:
            if self._sharing is not None:
                self._sharing.end()
                self._sharing = None
            close = _function("close", _P)
            close.restype = None
            close(self._handle)
            self._handle = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def generate(self, input_ids, attention_mask=None, max_new_tokens=20, do_sample=False,
                 temperature=1.0, top_k=50, top_p=1.0, min_p=None, seed=0, eos_token_id=None,
                 pad_token_id=None, streamer=None):
        """As transformers' generate(): (rows, length) ids in, (rows, length + new) out, on the
        device of input_ids; rows that ended are filled with pad_token_id (the first end's id where
        there is none).

        attention_mask: 0 for padding, which may lie on the left only. eos_token_id: an id or
        several; None: the model's; []: none. streamer: put() with the prompt and then with each
        token, end(); for one row."""
        if self._handle is None:
            raise ValueError("the engine is closed")
        if input_ids.dim() != 2 or not 1 <= input_ids.shape[0] <= self.batch:
            raise ValueError("input_ids are %s; (1 to %d, length) was expected (batch= of "
                             "from_pretrained)" % (tuple(input_ids.shape), self.batch))
        if streamer is not None and input_ids.shape[0] != 1:
            raise ValueError("a streamer takes one row; %d were given" % input_ids.shape[0])
        if max_new_tokens < 1:
            raise ValueError("max_new_tokens is %d; at least 1 was expected" % max_new_tokens)
        rows = _without_padding(input_ids, attention_mask)
        longest = max(map(len, rows))
        if longest + max_new_tokens - 1 > self.capacity:
            raise ValueError("%d tokens and %d new ones do not fit into %d positions (capacity= of "
                             "from_pretrained)" % (longest, max_new_tokens, self.capacity))
        ends = self.eos_token_id if eos_token_id is None else eos_token_id
        ends = [ends] if isinstance(ends, int) else list(ends)
        how = None
        if do_sample:
            how = (temperature, top_k or 0, 1.0 if top_p is None else top_p, min_p or 0.0)
        self._begin(rows, how, seed)
        new = self._run(rows, max_new_tokens, set(ends), streamer, input_ids)
        pad = pad_token_id if pad_token_id is not None else ends[0] if ends else 0
        width = max(map(len, new))
        new = [row + [pad] * (width - len(row)) for row in new]
        return torch.cat((input_ids, input_ids.new_tensor(new)), dim=1)

    def _begin(self, rows, how, seed):
        sampling = _function("sampling", _P, ctypes.c_int, ctypes.POINTER(_Sampling))
        prompt = _function("prompt", _P, ctypes.c_int, ctypes.POINTER(ctypes.c_int32),
                           ctypes.c_int64)
        for sequence in range(self.batch):  # those that nobody asked for go along with the first
            row = rows[sequence] if sequence < len(rows) else rows[0]
            check(sampling(self._handle, sequence,
                           None if how is None else _Sampling(*how, seed=seed + sequence)))
            check(prompt(self._handle, sequence, (ctypes.c_int32 * len(row))(*row), len(row)))

    def _run(self, rows, limit, ends, streamer, input_ids):
        decode = _function("decode", _P, ctypes.c_int64)
        new, live, steps = [[] for _ in rows], set(range(len(rows))), 1
        if streamer is not None:
            streamer.put(input_ids.cpu())
        done = 0
        while True:
            for row in sorted(live):
                for token in self._tokens(row, len(rows[row]) + done, steps):
                    new[row].append(token)
                    if streamer is not None:
                        streamer.put(torch.tensor([token]))
                    if token in ends:
                        live.discard(row)
                        break
            done += steps
            if not live or done == limit:
                break
            every = 1 if streamer is not None else _CHECK_EVERY if ends else limit
            steps = min(every, limit - done)
            check(decode(self._handle, steps))
        if streamer is not None:
            streamer.end()
        return new

    def _tokens(self, sequence, first, count):
        out = (ctypes.c_int32 * count)()
        check(_function("tokens", _P, ctypes.c_int, ctypes.c_int64, ctypes.c_int64,
                        ctypes.POINTER(ctypes.c_int32))(self._handle, sequence, first, count, out))
        return list(out)

    def logits(self, sequence=0):
        """(vocab,) fp32 on the CPU: what the sequence's last token was chosen from."""
        out = torch.empty(self.vocab_size, dtype=torch.float32)
        check(_function("logits", _P, ctypes.c_int, _P)(self._handle, sequence, out.data_ptr()))
        return out


def _without_padding(input_ids, mask):
    rows = input_ids.tolist()
    if mask is not None:
        if mask.shape != input_ids.shape:
            raise ValueError("attention_mask is %s; %s was expected, as input_ids"
                             % (tuple(mask.shape), tuple(input_ids.shape)))
        for i, seen in enumerate(mask.tolist()):
            count = sum(1 for s in seen if s)
            if not all(seen[len(seen) - count:]):
                raise ValueError("attention_mask has zeros inside row %d; padding on the left was "
                                 "expected" % i)
            rows[i] = rows[i][len(seen) - count:]
    if not all(rows):
        raise ValueError("input_ids have a row without a token; at least one was expected")
    return rows
