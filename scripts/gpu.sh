#!/bin/sh
# Measures clnorm on a machine with an NVIDIA GPU that may have no network, no compiler and no OpenCL loader.
#
#   sh scripts/gpu.sh prepare [FOLDER]         here: gathers in FOLDER (build-gpu) all that is needed there
#   sh scripts/gpu.sh run [OUT] [OPTION...]    there: leaves OUT/report.md, results.json and logs.txt
#
# FOLDER is carried along with the sources, or alone: sh FOLDER/run.sh [OUT] [OPTION...]. It holds
#   bin/clnorm         built where the C library is that of Debian 12 or older
#   lib                the OpenCL loader of Debian 12 (ocl-icd)
#   rusticl.tar.xz     Mesa's OpenCL over Vulkan with all its libraries, from Debian 13: the way to take where the
#                      driver's own OpenCL is missing. CLNORM_GPU_RUSTICL=0 leaves it out
#   layers.txt         the shapes that are measured
#   measure, run.sh    the scripts (bench/gpu)
# and at most 60 MiB. Downloads and builds are in build-gpu-work, and are used again.
#
# prepare needs Debian or Ubuntu on x86-64 with a C compiler, CMake, xz and apt-get; where the C library is newer
# than Debian 12's also debootstrap and root. CLNORM_DEBIAN is Debian's mirror, if apt's first source is not.
# run needs python3, and for the comparison a Python with PyTorch; run --help says the rest.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
largest_mib=60
newest_glibc=2.36 # Debian 12
program_release=bookworm
rusticl_release=trixie

say() { printf 'gpu.sh: %s\n' "$*" >&2; }
fail() {
  say "$*"
  exit 2
}

# ---- Debian's packages -----------------------------------------------------------------------------

# mirror: Debian's, as apt knows it.
mirror() {
  if [ -n "${CLNORM_DEBIAN:-}" ]; then
    echo "$CLNORM_DEBIAN"
    return
  fi
  # shellcheck disable=SC2016 # apt fills in the word
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -v security | head -n 1
}

# apt_of RELEASE: settings under which apt sees that release alone, and touches nothing of this system.
apt_of() {
  settings=$work/$1.conf
  mkdir -p "$work/$1/lists/partial" "$work/$1/cache/archives/partial"
  echo "deb $(mirror) $1 main" >"$work/$1/sources.list"
  cat >"$settings" <<EOF
Dir::State::Lists "$work/$1/lists";
Dir::State::Status "/dev/null";
Dir::Etc::SourceList "$work/$1/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Cache "$work/$1/cache";
APT::Sandbox::User "root";
EOF
  APT_CONFIG=$settings apt-get -qq update >"$work/$1/apt.log" 2>&1 ||
    fail "Debian's list of packages for $1 cannot be had: $(tail -n 1 "$work/$1/apt.log")"
}

