internal import Consensus
internal import Primitives
internal import Storage
internal import Synchronization
internal import Testing

/// A state machine that keeps the commands of each group in order; survives a restart of its host.
final class ListApplier: CommandApplier {
    struct Failure: Error {}

    struct State {
        var applied: [GroupID: AppliedState] = [:]
        /// What survives a power failure, where it is less than what is applied.
        var durable: [GroupID: LogIndex] = [:]
        var commands: [GroupID: [String]] = [:]
        var violations: [String] = []
        var discarded: [GroupID] = []
        var calls = 0
        var isFailing = false
        var isShortOfResults = false
    }

    let state = Mutex(State())

    func appliedState(of group: GroupID) throws -> AppliedState {
        self.state.withLock { $0.applied[group] ?? AppliedState() }
    }

    func durableApplied(of group: GroupID) -> LogIndex {
        self.state.withLock { $0.durable[group] ?? $0.applied[group]?.index ?? .zero }
    }

    func commands(of group: GroupID) -> [String] { self.state.withLock { $0.commands[group] ?? [] } }

    func apply(_ work: [GroupEntries]) throws -> [[[UInt8]]] {
        try self.state.withLock { state in
            if state.isFailing { throw Failure() }
            state.calls += 1
            if Set(work.map(\.group)).count != work.count { state.violations.append("a group comes twice in a turn") }
            var all: [[[UInt8]]] = []
            for part in work { all.append(Self.apply(part, to: &state)) }
            if state.isShortOfResults { _ = all[0].popLast() }
            return all
        }
    }

    private static func apply(_ part: GroupEntries, to state: inout State) -> [[UInt8]] {
        var results: [[UInt8]] = []
        var applied = state.applied[part.group] ?? AppliedState()
        applied.isInstalled = false
        for entry in part.entries {
            if entry.index != applied.index.next {
                state.violations.append("group \(part.group): \(entry.index) out of order")
            }
            applied.index = entry.index
            applied.term = entry.term
            if let membership = entry.membership { applied.membership = membership }
            for command in entry.commands {
                let text = String(decoding: command, as: UTF8.self)
                state.commands[part.group, default: []].append(text)
                results.append(Array("done \(text)".utf8))
            }
        }
        state.applied[part.group] = applied
        return results
    }

    func discard(_ group: GroupID) throws {
        self.state.withLock { state in
            state.applied[group] = nil
            state.commands[group] = nil
            state.discarded.append(group)
        }
    }

    /// The switch to a snapshot.
    func install(_ commands: [String], of group: GroupID, _ mark: SnapshotMark) {
        self.state.withLock { state in
            state.commands[group] = commands
            state.applied[group] = AppliedState(
                index: mark.index,
                term: mark.term,
                membership: mark.membership,
                isInstalled: true
            )
        }
    }
}

/// Hosts in one process that hear each other at once; links can be cut.
final class HostNetwork: Sendable {
    struct State {
        var hosts: [NodeID: RaftHost] = [:]
        var isolated: Set<NodeID> = []
        /// Appends with commands that were sent, also into a cut.
        var commandAppends = 0
        var waiting: [(after: Int, continuation: CheckedContinuation<Void, Never>)] = []
    }

    let state = Mutex(State())

    func deliver(_ messages: [HostMessage], from sender: NodeID, to receiver: NodeID) {
        let host = self.state.withLock { state -> RaftHost? in
            if messages.contains(where: Self.carriesCommands) { state.commandAppends += 1 }
            if state.isolated.contains(sender) || state.isolated.contains(receiver) { return nil }
            return state.hosts[receiver]
        }
        let due = self.state.withLock { state in
            let due = state.waiting.filter { $0.after < state.commandAppends }
            state.waiting.removeAll { $0.after < state.commandAppends }
            return due
        }
        for waiting in due { waiting.continuation.resume() }
        host?.receive(messages, from: sender)
    }

    private static func carriesCommands(_ message: HostMessage) -> Bool {
        guard case .raft(let item) = message, case .append(let append) = item.message.body else { return false }
        return append.entries.contains { $0.kind == .commands }
    }

    var commandAppends: Int { self.state.withLock { $0.commandAppends } }

    /// Returns when more than `count` appends with commands were sent: a leader has taken a proposal.
    func commandAppend(after count: Int) async {
        await withCheckedContinuation { continuation in
            let isDue = self.state.withLock { state in
                if state.commandAppends > count { return true }
                state.waiting.append((count, continuation))
                return false
            }
            if isDue { continuation.resume() }
        }
    }
}

struct HostLink: PeerTransport {
    let network: HostNetwork
    let sender: NodeID

    func send(_ messages: [HostMessage], to peer: NodeID) {
        self.network.deliver(messages, from: self.sender, to: peer)
    }
}

/// A thread that drives a loop and has no other work.
struct LoneThread: RaftThread {
    let thread: SerialThread

    func execute(_ work: @escaping @Sendable () -> Void) { self.thread.enqueue(work) }

    func schedule(after delay: Duration, _ work: @escaping @Sendable () -> Void) { self.thread.enqueue(work) }
}

