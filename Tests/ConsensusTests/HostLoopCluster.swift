internal import Primitives
internal import Storage
internal import Synchronization
internal import Testing

@testable internal import Consensus

/// The loops of some nodes on one thread: the test says when time passes, and everything else happens at once.
final class HostLoopCluster {
    final class Node {
        let id: NodeID
        let files: SimulatedLogFiles
        let applier: ListApplier
        let lane: InlineLane
        var queue: LaneQueue
        var loop: RaftLoop
        var inbox = Inbox()
        var isUp = true
        var offers: [(group: GroupID, from: NodeID, offer: RaftMessage.SnapshotOffer)] = []
        var removed: [GroupID] = []
        /// Messages sent, beats apart.
        var sent = 0
        var beats = 0

        init(id: NodeID, files: SimulatedLogFiles, applier: ListApplier, cluster: HostLoopCluster, epoch: UInt64) throws
        {
            self.id = id
            self.files = files
            self.applier = applier
            self.lane = InlineLane()
            self.queue = LaneQueue(lane: self.lane)
            let parts = LoopParts(
                node: id,
                configuration: cluster.configuration,
                store: try LogDisk.open(files),
                applier: applier,
                lanes: [self.queue],
                seed: 5,
                epoch: epoch,
                events: HostEvents(mayHost: { _, _ in true })
            )
            let membership = Membership(voters: cluster.members)
            let groups = cluster.members.contains(id) ? cluster.groups : []
            self.loop = try RaftLoop(
                parts: parts,
                groups: Dictionary(uniqueKeysWithValues: groups.map { ($0, membership) })
            )
        }
    }

    let configuration: RaftConfiguration
    let groups: [GroupID]
    let members: [NodeID]
    var nodes: [Node] = []
    var cut: Set<NodeID> = []
    /// Messages that are lost on their way.
    var isLost: (HostMessage) -> Bool = { _ in false }
    /// What the last pump sent, for looks.
    var seen: [HostMessage] = []
    private var epoch: UInt64 = 0

    static let stepsMax = 10_000

    init(
        _ count: Int,
        groups: Int = 1,
        members: Int? = nil,
        configure: (inout RaftConfiguration) -> Void = { _ in }
    ) throws {
        var configuration = RaftConfiguration()
        configure(&configuration)
        self.configuration = configuration
        self.groups = (0..<UInt32(groups)).map { GroupID($0) }
        let ids = (1...UInt64(count)).map { NodeID($0) }
        self.members = Array(ids.prefix(members ?? count))
        for id in ids {
            self.epoch += 1
            let node = try Node(
                id: id,
                files: SimulatedLogFiles(),
                applier: ListApplier(),
                cluster: self,
                epoch: self.epoch
            )
            self.nodes.append(node)
        }
    }

    subscript(_ id: UInt64) -> Node { self.nodes[Int(id) - 1] }

    /// The node comes back with its disk and another epoch.
    func restart(_ id: UInt64) throws {
        self.epoch += 1
        let old = self[id]
        self.nodes[Int(id) - 1] = try Node(
            id: old.id,
            files: old.files.restart(),
            applier: old.applier,
            cluster: self,
            epoch: self.epoch
        )
    }

    /// One tick on every node that is up, and everything that follows.
    func tick(_ count: Int = 1) throws {
        for _ in 0..<count {
            for node in self.nodes where node.isUp { node.inbox.ticks += 1 }
            try self.pump()
        }
    }

    /// Turns, writes, messages and lanes until nothing moves.
    func pump() throws {
        self.seen = []
        for _ in 0..<Self.stepsMax {
            var hasMoved = false
            for node in self.nodes where node.isUp {
                if !node.inbox.isEmpty {
                    node.loop.turn(&node.inbox)
                    hasMoved = true
                }
                if !node.loop.output.isEmpty {
                    try self.handOn(node)
                    hasMoved = true
                }
            }
            if !hasMoved { return }
        }
        Issue.record("the cluster does not come to rest")
    }

