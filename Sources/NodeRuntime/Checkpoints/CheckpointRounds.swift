internal import AuditLedger
internal import Primitives

/// When which organization gets a checkpoint, who is asked to sign it, and when it is done; pure.
///
/// Told what happens (a ledger has grown, a client waits, signatures have come) with the time at which it does, it says
/// what to do next. It holds something only for organizations that have changed since their last checkpoint, that were
/// signed a moment ago, or that somebody waits for. One round an organization: the group's leader signs the head of its
/// own store, asks the other voters to sign the same head of theirs, and publishes what a majority has signed.
///
/// Nothing here knows keys, stores or links: signatures are opaque, and who may lead is asked for.
struct CheckpointRounds: Sendable {
    /// How fast, how long and how much.
    struct Pace: Sendable {
        /// Between the beginnings of two rounds of one organization that nobody waits for.
        var interval = Duration.milliseconds(200)
        /// Rounds at ``interval`` of an organization that never rests; then it doubles up to ``intervalMax``, as every
        /// checkpoint is kept.
        var briskRounds = 5
        var intervalMax = Duration.seconds(2)
        /// How far apart rounds that nobody waits for begin on this node, when more than ``burst`` are due:
        /// signing and checking a round costs the replicas about a millisecond together, so that a thousand organizations
        /// get theirs in turn and cost a small part of a core. While few change none waits.
        var spacing = Duration.milliseconds(25)
        /// Behind rounds that wait so long others follow at ``spacingMin``, so that of many thousands none waits for minutes.
        var lineMax = Duration.seconds(10)
        var spacingMin = Duration.microseconds(2_500)
        /// Rounds that wait for their turn begin together at multiples of this: one write of promises, one question to each
        /// replica and one store of what came of it for all of them.
        var gather = Duration.milliseconds(250)
        /// Rounds that begin without ``spacing`` after a rest of the node.
        var burst = 64
        /// After the first change, so that what comes at once goes together.
        var linger = Duration.milliseconds(20)
        /// A round without a majority is given up after this.
        var roundMax = Duration.seconds(2)
        /// How long after a majority has signed the others are waited for.
        var grace = Duration.milliseconds(150)
        /// Before a replica that has not applied enough is asked again; doubles up to ``againMax``.
        var againFirst = Duration.milliseconds(5)
        var againMax = Duration.milliseconds(100)
        /// After a round that failed; doubles up to ``backoffMax``.
        var backoffFirst = Duration.milliseconds(500)
        var backoffMax = Duration.seconds(10)
        /// How long a finished checkpoint waits for a request that takes it along.
        var noteDelay = Duration.milliseconds(200)
        /// Organizations in one request, and in one turn of signing.
        var batchMax = 256
        /// Who may wait for one organization.
        var demandsMax = 1024
    }

    /// Somebody who waits for a checkpoint of everything acknowledged before.
    typealias Demand = UInt64

    /// A head as this node has signed it.
    struct OwnHead: Sendable, Equatable {
        let size: UInt64
        let root: Digest
        /// As log and as replica.
        let signatures: [NoteSignature]
    }

    /// What came of signing the head of this node's own store.
    enum Signing: Sendable, Equatable {
        case signed(OwnHead)
        /// Applied state is behind what was signed before: it comes again by itself.
        case later
        /// There is no key, or this store contradicts what was signed: nothing that time heals.
        case refused
    }

    /// What one replica answered.
    enum Answer: Sendable, Equatable {
        case signed([NoteSignature])
        /// It has not applied enough yet.
        case behind
        /// It does not sign this head.
        case refused
    }

    /// A checkpoint that a majority has signed, with all signatures so far.
    struct Published: Sendable, Equatable {
        let organization: OrganizationID
        let size: UInt64
        let root: Digest
        /// By node, this one first.
        let signatures: [(node: NodeID, signatures: [NoteSignature])]

        static func == (left: Self, right: Self) -> Bool {
            left.organization == right.organization && left.size == right.size && left.root == right.root
                && left.signatures.elementsEqual(right.signatures) {
                    $0.node == $1.node && $0.signatures == $1.signatures
                }
        }
    }

    /// A head to be signed by a replica.
    struct Proposal: Sendable, Equatable {
        let organization: OrganizationID
        let head: OwnHead
    }

    /// A finished checkpoint to be given to a replica.
    struct NoteName: Sendable, Hashable {
        let organization: OrganizationID
        let size: UInt64
    }

    /// How waiting ended.
    enum Outcome: Sendable, Equatable {
        case published(size: UInt64)
        case noQuorum
        case notLeader
        case refused
        case overloaded
    }

