#!/usr/bin/env python3
"""cmake/EmbedKernels.cmake: an OpenCL compiler reads from the embedded text what a C compiler reads from the folder.

    test_embed_kernels.py SOURCES CMAKE COMPILER

COMPILER preprocesses both. Each token must be there and come from the same line of the same file.
"""
import itertools
import os.path
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

SOURCES = pathlib.Path(sys.argv.pop(1)).resolve()
CMAKE, COMPILER = sys.argv.pop(1), sys.argv.pop(1)
GUARDED = "#ifndef {0}_H\n#define {0}_H\n{1}\n#endif\n"


def embed(folder, names, files, out):
    """The embedded texts by name, or the error; written to `out`."""
    done = subprocess.run(
        [CMAKE, "-D", f"OUTPUT={out}", "-D", f"KERNELS={folder}", "-D", f"NAMES={';'.join(names)}", "-D",
         f"FILES={';'.join(files)}", "-P", SOURCES / "cmake" / "EmbedKernels.cmake"], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        return re.sub(r"\s+", " ", done.stderr)
    arrays = re.findall(r"const char clnorm__kernel_(\w+)\[\] = {\n(.*?)0x00};", out.read_text("ascii"), re.S)
    return {name: bytes(int(byte, 16) for byte in re.findall(r"0x(..),", text)).decode() for name, text in arrays}


def preprocess(path, folder, defines):
    """What is left of a file, as (file, line, text); files are named from the parent of `folder` on."""
    text = subprocess.run([COMPILER, "-x", "c", "-E", "-I", folder, *(f"-D{define}" for define in defines), path],
                          check=True, stdout=subprocess.PIPE, text=True).stdout
    file, number = "", 0
    for line in text.splitlines():
        marker = re.match(r'#(?:line)? (\d+) "([^"]*)"', line)
        if marker:
            number = int(marker.group(1))
            file = os.path.normpath(marker.group(2)).removeprefix(f"{folder.parent}/")
            continue
        if line.strip():
            yield file, number, " ".join(line.split())
        number += 1


class Case(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name).resolve() / "texts"
        self.out = self.folder.parent / "out.c"

    def write(self, files):
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="ascii")

    def compare(self, folder, name, text, defines):
        embedded = self.folder.parent / "embedded.cl"
        embedded.write_text(text, encoding="ascii")
        want = list(preprocess(folder / f"{name}.cl", folder, defines))
        self.assertTrue(want)
        self.assertEqual(list(preprocess(embedded, folder, defines)), want, defines)

    def embeds(self, files, *choices):
        """k.cl is embedded, and right with each combination of the macros."""
        self.write(files)
        texts = embed(self.folder, ["k"], files, self.out)
        self.assertIsInstance(texts, dict, texts)
        for bits in itertools.product([0, 1], repeat=len(choices)):
            self.compare(self.folder, "k", texts["k"], [c for c, bit in zip(choices, bits) if bit])
        return texts["k"]

    def refuses(self, words, line, **files):
        self.write({"k.cl": f"int k;\n{line}\nint l;\n", "a.h": "int a;\n", "unlisted.h": "int b;\n", **files})
        message = embed(self.folder, ["k"], ["k.cl", "a.h", "absent.h", *files], self.out)
        self.assertIsInstance(message, str, line)
        for word in words.split("|"):
            self.assertIn(word, message, line)


