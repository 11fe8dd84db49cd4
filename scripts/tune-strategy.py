#!/usr/bin/env python3
"""Tunes a search strategy's parameters by replay, and checks the choice by leaving spaces out.

    scripts/tune-strategy.py SPACE.t4.json.gz... [--strategy auto] [--trials 40] [--repeats 20]
        [--program build/release/fastinfer] [--seed 1] [--log FILE] --vary NAME=VALUE,VALUE,...

Tries the defaults, then settings drawn from the values of each --vary (half of the trials change one
or two values of the best so far). At the end, for each space: the setting that is best on the mean
of the others, and what it scores on the one left out. That figure, not the best mean, is what to
expect of a new space. --log keeps every trial, and a later run goes on from there.
"""

import argparse
import json
import os
import random
import subprocess
import sys


def replay(arguments, setting, repeats):
    """Scores of a setting, a space each."""
    command = [arguments.program, "replay", "--json", "--strategy", arguments.strategy,
               "--repeats", str(repeats), "--seed", str(arguments.seed), *arguments.spaces]
    for name, value in setting.items():
        command += ["--set", f"{name}={value}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"tune-strategy: {done.stderr.strip()}")
    return {row["space"]: row["p"] for row in json.loads(done.stdout)}


def mean(scores, without=None):
    kept = [p for space, p in scores.items() if space != without]
    return sum(kept) / len(kept)


def words(setting):
    return " ".join(f"{name}={value}" for name, value in setting.items()) or "(defaults)"


def draw(chance, vary, best):
    if best is None or chance.random() < 0.5:
        return {name: chance.choice(values) for name, values in vary.items()}
    setting = dict(best)
    for name in chance.sample(list(vary), chance.randint(1, min(2, len(vary)))):
        setting[name] = chance.choice(vary[name])
    return setting


def values_of(text):
    name, _, values = text.partition("=")
    if not name or not values:
        raise argparse.ArgumentTypeError(f"'{text}': NAME=VALUE,VALUE,... was expected")
    return name, values.split(",")


def load(path):
    if not path or not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [(row["setting"], row["scores"]) for row in map(json.loads, file)]


def leave_one_out(trials, spaces):
    print("\nleft out: its score with the setting that is best on the others")
    total = 0
    for space in spaces:
        setting, scores = max(trials, key=lambda trial: mean(trial[1], without=space))
        total += scores[space]
        print(f"  {space}: {scores[space]:.3f}  {words(setting)}")
    print(f"  mean: {total / len(spaces):.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("spaces", nargs="+")
    parser.add_argument("--strategy", default="auto")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--program", default="build/release/fastinfer")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log")
    parser.add_argument("--vary", type=values_of, action="append", required=True,
                        metavar="NAME=VALUE,...")
    arguments = parser.parse_args()
    vary, chance = dict(arguments.vary), random.Random(arguments.seed)

    trials = load(arguments.log)
    for number in range(arguments.trials):
        best = max(trials, key=lambda trial: mean(trial[1]))[0] if trials else None
        setting = draw(chance, vary, best) if trials else {}
        if any(setting == tried for tried, _ in trials):
            continue
        scores = replay(arguments, setting, arguments.repeats)
        trials.append((setting, scores))
        if arguments.log:
            with open(arguments.log, "a", encoding="utf-8") as file:
                file.write(json.dumps({"setting": setting, "scores": scores}) + "\n")
        print(f"{number + 1:3d}  {mean(scores):.3f} "
              f"({' '.join(f'{p:.2f}' for p in scores.values())})  {words(setting)}", flush=True)

    setting, scores = max(trials, key=lambda trial: mean(trial[1]))
    print(f"\nbest mean: {mean(scores):.3f}  {words(setting)}")
    leave_one_out(trials, list(scores))


if __name__ == "__main__":
    main()
