#!/usr/bin/env python3
"""The functions that the headers declare are what a library exports, in every build.

    test_exports.py NM HEADER_FOLDER LIBRARY

A shared library exports nothing else; of a static one only the presence of the functions is checked.
"""
import pathlib
import re
import subprocess
import sys

DECLARATION = re.compile(r"^CLNORM_API\b[^;]*?\b(clnorm_\w+)\(", re.MULTILINE)


def main():
    nm, headers, library = sys.argv[1:]
    declared = {name for path in sorted(pathlib.Path(headers).glob("*.h"))
                for name in DECLARATION.findall(path.read_text(encoding="utf-8"))}
    shared = not library.endswith(".a")
    lines = subprocess.run([nm, "--defined-only", "-D" if shared else "-g", library], check=True,
                           capture_output=True, text=True).stdout.splitlines()
    exported = {line.split()[-1] for line in lines if len(line.split()) == 3}
    if len(declared) < 30 or not {"clnorm_version", "clnorm_context_create_opencl"} <= declared:
        sys.exit(f"only {len(declared)} functions were found in {headers}")
    wrong = [f"{name} is declared, but not in {library}" for name in sorted(declared - exported)]
    if shared:
        wrong += [f"{name} is exported, but not declared" for name in sorted(exported - declared)]
    print("\n".join(wrong) or f"{len(declared)} functions declared, all there")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
