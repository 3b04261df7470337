#!/usr/bin/env python3
"""What bench/peers.py reports of a run, and which cases it chooses, without the peers.

    test_peers.py SOURCES     the project's folder
"""
import csv
import io
import json
import pathlib
import re
import subprocess
import sys
import types
import unittest

SOURCES = pathlib.Path(sys.argv.pop(1)).resolve()
sys.path.insert(0, str(SOURCES / "bench" / "peers"))

import plot  # noqa: E402
import report  # noqa: E402
import shapes  # noqa: E402

DIMS = (2, 16, 64, 64)
CONTESTANT = types.SimpleNamespace(description="one that never ran")
ENTRIES = [report.Entry(key, key, role, CONTESTANT) for key, role in (
    ("clnorm", "own"), ("torch", "peer"), ("onednn", "peer"))]


def result(op, layout, dtype, ratios, left_out=None):
    """A result in which clnorm takes a second and each peer its ratio."""
    times = {"clnorm": 1.0, **ratios}
    differences = {key: 0.0 for key in ratios}
    return report.Result(shapes.Case(op, layout, dtype, DIMS, ["given"]), times, times, times, times, 30,
                         differences, left_out or {}, {key: "jit" for key in times})


REFUSED = report.LeftOut("not offered", "not implemented")
WRONG = report.LeftOut("wrong", "its results differ")
TABLE = report.rows([
    result("eval", "nchw", "f32", {"torch": 2.0, "onednn": 4.0}),
    result("eval", "nhwc", "f16", {"torch": 0.5}, {"onednn": REFUSED}),
    result("eval", "nchw16c", "f16", {}, {"torch": REFUSED, "onednn": REFUSED}),
    result("train", "nhwc", "bf16", {"onednn": 3.0}, {"torch": WRONG}),
], ENTRIES)


class Cases(unittest.TestCase):
    def test_every_shape_meets_every_combination(self):
        axes = shapes.Axes(["eval", "train"], ["nchw", "nhwc"], ["f32", "bf16"])
        cases = shapes.choose(axes, [DIMS, (1, 3, 5, 5)], None, None, [], 1 << 20)
        self.assertEqual(len({case[:4] for case in cases}), 16)
        self.assertEqual(len(cases), 16)
        self.assertEqual(cases[0].dims, (1, 3, 5, 5))

    def test_training_needs_two_values_a_channel(self):
        axes = shapes.Axes(["eval", "train"], ["nhwc"], ["f16"])
        cases = shapes.choose(axes, [(1, 8, 1, 1)], None, None, [], 1 << 20)
        self.assertEqual([case.op for case in cases], ["eval"])

    def test_bytes_of_types(self):
        self.assertEqual([shapes.size((2, 3, 4, 5), dtype) for dtype in ("f32", "f16", "bf16")],
                         [480, 240, 240])


class Report(unittest.TestCase):
    def test_outcomes(self):
        outcomes = {row.layout + " " + row.dtype: (row.outcome, row.peer) for row in TABLE}
        self.assertEqual(outcomes, {
            "nchw f32": ("kept", "torch"), "nhwc f16": ("lost", "torch"),
            "nchw16c f16": ("alone", None), "nhwc bf16": ("kept", "onednn")})
        self.assertEqual(TABLE[0].outcome, "lost")

    def test_who_is_left_out_is_neither_lost_nor_won(self):
        figures = {tuple(item[key] for key in ("op", "layout", "dtype")): item
                   for item in report.summaries(TABLE)}
        alone = figures["eval", "nchw16c", "f16"]
        self.assertEqual((alone["cases"], alone["alone"], alone["lost"]), (0, 1, 0))
        kept = figures["train", "nhwc", "bf16"]
        self.assertEqual((kept["cases"], kept["lost"]), (1, 0))
        self.assertAlmostEqual(kept["geomean_fastest_peer"], 3.0)
        self.assertIn("no peer for 1 cases", "\n".join(report.sentences(TABLE)))

    def test_table(self):
        lines = list(report.aligned(TABLE, ENTRIES))
        self.assertEqual(lines[0].split()[:3], ["op", "layout", "type"])
        self.assertEqual(lines[1].split()[:3], ["eval", "nhwc", "f16"])
        self.assertIn("not offered", lines[1])
        self.assertEqual(sum("wrong" in line for line in lines), 1)

    def test_markdown(self):
        text = report.markdown(TABLE, ENTRIES, {}, "")
        for heading in ("## Lost", "## Level or ahead", "## Without a peer", "## Left out"):
            self.assertIn(f"\n{heading}\n", text)
        self.assertIn("- onednn, eval nhwc f16: not offered (not implemented)\n", text)

    def test_json(self):
        cases = json.loads(report.as_json(TABLE, ENTRIES, {}))["cases"]
        self.assertEqual([cases[0][key] for key in ("op", "layout", "dtype")], ["eval", "nhwc", "f16"])
        self.assertEqual(cases[0]["left_out"], {
            "onednn": {"kind": "not offered", "reason": "not implemented"}})
        self.assertEqual(cases[0]["kernels"], {"clnorm": "jit", "torch": "jit"})
        self.assertEqual(cases[-1]["outcome"], "alone")
        self.assertIsNone(cases[-1]["ratio"])

    def test_csv(self):
        rows = list(csv.DictReader(io.StringIO(report.comma_separated(TABLE, ENTRIES))))
        self.assertEqual(len({len(row) for row in rows}), 1)
        self.assertNotIn(None, rows[0])
        by_type = {row["dtype"]: row for row in rows if row["layout"] == "nhwc"}
        self.assertEqual((by_type["f16"]["not_offered"], by_type["f16"]["wrong"]), ("onednn", ""))
        self.assertEqual((by_type["bf16"]["not_offered"], by_type["bf16"]["wrong"]), ("", "torch"))

    def test_plot(self):
        text = plot.svg(TABLE, [])
        for panel in ("Evaluation, nchw:", "Evaluation, nhwc:", "Evaluation, nchw16c:", "Training, nhwc:"):
            self.assertEqual(text.count(panel), 1)
        self.assertEqual(text.count("</title></circle>"), 3)


class Results(unittest.TestCase):
    def test_a_report_shows_its_own_plot_and_the_command_that_made_it(self):
        readme = (SOURCES / "bench" / "README.md").read_text(encoding="utf-8")
        reports = sorted((SOURCES / "bench" / "results").glob("peers*.md"))
        self.assertTrue(reports)
        for path in reports:
            text = path.read_text(encoding="utf-8")
            self.assertEqual(re.findall(r"!\[.*\]\((.*)\)", text), [path.with_suffix(".svg").name], path.name)
            command = re.search(r"^\| command \| (.*) \|$", text, re.M).group(1)
            self.assertIn(f"`{command}`", readme, path.name)
            for suffix in (".csv", ".md", ".svg"):
                self.assertIn(f"bench/results/{path.stem}{suffix}", command.split(), path.name)
                self.assertTrue(path.with_suffix(suffix).exists(), path.name)


class Arguments(unittest.TestCase):
    def test_one_line_for_what_is_wrong(self):
        for arguments, words in ((["--layout", "nchw,nchw4c"], "'nchw4c' is none of nchw, nhwc"),
                                 (["--dtype", "f64"], "'f64' is none of f32, f16, bf16")):
            done = subprocess.run([sys.executable, SOURCES / "bench" / "peers.py", *arguments],
                                  capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 2)
            self.assertIn(words, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1)


if __name__ == "__main__":
    unittest.main()
