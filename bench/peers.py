#!/usr/bin/env python3
"""Measures clnorm's forward batch normalization beside PyTorch and oneDNN, interleaved in one run: in a
pipeline (a producer writes x, then the clock runs for the operation and a consumer that reads y once;
the same producer and consumer for everybody), and in a loop.

The first run installs the peers into a folder of its own (default: build-peers) and says what it
installs; every run builds clnorm there. Cases that clnorm loses stand first in every report.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import shlex
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "peers"))

import install  # noqa: E402  (these are in bench/peers)
import plot  # noqa: E402
import report  # noqa: E402
import shapes  # noqa: E402

READY = "CLNORM_BENCH_PEERS"  # set in the measuring process: what install.prepare returned
EXAMPLE = """examples:
  bench/peers.py
  bench/peers.py --suite resnet50 --batch 32 --op train --threads 1
  bench/peers.py --shape 8x64x56x56 --shape 1x3x1080x1920
  bench/peers.py --layout nchw,nhwc,nchw16c --dtype f32,f16,bf16 --shape 32x64x56x56
  bench/peers.py --torch pip --budget 400 --markdown bench/results/peers.md \\
      --svg bench/results/peers.svg --csv bench/results/peers.csv
"""


class Parser(argparse.ArgumentParser):
    """Wrong arguments give one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def parse_shape(text):
    parts = text.lower().split("x")
    if len(parts) != 4 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"'{text}' is not a shape like 32x64x56x56")
    return tuple(map(int, parts))


