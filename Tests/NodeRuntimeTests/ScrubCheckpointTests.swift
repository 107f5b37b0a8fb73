internal import AuditLedger
internal import Laboratory
internal import Primitives
internal import Storage
internal import Testing

@testable internal import NodeRuntime

/// One bit of a stored checkpoint, or of the last signed head, is another: it is named by its key.
@Suite("Stored checkpoints, read again")
struct ScrubCheckpointTests {
    private static func audit(_ bench: CheckpointBench) throws -> CheckpointAudit.Outcome {
        let replica = try bench.replica(1)
        let audit = CheckpointAudit(cluster: CheckpointBench.cluster, book: replica.signer.book, store: replica.store)
        return try audit.run(bench.entry)
    }

    /// Signs what is there and stores it, as a leader does.
    private static func sign(_ bench: CheckpointBench, second: Int64) throws {
        let replica = try bench.replica(1)
        let wanted = CheckpointSigner.Wanted(organization: bench.entry, size: nil, asLog: true)
        let time = Timestamp(microseconds: second * 1_000_000)
        guard case .signed(let note)? = try replica.signer.sign([wanted], at: time).first else {
            Issue.record("not signed")
            return
        }
        var batch = WriteBatch()
        let row = StoredCheckpoint(size: note.checkpoint.size, isWitnessed: false, note: note.encoded)
        batch.put(
            .checkpoints,
            key: CheckpointStore.key(bench.entry.id, row.size),
            value: CheckpointStore.encode(row)
        )
        try replica.store.write(batch)
    }

    @Test func soundOnesPass() throws {
        let bench = try CheckpointBench()
        defer { bench.close() }
        #expect(try Self.audit(bench).finding == nil)
        for second in [Int64(100), 101, 102] {
            try bench.append(7)
            try Self.sign(bench, second: second)
        }
        let outcome = try Self.audit(bench)
        #expect(outcome.finding == nil)
        #expect(outcome.checked == 3)
    }

    @Test func everyChangedByteIsNamedByItsKey() throws {
        let bench = try CheckpointBench()
        defer { bench.close() }
        for second in [Int64(100), 101] {
            try bench.append(7)
            try Self.sign(bench, second: second)
        }
        let store = try bench.replica(1).store
        let key = CheckpointStore.key(bench.entry.id, 7)
        let good = try #require(try store.get(key, in: .checkpoints))
        for place in good.indices where place != 1 {
            for bit in [UInt8(0x01), 0x20] {
                var bad = good
                bad[place] ^= bit
                var batch = WriteBatch()
                batch.put(.checkpoints, key: key, value: bad)
                try store.write(batch)
                let finding = try Self.audit(bench).finding
                #expect(finding?.place == "checkpoints/7", "byte \(place), bit \(bit): \(String(describing: finding))")
            }
        }
        var batch = WriteBatch()
        batch.put(.checkpoints, key: key, value: good)
        try store.write(batch)
        #expect(try Self.audit(bench).finding == nil)
    }

    @Test func aHistoryThatIsNotTheSignedOneIsAFork() throws {
        let bench = try CheckpointBench()
        defer { bench.close() }
        try bench.append(5)
        try Self.sign(bench, second: 100)
        let store = try bench.replica(1).store
        var batch = WriteBatch()
        for family in [ColumnFamily.records, .treeNodes, .ledgerHeads] {
            batch.deleteRange(family, lower: LedgerKeys.head(bench.entry.id), upper: [0xFF])
        }
        try store.write(batch)
        try bench.append(3, to: [NodeID(1)], text: "forged")
        #expect(try Self.audit(bench).finding?.kind == .truncated)
        try bench.append(4, to: [NodeID(1)], text: "forged")
        let finding = try Self.audit(bench).finding
        #expect(finding?.kind == .fork)
        #expect(finding?.place == "signed_heads")
        // Without the promise of its own the checkpoint still says so.
        batch = WriteBatch()
        batch.delete(.signedHeads, key: LedgerKeys.head(bench.entry.id))
        try store.write(batch)
        #expect(try Self.audit(bench).finding?.kind == .fork)
        #expect(try Self.audit(bench).finding?.place == "checkpoints/5")
    }

    @Test func everyChangedByteOfTheSignedHeadIsNoticed() throws {
        let bench = try CheckpointBench()
        defer { bench.close() }
        try bench.append(6)
        try Self.sign(bench, second: 100)
        let store = try bench.replica(1).store
        let key = LedgerKeys.head(bench.entry.id)
        let good = try #require(try store.get(key, in: .signedHeads))
        for place in good.indices {
            var bad = good
            bad[place] ^= 1
            var batch = WriteBatch()
            batch.put(.signedHeads, key: key, value: bad)
            try store.write(batch)
            #expect(try Self.audit(bench).finding?.place == "signed_heads", "byte \(place)")
        }
    }
}
