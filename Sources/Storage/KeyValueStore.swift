/// The closed set of column families of a node's store.
///
/// The raw value is the family's name on disk and never changes.
package enum ColumnFamily: String, CaseIterable, Sendable {
    /// Identity of the node and format version: a handful of keys.
    case meta
    /// State that applying a group's log builds, with the applied index: group u32 · kind u8 · …
    case groupState = "group_state"
    /// Ledger records: organization u32 · sequence u64 → canonical bytes.
    case records
    /// Merkle tree nodes: organization u32 · level u8 · index u64 → the digests of that node and those after it that one
    /// command wrote, 32 bytes each; written once.
    case treeNodes = "tree_nodes"
    /// Head of each organization's ledger: organization u32 → size, frontier, last checksum, last time.
    case ledgerHeads = "ledger_heads"
    /// Answers of commands by idempotency key: organization u32 · key hash → receipt.
    case idempotency
    /// Signed checkpoints: organization u32 · size u64 → the note, with every signature that this replica knows of.
    case checkpoints
    /// The largest head that this node ever signed: organization u32 → size, root. Written and synced before a
    /// signature leaves.
    case signedHeads = "signed_heads"
    /// Fork proofs: organization u32 · size u64 · digest of the proof → proof.
    case forks
    /// Background re-reading: organization u32 → progress and result.
    case scrubState = "scrub_state"
    /// Personal values outside the ledger, sealed: organization u32 · SHA-256 of the data subject · sequence u64 ·
    /// number u16 → path, name of the key, sealed bytes.
    case sealedValues = "sealed_values"
    /// Keys of data subjects that this node holds: organization u32 · SHA-256 of the data subject · name of the key u64 →
    /// the key, wrapped. Never in a log, a snapshot or a package.
    case subjectKeys = "subject_keys"

    /// Families that earlier versions made: a store drops them when it opens and they are empty, as they are since the
    /// Raft logs lie in files of their own, and is refused otherwise.
    package static let retiredNames = ["raft_log", "raft_state"]
}

/// A set of writes that a store applies all or none, in the order in which they were added.
package struct WriteBatch: Sendable {
    /// One write.
    package enum Operation: Sendable {
        case put(ColumnFamily, key: [UInt8], value: [UInt8])
        case delete(ColumnFamily, key: [UInt8])
        /// Removes every key in `lower..<upper`.
        case deleteRange(ColumnFamily, lower: [UInt8], upper: [UInt8])
    }

    package private(set) var operations: [Operation] = []
    /// Bytes of all keys and values.
    package private(set) var sizeBytes = 0

    package init() {}

    package var isEmpty: Bool { self.operations.isEmpty }

    package mutating func put(_ family: ColumnFamily, key: [UInt8], value: [UInt8]) {
        self.sizeBytes += key.count + value.count
        self.operations.append(.put(family, key: key, value: value))
    }

    package mutating func delete(_ family: ColumnFamily, key: [UInt8]) {
        self.sizeBytes += key.count
        self.operations.append(.delete(family, key: key))
    }

    package mutating func deleteRange(_ family: ColumnFamily, lower: [UInt8], upper: [UInt8]) {
        self.sizeBytes += lower.count + upper.count
        self.operations.append(.deleteRange(family, lower: lower, upper: upper))
    }

    /// Adds all writes of `other` after those of this batch.
    package mutating func append(_ other: WriteBatch) {
        self.sizeBytes += other.sizeBytes
        self.operations.append(contentsOf: other.operations)
    }
}

/// The direction in which keys are visited.
package enum ScanDirection: Sendable {
    case ascending
    case descending
}

/// What reads of a store have in common with reads of one of its snapshots.
package protocol KeyValueReader: Sendable {
    /// - Returns: A copy of the value, or nil when the key is absent (an empty value is not nil).
    func get(_ key: [UInt8], in family: ColumnFamily) throws(StorageError) -> [UInt8]?

    /// The values of several keys, in their order, nil where absent.
    func get(_ keys: [[UInt8]], in family: ColumnFamily) throws(StorageError) -> [[UInt8]?]

    /// Visits the keys in `lower..<upper` (no bound when `upper` is nil) until `body` returns false.
    ///
    /// `body` gets copies; it must not write to the store's family that it scans and expect to see it.
    /// - Throws: What `body` throws as ``StorageError`` `.visitor`, or the store's own failure; a scan that a read
    ///   error stopped always throws.
    func scan(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        direction: ScanDirection,
        _ body: (_ key: [UInt8], _ value: [UInt8]) throws -> Bool
    ) throws(StorageError)

    /// Visits as an ascending scan does, but lends keys and values instead of copying them: for whoever reads very many
    /// keys once.
    ///
    /// What is read is not kept in the store's cache. The spans end with the call of `body`.
    /// - Parameter readAheadBytes: Bytes that the store reads at once beyond what it needs; zero: as it thinks best.
    func sweep(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        readAheadBytes: Int,
        _ body: (_ key: RawSpan, _ value: RawSpan) throws -> Bool
    ) throws(StorageError)
}

