# shellcheck shell=sh
# Read by demo.sh and test.sh: what OpenCL drivers need of the environment.

# PoCL asks hwloc for the machine's processors and memory; without /sys, as in a chroot where only /proc and
# /dev are mounted, hwloc finds no memory and PoCL 6 ends the program. So hwloc is told what there is.
if [ ! -d /sys/devices/system/cpu ] && [ -z "${HWLOC_SYNTHETIC:-}${HWLOC_XMLFILE:-}" ]; then
  HWLOC_SYNTHETIC="node:1(memory=$(awk '$1 == "MemTotal:" { printf "%dMB", $2 / 1024 }' /proc/meminfo)) \
core:$(nproc) pu:1"
  export HWLOC_SYNTHETIC
fi
