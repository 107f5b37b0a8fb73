internal import AuditLedger
internal import Consensus
internal import Laboratory
internal import Primitives
internal import Shards

/// One client: appends records and reads ledgers, one call at a time, and holds the cluster to its answers.
///
/// A call that may have been done is asked again under the same idempotency key, of any node, until it is answered or
/// given up; a call without a key is asked once.
final class SimClient {
    private let number: Int
    private unowned let world: World
    private var dice: Dice
    private var nextCall: UInt64 = 0
    private var nextAttempt: UInt64 = 0
    private var isStopped = false
    private var believed: [GroupID: NodeID] = [:]
    private var wanted: OrganizationEntry?
    private var hasAppended = false
    private var hasRead = false
    private(set) var lastAnswer = "none"

    /// How long a client waits for an answer.
    private static let timeouts: [VirtualTime] = [20_000, 40_000, 100_000, 400_000]
    private static let strayPercent = 15
    private static let attemptsMax = 12
    private static let callsMax: UInt64 = 1_000_000

    /// What came of one attempt.
    private enum Attempt {
        case done([UInt8])
        case readable(LedgerHead)
        /// Surely not done; perhaps somebody else can.
        case notDone(NodeID?)
        case unknown

        var traceText: String {
            switch self {
            case .done: "done"
            case .readable(let head): "reads \(head.size)"
            case .notDone(let leader): "not done, ask \(leader.map { "\($0)" } ?? "anybody")"
            case .unknown: "no answer"
            }
        }
    }

    /// Asks for an append to `organization`, then for a read of it, until both are answered.
    func serve(_ organization: OrganizationEntry) {
        self.wanted = organization
        self.append(organization)
    }

    /// What was asked for by ``serve(_:)`` is answered.
    var isServed: Bool { self.hasAppended && self.hasRead }

    /// An append that is asked for until it is answered.
    private struct Append {
        let call: UInt64
        let organization: OrganizationEntry
        let command: [UInt8]
        let records: Int
        let hasKey: Bool
        /// What was shown of the ledger when the call began.
        let floor: UInt64
        var attempts = 0
    }

    init(number: Int, world: World, dice: Dice) {
        self.number = number
        self.world = world
        self.dice = dice
    }

    func start() { self.planNext() }

    /// Begins no call any more.
    func stop() { self.isStopped = true }

    private func planNext() {
        if self.isStopped || (self.wanted != nil && self.isServed) { return }
        let wait = self.dice.draw(0...(self.world.plan.thinkTime * 2))
        self.world.after(wait) { [self] in self.begin() }
    }

    private func begin() {
        if let wanted = self.wanted { return self.hasAppended ? self.read(wanted) : self.append(wanted) }
        guard !self.world.organizations.isEmpty else { return self.planNext() }
        let organization = self.dice.pick(self.world.organizations)
        if self.dice.chance(self.world.plan.readPercent) {
            self.read(organization)
        } else {
            self.append(organization)
        }
    }

    /// - Parameter strayPercent: Of 100 calls, how many go to any node although a leader is known.
    private func target(_ group: GroupID, strayPercent: Int) -> NodeID {
        if let known = self.believed[group], !self.dice.chance(strayPercent) { return known }
        return self.dice.pick(self.world.nodes).id
    }

    // MARK: - Attempts

    /// Sends a request to `node`, and takes the first of: its answer, or the end of patience.
    private func ask(
        _ node: NodeID,
        _ request: @escaping (SimProcess, SimNode, @escaping (Attempt) -> Void) -> Void,
        _ done: @escaping (Attempt) -> Void
    ) {
        self.nextAttempt += 1
        let attempt = self.nextAttempt
        var isOver = false
        let finish: (Attempt) -> Void = { [self] answer in
            guard !isOver, self.nextAttempt == attempt else { return }
            isOver = true
            self.lastAnswer = "\(answer) of node \(node)"
            self.world.note(.answer, nil, UInt64(self.number), "client \(self.number): \(answer.traceText) from \(node)")
            done(answer)
        }
        self.world.after(self.dice.pick(Self.timeouts)) { finish(.unknown) }
        guard !self.world.network.losesNow() else { return }
        self.world.after(self.world.network.drawLatency()) { [self] in
            guard let target = self.world.node(node), target.process != nil else { return finish(.notDone(nil)) }
            target.whenRunning { process in
                request(process, target) { [self] answer in
                    guard !self.world.network.losesNow() else { return }
                    self.world.after(self.world.network.drawLatency()) { finish(answer) }
                }
            }
        }
    }

    private static func attempt(_ error: ProposalError) -> Attempt {
        switch error.code {
        case .notLeader(let leader): .notDone(leader)
        case .outcomeUnknown, .failed: .unknown
        default: .notDone(nil)
        }
    }

    // MARK: - Appends

    private func append(_ organization: OrganizationEntry) {
        let call = (UInt64(self.number) + 1) * Self.callsMax + self.nextCall
        self.nextCall += 1
        let records = self.dice.pick([1, 1, 1, 2, 4])
        let hasKey = self.dice.chance(80)
        guard let command = self.command(call, organization, records: records, hasKey: hasKey) else { return }
        let floor = self.world.oracle.floor(of: organization.id)
        self.world.note(
            .request,
            nil,
            call,
            "client \(self.number): call \(call) appends \(records) to \(organization.key)"
        )
        self.ask(
            Append(
                call: call,
                organization: organization,
                command: command,
                records: records,
                hasKey: hasKey,
                floor: floor
            )
        )
    }

