internal import Consensus
internal import Foundation
internal import Primitives

/// The state after one command, as one JSON line.
struct ScenarioTrace: Encodable {
    struct Entry: Encodable {
        let index: UInt64
        let term: UInt64
        let type: String
        let data: String
    }

    struct HardStateText: Encodable {
        let term: UInt64
        let vote: UInt64
        let commit: UInt64
    }

    struct Conf: Encodable {
        let voters: [UInt64]
        let outgoing: [UInt64]
        let learners: [UInt64]
        let learnersNext: [UInt64]
        let autoLeave: Bool

        init(_ membership: Membership) {
            self.voters = membership.voters.map(\.rawValue)
            self.outgoing = membership.outgoing.map(\.rawValue)
            self.learners = membership.learners.map(\.rawValue)
            self.learnersNext = membership.learnersNext.map(\.rawValue)
            self.autoLeave = membership.isJoint && membership.autoLeave
        }
    }

    struct Progress: Encodable {
        let id: UInt64
        let state: String
        let match: UInt64
        let next: UInt64
    }

    struct Pending: Encodable {
        let append: Int
        let apply: Int
        let ready: Bool
    }

    struct Config: Encodable {
        let preVote: Bool
        let checkQuorum: Bool
        let async: Bool
        let stepDownOnRemoval: Bool
        let leaseReads: Bool
        let inflight: Int?
        let maxSize: Int?
        let electionTick: Int
        let heartbeatTick: Int
    }

    struct Node: Encodable {
        let id: UInt64
        let role: String
        let term: UInt64
        let vote: UInt64
        let lead: UInt64
        let commit: UInt64
        let applied: UInt64
        let first: UInt64
        let last: UInt64
        let transferee: UInt64
        let asleep: Bool
        let conf: Conf
        let progress: [Progress]
        let hardState: HardStateText
        let log: [Entry]
        let sm: String
        let pending: Pending
        let config: Config
    }

    struct Message: Encodable {
        let from: UInt64
        let to: UInt64
        let type: String
        let term: UInt64
        var logIndex: UInt64?
        var logTerm: UInt64?
        var commit: UInt64?
        var reject = false
        var hint: UInt64?
        var entries: [Entry] = []
        var snapshotIndex: UInt64?
        var snapshotTerm: UInt64?
        var snapshotConf: Conf?
        var token: UInt64?
    }

    struct Read: Encodable {
        let node: UInt64
        let ctx: String
        let index: UInt64?
        let dropped: Bool
    }

    let line: Int
    let cmd: String
    let args: [String]
    let input: String
    let error: String
    let failures: [String]
    let quiescent: Bool
    let nodes: [Node]
    let inFlight: [Message]
    let reads: [Read]
    /// What the nodes sent in the command, delivered meanwhile or not.
    let sent: [Message]

    enum CodingKeys: String, CodingKey {
        case line
        case cmd
        case args
        case input
        case error
        case failures
        case quiescent
        case nodes
        case inFlight = "in_flight"
        case reads
        case sent
    }

    init(_ step: ScenarioStep, failures: [String], _ world: ScenarioWorld) {
        self.line = step.line
        self.cmd = step.command.rawValue
        self.args = step.words + step.options.map { "\($0.key)=\($0.value)" }
        self.input = step.text
        let isProposal = step.command == .propose || step.command == .proposeConfChange
        self.error = isProposal && world.lastError == "dropped" ? "raft proposal dropped" : ""
        self.failures = failures
        self.quiescent = world.isQuiescent
        self.nodes = world.nodes.map(Self.node)
        self.inFlight = world.inFlight.map(Self.message)
        self.sent = world.sent.map(Self.message)
        self.reads = world.reads.map {
            Read(node: $0.node.rawValue, ctx: $0.context, index: $0.index?.rawValue, dropped: $0.isDropped)
        }
    }

