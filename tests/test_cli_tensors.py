#!/usr/bin/env python3
"""clnorm run on tensors of every rank, layout and type, against the definition in doubles."""
import itertools
import math
import struct
import unittest

from cli_fixture import CliTest, read_npy

SHAPES = [(5, 3), (4, 3, 7), (2, 3, 4, 5), (2, 3, 2, 3, 2)]


def bfloat(value):
    """Nearest bits; ties do not come up in random data."""
    return (struct.unpack("<I", struct.pack("<f", value))[0] + 0x8000) >> 16


def from_bfloat(bits):
    return struct.unpack("<f", struct.pack("<I", bits << 16))[0]


def channel_of(index, shape, layout):
    return index[1] if layout == "nchw" else index[-1]


def normalized(values, shape, key):
    """(x - mean) / sqrt(var + eps) over the elements of each key(index)."""
    groups = {}
    keys = [key(index) for index in itertools.product(*map(range, shape))]
    for k, x in zip(keys, values):
        groups.setdefault(k, []).append(x)
    moments = {}
    for k, xs in groups.items():
        mean = math.fsum(xs) / len(xs)
        moments[k] = mean, 1 / math.sqrt(math.fsum((x - mean) ** 2 for x in xs) / len(xs) + 1e-5)
    return [(x - moments[k][0]) * moments[k][1] for k, x in zip(keys, values)]


class TestTensors(CliTest):
    def near(self, found, wanted, tolerance):
        self.assertEqual(len(found), len(wanted))
        for a, b in zip(found, wanted):
            self.assertLessEqual(abs(a - b), tolerance * (1 + abs(b)), (a, b))

    def good(self, *arguments):
        found = self.run_json(*arguments, "--mode", "train", "--verify", "-o", self.path("y.npy"))
        self.assertEqual((found["failures"], found["differing_elements"]), ([], 0))
        self.assertTrue(0 < found["worst_bound_ratio"] <= 1, found)  # it was looked at
        return found

    def test_ranks_and_layouts(self):
        for logical, layout in itertools.product(SHAPES, ["nchw", "nhwc"]):
            shape = logical if layout == "nchw" else (logical[0], *logical[2:], logical[1])
            path, x = self.write("x.npy", shape)
            found = self.good(path, "--layout", layout)
            self.assertEqual((found["shape"], found["layout"], found["dtype"]), (list(shape), layout, "f32"))
            got, y = read_npy(self.path("y.npy"))
            self.assertEqual(got, shape)
            self.near(y, normalized(x, shape, lambda index: channel_of(index, shape, layout)), 1e-5)

    def test_types(self):
        shape = (2, 4, 5, 3)
        numbers = [self.random.gauss(1, 2) for _ in range(math.prod(shape))]
        for file, dtype, out, tolerance in [
                ("<f2", None, "<f2", 1e-3), ("<f2", "f32", "<f4", 1e-5), ("<f2", "bf16", "<u2", 8e-3),
                ("<f4", "f16", "<f2", 1e-3), ("<f4", "bf16", "<u2", 8e-3), ("<u2", "bf16", "<u2", 8e-3),
                ("<V2", "bf16", "<u2", 8e-3), ("<f8", None, "<f8", 1e-13), ("<f8", "f32", "<f4", 1e-6)]:
            for layout in ["nchw", "nhwc"]:
                bits = file[1:] in ("u2", "V2")
                path, _ = self.write("x.npy", shape, [bfloat(v) for v in numbers] if bits else numbers, descr=file)
                self.good(path, "--layout", layout, *(["--dtype", dtype] if dtype else []))
                y = read_npy(self.path("y.npy"), out)[1]
                x = [from_bfloat(bfloat(v)) if bits else struct.unpack(file[0] + {"f2": "e", "f4": "f", "f8": "d"}[
                    file[1:]], struct.pack(file[0] + {"f2": "e", "f4": "f", "f8": "d"}[file[1:]], v))[0]
                     for v in numbers]
                wanted = normalized(x, shape, lambda index: channel_of(index, shape, layout))
                self.near([from_bfloat(v) for v in y] if out == "<u2" else y, wanted, tolerance)

    def test_per_activation(self):
        shape = (6, 2, 3, 2)
        path, x = self.write("x.npy", shape)
        bias, values = self.write("b.npy", (12,))
        self.good(path, "--per-activation", "--bias", bias)
        y = read_npy(self.path("y.npy"))[1]
        wanted = [v + values[i % 12] for i, v in enumerate(normalized(x, shape, lambda index: index[1:]))]
        self.near(y, wanted, 1e-4)
        same, _ = self.write("c.npy", (2, 3, 2), values)
        self.good(path, "--per-activation", "--bias", same)
        self.assertEqual(read_npy(self.path("y.npy"))[1], y)
        short, _ = self.write("s.npy", (2,))
        self.refused("run", path, "--per-activation", "--bias", short, words=[short, "(2,)", "(12,)"])

    def test_states_with_a_type_of_y(self):
        """The same running statistics as where y is as x."""
        path, _ = self.write("x.npy", (3, 2, 4))
        kept = []
        for dtype, convention in itertools.product(["f32", "f16"], ["kept", "new", "cumulative"]):
            self.good(path, "--dtype", dtype, "--momentum", "0.25", "--momentum-convention", convention,
                      "--num-batches-tracked", "2", "--save-running-var", self.path("v.npy"),
                      "--save-running-mean", self.path("m.npy"))
            kept.append((read_npy(self.path("m.npy")), read_npy(self.path("v.npy"))))
        self.assertEqual(kept[:3], kept[3:])
        self.assertNotEqual(kept[0], kept[1])


if __name__ == "__main__":
    unittest.main(verbosity=2)
