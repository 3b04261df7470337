#!/usr/bin/env python3
"""The program clnorm as a user meets it: outputs, JSON keys, messages and exit statuses.

    test_cli.py [PROGRAM]     as cli_fixture.py says

$CLNORM_TEST_DATA is the folder of real layers (beside this file where unset).
"""
import json
import math
import os
import pathlib
import re
import subprocess
import unittest
import xml.etree.ElementTree

from cli_fixture import DEVICE, PROGRAM, CliTest, f32, instruction_sets, npy_bytes, read_npy

DATA = pathlib.Path(os.environ.get("CLNORM_TEST_DATA", pathlib.Path(__file__).parent / "data"))
DEVICE_KEYS = {"id", "name", "platform", "type", "form", "status", "usable", "denormals", "compute_units",
               "memory_bytes", "max_alloc_bytes", "vector_width", "tuned"}
VERIFY_KEYS = {"devices", "baseline", "cases", "differing_elements", "max_ulp", "worst_bound_ratio", "not_promised",
               "not_run", "failures"}
RUN_KEYS = {"device", "shape", "dtype", "layout", "mode", "seconds", "output"}


def channel_moments(x, shape, channel):
    n, c, h, w = shape
    values = [v for i in range(n) for v in x[(i * c + channel) * h * w:(i * c + channel + 1) * h * w]]
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((v - mean) ** 2 for v in values) / len(values)