def positive(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 on")
    return int(text)


def listed(one):
    """A type for lists such as 1,32: every part goes through `one`; what is there twice counts once."""
    def convert(text):
        return list(dict.fromkeys(one(part) for part in text.split(",")))
    return convert


def member(names):
    def convert(text):
        if text not in names:
            raise argparse.ArgumentTypeError(f"'{text}' is none of {', '.join(names)}")
        return text
    return convert


def parse_arguments():
    cpus = len(os.sched_getaffinity(0))
    parser = Parser(prog="peers.py", description=__doc__, epilog=EXAMPLE,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--suite", type=listed(member(shapes.SUITES)), metavar="NAME,...",
        help="of " + ", ".join(shapes.SUITES) + " (default: all, or none where --shape is given)")
    add("--shape", type=parse_shape, action="append", default=[], metavar="NxCxHxW",
        help="measure this shape; may be given several times")
    add("--batch", type=listed(positive), metavar="N,...",
        help="batch sizes of the networks (default: 1,32; unet: 1,4)")
    add("--op", type=listed(member(["eval", "train"])), default=["eval", "train"], metavar="OP,...",
        help="eval, train (default: both)")
    add("--layout", type=listed(member(shapes.LAYOUTS)), default=["nchw"], metavar="LAYOUT,...",
        help="layouts of x and y, of " + ", ".join(shapes.LAYOUTS) + " (default: nchw); blocks of 16 are "
             "those of oneDNN's kernels where the processor has AVX-512, of 8 elsewhere")
    add("--dtype", type=listed(member(shapes.TYPE_BYTES)), default=["f32"], metavar="TYPE,...",
        help="types of x and y, of " + ", ".join(shapes.TYPE_BYTES) + " (default: f32)")
    add("--threads", type=positive, default=cpus, metavar="N",
        help=f"threads of every contestant (default: {cpus}, all)")
    add("--rounds", type=positive, default=30, metavar="N",
        help="most rounds for a case (default: 30)")
    add("--budget", type=positive, default=300, metavar="SECONDS",
        help="time for measuring (default: 300); every case gets 3 rounds at least, in the pipeline "
             "and in the loop")
    add("--max-mib", type=positive, default=256, metavar="MIB",
        help="leave out tensors of the suites that are larger in f32 (default: 256)")
    add("--torch", choices=["debian", "pip"], default="debian",
        help="Debian's python3-torch (default), or the current one from PyPI: a download of 3 GB")
    add("--opencl", default="Portable Computing Language", metavar="TEXT",
        help="part of the name of the OpenCL device or platform (default: PoCL's)")
    add("--dir", type=pathlib.Path, default=HERE.parent / "build-peers", metavar="FOLDER",
        help="where peers are installed and clnorm is built (default: build-peers)")
    for kind in ("json", "csv", "markdown", "svg"):
        add(f"--{kind}", type=pathlib.Path, metavar="FILE", help=f"write the results as {kind}")
    arguments = parser.parse_args()
    if arguments.threads > cpus:
        parser.error(f"--threads is {arguments.threads}, but this process may use {cpus}")
    return arguments


def enter(arguments):
    """Prepares everything, then starts this script again where the peers are."""
    ready = install.prepare(arguments.dir.resolve(), arguments.torch)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:arguments.threads])
    variables = install.run_environment(ready, arguments.threads)
    variables[READY] = json.dumps({**ready, "threads": arguments.threads})
    os.execve(ready["python"], [ready["python"], __file__, *sys.argv[1:]], variables)


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def system():
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def one_line(command):
    """The first line that a command prints; "unknown" where it fails."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              check=True)
        return done.stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def gather_facts(found, missing, table, threads, seconds):
    """What a published number has to name."""
    facts = {"command": shlex.join(["bench/peers.py", *sys.argv[1:]]),
             "date": datetime.date.today().isoformat(),
             "machine": f"{processor()}, {os.cpu_count()} CPUs",
             "threads": f"{threads} for everybody; OMP_WAIT_POLICY={os.environ['OMP_WAIT_POLICY']}, "
                        f"POCL_AFFINITY={os.environ['POCL_AFFINITY']}",
             "system": f"{system()}, Python {platform.python_version()}",
             "clnorm's commit": one_line(["git", "-C", HERE, "describe", "--always", "--dirty"]),
             "compiler": one_line([os.environ.get("CC", "cc"), "--version"]),
             "took": f"{seconds:.0f} s of measuring"}
    facts.update({entry.title: entry.contestant.description for entry in found})
    facts["largest difference from clnorm's outputs"] = "; ".join(
        report.largest_differences(table, found))
    if missing:
        facts["missing"] = "; ".join(missing)
    return facts


def plot_notes(found, facts):
    """Lines for the plot: where and when, then every contestant that is not the same as the one before."""
    described = dict.fromkeys(entry.contestant.description for entry in found)
    return ["; ".join(facts[key] for key in ("machine", "system", "date")), *described]


def progress(found, count):
    """A function that tells of each result."""
    titles = {entry.key: entry.title for entry in found}

    def tell(index, result):
        row = report.Row(result, found)
        install.say(f"[{index}/{count}] {row.op:5} {row.layout:7} {row.dtype:4} {row.shape:18} "
                    f"{row.seconds[row.own] * 1e6:10.1f} us {row.ratio:6.2f}x  "
                    f"{titles.get(row.peer, '-')}  ({result.rounds} rounds)")
    return tell


def write(arguments, table, found, facts):
    """The files that were asked for."""
    plot_name = os.path.relpath(arguments.svg, arguments.markdown.parent) \
        if arguments.svg and arguments.markdown else ""
    texts = {"json": lambda: report.as_json(table, found, facts),
             "csv": lambda: report.comma_separated(table, found),
             "markdown": lambda: report.markdown(table, found, facts, plot_name),
             "svg": lambda: plot.svg(table, plot_notes(found, facts))}
    for kind, make in texts.items():
        path = getattr(arguments, kind)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(make(), encoding="utf-8")


def compete(arguments, ready):
    """The measuring process."""
    import contest  # needs PyTorch, which only this process has

    layers = list(shapes.network_layers(ready["objects"]["layers"]))
    axes = shapes.Axes(arguments.op, arguments.layout, arguments.dtype)
    cases = shapes.choose(axes, arguments.shape, arguments.suite, arguments.batch, layers,
                          arguments.max_mib << 20)
    if not cases:
        raise install.Failure("no case is left to measure: see --max-mib; training needs more than one "
                              "value per channel")
    found, missing = contest.entries(ready, ready["threads"], arguments.opencl)
    for entry in found:
        install.say(f"{entry.title}: {entry.contestant.description}")
    for sentence in missing:
        install.say(sentence)
    begin = time.monotonic()
    neighbours = contest.Neighbours(ready["objects"]["neighbours"], ready["threads"])
    results = contest.measure_all(cases, found, neighbours, arguments.budget, arguments.rounds,
                                  progress(found, len(cases)))
    table = report.rows(results, found)
    facts = gather_facts(found, missing, table, ready["threads"], time.monotonic() - begin)
    print("\n".join([*report.aligned(table, found), "", *report.sentences(table),
                     *report.left_out_sentences(table, found)]))
    write(arguments, table, found, facts)


def main():
    arguments = parse_arguments()
    ready = os.environ.get(READY)
    try:
        if ready:
            compete(arguments, json.loads(ready))
        else:
            enter(arguments)
    except (install.Failure, OSError) as error:
        sys.exit(f"peers.py: {error}")


if __name__ == "__main__":
    main()
