internal import AuditLedger
internal import Consensus
internal import Foundation
internal import Laboratory
internal import Logging
internal import Primitives
internal import Shards
internal import Storage
internal import Synchronization

/// Sees to it that every replica has the keys of its data subjects, and that none has one of an erased subject.
///
/// Keys go from node to node over the peers' connections and never through a group's log. The leader of a group makes a
/// key and answers when a majority of the replicas keeps it; who was away fetches it later. When a subject is erased every
/// replica destroys its keys; the leader asks all of them until all have, and then completes the erasure.
final class SubjectKeeper: Sendable {
    /// What is to be done.
    struct Work {
        /// Data subjects whose keys must be looked at.
        var subjects: Set<SubjectKeyRing.Subject> = []
        /// Organizations of which all data subjects must.
        var organizations: Set<OrganizationID> = []
        /// Groups in which erasures may be pending.
        var groups: Set<GroupID> = []
        /// Organizations that have left this node and of which it still has keys.
        var departed: Set<OrganizationID> = []

        var isEmpty: Bool {
            self.subjects.isEmpty && self.organizations.isEmpty && self.groups.isEmpty && self.departed.isEmpty
        }

        mutating func formUnion(_ other: Work) {
            self.subjects.formUnion(other.subjects)
            self.organizations.formUnion(other.organizations)
            self.groups.formUnion(other.groups)
            self.departed.formUnion(other.departed)
        }
    }

    struct State {
        var work = Work()
        /// What could not be done and is tried again after a pause.
        var later = Work()
        /// Whether somebody waits for that pause to end.
        var isArmed = false
    }

    /// Data subjects that are remembered one by one; beyond it their organization is looked at as a whole.
    static let subjectsMax = 10_000
    /// Data subjects of one step, and of one request.
    static let pageMax = 500
    /// Before what was not done is tried again; doubled each time.
    static let pauseMin = Duration.milliseconds(250)
    static let pauseMax = Duration.seconds(8)
    /// How long a replica may take to keep keys.
    static let keepTimeout = Duration.seconds(2)
    /// How long a replica may take to destroy keys: it writes files anew.
    static let destroyTimeout = Duration.seconds(30)

    let node: NodeID
    let ring: SubjectKeyRing
    let applier: ShardApplier
    let directory: ShardDirectory
    let host: RaftHost
    let placement: Placement
    let links: PeerLinks
    let threads: StoreThreads
    /// Destroys keys: it writes files anew, which takes long.
    let erasing: SerialThread
    let reads: ReadGate
    let gateway: CommandGateway
    let timeout: Duration
    let logger: Logger
    /// Erasures that wait for replicas, in groups that this node leads.
    let pending: PendingErasures
    let state = Mutex(State())
    private let signals: AsyncStream<Void>
    private let signal: AsyncStream<Void>.Continuation

    init(
        node: NodeID,
        ring: SubjectKeyRing,
        applier: ShardApplier,
        host: RaftHost,
        placement: Placement,
        links: PeerLinks,
        threads: StoreThreads,
        erasing: SerialThread,
        reads: ReadGate,
        gateway: CommandGateway,
        timeout: Duration,
        logger: Logger,
        pending: PendingErasures
    ) {
        self.node = node
        self.ring = ring
        self.applier = applier
        self.directory = applier.directory
        self.host = host
        self.placement = placement
        self.links = links
        self.threads = threads
        self.erasing = erasing
        self.reads = reads
        self.gateway = gateway
        self.timeout = timeout
        self.logger = logger
        self.pending = pending
        (self.signals, self.signal) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    }

    // MARK: News

    /// A data subject has another key than before or was erased, or any may (`nil`); called on a lane.
    func changed(_ organization: OrganizationID, _ subject: Digest?) {
        self.state.withLock { state in
            guard let subject, state.work.subjects.count < Self.subjectsMax else {
                state.work.organizations.insert(organization)
                return
            }
            state.work.subjects.insert(SubjectKeyRing.Subject(organization: organization, digest: subject))
        }
        self.signal.yield()
    }

    /// The leader or the members of a group may have changed.
    func groupChanged(_ group: GroupID) {
        _ = self.state.withLock { $0.work.groups.insert(group) }
        self.signal.yield()
    }

    /// An organization has left this node.
    func discarded(_ organization: OrganizationID) {
        _ = self.state.withLock { $0.work.departed.insert(organization) }
        self.signal.yield()
    }

    // MARK: Life

