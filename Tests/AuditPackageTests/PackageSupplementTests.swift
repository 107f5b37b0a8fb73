import AuditLedger
import Foundation
import Primitives
import Testing

@testable import AuditPackage

/// Opened personal values, records about erasures, notes of re-readings and fork proofs in a package.
@Suite struct PackageSupplementTests {
    /// Ten records, two about people (11 and 12), and what their sealed values are.
    private struct Bench {
        var fixture: PackageFixture
        var openings: [PackageSupplement.Opening] = []

        init(records: Int = 10) throws {
            self.fixture = try PackageFixture(records: records)
            for (offset, subject) in ["p-1", "p-2"].enumerated() {
                let context = EventContext(
                    organization: PackageFixture.organization,
                    request: RequestInfo(id: "r", channel: .api),
                    defaultActor: Actor(kind: .user, id: "u-1"),
                    format: .second,
                    saltSeed: [UInt8](repeating: UInt8(offset), count: PersonalCommitment.saltBytes)
                )
                let event =
                    #"{"action":"create","entity_type":"patient","entity_id":"\#(subject)","#
                    + #""after":{"name":{"given":"Zoë"},"n/a~b":[1,2.5],"ward":"7"},"personal":["#
                    + #"{"path":"/after/name","subject":"\#(subject)"},"#
                    + #"{"path":"/after/n~1a~0b","subject":"\#(subject)"}]}"#
                let (draft, personal) = try EventDraft.parseSealing(Array(event.utf8), defaults: context)
                try self.fixture.append([draft])
                let sequence = self.fixture.appender.head.size
                self.openings += personal.map {
                    PackageSupplement.Opening(sequence: sequence, field: $0.field, value: $0.value, salt: $0.salt)
                }
            }
        }

        mutating func erase(_ subject: String) throws {
            try self.fixture.append(
                try PackageSupplement.erasureActions.map { action in
                    let event = #"{"action":"\#(action)","entity_type":"data_subject","entity_id":"\#(subject)"}"#
                    let context = EventContext(
                        organization: PackageFixture.organization,
                        request: RequestInfo(id: "r", channel: .system),
                        defaultActor: Actor(kind: .system, id: "node-1")
                    )
                    return try EventDraft.parse(Array(event.utf8), defaults: context)
                }
            )
        }

        func package(
            shown: [ClosedRange<UInt64>]? = nil,
            _ change: (inout PackageSupplement) throws -> Void
        ) throws -> [UInt8] {
            try self.fixture.package { request in
                try change(&request.supplement)
                guard let shown else { return }
                request.selection = .ranges(shown)
                request.filters = [JSONMember("action", .text("create"))]
            }
        }
    }

    private func findings(_ package: [UInt8]) async throws -> [PackageFinding] { try await verify(package).findings }

    // MARK: Openings

    @Test(arguments: [false, true])
    func opensValuesToWhichTheRecordsCommit(isSelection: Bool) async throws {
        let bench = try Bench(records: 300)
        let package = try bench.package(shown: isSelection ? [1...2, 301...302] : nil) { $0.openings = bench.openings }
        let report = try await verify(package)
        #expect(report.exit == .valid, "\(report.findings)")
        #expect(report.remarks.contains { $0.hasPrefix("4 personal values are opened") }, "\(report.remarks)")
        let text = String(decoding: try LoosePackage(package)[PackageLayout.openings], as: UTF8.self)
        #expect(text.contains(#""value":{"given":"Zoë"}"#))
    }

    @Test(arguments: ["value", "salt", "subject", "path", "sequence"])
    func namesTheRecordWhoseOpeningIsNotItsOwn(member: String) async throws {
        let bench = try Bench()
        let right = bench.openings[1]
        var salt = right.salt
        if member == "salt" { salt[0] ^= 1 }
        let wrong = PackageSupplement.Opening(
            sequence: member == "sequence" ? 12 : right.sequence,
            field: PersonalField(
                path: member == "path" ? "/after/ward" : right.field.path,
                subject: member == "subject" ? "p-2" : right.field.subject
            ),
            value: member == "value" ? Array("[1,2.6]".utf8) : right.value,
            salt: salt
        )
        let report = try await verify(bench.package { $0.openings = [bench.openings[0], wrong] })
        #expect(report.exit == .tampered)
        let finding = try #require(report.findings.first)
        #expect(report.findings.count == 1 && finding.kind == .openingMismatch, "\(report.findings)")
        #expect(finding.sequence == SequenceNumber(wrong.sequence))
        #expect(!finding.detail.contains("2.6"), "contents are nobody's business")
    }

