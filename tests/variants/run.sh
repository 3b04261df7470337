#!/bin/sh
# Builds clnorm in a way that a packager or an embedder uses, and looks at what came out.
#
#   run.sh CASE
#
# Environment: CMAKE, GENERATOR, CC (a compiler), SOURCE, WORK (a folder, made anew), OPENCL (ON or OFF),
# CLNORM (the program of the ordinary build: its results are the right ones).
set -eu
case=$1
rm -rf "$WORK"
mkdir -p "$WORK"
WORK=$(cd "$WORK" && pwd)
unset CFLAGS LDFLAGS DESTDIR BUILD_SHARED_LIBS

wrong() {
  echo "$case: $*" >&2
  exit 1
}
quietly() { # COMMAND...: its output is shown if it fails
  "$@" >"$WORK/log" 2>&1 || {
    tail -n 40 "$WORK/log" >&2
    wrong "failed: $*"
  }
}
# SOURCE BUILD [OPTION...]. Unoptimized: this is about building.
configure() {
  from=$1
  to=$2
  shift 2
  quietly "$CMAKE" -S "$from" -B "$to" -G "$GENERATOR" -D CMAKE_C_COMPILER="$CC" -D CMAKE_BUILD_TYPE=Debug \
    -D CLNORM_OPENCL="$OPENCL" -D CLNORM_BUILD_TESTS=OFF -D CLNORM_BUILD_EXAMPLES=OFF "$@"
}
build() { quietly "$CMAKE" --build "$1" --parallel 1; } # other tests run beside this one
there() { for file in "$@"; do [ -e "$file" ] || wrong "$file is missing"; done; }
not_there() { for file in "$@"; do [ ! -e "$file" ] || wrong "$file is there"; done; }
is() { [ "$1" = "$2" ] || wrong "got '$1', wanted '$2'"; } # GOT WANTED

# ---- Bits ----------------------------------------------------------------------------------------
# MACHINE FLAG...: a build with these flags gives the bits of the ordinary one, and a process that loads the
# library keeps subnormal values.
same_bits() {
  machine=$1
  shift
  # shellcheck disable=SC2153 # SOURCE is the environment's
  configure "$SOURCE" "$WORK/build" -D CLNORM_OPENCL=OFF -D CMAKE_UNITY_BUILD=ON \
    -D CMAKE_C_FLAGS="$machine" -D CMAKE_C_FLAGS_DEBUG="$*"
  build "$WORK/build"
  quietly "$WORK/build/clnorm" verify --device cpu --suite smoke
  layer=$SOURCE/tests/data/crepe_conv2
  for mode in eval train; do
    for program in "$WORK/build/clnorm" "$CLNORM"; do
      quietly "$program" run "$layer/x.npy" --mode $mode --device cpu --weight "$layer/weight.npy" \
        --bias "$layer/bias.npy" --running-mean "$layer/running_mean.npy" \
        --running-var "$layer/running_var.npy" -o "$WORK/y.npy"
      mv "$WORK/y.npy" "$WORK/$(basename "$(dirname "$program")").npy"
    done
    cmp "$WORK/build.npy" "$WORK/$(basename "$(dirname "$CLNORM")").npy" || wrong "other bits with $*"
  done
  # shellcheck disable=SC2086
  quietly "$CC" $machine "$SOURCE/tests/consumer/main.c" -I"$SOURCE/include" -o "$WORK/loads" \
    -L"$WORK/build" -Wl,-rpath,"$WORK/build" -lclnorm
  quietly "$WORK/loads"
}
case_flags() {
  # shellcheck disable=SC2086
  same_bits "" $OPTIMIZE -ffast-math -funsafe-math-optimizations -ffinite-math-only -fassociative-math \
    -freciprocal-math -fno-signed-zeros -fno-trapping-math -ffp-contract=fast
}
case_m32() { same_bits -m32 -O1; }

# Other builds than ours are refused by the arithmetic itself, where the compiler tells.
case_refused() {
  check() {
    echo '#include "base.h"' |
      "$CC" "$@" -fsyntax-only -I"$SOURCE/kernels" -x c - >"$WORK/log" 2>&1
  }
  check -O2 || wrong "refused without a reason: $(cat "$WORK/log")"
  for flag in -ffast-math -Ofast -ffinite-math-only $REFUSED; do
    if check -O2 "$flag"; then wrong "$flag is not refused"; fi
    grep -q 'clnorm is built without\|floats must be computed as floats' "$WORK/log" ||
      wrong "$flag is refused without a reason: $(cat "$WORK/log")"
  done
}

