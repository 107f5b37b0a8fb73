internal import AuditLedger
internal import AuditPackage
internal import Primitives
internal import Shards
internal import Synchronization

/// The published keys of all nodes, read once for each change of them.
final class KeyBook: Sendable {
    /// A published key with its validity.
    struct Entry: Sendable {
        let entry: NodeKeyEntry
        let key: NoteVerifierKey

        /// Whether a cosignature of this second is within the key's validity.
        func isValid(atSecond second: UInt64) -> Bool {
            guard second <= UInt64(Int64.max / 1_000_000 - 1) else { return false }
            let start = Int64(second) * 1_000_000
            return self.entry.validFrom.rawValue < start + 1_000_000
                && self.entry.validTo.map { $0.rawValue >= start } ?? true
        }
    }

    /// The times of a log's records, by which the sizes are known that a key may sign: as verifiers have them
    /// (`PackageKey.bounded`), for a signature carries no time that its signer did not choose.
    ///
    /// At most two reads a key. A record that is not here, or cannot be read, settles nothing: then the time alone counts.
    struct LogTimes {
        let reader: LedgerReader

        func admits(_ key: Entry, size: UInt64) -> Bool {
            let tolerance = PackageKey.clockTolerance
            if let end = key.entry.validTo, size > 0, let last = self.recordedAt(size),
                last.rawValue > end.rawValue &+ tolerance
            {
                return false
            }
            guard let next = self.recordedAt(size + 1) else { return true }
            return next.rawValue > key.entry.validFrom.rawValue &- tolerance
        }

        private func recordedAt(_ sequence: UInt64) -> Timestamp? {
            guard let bytes = try? self.reader.record(at: SequenceNumber(sequence)) else { return nil }
            return (try? RecordFields(scanning: bytes))?.recordedAt
        }
    }

    private struct Known {
        var entries: [NodeKeyEntry] = []
        var keys: [NodeID: [Entry]] = [:]
    }

    private let directory: ShardDirectory
    let cluster: String
    private let known = Mutex(Known())

    init(cluster: String, directory: ShardDirectory) {
        self.cluster = cluster
        self.directory = directory
    }

    /// The keys of a node, also retired ones; what is published under a wrong name does not count.
    func keys(of node: NodeID) -> [Entry] { self.all()[node] ?? [] }

    /// The keys of all nodes.
    func all() -> [NodeID: [Entry]] {
        let entries = self.directory.current.keys
        return self.known.withLock { known in
            if known.entries == entries { return known.keys }
            known.entries = entries
            known.keys = [:]
            for entry in entries {
                guard let key = try? NoteVerifierKey(parsing: entry.key), key.type == .cosignature,
                    (try? SigningKeyFile.name(cluster: self.cluster, node: entry.node)) == key.name
                else { continue }
                known.keys[entry.node, default: []].append(Entry(entry: entry, key: key))
            }
            return known.keys
        }
    }

    /// Those of `signatures` that are cosignatures of `checkpoint` by a published key of `node`, made while it was valid.
    /// - Parameter log: Judges the key by the checkpoint's size too; reading it blocks. Nil where there is no replica.
    /// - Throws: ``NoteError`` `.badSignature`, `.repeatedSigner` when one that names a key of the node is not by it.
    func cosignatures(
        _ signatures: [NoteSignature],
        of checkpoint: Checkpoint,
        by node: NodeID,
        in log: LogTimes?
    ) throws(NoteError) -> [NoteSignature] {
        let keys = self.keys(of: node)
        let own = signatures.filter { signature in keys.contains { signature.names($0.key) } }
        guard !own.isEmpty else { return [] }
        let verified = try SignedNote(text: checkpoint.text, signatures: own).verify(keys: keys.map(\.key))
        return own.filter { signature in
            guard let found = verified.first(where: { signature.names($0.key) }), let second = found.timeSeconds else {
                return false
            }
            return keys.contains {
                $0.key == found.key && $0.isValid(atSecond: second)
                    && log?.admits($0, size: checkpoint.size) ?? true
            }
        }
    }

    /// The keys that may sign a log: those of all nodes, under the log's name.
    func logKeys(of origin: LogOrigin) -> [NoteVerifierKey] {
        guard let name = try? origin.keyName else { return [] }
        return self.all().values.joined().compactMap {
            try? NoteVerifierKey(name: name, type: .ed25519, publicKey: $0.key.publicKey)
        }
    }

    /// Nodes by which a checkpoint is cosigned with valid keys.
    /// - Parameter log: As in ``cosignatures(_:of:by:in:)``.
    /// - Throws: ``NoteError`` for a forged signature.
    func signers(of note: SignedCheckpoint, in log: LogTimes?) throws(NoteError) -> [NodeID] {
        var signers: [NodeID] = []
        for node in self.all().keys.sorted() {
            let found = try self.cosignatures(note.note.signatures, of: note.checkpoint, by: node, in: log)
            if !found.isEmpty { signers.append(node) }
        }
        return signers
    }
}
