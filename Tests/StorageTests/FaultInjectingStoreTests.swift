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
}