# ---- Folders and names ---------------------------------------------------------------------------
# What clnorm.pc in a folder says is used to build and run a program: WANTED_INCLUDE WANTED_LIB.
use_pc() {
  PKG_CONFIG_PATH=$2/pkgconfig
  export PKG_CONFIG_PATH
  there "$1/clnorm/clnorm.h" "$2/pkgconfig/clnorm.pc"
  includedir=$(pkg-config --variable=includedir clnorm)
  libdir=$(pkg-config --variable=libdir clnorm)
  is "$(cd "$includedir" && pwd -P)" "$(cd "$1" && pwd -P)"
  is "$(cd "$libdir" && pwd -P)" "$(cd "$2" && pwd -P)"
  # shellcheck disable=SC2046
  quietly "$CC" "$SOURCE/tests/consumer/main.c" -o "$WORK/program" $(pkg-config --cflags --libs clnorm) \
    -Wl,-rpath,"$libdir"
  quietly "$WORK/program"
}
# One build, in folders with brackets and a space, for a processor of another name, as a unity build;
# configured anew for every way to install it. Nothing is compiled again.
case_install() {
  source="$WORK/a [1] source"
  b="$WORK/a [1] build"
  mkdir "$source"
  (cd "$SOURCE" && tar -cf - CMakeLists.txt cmake cases cli host include kernels) |
    (cd "$source" && tar -xf -)
  configure "$source" "$b" -D CMAKE_SYSTEM_NAME="$(uname -s)" -D CMAKE_SYSTEM_PROCESSOR=amd64 \
    -D CMAKE_UNITY_BUILD=ON -D CMAKE_INSTALL_PREFIX="$WORK/one" -D CMAKE_INSTALL_LIBDIR=lib/there
  build "$b"

  # Into another prefix than configured, which is then moved.
  quietly "$CMAKE" --install "$b" --prefix "$WORK/two"
  not_there "$WORK/one"
  mv "$WORK/two" "$WORK/three"
  use_pc "$WORK/three/include" "$WORK/three/lib/there"
  there "$WORK/three/lib/there/libclnorm.so.0.1" "$WORK/three/lib/there/libclnorm.so.0.1.0" \
    "$WORK/three/lib/there/libclnorm.a" "$WORK/three/bin/clnorm"

  # Uninstalled: no file is left, nor a folder of clnorm's own; what is not ours stays.
  quietly "$CMAKE" --install "$b"
  : >"$WORK/one/lib/foreign"
  quietly "$CMAKE" --build "$b" --target uninstall
  is "$(find "$WORK/one" ! -type d)" "$WORK/one/lib/foreign"
  is "$(find "$WORK/one" -name clnorm)" ""
  if "$CMAKE" --build "$b" --target uninstall >"$WORK/log" 2>&1; then wrong "uninstalled twice"; fi

  # Absolute folders; one of them, and another prefix; one kind of library.
  configure "$source" "$b" -D CMAKE_INSTALL_LIBDIR="$WORK/lib" -D CMAKE_INSTALL_INCLUDEDIR="$WORK/include" \
    -D BUILD_SHARED_LIBS=ON
  build "$b"
  quietly "$CMAKE" --install "$b"
  use_pc "$WORK/include" "$WORK/lib"
  there "$WORK/lib/libclnorm.so"
  not_there "$WORK/lib/libclnorm.a"
  configure "$source" "$b" -D CMAKE_INSTALL_LIBDIR="$WORK/static" -D CMAKE_INSTALL_INCLUDEDIR=inc \
    -D BUILD_SHARED_LIBS=OFF
  build "$b"
  quietly "$CMAKE" --install "$b" --prefix "$WORK/four"
  use_pc "$WORK/four/inc" "$WORK/static"
  there "$WORK/static/libclnorm.a"
  not_there "$WORK/static/libclnorm.so"
}

# ---- In another project --------------------------------------------------------------------------
# Found when installed as a static library alone, and inside, both ways: clnorm::clnorm is there, and
# nothing of it is installed unless asked for.
case_subproject() {
  for way in folder fetched; do
    configure "$SOURCE/tests/variants/subproject" "$WORK/$way" -D WAY=$way -D CLNORM_SOURCE="$SOURCE" \
      -D MAIN="$SOURCE/tests/consumer/main.c" -D BUILD_SHARED_LIBS=OFF -D CMAKE_INSTALL_PREFIX="$WORK/installed"
  done
  build "$WORK/fetched"
  quietly "$WORK/fetched/outer"
  quietly "$CMAKE" --install "$WORK/fetched"
  is "$(cd "$WORK/installed" && find . -type f)" ./bin/outer
  configure "$SOURCE/tests/variants/subproject" "$WORK/fetched" -D CLNORM_INSTALL=ON
  quietly "$CMAKE" --install "$WORK/fetched"
  there "$WORK/installed/include/clnorm/clnorm.h"
  configure "$SOURCE/tests/consumer" "$WORK/found" -D CMAKE_PREFIX_PATH="$WORK/installed"
  build "$WORK/found"
  quietly "$WORK/found/with_clnorm"
}

"case_$case"
echo "$case: right"
