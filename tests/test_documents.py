#!/usr/bin/env python3
"""What the documents and comments name is there.

    test_documents.py ROOT

In documents: the files that links lead to, and the functions of `FILE: FUNCTION`. In all text of the project:
FOLDER/FILE, from the project's own folders on.
"""
import pathlib
import re
import sys

from test_style import FOLDERS, Source, project_files

TEXT = {".md", ".c", ".h", ".cl", ".cpp", ".py", ".sh", ".cmake", ".txt", ""}
POINTER = re.compile(r"`([\w./-]+): (\w+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"(?<![\w./$}>*-])((?:%s)/[\w./-]*\w\.(?:c|h|cl|py|sh|md|cmake|txt))(?![\w./*-]*\w)"
                  % "|".join(map(re.escape, FOLDERS)))


def functions_of(file):
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        return set(re.findall(r"^\s*def (\w+)\(", text, re.MULTILINE))
    return {name for name, _ in Source(text).functions}


def missing(root, path, text):
    """What the text at `path` names that is not there."""
    if path.suffix == ".md":
        for name, function in POINTER.findall(text):
            if not (root / name).is_file() or function not in functions_of(root / name):
                yield f"{name}: {function}"
        for target in LINK.findall(text):
            target = target.split("#")[0]
            if target and ":" not in target and not (root / path.parent / target).exists():
                yield target
    for name in PATH.findall(text):
        if "NAME" not in name and not (root / name).exists():
            yield name


def test_itself(root):
    here = pathlib.Path("docs/planted.md")
    good = ("`tests/test_documents.py: missing`, `host/core/status.c: clnorm__fail`, [a](../README.md), [b](#c), "
            "[d](https://e.f/g.md), tests/test_NAME.c, /usr/tests/a.c, build/tests/a.c, tests/fixture.h.")
    bad = "`tests/test_documents.py: absent`, `host/absent.c: main`, [a](README.md), see tests/absent.c."
    if list(missing(root, here, good)):
        sys.exit(f"{list(missing(root, here, good))} are there")
    found = list(missing(root, here, bad))
    if found != ["tests/test_documents.py: absent", "host/absent.c: main", "README.md", "host/absent.c",
                 "tests/absent.c"]:
        sys.exit(f"of what is not there only {found} were found")


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    test_itself(root)
    files = [path for path in project_files(root)
             if path.suffix in TEXT and path.name != pathlib.Path(__file__).name]
    if sum(path.suffix == ".md" for path in files) < 5:
        sys.exit(f"only {len(files)} files under {root}: is it the right folder?")
    wrong = [f"{path} names {name}, which is not there" for path in files
             for name in dict.fromkeys(missing(root, path, (root / path).read_text(encoding="utf-8")))]
    print("\n".join(wrong) or f"{len(files)} files name nothing that is not there")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