    /// The line, without its end.
    func text() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        return String(decoding: try encoder.encode(self), as: UTF8.self)
    }

    static func name(of role: RaftRole) -> String {
        switch role {
        case .follower: return "follower"
        case .preCandidate: return "pre-candidate"
        case .candidate: return "candidate"
        case .leader: return "leader"
        }
    }

    static func list(_ nodes: [NodeID]) -> String { nodes.map { "\($0.rawValue)" }.joined(separator: ",") }

    private static func entry(_ entry: LogEntry) -> Entry {
        Entry(
            index: entry.index.rawValue,
            term: entry.term.rawValue,
            type: entry.kind == .membership ? "conf-change" : "normal",
            data: ScenarioData.text(of: entry)
        )
    }

    private static func node(_ node: VirtualNode) -> Node {
        let core = node.core
        let disk = node.disk.contents
        let settings = node.settings
        return Node(
            id: node.id.rawValue,
            role: Self.name(of: core.role),
            term: core.term.rawValue,
            vote: core.hardState.vote?.rawValue ?? 0,
            lead: core.leader?.rawValue ?? 0,
            commit: core.commit.rawValue,
            applied: node.machine.applied.rawValue,
            first: core.firstIndex.rawValue,
            last: core.lastIndex.rawValue,
            transferee: core.transferee?.rawValue ?? 0,
            asleep: core.isAsleep,
            conf: Conf(core.membership),
            progress: core.replicas.map {
                Progress(id: $0.node.rawValue, state: "\($0.state)", match: $0.match.rawValue, next: $0.next.rawValue)
            },
            hardState: HardStateText(
                term: disk.hardState.term.rawValue,
                vote: disk.hardState.vote?.rawValue ?? 0,
                commit: disk.commit.rawValue
            ),
            log: disk.entries.map(Self.entry),
            sm: node.machine.newest.text,
            pending: Pending(append: node.appendWork.count, apply: node.applyWork.count, ready: node.hasReady),
            config: Config(
                preVote: settings.preVote,
                checkQuorum: settings.checkQuorum,
                async: settings.isAsync,
                stepDownOnRemoval: settings.stepDownOnRemoval,
                leaseReads: settings.leaseReads,
                inflight: settings.inflightMax,
                maxSize: settings.messageBytesMax,
                electionTick: settings.electionTicks,
                heartbeatTick: settings.heartbeatTicks
            )
        )
    }

    private static func message(_ flight: Flight) -> Message {
        var message = Message(
            from: flight.from.rawValue,
            to: flight.to.rawValue,
            type: flight.kind.rawValue,
            term: flight.term.rawValue
        )
        message.reject = flight.isRejection
        switch flight.cargo {
        case .persisted(let ticket):
            message.logIndex = ticket.index.rawValue
            message.logTerm = ticket.term.rawValue
        case .applied(let index): message.logIndex = index.rawValue
        case .message(let raft, _): Self.fill(&message, with: raft.body)
        }
        return message
    }

    private static func fill(_ message: inout Message, with body: RaftMessage.Body) {
        switch body {
        case .preVoteRequest(let request), .voteRequest(let request):
            message.logIndex = request.lastIndex.rawValue
            message.logTerm = request.lastTerm.rawValue
            message.commit = request.commit.rawValue
        case .append(let append):
            message.logIndex = append.previousIndex.rawValue
            message.logTerm = append.previousTerm.rawValue
            message.commit = append.commit.rawValue
            message.entries = append.entries.map(Self.entry)
        case .appendAccepted(let acceptance): message.logIndex = acceptance.match.rawValue
        case .appendRejected(let rejection):
            message.logIndex = rejection.previousIndex.rawValue
            message.logTerm = rejection.hintTerm.rawValue
            message.hint = rejection.hintIndex.rawValue
        case .heartbeat(let heartbeat): message.commit = heartbeat.commit.rawValue
        case .snapshot(let offer):
            message.snapshotIndex = offer.mark.index.rawValue
            message.snapshotTerm = offer.mark.term.rawValue
            message.snapshotConf = Conf(offer.mark.membership)
        case .readRequest(let token): message.token = token
        case .readResponse(let token, let index):
            message.token = token
            message.logIndex = index?.rawValue
        case .preVoteResponse, .voteResponse, .heartbeatResponse, .timeoutNow: break
        }
    }
}
