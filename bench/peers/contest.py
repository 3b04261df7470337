"""The contestants, and one case measured on all of them in turn."""
import collections
import ctypes
import functools
import math
import os
import statistics
import threading
import time

import torch
import torch.nn.functional

from install import Failure
from report import Entry, LeftOut, Result

EPS = 1e-5
TOLERANCE = 0.02  # of results of a few units: some peers sum a million floats in one float
LARGEST = 8  # power of two below the largest results: a step of the type there comes on top
TURN_SECONDS = 0.0015  # calls are repeated until a turn takes about this long,
SHORT_SECONDS = 0.005  # and three times at least where one takes less than this
MIN_ROUNDS = 3
TEXT = 4096  # PEER_TEXT of peer.h
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
FORMATS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
BLOCKS = {"nchw8c": 8, "nchw16c": 16}
OPERANDS = "x y weight bias running_mean running_var mean invstd"
Operands = collections.namedtuple("Operands", OPERANDS)

X, Y = 0, 1  # PEER_X, PEER_Y of peer.h


class Neighbours:
    """The producer and the consumer that stand beside everybody's operation (cases/neighbours.h)."""

    def __init__(self, path, threads):
        self.library = ctypes.CDLL(path)
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self.library.clnorm_neighbours_create.restype = pointer
        self.library.clnorm_neighbours_produce.argtypes = [pointer, pointer, size]
        self.library.clnorm_neighbours_consume.argtypes = [pointer, pointer, size]
        self.library.clnorm_neighbours_consume.restype = ctypes.c_double
        self.handle = self.library.clnorm_neighbours_create(threads)
        if not self.handle:
            raise Failure("no threads for the producer and the consumer")

    def produce(self, address, size):
        self.library.clnorm_neighbours_produce(self.handle, address, size)

    def consume(self, address, size):
        self.library.clnorm_neighbours_consume(self.handle, address, size)


class PeerCase(ctypes.Structure):
    """peer_case of peer.h"""
    _fields_ = [("dims", ctypes.c_int64 * 4), ("layout", ctypes.c_char_p),
                ("dtype", ctypes.c_char_p), ("training", ctypes.c_int), ("eps", ctypes.c_double)]

    def __init__(self, case):
        super().__init__((ctypes.c_int64 * 4)(*case.dims), case.layout.encode(),
                         case.dtype.encode(), case.op == "train", EPS)


