internal import Primitives
internal import Storage

/// Gives the rows of a data directory of format 2 their checksums, which makes it one of format 3.
///
/// Runs before the node begins. Each batch of rows carries how far the change is, so that one that was cut short goes on
/// where it was; the family `meta` and the new format come last, in one batch.
struct RowChecksumUpgrade {
    /// The format without checksums.
    static let oldFormat = UInt32(2)
    /// Rows of one batch.
    static let batchRowsMax = 4096
    private static let progressKey = Array("row_checksums".utf8)

    private let store: any KeyValueStore

    /// - Parameter store: Without checksums.
    init(store: any KeyValueStore) { self.store = store }

    /// Every family but `meta`, in a fixed order.
    private static let families = ColumnFamily.allCases.filter { RowChecksum.families.contains($0) && $0 != .meta }

    /// Changes everything that is not changed yet; blocks.
    /// - Parameter finish: Puts the rows of `meta` that say the new format into the last batch, without checksums.
    /// - Throws: ``StorageError`` or ``MalformedBytes``.
    func run(finish: (inout WriteBatch) -> Void) throws {
        var (place, after) = try self.progress()
        while place < Self.families.count {
            if let key = try self.step(Self.families[place], place, after: after) {
                after = key
            } else {
                place += 1
                after = nil
            }
        }
        var last = WriteBatch()
        try self.store.scan(.meta, from: [], to: nil) { key, value in
            if key != Self.progressKey { last.put(.meta, key: key, value: value) }
            return true
        }
        finish(&last)
        var sealed = WriteBatch()
        for case .put(let family, let key, let value) in last.operations {
            sealed.put(family, key: key, value: RowChecksum.seal(family, key, value))
        }
        sealed.delete(.meta, key: Self.progressKey)
        try self.store.write(sealed, durability: .logged)
        try self.store.flush()
    }

    /// The family that is worked on, and the last key of it that is done.
    private func progress() throws -> (place: Int, after: [UInt8]?) {
        guard let value = try self.store.get(Self.progressKey, in: .meta) else { return (0, nil) }
        var reader = ByteReader(value)
        let place = Int(try reader.read(UInt8.self))
        return (place, Array(try reader.read(count: reader.remaining)))
    }

    /// Changes the next rows of a family.
    /// - Returns: The last key; nil when there was none left.
    private func step(_ family: ColumnFamily, _ place: Int, after: [UInt8]?) throws -> [UInt8]? {
        var batch = WriteBatch()
        var last: [UInt8]?
        var count = 0
        try self.store.scan(family, from: after.map { $0 + [0] } ?? [], to: nil) { key, value in
            batch.put(family, key: key, value: RowChecksum.seal(family, key, value))
            last = key
            count += 1
            return count < Self.batchRowsMax
        }
        guard let last else { return nil }
        batch.put(.meta, key: Self.progressKey, value: [UInt8(place)] + last)
        try self.store.write(batch, durability: .logged)
        return last
    }
}
