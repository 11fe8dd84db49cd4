#!/usr/bin/env python3
"""Writes README's tables from results/, between their markers: the engine's from */tps.csv, the
kernels' from */bench.csv.

readme.py          rewrites README.md
readme.py --check  exits 1 where README.md is not what results/ say
"""
import csv
import glob
import json
import os
import re
import sys

KERNELS = ["rmsnorm", "add_rmsnorm", "swiglu", "rope", "rope_kv_append"]


def shape(problem):
    """The sizes that tell problems of a kernel apart, for a narrow column."""
    sizes = dict(pair.split("=") for pair in problem.split(","))
    for name in ("rows", "positions", "sequences", "capacity", "head_dim"):
        sizes.pop(name, None)
    for name in ("adjacent", "packed"):
        if sizes.get(name) == "0":
            sizes.pop(name)
    return ", ".join(f"{name} {value}" for name, value in sizes.items())


def number(text, digits):
    return f"{float(text):.{digits}f}" if text else "-"


def device_table(folder):
    rows = list(csv.DictReader(open(os.path.join(folder, "bench.csv"), encoding="utf-8")))
    runs = json.load(open(os.path.join(folder, "environment.json"), encoding="utf-8"))
    first, run = rows[0], runs[-1]
    out = [f"**{first['device']}**, driver {run['driver']}, {run['compiler'].split(' (')[0]}, "
           f"{run['baseline'] or 'no PyTorch'}, commit {first['commit']}, {first['date'][:10]}; "
           f"device-to-device copy {run['copy_gbps']:.0f} GB/s.", ""]

    def section(title, keep, columns):
        chosen = [r for k in KERNELS for r in rows if r["kernel"] == k and r["status"] == "ok" and keep(r)]
        if not chosen:
            return
        chosen.sort(key=lambda r: (KERNELS.index(r["kernel"]), int(r["rows"]), r["problem"]))
        out.extend([f"{title}", "", "| " + " | ".join(c for c, _ in columns) + " |",
                    "|" + "---|" * 3 + "--:|" * (len(columns) - 3)])
        for r in chosen:
            out.append("| " + " | ".join(value(r) for _, value in columns) + " |")
        out.append("")

    common = [("kernel", lambda r: r["kernel"]), ("rows", lambda r: r["rows"]),
              ("shape", lambda r: shape(r["problem"]))]
    section("Prefill rows, caches cold: device time and bandwidth over the least bytes.",
            lambda r: r["residency"] == "cold" and r["rows"] in ("4096", "16384"),
            common + [("us", lambda r: number(r["median_us"], 2)),
                      ("GB/s", lambda r: number(r["gbps"], 0)),
                      ("% of ceiling", lambda r: number(r["percent_of_ceiling"], 1)),
                      ("default us", lambda r: number(r["default_us"], 2)),
                      ("HF eager us", lambda r: number(r["baseline_us"], 1)),
                      ("speedup", lambda r: number(r["speedup"], 2)),
                      ("torch fused us", lambda r: number(r["fused_us"], 1))])
    section("Decode rows, caches hot, as a node of a CUDA graph, above an empty kernel.",
            lambda r: r["residency"] == "hot" and r["rows"] in ("1", "16"),
            common + [("us", lambda r: number(r["median_us"], 2)),
                      ("HF eager us", lambda r: number(r["baseline_us"], 1)),
                      ("speedup", lambda r: number(r["speedup"], 1)),
                      ("torch fused us", lambda r: number(r["fused_us"], 1))])
    return out


def origin(row):
    modified = " (modified)" if row["dirty"] == "1" else ""
    return f"driver {row['driver']}, commit {row['commit']}{modified}, {row['date'][:10]}"


def one_a_setting(rows):
    """Of a setting timed in several runs, the one with HuggingFace beside it, else the newest: a
    ratio holds within its own run alone."""
    chosen = {}
    for r in rows:
        setting = (r["model"], r["dtype"], r["form"], r["configs"], r["batch"], r["prompt"], r["generate"])
        rank = (bool(r["hf_tokens_per_s"]), r["date"])
        if r["engine"] == "fastinfer" and (setting not in chosen or rank >= chosen[setting][0]):
            chosen[setting] = (rank, r)
    return [row for _, row in chosen.values()]


