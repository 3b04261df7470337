"""What is run on a GPU, in this order: the one list to which a new operation is added.

The first rows are what a report is made for; they come first in case time runs out.
"""
import dataclasses

# Names of `clnorm bench --op`, each a function of the same name in torch_norm.py.
OPERATIONS = ["eval", "train"]

# Work-groups of the wide form that verify is run with.
GROUP_SIZES = [256, 64]

# Suites of `clnorm verify`.
SUITES = ["edge", "resnet50", "mobilenet_v2", "unet"]

# Layers of networks (cases/networks.c), and batch.
SHAPES = [("resnet50", 32), ("resnet50", 1), ("unet", 1), ("mobilenet_v2", 32), ("mobilenet_v2", 1)]


@dataclasses.dataclass
class ShapeGroup:
    name: str
    shapes: list  # "NxCxHxW"


def read_layers(text):
    """Lines "network C H W", as bench/peers/layers.c prints them."""
    layers = {}
    for line in text.splitlines():
        network, *dims = line.split()
        layers.setdefault(network, []).append("x".join(dims))
    return layers


def shape_groups(layers):
    return [ShapeGroup(f"{network}, batch {batch}", [f"{batch}x{dims}" for dims in layers[network]])
            for network, batch in SHAPES if network in layers]


@dataclasses.dataclass
class Part:
    """A step, and what its output is."""
    kind: str  # verify, tune, bench, torch
    name: str
    arguments: list
    limit: float  # seconds


def verify_parts(size, suites):
    return [Part("verify", f"verify {suite}, work-groups of {size}",
                 ["verify", "--suite", suite, "--form", "wide", "--group-size", str(size), "--json"], 90)
            for suite in suites]


def bench_part(operation, group, seconds):
    shapes = [word for shape in group.shapes for word in ("--shape", shape)]
    return Part("bench", f"bench {operation}, {group.name}",
                ["bench", "--op", operation, *shapes, "--seconds", str(seconds), "--device-time", "--no-costs",
                 "--json"], 60)


def torch_part(groups, seconds):
    shapes = [shape for group in groups for shape in group.shapes]
    return Part("torch", "PyTorch", ["--seconds", str(seconds), "--op", ",".join(OPERATIONS), *shapes], 100)


def parts(groups, suites, seconds):
    """Everything, in order."""
    benches = [bench_part(operation, group, seconds) for group in groups for operation in OPERATIONS]
    verifies = [part for size in GROUP_SIZES for part in verify_parts(size, suites[:1])]
    more = [part for size in GROUP_SIZES for part in verify_parts(size, suites[1:])]
    first = len(OPERATIONS)
    return [*verifies, *benches[:first], torch_part(groups, seconds), *benches[first:],
            Part("tune", "tune", ["tune", "--dry-run", "--seconds", str(seconds), "--json"], 60), *more]
