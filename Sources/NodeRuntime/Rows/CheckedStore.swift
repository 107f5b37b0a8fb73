internal import Consensus
internal import Primitives
internal import Storage

/// The families whose rows nothing else vouches for, and the checksum that stands behind each of their values.
///
/// Records, tree nodes and heads are held against each other by hashes; a row of any other family is only itself. Stored
/// value: the value · CRC-32C u32 over family name · 0 · key · value, so that one changed bit in key or value, and a value
/// that stands under another key, are noticed.
enum RowChecksum {
    static let byteCount = 4

    static let families: Set<ColumnFamily> = [
        .meta, .groupState, .idempotency, .checkpoints, .signedHeads, .forks, .scrubState, .sealedValues, .subjectKeys,
    ]

    private static func checksum(_ family: ColumnFamily, _ key: [UInt8], _ value: ArraySlice<UInt8>) -> UInt32 {
        var checksum = CRC32C()
        var name = Array(family.rawValue.utf8)
        name.append(0)
        name.withUnsafeBytes { checksum.update($0) }
        key.withUnsafeBytes { checksum.update($0) }
        value.withUnsafeBytes { checksum.update($0) }
        return checksum.value
    }

    /// A value as it is stored.
    static func seal(_ family: ColumnFamily, _ key: [UInt8], _ value: [UInt8]) -> [UInt8] {
        let checksum = self.checksum(family, key, value[...])
        var sealed = value
        sealed.reserveCapacity(value.count + self.byteCount)
        withUnsafeBytes(of: checksum.bigEndian) { sealed.append(contentsOf: $0) }
        return sealed
    }

    /// The value of a stored one; nil when it is not what was written under this key.
    static func open(_ family: ColumnFamily, _ key: [UInt8], _ stored: [UInt8]) -> [UInt8]? {
        guard stored.count >= self.byteCount else { return nil }
        let value = stored.dropLast(self.byteCount)
        let given = stored.suffix(self.byteCount).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        return self.checksum(family, key, value) == given ? Array(value) : nil
    }

    static func damage(_ family: ColumnFamily, _ key: [UInt8]) -> StorageError {
        let message = "a row of \(family.rawValue) is not as it was written: key \(Hex.encode(key))"
        return StorageError(code: .corruption, message: message)
    }
}

/// A reader that can go on behind a row that is not as it was written.
protocol RowChecking: KeyValueReader {
    /// Visits the rows in `lower..<upper`; the value of one that is not as it was written is nil.
    func visitRows(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        direction: ScanDirection,
        _ body: (_ key: [UInt8], _ value: [UInt8]?) throws -> Bool
    ) throws(StorageError)
}

extension KeyValueReader {
    /// Visits rows; where rows have checksums, the value of one that is not as it was written is nil.
    func visitRows(
        of family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        direction: ScanDirection = .ascending,
        _ body: (_ key: [UInt8], _ value: [UInt8]?) throws -> Bool
    ) throws(StorageError) {
        if let checking = self as? any RowChecking {
            try checking.visitRows(family, from: lower, to: upper, direction: direction, body)
        } else {
            try self.scan(family, from: lower, to: upper, direction: direction) { try body($0, $1) }
        }
    }

    /// Visits the rows whose keys begin with `prefix`, ascending, likewise.
    func visitRows(
        of family: ColumnFamily,
        prefix: [UInt8] = [],
        _ body: (_ key: [UInt8], _ value: [UInt8]?) throws -> Bool
    ) throws(StorageError) {
        try self.visitRows(of: family, from: prefix, to: keyAfter(prefix: prefix), body)
    }
}

/// Reads rows with their checksums; a row that is not as it was written is `.corruption`.
struct CheckedReader: RowChecking {
    let base: any KeyValueReader

    private func open(_ family: ColumnFamily, _ key: [UInt8], _ stored: [UInt8]) throws(StorageError) -> [UInt8] {
        guard let value = RowChecksum.open(family, key, stored) else { throw RowChecksum.damage(family, key) }
        return value
    }

    func get(_ key: [UInt8], in family: ColumnFamily) throws(StorageError) -> [UInt8]? {
        guard let stored = try self.base.get(key, in: family) else { return nil }
        return RowChecksum.families.contains(family) ? try self.open(family, key, stored) : stored
    }

