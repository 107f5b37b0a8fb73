#!/usr/bin/env bash
# Measures three nodes of ours beside etcd, nghttpd and DuckDB on this machine, one after the other, and compares.
# Prints one table and, as the last line, one JSON object. Nothing else should run on the machine meanwhile.
#
#   QUICK=1            a smoke run: every step, no meaningful figures
#   BENCH_SECONDS=8    measured seconds of each load, after BENCH_WARM_UP=2 seconds
#   BENCH_CLIENTS="1 16 64 256"
#   BENCH_PARTS="etcd query flight append get groups projection core ledger"; `statements` runs only when it is named:
#   BENCH_ROWS=1000000 BENCH_ORGANIZATIONS="8 200"   records of each of its logs, and over how many organizations
#   BENCH_RUNS=5       runs of each statement, of which the median counts
#   BENCH_NODES=3      nodes of our cluster; a log takes some 1.3 KB of disk a record and node
#   BENCH_PORT=18443   first of the ports that are used (some twenty)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { echo "bench: $*" >&2; }
fail() { say "$*"; exit 1; }

# Answers are made, not found.
export FTNODE_QUERY_CACHE_MB=0

quick="${QUICK:-}"
seconds="${BENCH_SECONDS:-$([ -n "$quick" ] && echo 1 || echo 8)}"
warm_up="${BENCH_WARM_UP:-$([ -n "$quick" ] && echo 0.5 || echo 2)}"
rows="$([ -n "$quick" ] && echo 5000 || echo 45000)"
clients="${BENCH_CLIENTS:-1 16 64 256}"
parts=" ${BENCH_PARTS:-etcd query flight append get groups projection core ledger${quick:+ statements}} "
port="${BENCH_PORT:-18443}"
nodes="${BENCH_NODES:-3}"
etcd_port=$((port + 200))
nghttpd_port=$((port + 300))
size=600

scripts/setup.sh bench
say 'building for release'
swift build -c release --product ftnode 1>&2
swift build -c release --product bench 1>&2
bin="$(swift build -c release --show-bin-path)"

# Below .build and not in a temporary folder, which may be memory: syncs must reach the disk.
work="$(mktemp -d "$PWD/.build/bench.XXXXXX")"
results="$work/results.jsonl"
started=()
stop_all() {
  local pid
  for pid in "${started[@]:-}"; do [ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null || true; done
  for pid in "${started[@]:-}"; do [ -z "$pid" ] || wait "$pid" 2>/dev/null || true; done
  started=()
}
cleanup() {
  local rc=$?
  stop_all
  if [ "$rc" -ne 0 ] && [ "$rc" -ne 130 ]; then
    say "failed; logs and data stay in $work"
  else
    rm -rf "$work"
  fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM

wanted() { case "$parts" in *" $1 "*) return 0 ;; esac; return 1; }
client_options() {
  local count
  for count in $clients; do printf -- '--clients\n%s\n' "$count"; done
}
loop_options() { printf -- '--seconds\n%s\n--warm-up\n%s\n--size\n%s\n--results\n%s\n' "$seconds" "$warm_up" "$size" "$results"; }

# whose, process ids…: memory in use, for the end of the report
note_memory() {
  local who="$1" total=0 pid kib
  shift
  for pid in "$@"; do
    kib="$(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status" 2>/dev/null || true)"
    total=$((total + ${kib:-0}))
  done
  echo "memory: $who, $((total / 1024 / ${of_nodes:-$#})) MiB a node" >>"$work/notes"
}

describe_machine() {
  local model synced count=300
  model="$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)"
  synced="$( { dd if=/dev/zero of="$work/synced" bs=700 count=$count oflag=dsync; } 2>&1 |
    awk -v n=$count '/copied/ { for (i = 1; i <= NF; i++) if ($i == "s,") printf "%.2f", $(i - 1) * 1000 / n }')"
  rm -f "$work/synced"
  echo "machine: ${model:-$(uname -m)}, $(nproc) cores, $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)," \
    "$(uname -sr), $(stat -f -c %T "$work"); one synced write of 700 bytes: ${synced:-?} ms"
  echo "versions: $(swift --version 2>/dev/null | sed -n 's/.*\(Swift version [0-9.]*\).*/\1/p' | head -n 1)," \
    "$( (etcd --version 2>/dev/null || echo 'no etcd') | head -n 1), $(nghttpd --version 2>/dev/null || echo 'no nghttpd')," \
    "load before: $(cut -d ' ' -f 1 /proc/loadavg)"
  echo "load: closed loops, ${seconds} s each after ${warm_up} s, values of $size bytes, TLS, every write synced by a majority"
}

