internal import AuditLedger
internal import Foundation
internal import Laboratory
internal import Primitives
internal import Shards
internal import Storage

/// What peers ask about data subjects.
extension SubjectKeeper {
    private func entry(_ organization: UInt32, _ key: String) throws(Problem) -> OrganizationEntry {
        guard let entry = OrganizationKey(key).flatMap({ self.directory.organization($0) }),
            entry.id.rawValue == organization
        else { throw Problem(.shardUnavailable, "node \(self.node) does not know organization \(key)") }
        return entry
    }

    /// The organization, when this node has a replica of it that can be read.
    ///
    /// - Parameter isRead: Whether it is for what the ledger says; keys are also kept beside a ledger that is damaged.
    private func entryHere(
        _ organization: UInt32,
        _ key: String,
        isRead: Bool = false
    ) throws(Problem) -> OrganizationEntry {
        let entry = try self.entry(organization, key)
        guard isRead ? self.placement.servesHere(entry) : self.placement.servesHere(entry.group) else {
            throw Problem(.shardUnavailable, "node \(self.node) has no replica of \(key) to read now")
        }
        return entry
    }

    /// Makes keys, when this node leads the group.
    func answer(_ request: WireMakeSubjectKeysRequest) async -> WireMakeSubjectKeysResponse {
        var response = WireMakeSubjectKeysResponse()
        do {
            let entry = try self.entryHere(request.organization, request.key)
            let subjects = request.subjects.compactMap { Digest(bytes: $0) }
            guard subjects.count == request.subjects.count, subjects.count <= Self.pageMax else {
                throw Problem(.internal, "the question is not understood")
            }
            response.secrets = try await self.makeHere(subjects, entry).map { Data($0.bytes) }
        } catch {
            let problem = Problem.wrapping(error)
            response.problem = problem.code.rawValue
            response.detail = problem.detail
        }
        return response
    }

    /// Gives keys that another replica lacks.
    func answer(_ request: WireFindSubjectKeysRequest) async -> WireFindSubjectKeysResponse {
        var response = WireFindSubjectKeysResponse()
        guard let entry = try? self.entry(request.organization, request.key), request.names.count <= Self.pageMax else {
            return response
        }
        let ring = self.ring
        let found = try? await self.threads.run {
            try request.names.compactMap { wanted -> WireSubjectKey? in
                guard let digest = Digest(bytes: wanted.subject) else { return nil }
                let subject = SubjectKeyRing.Subject(organization: entry.id, digest: digest)
                let name = SubjectKeyName(rawValue: wanted.name)
                guard let key = try ring.keys(of: subject).first(where: { $0.name == name })?.key else { return nil }
                var wire = WireSubjectKey()
                wire.subject = wanted.subject
                wire.secret = Data(key.bytes)
                return wire
            }
        }
        response.keys = found ?? []
        return response
    }

    /// Keeps keys that a leader made, or that a node that leaves hands over.
    func answer(_ request: WireKeepSubjectKeysRequest) async -> WireKeepSubjectKeysResponse {
        var response = WireKeepSubjectKeysResponse()
        do {
            let entry = try self.entryHere(request.organization, request.key)
            let keys = request.keys.compactMap { wire -> (subject: SubjectKeyRing.Subject, key: SubjectKey)? in
                guard let digest = Digest(bytes: wire.subject), let key = try? SubjectKey([UInt8](wire.secret)) else {
                    return nil
                }
                return (SubjectKeyRing.Subject(organization: entry.id, digest: digest), key)
            }
            guard keys.count == request.keys.count else { throw Problem(.internal, "the question is not understood") }
            response.settled = try await self.keep(keys, of: entry)
        } catch {
            let problem = Problem.wrapping(error)
            response.problem = problem.code.rawValue
            response.detail = problem.detail
        }
        return response
    }

    /// Destroys keys of data subjects that are erased here too.
    func answer(_ request: WireDestroySubjectKeysRequest) async -> WireDestroySubjectKeysResponse {
        var response = WireDestroySubjectKeysResponse()
        let (ring, applier) = (self.ring, self.applier)
        let asked = request.subjects.prefix(Self.erasuresMax).map { wire in
            (entry: try? self.entryHere(wire.organization, wire.key), digest: Digest(bytes: wire.subject))
        }
        let destroyed = try? await self.erasing.run {
            let erased = try asked.map { entry, digest -> SubjectKeyRing.Subject? in
                guard let entry, let digest,
                    try applier.subject(digest, of: entry.id, in: entry.group)?.erasedAt != nil
                else { return nil }
                return SubjectKeyRing.Subject(organization: entry.id, digest: digest)
            }
            let isDone = try ring.destroy(erased.compactMap { $0 })
            return erased.map { $0 != nil && isDone }
        }
        response.destroyed = destroyed ?? asked.map { _ in false }
        return response
    }

