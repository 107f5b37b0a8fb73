internal import Primitives

/// What waits for the raft thread's next turn.
struct Inbox: Sendable {
    struct Proposal: Sendable {
        let place: Int
        let command: [UInt8]
        let waiter: Waiter<[UInt8]>
    }

    struct Barrier: Sendable {
        let place: Int
        let waiter: Waiter<LogIndex>
    }

    var messages: [(from: NodeID, messages: [GroupMessage])] = []
    var messageBytes = 0
    var proposals: [Proposal] = []
    var proposalBytes = 0
    var barriers: [Barrier] = []
    var persisted: [(place: Int, ticket: PersistTicket)] = []
    var applied: [(place: Int, index: LogIndex)] = []
    var unreachable: [NodeID] = []
    var campaigns: [Int] = []
    var ticks = 0
    var failure: ConsensusError?
    var isStopping = false
    /// No request is taken any more.
    var isClosed = false

    var requestCount: Int { self.proposals.count + self.barriers.count }

    var isEmpty: Bool {
        self.messages.isEmpty && self.proposals.isEmpty && self.barriers.isEmpty && self.persisted.isEmpty
            && self.applied.isEmpty && self.unreachable.isEmpty && self.campaigns.isEmpty && self.ticks == 0
            && self.failure == nil
            && !self.isStopping
    }

    /// Empties it but keeps the memory and whether it is closed.
    mutating func clear() {
        self.messages.removeAll(keepingCapacity: true)
        self.messageBytes = 0
        self.proposals.removeAll(keepingCapacity: true)
        self.proposalBytes = 0
        self.barriers.removeAll(keepingCapacity: true)
        self.persisted.removeAll(keepingCapacity: true)
        self.applied.removeAll(keepingCapacity: true)
        self.unreachable.removeAll(keepingCapacity: true)
        self.campaigns.removeAll(keepingCapacity: true)
        self.ticks = 0
        self.failure = nil
        self.isStopping = false
    }
}

extension RaftMessage {
    /// Bytes that the message counts for in a bounded queue.
    var costBytes: Int {
        guard case .append(let append) = self.body else { return Self.overheadBytes }
        var bytes = Self.overheadBytes
        for entry in append.entries { bytes += entry.costBytes }
        return bytes
    }

    private static let overheadBytes = 64
}