    /// What is to be done; every one but the last two is answered by an event.
    enum Action: Sendable, Equatable {
        /// Sign the present heads; answered by ``didSign(_:at:)``.
        case sign([OrganizationID])
        /// Ask a replica; answered by ``answered(_:_:at:)`` or ``failed(_:at:)``.
        case ask(NodeID, [Proposal], [NoteName])
        /// Store, and give to whoever wants it.
        case publish(Published)
        case end([Demand], Outcome)
    }

    private struct Round {
        let head: OwnHead
        let quorum: SigningQuorum
        var signatures: [(node: NodeID, signatures: [NoteSignature])]
        /// Whose answer is still to come, with how often they were asked.
        var awaited: [NodeID: Int]
        var demands: [Demand]
        let endsAt: Duration
        /// How often keys had changed when it began.
        let keyChanges: Int
        var quorumAt: Duration?
        var isPublished = false
    }

    private enum Phase {
        case idle
        case signing([Demand])
        case collecting(Round)
    }

    private struct Work {
        let group: GroupID
        /// The size that the ledger has reached, as far as is known.
        var wanted: UInt64 = 0
        /// The size of the newest checkpoint that a majority has signed.
        var done: UInt64 = 0
        var phase = Phase.idle
        /// No round begins before, unless somebody waits.
        var restsUntil = Duration.zero
        /// No round begins before, whoever waits.
        var blockedUntil = Duration.zero
        var waiting: [Demand] = []
        var failures = 0
        /// Rounds that nobody waited for, since the organization last rested.
        var streak = 0
        /// The next round that nobody waits for has its place among those of the node.
        var hasPlace = false

        var isDirty: Bool { self.wanted > self.done }
    }

    private struct Peer {
        var isBusy = false
        /// What is on its way.
        var asked: [NoteName] = []
        var carried: [NoteName] = []
        var asks = DueQueue<NoteName>()
        /// The newest finished checkpoint of each organization that it was not given yet.
        var notes: [OrganizationID: UInt64] = [:]
        var notesAt = Duration.zero
        var failures = 0
    }

    let node: NodeID
    let pace: Pace
    private var works: [OrganizationID: Work] = [:]
    private var due = DueQueue<OrganizationID>()
    private var peers: [NodeID: Peer] = [:]
    private var toSign: [OrganizationID] = []
    private var isSigning = false
    /// How often keys were published or retired, and how often they had been when the present signing began.
    private var keyChanges = 0
    private var signedUnder = 0
    /// When the next round that nobody waits for would begin if all were ``Pace/spacing`` apart.
    private var nextPlace = Duration.zero
    private var ready: [Action] = []

    init(node: NodeID, pace: Pace = Pace()) {
        self.node = node
        self.pace = pace
    }

    /// Organizations that something is held for.
    var workCount: Int { self.works.count }
    /// Organizations whose ledger has grown beyond the last checkpoint known here.
    var dirtyCount: Int { self.works.values.count(where: \.isDirty) }

    /// Groups of the organizations that something is held for.
    var groups: Set<GroupID> { Set(self.works.values.map(\.group)) }

    // MARK: Events

    /// A ledger has grown to `size` on this node.
    /// - Returns: Whether there may be something to do that was not there before.
    mutating func changed(_ organization: OrganizationID, group: GroupID, size: UInt64, at now: Duration) -> Bool {
        let isNew = self.works[organization] == nil
        var work = self.works[organization] ?? Work(group: group)
        let wasDirty = work.isDirty
        work.wanted = max(work.wanted, size)
        if isNew { work.restsUntil = now + self.pace.linger }
        self.works[organization] = work
        guard !wasDirty, work.isDirty else { return false }
        self.due.push(organization, at: max(now, work.restsUntil))
        return true
    }

    /// Somebody waits for a checkpoint of everything that the ledger holds now.
    mutating func demanded(_ organization: OrganizationID, group: GroupID, by demand: Demand, at now: Duration) {
        var work = self.works[organization] ?? Work(group: group)
        if work.waiting.count >= self.pace.demandsMax {
            self.ready.append(.end([demand], .overloaded))
        } else {
            work.waiting.append(demand)
            self.due.push(organization, at: max(now, work.blockedUntil))
        }
        self.works[organization] = work
    }

    /// Nobody waits under this name any more.
    mutating func withdrew(_ demand: Demand, of organization: OrganizationID) {
        self.works[organization]?.waiting.removeAll { $0 == demand }
    }

