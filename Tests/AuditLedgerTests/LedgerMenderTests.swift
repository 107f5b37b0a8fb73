import AuditLedger
import Primitives
import Storage
import Testing

/// A damaged replica is brought back to what a trusted root stands for, and to nothing else.
struct LedgerMenderTests {
    enum Stopped: Error, Equatable {
        case caught(DescentFault.Kind)
        case unavailable
        case damaged
    }

    /// Mends `fixture` with what `source` gives, from a sequence on.
    @discardableResult
    func mend(
        _ fixture: LedgerFixture,
        from source: some TreeSide,
        trusted: TreeHead,
        at sequence: UInt64,
        record: (SequenceNumber, [UInt8]) -> [UInt8] = { $1 }
    ) throws -> LedgerMender? {
        var walk = LeafWalk(trusted: trusted, from: sequence - 1)
        var mender: LedgerMender?
        while true {
            switch walk.next() {
            case .ask(let question): walk.answer(try source.answer(question))
            case .leaves(let first, let leaves):
                let start = walk.before ?? MerkleTree()
                var next =
                    mender
                    ?? LedgerMender(
                        store: fixture.store,
                        organization: LedgerFixture.organization,
                        before: start
                    )
                let page = try next.examine(leaves, first: first)
                let records = try page.wanted.map { wanted in
                    guard case .record(let bytes?) = try source.answer(.record(wanted)) else {
                        throw Stopped.unavailable
                    }
                    return record(wanted, bytes)
                }
                let batch: WriteBatch
                do {
                    batch = try next.mend(page, records: records)
                } catch {
                    throw Stopped.damaged
                }
                try fixture.store.write(batch)
                mender = next
            case .done: return mender
            case .caught(let fault): throw Stopped.caught(fault.kind)
            case .unavailable: throw Stopped.unavailable
            }
        }
    }

    static let size: UInt64 = 700
    static func damages() -> [(name: String, first: UInt64, damage: (LedgerFixture, inout WriteBatch) -> Void)] {
        [
            ("record changed", 300, { $1.put(.records, key: $0.recordKey(300), value: $0.appended[4].bytes) }),
            ("record absent", 257, { $1.delete(.records, key: $0.recordKey(257)) }),
            (
                "records swapped", 10,
                {
                    $1.put(.records, key: $0.recordKey(10), value: $0.appended[600].bytes)
                    $1.put(.records, key: $0.recordKey(601), value: $0.appended[9].bytes)
                }
            ),
            (
                "leaves absent", 1,
                { fixture, batch in
                    for level in UInt8(0)..<10 {
                        let lower = fixture.nodeKey(level, 0)
                        batch.deleteRange(.treeNodes, lower: lower, upper: fixture.nodeKey(level + 1, 0))
                    }
                }
            ),
            (
                "a node changed", 511,
                { $1.put(.treeNodes, key: $0.nodeKey(0, 510), value: [UInt8](repeating: 7, count: 32)) }
            ),
            ("a row of another form", 600, { $1.put(.treeNodes, key: $0.nodeKey(1, 299), value: [1, 2, 3]) }),
            ("a key of another form", 400, { $1.put(.records, key: $0.recordKey(400) + [1], value: [1]) }),
            (
                "the last records absent", 650,
                { fixture, batch in
                    batch.deleteRange(.records, lower: fixture.recordKey(650), upper: fixture.recordKey(701))
                }
            ),
        ]
    }

    @Test(arguments: 0..<8) func mendsEveryDamage(number: Int) throws {
        let (name, first, damage) = Self.damages()[number]
        let source = try LedgerFixture(records: Int(Self.size))
        let fixture = try LedgerFixture(records: Int(Self.size))
        let trusted = TreeHead(size: Self.size, root: source.appender.head.root)
        try fixture.change { damage(fixture, &$0) }
        let finding = try #require(try fixture.verify().finding, "\(name)")
        #expect(finding.sequence.rawValue >= first || number == 5, "\(name): \(finding)")
        let mender = try self.mend(fixture, from: source.reader(), trusted: trusted, at: first)
        #expect(try fixture.verify().finding == nil, "\(name)")
        #expect(try mender?.head() == source.appender.head, "\(name)")
        #expect((mender?.recordsMended ?? 0) + (mender?.nodesMended ?? 0) > 0 || number == 6, "\(name)")
    }