    private func handOn(_ node: Node) throws {
        let output = node.loop.output
        node.loop.clearOutput()
        if let failure = output.failure { throw failure }
        for batch in output.outbox.batches where !batch.messages.isEmpty {
            self.send(batch.messages, from: node, to: batch.to)
        }
        let writes = output.writes.compactMap(\.write)
        if !writes.isEmpty { try node.loop.parts.store.write(writes) }
        if !output.writes.isEmpty { node.loop.persisted(output.writes) }
        node.offers += output.offers
        node.removed += output.removed.map(\.group)
        for group in output.discards {
            try node.applier.discard(group)
            node.inbox.orders.append(.discarded(group))
        }
        for lane in output.lanes {
            repeat { node.inbox.applied += try lane.turn(with: node.applier) } while lane.hasMoreWork()
        }
    }

    private func send(_ messages: [HostMessage], from node: Node, to peer: NodeID) {
        for message in messages {
            if case .beat = message { node.beats += 1 } else { node.sent += 1 }
        }
        self.seen += messages
        guard let place = self.nodes.firstIndex(where: { $0.id == peer }), self.nodes[place].isUp,
            !self.cut.contains(node.id), !self.cut.contains(peer)
        else { return }
        self.nodes[place].inbox.messages.append((node.id, messages.filter { !self.isLost($0) }))
    }

    // MARK: - Requests

    /// Answers as they come.
    final class Answer<Value: Sendable>: Sendable {
        let result = Mutex<Result<Value, ProposalError>?>(nil)
        let count = Mutex(0)

        var waiter: Waiter<Value> {
            Waiter { answer in
                self.result.withLock { $0 = answer }
                self.count.withLock { $0 += 1 }
            }
        }

        var value: Value? { try? self.result.withLock { $0 }?.get() }

        var code: ProposalError.Code? {
            guard case .failure(let error) = self.result.withLock({ $0 }) else { return nil }
            return error.code
        }
    }

    func propose(_ text: String, to group: GroupID = GroupID(0), on node: UInt64) -> Answer<[UInt8]> {
        let answer = Answer<[UInt8]>()
        let proposal = Inbox.Proposal(group: group, command: Array(text.utf8), waiter: answer.waiter)
        self[node].inbox.proposals.append(proposal)
        return answer
    }

    func read(_ group: GroupID = GroupID(0), on node: UInt64) -> Answer<LogIndex> {
        let answer = Answer<LogIndex>()
        self[node].inbox.reads.append(Inbox.Read(group: group, waitsUntilApplied: true, waiter: answer.waiter))
        return answer
    }

    func change(_ change: MembershipChange, of group: GroupID = GroupID(0), on node: UInt64) -> Answer<Membership> {
        let answer = Answer<Membership>()
        self[node].inbox.orders.append(.changeMembership(group, change, answer.waiter))
        return answer
    }

    func order(_ order: Inbox.Order, on node: UInt64) { self[node].inbox.orders.append(order) }

    /// Makes `node` the leader of every group.
    func elect(_ node: UInt64) throws {
        for group in self.groups { self.order(.campaign(group), on: node) }
        try self.pump()
        for group in self.groups where self[node].loop.core(of: group)?.role != .leader {
            Issue.record("node \(node) does not lead group \(group)")
        }
        // Followers learn the commit index.
        try self.tick(self.configuration.heartbeatTicks + 1)
    }

    /// Fetches and installs every offer on `node`.
    func install(on node: UInt64) throws {
        let offers = self[node].offers
        self[node].offers = []
        for item in offers {
            let source = self.nodes.first { $0.id == item.from }!
            let mark = source.loop.replica(of: item.group)!.appliedMark
            let commands = source.applier.commands(of: item.group)
            let replica = self[node].loop.replica(of: item.group)!
            let applier = self[node].applier
            let refusal = replica.install(mark) { applier.install(commands, of: item.group, mark) }
            self.order(refusal == nil ? .installed(replica, mark) : .installFailed(item.group), on: node)
        }
        try self.pump()
    }
}
