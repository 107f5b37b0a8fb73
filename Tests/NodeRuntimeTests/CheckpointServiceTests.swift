internal import AuditLedger
internal import Foundation
internal import Laboratory
internal import Primitives
internal import Storage
internal import Synchronization
internal import Testing

@testable internal import NodeRuntime

@Suite("Three replicas that sign together", .timeLimit(.minutes(10)))
struct CheckpointServiceTests {
    /// A majority waits for the third for as long as it takes.
    private static var patient: CheckpointRounds.Pace {
        var pace = CheckpointRounds.Pace()
        pace.grace = .seconds(60)
        pace.roundMax = .seconds(60)
        return pace
    }

    private static func fresh(_ bench: CheckpointBench) async throws -> StoredCheckpoint {
        try await bench.replica(1).service.fresh(bench.entry, timeout: .seconds(30))
    }

    private static func metric(_ replica: CheckpointBench.Replica, _ line: String) -> Bool {
        replica.registry.render().split(separator: "\n").contains(line[...])
    }

    @Test func makeACheckpointThatAPolicyTrusts() async throws {
        let bench = try CheckpointBench(pace: Self.patient)
        defer { bench.close() }
        try bench.append(7)
        let stored = try await bench.run { try await Self.fresh(bench) }
        #expect(stored.size == 7)
        let verdict = try bench.verifier().verify(stored.note)
        #expect(verdict.isTrusted)
        #expect(verdict.cosigners.count == 3)
    }

    @Test func allKeepIt() async throws {
        let bench = try CheckpointBench(pace: Self.patient)
        defer { bench.close() }
        try bench.append(7)
        try await bench.run {
            _ = try await Self.fresh(bench)
            await bench.waitUntilGiven([NodeID(2), NodeID(3)])
        }
        for node in [1, 2, 3] as [UInt64] {
            let stored = try #require(try bench.replica(node).rows.latest(of: bench.entry.id), "node \(node)")
            #expect(stored.size == 7)
            #expect(try bench.verifier().verify(stored.note).isTrusted)
            #expect(try bench.replica(node).service.status.pending == 0)
        }
    }

    @Test func aChangeAloneIsEnough() async throws {
        let bench = try CheckpointBench(pace: Self.patient)
        defer { bench.close() }
        try bench.append(3)
        try await bench.run {
            for node in [1, 2, 3] as [UInt64] { try bench.replica(node).service.advanced(bench.entry.id) }
            await bench.waitUntilGiven([NodeID(2), NodeID(3)])
        }
        #expect(try bench.replica(2).rows.latest(of: bench.entry.id)?.size == 3)
    }

    @Test func whatWasNotSignedBeforeARestartIsFoundAtTheStart() async throws {
        let bench = try CheckpointBench(pace: Self.patient)
        defer { bench.close() }
        try bench.append(4)
        try await bench.run { await bench.waitUntilGiven([NodeID(2), NodeID(3)]) }
        #expect(try bench.replica(3).rows.latest(of: bench.entry.id)?.size == 4)
    }

    /// A group whose leader was known before any key was published is looked at again when keys come.
    @Test func keysThatComeAfterTheLeaderSignWhatWaited() async throws {
        let bench = try CheckpointBench(pace: Self.patient, published: [])
        defer { bench.close() }
        try bench.append(5)
        try await bench.run {
            for node in [1, 2, 3] as [UInt64] { try bench.replica(node).service.advanced(bench.entry.id) }
            // The loop has seen the group and what waits there.
            let leader = try bench.replica(1).service
            while leader.status.pending == 0 { await Task.yield() }
            #expect(try bench.replica(1).rows.latest(of: bench.entry.id) == nil)
            // No organization changes any more, only the keys do.
            try bench.publishAll()
            await bench.waitUntilGiven([NodeID(2), NodeID(3)])
        }
        let stored = try #require(try bench.replica(1).rows.latest(of: bench.entry.id))
        #expect(try bench.verifier().verify(stored.note).isTrusted)
    }

