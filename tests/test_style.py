#!/usr/bin/env python3
"""The rules of style in CONTRIBUTING.md, on every file of the project.

    test_style.py ROOT             lines, functions, parameters, comments
    test_style.py ROOT --format    clang-format 14; ends with 77 where that is not found

Before it judges the project it judges planted text, good and bad, so that a rule that finds nothing any more fails.

KNOWN has what the rules find today and is still to be mended. An entry that is not needed any more fails the test:
the list only becomes shorter. Functions that macros define are not looked at.
"""
import bisect
import pathlib
import re
import shutil
import subprocess
import sys

COLUMNS = 120
FUNCTION_LINES = 60
PARAMETERS = 7
FORMATTER = 14  # versions of clang-format disagree on some lines
SKIPPED = 77  # SKIP_RETURN_CODE in tests/CMakeLists.txt

C = {".c", ".h", ".cl"}
LINES = C | {".cpp", ".py", ".sh", ".cmake", ".in"}  # and files without a suffix that begin with #!
FOLDERS = [".ci", "include", "host", "kernels", "cases", "cli", "tests", "bench", "examples", "docs", "cmake",
           "scripts"]

# Rule -> places that break it: a path, or path:name.
KNOWN = {
    "format": set(),
    "columns": set(),
    "long": set(),
    "wide": set(),
    "torn": set(),
}


