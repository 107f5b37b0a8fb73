import AuditLedger
import Primitives
import Storage
import Testing

@testable import AuditPackage

/// A server that lies to an auditor who has its keys, a checkpoint from before, and nothing else: each lie is caught by
/// its name, and the honest server is believed.
@Suite("A server that lies") struct AdversaryTests {
    /// What an auditor asks for. An honest one until one of its answers is replaced.
    struct Server {
        var checkpoint: @Sendable () throws -> SignedCheckpoint
        var record: @Sendable (_ sequence: UInt64) throws -> [UInt8]
        var receipt: @Sendable (_ sequence: UInt64) throws -> [UInt8]
        var consistency: @Sendable (_ old: UInt64, _ new: UInt64) throws -> ConsistencyProof
        var package: @Sendable () throws -> [UInt8]

        init(_ fixture: PackageFixture) {
            self.checkpoint = { try fixture.checkpoint() }
            self.record = { try #require(try fixture.reader().record(at: SequenceNumber($0))) }
            self.receipt = { sequence in
                try Self.receipt(of: sequence, in: fixture, under: try fixture.checkpoint())
            }
            self.consistency = { try ConsistencyProof.build(from: $0, to: $1, nodes: try fixture.reader()) }
            self.package = { try fixture.package() }
        }

        static func receipt(
            of sequence: UInt64,
            in fixture: PackageFixture,
            under checkpoint: SignedCheckpoint
        ) throws -> [UInt8] {
            let size = checkpoint.checkpoint.size
            let proof = try InclusionProof.build(index: sequence - 1, size: size, from: try fixture.reader())
            return try TransparencyProof(inclusion: proof, checkpoint: checkpoint).encoded
        }
    }

    /// What an auditor does with the answers; the names of all that is wrong.
    struct Auditor {
        let keys: [PackageKey]
        let policy: TrustPolicy
        let origin: LogOrigin
        /// Seen before, and believed.
        let held: SignedCheckpoint

        init(held: SignedCheckpoint) throws {
            self.keys = try PackageFixture.keys()
            self.policy = try PackageFixture.policy()
            self.origin = try PackageFixture.origin()
            self.held = held
        }

        private func verifier() throws -> CheckpointVerifier {
            try CheckpointVerifier(origin: self.origin, policy: self.policy)
        }

        /// The newest checkpoint, against the one that was seen before.
        func lookAtHead(_ server: Server) throws -> Set<String> {
            let now = try server.checkpoint()
            let verdict = try self.verifier().verify(now)
            var names = Set(verdict.findings.map(\.kind.rawValue))
            guard verdict.isTrusted else { return names }
            let before = self.held.checkpoint.head
            let history = HeadHistory.decide(
                last: before,
                candidate: now.checkpoint.head,
                consistency: before.size < now.checkpoint.size
                    ? try? server.consistency(before.size, now.checkpoint.size) : nil
            )
            switch history {
            case .sign, .signAgain: break
            case .refuseStale: names.insert("old_head")
            case .refuseFork: names.insert("fork")
            case .refuseUnproven: names.insert("not_continued")
            }
            if names.contains("fork") {
                // What it takes to show it to others.
                let proof = try ForkProof(self.held, now)
                let all = self.policy.logs.map(\.key) + self.keys.map(\.key)
                _ = try proof.verify(keys: all)
            }
            return names
        }

        /// One record with its receipt.
        func look(at sequence: UInt64, _ server: Server) throws -> Set<String> {
            let record = try server.record(sequence)
            let receipt: TransparencyProof
            do throws(NoteError) {
                receipt = try TransparencyProof(parsing: try server.receiptBytes(sequence))
            } catch {
                return [error.code.rawValue]
            }
            let verdict = try self.verifier().verify(receipt, checksum: LedgerHash.leaf(record))
            var names = Set(verdict.checkpoint.findings.map(\.kind.rawValue))
            if let error = verdict.inclusionError { names.insert(error.code.rawValue) }
            guard receipt.inclusion.index == sequence - 1 else { return names.union(["reordered"]) }
            guard let fields = try? RecordFields(scanning: record) else { return names.union(["malformed"]) }
            if fields.sequence != SequenceNumber(sequence) { names.insert("reordered") }
            if fields.text(.organization) != PackageFixture.organization.rawValue { names.insert("foreign") }
            return names
        }

        /// A package of everything.
        func lookAtPackage(_ server: Server) async throws -> Set<String> {
            let trust = PackageTrust(keys: self.keys, policy: self.policy, origin: self.origin, held: self.held)
            let report = try await verify(try server.package(), trust)
            var names = Set(report.findings.map(\.kind.rawValue))
            names.formUnion(report.checkpointVerdict.findings.map(\.kind.rawValue))
            if names.isEmpty, report.exit != .valid { names.insert("\(report.exit)") }
            return names
        }
    }

    private static let records = 300
    private static let heldSize = UInt64(120)