    // MARK: Revealing

    /// A personal member of a record, opened if it can be.
    struct Revealed: Sendable {
        let path: String
        let subject: String
        /// Canonical JSON, and the salt with which it makes the commitment; nil when it cannot be opened.
        let opened: (value: [UInt8], salt: [UInt8])?
        /// The record that asked for the erasure.
        let erasedAt: SequenceNumber?
    }

    /// The personal members of a record.
    /// - Throws: ``Problem``, and what reading throws.
    func reveal(_ sequence: SequenceNumber, of entry: OrganizationEntry) async throws -> [Revealed] {
        if self.placement.servesHere(entry) {
            do {
                return try await self.revealHere(sequence, entry)
            } catch ReadGate.Failure.notHosted {
                // Another node has it now.
            }
        }
        var request = WireRevealRequest()
        request.organization = entry.id.rawValue
        request.key = entry.key.rawValue
        request.sequence = sequence.rawValue
        let response = try await self.askReplica(entry) { [request] peer in
            let response: WireRevealResponse = try await self.links.call(
                PeerPath.reveal,
                of: peer,
                request,
                timeout: self.timeout
            )
            return (response, response.problem)
        }
        guard response.problem.isEmpty else {
            throw Problem(Problem.Code(rawValue: response.problem) ?? .shardUnavailable, response.detail)
        }
        return response.fields.map { field in
            Revealed(
                path: field.path,
                subject: field.subject,
                opened: field.value.isEmpty ? nil : ([UInt8](field.value), [UInt8](field.salt)),
                erasedAt: field.erased == 0 ? nil : SequenceNumber(field.erased)
            )
        }
    }

    /// Asks the replicas in turn until one can answer.
    private func askReplica<Response: Sendable>(
        _ entry: OrganizationEntry,
        _ ask: (NodeID) async throws -> (response: Response, problem: String)
    ) async throws -> Response {
        var failure: (any Error)?
        for peer in self.placement.others(of: entry.group) where self.links.isConnected(to: peer) {
            do {
                let (response, problem) = try await ask(peer)
                if problem != Problem.Code.shardUnavailable.rawValue { return response }
            } catch {
                failure = error
            }
        }
        throw Problem(.shardUnavailable, "no replica of \(entry.key) answers", cause: failure)
    }

    private func revealHere(_ sequence: SequenceNumber, _ entry: OrganizationEntry) async throws -> [Revealed] {
        // An erasure that was acknowledged is seen.
        try await self.reads.linearize(entry.group)
        let (ring, applier) = (self.ring, self.applier)
        for attempt in 1... {
            let (revealed, missing) = try await self.threads.run {
                try Self.open(sequence, of: entry, applier, ring)
            }
            if missing.isEmpty || attempt > 1 { return revealed }
            // This replica was away when the key was made.
            _ = try await self.fetch(missing, of: entry)
        }
        return []
    }

    private static func open(
        _ sequence: SequenceNumber,
        of entry: OrganizationEntry,
        _ applier: ShardApplier,
        _ ring: SubjectKeyRing
    ) throws -> (revealed: [Revealed], missing: [(subject: SubjectKeyRing.Subject, name: SubjectKeyName)]) {
        guard let record = try applier.record(at: sequence, of: entry.id) else { return ([], []) }
        var revealed: [Revealed] = []
        var missing: [(subject: SubjectKeyRing.Subject, name: SubjectKeyName)] = []
        for (field, commitment) in try PersonalCommitment.all(in: record) {
            let subject = SubjectKeyRing.Subject(
                organization: entry.id,
                digest: SubjectEntry.digest(of: field.subject)
            )
            let erasedAt = try applier.subject(subject.digest, of: entry.id, in: entry.group)?.erasedAt
            var opened: (value: [UInt8], salt: [UInt8])?
            let rows = try applier.sealedValues(of: subject.digest, in: entry.id, at: sequence)
            if erasedAt == nil, let row = rows.first(where: { $0.path == field.path }) {
                if let key = try ring.keys(of: subject).first(where: { $0.name == row.key })?.key {
                    let plain = try key.open(row.bytes, commitment: commitment, organization: entry.key)
                    opened = (plain.value, plain.salt)
                } else {
                    missing.append((subject, row.key))
                }
            }
            revealed.append(Revealed(path: field.path, subject: field.subject, opened: opened, erasedAt: erasedAt))
        }
        return (revealed, missing)
    }

