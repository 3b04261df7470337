"""Which tensors are measured."""
import collections
import itertools
import subprocess

SUITES = ["resnet50", "mobilenet_v2", "unet", "sweep"]
BATCHES = {"unet": [1, 4]}  # its tensors are large
DEFAULT_BATCHES = [1, 32]
SWEEP_CHANNELS, SWEEP_PLANE = 16, 128

LAYOUTS = ["nchw", "nhwc", "nchw8c", "nchw16c"]
TYPE_BYTES = {"f32": 4, "f16": 2, "bf16": 2}

Case = collections.namedtuple("Case", "op layout dtype dims suites")
Axes = collections.namedtuple("Axes", "ops layouts dtypes")


def size(dims, dtype="f32"):
    """Bytes of a tensor, without what pads its blocks."""
    product = TYPE_BYTES[dtype]
    for extent in dims:
        product *= extent
    return product


def sweep(max_bytes):
    """16 channels, from 4 KiB up by factors of 4: first the planes grow, then the batch."""
    batch, edge = 1, 8
    while size((batch, SWEEP_CHANNELS, edge, edge)) <= max_bytes:
        yield batch, SWEEP_CHANNELS, edge, edge
        if edge < SWEEP_PLANE:
            edge *= 2
        else:
            batch *= 4


def network_layers(program):
    """(network, C, H, W) of every layer that cases/networks.c knows."""
    text = subprocess.run([program], stdout=subprocess.PIPE, text=True, check=True).stdout
    for line in text.splitlines():
        name, *dims = line.split()
        yield (name, *map(int, dims))


def suite_shapes(suites, batches, layers, max_bytes):
    """(suite, dims), without those above max_bytes."""
    if "sweep" in suites:
        for dims in sweep(max_bytes):
            yield "sweep", dims
    for name, *layer in layers:
        if name not in suites:
            continue
        for batch in batches or BATCHES.get(name, DEFAULT_BATCHES):
            dims = (batch, *layer)
            if size(dims) <= max_bytes:
                yield name, dims


def choose(axes, given, suites, batches, layers, max_bytes):
    """The cases of a run, small tensors first: each shape with every layout, type and operation. A shape of
    several suites is measured once. max_bytes counts a tensor as f32. Training needs more than one value
    per channel."""
    names = {}
    for dims in given:
        names.setdefault(dims, []).append("given")
    if not given or suites:
        for name, dims in suite_shapes(suites or SUITES, batches, layers, max_bytes):
            known = names.setdefault(dims, [])
            if name not in known:
                known.append(name)
    ordered = sorted(names.items(), key=lambda item: (size(item[0]), item[0]))
    return [Case(op, layout, dtype, dims, known) for dims, known in ordered
            for layout, dtype, op in itertools.product(axes.layouts, axes.dtypes, axes.ops)
            if op != "train" or dims[0] * dims[2] * dims[3] > 1]
