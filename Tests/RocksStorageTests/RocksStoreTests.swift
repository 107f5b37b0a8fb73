import Foundation
import Storage
import StorageTestKit
import Synchronization
import Testing

@testable import RocksStorage

extension StoreHarness {
    static let rocks = StoreHarness(
        open: { try RocksStore.open(path: $0) },
        openCheckpoint: { try RocksStore.open(path: $0) },
        // A flush must make a new file, which needs the directory.
        breakStore: { _, path in try FileManager.default.removeItem(atPath: path) },
        isDurable: true,
        kill: { store, path in
            // What lies in the directory while the store is open is what the end of the process leaves.
            try FileManager.default.copyItem(atPath: path, toPath: path + "-killed")
            try store.close()
            return try RocksStore.open(path: path + "-killed")
        }
    )

    static let faultInjectingRocks = StoreHarness(
        open: { try FaultInjectingStore(RocksStore.open(path: $0)) },
        openCheckpoint: { try FaultInjectingStore(RocksStore.open(path: $0)) },
        breakStore: { store, _ in (store as? FaultInjectingStore)?.arm(StoreFault(.flush)) },
        isDurable: true
    )
}

/// What a writer and a flusher tell each other.
private final class Progress: Sendable {
    let isStopped = Atomic<Bool>(false)
    let written = Atomic<UInt32>(0)
}

/// Counts of two families, written together.
private func putCounts(_ store: any KeyValueStore, _ number: UInt32) throws {
    var batch = WriteBatch()
    let value = withUnsafeBytes(of: number.bigEndian) { Array($0) }
    batch.put(.records, key: value, value: Array(repeating: 1, count: 300))
    batch.put(.ledgerHeads, key: [1], value: value)
    try store.write(batch, durability: .unlogged)
}

/// Writes one record whose key is `number`.
func put(_ store: any KeyValueStore, _ number: Int, valueBytes: Int = 100) throws {
    var batch = WriteBatch()
    batch.put(.records, key: key(number), value: value(number, bytes: valueBytes))
    try store.write(batch)
}

func key(_ number: Int) -> [UInt8] { [UInt8(number >> 16 & 255), UInt8(number >> 8 & 255), UInt8(number & 255)] }

/// Bytes that compress badly and tell their number.
func value(_ number: Int, bytes: Int = 100) -> [UInt8] {
    var state = UInt32(truncatingIfNeeded: number) &* 2_654_435_761 | 1
    return (0..<bytes).map { _ in
        state = state &* 1_664_525 &+ 1_013_904_223
        return UInt8(truncatingIfNeeded: state >> 24)
    }
}

/// Whether the store holds exactly the records `0..<count`, and `count`; nil when it holds anything else.
func frontCount(_ store: any KeyValueReader, valueBytes: Int = 100) throws -> Int? {
    let entries = try store.entries(.records)
    let isFront = entries.enumerated().allSatisfy { number, entry in
        entry.key == key(number) && entry.value == value(number, bytes: valueBytes)
    }
    return isFront ? entries.count : nil
}

