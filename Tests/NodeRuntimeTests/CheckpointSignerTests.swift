internal import AuditLedger
internal import Laboratory
internal import Primitives
internal import Shards
internal import Storage
internal import Testing

@testable internal import NodeRuntime

@Suite("A node that signs the heads of its own store")
struct CheckpointSignerTests {
    private static func sign(
        _ bench: CheckpointBench,
        _ size: UInt64? = nil,
        node: UInt64 = 1,
        at second: Int64 = 100
    ) throws -> CheckpointSigner.Outcome {
        let wanted = CheckpointSigner.Wanted(organization: bench.entry, size: size, asLog: true)
        let outcomes = try bench.replica(node).signer.sign([wanted], at: Timestamp(microseconds: second * 1_000_000))
        return try #require(outcomes.first)
    }

    private static func note(_ outcome: CheckpointSigner.Outcome) -> SignedCheckpoint? {
        if case .signed(let note) = outcome { note } else { nil }
    }

    @Test func asLogAndAsReplica() throws {
        let bench = try CheckpointBench()
        defer { bench.close() }
        try bench.append(5)
        let note = try #require(Self.note(try Self.sign(bench)))
        #expect(note.checkpoint.origin.description == "lab/lab-a")
        #expect(note.checkpoint.size == 5)
        let store = try bench.replica(1).store
        #expect(note.checkpoint.root == (try LedgerReader(store: store, organization: bench.entry.id).head().root))
        let verdict = try bench.verifier().verify(note)
        #expect(verdict.logKeys.count == 1)
        #expect(verdict.cosigners.map(\.timeSeconds) == [100])
        #expect(!verdict.quorumIsMet, "one of three is no majority")
    }

    @Test func anEmptyLedgerHasACheckpointToo() throws {
        let bench = try CheckpointBench()
        defer { bench.close() }
        let note = try #require(Self.note(try Self.sign(bench)))
        #expect(note.checkpoint.size == 0)
        #expect(note.checkpoint.root == LedgerHash.emptyRoot)
    }

    @Test func neverASmallerHead() throws {
        let bench = try CheckpointBench()
        defer { bench.close() }
        try bench.append(5)
        _ = try Self.sign(bench)
        guard case .stale(let last) = try Self.sign(bench, 4) else {
            Issue.record("a smaller head was signed")
            return
        }
        #expect(last.size == 5)
        #expect(Self.note(try Self.sign(bench, 5)) != nil, "the same one may be signed again")
    }

    @Test func neverMoreThanIsApplied() throws {
        let bench = try CheckpointBench()
        defer { bench.close() }
        try bench.append(5)
        guard case .behind(let size) = try Self.sign(bench, 6) else {
            Issue.record("a head beyond the ledger was signed")
            return
        }
        #expect(size == 5)
        #expect(try bench.replica(1).rows.signedHead(of: bench.entry.id) == nil, "nothing was promised")
    }

    @Test(arguments: [0, 2]) func neverADifferentHead(_ more: Int) throws {
        // Signed, then the process ends and the history is another: with as many records, or with more.
        let bench = try CheckpointBench()
        defer { bench.close() }
        try bench.append(5)
        let first = try #require(Self.note(try Self.sign(bench)))
        let store = try bench.replica(1).store
        var batch = WriteBatch()
        for family in [ColumnFamily.records, .treeNodes, .ledgerHeads] {
            batch.deleteRange(family, lower: LedgerKeys.head(bench.entry.id), upper: [0xFF])
        }
        try store.write(batch)
        try bench.append(5 + more, to: [NodeID(1)], text: "forged")
        guard case .contradiction(let last) = try Self.sign(bench) else {
            Issue.record("a different head was signed")
            return
        }
        #expect(last == first.checkpoint.head)
        #expect(try bench.replica(1).rows.signedHead(of: bench.entry.id) == last, "the promise stays")
    }

    @Test func aFrontierThatHidesAChangedTreeDoesNotHelp() throws {
        let bench = try CheckpointBench()
        defer { bench.close() }
        try bench.append(5)
        _ = try Self.sign(bench)
        let store = try bench.replica(1).store
        // One digest of a tree node is another; the head's own frontier still says the old root.
        var changed: ([UInt8], [UInt8])?
        try store.scan(.treeNodes, prefix: LedgerKeys.head(bench.entry.id)) { key, value in
            changed = (key, value)
            return key[4] != 2
        }
        let (key, value) = try #require(changed)
        var batch = WriteBatch()
        batch.put(.treeNodes, key: key, value: value.map { $0 ^ 1 })
        try store.write(batch)
        guard case .contradiction = try Self.sign(bench) else {
            Issue.record("a head of a changed tree was signed")
            return
        }
    }

    @Test func thePromiseIsOnDiskBeforeTheSignatureLeaves() throws {
        let store = try FaultInjectingStore(InMemoryStore())
        let bench = try CheckpointBench(stores: [NodeID(1): store])
        defer { bench.close() }
        try bench.append(5)
        let syncs = store.count(of: .sync)
        _ = try Self.sign(bench)
        #expect(store.count(of: .sync) == syncs + 1)
        _ = try Self.sign(bench)
        #expect(store.count(of: .sync) == syncs + 1, "the same head needs no further promise")
        try bench.append(1)
        store.arm(StoreFault(.sync))
        #expect(throws: StorageError.self) { try Self.sign(bench) }
    }