class Shared:
    """A contestant in a shared object with the functions of peer.h."""

    def __init__(self, path, target, option, threads):
        self.library = ctypes.CDLL(path)
        self.why = ctypes.create_string_buffer(TEXT)
        self._declare()
        handle = self.library.peer_open(target.encode(), option.encode(), threads, self.why)
        if not handle:
            raise Failure(self.why.value.decode())
        self.handle = handle
        self.description = self.library.peer_description(handle).decode()

    def _declare(self):
        text, pointer, integer = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int
        signatures = {
            "peer_open": (pointer, [text, text, integer, text]),
            "peer_description": (text, [pointer]),
            "peer_prepare": (integer, [pointer, ctypes.POINTER(PeerCase), pointer, text]),
            "peer_drop": (None, [pointer]),
            "peer_kernel": (text, [pointer]),
            "peer_time": (ctypes.c_double, [pointer, ctypes.c_long, text]),
            "peer_map": (pointer, [pointer, integer, ctypes.POINTER(ctypes.c_size_t), text]),
            "peer_unmap": (integer, [pointer, text]),
            "peer_fetch": (integer, [pointer, text]),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(self.library, name)
            function.restype, function.argtypes = result, arguments

    def _need(self, good):
        if not good:
            raise Failure(self.why.value.decode())

    def prepare(self, case, operands):
        pointers = (ctypes.c_void_p * len(operands))(*(tensor.data_ptr() for tensor in operands))
        self._need(self.library.peer_prepare(self.handle, PeerCase(case), pointers, self.why))

    def kernel(self):
        return self.library.peer_kernel(self.handle).decode()

    def time(self, calls):
        seconds = self.library.peer_time(self.handle, calls, self.why)
        self._need(seconds >= 0)
        return seconds

    def beside(self, operand, work):
        """work(address, bytes) on x or y, wherever it is; the seconds until it is done."""
        size = ctypes.c_size_t()
        begin = time.perf_counter()
        address = self.library.peer_map(self.handle, operand, size, self.why)
        self._need(address)
        work(address, size.value)
        seconds = time.perf_counter() - begin
        self._need(self.library.peer_unmap(self.handle, self.why))
        return seconds

    def fetch(self):
        self._need(self.library.peer_fetch(self.handle, self.why))

    def drop(self):
        self.library.peer_drop(self.handle)


class Torch:
    """PyTorch in its fastest form: batch_norm as people call it, which allocates its output, or the
    variant of native_batch_norm that writes into tensors it is given, where this version has it. NHWC is its
    channels_last; parameters and statistics are f32 beside every type of x."""

    def __init__(self, threads, source):
        torch.set_num_threads(threads)
        self.description = (f"PyTorch {torch.__version__} ({source}), "
                            f"{torch.get_num_threads()} threads")
        self.operands = self.call = self.y = None
        self.training = False

    def _functional(self):
        o = self.operands
        return torch.nn.functional.batch_norm(o.x, o.running_mean, o.running_var, o.weight, o.bias,
                                              self.training, 0.1, EPS)

    def _native(self):
        o = self.operands
        return torch.native_batch_norm(o.x, o.weight, o.bias, o.running_mean, o.running_var,
                                       self.training, 0.1, EPS)

    def _into(self):
        o = self.operands
        none = o.mean.new_empty(0)
        mean, invstd = (o.mean, o.invstd) if self.training else (none, none)
        return torch.ops.aten.native_batch_norm.out(
            o.x, o.weight, o.bias, o.running_mean, o.running_var, self.training, 0.1, EPS,
            out=o.y, save_mean=mean, save_invstd=invstd)[0]

    def prepare(self, case, operands):
        if case.layout not in FORMATS:
            raise Failure(f"PyTorch has no layout {case.layout}")
        self.training, self.operands = case.op == "train", operands
        self.call = self._functional
        try:
            plain = min(self.time(1) for _ in range(3))
        except (NotImplementedError, RuntimeError) as error:
            raise Failure(str(error)) from error
        if not self.y.is_contiguous(memory_format=FORMATS[case.layout]):
            raise Failure(f"PyTorch gives another layout than {case.layout}")
        self.call = self._into
        try:
            fast = min(self.time(1) for _ in range(3)) < plain
        except (NotImplementedError, RuntimeError):  # Debian's 1.13
            fast = False
        if not fast:
            self.call = self._functional

    def kernel(self):
        return "native_batch_norm.out" if self.call == self._into else "batch_norm"

    def time(self, calls):
        call = self.call
        with torch.inference_mode():
            begin = time.perf_counter()
            for _ in range(calls):
                self.y = call()
            return time.perf_counter() - begin

    def beside(self, operand, work):
        tensor = self.operands.x if operand == X else self.y
        begin = time.perf_counter()
        work(tensor.data_ptr(), tensor.numel() * tensor.element_size())
        return time.perf_counter() - begin

    def fetch(self):
        o = self.operands
        with torch.inference_mode():
            y = self.call()
            if y.data_ptr() != o.y.data_ptr():
                o.y.copy_(y)
            if self.training:
                _, mean, invstd = self._native()
                o.mean.copy_(mean)
                o.invstd.copy_(invstd)

    def drop(self):
        self.operands = self.y = None


def entries(ready, threads, opencl):
    """All contestants that can be opened, clnorm's CPU path first, and sentences on the others."""
    objects, libraries = ready["objects"], ready["libraries"]

    def dnnl(name):
        return lambda: Shared(objects[name], libraries[name], "", threads)

    wanted = [
        ("clnorm", "clnorm CPU", "own", lambda: Shared(objects["clnorm"], "cpu", "", threads)),
        ("clnorm_opencl", "clnorm OpenCL", "opencl",
         lambda: Shared(objects["clnorm"], opencl, "", threads)),
        ("clnorm_opencl_queued", "clnorm OpenCL queued", "queued",
         lambda: Shared(objects["clnorm"], opencl, "queued", threads)),
        ("torch", "PyTorch", "peer", lambda: Torch(threads, ready["torch_source"])),
        ("onednn", "oneDNN", "peer", dnnl("onednn")),
        ("onednn_openmp", "oneDNN OpenMP", "peer", dnnl("onednn_openmp")),
    ]
    found, missing = [], []
    for key, title, role, make in wanted:
        try:
            found.append(Entry(key, title, role, make()))
        except (Failure, OSError) as error:
            if role == "own":
                raise Failure(str(error)) from error
            missing.append(f"{title} is left out: {str(error).splitlines()[0]}")
    return found, missing


def place(x, layout, dtype):
    """A copy of x, an (N, C, H, W) tensor, in a layout and type; the places that pad a block are 0."""
    x = x.to(TYPES[dtype], copy=True)
    if layout in FORMATS:
        return x.contiguous(memory_format=FORMATS[layout])
    block = BLOCKS[layout]
    batch, channels, height, width = x.shape
    padded = torch.nn.functional.pad(x, (0, 0, 0, 0, 0, -channels % block))
    blocks = padded.view(batch, -1, block, height, width)
    return blocks.permute(0, 1, 3, 4, 2).contiguous()


def logical(y, channels):
    """What `place` has placed, without what pads a block."""
    if y.dim() == 5:
        y = y.permute(0, 1, 4, 2, 3).flatten(1, 2)[:, :channels]
    return y.float()


@functools.lru_cache(maxsize=1)
def make_values(dims):
    """x and the parameters of a shape, kept for its next case: means and deviations of a few units, another
    one in each channel."""
    generator = torch.Generator().manual_seed(1)

    def uniform(low, high):
        return torch.rand(dims[1], generator=generator) * (high - low) + low

    mean, deviation = uniform(-2, 2), uniform(0.5, 3)
    x = torch.randn(dims, generator=generator)
    x.mul_(deviation.view(1, -1, 1, 1)).add_(mean.view(1, -1, 1, 1))
    return x, uniform(0.5, 1.5), uniform(-1, 1), mean, deviation.square()


def make_operands(case):
    """The operands of a case, which the producer and training change."""
    x, *parameters = make_values(case.dims)
    x = place(x, case.layout, case.dtype)
    return Operands(x, torch.empty_like(x), *(values.clone() for values in parameters),
                    torch.empty(case.dims[1]), torch.empty(case.dims[1]))


def outputs(entry, case, operands):
    """What a contestant computes, copied, as floats."""
    names = ("y", "mean", "invstd") if case.op == "train" else ("y",)
    for name in names:
        getattr(operands, name).fill_(math.nan)
    entry.contestant.time(1)
    entry.contestant.fetch()
    y, *statistics_of_batch = (getattr(operands, name).clone() for name in names)
    return [logical(y, case.dims[1]), *statistics_of_batch]


def check(case, found, operands):
    """The largest difference of each contestant from clnorm's CPU path."""
    expected = outputs(found[0], case, operands)
    differences = {}
    for entry in found[1:]:
        given = outputs(entry, case, operands)
        largest = [float(other.sub_(mine).abs_().max()) for mine, other in zip(expected, given)]
        differences[entry.key] = max(math.inf if math.isnan(value) else value for value in largest)
    return differences


def others_run():
    """Whether another thread of this process runs, or would if it had a processor. Processor times do
    not tell: they are brought up to date every few milliseconds."""
    for task in os.scandir("/proc/self/task"):
        if task.name == str(threading.get_native_id()):
            continue
        try:
            with open(f"{task.path}/stat", encoding="utf-8") as file:
                if file.read().rpartition(")")[2].split()[0] == "R":
                    return True
        except OSError:  # it has ended
            pass
    return False


def settle():
    """Waits until the threads of the contestant before have stopped spinning for more work."""
    for _ in range(200):
        time.sleep(0.001)
        if not others_run():
            return


def warming(calls):
    """Calls before those that are measured. After the contestant before, the first three or four are up to
    twice as slow as those that follow: x is not in the last cache yet, y of the one before still is."""
    return min(calls + 1, max(4, calls // 4))


def turn(contestant, calls):
    """Seconds for a call, warm."""
    settle()
    contestant.time(warming(calls))
    return contestant.time(calls) / calls


def pipeline_turn(contestant, neighbours, calls):
    """Seconds for a call and the consumer of its output, after the producer of its input: the middle of
    several, since one in which a thread loses its processor takes a hundred times as long."""
    settle()
    seconds = []
    for _ in range(calls + 1):
        contestant.beside(X, neighbours.produce)
        seconds.append(contestant.time(1) + contestant.beside(Y, neighbours.consume))
    return statistics.median(seconds[1:])  # the first one warms


def in_pipeline(found):
    """Those that can stand in a pipeline: calls that are queued without waiting cannot."""
    return [entry for entry in found if entry.role != "queued"]


def plan_turns(found):
    """Calls in a turn for each contestant, and about how long one round of turns takes."""
    calls, seconds = {}, 0.0
    for entry in found:
        settle()
        once = max(min(entry.contestant.time(1) for _ in range(3)), 1e-7)
        count = max(3 if once < SHORT_SECONDS else 1, round(TURN_SECONDS / once))
        calls[entry.key] = count
        seconds += 0.01 + once * (count + warming(count)) + 4 * once * (count + 1)
    return calls, seconds


def play(found, one_turn, rounds):
    """Seconds for a call: a list for each contestant, one entry a round. Whoever begins changes."""
    seconds = {entry.key: [] for entry in found}
    for k in range(rounds):
        first = k % len(found)
        for entry in found[first:] + found[:first]:
            seconds[entry.key].append(one_turn(entry))
    return seconds


def compare(seconds, own):
    """Medians of the seconds, and of the ratios to clnorm's CPU path; PyTorch's to clnorm on OpenCL too."""
    ratios = {key: statistics.median(a / b for a, b in zip(times, seconds[own]))
              for key, times in seconds.items()}
    for key in ("opencl", "opencl_queued"):
        if f"clnorm_{key}" in seconds and "torch" in seconds:
            ratios[f"torch_to_{key}"] = statistics.median(
                a / b for a, b in zip(seconds["torch"], seconds[f"clnorm_{key}"]))
    return {key: statistics.median(times) for key, times in seconds.items()}, ratios


def prepare(case, found, operands):
    """Those that are ready for the case, clnorm's CPU path among them, and those that do not offer it."""
    ready, left_out = [], {}
    for entry in found:
        try:
            entry.contestant.prepare(case, operands)
            ready.append(entry)
        except Failure as error:
            reason = str(error).splitlines()[0]
            if entry.role == "own":
                raise Failure(f"{described(case)}: {reason}") from error
            left_out[entry.key] = LeftOut("not offered", reason)
    return ready, left_out


def described(case):
    return f"{case.op} {case.layout} {case.dtype} {'x'.join(map(str, case.dims))}"


def wrong_ones(case, differences):
    """Those whose results do not agree with clnorm's CPU path."""
    allowed = TOLERANCE + LARGEST * torch.finfo(TYPES[case.dtype]).eps
    return {key: LeftOut("wrong", f"its results differ from clnorm's by {difference:g}")
            for key, difference in differences.items() if difference > allowed}


def measure(case, found, neighbours, budget, max_rounds):
    """One case: check, then rounds of turns for about `budget` seconds."""
    operands = make_operands(case)
    try:
        ready, left_out = prepare(case, found, operands)
        kernels = {entry.key: entry.contestant.kernel() for entry in ready}
        differences = check(case, ready, operands)
        left_out.update(wrong_ones(case, differences))
        ready = [entry for entry in ready if entry.key not in left_out]
        calls, cost = plan_turns(ready)
        rounds = max(MIN_ROUNDS, min(max_rounds, int(budget / cost)))
        piped = play(in_pipeline(ready), lambda entry: pipeline_turn(
            entry.contestant, neighbours, calls[entry.key]), rounds)
        looped = play(ready, lambda entry: turn(entry.contestant, calls[entry.key]), rounds)
    finally:
        for entry in found:
            entry.contestant.drop()
    own = found[0].key
    return Result(case, *compare(piped, own), *compare(looped, own), rounds, differences, left_out,
                  kernels)


def measure_all(cases, found, neighbours, budget, max_rounds, progress):
    """All cases in about `budget` seconds. What one leaves over goes to those after it: give the
    large ones last. progress(number, result) is called after each."""
    end = time.monotonic() + budget
    results = []
    for index, case in enumerate(cases):
        share = (end - time.monotonic()) / (len(cases) - index)
        results.append(measure(case, found, neighbours, share, max_rounds))
        progress(index + 1, results[-1])
    return results
