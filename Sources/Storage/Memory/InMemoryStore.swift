internal import Synchronization

/// The twin of a store on disk that keeps everything in memory: for tests, and for the simulator.
///
/// It keeps every promise of ``KeyValueStore`` but durability: its contents end with it, unless
/// ``checkpoint(to:)`` wrote them to a file. Scans and snapshots work on a copy made in O(1).
package final class InMemoryStore: KeyValueStore {
    private struct State {
        var maps = FamilyMaps()
        var condition = StoreCondition.open
    }

    private let state: Mutex<State>

    /// An empty store.
    package init() {
        self.state = Mutex(State())
    }

    /// Opens what ``checkpoint(to:)`` wrote.
    /// - Throws: ``StorageError`` `.io`; `.corruption` when the file is not whole; `.incompatible` when its form or
    ///   one of its families is unknown.
    package init(checkpoint path: String) throws(StorageError) {
        let maps = try MemoryCheckpoint.decode(try WholeFile.read(path), path: path)
        self.state = Mutex(State(maps: maps))
    }

    /// An independent copy of what `other` holds, made in O(1).
    package init(copying other: InMemoryStore) throws(StorageError) {
        let maps = try other.maps()
        self.state = Mutex(State(maps: maps))
    }

    /// The number of keys in a family.
    package func count(of family: ColumnFamily) throws(StorageError) -> Int { try self.maps()[family].count }

    /// Makes the store behave as after a failed write: later writes and syncs throw `.poisoned`.
    package func poison(_ failure: StorageError) {
        self.state.withLock { $0.condition.poison(failure) }
    }

    func maps() throws(StorageError) -> FamilyMaps {
        try self.state.withLock { (state) throws(StorageError) in
            try state.condition.checkReadable()
            return state.maps
        }
    }

    var isClosed: Bool {
        self.state.withLock {
            if case .closed = $0.condition { true } else { false }
        }
    }

    package func get(_ key: [UInt8], in family: ColumnFamily) throws(StorageError) -> [UInt8]? {
        try self.state.withLock { (state) throws(StorageError) in
            try state.condition.checkReadable()
            return state.maps[family][key]
        }
    }

    package func get(_ keys: [[UInt8]], in family: ColumnFamily) throws(StorageError) -> [[UInt8]?] {
        let map = try self.maps()[family]
        return keys.map { map[$0] }
    }

    package func scan(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        direction: ScanDirection,
        _ body: (_ key: [UInt8], _ value: [UInt8]) throws -> Bool
    ) throws(StorageError) {
        try self.maps().scan(family, from: lower, to: upper, direction: direction, body)
    }

    package func write(_ batch: WriteBatch, durability: WriteDurability) throws(StorageError) {
        try batch.validate()
        try self.state.withLock { (state) throws(StorageError) in
            try state.condition.checkWritable()
            state.maps.apply(batch)
        }
    }

    package func sync() throws(StorageError) {
        try self.state.withLock { (state) throws(StorageError) in try state.condition.checkWritable() }
    }

    package func snapshot() throws(StorageError) -> any KeyValueReader {
        InMemorySnapshot(maps: try self.maps(), store: self)
    }

    package func checkpoint(to path: String) throws(StorageError) {
        try WholeFile.create(path, try MemoryCheckpoint.encode(try self.maps()))
    }

    package func flush() throws(StorageError) {
        try self.sync()
    }

    /// There are no files: what is deleted is gone.
    package func purge(_ family: ColumnFamily, prefix: [UInt8]) throws(StorageError) -> Bool {
        try self.sync()
        return true
    }

    package func close() throws(StorageError) {
        self.state.withLock { state in
            state.condition = .closed
            state.maps = FamilyMaps()
        }
    }
}

/// What an ``InMemoryStore`` held at one moment; unusable once the store is closed.
private struct InMemorySnapshot: KeyValueReader {
    let maps: FamilyMaps
    let store: InMemoryStore

    private func checkReadable() throws(StorageError) {
        if self.store.isClosed { throw StorageError(code: .closed, message: "the store was closed") }
    }

    func get(_ key: [UInt8], in family: ColumnFamily) throws(StorageError) -> [UInt8]? {
        try self.checkReadable()
        return self.maps[family][key]
    }

    func get(_ keys: [[UInt8]], in family: ColumnFamily) throws(StorageError) -> [[UInt8]?] {
        try self.checkReadable()
        return keys.map { self.maps[family][$0] }
    }

    func scan(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        direction: ScanDirection,
        _ body: (_ key: [UInt8], _ value: [UInt8]) throws -> Bool
    ) throws(StorageError) {
        try self.checkReadable()
        try self.maps.scan(family, from: lower, to: upper, direction: direction, body)
    }
}
