internal import AuditLedger
internal import Primitives

/// Whether the memory of the largest head that a node has signed may be replaced, because an operator wants it.
///
/// A node never signs a head that contradicts its last one; after a repair of a node that had signed a wrong head that
/// would be for ever. What it signed stays signed, and is evidence; only people can judge it, so nothing of this happens
/// of its own accord.
enum SignedHeadRule {
    /// What is known before the decision.
    struct Facts: Equatable {
        /// The last signed head; nil when the row cannot be read.
        var last: TreeHead?
        /// The records that this replica has, all of them verified.
        var size: UInt64
        /// The root that this replica has at the size of `last`; nil when it has fewer records.
        var rootAtLast: Digest?
        /// The newest head that a majority has signed, and whether this replica's tree has that root; nil without one.
        var trusted: (head: TreeHead, isOwn: Bool)?
        /// Whether a majority of the replicas answered, and none has more records than this one.
        var isLongest: Bool

        static func == (left: Self, right: Self) -> Bool {
            left.last == right.last && left.size == right.size && left.rootAtLast == right.rootAtLast
                && left.trusted?.head == right.trusted?.head && left.trusted?.isOwn == right.trusted?.isOwn
                && left.isLongest == right.isLongest
        }
    }

    enum Decision: Equatable {
        /// The memory becomes this head, which a majority has signed.
        case replace(by: TreeHead)
        /// The node's records lead to what it has signed: there is nothing wrong with the memory.
        case nothingWrong
        /// The node has fewer records than it signed, and others may still bring them.
        case behind
        /// No head that a majority has signed speaks for the records of this node.
        case notTrusted
    }

    static func decide(_ facts: Facts) -> Decision {
        if let last = facts.last {
            if facts.rootAtLast == last.root { return .nothingWrong }
            if last.size > facts.size, !facts.isLongest { return .behind }
        }
        guard let trusted = facts.trusted, trusted.isOwn, trusted.head.size <= facts.size else { return .notTrusted }
        return .replace(by: trusted.head)
    }

    /// What is kept of a head whose memory is replaced: a text that the node signs.
    ///
    ///     flasktrack/signed-head-cleared/v1
    ///     ORIGIN
    ///     node NUMBER
    ///     signed SIZE ROOT          (or: signed unreadable)
    ///     held SIZE ROOT
    ///     trusted SIZE ROOT
    ///     at TIME
    static func evidence(
        origin: String,
        node: NodeID,
        signed: TreeHead?,
        held: TreeHead,
        trusted: TreeHead,
        at time: Timestamp
    ) -> String {
        func text(_ head: TreeHead) -> String { "\(head.size) \(head.root.hex)" }
        return [
            "flasktrack/signed-head-cleared/v1", origin, "node \(node)",
            "signed \(signed.map(text) ?? "unreadable")", "held \(text(held))", "trusted \(text(trusted))",
            "at \(time)", "",
        ].joined(separator: "\n")
    }
}