# unpack RELEASE PACKAGE...: into $work/RELEASE/root
unpack() {
  release=$1
  shift
  mkdir -p "$work/$release/debs" "$work/$release/root"
  (cd "$work/$release/debs" && rm -f ./*.deb && APT_CONFIG=$work/$release.conf apt-get -qq download "$@") ||
    fail "these packages cannot be had: $*"
  for file in "$work/$release/debs"/*.deb; do
    dpkg-deb -x "$file" "$work/$release/root"
    basename "$file" .deb
  done >"$work/$release/packages.txt"
}

# ---- The parts -------------------------------------------------------------------------------------

# build SOURCE BINARY: the program, and the list of shapes
build() {
  cmake -S "$1" -B "$2" -D CMAKE_BUILD_TYPE=Release -D CLNORM_BUILD_TESTS=OFF -D CLNORM_BUILD_EXAMPLES=OFF &&
    cmake --build "$2" --parallel 2 &&
    cc -std=c11 -I "$1/cases" "$1/bench/peers/layers.c" "$1/cases/networks.c" -o "$2/layers" &&
    "$2/layers" >"$2/layers.txt"
}

# Older or equal, by version.
is_old_enough() { [ "$(printf '%s\n%s\n' "$1" "$newest_glibc" | sort -V | tail -n 1)" = "$newest_glibc" ]; }

build_here() {
  say "building the program with this system's C library, $glibc, which is not newer than Debian 12's"
  build "$here" "$work/program" >"$work/build.log" 2>&1 || {
    tail -n 20 "$work/build.log" >&2
    fail "the build failed"
  }
}

build_in_root() {
  say "building the program in a root of Debian 12: this system's C library is ${glibc:-unknown}"
  root=$work/root
  [ "$(id -u)" = 0 ] || fail "that needs root (chroot)"
  command -v debootstrap >/dev/null || fail "debootstrap is missing"
  [ -e "$root/etc/debian_version" ] ||
    debootstrap --variant=minbase --include=gcc,libc6-dev,cmake,make,opencl-c-headers \
      "$program_release" "$root" "$(mirror)" >"$work/debootstrap.log" 2>&1 || {
    rm -rf "$root"
    fail "debootstrap failed: $(tail -n 1 "$work/debootstrap.log")"
  }
  rm -rf "$root/clnorm"
  mkdir "$root/clnorm"
  tar -C "$here" --exclude='./build*' --exclude=./.git -c . | tar -C "$root/clnorm" -x
  # The same commands, there.
  sed -n '/^build() {/,/^}/p' "$here/scripts/gpu.sh" >"$root/build.sh"
  echo 'build /clnorm /program' >>"$root/build.sh"
  chroot "$root" sh -eu /build.sh >"$work/build.log" 2>&1 || {
    tail -n 20 "$work/build.log" >&2
    fail "the build failed"
  }
  rm -rf "$work/program"
  cp -a "$root/program" "$work/program"
}

add_program() {
  glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | sed 's/.* //')
  if [ "${CLNORM_GPU_ROOT:-0}" = 0 ] && [ -n "$glibc" ] && is_old_enough "$glibc"; then
    build_here
  else
    build_in_root
  fi
  mkdir -p "$folder/bin"
  cp "$work/program/clnorm" "$folder/bin/"
  strip "$folder/bin/clnorm"
  cp "$work/program/layers.txt" "$folder/"
}

add_loader() {
  apt_of "$program_release"
  unpack "$program_release" ocl-icd-libopencl1
  mkdir -p "$folder/lib"
  cp -L "$work/$program_release/root/usr/lib/x86_64-linux-gnu/libOpenCL.so.1" "$folder/lib/"
}

# needed LIBRARY: names of those that it is linked with
needed() { readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'; }

# take LIBRARY...: copies it and all that it needs
take() {
  for library; do
    [ ! -e "$rusticl/lib/$library" ] || continue
    cp -L "$libraries/$library" "$rusticl/lib/$library" || fail "$library is in none of the packages"
    # shellcheck disable=SC2046
    take $(needed "$rusticl/lib/$library")
  done
}

# LLVM is linked with Z3 for its static analyzer alone. An empty one in its place saves 8 MiB.
stand_in_for_z3() {
  nm -D --undefined-only "$libraries/libLLVM.so.19.1" |
    sed -n 's/.* \(Z3_[a-z0-9_]*\).*/void \1(void) { __builtin_trap(); }/p' >"$work/z3.c"
  cc -shared -fPIC -Wl,-soname,libz3.so.4 -o "$rusticl/lib/libz3.so.4" "$work/z3.c"
}

# Mesa looks for its OpenCL library in a folder of the system. Run from the unpacked folder, a path of the same
# length from there does as well, and nothing has to be written outside of it.
move_clc() {
  LC_ALL=C sed 's#/usr/lib/clc/spirv#./share/clc//spirv#g' "$libraries/libRusticlOpenCL.so.1" \
    >"$rusticl/lib/libRusticlOpenCL.so.1"
  grep -q 'share/clc//spirv64' "$rusticl/lib/libRusticlOpenCL.so.1" ||
    fail "Mesa's path to its OpenCL library is another"
}

gather_rusticl() {
  libraries=$work/$rusticl_release/root/usr/lib/x86_64-linux-gnu
  rusticl=$work/rusticl
  rm -rf "$rusticl"
  mkdir -p "$rusticl/lib/clang/19/include" "$rusticl/share/clc"
  stand_in_for_z3
  move_clc
  # shellcheck disable=SC2046
  take $(needed "$rusticl/lib/libRusticlOpenCL.so.1")
  # What the program, the loader of Vulkan and NVIDIA's Vulkan driver are linked with.
  take libOpenCL.so.1 libvulkan.so.1 libdl.so.2 libpthread.so.0 librt.so.1 libX11.so.6 libXext.so.6 ld-linux-x86-64.so.2
  cp "$work/$rusticl_release/root/usr/lib/clc/"spirv*-mesa3d-.spv "$rusticl/share/clc/"
  cp "$work/$rusticl_release/root/usr/lib/llvm-19/lib/clang/19/include/"opencl-c*.h "$rusticl/lib/clang/19/include/"
}

add_rusticl() {
  apt_of "$rusticl_release"
  # shellcheck disable=SC2086
  unpack "$rusticl_release" libc6 libgcc-s1 libstdc++6 zlib1g libzstd1 liblzma5 libffi8 libedit2 libbsd0 libmd0 \
    libtinfo6 libxml2 libexpat1 libelf1t64 libdrm2 libdrm-amdgpu1 libx11-6 libxext6 libxcb1 libxau6 libxdmcp6 \
    libvulkan1 ocl-icd-libopencl1 libllvm19 libclang-cpp19 libclang-common-19-dev libllvmspirvlib19.1 libclc-19 \
    mesa-opencl-icd
  if ! cmp -s "$work/$rusticl_release/packages.txt" "$work/rusticl.packages"; then
    gather_rusticl
    say "compressing Mesa's OpenCL: some minutes"
    tar -C "$work" -c rusticl | xz --x86 --lzma2=preset=6,dict=64MiB >"$work/rusticl.tar.xz"
    cp "$work/$rusticl_release/packages.txt" "$work/rusticl.packages"
  fi
  cp "$work/rusticl.tar.xz" "$folder/"
}

# PoCL's CUDA back end is in no package of these releases; should it come, this says so.
look_for_pocl() {
  for release; do
    APT_CONFIG=$work/$release.conf apt-cache search --names-only 'pocl.*cuda'
  done | sort -u | sed 's/ - .*//' | tr '\n' ' '
}

add_scripts() {
  mkdir -p "$folder/measure"
  cp "$here"/bench/gpu/*.py "$folder/measure/"
  cat >"$folder/run.sh" <<'EOF'
#!/bin/sh
exec python3 "$(dirname "$0")/measure/measure.py" "$@"
EOF
}

# What the report says of the preparation.
write_facts() {
  {
    echo "prepared from commit: $(git -C "$here" describe --always --dirty 2>/dev/null || echo unknown)"
    echo "program: $(cc --version | head -n 1), C library ${glibc:-unknown}, $(date -u +%Y-%m-%d)"
    echo "OpenCL loader: $(cat "$work/$program_release/packages.txt")"
    [ ! -e "$folder/rusticl.tar.xz" ] || echo "prepared fall-back: $(grep mesa-opencl "$work/rusticl.packages")"
    echo "PoCL with CUDA: ${pocl:-in no package of Debian $program_release or $rusticl_release}"
  } >"$folder/prepared.txt"
}

check_size() {
  kib=$(du -sk "$folder" | cut -f 1)
  [ "$kib" -le $((largest_mib * 1024)) ] ||
    fail "$folder has $((kib / 1024)) MiB, but at most $largest_mib are carried; CLNORM_GPU_RUSTICL=0 leaves Mesa out"
  say "$folder is ready: $((kib / 1024)) MiB of at most $largest_mib. There: sh scripts/gpu.sh run [OUT]"
}

prepare() {
  [ $# -le 1 ] || fail "prepare takes one folder"
  folder=${1:-$here/build-gpu}
  work=$here/build-gpu-work
  [ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || fail "prepare needs Debian or Ubuntu on x86-64"
  for program in apt-get cc cmake xz readelf; do
    command -v "$program" >/dev/null || fail "$program is missing"
  done
  [ ! -e "$folder" ] || [ -e "$folder/prepared.txt" ] || fail "$folder is there, and not made by prepare"
  rm -rf "$folder"
  mkdir -p "$folder" "$work"
  folder=$(cd "$folder" && pwd)
  touch "$folder/prepared.txt"
  add_program
  add_loader
  pocl=$(look_for_pocl "$program_release")
  if [ "${CLNORM_GPU_RUSTICL:-1}" != 0 ]; then
    add_rusticl
    pocl=$(look_for_pocl "$program_release" "$rusticl_release")
  fi
  add_scripts
  write_facts
  check_size
}

# ---- There -------------------------------------------------------------------------------------------

run() {
  command -v python3 >/dev/null || fail "python3 is missing"
  exec python3 "$here/bench/gpu/measure.py" "$@"
}

case ${1:-} in
prepare | run)
  command=$1
  shift
  $command "$@"
  ;;
*)
  sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
  exit 2
  ;;
esac