# A CA and a certificate for 127.0.0.1, for the peers.
make_certificates() {
  local tls="$work/tls"
  mkdir -p "$tls"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$tls/ca.key" -out "$tls/ca.crt" -days 2 \
    -subj '/CN=bench CA' 2>/dev/null
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$tls/server.key" -out "$tls/server.csr" \
    -subj '/CN=bench' 2>/dev/null
  openssl x509 -req -in "$tls/server.csr" -CA "$tls/ca.crt" -CAkey "$tls/ca.key" -CAcreateserial -days 2 \
    -out "$tls/server.crt" \
    -extfile <(printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth') 2>/dev/null
}

run_etcd() {
  local tls="$work/tls" n api peer members='' endpoints=() processes=()
  for n in 1 2 3; do members+="${members:+,}m$n=https://127.0.0.1:$((etcd_port + n + 10))"; done
  for n in 1 2 3; do
    api="https://127.0.0.1:$((etcd_port + n))" peer="https://127.0.0.1:$((etcd_port + n + 10))"
    etcd --name "m$n" --data-dir "$work/etcd$n" --listen-client-urls "$api" --advertise-client-urls "$api" \
      --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "$members" \
      --initial-cluster-state new --quota-backend-bytes=8589934592 --log-level=error --logger=zap \
      --cert-file="$tls/server.crt" --key-file="$tls/server.key" --peer-cert-file="$tls/server.crt" \
      --peer-key-file="$tls/server.key" --peer-trusted-ca-file="$tls/ca.crt" --peer-client-cert-auth \
      >"$work/etcd$n.log" 2>&1 &
    started+=($!)
    processes+=(--process "$!")
    endpoints+=(--endpoint "127.0.0.1:$((etcd_port + n))")
  done
  mapfile -t options < <(client_options; loop_options)
  "$bin/bench" etcd "${endpoints[@]}" --ca "$tls/ca.crt" "${processes[@]}" "${options[@]}"
  note_memory 'etcd after the puts' "${started[@]}"
  stop_all
}

context="$work/ours/client.yaml"
# folder of the cluster, further options; default the cluster that all parts share
start_ours() {
  local tries=600 data="${1:-$work/ours}"
  [ "$#" -eq 0 ] || shift
  context="$data/client.yaml"
  rm -f "$context"
  "$bin/ftnode" dev --nodes "$nodes" --data "$data" --port "$port" "$@" >>"$work/ours.log" 2>&1 &
  started+=($!)
  while [ ! -s "$context" ]; do
    kill -0 "${started[-1]}" 2>/dev/null || fail "ftnode dev ended: $(tail -n 3 "$work/ours.log")"
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || fail "ftnode dev was not ready within a minute: $(tail -n 3 "$work/ours.log")"
    sleep 0.1
  done
}

run_query() {
  local file copy="$work/copy.duckdb"
  start_ours
  "$bin/bench" load --org bench-query --rows "$rows" --size "$size" --context "$context"
  "$bin/bench" query --org bench-query --rows-file "$work/rows.csv" --context "$context" --results "$results"
  stop_all
  # The only organization with rows so far has the largest columnar store.
  file="$(find "$work/ours" -name '*.duckdb' -printf '%s %p\n' | sort -n | tail -n 1 | cut -d ' ' -f 2-)"
  [ -n "$file" ] || fail "no columnar store below $work/ours"
  cp "$file" "$copy"
  if [ -e "$file.wal" ]; then cp "$file.wal" "$copy.wal"; fi
  "$bin/bench" duckdb --file "$copy" --rows-file "$work/rows.csv" --results "$results"
}

# The same table over Flight: ours, and from the memory of the C++ server in pyarrow. Ours first without kept answers,
# then with room for this one: then both servers have the answer in memory.
run_flight() {
  local table_rows=300000
  if [ -n "$quick" ]; then table_rows=5000; fi
  start_ours "$work/flight"
  "$bin/bench" load --org bench-flight --rows "$table_rows" --size "$size" --context "$context"
  read_flight flight
  stop_all
  FTNODE_QUERY_CACHE_MB=1024 start_ours "$work/flight"
  read_flight flight_kept
  stop_all
}

# name of the figures
read_flight() {
  local name="$1" token system out="$work/$1.json"
  token="$(sed -n 's/^token: *//p' "$context" | tr -d '"'"'")"
  .clients/bin/python Benchmarks/flight.py "$port" "$work/flight/pki/ca.pem" "$token" bench-flight \
    "$work/tls/server.crt" "$work/tls/server.key" >"$out" || fail "Benchmarks/flight.py failed"
  for system in ours pyarrow; do
    "$bin/bench" record --system "$system" --name "$name" --results "$results" \
      --rate "$(sed -n "s/.*\"${system/pyarrow/theirs}\": \([0-9.]*\).*/\1/p" "$out")"
  done
  echo "$name: $(cat "$out")" >>"$work/notes"
}

