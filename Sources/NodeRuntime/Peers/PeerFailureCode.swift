internal import Consensus
internal import Primitives

/// The codes of a `PeerFailure`; on the wire, never changed.
enum PeerFailureCode: UInt32, Sendable {
    case notLeader = 1
    case overloaded = 2
    case outcomeUnknown = 3
    case notHosted = 4
    case stopped = 5
    case failed = 6
    case tooLarge = 7
    case malformed = 8
    /// Another change of the group's membership is under way.
    case changePending = 9
    /// The change of membership is not one that can be made.
    case refusedChange = 10
    case notTransferred = 11
    case staleSnapshot = 12

    init(_ code: ProposalError.Code) {
        switch code {
        case .notLeader: self = .notLeader
        case .overloaded: self = .overloaded
        case .outcomeUnknown: self = .outcomeUnknown
        case .groupNotHosted: self = .notHosted
        case .tooLarge: self = .tooLarge
        case .stopped: self = .stopped
        case .failed: self = .failed
        case .changePending: self = .changePending
        case .refusedChange: self = .refusedChange
        case .notTransferred: self = .notTransferred
        case .staleSnapshot: self = .staleSnapshot
        }
    }

    func wire(_ message: String, leader: NodeID? = nil) -> WirePeerFailure {
        var failure = WirePeerFailure()
        failure.code = self.rawValue
        failure.message = message
        failure.leader = leader?.rawValue ?? 0
        return failure
    }
}

extension WirePeerFailure {
    /// The failure of something proposed.
    init(_ error: ProposalError) {
        var leader: NodeID?
        if case .notLeader(let known) = error.code { leader = known }
        self = PeerFailureCode(error.code).wire(error.message, leader: leader)
    }
}
