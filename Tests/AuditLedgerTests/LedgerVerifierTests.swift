import AuditLedger
import Primitives
import Storage
import Testing

/// Every way to spoil a replica is named with its kind and sequence; the sound one passes.
struct LedgerVerifierTests {
    func expect(
        _ kind: LedgerFinding.Kind,
        at sequence: UInt64,
        records: Int = 21,
        _ comment: String = "",
        _ damage: (LedgerFixture, inout WriteBatch) throws -> Void
    ) throws {
        let fixture = try LedgerFixture(records: records)
        #expect(try fixture.verify().isSound)
        try fixture.change { try damage(fixture, &$0) }
        let found = try fixture.verify().finding
        #expect(found?.kind == kind, "\(comment) \(String(describing: found))")
        #expect(found?.sequence.rawValue == sequence, "\(comment) \(String(describing: found))")
    }

    @Test(arguments: [0, 1, 2, 7, 8, 64, 300, 2500]) func passesASoundLedger(records: Int) throws {
        let fixture = try LedgerFixture(records: records)
        var seen: [UInt64] = []
        let verification = try LedgerVerifier.verify(
            store: fixture.store.snapshot(),
            organization: LedgerFixture.organization,
            key: LedgerFixture.key
        ) {
            seen.append($0)
            _ = $1
            return true
        }
        #expect(verification.finding == nil)
        #expect(verification.size == UInt64(records))
        #expect(verification.root == fixture.appender.head.root)
        #expect(verification.lastChecksum == fixture.appender.head.lastChecksum)
        #expect(verification.bytesRead == UInt64(fixture.appended.reduce(0) { $0 + $1.bytes.count }))
        #expect(seen.last == UInt64(records))
    }

    @Test func namesEveryChangedByteOfARecord() throws {
        let fixture = try LedgerFixture(records: 6)
        let good = fixture.appended[3].bytes
        for place in good.indices {
            var bad = good
            bad[place] ^= 0x01
            try fixture.change { $0.put(.records, key: fixture.recordKey(4), value: bad) }
            let finding = try fixture.verify().finding
            // A record whose own number was changed says that it belongs elsewhere; all else is a changed record.
            let isNumber = good[..<place].count >= 12 && text(good[(place - 11)..<place]) == "\"sequence\":"
            #expect(finding?.kind == (isNumber ? .reordered : .modified), "byte \(place)")
            #expect(finding?.sequence == SequenceNumber(4), "byte \(place)")
        }
        for bad in [[], Array(good.dropLast()), good + [0x20]] as [[UInt8]] {
            try fixture.change { $0.put(.records, key: fixture.recordKey(4), value: bad) }
            #expect(try fixture.verify().finding?.kind == .modified)
        }
        try fixture.change { $0.put(.records, key: fixture.recordKey(4), value: good) }
        #expect(try fixture.verify().isSound)
    }

    @Test(arguments: [UInt64(1), 2, 16, 20, 21]) func namesAChangedRecordAnywhere(sequence: UInt64) throws {
        try self.expect(.modified, at: sequence) { fixture, batch in
            var bad = fixture.appended[Int(sequence) - 1].bytes
            bad[12] ^= 0x01
            batch.put(.records, key: fixture.recordKey(sequence), value: bad)
        }
    }

    @Test func namesSwappedRecords() throws {
        try self.expect(.reordered, at: 5) { fixture, batch in
            batch.put(.records, key: fixture.recordKey(5), value: fixture.appended[8].bytes)
            batch.put(.records, key: fixture.recordKey(9), value: fixture.appended[4].bytes)
        }
        try self.expect(.reordered, at: 5, "with their leaves") { fixture, batch in
            batch.put(.records, key: fixture.recordKey(5), value: fixture.appended[8].bytes)
            batch.put(.records, key: fixture.recordKey(9), value: fixture.appended[4].bytes)
            batch.put(.treeNodes, key: fixture.nodeKey(0, 4), value: fixture.appended[8].checksum.bytes)
            batch.put(.treeNodes, key: fixture.nodeKey(0, 8), value: fixture.appended[4].checksum.bytes)
        }
    }

