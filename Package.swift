// swift-tools-version: 6.3
import Foundation
import PackageDescription

// DuckDB lives in `.duckdb` (made by scripts/setup.sh) or where FLASKTRACK_DUCKDB_PREFIX says.
let duckdbPrefix =
    ProcessInfo.processInfo.environment["FLASKTRACK_DUCKDB_PREFIX"] ?? Context.packageDirectory + "/.duckdb"
let duckdbIncludes = ["-Xcc", "-I\(duckdbPrefix)/include"]
/// The wheel's library wants the symbols of libpython at load time; an official libduckdb does not mind them.
let pythonLibrary =
    FileManager.default.fileExists(atPath: duckdbPrefix + "/needs-libpython")
    ? ["-Xlinker", "--no-as-needed", "-Xlinker", "-l:libpython3.11.so.1.0"] : []
let duckdbLinks =
    ["-L\(duckdbPrefix)/lib", "-Xlinker", "-rpath", "-Xlinker", "\(duckdbPrefix)/lib"]
    + pythonLibrary + ["-Xlinker", "--allow-shlib-undefined"]

let nodeSettings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableUpcomingFeature("InferIsolatedConformances"),
    .treatAllWarnings(as: .error),
    .unsafeFlags(["-cross-module-optimization", "-enforce-exclusivity=unchecked"], .when(configuration: .release)),
]
let cWrapperSettings: [SwiftSetting] = nodeSettings + [.strictMemorySafety()]
/// Whoever imports Columnar, even indirectly, needs DuckDB's header and library.
let columnarUserSettings: [SwiftSetting] = nodeSettings + [.unsafeFlags(duckdbIncludes)]
let columnarLinkerSettings: [LinkerSetting] = [.unsafeFlags(duckdbLinks)]

func nio(_ name: String) -> Target.Dependency { .product(name: name, package: "swift-nio") }
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let httpTypes: Target.Dependency = .product(name: "HTTPTypes", package: "swift-http-types")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let metrics: Target.Dependency = .product(name: "Metrics", package: "swift-metrics")
let lifecycle: Target.Dependency = .product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let unixSignals: Target.Dependency = .product(name: "UnixSignals", package: "swift-service-lifecycle")
let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let yams: Target.Dependency = .product(name: "Yams", package: "Yams")
let x509: Target.Dependency = .product(name: "X509", package: "swift-certificates")
let swiftASN1: Target.Dependency = .product(name: "SwiftASN1", package: "swift-asn1")
let protobuf: Target.Dependency = .product(name: "SwiftProtobuf", package: "swift-protobuf")

let overview = ["OVERVIEW.md"]

