"""What the tests of the program clnorm share; Python's own library only.

    test_cli*.py [PROGRAM]     PROGRAM, or $CLNORM; the device is $CLNORM_TEST_DEVICE ("cpu" where unset)
"""
import json
import math
import os
import pathlib
import platform
import random
import re
import struct
import subprocess
import sys
import tempfile
import unittest

PROGRAM = os.path.abspath(sys.argv.pop(1) if len(sys.argv) > 1 and not sys.argv[1].startswith("-")
                          else os.environ["CLNORM"])
DEVICE = os.environ.get("CLNORM_TEST_DEVICE", "cpu")


CODES = {"f2": "e", "f4": "f", "f8": "d", "u2": "H", "V2": "H"}


def npy_bytes(shape, values, descr="<f4", fortran=False):
    """A .npy file, version 1.0; values in the order in which they are stored."""
    header = f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {tuple(shape)}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    code = descr[0] + str(len(values)) + CODES[descr[1:]]
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + struct.pack(code, *values)


def read_npy(path, descr="<f4"):
    """Shape and values of a file that clnorm wrote."""
    return parse_npy(pathlib.Path(path).read_bytes(), descr)


def parse_npy(data, descr="<f4"):
    assert data[:8] == b"\x93NUMPY\x01\x00", data[:8]
    length = struct.unpack("<H", data[8:10])[0]
    header = eval(data[10:10 + length].decode(), {"__builtins__": {}}, {})
    assert header["descr"] == descr and header["fortran_order"] is False, header
    values = [value for value, in struct.iter_unpack("<" + CODES[descr[1:]], data[10 + length:])]
    return header["shape"], values


def f32(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def instruction_sets():
    """Those that the CPU path has on this machine, in the program's words."""
    if platform.machine() != "x86_64":
        return ["plain code"]
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        flags = set(re.search(r"(?m)^flags\s*:(.*)$", file.read())[1].split())
    wanted = {"plain code": set(), "AVX2": {"avx2", "fma"}, "AVX-512": {"avx512f", "avx512vl", "avx512dq"}}
    return [name for name, needed in wanted.items() if needed <= flags]


class CliTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.random = random.Random(7)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def write(self, name, shape, values=None, **options):
        """A file of the folder; random values where none are given. Returns its path and the values."""
        count = math.prod(shape)
        if values is None:
            values = [f32(self.random.gauss(1, 2)) for _ in range(count)]
        pathlib.Path(self.path(name)).write_bytes(npy_bytes(shape, values, **options))
        return self.path(name), values

    def start(self, *arguments, env=None, **options):
        """What subprocess.run returns."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 300, **options}
        return subprocess.run([PROGRAM, *map(str, arguments)], env={**os.environ, **(env or {})}, check=False,
                              **options)

    def clnorm(self, *arguments, status=0, env=None):
        """Standard output; fails unless the exit status is as given."""
        done = self.start(*arguments, env=env)
        out, self.err = done.stdout.decode(), done.stderr.decode()
        self.assertEqual(done.returncode, status, f"clnorm {arguments}\n{out}{self.err}")
        return out

    def refused(self, *arguments, words, status=2, env=None, lines=1):
        """One line (or as many as said) on standard error with all the words, and nothing on standard output."""
        self.assertEqual(self.clnorm(*arguments, status=status, env=env), "")
        self.assertEqual(self.err.count("\n"), lines, self.err)
        self.assertTrue(self.err.startswith("clnorm: "), self.err)
        for word in words:
            self.assertIn(word, self.err)

    def run_json(self, *arguments, status=0):
        return json.loads(self.clnorm("run", *arguments, "--device", DEVICE, "--json", status=status))
