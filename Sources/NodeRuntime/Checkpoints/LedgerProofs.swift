internal import AuditLedger
internal import Laboratory
internal import Primitives
internal import Storage

/// What may be asked about an organization's checkpoints and proofs; the same text travels in a URL and between peers.
enum ProofQuestion: Sendable, Equatable {
    /// The newest stored checkpoint, or that of a size.
    case checkpoint(size: UInt64?)
    /// Stored checkpoints, from a size downwards.
    case checkpoints(upTo: UInt64, limit: Int)
    /// A receipt of a record for the newest stored checkpoint, or that of a size.
    case record(SequenceNumber, size: UInt64?)
    /// That a tree continues a smaller one.
    case consistency(from: UInt64, to: UInt64)
    /// A tile or bundle.
    case tile(TilePath)
    case forks

    static let listMax = 1000

    /// One line that ``init(text:)`` reads.
    var text: String {
        switch self {
        case .checkpoint(let size): "checkpoint \(size.map(String.init) ?? "-")"
        case .checkpoints(let size, let limit): "checkpoints \(size) \(limit)"
        case .record(let sequence, let size): "record \(sequence) \(size.map(String.init) ?? "-")"
        case .consistency(let from, let to): "consistency \(from) \(to)"
        case .tile(let path): "tile \(path)"
        case .forks: "forks"
        }
    }

    init?(text: String) {
        let parts = text.split(separator: " ", omittingEmptySubsequences: false)
        let numbers = parts.dropFirst().map { UInt64($0) }
        switch (parts.first, parts.count) {
        case ("checkpoint", 2): self = .checkpoint(size: numbers[0])
        case ("checkpoints", 3):
            guard let size = numbers[0], let limit = numbers[1], limit <= UInt64(Self.listMax) else { return nil }
            self = .checkpoints(upTo: size, limit: Int(limit))
        case ("record", 3):
            guard let sequence = numbers[0] else { return nil }
            self = .record(SequenceNumber(sequence), size: numbers[1])
        case ("consistency", 3):
            guard let from = numbers[0], let to = numbers[1] else { return nil }
            self = .consistency(from: from, to: to)
        case ("tile", 2):
            guard let path = try? TilePath(parsing: parts[1].utf8) else { return nil }
            self = .tile(path)
        case ("forks", 1): self = .forks
        default: return nil
        }
    }
}

/// An answer as the client gets it.
struct ProofAnswer: Sendable {
    let contentType: String
    let body: [UInt8]

    init(_ contentType: String, _ body: [UInt8]) {
        self.contentType = contentType
        self.body = body
    }

    init(json: JSONOutput) { self.init("application/json", json.bytes) }

    static let text = "text/plain; charset=utf-8"
    static let bytes = "application/octet-stream"
}

/// Answers questions from this node's replica: proofs for checkpoints that are stored, never for «now».
///
/// Every call reads the store and may block: on store threads.
struct LedgerProofs: Sendable {
    let cluster: String
    let rows: CheckpointStore

    /// - Throws: ``Problem`` for what there is not; ``LedgerError``, ``StorageError`` and others for what is damaged.
    func answer(_ question: ProofQuestion, about entry: OrganizationEntry) throws -> ProofAnswer {
        let reader = LedgerReader(store: self.rows.store, organization: entry.id)
        switch question {
        case .checkpoint(let size):
            return ProofAnswer(ProofAnswer.text, try self.stored(size, entry).note)
        case .checkpoints(let size, let limit): return try self.list(upTo: size, limit: limit, entry)
        case .record(let sequence, let size): return try self.receipt(of: sequence, size: size, entry, reader)
        case .consistency(let from, let to): return try self.consistency(from: from, to: to, entry, reader)
        case .tile(let path): return try self.tile(path, entry, reader)
        case .forks: return try self.forks(entry)
        }
    }

    /// - Throws: ``Problem`` `.checkpointNotFound`.
    private func stored(_ size: UInt64?, _ entry: OrganizationEntry) throws -> StoredCheckpoint {
        let found =
            try size.map { try self.rows.checkpoint(of: entry.id, size: $0) }
            ?? self.rows.latest(of: entry.id)
        guard let found else {
            let which = size.map { "of size \($0)" } ?? "yet"
            throw Problem(.checkpointNotFound, "organization \(entry.key) has no checkpoint \(which)")
        }
        return found
    }

