#!/bin/sh
# The main job, on real data: two batch-normalization layers of published networks (tests/data), each in
# evaluation and in training mode, on every device found; compared bit by bit with the CPU path, and with
# what the network's own framework computed.
#
#   sh scripts/demo.sh
#
# Installs what is missing if it may, builds in build/, and ends with 0 when every comparison is good.
set -eu
cd "$(dirname "$0")/.."
export LC_ALL=C

. scripts/environment.sh
sh scripts/setup.sh demo
build=build
out=$build/demo
opencl=ON
echo 'int main(void) { return 0; }' | cc -include CL/cl.h -DCL_TARGET_OPENCL_VERSION=120 -x c - \
  -o /dev/null 2>/dev/null || opencl=OFF

# ---- Build ---------------------------------------------------------------------------------------
mkdir -p "$out"
echo "building in $build/ ..."
generator=
if [ ! -e $build/CMakeCache.txt ] && command -v ninja >/dev/null; then generator='-G Ninja'; fi
# shellcheck disable=SC2086
{
  cmake -S . -B $build $generator -D CMAKE_BUILD_TYPE=Release -D CLNORM_OPENCL=$opencl \
    -D CLNORM_BUILD_TESTS=OFF -D CLNORM_BUILD_EXAMPLES=OFF &&
    cmake --build $build --parallel
} >$out/build.log 2>&1 || {
  tail -n 30 $out/build.log >&2
  echo "demo: the build failed; all of its output is in $out/build.log" >&2
  exit 1
}
clnorm=$build/clnorm

# ---- Devices -------------------------------------------------------------------------------------
echo
$clnorm devices || {
  echo "demo: an OpenCL driver of this system ends every program that asks it for devices; going on without" >&2
  OCL_ICD_VENDORS=$PWD/$out/no-drivers
  export OCL_ICD_VENDORS
  mkdir -p "$OCL_ICD_VENDORS"
  $clnorm devices
}
# One line per usable device: its id.
devices=$($clnorm devices --json | tr '{' '\n' | grep '"status": "ok"' |
  sed -n 's/.*"id": "\([^"]*\)".*/\1/p')

# ---- Runs ----------------------------------------------------------------------------------------
# The value of a key of a flat JSON object on standard input.
value_of() { sed -n 's/.*"'"$1"'": "\{0,1\}\([^",}]*\).*/\1/p'; }

# "D of M": the largest absolute difference of two .npy files (float32, little endian, version 1.0), and the
# largest absolute value of the second.
floats() {
  header=$(od -An -t u1 -j 8 -N 2 "$1" | awk '{ print 10 + $1 + 256 * $2 }')
  od -An -v -t f4 -j "$header" "$1" | tr -s ' ' '\n' | sed '/^$/d'
}
largest_difference() {
  floats "$1" >$out/a.txt
  floats "$2" >$out/b.txt
  paste $out/a.txt $out/b.txt | awk '
    NF != 2 { short = 1; exit }
    { d = $1 - $2; d = d < 0 ? -d : d; y = $2 < 0 ? -$2 : $2 }
    d > max { max = d }
    y > top { top = y }
    d != d { bad = 1 }
    END { if (short) print "other length"; else if (bad) print "NaN"; else printf "%.1e of %.3g\n", max, top }'
  rm -f $out/a.txt $out/b.txt
}

failed=0
# run LAYER FRAMEWORK MODE DEVICE
run() {
  data=tests/data/$1
  result=$out/$1-$3-$4
  set +e
  $clnorm run "$data/x.npy" -o "$result.npy" --mode "$3" --eps 0.001 --device "$4" --verify --json \
    --weight "$data/weight.npy" --bias "$data/bias.npy" \
    --running-mean "$data/running_mean.npy" --running-var "$data/running_var.npy" >"$result.json"
  status=$?
  set -e
  if [ $status -gt 1 ]; then
    failed=1
    printf '%-12s %-6s %-7s %s\n' "$1" "$3" "$4" "failed with status $status"
    return
  fi
  differing=$(value_of differing_elements <"$result.json")
  bits="same bits"
  [ "$differing" = 0 ] || bits="$differing differ"
  if [ $status != 0 ]; then
    failed=1
    [ "$differing" != 0 ] || bits="inaccurate" # beyond the bound to the long double reference
  fi
  time=$(value_of seconds <"$result.json" | awk '{ printf "%.3f ms", 1000 * $1 }')
  printf '%-12s %-6s %-7s %11s  %-12s %s (%s)\n' "$1" "$3" "$4" "$time" "$bits" \
    "$(largest_difference "$result.npy" "$data/y_$3.npy")" "$2"
}

echo
printf '%-12s %-6s %-7s %11s  %-12s %s\n' layer mode device time 'to CPU path' \
  "largest difference to the framework's own output"
for mode in eval train; do
  for device in $devices; do run crepe_conv2 PyTorch $mode "$device"; done
done
for mode in eval train; do
  for device in $devices; do run fer_bn1 TensorFlow $mode "$device"; done
done

# ---- What next -----------------------------------------------------------------------------------
cat <<EOF_NEXT

Outputs and details of every run: $out/. What the layers are: tests/data/README.md.
Next:
  $clnorm verify --suite edge    hard cases on the default device
  $clnorm run --help             your own .npy files
  sh scripts/test.sh                  all tests
EOF_NEXT
if [ $failed != 0 ]; then
  echo "demo: something above is not as it should be" >&2
  exit 1
fi
