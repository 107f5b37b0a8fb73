internal import Consensus
internal import Primitives
internal import Storage

/// Whether a node whose data directory was empty may take part in its cluster as a founding node; pure.
///
/// A founding node that has lost its data directory looks like one that starts for the first time. It must not vote: what it
/// acknowledged is gone, and a majority that counts it may lack what clients were told is stored. The other members know:
/// each keeps, durably, which nodes have ever spoken to its groups (``MetPeers``).
enum FoundingCheck {
    /// What another member says.
    enum Answer: Sendable, Equatable {
        /// This node has spoken to its groups before: what it had then is lost.
        case hasMet
        /// It has not met this node, and its own log of the system group is empty too.
        case isFresh
        /// It has not met this node, and the cluster has begun.
        case hasNotMet
        /// It talks with no such node.
        case refuses(String)
        /// Nothing: it is down, or cannot be reached.
        case isSilent
    }

    enum Verdict: Sendable, Equatable {
        case enter
        case wait
        case refuse(String)
    }

    /// Judges the answers of all other members of the configuration.
    ///
    /// Of n members, this node enters when a majority, itself included, is fresh: then nothing has been acknowledged yet. Or when
    /// half of the n, rounded up, have not met it: a majority of which it was a part has so many others that one of
    /// them is among those who answered.
    static func verdict(_ answers: [NodeID: Answer], node: NodeID) -> Verdict {
        for (member, answer) in answers.sorted(by: { $0.key < $1.key }) {
            if answer == .hasMet {
                return .refuse(
                    "node \(member) has met node \(node) before, but node \(node)'s data directory is empty: what it had is lost, "
                        + "so its votes would put acknowledged records at risk. Give the machine a new id "
                        + "(`ftnode cluster add-node`), then `ftnode cluster replace-node \(node) NEW`. If the cluster has never "
                        + "held anything, empty the data directories of all its nodes"
                )
            }
            if case .refuses(let reason) = answer {
                return .refuse(
                    "the cluster exists, and node \(member) refuses node \(node), whose data directory is empty: \(reason)"
                )
            }
        }
        let members = answers.count + 1
        let fresh = answers.values.count { $0 == .isFresh }
        let unmet = answers.values.count { $0 == .isFresh || $0 == .hasNotMet }
        if fresh + 1 > members / 2 || unmet >= (members + 1) / 2 { return .enter }
        return .wait
    }

    private static let key = Array("founding-check".utf8)

    /// Notes in the batch that claims an empty data directory that the check is still to be made.
    static func demand(in batch: inout WriteBatch) { batch.put(.meta, key: self.key, value: [1]) }

    /// Whether the check is still to be made, after any number of starts; blocking.
    static func isDemanded(in store: any KeyValueReader) throws -> Bool { try store.get(self.key, in: .meta) != nil }

    /// Notes durably that the node may take part from now on; blocking.
    static func pass(in store: any KeyValueStore) throws {
        var batch = WriteBatch()
        batch.delete(.meta, key: self.key)
        try store.write(batch)
        try store.sync()
    }
}
