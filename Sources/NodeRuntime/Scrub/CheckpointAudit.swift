internal import AuditLedger
internal import Laboratory
internal import Primitives
internal import Storage

/// Checks what this node stores of signed heads: every checkpoint, and the last head that it signed itself.
///
/// A checkpoint's root must be that of this replica's own tree at its size; as the tree only grows, checkpoints that fit
/// it are consistent with each other.
struct CheckpointAudit: Sendable {
    let cluster: String
    let book: KeyBook
    let store: any KeyValueStore

    struct Outcome: Sendable {
        var checked: UInt64 = 0
        var finding: LedgerFinding?
    }

    /// Blocks.
    /// - Throws: ``StorageError``, ``LedgerError`` or ``NoteError``.
    func run(_ entry: OrganizationEntry) throws -> Outcome {
        let reader = LedgerReader(store: self.store, organization: entry.id)
        let origin = try LogOrigin(cluster: self.cluster, organization: entry.key)
        let size = try reader.head().size
        var outcome = Outcome()
        if let finding = try self.signedHead(entry, reader, size: size) {
            outcome.finding = finding
            return outcome
        }
        try self.store.scan(.checkpoints, prefix: LedgerKeys.head(entry.id)) { key, value in
            var bytes = ByteReader(key[4...])
            let place = (try? bytes.read(UInt64.self)) ?? 0
            outcome.finding = try self.finding(value, size: place, origin, reader, applied: size)
            outcome.checked += 1
            return outcome.finding == nil
        }
        return outcome
    }

    private func signedHead(
        _ entry: OrganizationEntry,
        _ reader: LedgerReader,
        size: UInt64
    ) throws -> LedgerFinding? {
        let head: TreeHead?
        do {
            head = try CheckpointStore(store: self.store).signedHead(of: entry.id)
        } catch is MalformedBytes {
            let detail = "the last head that this node signed cannot be read"
            return LedgerFinding(sequence: .zero, kind: .malformed, detail: detail, place: "signed_heads")
        }
        guard let head else { return nil }
        guard head.size <= size else {
            return LedgerFinding(
                sequence: SequenceNumber(size + 1),
                kind: .truncated,
                detail: "this node has signed a head of \(head.size) records, \(size) are there",
                place: "signed_heads"
            )
        }
        guard try reader.root(at: head.size) == head.root else {
            return LedgerFinding(
                sequence: SequenceNumber(head.size),
                kind: .fork,
                detail: "this node has signed another root over the first \(head.size) records",
                place: "signed_heads"
            )
        }
        return nil
    }

    private func finding(
        _ value: [UInt8],
        size: UInt64,
        _ origin: LogOrigin,
        _ reader: LedgerReader,
        applied: UInt64
    ) throws -> LedgerFinding? {
        func found(_ kind: LedgerFinding.Kind, _ detail: String) -> LedgerFinding {
            LedgerFinding(sequence: SequenceNumber(size), kind: kind, detail: detail, place: "checkpoints/\(size)")
        }
        guard value.count > 2, value[0] == 1, value[1] <= 1, let note = try? SignedCheckpoint(parsing: value[2...]) else {
            return found(.malformed, "the checkpoint cannot be read")
        }
        guard note.checkpoint.origin == origin, note.checkpoint.size == size else {
            return found(.malformed, "the checkpoint is of another log or size")
        }
        guard size <= applied else { return found(.truncated, "the checkpoint is over more records than are there") }
        if let wrong = self.wrongSignature(note, origin) { return found(.wrongSignature, wrong) }
        guard try reader.root(at: size) == note.checkpoint.root else {
            return found(.fork, "the signed root is not that of the records")
        }
        return nil
    }

    /// What is wrong with the signatures of this cluster; those of others cannot be checked here.
    private func wrongSignature(_ note: SignedCheckpoint, _ origin: LogOrigin) -> String? {
        guard let logName = try? origin.keyName else { return "the log has no key name" }
        let keys = self.book.logKeys(of: origin) + self.book.all().values.joined().map(\.key)
        var signers = 0
        for signature in note.note.signatures {
            // By its name, or by the id of a key of ours under a name that was changed.
            let isOurs =
                signature.name == logName || signature.name.description.hasPrefix("\(self.cluster)/node-")
                || keys.contains { $0.id == signature.id }
            guard isOurs else { continue }
            guard let key = keys.first(where: { signature.names($0) }) else {
                return "a signature is by a key that was never published"
            }
            guard
                let one = try? SignedNote(text: note.note.text, signatures: [signature]),
                (try? one.verify(keys: [key]))?.count == 1
            else { return "a signature is not by its key" }
            signers += 1
        }
        return signers > 0 ? nil : "no node of this cluster has signed it"
    }
}
