import Foundation
import Storage
import StorageTestKit
import Testing

@Suite struct InMemoryStoreTests {
    private func filled() throws -> InMemoryStore {
        let store = InMemoryStore()
        var batch = WriteBatch()
        for number in UInt8(0)..<20 { batch.put(.records, key: [number], value: [number, number]) }
        try store.write(batch)
        return store
    }

    @Test func aCopyIsIndependent() throws {
        let store = try self.filled()
        let copy = try InMemoryStore(copying: store)
        var batch = WriteBatch()
        batch.deleteRange(.records, lower: [0], upper: [10])
        try store.write(batch)
        #expect(try store.count(of: .records) == 10)
        #expect(try copy.count(of: .records) == 20)
    }

    @Test func aDamagedCheckpointIsRefused() throws {
        try withTemporaryDirectory { directory in
            let path = directory + "/checkpoint"
            try self.filled().checkpoint(to: path)
            let whole = try Data(contentsOf: URL(fileURLWithPath: path))
            for place in stride(from: 0, to: whole.count, by: 7) {
                var damaged = whole
                damaged[place] ^= 0x10
                let damagedPath = directory + "/damaged"
                try damaged.write(to: URL(fileURLWithPath: damagedPath))
                let code = try storageErrorCode { _ = try InMemoryStore(checkpoint: damagedPath) }
                #expect(code == .corruption || code == .incompatible, "byte \(place)")
            }
            for count in stride(from: 0, to: whole.count, by: 11) {
                let cutPath = directory + "/cut"
                try whole.prefix(count).write(to: URL(fileURLWithPath: cutPath))
                let code = try storageErrorCode { _ = try InMemoryStore(checkpoint: cutPath) }
                #expect(code == .corruption, "\(count) bytes left")
            }
            #expect(try InMemoryStore(checkpoint: path).count(of: .records) == 20)
            let missing = try storageErrorCode { _ = try InMemoryStore(checkpoint: directory + "/missing") }
            #expect(missing == .io)
        }
    }

    @Test func manyKeysInAnyOrderStaySorted() throws {
        let store = InMemoryStore()
        let count = 20_000
        var batch = WriteBatch()
        for number in 0..<count {
            let mixed = UInt32(truncatingIfNeeded: number &* 7919 % count)
            batch.put(.records, key: (0..<4).map { UInt8(truncatingIfNeeded: mixed >> (24 - 8 * $0)) }, value: [])
        }
        try store.write(batch)
        let keys = try store.entries(.records).map(\.key)
        #expect(keys.count == count)
        #expect(zip(keys, keys.dropFirst()).allSatisfy { $0.lexicographicallyPrecedes($1) })
        var deletion = WriteBatch()
        deletion.deleteRange(.records, lower: keys[100], upper: keys[19_000])
        try store.write(deletion)
        #expect(try store.entries(.records).map(\.key) == Array(keys[..<100] + keys[19_000...]))
        #expect(try store.count(of: .records) == 1100)
    }
}
