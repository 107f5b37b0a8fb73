internal import AuditLedger
internal import Foundation
internal import Primitives
internal import Shards
internal import Storage
internal import Synchronization

internal import enum Crypto.ChaChaPoly
internal import struct Crypto.SymmetricKey

/// The keys of data subjects that this node holds, wrapped under the node's own key, in the family `subject_keys`.
///
/// Every call blocks: on store threads only.
///
/// Row: organization u32 · SHA-256 of the data subject · name u64 → version u8 = 1 · nonce 12 · sealed key · tag 16
/// (ChaCha20-Poly1305, RFC 8439), bound to the row's key.
final class SubjectKeyRing: Sendable {
    /// What names a data subject's keys.
    struct Subject: Hashable, Sendable {
        let organization: OrganizationID
        let digest: Digest
    }

    /// This node has no key to keep keys under.
    struct NoSealingKey: Error, CustomStringConvertible {
        var description: String { "audit.sealing_key is not configured" }
    }

    private static let version: UInt8 = 1
    /// Subjects that are remembered as destroyed, so that a repeated question costs nothing.
    private static let destroyedMax = 10_000
    /// Under more prefixes the whole family is written anew at once.
    private static let purgedPrefixesMax = 8

    private let store: any KeyValueStore
    private let wrapping: SymmetricKey?
    /// Between asking whether a subject is erased and storing a key nobody may destroy.
    private let changing = Mutex<Void>(())
    /// Subjects of which nothing is left, since the node started.
    private let destroyed = Mutex<Set<Subject>>([])

    /// - Parameter wrapping: The node's sealing key, 32 bytes; nil keeps nothing and still destroys.
    init(store: any KeyValueStore, wrapping: [UInt8]?) {
        self.store = store
        self.wrapping = wrapping.map { SymmetricKey(data: $0) }
    }

    var canKeep: Bool { self.wrapping != nil }

    // MARK: Reading

    /// The keys of a subject that can be read, ascending by name.
    /// - Throws: ``StorageError``.
    func keys(of subject: Subject) throws(StorageError) -> [(name: SubjectKeyName, key: SubjectKey)] {
        guard let wrapping = self.wrapping else { return [] }
        var found: [(name: SubjectKeyName, key: SubjectKey)] = []
        // A key that is not as it was written is none: another replica gives it again.
        try self.store.visitRows(of: .subjectKeys, prefix: Self.prefix(subject)) { row, value in
            if let value, let key = Self.unwrap(value, of: row, under: wrapping),
                let name = SubjectKeyName(hex: key.fingerprint)
            {
                found.append((name, key))
            }
            return true
        }
        return found
    }

    /// Up to `limit` data subjects of which there are keys, after one of them.
    /// - Throws: ``StorageError``.
    func subjects(after: Subject?, limit: Int) throws(StorageError) -> [Subject] {
        var found: [Subject] = []
        var from: [UInt8]? = after.map { keyAfter(prefix: Self.prefix($0)) ?? [] } ?? []
        while let lower = from, found.count < limit {
            var next: Subject?
            try self.store.visitRows(of: .subjectKeys, from: lower, to: nil) { row, _ in
                var reader = ByteReader(row)
                next = Subject(organization: OrganizationID(try reader.read()), digest: try reader.readDigest())
                return false
            }
            guard let subject = next else { break }
            found.append(subject)
            from = keyAfter(prefix: Self.prefix(subject))
        }
        return found
    }

    /// As ``subjects(after:limit:)``, of one organization.
    /// - Throws: ``StorageError``.
    func subjects(
        of organization: OrganizationID,
        after: Subject?,
        limit: Int
    ) throws(StorageError) -> [Subject] {
        // No subject has the digest zero.
        let first = Subject(organization: organization, digest: .zero)
        return try self.subjects(after: after ?? first, limit: limit).filter { $0.organization == organization }
    }

    // MARK: Keeping

    /// Keeps keys, durable when the call returns.
    /// - Parameter isErased: Asked for each subject, between two destructions.
    /// - Returns: For each key whether it is kept; one of an erased subject is not.
    /// - Throws: ``NoSealingKey``, ``StorageError``, and what `isErased` throws.
    func keep(
        _ keys: [(subject: Subject, key: SubjectKey)],
        unlessErased isErased: (Subject) throws -> Bool
    ) throws -> [Bool] {
        guard let wrapping = self.wrapping else { throw NoSealingKey() }
        return try self.changing.withLock { _ in
            var batch = WriteBatch()
            var kept: [Bool] = []
            for (subject, key) in keys {
                guard try !isErased(subject) else {
                    kept.append(false)
                    continue
                }
                let row = Self.row(subject, key)
                batch.put(.subjectKeys, key: row, value: try Self.wrap(key, of: row, under: wrapping))
                kept.append(true)
                self.destroyed.withLock { _ = $0.remove(subject) }
            }
            if !batch.isEmpty {
                try self.store.write(batch, durability: .logged)
                try self.store.sync()
            }
            return kept
        }
    }

