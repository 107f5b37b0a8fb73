internal import Primitives

/// What can go wrong with a request to a peer.
struct PeerError: CausedError, CustomStringConvertible {
    enum Code: String, Sendable {
        /// No connection: surely nothing was done.
        case unreachable
        /// The connection broke or the time ran out: unknown whether it was done.
        case interrupted
        /// The peer answered something that is no answer.
        case malformedAnswer
        /// The peer does not talk with this node, or this node not with it: the cause is a ``PeerRefusal``.
        case refused
    }

    let code: Code
    let peer: NodeID
    let message: String
    let cause: (any Error)?

    var description: String { "peer \(self.peer) \(self.code.rawValue): \(self.message)" }
}

/// Names of what peers ask of each other.
enum PeerPath {
    /// Votes, heartbeats, answers: everything small.
    static let control = "/peer/v1/raft/control"
    /// Entries.
    static let appends = "/peer/v1/raft/appends"
    static let propose = "/peer/v1/propose"
    static let readIndex = "/peer/v1/read-index"
    static let membership = "/peer/v1/membership"
    static let transfer = "/peer/v1/transfer"
    static let join = "/peer/v1/join"
    static let snapshot = "/peer/v1/snapshot"
    static let status = "/peer/v1/status"
    static let ledger = "/peer/v1/ledger"
    static let verify = "/peer/v1/verify"
    static let query = "/peer/v1/query"
    static let listQueries = "/peer/v1/queries"
    static let endQuery = "/peer/v1/queries/end"
    /// The same for callers who may not see reserved records.
    static let queryWithoutReserved = "/peer/v1/query-without-reserved"
    /// A query as of a moment: a node whose program knows of none refuses instead of answering as of now.
    static let queryAsOf = "/peer/v1/query-as-of"
    /// The tables of an organization.
    static let tables = "/peer/v1/tables"
    static let records = "/peer/v1/records"
    static let checkpoints = "/peer/v1/checkpoints"
    static let freshCheckpoint = "/peer/v1/checkpoints/fresh"
    static let proof = "/peer/v1/proof"
    static let rotateKey = "/peer/v1/keys/rotate"
    static let export = "/peer/v1/export"
    static let rebuild = "/peer/v1/rebuild"
    static let descent = "/peer/v1/descent"
    static let repair = "/peer/v1/repair"
    static let row = "/peer/v1/row"
    static let clearSignedHead = "/peer/v1/signed-head/clear"
    static let makeSubjectKeys = "/peer/v1/subjects/keys/make"
    static let findSubjectKeys = "/peer/v1/subjects/keys/find"
    static let keepSubjectKeys = "/peer/v1/subjects/keys/keep"
    static let destroySubjectKeys = "/peer/v1/subjects/keys/destroy"
    static let reveal = "/peer/v1/subjects/reveal"
    static let listSubjects = "/peer/v1/subjects"
}
