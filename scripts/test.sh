#!/bin/sh
# Installs what the tests need if it may, builds, and runs all tests:
#
#   1. gcc, warnings are errors: every test on every device, and the GPU kernels without a GPU (CTest)
#   2. clang, warnings are errors: the tests of the CPU path
#   3. AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer: the tests of the CPU path and PoCL
#   4. without the OpenCL back end: the tests of the CPU path
#
#   sh scripts/test.sh [CTEST ARGUMENT...]
#
# CLNORM_FUZZ_SECONDS says how long random calls are tried in each build (15).
# With arguments only 1 runs, with them: sh scripts/test.sh -R batchnorm.cpu
# Ends with a line "N passed, N failed", counted by CTest, and with 0 only if nothing failed. A device
# that is missing is a failure, unless the system has no package for it: then a line before the last names
# it, says why, and counts the tests that were not run. It names as well the cases that a driver fails by its own
# fault (clnorm_leave_out in tests/CMakeLists.txt).
set -u
cd "$(dirname "$0")/.." || exit 1

. scripts/environment.sh
absent=$(sh scripts/setup.sh test) || exit 1 # "NAME: reason" lines
without=$(printf '%s\n' "$absent" | sed 's/:.*//' | paste -s -d ';' -)
tests_with() { case ";$without;" in *";$1;"*) return 1 ;; esac; }
passed=0
failed=0
logs=build-dev/test-logs
mkdir -p $logs
rm -f $logs/skipped
# One cache for all builds: a driver under a sanitizer then finds its kernels compiled, and what two builds
# compile alike is compiled once.
cache=$PWD/build-dev/test-cache
launcher=
if command -v ccache >/dev/null; then
  launcher='-D CMAKE_C_COMPILER_LAUNCHER=ccache'
  export CCACHE_DIR="${CCACHE_DIR:-$cache/ccache}" CCACHE_NOHASHDIR=1
fi

# build PRESET [CMAKE ARGUMENT...]
build() {
  preset=$1
  shift
  echo "== $preset: building"
  generator=
  if [ ! -e "build-$preset/CMakeCache.txt" ] && command -v ninja >/dev/null; then generator='-G Ninja'; fi
  # shellcheck disable=SC2086
  cmake --preset "$preset" $generator $launcher -D CLNORM_TEST_CACHE="$cache" \
    -D CLNORM_FUZZ_SECONDS="${CLNORM_FUZZ_SECONDS:-15}" \
    -D CLNORM_TEST_WITHOUT="$without" "$@" >"$logs/$preset-build.log" 2>&1 &&
    cmake --build "build-$preset" --parallel 2 >>"$logs/$preset-build.log" 2>&1 && return 0
  grep -E 'error|warning|Error' -A 5 "$logs/$preset-build.log" | head -n 60
  echo "== $preset: the build failed; all of its output is in $logs/$preset-build.log"
  failed=$((failed + 1))
  return 1
}

# check PRESET [CTEST ARGUMENT...]: runs CTest and adds its counts.
check() {
  preset=$1
  shift
  echo "== $preset: testing"
  log=$logs/$preset-test.log
  ctest --test-dir "build-$preset" -j2 --output-on-failure --no-tests=error "$@" >"$log" 2>&1
  status=$?
  grep -E 'Failed|Not Run|Timeout|tests passed' "$log" || tail -n 20 "$log"
  summary=$(sed -n 's/.* \([0-9]*\) tests failed out of \([0-9]*\)$/\1 \2/p' "$log" | tail -n 1)
  if [ -z "$summary" ]; then # CTest itself failed
    failed=$((failed + 1))
    return
  fi
  # CTest counts tests that were skipped among those that passed.
  skipped=$(sed -n 's/.*- \(.*\) (Skipped)$/\1/p' "$log")
  for name in $skipped; do
    echo "$name (skipped under $preset)" >>"$logs/skipped"
    passed=$((passed - 1))
  done
  passed=$((passed + ${summary#* } - ${summary% *}))
  failed=$((failed + ${summary% *}))
  if [ $status != 0 ]; then
    sed -n '/Failed\|Timeout\|Not Run/,/^ *Start/p' "$log" | head -n 200
    [ "${summary% *}" != 0 ] || failed=$((failed + 1))
  fi
}

# "not run here: NAME (reason; N tests), ..." where something was not.
say_not_run() {
  list=
  while IFS=: read -r name reason; do
    [ -n "$name" ] || continue
    case $name in
    clang) count='the clang build' ;;
    ptxas) count="registers and spills on NVIDIA's targets" ;;
    *) count="$(grep -c "^$name " build-dev/tests/not-run.txt) tests" ;;
    esac
    list="$list${list:+, }$name (${reason# }; $count)"
  done <<EOF
$absent
EOF
  while IFS= read -r line; do
    [ -z "$line" ] || list="$list${list:+, }$line"
  done <<EOF
$(cat build-dev/tests/left-out.txt "$logs/skipped" 2>/dev/null)
EOF
  [ -z "$list" ] || echo "not run here: $list"
}

# The conformance suite once is enough where only the build differs.
once='conformance.cpu.(threads[237]|plain)'
if build dev -D CLNORM_TEST_GPU=ON; then check dev "$@"; fi
if [ $# = 0 ]; then
  if tests_with clang && build clang; then check clang -L cpu -E "$once"; fi
  if build asan; then check asan -L 'cpu|sanitized' -E "$once"; fi
  if build cpu-only; then check cpu-only -L cpu -E "$once"; fi
fi

say_not_run
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -gt 0 ]