/// Some hosts with their stores and state machines, driven by the test's ticks.
///
/// Every other host that is started is driven by a thread of the test, the others by their own.
final class HostCluster {
    let ids: [NodeID]
    let groups: [GroupID]
    /// The first members of the groups; other nodes begin with nothing.
    let members: [NodeID]
    let network = HostNetwork()
    let lane: SerialThread
    let configuration: RaftConfiguration
    /// Where the logs lie.
    var disks: [NodeID: SimulatedLogFiles] = [:]
    var appliers: [NodeID: ListApplier] = [:]
    var hosts: [NodeID: RaftHost] = [:]
    private var threads: [NodeID: SerialThread] = [:]
    private var epoch: UInt64 = 0
    /// What hosts reported: offers of snapshots and removals.
    let offers = EventLog<(node: NodeID, group: GroupID, from: NodeID, offer: RaftMessage.SnapshotOffer)>()
    let removals = EventLog<(node: NodeID, group: GroupID)>()

    /// Rounds of ticks until something must be there.
    static let roundsMax = 2_000

    init(
        _ count: Int,
        groups: Int = 1,
        members: Int? = nil,
        configure: (inout RaftConfiguration) -> Void = { _ in }
    ) throws {
        self.ids = (1...UInt64(count)).map { NodeID($0) }
        self.members = Array(self.ids.prefix(members ?? count))
        self.groups = (0..<UInt32(groups)).map { GroupID($0) }
        self.lane = try SerialThread(name: "test-lane")
        var configuration = RaftConfiguration()
        configure(&configuration)
        self.configuration = configuration
        for id in self.ids {
            self.disks[id] = SimulatedLogFiles()
            self.appliers[id] = ListApplier()
        }
    }

    deinit { self.stop() }

    func startAll() throws {
        for id in self.ids { try self.start(id) }
    }

    func start(_ id: NodeID, onFailure: @escaping @Sendable (ConsensusError) -> Void = { _ in }) throws {
        self.epoch += 1
        let membership = Membership(voters: self.members)
        let isMember = self.members.contains(id)
        let thread = self.epoch % 2 == 1 ? try SerialThread(name: "test-raft") : nil
        defer { if self.hosts[id] == nil { thread?.shutdown() } }
        let host = try RaftHost(
            node: id,
            groups: isMember ? Dictionary(uniqueKeysWithValues: self.groups.map { ($0, membership) }) : [:],
            log: try LogDisk.open(self.disks[id]!),
            configuration: self.configuration,
            transport: HostLink(network: self.network, sender: id),
            applier: self.appliers[id]!,
            lanes: [self.lane],
            thread: thread.map { LoneThread(thread: $0) },
            seed: 11,
            epoch: self.epoch,
            ticks: .manual,
            events: HostEvents(
                mayHost: { _, _ in true },
                onReplicaRemoved: { [removals] in removals.add((id, $0)) },
                onSnapshotOffered: { [offers] in offers.add((id, $0, $1, $2)) },
                onFailure: onFailure
            )
        )
        self.hosts[id] = host
        self.threads[id] = thread
        self.network.state.withLock { $0.hosts[id] = host }
        try host.start()
    }

    func stop(_ id: NodeID) {
        self.network.state.withLock { $0.hosts[id] = nil }
        self.hosts.removeValue(forKey: id)?.stop()
        self.threads.removeValue(forKey: id)?.shutdown()
        self.disks[id] = self.disks[id]?.restart()
    }

    func stop() {
        for id in self.ids { self.stop(id) }
        self.lane.shutdown()
    }

    func isLeading(_ host: RaftHost, _ group: GroupID) async -> Bool {
        // To hand leadership to oneself does nothing, and only a leader can.
        (try? await host.transferLeadership(group, to: host.node)) != nil
    }

    /// Lets time pass, step by step, until a host that is not cut off leads `group` and has committed in its term.
    func leader(of group: GroupID = GroupID(0)) async throws -> RaftHost {
        for _ in 0..<Self.roundsMax {
            for id in self.ids {
                guard let host = self.hosts[id],
                    !self.network.state.withLock({ $0.isolated.contains(id) })
                else { continue }
                host.tick()
                guard await self.isLeading(host, group) else { continue }
                if (try? await host.readIndex(group)) != nil { return host }
            }
        }
        throw ProposalError(code: .notLeader(leader: nil), message: "no leader in \(Self.roundsMax) rounds")
    }

    /// Lets time pass on all hosts until `isDone`.
    func ticks(
        until isDone: () async throws -> Bool,
        _ what: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        for _ in 0..<Self.roundsMax {
            if try await isDone() { return }
            for id in self.ids {
                guard let host = self.hosts[id] else { continue }
                host.tick()
                // A round trip through the raft thread.
                _ = await self.isLeading(host, self.groups[0])
            }
        }
        Issue.record("not in \(Self.roundsMax) rounds: \(what)", sourceLocation: sourceLocation)
    }

    /// Fetches and installs what was offered, as a node does.
    func installOffers() async throws {
        for item in self.offers.take() {
            guard let host = self.hosts[item.node], let source = self.hosts[item.from] else { continue }
            let applier = self.appliers[item.from]!
            let (mark, commands) = try await source.withLane(item.group) {
                (source.appliedMark(item.group)!, applier.commands(of: item.group))
            }
            let own = self.appliers[item.node]!
            try await host.install(item.group, mark) { own.install(commands, of: item.group, mark) }
        }
    }
}

/// Events of several threads, in order.
final class EventLog<Event>: @unchecked Sendable {  // sendable-ok: touched under the mutex only
    private let mutex = Mutex(())
    private var events: [Event] = []

    func add(_ event: Event) { self.mutex.withLock { _ in self.events.append(event) } }

    var isEmpty: Bool { self.mutex.withLock { _ in self.events.isEmpty } }

    func take() -> [Event] {
        self.mutex.withLock { _ in
            defer { self.events = [] }
            return self.events
        }
    }
}
