package import Primitives

/// What waits for the next turn of a ``RaftLoop``.
package struct Inbox: Sendable {
    /// A command for the log of a group.
    package struct Proposal: Sendable {
        package let group: GroupID
        package let command: [UInt8]
        package let waiter: Waiter<[UInt8]>

        package init(group: GroupID, command: [UInt8], waiter: Waiter<[UInt8]>) {
            self.group = group
            self.command = command
            self.waiter = waiter
        }
    }

    /// A linearizable read of a group.
    package struct Read: Sendable {
        package let group: GroupID
        /// Answer only when the index is applied here.
        package let waitsUntilApplied: Bool
        package let waiter: Waiter<LogIndex>

        package init(group: GroupID, waitsUntilApplied: Bool, waiter: Waiter<LogIndex>) {
            self.group = group
            self.waitsUntilApplied = waitsUntilApplied
            self.waiter = waiter
        }
    }

    /// What is asked for now and then.
    package enum Order: Sendable {
        case changeMembership(GroupID, MembershipChange, Waiter<Membership>)
        case transfer(GroupID, to: NodeID, Waiter<Void>)
        /// Answered with the number of groups that this loop still leads.
        case transferAll(Waiter<Int>)
        case campaign(GroupID)
        case wake(GroupID)
        /// The state machine of the replica was switched to a snapshot.
        case installed(GroupReplica, SnapshotMark)
        case installFailed(GroupID)
        case snapshotReport(GroupID, to: NodeID, succeeded: Bool)
        /// The state of a removed replica is gone.
        case discarded(GroupID)
    }

    package var messages: [(from: NodeID, messages: [HostMessage])] = []
    package internal(set) var messageBytes = 0
    package var proposals: [Proposal] = []
    package internal(set) var proposalBytes = 0
    package var reads: [Read] = []
    package var orders: [Order] = []
    /// What has become durable, in the order of the writes.
    package var persisted: [PersistedNote] = []
    /// What the lanes have applied.
    package var applied: [AppliedNote] = []
    /// Peers to which messages were lost.
    package var unreachable: [NodeID] = []
    /// Ticks that a test or the simulator gives.
    package var ticks = 0
    var failure: ConsensusError?
    var isStopping = false
    /// No request is taken any more.
    var isClosed = false

    package init() {}

    var requestCount: Int { self.proposals.count + self.reads.count + self.orders.count }

    package var isEmpty: Bool {
        self.messages.isEmpty && self.proposals.isEmpty && self.reads.isEmpty && self.orders.isEmpty
            && self.persisted.isEmpty && self.applied.isEmpty && self.unreachable.isEmpty && self.ticks == 0
            && self.failure == nil && !self.isStopping
    }

    /// Empties it but keeps the memory and whether it is closed.
    mutating func clear() {
        self.messages.removeAll(keepingCapacity: true)
        self.messageBytes = 0
        self.proposals.removeAll(keepingCapacity: true)
        self.proposalBytes = 0
        self.reads.removeAll(keepingCapacity: true)
        self.orders.removeAll(keepingCapacity: true)
        self.persisted.removeAll(keepingCapacity: true)
        self.applied.removeAll(keepingCapacity: true)
        self.unreachable.removeAll(keepingCapacity: true)
        self.ticks = 0
        self.failure = nil
        self.isStopping = false
    }
}

extension HostMessage {
    /// Bytes that the message counts for in a bounded queue.
    var costBytes: Int {
        guard case .raft(let item) = self, case .append(let append) = item.message.body else {
            return Self.overheadBytes
        }
        var bytes = Self.overheadBytes
        for entry in append.entries { bytes += entry.costBytes }
        return bytes
    }

    private static let overheadBytes = 64
}

/// Messages of one turn, gathered by the peer that gets them.
package struct Outbox: Sendable {
    /// By peer, in the order in which peers came up.
    package private(set) var batches: [(to: NodeID, messages: [HostMessage])] = []

    package init() {}

    package var isEmpty: Bool { self.batches.allSatisfy { $0.messages.isEmpty } }

    package mutating func add(_ message: HostMessage, to peer: NodeID) {
        for place in self.batches.indices where self.batches[place].to == peer {
            self.batches[place].messages.append(message)
            return
        }
        self.batches.append((peer, [message]))
    }

    mutating func add(_ messages: [RaftMessage], of group: GroupID) {
        for message in messages { self.add(.raft(GroupMessage(group: group, message: message)), to: message.to) }
    }

    /// Empties it, but keeps the memory while peers are few.
    package mutating func clear() {
        if self.batches.count > Self.keptMax { self.batches = [] }
        for place in self.batches.indices { self.batches[place].messages.removeAll(keepingCapacity: true) }
    }

    func send(by transport: any PeerTransport) {
        for batch in self.batches where !batch.messages.isEmpty { transport.send(batch.messages, to: batch.to) }
    }

    private static let keptMax = 64
}