    /// Works until cancelled.
    func run() async {
        await self.lookAtStart()
        await withDiscardingTaskGroup { group in
            var pause = Self.pauseMin
            for await _ in self.signals {
                let work = self.state.withLock { state in
                    defer { state.work = Work() }
                    return state.work
                }
                let left = await self.perform(work)
                if left.isEmpty {
                    if self.state.withLock({ $0.later.isEmpty }) { pause = Self.pauseMin }
                    continue
                }
                let isArmed = self.state.withLock { state in
                    defer { state.isArmed = true }
                    state.later.formUnion(left)
                    return state.isArmed
                }
                if isArmed { continue }
                let wait = pause
                pause = min(pause * 2, Self.pauseMax)
                group.addTask { await self.comeBack(after: wait) }
            }
            group.cancelAll()
        }
    }

    private func comeBack(after pause: Duration) async {
        try? await Task.sleep(for: pause)
        self.state.withLock { state in
            state.work.formUnion(state.later)
            state.later = Work()
            state.isArmed = false
        }
        self.signal.yield()
    }

    /// What happened while the node did not run: everything is looked at once.
    private func lookAtStart() async {
        let ring = self.ring
        var organizations: Set<OrganizationID> = []
        var last: SubjectKeyRing.Subject?
        do {
            repeat {
                let page = try await self.threads.run { [last] in try ring.subjects(after: last, limit: Self.pageMax) }
                for subject in page { organizations.insert(subject.organization) }
                last = page.count < Self.pageMax ? nil : page.last
            } while last != nil && !Task.isCancelled
        } catch {
            self.logger.error(
                "the keys of data subjects cannot be read",
                metadata: ["error.chain": "\(errorChain(error))"]
            )
        }
        let known = self.directory.organizations.map(\.id)
        let groups = self.placement.groups
        self.state.withLock { [organizations] state in
            state.work.organizations.formUnion(organizations)
            state.work.organizations.formUnion(known)
            state.work.groups.formUnion(groups)
        }
        self.signal.yield()
    }

    /// Does what it can.
    /// - Returns: What is to be tried again.
    private func perform(_ work: Work) async -> Work {
        var left = Work()
        for organization in work.organizations where !Task.isCancelled {
            if await !self.lookAtAll(of: organization) { left.organizations.insert(organization) }
        }
        let byOrganization = Dictionary(grouping: work.subjects, by: \.organization)
        for (organization, subjects) in byOrganization where !Task.isCancelled {
            left.subjects.formUnion(await self.look(at: subjects.map(\.digest), of: organization))
        }
        var groups = work.groups
        for organization in work.organizations.union(byOrganization.keys) {
            if let entry = self.directory.organization(organization) { groups.insert(entry.group) }
        }
        for group in groups where !Task.isCancelled {
            if await !self.completeErasures(of: group) { left.groups.insert(group) }
        }
        for organization in work.departed where !Task.isCancelled {
            if await !self.handOver(organization) { left.departed.insert(organization) }
        }
        return left
    }

    // MARK: Looking

    /// Whether this node has a replica of a group, or shall have one.
    func isReplica(of group: GroupID) -> Bool {
        self.host.status(of: group) != nil || self.placement.nodes(of: group).contains(self.node)
    }

    /// Looks at every data subject of an organization.
    /// - Returns: false when something is to be tried again.
    private func lookAtAll(of organization: OrganizationID) async -> Bool {
        guard let entry = self.directory.organization(organization) else { return false }
        guard self.placement.servesHere(entry.group) else {
            // Not yet here, or not any more.
            if self.isReplica(of: entry.group) { return false }
            return await self.handOver(organization)
        }
        var after: Digest?
        var isDone = true
        let applier = self.applier
        repeat {
            do {
                let page = try await self.threads.run { [after] in
                    try applier.subjects(of: organization, in: entry.group, after: after, limit: Self.pageMax)
                }
                let digests = page.map { SubjectEntry.digest(of: $0.subject) }
                if await !self.look(at: digests, of: organization).isEmpty { isDone = false }
                after = page.count < Self.pageMax ? nil : digests.last
            } catch {
                self.warn("the data subjects of an organization cannot be read", organization, error)
                return false
            }
        } while after != nil && !Task.isCancelled
        return isDone
    }