class TestProgram(CliTest):
    def test_help(self):
        self.assertIn("clnorm verify", self.clnorm("--help"))
        self.assertRegex(self.clnorm("--version"), r"^clnorm \d+\.\d+\.\d+\n$")
        for command in ["devices", "run", "backward", "verify", "bench", "tune"]:
            text = self.clnorm(command, "--help")
            self.assertIn("example: clnorm " + command, text)
            self.assertEqual(self.clnorm(command, "-h"), text)
            self.assertEqual(self.clnorm("help", command), text)
            self.assertLessEqual(max(map(len, text.splitlines())), 90)
        self.refused("help", "nonsense", words=["unknown command 'nonsense'"])

    def test_every_option_of_the_help_is_known(self):
        for command in ["devices", "run", "backward", "verify", "bench", "tune"]:
            for option in set(re.findall(r"--[a-z][a-z-]*", self.clnorm(command, "--help"))) - {"--help"}:
                done = subprocess.run([PROGRAM, command, option, "--nonsense"], capture_output=True, check=False)
                self.assertNotIn(f"unknown option '{option}'", done.stderr.decode())

    def test_wrong_usage(self):
        self.assertEqual(self.clnorm(status=2), "")
        self.assertIn("clnorm COMMAND --help", self.err)
        self.refused("nonsense", words=["nonsense", "--help"])
        for command in ["devices", "run", "backward", "verify", "bench", "tune"]:
            self.refused(command, "--nonsense", words=["--nonsense", f"clnorm {command} --help"])
        self.refused("devices", "x", words=["'x'"])
        self.refused("devices", "--json=1", words=["--json takes no value"])
        self.refused("devices", "--json=1", words=["'1'"])
        self.refused("verify", "--suite", words=["--suite needs a value"])
        self.refused("verify", "x", words=["'x'"])
        self.refused("verify", "--suite", "none", words=["'none'", "edge", "resnet50", "unet"])
        self.refused("verify", "--shape", "1x2x3", words=["'1x2x3'", "NxCxHxW"])
        self.refused("verify", "--shape", "99999999x99999999x9999x1", words=["NxCxHxW"])
        self.refused("verify", "--form", "tall", words=["'tall'", "auto|vector|wide"])
        self.refused("verify", "--seed", "-1", words=["'-1'"])
        self.refused("verify", "--threads", "two", words=["'two'"])
        self.refused("run", words=["one input file"])
        self.refused("run", "a", "b", words=["one input file"])
        self.refused("run", "x.npy", "--eps", "small", words=["'small'", "number"])
        self.refused("run", "x.npy", "--mode", "test", words=["'test'", "eval|train"])

    def test_suggestions(self):
        for words, meant in [(["verfy"], "verify"), (["Run"], "run"), (["--versions"], "--version"),
                             (["run", "--devise", "cpu"], "--device"), (["run", "--runing-var=v"], "--running-var"),
                             (["bench", "--jsn"], "--json"), (["tune", "-device"], "--device")]:
            self.refused(*words, words=[f"(did you mean {meant}?)", "--help"])
        for words in [["x"], ["run", "--nonsense"], ["run", "-z"], ["run", "--" + "long" * 99]]:
            self.refused(*words, words=["unknown"])
            self.assertNotIn("did you mean", self.err)
        self.refused("run", "--devise=cpu", words=["unknown option '--devise'"])

    def test_given_twice(self):
        for command, option, values in [
                ("run", "--device", ["cpu", "0.0"]), ("run", "--eps", ["1", "1"]), ("run", "--mode", ["eval", "train"]),
                ("verify", "--seed", ["1", "2"]), ("verify", "--form", ["wide", "auto"]),
                ("bench", "--batch", ["1", "2"]), ("bench", "--svg", ["a", "b"]), ("tune", "--seconds", ["1", "2"])]:
            self.refused(command, option, values[0], f"{option}={values[1]}",
                         words=[option, "twice", f"'{values[0]}'", f"'{values[1]}'"])
        self.refused("run", "x.npy", "-o", "a", "--output", "b", words=["--output is given twice", "'a'", "'b'"])
        self.assertEqual(self.clnorm("devices", "--json", "--json"), self.clnorm("devices", "--json"))

    def test_forgotten_values(self):
        for words, option in [(["run", "x.npy", "--weight", "--bias", "b.npy"], "--weight"),
                              (["run", "x.npy", "-o", "--json"], "-o"), (["bench", "--svg", "--csv"], "--svg"),
                              (["verify", "--device", "--suite=smoke"], "--device")]:
            self.refused(*words, words=[f"{option} needs a value, but is followed by -"])
        self.refused("run", "x.npy", "--device", "", words=["--device is ''", "a name"])
        self.refused("run", "x.npy", "--weight=--bias", words=["x.npy", "No such file"])

    def test_numbers_are_quoted_as_given(self):
        path, _ = self.write("x.npy", (2, 3, 2, 2))
        for option, value in [("--momentum", "1.0000001"), ("--momentum", "-0.0000001"), ("--eps", "-1.23456789"),
                              ("--eps", "nan"), ("--eps", "inf"), ("--momentum", "nan")]:
            self.refused("run", path, "--device", "cpu", option, value, words=[value.replace("0.0000001", "1e-07")
                                                                               if "-0.0" in value else value])
        for option, value in [("--eps", "1e999"), ("--eps", "1e-999"), ("--eps", "1,5"), ("--eps", ""),
                              ("--threads", "1.5"), ("--threads", "-1"), ("--threads", "99999999999999999999"),
                              ("--num-batches-tracked", "1e3"), ("--momentum", "half")]:
            self.refused("run", path, f"{option}={value}", words=[f"{option} is '{value}'", "must be"])
        for value in ["0", "-1", "1.5", "many"]:
            self.refused("bench", "--batch", value, words=[f"'{value}'", "1 or more"])

    def test_locales(self):
        """A comma as the decimal point of a locale is nothing to the program."""
        path, _ = self.write("x.npy", (2, 3, 2, 2))
        for locale in ["de_DE.UTF-8", "tr_TR.UTF-8", "fa_IR", "no_such_locale"]:
            found = json.loads(self.clnorm("run", path, "--device", "cpu", "--eps", "0.5", "--json",
                                           env={"LC_ALL": locale, "LANG": locale}))
            self.assertGreater(found["seconds"], 0)

    def test_exclusions(self):
        self.refused("bench", "--json", "--csv", words=["--json", "--csv", "exclude"])
        self.refused("bench", "--batch", "2", "--shape", "1x2x3x4", words=["--batch is for suites"])
        self.refused("bench", "--json", "--csv", "--suite", "nonsense", words=["exclude"])

    def test_no_such_device(self):
        path, _ = self.write("x.npy", (1, 2, 3, 4))
        for arguments in [("run", path), ("verify",)]:
            self.refused(*arguments, "--device", "no such device", words=["no such device"], status=3)
            self.refused(*arguments, "--device", "99.0", words=["99.0"], status=3)

    def test_full_disk(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        with open("/dev/full", "wb") as full:
            done = subprocess.run([PROGRAM, "devices"], stdout=full, stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"standard output", done.stderr)


class TestDevices(CliTest):
    def test_json(self):
        found = json.loads(self.clnorm("devices", "--json"))
        self.assertEqual(set(found), {"devices", "default", "missing"})
        for device in found["devices"]:
            self.assertEqual(set(device), DEVICE_KEYS)
        ids = [device["id"] for device in found["devices"]]
        self.assertEqual(ids[0], "cpu")
        self.assertIn(DEVICE, ids)
        self.assertIn(found["default"], ids)

    def test_table(self):
        text = self.clnorm("devices")
        self.assertIn("\n* ", text)
        self.assertIn("cpu", text)

    def test_without_opencl(self):
        nowhere = {"OCL_ICD_VENDORS": self.folder.name}
        found = json.loads(self.clnorm("devices", "--json", env=nowhere))
        self.assertEqual([device["id"] for device in found["devices"]], ["cpu"])
        self.assertTrue(found["missing"])
        self.assertEqual(found["default"], "cpu")
        path, _ = self.write("x.npy", (1, 2, 3, 4))
        self.clnorm("run", path, env=nowhere)
        self.clnorm("verify", "--suite", "smoke", env=nowhere)
        self.assertIn("missing", self.err)
        self.clnorm("run", path, "--device", "gpu", env=nowhere, status=3)

    def test_a_driver_that_crashes(self):
        """It is in nobody's way who does not ask for it; devices and tune tell, and go on without OpenCL."""
        crash = os.environ.get("CLNORM_TEST_CRASH", "") # "": a build without OpenCL, which looks at no driver
        pathlib.Path(self.path("crash.icd")).write_text(crash + "\n", encoding="utf-8")
        drivers = {"OCL_ICD_VENDORS": self.folder.name, "CLNORM_CACHE_DIR": self.path("cache")}
        status = 3 if crash else 0
        found = json.loads(self.clnorm("devices", "--json", env=drivers, status=status))
        self.assertEqual([device["id"] for device in found["devices"]], ["cpu"])
        self.assertEqual("OCL_ICD_VENDORS" in self.err, bool(crash), self.err)
        self.clnorm("tune", "--reset", env=drivers, status=status)
        self.assertEqual("OCL_ICD_VENDORS" in self.err, bool(crash), self.err)
        path, _ = self.write("x.npy", (1, 2, 3, 4))
        self.clnorm("tune", "--device", "cpu", "--reset", env=drivers)
        self.clnorm("run", path, "--device", "cpu", "--verify", env=drivers)
        self.clnorm("verify", "--device", "cpu", "--suite", "smoke", env=drivers)
        self.clnorm("bench", "--device", "cpu", "--shape", "1x2x3x4", "--seconds", "0", env=drivers)


class TestRun(CliTest):
    def test_evaluation(self):
        shape = (2, 3, 4, 5)
        x_path, x = self.write("x.npy", shape)
        vectors = {}
        for name, values in [("weight", [0.5, -2, 1]), ("bias", [1, 0, -3]), ("running-mean", [0.25, -1, 4]),
                             ("running-var", [1, 4, 0.5])]:
            vectors[name] = self.write(name + ".npy", (3,), [f32(v) for v in values])
        options = [word for name, (path, _) in vectors.items() for word in ("--" + name, path)]
        found = self.run_json(x_path, "-o", self.path("y.npy"), *options, "--eps", "0.001", "--verify")
        self.assertEqual(set(found), RUN_KEYS | VERIFY_KEYS)
        self.assertEqual((found["shape"], found["mode"], found["output"]),
                         (list(shape), "eval", self.path("y.npy")))
        self.assertEqual((found["differing_elements"], found["failures"], found["cases"]), (0, [], 1))
        self.assertLessEqual(found["worst_bound_ratio"], 1)
        self.assertGreater(found["seconds"], 0)
        got_shape, y = read_npy(self.path("y.npy"))
        self.assertEqual(got_shape, shape)
        for i, value in enumerate(y):
            c = i // 20 % 3
            w, b, m, v = (vectors[k][1][c] for k in ("weight", "bias", "running-mean", "running-var"))
            self.assertAlmostEqual(value, (x[i] - m) / math.sqrt(v + 0.001) * w + b, delta=2e-5)

    def test_training_and_what_it_saves(self):
        shape = (3, 2, 3, 3)
        path, x = self.write("x.npy", shape)
        files = {name: self.path(name + ".npy")
                 for name in ["save-running-mean", "save-running-var", "save-mean", "save-invstd"]}
        found = self.run_json(path, "--mode", "train", "--verify",
                              *[word for name in files for word in ("--" + name, files[name])])
        self.assertEqual((found["mode"], found["output"]), ("train", None))
        saved = {name: read_npy(file) for name, file in files.items()}
        for c in range(2):
            mean, var = channel_moments(x, shape, c)
            self.assertEqual(saved["save-mean"][0], (2,))
            self.assertAlmostEqual(saved["save-mean"][1][c], mean, places=5)
            self.assertAlmostEqual(saved["save-invstd"][1][c], 1 / math.sqrt(var + 1e-5), places=5)
            self.assertAlmostEqual(saved["save-running-mean"][1][c], 0.1 * mean, places=5)
            self.assertAlmostEqual(saved["save-running-var"][1][c], 0.9 + 0.1 * var * 27 / 26, places=5)

    def test_momentum_conventions(self):
        shape = (2, 1, 2, 2)
        path, x = self.write("x.npy", shape)
        mean, var = channel_moments(x, shape, 0)
        for options, kept, new_var in [
                (["--momentum", "0.75"], 0.75, var * 8 / 7),
                (["--momentum", "0.75", "--momentum-convention", "new"], 0.25, var * 8 / 7),
                (["--momentum-convention", "cumulative", "--num-batches-tracked", "3"], 0.75, var * 8 / 7),
                (["--momentum", "0.5", "--biased-running-var"], 0.5, var)]:
            found = self.run_json(path, "--mode", "train", "--verify", *options, "--save-running-mean",
                                  self.path("m.npy"), "--save-running-var", self.path("v.npy"))
            self.assertEqual(found["failures"], [])
            self.assertAlmostEqual(read_npy(self.path("m.npy"))[1][0], (1 - kept) * mean, places=5)
            self.assertAlmostEqual(read_npy(self.path("v.npy"))[1][0], kept + (1 - kept) * new_var, places=5)

    def test_states(self):
        path, x = self.write("x.npy", (2, 1, 2, 2))
        mean, var = channel_moments(x, (2, 1, 2, 2), 0)
        by_batch = (x[0] - mean) / math.sqrt(var + 1e-5)
        by_running = x[0] / math.sqrt(1 + 1e-5)
        for options, first in [(["--mode", "train"], by_batch), (["--mode", "eval"], by_running),
                               (["--mode", "eval", "--no-track"], by_batch),
                               (["--mode", "train", "--freeze"], by_running),
                               (["--mode", "train", "--no-affine"], by_batch)]:
            found = self.run_json(path, "-o", self.path("y.npy"), "--verify", *options)
            self.assertEqual(found["failures"], [])
            self.assertAlmostEqual(read_npy(self.path("y.npy"))[1][0], first, places=5)

    def test_forms_of_input(self):
        shape = (2, 3, 2, 2)
        path, x = self.write("x.npy", shape)
        self.run_json(path, "-o", self.path("plain.npy"))
        index = [((n * 3 + c) * 2 + h) * 2 + w
                 for w in range(2) for h in range(2) for c in range(3) for n in range(2)]
        for name, values, options in [("big", x, {"descr": ">f4"}),
                                      ("fortran", [x[i] for i in index], {"fortran": True})]:
            path, _ = self.write(name + ".npy", shape, values, **options)
            self.run_json(path, "-o", self.path("y.npy"))
            self.assertEqual(read_npy(self.path("y.npy")), read_npy(self.path("plain.npy")))

    def test_forms_of_parameters(self):
        path, _ = self.write("x.npy", (2, 3, 2, 2))
        weight = [0.5, 2, -1]
        first = None
        for shape, options in [((3,), {}), ((1, 3, 1, 1), {"descr": ">f8"}), ((3,), {"descr": "<f8"}),
                               ((1, 3, 1, 1), {"descr": ">f4", "fortran": True})]:
            file, _ = self.write("w.npy", shape, weight, **options)
            self.run_json(path, "--weight", file, "-o", self.path("y.npy"))
            first = first or read_npy(self.path("y.npy"))
            self.assertEqual(read_npy(self.path("y.npy")), first)
        for shape, values, options, words in [
                ((2,), [1, 2], {}, ["(2,)", "3 channels"]), ((3, 1), [1, 2, 3], {}, ["(3,1)"]),
                ((3,), [1, 1e39, 1], {"descr": "<f8"}, ["1e+39", "index 1"])]:
            file, _ = self.write("w.npy", shape, values, **options)
            self.refused("run", path, "--weight", file, words=[file, *words])

    def test_empty_tensor(self):
        path, _ = self.write("x.npy", (0, 3, 2, 2))
        found = self.run_json(path, "--mode", "train", "-o", self.path("y.npy"), "--save-running-var",
                              self.path("v.npy"), "--verify")
        self.assertEqual(found["shape"], [0, 3, 2, 2])
        self.assertEqual(read_npy(self.path("y.npy")), ((0, 3, 2, 2), []))
        self.assertEqual(read_npy(self.path("v.npy")), ((3,), [1, 1, 1]))

    def test_empty_tensors_have_channels(self):
        for shape, options, good in [((2, 3, 0, 4), [], True), ((0, 4), [], True), ((2, 0, 3, 0), [], False),
                                     ((2, 0, 3, 3), [], False), ((2, 3, 3, 0), ["--layout", "nhwc"], False),
                                     ((2, 0, 3, 3), ["--layout", "nhwc"], True),
                                     ((0, 3, 2), ["--per-activation"], True),
                                     ((3, 0, 2), ["--per-activation"], False)]:
            path, _ = self.write("x.npy", shape)
            if good:
                self.run_json(path, "--verify", "-o", self.path("y.npy"), *options)
                self.assertEqual(read_npy(self.path("y.npy")), (shape, []))
            else:
                self.refused("run", path, *options, words=[path, "(" + ",".join(map(str, shape)) + ")",
                                                           "at least one channel"])

    def test_what_the_library_refuses(self):
        path, _ = self.write("x.npy", (2, 3, 2, 2))
        flat, _ = self.write("flat.npy", (2,))
        deep, _ = self.write("deep.npy", (2, 3, 1, 1, 1, 1))
        one, _ = self.write("one.npy", (1, 3, 1, 1))
        wide, _ = self.write("wide.npy", (1, 3, 1, 1), [1.0, 2.0, 3.0], descr="<f8")
        self.refused("run", flat, words=[flat, "expected 2D to 5D input (got 1D input)", "(2,)"])
        self.refused("run", deep, words=[deep, "expected 2D to 5D input (got 6D input)", "(2,3,1,1,1,1)"])
        self.refused("run", wide, "--dtype", "f16", words=["f64", "f16"])
        self.clnorm("run", one, "--mode", "train", "--verify")
        self.refused("run", one, "--mode", "train", "--refuse-one-value", words=[one, "one value"])
        self.refused("run", path, "--eps", "-1", words=["eps", "-1"])
        self.refused("run", path, "--eps", "nan", words=["eps", "nan"])
        self.refused("run", path, "--momentum", "1.5", words=["momentum", "1.5"])
        self.refused("run", path, "--freeze", "--no-track", words=["freeze"])
        self.refused("run", path, "--layout", "hwcn", words=["hwcn", "nhwc"])
        self.refused("verify", "--dtype", "f8", words=["'f8'", "f32|f16|bf16|f64|all"])
        self.refused("verify", "--layout", "chwn", words=["'chwn'", "nchw|nhwc|nchw4c"])
        self.refused("verify", "--op", "forward", words=["'forward'", "eval|train|backward|all"])
        self.refused("run", path, "--no-affine", "--weight", path, words=["shape"])
        self.refused("run", path, "--no-track", "--save-running-mean", self.path("m.npy"),
                     words=["--save-running-mean", "--no-track"])

    def test_bad_files(self):
        good, _ = self.write("good.npy", (2, 3, 2, 2))
        files = {"empty.npy": b"", "text.npy": b"this is not an array",
                 "huge.npy": npy_bytes((8589934592,), [])[:80], "short.npy": pathlib.Path(good).read_bytes()[:-1],
                 "long.npy": pathlib.Path(good).read_bytes() + b"\0",
                 "header.npy": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 68,
                 "pickle.npy": b"\x80\x04\x95cos\nsystem\n.", "line\nbreak.npy": b"x" * 40}
        for name, data in files.items():
            pathlib.Path(self.path(name)).write_bytes(data)
            self.refused("run", self.path(name), words=[name.replace("\n", "?")])
            self.refused("run", good, "--bias", self.path(name), words=[name.replace("\n", "?")])
        self.refused("run", self.path("missing.npy"), words=["missing.npy", "cannot open"])
        self.refused("run", self.folder.name, words=["folder"])

    def test_text(self):
        path, _ = self.write("x.npy", (2, 3, 2, 2))
        text = self.clnorm("run", path, "--device", DEVICE, "--mode", "train", "--verify")
        self.assertRegex(text.splitlines()[0], r"^device  .{1,100} \(\S+\)$")
        self.assertRegex(text, r"(?m)^time    \d+\.?\d* (ns|us|ms|s), \S+ GB/s .*first call \d+\.?\d* (us|ms|s)$")
        self.assertRegex(text, r"(?m)^is compared with CPU path: ")
        for word in ["device", "2x3x2x2", "train", "GB/s", "saved_invstd", "the same bits", "equal: 1 case"]:
            self.assertIn(word, text)

    def test_real_layers(self):
        for layer, eps in [("fer_bn1", "0.001"), ("crepe_conv2", "0.001")]:
            folder = DATA / layer
            files = [word for name in ["weight", "bias", "running_mean", "running_var"]
                     for word in ("--" + name.replace("_", "-"), folder / (name + ".npy"))]
            for mode, expected, tolerance in [("eval", "y_eval.npy", 3e-6), ("train", "y_train.npy", 5e-6)]:
                found = self.run_json(folder / "x.npy", *files, "--eps", eps, "--mode", mode, "--verify",
                                      "-o", self.path("y.npy"))
                self.assertEqual((found["differing_elements"], found["failures"]), (0, []))
                self.assertLessEqual(found["worst_bound_ratio"], 1)
                got, want = read_npy(self.path("y.npy")), read_npy(folder / expected)
                self.assertEqual(got[0], want[0])
                worst = max(abs(a - b) for a, b in zip(got[1], want[1]))
                self.assertLess(worst, tolerance, f"{layer} {mode}")

    def flushes(self):
        """Whether the device says that it flushes subnormal values."""
        lines = self.clnorm("devices").splitlines()
        at = next(i for i, line in enumerate(lines) if line.lstrip("* ").startswith(DEVICE + " "))
        return lines[at + 1].lstrip().startswith("flushes subnormal values")

    def test_elements_that_depend_on_flushed_values(self):
        flushed = self.flushes()
        shape = (3, 4, 5, 5)
        scales = (1, 1e-33, 1, 1e-40)  # by channel
        normal = [self.random.gauss(1, 2) for _ in range(math.prod(shape))]
        tiny, _ = self.write("tiny.npy", shape, [f32(v * scales[i // 25 % 4]) for i, v in enumerate(normal)])
        ordinary, _ = self.write("ordinary.npy", shape, [f32(v) for v in normal])
        for mode in "train", "eval":
            found = self.run_json(ordinary, "--mode", mode, "--verify")
            self.assertEqual(found["not_promised"], {"cases": 0, "elements": 0, "differing_elements": 0})
            found = self.run_json(tiny, "--mode", mode, "--verify")
            self.assertEqual((found["differing_elements"], found["failures"]), (0, []))
            outside = found["not_promised"]
            self.assertEqual(outside["cases"], int(flushed))
            # Half of y, and up to four statistics of two channels; never one of an ordinary channel.
            self.assertLessEqual(outside["elements"], 150 + 8)
            if flushed:
                self.assertGreaterEqual(outside["elements"], 75)
            self.assertLessEqual(outside["differing_elements"], outside["elements"])
            text = self.clnorm("run", tiny, "--mode", mode, "--device", DEVICE, "--verify")
            self.assertEqual("not promised: " in text, flushed, text)


class TestVerify(CliTest):
    def test_json(self):
        found = json.loads(self.clnorm("verify", "--device", DEVICE, "--suite", "smoke", "--json"))
        self.assertEqual(set(found), VERIFY_KEYS | {"failed"})
        self.assertIn("CPU path", found["baseline"])
        self.assertEqual(found["failed"], [])
        self.assertEqual((found["differing_elements"], found["max_ulp"], found["failures"]), (0, 0, []))
        self.assertEqual(len(found["devices"]), len(instruction_sets()) if DEVICE == "cpu" else 1)
        self.assertGreater(found["cases"], 100)
        self.assertGreater(found["worst_bound_ratio"], 0)
        self.assertLessEqual(found["worst_bound_ratio"], 1)

    def test_shapes_forms_and_variants(self):
        text = self.clnorm("verify", "--device", DEVICE, "--shape", "3x5x7x9", "--shape=2x3x1x1", "--form", "all",
                           "--variant", "all", "--seed", "0x10", "--threads", "2")
        self.assertIn("3x5x7x9", text)
        self.assertIn("2x3x1x1", text)
        self.assertTrue(text.splitlines()[-1].startswith("equal: "), text)
        if DEVICE != "cpu":
            self.assertIn("wide form", text)
            self.assertEqual("vector form is left out" in self.err, "RUSTICL_ENABLE" in os.environ, self.err)

    def test_types_layouts_and_operations(self):
        common = ["verify", "--device", DEVICE, "--shape", "2x5x3x4", "--json"]
        alone = json.loads(self.clnorm(*common, "--op", "eval"))["cases"]
        both = json.loads(self.clnorm(*common))["cases"]
        self.assertGreater(both, alone)
        for op, times in [("backward", 1), ("all", 2)]:
            found = json.loads(self.clnorm(*common, "--op", op))
            left_out = sum(row["cases"] for row in found["not_run"])
            self.assertEqual((found["cases"] + left_out, found["failures"]), (times * both, []))
            self.assertTrue(0 < found["worst_bound_ratio"] <= 1, found)
        for options, times in [(["--dtype", "f16"], 1), (["--dtype", "f64"], 1), (["--dtype", "all"], 4),
                               (["--layout", "nchw16c"], 1), (["--dtype", "bf16", "--layout", "nhwc"], 1)]:
            found = json.loads(self.clnorm(*common, "--op", "eval", *options))
            self.assertEqual((found["cases"], found["not_run"], found["failures"]), (times * alone, [], []), options)

    def test_the_suite_of_layouts(self):
        if DEVICE != "cpu":
            return  # the conformance of devices is other tests' affair: this takes many programs
        found = json.loads(self.clnorm("verify", "--device", DEVICE, "--suite", "layouts", "--json"))
        self.assertGreaterEqual(found["cases"], 72 * len(instruction_sets()))
        self.assertEqual((found["differing_elements"], found["not_run"], found["failures"]), (0, [], []))

    def test_shapes_that_are_none(self):
        """They are reported, and the others run."""
        found = json.loads(self.clnorm("verify", "--device", DEVICE, "--shape", "3x4", "--shape", "2x3x5x5", "--json",
                                       status=2))
        self.assertEqual(found["differing_elements"], 0)
        self.assertGreater(found["cases"], 10)
        self.assertIn("--shape is '3x4'", self.err)
        self.refused("verify", "--shape", "3x4", "--shape=", words=["'3x4'", "''"], lines=2)

    def test_group_sizes(self):
        for size in ("64", "128", "256"):
            text = self.clnorm("verify", "--device", DEVICE, "--shape", "3x5x7x9", "--shape", "2x3x30x70",
                               "--form", "auto" if DEVICE == "cpu" else "wide", "--group-size", size)
            self.assertTrue(text.splitlines()[-1].startswith("equal: "), text)
            self.assertEqual(DEVICE != "cpu", f"wide form, work-groups of {size}" in text, text)
        self.refused("verify", "--group-size", "96", words=["'96'", "64|128|256"])

    def test_all_devices(self):
        found = json.loads(self.clnorm("verify", "--device", "all", "--shape", "2x3x5x5", "--json"))
        usable = [device for device in json.loads(self.clnorm("devices", "--json"))["devices"]
                  if device["status"] == "ok"]
        self.assertEqual(len(found["devices"]), len(usable) - 1 + len(instruction_sets()))
        for name in instruction_sets():
            self.assertEqual(sum(f"(cpu), {name}, 1 thread" in device for device in found["devices"]), 1)


class TestBench(CliTest):
    QUICK = ["bench", "--device", DEVICE, "--shape", "2x3x4x5", "--seconds", "0"]

    def test_json(self):
        found = json.loads(self.clnorm(*self.QUICK, "--json"))
        self.assertEqual([row["op"] for row in found["results"]], ["eval", "train"])
        for row in found["results"]:
            self.assertLessEqual({"device", "op", "shape", "dtype", "layout", "variant", "median_s", "gbps",
                                  "ceiling_gbps", "fraction"}, set(row))
            self.assertEqual(row["shape"], "2x3x4x5")
            self.assertGreater(row["median_s"], 0)
            self.assertGreater(row["fraction"], 0)
        self.assertGreater(found["costs"][0]["train_call_s"], 0)

    def test_types_and_layouts(self):
        for dtype, layout in [("f16", "nhwc"), ("bf16", "nchw8c"), ("f32", "padded")]:
            found = json.loads(self.clnorm(*self.QUICK, "--json", "--no-costs", "--pipeline", "--op", "train",
                                           "--dtype", dtype, "--layout", layout))
            self.assertEqual([(row["op"], row["dtype"], row["layout"]) for row in found["results"]],
                             [("train", dtype, layout)])
        self.refused("bench", "--dtype", "f8", words=["'f8'", "f32|f16|bf16|f64"])
        self.refused("bench", "--layout", "chwn", words=["'chwn'", "nchw|nhwc"])

    def test_bytes_are_of_the_type(self):
        """gbps and median_s are of the same measurement."""
        for dtype, size in [("f32", 4), ("f16", 2)] + [("f64", 8)] * (DEVICE == "cpu"):
            row = json.loads(self.clnorm(*self.QUICK, "--json", "--no-costs", "--op", "eval", "--dtype", dtype,
                                         "--layout", "slice"))["results"][0]
            self.assertAlmostEqual(row["gbps"] * 1e9 * row["median_s"] / (2 * 2 * 3 * 4 * 5 * size), 1, 4)

    def test_clock(self):
        self.assertEqual(json.loads(self.clnorm(*self.QUICK, "--json", "--no-costs"))["clock"], "host")
        found = json.loads(self.clnorm(*self.QUICK, "--json", "--no-costs", "--device-time", "--pipeline"))
        self.assertEqual(found["clock"], "device")
        for row in found["results"]:
            for seconds in (row["median_s"], row["pipeline"]["rule_s"], row["pipeline"]["ceiling_s"]):
                self.assertGreater(seconds, 0)

    def test_pipeline(self):
        found = json.loads(self.clnorm(*self.QUICK, "--json", "--no-costs", "--pipeline",
                                       "--shape", "3x2x200x150"))
        self.assertEqual(len(found["results"]), 4)
        for row in found["results"]:
            self.assertEqual(set(row["pipeline"]),
                             {"rule_s", "cached_s", "streamed_s", "ceiling_s", "fraction", "rounds"})
            self.assertGreater(min(row["pipeline"].values()), 0)
            self.assertGreaterEqual(row["pipeline"]["rounds"], 30)
        self.refused("bench", "--pipeline", "--store", "cached", words=["--pipeline", "--store"])

    def test_pipeline_as_table(self):
        text = self.clnorm(*self.QUICK, "--no-costs", "--pipeline")
        lines = [line.rstrip("*") for line in text.splitlines() if not line.startswith("* ")]
        self.assertEqual(len(lines), 4)
        self.assertEqual(lines[1].split()[:6], ["op", "shape", "pipeline", "fraction", "cached", "streamed"])
        self.assertEqual({len(line) for line in lines[1:]}, {len(lines[1])})
        self.assertLessEqual(len(lines[1]), 100)
        rows = re.findall(r"(?m)^(?:eval|train) +\S+ +\S+ \S+ +([0-9.]+)([* ]).* ([0-9.]+)(\*?)$", text)
        self.assertEqual(len(rows), 2, text)
        for fraction, mark, _, _ in rows:
            if abs(float(fraction) - 1.05) > 0.01:  # what is printed is rounded
                self.assertEqual(mark == "*", float(fraction) > 1.05, text)
        self.assertEqual("\n* faster than the copy" in text, any("*" in row for row in rows), text)

    def test_pipeline_as_csv_and_picture(self):
        picture = self.path("pipeline.svg")
        lines = self.clnorm(*self.QUICK, "--csv", "--op", "eval", "--no-costs", "--pipeline",
                            "--svg", picture).splitlines()
        self.assertEqual(len(lines), 2)
        self.assertIn(",pipeline_rule_s,", lines[0])
        self.assertEqual(lines[0].count(","), lines[1].count(",") - lines[1].count(", "))
        with open(picture, encoding="utf-8") as file:
            self.assertIn("in a pipeline", file.read())

    def test_csv_and_picture(self):
        picture = self.path("sizes.svg")
        lines = self.clnorm(*self.QUICK, "--csv", "--op", "eval", "--no-costs", "--svg", picture).splitlines()
        self.assertEqual(len(lines), 2)
        self.assertEqual(lines[0].count(","), lines[1].count(",") - lines[1].count(", "))
        with open(picture, encoding="utf-8") as file:
            self.assertIn("<polyline", file.read())

    def test_wrong_usage(self):
        self.refused("bench", "--shape", "0x1x1x1", words=["0x1x1x1", "empty"])
        self.refused("bench", "--suite", "nonsense", words=["--suite", "nonsense"])
        self.refused("bench", "--seconds", "nan", words=["--seconds"])
        self.refused("bench", "x.npy", words=["x.npy"])
        self.refused("bench", "--shape", "3x4", words=["'3x4'", "NxCxHxW"])
        self.refused("bench", "--shape", "3x4", "--batch", "2", words=["'3x4'", "--batch is for suites"], lines=2)

    def test_shapes_that_cannot_be_measured(self):
        """They are reported, and the others are measured."""
        shapes = [f"--shape={shape}" for shape in ("0x1x1x1", "3x4", "2x3x4x5", "1x2x0x1", "-1x2x3x4")]
        found = json.loads(self.clnorm("bench", "--device", DEVICE, *shapes, "--op", "eval", "--seconds", "0",
                                       "--no-costs", "--json", status=2))
        self.assertEqual([row["shape"] for row in found["results"]], ["2x3x4x5"])
        self.assertIn("0x1x1x1 is empty", self.err)
        self.assertIn("1x2x0x1 is empty", self.err)
        self.assertIn("--shape is '3x4'", self.err)
        self.assertIn("--shape is '-1x2x3x4'", self.err)

    def test_a_ceiling_that_is_beaten(self):
        """Rows whose fraction is beyond noise are marked, and only those."""
        text = self.clnorm("bench", "--device", DEVICE, "--seconds", "0", "--no-costs", "--op", "eval",
                           *[word for n in range(1, 9) for word in ("--shape", f"{n}x3x4x5")])
        rows = re.findall(r"(?m)^eval +\S+ +\S+ \S+ +(\S+) +(\S+) +([0-9.]+)([* ])", text)
        self.assertEqual(len(rows), 8, text)
        for gbps, ceiling, fraction, mark in rows:
            ratio = max(float(fraction), float(gbps) / float(ceiling))
            if abs(ratio - 1.05) > 0.02:  # what is printed is rounded
                self.assertEqual(mark == "*", ratio > 1.05, text)
        self.assertEqual("* faster than the copy" in text, any(row[3] == "*" for row in rows), text)

    def test_picture(self):
        picture = self.path("p.svg")
        self.clnorm(*self.QUICK, "--no-costs", "--svg", picture)
        text = pathlib.Path(picture).read_text(encoding="utf-8")
        root = xml.etree.ElementTree.fromstring(text)
        texts = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
        self.assertTrue(any(re.search(r"clnorm \d.*; \d{4}-\d\d-\d\d", line) for line in texts), texts)
        self.assertTrue(any("CPU path" in line or f"({DEVICE}, " in line for line in texts), texts)
        # Curves lie below every line of the heading and the legend.
        points = [float(y) for line in re.findall(r'points="([^"]*)"', text) for y in
                  re.findall(r",([0-9.]+)", line)]
        legend = [float(node.get("y")) for node in root.iter("{http://www.w3.org/2000/svg}text")
                  if node.text.startswith(("eval, ", "train, "))]
        self.assertEqual(len(legend), 2)
        self.assertGreater(min(points), max(legend))

    def test_a_picture_that_cannot_be_written(self):
        self.refused(*self.QUICK, "--svg", self.path("none/p.svg"), words=["--svg", "none/p.svg"])
        done = self.start(*self.QUICK, "--no-costs", "--svg", "-")
        self.assertEqual(done.returncode, 0, done.stderr)
        xml.etree.ElementTree.fromstring(done.stdout)
        self.assertIn(b"GB/s", done.stderr)


class TestSeveralDevices(CliTest):
    """One that fails leaves the others to be used; the exit status tells."""

    COMMANDS = [["verify", "--shape", "2x3x5x5"],
                ["bench", "--shape", "2x3x4x5", "--seconds", "0", "--no-costs"],
                ["tune", "--dry-run", "--seconds", "0"]]

    def test_one_that_is_not_there(self):
        for command in self.COMMANDS[:2]:
            for devices in [["--device", "cpu,9.9"], ["--device", "9.9", "--device=cpu"]]:
                found = json.loads(self.clnorm(*command, *devices, "--json", status=3))
                (failed,) = found["failed"]
                self.assertIn("9.9", failed["device"])
                self.assertIn('no device "9.9"', failed["reason"])
                self.assertIn('no device "9.9"', self.err)
                if command[0] == "verify":
                    self.assertGreater(found["cases"], 0)
                    self.assertEqual(found["failures"], [])
                else:
                    self.assertEqual({row["op"] for row in found["results"]}, {"eval", "train"})
        text = self.clnorm(*self.COMMANDS[0], "--device", "cpu,9.9", status=3)
        self.assertRegex(text.splitlines()[-1], r"^equal: .*; 1 device FAILED$")

    def test_lists(self):
        for command in self.COMMANDS:
            self.refused(*command, "--device", "cpu,cpu", words=["(cpu) twice"])
            self.refused(*command, "--device", "cpu", "--device", "cpu", words=["(cpu) twice"])
            self.refused(*command, "--device", "all,cpu", words=["all", "alone"])
            self.refused(*command, "--device", "cpu,,", words=["'cpu,,'"])
            self.refused(*command, "--device", "8.8,9.9", words=[], status=3, lines=2)


class TestTune(CliTest):
    """With a cache folder of its own: what is kept must not reach the other tests."""

    PARAMETERS = ["form", "stream_bytes", "train_stream_bytes", "split_below"]

    def setUp(self):
        super().setUp()
        self.own = {"CLNORM_CACHE_DIR": self.path("cache")}

    def tune(self, *arguments, status=0):
        return self.clnorm("tune", "--device", DEVICE, *arguments, status=status, env=self.own)

    def kept(self):
        return sorted(pathlib.Path(self.path("cache")).glob("*.tuning"))

    def tuned(self):
        found = json.loads(self.clnorm("devices", "--json", env=self.own))["devices"]
        return [device["id"] for device in found if device["tuned"]]

    def plant(self, split_below=7250, stream_bytes=12345):
        """Keeps a tuning for the device, in the file that the program would write."""
        device = next(d for d in json.loads(self.clnorm("devices", "--json"))["devices"] if d["id"] == DEVICE)
        for units in range(1, 1025):
            who = f"device {device['name']}\nplatform {device['platform']}\ncompute_units {units}\n"
            name = 0xcbf29ce484222325
            for byte in who.encode():
                name = (name ^ byte) * 0x100000001b3 % 2**64
            path = pathlib.Path(self.path("cache"), f"{name:016x}.tuning")
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.write_text(f"clnorm tuning 2\n{who}form rule\nsplit_below_thousandths {split_below}\n"
                            f"stream_bytes {stream_bytes}\ntrain_stream_bytes 0\n", encoding="utf-8")
            path.chmod(0o600)
            if self.tuned():
                return path
            path.unlink()
        self.fail("no number of compute units fits")

    def check_device(self, found):
        self.assertEqual(set(found), {"device", "id", "measurements", "notes", "rule", "chosen", "kept"})
        self.assertEqual(found["id"], DEVICE)
        for tuning in (found["rule"], found["chosen"]):
            self.assertEqual(sorted(tuning), sorted(self.PARAMETERS))
            self.assertIn(tuning["form"], ["vector", "wide"])
            self.assertGreater(tuning["split_below"], 0)

    def test_measure_keep_reset(self):
        found = json.loads(self.tune("--json", "--seconds", "0"))
        self.assertEqual((set(found), found["failed"]), ({"devices", "failed"}, []))
        (device,) = found["devices"]
        self.check_device(device)
        measured = {row["parameter"] for row in device["measurements"]}
        if not any("not all was measured" in note for note in device["notes"]):
            forms = {"form"} if DEVICE != "cpu" else set()
            self.assertLessEqual({"stream_bytes", "train_stream_bytes"} | forms, measured)
        for row in device["measurements"]:
            self.assertEqual(set(row), {"parameter", "op", "shape", "ways", "median_s", "ratio", "rounds"})
            self.assertGreater(min(*row["median_s"], row["ratio"]), 0)
            self.assertEqual(len(row["ways"]), 2)
        # Whatever was measured: a file is there where, and only where, something else than the rule was chosen.
        changed = device["chosen"] != device["rule"]
        self.assertEqual([str(path) for path in self.kept()], [device["kept"]] if changed else [])
        self.assertEqual(self.tuned(), [DEVICE] if changed else [])
        self.tune("--reset")
        self.assertEqual(self.kept(), [])

    def test_dry_run_changes_nothing(self):
        path = self.plant()
        before = path.read_bytes()
        text = self.tune("--dry-run", "--seconds", "0")
        self.assertIn("not kept (--dry-run)", text)
        self.assertRegex(text, r"(?m)^parameter +chosen +rule$")
        self.assertRegex(text, r"(?m)^split_below +\S+ +\S+$")
        self.assertEqual(path.read_bytes(), before)

    def test_kept_is_used_and_reset(self):
        path = self.plant()
        self.assertEqual(self.tuned(), [DEVICE])
        self.assertIn("tuned: ", self.clnorm("devices", env=self.own))
        bench = ["bench", "--device", DEVICE, "--shape", "1x2x3x4", "--seconds", "0", "--no-costs"]
        self.assertIn(", tuned\n", self.clnorm(*bench, env=self.own))
        self.clnorm("verify", "--device", DEVICE, "--suite", "smoke", env=self.own)
        (device,) = json.loads(self.tune("--reset", "--json"))["devices"]
        self.check_device(device)
        self.assertEqual((device["kept"], device["measurements"], device["chosen"]), (None, [], device["rule"]))
        self.assertFalse(path.exists())
        self.assertNotIn("tuned", self.clnorm(*bench, env=self.own))
        self.tune("--reset")  # nothing is there any more

    def test_a_file_in_the_way(self):
        path = self.plant()
        path.unlink()
        path.mkdir()
        self.refused("tune", "--device", DEVICE, "--reset", words=["cannot be removed"], env=self.own)

    def test_wrong_usage(self):
        self.refused("tune", "x", words=["'x'", "clnorm tune --help"])
        self.refused("tune", "--seconds", "-1", words=["--seconds is '-1'", "[0, 3600]"])
        self.refused("tune", "--seconds", "soon", words=["'soon'"])
        self.refused("tune", "--reset", "--dry-run", words=["--reset", "--dry-run"])
        self.refused("tune", "--device", "no such thing", words=["no such thing"], status=3)


if __name__ == "__main__":
    unittest.main(verbosity=2)
