#!/usr/bin/env python3
"""token_lines.py [COUNT [SEED]] - texts that are hard on a tokenizer, each ended by a NUL, the same
ones every time: scripts, emoji, combining marks, runs of white space, code, digits, URLs, special
tokens within text, and bytes that are not UTF-8."""
import random
import sys

SCRIPTS = [
    "the quick brown fox jumps over a lazy dog and then it doesn't care".split(),
    "Größe über Straße naïve café señor façade Ærø łódź İstanbul DŽungla".split(),
    "Привет мир это проверка разных слов Ёлка".split(),
    "Καλημέρα κόσμε ΟΔΥΣΣΕΥΣ ἄνθρωπος".split(),
    ["你好", "世界", "漢字", "中文分词", "我们", "说话。", "「引用」", "々〆ヶ"],
    ["こんにちは", "カタカナ", "ガギグ", "ﾊﾝｶｸ", "日本語", "です", "ー"],
    ["안녕하세요", "세계", "한국어", "ᄒ\u1161ᆫ", "\u1100\u1161"],
    ["שלום", "עולם", "בְּרֵאשִׁית"],
    ["مرحبا", "العالم", "لِلّٰهِ", "١٢٣٤", "۱۲۳"],
    ["नमस्ते", "दुनिया", "क्षत्रिय", "१२३४५"],
    ["สวัสดี", "ชาวโลก", "ภาษาไทย", "๑๒๓"],
    ["\u0f56\u0f7c\u0f51", "ქართული", "հայերեն", "አማርኛ", "ᏣᎳᎩ", "𐍈𐌿𐍄", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "𠜎𠜱"],
]
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷", "❤️", "☕", "1️⃣", "👨🏿‍🚀", "🫠", "\u200d", "\ufe0f"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\n\n", " \n", "\n ", "\r\n", "\r", "\t\t", " \t ", "\u00a0",
          "\u3000", "\u2009", "\u2028", "\u0085", "\u000b", "\u000c", "\u180e", "\u200b", "\ufeff",
          "        ", "\n    ", "\n\n\n", " \n \n "]
CONTRACTIONS = ["don't", "I'm", "you're", "we've", "she'll", "he'd", "it's", "DON'T", "I'M", "WE'VE",
                "'s", "'S", "'ſ", "'LL", "'re", "'RE", "’s", "o'clock", "'tis", "'", "''", "'d'"]
CODE = ["for (int i = 0; i < n; i++) {", "}", "    return x->y[z] != NULL;", "#include <stdio.h>",
        "def f(x, *args, **kwargs):", "\tif __name__ == '__main__':", "lambda x: x**2", "a+=b;//c",
        "SELECT * FROM t WHERE id=1;", "<div class=\"a\">&nbsp;</div>", "{\"k\": [1, 2.5e-3, null]}",
        "std::vector<int>::iterator", "0xDEADBEEF", "!!!", "...", "?!", "---", "===", "/* */", "\\n"]
URLS = ["https://example.org/a/b?c=d&e=%20f#g", "www.test.co.uk", "user.name+tag@mail.example",
        "ftp://192.168.0.1:8080/", "file:///usr/share/x_y-z.tar.gz", "@handle", "#tag"]
NUMBERS = ["0", "7", "42", "123", "1234", "12345", "123456", "1234567890", "3.14159", "1,000,000",
           "1e-10", "½", "²", "Ⅷ", "①", "٣٤٥", "2026-11-23", "12:34:56", "+49 30 1234", "50%", "$9.99"]
SPECIALS = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|im_start|>",
            "<|im_end|>", "<|endoftext|>", "<s>", "</s>", "<unk>", "[INST]", "[/INST]", "<|eot_id",
            "<|im_start|", "<|", "|>", "<0x0A>", "<think>", "</think>", "Word", "  <mask>  ", "<pad>",
            "STRASSE", "ﬁN", "▁", "▁▁", "Ġ", "Ċ"]
MARKS = ["e\u0301", "a\u030a", "o\u0308\u0304", "n\u0303", "\u0301", "A\u0328\u0301", "s\u0323\u0307",
         "\u1e9b\u0323", "ﬁ", "Å", "Ω", "Ⅳ", "｡", "\u0344", "q\u0307\u0323", "각", "\uf900", "\U0001d15e"]
BROKEN = [b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xaf", b"\x80",
          b"\xf5\x80\x80\x80", b"\xe0\x80\x80", b"\xf0\x82\x82\xac", b"\xfe\xfe", b"\xe4\xbd"]
# letters new in Unicode 16, which not every library knows
NEW = {0x1c89, 0x1c8a, *range(0xa7cb, 0xa7dd), *range(0x10d40, 0x10d90), *range(0x13460, 0x143fb)}


def word(r):
    kind = r.random()
    if kind < 0.45:
        return r.choice(r.choice(SCRIPTS))
    for share, words in ((0.53, EMOJI), (0.60, CONTRACTIONS), (0.67, CODE), (0.71, URLS), (0.79, NUMBERS),
                         (0.85, SPECIALS), (0.90, MARKS)):
        if kind < share:
            return r.choice(words)
    if kind < 0.93:
        return "".join(r.choice("abcXYZ 0159_-.,'\"\t\n") for _ in range(r.randrange(1, 12)))
    if kind < 0.96:  # any character there is
        return "".join(chr(c) for c in (r.randrange(1, 0x3000) for _ in range(3)) if c not in NEW)
    if kind < 0.98:
        return r.choice(["a", "ab", " ", "\n", "=", "1", "é", "😀"]) * r.randrange(1, 40)
    code = r.choice([r.randrange(0x3000, 0xd800), r.randrange(0xe000, 0x10000), r.randrange(0x10000, 0x20000)])
    return "" if code in NEW else chr(code)


def line(r):
    parts = []
    for _ in range(r.choice([1, 2, 3, 5, 8, 13, 20])):
        text = word(r)
        if r.random() < 0.08:
            text = text.upper() if r.random() < 0.5 else text.capitalize()
        parts.append(text.encode())
        if r.random() < 0.02:
            parts.append(r.choice(BROKEN))
        if r.random() < 0.7:
            parts.append(b" " if r.random() < 0.6 else r.choice(SPACES).encode())
    text = b"".join(parts)
    if r.random() < 0.15:
        text = r.choice(SPACES).encode() + text
    return text.replace(b"\0", b"")


def lines(count, seed=1):
    r = random.Random(seed)
    fixed = [b"", b" ", b"\n", b"a", "é".encode(), b"\xff", b"Hello, world!", b"<s>", b"<|eot_id|><|eot_id|>"]
    return (fixed + [line(r) for _ in range(count)])[:count]


if __name__ == "__main__":
    numbers = [int(x) for x in sys.argv[1:]]
    sys.stdout.buffer.write(b"".join(text + b"\0" for text in lines(*(numbers or [10000]))))
