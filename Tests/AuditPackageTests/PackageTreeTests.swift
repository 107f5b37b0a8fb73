import AuditLedger
import Primitives
import Storage
import Testing

@testable import AuditPackage

/// A replica held against a package file: which of the two was changed, where, and who says so.
struct PackageTreeTests {
    private func compare(
        _ fixture: PackageFixture,
        _ package: [UInt8],
        others: [SignedCheckpoint] = [],
        trust: PackageTrust? = nil
    ) throws -> (result: DescentResult, tree: PackageTree) {
        let tree = try PackageTree(PackageArray(package))
        let checkpoints = try tree.evidence(others: others, trust: try trust ?? PackageFixture.trust())
        let result = MerkleDescent.compare(
            try fixture.reader(),
            tree,
            organization: PackageFixture.organization,
            checkpoints: checkpoints.filter { tree.knows(size: $0.size) }
        )
        return (result, tree)
    }

    /// The same ledger with another record somewhere, and the chain after it.
    private func rewritten(records: Int, at sequence: Int) throws -> PackageFixture {
        var fixture = try PackageFixture(records: sequence - 1)
        try fixture.append(1, note: "as nobody planned")
        try fixture.append(records - sequence)
        return fixture
    }

    /// A package in whose bundles one record is another, and which says nothing of it.
    private func modified(_ package: [UInt8], at sequence: Int) throws -> [UInt8] {
        var loose = try LoosePackage(package)
        let size = try PackageTree(PackageArray(package)).size
        let path = try #require(TilePath.bundle(index: UInt64((sequence - 1) / 256), size: size)).text
        var entries = try loose.entries(path)
        let text = String(decoding: entries[(sequence - 1) % 256], as: UTF8.self)
        entries[(sequence - 1) % 256] = Array(text.replacing("planned", with: "unplanned").utf8)
        try loose.set(entries, at: path)
        try loose.repairManifest()
        return loose.packed()
    }

    @Test(arguments: [1, 255, 256, 257, 700]) func aSoundPackageAndASoundReplicaAgree(records: Int) throws {
        let fixture = try PackageFixture(records: records)
        let (result, tree) = try self.compare(fixture, try fixture.package())
        #expect(result.outcome == .equal)
        #expect(tree.lack == nil && tree.size == UInt64(records))
        #expect(tree.root(at: tree.size) == tree.checkpoint.checkpoint.root)
    }

    @Test func anOlderPackageIsAPrefixOfTheReplica() throws {
        var fixture = try PackageFixture(records: 300)
        let package = try fixture.package()
        try fixture.append(277)
        #expect(try self.compare(fixture, package).result.outcome == .prefix(shorter: .b))
    }

    @Test func aReplicaThatWasCutOffIsShorterThanThePackage() throws {
        let fixture = try PackageFixture(records: 577)
        let cut = try PackageFixture(records: 300)
        #expect(try self.compare(cut, try fixture.package()).result.outcome == .prefix(shorter: .a))
    }

    @Test(arguments: [1, 2, 256, 257, 512, 600]) func aModifiedPackageIsNamedWithItsRecord(sequence: Int) throws {
        let fixture = try PackageFixture(records: 600)
        let package = try self.modified(try fixture.package(), at: sequence)
        let (result, _) = try self.compare(fixture, package)
        #expect(result.outcome == .differs)
        #expect(result.difference?.sequence == SequenceNumber(UInt64(sequence)))
        #expect(result.difference?.verdict == .supports(.a, checkpointSize: 600))
        #expect(result.difference?.members == ["/after"])
        #expect(result.difference?.laterDiffering == 0)
    }

    @Test(arguments: [1, 2, 256, 257, 512, 600]) func aModifiedReplicaIsNamedWithItsRecord(sequence: Int) throws {
        let package = try PackageFixture(records: 600).package()
        let (result, _) = try self.compare(try self.rewritten(records: 600, at: sequence), package)
        #expect(result.outcome == .differs)
        #expect(result.difference?.sequence == SequenceNumber(UInt64(sequence)))
        #expect(result.difference?.verdict == .supports(.b, checkpointSize: 600))
        #expect(result.difference?.laterTotal == UInt64(600 - sequence))
    }

    @Test func aCheckpointThatTooFewSignedDecidesNothing() throws {
        let fixture = try PackageFixture(records: 40)
        let signed = try fixture.checkpoint(cosigners: [2])
        let package = try fixture.package { $0.checkpoint = signed }
        let other = try self.rewritten(records: 40, at: 7)
        #expect(try self.compare(other, package).result.difference?.verdict == .undecided)
        // A checkpoint from elsewhere decides for the replica.
        let newest = try other.checkpoint()
        let (result, _) = try self.compare(other, package, others: [newest])
        #expect(result.difference?.verdict == .supports(.a, checkpointSize: 40))
    }