let package = Package(
    name: "flask-track",
    products: [
        .executable(name: "ftnode", targets: ["ftnode"]), .executable(name: "ftverify", targets: ["ftverify"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio.git", exact: "2.101.2"),
        .package(url: "https://github.com/apple/swift-crypto.git", exact: "4.5.2"),
        .package(url: "https://github.com/apple/swift-http-types.git", exact: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log.git", exact: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics.git", exact: "2.13.0"),
        .package(url: "https://github.com/apple/swift-argument-parser.git", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-certificates.git", exact: "1.21.1"),
        .package(url: "https://github.com/apple/swift-asn1.git", exact: "1.7.4"),
        .package(url: "https://github.com/apple/swift-protobuf.git", exact: "1.39.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle.git", exact: "2.13.0"),
        .package(url: "https://github.com/jpsim/Yams.git", exact: "6.2.2"),
    ],
    targets: [
        .systemLibrary(name: "CRocksDB", pkgConfig: "rocksdb", providers: [.apt(["librocksdb-dev"])]),
        .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CNGHTTP2", pkgConfig: "libnghttp2", providers: [.apt(["libnghttp2-dev"])]),
        .systemLibrary(name: "CJemalloc", pkgConfig: "jemalloc", providers: [.apt(["libjemalloc-dev"])]),
        .systemLibrary(name: "CEditline", pkgConfig: "libedit", providers: [.apt(["libedit-dev"])]),
        .systemLibrary(name: "CDuckDB"),
        .systemLibrary(name: "CCompression", providers: [.apt(["liblz4-dev", "libzstd-dev"])]),
        .systemLibrary(name: "CChecksum"),
        .systemLibrary(name: "CSandbox"),

        .target(name: "Primitives", exclude: overview, swiftSettings: nodeSettings),
        .target(name: "Storage", dependencies: ["Primitives"], exclude: overview, swiftSettings: nodeSettings),
        .target(
            name: "RocksStorage",
            dependencies: ["Primitives", "Storage", "CRocksDB"],
            exclude: overview,
            swiftSettings: cWrapperSettings
        ),
        .target(
            name: "Consensus",
            dependencies: ["Primitives", "Storage", "CChecksum"],
            exclude: overview,
            swiftSettings: nodeSettings
        ),
        .target(
            name: "AuditLedger",
            dependencies: ["Primitives", "Storage", "CChecksum", crypto],
            exclude: overview,
            swiftSettings: nodeSettings
        ),
        .target(
            name: "AuditPackage",
            dependencies: ["Primitives", "Storage", "AuditLedger", crypto],
            exclude: overview,
            swiftSettings: nodeSettings
        ),
        .target(name: "Laboratory", dependencies: ["Primitives"], exclude: overview, swiftSettings: nodeSettings),
        .target(
            name: "Shards",
            dependencies: ["Primitives", "Storage", "Consensus", "AuditLedger", "Laboratory", crypto],
            exclude: overview,
            swiftSettings: nodeSettings
        ),
        .target(
            name: "Columnar",
            dependencies: ["Primitives", "CDuckDB", "CCompression"],
            exclude: overview,
            swiftSettings: cWrapperSettings + [.unsafeFlags(duckdbIncludes)],
            linkerSettings: columnarLinkerSettings
        ),
        .target(
            name: "QueryRouter",
            dependencies: ["Primitives", "Columnar"],
            exclude: overview,
            swiftSettings: columnarUserSettings
        ),
        .target(
            name: "Transport",
            dependencies: [
                "Primitives", "COpenSSL", "CNGHTTP2",
                nio("NIOCore"), nio("NIOPosix"), nio("NIOHTTP1"), nio("NIOConcurrencyHelpers"), httpTypes,
            ],
            exclude: overview,
            swiftSettings: cWrapperSettings
        ),
        .target(
            name: "NodeRuntime",
            dependencies: [
                "Primitives", "Storage", "RocksStorage", "Consensus", "AuditLedger", "AuditPackage", "Laboratory",
                "Shards", "Columnar", "QueryRouter", "Transport", "CJemalloc", "CSandbox",
                nio("NIOCore"), nio("NIOPosix"), nio("NIOFoundationCompat"), httpTypes, logging, metrics, lifecycle,
                unixSignals, yams, x509, swiftASN1, crypto, protobuf,
            ],
            exclude: overview + [
                "Peers/audit.proto", "Peers/peer.proto", "Peers/checkpoints.proto", "Peers/history.proto",
                "Peers/queries.proto",
                "Peers/subjects.proto", "Flight/flight.proto", "Flight/flightsql.proto",
            ],
            swiftSettings: columnarUserSettings
        ),
        .executableTarget(
            name: "ftnode",
            dependencies: [
                "Primitives", "AuditPackage", "NodeRuntime", "CEditline", argumentParser, logging, crypto, httpTypes,
                nio("NIOCore"),
            ],
            swiftSettings: columnarUserSettings
        ),
        .executableTarget(
            name: "ftverify",
            dependencies: ["Primitives", "AuditPackage", argumentParser],
            exclude: overview,
            swiftSettings: nodeSettings
        ),
        .executableTarget(
            name: "bench",
            dependencies: [
                "Primitives", "Storage", "RocksStorage", "Consensus", "AuditLedger", "AuditPackage", "Shards",
                "Columnar",
                "Transport", argumentParser, crypto, httpTypes, nio("NIOCore"), nio("NIOPosix"),
                nio("NIOFoundationCompat"),
            ],
            path: "Benchmarks/Bench",
            swiftSettings: columnarUserSettings
        ),

        .executableTarget(
            name: "simulator",
            dependencies: [
                "Primitives", "Storage", "Consensus", "AuditLedger", "Laboratory", "Shards", argumentParser,
            ],
            path: "Simulator",
            exclude: ["OVERVIEW.md", "Scenarios/README.md", "Scenarios/Files"],
            swiftSettings: nodeSettings
        ),
        .target(
            name: "Linearizability",
            path: "Chaos/Linearizability",
            swiftSettings: nodeSettings
        ),
        .executableTarget(
            name: "chaos",
            dependencies: [
                "Primitives", "NodeRuntime", "Linearizability", argumentParser, crypto, httpTypes, nio("NIOCore"),
            ],
            path: "Chaos/Harness",
            swiftSettings: columnarUserSettings
        ),

        .target(
            name: "StorageTestKit",
            dependencies: ["Primitives", "Storage"],
            path: "Tests/StorageTestKit",
            swiftSettings: nodeSettings
        ),
        .testTarget(name: "PrimitivesTests", dependencies: ["Primitives"], swiftSettings: nodeSettings),
        .testTarget(
            name: "StorageTests",
            dependencies: ["Primitives", "Storage", "StorageTestKit"],
            swiftSettings: nodeSettings
        ),
        .testTarget(
            name: "RocksStorageTests",
            dependencies: ["Primitives", "Storage", "RocksStorage", "StorageTestKit"],
            swiftSettings: nodeSettings
        ),
        .testTarget(
            name: "ConsensusTests",
            dependencies: ["Primitives", "Storage", "Consensus"],
            swiftSettings: nodeSettings
        ),
        .testTarget(
            name: "AuditLedgerTests",
            dependencies: ["Primitives", "Storage", "AuditLedger", crypto],
            swiftSettings: nodeSettings
        ),
        .testTarget(
            name: "AuditPackageTests",
            dependencies: ["Primitives", "Storage", "AuditLedger", "AuditPackage", crypto],
            swiftSettings: nodeSettings
        ),
        .testTarget(name: "LaboratoryTests", dependencies: ["Primitives", "Laboratory"], swiftSettings: nodeSettings),
        .testTarget(
            name: "ShardsTests",
            dependencies: ["Primitives", "Storage", "Consensus", "AuditLedger", "Laboratory", "Shards"],
            swiftSettings: nodeSettings
        ),
        .testTarget(
            name: "ColumnarTests",
            dependencies: ["Primitives", "Columnar"],
            resources: [.copy("Golden")],
            swiftSettings: columnarUserSettings
        ),
        .testTarget(
            name: "QueryRouterTests",
            dependencies: ["Primitives", "Columnar", "QueryRouter"],
            swiftSettings: columnarUserSettings
        ),
        .testTarget(
            name: "TransportTests",
            dependencies: [
                "Primitives", "Transport", nio("NIOCore"), nio("NIOPosix"), nio("NIOEmbedded"), httpTypes,
            ],
            swiftSettings: nodeSettings
        ),
        .testTarget(
            name: "NodeRuntimeTests",
            dependencies: [
                "Primitives", "Storage", "Consensus", "AuditLedger", "Laboratory", "Shards", "Columnar", "QueryRouter",
                "Transport", "NodeRuntime", logging, metrics, x509, crypto, nio("NIOCore"), nio("NIOPosix"),
                nio("NIOEmbedded"), httpTypes, protobuf, lifecycle,
            ],
            swiftSettings: columnarUserSettings
        ),
        .testTarget(
            name: "SimulatorTests",
            dependencies: [
                "Primitives", "Storage", "Consensus", "AuditLedger", "Laboratory", "Shards", "simulator",
                argumentParser,
            ],
            swiftSettings: nodeSettings
        ),
        .testTarget(
            name: "LinearizabilityTests",
            dependencies: ["Primitives", "Linearizability"],
            swiftSettings: nodeSettings
        ),
        .testTarget(name: "ProjectTests", swiftSettings: nodeSettings),
        .testTarget(
            name: "ftnodeTests",
            dependencies: ["Primitives", "NodeRuntime", "ftnode", argumentParser],
            swiftSettings: columnarUserSettings
        ),
        .testTarget(
            name: "ClusterTests",
            dependencies: [
                "Primitives", "Storage", "RocksStorage", "AuditLedger", "Shards", "Columnar", "QueryRouter",
                "Transport",
                "NodeRuntime", "ftnode", logging, crypto, httpTypes, nio("NIOCore"), nio("NIOPosix"),
            ],
            swiftSettings: columnarUserSettings
        ),
    ]
)

// The fuzz target has libFuzzer's `main`, so it exists only for `make fuzz`, which compiles everything with coverage.
if ProcessInfo.processInfo.environment["FLASKTRACK_FUZZ"] != nil {
    package.targets.append(
        .executableTarget(
            name: "fuzz",
            dependencies: ["Primitives", "AuditLedger", "AuditPackage"],
            path: "Fuzz",
            exclude: ["README.md", "Corpus", "PackageCorpus"],
            swiftSettings: nodeSettings + [.unsafeFlags(["-parse-as-library"])]
        )
    )
}
