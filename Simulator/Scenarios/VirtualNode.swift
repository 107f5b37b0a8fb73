internal import Consensus
internal import Primitives

/// A core with a disk and a state machine, driven by hand.
struct VirtualNode: Sendable {
    /// What `add-nodes` said.
    struct Settings: Sendable, Hashable {
        var preVote = false
        var checkQuorum = false
        /// Append and apply work is queued and done on command.
        var isAsync = false
        var stepDownOnRemoval = false
        var leaseReads = false
        var inflightMax: Int?
        var messageBytesMax: Int?
        var uncommittedBytesMax: Int?
        var electionTicks = 3
        var heartbeatTicks = 1
        var priority = 0
    }

    /// Queued work for the disk.
    struct AppendWork: Sendable {
        var ticket: PersistTicket?
        var hardState: HardState?
        var reset: SnapshotMark?
        var truncateFrom: LogIndex?
        var entries: [LogEntry] = []
        var commit: LogIndex
        /// To be installed: an offer that this node took.
        var snapshot: SnapshotMark?
        /// What goes in flight once it is done: promises to others, and the notice to the node itself.
        var answers: [Flight] = []
    }

    let id: NodeID
    let settings: Settings
    let faults: CoreFaults
    let disk: VirtualDiskOwner
    var machine: Appender
    var core: RaftCore
    var appendWork: [AppendWork] = []
    var applyWork: [[LogEntry]] = []
    /// Content of the snapshots that were offered to this node.
    var offered: [Appender.Version] = []
    /// The commit index given to the disk, or queued for it, last.
    var handedCommit: LogIndex
    /// Counts the lives of the node, so that each has other chance.
    var life: UInt64 = 0

    init(id: NodeID, settings: Settings, faults: CoreFaults, start: Appender.Version?) {
        let blank = SnapshotMark(index: .zero, term: .zero, membership: Membership(voters: []))
        let version = start ?? Appender.Version(mark: blank, text: "")
        self.id = id
        self.settings = settings
        self.faults = faults
        self.disk = VirtualDiskOwner()
        self.machine = Appender(mark: version.mark, text: version.text)
        self.disk.with { disk in
            disk.reset(to: version.mark.index, term: version.mark.term)
            disk.commit = version.mark.index
        }
        self.handedCommit = version.mark.index
        self.core = Self.core(
            id: id,
            settings: settings,
            faults: faults,
            disk: self.disk,
            machine: self.machine,
            life: 0
        )
    }

    private static func core(
        id: NodeID,
        settings: Settings,
        faults: CoreFaults,
        disk: VirtualDiskOwner,
        machine: Appender,
        life: UInt64
    ) -> RaftCore {
        let contents = disk.contents
        var terms = TermRuns(base: contents.base.index, term: contents.base.term)
        for entry in contents.entries { terms.append(entry.term) }
        let mark = machine.newest.mark
        let restored = RestoredReplica(
            hardState: contents.hardState,
            terms: terms,
            commit: max(contents.commit, mark.index),
            applied: mark.index,
            membership: mark.membership
        )
        return RaftCore(
            id: id,
            configuration: Self.configuration(settings),
            restored: restored,
            reader: disk,
            generator: SeededGenerator(seed: id.rawValue &* 1_000_003 &+ life),
            faults: faults
        )
    }

    private static func configuration(_ settings: Settings) -> RaftConfiguration {
        var configuration = RaftConfiguration()
        configuration.electionTicks = settings.electionTicks
        configuration.heartbeatTicks = settings.heartbeatTicks
        configuration.preVote = settings.preVote
        configuration.checkQuorum = settings.checkQuorum
        configuration.stepDownOnRemoval = settings.stepDownOnRemoval
        configuration.leaseReads = settings.leaseReads
        configuration.leaseDriftTicks = 1
        configuration.electionPriority = settings.priority
        configuration.lazyCommitPush = false
        configuration.eagerMessages = true
        // Nodes that are added begin with a membership that lacks them, and there is no host to begin them anew.
        configuration.replacesSuperseded = false
        configuration.appliesUnpersisted = !settings.isAsync
        configuration.inflightMessagesMax = settings.inflightMax ?? Int(Int32.max)
        configuration.inflightBytesMax = Int(Int32.max)
        configuration.messageBytesMax = settings.messageBytesMax ?? Int(Int32.max)
        configuration.uncommittedBytesMax = settings.uncommittedBytesMax ?? Int(Int32.max)
        configuration.applyBacklogBytesMax = Int(Int32.max)
        return configuration
    }