    @Test func refusesOpeningsOfRecordsThatAreNotShown() async throws {
        let bench = try Bench()
        let package = try bench.package(shown: [1...11]) { $0.openings = bench.openings }
        let kinds = try await self.findings(package).map(\.kind)
        #expect(kinds == [.openingMismatch])
    }

    @Test func refusesLinesThatAreNoOpening() async throws {
        let bench = try Bench()
        var package = try LoosePackage(bench.package { $0.openings = bench.openings })
        package[PackageLayout.openings] = package[PackageLayout.openings].filter { $0 != UInt8(ascii: "s") }
        try package.repairManifest()
        #expect(try await self.findings(package.packed()).first?.kind == .openingMismatch)
    }

    // MARK: Erasures

    @Test func aPackageMadeBeforeAnErasureVerifiesAfterIt() async throws {
        var bench = try Bench()
        let before = try bench.package { $0.openings = bench.openings }
        let head = try bench.fixture.checkpoint()
        try bench.erase("p-1")
        try bench.fixture.append(20)
        // Sealed values and keys are gone; leaves, chain and proofs are what they were.
        let after = try bench.package { $0.erasures = [13, 14] }
        var trust = try PackageFixture.trust()
        trust.held = head
        for package in [before, after] {
            let report = try await verify(package, trust)
            #expect(report.exit == .valid, "\(report.findings)")
        }
        let report = try await verify(after, trust)
        #expect(report.remarks.contains { $0.hasPrefix("1 data subjects were erased") }, "\(report.remarks)")
        #expect(report.remarks.contains { $0.contains("continues the checkpoint of 12 records") })
        for package in [before, after] {
            let result = try self.python(package)
            #expect(result.status == 0, "\(result.output)")
        }
    }

    @Test func erasuresAreProvenWhereTheirRecordsAreNotShown() async throws {
        var bench = try Bench()
        try bench.erase("p-1")
        let package = try bench.package(shown: [3...4]) { $0.erasures = [13, 14] }
        let report = try await verify(package)
        #expect(report.exit == .valid, "\(report.findings)")
        let result = try self.python(package)
        #expect(result.status == 0, "\(result.output)")
    }

    @Test(arguments: ["record", "proof", "other"])
    func catchesAnErasureThatNeverWas(part: String) async throws {
        var bench = try Bench()
        try bench.erase("p-1")
        var package = try LoosePackage(
            bench.package(shown: [3...4]) { $0.erasures = part == "other" ? [5] : [13, 14] }
        )
        let text = String(decoding: package[PackageLayout.erasures], as: UTF8.self)
        let changed =
            switch part {
            case "record": text.replacing("p-1", with: "p-2")
            case "proof": text.replacing("index 12", with: "index 11")
            default: text
            }
        package[PackageLayout.erasures] = Array(changed.utf8)
        try package.repairManifest()
        let findings = try await self.findings(package.packed())
        #expect(!findings.isEmpty && findings.allSatisfy { $0.kind == .proofMismatch }, "\(findings)")
        let result = try self.python(package.packed())
        #expect(result.status == 1, "\(result.output)")
    }

    // MARK: Re-readings

    private func scrub(
        _ fixture: PackageFixture,
        size: UInt64,
        root: Digest? = nil,
        origin: String? = nil,
        node: Int = 1
    ) throws -> [UInt8] {
        let root = try root ?? fixture.reader().root(at: size)
        let lines = [
            "flasktrack/scrub/v1", try origin ?? PackageFixture.origin().description, "\(size)", root.hex,
            "2026-11-20T00:00:00.000000Z", "2026-11-21T00:00:00.000000Z", "sound",
        ]
        var note = try SignedNote(text: Array((lines.joined(separator: "\n") + "\n").utf8))
        try note.add(try PackageFixture.manifestKey(node).signature(over: note.text))
        return note.encoded
    }