def engine_table(folder):
    """Tokens a second; nothing for a device that emulates."""
    rows = list(csv.DictReader(open(os.path.join(folder, "tps.csv"), encoding="utf-8")))
    rows = [r for r in rows if r["percent_of_read"]]
    ours = one_a_setting(rows)
    if not ours:
        return []
    ours.sort(key=lambda r: (int(r["batch"]), int(r["prompt"]), r["model"], r["form"]))
    origins = sorted({origin(r) for r in ours})
    theirs = sorted({r["configs"] for r in rows if r["engine"] == "transformers"})
    out = [f"**{ours[0]['device']}**, {'; '.join(origins)}; HuggingFace: {', '.join(theirs) or 'not measured'}.", "",
           "| model | form | batch | prompt + new | repeats | tokens/s | interval | % of the read limit "
           "| first token ms | HF eager tokens/s | times HF |",
           "|---|---|" + "--:|" * 9]
    for r in ours:
        cells = [r["model"], r["form"], r["batch"], f"{r['prompt']} + {r['generate']}", r["repeats"],
                 number(r["tokens_per_s"], 1), f"{number(r['low'], 1)} to {number(r['high'], 1)}",
                 number(r["percent_of_read"], 1), number(r["ttft_ms"], 1),
                 number(r["hf_tokens_per_s"], 1), number(r["hf_ratio"], 1)]
        out.append("| " + " | ".join(cells) + " |")
    return out + [""]


def spread(values):
    """The least and the greatest, in as few digits as tell them from 1."""
    digits = 1 if min(values) < 5 else 0
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def summary(folder):
    """The first screen: the best of each model at 32 + 128, one sequence; kernels at 4096 rows."""
    rows = list(csv.DictReader(open(os.path.join(folder, "bench.csv"), encoding="utf-8")))
    if rows[0].get("device_kind", "cuda") != "cuda":
        return []
    device, path = rows[0]["device"], os.path.join(folder, "tps.csv")
    best, out = {}, [f"On an {device}, in fp16:", ""]
    for r in one_a_setting(list(csv.DictReader(open(path, encoding="utf-8")))) if os.path.exists(path) else []:
        if (r["prompt"], r["generate"], r["batch"]) == ("32", "128", "1") and r["percent_of_read"]:
            if r["model"] not in best or float(r["tokens_per_s"]) > float(best[r["model"]]["tokens_per_s"]):
                best[r["model"]] = r
    models = [f"{m}'s shapes {float(r['tokens_per_s']):.0f}, {float(r['percent_of_read']):.0f}% of what reading "
              "the weights once a token allows"
              + (f" and {float(r['hf_ratio']):.0f} times HuggingFace eager in the same run" if r["hf_ratio"] else "")
              for m, r in sorted(best.items())]
    if models:
        out.append(f"- **[tokens a second](#tokens-a-second)**: {'; '.join(models)};")
    groups = []
    for label, kernels in (("norms and rotary embeddings", ("rmsnorm", "add_rmsnorm", "rope", "rope_kv_append")),
                           ("swiglu", ("swiglu",))):
        speedups = [float(r["speedup"]) for r in rows
                    if r["kernel"] in kernels and r["rows"] == "4096" and r["residency"] == "cold" and r["speedup"]]
        if speedups:
            groups.append(f"{label} {spread(speedups)} times")
    if groups:
        groups[0] += " as fast as HuggingFace's formulas in PyTorch eager"
        said = ", ".join(groups)
        out.append(f"- **[kernels](#what-was-measured)** at 4096 rows: {said}.")
        out += ["", f'<img src="{folder}plots/speedup.png" width="620" alt="{device}, 4096 rows: {said}">']
    return out + [""]


def filled(text, marker, table, name):
    """The text with what is between <!-- MARKER --> and <!-- /MARKER --> made anew."""
    lines = []
    for folder in sorted(glob.glob("results/*/")):
        if os.path.exists(os.path.join(folder, name)):
            lines += table(folder)
    body = "\n".join(lines).strip() or "Nothing measured yet."
    new, count = re.subn(rf"(<!-- {marker} -->\n).*?(<!-- /{marker} -->)",
                         lambda m: m.group(1) + body + "\n" + m.group(2), text, flags=re.S)
    if count != 1:
        sys.exit(f"README.md: <!-- {marker} --> and <!-- /{marker} -->, once, were expected")
    return new


def main():
    text = open("README.md", encoding="utf-8").read()
    new = filled(text, "summary", summary, "bench.csv")
    new = filled(new, "engine", engine_table, "tps.csv")
    new = filled(new, "tables", device_table, "bench.csv")
    if "--check" in sys.argv:
        if new != text:
            sys.exit("README.md is stale: run make readme")
    elif new != text:
        open("README.md", "w", encoding="utf-8").write(new)


main()
