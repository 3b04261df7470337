#!/usr/bin/env python3
"""The wide form of the kernels, compiled for real GPUs without one.

    gpu_kernels.py ROOT [--only intel|amd|nvidia|lint] [--update] [--jobs N]

Compiles kernels/wide.cl in each of its builds for Intel (ocloc), AMD (clang) and NVIDIA (clang,
then ptxas where it is found), prints a table of what each kernel needs, and fails where

  - a kernel spills, to memory or to other registers, or has a private stack;
  - a kernel of an AMD or NVIDIA target needs more than 64 registers per work-item;
  - a hot loop does not read and write global memory as it should (ACCESS);
  - the table differs from the committed one, tests/gpu_kernels.txt. After a change that is meant, run with
    --update and commit the new table with the reason. Rows of compilers of other versions than the
    table's are not compared, and such a clang may set scalars of AMD's aside in vector registers (clang 19
    does; nothing goes to memory). All else holds for them as well;
  - a required compiler is missing. ptxas is not required: without it NVIDIA's rows are left out;
  - a planted kernel that must spill is not found out.

It also checks the kernel files against OpenCL C 1.2 without any extension but double precision, and that where
f64 is asked for. These are LLVM's and Intel's
compilers, not every vendor's driver: indicative, not proof.

Occupancy is the share of a processor's threads that can be resident at once, given registers, local memory
and the work-group's size. Local memory is the kernel's __local data, in bytes. Intel has 128 registers of
32 or 64 bytes per hardware thread whatever the kernel is, so its column shows SIMD width and instructions;
its "flags" are condition flags that were set aside in registers, not in memory.
"""
import argparse
import collections
import concurrent.futures
import dataclasses
import itertools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

# Build -> options. The host picks one by the device's limits (host/opencl/launch.c).
# The stages are forward's: backward's kernels (wide_backward.h) are linted only.
# CLNORM_SOFT_FMA is for drivers without CL_FP_FMA, which none of these targets' are; it is linted only.
BUILDS = {
    "256": ["-D", "CLNORM_GROUP_SIZE=256", "-D", "CLNORM_STAGES=31"],
    "64": ["-D", "CLNORM_GROUP_SIZE=64", "-D", "CLNORM_STAGES=31"],
}
# What is only looked at for portability besides: every pair of types on every path (clnorm_path in
# host/core/schedule.h; types by the numbers of kernels/storage.h).
PAIRS = [*itertools.product("012", "012"), ("3", "3"), ("3", "0")]
LINTED = [*BUILDS.values(), ["-D", "CLNORM_GROUP_SIZE=64"], ["-D", "CLNORM_SOFT_FMA"],
          *(["-D", f"CLNORM_X_STORAGE={x}", "-D", f"CLNORM_Y_STORAGE={y}", "-D", f"CLNORM_PATH={path}"]
            for x, y in PAIRS for path in "01")]
KERNELS = ["channel", "partials", "finalize", "apply", "copy"]
MAX_REGISTERS = 64

Intel = collections.namedtuple("Intel", "threads local")  # per subslice: hardware threads, bytes
INTEL = {
    "skl": Intel(56, 65536),
    "icllp": Intel(56, 65536),
    "tgllp": Intel(112, 65536),
    "dg1": Intel(112, 65536),
    "dg2": Intel(128, 131072),
    "xe_hp_sdv": Intel(128, 131072),
}
Amd = collections.namedtuple("Amd", "wave simds waves")  # lanes, SIMDs that share 64 KiB, waves per SIMD
AMD = {
    "gfx906": Amd(64, 4, 10),
    "gfx90a": Amd(64, 4, 8),
    "gfx1030": Amd(32, 2, 16),
    "gfx1100": Amd(32, 2, 16),
}
# cpu: the newest target of clang 15 that is not newer. Per multiprocessor: threads, groups, shared bytes;
# reserved: shared bytes that each group needs beyond its own.
Nvidia = collections.namedtuple("Nvidia", "cpu threads groups shared reserved")
NVIDIA = {
    "sm_75": Nvidia("sm_75", 1024, 16, 65536, 0),
    "sm_80": Nvidia("sm_80", 2048, 32, 167936, 1024),
    "sm_86": Nvidia("sm_86", 1536, 16, 102400, 1024),
    "sm_90": Nvidia("sm_86", 2048, 32, 233472, 1024),
    "sm_120": Nvidia("sm_86", 1536, 24, 102400, 1024),
}