    /// Whether `process-ready` would find anything.
    var hasReady: Bool {
        var copy = self.core
        return copy.takeReady() != nil
    }

    /// Loses memory and queued work, and of the state machine what came after `applied`.
    mutating func restart(applied: LogIndex?) -> Bool {
        if let applied = applied, !self.machine.goBack(to: applied) { return false }
        guard self.machine.applied >= self.disk.contents.base.index else { return false }
        self.appendWork = []
        self.applyWork = []
        self.offered = []
        self.life += 1
        self.handedCommit = self.disk.contents.commit
        self.core = Self.core(
            id: self.id,
            settings: self.settings,
            faults: self.faults,
            disk: self.disk,
            machine: self.machine,
            life: self.life
        )
        return true
    }

    /// What the node knows of a replica as its leader; nil when it does not lead or there is no such replica.
    func progress(of replica: NodeID) -> ReplicaProgress? { self.core.replicas.first { $0.node == replica } }

    /// An entry of the log as the core has it, on disk or not.
    func entry(at index: LogIndex) -> LogEntry? { self.core.entry(at: index) }
}

// The ready loop.
extension VirtualNode {
    /// What one round brought.
    struct Round: Sendable {
        var flights: [Flight] = []
        var reads: [(token: UInt64, index: LogIndex)] = []
        var droppedReads: [UInt64] = []
        var failure: ConsensusError?
    }

    /// One round: append, apply, hand over messages, advance; with `async` the first two are queued.
    /// - Returns: Nil when there is nothing to do.
    mutating func processReady() -> Round? {
        guard let ready = self.core.takeReady() else { return nil }
        var round = Round()
        self.takeNews(of: ready, into: &round)
        if self.settings.isAsync { self.queue(ready, into: &round) } else { self.perform(ready, into: &round) }
        return round
    }

    private func takeNews(of ready: Ready, into round: inout Round) {
        round.reads.append(contentsOf: ready.reads.map { (token: $0.token, index: $0.index) })
        round.droppedReads.append(contentsOf: ready.droppedReads)
        round.failure = round.failure ?? ready.failure
    }

    private mutating func perform(_ ready: Ready, into round: inout Round) {
        self.write(Self.work(of: ready))
        self.handedCommit = max(self.handedCommit, ready.commit)
        var later: [Flight] = []
        if let offer = ready.snapshotToInstall { later = self.install(offer.offer.mark, into: &round) }
        self.apply(ready.committed)
        round.flights.append(contentsOf: self.flights(ready.sendNow))
        round.flights.append(contentsOf: self.flights(ready.sendWhenPersisted))
        round.flights.append(contentsOf: later)
        if let ticket = ready.ticket { self.core.persisted(ticket) }
        if let last = ready.committed.last { self.core.applied(last.index) }
    }

    private mutating func queue(_ ready: Ready, into round: inout Round) {
        var work = Self.work(of: ready)
        // A promise that the core lets go at once, with nothing left to be written, still passes by the disk's queue.
        let isDiskIdle = ready.ticket == nil && !self.core.isWriting
        for flight in self.flights(ready.sendNow) {
            if isDiskIdle, flight.kind.isPromise { work.answers.append(flight) } else { round.flights.append(flight) }
        }
        work.answers.append(contentsOf: self.flights(ready.sendWhenPersisted))
        work.answers.append(contentsOf: self.notices(of: ready))
        work.snapshot = ready.snapshotToInstall?.offer.mark
        let isNews = ready.commit > self.handedCommit
        if isNews { self.handedCommit = ready.commit }
        if ready.ticket != nil || isNews || !work.answers.isEmpty || work.snapshot != nil {
            self.appendWork.append(work)
        }
        if !ready.committed.isEmpty { self.applyWork.append(ready.committed) }
    }