run_appends() {
  mapfile -t options < <(client_options; loop_options)
  "$bin/bench" appends --context "$context" "${options[@]}"
  mapfile -t options < <(loop_options)
  "$bin/bench" appends --context "$context" "${options[@]}" --clients 64 --any-node --name append_64_any
  "$bin/bench" appends --context "$context" "${options[@]}" --clients 64 --organizations 8 --name append_64_spread
  mapfile -t ours < <(pgrep -P "${started[-1]}" -x ftnode)
  if [ "${#ours[@]}" -gt 0 ]; then note_memory 'ours after the single appends' "${ours[@]}"; fi
  mapfile -t workers < <(for process in "${ours[@]}"; do pgrep -P "$process"; done)
  if [ "${#workers[@]}" -gt 0 ]; then of_nodes="${#ours[@]}" note_memory 'their workers' "${workers[@]}"; fi
  mapfile -t options < <(loop_options)
  # Batches twice: on the cluster that has taken all this, and on a new one, as etcd's puts meet a new etcd.
  "$bin/bench" appends --context "$context" "${options[@]}" --clients 8 --organizations 8 --batch 500 \
    --name append_batched_loaded
  stop_all
  start_ours "$work/new"
  "$bin/bench" appends --context "$context" "${options[@]}" --clients 8 --organizations 8 --batch 500 \
    --name append_batched
}

# Sets of statements over a log of events: one organization and all of them, beside DuckDB with the rows of all.
run_statements() {
  local count table_rows="${BENCH_ROWS:-1000000}" counts="${BENCH_ORGANIZATIONS:-8 200}" runs="${BENCH_RUNS:-5}" data options
  if [ -n "$quick" ]; then table_rows="${BENCH_ROWS:-6000}" counts="${BENCH_ORGANIZATIONS:-3}" runs=1; fi
  for count in $counts; do
    data="$work/log-$count"
    options=(--organizations "$count" --rows "$table_rows")
    start_ours "$data"
    "$bin/bench" log "${options[@]}" --context "$context" --results "$results"
    # Reference and cluster must not use the same files: the stores are copied while nobody has them open.
    stop_all
    "$bin/bench" reference --data "$data" --output "$work/reference" "${options[@]}"
    start_ours "$data"
    # One organization is the same whatever the number of the others: it is measured with the first.
    "$bin/bench" statements --queries Benchmarks/Queries --reference "$work/reference" "${options[@]}" --gather \
      $([ "$count" = "${counts%% *}" ] || echo --only-all) --runs "$runs" --warm-up-runs 1 --context "$context" \
      --results "$results" | tee -a "$work/notes" >&2
    stop_all
    rm -rf "$work/reference" "$data"
  done
}

# One group of a thousand under load, then all of them.
run_groups() {
  start_ours "$work/groups" --data-groups 1000
  mapfile -t options < <(loop_options)
  "$bin/bench" appends --context "$context" "${options[@]}" --clients 64 --name append_one_of_1000
  "$bin/bench" appends --context "$context" "${options[@]}" --clients 64 --organizations 1000 --name append_1000_groups
  stop_all
}

