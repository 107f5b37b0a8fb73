internal import CRocksDB
internal import Storage

/// Reads of a database, of its newest state or as of a snapshot.
@safe
final class RocksReads: Sendable {
    let database: RocksDatabase
    nonisolated(unsafe) private let snapshot: OpaquePointer?  // sendable-ok: read only, released in deinit alone
    nonisolated(unsafe) private let readOptions: OpaquePointer  // sendable-ok: read only, freed in deinit alone

    /// Keys that one call into RocksDB looks up.
    private static let keysPerCallMax = 256

    /// - Parameter takesSnapshot: Whether all reads see the state as of now.
    init(_ database: RocksDatabase, takesSnapshot: Bool) {
        self.database = database
        unsafe self.snapshot = takesSnapshot ? rocksdb_create_snapshot(database.handle) : nil
        unsafe self.readOptions = Self.options(snapshot: self.snapshot)
    }

    deinit {
        unsafe rocksdb_readoptions_destroy(self.readOptions)
        if let snapshot = unsafe self.snapshot { unsafe rocksdb_release_snapshot(self.database.handle, snapshot) }
    }

    private static func options(snapshot: OpaquePointer?) -> OpaquePointer {
        let options: OpaquePointer = unsafe rocksdb_readoptions_create()
        unsafe rocksdb_readoptions_set_verify_checksums(options, 1)
        if let snapshot = unsafe snapshot { unsafe rocksdb_readoptions_set_snapshot(options, snapshot) }
        return unsafe options
    }

    func get(_ key: [UInt8], in family: ColumnFamily) throws(StorageError) -> [UInt8]? {
        let slice = try unsafe rocksTry("get from \(family.rawValue)") { error in
            unsafe withCBytes(key) { key, keyCount in
                unsafe rocksdb_get_pinned_cf(
                    self.database.handle,
                    self.readOptions,
                    self.database.family(family),
                    key,
                    keyCount,
                    error
                )
            }
        }
        guard let slice = unsafe slice else { return nil }
        defer { unsafe rocksdb_pinnableslice_destroy(slice) }
        return unsafe Self.copy(slice)
    }

    private static func copy(_ slice: OpaquePointer) -> [UInt8] {
        var count = 0
        let bytes = unsafe rocksdb_pinnableslice_value(slice, &count)
        return unsafe [UInt8](UnsafeRawBufferPointer(start: bytes, count: count))
    }

    func get(_ keys: [[UInt8]], in family: ColumnFamily) throws(StorageError) -> [[UInt8]?] {
        if keys.count == 1 { return [try self.get(keys[0], in: family)] }
        var values: [[UInt8]?] = []
        values.reserveCapacity(keys.count)
        var first = 0
        while first < keys.count {
            let past = min(first + Self.keysPerCallMax, keys.count)
            try self.getMany(keys[first..<past], in: family, into: &values)
            first = past
        }
        return values
    }

    private func getMany(
        _ keys: ArraySlice<[UInt8]>,
        in family: ColumnFamily,
        into values: inout [[UInt8]?]
    ) throws(StorageError) {
        // All keys one after the other in memory that stays where it is.
        let packed = UnsafeMutableBufferPointer<CChar>.allocate(capacity: max(keys.reduce(0) { $0 + $1.count }, 1))
        defer { unsafe packed.deallocate() }
        var pointers: [UnsafePointer<CChar>?] = unsafe []
        var sizes: [Int] = []
        var used = 0
        for key in keys {
            let start = unsafe UnsafePointer(packed.baseAddress.map { unsafe $0 + used })
            unsafe pointers.append(start)
            sizes.append(key.count)
            for byte in key {
                unsafe packed.initializeElement(at: used, to: CChar(bitPattern: byte))
                used += 1
            }
        }
        var slices = unsafe [OpaquePointer?](repeating: nil, count: keys.count)
        var messages = unsafe [UnsafeMutablePointer<CChar>?](repeating: nil, count: keys.count)
        unsafe rocksdb_batched_multi_get_cf(
            self.database.handle,
            self.readOptions,
            self.database.family(family),
            keys.count,
            pointers,
            sizes,
            &slices,
            &messages,
            false
        )
        var failure: String?
        for place in 0..<keys.count {
            if let text = unsafe takeMessage(messages[place]) { failure = failure ?? text }
            if let slice = unsafe slices[place] {
                unsafe values.append(Self.copy(slice))
                unsafe rocksdb_pinnableslice_destroy(slice)
            } else {
                values.append(nil)
            }
        }
        if let failure { throw rocksError("get \(keys.count) keys from \(family.rawValue)", failure) }
    }

