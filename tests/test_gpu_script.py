#!/usr/bin/env python3
"""scripts/gpu.sh run with PoCL in the GPU's place: its report, and that there is one whatever goes wrong.

    test_gpu_script.py SOURCES PROGRAM     SOURCES: the project's folder; PROGRAM: clnorm
"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

SOURCES, PROGRAM = (pathlib.Path(argument).resolve() for argument in (sys.argv.pop(1), sys.argv.pop(1)))
sys.path.insert(0, str(SOURCES / "bench" / "gpu"))

import ways  # noqa: E402

SECTIONS = ["# clnorm on a GPU", "## Ways to the GPU", "## Speed", "## Bits", "## Tuning (dry run)", "## What ran",
            "## What failed"]
SHAPES = ["2x3x4x5", "2x8x7x7"]
QUICK = ["--suite", "smoke", "--seconds", "0", *(word for shape in SHAPES for word in ("--shape", shape))]
NO_TORCH = "/bin/false"  # in the place of a Python


class GpuScript(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(subprocess.run, ["rm", "-rf", str(self.folder)], check=True)
        self.out = self.folder / "out"
        self.driver = ways.find_library("libpocl.so.2")
        self.assertTrue(self.driver, "this test needs PoCL")

    def program(self, text):
        """A clnorm that does something of its own first."""
        path = self.folder / "clnorm"
        path.write_text(f'#!/bin/sh\n{text}\nexec "{PROGRAM}" "$@"\n', encoding="utf-8")
        path.chmod(0o755)
        return path

    def command(self, *options, program=PROGRAM, driver=None):
        return ["sh", str(SOURCES / "scripts" / "gpu.sh"), "run", str(self.out), "--program", str(program),
                "--driver", driver or self.driver, "--python", NO_TORCH, *QUICK, *options]

    def run_script(self, *options, status, **chosen):
        done = subprocess.run(self.command(*options, **chosen), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=500)
        self.assertIn(done.returncode, [0, 1, 3] if status is None else [status], done.stdout)
        return self.result()

    def result(self):
        """What is in the folder, which must be all there and agree."""
        self.assertEqual(sorted(path.name for path in self.out.iterdir()), ["logs.txt", "report.md", "results.json"])
        self.report = (self.out / "report.md").read_text(encoding="utf-8")
        self.assertEqual([line for line in self.report.splitlines() if line.startswith("#")], SECTIONS)
        found = json.loads((self.out / "results.json").read_text(encoding="utf-8"))
        for step in found["steps"]:
            self.assertIn(step["name"], self.report)
            self.assertIn(f"==== {step['name']}: {step['status']}", (self.out / "logs.txt").read_text(encoding="utf-8"))
        return found

    @staticmethod
    def not_good(found):
        return {step["name"]: step["status"] for step in found["steps"] if step["status"] != "good"}

    def assert_measured(self, found):
        keys = {(row["op"], row["shape"]) for row in found["bench"]}
        self.assertEqual(keys, {(op, shape) for op in found["operations"] for shape in SHAPES})
        for row in found["bench"]:
            self.assertGreater(row["median_s"], 0)
            self.assertEqual(row["clock"], "device")
            self.assertIn(f"| {row['op']} | {row['shape']} |", self.report)

    def test_everything(self):
        found = self.run_script(status=1)  # PyTorch is not there
        self.assertEqual(self.not_good(found), {"PyTorch": "failed"})
        self.assertTrue(found["finished"])
        self.assertIn("taken: ", found["ways"][0]["result"])
        self.assert_measured(found)
        self.assertEqual(list(found["verify"]), ["verify smoke, work-groups of 256", "verify smoke, work-groups of 64"])
        for name, verified in found["verify"].items():
            self.assertEqual(verified["differing_elements"], 0)
            self.assertGreater(verified["cases"], 100)
            self.assertIn(name.split(", ")[1], verified["devices"][0])
        self.assertTrue(found["tune"]["devices"][0]["chosen"])
        self.assertIn("0 differing elements", self.report)

    def test_a_step_that_fails(self):
        """The others run, and the last lines of its log are in the report."""
        broken = self.program('[ "$1 $3" != "bench eval" ] || { echo "planted fault" >&2; exit 3; }')
        found = self.run_script(status=1, program=broken)
        self.assertEqual(self.not_good(found), {"bench eval, shapes given": "failed", "PyTorch": "failed"})
        self.assertEqual({row["op"] for row in found["bench"]}, {"train"})
        self.assertIn("    planted fault", self.report)
        self.assertIn("exit status 3", self.report)

    def test_a_step_that_dies(self):
        found = self.run_script(status=1, program=self.program('[ "$1" != tune ] || kill -SEGV $$'))
        self.assertEqual(self.not_good(found), {"tune": "failed", "PyTorch": "failed"})
        self.assertIn("SIGSEGV", self.report)
        self.assert_measured(found)

    def test_bits_that_differ(self):
        answer = json.dumps({"devices": ["a GPU"], "cases": 1, "differing_elements": 7, "max_ulp": 2,
                             "worst_bound_ratio": 0.5, "failures": [{"shape": "1x2x3x4", "differing_elements": 7}]})
        broken = self.program(f"[ \"$1\" != verify ] || {{ echo '{answer}'; exit 1; }}\n"
                              "[ \"$1\" = devices ] || exit 3")
        found = self.run_script(status=1, program=broken)
        self.assertEqual(self.not_good(found)["verify smoke, work-groups of 64"], "failed")
        for words in ("bits differ", "14 differing elements", "1x2x3x4"):
            self.assertIn(words, self.report)

    def test_a_step_that_hangs(self):
        """It is ended with all its children, and what comes after it is told as left out."""
        hanging = self.program('[ "$1 $3" != "bench eval" ] || { trap "" TERM; sleep 1000 & wait; sleep 1000; }')
        begin = time.monotonic()
        found = self.run_script("--budget", "60", status=1, program=hanging)
        self.assertLess(time.monotonic() - begin, 100)
        states = self.not_good(found)
        self.assertEqual(states["bench eval, shapes given"], "out of time")
        self.assertEqual(states["tune"], "not run")
        self.assertEqual(len(found["verify"]), 2)

    def test_ended_from_outside(self):
        hanging = self.program('[ "$1" != verify ] || { echo "so far" >&2; sleep 1000; }')
        with subprocess.Popen(self.command(program=hanging), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True) as script:
            for line in script.stderr:
                if "first run" in line:
                    break
            time.sleep(1)
            script.send_signal(signal.SIGTERM)
            script.stderr.read()
        self.assertEqual(script.returncode, 1)
        found = self.result()
        self.assertFalse(found["finished"])
        self.assertEqual(self.not_good(found), {"first run, given": "stopped"})
        for words in ("**Not finished**", "signal 15", "    so far"):
            self.assertIn(words, self.report)

    def test_no_driver(self):
        found = self.run_script(status=3, driver=str(self.folder / "none.so"))
        self.assertIn("none.so is not there", self.report)
        self.assertEqual(self.not_good(found), {"PyTorch": "failed"})
        self.assertIn("No way to the GPU", self.report)

    def test_a_driver_without_a_device(self):
        found = self.run_script(status=3, driver=ways.find_library("libm.so.6"))
        self.assertIn("libm.so.6", found["ways"][0]["driver"])
        self.assertIn("finds no driver", found["ways"][0]["result"])

    def test_a_device_that_does_not_run(self):
        found = self.run_script(status=3, program=self.program('[ "$1" != verify ] || { echo "no kernel"; exit 3; }'))
        self.assertIn("is there, but does not run: failed, exit status 3", found["ways"][0]["result"])
        self.assertEqual(found["bench"], [])
        self.assertIn("    no kernel", self.report)

    def test_all_ways_are_tried(self):
        """Each says what it lacks; a machine that has NVIDIA's driver shows that it is found."""
        driver = ways.find_library("libnvidia-opencl.so.*", everywhere=True)
        found = self.run_script("--prepared", str(self.folder), status=None if driver else 3, driver="auto")
        if driver:
            self.assertEqual((found["ways"][0]["name"], found["ways"][0]["driver"]), ("nvidia", driver))
            return
        self.assertEqual([way["name"] for way in found["ways"]], ["nvidia", "rusticl", "pocl"])
        for way, words in zip(found["ways"], ("libnvidia-opencl.so.1", "Vulkan", "libpocl-devices-cuda.so")):
            self.assertIn(words, way["result"])


class FindLibrary(unittest.TestCase):
    def test_where_no_loader_looks(self):
        """A versioned name in a folder of its own is found, and what is no library is not taken."""
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "libclnorm_planted.so.1").write_text("no library", encoding="utf-8")
            self.assertIsNone(ways.find_library("libclnorm_planted.so.*"))
            inner = pathlib.Path(folder) / "driver"
            inner.mkdir()
            wanted = inner / "libclnorm_planted.so.535.1"
            wanted.write_bytes(b"\x7fELF\x02 and more")
            os.environ["LD_LIBRARY_PATH"] = str(inner)
            try:
                self.assertEqual(ways.find_library("libclnorm_planted.so.*"), str(wanted))
            finally:
                del os.environ["LD_LIBRARY_PATH"]


if __name__ == "__main__":
    unittest.main(verbosity=2)
