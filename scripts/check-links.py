#!/usr/bin/env python3
"""Checks that every relative link of README.md and docs/ leads to a file of the tree."""
import glob
import os
import re
import sys

bad = 0
for page in ["README.md", *sorted(glob.glob("docs/*.md"))]:
    for number, line in enumerate(open(page, encoding="utf-8"), 1):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", line):
            if re.match(r"[a-z]+:", target):
                continue
            if not os.path.exists(os.path.join(os.path.dirname(page), target)):
                print(f"{page}:{number}: {target} is not there")
                bad += 1
sys.exit(1 if bad else 0)
