#!/bin/sh
# Installs a build into a folder of its own and builds programs against it: with find_package (shared and
# static) and with pkg-config (shared and static). Each of them runs.
#
#   run.sh CMAKE BUILD_FOLDER WORK_FOLDER C_COMPILER GENERATOR
set -eu
cmake=$1
build=$2
work=$3
cc=$4
generator=$5 # the build's: another's tool need not be there
here=$(cd "$(dirname "$0")" && pwd)

rm -rf "$work"
mkdir -p "$work"
"$cmake" --install "$build" --prefix "$work/installed" >/dev/null

"$cmake" -S "$here" -B "$work/cmake" -G "$generator" -D CMAKE_PREFIX_PATH="$work/installed" \
  -D CMAKE_C_COMPILER="$cc" >/dev/null
"$cmake" --build "$work/cmake" >/dev/null
"$work/cmake/with_clnorm"
"$work/cmake/with_clnorm_static"

PKG_CONFIG_PATH=$(dirname "$(find "$work/installed" -name clnorm.pc)")
export PKG_CONFIG_PATH
config() { pkg-config --define-variable=prefix="$work/installed" "$@" clnorm; }
libdir=$(config --variable=libdir)
# Flags are words.
# shellcheck disable=SC2046
"$cc" "$here/main.c" -o "$work/shared" $(config --cflags --libs)
LD_LIBRARY_PATH=$libdir "$work/shared"
# shellcheck disable=SC2046
"$cc" "$here/main.c" -o "$work/static" $(config --cflags) \
  $(config --static --libs | sed 's/-lclnorm /-l:libclnorm.a /')
"$work/static"
