import Foundation
import RocksStorage
import Storage
import StorageTestKit
import Testing

/// What a damaged disk does: bytes are changed or cut off in the files of a store.
@Suite(.timeLimit(.minutes(10))) struct DamageTests {
    private func files(_ path: String, suffix: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: path)
            .filter { $0.hasSuffix(suffix) }
            .map { path + "/" + $0 }
            .sorted()
    }

    private func bytes(_ path: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: path)) }

    private func flip(_ path: String, at place: Int) throws {
        var bytes = try self.bytes(path)
        bytes[place] ^= 0x20
        try bytes.write(to: URL(fileURLWithPath: path))
    }

    /// Runs `body` with the files of a store that lost its process after `count` synced records.
    private func withKilledStore(records count: Int, _ body: (_ path: String, _ copies: String) throws -> Void) throws {
        try withTemporaryDirectory { directory in
            let store = try RocksStore.open(path: directory + "/open")
            for number in 0..<count { try put(store, number) }
            try store.sync()
            try FileManager.default.copyItem(atPath: directory + "/open", toPath: directory + "/killed")
            try store.close()
            try body(directory + "/killed", directory)
        }
    }

    private func withCopy(_ path: String, _ directory: String, _ body: (_ path: String) throws -> Void) throws {
        let copy = directory + "/copy"
        try FileManager.default.copyItem(atPath: path, toPath: copy)
        defer { try? FileManager.default.removeItem(atPath: copy) }
        try body(copy)
    }

    /// The write-ahead log of a killed store: the only one that is not empty.
    private func log(_ path: String) throws -> String {
        let logs = try self.files(path, suffix: ".log").filter { try !self.bytes($0).isEmpty }
        return try #require(logs.count == 1 ? logs.first : nil)
    }

    @Test func aChangedByteInASortedFileIsReportedByEveryRead() throws {
        try withTemporaryDirectory { directory in
            let path = directory + "/store"
            let store = try RocksStore.open(path: path)
            for number in 0..<500 { try put(store, number) }
            try store.flush()
            try store.close()
            let file = try #require(try self.files(path, suffix: ".sst").first)
            try self.flip(file, at: 100)
            let damaged = try RocksStore.open(path: path)
            #expect(try storageErrorCode { _ = try damaged.get(key(0), in: .records) } == .corruption)
            #expect(try storageErrorCode { _ = try damaged.get([key(0), key(1)], in: .records) } == .corruption)
            for direction in [ScanDirection.ascending, .descending] {
                let code = try storageErrorCode { _ = try damaged.entries(.records, direction: direction) }
                #expect(code == .corruption)
            }
            let snapshot = try damaged.snapshot()
            #expect(try storageErrorCode { _ = try snapshot.entries(.records) } == .corruption)
            #expect(try damaged.get(key(499), in: .records) == value(499))
            try damaged.close()
        }
    }

    @Test func aChangedByteInTheMiddleOfTheLogIsReported() throws {
        try self.withKilledStore(records: 600) { path, directory in
            let size = try self.bytes(self.log(path)).count
            // More than one block of 32 KiB; a flip in all but the last must be found at opening.
            #expect(size > 64 << 10)
            for place in stride(from: 20, to: size - (33 << 10), by: 3001) {
                try self.withCopy(path, directory) { copy in
                    try self.flip(self.log(copy), at: place)
                    let code = try storageErrorCode { try RocksStore.open(path: copy).close() }
                    #expect(code == .corruption, "byte \(place) of \(size)")
                }
            }
        }
    }

    @Test func aChangedByteInTheLogNeverYieldsOtherRecords() throws {
        let count = 12
        try self.withKilledStore(records: count) { path, directory in
            let size = try self.bytes(self.log(path)).count
            for place in stride(from: 0, to: size, by: 31) {
                try self.withCopy(path, directory) { copy in
                    try self.flip(self.log(copy), at: place)
                    do {
                        let store = try RocksStore.open(path: copy)
                        let front = try frontCount(store)
                        #expect(front != nil && front != count, "byte \(place) of \(size)")
                        try store.close()
                    } catch let error as StorageError {
                        #expect(error.code == .corruption, "byte \(place) of \(size)")
                    }
                }
            }
        }
    }

    @Test func aTornTailOfTheLogKeepsTheEarlierBatches() throws {
        let count = 12
        try self.withKilledStore(records: count) { path, directory in
            let size = try self.bytes(self.log(path)).count
            var fronts: [Int] = []
            for left in stride(from: 0, through: size, by: 37) {
                try self.withCopy(path, directory) { copy in
                    let log = try self.log(copy)
                    try self.bytes(log).prefix(left).write(to: URL(fileURLWithPath: log))
                    let store = try RocksStore.open(path: copy)
                    let front = try #require(try frontCount(store), "\(left) of \(size) bytes")
                    fronts.append(front)
                    try put(store, front)
                    #expect(try frontCount(store) == front + 1)
                    try store.close()
                }
            }
            #expect(fronts == fronts.sorted())
            #expect(Set(fronts).count >= count)
        }
    }

    @Test func aLostSortedFileIsReportedAtOpening() throws {
        try withTemporaryDirectory { directory in
            let path = directory + "/store"
            let store = try RocksStore.open(path: path)
            try put(store, 0)
            try store.flush()
            try store.close()
            try FileManager.default.removeItem(atPath: try #require(try self.files(path, suffix: ".sst").first))
            #expect(try storageErrorCode { try RocksStore.open(path: path).close() } == .corruption)
        }
    }

    @Test func aDamagedManifestIsReportedAtOpening() throws {
        try withTemporaryDirectory { directory in
            let path = directory + "/store"
            let store = try RocksStore.open(path: path)
            try put(store, 0)
            try store.close()
            let name = try FileManager.default.contentsOfDirectory(atPath: path).first { $0.hasPrefix("MANIFEST") }
            let manifest = path + "/" + (try #require(name))
            try self.flip(manifest, at: 30)
            #expect(try storageErrorCode { try RocksStore.open(path: path).close() } == .corruption)
        }
    }
}