    @Test(arguments: [UInt64(1), 2, 13, 20]) func namesADeletedRecord(sequence: UInt64) throws {
        try self.expect(.missing, at: sequence) { $1.delete(.records, key: $0.recordKey(sequence)) }
    }

    @Test func namesATruncatedEnd() throws {
        try self.expect(.truncated, at: 21) { $1.delete(.records, key: $0.recordKey(21)) }
        try self.expect(.truncated, at: 21, "with its tree nodes") { fixture, batch in
            batch.delete(.records, key: fixture.recordKey(21))
            batch.delete(.treeNodes, key: fixture.nodeKey(0, 20))
        }
        try self.expect(.truncated, at: 21, "with the head set back") { fixture, batch in
            batch.delete(.records, key: fixture.recordKey(21))
            batch.put(.ledgerHeads, key: fixture.headKey, value: try LedgerFixture(records: 20).appender.head.encode())
        }
        try self.expect(.truncated, at: 1, "everything") { fixture, batch in
            batch.deleteRange(.records, lower: fixture.headKey, upper: keyAfter(prefix: fixture.headKey)!)
            batch.deleteRange(.treeNodes, lower: fixture.headKey, upper: keyAfter(prefix: fixture.headKey)!)
        }
    }

    @Test func namesRecordsThatNoAppendMade() throws {
        try self.expect(.extraRecord, at: 22) { fixture, batch in
            batch.put(.records, key: fixture.recordKey(22), value: fixture.appended[20].bytes)
        }
        try self.expect(.extraRecord, at: 30, "beyond a gap") { fixture, batch in
            batch.put(.records, key: fixture.recordKey(30), value: fixture.appended[20].bytes)
        }
        try self.expect(.extraRecord, at: UInt64.max, "the last possible key") { fixture, batch in
            batch.put(.records, key: fixture.recordKey(UInt64.max), value: fixture.appended[20].bytes)
        }
        try self.expect(.extraRecord, at: 1, "record zero") { fixture, batch in
            batch.put(.records, key: fixture.recordKey(0), value: fixture.appended[20].bytes)
        }
        try self.expect(.extraRecord, at: 22, "a key of another form") { fixture, batch in
            batch.put(.records, key: fixture.recordKey(21) + [0], value: [])
        }
    }

    @Test func namesAChangedHead() throws {
        try self.expect(.headMismatch, at: 21, "set back") { fixture, batch in
            batch.put(.ledgerHeads, key: fixture.headKey, value: try LedgerFixture(records: 18).appender.head.encode())
        }
        try self.expect(.headMismatch, at: 21, "set to nothing") { $1.delete(.ledgerHeads, key: $0.headKey) }
        try self.expect(.headMismatch, at: 21, "no head") { $1.put(.ledgerHeads, key: $0.headKey, value: [1, 2]) }
        let good = try LedgerFixture(records: 21).appender.head.encode()
        for place in good.indices {
            var bad = good
            bad[place] ^= 0x01
            let fixture = try LedgerFixture(records: 21)
            try fixture.change { $0.put(.ledgerHeads, key: fixture.headKey, value: bad) }
            #expect(try fixture.verify().finding?.kind == .headMismatch, "byte \(place)")
        }
    }

    @Test func namesAChangedTreeNode() throws {
        for level in UInt8(0)...4 {
            for index in 0..<MerkleTree.nodeCount(level: level, size: 21) {
                let last = (index + 1) << UInt64(level)
                try self.expect(.treeNodeMismatch, at: last, "changed \(level)/\(index)") { fixture, batch in
                    batch.put(.treeNodes, key: fixture.nodeKey(level, index), value: Digest.zero.bytes)
                }
                try self.expect(.treeNodeMismatch, at: last, "absent \(level)/\(index)") { fixture, batch in
                    batch.delete(.treeNodes, key: fixture.nodeKey(level, index))
                }
            }
        }
        try self.expect(.treeNodeMismatch, at: 21, "too many") { fixture, batch in
            batch.put(.treeNodes, key: fixture.nodeKey(3, 2), value: Digest.zero.bytes)
        }
        try self.expect(.treeNodeMismatch, at: 4, "a key of another form") { fixture, batch in
            batch.put(.treeNodes, key: fixture.nodeKey(0, 2) + [0], value: Digest.zero.bytes)
        }
        try self.expect(.treeNodeMismatch, at: 21, "a short key") { fixture, batch in
            batch.put(.treeNodes, key: fixture.headKey, value: Digest.zero.bytes)
        }
        try self.expect(.truncated, at: 22, "the last possible leaf") { fixture, batch in
            batch.put(.treeNodes, key: fixture.nodeKey(0, UInt64.max), value: Digest.zero.bytes)
        }
        try self.expect(.treeNodeMismatch, at: 21, "a level that none can have") { fixture, batch in
            batch.put(.treeNodes, key: fixture.nodeKey(255, 0), value: Digest.zero.bytes)
        }
    }