    @Test func tellsWhoReadEverythingAgain() async throws {
        let fixture = try PackageFixture(records: 300)
        let package = try fixture.package { request in
            request.supplement.scrubs = [
                try self.scrub(fixture, size: 256), try self.scrub(fixture, size: 300, node: 9),
            ]
        }
        let report = try await verify(package)
        #expect(report.exit == .valid, "\(report.findings)")
        #expect(report.remarks.contains { $0.contains("node-1 read all 256 records again") }, "\(report.remarks)")
        #expect(report.remarks.contains { $0.contains("signed by nobody whose key is known") }, "\(report.remarks)")
        let other = try self.python(package)
        #expect(other.status == 0, "\(other.output)")
    }

    @Test func aReReadingOfAnotherHistoryIsAFork() async throws {
        let fixture = try PackageFixture(records: 300)
        for size in [256, 300] as [UInt64] {
            let note = try self.scrub(fixture, size: size, root: LedgerHash.leaf([1]))
            let package = try fixture.package { $0.supplement.scrubs = [note] }
            let findings = try await self.findings(package)
            #expect(findings.map(\.kind) == [.fork], "\(findings)")
            let other = try self.python(package)
            #expect(other.status == 1 && other.output.contains("another history was read"), "\(other.output)")
        }
        // Of a selection the same, where it shows a tree that ends there.
        let note = try self.scrub(fixture, size: 300, root: LedgerHash.leaf([1]))
        let selection = try fixture.package {
            $0.selection = .ranges([100...110])
            $0.filters = [JSONMember("action", .text("update"))]
            $0.supplement.scrubs = [note]
        }
        #expect(try self.python(selection).status == 1)
    }

    @Test func aReReadingThatIsForgedOrOfAnotherLogIsNamed() async throws {
        let fixture = try PackageFixture(records: 5)
        var forged = try self.scrub(fixture, size: 5)
        let place = try #require(forged.firstRange(of: Array("sound".utf8))?.lowerBound)
        forged[place] = UInt8(ascii: "S")
        let forgery = try fixture.package { $0.supplement.scrubs = [forged] }
        #expect(try await self.findings(forgery).map(\.kind) == [.wrongSignature])
        let named = try self.python(forgery)
        #expect(named.status == 1 && named.output.contains("wrong signature of"), "\(named.output)")
        let other = try self.scrub(fixture, size: 5, origin: "lab-cluster/south-lab")
        let foreign = try fixture.package { $0.supplement.scrubs = [other] }
        #expect(try await self.findings(foreign).map(\.kind) == [.proofMismatch])
        #expect(try self.python(foreign).status == 1)
    }

    // MARK: Forks

    private func fork(_ fixture: PackageFixture) throws -> [UInt8] {
        let right = try fixture.checkpoint()
        let tree = right.checkpoint
        let wrong = try PackageFixture.sign(
            Checkpoint(origin: tree.origin, size: tree.size, root: LedgerHash.leaf([7]))
        )
        return try ForkProof(right, wrong).encoded
    }

    @Test func aForkProofIsSaidFirstOfAll() async throws {
        let fixture = try PackageFixture(records: 5)
        let proof = try self.fork(fixture)
        let package = try fixture.package { $0.supplement.forks = [proof] }
        let report = try await verify(package)
        #expect(report.exit == .tampered)
        #expect(report.findings.map(\.kind) == [.fork], "\(report.findings)")
        let other = try self.python(package)
        #expect(other.status == 1 && other.output.contains("two histories are signed"), "\(other.output)")
    }

