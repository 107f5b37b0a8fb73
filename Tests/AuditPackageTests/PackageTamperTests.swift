import AuditLedger
import Primitives
import Storage
import Testing

@testable import AuditPackage

/// What a forger may do to a package, and what the verifier must call it; each also with a manifest that was made anew.
@Suite struct PackageTamperTests {
    /// A way to change a package of 600 records: full, or the records 100…110 and 300…310 of it.
    struct Forgery: CustomTestStringConvertible, Sendable {
        let name: String
        var selection = false
        let kind: PackageFinding.Kind
        var sequence: UInt64?
        var exit = PackageReport.Exit.tampered
        /// Also to be found when the manifest was not repaired.
        var plain = true
        let change: @Sendable (inout LoosePackage) throws -> Void

        var testDescription: String { self.name }
    }

    private static let first = "tile/entries/000"
    private static let second = "tile/entries/001"
    private static let tail = "tile/entries/002.p/88"

    static func reword(_ record: [UInt8]) -> [UInt8] {
        Array(String(decoding: record, as: UTF8.self).replacing("as planned", with: "as wished").utf8)
    }

    /// Another organization's record for the same place.
    static func foreign() throws -> [UInt8] {
        var appender = LedgerAppender(head: LedgerHead(empty: OrganizationID(9)))
        var batch = WriteBatch()
        let draft = try PackageFixture.draft(1, organization: OrganizationKey("south-lab")!)
        return appender.append(draft, stampedAt: PackageFixture.startedAt, into: &batch).bytes
    }

