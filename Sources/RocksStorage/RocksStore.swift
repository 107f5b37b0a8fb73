package import Storage
internal import Synchronization

/// A node's store on disk: one RocksDB database with all column families.
///
/// Safe from any thread; every call may block, so none belongs on an event loop or on the cooperative pool.
/// The database closes when ``close()`` was called and the last running call and the last snapshot have ended;
/// until then its directory stays locked.
package final class RocksStore: KeyValueStore {
    private struct State {
        /// Nil once closed.
        var reads: RocksReads?
        var condition = StoreCondition.open
    }

    /// The directory of the database.
    package let path: String
    private let state: Mutex<State>

    private init(path: String, database: RocksDatabase) {
        self.path = path
        self.state = Mutex(State(reads: RocksReads(database, takesSnapshot: false)))
    }

    /// Opens the database in the directory `path`, and makes it when it is missing (but not the directories above).
    ///
    /// A torn tail of the write-ahead log is cut off; what was synced is always there.
    /// - Throws: ``StorageError`` `.busy` when another owner has it open, `.incompatible` when it has families that
    ///   this version does not know, `.corruption` when it is damaged, `.invalidArgument` for options out of range,
    ///   `.io`.
    package static func open(
        path: String,
        options: RocksOptions = RocksOptions()
    ) throws(StorageError) -> RocksStore {
        try options.validate()
        return RocksStore(path: path, database: try RocksDatabase(path: path, options: options))
    }

    private func reads() throws(StorageError) -> RocksReads {
        try self.state.withLock { (state) throws(StorageError) in
            try state.condition.checkReadable()
            guard let reads = state.reads else {
                throw StorageError(code: .closed, message: "the store was closed")
            }
            return reads
        }
    }

    private func writableDatabase() throws(StorageError) -> RocksDatabase {
        try self.state.withLock { (state) throws(StorageError) in
            try state.condition.checkWritable()
            guard let reads = state.reads else {
                throw StorageError(code: .closed, message: "the store was closed")
            }
            return reads.database
        }
    }

    /// Runs a write, and poisons the store when it fails.
    private func writing(_ body: (RocksDatabase) throws(StorageError) -> Void) throws(StorageError) {
        let database = try self.writableDatabase()
        do throws(StorageError) {
            try body(database)
        } catch {
            self.state.withLock { $0.condition.poison(error) }
            throw error
        }
    }

    fileprivate var isClosed: Bool { self.state.withLock { $0.reads == nil } }

    package func get(_ key: [UInt8], in family: ColumnFamily) throws(StorageError) -> [UInt8]? {
        try self.reads().get(key, in: family)
    }

    package func get(_ keys: [[UInt8]], in family: ColumnFamily) throws(StorageError) -> [[UInt8]?] {
        try self.reads().get(keys, in: family)
    }

    package func scan(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        direction: ScanDirection,
        _ body: (_ key: [UInt8], _ value: [UInt8]) throws -> Bool
    ) throws(StorageError) {
        try self.reads().scan(family, from: lower, to: upper, direction: direction, body)
    }

    package func sweep(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        readAheadBytes: Int,
        _ body: (_ key: RawSpan, _ value: RawSpan) throws -> Bool
    ) throws(StorageError) {
        try self.reads().sweep(family, from: lower, to: upper, readAheadBytes: readAheadBytes, body)
    }

    package func write(_ batch: WriteBatch, durability: WriteDurability) throws(StorageError) {
        try batch.validate()
        try self.writing { (database) throws(StorageError) in try database.write(batch, durability: durability) }
    }

    package func sync() throws(StorageError) {
        try self.writing { (database) throws(StorageError) in try database.sync() }
    }

    package func flush() throws(StorageError) {
        try self.writing { (database) throws(StorageError) in try database.flush() }
    }

    package func purge(_ family: ColumnFamily, prefix: [UInt8]) throws(StorageError) -> Bool {
        var isDone = false
        try self.writing { (database) throws(StorageError) in isDone = try database.purge(family, prefix: prefix) }
        return isDone
    }

    package func snapshot() throws(StorageError) -> any KeyValueReader {
        RocksSnapshot(reads: RocksReads(try self.reads().database, takesSnapshot: true), store: self)
    }

    package func checkpoint(to path: String) throws(StorageError) {
        try self.reads().database.checkpoint(to: path)
    }

    /// Ends the store's use, after an fsync of the write-ahead log unless the store is poisoned.
    /// - Throws: What the fsync threw; the store is closed all the same.
    package func close() throws(StorageError) {
        let closing: RocksReads? = self.state.withLock { state in
            guard let reads = state.reads else { return nil }
            let isOpen = if case .open = state.condition { true } else { false }
            state.reads = nil
            state.condition = .closed
            return isOpen ? reads : nil
        }
        try closing?.database.sync()
    }

    /// Figures for metrics, as of now.
    package func properties() throws(StorageError) -> RocksProperties {
        RocksProperties(reading: try self.reads().database)
    }
}

/// A view of a ``RocksStore`` as of one moment; unusable once the store is closed.
private struct RocksSnapshot: KeyValueReader {
    let reads: RocksReads
    let store: RocksStore

    private func checkReadable() throws(StorageError) {
        if self.store.isClosed { throw StorageError(code: .closed, message: "the store was closed") }
    }

    func get(_ key: [UInt8], in family: ColumnFamily) throws(StorageError) -> [UInt8]? {
        try self.checkReadable()
        return try self.reads.get(key, in: family)
    }

    func get(_ keys: [[UInt8]], in family: ColumnFamily) throws(StorageError) -> [[UInt8]?] {
        try self.checkReadable()
        return try self.reads.get(keys, in: family)
    }

    func scan(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        direction: ScanDirection,
        _ body: (_ key: [UInt8], _ value: [UInt8]) throws -> Bool
    ) throws(StorageError) {
        try self.checkReadable()
        try self.reads.scan(family, from: lower, to: upper, direction: direction, body)
    }

    func sweep(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        readAheadBytes: Int,
        _ body: (_ key: RawSpan, _ value: RawSpan) throws -> Bool
    ) throws(StorageError) {
        try self.checkReadable()
        try self.reads.sweep(family, from: lower, to: upper, readAheadBytes: readAheadBytes, body)
    }
}
