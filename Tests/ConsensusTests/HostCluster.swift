internal import Consensus
internal import Primitives
internal import Storage
internal import Synchronization

/// A state machine that keeps the commands of each group in order; survives a restart of its host.
final class ListApplier: CommandApplier {
    struct Failure: Error {}

    struct State {
        var applied: [GroupID: LogIndex] = [:]
        var commands: [GroupID: [String]] = [:]
        var violations: [String] = []
        var isFailing = false
        var isShortOfResults = false
    }

    let state = Mutex(State())

    func appliedIndex(of group: GroupID) throws -> LogIndex { self.state.withLock { $0.applied[group] ?? .zero } }

    func commands(of group: GroupID) -> [String] { self.state.withLock { $0.commands[group] ?? [] } }

    func apply(group: GroupID, entries: [CommittedEntry]) throws -> [[UInt8]] {
        try self.state.withLock { state in
            if state.isFailing { throw Failure() }
            var results: [[UInt8]] = []
            for entry in entries {
                if entry.index != (state.applied[group] ?? .zero).next {
                    state.violations.append("group \(group): \(entry.index) out of order")
                }
                state.applied[group] = entry.index
                for command in entry.commands {
                    let text = String(decoding: command, as: UTF8.self)
                    state.commands[group, default: []].append(text)
                    results.append(Array("done \(text)".utf8))
                }
            }
            if state.isShortOfResults { _ = results.popLast() }
            return results
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

    func deliver(_ messages: [GroupMessage], from sender: NodeID, to receiver: NodeID) {
        let host = self.state.withLock { state -> RaftHost? in
            if messages.contains(where: { Self.carriesCommands($0.message) }) { state.commandAppends += 1 }
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

    private static func carriesCommands(_ message: RaftMessage) -> Bool {
        guard case .append(let append) = message.body else { return false }
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

    func send(_ messages: [GroupMessage], to peer: NodeID) {
        self.network.deliver(messages, from: self.sender, to: peer)
    }
}

/// Some hosts with their stores and state machines, driven by the test's ticks.
final class HostCluster {
    let ids: [NodeID]
    let groups: [GroupID]
    let network = HostNetwork()
    let lane: SerialThread
    let configuration: RaftConfiguration
    var stores: [NodeID: any KeyValueStore] = [:]
    var appliers: [NodeID: ListApplier] = [:]
    var hosts: [NodeID: RaftHost] = [:]
    let failures = Mutex<[ConsensusError]>([])

    /// Rounds of ticks until a leader must be there.
    static let roundsMax = 2_000

    init(_ count: Int, groups: Int = 1, configure: (inout RaftConfiguration) -> Void = { _ in }) throws {
        self.ids = (1...UInt64(count)).map { NodeID($0) }
        self.groups = (0..<UInt32(groups)).map { GroupID($0) }
        self.lane = try SerialThread(name: "test-lane")
        var configuration = RaftConfiguration()
        configure(&configuration)
        self.configuration = configuration
        for id in self.ids {
            self.stores[id] = InMemoryStore()
            self.appliers[id] = ListApplier()
        }
    }

    deinit { self.stop() }

    func startAll() throws {
        for id in self.ids { try self.start(id) }
    }

    func start(_ id: NodeID, onFailure: @escaping @Sendable (ConsensusError) -> Void = { _ in }) throws {
        let host = try RaftHost(
            node: id,
            groups: Dictionary(uniqueKeysWithValues: self.groups.map { ($0, self.ids) }),
            store: self.stores[id]!,
            configuration: self.configuration,
            transport: HostLink(network: self.network, sender: id),
            applier: self.appliers[id]!,
            lanes: [self.lane],
            seed: 11,
            ticks: .manual,
            events: RaftHost.Events(onFailure: onFailure)
        )
        self.hosts[id] = host
        self.network.state.withLock { $0.hosts[id] = host }
        try host.start()
    }

    func stop(_ id: NodeID) {
        self.network.state.withLock { $0.hosts[id] = nil }
        self.hosts.removeValue(forKey: id)?.stop()
    }

    func stop() {
        for id in self.ids { self.stop(id) }
        self.lane.shutdown()
    }

    /// Lets time pass, step by step, until a host that is not cut off leads `group` and has committed in its term.
    func leader(of group: GroupID = GroupID(0)) async throws -> RaftHost {
        for _ in 0..<Self.roundsMax {
            for id in self.ids {
                guard let host = self.hosts[id],
                    !self.network.state.withLock({ $0.isolated.contains(id) })
                else { continue }
                host.tick()
                // A barrier is answered after the tick was taken: at once unless this host leads.
                if (try? await host.barrier(group)) != nil { return host }
            }
        }
        throw ProposalError(code: .notLeader(leader: nil), message: "no leader in \(Self.roundsMax) rounds")
    }
}
