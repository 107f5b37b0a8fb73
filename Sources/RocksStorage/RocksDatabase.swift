internal import CRocksDB
internal import Glibc
internal import Storage
internal import Synchronization

/// The one owner of an open RocksDB database and of everything that must live as long as it.
///
/// Whoever makes a call holds a reference, as does every snapshot; the last release closes the database.
@safe
final class RocksDatabase: Sendable {
    nonisolated(unsafe) let handle: OpaquePointer  // sendable-ok: RocksDB locks inside; freed in deinit alone
    nonisolated(unsafe) private let families: [OpaquePointer]  // sendable-ok: read only, freed in deinit alone
    nonisolated(unsafe) private let unusedFamily: OpaquePointer  // sendable-ok: read only, freed in deinit alone
    nonisolated(unsafe) private let logged: OpaquePointer  // sendable-ok: read only, freed in deinit alone
    nonisolated(unsafe) private let unlogged: OpaquePointer  // sendable-ok: read only, freed in deinit alone
    private let options: RocksOptionHandles
    private let batches = RocksBatchPool()
    /// One flush at a time.
    private let flushing = Mutex<Void>(())

    /// RocksDB demands that this family exists; nothing is stored in it.
    private static let unusedFamilyName = "default"

    /// - Throws: ``StorageError`` `.busy` when another owner has it open, `.incompatible` for unknown families,
    ///   `.corruption`, `.io`.
    init(path: String, options: RocksOptions) throws(StorageError) {
        let options = RocksOptionHandles(options)
        let known = Set(ColumnFamily.allCases.map(\.rawValue))
        let retired = try Self.retiredFamilies(path: path, options: options, known: known)
        // All that are there must be opened.
        let names = [Self.unusedFamilyName] + ColumnFamily.allCases.map(\.rawValue) + retired
        var familyOptions: [OpaquePointer?] = unsafe [options.database]
        for place in unsafe options.families.indices { unsafe familyOptions.append(options.families[place]) }
        for _ in retired { unsafe familyOptions.append(options.database) }
        var cNames: [UnsafePointer<CChar>?] = unsafe names.map { unsafe UnsafePointer(strdup($0)) }
        defer {
            for place in names.indices { unsafe free(UnsafeMutablePointer(mutating: cNames[place])) }
        }
        var handles = unsafe [OpaquePointer?](repeating: nil, count: names.count)
        let handle = try unsafe rocksTry("open \(path)") {
            unsafe rocksdb_open_column_families(
                options.database,
                path,
                Int32(names.count),
                &cNames,
                &familyOptions,
                &handles,
                $0
            )
        }
        let opened = unsafe handles.compactMap { unsafe $0 }
        guard let handle = unsafe handle, unsafe opened.count == names.count else {
            throw StorageError(code: .io, message: "open \(path): not all families were opened")
        }
        unsafe self.handle = handle
        unsafe self.unusedFamily = opened[0]
        unsafe self.families = Array(opened.dropFirst().dropLast(retired.count))
        unsafe self.logged = Self.writeOptions(isLogged: true)
        unsafe self.unlogged = Self.writeOptions(isLogged: false)
        self.options = options
        let gone = unsafe Array(opened.suffix(retired.count))
        defer { for place in unsafe gone.indices { unsafe rocksdb_column_family_handle_destroy(gone[place]) } }
        // All of them are looked at before one is dropped.
        for place in unsafe gone.indices {
            guard try unsafe Self.isEmpty(gone[place], of: handle, name: retired[place]) else {
                throw StorageError(
                    code: .incompatible,
                    message: "\(path) has a Raft log of an earlier format in the family \(retired[place])"
                )
            }
        }
        for place in unsafe gone.indices {
            try unsafe rocksTry("drop the family \(retired[place]) of \(path)") {
                unsafe rocksdb_drop_column_family(handle, gone[place], $0)
            }
        }
    }