    private static func honest() throws -> PackageFixture { try PackageFixture(records: self.records) }

    private static func auditor(_ fixture: PackageFixture) throws -> Auditor {
        try Auditor(held: try fixture.checkpoint(size: self.heldSize))
    }

    /// Another history from `sequence` on, signed by the same nodes.
    private static func other(from sequence: Int, records: Int = Self.records) throws -> PackageFixture {
        var fixture = try PackageFixture(records: sequence - 1)
        try fixture.append(records - sequence + 1, note: "as nobody planned")
        return fixture
    }

    @Test func anHonestServerIsBelieved() async throws {
        let fixture = try Self.honest()
        let (server, auditor) = (Server(fixture), try Self.auditor(fixture))
        #expect(try auditor.lookAtHead(server) == [])
        for sequence in [UInt64(1), 2, 120, 121, 256, 257, 300] {
            #expect(try auditor.look(at: sequence, server) == [], "record \(sequence)")
        }
        #expect(try await auditor.lookAtPackage(server) == [])
    }

    @Test func oneThatForksIsCaught() async throws {
        // At the size that was seen before: two signed roots are proof for everybody.
        let fork = try Self.other(from: 7, records: Int(Self.heldSize))
        let auditor = try Self.auditor(try Self.honest())
        #expect(try auditor.lookAtHead(Server(fork)) == ["fork"])
        #expect(try await auditor.lookAtPackage(Server(fork)) == ["fork"])
        // At a larger one: nothing leads from the head before to this one.
        let larger = try Self.other(from: 7)
        #expect(try auditor.lookAtHead(Server(larger)) == ["not_continued"])
        #expect(try await auditor.lookAtPackage(Server(larger)) == ["fork"])
    }

    @Test func oneThatTruncatesIsCaught() async throws {
        let fixture = try Self.honest()
        let auditor = try Self.auditor(fixture)
        // The tail with the head: older than what was seen.
        var server = Server(fixture)
        let short = try fixture.checkpoint(size: 100)
        server.package = { try fixture.package { $0.checkpoint = short } }
        #expect(try await auditor.lookAtPackage(server) == ["truncated"])
        // The tail alone: the signed size says how many there must be.
        server = Server(fixture)
        server.package = {
            var loose = try LoosePackage(try fixture.package())
            let last = try #require(TilePath.bundle(index: 1, size: 300)).text
            try loose.set(Array(try loose.entries(last).prefix(9)), at: last)
            try loose.repairManifest()
            return loose.packed()
        }
        #expect(try await auditor.lookAtPackage(server).contains("truncated"))
    }

