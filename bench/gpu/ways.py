"""Ways from OpenCL to the GPU, the best first. Each is an environment in which clnorm sees one driver.

nvidia    the driver's own OpenCL
rusticl   Mesa's OpenCL over the driver's Vulkan (zink); its libraries are prepared beside the program
pocl      PoCL with its CUDA back end, where the machine has one
FILE      the OpenCL driver in that file
"""
import dataclasses
import glob
import json
import os
import pathlib
import subprocess
import tarfile
import time

SEARCH_SECONDS = 20
LIBRARY_FOLDERS = ["/usr/local/nvidia/lib64", "/usr/local/nvidia/lib", "/usr/lib/x86_64-linux-gnu",
                   "/usr/lib/x86_64-linux-gnu/nvidia", "/usr/lib/x86_64-linux-gnu/nvidia/current", "/usr/lib64",
                   "/usr/lib64/nvidia", "/usr/lib", "/usr/lib/wsl/lib", "/usr/local/lib", "/lib/x86_64-linux-gnu",
                   "/run/nvidia/driver/usr/lib/x86_64-linux-gnu", "/run/opengl-driver/lib", "/opt/nvidia/lib64"]
VULKAN_FOLDERS = ["/usr/local/nvidia/share/vulkan/icd.d", "/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d",
                  "/run/opengl-driver/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"]
NO_WALK = ("/proc", "/sys", "/dev")


class NoWay(Exception):
    """What is missing."""


@dataclasses.dataclass
class Way:
    name: str
    driver: str       # the file that the OpenCL loader opens
    environment: dict
    prefix: list = dataclasses.field(default_factory=list)  # of commands
    folder: str = None                                      # to run them in


# ---- Finding libraries --------------------------------------------------------------------------------

def known_to_loader(pattern):
    """Libraries in the cache of the system's loader."""
    for program in ("ldconfig", "/sbin/ldconfig"):
        try:
            listed = subprocess.run([program, "-p"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                    text=True, timeout=10, check=True).stdout
        except (OSError, subprocess.SubprocessError):
            continue
        found = [line.split("=>")[1].strip() for line in listed.splitlines() if "=>" in line]
        return [path for path in found if pathlib.PurePath(path).match(pattern)]
    return []


def in_folders(pattern):
    folders = [*filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":")), *LIBRARY_FOLDERS]
    return [path for folder in folders for path in sorted(glob.glob(os.path.join(folder, pattern)))]


def anywhere(pattern):
    """The last resort: every folder, for a while."""
    begin = time.monotonic()
    for folder, folders, files in os.walk("/"):
        if time.monotonic() - begin > SEARCH_SECONDS:
            return
        folders[:] = [name for name in folders if os.path.join(folder, name) not in NO_WALK]
        for name in files:
            if pathlib.PurePath(name).match(pattern):
                yield os.path.join(folder, name)


def is_64_bit(path):
    try:
        with open(path, "rb") as file:
            return file.read(5) == b"\x7fELF\x02"
    except OSError:
        return False


def find_library(pattern, everywhere=False):
    """The first that is there, or None. everywhere: the whole disk is searched last."""
    for search in (known_to_loader, in_folders, *([anywhere] if everywhere else [])):
        for path in search(pattern):
            if is_64_bit(path):
                return path
    return None


# ---- The ways -----------------------------------------------------------------------------------------

def join(*folders):
    return ":".join(filter(None, folders))


def common(prepared, scratch, driver_folder):
    """Caches are the run's own; libOpenCL.so.1 is the prepared one."""
    environment = dict(os.environ)
    environment["LD_LIBRARY_PATH"] = join(str(prepared / "lib"), driver_folder, os.environ.get("LD_LIBRARY_PATH"))
    for name in ("CLNORM_CACHE_DIR", "CUDA_CACHE_PATH", "POCL_CACHE_DIR", "MESA_SHADER_CACHE_DIR"):
        environment.setdefault(name, str(scratch / name.lower()))
        os.makedirs(environment[name], exist_ok=True)
    return environment


def name_driver(environment, scratch, name, driver):
    """A folder of drivers with this one alone."""
    folder = scratch / "vendors" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "only.icd").write_text(f"{driver}\n", encoding="utf-8")
    environment["OCL_ICD_VENDORS"] = str(folder)


