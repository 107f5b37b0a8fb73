#!/usr/bin/env bash
# Puts DuckDB's C library and header where Package.swift looks for them.
#
#   scripts/fetch-duckdb.sh [PREFIX]       PREFIX defaults to .duckdb in the project's root
#
# Result: PREFIX/lib/libduckdb.so, PREFIX/include/duckdb.h, PREFIX/lib/pkgconfig/duckdb.pc
# Both files come from the published Python distribution of the pinned version, checked by sha256, and are
# taken apart as archives: no Python package is installed and nothing is compiled. Safe to repeat.
#
# FLASKTRACK_DUCKDB_PREFIX=DIR uses an operator's own DIR/include/duckdb.h and DIR/lib/libduckdb.so instead.
set -euo pipefail

version=2.0.0
abi=cp311
source_sha256=09de511ef0dc76a5213e8d3d87a8b89bb4d3e8a6fe73a9f60dc001269946b44f
case "$(uname -m)" in
  x86_64)
    platform=manylinux_2_28_x86_64
    wheel_sha256=5a3601121c7cc50d0b70412995634682fafcb58a0156d5d663dfd0b3bbe30a33 ;;
  aarch64 | arm64)
    platform=manylinux_2_28_aarch64
    wheel_sha256=bcdf10dfbc2c1a6bdc5b2a94bba5b15481e552c5745c2af1994617b0eb6bc750 ;;
  *)
    platform=''
    wheel_sha256='' ;;
esac

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
prefix="${1:-$root/.duckdb}"
fail() { echo "fetch-duckdb: $*" >&2; exit 1; }

write_pc() { # file, include directory, library directory
  cat >"$1" <<PC
Name: duckdb
Description: DuckDB C library
Version: $version
Cflags: -I$2
Libs: -L$3 -lduckdb
PC
}

mkdir -p "$(dirname "$prefix")" || fail "cannot create $(dirname "$prefix")"
prefix="$(cd "$(dirname "$prefix")" && pwd)/$(basename "$prefix")"

own="${FLASKTRACK_DUCKDB_PREFIX:-}"
if [ -n "$own" ]; then
  [ -f "$own/include/duckdb.h" ] || fail "FLASKTRACK_DUCKDB_PREFIX: $own/include/duckdb.h is missing"
  [ -f "$own/lib/libduckdb.so" ] || fail "FLASKTRACK_DUCKDB_PREFIX: $own/lib/libduckdb.so is missing"
  own="$(cd "$own" && pwd)"
  stamp="own $own"
else
  [ -n "$platform" ] || fail "no pinned DuckDB for $(uname -m); name your own with FLASKTRACK_DUCKDB_PREFIX=DIR"
  stamp="duckdb $version $abi $platform $wheel_sha256 $source_sha256"
fi

# The stamp also names the prefix, because the .pc file holds absolute paths.
if [ -f "$prefix/.stamp" ] && [ "$(cat "$prefix/.stamp")" = "$stamp
$prefix" ] && [ -e "$prefix/lib/libduckdb.so" ] && [ -e "$prefix/include/duckdb.h" ] &&
  [ -f "$prefix/lib/pkgconfig/duckdb.pc" ]; then
  exit 0
fi

work="$(mktemp -d "$prefix.tmp.XXXXXX")" || fail "cannot write beside $prefix"
trap 'rm -rf "$work"' EXIT
new="$work/new"
mkdir -p "$new/lib/pkgconfig" "$new/include"

if [ -n "$own" ]; then
  ln -s "$own/include/duckdb.h" "$new/include/duckdb.h"
  ln -s "$own/lib/libduckdb.so" "$new/lib/libduckdb.so"
  write_pc "$new/lib/pkgconfig/duckdb.pc" "$own/include" "$own/lib"
else
  command -v python3 >/dev/null || fail "python3 is missing: apt-get install python3 python3-pip"
  python3 -m pip --version >/dev/null 2>&1 || fail "pip is missing: apt-get install python3-pip"
  # A hash in a requirements file makes pip refuse anything else; one distribution a file, as only one may match.
  printf 'duckdb==%s --hash=sha256:%s\n' "$version" "$wheel_sha256" >"$work/wheel.txt"
  printf 'duckdb==%s --hash=sha256:%s\n' "$version" "$source_sha256" >"$work/source.txt"
  pip() { python3 -m pip --disable-pip-version-check download --quiet --no-deps --require-hashes "$@" 2>"$work/log"; }
  echo "fetch-duckdb: getting DuckDB $version for $platform (about 40 MB)" >&2
  pip --only-binary :all: --python-version 3.11 --implementation cp --abi "$abi" --platform "$platform" \
    -r "$work/wheel.txt" -d "$work" ||
    fail "cannot download the pinned wheel of duckdb==$version (network, or pip's index): $(tail -n 1 "$work/log")"
  pip --no-binary duckdb --no-build-isolation -r "$work/source.txt" -d "$work" || {
    # Without isolation pip needs the package's own build tool to read its metadata; with it, pip fetches that.
    pip --no-binary duckdb -r "$work/source.txt" -d "$work" ||
      fail "cannot download the pinned source of duckdb==$version (network, or pip's index): $(tail -n 1 "$work/log")"
  }
  python3 - "$work" "$new" <<'PY' || fail "the downloaded archives do not hold the expected files"
import glob, shutil, sys, tarfile, zipfile
work, new = sys.argv[1:]
(wheel,) = glob.glob(work + "/duckdb-*.whl")
(source,) = glob.glob(work + "/duckdb-*.tar.gz")
with zipfile.ZipFile(wheel) as archive:
    (library,) = [n for n in archive.namelist() if n.startswith("_duckdb.cpython-311-") and n.endswith(".so")]
    with archive.open(library) as i, open(new + "/lib/libduckdb.so", "wb") as o:
        shutil.copyfileobj(i, o)
with tarfile.open(source) as archive:
    (header,) = [m for m in archive if m.isfile() and m.name.endswith("/external/duckdb/src/include/duckdb.h")]
    with archive.extractfile(header) as i, open(new + "/include/duckdb.h", "wb") as o:
        shutil.copyfileobj(i, o)
PY
  chmod 755 "$new/lib/libduckdb.so"
  write_pc "$new/lib/pkgconfig/duckdb.pc" "$prefix/include" "$prefix/lib"
fi
printf '%s\n%s\n' "$stamp" "$prefix" >"$new/.stamp"

# Rename the whole prefix into place, so that a build never sees half of one.
[ -e "$prefix" ] && mv "$prefix" "$work/old"
mv "$new" "$prefix"
echo "fetch-duckdb: $prefix is ready" >&2
