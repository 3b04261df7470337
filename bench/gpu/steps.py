"""Programs that are given a time and cannot take the measuring down with them."""
import dataclasses
import os
import signal
import subprocess
import time

GOOD, FAILED, LATE, STOPPED, LEFT_OUT = "good", "failed", "out of time", "stopped", "not run"
LAST_LINES = 12
GRACE = 3  # seconds between asking a program to end and making it


class Stopped(Exception):
    """The measuring was asked to end."""


@dataclasses.dataclass
class Step:
    name: str
    command: list
    limit: float  # seconds
    environment: dict = None
    folder: str = None
    meaning: dict = dataclasses.field(default_factory=dict)  # of other exit statuses than 0


@dataclasses.dataclass
class Result:
    name: str
    command: list
    status: str = LEFT_OUT
    note: str = ""
    seconds: float = 0.0
    output: str = ""
    last_lines: list = dataclasses.field(default_factory=list)


def how_it_ended(code):
    if code < 0:
        return f"died of signal {-code} ({signal.Signals(-code).name})"
    return f"exit status {code}" if code else ""


def signal_group(process, number):
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def end(process):
    """Ends the whole process group. A process that a driver holds is left behind after a while."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        signal_group(process, number)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            continue
    signal_group(process, signal.SIGKILL)  # children that outlived the first


class Runner:
    """Runs steps until a deadline, and keeps all they print in one file."""

    def __init__(self, folder, deadline):
        self.output = folder / "step.out"
        self.errors = folder / "step.err"
        self.log = folder / "logs.txt"
        self.log.write_text("", encoding="utf-8")
        self.deadline = deadline

    def left(self):
        return self.deadline - time.monotonic()

    def run(self, step, result):
        """Fills the result, also where an exception ends the step."""
        limit = min(step.limit, self.left())
        if limit < 1:
            result.note = "no time was left"
            self._keep(result)
            return
        begin = time.monotonic()
        try:
            self._wait(step, limit, result)
        finally:
            result.seconds = time.monotonic() - begin
            self._keep(result)

    def _wait(self, step, limit, result):
        with open(self.output, "wb") as output, open(self.errors, "wb") as errors:
            try:
                process = subprocess.Popen(step.command, stdin=subprocess.DEVNULL, stdout=output,
                                           stderr=errors, env=step.environment, cwd=step.folder,
                                           start_new_session=True)
            except OSError as error:
                result.status, result.note = FAILED, str(error)
                return
            result.status = STOPPED
            try:
                code = process.wait(limit)
                result.status = FAILED if code else GOOD
                result.note = step.meaning.get(code) or how_it_ended(code)
            except subprocess.TimeoutExpired:
                result.status, result.note = LATE, f"stopped after {limit:.0f} s"
            finally:
                if process.returncode is None:
                    end(process)

    def _keep(self, result):
        """Moves what the step printed into the log."""
        result.output = read(self.output)
        errors = read(self.errors)
        printed = errors if errors.strip() else result.output
        result.last_lines = [] if result.status == GOOD else printed.rstrip().splitlines()[-LAST_LINES:]
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(f"==== {result.name}: {result.status} {result.note} ({result.seconds:.1f} s)\n"
                      f"$ {' '.join(map(str, result.command))}\n{result.output}{errors}\n")
        for path in (self.output, self.errors):
            path.unlink(missing_ok=True)


def read(path):
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