# How hot loops must access global memory: (pattern, least number of times), by family and kernel. apply and
# copy move 16 bytes per work-item where planes are aligned. channel and partials read rows of 64 places,
# lane l place l: 8 loads of 4 bytes for the first block and 8 for the others, each coalesced over the lanes
# (kernels/wide.cl). Intel's messages end in the number of the buffer: 00 is x, 01 is y.
INTEL_16 = [(r"0x\w{6}00\b.*untyped surface read with xyzw", 1),
            (r"0x\w{6}01\b.*untyped surface write with xyzw", 1)]
INTEL_ROWS = [(r"0x\w{6}00\b.*untyped surface read with x\b", 16)]
AMD_16 = [(r"global_load_(dwordx4|b128)\b", 1), (r"global_store_(dwordx4|b128)\b", 1)]
AMD_ROWS = [(r"global_load_(dword|b32)\b", 16)]
NVIDIA_16 = [(r"ld\.global\.(nc\.)?v4\.[a-z]32", 1), (r"st\.global\.v4\.[a-z]32", 1)]
NVIDIA_ROWS = [(r"ld\.global\.(nc\.)?f32", 16)]
ACCESS = {
    "intel": {"apply": INTEL_16, "copy": INTEL_16, "partials": INTEL_ROWS, "channel": INTEL_ROWS},
    "amd": {"apply": AMD_16, "copy": AMD_16, "partials": AMD_ROWS, "channel": AMD_ROWS},
    "nvidia": {"apply": NVIDIA_16, "copy": NVIDIA_16, "partials": NVIDIA_ROWS, "channel": NVIDIA_ROWS},
}

# More live values than any of the targets has registers for.
PLANTED = """
__attribute__((reqd_work_group_size(256, 1, 1))) __kernel void clnorm_planted(__global float *x) {
  float v[300];
  const uint id = get_global_id(0);
#pragma unroll
  for (uint i = 0; i < 300; i++) v[i] = x[id + i * 1024];
  barrier(CLK_GLOBAL_MEM_FENCE);
#pragma unroll
  for (uint i = 0; i < 300; i++) x[id + i * 1024] = v[i] * v[299 - i] + v[i * 7 % 300];
}
"""


@dataclasses.dataclass
class Row:
    target: str
    build: str
    kernel: str
    registers: str  # as shown
    count: int      # registers per work-item that MAX_REGISTERS limits; 0: no limit
    spilled: int    # registers or bytes
    flags: int
    stack: int      # bytes; Intel: accesses and variables
    local: int      # bytes
    occupancy: float
    assembly: str = ""
    threads: int = 0  # Intel: hardware threads of a work-group
    aside: int = 0    # AMD: those of `spilled` that are scalars in lanes of vector registers

    def key(self):
        return self.target, self.build, self.kernel

    def cells(self):
        spilled = f"{self.spilled}" + (f" ({self.flags} flags)" if self.flags else "")
        return [*self.key(), self.registers, spilled, str(self.stack), str(self.local),
                f"{self.occupancy:.0%}"]


HEADINGS = ["target", "build", "kernel", "registers", "spilled", "stack", "local", "occupancy"]


class Failure(Exception):
    """A compiler refused, or printed what this program does not understand."""


# ---- Tools -----------------------------------------------------------------------------------------

@dataclasses.dataclass
class Tools:
    clang: str
    ocloc: str
    libclc: pathlib.Path
    ptxas: str  # None: not there
    versions: dict  # family -> text


