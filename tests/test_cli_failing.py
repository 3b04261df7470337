#!/usr/bin/env python3
"""One device that fails, at whatever call of its driver, leaves the others to be used.

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


if __name__ == "__main__":
    unittest.main(verbosity=2)