    @Test func aPromiseOutlivesAPowerFailure() throws {
        let store = try FaultInjectingStore(InMemoryStore())
        let bench = try CheckpointBench(stores: [NodeID(1): store])
        defer { bench.close() }
        try bench.append(5)
        let note = try #require(Self.note(try Self.sign(bench)))
        try store.crash()
        let reopened = try store.reopened()
        #expect(try CheckpointStore(store: reopened).signedHead(of: bench.entry.id) == note.checkpoint.head)
    }

    @Test func onlyWithKeysThatArePublishedAndValid() throws {
        let bench = try CheckpointBench(published: [NodeID(2), NodeID(3)])
        defer { bench.close() }
        try bench.append(5)
        guard case .noKey = try Self.sign(bench) else {
            Issue.record("signed with a key that nobody knows")
            return
        }
        #expect(try bench.replica(1).rows.signedHead(of: bench.entry.id) == nil)
        guard case .noKey = try Self.sign(bench, node: 2, at: 9) else {
            Issue.record("signed before the key is valid")
            return
        }
        #expect(Self.note(try Self.sign(bench, node: 2, at: 10)) != nil)
    }

    @Test func withBothKeysWhileOneFollowsTheOther() throws {
        let bench = try CheckpointBench()
        defer { bench.close() }
        try bench.append(5)
        let old = try #require(bench.keys[NodeID(1)])
        let next = try SigningKeyFile.makeKey(cluster: CheckpointBench.cluster, node: NodeID(1))
        var state = bench.directory.current
        let text = { (key: NoteSignerKey) in String(decoding: key.verifierKey.text, as: UTF8.self) }
        try CheckpointBench.apply(
            .publishKey(PublishKeyCommand(node: NodeID(1), key: text(next))),
            to: &state,
            second: 50
        )
        let end = Timestamp(microseconds: 200_000_000)
        try CheckpointBench.apply(
            .retireKey(RetireKeyCommand(node: NodeID(1), key: text(old), at: end)),
            to: &state,
            second: 50
        )
        let directory = ShardDirectory(state: state)
        let keys = try SigningKeys(file: nil, cluster: CheckpointBench.cluster, node: NodeID(1))
        keys.replace([next, old])
        let book = KeyBook(cluster: CheckpointBench.cluster, directory: directory)
        let signer = CheckpointSigner(
            cluster: CheckpointBench.cluster,
            node: NodeID(1),
            keys: keys,
            book: book,
            rows: try bench.replica(1).rows
        )
        let wanted = CheckpointSigner.Wanted(organization: bench.entry, size: nil, asLog: true)
        func signers(_ second: Int64) throws -> [String] {
            let outcomes = try signer.sign([wanted], at: Timestamp(microseconds: second * 1_000_000))
            let note = try #require(outcomes.first.flatMap(Self.note))
            return note.note.signatures.map { "\($0.name)+\($0.id)" }.sorted()
        }
        let origin = try LogOrigin(cluster: CheckpointBench.cluster, organization: bench.entry.key)
        func names(_ keys: [NoteSignerKey]) throws -> [String] {
            let log = try keys.map {
                try NoteSignerKey(name: origin.keyName, type: .ed25519, seed: $0.seed).verifierKey.description
            }
            return (keys.map(\.verifierKey.description) + log).sorted()
        }
        #expect(try signers(49) == names([old]), "the next one is not valid yet")
        #expect(try signers(100) == names([next, old]))
        #expect(try signers(200) == names([next, old]), "the end belongs to the validity")
        #expect(try signers(201) == names([next]))
    }

    @Test func oldCheckpointsStayValidAfterARotation() throws {
        let bench = try CheckpointBench()
        defer { bench.close() }
        try bench.append(5)
        let note = try #require(Self.note(try Self.sign(bench, at: 100)))
        let entry = NodeKeyEntry(
            node: NodeID(1),
            key: "",
            validFrom: Timestamp(microseconds: 10_000_000),
            validTo: Timestamp(microseconds: 150_000_000)
        )
        let key = try #require(bench.keys[NodeID(1)]).verifierKey
        let known = KeyBook.Entry(entry: entry, key: key)
        #expect(known.isValid(atSecond: 100))
        #expect(known.isValid(atSecond: 150))
        #expect(known.isValid(atSecond: 10))
        #expect(!known.isValid(atSecond: 151))
        #expect(!known.isValid(atSecond: 9))
        #expect(!known.isValid(atSecond: .max))
        let window = KeyValidity(key: key, timesSeconds: 10...150)
        #expect(try bench.verifier(validity: [window]).verify(note).cosigners.count == 1)
        let late = KeyValidity(key: key, timesSeconds: 10...99)
        #expect(try bench.verifier(validity: [late]).verify(note).cosigners.isEmpty)
    }
}
