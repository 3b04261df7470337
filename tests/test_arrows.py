#!/usr/bin/env python3
"""The arrows of the house: which folder may include which. Also: an #include names a file that is there.

    test_arrows.py ROOT
"""
import pathlib
import re
import sys

# Folder -> folders that its files may include from, beside their own. The longest match counts.
ALLOWED = {
    "include": [],
    "kernels": [],
    # backends.c, which names the back ends, and no_opencl.c, which stands for one
    "host": ["include", "host/core", "host/cpu", "host/opencl"],
    "host/core": ["include", "kernels"],
    "host/cpu": ["include", "kernels", "host/core"],
    "host/opencl": ["include", "kernels", "host/core"],
    "cases": ["include", "kernels"],  # promise.c retraces the arithmetic
    "cli": ["include", "cases"],
    "bench": ["include", "cases"],
    "examples": ["include"],
    "tests": ["include", "kernels", "host", "host/core", "host/cpu", "host/opencl", "cases", "cli",
              "tests/layer"],
    "tests/layer": ["include", "host/opencl"],
    "tests/consumer": ["include"],
    "tests/headers": ["include"],
}
SUFFIXES = {".c", ".h", ".cl", ".cpp"}
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<(clnorm/[^>]+)>)', re.MULTILINE)


def folder_of(path):
    """The longest folder of ALLOWED that holds the path."""
    for parent in [path, *path.parents]:
        if parent.as_posix() in ALLOWED:
            return parent.as_posix()
    return None


def find(root, source, name):
    """The file of the house that `source` includes as `name`; None where there is none."""
    folders = [source.parent, pathlib.Path("include"), *map(pathlib.Path, ALLOWED)]
    for folder in folders:
        if (root / folder / name).is_file():
            return pathlib.Path(folder) / name
    return None


def check(root, source):
    """Sentences on what is wrong with one file."""
    home = folder_of(source)
    for match in INCLUDE.finditer((root / source).read_text(encoding="utf-8")):
        name = match.group(1) or match.group(2)
        target = find(root, source, name)
        if target is None:
            yield f"{source} includes {name}, which is not there"
            continue
        folder = folder_of(target)
        if folder != home and folder not in ALLOWED[home]:
            yield f"{source} includes {target}: {home} must not know {folder}"


def sources(root):
    for folder in sorted({name.split("/")[0] for name in ALLOWED}):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SUFFIXES:
                yield path.relative_to(root)


def main():
    root = pathlib.Path(sys.argv[1])
    files = list(sources(root))
    if len(files) < 20:
        sys.exit(f"only {len(files)} files under {root}: is it the right folder?")
    wrong = [sentence for source in files for sentence in check(root, source)]
    print("\n".join(wrong) or f"{len(files)} files, all arrows right")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