    @Test func aNodeThatLeftTheGroupIsNeitherAskedNorCounted() async throws {
        let bench = try CheckpointBench(pace: Self.patient)
        defer { bench.close() }
        try bench.append(4)
        let (before, after) = try await bench.run {
            let before = try await Self.fresh(bench)
            // Joint: a majority of both halves; then node 2 is gone.
            try bench.change(SigningQuorum(voters: [NodeID(1), NodeID(3)], outgoing: CheckpointBench.nodes))
            try bench.append(1)
            _ = try await Self.fresh(bench)
            try bench.change(SigningQuorum(voters: [NodeID(1), NodeID(3)]))
            try bench.append(1)
            return (before, try await Self.fresh(bench))
        }
        let note = try SignedCheckpoint(parsing: after.note)
        #expect(try bench.replica(1).signer.book.signers(of: note, in: nil) == [NodeID(1), NodeID(3)])
        // What it signed while it was one of them stays good.
        let book = try bench.replica(1).signer.book
        #expect(try book.signers(of: SignedCheckpoint(parsing: before.note), in: nil) == CheckpointBench.nodes)
        #expect(try bench.verifier().verify(before.note).isTrusted)
    }

    /// The records have not changed, those who vouch for them have: the checkpoint of the same size is signed by them too.
    @Test func newVotersSignWhatTheOldOnesHadSigned() async throws {
        let bench = try CheckpointBench(pace: Self.patient)
        defer { bench.close() }
        bench.quorum.withLock { $0 = SigningQuorum(voters: [NodeID(1)]) }
        try bench.append(4)
        let (before, after) = try await bench.run {
            let before = try await Self.fresh(bench)
            try bench.change(SigningQuorum(voters: CheckpointBench.nodes))
            return (before, try await Self.fresh(bench))
        }
        #expect(before.size == 4 && after.size == 4)
        #expect(try !bench.verifier().verify(before.note).isTrusted)
        #expect(try bench.verifier().verify(after.note).isTrusted)
    }

    @Test func oneThatIsDownDoesNotHoldTheOthersUp() async throws {
        let bench = try CheckpointBench()
        defer { bench.close() }
        bench.meddle.withLock { $0.unreachable = [NodeID(3)] }
        try bench.append(7)
        let stored = try await bench.run { try await Self.fresh(bench) }
        let verdict = try bench.verifier().verify(stored.note)
        #expect(verdict.isTrusted)
        #expect(verdict.cosigners.count == 2)
    }

    @Test func twoThatAreDownMeanNoCheckpoint() async throws {
        let bench = try CheckpointBench()
        defer { bench.close() }
        bench.meddle.withLock { $0.unreachable = [NodeID(2), NodeID(3)] }
        try bench.append(7)
        await #expect(throws: NotPublished.self) { try await bench.run { try await Self.fresh(bench) } }
        #expect(try bench.replica(1).rows.latest(of: bench.entry.id) == nil, "what one has signed is not stored")
    }

