import AuditLedger
import Primitives
import Storage
import Testing

/// Rows of the tree that hold several nodes.
@Suite("Tree nodes that share a row")
struct NodeRunTests {
    private static let organization = LedgerFixture.organization

    /// A ledger appended command by command, and its twin appended record by record.
    private func ledgers(_ commands: [Int]) throws -> (rows: InMemoryStore, single: InMemoryStore, head: LedgerHead) {
        let rows = InMemoryStore()
        let single = InMemoryStore()
        var one = LedgerAppender(head: LedgerHead(empty: Self.organization))
        var other = one
        var number: UInt64 = 0
        for count in commands {
            var drafts: [EventDraft] = []
            for _ in 0..<count {
                number += 1
                drafts.append(try LedgerFixture.draft(number))
            }
            let time = Timestamp(microseconds: 1_700_000_000_000_000 + Int64(number))
            var batch = WriteBatch()
            let made = one.append(drafts, stampedAt: time, into: &batch)
            one.finish(into: &batch)
            try rows.write(batch)
            batch = WriteBatch()
            let checksums = drafts.map { other.append($0, stampedAt: time, into: &batch).checksum }
            other.finish(into: &batch)
            try single.write(batch)
            #expect(made.checksums == checksums && made.recordedAt == time)
        }
        #expect(one.head == other.head)
        return (rows, single, one.head)
    }

    private func verify(_ store: InMemoryStore) throws -> ReplicaVerification {
        try LedgerVerifier.verify(store: store, organization: Self.organization, key: LedgerFixture.key)
    }

    private static let shapes: [[Int]] = [
        [1], [2, 1, 1], [3, 7, 1, 20, 1], [600], [255, 2, 256, 3], [1, 1, 1, 500, 1, 1],
    ]

    @Test(arguments: Self.shapes)
    func readTheSameAsNodesOneByOne(shape: [Int]) throws {
        let (rows, single, head) = try self.ledgers(shape)
        let one = LedgerReader(store: rows, organization: Self.organization)
        let other = LedgerReader(store: single, organization: Self.organization)
        var level = UInt8(0)
        while MerkleTree.nodeCount(level: level, size: head.size) > 0 {
            for index in 0..<MerkleTree.nodeCount(level: level, size: head.size) {
                let position = TreePosition(level: level, index: index)
                #expect(try one.node(at: position) == other.node(at: position))
            }
            level += 1
        }
        let sizes = Array(0...head.size)
        #expect(try one.roots(at: sizes) == other.roots(at: sizes))
        for first in stride(from: UInt64(1), through: head.size, by: 13) {
            let count = Int(min(40, head.size - first + 1))
            let expected = try (0..<count).map { try other.checksum(at: SequenceNumber(first + UInt64($0))) }
            #expect(try one.checksums(from: SequenceNumber(first), count: count) == expected)
        }
        #expect(try self.verify(rows).isSound)
        #expect(try rows.count(of: .treeNodes) <= single.count(of: .treeNodes))
    }

    @Test func absentNodesAreDamage() throws {
        let (rows, _, head) = try self.ledgers([5, 3])
        let reader = LedgerReader(store: rows, organization: Self.organization)
        #expect(throws: LedgerError.self) { try reader.node(at: TreePosition(level: 0, index: head.size)) }
        #expect(throws: LedgerError.self) { try reader.node(at: TreePosition(level: 9, index: 0)) }
        #expect(throws: LedgerError.self) { try reader.checksums(from: SequenceNumber(7), count: 3) }
    }

    /// Whatever is done to a row, the verifier sees it.
    @Test func everyDamageOfARowIsFound() throws {
        let (good, _, _) = try self.ledgers([3, 300, 1, 1, 9])
        var rows: [(key: [UInt8], value: [UInt8])] = []
        try good.scan(.treeNodes, from: [], to: nil) { key, value in
            rows.append((key, value))
            return true
        }
        #expect(rows.contains { $0.value.count > 32 })
        for row in rows {
            var damages: [(String, (inout WriteBatch) -> Void)] = [
                ("removed", { $0.delete(.treeNodes, key: row.key) }),
                (
                    "longer by a node",
                    { $0.put(.treeNodes, key: row.key, value: row.value + Array(repeating: 7, count: 32)) }
                ),
                ("longer by a byte", { $0.put(.treeNodes, key: row.key, value: row.value + [0]) }),
                ("shorter by a node", { $0.put(.treeNodes, key: row.key, value: Array(row.value.dropLast(32))) }),
                ("empty", { $0.put(.treeNodes, key: row.key, value: []) }),
            ]
            for place in stride(from: 0, to: row.value.count, by: max(1, row.value.count / 7)) {
                var value = row.value
                value[place] ^= 4
                damages.append(("byte \(place)", { [value] in $0.put(.treeNodes, key: row.key, value: value) }))
            }
            if row.value.count > 32 {
                // A second row within the first, with the right digest: two places for one node.
                var key = row.key
                key[12] += 1
                damages.append(("twice", { [key] in $0.put(.treeNodes, key: key, value: Array(row.value[32..<64])) }))
            }
            for (name, damage) in damages {
                let store = try InMemoryStore(copying: good)
                var batch = WriteBatch()
                damage(&batch)
                try store.write(batch)
                #expect(try !self.verify(store).isSound, "row \(row.key), \(name)")
            }
        }
    }

    @Test func adoptedRecordsMakeTheSameLedger() throws {
        let (rows, _, head) = try self.ledgers([4, 90, 1])
        let records = try LedgerReader(store: rows, organization: Self.organization)
            .records(from: SequenceNumber(1), limit: 1_000)
        let copy = InMemoryStore()
        var appender = LedgerAppender(head: LedgerHead(empty: Self.organization))
        var batch = WriteBatch()
        for record in records { try appender.adopt(record.bytes, into: &batch) }
        #expect(appender.head == head)
        let before = appender.head
        #expect(throws: LedgerError.self) { try appender.adopt(records[5].bytes, into: &batch) }
        #expect(throws: LedgerError.self) { try appender.adopt([1, 2, 3], into: &batch) }
        #expect(appender.head == before)
        appender.finish(into: &batch)
        try copy.write(batch)
        #expect(try self.verify(copy).isSound)
    }
}