    /// This node leads the group now, or does not any more: what waits for that is looked at.
    mutating func leadershipChanged(of group: GroupID, at now: Duration) {
        for (organization, work) in self.works where work.group == group { self.due.push(organization, at: now) }
    }

    /// Keys were published or retired: what nobody could sign, or too few, may be signed now.
    mutating func keysChanged(at now: Duration) {
        self.keyChanges += 1
        for organization in self.works.keys {
            self.works[organization]?.blockedUntil = .zero
            self.works[organization]?.failures = 0
            self.due.push(organization, at: now)
        }
    }

    /// A checkpoint that a majority has signed was stored here.
    mutating func stored(_ organization: OrganizationID, size: UInt64, at now: Duration) {
        guard var work = self.works[organization] else { return }
        work.done = max(work.done, size)
        self.works[organization] = work
        self.due.push(organization, at: now)
    }

    /// The organization has left this node.
    mutating func forget(_ organization: OrganizationID) {
        guard let work = self.works.removeValue(forKey: organization) else { return }
        var demands = work.waiting
        switch work.phase {
        case .idle: break
        case .signing(let others): demands += others
        case .collecting(let round): demands += round.demands
        }
        if !demands.isEmpty { self.ready.append(.end(demands, .notLeader)) }
        for node in self.peers.keys { self.peers[node]?.notes[organization] = nil }
    }

    /// This node has signed what ``Action/sign(_:)`` asked for, or not.
    /// - Parameter quorum: Of each organization that was signed; nil when this node does not lead its group any more.
    mutating func didSign(
        _ results: [(organization: OrganizationID, signing: Signing, quorum: SigningQuorum?)],
        at now: Duration
    ) {
        self.isSigning = false
        for (organization, signing, quorum) in results {
            guard var work = self.works[organization], case .signing(let demands) = work.phase else { continue }
            work.phase = .idle
            work.restsUntil = now + self.interval(after: work.streak)
            switch signing {
            case .signed(let head):
                if let quorum {
                    self.open(organization, &work, head, quorum, demands, now)
                } else {
                    self.end(demands, .notLeader)
                }
            case .later:
                work.waiting = demands + work.waiting
                work.blockedUntil = now + self.pace.againMax
            case .refused where self.signedUnder != self.keyChanges:
                // Perhaps only for want of a key that has come meanwhile.
                work.waiting = demands + work.waiting
                work.restsUntil = now
            case .refused:
                self.end(demands + work.waiting, .refused)
                work.waiting = []
                work.blockedUntil = now + self.pace.backoffMax
            }
            self.works[organization] = work
            self.due.push(organization, at: max(now, work.blockedUntil))
        }
    }

    private mutating func open(
        _ organization: OrganizationID,
        _ work: inout Work,
        _ head: OwnHead,
        _ quorum: SigningQuorum,
        _ demands: [Demand],
        _ now: Duration
    ) {
        work.wanted = max(work.wanted, head.size)
        var round = Round(
            head: head,
            quorum: quorum,
            signatures: [(self.node, head.signatures)],
            awaited: [:],
            demands: demands,
            endsAt: now + self.pace.roundMax,
            keyChanges: self.signedUnder
        )
        for peer in quorum.signers where peer != self.node {
            round.awaited[peer] = 0
            self.peers[peer, default: Peer()].asks.push(NoteName(organization: organization, size: head.size), at: now)
        }
        self.look(&work, &round, now)
        work.phase = .collecting(round)
        self.due.push(organization, at: round.endsAt)
    }

    /// A replica has answered the last ``Action/ask(_:_:_:)``; signatures are checked already.
    mutating func answered(_ node: NodeID, _ answers: [(name: NoteName, answer: Answer)], at now: Duration) {
        guard var peer = self.peers[node], peer.isBusy else { return }
        let missing = Set(peer.asked).subtracting(answers.map(\.name))
        peer.isBusy = false
        peer.failures = 0
        for name in peer.carried where peer.notes[name.organization].map({ $0 <= name.size }) ?? false {
            peer.notes[name.organization] = nil
        }
        peer.notesAt = now + self.pace.noteDelay
        self.peers[node] = peer
        for (name, answer) in answers { self.take(answer, to: name, from: node, now) }
        for name in missing { self.take(.refused, to: name, from: node, now) }
    }

    /// A replica has not answered the last ``Action/ask(_:_:_:)``.
    mutating func failed(_ node: NodeID, at now: Duration) {
        guard var peer = self.peers[node], peer.isBusy else { return }
        let asked = peer.asked
        peer.isBusy = false
        peer.failures += 1
        peer.notesAt = now + self.delay(after: peer.failures)
        self.peers[node] = peer
        for name in asked { self.take(.refused, to: name, from: node, now) }
    }