    static let forgeries: [Forgery] = [
        Forgery(name: "a record is changed", kind: .modified, sequence: 300) { package in
            var entries = try package.entries(second)
            entries[43] = reword(entries[43])
            try package.set(entries, at: second)
        },
        Forgery(name: "a record of the last bundle is changed", kind: .modified, sequence: 513) { package in
            var entries = try package.entries(tail)
            entries[0] = reword(entries[0])
            try package.set(entries, at: tail)
        },
        Forgery(name: "a record is removed", kind: .missing, sequence: 300, exit: .incomplete) { package in
            var entries = try package.entries(second)
            entries.remove(at: 43)
            try package.set(entries, at: second)
        },
        Forgery(name: "two records change places", kind: .reordered, sequence: 100) { package in
            var entries = try package.entries(first)
            entries.swapAt(99, 100)
            try package.set(entries, at: first)
        },
        Forgery(name: "the tail is cut off", kind: .truncated, sequence: 596, exit: .incomplete) { package in
            try package.set(Array(try package.entries(tail).prefix(83)), at: tail)
        },
        Forgery(name: "the last bundle is removed", kind: .truncated, sequence: 513, exit: .incomplete) {
            $0.remove(tail)
        },
        Forgery(name: "a bundle is removed", kind: .missing, sequence: 257, exit: .incomplete) { $0.remove(second) },
        Forgery(name: "a bundle is cut inside a record", kind: .modified, sequence: 512) { package in
            package[second].removeLast(3)
        },
        Forgery(name: "a record is added at the end", kind: .unsigned, sequence: 601) { package in
            let entries = try package.entries(tail)
            try package.set(entries + [entries[87]], at: tail)
        },
        Forgery(name: "a record of another organization", kind: .foreign, sequence: 7) { package in
            var entries = try package.entries(first)
            entries[6] = try foreign()
            try package.set(entries, at: first)
        },
        Forgery(name: "a record is no longer canonical", kind: .modified, sequence: 7) { package in
            var entries = try package.entries(first)
            entries[6].insert(0x20, at: 1)
            try package.set(entries, at: first)
        },
        Forgery(name: "a record and its tile are changed", kind: .brokenChain, sequence: 102) { package in
            var entries = try package.entries(first)
            entries[100] = reword(entries[100])
            try package.set(entries, at: first)
            package["tile/0/000"] = entries.flatMap { LedgerHash.leaf($0).bytes }
        },
        Forgery(name: "a record and all tiles above it are changed", kind: .brokenChain, sequence: 102) { package in
            var entries = try package.entries(first)
            entries[100] = reword(entries[100])
            try package.set(entries, at: first)
            let leaves = entries.map { LedgerHash.leaf($0) }
            package["tile/0/000"] = leaves.flatMap(\.bytes)
            package["tile/1/000.p/2"] = BundleCheck.root(leaves).bytes + package["tile/1/000.p/2"].suffix(32)
        },
        Forgery(name: "a history that was written anew", kind: .rewritten) { package in
            let other = try LoosePackage(try PackageTamperTests.rewritten().package())
            for member in other.members where member.name.hasPrefix("tile/") { package[member.name] = member.bytes }
        },
        Forgery(name: "a tile of level 0 is changed", kind: .proofMismatch) { $0["tile/0/001"][40] ^= 1 },
        Forgery(name: "a partial tile of level 0 is changed", kind: .proofMismatch) { $0["tile/0/002.p/88"][40] ^= 1 },
        Forgery(name: "a tile of level 1 is changed", kind: .proofMismatch) { $0["tile/1/000.p/2"][40] ^= 1 },
        Forgery(name: "a tile is removed", kind: .missing, exit: .incomplete) { $0.remove("tile/0/001") },
        Forgery(name: "the upper tile is removed", kind: .missing, exit: .incomplete) { $0.remove("tile/1/000.p/2") },
        Forgery(name: "an old head is put in place", kind: .manifestMismatch) { package in
            package[PackageLayout.checkpoint] = try PackageFixture(records: 590).checkpoint().encoded
        },
        Forgery(name: "a root is put into the checkpoint", kind: .wrongSignature) { package in
            let signed = try SignedCheckpoint(parsing: package[PackageLayout.checkpoint])
            let forged = Checkpoint(origin: signed.checkpoint.origin, size: 600, root: Digest(words: (9, 9, 9, 9)))
            package[PackageLayout.checkpoint] = forged.text + signed.encoded.dropFirst(signed.note.text.count)
        },
        Forgery(name: "one cosignature is spoiled", kind: .wrongSignature) { package in
            var bytes = package[PackageLayout.checkpoint]
            bytes[bytes.count - 20] = bytes[bytes.count - 20] == 0x41 ? 0x42 : 0x41
            package[PackageLayout.checkpoint] = bytes
        },
        Forgery(name: "an extra file", kind: .extraFile) { $0["notes.txt"] = Array("trust me".utf8) },
        Forgery(name: "an extra tile", kind: .extraFile) { $0["tile/0/003"] = [UInt8](repeating: 7, count: 8192) },
        Forgery(name: "a record of a selection is changed", selection: true, kind: .modified, sequence: 105) {
            package in
            package["records/000000.ndjson"] = reword(package["records/000000.ndjson"], line: 5)
        },
        Forgery(
            name: "a record of a selection is removed",
            selection: true,
            kind: .missing,
            sequence: 105,
            exit: .incomplete
        ) {
            package in
            var lines = package["records/000000.ndjson"].split(separator: 10, omittingEmptySubsequences: false)
            lines.remove(at: 5)
            package["records/000000.ndjson"] = Array(lines.joined(separator: [10]))
        },
        Forgery(name: "two records of a selection change places", selection: true, kind: .reordered, sequence: 303) {
            package in
            var lines = package["records/000000.ndjson"].split(separator: 10, omittingEmptySubsequences: false)
            lines.swapAt(14, 15)
            package["records/000000.ndjson"] = Array(lines.joined(separator: [10]))
        },
        Forgery(name: "a record is added to a selection", selection: true, kind: .unsigned) { package in
            package["records/000000.ndjson"] += try foreign() + [10]
        },
        Forgery(name: "a hash of the outline is changed", selection: true, kind: .rewritten) { package in
            let outline = String(decoding: package["outline/000000.ndjson"], as: UTF8.self)
            let lines = outline.split(separator: "\n").map(String.init)
            let digit = lines[0].dropFirst(9).first == "0" ? "1" : "0"
            let changed = lines[0].prefix(9) + digit + lines[0].dropFirst(10)
            package["outline/000000.ndjson"] =
                Array(([String(changed)] + lines.dropFirst()).joined(separator: "\n").utf8) + [10]
        },
        Forgery(name: "the outline disowns a shown record", selection: true, kind: .manifestMismatch) { package in
            let outline = String(decoding: package["outline/000000.ndjson"], as: UTF8.self)
            let line = #""sequence":105,"shown":"#
            package["outline/000000.ndjson"] = Array(outline.replacing(line + "true", with: line + "false").utf8)
            var lines = package["records/000000.ndjson"].split(separator: 10, omittingEmptySubsequences: false)
            lines.remove(at: 5)
            package["records/000000.ndjson"] = Array(lines.joined(separator: [10]))
            package.remove("proofs/105.tlog-proof")
        },
        Forgery(name: "a line of the outline is removed", selection: true, kind: .proofMismatch) { package in
            let lines = package["outline/000000.ndjson"].split(separator: 10, omittingEmptySubsequences: false)
            package["outline/000000.ndjson"] = Array(lines.dropFirst(2).joined(separator: [10]))
        },
        Forgery(name: "a proof file of another record", selection: true, kind: .proofMismatch, sequence: 105) {
            package in
            package["proofs/105.tlog-proof"] = package["proofs/106.tlog-proof"]
        },
    ]

