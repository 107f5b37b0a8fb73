import Primitives
import Storage
import StorageTestKit
import Testing

@Suite struct FaultInjectingStoreTests {
    private func put(_ store: any KeyValueStore, _ number: UInt8) throws {
        var batch = WriteBatch()
        batch.put(.records, key: [number], value: [number])
        try store.write(batch)
    }

    private func numbers(_ store: any KeyValueReader) throws -> [UInt8] {
        try store.entries(.records).map { $0.key[0] }
    }

    @Test func failsTheNthWriteAndPoisons() throws {
        for number in 1...4 {
            let store = try FaultInjectingStore(InMemoryStore())
            store.arm(StoreFault(.write, number: number))
            for write in 1..<number { try self.put(store, UInt8(write)) }
            #expect(try storageErrorCode { try self.put(store, 100) } == .io)
            #expect(try storageErrorCode { try self.put(store, 101) } == .poisoned)
            #expect(try storageErrorCode { try store.sync() } == .poisoned)
            #expect(try self.numbers(store) == (1..<number).map { UInt8($0) })
            #expect(store.count(of: .write) == number)
        }
    }

    @Test func failsReadsOnceOrForEver() throws {
        let store = try FaultInjectingStore(InMemoryStore())
        try self.put(store, 1)
        store.arm(StoreFault(.read, number: 2, code: .corruption))
        #expect(try store.get([1], in: .records) == [1])
        #expect(try storageErrorCode { _ = try store.entries(.records) } == .corruption)
        #expect(try store.get([1], in: .records) == [1])
        store.arm(StoreFault(.read, duration: .forEver))
        let snapshot = try store.snapshot()
        for _ in 0..<3 {
            #expect(try storageErrorCode { _ = try store.get([1], in: .records) } == .io)
            #expect(try storageErrorCode { _ = try snapshot.entries(.records) } == .io)
        }
        store.disarm()
        #expect(try snapshot.get([1], in: .records) == [1])
        try self.put(store, 2)
    }

    @Test func failsSnapshotsCheckpointsAndFlushes() throws {
        try withTemporaryDirectory { directory in
            let store = try FaultInjectingStore(InMemoryStore())
            store.arm(StoreFault(.snapshot))
            store.arm(StoreFault(.checkpoint))
            #expect(try storageErrorCode { _ = try store.snapshot() } == .io)
            #expect(try storageErrorCode { try store.checkpoint(to: directory + "/a") } == .io)
            try store.checkpoint(to: directory + "/a")
            store.arm(StoreFault(.flush))
            #expect(try storageErrorCode { try store.flush() } == .io)
            #expect(try storageErrorCode { try self.put(store, 1) } == .poisoned)
        }
    }

    @Test(arguments: 0...4) func aCrashKeepsWhatWasSyncedAndAFrontOfTheRest(_ kept: Int) throws {
        let store = try FaultInjectingStore(InMemoryStore())
        try self.put(store, 1)
        try self.put(store, 2)
        try store.sync()
        for number in UInt8(3)...5 { try self.put(store, number) }
        #expect(store.unsyncedCount == 3)
        let snapshot = try store.snapshot()
        try store.crash(keepingUnsynced: kept)
        #expect(try storageErrorCode { try self.put(store, 9) } == .closed)
        #expect(try storageErrorCode { _ = try snapshot.entries(.records) } == .closed)
        #expect(try storageErrorCode { try store.crash() } == .closed)
        let restarted = try store.reopened()
        #expect(try self.numbers(restarted) == (1...UInt8(2 + min(kept, 3))).map { $0 })
        #expect(restarted.count(of: .write) == 0)
    }

    @Test(arguments: [false, true]) func aFailedSyncMayOrMayNotHaveReachedTheDisk(_ hasEffect: Bool) throws {
        let store = try FaultInjectingStore(InMemoryStore())
        try self.put(store, 1)
        store.arm(StoreFault(.sync, hasEffect: hasEffect))
        #expect(try storageErrorCode { try store.sync() } == .io)
        try store.crash()
        #expect(try self.numbers(try store.reopened()) == (hasEffect ? [1] : []))
    }