    /// Destroys the keys of those that are erased, and fetches those of the others that are missing here.
    /// - Returns: Those that are to be tried again.
    private func look(
        at subjects: [Digest],
        of organization: OrganizationID
    ) async -> [SubjectKeyRing.Subject] {
        guard let entry = self.directory.organization(organization), self.placement.servesHere(entry.group) else {
            return []
        }
        let all = subjects.map { SubjectKeyRing.Subject(organization: organization, digest: $0) }
        let (ring, applier) = (self.ring, self.applier)
        do {
            let (erased, missing) = try await self.threads.run {
                var erased: [SubjectKeyRing.Subject] = []
                var missing: [(subject: SubjectKeyRing.Subject, name: SubjectKeyName)] = []
                for subject in all {
                    guard let known = try applier.subject(subject.digest, of: organization, in: entry.group) else {
                        continue
                    }
                    if known.completedAt != nil, try ring.keys(of: subject).isEmpty { continue }
                    if known.erasedAt != nil {
                        erased.append(subject)
                    } else if ring.canKeep {
                        let here = Set(try ring.keys(of: subject).map(\.name))
                        for name in known.keys where !here.contains(name) { missing.append((subject, name)) }
                    }
                }
                return (erased, missing)
            }
            var left: [SubjectKeyRing.Subject] = []
            if !erased.isEmpty {
                let isDone = try await self.erasing.run { try ring.destroy(erased) }
                if !isDone { left += erased }
            }
            if !missing.isEmpty {
                let found = try await self.fetch(missing, of: entry)
                left += Set(missing.filter { !found.contains($0.name) }.map(\.subject))
            }
            return left
        } catch {
            self.warn("keys of data subjects cannot be looked at", organization, error)
            return all
        }
    }

    /// Gets keys from other replicas and keeps them.
    /// - Returns: The names of those that were got.
    func fetch(
        _ missing: [(subject: SubjectKeyRing.Subject, name: SubjectKeyName)],
        of entry: OrganizationEntry
    ) async throws -> Set<SubjectKeyName> {
        var wanted = missing
        var found: Set<SubjectKeyName> = []
        for peer in self.placement.others(of: entry.group) where !wanted.isEmpty && self.links.isConnected(to: peer) {
            for start in stride(from: 0, to: wanted.count, by: Self.pageMax) {
                let page = wanted[start..<min(start + Self.pageMax, wanted.count)]
                guard let keys = try? await self.find(Array(page), of: entry, on: peer) else { break }
                let good = keys.filter { key in page.contains { $0.subject == key.subject && $0.name == key.name } }
                guard !good.isEmpty else { continue }
                _ = try await self.keep(good.map { ($0.subject, $0.key) }, of: entry)
                for key in good { found.insert(key.name) }
            }
            wanted.removeAll { found.contains($0.name) }
        }
        return found
    }

    private func find(
        _ missing: [(subject: SubjectKeyRing.Subject, name: SubjectKeyName)],
        of entry: OrganizationEntry,
        on peer: NodeID
    ) async throws -> [(subject: SubjectKeyRing.Subject, name: SubjectKeyName, key: SubjectKey)] {
        var request = WireFindSubjectKeysRequest()
        request.organization = entry.id.rawValue
        request.key = entry.key.rawValue
        request.names = missing.map { missing in
            var name = WireSubjectKeyName()
            name.subject = Data(missing.subject.digest.bytes)
            name.name = missing.name.rawValue
            return name
        }
        let response: WireFindSubjectKeysResponse = try await self.links.call(
            PeerPath.findSubjectKeys,
            of: peer,
            request,
            timeout: Self.keepTimeout
        )
        return response.keys.compactMap { wire in
            guard let digest = Digest(bytes: wire.subject), let key = try? SubjectKey([UInt8](wire.secret)),
                let name = SubjectKeyName(hex: key.fingerprint)
            else { return nil }
            return (SubjectKeyRing.Subject(organization: entry.id, digest: digest), name, key)
        }
    }

    /// Keeps keys here, unless their subject is erased.
    /// - Returns: For each whether it is kept, or not needed any more.
    func keep(
        _ keys: [(subject: SubjectKeyRing.Subject, key: SubjectKey)],
        of entry: OrganizationEntry
    ) async throws -> [Bool] {
        let (ring, applier) = (self.ring, self.applier)
        return try await self.threads.run {
            _ = try ring.keep(keys) { subject in
                try applier.subject(subject.digest, of: entry.id, in: entry.group)?.erasedAt != nil
            }
            return keys.map { _ in true }
        }
    }

    func warn(_ message: Logger.Message, _ organization: OrganizationID, _ error: any Error) {
        self.logger.warning(
            message,
            metadata: ["organization.id": "\(organization)", "error.chain": "\(errorChain(error))"]
        )
    }
}