def way_of_file(prepared, scratch, name, driver):
    environment = common(prepared, scratch, os.path.dirname(driver))
    name_driver(environment, scratch, name, driver)
    return Way(name, driver, environment)


def nvidia(prepared, scratch):
    driver = find_library("libnvidia-opencl.so.1") or find_library("libnvidia-opencl.so.*", everywhere=True)
    if not driver:
        raise NoWay("libnvidia-opencl.so.1 is nowhere on this machine. It is part of NVIDIA's driver (Debian: "
                    "nvidia-opencl-icd); a container gets it with the driver capability 'compute'")
    return way_of_file(prepared, scratch, "nvidia", driver)


def find_vulkan(scratch):
    """The file that names NVIDIA's Vulkan driver; $CLNORM_GPU_VULKAN goes before it."""
    given = os.environ.get("CLNORM_GPU_VULKAN")
    if given:
        return given
    for folder in VULKAN_FOLDERS:
        for path in sorted(glob.glob(os.path.join(folder, "*nvidia*.json"))):
            return path
    library = find_library("libGLX_nvidia.so.0") or find_library("libEGL_nvidia.so.0")
    if not library:
        raise NoWay("NVIDIA's Vulkan driver (nvidia_icd.json, libGLX_nvidia.so.0) is not on this machine; a "
                    "container gets it with the driver capability 'graphics'")
    path = scratch / "nvidia_icd.json"
    path.write_text(json.dumps({"file_format_version": "1.0.0",
                                "ICD": {"library_path": library, "api_version": "1.3.0"}}), encoding="utf-8")
    return str(path)


def unpack(archive, folder):
    if not archive.exists():
        raise NoWay(f"{archive.name} was not prepared")
    with tarfile.open(archive) as file:
        file.extractall(folder)
    return folder / "rusticl"


def rusticl(prepared, scratch):
    """Runs with the C library that Mesa was built for, through that library's own loader."""
    vulkan = find_vulkan(scratch)
    folder = unpack(prepared / "rusticl.tar.xz", scratch)
    lib = folder / "lib"
    driver = str(lib / "libRusticlOpenCL.so.1")
    environment = common(prepared, scratch, None)
    system = environment.pop("LD_LIBRARY_PATH").split(":")[1:]
    name_driver(environment, scratch, "rusticl", driver)
    environment.update(RUSTICL_ENABLE="zink,llvmpipe,swrast", MESA_LOADER_DRIVER_OVERRIDE="zink",
                       GALLIUM_DRIVER="zink", VK_DRIVER_FILES=vulkan, VK_ICD_FILENAMES=vulkan)
    if os.path.basename(vulkan).startswith("lvp"):  # a processor's Vulkan, as a stand-in
        environment["LIBGL_ALWAYS_SOFTWARE"] = "1"
    nvidia_library = find_library("libnvidia-glcore.so.*")
    path = join(str(lib), nvidia_library and os.path.dirname(nvidia_library), *system, *LIBRARY_FOLDERS)
    return Way("rusticl", driver, environment, [str(lib / "ld-linux-x86-64.so.2"), "--library-path", path],
               str(folder))


def pocl(prepared, scratch):
    devices = find_library("libpocl-devices-cuda.so*") or find_library("pocl/libpocl-devices-cuda.so")
    driver = find_library("libpocl.so.2*")
    if not driver or not devices:
        raise NoWay("PoCL with its CUDA back end (libpocl-devices-cuda.so) is not on this machine, and no Debian "
                    "package has it")
    way = way_of_file(prepared, scratch, "pocl", driver)
    way.environment["POCL_DEVICES"] = "cuda"
    return way


WAYS = {"nvidia": nvidia, "rusticl": rusticl, "pocl": pocl}


def choose(wanted):
    """Pairs of name and function for --driver."""
    if wanted == "auto":
        return list(WAYS.items())
    if wanted in WAYS:
        return [(wanted, WAYS[wanted])]

    def given(prepared, scratch):
        if not os.path.exists(wanted):
            raise NoWay(f"{wanted} is not there")
        if not is_64_bit(wanted):
            raise NoWay(f"{wanted} is not a 64-bit library")
        return way_of_file(prepared, scratch, "given", os.path.abspath(wanted))
    return [("given", given)]