    @Test(arguments: [false, true]) func aFailedWriteMayOrMayNotHaveReachedTheLog(_ hasEffect: Bool) throws {
        let store = try FaultInjectingStore(InMemoryStore())
        store.arm(StoreFault(.write, hasEffect: hasEffect))
        #expect(try storageErrorCode { try self.put(store, 1) } == .io)
        #expect(try self.numbers(store) == [])
        try store.crash(keepingUnsynced: .max)
        #expect(try self.numbers(try store.reopened()) == (hasEffect ? [1] : []))
    }

    /// Fails every call in turn, once and for ever: what a restart finds is always a front part of what was written,
    /// and has everything whose sync was answered.
    @Test func sweepOfFaultsLosesNothingThatWasSynced() throws {
        for operation in [StoreOperation.write, .sync] {
            for duration in [StoreFault.Duration.once, .forEver] {
                for hasEffect in [false, true] {
                    for number in 1...13 {
                        let store = try FaultInjectingStore(InMemoryStore())
                        store.arm(
                            StoreFault(operation, number: number, duration: duration, hasEffect: hasEffect)
                        )
                        var synced = 0
                        for write in 1...12 {
                            do {
                                try self.put(store, UInt8(write))
                                try store.sync()
                                synced = write
                            } catch { break }
                        }
                        try store.crash(keepingUnsynced: number % 2)
                        let found = try self.numbers(try store.reopened())
                        #expect(found == (0..<found.count).map { UInt8($0 + 1) })
                        #expect(found.count >= synced, "\(operation) \(number) \(duration) \(hasEffect)")
                        #expect(number == 13 ? synced == 12 : synced == number - 1)
                    }
                }
            }
        }
    }

    @Test func closesInGoodOrder() throws {
        try withTemporaryDirectory { directory in
            let base = InMemoryStore()
            let store = try FaultInjectingStore(base)
            try self.put(store, 1)
            #expect(try self.numbers(base) == [])
            try store.checkpoint(to: directory + "/a")
            #expect(try self.numbers(base) == [1])
            try store.close()
            #expect(try storageErrorCode { _ = try base.entries(.records) } == .closed)
        }
    }

    private func put(
        _ store: any KeyValueStore,
        _ number: UInt8,
        _ durability: WriteDurability
    ) throws {
        var batch = WriteBatch()
        batch.put(durability == .logged ? .forks : .records, key: [number], value: [number])
        try store.write(batch, durability: durability)
    }

    private func all(_ store: any KeyValueReader) throws -> [UInt8] {
        try (store.entries(.records) + store.entries(.forks)).map { $0.key[0] }.sorted()
    }

    /// Writes 1 to 10, odd ones unlogged, with a flush after 3 and a sync after 6.
    private func mixed() throws -> FaultInjectingStore {
        let store = try FaultInjectingStore(InMemoryStore())
        for number in UInt8(1)...10 {
            try self.put(store, number, number % 2 == 0 ? .logged : .unlogged)
            if number == 3 { try store.flush() }
            if number == 6 { try store.sync() }
        }
        return store
    }

    @Test func unloggedWritesGoBackToTheLastFlush() throws {
        let store = try self.mixed()
        #expect(store.unsyncedCount == 2 && store.unflushedCount == 6)
        try store.crash()
        #expect(try self.all(try store.reopened()) == [1, 2, 3, 4, 6])
    }

    @Test func theEndOfTheProcessLosesUnloggedWritesAlone() throws {
        let store = try self.mixed()
        try store.crash(keepingUnsynced: .max)
        #expect(try self.all(try store.reopened()) == [1, 2, 3, 4, 6, 8, 10])
    }

    @Test func aFlushOfItsOwnKeepsEverythingUpToOneMoment() throws {
        for point in 0...6 {
            for kept in 0...2 {
                let store = try self.mixed()
                try store.crash(CrashOutcome(unsyncedKept: kept, flushedThrough: point))
                let found = try self.all(try store.reopened())
                let front = 4 + point
                #expect(found.filter { $0 <= front } == (1...UInt8(front)).map { $0 }, "point \(point) kept \(kept)")
                let after = found.filter { $0 > front }
                let logged = [4, 6, 8, 10].filter { $0 > front }
                #expect(after == logged.prefix(after.count).map { UInt8($0) }, "point \(point) kept \(kept)")
                #expect(found.contains(4) && found.contains(6))
            }
        }
    }

