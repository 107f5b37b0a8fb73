internal import Primitives
internal import Storage
internal import Synchronization

/// The quick way over a sound ledger: many records at a time, without asking which of them is wrong if one is.
///
/// Each lane reads, hashes and examines records of its own, and makes the tree nodes over them. What is left to do for the
/// whole is to see that the parts follow each other, and to compare the nodes with the stored ones.
extension LedgerVerifier {
    /// Records of one part: few enough that lanes end together, so many that beginning to read costs little beside.
    private static let partRecordsMax = UInt64(16_384)
    private static let partRecordsMin = UInt64(1_024)
    /// Parts that lanes share before the tree is looked at.
    private static let partsMax = UInt64(16)
    /// Nodes of a level that one lane compares.
    private static let comparedNodesMax = UInt64(65_536)

    /// How far a stretch went.
    enum Stretch {
        /// The verifier stands after it.
        case sound(isLast: Bool)
        /// The verifier has not moved; what is wrong stands before this sequence.
        case unsound(before: SequenceNumber)
    }

    /// A value that several threads fill.
    private final class Shared<Value: Sendable>: Sendable {
        private let value: Mutex<Value>
        init(_ value: Value) { self.value = Mutex(value) }
        func change(_ body: (inout sending Value) -> Void) { self.value.withLock { body(&$0) } }
        var current: Value { self.value.withLock { $0 } }
    }

    /// Verifies the records that come next.
    mutating func checkStretch(head: LedgerHead?) -> Stretch {
        let plans = self.plans(head)
        let end = plans.reduce(self.tree.size) { $0 + UInt64($1.countMax) }
        let made = Shared([PartOutcome?](repeating: nil, count: plans.count))
        let (reader, organization) = (self.reader, self.organizationText)
        self.lanes.perform(plans.count) { number in
            let outcome = RecordExaminer.examine(
                plans[number],
                store: reader.store,
                organization: organization,
                readAheadBytes: Self.readAheadBytes
            )
            made.change { $0[number] = outcome }
        }
        guard let (parts, isLast) = Self.records(made.current, plans), self.advance(over: parts) else {
            return .unsound(before: SequenceNumber(end + 1))
        }
        return .sound(isLast: isLast)
    }

    /// Which records are read next by which part; the same for any number of lanes.
    private func plans(_ head: LedgerHead?) -> [RecordPart.Plan] {
        let first = self.tree.size + 1
        // The head says how many parts are worth beginning, not which keys are read.
        let left = head.map { $0.size > self.tree.size ? $0.size - self.tree.size : 1 } ?? Self.partRecordsMax
        let number: UInt64
        let countMax: UInt64
        if self.bytesMax == .max {
            countMax = min(max(left / Self.partsMax, Self.partRecordsMin), Self.partRecordsMax)
            number = min((left + countMax - 1) / countMax, Self.partsMax)
        } else {
            countMax = Self.partRecordsMax
            number = 1
        }
        let bytesMax = Int(clamping: self.bytesMax - self.bytesRead)
        let prefix = LedgerKeys.head(self.reader.organization)
        return (0..<number).map { place in
            let from = first + place * countMax
            let past = SequenceNumber(from + countMax)
            return RecordPart.Plan(
                first: from,
                countMax: Int(countMax),
                // The first begins at the organization's first possible key, so that a record 0 is seen.
                lower: from == 1 ? prefix : LedgerKeys.record(self.reader.organization, SequenceNumber(from)),
                upper: place == number - 1
                    ? keyAfter(prefix: prefix) : LedgerKeys.record(self.reader.organization, past),
                bytesMax: bytesMax
            )
        }
    }