    private func command(_ call: UInt64, _ organization: OrganizationEntry, records: Int, hasKey: Bool) -> [UInt8]? {
        let context = EventContext(
            organization: organization.key,
            request: RequestInfo(id: "r-\(call)"),
            defaultActor: Actor(kind: .apiKey, id: "client-\(self.number)")
        )
        var drafts: [EventDraft] = []
        for record in 0..<records {
            let filler = String(repeating: "x", count: self.dice.pick([0, 10, 100, 700]))
            let event =
                #"{"action":"weigh","entity_type":"sample","entity_id":"call-\#(call)","after":{"n":\#(record),"note":"\#(filler)"}}"#
            do {
                drafts.append(try EventDraft.parse(Array(event.utf8), defaults: context))
            } catch {
                self.world.violate("client \(self.number) cannot make an event: \(error)")
                return nil
            }
        }
        let idempotency = hasKey ? Idempotency(key: "key-\(call)", request: Array("request-\(call)".utf8)) : nil
        return Command.append(
            AppendCommand(organization: organization.id, idempotency: idempotency, drafts: drafts)
        ).encoded()
    }

    private func ask(_ append: Append) {
        var append = append
        append.attempts += 1
        let group = append.organization.group
        let node = self.target(group, strayPercent: Self.strayPercent)
        self.ask(node) { [self] process, target, answer in
            var bytes = append.command
            do { try Command.stamp(&bytes, at: target.wallClock) } catch {
                self.world.violate("a command cannot be stamped: \(error)")
            }
            process.propose(group, bytes) { result in
                switch result {
                case .success(let found): answer(.done(found))
                case .failure(let error):
                    if case .overloaded = error.code { process.world.coverage[.overloads] += 1 }
                    if case .outcomeUnknown = error.code { process.world.coverage[.proposalsDropped] += 1 }
                    answer(Self.attempt(error))
                }
            }
        } _: { [self] answer in
            self.take(answer, of: append, from: node)
        }
    }

    private func take(_ answer: Attempt, of append: Append, from node: NodeID) {
        let group = append.organization.group
        switch answer {
        case .done(let bytes):
            self.believed[group] = node
            self.finish(append, bytes)
            self.planNext()
            return
        case .notDone(let leader): if leader != nil || self.dice.chance(50) { self.believed[group] = leader }
        case .unknown, .readable:
            if self.dice.chance(50) { self.believed[group] = nil }
            guard append.hasKey else { return self.planNext() }
        }
        guard append.attempts < Self.attemptsMax, !self.isStopped else { return self.planNext() }
        // Whoever was told the leader asks it at once.
        let patience: VirtualTime = self.believed[group] == nil ? 40_000 : 3_000
        self.world.after(self.dice.draw(500...patience)) { [self] in self.ask(append) }
    }

    private func finish(_ append: Append, _ bytes: [UInt8]) {
        self.world.note(.answer, nil, append.call, "client \(self.number): call \(append.call) is answered")
        do {
            switch try CommandResult.decode(bytes) {
            case .appended(let receipt):
                self.hasAppended = true
                self.world.coverage[.writesDone] += 1
                if receipt.isReplay { self.world.coverage[.retriesDeduplicated] += 1 }
                let problem = self.world.oracle.acknowledges(
                    receipt,
                    of: append.call,
                    records: append.records,
                    in: append.organization.id,
                    floor: append.floor
                )
                if let problem { self.world.violate(problem) }
            case let other: self.world.violate("call \(append.call) gets \(other)")
            }
        } catch {
            self.world.violate("the answer of call \(append.call) cannot be read: \(error)")
        }
    }

    // MARK: - Reads

    private func read(_ organization: OrganizationEntry) {
        let group = organization.group
        let node = self.target(group, strayPercent: self.world.plan.strayPercent)
        let floor = self.world.oracle.floor(of: organization.id)
        let commit = self.world.invariants.history(group).commit
        self.ask(node) { process, target, answer in
            // An answer without a round of messages comes before the call returns.
            var isAtOnce = true
            defer { isAtOnce = false }
            process.read(group) { result in
                switch result {
                case .success(let index):
                    if index < commit {
                        process.world.violate(
                            "group \(group): node \(node) reads at \(index), \(commit) was committed before"
                        )
                    }
                    do {
                        answer(.readable(try process.applier.head(of: organization.id)))
                        let core = process.core(of: group)
                        let isLeader = core?.role == .leader
                        let isByLease = isLeader && isAtOnce && (core?.membership.voters.count ?? 0) > 1
                        process.world.coverage[
                            isByLease ? .readsByLease : isLeader ? .readsByIndex : .readsFromFollowers
                        ] += 1
                    } catch {
                        process.fail(error)
                    }
                case .failure(let error):
                    if !isAtOnce { process.world.coverage[.readsDropped] += 1 }
                    answer(Self.attempt(error))
                }
            }
        } _: { [self] answer in
            switch answer {
            case .readable(let head):
                self.hasRead = true
                self.believed[group] = node
                self.world.note(
                    .read,
                    nil,
                    head.size,
                    "client \(self.number) reads \(head.size) of \(organization.key)"
                )
                if let problem = self.world.oracle.reads(head, floor: floor) { self.world.violate(problem) }
            case .notDone(let leader): if leader != nil || self.dice.chance(50) { self.believed[group] = leader }
            case .done, .unknown: self.believed[group] = nil
            }
            self.planNext()
        }
    }
}
