internal import AuditLedger
internal import AuditPackage
internal import Foundation
internal import Primitives
internal import RocksStorage

/// A package of a whole ledger: made, and verified as `ftverify` does.
struct LedgerPackageSpeed {
    let ledger: LedgerFolder
    let path: String

    private static let cluster = "bench-cluster"
    private static let nodes = [1, 2, 3]
    private static let madeAt = Timestamp(microseconds: 1_790_000_000_000_000)
    private static let rounds = 3

    func measure(into results: String) async throws {
        let clock = ContinuousClock()  // ambient-ok: a benchmark measures time
        let begin = clock.now
        let bytes = try self.write()
        let made = (clock.now - begin) / .milliseconds(1)
        try Measurement(system: "ours", name: "ledger_package_made", milliseconds: made).record(in: results)
        var times: [Double] = []
        for _ in 0..<Self.rounds {
            let begin = clock.now
            let report = try await PackageVerifier(trust: PackageTrust(keys: try Self.keys()))
                .verify(try PackageFile(path: self.path))
            times.append((clock.now - begin) / .milliseconds(1))
            guard report.exit == .valid else {
                throw BenchError(.unexpectedAnswer, "the package was refused: \(report.findings)")
            }
        }
        try Measurement(system: "ours", name: "ledger_package_verified", milliseconds: times.sorted()[1])
            .record(in: results)
        print("ledger: a package of \(bytes / 1_000_000) MB")
        try FileManager.default.removeItem(atPath: self.path)
    }

    private func write() throws -> Int {
        let reader = try self.ledger.reader()
        let organization = try LedgerFolder.organizationKey()
        let origin = try LogOrigin(cluster: Self.cluster, organization: organization)
        let size = try reader.head().size
        var signed = try SignedCheckpoint(Checkpoint(origin: origin, size: size, root: try reader.root(at: size)))
        try signed.sign(try Self.logKey(1, origin))
        for node in Self.nodes { try signed.cosign(try Self.replicaKey(node), timeSeconds: 1_790_000_000) }
        var request = PackageRequest(
            cluster: Self.cluster,
            organization: organization,
            checkpoint: signed,
            policy: try TrustPolicy.cluster(
                logs: try Self.nodes.map { try Self.logKey($0, origin).verifierKey },
                replicas: try Self.nodes.map { try Self.replicaKey($0).verifierKey },
                replicasNeeded: 2
            ),
            keys: try Self.keys(),
            exportedBy: Actor(kind: .user, id: "auditor"),
            exportedAt: Self.madeAt,
            node: "node-1"
        )
        request.manifestSigner = try Self.replicaKey(1, .ed25519)
        guard FileManager.default.createFile(atPath: self.path, contents: nil),
            let file = FileHandle(forWritingAtPath: self.path)
        else { throw BenchError(.badInput, "cannot write \(self.path)") }
        defer { try? file.close() }
        var export = try PackageExport(request, reader: reader)
        var bytes = 0
        while let piece = try export.next() {
            bytes += piece.count
            try file.write(contentsOf: Data(piece))
        }
        return bytes
    }

    // MARK: Keys

    private static func seed(_ node: Int) -> [UInt8] { (0..<32).map { UInt8(($0 * 5 + node * 17) & 255) } }

    private static func logKey(_ node: Int, _ origin: LogOrigin) throws -> NoteSignerKey {
        try NoteSignerKey(name: origin.keyName, type: .ed25519, seed: self.seed(node))
    }

    private static func replicaKey(
        _ node: Int,
        _ type: NoteSignatureType = .cosignature
    ) throws -> NoteSignerKey {
        try NoteSignerKey(name: NoteKeyName("\(self.cluster)/node-\(node)"), type: type, seed: self.seed(node))
    }

    private static func keys() throws -> [PackageKey] {
        try self.nodes.map { PackageKey(key: try self.replicaKey($0).verifierKey, validFrom: self.madeAt) }
    }
}
