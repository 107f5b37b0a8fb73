internal import AuditLedger
internal import Primitives

/// Walks over the whole tree: the selected ranges record by record, what lies between them by its largest subtrees.
struct OutlineCursor: Sendable {
    /// Records that are read at once.
    private static let readMax = 256

    private let ranges: [ClosedRange<UInt64>]
    private let size: UInt64
    private var rangesUsed = 0
    /// The sequence of the next record or subtree.
    private var next: UInt64 = 1
    var partCount = 0
    /// The tree so far.
    private(set) var fold = SubtreeFold()

    /// - Throws: `.refused`.
    init(ranges: [ClosedRange<UInt64>], size: UInt64) throws(PackageError) {
        var end = UInt64(0)
        for range in ranges {
            guard range.lowerBound > end, range.upperBound <= size else {
                throw PackageError(
                    .refused,
                    "the ranges do not ascend, or end beyond the checkpoint of \(size) records"
                )
            }
            end = range.upperBound
        }
        self.ranges = ranges
        self.size = size
    }

    var isAtEnd: Bool { self.next > self.size }

    /// The next lines; shown records go to `shown`, a line each.
    mutating func next(
        _ reader: LedgerReader,
        shown: inout [UInt8],
        report: inout ReportPage
    ) throws -> [OutlineLine] {
        let range = self.rangesUsed < self.ranges.count ? self.ranges[self.rangesUsed] : nil
        guard let range, self.next >= range.lowerBound else {
            return try self.skip(to: range.map { $0.lowerBound - 1 } ?? self.size, isLast: range == nil, reader)
        }
        let limit = min(UInt64(Self.readMax), range.upperBound - self.next + 1)
        let records = try reader.records(from: SequenceNumber(self.next), limit: Int(limit), bytesMax: .max)
        guard records.count == Int(limit) else {
            throw PackageError(.source, "records behind \(self.next) are missing")
        }
        var lines: [OutlineLine] = []
        for record in records {
            shown += record.bytes
            shown.append(UInt8(ascii: "\n"))
            report.add(record.bytes)
            lines.append(try self.line(LedgerHash.leaf(record.bytes), level: 0, isShown: true))
        }
        if self.next > range.upperBound { self.rangesUsed += 1 }
        return lines
    }

    /// Subtrees up to record `last`; the last record before a shown one by itself.
    private mutating func skip(to last: UInt64, isLast: Bool, _ reader: LedgerReader) throws -> [OutlineLine] {
        var lines: [OutlineLine] = []
        var nodes = OutlineGap.nodes(first: self.next, last: isLast ? last : last - 1)
        if !isLast { nodes.append(TreePosition(level: 0, index: last - 1)) }
        for node in nodes {
            lines.append(try self.line(try reader.node(at: node), level: node.level, isShown: false))
        }
        return lines
    }

    private mutating func line(_ hash: Digest, level: UInt8, isShown: Bool) throws -> OutlineLine {
        guard self.fold.add(hash, level: level) else {
            throw PackageError(.refused, "no node of level \(level) begins at record \(self.next)")
        }
        defer { self.next += 1 << UInt64(level) }
        return OutlineLine(sequence: self.next, level: level, hash: hash, isShown: isShown)
    }
}
