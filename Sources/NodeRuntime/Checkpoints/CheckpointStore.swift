internal import AuditLedger
internal import Primitives
internal import Storage
internal import Synchronization

/// A checkpoint as this replica keeps it.
struct StoredCheckpoint: Sendable, Equatable {
    let size: UInt64
    /// Whether enough witnesses have cosigned it, as far as this replica knows.
    var isWitnessed: Bool
    /// The note, with every signature that this replica knows of.
    let note: [UInt8]
}

/// The rows of the families `checkpoints`, `signed_heads` and `forks`.
///
/// Every call reads or writes the store and may block. Rows of checkpoints are only ever added or get more signatures.
struct CheckpointStore: Sendable {
    /// Fork proofs that are kept of one organization; the first ones say it all.
    static let forksMax = 64

    let store: any KeyValueStore
    private let merging = Merging()

    init(store: any KeyValueStore) { self.store = store }

    /// Held while the signatures of a note are put together.
    private final class Merging: Sendable {
        let lock = Mutex<Void>(())
    }

    private static let version = UInt8(1)
    private static let witnessedFlag = UInt8(1)

    // MARK: Checkpoints

    static func key(_ organization: OrganizationID, _ size: UInt64) -> [UInt8] {
        var writer = ByteWriter(capacity: 12)
        writer.write(organization.rawValue)
        writer.write(size)
        return writer.bytes
    }

    private static func prefix(_ organization: OrganizationID) -> [UInt8] {
        var writer = ByteWriter(capacity: 4)
        writer.write(organization.rawValue)
        return writer.bytes
    }

    static func encode(_ checkpoint: StoredCheckpoint) -> [UInt8] {
        [Self.version, checkpoint.isWitnessed ? Self.witnessedFlag : 0] + checkpoint.note
    }

    private static func decode(_ size: UInt64, _ value: [UInt8]) throws(MalformedBytes) -> StoredCheckpoint {
        guard value.count > 2, value[0] == Self.version else { throw MalformedBytes(what: "checkpoint row", offset: 0) }
        return StoredCheckpoint(
            size: size,
            isWitnessed: value[1] & Self.witnessedFlag != 0,
            note: Array(value.dropFirst(2))
        )
    }

    /// The checkpoint of a size; nil when there is none here.
    /// - Throws: ``StorageError`` or ``MalformedBytes``.
    func checkpoint(of organization: OrganizationID, size: UInt64) throws -> StoredCheckpoint? {
        guard let value = try self.store.get(Self.key(organization, size), in: .checkpoints) else { return nil }
        return try Self.decode(size, value)
    }

    /// The largest checkpoint that is not larger than `size`; nil when there is none here.
    /// - Throws: ``StorageError`` or ``MalformedBytes``.
    func latest(of organization: OrganizationID, upTo size: UInt64 = .max) throws -> StoredCheckpoint? {
        try self.list(of: organization, upTo: size, limit: 1).first
    }

    /// Up to `limit` checkpoints from the largest that is not larger than `size` downwards.
    /// - Throws: ``StorageError`` or ``MalformedBytes``.
    func list(of organization: OrganizationID, upTo size: UInt64 = .max, limit: Int) throws -> [StoredCheckpoint] {
        var found: [StoredCheckpoint] = []
        // A checkpoint that is not as it was written is none: another one can be made.
        try self.store.visitRows(
            of: .checkpoints,
            from: Self.prefix(organization),
            to: Self.key(organization, size) + [0],
            direction: .descending
        ) { key, value in
            guard let value else { return true }
            var reader = ByteReader(key[4...])
            found.append(try Self.decode(try reader.read(), value))
            return found.count < limit
        }
        return found
    }

    /// The smallest checkpoint of at least `size`; nil when there is none here.
    /// - Throws: ``StorageError`` or ``MalformedBytes``.
    func first(of organization: OrganizationID, from size: UInt64) throws -> StoredCheckpoint? {
        var found: StoredCheckpoint?
        try self.store.scan(
            .checkpoints,
            from: Self.key(organization, size),
            to: keyAfter(prefix: Self.prefix(organization))
        ) { key, value in
            var reader = ByteReader(key[4...])
            found = try Self.decode(try reader.read(), value)
            return false
        }
        return found
    }