    /// The records of parts that follow each other, and whether no record follows them; nil when there is a gap or anything
    /// else is wrong.
    private static func records(
        _ outcomes: [PartOutcome?],
        _ plans: [RecordPart.Plan]
    ) -> (parts: [RecordPart], isLast: Bool)? {
        var parts: [RecordPart] = []
        var isAtEnd = false
        for (outcome, plan) in zip(outcomes, plans) {
            switch outcome {
            case .records(let part):
                guard !isAtEnd else { return nil }
                parts.append(part)
                // What comes after a part that was cut is read again.
                if part.isCut { return (parts, false) }
                isAtEnd = part.count < plan.countMax
            case .empty: isAtEnd = true
            case .unsound, nil: return nil
            }
        }
        return (parts, true)
    }

    /// Moves over examined records if they are linked and the stored nodes are those over them.
    private mutating func advance(over parts: [RecordPart]) -> Bool {
        guard let last = parts.last else { return true }
        var checksum = self.lastChecksum
        var recordedAt = self.lastRecordedAt
        for part in parts {
            let isNext = checksum.bytes.withUnsafeBytes { digest in
                part.firstPrevious.withUnsafeBytes { DigestText.isText($0, of: digest) }
            }
            guard isNext, recordedAt.map({ $0 <= part.firstRecordedAt }) ?? true else { return false }
            checksum = part.lastChecksum
            recordedAt = part.lastRecordedAt
        }
        guard let nodes = JoinedRows(parts.map(\.nodes), after: self.tree), self.areStored(nodes) else { return false }
        self.tree = nodes.tree
        self.lastChecksum = checksum
        self.lastRecordedAt = last.lastRecordedAt
        for part in parts { self.bytesRead += UInt64(part.sizeBytes) }
        return true
    }

    /// Whether the store has these nodes, in rows that end where they end.
    private func areStored(_ nodes: JoinedRows) -> Bool {
        var ranges: [(level: Int, nodes: Range<UInt64>)] = []
        for level in 0..<nodes.levels {
            let all = nodes.indices(level)
            for first in stride(from: all.lowerBound, to: all.upperBound, by: Int(Self.comparedNodesMax)) {
                ranges.append((level, first..<min(first + Self.comparedNodesMax, all.upperBound)))
            }
        }
        let (reader, all) = (self.reader, ranges)
        let isStored = Shared(true)
        self.lanes.perform(all.count) { number in
            let (level, range) = all[number]
            let isSame = try? reader.hasNodes(UInt8(level), range) { nodes.have($0, at: level, from: $1) }
            if isSame != true { isStored.change { $0 = false } }
        }
        return isStored.current
    }
}

extension LedgerReader {
    /// Whether the stored rows have nodes of a level and all of these are as they must be.
    ///
    /// - Parameter isSame: Whether digests are those of the nodes from an index on.
    /// - Throws: What the store throws.
    func hasNodes(
        _ level: UInt8,
        _ range: Range<UInt64>,
        isSame: (_ digests: UnsafeRawBufferPointer, _ first: UInt64) -> Bool
    ) throws -> Bool {
        func key(_ index: UInt64) -> [UInt8] {
            LedgerKeys.node(self.organization, TreePosition(level: level, index: index))
        }
        // The row that holds the first node may begin before it.
        var start = range.lowerBound
        if start > 0, let run = try self.run(at: TreePosition(level: level, index: start)) { start = run.first }
        var next = range.lowerBound
        var isWhole = true
        try self.store.sweep(
            .treeNodes,
            from: key(start),
            to: key(range.upperBound),
            readAheadBytes: 0
        ) { key, value in
            let (count, rest) = value.byteCount.quotientAndRemainder(dividingBy: Digest.byteCount)
            guard let place = LedgerKeys.position(ofNodeKey: key), rest == 0, count > 0, place.index <= next,
                place.index == next || place.index == start, place.index + UInt64(count) > next
            else {
                isWhole = false
                return false
            }
            let past = min(place.index + UInt64(count), range.upperBound)
            isWhole = value.withUnsafeBytes { bytes in
                let digests = bytes[
                    Int(next - place.index) * Digest.byteCount..<Int(past - place.index) * Digest.byteCount
                ]
                return isSame(UnsafeRawBufferPointer(rebasing: digests), next)
            }
            next = past
            return isWhole
        }
        return isWhole && next == range.upperBound
    }
}