    private static func isEmpty(
        _ family: OpaquePointer,
        of handle: OpaquePointer,
        name: String
    ) throws(StorageError) -> Bool {
        let options: OpaquePointer = unsafe rocksdb_readoptions_create()
        defer { unsafe rocksdb_readoptions_destroy(options) }
        let iterator: OpaquePointer = unsafe rocksdb_create_iterator_cf(handle, options, family)
        defer { unsafe rocksdb_iter_destroy(iterator) }
        unsafe rocksdb_iter_seek_to_first(iterator)
        let isEmpty = unsafe rocksdb_iter_valid(iterator) == 0
        // An iterator that met a read error looks like one that came to its end.
        try unsafe rocksTry("look into the family \(name)") { unsafe rocksdb_iter_get_error(iterator, $0) }
        return isEmpty
    }

    deinit {
        for place in unsafe self.families.indices {
            unsafe rocksdb_column_family_handle_destroy(self.families[place])
        }
        unsafe rocksdb_column_family_handle_destroy(self.unusedFamily)
        unsafe rocksdb_writeoptions_destroy(self.logged)
        unsafe rocksdb_writeoptions_destroy(self.unlogged)
        unsafe rocksdb_close(self.handle)
    }

    private static func writeOptions(isLogged: Bool) -> OpaquePointer {
        let options: OpaquePointer = unsafe rocksdb_writeoptions_create()
        unsafe rocksdb_writeoptions_set_sync(options, 0)
        unsafe rocksdb_writeoptions_disable_WAL(options, isLogged ? 0 : 1)
        return unsafe options
    }

    /// Reads the names of the families from the manifest; a store that does not exist yet has none.
    /// - Returns: Those that this version drops.
    /// - Throws: ``StorageError`` `.incompatible` when there are others that it does not know.
    static func retiredFamilies(
        path: String,
        options: RocksOptionHandles,
        known: Set<String>
    ) throws(StorageError) -> [String] {
        guard unsafe access(path + "/CURRENT", F_OK) == 0 else { return [] }
        var count = 0
        var list: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
        // RocksDB makes a list, an empty one, even when it reports an error.
        defer {
            if let list = unsafe list { unsafe rocksdb_list_column_families_destroy(list, count) }
        }
        try unsafe rocksTry("list the families of \(path)") {
            unsafe list = rocksdb_list_column_families(options.database, path, &count, $0)
        }
        guard let list = unsafe list else { return [] }
        var unknown: [String] = []
        var retired: [String] = []
        for place in 0..<count {
            guard let cName = unsafe list[place] else { continue }
            let name = unsafe String(cString: cName)
            if name == self.unusedFamilyName || known.contains(name) { continue }
            if ColumnFamily.retiredNames.contains(name) { retired.append(name) } else { unknown.append(name) }
        }
        guard unknown.isEmpty else {
            throw StorageError(
                code: .incompatible,
                message: "\(path) has families that this version does not know: \(unknown.joined(separator: ", "))"
            )
        }
        return retired
    }

    func family(_ family: ColumnFamily) -> OpaquePointer { unsafe self.families[family.number] }

    /// Applies the batch, without an fsync.
    func write(_ batch: WriteBatch, durability: WriteDurability) throws(StorageError) {
        // RocksDB counts comparisons for each thread, which costs more than the comparisons of short keys.
        rocksdb_set_perf_level(Int32(rocksdb_disable))
        let taken = self.batches.take()
        defer { self.batches.giveBack(taken) }
        let handle = unsafe taken.handle
        for operation in batch.operations {
            switch operation {
            case .put(let family, let key, let value):
                let family = unsafe self.family(family)
                unsafe withCBytes(key) { key, keyCount in
                    unsafe withCBytes(value) { value, valueCount in
                        unsafe rocksdb_writebatch_put_cf(handle, family, key, keyCount, value, valueCount)
                    }
                }
            case .delete(let family, let key):
                let family = unsafe self.family(family)
                unsafe withCBytes(key) { key, keyCount in
                    unsafe rocksdb_writebatch_delete_cf(handle, family, key, keyCount)
                }
            case .deleteRange(let family, let lower, let upper):
                let family = unsafe self.family(family)
                unsafe withCBytes(lower) { lower, lowerCount in
                    unsafe withCBytes(upper) { upper, upperCount in
                        unsafe rocksdb_writebatch_delete_range_cf(handle, family, lower, lowerCount, upper, upperCount)
                    }
                }
            }
        }
        try unsafe rocksTry("write \(batch.operations.count) operations") {
            unsafe rocksdb_write(self.handle, durability == .logged ? self.logged : self.unlogged, handle, $0)
        }
    }

