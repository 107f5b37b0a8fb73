#!/usr/bin/env bash
# Has packages of ours checked by somebody else's library: golang.org/x/mod's sumdb/note and sumdb/tlog, from Debian.
#
#   scripts/foreign-check.sh                      a cluster of its own makes packages; sound ones must pass, tampered ones not
#   scripts/foreign-check.sh PACKAGE.zip POLICY   checks one package
#
# Needs golang-go and golang-golang-x-mod-dev; without arguments also a debug build of ftnode and python3. No network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { echo "foreign-check: $*" >&2; }
fail() { say "$*"; exit 1; }

libraries=/usr/share/gocode
command -v go >/dev/null && [ -d "$libraries/src/golang.org/x/mod/sumdb/tlog" ] ||
  fail 'apt-get install golang-go golang-golang-x-mod-dev'
mkdir -p .build/foreign
GO111MODULE=off GOFLAGS='' GOPATH="$libraries" GOCACHE="$PWD/.build/foreign/cache" \
  go build -o .build/foreign/foreign Documentation/verify/foreign/main.go
check="$PWD/.build/foreign/foreign"
if [ "$#" -eq 2 ]; then exec "$check" "$1" "$2"; fi
[ "$#" -eq 0 ] || fail 'usage: foreign-check.sh [PACKAGE.zip POLICY]'

ftnode="$PWD/.build/debug/ftnode"
[ -x "$ftnode" ] || fail 'build first: swift build --product ftnode'
work="$(mktemp -d "$PWD/.build/foreign/run.XXXXXX")"
dev=''
stop() {
  [ -z "$dev" ] || { kill -TERM "$dev" 2>/dev/null && wait "$dev" 2>/dev/null; } || true
  rm -rf "$work"
}
trap stop EXIT
"$ftnode" dev --nodes 3 --data "$work/data" --port "${FOREIGN_PORT:-28443}" --demo >"$work/dev.log" 2>&1 &
dev=$!
export FTNODE_CONTEXT="$work/data/client.yaml"
for _ in $(seq 300); do
  [ ! -s "$FTNODE_CONTEXT" ] || organizations="$("$ftnode" org list --format json 2>/dev/null || true)"
  # The demo is there when its records are.
  case "${organizations:-}" in *'"key"'*) break ;; esac
  kill -0 "$dev" 2>/dev/null || { cat "$work/dev.log" >&2; fail 'the cluster did not start'; }
  sleep 0.2
done
organization="$(printf '%s' "$organizations" | python3 -c 'import json,sys; print(json.load(sys.stdin)["organizations"][0]["key"])')"
# More than a tile of records, whatever the demo has.
python3 -c 'for n in range(700): print("{\"organization\":\"%s\",\"action\":\"update\",\"entity_type\":\"sample\",\"entity_id\":\"S-%d\",\"after\":{\"n\":%d}}" % ("'"$organization"'", n % 40, n))' \
  >"$work/more.ndjson"
"$ftnode" import "$work/more.ndjson" >/dev/null
"$ftnode" audit keys --org "$organization" >"$work/policy"
"$ftnode" audit export --org "$organization" --output "$work/full.zip" >/dev/null
"$ftnode" audit export --org "$organization" --action update --output "$work/selection.zip" >/dev/null

for name in full selection; do "$check" "$work/$name.zip" "$work/policy" || fail "a sound package is refused: $name"; done

# Each way of tampering makes a new archive, so that nothing but the checker can notice.
cat >"$work/tamper.py" <<'PYTHON'
import base64, sys, zipfile
source, target, way = sys.argv[1:]
parts = {info.filename: zipfile.ZipFile(source).read(info) for info in zipfile.ZipFile(source).infolist()}
def flip(name, place=-9):
    data = bytearray(parts[name]); data[place] ^= 1; parts[name] = bytes(data)
first = lambda lead: sorted(name for name in parts if name.startswith(lead) and parts[name])[0]
if way == "record": flip(first("tile/entries/"), 60)
elif way == "last-record": flip(sorted(name for name in parts if name.startswith("tile/entries/"))[-1])
elif way == "tile": flip(first("tile/0/"), 5)
elif way == "upper-tile": flip(first("tile/1/"), 5)
elif way == "missing": del parts[first("tile/entries/")]
elif way == "root":
    lines = parts["checkpoint"].split(b"\n"); root = bytearray(base64.b64decode(lines[2])); root[0] ^= 1
    lines[2] = base64.b64encode(bytes(root)); parts["checkpoint"] = b"\n".join(lines)
elif way == "size": parts["checkpoint"] = parts["checkpoint"].replace(b"\n", b"\n1", 1)
elif way == "cosignatures":
    parts["checkpoint"] = b"\n".join(line for line in parts["checkpoint"].split(b"\n") if b"/node-" not in line)
elif way == "shown": flip(first("records/"), 60)
elif way == "proof":
    name = first("proofs/"); lines = parts[name].split(b"\n"); lines[2] = base64.b64encode(bytes(32)); parts[name] = b"\n".join(lines)
with zipfile.ZipFile(target, "w") as archive:
    for name, data in parts.items(): archive.writestr(name, data)
PYTHON
count=0
for way in full:record full:last-record full:tile full:upper-tile full:missing full:root full:size full:cosignatures \
  selection:shown selection:proof selection:root; do
  python3 "$work/tamper.py" "$work/${way%%:*}.zip" "$work/tampered.zip" "${way##*:}"
  if message="$("$check" "$work/tampered.zip" "$work/policy")"; then fail "not noticed: $way"; fi
  echo "$way: $message"
  count=$((count + 1))
done
echo "2 sound packages accepted, $count tampered ones refused"
