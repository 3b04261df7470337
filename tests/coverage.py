#!/usr/bin/env python3
"""Every branch of the kernels' headers is reached by test_kernels.

    coverage.py GCOV HEADERS OBJECTS PROGRAM

Runs PROGRAM, which was compiled for coverage, and fails where a line of the headers in the folder HEADERS, or
one side of a branch in it, was not executed. OBJECTS is the folder of its object files. test_kernels is what
runs under Oclgrind: what it does not reach has no test for races and bounds.
"""
import json
import pathlib
import subprocess
import sys

# (part of a line of source, how many sides of its branches need not be taken, reason)
EXCEPT = [
    # Choices of a value, which are no branches on a device; test_arith and test_range reach them.
    ("(tiny ?", 1, "small arguments"),
    ("< CLNORM_INFINITY ?", 1, "arguments that are not finite"),
    ("v > 0.0f ?", 1, "the same"),
    ("v == 0.0f ?", 1, "the same"),
    ("p.m2 < 0.0f ?", 1, "rounding"),
    # 16 lanes have 4 columns.
    ("n > 8 &&", 3, "columns of 4 lanes"),
    ("n > 4 &&", 3, "columns of 8 lanes"),
    # Conditions that hold in every plan there is today.
    ("w->plane >= CLNORM_LANES && i +", 2, "smaller planes are expanded, and pieces end at vectors"),
    ("count != k->count ||", 1, "in one tensor, segments of one count have first blocks of one count"),
]


def run(gcov, headers, objects, program):
    for data in objects.rglob("*.gcda"):
        data.unlink()
    subprocess.run([program], check=True)
    found = sorted(objects.rglob("*.gcda"))
    if not found:
        sys.exit(f"coverage.py: {program} left no counts in {objects}")
    text = subprocess.run([gcov, "--json-format", "--stdout", "--branch-probabilities", *map(str, found)],
                          check=True, stdout=subprocess.PIPE, text=True).stdout
    return [f for line in text.splitlines() for f in json.loads(line)["files"]
            if pathlib.Path(f["file"]).resolve().parent == headers]


def missing(file):
    """Of one header: (line, what is not reached)."""
    source = pathlib.Path(file["file"]).read_text().splitlines()
    counts = {}
    for line in file["lines"]:
        counts.setdefault(line["line_number"], []).append(line)
    for number, entries in sorted(counts.items()):
        text = source[number - 1].strip()
        sides = [b["count"] for e in entries for b in e["branches"]]
        if not any(e["count"] for e in entries):
            yield number, f"never executed: {text}"
        elif sides.count(0) > max((n for part, n, _ in EXCEPT if part in text), default=0):
            yield number, f"a branch is never taken (counts {sides}): {text}"


def main(gcov, headers, objects, program):
    files = run(gcov, pathlib.Path(headers).resolve(), pathlib.Path(objects), program)
    names = sorted({pathlib.Path(f["file"]).name for f in files})
    if not {"places.h", "channel.h", "vector.h"} <= set(names):
        sys.exit(f"coverage.py: counts of {names} only")
    branches = sum(len(l["branches"]) for f in files for l in f["lines"])
    failures = [f"{f['file']}:{number}: {what}" for f in files for number, what in missing(f)]
    print(*failures, sep="\n")
    print(f"{', '.join(names)}: {branches} branches, {len(failures)} lines not reached in full")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
