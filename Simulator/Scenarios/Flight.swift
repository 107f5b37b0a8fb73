internal import Consensus
internal import Primitives

/// The message types of the line language.
enum FlightKind: String, Sendable, Hashable, CaseIterable {
    case vote = "Vote"
    case voteResp = "VoteResp"
    case preVote = "PreVote"
    case preVoteResp = "PreVoteResp"
    case app = "App"
    case appResp = "AppResp"
    case heartbeat = "Heartbeat"
    case heartbeatResp = "HeartbeatResp"
    case snap = "Snap"
    case timeoutNow = "TimeoutNow"
    case readIndex = "ReadIndex"
    case readIndexResp = "ReadIndexResp"
    /// A node's disk to the node itself.
    case storageAppendResp = "StorageAppendResp"
    /// A node's state machine to the node itself.
    case storageApplyResp = "StorageApplyResp"

    /// - Returns: The type that `text` names, with or without a leading `Msg`.
    init?(named text: String) {
        self.init(rawValue: text.hasPrefix("Msg") ? String(text.dropFirst(3)) : text)
    }

    init(of body: RaftMessage.Body) {
        switch body {
        case .preVoteRequest: self = .preVote
        case .preVoteResponse: self = .preVoteResp
        case .voteRequest: self = .vote
        case .voteResponse: self = .voteResp
        case .append: self = .app
        case .appendAccepted, .appendRejected: self = .appResp
        case .heartbeat: self = .heartbeat
        case .heartbeatResponse: self = .heartbeatResp
        case .snapshot: self = .snap
        case .timeoutNow: self = .timeoutNow
        case .readRequest: self = .readIndex
        case .readResponse: self = .readIndexResp
        }
    }

    /// Whether such a message promises what its sender has on disk, so that it waits for the disk.
    var isPromise: Bool { self == .voteResp || self == .preVoteResp || self == .appResp }
}

/// A message in flight.
struct Flight: Sendable, Hashable {
    /// What arrives.
    enum Cargo: Sendable, Hashable {
        /// A message of the core; a snapshot brings its content along.
        case message(RaftMessage, content: Appender.Version?)
        /// The node's own disk has written what the ticket names.
        case persisted(PersistTicket)
        /// The node's own state machine has applied the entries up to here.
        case applied(LogIndex)
    }

    let from: NodeID
    let to: NodeID
    let term: Term
    let kind: FlightKind
    let cargo: Cargo

    init(_ message: RaftMessage, content: Appender.Version?) {
        self.from = message.from
        self.to = message.to
        self.term = message.term
        self.kind = FlightKind(of: message.body)
        self.cargo = .message(message, content: content)
    }

    init(to node: NodeID, term: Term, kind: FlightKind, _ cargo: Cargo) {
        self.from = node
        self.to = node
        self.term = term
        self.kind = kind
        self.cargo = cargo
    }

    /// From a node to itself.
    var isLocal: Bool { self.from == self.to }

    var isRejection: Bool {
        guard case .message(let message, _) = self.cargo else { return false }
        switch message.body {
        case .preVoteResponse(let isGranted): return !isGranted
        case .voteResponse(let answer): return !answer.isGranted
        case .appendRejected: return true
        default: return false
        }
    }
}

/// Which messages a command means.
struct FlightFilter: Sendable {
    var from: Set<NodeID>?
    var to: Set<NodeID>?
    var kinds: Set<FlightKind>?
    var term: Term?
    var isRejection: Bool?
    var count: Int?
    /// Whether messages of a node to itself are meant too.
    var isLocalIncluded = false

    func matches(_ flight: Flight) -> Bool {
        if flight.isLocal, !self.isLocalIncluded { return false }
        if let from = self.from, !from.contains(flight.from) { return false }
        if let to = self.to, !to.contains(flight.to) { return false }
        if let kinds = self.kinds, !kinds.contains(flight.kind) { return false }
        if let term = self.term, term != flight.term { return false }
        if let isRejection = self.isRejection, isRejection != flight.isRejection { return false }
        return true
    }
}
