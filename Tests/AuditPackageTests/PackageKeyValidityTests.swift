import AuditLedger
import Primitives
import Storage
import Testing

@testable import AuditPackage

/// Keys that were rotated, retired or lost: what they signed while they were valid counts, and nothing else.
struct PackageKeyValidityTests {
    /// The record after which keys change; record n is recorded n seconds after the start.
    private static let change = 40

    private static func time(_ second: Int) -> Timestamp {
        Timestamp(microseconds: PackageFixture.startedAt.rawValue + Int64(second) * 1_000_000)
    }

    private static var second: UInt64 { UInt64(PackageFixture.startedAt.rawValue / 1_000_000) }

    /// Nodes 1 to 3 began with the keys of the same seeds; node 2 got another one (seed 12) at the change.
    private static func signer(_ node: Int, seed: Int) throws -> NoteSignerKey {
        try NoteSignerKey(
            name: NoteKeyName("\(PackageFixture.cluster)/node-\(node)"),
            type: .cosignature,
            seed: PackageFixture.seed(seed)
        )
    }

    /// What the cluster publishes after the change, with the sizes of a ledger.
    private static func keys(overlap: Int = 0, fixture: PackageFixture) throws -> [PackageKey] {
        let from = PackageFixture.startedAt
        let origin = try PackageFixture.origin()
        let plain = [
            PackageKey(key: try self.signer(1, seed: 1).verifierKey, validFrom: from),
            PackageKey(
                key: try self.signer(2, seed: 2).verifierKey,
                validFrom: from,
                validTo: self.time(self.change + overlap)
            ),
            PackageKey(key: try self.signer(2, seed: 12).verifierKey, validFrom: self.time(self.change)),
            PackageKey(key: try self.signer(3, seed: 3).verifierKey, validFrom: from),
        ]
        let reader = try fixture.reader()
        return try plain.map { try $0.bounded(by: reader, origin: origin, size: fixture.appender.head.size) }
    }

    /// A checkpoint at a size; each of `cosigners` is a node with the seed of its key and the second that it names.
    private static func sign(
        _ fixture: PackageFixture,
        size: Int,
        log: Int,
        _ cosigners: [(node: Int, seed: Int, second: Int)]
    ) throws -> SignedCheckpoint {
        let origin = try PackageFixture.origin()
        let root = try fixture.reader().root(at: UInt64(size))
        var signed = try SignedCheckpoint(Checkpoint(origin: origin, size: UInt64(size), root: root))
        try signed.sign(try PackageFixture.logKey(log, origin: origin))
        for (node, seed, second) in cosigners {
            try signed.cosign(try self.signer(node, seed: seed), timeSeconds: self.second + UInt64(second))
        }
        return signed
    }

    private static func report(
        _ fixture: PackageFixture,
        _ checkpoint: SignedCheckpoint,
        _ keys: [PackageKey]
    ) async throws -> PackageReport {
        let package = try fixture.package {
            $0.checkpoint = checkpoint
            $0.keys = keys
        }
        return try await verify(package, PackageTrust(keys: keys))
    }

    @Test func aPackageFromBeforeTheRotationIsValidAfterIt() async throws {
        let fixture = try PackageFixture(records: 100)
        let keys = try Self.keys(fixture: fixture)
        let before = try Self.sign(fixture, size: 30, log: 2, [(1, 1, 30), (2, 2, 30)])
        #expect(try await Self.report(fixture, before, keys).exit == .valid)
    }

    @Test func aPackageFromTheOverlapIsSignedByBothKeys() async throws {
        let fixture = try PackageFixture(records: 100)
        let keys = try Self.keys(overlap: 20, fixture: fixture)
        let during = try Self.sign(fixture, size: 50, log: 12, [(1, 1, 50), (2, 2, 50), (2, 12, 50)])
        #expect(try await Self.report(fixture, during, keys).exit == .valid)
        // Two keys of one node are one signer.
        let alone = try Self.sign(fixture, size: 50, log: 12, [(2, 2, 50), (2, 12, 50)])
        #expect(try await Self.report(fixture, alone, keys).exit == .policyNotMet)
    }

    @Test func aPackageFromAfterTheRotationNeedsTheNewKey() async throws {
        let fixture = try PackageFixture(records: 100)
        let keys = try Self.keys(fixture: fixture)
        let after = try Self.sign(fixture, size: 100, log: 12, [(1, 1, 100), (2, 12, 100)])
        #expect(try await Self.report(fixture, after, keys).exit == .valid)
        let old = try Self.sign(fixture, size: 100, log: 12, [(1, 1, 100), (2, 2, 100)])
        #expect(try await Self.report(fixture, old, keys).exit == .policyNotMet)
    }

    /// Whoever finds a lost key writes any time into a signature; the tree was not so large then.
    @Test func aLostKeyCannotSignALaterTreeWithAnEarlierTime() async throws {
        let fixture = try PackageFixture(records: 100)
        let keys = try Self.keys(fixture: fixture)
        let forged = try Self.sign(fixture, size: 100, log: 1, [(1, 1, 100), (2, 2, 30)])
        let report = try await Self.report(fixture, forged, keys)
        #expect(report.exit == .policyNotMet)
        #expect(report.checkpointVerdict.findings.contains { $0.kind == .keyNotValid })
        // By time alone it would count.
        let timeOnly = keys.map { PackageKey(key: $0.key, validFrom: $0.validFrom, validTo: $0.validTo) }
        #expect(try await Self.report(fixture, forged, timeOnly).exit == .valid)
    }

