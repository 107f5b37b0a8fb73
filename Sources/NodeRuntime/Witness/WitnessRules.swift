internal import AuditLedger
internal import Primitives

/// Whose checkpoints a witness takes.
struct WitnessTrust: Sendable {
    /// Keys of single logs.
    private var logs: [NoteVerifierKey] = []
    /// Public keys of nodes: each signs every log whose origin begins with the node's cluster.
    private var nodes: [(cluster: String, publicKey: [UInt8])] = []

    /// - Parameter keys: Of type 1: a log's, named as its origin. Of type 4, named `CLUSTER/node-N`: a node's, for all
    ///   logs `CLUSTER/…`.
    /// - Throws: ``NoteError`` `.malformedKeyName` for a key of type 4 with another name.
    init(keys: [NoteVerifierKey]) throws(NoteError) {
        for key in keys {
            switch key.type {
            case .ed25519: self.logs.append(key)
            case .cosignature:
                let parts = key.name.description.split(separator: "/", omittingEmptySubsequences: false)
                guard parts.count == 2, parts[1].hasPrefix("node-") else {
                    throw NoteError(.malformedKeyName, "key \(key.name) is not that of a node, CLUSTER/node-N")
                }
                self.nodes.append((String(parts[0]), key.publicKey))
            }
        }
    }

    /// Whether nothing is trusted.
    var isEmpty: Bool { self.logs.isEmpty && self.nodes.isEmpty }

    /// The keys that may sign a log.
    func keys(of origin: LogOrigin) -> [NoteVerifierKey] {
        guard let name = try? origin.keyName else { return [] }
        let cluster = name.description.split(separator: "/", maxSplits: 1).first.map(String.init) ?? ""
        let ofNodes = self.nodes.filter { $0.cluster == cluster }.compactMap {
            try? NoteVerifierKey(name: name, type: .ed25519, publicKey: $0.publicKey)
        }
        return self.logs.filter { $0.name == name } + ofNodes
    }
}

/// What a witness answers; pure.
///
/// - Source: C2SP tlog-witness, section add-checkpoint.
enum WitnessRules {
    /// An answer, and what must be done before it is sent.
    enum Decision: Sendable, Equatable {
        /// Keep the checkpoint durably, then cosign it.
        case cosign
        /// The same one was cosigned before.
        case cosignAgain
        /// The body is none, or the old size is larger than the checkpoint's: 400.
        case malformed(String)
        /// No key of a log with this origin is known: 404.
        case unknownLog
        /// Not signed by a known key of the log: 403.
        case notSigned
        /// The old size is not that of the last checkpoint, whose size this is: 409.
        case conflict(size: UInt64)
        /// Another root at the size of the last checkpoint: 409, and a fork.
        case fork(size: UInt64)
        /// The proof does not hold: 422.
        case notProven
    }

    /// Decides about a request.
    ///
    /// - Parameter last: The last checkpoint of the origin that was cosigned; nil when there is none.
    static func decide(
        _ request: WitnessRequest,
        trust: WitnessTrust,
        last: Checkpoint?
    ) -> Decision {
        let checkpoint = request.checkpoint.checkpoint
        let keys = trust.keys(of: checkpoint.origin)
        guard !keys.isEmpty else { return .unknownLog }
        guard (try? request.checkpoint.note.verify(keys: keys)) != nil else { return .notSigned }
        guard request.oldSize <= checkpoint.size else {
            return .malformed("the old size is larger than the checkpoint's")
        }
        let lastHead = last?.head ?? TreeHead(size: 0, root: LedgerHash.emptyRoot)
        guard request.oldSize == lastHead.size else { return .conflict(size: lastHead.size) }
        if checkpoint.size == lastHead.size {
            guard checkpoint.root == lastHead.root else { return .fork(size: lastHead.size) }
            guard request.path.isEmpty else { return .notProven }
            return last == nil ? .cosign : .cosignAgain
        }
        let proof = ConsistencyProof(oldSize: lastHead.size, newSize: checkpoint.size, path: request.path)
        guard (try? proof.verify(oldRoot: lastHead.root, newRoot: checkpoint.root)) != nil else { return .notProven }
        return .cosign
    }
}
