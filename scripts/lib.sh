# Shared by the scripts here: Debian packages, loop LUNs, and taking them down again. Sourced, never run.
# shellcheck shell=bash

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
if ! command -v cargo >/dev/null && [[ -x $HOME/.cargo/bin/cargo ]]; then
  PATH=$HOME/.cargo/bin:$PATH
fi

say() { printf '%s\n' "$*"; }

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# need COMMAND:PACKAGE...: installs the Debian package of each command that is missing, and says which.
need() {
  local pair missing=()
  for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
  done
  if ((${#missing[@]} == 0)); then
    return
  fi
  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
  say "installing Debian packages that are missing: ${missing[*]}"
  command -v apt-get >/dev/null || die "no apt-get here; install what these Debian packages hold: ${missing[*]}"
  local root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "run it as root, or install these first: ${missing[*]}"
    root=(sudo)
  fi
  local log
  log=$(mktemp)
  if ! { "${root[@]}" apt-get update &&
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    say "could not install: ${missing[*]}" >&2
    return 1
  fi
  rm -f "$log"
  for pair in "$@"; do
    hash -r
    command -v "${pair%%:*}" >/dev/null || die "package ${pair#*:} is installed, but there is no ${pair%%:*}"
  done
}

need_rust() {
  command -v cargo >/dev/null || die "no Rust toolchain here; get one from https://rustup.rs"
}

loops=()

# attach VARIABLE FILE: a loop LUN over FILE with direct I/O; its device goes into VARIABLE. Fails where there are none.
attach() {
  local -n device_of=$1
  device_of=$(losetup --find --show --direct-io=on "$2" 2>/dev/null) || return 1
  loops+=("$device_of")
}

# Whether this machine lets us have loop devices at all.
can_loop() {
  local probe device works=1
  ((EUID == 0)) && command -v losetup >/dev/null || return 1
  probe=$(mktemp)
  truncate -s 1M "$probe"
  if device=$(losetup --find --show "$probe" 2>/dev/null); then
    losetup --detach "$device" && works=0
  fi
  rm -f "$probe"
  return "$works"
}

detach_all() {
  local device
  for device in "${loops[@]}"; do
    losetup --detach "$device" 2>/dev/null || true
  done
  loops=()
}