# ---- Which files -----------------------------------------------------------------------------------
def project_files(root):
    """Paths below root: what git knows or would add; without git, what lies in the project's folders."""
    git = subprocess.run(["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                         capture_output=True, text=True) if shutil.which("git") else None
    if git and git.returncode == 0 and git.stdout:
        paths = [root / name for name in git.stdout.split("\0") if name]
    else:
        paths = [*root.iterdir(), *(path for folder in FOLDERS for path in (root / folder).rglob("*"))]
    return sorted(path.relative_to(root) for path in paths if path.is_file() and path.suffix != ".pyc")


def is_code(root, path):
    if path.suffix in LINES or path.name == "CMakeLists.txt":
        return True
    return not path.suffix and (root / path).read_bytes()[:2] == b"#!"


# ---- Reading C -------------------------------------------------------------------------------------
HIDDEN = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)


def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def only_code(text):
    """The text with comments, literals and directives blanked, so that lines and columns stay what they are."""
    return DIRECTIVE.sub(blank, HIDDEN.sub(blank, text))


def closing(code, opening):
    """Where the bracket at `opening` is closed."""
    pairs = {"(": ")", "{": "}"}
    ends = []
    for at in range(opening, len(code)):
        if code[at] in pairs:
            ends.append(pairs[code[at]])
        elif code[at] in ")}":
            if not ends or code[at] != ends.pop():
                break
            if not ends:
                return at
    raise ValueError("brackets do not match")


# A macro's call that is a line of its own, without a semicolon: what follows in the first column is another thing.
MACRO_CALL = re.compile(r"\)[ \t]*\n\s*^(?=\w)", re.MULTILINE)


def heads(code):
    """(head, its start, end of body) of everything at the top of a file; the end is None where there is no body."""
    start = at = 0
    while at < len(code):
        if code[at] == "(":
            at = closing(code, at)
            if MACRO_CALL.match(code, at):
                start = at + 1
        elif code[at] == ";":
            yield code[start:at], start, None
            start = at + 1
        elif code[at] == "}":  # of an extern "C"
            start = at + 1
        elif code[at] == "{":
            head = code[start:at]
            if head.strip() == "extern":
                start = at + 1
            else:
                at = closing(code, at)
                if head.rstrip().endswith(")") and "=" not in head:
                    yield head, start, at
                    start = at + 1
        at += 1


CALL = re.compile(r"(\w+)\s*\(")
POINTER = re.compile(r"\(\s*\*\s*(?:const\s+)?(\w+)\s*(?:\[\w*\]\s*)?\)\s*\(")


def named_lists(head):
    """(name, parameters) of each pair of brackets in a head that follows a name."""
    at = 0
    while match := CALL.search(head, at):
        at = closing(head, match.end() - 1) + 1
        if match.group(1) != "__attribute__":
            yield match.group(1), parameters(head[match.end():at - 1])


def parameters(inside):
    depth, count = 0, 1
    for letter in inside:
        depth += (letter in "([{") - (letter in ")]}")
        count += letter == "," and depth == 0
    return 0 if inside.strip() in ("", "void") else count


class Source:
    """A file of C: its functions as (name, lines), its lists of parameters as (name, count)."""

    def __init__(self, text):
        code = only_code(text)
        ends = [match.start() for match in re.finditer("\n", code)]
        self.functions = []
        self.lists = []
        for head, start, end in heads(code):
            if "=" in head:
                continue
            found = list(named_lists(head))
            self.lists += found[-1:]
            if end is not None and found:
                first = start + len(head) - len(head.lstrip())
                lines = bisect.bisect_left(ends, end) - bisect.bisect_left(ends, first) + 1
                self.functions.append((found[-1][0], lines))
        for match in POINTER.finditer(code):
            inside = code[match.end():closing(code, match.end() - 1)]
            self.lists.append((match.group(1), parameters(inside)))


# ---- The rules: each gives (name, sentence); the name is empty where it is the whole file -----------
def columns(text):
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > COLUMNS:
            yield "", f"has {len(line)} columns in line {number}; at most {COLUMNS}"


def long(text):
    for name, lines in Source(text).functions:
        if lines > FUNCTION_LINES:
            yield name, f"has {lines} lines; at most {FUNCTION_LINES}"


def wide(text):
    for name, count in sorted(set(Source(text).lists)):
        if count > PARAMETERS:
            yield name, f"takes {count} parameters; at most {PARAMETERS}"


BROKEN = re.compile(r"\s+(?:[\w *]*\w[ *]*|\w+ [\w *]+,)$")  # the first line of a declaration of two


def torn(text):
    """A comment behind code for which there is no room: the formatter moves its lines apart, or breaks the
    declaration before it. It stands above instead."""
    code = only_code(text).splitlines()
    comments = HIDDEN.sub(lambda match: match.group() if match.group()[0] == "/" else blank(match), text)
    lines = comments.splitlines()
    for number, line in enumerate(lines[:-1]):
        at = max(line.find("/*"), line.find("//"))
        if at < 0 or not line[:at].strip() or code[number][at:].strip():
            continue
        below = lines[number + 1]
        goes_on = "*/" not in line[at:] and line[at:at + 2] == "/*"
        again = below.strip()[:2] in ("/*", "//") and len(below) - len(below.lstrip()) == at
        broken = BROKEN.fullmatch(code[number - 1].rstrip()) and re.fullmatch(r"\s+\*?\w+[^(){}]*;\s*", line[:at])
        if goes_on or again or broken:
            names = re.findall(r"[A-Za-z_]\w*", line[:at]) or ["?"]
            yield names[-1], "has a comment behind it that is broken, or breaks it; it must stand above"


RULES = {"columns": columns, "long": long, "wide": wide, "torn": torn}


def judge(root, files):
    """rule, place, sentence"""
    for path in files:
        text = (root / path).read_text(encoding="utf-8")
        for rule, find in RULES.items():
            if rule == "columns" or path.suffix in C:
                for name, sentence in find(text):
                    yield rule, f"{path}:{name}" if name else str(path), sentence


# ---- The formatter ---------------------------------------------------------------------------------
def find_formatter(root):
    """clang-format of the right version: the system's, or what scripts/setup.sh brought from PyPI."""
    brought = root.glob("build-drivers/clang-format/lib/python3*/site-packages/clang_format/data/bin/clang-format")
    for name in [f"clang-format-{FORMATTER}", "clang-format", *map(str, brought)]:
        if shutil.which(name):
            version = subprocess.run([name, "--version"], capture_output=True, text=True).stdout
            if re.search(rf"version {FORMATTER}\.", version):
                return name
    return None


def unformatted(formatter, arguments, text=None):
    """Paths that the formatter would change."""
    done = subprocess.run([formatter, "-n", "--Werror", "--style=file", *arguments],
                          capture_output=True, text=True, input=text)
    found = re.findall(r"^(.*?):\d+:\d+: error: code should be clang-formatted", done.stderr, re.MULTILINE)
    if (done.returncode != 0) != bool(found):
        sys.exit(f"{formatter} ended with {done.returncode}: {done.stderr[:500]}")
    return sorted(set(found))


def judge_format(root, files):
    formatter = find_formatter(root)
    if not formatter:
        print(f"clang-format {FORMATTER} is not there: scripts/setup.sh test installs it")
        sys.exit(SKIPPED)
    planted = [f"--assume-filename={root}/host/planted.c"]
    if unformatted(formatter, planted, "int a;\n") or not unformatted(formatter, planted, "int  a ;\n"):
        sys.exit(f"{formatter} does not tell formatted text from other text")
    for name in unformatted(formatter, [str(root / path) for path in files if path.suffix in C | {".cpp"}]):
        yield "format", str(pathlib.Path(name).relative_to(root)), f"is not as clang-format {FORMATTER} has it"


# ---- Planted text ----------------------------------------------------------------------------------
def body(lines):
    return "{\n" + "  call();\n" * (lines - 2) + "}\n"


def planted():
    """rule, names that it must find, text"""
    seven, eight = (", ".join(f"int a{i}" for i in range(count)) for count in (7, 8))
    yield "columns", [], "x" * COLUMNS + "\n"
    yield "columns", [""], "\n" + "é" * (COLUMNS + 1) + "\n"
    yield "long", [], f"int f(void) {body(60)}"
    yield "long", ["f"], f"int f(void) {body(61)}"
    yield "long", ["f"], f"int f(int a,\n      int b) {body(60)}"
    yield "long", ["g"], f"#define F(x) {{\nint f(void) {body(9)}\nstatic void\ng(int a[3]) {body(60)}"
    yield "long", ["f"], f'extern "C" {{\n/* ( */ int f(void) {body(70)}}}\nchar c = \'{{\';\nint g(void) {body(60)}'
    yield "long", ["k"], f"__kernel __attribute__((reqd(1, 1, 1))) void k(__global float *x) {body(80)}"
    yield "long", ["g"], f"F(f,\n  (int a))\nF(g, 1)\n\nint f(void) {body(60)}G(x);\nint\ng(void) {body(60)}"
    yield "long", [], f"static const int a[] = {body(80)};\nstruct s {body(80)};\nint f(void) {{ return 1; }}\n"
    yield "wide", [], f"int f({seven});\nint g(void);\nint h({seven}) {{ return call(1, 2, 3, 4, 5, 6, 7, 8); }}\n"
    yield "wide", ["f", "g"], f"int f({eight});\nint g({eight}) {{}}\n"
    yield "wide", ["f", "t"], f"struct s {{\n  int (*f)({eight});\n}};\ntypedef int (*t)({eight});\n"
    yield "wide", [], "int f(int (*g)(int, int, int), int a, int b, int c, int d, int e, int h /* , */);\n"
    yield "wide", [], "static int a[] = {F(1, 2, 3, 4, 5, 6, 7, 8)};\n"
    yield "torn", [], "struct s {\n  /* above,\n   * and on */\n  int a; /* behind */\n  int b; /* behind */\n};\n"
    yield "torn", ["a"], "struct s {\n  int a; /* behind,\n            and on */\n};\n"
    yield "torn", ["a"], "struct s {\n  int a[2]; /* behind,\n               and on */\n};\n"
    yield "torn", ["a"], "struct s {\n  int a; /* behind, */\n         /* and on */\n};\n"
    yield "torn", ["b"], "struct s {\n  int a;\n  int b; // behind,\n         // and on\n  int c;\n};\n"
    yield "torn", ["b"], "struct s {\n  int a;\n  const int\n      *b; /* behind */\n};\n"
    yield "torn", ["b"], "struct s {\n  int a,\n      b; /* behind */\n};\n"
    yield "torn", [], "enum e {\n  A,\n  B, /* behind */\n};\nint f(void) {\n  int a;\n  a = 1; /* behind */\n}\n"
    yield "torn", [], 'const char *a = "/*";\nint b;\n'


def test_itself():
    for rule, expected, text in planted():
        found = [name for name, _ in RULES[rule](text)]
        if found != expected:
            sys.exit(f"the rule '{rule}' finds {found} where it must find {expected}:\n{text[:400]}")
    excused = {"long": {"a.c:f", "a.c:g"}}
    found = [("long", "a.c:f", "is long"), ("long", "a.c:h", "is long"), ("wide", "a.c:g", "is wide")]
    said = [sentence.split()[0] for sentence in verdict(found, ["long", "wide"], excused)]
    if said != ["a.c:h", "a.c:g", "a.c:g"]:
        sys.exit(f"the verdict names {said}")


# ---- The verdict -----------------------------------------------------------------------------------
def verdict(found, rules, excused):
    """Sentences on what breaks a rule without excuse, then on excuses that are not needed."""
    allowed = {(rule, place) for rule in rules for place in excused.get(rule, ())}
    yield from (f"{place} {sentence}" for rule, place, sentence in found if (rule, place) not in allowed)
    for rule, place in sorted(allowed - {(rule, place) for rule, place, _ in found}):
        yield f"{place} is excused from the rule '{rule}' in KNOWN, but need not be"


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    files = [path for path in project_files(root) if is_code(root, path)]
    if sum(path.suffix in C for path in files) < 100:
        sys.exit(f"only {len(files)} files under {root}: is it the right folder?")
    if sys.argv[2:] == ["--format"]:
        rules, found = ["format"], list(judge_format(root, files))
    else:
        test_itself()
        rules, found = list(RULES), list(judge(root, files))
    wrong = list(verdict(found, rules, KNOWN))
    print("\n".join(wrong) or f"{len(files)} files, {sum(len(KNOWN[rule]) for rule in rules)} places excused")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
