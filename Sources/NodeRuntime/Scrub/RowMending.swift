internal import AuditLedger
internal import Primitives
internal import Storage

/// What other replicas' rows say about one that is not as it was written here; pure.
///
/// Rows of replicated state have no proof: the word of more than half of all replicas counts, all of them at the same
/// applied index. Fork proofs and checkpoints prove themselves: one replica that has the row suffices, and signatures are
/// verified afterwards.
enum RowMending {
    /// One replica's answer.
    struct Answer: Sendable, Equatable {
        let node: NodeID
        /// Nil when it has no such row.
        let value: [UInt8]?
        let applied: UInt64
    }

    enum Verdict: Sendable, Equatable {
        /// What to write; nil: the row is to go. Where `applied` is not nil, only at that applied index.
        case write([UInt8]?, applied: UInt64?, source: NodeID)
        /// Nobody can say now; perhaps later.
        case undecided
        /// Nobody will ever say.
        case hopeless(String)
    }

    /// Families of which a row can be taken from others.
    static let families: Set<ColumnFamily> = [.idempotency, .groupState, .sealedValues, .forks, .checkpoints]
    /// Rows of `group_state` that are each replica's own: how far it is, and what it stages.
    private static let ownKinds: Set<UInt8> = [0, 12]

    /// Whether a row can be had from another replica.
    static func canMend(_ family: ColumnFamily, _ key: [UInt8]) -> Bool {
        guard family == .groupState else { return self.families.contains(family) }
        return key.count > 4 && !self.ownKinds.contains(key[4])
    }

    /// - Parameters:
    ///   - answers: Of the other replicas that could say.
    ///   - replicas: How many the group has, this one included.
    static func decide(
        _ family: ColumnFamily,
        _ key: [UInt8],
        _ answers: [Answer],
        replicas: Int
    ) -> Verdict {
        switch family {
        case .forks, .checkpoints:
            let sound = answers.first { answer in answer.value.map { self.proves($0, family, key) } ?? false }
            if let sound { return .write(sound.value, applied: nil, source: sound.node) }
            guard answers.count == replicas - 1 else { return .undecided }
            return .hopeless("no other replica has the row")
        default:
            guard (replicas - 1) * 2 > replicas else {
                return .hopeless("the row has no proof, and there is no majority without this replica")
            }
            for answer in answers {
                let agreeing = answers.count { $0.applied == answer.applied && $0.value == answer.value }
                guard agreeing * 2 > replicas else { continue }
                return .write(answer.value, applied: answer.applied, source: answer.node)
            }
            return .undecided
        }
    }

    /// Whether a value is of the form of its family, and belongs under this key.
    private static func proves(_ value: [UInt8], _ family: ColumnFamily, _ key: [UInt8]) -> Bool {
        family == .forks ? CheckpointStore.isFork(value, under: key) : CheckpointStore.isCheckpoint(value, under: key)
    }
}