    /// One fsync of the write-ahead log, outside of the lock that writers take.
    func sync() throws(StorageError) {
        try unsafe rocksTry("sync the write-ahead log") { unsafe rocksdb_flush_wal(self.handle, 1, $0) }
    }

    /// Moves the memory tables of all families into sorted files in one atomic step.
    ///
    /// RocksDB's C interface flushes single families only. A compaction, however, first flushes every family together
    /// when its own has writes in memory (with atomic flush on, which ``RocksOptionHandles`` sets): so a mark is
    /// written to the family that is otherwise unused, and that family compacted. The mark is put and deleted again:
    /// both vanish in the flush, no file of that family comes to be, and nothing is left to compact. That matters,
    /// because compactions wait for one another on threads that give way to everything else. The call
    /// reports no failure: the family's memory table tells, which is empty only after the flush.
    func flush() throws(StorageError) {
        try self.flushing.withLock { (_) throws(StorageError) in
            try self.markFlush()
            let options: OpaquePointer = unsafe rocksdb_compactoptions_create()
            defer { unsafe rocksdb_compactoptions_destroy(options) }
            unsafe rocksdb_compactoptions_set_exclusive_manual_compaction(options, 0)
            unsafe rocksdb_compact_range_cf_opt(self.handle, self.unusedFamily, options, nil, 0, nil, 0)
            if self.isFlushMarked() { try self.failFlush() }
        }
    }

    /// Writes the files of a family under `prefix` anew, without what was overwritten or deleted before the call.
    ///
    /// RocksDB keeps what an open snapshot sees: with one that is older than the call nothing is done.
    func purge(_ family: ColumnFamily, prefix: [UInt8]) throws(StorageError) -> Bool {
        let latest = unsafe rocksdb_get_latest_sequence_number(self.handle)
        var oldest = UInt64(0)
        let result = unsafe rocksdb_property_int(self.handle, "rocksdb.oldest-snapshot-sequence", &oldest)
        guard result == 0, oldest == 0 || oldest >= latest else { return false }
        try self.flush()
        let options: OpaquePointer = unsafe rocksdb_compactoptions_create()
        defer { unsafe rocksdb_compactoptions_destroy(options) }
        unsafe rocksdb_compactoptions_set_exclusive_manual_compaction(options, 0)
        // The last level too, which is otherwise left as it is.
        unsafe rocksdb_compactoptions_set_bottommost_level_compaction(options, Self.forcesBottommostLevel)
        let family = unsafe self.family(family)
        let upper = keyAfter(prefix: prefix)
        // What was written since is flushed once more: not beside another flush.
        self.flushing.withLock { _ in
            unsafe withCBytes(prefix) { lower, lowerCount in
                unsafe withCBytes(upper ?? []) { bound, boundCount in
                    unsafe rocksdb_compact_range_cf_opt(
                        self.handle,
                        family,
                        options,
                        lower,
                        lowerCount,
                        upper == nil ? nil : bound,
                        boundCount
                    )
                }
            }
        }
        return true
    }

    /// `BottommostLevelCompaction::kForce`.
    private static let forcesBottommostLevel: UInt8 = 2

    private func markFlush() throws(StorageError) {
        let taken = self.batches.take()
        defer { self.batches.giveBack(taken) }
        unsafe withCBytes(Array("flush".utf8)) { bytes, count in
            unsafe rocksdb_writebatch_put_cf(taken.handle, self.unusedFamily, bytes, count, nil, 0)
            unsafe rocksdb_writebatch_singledelete_cf(taken.handle, self.unusedFamily, bytes, count)
        }
        try unsafe rocksTry("mark a flush") { unsafe rocksdb_write(self.handle, self.unlogged, taken.handle, $0) }
    }

