import Primitives
import Storage
import Testing

@testable import AuditLedger

/// Ledgers of several parts, whose records are read the quick way: what is sound passes, and damage at every border is
/// named as in a small ledger.
struct LedgerStretchTests {
    private static let records = 2_100
    /// Backwards, so that nothing may rest on an order.
    private static let lanes = VerificationLanes { count, body in
        for number in (0..<count).reversed() { body(number) }
    }

    private static func draft(_ number: Int) throws -> EventDraft {
        let reason =
            switch number % 7 {
            case 3: "Grüße 試料"
            case 5: #"two \"words\""#
            default: "routine"
            }
        return try EventDraft.parse(
            bytes(
                #"{"action":"update","entity_type":"batch","entity_id":"b-\#(number)","#
                    + #""before":{"n":\#(number)},"after":{"m":[1,-2],"n":\#(number)},"reason":"\#(reason)"}"#
            ),
            defaults: LedgerFixture.context
        )
    }

    private static func ledger() throws -> LedgerFixture {
        var ledger = try LedgerFixture(records: 0)
        for number in 0..<Self.records { try ledger.append(draft: try Self.draft(number)) }
        return ledger
    }

    private static func verify(_ ledger: LedgerFixture, _ lanes: VerificationLanes) throws -> ReplicaVerification {
        try LedgerVerifier.verify(
            store: ledger.store.snapshot(),
            organization: LedgerFixture.organization,
            key: LedgerFixture.key,
            lanes: lanes
        )
    }

    private static func expect(
        _ kind: LedgerFinding.Kind,
        at sequence: UInt64,
        _ ledger: LedgerFixture,
        _ comment: String,
        damage: (inout WriteBatch) throws -> Void,
        mend: (inout WriteBatch) throws -> Void
    ) throws {
        try ledger.change(damage)
        for lanes in [VerificationLanes.one, Self.lanes] {
            let finding = try Self.verify(ledger, lanes).finding
            #expect(finding?.kind == kind, "\(comment) \(String(describing: finding))")
            #expect(finding?.sequence.rawValue == sequence, "\(comment) \(String(describing: finding))")
        }
        try ledger.change(mend)
    }

    @Test func passesASoundLedger() throws {
        let ledger = try Self.ledger()
        for lanes in [VerificationLanes.one, Self.lanes] {
            let verification = try Self.verify(ledger, lanes)
            #expect(verification.finding == nil)
            #expect(verification.root == ledger.appender.head.root)
            #expect(verification.lastChecksum == ledger.appender.head.lastChecksum)
            #expect(verification.bytesRead == UInt64(ledger.appended.reduce(0) { $0 + $1.bytes.count }))
        }
    }

    /// The quick way alone must take a sound ledger: otherwise the slow one would hide its mistakes, and its speed.
    @Test func aSoundLedgerIsNeverLookedAtRecordByRecord() throws {
        let ledger = try Self.ledger()
        let prefix = LedgerKeys.head(LedgerFixture.organization)
        let plan = RecordPart.Plan(
            first: 1,
            countMax: Self.records,
            lower: prefix,
            upper: keyAfter(prefix: prefix),
            bytesMax: .max
        )
        let outcome = RecordExaminer.examine(
            plan,
            store: try ledger.store.snapshot(),
            organization: bytes("\"lab-a\""),
            readAheadBytes: 0
        )
        guard case .records(let part) = outcome else {
            Issue.record("\(outcome)")
            return
        }
        #expect(part.count == Self.records)
        #expect(!part.isCut)
        let joined = try #require(JoinedRows([part.nodes], after: MerkleTree()))
        #expect(joined.tree == ledger.appender.head.tree)
        let other = RecordExaminer.examine(
            plan,
            store: try ledger.store.snapshot(),
            organization: bytes("\"lab-b\""),
            readAheadBytes: 0
        )
        guard case .unsound = other else {
            Issue.record("records of another organization pass")
            return
        }
    }

