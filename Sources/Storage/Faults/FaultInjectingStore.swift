internal import Synchronization

/// A store that fails when told to, and that can lose power.
///
/// `base` plays the sorted files of a disk: it holds what the last flush took, and synced writes that no unlogged write
/// stands before. What was written since is kept in memory beside it, and ``crash(_:)`` decides how much of it the
/// disk had already taken, within the promises of ``KeyValueStore``.
///
/// A fault of a write or sync poisons the store as in ``KeyValueStore``. After a crash every call throws `.closed`;
/// ``reopened()`` gives the store that a restarted node would find. Damage done by ``damage(_:of:in:)`` outlives crashes.
///
/// Opening one copies what `base` holds into memory, in O(1) when `base` is an ``InMemoryStore``.
package final class FaultInjectingStore: KeyValueStore {
    private struct State {
        var plan = FaultPlan()
        var condition = StoreCondition.open
        var unstored = UnstoredWrites()
        var damage = StoreDamage()
    }

    /// What survives a power failure for certain. Nobody else may write to it.
    package let base: any KeyValueStore
    /// Everything written.
    private let live: InMemoryStore
    private let state: Mutex<State>

    /// - Throws: What reading `base` throws.
    package convenience init(_ base: any KeyValueStore) throws(StorageError) {
        try self.init(base, damage: StoreDamage())
    }

    private init(_ base: any KeyValueStore, damage: StoreDamage) throws(StorageError) {
        self.base = base
        self.state = Mutex(State(damage: damage))
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

    /// Takes back every fault that was armed; a poisoned store stays poisoned, damage stays.
    package func disarm() { self.state.withLock { $0.plan.disarm() } }

    /// The number of calls of `operation` so far, the failed ones included.
    package func count(of operation: StoreOperation) -> Int { self.state.withLock { $0.plan.count(of: operation) } }

    /// The number of logged batches that a power failure could lose.
    package var unsyncedCount: Int { self.state.withLock { $0.unstored.unsyncedCount } }

    /// The number of batches, of either durability, that no flush has taken (synced ones that no unlogged one stands
    /// before do not count): the atomic points to which a flush of the store's own may have come are
    /// `0...unflushedCount`.
    package var unflushedCount: Int { self.state.withLock { $0.unstored.count } }

    /// Changes what lies at rest under a key, as a failing disk would; the effect outlives crashes until the key is
    /// written again.
    /// - Returns: False when the key is absent, or has no such bit or other key.
    @discardableResult
    package func damage(
        _ damage: StoreDamage.Kind,
        of key: [UInt8],
        in family: ColumnFamily
    ) throws(StorageError)
        -> Bool
    {
        try self.state.withLock { (state) throws(StorageError) in
            try state.condition.checkReadable()
            guard let value = try self.live.get(key, in: family) else { return false }
            switch damage {
            case .unreadable:
                state.damage.insert(key, in: family)
            case .flippedBit(let bit):
                guard bit >= 0, bit < value.count * 8 else { return false }
                var flipped = value
                flipped[bit / 8] ^= 1 << UInt8(bit % 8)
                try self.replace(key, in: family, by: flipped, &state)
            case .valueOf(let other):
                guard let otherValue = try self.live.get(other, in: family) else { return false }
                try self.replace(key, in: family, by: otherValue, &state)
            }
            return true
        }
    }

    private func replace(
        _ key: [UInt8],
        in family: ColumnFamily,
        by value: [UInt8],
        _ state: inout State
    ) throws(StorageError) {
        var batch = WriteBatch()
        batch.put(family, key: key, value: value)
        try self.live.write(batch)
        if try self.base.get(key, in: family) != nil { try self.base.write(batch) }
        state.unstored.replace(key, in: family, by: value)
    }

    /// Loses power: of the unsynced logged batches only the oldest `count` survive, and no unlogged batch that was not
    /// flushed; every later call throws `.closed`.
    ///
    /// With `.max` it is the end of the process alone, which loses no logged write.
    package func crash(keepingUnsynced count: Int = 0) throws(StorageError) {
        try self.crash(CrashOutcome(unsyncedKept: count))
    }

    /// Loses power with the given outcome; every later call throws `.closed`.
    package func crash(_ outcome: CrashOutcome) throws(StorageError) {
        try self.state.withLock { (state) throws(StorageError) in
            try state.condition.checkReadable()
            state.condition = .closed
            for batch in state.unstored.survivors(of: outcome) { try self.base.write(batch) }
            state.unstored = UnstoredWrites()
            try self.base.sync()
        }
        try self.live.close()
    }

    /// A new store over what survived, with no faults armed and all counts at zero; damage is still there.
    package func reopened() throws(StorageError) -> FaultInjectingStore {
        try FaultInjectingStore(self.base, damage: self.state.withLock { $0.damage })
    }

    private static func error(_ fault: StoreFault) -> StorageError {
        StorageError(code: fault.code, message: "injected failure of a \(fault.operation.rawValue)")
    }

    // MARK: Writes

    package func write(_ batch: WriteBatch, durability: WriteDurability) throws(StorageError) {
        try batch.validate()
        try self.state.withLock { (state) throws(StorageError) in
            try state.condition.checkWritable()
            if let fault = state.plan.next(.write) {
                let error = Self.error(fault)
                state.condition.poison(error)
                if fault.hasEffect { state.unstored.append(batch, durability) }
                throw error
            }
            try self.live.write(batch)
            state.damage.heal(batch)
            state.unstored.append(batch, durability)
            if state.unstored.count > UnstoredWrites.countMax { try self.storeAll(&state) }
        }
    }

    package func sync() throws(StorageError) {
        try self.makeDurable(.sync) { (state) throws(StorageError) in
            for batch in state.unstored.sync() { try self.base.write(batch) }
            try self.base.sync()
        }
    }

    package func flush() throws(StorageError) {
        try self.makeDurable(.flush) { (state) throws(StorageError) in try self.storeAll(&state) }
    }

    package func purge(_ family: ColumnFamily, prefix: [UInt8]) throws(StorageError) -> Bool {
        try self.flush()
        return try self.base.purge(family, prefix: prefix)
    }

    private func storeAll(_ state: inout State) throws(StorageError) {
        for batch in state.unstored.takeAll() { try self.base.write(batch) }
        try self.base.flush()
    }

    private func makeDurable(
        _ operation: StoreOperation,
        _ action: (inout State) throws(StorageError) -> Void
    ) throws(StorageError) {
        try self.state.withLock { (state) throws(StorageError) in
            try state.condition.checkWritable()
            let fault = state.plan.next(operation)
            if fault == nil || fault?.hasEffect == true {
                do throws(StorageError) {
                    try action(&state)
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

    /// Everything written, read past all faults and damage: for those who watch a store from outside.
    package var unfaulted: any KeyValueReader { self.live }

    // MARK: Reads

    /// Counts a read and fails it when its turn has come.
    /// - Returns: The keys that cannot be read.
    fileprivate func beginRead() throws(StorageError) -> StoreDamage {
        try self.begin(.read)
        return self.state.withLock { $0.damage }
    }

    private func begin(_ operation: StoreOperation) throws(StorageError) {
        try self.state.withLock { (state) throws(StorageError) in
            try state.condition.checkReadable()
            if let fault = state.plan.next(operation) { throw Self.error(fault) }
        }
    }

    package func get(_ key: [UInt8], in family: ColumnFamily) throws(StorageError) -> [UInt8]? {
        try self.beginRead().get(key, in: family, from: self.live)
    }

    package func get(_ keys: [[UInt8]], in family: ColumnFamily) throws(StorageError) -> [[UInt8]?] {
        try self.beginRead().get(keys, in: family, from: self.live)
    }

    package func scan(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        direction: ScanDirection,
        _ body: (_ key: [UInt8], _ value: [UInt8]) throws -> Bool
    ) throws(StorageError) {
        try self.beginRead().scan(family, from: lower, to: upper, direction: direction, in: self.live, body)
    }

    package func snapshot() throws(StorageError) -> any KeyValueReader {
        try self.begin(.snapshot)
        return FaultInjectingSnapshot(store: self, base: try self.live.snapshot())
    }

    package func checkpoint(to path: String) throws(StorageError) {
        try self.state.withLock { (state) throws(StorageError) in
            try state.condition.checkReadable()
            if let fault = state.plan.next(.checkpoint) { throw Self.error(fault) }
            try self.storeAll(&state)
            try self.base.checkpoint(to: path)
        }
    }

    /// Ends the store's use in good order: nothing that was written is lost; closes `base` too.
    package func close() throws(StorageError) {
        try self.state.withLock { (state) throws(StorageError) in
            if case .closed = state.condition { return }
            state.condition = .closed
            for batch in state.unstored.takeAll() { try self.base.write(batch) }
            try self.base.close()
        }
        try self.live.close()
    }
}

private struct FaultInjectingSnapshot: KeyValueReader {
    let store: FaultInjectingStore
    let base: any KeyValueReader

    func get(_ key: [UInt8], in family: ColumnFamily) throws(StorageError) -> [UInt8]? {
        try self.store.beginRead().get(key, in: family, from: self.base)
    }

    func get(_ keys: [[UInt8]], in family: ColumnFamily) throws(StorageError) -> [[UInt8]?] {
        try self.store.beginRead().get(keys, in: family, from: self.base)
    }

    func scan(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        direction: ScanDirection,
        _ body: (_ key: [UInt8], _ value: [UInt8]) throws -> Bool
    ) throws(StorageError) {
        try self.store.beginRead().scan(family, from: lower, to: upper, direction: direction, in: self.base, body)
    }
}
