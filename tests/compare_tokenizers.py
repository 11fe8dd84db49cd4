#!/usr/bin/env python3
"""compare_tokenizers.py PROGRAM [TOKENIZER.json ...] - token for token against HuggingFace.

Encodes and decodes 10000 hard texts (tests/golden/token_lines.py) with `fastinfer tokenize` and with the
PyPI package `tokenizers`, for each tokenizer of tests/golden/tokenizers, for variants of one that use every
other part, and for the files named. Prints "ok"/"not ok" lines; status 77 where the package is missing.
"""
import glob
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "golden"))
from token_lines import lines  # noqa: E402

try:
    from tokenizers import Tokenizer
except ImportError:
    print("ok 1 - compare with HuggingFace's tokenizers # SKIP the PyPI package tokenizers is not installed")
    sys.exit(77)

COUNT = int(os.environ.get("FASTINFER_TOKEN_LINES", "10000"))


def ours(program, path, data, *options):
    run = subprocess.run([program, "tokenize", "--model", path, "-0", *options], input=data, capture_output=True)
    if run.returncode:
        raise RuntimeError(run.stderr.decode().strip())
    return run.stdout


def differing(program, path, texts, special):
    """How many texts differ, and the first of them in words."""
    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_padding(), tokenizer.no_truncation()
    options = [] if special else ["--no-special"]
    got = ours(program, path, b"".join(t + b"\0" for t in texts), *options).decode().split("\n")[:-1]
    wanted = [e.ids for e in tokenizer.encode_batch([t.decode("utf-8", "replace") for t in texts],
                                                    add_special_tokens=special)]
    wrong, first = 0, ""
    if len(got) != len(texts):
        return 1, "%d texts gave %d lines" % (len(texts), len(got))
    for text, ids, line in zip(texts, wanted, got):
        if [int(x) for x in line.split()] != ids:
            wrong += 1
            first = first or "%r gave %s, not %s" % (text, line, ids)
    # an empty line of ids is no line to decode: one id stands in for it
    asked = [ids or [0] for ids in wanted]
    back = ours(program, path, "".join(" ".join(map(str, ids)) + "\n" for ids in asked).encode(), "--decode",
                *options).split(b"\0")[:-1]
    for ids, text in zip(asked, back):
        right = tokenizer.decode(ids, skip_special_tokens=not special).encode()
        if text != right:
            wrong += 1
            first = first or "%s decoded to %r, not %r" % (ids, text, right)
    return wrong, first


def split(pattern, behavior, invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def variants(folder):
    """Files in the folder: each is a golden tokenizer with other parts in it."""
    def base(name):
        with open(os.path.join(HERE, "golden", "tokenizers", name + ".json"), encoding="utf-8") as file:
            return json.load(file)
    parts = []
    for behavior in ("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            parts.append(("split %s %s" % (behavior, invert), "metaspace",
                          {"pre_tokenizer": split({"Regex": r"\s|\d+"}, behavior, invert)}))
        parts.append(("literal " + behavior, "metaspace",
                      {"pre_tokenizer": split({"String": "e"}, behavior)}))
        parts.append(("empty matches " + behavior, "metaspace", {"pre_tokenizer": split({"Regex": r"\d*"}, behavior)}))
    for name, regex in (("word", r"\w+|\W"), ("digits", r"\d|\D+"), ("class", r"[\w\s]+|[^\w\s]"),
                        ("space", r"[\S]+|\v+"), ("possessive", r"[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}|\s+$|^."),
                        ("han", r"\p{Han}+|\P{Greek}|\p{^Lu}"), ("hex", r"\h+"), ("case", r"(?i)'s|k|ı|Ω|é|т"),
                        ("gpt4o", r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
                         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")):
        parts.append(("regex " + name, "metaspace", {"pre_tokenizer": split({"Regex": regex}, "Isolated")}))
    for scheme in ("always", "first", "never"):
        for splits in (True, False):
            space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": splits}
            parts.append(("metaspace %s %s" % (scheme, splits), "metaspace",
                          {"pre_tokenizer": space, "decoder": space}))
    for form in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase"):
        parts.append(("normalizer " + form, "llama3", {"normalizer": {"type": form}}))
    for left, right in ((True, False), (False, True), (True, True)):
        parts.append(("strip %s %s" % (left, right), "qwen",
                      {"normalizer": {"type": "Strip", "strip_left": left, "strip_right": right}}))
    parts += [
        ("whitespace", "metaspace", {"pre_tokenizer": {"type": "Whitespace"}}),
        ("digits in runs", "metaspace", {"pre_tokenizer": {"type": "Digits", "individual_digits": False}}),
        ("regex replaced", "mistral", {"normalizer": {
            "type": "Replace", "pattern": {"Regex": r"\s{2,}"}, "content": " "}}),
        ("nothing", "metaspace", {"pre_tokenizer": None, "decoder": None, "post_processor": None}),
        ("sequence", "llama3", {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            split({"Regex": r"\p{N}{1,3}"}, "Isolated"), split({"Regex": "[一-龥ぁ-んァ-ン]+"}, "Isolated"),
            {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True, "trim_offsets": True}]}}),
        ("each token stripped", "mistral", {"decoder": {"type": "Sequence", "decoders": [
            {"type": "ByteFallback"}, {"type": "Strip", "content": "▁", "start": 1, "stop": 0},
            {"type": "Fuse"}]}}),  # a "stop" makes HuggingFace's own Strip panic on an empty token
        ("unknown fused", "metaspace", {"model.fuse_unk": True}),
        ("unknown dropped", "metaspace", {"model.unk_token": None}),
    ]
    for name, style, changes in parts:
        root = base(style)
        for key, value in changes.items():
            (root["model"] if key.startswith("model.") else root)[key.replace("model.", "")] = value
        path = os.path.join(folder, name.replace(" ", "-") + ".json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(root, file)
        yield name, path


def main():
    program, named = sys.argv[1], sys.argv[2:]
    texts, failed = lines(COUNT), 0
    with tempfile.TemporaryDirectory() as folder:
        golden = sorted(glob.glob(os.path.join(HERE, "golden", "tokenizers", "*.json")))
        files = [(os.path.basename(path), path, texts) for path in golden + named]
        files += [("variant: " + name, path, texts[:2000]) for name, path in variants(folder)]
        for number, (name, path, some) in enumerate(files, 1):
            try:
                results = [differing(program, path, some, special) for special in (True, False)]
            except RuntimeError as error:
                results = [(1, str(error))]
            wrong = sum(count for count, _ in results)
            failed += wrong > 0
            print("%sok %d - %s: %d texts" % ("not " if wrong else "", number, name, len(some)))
            if wrong:
                print("  %d differ; %s" % (wrong, next(first for _, first in results if first)))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
