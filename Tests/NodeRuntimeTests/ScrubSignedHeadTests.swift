internal import AuditLedger
internal import Laboratory
internal import Primitives
internal import Storage
internal import Testing

@testable internal import NodeRuntime

/// When the memory of what a node signed may be replaced, and what is left of it.
struct ScrubSignedHeadTests {
    private static func root(_ byte: UInt8) -> Digest { LedgerHash.leaf([byte]) }

    /// A node that signed another root over 10 records than the one that it holds now.
    private static let wrong = SignedHeadRule.Facts(
        last: TreeHead(size: 10, root: root(1)),
        size: 20,
        rootAtLast: root(2),
        trusted: (head: TreeHead(size: 15, root: root(3)), isOwn: true),
        isLongest: true
    )

    private func decide(_ change: (inout SignedHeadRule.Facts) -> Void = { _ in }) -> SignedHeadRule.Decision {
        var facts = Self.wrong
        change(&facts)
        return SignedHeadRule.decide(facts)
    }

    @Test func aWrongHeadIsReplacedByWhatAMajorityHasSigned() {
        #expect(self.decide() == .replace(by: TreeHead(size: 15, root: Self.root(3))))
        // A row that cannot be read says nothing that could be kept.
        #expect(self.decide { $0.last = nil } == .replace(by: TreeHead(size: 15, root: Self.root(3))))
    }

    @Test func aRightHeadStays() {
        #expect(self.decide { $0.rootAtLast = Self.root(1) } == .nothingWrong)
    }

    @Test func aNodeThatMayCatchUpKeepsItsHead() {
        func short(_ facts: inout SignedHeadRule.Facts) {
            facts.last = TreeHead(size: 30, root: Self.root(1))
            facts.rootAtLast = nil
        }
        #expect(
            self.decide {
                short(&$0)
                $0.isLongest = false
            } == .behind
        )
        // After the loss of a majority nobody has the records that it signed.
        #expect(self.decide(short) == .replace(by: TreeHead(size: 15, root: Self.root(3))))
    }

    @Test func withoutASignedCheckpointNothingIsReplaced() {
        #expect(self.decide { $0.trusted = nil } == .notTrusted)
        #expect(self.decide { $0.trusted?.isOwn = false } == .notTrusted)
        #expect(self.decide { $0.size = 12 } == .notTrusted)
    }

    @Test func theEvidenceNamesBothHeads() {
        let text = SignedHeadRule.evidence(
            origin: "lab/lab-a",
            node: NodeID(2),
            signed: TreeHead(size: 10, root: Self.root(1)),
            held: TreeHead(size: 10, root: Self.root(2)),
            trusted: TreeHead(size: 15, root: Self.root(3)),
            at: Timestamp(microseconds: 0)
        )
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        #expect(lines.count == 8 && lines.last == "")
        #expect(lines[1] == "lab/lab-a" && lines[2] == "node 2")
        #expect(lines[3] == "signed 10 \(Self.root(1).hex)")
        #expect(lines[4] == "held 10 \(Self.root(2).hex)")
        #expect(lines[5] == "trusted 15 \(Self.root(3).hex)")
    }

    @Test(.timeLimit(.minutes(10))) func aNodeSignsAgainAfterItsMemoryWasReplaced() async throws {
        let bench = try CheckpointBench()
        defer { bench.close() }
        try bench.append(7)
        let replica = try bench.replica(2)
        let wrong = TreeHead(size: 5, root: Self.root(9))
        var batch = WriteBatch()
        CheckpointStore.put(signed: wrong, of: bench.entry.id, into: &batch)
        try replica.store.write(batch)
        let wanted = CheckpointSigner.Wanted(organization: bench.entry, size: nil, asLog: false)
        let time = Timestamp(microseconds: 100_000_000)
        guard case .contradiction(wrong)? = try replica.signer.sign([wanted], at: time).first else {
            Issue.record("it signed what contradicts its last head")
            return
        }
        let reader = LedgerReader(store: replica.store, organization: bench.entry.id)
        let trusted = TreeHead(size: 6, root: try reader.treeRoot(size: 6))
        // Another head than the one that was looked at is not touched.
        await #expect(throws: CancellationError.self) {
            try await replica.service.replaceSignedHead(of: bench.entry, trusted, by: trusted)
        }
        #expect(try replica.rows.signedHead(of: bench.entry.id) == wrong)
        try await replica.service.replaceSignedHead(of: bench.entry, wrong, by: trusted)
        guard case .signed? = try replica.signer.sign([wanted], at: time).first else {
            Issue.record("it does not sign")
            return
        }
        #expect(try replica.rows.signedHead(of: bench.entry.id)?.size == 7)
        // Never smaller than what took its place.
        let smaller = CheckpointSigner.Wanted(organization: bench.entry, size: 5, asLog: false)
        guard case .stale? = try replica.signer.sign([smaller], at: time).first else {
            Issue.record("it went back")
            return
        }
    }
}