    @Test func aReplicaWithAnotherHistoryRaisesTheAlarmAndDoesNotSign() async throws {
        let bench = try CheckpointBench(pace: Self.patient)
        defer { bench.close() }
        try bench.append(4)
        try bench.append(3, to: [NodeID(1), NodeID(2)])
        try bench.append(3, to: [NodeID(3)], text: "forged")
        let stored = try await bench.run { try await Self.fresh(bench) }
        let verdict = try bench.verifier().verify(stored.note)
        #expect(verdict.isTrusted)
        #expect(verdict.cosigners.map(\.name.description).sorted() == ["lab/node-1", "lab/node-2"])
        for node in [1, 3] as [UInt64] {
            let replica = try bench.replica(node)
            #expect(replica.service.status.forks == 1, "node \(node)")
            #expect(Self.metric(replica, #"ft_checkpoint_alarms_total{kind="fork"} 1"#))
            let forks = try replica.rows.forks(of: bench.entry.id)
            let proof = try ForkProof(parsing: try #require(forks.first).proof)
            let found = try proof.verify(keys: bench.keys.values.map(\.verifierKey))
            let signers = Set((found.olderSigners + found.newerSigners).map(\.name.description))
            #expect(signers == ["lab/node-1", "lab/node-3"])
            #expect(proof.older.checkpoint.size == 7)
        }
        #expect(try bench.replica(2).service.status.forks == 0, "whoever agrees has nothing to report")
    }

    @Test func aForkIsStoredOnce() async throws {
        let bench = try CheckpointBench(pace: Self.patient)
        defer { bench.close() }
        try bench.append(3, to: [NodeID(1), NodeID(2)])
        try bench.append(3, to: [NodeID(3)], text: "forged")
        try await bench.run {
            _ = try await Self.fresh(bench)
            _ = try await Self.fresh(bench)
        }
        #expect(try bench.replica(1).rows.forks(of: bench.entry.id).count == 1)
        #expect(try bench.replica(1).rows.forkCount() == 1)
    }

    @Test func aReplicaChangedAfterItSignedRefuses() async throws {
        let bench = try CheckpointBench(pace: Self.patient)
        defer { bench.close() }
        try bench.append(4)
        try await bench.run {
            _ = try await Self.fresh(bench)
            let store = try bench.replica(3).store
            var batch = WriteBatch()
            for family in [ColumnFamily.records, .treeNodes, .ledgerHeads] {
                batch.deleteRange(family, lower: LedgerKeys.head(bench.entry.id), upper: [0xFF])
            }
            try store.write(batch)
            try bench.append(4, to: [NodeID(3)], text: "forged")
            try bench.append(1)
            let stored = try await Self.fresh(bench)
            let verdict = try bench.verifier().verify(stored.note)
            #expect(verdict.isTrusted)
            #expect(verdict.cosigners.count == 2)
        }
        let replica = try bench.replica(3)
        #expect(replica.service.status.contradictions == 1)
        #expect(Self.metric(replica, #"ft_checkpoint_alarms_total{kind="contradiction"} 1"#))
        #expect(try replica.rows.forks(of: bench.entry.id).isEmpty, "it signed nothing that contradicts")
    }

    @Test(arguments: ["other key", "other head", "stripped", "repeated"])
    func anAnswerThatIsNoSignatureDoesNotCount(_ kind: String) async throws {
        let bench = try CheckpointBench(pace: Self.patient)
        defer { bench.close() }
        let wrong = try NoteSignerKey(
            name: SigningKeyFile.name(cluster: CheckpointBench.cluster, node: NodeID(3)),
            type: .cosignature,
            seed: [UInt8](repeating: 99, count: 32)
        )
        bench.meddle.withLock { meddling in
            meddling.answer = { node, response in
                guard node == NodeID(3), !response.answers.isEmpty,
                    let note = try? SignedCheckpoint(parsing: response.answers[0].note)
                else { return }
                var text = Array(note.encoded)
                switch kind {
                case "other key":
                    var forged = try? SignedCheckpoint(note.checkpoint)
                    try? forged?.cosign(wrong, timeSeconds: 100)
                    text = forged?.encoded ?? []
                case "other head":
                    text = Array(String(decoding: text, as: UTF8.self).replacing("\n7\n", with: "\n8\n").utf8)
                case "stripped": text = note.note.text
                default:
                    // The signature of one head under another one.
                    let other = Checkpoint(origin: note.checkpoint.origin, size: 7, root: .zero)
                    var forged = try? SignedCheckpoint(other)
                    try? forged?.add(note.note.signatures)
                    text = forged?.encoded ?? []
                }
                response.answers[0].note = Data(text)
            }
        }
        try bench.append(7)
        let stored = try await bench.run { try await Self.fresh(bench) }
        let verdict = try bench.verifier().verify(stored.note)
        #expect(verdict.cosigners.map(\.name.description).sorted() == ["lab/node-1", "lab/node-2"])
        #expect(try bench.replica(1).service.status.forks == 0, "a forgery proves nothing about node 3")
    }

    @Test func aNoteWithoutAMajorityIsNotKept() async throws {
        let bench = try CheckpointBench()
        defer { bench.close() }
        try bench.append(7)
        let wanted = CheckpointSigner.Wanted(organization: bench.entry, size: nil, asLog: true)
        let outcome = try bench.replica(1).signer.sign([wanted], at: Timestamp(microseconds: 100_000_000))
        guard case .signed(let note)? = outcome.first else {
            Issue.record("not signed")
            return
        }
        var request = WireCheckpointRequest()
        var wire = WireCheckpointNote()
        wire.organization = bench.entry.id.rawValue
        wire.key = bench.entry.key.rawValue
        wire.note = Data(note.encoded)
        request.notes = [wire]
        _ = await (try bench.replica(2)).service.answer(request, from: NodeID(1))
        #expect(try bench.replica(2).rows.latest(of: bench.entry.id) == nil)
    }

    @Test func receiptsAndTilesAreOfTheStoredCheckpoint() async throws {
        let bench = try CheckpointBench(pace: Self.patient)
        defer { bench.close() }
        try bench.append(300)
        _ = try await bench.run { try await Self.fresh(bench) }
        try bench.append(40)
        let replica = try bench.replica(1)
        let reader = LedgerReader(store: replica.store, organization: bench.entry.id)
        for sequence in [1, 7, 256, 257, 300] as [UInt64] {
            let answer = try replica.proofs.answer(.record(SequenceNumber(sequence), size: nil), about: bench.entry)
            let receipt = try TransparencyProof(parsing: answer.body)
            let record = try #require(try reader.record(at: SequenceNumber(sequence)))
            #expect(try bench.verifier().verify(receipt, checksum: LedgerHash.leaf(record)).isTrusted)
            #expect(try !bench.verifier().verify(receipt, checksum: .zero).isTrusted)
        }
        func code(_ question: ProofQuestion) -> Problem.Code? {
            do {
                _ = try replica.proofs.answer(question, about: bench.entry)
                return nil
            } catch {
                return (error as? Problem)?.code
            }
        }
        #expect(code(.record(SequenceNumber(301), size: nil)) == .checkpointNotFound, "stored, but not covered yet")
        #expect(code(.record(SequenceNumber(341), size: nil)) == .recordNotFound)
        #expect(code(.record(SequenceNumber(0), size: nil)) == .recordNotFound)
        #expect(code(.checkpoint(size: 299)) == .checkpointNotFound)
        #expect(code(.consistency(from: 1, to: 341)) == .invalidParameter)
        #expect(
            code(.tile(try TilePath(.hashes(level: 0), index: 1, width: 45))) == .tileNotFound,
            "beyond the checkpoint"
        )
        let nodes = TileNodes(size: 300) { path in
            try? replica.proofs.answer(.tile(path), about: bench.entry).body
        }
        let note = try SignedCheckpoint(parsing: try #require(try replica.rows.latest(of: bench.entry.id)).note)
        try nodes.verify(root: note.checkpoint.root)
        for index in [0, 1] as [UInt64] {
            let path = try #require(TilePath.bundle(index: index, size: 300))
            let bundle = try replica.proofs.answer(.tile(path), about: bench.entry).body
            #expect(try nodes.verify(bundle: path, bytes: bundle).count == path.width)
        }
    }

    @Test func questionsReadBackAsTheyWereAsked() throws {
        let questions: [ProofQuestion] = [
            .checkpoint(size: nil), .checkpoint(size: 9), .checkpoints(upTo: .max, limit: 7),
            .record(SequenceNumber(3), size: nil), .record(SequenceNumber(3), size: 4), .consistency(from: 1, to: 2),
            .tile(try TilePath(.entries, index: 1_234_067, width: 3)), .forks,
        ]
        for question in questions { #expect(ProofQuestion(text: question.text) == question) }
        for text in ["", "forks 1", "record", "record x -", "checkpoints 1 1001", "tile tile/0/1", "consistency 1"] {
            #expect(ProofQuestion(text: text) == nil, "\(text)")
        }
    }
}