    @Test func touchesNothingThatIsRight() throws {
        let fixture = try LedgerFixture(records: 600)
        let head = fixture.appender.head
        let trusted = TreeHead(size: head.size, root: head.root)
        let mender = try self.mend(fixture, from: fixture.reader(), trusted: trusted, at: 1)
        #expect(mender?.recordsMended == 0 && mender?.nodesMended == 0)
        #expect(try fixture.verify().isSound)
    }

    @Test func bringsARewrittenHistoryBack() throws {
        let source = try MerkleDescentTests.rewritten(records: 600, at: nil)
        let fixture = try MerkleDescentTests.rewritten(records: 600, at: 290)
        #expect(try fixture.verify().isSound)
        let trusted = TreeHead(size: 600, root: source.appender.head.root)
        let mender = try #require(try self.mend(fixture, from: source.reader(), trusted: trusted, at: 290))
        #expect(mender.recordsMended == 311)
        try fixture.change { $0.put(.ledgerHeads, key: fixture.headKey, value: try mender.head().encode()) }
        #expect(try fixture.verify() == source.verify())
    }

    @Test func mendsUnderWhatWasAppendedSince() throws {
        let source = try LedgerFixture(records: 300)
        var fixture = try LedgerFixture(records: 300)
        try fixture.append(211, seed: 4)
        let whole = fixture.appender.head
        try fixture.change { $0.put(.records, key: fixture.recordKey(299), value: [1]) }
        try fixture.change { $0.delete(.treeNodes, key: fixture.nodeKey(0, 256)) }
        let trusted = TreeHead(size: 300, root: source.appender.head.root)
        try self.mend(fixture, from: source.reader(), trusted: trusted, at: 200)
        // Nodes of later records that stood in the same rows as these are still there.
        #expect(try fixture.verify().finding == nil)
        #expect(try fixture.verify().root == whole.root)
    }

    @Test func takesNothingFromASourceThatLies() throws {
        let honest = try MerkleDescentTests.rewritten(records: 600, at: nil)
        let other = try MerkleDescentTests.rewritten(records: 600, at: 290)
        let trusted = TreeHead(size: 600, root: honest.appender.head.root)
        let fixture = try LedgerFixture(records: 600)
        try fixture.change { $0.delete(.records, key: fixture.recordKey(300)) }
        let before = try fixture.verify()
        // Another history.
        #expect(throws: Stopped.caught(.contradictsItself)) {
            try self.mend(fixture, from: other.reader(), trusted: trusted, at: 300)
        }
        // The right tree down to a level, another one below.
        for level in [UInt8(9), 8] {
            let side = try MerkleDescentTests.Side(honest) { question, answer in
                guard case .descendants(let node) = question, node.level == level,
                    case .digests(var digests) = answer
                else { return answer }
                digests[0] = LedgerHash.leaf([1])
                return .digests(digests)
            }
            #expect(throws: Stopped.caught(.contradictsItself), "level \(level)") {
                try self.mend(fixture, from: side, trusted: trusted, at: 1)
            }
        }
        // The right tree, another record.
        #expect(throws: Stopped.damaged) {
            try self.mend(fixture, from: honest.reader(), trusted: trusted, at: 300) { _, _ in other.appended[299].bytes
            }
        }
        let short = try MerkleDescentTests.Side(honest) { question, answer in
            if case .descendants = question { .digests([]) } else { answer }
        }
        #expect(throws: Stopped.caught(.malformed)) { try self.mend(fixture, from: short, trusted: trusted, at: 300) }
        let silent = try MerkleDescentTests.Side(honest) { _, _ in .unavailable("down") }
        #expect(throws: Stopped.unavailable) { try self.mend(fixture, from: silent, trusted: trusted, at: 300) }
        #expect(try fixture.verify() == before)
    }
}

