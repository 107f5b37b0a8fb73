internal import AuditLedger
internal import Foundation
internal import Primitives
internal import RocksStorage
internal import Shards
internal import Storage
internal import Testing

@testable internal import NodeRuntime

@Suite("Keys of data subjects on a node")
struct PersonalSubjectKeyRingTests {
    private let wrapping = Array(repeating: UInt8(9), count: 32)
    private let ada = SubjectKeyRing.Subject(organization: OrganizationID(1), digest: SubjectEntry.digest(of: "ada"))
    private let bob = SubjectKeyRing.Subject(organization: OrganizationID(1), digest: SubjectEntry.digest(of: "bob"))
    private let far = SubjectKeyRing.Subject(organization: OrganizationID(2), digest: SubjectEntry.digest(of: "ada"))

    private func key(_ byte: UInt8) throws -> SubjectKey { try SubjectKey(Array(repeating: byte, count: 32)) }

    private func rows(_ store: any KeyValueReader) throws -> [[UInt8]] {
        var rows: [[UInt8]] = []
        try store.scan(.subjectKeys, from: [], to: nil) { _, value in
            rows.append(value)
            return true
        }
        return rows
    }

    @Test func keysComeBackAndAreNeverStoredInTheClear() throws {
        let store = InMemoryStore()
        let ring = SubjectKeyRing(store: store, wrapping: self.wrapping)
        let (one, two) = (try self.key(1), try self.key(2))
        #expect(
            try ring.keep([(self.ada, one), (self.ada, two), (self.bob, one)]) { _ in false } == [true, true, true]
        )
        #expect(Set(try ring.keys(of: self.ada).map(\.key.bytes)) == [one.bytes, two.bytes])
        #expect(try ring.keys(of: self.far).isEmpty)
        for row in try self.rows(store) {
            #expect(row.firstRange(of: one.bytes) == nil && row.firstRange(of: two.bytes) == nil)
        }
        let again = SubjectKeyRing(store: store, wrapping: self.wrapping)
        #expect(try again.keys(of: self.bob).map(\.key.bytes) == [one.bytes])
    }

    @Test func anotherSealingKeyOpensNothing() throws {
        let store = InMemoryStore()
        let ring = SubjectKeyRing(store: store, wrapping: self.wrapping)
        _ = try ring.keep([(self.ada, try self.key(1))]) { _ in false }
        let other = SubjectKeyRing(store: store, wrapping: Array(repeating: 8, count: 32))
        #expect(try other.keys(of: self.ada).isEmpty)
        // What another replica gives it takes the place of what it cannot read.
        _ = try other.keep([(self.ada, try self.key(1))]) { _ in false }
        #expect(try other.keys(of: self.ada).count == 1)
    }

    /// A row that somebody moved to another subject is none of its keys.
    @Test func aRowIsBoundToItsPlace() throws {
        let store = InMemoryStore()
        let ring = SubjectKeyRing(store: store, wrapping: self.wrapping)
        _ = try ring.keep([(self.ada, try self.key(1))]) { _ in false }
        var moved = WriteBatch()
        try store.scan(.subjectKeys, from: [], to: nil) { key, value in
            moved.put(
                .subjectKeys,
                key: SealedRow.prefix(self.bob.organization, self.bob.digest) + key.suffix(8),
                value: value
            )
            return true
        }
        try store.write(moved)
        #expect(try ring.keys(of: self.bob).isEmpty)
        #expect(try ring.keys(of: self.ada).count == 1)
    }

    @Test func aKeyOfAnErasedSubjectIsNotKept() throws {
        let store = InMemoryStore()
        let ring = SubjectKeyRing(store: store, wrapping: self.wrapping)
        let key = try self.key(1)
        #expect(try ring.keep([(self.ada, key), (self.bob, key)]) { $0 == self.ada } == [false, true])
        #expect(try ring.keys(of: self.ada).isEmpty)
        #expect(try ring.keys(of: self.bob).count == 1)
    }

    @Test func withoutASealingKeyNothingIsKeptAndAllIsDestroyed() throws {
        let store = InMemoryStore()
        _ = try SubjectKeyRing(store: store, wrapping: self.wrapping).keep([(self.ada, try self.key(1))]) { _ in false }
        let ring = SubjectKeyRing(store: store, wrapping: nil)
        #expect(!ring.canKeep)
        #expect(throws: SubjectKeyRing.NoSealingKey.self) {
            try ring.keep([(self.bob, try self.key(1))]) { _ in false }
        }
        #expect(try ring.destroy([self.ada]))
        #expect(try self.rows(store).isEmpty)
    }

    @Test func destroyingTakesOneSubjectAndLeavesTheOthers() throws {
        let ring = SubjectKeyRing(store: InMemoryStore(), wrapping: self.wrapping)
        let key = try self.key(1)
        _ = try ring.keep([(self.ada, key), (self.bob, key), (self.far, key)]) { _ in false }
        #expect(try ring.destroy([self.ada]))
        #expect(try ring.keys(of: self.ada).isEmpty)
        #expect(try ring.keys(of: self.bob).count == 1 && ring.keys(of: self.far).count == 1)
        #expect(try ring.subjects(after: nil, limit: 9) == [self.bob, self.far])
        #expect(try ring.forget(OrganizationID(1)))
        #expect(try ring.subjects(after: nil, limit: 9) == [self.far])
        #expect(try ring.subjects(of: OrganizationID(1), after: nil, limit: 9).isEmpty)
    }

    @Test func pagesOfSubjectsMeetEachOnce() throws {
        let ring = SubjectKeyRing(store: InMemoryStore(), wrapping: self.wrapping)
        let subjects = (0..<25).map {
            SubjectKeyRing.Subject(organization: OrganizationID(1), digest: SubjectEntry.digest(of: "s\($0)"))
        }
        _ = try ring.keep(try subjects.flatMap { [($0, try self.key(1)), ($0, try self.key(2))] }) { _ in false }
        var found: [SubjectKeyRing.Subject] = []
        while true {
            let page = try ring.subjects(of: OrganizationID(1), after: found.last, limit: 4)
            if page.isEmpty { break }
            found += page
        }
        #expect(found.count == 25 && Set(found) == Set(subjects))
    }

    /// The bytes of a destroyed key are in no file of the store, and a reader that may still see them holds it up.
    @Test func destroyedKeysLeaveTheDisk() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "ring-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let store = try RocksStore.open(path: folder)
        let ring = SubjectKeyRing(store: store, wrapping: self.wrapping)
        let key = try self.key(1)
        _ = try ring.keep([(self.ada, key), (self.bob, key)]) { _ in false }
        let wrapped = try #require(self.rows(store).first)
        try store.flush()
        #expect(try Self.isOnDisk(wrapped, folder))
        do {
            let reader = try store.snapshot()
            #expect(try !ring.destroy([self.ada, self.bob]))
            #expect(try self.rows(reader).count == 2)
        }
        #expect(try ring.destroy([self.ada, self.bob]))
        #expect(try self.rows(store).isEmpty)
        try store.close()
        #expect(try !Self.isOnDisk(wrapped, folder))
    }

    private static func isOnDisk(_ bytes: [UInt8], _ folder: String) throws -> Bool {
        try FileManager.default.contentsOfDirectory(atPath: folder).contains { name in
            guard let data = FileManager.default.contents(atPath: folder + "/" + name) else { return false }
            return data.firstRange(of: Data(bytes)) != nil
        }
    }

    @Test func sealingKeyFilesComeBackAndOthersAreRefused() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "seal-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try WholeTextFile.makeFolder(folder, for: .owner)
        let file = SealingKeyFile(path: folder + "/node-1.sealing.key")
        try file.make(replacing: false)
        let key = try file.read()
        #expect(key.count == 32)
        #expect(throws: PKIError.self) { try file.make(replacing: false) }
        #expect(try file.read() == key)
        let mode = try FileManager.default.attributesOfItem(atPath: file.path)[.posixPermissions] as? Int
        #expect(mode == 0o600)
        for text in ["", "flasktrack-sealing-key-1 12\n", String(repeating: "0", count: 64)] {
            try WholeTextFile.write(text, to: file.path, for: .owner, replacing: true)
            #expect(throws: PKIError.self) { try file.read() }
        }
    }
}