    private mutating func take(_ answer: Answer, to name: NoteName, from node: NodeID, _ now: Duration) {
        guard var work = self.works[name.organization], case .collecting(var round) = work.phase,
            round.head.size == name.size, let tries = round.awaited[node]
        else { return }
        switch answer {
        case .signed(let signatures):
            round.awaited[node] = nil
            round.signatures.append((node, signatures))
            // Once published, every further signature is worth a place beside the others.
            round.isPublished = false
        case .refused: round.awaited[node] = nil
        case .behind:
            round.awaited[node] = tries + 1
            let pause = min(self.pace.againMax, self.pace.againFirst * (1 << min(tries, 10)))
            self.peers[node]?.asks.push(name, at: now + pause)
        }
        self.look(&work, &round, now)
        work.phase = .collecting(round)
        self.works[name.organization] = work
        self.due.push(name.organization, at: now)
    }

    /// Notes when a majority has signed.
    private mutating func look(_ work: inout Work, _ round: inout Round, _ now: Duration) {
        guard round.quorumAt == nil, round.quorum.isReached(by: round.signatures.map(\.node)) else { return }
        round.quorumAt = now
        work.done = max(work.done, round.head.size)
        work.failures = 0
    }

    private func interval(after streak: Int) -> Duration {
        let doublings = min(max(streak - self.pace.briskRounds, 0), 10)
        return min(self.pace.intervalMax, self.pace.interval * (1 << doublings))
    }

    private func delay(after failures: Int) -> Duration {
        min(self.pace.backoffMax, self.pace.backoffFirst * (1 << min(max(failures - 1, 0), 10)))
    }

    private mutating func end(_ demands: [Demand], _ outcome: Outcome) {
        if !demands.isEmpty { self.ready.append(.end(demands, outcome)) }
    }

    /// A stored checkpoint is to be given to the other replicas, also when they have it with fewer signatures.
    mutating func spread(_ organization: OrganizationID, size: UInt64, to quorum: SigningQuorum, at now: Duration) {
        for node in quorum.replicas where node != self.node {
            var peer = self.peers[node] ?? Peer()
            if peer.notes.isEmpty { peer.notesAt = max(peer.notesAt, now + self.pace.noteDelay) }
            peer.notes[organization] = max(peer.notes[organization] ?? 0, size)
            // What is on its way may lack the newest signatures.
            peer.carried.removeAll { $0.organization == organization && $0.size == size }
            self.peers[node] = peer
        }
    }

    // MARK: What to do

    /// What is to be done now, and when to ask again at the latest; nil when only an event can bring something.
    ///
    /// - Parameter leads: The signers of a group that this node leads; nil for one that it does not.
    mutating func next(at now: Duration, leads: (GroupID) -> SigningQuorum?) -> (actions: [Action], again: Duration?) {
        while let organization = self.due.pop(at: now) { self.consider(organization, now, leads) }
        if !self.isSigning, !self.toSign.isEmpty {
            let batch = Array(self.toSign.prefix(self.pace.batchMax))
            self.toSign.removeFirst(batch.count)
            self.isSigning = true
            self.signedUnder = self.keyChanges
            self.ready.append(.sign(batch))
        }
        var again = self.due.first
        for node in self.peers.keys.sorted() {
            guard let time = self.ask(node, now) else { continue }
            again = again.map { min($0, time) } ?? time
        }
        defer { self.ready = [] }
        return (self.ready, again)
    }

    private mutating func consider(
        _ organization: OrganizationID,
        _ now: Duration,
        _ leads: (GroupID) -> SigningQuorum?
    ) {
        guard var work = self.works[organization] else { return }
        if case .collecting(let round) = work.phase {
            work.phase = self.goOn(organization, &work, round, now, isLeading: leads(work.group) != nil)
        }
        guard case .idle = work.phase else {
            self.works[organization] = work
            return
        }
        if !work.isDirty, work.waiting.isEmpty {
            // Remembered for as long as the next round of it would be too early.
            let isRested = now >= max(work.restsUntil, work.blockedUntil)
            self.works[organization] = isRested ? nil : work
            if !isRested { self.due.push(organization, at: max(work.restsUntil, work.blockedUntil)) }
            return
        }
        defer { self.works[organization] = work }
        guard leads(work.group) != nil else {
            self.end(work.waiting, .notLeader)
            work.waiting = []
            return
        }
        let begin = work.waiting.isEmpty ? max(work.restsUntil, work.blockedUntil) : work.blockedUntil
        guard now >= begin else { return self.due.push(organization, at: begin) }
        if work.waiting.isEmpty {
            if !work.hasPlace {
                work.hasPlace = true
                work.restsUntil = max(work.restsUntil, self.takePlace(now))
                guard now >= work.restsUntil else { return self.due.push(organization, at: work.restsUntil) }
            }
            work.streak += 1
        }
        work.hasPlace = false
        work.phase = .signing(work.waiting)
        work.waiting = []
        self.toSign.append(organization)
    }

