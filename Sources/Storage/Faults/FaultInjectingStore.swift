internal import Synchronization

/// A store that fails when told to, and that can lose power.
///
/// `base` plays the disk after a power failure: it holds what was synced and nothing else. What was written since is
/// kept in memory beside it, and ``crash(keepingUnsynced:)`` decides how much of it the disk had already taken. As a
/// write-ahead log is written from front to back, what survives is always a front part of the unsynced batches.
///
/// A fault of a write or sync poisons the store as in ``KeyValueStore``. After a crash every call throws `.closed`;
/// ``reopened()`` gives the store that a restarted node would find.
///
/// Opening one copies what `base` holds into memory, in O(1) when `base` is an ``InMemoryStore``.
package final class FaultInjectingStore: KeyValueStore {
    private struct State {
        var plan = FaultPlan()
        var condition = StoreCondition.open
        /// Batches that are not yet in `base`, oldest first.
        var unsynced: [WriteBatch] = []
    }

    /// What survives a power failure. Nobody else may write to it.
    package let base: any KeyValueStore
    /// Everything written.
    private let live: InMemoryStore
    private let state = Mutex(State())

    /// - Throws: What reading `base` throws.
    package init(_ base: any KeyValueStore) throws(StorageError) {
        self.base = base
        if let memory = base as? InMemoryStore {
            self.live = try InMemoryStore(copying: memory)
            return
        }
        let live = InMemoryStore()
        for family in ColumnFamily.allCases {
            try base.scan(family, from: [], to: nil) { key, value in
                var batch = WriteBatch()
                batch.put(family, key: key, value: value)
                try live.write(batch)
                return true
            }
        }
        self.live = live
    }

    // MARK: Faults

    /// Makes a call to come fail; several faults may be armed at once.
    package func arm(_ fault: StoreFault) { self.state.withLock { $0.plan.arm(fault) } }

    /// Takes back every fault; a poisoned store stays poisoned.
    package func disarm() { self.state.withLock { $0.plan.disarm() } }

    /// The number of calls of `operation` so far, the failed ones included.
    package func count(of operation: StoreOperation) -> Int { self.state.withLock { $0.plan.count(of: operation) } }

    /// The number of batches that a power failure could lose.
    package var unsyncedCount: Int { self.state.withLock { $0.unsynced.count } }

    /// Loses power: of the unsynced batches only the oldest `count` survive; every later call throws `.closed`.
    ///
    /// With `.max` it is the end of the process alone, which loses nothing that was written.
    package func crash(keepingUnsynced count: Int = 0) throws(StorageError) {
        try self.state.withLock { (state) throws(StorageError) in
            try state.condition.checkReadable()
            state.condition = .closed
            for batch in state.unsynced.prefix(max(count, 0)) { try self.base.write(batch) }
            state.unsynced = []
            try self.base.sync()
        }
        try self.live.close()
    }

    /// A new store over what survived, with no faults and all counts at zero.
    package func reopened() throws(StorageError) -> FaultInjectingStore { try FaultInjectingStore(self.base) }

    private static func error(_ fault: StoreFault) -> StorageError {
        StorageError(code: fault.code, message: "injected failure of a \(fault.operation.rawValue)")
    }

    // MARK: Writes

    package func write(_ batch: WriteBatch) throws(StorageError) {
        try batch.validate()
        try self.state.withLock { (state) throws(StorageError) in
            try state.condition.checkWritable()
            if let fault = state.plan.next(.write) {
                let error = Self.error(fault)
                state.condition.poison(error)
                if fault.hasEffect { state.unsynced.append(batch) }
                throw error
            }
            try self.live.write(batch)
            state.unsynced.append(batch)
        }
    }

    package func sync() throws(StorageError) {
        try self.makeDurable(.sync) { () throws(StorageError) in try self.base.sync() }
    }

    package func flush() throws(StorageError) {
        try self.makeDurable(.flush) { () throws(StorageError) in try self.base.flush() }
    }

    private func makeDurable(
        _ operation: StoreOperation,
        _ action: () throws(StorageError) -> Void
    ) throws(StorageError) {
        try self.state.withLock { (state) throws(StorageError) in
            try state.condition.checkWritable()
            let fault = state.plan.next(operation)
            if fault == nil || fault?.hasEffect == true {
                do throws(StorageError) {
                    for batch in state.unsynced { try self.base.write(batch) }
                    state.unsynced = []
                    try action()
                } catch {
                    state.condition.poison(error)
                    throw error
                }
            }
            if let fault {
                let error = Self.error(fault)
                state.condition.poison(error)
                throw error
            }
        }
    }

    // MARK: Reads

    /// Counts a read and fails it when its turn has come.
    fileprivate func beginRead() throws(StorageError) {
        try self.begin(.read)
    }

    private func begin(_ operation: StoreOperation) throws(StorageError) {
        try self.state.withLock { (state) throws(StorageError) in
            try state.condition.checkReadable()
            if let fault = state.plan.next(operation) { throw Self.error(fault) }
        }
    }

    package func get(_ key: [UInt8], in family: ColumnFamily) throws(StorageError) -> [UInt8]? {
        try self.beginRead()
        return try self.live.get(key, in: family)
    }

    package func get(_ keys: [[UInt8]], in family: ColumnFamily) throws(StorageError) -> [[UInt8]?] {
        try self.beginRead()
        return try self.live.get(keys, in: family)
    }

    package func scan(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        direction: ScanDirection,
        _ body: (_ key: [UInt8], _ value: [UInt8]) throws -> Bool
    ) throws(StorageError) {
        try self.beginRead()
        try self.live.scan(family, from: lower, to: upper, direction: direction, body)
    }

    package func snapshot() throws(StorageError) -> any KeyValueReader {
        try self.begin(.snapshot)
        return FaultInjectingSnapshot(store: self, base: try self.live.snapshot())
    }

    package func checkpoint(to path: String) throws(StorageError) {
        try self.state.withLock { (state) throws(StorageError) in
            try state.condition.checkReadable()
            if let fault = state.plan.next(.checkpoint) { throw Self.error(fault) }
            for batch in state.unsynced { try self.base.write(batch) }
            state.unsynced = []
            try self.base.checkpoint(to: path)
        }
    }

    /// Ends the store's use in good order: nothing that was written is lost; closes `base` too.
    package func close() throws(StorageError) {
        try self.state.withLock { (state) throws(StorageError) in
            if case .closed = state.condition { return }
            state.condition = .closed
            for batch in state.unsynced { try self.base.write(batch) }
            state.unsynced = []
            try self.base.close()
        }
        try self.live.close()
    }
}

private struct FaultInjectingSnapshot: KeyValueReader {
    let store: FaultInjectingStore
    let base: any KeyValueReader

    func get(_ key: [UInt8], in family: ColumnFamily) throws(StorageError) -> [UInt8]? {
        try self.store.beginRead()
        return try self.base.get(key, in: family)
    }

    func get(_ keys: [[UInt8]], in family: ColumnFamily) throws(StorageError) -> [[UInt8]?] {
        try self.store.beginRead()
        return try self.base.get(keys, in: family)
    }

    func scan(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        direction: ScanDirection,
        _ body: (_ key: [UInt8], _ value: [UInt8]) throws -> Bool
    ) throws(StorageError) {
        try self.store.beginRead()
        try self.base.scan(family, from: lower, to: upper, direction: direction, body)
    }
}