class Right(Case):
    def test_a_guarded_header_is_there_once(self):
        text = self.embeds({"a.h": GUARDED.format("A", "int a;"), "b.h": GUARDED.format("B", '#include "a.h"\nint b;'),
                            "k.cl": '#include "b.h"\nint k;\n#include "a.h"\n#include "b.h"\nint l;'})
        self.assertEqual(text.count("int a;"), 1)
        self.assertEqual(text.count("int b;"), 1)

    def test_a_header_without_a_guard_is_there_each_time(self):
        self.embeds({"a.h": "int NAME;\n#undef NAME\n",
                     "k.cl": '#define NAME one\n#include "a.h"\n#define NAME two\n#include "a.h"\nint k;\n'})

    def test_what_looks_like_a_guard_and_is_none(self):
        for text in ("#ifndef A_H\n#define A_H\nint a;\n#endif\nint again;\n",
                     "int before;\n#ifndef A_H\n#define A_H\nint a;\n#endif\n",
                     "#ifndef A_H\n#define A_H\nint a;\n#else\nint again;\n#endif\n",
                     "#ifndef A_H\n#define A_H\nint a;\n#endif\n#ifdef A_H\nint again;\n#endif\n",
                     "#ifndef A_H\n#define OTHER\nint a;\n#endif\n"):
            with self.subTest(text):
                self.embeds({"a.h": text, "k.cl": '#include "a.h"\nint k;\n#include "a.h"\nint l;\n'})

    def test_branches_that_are_not_taken_swallow_nothing(self):
        a = GUARDED.format("A", "int a;")
        for text in ('#ifdef P\n#include "a.h"\n#endif\nint k;\n#include "a.h"\nint l;\n',
                     '#if P\n#include "a.h"\n#elif Q\nint q;\n#include "a.h"\n#else\n#include "a.h"\nint r;\n#endif\n'
                     '#include "a.h"\nint l;\n',
                     '#if P\n#if Q\n#include "a.h"\n#endif\nint p;\n#include "a.h"\n#endif\n#include "a.h"\nint l;\n',
                     '#include "a.h"\n#if P\n#include "a.h"\nint p;\n#endif\nint l;\n',
                     '#if P\n#if Q\nint q;\n#include "a.h"\n#endif\n#endif\nint l;\n',
                     '#if P || \\\n    Q\n#include "a.h"\nint p;\n#endif\nint l;\n'):
            with self.subTest(text):
                self.embeds({"a.h": a, "k.cl": text}, "P", "Q")

    def test_branches_inside_guarded_headers(self):
        self.embeds({"a.h": GUARDED.format("A", "int a;"),
                     "b.h": GUARDED.format("B", '#ifdef P\n#include "a.h"\n#endif\nint b;'),
                     "k.cl": '#include "b.h"\n#include "a.h"\nint k;\n#include "b.h"\nint l;\n'}, "P")

    def test_headers_that_include_each_other(self):
        self.embeds({"a.h": GUARDED.format("A", '#include "b.h"\nint a;'),
                     "b.h": GUARDED.format("B", '#include "a.h"\nint b;'), "k.cl": '#include "a.h"\nint k;\n'})

    def test_subfolders(self):
        """From the includer's folder, or else from the root."""
        self.embeds({"sub/a.h": '#include "b.h"\n#include "deep/c.h"\n#include "../top.h"\n#include "sub/d.h"\n',
                     "sub/b.h": "int sub_b;\n", "b.h": "int b;\n", "sub/deep/c.h": '#include "../../b.h"\nint c;\n',
                     "top.h": "int top;\n", "sub/d.h": "int d;\n", "k.cl": '#include "sub/a.h"\n#include "b.h"\n'})

    def test_any_line_and_spelling(self):
        for line in ('#include "a.h"', '  #  include\t"a.h"  ', '#include"a.h"', '#include "a.h" /* why */',
                     '#include "a.h" // why', '/* why */ #include "a.h"'):
            for text in (f"{line}\nint k;\n", f"int k;\n{line}", f"int k;\n{line}\n{line}\nint l;\n"):
                with self.subTest(text):
                    self.embeds({"a.h": "int a;", "k.cl": text})

    def test_comments_hide_includes(self):
        for text in ('/*\n#include "absent.h"\n*/\nint k;\n', '// #include "absent.h"\nint k;\n',
                     '/* a */ /* b\n#include "absent.h"\n#if\n c */ int k; // /*\n#include "a.h"\nint l;\n'):
            with self.subTest(text):
                self.embeds({"a.h": "int a;\n", "k.cl": text})

    def test_every_character_is_kept(self):
        self.embeds({"k.cl": 'char s[] = "a;b\\\\ [;] ] $x ${y} @z@ %";\n#define M(x) x; \\\n  x[0];\n'
                             'M(a)\n\n\nint l;\n'})

    def test_no_c_header_is_left(self):
        self.assertNotIn("stdint", self.embeds({"k.cl": "#ifdef C\n#include <stdint.h>\n#endif\nint k;\n"}))


class Refused(Case):
    def test_includes_that_cannot_be_expanded(self):
        for line in ("#include <math.h>", "#include MACRO", '#include "a.h" int x;', "#include", '#include_next "a.h"',
                     '#import "a.h"', '#include \\\n  "a.h"'):
            self.refuses("texts/k.cl:2|not an include that can be expanded", line)

    def test_files(self):
        self.refuses("texts/k.cl:2|absent.h is included, but is not there", '#include "absent.h"')
        self.refuses("texts/k.cl:2|unlisted.h is included, but is not in the list", '#include "unlisted.h"')
        self.refuses("b.h:1|unlisted.h is included, but", '#include "b.h"', **{"b.h": '#include "unlisted.h"\n'})

    def test_structure(self):
        self.refuses("without end", '#include "b.h"', **{"b.h": 'int b;\n#include "b.h"\n'})
        self.refuses("texts/k.cl|#if without #endif", "#if P")
        self.refuses("texts/k.cl:2|#else without #if", "#else")
        self.refuses("texts/k.cl:3|include guard B_H", '#include "b.h"\n#undef B_H',
                     **{"b.h": GUARDED.format("B", "int b;")})


class Kernels(Case):
    def test_the_kernels(self):
        folder = SOURCES / "kernels"
        names = [path.stem for path in folder.glob("*.cl")]
        texts = embed(folder, names, [path.name for path in folder.iterdir()], self.out)
        self.folder.mkdir()
        for name, path, x in itertools.product(names, "012", "0123"):
            if (name, path) != ("wide", "2"):
                defines = ["__OPENCL_VERSION__=120", f"CLNORM_PATH={path}", f"CLNORM_X_STORAGE={x}",
                           f"CLNORM_Y_STORAGE={x}"]
                self.compare(folder, name, texts[name], defines)


if __name__ == "__main__":
    unittest.main()