    @Test func namesABrokenChain() throws {
        // The record and its leaf are rewritten, so that both agree; the next record still names the old one.
        try self.expect(.brokenChain, at: 10) { fixture, batch in
            let bad = bytes(text(fixture.appended[8].bytes).replacing("\"success\"", with: "\"failed\""))
            batch.put(.records, key: fixture.recordKey(9), value: bad)
            batch.put(.treeNodes, key: fixture.nodeKey(0, 8), value: LedgerHash.leaf(bad).bytes)
        }
    }

    @Test func namesBytesThatWereHashedButAreNoRecord() throws {
        for (part, damage) in [
            ("\"before\":null", "\"before\": null"), ("\"lab-a\"", "\"lab-b\""), ("\"action\":", "\"actiom\":"),
            ("\"recorded_at\":\"2023", "\"recorded_at\":\"2013"),
        ] {
            try self.expect(.malformed, at: 21, damage) { fixture, batch in
                let bad = bytes(text(fixture.appended[20].bytes).replacing(part, with: damage))
                batch.put(.records, key: fixture.recordKey(21), value: bad)
                batch.put(.treeNodes, key: fixture.nodeKey(0, 20), value: LedgerHash.leaf(bad).bytes)
            }
        }
    }

    @Test func passesAHistoryThatWasRewrittenThroughout() throws {
        // Nothing inside one replica tells it: comparison with the others does (see ReplicaComparisonTests).
        #expect(try LedgerFixture(records: 50, seed: 2).verify().isSound)
    }

    @Test func namesAMissingRecordWithoutAHead() throws {
        try self.expect(.missing, at: 9) { fixture, batch in
            batch.delete(.records, key: fixture.recordKey(9))
            batch.delete(.ledgerHeads, key: fixture.headKey)
        }
    }

    @Test func namesTheFirstOfSeveral() throws {
        try self.expect(.modified, at: 7) { fixture, batch in
            for sequence in [UInt64(7), 12] { batch.put(.records, key: fixture.recordKey(sequence), value: [0x7B]) }
            batch.delete(.records, key: fixture.recordKey(15))
            batch.delete(.ledgerHeads, key: fixture.headKey)
            batch.put(.treeNodes, key: fixture.nodeKey(3, 0), value: Digest.zero.bytes)
        }
    }

    @Test func findsDamageInLaterPieces() throws {
        let fixture = try LedgerFixture(records: 2200)
        for sequence in [UInt64(2048), 2049, 2200] {
            let good = fixture.appended[Int(sequence) - 1].bytes
            var bad = good
            bad[20] ^= 0x02
            try fixture.change { $0.put(.records, key: fixture.recordKey(sequence), value: bad) }
            let finding = try fixture.verify().finding
            #expect(finding?.kind == .modified)
            #expect(finding?.sequence.rawValue == sequence)
            try fixture.change { $0.put(.records, key: fixture.recordKey(sequence), value: good) }
            let leaf = fixture.nodeKey(0, sequence - 1)
            try fixture.change { $0.put(.treeNodes, key: leaf, value: Digest.zero.bytes) }
            #expect(try fixture.verify().finding?.kind == .treeNodeMismatch)
            try fixture.change { $0.put(.treeNodes, key: leaf, value: LedgerHash.leaf(good).bytes) }
        }
        #expect(try fixture.verify().isSound)
    }