# One node: how far its columnar stores are behind while batches come at a fixed rate.
run_projection() {
  nodes=1 start_ours "$work/projection"
  "$bin/bench" projection --context "$context" --results "$results" --seconds "$seconds" --warm-up "$warm_up" --size "$size"
  stop_all
}

# system, name, streams, URL, header…: the rate that h2load reaches
h2load_rate() {
  local system="$1" name="$2" streams="$3" url="$4" out="$work/$1.$2.log"
  shift 4
  h2load -t 1 -c 8 -m "$streams" --duration="$(printf '%.0f' "$seconds")" --warm-up-time="$(printf '%.0f' "$warm_up")" \
    "$@" "$url" >"$out" 2>&1 || fail "h2load: $(tail -n 1 "$out")"
  "$bin/bench" record --system "$system" --name "$name" --results "$results" \
    --rate "$(sed -n 's/^finished in [^,]*, \([0-9.]*\) req\/s.*/\1/p' "$out")" \
    --errors "$(awk '/^requests:/ { for (i = 1; i <= NF; i++) if ($i ~ /^(failed|errored|timeout)/) n += $(i - 1) }
                     END { print n + 0 }' "$out")"
}

run_get() {
  local token served="$work/served" path=/v1/organizations/bench-get/records/1
  token="$(sed -n 's/^token: *//p' "$context" | tr -d '"'"'")"
  "$bin/bench" load --org bench-get --rows 1 --size "$size" --context "$context"
  mkdir -p "$served"
  "$bin/bench" fetch --path "$path" --output "$served/record" --context "$context"
  h2load_rate ours get 32 "https://127.0.0.1:$port$path" -H "authorization: Bearer $token"
  h2load_rate ours get_1 1 "https://127.0.0.1:$port$path" -H "authorization: Bearer $token"
  stop_all
  nghttpd -d "$served" "$nghttpd_port" "$work/tls/server.key" "$work/tls/server.crt" >"$work/nghttpd.log" 2>&1 &
  started+=($!)
  sleep 0.5
  h2load_rate nghttpd get 32 "https://127.0.0.1:$nghttpd_port/record"
  h2load_rate nghttpd get_1 1 "https://127.0.0.1:$nghttpd_port/record"
  stop_all
}

# Chain, tree, proofs, verification, scrub and packages, in one process on RocksDB; no node runs.
run_ledger() {
  local records=1000000 large=10000000
  if [ -n "$quick" ]; then records=20000 large=50000; fi
  "$bin/bench" ledger --folder "$work/ledger" --records "$records" --large "$large" --size "$size" --results "$results" \
    | tee -a "$work/notes" >&2
  rm -rf "$work/ledger"
}

: >"$results"
machine="$(describe_machine)"
command -v openssl >/dev/null && make_certificates || fail 'openssl is missing: apt-get install openssl'
if wanted etcd; then
  if command -v etcd >/dev/null; then run_etcd; else say 'etcd is missing (apt-get install etcd-server): no comparison of appends'; fi
fi
if wanted query; then run_query; fi
if wanted flight; then
  if [ -x .clients/bin/python ]; then run_flight; else say 'no .clients (scripts/setup.sh bench): no comparison of Flight'; fi
fi
if wanted statements; then run_statements; fi
if wanted append || wanted get; then start_ours; fi
if wanted append; then run_appends; fi
if wanted get; then
  if command -v h2load >/dev/null && command -v nghttpd >/dev/null; then
    run_get
  else
    say 'h2load or nghttpd is missing (apt-get install nghttp2-client nghttp2-server): no comparison of GET'
  fi
fi
if wanted groups; then
  stop_all
  run_groups
fi
stop_all
if wanted projection; then run_projection; fi
if wanted core; then "$bin/bench" core >>"$work/notes"; fi
if wanted ledger; then run_ledger; fi
echo
echo "$machine"
echo
if [ -s "$work/notes" ]; then cat "$work/notes"; fi
"$bin/bench" report --results "$results"
