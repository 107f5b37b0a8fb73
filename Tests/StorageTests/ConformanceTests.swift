import Storage
import StorageTestKit
import Testing

@Suite struct ConformanceTests {
    @Test(arguments: StoreConformance.all) func memoryKeepsThePromise(_ promise: StoreConformance) throws {
        try promise.run(.memory)
    }

    @Test(arguments: StoreConformance.all) func faultInjectionWithoutFaultsKeepsThePromise(
        _ promise: StoreConformance
    ) throws {
        try promise.run(.faultInjecting)
    }

    @Test(arguments: UInt64(1)...40) func memoryEqualsTheModel(_ seed: UInt64) throws {
        try checkAgainstModel(.memory, seed: seed)
    }

    @Test(arguments: UInt64(1)...10) func faultInjectionEqualsTheModel(_ seed: UInt64) throws {
        try checkAgainstModel(.faultInjecting, seed: seed)
    }

    @Test(arguments: Lie.allCases) func theSuiteCatchesAStoreThatLies(_ lie: Lie) throws {
        let harness = StoreHarness(
            open: { _ in LyingStore(lie) },
            openCheckpoint: { try InMemoryStore(checkpoint: $0) },
            breakStore: { store, _ in (store as? LyingStore)?.breakDown() },
            isDurable: false
        )
        var caught = 0
        for promise in StoreConformance.all {
            do { try promise.run(harness) } catch is ConformanceFailure { caught += 1 }
        }
        #expect(caught > 0, "\(lie)")
    }

    /// What is left after a flush that took all families but one, and after one that took nothing.
    @Test(arguments: [ColumnFamily.idempotency, nil]) func theSuiteCatchesAFlushThatLies(_ kept: ColumnFamily?) throws {
        let harness = StoreHarness(
            open: { _ in try FaultInjectingStore(InMemoryStore()) },
            openCheckpoint: { try InMemoryStore(checkpoint: $0) },
            breakStore: { store, _ in (store as? FaultInjectingStore)?.arm(StoreFault(.flush)) },
            isDurable: false,
            kill: { store, _ in
                let left = InMemoryStore()
                for family in ColumnFamily.allCases where kept != nil && family != kept {
                    for entry in try store.entries(family) {
                        var batch = WriteBatch()
                        batch.put(family, key: entry.key, value: entry.value)
                        try left.write(batch)
                    }
                }
                return left
            }
        )
        var caught = 0
        for promise in StoreConformance.all {
            do { try promise.run(harness) } catch is ConformanceFailure { caught += 1 }
        }
        #expect(caught == 2)
    }
}

/// A way to break the contract of a store.
enum Lie: CaseIterable {
    case emptyValueIsAbsent
    case lastOperationIsLost
    case upperBoundIsIncluded
    case upperBoundIsIgnored
    case descendingIsAscending
    case snapshotMoves
    case rangeDeletionDoesNothing
    case poisonIsForgotten
    case closeIsForgotten
    case checkpointIsOld
    case valuesAreOutOfOrder
    case visitorErrorIsLost
    case impossibleBatchIsHalfDone
    case familiesAreMixed
}

/// An ``InMemoryStore`` with one lie.
final class LyingStore: KeyValueStore {
    private let base = InMemoryStore()
    private let empty = InMemoryStore()
    private let lie: Lie

    init(_ lie: Lie) { self.lie = lie }

    func breakDown() {
        if self.lie != .poisonIsForgotten { self.base.poison(StorageError(code: .io, message: "broken by a test")) }
    }

    func get(_ key: [UInt8], in family: ColumnFamily) throws(StorageError) -> [UInt8]? {
        let family = self.lie == .familiesAreMixed ? .meta : family
        let value = try self.base.get(key, in: family)
        return self.lie == .emptyValueIsAbsent && value == [] ? nil : value
    }

    func get(_ keys: [[UInt8]], in family: ColumnFamily) throws(StorageError) -> [[UInt8]?] {
        let values = try self.base.get(keys, in: family)
        return self.lie == .valuesAreOutOfOrder ? values.reversed() : values
    }

    func scan(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        direction: ScanDirection,
        _ body: (_ key: [UInt8], _ value: [UInt8]) throws -> Bool
    ) throws(StorageError) {
        var upper = upper
        var direction = direction
        switch self.lie {
        case .upperBoundIsIncluded: upper = upper.map { $0 + [0] }
        case .upperBoundIsIgnored: upper = nil
        case .descendingIsAscending: direction = .ascending
        default: break
        }
        do throws(StorageError) {
            try self.base.scan(family, from: lower, to: upper, direction: direction, body)
        } catch {
            if self.lie != .visitorErrorIsLost || error.code != .visitor { throw error }
        }
    }

    func purge(_ family: ColumnFamily, prefix: [UInt8]) throws(StorageError) -> Bool {
        try self.base.purge(family, prefix: prefix)
    }

    func write(_ batch: WriteBatch, durability: WriteDurability) throws(StorageError) {
        var changed = WriteBatch()
        for (number, operation) in batch.operations.enumerated() {
            if self.lie == .lastOperationIsLost, number > 0, number == batch.operations.count - 1 { break }
            switch operation {
            case .put(let family, let key, let value):
                changed.put(self.lie == .familiesAreMixed ? .meta : family, key: key, value: value)
            case .delete(let family, let key):
                changed.delete(family, key: key)
            case .deleteRange(let family, let lower, let upper):
                if self.lie == .impossibleBatchIsHalfDone { try self.base.write(changed) }
                if self.lie != .rangeDeletionDoesNothing { changed.deleteRange(family, lower: lower, upper: upper) }
            }
        }
        try self.base.write(changed)
    }

    func sync() throws(StorageError) { try self.base.sync() }

    func snapshot() throws(StorageError) -> any KeyValueReader {
        self.lie == .snapshotMoves ? self : try self.base.snapshot()
    }

    func checkpoint(to path: String) throws(StorageError) {
        try (self.lie == .checkpointIsOld ? self.empty : self.base).checkpoint(to: path)
    }

    func flush() throws(StorageError) { try self.base.flush() }

    func close() throws(StorageError) {
        if self.lie != .closeIsForgotten { try self.base.close() }
    }
}