    func get(_ keys: [[UInt8]], in family: ColumnFamily) throws(StorageError) -> [[UInt8]?] {
        let stored = try self.base.get(keys, in: family)
        guard RowChecksum.families.contains(family) else { return stored }
        var values: [[UInt8]?] = []
        values.reserveCapacity(keys.count)
        for (key, value) in zip(keys, stored) {
            if let value { values.append(try self.open(family, key, value)) } else { values.append(nil) }
        }
        return values
    }

    func scan(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        direction: ScanDirection,
        _ body: (_ key: [UInt8], _ value: [UInt8]) throws -> Bool
    ) throws(StorageError) {
        guard RowChecksum.families.contains(family) else {
            return try self.base.scan(family, from: lower, to: upper, direction: direction, body)
        }
        var damage: StorageError?
        try self.base.scan(family, from: lower, to: upper, direction: direction) { key, stored in
            guard let value = RowChecksum.open(family, key, stored) else {
                damage = RowChecksum.damage(family, key)
                return false
            }
            return try body(key, value)
        }
        if let damage { throw damage }
    }

    func sweep(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        readAheadBytes: Int,
        _ body: (_ key: RawSpan, _ value: RawSpan) throws -> Bool
    ) throws(StorageError) {
        guard RowChecksum.families.contains(family) else {
            return try self.base.sweep(family, from: lower, to: upper, readAheadBytes: readAheadBytes, body)
        }
        try self.scan(family, from: lower, to: upper, direction: .ascending) { key, value in
            try body(key.span.bytes, value.span.bytes)
        }
    }

    func visitRows(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        direction: ScanDirection,
        _ body: (_ key: [UInt8], _ value: [UInt8]?) throws -> Bool
    ) throws(StorageError) {
        let isChecked = RowChecksum.families.contains(family)
        try self.base.scan(family, from: lower, to: upper, direction: direction) { key, stored in
            try body(key, isChecked ? RowChecksum.open(family, key, stored) : stored)
        }
    }
}

/// A store whose rows have checksums, where nothing else vouches for them (``RowChecksum/families``).
///
/// Adds nothing of its own to what its base promises; as safe from any thread as that.
struct CheckedStore: KeyValueStore, RowChecking {
    let base: any KeyValueStore
    private var reader: CheckedReader { CheckedReader(base: self.base) }

    init(_ base: any KeyValueStore) { self.base = base }

    func get(_ key: [UInt8], in family: ColumnFamily) throws(StorageError) -> [UInt8]? {
        try self.reader.get(key, in: family)
    }

    func get(_ keys: [[UInt8]], in family: ColumnFamily) throws(StorageError) -> [[UInt8]?] {
        try self.reader.get(keys, in: family)
    }

    func scan(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        direction: ScanDirection,
        _ body: (_ key: [UInt8], _ value: [UInt8]) throws -> Bool
    ) throws(StorageError) {
        try self.reader.scan(family, from: lower, to: upper, direction: direction, body)
    }

    func sweep(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        readAheadBytes: Int,
        _ body: (_ key: RawSpan, _ value: RawSpan) throws -> Bool
    ) throws(StorageError) {
        try self.reader.sweep(family, from: lower, to: upper, readAheadBytes: readAheadBytes, body)
    }

    func visitRows(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        direction: ScanDirection,
        _ body: (_ key: [UInt8], _ value: [UInt8]?) throws -> Bool
    ) throws(StorageError) {
        try self.reader.visitRows(family, from: lower, to: upper, direction: direction, body)
    }

    func write(_ batch: WriteBatch, durability: WriteDurability) throws(StorageError) {
        var sealed = WriteBatch()
        for operation in batch.operations {
            switch operation {
            case .put(let family, let key, let value) where RowChecksum.families.contains(family):
                sealed.put(family, key: key, value: RowChecksum.seal(family, key, value))
            case .put(let family, let key, let value): sealed.put(family, key: key, value: value)
            case .delete(let family, let key): sealed.delete(family, key: key)
            case .deleteRange(let family, let lower, let upper):
                sealed.deleteRange(family, lower: lower, upper: upper)
            }
        }
        try self.base.write(sealed, durability: durability)
    }

    func sync() throws(StorageError) { try self.base.sync() }
    func snapshot() throws(StorageError) -> any KeyValueReader { CheckedReader(base: try self.base.snapshot()) }
    func checkpoint(to path: String) throws(StorageError) { try self.base.checkpoint(to: path) }
    func flush() throws(StorageError) { try self.base.flush() }

    func purge(_ family: ColumnFamily, prefix: [UInt8]) throws(StorageError) -> Bool {
        try self.base.purge(family, prefix: prefix)
    }

    func close() throws(StorageError) { try self.base.close() }
}
