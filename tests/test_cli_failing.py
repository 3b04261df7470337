#!/usr/bin/env python3
"""One device that fails, at whatever call of its driver, leaves the others to be used; one that lacks a type is not
counted as having passed what was not run.

    test_cli_failing.py [PROGRAM]     as cli_fixture.py says; OPENCL_LAYERS names the layer of tests/layer
"""
import json
import re
import unittest

from cli_fixture import DEVICE, CliTest, instruction_sets


class TestFailingCalls(CliTest):
    def calls(self, last):
        """Numbers of calls, close to each other at first."""
        at = 5
        while at < last:
            yield at
            at += at // 2

    def failing(self, at, *arguments):
        done = self.start(*arguments, "--device", f"cpu,{DEVICE}", env={"CLNORM_TEST_LAYER_FAIL_AT": str(at)})
        self.assertIn(done.returncode, (0, 3), done.stderr)
        return done

    def test_verify(self):
        """The CPU path's rows are complete, and the verdict counts the device that is not."""
        late = 0
        for at in self.calls(4000):
            done = self.failing(at, "verify", "--suite", "smoke")
            rows = re.findall(r"(?m)^.*\(cpu\), .*, 1 thread +smoke +(\d+) +0 .*s$", done.stdout.decode())
            self.assertEqual(len(rows), len(instruction_sets()), done.stdout)
            self.assertGreater(min(map(int, rows)), 100)
            self.assertEqual(len(set(rows)), 1)
            verdict = done.stdout.decode().splitlines()[-1]
            self.assertTrue(verdict.startswith("equal: "), verdict)
            self.assertEqual(verdict.endswith("; 1 device FAILED"), done.returncode == 3, verdict)
            late += b"failed on " in done.stderr
        self.assertGreater(late, 0, "no call failed while cases ran")

    def test_bench(self):
        late = 0
        for at in self.calls(4000):
            done = self.failing(at, "bench", "--shape", "2x3x4x5", "--shape", "1x2x3x4", "--seconds", "0",
                                "--no-costs", "--json")
            found = json.loads(done.stdout)
            self.assertEqual(sum("(cpu)" in row["device"] for row in found["results"]), 4)
            self.assertEqual(len(found["failed"]), done.returncode == 3)
            late += b"failed on " in done.stderr
        self.assertGreater(late, 0, "no call failed while something was measured")


class TestLackingTypes(CliTest):
    SMALL_GPU = {"CLNORM_TEST_LAYER_PERSONALITY": "1"}  # LAYER_SMALL_GPU, which has no extensions

    def verify(self, devices, *options, status=0, dtype="f64"):
        return self.clnorm("verify", "--device", devices, "--shape", "2x3x4x5", "--dtype", dtype, *options,
                           status=status, env=self.SMALL_GPU)

    def test_nothing_could_be_run(self):
        found = json.loads(self.verify(DEVICE, "--json", status=2))
        self.assertEqual((found["cases"], found["failures"], found["failed"]), (0, [], []))
        self.assertEqual(found["worst_bound_ratio"], 0)
        row, = found["not_run"]
        self.assertEqual((row["device"], row["dtype"]), (found["devices"][0], "f64"))
        self.assertGreater(row["cases"], 10)
        self.assertIn("cl_khr_fp64", row["reason"])

    def test_others_go_on(self):
        alone = json.loads(self.verify("cpu", "--json"))
        self.assertEqual(alone["not_run"], [])
        self.assertGreater(alone["worst_bound_ratio"], 0)
        found = json.loads(self.verify(f"cpu,{DEVICE}", "--json"))
        self.assertEqual((found["cases"], found["failures"]), (alone["cases"], []))
        missing = found["not_run"][0]["cases"]
        text = self.verify(f"cpu,{DEVICE}")
        self.assertRegex(text, rf"(?m)^NOT RUN: {missing} cases of f64 on .*: .*cl_khr_fp64")
        self.assertTrue(text.splitlines()[-1].endswith(f"; {missing} not run"), text)

    def test_what_the_device_has_is_run(self):
        found = json.loads(self.verify(DEVICE, "--op", "eval", "--json", dtype="all"))
        missing = found["not_run"][0]["cases"]
        self.assertEqual([row["dtype"] for row in found["not_run"]], ["f64"])
        self.assertEqual(found["cases"], 3 * missing)
        self.assertEqual(found["failures"], [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
