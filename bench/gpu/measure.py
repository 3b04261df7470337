#!/usr/bin/env python3
"""Runs clnorm on this machine's GPU and PyTorch beside it, and leaves one folder: report.md, results.json, logs.txt.

    sh scripts/gpu.sh run [OUT] [options]

The report is rewritten after every step, so there is one whatever fails, hangs, or ends the run. The exit status
is 0 if every step was good, 1 if one was not, 3 if there is no way to a GPU.
"""
import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import operations  # noqa: E402
import report  # noqa: E402
import steps  # noqa: E402
import ways  # noqa: E402

VERIFY_FOUND = 1  # verify's exit status where bits differ
BITS_DIFFER = "bits differ"
NO_WAY = 3
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def default_prepared():
    """The folder that this script was copied into, else the one that is made from the sources it is part of."""
    copied = (HERE.parent / "bin" / "clnorm").exists()
    return HERE.parent if copied else HERE.parent.parent / "build-gpu"


def parse_arguments():
    parser = argparse.ArgumentParser(prog="gpu.sh run", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("out", nargs="?", type=pathlib.Path, default=pathlib.Path("build-gpu-report"), metavar="OUT",
        help="folder of the report (default: build-gpu-report)")
    add("--prepared", type=pathlib.Path, default=default_prepared(), metavar="FOLDER",
        help="what 'gpu.sh prepare' made (default: %(default)s)")
    add("--program", metavar="FILE", help="another clnorm than the prepared one")
    add("--driver", default="auto", metavar="auto|nvidia|rusticl|pocl|FILE",
        help="the OpenCL driver; auto: the first of these on which a kernel runs")
    add("--budget", type=float, default=510, metavar="S", help="for everything (default: 510 seconds)")
    add("--seconds", type=float, default=0.1, metavar="S", help="for one measurement, about (default: 0.1)")
    add("--suite", action="append", metavar="NAME", help="of verify, instead of all; may be given several times")
    add("--shape", action="append", metavar="NxCxHxW", help="instead of the networks' layers; the same")
    add("--python", metavar="FILE", help="the Python that has PyTorch")
    add("--torch-device", choices=["cuda", "cpu"], default="cuda", help="cpu: to try this script without a GPU")
    return parser.parse_args()


# ---- The machine --------------------------------------------------------------------------------------

def first_line(*command):
    """Of what a command prints; None where it fails."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=15,
                              check=True)
        return done.stdout.strip().splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return None


def line_of(path, start):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return next((line.split("=" if "=" in line else ":", 1)[1].strip().strip('"')
                         for line in file if line.startswith(start)), None)
    except OSError:
        return None


def machine_facts(arguments):
    query = "name,driver_version,memory.total,clocks.max.sm,clocks.max.memory,power.limit"
    facts = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "GPU": first_line("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"),
        "driver": line_of("/proc/driver/nvidia/version", "NVRM version"),
        "processor": f"{line_of('/proc/cpuinfo', 'model name')}, {len(os.sched_getaffinity(0))} CPUs",
        "system": f"{line_of('/etc/os-release', 'PRETTY_NAME')}, Linux {platform.release()}, "
                  f"{' '.join(platform.libc_ver())}, Python {platform.python_version()}",
        "command": shlex.join(["sh", "scripts/gpu.sh", "run", *sys.argv[1:]])}
    prepared = arguments.prepared / "prepared.txt"
    if prepared.exists():
        facts.update(line.split(": ", 1) for line in prepared.read_text(encoding="utf-8").splitlines() if ": " in line)
    return {name: value or "unknown" for name, value in facts.items()}


# ---- The run ------------------------------------------------------------------------------------------

class Run:
    def __init__(self, arguments, scratch):
        self.arguments = arguments
        self.scratch = scratch
        self.program = os.path.abspath(arguments.program or arguments.prepared / "bin" / "clnorm")
        self.runner = steps.Runner(arguments.out, time.monotonic() + arguments.budget)
        self.way = None
        self.device = None
        self.found = {"finished": False, "stage": "starting", "facts": {}, "ways": [], "steps": [], "groups": [],
                      "operations": operations.OPERATIONS, "bench": [], "torch": [], "verify": {}, "tune": None}

    def write(self):
        """Both files are replaced whole."""
        files = {"results.json": json.dumps(self.found, indent=1), "report.md": report.markdown(self.found)}
        for name, text in files.items():
            part = self.arguments.out / f"{name}.part"
            part.write_text(text, encoding="utf-8")
            part.replace(self.arguments.out / name)

    def run(self, step):
        """Tells, runs, records."""
        self.found["stage"] = f"during: {step.name}"
        print(f"gpu.sh: {step.name} ...", file=sys.stderr, flush=True)
        result = steps.Result(step.name, step.command)
        try:
            self.runner.run(step, result)
        finally:
            record = dataclasses.asdict(result)
            del record["output"]
            self.found["steps"].append(record)
            self.write()
        if result.status != steps.GOOD:
            print(f"gpu.sh: {step.name}: {result.status} {result.note}", file=sys.stderr, flush=True)
        return result

    def clnorm(self, way, name, arguments, limit):
        return steps.Step(name, [*way.prefix, self.program, *arguments], limit, way.environment, way.folder)

    # -- Which way

    def probe(self, name, make):
        """True if clnorm sees a device this way, and it runs."""
        told = {"name": name, "driver": "-", "result": ""}
        self.found["ways"].append(told)
        try:
            way = make(self.arguments.prepared.resolve(), self.scratch)
        except (ways.NoWay, OSError, tarfile.TarError) as error:
            told["result"] = str(error)
            return False
        told["driver"] = way.driver
        result = self.run(self.clnorm(way, f"devices, {name}", ["devices", "--json"], 60))
        listed = parse(result.output) or {"devices": [], "missing": []}
        devices = [d for d in listed["devices"] if d["id"] != "cpu"]
        usable = [d for d in devices if d["status"] == "ok"]
        if usable:
            failure = self.try_device(way, name, usable[0]["id"])
            if failure:
                told["result"] = f"{usable[0]['name']} is there, but does not run: {failure}"
                return False
            self.way, self.device = way, usable[0]["id"]
            told["result"] = f"taken: {usable[0]['name']} ({usable[0]['platform']})"
            self.found["facts"]["OpenCL"] = f"{usable[0]['name']}, {usable[0]['platform']}, by {way.driver}"
            return True
        told["result"] = "; ".join([result.note, *(f"{d['name']}: {d['status']}" for d in devices),
                                    *listed["missing"]]).strip("; ") or "no device"
        return False

    def try_device(self, way, name, device):
        """None if kernels compile and run, with whatever bits."""
        arguments = ["verify", "--shape", "2x3x7x7", "--form", "wide", "--json", "--device", device]
        step = self.clnorm(way, f"first run, {name}", arguments, 90)
        step.meaning = {VERIFY_FOUND: BITS_DIFFER}
        result = self.run(step)
        return None if result.status == steps.GOOD or result.note == BITS_DIFFER else f"{result.status}, {result.note}"

    def find_way(self):
        for name, make in ways.choose(self.arguments.driver):
            if self.probe(name, make):
                return True
        self.write()
        return False

    # -- What is measured

    def choose_groups(self):
        layers = self.arguments.prepared / "layers.txt"
        if self.arguments.shape:
            groups = [operations.ShapeGroup("shapes given", self.arguments.shape)]
        else:
            groups = operations.shape_groups(operations.read_layers(layers.read_text(encoding="utf-8")))
        self.found["groups"] = [dataclasses.asdict(group) for group in groups]
        return groups

    def step_of(self, part):
        if part.kind == "torch":
            command = [find_torch(self.arguments.python), str(HERE / "torch_norm.py"), "--device",
                       self.arguments.torch_device, *part.arguments]
            return steps.Step(part.name, command, part.limit)
        step = self.clnorm(self.way, part.name, [*part.arguments, "--device", self.device], part.limit)
        step.meaning = {VERIFY_FOUND: BITS_DIFFER} if part.kind == "verify" else {}
        return step

    def keep(self, part, output):
        """What the part found, also if it failed half-way."""
        if part.kind == "torch":
            lines = [value for value in map(parse, output.splitlines()) if value]
            self.found["facts"]["PyTorch"] = ", ".join(f"{k} {v}" for k, v in lines[0].items()) if lines else "none"
            self.found["torch"] = lines[1:]
            return
        value = parse(output)
        if value is None:
            return
        if part.kind == "verify":
            self.found["verify"][part.name] = value
        elif part.kind == "tune":
            self.found["tune"] = value
        else:
            self.found["bench"] += [{**row, "clock": value["clock"]} for row in value["results"]]

    def everything(self):
        self.found["facts"].update(machine_facts(self.arguments))
        self.write()
        groups = self.choose_groups()
        there = self.find_way()
        parts = operations.parts(groups, self.arguments.suite or operations.SUITES, self.arguments.seconds)
        for part in parts:
            if there or part.kind == "torch":
                self.keep(part, self.run(self.step_of(part)).output)
        self.found["finished"] = True
        if not there:
            return NO_WAY
        return int(any(step["status"] != steps.GOOD for step in self.found["steps"]))


def parse(text):
    try:
        value = json.loads(text)
        return value if isinstance(value, dict) else None
    except ValueError:
        return None


def find_torch(given):
    """A Python that knows PyTorch; else this one, whose message then says that it does not."""
    if given:
        return given
    elsewhere = [str(path) for pattern in ("*/.venv/bin/python3", "*/bin/python3")
                 for path in pathlib.Path("/opt").glob(pattern)]
    for python in (sys.executable, shutil.which("python3"), shutil.which("python"), *elsewhere):
        if python and first_line(python, "-c", "import importlib.util as u; print(u.find_spec('torch').name)"):
            return python
    return sys.executable


def stop(number, _frame):
    for one in STOPPING:
        signal.signal(one, signal.SIG_IGN)
    raise steps.Stopped(f"signal {number}")


def main():
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for number in STOPPING:
        signal.signal(number, stop)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="clnorm-gpu-"))
    run = Run(arguments, scratch)
    status = 1
    try:
        status = run.everything()
    except steps.Stopped as ended:
        run.found["stage"] += f", ended by {ended}"
    except Exception:  # a report is left whatever happens
        run.found["stage"] += f"; the script itself failed: {traceback.format_exc()}"
        traceback.print_exc()
    finally:
        run.write()
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"gpu.sh: {report.verdict(run.found)}\ngpu.sh: the report is {arguments.out}/report.md", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