def find_tools(families):
    """The compilers that the families need; exits naming every package that is missing."""
    missing = []
    # The table's version, or else the system's own, which its libclc is made for.
    clang = shutil.which("clang-15") or shutil.which("clang")
    if not clang:
        missing.append("clang-15 and clang are missing: apt-get install clang-15, or clang")
    ocloc = shutil.which("ocloc")
    if not ocloc and "intel" in families:
        missing.append("ocloc is missing: apt-get install intel-opencl-icd")
    libclc = pathlib.Path("/usr/lib/clc")
    for name in ("amdgcn--amdhsa.bc", "nvptx64--nvidiacl.bc"):
        if families and not (libclc / name).exists():
            missing.append(f"{libclc / name} is missing: apt-get install libclc-15, or that of clang")
    if missing:
        sys.exit("gpu_kernels.py: " + "\n".join(missing))
    ptxas = shutil.which("ptxas") or shutil.which("ptxas", path="/usr/local/cuda/bin")
    clang_version = first_match(r"version (\S+)", run([clang, "--version"]))
    versions = {"amd": f"clang {clang_version}", "nvidia": "ptxas not found"}
    if ocloc:
        versions["intel"] = f"ocloc {ocloc_version(ocloc)}"
    if ptxas:
        versions["nvidia"] = (f"clang {clang_version}, ptxas "
                              + first_match(r"V([\d.]+)", run([ptxas, "--version"])))
    return Tools(clang, ocloc, libclc, ptxas, versions)


def ocloc_version(ocloc):
    """ocloc answers a query by writing a file of that name into the present folder."""
    with tempfile.TemporaryDirectory() as folder:
        run([ocloc, "query", "OCL_DRIVER_VERSION"], cwd=folder)
        return (pathlib.Path(folder) / "OCL_DRIVER_VERSION").read_text(errors="replace").strip("\0\n ")


def run(command, **options):
    """Both outputs of a command that must succeed."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, check=False,
                          stderr=subprocess.STDOUT, text=True, errors="replace", **options)
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, command))}\nended with {done.returncode}:\n{done.stdout[:4000]}")
    return done.stdout


def first_match(pattern, text, otherwise=None):
    match = re.search(pattern, text)
    if match:
        return match.group(1)
    if otherwise is None:
        raise Failure(f"'{pattern}' is not in:\n{text[:2000]}")
    return otherwise


def clang_command(tools, source, target, options, bitcode):
    return [tools.clang, "-x", "cl", "-cl-std=CL1.2", "-O3", "-target", target, *options,
            "-Xclang", "-finclude-default-header",
            "-Xclang", "-mlink-builtin-bitcode", "-Xclang", tools.libclc / bitcode, "-S", source]


# ---- One build for one target: rows by kernel, and each kernel's assembly ---------------------------

def compile_intel(tools, source, target, build, options, folder):
    environment = dict(os.environ, IGC_ShaderDumpEnable="1", IGC_DumpToCustomDir=str(folder))
    text = " ".join(["-cl-std=CL1.2", "-I", str(source.parent), *options])
    log = run([tools.ocloc, "compile", "-file", source, "-device", target, "-options", text,
               "-out_dir", folder / "out"], env=environment)
    llvm = "".join(path.read_text(errors="replace") for path in folder.glob("*_optimized.ll"))
    size = group_size(build)
    rows = {}
    # A kernel that was compiled twice, since it spilled, has the later file last.
    for path in sorted(folder.glob("*.asm"), key=lambda path: path.stat().st_mtime_ns):
        assembly = path.read_text(errors="replace")
        head = assembly[:4000].split("//.declare")[0]
        kernel = first_match(r"//\.kernel clnorm_(\w+)", head)
        width = int(first_match(r"_simd(\d+)_", path.name))
        body = "\n".join(line for line in assembly.splitlines() if not line.startswith("//"))
        rows[kernel] = Row(
            target, build, kernel,
            registers=f"SIMD{width}, {first_match(r'instCount (.+)', head)} instructions", count=0,
            spilled=int(first_match(r"spill size (\d+)", head, "0")),
            flags=int(first_match(r"spill flag store (\d+)", head, "0")),
            stack=len(re.findall("scratch", body)) + private_arrays(llvm, kernel), local=0,
            occupancy=0.0, assembly=body, threads=size // width)
    if "spill" in log and not any(row.spilled for row in rows.values()):
        raise Failure(f"ocloc speaks of a spill that no dump shows: {log}")
    return rows


def private_arrays(llvm, kernel):
    """Private variables that are left in memory at the end of IGC's optimization."""
    return section(llvm, rf"^define [^\n]*@clnorm_{kernel}\(.*?^}}").count("= alloca ")


