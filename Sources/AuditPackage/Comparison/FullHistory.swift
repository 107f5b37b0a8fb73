internal import AuditLedger
internal import Primitives
internal import Synchronization

/// The tree of a full package: a hash for each bundle in memory, those below are computed from the records when they are
/// asked for.
struct FullHistory: PackageHistory {
    private static let bundleLevel = UInt8(8)
    private static let bundleRecords = UInt64(TilePath.fullWidth)

    let size: UInt64
    let lack: PackageTree.Lack?
    private let parts: PackageParts
    /// The size of the checkpoint, by which the last bundle is named.
    private let whole: UInt64
    /// The roots over whole bundles, and over pairs of them, and so on: level 8 first.
    private let levels: [[Digest]]
    private let last = LastBundle()

    /// The bundle that was read last: questions come in the order of the records.
    private final class LastBundle: Sendable {
        let bundle = Mutex<(index: UInt64, records: [[UInt8]])?>(nil)
    }

    init(_ parts: PackageParts, size whole: UInt64) throws(PackageError) {
        var roots: [Digest] = []
        var size = UInt64(0)
        var lack: PackageTree.Lack?
        for index in 0..<(whole + Self.bundleRecords - 1) / Self.bundleRecords {
            guard let path = TilePath.bundle(index: index, size: whole) else { break }
            let records = try Self.records(parts, path)
            size += UInt64(records.count)
            guard records.count == path.width else {
                lack = PackageTree.Lack(sequence: SequenceNumber(size + 1), file: path.text)
                break
            }
            if path.isFull { roots.append(MerkleTree.root(ofPerfect: records.map { LedgerHash.leaf($0) })) }
        }
        var levels = [roots]
        while let below = levels.last, below.count > 1 {
            levels.append(stride(from: 0, to: below.count - 1, by: 2).map { LedgerHash.node(below[$0], below[$0 + 1]) })
        }
        self.parts = parts
        self.whole = whole
        self.size = size
        self.lack = lack
        self.levels = levels
    }

    /// The records of a bundle up to the first one that is not there; none without the bundle.
    private static func records(_ parts: PackageParts, _ path: TilePath) throws(PackageError) -> [[UInt8]] {
        guard let member = parts.archive.member(path.text) else { return [] }
        let bytes = try parts.archive.content(of: member).bytes
        var records: [[UInt8]] = []
        var next = 0
        while records.count < path.width, bytes.count - next >= 2 {
            let count = Int(bytes[next]) << 8 | Int(bytes[next + 1])
            guard bytes.count - next - 2 >= count else { break }
            records.append(Array(bytes[next + 2..<next + 2 + count]))
            next += 2 + count
        }
        return records
    }

    private func bundle(_ index: UInt64) throws(PackageError) -> [[UInt8]] {
        if let known = self.last.bundle.withLock({ $0?.index == index ? $0?.records : nil }) { return known }
        guard let path = TilePath.bundle(index: index, size: self.whole) else { return [] }
        let records = try Self.records(self.parts, path)
        self.last.bundle.withLock { $0 = (index, records) }
        return records
    }

    func cover(_ position: TreePosition, down level: UInt8) throws -> [DescentNode] {
        let first = position.index << UInt64(position.level - level)
        let count = UInt64(1) << UInt64(position.level - level)
        if level >= Self.bundleLevel {
            let row = self.levels[Int(level - Self.bundleLevel)]
            return (first..<first + count).map {
                DescentNode(position: TreePosition(level: level, index: $0), digest: row[Int($0)])
            }
        }
        // A row below a bundle is never wider than the bundle.
        let start = first << UInt64(level)
        let width = Int(count << UInt64(level))
        let records = try self.bundle(start / Self.bundleRecords)
        let offset = Int(start % Self.bundleRecords)
        guard width <= Int(Self.bundleRecords), records.count >= offset + width else {
            throw PackageError(.truncated, "the package changed while it was read")
        }
        let leaves = records[offset..<offset + width].map { LedgerHash.leaf($0) }
        let step = 1 << Int(level)
        return stride(from: 0, to: width, by: step).enumerated().map { place, start in
            DescentNode(
                position: TreePosition(level: level, index: first + UInt64(place)),
                digest: MerkleTree.root(ofPerfect: Array(leaves[start..<start + step]))
            )
        }
    }

    func record(_ sequence: SequenceNumber) throws -> [UInt8]? {
        let records = try self.bundle((sequence.rawValue - 1) / Self.bundleRecords)
        let place = Int((sequence.rawValue - 1) % Self.bundleRecords)
        return place < records.count ? records[place] : nil
    }
}