    @Test func oneThatReordersIsCaught() async throws {
        let fixture = try Self.honest()
        let auditor = try Self.auditor(fixture)
        var server = Server(fixture)
        // Two records, each with the other's receipt, or with its own.
        server.record = { try #require(try fixture.reader().record(at: SequenceNumber($0 == 40 ? 41 : 40))) }
        #expect(try auditor.look(at: 40, server) == ["root_mismatch", "reordered"])
        server.receipt = { try Server(fixture).receipt($0 == 40 ? 41 : 40) }
        #expect(try auditor.look(at: 40, server) == ["reordered"])
        server.package = {
            var loose = try LoosePackage(try fixture.package())
            let path = try #require(TilePath.bundle(index: 0, size: 300)).text
            var entries = try loose.entries(path)
            entries.swapAt(39, 40)
            try loose.set(entries, at: path)
            try loose.repairManifest()
            return loose.packed()
        }
        #expect(try await auditor.lookAtPackage(server).contains("reordered"))
    }

    @Test func oneThatSwapsOrganizationsIsCaught() async throws {
        let fixture = try Self.honest()
        let auditor = try Self.auditor(fixture)
        // All of it is right, signed and about somebody else.
        let other = try LogOrigin(cluster: PackageFixture.cluster, organization: OrganizationKey("south-lab")!)
        let root = try fixture.reader().root(at: 300)
        let signed = try PackageFixture.sign(Checkpoint(origin: other, size: 300, root: root))
        var server = Server(fixture)
        server.checkpoint = { signed }
        #expect(try auditor.lookAtHead(server).contains("wrong_origin"))
        server.receipt = { try Server.receipt(of: $0, in: fixture, under: signed) }
        #expect(try auditor.look(at: 9, server).contains("wrong_origin"))
        // One record of the other organization under our head.
        let draft = try PackageFixture.draft(9, organization: OrganizationKey("south-lab")!)
        var batch = WriteBatch()
        var appender = LedgerAppender(head: LedgerHead(empty: OrganizationID(9)))
        _ = appender.append(draft, stampedAt: PackageFixture.startedAt, into: &batch)
        var foreign: [UInt8] = []
        for case .put(.records, _, let value) in batch.operations { foreign = value }
        #expect(!foreign.isEmpty)
        server = Server(fixture)
        server.record = { [foreign] _ in foreign }
        #expect(try auditor.look(at: 9, server).isSuperset(of: ["foreign", "root_mismatch"]))
        server.package = { [foreign] in
            var loose = try LoosePackage(try fixture.package())
            let path = try #require(TilePath.bundle(index: 0, size: 300)).text
            var entries = try loose.entries(path)
            entries[8] = foreign
            try loose.set(entries, at: path)
            try loose.repairManifest()
            return loose.packed()
        }
        #expect(try await auditor.lookAtPackage(server).contains("foreign"))
    }

    @Test func oneThatReplaysAnOldHeadIsCaught() async throws {
        let fixture = try Self.honest()
        let auditor = try Self.auditor(fixture)
        var server = Server(fixture)
        let old = try fixture.checkpoint(size: 60)
        server.checkpoint = { old }
        #expect(try auditor.lookAtHead(server) == ["old_head"])
        server.package = { try fixture.package { $0.checkpoint = old } }
        #expect(try await auditor.lookAtPackage(server) == ["truncated"])
    }

    @Test func oneThatAnswersAProofForAnotherSizeIsCaught() throws {
        let fixture = try Self.honest()
        let auditor = try Self.auditor(fixture)
        var server = Server(fixture)
        // The path of the tree of 200 records, said to be that of 300, and as it is.
        server.receipt = { sequence in
            let path = try InclusionProof.build(index: sequence - 1, size: 200, from: try fixture.reader()).path
            let lie = InclusionProof(index: sequence - 1, size: 300, path: path)
            return try TransparencyProof(inclusion: lie, checkpoint: try fixture.checkpoint()).encoded
        }
        for sequence in [UInt64(1), 100, 199, 200] {
            let names = try auditor.look(at: sequence, server)
            #expect(!names.isDisjoint(with: ["wrong_length", "root_mismatch"]), "record \(sequence): \(names)")
        }
        #expect(throws: NoteError.self) {
            let other = try InclusionProof.build(index: 3, size: 200, from: try fixture.reader())
            return try TransparencyProof(inclusion: other, checkpoint: try fixture.checkpoint())
        }
        // A consistency proof from or to another size than the heads have.
        for (old, new) in [(UInt64(119), UInt64(300)), (120, 299), (120, 120), (1, 300)] {
            server = Server(fixture)
            server.consistency = { _, _ in try ConsistencyProof.build(from: old, to: new, nodes: try fixture.reader()) }
            #expect(try auditor.lookAtHead(server) == ["not_continued"], "\(old) to \(new)")
            server.consistency = { from, to in
                let path = try ConsistencyProof.build(from: old, to: new, nodes: try fixture.reader()).path
                return ConsistencyProof(oldSize: from, newSize: to, path: path)
            }
            #expect(try auditor.lookAtHead(server) == ["not_continued"], "\(old) to \(new), renamed")
        }
    }

    @Test func oneThatStripsSignaturesIsCaught() async throws {
        let fixture = try Self.honest()
        let auditor = try Self.auditor(fixture)
        let whole = try fixture.checkpoint()
        let log = try #require(whole.note.signatures.first { $0.name == (try? PackageFixture.origin().keyName) })
        let others = whole.note.signatures.filter { $0 != log }
        #expect(others.count == 3)
        for (left, name) in [
            (others, "no_log_signature"), ([log], "quorum_not_met"), ([log, others[1]], "quorum_not_met"), ([], ""),
        ] {
            var note = try SignedCheckpoint(whole.checkpoint)
            try note.add(left)
            var server = Server(fixture)
            let stripped = note
            server.checkpoint = { stripped }
            server.receipt = { try Server.receipt(of: $0, in: fixture, under: stripped) }
            server.package = { try fixture.package { $0.checkpoint = stripped } }
            guard !left.isEmpty else {
                // Nothing signed is not even a note.
                #expect(throws: (any Error).self) { try SignedCheckpoint(parsing: stripped.encoded) }
                continue
            }
            #expect(try auditor.lookAtHead(server).contains(name))
            #expect(try auditor.look(at: 9, server).contains(name))
            #expect(try await auditor.lookAtPackage(server).contains(name))
        }
        // Two of three are a majority: taking one away changes nothing.
        var enough = try SignedCheckpoint(whole.checkpoint)
        try enough.add([log, others[0], others[2]])
        var server = Server(fixture)
        let kept = enough
        server.checkpoint = { kept }
        #expect(try auditor.lookAtHead(server) == [])
    }
}

extension AdversaryTests.Server {
    /// As typed errors want it: what making a lie throws is the test's bug.
    fileprivate func receiptBytes(_ sequence: UInt64) throws(NoteError) -> [UInt8] {
        do {
            return try self.receipt(sequence)
        } catch let error as NoteError {
            throw error
        } catch {
            Issue.record(error)
            return []
        }
    }
}