    /// Stores notes, each with the signatures that are stored with it already.
    ///
    /// Notes of one size are put together under a lock: signatures come from several sides at once.
    /// - Parameters:
    ///   - notes: With whether somebody else knows that enough witnesses have cosigned it.
    ///   - isWitnessed: Whether enough have, as far as a note tells.
    /// - Returns: What is then stored, in the order of `notes`.
    /// - Throws: ``StorageError``, ``MalformedBytes``, ``NoteError``; also when another root is stored for a size.
    @discardableResult
    func keep(
        _ notes: [(organization: OrganizationID, note: SignedCheckpoint, isWitnessed: Bool)],
        isWitnessed: (SignedCheckpoint) -> Bool
    ) throws -> [StoredCheckpoint] {
        try self.merging.lock.withLock { _ in
            var batch = WriteBatch()
            let stored = try notes.map { organization, note, isKnown in
                let before = try self.soundCheckpoint(of: organization, size: note.checkpoint.size)
                let merged = try before.map { try Self.merge(note, into: $0) } ?? note
                let row = StoredCheckpoint(
                    size: note.checkpoint.size,
                    isWitnessed: isKnown || before?.isWitnessed == true || isWitnessed(merged),
                    note: merged.encoded
                )
                if row != before {
                    batch.put(.checkpoints, key: Self.key(organization, row.size), value: Self.encode(row))
                }
                return row
            }
            if !batch.isEmpty { try self.store.write(batch, durability: .logged) }
            return stored
        }
    }

    /// As ``checkpoint(of:size:)``; nil for one that is not as it was written, which may be replaced.
    private func soundCheckpoint(of organization: OrganizationID, size: UInt64) throws -> StoredCheckpoint? {
        do {
            return try self.checkpoint(of: organization, size: size)
        } catch let error as StorageError where error.code == .corruption {
            return nil
        }
    }

    private static func merge(_ note: SignedCheckpoint, into stored: StoredCheckpoint) throws -> SignedCheckpoint {
        var merged = try SignedCheckpoint(parsing: stored.note)
        guard merged.checkpoint == note.checkpoint else {
            throw NoteError(.malformedLine, "another root is stored for size \(stored.size)")
        }
        try merged.add(note.note.signatures)
        return merged
    }

    /// Organizations, from a key of the family `ledger_heads` on, whose newest checkpoint too few witnesses have cosigned.
    /// - Returns: Those among the next `limit`, and where to go on; nil at the end.
    /// - Throws: ``StorageError`` or ``MalformedBytes``.
    func unwitnessed(
        from key: [UInt8],
        limit: Int
    ) throws -> (found: [(organization: OrganizationID, checkpoint: StoredCheckpoint)], rest: [UInt8]?) {
        let (heads, rest) = try self.heads(from: key, limit: limit)
        let found = try heads.compactMap { head in
            try self.latest(of: head.organization).flatMap { $0.isWitnessed ? nil : (head.organization, $0) }
        }
        return (found, rest)
    }

    /// Organizations, from a key of the family `ledger_heads` on, whose ledger is larger than their last checkpoint.
    /// - Returns: Those among the next `limit`, and where to go on; nil at the end.
    /// - Throws: ``StorageError`` or ``MalformedBytes``.
    func grown(
        from key: [UInt8],
        limit: Int
    ) throws -> (found: [(organization: OrganizationID, size: UInt64)], rest: [UInt8]?) {
        let (heads, rest) = try self.heads(from: key, limit: limit)
        let found = try heads.filter { head in
            try self.latest(of: head.organization).map { $0.size < head.size } ?? (head.size > 0)
        }
        return (found, rest)
    }

    private func heads(
        from key: [UInt8],
        limit: Int
    ) throws -> (heads: [(organization: OrganizationID, size: UInt64)], rest: [UInt8]?) {
        var heads: [(organization: OrganizationID, size: UInt64)] = []
        var rest: [UInt8]?
        try self.store.scan(.ledgerHeads, from: key, to: nil) { key, value in
            if heads.count == limit {
                rest = key
                return false
            }
            let head = try LedgerHead.decode(value)
            heads.append((head.organization, head.size))
            return true
        }
        return (heads, rest)
    }

    // MARK: Signed heads

