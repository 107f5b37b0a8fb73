#!/usr/bin/env bash
# Brings what a build needs onto this machine: Debian packages and DuckDB. Safe to repeat; quick when all is there.
#
#   scripts/setup.sh           what `make run` and `make test` need
#   scripts/setup.sh bench     also the servers that `make bench` compares with; goes on without them, and says so
#
# FLASKTRACK_DUCKDB_PREFIX=DIR   use DIR/include/duckdb.h and DIR/lib/libduckdb.so instead of fetching DuckDB
# FLASKTRACK_ANY_SYSTEM=1        do not insist on Debian 12
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

swift_wanted=6.3
packages=(librocksdb-dev libjemalloc-dev libssl-dev libnghttp2-dev libedit-dev liblz4-dev libzstd-dev libpython3.11 pkg-config)
bench_packages=(etcd-server nghttp2-server nghttp2-client openssl)
purpose="${1:-build}"
# The tests make certificates, speak HTTP and verify packages with programs that are not ours.
[ "$purpose" != test ] || packages+=(curl openssl python3 python3-cryptography python3-venv)

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }

check_system() {
  [ "${FLASKTRACK_ANY_SYSTEM:-}" != 1 ] || return 0
  local id='' version='' name='an unknown system'
  if [ -r /etc/os-release ]; then
    id="$(. /etc/os-release && echo "${ID:-}")"
    version="$(. /etc/os-release && echo "${VERSION_ID:-}")"
    name="$(. /etc/os-release && echo "${PRETTY_NAME:-$id}")"
  fi
  [ "$id" = debian ] && [ "$version" = 12 ] ||
    fail "Debian 12 is needed and this is $name; FLASKTRACK_ANY_SYSTEM=1 tries it all the same"
}

check_swift() {
  local found
  command -v swift >/dev/null ||
    fail "Swift $swift_wanted is missing: install it from https://www.swift.org/install/linux/ and put swift on the PATH"
  found="$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9][0-9.]*\).*/\1/p' | head -n 1)"
  case "$found" in
    "$swift_wanted" | "$swift_wanted".*) ;;
    *) fail "Swift $swift_wanted is needed and $(command -v swift) is ${found:-of unknown version}: see https://www.swift.org/install/linux/" ;;
  esac
  command -v git >/dev/null || packages+=(git)
}

# Prints those of its arguments that are not installed.
not_installed() {
  local installed name
  installed=" $(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "$@" 2>/dev/null |
    awk '$2 == "installed" { printf "%s ", $1 }' || true) " # dpkg-query fails when it does not know a package
  for name in "$@"; do
    case "$installed" in *" $name "*) ;; *) echo "$name" ;; esac
  done
}

as_root=()
may_install() {
  [ "$(id -u)" -ne 0 ] || return 0
  command -v sudo >/dev/null && sudo -n true 2>/dev/null || return 1
  as_root=(sudo -n)
}

# Installs its arguments, or prints why that cannot be done and returns 1.
install_packages() {
  local log
  command -v apt-get >/dev/null || { say "missing: $*; there is no apt-get here to install them"; return 1; }
  may_install || { say "missing: $*; run as root: apt-get install -y $*"; return 1; }
  say "installing $*"
  log="$(mktemp)"
  if ! "${as_root[@]}" apt-get -qq update >"$log" 2>&1 ||
    ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 install -y \
      --no-install-recommends "$@" >>"$log" 2>&1; then
    say "cannot install $* (network?): $(grep -E '^[EW]:' "$log" | tail -n 1); later: apt-get install -y $*"
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

check_libraries() { # for systems without dpkg-query
  local name missing=()
  for name in rocksdb openssl libnghttp2 libedit liblz4 libzstd; do
    pkg-config --exists "$name" 2>/dev/null || missing+=("$name")
  done
  [ ${#missing[@]} -eq 0 ] || fail "missing for pkg-config: ${missing[*]}; install the libraries with their headers"
}

check_packages() {
  local missing
  if [ -z "${FLASKTRACK_DUCKDB_PREFIX:-}" ] && [ ! -e .duckdb/.stamp ]; then
    # Only fetch-duckdb.sh needs these.
    command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1 || packages+=(python3 python3-pip)
  fi
  if ! command -v dpkg-query >/dev/null; then
    check_libraries
    return
  fi
  mapfile -t missing < <(not_installed "${packages[@]}")
  [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}" || exit 1
}

check_duckdb() {
  local own="${FLASKTRACK_DUCKDB_PREFIX:-}"
  if [ -n "$own" ]; then
    [ -f "$own/include/duckdb.h" ] || fail "FLASKTRACK_DUCKDB_PREFIX: $own/include/duckdb.h is missing"
    [ -f "$own/lib/libduckdb.so" ] || fail "FLASKTRACK_DUCKDB_PREFIX: $own/lib/libduckdb.so is missing"
    return
  fi
  scripts/fetch-duckdb.sh || exit 1
  # The wheel's library wants symbols of libpython when it is loaded; Package.swift looks for this file.
  [ -e .duckdb/needs-libpython ] || touch .duckdb/needs-libpython
}

# Makes .clients, a Python environment with the clients of Tests/Clients/requirements.txt.
check_clients() {
  local wanted log
  wanted="$(cat Tests/Clients/requirements.txt; python3 --version)"
  [ "$(cat .clients/.stamp 2>/dev/null || true)" != "$wanted" ] || return 0
  say "installing the clients of Tests/Clients/requirements.txt into .clients"
  log="$(mktemp)"
  rm -rf .clients
  if ! python3 -m venv .clients >"$log" 2>&1 ||
    ! .clients/bin/python -m pip install --quiet --disable-pip-version-check -r Tests/Clients/requirements.txt >>"$log" 2>&1; then
    say "cannot install the clients: $(tail -n 1 "$log")"
    rm -rf "$log" .clients
    exit 1
  fi
  rm -f "$log"
  printf '%s' "$wanted" >.clients/.stamp
}

check_bench() {
  local missing
  mapfile -t missing < <(not_installed "${bench_packages[@]}")
  [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}" ||
    say "without ${missing[*]} the comparison leaves out what needs them"
}

check_system
check_swift
check_packages
check_duckdb
case "$purpose" in
  build) ;;
  test) check_clients ;;
  bench)
    check_bench
    check_clients
    ;;
  *) fail "unknown purpose '$purpose' (build, test, bench)" ;;
esac