/// Parts and quick checks.
struct LedgerPartTests {
    @Test(arguments: [UInt64(1), 100_000, 1 << 40]) func partsComeToTheSameAsTheWhole(bytesMax: UInt64) throws {
        let fixture = try LedgerFixture(records: 20_000)
        let whole = try fixture.verify()
        var head: LedgerHead?
        var parts = 0
        var bytes: UInt64 = 0
        while true {
            let part = try LedgerVerifier.verifyPart(
                store: fixture.store.snapshot(),
                organization: LedgerFixture.organization,
                key: LedgerFixture.key,
                from: head,
                bytesMax: bytesMax
            )
            #expect(part.finding == nil)
            parts += 1
            bytes += part.bytesRead
            // What a node keeps between parts.
            head = try LedgerHead.decode(part.head.encode())
            if part.isLast { break }
        }
        #expect(head == fixture.appender.head)
        #expect(bytes == whole.bytesRead)
        #expect(bytesMax > 1 << 30 ? parts == 1 : parts > 1)
        var bad = fixture.appended[12_000].bytes
        bad[20] ^= 1
        try fixture.change { $0.put(.records, key: fixture.recordKey(12_001), value: bad) }
        let late = try LedgerVerifier.verifyPart(
            store: fixture.store.snapshot(),
            organization: LedgerFixture.organization,
            key: LedgerFixture.key,
            from: head,
            bytesMax: bytesMax
        )
        #expect(late.finding == nil && late.bytesRead == 0, "what was read is not read again")
    }

    @Test(arguments: [0, 1, 2, 3, 64, 99, 300]) func quickCheckPassesASoundLedger(records: Int) throws {
        #expect(try LedgerFixture(records: records).reader().quickFinding() == nil)
    }

    @Test func quickCheckNamesWhatDoesNotFit() throws {
        func expect(
            _ kind: LedgerFinding.Kind,
            _ place: String,
            _ damage: (LedgerFixture, inout WriteBatch) throws -> Void
        ) throws {
            let fixture = try LedgerFixture(records: 21)
            try fixture.change { try damage(fixture, &$0) }
            let finding = try fixture.reader().quickFinding()
            #expect(finding?.kind == kind, "\(String(describing: finding))")
            #expect(finding?.place == place, "\(String(describing: finding))")
        }
        let head = try LedgerFixture(records: 21).appender.head.encode()
        for byte in head.indices {
            var bad = head
            bad[byte] ^= 1
            let fixture = try LedgerFixture(records: 21)
            try fixture.change { $0.put(.ledgerHeads, key: fixture.headKey, value: bad) }
            #expect(try fixture.reader().quickFinding() != nil, "byte \(byte)")
        }
        try expect(.headMismatch, "ledger_heads") { fixture, batch in
            batch.put(.ledgerHeads, key: fixture.headKey, value: try LedgerFixture(records: 20).appender.head.encode())
        }
        try expect(.headMismatch, "ledger_heads") { $1.put(.ledgerHeads, key: $0.headKey, value: [1, 2]) }
        try expect(.truncated, "records/21") { $1.delete(.records, key: $0.recordKey(21)) }
        try expect(.modified, "records/21") { $1.put(.records, key: $0.recordKey(21), value: $0.appended[3].bytes) }
        try expect(.treeNodeMismatch, "tree_nodes/4/0") { fixture, batch in
            batch.deleteRange(.treeNodes, lower: fixture.nodeKey(4, 0), upper: fixture.nodeKey(5, 0))
        }
    }
}
