#!/usr/bin/env python3
"""The bytes that kernels really move, counted by Oclgrind, against the floor and the streaming bytes.

    moved_bytes.py PROGRAM        with Oclgrind as the OpenCL driver and OCLGRIND_INST_COUNTS=1 (gpu.cmake)

PROGRAM (moved_bytes.c) runs one operation; Oclgrind prints how many bytes its kernels' instructions loaded
from and stored to global memory. With T the tensor's bytes, each operation must come within 3 % of

    copy, evaluation    T read, T written
    training, split     2T read, T written     statistics, then output
    training, channel   2T read, T written     as issued; where the channel stays in the cache between the
                                               two readings, one T of it comes from memory

Statistics of the vector form sweep the first block of each segment, 2 KiB or less, twice in a row, and the second
sweep finds it in the first-level cache: those kernels must issue exactly so much more, which is told apart
below. The wide form keeps the block in registers. Parameters and partial results count in full, and are well
under 3 % here: each tile of the output reads those of its channels.

To see the check fail, make a kernel of a copy of the tree read x once more, say clnorm_normalize(x[at], a) +
0.0f * ((volatile __global const float *)x)[at] in clnorm_group_channel of kernels/wide.cl.
"""
import collections
import re
import subprocess
import sys

# Batch x channels x spatial: planes of whole segments and of odd size, batches that do not fill the last
# group of planes. Small planes come in runs of whole vectors: of other runs the vector form reads up to two
# vectors a second time, from lines that it has just read.
SHAPES = ["2x3x4096", "33x32x49", "37x8x196", "5x3x1000", "3x2x3025", "1x1x35021", "70x32x25"]
# Statistics, variant, times T read.
OPERATIONS = [("copy", "auto", 1), ("given", "auto", 1), ("batch", "split", 2), ("batch", "channel", 2)]
TOLERANCE = 0.03

# What a call of a built-in function moves, which Oclgrind does not count as a load or a store. memcpy
# copies a structure, of 24 bytes at most: a partial result. "p1" and "AS1" are global memory.
CALLS = {
    "read": [(r"call _Z7vload16mPU3AS1Kf\(\)", 64), (r"call llvm\.memcpy\.p[03]i8\.p1i8\.\w+\(\)", 24)],
    "written": [(r"call _Z8vstore16Dv16_fmPU3AS1f\(\)", 64),
                (r"call llvm\.memcpy\.p1i8\.p[03]i8\.\w+\(\)", 24)],
}
INSTRUCTIONS = {"read": r"load global \((\d+) bytes\)", "written": r"store global \((\d+) bytes\)"}
# Whatever else touches global memory would go uncounted.
UNKNOWN = re.compile(r"call (_Z\d+(?:vload|vstore|atom|async|prefetch)\w*AS1\w*|llvm\.mem\w*p1i8\w*)")


def run(program, form, statistics, variant, shape):
    """Bytes read and written, by kernel."""
    command = [program, "0.0", statistics, form, variant, shape]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"moved_bytes.py: {' '.join(command)} ended with {done.returncode}")
    moved = collections.OrderedDict()
    for block in done.stdout.split("Instructions executed for kernel '")[1:]:
        kernel, _, lines = block.partition("':")
        moved.setdefault(kernel, {"read": 0, "written": 0})
        for line in lines.strip().splitlines():
            count_line(line, moved[kernel])
    if not moved:
        sys.exit(f"moved_bytes.py: {' '.join(command)} printed no counts: is Oclgrind the driver, and "
                 "OCLGRIND_INST_COUNTS=1?")
    return moved


def count_line(line, moved):
    """Adds one line, "COUNT - INSTRUCTION", to what a kernel has moved."""
    count, _, instruction = line.strip().partition(" - ")
    known = False
    for way in moved:
        match = re.fullmatch(INSTRUCTIONS[way], instruction)
        if match:
            moved[way] += int(match.group(1))
        for pattern, size in CALLS[way]:
            if re.fullmatch(pattern, instruction):
                moved[way] += int(count) * size
                known = True
    if not known and UNKNOWN.match(instruction):
        sys.exit(f"moved_bytes.py: how much does '{instruction}' move? Add it to CALLS")


def tensor_bytes(shape):
    batch, channels, spatial = map(int, shape.split("x"))
    return 4 * batch * channels * spatial


def first_blocks(shape):
    """The bytes in the first blocks of all segments (docs/arithmetic.md)."""
    batch, channels, spatial = map(int, shape.split("x"))
    slot = 1
    while slot < min(spatial, 2048):
        slot *= 2
    elements = 0
    for sample in range(0, batch, 2048 // slot):
        planes = min(batch - sample, 2048 // slot)
        for position in range(0, spatial, 2048):
            extent = min(spatial - position, 2048)
            elements += min(planes, 512 // slot) * extent if slot <= 512 else min(extent, 512)
    return 4 * channels * elements


def check(program, form, operation, shape):
    """Prints one line; true where it is within the tolerance."""
    statistics, variant, times = operation
    moved = run(program, form, statistics, variant, shape)
    tensor = tensor_bytes(shape)
    near = first_blocks(shape) if form == "vector" and statistics == "batch" else 0
    read = sum(kernel["read"] for kernel in moved.values()) - near
    written = sum(kernel["written"] for kernel in moved.values())
    good = (abs(read / (times * tensor) - 1) <= TOLERANCE and abs(written / tensor - 1) <= TOLERANCE
            and abs((read + written) / ((times + 1) * tensor) - 1) <= TOLERANCE)
    print(f"{form:6}  {statistics:5}  {variant:7}  {shape:10}  {tensor:7}  {read / tensor:6.3f}T"
          f"  {near / tensor:8.3f}T  {written / tensor:6.3f}T  {times + 1}T  {'' if good else 'WRONG'}".rstrip())
    return good


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print("form    stat.  variant  shape       T bytes   read     again, L1  written  expected")
    results = [check(sys.argv[1], form, operation, shape)
               for form in ("vector", "wide") for operation in OPERATIONS for shape in SHAPES]
    print(f"{len(results)} operations, {results.count(False)} of them not within {TOLERANCE:.0%}")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
