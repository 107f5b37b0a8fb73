#!/usr/bin/env bash
# Rules that no compiler checks. Prints each breach as file:line:text and exits 1 if there is any.
#
#   scripts/check-rules.sh [ROOT]      ROOT: another checkout to look at (default: this one)
#
# A line may break a rule where its note says why: `task-owner:`, `sendable-ok:`, `ambient-ok:`.
set -uo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cd "${1:-$here/..}" || exit 2
rc=0

report() { # rule, matches
  [ -n "$2" ] || return 0
  printf 'rule: %s\n%s\n\n' "$1" "$2"
  rc=1
}
# Lines of Swift files below the given folders; comments and generated code do not count.
swift_lines() { # pattern, folders…
  local pattern="$1" folder folders=()
  shift
  for folder in "$@"; do [ -d "$folder" ] && folders+=("$folder"); done
  [ ${#folders[@]} -gt 0 ] || return 0
  grep -rnE "$pattern" "${folders[@]}" --include='*.swift' --exclude-dir=Generated --exclude-dir=.build |
    grep -vE '^[^:]+:[0-9]+: *//'
}
all_files() {
  find . \( -name .build -o -name '.build[-_]*' -o -name .git -o -name .clients -o -name .duckdb -o -name '.duckdb.tmp.*' \
    -o -name .flasktrack \) -prune -o -type f -not -name '*.log' -not -name Package.resolved \
    -not -path './scripts/check-rules.sh' -print0
}

report 'imports state an access level' "$(swift_lines '^(@[a-zA-Z]+ )*import ' Sources Benchmarks Simulator Chaos)"

adapter() { # module, its C modules as an expression
  swift_lines "^(@[a-zA-Z]+ )*(internal |private |fileprivate |package |public )?import ($2)\$" Sources Tests Benchmarks Simulator Chaos |
    grep -vE "^Sources/$1/"
}
report 'only the adapter imports its C library' "$(
  adapter RocksStorage CRocksDB
  adapter Columnar 'CDuckDB|CCompression'
  adapter Transport 'COpenSSL|CNGHTTP2'
)"

if command -v python3 >/dev/null; then
  report 'who may import whom (Documentation/decisions/0001-modules.md)' "$(python3 "$here/check-modules.py" .)"
else
  report 'who may import whom' 'python3 is needed to check this: apt-get install python3'
fi

report 'an unstructured task names its owner (task-owner:)' \
  "$(swift_lines '\bTask(\.detached|\.immediate|\.init)?(<.*>)? *(\(.*\) *)?\{' Sources Benchmarks Simulator Chaos |
     grep -vE 'task-owner:|(extension|struct|class|enum|actor) +Task\b')"

clock='Date\(\)|Date\.now|(Continuous|Suspending)Clock(\(\)|\.now)|DispatchTime\.now|NIODeadline\.now|clock_gettime|gettimeofday'
chance='SystemRandomNumberGenerator|\.random\((in:.*)?\)|\.randomElement\(\)|\.shuffled\(\)|arc4random|UUID\(\)'
report 'ambient time or chance (ambient-ok:)' "$(swift_lines "($clock|$chance)" Sources Benchmarks Simulator Chaos | grep -vE 'ambient-ok:|using: ')"
report 'unchecked Sendable without a reason (sendable-ok:)' \
  "$(swift_lines '@unchecked Sendable|nonisolated\(unsafe\)' Sources Benchmarks Simulator Chaos | grep -v 'sendable-ok:')"
report 'no try!, as!, fatalError in sources' "$(swift_lines '\btry!|\bas!|\bfatalError\(' Sources)"
report 'nothing is left for later' \
  "$(grep -rnE '\b(TODO|FIXME|XXX)\b' Sources Tests Benchmarks Simulator Chaos scripts Makefile --exclude-dir=Generated \
     --exclude=check-rules.sh 2>/dev/null)"

report 'tests do not sleep' "$(swift_lines '\b(Task|Thread)\.sleep\b|\b(u|nano)?sleep\(|\.asyncAfter\(' Tests | grep -vE 'func sleep\(|sleep\(until:')"
report 'tests do not look at a real clock or use unseeded chance (ambient-ok:)' \
  "$(swift_lines "($clock|SystemRandomNumberGenerator|\.random\((in:.*)?\))" Tests | grep -vE 'ambient-ok:|using: ')"
report 'tests use Swift Testing' "$(swift_lines 'import XCTest' Tests)"

report 'a file has at most 800 lines' \
  "$(find Sources Tests Benchmarks Simulator Chaos -name '*.swift' -not -path '*/Generated/*' -exec awk 'END { if (NR > 800) print FILENAME ":" NR }' {} \; 2>/dev/null)"
report 'each module has an OVERVIEW.md' "$(
  for folder in Sources/*/; do
    case "$(basename "$folder")" in C[A-Z]* | ftnode) continue ;; esac
    [ -f "$folder/OVERVIEW.md" ] || echo "$folder"
  done
)"

hosts='pypi\.org|pythonhosted\.org|npmjs\.org|crates\.io|proxy\.golang\.org|rubygems\.org'
report 'no path of one machine, no host of a package registry' \
  "$(all_files | xargs -0 grep -nIE "(^|[^A-Za-z0-9_.~-])/(work|root|home)/|$hosts" 2>/dev/null |
     grep -v '/home/me\b')"

[ "$rc" -ne 0 ] || echo 'check-rules: all rules hold'
exit $rc
