#!/usr/bin/env python3
"""PyTorch's own batch normalization, beside its own copy: one JSON object a line, the first about PyTorch.

    torch_norm.py [--device cuda|cpu] [--seconds S] [--op eval,train] NxCxHxW...

On a GPU the times are those between events around the replay of a graph of many calls, so that the time
to launch a call is not in them; where a graph cannot be captured, around many calls.
"""
import argparse
import json
import statistics
import sys
import time

try:
    import torch
    import torch.nn.functional as functional
except ImportError as error:
    sys.exit(f"torch_norm.py: {sys.executable} has no PyTorch: {error}")

LEAST_ROUNDS = 5
REPLAY_SECONDS = 0.004  # of one graph, about
MOST_CALLS = 200


def tensors(shape, device):
    channels = shape[1]
    x = torch.randn(shape, device=device)
    weight, bias, mean = (torch.randn(channels, device=device) for _ in range(3))
    variance = torch.rand(channels, device=device) + 0.5
    return x, weight, bias, mean, variance


def normalization(training):
    """momentum is the fraction of the new batch here: 0.1 is clnorm's 0.9."""
    def make(shape, device):
        x, weight, bias, mean, variance = tensors(shape, device)
        return lambda: functional.batch_norm(x, mean, variance, weight, bias, training, 0.1, 1e-5)
    return make


# An entry for every name in operations.py.
OPERATIONS = {"eval": normalization(False), "train": normalization(True)}


class DeviceClock:
    """Events of the GPU."""

    def __init__(self):
        self.begin, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.how = "graph"

    def many(self, call, count):
        """A function that makes `count` calls."""
        try:
            stream = torch.cuda.Stream()
            with torch.cuda.stream(stream):
                call()
            stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for _ in range(count):
                    call()
            return graph.replay
        except RuntimeError as error:
            print(f"no graph: {error}", file=sys.stderr)
            self.how = "calls"
            return repeat(call, count)

    def seconds(self, calls):
        self.begin.record()
        calls()
        self.end.record()
        self.end.synchronize()
        return self.begin.elapsed_time(self.end) * 1e-3


class HostClock:
    how = "host"

    def many(self, call, count):
        return repeat(call, count)

    def seconds(self, calls):
        begin = time.perf_counter()
        calls()
        return time.perf_counter() - begin


def repeat(call, count):
    def calls():
        for _ in range(count):
            call()
    return calls


def prepare(clock, call):
    """The call many times over, and how many."""
    for _ in range(3):
        call()
    once = min(clock.seconds(call) for _ in range(3))
    count = max(1, min(MOST_CALLS, int(REPLAY_SECONDS / max(once, 1e-7))))
    calls = clock.many(call, count)
    clock.seconds(calls)
    return calls, count


def measure(clock, operation, shape, device, limit):
    """Rounds of the operation and of a copy of the same bytes, in turn."""
    x = torch.randn(shape, device=device)
    y = torch.empty_like(x)
    ways = [prepare(clock, OPERATIONS[operation](shape, device)), prepare(clock, lambda: y.copy_(x))]
    times = [[], []]
    begin = time.perf_counter()
    while len(times[0]) < LEAST_ROUNDS or time.perf_counter() - begin < limit:
        for found, (calls, count) in zip(times, ways):
            found.append(clock.seconds(calls) / count)
    return {"op": operation, "shape": "x".join(map(str, shape)), "median_s": statistics.median(times[0]),
            "copy_s": statistics.median(times[1]), "rounds": len(times[0]), "clock": clock.how}


def describe(device):
    if device == "cuda":
        return {"torch": torch.__version__, "device": torch.cuda.get_device_name(),
                "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {"torch": torch.__version__, "device": f"the processor, {torch.get_num_threads()} threads"}


def say(value):
    print(json.dumps(value), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--seconds", type=float, default=0.1)
    parser.add_argument("--op", default=",".join(OPERATIONS))
    parser.add_argument("shapes", nargs="+", metavar="NxCxHxW")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch_norm.py: this PyTorch sees no GPU (torch.cuda.is_available() is False)")
    clock = DeviceClock() if arguments.device == "cuda" else HostClock()
    say(describe(arguments.device))
    status = 0
    with torch.no_grad():
        for text in arguments.shapes:
            shape = tuple(map(int, text.split("x")))
            for operation in arguments.op.split(","):
                try:
                    say(measure(clock, operation, shape, arguments.device, arguments.seconds))
                except RuntimeError as error:
                    print(f"{operation} {text}: {error}", file=sys.stderr)
                    status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