    private func list(upTo size: UInt64, limit: Int, _ entry: OrganizationEntry) throws -> ProofAnswer {
        let found = try self.rows.list(of: entry.id, upTo: size, limit: limit)
        var json = JSONOutput(capacity: 64 + found.count * 400)
        json.beginObject()
        json.beginArray("checkpoints")
        for stored in found {
            let note = try SignedCheckpoint(parsing: stored.note)
            json.beginObject()
            json.member("size", stored.size)
            json.member("root", note.checkpoint.root)
            json.member("witnessed", stored.isWitnessed)
            json.beginArray("signers")
            for signature in note.note.signatures where signature.name.bytes != note.checkpoint.origin.bytes {
                json.element(signature.name.description)
            }
            json.endArray()
            json.endObject()
        }
        json.endArray()
        let last = found.last?.size ?? 0
        json.member("next", found.count == limit && last > 0 ? String(last - 1) : nil)
        json.endObject()
        return ProofAnswer(json: json)
    }

    private func receipt(
        of sequence: SequenceNumber,
        size: UInt64?,
        _ entry: OrganizationEntry,
        _ reader: LedgerReader
    ) throws -> ProofAnswer {
        let applied = try reader.head().size
        guard sequence.rawValue >= 1, sequence.rawValue <= applied else {
            throw Problem(
                .recordNotFound,
                "organization \(entry.key) has \(applied) records",
                members: [.number("size", Int(clamping: applied))]
            )
        }
        let stored = try self.stored(size, entry)
        guard sequence.rawValue <= stored.size else {
            throw Problem(
                .checkpointNotFound,
                "the checkpoint of size \(stored.size) does not cover record \(sequence)",
                members: [.number("size", Int(clamping: stored.size))]
            )
        }
        let inclusion = try InclusionProof.build(index: sequence.rawValue - 1, size: stored.size, from: reader)
        let note = try SignedCheckpoint(parsing: stored.note)
        let checksum = try reader.node(at: TreePosition(level: 0, index: sequence.rawValue - 1))
        // What is handed out has been checked: a damaged tree shows itself here and not at the auditor's.
        guard (try? inclusion.verify(leaf: checksum, root: note.checkpoint.root)) != nil else {
            throw Problem(.shardUnavailable, "this replica's tree does not lead to the signed checkpoint")
        }
        return ProofAnswer(
            ProofAnswer.text,
            try TransparencyProof(inclusion: inclusion, checkpoint: note).encoded
        )
    }

    private func consistency(
        from: UInt64,
        to: UInt64,
        _ entry: OrganizationEntry,
        _ reader: LedgerReader
    ) throws -> ProofAnswer {
        let applied = try reader.head().size
        guard to <= applied else {
            throw Problem(
                .invalidParameter,
                "organization \(entry.key) has \(applied) records, no tree of size \(to)",
                members: [.number("size", Int(clamping: applied))]
            )
        }
        let proof = try ConsistencyProof.build(from: from, to: to, nodes: reader)
        var json = JSONOutput(capacity: 1024)
        json.beginObject()
        json.member("origin", "\(self.cluster)/\(entry.key)")
        json.member("from", from)
        json.member("to", to)
        json.member("from_root", try reader.treeRoot(size: from))
        json.member("to_root", try reader.treeRoot(size: to))
        json.beginArray("path")
        for digest in proof.path { json.element(String(decoding: Base64.encode(digest.bytes), as: UTF8.self)) }
        json.endArray()
        json.endObject()
        return ProofAnswer(json: json)
    }

    /// A tile of the tree that the newest checkpoint states: what is beyond it is not signed and not shown.
    private func tile(_ path: TilePath, _ entry: OrganizationEntry, _ reader: LedgerReader) throws -> ProofAnswer {
        let size = try self.stored(nil, entry).size
        let missing = Problem(.tileNotFound, "the checkpoint of size \(size) has no \(path)")
        let last: TilePath?
        switch path.content {
        case .entries: last = TilePath.bundle(index: path.index, size: size)
        case .hashes(let level): last = TilePath.tile(level: level, index: path.index, size: size)
        }
        guard let last, path.width <= last.width else { throw missing }
        switch path.content {
        case .hashes: return ProofAnswer(ProofAnswer.bytes, try Tile(path: path, from: reader).encoded)
        case .entries:
            let first = SequenceNumber(path.index * UInt64(TilePath.fullWidth) + 1)
            let records = try reader.records(from: first, limit: path.width, bytesMax: EntryBundle.bytesMax)
            guard records.count == path.width else { throw missing }
            var bundle: [UInt8] = []
            for record in records { try EntryBundle.append(record.bytes, to: &bundle) }
            return ProofAnswer(ProofAnswer.bytes, bundle)
        }
    }

    private func forks(_ entry: OrganizationEntry) throws -> ProofAnswer {
        var json = JSONOutput(capacity: 1024)
        json.beginObject()
        json.beginArray("forks")
        for (foundAt, proof) in try self.rows.forks(of: entry.id) {
            json.beginObject()
            json.member("found_at", foundAt)
            json.member("proof", String(decoding: proof, as: UTF8.self))
            json.endObject()
        }
        json.endArray()
        json.endObject()
        return ProofAnswer(json: json)
    }
}