    @Test func aLostKeyCannotSignALaterTreeAsTheLog() async throws {
        let fixture = try PackageFixture(records: 100)
        let keys = try Self.keys(fixture: fixture)
        let forged = try Self.sign(fixture, size: 100, log: 2, [(1, 1, 100), (3, 3, 100)])
        let report = try await Self.report(fixture, forged, keys)
        #expect(report.exit == .policyNotMet)
        #expect(report.checkpointVerdict.findings.contains { $0.kind == .noLogSignature })
        let early = try Self.sign(fixture, size: 30, log: 2, [(1, 1, 30), (3, 3, 30)])
        #expect(try await Self.report(fixture, early, keys).exit == .valid)
    }

    @Test func aKeyThatWasLostLeavesTheOthersValid() async throws {
        let fixture = try PackageFixture(records: 100)
        // Nobody has the key of node 2 any more, and it has no other yet.
        let keys = try Self.keys(fixture: fixture).filter {
            $0.key.name.description != "\(PackageFixture.cluster)/node-2"
        }
        let all = try Self.keys(fixture: fixture)
        let without = try Self.sign(fixture, size: 100, log: 1, [(1, 1, 100), (3, 3, 100)])
        #expect(try await Self.report(fixture, without, all).exit == .valid)
        #expect(try await Self.report(fixture, without, keys).exit == .valid)
        let before = try Self.sign(fixture, size: 30, log: 2, [(1, 1, 30), (2, 2, 30), (3, 3, 30)])
        #expect(try await Self.report(fixture, before, all).exit == .valid)
    }

    @Test func sizesFollowFromTheTimesOfRecords() throws {
        let fixture = try PackageFixture(records: 100)
        let keys = try Self.keys(overlap: 20, fixture: fixture)
        // Five seconds for clocks that differ, at both ends.
        #expect(keys[0].bounds?.sizes == 0...MerkleTree.sizeMax)
        #expect(keys[1].bounds?.sizes == 0...65)
        #expect(keys[2].bounds?.sizes == 35...MerkleTree.sizeMax)
        // A key that ends behind the last record may sign what comes.
        let short = try PackageFixture(records: 50)
        #expect(try Self.keys(overlap: 20, fixture: short)[1].bounds?.sizes == 0...MerkleTree.sizeMax)
        let reader = try fixture.reader()
        for (second, size) in [(-1, UInt64(0)), (0, 0), (1, 1), (50, 50), (100, 100), (1000, 100)] {
            #expect(try reader.size(recordedUpTo: Self.time(second), of: 100) == size)
        }
    }

    @Test func sizesOfAnotherLogSayNothing() throws {
        let key = try PackageFixture.replicaKey(1).verifierKey
        let origin = try PackageFixture.origin()
        let other = try LogOrigin(cluster: PackageFixture.cluster, organization: OrganizationKey("south-lab")!)
        let bounded = PackageKey(key: key, bounds: .init(origin: origin, sizes: 3...9))
        #expect(try bounded.validity(for: origin).map(\.sizes) == [3...9, 3...9])
        #expect(try bounded.validity(for: other).map(\.sizes) == Array(repeating: 0...MerkleTree.sizeMax, count: 2))
    }

    @Test func aPackageCarriesItsKeysWithSizes() throws {
        let fixture = try PackageFixture(records: 100)
        let keys = try Self.keys(overlap: 20, fixture: fixture)
        let loose = try LoosePackage(
            try fixture.package {
                $0.keys = keys.map { PackageKey(key: $0.key, validFrom: $0.validFrom, validTo: $0.validTo) }
            }
        )
        let carried = try PackageKey.parse(loose[PackageLayout.keys])
        #expect(carried == keys)
        #expect(try PackageKey.parse(PackageKey.encode(carried)) == keys)
        #expect(String(decoding: loose[PackageLayout.keys], as: UTF8.self).contains(#""last_size":65"#))
    }

    @Test(arguments: [
        #"{"keys":[{"key":"KEY","first_size":1}]}"#,
        #"{"keys":[{"key":"KEY","first_size":9,"last_size":3}],"origin":"lab/a"}"#,
        #"{"keys":[{"key":"KEY","first_size":-1}],"origin":"lab/a"}"#,
        #"{"keys":[{"key":"KEY","last_size":"9"}],"origin":"lab/a"}"#,
        #"{"keys":[{"key":"KEY","last_size":9}],"origin":""}"#,
    ]) func sizesThatAreNoneAreRefused(text: String) throws {
        let key = String(decoding: try PackageFixture.replicaKey(1).verifierKey.text, as: UTF8.self)
        let bytes = Array(text.replacing("KEY", with: key).utf8)
        #expect(throws: PackageError.self) { try PackageKey.parse(bytes) }
    }
}
