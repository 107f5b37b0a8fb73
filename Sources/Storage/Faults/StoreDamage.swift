/// Keys of a ``FaultInjectingStore`` whose bytes at rest cannot be read.
package struct StoreDamage: Sendable {
    /// What a failing disk does to the value of a key.
    package enum Kind: Sendable, Hashable {
        /// A bit of the value is another, and the store does not notice: whoever reads it must.
        case flippedBit(Int)
        /// The value is that of another key of the family, and the store does not notice.
        case valueOf([UInt8])
        /// The store notices: every read that touches the key throws `.corruption`.
        case unreadable
    }

    private var keys: [ColumnFamily: [[UInt8]]] = [:]

    mutating func insert(_ key: [UInt8], in family: ColumnFamily) { self.keys[family, default: []].append(key) }

    /// A key that is written again can be read again.
    mutating func heal(_ batch: WriteBatch) {
        if self.keys.isEmpty { return }
        for operation in batch.operations {
            switch operation {
            case .put(let family, let key, _), .delete(let family, let key):
                self.keys[family]?.removeAll { $0 == key }
            case .deleteRange(let family, let lower, let upper):
                self.keys[family]?.removeAll { !bytesPrecede($0, lower) && bytesPrecede($0, upper) }
            }
        }
    }

    private func check(_ family: ColumnFamily, _ isTouched: ([UInt8]) -> Bool) throws(StorageError) {
        guard let keys = self.keys[family], keys.contains(where: isTouched) else { return }
        throw StorageError(code: .corruption, message: "injected damage in \(family.rawValue)")
    }

    func get(
        _ key: [UInt8],
        in family: ColumnFamily,
        from reader: any KeyValueReader
    ) throws(StorageError) -> [UInt8]? {
        try self.check(family) { $0 == key }
        return try reader.get(key, in: family)
    }

    func get(
        _ keys: [[UInt8]],
        in family: ColumnFamily,
        from reader: any KeyValueReader
    ) throws(StorageError) -> [[UInt8]?] {
        try self.check(family) { keys.contains($0) }
        return try reader.get(keys, in: family)
    }

    /// Visits what comes before the first key that cannot be read, then throws.
    func scan(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        direction: ScanDirection,
        in reader: any KeyValueReader,
        _ body: (_ key: [UInt8], _ value: [UInt8]) throws -> Bool
    ) throws(StorageError) {
        let damaged = self.keys[family] ?? []
        var isDamaged = false
        try reader.scan(family, from: lower, to: upper, direction: direction) { key, value in
            if !damaged.isEmpty, damaged.contains(key) {
                isDamaged = true
                return false
            }
            return try body(key, value)
        }
        if isDamaged { throw StorageError(code: .corruption, message: "injected damage in \(family.rawValue)") }
    }
}