    func scan(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        direction: ScanDirection,
        _ body: (_ key: [UInt8], _ value: [UInt8]) throws -> Bool
    ) throws(StorageError) {
        let options = unsafe Self.options(snapshot: self.snapshot)
        defer { unsafe rocksdb_readoptions_destroy(options) }
        try unsafe self.iterate(family, from: lower, to: upper, direction, options) { key, value in
            try unsafe body([UInt8](key), [UInt8](value))
        }
    }

    func sweep(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        readAheadBytes: Int,
        _ body: (_ key: RawSpan, _ value: RawSpan) throws -> Bool
    ) throws(StorageError) {
        let options = unsafe Self.options(snapshot: self.snapshot)
        defer { unsafe rocksdb_readoptions_destroy(options) }
        unsafe rocksdb_readoptions_set_fill_cache(options, 0)
        // RocksDB counts every step for the thread that takes it, which nobody reads.
        rocksdb_set_perf_level(Int32(rocksdb_disable))
        if readAheadBytes > 0 { unsafe rocksdb_readoptions_set_readahead_size(options, readAheadBytes) }
        try unsafe self.iterate(family, from: lower, to: upper, .ascending, options) { key, value in
            try unsafe body(key.bytes, value.bytes)
        }
    }

    private func iterate(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        _ direction: ScanDirection,
        _ options: OpaquePointer,
        _ body: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws -> Bool
    ) throws(StorageError) {
        if let upper, !lower.lexicographicallyPrecedes(upper) { return }
        // RocksDB keeps pointers to the bounds, no copies: they go after the options, which go after the iterator.
        let lowerBound = unsafe Self.copy(lower)
        defer { unsafe lowerBound.deallocate() }
        let upperBound = unsafe Self.copy(upper ?? [])
        defer { unsafe upperBound.deallocate() }
        if !lower.isEmpty {
            unsafe rocksdb_readoptions_set_iterate_lower_bound(options, lowerBound.baseAddress, lower.count)
        }
        if let upper {
            unsafe rocksdb_readoptions_set_iterate_upper_bound(options, upperBound.baseAddress, upper.count)
        }
        let iterator: OpaquePointer = unsafe rocksdb_create_iterator_cf(
            self.database.handle,
            options,
            self.database.family(family)
        )
        defer { unsafe rocksdb_iter_destroy(iterator) }
        switch direction {
        case .ascending: unsafe rocksdb_iter_seek_to_first(iterator)
        case .descending: unsafe rocksdb_iter_seek_to_last(iterator)
        }
        while unsafe rocksdb_iter_valid(iterator) != 0 {
            guard try unsafe Self.visit(iterator, family, body) else { return }
            switch direction {
            case .ascending: unsafe rocksdb_iter_next(iterator)
            case .descending: unsafe rocksdb_iter_prev(iterator)
            }
        }
        // An iterator that met a read error looks like one that came to its end.
        try unsafe rocksTry("scan \(family.rawValue)") { unsafe rocksdb_iter_get_error(iterator, $0) }
    }

    private static func visit(
        _ iterator: OpaquePointer,
        _ family: ColumnFamily,
        _ body: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws -> Bool
    ) throws(StorageError) -> Bool {
        var keyCount = 0
        let key = unsafe rocksdb_iter_key(iterator, &keyCount)
        var valueCount = 0
        let value = unsafe rocksdb_iter_value(iterator, &valueCount)
        do {
            return try unsafe body(
                UnsafeRawBufferPointer(start: key, count: keyCount),
                UnsafeRawBufferPointer(start: value, count: valueCount)
            )
        } catch {
            throw StorageError(
                code: .visitor,
                message: "the visitor of a scan of \(family.rawValue) failed",
                cause: error
            )
        }
    }

    private static func copy(_ bytes: [UInt8]) -> UnsafeMutableBufferPointer<CChar> {
        let copy = UnsafeMutableBufferPointer<CChar>.allocate(capacity: max(bytes.count, 1))
        for (place, byte) in bytes.enumerated() {
            unsafe copy.initializeElement(at: place, to: CChar(bitPattern: byte))
        }
        return unsafe copy
    }
}
