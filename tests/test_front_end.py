#!/usr/bin/env python3
"""Every program that a key can ask for (clnorm_key in host/core/schedule.h) is good OpenCL C 1.2, without a warning.

    test_front_end.py SOURCES CLANG

Clang's front end reads kernels/ with each path, each pair of storages and each stage by itself, with no extension but
the one for f64. What no key asks for must not compile.
"""
import concurrent.futures
import itertools
import pathlib
import subprocess
import sys

KERNELS, CLANG = pathlib.Path(sys.argv[1]).resolve() / "kernels", sys.argv[2]
F32, F16, BF16, F64 = range(4)  # kernels/storage.h
PAIRS = [*itertools.product([F32, F16, BF16], repeat=2), (F64, F64), (F64, F32)]
PATHS = {"vector.cl": [0, 1, 2], "wide.cl": [0, 1]}
STAGES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 31]


def options(**macros):
    return [f"-DCLNORM_{name.upper()}={value}" for name, value in macros.items()]


def good():
    for source, paths in PATHS.items():
        yield source, []
        for path in paths:
            for x, y in PAIRS:
                yield source, options(path=path, x_storage=x, y_storage=y)
            for stages, (x, y) in itertools.product(STAGES, [(F32, F32), (F16, BF16), (F64, F64)]):
                yield source, options(path=path, stages=stages, x_storage=x, y_storage=y)
            yield source, options(path=path, soft_fma=1)
    for size in (64, 128, 256):
        yield "wide.cl", options(group_size=size)
    yield "fp64.cl", []


def bad():
    for source, paths in PATHS.items():
        for path in {-1, 2, 3, 9} - set(paths):
            yield source, options(path=path)
        for pair in ((4, F32), (F32, 4), (-1, F32)):
            yield source, options(x_storage=pair[0], y_storage=pair[1])


def read(case):
    source, macros = case
    doubles = source == "fp64.cl" or f"-DCLNORM_X_STORAGE={F64}" in macros
    extensions = "-cl-ext=-all" + (",+cl_khr_fp64" if doubles else "")
    # By itself clang 14 declares built-in functions from a table, in which vload_half needs cl_khr_fp16.
    done = subprocess.run([CLANG, "-x", "cl", "-cl-std=CL1.2", "-cl-no-stdinc", "-Xclang", "-finclude-default-header",
                           "-Xclang", extensions, "-target", "spir", "-Wall", "-Wextra", "-Wno-unused-function",
                           "-fsyntax-only", *macros, str(KERNELS / source)], stderr=subprocess.PIPE, text=True)
    return done.returncode, done.stderr.strip()


def main():
    wrong = []
    count = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for cases, accepted in ((list(good()), True), (list(bad()), False)):
            for (source, macros), (code, log) in zip(cases, pool.map(read, cases)):
                count += 1
                if accepted and (code or log):
                    wrong.append(f"{source} {' '.join(macros)}:\n{log}")
                elif not accepted and (not code or "#error" not in log and 'error: "CLNORM_' not in log):
                    wrong.append(f"{source} {' '.join(macros)} is not refused by an #error:\n{log}")
    print(*wrong, f"{count} programs, {len(wrong)} wrong", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