    /// A larger tree over another past: the proof brings what links both.
    @Test(arguments: [false, true])
    func aForkBetweenDifferentSizesIsSaidToo(isLinkWrong: Bool) async throws {
        let fixture = try PackageFixture(records: 7)
        let right = try fixture.checkpoint()
        let older = try PackageFixture.sign(
            Checkpoint(origin: right.checkpoint.origin, size: 5, root: LedgerHash.leaf([7]))
        )
        let link = try ForkProof.Link(
            root: fixture.reader().root(at: 5),
            path: ConsistencyProof.build(from: 5, to: 7, nodes: fixture.reader()).path
        )
        var proof = try ForkProof(older, right, link: link).encoded
        if isLinkWrong {
            let place = try #require(proof.firstRange(of: Array("path ".utf8))?.upperBound)
            proof[place] = proof[place] == UInt8(ascii: "A") ? UInt8(ascii: "B") : UInt8(ascii: "A")
        }
        let package = try fixture.package { $0.supplement.forks = [proof] }
        #expect(try await self.findings(package).map(\.kind) == [isLinkWrong ? .proofMismatch : .fork])
        let other = try self.python(package)
        let words = isLinkWrong ? "proves no fork" : "two histories are signed, at 5 and 7 records"
        #expect(other.status == 1 && other.output.contains(words), "\(other.output)")
    }

    @Test func aForkProofByStrangersProvesNothing() async throws {
        let fixture = try PackageFixture(records: 5)
        let proof = try self.fork(fixture)
        let package = try fixture.package {
            $0.checkpoint = try fixture.checkpoint(cosigners: [4, 5])
            $0.supplement.forks = [proof]
        }
        // Neither as a log nor as replicas does the auditor know the signers of the proof.
        let report = try await verify(package, PackageTrust(keys: try PackageFixture.keys([4, 5])))
        #expect(report.findings.allSatisfy { $0.kind != .fork }, "\(report.findings)")
        #expect(report.remarks.contains { $0.contains("proves nothing") }, "\(report.remarks)")
    }

    @Test func aForkProofOfAnotherLogHasNoPlaceHere() async throws {
        let fixture = try PackageFixture(records: 5)
        let package = try fixture.package { $0.supplement.forks = [Array("nothing\n".utf8)] }
        #expect(try await self.findings(package).map(\.kind) == [.proofMismatch])
    }

    // MARK: Other tools

    private func python(_ package: [UInt8]) throws -> (status: Int32, output: String) {
        let folder = try TemporaryFolder()
        let file = folder.url.appending(path: "package.zip")
        try Data(package).write(to: file)
        let keyFile = folder.url.appending(path: "keys.json")
        try Data(PackageKey.encode(try PackageFixture.keys())).write(to: keyFile)
        return try AuditPackageTests.python([PythonVerifierTests.script, file.path, keyFile.path])
    }

    @Test func theOtherVerifierReadsOpeningsToo() throws {
        let bench = try Bench(records: 260)
        for shown in [nil, [1...1, 261...262]] as [[ClosedRange<UInt64>]?] {
            let right = try self.python(bench.package(shown: shown) { $0.openings = bench.openings })
            #expect(right.status == 0, "\(right.output)")
            let first = bench.openings[0]
            let other = PackageSupplement.Opening(
                sequence: first.sequence,
                field: first.field,
                value: Array("\"Yan\"".utf8),
                salt: first.salt
            )
            let wrong = try self.python(bench.package(shown: shown) { $0.openings = [other] })
            #expect(wrong.status == 1 && wrong.output.contains("another value is opened"), "\(wrong.output)")
        }
    }

    @Test func aPolicyGivenAsKeysIsCalledOne() async throws {
        let folder = try TemporaryFolder()
        let policy = folder.url.appending(path: "policy.txt")
        try Data(PackageFixture.policy().encoded).write(to: policy)
        let package = folder.url.appending(path: "package.zip")
        try Data(PackageFixture(records: 3).package()).write(to: package)
        var inspection = PackageInspection()
        inspection.keys = [policy.path]
        await #expect {
            _ = try await inspection.run(file: package.path)
        } throws: {
            ($0 as? PackageError)?.message.contains("--policy") == true
        }
        inspection.keys = []
        inspection.policy = policy.path
        #expect(try await inspection.run(file: package.path).exit == .valid)
    }
}
