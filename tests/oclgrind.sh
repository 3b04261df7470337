#!/bin/sh
# Runs a program on Oclgrind and requires an empty log: Oclgrind itself ends with 0 whatever it finds.
#
#   oclgrind.sh [-f] PASS FOLDER PROGRAM [ARGUMENT...]
#
# PASS    memory         races, accesses out of bounds, divergent barriers
#         uninitialized  values that were never written; private ones show without optimization only
# FOLDER  for the driver's entry, the log and the program cache
# -f      the log must not be empty: a bug was planted
#
# The passes are separate, since one kind of error hides another. Nothing is inlined, since Oclgrind 21.10
# does not know an intrinsic that LLVM's inliner makes (llvm.experimental.noalias.scope.decl).
set -eu
planted=0
if [ "$1" = -f ]; then
  planted=1
  shift
fi
pass=$1
folder=$2
shift 2

here=$(cd "$(dirname "$0")" && pwd)
runtime=
for candidate in "$(dirname "$(command -v oclgrind)")/../lib/oclgrind/liboclgrind-rt-icd.so" \
  /usr/lib/oclgrind/liboclgrind-rt-icd.so /usr/local/lib/oclgrind/liboclgrind-rt-icd.so \
  "$here"/../build-drivers/oclgrind/lib/python3*/site-packages/pyopencl/.libs/liboclgrind-rt-icd*.so; do
  [ -e "$candidate" ] && runtime=$candidate && break
done
if [ -z "$runtime" ]; then
  echo "oclgrind.sh: liboclgrind-rt-icd.so not found: install oclgrind (scripts/setup.sh test)" >&2
  exit 1
fi

rm -rf "$folder"
mkdir -p "$folder/vendors"
echo "$runtime" >"$folder/vendors/oclgrind.icd"
export OCL_ICD_VENDORS="$folder/vendors" OCLGRIND_LOG="$folder/log" CLNORM_CACHE_DIR="$folder/cache"
export CLNORM_TEST_DEVICE=0.0
case $pass in
memory)
  export OCLGRIND_DATA_RACES=1 OCLGRIND_BUILD_OPTIONS='-fno-inline -Dalways_inline=noinline'
  ;;
uninitialized)
  export OCLGRIND_UNINITIALIZED=1 OCLGRIND_BUILD_OPTIONS='-cl-opt-disable -Dalways_inline=noinline'
  ;;
*)
  echo "oclgrind.sh: '$pass' is neither memory nor uninitialized" >&2
  exit 2
  ;;
esac

"$@" || {
  status=$?
  echo "oclgrind.sh: the program ended with $status" >&2
  [ ! -s "$folder/log" ] || head -n 40 "$folder/log" >&2
  exit 1
}
if [ ! -e "$folder/log" ]; then
  echo "oclgrind.sh: no log was made: did the program run on Oclgrind?" >&2
  exit 1
fi
if [ $planted = 1 ]; then
  [ -s "$folder/log" ] || {
    echo "oclgrind.sh: the planted bug was not found" >&2
    exit 1
  }
  exit 0
fi
if [ -s "$folder/log" ]; then
  echo "oclgrind.sh: the log is not empty:" >&2
  head -n 60 "$folder/log" >&2
  exit 1
fi
