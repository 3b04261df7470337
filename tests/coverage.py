#!/usr/bin/env python3
"""Every branch of the kernels' headers is reached by test_kernels, test_paths and test_backward.

    coverage.py GCOV HEADERS OBJECTS PROGRAM...

Runs the programs, which were compiled for coverage, and fails where a line of the headers in the folder HEADERS,
or one side of a branch in it, was executed by none. OBJECTS is a folder of their object files, at any depth.
test_kernels is what runs under Oclgrind: what it does not reach has no test for races and bounds.
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
    ("n > 16 &&", 3, "columns of 2 lanes"),
    ("n > 8 &&", 3, "columns of 4 lanes"),
    ("n > 4 &&", 3, "columns of 8 lanes"),
    # Conditions that hold in every plan there is today.
    ("w->plane >= CLNORM_LANES && i +", 2, "smaller planes are expanded, and pieces end at vectors"),
    ("count != k->count ||", 1, "in one tensor, segments of one count have first blocks of one count"),
]


def run(gcov, headers, objects, programs):
    for data in objects.rglob("*.gcda"):
        data.unlink()
    for program in programs:
        subprocess.run([program], check=True)
    found = sorted(objects.rglob("*.gcda"))
    if not found:
        sys.exit(f"coverage.py: {programs} left no counts in {objects}")
    text = subprocess.run([gcov, "--json-format", "--stdout", "--branch-probabilities", *map(str, found)],
                          check=True, stdout=subprocess.PIPE, text=True).stdout
    files = {}
    for line in text.splitlines():
        for f in json.loads(line)["files"]:
            if pathlib.Path(f["file"]).resolve().parent == headers:
                files.setdefault(f["file"], []).extend(f["lines"])
    return {name: merged(lines) for name, lines in files.items()}


def merged(lines):
    """Line numbers -> [count, counts of branches] for each function that has the line, in whichever objects: what
    one of them reaches is reached. Where a constant leaves them different branches, each is held to its own."""
    result = {}
    for line in lines:
        sides = [b["count"] for b in line["branches"]]
        functions = result.setdefault(line["line_number"], {})
        entry = functions.setdefault((line.get("function_name"), len(sides)), [0, [0] * len(sides)])
        entry[0] += line["count"]
        entry[1] = [a + b for a, b in zip(entry[1], sides)]
    return {number: list(functions.values()) for number, functions in result.items()}


def missing(name, lines):
    """Of one header: (line, what is not reached)."""
    source = pathlib.Path(name).read_text().splitlines()
    for number, entries in sorted(lines.items()):
        text = source[number - 1].strip()
        sides = [count for _, counts in entries for count in counts]
        if not any(count for count, _ in entries):
            yield number, f"never executed: {text}"
        elif sides.count(0) > max((n for part, n, _ in EXCEPT if part in text), default=0):
            yield number, f"a branch is never taken (counts {sides}): {text}"


def main(gcov, headers, objects, *programs):
    files = run(gcov, pathlib.Path(headers).resolve(), pathlib.Path(objects), programs)
    names = sorted(pathlib.Path(f).name for f in files)
    if not {"places.h", "channel.h", "vector.h"} <= set(names):
        sys.exit(f"coverage.py: counts of {names} only")
    branches = sum(len(counts) for lines in files.values() for entries in lines.values() for _, counts in entries)
    failures = [f"{name}:{number}: {what}" for name, lines in files.items() for number, what in missing(name, lines)]
    print(*failures, sep="\n")
    print(f"{', '.join(names)}: {branches} branches, {len(failures)} lines not reached in full")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