    /// Files of the family that is otherwise unused: none, but for one that an earlier program may have left.
    var unusedFileCount: UInt64 {
        var count = UInt64(0)
        for level in 0..<7 {
            let name = "rocksdb.num-files-at-level\(level)"
            guard let text = unsafe rocksdb_property_value_cf(self.handle, self.unusedFamily, name) else { continue }
            count += unsafe UInt64(String(cString: text)) ?? 0
            unsafe rocksdb_free(text)
        }
        return count
    }

    private func isFlushMarked() -> Bool {
        for name in ["rocksdb.num-entries-active-mem-table", "rocksdb.num-entries-imm-mem-tables"] {
            var count = UInt64(0)
            let result = unsafe rocksdb_property_int_cf(self.handle, self.unusedFamily, name, &count)
            if result != 0 || count > 0 { return true }
        }
        return false
    }

    /// Asks RocksDB for the reason by a flush of one family.
    private func failFlush() throws(StorageError) -> Never {
        let options: OpaquePointer = unsafe rocksdb_flushoptions_create()
        defer { unsafe rocksdb_flushoptions_destroy(options) }
        unsafe rocksdb_flushoptions_set_wait(options, 1)
        try unsafe rocksTry("flush") { unsafe rocksdb_flush_cf(self.handle, options, self.unusedFamily, $0) }
        throw StorageError(code: .io, message: "flush: the memory tables were not stored")
    }

    func checkpoint(to path: String) throws(StorageError) {
        let object = try unsafe rocksTry("begin the checkpoint \(path)") {
            unsafe rocksdb_checkpoint_object_create(self.handle, $0)
        }
        defer { unsafe rocksdb_checkpoint_object_destroy(object) }
        let alwaysFlush = UInt64(0)
        try unsafe rocksTry("write the checkpoint \(path)") {
            unsafe rocksdb_checkpoint_create(object, path, alwaysFlush, $0)
        }
    }
}

/// Lends the bytes of an array as C functions take them.
func withCBytes<Result>(_ bytes: [UInt8], _ body: (UnsafePointer<CChar>?, Int) -> Result) -> Result {
    unsafe bytes.withUnsafeBytes {
        unsafe body($0.baseAddress?.assumingMemoryBound(to: CChar.self), $0.count)
    }
}

/// One C write batch; freed by the pool.
@safe
struct RocksBatch: Sendable {
    nonisolated(unsafe) let handle: OpaquePointer  // sendable-ok: whoever took it from the pool uses it alone
}

/// C write batches that keep their memory from one write to the next.
final class RocksBatchPool: Sendable {
    /// Batches kept; more writers at once make and free their own.
    private static let keptMax = 4
    /// A batch that grew beyond this is freed.
    private static let keptBytesMax = 4 << 20

    private let kept = Mutex<[RocksBatch]>([])

    deinit {
        self.kept.withLock { kept in
            for batch in kept { unsafe rocksdb_writebatch_destroy(batch.handle) }
        }
    }

    func take() -> RocksBatch {
        if let batch = self.kept.withLock({ $0.popLast() }) { return batch }
        return unsafe RocksBatch(handle: rocksdb_writebatch_create())
    }

    func giveBack(_ batch: RocksBatch) {
        var sizeBytes = 0
        _ = unsafe rocksdb_writebatch_data(batch.handle, &sizeBytes)
        unsafe rocksdb_writebatch_clear(batch.handle)
        let isKept = self.kept.withLock { kept in
            guard sizeBytes <= Self.keptBytesMax, kept.count < Self.keptMax else { return false }
            kept.append(batch)
            return true
        }
        if !isKept { unsafe rocksdb_writebatch_destroy(batch.handle) }
    }
}