    /// Reveals to a peer whose client may see it.
    func answer(_ request: WireRevealRequest) async -> WireRevealResponse {
        var response = WireRevealResponse()
        do {
            let entry = try self.entryHere(request.organization, request.key, isRead: true)
            let revealed = try await self.revealHere(SequenceNumber(request.sequence), entry)
            response.fields = revealed.map { revealed in
                var field = WireRevealedField()
                field.path = revealed.path
                field.subject = revealed.subject
                field.value = Data(revealed.opened?.value ?? [])
                field.salt = Data(revealed.opened?.salt ?? [])
                field.erased = revealed.erasedAt?.rawValue ?? 0
                return field
            }
        } catch {
            let problem = Problem.wrapping(error)
            response.problem = problem.code.rawValue
            response.detail = problem.detail
        }
        return response
    }

    // MARK: Listing

    /// A page of the data subjects of an organization, or one of them.
    /// - Throws: ``Problem``, and what reading throws.
    func subjects(
        of entry: OrganizationEntry,
        after: Digest? = nil,
        only subject: Digest? = nil,
        limit: Int
    ) async throws -> [SubjectState] {
        if self.placement.servesHere(entry) {
            do {
                return try await self.subjectsHere(entry, after, subject, limit)
            } catch ReadGate.Failure.notHosted {
                // Another node has it now.
            }
        }
        var request = WireListSubjectsRequest()
        request.organization = entry.id.rawValue
        request.key = entry.key.rawValue
        request.after = Data(after?.bytes ?? [])
        request.subject = Data(subject?.bytes ?? [])
        request.limit = UInt32(limit)
        let response = try await self.askReplica(entry) { [request] peer in
            let response: WireListSubjectsResponse = try await self.links.call(
                PeerPath.listSubjects,
                of: peer,
                request,
                timeout: self.timeout
            )
            return (response, response.problem)
        }
        guard response.problem.isEmpty else {
            throw Problem(Problem.Code(rawValue: response.problem) ?? .shardUnavailable, response.detail)
        }
        return response.subjects.map { SubjectState($0) }
    }

    private func subjectsHere(
        _ entry: OrganizationEntry,
        _ after: Digest?,
        _ subject: Digest?,
        _ limit: Int
    ) async throws -> [SubjectState] {
        try await self.reads.linearize(entry.group)
        let applier = self.applier
        return try await self.threads.run {
            let found =
                if let subject {
                    try [applier.subject(subject, of: entry.id, in: entry.group)].compactMap { $0 }
                } else {
                    try applier.subjects(of: entry.id, in: entry.group, after: after, limit: limit)
                }
            return found.map { SubjectState($0) }
        }
    }

    /// Lists for a peer.
    func answer(_ request: WireListSubjectsRequest) async -> WireListSubjectsResponse {
        var response = WireListSubjectsResponse()
        do {
            let entry = try self.entryHere(request.organization, request.key, isRead: true)
            let limit = min(Int(request.limit), SubjectState.pageMax + 1)
            let found = try await self.subjectsHere(
                entry,
                Digest(bytes: request.after),
                Digest(bytes: request.subject),
                limit
            )
            response.subjects = found.map(\.wire)
        } catch {
            let problem = Problem.wrapping(error)
            response.problem = problem.code.rawValue
            response.detail = problem.detail
        }
        return response
    }
}

/// What the API shows of a data subject.
struct SubjectState: Sendable {
    /// Data subjects of one page.
    static let pageMax = 1000

    let subject: String
    let values: UInt64
    let keys: [SubjectKeyName]
    let isHeld: Bool
    let erasedAt: UInt64?
    let completedAt: UInt64?

    init(_ entry: SubjectEntry) {
        self.subject = entry.subject
        self.values = entry.values
        self.keys = entry.keys
        self.isHeld = entry.isHeld
        self.erasedAt = entry.erasedAt?.rawValue
        self.completedAt = entry.completedAt?.rawValue
    }

    init(_ wire: WireSubjectState) {
        self.subject = wire.subject
        self.values = wire.values
        self.keys = wire.keys.map { SubjectKeyName(rawValue: $0) }
        self.isHeld = wire.held
        self.erasedAt = wire.erased == 0 ? nil : wire.erased
        self.completedAt = wire.completed == 0 ? nil : wire.completed
    }

    var wire: WireSubjectState {
        var wire = WireSubjectState()
        wire.subject = self.subject
        wire.values = self.values
        wire.keys = self.keys.map(\.rawValue)
        wire.held = self.isHeld
        wire.erased = self.erasedAt ?? 0
        wire.completed = self.completedAt ?? 0
        return wire
    }
}