    @Test func anUnloggedWriteNeverOvertakesALaterLoggedOne() throws {
        let store = try FaultInjectingStore(InMemoryStore())
        for (value, durability) in [(1, .unlogged), (2, .logged)] as [(UInt8, WriteDurability)] {
            var batch = WriteBatch()
            batch.put(.meta, key: [1], value: [value])
            try store.write(batch, durability: durability)
            try store.sync()
        }
        try store.flush()
        try store.crash()
        #expect(try store.reopened().get([1], in: .meta) == [2])
    }

    @Test(arguments: 1...40 as ClosedRange<UInt64>) func drawnCrashesKeepThePromise(_ seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var store = try FaultInjectingStore(InMemoryStore())
        for life in 0..<6 {
            var written: [(number: UInt8, isLogged: Bool)] = []
            var flushed = 0
            var synced = 0
            var batch = WriteBatch()
            for family in [ColumnFamily.records, .forks] { batch.deleteRange(family, lower: [], upper: [255]) }
            try store.write(batch)
            try store.flush()
            for number in UInt8(1)...30 {
                let isLogged = generator.next() % 2 == 0
                try self.put(store, number, isLogged ? .logged : .unlogged)
                written.append((number, isLogged))
                switch generator.next() % 12 {
                case 0:
                    try store.flush()
                    flushed = written.count
                case 1, 2:
                    try store.sync()
                    synced = written.count
                default: break
                }
            }
            let outcome = CrashOutcome(
                unsynced: store.unsyncedCount,
                unflushed: store.unflushedCount,
                using: &generator
            )
            try store.crash(outcome)
            store = try store.reopened()
            let found = try self.all(store)
            let isPossible = (flushed...written.count).contains { point in
                let logged = written[point...].filter(\.isLogged).map(\.number)
                let safe = written.enumerated().filter {
                    $0.offset >= point && $0.offset < synced && $0.element.isLogged
                }
                return (safe.count...max(safe.count, logged.count)).contains { count in
                    found == written[..<point].map(\.number) + logged.prefix(count)
                }
            }
            #expect(isPossible, "seed \(seed) life \(life)")
        }
    }

    @Test func damageOutlivesCrashesUntilTheKeyIsWritten() throws {
        var store = try FaultInjectingStore(InMemoryStore())
        for number in UInt8(1)...4 { try self.put(store, number) }
        try store.sync()
        try self.put(store, 5)
        #expect(try store.damage(.flippedBit(1), of: [1], in: .records))
        #expect(try store.damage(.valueOf([3]), of: [2], in: .records))
        #expect(try store.damage(.unreadable, of: [4], in: .records))
        #expect(try store.damage(.flippedBit(7), of: [5], in: .records))
        #expect(try !store.damage(.flippedBit(8), of: [3], in: .records))
        #expect(try !store.damage(.unreadable, of: [9], in: .records))
        for _ in 0..<2 {
            #expect(try store.get([1], in: .records) == [3])
            #expect(try store.get([2], in: .records) == [3])
            #expect(try store.get([5], in: .records) == [5 ^ 128])
            #expect(try storageErrorCode { _ = try store.get([4], in: .records) } == .corruption)
            #expect(try storageErrorCode { _ = try store.get([[1], [4]], in: .records) } == .corruption)
            var visited = 0
            let code = try storageErrorCode {
                try store.scan(.records, from: [], to: nil) { _, _ in
                    visited += 1
                    return true
                }
            }
            #expect(code == .corruption && visited == 3)
            try store.crash(keepingUnsynced: .max)
            store = try store.reopened()
        }
        try self.put(store, 4)
        #expect(try self.numbers(store) == [1, 2, 3, 4, 5])
    }

    @Test func aFullDiskHasACodeOfItsOwn() throws {
        let store = try FaultInjectingStore(InMemoryStore())
        store.arm(StoreFault(.write, number: 2, duration: .forEver, code: .full))
        try self.put(store, 1)
        #expect(try storageErrorCode { try self.put(store, 2) } == .full)
        #expect(try storageErrorCode { try self.put(store, 2) } == .poisoned)
    }
}