    /// When one more round that nobody waits for may begin.
    private mutating func takePlace(_ now: Duration) -> Duration {
        let place = max(self.nextPlace, now - self.pace.spacing * self.pace.burst)
        self.nextPlace = place + (place - now > self.pace.lineMax ? self.pace.spacingMin : self.pace.spacing)
        guard place > now else { return now }
        return self.pace.gather * Int64((place / self.pace.gather).rounded(.up))
    }

    /// What a round has come to: goes on, or ends.
    private mutating func goOn(
        _ organization: OrganizationID,
        _ work: inout Work,
        _ round: Round,
        _ now: Duration,
        isLeading: Bool
    ) -> Phase {
        var round = round
        guard let quorumAt = round.quorumAt else {
            guard isLeading, !round.awaited.isEmpty, now < round.endsAt else {
                if isLeading, round.keyChanges != self.keyChanges {
                    work.waiting = round.demands + work.waiting
                    self.due.push(organization, at: now)
                    return .idle
                }
                self.end(round.demands, isLeading ? .noQuorum : .notLeader)
                work.failures += 1
                work.blockedUntil = now + self.delay(after: work.failures)
                self.due.push(organization, at: work.blockedUntil)
                return .idle
            }
            return .collecting(round)
        }
        let isComplete = round.awaited.isEmpty || now >= min(quorumAt + self.pace.grace, round.endsAt)
        guard isComplete else {
            self.due.push(organization, at: quorumAt + self.pace.grace)
            return .collecting(round)
        }
        if !round.isPublished {
            round.isPublished = true
            self.publish(organization, round, now)
        }
        self.end(round.demands, .published(size: round.head.size))
        round.demands = []
        let isNextDue = !work.waiting.isEmpty || work.isDirty && now >= work.restsUntil
        if round.awaited.isEmpty || now >= round.endsAt || isNextDue { return .idle }
        if work.isDirty { self.due.push(organization, at: work.restsUntil) }
        return .collecting(round)
    }

    private mutating func publish(_ organization: OrganizationID, _ round: Round, _ now: Duration) {
        self.ready.append(
            .publish(
                Published(
                    organization: organization,
                    size: round.head.size,
                    root: round.head.root,
                    signatures: round.signatures
                )
            )
        )
        self.spread(organization, size: round.head.size, to: round.quorum, at: now)
    }

    /// Asks a replica for everything that is due.
    /// - Returns: When to look again; nil when there is nothing for it, or it is busy.
    private mutating func ask(_ node: NodeID, _ now: Duration) -> Duration? {
        guard var peer = self.peers[node], !peer.isBusy else { return nil }
        var proposals: [Proposal] = []
        while proposals.count < self.pace.batchMax, let name = peer.asks.pop(at: now) {
            guard case .collecting(let round)? = self.works[name.organization]?.phase,
                round.head.size == name.size, round.awaited[node] != nil,
                !proposals.contains(where: { $0.organization == name.organization })
            else { continue }
            proposals.append(Proposal(organization: name.organization, head: round.head))
        }
        let hasNotes = !peer.notes.isEmpty && (now >= peer.notesAt || !proposals.isEmpty && peer.failures == 0)
        if !proposals.isEmpty || hasNotes {
            let notes = hasNotes ? peer.notes.keys.sorted().prefix(self.pace.batchMax) : []
            peer.carried = notes.map { NoteName(organization: $0, size: peer.notes[$0] ?? 0) }
            peer.asked = proposals.map { NoteName(organization: $0.organization, size: $0.head.size) }
            peer.isBusy = true
            self.ready.append(.ask(node, proposals, peer.carried))
            self.peers[node] = peer
            return nil
        }
        self.peers[node] = peer
        let notesAt = peer.notes.isEmpty ? nil : peer.notesAt
        return [peer.asks.first, notesAt].compactMap { $0 }.min()
    }
}