    /// What the disk tells the node itself once `ready` is written.
    private func notices(of ready: Ready) -> [Flight] {
        guard let ticket = ready.ticket else { return [] }
        func notice(_ kind: FlightKind) -> Flight {
            Flight(to: self.id, term: self.core.term, kind: kind, .persisted(ticket))
        }
        var notices: [Flight] = []
        if self.core.role == .candidate, ready.hardState?.vote == self.id { notices.append(notice(.voteResp)) }
        if !ready.entries.isEmpty {
            if self.core.role == .leader { notices.append(notice(.appResp)) }
            notices.append(notice(.storageAppendResp))
        }
        return notices
    }

    /// Does the oldest queued append.
    mutating func processAppend() -> Round? {
        guard !self.appendWork.isEmpty else { return nil }
        let work = self.appendWork.removeFirst()
        var round = Round()
        self.write(work)
        round.flights = work.answers
        if let mark = work.snapshot { round.flights.append(contentsOf: self.install(mark, into: &round)) }
        let isNoticed = work.answers.contains {
            if case .persisted = $0.cargo { return true }
            return false
        }
        if let ticket = work.ticket, !isNoticed { self.core.persisted(ticket) }
        return round
    }

    /// Does the oldest queued apply.
    mutating func processApply() -> Round? {
        guard !self.applyWork.isEmpty else { return nil }
        let entries = self.applyWork.removeFirst()
        self.apply(entries)
        var round = Round()
        if let last = entries.last {
            let cargo = Flight.Cargo.applied(last.index)
            round.flights = [Flight(to: self.id, term: .zero, kind: .storageApplyResp, cargo)]
        }
        return round
    }

    private static func work(of ready: Ready) -> AppendWork {
        AppendWork(
            ticket: ready.ticket,
            hardState: ready.hardState,
            reset: ready.resetLog,
            truncateFrom: ready.truncateFrom,
            entries: ready.entries,
            commit: ready.commit
        )
    }

    private func write(_ work: AppendWork) {
        self.disk.with { disk in
            if let hardState = work.hardState { disk.hardState = hardState }
            if let mark = work.reset { disk.reset(to: mark.index, term: mark.term) }
            if let from = work.truncateFrom { disk.truncate(from: from) }
            disk.append(work.entries)
            disk.commit = max(disk.commit, min(work.commit, disk.last))
        }
    }

    private mutating func apply(_ entries: [LogEntry]) {
        for entry in entries {
            // A restart that kept more of the state machine than the core knew hands nothing out twice.
            guard entry.index == self.machine.applied.next else { continue }
            var membership = self.machine.newest.mark.membership
            if entry.kind == .membership, let change = try? MembershipChange(bytes: entry.payload),
                let after = try? membership.applying(change, at: entry.index)
            {
                membership = after
            }
            self.machine.apply(entry, membership: membership)
        }
    }

    /// Brings the content of an offered snapshot into the state machine, then resets the log to it.
    private mutating func install(_ mark: SnapshotMark, into round: inout Round) -> [Flight] {
        guard let content = self.offered.last(where: { $0.mark == mark }) else {
            self.core.snapshotFailed()
            return []
        }
        self.offered.removeAll { $0.mark.index <= mark.index }
        if mark.index > self.machine.applied { self.machine.install(content) }
        self.core.snapshotInstalled(mark)
        guard let ready = self.core.takeReady() else { return [] }
        self.takeNews(of: ready, into: &round)
        self.write(Self.work(of: ready))
        self.handedCommit = max(self.handedCommit, ready.commit)
        self.apply(ready.committed)
        let flights = self.flights(ready.sendNow) + self.flights(ready.sendWhenPersisted)
        if let ticket = ready.ticket { self.core.persisted(ticket) }
        if let last = ready.committed.last { self.core.applied(last.index) }
        return flights
    }

    /// Messages of the core, as they travel: an offer of a snapshot brings the content.
    private func flights(_ messages: [RaftMessage]) -> [Flight] {
        messages.map { message in
            guard case .snapshot(let offer) = message.body else { return Flight(message, content: nil) }
            return Flight(message, content: self.machine.version(at: offer.mark.index))
        }
    }

    /// Takes what arrives.
    mutating func receive(_ cargo: Flight.Cargo) {
        switch cargo {
        case .message(let message, let content):
            if let content = content, !self.offered.contains(content) { self.offered.append(content) }
            self.core.step(message)
        case .persisted(let ticket): self.core.persisted(ticket)
        case .applied(let index): self.core.applied(index)
        }
    }
}
