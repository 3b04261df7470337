"""Brings what a run needs into one folder: the peers, clnorm, and the contestants' shared objects.

    .venv-peers/       Python's environment: oneDNN (current) and its run-time libraries
    onednn-openmp/     the last oneDNN that was published with OpenMP threads
    torch/             PyTorch from PyPI, if it was asked for
    clnorm/            cmake's build of this tree
    vendors/           the OpenCL drivers that the run sees: PoCL, and the one oneDNN needs
    *.so, layers       bench/peers/*.c, compiled
"""
import glob
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SOURCES = ROOT / "bench" / "peers"
ONEDNN = ["onednn", "onednn-devel"]
# Newer packages of oneDNN run on SYCL alone, which costs time for every call; this is the last one
# that runs on OpenMP.
ONEDNN_OPENMP = ["onednn-cpu-gomp", "onednn-devel-cpu-gomp"]
# PyTorch allocates its outputs: let it get the same pages again, without page faults.
MALLOC_KEEPS_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
}


# Environment variables that would give one contestant other settings than the others.
OF_PEERS = ("OMP_", "GOMP_", "KMP_", "DNNL_", "ONEDNN_", "POCL_", "MALLOC_", "SYCL_", "ONEAPI_")


class Failure(Exception):
    """One line that tells the user what went wrong."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(command, what):
    """Runs a command; on failure its last lines are shown."""
    say("+ " + " ".join(map(str, command)))
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    if done.returncode:
        say("\n".join(done.stdout.splitlines()[-30:]))
        raise Failure(f"{what} failed (exit status {done.returncode})")
    return done.stdout


def apt(package, reason):
    """Installs a Debian package where that is allowed, else says which one is missing."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Failure(f"{reason}: install the package {package}")
    run(["apt-get", "update"], "reading Debian's package lists")
    run(["apt-get", "install", "-y", "--no-install-recommends", package], f"installing {package}")


def distributions(folder):
    """What pip has put into a folder, as 'name version'."""
    names = [*folder.glob("*.dist-info"), *folder.glob("lib/python3*/site-packages/*.dist-info")]
    found = {name.stem.replace("_", "-").rpartition("-") for name in names}
    return sorted(f"{name} {version}" for name, _, version in found
                  if name not in ("pip", "setuptools"))


def pip_install(python, folder, packages, options=()):
    """Installs packages once. A stamp tells a finished installation from one that was cut off."""
    stamp = folder / ".installed"
    wanted = " ".join(packages)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    run([python, "-m", "pip", "install", "--quiet", *options, *packages], f"installing {wanted}")
    stamp.write_text(wanted, encoding="utf-8")
    say(f"  installed in {folder}: " + ", ".join(distributions(folder)))


def system_python():
    """Debian's own Python where there is one: it is the one that sees Debian's PyTorch."""
    return "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable


def imports(python, module):
    """Whether a Python has a module."""
    command = [python, "-c", f"import {module}"]
    return not subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode


def environment(folder):
    """The virtual environment's Python."""
    venv = folder / ".venv-peers"
    python = venv / "bin" / "python"
    if not python.exists() or not list(venv.glob("lib/python3*/site-packages/pip")):
        base = system_python()
        if not imports(base, "ensurepip"):
            apt("python3-venv", "Python cannot make virtual environments")
        run([base, "-m", "venv", "--system-site-packages", venv], "making the virtual environment")
    return python


def install_torch(python, folder, source):
    """The folder to put on Python's path for PyTorch; '' for Debian's."""
    if source == "pip":
        target = folder / "torch"
        pip_install(python, target, ["torch", "numpy"], ["--target", target])
        return str(target)
    if not imports(python, "torch"):
        apt("python3-torch", "this Python has no PyTorch (or use --torch pip)")
    return ""


def build_clnorm(folder):
    """Builds libclnorm.so and returns its folder."""
    build = folder / "clnorm"
    off = [f"-DCLNORM_BUILD_{part}=OFF" for part in ("CLI", "TESTS", "BENCH", "EXAMPLES")]
    run(["cmake", "-S", ROOT, "-B", build, "-DCMAKE_BUILD_TYPE=Release", *off],
        "configuring clnorm")
    run(["cmake", "--build", build, "--target", "clnorm", "-j", os.cpu_count()], "building clnorm")
    return build