    static func reword(_ records: [UInt8], line: Int) -> [UInt8] {
        var lines = records.split(separator: 10, omittingEmptySubsequences: false).map { Array($0) }
        lines[line] = self.reword(lines[line])
        return Array(lines.joined(separator: [10]))
    }

    /// The same number of records, others, each following the one before.
    static func rewritten() throws -> PackageFixture {
        var fixture = try PackageFixture(records: 0)
        try fixture.append(1, note: "as wished")
        try fixture.append(599)
        return fixture
    }

    private static func package(_ forgery: Forgery) throws -> LoosePackage {
        try LoosePackage(
            try PackageFixture(records: 600).package {
                guard forgery.selection else { return }
                $0.selection = .ranges([100...110, 300...310])
                $0.filters = [JSONMember("action", .text("update"))]
            }
        )
    }

    @Test(arguments: forgeries)
    func namesWhatWasDone(forgery: Forgery) async throws {
        for isRepaired in [false, true] {
            var package = try Self.package(forgery)
            try forgery.change(&package)
            if isRepaired { try package.repairManifest() }
            let report = try await verify(package.packed())
            #expect(
                report.findings.contains {
                    $0.kind == forgery.kind
                        && (forgery.sequence.map { SequenceNumber($0) } == $0.sequence || forgery.sequence == nil)
                },
                "repaired \(isRepaired): \(report.findings)"
            )
            if let sequence = forgery.sequence {
                #expect(report.findings.first?.sequence == SequenceNumber(sequence), "\(report.findings)")
            }
            #expect(report.exit == forgery.exit, "repaired \(isRepaired): \(report.findings)")
        }
    }

    @Test func namesAChangedManifest() async throws {
        var package = try LoosePackage(try PackageFixture(records: 20).package())
        let text = String(decoding: package[PackageLayout.manifest], as: UTF8.self)
        package[PackageLayout.manifest] = Array(text.replacing("auditor-1", with: "auditor-2").utf8)
        let report = try await verify(package.packed())
        #expect(report.findings.map(\.kind) == [.wrongSignature])
        #expect(report.findings.first?.file == PackageLayout.manifestSignature)
        #expect(report.exit == .tampered)
    }

    /// Whoever strips the signature can say anything of exporter, time and filters.
    @Test func aManifestThatNobodyKnownHasSignedIsNotValid() async throws {
        let sound = try PackageFixture(records: 20).package()
        let before = try await verify(sound)
        #expect(before.exit == .valid && before.manifestIsVouchedFor, "\(before.findings)")
        var stripped = try LoosePackage(sound)
        stripped.remove(PackageLayout.manifestSignature)
        var renamed = try LoosePackage(sound)
        let note = String(decoding: renamed[PackageLayout.manifestSignature], as: UTF8.self)
        renamed[PackageLayout.manifestSignature] = Array(note.replacing("/node-1 ", with: "/node-7 ").utf8)
        for package in [stripped, renamed] {
            let report = try await verify(package.packed())
            #expect(report.isSound && report.policyIsMet, "\(report.findings)")
            #expect(report.exit == .policyNotMet && !report.manifestIsVouchedFor)
            #expect(!report.remarks.isEmpty)
        }
    }

    @Test func namesDamageToTheManifestsSignature() async throws {
        var bytes = try PackageFixture(records: 12).package()
        let note = try #require(bytes.firstRange(of: Array("flask-track-audit-manifest/1\n".utf8))?.upperBound)
        let key = try #require(bytes[note...].firstRange(of: Array("/node-1 ".utf8))?.upperBound)
        // The key's id: as damaged it is nobody's.
        bytes[key] = bytes[key] == UInt8(ascii: "A") ? UInt8(ascii: "B") : UInt8(ascii: "A")
        let report = try await verify(bytes)
        #expect(report.findings.map(\.kind) == [.changedFile] && report.exit == .tampered, "\(report.findings)")
        #expect(report.findings.first?.file == PackageLayout.manifestSignature)
    }

    @Test func namesAChangedReport() async throws {
        var package = try LoosePackage(try PackageFixture(records: 20).package())
        package[PackageLayout.report] += Array("<p>all is well</p>".utf8)
        let report = try await verify(package.packed())
        #expect(report.findings.map(\.kind) == [.changedFile])
        #expect(report.findings.first?.file == PackageLayout.report)
    }

    @Test func namesAnOldHeadWithItsOwnRecordsOnlyByWhatIsHeld() async throws {
        let fixture = try PackageFixture(records: 300)
        let old = try fixture.package { $0.checkpoint = try fixture.checkpoint(size: 250) }
        #expect(try await verify(old).exit == .valid)
        var trust = try PackageFixture.trust()
        trust.held = try fixture.checkpoint()
        #expect(try await verify(old, trust).findings.first?.kind == .truncated)
    }

    @Test func strippedSignaturesLeaveNothingToTrust() async throws {
        var package = try LoosePackage(try PackageFixture(records: 20).package())
        let lines = String(decoding: package[PackageLayout.checkpoint], as: UTF8.self).split(
            separator: "\n",
            omittingEmptySubsequences: false
        )
        // Without the log's own, then without most cosignatures.
        for kept in [[0, 1, 2, 3, 5, 6, 7], [0, 1, 2, 3, 4, 5]] {
            package[PackageLayout.checkpoint] = Array((kept.map { lines[$0] }.joined(separator: "\n") + "\n").utf8)
            try package.repairManifest()
            let report = try await verify(package.packed())
            #expect(report.exit == .policyNotMet, "\(report.findings)")
        }
    }

    @Test func namesAnEarlierCheckpointThatIsNotContinued() async throws {
        let fixture = try PackageFixture(records: 300)
        var package = try LoosePackage(try fixture.package { $0.earlier = try fixture.checkpoint(size: 100) })
        let other = Checkpoint(origin: try PackageFixture.origin(), size: 100, root: Digest(words: (1, 1, 1, 1)))
        package[PackageLayout.earlierCheckpoint] = try PackageFixture.sign(other).encoded
        try package.repairManifest()
        let report = try await verify(package.packed())
        #expect(report.findings.first?.kind == .fork)
        #expect(report.exit == .tampered)
    }

    @Test(arguments: [PackageLayout.manifest, PackageLayout.checkpoint])
    func isUnreadableWithoutItsHeart(name: String) async throws {
        var package = try LoosePackage(try PackageFixture(records: 20).package())
        package.remove(name)
        let bytes = package.packed()
        let error = await #expect(throws: PackageError.self) { try await verify(bytes) }
        #expect(error?.code == .missingPart)
    }
}