/// What a write survives.
package enum WriteDurability: Sendable {
    /// The batch goes through the write-ahead log: it survives the end of the process at once and a power failure from
    /// the next ``KeyValueStore/sync()`` or ``KeyValueStore/flush()`` on.
    case logged
    /// The batch skips the write-ahead log: it survives anything only from the next ``KeyValueStore/flush()`` on, or
    /// from a flush that the store makes of its own accord. For what can be made again from what is logged.
    case unlogged
}

/// An ordered key-value store with column families: what the log, the ledger and the state live in.
///
/// After a restart a store holds a front part of all writes, of either durability (what the last flush took, or a
/// later one of the store's own), and after that front part the logged writes alone, again a front part of them with
/// at least everything synced. So an unlogged write may rely on every write before it, but a logged write
/// never on an unlogged one.
///
/// All calls may block and are safe from any thread. After a failed write or sync the store is *poisoned*: every
/// later write throws `.poisoned`, because what is on disk is no longer known.
package protocol KeyValueStore: KeyValueReader {
    /// Applies a batch atomically; `durability` says what it survives.
    func write(_ batch: WriteBatch, durability: WriteDurability) throws(StorageError)

    /// Returns when every logged write before the call survives a power failure (one fsync of the write-ahead log).
    ///
    /// Writes of other threads go on meanwhile.
    func sync() throws(StorageError)

    /// A consistent view of all families as of now; keep it short, it holds old versions on disk.
    func snapshot() throws(StorageError) -> any KeyValueReader

    /// Writes an openable copy to `path`, which must not exist and lies on the same file system.
    func checkpoint(to path: String) throws(StorageError)

    /// Returns when everything written before the call, logged or not, is in sorted files and survives a power failure.
    ///
    /// All families move in one atomic step. Blocks for as long as the disk takes; writes of other threads go on.
    func flush() throws(StorageError)

    /// Takes off the disk what was overwritten or deleted under `prefix` of a family before the call.
    ///
    /// Stores the memory tables first (``flush()``), then writes the family's files under the prefix anew. Blocks for as
    /// long as the disk takes.
    /// - Returns: false when an open snapshot may still need what is to go; nothing was done then, and the caller comes
    ///   again.
    func purge(_ family: ColumnFamily, prefix: [UInt8]) throws(StorageError) -> Bool

    /// Ends the store's use; later calls throw `.closed`. Idempotent.
    func close() throws(StorageError)
}

extension KeyValueStore {
    /// Applies a batch atomically; it is logged.
    package func write(_ batch: WriteBatch) throws(StorageError) { try self.write(batch, durability: .logged) }
}

extension KeyValueReader {
    package func sweep(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        readAheadBytes: Int,
        _ body: (_ key: RawSpan, _ value: RawSpan) throws -> Bool
    ) throws(StorageError) {
        try self.scan(family, from: lower, to: upper, direction: .ascending) { key, value in
            try body(key.span.bytes, value.span.bytes)
        }
    }

    package func scan(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        _ body: (_ key: [UInt8], _ value: [UInt8]) throws -> Bool
    ) throws(StorageError) {
        try self.scan(family, from: lower, to: upper, direction: .ascending, body)
    }

    /// Visits every key that begins with `prefix`.
    package func scan(
        _ family: ColumnFamily,
        prefix: [UInt8],
        direction: ScanDirection = .ascending,
        _ body: (_ key: [UInt8], _ value: [UInt8]) throws -> Bool
    ) throws(StorageError) {
        try self.scan(family, from: prefix, to: keyAfter(prefix: prefix), direction: direction, body)
    }
}

/// The smallest key above all keys that begin with `prefix`, or nil when there is none (all bytes 0xFF).
package func keyAfter(prefix: [UInt8]) -> [UInt8]? {
    var key = prefix
    while let last = key.last {
        if last < 0xFF {
            key[key.count - 1] = last + 1
            return key
        }
        key.removeLast()
    }
    return nil
}
