#!/usr/bin/env python3
"""make_tokenizers.py - writes tests/golden/tokenizers/: small tokenizers in the styles of known models,
trained on words of our own, and what HuggingFace's `tokenizers` makes of some hard texts.

    STYLE.json    a tokenizer.json
    texts.hex     a text a line, in hexadecimal
    STYLE.ids     for each text: CRC-32 of its ids decoded (in hexadecimal), then its ids

Needs the PyPI package `tokenizers`.
"""
import json
import os
import sys
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from token_lines import lines  # noqa: E402
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers  # noqa: E402

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizers")
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
LLAMA3_SPECIALS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
                   "<|eom_id|>", "<|eot_id|>"]
CHATML_SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def corpus():
    return [text.decode("utf-8", "replace") for text in lines(6000, seed=99)]


def trained(pre_tokenizer, size, alphabet):
    """Vocabulary and merges, the characters of the alphabet first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, limit_alphabet=max(400, len(alphabet)),
        show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), model["merges"]


def byte_level(regex):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def split_json(regex):
    return {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def added(token, flags):
    return dict({"id": token, "content": "", "single_word": False, "lstrip": False, "rstrip": False,
                 "normalized": False, "special": False}, **flags)


def template(names, vocab):
    return {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": name, "type_id": 0}} for name in names]
            + [{"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {name: {"id": name, "ids": [vocab[name]], "tokens": [name]} for name in names}}


def build(tokens, merges, specials=(), extra=(), pairs=True, **parts):
    """The root of a tokenizer.json: specials come behind the vocabulary, as in byte-level models."""
    vocab = {token: i for i, token in enumerate(tokens)}
    list_added, next_id = [], len(tokens)
    for flags in [{"content": name, "special": True} for name in specials] + list(extra):
        known = flags["content"] in vocab  # then it keeps its id
        list_added.append(added(vocab[flags["content"]] if known else next_id, flags))
        next_id += not known
    options = {"dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
               "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    options.update(parts.pop("options", {}))
    root = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": list_added,
            "normalizer": None, "pre_tokenizer": None, "post_processor": None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}}
    root.update(parts)
    names = {token["content"]: token["id"] for token in list_added}
    if "starts" in root:
        root["post_processor"] = {"type": "Sequence", "processors": [
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
            template(root.pop("starts"), names)]}
    root["model"] = dict(type="BPE", **options, vocab=vocab,
                         merges=[list(m) if pairs else " ".join(m) for m in merges])
    return root


def llama3():
    tokens, merges = trained(byte_level(LLAMA3), 1400, pre_tokenizers.ByteLevel.alphabet())
    # words that are tokens but that no merges make, which ignore_merges is for
    tokens += ["Ġtokenization", "=======!"]
    return build(tokens, merges, LLAMA3_SPECIALS, pre_tokenizer=split_json(LLAMA3),
                 starts=["<|begin_of_text|>"], options={"ignore_merges": True})


def qwen():
    tokens, merges = trained(byte_level(QWEN), 1400, pre_tokenizers.ByteLevel.alphabet())
    return build(tokens, merges, CHATML_SPECIALS, [{"content": "<think>"}, {"content": "</think>"}],
                 pairs=False, normalizer={"type": "NFC"}, pre_tokenizer=split_json(QWEN),
                 post_processor=BYTE_LEVEL)


def smollm():
    parts = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL]}
    tokens, merges = trained(pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)]), 1200, pre_tokenizers.ByteLevel.alphabet())
    return build(CHATML_SPECIALS + tokens, merges, CHATML_SPECIALS, pairs=False, pre_tokenizer=parts,
                 options={"unk_token": "<|endoftext|>"})


def gpt2():
    tokens, merges = trained(pre_tokenizers.ByteLevel(add_prefix_space=True), 1200,
                             pre_tokenizers.ByteLevel.alphabet())
    extra = [{"content": "<mask>", "lstrip": True, "normalized": True}, {"content": "Word", "single_word": True},
             {"content": "the", "single_word": True, "rstrip": True}, {"content": "[INST]", "rstrip": True},
             {"content": "<|", "normalized": True}, {"content": "strasse", "normalized": True}]
    return build(tokens, merges, ["<|endoftext|>"], extra, pairs=False, normalizer={"type": "Lowercase"},
                 pre_tokenizer=dict(BYTE_LEVEL, add_prefix_space=True), post_processor=BYTE_LEVEL)


def spaced():
    """Vocabulary in the manner of SentencePiece, the control tokens and all bytes first."""
    tokens, merges = trained(pre_tokenizers.Metaspace(), 1300, [])
    head = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)]
    return head + [t for t in tokens if t not in head], merges


def mistral():
    tokens, merges = spaced()
    return build(tokens, merges, ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"], pairs=False,
                 normalizer={"type": "Sequence", "normalizers": [
                     {"type": "Prepend", "prepend": "▁"},
                     {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
                 starts=["<s>"], decoder={"type": "Sequence", "decoders": [
                     {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
                     {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
                 options={"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"})


def metaspace():
    tokens, merges = spaced()
    tokens = [t for t in tokens if not t.startswith("<0x")]  # so that there are unknown characters
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    return build(tokens, merges, ["<unk>", "<s>", "</s>"], pairs=True, pre_tokenizer=space, starts=["<s>"],
                 decoder=dict(space, prepend_scheme="always", split=True),
                 options={"byte_fallback": True, "unk_token": "<unk>"})


STYLES = [llama3, qwen, smollm, gpt2, mistral, metaspace]


def expected(tokenizer, text):
    ids = tokenizer.encode(text.decode("utf-8", "replace")).ids
    decoded = tokenizer.decode(ids, skip_special_tokens=False)
    return "%08x %s" % (zlib.crc32(decoded.encode()), " ".join(map(str, ids)))


def main():
    texts = lines(300, seed=7)
    os.makedirs(FOLDER, exist_ok=True)
    with open(os.path.join(FOLDER, "texts.hex"), "w", encoding="ascii") as out:
        out.writelines(text.hex() + "\n" for text in texts)
    for style in STYLES:
        root = json.dumps(style(), ensure_ascii=False, separators=(",", ":"))
        with open(os.path.join(FOLDER, style.__name__ + ".json"), "w", encoding="utf-8") as out:
            out.write(root + "\n")
        tokenizer = Tokenizer.from_str(root)
        with open(os.path.join(FOLDER, style.__name__ + ".ids"), "w", encoding="ascii") as out:
            out.writelines(expected(tokenizer, text).rstrip() + "\n" for text in texts)


if __name__ == "__main__":
    main()
