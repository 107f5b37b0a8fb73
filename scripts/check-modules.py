"""Checks Package.swift and the imports of Sources/ against the table of who may import whom.

usage: check-modules.py [ROOT]     prints one breach a line; nothing when all is well
"""

import json
import pathlib
import re
import subprocess
import sys

NIO = {"NIOCore", "NIOPosix", "NIOHTTP1", "NIOConcurrencyHelpers", "NIOFoundationCompat", "HTTPTypes"}
OPERATIONS = {
    "Logging", "Metrics", "CoreMetrics", "ServiceLifecycle", "UnixSignals", "Yams", "X509", "SwiftASN1", "SwiftProtobuf",
}
CORE = {
    "Primitives", "Storage", "Consensus", "AuditLedger", "AuditPackage", "Laboratory", "Shards", "Columnar",
    "QueryRouter",
}

# What a target may depend on and its files may import, beside the standard library and Foundation.
ALLOWED = {
    "CRocksDB": set(),
    "COpenSSL": set(),
    "CNGHTTP2": set(),
    "CDuckDB": set(),
    "CCompression": set(),
    "CJemalloc": set(),
    "CEditline": set(),
    "CChecksum": set(),
    "CSandbox": set(),
    "Primitives": set(),
    "Laboratory": {"Primitives"},
    "Storage": {"Primitives"},
    "RocksStorage": {"Primitives", "Storage", "CRocksDB"},
    "Consensus": {"Primitives", "Storage", "CChecksum"},
    "AuditLedger": {"Primitives", "Storage", "CChecksum", "Crypto"},
    "AuditPackage": {"Primitives", "Storage", "AuditLedger", "Crypto"},
    "Shards": {"Primitives", "Storage", "Consensus", "AuditLedger", "Laboratory", "Crypto"},
    "Columnar": {"Primitives", "CDuckDB", "CCompression"},
    "QueryRouter": {"Primitives", "Columnar"},
    "Transport": {"Primitives", "COpenSSL", "CNGHTTP2"} | NIO,
    "NodeRuntime": CORE | {"RocksStorage", "Transport", "CJemalloc", "CSandbox", "Crypto"} | NIO | OPERATIONS,
    "ftnode": {
        "Primitives", "AuditPackage", "NodeRuntime", "CEditline", "ArgumentParser", "Logging", "Crypto", "HTTPTypes",
        "NIOCore",
    },
    "ftverify": {"Primitives", "AuditPackage", "ArgumentParser"},
    "bench": {
        "Primitives", "Storage", "RocksStorage", "Consensus", "AuditLedger", "AuditPackage", "Shards", "Transport",
        "Columnar", "ArgumentParser", "Crypto",
    } | NIO,
    "simulator": {"Primitives", "Storage", "Consensus", "AuditLedger", "Laboratory", "Shards", "ArgumentParser"},
    "Linearizability": set(),
    "chaos": {"Primitives", "NodeRuntime", "Linearizability", "ArgumentParser", "Crypto", "HTTPTypes", "NIOCore"},
}
SYSTEM = {
    "Swift", "Foundation", "FoundationEssentials", "FoundationNetworking", "Dispatch", "Synchronization", "Glibc",
    "Musl", "Testing", "_Concurrency", "Observation", "RegexBuilder", "Darwin",
}
IMPORT = re.compile(
    r"^(?:@\w+(?:\([^)]*\))?\s+)*(?:(?:internal|private|fileprivate|package|public)\s+)?import\s+"
    r"(?:(?:struct|class|enum|protocol|typealias|func|let|var)\s+)?(\w+)"
)


def dependency_names(target):
    for dependency in target["dependencies"]:
        kind, value = next(iter(dependency.items()))
        if kind in ("byName", "target", "product"):
            yield value[0]


def check_manifest(root):
    out = subprocess.run(
        ["swift", "package", "--package-path", str(root), "dump-package"], capture_output=True, text=True
    )
    if out.returncode != 0:
        yield "Package.swift: swift package dump-package failed: " + (out.stderr.strip().splitlines() or ["?"])[-1]
        return
    for target in json.loads(out.stdout)["targets"]:
        name = target["name"]
        if target["type"] == "test" or name.endswith("TestKit"):
            continue
        if name not in ALLOWED:
            yield f"Package.swift: target {name} is not in the table of scripts/check-modules.py"
            continue
        for extra in sorted(set(dependency_names(target)) - ALLOWED[name]):
            yield f"Package.swift: {name} may not depend on {extra}"


def check_imports(root):
    folders = {name: root / "Sources" / name for name in ALLOWED}
    folders["bench"] = root / "Benchmarks" / "Bench"
    folders["simulator"] = root / "Simulator"
    folders["Linearizability"] = root / "Chaos" / "Linearizability"
    folders["chaos"] = root / "Chaos" / "Harness"
    for name, folder in folders.items():
        for path in sorted(folder.rglob("*.swift")):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                match = IMPORT.match(line)
                if match and match[1] not in ALLOWED[name] | SYSTEM:
                    yield f"{path.relative_to(root)}:{number}: {name} may not import {match[1]}"
    sources = root / "Sources"
    for folder in sorted(sources.iterdir()) if sources.is_dir() else []:
        if folder.is_dir() and folder.name not in ALLOWED:
            yield f"Sources/{folder.name}: not in the table of scripts/check-modules.py"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    for breach in [*check_manifest(root), *check_imports(root)]:
        print(breach)


main()