def compile_source(source, output, *options):
    compiler = os.environ.get("CC", "cc")
    run([compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", SOURCES / source, "-o", output,
         *options], f"compiling {source}")
    return str(output)


def compile_contestants(folder, clnorm, venv, openmp):
    """The shared objects of the contestants, by name, and the program that prints the layers."""
    shared = ["-fPIC", "-shared"]
    dnnl = [*shared, "-ldl", "-lm"]
    return {
        "clnorm": compile_source("clnorm.c", folder / "peer_clnorm.so", *shared,
                                 "-DCL_TARGET_OPENCL_VERSION=120", f"-I{ROOT}/include",
                                 f"-L{clnorm}", "-lclnorm", "-l:libOpenCL.so.1",
                                 f"-Wl,-rpath,{clnorm}"),
        "onednn": compile_source("onednn.c", folder / "peer_onednn.so", *dnnl, f"-I{venv}/include"),
        "onednn_openmp": compile_source("onednn.c", folder / "peer_onednn_openmp.so", *dnnl,
                                        f"-I{openmp}/include"),
        "neighbours": compile_source(ROOT / "cases" / "neighbours.c", folder / "neighbours.so",
                                     *shared, "-O3", "-D_GNU_SOURCE", ROOT / "cases" / "team.c",
                                     "-pthread"),
        "layers": compile_source("layers.c", folder / "layers", ROOT / "cases" / "networks.c",
                                 f"-I{ROOT}/cases"),
    }


def choose_drivers(folder, venv):
    """A folder with the OpenCL drivers of the run. oneDNN's SYCL runs on Intel's driver for CPUs;
    its package brings it along, but registers it by a path that is not there."""
    vendors = folder / "vendors"
    shutil.rmtree(vendors, ignore_errors=True)
    vendors.mkdir()
    (vendors / "intel.icd").write_text(f"{venv}/lib/libintelocl.so\n", encoding="utf-8")
    pocl = glob.glob("/etc/OpenCL/vendors/*pocl*.icd")
    for name in pocl:
        shutil.copy(name, vendors)
    if not pocl:
        say("PoCL is not installed (package pocl-opencl-icd): its column is left out")
    return vendors


def library(prefix):
    """The libdnnl of a pip installation."""
    found = sorted(glob.glob(f"{prefix}/lib/libdnnl.so.[0-9]"))
    if not found:
        raise Failure(f"no libdnnl.so under {prefix}/lib")
    return found[-1]


def prepare(folder, torch_source):
    """Installs and builds everything; returns what the measuring process has to know."""
    folder.mkdir(parents=True, exist_ok=True)
    python = environment(folder)
    venv, openmp = folder / ".venv-peers", folder / "onednn-openmp"
    pip_install(python, venv, ONEDNN)
    pip_install(python, openmp, ONEDNN_OPENMP, ["--no-deps", "--prefix", openmp])
    torch = install_torch(python, folder, torch_source)
    clnorm = build_clnorm(folder)
    return {
        "python": str(python),
        "torch": torch,
        "torch_source": torch_source,
        "objects": compile_contestants(folder, clnorm, venv, openmp),
        "libraries": {"onednn": library(venv), "onednn_openmp": library(openmp)},
        "vendors": str(choose_drivers(folder, venv)),
        "library_path": str(venv / "lib"),
    }


def run_environment(ready, threads):
    """Environment variables of the measuring process: the same number of threads for everybody."""
    result = {key: value for key, value in os.environ.items() if not key.startswith(OF_PEERS)}
    result.update(MALLOC_KEEPS_MEMORY)
    result.update({
        "OMP_NUM_THREADS": str(threads),
        # Threads that spin after their part take the processor from producer and consumer.
        "OMP_WAIT_POLICY": "passive",
        "POCL_MAX_PTHREAD_COUNT": str(threads),  # PoCL before 4
        "POCL_CPU_MAX_CU_COUNT": str(threads),  # PoCL since 4
        # Fixed to processors; else Linux often wakes PoCL's threads where another one is busy.
        "POCL_AFFINITY": os.environ.get("POCL_AFFINITY", "1"),
        "OCL_ICD_VENDORS": ready["vendors"],
        "LD_LIBRARY_PATH": ready["library_path"],
        "PYTHONPATH": ready["torch"],
    })
    return result
