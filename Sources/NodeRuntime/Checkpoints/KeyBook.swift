internal import AuditLedger
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
    /// - Throws: ``NoteError`` `.badSignature`, `.repeatedSigner` when one that names a key of the node is not by it.
    func cosignatures(
        _ signatures: [NoteSignature],
        of checkpoint: Checkpoint,
        by node: NodeID
    ) throws(NoteError) -> [NoteSignature] {
        let keys = self.keys(of: node)
        let own = signatures.filter { signature in keys.contains { signature.names($0.key) } }
        guard !own.isEmpty else { return [] }
        let verified = try SignedNote(text: checkpoint.text, signatures: own).verify(keys: keys.map(\.key))
        return own.filter { signature in
            guard let found = verified.first(where: { signature.names($0.key) }), let second = found.timeSeconds else {
                return false
            }
            return keys.contains { $0.key == found.key && $0.isValid(atSecond: second) }
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
    /// - Throws: ``NoteError`` for a forged signature.
    func signers(of note: SignedCheckpoint) throws(NoteError) -> [NodeID] {
        var signers: [NodeID] = []
        for node in self.all().keys.sorted() {
            let found = try self.cosignatures(note.note.signatures, of: note.checkpoint, by: node)
            if !found.isEmpty { signers.append(node) }
        }
        return signers
    }
}