    @Test func takesCorruptionOfTheStoreAsAFinding() throws {
        let fixture = try LedgerFixture(records: 40)
        let snapshot = try fixture.store.snapshot()
        let cases: [(ColumnFamily, [UInt8], UInt64)] = [
            (.records, fixture.recordKey(17), 17), (.treeNodes, fixture.nodeKey(0, 11), 12),
            (.treeNodes, fixture.nodeKey(2, 4), 20),
        ]
        for (family, key, sequence) in cases {
            let broken = BrokenReader(base: snapshot, family: family, key: key, code: .corruption)
            let finding = try LedgerVerifier.verify(
                store: broken,
                organization: LedgerFixture.organization,
                key: LedgerFixture.key
            ).finding
            #expect(finding?.kind == .unreadable)
            #expect(finding?.sequence.rawValue == sequence)
        }
        let head = BrokenReader(base: snapshot, family: .ledgerHeads, key: fixture.headKey, code: .corruption)
        #expect(
            try LedgerVerifier.verify(store: head, organization: LedgerFixture.organization, key: LedgerFixture.key)
                .finding?.kind == .headMismatch
        )
        let failing = BrokenReader(base: snapshot, family: .records, key: fixture.recordKey(17), code: .io)
        let error = #expect(throws: LedgerError.self) {
            try LedgerVerifier.verify(store: failing, organization: LedgerFixture.organization, key: LedgerFixture.key)
        }
        #expect(error?.code == .storage)
    }

    @Test func manyLanesFindWhatOneFinds() throws {
        // Backwards, so that nothing may rest on an order.
        let lanes = VerificationLanes { count, body in for number in (0..<count).reversed() { body(number) } }
        let fixture = try LedgerFixture(records: 20_000)
        func verify() throws -> ReplicaVerification {
            try LedgerVerifier.verify(
                store: fixture.store.snapshot(),
                organization: LedgerFixture.organization,
                key: LedgerFixture.key,
                lanes: lanes
            )
        }
        #expect(try verify() == fixture.verify())
        #expect(try verify().isSound)
        for sequence in [UInt64(1), 1024, 1025, 8192, 8193, 16_385, 20_000] {
            var bad = fixture.appended[Int(sequence) - 1].bytes
            bad[30] ^= 1
            try fixture.change { $0.put(.records, key: fixture.recordKey(sequence), value: bad) }
            #expect(try verify() == fixture.verify())
            #expect(try verify().finding?.sequence.rawValue == sequence)
            let good = fixture.appended[Int(sequence) - 1].bytes
            try fixture.change { $0.put(.records, key: fixture.recordKey(sequence), value: good) }
        }
    }

    @Test func stopsWhenAsked() throws {
        let fixture = try LedgerFixture(records: 30)
        let error = #expect(throws: LedgerError.self) {
            try LedgerVerifier.verify(
                store: fixture.store.snapshot(),
                organization: LedgerFixture.organization,
                key: LedgerFixture.key
            ) { _, _ in false }
        }
        #expect(error?.code == .cancelled)
    }
}

/// A store that cannot read one key.
private struct BrokenReader: KeyValueReader {
    let base: any KeyValueReader
    let family: ColumnFamily
    let key: [UInt8]
    let code: StorageError.Code

    private var error: StorageError { StorageError(code: self.code, message: "injected") }

    func get(_ key: [UInt8], in family: ColumnFamily) throws(StorageError) -> [UInt8]? {
        if family == self.family, key == self.key { throw self.error }
        return try self.base.get(key, in: family)
    }

    func get(_ keys: [[UInt8]], in family: ColumnFamily) throws(StorageError) -> [[UInt8]?] {
        try self.base.get(keys, in: family)
    }

    func scan(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        direction: ScanDirection,
        _ body: (_ key: [UInt8], _ value: [UInt8]) throws -> Bool
    ) throws(StorageError) {
        var isBroken = false
        try self.base.scan(family, from: lower, to: upper, direction: direction) { key, value in
            if family == self.family, key == self.key {
                isBroken = true
                return false
            }
            return try body(key, value)
        }
        if isBroken { throw self.error }
    }
}
