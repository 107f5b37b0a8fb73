internal import AuditLedger
internal import Laboratory
internal import Primitives
internal import Shards
internal import Storage
internal import Synchronization

/// The private keys of this node; a second one is the key before, until its validity ends.
final class SigningKeys: Sendable {
    let file: SigningKeyFile?
    private let keys: Mutex<[NoteSignerKey]>

    /// - Throws: ``PKIError`` when there is a file and it cannot be used.
    init(file: SigningKeyFile?, cluster: String, node: NodeID) throws(PKIError) {
        self.file = file
        self.keys = Mutex(try file?.read(cluster: cluster, node: node) ?? [])
    }

    /// All of them, the one in use first.
    var all: [NoteSignerKey] { self.keys.withLock { $0 } }

    /// Takes other keys; they are in the file already.
    func replace(_ keys: [NoteSignerKey]) { self.keys.withLock { $0 = keys } }

    /// Those that are published and valid at a moment: signatures by others would not count.
    func usable(in book: [KeyBook.Entry], at time: Timestamp) -> [NoteSignerKey] {
        self.all.filter { key in
            book.contains { $0.key == key.verifierKey && $0.entry.isValid(at: time) }
        }
    }
}

/// Signs heads that this node computed from its own tree nodes, and never one that contradicts an earlier one.
///
/// What it will have signed is on disk before a signature exists. Calls block and must come one at a time, on a thread
/// of their own: between looking at the last signed head and storing the next nobody else may sign.
struct CheckpointSigner: Sendable {
    /// What is to be signed.
    struct Wanted: Sendable {
        let organization: OrganizationEntry
        /// nil for all records that this replica has applied.
        let size: UInt64?
        /// Also under the name of the log.
        let asLog: Bool
    }

    enum Outcome: Sendable {
        /// The node's own view of the head, with its signatures.
        case signed(SignedCheckpoint)
        /// Not so many records are applied here yet.
        case behind(size: UInt64)
        /// A larger head was signed before.
        case stale(last: TreeHead)
        /// What is stored here is not what this node signed: its history was changed after it had signed it.
        case contradiction(last: TreeHead)
        /// There is no key that is published and valid.
        case noKey
        /// The store cannot be read, or lacks what it must have.
        case failed(any Error)
    }

    let cluster: String
    let node: NodeID
    let keys: SigningKeys
    let book: KeyBook
    let rows: CheckpointStore

    /// Signs what may be signed.
    /// - Returns: One outcome for each of `wanted`, in order.
    /// - Throws: ``StorageError`` when the promise cannot be stored: then nothing was signed.
    func sign(_ wanted: [Wanted], at time: Timestamp) throws -> [Outcome] {
        let keys = self.keys.usable(in: self.book.keys(of: self.node), at: time)
        guard !keys.isEmpty else { return wanted.map { _ in .noKey } }
        var batch = WriteBatch()
        let decided = wanted.map { self.decide($0, &batch) }
        if !batch.isEmpty {
            try self.rows.store.write(batch, durability: .logged)
            try self.rows.store.sync()
        }
        return zip(wanted, decided).map { wanted, decision in
            switch decision {
            case .failure(let refusal): return refusal.outcome
            case .success(let checkpoint):
                do {
                    return .signed(try self.signed(checkpoint, keys, asLog: wanted.asLog, at: time))
                } catch {
                    return .failed(error)
                }
            }
        }
    }

    private struct Refusal: Error {
        let outcome: Outcome
    }

    private func decide(_ wanted: Wanted, _ batch: inout WriteBatch) -> Result<Checkpoint, Refusal> {
        let organization = wanted.organization.id
        do {
            let reader = LedgerReader(store: self.rows.store, organization: organization)
            let applied = try reader.head().size
            let size = wanted.size ?? applied
            guard size <= applied else { return .failure(Refusal(outcome: .behind(size: applied))) }
            // From tree nodes only: the head's frontier is a copy that could be right while they are not.
            let head = TreeHead(size: size, root: try reader.treeRoot(size: size))
            let last = try self.rows.signedHead(of: organization)
            switch try HeadHistory.decide(last: last, candidate: head, nodes: reader) {
            case .sign: CheckpointStore.put(signed: head, of: organization, into: &batch)
            case .signAgain: break
            case .refuseStale(let last): return .failure(Refusal(outcome: .stale(last: last)))
            case .refuseFork(let last), .refuseUnproven(let last):
                return .failure(Refusal(outcome: .contradiction(last: last)))
            }
            let origin = try LogOrigin(cluster: self.cluster, organization: wanted.organization.key)
            return .success(Checkpoint(origin: origin, size: head.size, root: head.root))
        } catch {
            return .failure(Refusal(outcome: .failed(error)))
        }
    }

    private func signed(
        _ checkpoint: Checkpoint,
        _ keys: [NoteSignerKey],
        asLog: Bool,
        at time: Timestamp
    ) throws(NoteError) -> SignedCheckpoint {
        var note = try SignedCheckpoint(checkpoint)
        if asLog {
            for key in keys {
                try note.sign(try NoteSignerKey(name: checkpoint.origin.keyName, type: .ed25519, seed: key.seed))
            }
        }
        for key in keys { try note.cosign(key, timeSeconds: UInt64(max(0, time.rawValue / 1_000_000))) }
        return note
    }
}