    /// The largest head that this node ever signed.
    /// - Throws: ``StorageError`` or ``MalformedBytes``.
    func signedHead(of organization: OrganizationID) throws -> TreeHead? {
        guard let value = try self.store.get(Self.prefix(organization), in: .signedHeads) else { return nil }
        var reader = ByteReader(value)
        guard try reader.read(UInt8.self) == Self.version else {
            throw MalformedBytes(what: "version of a signed head", offset: 0)
        }
        let head = TreeHead(size: try reader.read(), root: try reader.readDigest())
        try reader.finish("signed head")
        return head
    }

    static func put(signed head: TreeHead, of organization: OrganizationID, into batch: inout WriteBatch) {
        var writer = ByteWriter(capacity: 41)
        writer.write(Self.version)
        writer.write(head.size)
        writer.write(head.root)
        batch.put(.signedHeads, key: Self.prefix(organization), value: writer.bytes)
    }

    // MARK: Forks

    /// Keeps a fork proof, with the time at which it was found.
    /// - Returns: false when it was there already, or enough of them are.
    /// - Throws: ``StorageError``.
    func add(fork proof: ForkProof, of organization: OrganizationID, at time: Timestamp) throws -> Bool {
        let encoded = proof.encoded
        let key = Self.prefix(organization) + Self.forkKey(proof)
        guard try self.store.get(key, in: .forks) == nil, try self.forkCount(of: organization) < Self.forksMax else {
            return false
        }
        var writer = ByteWriter(capacity: 16 + encoded.count)
        writer.write(Self.version)
        writer.write(time.rawValue)
        writer.write(raw: encoded)
        var batch = WriteBatch()
        batch.put(.forks, key: key, value: writer.bytes)
        try self.store.write(batch, durability: .logged)
        try self.store.sync()
        return true
    }

    /// The fork proofs of an organization, smallest size first, with when they were found.
    /// - Throws: ``StorageError`` or ``MalformedBytes``.
    func forks(of organization: OrganizationID) throws -> [(foundAt: Timestamp, proof: [UInt8])] {
        var found: [(Timestamp, [UInt8])] = []
        try self.store.scan(.forks, prefix: Self.prefix(organization)) { _, value in
            var reader = ByteReader(value)
            guard try reader.read(UInt8.self) == Self.version else {
                throw MalformedBytes(what: "version of a fork proof", offset: 0)
            }
            let time = Timestamp(microseconds: try reader.read())
            found.append((time, Array(try reader.read(count: reader.remaining))))
            return found.count < Self.forksMax
        }
        return found
    }

    /// Whether a stored value is a fork proof that belongs under `key`.
    static func isFork(_ value: [UInt8], under key: [UInt8]) -> Bool {
        guard value.count > 9, value[0] == Self.version, key.count > 4,
            let proof = try? ForkProof(parsing: value[9...])
        else { return false }
        return Array(key[4...]) == Self.forkKey(proof)
    }

    /// Whether a stored value is a checkpoint, with signatures, that belongs under `key`.
    static func isCheckpoint(_ value: [UInt8], under key: [UInt8]) -> Bool {
        var reader = ByteReader(key.dropFirst(4))
        guard let size = try? reader.read() as UInt64, let row = try? Self.decode(size, value),
            let note = try? SignedCheckpoint(parsing: row.note)
        else { return false }
        return note.checkpoint.size == size && !note.note.signatures.isEmpty
    }

    /// What stands behind the organization in the key of a proof: one row for what contradicts what, whoever signed it
    /// first.
    private static func forkKey(_ proof: ForkProof) -> [UInt8] {
        let roots = [proof.older.checkpoint, proof.newer.checkpoint].map { $0.text }.sorted {
            $0.lexicographicallyPrecedes($1)
        }
        var writer = ByteWriter(capacity: 40)
        writer.write(proof.older.checkpoint.size)
        writer.write(LedgerHash.leaf(Array(roots.joined())))
        return writer.bytes
    }

    private func forkCount(of organization: OrganizationID) throws -> Int {
        var count = 0
        try self.store.visitRows(of: .forks, prefix: Self.prefix(organization)) { _, _ in
            count += 1
            return count < Self.forksMax
        }
        return count
    }

    /// Fork proofs of all organizations.
    /// - Throws: ``StorageError``.
    func forkCount() throws -> Int {
        let countMax = 100_000
        var count = 0
        try self.store.visitRows(of: .forks) { _, _ in
            count += 1
            return count < countMax
        }
        return count
    }
}