    @Test func keysOfAnotherClusterDecideNothing() throws {
        let package = try PackageFixture(records: 40).package()
        let key = try PackageFixture.replicaKey(9, cluster: "elsewhere").verifierKey
        let trust = PackageTrust(keys: [PackageKey(key: key)])
        let (result, _) = try self.compare(try self.rewritten(records: 40, at: 7), package, trust: trust)
        #expect(result.difference?.verdict == .undecided)
        #expect(throws: PackageError.self) {
            try PackageTree(PackageArray(package)).evidence(others: [], trust: PackageTrust())
        }
    }

    @Test func historiesThatWereBothSignedAreAFork() throws {
        let package = try PackageFixture(records: 40).package()
        let other = try self.rewritten(records: 50, at: 7)
        let newest = try other.checkpoint()
        let (result, _) = try self.compare(other, package, others: [newest])
        #expect(result.difference?.verdict == .supportsBoth(checkpointSize: 50))
    }

    @Test func aTruncatedPackageIsReadAsFarAsItGoes() throws {
        let fixture = try PackageFixture(records: 600)
        var loose = try LoosePackage(try fixture.package())
        let last = try #require(TilePath.bundle(index: 2, size: 600)).text
        loose.remove(last)
        let (result, tree) = try self.compare(fixture, loose.packed())
        #expect(result.outcome == .prefix(shorter: .b))
        #expect(tree.lack == PackageTree.Lack(sequence: SequenceNumber(513), file: last))
        #expect(tree.root(at: 600) == nil)
        // Of a bundle that is cut the records before the cut are read.
        var shorter = try LoosePackage(try fixture.package())
        try shorter.set(Array(try shorter.entries(last).prefix(10)), at: last)
        let cut = try self.compare(fixture, shorter.packed())
        #expect(cut.result.outcome == .prefix(shorter: .b))
        #expect(cut.tree.lack == PackageTree.Lack(sequence: SequenceNumber(523), file: last))
    }

    @Test func aRecordThatWasTakenOutOfAPackageIsFound() throws {
        let fixture = try PackageFixture(records: 600)
        var loose = try LoosePackage(try fixture.package())
        let path = try #require(TilePath.bundle(index: 1, size: 600)).text
        var entries = try loose.entries(path)
        entries.remove(at: 43)
        try loose.set(entries, at: path)
        let (result, tree) = try self.compare(fixture, loose.packed())
        #expect(result.difference?.sequence == SequenceNumber(300))
        #expect(result.difference?.b.standing == .foreign)
        #expect(tree.lack?.sequence == SequenceNumber(512))
    }

    // MARK: Selections

    private func selection(_ fixture: PackageFixture, _ shown: [UInt64]) throws -> [UInt8] {
        try fixture.package { $0.selection = .ranges(PackageRequest.ranges(ofAscending: shown)) }
    }

    @Test func aFilteredPackageOfASoundReplicaAgreesAsAWhole() throws {
        var fixture = try PackageFixture(records: 700)
        let package = try self.selection(fixture, [5, 6, 300, 699])
        #expect(try self.compare(fixture, package).result.outcome == .equal)
        try fixture.append(40)
        #expect(try self.compare(fixture, package).result.outcome == .prefix(shorter: .b))
    }

    @Test func aChangeInWhatAFilteredPackageShowsIsNamed() throws {
        let package = try self.selection(try PackageFixture(records: 700), [5, 6, 300, 699])
        let (result, _) = try self.compare(try self.rewritten(records: 700, at: 300), package)
        #expect(result.difference?.sequence == SequenceNumber(300))
        #expect(result.difference?.verdict == .supports(.b, checkpointSize: 700))
        #expect(result.difference?.b.standing == .sound)
    }

    @Test func aChangeInWhatAFilteredPackageLeavesOutIsBounded() throws {
        let package = try self.selection(try PackageFixture(records: 700), [5, 6, 300, 699])
        let (result, _) = try self.compare(try self.rewritten(records: 700, at: 400), package)
        guard case .withheld(.b, let gap) = result.outcome else {
            Issue.record("\(result.outcome)")
            return
        }
        #expect(gap.first <= SequenceNumber(400) && gap.last >= SequenceNumber(400))
        #expect(gap.last.rawValue - gap.first.rawValue < 128)
        #expect(gap.verdict == .supports(.b, checkpointSize: 700))
    }

    @Test func aRecordBeforeAShownOneIsNamedByItsChecksumAlone() throws {
        let package = try self.selection(try PackageFixture(records: 700), [5, 300])
        let (result, _) = try self.compare(try self.rewritten(records: 700, at: 299), package)
        #expect(result.difference?.sequence == SequenceNumber(299))
        #expect(result.difference?.b.standing == .unread)
        #expect(result.difference?.verdict == .supports(.b, checkpointSize: 700))
    }

    @Test func aModifiedRecordOfAFilteredPackageIsNamed() throws {
        let fixture = try PackageFixture(records: 700)
        var loose = try LoosePackage(try self.selection(fixture, [5, 300]))
        let text = String(decoding: loose["records/000000.ndjson"], as: UTF8.self)
        loose["records/000000.ndjson"] = Array(text.replacing("r-300\"", with: "r-301\"").utf8)
        try loose.repairManifest()
        let (result, _) = try self.compare(fixture, loose.packed())
        #expect(result.difference?.sequence == SequenceNumber(300))
        #expect(result.difference?.verdict == .supports(.a, checkpointSize: 700))
    }

    @Test func aFilteredPackageThatAShorterReplicaCannotBeHeldAgainstSaysSo() throws {
        let package = try self.selection(try PackageFixture(records: 700), [5, 300])
        let (result, _) = try self.compare(try PackageFixture(records: 450), package)
        guard case .unavailable(.b, let reason) = result.outcome else {
            Issue.record("\(result.outcome)")
            return
        }
        #expect(reason.contains("some records only"))
    }
}