def intel_occupancy(row):
    """Of a subslice; its local memory is handed out in powers of two from 1 KiB on."""
    limits = INTEL[row.target]
    groups = limits.threads // row.threads
    if row.local:
        groups = min(groups, limits.local // max(1024, 1 << (row.local - 1).bit_length()))
    return groups * row.threads / limits.threads


def compile_amd(tools, source, target, build, options, folder):
    path = folder / "kernel.s"
    log = run([*clang_command(tools, source, "amdgcn-amd-amdhsa",
                              [f"-mcpu={target}", "-nogpulib", *options], "amdgcn--amdhsa.bc"),
               "-Rpass-analysis=kernel-resource-usage", "-o", path])
    assembly = path.read_text()
    rows = {}
    for block in log.split("Function Name: clnorm_")[1:]:
        kernel = block.split()[0]

        def value(name, block=block):
            return int(first_match(rf" {re.escape(name)}: (\d+)", block))

        vectors, scalars, local = value("VGPRs"), value("SGPRs"), value("LDS Size [bytes/block]")
        stack = value("ScratchSize [bytes/lane]")
        rows[kernel] = Row(
            target, build, kernel, registers=f"{vectors} vector, {scalars} scalar", count=vectors,
            spilled=value("VGPRs Spill") + value("SGPRs Spill"), flags=0,
            stack=stack, local=local, aside=0 if stack else value("SGPRs Spill"),
            occupancy=amd_occupancy(target, group_size(build), value("Occupancy [waves/SIMD]"), local),
            assembly=section(assembly, rf"^clnorm_{kernel}:.*?s_endpgm"))
    return rows


def amd_occupancy(target, size, waves, local):
    """clang's count of waves by registers, and the limit by local memory, which it leaves out."""
    limits = AMD[target]
    if local:
        waves = min(waves, 65536 // local * -(-size // limits.wave) // limits.simds)
    return waves / limits.waves


def compile_nvidia(tools, source, target, build, options, folder):
    path = folder / "kernel.ptx"
    cpu = NVIDIA[target].cpu
    run([*clang_command(tools, source, "nvptx64--nvidiacl",
                        ["-Xclang", "-target-cpu", "-Xclang", cpu, "-Xclang", "-target-feature",
                         "-Xclang", "+ptx75", *options], "nvptx64--nvidiacl.bc"), "-o", path])
    assembly = path.read_text()
    log = ""
    if tools.ptxas:
        log = run([tools.ptxas, f"-arch={target}", "-v", path, "-o", folder / "kernel.cubin"])
    rows = {}
    for kernel in re.findall(r"\.entry clnorm_(\w+)", assembly):
        body = section(assembly, rf"\.entry clnorm_{kernel}\(.*?^}}")
        local = sum(int(size) for size in re.findall(r"\.shared .*\[(\d+)\]", body))
        rows[kernel] = Row(target, build, kernel, registers="", count=0, spilled=0, flags=0, stack=0,
                           local=local, occupancy=0.0, assembly=body)
        if log:
            read_ptxas(rows[kernel], section(log, rf"function 'clnorm_{kernel}'.*?Compile time"))
    return rows


def read_ptxas(row, text):
    row.count = int(first_match(r"Used (\d+) registers", text))
    row.registers = str(row.count)
    row.spilled = (int(first_match(r"(\d+) bytes spill stores", text))
                   + int(first_match(r"(\d+) bytes spill loads", text)))
    row.stack = int(first_match(r"(\d+) bytes stack frame", text))
    row.local = int(first_match(r"(\d+) bytes smem", text, "0"))
    row.occupancy = nvidia_occupancy(row.target, group_size(row.build), row.count, row.local)


def nvidia_occupancy(target, size, registers, local):
    """Registers are handed out to warps in units of 256, and to four warps at a time."""
    limits = NVIDIA[target]
    per_warp = -(-registers * 32 // 256) * 256
    groups = min(limits.threads // size, limits.groups, 65536 // per_warp // 4 * 4 // (size // 32),
                 limits.shared // (-(-local // 128) * 128 + limits.reserved + 1))
    return groups * size / limits.threads


def section(text, pattern):
    match = re.search(pattern, text, re.MULTILINE | re.DOTALL)
    if not match:
        raise Failure(f"'{pattern}' is not in the compiler's output")
    return match.group(0)


def group_size(build):
    return int(build.split("-")[0])


FAMILIES = {"intel": (INTEL, compile_intel), "amd": (AMD, compile_amd), "nvidia": (NVIDIA, compile_nvidia)}


# ---- All of them -----------------------------------------------------------------------------------

def compile_all(tools, kernels, families, jobs):
    """Rows by family, in the order of the table."""
    work = [(family, target, build) for family in families for target in FAMILIES[family][0]
            for build in BUILDS]
    if "intel" in families:  # which takes the local memory's size from another compiler
        work += [("nvidia", "sm_75", build) for build in BUILDS if "nvidia" not in families]
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        # ocloc splits its options at blanks: no blank may be in the path.
        source = pathlib.Path(shutil.copytree(kernels, pathlib.Path(folder) / "kernels")) / "wide.cl"

        def one(item):
            family, target, build = item
            place = pathlib.Path(folder) / "-".join(item)
            place.mkdir()
            return FAMILIES[family][1](tools, source, target, build, BUILDS[build], place)
        results = dict(zip(work, pool.map(one, work)))
    rows = {family: [] for family in families}
    for (family, target, build), found in results.items():
        if sorted(found) != sorted(KERNELS):
            raise Failure(f"{target}, build {build}: the kernels are {sorted(found)}")
        for kernel in KERNELS if family in families else []:
            row = found[kernel]
            if family == "intel":  # the source's own local memory, as another compiler laid it out
                row.local = results["nvidia", "sm_75", build][kernel].local
                row.occupancy = intel_occupancy(row)
            rows[family].append(row)
    return rows


def check_row(row, same_compiler):
    """Sentences on what is wrong with it; same_compiler: as the committed table's."""
    name = f"{row.target}, build {row.build}, clnorm_{row.kernel}"
    if row.spilled - (0 if same_compiler else row.aside) or row.stack:
        yield f"{name} spills: {row.spilled} registers or bytes, {row.stack} of stack or scratch"
    if row.count > MAX_REGISTERS:
        yield f"{name} needs {row.count} registers; at most {MAX_REGISTERS} are allowed"


def check_access(family, row):
    for pattern, least in ACCESS[family].get(row.kernel, []):
        found = len(re.findall(pattern, row.assembly))
        if found < least:
            yield (f"{row.target}, build {row.build}, clnorm_{row.kernel}: {found} of at least {least} "
                   f"accesses like '{pattern}'")


def check_planted(tools, families, folder):
    """Each compiler's spills must be seen."""
    source = folder / "planted.cl"
    source.write_text(PLANTED)
    for family, target in (("intel", "dg2"), ("amd", "gfx90a"), ("nvidia", "sm_75")):
        if family not in families or (family == "nvidia" and not tools.ptxas):
            continue
        place = folder / family
        place.mkdir()
        row = FAMILIES[family][1](tools, source, target, "256", [], place)["planted"]
        if not row.spilled or not row.stack:
            yield f"the planted kernel's spills on {target} were not found: {row.cells()}"


def check_lint(tools, root):
    """OpenCL C 1.2 and no extension but the one for f64: what the smallest driver takes."""
    sources = sorted((root / "kernels").glob("*.cl"))
    for source, options in itertools.product(sources, LINTED):
        doubles = source.name == "fp64.cl" or "CLNORM_X_STORAGE=3" in options
        extensions = "-cl-ext=-all" + (",+cl_khr_fp64" if doubles else "")
        log = run([tools.clang, "-x", "cl", "-cl-std=CL1.2", "-Xclang", extensions, "-Xclang",
                   "-finclude-default-header", "-target", "spir", "-Wall", "-Wextra",
                   "-Wno-unused-function", "-fsyntax-only", *options, source])
        if log.strip():
            yield f"{source.name} is not portable ({' '.join(options)}):\n{log}"


# ---- The table -------------------------------------------------------------------------------------

def format_table(rows, versions):
    """Lines. The header names the compilers, since other versions give other figures."""
    cells = [HEADINGS] + [row.cells() for family in rows.values() for row in family]
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEADINGS))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells]
    head = ["# Made by tests/gpu_kernels.py --update, which explains the columns."]
    return head + [f"# {family}: {versions[family]}" for family in rows] + table


def read_table(path):
    """Versions by family, and the rows' cells by (target, build, kernel)."""
    versions, rows = {}, {}
    for line in path.read_text().splitlines():
        version = re.match(r"# (\w+): (.*)", line)
        if version:
            versions[version.group(1)] = version.group(2)
        elif line and not line.startswith("#") and not line.startswith(HEADINGS[0]):
            cells = re.split(r"\s{2,}", line)
            rows[tuple(cells[:3])] = cells
    return versions, rows


def compare(rows, versions, path):
    """Sentences on rows that differ from the committed table's; other compilers' rows are not compared."""
    if not path.exists():
        yield f"{path} is missing: run with --update"
        return
    old_versions, old = read_table(path)
    for family, found in rows.items():
        if old_versions.get(family) != versions[family]:
            print(f"NOT COMPARED: the table's rows of {family} come from {old_versions.get(family)}, "
                  f"but here is {versions[family]}. Limits were checked all the same.")
            continue
        targets = FAMILIES[family][0]
        now = {row.key(): row.cells() for row in found}
        before = {key: cells for key, cells in old.items() if key[0] in targets}
        for key in sorted(now.keys() | before.keys()):
            if now.get(key) != before.get(key):
                yield (f"differs from {path.name} (if it is meant: --update)\n"
                       f"  committed  {'  '.join(before.get(key, ['-']))}\n"
                       f"  now        {'  '.join(now.get(key, ['-']))}")


def check_kernels(tools, root, families, jobs, update):
    """Prints the table of the families' kernels. Sentences on what is wrong."""
    rows = compile_all(tools, root / "kernels", families, jobs)
    wrong = [text for family, found in rows.items() for row in found for text in check_access(family, row)]
    if not tools.ptxas and rows.pop("nvidia", None):
        print("NOT CHECKED: ptxas is not there (CUDA toolkit). NVIDIA's kernels were compiled to PTX and "
              "their accesses checked, but registers and spills are unknown.")
    table = format_table(rows, tools.versions)
    print("\n".join(table))
    path = root / "tests" / "gpu_kernels.txt"
    committed = read_table(path)[0] if path.exists() else {}
    wrong += [text for family, found in rows.items() for row in found
              for text in check_row(row, committed.get(family) == tools.versions[family])]
    with tempfile.TemporaryDirectory() as folder:
        wrong += check_planted(tools, families, pathlib.Path(folder))
    if update:
        path.write_text("\n".join(table) + "\n")
    else:
        wrong += compare(rows, tools.versions, path)
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("--only", choices=[*FAMILIES, "lint"], help="one family's kernels, or the portability")
    parser.add_argument("--update", action="store_true", help="write the table instead of comparing")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    families = [family for family in FAMILIES if arguments.only in (None, family)]
    tools = find_tools(families)
    if arguments.update and (arguments.only or not tools.ptxas):
        sys.exit("gpu_kernels.py: the table is written as a whole, and ptxas is needed for it (CUDA toolkit)")
    wrong = []
    if families:
        wrong += check_kernels(tools, root, families, arguments.jobs, arguments.update)
    if arguments.only in (None, "lint"):
        wrong += check_lint(tools, root)
    targets = sum(len(FAMILIES[family][0]) for family in families)
    print("\n".join(wrong) or f"{targets} targets, {len(BUILDS)} builds, {len(KERNELS)} kernels: all within "
          "their limits")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"gpu_kernels.py: {failure}")