@Suite(.timeLimit(.minutes(10))) struct RocksStoreTests {
    @Test(arguments: StoreConformance.all) func keepsThePromise(_ promise: StoreConformance) throws {
        try promise.run(.rocks)
    }

    @Test(arguments: StoreConformance.all) func faultInjectionOverItKeepsThePromise(
        _ promise: StoreConformance
    ) throws {
        try promise.run(.faultInjectingRocks)
    }

    @Test(arguments: UInt64(1)...6) func equalsTheModel(_ seed: UInt64) throws {
        try checkAgainstModel(.rocks, seed: seed)
    }

    @Test func aSecondOpenIsRefusedAsBusy() throws {
        try withTemporaryDirectory { directory in
            let path = directory + "/store"
            let store = try RocksStore.open(path: path)
            do {
                _ = try RocksStore.open(path: path)
                Issue.record("opened twice")
            } catch let error as StorageError {
                #expect(error.code == .busy)
                #expect(error.message.contains(path))
            }
            try put(store, 0)
            try store.close()
            let again = try RocksStore.open(path: path)
            #expect(try frontCount(again) == 1)
            try again.close()
        }
    }

    @Test func aSecondProcessIsRefusedAsBusy() async throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("flask-track-\(UUID())").path
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let store = try RocksStore.open(path: directory)
        await #expect(processExitsWith: .exitCode(7)) { [directory = directory as String] in
            do {
                _ = try RocksStore.open(path: directory)
            } catch let error as StorageError {
                exit(error.code == .busy && error.message.contains(directory) ? 7 : 8)
            }
        }
        try store.close()
    }

    @Test func aScanThatClosesTheStoreEndsWell() throws {
        try withTemporaryDirectory { directory in
            let path = directory + "/store"
            let store = try RocksStore.open(path: path)
            for number in 0..<100 { try put(store, number) }
            var visited = 0
            try store.scan(.records, from: [], to: nil) { _, _ in
                if visited == 10 { try store.close() }
                visited += 1
                return true
            }
            #expect(visited == 100)
            #expect(try storageErrorCode { try put(store, 1) } == .closed)
            let again = try RocksStore.open(path: path)
            #expect(try frontCount(again) == 100)
            try again.close()
        }
    }

    @Test func aSnapshotKeepsTheDatabaseOpenUntilItEnds() throws {
        try withTemporaryDirectory { directory in
            let path = directory + "/store"
            let store = try RocksStore.open(path: path)
            try put(store, 0)
            var snapshot: (any KeyValueReader)? = try store.snapshot()
            #expect(try store.properties().liveSnapshots == 1)
            try store.close()
            #expect(try storageErrorCode { _ = try snapshot?.get(key(0), in: .records) } == .closed)
            #expect(try storageErrorCode { _ = try RocksStore.open(path: path) } == .busy)
            snapshot = nil
            let again = try RocksStore.open(path: path)
            #expect(try again.properties().liveSnapshots == 0)
            try again.close()
        }
    }

    /// A flush beside writers takes one moment of all families.
    @Test func flushesBesideWritersAreAtomicOverFamilies() async throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("flask-track-\(UUID())").path
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let store = try RocksStore.open(path: directory + "/store")
        let threads = try StoreThreads(name: "test", count: 2, queuedMax: 100)
        let flushes = 6
        let progress = Progress()
        let flushed: UInt32 = try await withThrowingTaskGroup { group in
            group.addTask {
                try await threads.run {
                    var number = UInt32(0)
                    while !progress.isStopped.load(ordering: .acquiring) {
                        try putCounts(store, number)
                        number += 1
                        progress.written.store(number, ordering: .releasing)
                    }
                    return UInt32(0)
                }
            }
            group.addTask {
                try await threads.run {
                    defer { progress.isStopped.store(true, ordering: .releasing) }
                    var flushed = UInt32(0)
                    for _ in 0..<flushes {
                        flushed = progress.written.load(ordering: .acquiring)
                        try store.flush()
                    }
                    return flushed
                }
            }
            return try await group.reduce(0, max)
        }
        try FileManager.default.copyItem(atPath: directory + "/store", toPath: directory + "/killed")
        let killed = try RocksStore.open(path: directory + "/killed")
        let count = try killed.entries(.records).count
        let head = try #require(try killed.get([1], in: .ledgerHeads))
        #expect(head.reduce(0) { $0 << 8 | Int($1) } == count - 1)
        #expect(count >= Int(flushed))
        try killed.close()
        try store.close()
        threads.shutdown()
    }

    @Test func writersGoOnWhileOthersSync() async throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("flask-track-\(UUID())").path
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let store = try RocksStore.open(path: directory + "/store")
        let threads = try StoreThreads(name: "test", count: 4, queuedMax: 100)
        let writers = 3
        let each = 300
        try await withThrowingDiscardingTaskGroup { group in
            for writer in 0..<writers {
                group.addTask {
                    try await threads.run {
                        for turn in 0..<each { try put(store, turn * writers + writer) }
                    }
                }
            }
            group.addTask {
                try await threads.run {
                    for _ in 0..<50 { try store.sync() }
                }
            }
        }
        try await threads.run { try store.sync() }
        // What lies on disk now, as after a power failure: a copy of the files while the store is open.
        try FileManager.default.copyItem(atPath: directory + "/store", toPath: directory + "/copy")
        let copy = try RocksStore.open(path: directory + "/copy")
        #expect(try frontCount(copy) == writers * each)
        #expect(try frontCount(store) == writers * each)
        try copy.close()
        try store.close()
        threads.shutdown()
    }

    @Test func unknownFamiliesAreRefused() throws {
        try withTemporaryDirectory { directory in
            let path = directory + "/store"
            let options = RocksOptionHandles(RocksOptions())
            let all = Set(ColumnFamily.allCases.map(\.rawValue))
            // Nothing is there yet, so nothing is unknown.
            _ = try RocksDatabase.retiredFamilies(path: path, options: options, known: [])
            try RocksStore.open(path: path).close()
            _ = try RocksDatabase.retiredFamilies(path: path, options: options, known: all)
            // An older version, which does not know two of the families.
            let older = all.subtracting(["records", "tree_nodes"])
            do {
                _ = try RocksDatabase.retiredFamilies(path: path, options: options, known: older)
                Issue.record("took a store with unknown families")
            } catch let error as StorageError {
                #expect(error.code == .incompatible)
                #expect(error.message.contains("records, tree_nodes"))
            }
        }
    }

    @Test func familiesOfAnEarlierVersionAreDroppedAndTheOthersKept() throws {
        try withTemporaryDirectory { directory in
            let path = directory + "/store"
            try RocksDatabase.makeEarlier(
                path: path,
                families: ["default", "meta", "raft_state", "raft_log"],
                filled: ["meta"]
            )
            let all = Set(ColumnFamily.allCases.map(\.rawValue))
            let options = RocksOptionHandles(RocksOptions())
            let retired = try RocksDatabase.retiredFamilies(path: path, options: options, known: all)
            #expect(retired.sorted() == ColumnFamily.retiredNames.sorted())
            for _ in 1...2 {
                let store = try RocksStore.open(path: path)
                #expect(try store.get(Array("k".utf8), in: .meta) == Array("v".utf8))
                try store.close()
                #expect(try RocksDatabase.retiredFamilies(path: path, options: options, known: all).isEmpty)
            }
        }
    }

    /// What a program of an earlier format needs is not taken from it.
    @Test func aFamilyOfAnEarlierVersionWithSomethingInItIsRefused() throws {
        try withTemporaryDirectory { directory in
            let path = directory + "/store"
            try RocksDatabase.makeEarlier(
                path: path,
                families: ["default", "meta", "raft_state", "raft_log"],
                filled: ["raft_log"]
            )
            for _ in 1...2 {
                let error = #expect(throws: StorageError.self) { try RocksStore.open(path: path) }
                #expect(error?.code == .incompatible)
            }
            let all = Set(ColumnFamily.allCases.map(\.rawValue))
            let options = RocksOptionHandles(RocksOptions())
            let left = try RocksDatabase.retiredFamilies(path: path, options: options, known: all)
            #expect(left.sorted() == ["raft_log", "raft_state"])
        }
    }

    @Test func propertiesTellWhatIsStored() throws {
        try withTemporaryDirectory { directory in
            let store = try RocksStore.open(path: directory + "/store")
            let empty = try store.properties()
            #expect(empty.sortedFilesBytes == 0)
            for number in 0..<200 { try put(store, number) }
            let filled = try store.properties()
            #expect(filled.estimatedKeys[.records] == 200)
            #expect(filled.estimatedKeys[.meta] == 0)
            #expect(filled.memoryTablesBytes > empty.memoryTablesBytes)
            try store.flush()
            let flushed = try store.properties()
            #expect(flushed.sortedFilesBytes > 200 * 50)
            #expect(flushed.backgroundErrors == 0)
            #expect(!flushed.isWriteStopped)
            #expect(flushed.delayedWriteBytesPerSecond == 0)
            try store.close()
        }
    }

    /// A compaction waits for those that run: a flush that needs one takes as long as they.
    @Test func aFlushLeavesNothingToCompact() throws {
        try withTemporaryDirectory { directory in
            let path = directory + "/store"
            let database = try RocksDatabase(path: path, options: RocksOptions())
            for number in 0..<3 {
                var batch = WriteBatch()
                batch.put(.records, key: [UInt8(number)], value: [1])
                try database.write(batch, durability: .unlogged)
                try database.flush()
                #expect(database.unusedFileCount == 0)
            }
            let reads = RocksReads(database, takesSnapshot: false)
            #expect(try reads.get([2], in: .records) == [1])
            #expect(RocksProperties(reading: database).memoryTablesBytes < 1 << 20)
        }
    }

    @Test func optionsOutOfRangeAreRefused() throws {
        try withTemporaryDirectory { directory in
            var options = RocksOptions()
            options.blockCacheBytes = 5
            let code = try storageErrorCode { _ = try RocksStore.open(path: directory + "/a", options: options) }
            #expect(code == .invalidArgument)
            var familyOptions = RocksOptions()
            familyOptions[.records].writeBuffersMax = 0
            let familyCode = try storageErrorCode {
                _ = try RocksStore.open(path: directory + "/a", options: familyOptions)
            }
            #expect(familyCode == .invalidArgument)
            #expect(!FileManager.default.fileExists(atPath: directory + "/a"))
        }
    }

    @Test func aDirectoryThatCannotBeMadeIsAnIOError() throws {
        try withTemporaryDirectory { directory in
            try Data("a file".utf8).write(to: URL(fileURLWithPath: directory + "/file"))
            let code = try storageErrorCode { _ = try RocksStore.open(path: directory + "/file/store") }
            #expect(code == .io)
        }
    }

    @Test func aDeviceWithoutRoomHasACodeOfItsOwn() {
        let text =
            "IO error: No space left on device: While appending to file: /data/000012.log: No space left on device"
        #expect(code(ofStatus: text) == .full)
        #expect(code(ofStatus: "IO error: While appending to file: /data/000012.log: Input/output error") == .io)
    }

    @Test func smallMemoryTablesLoseNothing() throws {
        try withTemporaryDirectory { directory in
            var options = RocksOptions()
            options[.records].writeBufferBytes = 64 << 10
            options.walBytesMax = 1 << 20
            let path = directory + "/store"
            let store = try RocksStore.open(path: path, options: options)
            for number in 0..<4000 { try put(store, number, valueBytes: 600) }
            #expect(try frontCount(store, valueBytes: 600) == 4000)
            try store.close()
            let again = try RocksStore.open(path: path)
            #expect(try frontCount(again, valueBytes: 600) == 4000)
            try again.close()
        }
    }
}
