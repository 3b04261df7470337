#!/usr/bin/env python3
"""clnorm backward, against the definition in doubles."""
import itertools
import json
import math
import os
import pathlib
import unittest

from cli_fixture import CliTest, read_npy

DEVICE = os.environ.get("CLNORM_TEST_DEVICE", "cpu")
SHAPES = [(5, 3), (4, 3, 7), (2, 3, 4, 5), (2, 3, 2, 3, 2)]


def channels(values, shape, channel):
    """Values of each channel, with their places."""
    result = [[] for _ in range(3)]
    for i, index in enumerate(itertools.product(*map(range, shape))):
        result[channel(index)].append((i, values[i]))
    return result


class TestBackward(CliTest):
    def backward(self, *arguments):
        names = [word for name in ("dx", "dweight", "dbias") for word in (f"--{name}", self.path(f"{name}.npy"))]
        found = json.loads(self.clnorm("backward", *arguments, *names, "--device", DEVICE, "--verify", "--json"))
        self.assertEqual((found["failures"], found["differing_elements"]), ([], 0))
        self.assertTrue(0 < found["worst_bound_ratio"] <= 1, found)
        return found, [read_npy(self.path(f"{name}.npy")) for name in ("dx", "dweight", "dbias")]

    def near(self, found, wanted):
        self.assertLessEqual(abs(found - wanted), 1e-4 * (1 + abs(wanted)))

    def check(self, shape, channel, x, dy, weight, results):
        """Training mode."""
        (got, dx), (vector, dweight), (_, dbias) = results
        self.assertEqual((got, vector), (shape, (3,)))
        for c, (xs, gs) in enumerate(zip(channels(x, shape, channel), channels(dy, shape, channel))):
            count = len(xs)
            mean = math.fsum(v for _, v in xs) / count
            invstd = 1 / math.sqrt(math.fsum((v - mean) ** 2 for _, v in xs) / count + 1e-5)
            s = math.fsum(g for _, g in gs)
            t = math.fsum(g * (v - mean) * invstd for (_, v), (_, g) in zip(xs, gs))
            self.near(dbias[c], s)
            self.near(dweight[c], t)
            for (i, v), (_, g) in zip(xs, gs):
                self.near(dx[i], weight[c] * invstd * (g - s / count - (v - mean) * invstd * t / count))

    def test_training(self):
        for logical, layout in itertools.product(SHAPES, ["nchw", "nhwc"]):
            shape = logical if layout == "nchw" else (logical[0], *logical[2:], logical[1])
            (x, xs), (dy, dys) = self.write("x.npy", shape), self.write("dy.npy", shape)
            weight, ws = self.write("w.npy", (3,))
            found, results = self.backward(x, dy, "--weight", weight, "--mode", "train", "--layout", layout)
            self.assertEqual((found["shape"], found["layout"], found["mode"]), (list(shape), layout, "train"))
            self.check(shape, lambda index: index[1 if layout == "nchw" else -1], xs, dys, ws, results)

    def test_constant_statistics(self):
        (x, xs), (dy, dys) = self.write("x.npy", (2, 3, 7)), self.write("dy.npy", (2, 3, 7))
        mean, ms = self.write("m.npy", (3,))
        var, _ = self.write("v.npy", (3,), [3, 0.5, 1])
        _, [(_, dx), (_, dweight), (_, dbias)] = self.backward(x, dy, "--running-mean", mean, "--running-var", var)
        for c, v in enumerate([3, 0.5, 1]):
            places, invstd = [i for i in range(42) if i // 7 % 3 == c], 1 / math.sqrt(v + 1e-5)
            self.near(dbias[c], math.fsum(dys[i] for i in places))
            self.near(dweight[c], math.fsum(dys[i] * (xs[i] - ms[c]) * invstd for i in places))
            for i in places:
                self.near(dx[i], dys[i] * invstd)

    def test_one_gradient_and_none(self):
        (x, _), (dy, _) = self.write("x.npy", (2, 3, 7)), self.write("dy.npy", (2, 3, 7))
        self.clnorm("backward", x, dy, "--mode", "train", "--dbias", self.path("b.npy"), "--device", DEVICE)
        self.assertEqual(read_npy(self.path("b.npy"))[0], (3,))
        text = self.clnorm("backward", x, dy, "--device", DEVICE)
        self.assertIn("keep it with --dweight", text)
        text = self.clnorm("backward", x, dy, "--freeze", "--device", DEVICE)
        self.assertIn("keep it with --dx", text)
        self.assertNotIn("--dweight", text)

    def test_what_is_refused(self):
        (x, _), (dy, _) = self.write("x.npy", (2, 3, 7)), self.write("dy.npy", (2, 3, 8))
        self.refused("backward", x, words=["two input files", "got 1"])
        self.refused("backward", x, dy, words=[dy, "(2,3,8)", x, "(2,3,7)"])
        self.refused("backward", "-", "-", words=["standard input", "2 times"])
        self.refused("backward", x, x, "--dx", self.path("a"), "--dbias", self.path("a"), words=["--dx", "--dbias"])
        self.refused("backward", x, x, "--dx", x, words=["--dx", "X"])
        for option, reason in [("--freeze", "--freeze"), ("--no-affine", "--no-affine")]:
            self.refused("backward", x, x, option, "--dweight", self.path("w"), words=["--dweight", reason])
        self.refused("backward", x, x, "--dtype", "f64", "--device", "cpu", words=["x of f32 with dx of f64"])
        self.assertFalse(pathlib.Path(self.path("w")).exists())


if __name__ == "__main__":
    unittest.main()
