#!/usr/bin/env python3
"""The C example of README.md is examples/readme.c, word for word, and short.

    test_readme.py ROOT
"""
import pathlib
import re
import sys


def main():
    root = pathlib.Path(sys.argv[1])
    blocks = re.findall(r"^```c\n(.*?)^```", (root / "README.md").read_text(encoding="utf-8"),
                        re.MULTILINE | re.DOTALL)
    code = (root / "examples" / "readme.c").read_text(encoding="utf-8")
    if blocks != [code]:
        sys.exit("README.md must have one C example, and it must equal examples/readme.c")
    lines = [line for line in code.splitlines() if line.strip()]
    if len(lines) > 24:
        sys.exit(f"examples/readme.c has {len(lines)} lines, but must have at most 24")
    return 0


if __name__ == "__main__":
    sys.exit(main())