    @Test func namesDamageAtEveryBorder() throws {
        let ledger = try Self.ledger()
        let ends = [UInt64(1), 64, 65, 1024, 1025, 2048, 2049, UInt64(Self.records)]
        for sequence in ends {
            let key = ledger.recordKey(sequence)
            let good = ledger.appended[Int(sequence) - 1]
            let leaf = ledger.nodeKey(0, sequence - 1)
            let isLast = sequence == UInt64(Self.records)
            var bad = good.bytes
            bad[12] ^= 1
            try Self.expect(.modified, at: sequence, ledger, "\(sequence)") {
                $0.put(.records, key: key, value: bad)
            } mend: {
                $0.put(.records, key: key, value: good.bytes)
            }
            try Self.expect(isLast ? .truncated : .missing, at: sequence, ledger, "\(sequence)") {
                $0.delete(.records, key: key)
            } mend: {
                $0.put(.records, key: key, value: good.bytes)
            }
            try Self.expect(.treeNodeMismatch, at: sequence, ledger, "\(sequence)") {
                $0.put(.treeNodes, key: leaf, value: Digest.zero.bytes)
            } mend: {
                $0.put(.treeNodes, key: leaf, value: good.checksum.bytes)
            }
            try Self.expect(.malformed, at: sequence, ledger, "\(sequence)") {
                let other = bytes(text(good.bytes).replacing("\"lab-a\"", with: "\"lab-b\""))
                $0.put(.records, key: key, value: other)
                $0.put(.treeNodes, key: leaf, value: LedgerHash.leaf(other).bytes)
            } mend: {
                $0.put(.records, key: key, value: good.bytes)
                $0.put(.treeNodes, key: leaf, value: good.checksum.bytes)
            }
            guard !isLast else { continue }
            let next = ledger.appended[Int(sequence)]
            try Self.expect(.reordered, at: sequence, ledger, "\(sequence)") {
                $0.put(.records, key: key, value: next.bytes)
                $0.put(.records, key: ledger.recordKey(sequence + 1), value: good.bytes)
            } mend: {
                $0.put(.records, key: key, value: good.bytes)
                $0.put(.records, key: ledger.recordKey(sequence + 1), value: next.bytes)
            }
            // The record and its leaf agree: the chain tells, or the node above when the record completes it.
            let isLeft = sequence % 2 == 1
            try Self.expect(
                isLeft ? .brokenChain : .treeNodeMismatch,
                at: isLeft ? sequence + 1 : sequence,
                ledger,
                "\(sequence)"
            ) {
                let other = bytes(text(good.bytes).replacing("\"success\"", with: "\"failed\""))
                $0.put(.records, key: key, value: other)
                $0.put(.treeNodes, key: leaf, value: LedgerHash.leaf(other).bytes)
            } mend: {
                $0.put(.records, key: key, value: good.bytes)
                $0.put(.treeNodes, key: leaf, value: good.checksum.bytes)
            }
        }
        #expect(try Self.verify(ledger, Self.lanes).isSound)
    }

    @Test func namesTheEndsOfTheLedger() throws {
        let ledger = try Self.ledger()
        let size = UInt64(Self.records)
        let last = ledger.appended[Self.records - 1]
        for sequence in [size + 1, size + 2, size + 1024, size + 70_000] {
            let key = ledger.recordKey(sequence)
            try Self.expect(.extraRecord, at: sequence, ledger, "\(sequence)") {
                $0.put(.records, key: key, value: last.bytes)
            } mend: {
                $0.delete(.records, key: key)
            }
        }
        for kept in [UInt64(0), 1000, 1024, 1025, 2050] {
            try Self.expect(.truncated, at: kept + 1, ledger, "\(kept) kept") {
                $0.deleteRange(.records, lower: ledger.recordKey(kept + 1), upper: ledger.recordKey(size + 1))
            } mend: {
                for record in ledger.appended[Int(kept)...] {
                    $0.put(.records, key: ledger.recordKey(record.sequence.rawValue), value: record.bytes)
                }
            }
        }
        // A whole part is absent, and the ones after it are there.
        try Self.expect(.missing, at: 1025, ledger, "a part") {
            $0.deleteRange(.records, lower: ledger.recordKey(1025), upper: ledger.recordKey(2049))
        } mend: {
            for record in ledger.appended[1024..<2048] {
                $0.put(.records, key: ledger.recordKey(record.sequence.rawValue), value: record.bytes)
            }
        }
        #expect(try Self.verify(ledger, Self.lanes).isSound)
    }

    @Test func namesEveryNodeAcrossParts() throws {
        let ledger = try Self.ledger()
        for (level, index) in [
            (UInt8(1), UInt64(511)), (1, 512), (5, 32), (9, 1), (9, 2), (10, 0), (10, 1), (11, 0),
        ] {
            let key = ledger.nodeKey(level, index)
            let good = try #require(try ledger.store.get(key, in: .treeNodes))
            var bad = good
            bad[31] ^= 0x80
            let place = TreePosition(level: level, index: index).lastSequence.rawValue
            for damage in [bad, Array(good.dropLast())] {
                try Self.expect(.treeNodeMismatch, at: place, ledger, "\(level)/\(index) \(damage.count)") {
                    $0.put(.treeNodes, key: key, value: damage)
                } mend: {
                    $0.put(.treeNodes, key: key, value: good)
                }
            }
            // A row that reaches over the next one: which of the two is too much is not known.
            try ledger.change { $0.put(.treeNodes, key: key, value: good + good) }
            #expect(try Self.verify(ledger, Self.lanes).finding?.kind == .treeNodeMismatch, "\(level)/\(index)")
            try ledger.change { $0.put(.treeNodes, key: key, value: good) }
        }
        #expect(try Self.verify(ledger, Self.lanes).isSound)
    }
}
