#!/bin/sh
# Checks what clnorm needs on Debian or Ubuntu and installs what is missing.
#
#   sh scripts/setup.sh [demo|test]     demo (the default): build and run; test: run all tests as well
#
# Installs with apt-get as root or through sudo, and nothing if nothing is missing. Without the right to
# install it prints the command that would do it. Ends with 0 when everything required is there; what
# only serves to see more devices (an OpenCL driver, for the demo) is not required.
# CLNORM_NO_INSTALL=1 forbids installing.
set -u

purpose=${1:-demo}
case $purpose in
demo | test) ;;
*)
  echo "setup.sh: expected demo or test, got '$purpose'" >&2
  exit 2
  ;;
esac

say() { printf '%s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }
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

required= # packages
optional=
need() { # PACKAGES: required unless $level says otherwise
  if [ "$level" = required ]; then required="$required $*"; else optional="$optional $*"; fi
}

# Fills the two lists with what is missing now.
look() {
  required=
  optional=
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
    return
  fi

  has_driver 'pocl*.icd' || need pocl-opencl-icd
  has_driver 'rusticl*.icd' || need mesa-opencl-icd
  have oclgrind || need oclgrind
  have pkg-config || need pkg-config
  have python3 || need python3
  have c++ || need g++
  have clang || need clang
  # The GPU kernels' compilers: AMD's and NVIDIA's targets with their library, Intel's ocloc.
  have clang-15 || need clang-15
  [ -e /usr/lib/clc/amdgcn--amdhsa.bc ] || need libclc-15
  have ocloc || need intel-opencl-icd
  printf '#include <setjmp.h>\n#include <stdarg.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <cmocka.h>\nint main(void) { return 0; }\n' |
    compiles || need libcmocka-dev
}

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

install() { # PACKAGES
  [ "${CLNORM_NO_INSTALL:-0}" = 0 ] && have apt-get && become_root || return 1
  say "setup: installing $*"
  options='-q -y --no-install-recommends -o DPkg::Lock::Timeout=120 -o Acquire::http::Timeout=30'
  log=$(mktemp) || return 1
  # Lists of packages are fetched only when something is to be installed; old ones will often do.
  $root env DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::http::Timeout=30 update >"$log" 2>&1 </dev/null ||
    say "setup: apt-get update failed; trying with the package lists that are there"
  # shellcheck disable=SC2086
  if $root env DEBIAN_FRONTEND=noninteractive apt-get install $options "$@" >>"$log" 2>&1 </dev/null; then
    rm -f "$log"
    return 0
  fi
  grep '^[EW]:' "$log" | tail -n 3 >&2
  rm -f "$log"
  return 1
}

look
if [ -n "$required" ]; then
  # shellcheck disable=SC2086
  install $required $optional || install $required
elif [ -n "$optional" ]; then
  # shellcheck disable=SC2086
  install $optional
fi
[ -z "$required$optional" ] || look

if [ -n "$optional" ]; then
  say "setup: not there, and not needed for the CPU path:$optional"
  say "setup: to see OpenCL devices: sudo apt-get install -y --no-install-recommends$optional"
fi
if [ -n "$required" ]; then
  say "setup: missing:$required"
  say "setup: on Debian or Ubuntu: sudo apt-get install -y --no-install-recommends$required"
  exit 1
fi
