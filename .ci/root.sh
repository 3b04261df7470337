#!/bin/sh
# Runs a command of the project on a minimal Debian, where nothing is but what the command itself installs.
#
#   root.sh check              says why no root can be made here and ends with 1, or ends with 0
#   root.sh SUITE COMMAND      in a new root (debootstrap --variant=minbase SUITE) with the project copied
#                              into it; ends as COMMAND does, or with 99 if the root could not be made
#
# Mounts are made in a mount namespace that ends with the command: no mount is left behind, and removing the
# root cannot reach through one. The base system is kept for a week in ${XDG_CACHE_HOME:-~/.cache}/clnorm-ci.
# Packages come from where this system's own do: mirror, proxies, apt's and pip's settings are handed on.
set -eu
cd "$(dirname "$0")/.."
export LC_ALL=C
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/clnorm-ci
certificates=/etc/clnorm-ci.crt # in the root: pip's, where this system names some

say() { printf 'root.sh: %s\n' "$*" >&2; }
alone() { unshare --mount --propagation private "$@"; } # with a mount namespace of its own

check() {
  [ "$(id -u)" = 0 ] || { say "not root"; return 1; }
  command -v debootstrap >/dev/null || {
    apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
      debootstrap debian-archive-keyring
  } >/dev/null 2>&1 </dev/null || { say "debootstrap is not there and cannot be installed"; return 1; }
  mkdir -p "$cache" && folder=$(mktemp -d "$cache/check.XXXXXX") || return 1
  # shellcheck disable=SC2016
  tried=$(alone sh -c 'mount --rbind /dev "$1" && mount -t proc proc "$1" && chroot / true' sh "$folder" 2>&1) ||
    tried="${tried:-refused}"
  rmdir "$folder"
  [ -z "$tried" ] || { say "no right to mount and chroot: $tried"; return 1; }
}

# This system's own mirror, where it is a Debian with one; debootstrap has a default.
mirror() {
  (
    # shellcheck source=/dev/null
    . /etc/os-release
    [ "${ID:-}" = debian ] || exit 0
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 2>/dev/null |
      awk -v release="${VERSION_CODENAME:-}" '$1 == release && $2 == "main" { print $3; exit }'
  )
}

# The base system as a tarball.
make_base() { # SUITE
  base=$cache/$1.tar
  [ -z "$(find "$base" -mtime -7 2>/dev/null)" ] || return 0
  say "making a base system of $1"
  rm -rf --one-file-system "$work/base"
  # shellcheck disable=SC2046
  alone debootstrap --variant=minbase "$1" "$work/base" $(mirror) >"$work/log" 2>&1 </dev/null || {
    tail -n 5 "$work/log" >&2
    return 1
  }
  tar -C "$work/base" --one-file-system -cf "$work/base.tar" . && mv "$work/base.tar" "$base"
  rm -rf --one-file-system "$work/base"
}

copy_project() {
  if git rev-parse --git-dir >/dev/null 2>&1; then
    git ls-files --cached --others --exclude-standard | while IFS= read -r file; do
      [ ! -e "$file" ] || printf '%s\n' "$file"
    done | tar -T - -cf -
  else
    tar --exclude=./build --exclude='./build-*' -cf - .
  fi | tar -C "$root/clnorm" --no-same-owner -xf -
}

copy_settings() {
  cp /etc/resolv.conf /etc/hosts "$root/etc/"
  apt-config dump | grep -E '^Acquire::(https?|Retries|Check-)' | grep -v -i 'proxy-auto' \
    >"$root/etc/apt/apt.conf.d/99host" || true
  pip_settings="/etc/pip.conf ${HOME:-/root}/.pip/pip.conf ${HOME:-/root}/.config/pip/pip.conf"
  for file in $pip_settings; do
    [ ! -f "$file" ] || cat "$file" >>"$root/etc/pip.conf"
  done
  # A file in apt's settings, and pip's certificates. The root's own package of certificates would
  # overwrite those, so they lie elsewhere.
  sed -n 's/.*"\(\/[^"]*\)";$/\1/p' "$root/etc/apt/apt.conf.d/99host" | while IFS= read -r file; do
    [ ! -f "$file" ] || { mkdir -p "$root$(dirname "$file")" && cp "$file" "$root$file"; }
  done
  certificate=${PIP_CERT:-${REQUESTS_CA_BUNDLE:-${SSL_CERT_FILE:-}}}
  if [ -z "$certificate" ] && [ -f "$root/etc/pip.conf" ]; then
    certificate=$(sed -n 's/^ *cert *= *//p' "$root/etc/pip.conf" | tail -n 1)
  fi
  [ -z "$certificate" ] || cp "$certificate" "$root$certificates"
}

enter() { # COMMAND
  command=$1
  set -- PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root CI="${CI:-}"
  names='PIP_[A-Z0-9_]+|(http|https|no|all)_proxy|(HTTP|HTTPS|NO|ALL)_PROXY'
  for name in $(env | sed -n -E "s/^($names)=.*/\1/p"); do
    eval "set -- \"\$@\" \"$name=\$$name\""
  done
  [ ! -e "$root$certificates" ] || set -- "$@" "PIP_CERT=$certificates"
  # shellcheck disable=SC2016
  alone sh -c 'root=$1 && command=$2 && shift 2 &&
    mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" &&
    exec chroot "$root" env -i "$@" sh -c "cd /clnorm && $command"' sh "$root" "$command" "$@" </dev/null
}

if [ "$*" = check ]; then
  check
  exit
fi
suite=$1
mkdir -p "$cache"
work=$(mktemp -d "$cache/$suite.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 130' INT TERM HUP
root=$work/root
{ make_base "$suite" && mkdir -p "$root" && tar -C "$root" -xf "$cache/$suite.tar" &&
  mkdir "$root/clnorm" && copy_project && copy_settings; } || {
  say "no root of $suite could be made"
  exit 99
}
status=0
enter "$2" || status=$?
exit $status