    // MARK: Destroying

    /// Deletes the keys of erased subjects, and what is left of them and of their sealed values in the store's files.
    /// - Returns: false when a reader may still see the old state: nothing counts as destroyed then; come again.
    /// - Throws: ``StorageError``.
    func destroy(_ subjects: [Subject]) throws(StorageError) -> Bool {
        let known = self.destroyed.withLock { $0 }
        let subjects = subjects.filter { !known.contains($0) }
        guard !subjects.isEmpty else { return true }
        guard try self.destroy(subjects.map(Self.prefix), families: [.subjectKeys, .sealedValues]) else { return false }
        self.destroyed.withLock { destroyed in
            if destroyed.count + subjects.count > Self.destroyedMax { destroyed.removeAll() }
            destroyed.formUnion(subjects)
        }
        return true
    }

    /// Deletes all keys of an organization that is no longer on this node.
    /// - Returns: As ``destroy(_:)``.
    /// - Throws: ``StorageError``.
    func forget(_ organization: OrganizationID) throws(StorageError) -> Bool {
        self.destroyed.withLock { destroyed in destroyed = destroyed.filter { $0.organization != organization } }
        return try self.destroy([Self.prefix(organization)], families: [.subjectKeys])
    }

    private func destroy(_ prefixes: [[UInt8]], families: [ColumnFamily]) throws(StorageError) -> Bool {
        let result: Result<Void, StorageError> = self.changing.withLock { _ in
            do throws(StorageError) {
                var batch = WriteBatch()
                for prefix in prefixes {
                    try self.store.visitRows(of: .subjectKeys, prefix: prefix) { row, _ in
                        batch.delete(.subjectKeys, key: row)
                        return true
                    }
                }
                if !batch.isEmpty {
                    try self.store.write(batch, durability: .logged)
                    try self.store.sync()
                }
                return .success(())
            } catch {
                return .failure(error)
            }
        }
        try result.get()
        let purged = prefixes.count > Self.purgedPrefixesMax ? [[]] : prefixes
        for family in families {
            for prefix in purged {
                guard try self.store.purge(family, prefix: prefix) else { return false }
            }
        }
        return true
    }

    // MARK: Form

    private static func prefix(_ organization: OrganizationID) -> [UInt8] {
        var writer = ByteWriter(capacity: 4)
        writer.write(organization.rawValue)
        return writer.bytes
    }

    private static func prefix(_ subject: Subject) -> [UInt8] { SealedRow.prefix(subject.organization, subject.digest) }

    private static func row(_ subject: Subject, _ key: SubjectKey) -> [UInt8] {
        var writer = ByteWriter(capacity: 44)
        writer.write(raw: self.prefix(subject))
        writer.write(SubjectKeyName(hex: key.fingerprint)?.rawValue ?? 0)
        return writer.bytes
    }

    private static func wrap(_ key: SubjectKey, of row: [UInt8], under wrapping: SymmetricKey) throws -> [UInt8] {
        // A nonce from the system's chance.
        [self.version] + Array(try ChaChaPoly.seal(key.bytes, using: wrapping, authenticating: row).combined)
    }

    /// nil when the row is not one of this wrapping key's.
    private static func unwrap(_ value: [UInt8], of row: [UInt8], under wrapping: SymmetricKey) -> SubjectKey? {
        guard value.first == self.version, let box = try? ChaChaPoly.SealedBox(combined: value.dropFirst()),
            let bytes = try? ChaChaPoly.open(box, using: wrapping, authenticating: row),
            let key = try? SubjectKey(Array(bytes)), Array(row.suffix(8)) == Array(self.row(.init(row), key).suffix(8))
        else { return nil }
        return key
    }
}

extension SubjectKeyRing.Subject {
    /// The subject in the key of a row, or in a prefix of one.
    fileprivate init(_ row: [UInt8]) {
        var reader = ByteReader(row)
        self.organization = OrganizationID((try? reader.read(UInt32.self)) ?? 0)
        self.digest = (try? reader.readDigest()) ?? .zero
    }
}

extension SubjectKey {
    /// Makes a key from the system's chance.
    static func make() -> SubjectKey {
        let bytes = SymmetricKey(size: .bits256).withUnsafeBytes { Array($0) }
        guard let key = try? SubjectKey(bytes) else { preconditionFailure("a key of 256 bits has 32 bytes") }
        return key
    }
}
